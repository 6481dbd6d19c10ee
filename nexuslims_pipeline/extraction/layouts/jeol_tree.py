"""Trees of tagged values, the headers of the files of JEOL's Analysis Station; little endian.

A tree: i1 1, u4 length of a name, name, i4 type, u4 length of a value, value, and the branches of this name in the
same form; i1 -1 ends the branch. Types: 0 none; 1, 6 u1; 2, 7, 14 u2; 3, 8 i4; 4, 9 f4; 5, 10 f8; 11 bool; 12, 13, 20
text.
"""

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, TypeAlias

from nexuslims_pipeline.extraction.model import ExtractionError
from nexuslims_pipeline.extraction.vendor_text import decode

Tree: TypeAlias = dict[str, Any]

VALUE: Final = ""
"""Key of a node's own value beside its branches."""
TYPES: Final = {
    1: "B", 6: "B", 2: "H", 7: "H", 14: "H", 3: "i", 8: "i", 4: "f", 9: "f", 5: "d", 10: "d", 11: "?", 65552: "?",
    65553: "?",
}  # fmt: skip
TEXTS: Final = (12, 13, 20)
MOST_NODES: Final = 50_000
DEEPEST: Final = 64
LONGEST_NAME: Final = 4096
LONGEST_TEXT: Final = 64 << 10
LONGEST_ARRAY: Final = 256
"""Bytes of the longest array that is read with the tree; longer ones stay in the file."""
CUT_OFF: Final = "it is damaged: it ends within its header (a copy that broke off?)"


@dataclass(frozen=True, slots=True)
class Block:
    """Numbers that stay in the file."""

    place: int
    length: int
    """Bytes."""
    kind: int
    """As in `TYPES`."""

    def __str__(self) -> str:
        return f"{self.length} bytes"


def read_tree(file: BinaryIO, start: int, size: int) -> tuple[Tree, str]:
    """Tree that begins at `start` in a file of `size` bytes, as far as it can be read.

    Returns
    -------
    tuple
        Values by name: a node with branches is a dict, its own value under `VALUE`; long arrays are `Block`. And words
        on why the rest could not be read, empty when there is none.
    """
    file.seek(start)
    root: Tree = {}
    branches, names = [root], [""]
    try:
        for _ in range(MOST_NODES):
            mark = file.read(1)
            if mark == b"\1" and len(branches) <= DEEPEST:
                name, node = _node(file, size)
                free = name if name not in branches[-1] else f"{name} ({len(branches[-1])})"
                branches[-1][free] = node
                branches.append(node)
                names.append(free)
            elif mark == b"\xff" and len(branches) > 1:
                name = names.pop()
                if branches.pop().keys() <= {VALUE}:
                    branches[-1][name] = branches[-1][name].get(VALUE)
            elif len(branches) == 1 and root:
                return root, ""
            else:
                break
    except ExtractionError as fault:
        return root, str(fault)
    return root, CUT_OFF if not mark else "it is damaged: its header makes no sense"


def _node(file: BinaryIO, size: int) -> tuple[str, Tree]:
    """Name and value of a node; the file stands behind them then."""
    [length] = unpack(file, "<I")
    name = decode(file.read(length).rstrip(b"\0"))[0] if length <= LONGEST_NAME else ""
    kind, length = unpack(file, "<iI")
    place = file.tell()
    if not name or place + length > size:
        raise ExtractionError(CUT_OFF)
    if kind in TEXTS and length <= LONGEST_TEXT:
        parts = [decode(part)[0] for part in file.read(length).rstrip(b"\0").split(b"\0")]
        return name, {VALUE: parts[0] if len(parts) == 1 else parts}
    if kind in TYPES and length <= LONGEST_ARRAY:
        values = [_shortest(value, TYPES[kind]) for (value,) in _values(file.read(length), TYPES[kind])]
        return name, {VALUE: values[0] if len(values) == 1 else values} if values else {}
    file.seek(place + length)
    return name, {VALUE: Block(place, length, kind)} if length else {}


def _values(raw: bytes, code: str) -> Iterator[tuple[Any, ...]]:
    form = struct.Struct("<" + code)
    return form.iter_unpack(raw[: len(raw) // form.size * form.size])


def _shortest(value: Any, code: str) -> Any:
    """Undo the rounding of a decimal number to four bytes: 7.475 rather than 7.4749999."""
    return float(f"{value:.7g}") if code == "f" else value


def unpack(file: BinaryIO, form: str) -> tuple[Any, ...]:
    """Next numbers of an open file.

    Raises
    ------
    ExtractionError
        If it ends before.
    """
    raw = file.read(struct.calcsize(form))
    if len(raw) < struct.calcsize(form):
        raise ExtractionError(CUT_OFF)
    return struct.unpack(form, raw)


def u4(head: bytes, place: int) -> int:
    """Number of four bytes at a place of the file's head.

    Raises
    ------
    ExtractionError
        If the head ends before.
    """
    if len(head) < place + 4:
        raise ExtractionError(CUT_OFF)
    return int.from_bytes(head[place : place + 4], "little")


def at(tree: Any, *path: str) -> Any:
    """Value at a path; None when there is none, or only branches."""
    for name in path:
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree.get(VALUE) if isinstance(tree, Mapping) else tree


def at_branch(tree: Any, *path: str) -> Tree:
    """Branch at a path; empty when there is none."""
    for name in path:
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree if isinstance(tree, dict) else {}


def page(tree: Any, value: str) -> Tree:
    """The branch of `tree` whose own value is `value`: ``PARAMPAGE0`` with the value ``SEM``."""
    pages = tree.values() if isinstance(tree, Mapping) else ()
    return next((each for each in pages if isinstance(each, dict) and each.get(VALUE) == value), {})


def number_of(value: Any) -> float:
    """`value` as a number; 0 when it is none, or not finite."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if plain and math.isfinite(value) else 0.0
