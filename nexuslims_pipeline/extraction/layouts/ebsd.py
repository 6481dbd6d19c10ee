"""What electron backscatter diffraction has in common, whoever writes it: scan grids, patterns, maps and phases."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from math import degrees, isfinite
from typing import Any, Final

from nexuslims_pipeline.extraction.facts import Facts
from nexuslims_pipeline.extraction.layouts.frames import cut_off, present_part
from nexuslims_pipeline.extraction.layouts.hdf5 import Unread, is_hdf5, open_hdf5, plain_value, resolved
from nexuslims_pipeline.extraction.model import ExtractionError
from nexuslims_pipeline.extraction.vendor_text import number
from nexuslims_pipeline.signals import Axis, DatasetType, Pixels, Signal, Source

MOST_PHASES: Final = 12
"""Phases that are described one by one; of further ones the names are kept."""
MOST_POSITIONS: Final = 1 << 40
ROOT_NAMES: Final = 1000
"""Names at the root of an HDF5 file that are looked at to tell its maker."""
CHANNEL5_LAUE_GROUPS: Final = ("", "-1", "2/m", "mmm", "4/m", "4/mmm", "-3", "-3m", "6/m", "6/mmm", "m-3", "m-3m")
DURATION: Final = re.compile(r"(\d{1,5}):(\d\d):(\d\d)")
LATTICE: Final = ("a", "b", "c", "alpha", "beta", "gamma")


@dataclass(frozen=True, slots=True)
class Grid:
    """Positions of a scan: rows and columns with their distances in µm, 0 where unknown."""

    rows: int
    columns: int
    row_step: float = 0.0
    column_step: float = 0.0

    def scan(self, count: int) -> tuple[int, ...]:
        """Rows and columns of `count` positions; one series where they do not fill the grid.

        A map of a single row is a line.
        """
        if self.rows * self.columns != count or self.columns < 1:
            return (count,)
        return (self.columns,) if self.rows == 1 else (self.rows, self.columns)

    def present(self, count: int) -> tuple[int, ...]:
        """Rows and columns as far as `count` positions fill them, for data that were cut off."""
        return present_part(self.scan(self.rows * self.columns), count)

    def axes(self, scan: tuple[int, ...], *, navigation: bool) -> tuple[Axis, ...]:
        """Axes of a scan of these rows and columns; a series of unknown places has no calibration."""
        on_grid = len(scan) == 2 or (self.rows == 1 and scan == (self.columns,))
        steps = (self.row_step, self.column_step)[-len(scan) :] if on_grid else (0.0,) * len(scan)
        known = all(isfinite(step) and step > 0 for step in steps)
        return tuple(
            Axis(size, step if known else 1.0, units="µm" if known else "", name=name, navigation=navigation)
            for size, step, name in zip(scan, steps, ("y", "x")[-len(scan) :], strict=True)
        )

    def add_to(self, facts: Facts) -> None:
        """Rows, columns and steps as they stand in the header."""
        facts.add("Rows", self.rows or None, group="Scan Grid")
        facts.add("Columns", self.columns or None, group="Scan Grid")
        facts.add_measured("Step X", self.column_step, "µm", "Scan Grid")
        facts.add_measured("Step Y", self.row_step, "µm", "Scan Grid")


@dataclass(frozen=True, slots=True)
class Phase:
    """A crystal structure that the patterns were compared with."""

    name: str
    formula: str = ""
    space_group: str = ""
    laue_group: str = ""
    point_group: str = ""
    lattice: tuple[float, ...] = ()
    """a, b, c in Å; alpha, beta, gamma in degrees."""


def add_phases(facts: Facts, phases: Iterable[Phase]) -> None:
    """Names of the phases, and each one's structure."""
    phases = [phase for phase in phases if phase.name or phase.formula]
    facts.add("Phases", [phase.name or phase.formula for phase in phases])
    for place, phase in enumerate(phases[:MOST_PHASES], 1):
        group = f"Phase {place}"
        facts.add("Name", phase.name, group=group)
        facts.add("Formula", phase.formula, group=group)
        facts.add("Space Group", phase.space_group, group=group)
        facts.add("Laue Group", phase.laue_group, group=group)
        facts.add("Point Group", phase.point_group, group=group)
        lengths_known = len(phase.lattice) == len(LATTICE) and all(phase.lattice)
        for name, value in zip(LATTICE, phase.lattice if lengths_known else (), strict=False):
            facts.add(name, value, "angstrom" if name in "abc" else "deg", group)


def in_degrees(radians: Any) -> float | None:
    """An angle in degrees, without the noise of single precision; None for what is no number."""
    if isinstance(radians, bool) or not isinstance(radians, int | float) or not isfinite(radians):
        return None
    return float(f"{degrees(radians):.6g}")


def pattern_signal(
    facts: Facts, grid: Grid, array: Any, scan: tuple[int, ...], native: Mapping[str, Any], data_type: str = "SEM_EBSD"
) -> Signal:
    """Signal of diffraction patterns.

    Parameters
    ----------
    facts
        What the header says; the scan's pixel size and field are added.
    grid
        Of the header.
    array
        Patterns of shape ``(*scan, height, width)``, in counts; None when they cannot be read.
    scan
        Shape of the scan as far as it lies in the file.
    native
        The vendor's tree, in bounds.
    data_type
        Technique.
    """
    axes = grid.axes(scan, navigation=True) if scan else ()
    grid.add_to(facts)
    facts.add_axes(axes)
    signal = Signal("Diffraction", data_type, shape=scan, native=dict(native))
    if array is not None:
        inner = tuple(Axis(int(size), name=name) for size, name in zip(array.shape[-2:], ("dy", "dx"), strict=True))
        signal.shape = tuple(int(size) for size in array.shape)
        signal.pixels = Pixels(array, (*axes, *inner))
    return facts.give_to(signal)


def map_signal(
    facts: Facts,
    grid: Grid,
    array: Any,
    native: Mapping[str, Any],
    *,
    dataset_type: DatasetType = "Misc",
    data_type: str = "SEM_EBSD",
    name: str = "",
    stride: int = 1,
) -> Signal:
    """Signal of values on the grid: a map of quality to show, or an electron image.

    `array` has the shape of the scan, rows before columns, and may end in an axis of three colours; None when there
    is nothing to show. With a `stride` it holds every so many rows and columns only.
    """
    signal = Signal(dataset_type, data_type, name=name, native=dict(native))
    grid.add_to(facts)
    if array is not None:
        shown = tuple(int(size) for size in array.shape[:2])
        signal.shape = shown if stride == 1 else (grid.rows, grid.columns)
        axes = grid.axes(signal.shape, navigation=False)
        facts.add_axes(axes)
        strided = (replace(axis, size=size, scale=axis.scale * stride) for axis, size in zip(axes, shown, strict=True))
        signal.pixels = Pixels(array, tuple(strided))
    elif grid.rows and grid.columns:
        facts.add_axes(grid.axes((grid.rows, grid.columns), navigation=False))
    return facts.give_to(signal)


def warn_of_missing(facts: Facts, count: int, expected: int, what: str = "patterns") -> None:
    """Say so when the header promises more than the file holds."""
    if words := cut_off(count, expected):
        facts.warnings["Pixels"] = words.replace("frames", what).replace("frame", what.removesuffix("s"))


@dataclass(frozen=True, slots=True)
class Item:
    """A value of a header: its name here and the vendor's unit, None for text and plain numbers."""

    name: str
    unit: str | None = None
    group: str | None = None
    may_be_zero: bool = True


def nonzero(name: str, unit: str | None = None, group: str | None = None) -> Item:
    """Item that is unknown where the file says 0."""
    return Item(name, unit, group, may_be_zero=False)


def add_header(facts: Facts, header: Mapping[str, Any], entries: Mapping[str, Item]) -> None:
    """Keep the values of `header` that `entries` name, by their keys; angles in degrees."""
    for key, entry in entries.items():
        value, unit = header.get(key), entry.unit
        if isinstance(value, dict | list | Unread) or value is None or (not entry.may_be_zero and value == 0):
            continue
        if unit == "rad":
            value, unit = in_degrees(value), "deg"
        facts.add(entry.name, value, unit, entry.group)


def add_numbers(facts: Facts, texts: Mapping[Any, str], entries: Mapping[Any, Item]) -> None:
    """Keep the numbers that stand as text under the keys of `entries`; a comma may be their decimal mark."""
    for key, entry in entries.items():
        text = texts.get(key, "").strip()
        if not text:
            continue
        try:
            value = number(text)
        except ValueError as fault:
            facts.warnings[entry.name] = str(fault)
            continue
        if value or entry.may_be_zero:
            plain = int(value) if entry.unit is None and value.is_integer() else value
            facts.add(entry.name, plain, entry.unit, entry.group)


def channel5_laue_group(text: str) -> str:
    """Symbol of the Laue group that Channel 5 numbers so; empty for any other number."""
    return CHANNEL5_LAUE_GROUPS[int(text)] if text.isdecimal() and int(text) < len(CHANNEL5_LAUE_GROUPS) else ""


def seconds_of(text: str) -> int:
    """Seconds of ``2:52:52``; 0 for what is no such duration."""
    found = DURATION.fullmatch(text.strip())
    hours, minutes, seconds = map(int, found.groups()) if found else (0, 0, 0)
    return hours * 3600 + minutes * 60 + seconds


def numbers_of(value: Any) -> tuple[float, ...]:
    """The numbers in a list, or the one number; nothing for what is none."""
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, int | float) and not isinstance(item, bool) and isfinite(item) for item in items):
        return ()
    return tuple(float(item) for item in items)


def count_of(value: Any) -> int:
    """A number of rows, columns or pixels; 0 for what is none."""
    found = numbers_of(value)
    return int(found[0]) if len(found) == 1 and 0 < found[0] < MOST_POSITIONS else 0


def step_of(value: Any) -> float:
    """A distance; 0 for what is none."""
    found = numbers_of(value)
    return found[0] if len(found) == 1 and found[0] > 0 else 0.0


def branch(tree: Any, *names: str) -> dict[str, Any]:
    """Inner mapping of a tree; an empty one where there is none."""
    for name in names:
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree if isinstance(tree, dict) else {}


def made_by(maker: str, source: Source, head: bytes) -> bool:
    """Whether an HDF5 file names `maker` (lower case) at its root: in ``Manufacturer``, however that is spelt."""
    if not is_hdf5(head):
        return False
    try:
        with open_hdf5(source.path) as file:
            for name in islice(file, ROOT_NAMES):
                if name.strip().lower() == "manufacturer":
                    found = resolved(file, name)
                    small = found is not None and hasattr(found, "dtype") and found.size == 1
                    return small and maker in str(plain_value(found[()])).lower()
    except ExtractionError:
        return False
    return False
