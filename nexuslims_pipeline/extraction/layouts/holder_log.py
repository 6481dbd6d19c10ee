"""Logs of in-situ holders: a line of numbers for each moment, in columns with names and units.

Logs are read line by line and up to `READ_LIMIT`; what is kept of them are the numbers, and notes.
"""

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

from nexuslims_pipeline.extraction.facts import Facts
from nexuslims_pipeline.extraction.layouts.table_axis import axis_through
from nexuslims_pipeline.extraction.vendor_text import decode
from nexuslims_pipeline.metadata.units import tidy, unit_registry
from nexuslims_pipeline.signals import Pixels, Signal

READ_LIMIT: Final = 32 << 20
"""Bytes of a log that are read: a day at four lines a second."""
LONGEST_LINE: Final = 1 << 16
MOST_COLUMNS: Final = 256
MOST_NOTES: Final = 500
HALF_A_DAY: Final = 43_200.0


@dataclass(slots=True)
class LogTable:
    """What a log says, column by column."""

    names: tuple[str, ...]
    numbers: "list[array[float]]"
    """As many as names; NaN for what is no number."""
    texts: dict[int, tuple[str, str]] = field(default_factory=dict)
    """First and last text of columns without numbers."""
    notes: list[tuple[int, str]] = field(default_factory=list)
    """Line and text."""
    odd_lines: int = 0
    """Lines with more or fewer values than names."""
    is_complete: bool = True
    """Whether all of it was read."""
    has_end: bool = True
    """Whether its last line has one."""

    @property
    def rows(self) -> int:
        """Lines that were understood."""
        return len(self.numbers[0])

    def column(self, name: str) -> Any:
        """Numbers of a column as a NumPy array; all NaN when there is none of that name."""
        import numpy as np

        return np.array(self.numbers[self.names.index(name)]) if name in self.names else np.full(self.rows, np.nan)


def _lines(file: BinaryIO) -> Iterator[str]:
    """Decoded lines, without their ends, of the first `READ_LIMIT` bytes that are left."""
    limit = READ_LIMIT
    while limit > 0 and (raw := file.readline(min(LONGEST_LINE, limit))):
        limit -= len(raw)
        yield decode(raw)[0].rstrip("\n")


def read_table(
    file: BinaryIO,
    names: Sequence[str],
    separator: str,
    *,
    notes: str = "",
    clock: str = "",
    spare: int = 0,
) -> LogTable:
    """Read the lines that follow the names of the columns.

    Parameters
    ----------
    file
        At the first line of values.
    names
        Of the columns.
    separator
        Character between values.
    notes
        Name of the column of free text, which may hold separators.
    clock
        Name of the column of times of day, which become seconds since midnight.
    spare
        Values that a line may have beyond the names.
    """
    table = LogTable(tuple(names), [array("d") for _ in names])
    at = table.names.index(notes) if notes else -1
    readers: list[Callable[[str], float]] = [seconds_of_day if name == clock else float for name in names]
    for line in _lines(file):
        cells = line.split(separator)
        beyond = len(cells) - len(names)
        if notes and beyond > 0:
            cells[at : at + beyond + 1] = [separator.join(cells[at : at + beyond + 1])]
            beyond = 0
        if not 0 <= beyond <= spare:
            table.odd_lines += bool(line.strip())
            continue
        if notes and cells[at].strip() and len(table.notes) < MOST_NOTES:
            table.notes.append((table.rows, cells[at].strip()))
        for index, (reader, cell) in enumerate(zip(readers, cells, strict=False)):
            _keep(table, index, cell.strip(), reader)
    table.is_complete = not file.read(1)
    if table.is_complete and file.tell() > 0:
        file.seek(-1, 1)
        table.has_end = file.read(1) in b"\r\n"
    return table


def _keep(table: LogTable, index: int, cell: str, reader: Callable[[str], float]) -> None:
    try:
        value = reader(cell)
    except ValueError:
        value = float("nan")
        if cell:
            table.texts[index] = (table.texts.get(index, (cell, cell))[0], cell)
    table.numbers[index].append(value)


def seconds_of_day(text: str) -> float:
    """Seconds since midnight of ``13:54:37.68``.

    Raises
    ------
    ValueError
        If it is no time of day.
    """
    hours, minutes, seconds = text.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def unwrapped(seconds: Any) -> Any:
    """Times of day, which begin anew at midnight, as seconds since the first."""
    import numpy as np

    days = np.cumsum(np.diff(seconds, prepend=seconds[:1]) < -HALF_A_DAY)
    return seconds - seconds[0] + 86_400.0 * days


def log_signal(table: LogTable, seconds: Any, units: dict[str, str], facts: Facts) -> Signal:
    """The one dataset of a log: ranges of its columns, and the course of the most telling one to show.

    Parameters
    ----------
    table
        Of `read_table`.
    seconds
        Time of each line.
    units
        By the names of the columns that count, as pint spells them; empty for plain numbers.
    facts
        What is known besides.
    """
    _warn(table, facts)
    courses = {name: values for name in units if len(values := _numbers(table.column(name)))}
    for name, values in courses.items():
        _add_range(facts, name, values, units[name])
    constant = [name for name in courses if "temperature" in name.lower() and not _varies(courses[name])]
    varying = [name for name in courses if "temperature" in name.lower() and _varies(courses[name])]
    measured = [name for name in constant if "set" not in name.lower()]
    if len(measured) == 1 and not varying and units[measured[0]]:
        facts.add("temperature", float(courses[measured[0]][0]), units[measured[0]])
    facts.add("Log Entries", table.rows)
    times = _numbers(seconds)
    if len(times) > 1:
        facts.add("Duration", round(float(times[-1] - times[0]), 3), "s")
    signal = Signal("Misc", "Environment_Log", shape=(table.rows, len(courses)))
    if courses:
        name = _main(courses)
        unit = f" ({unit_registry().Unit(units[name]):~})" if units[name] and "(" not in name else ""
        signal.pixels = _course(table, seconds, name, f"{name}{unit}")
    return facts.give_to(signal)


def _numbers(values: Any) -> Any:
    import numpy as np

    return values[np.isfinite(values)]


def _varies(values: Any) -> bool:
    return bool(values.min() != values.max())


def _warn(table: LogTable, facts: Facts) -> None:
    if table.odd_lines:
        facts.warnings["Log Entries"] = f"{table.odd_lines} lines could not be read (a copy that broke off?)."
    if not table.has_end:
        facts.warnings["Log"] = "Its last line has no end, so that its last value may be cut (a copy that broke off?)."
    if not table.is_complete:
        facts.warnings["Log"] = f"Only its first {READ_LIMIT >> 20} MB are read."


def _add_range(facts: Facts, name: str, values: Any, unit: str) -> None:
    """The one value of a column that stays the same, else where it begins and ends, and its extremes."""
    if not _varies(values):
        facts.add(name, tidy(float(values[0])), unit or None)
        return
    ends = {"First": values[0], "Last": values[-1], "Minimum": values.min(), "Maximum": values.max()}
    for key, value in ends.items():
        facts.add(key, tidy(float(value)), unit or None, name)


def _main(courses: dict[str, Any]) -> str:
    """A measured temperature if it varies; else the first column that does."""
    varying = [name for name in courses if _varies(courses[name])]
    return min(
        varying or list(courses),
        key=lambda name: ("temperature" not in name.lower(), "set" in name.lower()),
    )


def _course(table: LogTable, seconds: Any, name: str, label: str) -> Pixels | None:
    """Values of a column at evenly spaced times, since the lines of a log are not."""
    import numpy as np

    values = table.column(name)
    known = np.isfinite(values) & np.isfinite(seconds)
    times, values = seconds[known], values[known]
    if len(times) < 2 or not np.all(np.diff(times) >= 0):
        axes = (axis_through(range(len(values)), "Entry", "", Facts()),)
        return Pixels(values, axes, label) if len(values) else None
    even = np.linspace(times[0], times[-1], len(times))
    axis = axis_through(even.tolist(), "Time", "s", Facts())
    return Pixels(np.interp(even, times, values), (axis,), label) if axis.units else None
