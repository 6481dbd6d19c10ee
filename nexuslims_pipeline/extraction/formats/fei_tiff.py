"""TIFF images of Thermo Fisher / FEI microscopes.

=====  ===========================================================================================
tag    content
=====  ===========================================================================================
34680  FEI_SFEG: the sections below (old Sirion and Strata instruments)
34682  FEI_HELIOS: ``[Section]`` and ``Key=value`` lines (SEM, dual beam), or the XML of TIA:
       ``<Root><Data><Label>…</Label><Value>…</Value><Unit>…</Unit></Data>…``
34683  XML ``<Metadata>`` of newer dual beams, beside 34682
=====  ===========================================================================================

Some versions append the same text to the file instead. All numbers of the sections are in SI units and
radians: metres for the stage, pascal for the chamber whatever the vacuum mode (with ``ChPressure=79.8238``
the data bar reads 5.99e-1 Torr). Sections are named by others: ``[Beam] Beam=EBeam`` means the section
``[EBeam]``, likewise ``[Beam] Scan`` and ``[Detectors] Name``. The image has the rows of the picture
(``[Image] ResolutionY``) and below them those of the data bar; field widths and pixel sizes are those of the
picture.
The numbers of the tags are in https://github.com/cgohlke/tifffile.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Final, TypeAlias

from nexuslims_pipeline.extraction.facts import Facts, bounded
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.raster import (
    TIFF_MAGIC,
    open_tiff,
    tag_bytes,
    tiff_page,
    tiff_raster,
    unread_tags,
)
from nexuslims_pipeline.extraction.vendor_text import decode, local_time, number, parse_xml, xml_texts
from nexuslims_pipeline.metadata.units import tidy
from nexuslims_pipeline.signals import DatasetType, Signal, Source

Sections: TypeAlias = dict[str, dict[str, str]]

SECTION_TAGS: Final = (34682, 34680)
XML_TAG: Final = 34683
TEXT_LIMIT: Final = 1 << 20
"""Bytes of vendor text that are read; real ones have 3 to 40 kB."""
LABEL_LIMIT: Final = 4000
"""Characters after which a text of several lines is cut."""
TAIL_BYTES: Final = 64 << 10
"""Where an appended text is looked for."""
SWITCHES: Final = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}
MAGNIFICATION_DIGITS: Final = 4
"""The file rounds the field width to six digits, so that more digits of the magnification mean nothing."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One value of the sections: its name here and the places where to look for it, best first.

    A place is ``Role.Key``; the roles beam, scan and detector stand for the sections named by others.
    """

    name: str
    unit: str | None
    """As pint spells it; empty for a plain number, None for text."""
    places: tuple[str, ...]
    group: str | None = None


def _entry(name: str, unit: str | None, places: str, group: str | None = None) -> Entry:
    return Entry(name, unit, tuple(places.split()), group)


ENTRIES: Final = (
    _entry("acceleration_voltage", "V", "beam.HV Beam.HV"),
    _entry("working_distance", "m", "beam.WD Stage.WorkingDistance"),
    _entry("emission_current", "A", "beam.EmissionCurrent"),
    _entry("beam_current", "A", "beam.BeamCurrent"),
    _entry("dwell_time", "s", "scan.Dwell Scan.Dwelltime"),
    _entry("frame_time", "s", "scan.FrameTime Scan.FrameTime"),
    _entry("horizontal_field_width", "m", "scan.HorFieldsize beam.HFW Scan.HorFieldsize"),
    _entry("vertical_field_width", "m", "scan.VerFieldsize beam.VFW Scan.VerFieldsize"),
    _entry("pixel_width", "m", "scan.PixelWidth Scan.PixelWidth"),
    _entry("pixel_height", "m", "scan.PixelHeight Scan.PixelHeight"),
    _entry("scan_rotation", "rad", "beam.ScanRotation Beam.ScanRotation"),
    _entry("stage_x", "m", "Stage.StageX beam.StageX"),
    _entry("stage_y", "m", "Stage.StageY beam.StageY"),
    _entry("stage_z", "m", "Stage.StageZ beam.StageZ"),
    _entry("stage_rotation", "rad", "Stage.StageR beam.StageR"),
    _entry("stage_tilt", "rad", "Stage.StageT beam.StageTa"),
    _entry("stage_beta", "rad", "Stage.StageTb beam.StageTb"),
    _entry("chamber_pressure", "Pa", "Vacuum.ChPressure"),
    _entry("temperature", "K", "Specimen.Temperature"),
    _entry("detector_type", None, "Detectors.Name"),
    _entry("operator", None, "User.User"),
    _entry("Detector Signal", None, "detector.Signal Detectors.Mode"),
    _entry("Line Time", "s", "scan.LineTime"),
    _entry("Eucentric Working Distance", "m", "beam.EucWD System.EucWD"),
    _entry("Aperture Diameter", "m", "beam.ApertureDiameter"),
    _entry("Tilt Correction Angle", "rad", "beam.TiltCorrectionAngle"),
    _entry("Specimen Current", "A", "Specimen.SpecimenCurrent"),
    _entry("Humidity", "percent", "Vacuum.Humidity"),
    _entry("Vacuum Mode", None, "Vacuum.UserMode"),
    _entry("Vacuum Gas", None, "Vacuum.Gas"),
    _entry("Beam Name", None, "Beam.Beam"),
    _entry("Beam Mode", None, "beam.BeamMode"),
    _entry("Lens Mode", None, "beam.LensMode"),
    _entry("Image Mode", None, "beam.ImageMode Beam.ImageMode"),
    _entry("Spot Size", "", "Beam.Spot beam.Spot"),
    _entry("X", "", "beam.StigmatorX Beam.StigmatorX", "Stigmator"),
    _entry("Y", "", "beam.StigmatorY Beam.StigmatorY", "Stigmator"),
    _entry("X", "", "beam.BeamShiftX Beam.BeamShiftX", "Beam Shift"),
    _entry("Y", "", "beam.BeamShiftY Beam.BeamShiftY", "Beam Shift"),
    _entry("X", "", "beam.SourceTiltX", "Beam Tilt"),
    _entry("Y", "", "beam.SourceTiltY", "Beam Tilt"),
    _entry("Pre-Tilt", "", "beam.PreTilt"),
    _entry("Tilt Correction", None, "beam.TiltCorrectionIsOn"),
    _entry("Dynamic Focus", None, "beam.DynamicFocusIsOn"),
    _entry("Dynamic Working Distance", None, "beam.DynamicWDIsOn"),
    _entry("Mains Lock", None, "scan.Mainslock"),
    _entry("Internal Scan", None, "scan.InternalScan Scan.InternalScan"),
    _entry("Line Integration", "", "scan.LineIntegration"),
    _entry("Scan Interlacing", "", "scan.ScanInterlacing"),
    _entry("Frames Integrated", "", "Image.Integrate"),
    _entry("Frames Averaged", "", "Image.Average"),
    _entry("Drift Correction", None, "Image.DriftCorrected"),
    _entry("Post Processing", None, "Image.PostProcessing"),
    _entry("Contrast", "", "Image.DigitalContrast", "Digital Image"),
    _entry("Brightness", "", "Image.DigitalBrightness", "Digital Image"),
    _entry("Gamma", "", "Image.DigitalGamma", "Digital Image"),
    _entry("Zoom Factor", "", "Image.ZoomFactor", "Digital Image"),
    _entry("Zoom Pan X", "", "Image.ZoomPanX", "Digital Image"),
    _entry("Zoom Pan Y", "", "Image.ZoomPanY", "Digital Image"),
    _entry("Contrast", "", "detector.Contrast", "Detector Settings"),
    _entry("Brightness", "", "detector.Brightness", "Detector Settings"),
    _entry("Contrast in dB", "", "detector.ContrastDB", "Detector Settings"),
    _entry("Brightness in dB", "", "detector.BrightnessDB", "Detector Settings"),
    _entry("Enhanced Contrast", "", "detector.EnhancedContrast", "Detector Settings"),
    _entry("Grid Voltage", "V", "detector.Grid", "Detector Settings"),
    _entry("Mix", "percent", "detector.Mix", "Detector Settings"),
    _entry("Minimum Dwell Time", "s", "detector.MinimumDwellTime", "Detector Settings"),
    _entry("On", None, "EBeamDeceleration.ModeOn", "Beam Deceleration"),
    _entry("Landing Energy", "eV", "EBeamDeceleration.LandingEnergy", "Beam Deceleration"),
    _entry("Stage Bias", "V", "EBeamDeceleration.StageBias", "Beam Deceleration"),
    _entry("Type", None, "System.SystemType System.Type", "System"),
    _entry("Serial Number", None, "System.Dnumber", "System"),
    _entry("Software Version", None, "System.Software", "System"),
    _entry("Build", None, "System.BuildNr", "System"),
    _entry("Electron Source", None, "beam.Source System.Source", "System"),
    _entry("Column", None, "beam.ColumnType System.Column", "System"),
    _entry("Final Lens", None, "beam.FinalLens System.FinalLens", "System"),
    _entry("Aperture", None, "beam.Aperture System.Aperture", "System"),
    _entry("Chamber", None, "System.Chamber", "System"),
    _entry("Stage", None, "System.Stage", "System"),
    _entry("Vacuum Pump", None, "System.Pump", "System"),
    _entry("ESEM", None, "System.ESEM", "System"),
)

XML_ENTRIES: Final = (
    _entry("acceleration_voltage", "V", "Optics/AccelerationVoltage"),
    _entry("beam_current", "A", "Optics/BeamCurrent"),
    _entry("working_distance", "m", "Optics/WorkingDistance"),
    _entry("emission_current", "A", "Acquisition/EmissionCurrent Optics/EmissionCurrent"),
    _entry("dwell_time", "s", "ScanSettings/DwellTime"),
    _entry("scan_rotation", "rad", "ScanSettings/ScanRotation"),
    _entry("horizontal_field_width", "m", "Optics/ScanFieldOfView/X"),
    _entry("vertical_field_width", "m", "Optics/ScanFieldOfView/Y"),
    _entry("pixel_width", "m", "BinaryResult/PixelSize/X"),
    _entry("pixel_height", "m", "BinaryResult/PixelSize/Y"),
    _entry("stage_x", "m", "StageSettings/StagePosition/X"),
    _entry("stage_y", "m", "StageSettings/StagePosition/Y"),
    _entry("stage_z", "m", "StageSettings/StagePosition/Z"),
    _entry("stage_rotation", "rad", "StageSettings/StagePosition/Rotation"),
    _entry("stage_tilt", "rad", "StageSettings/StagePosition/Tilt/Alpha"),
    _entry("stage_beta", "rad", "StageSettings/StagePosition/Tilt/Beta"),
    _entry("chamber_pressure", "Pa", "VacuumProperties/ElectronChamberPressure"),
    _entry("detector_type", None, "Detectors/ScanningDetector/DetectorName BinaryResult/Detector"),
    _entry("operator", None, "Core/UserID"),
    _entry("Type", None, "Instrument/InstrumentClass", "System"),
    _entry("Serial Number", None, "Instrument/InstrumentID", "System"),
    _entry("Software Version", None, "Instrument/ControlSoftwareVersion", "System"),
)
"""Places are paths below the root ``<Metadata>``."""

LABELS: Final = {
    "High tension": "acceleration_voltage",
    "Emission": "emission_current",
    "Camera length": "camera_length",
    "Magnification": "magnification",
    "Stage X": "stage_x",
    "Stage Y": "stage_y",
    "Stage Z": "stage_z",
    "Stage A": "stage_alpha",
    "Stage B": "stage_beta",
    "User": "operator",
    "Mode": "illumination_mode",
}
"""Labels of TIA's XML that are named fields."""
LABEL_UNITS: Final = {
    "kV": "kV", "V": "V", "eV": "eV", "keV": "keV", "A": "A", "mA": "mA", "uA": "µA", "µA": "µA", "nA": "nA",
    "pA": "pA", "m": "m", "mm": "mm", "um": "µm", "µm": "µm", "nm": "nm", "deg": "deg", "rad": "rad",
    "mrad": "mrad", "%": "percent", "s": "s", "ms": "ms", "K": "K",
}  # fmt: skip


class FeiTiff(Extractor):
    """Images of Thermo Fisher / FEI scanning microscopes and dual beams, and those that TIA exported."""

    name: ClassVar[str] = "fei_tiff"
    format_name: ClassVar[str] = "FEI TIFF"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".tif", ".tiff"})

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether it is a TIFF with one of the tags or with their text at its end."""
        if not head.startswith(TIFF_MAGIC):
            return False
        try:
            with open_tiff(source.path) as tiff:
                tags = tiff_page(tiff).tags
                if any(code in tags for code in (*SECTION_TAGS, XML_TAG)):
                    return True
        except ExtractionError:
            return False
        return bool(_appended(source.path))

    def extract(self, source: Source) -> list[Signal]:
        """Read the one image of the file (or its one stack)."""
        with open_tiff(source.path) as tiff:
            raster, lost = tiff_raster(tiff, source.path), unread_tags(tiff)
            raw = next(filter(None, (tag_bytes(tiff, code, TEXT_LIMIT + 1) for code in SECTION_TAGS)), b"")
            xml = tag_bytes(tiff, XML_TAG, TEXT_LIMIT + 1)
        raw = raw.strip(b"\0 \r\n\t") or (b"" if xml else _appended(source.path))
        facts = Facts()
        if len(raw) > TEXT_LIMIT or len(xml) > TEXT_LIMIT:
            facts.warnings["Vendor Metadata"] = f"Only the first {TEXT_LIMIT} bytes were read."
        if raw.startswith(b"<"):
            signal = _of_labels(raw, facts)
        else:
            raw, cut, rest = raw.partition(b"<?xml")
            signal = _of_sections(parse_sections(raw), xml or cut + rest, facts)
        facts.warnings |= {name: text for name, text in (("Pixels", raster.problem), ("TIFF Tags", lost)) if text}
        facts.add("Data Bar Rows", raster.shape[-2] - _picture_rows(signal.native, raster.shape[-2]) or None)
        signal.shape = raster.shape
        signal = facts.give_to(signal)
        width, height = (_nanometres(signal.fields.get(f"pixel_{side}")) for side in ("width", "height"))
        signal.pixels = raster.pixels(width, height, "nm")
        return [signal]


def parse_sections(raw: bytes) -> Sections:
    """``[Section]`` and ``Key=value`` lines of any bytes; keys before the first section belong to section "".

    A line without ``=`` continues the value above it: labels that users write may have several lines. The
    sections ``[MultiGISGas<m>]`` that follow each ``[MultiGISUnit<n>]`` become
    ``MultiGISUnit<n>.MultiGISGas<m>``; a section that comes twice is numbered.
    """
    text, _ = decode(raw[:TEXT_LIMIT])
    sections: Sections = {}
    times: dict[str, int] = {}
    current: dict[str, str] = {}
    unit = key = ""
    for line in map(str.strip, text.split("\n")):
        if line.startswith("[") and line.endswith("]"):
            name = line[1:-1].strip()
            unit = name if name.startswith("MultiGISUnit") else unit
            name = f"{unit}.{name}" if unit and name.startswith("MultiGISGas") else name
            times[name] = times.get(name, 0) + 1
            current, key = {}, ""
            sections[name if times[name] == 1 else f"{name} ({times[name]})"] = current
        elif "=" in line:
            if not sections:
                sections[""] = current
            key, _, value = map(str.strip, line.partition("="))
            current[key] = value
        elif line and key and len(current[key]) < LABEL_LIMIT:
            current[key] += "\n" + line
    return sections


def _appended(path: Path) -> bytes:
    """Vendor text at the end of the file; empty when there is none."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        tail = file.read(TAIL_BYTES)
    for mark, proof in ((b"[User]", b"[Beam]"), (b"<Root>", b"<Label>")):
        start = tail.rfind(mark)
        if start >= 0 and tail.find(proof, start) >= 0:
            return tail[start:].strip(b"\0 \r\n\t")
    return b""


def _of_sections(sections: Sections, xml: bytes, facts: Facts) -> Signal:
    """Signal of an SEM or dual beam image."""
    roles = {
        "beam": sections.get("Beam", {}).get("Beam", ""),
        "scan": sections.get("Beam", {}).get("Scan", ""),
        "detector": sections.get("Detectors", {}).get("Name", ""),
    }

    def find(place: str) -> str:
        section, _, key = place.partition(".")
        return sections.get(roles.get(section, section), {}).get(key, "")

    native: dict[str, Any] = bounded(sections)
    xml_values: dict[str, str] = {}
    if xml:
        try:
            xml_values = xml_texts(parse_xml(xml.strip(b"\0 \r\n\t")))
            native["FEI_XML_Metadata"] = bounded(xml_values)
        except ExtractionError as fault:
            facts.warnings["Vendor Metadata"] = f"One of the two metadata blocks was not read: {fault}"
    _add_all(ENTRIES, find, facts)
    _add_all(XML_ENTRIES, lambda place: xml_values.get(place, ""), facts)
    _add_magnification(sections, facts)
    facts.add("User Text", _user_text(sections.get("User", {})))
    if "operator" in facts.fields:
        facts.warnings["operator"] = "The account that was logged in at the microscope; it is often shared."
    acquired = _acquired(sections, xml_values, facts)
    return Signal("Image", _technique(sections, xml_values), acquired=acquired, native=native)


def _add_all(entries: tuple[Entry, ...], find: Callable[[str], str], facts: Facts) -> None:
    """Look every entry up, unless it was found before."""
    for entry in entries:
        known = facts.extensions.get(entry.group, {}) if entry.group else {**facts.fields, **facts.extensions}
        text = next(filter(None, map(find, entry.places)), "")
        if entry.name not in known and text:
            _add(entry, text, facts)


def _add(entry: Entry, text: str, facts: Facts) -> None:
    if entry.unit is None:
        facts.add(entry.name, SWITCHES.get(text.lower(), text), group=entry.group)
        return
    try:
        value = number(text)
    except ValueError as fault:
        facts.warnings[f"{entry.group}: {entry.name}" if entry.group else entry.name] = str(fault)
        return
    if entry.unit:
        facts.add(entry.name, value, entry.unit, entry.group)
    else:
        facts.add(entry.name, int(value) if value.is_integer() else value, group=entry.group)


def _add_magnification(sections: Sections, facts: Facts) -> None:
    """Magnification as the data bar shows it: width of the "canvas" the user chose over the field width."""
    width = facts.fields.get("horizontal_field_width")
    try:
        canvas = number(sections.get("Image", {}).get("MagCanvasRealWidth", ""))
    except ValueError:
        return
    if width is not None and width.m_as("m") > 0 and canvas > 0:
        magnification = canvas / width.m_as("m")
        facts.add("magnification", float(f"{magnification:.{MAGNIFICATION_DIGITS}g}"))
        facts.add("Magnification Canvas Width", canvas, "m")


def _technique(sections: Sections, xml_values: Mapping[str, str]) -> str:
    beam = sections.get("Beam", {}).get("Beam", "") or xml_values.get("Acquisition/BeamType", "")
    if sections.get("Detectors", {}).get("Name") == "Nav-Cam" or beam == "IRBeam":
        return "Optical_Imaging"
    return "FIB_Imaging" if beam.startswith(("IBeam", "Ion")) else "SEM_Imaging"


def _acquired(sections: Sections, xml_values: Mapping[str, str], facts: Facts) -> datetime | None:
    user = sections.get("User", {})
    date, time = user.get("Date", ""), user.get("Time", "")
    created = _created(sections)
    if date:
        try:
            return local_time(date, time, like=created)
        except ValueError as fault:
            facts.add("Acquisition Date", f"{date} {time}")
            facts.warnings["Acquisition Date"] = f"The file says {fault}."
            return created
    iso = xml_values.get("Acquisition/AcquisitionDatetime", "")
    try:
        return datetime.fromisoformat(iso) if iso else created
    except ValueError:
        facts.warnings["Acquisition Date"] = f"The file says {iso[:80]!r}, which is no date and time."
        return created


def _created(sections: Sections) -> datetime | None:
    """``[PrivateFei] TimeOfCreation``, always day first; None when it is missing or odd."""
    date, _, time = sections.get("PrivateFei", {}).get("TimeOfCreation", "").partition(" ")
    try:
        return local_time(date, time)
    except ValueError:
        return None


def _user_text(user: Mapping[str, str]) -> str:
    """Label that the user wrote: ``UserTextUnicode`` is UTF-16 in hexadecimal, in either byte order.

    The right order is the one that agrees with ``UserText``, which has a question mark for what its code page
    lacks.
    """
    plain = user.get("UserText", "")
    try:
        raw = bytes.fromhex(user.get("UserTextUnicode", ""))
    except ValueError:
        return plain
    for encoding in ("utf-16-le", "utf-16-be"):
        text = raw.decode(encoding, "replace").rstrip("\0").strip()
        if len(text) == len(plain) and all(a in (b, "?") for a, b in zip(plain, text, strict=True)):
            return text
    return plain


def _of_labels(raw: bytes, facts: Facts) -> Signal:
    """Signal of an image that TIA exported."""
    values: dict[str, str] = {}
    for label, value, unit in _triples(parse_xml(raw[: raw.rfind(b">") + 1])):
        values[label] = f"{value} {unit}".strip()
        name = LABELS.get(label, label)
        magnitude: float | None
        try:
            magnitude = number(value)
        except ValueError as fault:
            magnitude = None
            if unit and value:
                facts.warnings[name] = str(fault)
                continue
        if magnitude is not None and unit in LABEL_UNITS:
            facts.add(name, magnitude, LABEL_UNITS[unit])
        elif magnitude is not None and (not unit or (name == "magnification" and unit.lower() in {"x", "kx"})):
            facts.add(name, magnitude * (1000 if unit.lower() == "kx" else 1))
        else:
            facts.add(name, f"{value} {unit}".strip())
    if "operator" in facts.fields:
        facts.warnings["operator"] = "The account that was logged in at the microscope; it is often shared."
    kind: tuple[DatasetType, str] = ("Image", "TEM_Imaging")
    mode = values.get("Mode", "")
    if "STEM" in mode:
        kind = ("Image", "STEM_Imaging")
    elif "Diffraction" in mode:
        kind = ("Diffraction", "TEM_Diffraction")
    return Signal(*kind, native={"Root": bounded(values)})


def _triples(root: Any) -> Iterator[tuple[str, str, str]]:
    for data in root.iter("Data"):
        label, value, unit = ((data.findtext(key) or "").strip() for key in ("Label", "Value", "Unit"))
        if label:
            yield label, value, unit


def _picture_rows(native: Mapping[str, Any], rows: int) -> int:
    text = str(native.get("Image", {}).get("ResolutionY", ""))
    return min(int(text), rows) if re.fullmatch(r"[1-9]\d{0,6}", text) else rows


def _nanometres(length: Any) -> float:
    return tidy(float(length.m_as("nm"))) if length is not None else 0.0


EXTRACTOR = FeiTiff()
