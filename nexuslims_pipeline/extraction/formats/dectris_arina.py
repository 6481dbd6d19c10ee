"""Dectris detectors (ARINA and its kin) behind an electron microscope: three kinds of HDF5 file for one acquisition.

=========================  =============================================================================
``*_master.h5``            NeXus (NXmx): ``/entry/instrument/detector`` with exposure, energies, pixels
                           and, in ``detectorSpecific``, ``ntrigger`` × ``nimages`` frames; links to the
                           data files at ``/entry/data/data_000001`` …
``*_data_000001.h5`` …     ``/entry/data/data``: (frames, height, width)
``*.h5`` of the STEM       ``STEM Metadata`` with attributes in SI units, the pixel size in nm, and an image
programme (NOVENA)         per detector, ``name [BF]/name [BF]Image Data``
=========================  =============================================================================

Links to other files are never followed: data files are read where they are known to belong to the master.
``photon_energy`` is the energy of the electrons. https://media.dectris.com/filewriter_1_x_documentation.pdf
"""

import contextlib
import re
from bisect import bisect_right
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded
from nexuslims_pipeline.extraction.layouts.ebsd import Item, add_header, branch, count_of, nonzero, numbers_of
from nexuslims_pipeline.extraction.layouts.frames import Frames, cut_off
from nexuslims_pipeline.extraction.layouts.hdf5 import Numbers, Tree, is_hdf5, open_hdf5, resolved, tree_of
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import moment
from nexuslims_pipeline.signals import Axis, Pixels, Signal, Source

DATA: Final = "/entry/data/data"
STEM: Final = "STEM Metadata"
ELECTRON_DETECTORS: Final = ("arina", "ela", "quadro", "singla")
MOST_FILES: Final = 10_000
LARGEST_SIDE: Final = 1 << 15
DETECTOR: Final = {
    "description": Item("acquisition_device"),
    "detector_number": Item("Detector Serial Number"),
    "count_time": nonzero("exposure_time", "s"),
    "frame_time": nonzero("frame_time", "s"),
    "detector_readout_time": Item("Readout Time", "s", "Detector"),
    "detector_distance": nonzero("camera_length", "m"),
    "beam_center_x": nonzero("X in pixels", None, "Beam Centre"),
    "beam_center_y": nonzero("Y in pixels", None, "Beam Centre"),
    "x_pixel_size": nonzero("Pixel Width", "m", "Detector"),
    "y_pixel_size": nonzero("Pixel Height", "m", "Detector"),
    "sensor_material": Item("Sensor Material", None, "Detector"),
    "sensor_thickness": nonzero("Sensor Thickness", "m", "Detector"),
    "threshold_energy": nonzero("Threshold Energy", "eV", "Detector"),
    "bit_depth_image": Item("Bits of Image", None, "Detector"),
    "bit_depth_readout": Item("Bits of Readout", None, "Detector"),
    "saturation_value": Item("Saturation Value", None, "Detector"),
    "flatfield_correction_applied": Item("Flat Field Corrected", None, "Detector"),
    "countrate_correction_applied": Item("Count Rate Corrected", None, "Detector"),
    "pixel_mask_applied": Item("Pixel Mask Applied", None, "Detector"),
}
SPECIFIC: Final = {
    "software_version": Item("Detector Software"),
    "eiger_fw_version": Item("Detector Firmware"),
    "trigger_mode": Item("Trigger Mode"),
    "roi_mode": Item("Region of Interest"),
    "compression": Item("Compression"),
    "element": Item("Detected Element"),
}
SWITCHES: Final = ("flatfield_correction_applied", "countrate_correction_applied", "pixel_mask_applied")
SCAN: Final = {
    "@High Tension": nonzero("acceleration_voltage", "V"),
    "@Camera Length": nonzero("camera_length", "m"),
    "@Magnification": nonzero("magnification"),
    "@Rotation": Item("scan_rotation", "deg"),
    "@ScanDwellTime": nonzero("dwell_time", "s"),
    "@SpotSize": nonzero("spot_size"),
    "@ScanIncrement": nonzero("Scan Increment"),
}
IMAGE_DETECTORS: Final = frozenset({"BF", "ABF", "DF", "ADF", "HAADF"})


class DectrisArina(Extractor):
    """Acquisitions of Dectris detectors."""

    name: ClassVar[str] = "dectris_arina"
    format_name: ClassVar[str] = "Dectris HDF5"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".h5", ".hdf5"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether an HDF5 file is one of the three kinds."""
        if not is_hdf5(head):
            return False
        try:
            with open_hdf5(source.path) as file:
                return _is_master(file) or _is_data(file) or _is_scan(file)
        except ExtractionError:
            return False

    def extract(self, source: Source) -> list[Signal]:
        """Patterns, or the images of the scan.

        Raises
        ------
        ExtractionError
            If the file is damaged.
        """
        with open_hdf5(source.path) as file:
            if _is_master(file):
                return _master(source, tree_of(file))
            if _is_data(file):
                return [_data(source.path, file)]
            return _scan_images(source.path, tree_of(file))


def _is_master(file: Any) -> bool:
    return resolved(file, "/entry/instrument/detector/detectorSpecific/ntrigger") is not None


def _is_data(file: Any) -> bool:
    found = resolved(file, DATA)
    return getattr(found, "ndim", 0) == 3 and "image_nr_low" in found.attrs


def _is_scan(file: Any) -> bool:
    found = resolved(file, STEM)
    return found is not None and "NumPixelsX" in found.attrs and "High Tension" in found.attrs


def _master(source: Source, tree: Tree) -> list[Signal]:
    detector = branch(tree.values, "entry", "instrument", "detector")
    specific = branch(detector, "detectorSpecific")
    facts = _detector_facts(detector, specific)
    frames = count_of(specific.get("ntrigger")) * max(1, count_of(specific.get("nimages")))
    facts.add("frames", frames or None)
    prefix = source.path.stem.removesuffix("_master")
    scan = next((path for path in source.companions if path.stem == prefix and path != source.path), None)
    images, shape = _with_scan(scan, facts, frames)
    height, width = (count_of(specific.get(f"{side}_pixels_in_detector")) for side in "yx")
    parts = _parts(source, prefix)
    array = _joined(parts, tree, shape, facts)
    signal = Signal("Diffraction", "STEM_Diffraction", native=bounded(tree.values))
    if array is not None:
        signal.shape = array.shape
        axes = (
            Axis(size, name=name, navigation=True)
            for size, name in zip(array.shape[:-2], "yx"[-(array.ndim - 2) :], strict=True)
        )
        signal.pixels = Pixels(array, (*axes, Axis(array.shape[-2], name="dy"), Axis(array.shape[-1], name="dx")))
    elif 0 < height <= LARGEST_SIDE and 0 < width <= LARGEST_SIDE:
        signal.shape = (*shape, height, width) if frames else (height, width)
    signal.acquired = _acquired(specific, facts)
    for image in images:
        image.acquired = signal.acquired
    return [facts.give_to(signal), *images]


def _detector_facts(detector: dict[str, Any], specific: dict[str, Any]) -> Facts:
    facts = Facts()
    switches = {key: bool(detector[key]) for key in SWITCHES if isinstance(detector.get(key), int)}
    add_header(facts, detector | switches, DETECTOR)
    add_header(facts, specific, SPECIFIC)
    energy = numbers_of(specific.get("photon_energy"))
    if energy and energy[0] > 0:
        of_electrons = any(name in str(detector.get("description")).lower() for name in ELECTRON_DETECTORS)
        name, unit = ("acceleration_voltage", "V") if of_electrons else ("Photon Energy", "eV")
        facts.add(name, energy[0], unit)
    return facts


def _with_scan(path: Path | None, facts: Facts, frames: int) -> tuple[list[Signal], tuple[int, ...]]:
    """Images of the STEM programme's file and the shape of its scan, whose facts are added."""
    if path is None:
        return [], (frames,)
    try:
        with open_hdf5(path) as file:
            if not _is_scan(file):
                return [], (frames,)
            tree = tree_of(file)
            images = _scan_images(path, tree)
    except ExtractionError as fault:
        facts.warnings["Scan"] = f"{path.name} was not read: {fault}."
        return [], (frames,)
    values = branch(tree.values, STEM)
    add_header(facts, values, SCAN)
    rows, columns = count_of(values.get("@NumPixelsY")), count_of(values.get("@NumPixelsX"))
    return images, (rows, columns) if rows * columns == frames else (frames,)


def _parts(source: Source, prefix: str) -> list[Path]:
    """Data files of the master, in their order."""
    form = re.compile(re.escape(prefix) + r"_data_\d+", re.IGNORECASE)
    return sorted((path for path in source.companions if form.fullmatch(path.stem)), key=lambda path: path.name)


def _joined(parts: list[Path], tree: Tree, shape: tuple[int, ...], facts: Facts) -> Frames | None:
    """Frames of all data files one after the other; None when there are none that can be read."""
    linked = sum(place.startswith("entry/data/") for place in tree.links)
    if len(parts) < linked or not parts:
        facts.warnings["Pixels"] = f"The patterns lie in other files: {len(parts)} of {linked} are beside this one."
    arrays: list[Numbers] = []
    for path in parts[:MOST_FILES]:
        try:
            with open_hdf5(path) as file:
                dataset = resolved(file, DATA)
                if getattr(dataset, "ndim", 0) != 3 or (arrays and dataset.shape[1:] != arrays[0].shape[1:]):
                    facts.warnings["Pixels"] = f"{path.name} holds no patterns of the size of the others."
                    return None
                _ensure_readable(dataset)
                arrays.append(Numbers(path, dataset))
        except ExtractionError as fault:
            facts.warnings["Pixels"] = f"{path.name} was not read: {fault}."
            return None
    if not arrays:
        return None
    ends = list(accumulate(array.shape[0] for array in arrays))
    expected = shape[0] * (shape[1] if len(shape) == 2 else 1)
    if words := cut_off(ends[-1], expected):
        facts.warnings.setdefault("Pixels", words)

    def read(number: int) -> Any:
        part = bisect_right(ends, number)
        return arrays[part][number - (ends[part - 1] if part else 0)]

    scan = shape if ends[-1] >= expected > 0 else (ends[-1],)
    return Frames(scan, (arrays[0].shape[1], arrays[0].shape[2]), arrays[0].dtype, read)


def _ensure_readable(dataset: Any) -> None:
    """Refuse what is compressed in a way that HDF5 does not know here.

    Raises
    ------
    ExtractionError
        With the name of the filter.
    """
    import h5py

    plan = dataset.id.get_create_plist()
    for number in range(plan.get_nfilters()):
        code, _, _, name = plan.get_filter(number)
        if not h5py.h5z.filter_avail(code):
            with contextlib.suppress(ImportError):
                import hdf5plugin  # noqa: F401 - registers Dectris's filters with HDF5
        if not h5py.h5z.filter_avail(code):
            words = name.decode("ascii", "replace")[:60] or str(code)
            msg = f"its frames are compressed by {words}, for which the extra 'formats' has to be installed"
            raise ExtractionError(msg)


def _data(path: Path, file: Any) -> Signal:
    """Frames of a data file without its master."""
    dataset = resolved(file, DATA)
    tree = tree_of(file)
    facts = Facts()
    for key, name in (("image_nr_low", "First Frame"), ("image_nr_high", "Last Frame")):
        facts.add(name, branch(tree.values, "entry", "data").get(f"data@{key}"))
    shape = tuple(int(size) for size in dataset.shape)
    signal = Signal("Diffraction", "STEM_Diffraction", shape=shape, native=bounded(tree.values))
    try:
        _ensure_readable(dataset)
        axes = (Axis(shape[0], name="Frame", navigation=True), Axis(shape[1], name="dy"), Axis(shape[2], name="dx"))
        signal.pixels = Pixels(Numbers(path, dataset), axes)
    except ExtractionError as fault:
        facts.warnings["Pixels"] = f"The patterns are not read: {fault}."
    facts.warnings["Detector"] = "What is known of the detector stands in the master file, which is not read with it."
    return facts.give_to(signal)


def _scan_images(path: Path, tree: Tree) -> list[Signal]:
    """Images of the STEM programme, one for each of its detectors."""
    values = branch(tree.values, STEM)
    size = numbers_of(values.get("@Pixel Size"))
    signals = []
    for place, dataset in tree.datasets.items():
        group, _, name = place.rpartition("/")
        if not name.endswith("Image Data") or dataset.ndim != 2:
            continue
        facts = Facts()
        add_header(facts, values, SCAN)
        if values.get("@IsPixelSizeCalibrated") == 0 and size:
            facts.warnings["pixel_width"] = "The file says that the pixel size is not calibrated."
        kind = str(branch(tree.values, group).get("@Channel Type") or "")
        facts.add("detector_type", kind)
        scale = size[0] if size and size[0] > 0 else 0.0
        axes = tuple(
            Axis(int(length), scale or 1.0, units="nm" if scale else "", name=axis)
            for length, axis in zip(dataset.shape, "yx", strict=True)
        )
        facts.add_axes(axes)
        technique = f"STEM_{kind}" if kind in IMAGE_DETECTORS else "STEM_Imaging"
        native = bounded({STEM: values, group: branch(tree.values, group)})
        signal = Signal("Image", technique, tuple(map(int, dataset.shape)), kind or name, native=native)
        signal.pixels = Pixels(Numbers(path, dataset), axes)
        signals.append(facts.give_to(signal))
    if not signals:
        facts = Facts()
        add_header(facts, values, SCAN)
        signals.append(facts.give_to(Signal("Misc", "STEM_Diffraction", native=bounded(tree.values))))
    return signals


def _acquired(specific: dict[str, Any], facts: Facts) -> datetime | None:
    text = specific.get("data_collection_date")
    if not isinstance(text, str) or not text:
        return None
    try:
        return moment(text)
    except ValueError as fault:
        facts.warnings["Creation Time"] = f"The file says {fault}."
        return None


EXTRACTOR = DectrisArina()
