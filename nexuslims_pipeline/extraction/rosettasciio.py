"""Reading a vendor format through HyperSpy's readers (RosettaSciIO), with the metadata that they have in common.

RosettaSciIO's readers are called one by one, never through ``hyperspy.load``: that looks for other files
when a name has ``*``, ``?`` or brackets in it, and gives up where two readers claim an extension.

The names in the readers' ``metadata`` and their units are those of HyperSpy's documentation ("Metadata
structure"): energies in keV, currents in nA, camera length and stage in mm, angles of the beam in mrad, times
in s.
"""

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone, tzinfo
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from nexuslims_pipeline.extraction.facts import METRES, Facts, bounded, is_reciprocal, spectral_type
from nexuslims_pipeline.extraction.faults import in_words
from nexuslims_pipeline.extraction.layouts.hdf5 import check_hdf5
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import local_time
from nexuslims_pipeline.signals import Axis, DatasetType, Pixels, Signal, Source

EAGER_LIMIT = 1 << 30
"""Bytes of numbers that a reader without a lazy mode may hold."""
DETECTORS = re.compile(r"(?<![A-Za-z])(HAADF|MAADF|LAADF|ADF|ABF|BF|DF)(?![A-Za-z])")
TECHNIQUES = {"EELS": "EELS", "EDS": "EDS", "CL": "CL", "EBSD": "EBSD", "FIB-SIMS": "TOFSIMS", "MS": "MS"}
"""Techniques by the start of HyperSpy's ``signal_type``."""
COLUMNS = ("SEM", "TEM", "FIB_SIMS")

VALUES: dict[str, tuple[str, str | None]] = {
    "beam_energy": ("acceleration_voltage", "kV"),
    "beam_current": ("beam_current", "nA"),
    "magnification": ("magnification", None),
    "camera_length": ("camera_length", "mm"),
    "convergence_angle": ("convergence_angle", "mrad"),
    "working_distance": ("working_distance", "mm"),
    "dwell_time": ("dwell_time", "s"),
    "microscope": ("microscope", None),
    "acquisition_mode": ("Acquisition Mode", None),
    "Stage.x": ("stage_x", "mm"),
    "Stage.y": ("stage_y", "mm"),
    "Stage.z": ("stage_z", "mm"),
    "Stage.rotation": ("stage_rotation", "deg"),
    "Stage.tilt": ("stage_tilt", "deg"),
    "Stage.tilt_alpha": ("stage_alpha", "deg"),
    "Stage.tilt_beta": ("stage_beta", "deg"),
    "Detector.EDS.live_time": ("live_time", "s"),
    "Detector.EDS.real_time": ("real_time", "s"),
    "Detector.EDS.azimuth_angle": ("azimuthal_angle", "deg"),
    "Detector.EDS.elevation_angle": ("elevation_angle", "deg"),
    "Detector.EDS.energy_resolution_MnKa": ("detector_energy_resolution", "eV"),
    "Detector.EDS.detector": ("detector_type", None),
    "Detector.EDS.detector_type": ("detector_type", None),
    "Detector.EELS.collection_angle": ("collection_angle", "mrad"),
    "Detector.EELS.exposure": ("exposure_time", "s"),
    "Detector.EELS.dwell_time": ("pixel_time", "s"),
    "Detector.EELS.aperture_size": ("entrance_aperture", "mm"),
    "Detector.EELS.frame_number": ("frames", None),
    "Detector.EELS.spectrometer": ("acquisition_device", None),
    "Detector.Camera.exposure": ("exposure_time", "s"),
    "Detector.Camera.name": ("acquisition_device", None),
    "Detector.detector_type": ("detector_type", None),
    "Detector.integration_time": ("acquisition_time", "s"),
    "Laser.wavelength": ("laser_wavelength", "nm"),
    "FIB.hardware": ("FIB Hardware", None),
    "FIB.voltage_kV": ("acceleration_voltage", "kV"),
    "FIB.current_A": ("beam_current", "A"),
    "FIB.view_field_mm": ("horizontal_field_width", "mm"),
    "FIB.pixel_size_um": ("Pixel Size", "µm"),
}
"""Paths below ``Acquisition_instrument.<column>``: name and HyperSpy's unit."""
NEVER_ZERO = frozenset({
    "acceleration_voltage", "beam_current", "camera_length", "collection_angle", "convergence_angle",
    "dwell_time", "magnification", "working_distance",
})  # fmt: skip
"""Values that are unknown where the file says 0."""
MISSPELT = {"mR": "mrad", "Degrees": "deg", "": None}
"""Units that readers pass on and that mean something else, or nothing, to pint."""
MAGNIFICATION = re.compile(r"([\d.]+)\s*([kKM]?)\s*[xX]?")


class RosettaSciIOExtractor(Extractor):
    """A vendor format that RosettaSciIO reads well; a subclass names the reader and mends what it leaves out.

    The subclass has `accepts`, and overrides of these methods what its format needs: `check` before the reader sees
    the file, `complete` for metadata in HyperSpy's terms, `dataset_type` and `data_type`, and `refine` for the
    finished signal.
    """

    reader: ClassVar[str]
    """Module of RosettaSciIO: ``bruker``."""
    options: ClassVar[Mapping[str, Any]] = {}
    """Further arguments of its ``file_reader``."""
    is_lazy: ClassVar[bool] = False
    """Whether its lazy mode is cheaper than reading everything."""
    is_hdf5: ClassVar[bool] = False
    """Whether the file is HDF5, to be walked through before."""

    def check(self, source: Source) -> int:
        """Refuse what the reader must not see; bytes of numbers that reading all of it would give.

        Raises
        ------
        ExtractionError
            With the reason.
        """
        return check_hdf5(source.path) if self.is_hdf5 else source.size

    def complete(self, metadata: dict[str, Any], original: Any) -> None:
        """Add to HyperSpy's `metadata` what the reader leaves in the vendor's."""

    def dataset_type(self, axes: tuple[Axis, ...], metadata: Mapping[str, Any], kind: str) -> DatasetType:
        """Type by the numbers' axes; the reader's ``signal_type`` is believed only where they are silent.

        `kind` is that of the NumPy type: ``f``, ``u``, ``c`` ….
        """
        inner = [axis for axis in axes if not axis.navigation]
        signal_type = signal_type_of(metadata)
        if not inner:
            return "Misc"
        if len(inner) == 1:
            return spectral_type(axes)
        lengths = sum(axis.units in METRES for axis in inner)
        if signal_type == "LumiTransientSpectrum" or (lengths == 1 and not is_reciprocal(_other(inner))):
            return "SpectrumImage"
        if kind == "c" or (lengths and not all(is_reciprocal(axis.units) for axis in inner)):
            return "Image"
        scanned = sum(axis.navigation for axis in axes) == 2
        told = signal_type.endswith("diffraction")
        return "Diffraction" if told or scanned or all(is_reciprocal(axis.units) for axis in inner) else "Image"

    def data_type(self, dataset_type: DatasetType, axes: tuple[Axis, ...], metadata: Mapping[str, Any]) -> str:
        """Technique, from HyperSpy's ``signal_type`` and the kind of microscope."""
        signal_type = signal_type_of(metadata)
        technique = next((name for start, name in TECHNIQUES.items() if signal_type.startswith(start)), "")
        column = column_of(metadata)
        if technique and dataset_type not in ("Image", "Diffraction"):
            column = "STEM" if column == "TEM" and dataset_type == "SpectrumImage" else column
            return f"{column}_{technique}".lstrip("_")
        if dataset_type == "Diffraction":
            scanned = sum(axis.navigation for axis in axes) == 2
            return "STEM_Diffraction" if scanned else f"{column or 'TEM'}_Diffraction"
        if dataset_type != "Image" or not column:
            return "Unknown"
        named = set(DETECTORS.findall(str(at(metadata, "General.title") or "")))
        return f"{column}_{named.pop()}" if column == "STEM" and len(named) == 1 else f"{column}_Imaging"

    def refine(self, signal: Signal, dictionary: Mapping[str, Any], source: Source) -> Signal:  # noqa: ARG002
        """The finished signal; what the reader gave is in `dictionary`."""
        return signal

    def extract(self, source: Source) -> list[Signal]:
        """Every signal that the reader gives; the first known time of acquisition is that of all."""
        dictionaries = self._load(source.path, self.check(source))
        signals = [self.refine(self._signal(each), each, source) for each in dictionaries]
        if not signals:
            msg = f"RosettaSciIO's reader {self.reader!r} found nothing in it: it is cut off or of another kind"
            raise ExtractionError(msg)
        dated = next((signal.acquired for signal in signals if signal.acquired), None)
        for signal in signals:
            signal.acquired = signal.acquired or dated
        return signals

    def _load(self, path: Path, size: int) -> list[dict[str, Any]]:
        """Call the reader: lazily where it can and the file allows it, at once where the numbers are few."""
        try:
            function = import_module(f"rsciio.{self.reader}").file_reader
            if self.is_lazy:
                try:
                    return list(function(str(path), lazy=True, **self.options))
                except Exception:
                    if size > EAGER_LIMIT:
                        raise
            if size <= EAGER_LIMIT:
                return list(function(str(path), **self.options))
        except ImportError as fault:
            msg = f"the reader for this format needs a Python package that is not installed: {fault}"
            raise ExtractionError(msg) from fault
        except Exception as fault:
            msg = f"RosettaSciIO's reader {self.reader!r} failed: {in_words(fault)}"
            raise ExtractionError(msg) from fault
        msg = f"it holds {size / 1e9:.1f} GB of numbers, more than its reader can take at once"
        raise ExtractionError(msg)

    def _signal(self, dictionary: Mapping[str, Any]) -> Signal:
        data = dictionary["data"]
        original = dictionary.get("original_metadata") or {}
        metadata = _mapped(dictionary)
        self.complete(metadata, original)
        axes, order = _axes(data, dictionary.get("axes") or [], metadata)
        facts = Facts()
        _add_instrument(facts, metadata)
        _add_general(facts, metadata)
        facts.add_axes(axes)
        dataset_type = self.dataset_type(axes, metadata, getattr(data.dtype, "kind", ""))
        signal = Signal(
            dataset_type,
            self.data_type(dataset_type, axes, metadata),
            shape=tuple(axis.size for axis in axes),
            name=str(at(metadata, "General.title") or ""),
            acquired=_acquired(metadata, facts),
            native=bounded({"metadata": metadata, "original_metadata": original}),
            pixels=Pixels(data.transpose(order), axes) if data.dtype.kind != "O" and data.ndim else None,
        )
        return facts.give_to(signal)


def at(tree: Any, path: str) -> Any:
    """Value at a dotted path; HyperSpy's paths have ``_`` for blanks and drop other punctuation."""
    for part in path.split("."):
        if not isinstance(tree, Mapping):
            return None
        if part not in tree:
            part = next((key for key in tree if _slug(str(key)) == _slug(part)), part)  # noqa: PLW2901
        tree = tree.get(part)
    return tree


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "", name.replace(" ", "_"))


def _copied(tree: Any) -> Any:
    return {str(key): _copied(value) for key, value in tree.items()} if isinstance(tree, Mapping) else tree


def put(tree: dict[str, Any], path: str, value: Any) -> None:
    """Set the value at a dotted path."""
    *parents, name = path.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[name] = value


def _axes(data: Any, described: list[Any], metadata: Mapping[str, Any]) -> tuple[tuple[Axis, ...], tuple[int, ...]]:
    """Axes, navigation first, and their places in the array."""
    count = len(data.shape)
    if len(described) != count:
        described = [{}] * count
    told = [axis.get("navigate") for axis in described]
    if None in told:
        recorded = {"spectrum": 1, "image": 2}.get(str(at(metadata, "Signal.record_by")), min(count, 2))
        told = [n < count - recorded for n in range(count)]
    if count and all(told):
        told = [n < count - 2 for n in range(count)]
    signal_axes = [n for n in range(count) if not told[n]][-2:]
    order = (*(n for n in range(count) if n not in signal_axes), *signal_axes)
    return tuple(_axis(described[n], int(data.shape[n]), n not in signal_axes) for n in order), order


def _axis(described: Mapping[str, Any], size: int, navigation: bool) -> Axis:
    values = described.get("axis")
    scale, offset = described.get("scale"), described.get("offset")
    if values is not None and len(values) == size > 1:
        offset, scale = float(values[0]), (float(values[-1]) - float(values[0])) / (size - 1)
    units = str(described.get("units") or "").replace("μ", "µ")
    return Axis(
        size,
        scale=_finite(scale, 1.0),
        offset=_finite(offset, 0.0),
        units="" if units in ("[]", "None", "<undefined>") else units,
        name=str(described.get("name") or ""),
        navigation=navigation,
    )


def _finite(value: Any, default: float) -> float:
    with contextlib.suppress(TypeError, ValueError):
        if math.isfinite(float(value)):
            return float(value)
    return default


def _other(inner: list[Axis]) -> str:
    """Units of the signal axis that is no length."""
    return next((axis.units for axis in inner if axis.units not in METRES), "")


def _mapped(dictionary: Mapping[str, Any]) -> dict[str, Any]:
    """Complete the reader's ``metadata`` with what its ``mapping`` takes over from the vendor's."""
    metadata: dict[str, Any] = _copied(dictionary.get("metadata") or {})
    original = dictionary.get("original_metadata") or {}
    for path, (target, convert) in (dictionary.get("mapping") or {}).items():
        value = at(original, path)
        if value is None:
            continue
        with contextlib.suppress(Exception):
            value = convert(value) if convert else value
            if value is not None:
                put(metadata, target, value)
    return metadata


def signal_type_of(metadata: Mapping[str, Any]) -> str:
    """HyperSpy's ``signal_type``: ``EDS_TEM``."""
    return str(at(metadata, "Signal.signal_type") or "")


def column_of(metadata: Mapping[str, Any]) -> str:
    """Kind of microscope: ``TEM``, ``STEM``, ``SEM``, ``FIB`` or nothing."""
    signal_type = signal_type_of(metadata)
    instrument = metadata.get("Acquisition_instrument")
    present = [name for name in COLUMNS if isinstance(instrument, Mapping) and name in instrument]
    if present == ["FIB_SIMS"]:
        return "FIB"
    mode = str(at(instrument, f"{present[0]}.acquisition_mode") or "") if present else ""
    if "STEM" in mode.upper() or DETECTORS.search(str(at(metadata, "General.title") or "")):
        return "STEM"
    return present[0] if present else signal_type[-3:] if signal_type[-4:] in ("_SEM", "_TEM") else ""


def _add_instrument(facts: Facts, metadata: Mapping[str, Any]) -> None:
    """Everything in ``Acquisition_instrument``: named values as fields, the rest as extensions."""
    instrument = metadata.get("Acquisition_instrument")
    for path, value in _leaves(instrument) if isinstance(instrument, Mapping) else ():
        column, _, rest = path.partition(".")
        inner = rest if column in COLUMNS else path
        if inner.endswith("_units"):
            continue
        known = VALUES.get(inner)
        if known is None:
            group, _, name = inner.rpartition(".")
            facts.add(_title(name), value, None, _title(group.replace(".", " ")) or None)
            continue
        name, unit = known
        if name == "stage_alpha" and column == "SEM":
            name = "stage_tilt"
        _add_in(facts, name, value, at(instrument, f"{path}_units") or unit)


def _add_in(facts: Facts, name: str, value: Any, unit: Any) -> None:
    """Keep a value in its own unit; an electron energy in keV and a voltage in kV are the same number."""
    if name == "acceleration_voltage":
        unit = str(unit).replace("eV", "V")
    unit = MISSPELT.get(str(unit), unit)
    if name == "magnification" and (found := MAGNIFICATION.fullmatch(str(value).strip())):
        value = _finite(found[1], 0.0) * {"": 1, "K": 1e3, "M": 1e6}[found[2].upper()]
    if name in NEVER_ZERO and _finite(value, 1.0) == 0:
        return
    try:
        facts.add(name, value, None if unit is None else str(unit))
    except (AttributeError, LookupError, ArithmeticError, TypeError):
        facts.warnings[name] = f"the file says {str(value)[:60]} {unit}, which is no known unit"


def _leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{key}.")
        elif isinstance(value, str | bool | int | float) or getattr(value, "ndim", 1) == 0:
            yield f"{path}{key}", value


def _title(name: str) -> str:
    return " ".join(word[:1].upper() + word[1:] for word in name.replace("_", " ").split())


def _add_general(facts: Facts, metadata: Mapping[str, Any]) -> None:
    for path, name in (
        ("General.authors", "operator"),
        ("General.notes", "Notes"),
        ("Sample.name", "specimen"),
        ("Sample.description", "specimen"),
        ("Signal.quantity", "Quantity"),
    ):
        value = at(metadata, path)
        facts.add(name, value if isinstance(value, str) else None)
    elements = at(metadata, "Sample.elements")
    if hasattr(elements, "__iter__") and not isinstance(elements, str):
        facts.add("elements", [str(element) for element in elements])


def _acquired(metadata: Mapping[str, Any], facts: Facts) -> datetime | None:
    """``General.date`` and ``time``, in ``time_zone`` where that is known."""
    general = [at(metadata, f"General.{name}") for name in ("date", "time", "time_zone")]
    day, clock, zone = (str(value or "").strip() for value in general)
    if not day:
        return None
    clock = re.sub(r"(\.\d{6})\d+", r"\1", clock)
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}" if clock else day)
    except ValueError:
        try:
            moment = local_time(day, clock or "00:00")
        except ValueError:
            facts.warnings["Creation Time"] = f"the date {day[:40]!r} could not be read"
            return None
    if moment.year < 1980:
        facts.warnings["Creation Time"] = f"the date {day[:40]!r} cannot be right"
        return None
    if not clock and len(day) <= 11:
        facts.warnings["Creation Time"] = "the file says the day, but not the time"
    return moment if moment.tzinfo else moment.replace(tzinfo=_zone(zone))


def _zone(name: str) -> tzinfo | None:
    """Zone named ``UTC``, ``Europe/Zurich`` or ``+09:00``; None for the clock of the instrument."""
    found = re.fullmatch(r"([+-])(\d{2}):?(\d{2})", name)
    if found:
        minutes = int(found[2]) * 60 + int(found[3])
        return timezone(timedelta(minutes=minutes if found[1] == "+" else -minutes))
    with contextlib.suppress(ValueError, OSError, LookupError):
        return ZoneInfo(name) if name else None
    return None
