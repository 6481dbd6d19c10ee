"""The tag tree of Gatan DigitalMicrograph files, DM3 and DM4.

The file is one tree of tags; only the tags are read, the pixels stay in the file until somebody slices them.

Layout, as documented by Dr Chris Boothroyd (Ernst Ruska-Centre, "DM3 format" and "DM4 changes"). Counts and
lengths written N are 4 bytes in DM3 and 8 in DM4, big-endian always; values follow the byte order that the
header names.

=========  ==========================================================================================
file       version (4 bytes), file size (N), little-endian flag (4), root group
group      sorted (1 byte), open (1), number of tags (N), tags
tag        kind (1 byte: 20 group, 21 data), name length (2), name, [DM4: size of the tag (8)], body
data body  ``%%%%``, number of layout words (N), layout words (N each), values
layout     ``type`` | ``15, name length, fields, (name length, type)…`` | ``18, length`` |
           ``20, layout of one element…, count``
=========  ==========================================================================================
"""

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexuslims_pipeline.extraction.model import ExtractionError

if TYPE_CHECKING:
    import numpy as np

GROUP, DATA = 20, 21
STRUCT, TEXT, ARRAY = 15, 18, 20
NUMBERS = {
    2: "i2", 3: "i4", 4: "u2", 5: "u4", 6: "f4", 7: "f8", 8: "?", 9: "i1", 10: "u1", 11: "i8", 12: "u8",
}  # fmt: skip
MAX_TAGS = 500_000
MAX_DEPTH = 64
MAX_LAYOUT = 4096
MAX_TAG_BYTES = 1 << 20
"""A longer array is not read with the tags: it stays in the file as a `Block`."""
_WORD = struct.Struct(">I")
_KIND_AND_NAME = struct.Struct(">BH")
_SIZE_OF_DM4_TAG = 8
_STRUCT_CODES = dict(zip(NUMBERS, "hiHIfd?bBqQ", strict=True))


@dataclass(frozen=True, slots=True)
class Block:
    """An array that was left in the file."""

    offset: int
    """Bytes from the start of the file."""
    shape: tuple[int, ...]
    dtype: "np.dtype[Any]"


def is_digital_micrograph(head: bytes) -> bool:
    """Whether a file begins with a version, a byte order and a group of tags as only DigitalMicrograph writes them."""
    version = int.from_bytes(head[:4], "big")
    start = {3: 8, 4: 12}.get(version)
    if start is None or len(head) < start + 6:
        return False
    return int.from_bytes(head[start : start + 4], "big") <= 1 and head[start + 4] <= 1 and head[start + 5] <= 1


class _TagReader:
    """Reads the tag tree out of a mapped file, never further than the file goes."""

    def __init__(self, content: "mmap.mmap | bytes") -> None:
        self._content = content
        self._at = 0
        self._tags = 0
        version = self._unpack(_WORD)[0]
        if version not in (3, 4):
            msg = f"version {version} of the DigitalMicrograph format is not known (3 and 4 are)"
            raise ExtractionError(msg)
        self._wide = version == 4
        self._number = struct.Struct(">q" if self._wide else ">i")
        self._unpack(self._number)
        self.byte_order = "<" if self._unpack(_WORD)[0] else ">"

    def read(self) -> dict[str, Any]:
        """All tags: groups as dicts, unnamed tags under their position in the group."""
        return self._group(0)

    def _unpack(self, form: struct.Struct) -> tuple[Any, ...]:
        values = form.unpack_from(self._content, self._at)
        self._at += form.size
        return values

    def _take(self, length: int) -> bytes:
        end = self._at + length
        if length < 0 or end > len(self._content):
            raise struct.error
        taken = self._content[self._at : end]
        self._at = end
        return taken

    def _group(self, depth: int) -> dict[str, Any]:
        self._at += 2
        (count,) = self._unpack(self._number)
        self._tags += count
        if depth > MAX_DEPTH or not 0 <= count <= MAX_TAGS or self._tags > MAX_TAGS:
            msg = "the file is damaged: its tags are nested too deeply or too many"
            raise ExtractionError(msg)
        group: dict[str, Any] = {}
        for position in range(count):
            kind, length = self._unpack(_KIND_AND_NAME)
            name = decoded(self._take(length)) or str(position)
            if self._wide:
                self._at += _SIZE_OF_DM4_TAG
            if kind == DATA:
                group[name] = self._value(name)
            elif kind == GROUP:
                group[name] = self._group(depth + 1)
            else:
                msg = f"the file is damaged: tag {name[:40]!r} is of the unknown kind {kind}"
                raise ExtractionError(msg)
        return group

    def _value(self, name: str) -> Any:
        mark, words = self._unpack(_beginning(self._wide))
        if mark != b"%%%%" or not 1 <= words <= MAX_LAYOUT:
            msg = f"the file is damaged: tag {name[:40]!r} does not start as a tag should"
            raise ExtractionError(msg)
        layout = self._unpack(_layout(words, self._wide))
        try:
            if layout[0] in _STRUCT_CODES:
                (value,) = self._unpack(_scalar(layout[0], self.byte_order))
                return shortest_single(value) if layout[0] == 6 else value
            if layout[0] == ARRAY:
                return self._array(name, self._dtype(layout[1:-1]), layout[-1])
            if layout[0] == TEXT:
                return decoded(self._take(layout[1])).rstrip("\0")
            return self._structure(self._dtype(layout))
        except (KeyError, IndexError, TypeError, ValueError, OverflowError) as fault:
            msg = f"the file is damaged: tag {name[:40]!r} is of an unknown type"
            raise ExtractionError(msg) from fault

    def _dtype(self, layout: tuple[int, ...]) -> "np.dtype[Any]":
        import numpy as np

        kind = layout[0]
        if kind == STRUCT:
            return np.dtype([(f"f{n}", self.byte_order + NUMBERS[code]) for n, code in enumerate(layout[4::2])])
        if kind == TEXT:
            return np.dtype((np.bytes_, layout[1]))
        if kind == ARRAY:
            return np.dtype((self._dtype(layout[1:-1]), (layout[-1],)))
        return np.dtype(self.byte_order + NUMBERS[kind])

    def _structure(self, dtype: "np.dtype[Any]") -> Any:
        import numpy as np

        return shortest(np.frombuffer(self._take(dtype.itemsize), dtype, 1)[0])

    def _array(self, name: str, dtype: "np.dtype[Any]", count: int) -> Any:
        import numpy as np

        offset, size = self._at, count * dtype.itemsize
        if count < 0 or offset + size > len(self._content):
            raise struct.error
        if name == "Data" or size > MAX_TAG_BYTES:
            self._at += size
            return Block(offset, (count,), dtype)
        raw = self._take(size)
        if dtype.kind == "u" and dtype.itemsize == 2:
            return raw.decode("utf-16-le" if self.byte_order == "<" else "utf-16-be", "replace").rstrip("\0")
        return np.frombuffer(raw, dtype) if count else []


@cache
def _beginning(wide: bool) -> struct.Struct:
    return struct.Struct(">4sq" if wide else ">4si")


@cache
def _layout(words: int, wide: bool) -> struct.Struct:
    return struct.Struct(f">{words}{'q' if wide else 'i'}")


@cache
def _scalar(code: int, byte_order: str) -> struct.Struct:
    return struct.Struct(byte_order + _STRUCT_CODES[code])


def dig(tree: Any, *names: str) -> Any:
    """What is in nested groups, None where there is no such tag."""
    for name in names:
        if not isinstance(tree, Mapping):
            return None
        tree = tree.get(name)
    return tree


def text_at(tree: Any, *names: str) -> str:
    """Text in nested groups, empty where there is none."""
    found = dig(tree, *names)
    return found.strip() if isinstance(found, str) else ""


def group_at(tree: Any, *names: str) -> dict[str, Any]:
    """Group in nested groups, empty where there is none."""
    found = dig(tree, *names)
    return dict(found) if isinstance(found, Mapping) else {}


def decoded(raw: bytes) -> str:
    """Text in UTF-8, or as old versions wrote it ("µm") in Latin-1."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def shortest_single(value: float) -> float:
    """The shortest number that is the same in single precision: 0.1, not 0.10000000149."""
    import numpy as np

    return float(str(np.float32(value)))


def shortest(value: Any) -> Any:
    """Give a NumPy scalar as Python's number: 0.1 for the single precision 0.1, a tuple for a structure."""
    if value.dtype.names:
        return tuple(shortest(value[name]) for name in value.dtype.names)
    return float(str(value)) if value.dtype.kind == "f" else value.item()


def read_tags(path: Path) -> tuple[dict[str, Any], str]:
    """Read the tag tree of a DM3 or DM4 file.

    Returns
    -------
    tuple
        The tree and the byte order of the values, ``<`` or ``>``.

    Raises
    ------
    ExtractionError
        When it is empty, cut off or no such file.
    """
    with path.open("rb") as file:
        try:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            msg = "the file is empty"
            raise ExtractionError(msg) from None
        with content:
            return parse_tags(content)


def parse_tags(content: "mmap.mmap | bytes") -> tuple[dict[str, Any], str]:
    """As `read_tags`, of what is in a file already opened or of a copy within another file."""
    try:
        reader = _TagReader(content)
        return reader.read(), reader.byte_order
    except struct.error:
        msg = f"the file is cut off or damaged: it ends at byte {len(content)}, within its tags"
        raise ExtractionError(msg) from None
