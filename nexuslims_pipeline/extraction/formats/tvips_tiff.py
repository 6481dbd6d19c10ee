"""TIFF images of TVIPS cameras, written by EM-MENU.

The private tag 37706 holds a record of the image, the microscope and the camera. tifffile
(https://github.com/cgohlke/tifffile, ``TVIPS_HEADER_V1`` and ``V2``) lists its members. Its units, which agree with
each other in real files (pixel of the camera × binning / magnification = pixel size):

=======================  ==============================================================================
member of version 2      unit
=======================  ==============================================================================
TemHighTension           V
TemMagnification         times PostMagnification and TemMagnificationCorrection; camera length in mm
                         when TemMode is 3 (diffraction)
TemStagePosition         x, y, z in m; the two tilts in degrees
PixelSizeX, PixelSizeY   nm, binning included
PhysicalPixelSizeX, Y    nm, of the camera
ExposureTime             ms
ReadoutRate              kHz
Date                     year × 65536 + month × 256 + day; Time in seconds of the day
=======================  ==============================================================================

Version 1 has kV, thousands, µm and ms, each times 10 000.
"""

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded
from nexuslims_pipeline.extraction.layouts.raster import tiff_page, tiff_raster
from nexuslims_pipeline.extraction.layouts.tiff import TiffExtractor, clean, picture, pixels_per_metre
from nexuslims_pipeline.extraction.vendor_text import END_YEAR, FIRST_YEAR
from nexuslims_pipeline.signals import Signal, Source

TVIPS_TAG: Final = 37706
DIFFRACTION_MODE: Final = 3
DAY_SECONDS: Final = 86_400
VALUES: Final = {
    "TemHighTension": ("acceleration_voltage", "V"),
    "ExposureTime": ("exposure_time", "ms"),
    "ReadoutRate": ("Readout Rate", "kHz"),
    "PhysicalPixelSizeX": ("Camera Pixel Size", "nm"),
    "Gain": ("Camera Gain", None),
}
"""Version 2: name and unit; 0 stands for what is not known."""
OLD_VALUES: Final = {
    "HighTension": ("acceleration_voltage", "kV"),
    "ExposureTimeV1": ("exposure_time", "ms"),
    "PhysicalPixelSize": ("Camera Pixel Size", "µm"),
    "Magnification": ("magnification", None),
    "Binning": ("binning", None),
}
OLD_FACTOR: Final = 1e-4
OLD_MAGNIFICATION_FACTOR: Final = 0.1
TEXTS: Final = {
    "TemType": "microscope",
    "CameraType": "acquisition_device",
    "Comment": "Comment",
    "FlatfieldDescription": "Flat Field",
    "FeiMicroscopeInformation": "Microscope Information",
    "FeiSpecimenInformation": "specimen",
}
STAGE: Final = (("stage_x", "m"), ("stage_y", "m"), ("stage_z", "m"), ("stage_alpha", "deg"), ("stage_beta", "deg"))


class TvipsTiff(TiffExtractor):
    """Images and diffraction patterns of TVIPS cameras."""

    name: ClassVar[str] = "tvips_tiff"
    format_name: ClassVar[str] = "TVIPS EM-MENU TIFF"
    version: ClassVar[str] = "1"

    def recognises(self, tags: Mapping[int, bytes]) -> bool:
        """Whether it has EM-MENU's tag."""
        return TVIPS_TAG in tags

    def describe(self, tiff: Any, source: Source, facts: Facts) -> list[Signal]:
        """Read the one image, or the one stack."""
        raster = tiff_raster(tiff, source.path)
        tag = tiff_page(tiff).tags.get(TVIPS_TAG)
        record: Any = getattr(tag, "value", None)
        if not isinstance(record, dict) or not record:
            facts.warnings["Vendor Metadata"] = "EM-MENU's record is damaged or of an unknown version."
            return [picture(raster, facts, data_type="TEM_Imaging")]
        record = {member: _shortest(value) for member, value in record.items()}
        is_pattern = record.get("TemMode") == DIFFRACTION_MODE
        if "TemHighTension" in record:
            _add_values(record, facts, is_pattern=is_pattern)
        else:
            _add_old_values(record, facts)
        signal = picture(
            raster,
            facts,
            None if is_pattern else _calibration(record, tiff),
            dataset_type="Diffraction" if is_pattern else "Image",
            data_type="TEM_Diffraction" if is_pattern else "TEM_Imaging",
        )
        signal.name = clean(record.get("ImageName"))
        signal.acquired = _acquired(record, signal.warnings)
        signal.native = bounded({"TVIPS": record})
        return [signal]


def _shortest(value: Any) -> Any:
    """Numbers of single precision without the digits that they do not have."""
    if isinstance(value, list):
        return [_shortest(item) for item in value]
    return float(f"{value:.7g}") if isinstance(value, float) else value


def _add_values(record: Mapping[str, Any], facts: Facts, *, is_pattern: bool) -> None:
    for member, (name, unit) in VALUES.items():
        if (value := record.get(member)) not in (0, None):
            facts.add(name, value, unit)
    for member, name in TEXTS.items():
        facts.add(name, clean(record.get(member)))
    nominal = record.get("TemMagnification") or 0.0
    if nominal and is_pattern:
        facts.add("camera_length", nominal, "mm")
    elif nominal:
        facts.add("magnification", nominal)
        for member, name in (
            ("PostMagnification", "Post Magnification"),
            ("TemMagnificationCorrection", "Magnification Correction"),
        ):
            facts.add(name, record.get(member) or None)
    across, down = record.get("BinningX"), record.get("BinningY")
    facts.add("binning", f"{across}x{down}" if across and down else None)
    stage = record.get("TemStagePosition") or ()
    for value, (name, unit) in zip(stage if any(stage) else (), STAGE, strict=False):
        facts.add(name, value, unit)
    spot = (record.get("TemIllumination") or (0.0,))[0]
    facts.add("spot_size", spot or None)


def _add_old_values(record: Mapping[str, Any], facts: Facts) -> None:
    for member, (name, unit) in OLD_VALUES.items():
        value = record.get(member) or 0
        factor = OLD_MAGNIFICATION_FACTOR if member == "Magnification" else OLD_FACTOR
        facts.add(name, value * factor if value > 0 else None, unit)


def _calibration(record: Mapping[str, Any], tiff: Any) -> tuple[float, float, str] | None:
    """Size of a pixel: EM-MENU's own, else that of the TIFF resolution, which it writes with its unit."""
    width, height = (record.get(f"PixelSize{axis}") or 0.0 for axis in "XY")
    if math.isfinite(width) and math.isfinite(height) and width > 0 and height > 0:
        return float(width), float(height), "nm"
    found = pixels_per_metre(tiff)
    return (1e9 / found[0], 1e9 / found[1], "nm") if found else None


def _acquired(record: Mapping[str, Any], warnings: dict[str, str]) -> datetime | None:
    day, seconds = (record.get(name) or record.get(f"{name}V1") or 0 for name in ("Date", "Time"))
    if not day:
        return None
    try:
        date = datetime(day >> 16, day >> 8 & 255, day & 255)  # noqa: DTZ001 - no zone is known
    except ValueError:
        date = datetime.min  # noqa: DTZ901 - no zone is known
    if not FIRST_YEAR <= date.year < END_YEAR or not 0 <= seconds < DAY_SECONDS:
        warnings["Creation Time"] = f"The file says {day} and {seconds}, which is no day and time."
        return None
    return date + timedelta(seconds=seconds)


EXTRACTOR = TvipsTiff()
