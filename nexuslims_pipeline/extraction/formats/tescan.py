"""Images of Tescan microscopes: TIFF with its header inside, or any picture with a ``.hdr`` beside it.

The header has sections of ``Key=value`` lines, all numbers in SI units except angles, which are in degrees::

    [MAIN]
    Device=TESCAN AMBER X
    Magnification=160000.0
    PixelSizeX=0.0000000015625
    [SEM]                          [FIB] for images of the ion beam, [GAMA] of others
    HV=15000.0
    WD=0.005947501

In a TIFF it is in tag 50431, as blocks without gaps:

======  ======  ========================================================================
offset  type    content
======  ======  ========================================================================
0       uint32  n: bytes of the block after these four
4       uint16  kind: 0 end, 1 thumbnail (JPEG or JPEG 2000), 2 MAIN, 3 SEM, 4 GAMA, 5 FIB
6       n - 2   thumbnail, or lines of the section
======  ======  ========================================================================

A header beside the picture is named ``name.hdr`` or ``name-png.hdr``. The lowest ``ImageStripSize`` rows of the image
are those of the data bar; what several detectors saw at once stands side by side, ``ViewFieldsCountX`` pictures in a
row. Some versions write the time of the header in UTC, while the TIFF's own (tag 306) is the instrument's.
The blocks are described by Gwyddion (https://gwyddion.net, module ``tescan``).
"""

import re
import struct
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import ClassVar, Final, TypeAlias

from nexuslims_pipeline.extraction.facts import Facts, bounded, entry
from nexuslims_pipeline.extraction.layouts.raster import ImageFile, first_tags, read_image
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import (
    decode,
    describing,
    ini_sections,
    local_time,
    read_text,
)
from nexuslims_pipeline.signals import Signal, Source

Sections: TypeAlias = dict[str, dict[str, str]]

BLOCKS_TAG: Final = 50431
MAKE_TAG: Final = 271
DATE_TAG: Final = 306
TAG_LIMIT: Final = 8 << 20
"""Bytes of the tag that are read; a thumbnail has some 10 kB."""
BLOCKS: Final = {2: "MAIN", 3: "SEM", 4: "GAMA", 5: "FIB"}
END_BLOCK: Final = 0
BLOCK_HEAD: Final = struct.Struct("<IH")
HEADER: Final = re.compile(r"^\s*\[MAIN\]\s*$(?=(?s:.*?)^(?:Device=TESCAN|PixelSizeX=))", re.MULTILINE | re.IGNORECASE)
SAVING: Final = timedelta(hours=1)
"""Longest time between the end of a scan and the saving of its image."""

ENTRIES: Final = (
    entry("acceleration_voltage", "V", "beam.HV beam.AcceleratorVoltage", never_zero=True),
    entry("magnification", "", "MAIN.Magnification", never_zero=True),
    entry("working_distance", "m", "beam.WD", never_zero=True),
    entry("emission_current", "A", "beam.EmissionCurrent", never_zero=True),
    entry("beam_current", "A", "beam.BeamCurrent beam.PredictedBeamCurrent", never_zero=True),
    entry("dwell_time", "s", "beam.DwellTime", never_zero=True),
    entry("frames", "", "MAIN.AccFrames", never_zero=True),
    entry("pixel_width", "m", "MAIN.PixelSizeX", never_zero=True),
    entry("pixel_height", "m", "MAIN.PixelSizeY", never_zero=True),
    entry("scan_rotation", "deg", "beam.ScanRotation"),
    entry("tilt_correction", "deg", "beam.TiltCorrection", never_zero=True),
    entry("aperture_diameter", "m", "beam.ApertureDiameter", never_zero=True),
    entry("detector_type", None, "beam.Detector beam.Detector0"),
    entry("scan_mode", None, "beam.ScanMode"),
    entry("stage_x", "m", "beam.StageX SEM.StageX"),
    entry("stage_y", "m", "beam.StageY SEM.StageY"),
    entry("stage_z", "m", "beam.StageZ SEM.StageZ"),
    entry("stage_rotation", "deg", "beam.StageRotation SEM.StageRotation"),
    entry("stage_tilt", "deg", "beam.StageTilt SEM.StageTilt"),
    entry("chamber_pressure", "Pa", "beam.ChamberPressure SEM.ChamberPressure", never_zero=True),
    entry("microscope", None, "MAIN.Device"),
    entry("software", None, "MAIN.SoftwareVersion"),
    entry("operator", None, "MAIN.UserName"),
    entry("Spot Diameter", "m", "beam.SpotSize", never_zero=True),
    entry("Specimen Current", "A", "beam.SpecimenCurrent beam.AbsorbedCurrent", never_zero=True),
    entry("Scan Speed", "", "beam.ScanSpeed"),
    entry("Potential Mode", None, "beam.PotentialMode"),
    entry("Electron Source", None, "beam.Gun"),
    entry("Depth of Focus", "m", "beam.DepthOfFocus", never_zero=True),
    entry("Sample Voltage", "V", "beam.SampleVoltage", never_zero=True),
    entry("Tube Voltage", "V", "beam.TubeVoltage", never_zero=True),
    entry("Injected Gas", None, "beam.InjectedGas"),
    entry("Mains Sync", None, "beam.SyncMains"),
    entry("X", "", "beam.StigmatorX", "Stigmator"),
    entry("Y", "", "beam.StigmatorY", "Stigmator"),
    entry("X", "m", "beam.ImageShiftX", "Image Shift"),
    entry("Y", "m", "beam.ImageShiftY", "Image Shift"),
    entry("Gain", "", "beam.PrimaryDetectorGain beam.Detector0Gain", "Detector Settings"),
    entry("Offset", "", "beam.PrimaryDetectorOffset beam.Detector0Offset", "Detector Settings"),
    entry("Scintillator Voltage", "V", "beam.MTDScintillator", "Detector Settings", never_zero=True),
    entry("Grid Voltage", "V", "beam.MTDGrid", "Detector Settings", never_zero=True),
    entry("Accumulation", None, "MAIN.AccType"),
    entry("Description", None, "MAIN.Description"),
    entry("Note", None, "MAIN.Note"),
    entry("Sign", None, "MAIN.Sign"),
    entry("Company", None, "MAIN.Company"),
    entry("Model", None, "MAIN.DeviceModel"),
    entry("Serial Number", None, "MAIN.SerialNumber"),
    entry("Session", None, "beam.SessionID MAIN.SessionID"),
)
"""Places are ``Section.Key``; ``beam`` is the section of the beam that made the image."""


class Tescan(Extractor):
    """Images of Tescan scanning microscopes and dual beams, and their headers where those are alone."""

    name: ClassVar[str] = "tescan"
    format_name: ClassVar[str] = "Tescan"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".hdr"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:  # noqa: ARG002 - tags and companions say it
        """Whether it is a TIFF with the tag or of that make, or has a header beside it, or is one."""
        tags = first_tags(source.path)
        if BLOCKS_TAG in tags or tags.get(MAKE_TAG, b"").upper().startswith(b"TESCAN"):
            return True
        return describing(source, ".hdr", HEADER) is not None

    def extract(self, source: Source) -> list[Signal]:
        """Read the one image of the file, or the header alone as text.

        Raises
        ------
        ExtractionError
            If it holds no image.
        """
        facts = Facts()
        header = describing(source, ".hdr", HEADER)
        beside = read_text(header) if header else ""
        sections = _upper(ini_sections(beside))
        if header == source.path:
            signal = _signal(sections, None, source, facts)
            signal.dataset_type, signal.text = "Misc", beside
            return [facts.give_to(signal)]
        image = read_image(source.path, (BLOCKS_TAG, DATE_TAG), TAG_LIMIT)
        try:
            inside = read_blocks(image.tags.get(BLOCKS_TAG, b""))
        except ExtractionError as fault:
            inside = {}
            facts.warnings["Vendor Metadata"] = f"{fault}."
        for name, section in inside.items():
            sections[name] = {**sections.get(name, {}), **section}
        if not sections:
            facts.warnings.setdefault("Vendor Metadata", "The file has no header, nor is one beside it.")
        signal = _signal(sections, image, source, facts)
        _add_layout(sections.get("MAIN", {}), image, facts)
        return [image.give_to(signal, facts)]


def read_blocks(raw: bytes) -> Sections:
    """Sections of the TIFF's tag.

    Raises
    ------
    ExtractionError
        If no section can be read of a tag that has bytes.
    """
    sections: Sections = {}
    for kind, content in _blocks(raw):
        name = BLOCKS.get(kind)
        if name:
            found = ini_sections(decode(content)[0])
            sections[name] = {key: value for section in found.values() for key, value in section.items()}
    if raw and not sections:
        sections = _upper(ini_sections(decode(raw[max(0, raw.find(b"[MAIN]")) :])[0])) if b"[MAIN]" in raw else {}
    if raw and not sections:
        msg = "the microscope's header in it is damaged"
        raise ExtractionError(msg)
    return sections


def _blocks(raw: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while place + BLOCK_HEAD.size <= len(raw):
        size, kind = BLOCK_HEAD.unpack_from(raw, place)
        if kind == END_BLOCK or size < 2:
            return
        yield kind, raw[place + BLOCK_HEAD.size : place + 4 + size]
        place += 4 + size


def _upper(sections: Sections) -> Sections:
    return {name.upper(): section for name, section in sections.items()}


def _signal(sections: Sections, image: ImageFile | None, source: Source, facts: Facts) -> Signal:
    beam = _beam(sections)

    def find(place: str) -> str:
        section, _, key = place.partition(".")
        return sections.get(beam if section == "beam" else section, {}).get(key, "")

    facts.add_entries(ENTRIES, find)
    technique = "FIB_Imaging" if beam == "FIB" else "SEM_Imaging"
    acquired = _acquired(sections.get("MAIN", {}), image, source, facts)
    return Signal("Image", technique, acquired=acquired, native=bounded(sections))


def _beam(sections: Sections) -> str:
    """Section of the beam that made the image: the one that has its detectors."""
    for name in ("SEM", "FIB"):
        if any(key.startswith("Detector") for key in sections.get(name, {})):
            return name
    return "FIB" if "FIB" in sections and "SEM" not in sections else "SEM"


def _add_layout(main: Mapping[str, str], image: ImageFile, facts: Facts) -> None:
    """Rows of the data bar, and the field of one of several pictures side by side."""
    rows, columns = image.raster.shape[-2:]
    strip = _count(main, "ImageStripSize")
    if 0 < strip < rows:
        facts.add("Data Bar Rows", strip)
        rows -= strip
    across, down = _count(main, "ViewFieldsCountX"), _count(main, "ViewFieldsCountY")
    if across * down > 1:
        facts.add("Pictures Side by Side", f"{across} × {down}")
        for side, extent, pixels in (("width", "horizontal", columns / across), ("height", "vertical", rows / down)):
            if size := facts.fields.get(f"pixel_{side}"):
                facts.add_measured(f"{extent}_field_width", size.m_as("nm") * pixels / 1000, "µm")


def _count(main: Mapping[str, str], key: str) -> int:
    text = main.get(key, "").partition(".")[0]
    return int(text) if text.isdecimal() and len(text) < 7 else 0


def _acquired(main: Mapping[str, str], image: ImageFile | None, source: Source, facts: Facts) -> datetime | None:
    """Time of the header, unless the file was saved at another hour: the header is in UTC then."""
    date, time = main.get("Date", ""), main.get("Time", "")
    saved: datetime | None = None
    if image and (stamp := decode(image.tags.get(DATE_TAG, b""))[0].strip()):
        day, _, clock = stamp.partition(" ")
        try:
            saved = local_time(day.replace(":", "-"), clock)
        except ValueError as fault:
            facts.warnings["TIFF Date"] = str(fault)
    scanned = facts.clock_time(date, time, source.modified, saved)
    if scanned is None:
        return saved
    if saved is None:
        facts.warnings["Creation Time"] = "Some versions write UTC here, others the instrument's time."
        return scanned
    if abs(saved - scanned) <= SAVING:
        return scanned
    facts.add("Header Date", f"{date} {time}")
    return saved


EXTRACTOR = Tescan()
