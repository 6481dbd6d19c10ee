"""Pixels of TIFF and picture files, read when they are sliced and never beyond what the file declares.

Uncompressed TIFF is mapped into memory. Everything else goes through Pillow, whose decoders stop at the
declared size (a deflate bomb does no harm there) and which refuses absurd declarations.
"""

import logging
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, Final

from nexuslims_pipeline.extraction.model import Axis, ExtractionError, Pixels

DECODED_LIMIT: Final = 512 << 20
"""Bytes that a compressed image may take in memory."""
TIFF_MAGIC: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of classic and of big TIFF, in both byte orders."""
PAGES_LIMIT: Final = 100_000
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
            except (OSError, SyntaxError, ValueError, EOFError) as fault:
                msg = f"its pixels cannot be decoded ({str(fault)[:120]})"
                raise ExtractionError(msg) from fault
        return _as_colours(array)


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

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
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
    try:
        tiff = tifffile.TiffFile(path, _multifile=False)
    except OSError:
        raise
    except Exception as fault:  # tifffile raises whatever a damaged header leads it into
        msg = "it is damaged: its TIFF structure cannot be read (a copy that broke off?)"
        raise ExtractionError(msg) from fault
    with tiff:
        yield tiff


def tiff_page(tiff: Any) -> Any:
    """First page.

    Raises
    ------
    ExtractionError
        If there is none.
    """
    try:
        return tiff.pages[0]
    except Exception as fault:  # see `open_tiff`
        msg = "it is damaged: a TIFF file without a readable page"
        raise ExtractionError(msg) from fault


def unread_tags(tiff: Any) -> str:
    """Words for a warning when tags of the first page point out of the file or are of no known type; else empty."""
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
    first = tiff_page(tiff)
    if not (first.imagewidth and first.imagelength and first.dtype is not None and first.dataoffsets):
        msg = "it is damaged: a TIFF file without an image in it"
        raise ExtractionError(msg)
    pages, left_out = _like_first(tiff)
    colours = first.samplesperpixel
    shape: tuple[int, ...] = (first.imagelength, first.imagewidth)
    interleaved = colours == 1 or (colours in (3, 4) and first.planarconfig == 1)
    dtype = first.dtype.newbyteorder(tiff.byteorder)
    dtype = _colour_type(dtype, colours) if interleaved and colours > 1 else dtype
    colour = "palette" if first.photometric == 3 else COLOURS.get(colours, f"{colours} channels")
    problem = f"{left_out} further images of other sizes in the file are left out" if left_out else ""
    offsets = _offsets(pages) if interleaved else None
    if offsets and len(pages) == 1 and frames > 1:
        offsets = [offsets[0] + n * prod(shape) * dtype.itemsize for n in range(min(frames, PAGES_LIMIT))]
    count = len(offsets) if offsets else len(pages)
    full = (count, *shape) if count > 1 else shape
    if offsets:
        try:
            return Raster(full, dtype, colour, _mapped(path, dtype, offsets, shape), problem)
        except ExtractionError as fault:
            return Raster(full, dtype, colour, None, str(fault))
    if count > 1:
        return Raster(full, dtype, colour, None, "a stack of compressed images is not drawn")
    array, problem = _by_pillow(path, first, shape, problem)
    return Raster(full, dtype if array is None else array.dtype, colour, array, problem)


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
    except Exception:  # see `open_tiff`; what follows a damaged page cannot be found
        others += 1
    return alike, others


def _offsets(pages: Sequence[Any]) -> list[int] | None:
    """Where the pixels of each page begin, if they lie there as they are."""
    if all(
        page.is_contiguous and page.bitspersample in (8, 16, 32, 64) and page.fillorder == 1 for page in pages
    ):
        return [int(page.dataoffsets[0]) for page in pages]
    return None


def _mapped(path: Path, dtype: Any, offsets: Sequence[int], shape: tuple[int, ...]) -> Any:
    """Memory map of evenly spaced images.

    Raises
    ------
    ExtractionError
        If they are not, or the file is too short for them.
    """
    import numpy as np

    size = prod(shape) * dtype.itemsize
    if max(offsets) + size > path.stat().st_size:
        msg = "the file ends before its last pixel (a copy that broke off?)"
        raise ExtractionError(msg)
    step = offsets[1] - offsets[0] if len(offsets) > 1 else size
    if step < size or any(b - a != step for a, b in pairwise(offsets)):
        msg = "its images lie at uneven distances in the file, which is not drawn"
        raise ExtractionError(msg)
    raw = np.memmap(
        path, mode="r", dtype=np.uint8, offset=offsets[0], shape=(step * (len(offsets) - 1) + size,)
    )
    if len(offsets) == 1:
        return np.ndarray(shape, dtype, raw)
    rows, columns = shape
    strides = (step, columns * dtype.itemsize, dtype.itemsize)
    return np.ndarray((len(offsets), rows, columns), dtype, raw, strides=strides)


def _by_pillow(path: Path, page: Any, shape: tuple[int, ...], problem: str) -> tuple[Any | None, str]:
    rows, columns = shape
    if page.nbytes > DECODED_LIMIT:
        return None, f"{columns} × {rows} compressed pixels are more than is decoded"
    try:
        with open_picture(path) as image:
            raster = picture_raster(path, image)
    except ExtractionError as fault:
        return None, f"its pixels are not drawn: {fault}"
    return raster.array, problem or raster.problem


def _colour_type(channel: Any, channels: int) -> Any:
    import numpy as np

    return np.dtype([(name, channel) for name in CHANNELS[:channels]])


def _as_colours(array: Any) -> Any:
    """``(rows, columns, 3 or 4)`` as ``(rows, columns)`` of structures."""
    import numpy as np

    if array.ndim == 2:
        return array
    return np.ascontiguousarray(array).view(_colour_type(array.dtype, array.shape[2]))[..., 0]
