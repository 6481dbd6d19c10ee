"""EBSD patterns that the Python package kikuchipy saved as HDF5.

Below the root stand ``manufacturer`` (``kikuchipy``), ``version``, and a group per scan:

===================  ==================================================================================
``EBSD/Data``        ``patterns`` (positions, height, width)
``EBSD/Header``      ``n_rows``, ``n_columns``, ``step_x``, ``step_y`` in µm, angles in degrees, pattern
                     centre in Bruker's convention; up to version 0.6 ``Phases``, exposure, gain …
``EBSD/CrystalMap``  orientations and phases, as orix saves them (from version 0.3)
``SEM/Header``       ``beam_energy`` in keV, ``working_distance`` in mm, ``magnification``, ``microscope``
===================  ==================================================================================

Layout: https://kikuchipy.org ("kikuchipy h5ebsd"). What was not known when the file was written is 0, -1 or empty.
"""

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
    nonzero,
    numbers_of,
    pattern_signal,
    step_of,
    warn_of_missing,
)
from nexuslims_pipeline.extraction.layouts.hdf5 import Numbers, Tree, open_hdf5, tree_of
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.signals import Signal, Source

UNKNOWN: Final = -1
"""What kikuchipy writes where nothing is known."""
SEM: Final = {
    "beam_energy": nonzero("acceleration_voltage", "kV"),
    "magnification": nonzero("magnification"),
    "working_distance": nonzero("working_distance", "mm"),
    "microscope": Item("microscope"),
}
HEADER: Final = {
    "sample_tilt": Item("Specimen Tilt", "deg"),
    "azimuth_angle": Item("Camera Azimuth", "deg"),
    "elevation_angle": Item("Camera Elevation", "deg"),
    "detector": Item("detector_type"),
    "binning": Item("binning"),
    "exposure_time": nonzero("exposure_time", "s"),
    "frame_number": Item("Frames Averaged"),
    "frame_rate": nonzero("Frame Rate", "1/s"),
    "gain": Item("Camera Gain"),
    "grid_type": Item("Grid Type", None, "Scan Grid"),
    "scan_time": nonzero("Scan Time", "s"),
    "detector_pixel_size": nonzero("Detector Pixel Size", "µm"),
    "pcx": Item("X", None, "Pattern Centre"),
    "pcy": Item("Y", None, "Pattern Centre"),
    "pcz": Item("Z", None, "Pattern Centre"),
    "xpc": Item("X", None, "Pattern Centre"),
    "ypc": Item("Y", None, "Pattern Centre"),
    "zpc": Item("Z", None, "Pattern Centre"),
}


class Kikuchipy(Extractor):
    """Patterns saved by kikuchipy, of whatever detector."""

    name: ClassVar[str] = "kikuchipy"
    format_name: ClassVar[str] = "kikuchipy HDF5"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".h5", ".hdf5", ".h5ebsd"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether an HDF5 file names kikuchipy as its maker."""
        return made_by("kikuchipy", source, head)

    def extract(self, source: Source) -> list[Signal]:
        """Patterns of each scan.

        Raises
        ------
        ExtractionError
            If the file is damaged or holds no patterns.
        """
        with open_hdf5(source.path) as file:
            tree = tree_of(file)
            names = [name for name in sorted(tree.values) if f"{name}/EBSD/Data/patterns" in tree.datasets]
            signals = [_scan(source.path, name, tree) for name in names]
        if not signals:
            msg = "it holds no EBSD patterns that can be read"
            raise ExtractionError(msg)
        return signals


def _scan(path: Path, name: str, tree: Tree) -> Signal:
    scan = branch(tree.values, name)
    header = {key: value for key, value in branch(scan, "EBSD", "Header").items() if value != UNKNOWN}
    sem = {key: value for key, value in branch(scan, "SEM", "Header").items() if value != UNKNOWN}
    facts = Facts()
    add_header(facts, sem, SEM)
    add_header(facts, header, HEADER)
    facts.add("software", f"kikuchipy {tree.values.get('version') or ''}")
    phases = branch(header, "Phases") or branch(scan, "EBSD", "CrystalMap", "crystal_map", "header", "phases")
    add_phases(facts, (_phase(branch(phases, key)) for key in sorted(phases, key=lambda key: (len(key), key))))
    dataset = tree.datasets[f"{name}/EBSD/Data/patterns"]
    grid = Grid(
        count_of(header.get("n_rows")),
        count_of(header.get("n_columns")),
        step_of(header.get("step_y")),
        step_of(header.get("step_x")),
    )
    native = bounded({"version": tree.values.get("version"), name: scan})
    count = int(dataset.shape[0]) if dataset.ndim == 3 else 0
    warn_of_missing(facts, count, grid.rows * grid.columns)
    try:
        array = Numbers(path, dataset, grid.scan(count)) if count else None
    except ExtractionError as fault:
        facts.warnings["Pixels"] = f"The patterns are not read: {fault}."
        array = None
    return pattern_signal(facts, grid, array, grid.scan(count) if count else (), native)


def _phase(values: dict[str, Any]) -> Phase:
    structure = branch(values, "structure")
    lattice = branch(structure, "lattice") or structure
    constants = values.get("lattice_constants", lattice.get("abcABG", lattice.get("lattice")))
    return Phase(
        str(values.get("material_name") or values.get("name") or ""),
        formula=str(values.get("formula") or ""),
        space_group=str(values.get("space_group") or ""),
        point_group=str(values.get("point_group") or ""),
        lattice=numbers_of(constants) if isinstance(constants, list) else (),
    )


EXTRACTOR = Kikuchipy()
