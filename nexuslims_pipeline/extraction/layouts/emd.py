"""What the "EMD" files of several laboratories have in common: arrays with one dataset per axis, and free metadata.

A group with an array ``data`` has datasets ``dim1``, ``dim2`` … (from version 1 on ``dim0`` …), one for each axis:
all its coordinates or only the first two, with the attributes ``name`` and ``units``. Units are written as
``[n_m]``, ``[n_m^-1]``, ``A^-1``. https://emdatasets.com/format/ and https://github.com/py4dstem/emdfile
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from nexuslims_pipeline.extraction.facts import ELECTRONVOLTS, METRES, Facts, is_reciprocal
from nexuslims_pipeline.extraction.layouts.hdf5 import complete, ensure_own_numbers, plain_value, resolved
from nexuslims_pipeline.extraction.model import ExtractionError
from nexuslims_pipeline.extraction.vendor_text import measured
from nexuslims_pipeline.metadata.units import tidy
from nexuslims_pipeline.signals import Axis, DatasetType

LONGEST_AXIS: Final = 1 << 20
"""Coordinates of one axis that are read."""
UNIT_WORDS: Final = {"A": "Å", "Ang": "Å", "Angstrom": "Å", "angstrom": "Å", "um": "µm", "μm": "µm", "pixels": "",
                     "pixel": "", "px": "", "None": "", "intensity": ""}  # fmt: skip
PATTERN_AXES: Final = re.compile(r"(q|k|u|v)_?[xy12]?|angle|detector.*", re.IGNORECASE)
"""Names of the axes of a diffraction pattern."""
NAMES: Final[dict[str, tuple[str, str]]] = {
    "accelerating voltage": ("acceleration_voltage", "V"),
    "acceleration voltage": ("acceleration_voltage", "V"),
    "high tension": ("acceleration_voltage", "V"),
    "voltage": ("acceleration_voltage", "V"),
    "beam energy": ("acceleration_voltage", "V"),
    "camera length": ("camera_length", "m"),
    "cameralength": ("camera_length", "m"),
    "convergence angle": ("convergence_angle", "rad"),
    "convergence semiangle mrad": ("convergence_angle", "mrad"),
    "semiconvergence angle": ("convergence_angle", "rad"),
    "defocus": ("defocus", "m"),
    "dwell time": ("dwell_time", "s"),
    "exposure time": ("exposure_time", "s"),
    "magnification": ("magnification", ""),
    "spot size": ("spot_size", ""),
    "probe current": ("probe_current", "A"),
    "beam current": ("beam_current", "A"),
    "emission current": ("emission_current", "A"),
    "extraction voltage": ("extraction_voltage", "V"),
    "scan rotation degrees": ("scan_rotation", "deg"),
    "scan rotation": ("scan_rotation", "deg"),
    "stage alpha": ("stage_alpha", "deg"),
    "stage beta": ("stage_beta", "deg"),
    "working distance": ("working_distance", "m"),
    "binning": ("binning", "text"),
    "detector": ("detector_type", "text"),
    "name": ("microscope", "text"),
    "microscope": ("microscope", "text"),
    "microscope name": ("microscope", "text"),
}
"""Names of values that people give to the group ``microscope``: the field and the unit of a number without one."""
LEAST_VOLTAGE: Final = 1000.0
"""Volts below which a microscope's voltage must be in kilovolts."""
MOST: Final = {("convergence_angle", "rad"): (1.0, "mrad"), ("camera_length", "m"): (30.0, "mm")}
"""What no microscope goes beyond in the unit that is supposed, and the unit that must be meant then."""


class Reordered:
    """An array whose axes are seen in another order; read only as far as it is sliced."""

    def __init__(self, array: Any, order: Sequence[int]) -> None:
        self.shape = tuple(array.shape[axis] for axis in order)
        self.ndim = len(self.shape)
        self.dtype = array.dtype
        chunks = getattr(array, "chunks", None)
        self.chunks = tuple(chunks[axis] for axis in order) if chunks else None
        self._array = array
        self._order = tuple(order)

    def __getitem__(self, key: Any) -> Any:
        import numpy as np

        parts = dict(zip(self._order, complete(key, self.ndim), strict=True))
        found = np.asarray(self._array[tuple(parts[axis] for axis in range(self.ndim))])
        kept = [axis for axis in range(self.ndim) if isinstance(parts[axis], slice)]
        return found.transpose([kept.index(axis) for axis in self._order if axis in kept])


def reordered(array: Any, order: Sequence[int]) -> Any:
    """`array` itself when the order is its own."""
    return array if tuple(order) == tuple(range(array.ndim)) else Reordered(array, order)


def unit_of(written: Any) -> str:
    """Unit as axes have it: ``nm`` of ``[n_m]``, ``1/Å`` of ``A^-1``; empty for pixels."""
    text = str(written or "").strip().strip("[]").replace(" ", "")
    text = re.sub(r"(?<![A-Za-z])([A-Za-zµ])_(?=[A-Za-z])", r"\1", text)
    inverse = text.startswith("1/") or text.endswith(("^-1", "⁻¹"))
    text = re.sub(r"^1/|(\^-1|⁻¹)$", "", text)
    text = UNIT_WORDS.get(text, text)
    return f"1/{text}" if inverse and text else text


def axis_of(dataset: Any, size: int) -> Axis:
    """Axis of `size` as its dataset of coordinates says; uncalibrated where that says nothing sensible."""
    import numpy as np

    if dataset is None or getattr(dataset, "shape", None) is None:
        return Axis(size)
    name = str(attribute(dataset, "name"))
    units = unit_of(attribute(dataset, "units"))
    try:
        ensure_own_numbers(dataset)
        values = dataset[:2] if dataset.ndim == 1 and 2 <= dataset.size <= LONGEST_AXIS else np.empty(0)
        last = dataset[-1] if dataset.ndim == 1 and dataset.size == size > 2 else None
    except (ExtractionError, OSError, ValueError):
        return Axis(size, name=name)
    if values.dtype.kind not in "iuf" or values.size < 2 or not np.isfinite(values.astype(float)).all():
        return Axis(size, name=name, units=units if units not in METRES else "")
    start = plain_value(values[:1])
    step = float(values[1]) - float(values[0])
    if last is not None and np.isfinite(float(last)):
        step = (float(last) - float(values[0])) / (size - 1)
    if step == 0:
        return Axis(size, name=name)
    return Axis(size, float(f"{step:.7g}") if values.dtype.itemsize < 8 else tidy(step), float(start), units, name)


def attribute(owner: Any, name: str) -> Any:
    """Attribute of a group or dataset as plain Python; empty when there is none, or it cannot be read."""
    try:
        return plain_value(owner.attrs[name]) if name in owner.attrs else ""
    except (OSError, TypeError, ValueError, KeyError, RuntimeError):
        return ""


def dimensions(group: Any, array: Any) -> list[Axis]:
    """Axes of the array of a group, in the order of the array."""
    first = 0 if "dim0" in group else 1
    found = [resolved(group, f"dim{number + first}") for number in range(array.ndim)]
    return [axis_of(each, int(size)) for each, size in zip(found, array.shape, strict=True)]


def is_pattern_axis(axis: Axis) -> bool:
    """Whether it lies in reciprocal space, by its unit or its name."""
    return is_reciprocal(axis.units) or bool(PATTERN_AXES.fullmatch(axis.name))


def is_energy_axis(axis: Axis) -> bool:
    """Whether it is one of energies, by its unit or its name."""
    return axis.units in ELECTRONVOLTS or "energy" in axis.name.lower()


def arrangement(axes: Sequence[Axis]) -> tuple[int, ...]:
    """Order in which the axes of an array are seen: scan before signal, rows before columns.

    Without names that say otherwise the last axis of the array is the first one: so HyperSpy and the group who
    made the format write their images.
    """
    names = [axis.name.lower().rpartition("_")[2] for axis in axes]
    forward = "x" in names and "y" in names and names.index("y") < names.index("x")
    order = list(range(len(axes))) if forward else list(range(len(axes)))[::-1]
    energies = [index for index in order if is_energy_axis(axes[index])]
    patterns = [index for index in order if is_pattern_axis(axes[index])]
    signal = energies[:1] or (patterns if len(patterns) == 2 else [])
    return (*(index for index in order if index not in signal), *signal)


def with_navigation(axes: Iterable[Axis]) -> tuple[Axis, ...]:
    """Axes with those of the scan marked: all but an energy axis, or but the last two."""
    axes = tuple(axes)
    inner = 1 if axes and is_energy_axis(axes[-1]) else min(len(axes), 2)
    return tuple(
        Axis(axis.size, axis.scale, axis.offset, axis.units, axis.name, place < len(axes) - inner)
        for place, axis in enumerate(axes)
    )


def kind_of(axes: Sequence[Axis], *, is_number: bool) -> tuple[DatasetType, str]:
    """Dataset type and technique by the axes alone."""
    if not is_number or not axes:
        return "Misc", "Unknown"
    scan = [axis for axis in axes if axis.navigation]
    if len(axes) - len(scan) == 1:
        positions = 1
        for axis in scan:
            positions *= axis.size
        return ("SpectrumImage" if positions >= 3 else "Spectrum"), "Unknown"
    if all(is_pattern_axis(axis) for axis in axes if not axis.navigation):
        return "Diffraction", "STEM_Diffraction" if len(scan) >= 2 else "TEM_Diffraction"
    return ("Image", "Unknown") if len(scan) < 2 else ("Misc", "Unknown")


def add_microscope(facts: Facts, values: Mapping[str, Any]) -> None:
    """Values of a group ``microscope``: those with a known name as fields, any other as extensions.

    The unit is that in the text, else that of an entry ``<name>_units``, else that of `NAMES`.
    """
    for name, value in values.items():
        plain = re.sub(r"[_\s]+", " ", name.lstrip("@")).strip()
        bare, _, bracket = plain.partition(" [")
        if plain.lower().endswith(" units") or isinstance(value, Mapping) or "@" in name[1:]:
            continue
        field, default = NAMES.get(bare.lower(), ("", ""))
        unit = bracket.rstrip("]") or str(values.get(f"{name}_units", values.get(f"{name} units", "")) or "")
        if not field:
            facts.add(
                bare.title() if bare.islower() else bare, value if isinstance(value, str | int | float) else str(value)
            )
        elif default == "text":
            facts.add(field, str(value))
        else:
            _add_number(facts, field, value, unit, default)


def _add_number(facts: Facts, field: str, value: Any, unit: str, default: str) -> None:
    text = f"{value} {unit.strip()}".strip() if unit.strip() not in ("", "None", "X") else str(value)
    try:
        number, written = measured(text)
    except ValueError as fault:
        facts.warnings[field] = str(fault)
        return
    if field == "acceleration_voltage":
        written = written.replace("eV", "V") if written else "kV" if 0 < abs(number) < LEAST_VOLTAGE else None
    largest, meant = MOST.get((field, default), (float("inf"), default))
    unit = written if written is not None else meant if abs(number) > largest else default
    if number or field not in ("acceleration_voltage", "camera_length", "magnification"):
        facts.add(field, number, unit or None)
