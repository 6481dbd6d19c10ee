"""Oxford Instruments ``.h5oina``: what AZtec exports of one acquisition, EBSD, EDS and electron images together.

HDF5, format versions 1 to 8 (https://github.com/oinanoanalysis/h5oina). Below the root stand ``Manufacturer``,
``Software Version``, ``Format Version`` and ``Index``, which names the acquisitions ("slices"): one, or one for each
particle of a particle analysis. Each holds groups of ``Data`` and ``Header``:

==================  =================================================================================
group               data
==================  =================================================================================
EBSD                ``Processed Patterns``, ``Unprocessed Patterns`` (positions, height, width), maps
EDS, EDS1, EDS2 …   ``Spectrum`` (positions, channels); maps of lines and elements (positions)
Electron Image      ``SE``, ``BSE``, ``FSE``: images (pixels), all of one size
Layered Image       one group per image, with ``Color`` (pixels, 3)
==================  =================================================================================

Positions lie row by row. Lengths of steps are in µm, those of stage and working distance in mm, all angles in
radians; ``Acquisition Date`` is the time on the instrument's clock.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded, spectral_type
from nexuslims_pipeline.extraction.layouts.ebsd import (
    Grid,
    Item,
    Phase,
    add_header,
    add_phases,
    branch,
    count_of,
    in_degrees,
    map_signal,
    nonzero,
    numbers_of,
    pattern_signal,
    step_of,
    warn_of_missing,
)
from nexuslims_pipeline.extraction.layouts.hdf5 import (
    Numbers,
    Tree,
    ensure_own_numbers,
    is_cut_off,
    is_hdf5,
    open_hdf5,
    plain_value,
    resolved,
    tree_of,
)
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import ELEMENTS, moment
from nexuslims_pipeline.signals import Axis, Layer, Pixels, Signal, Source

MOST_SLICES: Final = 50
"""Acquisitions of one file that are read; particle analyses may have thousands."""
MOST_NAMES: Final = 10_000
MOST_TIMES: Final = 1 << 22
"""Positions whose times are added up."""
PATTERNS: Final = ("Processed Patterns", "Unprocessed Patterns")
QUALITY_MAPS: Final = ("Band Contrast", "Band Slope", "Pattern Quality", "Phase")
"""Maps to show of an acquisition without patterns, best first."""
ELEMENT_MAPS: Final = ("Peak Area", "Window Integral", "Composition", "Apparent Concentration")
"""Groups of element maps, best first."""
COMMON: Final = {
    "Beam Voltage": nonzero("acceleration_voltage", "kV"),
    "Magnification": nonzero("magnification"),
    "Working Distance": nonzero("working_distance", "mm"),
    "Scan Rotation": Item("scan_rotation", "rad"),
    "Tilt Angle": Item("Specimen Tilt", "rad"),
    "Tilt Axis": Item("Tilt Axis", "rad"),
    "Drift Correction": Item("Drift Correction"),
    "Specimen Label": Item("specimen"),
    "Specimen Notes": Item("Specimen Notes"),
    "Project Label": Item("Project"),
    "Project Notes": Item("Project Notes"),
    "Site Label": Item("Site"),
    "Site Notes": Item("Site Notes"),
    "Analysis Label": Item("Analysis"),
    "Feature Index": Item("Feature Index"),
}
STAGE: Final = {
    "X": Item("stage_x", "mm"),
    "Y": Item("stage_y", "mm"),
    "Z": Item("stage_z", "mm"),
    "Tilt": Item("stage_tilt", "rad"),
    "Rotation": Item("stage_rotation", "rad"),
}
EBSD: Final = {
    "Camera Exposure Time": nonzero("exposure_time", "ms"),
    "Camera Mode": Item("binning"),
    "Camera Binning Mode": Item("binning"),
    "Camera Gain": Item("Camera Gain"),
    "Number Frames Averaged": nonzero("frames"),
    "Detector Serial Number": Item("Detector Serial Number"),
    "Detector Insertion Distance": Item("Detector Insertion Distance", "mm"),
    "Detector Screen Type": Item("Detector Screen"),
    "Lens Distortion": Item("Lens Distortion"),
    "Lens Field View": nonzero("Lens Field of View", "mm"),
    "Acquired Pattern Width": Item("Acquired Pattern Width"),
    "Acquired Pattern Height": Item("Acquired Pattern Height"),
    "Static Background Correction": Item("Static Background Correction"),
    "Auto Background Correction": Item("Automatic Background Correction"),
    "Hough Resolution": Item("Hough Resolution"),
    "Band Detection Mode": Item("Band Detection Mode"),
    "Number Bands Detected": Item("Bands Detected"),
    "Indexing Mode": Item("Indexing Mode"),
    "Hit Rate": Item("Hit Rate", "percent"),
    "Acquisition Time": nonzero("acquisition_time", "s"),
    "Acquisition Speed": nonzero("Acquisition Speed", "1/s"),
    "Scanning Rotation Angle": Item("Scanning Rotation Angle", "rad"),
}
EDS: Final = {
    "Channel Width": nonzero("channel_size", "eV"),
    "Energy Range": nonzero("Energy Range", "keV"),
    "Number Channels": Item("Number of Channels"),
    "Number Frames": nonzero("frames"),
    "Process Time": Item("Process Time"),
    "Detector Elevation": Item("elevation_angle", "rad"),
    "Detector Azimuth": Item("azimuthal_angle", "rad"),
    "Detector Serial Number": Item("Detector Serial Number"),
    "Detector Type Id@Name": Item("detector_type"),
    "Processor Type": Item("Pulse Processor"),
    "Window Type": Item("Detector Window"),
    "Strobe FWHM": nonzero("Strobe FWHM", "eV"),
    "Strobe Area": nonzero("Strobe Area"),
    "Binning": Item("binning"),
}
IMAGE: Final = {
    "Dwell Time": nonzero("dwell_time", "µs"),
    "Number Frames Averaged": nonzero("frames"),
}


@dataclass(frozen=True, slots=True)
class _Technique:
    """One group of ``Data`` and ``Header``."""

    path: Path
    place: str
    """Below the slice: ``EBSD``."""
    tree: Tree
    software: str

    @property
    def header(self) -> dict[str, Any]:
        return branch(self.tree.values, *self.place.split("/"), "Header")

    @property
    def grid(self) -> Grid:
        header = self.header
        return Grid(
            count_of(header.get("Y Cells")),
            count_of(header.get("X Cells")),
            step_of(header.get("Y Step")),
            step_of(header.get("X Step")),
        )

    @property
    def native(self) -> dict[str, Any]:
        return dict(bounded({self.place: branch(self.tree.values, *self.place.split("/"))}))

    def dataset(self, name: str) -> Any:
        """Dataset below ``Data``; None where there is none."""
        return self.tree.datasets.get(f"{self.place}/Data/{name}")

    def names(self, group: str) -> list[str]:
        """Datasets in a group below ``Data``."""
        start = f"{self.place}/Data/{group}/"
        return [name.removeprefix(start) for name in self.tree.datasets if name.startswith(start)]

    def facts(self, entries: dict[str, Item]) -> Facts:
        facts = Facts()
        add_header(facts, self.header, COMMON)
        add_header(facts, branch(self.header, "Stage Position"), STAGE)
        add_header(facts, self.header, entries)
        facts.add("software", self.software)
        return facts

    def acquired(self, facts: Facts) -> datetime | None:
        text = self.header.get("Acquisition Date")
        if not isinstance(text, str) or not text:
            return None
        try:
            return moment(text)
        except ValueError as fault:
            facts.warnings["Creation Time"] = f"The file says {fault}."
            return None

    def map(self, dataset: Any) -> Any:
        """Values of all positions as rows and columns; None where they do not fill the grid."""
        scan = self.grid.scan(int(dataset.shape[0])) if dataset.shape else ()
        return Numbers(self.path, dataset, scan) if len(scan) == 2 and dataset.ndim == 1 else None


class OxfordH5oina(Extractor):
    """Acquisitions of Oxford Instruments AZtec."""

    name: ClassVar[str] = "oxford_h5oina"
    format_name: ClassVar[str] = "Oxford Instruments H5OINA"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".h5oina", ".h5", ".hdf5"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether it is HDF5 with the root of this format."""
        if not is_hdf5(head):
            return False
        try:
            with open_hdf5(source.path) as file:
                manufacturer, index = resolved(file, "Manufacturer"), resolved(file, "Index")
                is_oxford = manufacturer is None or "oxford" in str(_value(manufacturer)).lower()
                return bool(is_oxford and index is not None and resolved(file, "Format Version") is not None)
        except ExtractionError:
            return is_cut_off(source, head, {".h5oina"})

    def extract(self, source: Source) -> list[Signal]:
        """Patterns or maps of EBSD first, then EDS, electron images and layered images.

        Raises
        ------
        ExtractionError
            If the file is damaged or holds no acquisition.
        """
        with open_hdf5(source.path) as file:
            below = {name: resolved(file, name) for name in islice(file, MOST_NAMES)}
            root = {name: _value(found) for name, found in below.items() if _is_small(found)}
            names = sorted((name for name in below if name.isdecimal() and hasattr(below[name], "keys")), key=int)
            signals: list[Signal] = []
            for name in names[:MOST_SLICES]:
                found = list(_signals(source.path, tree_of(below[name]), str(root.get("Software Version") or "")))
                for signal in found:
                    signal.native = {**bounded(root), name: signal.native}
                signals += found
        if not signals:
            msg = "it holds no acquisition that can be read (no EBSD, EDS or electron image)"
            raise ExtractionError(msg)
        if len(names) > MOST_SLICES:
            signals[0].warnings["Acquisitions"] = f"Of {len(names)} acquisitions the first {MOST_SLICES} are read."
        dated = next((signal.acquired for signal in signals if signal.acquired), None)
        for signal in signals:
            signal.acquired = signal.acquired or dated
        return signals


def _is_small(found: Any) -> bool:
    return hasattr(found, "dtype") and found.size is not None and found.size <= MOST_SLICES


def _value(found: Any) -> Any:
    return plain_value(found[()]) if hasattr(found, "dtype") and found.shape is not None else None


def _signals(path: Path, tree: Tree, version: str) -> Iterator[Signal]:
    software = f"AZtec {version}" if version else ""
    for name in sorted(tree.values):
        technique = _Technique(path, name, tree, software)
        if name == "EBSD":
            yield from _ebsd(technique)
        elif name.startswith("EDS"):
            yield from _eds(technique)
    for name in ("Electron Image", *(f"Layered Image/{name}" for name in branch(tree.values, "Layered Image"))):
        technique = _Technique(path, name, tree, software)
        if technique.header or any(technique.names(kind) for kind in ("SE", "BSE", "FSE")):
            yield from _images(technique)


def _ebsd(technique: _Technique) -> Iterator[Signal]:
    present = [name for name in PATTERNS if technique.dataset(name) is not None]
    for name in present:
        facts = _ebsd_facts(technique)
        facts.add("Patterns", name.removesuffix(" Patterns").lower())
        yield _dated(_patterns(technique, name, facts), technique, facts)
    if not present:
        facts = _ebsd_facts(technique)
        shown = next((name for name in QUALITY_MAPS if technique.dataset(name) is not None), "")
        array = technique.map(technique.dataset(shown)) if shown else None
        if array is not None:
            facts.add("Map Shown", shown)
        yield _dated(map_signal(facts, technique.grid, array, technique.native), technique, facts)


def _patterns(technique: _Technique, name: str, facts: Facts) -> Signal:
    dataset, grid = technique.dataset(name), technique.grid
    if dataset.ndim != 3:
        facts.warnings["Pixels"] = f"The patterns have {dataset.ndim} axes in place of three, and are not shown."
        return pattern_signal(facts, grid, None, (), technique.native)
    count = int(dataset.shape[0])
    warn_of_missing(facts, count, grid.rows * grid.columns)
    scan = grid.scan(count)
    try:
        array = Numbers(technique.path, dataset, scan)
    except ExtractionError as fault:
        facts.warnings["Pixels"] = f"The patterns are not read: {fault}."
        return pattern_signal(facts, grid, None, (), technique.native)
    return pattern_signal(facts, grid, array, scan, technique.native)


def _ebsd_facts(technique: _Technique) -> Facts:
    facts = technique.facts(EBSD)
    phases = branch(technique.header, "Phases")
    add_phases(facts, (_phase(branch(phases, name)) for name in sorted(phases, key=_number)))
    for name, shown in (("Pattern Center X", "X"), ("Pattern Center Y", "Y"), ("Detector Distance", "Distance")):
        dataset = technique.dataset(name)
        if dataset is not None and dataset.ndim == 1 and dataset.shape[0]:
            facts.add(shown, plain_value(dataset[0]), group="Pattern Centre of First Point")
    return facts


def _number(name: str) -> int:
    return int(name) if name.isdigit() else 0


def _phase(values: dict[str, Any]) -> Phase:
    angles = [in_degrees(angle) or 0.0 for angle in numbers_of(_row(values.get("Lattice Angles")))]
    return Phase(
        str(values.get("Phase Name") or ""),
        space_group=str(values.get("Space Group@Symbol") or values.get("Space Group") or ""),
        laue_group=str(values.get("Laue Group@Symbol") or values.get("Laue Group") or ""),
        lattice=(*numbers_of(_row(values.get("Lattice Dimensions"))), *angles),
    )


def _row(value: Any) -> Any:
    """Numbers of a table of one row."""
    return value[0] if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list) else value


def _eds(technique: _Technique) -> Iterator[Signal]:
    facts = technique.facts(EDS)
    start = numbers_of(technique.header.get("Start Channel"))
    facts.add("starting_energy", start[0] / 1e3 if start else None, "keV")
    layers, elements = _element_maps(technique)
    facts.add("elements", elements)
    for name, known in (("Live Time", "live_time"), ("Real Time", "real_time")):
        times = technique.dataset(name)
        if times is not None and times.dtype.kind == "f" and 0 < times.size <= MOST_TIMES:
            ensure_own_numbers(times)
            facts.add_measured(known, float(f"{float(times[()].sum(dtype='f8')):.7g}"), "s")
    spectra = technique.dataset("Spectrum")
    grid = technique.grid
    if spectra is not None and spectra.ndim == 2:
        signal = _spectra(technique, spectra, facts)
    elif layers:
        signal = map_signal(facts, grid, layers[0].array, technique.native, dataset_type="Image", data_type="SEM_EDS")
    else:
        signal = map_signal(facts, grid, None, technique.native, data_type="SEM_EDS")
    signal.layers = layers
    yield _dated(signal, technique, facts)


def _spectra(technique: _Technique, spectra: Any, facts: Facts) -> Signal:
    grid, header = technique.grid, technique.header
    count, channels = (int(size) for size in spectra.shape)
    scan = () if count == 1 else grid.scan(count)
    width, start = step_of(header.get("Channel Width")), numbers_of(header.get("Start Channel"))
    energy = Axis(channels, width / 1e3 or 1.0, start[0] / 1e3 if start else 0.0, "keV" if width else "", "Energy")
    axes = (*(grid.axes(scan, navigation=True) if scan else ()), energy)
    array = Numbers(technique.path, spectra, scan) if scan else Numbers(technique.path, spectra)[0]
    grid.add_to(facts)
    facts.add_axes(axes[:-1])
    signal = Signal(spectral_type(axes), "SEM_EDS", shape=(*scan, channels), native=technique.native)
    signal.pixels = Pixels(array, axes)
    return facts.give_to(signal)


def _element_maps(technique: _Technique) -> tuple[tuple[Layer, ...], list[str]]:
    """Maps of the best kind, and the elements that they are of."""
    group = next((group for group in ELEMENT_MAPS if technique.names(group)), "")
    layers = []
    elements: dict[str, None] = {}
    for name in technique.names(group) if group else ():
        dataset = technique.dataset(f"{group}/{name}")
        array = technique.map(dataset)
        if array is not None:
            layers.append(Layer(name, array))
        symbol = name.split()[0] if name.split() else ""
        if symbol in ELEMENTS:
            elements[symbol] = None
    return tuple(layers), list(elements)


def _images(technique: _Technique) -> Iterator[Signal]:
    kinds = [(kind, name) for kind in ("SE", "BSE", "FSE") for name in technique.names(kind)]
    paths = [(kind, f"{kind}/{name}", name) for kind, name in kinds]
    if technique.dataset("Color") is not None:
        paths.append(("", "Color", technique.place.rpartition("/")[2]))
    for kind, path, name in paths:
        dataset, grid, facts = technique.dataset(path), technique.grid, technique.facts(IMAGE)
        facts.add("detector_type", kind)
        scan = grid.scan(int(dataset.shape[0])) if dataset.shape else ()
        array = Numbers(technique.path, dataset, scan) if len(scan) == 2 else None
        if array is None:
            facts.warnings["Pixels"] = "The image does not have the size that its header says, and is not shown."
        signal = map_signal(
            facts, grid, array, technique.native, dataset_type="Image", data_type="SEM_Imaging", name=name
        )
        yield _dated(signal, technique, facts)


def _dated(signal: Signal, technique: _Technique, facts: Facts) -> Signal:
    signal.acquired = technique.acquired(facts)
    return facts.give_to(signal)


EXTRACTOR = OxfordH5oina()
