"""TIFF images of JEOL transmission microscopes, written by SightX ("TEM Reporter").

The image description (tag 270) is XML, ``<TemReporter>``; make (271) is ``JEOL Ltd.``. Its units, which it does not
name itself, agree with the other values of a file:

===================================  =============================================================================
element                              unit
===================================  =============================================================================
ElectronGun/AccelerationVoltage      V
ElectronGun/EmissionCurrent          µA; BeamCurrent is the sum of it and DarkCurrent, the load of the high tension
GonioStage/StagePosition/MX MY MZ    nm (its limits are in µm); TX TY: degrees
ImageFormingSystem/SelectorValue     magnification, or camera length in SelectorUnitString
…/PixelsPerMeter                     pixels per metre of screen or camera: a measured line proves it
===================================  =============================================================================
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded, entry
from nexuslims_pipeline.extraction.layouts.raster import tag_bytes, tiff_raster
from nexuslims_pipeline.extraction.layouts.tiff import (
    DATE_TIME,
    DESCRIPTION,
    TiffExtractor,
    date_of,
    picture,
    pixels_per_metre,
)
from nexuslims_pipeline.extraction.model import ExtractionError
from nexuslims_pipeline.extraction.vendor_text import number, parse_xml, xml_texts
from nexuslims_pipeline.signals import Annotation, DatasetType, Signal, Source

XML_LIMIT: Final = 4 << 20
MOST_MARKS: Final = 200
ENTRIES: Final = (
    entry("acceleration_voltage", "V", "ElectronGun/AccelerationVoltage", never_zero=True),
    entry("emission_current", "µA", "ElectronGun/EmissionCurrent"),
    entry("Dark Current", "µA", "ElectronGun/DarkCurrent"),
    entry("High Tension Load Current", "µA", "ElectronGun/BeamCurrent"),
    entry("stage_x", "nm", "GonioStage/StagePosition/MX"),
    entry("stage_y", "nm", "GonioStage/StagePosition/MY"),
    entry("stage_z", "nm", "GonioStage/StagePosition/MZ"),
    entry("stage_alpha", "deg", "GonioStage/StagePosition/TX"),
    entry("stage_beta", "deg", "GonioStage/StagePosition/TY"),
    entry("spot_size", "", "IlluminationSystem/SpotSizeString"),
    entry("defocus", "nm", "ImageFormingSystem/DefocusValue"),
    entry("microscope", None, "Instruments"),
    entry("operator", None, "Operator"),
    entry("specimen", None, "Specimen"),
    entry("Comment", None, "Comment"),
    entry("projection_mode", None, "ImageFormingSystem/ModeString"),
    entry("detector_type", None, "ImageSourceDetector"),
)
"""Places are paths below the root."""
CAMERA_ENTRIES: Final = (
    entry("acquisition_device", None, "../Modelname"),
    entry("frames", "", "FrameIntegration"),
    entry("Camera Gain Index", "", "GainIndex"),
)
"""Places are paths below the camera's ``Parameter``."""
WORDS: Final = {
    "IlluminationSystem/Mode": ("illumination_mode", "mode"),
    "IlluminationSystem/ImageField": ("Image Field", "mode"),
    "ElectronGun/FilamentType": ("Electron Source", "filament"),
}
"""Texts with a prefix that means nothing: name and prefix."""
SECONDS: Final = {"usec": "µs", "msec": "ms", "sec": "s", "us": "µs", "ms": "ms", "s": "s"}
METRES: Final = {"mm": 1e-3, "cm": 1e-2, "m": 1.0}
ELECTRON_MASS: Final = 9.1093837015e-31
ELECTRON_CHARGE: Final = 1.602176634e-19
LIGHT_SPEED: Final = 299_792_458.0
PLANCK: Final = 6.62607015e-34


class JeolSightX(TiffExtractor):
    """Images and diffraction patterns of JEOL transmission microscopes."""

    name: ClassVar[str] = "jeol_sightx"
    format_name: ClassVar[str] = "JEOL SightX TIFF"
    version: ClassVar[str] = "1"

    def recognises(self, tags: Mapping[int, bytes]) -> bool:
        """Whether the description is a ``TemReporter``."""
        return b"<TemReporter" in tags.get(DESCRIPTION, b"")

    def describe(self, tiff: Any, source: Source, facts: Facts) -> list[Signal]:
        """Read the one image and the operator's marks on it."""
        raster = tiff_raster(tiff, source.path)
        raw = tag_bytes(tiff, DESCRIPTION, XML_LIMIT)
        written = date_of(_tag(tiff, DATE_TIME), facts)
        try:
            root = parse_xml(re.sub(rb"^[^<]*<\?xml[^>]*\?>", b"", raw[: raw.rfind(b">") + 1]))
        except ExtractionError as fault:
            facts.warnings["Vendor Metadata"] = f"They were not read: {fault}"
            signal = picture(raster, facts, data_type="TEM_Imaging")
            signal.acquired = written
            return [signal]
        texts = xml_texts(root)
        _add_values(texts, facts)
        _add_camera(texts, facts)
        _add_filter(texts, facts)
        scale = _pixels_per_metre(texts, raster.shape) or min(pixels_per_metre(tiff) or (0.0, 0.0))
        kind, technique, calibration = _kind(texts, scale, facts)
        signal = picture(raster, facts, calibration, dataset_type=kind, data_type=technique)
        signal.acquired = date_of(texts.get("DateTime", ""), facts) or written
        signal.native = bounded(texts)
        signal.annotations = tuple(mark for mark, _ in zip(_marks(root), range(MOST_MARKS), strict=False))
        return [signal]


def _tag(tiff: Any, code: int) -> bytes:
    return tag_bytes(tiff, code, 64).strip(b"\0 ")


def _add_values(texts: Mapping[str, str], facts: Facts) -> None:
    facts.add_entries(ENTRIES, lambda path: texts.get(path, ""))
    for path, (name, prefix) in WORDS.items():
        facts.add(name, texts.get(path, "").removeprefix(prefix))
    holder = texts.get("GonioStage/HolderInformation/Name", "")
    facts.add("Specimen Holder", holder if holder != "Nothing" else None)


def _add_camera(texts: Mapping[str, str], facts: Facts) -> None:
    """Settings of the camera that is described: only one is, under the name of its kind."""
    place = next((path.rpartition("/")[0] for path in texts if path.endswith("Parameter/ExposureTimeString")), "")
    if not place:
        return
    camera = place.rpartition("/")[0]
    facts.add_entries(CAMERA_ENTRIES, lambda path: texts.get(f"{place}/{path}".replace(f"{place}/..", camera), ""))
    exposure, _, unit = texts[f"{place}/ExposureTimeString"].partition(" ")
    if unit in SECONDS:
        facts.add_written("exposure_time", exposure, SECONDS[unit])
    across, down = (texts.get(f"{place}/Binning{side}Size", "") for side in ("Horizontal", "Vertical"))
    facts.add("binning", f"{across}x{down}" if across and down else None)


def _add_filter(texts: Mapping[str, str], facts: Facts) -> None:
    """Settings of the energy filter, where there is one and it is in use."""
    if texts.get("FilterSystem/EnergyFilterEquipped") != "true":
        return
    if texts.get("FilterSystem/OmegaFilterSlitInOut") == "SlitIn":
        facts.add_written("slit_width", texts.get("FilterSystem/OmegaFilterSlitWidth", ""), "eV")
    if texts.get("FilterSystem/EnergyShiftOnOff") == "On":
        facts.add_written("energy_loss", texts.get("FilterSystem/EnergyShiftValue", ""), "eV")


def _pixels_per_metre(texts: Mapping[str, str], shape: tuple[int, ...]) -> float:
    """Pixels per metre of the screen or camera, of an image of this very size; 0 when it is not told."""
    rows, columns = shape[-2:]
    for path in texts:
        place, found, _ = path.partition("ImageInformation/PixelsPerMeter/Horizontal")
        size = f"{place}ImageInformation/ImageSize"
        if found and (texts.get(f"{size}/Width"), texts.get(f"{size}/Height")) == (str(columns), str(rows)):
            try:
                return max(number(texts[path]), 0.0)
            except ValueError:
                return 0.0
    return 0.0


def _kind(
    texts: Mapping[str, str], scale: float, facts: Facts
) -> tuple[DatasetType, str, tuple[float, float, str] | None]:
    """Dataset type, technique and calibration; magnification and camera length go to `facts`.

    The length of a pixel on the screen is that on the specimen times the magnification, or the tangent of
    its angle times the camera length.
    """
    is_scanned = texts.get("Eos/EosMode") == "eosASID"
    unit = texts.get("ImageFormingSystem/SelectorUnitString", "")
    try:
        selected = number(texts.get("ImageFormingSystem/SelectorValue", ""))
    except ValueError:
        selected = 0.0
    pixel = 1 / scale if scale > 0 else 0.0
    is_pattern = "DIFF" in texts.get("ImageFormingSystem/ModeString", "").upper() and not is_scanned
    size = 0.0
    if unit in METRES:
        facts.add_measured("camera_length", selected, unit)
        wavelength = _wavelength(facts)
        if is_pattern and selected > 0 and wavelength:
            size = pixel / (selected * METRES[unit]) / wavelength * 1e-9
    elif unit.upper() == "X":
        facts.add("magnification", selected or None)
        size = pixel / selected * 1e9 if selected > 0 and not is_scanned else 0.0
    calibration = (size, size, "1/nm" if is_pattern else "nm") if size else None
    if is_pattern:
        return "Diffraction", "TEM_Diffraction", calibration
    return "Image", "STEM_Imaging" if is_scanned else "TEM_Imaging", calibration


def _wavelength(facts: Facts) -> float:
    """Wavelength of the electrons in metres; 0 when the voltage is not known."""
    voltage = facts.fields.get("acceleration_voltage")
    energy = float(voltage.m_as("V")) * ELECTRON_CHARGE if voltage is not None else 0.0
    if energy <= 0:
        return 0.0
    return PLANCK / math.sqrt(2 * ELECTRON_MASS * energy + (energy / LIGHT_SPEED) ** 2)


def _marks(root: Any) -> Iterator[Annotation]:
    """Lines and texts that the operator drew; coordinates are pixels of the image."""
    kind_name = "{http://www.w3.org/2001/XMLSchema-instance}type"
    for element in root.iter("DrawObject"):
        kind = element.get(kind_name, "")
        if kind == "Measure_Line":
            corners = [_corner(point) for point in element.iterfind("HandlePoint/PointF")]
            if len(corners) == 2 and corners[0] and corners[1]:
                yield Annotation("line", (corners[0], corners[1]))
        elif kind == "DrawTextBox":
            corner = _corner(element.find("LayoutRectangle/Location"))
            text = (element.findtext("Text") or "").strip()
            if corner and text:
                yield Annotation("text", (corner,), text[:200])


def _corner(element: Any) -> tuple[float, float] | None:
    if element is None:
        return None
    try:
        return number(element.findtext("Y") or ""), number(element.findtext("X") or "")
    except ValueError:
        return None


EXTRACTOR = JeolSightX()
