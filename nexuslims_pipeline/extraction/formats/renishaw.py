"""Renishaw WiRE ``.wdf``: Raman and photoluminescence spectra, series, lines and maps.

A file is a row of blocks, each with a head of 16 bytes: name (4 characters), number (u4), size with the head (u8).
Little endian. Those that are read:

========  ==========================================================================================
block     content (offsets from the end of its head)
========  ==========================================================================================
``WDF1``  the header, see `HEADER`
``DATA``  the spectra, f4, one after the other
``XLST``  kind (u4), unit (u4), coordinate of each channel (f4)
``ORGN``  count (u4), then for each list: kind (u4, the highest bit marks the axis of a series), unit
          (u4), name (16 B), one f8 per spectrum (u8 FILETIME for times)
``WMAP``  flags (u4), 4 B, then for x, y and z: first positions (f4), steps (f4), points (u4)
``WXDM``  settings of the measurement; ``WXIS`` of the instrument, ``WXCS`` its calibration
``TEXT``  the operator's remarks
``WHTL``  white light image, a JPEG file
========  ==========================================================================================

Settings are ``PSET``, a size (u4), and entries of a type (1 character), flags (u1; 64: packed, 128: an array), the
number of their name (u2) and a value; the names of the numbers are entries themselves (type ``k``), and serve for the
sets within a set as well. Sources: the file module ``renishaw.c`` of http://gwyddion.net,
https://doi.org/10.5281/zenodo.495477 and https://hyperspy.org/rosettasciio.
"""

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Final, TypeAlias

from nexuslims_pipeline.extraction.facts import Facts, bounded, spectral_type
from nexuslims_pipeline.extraction.layouts.spectra import Spectra
from nexuslims_pipeline.extraction.layouts.table_axis import axis_through, even_pixels
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import decode, filetime
from nexuslims_pipeline.signals import Axis, Pixels, Signal, Source

Settings: TypeAlias = dict[str, Any]

HEADER: Final = struct.Struct("<Q16s12xIIIQQIIII24s4HIIQQIf48x32s160s")
"""From byte 16: flags, UUID, tracks, status, channels, spectra to take and taken, accumulations, lengths of ``YLST``,
``XLST`` and ``ORGN``, program and version, scan type, measurement type, start and end, unit, laser wavenumber in 1/cm,
user, title."""
HEADER_END: Final = 512
BLOCK: Final = struct.Struct("<4sIQ")
MOST_BLOCKS: Final = 10_000
SETTINGS_LIMIT: Final = 4 << 20
"""Bytes of a block of settings; real ones have 0.3 MB, most of it the program of the measurement."""
SETTINGS_DEPTH: Final = 16
MOST_SETTINGS: Final = 100_000
MOST_POSITIONS: Final = 1 << 22
MOST_CHANNELS: Final = 1 << 20
PICTURE_LIMIT: Final = 32 << 20
"""Bytes of the white light image, and pixels that are decoded of it."""
NUMBERS: Final = {"?": "B", "c": "b", "s": "h", "i": "i", "w": "q", "r": "f", "q": "d", "t": "Q"}
PACKED, ARRAY = 64, 128

SERIES, MAP = 2, 3
MEASUREMENTS: Final = {1: "single", SERIES: "series", MAP: "map"}
SCANS: Final = {1: "static", 2: "continuous", 3: "step and repeat", 4: "filter scan", 5: "filter image",
                6: "StreamLine", 7: "StreamLine HR", 8: "point detector"}  # fmt: skip
RANDOM, LINE = 1, 128
"""Flags of ``WMAP``."""
UNITS: Final = {1: "1/cm", 2: "1/cm", 3: "nm", 4: "eV", 5: "µm", 8: "mm", 9: "m", 10: "K", 11: "Pa", 12: "s", 13: "ms",
                14: "hour", 15: "day", 19: "deg", 20: "rad", 21: "degC", 22: "degF", 25: "µs"}  # fmt: skip
SPECTRAL_NAMES: Final = {1: "Raman Shift", 2: "Wavenumber", 3: "Wavelength", 4: "Energy", 5: "Wavelength"}
X, Y, Z, TEMPERATURE, PRESSURE, TIME, POLARISATION, FOCUS = 3, 4, 5, 9, 10, 11, 13, 14
POSITIONS: Final = {X: "X", Y: "Y", Z: "Z", 6: "R", 7: "Theta", 8: "Phi", TEMPERATURE: "Temperature",
                    PRESSURE: "Pressure", TIME: "Time", POLARISATION: "Polarisation",
                    FOCUS: "Focus Track Z"}  # fmt: skip
"""Kinds of ``ORGN`` that may be the axis of a series; others are check sums and the like."""
ON_GRID: Final = 0.25
"""Part of a step by which a spectrum may lie beside its place of the map."""
MICROMETRES_IN_EXIF: Final = 5


class RenishawWdf(Extractor):
    """Spectra of Renishaw's Raman microscopes."""

    name: ClassVar[str] = "renishaw"
    format_name: ClassVar[str] = "Renishaw WiRE"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".wdf"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:  # noqa: ARG002 - the head says it all
        """Whether it begins with a header block of WiRE's size."""
        return len(head) >= BLOCK.size and BLOCK.unpack_from(head)[::2] == (b"WDF1", HEADER_END)

    def extract(self, source: Source) -> list[Signal]:
        """Read the spectra, and the image of the place where they were taken.

        Raises
        ------
        ExtractionError
            If the header is cut off or declares what cannot be.
        """
        facts = Facts()
        with source.path.open("rb") as file:
            blocks = _blocks(file, source.path.stat().st_size, facts)
            header = _header(file)
            settings = {name: _settings(file, blocks, name) for name in ("WXDM", "WXIS", "WXCS", "WXDA")}
            remarks = _text(_content(file, blocks.get("TEXT"), SETTINGS_LIMIT))
            spectral, coordinates = _spectral_axis(file, blocks.get("XLST"), header.channels, facts)
            grid = _grid(file, blocks, header, facts)
            picture = _content(file, blocks.get("WHTL"), PICTURE_LIMIT)
        _add_header(header, facts)
        _add_settings(settings["WXDM"], settings["WXIS"], settings["WXCS"], facts)
        facts.add("Notes", remarks)
        axes = (*grid.axes, spectral)
        signal = Signal(
            spectral_type(axes),
            "Optical_Spectroscopy",
            shape=tuple(axis.size for axis in axes),
            name=header.title,
            acquired=_started(header, facts),
            native=bounded({"header": header.native, **settings}),
        )
        numbers = _numbers(source.path, blocks.get("DATA"), signal.shape, grid.order, facts)
        signal.pixels = even_pixels(numbers, axes, coordinates) if numbers is not None else None
        facts.add_axes(axes)
        signals = [facts.give_to(signal)]
        if picture:
            signals += _white_light(picture, signal)
        return signals


@dataclass(frozen=True, slots=True)
class Block:
    """Content of a block."""

    start: int
    size: int
    is_whole: bool


def _blocks(file: BinaryIO, size: int, facts: Facts) -> dict[str, Block]:
    """First block of each name; a warning where the file ends too early or the chain breaks."""
    blocks: dict[str, Block] = {}
    place = 0
    for _ in range(MOST_BLOCKS):
        if place + BLOCK.size > size:
            break
        file.seek(place)
        name, _, length = BLOCK.unpack(file.read(BLOCK.size))
        if length < BLOCK.size:
            facts.warnings["Blocks"] = f"The file is damaged at byte {place}; what follows is left out."
            return blocks
        end = min(place + length, size)
        block = Block(place + BLOCK.size, end - place - BLOCK.size, place + length <= size)
        blocks.setdefault(name.decode("latin-1").strip(), block)
        place += length
    if place != size:
        facts.warnings["Blocks"] = "The file ends within one of its blocks (a copy that broke off?)."
    return blocks


def _content(file: BinaryIO, block: Block | None, limit: int) -> bytes:
    """What is in a block; empty when there is none, or when it is cut off or too large."""
    if block is None or not block.is_whole or block.size > limit:
        return b""
    file.seek(block.start)
    return file.read(block.size)


def _text(raw: bytes) -> str:
    return decode(raw.partition(b"\0")[0])[0].strip()


@dataclass(frozen=True, slots=True)
class Header:
    """What the block ``WDF1`` says."""

    channels: int
    planned: int
    taken: int
    program: str
    scan: int
    measurement: int
    start: int
    end: int
    laser: float
    """1/cm."""
    user: str
    title: str
    native: Settings


def _header(file: BinaryIO) -> Header:
    file.seek(BLOCK.size)
    raw = file.read(HEADER.size)
    if len(raw) < HEADER.size:
        msg = "the file is cut off within its header"
        raise ExtractionError(msg)
    (flags, uuid, tracks, status, channels, planned, taken, accumulations, *_, program, a, b, c, d, scan, measurement,
     start, end, unit, laser, user, title) = HEADER.unpack(raw)  # fmt: skip
    if not 0 < channels <= MOST_CHANNELS or taken > planned or not planned:
        msg = f"its header declares {taken} of {planned} spectra of {channels} channels, which cannot be"
        raise ExtractionError(msg)
    if not taken:
        msg = "the measurement was ended before its first spectrum was taken"
        raise ExtractionError(msg)
    native = {
        "flags": flags, "uuid": uuid.hex(), "tracks": tracks, "status": status, "channels": channels,
        "spectra": taken, "planned spectra": planned, "accumulations": accumulations, "scan type": scan,
        "measurement type": measurement, "start": start, "end": end, "unit": unit, "user": _text(user),
    }  # fmt: skip
    return Header(
        channels, planned, taken, f"{_text(program)} {a}.{b}.{c}.{d}", scan, measurement, start, end, laser,
        _text(user), _text(title), native,
    )  # fmt: skip


def _settings(file: BinaryIO, blocks: Mapping[str, Block], name: str) -> Settings:
    """Settings of a block by their names; those that have none in the file by their numbers."""
    raw = _content(file, blocks.get(name), SETTINGS_LIMIT)
    if not raw.startswith(b"PSET") or len(raw) < 8:
        return {}
    [size] = struct.unpack_from("<I", raw, 4)
    return _SettingsReader(raw).named(8, min(8 + size, len(raw)))


class _SettingsReader:
    """Entries of one block; what is damaged ends the set that it is in."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._left = MOST_SETTINGS

    def named(self, start: int, end: int, outer: Mapping[int, str] | None = None, depth: int = 0) -> Settings:
        entries = list(self._entries(start, end))
        names = {**(outer or {}), **{number: _text(self._raw[slice(*span)]) for kind, number, span in entries
                                     if kind == "k"}}  # fmt: skip
        result: Settings = {}
        for kind, number, value in entries:
            name = names.get(number, str(number))
            if kind == "p" and depth < SETTINGS_DEPTH:
                result.setdefault(name, self.named(value[0], value[1], names, depth + 1))
            elif kind == "u":
                result.setdefault(name, _text(self._raw[slice(*value)]))
            elif kind not in "kbp":
                result.setdefault(name, value)
        return result

    def _entries(self, place: int, end: int) -> Iterator[tuple[str, int, Any]]:
        """Type, number of the name, and value: a number, a list of them, or begin and end of what is longer."""
        while place + 4 <= end and self._left > 0:
            self._left -= 1
            kind, flags, number = struct.unpack_from("<BBH", self._raw, place)
            form = "" if flags & PACKED else NUMBERS.get(chr(kind), "")
            place += 4
            count = 1
            if flags & ARRAY or not form:
                if place + 4 > end:
                    return
                [count] = struct.unpack_from("<I", self._raw, place)
                place += 4
            length = count * struct.calcsize("<" + form) if form else count
            if place + length > end or (not form and chr(kind) not in "ukpb"):
                return
            if form:
                values = struct.unpack_from(f"<{count}{form}", self._raw, place)
                yield chr(kind), number, list(values) if flags & ARRAY else values[0]
            elif not flags & PACKED:
                yield chr(kind), number, (place, place + length)
            place += length


def _spectral_axis(file: BinaryIO, block: Block | None, channels: int, facts: Facts) -> tuple[Axis, tuple[float, ...]]:
    """Axis of the channels, and their coordinates."""
    raw = _content(file, block, 8 + 4 * MOST_CHANNELS)
    if len(raw) < 8 + 4 * channels:
        facts.warnings["Spectral Axis"] = "The file lacks its coordinates, so that it is not calibrated."
        return Axis(channels, name="Channel"), ()
    _, unit = struct.unpack_from("<II", raw)
    values = struct.unpack_from(f"<{channels}f", raw, 8)
    name = SPECTRAL_NAMES.get(unit, "Channel")
    axis = axis_through(values, name, UNITS.get(unit, ""), facts)
    if axis.units:
        facts.add("First Channel", values[0], axis.units, name)
        facts.add("Last Channel", values[-1], axis.units, name)
    return axis, values


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the spectra were taken."""

    axes: tuple[Axis, ...] = ()
    order: Any = None
    """Number of the spectrum for each place; None when they lie in the file as they do on the axes."""


def _grid(file: BinaryIO, blocks: Mapping[str, Block], header: Header, facts: Facts) -> Grid:
    if header.taken < header.planned:
        facts.warnings["Spectra"] = f"The measurement was ended after {header.taken} of {header.planned} spectra."
    if header.taken == 1:
        return Grid()
    lists = _position_lists(_content(file, blocks.get("ORGN"), 1 << 28), header.taken)
    raw = _content(file, blocks.get("WMAP"), SETTINGS_LIMIT)
    grid = _map(raw, lists, header, facts) if header.measurement == MAP and len(raw) >= 44 else None
    return grid or Grid((_series_axis(lists, header, facts),))


@dataclass(frozen=True, slots=True)
class Positions:
    """One of the lists of ``ORGN``."""

    kind: int
    units: str
    is_axis: bool
    values: Any
    """NumPy array of the length of the spectra, f8 or u8."""


def _position_lists(raw: bytes, taken: int) -> list[Positions]:
    """Lists of positions; their length is that of the spectra that were planned, told by the block's size."""
    import numpy as np

    count = struct.unpack_from("<I", raw)[0] if len(raw) >= 4 else 0
    length = ((len(raw) - 4) // count - 24) // 8 if 0 < count < 256 else 0
    if not taken <= length <= MOST_POSITIONS:
        return []
    lists = []
    for n in range(count):
        place = 4 + n * (24 + 8 * length)
        kind, unit = struct.unpack_from("<II", raw, place)
        dtype = "<u8" if kind & 0x7FFFFFFF == TIME else "<f8"
        values = np.frombuffer(raw, dtype, taken, place + 24)
        lists.append(Positions(kind & 0x7FFFFFFF, UNITS.get(unit, ""), kind >> 31 == 1, values))
    return lists


def _series_axis(lists: list[Positions], header: Header, facts: Facts) -> Axis:
    """Axis of what was varied from one spectrum to the next."""
    import numpy as np

    known = [each for each in lists if each.kind in POSITIONS and len(np.unique(each.values)) > 1]
    chosen = sorted(known, key=lambda each: (not each.is_axis, each.kind == TIME))
    if not chosen or (header.measurement == MAP and not chosen[0].is_axis):
        return Axis(header.taken, name="Spectrum", navigation=True)
    best = chosen[0]
    if best.kind == TIME:
        seconds = ((best.values - best.values[0]).astype("i8") / 1e7).tolist()
        return axis_through(seconds, "Time", "s", facts, navigation=True)
    return axis_through(best.values.tolist(), POSITIONS[best.kind], best.units, facts, navigation=True)


def _map(raw: bytes, lists: list[Positions], header: Header, facts: Facts) -> Grid | None:
    """Grid of a map or a line; None when the spectra lie on none."""
    flags, *numbers = struct.unpack_from("<I4x6f3I", raw)
    first, steps, points = numbers[:3], numbers[3:6], [max(1, count) for count in numbers[6:]]
    units = next((each.units for each in lists if each.kind in (X, Y)), "µm")
    calibrated = all(map(math.isfinite, (*first, *steps)))
    if not calibrated or flags & RANDOM or math.prod(points) != header.planned:
        facts.warnings["Map"] = "Its spectra lie on no regular grid, so that they are shown in their order."
        return None
    for name, step, count in zip("XYZ", steps, points, strict=True):
        if count > 1:
            facts.add_measured(name, float(f"{abs(step):.6g}"), units, "Map Step")
    if flags & LINE:
        step = float(f"{math.hypot(*steps[:2]):.6g}")
        return Grid((Axis(header.taken, step, 0.0, units, "Distance", navigation=True),))
    order = _order(lists, points, steps) if header.taken == header.planned else None
    if header.taken < header.planned:  # whole lines
        points = [points[0], header.taken // points[0], 1]
        if not points[1]:
            return None
    axes = [
        Axis(points[n], float(f"{steps[n]:.6g}") or 1.0, float(f"{first[n]:.6g}"), units, "XYZ"[n], navigation=True)
        for n in (2, 1, 0)
    ]
    return Grid(tuple(axes if points[2] > 1 else axes[1:]), order)


def _order(lists: list[Positions], points: list[int], steps: list[float]) -> Any:
    """Spectrum of each place, row by row, from the positions: maps are taken by columns or in zigzag as well."""
    import numpy as np

    positions = {each.kind: each.values for each in lists}
    place: Any = 0
    for kind, count, step, stride in zip((X, Y, Z), points, steps, np.cumprod([1, *points[:2]]), strict=True):
        if count == 1:
            continue
        if kind not in positions or not step:
            return None
        along = positions[kind] / step
        along = along - along.min()
        index = np.rint(along)
        if not np.all(np.abs(along - index) < ON_GRID) or index.max() >= count:
            return None
        place = place + index.astype("i8") * int(stride)
    order = np.argsort(place, kind="stable")
    if not np.array_equal(place[order], np.arange(len(order))):
        return None
    return None if np.array_equal(order, np.arange(len(order))) else order


def _numbers(path: Path, block: Block | None, shape: tuple[int, ...], order: Any, facts: Facts) -> Any:
    """The spectra, mapped from the file; None when they are not all there."""
    import numpy as np

    count = math.prod(shape)
    if block is None or block.size < 4 * count:
        facts.warnings["Pixels"] = "The file ends before its last spectrum (a copy that broke off?)."
        return None
    if order is None:
        return np.memmap(path, mode="r", dtype="<f4", offset=block.start, shape=shape)
    spectra = np.memmap(path, mode="r", dtype="<f4", offset=block.start, shape=(count // shape[-1], shape[-1]))
    return Spectra(shape[:-1], shape[-1], spectra.dtype, lambda places: spectra[order[places]])


def _started(header: Header, facts: Facts) -> Any:
    """Start of the measurement; files that were put together from others have none."""
    if not header.start:
        return None
    try:
        return filetime(header.start)
    except ValueError as fault:
        facts.warnings["Creation Time"] = str(fault)
        return None


def _add_header(header: Header, facts: Facts) -> None:
    facts.add("software", header.program)
    facts.add("operator", header.user)
    facts.add("Measurement", MEASUREMENTS.get(header.measurement))
    facts.add("Scan Type", SCANS.get(header.scan))
    if math.isfinite(header.laser) and header.laser > 0:
        facts.add("laser_wavelength", float(f"{1e7 / header.laser:.7g}"), "nm")
    seconds = (header.end - header.start) / 1e7
    if header.start and 0 < seconds < 1e7:
        facts.add("acquisition_time", round(seconds, 3), "s")


def _add_settings(measurement: Settings, instrument: Settings, calibration: Settings, facts: Facts) -> None:
    kind = str(instrument.get("Instrument type") or "")
    facts.add("microscope", f"Renishaw {kind}" if kind else "")
    stage = _set(instrument, "Stage")
    for key, name in (("X", "stage_x"), ("Y", "stage_y"), ("Z", "stage_z")):
        facts.add(name, stage.get(key), "µm")
    objective = _set(instrument, "Microscope")
    facts.add("Name", objective.get("1023"), group="Objective")
    facts.add("Magnification", objective.get("1022") or None, group="Objective")
    facts.add_written("ND Filter Transmission", str(instrument.get("ND Transmission %") or ""), "percent")
    facts.add_written("Slit Opening", str(_set(instrument, "Slits").get("Opening") or ""), "µm")
    system = _set(instrument, "System Configuration")
    facts.add("Name", system.get("Grating"), group="Grating")
    lines = _calibrated(calibration, "Gratings", "Grating key", system.get("key_Grating"))
    facts.add("Groove Density", _found(lines, "Groove Density (lines/mm)"), "1/mm", "Grating")
    camera = _set(calibration, "CCD")
    facts.add("acquisition_device", camera.get("CCD"))
    facts.add("Target Temperature", camera.get("Target temperature"), "degC", "Camera")
    facts.add("Temperature", camera.get("Temperature"), "degC", "Camera")
    scan = _with(measurement, "Exposure Time")
    facts.add_measured("exposure_time", scan.get("Exposure Time") or 0, "ms")
    facts.add("frames", scan.get("Accumulations") or None)
    if scan.get("X Binning") and scan.get("y Binning"):
        facts.add("binning", f"{scan['X Binning']} × {scan['y Binning']}")
    removal = scan.get("Use Cosmic Ray Remove")
    facts.add("Cosmic Ray Removal", None if removal is None else bool(removal))


def _set(settings: Settings, name: str) -> Settings:
    inner = settings.get(name)
    return inner if isinstance(inner, dict) else {}


def _calibrated(calibration: Settings, group: str, key: str, wanted: Any) -> Settings:
    """Entry of the grating or laser that was in use; the only one where nothing tells."""
    entries = [each for each in _set(calibration, group).values() if isinstance(each, dict)]
    return next((each for each in entries if each.get(key) == wanted), entries[0] if len(entries) == 1 else {})


def _with(settings: Settings, name: str) -> Settings:
    """First set, from the outermost, that holds a setting of a name."""
    sets = [settings]
    for each in sets:
        if name in each:
            return each
        sets.extend(inner for inner in each.values() if isinstance(inner, dict))
    return {}


def _found(settings: Settings, name: str) -> Any:
    return _with(settings, name).get(name)


def _white_light(raw: bytes, spectra: Signal) -> list[Signal]:
    """Image of the specimen; nothing but a warning of the spectra when it cannot be read."""
    from PIL import Image

    try:
        with Image.open(BytesIO(raw), formats=("JPEG",)) as picture:
            columns, rows = picture.size
            if columns * rows > PICTURE_LIMIT:
                msg = f"{columns} × {rows} pixels are more than is decoded"
                raise ValueError(msg)  # noqa: TRY301 - one warning for all that may be wrong
            axes = _picture_axes(picture)
            array = _colours(picture)
    except (OSError, ValueError, SyntaxError, ArithmeticError, Image.DecompressionBombError) as fault:
        spectra.warnings["White Light Image"] = f"It cannot be read: {str(fault)[:200]}"
        return []
    signal = Signal("Image", "Optical_Imaging", (rows, columns), "White light image", spectra.acquired)
    signal.pixels = Pixels(array, axes)
    facts = Facts()
    for name in ("operator", "microscope", "software", "stage_x", "stage_y", "stage_z"):
        facts.add(name, spectra.fields.get(name))
    facts.extensions.update({key: spectra.extensions[key] for key in ("Objective",) if key in spectra.extensions})
    facts.add_axes(axes)
    return [facts.give_to(signal)]


def _picture_axes(picture: Any) -> tuple[Axis, Axis]:
    """WiRE writes the field of view, in micrometres, where EXIF has the resolution of the sensor."""
    columns, rows = picture.size
    tags = picture.getexif().get_ifd(0x8769)
    width, height, unit = (float(tags.get(tag) or 0) for tag in (0xA20E, 0xA20F, 0xA210))
    if unit != MICROMETRES_IN_EXIF or not (0 < width < math.inf and 0 < height < math.inf):
        return Axis(rows), Axis(columns)
    return Axis(rows, height / rows, 0.0, "µm", "Y"), Axis(columns, width / columns, 0.0, "µm", "X")


def _colours(picture: Any) -> Any:
    import numpy as np

    if picture.mode == "L":
        return np.asarray(picture)
    colours = np.ascontiguousarray(picture.convert("RGB"))
    return colours.view([(name, "u1") for name in "RGB"])[..., 0]


EXTRACTOR = RenishawWdf()
