"""Pixels of TIFF and picture files, read when they are sliced and never beyond what the file declares.

Uncompressed TIFF is mapped into memory. Everything else goes through Pillow, whose decoders stop at the
declared size (a deflate bomb does no harm there) and which refuses absurd declarations.
"""

import logging
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, Final

from nexuslims_pipeline.extraction.model import ExtractionError
from nexuslims_pipeline.signals import Axis, Pixels

DECODED_LIMIT: Final = 512 << 20
"""Bytes that a compressed image may take in memory."""
TIFF_MAGIC: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of classic and of big TIFF, in both byte orders."""
PAGES_LIMIT: Final = 100_000
WHOLE_BYTES: Final = (8, 16, 32, 64)
"""Bits per channel that NumPy has a type for."""
COLOURS: Final = {1: "grey", 2: "grey + alpha", 3: "RGB", 4: "RGBA"}
CHANNELS: Final = "RGBA"
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
        if self.array is None:
            return None
        rows, columns = self.shape[-2:]
        known = width > 0 and height > 0
        axes = (
            Axis(rows, height if known else 1.0, units=units if known else "", name="y"),
            Axis(columns, width if known else 1.0, units=units if known else "", name="x"),
        )
        stack = tuple(Axis(size, name="Image", navigation=True) for size in self.shape[:-2])
        return Pixels(self.array, stack + axes)


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
        self.shape = shape
        self.chunks = (1, *shape[1:])
        self.dtype = dtype
        self.ndim = len(shape)
        self._image = image

    def __getitem__(self, key: Any) -> Any:
        import numpy as np

        parts = key if isinstance(key, tuple) else (key,)
        if any(part is Ellipsis for part in parts):
            place = next(n for n, part in enumerate(parts) if part is Ellipsis)
            missing = (slice(None),) * (self.ndim + 1 - len(parts))
            parts = parts[:place] + missing + parts[place + 1 :]
        first, rest = parts[0], parts[1:]
        chosen = np.arange(self.shape[0])[first]
        if chosen.ndim == 0:
            return np.asarray(self._image(int(chosen))[rest])
        return np.stack([self._image(int(n))[rest] for n in chosen])


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


def tag_text(tiff: Any, code: int) -> str:
    """Text of a tag of the first page, stripped; empty when it has none."""
    tag = tiff_page(tiff).tags.get(code)
    value = getattr(tag, "value", None)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value.strip("\0 \r\n\t") if isinstance(value, str) else ""


def tiff_raster(tiff: Any, path: Path, frames: int = 0) -> Raster:
    """Images of a TIFF: the pages that are like the first one.

    Parameters
    ----------
    tiff
        From `open_tiff`.
    path
        Its file.
    frames
        Images that lie one after the other behind a single page (ImageJ's large stacks); 0 when not known.

    Raises
    ------
    ExtractionError
        If it holds no image.
    """
    with _blaming("it is damaged: the tags that describe its image contradict each other"):
        return _raster(tiff, path, frames)


def _raster(tiff: Any, path: Path, frames: int) -> Raster:
    first = tiff_page(tiff)
    if not (first.imagewidth and first.imagelength and first.dtype is not None and first.dataoffsets):
        msg = "it is damaged: a TIFF file without an image in it"
        raise ExtractionError(msg)
    pages, left_out = _like_first(tiff)
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


def _like_first(tiff: Any) -> tuple[list[Any], int]:
    """Pages of the first one's size and type, and how many others there are (smaller copies not counted)."""
    first = tiff_page(tiff)
    alike, others = [first], 0
    try:
        for page in tiff.pages[1:PAGES_LIMIT]:
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
