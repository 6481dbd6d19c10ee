"""NanoMEGAS blockfile ``.blo``: diffraction patterns of a scan, for ASTAR and its kin.

Little endian, offsets in bytes:

======  =====  ==========================================================================
offset  type   meaning
======  =====  ==========================================================================
0       6s     ``IMGBLO``; 6: u2 0x0102
8       u4     where the virtual image, and (12) the patterns begin
20      u2     rows and columns of a pattern; 22: its rotation, 1/100 degree
24      u2     columns and (26) rows of the scan; 28: its rotation, 1/100 degree
30      f8     step of the scan along its rows and (38) columns, nm
46      u4     acceleration voltage, V
50      u2     pixels of a pattern per 100 cm; 52: u4 camera length, 1/10 mm
56      f8     time of acquisition, days since 1899-12-30 on the computer's clock
64      f8     8 numbers for centring, (128) 14 for distortion
240            a note, to the virtual image
======  =====  ==========================================================================

Each pattern is 6 bytes (AA 55 and its number) and one byte per pixel. The unit of the camera length follows from the
angle of a pixel, which is the pixel's size over the camera length. Known from
https://hyperspy.org/rosettasciio/supported_formats/blockfile.html.
"""

import struct
from datetime import datetime
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded
from nexuslims_pipeline.extraction.layouts.frames import cut_off, present_part
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import decode, ole_date
from nexuslims_pipeline.metadata.units import tidy
from nexuslims_pipeline.signals import Axis, Pixels, Signal, Source

MAGIC: Final = b"IMGBLO\x02\x01"
LAYOUT: Final = struct.Struct("<8sIIIHHHHHddIHId8d14d")
KEYS: Final = (
    "magic", "virtual_image_at", "patterns_at", "flags", "pattern_size", "pattern_rotation", "columns", "rows",
    "scan_rotation", "step_x", "step_y", "voltage", "pixels_per_100_cm", "camera_length", "acquired",
)  # fmt: skip
LONGEST_NOTE: Final = 1 << 16
PATTERN_HEADER: Final = 6


class Blockfile(Extractor):
    """Scans with precession electron diffraction."""

    name: ClassVar[str] = "blockfile"
    format_name: ClassVar[str] = "NanoMEGAS blockfile"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".blo"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:  # noqa: ARG002 - the head says it all
        """Whether it begins as every blockfile does."""
        return head.startswith(MAGIC)

    def extract(self, source: Source) -> list[Signal]:
        """Read the one scan.

        Raises
        ------
        ExtractionError
            If the file ends within its header, or the header has no patterns.
        """
        with source.path.open("rb") as file:
            raw = file.read(LAYOUT.size)
            if len(raw) < LAYOUT.size:
                msg = "it is damaged: the file is cut off within its header"
                raise ExtractionError(msg)
            values = LAYOUT.unpack(raw)
            header = dict(zip(KEYS, values, strict=False))
            note = file.read(max(0, min(header["virtual_image_at"] - LAYOUT.size, LONGEST_NOTE)))
        header["note"] = decode(note.split(b"\0", 1)[0])[0]
        size, scan = int(header["pattern_size"]), (int(header["rows"]), int(header["columns"]))
        if size == 0 or prod(scan) == 0 or header["patterns_at"] < LAYOUT.size:
            msg = "it is damaged: its header says that it has no patterns"
            raise ExtractionError(msg)
        facts = _facts(header)
        frames = max(0, source.path.stat().st_size - header["patterns_at"]) // (PATTERN_HEADER + size * size)
        if words := cut_off(frames, prod(scan)):
            facts.warnings["Pixels"] = words
        native = header | {"magic": "IMGBLO", "centring": values[len(KEYS) :][:8], "distortion": values[-14:]}
        signal = Signal("Diffraction", "STEM_Diffraction", acquired=_acquired(header, facts), native=bounded(native))
        axes = _axes(header, present_part(scan, frames) if frames else scan)
        facts.add_axes(axes)
        signal.shape = tuple(axis.size for axis in axes)
        if frames:
            signal.pixels = Pixels(_patterns(source.path, header, signal.shape), axes)
        return [facts.give_to(signal)]


def _facts(header: dict[str, Any]) -> Facts:
    facts = Facts()
    facts.add_measured("acceleration_voltage", header["voltage"], "V")
    facts.add_measured("camera_length", header["camera_length"] / 10, "mm")
    facts.add("scan_rotation", header["scan_rotation"] / 100, "deg")
    facts.add_measured("Pattern Rotation", header["pattern_rotation"] / 100, "deg")
    if header["pixels_per_100_cm"]:
        facts.add("Pattern Pixel Size", tidy(1000 / header["pixels_per_100_cm"]), "mm")
    for line in header["note"].splitlines():
        key, colon, value = line.partition(":")
        if colon and key.strip() and value.strip():
            facts.add(" ".join(key.split())[:100], value, group="Note")
    return facts


def _axes(header: dict[str, Any], scan: tuple[int, ...]) -> tuple[Axis, ...]:
    """Rows and columns of the scan in nm; those of a pattern in mrad, measured from its middle."""
    size = int(header["pattern_size"])
    steps = {"y": header["step_y"], "x": header["step_x"]} if len(scan) == 2 else {"x": header["step_x"]}
    positions = (
        Axis(length, step, units="nm", name=name, navigation=True)
        if 0 < step < float("inf")
        else Axis(length, name=name, navigation=True)
        for length, (name, step) in zip(scan, steps.items(), strict=True)
    )
    density, camera_length = header["pixels_per_100_cm"], header["camera_length"] / 10
    if not (density and camera_length):
        return (*positions, Axis(size, name="ky"), Axis(size, name="kx"))
    angle = tidy(1000 / density / camera_length * 1000)
    return (*positions, *(Axis(size, angle, -angle * (size // 2), "mrad", name) for name in ("ky", "kx")))


def _patterns(path: Path, header: dict[str, Any], shape: tuple[int, ...]) -> Any:
    import numpy as np

    record = np.dtype([("header", np.void, PATTERN_HEADER), ("pixels", "u1", shape[-2:])])
    return np.memmap(path, record, "r", offset=header["patterns_at"], shape=shape[:-2])["pixels"]


def _acquired(header: dict[str, Any], facts: Facts) -> datetime | None:
    try:
        return ole_date(header["acquired"]) if header["acquired"] else None
    except ValueError as fault:
        facts.warnings["Creation Time"] = f"The header: {fault}."
        return None


EXTRACTOR = Blockfile()
