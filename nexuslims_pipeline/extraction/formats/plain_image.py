"""Pictures of any origin: PNG, JPEG, BMP, GIF, and TIFF of whatever programme.

What they say of themselves is kept; a length per pixel is believed only of ImageJ and OME, which write it
with its unit. The resolution in dots per inch, which every picture has, is that of a screen or printer.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.raster import (
    TIFF_MAGIC,
    Raster,
    open_picture,
    open_tiff,
    picture_raster,
    tag_text,
    tiff_page,
    tiff_raster,
    unread_tags,
)
from nexuslims_pipeline.extraction.vendor_text import decode, local_time, number, parse_xml
from nexuslims_pipeline.signals import Signal, Source

PICTURE_MAGIC: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"BM")
END_MARKS: Final = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9", "GIF": b"\0;"}
"""Last bytes of a complete picture; some cameras and programmes add a little after them."""
AFTER_END: Final = 4096
TEXT_LIMIT: Final = 4000
"""Characters of one text that are kept."""
MOST_TEXTS: Final = 40
TEXT_TAGS: Final = {270: "Description", 271: "Make", 272: "Model", 305: "Software", 315: "Artist"}
"""The same numbers in TIFF and EXIF."""
DATE_TAG: Final = 306
EXIF_BLOCK: Final = 34665
ORIGINAL_DATE_TAG: Final = 36867
X_RESOLUTION, Y_RESOLUTION = 282, 283
LENGTHS: Final = {
    "nm": "nm", "um": "µm", "µm": "µm", "μm": "µm", "micron": "µm", "microns": "µm", "mm": "mm", "cm": "cm",
    "pm": "pm", "m": "m", "å": "angstrom", "angstrom": "angstrom", "inch": "inch",
}  # fmt: skip


class PlainImage(Extractor):
    """Pictures without the metadata of a microscope."""

    name: ClassVar[str] = "plain_image"
    version: ClassVar[str] = "1"
    rank: ClassVar[int] = 20
    extensions: ClassVar[frozenset[str]] = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff"})

    def accepts(self, source: Source, head: bytes) -> bool:  # noqa: ARG002 - the head says it all
        """Whether it begins like a picture, whatever its extension says."""
        return head.startswith((*PICTURE_MAGIC, *TIFF_MAGIC))

    def extract(self, source: Source) -> list[Signal]:
        """Read the one picture of the file, or its one stack."""
        with source.path.open("rb") as file:
            head = file.read(8)
        return [_of_tiff(source) if head.startswith(TIFF_MAGIC) else _of_picture(source)]


def _of_tiff(source: Source) -> Signal:
    facts = Facts()
    with open_tiff(source.path) as tiff:
        texts = {name: tag_text(tiff, code) for code, name in TEXT_TAGS.items()}
        settings = _imagej(tiff)
        raster = tiff_raster(tiff, source.path, _imagej_images(settings))
        size = _imagej_pixel(tiff, settings) or _ome_pixel(texts["Description"], facts)
        date = tag_text(tiff, DATE_TAG)
        if lost := unread_tags(tiff):
            facts.warnings["TIFF Tags"] = lost
    if settings or texts["Description"].startswith("<"):
        del texts["Description"]
    signal = _signal(raster, facts, size)
    signal.native = bounded({"ImageJ": settings} if settings else {})
    return _with_texts(signal, texts, date)


def _of_picture(source: Source) -> Signal:
    facts = Facts()
    texts: dict[str, Any] = {}
    date = ""
    with open_picture(source.path) as image:
        raster = picture_raster(source.path, image)
        try:
            exif = image.getexif()
            texts = {name: exif.get(code) for code, name in TEXT_TAGS.items()}
            date = exif.get_ifd(EXIF_BLOCK).get(ORIGINAL_DATE_TAG) or exif.get(DATE_TAG) or ""
            frames = getattr(image, "n_frames", 1)
            facts.add("Frames", frames if frames > 1 else None)
        except Exception as fault:  # Pillow raises whatever damaged EXIF leads it into
            facts.warnings["EXIF"] = f"It was not read: {str(fault)[:120]}"
        comments = {key: text for key, text in image.info.items() if isinstance(text, str) or key == "comment"}
        kind = image.format or ""
    for key in list(comments)[:MOST_TEXTS]:
        facts.add(str(key)[:80], _clean(comments[key]), group="Embedded Text")
    if not _is_complete(source, kind):
        facts.warnings["Pixels"] = "The file ends before its picture does (a copy that broke off?)."
    return _with_texts(_signal(raster, facts, None), texts, date)


def _signal(raster: Raster, facts: Facts, size: tuple[float, float, str] | None) -> Signal:
    """Signal of a picture with pixels of `size`: width, height and their unit."""
    if raster.colour != "grey":
        facts.add("Colour", raster.colour)
    if raster.problem:
        facts.warnings["Pixels"] = raster.problem
    width, height, unit = size or (0.0, 0.0, "")
    if size:
        rows, columns = raster.shape[-2:]
        facts.add("pixel_width", width, unit)
        facts.add("pixel_height", height, unit)
        facts.add("horizontal_field_width", width * columns, unit)
        facts.add("vertical_field_width", height * rows, unit)
    signal = Signal("Image", "Unknown", raster.shape)
    signal.pixels = raster.pixels(width, height, unit)
    return facts.give_to(signal)


def _with_texts(signal: Signal, texts: Mapping[str, Any], date: Any) -> Signal:
    """`signal` with the texts of its tags and its time."""
    facts = Facts()
    for name, text in texts.items():
        facts.add(name, _clean(text))
    signal.acquired = _date(date if isinstance(date, str) else "", facts)
    return facts.give_to(signal)


def _clean(text: Any) -> str:
    """Text of a tag in bounds and without control characters; empty for what is none."""
    if not isinstance(text, str | bytes):
        return ""
    raw = text.encode("utf-8", "replace") if isinstance(text, str) else text
    return decode(raw[: 4 * TEXT_LIMIT])[0].strip()[:TEXT_LIMIT]


def _date(text: str, facts: Facts) -> datetime | None:
    """Time of a TIFF or EXIF tag: ``2025:12:03 12:20:37``."""
    date, _, time = text.strip("\0 ").partition(" ")
    if not date or date.startswith("0000"):
        return None
    try:
        return local_time(date, time)
    except ValueError as fault:
        facts.warnings["Acquisition Date"] = f"The file says {fault}."
        return None


def _imagej(tiff: Any) -> dict[str, str]:
    """ImageJ's settings, lines of ``key=value`` in the description; empty for others."""
    tags = tiff_page(tiff).tags.getall(270, default=[])
    for text in (tag.value for tag in tags):
        if isinstance(text, str) and text.startswith("ImageJ="):
            return dict(line.split("=", 1) for line in text[:TEXT_LIMIT].split("\n") if "=" in line)
    return {}


def _imagej_images(settings: Mapping[str, str]) -> int:
    try:
        return int(number(settings.get("images", "0")))
    except ValueError:
        return 0


def _imagej_pixel(tiff: Any, settings: Mapping[str, str]) -> tuple[float, float, str] | None:
    """Pixel size that ImageJ wrote: its unit in the settings, pixels per unit as the TIFF resolution."""
    unit = LENGTHS.get(_unescaped(settings.get("unit", "")).lower())
    if unit is None:
        return None
    sizes = []
    for code in (X_RESOLUTION, Y_RESOLUTION):
        tag = tiff_page(tiff).tags.get(code)
        if tag is None or not isinstance(tag.value, tuple) or len(tag.value) != 2 or 0 in tag.value:
            return None
        sizes.append(tag.value[1] / tag.value[0])
    return sizes[0], sizes[1], unit


def _unescaped(text: str) -> str:
    r"""Text with Java's ``\u00B5`` for what is not ASCII."""
    return re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text).strip()


def _ome_pixel(description: str, facts: Facts) -> tuple[float, float, str] | None:
    """Pixel size of OME-XML; its unit is the micrometre unless it says otherwise."""
    if not description.startswith("<") or "<OME" not in description[:2000]:
        return None
    try:
        root = parse_xml(description.encode())
        pixels = next(root.iter("{*}Pixels"))
        width, height = (number(pixels.get(f"PhysicalSize{axis}", "")) for axis in "XY")
    except StopIteration:
        return None
    except ExtractionError as fault:
        facts.warnings["Vendor Metadata"] = f"The description was not read: {fault}"
        return None
    except ValueError:
        return None
    unit = LENGTHS.get(pixels.get("PhysicalSizeXUnit", "µm").lower())
    same = pixels.get("PhysicalSizeYUnit", "µm") == pixels.get("PhysicalSizeXUnit", "µm")
    return (width, height, unit) if unit and same and width > 0 and height > 0 else None


def _is_complete(source: Source, kind: str) -> bool:
    """Whether the file is as long as a BMP says, or the end mark of its kind is near its end."""
    size = source.path.stat().st_size
    with source.path.open("rb") as file:
        if kind == "BMP":
            return int.from_bytes(file.read(6)[2:], "little") <= size
        file.seek(max(0, size - AFTER_END))
        return END_MARKS.get(kind, b"") in file.read()


EXTRACTOR = PlainImage()
