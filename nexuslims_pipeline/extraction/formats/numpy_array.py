"""NumPy's ``.npy`` and ``.npz``: arrays without any word on what they are.

An array is mapped where it lies as it is, and decompressed when it is first sliced where not, but never beyond
what its header declares. Arrays of Python objects, which are pickles, are refused unread. Single values in an
``.npz`` are kept as values.
Source: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
"""

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded
from nexuslims_pipeline.extraction.layouts.raster import CHANNELS, DECODED_LIMIT
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.signals import Axis, DatasetType, Pixels, Signal, Source

MAGIC: Final = b"\x93NUMPY"
ZIP_MAGIC: Final = b"PK\x03\x04"
MOST_ARRAYS: Final = 50
MOST_DIMENSIONS: Final = 8
ENDING: Final = ".npy"
VALUE_BYTES: Final = 4096
"""Longest single value that is read out of an ``.npz``."""
NUMBERS: Final = "biufc"


class NumpyArray(Extractor):
    """Arrays of numbers."""

    name: ClassVar[str] = "numpy_array"
    format_name: ClassVar[str] = "NumPy array"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".npy", ".npz"})

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether it is one array, or a ZIP of arrays."""
        if head.startswith(MAGIC):
            return True
        return head.startswith(ZIP_MAGIC) and source.path.suffix.lower() == ".npz"

    def extract(self, source: Source) -> list[Signal]:
        """One signal for each array that is more than a single value."""
        with source.path.open("rb") as file:
            is_archive = file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
        if is_archive:
            return _of_archive(source)
        with source.path.open("rb") as file:
            shape, dtype, fortran = read_header(file)
            start = file.tell()
        array, problem = _mapped(source.path, start, shape, dtype, fortran=fortran)
        facts = Facts()
        if problem:
            facts.warnings["Pixels"] = problem
        return [_signal("", shape, dtype, array, facts)]


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], Any, bool]:
    """Shape, type and order (True: Fortran's) of an array; the file is left where its numbers begin.

    Raises
    ------
    ExtractionError
        If it is damaged, or the array is one of Python objects.
    """
    from numpy.lib import format as npy

    try:
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[npy.read_magic(file)]
        shape, fortran, dtype = read(file)
    except Exception as fault:  # NumPy parses the header as Python's, which may fail in any way
        msg = f"the header of the array is cut off, damaged or of an unknown version ({str(fault)[:120]})"
        raise ExtractionError(msg) from fault
    if dtype.hasobject:
        msg = "its array holds Python objects, which would have to be unpickled: that may run any programme"
        raise ExtractionError(msg)
    if len(shape) > MOST_DIMENSIONS or any(size < 0 for size in shape):
        msg = f"its array of the shape {shape[:9]} is no measurement"
        raise ExtractionError(msg)
    return tuple(int(size) for size in shape), dtype, bool(fortran)


@contextmanager
def open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """A ZIP of arrays; damage found inside the block is an `ExtractionError`."""
    import zlib

    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, KeyError, zlib.error) as fault:
        msg = f"the archive is cut off or damaged ({str(fault)[:120]})"
        raise ExtractionError(msg) from fault


def _mapped(path: Path, start: int, shape: tuple[int, ...], dtype: Any, *, fortran: bool) -> tuple[Any, str]:
    """The numbers in the file, and why there are none."""
    import numpy as np

    if math.prod(shape) * dtype.itemsize > path.stat().st_size - start:
        return None, "The file ends before its last number (a copy that broke off?)."
    if not shape or 0 in shape:
        return None, ""
    return np.memmap(path, dtype, "r", start, shape, "F" if fortran else "C"), ""


class Member:
    """An array in a ZIP, decompressed when it is first sliced."""

    def __init__(self, path: Path, member: str, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape = self.chunks = shape
        self.dtype = dtype
        self.ndim = len(shape)
        self._path = path
        self._member = member
        self._array: Any = None

    def __getitem__(self, key: Any) -> Any:
        if self._array is None:
            self._array = self._read()
        return self._array[key]

    def _read(self) -> Any:
        import numpy as np

        with open_archive(self._path) as archive, archive.open(self._member) as file:
            shape, dtype, fortran = read_header(file)
            size = math.prod(shape) * dtype.itemsize
            raw = file.read(size) if size <= DECODED_LIMIT else b""
        if len(raw) != size:
            msg = f"{self._member} ends before its last number"
            raise ExtractionError(msg)
        return np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")


def _of_archive(source: Source) -> list[Signal]:
    signals: list[Signal] = []
    values: dict[str, Any] = {}
    problems: dict[str, str] = {}
    with open_archive(source.path) as archive:
        members = [member for member in archive.infolist() if member.filename.endswith(ENDING)]
        for member in members[:MOST_ARRAYS]:
            name = member.filename.removesuffix(ENDING)[:80]
            try:
                with archive.open(member) as file:
                    shape, dtype, _ = read_header(file)
                    if not shape and dtype.itemsize <= VALUE_BYTES:
                        values[name] = _value(file.read(dtype.itemsize), dtype)
                        continue
            except ExtractionError as fault:
                problems[name] = f"It was not read: {fault}."
                continue
            signals.append(_of_member(source, member.filename, name, shape, dtype))
    if len(members) > MOST_ARRAYS:
        problems["Arrays"] = f"Only the first {MOST_ARRAYS} of {len(members)} were looked at."
    if not signals:
        msg = "it holds no array that can be read" + "".join(f"; {name}: {text}" for name, text in problems.items())
        raise ExtractionError(msg[:500])
    for signal in signals:
        signal.warnings |= problems
        signal.native = bounded({"Values": values} if values else {})
    return signals


def _of_member(source: Source, filename: str, name: str, shape: tuple[int, ...], dtype: Any) -> Signal:
    facts = Facts()
    if math.prod(shape) * dtype.itemsize > DECODED_LIMIT:
        facts.warnings["Pixels"] = "The compressed array is larger than is decompressed."
        return _signal(name, shape, dtype, None, facts)
    return _signal(name, shape, dtype, Member(source.path, filename, shape, dtype) if 0 not in shape else None, facts)


def _value(raw: bytes, dtype: Any) -> Any:
    import numpy as np

    value = np.frombuffer(raw, dtype)
    return value[0].item() if len(value) == 1 and hasattr(value[0], "item") else "…"


def _signal(name: str, shape: tuple[int, ...], dtype: Any, array: Any, facts: Facts) -> Signal:
    """Signal of an array: the last axis is a spectrum's if it is the only one, else the last two are an image's."""
    facts.add("Number Type", str(dtype) if dtype.names is None else f"{len(dtype.names)} channels of {dtype[0]}")
    has_colours = dtype.names is not None and set(dtype.names) <= set(CHANNELS)
    if array is not None and dtype.kind not in NUMBERS and not has_colours:
        array = None
    is_rgb = len(shape) == 3 and shape[-1] in (3, 4) and str(dtype) in ("uint8", "uint16")
    if is_rgb:
        facts.add("Colour", CHANNELS[: shape[-1]])
        shape = shape[:-1]
    inner = min(len(shape), 2)
    axes = tuple(Axis(size, navigation=place < len(shape) - inner) for place, size in enumerate(shape))
    kind = _kind(shape, is_number=dtype.kind in NUMBERS or has_colours)
    pixels = Pixels(_Colours(array) if is_rgb else array, axes) if array is not None else None
    return facts.give_to(Signal(kind, "Unknown", shape, name=name, pixels=pixels))


class _Colours:
    """An array whose last axis are colours, as one of structures; changed piece by piece."""

    def __init__(self, array: Any) -> None:
        import numpy as np

        self._array = array
        self.shape = tuple(array.shape[:-1])
        self.ndim = len(self.shape)
        self.dtype = np.dtype([(name, array.dtype) for name in CHANNELS[: array.shape[-1]]])

    def __getitem__(self, key: Any) -> Any:
        import numpy as np

        parts = key if isinstance(key, tuple) else (key,)
        whole = parts if any(part is Ellipsis for part in parts) else (*parts, Ellipsis)
        return np.ascontiguousarray(self._array[(*whole, slice(None))]).view(self.dtype)[..., 0]


def _kind(shape: tuple[int, ...], *, is_number: bool) -> DatasetType:
    if not is_number:
        return "Misc"
    return {0: "Misc", 1: "Spectrum", 2: "Image", 3: "Image"}.get(len(shape), "Unknown")  # type: ignore[return-value]


EXTRACTOR = NumpyArray()
