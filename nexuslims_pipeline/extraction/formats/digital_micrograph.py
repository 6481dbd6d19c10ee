"""Gatan DigitalMicrograph files, DM3 and DM4: one signal per image in the file, thumbnails left out.

The file is one tree of tags, read by `dm_tags`. In it ``ImageList`` holds the images, each with its numbers, its
calibration and its own tags; ``DocumentObjectList`` holds what the operator sees: displays of images, which refer to
them through ``ImageSourceList``, and upon the displays their annotations.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, NamedTuple, TypeAlias

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
from nexuslims_pipeline.extraction.layouts import tecnai
from nexuslims_pipeline.extraction.layouts.dm_tags import (
    Block,
    dig,
    group_at,
    is_digital_micrograph,
    read_tags,
    shortest,
    text_at,
)
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import filetime, local_time, moment, readings, unix_time
from nexuslims_pipeline.metadata.fields import FIELDS
from nexuslims_pipeline.signals import Annotation, Axis, DatasetType, Pixels, Signal, Source

PIXEL_TYPES = {
    1: "i2", 2: "f4", 3: "c8", 6: "u1", 7: "i4", 9: "i1", 10: "u2", 11: "u4", 12: "f8", 13: "c16", 14: "u1",
    27: "c8", 28: "c16",
}  # fmt: skip
"""NumPy types by ``ImageData/DataType``; colours are `COLOUR_TYPES`, 5 is the packed FFT of old versions."""
COLOUR_TYPES = frozenset({8, 23})
HALF_FOURIER_TYPES = frozenset({27, 28})
COMPLEX_TYPES = frozenset({3, 5, 13, 27, 28})
FIRST_YEAR = 1990
SHORTEST, LATEST_VERSION = 18, 16
"""Bytes of the shortest beginning that can be told; versions of the format that may still come."""

INSTRUMENT_TAGS = frozenset({
    "Cs(mm)", "Emission Current (µA)", "Facility", "Illumination Mode", "Imaging Mode", "Microscope", "Name",
    "Operation Mode", "Operator", "Probe Current (nA)", "Specimen", "Stage Position", "STEM Camera Length",
    "Voltage",
})  # fmt: skip
"""Tags of ``Microscope Info`` that hold for every image that was made in the same file."""
DETECTORS = re.compile(r"(?<![A-Za-z])(HAADF|MAADF|LAADF|ADF|ABF)(?![A-Za-z])")
BRIGHT_AND_DARK = re.compile(r"(?<![A-Za-z])(BF|DF)(?![A-Za-z])")
TRANSFORM = re.compile(r"(?i)\bFFT\b|power ?spectrum|fourier transform")
SIGNALS = {"EELS": "EELS", "X-ray": "EDS", "EDS": "EDS", "CL": "CL"}
"""Techniques by ``Meta Data/Signal``."""


@dataclass
class TaggedImage:
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
        """Navigation axes, then signal axes."""
        return tuple(axis.size for axis in self.axes)

    @property
    def pixel_type(self) -> int:
        """``ImageData/DataType``; 0 when the file does not say."""
        code = dig(self.tree, "ImageData", "DataType")
        return int(code) if isinstance(code, int) else 0

    @property
    def title(self) -> str:
        """The image's name in the file."""
        return text_at(self.tree, "Name")

    @cached_property
    def form(self) -> str:
        """``Meta Data/Format`` in lower case: ``image``, ``spectrum``, ``spectrum image`` and so on."""
        return text_at(self.tags, "Meta Data", "Format").lower()

    @cached_property
    def modes(self) -> str:
        """Operation and imaging mode of the column, upper case."""
        info = group_at(self.tags, "Microscope Info")
        return f"{text_at(info, 'Operation Mode')} {text_at(info, 'Imaging Mode')}".upper()

    @cached_property
    def column(self) -> str:
        """``TEM``, ``STEM`` or ``SEM``; empty when the tags do not say."""
        illumination = text_at(self.tags, "Microscope Info", "Illumination Mode").upper()
        for mode in ("STEM", "SEM", "TEM"):
            if mode in illumination:
                return mode
        return "STEM" if "SCANNING" in self.modes else "TEM" if illumination else ""

    @cached_property
    def spectroscopy(self) -> str:
        """``EELS``, ``EDS`` or ``CL``, or empty."""
        signal = text_at(self.tags, "Meta Data", "Signal")
        if signal in SIGNALS:
            return SIGNALS[signal]
        for technique in ("EELS", "EDS", "CL"):
            if dig(self.tags, technique, "Acquisition") or dig(self.tags, "spim", technique.lower()):
                return technique
        if dig(self.tags, "Acquisition", "Monarc Spectrometer"):
            return "CL"
        units = self._units()
        return "EDS" if "keV" in units else "EELS" if "eV" in units else ""

    def _units(self) -> set[str]:
        dimensions = group_at(self.tree, "ImageData", "Calibrations", "Dimension")
        return {text_at(dimension, "Units") for dimension in dimensions.values()}

    def _stored_axes(self) -> list[Axis]:
        sizes = list(group_at(self.tree, "ImageData", "Dimensions").values())
        if not 1 <= len(sizes) <= 8 or any(not isinstance(size, int) or size < 1 for size in sizes):
            msg = f"the file is damaged: image {self.title!r} has the dimensions {sizes[:8]}"
            raise ExtractionError(msg)
        calibrations = list(group_at(self.tree, "ImageData", "Calibrations", "Dimension").values())
        axes = []
        for size, calibration, name in zip_longest(sizes, calibrations[: len(sizes)], "xyz"[: len(sizes)]):
            scale = _finite(dig(calibration, "Scale"), 1.0)
            offset = -_finite(dig(calibration, "Origin"), 0.0) * scale
            axes.append(Axis(size, scale, offset, text_at(calibration, "Units").replace("μ", "µ"), name or ""))
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
            swapped = last == 1 or bool(dig(self.tags, "Meta Data", "Data Order Swapped"))
            return (energies[0] if len(energies) == 1 else last if swapped else 0,)
        if last == 3 and all(is_reciprocal(axis.units) for axis in axes[:2]) and lengths == [2, 3]:
            return (0, 1)
        return (last - 1, last)

    @cached_property
    def dataset_type(self) -> DatasetType:
        """By the number of signal axes, their units and the column's mode."""
        if sum(not axis.navigation for axis in self.axes) == 1:
            return spectral_type(self.axes)
        return "Diffraction" if self._is_diffraction() else "Image"

    def _is_diffraction(self) -> bool:
        """By format, by the pattern's units, or by the column's mode (which all STEM images share)."""
        if self._is_fourier_transform():
            return False
        if "diffraction" in self.form or all(is_reciprocal(axis.units) for axis in self.axes[-2:]):
            return True
        if self.column in ("STEM", "SEM") or self.spectroscopy:
            return False
        return "DIFFRACTION" in self.modes or "Diffraction" in tecnai.mode_of(_column(self.tags))

    def _is_fourier_transform(self) -> bool:
        """A transform of an image, which has a pattern's units but is none; power spectra have real numbers."""
        if self.pixel_type in COMPLEX_TYPES or "FFT" in group_at(self.tags, "Private"):
            return True
        steps = " ".join(text_at(step, "Operation") for step in group_at(self.tags, "Processing").values())
        return bool(TRANSFORM.search(self.title) or TRANSFORM.search(steps))

    @property
    def data_type(self) -> str:
        """Technique; ``Unknown`` when the tags do not say."""
        if self.spectroscopy:
            return f"{self.column}_{self.spectroscopy}".lstrip("_")
        if self.dataset_type == "Diffraction":
            return f"{self.column or 'TEM'}_Diffraction"
        if not self.column:
            return "Unknown"
        return f"{self.column}_{self.detector if self.column == 'STEM' and self.detector else 'Imaging'}"

    @cached_property
    def detector(self) -> str:
        """Detector of a scanned image by its title or its channel's name: ``HAADF``, ``BF``; empty when unknown."""
        channel = text_at(self.tags, "DataBar", "Signal Name")
        named = {*DETECTORS.findall(f"{self.title} {channel}"), *BRIGHT_AND_DARK.findall(channel)}
        return named.pop() if len(named) == 1 else ""


def _finite(value: Any, default: float) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else default


def _images(root: dict[str, Any]) -> Iterator[tuple[int, TaggedImage]]:
    """Every image but the thumbnails, with its place; later ones inherit the instrument's tags where they have none."""
    listed = dict(enumerate(group_at(root, "ImageList").values()))
    thumbnails = {dig(entry, "ImageIndex") for entry in group_at(root, "Thumbnails").values()}
    trees = {place: tree for place, tree in listed.items() if place not in thumbnails} or listed
    first: dict[str, Any] = {}
    for place, tree in trees.items():
        if not isinstance(tree, dict) or not group_at(tree, "ImageData", "Dimensions"):
            continue
        tags = _tags_of(tree, root)
        inherits = bool(first) and "Microscope Info" not in tags
        if inherits:
            tags = {**first, **tags}
        elif not first and "Microscope Info" in tags:
            info = {k: v for k, v in tags["Microscope Info"].items() if k in INSTRUMENT_TAGS}
            first = {"Microscope Info": info, "Session Info": group_at(tags, "Session Info")}
        yield place, TaggedImage(tree, tags, inherits)


def _tags_of(tree: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """``ImageTags``, for stacks completed by those of their first plane, and by Nion Swift's at the root."""
    tags = group_at(tree, "ImageTags")
    planes = list(group_at(tags, "plane info").values())
    plane = group_at(planes[0], "source tags") if planes else {}
    built = group_at(tags, "source", "Tags at creation")
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
    _Rule("Microscope Info > Imaging Mode", "projection_mode"),
    _Rule("Microscope Info > Illumination Mode", "illumination_mode"),
    _Rule("Microscope Info > Name", "microscope"),
    _Rule("Microscope Info > Facility", "Facility"),
    _Rule("Microscope Info > Specimen", "specimen"),
    _Rule("Microscope Info > Operator", "operator"),
    _Rule("Microscope Info > Microscope", "microscope"),
    _Rule("Microscope Info > Cs(mm)", "Cs", "mm", zero_is_unknown=True),
    _Rule("Microscope Info > Voltage", "acceleration_voltage", "V", zero_is_unknown=True),
    _Rule("Microscope Info > Actual Magnification", "Actual Magnification", zero_is_unknown=True),
    _Rule("Microscope Info > Emission Current (µA)", "emission_current", "µA", zero_is_unknown=True),
    _Rule("Microscope Info > Probe Current (nA)", "probe_current", "nA", zero_is_unknown=True),
    _Rule("Microscope Info > Probe Size (nm)", "Probe Size", "nm", zero_is_unknown=True),
    _Rule("Microscope Info > Stage Position > Stage X", "stage_x", "µm"),
    _Rule("Microscope Info > Stage Position > Stage Y", "stage_y", "µm"),
    _Rule("Microscope Info > Stage Position > Stage Z", "stage_z", "µm"),
    _Rule("Session Info > Detector", "detector_type"),
    _Rule("Session Info > Microscope", "microscope"),
    _Rule("Session Info > Operator", "operator"),
    _Rule("Session Info > Specimen", "specimen"),
    _Rule("Meta Data > Acquisition Mode", "Analytic Acquisition Mode"),
    _Rule("Meta Data > Format", "Analytic Format"),
    _Rule("Meta Data > Signal", "Analytic Signal"),
    _Rule("Meta Data > Experiment keywords > 1 > Label", "Analytic Label"),
    _Rule("DataBar > Device Name", "acquisition_device"),
    _Rule("Acquisition > Device > Name", "acquisition_device"),
    _Rule("DataBar > Signal Name", "Signal Name"),
    _Rule("EELS > Acquisition > Exposure (s)", "exposure_time", "s", zero_is_unknown=True),
    _Rule("CL > Acquisition > Exposure (s)", "exposure_time", "s", zero_is_unknown=True),
    _Rule("DataBar > Exposure Time (s)", "exposure_time", "s"),
    _Rule("Acquisition > Parameters > High Level > Exposure (s)", "exposure_time", "s"),
    _Rule("Acquisition > Parameters > High Level > Processing", "Camera/Detector Processing"),
    _Rule("DigiScan > Rotation", "scan_rotation", "deg"),
    _Rule("SI > Acquisition > Pixel time (s)", "pixel_time", "s", zero_is_unknown=True),
    _Rule("SI > Acquisition > SI Application Mode > Name", "scan_mode"),
)
SCANNED_IMAGE_RULES = (
    _Rule("DigiScan > Sample Time", "dwell_time", "µs", zero_is_unknown=True),
    _Rule("DigiScan > Flyback", "flyback_time", "µs", zero_is_unknown=True),
)
"""Where a spectrum was taken at each point, these are the settings of another image."""
SEM_RULES = (_Rule("Microscope Info > Objective focus (um)", "working_distance", "µm", zero_is_unknown=True),)
FIELD_OF_VIEW = _Rule("Microscope Info > Field of View (µm)", "Field of View", "µm", zero_is_unknown=True)
SPECTRUM_IMAGE_RULES = (
    _Rule("SI > Acquisition > Spatial Sampling > Height (pixels)", "Spatial Sampling (Vertical)"),
    _Rule("SI > Acquisition > Spatial Sampling > Width (pixels)", "Spatial Sampling (Horizontal)"),
    _Rule("SI > Acquisition > Scan Options > Sub-pixel sampling", "Sub-pixel Sampling Factor"),
)
SPECTROMETER_RULES = tuple(
    _Rule(f"{place} > {tag}", name, unit, "EELS Spectrometer")
    for place in ("EELS Spectrometer", "EELS > Acquisition > Spectrometer")
    for tag, name, unit in (
        ("Instrument name", "Instrument Name", None),
        ("Dispersion (eV/ch)", "Dispersion per Channel", "eV"),
        ("Drift tube enabled", "Drift Tube Enabled", None),
        ("Drift tube voltage (V)", "Drift Tube Voltage", "V"),
        ("HT offset (V)", "High Tension Offset", "V"),
        ("Slit inserted", "Slit Inserted", None),
        ("Prism offset (V)", "Prism Offset", "V"),
        ("Prism offset enabled", "Prism Offset Enabled", None),
        ("Prism offset enabled ", "Prism Offset Enabled", None),
    )
)
EELS_RULES = (
    _Rule("EELS > Experimental Conditions > Collection semi-angle (mrad)", "collection_angle", "mrad", None, True),
    _Rule("EELS > Experimental Conditions > Convergence semi-angle (mrad)", "convergence_angle", "mrad", None, True),
    _Rule("EELS > Acquisition > Integration time (s)", "Integration Time", "s", "EELS"),
    _Rule("EELS > Acquisition > Number of frames", "frames", zero_is_unknown=True),
    _Rule("EELS > Thickness > Absolute > Measurement", "Thickness (absolute)", "nm", "EELS"),
    _Rule("EELS > Thickness > Relative > Measurement", "Thickness (relative, t/λ)", None, "EELS"),
)
EDS_RULES = (
    _Rule("EDS > Detector Info > Azimuthal angle", "azimuthal_angle", "deg"),
    _Rule("EDS > Detector Info > Elevation angle", "elevation_angle", "deg"),
    _Rule("EDS > Detector Info > Solid angle", "solid_angle", "sr", zero_is_unknown=True),
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


def image_facts(image: TaggedImage) -> Facts:
    """Everything the tags say on one image.

    Stage positions are micrometres throughout, Z like X and Y: that is what DigitalMicrograph's own
    functions give (a Titan's Z of -142 or a SEM's of 37708 can be nothing else).
    """
    facts = Facts()
    # DigitalMicrograph's own values, which are added later, go before those of FEI's server.
    tecnai.add_column(facts, _column(image.tags), is_filtered=image.spectroscopy == "EELS")
    for rule in (*RULES, *SPECTROMETER_RULES, *SPECTROSCOPY_RULES[image.spectroscopy]):
        _apply(facts, rule, image.tags)
    for rule in SCANNED_IMAGE_RULES if image.dataset_type == "Image" else ():
        _apply(facts, rule, image.tags)
    for rule in SPECTRUM_IMAGE_RULES if image.dataset_type == "SpectrumImage" else ():
        _apply(facts, rule._replace(group="Spectrum Imaging"), image.tags)
    for rule in SEM_RULES if image.column == "SEM" else ():
        _apply(facts, rule, image.tags)
    _add_instrument(facts, image)
    _add_spectrometer(facts, image)
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
    value = dig(tags, *rule.path.split(" > "))
    if isinstance(value, dict | Block) or (rule.zero_is_unknown and value == 0):
        return
    facts.add(rule.name, value, rule.unit, rule.group)


def _column(tags: dict[str, Any]) -> list[tuple[str, str, str]]:
    """State of an FEI column as its server told it."""
    return tecnai.labels_of(text_at(tags, "Tecnai", "Microscope Info"))


def _add_instrument(facts: Facts, image: TaggedImage) -> None:
    """Add names and parts of the instrument: its software, its detector, its apertures."""
    if version := text_at(image.tags, "GMS Version", "Created"):
        facts.add("software", f"Gatan Microscopy Suite {version}")
    saved = text_at(image.tags, "GMS Version", "Saved")
    facts.add("Saved With", f"Gatan Microscopy Suite {saved}" if saved and saved != version else "")
    if model := next((value for label, value, _ in _column(image.tags) if label == "Microscope"), ""):
        facts.add("Microscope Name", facts.fields.get("microscope") if facts.fields.get("microscope") != model else "")
        facts.add("microscope", model)
    interface = text_at(image.tags, "Microscope Info", "Name")
    facts.add("Microscope Interface", interface if interface != facts.fields.get("microscope") else "")
    facts.add("detector_type", image.detector)
    for name in ("condenser_aperture", "objective_aperture", "selected_area_aperture"):
        value = dig(image.tags, "Microscope Info", FIELDS[name].display_name)
        if isinstance(value, str | int | float) and value:
            tecnai.add_length(facts, name, value)
    temperature = dig(image.tags, "Acquisition", "Device", "Temperature (C)")
    if isinstance(temperature, int | float):
        facts.add("Camera Temperature", temperature + 273.15, "K")


def _add_spectrometer(facts: Facts, image: TaggedImage) -> None:
    """Add what an energy filter let through, of spectra and of images."""
    for path in (("EELS", "Acquisition", "Spectrometer"), ("EELS Spectrometer",)):
        filter_ = group_at(image.tags, *path)
        if filter_.get("Slit inserted"):
            facts.add_measured("slit_width", filter_.get("Slit width (eV)"), "eV")
        elif "Slit inserted" in filter_:
            facts.fields.pop("slit_width", None)
        if image.spectroscopy == "EELS" or "EFTEM" in image.modes:
            facts.add("energy_loss", filter_.get("Energy loss (eV)"), "eV")
        if label := filter_.get("Aperture label"):
            tecnai.add_length(facts, "entrance_aperture", label)


def _add_magnification(facts: Facts, image: TaggedImage) -> None:
    """Add the magnification, which in a TEM's diffraction mode is the camera length in millimetres."""
    info = group_at(image.tags, "Microscope Info")
    value = info.get("Indicated Magnification")
    if image.column == "STEM":
        facts.add_measured("camera_length", info.get("STEM Camera Length"), "mm")
    if image.dataset_type == "Diffraction" and image.column == "TEM":
        facts.add_measured("camera_length", value, "mm")
    elif value:
        facts.add("magnification", value)


def _add_field_of_view(facts: Facts, image: TaggedImage) -> None:
    """Add the vendor's field of view, the field width only where no axis is a length on the specimen.

    It is that of the whole scan, of which the image or the map may be a small part.
    """
    calibrated = spatial_axes(image.axes)
    rule = FIELD_OF_VIEW if calibrated else FIELD_OF_VIEW._replace(name="horizontal_field_width")
    _apply(facts, rule, image.tags)


def _add_tilts(facts: Facts, image: TaggedImage) -> None:
    """Tilts; an SEM's plug-in gives tilt and rotation under the names of the two tilts."""
    names = ("stage_tilt", "stage_rotation") if image.column == "SEM" else ("stage_alpha", "stage_beta")
    for name, tag in zip(names, ("Stage Alpha", "Stage Beta"), strict=True):
        facts.add(name, dig(image.tags, "Microscope Info", "Stage Position", tag), "deg")


def _add_binning(facts: Facts, image: TaggedImage) -> None:
    """Add binning, columns first, and how many frames of a scan were added up."""
    binning = dig(image.tags, "Acquisition", "Parameters", "High Level", "Binning")
    if isinstance(binning, tuple) and len(binning) == 2:
        facts.add("binning", f"{binning[0]} × {binning[1]}")
    elif isinstance(binning := dig(image.tags, "DataBar", "Binning"), int | float):
        facts.add("binning", f"{binning:g}")
    scan = group_at(image.tags, "DigiScan")
    frames = scan.get("Number Summing Frames")
    if scan.get("Sum Frames") and image.dataset_type == "Image" and isinstance(frames, int | float):
        facts.add("frames", int(frames))


def _add_processing(facts: Facts, image: TaggedImage) -> None:
    """Add the processing steps in their order, and what belongs to a thickness measurement."""
    steps = [text_at(step, "Operation") for step in group_at(image.tags, "Processing").values()]
    words = [re.sub(r"(?<=[a-z])(?=[A-Z])", " ", step) for step in steps if step]
    facts.add("Processing Steps", ", ".join(words))
    path = dig(image.tags, "EELS", "Thickness", "Absolute", "Mean Free Path")
    if path is not None and hasattr(path, "size") and path.size:
        facts.add("Mean Free Path", shortest(path[0]), "nm", "EELS")


def _add_counting(facts: Facts, image: TaggedImage) -> None:
    """Add times and rates of X-ray counting: of the spectrum, or the average over the points of a scan."""
    for tag, name, unit in (
        ("Live time", "live_time", "s"),
        ("Real time", "real_time", "s"),
        ("Count rate", "Count Rate", None),
    ):
        points = dig(image.tags, "EDS", "Images", tag)
        if image.dataset_type == "SpectrumImage" and hasattr(points, "mean") and points.size:
            title = name.replace("_", " ").title()
            facts.add(f"{title} (SI Average)", points.mean(), unit, "EDS")
        elif unit:
            facts.add(name, dig(image.tags, "EDS", tag), unit)
        else:
            facts.add(name, dig(image.tags, "EDS", tag), None, "EDS")
    if group_at(image.tags, "EDS", "Detector Info"):
        facts.warnings["EDS"] = "DigitalMicrograph copies the detector values from its settings: they are not measured"


def _add_scan(facts: Facts, image: TaggedImage) -> None:
    scan = group_at(image.tags, "SI", "Acquisition")
    drift = group_at(scan, "Artefact Correction", "Spatial Drift")
    period, units = drift.get("Periodicity"), text_at(drift, "Units")
    if isinstance(period, int | float) and units:
        plural = units if period == 1 or units.endswith("s") else f"{units}s"
        facts.add(
            "Artefact Correction",
            f"Spatial drift correction every {period:g} {plural}",
            None,
            "Spectrum Imaging",
        )
    try:
        start, end = (local_time("2000-01-01", text_at(scan, tag)) for tag in ("Start time", "End time"))
    except ValueError:
        return
    facts.add("Acquisition Duration", (end - start).seconds, "s", "Spectrum Imaging")


PLAIN_DATE = re.compile(r"(?<!\d)\d{1,2}/\d{1,2}/\d{4}(?!\d)")
SHORT_YEAR = re.compile(r"\d{1,2}/\d{1,2}/\d{2}")
HALF_OF_DAY = re.compile(r"(?i)[ap]\s*\.?\s*m|午[前後]|[上下]午|오[전후]")
ACQUISITION_PLACES = (
    ("EELS", "Acquisition", "Date", "Start time"),
    ("EDS", "Acquisition", "Date", "Start time"),
    ("CL", "Acquisition", "Date", "Start time"),
    ("SI", "Acquisition", "Date", "Start time"),
)
NEAR = timedelta(days=2)


def acquisition_time(image: TaggedImage, modified: datetime, facts: Facts) -> datetime | None:
    """When the image was taken, from its tags.

    DigitalMicrograph writes date and time as the computer's locale spells them, and in ``Acquisition Time
    (OS)`` the instant in 100 ns since 1601 UTC. The two together give the clock's offset from UTC and tell
    day from month; without the instant `_unambiguous` decides.

    Returns
    -------
    datetime or None
        The instrument's local time; aware where the instant is known.
    """
    bar = group_at(image.tags, "DataBar")
    instant = _instant(image)
    texts = [(text_at(bar, "Acquisition Date"), text_at(bar, "Acquisition Time"))]
    places = [
        (text_at(image.tags, *path[:2], path[2]), text_at(image.tags, *path[:2], path[3]))
        for path in ACQUISITION_PLACES
    ]
    refused = ""
    for date_text, time_text in texts + places if instant else places + texts:
        if not (date_text and time_text):
            continue
        try:
            walls = [wall.replace(tzinfo=None) for wall in readings(date_text, time_text)]
        except ValueError as fault:
            refused = refused or f"the file says {fault}"
            continue
        fitting = (local for wall in walls if instant and (local := on_its_clock(wall, instant)))
        if local := next(fitting, None):
            return local
        return _unambiguous(walls, (date_text, time_text), image, modified, facts)
    if instant is None and refused:
        facts.warnings["Creation Time"] = refused
    return instant


def _instant(image: TaggedImage) -> datetime | None:
    """Find the moment of the acquisition in UTC, where the file has it as a number."""
    windows = dig(image.tags, "DataBar", "Acquisition Time (OS)")
    unix = dig(image.tags, "Acquisition", "Frame", "Sequence", "Acquisition Start Time (epoch)")
    for count, read in ((windows, filetime), (unix, lambda milliseconds: unix_time(milliseconds / 1e3))):
        try:
            found = read(count)
        except (TypeError, ValueError, OverflowError):
            continue
        if found.year >= FIRST_YEAR:
            return found.replace(microsecond=0)
    return None


def _unambiguous(
    walls: list[datetime], texts: tuple[str, str], image: TaggedImage, modified: datetime, facts: Facts
) -> datetime:
    """Choose from a month-first and a day-first reading, warning where a doubt remains.

    The file's other dates decide, then the day on which the file was written, then the locale's habits:
    only places that write the month first also write ``5:04 PM`` and no leading zeros (or, Nion Swift,
    two-digit years).
    """
    if len(walls) == 1:
        return walls[0]
    month_first, day_first = walls if _first_number(texts[0]) == walls[0].month else walls[::-1]
    for text in _other_dates(image.tags):
        days = readings(text, "00:00")
        if len(days) == 1:
            return day_first if days[0].day == _first_number(text) else month_first
    written = modified.replace(tzinfo=None)
    beside = (written, *_other_moments(image.tags))
    near = [wall for wall in walls if any(abs(wall - each) < NEAR for each in beside)]
    past = [wall for wall in walls if wall < written + NEAR]
    for some in (near, past):
        if len(some) == 1:
            return some[0]
    has_day_habit = not HALF_OF_DAY.search(texts[1]) or texts[0].startswith("0")
    is_day_first = has_day_habit and not SHORT_YEAR.fullmatch(texts[0])
    order = "day" if is_day_first else "month"
    facts.warnings["Creation Time"] = f"{texts[0]!r} was read with the {order} first, as its spelling suggests"
    return day_first if is_day_first else month_first


def _first_number(date: str) -> int:
    found = re.search(r"[0-9]+", date)
    return int(found[0]) if found else 0


def _other_moments(tags: dict[str, Any]) -> Iterator[datetime]:
    """Moments that are written without ambiguity: by the scan generator, by Nion Swift."""
    for text in (text_at(tags, "DigiScan", "TimeStamp"), text_at(tags, "Timestamp")):
        try:
            yield moment(text).replace(tzinfo=None)
        except ValueError:
            continue


def _other_dates(tree: Any) -> Iterator[str]:
    """Dates with slashes in any text of the acquisition; processing may have been done on another computer."""
    for name, value in tree.items() if isinstance(tree, dict) else ():
        if name in ("Processing", "Group Save"):
            continue
        if isinstance(value, dict):
            yield from _other_dates(value)
        elif isinstance(value, str) and len(value) < 200 and (found := PLAIN_DATE.search(value)):
            try:
                readings(found[0], "00:00")
            except ValueError:
                continue
            yield found[0]


def _pixels(image: TaggedImage, path: Path, byte_order: str, facts: Facts) -> Pixels | None:
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
    block = dig(image.tree, "ImageData", "Data")
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


MarkKind: TypeAlias = Literal["line", "arrow", "rectangle", "ellipse", "point", "text"]
LINE, ARROW, DOUBLE_ARROW, BOX, OVAL, WORDS, IMAGE_DISPLAY = 2, 3, 4, 5, 6, 13, 20
BOX_OF_INTEREST, LINE_OF_INTEREST, POINT_OF_INTEREST = 23, 25, 27
MARKS: Final[dict[int, MarkKind]] = {
    LINE: "line", ARROW: "arrow", DOUBLE_ARROW: "arrow", BOX: "rectangle", OVAL: "ellipse", WORDS: "text",
    BOX_OF_INTEREST: "rectangle", LINE_OF_INTEREST: "line", POINT_OF_INTEREST: "point",
}  # fmt: skip
"""``AnnotationType``: those of annotations and regions of interest. Scale bars (31) are drawn anew, masks (8 to 19)
belong to Fourier filters, and displays within the display (20) are other images."""
MOST_MARKS = 200


def _annotations(root: dict[str, Any]) -> dict[int, tuple[Annotation, ...]]:
    """Marks on the images' displays, by the number of the image in ``ImageList``."""
    found: dict[int, tuple[Annotation, ...]] = {}
    for display in group_at(root, "DocumentObjectList").values():
        place = dig(root, "ImageSourceList", str(dig(display, "ImageSource")), "ImageRef")
        if dig(display, "AnnotationType") == IMAGE_DISPLAY and isinstance(place, int):
            marks = list(group_at(display, "AnnotationGroupList").values())[:MOST_MARKS]
            found[place] = (*found.get(place, ()), *(each for mark in marks for each in _marks(mark)))
    return found


def _marks(mark: Any) -> Iterator[Annotation]:
    """One mark; a double arrow as two."""
    code, rectangle = dig(mark, "AnnotationType"), dig(mark, "Rectangle")
    numbers = isinstance(rectangle, tuple) and all(isinstance(n, int | float) and math.isfinite(n) for n in rectangle)
    if code not in MARKS or dig(mark, "IsVisible") is False or not numbers or len(rectangle) != 4:
        return
    top, left, bottom, right = (float(n) for n in rectangle)
    corners: tuple[tuple[float, float], ...] = ((top, left), (bottom, right))
    kind = MARKS[code]
    if kind not in ("point", "text") and corners[0] == corners[1]:
        return
    label = text_at(mark, "Text") if kind == "text" else text_at(mark, "Label")
    if kind == "text" and not label:
        return
    yield Annotation(kind, corners[:1] if kind in ("point", "text") else corners, label[:80])
    if code == DOUBLE_ARROW:
        yield Annotation(kind, corners[::-1])


class DigitalMicrographExtractor(Extractor):
    """Gatan DigitalMicrograph, versions 3 and 4 of its format."""

    name: ClassVar[str] = "digital_micrograph"
    format_name: ClassVar[str] = "Gatan DigitalMicrograph"
    version: ClassVar[str] = "3"
    extensions: ClassVar[frozenset[str]] = frozenset({".dm3", ".dm4"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether it begins like one; a file so named may be cut off or of another version, which is then said."""
        if is_digital_micrograph(head):
            return True
        named = source.path.suffix.lower() in self.extensions
        return named and (len(head) < SHORTEST or 0 < int.from_bytes(head[:4], "big") < LATEST_VERSION)

    def extract(self, source: Source) -> list[Signal]:
        """One signal for each image in the file."""
        root, byte_order = read_tags(source.path)
        surroundings = {name: root[name] for name in root if name not in ("ImageList", "Thumbnails")}
        annotations = _annotations(root)
        signals: list[Signal] = []
        for place, image in _images(root):
            facts = image_facts(image)
            acquired = acquisition_time(image, source.modified, facts)
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
                annotations=annotations.get(place, ()) if len(image.shape) == 2 else (),
            )
            signals.append(facts.give_to(signal))
        if not signals:
            msg = "the file holds no image"
            raise ExtractionError(msg)
        return signals


EXTRACTOR = DigitalMicrographExtractor()
