"""Every other format that HyperSpy's readers (RosettaSciIO) know, with the metadata that they have in common.

RosettaSciIO's readers are called one by one, never through ``hyperspy.load``: that looks for other files
when a name has ``*``, ``?`` or brackets in it, and gives up where two readers claim an extension. The
reader is chosen here, by extension and content. Before it sees the file, everything that could lead it out
of the file is refused: external storage and links in HDF5, linked or foreign companions.

The names in the readers' ``metadata`` and their units are those of HyperSpy's documentation ("Metadata
structure"): energies in keV, currents in nA, camera length and stage in mm, angles of the beam in mrad, times
in s.
"""

import contextlib
import math
import re
import stat
import struct
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone, tzinfo
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from nexuslims_pipeline.extraction.facts import METRES, Facts, bounded, is_reciprocal, spectral_type
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.raster import open_tiff, tiff_raster
from nexuslims_pipeline.extraction.vendor_text import local_time, parse_xml
from nexuslims_pipeline.signals import Axis, DatasetType, Pixels, Signal, Source

HDF5 = "hdf5"
"""Stands for the reader of an HDF5 file until its content has been seen."""
READERS = {
    ".ali": "mrc", ".app5": "topspin", ".bcf": "bruker", ".blo": "blockfile", ".csv": "", ".de5": "emd",
    ".dens": "dens", ".eds": "jeol", ".elid": "phenom", ".emd": "emd", ".h5": HDF5, ".hdf5": HDF5,
    ".hspy": "hspy",
    ".img": "", ".map": "", ".mib": "quantumdetector", ".mrc": "mrc", ".mrcz": "mrcz", ".nc": "netcdf",
    ".npy": "numpy", ".nxs": "nexus", ".pro": "digitalsurf", ".prz": "pantarhei", ".rpl": "ripple",
    ".sac": "quadstar", ".sbc": "quadstar", ".spx": "bruker", ".sur": "digitalsurf", ".tif": "tiff",
    ".tiff": "tiff", ".tvf": "trivista", ".tvips": "tvips", ".unf": "semper", ".wdf": "renishaw", ".xml": "",
}  # fmt: skip
"""Reader by extension; empty where the first bytes decide.

Left out on purpose: JEOL's ``.pts`` and ``.asw`` (1 GB of memory for 1 MB of file), ``.spd`` and ``.lsd``
(their companions are opened by guessed names), ``.zspy`` (a folder).
"""
MAGIC = (
    (".csv", 0, b"Experiment time", "impulse"),
    (".csv", 0, b"Time, Notes,", "protochips"),
    (".img", 4, b"JED-2200", "jeol"),
    (".img", 0, b"IM", "hamamatsu"),
    (".map", 4, b"JED-2200", "jeol"),
    (".map", 208, b"MAP ", "mrc"),
)
"""Extension, place, bytes at that place and reader."""
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
HDF5_READERS = frozenset({HDF5, "hspy", "emd", "nexus", "topspin"})
LAZY = frozenset({
    "bruker", "hspy", "mrc", "netcdf", "nexus", "numpy", "quantumdetector", "ripple", "semper", "tiff",
    "tofwerk", "topspin", "tvips",
})  # fmt: skip
"""Readers whose lazy mode is cheaper than reading everything; Velox's is ten times slower."""
OPTIONS: dict[str, dict[str, Any]] = {
    "delmic": {"signal": "all"},
    "tofwerk": {"signal": ["sum_spectrum", "nominal_peak_data", "fib_images"]},
    "topspin": {"show_progressbar": False},
}
EAGER_LIMIT = 1 << 30
"""Bytes of numbers that a reader without a lazy mode may hold."""
COMPANION_SUFFIXES = (".raw", ".hdr", ".txt", ".xml")
"""Endings of companions that readers open by themselves."""
MAX_DEPTH = 64
MAX_OBJECTS = 200_000
MAX_XML = 1 << 24

LOGS = frozenset({"dens", "impulse", "protochips"})
"""Readers of the logs of heaters and gas cells, which are no spectra."""
CAMERAS = frozenset({"arina", "blockfile", "empad", "quantumdetector", "topspin"})
"""Readers of cameras for electron diffraction."""
OPTICAL = frozenset({"hamamatsu", "jobinyvon", "renishaw", "trivista"})
DETECTORS = re.compile(r"(?<![A-Za-z])(HAADF|MAADF|LAADF|ADF|ABF|BF|DF)(?![A-Za-z])")
TECHNIQUES = {"EELS": "EELS", "EDS": "EDS", "CL": "CL", "EBSD": "EBSD", "FIB-SIMS": "TOFSIMS", "MS": "MS"}
"""Techniques by the start of HyperSpy's ``signal_type``."""
COLUMNS = ("SEM", "TEM", "FIB_SIMS")

VALUES: dict[str, tuple[str, str | None]] = {
    "beam_energy": ("acceleration_voltage", "kV"),
    "beam_current": ("beam_current", "nA"),
    "magnification": ("magnification", None),
    "camera_length": ("camera_length", "mm"),
    "convergence_angle": ("convergence_angle", "mrad"),
    "working_distance": ("working_distance", "mm"),
    "dwell_time": ("dwell_time", "s"),
    "microscope": ("Microscope", None),
    "acquisition_mode": ("Acquisition Mode", None),
    "Stage.x": ("stage_x", "mm"),
    "Stage.y": ("stage_y", "mm"),
    "Stage.z": ("stage_z", "mm"),
    "Stage.rotation": ("stage_rotation", "deg"),
    "Stage.tilt": ("stage_tilt", "deg"),
    "Stage.tilt_alpha": ("stage_alpha", "deg"),
    "Stage.tilt_beta": ("stage_beta", "deg"),
    "Detector.EDS.live_time": ("live_time", "s"),
    "Detector.EDS.real_time": ("real_time", "s"),
    "Detector.EDS.azimuth_angle": ("azimuthal_angle", "deg"),
    "Detector.EDS.elevation_angle": ("elevation_angle", "deg"),
    "Detector.EDS.energy_resolution_MnKa": ("detector_energy_resolution", "eV"),
    "Detector.EDS.detector_type": ("detector_type", None),
    "Detector.EELS.collection_angle": ("collection_angle", "mrad"),
    "Detector.EELS.exposure": ("exposure_time", "s"),
    "Detector.EELS.dwell_time": ("pixel_time", "s"),
    "Detector.EELS.spectrometer": ("acquisition_device", None),
    "Detector.Camera.exposure": ("exposure_time", "s"),
    "Detector.Camera.name": ("acquisition_device", None),
    "Detector.detector_type": ("detector_type", None),
    "Detector.integration_time": ("acquisition_time", "s"),
    "Laser.wavelength": ("Laser Wavelength", "nm"),
    "FIB.hardware": ("FIB Hardware", None),
    "FIB.voltage_kV": ("acceleration_voltage", "kV"),
    "FIB.current_A": ("beam_current", "A"),
    "FIB.view_field_mm": ("horizontal_field_width", "mm"),
    "FIB.pixel_size_um": ("Pixel Size", "µm"),
}
"""Paths below ``Acquisition_instrument.<column>``: name and HyperSpy's unit."""
STAGE_UNITS = {"bruker": "µm", "emd": "m", "mrc": "m"}
"""Unit of the stage's position where a reader passes on the vendor's instead of millimetres."""
NEVER_ZERO = frozenset({
    "acceleration_voltage", "beam_current", "camera_length", "collection_angle", "convergence_angle",
    "dwell_time", "magnification", "working_distance",
})  # fmt: skip
"""Values that are unknown where the file says 0."""
MISSPELT = {"mR": "mrad", "Degrees": "deg", "": None}
"""Units that readers pass on and that mean something else, or nothing, to pint."""
MAGNIFICATION = re.compile(r"([\d.]+)\s*([kKM]?)\s*[xX]?")


class HyperSpyExtractor(Extractor):
    """Whatever RosettaSciIO reads and no other extractor does."""

    name: ClassVar[str] = "hyperspy"
    version: ClassVar[str] = "2"
    rank: ClassVar[int] = 10
    extensions: ClassVar[frozenset[str]] = frozenset(READERS)

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether the first bytes fit a reader of this extension."""
        return bool(_reader(source.path, head))

    def extract(self, source: Source) -> list[Signal]:
        """Every signal that the reader gives."""
        with source.path.open("rb") as file:
            reader = _reader(source.path, file.read(4096))
        try:
            return _read(source, reader)
        except ExtractionError as fault:
            if reader != "tiff":
                raise
            return _as_picture(source, fault)


def _as_picture(source: Source, fault: ExtractionError) -> list[Signal]:
    """Read a TIFF as a mere picture where the reader fails on its metadata or its compression."""
    from nexuslims_pipeline.extraction.formats import plain_image

    signals = plain_image.EXTRACTOR.extract(source)
    for signal in signals:
        signal.warnings["Vendor Metadata"] = str(fault)
    return signals


def _reader(path: Path, head: bytes) -> str:
    """Name of RosettaSciIO's reader for a file, empty when there is none."""
    extension = path.suffix.lower()
    reader = READERS.get(extension, "")
    if reader in HDF5_READERS:
        return reader if any(head.startswith(HDF5_MAGIC, place) for place in (0, 512, 1024, 2048)) else ""
    if extension == ".xml":
        return "jobinyvon" if b"<LSX_Data" in head else "empad" if b"<raw_file " in head else ""
    if extension in (".tif", ".tiff"):
        return reader if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+") else ""
    for ending, place, magic, sniffed in MAGIC:
        if ending == extension and head[place : place + len(magic)] == magic:
            return sniffed
    return reader


def _read(source: Source, reader: str) -> list[Signal]:
    _refuse_foreign_companions(source.path, reader)
    size = source.size
    if reader in HDF5_READERS:
        size = check_hdf5(source.path)
        reader = _hdf5_reader(source.path) if reader == HDF5 else reader
    elif reader == "mrc":
        _check_mrc(source)
    elif reader == "numpy":
        _refuse_objects(source.path)
    dictionaries = _dictionaries(source.path, reader, size)
    signals = [_signal(dictionary, reader) for dictionary in dictionaries]
    if reader == "tiff":
        _map_pixels(source.path, signals)
    dated = next((signal.acquired for signal in signals if signal.acquired), None)
    for signal in signals:
        signal.acquired = signal.acquired or dated
    if not signals:
        msg = f"RosettaSciIO's reader {reader!r} found nothing in it: it is cut off or of another kind"
        raise ExtractionError(msg)
    return signals


def _map_pixels(path: Path, signals: list[Signal]) -> None:
    """Take pixels from the TIFF itself: tifffile would decode lazy ones into a temporary file, which is forbidden."""
    with open_tiff(path) as tiff:
        raster = tiff_raster(tiff, path)
    for signal in signals:
        if signal.pixels is not None and raster.array is not None and signal.shape == raster.shape:
            signal.pixels = Pixels(raster.array, signal.pixels.axes)


def _dictionaries(path: Path, reader: str, size: int) -> list[dict[str, Any]]:
    """Call the reader: lazily where it can and the file allows it, at once where the numbers are few."""
    try:
        function = import_module(f"rsciio.{reader}").file_reader
        options = OPTIONS.get(reader, {})
        if reader in LAZY:
            try:
                return list(function(str(path), lazy=True, **options))
            except Exception:
                if size > EAGER_LIMIT:
                    raise
        if size <= EAGER_LIMIT:
            return list(function(str(path), **options))
    except ImportError as fault:
        msg = f"the reader for this format needs a Python package that is not installed: {fault}"
        raise ExtractionError(msg) from fault
    except Exception as fault:
        msg = f"RosettaSciIO's reader {reader!r} failed: {type(fault).__name__}: {str(fault)[:300]}"
        raise ExtractionError(msg) from fault
    msg = f"it holds {size / 1e9:.1f} GB of numbers, more than its reader can take at once"
    raise ExtractionError(msg)


def _refuse_foreign_companions(path: Path, reader: str) -> None:
    """Stop a reader from following a companion out of the folder."""
    names = {path.with_suffix(ending).name for ending in COMPANION_SUFFIXES} - {path.name}
    if reader == "empad":
        with path.open("rb") as file:
            root = parse_xml(file.read(MAX_XML))
        element = root.find("raw_file")
        name = element.get("filename") if element is not None else None
        if not name or name != Path(name).name or not path.with_name(name).is_file():
            msg = f"the numbers are to be in {name!r}, which is no file of the same folder"
            raise ExtractionError(msg)
        names.add(name)
    for name in names:
        with contextlib.suppress(FileNotFoundError, ValueError):
            if not stat.S_ISREG(path.with_name(name).lstat().st_mode):
                msg = f"its companion {name} is a link or no regular file, which is not followed"
                raise ExtractionError(msg)


def _check_mrc(source: Source) -> None:
    """Compare the header's dimensions with the file: the reader would try to count absurd ones.

    Header: columns, rows, sections and number type, each 4 bytes; bytes 92 to 95 the length of the extended
    header, which follows the 1024 bytes of the header (https://www.ccpem.ac.uk/mrc_format/mrc2014.php).
    """
    with source.path.open("rb") as file:
        head = file.read(1024)
    if len(head) < 1024:
        msg = "the file is cut off within its header"
        raise ExtractionError(msg)
    columns, rows, sections, mode = struct.unpack_from("<4i", head)
    (extended,) = struct.unpack_from("<i", head, 92)
    width = {0: 1, 1: 2, 2: 4, 3: 4, 4: 8, 6: 2, 12: 2, 16: 3, 101: 0.5}.get(mode, 0)
    if min(columns, rows, sections) < 1 or not width:
        msg = f"the header is damaged: {columns} × {rows} × {sections} numbers of type {mode}"
        raise ExtractionError(msg)
    if 1024 + max(extended, 0) + columns * rows * sections * width > source.size:
        msg = f"the file is cut off: it is too short for {columns} × {rows} × {sections} numbers"
        raise ExtractionError(msg)


def _refuse_objects(path: Path) -> None:
    """Stop a NumPy file of Python objects, which only unpickling could read."""
    import numpy as np

    try:
        np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as fault:
        msg = f"it is damaged or holds Python objects, which are not read: {fault}"
        raise ExtractionError(msg) from fault


def check_hdf5(path: Path) -> int:
    """Walk through an HDF5 file without leaving it.

    Parameters
    ----------
    path
        The file; soft links within it are allowed.

    Returns
    -------
    int
        Bytes of all its datasets when unpacked.

    Raises
    ------
    ExtractionError
        When it leads to another file (external links, external storage, virtual datasets), is nested absurdly
        deeply, or is no HDF5 file.
    """
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as file:
            return sum(_dataset_bytes(dataset) for dataset in _datasets(file))
    except (OSError, RuntimeError, KeyError, ValueError) as fault:
        msg = f"the HDF5 file is cut off or damaged: {str(fault)[:200]}"
        raise ExtractionError(msg) from fault


def _dataset_bytes(dataset: Any) -> int:
    if dataset.external:
        msg = f"{dataset.name} keeps its numbers in another file, which is not followed"
        raise ExtractionError(msg)
    if dataset.is_virtual and any(part.file_name != "." for part in dataset.virtual_sources()):
        msg = f"{dataset.name} is put together from other files, which are not followed"
        raise ExtractionError(msg)
    return int(dataset.size or 0) * int(dataset.dtype.itemsize)


def _datasets(file: Any) -> Iterator[Any]:
    """Every dataset once, also where hard links make a ring."""
    import h5py

    waiting = [(file, 0)]
    seen: set[int] = set()
    while waiting:
        group, depth = waiting.pop()
        if depth > MAX_DEPTH or len(seen) > MAX_OBJECTS:
            msg = f"{group.name[:80]} is nested too deeply, or the file has too many objects"
            raise ExtractionError(msg)
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                msg = f"{group.name}/{name} is a link to another file, which is not followed"
                raise ExtractionError(msg)
            if not isinstance(link, h5py.HardLink):
                continue
            found = group[name]
            address = h5py.h5o.get_info(found.id).addr
            if address in seen:
                continue
            seen.add(address)
            if isinstance(found, h5py.Group):
                waiting.append((found, depth + 1))
            elif isinstance(found, h5py.Dataset):
                yield found


def _hdf5_reader(path: Path) -> str:
    """Reader of a ``.h5`` or ``.hdf5`` file, by what stands at its root."""
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        names, attributes = set(file), set(file.attrs)
        if "Experiments" in names and "file_format_version" in attributes:
            return "hspy"
        if "TofDAQ Version" in attributes or {"FullSpectra", "FIBParams"} <= names:
            return "tofwerk"
        if "Acquisition0" in names:
            return "delmic"
        if "version_major" in attributes or "emd_group_type" in attributes:
            return "emd"
        if any("NX_class" in group.attrs for group in file.values()):
            return "nexus"
    msg = f"no reader knows this arrangement of an HDF5 file (at its root: {', '.join(sorted(names)[:6])})"
    raise ExtractionError(msg)


def _signal(dictionary: Mapping[str, Any], reader: str) -> Signal:
    """One of the reader's dictionaries as a dataset."""
    data = dictionary["data"]
    metadata, original = _mapped(dictionary), dictionary.get("original_metadata") or {}
    axes, order = _axes(data, dictionary.get("axes") or [], metadata)
    facts = Facts()
    _add_instrument(facts, metadata, reader)
    _add_general(facts, metadata)
    facts.add_axes(axes)
    dataset_type = _dataset_type(axes, metadata, reader, getattr(data.dtype, "kind", ""))
    signal = Signal(
        dataset_type,
        _data_type(dataset_type, axes, metadata, reader),
        shape=tuple(axis.size for axis in axes),
        name=str(_at(metadata, "General.title") or ""),
        acquired=_acquired(metadata, facts),
        native=bounded({"metadata": metadata, "original_metadata": original}),
        pixels=Pixels(data.transpose(order), axes) if data.dtype.kind != "O" and data.ndim else None,
    )
    return facts.give_to(signal)


def _at(tree: Any, path: str) -> Any:
    """Value at a dotted path; HyperSpy's paths have ``_`` for blanks and drop other punctuation."""
    for part in path.split("."):
        if not isinstance(tree, Mapping):
            return None
        if part not in tree:
            part = next((key for key in tree if _slug(str(key)) == _slug(part)), part)  # noqa: PLW2901
        tree = tree.get(part)
    return tree


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "", name.replace(" ", "_"))


def _mapped(dictionary: Mapping[str, Any]) -> dict[str, Any]:
    """Complete the reader's ``metadata`` with what its ``mapping`` takes over from the vendor's."""
    metadata: dict[str, Any] = _copied(dictionary.get("metadata") or {})
    original = dictionary.get("original_metadata") or {}
    for path, (target, convert) in (dictionary.get("mapping") or {}).items():
        value = _at(original, path)
        if value is None:
            continue
        with contextlib.suppress(Exception):
            value = convert(value) if convert else value
            if value is not None:
                _put(metadata, target, value)
    _add_velox_mode(metadata, _at(original, "Optics"))
    return metadata


def _add_velox_mode(metadata: dict[str, Any], optics: Any) -> None:
    """Velox's ``OperatingMode`` (1 TEM, 2 STEM) and nominal magnification, which the reader leaves out."""
    mode = {"1": "TEM", "2": "STEM"}.get(str(_at(optics, "OperatingMode")))
    magnification = _finite(_at(optics, "NominalMagnification"), 0.0)
    if mode:
        _put(metadata, "Acquisition_instrument.TEM.acquisition_mode", mode)
    if magnification:
        _put(metadata, "Acquisition_instrument.TEM.magnification", magnification)


def _copied(tree: Any) -> Any:
    return {str(key): _copied(value) for key, value in tree.items()} if isinstance(tree, Mapping) else tree


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[name] = value


def _axes(data: Any, described: list[Any], metadata: Mapping[str, Any]) -> tuple[tuple[Axis, ...], tuple[int, ...]]:
    """Axes, navigation first, and their places in the array."""
    count = len(data.shape)
    if len(described) != count:
        described = [{}] * count
    told = [axis.get("navigate") for axis in described]
    if None in told:
        recorded = {"spectrum": 1, "image": 2}.get(str(_at(metadata, "Signal.record_by")), min(count, 2))
        told = [n < count - recorded for n in range(count)]
    if count and all(told):
        told = [n < count - 2 for n in range(count)]
    signal_axes = [n for n in range(count) if not told[n]][-2:]
    order = (*(n for n in range(count) if n not in signal_axes), *signal_axes)
    return tuple(_axis(described[n], int(data.shape[n]), n not in signal_axes) for n in order), order


def _axis(described: Mapping[str, Any], size: int, navigation: bool) -> Axis:
    values = described.get("axis")
    scale, offset = described.get("scale"), described.get("offset")
    if values is not None and len(values) == size > 1:
        offset, scale = float(values[0]), (float(values[-1]) - float(values[0])) / (size - 1)
    units = str(described.get("units") or "").replace("μ", "µ")
    return Axis(
        size,
        scale=_finite(scale, 1.0),
        offset=_finite(offset, 0.0),
        units="" if units in ("[]", "None", "<undefined>") else units,
        name=str(described.get("name") or ""),
        navigation=navigation,
    )


def _finite(value: Any, default: float) -> float:
    with contextlib.suppress(TypeError, ValueError):
        if math.isfinite(float(value)):
            return float(value)
    return default


def _dataset_type(axes: tuple[Axis, ...], metadata: Mapping[str, Any], reader: str, kind: str) -> DatasetType:
    """Type by the numbers' axes; the reader's ``signal_type`` is believed only where they are silent."""
    inner = [axis for axis in axes if not axis.navigation]
    signal_type = str(_at(metadata, "Signal.signal_type") or "")
    if not inner or reader in LOGS or (reader == "nexus" and len(axes) == 1 and not signal_type):
        return "Misc"
    if len(inner) == 1:
        return spectral_type(axes)
    if reader == "delmic" and len(axes) == 4:
        return "SpectrumImage"
    lengths = sum(axis.units in METRES for axis in inner)
    if signal_type == "LumiTransientSpectrum" or (lengths == 1 and not is_reciprocal(_other(inner))):
        return "SpectrumImage"
    if kind == "c" or (lengths and not all(is_reciprocal(axis.units) for axis in inner)):
        return "Image"
    scanned = sum(axis.navigation for axis in axes) == 2
    told = reader in CAMERAS or signal_type.endswith("diffraction")
    return "Diffraction" if told or scanned or all(is_reciprocal(axis.units) for axis in inner) else "Image"


def _other(inner: list[Axis]) -> str:
    """Units of the signal axis that is no length."""
    return next((axis.units for axis in inner if axis.units not in METRES), "")


def _data_type(dataset_type: DatasetType, axes: tuple[Axis, ...], metadata: Mapping[str, Any], reader: str) -> str:
    signal_type = str(_at(metadata, "Signal.signal_type") or "")
    technique = next((name for start, name in TECHNIQUES.items() if signal_type.startswith(start)), "")
    column = _column(metadata, signal_type)
    if reader == "delmic":
        return "SEM_Imaging" if dataset_type == "Image" else "SEM_CL"
    if technique and dataset_type not in ("Image", "Diffraction"):
        column = "STEM" if column == "TEM" and dataset_type == "SpectrumImage" else column
        return f"{column}_{technique}".lstrip("_")
    if dataset_type == "Diffraction":
        scanned = sum(axis.navigation for axis in axes) == 2
        return "STEM_Diffraction" if scanned else f"{column or 'TEM'}_Diffraction"
    if reader in OPTICAL:
        return "Optical_Spectroscopy"
    if dataset_type != "Image" or not column:
        return "Unknown"
    named = set(DETECTORS.findall(str(_at(metadata, "General.title") or "")))
    return f"{column}_{named.pop()}" if column == "STEM" and len(named) == 1 else f"{column}_Imaging"


def _column(metadata: Mapping[str, Any], signal_type: str) -> str:
    instrument = metadata.get("Acquisition_instrument")
    present = [name for name in COLUMNS if isinstance(instrument, Mapping) and name in instrument]
    if present == ["FIB_SIMS"]:
        return "FIB"
    mode = str(_at(instrument, f"{present[0]}.acquisition_mode") or "") if present else ""
    if "STEM" in mode.upper() or DETECTORS.search(str(_at(metadata, "General.title") or "")):
        return "STEM"
    return present[0] if present else signal_type[-3:] if signal_type[-4:] in ("_SEM", "_TEM") else ""


def _add_instrument(facts: Facts, metadata: Mapping[str, Any], reader: str) -> None:
    """Everything in ``Acquisition_instrument``: named values as fields, the rest as extensions."""
    instrument = metadata.get("Acquisition_instrument")
    for path, value in _leaves(instrument) if isinstance(instrument, Mapping) else ():
        column, _, rest = path.partition(".")
        inner = rest if column in COLUMNS else path
        if inner.endswith("_units"):
            continue
        known = VALUES.get(inner)
        if known is None:
            group, _, name = inner.rpartition(".")
            facts.add(_title(name), value, None, _title(group.replace(".", " ")) or None)
            continue
        name, unit = known
        if name == "stage_alpha" and column == "SEM":
            name = "stage_tilt"
        if inner in ("Stage.x", "Stage.y", "Stage.z"):
            unit = STAGE_UNITS.get(reader, unit)
        _add_in(facts, name, value, _at(instrument, f"{path}_units") or unit)


def _add_in(facts: Facts, name: str, value: Any, unit: Any) -> None:
    """Keep a value in its own unit; an electron energy in keV and a voltage in kV are the same number."""
    if name == "acceleration_voltage":
        unit = str(unit).replace("eV", "V")
    unit = MISSPELT.get(str(unit), unit)
    if name == "magnification" and (found := MAGNIFICATION.fullmatch(str(value).strip())):
        value = _finite(found[1], 0.0) * {"": 1, "K": 1e3, "M": 1e6}[found[2].upper()]
    if name in NEVER_ZERO and _finite(value, 1.0) == 0:
        return
    try:
        facts.add(name, value, None if unit is None else str(unit))
    except (AttributeError, LookupError, ArithmeticError, TypeError):
        facts.warnings[name] = f"the file says {str(value)[:60]} {unit}, which is no known unit"


def _leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{key}.")
        elif isinstance(value, str | bool | int | float) or getattr(value, "ndim", 1) == 0:
            yield f"{path}{key}", value


def _title(name: str) -> str:
    return " ".join(word[:1].upper() + word[1:] for word in name.replace("_", " ").split())


def _add_general(facts: Facts, metadata: Mapping[str, Any]) -> None:
    for path, name in (
        ("General.authors", "operator"),
        ("General.notes", "Notes"),
        ("Sample.name", "specimen"),
        ("Sample.description", "specimen"),
        ("Signal.quantity", "Quantity"),
    ):
        value = _at(metadata, path)
        facts.add(name, value if isinstance(value, str) else None)
    elements = _at(metadata, "Sample.elements")
    if hasattr(elements, "__iter__") and not isinstance(elements, str):
        facts.add("elements", [str(element) for element in elements])


def _acquired(metadata: Mapping[str, Any], facts: Facts) -> datetime | None:
    """``General.date`` and ``time``, in ``time_zone`` where that is known."""
    general = [_at(metadata, f"General.{name}") for name in ("date", "time", "time_zone")]
    day, clock, zone = (str(value or "").strip() for value in general)
    if not day:
        return None
    clock = re.sub(r"(\.\d{6})\d+", r"\1", clock)
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}" if clock else day)
    except ValueError:
        try:
            moment = local_time(day, clock or "00:00")
        except ValueError:
            facts.warnings["Creation Time"] = f"the date {day[:40]!r} could not be read"
            return None
    if moment.year < 1980:
        facts.warnings["Creation Time"] = f"the date {day[:40]!r} cannot be right"
        return None
    if not clock and len(day) <= 11:
        facts.warnings["Creation Time"] = "the file says the day, but not the time"
    return moment if moment.tzinfo else moment.replace(tzinfo=_zone(zone))


def _zone(name: str) -> tzinfo | None:
    """Zone named ``UTC``, ``Europe/Zurich`` or ``+09:00``; None for the clock of the instrument."""
    found = re.fullmatch(r"([+-])(\d{2}):?(\d{2})", name)
    if found:
        minutes = int(found[2]) * 60 + int(found[3])
        return timezone(timedelta(minutes=minutes if found[1] == "+" else -minutes))
    with contextlib.suppress(ValueError, OSError, LookupError):
        return ZoneInfo(name) if name else None
    return None


EXTRACTOR = HyperSpyExtractor()
