"""Zarr stores in a zip file, read without the zarr package and without running anything that the file names.

Versions 2 (https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html) and 3 of the format: metadata are JSON members of
the archive, each chunk of an array is a member. Only plain numbers are read, compressed by one of `CODECS`; object
arrays, pickles and filters are refused. Every size is checked before memory is taken for it.
"""

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import product
from math import ceil, prod
from pathlib import Path
from typing import Any, Final

from nexuslims_pipeline.extraction.layouts.hdf5 import complete
from nexuslims_pipeline.extraction.model import ExtractionError

MOST_MEMBERS: Final = 1 << 20
JSON_BYTES: Final = 4 << 20
"""Longest member of metadata."""
ALL_JSON_BYTES: Final = 32 << 20
CHUNK_BYTES: Final = 512 << 20
"""Largest chunk that is unpacked."""
NUMCODECS: Final = {"blosc": "Blosc", "zstd": "Zstd", "lz4": "LZ4"}
"""Classes of the package numcodecs, which refuse to unpack more than they are given room for."""
CODECS: Final = frozenset({*NUMCODECS, "zlib", "gzip"})
NUMBER_KINDS: Final = "biufc"
DEPTH: Final = 64


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip file; damage inside the block is an `ExtractionError`."""
    try:
        with zipfile.ZipFile(path) as archive:
            if len(archive.namelist()) > MOST_MEMBERS:
                msg = "its archive has more members than any measurement"
                raise ExtractionError(msg)
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeDecodeError) as fault:
        msg = f"the archive is cut off or damaged: {str(fault)[:160]}"
        raise ExtractionError(msg) from fault


class ZarrTree:
    """Metadata of a store.

    Parameters
    ----------
    archive
        From `open_zip`.

    Raises
    ------
    ExtractionError
        When they are absurdly large.
    """

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.attributes: dict[str, dict[str, Any]] = {}
        """Of each group and array, by its path; that of the root is empty."""
        self.arrays: dict[str, dict[str, Any]] = {}
        """What describes each array, in the words of version 2 or 3."""
        self.groups: set[str] = set()
        self.damaged: list[str] = []
        """Members of metadata that cannot be read."""
        left = ALL_JSON_BYTES
        for name in sorted(set(archive.namelist())):
            folder, _, file = name.rpartition("/")
            if file not in (".zattrs", ".zarray", ".zgroup", "zarr.json") or folder.count("/") > DEPTH:
                continue
            left -= archive.getinfo(name).file_size
            if archive.getinfo(name).file_size > JSON_BYTES or left < 0:
                msg = f"its metadata ({name[:80]}) are larger than any"
                raise ExtractionError(msg)
            try:
                self._take(folder, file, _json(archive, name))
            except (ValueError, RecursionError, zipfile.BadZipFile, zlib.error, EOFError):
                self.damaged.append(name)

    def _take(self, folder: str, file: str, values: dict[str, Any]) -> None:
        if file == ".zattrs":
            self.attributes[folder] = values
        elif file == ".zarray" or values.get("node_type") == "array":
            self.arrays[folder] = values
        else:
            self.groups.add(folder)
        if file == "zarr.json" and isinstance(values.get("attributes"), dict):
            self.attributes[folder] = values["attributes"]


def _json(archive: zipfile.ZipFile, name: str) -> dict[str, Any]:
    with archive.open(name) as member:
        values = json.loads(member.read(JSON_BYTES).decode("utf-8", "replace"))
    return values if isinstance(values, dict) else {}


class ZarrNumbers:
    """An array of numbers, whose chunks are unpacked when it is sliced.

    Parameters
    ----------
    path
        The zip file.
    folder
        Path of the array in it.
    described
        Its ``.zarray`` or ``zarr.json``.

    Raises
    ------
    ExtractionError
        If it holds objects in place of numbers, or is packed in a way that is not read.
    """

    def __init__(self, path: Path, folder: str, described: Mapping[str, Any]) -> None:
        is_third = described.get("zarr_format") == 3
        plan = _third(described) if is_third else _second(described)
        self.shape, self.chunks, self.dtype, self._order, self._separator, self._codec = plan
        self.ndim = len(self.shape)
        self._fill = described.get("fill_value")
        self._path = path
        self._start = f"{folder}/c{self._separator}" if is_third else f"{folder}/"
        if prod(self.chunks) * self.dtype.itemsize > CHUNK_BYTES:
            msg = "its chunks are too large to be unpacked"
            raise ExtractionError(msg)

    def __getitem__(self, key: Any) -> Any:
        import numpy as np

        wanted = [np.arange(size)[part] for size, part in zip(self.shape, complete(key, self.ndim), strict=True)]
        lists = [np.atleast_1d(each) for each in wanted]
        result = np.full([len(each) for each in lists], self._filling(), self.dtype)
        with open_zip(self._path) as archive:
            ranges = [sorted(set((each // size).tolist())) for each, size in zip(lists, self.chunks, strict=True)]
            for place in product(*ranges):
                chunk = self._chunk(archive, place)
                if chunk is None:
                    continue
                inside = [
                    np.flatnonzero(each // size == n) for each, size, n in zip(lists, self.chunks, place, strict=True)
                ]
                within = [
                    each[i] - n * size for each, i, size, n in zip(lists, inside, self.chunks, place, strict=True)
                ]
                result[np.ix_(*inside)] = chunk[np.ix_(*within)]
        return result.reshape([len(each) for each, one in zip(lists, wanted, strict=True) if one.ndim])

    def transpose(self, order: Sequence[int]) -> Any:
        """Itself, or its numbers at once when the axes change their places."""
        return self if tuple(order) == tuple(range(self.ndim)) else self[...].transpose(order)

    def _filling(self) -> Any:
        is_number = isinstance(self._fill, int | float) and not isinstance(self._fill, bool)
        return self._fill if is_number else (float("nan") if self._fill == "NaN" and self.dtype.kind in "fc" else 0)

    def _chunk(self, archive: zipfile.ZipFile, place: Sequence[int]) -> Any:
        """Numbers of a chunk; None where there is none, so that the filling holds."""
        import numpy as np

        name = self._start + self._separator.join(map(str, place))
        size = prod(self.chunks) * self.dtype.itemsize
        try:
            member = archive.getinfo(name)
        except KeyError:
            return None
        if member.file_size > size + (1 << 20):
            msg = f"{name} is larger than its array allows"
            raise ExtractionError(msg)
        raw = _unpacked(archive.read(member), size, self._codec)
        return np.frombuffer(raw, self.dtype, count=prod(self.chunks)).reshape(self.chunks, order=self._order)


def _unpacked(raw: bytes, size: int, codec: str) -> Any:
    """`size` bytes of what a chunk unpacks to.

    Raises
    ------
    ExtractionError
        If it is damaged, or unpacks to more.
    """
    import numpy as np

    if not codec:
        found: Any = raw
    elif codec in ("zlib", "gzip"):
        found = zlib.decompressobj(wbits=47).decompress(raw, size)
    else:
        try:
            reader = getattr(import_module("numcodecs"), NUMCODECS[codec])()
        except (ImportError, AttributeError) as fault:
            msg = f"its chunks are packed by {codec}, which takes the Python package numcodecs"
            raise ExtractionError(msg) from fault
        found = np.empty(size, "u1")
        try:
            reader.decode(raw, out=found)
        except (RuntimeError, ValueError) as fault:
            msg = f"a chunk is damaged ({str(fault)[:80]})"
            raise ExtractionError(msg) from fault
    if len(found) != size:
        msg = f"a chunk holds {len(found)} bytes in place of {size}"
        raise ExtractionError(msg)
    return found


def _second(described: Mapping[str, Any]) -> tuple[Any, ...]:
    shape, chunks = _sizes(described.get("shape")), _sizes(described.get("chunks"))
    compressor = described.get("compressor")
    codec = str(compressor.get("id")) if isinstance(compressor, dict) else ""
    if described.get("filters"):
        msg = "its numbers are filtered in a way that is not read (objects or rounded numbers)"
        raise ExtractionError(msg)
    separator = "/" if described.get("dimension_separator") == "/" else "."
    order = "F" if described.get("order") == "F" else "C"
    return (*_checked(shape, chunks, codec), _number_type(described.get("dtype")), order, separator, codec)


def _third(described: Mapping[str, Any]) -> tuple[Any, ...]:
    grid = described.get("chunk_grid") or {}
    shape = _sizes(described.get("shape"))
    chunks = _sizes((grid.get("configuration") or {}).get("chunk_shape") if isinstance(grid, dict) else None)
    codecs = [each for each in described.get("codecs") or [] if isinstance(each, dict)]
    names = [str(each.get("name")) for each in codecs]
    packing = [name for name in names if name not in ("bytes", "endian")]
    endian = next((each.get("configuration") or {} for each in codecs if each.get("name") == "bytes"), {}).get("endian")
    if len(packing) > 1:
        msg = f"its chunks are packed by {', '.join(packing)[:80]}, which is not read"
        raise ExtractionError(msg)
    encoding = described.get("chunk_key_encoding") or {}
    separator = (encoding.get("configuration") or {}).get("separator", "/") if isinstance(encoding, dict) else "/"
    codec = packing[0] if packing else ""
    kind = _number_type(described.get("data_type")).newbyteorder(">" if endian == "big" else "<")
    return (*_checked(shape, chunks, codec), kind, "C", "." if separator == "." else "/", codec)


def _sizes(value: Any) -> tuple[int, ...]:
    if isinstance(value, list) and all(isinstance(size, int) and not isinstance(size, bool) for size in value):
        return tuple(value)
    return ()


def _checked(shape: tuple[int, ...], chunks: tuple[int, ...], codec: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    is_sane = 0 < len(shape) == len(chunks) <= 32 and all(0 <= size < 1 << 48 for size in shape) and min(chunks) > 0
    if not is_sane:
        msg = "its shape makes no sense"
        raise ExtractionError(msg)
    if codec and codec not in CODECS:
        msg = f"its chunks are packed by {codec[:40]!r}, which is not read"
        raise ExtractionError(msg)
    if prod(ceil(size / chunk) for size, chunk in zip(shape, chunks, strict=True)) > 1 << 32:
        msg = "it has more chunks than any measurement"
        raise ExtractionError(msg)
    return shape, chunks


def _number_type(text: Any) -> Any:
    """NumPy type of plain numbers.

    Raises
    ------
    ExtractionError
        If it is that of objects or texts.
    """
    import numpy as np

    try:
        found = np.dtype(text) if isinstance(text, str) and len(text) < 16 else None
    except TypeError:
        found = None
    if found is None or found.kind not in NUMBER_KINDS:
        msg = f"it holds {str(text)[:40]} in place of numbers, which are not read"
        raise ExtractionError(msg)
    return found
