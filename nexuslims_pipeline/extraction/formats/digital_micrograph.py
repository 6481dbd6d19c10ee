"""Gatan DigitalMicrograph files, DM3 and DM4: one signal per image in the file, thumbnails left out.

The file is one tree of tags; only the tags are read, the pixels stay in the file until somebody slices them.

Layout, as documented by Dr Chris Boothroyd (Ernst Ruska-Centre, "DM3 format" and "DM4 changes"). Counts and
lengths written N are 4 bytes in DM3 and 8 in DM4, big-endian always; values follow the byte order that the
header names.

=========  ==========================================================================================
file       version (4 bytes), file size (N), little-endian flag (4), root group
group      sorted (1 byte), open (1), number of tags (N), tags
tag        kind (1 byte: 20 group, 21 data), name length (2), name, [DM4: size of the tag (8)], body
data body  ``%%%%``, number of layout words (N), layout words (N each), values
layout     ``type`` | ``15, name length, fields, (name length, type)…`` | ``18, length`` |
           ``20, layout of one element…, count``
=========  ==========================================================================================
"""

import math
import mmap
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from nexuslims_pipeline.extraction.facts import (
    ELECTRONVOLTS,
    METRES,
    Facts,
    bounded,
    is_reciprocal,
    on_its_clock,
    spatial_axes,
    spectral_type,
)
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.signals import Axis, DatasetType, Pixels, Signal, Source

if TYPE_CHECKING:
    import numpy as np

GROUP, DATA = 20, 21
STRUCT, TEXT, ARRAY = 15, 18, 20
UINT16 = 4
NUMBERS = {
    2: "i2", 3: "i4", UINT16: "u2", 5: "u4", 6: "f4", 7: "f8", 8: "?", 9: "i1", 10: "u1", 11: "i8", 12: "u8",
}  # fmt: skip
MAX_TAGS = 500_000
MAX_DEPTH = 64
MAX_LAYOUT = 4096
MAX_TAG_BYTES = 1 << 20
"""A longer array is not read with the tags: it stays in the file as a `Block`."""

PIXEL_TYPES = {
    1: "i2", 2: "f4", 3: "c8", 6: "u1", 7: "i4", 9: "i1", 10: "u2", 11: "u4", 12: "f8", 13: "c16", 14: "u1",
    27: "c8", 28: "c16",
}  # fmt: skip
"""NumPy types by ``ImageData/DataType``; colours are `COLOUR_TYPES`, 5 is the packed FFT of old versions."""
COLOUR_TYPES = frozenset({8, 23})
HALF_FOURIER_TYPES = frozenset({27, 28})
COMPLEX_TYPES = frozenset({3, 5, 13, 27, 28})

WINDOWS_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)
UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_YEAR = 1990


@dataclass(frozen=True, slots=True)
class Block:
    """An array that was left in the file."""

    offset: int
    """Bytes from the start of the file."""
    shape: tuple[int, ...]
    dtype: "np.dtype[Any]"


class _TagReader:
    """Reads the tag tree out of a mapped file, never further than the file goes."""

    def __init__(self, content: "mmap.mmap | bytes") -> None:
        self._content = content
        self._at = 0
        self._tags = 0
        version = self._unpack(">I")
        if version not in (3, 4):
            msg = f"version {version} of the DigitalMicrograph format is not known (3 and 4 are)"
            raise ExtractionError(msg)
        self._wide = version == 4
        self._count()
        self.byte_order = "<" if self._unpack(">I") else ">"

    def read(self) -> dict[str, Any]:
        """All tags: groups as dicts, unnamed tags under their position in the group.

        Raises
        ------
        ExtractionError
            When the file ends within the tags or they make no sense.
        """
        return self._group(0)

    def _take(self, length: int) -> bytes:
        end = self._at + length
        if length < 0 or end > len(self._content):
            msg = f"the file is cut off or damaged: it ends at byte {len(self._content)}, within its tags"
            raise ExtractionError(msg)
        taken = self._content[self._at : end]
        self._at = end
        return taken

    def _unpack(self, form: str) -> int:
        value: int = struct.unpack(form, self._take(struct.calcsize(form)))[0]
        return value

    def _count(self) -> int:
        return self._unpack(">q" if self._wide else ">i")

    def _group(self, depth: int) -> dict[str, Any]:
        self._take(2)
        count = self._count()
        self._tags += count
        if depth > MAX_DEPTH or not 0 <= count <= MAX_TAGS or self._tags > MAX_TAGS:
            msg = "the file is damaged: its tags are nested too deeply or too many"
            raise ExtractionError(msg)
        group: dict[str, Any] = {}
        for position in range(count):
            kind = self._unpack(">B")
            name = _decoded(self._take(self._unpack(">H"))) or str(position)
            if self._wide:
                self._take(8)
            if kind == GROUP:
                group[name] = self._group(depth + 1)
            elif kind == DATA:
                group[name] = self._value(name)
            else:
                msg = f"the file is damaged: tag {name[:40]!r} is of the unknown kind {kind}"
                raise ExtractionError(msg)
        return group

    def _value(self, name: str) -> Any:
        import numpy as np

        words = self._count() if self._take(4) == b"%%%%" else 0
        if not 1 <= words <= MAX_LAYOUT:
            msg = f"the file is damaged: tag {name[:40]!r} does not start as a tag should"
            raise ExtractionError(msg)
        layout = [self._count() for _ in range(words)]
        try:
            if layout[0] == ARRAY:
                return self._array(name, self._dtype(layout[1:-1]), layout[-1])
            dtype = self._dtype(layout)
        except (KeyError, IndexError, TypeError, ValueError, OverflowError) as fault:
            msg = f"the file is damaged: tag {name[:40]!r} is of an unknown type"
            raise ExtractionError(msg) from fault
        raw = self._take(dtype.itemsize)
        if layout[0] == TEXT:
            return _decoded(raw).rstrip("\0")
        return _shortest(np.frombuffer(raw, dtype, 1)[0])

    def _dtype(self, layout: list[int]) -> "np.dtype[Any]":
        import numpy as np

        kind = layout[0]
        if kind == STRUCT:
            return np.dtype([(f"f{n}", self.byte_order + NUMBERS[code]) for n, code in enumerate(layout[4::2])])
        if kind == TEXT:
            return np.dtype((np.bytes_, layout[1]))
        if kind == ARRAY:
            return np.dtype((self._dtype(layout[1:-1]), (layout[-1],)))
        return np.dtype(self.byte_order + NUMBERS[kind])

    def _array(self, name: str, dtype: "np.dtype[Any]", count: int) -> Any:
        import numpy as np

        offset, size = self._at, count * dtype.itemsize
        if count < 0 or offset + size > len(self._content):
            self._take(size if count >= 0 else -1)
        if name == "Data" or size > MAX_TAG_BYTES:
            self._at += size
            return Block(offset, (count,), dtype)
        raw = self._take(size)
        if dtype.kind == "u" and dtype.itemsize == 2:
            return raw.decode("utf-16-le" if self.byte_order == "<" else "utf-16-be", "replace").rstrip("\0")
        return np.frombuffer(raw, dtype) if count else []


def _decoded(raw: bytes) -> str:
    """Text in UTF-8, or as old versions wrote it ("µm") in Latin-1."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _shortest(value: Any) -> Any:
    """Give a NumPy scalar as Python's number: 0.1 for the single precision 0.1, a tuple for a structure."""
    if value.dtype.names:
        return tuple(_shortest(value[name]) for name in value.dtype.names)
    return float(str(value)) if value.dtype.kind == "f" else value.item()


def read_tags(path: Path) -> tuple[dict[str, Any], str]:
    """Read the tag tree of a DM3 or DM4 file.

    Returns
    -------
    tuple
        The tree and the byte order of the values, ``<`` or ``>``.

    Raises
    ------
    ExtractionError
        When it is empty, cut off or no such file.
    """
    with path.open("rb") as file:
        try:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            msg = "the file is empty"
            raise ExtractionError(msg) from None
        with content:
            reader = _TagReader(content)
            return reader.read(), reader.byte_order


def _dig(tree: Any, *names: str) -> Any:
    for name in names:
        if not isinstance(tree, Mapping):
            return None
        tree = tree.get(name)
    return tree


def _text(tree: Any, *names: str) -> str:
    found = _dig(tree, *names)
    return found.strip() if isinstance(found, str) else ""


def _group_of(tree: Any, *names: str) -> dict[str, Any]:
    found = _dig(tree, *names)
    return dict(found) if isinstance(found, Mapping) else {}


INSTRUMENT_TAGS = frozenset({
    "Cs(mm)", "Emission Current (µA)", "Facility", "Illumination Mode", "Imaging Mode", "Microscope", "Name",
    "Operation Mode", "Operator", "Probe Current (nA)", "Specimen", "Stage Position", "STEM Camera Length",
    "Voltage",
})  # fmt: skip
"""Tags of ``Microscope Info`` that hold for every image that was made in the same file."""
DETECTORS = re.compile(r"(?<![A-Za-z])(HAADF|MAADF|LAADF|ADF|ABF)(?![A-Za-z])")
BRIGHT_AND_DARK = re.compile(r"(?<![A-Za-z])(BF|DF)(?![A-Za-z])")
SIGNALS = {"EELS": "EELS", "X-ray": "EDS", "EDS": "EDS", "CL": "CL"}
"""Techniques by ``Meta Data/Signal``."""


@dataclass
class _Image:
    """One image of the file with the tags that describe it."""

    tree: dict[str, Any]
    tags: dict[str, Any]
    inherited: bool = False
    axes: tuple[Axis, ...] = field(init=False)
    stored_shape: tuple[int, ...] = field(init=False)
    """Sizes in the order of the file, the slowest first."""
    order: tuple[int, ...] = field(init=False)
    """Places of `axes` in `stored_shape`."""

    def __post_init__(self) -> None:
        stored = self._stored_axes()
        self.stored_shape = tuple(axis.size for axis in stored)
        signal_axes = self._signal_axes(stored)
        self.order = (*(n for n in range(len(stored)) if n not in signal_axes), *signal_axes)
        self.axes = tuple(
            Axis(axis.size, axis.scale, axis.offset, axis.units, axis.name, navigation=n not in signal_axes)
            for n, axis in ((n, stored[n]) for n in self.order)
        )

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(axis.size for axis in self.axes)

    @property
    def pixel_type(self) -> int:
        code = _dig(self.tree, "ImageData", "DataType")
        return int(code) if isinstance(code, int) else 0

    @property
    def title(self) -> str:
        return _text(self.tree, "Name")

    @cached_property
    def form(self) -> str:
        """``Meta Data/Format`` in lower case: ``image``, ``spectrum``, ``spectrum image`` and so on."""
        return _text(self.tags, "Meta Data", "Format").lower()

    @cached_property
    def modes(self) -> str:
        """Operation and imaging mode of the column, upper case."""
        info = _group_of(self.tags, "Microscope Info")
        return f"{_text(info, 'Operation Mode')} {_text(info, 'Imaging Mode')}".upper()

    @cached_property
    def column(self) -> str:
        """``TEM``, ``STEM`` or ``SEM``; empty when the tags do not say."""
        illumination = _text(self.tags, "Microscope Info", "Illumination Mode").upper()
        for mode in ("STEM", "SEM", "TEM"):
            if mode in illumination:
                return mode
        return "STEM" if "SCANNING" in self.modes else "TEM" if illumination else ""

    @cached_property
    def spectroscopy(self) -> str:
        """``EELS``, ``EDS`` or ``CL``, or empty."""
        signal = _text(self.tags, "Meta Data", "Signal")
        if signal in SIGNALS:
            return SIGNALS[signal]
        for technique in ("EELS", "EDS", "CL"):
            if _dig(self.tags, technique, "Acquisition") or _dig(self.tags, "spim", technique.lower()):
                return technique
        if _dig(self.tags, "Acquisition", "Monarc Spectrometer"):
            return "CL"
        units = self._units()
        return "EDS" if "keV" in units else "EELS" if "eV" in units else ""

    def _units(self) -> set[str]:
        dimensions = _group_of(self.tree, "ImageData", "Calibrations", "Dimension")
        return {_text(dimension, "Units") for dimension in dimensions.values()}

    def _stored_axes(self) -> list[Axis]:
        sizes = list(_group_of(self.tree, "ImageData", "Dimensions").values())
        if not 1 <= len(sizes) <= 8 or any(not isinstance(size, int) or size < 1 for size in sizes):
            msg = f"the file is damaged: image {self.title!r} has the dimensions {sizes[:8]}"
            raise ExtractionError(msg)
        calibrations = list(_group_of(self.tree, "ImageData", "Calibrations", "Dimension").values())
        axes = []
        for size, calibration, name in zip_longest(sizes, calibrations[: len(sizes)], "xyz"[: len(sizes)]):
            scale = _finite(_dig(calibration, "Scale"), 1.0)
            offset = -_finite(_dig(calibration, "Origin"), 0.0) * scale
            axes.append(Axis(size, scale, offset, _text(calibration, "Units").replace("μ", "µ"), name or ""))
        return axes[::-1]

    def _signal_axes(self, axes: list[Axis]) -> tuple[int, ...]:
        """Which of the stored dimensions make one spectrum or one image."""
        last = len(axes) - 1
        if last == 0:
            return (0,)
        energies = [n for n, axis in enumerate(axes) if axis.units in ELECTRONVOLTS]
        lengths = [n for n, axis in enumerate(axes) if axis.units in METRES]
        untagged_map = not self.form and len(energies) == 1 and len(lengths) == last
        if self.form.startswith("spectrum") or "spim" in self.tags or untagged_map:
            swapped = last == 1 or bool(_dig(self.tags, "Meta Data", "Data Order Swapped"))
            return (energies[0] if len(energies) == 1 else last if swapped else 0,)
        if last == 3 and all(is_reciprocal(axis.units) for axis in axes[:2]) and lengths == [2, 3]:
            return (0, 1)
        return (last - 1, last)

    @cached_property
    def dataset_type(self) -> DatasetType:
        if sum(not axis.navigation for axis in self.axes) == 1:
            return spectral_type(self.axes)
        return "Diffraction" if self._is_diffraction() else "Image"

    def _is_diffraction(self) -> bool:
        """By format, by the pattern's units, or by the column's mode (which all STEM images share)."""
        if self.pixel_type in COMPLEX_TYPES or "FFT" in _group_of(self.tags, "Private"):
            return False
        if "diffraction" in self.form or all(is_reciprocal(axis.units) for axis in self.axes[-2:]):
            return True
        if self.column in ("STEM", "SEM") or self.spectroscopy:
            return False
        tecnai = re.search(r"Mode\s([^\u2028]*)", _text(self.tags, "Tecnai", "Microscope Info"))
        return "DIFFRACTION" in self.modes or (tecnai is not None and "Diffraction" in tecnai[1])

    @property
    def data_type(self) -> str:
        if self.spectroscopy:
            return f"{self.column}_{self.spectroscopy}".lstrip("_")
        if self.dataset_type == "Diffraction":
            filtered = "EFTEM_" if "EFTEM" in self.modes and self.column != "STEM" else ""
            return f"{self.column or 'TEM'}_{filtered}Diffraction"
        if not self.column:
            return "Unknown"
        if self.dataset_type != "Image":
            return f"{self.column}_Spectrum"
        signal = _text(self.tags, "DataBar", "Signal Name")
        named = {*DETECTORS.findall(f"{self.title} {signal}"), *BRIGHT_AND_DARK.findall(signal)}
        detector = named.pop() if len(named) == 1 and self.column == "STEM" else "Imaging"
        return f"{self.column}_{detector}"


def _finite(value: Any, default: float) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else default


def _images(root: dict[str, Any]) -> Iterator[_Image]:
    """Every image but the thumbnails; later ones inherit the instrument's tags where they have none."""
    listed = list(_group_of(root, "ImageList").values())
    thumbnails = {_dig(entry, "ImageIndex") for entry in _group_of(root, "Thumbnails").values()}
    trees = [tree for n, tree in enumerate(listed) if n not in thumbnails] or listed
    first: dict[str, Any] = {}
    for tree in trees:
        if not isinstance(tree, dict) or not _group_of(tree, "ImageData", "Dimensions"):
            continue
        tags = _tags_of(tree, root)
        inherits = bool(first) and "Microscope Info" not in tags
        if inherits:
            tags = {**first, **tags}
        elif not first and "Microscope Info" in tags:
            info = {k: v for k, v in tags["Microscope Info"].items() if k in INSTRUMENT_TAGS}
            first = {"Microscope Info": info, "Session Info": _group_of(tags, "Session Info")}
        yield _Image(tree, tags, inherits)


def _tags_of(tree: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """``ImageTags``, for stacks completed by those of their first plane, and by Nion Swift's at the root."""
    tags = _group_of(tree, "ImageTags")
    planes = list(_group_of(tags, "plane info").values())
    plane = _group_of(planes[0], "source tags") if planes else {}
    built = _group_of(tags, "source", "Tags at creation")
    at_root = {name: root[name] for name in ("DataBar", "Microscope Info") if isinstance(root.get(name), dict)}
    return {**at_root, **built, **plane, **tags}


class _Rule(NamedTuple):
    """Where a value lies in the tags, and what it becomes."""

    path: str
    name: str
    unit: str | None = None
    group: str | None = None
    zero_is_unknown: bool = False


RULES = (
    _Rule("Microscope Info > Operation Mode", "Operation Mode"),
    _Rule("Microscope Info > Imaging Mode", "Imaging Mode"),
    _Rule("Microscope Info > Illumination Mode", "illumination_mode"),
    _Rule("Microscope Info > Name", "Name"),
    _Rule("Microscope Info > Facility", "Facility"),
    _Rule("Microscope Info > Specimen", "specimen"),
    _Rule("Microscope Info > Operator", "operator"),
    _Rule("Microscope Info > Microscope", "Microscope"),
    _Rule("Microscope Info > Condenser Aperture", "Condenser Aperture"),
    _Rule("Microscope Info > Objective Aperture", "Objective Aperture"),
    _Rule("Microscope Info > Selected Area Aperture", "Selected Area Aperture"),
    _Rule("Microscope Info > Cs(mm)", "Cs", "mm"),
    _Rule("Microscope Info > Voltage", "acceleration_voltage", "V", zero_is_unknown=True),
    _Rule("Microscope Info > Actual Magnification", "Actual Magnification", zero_is_unknown=True),
    _Rule("Microscope Info > Emission Current (µA)", "emission_current", "µA", zero_is_unknown=True),
    _Rule("Microscope Info > Probe Current (nA)", "beam_current", "nA", zero_is_unknown=True),
    _Rule("Microscope Info > Probe Size (nm)", "Probe Size", "nm", zero_is_unknown=True),
    _Rule("Microscope Info > Stage Position > Stage X", "stage_x", "µm"),
    _Rule("Microscope Info > Stage Position > Stage Y", "stage_y", "µm"),
    _Rule("Microscope Info > Stage Position > Stage Z", "stage_z", "µm"),
    _Rule("Session Info > Detector", "detector_type"),
    _Rule("Session Info > Microscope", "Microscope"),
    _Rule("Session Info > Operator", "operator"),
    _Rule("Session Info > Specimen", "specimen"),
    _Rule("Meta Data > Acquisition Mode", "Analytic Acquisition Mode"),
    _Rule("Meta Data > Format", "Analytic Format"),
    _Rule("Meta Data > Signal", "Analytic Signal"),
    _Rule("Meta Data > Experiment keywords > 1 > Label", "Analytic Label"),
    _Rule("DataBar > Device Name", "acquisition_device"),
    _Rule("Acquisition > Device > Name", "acquisition_device"),
    _Rule("DataBar > Signal Name", "Signal Name"),
    _Rule("DataBar > Exposure Time (s)", "exposure_time", "s"),
    _Rule("Acquisition > Parameters > High Level > Exposure (s)", "exposure_time", "s"),
    _Rule("Acquisition > Parameters > High Level > Processing", "Camera/Detector Processing"),
    _Rule("DigiScan > Sample Time", "dwell_time", "µs", zero_is_unknown=True),
    _Rule("DigiScan > Rotation", "scan_rotation", "deg"),
    _Rule("GMS Version > Created", "GMS Version"),
    _Rule("SI > Acquisition > Pixel time (s)", "pixel_time", "s"),
    _Rule("SI > Acquisition > SI Application Mode > Name", "scan_mode"),
)
FIELD_OF_VIEW = _Rule("Microscope Info > Field of View (µm)", "Field of View", "µm", zero_is_unknown=True)
SPECTRUM_IMAGE_RULES = (
    _Rule("SI > Acquisition > Spatial Sampling > Height (pixels)", "Spatial Sampling (Vertical)"),
    _Rule("SI > Acquisition > Spatial Sampling > Width (pixels)", "Spatial Sampling (Horizontal)"),
    _Rule("SI > Acquisition > Scan Options > Sub-pixel sampling", "Sub-pixel Sampling Factor"),
)
EELS_RULES = (
    _Rule("EELS > Experimental Conditions > Collection semi-angle (mrad)", "collection_angle", "mrad"),
    _Rule("EELS > Experimental Conditions > Convergence semi-angle (mrad)", "convergence_angle", "mrad"),
    _Rule("EELS > Acquisition > Exposure (s)", "Exposure", "s", "EELS"),
    _Rule("EELS > Acquisition > Integration time (s)", "Integration Time", "s", "EELS"),
    _Rule("EELS > Acquisition > Number of frames", "Number of Frames", None, "EELS"),
    _Rule("EELS > Thickness > Absolute > Measurement", "Thickness (absolute)", "nm", "EELS"),
    _Rule("EELS > Thickness > Relative > Measurement", "Thickness (relative, t/λ)", None, "EELS"),
    _Rule("EELS Spectrometer > Instrument name", "Instrument Name", None, "EELS Spectrometer"),
    _Rule("EELS Spectrometer > Aperture label", "Aperture", None, "EELS Spectrometer"),
    _Rule("EELS Spectrometer > Dispersion (eV/ch)", "Dispersion per Channel", "eV", "EELS Spectrometer"),
    _Rule("EELS Spectrometer > Energy loss (eV)", "Energy Loss", "eV", "EELS Spectrometer"),
    _Rule("EELS Spectrometer > Drift tube enabled", "Drift Tube Enabled", None, "EELS Spectrometer"),
    _Rule("EELS Spectrometer > Drift tube voltage (V)", "Drift Tube Voltage", "V", "EELS Spectrometer"),
    _Rule("EELS Spectrometer > Slit inserted", "Slit Inserted", None, "EELS Spectrometer"),
    _Rule("EELS Spectrometer > Slit width (eV)", "Slit Width", "eV", "EELS Spectrometer"),
    _Rule("EELS Spectrometer > Prism offset (V)", "Prism Offset", "V", "EELS Spectrometer"),
    _Rule("EELS Spectrometer > Prism offset enabled ", "Prism Offset Enabled", None, "EELS Spectrometer"),
)
EDS_RULES = (
    _Rule("EDS > Detector Info > Azimuthal angle", "azimuthal_angle", "deg"),
    _Rule("EDS > Detector Info > Elevation angle", "elevation_angle", "deg"),
    *(
        _Rule(f"{place} > Acquisition > {tag}", name, unit, "EDS")
        for place in ("SI", "EDS")
        for tag, name, unit in (
            ("Continuous Mode", "Continuous Mode", None),
            ("Count Rate Unit", "Count Rate Unit", None),
            ("Dispersion (eV)", "Dispersion per Channel", "eV"),
            ("Energy Cutoff (V)", "Energy Cutoff", "V"),
            ("Exposure (s)", "Exposure", "s"),
        )
    ),
    _Rule("EDS > Detector Info > Active layer", "Active Layer", None, "EDS"),
    _Rule("EDS > Detector Info > Dead layer", "Dead Layer", None, "EDS"),
    _Rule("EDS > Detector Info > Detector type", "Detector Type", None, "EDS"),
    _Rule("EDS > Detector Info > Fano", "Fano Factor", None, "EDS"),
    _Rule("EDS > Detector Info > Gold layer", "Gold Layer", None, "EDS"),
    _Rule("EDS > Detector Info > Incidence angle", "Incidence Angle", "deg", "EDS"),
    _Rule("EDS > Detector Info > Solid angle", "Solid Angle", None, "EDS"),
    _Rule("EDS > Detector Info > Stage tilt", "Stage Tilt", "deg", "EDS"),
    _Rule("EDS > Detector Info > Window thickness", "Window Thickness", None, "EDS"),
    _Rule("EDS > Detector Info > Window type", "Window Type", None, "EDS"),
    _Rule("EDS > Detector Info > Zero fwhm", "Zero FWHM", None, "EDS"),
)
CL_RULES = (
    _Rule("CL > Acquisition > Exposure (s)", "Exposure", "s", "CL"),
    _Rule("CL > Acquisition > Integration time (s)", "Integration Time", "s", "CL"),
    _Rule("CL > Acquisition > Number of frames", "Number of Frames", None, "CL"),
    _Rule("CL > Acquisition > Central wavelength (nm)", "Central Wavelength", "nm", "CL"),
    _Rule("CL > Acquisition > Dispersion grating (lines/mm)", "Grating", "1/mm", "CL"),
    _Rule("Acquisition > Monarc Spectrometer > Grating", "Grating", "1/mm", "CL"),
    _Rule("Acquisition > Monarc Spectrometer > Bandpass", "Bandpass", None, "CL"),
    _Rule("Acquisition > Monarc Spectrometer > Slit Width", "Slit Width", None, "CL"),
    _Rule("Acquisition > Monarc Spectrometer > Filter", "Filter", None, "CL"),
    _Rule("Acquisition > Monarc Spectrometer > PMT HV", "PMT Voltage", "V", "CL"),
)
SPECTROSCOPY_RULES = {"EELS": EELS_RULES, "EDS": EDS_RULES, "CL": CL_RULES, "": ()}


def _facts(image: _Image) -> Facts:
    """Everything the tags say on one image.

    Stage positions are micrometres throughout, Z like X and Y: that is what DigitalMicrograph's own
    functions give (a Titan's Z of -142 or a SEM's of 37708 can be nothing else).
    """
    facts = Facts()
    for rule in (*RULES, *SPECTROSCOPY_RULES[image.spectroscopy]):
        _apply(facts, rule, image.tags)
    for rule in SPECTRUM_IMAGE_RULES if image.dataset_type == "SpectrumImage" else ():
        _apply(facts, rule._replace(group="Spectrum Imaging"), image.tags)
    _add_magnification(facts, image)
    _add_tilts(facts, image)
    _add_binning(facts, image)
    _add_processing(facts, image)
    if image.spectroscopy == "EDS":
        _add_counting(facts, image)
    if image.dataset_type == "SpectrumImage":
        _add_scan(facts, image)
    facts.add_axes(image.axes)
    _add_field_of_view(facts, image)
    if image.inherited:
        facts.add("Instrument Values From", "another image of this file")
    return facts


def _apply(facts: Facts, rule: _Rule, tags: dict[str, Any]) -> None:
    value = _dig(tags, *rule.path.split(" > "))
    if isinstance(value, dict | Block) or (rule.zero_is_unknown and value == 0):
        return
    facts.add(rule.name, value, rule.unit, rule.group)


def _add_magnification(facts: Facts, image: _Image) -> None:
    """Add the magnification, which in a TEM's diffraction mode is the camera length in millimetres."""
    info = _group_of(image.tags, "Microscope Info")
    value = info.get("Indicated Magnification")
    if image.column == "STEM":
        facts.add_measured("camera_length", info.get("STEM Camera Length"), "mm")
    if image.dataset_type == "Diffraction" and image.column == "TEM":
        facts.add_measured("camera_length", value, "mm")
    elif value:
        facts.add("magnification", value)


def _add_field_of_view(facts: Facts, image: _Image) -> None:
    """Add the vendor's field of view, the field width only where no axis is a length on the specimen.

    It is that of the whole scan, of which the image or the map may be a small part.
    """
    calibrated = spatial_axes(image.axes)
    rule = FIELD_OF_VIEW if calibrated else FIELD_OF_VIEW._replace(name="horizontal_field_width")
    _apply(facts, rule, image.tags)


def _add_tilts(facts: Facts, image: _Image) -> None:
    """Tilts; an SEM's plug-in gives tilt and rotation under the names of the two tilts."""
    names = ("stage_tilt", "stage_rotation") if image.column == "SEM" else ("stage_alpha", "stage_beta")
    for name, tag in zip(names, ("Stage Alpha", "Stage Beta"), strict=True):
        facts.add(name, _dig(image.tags, "Microscope Info", "Stage Position", tag), "deg")


def _add_binning(facts: Facts, image: _Image) -> None:
    binning = _dig(image.tags, "Acquisition", "Parameters", "High Level", "Binning")
    if isinstance(binning, tuple) and len(binning) == 2:
        facts.add("Binning (Horizontal)", binning[0])
        facts.add("Binning (Vertical)", binning[1])
    else:
        facts.add("Binning", _dig(image.tags, "DataBar", "Binning"))


def _add_processing(facts: Facts, image: _Image) -> None:
    """Add the processing steps in their order, and what belongs to a thickness measurement."""
    steps = [_text(step, "Operation") for step in _group_of(image.tags, "Processing").values()]
    words = [re.sub(r"(?<=[a-z])(?=[A-Z])", " ", step) for step in steps if step]
    facts.add("Processing Steps", ", ".join(words))
    path = _dig(image.tags, "EELS", "Thickness", "Absolute", "Mean Free Path")
    if path is not None and hasattr(path, "size") and path.size:
        facts.add("Mean Free Path", _shortest(path[0]), "nm", "EELS")


def _add_counting(facts: Facts, image: _Image) -> None:
    """Add times and rates of X-ray counting: of the spectrum, or the average over the points of a scan."""
    for tag, name, unit in (
        ("Live time", "live_time", "s"),
        ("Real time", "real_time", "s"),
        ("Count rate", "Count Rate", None),
    ):
        points = _dig(image.tags, "EDS", "Images", tag)
        if image.dataset_type == "SpectrumImage" and hasattr(points, "mean") and points.size:
            title = name.replace("_", " ").title()
            facts.add(f"{title} (SI Average)", points.mean(), unit, "EDS")
        elif unit:
            facts.add(name, _dig(image.tags, "EDS", tag), unit)
        else:
            facts.add(name, _dig(image.tags, "EDS", tag), None, "EDS")
    if _group_of(image.tags, "EDS", "Detector Info"):
        facts.warnings["EDS"] = "DigitalMicrograph copies the detector values from its settings: they are not measured"


def _add_scan(facts: Facts, image: _Image) -> None:
    scan = _group_of(image.tags, "SI", "Acquisition")
    drift = _group_of(scan, "Artefact Correction", "Spatial Drift")
    period, units = drift.get("Periodicity"), _text(drift, "Units")
    if isinstance(period, int | float) and units:
        plural = units if period == 1 or units.endswith("s") else f"{units}s"
        facts.add(
            "Artefact Correction",
            f"Spatial drift correction every {period:g} {plural}",
            None,
            "Spectrum Imaging",
        )
    start, end = (_clock_time(_text(scan, tag)) for tag in ("Start time", "End time"))
    if start and end:
        day = datetime.min.replace(tzinfo=UTC)
        duration = datetime.combine(day, end) - datetime.combine(day, start)
        facts.add("Acquisition Duration", duration.seconds, "s", "Spectrum Imaging")


DATE = re.compile(r"(?<!\d)(\d{1,4})([/.-])(\d{1,2})\2(\d{1,4})(?!\d)")
CLOCK = re.compile(r"(\d{1,2})[:.](\d{2})(?:[:.](\d{2}))?")
AFTERNOON = re.compile(r"(?i)p\s*\.?\s*m|午後|下午|오후")
MORNING = re.compile(r"(?i)a\s*\.?\s*m|午前|上午|오전")
ACQUISITION_PLACES = (
    ("EELS", "Acquisition", "Date", "Start time"),
    ("EDS", "Acquisition", "Date", "Start time"),
    ("CL", "Acquisition", "Date", "Start time"),
    ("SI", "Acquisition", "Date", "Start time"),
)


def _acquired(image: _Image, modified: datetime, facts: Facts) -> datetime | None:
    """When the image was taken, from its tags.

    DigitalMicrograph writes date and time as the computer's locale spells them, and in ``Acquisition Time
    (OS)`` the instant in 100 ns since 1601 UTC. The two together give the clock's offset from UTC and tell
    day from month; without the instant `_day_first` decides.

    Returns
    -------
    datetime or None
        The instrument's local time; aware where the instant is known.
    """
    bar = _group_of(image.tags, "DataBar")
    instant = _instant(image)
    texts = [(_text(bar, "Acquisition Date"), _text(bar, "Acquisition Time"))]
    places = [
        (_text(image.tags, *path[:2], path[2]), _text(image.tags, *path[:2], path[3])) for path in ACQUISITION_PLACES
    ]
    texts = texts + places if instant else places + texts
    for date_text, time_text in texts:
        days, clock = _dates(date_text), _clock_time(time_text)
        if not days or clock is None:
            continue
        walls = [datetime.combine(day, clock) for day in days]
        if instant:
            for wall in walls:
                local = on_its_clock(wall, instant)
                if local:
                    return local
        if len(walls) == 1:
            return walls[0]
        chosen, reason = _unambiguous(walls, date_text, time_text, image, modified)
        if reason:
            facts.warnings["Creation Time"] = reason
        return chosen
    return instant


def _instant(image: _Image) -> datetime | None:
    """Find the moment of the acquisition in UTC, where the file has it as a number."""
    windows = _dig(image.tags, "DataBar", "Acquisition Time (OS)")
    unix = _dig(image.tags, "Acquisition", "Frame", "Sequence", "Acquisition Start Time (epoch)")
    for epoch, ticks, value in ((WINDOWS_EPOCH, 1e7, windows), (UNIX_EPOCH, 1e3, unix)):
        try:
            moment = epoch + timedelta(seconds=float(value) / ticks)
        except (TypeError, ValueError, OverflowError):
            continue
        if moment.year >= FIRST_YEAR:
            return moment.replace(microsecond=0)
    return None


def _dates(text: str) -> list[date]:
    """Days that a locale's date may mean: month first, then day first, or the only possible one."""
    found = DATE.search(text)
    if not found:
        return []
    first, second, third = (int(found[n]) for n in (1, 3, 4))
    if len(found[1]) == 4:
        orders = [(first, second, third)]
    else:
        year = third if len(found[4]) == 4 else 2000 + third
        orders = [(year, second, first)] if found[2] == "." else [(year, first, second), (year, second, first)]
    days = []
    for order in orders:
        try:
            day = date(*order)
        except ValueError:
            continue
        if day not in days:
            days.append(day)
    return days


def _clock_time(text: str) -> time | None:
    found = CLOCK.search(text)
    if not found:
        return None
    hour, minute, second = (int(part or 0) for part in found.groups())
    if AFTERNOON.search(text):
        hour = hour % 12 + 12
    elif MORNING.search(text):
        hour %= 12
    try:
        return time(hour, minute, second)
    except ValueError:
        return None


def _unambiguous(
    walls: list[datetime], date_text: str, time_text: str, image: _Image, modified: datetime
) -> tuple[datetime, str]:
    """Which of a month-first and a day-first reading is right, with the doubt that remains.

    The file's other dates decide, then the day on which the file was written, then the locale's habits:
    only places that write the month first also write ``5:04 PM`` and no leading zeros (or, Nion Swift,
    two-digit years).
    """
    month_first, day_first = walls
    for text in _other_dates(image.tags):
        days = _dates(text)
        if len(days) == 1 and (found := DATE.search(text)) and found[2] == "/" and len(found[1]) < 3:
            return (day_first if days[0].day == int(found[1]) else month_first), ""
    same_day = [wall for wall in walls if abs(wall - modified.replace(tzinfo=None)) < timedelta(days=2)]
    if len(same_day) == 1:
        return same_day[0], ""
    found = DATE.search(date_text)
    short_year = found is not None and len(found[4]) < 3
    day_habit = not short_year and (not _has_half_day(time_text) or bool(found and found[1].startswith("0")))
    chosen = day_first if day_habit else month_first
    order = "day" if day_habit else "month"
    return (
        chosen,
        f"{date_text!r} was read with the {order} first, as its spelling suggests",
    )


def _has_half_day(text: str) -> bool:
    return bool(AFTERNOON.search(text) or MORNING.search(text))


def _other_dates(tree: Any) -> Iterator[str]:
    """Texts of the acquisition that may hold a date; processing may have been done on another computer."""
    for name, value in tree.items() if isinstance(tree, dict) else ():
        if name in ("Processing", "Group Save"):
            continue
        if isinstance(value, dict):
            yield from _other_dates(value)
        elif isinstance(value, str) and len(value) < 200 and DATE.search(value):
            yield value


def _pixels(image: _Image, path: Path, byte_order: str, facts: Facts) -> Pixels | None:
    """Map the image's numbers from the file; None with a warning where they cannot be had."""
    import numpy as np

    code, stored = image.pixel_type, image.stored_shape
    if code in COLOUR_TYPES:
        dtype = np.dtype([(channel, "u1") for channel in "BGRA"])
    elif code in PIXEL_TYPES:
        dtype = np.dtype(byte_order + PIXEL_TYPES[code])
    else:
        facts.warnings["Preview"] = f"pixels of DigitalMicrograph's type {code} cannot be read"
        return None
    if code in HALF_FOURIER_TYPES:
        stored = (*stored[:-1], stored[-1] // 2 + 1)
    block = _dig(image.tree, "ImageData", "Data")
    available = math.prod(block.shape) * block.dtype.itemsize if isinstance(block, Block) else 0
    if math.prod(stored) * dtype.itemsize > available:
        facts.warnings["Preview"] = "the file holds fewer pixels than it says"
        return None
    array: Any = np.memmap(path, dtype, "r", block.offset, stored)
    if code in HALF_FOURIER_TYPES:
        array = _whole_fourier(array)
    return Pixels(array.transpose(image.order), image.axes)


def _whole_fourier(half: Any) -> Any:
    """Complete the transform of a real image, lazily, from the half that the file holds.

    Rows run from the most negative to the most positive frequency, columns from zero to the highest; the
    rest follows from F(-u, -v) = F*(u, v), which for an even number of rows leaves the first row in its
    place.
    """
    from dask import array

    da: Any = array
    known = da.from_array(half, chunks="auto")
    mirrored = da.concatenate((known[..., :1, :], known[..., :0:-1, :]), axis=-2)
    return da.concatenate((known[..., ::-1], mirrored[..., 1:-1].conj()), axis=-1)


class DigitalMicrographExtractor(Extractor):
    """Gatan DigitalMicrograph, versions 3 and 4 of its format."""

    name: ClassVar[str] = "digital_micrograph"
    format_name: ClassVar[str] = "Gatan DigitalMicrograph"
    version: ClassVar[str] = "2"
    extensions: ClassVar[frozenset[str]] = frozenset({".dm3", ".dm4"})

    def accepts(self, source: Source, head: bytes) -> bool:  # noqa: ARG002
        """Any file so named: a damaged one is better reported than passed on."""
        return True

    def extract(self, source: Source) -> list[Signal]:
        """One signal for each image in the file."""
        root, byte_order = read_tags(source.path)
        surroundings = {name: root[name] for name in root if name not in ("ImageList", "Thumbnails")}
        signals: list[Signal] = []
        for image in _images(root):
            facts = _facts(image)
            acquired = _acquired(image, source.modified, facts)
            if acquired is None and signals:
                acquired = signals[0].acquired
            signal = Signal(
                image.dataset_type,
                image.data_type,
                shape=image.shape,
                name=image.title,
                acquired=acquired,
                native=bounded({"Image": image.tree, **surroundings}),
                pixels=_pixels(image, source.path, byte_order, facts),
            )
            signals.append(facts.give_to(signal))
        if not signals:
            msg = "the file holds no image"
            raise ExtractionError(msg)
        return signals


EXTRACTOR = DigitalMicrographExtractor()
