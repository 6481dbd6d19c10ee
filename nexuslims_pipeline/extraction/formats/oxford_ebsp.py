"""EBSD patterns of Oxford Instruments AZtec (``.ebsp``).

Little endian:

=================  ======  ===============================================================================
place              type    meaning
=================  ======  ===============================================================================
0                  i8      minus the version; files of version 0 begin with the next line
8, from v4 on 9    i8 × n  where each pattern begins, in the order of the map; 0: not stored
at a pattern       i4 × 4  whether it is compressed, rows, columns, bytes
                   u1, u2  its pixels
after it, v1       f8 × 2  x and y of the beam, µm
after it, from v2  u1, f8  whether x follows, and x; the same for y
=================  ======  ===============================================================================

The number of patterns is told by where the first one in the file begins: the table ends there. Layout after
https://kikuchipy.org (information of Oxford Instruments). The header tells nothing of the instrument: that stands in
the ``.h5oina``, ``.cpr`` or ``.ctf`` file of the scan.
"""

import struct
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts
from nexuslims_pipeline.extraction.layouts.ebsd import Grid, pattern_signal, warn_of_missing
from nexuslims_pipeline.extraction.layouts.frames import Frames
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.signals import Signal, Source

LAST_VERSION: Final = 20
NINE_VERSION: Final = 4
"""From this version on a byte lies between the version and the table."""
TABLE_BYTES: Final = 64 << 20
"""Longest table that is read: 8 million patterns."""
LARGEST_SIDE: Final = 1 << 14
PATTERN: Final = struct.Struct("<4i")


class OxfordEbsp(Extractor):
    """Patterns that AZtec stored beside a map."""

    name: ClassVar[str] = "oxford_ebsp"
    format_name: ClassVar[str] = "Oxford Instruments patterns"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".ebsp"})

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether a version and places of patterns stand at its beginning."""
        if len(head) < 24:
            return False
        version, start = _version(head)
        first = struct.unpack_from("<q", head, start)[0]
        return 0 < version <= LAST_VERSION or (version == 0 and 8 <= first < source.size)

    def extract(self, source: Source) -> list[Signal]:
        """Read the table of patterns; the patterns stay in the file.

        Raises
        ------
        ExtractionError
            If the table or the first pattern is damaged.
        """
        with source.path.open("rb") as file:
            version, places = _table(file, source.path.stat().st_size)
            stored = places[places > 0]
            first = _pattern(file, int(stored.min()))
            whole = stored[stored <= source.path.stat().st_size - PATTERN.size - first.size]
            if not whole.size:
                msg = "it is damaged: the file ends before its first pattern does"
                raise ExtractionError(msg)
            grid = _grid(file, version, first, whole) if whole.size == places.size else None
        facts = Facts()
        facts.add("Format Version", version)
        facts.add("Patterns Not Stored", int(places.size - stored.size) or None)
        warn_of_missing(facts, int(whole.size), int(stored.size))
        scan = grid.scan(int(whole.size)) if grid else (int(whole.size),)
        array = None
        if first.is_compressed:
            facts.warnings["Pixels"] = "The patterns are compressed, and are not read."
        else:
            read = _Reader(source.path, whole, first)
            array = Frames(scan, (first.rows, first.columns), read.dtype, read)
        native = {"version": version, "patterns": int(places.size), "rows": first.rows, "columns": first.columns}
        signal = pattern_signal(facts, grid or Grid(0, 0), array, scan, native)
        signal.shape = (*scan, first.rows, first.columns)
        return [signal]


@dataclass(frozen=True, slots=True)
class _Pattern:
    is_compressed: bool
    rows: int
    columns: int
    size: int
    """Bytes."""


class _Reader:
    """Reads the patterns one by one."""

    def __init__(self, path: Path, places: Any, pattern: _Pattern) -> None:
        import numpy as np

        self.dtype = np.dtype(f"<u{pattern.size // (pattern.rows * pattern.columns)}")
        self._path = path
        self._places = places
        self._shape = (pattern.rows, pattern.columns)

    def __call__(self, number: int) -> Any:
        import numpy as np

        offset = int(self._places[number]) + PATTERN.size
        return np.memmap(self._path, mode="r", dtype=self.dtype, offset=offset, shape=self._shape)


def _version(head: bytes) -> tuple[int, int]:
    """Version, and where the table begins."""
    version = -struct.unpack_from("<q", head)[0]
    if version < 0 or version == 0:
        return 0, 0
    return version, 9 if version >= NINE_VERSION else 8


def _table(file: BinaryIO, size: int) -> tuple[int, Any]:
    """Version, and where each pattern begins.

    Raises
    ------
    ExtractionError
        If the table does not end where the first pattern begins.
    """
    import numpy as np

    raw = file.read(min(size, TABLE_BYTES))
    version, start = _version(raw)
    entries = np.frombuffer(raw, "<i8", count=(len(raw) - start) // 8, offset=start)
    nearest = np.minimum.accumulate(np.where(entries > 0, entries, np.iinfo(np.int64).max))
    ends = np.flatnonzero(start + 8 * (np.arange(entries.size) + 1) >= nearest)
    if not ends.size or start + 8 * (int(ends[0]) + 1) != int(nearest[ends[0]]):
        msg = "it is damaged: its table of patterns is cut off, or makes no sense"
        raise ExtractionError(msg)
    return version, entries[: int(ends[0]) + 1]


def _pattern(file: BinaryIO, place: int) -> _Pattern:
    file.seek(place)
    raw = file.read(PATTERN.size)
    if len(raw) < PATTERN.size:
        msg = "it is damaged: the file ends before its first pattern"
        raise ExtractionError(msg)
    compressed, rows, columns, size = PATTERN.unpack(raw)
    is_sane = 0 < rows <= LARGEST_SIDE and 0 < columns <= LARGEST_SIDE
    if not is_sane or size <= 0 or (not compressed and size not in (rows * columns, 2 * rows * columns)):
        msg = f"it is damaged: its first pattern would have {rows} × {columns} pixels in {size} bytes"
        raise ExtractionError(msg)
    return _Pattern(bool(compressed), rows, columns, size)


def _grid(file: BinaryIO, version: int, pattern: _Pattern, places: Any) -> Grid | None:
    """Rows, columns and step of the map, by where the beam was at the first, second and last pattern."""
    if places.size < 2:
        return None
    beams = [_beam(file, version, int(place) + PATTERN.size + pattern.size) for place in places[[0, 1, -1]]]
    if None in beams:
        return None
    (x, y), (next_x, _), (last_x, last_y) = (beam for beam in beams if beam is not None)
    step = float(f"{abs(next_x - x):.6g}")
    if not isfinite(step) or step <= 0:
        return None
    columns, rows = (round(abs(last - begin) / step) + 1 for begin, last in ((x, last_x), (y, last_y)))
    return Grid(rows, columns, step, step) if rows * columns == places.size else None


def _beam(file: BinaryIO, version: int, place: int) -> tuple[float, float] | None:
    """Where the beam was, µm."""
    file.seek(place)
    raw = file.read(18)
    if version == 1 and len(raw) >= 16:
        found = struct.unpack_from("<2d", raw)
    elif version > 1 and len(raw) == 18 and raw[0] == raw[9] == 1:
        found = (struct.unpack_from("<d", raw, 1)[0], struct.unpack_from("<d", raw, 10)[0])
    else:
        return None
    return found if all(abs(value) < 1e9 for value in found) else None


EXTRACTOR = OxfordEbsp()
