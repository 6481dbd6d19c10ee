"""JEOL Analysis Station (JED-2200/2300): EDS maps, spectra, line profiles, images and the projects that hold them.

Little endian. All but spectra are trees of tagged values, see `jeol_tree`:

=======  ========================  ================================  ===============================
suffix   first bytes               tree begins at                    what it is
=======  ========================  ================================  ===============================
.img     u4 52, ``JED-2200:LibJx…``  12 bytes after u4 at 44         electron image
.map     the same                  the same                          map of an X-ray line, or image
.pts     u4 304, ``PTTDFILE``      12 bytes after u4 at 20           events of a map or line
.asw     12 bytes 0                12                                project: names of its files
.dln     12 bytes 0                12                                profiles along a line
.eds     u4 2                      (no tree: the table below)        spectrum
=======  ========================  ================================  ===============================

The events of a ``.pts`` begin at u4 at 28: words of 16 bits whose upper four say what the lower twelve are: 8 the
column and 9 the row, both in 4096ths of the frame; 11 the channel of an X-ray at that place. The energy of channel n is
``CoefA · (n - DigZ) + CoefB`` keV with the zero ``DigZ`` of the process time in use.

A spectrum, offsets in bytes: 10 f8 date, 18 name (80 bytes), 98 operator (32), 242 f8 electronic noise in eV, 258 f8
live and 266 real time in s, 274 dead time in percent, 282 counts per second, 362 f8 keV per channel and 370 that of
channel 0, 422 process time (32), 454 i4 number of channels, 458 counts (i4); then what `_Footer` reads.

Dates are OLE automation dates. ``ScanSize`` over ``Mag`` is the width of the field in mm, as projects tell it.
``AccNA`` and ``Currnnt`` are nA, dwell times ms (times pixels and sweeps they are the real time).
https://hyperspy.org/rosettasciio/user_guide/supported_formats/jeol.html and
https://github.com/hyperspy/rosettasciio/blob/main/rsciio/jeol/_api.py.
"""

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded
from nexuslims_pipeline.extraction.layouts.jeol_tree import (
    CUT_OFF,
    Block,
    Tree,
    at,
    at_branch,
    number_of,
    page,
    read_tree,
    u4,
    unpack,
)
from nexuslims_pipeline.extraction.layouts.spectra import Spectra
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import ELEMENTS, decode, ole_date
from nexuslims_pipeline.signals import Axis, DatasetType, Pixels, Signal, Source

IMAGE_MAGIC: Final = b"\x34\0\0\0JED-2200"
MAP_MAGIC: Final = b"\x30\1\0\0PTTDFILE"
TREE_MAGIC: Final = bytes(12) + b"\1"
SPECTRUM_MAGIC: Final = b"\2\0\0\0"
EVENT_BYTES: Final = 32 << 20
"""Bytes of events that are read for a preview: in larger maps it shows the first sweeps."""
EVENTS_AT_ONCE: Final = 1 << 20
CHANNELS: Final = 4096
"""Channels that an event may name."""
POSITIONS: Final = 4096
"""Rows and columns of the grid that events lie on."""
MOST_COUNTS: Final = 1e6
"""Counts per second beyond what any detector gives."""
COLUMN, ROW, X_RAY = 8, 9, 11
"""Kinds of words among the events."""
SPECTRUM_HEADER: Final = 458
SPECTRUM: Final = {
    "Date": ("d", 10), "Electronic Noise": ("d", 242), "LiveTime": ("d", 258), "RealTime": ("d", 266),
    "DeadTime": ("d", 274), "CountRate": ("d", 282), "CoefA": ("d", 362), "CoefB": ("d", 370), "NumCH": ("i", 454),
}  # fmt: skip
"""Numbers of a spectrum's header: type and offset."""
SPECTRUM_TEXTS: Final = {"Name": 18, "Operator": 98, "State": 378, "Tpl": 422}
"""Offsets of texts of 32 bytes."""
SETTINGS_FOLLOW: Final = 5
SETTINGS_FORM: Final = "16s16s16s2di34x6d4xd10x5d"
SETTINGS: Final = (
    "DetT", "SEM", "Port", "AccKV", "AccNA", "Mag", "MnKaRES", "WorkD", "InsD", "XtiltAng", "TakeAng", "IncAng",
    "ScanSize", "DetH", "DirAng", "XtalAng", "ElevAng", "ValidSize",
)  # fmt: skip
"""Names of the settings at a spectrum's end, as in the trees, in their order."""
PROFILE_OF_FLOATS: Final = 3
MOST_CHANNELS: Final = 1 << 16
HIGHEST_SEM_KV: Final = 30.0
A_MOMENT: Final = timedelta(milliseconds=1)
"""What a fraction of a day may be short of a whole second."""
STEM_DETECTORS: Final = re.compile(r"\b(HAADF|LAADF|ABF|ADF|BF|DF)\b")


class JeolEds(Extractor):
    """Files of JEOL's Analysis Station, one dataset each."""

    name: ClassVar[str] = "jeol_eds"
    format_name: ClassVar[str] = "JEOL Analysis Station"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".asw", ".pts", ".map", ".img", ".eds", ".dln"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether it begins like one of the six; the extension ``.img`` is Hamamatsu's too, ``.map`` that of MRC."""
        if head.startswith((IMAGE_MAGIC, MAP_MAGIC)):
            return True
        if head.startswith(TREE_MAGIC):
            return b"Analysis Station\0" in head[:128] or b"JED-2200:" in head[:256]
        return head.startswith(SPECTRUM_MAGIC) and _is_spectrum(head, source.size)

    def extract(self, source: Source) -> list[Signal]:
        """Read the one dataset.

        Raises
        ------
        ExtractionError
            If the file is cut off within its header.
        """
        with source.path.open("rb") as file:
            head = file.read(SPECTRUM_HEADER)
            if head.startswith(SPECTRUM_MAGIC):
                return [_spectrum(source, file, head)]
            tree, problem = read_tree(file, _tree_start(head), source.size)
        try:
            signal = _signal_of(source, head, tree)
        except ExtractionError as fault:
            raise ExtractionError(problem or str(fault)) from fault
        if problem:
            signal.warnings["Vendor Metadata"] = f"Only a part of it was read: {problem}."
        return [signal]


def _tree_start(head: bytes) -> int:
    if head.startswith(TREE_MAGIC):
        return len(TREE_MAGIC) - 1
    return u4(head, 20 if head.startswith(MAP_MAGIC) else 44) + 12


def _signal_of(source: Source, head: bytes, tree: Tree) -> Signal:
    if head.startswith(MAP_MAGIC):
        return _event_map(source, head, tree)
    if head.startswith(IMAGE_MAGIC):
        return _image(source, tree)
    return _project(tree) if at(tree, "FileType") == "Analysis Station" else _profiles(source, tree)


# --- what all kinds of files have ---


def _add_conditions(facts: Facts, group: Any) -> None:
    """Settings of the microscope, under the names that the several kinds of files have for them."""
    for name, unit, keys in (
        ("acceleration_voltage", "kV", ("AccV", "AccKV", "Volt")),
        ("beam_current", "nA", ("Currnnt", "AccNA")),
        ("working_distance", "mm", ("WorkD", "WD")),
    ):
        facts.add_measured(name, next(filter(None, (number_of(at(group, key)) for key in keys)), 0), unit)
    facts.add("magnification", at(group, "Mag") or None)
    scan_rotation = at(group, "ScanR")
    facts.add("scan_rotation", scan_rotation if isinstance(scan_rotation, float) else None, "deg")
    microscope = at(group, "Name")
    facts.add("microscope", microscope if isinstance(microscope, str) else None)


def _add_detector(facts: Facts, group: Any) -> None:
    facts.add("microscope", at(group, "SEM"))
    facts.add("detector_type", at(group, "DetT"))
    facts.add_measured("detector_energy_resolution", number_of(at(group, "MnKaRES")), "eV")
    facts.add("azimuthal_angle", at(group, "DirAng"), "deg")
    facts.add("elevation_angle", at(group, "ElevAng"), "deg")
    facts.add_measured("takeoff_angle", number_of(at(group, "TakeAng")), "deg")
    facts.add_measured("Active Area", number_of(at(group, "ValidSize")), "mm^2", "EDS Detector")
    facts.add_measured("Thickness", number_of(at(group, "SiThic")), "mm", "EDS Detector")
    facts.add_measured("Insertion Distance", number_of(at(group, "InsD")), "mm", "EDS Detector")


def _column(facts: Facts) -> str:
    """``STEM`` or ``SEM`` by the name of the instrument (JEM: transmission), else by the voltage."""
    name = str(facts.fields.get("microscope", "")).upper()
    if name.startswith(("JEM", "JSM", "JXA", "JIB")):
        return "STEM" if name.startswith("JEM") else "SEM"
    voltage = facts.fields.get("acceleration_voltage")
    return "STEM" if voltage is not None and voltage.m_as("kV") > HIGHEST_SEM_KV else "SEM"


def _date(value: Any, facts: Facts) -> datetime | None:
    if not number_of(value):
        return None
    try:
        found = ole_date(number_of(value))
    except ValueError as fault:
        facts.warnings["Creation Time"] = str(fault)
        return None
    return (found + A_MOMENT).replace(microsecond=0)


def _symbols(*numbers: Any) -> list[str]:
    atomic = [number for number in numbers if isinstance(number, int) and 0 < number <= len(ELEMENTS)]
    return list(dict.fromkeys(ELEMENTS[z - 1] for z in atomic))


def _pixel_size(scan_size: Any, magnification: Any, columns: int) -> float:
    """Width of a square pixel in µm; 0 when it is not known."""
    width, times = number_of(scan_size), number_of(magnification)
    return width / times * 1e3 / columns if width > 0 and times > 0 and columns else 0.0


# --- images and maps of one X-ray line ---


def _image(source: Source, tree: Tree) -> Signal:
    """Signal of an ``.img`` or ``.map``."""
    facts = Facts()
    image, line = at_branch(tree, "Image"), at_branch(tree, "Map")
    size = at(image, "Size")
    columns, rows = (int(number_of(each)) for each in (size if isinstance(size, list) and len(size) == 2 else (0, 0)))
    if not (0 < rows <= 1 << 16 and 0 < columns <= 1 << 16):
        msg = "it is damaged: the size of its image makes no sense"
        raise ExtractionError(msg)
    instrument = at_branch(tree, "Instrument")
    _add_conditions(facts, instrument)
    pixel = _pixel_size(at(instrument, "ScanSize"), at(instrument, "Mag"), columns)
    axes = tuple(
        Axis(size, pixel or 1.0, units="µm" if pixel else "", name=name) for size, name in ((rows, "y"), (columns, "x"))
    )
    facts.add_axes(axes)
    title, column = str(at(image, "Title") or ""), _column(facts)
    named = STEM_DETECTORS.search(title)
    technique = f"STEM_{named[1]}" if named and column == "STEM" else f"{column}_Imaging"
    if line:
        _add_line(facts, line)
        technique = f"{column}_EDS" if facts.fields.get("elements") else technique
    else:
        facts.add("detector_type", named[1] if named else None)
    pixels = _bits(source.path, image, rows, columns)
    if pixels is None:
        facts.warnings["Pixels"] = "The file holds no image of the size that it declares."
    signal = Signal(
        "Image",
        technique,
        shape=(rows, columns),
        name=title,
        acquired=_date(at(image, "Created"), facts),
        native=bounded(tree),
        pixels=None if pixels is None else Pixels(pixels, axes),
    )
    return facts.give_to(signal)


def _add_line(facts: Facts, line: Tree) -> None:
    """X-ray line that a map or profile shows, and how it was measured."""
    facts.add("elements", _symbols(at(line, "ElementNo")))
    facts.add("X-ray Line", at(line, "Title"))
    facts.add_measured("dwell_time", number_of(at(line, "DwellTime")), "ms")
    facts.add_measured("live_time", number_of(at(line, "LiveTime")), "s")
    facts.add_measured("real_time", number_of(at(line, "RealTime")), "s")
    facts.add("frames", at(line, "SweepCount") or None)
    facts.add("Process Time", at(line, "Template"))
    if at(line, "EndRoi"):
        facts.add("Channels", f"{at(line, 'StartRoi')} to {at(line, 'EndRoi')}")


def _bits(path: Path, image: Tree, rows: int, columns: int) -> Any | None:
    """Pixels as they lie in the file, those of 16 bits if there are any; None when their number is wrong."""
    import numpy as np

    for key in ("Bits16", "Bits"):
        block = at(image, key)
        if isinstance(block, Block):
            width = block.length // (rows * columns)
            if width * rows * columns == block.length and width in (1, 2):
                return np.memmap(path, mode="r", dtype=f"<u{width}", offset=block.place, shape=(rows, columns))
    return None


# --- maps of events ---


def _event_map(source: Source, head: bytes, tree: Tree) -> Signal:
    """Signal of a ``.pts``."""
    data = at_branch(tree, "PTTD Data", "AnalyzableMap MeasData")
    document, conditions = at_branch(data, "Doc"), at_branch(data, "Meas Cond")
    found = re.fullmatch(r"(\d{1,4})x(\d{1,4})", str(at(conditions, "Pixels")))
    columns, rows = (int(found[1]), int(found[2])) if found else (0, 0)
    if not rows * columns or max(rows, columns) > POSITIONS:
        msg = "it is damaged: the size of its map makes no sense"
        raise ExtractionError(msg)
    facts = Facts()
    parameters = at_branch(tree, "PTTD Param", "Params")
    _add_conditions(facts, at_branch(data, "MeasCond"))
    _add_detector(facts, page(parameters, "SEM"))
    _add_document(facts, document)
    process = at(conditions, "Tpl")
    facts.add("Process Time", process)
    facts.add("elements", _chosen_elements(tree))
    area = _area(at(conditions, "Aim Area"), rows, columns)
    if (area.rows, area.columns) != (rows, columns):
        facts.add("Frame", f"{columns} × {rows} pixels")
    pixel = _pixel_size(at(page(parameters, "SEM"), "ScanSize"), at(data, "MeasCond", "Mag"), columns)
    zero = at(page(parameters, "EDXRF"), "Tpl", str(process), "DigZ")
    axes = (*area.axes(pixel), _energy_axis(document, CHANNELS, zero))
    facts.add_axes(axes)
    start, length = u4(head, 28), u4(head, 32)
    end = length if u4(head, 16) > 1 else start + length
    if source.size < end:
        facts.warnings["Pixels"] = (
            f"The file ends {end - source.size} bytes before its last event (a copy that broke off?)."
        )
    signal = Signal(
        "SpectrumImage",
        f"{_column(facts)}_EDS",
        shape=tuple(axis.size for axis in axes),
        acquired=_date(struct.unpack_from("<d", head, 296)[0] if len(head) >= 304 else 0, facts),
        native=bounded(tree),
    )
    events = _Events(source.path, start, (rows, columns), area, _count_type(document))
    signal.pixels = Pixels(Spectra(signal.shape[:-1], CHANNELS, events.dtype, events.spectra), axes)
    return facts.give_to(signal)


def _add_document(facts: Facts, document: Tree) -> None:
    """Times and count rate."""
    facts.add_measured("live_time", number_of(at(document, "LiveTime")), "s")
    facts.add_measured("real_time", number_of(at(document, "RealTime")), "s")
    facts.add("dead_time", at(document, "DeadTime"), "percent")
    facts.add_measured("input_count_rate", number_of(at(document, "CountRate")), "1/s")
    facts.add_measured("dwell_time", number_of(at(document, "DwellTime(msec)")), "ms")
    facts.add("frames", at(document, "Sweep") or None)


def _chosen_elements(tree: Tree) -> list[str]:
    """Elements whose maps were shown during the acquisition: ``C K``."""
    shown = at(page(at_branch(tree, "PTTD Cond", "Meas Cond"), "C.R"), "MiniOBJs")
    words = [str(each).partition(" ")[0] for each in (shown if isinstance(shown, list) else [shown])]
    return [word for word in dict.fromkeys(words) if word in ELEMENTS]


@dataclass(frozen=True, slots=True)
class Area:
    """Part of the frame that was scanned."""

    top: int
    left: int
    rows: int
    columns: int

    def axes(self, pixel: float) -> tuple[Axis, ...]:
        """Axes of the scanned positions, of which a line has one; `pixel` in µm, 0 when unknown."""
        units, scale = ("µm", pixel) if pixel else ("", 1.0)
        y = Axis(self.rows, scale, self.top * pixel, units, "y", navigation=True)
        x = Axis(self.columns, scale, self.left * pixel, units, "x", navigation=True)
        return (x,) if self.rows == 1 else (y,) if self.columns == 1 else (y, x)


def _area(corners: Any, rows: int, columns: int) -> Area:
    """Area between two corners (column, row), both within it; the frame when they make no sense."""
    if isinstance(corners, list) and len(corners) == 4:
        left, top, right, bottom = (int(number_of(each)) for each in corners)
        if 0 <= left <= right < columns and 0 <= top <= bottom < rows:
            return Area(top, left, bottom - top + 1, right - left + 1)
    return Area(0, 0, rows, columns)


def _energy_axis(document: Tree, channels: int, zero: Any = 0) -> Axis:
    gain, offset = number_of(at(document, "CoefA")), number_of(at(document, "CoefB"))
    if not gain > 0:
        return Axis(channels, name="Channel")
    return Axis(channels, gain, offset - gain * number_of(zero), "keV", "Energy")


def _count_type(document: Tree) -> str:
    """NumPy type that holds what a detector counts in one pixel."""
    seconds = number_of(at(document, "DwellTime(msec)")) * number_of(at(document, "Sweep")) / 1e3
    return "<u2" if 0 < seconds * MOST_COUNTS < 1 << 16 else "<u4"


class _Events:
    """X-rays of a map, read when their spectra are asked for."""

    def __init__(self, path: Path, start: int, frame: tuple[int, int], area: Area, count_type: str) -> None:
        import numpy as np

        self.dtype = np.dtype(count_type)
        self._path, self._start, self._frame, self._area = path, start, frame, area
        self._found: tuple[Any, Any] | None = None

    def spectra(self, positions: Any) -> Any:
        """Counts at `positions` of the area, shape ``(n, channels)``."""
        import numpy as np

        if self._found is None:
            parts = list(self._read())
            self._found = (np.concatenate([each[0] for each in parts]), np.concatenate([each[1] for each in parts]))
        places, channels = self._found
        line = np.full(self._area.rows * self._area.columns, -1)
        line[positions] = np.arange(len(positions))
        lines = line[places]
        result = np.zeros((len(positions), CHANNELS), self.dtype)
        np.add.at(result, (lines[lines >= 0], channels[lines >= 0]), 1)
        return result

    def _read(self) -> Iterator[tuple[Any, Any]]:
        """Position and channel of each X-ray within the area."""
        import numpy as np

        rows, columns = self._frame
        area = self._area
        words = np.fromfile(self._path, "<u2", EVENT_BYTES // 2, offset=self._start)
        y = x = -1
        yield np.zeros(0, np.int64), np.zeros(0, np.int64)
        for first in range(0, len(words), EVENTS_AT_ONCE):
            part = words[first : first + EVENTS_AT_ONCE]
            kinds, values = part >> 12, (part & 0xFFF).astype(np.int64)
            xs = _last_told(kinds == COLUMN, values * columns // POSITIONS, x)
            ys = _last_told(kinds == ROW, values * rows // POSITIONS, y)
            x, y = int(xs[-1]), int(ys[-1])
            xs, ys = xs - area.left, ys - area.top
            inside = (kinds == X_RAY) & (xs >= 0) & (xs < area.columns) & (ys >= 0) & (ys < area.rows)
            yield (ys * area.columns + xs)[inside], values[inside]


def _last_told(is_told: Any, values: Any, before: int) -> Any:
    """For each word the latest of the told values; `before` where there is none yet."""
    import numpy as np

    latest = np.maximum.accumulate(np.where(is_told, np.arange(len(values)), -1))
    return np.where(latest >= 0, values[latest], before)


# --- spectra ---


def _is_spectrum(head: bytes, size: int) -> bool:
    """Whether date, calibration and number of channels are those of a spectrum."""
    if len(head) < SPECTRUM_HEADER:
        return False
    [date], [gain], [channels] = (
        struct.unpack_from(form, head, place) for form, place in (("<d", 10), ("<d", 362), ("<i", 454))
    )
    return 20_000 < date < 80_000 and 1e-5 < gain < 10 and 0 < channels <= MOST_CHANNELS and size > SPECTRUM_HEADER


def _spectrum(source: Source, file: BinaryIO, head: bytes) -> Signal:
    """Signal of an ``.eds``."""
    import numpy as np

    if len(head) < SPECTRUM_HEADER:
        raise ExtractionError(CUT_OFF)
    values: Tree = {key: struct.unpack_from("<" + form, head, place)[0] for key, (form, place) in SPECTRUM.items()}
    texts = {key: decode(head[place : place + 32].split(b"\0")[0])[0] for key, place in SPECTRUM_TEXTS.items()}
    channels = int(values["NumCH"])
    if not 0 < channels <= MOST_CHANNELS:
        msg = "it is damaged: the number of its channels makes no sense"
        raise ExtractionError(msg)
    facts = Facts()
    present = min(channels, max(0, source.size - SPECTRUM_HEADER) // 4)
    footer: Tree = {}
    try:
        footer = _Footer(file, SPECTRUM_HEADER + 4 * channels).read()
    except ExtractionError:
        facts.warnings["Vendor Metadata"] = "What follows the spectrum in the file is cut off or of an unknown variant."
    parameters = at_branch(footer, "Parameters")
    _add_conditions(facts, parameters)
    _add_detector(facts, parameters)
    _add_document(facts, values)
    facts.add("operator", texts["Operator"])
    facts.add("Process Time", texts["Tpl"])
    facts.add("Preset", texts["State"])
    facts.add("elements", _symbols(*(at(each, "Z") for each in at_branch(footer, "Elements").values())))
    axis = _energy_axis(values, channels)
    facts.add_axes([axis])
    if present < channels:
        facts.warnings["Pixels"] = f"The file ends after {present} of {channels} channels (a copy that broke off?)."
    signal = Signal(
        "Spectrum",
        f"{_column(facts).replace('STEM', 'TEM')}_EDS",
        shape=(channels,),
        name=texts["Name"],
        acquired=_date(values["Date"], facts),
        native=bounded({"Header": values | texts, "Footer": footer}),
    )
    if present:
        counts = np.memmap(source.path, mode="r", dtype="<i4", offset=SPECTRUM_HEADER, shape=(present,))
        signal.pixels = Pixels(counts, (axis,))
    return facts.give_to(signal)


class _Footer:
    """What follows the counts of a spectrum: excluded elements, chosen ones with their lines, composition, settings."""

    def __init__(self, file: BinaryIO, start: int) -> None:
        file.seek(start)
        self._file = file

    def read(self) -> Tree:
        """All of it.

        Raises
        ------
        ExtractionError
            If it is cut off or makes no sense.
        """
        self._take("i")
        excluded = [self._take("H")[0] for _ in range(self._count())]
        chosen: Tree = {}
        for _ in range(self._count()):
            name, element = self._element()
            chosen[name] = element
        composition: Tree = {}
        count = self._count()
        if count:
            self._take("3i d 2i")
        for _ in range(count):
            _, z, _, _, energy, _, mass, error, atoms, oxide, oxides, _, net, *_ = self._take("i H 2i 5d 16s 5d 2i d")
            composition[_text(oxide)] = {
                "Z": z, "Energy": energy, "Mass (%)": mass, "Error": error, "Atoms (%)": atoms, "Oxide (%)": oxides,
                "Net Counts": net,
            }  # fmt: skip
        footer: Tree = {"Excluded Elements": _symbols(*excluded), "Elements": chosen, "Composition": composition}
        if self._take("i")[0] == SETTINGS_FOLLOW:
            footer["Parameters"] = self._settings()
        return footer

    def _settings(self) -> Tree:
        values = dict(zip(SETTINGS, self._take(SETTINGS_FORM), strict=True))
        return {key: _text(value) if isinstance(value, bytes) else _tidy(value) for key, value in values.items()}

    def _element(self) -> tuple[str, Tree]:
        _, z, _, _, low, high, energy, _, _, _, name, _ = self._take("i H 2i 2H 14x 4d 32s i")
        lines: Tree = {}
        for _ in range(self._count()):
            _, line_energy, _ = self._take("i d H")
            symbol, line = self._short_text(), self._short_text()
            self._take("i")
            lines[f"{symbol} {line}"] = line_energy
        return _text(name), {"Z": z, "First Channel": low, "Last Channel": high, "Energy": energy, "Lines": lines}

    def _take(self, form: str) -> tuple[Any, ...]:
        return unpack(self._file, "<" + form)

    def _count(self) -> int:
        [count] = self._take("i")
        if not 0 <= count <= 4 * len(ELEMENTS):
            msg = "the number of elements makes no sense"
            raise ExtractionError(msg)
        return int(count)

    def _short_text(self) -> str:
        [length] = self._take("B")
        return _text(self._take(f"{length}s")[0])


def _text(raw: bytes) -> str:
    return decode(raw.split(b"\0")[0])[0]


def _tidy(value: Any) -> Any:
    """Undo the rounding of a decimal number to four bytes, which went through eight later."""
    return float(f"{value:.7g}") if isinstance(value, float) else value


# --- profiles and projects ---


def _profiles(source: Source, tree: Tree) -> Signal:
    """Signal of a ``.dln``: the intensities of X-ray lines along one line on the specimen."""
    profiles = [each for each in tree.values() if at_branch(each, "Lnp")]
    if not profiles:
        msg = "it holds no line profiles"
        raise ExtractionError(msg)
    facts = Facts()
    _add_conditions(facts, at_branch(profiles[0], "Instrument"))
    _add_line(facts, at_branch(profiles[0], "Map"))
    lines = [str(at(each, "Lnp", "Title") or "") for each in profiles]
    facts.extensions.pop("X-ray Line", None)
    facts.extensions.pop("Channels", None)
    facts.add("elements", _symbols(*(at(each, "Map", "ElementNo") for each in profiles)))
    facts.add("X-ray Lines", ", ".join(lines))
    first = at_branch(profiles[0], "Lnp")
    size, step = int(number_of(at(first, "Length"))), number_of(at(first, "ConvCoff"))
    if not 0 < size <= 1 << 16:
        msg = "it is damaged: the length of its line makes no sense"
        raise ExtractionError(msg)
    axes = (
        Axis(size, step * 1e6 or 1.0, units="nm" if step else "", name="Position", navigation=True),
        Axis(len(profiles), name="X-ray line"),
    )
    facts.add_measured("Line Length", step * size * 1e3, "µm")
    pixels = _profile_pixels(source.path, profiles, size)
    if pixels is None:
        facts.warnings["Pixels"] = "The profiles differ in length or kind."
    signal = Signal(
        "SpectrumImage",
        f"{_column(facts)}_EDS",
        shape=(size, len(profiles)),
        name=str(at(tree, "Memo") or ""),
        acquired=_date(at(first, "Created"), facts),
        native=bounded(tree),
        pixels=None if pixels is None else Pixels(pixels, axes),
    )
    return facts.give_to(signal)


def _profile_pixels(path: Path, profiles: list[Tree], size: int) -> Any | None:
    """Intensities, shape ``(positions, lines)``; None when they are not all of `size` numbers of four bytes."""
    import numpy as np

    blocks = [at(each, "Lnp", "Bits") for each in profiles]
    if not all(isinstance(block, Block) and block.length == 4 * size for block in blocks):
        return None
    kinds = {at(each, "Lnp", "DataType") for each in profiles}
    if kinds != {PROFILE_OF_FLOATS}:
        return None
    return np.stack([np.fromfile(path, "<f4", size, offset=block.place) for block in blocks], axis=1)


def _project(tree: Tree) -> Signal:
    """Signal of an ``.asw``: what the project consists of; its files are datasets of their own."""
    facts = Facts()
    views = [
        (at(sample, "Memo"), view)
        for sample in at_branch(tree, "SampleInfo").values()
        for view in at_branch(sample, "ViewInfo").values()
        if isinstance(view, dict)
    ]
    members = {
        re.sub(r"^\.\\", "", str(at(each, "Filename"))): str(at(each, "Keyword") or "").strip(",")
        for _, view in views
        for each in at_branch(view, "ViewData").values()
        if at(each, "Filename")
    }
    if len(views) == 1:
        sample, view = views[0]
        facts.add("Sample", sample)
        _add_conditions(facts, view)
        facts.add_measured("horizontal_field_width", _pixel_size(at(view, "ScanSize"), at(view, "Mag"), 1), "µm")
    facts.add("Views", ", ".join(str(at(view, "Memo") or "") for _, view in views))
    facts.add("Files", [name.replace("\\", "/") for name in members])
    dataset_type, technique = _content_of(members)
    column = _column(facts).replace("STEM", "STEM" if dataset_type != "Spectrum" else "TEM")
    lines = [f"{name.rpartition(chr(92))[2]}   {keyword}" for name, keyword in members.items()]
    signal = Signal(
        dataset_type,
        f"{column}_{technique}" if technique else "Unknown",
        name=str(at(tree, "Memo") or ""),
        native=bounded(tree),
        text="\n".join(["JEOL Analysis Station project", "", *lines]),
    )
    return facts.give_to(signal)


def _content_of(members: Mapping[str, str]) -> tuple[DatasetType, str]:
    """Type of a project and technique by the most telling of its files."""
    suffixes = {name.rpartition(".")[2].lower() for name in members}
    if suffixes & {"pts", "dln"}:
        return "SpectrumImage", "EDS"
    if "eds" in suffixes:
        return "Spectrum", "EDS"
    return ("Image", "Imaging") if suffixes & {"img", "map"} else ("Misc", "")


EXTRACTOR = JeolEds()
