"""TIFF images of Zeiss AxioCam cameras, exported by AxioVision or ZEN.

Nothing but the standard tags tells of them: the camera as the model (272), the time (306) and the computer (316).
The resolution is that of a printed page, not of the specimen.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded
from nexuslims_pipeline.extraction.layouts.raster import tag_text, tiff_raster
from nexuslims_pipeline.extraction.layouts.tiff import (
    DATE_TIME,
    DESCRIPTION,
    HOST_COMPUTER,
    MAKE,
    MODEL,
    SOFTWARE,
    TiffExtractor,
    add_texts,
    clean,
    date_of,
    picture,
)
from nexuslims_pipeline.signals import Signal, Source

TEXTS: Final = {
    MODEL: "acquisition_device",
    SOFTWARE: "software",
    HOST_COMPUTER: "computer",
    DESCRIPTION: "Description",
}
NATIVE: Final = {
    DESCRIPTION: "ImageDescription",
    MAKE: "Make",
    MODEL: "Model",
    SOFTWARE: "Software",
    DATE_TIME: "DateTime",
    HOST_COMPUTER: "HostComputer",
}
"""Tags under the names that the TIFF standard has for them."""


class AxioVision(TiffExtractor):
    """Light microscope images of AxioCam cameras."""

    name: ClassVar[str] = "axiovision"
    format_name: ClassVar[str] = "Zeiss AxioVision TIFF"
    version: ClassVar[str] = "1"

    def recognises(self, tags: Mapping[int, bytes]) -> bool:
        """Whether the camera is an AxioCam, or the programme AxioVision."""
        return tags.get(MODEL, b"").lower().startswith(b"axiocam") or b"AxioVision" in tags.get(SOFTWARE, b"")

    def describe(self, tiff: Any, source: Source, facts: Facts) -> list[Signal]:
        """Read the one image."""
        raster = tiff_raster(tiff, source.path)
        add_texts(tiff, facts, TEXTS)
        acquired = date_of(tag_text(tiff, DATE_TIME), facts)
        signal = picture(raster, facts, data_type="Optical_Imaging")
        signal.acquired = acquired
        texts = {name: clean(tag_text(tiff, code)) for code, name in NATIVE.items()}
        signal.native = bounded({"TIFF": {name: text for name, text in texts.items() if text}})
        return [signal]


EXTRACTOR = AxioVision()
