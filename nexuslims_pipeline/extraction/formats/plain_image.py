"""Pictures of any origin: PNG, JPEG, BMP, GIF, and TIFF of whatever programme.

What they say of themselves is kept. The resolution in dots per inch, which nearly every picture has, is that of a
screen or printer and no pixel size. A pixel size is believed only of Renishaw's WiRE, which writes the field of view
in micrometres where EXIF has the resolution of the camera's sensor:

=============  ======================================================
EXIF tag       of Renishaw
=============  ======================================================
41486, 41487   width and height of the field of view, unit 5: µm
65184 (FEA0)   stage position of the picture's corner, µm
65185 (FEA1)   the field of view again
=============  ======================================================
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded
from nexuslims_pipeline.extraction.layouts.raster import (
    TIFF_MAGIC,
    open_picture,
    open_tiff,
    picture_raster,
    tag_text,
    tiff_page,
    tiff_raster,
    unread_tags,
)
from nexuslims_pipeline.extraction.layouts.tiff import (
    ARTIST,
    DATE_TIME,
    DESCRIPTION,
    HOST_COMPUTER,
    MAKE,
    MODEL,
    SOFTWARE,
    TEXT_LIMIT,
    clean,
    date_of,
    picture,
)
from nexuslims_pipeline.extraction.model import Extractor
from nexuslims_pipeline.signals import Signal, Source

PICTURE_MAGIC: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")
BITMAP_MAGIC: Final = b"BM"
BITMAP_HEADERS: Final = (12, 40, 52, 56, 64, 108, 124)
"""Bytes of the second header of a BMP, at offset 14, in its versions."""
END_MARKS: Final = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9", "GIF": b"\0;"}
"""Last bytes of a complete picture; some cameras and programmes add a little after them."""
AFTER_END: Final = 4096
MOST_TEXTS: Final = 40
TEXT_TAGS: Final = {
    DESCRIPTION: "Description",
    MAKE: "Make",
    MODEL: "Model",
    SOFTWARE: "software",
    ARTIST: "operator",
    HOST_COMPUTER: "computer",
}
"""The same numbers in TIFF and EXIF."""
EXIF_BLOCK: Final = 34665
EXPOSURE_TIME, F_NUMBER, ISO_SPEED, FOCAL_LENGTH = 33434, 33437, 34855, 37386
ORIGINAL_DATE_TAG, ORIGINAL_OFFSET_TAG, ORIGINAL_FRACTION_TAG = 36867, 36881, 37521
FIELD_WIDTH, FIELD_HEIGHT, FIELD_UNIT = 41486, 41487, 41488
MICROMETRES: Final = 5
WIRE_ORIGIN: Final = 65184
RENISHAW: Final = "Renishaw"


class PlainImage(Extractor):
    """Pictures without the metadata of a microscope."""

    name: ClassVar[str] = "plain_image"
    version: ClassVar[str] = "2"
    rank: ClassVar[int] = 20
    is_conclusive: ClassVar[bool] = True
    extensions: ClassVar[frozenset[str]] = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff"})

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether it begins like a picture, whatever its extension says."""
        if head.startswith(BITMAP_MAGIC):
            is_named_so = source.path.suffix.lower() in self.extensions
            return is_named_so or int.from_bytes(head[14:18], "little") in BITMAP_HEADERS
        return head.startswith((*PICTURE_MAGIC, *TIFF_MAGIC))

    def extract(self, source: Source) -> list[Signal]:
        """Read the one picture of the file, or its one stack."""
        with source.path.open("rb") as file:
            head = file.read(8)
        return [_of_tiff(source) if head.startswith(TIFF_MAGIC) else _of_picture(source)]


def _of_tiff(source: Source) -> Signal:
    facts = Facts()
    with open_tiff(source.path) as tiff:
        raster = tiff_raster(tiff, source.path)
        texts = {code: tag_text(tiff, code) for code in TEXT_TAGS}
        date = tag_text(tiff, DATE_TIME)
        block = getattr(tiff_page(tiff).tags.get(EXIF_BLOCK), "value", None)
        if lost := unread_tags(tiff):
            facts.warnings["TIFF Tags"] = lost
    exif = _by_number(block) if isinstance(block, dict) else {}
    return _signal(raster, texts, date, exif, facts)


def _of_picture(source: Source) -> Signal:
    facts = Facts()
    texts: dict[int, Any] = {}
    exif: dict[int, Any] = {}
    with open_picture(source.path) as image:
        raster = picture_raster(source.path, image)
        try:
            if image.format != "PNG" or "exif" in image.info:  # Pillow would decode a PNG to look behind its pixels
                tags = image.getexif()
                texts = dict(tags)
                exif = {**dict(tags.get_ifd(EXIF_BLOCK)), WIRE_ORIGIN: tags.get(WIRE_ORIGIN)}
            frames = getattr(image, "n_frames", 1)
            facts.add("frames", frames if frames > 1 else None)
        except Exception as fault:  # Pillow raises whatever damaged EXIF leads it into
            facts.warnings["EXIF"] = f"It was not read: {str(fault)[:120]}"
        comments = {key: text for key, text in image.info.items() if isinstance(text, str) or key == "comment"}
        kind = image.format or ""
    for key in list(comments)[:MOST_TEXTS]:
        facts.add(str(key)[:80], clean(comments[key]), group="Embedded Text")
    if not _is_complete(source, kind):
        facts.warnings["Pixels"] = "The file ends before its picture does (a copy that broke off?)."
    return _signal(raster, texts, texts.get(DATE_TIME), exif, facts)


def _signal(raster: Any, texts: Mapping[int, Any], date: Any, exif: Mapping[int, Any], facts: Facts) -> Signal:
    """Signal of a picture, with the texts of its tags and what EXIF says of the camera."""
    for code, name in TEXT_TAGS.items():
        text = clean(texts.get(code))
        facts.add(name if not text.lower().startswith("copyright") else "Copyright", text)
    original = clean(exif.get(ORIGINAL_DATE_TAG))
    fraction = clean(exif.get(ORIGINAL_FRACTION_TAG)) if original else ""
    offset = clean(exif.get(ORIGINAL_OFFSET_TAG)) if original else ""
    moment = original + (f".{fraction}" if fraction.isdigit() else "") + offset
    acquired = date_of(moment, facts) or date_of(date, facts)
    calibration = _field_of_view(exif, raster.shape, facts) if clean(texts.get(MAKE)) == RENISHAW else None
    is_photograph = _add_camera(exif, facts) or calibration is not None
    signal = picture(raster, facts, calibration, data_type="Optical_Imaging" if is_photograph else "Unknown")
    signal.acquired = acquired
    signal.native = bounded(
        {"EXIF": {str(code): _plain(value) for code, value in sorted(exif.items())}} if exif else {}
    )
    return signal


def _add_camera(exif: Mapping[int, Any], facts: Facts) -> bool:
    """Settings of a photographic camera; whether there are any."""
    exposure, aperture, focal = (_number(exif.get(code)) for code in (EXPOSURE_TIME, F_NUMBER, FOCAL_LENGTH))
    if exposure > 0:
        facts.add("exposure_time", exposure, "s")
    if focal > 0:
        facts.add("Focal Length", focal, "mm")
    facts.add("F-Number", aperture if aperture > 0 else None)
    speed = exif.get(ISO_SPEED)
    facts.add("ISO Speed", speed if isinstance(speed, int) and speed > 0 else None)
    return exposure > 0 and aperture > 0


def _field_of_view(exif: Mapping[int, Any], shape: tuple[int, ...], facts: Facts) -> tuple[float, float, str] | None:
    """Pixel size of a picture of Renishaw's WiRE; the place of its corner goes to `facts`."""
    width, height = _number(exif.get(FIELD_WIDTH)), _number(exif.get(FIELD_HEIGHT))
    if exif.get(FIELD_UNIT) != MICROMETRES or width <= 0 or height <= 0:
        return None
    origin = exif.get(WIRE_ORIGIN)
    if isinstance(origin, tuple) and len(origin) == 2:
        for side, value in zip("XY", origin, strict=True):
            facts.add(f"Corner {side}", _number(value), "µm")
    return width / shape[-1], height / shape[-2], "µm"


def _number(value: Any) -> float:
    """A number or ratio of EXIF; 0 for what is none."""
    try:
        above, below = value if isinstance(value, tuple) else (value, 1)
        number = float(above) / float(below)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return 0.0
    return float(f"{number:.9g}") if math.isfinite(number) else 0.0


def _by_number(block: Mapping[str, Any]) -> dict[int, Any]:
    """An EXIF block by numbers, which tifffile gives by names."""
    import tifffile

    numbers = {name: tifffile.TIFF.EXIF_TAGS.get(name, None) for name in block}
    return {code: block[name] for name, code in numbers.items() if isinstance(code, int)}


def _plain(value: Any) -> Any:
    """A value of EXIF as JSON knows it; long blocks of bytes are maker's notes that nobody reads."""
    if isinstance(value, bytes):
        return clean(value) if len(value) <= TEXT_LIMIT else f"{len(value)} bytes"
    if isinstance(value, tuple):
        return [_plain(item) for item in value[:64]]
    if value is None or isinstance(value, str | int | float):
        return value
    return _number(value)


def _is_complete(source: Source, kind: str) -> bool:
    """Whether the file is as long as a BMP says, or the end mark of its kind is near its end."""
    size = source.path.stat().st_size
    with source.path.open("rb") as file:
        if kind == "BMP":
            return int.from_bytes(file.read(6)[2:], "little") <= size
        file.seek(max(0, size - AFTER_END))
        return END_MARKS.get(kind, b"") in file.read()


EXTRACTOR = PlainImage()
