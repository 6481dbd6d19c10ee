"""What the readers of vendors' TIFF dialects have in common: told by a tag, one picture or stack, dated by a tag."""

from abc import abstractmethod
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts
from nexuslims_pipeline.extraction.layouts.raster import (
    TIFF_MAGIC,
    Raster,
    first_tags,
    open_tiff,
    tag_text,
    tiff_page,
    unread_tags,
)
from nexuslims_pipeline.extraction.model import Extractor
from nexuslims_pipeline.extraction.vendor_text import decode, moment
from nexuslims_pipeline.signals import Axis, DatasetType, Pixels, Signal, Source

DESCRIPTION: Final = 270
MAKE: Final = 271
MODEL: Final = 272
X_RESOLUTION: Final = 282
Y_RESOLUTION: Final = 283
RESOLUTION_UNIT: Final = 296
SOFTWARE: Final = 305
DATE_TIME: Final = 306
ARTIST: Final = 315
HOST_COMPUTER: Final = 316
METRES_PER_RESOLUTION_UNIT: Final = {2: 0.0254, 3: 0.01}
LENGTH_UNITS: Final = {
    "m": "m", "cm": "cm", "mm": "mm", "millimeter": "mm", "um": "µm", "µm": "µm", "micron": "µm", "microns": "µm",
    "micrometer": "µm", "micrometre": "µm", "nm": "nm", "nanometer": "nm", "pm": "pm", "å": "Å", "a": "Å",
    "angstrom": "Å", "centimeter": "cm", "meter": "m",
}  # fmt: skip
"""Words for a length in lower case, and the unit of a calibrated axis that they mean."""
TEXT_LIMIT: Final = 4000
"""Characters of one text that are kept."""


class TiffExtractor(Extractor):
    """A TIFF dialect that is known by tags of its first page; a subclass says by which, and reads them."""

    extensions: ClassVar[frozenset[str]] = frozenset({".tif", ".tiff"})
    is_conclusive: ClassVar[bool] = True

    @abstractmethod
    def recognises(self, tags: Mapping[int, bytes]) -> bool:
        """Whether the tags, as `raster.first_tags` gives them, are those of this dialect."""

    @abstractmethod
    def describe(self, tiff: Any, source: Source, facts: Facts) -> list[Signal]:
        """Signals of an open file; `facts` already has what is to be said of its structure."""

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether it is a TIFF of this dialect, whatever its extension."""
        return head.startswith(TIFF_MAGIC) and self.recognises(first_tags(source.path))

    def extract(self, source: Source) -> list[Signal]:
        """Read the tags; pixels are left in the file."""
        facts = Facts()
        with open_tiff(source.path) as tiff:
            if lost := unread_tags(tiff):
                facts.warnings["TIFF Tags"] = lost
            return self.describe(tiff, source, facts)


def picture(
    raster: Raster,
    facts: Facts,
    calibration: tuple[float, float, str] | None = None,
    *,
    dataset_type: DatasetType = "Image",
    data_type: str = "Unknown",
    axes: tuple[Axis, ...] = (),
) -> Signal:
    """Signal of a picture or stack, with its facts.

    Parameters
    ----------
    raster
        The picture.
    facts
        What is known of it; colour, pixel size and field width are added.
    calibration
        Width and height of a pixel, and their unit; None when it is not known.
    dataset_type, data_type
        Of the signal.
    axes
        Every axis, where there is more to say about them than the calibration.
    """
    if raster.colour != "grey":
        facts.add("Colour", raster.colour)
    if raster.problem:
        facts.warnings["Pixels"] = raster.problem
    axes = axes or raster.axes(*(calibration or ()))
    facts.add_axes(axes)
    pixels = None if raster.array is None else Pixels(raster.array, axes)
    return facts.give_to(Signal(dataset_type, data_type, raster.shape, pixels=pixels))


def clean(text: Any) -> str:
    """Text of a tag in bounds and without control characters; empty for what is none."""
    if not isinstance(text, str | bytes):
        return ""
    raw = text.encode("utf-8", "replace") if isinstance(text, str) else text
    return decode(raw[: 4 * TEXT_LIMIT])[0].strip()[:TEXT_LIMIT]


def add_texts(tiff: Any, facts: Facts, codes: Mapping[int, str]) -> None:
    """Texts of tags under the names of `codes`."""
    for code, name in codes.items():
        facts.add(name, clean(tag_text(tiff, code)))


def date_of(text: Any, facts: Facts, like: datetime | None = None) -> datetime | None:
    """Time in a tag or in EXIF (``2025:12:03 12:20:37``), or None; an impossible one becomes a warning."""
    text = clean(text)
    if not text or not text.strip("0: "):
        return None
    try:
        return moment(text, like=like)
    except ValueError as fault:
        facts.warnings["Creation Time"] = f"The file says {fault}."
        return None


def resolution(tiff: Any) -> tuple[float, float] | None:
    """Pixels per unit across and down the first page; None when it says none that can be."""
    values = [_ratio(tiff, code) for code in (X_RESOLUTION, Y_RESOLUTION)]
    return (values[0], values[1]) if all(value > 0 for value in values) else None


def pixels_per_metre(tiff: Any) -> tuple[float, float] | None:
    """The same with its unit taken into account; None when that is no length."""
    found = resolution(tiff)
    tag = tiff_page(tiff).tags.get(RESOLUTION_UNIT)
    metres = METRES_PER_RESOLUTION_UNIT.get(int(tag.value) if tag is not None and isinstance(tag.value, int) else 0)
    return (found[0] / metres, found[1] / metres) if found and metres else None


def _ratio(tiff: Any, code: int) -> float:
    tag = tiff_page(tiff).tags.get(code)
    value = getattr(tag, "value", None)
    if isinstance(value, tuple) and len(value) == 2 and 0 not in value:
        return float(value[0] / value[1])
    return 0.0
