"""EBSD maps of EDAX / TSL OIM as text (``.ang``), and orientation maps that NanoMEGAS ASTAR writes in its form.

A header of lines with ``#``: ``# KEY value`` or ``# KEY: value``, with blocks that begin with ``# Phase n``; then one
line of numbers for each point:

======  =========================================================================================
column  value
======  =========================================================================================
1 … 3   Euler angles, rad
4, 5    x and y in µm, with ASTAR in nm
6       image quality; with ASTAR the index of the match
7       confidence index; with ASTAR the reliability
8       phase
9 …     signal of the detector, fit, …
======  =========================================================================================

From version 8 of OIM on ``# COLUMN_HEADERS:`` names them. ``x-star``, ``y-star`` and ``z-star`` are the pattern centre
as parts of the pattern's width; the working distance is in mm. On a hexagonal grid every second row (``NCOLS_EVEN``)
is shifted by half a step. The header counts the points of the whole map, of which the lines may be a part.
"""

import re
from datetime import datetime
from typing import ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded
from nexuslims_pipeline.extraction.layouts.ebsd import (
    Grid,
    Item,
    Phase,
    add_numbers,
    add_phases,
    map_signal,
    nonzero,
    warn_of_missing,
)
from nexuslims_pipeline.extraction.layouts.point_table import PointMap, PointTable, true_grid
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import decode, local_time, number
from nexuslims_pipeline.signals import Signal, Source

HEADER_BYTES: Final = 4 << 20
"""Longest header that is looked through; lists of reflections make some of them long."""
SHOWN_LINES: Final = 60
FEWEST_COLUMNS: Final = 8
MARKS: Final = ("TEM_PIXperUM", "x-star", "GRID:", "MaterialName", "NCOLS_ODD", "HEADER: Start")
"""Keys of which a header has some."""
LISTS: Final = frozenset({"hklFamilies", "Categories", "ElasticConstants", "NumberFamilies"})
"""Keys of tables, which are not kept line by line."""
QUALITY: Final = ("IQ", "Image Quality", "CI", "Fit")
NUMBERS: Final = {
    "WorkingDistance": nonzero("working_distance", "mm"),
    "WORKING_DISTANCE": nonzero("working_distance", "mm"),
    "SampleTiltAngle": Item("Specimen Tilt", "deg"),
    "CameraElevationAngle": Item("Camera Elevation", "deg"),
    "CameraAzimuthalAngle": Item("Camera Azimuth", "deg"),
    "x-star": Item("X*", None, "Pattern Centre"),
    "y-star": Item("Y*", None, "Pattern Centre"),
    "z-star": Item("Z*", None, "Pattern Centre"),
}
TEXTS: Final = {
    "OPERATOR": "operator",
    "SAMPLEID": "specimen",
    "SCANID": "Scan ID",
    "GRID": "Grid Type",
    "NOTES": "Notes",
}
PHASE_KEYS: Final = frozenset({"MaterialName", "Formula", "Info", "Symmetry", "PointGroupID", "LatticeConstants"})
BLOCK_MARKS: Final = frozenset({"Start", "End"})
ASTAR_MARKS: Final = ("astar", "nanomegas", "from acom")
LAUE_GROUPS: Final = {
    "1": "-1", "2": "2/m", "20": "2/m", "22": "mmm", "3": "-3", "32": "-3m", "4": "4/m", "42": "4/mmm", "6": "6/m",
    "62": "6/mmm", "23": "m-3", "43": "m-3m",
}  # fmt: skip
"""By TSL's number of the symmetry."""
NANOMETRES: Final = 1e-3
"""Of a micrometre."""
_LINE = re.compile(r"#\s*([A-Za-z_][\w\- ]*?)(?:\s*:\s*|\s+|$)(.*)")
_PHASE = re.compile(r"#\s*Phase\s*:?\s*(\d+)\s*$")


class EdaxAng(Extractor):
    """Maps of EDAX OIM and NanoMEGAS ASTAR as text."""

    name: ClassVar[str] = "edax_ang"
    format_name: ClassVar[str] = "EDAX ANG"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".ang"})

    def accepts(self, source: Source, head: bytes) -> bool:  # noqa: ARG002 - the head says it all
        """Whether it begins with comments that have some of the header's keys."""
        text = decode(head)[0]
        return text.lstrip().startswith("#") and any(mark.lower() in text.lower() for mark in MARKS)

    def extract(self, source: Source) -> list[Signal]:
        """Header, and a map of the image quality to show.

        Raises
        ------
        ExtractionError
            If the header does not end.
        """
        with source.path.open("rb") as file:
            raw = file.read(HEADER_BYTES)
        lines, start = _header(raw)
        keys, phases = _parsed(lines)
        facts = Facts()
        _add(facts, keys)
        add_phases(facts, (_phase(phase) for phase in phases))
        columns = _columns(keys, raw[start:])
        native = bounded({"Header": keys, "Phases": phases, "Columns": columns})
        table = PointTable(source.path, start, len(columns), *_places(columns)) if columns else None
        is_hexagonal = keys.get("GRID", "").lower().startswith("hex")
        array, grid = _map(table, _declared(keys), columns, facts, is_hexagonal=is_hexagonal)
        is_astar = _is_astar(lines)
        if is_astar:
            grid = Grid(grid.rows, grid.columns, grid.row_step * NANOMETRES, grid.column_step * NANOMETRES)
            facts.add("software", "NanoMEGAS ASTAR")
        data_type = "STEM_Diffraction" if is_astar else "SEM_EBSD"
        stride = array.step if array else 1
        signal = map_signal(facts, grid, array, native, data_type=data_type, stride=stride)
        if table is None:
            signal.warnings["Pixels"] = "No line of numbers follows the header (a copy that broke off?)."
        if array is None:
            signal.text = "\n".join(line for line in lines[:SHOWN_LINES] if "OPERATOR" not in line)
        signal.acquired = _acquired(keys, facts)
        return [facts.give_to(signal)]


def _header(raw: bytes) -> tuple[list[str], int]:
    """Lines with ``#``, and where the first line of numbers begins.

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
        line = raw[place:end].strip()
        if line and not line.startswith(b"#"):
            return lines, place
        if line:
            lines.append(decode(line)[0])
        place = end + 1
    if len(raw) >= HEADER_BYTES:
        msg = f"its header does not end within {HEADER_BYTES >> 20} MB"
        raise ExtractionError(msg)
    return lines, len(raw)


def _parsed(lines: list[str]) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Values of the header, and those of each phase."""
    keys: dict[str, str] = {}
    phases: list[dict[str, str]] = []
    for line in lines:
        if _PHASE.match(line):
            phases.append({})
            continue
        found = _LINE.match(line)
        key = found[1].strip() if found else ""
        if found and key in PHASE_KEYS:
            if not phases or key in phases[-1]:
                phases.append({})
            phases[-1][key] = found[2].strip()
        elif found and key not in LISTS and found[2].strip() not in BLOCK_MARKS:
            keys.setdefault(key, found[2].strip(" \t#"))
    return keys, [phase for phase in phases if phase]


def _add(facts: Facts, keys: dict[str, str]) -> None:
    add_numbers(facts, keys, NUMBERS)
    for key, name in TEXTS.items():
        facts.add(name, keys.get(key), group="Scan Grid" if key == "GRID" else None)


def _is_astar(lines: list[str]) -> bool:
    text = " ".join(lines[:SHOWN_LINES]).lower()
    return any(mark in text for mark in ASTAR_MARKS)


def _phase(values: dict[str, str]) -> Phase:
    words = values.get("LatticeConstants", "").split()
    try:
        lattice = tuple(number(word) for word in words)
    except ValueError:
        lattice = ()
    return Phase(
        values.get("MaterialName", ""),
        formula=values.get("Formula", ""),
        laue_group=LAUE_GROUPS.get(values.get("Symmetry", ""), ""),
        lattice=lattice,
    )


def _columns(keys: dict[str, str], rest: bytes) -> list[str]:
    """Names of the columns, as many as the first line has; empty when there is no line."""
    first = rest[: rest.find(b"\n")] if b"\n" in rest else b""
    count = len(first.split())
    if count < FEWEST_COLUMNS:
        return []
    named = [name.strip() for name in keys.get("COLUMN_HEADERS", "").split(",")]
    usual = ["phi1", "PHI", "phi2", "x", "y", "IQ", "CI", "Phase", "SEM Signal", "Fit"]
    names = named if len(named) == count else usual
    return (names + [f"Column {n}" for n in range(len(names) + 1, count + 1)])[:count]


def _places(columns: list[str]) -> tuple[int, int]:
    lower = [name.lower() for name in columns]
    return (lower.index("x"), lower.index("y")) if "x" in lower and "y" in lower else (3, 4)


def _declared(keys: dict[str, str]) -> Grid:
    def value(*names: str) -> float:
        for name in names:
            try:
                return number(keys[name])
            except (KeyError, ValueError):
                continue
        return 0.0

    rows, columns = value("NROWS"), value("NCOLS_ODD", "NCOLS_EVEN")
    sane = all(0 <= size < 1e9 for size in (rows, columns))
    return Grid(int(rows) if sane else 0, int(columns) if sane else 0, value("YSTEP"), value("XSTEP"))


def _map(
    table: PointTable | None, declared: Grid, columns: list[str], facts: Facts, *, is_hexagonal: bool
) -> tuple[PointMap | None, Grid]:
    """Map to show, and the grid: that of the points where the header says another, or none."""
    seen = table.grid() if table else None
    if table is None or seen is None:
        _warn_of_missing_points(table.count() if table else None, declared, facts)
        return None, declared
    count = table.count()
    facts.add("Points", count)
    facts.add("Map Shown", columns[_quality(columns)])
    if is_hexagonal and declared.rows and declared.columns and table.may_hold(declared):
        grid = declared
        _warn_of_missing_points(count, declared, facts)
    else:
        grid = true_grid(declared, seen, count, facts)
    return PointMap(table, grid, _quality(columns)), grid


def _warn_of_missing_points(count: int | None, declared: Grid, facts: Facts) -> None:
    if count is not None:
        # Every second row of a hexagonal grid may be one point shorter.
        warn_of_missing(facts, count, declared.rows * declared.columns - declared.rows // 2, "points")


def _quality(columns: list[str]) -> int:
    return next((columns.index(name) for name in QUALITY if name in columns), 5)


def _acquired(keys: dict[str, str], facts: Facts) -> datetime | None:
    date = next((keys[key] for key in ("DATE", "Date", "Acquisition Date") if keys.get(key)), "")
    try:
        return local_time(date, keys.get("TIME", "")) if date else None
    except ValueError as fault:
        facts.warnings["Creation Time"] = f"The file says {fault}."
        return None


EXTRACTOR = EdaxAng()
