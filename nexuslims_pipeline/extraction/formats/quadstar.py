"""Balzers/Pfeiffer Quadstar ``.sac`` and ``.sbc``: mass spectra of quadrupole mass spectrometers, cycle by cycle.

Little endian, without a signature:

======  =====  ====================================================================================
offset  type   meaning
======  =====  ====================================================================================
8       6 u1   second, minute, hour, day, month, year since 1900, by the instrument's clock
14      86 B   user
100     i4     cycles; 104: traces (i2, of ``.sac``); 106: bytes of a cycle (i4, of ``.sac``)
194     u4     the same moment in seconds since 1970-01-01 UTC; 198: 0.1 ms (u2)
200            ``.sac``: 9 bytes for each trace: type (u1, 17 for a scan), place of its description
               (i4) and of its first values (i4)
203     u2     ``.sbc``: masses less one
======  =====  ====================================================================================

Scan analog (``.sac``): a description has titles and units (`TRACE`), first mass, width and values per mass. A cycle
begins 6 bytes before the first trace's values with its time (u4 s, u2 0.1 ms); values begin with 4 B and the exponent
of the full scale (i2), then f4. Scan bargraph (``.sbc``): cycles end the file, each has its time (u4, s), 9 B, and
pairs of mass and intensity (f4). Sources: https://www.bubek.org/sac2dat.php, https://github.com/dgbowl/yadg,
https://hyperspy.org/rosettasciio
"""

import math
import struct
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded, on_its_clock, spectral_type
from nexuslims_pipeline.extraction.layouts.spectra import Spectra
from nexuslims_pipeline.extraction.layouts.table_axis import axis_through
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import decode, unix_time
from nexuslims_pipeline.metadata.units import tidy
from nexuslims_pipeline.signals import Axis, Pixels, Signal, Source

HEADER: Final = struct.Struct("<hiBB6B86sihi")
HEADER_BYTES: Final = 256
INSTANT: Final = struct.Struct("<IH")
INSTANT_AT: Final = 194
TRACES_AT: Final = 200
TRACE_HEAD: Final = struct.Struct("<Bii")
TRACE: Final = struct.Struct("<H13s13sx13s13s59s8xfHB")
SCAN: Final = 17
MASSES_AT: Final = 203
BAR_HEAD: Final = 13
MOST_CYCLES: Final = 1 << 20
MOST_TRACES: Final = 256
MASSES: Final = (0.0, 5000.0)
"""No quadrupole goes beyond."""
BARS, TRACES = ".sbc", ".sac"


class Quadstar(Extractor):
    """Mass spectra of Quadstar."""

    name: ClassVar[str] = "quadstar"
    format_name: ClassVar[str] = "Quadstar mass spectra"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({BARS, TRACES})

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether there is a date in it, and the cycles that it declares fit into it."""
        if len(head) < HEADER_BYTES:
            return False
        header = _header(head)
        if header.clock is None or not 0 < header.cycles <= MOST_CYCLES:
            return False
        if source.path.suffix.lower() == TRACES:
            return 0 < header.traces <= MOST_TRACES and header.stride >= 0
        masses = _first_masses(source.path, _bars(head, header, source.path.stat().st_size))
        return len(masses) > 0 and all(MASSES[0] <= mass <= MASSES[1] for mass in masses)

    def extract(self, source: Source) -> list[Signal]:
        """Read the spectra: one dataset of bars, or one for each trace.

        Raises
        ------
        ExtractionError
            If it declares more than it holds, or no trace of spectra.
        """
        size = source.path.stat().st_size
        with source.path.open("rb") as file:
            head = file.read(TRACES_AT + TRACE_HEAD.size * MOST_TRACES)
        header = _header(head)
        if source.path.suffix.lower() == TRACES:
            signals = _traces(source.path, head, header, size)
        else:
            signals = [_bar_signal(source.path, _bars(head, header, size), header)]
        for signal in signals:
            signal.data_type = "Mass_Spectrometry"
            signal.acquired = _started(head, header)
            signal.native = bounded({"header": header.native, **signal.native})
            if header.user:
                signal.fields["operator"] = header.user
        return signals


@dataclass(frozen=True, slots=True)
class Header:
    """What both kinds of file begin with."""

    clock: datetime | None
    user: str
    cycles: int
    traces: int
    stride: int
    native: dict[str, Any]


def _header(head: bytes) -> Header:
    index, program, major, minor, second, minute, hour, day, month, year, user, cycles, traces, stride = (
        HEADER.unpack_from(head)
    )
    try:
        clock = datetime(1900 + year, month, day, hour, minute, second)  # noqa: DTZ001 - the instrument's clock
    except ValueError:
        clock = None
    name = decode(user.partition(b"\0")[0])[0].strip()
    native = {"data index": index, "software": program, "version": [major, minor], "user": name, "cycles": cycles,
              "traces": traces, "bytes of a cycle": stride}  # fmt: skip
    return Header(clock if clock and clock.year >= 1990 else None, name, cycles, traces, stride, native)


def _started(head: bytes, header: Header) -> datetime | None:
    """Time of the clock, with its offset from UTC where the file's instant tells it."""
    seconds, fraction = INSTANT.unpack_from(head, INSTANT_AT)
    try:
        instant = unix_time(seconds + fraction * 1e-4)
    except ValueError:
        return header.clock
    return header.clock and (on_its_clock(header.clock, instant) or header.clock)


@dataclass(frozen=True, slots=True)
class Bars:
    """Where the cycles of a ``.sbc`` lie."""

    start: int
    cycles: int
    masses: int


def _bars(head: bytes, header: Header, size: int) -> Bars | None:
    """None when the file is too short for them."""
    masses = struct.unpack_from("<H", head, MASSES_AT)[0] + 1
    start = size - header.cycles * (BAR_HEAD + 8 * masses)
    return Bars(start, header.cycles, masses) if start >= HEADER_BYTES else None


def _first_masses(path: Path, bars: Bars | None) -> tuple[float, ...]:
    """Masses of the first cycle; empty unless they rise."""
    if bars is None:
        return ()
    with path.open("rb") as file:
        file.seek(bars.start + BAR_HEAD)
        raw = file.read(8 * bars.masses)
    masses = struct.unpack(f"<{2 * bars.masses}f", raw)[::2] if len(raw) == 8 * bars.masses else ()
    return masses if all(map(math.isfinite, masses)) and list(masses) == sorted(set(masses)) else ()


def _bar_signal(path: Path, bars: Bars | None, header: Header) -> Signal:
    import numpy as np

    masses = _first_masses(path, bars)
    if bars is None or not masses:
        msg = f"the file is too short for the {header.cycles} cycles that it declares, or damaged"
        raise ExtractionError(msg)
    pair = np.dtype([("mass", "<f4"), ("intensity", "<f4")])
    cycle = np.dtype([("seconds", "<u4"), ("rest", "V9"), ("bars", pair, (bars.masses,))])
    cycles = np.memmap(path, mode="r", dtype=cycle, offset=bars.start, shape=(bars.cycles,))
    facts = Facts()
    axis = axis_through(masses, "Mass", "Da", facts)
    return _signal(cycles["bars"]["intensity"], cycles["seconds"].tolist(), axis, facts)


def _signal(intensities: Any, seconds: list[float], axis: Axis, facts: Facts) -> Signal:
    """Spectra over mass, one for each of the times of `seconds`."""
    facts.add("Cycles", len(seconds))
    axes: tuple[Axis, ...] = (axis,)
    if len(seconds) > 1:
        since = [second - seconds[0] for second in seconds]
        facts.add("Time of Last Cycle", since[-1], "s")
        axes = (axis_through(since, "Time", "s", facts, navigation=True), axis)
    else:
        intensities = intensities[0]
    if axis.units:
        facts.add("First", tidy(axis.offset), "dalton", "Mass Range")
        facts.add("Last", tidy(axis.offset + axis.scale * (axis.size - 1)), "dalton", "Mass Range")
    shape = tuple(each.size for each in axes)
    signal = Signal(spectral_type(axes), "Mass_Spectrometry", shape, pixels=Pixels(intensities, axes))
    return facts.give_to(signal)


def _traces(path: Path, head: bytes, header: Header, size: int) -> list[Signal]:
    import numpy as np

    end = TRACES_AT + TRACE_HEAD.size * header.traces
    if end > len(head):
        msg = "the file is cut off within its list of traces"
        raise ExtractionError(msg)
    listed = [place for kind, *place in TRACE_HEAD.iter_unpack(head[TRACES_AT:end]) if kind == SCAN]
    if not listed:
        msg = "none of its traces is a scan over masses"
        raise ExtractionError(msg)
    raw: Any = np.memmap(path, mode="r", dtype="u1")
    first = listed[0][1] - INSTANT.size
    _ensure(first >= TRACES_AT and first + (header.cycles - 1) * header.stride + INSTANT.size <= size)
    times = [INSTANT.unpack_from(raw, first + n * header.stride) for n in range(header.cycles)]
    seconds = [round(whole + fraction * 1e-4, 4) for whole, fraction in times]
    return [_trace(raw, header, place, seconds) for place in listed]


def _ensure(fits: bool) -> None:
    if not fits:
        msg = "the file is too short for the traces and cycles that it declares (a copy that broke off?)"
        raise ExtractionError(msg)


def _trace(raw: Any, header: Header, place: list[int], seconds: list[float]) -> Signal:
    import numpy as np

    description, values = place
    _ensure(description >= 0 and description + TRACE.size <= len(raw))
    kind, *texts, first, width, per_mass = TRACE.unpack_from(raw, description)
    quantity, unit, x_title, x_unit, comment = (decode(text.partition(b"\0")[0])[0].strip() for text in texts)
    count = width * per_mass
    _ensure(count > 0 and math.isfinite(first))
    _ensure(values >= 0 and values + (header.cycles - 1) * header.stride + 6 + 4 * count <= len(raw))

    def spectra(cycles: Any) -> Any:
        """Values of some cycles; NaN beyond the full scale, where the amplifier was overloaded."""
        result = np.empty((len(cycles), count), "f4")
        for row, cycle in enumerate(cycles):
            start = values + int(cycle) * header.stride
            [exponent] = struct.unpack_from("<h", raw, start + 4)
            result[row] = np.frombuffer(raw, "<f4", count, start + 6)
            result[row][result[row] > 10.0 ** max(-300, min(exponent, 300))] = np.nan
        return result

    facts = Facts()
    facts.add("Quantity", quantity)
    facts.add("Unit", unit)
    facts.add("Comment", comment)
    facts.add("Values per Mass", per_mass)
    axis = Axis(count, 1 / per_mass, tidy(first), "Da", "Mass")
    signal = _signal(Spectra((header.cycles,), count, np.dtype("f4"), spectra), seconds, axis, facts)
    signal.name = quantity
    signal.native = {"trace": {"format": kind, "x": [x_title, x_unit], "y": [quantity, unit], "comment": comment,
                               "first mass": first, "width": width, "values per mass": per_mass}}  # fmt: skip
    return signal


EXTRACTOR = Quadstar()
