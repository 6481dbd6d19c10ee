"""Delmic SPARC ``.h5`` of Odemis: cathodoluminescence beside images by secondary electrons.

One group per image or camera exposure, in the layout of Scientific Volume Imaging, in SI units:

==========================================  ==================================================================
place below ``/Acquisition0``, ``1`` …      content
==========================================  ==================================================================
``ImageData/Image``                         five axes, by ``@DIMENSION_LABELS``: C (wavelength), T (time) or
                                            A (angle), Z, Y, X
``ImageData/DimensionScaleX``, ``…Y``       pixel size; ``…C``, ``…T``: the coordinates
``ImageData/XOffset``, ``YOffset``          centre; ``TOffset``: seconds since 1970, UTC
``PhysicalData/<name>``                     one value each, with ``@State``: 111 invalid, 112 default,
                                            113 estimated, 114 reported
``PhysicalData/ExtraSettings``              JSON of all hardware: ``{"SEM E-beam": {"dwellTime": [1e-5, "s"]}}``
``SVIData/WriterVersion``                   version of Odemis
==========================================  ==================================================================

Exposures of the angle-resolved camera, one per beam position, are put together on the grid of the concurrent
image by secondary electrons.
https://hyperspy.org/rosettasciio/user_guide/supported_formats/delmic.html and https://github.com/delmic/odemis
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from math import isfinite, prod
from pathlib import Path
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded, spectral_type
from nexuslims_pipeline.extraction.layouts.emd import reordered
from nexuslims_pipeline.extraction.layouts.frames import Frames
from nexuslims_pipeline.extraction.layouts.hdf5 import (
    Numbers,
    complete,
    ensure_own_numbers,
    is_hdf5,
    mentions,
    open_hdf5,
    plain_value,
    resolved,
)
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import unix_time
from nexuslims_pipeline.metadata.units import tidy
from nexuslims_pipeline.signals import Axis, DatasetType, Pixels, Signal, Source

GROUP: Final = re.compile(r"Acquisition(\d{1,6})")
LABELS: Final = "CTZYX"
MOST_GROUPS: Final = 20_000
MOST_SIGNALS: Final = 100
SMALL: Final = 1 << 20
"""Bytes of one value."""
INVALID, DEFAULT = 111, 112
EARLIEST: Final = 1e8
"""Seconds since 1970 below which a time is none."""
ANGLE_RESOLVED: Final = "Angle-resolved"
CONCURRENT: Final = "Secondary electrons concurrent"
SURVEY: Final = "Secondary electrons survey"
ANCHOR: Final = "Anchor region"
LARGEST_BEAM_CURRENT: Final = 1e-6
"""A; an emission current is larger."""
LIGHT: Final = {"C": ("Wavelength", 1e9, "nm"), "T": ("Time", 1e9, "ns"), "A": ("Angle", 1.0, "")}
"""Axes of light: name, factor and unit."""

VALUES: Final[dict[str, tuple[str, str | None]]] = {
    "AccelerationVoltage": ("acceleration_voltage", "V"),
    "IntegrationCount": ("Integration Count", None),
    "Magnification": ("Optical Magnification", None),
    "NumericalAperture": ("Numerical Aperture", None),
    "FocusDistance": ("Mirror Focus Distance", "m"),
    "ParabolaF": ("Mirror Focal Length", "m"),
    "HoleDiameter": ("Mirror Hole Diameter", "m"),
    "XMax": ("Mirror Extent", "m"),
    "TimeRange": ("Streak Time Range", "s"),
    "TriggerDelay": ("Trigger Delay", "s"),
    "TriggerRate": ("Trigger Rate", "Hz"),
    "MCPGain": ("Microchannel Plate Gain", None),
    "StreakMode": ("Streak Mode", None),
    "Polarization": ("Polarisation", None),
    "WorkingDistance": ("working_distance", "m"),
}
"""Names in ``PhysicalData``."""
BEAM: Final[dict[str, tuple[str, str | None]]] = {
    "accelVoltage": ("acceleration_voltage", "V"),
    "probeCurrent": ("probe_current", "A"),
    "magnification": ("magnification", None),
    "dwellTime": ("dwell_time", "s"),
    "rotation": ("scan_rotation", "rad"),
    "workingDistance": ("working_distance", "m"),
}
"""Settings of the electron beam in ``ExtraSettings``."""
SPECTROGRAPH: Final[dict[str, tuple[str, str | None]]] = {
    "wavelength": ("Centre Wavelength", "m"),
    "grating": ("Grating", None),
    "slit-in": ("Entrance Slit", "m"),
}


class Delmic(Extractor):
    """Spectra, angular patterns, streak images and intensities of light, with the images taken along."""

    name: ClassVar[str] = "delmic"
    format_name: ClassVar[str] = "Delmic Odemis"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".h5", ".hdf5"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether it is HDF5 with an image where Odemis has them."""
        if not is_hdf5(head):
            return False
        try:
            with open_hdf5(source.path) as file:
                first = next(iter(_groups(file)), "")
                below = (resolved(file, f"{first}/{name}") for name in ("ImageData/Image", "PhysicalData"))
                return bool(first) and all(found is not None for found in below)
        except ExtractionError:
            return mentions(source, head, b"PhysicalData", b"SVIData")

    def extract(self, source: Source) -> list[Signal]:
        """Light first, then images by secondary electrons, the survey last.

        Raises
        ------
        ExtractionError
            If the file is damaged or holds no image.
        """
        with open_hdf5(source.path) as file:
            names = _groups(file)[:MOST_GROUPS]
            found = [each for name in names if (each := _read(file, name)) is not None]
            exposures = [each for each in found if each.is_angle_resolved]
            single = [each for each in found if not each.is_angle_resolved]
            signals = [_patterns(source.path, exposures, single)] if exposures else []
            single.sort(key=lambda each: each.rank)
            signals += [_signal(source.path, each) for each in single[:MOST_SIGNALS]]
        if not signals:
            msg = "it holds no image: it is cut off, or the acquisition was stopped"
            raise ExtractionError(msg)
        if len(found) < len(names):
            signals[0].warnings["Datasets"] = f"{len(names) - len(found)} of {len(names)} are damaged and left out."
        if len(single) > MOST_SIGNALS:
            signals[0].warnings["Datasets"] = f"Of {len(single)} datasets the first {MOST_SIGNALS} are given."
        return signals


@dataclass(slots=True)
class _Acquisition:
    """One image or exposure."""

    group: Any
    image: Any
    title: str
    labels: str

    @property
    def sizes(self) -> dict[str, int]:
        """Length of each axis by its label."""
        return dict(zip(self.labels, map(int, self.image.shape), strict=True))

    @property
    def is_angle_resolved(self) -> bool:
        """Whether it is a picture of the mirror, which stands for one position of the beam."""
        sizes = self.sizes
        is_picture = prod(size for label, size in sizes.items() if label not in "YX") == 1
        has_pole = resolved(self.group, "PhysicalData/PolePosition") is not None
        return is_picture and (self.title == ANGLE_RESOLVED or (has_pole and sizes["Y"] > 1 < sizes["X"]))

    @property
    def is_light(self) -> bool:
        """Whether it comes from a detector of light."""
        return not self.title.startswith(("Secondary", "Backscatter", ANCHOR, "EBIC", "SEM"))

    @property
    def is_spectral(self) -> bool:
        """Whether a camera or a counter took it, rather than a detector that is read out during the scan."""
        depth = prod(self.sizes.get(label, 1) for label in "CTA")
        return self.is_light and (depth > 1 or self.is_angle_resolved)

    @property
    def rank(self) -> int:
        """Place among the signals of the file."""
        return 0 if self.is_light else {SURVEY: 3, ANCHOR: 2}.get(self.title, 1)

    def value(self, place: str, default: Any = None) -> Any:
        """Small value below the group; `default` when there is none, or the file calls it invalid."""
        found = resolved(self.group, place)
        shape = getattr(found, "shape", None)
        if shape is None or found.size * found.dtype.itemsize > SMALL:
            return default
        state = _state(found)
        if state == INVALID or (state == DEFAULT and place.startswith("PhysicalData/")):
            return default
        ensure_own_numbers(found)
        return plain_value(found[()])

    def number(self, place: str) -> float:
        """Number below the group; 0 for none."""
        value = self.value(place)
        return float(value) if isinstance(value, int | float) and isfinite(value) else 0.0


def _state(dataset: Any) -> int | None:
    try:
        value = plain_value(dataset.attrs["State"]) if "State" in dataset.attrs else None
    except (OSError, TypeError, ValueError, KeyError, RuntimeError):
        return None
    value = value[0] if isinstance(value, list) and value else value
    return value if isinstance(value, int) else None


def _groups(file: Any) -> list[str]:
    """Names of the acquisitions, by their numbers."""
    names = [name for name in file if isinstance(name, str) and GROUP.fullmatch(name)]
    return sorted(names, key=lambda name: int(name.removeprefix("Acquisition")))


def _read(file: Any, name: str) -> _Acquisition | None:
    """One acquisition; None when it is damaged or none."""
    try:
        return _acquisition(resolved(file, name))
    except (OSError, RuntimeError, KeyError, ValueError):
        return None


def _acquisition(group: Any) -> _Acquisition | None:
    image: Any = resolved(group, "ImageData/Image") if hasattr(group, "keys") else None
    if getattr(image, "ndim", 0) != 5 or 0 in image.shape or image.dtype.kind not in "iuf":
        return None
    labels = LABELS
    try:
        told = plain_value(image.attrs["DIMENSION_LABELS"]) if "DIMENSION_LABELS" in image.attrs else ""
        labels = "".join(told) if isinstance(told, list) else labels
    except (OSError, TypeError, ValueError, RuntimeError):
        labels = LABELS
    if sorted(labels) not in (sorted("CTZYX"), sorted("CAZYX")):
        labels = LABELS
    acquisition = _Acquisition(group, image, "", labels)
    acquisition.title = str(acquisition.value("PhysicalData/ChannelDescription") or "")
    return acquisition


def _settings(acquisition: _Acquisition) -> dict[str, Any]:
    """JSON of the hardware; empty when it is damaged."""
    try:
        found = json.loads(str(acquisition.value("PhysicalData/ExtraSettings") or "{}"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _facts(acquisition: _Acquisition, settings: Mapping[str, Any]) -> Facts:
    facts = Facts()
    writer = acquisition.value("SVIData/WriterVersion")
    facts.add("software", writer if isinstance(writer, str) else None)
    told = {name: _told(settings, "Microscope", name) for name in ("Manufacturer", "Name", "Model", "Serial number")}
    words = [str(told[name]) for name in ("Manufacturer", "Name") if isinstance(told[name], str)]
    facts.add("microscope", " ".join(words))
    facts.add("Model", told["Model"], group="Instrument")
    facts.add("Serial Number", told["Serial number"], group="Instrument")
    for name, (known, unit) in VALUES.items():
        value = acquisition.value(f"PhysicalData/{name}")
        facts.add(known, value if isinstance(value, str | int | float) else None, unit)
    for name, (known, unit) in BEAM.items():
        facts.add(known, _told(settings, "SEM E-beam", name), unit)
    if not acquisition.is_spectral:
        told = facts.extensions.pop("Optical Magnification", None)
        facts.add("magnification", facts.fields.get("magnification", told))
    _add_current(facts, acquisition.number("PhysicalData/EmissionCurrent"))
    _add_light(facts, acquisition, settings)
    return facts


def _told(settings: Mapping[str, Any], part: str, name: str) -> Any:
    """Value of a setting ``[value, unit]``, if it is one number or text."""
    found = settings.get(part)
    found = found.get(name) if isinstance(found, dict) else None
    value = found[0] if isinstance(found, list) and found else None
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else None


def _add_current(facts: Facts, amperes: float) -> None:
    """Odemis writes the current of the beam as that of the emission."""
    if amperes > LARGEST_BEAM_CURRENT:
        facts.add("emission_current", amperes, "A")
    elif amperes > 0 and "probe_current" not in facts.fields:
        facts.add("beam_current", amperes, "A")


def _add_light(facts: Facts, acquisition: _Acquisition, settings: Mapping[str, Any]) -> None:
    """What is known of the detector."""
    hardware = acquisition.value("PhysicalData/HardwareName") or acquisition.value("PhysicalData/HardwareVersion")
    if not acquisition.is_spectral:
        told = "SE" if acquisition.title.startswith("Secondary") else acquisition.title.removesuffix(" intensity")
        facts.add("detector_type", told)
        facts.add("Scan Hardware", hardware)
        return
    facts.add("acquisition_device", hardware)
    facts.add_measured("exposure_time", acquisition.number("PhysicalData/IntegrationTime"), "s")
    _add_band(facts, acquisition.value("PhysicalData/EmissionWavelength"))
    position = _position(settings)
    for name, (known, unit) in SPECTROGRAPH.items():
        value = position.get(name)
        if isinstance(value, int | float) and value:
            facts.add(known, value, unit, "Spectrograph")


def _add_band(facts: Facts, band: Any) -> None:
    """Wavelengths that the filter lets pass."""
    band = band[0] if isinstance(band, list) and len(band) == 1 else band
    if isinstance(band, list) and all(isinstance(edge, int | float) for edge in band):
        facts.add("Wavelength Band", " – ".join(f"{edge * 1e9:.6g}" for edge in band) + " nm")
    elif isinstance(band, str):
        facts.add("Wavelength Band", band)


def _position(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    found = settings.get("Spectrograph")
    found = found.get("position") if isinstance(found, dict) else None
    found = found[0] if isinstance(found, list) and found else None
    return found if isinstance(found, dict) else {}


def _native(acquisition: _Acquisition, settings: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for part in ("PhysicalData", "SVIData"):
        group = resolved(acquisition.group, part)
        names = [name for name in list(group if hasattr(group, "keys") else ())[:500] if name != "ExtraSettings"]
        told = {name: acquisition.value(f"{part}/{name}") for name in names}
        values[part] = {name: value for name, value in told.items() if value is not None}
    return {**values, "ExtraSettings": dict(settings), "Group": acquisition.group.name}


def _spatial(acquisition: _Acquisition, *, navigation: bool) -> dict[str, Axis]:
    axes = {}
    for label in "ZYX":
        size, step = acquisition.sizes[label], abs(acquisition.number(f"ImageData/DimensionScale{label}")) * 1e9
        known = step > 0
        axes[label] = Axis(size, tidy(step) if known else 1.0, 0.0, "nm" if known else "", label.lower(), navigation)
    return axes


def _light_axis(acquisition: _Acquisition, label: str) -> Axis:
    """Axis of wavelengths or times; uncalibrated when its coordinates are not those of a line."""
    name, factor, unit = LIGHT[label]
    size = acquisition.sizes[label]
    values = resolved(acquisition.group, f"ImageData/DimensionScale{label}")
    if not unit or getattr(values, "shape", None) != (size,) or size < 2 or size > SMALL or values.dtype.kind != "f":
        return Axis(size, name=name)
    ensure_own_numbers(values)
    first, last = float(values[0]) * factor, float(values[size - 1]) * factor
    if not isfinite(first) or not isfinite(last) or first == last:
        return Axis(size, name=name)
    return Axis(size, tidy((last - first) / (size - 1)), tidy(first), unit, name)


def _signal(path: Path, acquisition: _Acquisition) -> Signal:
    settings = _settings(acquisition)
    facts = _facts(acquisition, settings)
    sizes = acquisition.sizes
    light = [label for label in ("T", "A", "C") if sizes.get(label, 1) > 1]
    is_series = acquisition.title == ANCHOR and light == ["T"]
    spatial = _spatial(acquisition, navigation=bool(light) and not is_series)
    if is_series:
        outer = {"T": Axis(sizes["T"], name="Frame", navigation=True)}
        kept = {**outer, "Y": spatial["Y"], "X": spatial["X"]}
    elif light:
        kept = {label: axis for label, axis in spatial.items() if axis.size > 1}
        kept |= {label: _light_axis(acquisition, label) for label in light}
        if list(kept) == ["T", "C"]:  # of one spot: a spectrum for each time
            kept["T"] = replace(kept["T"], navigation=True)
    else:
        depth = {"Z": Axis(sizes["Z"], name="z", navigation=True)} if sizes["Z"] > 1 else {}
        kept = {**depth, "Y": spatial["Y"], "X": spatial["X"]}
    axes = tuple(kept.values())
    facts.add_axes(axes)
    kind = _kind(acquisition, axes, light if not is_series else [])
    signal = Signal(*kind, shape=tuple(axis.size for axis in axes), name=acquisition.title)
    signal.acquired = _acquired(acquisition, facts)
    signal.native = bounded(_native(acquisition, settings))
    try:
        order = [acquisition.labels.index(label) for label in kept]
        signal.pixels = Pixels(_Slab(Numbers(path, acquisition.image), order), axes)
    except ExtractionError as fault:
        facts.warnings["Pixels"] = str(fault)
    return facts.give_to(signal)


class _Slab:
    """Some axes of an array in an order of their own; all others have but one element."""

    def __init__(self, array: Any, order: Sequence[int]) -> None:
        rest = [axis for axis in range(array.ndim) if axis not in order]
        self._all = reordered(array, [*rest, *order])
        self._rest = len(rest)
        self.shape = self._all.shape[self._rest :]
        self.ndim = len(self.shape)
        self.dtype = array.dtype
        self.chunks = self._all.chunks[self._rest :] if self._all.chunks else None

    def __getitem__(self, key: Any) -> Any:
        return self._all[(*(0,) * self._rest, *complete(key, self.ndim))]


def _kind(acquisition: _Acquisition, axes: tuple[Axis, ...], light: Sequence[str]) -> tuple[DatasetType, str]:
    if len(light) == 2:
        return "SpectrumImage", "SEM_CL"
    if light:
        return spectral_type(axes), "SEM_CL"
    return "Image", "SEM_CL" if acquisition.is_light else "SEM_Imaging"


def _acquired(acquisition: _Acquisition, facts: Facts) -> datetime | None:
    seconds = acquisition.number("ImageData/TOffset")
    try:
        return unix_time(seconds) if seconds > EARLIEST else None
    except ValueError as fault:
        facts.warnings["Creation Time"] = str(fault)
        return None


def _patterns(path: Path, exposures: list[_Acquisition], others: list[_Acquisition]) -> Signal:
    """Pictures of the mirror at all positions of the beam as one dataset.

    Those of another size than the first one are left out.
    """
    first = exposures[0]
    alike = [each for each in exposures if each.sizes == first.sizes]
    settings = _settings(first)
    facts = _facts(first, settings)
    if len(alike) < len(exposures):
        facts.warnings["Datasets"] = f"{len(exposures) - len(alike)} exposures of another size are left out."
    scan = _scan_of(alike, others)
    ordered = _in_rows(alike, scan) if len(scan) == 2 else alike
    rows, columns = first.sizes["Y"], first.sizes["X"]
    picture = (Axis(rows, name="Mirror y"), Axis(columns, name="Mirror x"))
    axes = (*scan, *picture)
    facts.add_axes(scan)
    signal = Signal("SpectrumImage", "SEM_CL", shape=tuple(axis.size for axis in axes), name=first.title)
    signal.acquired = _acquired(first, facts)
    signal.native = bounded(_native(first, settings))
    read = _Exposures(path, [each.image.name for each in ordered], first.image.ndim)
    signal.pixels = Pixels(Frames(tuple(axis.size for axis in scan), (rows, columns), first.image.dtype, read), axes)
    return facts.give_to(signal)


def _scan_of(exposures: list[_Acquisition], others: list[_Acquisition]) -> tuple[Axis, ...]:
    """Grid of the image taken along, if there is one exposure for each of its pixels; else a series."""
    for each in others:
        if each.title == CONCURRENT and each.sizes["Y"] * each.sizes["X"] == len(exposures):
            axes = _spatial(each, navigation=True)
            return axes["Y"], axes["X"]
    return (Axis(len(exposures), name="Position", navigation=True),) if len(exposures) > 1 else ()


def _in_rows(exposures: list[_Acquisition], scan: tuple[Axis, ...]) -> list[_Acquisition]:
    """Exposures from the top row down (where Y is largest), each row from left to right."""

    def place(each: _Acquisition) -> tuple[float, float]:
        across, up = (each.number(f"ImageData/{axis}Offset") * 1e9 for axis in "XY")
        return -round(up / scan[0].scale * 2), across

    return sorted(exposures, key=place)


class _Exposures:
    """Reads one exposure."""

    def __init__(self, path: Path, names: list[str], dimensions: int) -> None:
        self._path, self._names, self._outer = path, names, dimensions - 2

    def __call__(self, index: int) -> Any:
        with open_hdf5(self._path) as file:
            found = resolved(file, self._names[index])
            ensure_own_numbers(found)
            return found[(0,) * self._outer]


EXTRACTOR = Delmic()
