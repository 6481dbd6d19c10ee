"""EBSD patterns of EDAX OIM: ``.up1`` with one byte for each pixel, ``.up2`` with two.

Little endian:

======  ====  ==========================================================
offset  type  meaning
======  ====  ==========================================================
0       u4    version: 1, or from 3 on with the second part
4       u4    width and (8) height of a pattern
12      u4    where the patterns begin
17      u4    columns and (21) rows of the scan
25      u1    1 for a hexagonal grid
26      f8    step in x and (34) in y, µm
======  ====  ==========================================================

Layout after PyEBSDIndex (https://github.com/USNavalResearchLaboratory/PyEBSDIndex). The header tells nothing of the
instrument: that stands in the ``.ang`` or ``.h5`` file of the scan.
"""

import struct
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts
from nexuslims_pipeline.extraction.layouts.ebsd import Grid, pattern_signal, warn_of_missing
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.signals import Signal, Source

FIRST_PART: Final = struct.Struct("<4I")
SECOND_PART: Final = struct.Struct("<IIB2d")
SECOND_PART_AT: Final = 17
GRID_VERSION: Final = 3
LAST_VERSION: Final = 20
LARGEST_SIDE: Final = 1 << 14
"""Pixels of a pattern along one side."""
PIXELS: Final = {".up1": "<u1", ".up2": "<u2"}


class EdaxUp(Extractor):
    """Patterns of EDAX OIM Data Collection."""

    name: ClassVar[str] = "edax_up"
    format_name: ClassVar[str] = "EDAX patterns"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset(PIXELS)

    def accepts(self, source: Source, head: bytes) -> bool:  # noqa: ARG002 - the head says it all
        """Whether the header's numbers can be right."""
        return _parsed(head) is not None

    def extract(self, source: Source) -> list[Signal]:
        """Read the header; the patterns stay in the file.

        Raises
        ------
        ExtractionError
            If there is not one whole pattern.
        """
        with source.path.open("rb") as file:
            header = _parsed(file.read(SECOND_PART_AT + SECOND_PART.size))
        if header is None:
            msg = "it is damaged: its header is cut off or makes no sense"
            raise ExtractionError(msg)
        dtype = PIXELS.get(source.path.suffix.lower(), PIXELS[".up1"])
        frame = header.width * header.height * int(dtype[-1])
        present = max(0, source.path.stat().st_size - header.start) // frame
        if not present:
            msg = "it is damaged: the file ends before its first pattern does"
            raise ExtractionError(msg)
        facts = Facts()
        facts.add("Format Version", header.version)
        if header.is_hexagonal is not None:
            facts.add("Grid Type", "hexagonal" if header.is_hexagonal else "square", group="Scan Grid")
        expected = header.grid.rows * header.grid.columns
        count = present
        if header.is_hexagonal is False and expected:
            warn_of_missing(facts, present, expected)
            count = min(present, expected)
        elif (source.path.stat().st_size - header.start) % frame:
            facts.warnings["Pixels"] = "The file ends within a pattern (a copy that broke off?)."
        scan = (count,) if header.is_hexagonal or not expected else header.grid.present(count)
        array = _mapped(source.path, dtype, header, scan)
        native = {
            "version": header.version,
            "width": header.width,
            "height": header.height,
            "offset": header.start,
            "columns": header.grid.columns,
            "rows": header.grid.rows,
            "step x": header.grid.column_step,
            "step y": header.grid.row_step,
        }
        return [pattern_signal(facts, header.grid, array, scan, native)]


@dataclass(frozen=True, slots=True)
class _Header:
    version: int
    width: int
    height: int
    start: int
    grid: Grid
    is_hexagonal: bool | None
    """None where the header does not tell."""


def _parsed(head: bytes) -> _Header | None:
    """Header, or None when it can be none."""
    if len(head) < FIRST_PART.size:
        return None
    version, width, height, start = FIRST_PART.unpack_from(head)
    if not (1 <= version <= LAST_VERSION and 0 < width <= LARGEST_SIDE and 0 < height <= LARGEST_SIDE):
        return None
    if version < GRID_VERSION:
        whole = start >= FIRST_PART.size and start <= len(head)
        return _Header(version, width, height, start, Grid(0, 0), None) if whole else None
    if len(head) < SECOND_PART_AT + SECOND_PART.size or not SECOND_PART_AT + SECOND_PART.size <= start < 1 << 20:
        return None
    columns, rows, hexagonal, step_x, step_y = SECOND_PART.unpack_from(head, SECOND_PART_AT)
    steps = [step if isfinite(step) and 0 < step < LARGEST_SIDE else 0.0 for step in (step_y, step_x)]
    return _Header(version, width, height, start, Grid(rows, columns, *steps), bool(hexagonal))


def _mapped(path: Path, dtype: str, header: _Header, scan: tuple[int, ...]) -> Any:
    import numpy as np

    shape = (*scan, header.height, header.width)
    return np.memmap(path, mode="r", dtype=dtype, offset=header.start, shape=shape)


EXTRACTOR = EdaxUp()
