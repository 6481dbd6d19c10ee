"""Janelia's ``.dat`` of FIB-SEM volume imaging: one slice, seen by up to four detectors at once.

Big endian; 1024 bytes of header, then for each pixel one number of each channel (i2, or u1 with the 8-bit switch),
row by row. The header has two layouts; offsets in bytes:

==========================  =======================  ====================  =====================
value                       files of version 1, 2    of version 3          of later versions
==========================  =======================  ====================  =====================
magic D3 ED F5 F2           0
version (u2), type (u2)     4, 6
date of the software (10 B) 8; when the image was taken is said by the name of the file only
time step, s (f8)           24
channels, 8-bit (u1)        32, 33
columns, rows (u4)          100, 104
sample (25 B)               155 (since version 9)
notes (200 B)               180
detectors A B (10, 18 B)    380, 390
detectors C D (20 B)        700, 720                 410, 430              410, 430
magnification … contrast    408 … 576, f8            460 … 572, f4         460 … 572, f4
machine (30 B)              800, since version 5
temperature, °F (f4)        850, since version 6
bytes of the file (i8)      1000
==========================  =======================  ====================  =====================

Source: https://github.com/janelia-cellmap/fibsem-tools (``fibsem.py``), after H. Hess.
"""

import math
import struct
from collections.abc import Iterable
from typing import Any, ClassVar, Final, NamedTuple

from nexuslims_pipeline.extraction.facts import Facts, bounded
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import decode
from nexuslims_pipeline.signals import Axis, Pixels, Signal, Source

MAGIC: Final = b"\xd3\xed\xf5\xf2"
HEADER_BYTES: Final = 1024
MOST_CHANNELS: Final = 4
ION_MODES: Final = (1, 6)
MODES: Final = {
    0: "SEM", 1: "FIB", 2: "milling", 3: "SEM and FIB", 4: "milling and SEM", 5: "SEM drift correction",
    6: "FIB drift correction", 7: "no beam", 8: "external", 9: "external and SEM",
}  # fmt: skip
FAHRENHEIT_ZERO: Final = 459.67


class Value(NamedTuple):
    """One number of the header: its name here, its unit, and where it lies in the old and in the new layout."""

    key: str
    name: str
    unit: str | None
    old: int
    new: int
    group: str | None = None
    kind: str = "f"
    """``f``: f8 in the old layout and f4 in the new; ``B``: u1 in both."""


VALUES: Final = (
    Value("Mag", "magnification", None, 408, 460),
    Value("PixelSize", "Pixel Size", "nm", 416, 464),
    Value("WD", "working_distance", "mm", 424, 468),
    Value("EHT", "acceleration_voltage", "kV", 432, 472),
    Value("SEMApr", "Aperture Number", None, 440, 480, kind="B"),
    Value("HighCurrent", "High Current Mode", None, 441, 481, kind="B"),
    Value("SEMCurr", "probe_current", "A", 448, 490),
    Value("SEMRot", "scan_rotation", "deg", 456, 494),
    Value("ChamVac", "Chamber Vacuum", None, 464, 498),
    Value("GunVac", "Gun Vacuum", None, 472, 502),
    Value("SEMStiX", "X", None, 480, 518, "Stigmator"),
    Value("SEMStiY", "Y", None, 488, 522, "Stigmator"),
    Value("SEMAlnX", "X", None, 496, 526, "Aperture Alignment"),
    Value("SEMAlnY", "Y", None, 504, 530, "Aperture Alignment"),
    Value("StageX", "stage_x", "mm", 512, 534),
    Value("StageY", "stage_y", "mm", 520, 538),
    Value("StageZ", "stage_z", "mm", 528, 542),
    Value("StageT", "stage_tilt", "deg", 536, 546),
    Value("StageR", "stage_rotation", "deg", 544, 550),
    Value("StageM", "Stage M", "mm", 552, 554),
    Value("BrightnessA", "Brightness", None, 560, 560, "Detector A"),
    Value("ContrastA", "Contrast", None, 568, 564, "Detector A"),
    Value("BrightnessB", "Brightness", None, 576, 568, "Detector B"),
    Value("ContrastB", "Contrast", None, 584, 572, "Detector B"),
    Value("Mode", "Mode", None, 600, 600, kind="B"),
    Value("FIBFocus", "Focus", "kV", 608, 604, "FIB"),
    Value("FIBProb", "Probe", None, 616, 608, "FIB", "B"),
    Value("FIBCurr", "Emission Current", None, 624, 620, "FIB"),
    Value("FIBRot", "Scan Rotation", "deg", 632, 624, "FIB"),
)
NEVER_ZERO: Final = frozenset({"Mag", "PixelSize", "WD", "EHT", "SEMCurr", "ChamVac", "GunVac", "FIBFocus", "FIBCurr"})


class JaneliaFibsem(Extractor):
    """Slices of FIB-SEM volumes."""

    name: ClassVar[str] = "janelia_fibsem"
    format_name: ClassVar[str] = "Janelia FIB-SEM"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".dat"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:  # noqa: ARG002 - the head says it all
        """Whether it begins with the magic number."""
        return head.startswith(MAGIC)

    def extract(self, source: Source) -> list[Signal]:
        """Read the header; the channels are one stack of images."""
        with source.path.open("rb") as file:
            header = file.read(HEADER_BYTES)
        if len(header) < HEADER_BYTES:
            msg = "the file is cut off within its header"
            raise ExtractionError(msg)
        version, kind = struct.unpack_from(">HH", header, 4)
        channels, is_eight_bit = header[32], header[33] == 1
        columns, rows = struct.unpack_from(">II", header, 100)
        if not 1 <= channels <= MOST_CHANNELS or not columns or not rows:
            msg = f"its header declares {channels} channels of {columns} × {rows} pixels, which is no image"
            raise ExtractionError(msg)
        facts = Facts()
        native = _add_values(header, version, facts)
        detectors = _add_texts(header, version, facts)
        pixel = native["PixelSize"] if 0 < native["PixelSize"] < 1e9 else 0.0
        axes = _axes(channels, rows, columns, pixel)
        facts.add_axes(axes)
        array = _mapped(source, axes, is_eight_bit=is_eight_bit)
        if array is None:
            facts.warnings["Pixels"] = "The file ends before its last pixel (a copy that broke off?)."
        shape = tuple(axis.size for axis in axes)
        is_ion = native["Mode"] in ION_MODES
        signal = Signal("Image", "FIB_Imaging" if is_ion else "SEM_Imaging", shape)
        signal.pixels = None if array is None else Pixels(array, axes)
        signal.native = bounded({"FileVersion": version, "FileType": kind, **native, **detectors})
        return [facts.give_to(signal)]


def _axes(channels: int, rows: int, columns: int, pixel: float) -> tuple[Axis, ...]:
    units = "nm" if pixel else ""
    stack = (Axis(channels, name="Channel", navigation=True),) if channels > 1 else ()
    return (*stack, Axis(rows, pixel or 1.0, units=units, name="y"), Axis(columns, pixel or 1.0, units=units, name="x"))


def _mapped(source: Source, axes: Iterable[Axis], *, is_eight_bit: bool) -> Any:
    """The channels as images, although the file has them side by side; None when it is too short."""
    import numpy as np

    shape = tuple(axis.size for axis in axes)
    dtype = np.dtype("u1" if is_eight_bit else ">i2")
    if HEADER_BYTES + math.prod(shape) * dtype.itemsize > source.path.stat().st_size:
        return None
    stored = np.memmap(source.path, dtype, "r", HEADER_BYTES, (*shape[-2:], *shape[:-2]))
    return np.moveaxis(stored, -1, 0) if len(shape) > 2 else stored


def _add_values(header: bytes, version: int, facts: Facts) -> dict[str, Any]:
    """Numbers of the header by their own names."""
    is_old = version < 3
    native: dict[str, Any] = {}
    for each in VALUES:
        form = ">B" if each.kind == "B" else ">d" if is_old else ">f"
        [value] = struct.unpack_from(form, header, each.old if is_old else each.new)
        native[each.key] = value if each.kind == "B" or is_old else float(f"{value:.7g}")
        if each.key in ("Mode", "PixelSize") or (each.key in NEVER_ZERO and not value):
            continue
        facts.add(each.name, bool(value) if each.key == "HighCurrent" else native[each.key], each.unit, each.group)
    facts.add("Mode", MODES.get(native["Mode"]))
    [step] = struct.unpack_from(">d", header, 24)
    facts.add("dwell_time", step if 0 < step < 1 else None, "s")
    if version >= 6:
        [fahrenheit] = struct.unpack_from(">f", header, 850)
        if fahrenheit and math.isfinite(fahrenheit):
            kelvin = (fahrenheit + FAHRENHEIT_ZERO) * 5 / 9
            facts.add("Recorded Temperature", float(f"{kelvin:.6g}"), "K")
    return native


def _add_texts(header: bytes, version: int, facts: Facts) -> dict[str, str]:
    places = {"DetA": (380, 10), "DetB": (390, 18)}
    places |= {"DetC": (700, 20), "DetD": (720, 20)} if version < 3 else {"DetC": (410, 20), "DetD": (430, 20)}
    detectors = {key: _text(header, *place) for key, place in places.items()}
    read = [name for name, is_on in zip(detectors.values(), header[151:155], strict=True) if is_on and name]
    facts.add("detector_type", ", ".join(read or filter(None, list(detectors.values())[: header[32]])))
    facts.add("Software Date", _text(header, 8, 10))
    notes = _text(header, 180, 200)
    facts.add("Notes", notes)
    if version >= 9:
        facts.add("specimen", _text(header, 155, 25))
    if version >= 5:
        facts.add("microscope", _text(header, 800, 30))
    return {**detectors, "Notes": notes}


def _text(header: bytes, start: int, length: int) -> str:
    text, _ = decode(header[start : start + length].split(b"\0", 1)[0])
    return text.strip()


EXTRACTOR = JaneliaFibsem()
