"""FEI's TEM Imaging & Analysis: one signal per ``.ser`` file, described by the ``.emi`` file beside it.

A ``.ser`` file holds a series of equal elements, spectra or images. Layout, all little-endian, as
documented by Dr Chris Boothroyd ("TIA file format", https://www.er-c.org/cbb/info/TIAformat/); N is 4 bytes
up to series version 0x210 and 8 from then on.

===========  =======================================================================================
header       byte order 0x4949 (2 bytes), series id 0x0197 (2), version (2), data type (4: 0x4120
             spectra, 0x4122 images), tag type (4: 0x4152 time, 0x4142 time and position), elements
             planned (4), elements recorded (4), offset of the offset array (N), dimensions (4)
dimension    size (4), calibration offset (8, float), step (8, float), reference element (4),
             description (4, length; text), units (4, length; text)
offsets      of each element's data (N each), then of each element's tag (N each)
spectrum     offset (8), step (8), reference element (4), number type (2), length (4), numbers
image        the same calibration for x and for y (20 each), number type (2), width (4), height (4),
             numbers, lowest row first
tag          type (2), nothing (2), seconds since 1970 UTC (4), for 0x4142 x and y (8 each)
===========  =======================================================================================

The ``.emi`` file is a private binary container; within it lies one XML element ``<ObjectInfo>`` per object
on TIA's screen. An object has no reference to its series: they are told by order, by kind and by the number
of channels.
"""

import math
import mmap
import re
import stat
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded, on_its_clock, spectral_type
from nexuslims_pipeline.extraction.layouts import tecnai
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import local_time, parse_xml
from nexuslims_pipeline.signals import Axis, DatasetType, Pixels, Signal, Source

if TYPE_CHECKING:
    import numpy as np

MAGIC = b"II\x97\x01"
NARROW_VERSION = 0x210
"""The last version with 4 bytes for an offset."""
SPECTRA, IMAGES = 0x4120, 0x4122
TIME_AND_PLACE = 0x4142
NUMBER_TYPES = {1: "u1", 2: "u2", 3: "u4", 4: "i1", 5: "i2", 6: "i4", 7: "f4", 8: "f8", 9: "c8", 10: "c16"}
MAX_DIMENSIONS = 8
MAX_TEXT = 4096
MAX_XML = 1 << 22
"""Bytes of one ``<ObjectInfo>``; real ones have some 7 kB."""
MAX_OBJECTS = 1000
LARGEST_METRES = 1e-4
SMALLEST_RECIPROCAL = 1e3
"""TIA writes no unit for an image: a pixel is 1e-12 to 1e-5 metres or 1e6 to 1e10 reciprocal metres wide."""
X_RAY_STEP = 2.5
"""Least energy per channel in eV of an X-ray detector; an energy-loss spectrometer has less."""
MAPPED = re.compile(r"spectrum (image|profile)")
"""In the name of an object's display: spectra from a field or along a line."""
NUMBERED = re.compile(r"(?s)(.+)_(\d{1,9})")

ACQUISITION: Final = {
    "IntegrationTime": ("acquisition_time", "s"), "FrameTime": ("frame_time", "s"),
    "CameraNamePath": ("acquisition_device", None), "EnergyResolution": ("Nominal Channel Size", "eV"),
    "ShapingTime": ("shaping_time", "µs"), "NumberSpectra": ("Number of Spectra", ""),
    "BiasCorrection": ("Bias Correction", None), "GainCorrection": ("Gain Correction", None),
}  # fmt: skip
"""``AcquireInfo``: name and unit; dwell time, magnification and binning are treated apart. The ``EnergyResolution`` of
10 goes with channels of 9.98 eV and the ``ShapingTime`` with the microseconds on EDAX's processors."""


@dataclass(frozen=True, slots=True)
class _Series:
    """What a ``.ser`` file says of itself."""

    images: bool
    axes: tuple[Axis, ...]
    pixels: Pixels | None
    """None when the elements do not lie evenly in the file, so that they cannot be mapped."""
    left_out: int
    """Elements of an unfinished row of a map."""
    taken: datetime | None
    """Time of the first element, UTC."""
    header: dict[str, Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(axis.size for axis in self.axes)


class _Cursor:
    """Little-endian numbers of a mapped file, one after the other."""

    def __init__(self, content: "mmap.mmap | bytes", at: int = 0) -> None:
        self._content = content
        self._at = at

    def take(self, form: str) -> Any:
        """Numbers in the notation of `struct`: one alone, several as a tuple."""
        numbers = struct.unpack("<" + form, self._bytes(struct.calcsize("<" + form)))
        return numbers[0] if len(numbers) == 1 else numbers

    def text(self) -> str:
        """Text behind its length."""
        return self._bytes(min(self.take("I"), MAX_TEXT)).decode("utf-8", "replace").rstrip("\0")

    def _bytes(self, length: int) -> bytes:
        end = self._at + length
        if self._at < 0 or end > len(self._content):
            msg = f"the series is cut off: the file ends at byte {len(self._content)}, within its description"
            raise ExtractionError(msg)
        taken = self._content[self._at : end]
        self._at = end
        return taken


def _read_series(path: Path) -> _Series:
    """Header, calibration and mapped numbers of a ``.ser`` file.

    Raises
    ------
    ExtractionError
        When it is none, holds no element or is cut off.
    """
    with path.open("rb") as file:
        try:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            msg = "the file is empty"
            raise ExtractionError(msg) from None
        with content:
            return _parse_series(path, content)


def _parse_series(path: Path, content: "mmap.mmap") -> _Series:
    cursor = _Cursor(content)
    magic, version, data_type, tag_type, planned, recorded = cursor.take("4sHIIII")
    if magic != MAGIC or data_type not in (SPECTRA, IMAGES):
        msg = "the file does not begin like a series of TIA"
        raise ExtractionError(msg)
    if recorded == 0:
        msg = "the series holds no data: its acquisition ended before the first element"
        raise ExtractionError(msg)
    wide = version > NARROW_VERSION
    table, count = cursor.take("QI" if wide else "II")
    if count > MAX_DIMENSIONS or recorded > planned:
        msg = f"the series is damaged: {count} dimensions, {recorded} of {planned} elements"
        raise ExtractionError(msg)
    dimensions = [_dimension(cursor) for _ in range(count)]
    offsets, tags = _offsets(content, table, planned, recorded, wide)
    signal_axes, dtype, start = _element(_Cursor(content, int(offsets[0])), data_type == IMAGES)
    size = math.prod(axis.size for axis in signal_axes) * dtype.itemsize
    if int(offsets.max()) + start + size > len(content):
        msg = f"the series is cut off: the file ends at byte {len(content)}, before the last element does"
        raise ExtractionError(msg)
    first, second = (_tag(content, int(tag), tag_type) for tag in (tags[0], tags[min(1, recorded - 1)]))
    navigation = _navigation(dimensions, recorded, column_first=first[1:] != second[1:] and first[2] != second[2])
    axes = (*navigation, *signal_axes)
    used = math.prod(axis.size for axis in navigation)
    return _Series(
        images=data_type == IMAGES,
        axes=axes,
        pixels=_mapped(path, offsets[:used] + start, dtype, axes),
        left_out=recorded - used,
        taken=first[0],
        header={
            "Series Version": version,
            "Elements Planned": planned,
            "Elements Recorded": recorded,
            "Number Type": dtype.name,
            "Dimensions": [asdict(axis) for axis in dimensions],
            "Calibration": [asdict(axis) for axis in signal_axes],
        },
    )


def _dimension(cursor: _Cursor) -> Axis:
    size, offset, step, reference = cursor.take("IddI")
    description, units = cursor.text(), cursor.text()
    return _calibrated(size, offset, step, reference, units, description, navigation=True)


def _calibrated(
    size: int, offset: float, step: float, reference: int, units: str, name: str, *, navigation: bool = False
) -> Axis:
    """Make an axis, in nm or 1/nm where it has lengths, uncalibrated where the file has nonsense."""
    factor, unit = {"meters": (1e9, "nm"), "1/meters": (1e-9, "1/nm")}.get(units, (1.0, units))
    if not (math.isfinite(offset) and math.isfinite(step)) or step == 0 or (units == "meters" and abs(step) > 0.1):
        return Axis(size, name=name, navigation=navigation)
    return Axis(size, step * factor, (offset - reference * step) * factor, unit, name, navigation)


def _offsets(
    content: "mmap.mmap", table: int, planned: int, recorded: int, wide: bool
) -> tuple["np.ndarray[Any, np.dtype[np.int64]]", "np.ndarray[Any, np.dtype[np.int64]]"]:
    """Where the recorded elements and their tags lie."""
    import numpy as np

    width = 8 if wide else 4
    if table + 2 * planned * width > len(content):
        msg = f"the series is cut off: the file ends at byte {len(content)}, within the list of its elements"
        raise ExtractionError(msg)
    places = [
        np.frombuffer(content[at : at + recorded * width], f"<u{width}").astype(np.int64)
        for at in (table, table + planned * width)
    ]
    if places[0].min() < 0 or places[0].max() >= len(content):
        msg = "the series is damaged or cut off: an element lies outside the file"
        raise ExtractionError(msg)
    return places[0], places[1]


def _element(cursor: _Cursor, image: bool) -> tuple[tuple[Axis, ...], "np.dtype[Any]", int]:
    """Axes and number type of one element, and how many bytes of description come before its numbers."""
    import numpy as np

    if image:
        (*x,), (*y,) = cursor.take("ddI"), cursor.take("ddI")
        code, width, height = cursor.take("HII")
        axes = tuple(
            _calibrated(size, offset, step, reference, _length_unit(step), name)
            for size, (offset, step, reference), name in ((height, y, "y"), (width, x, "x"))
        )
        start = 50
    else:
        offset, step, reference, code, length = cursor.take("ddIHI")
        axes = (_calibrated(length, offset, step, reference, "eV", "Energy"),)
        start = 26
    if code not in NUMBER_TYPES or any(axis.size < 1 for axis in axes):
        msg = f"the series is damaged: elements of {[axis.size for axis in axes]} numbers of type {code}"
        raise ExtractionError(msg)
    return axes, np.dtype("<" + NUMBER_TYPES[code]), start


def _length_unit(step: float) -> str:
    if 0 < abs(step) <= LARGEST_METRES:
        return "meters"
    return "1/meters" if abs(step) >= SMALLEST_RECIPROCAL else ""


def _tag(content: "mmap.mmap", at: int, tag_type: int) -> tuple[datetime | None, float, float]:
    """Time and place of one element; tags may be missing."""
    try:
        _, _, seconds = (cursor := _Cursor(content, at)).take("HHI")
        x, y = cursor.take("dd") if tag_type == TIME_AND_PLACE else (0.0, 0.0)
    except ExtractionError:
        return None, 0.0, 0.0
    taken = datetime.fromtimestamp(seconds, UTC) if seconds else None
    return (taken, x, y) if taken and taken.year >= 1990 else (None, x, y)


def _navigation(dimensions: list[Axis], recorded: int, *, column_first: bool) -> tuple[Axis, ...]:
    """Axes of the scan, slowest first; of a map that was stopped only the finished rows."""
    order = dimensions if column_first else dimensions[::-1]
    if len(order) > 1 and (line := math.prod(axis.size for axis in order[1:])) and recorded >= line:
        rows = min(order[0].size, recorded // line)
        axes = [replace(order[0], size=rows), *order[1:]]
    else:
        axes = [replace(dimensions[0] if dimensions else Axis(1, navigation=True), size=recorded)]
    return tuple(axis for axis in axes if axis.size > 1)


def _mapped(path: Path, starts: Any, dtype: "np.dtype[Any]", axes: tuple[Axis, ...]) -> Pixels | None:
    """All elements as one array on the mapped file, which takes no memory until it is sliced."""
    import numpy as np

    steps = np.diff(starts)
    if steps.size and (steps.min() != steps.max() or steps[0] <= 0):
        return None
    shape = tuple(axis.size for axis in axes)
    stride = int(steps[0]) if steps.size else 0
    strides = [dtype.itemsize] * len(axes)
    for n in range(len(axes) - 2, -1, -1):
        inner = stride if axes[n].navigation and not axes[n + 1].navigation else strides[n + 1] * shape[n + 1]
        strides[n] = inner
    array: Any = np.ndarray(shape, dtype, np.memmap(path, "u1", "r"), int(starts[0]), strides)
    return Pixels(array[..., ::-1, :] if sum(not axis.navigation for axis in axes) == 2 else array, axes)


@dataclass(frozen=True, slots=True)
class _Object:
    """One ``<ObjectInfo>`` of an ``.emi`` file."""

    tree: dict[str, Any]
    description: tuple[tuple[str, str, str], ...]
    """Label, value and unit of each entry of ``ExperimentalDescription``."""

    def text(self, *names: str) -> str:
        """Text of an element below it, empty when missing."""
        found: Any = self.tree
        for name in names:
            found = found.get(name) if isinstance(found, dict) else None
        return found if isinstance(found, str) else ""

    @property
    def mode(self) -> str:
        """Mode of the column, e.g. ``STEM nP SA Zoom Diffraction``."""
        return tecnai.mode_of(self.description)

    @property
    def is_of_spectra(self) -> bool:
        return bool(self.text("DetectorRange", "End") or self.text("AcquireInfo", "IntegrationTime"))

    def describes(self, series: _Series) -> bool:
        """Whether it is of the same kind as `series` and, for spectra, of as many channels."""
        if series.images:
            return bool(self.text("AcquireInfo", "DwellTimePath") or self.text("DetectorRange", "StartX"))
        end = self.text("DetectorRange", "End")
        return self.is_of_spectra and (not end or _number(end) == series.shape[-1])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _read_objects(path: Path) -> list[_Object]:
    """Every object of an ``.emi`` file, in its order.

    Raises
    ------
    ExtractionError
        When there is none or one is damaged.
    """
    objects = [_parse_object(xml) for xml in _object_texts(path)]
    if not objects:
        msg = "it holds no description"
        raise ExtractionError(msg)
    return objects


def _object_texts(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        try:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            return
        with content:
            end = 0
            for _ in range(MAX_OBJECTS):
                start = content.find(b"<ObjectInfo>", end)
                if start < 0:
                    return
                closing = content.find(b"</ObjectInfo>", start, start + MAX_XML)
                if closing < 0:
                    msg = "a description is cut off"
                    raise ExtractionError(msg)
                end = closing + len(b"</ObjectInfo>")
                yield content[start:end]


def _parse_object(xml: bytes) -> _Object:
    root = parse_xml(xml)
    entries = root.iterfind("ExperimentalDescription/Root/Data")
    description = tuple(
        (_text_of(entry, "Label"), _text_of(entry, "Value"), _text_of(entry, "Unit")) for entry in entries
    )
    tree = {child.tag: _tree(child) for child in root if child.tag != "ExperimentalDescription"}
    return _Object(tree, description)


def _text_of(element: Any, name: str) -> str:
    return str(element.findtext(name) or "").strip()


def _tree(element: Any) -> Any:
    """Nested elements as dicts, the last of equal names."""
    children = {child.tag: _tree(child) for child in element if isinstance(child.tag, str)}
    return children or (element.text or "").strip()


def _chosen(objects: list[_Object], number: int, series: _Series) -> _Object | None:
    """Choose the object that describes the series: the one at its number, else the first that fits."""
    own = objects[number - 1] if 0 < number <= len(objects) else None
    if own and own.describes(series):
        return own
    return next((candidate for candidate in objects if candidate.describes(series)), None)


def _add_acquisition(facts: Facts, described: _Object, dataset_type: DatasetType) -> None:
    for tag, (name, unit) in ACQUISITION.items():
        text = described.text("AcquireInfo", tag)
        if not (name == "Number of Spectra" and text == "0"):
            facts.add_written(name, text, unit)
    if binning := described.text("AcquireInfo", "Binning"):
        facts.add("binning", f"{binning} × {binning}")
    scanned = not described.text("AcquireInfo", "CameraNamePath")
    time = described.text("AcquireInfo", "DwellTimePath")
    facts.add_written("dwell_time" if scanned else "exposure_time", time, "s")
    magnification = _number(described.text("AcquireInfo", "Magnification").rstrip(" Xx"))
    if magnification > 1 and dataset_type != "Diffraction" and "magnification" not in facts.fields:
        facts.add("magnification", magnification)
    conditions = ("ExperimentalConditions", "MicroscopeConditions")
    for tag, name, unit in (
        ("AcceleratingVoltage", "acceleration_voltage", "V"),
        ("Tilt1", "stage_alpha", "rad"),
        ("Tilt2", "stage_beta", "rad"),
    ):
        if name not in facts.fields:
            facts.add_written(name, described.text(*conditions, tag), unit)
    facts.add("Manufacturer", described.text("Manufacturer"))


def _types(series: _Series, described: _Object | None, mode: str) -> tuple[DatasetType, str]:
    """Dataset type and technique, from the numbers' axes first and the column's mode second."""
    scanned = any(axis.navigation and axis.name == "Position" for axis in series.axes)
    column = "STEM" if "STEM" in mode or (not mode and scanned) else "TEM" if mode else ""
    if not series.images:
        return spectral_type(series.axes), f"{column}_{_spectroscopy(series, described)}".lstrip("_")
    camera = described is not None and bool(described.text("AcquireInfo", "CameraNamePath"))
    if series.axes[-1].units == "1/nm" or ("Diffraction" in mode and (camera or column == "TEM")):
        return "Diffraction", f"{column or 'TEM'}_Diffraction"
    return "Image", f"{column}_Imaging" if column else "Unknown"


def _spectroscopy(series: _Series, described: _Object | None) -> str:
    if described and described.text("AcquireInfo", "ShapingTime"):
        return "EDS"
    if described and described.text("AcquireInfo", "GainCorrection"):
        return "EELS"
    return "EDS" if series.axes[-1].scale >= X_RAY_STEP else "EELS"


def _acquired(series: _Series, described: _Object | None, facts: Facts) -> datetime | None:
    """Local time of the object, with its offset from UTC where the series has the same moment in UTC."""
    wall = _wall_time(described, facts, series.taken) if described else None
    if wall is None:
        return series.taken
    return (on_its_clock(wall, series.taken) if series.taken else None) or wall


def _wall_time(described: _Object, facts: Facts, like: datetime | None = None) -> datetime | None:
    """Local time of an object; None with a warning where it makes no sense."""
    text = described.text("AcquireDate")
    if not text:
        return None
    try:
        return local_time(text, like=like)
    except ValueError as fault:
        facts.warnings["Creation Time"] = f"the file says {fault}"
        return None


def _signal(path: Path, objects: list[_Object], facts: Facts) -> Signal:
    """Read the dataset of one ``.ser`` file."""
    series = _read_series(path)
    numbered = NUMBERED.fullmatch(path.stem)
    described = _chosen(objects, int(numbered[2]) if numbered else 1, series)
    instrument = described if described and described.description else next((o for o in objects if o.mode), None)
    mode = instrument.mode if instrument else ""
    dataset_type, data_type = _types(series, described, mode)
    if instrument:
        tecnai.add_column(facts, instrument.description, is_filtered=data_type.endswith("EELS"))
    if described:
        _add_acquisition(facts, described, dataset_type)
    elif objects:
        facts.warnings["Series"] = "the .emi file describes the microscope, but not this series"
    if instrument and instrument is not described:
        facts.add("Instrument Values From", "another object of the .emi file")
    if series.left_out:
        facts.warnings["Data Dimensions"] = f"{series.left_out} elements of an unfinished row are left out"
    if series.pixels is None:
        facts.warnings["Preview"] = "the elements do not lie evenly in the file"
    facts.add_axes(series.axes)
    native = {"Series": series.header, "ObjectInfo": described.tree if described else {}}
    if instrument:
        native["ExperimentalDescription"] = {label: f"{v} {u}".strip() for label, v, u in instrument.description}
    signal = Signal(
        dataset_type,
        data_type,
        shape=series.shape,
        acquired=_acquired(series, described, facts),
        native=bounded(native),
        pixels=series.pixels,
    )
    return facts.give_to(signal)


class TiaExtractor(Extractor):
    """Series of FEI's TEM Imaging & Analysis."""

    name: ClassVar[str] = "tia"
    format_name: ClassVar[str] = "FEI TIA"
    version: ClassVar[str] = "3"
    extensions: ClassVar[frozenset[str]] = frozenset({".ser", ".emi"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether it begins like a series; one so named may be cut off, and a container has no mark of its own."""
        suffix = source.path.suffix.lower()
        return head.startswith(MAGIC) or suffix == ".emi" or (suffix == ".ser" and MAGIC.startswith(head[:4]))

    def extract(self, source: Source) -> list[Signal]:
        """Read the signal of a ``.ser`` file, or those of all that belong to an ``.emi`` file.

        An ``.emi`` file whose series are missing, or not to be opened with it, gives one dataset without numbers.
        """
        if source.path.suffix.lower() == ".emi":
            return _of_container(source.path)
        facts = Facts()
        return [_signal(source.path, _objects_beside(source, facts), facts)]


def _objects_beside(source: Source, facts: Facts) -> list[_Object]:
    """Objects of the ``.emi`` file among the companions; none with a warning."""
    numbered = NUMBERED.fullmatch(source.path.stem)
    stem = numbered[1] if numbered else source.path.stem
    beside = [p for p in source.companions if p.suffix.lower() == ".emi" and p.stem.lower() == stem.lower()]
    if not beside:
        facts.warnings["Companion"] = f"{stem}.emi, which describes the microscope, is missing"
        return []
    try:
        return _read_objects(beside[0])
    except (ExtractionError, OSError) as fault:
        facts.warnings["Companion"] = f"{beside[0].name} could not be read: {fault}"
        return []


def _of_container(path: Path) -> list[Signal]:
    """Signals of all the series of an ``.emi`` file that lie beside it."""
    objects = _read_objects(path)
    signals: list[Signal] = []
    faults: dict[str, str] = {}
    for series in _series_beside(path):
        try:
            signals.append(_signal(series, objects, Facts()))
        except ExtractionError as fault:
            faults[series.name] = str(fault)
        except PermissionError:  # a series that is read as a file of its own
            continue
    if not signals and faults:
        raise ExtractionError("; ".join(f"{name}: {reason}" for name, reason in faults.items()))
    if not signals:
        return [_without_numbers(objects)]
    signals[0].warnings.update(faults)
    return signals


def _without_numbers(objects: list[_Object]) -> Signal:
    """What an ``.emi`` file says by itself: its first object of spectra, else its first."""
    instrument = next((each for each in objects if each.mode), objects[0])
    described = next((each for each in objects if each.is_of_spectra), instrument)
    column = "STEM" if "STEM" in instrument.mode else "TEM" if instrument.mode else ""
    display = described.text("ReferenceImagePath").lower()
    dataset_type: DatasetType = "Image"
    technique = "Imaging"
    if described.is_of_spectra:
        dataset_type = "SpectrumImage" if MAPPED.search(display) else "Spectrum"
        technique = "EDS" if described.text("AcquireInfo", "ShapingTime") else "EELS"
    elif column == "TEM" and "Diffraction" in instrument.mode:
        dataset_type = technique = "Diffraction"
    facts = Facts()
    facts.warnings["Companion"] = "its numbers lie in .ser files"
    tecnai.add_column(facts, instrument.description, is_filtered=technique == "EELS")
    _add_acquisition(facts, described, dataset_type)
    acquired = _wall_time(instrument, facts)
    native = {
        "ObjectInfo": described.tree,
        "ExperimentalDescription": {label: f"{v} {u}".strip() for label, v, u in instrument.description},
    }
    data_type = f"{column}_{technique}" if column else "Unknown"
    return facts.give_to(Signal(dataset_type, data_type, acquired=acquired, native=bounded(native)))


def _series_beside(path: Path) -> list[Path]:
    """List the ``.ser`` files of an ``.emi`` file, by number; links are not followed."""
    found = {}
    for candidate in path.parent.iterdir():
        numbered = NUMBERED.fullmatch(candidate.stem)
        belongs = numbered is not None and numbered[1].lower() == path.stem.lower()
        if numbered and belongs and candidate.suffix.lower() == ".ser" and stat.S_ISREG(candidate.lstat().st_mode):
            found[int(numbered[2])] = candidate
    return [found[number] for number in sorted(found)]


EXTRACTOR = TiaExtractor()
