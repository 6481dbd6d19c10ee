"""EBSD maps and patterns that Bruker ESPRIT exports as HDF5.

Below the root: ``Manufacturer`` (``Bruker Nano``), ``Version``, and a group per scan with

====================  ==========================================================================
``EBSD/Data``         ``RawPatterns`` (positions, height, width) and maps of one value per position
``EBSD/Header``       numbers of the acquisition, ``Phases``, ``SEM Image``
``EBSD/SEM``          ``IX``, ``IY``: column and row of each position (``SEM IX`` below
                      ``EBSD/Data`` in some versions)
====================  ==========================================================================

Positions may lie in any order, and may be a part of the grid only (a region of interest). Energies are in kV,
working distance and camera in mm, steps in µm, angles in degrees, lattice constants in Å.
Layout: https://ebsd-image.org, Jackson et al. (2014), https://doi.org/10.1186/2193-9772-3-4.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded
from nexuslims_pipeline.extraction.layouts.ebsd import (
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
from nexuslims_pipeline.extraction.layouts.frames import Frames
from nexuslims_pipeline.extraction.layouts.hdf5 import Numbers, Tree, open_hdf5, plain_value, tree_of
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.signals import Signal, Source

MOST_PLACES: Final = 1 << 22
"""Positions whose rows and columns are read to put them in order."""
QUALITY_MAPS: Final = ("RadonQuality", "MAD", "RadonBandCount", "NIndexedBands", "Phase")
"""Maps to show of a scan without patterns, best first."""
HEADER: Final = {
    "KV": nonzero("acceleration_voltage", "kV"),
    "Magnification": nonzero("magnification"),
    "WD": nonzero("working_distance", "mm"),
    "SampleTilt": Item("Specimen Tilt", "deg"),
    "CameraTilt": Item("Camera Tilt", "deg"),
    "CamTilt": Item("Camera Tilt", "deg"),
    "TiltAngle": Item("Specimen Tilt", "deg"),
    "Grid Type": Item("Grid Type", None, "Scan Grid"),
    "MADMax": nonzero("Largest Mean Angular Deviation", "deg"),
    "MinIndexedBands": Item("Fewest Indexed Bands"),
    "MaxRadonBandCount": Item("Most Radon Bands"),
    "DetectorFullHeightMicrons": nonzero("Height", "µm", "Detector"),
    "DetectorFullWidthMicrons": nonzero("Width", "µm", "Detector"),
    "PixelByteCount": Item("Bytes per Pixel", None, "Detector"),
    "MapStepFactor": Item("Map Step Factor", None, "Scan Grid"),
    "TopClip": Item("Top Clip", None, "Detector"),
    "UnClippedPatternHeight": Item("Unclipped Pattern Height", None, "Detector"),
    "ZOffset": Item("Z Offset", None, "Scan Grid"),
}
"""Keys of ``EBSD/Header``; the exposure is not among them."""


class BrukerEbsd(Extractor):
    """Scans that Bruker ESPRIT exported."""

    name: ClassVar[str] = "bruker_ebsd"
    format_name: ClassVar[str] = "Bruker ESPRIT EBSD"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".h5", ".hdf5", ".h5ebsd"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether an HDF5 file names Bruker as its maker and has a scan of EBSD."""
        return made_by("bruker", source, head)

    def extract(self, source: Source) -> list[Signal]:
        """Patterns or a map of each scan, and the electron images that go with them.

        Raises
        ------
        ExtractionError
            If the file is damaged or holds no scan.
        """
        with open_hdf5(source.path) as file:
            tree = tree_of(file)
            signals = [signal for name in sorted(tree.values) for signal in _scan(source.path, name, tree)]
        if not signals:
            msg = "it holds no EBSD scan that can be read"
            raise ExtractionError(msg)
        return signals


def _scan(path: Path, name: str, tree: Tree) -> Iterator[Signal]:
    header = branch(tree.values, name, "EBSD", "Header")
    if not header:
        return
    grid = Grid(
        count_of(header.get("NROWS")),
        count_of(header.get("NCOLS")),
        step_of(header.get("YSTEP")),
        step_of(header.get("XSTEP")),
    )
    native = _native(name, tree)
    start = f"{name}/EBSD/Data/"
    data = {key.removeprefix(start): found for key, found in tree.datasets.items() if key.startswith(start)}
    facts = _facts(header, tree.values, data)
    patterns = data.get("RawPatterns")
    if patterns is not None and patterns.ndim == 3:
        yield _patterns(path, name, tree, grid, facts)
    else:
        shown = next((key for key in QUALITY_MAPS if key in data), "")
        scan = grid.scan(int(data[shown].shape[0])) if shown and data[shown].ndim == 1 else ()
        in_order = _order(name, tree, grid, data[shown].shape[0]) is None if shown else False
        array = Numbers(path, data[shown], scan) if len(scan) == 2 and in_order else None
        facts.add("Map Shown", shown if array is not None else None)
        yield map_signal(facts, grid, array, native)
    for key in ("SEM Image", "SEM_Image"):
        image = tree.datasets.get(f"{name}/EBSD/Header/{key}")
        if image is not None and image.ndim in (2, 3):
            yield _image(path, image, header, tree, native)


def _native(name: str, tree: Tree) -> dict[str, Any]:
    """What stands at the root and in the scan."""
    return dict(bounded({key: v for key, v in tree.values.items() if not isinstance(v, dict) or key == name}))


def _facts(header: dict[str, Any], root: dict[str, Any], data: dict[str, Any]) -> Facts:
    facts = Facts()
    add_header(facts, header, HEADER)
    facts.add("software", root.get("Version"))
    phases = branch(header, "Phases")
    add_phases(facts, (_phase(branch(phases, name)) for name in sorted(phases, key=lambda key: (len(key), key))))
    for key, shown in (("PCX", "X"), ("PCY", "Y"), ("DD", "Distance")):
        dataset = data.get(key)
        if dataset is not None and dataset.ndim == 1 and dataset.shape[0]:
            facts.add(shown, plain_value(dataset[0]), group="Pattern Centre of First Point")
    return facts


def _phase(values: dict[str, Any]) -> Phase:
    return Phase(
        str(values.get("Name") or ""),
        formula=str(values.get("Formula") or ""),
        space_group=str(values.get("SpaceGroup") or values.get("IT") or ""),
        lattice=numbers_of(values.get("LatticeConstants")),
    )


def _patterns(path: Path, name: str, tree: Tree, grid: Grid, facts: Facts) -> Signal:
    dataset = tree.datasets[f"{name}/EBSD/Data/RawPatterns"]
    native = _native(name, tree)
    count = int(dataset.shape[0])
    try:
        flat = Numbers(path, dataset)
    except ExtractionError as fault:
        facts.warnings["Pixels"] = f"The patterns are not read: {fault}."
        return pattern_signal(facts, grid, None, (), native)
    if grid.rows * grid.columns != count:
        part = _region(name, tree, count)
        if part is None:
            warn_of_missing(facts, count, grid.rows * grid.columns)
            return pattern_signal(facts, grid, flat, (count,), native)
        facts.add("Rows", grid.rows, group="Whole Map")
        facts.add("Columns", grid.columns, group="Whole Map")
        grid = Grid(*part, grid.row_step, grid.column_step)
    scan, order = grid.scan(count), _order(name, tree, grid, count)
    if order is None:
        return pattern_signal(facts, grid, Numbers(path, dataset, scan), scan, native)
    frame = (int(dataset.shape[1]), int(dataset.shape[2]))
    places: list[int] = order.tolist()
    array = Frames(scan, frame, dataset.dtype, lambda number: flat[places[number]])
    return pattern_signal(facts, grid, array, scan, native)


def _places(name: str, tree: Tree, count: int) -> tuple[Any, Any] | None:
    """Columns and rows of the positions; None where the file does not tell them."""
    for group, mark in (("SEM", ""), ("EBSD/SEM", ""), ("EBSD/Data", "SEM "), ("SEM", "SEM ")):
        across, down = (tree.datasets.get(f"{name}/{group}/{mark}{key}") for key in ("IX", "IY"))
        found = [place for place in (across, down) if place is not None and _is_place(place, count)]
        if len(found) == 2:
            return found[0][()], found[1][()]
    return None


def _is_place(dataset: Any, count: int) -> bool:
    return bool(dataset.shape == (count,) and count <= MOST_PLACES and dataset.dtype.kind in "iu")


def _region(name: str, tree: Tree, count: int) -> tuple[int, int] | None:
    """Rows and columns of the rectangle that the positions fill; None where they fill none."""
    places = _places(name, tree, count)
    if places is None or not count:
        return None
    columns, rows = (int(place.max()) - int(place.min()) + 1 for place in places)
    return (rows, columns) if rows * columns == count else None


def _order(name: str, tree: Tree, grid: Grid, count: int) -> Any:
    """Position in the file of each position of the grid, row by row; None when they lie in this order."""
    import numpy as np

    places = _places(name, tree, count)
    if places is None or grid.rows * grid.columns != count:
        return None
    column, row = (place.astype(np.int64) - int(place.min()) for place in places)
    target = row * grid.columns + column
    if bool((target == np.arange(count)).all()):
        return None
    order = np.full(count, -1, np.int64)
    inside = (target >= 0) & (target < count)
    order[target[inside]] = np.flatnonzero(inside)
    return None if bool((order < 0).any()) else order


def _image(path: Path, image: Any, header: dict[str, Any], tree: Tree, native: dict[str, Any]) -> Signal:
    facts = Facts()
    add_header(facts, header, {key: entry for key, entry in HEADER.items() if entry.group is None})
    facts.add("software", tree.values.get("Version"))
    rows, columns = (int(size) for size in image.shape[:2])
    grid = Grid(rows, columns, step_of(header.get("SEPixelSizeY")), step_of(header.get("SEPixelSizeX")))
    return map_signal(
        facts, grid, Numbers(path, image), native, dataset_type="Image", data_type="SEM_Imaging", name="SEM Image"
    )


EXTRACTOR = BrukerEbsd()
