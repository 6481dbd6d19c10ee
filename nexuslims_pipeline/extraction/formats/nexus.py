"""NeXus: HDF5 whose groups say by ``NX_class`` what they are (https://www.nexusformat.org).

What there is to see lies in groups of the class ``NXdata``: the dataset that its attribute ``signal`` names (in old
files the one with the attribute ``signal=1``), its axes in ``axes``, and ``interpretation`` = ``spectrum`` or ``image``
for what one point of a scan is. What was measured, and with what, lies in ``NXinstrument``, ``NXdetector``,
``NXsource``, ``NXsample`` and ``NXuser``; every value has its unit as the attribute ``units``. Electron microscopes'
files follow ``NXem``, whose images and spectra are ``NXimage`` and ``NXspectrum`` with an ``NXdata`` in each.

Many of these files come from synchrotrons and say nothing of the technique: then the dataset is `Misc`, unless a scan
has a spectrum at each of its points.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import (
    ELECTRONVOLTS,
    METRES,
    Facts,
    bounded,
    is_reciprocal,
    spectral_type,
)
from nexuslims_pipeline.extraction.layouts.ebsd import branch, numbers_of
from nexuslims_pipeline.extraction.layouts.hdf5 import (
    Numbers,
    Tree,
    is_cut_off,
    is_hdf5,
    open_hdf5,
    plain_value,
    resolved,
    tree_of,
)
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import moment
from nexuslims_pipeline.signals import Axis, DatasetType, Pixels, Signal, Source

MOST_SIGNALS: Final = 64
ROOT_NAMES: Final = 64
MOST_FURTHER: Final = 40
"""Arrays outside of NXdata that are listed."""
CLASS: Final = "@NX_class"
VALUES: Final = {
    ("NXsource", "voltage"): ("acceleration_voltage", "V"),
    ("NXsource", "emission_current"): ("emission_current", "A"),
    ("NXsource", "name"): ("Source", None),
    ("NXsource", "probe"): ("Probe", None),
    ("NXebeam_column", "voltage"): ("acceleration_voltage", "V"),
    ("NXem_optical_system", "magnification"): ("magnification", None),
    ("NXem_optical_system", "camera_length"): ("camera_length", "m"),
    ("NXem_optical_system", "working_distance"): ("working_distance", "m"),
    ("NXem_optical_system", "beam_current"): ("beam_current", "A"),
    ("NXem_optical_system", "defocus"): ("defocus", "m"),
    ("NXem_optical_system", "semi_convergence_angle"): ("convergence_angle", "rad"),
    ("NXem_optical_system", "field_of_view"): ("horizontal_field_width", "m"),
    ("NXinstrument", "name"): ("microscope", None),
    ("NXinstrument", "model"): ("microscope", None),
    ("NXfabrication", "vendor"): ("Manufacturer", None),
    ("NXfabrication", "model"): ("Model", None),
    ("NXfabrication", "serial_number"): ("Serial Number", None),
    ("NXdetector", "description"): ("acquisition_device", None),
    ("NXdetector", "local_name"): ("detector_type", None),
    ("NXdetector", "count_time"): ("exposure_time", "s"),
    ("NXdetector", "frame_time"): ("frame_time", "s"),
    ("NXdetector", "distance"): ("camera_length", "m"),
    ("NXdetector", "type"): ("Detector Kind", None),
    ("NXmonochromator", "energy"): ("Photon Energy", "eV"),
    ("NXbeam", "incident_energy"): ("Photon Energy", "eV"),
    ("NXsample", "name"): ("specimen", None),
    ("NXsample", "description"): ("Specimen Description", None),
    ("NXsample", "chemical_formula"): ("Chemical Formula", None),
    ("NXsample", "temperature"): ("temperature", "K"),
    ("NXuser", "name"): ("operator", None),
    ("NXentry", "title"): ("Title", None),
    ("NXentry", "definition"): ("Definition", None),
    ("NXentry", "experiment_identifier"): ("Experiment", None),
    ("NXentry", "program_name"): ("software", None),
    ("NXentry", "duration"): ("Duration", "s"),
    ("NXentry", "collection_time"): ("Collection Time", "s"),
}
"""Values by the class of their group and their name, with the unit that NeXus's definitions suggest."""
NEVER_ZERO: Final = frozenset({"acceleration_voltage", "magnification", "camera_length", "working_distance"})
EMPTY: Final = frozenset({"No description provided.", "Unnamed Sample", "unknown", "None"})
"""What acquisition programmes write where nobody entered anything."""
UNITS: Final = {"microns": "µm", "micron": "µm", "um": "µm", "angstroms": "Å", "Angstrom": "Å", "A": "Å",
                "degrees": "deg", "": ""}  # fmt: skip
DIFFRACTION: Final = ("NXmx", "NXsas", "NXcansas", "NXlauetof", "NXxrd")
"""Definitions of files of diffraction patterns."""


class Nexus(Extractor):
    """Data in NeXus's arrangement, of whatever instrument."""

    name: ClassVar[str] = "nexus"
    format_name: ClassVar[str] = "NeXus"
    version: ClassVar[str] = "1"
    rank: ClassVar[int] = 5
    extensions: ClassVar[frozenset[str]] = frozenset({".nxs", ".nx5", ".nexus", ".h5", ".hdf5", ".hdf", ".nx"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether a group at the root of an HDF5 file is an ``NXentry`` or ``NXroot``."""
        if not is_hdf5(head):
            return False
        try:
            with open_hdf5(source.path) as file:
                if plain_value(file.attrs.get("NX_class")) == "NXroot":
                    return True
                found = (resolved(file, name) for name in islice(file, ROOT_NAMES))
                return any(
                    plain_value(each.attrs.get("NX_class")) == "NXentry" for each in found if hasattr(each, "keys")
                )
        except ExtractionError:
            return is_cut_off(source, head, {".nxs", ".nx5", ".nexus"})

    def extract(self, source: Source) -> list[Signal]:
        """A signal for each ``NXdata``, that of the file's ``default`` first.

        Raises
        ------
        ExtractionError
            If the file is damaged.
        """
        with open_hdf5(source.path) as file:
            tree = tree_of(file)
            plots = list(_plots(tree.values))
            signals = [_Reading(source.path, file, tree, path).signal() for path in plots[:MOST_SIGNALS]]
        if not signals:
            signals = [_without_plots(tree)]
        if len(plots) > MOST_SIGNALS:
            signals[0].warnings["Datasets"] = f"Of {len(plots)} datasets the first {MOST_SIGNALS} are read."
        return signals


def _plots(values: dict[str, Any]) -> Iterator[str]:
    """Paths of the groups to show: the default one first, then as they stand in the file."""
    paths = [path for path, group in _groups(values) if group.get(CLASS) == "NXdata"]
    place, default = "", values
    for _ in range(len(values) + 8):
        name = default.get("@default")
        if not isinstance(name, str) or not isinstance(default.get(name), dict):
            break
        place, default = f"{place}/{name}".lstrip("/"), default[name]
    yield from sorted(paths, key=lambda path: path != place)


def _groups(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, value in values.items():
        if isinstance(value, dict):
            path = f"{above}/{name}".lstrip("/")
            yield path, value
            yield from _groups(value, path)


def _without_plots(tree: Tree) -> Signal:
    """A file that shows nothing: its metadata only."""
    facts = Facts()
    _add_values(facts, tree.values)
    facts.add("Further Arrays", _further(tree))
    signal = Signal("Misc", "Unknown", native=bounded(tree.values), acquired=_acquired(tree.values, "", facts))
    return facts.give_to(signal)


@dataclass(frozen=True, slots=True)
class _Reading:
    """One ``NXdata`` being read."""

    path: Path
    file: Any
    tree: Tree
    place: str

    def signal(self) -> Signal:
        group = branch(self.tree.values, *self.place.split("/"))
        entry = self.place.split("/")[0]
        facts = Facts()
        _add_values(facts, {entry: branch(self.tree.values, entry)})
        facts.add("Further Arrays", _further(self.tree))
        names = [name for name in (entry, self.place.rpartition("/")[2]) if name]
        title = str(group.get("title") or names[-1])
        signal = Signal("Misc", "Unknown", name=title, native=bounded(self.tree.values))
        signal.acquired = _acquired(self.tree.values, entry, facts)
        dataset = self._dataset(group, facts)
        if dataset is None:
            return facts.give_to(signal)
        signal.shape = tuple(int(size) for size in dataset.shape)
        axes = self._axes(group, signal.shape, dataset)
        signal.dataset_type = self._type(group, axes, entry)
        signal.data_type = _technique(signal.dataset_type, facts)
        facts.add_axes(axes)
        try:
            if dataset.dtype.kind in "biufc" and axes:
                signal.pixels = Pixels(Numbers(self.path, dataset), axes)
        except ExtractionError as fault:
            facts.warnings["Pixels"] = f"The numbers are not read: {fault}."
        return facts.give_to(signal)

    def _dataset(self, group: dict[str, Any], facts: Facts) -> Any:
        """What the group shows; None, with a warning, where that lies in another file or is not there."""
        name = group.get("@signal")
        if not isinstance(name, str):
            marked = [key.removesuffix("@signal") for key in group if key.endswith("@signal") and key != "@signal"]
            others = [key for key in group if "@" not in key and not isinstance(group[key], dict)]
            name = next(iter(marked), "data" if "data" in group else others[0] if len(others) == 1 else "")
        found = resolved(self.file, f"{self.place}/{name}") if name else None
        if found is None or not hasattr(found, "dtype") or found.shape is None:
            words = str(group.get(name, "")) if "another file" in str(group.get(name, "")) else "it is not in the file"
            facts.warnings["Pixels"] = f"What {self.place} shows is not read: {words[:200]}."
            return None
        return found

    def _axes(self, group: dict[str, Any], shape: tuple[int, ...], dataset: Any) -> tuple[Axis, ...]:
        count = len(shape)
        told = group.get("@axes", plain_value(dataset.attrs.get("axes")))
        names = [part.strip() for part in told.split(":")] if isinstance(told, str) else told
        names = [str(name) for name in names] if isinstance(names, list) else []
        names = names if len(names) == count else [*names, *["."] * (count - len(names))][:count]
        inner = self._inner(group, count, dataset)
        return tuple(
            self._axis("" if name == "." else name, size, navigation=place < count - inner)
            for place, (name, size) in enumerate(zip(names, shape, strict=True))
        )

    def _axis(self, name: str, size: int, *, navigation: bool) -> Axis:
        """Axis whose places stand in the dataset `name`, if they are evenly spaced."""
        import numpy as np

        found: Any = resolved(self.file, f"{self.place}/{name}") if name else None
        if getattr(found, "shape", None) != (size,) or size < 2 or found.dtype.kind not in "iuf" or size > 1 << 20:
            return Axis(size, name=name, navigation=navigation)
        units = str(plain_value(found.attrs.get("units")) or "")
        try:
            places = np.asarray(found[()], np.float64)
        except (OSError, RuntimeError):
            return Axis(size, name=name, navigation=navigation)
        steps = np.diff(places)
        scale = float(steps.mean())
        even = bool(np.isfinite(places).all()) and scale != 0 and bool((np.abs(steps - scale) <= abs(scale) / 10).all())
        if not even:
            return Axis(size, name=name, navigation=navigation)
        return Axis(size, float(f"{scale:.9g}"), float(places[0]), UNITS.get(units, units), name, navigation)

    def _inner(self, group: dict[str, Any], count: int, dataset: Any) -> int:
        """How many of the last axes are those of the spectrum or image at one point of a scan."""
        interpretation = str(group.get("@interpretation", plain_value(dataset.attrs.get("interpretation"))) or "")
        wanted = {"scalar": 0, "spectrum": 1, "image": 2, "rgb-image": 2, "vertex": 1}.get(interpretation)
        return min(count, 2 if count > 1 else 1) if wanted is None else min(count, wanted or min(count, 2))

    def _type(self, group: dict[str, Any], axes: tuple[Axis, ...], entry: str) -> DatasetType:
        """Type by what the file says of the numbers; `Misc` where it says nothing."""
        *above, _ = self.place.split("/")
        above_class = str(branch(self.tree.values, *above).get(CLASS) or "") if above else ""
        definition = str(branch(self.tree.values, entry).get("definition") or "")
        inner = [axis for axis in axes if not axis.navigation]
        is_spectrum = group.get("@interpretation") == "spectrum" or above_class == "NXspectrum"
        if len(inner) == 1 and (is_spectrum or inner[0].units in ELECTRONVOLTS):
            return spectral_type(axes)
        if len(inner) == 2 and (definition in DIFFRACTION or all(is_reciprocal(axis.units) for axis in inner)):
            return "Diffraction"
        if len(inner) == 2 and (above_class == "NXimage" or all(axis.units in METRES for axis in inner)):
            return "Image"
        return "Misc"


def _technique(dataset_type: DatasetType, facts: Facts) -> str:
    """Of an electron microscope's file the kind of imaging; nothing tells the spectroscopy."""
    column = "SEM" if "working_distance" in facts.fields else ""
    voltage = facts.fields.get("acceleration_voltage")
    if voltage is None:
        return "Unknown"
    column = column or ("TEM" if voltage.m_as("kV") > 30 else "SEM")
    return {"Image": f"{column}_Imaging", "Diffraction": f"{column}_Diffraction"}.get(dataset_type, "Unknown")


def _add_values(facts: Facts, values: dict[str, Any]) -> None:
    """Named values of the instrument, specimen and entry; the first of each name is kept."""
    for _, group in _groups(values):
        kind = group.get(CLASS)
        for (wanted, key), (name, unit) in VALUES.items():
            if kind == wanted and name not in facts.fields and name not in facts.extensions:
                _add_value(facts, name, unit, group, key)


def _add_value(facts: Facts, name: str, unit: str | None, group: Mapping[str, Any], key: str) -> None:
    value = group.get(key)
    if isinstance(value, str):
        if unit is None and name != "magnification" and value not in EMPTY:
            facts.add(name, value)
        return
    found = numbers_of(value)
    if len(found) != 1 or (found[0] == 0 and name in NEVER_ZERO) or (unit is None and name != "magnification"):
        return
    written = str(group.get(f"{key}@units") or "")
    with suppress(AttributeError, LookupError, ArithmeticError, TypeError):
        facts.add(name, found[0], (written or unit) if unit else None)
        return
    facts.warnings[name] = f"the file says {found[0]} {written[:40]}, which is no known unit"


def _further(tree: Tree) -> list[str]:
    """Arrays of numbers that no plot shows, with their sizes."""
    arrays = [
        f"{place} ({' × '.join(map(str, dataset.shape))})"
        for place, dataset in tree.datasets.items()
        if (dataset.size or 0) > 1 and dataset.dtype.kind in "iufc" and not _is_plotted(place, tree)
    ]
    return arrays[:MOST_FURTHER] + ([f"… and {len(arrays) - MOST_FURTHER} more"] if len(arrays) > MOST_FURTHER else [])


def _is_plotted(place: str, tree: Tree) -> bool:
    return branch(tree.values, *place.split("/")[:-1]).get(CLASS) == "NXdata"


def _acquired(values: dict[str, Any], entry: str, facts: Facts) -> datetime | None:
    groups = [branch(values, entry)] if entry else [value for value in values.values() if isinstance(value, dict)]
    text = next((group["start_time"] for group in groups if isinstance(group.get("start_time"), str)), "")
    try:
        return moment(text) if text else None
    except ValueError as fault:
        facts.warnings["Creation Time"] = f"The file says {fault}."
        return None


EXTRACTOR = Nexus()
