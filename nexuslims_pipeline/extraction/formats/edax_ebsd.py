"""EBSD scans of EDAX OIM Analysis and OIM Data Collection as HDF5.

Below the root stand ``Manufacturer`` (``EDAX``) and ``Version``, their names with a blank before them in some
versions, and a group per scan; OIM Data Collection puts samples and areas above it (``Sample/Area 1/OIM Map 1``):

=====================  =====================================================================================
``EBSD/Data``          ``Pattern`` (positions, height, width); maps ``IQ``, ``CI``, ``Fit``, ``SEM Signal``
``EBSD/Header``        numbers of the acquisition, ``Phase``, ``Pattern Center Calibration``
``SEM-PRIAS Images``   ``Data``: images; ``Header``: magnification
=====================  =====================================================================================

Positions lie row by row. Steps are in µm, the working distance in mm, angles in degrees, lattice constants in Å.
A hexagonal grid has rows of different lengths. Layout: https://doi.org/10.1186/2193-9772-3-4.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded
from nexuslims_pipeline.extraction.layouts.ebsd import (
    LATTICE,
    Grid,
    Item,
    Phase,
    add_header,
    add_phases,
    branch,
    count_of,
    made_by,
    map_signal,
    nonzero,
    numbers_of,
    pattern_signal,
    step_of,
    warn_of_missing,
)
from nexuslims_pipeline.extraction.layouts.hdf5 import Numbers, Tree, is_cut_off, open_hdf5, tree_of
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import moment
from nexuslims_pipeline.signals import Signal, Source

MOST_SCANS: Final = 50
QUALITY_MAPS: Final = ("IQ", "CI", "SEM Signal", "Fit", "Phase")
"""Maps to show of a scan without patterns, best first."""
HEADER: Final = {
    "Working Distance": nonzero("working_distance", "mm"),
    "Sample Tilt": Item("Specimen Tilt", "deg"),
    "Camera Elevation Angle": Item("Camera Elevation", "deg"),
    "Camera Azimuthal Angle": Item("Camera Azimuth", "deg"),
    "Grid Type": Item("Grid Type", None, "Scan Grid"),
    "Operator": Item("operator"),
    "Sample ID": Item("specimen"),
    "Scan ID": Item("Scan ID"),
    "Notes": Item("Notes"),
    "Accelerating Voltage": nonzero("acceleration_voltage", "kV"),
    "Beam Voltage": nonzero("acceleration_voltage", "kV"),
    "Camera Exposure": nonzero("exposure_time", "s"),
    "Binning": Item("binning"),
    "Gain": Item("Camera Gain"),
}
CENTRE: Final = {"x-star": Item("X*", None, "Pattern Centre"), "y-star": Item("Y*", None, "Pattern Centre"),
                 "z-star": Item("Z*", None, "Pattern Centre")}  # fmt: skip
DATES: Final = ("Acquisition Date", "Date", "Date Time", "Acquisition Time")


class EdaxEbsd(Extractor):
    """Scans of EDAX OIM."""

    name: ClassVar[str] = "edax_ebsd"
    format_name: ClassVar[str] = "EDAX OIM HDF5"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".h5", ".hdf5", ".oh5", ".h5oim", ".edaxh5"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether an HDF5 file names EDAX as its maker and has a scan of EBSD."""
        return made_by("edax", source, head) or is_cut_off(source, head, {".oh5", ".edaxh5"})

    def extract(self, source: Source) -> list[Signal]:
        """Patterns or a map of each scan, and the electron images that go with them.

        Raises
        ------
        ExtractionError
            If the file is damaged or holds no scan.
        """
        with open_hdf5(source.path) as file:
            tree = tree_of(file)
            places = list(_scans(tree.values))
            root = {key: value for key, value in tree.values.items() if not isinstance(value, dict)}
            scans = [_Scan(source.path, tree, root, place) for place in places[:MOST_SCANS]]
            signals = [signal for scan in scans for signal in scan.signals()]
        if not signals:
            msg = "it holds no EBSD scan that can be read"
            raise ExtractionError(msg)
        if len(places) > MOST_SCANS:
            signals[0].warnings["Scans"] = f"Of {len(places)} scans the first {MOST_SCANS} are read."
        return signals


def _scans(values: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of the groups that have EBSD in them."""
    for name in sorted(values):
        inner = values[name]
        if branch(inner, "EBSD", "Header"):
            yield (*above, name)
        elif isinstance(inner, dict) and len(above) < 4:
            yield from _scans(inner, (*above, name))


@dataclass(frozen=True, slots=True)
class _Scan:
    path: Path
    tree: Tree
    root: dict[str, Any]
    place: tuple[str, ...]

    @property
    def header(self) -> dict[str, Any]:
        return branch(self.tree.values, *self.place, "EBSD", "Header")

    @property
    def native(self) -> dict[str, Any]:
        return dict(bounded({**self.root, "/".join(self.place): branch(self.tree.values, *self.place)}))

    def dataset(self, name: str) -> Any:
        return self.tree.datasets.get("/".join((*self.place, name)))

    def instrument(self) -> Facts:
        """What holds for the patterns and for the electron images."""
        facts = Facts()
        add_header(facts, self.header, {key: item for key, item in HEADER.items() if item.group is None})
        images = branch(self.tree.values, *self.place, "SEM-PRIAS Images", "Header")
        add_header(facts, images, {"Mag": nonzero("magnification")})
        facts.add("software", next((v for key, v in self.root.items() if key.strip() == "Version"), None))
        return facts

    def facts(self) -> Facts:
        facts, header = self.instrument(), self.header
        add_header(facts, header, {key: item for key, item in HEADER.items() if item.group is not None})
        add_header(facts, branch(header, "Pattern Center Calibration"), CENTRE)
        phases = branch(header, "Phase")
        add_phases(facts, (_phase(branch(phases, name)) for name in sorted(phases, key=lambda key: (len(key), key))))
        return facts

    def acquired(self, facts: Facts) -> datetime | None:
        text = next((value for value in map(self.header.get, DATES) if isinstance(value, str) and value), "")
        try:
            return moment(text) if text else None
        except ValueError as fault:
            facts.warnings["Creation Time"] = f"The file says {fault}."
            return None

    def signals(self) -> Iterator[Signal]:
        header = self.header
        grid = Grid(
            count_of(header.get("nRows")),
            count_of(header.get("nColumns")),
            step_of(header.get("Step Y")),
            step_of(header.get("Step X")),
        )
        facts = self.facts()
        acquired = self.acquired(facts)
        patterns = self.dataset("EBSD/Data/Pattern")
        first = self._patterns(patterns, grid, facts) if patterns is not None else self._map(grid, facts)
        first.acquired = acquired
        yield first
        start = "/".join((*self.place, "SEM-PRIAS Images", "Data", ""))
        for name, dataset in self.tree.datasets.items():
            if name.startswith(start) and dataset.ndim == 2:
                yield self._image(name.removeprefix(start), dataset, acquired)

    def _patterns(self, dataset: Any, grid: Grid, facts: Facts) -> Signal:
        count = int(dataset.shape[0]) if dataset.ndim == 3 else 0
        is_hexagonal = str(self.header.get("Grid Type") or "").lower().startswith("hex")
        scan = (count,) if is_hexagonal else grid.scan(count)
        try:
            array = Numbers(self.path, dataset, scan) if count else None
        except ExtractionError as fault:
            facts.warnings["Pixels"] = f"The patterns are not read: {fault}."
            array = None
        if not is_hexagonal:
            warn_of_missing(facts, count, grid.rows * grid.columns)
        return pattern_signal(facts, grid, array, scan if count else (), self.native)

    def _map(self, grid: Grid, facts: Facts) -> Signal:
        shown = next((name for name in QUALITY_MAPS if self.dataset(f"EBSD/Data/{name}") is not None), "")
        dataset = self.dataset(f"EBSD/Data/{shown}") if shown else None
        scan = grid.scan(int(dataset.shape[0])) if dataset is not None and dataset.ndim == 1 else ()
        array = Numbers(self.path, dataset, scan) if len(scan) == 2 else None
        facts.add("Map Shown", shown if array is not None else None)
        return map_signal(facts, grid, array, self.native)

    def _image(self, name: str, dataset: Any, acquired: datetime | None) -> Signal:
        facts = self.instrument()
        rows, columns = (int(size) for size in dataset.shape)
        array = Numbers(self.path, dataset)
        signal = map_signal(
            facts, Grid(rows, columns), array, self.native, dataset_type="Image", data_type="SEM_Imaging", name=name
        )
        signal.acquired = acquired
        return signal


def _phase(values: dict[str, Any]) -> Phase:
    constants = [numbers_of(values.get(f"Lattice Constant {name}")) for name in LATTICE]
    return Phase(
        str(values.get("MaterialName") or values.get("Material Name") or ""),
        formula=str(values.get("Formula") or ""),
        laue_group=str(values.get("Laue Group") or ""),
        point_group=str(values.get("Point Group") or ""),
        lattice=tuple(constant[0] for constant in constants if constant),
    )


EXTRACTOR = EdaxEbsd()
