"""Pixels of TIFF and picture files, read when they are sliced and never beyond what the file declares.

Uncompressed TIFF is mapped into memory. Everything else goes through Pillow, whose decoders stop at the
declared size (a deflate bomb does no harm there) and which refuses absurd declarations.
"""

import logging
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Final

from nexuslims_pipeline.extraction.facts import Facts
from nexuslims_pipeline.extraction.model import ExtractionError
from nexuslims_pipeline.metadata.units import tidy
from nexuslims_pipeline.signals import Axis, Pixels, Signal

DECODED_LIMIT: Final = 512 << 20
"""Bytes that a compressed image may take in memory."""
TIFF_MAGIC: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of classic and of big TIFF, in both byte orders."""
PAGES_LIMIT: Final = 100_000
WHOLE_BYTES: Final = (8, 16, 32, 64)
"""Bits per channel that NumPy has a type for."""
COLOURS: Final = {1: "grey", 2: "grey + alpha", 3: "RGB", 4: "RGBA"}
CHANNELS: Final = "RGBA"
TAG_BYTES: Final = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
"""Bytes of one value by the tag's type."""
TAG_HEAD: Final = 2048
"""Bytes of each tag that `first_tags` gives."""
MOST_TAGS: Final = 4096
GREY_TYPES: Final = {
    "1": "?",
    "L": "u1",
    "I;16": "<u2",
    "I;16L": "<u2",
    "I;16B": ">u2",
    "I": "i4",
    "F": "f4",
}
"""Pillow's modes of one channel and their NumPy types."""


@dataclass(frozen=True, slots=True)
class Raster:
    """The images of a file: one, or a stack of equal ones."""

    shape: tuple[int, ...]
    """``(rows, columns)`` or ``(images, rows, columns)``; colours are no axis."""
    dtype: Any
    """NumPy type of a pixel; of a colour image a structure with the fields R, G, B and maybe A."""
    colour: str
    array: Any | None
    """Sliceable pixels of `shape`; None when they cannot be read."""
    problem: str = ""
    """Why not, or what is left out."""

    def pixels(self, width: float = 0.0, height: float = 0.0, units: str = "") -> Pixels | None:
        """`array` with its axes; pixel `width` and `height` in `units`, 0 when unknown."""
        return None if self.array is None else Pixels(self.array, self.axes(width, height, units))

    def axes(self, width: float = 0.0, height: float = 0.0, units: str = "") -> tuple[Axis, ...]:
        """Axes of the images, also of those whose pixels cannot be read."""
        rows, columns = self.shape[-2:]
        known = width > 0 and height > 0
        axes = (
            Axis(rows, height if known else 1.0, units=units if known else "", name="y"),
            Axis(columns, width if known else 1.0, units=units if known else "", name="x"),
        )
        return tuple(Axis(size, name="Image", navigation=True) for size in self.shape[:-2]) + axes


class Picture:
    """One image of a file, decoded by Pillow when it is first sliced."""

    def __init__(self, path: Path, frame: int, shape: tuple[int, int], dtype: Any) -> None:
        self.shape = self.chunks = shape
        self.dtype = dtype
        self.ndim = 2
        self._path = path
        self._frame = frame
        self._array: Any = None

    def __getitem__(self, key: Any) -> Any:
        if self._array is None:
            self._array = self._decoded()
        return self._array[key]

    def _decoded(self) -> Any:
        import numpy as np

        with open_picture(self._path) as image:
            try:
                image.seek(self._frame)
                array = np.asarray(image.convert("RGB") if image.mode == "P" else image)
            except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as fault:
                msg = f"its pixels cannot be decoded ({str(fault)[:120]})"
                raise ExtractionError(msg) from fault
        return _as_colours(array)


class Stack:
    """Equal images of a file, each opened when it is sliced."""

    def __init__(self, shape: tuple[int, ...], dtype: Any, image: Callable[[int], Any]) -> None:
        """`image` gives the n-th image of those that the leading axes of `shape` count, the last the fastest."""
        self.shape = shape
        self.chunks = (*(1,) * (len(shape) - 2), *shape[-2:])
        self.dtype = dtype
        self.ndim = len(shape)
        self._image = image

    def reshaped(self, shape: tuple[int, ...]) -> "Stack":
        """The same images, counted by the leading axes of `shape`."""
        return Stack(shape, self.dtype, self._image)

    def __getitem__(self, key: Any) -> Any:
        import numpy as np

        parts = key if isinstance(key, tuple) else (key,)
        if any(part is Ellipsis for part in parts):
            place = next(n for n, part in enumerate(parts) if part is Ellipsis)
            missing = (slice(None),) * (self.ndim + 1 - len(parts))
            parts = parts[:place] + missing + parts[place + 1 :]
        leading = self.shape[:-2]
        chosen = np.arange(prod(leading)).reshape(leading)[parts[: len(leading)]]
        rest = parts[len(leading) :]
        if chosen.ndim == 0:
            return np.asarray(self._image(int(chosen))[rest])
        images = [np.asarray(self._image(int(n))[rest]) for n in chosen.flat]
        return np.stack(images).reshape(chosen.shape + images[0].shape)


@contextmanager
def open_picture(path: Path) -> Iterator[Any]:
    """Open a picture with Pillow and read its header; EPS and other programmes in disguise are refused.

    Raises
    ------
    ExtractionError
        If it is no picture, or declares too many pixels.
    """
    import warnings

    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # large pictures and odd tags: no reason to doubt the pixels
        try:
            image = Image.open(path, formats=("PNG", "JPEG", "BMP", "GIF", "TIFF"))
        except Image.DecompressionBombError as fault:
            msg = "it declares more pixels than any picture of this kind has"
            raise ExtractionError(msg) from fault
        except (SyntaxError, ValueError, OSError) as fault:
            if isinstance(fault, OSError) and fault.errno is not None:
                raise
            msg = "it is damaged: its image header cannot be read"
            raise ExtractionError(msg) from fault
        with image:
            yield image


def picture_raster(path: Path, image: Any) -> Raster:
    """First frame of an opened picture.

    Raises
    ------
    ExtractionError
        If it would take more than `DECODED_LIMIT`.
    """
    import numpy as np

    columns, rows = image.size
    if rows * columns * 4 > DECODED_LIMIT:
        msg = f"it declares {columns} × {rows} pixels, more than is decoded"
        raise ExtractionError(msg)
    if image.mode in {"RGB", "RGBA", "P"}:
        colour = image.mode.replace("P", "RGB")
        dtype = _colour_type(np.dtype("u1"), len(colour))
    elif image.mode in GREY_TYPES:
        dtype, colour = np.dtype(GREY_TYPES[image.mode]), "grey"
    else:
        return Raster(
            (rows, columns),
            np.dtype("u1"),
            image.mode,
            None,
            f"colours of the kind {image.mode} are not drawn",
        )
    return Raster((rows, columns), dtype, colour, Picture(path, 0, (rows, columns), dtype))


@contextmanager
def open_tiff(path: Path) -> Iterator[Any]:
    """Open a TIFF as a `tifffile.TiffFile` of this file alone: other files that it names stay unread.

    Raises
    ------
    ExtractionError
        If its structure cannot be read.
    """
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is odd becomes a warning of the dataset
    with _blaming("it is damaged: its TIFF structure cannot be read (a copy that broke off?)"):
        tiff = tifffile.TiffFile(path, _multifile=False)
    with tiff:
        yield tiff


@contextmanager
def _blaming(reason: str) -> Iterator[None]:
    """Turn whatever tifffile raises over a damaged file into an `ExtractionError` with `reason`."""
    try:
        yield
    except (OSError, ExtractionError):
        raise
    except Exception as fault:
        raise ExtractionError(reason) from fault


def first_tags(path: Path) -> dict[int, bytes]:
    """Values of the first page's tags as they stand in a TIFF, to tell whose it is without a look at its pixels.

    Returns
    -------
    dict
        Up to `TAG_HEAD` bytes by number; values of a tag that comes twice are joined. Empty for any other file.
    """
    try:
        with path.open("rb") as file:
            return _tags_of(file)
    except (struct.error, OverflowError, ValueError):
        return {}


def _tags_of(file: BinaryIO) -> dict[int, bytes]:
    head = file.read(16)
    if not head.startswith(TIFF_MAGIC):
        return {}
    order = "<" if head.startswith(b"I") else ">"
    is_big = head[2:4] in (b"+\0", b"\0+")
    [place] = struct.unpack_from(order + ("Q" if is_big else "I"), head, 8 if is_big else 4)
    count_form, form, inline = ("Q", "HHQ8s", 8) if is_big else ("H", "HHI4s", 4)
    file.seek(place)
    [count] = struct.unpack(order + count_form, file.read(struct.calcsize(order + count_form)))
    size = struct.calcsize(order + form)
    entries = file.read(size * min(count, MOST_TAGS))
    tags: dict[int, bytes] = {}
    for code, kind, number, value in struct.iter_unpack(order + form, entries[: len(entries) // size * size]):
        length = number * TAG_BYTES.get(kind, 0)
        if length > inline:
            file.seek(struct.unpack(order + ("Q" if is_big else "I"), value)[0])
            tags[code] = tags.get(code, b"") + file.read(min(length, TAG_HEAD))
        else:
            tags[code] = tags.get(code, b"") + value[:length]
    return tags


def tiff_page(tiff: Any) -> Any:
    """First page.

    Raises
    ------
    ExtractionError
        If there is none.
    """
    with _blaming("it is damaged: a TIFF file without a readable page"):
        return tiff.pages[0]


def unread_tags(tiff: Any) -> str:
    """Words for a warning when tags of the first page lie out of the file or are of no type; else empty."""
    page = tiff_page(tiff)
    tiff.filehandle.seek(page.offset)
    head = tiff.filehandle.read(tiff.tiff.tagnosize)
    [declared] = struct.unpack(tiff.tiff.tagnoformat, head)
    lost = declared - len(page.tags)
    return f"{lost} of {declared} tags could not be read (a copy that broke off?)." if lost > 0 else ""


def tag_bytes(tiff: Any, code: int, limit: int) -> bytes:
    """First `limit` bytes of a tag of the first page as they stand in the file; empty when it has none."""
    tag = tiff_page(tiff).tags.get(code)
    if tag is None:
        return b""
    size = min(limit, tag.valuebytecount, max(0, tiff.filehandle.size - tag.valueoffset))
    tiff.filehandle.seek(tag.valueoffset)
    return bytes(tiff.filehandle.read(size))


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A microscope's image file, for which a vendor's header says the rest."""

    raster: Raster
    tags: Mapping[int, bytes]
    """Content of the tags that were asked for and are there."""
    warnings: Mapping[str, str]

    def values_of(self, code: int, read: Callable[[bytes], dict[str, str]], facts: Facts) -> dict[str, str]:
        """What `read` makes of a tag's text; nothing but a warning where that text is damaged."""
        try:
            return read(self.tags.get(code, b"").strip(b"\0 \r\n\t"))
        except ExtractionError as fault:
            facts.warnings["Vendor Metadata"] = f"It was not read: {fault}"
            return {}

    def give_to(self, signal: Signal, facts: Facts) -> Signal:
        """`signal` with the facts, the image and its calibration: pixel and field size each from the other."""
        rows, columns = self.raster.shape[-2:]
        rows -= int(facts.extensions.get("Data Bar Rows", 0))
        scales = []
        for side, extent, count in (("height", "vertical", rows), ("width", "horizontal", columns)):
            size, field = f"pixel_{side}", f"{extent}_field_width"
            if size not in facts.fields and field in facts.fields:
                facts.add_measured(size, facts.fields[field].m_as("nm") / count, "nm")
            if size in facts.fields:
                pixel = tidy(float(facts.fields[size].m_as("nm")))
                scales.append(pixel)
                if field not in facts.fields:
                    facts.add_measured(field, pixel * count / 1000, "µm")
        facts.warnings.update(self.warnings)
        signal.shape = self.raster.shape
        height, width = scales if len(scales) == 2 else (0.0, 0.0)
        signal.pixels = self.raster.pixels(width, height, "nm")
        return facts.give_to(signal)


def read_image(path: Path, codes: Iterable[int] = (), limit: int = 0) -> ImageFile:
    """The images of a TIFF or of a picture file and the first `limit` bytes of its tags `codes`.

    Raises
    ------
    ExtractionError
        If it holds no readable image.
    """
    with path.open("rb") as file:
        is_tiff = file.read(4).startswith(TIFF_MAGIC)
    if not is_tiff:
        with open_picture(path) as picture:
            raster, tags, lost = picture_raster(path, picture), {}, ""
    else:
        with open_tiff(path) as tiff:
            raster, lost = tiff_raster(tiff, path), unread_tags(tiff)
            tags = {code: content for code in codes if (content := tag_bytes(tiff, code, limit))}
    warnings = {name: text for name, text in (("Pixels", raster.problem), ("TIFF Tags", lost)) if text}
    return ImageFile(raster, tags, warnings)


def tag_text(tiff: Any, code: int) -> str:
    """Text of a tag of the first page, stripped; empty when it has none."""
    tag = tiff_page(tiff).tags.get(code)
    value = getattr(tag, "value", None)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value.strip("\0 \r\n\t") if isinstance(value, str) else ""


def tiff_raster(tiff: Any, path: Path, frames: int = 0, pages: Sequence[int] = ()) -> Raster:
    """Images of a TIFF: the pages that are like the first one.

    Parameters
    ----------
    tiff
        From `open_tiff`.
    path
        Its file.
    frames
        Images that lie one after the other behind a single page (ImageJ's large stacks); 0 when not known.
    pages
        Numbers of the pages to take, all by default.

    Raises
    ------
    ExtractionError
        If it holds no image.
    """
    with _blaming("it is damaged: the tags that describe its image contradict each other"):
        return _raster(tiff, path, frames, pages)


def _raster(tiff: Any, path: Path, frames: int, chosen: Sequence[int]) -> Raster:
    first = tiff.pages[chosen[0]] if chosen else tiff_page(tiff)
    if not (first.imagewidth and first.imagelength and first.dtype is not None and first.dataoffsets):
        msg = "it is damaged: a TIFF file without an image in it"
        raise ExtractionError(msg)
    pages, left_out = _like_first(tiff, first, chosen)
    colours = first.samplesperpixel
    shape = (int(first.imagelength), int(first.imagewidth))
    interleaved = colours == 1 or (colours in (3, 4) and first.planarconfig == 1)
    dtype = first.dtype.newbyteorder(tiff.byteorder)
    dtype = _colour_type(dtype, colours) if interleaved and colours > 1 else dtype
    colour = "palette" if first.photometric == 3 else COLOURS.get(colours, f"{colours} channels")
    problem = f"{left_out} further images of other sizes or types are left out." if left_out else ""
    offsets = _offsets(pages) if interleaved else []
    size = prod(shape) * dtype.itemsize
    if len(offsets) == 1 and frames > 1:
        offsets = [offsets[0] + n * size for n in range(min(frames, PAGES_LIMIT))]
    count = len(offsets or pages)
    full = (count, *shape) if count > 1 else shape
    image: Callable[[int], Any]
    try:
        if offsets:
            _ensure_length(path, max(offsets) + size)
            image = partial(_mapped, path, shape, dtype, offsets)
        else:
            dtype = _decoded_type(path, first, shape)
            image = partial(_picture, path, shape, dtype, [page.index for page in pages])
    except ExtractionError as fault:
        return Raster(full, dtype, colour, None, f"The pixels are not drawn: {fault}.")
    return Raster(full, dtype, colour, image(0) if count == 1 else Stack(full, dtype, image), problem)


def _like_first(tiff: Any, first: Any, chosen: Sequence[int]) -> tuple[list[Any], int]:
    """Pages of the first one's size and type, and how many others there are (smaller copies not counted)."""
    alike, others = [first], 0
    try:
        for page in map(tiff.pages.__getitem__, chosen[1:]) if chosen else tiff.pages[1:PAGES_LIMIT]:
            if (page.shape, page.dtype, page.compression) == (first.shape, first.dtype, first.compression):
                alike.append(page)
            else:
                others += not page.is_reduced
    except Exception:  # what follows a damaged page cannot be found
        others += 1
    return alike, others


def _offsets(pages: Sequence[Any]) -> list[int]:
    """Where the pixels of each page begin, if all lie there as they are."""
    if all(page.is_contiguous and page.bitspersample in WHOLE_BYTES and page.fillorder == 1 for page in pages):
        return [int(page.dataoffsets[0]) for page in pages]
    return []


def _ensure_length(path: Path, end: int) -> None:
    if end > path.stat().st_size:
        msg = "the file ends before its last pixel (a copy that broke off?)"
        raise ExtractionError(msg)


def _mapped(path: Path, shape: tuple[int, int], dtype: Any, offsets: Sequence[int], n: int) -> Any:
    import numpy as np

    return np.memmap(path, mode="r", dtype=dtype, offset=offsets[n], shape=shape)


def _decoded_type(path: Path, page: Any, shape: tuple[int, int]) -> Any:
    """Type of the pixels that Pillow makes of a compressed page.

    Raises
    ------
    ExtractionError
        If it makes none, or too many.
    """
    if page.nbytes > DECODED_LIMIT:
        msg = f"{shape[1]} × {shape[0]} compressed pixels are more than is decoded"
        raise ExtractionError(msg)
    if page.samplesperpixel not in (1, 3, 4) or page.bitspersample == WHOLE_BYTES[-1]:
        msg = f"Pillow decodes no {page.samplesperpixel} channels of {page.bitspersample} bits"
        raise ExtractionError(msg)
    with open_picture(path) as image:
        raster = picture_raster(path, image)
    if raster.array is None or raster.shape != shape:
        msg = raster.problem or "its size is told in two ways"
        raise ExtractionError(msg)
    return raster.dtype


def _picture(path: Path, shape: tuple[int, int], dtype: Any, indices: Sequence[int], n: int) -> Picture:
    return Picture(path, indices[n], shape, dtype)


def _colour_type(channel: Any, channels: int) -> Any:
    import numpy as np

    return np.dtype([(name, channel) for name in CHANNELS[:channels]])


def _as_colours(array: Any) -> Any:
    """``(rows, columns, 3 or 4)`` as ``(rows, columns)`` of structures."""
    import numpy as np

    if array.ndim == 2:
        return array
    return np.ascontiguousarray(array).view(_colour_type(array.dtype, array.shape[2]))[..., 0]
