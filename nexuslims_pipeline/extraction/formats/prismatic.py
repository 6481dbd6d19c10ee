"""Simulations of Prismatic, ``.emd`` or ``.h5``: computed diffraction patterns and images of a scan.

==================================================================  ==========================================
place below ``/4DSTEM_simulation``                                  content
==================================================================  ==========================================
``data/datacubes/CBED_array_depth0000/datacube``                    patterns ``(R_x, R_y, Q_x, Q_y)``
``data/realslices/virtual_detector_depth0000/realslice``            ``(R_x, R_y, bins)`` of scattering angle
``data/realslices/annular_detector_depth0000/realslice``            image ``(R_x, R_y)``
``data/realslices/DPC_CoM_depth0000/realslice``                     ``(R_x, R_y, 2)`` centre of mass
``data/realslices/ppotential_fp0000/realslice``                     projected potential ``(R_x, R_y, slices)``
``metadata/metadata_0/original/simulation_parameters``              attributes, see `PARAMETERS`
==================================================================  ==========================================

Results of several thicknesses (``depth0001`` …) make one dataset. Lengths are in ångström and angles in radians,
though the axes say ``[n_m]`` and ``[mrad]``: the parameters, which are given in ångström and milliradians, tell.
https://prism-em.com/docs-params/
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded
from nexuslims_pipeline.extraction.layouts.emd import dimensions, reordered
from nexuslims_pipeline.extraction.layouts.hdf5 import (
    Numbers,
    complete,
    is_hdf5,
    mentions,
    open_hdf5,
    resolved,
    tree_of,
)
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.metadata.units import tidy
from nexuslims_pipeline.signals import Axis, DatasetType, Pixels, Signal, Source

ROOT: Final = "4DSTEM_simulation"
ARRAYS: Final = ("datacube", "realslice", "diffractionslice", "data")
MOST_DATASETS: Final = 1000
PARAMETERS: Final[dict[str, tuple[str, str | None]]] = {
    "E": ("acceleration_voltage", "kV"),
    "sa": ("convergence_angle", "mrad"),
    "df": ("defocus", "Å"),
    "C3": ("Spherical Aberration C3", "Å"),
    "C5": ("Spherical Aberration C5", "Å"),
    "A": ("Largest Simulated Angle", "mrad"),
    "tx": ("Probe Tilt X", "mrad"),
    "ty": ("Probe Tilt Y", "mrad"),
    "d": ("Detector Angle Step", "mrad"),
    "rx": ("Probe Step X", "Å"),
    "ry": ("Probe Step Y", "Å"),
    "px": ("Potential Pixel X", "Å"),
    "py": ("Potential Pixel Y", "Å"),
    "P": ("Potential Bound", "Å"),
    "s": ("Slice Thickness", "Å"),
    "ns": ("Slices per Output", None),
    "F": ("Frozen Phonons", None),
    "fx": ("Interpolation Factor X", None),
    "fy": ("Interpolation Factor Y", None),
}
"""Attributes of the parameters: name here and unit."""
ALGORITHMS: Final = {"p": "PRISM", "m": "multislice"}


class Prismatic(Extractor):
    """What Prismatic computed."""

    name: ClassVar[str] = "prismatic"
    format_name: ClassVar[str] = "Prismatic simulation"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".emd", ".h5", ".hdf5"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether it is HDF5 with the root of this format."""
        if not is_hdf5(head):
            return False
        try:
            with open_hdf5(source.path) as file:
                return resolved(file, f"{ROOT}/data") is not None
        except ExtractionError:
            return mentions(source, head, ROOT.encode())

    def extract(self, source: Source) -> list[Signal]:
        """Patterns first, then images.

        Raises
        ------
        ExtractionError
            If the file is damaged or holds no result.
        """
        with open_hdf5(source.path) as file:
            tree = tree_of(resolved(file, ROOT)).values
            parameters = _parameters(tree)
            signals = [
                signal
                for kind in ("datacubes", "diffractionslices", "realslices")
                for name, groups in _series(resolved(file, f"{ROOT}/data/{kind}")).items()
                if (signal := _signal(source, name, groups, parameters)) is not None
            ]
        if not signals:
            msg = "it holds no result of a simulation: it is cut off, or the run was stopped"
            raise ExtractionError(msg)
        for signal in signals:
            signal.native = bounded(tree)
        return signals


def _parameters(tree: Mapping[str, Any]) -> dict[str, Any]:
    found: Any = tree
    for name in ("metadata", "metadata_0", "original", "simulation_parameters"):
        found = found.get(name) if isinstance(found, Mapping) else None
    return {name.lstrip("@"): value for name, value in found.items()} if isinstance(found, Mapping) else {}


class Thicknesses:
    """Equal arrays of several thicknesses as one, along its first axis."""

    def __init__(self, arrays: Sequence[Any]) -> None:
        self.shape = (len(arrays), *arrays[0].shape)
        self.ndim = len(self.shape)
        self.dtype = arrays[0].dtype
        self.chunks = (1, *(arrays[0].chunks or arrays[0].shape))
        self._arrays = arrays

    def __getitem__(self, key: Any) -> Any:
        import numpy as np

        first, *rest = complete(key, self.ndim)
        chosen = np.arange(len(self._arrays))[first]
        found = [self._arrays[int(n)][tuple(rest)] for n in chosen.reshape(-1)]
        return found[0] if chosen.ndim == 0 else np.stack(found)


def _series(group: Any) -> dict[str, list[Any]]:
    """Groups by their name without the number of the thickness."""
    series: dict[str, list[Any]] = {}
    for name in list(group if hasattr(group, "keys") else ())[:MOST_DATASETS]:
        found = resolved(group, name)
        if hasattr(found, "keys"):
            series.setdefault(re.sub(r"_depth\d+$", "", name), []).append(found)
    return series


def _array(group: Any) -> Any:
    found = (resolved(group, name) for name in ARRAYS)
    return next((each for each in found if getattr(each, "shape", None) and each.dtype.kind in "fiuc"), None)


def _signal(source: Source, name: str, groups: Sequence[Any], parameters: Mapping[str, Any]) -> Signal | None:
    arrays = [each for each in map(_array, groups) if each is not None]
    if not arrays or any(each.shape != arrays[0].shape for each in arrays):
        return None
    facts = Facts()
    _add_parameters(facts, parameters)
    stored = [_true_axis(axis, parameters, facts) for axis in dimensions(groups[0], arrays[0])]
    is_cube = arrays[0].ndim == 4
    order = tuple(range(4)) if is_cube else tuple(range(arrays[0].ndim))[::-1]
    inner = 2 if len(stored) > 1 else 1
    axes = tuple(replace(stored[index], navigation=place < len(order) - inner) for place, index in enumerate(order))
    found = [reordered(Numbers(source.path, each), order) for each in arrays]
    pixels: Any = found[0]
    if len(found) > 1:
        pixels = Thicknesses(found)
        axes = (_depth_axis(len(found), parameters), *axes)
    facts.add_axes(axes)
    signal = Signal(
        *_kind(name, is_cube=is_cube, dimensions=arrays[0].ndim),
        shape=tuple(axis.size for axis in axes),
        name=name,
        pixels=Pixels(pixels, axes),
    )
    return facts.give_to(signal)


def _kind(name: str, *, is_cube: bool, dimensions: int) -> tuple[DatasetType, str]:
    if is_cube:
        return "Diffraction", "STEM_Diffraction"
    if dimensions == 2 and "potential" not in name:
        return "Image", "STEM_Imaging"
    return "Misc", "Unknown"


def _depth_axis(size: int, parameters: Mapping[str, Any]) -> Axis:
    """Axis of thicknesses: so many slices lie between two results."""
    step = tidy(_number(parameters, "s") * (_number(parameters, "ns") or 1.0))
    if step <= 0:
        return Axis(size, name="Thickness", navigation=True)
    return Axis(size, step, _number(parameters, "zs") or step, "Å", "Thickness", navigation=True)


def _true_axis(axis: Axis, parameters: Mapping[str, Any], facts: Facts) -> Axis:
    """Axis with the unit that the parameters prove."""
    if axis.units in ("nm", "1/nm") and _number(parameters, "rx"):
        is_step = axis.units == "nm" and _agree(axis.scale, _number(parameters, "rx"), _number(parameters, "ry"))
        if is_step or axis.units == "1/nm":
            facts.warnings["Axis Units"] = "The file says nm for lengths that its parameters give in ångström."
            return replace(axis, units=axis.units.replace("nm", "Å"))
    if axis.units == "mrad" and _agree(axis.scale * 1e3, _number(parameters, "d")):
        facts.warnings["Angles"] = "The file says mrad for angles that are in rad, as its parameters show."
        return replace(axis, scale=float(f"{axis.scale * 1e3:.6g}"), offset=float(f"{axis.offset * 1e3:.6g}"))
    return axis


def _agree(value: float, *told: float) -> bool:
    return any(each and abs(value / each - 1) < 1e-3 for each in told)


def _number(parameters: Mapping[str, Any], name: str) -> float:
    value = parameters.get(name)
    return float(value) if isinstance(value, int | float) and isfinite(value) else 0.0


def _add_parameters(facts: Facts, parameters: Mapping[str, Any]) -> None:
    facts.add("software", "Prismatic")
    facts.add("Origin", "simulation")
    facts.add("Algorithm", ALGORITHMS.get(str(parameters.get("a"))))
    for key, (name, unit) in PARAMETERS.items():
        value = parameters.get(key)
        facts.add(name, value if isinstance(value, int | float) else None, unit)
    for key, name, unit in (("c", "Cell", "Å"), ("t", "Tiling", "")):
        sides = parameters.get(key)
        if isinstance(sides, list):
            facts.add(name, f"{' × '.join(map(str, sides))} {unit}".strip())


EXTRACTOR = Prismatic()
