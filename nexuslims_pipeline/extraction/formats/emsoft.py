"""Simulated diffraction patterns of EMsoft: HDF5 with the parameters of the program that made them.

================================  ======================================================================
``EMheader/<program>``            ``ProgramName``, ``Version``, ``UserName``, ``StartTime`` …
``EMData/EBSD``                   ``EBSDPatterns``: (patterns, height, width), or a grid of them
``EMData/<EBSD|ECP|TKD>master``   ``mLPNH``, ``mLPSH`` (Lambert projection) and ``masterSPNH``,
                                  ``masterSPSH`` (stereographic projection) of both hemispheres
``NMLparameters``                 parameters, one group per name list
``CrystalData``                   lattice (nm and degrees), space group
================================  ======================================================================

In ``EBSDNameList``: ``L`` is the distance of the screen and ``delta`` the size of a pixel, both in µm; ``xpc`` and
``ypc`` the pattern centre in pixels; ``thetac`` the detector's tilt in degrees; ``dwelltime`` in µs; ``beamcurrent``
in nA; ``energymax`` in keV. In ``MCCLNameList``: ``EkeV`` the beam's energy, ``sig`` the specimen's tilt in degrees.
Parameters: https://github.com/EMsoft-org/EMsoft/tree/develop/NamelistTemplates.
"""

from collections.abc import Iterator
from datetime import datetime
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
    nonzero,
    numbers_of,
)
from nexuslims_pipeline.extraction.layouts.hdf5 import Numbers, Tree, is_hdf5, open_hdf5, resolved, tree_of
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import ELEMENTS, moment
from nexuslims_pipeline.signals import Axis, Pixels, Signal, Source

PATTERNS: Final = ("EBSDPatterns", "EBSDpatterns", "TKDPatterns", "ECPatterns")
MASTERS: Final = ("mLPNH", "mLPSH", "masterSPNH", "masterSPSH", "mLP", "masterSP")
PARAMETERS: Final = {
    "EkeV": nonzero("acceleration_voltage", "kV"),
    "energymax": nonzero("acceleration_voltage", "kV"),
    "energymin": Item("Lowest Electron Energy", "keV"),
    "sig": Item("Specimen Tilt", "deg"),
    "thetac": Item("Detector Tilt", "deg"),
    "L": nonzero("Screen Distance", "µm"),
    "delta": nonzero("Detector Pixel Size", "µm"),
    "xpc": Item("X in pixels", None, "Pattern Centre"),
    "ypc": Item("Y in pixels", None, "Pattern Centre"),
    "beamcurrent": nonzero("beam_current", "nA"),
    "dwelltime": nonzero("dwell_time", "µs"),
    "binning": Item("binning"),
    "gammavalue": Item("Intensity Gamma"),
    "scalingmode": Item("Intensity Scaling"),
    "eulerconvention": Item("Euler Convention"),
    "dmin": nonzero("Smallest Lattice Spacing", "nm"),
    "npx": Item("Master Pattern Half Width"),
    "MCmode": Item("Monte Carlo Mode"),
    "totnum_el": Item("Incident Electrons"),
    "Ehistmin": Item("Lowest Electron Energy", "keV"),
    "Ebinsize": nonzero("Energy Step", "keV"),
    "depthmax": nonzero("Greatest Depth", "nm"),
}


class EMsoft(Extractor):
    """Patterns and master patterns that EMsoft calculated."""

    name: ClassVar[str] = "emsoft"
    format_name: ClassVar[str] = "EMsoft simulation"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".h5", ".hdf5"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether it is HDF5 with EMsoft's header, data and parameters at its root."""
        if not is_hdf5(head):
            return False
        try:
            with open_hdf5(source.path) as file:
                return all(hasattr(resolved(file, name), "keys") for name in ("EMheader", "EMData"))
        except ExtractionError:
            return False

    def extract(self, source: Source) -> list[Signal]:
        """Simulated patterns, or master patterns; without any what the parameters tell.

        Raises
        ------
        ExtractionError
            If the file is damaged.
        """
        with open_hdf5(source.path) as file:
            tree = tree_of(file)
            return list(_signals(source.path, tree)) or [_described(tree, "", Signal("Misc", "Unknown"))]


def _signals(path: Path, tree: Tree) -> Iterator[Signal]:
    for place, dataset in tree.datasets.items():
        above, _, name = place.rpartition("/")
        if not above.startswith("EMData/") or dataset.ndim < 3 or dataset.dtype.kind not in "iuf":
            continue
        if name in PATTERNS or (name in MASTERS and above.endswith("master")):
            yield _signal(path, tree, place, dataset)


def _signal(path: Path, tree: Tree, place: str, dataset: Any) -> Signal:
    name = place.rpartition("/")[2]
    *outer, height, width = (int(size) for size in dataset.shape)
    is_scan = name in PATTERNS and len(outer) < 3
    axes = Grid(0, 0).axes(tuple(outer), navigation=True) if is_scan else _plain(outer)
    technique = "TEM_Diffraction" if "TKD" in place else "SEM_EBSD"
    signal = Signal("Diffraction", technique, shape=(*outer, height, width), name=name)
    try:
        inner = (Axis(height, name="dy"), Axis(width, name="dx"))
        signal.pixels = Pixels(Numbers(path, dataset), (*axes, *inner))
    except ExtractionError as fault:
        signal.warnings["Pixels"] = f"The patterns are not read: {fault}."
    return _described(tree, place.split("/")[1], signal)


def _described(tree: Tree, program: str, signal: Signal) -> Signal:
    """`signal` with the parameters of the simulation."""
    facts = Facts()
    for _, parameters in sorted(branch(tree.values, "NMLparameters").items()):
        if isinstance(parameters, dict):
            add_header(facts, parameters, PARAMETERS)
    signal.acquired = _header(facts, branch(tree.values, "EMheader"), program)
    add_phases(facts, [_phase(branch(tree.values, "CrystalData"), facts)])
    facts.add("Simulated", value=True)
    signal.native = bounded(tree.values)
    return facts.give_to(signal)


def _plain(sizes: list[int]) -> tuple[Axis, ...]:
    """Energies of a master pattern, and the sites of the atoms that scatter."""
    names = ("Site", "Energy")[-len(sizes) :] if len(sizes) <= 2 else ("",) * len(sizes)
    return tuple(Axis(size, name=name, navigation=True) for size, name in zip(sizes, names, strict=True))


def _header(facts: Facts, programs: dict[str, Any], wanted: str) -> datetime | None:
    """Program, its version, its user and when it began."""
    header = branch(programs, wanted) or next((value for value in programs.values() if isinstance(value, dict)), {})
    facts.add("software", f"EMsoft {header.get('ProgramName') or ''} {header.get('Version') or ''}".strip())
    facts.add("operator", header.get("UserName"))
    facts.add("computer", header.get("HostName"))
    text = header.get("StartTime") or header.get("Date")
    if not isinstance(text, str) or not text:
        return None
    try:
        return moment(text.replace("@", " "))
    except ValueError as fault:
        facts.warnings["Creation Time"] = f"The file says {fault}."
        return None


def _phase(crystal: dict[str, Any], facts: Facts) -> Phase:
    numbers = [int(number) for number in numbers_of(crystal.get("Atomtypes"))]
    symbols = [ELEMENTS[number - 1] for number in numbers if 0 < number <= len(ELEMENTS)]
    facts.add("elements", symbols)
    facts.add("Crystal Structure Source", crystal.get("Source"))
    lattice = numbers_of(crystal.get("LatticeParameters"))
    return Phase(
        str(crystal.get("CrystalDataFileName") or crystal.get("Name") or "-".join(symbols)),
        space_group=str(crystal.get("SpaceGroupNumber") or ""),
        lattice=(*(float(f"{length * 10:.7g}") for length in lattice[:3]), *lattice[3:]),
    )


EXTRACTOR = EMsoft()
