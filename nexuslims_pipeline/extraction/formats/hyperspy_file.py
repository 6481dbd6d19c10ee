"""Signals that HyperSpy saved: ``.hspy`` (earlier ``.hdf5``), which is HDF5, and ``.zspy``, a Zarr store in a zip.

Below ``Experiments`` stands a group for each signal:

======================================  ==================================================================
``data``                                the numbers
``axis-0`` …                            ``name``, ``units``, ``scale``, ``offset``, ``size``, ``navigate``
``metadata``                            in HyperSpy's terms (see `extraction.rosettasciio`)
``original_metadata``                   the vendor's, as the file held it that HyperSpy once read
======================================  ==================================================================

Up to version 1.1 the last two are ``mapped_parameters`` and ``original_parameters``. Names begin with ``_list_``,
``_tuple_``, ``_list_empty_``, ``_datetime_``, ``_bs_`` or ``_sig_`` where Python's types are none of the file format;
``_None_`` is Python's None. Layout: https://hyperspy.org/rosettasciio/supported_formats/hspy.html.

``General.FileIO`` has the times when HyperSpy read and saved the signal: the first of them is used for want of better,
and said to be what it is.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded
from nexuslims_pipeline.extraction.layouts.hdf5 import Numbers, Tree, is_cut_off, is_hdf5, open_hdf5, resolved, tree_of
from nexuslims_pipeline.extraction.layouts.zarr_zip import ZarrNumbers, ZarrTree, open_zip
from nexuslims_pipeline.extraction.model import ExtractionError
from nexuslims_pipeline.extraction.rosettasciio import RosettaSciIOExtractor, at, put, signal_type_of
from nexuslims_pipeline.extraction.vendor_text import moment
from nexuslims_pipeline.signals import Axis, DatasetType, Signal, Source

ZIP_MAGIC: Final = b"PK\x03\x04"
ROOT: Final = "Experiments"
MOST_SIGNALS: Final = 64
MOST_PLACES: Final = 1 << 20
"""Longest axis whose places are read one by one."""
NOTHING: Final = "_None_"
GENERAL: Final = ("title", "date", "time", "original_filename")
SIGNAL: Final = ("record_by", "signal_origin", "signal_type")
MOVED: Final = {
    "name": "General.title",
    "signal": "Signal.signal_type",
    "TEM": "Acquisition_instrument.TEM",
    "SEM": "Acquisition_instrument.SEM",
    **{name: f"General.{name}" for name in GENERAL},
    **{name: f"Signal.{name}" for name in SIGNAL},
}
"""Where old versions kept what has another place now."""
MOVED_IN_COLUMN: Final = {
    "tilt_stage": "Stage.tilt_alpha",
    "exposure": "Detector.Camera.exposure",
    "exposure_time": "Detector.Camera.exposure",
    "EELS": "Detector.EELS",
    "EDS": "Detector.EDS",
}
ATTOLIGHT: Final = {
    "SEM.beam_acc_voltage_kv": ("acceleration_voltage", "kV"),
    "SEM.real_magnification": ("magnification", None),
    "SEM.dwell_time_scan_s": ("dwell_time", "s"),
    "SEM.chamber_pressure_torr": ("chamber_pressure", "torr"),
    "SEM.aperture_um": ("aperture_diameter", "µm"),
    "SEM.gun_lens_amps": ("Gun Lens Current", "A"),
    "SEM.obj_lens_amps": ("Objective Lens Current", "A"),
    "CCD.exposure_time_s": ("exposure_time", "s"),
    "CCD.binning": ("binning", None),
    "CCD.readout_rate_khz": ("CCD Readout Rate", "kHz"),
    "Spectrometer.central_wavelength_nm": ("Central Wavelength", "nm"),
    "Spectrometer.grating": ("Grating", "1/mm"),
}
"""Names with units in them, as LumiSpy's reader of Attolight's files gives them."""
_LISTED = re.compile(r"_(?:list|tuple)_(?:\d+_)?(.+)")
_WRITTEN_DATE = re.compile(r"datetime\.date\((\d+), (\d+), (\d+)\)")
_WRITTEN_TIME = re.compile(r"datetime\.time\((\d+), (\d+)(?:, (\d+))?(?:, \d+)?\)")


class HyperSpyFile(RosettaSciIOExtractor):
    """Signals saved by HyperSpy and the packages that build on it."""

    name: ClassVar[str] = "hyperspy_file"
    format_name: ClassVar[str] = "HyperSpy"
    version: ClassVar[str] = "1"
    reader: ClassVar[str] = "hspy"
    extensions: ClassVar[frozenset[str]] = frozenset({".hspy", ".hdf5", ".h5", ".zspy"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether it is HDF5, or a zip of Zarr, with HyperSpy's name or its group of experiments at the root."""
        try:
            if is_hdf5(head):
                with open_hdf5(source.path) as file:
                    return "file_format_version" in file.attrs and hasattr(resolved(file, ROOT), "keys")
            if head.startswith(ZIP_MAGIC):
                with open_zip(source.path) as archive:
                    return _prefix(archive.namelist()) is not None
        except ExtractionError:
            is_zip = head.startswith(ZIP_MAGIC) and source.path.suffix.lower() == ".zspy"
            return is_zip or is_cut_off(source, head, {".hspy"})
        return False

    def _load(self, path: Path, size: int) -> list[dict[str, Any]]:  # noqa: ARG002 - nothing is read at once
        """Read the metadata of every signal; the numbers stay in the file."""
        with path.open("rb") as file:
            is_zip = file.read(4) == ZIP_MAGIC
        return _zipped(path) if is_zip else _hierarchical(path)

    def complete(self, metadata: dict[str, Any], original: Any) -> None:
        """Add the date of a spectrum that came as EMSA/MAS text; `refine` keeps what has its unit in its name."""
        if not at(metadata, "General.date") and isinstance(original, Mapping) and original.get("DATE"):
            put(metadata, "General.date", str(original["DATE"]))
            if original.get("TIME"):
                put(metadata, "General.time", str(original["TIME"]))
        for path in ATTOLIGHT:
            group, _, name = path.partition(".")
            if isinstance(branch := at(metadata, f"Acquisition_instrument.{group}"), dict):
                branch.pop(name, None)
        if isinstance(branch := at(metadata, "Acquisition_instrument.SEM"), dict):
            branch.pop("FOV", None)  # LumiSpy's second name for the magnification

    def dataset_type(self, axes: tuple[Axis, ...], metadata: Mapping[str, Any], kind: str) -> DatasetType:
        """Type by the axes; of numbers that nothing describes only that they are one curve or more."""
        signal_type = signal_type_of(metadata)
        if signal_type.startswith("EBSD"):
            return "Diffraction"
        inner = [axis for axis in axes if not axis.navigation]
        if len(inner) == 1 and not signal_type and not any(axis.units or axis.name for axis in axes):
            return "Spectrum" if inner[0].size > 1 else "Unknown"
        return super().dataset_type(axes, metadata, kind)

    def data_type(self, dataset_type: DatasetType, axes: tuple[Axis, ...], metadata: Mapping[str, Any]) -> str:
        """Technique; patterns of EBSD are told by their ``signal_type``."""
        if signal_type_of(metadata).startswith("EBSD"):
            return "SEM_EBSD"
        return super().data_type(dataset_type, axes, metadata)

    def refine(self, signal: Signal, dictionary: Mapping[str, Any], source: Source) -> Signal:  # noqa: ARG002
        """Add units that are part of names, what the file says of itself, and the time of conversion."""
        facts = Facts()
        facts.add("Saved By", dictionary["package"])
        metadata = dictionary["metadata"]
        signal.native["metadata"] = bounded(metadata)
        for path, (name, unit) in ATTOLIGHT.items():
            value = at(metadata, f"Acquisition_instrument.{path}")
            if isinstance(value, int | float) and not isinstance(value, bool):
                facts.add(name, value, unit)
        if signal.pixels is None and signal.shape:
            facts.warnings["Pixels"] = "The data are of different lengths at each point (ragged), and are not shown."
        if dictionary["problem"]:
            facts.warnings["Pixels"] = f"The numbers are not read: {dictionary['problem']}."
        if damaged := dictionary.get("damaged"):
            facts.warnings["Metadata"] = f"{len(damaged)} parts of the file are damaged: {', '.join(damaged[:3])[:200]}"
        if signal.acquired is None and "Creation Time" not in signal.warnings:
            signal.acquired = _converted(metadata, facts)
        return facts.give_to(signal)


class _NoNumbers:
    """Stands for numbers that are not read."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        import numpy as np

        self.shape = shape
        self.ndim = len(shape)
        self.dtype = np.dtype(object)


def _hierarchical(path: Path) -> list[dict[str, Any]]:
    with open_hdf5(path) as file:
        root = resolved(file, ROOT)
        if root is None:
            msg = "it has no group of experiments: it is cut off, or holds a model without its signal"
            raise ExtractionError(msg)
        found = []
        for name in islice(root, MOST_SIGNALS):
            group = resolved(root, name)
            if not hasattr(group, "keys"):
                continue
            tree = tree_of(group, mark="")
            data = tree.datasets.get("data")
            if data is not None and data.shape is not None:
                numbers = Numbers(path, data) if data.dtype.kind != "O" else _NoNumbers(tuple(data.shape))
                found.append(_dictionary(tree.values, numbers, _places(tree)))
    return found


def _places(tree: Tree) -> dict[str, Any]:
    """Places along axes that are not evenly spaced."""
    return {
        name.partition("/")[0]: dataset[()]
        for name, dataset in tree.datasets.items()
        if re.fullmatch(r"axis-\d+/axis", name) and dataset.ndim == 1 and dataset.size <= MOST_PLACES
        if dataset.dtype.kind in "iuf" and not dataset.external and not dataset.is_virtual
    }


def _zipped(path: Path) -> list[dict[str, Any]]:
    with open_zip(path) as archive:
        prefix = _prefix(archive.namelist())
        tree = ZarrTree(archive)
    if prefix is None:
        msg = "it has no group of experiments: it is cut off, or no store of HyperSpy"
        raise ExtractionError(msg)
    start = f"{prefix}{ROOT}/"
    names = sorted({name.removeprefix(start).partition("/")[0] for name in tree.arrays if name.startswith(start)})
    found = []
    for name in names[:MOST_SIGNALS]:
        described = tree.arrays.get(f"{start}{name}/data")
        if described is None:
            continue
        values = _nested(tree, f"{start}{name}")
        try:
            numbers: Any = ZarrNumbers(path, f"{start}{name}/data", described)
            problem = ""
        except ExtractionError as fault:
            sizes = described.get("shape")
            whole = isinstance(sizes, list) and all(isinstance(size, int) and size >= 0 for size in sizes)
            numbers, problem = _NoNumbers(tuple(sizes or ()) if whole else ()), str(fault)
        found.append(_dictionary(values, numbers, {}, problem) | {"damaged": tree.damaged})
    return found


def _prefix(names: list[str]) -> str | None:
    """What stands before ``Experiments/`` in the archive: nothing, or the folder that was packed."""
    found = (name.partition(f"{ROOT}/")[0] for name in names if f"{ROOT}/" in name)
    return min((start for start in found if not start or start.endswith("/")), key=len, default=None)


def _nested(tree: ZarrTree, root: str) -> dict[str, Any]:
    """Attributes below a group as nested dicts, groups without any too; arrays are described in words."""
    values: dict[str, Any] = {}
    for path in sorted(tree.groups | set(tree.attributes) | {root}):
        if path == root or path.startswith(f"{root}/"):
            branch = values
            for part in path.removeprefix(root).strip("/").split("/"):
                branch = branch.setdefault(part, {}) if part and isinstance(branch, dict) else branch
            if isinstance(branch, dict):
                branch.update(tree.attributes.get(path, {}))
    return values


def _dictionary(values: dict[str, Any], numbers: Any, places: dict[str, Any], problem: str = "") -> dict[str, Any]:
    """What one of RosettaSciIO's readers would give."""
    metadata = _plain(values.get("metadata", values.get("mapped_parameters")) or {})
    original = _plain(values.get("original_metadata", values.get("original_parameters")) or {})
    axes = [_plain(values.get(f"axis-{n}") or {}) for n in range(len(numbers.shape))]
    for n, axis in enumerate(axes):
        axis["axis"] = places.get(f"axis-{n}")
        axis["units"] = str(axis.get("units") or "").strip("$")
    package = " ".join(str(values[key]) for key in ("package", "package_version") if values.get(key))
    return {
        "data": numbers,
        "axes": axes,
        "metadata": _modern(metadata if isinstance(metadata, dict) else {}),
        "original_metadata": original,
        "package": package,
        "problem": problem,
    }


def _plain(value: Any) -> Any:
    """Values under their own names, without the marks of Python's types."""
    if not isinstance(value, dict):
        return None if value == NOTHING else value
    result: dict[str, Any] = {}
    for key, item in value.items():
        if key.startswith(("_ragged_shapes_", "_sig_")) or ("@" in key and key.partition("@")[0] in value):
            continue
        if key.startswith(("_list_empty_", "_tuple_empty_")):
            result[key.partition("_empty_")[2]] = []
        elif key.startswith("_datetime_"):
            result[key.removeprefix("_datetime_")] = _written(str(item))
        elif key.startswith("_bs_"):
            result[key.removeprefix("_bs_")] = "bytes, which are not read"
        elif isinstance(item, dict) and (listed := _LISTED.fullmatch(key)):
            result[listed[1]] = [_plain(item[n]) for n in sorted(item, key=lambda n: (len(n), n))]
        elif key.startswith(("_list_", "_tuple_")):
            result[key.partition("_")[2].partition("_")[2]] = item if isinstance(item, list) else [item]
        else:
            result[key] = _plain(item)
    return result


def _written(text: str) -> str:
    """Date or time that was saved as the text of a Python object."""
    if found := _WRITTEN_DATE.fullmatch(text):
        return "{}-{:0>2}-{:0>2}".format(*found.groups())
    if found := _WRITTEN_TIME.fullmatch(text):
        return "{:0>2}:{:0>2}:{:0>2}".format(*(part or "0" for part in found.groups()))
    return text


def _modern(metadata: dict[str, Any]) -> dict[str, Any]:
    """Metadata of old versions under the names of today."""
    for name, path in MOVED.items():
        if name in metadata:
            _move(metadata, name, path)
    for column in ("TEM", "SEM"):
        branch = at(metadata, f"Acquisition_instrument.{column}")
        for name, path in MOVED_IN_COLUMN.items() if isinstance(branch, dict) else ():
            if name in branch:
                _move(branch, name, path)
    return metadata


def _move(tree: dict[str, Any], name: str, path: str) -> None:
    value = tree.pop(name)
    above = at(tree, path.rpartition(".")[0])
    if at(tree, path) is None and (above is None or isinstance(above, dict)):
        put(tree, path, value)


def _converted(metadata: Mapping[str, Any], facts: Facts) -> datetime | None:
    """When HyperSpy first had the signal in its hands."""
    steps = at(metadata, "General.FileIO")
    first = steps.get("0") if isinstance(steps, Mapping) else None
    text = first.get("timestamp") if isinstance(first, Mapping) else None
    try:
        found = moment(text) if isinstance(text, str) else None
    except ValueError:
        return None
    if found:
        verb = {"load": "read", "save": "saved"}.get(str(first.get("operation")) if first else "", "handled")
        facts.warnings["Creation Time"] = (
            f"The file does not say when it was acquired; this is when HyperSpy first {verb} it."
        )
    return found


EXTRACTOR = HyperSpyFile()
