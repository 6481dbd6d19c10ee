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
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Final, TypeAlias

from nexuslims_pipeline.extraction.facts import Facts, bounded, entry
from nexuslims_pipeline.extraction.layouts.raster import TIFF_MAGIC, first_tags, read_image
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import (
    decode,
    ini_sections,
    local_time,
    moment,
    number,
    parse_xml,
    xml_texts,
)
from nexuslims_pipeline.signals import DatasetType, Signal, Source

Sections: TypeAlias = dict[str, dict[str, str]]

SECTION_TAGS: Final = (34682, 34680)
XML_TAG: Final = 34683
PHENOM_ROOT: Final = b"<FeiImage"
"""Desktop microscopes write the same tag, with a root and values of their own."""
TEXT_LIMIT: Final = 1 << 20
"""Bytes of vendor text that are read; real ones have 3 to 40 kB."""
TAIL_BYTES: Final = 64 << 10
"""Where an appended text is looked for."""
MAGNIFICATION_DIGITS: Final = 4
"""The file rounds the field width to six digits, so that more digits of the magnification mean nothing."""
CONTROL_SOFTWARE: Final = "xT microscope control"
SHARED_ACCOUNT: Final = "The account that was logged in at the microscope; it is often shared."

ENTRIES: Final = (
    entry("acceleration_voltage", "V", "beam.HV Beam.HV"),
    entry("working_distance", "m", "beam.WD Stage.WorkingDistance"),
    entry("emission_current", "A", "beam.EmissionCurrent"),
    entry("beam_current", "A", "beam.BeamCurrent"),
    entry("dwell_time", "s", "scan.Dwell Scan.Dwelltime"),
    entry("frame_time", "s", "scan.FrameTime Scan.FrameTime"),
    entry("horizontal_field_width", "m", "scan.HorFieldsize beam.HFW Scan.HorFieldsize"),
    entry("vertical_field_width", "m", "scan.VerFieldsize beam.VFW Scan.VerFieldsize"),
    entry("pixel_width", "m", "scan.PixelWidth Scan.PixelWidth"),
    entry("pixel_height", "m", "scan.PixelHeight Scan.PixelHeight"),
    entry("scan_rotation", "rad", "beam.ScanRotation Beam.ScanRotation"),
    entry("stage_x", "m", "Stage.StageX beam.StageX"),
    entry("stage_y", "m", "Stage.StageY beam.StageY"),
    entry("stage_z", "m", "Stage.StageZ beam.StageZ"),
    entry("stage_rotation", "rad", "Stage.StageR beam.StageR"),
    entry("stage_tilt", "rad", "Stage.StageT beam.StageTa"),
    entry("stage_beta", "rad", "Stage.StageTb beam.StageTb"),
    entry("chamber_pressure", "Pa", "Vacuum.ChPressure"),
    entry("temperature", "K", "Specimen.Temperature"),
    entry("spot_size", "", "Beam.Spot beam.Spot"),
    entry("aperture_diameter", "m", "beam.ApertureDiameter"),
    entry("detector_type", None, "Detectors.Name"),
    entry("operator", None, "User.User"),
    entry("Detector Signal", None, "detector.Signal Detectors.Mode"),
    entry("Line Time", "s", "scan.LineTime"),
    entry("Eucentric Working Distance", "m", "beam.EucWD System.EucWD"),
    entry("Specimen Current", "A", "Specimen.SpecimenCurrent"),
    entry("Humidity", "percent", "Vacuum.Humidity"),
    entry("Vacuum Mode", None, "Vacuum.UserMode"),
    entry("Vacuum Gas", None, "Vacuum.Gas"),
    entry("Beam Name", None, "Beam.Beam"),
    entry("Beam Mode", None, "beam.BeamMode"),
    entry("Lens Mode", None, "beam.LensMode"),
    entry("Image Mode", None, "beam.ImageMode Beam.ImageMode"),
    entry("X", "", "beam.StigmatorX Beam.StigmatorX", "Stigmator"),
    entry("Y", "", "beam.StigmatorY Beam.StigmatorY", "Stigmator"),
    entry("X", "", "beam.BeamShiftX Beam.BeamShiftX", "Beam Shift"),
    entry("Y", "", "beam.BeamShiftY Beam.BeamShiftY", "Beam Shift"),
    entry("X", "", "beam.SourceTiltX", "Beam Tilt"),
    entry("Y", "", "beam.SourceTiltY", "Beam Tilt"),
    entry("Pre-Tilt", "", "beam.PreTilt"),
    entry("Tilt Correction On", None, "beam.TiltCorrectionIsOn"),
    entry("Dynamic Focus", None, "beam.DynamicFocusIsOn"),
    entry("Dynamic Working Distance", None, "beam.DynamicWDIsOn"),
    entry("Mains Lock", None, "scan.Mainslock"),
    entry("Internal Scan", None, "scan.InternalScan Scan.InternalScan"),
    entry("Line Integration", "", "scan.LineIntegration"),
    entry("Scan Interlacing", "", "scan.ScanInterlacing"),
    entry("Drift Correction", None, "Image.DriftCorrected"),
    entry("Post Processing", None, "Image.PostProcessing"),
    entry("Contrast", "", "Image.DigitalContrast", "Digital Image"),
    entry("Brightness", "", "Image.DigitalBrightness", "Digital Image"),
    entry("Gamma", "", "Image.DigitalGamma", "Digital Image"),
    entry("Zoom Factor", "", "Image.ZoomFactor", "Digital Image"),
    entry("Zoom Pan X", "", "Image.ZoomPanX", "Digital Image"),
    entry("Zoom Pan Y", "", "Image.ZoomPanY", "Digital Image"),
    entry("Contrast", "", "detector.Contrast", "Detector Settings"),
    entry("Brightness", "", "detector.Brightness", "Detector Settings"),
    entry("Contrast in dB", "", "detector.ContrastDB", "Detector Settings"),
    entry("Brightness in dB", "", "detector.BrightnessDB", "Detector Settings"),
    entry("Enhanced Contrast", "", "detector.EnhancedContrast", "Detector Settings"),
    entry("Grid Voltage", "V", "detector.Grid", "Detector Settings"),
    entry("Mix", "percent", "detector.Mix", "Detector Settings"),
    entry("Minimum Dwell Time", "s", "detector.MinimumDwellTime", "Detector Settings"),
    entry("On", None, "EBeamDeceleration.ModeOn", "Beam Deceleration"),
    entry("Stage Bias", "V", "EBeamDeceleration.StageBias", "Beam Deceleration"),
    entry("Type", None, "System.Type", "System"),
    entry("Serial Number", None, "System.Dnumber", "System"),
    entry("Build", None, "System.BuildNr", "System"),
    entry("Electron Source", None, "beam.Source System.Source", "System"),
    entry("Column", None, "beam.ColumnType System.Column", "System"),
    entry("Final Lens", None, "beam.FinalLens System.FinalLens", "System"),
    entry("Aperture", None, "beam.Aperture System.Aperture", "System"),
    entry("Chamber", None, "System.Chamber", "System"),
    entry("Stage", None, "System.Stage", "System"),
    entry("Vacuum Pump", None, "System.Pump", "System"),
    entry("ESEM", None, "System.ESEM", "System"),
)

XML_ENTRIES: Final = (
    entry("acceleration_voltage", "V", "Optics/AccelerationVoltage"),
    entry("beam_current", "A", "Optics/BeamCurrent"),
    entry("working_distance", "m", "Optics/WorkingDistance"),
    entry("emission_current", "A", "Acquisition/EmissionCurrent Optics/EmissionCurrent"),
    entry("dwell_time", "s", "ScanSettings/DwellTime"),
    entry("scan_rotation", "rad", "ScanSettings/ScanRotation"),
    entry("horizontal_field_width", "m", "Optics/ScanFieldOfView/X"),
    entry("vertical_field_width", "m", "Optics/ScanFieldOfView/Y"),
    entry("pixel_width", "m", "BinaryResult/PixelSize/X"),
    entry("pixel_height", "m", "BinaryResult/PixelSize/Y"),
    entry("stage_x", "m", "StageSettings/StagePosition/X"),
    entry("stage_y", "m", "StageSettings/StagePosition/Y"),
    entry("stage_z", "m", "StageSettings/StagePosition/Z"),
    entry("stage_rotation", "rad", "StageSettings/StagePosition/Rotation"),
    entry("stage_tilt", "rad", "StageSettings/StagePosition/Tilt/Alpha"),
    entry("stage_beta", "rad", "StageSettings/StagePosition/Tilt/Beta"),
    entry("chamber_pressure", "Pa", "VacuumProperties/SamplePressure VacuumProperties/ElectronChamberPressure"),
    entry("aperture_diameter", "m", "Optics/Apertures/Aperture/Diameter"),
    entry("frame_time", "s", "ScanSettings/FrameTime"),
    entry("frames", "", "BinaryResult/FilterFrameCount"),
    entry("detector_type", None, "Detectors/ScanningDetector/DetectorName BinaryResult/Detector"),
    entry("operator", None, "Core/UserID"),
    entry("computer", None, "Instrument/ComputerName"),
    entry("Spot Diameter", "m", "Optics/SpotSize"),
    entry("Detector Signal", None, "Detectors/ScanningDetector/Signal"),
    entry("Line Time", "s", "ScanSettings/LineTime"),
    entry("Line Integration", "", "ScanSettings/LineIntegrationCount"),
    entry("Scan Interlacing", "", "ScanSettings/LineInterlacing"),
    entry("Mains Lock", None, "ScanSettings/MainsLockOn"),
    entry("Eucentric Working Distance", "m", "Optics/EucentricWorkingDistance"),
    entry("Lens Mode", None, "Optics/OpticalMode"),
    entry("Tilt Correction On", None, "Optics/SampleTiltCorrectionOn"),
    entry("Frame Processing", None, "BinaryResult/FilterType"),
    entry("Grid Voltage", "V", "Detectors/ScanningDetector/GridVoltage", "Detector Settings"),
    entry("Serial Number", None, "Instrument/InstrumentID", "System"),
    entry("Electron Source", None, "Acquisition/SourceType", "System"),
    entry("Column", None, "Acquisition/ColumnType", "System"),
)
"""Places are paths below the root ``<Metadata>``."""

LABELS: Final = {
    "High tension": "acceleration_voltage",
    "Extraction voltage": "extraction_voltage",
    "Emission": "emission_current",
    "Spot size": "spot_size",
    "Camera length": "camera_length",
    "Magnification": "magnification",
    "Stage X": "stage_x",
    "Stage Y": "stage_y",
    "Stage Z": "stage_z",
    "Stage A": "stage_alpha",
    "Stage B": "stage_beta",
    "Exposure time": "exposure_time",
    "Binning": "binning",
    "User": "operator",
    "Microscope": "microscope",
}
"""Labels of TIA's XML that are named fields; ``Mode`` is taken apart."""
PURE_NUMBERS: Final = frozenset({"magnification", "spot_size"})
MODE: Final = re.compile(r"\s*(S?TEM(?:\s+\w+P)?)\s*(.*)")
"""``TEM uP SA Zoom Diffraction``: probe and projector."""


class FeiTiff(Extractor):
    """Images of Thermo Fisher / FEI scanning microscopes and dual beams, and those that TIA exported."""

    name: ClassVar[str] = "fei_tiff"
    format_name: ClassVar[str] = "FEI TIFF"
    version: ClassVar[str] = "2"
    extensions: ClassVar[frozenset[str]] = frozenset({".tif", ".tiff"})

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether it is a TIFF with one of the tags or with their text at its end."""
        if not head.startswith(TIFF_MAGIC):
            return False
        tags = first_tags(source.path)
        if PHENOM_ROOT in tags.get(XML_TAG, b""):
            return False
        return any(code in tags for code in (*SECTION_TAGS, XML_TAG)) or bool(_appended(source.path))

    def extract(self, source: Source) -> list[Signal]:
        """Read the one image of the file (or its one stack)."""
        image = read_image(source.path, (*SECTION_TAGS, XML_TAG), TEXT_LIMIT + 1)
        raw = next((image.tags[code] for code in SECTION_TAGS if code in image.tags), b"").strip(b"\0 \r\n\t")
        xml = image.tags.get(XML_TAG, b"")
        raw = raw or (b"" if xml else _appended(source.path))
        facts = Facts()
        if len(raw) > TEXT_LIMIT or len(xml) > TEXT_LIMIT:
            facts.warnings["Vendor Metadata"] = f"Only the first {TEXT_LIMIT} bytes were read."
        if raw.startswith(b"<"):
            signal = _of_labels(raw, facts)
        else:
            raw, cut, rest = raw.partition(b"<?xml")
            signal = _of_sections(parse_sections(raw), xml or cut + rest, facts, source)
        if "operator" in facts.fields:
            facts.warnings["operator"] = SHARED_ACCOUNT
        rows = image.raster.shape[-2]
        facts.add("Data Bar Rows", rows - _picture_rows(signal.native, rows) or None)
        return [image.give_to(signal, facts)]


def parse_sections(raw: bytes) -> Sections:
    """``[Section]`` and ``Key=value`` lines of any bytes, as `ini_sections` gives them.

    The sections ``[MultiGISGas<m>]`` that follow each ``[MultiGISUnit<n>]`` become ``MultiGISUnit<n>.MultiGISGas<m>``.
    """
    unit = ""

    def full_name(name: str) -> str:
        nonlocal unit
        unit = name if name.startswith("MultiGISUnit") else unit
        return f"{unit}.{name}" if unit and name.startswith("MultiGISGas") else name

    return ini_sections(decode(raw[:TEXT_LIMIT])[0], full_name)


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


def _of_sections(sections: Sections, xml: bytes, facts: Facts, source: Source) -> Signal:
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
    facts.add_entries(ENTRIES, find)
    _add_frames(sections.get("Image", {}), facts)
    facts.add_entries(XML_ENTRIES, lambda place: xml_values.get(place, ""))
    _add_instrument(find, xml_values, facts)
    _add_switched(find, xml_values, facts)
    _add_magnification(sections, facts)
    facts.add("User Text", _user_text(sections.get("User", {})))
    acquired = _acquired(sections, xml_values, facts, source)
    return Signal("Image", _technique(sections, xml_values), acquired=acquired, native=native)


def _add_frames(image: Mapping[str, str], facts: Facts) -> None:
    """Frames of which the image is made; the file says 0 or 1 for the way that was not taken."""
    for key, words in (("Integrate", "integrated"), ("Average", "averaged")):
        count = image.get(key, "")
        if count.isdecimal() and 0 < len(count) <= 6 and int(count) > facts.fields.get("frames", 0):
            facts.add("frames", int(count))
            facts.add("Frame Processing", words if int(count) > 1 else None)


def _add_instrument(find: Callable[[str], str], xml_values: Mapping[str, str], facts: Facts) -> None:
    """Model and software; a quotation mark in the model stands for a trade mark sign that its code page lacks."""
    model = xml_values.get("Instrument/InstrumentClass", "") or find("System.SystemType")
    facts.add("microscope", " ".join(model.replace('"', "").split()))
    version = find("System.Software") or xml_values.get("Instrument/ControlSoftwareVersion", "")
    facts.add("software", f"{CONTROL_SOFTWARE} {version}" if version else "")


def _add_switched(find: Callable[[str], str], xml_values: Mapping[str, str], facts: Facts) -> None:
    """What the file tells always and what is true only while its switch is on."""
    if facts.extensions.get("Tilt Correction On") is True:
        angle = find("beam.TiltCorrectionAngle") or xml_values.get("Optics/SamplePreTiltAngle", "")
        facts.add_written("tilt_correction", angle, "rad")
    if find("EBeamDeceleration.ModeOn").lower() == "on":
        facts.add_written("landing_energy", find("EBeamDeceleration.LandingEnergy"), "eV")


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


def _acquired(sections: Sections, xml_values: Mapping[str, str], facts: Facts, source: Source) -> datetime | None:
    user = sections.get("User", {})
    date, time = user.get("Date", ""), user.get("Time", "")
    created = _created(sections)
    iso = xml_values.get("Acquisition/AcquisitionDatetime", "")
    acquired = facts.clock_time(date, time, source.modified, created) if date else _iso_time(iso, facts)
    if "Creation Time" in facts.warnings:
        facts.add("Acquisition Date", (f"{date} {time}" if date else iso)[:80])
    return acquired or created


def _iso_time(text: str, facts: Facts) -> datetime | None:
    try:
        return moment(text) if text else None
    except ValueError as fault:
        facts.warnings["Creation Time"] = f"The file says {fault}."
        return None


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
    try:
        root = parse_xml(raw[: raw.rfind(b">") + 1])
    except ExtractionError as fault:
        facts.warnings["Vendor Metadata"] = f"It was not read: {fault}"
        return Signal("Image", "Unknown")
    for label, value, unit in _triples(root):
        text = values[label] = f"{value} {unit}".strip()
        name = LABELS.get(label, label)
        if label == "Mode":
            continue
        is_number = bool(unit) or name in PURE_NUMBERS or _is_number(value)
        facts.add_written(name, text, "" if is_number and name != "binning" else None)
    if "microscope" in facts.fields:
        facts.fields["microscope"] = facts.fields["microscope"].removeprefix("Microscope ")
    mode = values.get("Mode", "")
    if parts := MODE.fullmatch(mode):
        facts.add("illumination_mode", parts[1])
        facts.add("projection_mode", parts[2])
    else:
        facts.add("illumination_mode", mode)
    kind: tuple[DatasetType, str] = ("Image", "TEM_Imaging")
    if "STEM" in mode:
        kind = ("Image", "STEM_Imaging")
    elif "Diffraction" in mode:
        kind = ("Diffraction", "TEM_Diffraction")
    return Signal(*kind, native={"Root": bounded(values)})


def _is_number(text: str) -> bool:
    try:
        number(text)
    except ValueError:
        return False
    return True


def _triples(root: Any) -> Iterator[tuple[str, str, str]]:
    for data in root.iter("Data"):
        label, value, unit = ((data.findtext(key) or "").strip() for key in ("Label", "Value", "Unit"))
        if label:
            yield label, value, unit


def _picture_rows(native: Mapping[str, Any], rows: int) -> int:
    text = str(native.get("Image", {}).get("ResolutionY", ""))
    return min(int(text), rows) if re.fullmatch(r"[1-9]\d{0,6}", text) else rows


EXTRACTOR = FeiTiff()
