"""Tofwerk TofDAQ ``.h5``: time-of-flight mass spectra, of FIB-SIMS above all (fibTOF).

======================================  ======================================================================
place                                   content
======================================  ======================================================================
``/@TofDAQ Version``                    by which the format is known; the other attributes: sizes, ion mode
``/AcquisitionLog/Log``                 records with ``timestamp`` (Windows FILETIME, UTC), ``timestring``
                                        (ISO 8601 with zone) and ``logtext``
``/FullSpectra/SumSpectrum``            sum of all spectra; ``MassAxis``: mass of each sample, a square law
``/FullSpectra/EventList``              of every voxel (writes, segments, x) the times of its ions; not read
``/PeakData/PeakData``                  (writes, segments, x, peaks): counts of each peak, in processed files
``/PeakData/PeakTable``                 label, mass and integration limits of each peak
``/FIBParams/@…``                       ``Voltage`` in V, ``Current`` in A, ``ViewField`` in mm
``/FIBImages/Image0000/Data``           image by secondary electrons, before each of the slices
``/FibParams/FibPressure/TwData``       pressure of the chamber in Pa
``/TimingData/@LocalTimeOffsetToUTC``   hours
======================================  ======================================================================

Writes are slices of depth, segments rows, x columns.
https://hyperspy.org/rosettasciio/user_guide/supported_formats/tofwerk.html
"""

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded
from nexuslims_pipeline.extraction.layouts.hdf5 import (
    Numbers,
    complete,
    ensure_own_numbers,
    is_hdf5,
    mentions,
    open_hdf5,
    plain_value,
    resolved,
    tree_of,
)
from nexuslims_pipeline.extraction.layouts.raster import Stack
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import filetime, local_time
from nexuslims_pipeline.metadata.units import tidy
from nexuslims_pipeline.signals import Axis, DatasetType, Layer, Pixels, Signal, Source

MOST_SAMPLES: Final = 1 << 22
"""Samples of a sum spectrum."""
BINS: Final = 4096
"""Most bins of equal width that a sum spectrum is drawn in."""
MOST_PEAKS: Final = 20_000
MAPS: Final = 6
"""Peaks that are given as maps."""
MAP_BYTES: Final = 8 << 20
"""Counts that are read for one map."""
LOWEST_MASS: Final = 0.5
"""Dalton below which there is nothing but the ringing of the start pulse."""
MOST_RECORDS: Final = 10_000
MOST_BYTES: Final = 4 << 20


class Tofwerk(Extractor):
    """Mass spectra of TofDAQ, with the images of the ion beam's microscope."""

    name: ClassVar[str] = "tofwerk"
    format_name: ClassVar[str] = "Tofwerk TofDAQ"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".h5", ".hdf5"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether it is HDF5 that TofDAQ signed, with full spectra."""
        if not is_hdf5(head):
            return False
        try:
            with open_hdf5(source.path) as file:
                return "TofDAQ Version" in file.attrs and hasattr(resolved(file, "FullSpectra"), "keys")
        except ExtractionError:
            return mentions(source, head, b"TofDAQ Version")

    def extract(self, source: Source) -> list[Signal]:
        """The spectrum image first, then the series of images by secondary electrons.

        Raises
        ------
        ExtractionError
            If the file is damaged.
        """
        with open_hdf5(source.path) as file:
            tree = {f"@{name}": value for name, value in _attributes(file).items()}
            for name in ("FIBParams", "FullSpectra", "TimingData", "AcquisitionLog", "RawData"):
                group = resolved(file, name)
                tree[name] = tree_of(group, limit=2000).values if hasattr(group, "keys") else {}
            facts = _facts(file, tree)
            acquired = _acquired(file, tree, facts)
            signals = [_spectra(source.path, file, tree, facts)]
            images = _images(source.path, file, facts)
            signals += [images] if images is not None else []
            for signal in signals:
                signal.acquired = acquired
                signal.native = bounded(tree)
        return signals


class MassSpectrum:
    """Sum spectrum over masses in steps of equal size; read when it is sliced.

    Parameters
    ----------
    counts, masses
        Arrays of one length that slice like NumPy.
    axis
        The masses wanted.
    """

    def __init__(self, counts: Any, masses: Any, axis: Axis) -> None:
        import numpy as np

        self.shape = (axis.size,)
        self.ndim = 1
        self.dtype = np.dtype("f8")
        self._counts, self._masses, self._axis = counts, masses, axis
        self._summed: Any = None

    def __getitem__(self, key: Any) -> Any:
        import numpy as np

        if self._summed is None:
            counts, masses = np.asarray(self._counts[:], "f8"), np.asarray(self._masses[:], "f8")
            edges = self._axis.offset + self._axis.scale * (np.arange(self._axis.size + 1) - 0.5)
            start = _start(masses)
            self._summed, _ = np.histogram(masses[start:], edges, weights=np.nan_to_num(counts[start:]))
        return self._summed[key]


def _start(masses: Any) -> int:
    """First sample after the start of the clock: before it, masses are zero or come a second time."""
    import numpy as np

    return int(np.flatnonzero(masses == np.nanmin(masses))[-1])


class PeakMap:
    """Counts of one peak, summed over slices that are evenly spaced in depth."""

    def __init__(self, peaks: Numbers, peak: int) -> None:
        import numpy as np

        self.shape = peaks.shape[1:3]
        self.ndim = 2
        self.dtype = np.dtype("f8")
        self._peaks, self._peak = peaks, peak
        self._summed: Any = None

    def __getitem__(self, key: Any) -> Any:
        if self._summed is None:
            rows, columns = self.shape
            slices = self._peaks.shape[0]
            step = max(1, -(-slices * rows * columns * self._peaks.dtype.itemsize // MAP_BYTES))
            self._summed = sum(
                self._peaks[(index, slice(None), slice(None), self._peak)].astype(self.dtype)
                for index in range(0, slices, step)
            )
        return self._summed[complete(key, 2)]


def _attributes(owner: Any) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in owner.attrs:
        try:
            values[name] = plain_value(owner.attrs[name])
        except (OSError, TypeError, ValueError, KeyError, RuntimeError):
            values[name] = "it cannot be read"
    return values


def _number(tree: Any, *path: str) -> float | None:
    for name in path:
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return float(tree) if isinstance(tree, int | float) and not isinstance(tree, bool) else None


def _count(tree: Mapping[str, Any], name: str) -> int:
    value = _number(tree, f"@{name}")
    return int(value) if value is not None and 0 < value < 1 << 31 else 0


def _facts(file: Any, tree: Mapping[str, Any]) -> Facts:
    facts = Facts()
    version = tree.get("@TofDAQ Version")
    facts.add("software", f"TofDAQ {version}")
    facts.add("TofDAQ Version", str(version))
    facts.add_measured("acceleration_voltage", _number(tree, "FIBParams", "@Voltage") or 0.0, "V")
    facts.add_measured("beam_current", _number(tree, "FIBParams", "@Current") or 0.0, "A")
    facts.add_measured("horizontal_field_width", _number(tree, "FIBParams", "@ViewField") or 0.0, "mm")
    facts.add("FIB Hardware", tree["FIBParams"].get("@FibHardware"))
    facts.add("FIB Interface Version", tree["FIBParams"].get("@FibInterfaceVersion"))
    facts.add("FIB Scan Speed", _number(tree, "FIBParams", "@ScanSpeed"))
    facts.add("FibLys GUI Version", str(tree.get("@FiblysGUIVersion", "")))
    facts.add("Ion Mode", tree.get("@IonMode"))
    facts.add("Data Acquisition Hardware", tree.get("@DAQ Hardware"))
    facts.add("Number of Peaks", _count(tree, "NbrPeaks") or None)
    facts.add("Mass Calibration", tree["FullSpectra"].get("@MassCalibration Function"))
    for name in ("p1", "p2", "p3"):
        facts.add(f"Mass Calibration {name}", _number(tree, "FullSpectra", f"@MassCalibration {name}"))
    facts.add("Sample Interval", _number(tree, "FullSpectra", "@SampleInterval"), "s")
    is_processed = resolved(file, "PeakData/PeakData") is not None
    facts.add("File Variant", "pre-processed" if is_processed else "raw")
    _add_pressure(file, facts)
    return facts


def _add_pressure(file: Any, facts: Facts) -> None:
    found = resolved(file, "FibParams/FibPressure/TwData")
    if (
        getattr(found, "shape", None)
        and found.dtype.kind == "f"
        and 0 < found.size * found.dtype.itemsize <= MOST_BYTES
    ):
        try:
            ensure_own_numbers(found)
            facts.add_measured("chamber_pressure", float(found[...].mean()), "Pa")
        except (ExtractionError, OSError) as fault:
            facts.warnings["chamber_pressure"] = f"it cannot be read: {str(fault)[:120]}"


def _acquired(file: Any, tree: Mapping[str, Any], facts: Facts) -> datetime | None:
    """Start by the log, which tells the zone; else when the file was made, by the clock of the computer."""
    problem = ""
    for moment in (_logged_text, _logged_ticks):
        try:
            found = moment(resolved(file, "AcquisitionLog/Log"))
        except ValueError as fault:
            problem = f"the time in the log of the acquisition could not be read: {str(fault)[:80]}"
        else:
            if found is not None:
                return found
    written = str(tree.get("@HDF5 File Creation Time", ""))
    try:
        wall = local_time(*written.partition(" ")[::2]) if written else None
    except ValueError as fault:
        wall, problem = None, str(fault)
    if wall is None:
        facts.warnings |= {"Creation Time": problem} if problem else {}
        return None
    offset = _number(tree, "TimingData", "@LocalTimeOffsetToUTC")
    return wall if offset is None or abs(offset) > 14 else wall.replace(tzinfo=timezone(timedelta(hours=offset)))


def _logged(log: Any, name: str) -> Any:
    """Value of the first record of the log; None when there is none."""
    names = getattr(getattr(log, "dtype", None), "names", None) or ()
    if name not in names or log.ndim != 1 or not 0 < log.size <= MOST_RECORDS or log.dtype.itemsize > 1 << 16:
        return None
    ensure_own_numbers(log)
    return log[0][name]


def _logged_text(log: Any) -> datetime | None:
    text = str(plain_value(_logged(log, "timestring")) or "")
    return datetime.fromisoformat(text) if text else None


def _logged_ticks(log: Any) -> datetime | None:
    ticks = _logged(log, "timestamp")
    return filetime(int(ticks)) if ticks is not None else None


def _spectra(path: Path, file: Any, tree: Mapping[str, Any], shared: Facts) -> Signal:
    """Spectrum of every voxel, drawn as the sum of all of them and as maps of the strongest peaks."""
    facts = _copy(shared)
    peaks, events = resolved(file, "PeakData/PeakData"), resolved(file, "FullSpectra/EventList")
    voxels = next((each.shape[:3] for each in (peaks, events) if getattr(each, "ndim", 0) in (3, 4)), None)
    written = (_count(tree, "NbrWrites"), _count(tree, "NbrSegments"))
    scan = tuple(map(int, voxels)) if voxels else tuple(size for size in written if size)
    inner = peaks.shape[3] if getattr(peaks, "ndim", 0) == 4 else _count(tree, "NbrSamples")
    is_fib = bool(tree["FIBParams"])
    kind: DatasetType = "SpectrumImage" if len(scan) == 3 and is_fib else "Spectrum"
    shape = (*scan, int(inner)) if kind == "SpectrumImage" and inner else scan
    facts.add("frames", scan[0] if scan else None)
    field = facts.fields.get("horizontal_field_width")
    if field is not None and len(scan) == 3 and scan[2]:
        for side, size in (("width", scan[2]), ("height", scan[2])):
            facts.add(f"pixel_{side}", tidy(float(field.m_as("nm")) / size), "nm")
        facts.add("vertical_field_width", float(field.m_as("µm")) * scan[1] / scan[2], "µm")
    signal = Signal(kind, "PFIB_TOFSIMS" if is_fib else "Mass_Spectrometry", shape=shape, name="Mass spectra")
    signal.pixels = _sum_spectrum(path, file, facts)
    if kind == "SpectrumImage" and signal.pixels is not None and getattr(peaks, "ndim", 0) == 4:
        signal.layers = _strongest(path, file, peaks, facts)
    if signal.pixels is not None and kind == "Spectrum":
        signal.shape = signal.pixels.array.shape
    return facts.give_to(signal)


def _copy(shared: Facts) -> Facts:
    facts = Facts()
    facts.fields.update(shared.fields)
    facts.extensions.update(shared.extensions)
    facts.warnings.update(shared.warnings)
    return facts


def _curves(path: Path, file: Any) -> tuple[Numbers, Numbers] | None:
    """Sum spectrum and its masses; None when one is missing or they do not fit.

    Raises
    ------
    ExtractionError
        If their numbers lie in another file.
    """
    counts, masses = (resolved(file, f"FullSpectra/{name}") for name in ("SumSpectrum", "MassAxis"))
    for each in (counts, masses):
        if getattr(each, "ndim", 0) != 1 or not 1 < each.size <= MOST_SAMPLES or each.dtype.kind not in "iuf":
            return None
    return (Numbers(path, counts), Numbers(path, masses)) if counts.size == masses.size else None


def _sum_spectrum(path: Path, file: Any, facts: Facts) -> Pixels | None:
    import numpy as np

    try:
        curves = _curves(path, file)
        masses = np.asarray(curves[1][:], "f8") if curves else np.empty(0)
    except (ExtractionError, OSError) as fault:
        facts.warnings["Pixels"] = f"The sum spectrum cannot be read: {str(fault)[:120]}"
        return None
    finite = masses[np.isfinite(masses)]
    if curves is None or finite.size < 2 or finite.max() <= finite.min():
        facts.warnings["Pixels"] = "The file holds no sum spectrum with its masses (a copy that broke off?)."
        return None
    lowest, highest = float(finite.min()), float(finite.max())
    facts.add("Mass Range Minimum", float(f"{lowest:.6g}"), "dalton")
    facts.add("Mass Range Maximum", float(f"{highest:.6g}"), "dalton")
    size = min(masses.size, BINS)
    step = (highest - lowest) / size
    axis = Axis(size, step, lowest + step / 2, "Da", "Mass")
    return Pixels(MassSpectrum(*curves, axis), (axis,))


def _strongest(path: Path, file: Any, peaks: Any, facts: Facts) -> tuple[Layer, ...]:
    """Maps of the peaks with most counts in the sum spectrum, each mass once."""
    import numpy as np

    table = resolved(file, "PeakData/PeakTable")
    names = getattr(getattr(table, "dtype", None), "names", None) or ()
    limits = ("lower integration limit", "upper integration limit")
    if not {"label", "mass", *limits} <= set(names) or table.ndim != 1 or not 0 < table.size <= MOST_PEAKS:
        return ()
    try:
        curves = _curves(path, file)
        if curves is None:
            return ()
        numbers, rows = Numbers(path, peaks), table[:]
        counts, masses = (np.asarray(each[:], "f8") for each in curves)
    except (ExtractionError, OSError) as fault:
        facts.warnings["Peaks"] = f"They cannot be read: {str(fault)[:120]}"
        return ()
    start = _start(masses)
    summed = np.concatenate([[0.0], np.cumsum(np.nan_to_num(counts[start:]))])
    low, high = (np.searchsorted(masses[start:], rows[limit].astype("f8")) for limit in limits)
    strength = np.where(rows["mass"] > LOWEST_MASS, summed[high] - summed[low], 0.0)
    layers: dict[int, Layer] = {}
    for index in np.argsort(-strength, kind="stable"):
        mass = round(float(rows["mass"][index]))
        if len(layers) == MAPS or strength[index] <= 0 or index >= peaks.shape[3]:
            break
        layers.setdefault(mass, Layer(_named(rows[index]), PeakMap(numbers, int(index))))
    return tuple(layers.values())


def _named(row: Any) -> str:
    """``m/z 27`` for the peaks that TofDAQ makes itself, the operator's label for others."""
    label = str(plain_value(row["label"]))
    return f"m/z {round(float(row['mass']))}" if not label or label.startswith("nominal") else label.strip("[]")


def _images(path: Path, file: Any, shared: Facts) -> Signal | None:
    """Series of images by secondary electrons."""
    group = resolved(file, "FIBImages")
    names = sorted(group) if hasattr(group, "keys") else []
    first: Any = resolved(group, f"{names[0]}/Data") if names else None
    if getattr(first, "ndim", 0) != 2 or first.dtype.kind not in "iuf":
        return None
    facts = _copy(shared)
    rows, columns = map(int, first.shape)
    field = facts.fields.get("horizontal_field_width")
    step = tidy(float(field.m_as("µm")) / columns) if field is not None and columns else 0.0
    plane = tuple(
        Axis(size, step or 1.0, units="µm" if step else "", name=name) for size, name in ((rows, "y"), (columns, "x"))
    )
    facts.add_axes(plane)
    facts.add("frames", len(names))
    array: Any = Stack((len(names), rows, columns), first.dtype, _Slices(path, names))
    axes = (Axis(len(names), name="Slice", navigation=True), *plane)
    if len(names) == 1:
        array, axes = array[0], plane
    signal = Signal("Image", "FIB_Imaging", shape=tuple(axis.size for axis in axes), name="FIB images")
    signal.pixels = Pixels(array, axes)
    for name in ("Number of Peaks", "File Variant"):
        facts.extensions.pop(name, None)
    return facts.give_to(signal)


class _Slices:
    """Opens the image of one slice."""

    def __init__(self, path: Path, names: list[str]) -> None:
        self._path, self._names = path, names

    def __call__(self, index: int) -> Any:
        with open_hdf5(self._path) as file:
            return Numbers(self._path, resolved(file, f"FIBImages/{self._names[index]}/Data"))


EXTRACTOR = Tofwerk()
