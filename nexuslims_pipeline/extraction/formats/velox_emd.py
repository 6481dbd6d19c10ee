"""Thermo Fisher / FEI Velox ``.emd``: images, spectra and spectrum images of transmission microscopes.

HDF5, in which every value is JSON text (numbers are texts as well), in SI units and radians:

=========================================  ==================================================================
place                                      content
=========================================  ==================================================================
``Version``, ``Info``                      ``{"format": "Velox", "version": "11"}``; version of the software
``Data/Image/<id>/Data``                   rows × columns × frames
``Data/Spectrum/<id>/Data``                channels × spectra
``Data/SpectrumStream/<id>/Data``          X-rays of one detector, see `velox_stream`
``Data/SpectrumImage/<id>``                the same as a cube in a code of Velox's own, which is not read
``Data/EelsSpectrumImage/<id>/Data``       columns × channels × rows, or positions × channels of a line
``Data/<kind>/<id>/Metadata``              bytes × frames: in each column the JSON of one frame, padded with NUL
``Operations``, ``Features``               how an image was made, up to version 10
``Presentation/Displays/ImageDisplay``     titles of images, up to version 10
``Displays``, ``SharedProperties``         titles and evaluation from version 11 on
=========================================  ==================================================================

A scanned spectrum image has the size of ``Scan.ScanArea`` (fractions) of ``Scan.ScanSize``. Beside it lie the
detectors' images of every frame of that scan: they are given as one image each, the mean of the frames.
https://hyperspy.org/rosettasciio/user_guide/supported_formats/emd.html
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import unquote

from nexuslims_pipeline.extraction.facts import Facts, bounded, entry, is_reciprocal, spectral_type
from nexuslims_pipeline.extraction.layouts.hdf5 import (
    Numbers,
    complete,
    ensure_own_numbers,
    is_cut_off,
    is_hdf5,
    mentions,
    open_hdf5,
    resolved,
)
from nexuslims_pipeline.extraction.layouts.velox_stream import CountedXRays
from nexuslims_pipeline.extraction.layouts.velox_tree import (
    MOST_DATASETS,
    MOST_TEXT,
    children,
    displayed_titles,
    first_metadata,
    json_of,
    number_at,
    operation_titles,
    parsed,
    selected_elements,
    text_at,
    value_at,
)
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.rosettasciio import DETECTORS
from nexuslims_pipeline.extraction.vendor_text import ELEMENTS, unix_time
from nexuslims_pipeline.metadata.units import tidy
from nexuslims_pipeline.signals import Axis, DatasetType, Layer, Pixels, Signal, Source

MEAN_BYTES: Final = 24 << 20
"""Frames that the mean image of a detector is made of."""
LARGEST_SIDE: Final = 1 << 15
MODES: Final = {"1": "TEM", "2": "STEM"}
PROJECTIONS: Final = {"1": "Diffraction", "2": "Imaging"}
PROBES: Final = {"1": "Nanoprobe", "2": "Microprobe"}
APERTURES: Final = {"C2": "condenser_aperture", "OBJ": "objective_aperture", "SA": "selected_area_aperture"}
AXIS_UNITS: Final = {"m": ("nm", 1e9), "1/m": ("1/nm", 1e-9), "rad": ("mrad", 1e3)}
KINDS: Final = ("Image", "Spectrum", "SpectrumStream", "SpectrumImage", "EelsSpectrumImage")
LOG: Final = "Text"

ENTRIES: Final = (
    entry("acceleration_voltage", "V", "Optics.AccelerationVoltage", never_zero=True),
    entry("extraction_voltage", "V", "Optics.ExtractorVoltage", never_zero=True),
    entry("emission_current", "A", "Optics.EmissionCurrent Acquisition.EmissionCurrent", never_zero=True),
    entry("beam_current", "A", "Optics.BeamCurrent", never_zero=True),
    entry("probe_current", "A", "Optics.ProbeCurrent", never_zero=True),
    entry("spot_size", "", "Optics.SpotIndex"),
    entry("defocus", "m", "Optics.Defocus", never_zero=True),
    entry("stage_x", "m", "Stage.Position.x"),
    entry("stage_y", "m", "Stage.Position.y"),
    entry("stage_z", "m", "Stage.Position.z"),
    entry("stage_alpha", "rad", "Stage.AlphaTilt"),
    entry("stage_beta", "rad", "Stage.BetaTilt"),
    entry("computer", None, "Instrument.ComputerName"),
    entry("frame_time", "s", "Scan.FrameTime", never_zero=True),
    entry("Specimen Holder", None, "Stage.HolderType"),
    entry("Screen Current", "A", "Optics.LastMeasuredScreenCurrent Optics.ScreenCurrent", never_zero=True),
    entry("Gun Lens", "", "Optics.GunLensSetting"),
    entry("Electron Source", None, "Acquisition.SourceType"),
    entry("Objective Lens Mode", None, "Optics.ObjectiveLensMode"),
    entry("High Magnification Mode", None, "Optics.HighMagnificationMode"),
    entry("TEM Submode", None, "Optics.TemOperatingSubMode"),
    entry("Energy-Filtered TEM", None, "Optics.EFTEMOn"),
    entry("Entrance Aperture Type", None, "EnergyFilter.EntranceApertureType"),
    entry("slit_width", "eV", "EnergyFilter.SlitWidth", never_zero=True),
    entry("Vacuum Mode", None, "Vacuum.VacuumMode"),
    entry("Manufacturer", None, "Instrument.Manufacturer", "Instrument"),
    entry("Serial Number", None, "Instrument.InstrumentId", "Instrument"),
    entry("Control Software Version", None, "Instrument.ControlSoftwareVersion", "Instrument"),
    entry("Sample ID", None, "Sample.SampleId", "Sample"),
    entry("Description", None, "Sample.SampleDescription", "Sample"),
)
STEM_ENTRIES: Final = (
    entry("magnification", "", "CustomProperties.StemMagnification.value", never_zero=True),
    entry("dwell_time", "s", "Scan.DwellTime", never_zero=True),
    entry("scan_rotation", "rad", "Scan.ScanRotation"),
    entry("Line Time", "s", "Scan.LineTime", never_zero=True),
    entry("Mains Lock", None, "Scan.MainsLockOn"),
    entry("Line Integration", "", "Scan.LineIntegrationCount"),
    entry("Line Interlacing", "", "Scan.LineInterlacing"),
    entry("Columns", "", "Scan.ScanSize.width", "Full Scan", never_zero=True),
    entry("Rows", "", "Scan.ScanSize.height", "Full Scan", never_zero=True),
    entry("Field Width", "m", "Optics.FullScanFieldOfView.x", "Full Scan", never_zero=True),
    entry("Field Height", "m", "Optics.FullScanFieldOfView.y", "Full Scan", never_zero=True),
)
CAMERA_LENGTH: Final = entry("camera_length", "m", "Optics.CameraLength", never_zero=True)
TEM_ENTRIES: Final = (entry("magnification", "", "Optics.NominalMagnification", never_zero=True),)
DETECTOR_ENTRIES: Final = (
    entry("inner_collection_angle", "rad", "CollectionAngleRange.begin", never_zero=True),
    entry("outer_collection_angle", "rad", "CollectionAngleRange.end", never_zero=True),
    entry("exposure_time", "s", "ExposureTime", never_zero=True),
    entry("azimuthal_angle", "rad", "AzimuthAngle"),
    entry("elevation_angle", "rad", "ElevationAngle"),
    entry("solid_angle", "sr", "CollectionAngle", never_zero=True),
    entry("shaping_time", "s", "PulseProcessTime", never_zero=True),
    entry("live_time", "s", "LiveTime", never_zero=True),
    entry("real_time", "s", "RealTime", never_zero=True),
    entry("input_count_rate", "1/s", "InputCountRate", never_zero=True),
    entry("output_count_rate", "1/s", "OutputCountRate", never_zero=True),
    entry("Electronic Noise", "eV", "ElectronicsNoise", never_zero=True),
    entry("Lowest Energy", "eV", "BeginEnergy", never_zero=True),
    entry("Detector Gain", "", "Gain"),
    entry("Detector Offset", "", "Offset"),
    entry("Exposure Mode", None, "ExposureMode"),
)
"""Places below ``Detectors.Detector-<n>``. The ``CollectionAngle`` of an X-ray detector is a solid angle: four
segments of 0.175 make the 0.7 sr of a Super-X."""


class VeloxEmd(Extractor):
    """What Velox saves: STEM and camera images, EDS and EELS spectrum images, element maps."""

    name: ClassVar[str] = "velox_emd"
    format_name: ClassVar[str] = "Thermo Velox"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".emd"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether it is HDF5 that says ``Velox``, or has Velox's groups of data and of displays."""
        if not is_hdf5(head):
            return False
        try:
            with open_hdf5(source.path) as file:
                if str(json_of(resolved(file, "Version")).get("format", "")).lower() == "velox":
                    return True
                is_shown = resolved(file, "Presentation/Displays") is not None
                return is_shown and any(resolved(file, f"Data/{kind}") is not None for kind in KINDS)
        except ExtractionError:
            return mentions(source, head, b"Velox") or is_cut_off(source, head, self.extensions)

    def extract(self, source: Source) -> list[Signal]:
        """Single spectra, images, EELS spectrum images, and the EDS spectrum image of all detectors together.

        Raises
        ------
        ExtractionError
            If the file is damaged or holds none of them.
        """
        with open_hdf5(source.path) as hdf5:
            file = _File(source.path, hdf5)
            signals = [
                *(_spectrum(file, item) for item in file.data["Spectrum"]),
                *(_image(file, item) for item in file.data["Image"]),
                *(_eels(file, item) for item in file.data["EelsSpectrumImage"]),
                *_eds_maps(file),
            ]
            if not signals:
                msg = "it holds no image and no spectrum: an acquisition that was never saved, or a copy that broke off"
                raise ExtractionError(msg)
            file.tell_the_rest(signals[0])
        return signals


@dataclass(slots=True)
class _Item:
    """One group below ``Data/<kind>``."""

    key: str
    group: Any
    tree: dict[str, Any]
    """Metadata of its first frame; those of another dataset when its own cannot be read."""
    problem: str = ""

    @property
    def numbers(self) -> Any:
        """Its dataset; None when there is none."""
        found = resolved(self.group, "Data")
        return found if getattr(found, "shape", None) and getattr(found, "dtype", None) is not None else None

    @property
    def mode(self) -> str:
        """``TEM``, ``STEM`` or nothing."""
        return MODES.get(text_at(self.tree, "Optics.OperatingMode"), "")

    @property
    def is_diffraction(self) -> bool:
        """Whether the projector showed the diffraction plane."""
        return PROJECTIONS.get(text_at(self.tree, "Optics.ProjectorMode")) == "Diffraction"


@dataclass(slots=True)
class _File:
    """What datasets of one file share."""

    path: Path
    hdf5: Any
    data: dict[str, list[_Item]] = field(init=False)
    titles: dict[str, str] = field(init=False)
    elements: list[str] = field(init=False)
    software: str = field(init=False)
    sample: Any = field(init=False)
    left_out: list[str] = field(init=False)

    def __post_init__(self) -> None:
        groups = list(resolved(self.hdf5, "Data") or ())
        self.left_out = [f"Data/{name}" for name in groups if name not in (*KINDS, LOG)]
        self.data = {kind: [_Item(*pair) for pair in self._items(kind)] for kind in KINDS}
        self._lend_metadata()
        self.titles = {**displayed_titles(self.hdf5), **operation_titles(self.hdf5)}
        self.elements = selected_elements(self.hdf5)
        version = json_of(resolved(self.hdf5, "Info")).get("applicationVersion")
        self.software = f"Velox {version}" if isinstance(version, str) else "Velox"
        samples = (item.tree.get("Sample") for items in self.data.values() for item in items)
        self.sample = next((sample for sample in samples if isinstance(sample, dict) and sample), {})

    def _items(self, kind: str) -> Iterator[tuple[str, Any, dict[str, Any], str]]:
        parent = resolved(self.hdf5, f"Data/{kind}")
        for name in list(parent if hasattr(parent, "keys") else ())[:MOST_DATASETS]:
            try:
                group = resolved(parent, name)
            except (OSError, RuntimeError, KeyError, ValueError):
                self.left_out.append(f"Data/{kind}/{name} (damaged)")
                continue
            if not hasattr(group, "keys"):
                continue
            try:
                yield name, group, first_metadata(group), ""
            except (ExtractionError, OSError, RuntimeError, KeyError, ValueError) as fault:
                yield name, group, {}, f"They cannot be read: {str(fault)[:160]}"

    def _lend_metadata(self) -> None:
        """Give datasets without metadata those of a neighbour: they come from one microscope and one moment."""
        items = [item for each in self.data.values() for item in each]
        known = next((item.tree for item in items if item.tree), {})
        for item in items:
            if not item.tree:
                item.tree = {name: value for name, value in known.items() if name not in ("BinaryResult", "Sample")}
                item.problem = item.problem or "The file has none for this dataset."
                item.problem += " Those of another dataset of the file are given." if known else ""

    def tell_the_rest(self, signal: Signal) -> None:
        """Put the log of the experiment and what was left out with the first signal."""
        log = [json_of(found).get("text") for _, found in children(self.hdf5, f"Data/{LOG}")]
        signal.native["Log"] = bounded([unquote(text) for text in log if isinstance(text, str)])
        if self.left_out:
            kinds = ", ".join(self.left_out)[:200]
            signal.warnings["Datasets"] = f"Data that are damaged or of a kind that is not known are left out: {kinds}."


class Planes:
    """Dataset ``(…, planes)`` seen as ``(planes, …)``; without its first axis when there is but one plane."""

    def __init__(self, path: Path, dataset: Any) -> None:
        self._numbers = Numbers(path, dataset)
        *inner, count = self._numbers.shape
        self._single = count == 1
        self.shape = tuple(inner) if self._single else (count, *inner)
        self.ndim = len(self.shape)
        chunks = self._numbers.chunks
        # HDF5 reads parts of large chunks unless they are compressed.
        if chunks and (dataset.compression or dataset.shuffle or dataset.id.get_create_plist().get_nfilters()):
            self.chunks = chunks[:-1] if self._single else (chunks[-1], *chunks[:-1])
        names = self._numbers.dtype.names
        self._parts = names if names and len(names) == 2 else None
        self.dtype = _complex_type() if self._parts else self._numbers.dtype

    def __getitem__(self, key: Any) -> Any:
        import numpy as np

        parts = complete(key, self.ndim)
        if self._single:
            return self._plane(0, parts)
        chosen = np.arange(self.shape[0])[parts[0]]
        planes = [self._plane(int(n), parts[1:]) for n in chosen.reshape(-1)]
        if chosen.ndim == 0:
            return planes[0]
        return np.stack(planes) if planes else np.empty((0, *self.shape[1:]), self.dtype)

    def _plane(self, index: int, parts: tuple[Any, ...]) -> Any:
        plane = self._numbers[(*parts, index)]
        if self._parts is None:
            return plane
        real, imaginary = self._parts
        return (plane[real] + 1j * plane[imaginary]).astype(self.dtype)


class MeanPlane:
    """Mean of the first planes, as many as `MEAN_BYTES` hold."""

    def __init__(self, planes: Planes) -> None:
        import numpy as np

        self.shape = planes.shape[1:]
        self.ndim = len(self.shape)
        self.dtype = planes.dtype if planes.dtype.kind == "c" else np.dtype("f4")
        size = prod(self.shape) * planes.dtype.itemsize
        self._count = max(1, min(planes.shape[0], MEAN_BYTES // max(1, size)))
        self._planes = planes

    def __getitem__(self, key: Any) -> Any:
        parts = complete(key, self.ndim)
        total = sum(self._planes[(index, *parts)].astype(self.dtype) for index in range(self._count))
        return total / self._count


def _complex_type() -> Any:
    import numpy as np

    return np.dtype("c8")


def _detectors(tree: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Detectors that the numbers come from: one, or all segments of an X-ray detector."""
    known = tree.get("Detectors")
    known = {key: each for key, each in known.items() if isinstance(each, dict)} if isinstance(known, dict) else {}
    name = text_at(tree, "BinaryResult.Detector")
    index = known.get(f"Detector-{text_at(tree, 'BinaryResult.DetectorIndex')}")
    if index is not None and (not name or index.get("DetectorName") == name):
        return [index]
    exact = [each for each in known.values() if name and each.get("DetectorName") == name]
    segments = [each for each in known.values() if name and str(each.get("DetectorName")).startswith(name)]
    return exact[:1] or segments


def _facts(file: _File, item: _Item) -> Facts:
    """What is known of the microscope and of the detector."""
    facts, tree = Facts(), {**item.tree, "Sample": item.tree.get("Sample") or file.sample}
    facts.add("software", file.software)
    facts.add("microscope", _microscope(tree))
    facts.add("illumination_mode", item.mode)
    facts.add("projection_mode", PROJECTIONS.get(text_at(tree, "Optics.ProjectorMode")))
    facts.add("Probe Mode", PROBES.get(text_at(tree, "Optics.ProbeMode")))
    facts.add("specimen", text_at(tree, "Sample.SampleDescription") or text_at(tree, "Sample.SampleId"))
    further = STEM_ENTRIES if item.mode == "STEM" else TEM_ENTRIES
    facts.add_entries((*ENTRIES, *further), lambda place: text_at(tree, place))
    if item.is_diffraction:  # in imaging mode it is that of the last diffraction pattern
        facts.add_entries([CAMERA_LENGTH], lambda place: text_at(tree, place))
    _add_convergence(facts, tree)
    _add_apertures(facts, tree)
    _add_detector(facts, item)
    if item.problem:
        facts.warnings["Vendor Metadata"] = item.problem
    return facts


def _microscope(tree: Mapping[str, Any]) -> str:
    family, model = text_at(tree, "Instrument.InstrumentClass"), text_at(tree, "Instrument.InstrumentModel")
    return model if family in model else f"{family} {model}".strip()


def _add_convergence(facts: Facts, tree: Mapping[str, Any]) -> None:
    """Semi-angle of convergence; Velox gives it a sign, by the side of the crossover."""
    angle = number_at(tree, "Optics.BeamConvergence")
    facts.add_measured("convergence_angle", abs(angle), "rad")
    if angle < 0:
        facts.warnings["convergence_angle"] = f"the file says {angle * 1e3:.4g} mrad; its size is given"


def _add_apertures(facts: Facts, tree: Mapping[str, Any]) -> None:
    apertures = value_at(tree, "Optics.Apertures")
    for aperture in apertures.values() if isinstance(apertures, dict) else ():
        name, shape = text_at(aperture, "Name"), text_at(aperture, "Type")
        if name and shape:
            group = None if name in APERTURES else "Apertures"
            facts.add_measured(APERTURES.get(name, name), number_at(aperture, "Diameter"), "m", group)


def _add_detector(facts: Facts, item: _Item) -> None:
    detectors = _detectors(item.tree)
    name = text_at(item.tree, "BinaryResult.Detector") or text_at(next(iter(detectors), {}), "DetectorName")
    is_camera = any(each.get("DetectorType") == "ImagingDetector" for each in detectors)
    facts.add("acquisition_device" if is_camera else "detector_type", name)
    facts.add_entries(DETECTOR_ENTRIES, lambda place: _agreed(detectors, place))
    if len(detectors) > 1:
        facts.add("Detector Segments", [text_at(each, "DetectorName") for each in detectors])
    if len(detectors) == 1:
        _add_camera(facts, detectors[0])


def _agreed(detectors: list[dict[str, Any]], place: str) -> str:
    """What all detectors say alike; empty when they differ."""
    told = {text for each in detectors if (text := text_at(each, place))}
    return told.pop() if len(told) == 1 else ""


def _add_camera(facts: Facts, detector: Mapping[str, Any]) -> None:
    width, height = (text_at(detector, f"Binning.{side}") for side in ("width", "height"))
    facts.add("binning", f"{width}x{height}" if width and height else None)
    edges = [text_at(detector, f"ReadOutArea.{side}") for side in ("left", "top", "right", "bottom")]
    facts.add("Read-Out Area", ", ".join(edges) if all(edges) else None)


def _acquired(item: _Item, facts: Facts) -> datetime | None:
    """Start of the acquisition, which counts seconds in UTC; of older cameras the moment of the frame."""
    custom = item.tree.get("CustomProperties")
    names = [f"Detectors[{text_at(each, 'DetectorName')}].TimeStamp" for each in _detectors(item.tree)]
    stamps = [text_at(custom.get(name), "value") for name in names] if isinstance(custom, dict) else []
    seconds = [
        number_at(item.tree, "Acquisition.AcquisitionStartDatetime.DateTime"),
        *(int(stamp) / 1e6 for stamp in stamps if stamp.isdecimal() and len(stamp) < 18),
        number_at(item.tree, "Acquisition.AcquisitionDatetime.DateTime"),
    ]
    known = next((each for each in seconds if each), None)
    try:
        return unix_time(known) if known is not None else None
    except ValueError as fault:
        facts.warnings["Creation Time"] = str(fault)
        return None


def _scan_axes(item: _Item, rows: int, columns: int, *, navigation: bool = False) -> tuple[Axis, Axis]:
    """Axes of an image or a map, as the pixel size says."""

    def axis(size: int, side: str, direction: str) -> Axis:
        written = text_at(item.tree, f"BinaryResult.PixelUnit{direction.upper()}").replace(" ", "")
        units, factor = AXIS_UNITS.get(written, (written, 1.0))
        scale = number_at(item.tree, f"BinaryResult.PixelSize.{side}") * factor
        offset = number_at(item.tree, f"BinaryResult.Offset.{direction}") * factor
        if scale <= 0:
            return Axis(size, name=direction, navigation=navigation)
        return Axis(size, tidy(scale), tidy(offset), units, direction, navigation)

    return axis(rows, "height", "y"), axis(columns, "width", "x")


def _energy_axis(item: _Item, channels: int) -> Axis:
    """Energies of an X-ray detector, which gives them in eV."""
    detector = next(iter(_detectors(item.tree)), {})
    width, start = number_at(detector, "Dispersion"), number_at(detector, "OffsetEnergy")
    if width <= 0:
        return Axis(channels, name="Energy")
    return Axis(channels, tidy(width / 1e3), tidy(start / 1e3), "keV", "Energy")


def _finished(
    file: _File,
    item: _Item,
    facts: Facts,
    kind: tuple[DatasetType, str],
    axes: tuple[Axis, ...],
    array: Any,
) -> Signal:
    """Signal of `axes` with the facts and, when there is an `array`, pixels."""
    facts.add_axes(axes)
    native = {key: value for key, value in item.tree.items() if key != "GasInjectionSystems"}
    signal = Signal(
        *kind,
        shape=tuple(axis.size for axis in axes),
        name=file.titles.get(item.key) or text_at(item.tree, "BinaryResult.Detector"),
        acquired=_acquired(item, facts),
        native=bounded({"Metadata": native, "Quantification Elements": file.elements}),
        pixels=Pixels(array, axes) if array is not None else None,
    )
    return facts.give_to(signal)


def _planes(file: _File, item: _Item, facts: Facts, dimensions: int, view: type[Any] = Planes) -> Any:
    """Numbers of a dataset of so many dimensions; None and a warning when they cannot be read."""
    try:
        numbers = item.numbers
        if numbers is None or numbers.ndim != dimensions or 0 in numbers.shape:
            facts.warnings["Pixels"] = "The file holds no numbers of the usual form here (a copy that broke off?)."
            return None
        return view(file.path, numbers)
    except (ExtractionError, OSError) as fault:
        facts.warnings["Pixels"] = f"They cannot be read: {str(fault)[:160]}"
        return None


def _spectrum(file: _File, item: _Item) -> Signal:
    facts = _facts(file, item)
    kind = f"{item.mode or 'TEM'}_EDS"
    planes = _planes(file, item, facts, 2)
    if planes is None:
        return _finished(file, item, facts, ("Spectrum", kind), (), None)
    axes: tuple[Axis, ...] = (_energy_axis(item, planes.shape[-1]),)
    if planes.ndim == 2:
        axes = (Axis(planes.shape[0], name="Spectrum", navigation=True), *axes)
    facts.add("elements", file.elements)
    return _finished(file, item, facts, (spectral_type(axes), kind), axes, planes)


def _image(file: _File, item: _Item) -> Signal:
    facts = _facts(file, item)
    planes = _planes(file, item, facts, 3)
    if planes is None:
        return _finished(file, item, facts, ("Image", f"{item.mode or 'TEM'}_Imaging"), (), None)
    rows, columns = planes.shape[-2:]
    axes: tuple[Axis, ...] = _scan_axes(item, rows, columns)
    array: Any = planes
    if planes.ndim == 3:
        facts.add("frames", planes.shape[0])
        if file.data["SpectrumImage"] or file.data["SpectrumStream"]:
            array = MeanPlane(planes)
        else:
            axes = (_time_axis(facts, planes.shape[0]), *axes)
    title = file.titles.get(item.key, "")
    kind = _image_kind(item, facts, title, axes, is_complex=planes.dtype.kind == "c")
    if kind[1].endswith(("EDS", "EELS")):
        facts.add("elements", [_element_of(title)])
    return _finished(file, item, facts, kind, axes, array)


def _time_axis(facts: Facts, frames: int) -> Axis:
    step = facts.fields.get("frame_time") or facts.fields.get("exposure_time")
    seconds = float(step.m_as("s")) if step is not None else 0.0
    return Axis(frames, seconds or 1.0, units="s" if seconds else "", name="Time", navigation=True)


def _element_of(title: str) -> str:
    """``Fe`` of the map ``Fe`` or ``Fe-EELS``; empty for other images."""
    symbol = title.partition("-")[0]
    return symbol if symbol in ELEMENTS and title in (symbol, f"{symbol}-EELS", f"{symbol}-EDS") else ""


def _image_kind(
    item: _Item, facts: Facts, title: str, axes: tuple[Axis, ...], *, is_complex: bool
) -> tuple[DatasetType, str]:
    """Type and technique of an image; neither a Fourier transform nor a scan is a diffraction pattern."""
    from_camera = text_at(item.tree, "BinaryResult.AcquisitionUnit") == "CameraImage"
    is_camera = from_camera or "acquisition_device" in facts.fields
    calibrated = not axes[-1].units or is_reciprocal(axes[-1].units)
    if is_camera and item.is_diffraction and calibrated and not is_complex and "FFT" not in title:
        return "Diffraction", "TEM_Diffraction"
    if item.mode != "STEM":
        return "Image", "TEM_Imaging"
    if _element_of(title):
        return "Image", "STEM_EELS" if title.endswith("-EELS") else "STEM_EDS"
    named = set(DETECTORS.findall(title or str(facts.fields.get("detector_type", ""))))
    is_processed = "DPC" in title or "FFT" in title or is_complex
    return "Image", f"STEM_{named.pop()}" if len(named) == 1 and not is_processed else "STEM_Imaging"


def _eels(file: _File, item: _Item) -> Signal:
    """One energy range of an EELS map: columns × channels × rows, or positions × channels."""
    facts, technique = _facts(file, item), f"{item.mode or 'TEM'}_EELS"
    _add_collection(facts, item.tree.get("CustomProperties"))
    facts.add("elements", file.elements)
    is_line = getattr(item.numbers, "ndim", 0) == 2
    array = _planes(file, item, facts, 2, Numbers) if is_line else _planes(file, item, facts, 3)
    if array is None:
        return _finished(file, item, facts, ("SpectrumImage", technique), (), None)
    columns, channels = array.shape[-2:]
    rows = array.shape[0] if array.ndim == 3 else 1
    scan = _scan_axes(item, rows, columns, navigation=True)
    axes = (*(scan if array.ndim == 3 else scan[1:]), _loss_axis(item, channels))
    signal = _finished(file, item, facts, (spectral_type(axes), technique), axes, array)
    signal.name = file.titles.get(item.key) or "EELS"
    signal.layers = _element_layers(file, (rows, columns), "-EELS")
    return signal


def _add_collection(facts: Facts, custom: Any) -> None:
    """Angles of the spectrometer's entrance."""
    for name, side in (("collection_angle", "End"), ("Inner EELS Collection Angle", "Begin")):
        angle = custom.get(f"EnergyFilter.CollectionAngleRange.{side}") if isinstance(custom, dict) else None
        facts.add_measured(name, number_at(angle, "value"), "rad")


def _loss_axis(item: _Item, channels: int) -> Axis:
    found = resolved(item.group, "AcquisitionMetadata")
    tree: dict[str, Any] = {}
    if getattr(found, "ndim", 0) == 2 and 0 < found.shape[0] <= MOST_TEXT and prod(found.chunks or (1,)) <= MOST_TEXT:
        ensure_own_numbers(found)
        tree = parsed(found[:, 0].tobytes())
    width, start = number_at(tree, "Data.dispersion"), number_at(tree, "Data.offset")
    if width <= 0:
        return Axis(channels, name="Energy loss")
    return Axis(channels, tidy(width), tidy(start), "eV", "Energy loss")


def _eds_maps(file: _File) -> Iterator[Signal]:
    """The one spectrum image of all X-ray detectors, or for files without streams what is known of it."""
    items = file.data["SpectrumStream"] or file.data["SpectrumImage"][:1]
    if not items:
        return
    item = items[0]
    facts = _facts(file, item)
    rows, columns = _scanned_size(file, item)
    channels, frames = _channels(file, item), _frames(file)
    streams = []
    for each in items if file.data["SpectrumStream"] else ():
        stream = _stream(file, each, facts)
        streams += [stream] if stream is not None else []
    if not rows or not channels:
        facts.warnings["Data Dimensions"] = "The file does not say how large the spectrum image is."
    array = CountedXRays(streams, (rows, columns, channels), frames) if streams and rows and channels else None
    if not streams:
        words = "The file holds the spectra in a code of Velox's own only, without the stream of X-rays: not drawn."
        facts.warnings.setdefault("Pixels", words)
    elif array is not None and not array.is_whole:
        facts.warnings["Preview"] = "It is drawn from the first frames only: the stream of X-rays is long."
    facts.add("frames", frames or None)
    facts.add("elements", file.elements)
    _doubt_times(facts, item)
    axes: tuple[Axis, ...] = ()
    if rows and channels:
        axes = (*_scan_axes(item, rows, columns, navigation=True), _energy_axis(item, channels))
    if len(items) > 1:
        _add_segments(facts, items)
    signal = _finished(file, item, facts, ("SpectrumImage", f"{item.mode or 'TEM'}_EDS"), axes, array)
    signal.name = file.titles.get(item.key) or "EDS"
    signal.layers = _element_layers(file, (rows, columns), "")
    yield signal


def _stream(file: _File, item: _Item, facts: Facts) -> Numbers | None:
    try:
        numbers = item.numbers
        is_stream = numbers is not None and numbers.shape[1:] == (1,) and numbers.dtype.kind == "u"
        if is_stream and prod(numbers.chunks or (1,)) * numbers.dtype.itemsize <= MEAN_BYTES:
            return Numbers(file.path, numbers)
        reason = "its form is not known"
    except (ExtractionError, OSError) as fault:
        reason = str(fault)[:160]
    facts.warnings["Pixels"] = f"A stream of X-rays cannot be read: {reason}."
    return None


def _scanned_size(file: _File, item: _Item) -> tuple[int, int]:
    """Rows and columns of a scan: its part of the full raster, or else the size of the images taken along.

    The part is rounded by Velox; an image that has its size but for one pixel tells it exactly.
    """
    size = [0, 0]
    for place, (side, first, last) in enumerate((("height", "top", "bottom"), ("width", "left", "right"))):
        part = number_at(item.tree, f"Scan.ScanArea.{last}") - number_at(item.tree, f"Scan.ScanArea.{first}")
        size[place] = round(min(number_at(item.tree, f"Scan.ScanSize.{side}"), LARGEST_SIDE) * min(part, 1.0))
    images = [each.numbers.shape[:2] for each in file.data["Image"] if getattr(each.numbers, "ndim", 0) == 3]
    if min(size) > 0:
        near = (each for each in images if abs(each[0] - size[0]) <= 1 and abs(each[1] - size[1]) <= 1)
        return next(near, (size[0], size[1]))
    return images[0] if images and max(images[0]) <= LARGEST_SIDE else (0, 0)


def _channels(file: _File, item: _Item) -> int:
    told = round(number_at(json_of(resolved(item.group, "AcquisitionSettings")), "bincount"))
    if 0 < told < 1 << 16:
        return told
    spectra = (getattr(each.numbers, "shape", (0,))[0] for each in file.data["Spectrum"])
    return next((size for size in spectra if 0 < size < 1 << 16), 0)


def _frames(file: _File) -> int:
    """Frames that the operator counted in; 0 when the file does not say."""
    for item in file.data["SpectrumImage"]:
        settings = json_of(resolved(item.group, "SpectrumImageSettings"))
        return max(0, round(min(number_at(settings, "endFramePosition"), 1e9)))
    return 0


def _doubt_times(facts: Facts, item: _Item) -> None:
    """Leave out live and real time: of a stream they are those of its first frame."""
    for name in ("live_time", "real_time", "input_count_rate", "output_count_rate"):
        facts.fields.pop(name, None)
        facts.warnings.pop(name, None)
    pixel, frames = number_at(item.tree, "Scan.DwellTime"), facts.fields.get("frames")
    if pixel and frames:
        facts.add("pixel_time", pixel * frames, "s")


def _add_segments(facts: Facts, items: list[_Item]) -> None:
    """Name the detectors whose counts are added up; what only one of them says is left out."""
    detectors = [detector for item in items for detector in _detectors(item.tree)[:1]]
    names = [text_at(detector, "DetectorName") for detector in detectors]
    facts.add("Detector Segments", sorted(name for name in names if name))
    if len({text_at(detector, "AzimuthAngle") for detector in detectors}) > 1:
        facts.fields.pop("azimuthal_angle", None)
    common = names[0].rstrip("0123456789") if names else ""
    if common and all(name.startswith(common) for name in names):
        shared = next((n for n in range(len(names[0]), 0, -1) if all(name[:n] == names[0][:n] for name in names)), 0)
        facts.add("detector_type", names[0][:shared])


def _element_layers(file: _File, size: tuple[int, int], ending: str) -> tuple[Layer, ...]:
    """Element maps of a spectrum image, those of selected elements first."""
    layers = []
    for item in file.data["Image"]:
        title, numbers = file.titles.get(item.key, ""), item.numbers
        symbol = _element_of(title)
        if symbol and title == symbol + ending and getattr(numbers, "shape", ()) == (*size, 1):
            layers.append(Layer(symbol, Planes(file.path, numbers)))
    order = {symbol: place for place, symbol in enumerate(file.elements)}
    return tuple(sorted(layers, key=lambda layer: order.get(layer.name, len(order))))


EXTRACTOR = VeloxEmd()
