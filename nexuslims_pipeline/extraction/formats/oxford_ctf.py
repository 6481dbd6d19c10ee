"""EBSD maps as text of the Channel 5 family (``.ctf``): Oxford Instruments / HKL, and as Bruker ESPRIT exports them.

Lines of values between tabs; a decimal comma in some countries:

1. ``Channel Text File``, then ``Prj``, ``Author``, ``JobMode``, ``XCells``, ``YCells``, ``XStep``, ``YStep``,
   ``AcqE1`` … ``AcqE3`` (acquisition orientation, degrees), one to a line;
2. a line of names and values: ``Mag``, ``Coverage`` (percent), ``Device``, ``KV``, ``TiltAngle``, ``TiltAxis``;
3. ``Phases`` and their number, then one line each: ``a;b;c`` in Å, ``alpha;beta;gamma`` in degrees, name, number of
   the Laue group, number of the space group, …;
4. names of the columns, ``Phase X Y Bands Error Euler1 Euler2 Euler3 MAD BC BS``, then a line for each point, with X
   and Y in µm.

With ``JobMode`` other than ``Grid`` the points lie where the operator chose.
"""

import re
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded
from nexuslims_pipeline.extraction.layouts.ebsd import (
    Grid,
    Item,
    Phase,
    add_numbers,
    add_phases,
    channel5_laue_group,
    map_signal,
    nonzero,
    warn_of_missing,
)
from nexuslims_pipeline.extraction.layouts.point_table import PointMap, PointTable, true_grid
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import decode, number
from nexuslims_pipeline.signals import Signal, Source

MAGIC: Final = b"Channel Text File"
HEADER_BYTES: Final = 256 << 10
SHOWN_LINES: Final = 60
MOST_PHASES: Final = 200
MOST_CELLS: Final = 1e6
"""Rows or columns beyond which a number is none that a microscope scans."""
QUALITY: Final = ("BC", "BS", "MAD", "Bands", "Phase")
"""Columns to show, best first."""
NUMBERS: Final = {
    "KV": nonzero("acceleration_voltage", "kV"),
    "Mag": nonzero("magnification"),
    "Coverage": nonzero("Coverage", "percent"),
    "WorkingDistance": nonzero("working_distance", "mm"),
    "InsertionDistance": nonzero("Detector Insertion Distance", "mm"),
    "DetectorOrientationE1": Item("Euler 1", "deg", "Detector Orientation"),
    "DetectorOrientationE2": Item("Euler 2", "deg", "Detector Orientation"),
    "DetectorOrientationE3": Item("Euler 3", "deg", "Detector Orientation"),
    "AcqE1": Item("Euler 1", "deg", "Acquisition Orientation"),
    "AcqE2": Item("Euler 2", "deg", "Acquisition Orientation"),
    "AcqE3": Item("Euler 3", "deg", "Acquisition Orientation"),
    "NoMeas": Item("Points"),
}
TILTS: Final = {"TiltAngle": Item("Specimen Tilt", "deg"), "TiltAxis": Item("Tilt Axis", "deg")}
PERSONAL: Final = ("Prj", "Author")
"""Lines with folders and people, which are not shown."""
NOBODY: Final = frozenset({"[Unknown]", "Unknown"})
_PAIR = re.compile(r"\t(Mag|Coverage|Device|KV|TiltAngle|TiltAxis|DetectorOrientationE[123]|WorkingDistance|"
                   r"InsertionDistance)\t([^\t]*)")  # fmt: skip


class OxfordCtf(Extractor):
    """Maps as Channel Text Files."""

    name: ClassVar[str] = "oxford_ctf"
    format_name: ClassVar[str] = "Channel Text File"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".ctf", ".txt"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:  # noqa: ARG002 - the head says it all
        """Whether it begins as such files do."""
        return head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(MAGIC)

    def extract(self, source: Source) -> list[Signal]:
        """Header, and a map of the band contrast to show.

        Raises
        ------
        ExtractionError
            If the header does not end.
        """
        with source.path.open("rb") as file:
            raw = file.read(HEADER_BYTES)
        lines, start = _header(raw)
        keys, phases, columns = _parsed(lines)
        facts = Facts()
        _add(facts, keys)
        add_phases(facts, (phase for phase in map(_phase, phases) if phase))
        native = bounded({"Header": keys, "Phases": phases, "Columns": columns})
        grid, array = _declared(keys, facts), None
        if {"X", "Y"} <= set(columns):
            table, columns = _table(source, start, raw, columns, facts)
            is_grid = "grid" in keys.get("JobMode", "grid").lower()
            array, grid = _map(table, grid, columns, facts, is_grid=is_grid)
            if not is_grid and (listed := keys.get("NoMeas", "")).isdecimal():
                warn_of_missing(facts, table.count() or int(listed), int(listed), "points")
        else:
            facts.warnings["Pixels"] = "The header does not end in names of columns (a copy that broke off?)."
        signal = map_signal(facts, grid, array, native, stride=array.step if array else 1)
        if array is None:
            shown = decode(raw)[0].split("\n")[:SHOWN_LINES]
            signal.text = "\n".join(line for line in shown if not line.startswith(PERSONAL))
        return [signal]


def _header(raw: bytes) -> tuple[list[str], int]:
    """Lines down to the names of the columns, and where the first line of numbers begins.

    Raises
    ------
    ExtractionError
        If the header is longer than any.
    """
    place = 0
    lines: list[str] = []
    while place < len(raw):
        end = raw.find(b"\n", place)
        end = len(raw) if end < 0 else end
        line = decode(raw[place:end])[0].rstrip("\r\n")
        lines.append(line)
        place = end + 1
        if line.startswith("Phase\t"):
            return lines, place
    if len(raw) >= HEADER_BYTES:
        msg = f"its header does not end within {HEADER_BYTES >> 10} kB"
        raise ExtractionError(msg)
    return lines, len(raw)


def _parsed(lines: list[str]) -> tuple[dict[str, str], list[str], list[str]]:
    """Values, lines of phases, and names of columns."""
    keys: dict[str, str] = {}
    phases: list[str] = []
    in_phases = False
    for line in lines[1:]:
        name, tab, value = line.partition("\t")
        if name == "Phase":
            return keys, phases, [column for column in line.split("\t") if column]
        if name.startswith("Euler angles"):
            keys["Reference Frame"] = name
            keys.update(_PAIR.findall(line))
        elif name == "Phases":
            keys[name], in_phases = value.strip(), True
        elif in_phases and len(phases) < MOST_PHASES:
            phases.append(line)
        elif tab:
            keys.setdefault(name, value.strip())
    return keys, phases, []


def _add(facts: Facts, keys: dict[str, str]) -> None:
    add_numbers(facts, keys, NUMBERS)
    if "acceleration_voltage" in facts.fields or keys.get("TiltAngle", "").strip("0.,"):
        add_numbers(facts, keys, TILTS)  # of maps that were made elsewhere the whole line is 0
    author = keys.get("Author", "")
    facts.add("operator", None if author in NOBODY else author)
    facts.add("Job Mode", keys.get("JobMode"))


def _phase(line: str) -> Phase | None:
    parts = [part.strip() for part in line.split("\t")]
    if len(parts) < 3:
        return None
    try:
        lattice = tuple(number(text) for part in parts[:2] for text in part.split(";"))
    except ValueError:
        lattice = ()
    space_group = parts[4] if len(parts) > 4 and parts[4] != "0" else ""
    return Phase(
        parts[2],
        space_group=space_group,
        laue_group=channel5_laue_group(parts[3]) if len(parts) > 3 else "",
        lattice=lattice,
    )


def _declared(keys: dict[str, str], facts: Facts) -> Grid:
    values = {}
    for key in ("YCells", "XCells", "YStep", "XStep"):
        try:
            values[key] = number(keys[key]) if keys.get(key) else 0.0
        except ValueError as fault:
            facts.warnings["Scan Grid"] = f"{key}: {fault}"
            values[key] = 0.0
        if key.endswith("Cells") and not 0 <= values[key] <= MOST_CELLS:
            facts.warnings["Scan Grid"] = f"The file says {key} {keys[key][:40]}, which is no size of a map."
            values[key] = 0.0
    return Grid(int(values["YCells"]), int(values["XCells"]), values["YStep"], values["XStep"])


def _table(source: Source, start: int, raw: bytes, columns: list[str], facts: Facts) -> tuple[PointTable, list[str]]:
    """Lines of the points, and the columns whose names can be trusted.

    Some exporters leave out a value: what follows the Euler angles cannot be told then.
    """
    first = raw[start:].partition(b"\n")[0].split()
    width = len(first) or len(columns)
    if width < len(columns):
        facts.warnings["Columns"] = f"The header names {len(columns)} columns, but the lines have {width} values."
        columns = columns[: min(width, columns.index("MAD") if "MAD" in columns else width)]
    return PointTable(source.path, start, width, columns.index("X"), columns.index("Y")), columns


def _map(table: PointTable, declared: Grid, columns: list[str], facts: Facts, *, is_grid: bool) -> tuple[Any, Grid]:
    """Map to show, and the grid: that of the points where the header tells none."""
    count = table.count()
    facts.add("Points", count)
    shown = next((name for name in QUALITY if name in columns), "")
    seen = table.grid() if is_grid and shown else None
    if seen is None:
        if is_grid and count is not None:
            warn_of_missing(facts, count, declared.rows * declared.columns, "points")
        return None, declared
    facts.add("Map Shown", shown)
    grid = true_grid(declared, seen, count, facts)
    return PointMap(table, grid, columns.index(shown)), grid


EXTRACTOR = OxfordCtf()
