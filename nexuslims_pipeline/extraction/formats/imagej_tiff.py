r"""TIFF images and stacks saved by ImageJ or Fiji.

The description (tag 270) is lines of ``key=value`` that start with ``ImageJ=``; the TIFF resolution is in pixels per
``unit``. Stacks have ``channels``, ``slices`` and ``frames``, of which the channels change fastest; ``spacing`` is
the distance of slices in the same unit and ``finterval`` that of frames in seconds. Large stacks have one page
only, behind which ``images`` planes follow each other. Tag 50839 holds what the image said before ImageJ (``Info``)
and the labels of the slices. Characters beyond ASCII are written as ``\u00B5``.
Source: https://imagej.net/ij/source/ij/io/TiffEncoder.java and FileSaver.java.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import METRES, Facts, bounded
from nexuslims_pipeline.extraction.formats.gatan_tiff import add_image_tags, dataset_type_of
from nexuslims_pipeline.extraction.layouts.raster import PAGES_LIMIT, Raster, Stack, tag_text, tiff_page, tiff_raster
from nexuslims_pipeline.extraction.layouts.tiff import (
    DATE_TIME,
    DESCRIPTION,
    LENGTH_UNITS,
    SOFTWARE,
    TEXT_LIMIT,
    TiffExtractor,
    date_of,
    picture,
    resolution,
)
from nexuslims_pipeline.extraction.model import ExtractionError
from nexuslims_pipeline.extraction.vendor_text import number
from nexuslims_pipeline.signals import Axis, Signal, Source

METADATA_TAG: Final = 50839
MARK: Final = "ImageJ="
OUTER: Final = (("frames", "Time"), ("slices", "z"), ("channels", "Channel"))
"""Settings that count planes, from the slowest to the fastest, and the names of their axes."""
IMAGE_TAG: Final = re.compile(r"^root\.ImageList\.(\d{1,3})\.ImageTags\.([^=\n]{1,300}?) = (.*)$", re.MULTILINE)
INFO_LIMIT: Final = 1 << 20
INCHES: Final = frozenset({"inch", "in", "inches"})


class ImageJTiff(TiffExtractor):
    """Images and stacks that went through ImageJ."""

    name: ClassVar[str] = "imagej_tiff"
    format_name: ClassVar[str] = "ImageJ TIFF"
    version: ClassVar[str] = "1"

    def recognises(self, tags: Mapping[int, bytes]) -> bool:
        """Whether a description begins as ImageJ's; HyperSpy writes one of these too."""
        return MARK.encode() in tags.get(DESCRIPTION, b"") and not tags.get(SOFTWARE, b"").startswith(b"hyperspy")

    def describe(self, tiff: Any, source: Source, facts: Facts) -> list[Signal]:
        """Read the one image, or the one stack."""
        settings = imagej_settings(tiff)
        images = _whole(settings.get("images", ""))
        raster, axes = _arranged(tiff_raster(tiff, source.path, images), settings, tiff)
        saved = settings.get("ImageJ", "").strip()
        facts.add("software", f"ImageJ {saved}")
        before = getattr(tiff_page(tiff).tags.get(METADATA_TAG), "value", None)
        before = before if isinstance(before, dict) else {}
        labels = [label for label in before.get("Labels") or [] if isinstance(label, str)]
        facts.add("Slice Labels", [label.split("\n", 1)[0][:80] for label in labels if label.strip()][:40])
        written = date_of(tag_text(tiff, DATE_TIME), facts)
        kind, technique, acquired = dataset_type_of(axes)[0], "Unknown", None
        if tags := image_tags([*labels[:1], str(before.get("Info") or "")]):
            try:
                kind, technique, acquired = add_image_tags(tags, axes, source, facts)
            except ExtractionError as fault:
                facts.warnings["Vendor Metadata"] = f"What DigitalMicrograph wrote was not read: {fault}"
        signal = picture(raster, facts, dataset_type=kind, data_type=technique, axes=axes)
        signal.acquired = acquired or written
        texts = {key: text for key, text in before.items() if isinstance(text, str)}
        signal.native = bounded({"ImageJ": settings, **texts, **({"Labels": labels} if labels else {})})
        return [signal]


def imagej_settings(tiff: Any) -> dict[str, str]:
    """Settings in the description, of which a page may have several; empty for files of other programmes."""
    tags = tiff_page(tiff).tags.getall(DESCRIPTION, default=[])
    for text in (tag.value for tag in tags):
        if isinstance(text, str) and text.startswith(MARK):
            return dict(line.split("=", 1) for line in text[:TEXT_LIMIT].split("\n") if "=" in line)
    return {}


def image_tags(texts: Iterable[str]) -> dict[str, Any]:
    """DigitalMicrograph's tags of the image itself, which ImageJ's DM3 reader lists line by line.

    The last image in the list is the image, those before it are thumbnails.
    """
    found: dict[int, dict[str, Any]] = {}
    for text in texts:
        for number_, path, value in IMAGE_TAG.findall(text[:INFO_LIMIT]):
            *groups, name = path.split(".")
            tree = found.setdefault(int(number_), {})
            for group in groups:
                inner = tree.setdefault(group, {})
                tree = inner if isinstance(inner, dict) else {}
            tree[name] = _number_or_text(value.strip())
    return found[max(found)] if found else {}


def _number_or_text(text: str) -> Any:
    try:
        return int(text) if re.fullmatch(r"-?\d{1,18}", text) else number(text)
    except ValueError:
        return text


def unit_of(settings: Mapping[str, str], side: str = "") -> str:
    """Unit of a pixel's width, or that of its height (``y``) or depth (``z``); empty when it is no length."""
    word = unescaped(settings.get(f"{side}unit") or settings.get("unit", "")).lower()
    return "inch" if word in INCHES else LENGTH_UNITS.get(word, "")


def unescaped(text: str) -> str:
    r"""Text with Java's ``\u00B5`` for what is not ASCII, and one letter for micro."""
    return re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text).strip().replace("μ", "µ")


def _whole(text: str) -> int:
    try:
        return min(int(number(text)), PAGES_LIMIT)
    except ValueError:
        return 0


def _arranged(raster: Raster, settings: Mapping[str, str], tiff: Any) -> tuple[Raster, tuple[Axis, ...]]:
    """The stack with one axis for each of frames, slices and channels, and all its axes."""
    calibration = _pixel_size(settings, tiff)
    count = math.prod(raster.shape[:-2])
    outer = [(max(_whole(settings.get(key, "")), 1), name) for key, name in OUTER]
    sizes = [(size, name) for size, name in outer if size > 1]
    if math.prod(size for size, _ in sizes) != count or count == 1:
        return raster, raster.axes(*calibration)
    axes = tuple(_outer_axis(size, name, settings) for size, name in sizes)
    shape = (*(size for size, _ in sizes), *raster.shape[-2:])
    array = raster.array.reshaped(shape) if isinstance(raster.array, Stack) else raster.array
    arranged = Raster(shape, raster.dtype, raster.colour, array, raster.problem)
    return arranged, (*axes, *raster.axes(*calibration)[-2:])


def _outer_axis(size: int, name: str, settings: Mapping[str, str]) -> Axis:
    key, unit = ("spacing", unit_of(settings, "z")) if name == "z" else ("finterval", "s")
    try:
        step = number(settings[key]) if unit and name != "Channel" else 0.0
    except (KeyError, ValueError):
        step = 0.0
    unit, step = ("µm", step * 25_400) if unit == "inch" else (unit, step)
    if step > 0:
        return Axis(size, step, units=unit, name=name, navigation=True)
    return Axis(size, name=name, navigation=True)


def _pixel_size(settings: Mapping[str, str], tiff: Any) -> tuple[float, float, str] | tuple[()]:
    """Width and height of a pixel and their unit; nothing when ImageJ was told none."""
    found = resolution(tiff)
    units = unit_of(settings), unit_of(settings, "y")
    if not found or not all(units):
        return ()
    if units[0] == units[1] != "inch":
        return 1 / found[0], 1 / found[1], units[0]
    metres = [0.0254 if unit == "inch" else METRES[unit] for unit in units]
    return 1e6 * metres[0] / found[0], 1e6 * metres[1] / found[1], "µm"


EXTRACTOR = ImageJTiff()
