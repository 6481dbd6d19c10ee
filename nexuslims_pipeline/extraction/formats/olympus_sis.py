"""TIFF images of Olympus Soft Imaging Solutions (analySIS, iTEM, RADIUS): cameras of TEM and of light microscopes.

=====  ==============================================================================================
tag    content
=====  ==============================================================================================
33560  ``SIS0``, offset of a list of records; the first kind holds pixel size in metres, magnification
       and names of camera and image, the header the time
33471  INI text of the same programmes: dimensions of stacks, processing
=====  ==============================================================================================

The records have no published specification; those known are listed in https://github.com/cgohlke/tifffile, which
reads them here.
"""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded
from nexuslims_pipeline.extraction.layouts.raster import tiff_page, tiff_raster
from nexuslims_pipeline.extraction.layouts.tiff import (
    ARTIST,
    DATE_TIME,
    DESCRIPTION,
    HOST_COMPUTER,
    MODEL,
    SOFTWARE,
    TiffExtractor,
    add_texts,
    date_of,
    picture,
)
from nexuslims_pipeline.extraction.vendor_text import END_YEAR, FIRST_YEAR
from nexuslims_pipeline.signals import Signal, Source

SIS_TAG: Final = 33560
INI_TAG: Final = 33471
TEXTS: Final = {
    DESCRIPTION: "Description",
    MODEL: "acquisition_device",
    SOFTWARE: "software",
    HOST_COMPUTER: "computer",
}
ELECTRON_CAMERAS: Final = (
    "megaview", "veleta", "morada", "quemesa", "cantega", "keenview", "xarosa", "emsis", "phurona", "tengra", "tvsis",
)  # fmt: skip
"""Cameras by Olympus and EMSIS that are made for TEM, as their names begin."""
OPTICAL_LIMIT: Final = 20e-9
"""Metres: no light microscope has smaller pixels on the specimen."""


class OlympusSis(TiffExtractor):
    """Images of analySIS, iTEM and RADIUS."""

    name: ClassVar[str] = "olympus_sis"
    format_name: ClassVar[str] = "Olympus SIS TIFF"
    version: ClassVar[str] = "1"

    def recognises(self, tags: Mapping[int, bytes]) -> bool:
        """Whether it has one of the two tags."""
        return SIS_TAG in tags or INI_TAG in tags

    def describe(self, tiff: Any, source: Source, facts: Facts) -> list[Signal]:
        """Read the one image, or the one stack."""
        raster = tiff_raster(tiff, source.path)
        settings, ini = (_dictionary(tiff, code) for code in (SIS_TAG, INI_TAG))
        add_texts(tiff, facts, TEXTS)
        if not settings and SIS_TAG in tiff_page(tiff).tags:
            facts.warnings["Vendor Metadata"] = "The tag of the camera's software leads to nothing that can be read."
        facts.add("acquisition_device", settings.get("cameraname"))
        facts.add("Picture Type", settings.get("picturetype"))
        magnification = _positive(settings.get("magnification"))
        facts.add("magnification", magnification or None)
        width, height = (_positive(settings.get(f"pixelsize{axis}")) for axis in "xy")
        calibration = (width * 1e9, height * 1e9, "nm") if width and height else None
        written = date_of(_text(tiff, DATE_TIME), facts)
        signal = picture(raster, facts, calibration, data_type=_technique(settings, raster.colour, width))
        signal.name = str(settings.get("name", ""))
        acquired = settings.get("datetime")
        is_told = isinstance(acquired, datetime) and FIRST_YEAR <= acquired.year < END_YEAR
        signal.acquired = acquired if is_told else written
        signal.native = bounded({"SIS": settings, "INI": ini, "Artist": _text(tiff, ARTIST)})
        return [signal]


def _dictionary(tiff: Any, code: int) -> dict[str, Any]:
    tag = tiff_page(tiff).tags.get(code)
    value = getattr(tag, "value", None)
    return dict(value) if isinstance(value, dict) else {}


def _text(tiff: Any, code: int) -> str:
    tag = tiff_page(tiff).tags.get(code)
    return str(getattr(tag, "value", "") or "")


def _positive(value: Any) -> float:
    """A number above zero, rounded to what a single-precision float holds; 0 for anything else."""
    if not isinstance(value, int | float) or not math.isfinite(value) or not 0 < value < 1e12:
        return 0.0
    return float(f"{value:.9g}")


def _technique(settings: Mapping[str, Any], colour: str, width: float) -> str:
    camera = str(settings.get("cameraname", "")).lower().replace(" ", "")
    if camera.startswith(ELECTRON_CAMERAS) or 0 < width < OPTICAL_LIMIT:
        return "TEM_Imaging"
    return "Optical_Imaging" if width or colour.startswith("RGB") else "Unknown"


EXTRACTOR = OlympusSis()
