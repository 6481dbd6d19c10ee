"""py4DSTEM ``.h5`` and other files of EMD version 1: 4D-STEM scans and what was computed of them.

===========================================  ================================================================
version                                      layout
===========================================  ================================================================
EMD 1 (py4DSTEM from 0.14 on, emdfile)       ``/@emd_group_type`` = ``file``; groups with ``root``, in them
                                             groups with ``array``, ``pointlist`` …, each with the attribute
                                             ``python_class`` and a ``metadatabundle`` of small datasets
py4DSTEM 0.13                                the same with numbers for ``emd_group_type``, root ``4DSTEM``
py4DSTEM before                              ``4DSTEM_experiment/data/datacubes/<name>/data`` and
                                             ``…/metadata/metadata_0/microscope`` …
===========================================  ================================================================

An array is ``(R_y or R_x, …, Q…)`` as its axes ``dim0`` … (before version 1 ``dim1`` …) say; it is given as it lies.
https://github.com/py4dstem/emdfile
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded
from nexuslims_pipeline.extraction.layouts.emd import (
    add_microscope,
    attribute,
    dimensions,
    is_energy_axis,
    is_pattern_axis,
    unit_of,
)
from nexuslims_pipeline.extraction.layouts.hdf5 import (
    MAX_DEPTH,
    Numbers,
    is_hdf5,
    mentions,
    open_hdf5,
    resolved,
    tree_of,
)
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.metadata.units import tidy
from nexuslims_pipeline.signals import Axis, DatasetType, Pixels, Signal, Source

ROOTS: Final = ("4DSTEM_experiment", "4DSTEM")
ARRAYS: Final = ("data", "datacube", "realslice", "diffractionslice")
MOST_GROUPS: Final = 2000
MOST_SIGNALS: Final = 50
IMAGES: Final = frozenset({"VirtualImage", "RealSlice"})
PATTERNS: Final = frozenset({"VirtualDiffraction", "DiffractionSlice", "Probe", "BraggVectorMap"})
METADATA_GROUPS: Final = ("microscope", "metadatabundle", "calibration", "sample", "user")


class Py4dstem(Extractor):
    """Scans of diffraction patterns, with virtual images and mean patterns."""

    name: ClassVar[str] = "py4dstem"
    format_name: ClassVar[str] = "py4DSTEM (EMD 1)"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".h5", ".hdf5", ".emd"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether it is HDF5 that calls itself a file of EMD 1, or has py4DSTEM's root."""
        if not is_hdf5(head):
            return False
        try:
            with open_hdf5(source.path) as file:
                if str(attribute(file, "emd_group_type")) == "file" and str(attribute(file, "version_major")) == "1":
                    return True
                return any(hasattr(resolved(file, name), "keys") for name in ROOTS)
        except ExtractionError:
            is_named = any(mentions(source, head, name.encode()) for name in ROOTS)
            is_computed = mentions(source, head, b"4DSTEM_simulation")
            return (is_named and not is_computed) or mentions(source, head, b"emd_group_type", b"authoring_program")

    def extract(self, source: Source) -> list[Signal]:
        """Scans of patterns first, then patterns and images; tables of peaks are named with the first of them.

        Raises
        ------
        ExtractionError
            If the file is damaged or holds no array.
        """
        with open_hdf5(source.path) as file:
            groups = list(_groups(file))
            found = [(group, data) for group in groups if (data := _array(group)) is not None]
            tree = tree_of(file).values
            shared = _shared_facts(file, groups)
            signals = [_signal(source, group, data, shared) for group, data in found[:MOST_SIGNALS]]
            tables = [group.name.rpartition("/")[2] for group in groups if "pointlist" in _type_of(group)]
        if not signals:
            msg = "it holds no array: it is cut off, or a file of peaks without their patterns"
            raise ExtractionError(msg)
        signals.sort(key=lambda signal: -len(signal.shape))
        signals[0].native = bounded(tree)
        if tables:
            signals[0].extensions["Tables of Peaks"] = tables[:MOST_SIGNALS]
        if len(found) > MOST_SIGNALS:
            signals[0].warnings["Datasets"] = f"Of {len(found)} arrays the first {MOST_SIGNALS} are given."
        return signals


def _groups(file: Any) -> Iterator[Any]:
    """Every group but those of metadata; each once, also where hard links make a ring."""
    import h5py

    waiting = [(file, 0)]
    seen: set[int] = set()
    while waiting and len(seen) < MOST_GROUPS:
        group, depth = waiting.pop(0)
        for name in group if depth < MAX_DEPTH else ():
            found = resolved(group, name) if name not in METADATA_GROUPS else None
            if not isinstance(found, h5py.Group):
                continue
            address = h5py.h5o.get_info(found.id).addr
            if address not in seen:
                seen.add(address)
                yield found
                waiting.append((found, depth + 1))


def _type_of(group: Any) -> str:
    """``array``, ``pointlist`` …; the numbers of older versions are turned into these words."""
    told = str(attribute(group, "emd_group_type"))
    return {"1": "array", "2": "pointlist", "3": "pointlistarray"}.get(told, told)


def _array(group: Any) -> Any:
    """Numbers of a group that is an array."""
    if _type_of(group) != "array" and not group.name.startswith(f"/{ROOTS[0]}/data/"):
        return None
    found = (resolved(group, name) for name in ARRAYS)
    return next((each for each in found if getattr(each, "shape", None) and each.dtype.kind in "biufc"), None)


def _shared_facts(file: Any, groups: list[Any]) -> Facts:
    """What the file says of the microscope, and of py4DSTEM."""
    facts = Facts()
    program = str(attribute(file, "authoring_program"))
    facts.add("software", program or "py4DSTEM")
    for group in [file, *groups]:
        for place in ("metadatabundle/microscope", "metadatabundle/calibration", "microscope", "calibration"):
            found = resolved(group, place)
            if hasattr(found, "keys"):
                values = {name.lstrip("@"): value for name, value in tree_of(found, limit=500).values.items()}
                _add_calibration(facts, values)
                if place.endswith("microscope"):
                    add_microscope(facts, {name: value for name, value in values.items() if "emd_" not in name})
    return facts


def _add_calibration(facts: Facts, values: Mapping[str, Any]) -> None:
    for name, field, unit in (
        ("convergence_semiangle_mrad", "convergence_angle", "mrad"),
        ("QR_rotation_degrees", "Rotation of Pattern to Scan", "deg"),
        ("probe_semiangle", "Radius of Central Disk in Pixels", None),
    ):
        value = values.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            facts.add(field, value, unit)


def _signal(source: Source, group: Any, data: Any, shared: Facts) -> Signal:
    facts = Facts()
    facts.fields, facts.extensions, facts.warnings = (
        dict(each) for each in (shared.fields, shared.extensions, shared.warnings)
    )
    made_by = str(attribute(group, "python_class"))
    axes = _axes(group, data)
    kind = _kind(axes, made_by)
    facts.add("Made As", made_by)
    facts.add_axes(axes)
    signal = Signal(*kind, shape=tuple(map(int, data.shape)), name=group.name.rpartition("/")[2])
    try:
        signal.pixels = Pixels(Numbers(source.path, data), axes)
    except ExtractionError as fault:
        facts.warnings["Pixels"] = str(fault)
    return facts.give_to(signal)


def _axes(group: Any, data: Any) -> tuple[Axis, ...]:
    """Axes, the scan first; those without a unit take the calibration's pixel sizes."""
    axes = dimensions(group, data)
    inner = 1 if is_energy_axis(axes[-1]) or len(axes) == 1 else 2
    axes = [replace(axis, navigation=place < len(axes) - inner) for place, axis in enumerate(axes)]
    if len(axes) != 4 or any(axis.units for axis in axes):
        return tuple(axes)
    sizes = _pixel_sizes(group)
    return tuple(replace(axis, **sizes[place >= 2]) for place, axis in enumerate(axes))


def _pixel_sizes(group: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Scale and units of scan and pattern in the calibration of a scan of patterns."""
    found = resolved(group, "metadatabundle/calibration") or resolved(group.parent, "metadatabundle/calibration")
    values = tree_of(found, limit=500).values if hasattr(found, "keys") else {}
    sizes: list[dict[str, Any]] = []
    for side in ("R", "Q"):
        step = values.get(f"{side}_pixel_size", values.get(f"@{side}_pixel_size"))
        units = unit_of(values.get(f"{side}_pixel_units", values.get(f"@{side}_pixel_units")))
        known = isinstance(step, int | float) and step > 0 and units
        sizes.append({"scale": tidy(float(step)), "units": units} if known else {})  # type: ignore[arg-type]
    return sizes[0], sizes[1]


def _kind(axes: tuple[Axis, ...], made_by: str) -> tuple[DatasetType, str]:
    inner = [axis for axis in axes if not axis.navigation]
    scan = len(axes) - len(inner)
    if len(inner) == 1:
        energies = is_energy_axis(inner[0])
        return ("SpectrumImage", "STEM_EELS") if scan and energies else ("Spectrum", "Unknown")
    if made_by == "DataCube" or len(axes) == 4:
        return "Diffraction", "STEM_Diffraction"
    if made_by in PATTERNS or (made_by not in IMAGES and all(map(is_pattern_axis, inner))):
        return "Diffraction", "TEM_Diffraction"
    return "Image", "STEM_Imaging"


EXTRACTOR = Py4dstem()
"""``accepts`` of `ncem_emd` leaves these files out."""
