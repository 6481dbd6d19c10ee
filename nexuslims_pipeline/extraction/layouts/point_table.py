"""Maps written as text: a line of numbers for each point, such as EBSD systems export.

Such files reach gigabytes, so that only their beginning and end are read to know the grid, and a map to show is made
of as many rows as `MAP_BYTES` allow.
"""

from dataclasses import dataclass
from math import ceil, isfinite
from pathlib import Path
from typing import Any, Final

from nexuslims_pipeline.extraction.facts import Facts
from nexuslims_pipeline.extraction.layouts.ebsd import Grid, warn_of_missing

HEAD_BYTES: Final = 256 << 10
"""Lines from which the grid is taken."""
TAIL_BYTES: Final = 4 << 10
COUNTED_BYTES: Final = 32 << 20
"""Largest file whose points are counted."""
MAP_BYTES: Final = 16 << 20
"""Text that is read to draw a map; what is longer is drawn of evenly spaced rows."""
MOST_CELLS: Final = 1 << 24
"""Points of a map that is drawn whole."""
HALF_ROUNDING: Final = 0.25
"""Part of a step that is added before rounding down: points of a hexagonal grid lie half a step to the right."""
TOLERANCE: Final = 0.1
"""Part of a step by which a point may lie beside the grid."""


@dataclass(frozen=True, slots=True)
class PointTable:
    """Lines of numbers that follow a header."""

    path: Path
    start: int
    """Where the first line begins."""
    width: int
    """Numbers of a line."""
    x: int
    """Which number of a line is x and (`y`) y, from 0."""
    y: int

    @property
    def size(self) -> int:
        """Bytes of all lines."""
        return max(0, self.path.stat().st_size - self.start)

    def lines(self, offset: int, limit: int) -> Any:
        """Whole lines within `limit` bytes from `offset`, which counts from the first line.

        Returns
        -------
        numpy.ndarray
            Shape ``(lines, width)``; NaN for what is no number. A line that began before `offset` is left out.
        """
        with self.path.open("rb") as file:
            file.seek(self.start + max(0, offset - 1))
            raw = file.read(limit + (offset > 0))
            ends_here = not file.read(1)
        if offset > 0:
            raw = raw.partition(b"\n")[2]
        if not ends_here:
            raw = raw[: raw.rfind(b"\n") + 1]
        return _numbers(raw, self.width)

    def count(self) -> int | None:
        """Number of lines that are not empty; None when the file is too long to count them."""
        if self.size > COUNTED_BYTES:
            return None
        with self.path.open("rb") as file:
            file.seek(self.start)
            return sum(1 for line in file if len(line) > self.width)

    def grid(self) -> Grid | None:
        """Grid on which the points lie, as far as the first and the last lines show it; steps in the file's unit.

        Returns
        -------
        Grid or None
            None when the points lie on no grid of rows, or the first row is too long to be seen whole.
        """
        import numpy as np

        head = self.lines(0, HEAD_BYTES)
        if len(head) < 3:
            return None
        x, y = head[:, self.x], head[:, self.y]
        if not bool(np.isfinite(y[0])):
            return None
        turns = np.flatnonzero(y != y[0])
        columns = int(turns[0]) if turns.size else (len(head) if self.size <= HEAD_BYTES else 0)
        if columns < 2 or not bool(np.isfinite(x[:columns]).all()):
            return None
        steps = np.diff(x[:columns])
        step = _rounded(float(np.median(steps)))
        if not step > 0 or bool((np.abs(steps - step) > TOLERANCE * step).any()):
            return None
        if not turns.size:
            return Grid(1, columns, 0.0, step)
        row_step = _rounded(float(y[turns[0]] - y[0]))
        last = self.lines(max(0, self.size - TAIL_BYTES), TAIL_BYTES)
        heights = last[:, self.y][np.isfinite(last[:, self.y])] if len(last) else y
        if not row_step > 0 or not heights.size:
            return None
        rows = round((float(heights.max()) - float(y[0])) / row_step) + 1
        found = Grid(rows, columns, row_step, step)
        return found if self.may_hold(found) else None

    def may_hold(self, grid: Grid) -> bool:
        """Whether the file is long enough for a line for each point, but for the last row."""
        shortest = 2 * self.width - 1
        return grid.rows >= 1 and max(0, grid.rows - 1) * grid.columns * shortest <= self.size


class PointMap:
    """One number of each point as a map, read when it is sliced; rows before columns, NaN where there is no point.

    Parameters
    ----------
    table
        Where the points stand.
    grid
        On which they lie, in the unit of the table.
    column
        Which number of a line is shown.
    """

    step: int
    """Distance of the points that are shown, in rows and columns."""

    def __init__(self, table: PointTable, grid: Grid, column: int) -> None:
        import numpy as np

        self.step = max(1, ceil(table.size / MAP_BYTES), ceil((grid.rows * grid.columns / MOST_CELLS) ** 0.5))
        self.shape = self.chunks = (ceil(grid.rows / self.step), ceil(grid.columns / self.step))
        self.ndim = 2
        self.dtype = np.dtype("f4")
        self._source = (table, grid, column)
        self._array: Any = None

    def __getitem__(self, key: Any) -> Any:
        if self._array is None:
            self._array = self._read()
        return self._array[key]

    def _read(self) -> Any:
        import numpy as np

        table, grid, _ = self._source
        array = np.full(self.shape, np.nan, self.dtype)
        origin = table.lines(0, TAIL_BYTES)[0]
        if self.step == 1:
            self._place(array, table.lines(0, table.size), origin)
            return array
        row_bytes = min(ceil(table.size / grid.rows), MAP_BYTES) + TAIL_BYTES
        for row in range(0, grid.rows, self.step):
            self._place(array, table.lines(table.size * row // grid.rows, row_bytes), origin)
        return array

    def _place(self, array: Any, lines: Any, origin: Any) -> None:
        """Put the numbers of `lines` where their points lie.

        Lines differ in length, so that rows are not found where they are looked for: a row that is not wanted stands
        for the one above it.
        """
        import numpy as np

        table, grid, column = self._source
        inside = np.isfinite(lines[:, [table.x, table.y]]).all(axis=1)
        places = []
        for of, step, size in ((table.y, grid.row_step, grid.rows), (table.x, grid.column_step, grid.columns)):
            place = np.floor((lines[:, of] - origin[of]) / (step or 1.0) + HALF_ROUNDING)
            inside &= (place >= 0) & (place < size)
            places.append(place)
        down, across = (place[inside].astype(np.int64) for place in places)
        numbers = lines[inside, column]
        exact = down % self.step == 0
        empty = np.isnan(array[down // self.step, across // self.step])
        for chosen in (empty & ~exact, exact):
            chosen &= across % self.step == 0  # noqa: PLW2901 - in place
            array[down[chosen] // self.step, across[chosen] // self.step] = numbers[chosen]


def _numbers(raw: bytes, width: int) -> Any:
    import numpy as np

    words = raw.replace(b",", b".").split()
    if len(words) % width == 0 and raw.count(b"\n") in (len(words) // width, len(words) // width - 1):
        try:
            return np.array(words, dtype="S").astype(float).reshape(-1, width)
        except ValueError:
            pass
    rows = [line.split() for line in raw.replace(b",", b".").split(b"\n")]
    whole = [[_number(word) for word in row[:width]] for row in rows if len(row) >= width]
    return np.array(whole, dtype=float).reshape(-1, width)


def _number(word: bytes) -> float:
    try:
        value = float(word)
    except ValueError:
        return float("nan")
    return value if isfinite(value) else float("nan")


def _rounded(step: float) -> float:
    """A difference without the noise of its last binary digits."""
    return float(f"{step:.6g}")


def true_grid(declared: Grid, seen: Grid, count: int | None, facts: Facts) -> Grid:
    """Grid of a map whose header says `declared`, and whose points lie on `seen`: the header's, unless it is wrong.

    Parameters
    ----------
    declared, seen
        Grids in the same unit.
    count
        Points in the file, if they were counted.
    facts
        Take the warnings: a map that was cut off, or a header that describes another one.
    """
    if not declared.rows or not declared.columns:
        facts.warnings["Scan Grid"] = "The header does not tell rows and columns; they are taken from the points."
        return seen
    steps = ((declared.row_step, seen.row_step), (declared.column_step, seen.column_step))
    agree = all(abs(told - found) <= TOLERANCE * max(told, found) or 0 in (told, found) for told, found in steps)
    if agree and declared.columns == seen.columns and seen.rows <= declared.rows:
        warn_of_missing(facts, count or seen.rows * seen.columns, declared.rows * declared.columns, "points")
        return Grid(declared.rows, declared.columns, seen.row_step or declared.row_step, seen.column_step)
    facts.warnings["Scan Grid"] = (
        f"The header says {_words(declared)}, but the points of the file lie on {_words(seen)}; those are kept."
    )
    return seen


def _words(grid: Grid) -> str:
    return f"{grid.rows} rows ({grid.row_step:g} apart) of {grid.columns} points ({grid.column_step:g} apart)"
