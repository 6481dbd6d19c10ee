"""EBSD projects of the Channel 5 family of Oxford Instruments / HKL: ``.cpr`` the header, ``.crc`` the points.

The header is text of ``[Section]`` and ``Key=value`` lines: steps in µm, stage in mm and degrees, lattice constants in
Å and degrees, ``Date`` with the day first. Each point of the ``.crc`` has a byte for its phase, then the fields that
``[Fields]`` names by number, little endian:

======  ====  ================================
number  type  field
======  ====  ================================
1, 2    f4    x, y
3 … 5   f4    Euler angles, rad
6       f4    mean angular deviation
7, 8    u1    band contrast, band slope
9       u1    not known
10, 11  u1    bands, error
12      f4    reliability index
======  ====  ================================

Points lie row by row with ``JobMode=RegularGrid``; elsewhere where the operator chose. Fields beyond 12 (EDX counts)
have four bytes. Layout after MTEX (https://mtex-toolbox.github.io) and DefDAP.
"""

import re
from datetime import datetime
from pathlib import Path
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
    seconds_of,
    warn_of_missing,
)
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import decode, local_time, number
from nexuslims_pipeline.signals import Signal, Source

FILE_BYTES: Final = 4 << 20
"""Longest header that is read."""
MOST_FIELDS: Final = 64
MOST_CELLS: Final = 1 << 20
FIELD_TYPES: Final = {**dict.fromkeys(range(1, 7), "<f4"), **dict.fromkeys(range(7, 12), "u1"), 12: "<f4"}
BAND_CONTRAST: Final = 7
NUMBERS: Final = {
    ("Job", "kV"): nonzero("acceleration_voltage", "kV"),
    ("Job", "Magnification"): nonzero("magnification"),
    ("Job", "TiltAngle"): Item("Specimen Tilt", "deg"),
    ("Job", "TiltAxis"): Item("Tilt Axis", "deg"),
    ("Job", "Coverage"): nonzero("Coverage", "percent"),
    ("Job", "WorkingDistance"): nonzero("working_distance", "mm"),
    ("Job", "NoOfPoints"): Item("Points"),
    ("StagePosition", "XPos"): Item("stage_x", "mm"),
    ("StagePosition", "YPos"): Item("stage_y", "mm"),
    ("StagePosition", "ZPos"): Item("stage_z", "mm"),
    ("StagePosition", "RPos"): Item("stage_rotation", "deg"),
    ("StagePosition", "TPos"): Item("stage_tilt", "deg"),
    ("SEMFields", "DOEuler1"): Item("Euler 1", "deg", "Detector Orientation"),
    ("SEMFields", "DOEuler2"): Item("Euler 2", "deg", "Detector Orientation"),
    ("SEMFields", "DOEuler3"): Item("Euler 3", "deg", "Detector Orientation"),
    ("ProjectionParameters", "PCX"): Item("X", None, "Pattern Centre"),
    ("ProjectionParameters", "PCY"): Item("Y", None, "Pattern Centre"),
    ("ProjectionParameters", "DD"): Item("Distance", None, "Pattern Centre"),
    ("ProjectionParameters", "VHRatio"): Item("Height to Width", None, "Pattern Centre"),
    ("General", "PerCycle"): nonzero("Time per Point", "s"),
    ("Band Detection", "HoughRes"): Item("Hough Resolution"),
    ("Band Detection", "Min"): Item("Fewest Bands"),
    ("Band Detection", "Max"): Item("Most Bands"),
}
TEXTS: Final = {
    ("General", "Author"): "operator",
    ("General", "Description"): "Description",
    ("General", "Notes"): "Notes",
    ("General", "JobMode"): "Job Mode",
}


class OxfordCpr(Extractor):
    """Channel 5 projects."""

    name: ClassVar[str] = "oxford_cpr"
    format_name: ClassVar[str] = "Channel 5 project"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".cpr", ".cprx", ".crc"})

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether it has the sections of such a project, or lies beside one of its name."""
        if source.path.suffix.lower() == ".crc":
            return _partner(source, ".cpr") is not None
        text = decode(head)[0]
        return text.lstrip().startswith("[") and "[General]" in text and ("[Job]" in text or "[Fields]" in text)

    def extract(self, source: Source) -> list[Signal]:
        """Header, and a map of the band contrast where the points are there."""
        is_points = source.path.suffix.lower() == ".crc"
        header = _partner(source, ".cpr") if is_points else source.path
        points = source.path if is_points else _partner(source, ".crc")
        if header is None:
            msg = "the .cpr file that describes it is not beside it"
            raise ExtractionError(msg)
        with header.open("rb") as file:
            sections = _sections(decode(file.read(FILE_BYTES))[0])
        facts = Facts()
        _add(facts, sections)
        grid = _grid(sections, facts)
        array = _map(points, sections, grid, facts) if points else None
        signal = map_signal(facts, grid, array, bounded(sections))
        signal.acquired = _acquired(sections, facts, source)
        if array is None:
            signal.text = _shown(sections)
        return [facts.give_to(signal)]


def _shown(sections: dict[str, dict[str, str]]) -> str:
    """What is shown where there is no map: the settings, without folders and people."""
    pairs = ((key, value) for name in ("General", "Job") for key, value in sections.get(name, {}).items())
    return "\n".join(f"{key} = {value}" for key, value in pairs if "\\" not in value and key != "Author")


def _partner(source: Source, extension: str) -> Path | None:
    """The other half of the project, of the same name."""
    wanted = source.path.stem.lower()
    return next(
        (each for each in source.companions if each.suffix.lower() == extension and each.stem.lower() == wanted), None
    )


def _sections(text: str) -> dict[str, dict[str, str]]:
    sections: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for line in map(str.strip, text.split("\n")):
        if line.startswith("[") and line.endswith("]"):
            current = sections.setdefault(line[1:-1].strip(), {})
        elif "=" in line:
            key, _, value = line.partition("=")
            current[key.strip()] = value.strip()
    return sections


def _add(facts: Facts, sections: dict[str, dict[str, str]]) -> None:
    texts = {(section, key): text for section, values in sections.items() for key, text in values.items()}
    add_numbers(facts, texts, NUMBERS)
    for (section, key), name in TEXTS.items():
        facts.add(name, texts.get((section, key)))
    facts.add_measured("acquisition_time", seconds_of(sections.get("General", {}).get("Duration", "")), "s")
    phases = [sections[name] for name in sections if re.fullmatch(r"Phase\d+", name)]
    add_phases(facts, (_phase(phase) for phase in phases if phase.get("Enabled", "True").lower() != "false"))
    count = sections.get("Phases", {}).get("Count", "")
    if "Job" not in sections or not count.isdecimal() or len(phases) < int(count):
        facts.warnings["Header"] = "The header ends before its last phase (a copy that broke off?)."
    unused = [phase.get("StructureName", "") for phase in phases if phase.get("Enabled", "").lower() == "false"]
    facts.add("Phases Not Used", [name for name in unused if name])


def _phase(values: dict[str, str]) -> Phase:
    try:
        constants = [number(values.get(key, "")) for key in ("A", "B", "C", "Alpha", "Beta", "Gamma")]
    except ValueError:
        constants = []
    return Phase(
        values.get("StructureName", ""),
        formula=values.get("Composition", ""),
        space_group=values.get("SpaceGroup", "").removeprefix("0"),
        laue_group=channel5_laue_group(values.get("LaueGroup", "")),
        lattice=tuple(float(f"{constant:.7g}") for constant in constants),
    )


def _grid(sections: dict[str, dict[str, str]], facts: Facts) -> Grid:
    job = sections.get("Job", {})
    values = []
    for key in ("yCells", "xCells", "GridDistY", "GridDistX"):
        try:
            values.append(number(job[key]) if job.get(key) else 0.0)
        except ValueError as fault:
            facts.warnings["Scan Grid"] = f"{key}: {fault}"
            values.append(0.0)
    rows, columns = (int(size) if 0 <= size <= MOST_CELLS else 0 for size in values[:2])
    return Grid(rows, columns, values[2], values[3])


def _map(points: Path, sections: dict[str, dict[str, str]], grid: Grid, facts: Facts) -> Any:
    """Band contrast of a regular grid; None where there is none, or the points are damaged."""
    import numpy as np

    fields = _fields(sections.get("Fields", {}))
    is_grid = "grid" in sections.get("General", {}).get("JobMode", "RegularGrid").lower()
    if not is_grid or BAND_CONTRAST not in fields or not grid.rows * grid.columns:
        return None
    record = np.dtype([("phase", "u1"), *((f"{n}", FIELD_TYPES.get(n, "<f4")) for n in fields)])
    count = points.stat().st_size // record.itemsize
    warn_of_missing(facts, count, grid.rows * grid.columns, "points")
    rows = min(grid.rows, count // grid.columns)
    if not rows:
        return None
    facts.add("Map Shown", "Band Contrast")
    table = np.memmap(points, mode="r", dtype=record, shape=(rows, grid.columns))
    return table[str(BAND_CONTRAST)]


def _fields(section: dict[str, str]) -> list[int]:
    """Numbers of the fields of each point, each once."""
    count = section.get("Count", "")
    texts = (
        [section.get(f"Field{n}", "") for n in range(1, min(int(count), MOST_FIELDS) + 1)] if count.isdecimal() else []
    )
    return list(dict.fromkeys(int(text) for text in texts if text.isdecimal()))


def _acquired(sections: dict[str, dict[str, str]], facts: Facts, source: Source) -> datetime | None:
    general = sections.get("General", {})
    if not general.get("Date"):
        return None
    try:
        return local_time(general["Date"], general.get("Time", ""), like=source.modified)
    except ValueError as fault:
        facts.warnings["Creation Time"] = f"The file says {fault}."
        return None


EXTRACTOR = OxfordCpr()
