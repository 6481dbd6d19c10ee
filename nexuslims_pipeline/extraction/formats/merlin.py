"""Quantum Detectors Merlin ``.mib``: frames of a Medipix detector, the acquisition's settings in a ``.hdr`` beside.

Every frame is a text header of fields with commas between them, filled up with NUL, and the pixels, big endian:

=====  =========================================================================================
field  meaning
=====  =========================================================================================
0-3    ``MQ1``, number of the frame, bytes of this header, number of chips
4-7    columns, rows, pixel type (U08, U16, U32, U64; R64 as it comes from the chips), layout
8-10   chips in use, local time, exposure in s
11-13  counter, colour mode, gain mode (0 to 3: super low, low, high, super high)
14-21  thresholds in keV; then the chip's type and its digital-to-analogue converters
after  ``MQ1A``, time in UTC, exposure in ns, bits of a counter
=====  =========================================================================================

The first row of a frame is the lowest. R64 is made of words of 64 bits whose last pixel comes first; pixels have 1
bit, 8 (for 6), or 16 (for 12); 24 bits are two frames of 12, the higher one first. The four chips of a 2x2 detector
then lie side by side in a row: the lower pair upside down, and before the upper one.

The ``.hdr`` has ``Key:<tab>value`` lines. Its ``ScanX`` and ``ScanY`` or its frames per trigger (a row of the scan) say
how a scan was made. Without them the rows are told by the pauses between them.

Merlin EM user manual; LiberTEM's reader (https://github.com/LiberTEM/LiberTEM) for R64.
"""

import contextlib
import itertools
import re
import statistics
from dataclasses import dataclass
from datetime import datetime
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded, entry, on_its_clock
from nexuslims_pipeline.extraction.layouts.frames import Frames, cut_off, present_part
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import moment, number, read_text
from nexuslims_pipeline.signals import Axis, Pixels, Signal, Source

MAGIC: Final = b"MQ1,"
LONGEST_HEADER: Final = 4096
LARGEST_SIDE: Final = 1 << 14
CHIP: Final = 256
"""Rows and columns of a chip."""
TIMED_FRAMES: Final = 1024
"""Frames whose times are read to find the rows of a scan: each is a read of its own on a slow share."""
PAUSE: Final = 1.5
"""A row of a scan ends where the time to the next frame is that many times the usual one."""
GAINS: Final = ("Super Low", "Low", "High", "Super High")
KINDS: Final = ("U08", "U16", "U32", "U64", "R64")
RAW_BITS: Final = {1: 1, 6: 8, 12: 16, 24: 16}
"""Bits that a raw pixel takes, by the depth of the counter."""
LAST_NEEDED: Final = 9
"""Field of the local time; older versions have no more."""
HDR_MARK: Final = re.compile(rb"HDR,\s")
HDR_END: Final = re.compile(r"^End\b", re.MULTILINE)
HDR_HINT: Final = re.compile(r"\s*\([^)]*\)$")
"""What a key says of its values: ``(Normal, Th_scan, Config)``."""
STARTED: Final = "Time and Date Stamp"
EXPOSURE: Final = entry("exposure_time", "s", "header", never_zero=True)
ENTRIES: Final = (
    entry("Chip Mode", None, "Chip_Mode"),
    entry("Active Counters", None, "Active_Counters"),
    entry("Acquisition Type", None, "Acquisition_Type"),
    entry("Frames in Acquisition", "", "Frames_in_Acquisition", never_zero=True),
    entry("Frames per Trigger", "", "Frames_per_Trigger", never_zero=True),
    entry("Trigger Start", None, "Trigger_Start"),
    entry("Trigger Stop", None, "Trigger_Stop"),
    entry("Sensor Bias", "V", "Sensor_Bias"),
    entry("Sensor Polarity", None, "Sensor_Polarity"),
    entry("Clock Frequency", "MHz", "Medipix_Clock"),
    entry("Gap Fill", None, "Gap_Fill_Mode"),
    entry("Flat Field", None, "Flat_Field_File"),
)
BOARD: Final = (("Temperature", "Board Temperature", "degC"), ("Humidity", "Board Humidity", "percent"))
"""Sensors of the readout board; 0 where there is none."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the frames of a file are stored."""

    header: int
    """Bytes before the pixels of each frame."""
    stored: tuple[int, int]
    """Rows and columns as they lie in the file."""
    kind: str
    """``U16``, ``R64``."""
    depth: int
    """Bits of a counter."""
    chips: str
    """``1x1``, ``2x2``, ``Nx1`` …"""

    @property
    def halves(self) -> int:
        """Frames in the file that make one frame."""
        return 2 if self.kind == "R64" and self.depth == 24 else 1

    @property
    def is_quad(self) -> bool:
        """Whether the chips of a frame still have to be put to their places."""
        return self.kind == "R64" and self.chips.startswith("2x2") and self.stored == (CHIP, 4 * CHIP)

    @property
    def frame(self) -> tuple[int, int]:
        """Rows and columns of a finished frame."""
        return (2 * CHIP, 2 * CHIP) if self.is_quad else self.stored

    @property
    def bits(self) -> int:
        """Bits that a stored pixel takes; 0 when that is not known."""
        return RAW_BITS.get(self.depth, 0) if self.kind == "R64" else int(self.kind[1:])

    @property
    def size(self) -> int:
        """Bytes of a frame with its header."""
        return self.header + self.halves * prod(self.stored) * self.bits // 8


class Merlin(Extractor):
    """Single patterns, series and scans of Merlin detectors."""

    name: ClassVar[str] = "merlin"
    format_name: ClassVar[str] = "Quantum Detectors Merlin"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".mib", ".hdr"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether it begins with a frame, or is the settings of frames that are not here."""
        return head.startswith(MAGIC) or (source.path.suffix.lower() == ".hdr" and bool(HDR_MARK.match(head)))

    def extract(self, source: Source) -> list[Signal]:
        """Read the frames as one dataset, settings without frames as a text.

        Raises
        ------
        ExtractionError
            If the header of the first frame is damaged.
        """
        hdr = next((path for path in (source.path, *source.companions) if path.suffix.lower() == ".hdr"), None)
        text = read_text(hdr) if hdr else ""
        settings = _settings(text)
        facts = Facts()
        if hdr and not HDR_END.search(text):
            facts.warnings["Vendor Metadata"] = f"{hdr.name} ends before its last line (a copy that broke off?)."
        if hdr == source.path:
            _add_settings(settings, facts)
            signal = Signal("Misc", "TEM_Diffraction", acquired=_started(settings, facts), native=bounded(settings))
            signal.text = text
            return [facts.give_to(signal)]
        fields = _header(source.path)
        layout = _layout(fields)
        signal = Signal("Diffraction", "TEM_Diffraction", acquired=_acquired(fields, settings, facts))
        signal.native = bounded({"frame_header": ",".join(fields), "hdr": settings})
        _add_header(fields, layout, facts)
        _add_settings(settings, facts)
        if layout.bits:
            _give_frames(signal, source.path, layout, settings, facts)
        else:
            facts.warnings["Pixels"] = f"They are not drawn: raw pixels of {layout.depth} bits are not known."
        return [facts.give_to(signal)]


def _header(path: Path) -> list[str]:
    """Fields of the first frame's header.

    Raises
    ------
    ExtractionError
        If it is cut off or lacks what every header has.
    """
    with path.open("rb") as file:
        head = file.read(LONGEST_HEADER)
    size = head.split(b",", 3)[2] if head.count(b",") > 2 else b""
    if size.isdigit() and int(size) <= len(head):
        fields = head[: int(size)].split(b"\0", 1)[0].decode("ascii", "replace").split(",")
        if len(fields) > LAST_NEEDED:
            return [field.strip() for field in fields]
    msg = "it is damaged: the header of its first frame is cut off or no header"
    raise ExtractionError(msg)


def _layout(fields: list[str]) -> Layout:
    """Sizes of the frames.

    Raises
    ------
    ExtractionError
        If they make no sense.
    """
    columns, rows, kind, chips = fields[4:8]
    if not (columns.isdecimal() and rows.isdecimal()) or kind not in KINDS:
        msg = f"it is damaged: its header says {columns[:20]} × {rows[:20]} pixels of the kind {kind[:20]!r}"
        raise ExtractionError(msg)
    tail = _tail(fields)
    depth = int(tail[2]) if len(tail) > 2 and tail[2].isdecimal() else 0
    stored = int(rows), int(columns) // (2 if kind == "R64" and depth == 24 else 1)
    if not all(0 < side <= LARGEST_SIDE for side in stored):
        msg = f"it is damaged: its header says {columns[:20]} × {rows[:20]} pixels"
        raise ExtractionError(msg)
    return Layout(int(fields[2]), stored, kind, depth, chips)


def _tail(fields: list[str]) -> list[str]:
    """Time in UTC, exposure and depth, which newer versions add at the end."""
    return fields[fields.index("MQ1A") + 1 :] if "MQ1A" in fields else []


def _settings(text: str) -> dict[str, str]:
    """Keys of a ``.hdr`` without what they say of their values, and the values."""
    pairs = (line.partition(":\t") for line in text.split("\n"))
    return {HDR_HINT.sub("", key): value.strip() for key, tab, value in pairs if tab}


def _acquired(fields: list[str], settings: dict[str, str], facts: Facts) -> datetime | None:
    """Time of the first frame, on the clock of the computer where that can be told."""
    moments = []
    for text in (fields[9], *_tail(fields)[:1]):
        try:
            moments.append(moment(text))
        except ValueError as fault:
            facts.warnings["Creation Time"] = f"The frame says {fault}."
    if not moments:
        return _started(settings, facts)
    wall, instant = moments[0], moments[-1]
    if wall.tzinfo is None and instant.tzinfo is not None:
        return on_its_clock(wall, instant) or instant
    return wall


def _started(settings: dict[str, str], facts: Facts) -> datetime | None:
    """Start of the acquisition: day, month, year on the computer's clock."""
    text = settings.get(STARTED, "")
    found = re.fullmatch(r"(\d+)/(\d+)/(\d{4})\s+(.+)", text)
    try:
        return moment("{2}-{1}-{0}T{3}".format(*found.groups())) if found else None
    except ValueError as fault:
        facts.warnings["Creation Time"] = f"The settings say {fault}."
        return None


def _add_header(fields: list[str], layout: Layout, facts: Facts) -> None:
    facts.add("acquisition_device", "Merlin")
    facts.add("detector_type", "Medipix")
    exposure = _tail(fields)[1:2]
    if exposure and exposure[0].removesuffix("ns").isdecimal():
        facts.add_measured("exposure_time", float(exposure[0].removesuffix("ns")) * 1e-9, "s")
    else:
        facts.add_entries((EXPOSURE,), lambda _: fields[10] if len(fields) > 10 else "")
    facts.add("Chip Layout", layout.chips)
    facts.add("Counter Depth", layout.depth or None)
    facts.add("Pixel Type", layout.kind)
    thresholds = fields[14:22]
    for n, text in enumerate(thresholds):
        with contextlib.suppress(ValueError):
            facts.add_measured(f"Threshold {n}", number(text), "keV", "Thresholds")
    if len(fields) > 13 and fields[13].isdecimal() and int(fields[13]) < len(GAINS):
        facts.add("Gain Mode", GAINS[int(fields[13])])


def _add_settings(settings: dict[str, str], facts: Facts) -> None:
    if not settings:
        return
    facts.add("acquisition_device", settings.get("Readout System"))
    facts.add("detector_type", settings.get("Chip Type"))
    facts.add("software", f"Merlin {settings['Software Version']}" if settings.get("Software Version") else None)
    facts.add("Chip ID", settings.get("Chip ID", "").rstrip(" ,-"))
    facts.add_entries(ENTRIES, lambda place: settings.get(place.replace("_", " "), ""))
    for key, name, unit in BOARD:
        found = re.search(r"(-?\d+\.\d+)", settings.get(key, ""))
        if found:
            facts.add_measured(name, float(found[1]), unit)


def _give_frames(signal: Signal, path: Path, layout: Layout, settings: dict[str, str], facts: Facts) -> None:
    """Put the frames that are there to `signal`, in the shape of the scan."""
    frames = path.stat().st_size // layout.size
    scan = _scan(path, layout, settings, frames)
    facts.warnings.update({"Pixels": words} if (words := cut_off(frames, prod(scan))) else {})
    if len(scan) > 1:
        signal.data_type = "STEM_Diffraction"
    else:
        facts.add("frames", frames or None)
    if frames == 0:
        return
    scan = present_part(scan, frames)
    array = _array(path, layout, () if scan == (1,) else scan)
    names = ("y", "x") if len(scan) == 2 else ("Frame",)
    axes = (
        *(Axis(size, name=name, navigation=True) for size, name in zip(array.shape[:-2], names, strict=False)),
        Axis(layout.frame[0], name="ky"),
        Axis(layout.frame[1], name="kx"),
    )
    signal.shape = tuple(array.shape)
    signal.pixels = Pixels(array, axes)


def _array(path: Path, layout: Layout, scan: tuple[int, ...]) -> Any:
    """Frames in the shape of `scan`, with the uppermost row first."""
    import numpy as np

    content = (layout.halves * prod(layout.stored) * layout.bits // 8,) if layout.kind == "R64" else layout.stored
    pixel = "u1" if layout.kind == "R64" else f">u{layout.bits // 8}"
    record = np.dtype([("header", np.void, layout.header), ("pixels", pixel, content)])
    records = np.memmap(path, record, "r", shape=scan or (1,))["pixels"]
    if layout.kind != "R64":
        array = records[..., ::-1, :]
        return array if scan else array[0]
    raw = records.reshape(-1, *content)
    dtype = np.dtype({1: "u1", 6: "u1", 12: "u2", 24: "u4"}[layout.depth])
    return Frames(scan, layout.frame, dtype, lambda number: _decoded(raw[number], layout)[::-1])


def _decoded(raw: Any, layout: Layout) -> Any:
    """Pixels of a frame as it came from the chips."""
    import numpy as np

    words = np.asarray(raw).reshape(-1, 8)
    pixels: Any
    if layout.depth == 1:
        pixels = np.unpackbits(words[:, ::-1], bitorder="little")
    elif layout.depth == 6:
        pixels = words[:, ::-1]
    else:
        pixels = words.view(">u2")[:, ::-1].astype("u2")
    if layout.halves == 2:
        high, low = pixels.reshape(2, -1)
        pixels = (high.astype("u4") << 12) + low
    if not layout.is_quad:
        return pixels.reshape(layout.stored)
    chips = pixels.reshape(CHIP, 4, CHIP)
    upper = np.hstack((chips[:, 3], chips[:, 2]))
    lower = np.hstack((chips[::-1, 1, ::-1], chips[::-1, 0, ::-1]))
    return np.vstack((upper, lower))


def _scan(path: Path, layout: Layout, settings: dict[str, str], frames: int) -> tuple[int, ...]:
    """Shape of the scan that the frames are, or should be, of; a number of frames when they are a series."""
    columns, rows = _count(settings, "ScanX"), _count(settings, "ScanY")
    acquired = _count(settings, "Frames in Acquisition") or max(frames, 1)
    if columns * rows > 1 and columns * rows >= frames:
        return (rows, columns)
    row = _count(settings, "Frames per Trigger")
    if row <= 1 and acquired == frames:
        row = _row_by_pauses(path, layout, frames)
    if 1 < row < acquired and acquired % row == 0 and acquired >= frames:
        return (acquired // row, row)
    return (max(frames, acquired),)


def _count(settings: dict[str, str], key: str) -> int:
    text = settings.get(key, "")
    return int(text) if re.fullmatch(r"\d{1,9}", text) else 0


def _row_by_pauses(path: Path, layout: Layout, frames: int) -> int:
    """Frames of a row of the scan, told by the pause that the beam's way back makes; 0 when there is none."""
    times: list[datetime] = []
    with path.open("rb") as file:
        for n in range(min(frames, TIMED_FRAMES)):
            file.seek(n * layout.size)
            fields = file.read(layout.header).split(b"\0", 1)[0].decode("ascii", "replace").split(",")
            try:
                times.append(datetime.fromisoformat(fields[9]))
            except (ValueError, IndexError):
                return 0
    steps = [(after - before).total_seconds() for before, after in itertools.pairwise(times)]
    if len(steps) < 3:
        return 0
    usual = statistics.median(steps)
    ends = [n for n, step in enumerate(steps, start=1) if step > PAUSE * usual > 0]
    row = ends[0] if len(ends) > 1 else 0
    return row if ends == list(range(row, len(times), row or 1)) else 0


EXTRACTOR = Merlin()
