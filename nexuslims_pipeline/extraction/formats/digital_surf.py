"""Digital Surf ``.sur`` and ``.pro``: surfaces, profiles, and the images and spectra of Attolight's microscopes.

An object is a header of 512 bytes, a comment, a private zone and the numbers; a file may hold several, which
RosettaSciIO (https://hyperspy.org/rosettasciio) puts together. Little endian:

======  =====  ==============================================================================
offset  type   meaning
======  =====  ==============================================================================
0       12 B   ``DIGITAL SURF`` or ``DSCOMPRESSED``
14      i2     number of objects; 18: type of object
98      i2     bits per number
108     i4     points per line; 112: lines; 116: points in all
94      i4     spectral channels or images, of some types
324     u4     bytes of the compressed numbers
334     u2     bytes of the comment; 336: of the private zone
======  =====  ==============================================================================

Compressed numbers are a count (u4), as many pairs of lengths (u4, unpacked and packed) and the ZIP streams. Attolight
writes its microscope's settings into the comment, ``$_SECTION`` and ``$Name=value unit``.
"""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, BinaryIO, ClassVar, Final

from nexuslims_pipeline.extraction.facts import METRES, Facts
from nexuslims_pipeline.extraction.model import ExtractionError
from nexuslims_pipeline.extraction.rosettasciio import EAGER_LIMIT, RosettaSciIOExtractor, at
from nexuslims_pipeline.signals import Axis, DatasetType, Pixels, Signal, Source

MAGIC: Final = (b"DIGITAL SURF", b"DSCOMPRESSED")
HEADER_BYTES: Final = 512
MOST_STREAMS: Final = 10_000
NUMBER_BITS: Final = (1, 8, 16, 32, 64)
SETTINGS: Final = (
    ("SEM", "Beam Energy", "acceleration_voltage", "V", ""),
    ("SEM", "Extractor Voltage", "extraction_voltage", "V", ""),
    ("SEM", "Emission Current", "emission_current", "µA", ""),
    ("SEM", "Beam Current", "Gun Beam Current", "µA", ""),
    ("SEM", "Cathode Heating Current", "filament_current", "A", ""),
    ("SEM", "Real Magnification", "magnification", None, ""),
    ("SEM", "Aperture", "aperture_diameter", "µm", ""),
    ("SEM", "Gun Lens", "Gun Lens", "A", "Lenses"),
    ("SEM", "Objective Lens", "Objective Lens", "A", "Lenses"),
    ("SEM", "Suppressor Bias", "Suppressor Bias", "V", ""),
    ("SEM", "Scintillator Voltage", "Scintillator Voltage", "V", ""),
    ("SEM", "Gun Chamber Pressure", "Gun Pressure", "torr", ""),
    ("SEM", "Aperture Chamber Pressure", "Aperture Chamber Pressure", "torr", ""),
    ("SITE IMAGE", "Dwell Time", "dwell_time", "µs", ""),
    ("SITE IMAGE", "stage_position_x", "stage_x", "mm", ""),
    ("SITE IMAGE", "stage_position_y", "stage_y", "mm", ""),
    ("SITE IMAGE", "stage_position_z", "stage_z", "mm", ""),
    ("SITE IMAGE", "stage_rotation_x", "stage_alpha", "deg", ""),
    ("SITE IMAGE", "stage_rotation_y", "stage_beta", "deg", ""),
    ("SITE IMAGE", "stage_rotation_z", "stage_rotation", "deg", ""),
    ("CCD", "Camera Model", "acquisition_device", None, ""),
    ("CCD", "Exposure Time", "exposure_time", "s", ""),
    ("CCD", "Horizontal Binning", "Horizontal Binning", None, "Camera"),
    ("CCD", "ReadMode", "Read Mode", None, "Camera"),
    ("CCD", "Signal Amplification", "Amplification", None, "Camera"),
    ("CCD", "Temperature", "Temperature", "degC", "Camera"),
    ("CCD", "Pixel Width", "Pixel Width", "mm", "Camera"),
    ("SPECTROMETER", "Turret", "Model", None, "Spectrometer"),
    ("SPECTROMETER", "Grating", "Grating", None, "Spectrometer"),
    ("SPECTROMETER", "Grating - Groove Density", "Groove Density", "1/mm", "Spectrometer"),
    ("SPECTROMETER", "Central wavelength", "Central Wavelength", "nm", "Spectrometer"),
    ("SPECTROMETER", "Entrance slit width", "Entrance Slit Width", "µm", "Spectrometer"),
    ("SPECTROMETER", "Exit slit width", "Exit Slit Width", "µm", "Spectrometer"),
    ("SPECTROMETER", "Filter", "Filter", None, "Spectrometer"),
    ("SCAN", "Mode", "scan_mode", None, ""),
    ("SCAN", "Rotate", "scan_rotation", "deg", ""),
)
"""Attolight's section, setting, name here, unit and group."""
NEVER_ZERO: Final = frozenset({
    "acceleration_voltage", "extraction_voltage", "emission_current", "Gun Beam Current", "magnification",
    "dwell_time", "exposure_time", "Groove Density",
})  # fmt: skip
MICROSCOPE: Final = "Attolight Allalin"


class DigitalSurf(RosettaSciIOExtractor):
    """Surfaces, and Attolight's cathodoluminescence."""

    name: ClassVar[str] = "digital_surf"
    format_name: ClassVar[str] = "Digital Surf"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".sur", ".pro"})
    is_conclusive: ClassVar[bool] = True
    reader: ClassVar[str] = "digitalsurf"

    def accepts(self, source: Source, head: bytes) -> bool:  # noqa: ARG002 - the head says it all
        """Whether it begins with one of the two signatures."""
        return head.startswith(MAGIC)

    def check(self, source: Source) -> int:
        """Compare what the objects declare with the file, and unpack no more than they declare."""
        total = 0
        with source.path.open("rb") as file:
            [count] = struct.unpack("<h", _exactly(file, 16)[14:16])
            file.seek(0)
            for _ in range(max(count, 1)):
                total += _check_object(file, source.path.stat().st_size)
        if total > EAGER_LIMIT:
            msg = f"it holds {total / 1e9:.1f} GB of numbers, more than its reader can take at once"
            raise ExtractionError(msg)
        return total

    def complete(self, metadata: dict[str, Any], original: Any) -> None:
        """Leave out the library's map of the settings, which `refine` reads completely and with their units."""
        metadata.pop("Acquisition_instrument", None)
        if _settings(original).get("SEM"):
            metadata["Acquisition_instrument"] = {"SEM": {"microscope": MICROSCOPE}}

    def data_type(self, dataset_type: DatasetType, axes: tuple[Axis, ...], metadata: Mapping[str, Any]) -> str:
        """Cathodoluminescence for spectra over wavelengths, electron images where the settings of an SEM are there."""
        if dataset_type in ("Spectrum", "SpectrumImage"):
            return "SEM_CL" if any(axis.name == "Wavelength" for axis in axes) else "Unknown"
        return super().data_type(dataset_type, axes, metadata)

    def refine(self, signal: Signal, dictionary: Mapping[str, Any], source: Source) -> Signal:  # noqa: ARG002
        """Add the microscope's settings; wavelengths in nanometres."""
        facts = Facts()
        original = dictionary.get("original_metadata") or {}
        settings = _settings(original)
        for section, key, name, unit, group in SETTINGS:
            value = settings.get(section, {}).get(key)
            if value is None or (name in NEVER_ZERO and not value):
                continue
            if isinstance(value, int | float):
                facts.add(name, float(f"{value:.7g}") + 0.0 if unit else value, unit, group or None)
            else:  # the library takes the last word of a text for its unit
                facts.add(name, f"{value} {settings[section].get(f'{key}_units') or ''}", group=group or None)
        facts.add("detector_type", _detector(signal, original))
        if signal.pixels is not None:
            signal.pixels = Pixels(signal.pixels.array, tuple(map(_in_nanometres, signal.pixels.axes)))
        return facts.give_to(signal)


def _settings(original: Any) -> dict[str, dict[str, Any]]:
    """Attolight's settings by section; those of the camera, where the writer cut the comment, are among others."""
    for name in original:
        parsed = at(original[name], "Parsed")
        if isinstance(parsed, dict):
            channels = parsed.get("CHANNELS", {})
            return {**parsed, "CCD": parsed.get("CCD") or (channels if "Camera Model" in channels else {})}
    return {}


def _detector(signal: Signal, original: Any) -> str:
    """Name of the image, which is that of its detector."""
    if signal.data_type != "SEM_Imaging":
        return ""
    names = {str(at(tree, "Header.H06_Object_Name") or "").strip() for tree in original.values()}
    return names.pop() if len(names) == 1 else ""


def _in_nanometres(axis: Axis) -> Axis:
    if axis.name != "Wavelength" or axis.units not in METRES:
        return axis
    factor = METRES[axis.units] * 1e9
    return replace(axis, scale=axis.scale * factor, offset=axis.offset * factor, units="nm")


def _check_object(file: BinaryIO, size: int) -> int:
    """Bytes of an object's numbers; the file is left at the next one."""
    header = _exactly(file, HEADER_BYTES)
    if not header.startswith(MAGIC):
        msg = "one of its objects does not begin as it should"
        raise ExtractionError(msg)
    [bits] = struct.unpack_from("<h", header, 98)
    channels, points, lines, total = (struct.unpack_from("<i", header, place)[0] for place in (94, 108, 112, 116))
    comment, private = struct.unpack_from("<HH", header, 334)
    if bits not in NUMBER_BITS or min(points, lines, total) < 1 or channels < 0:
        msg = f"its header declares {points} × {lines} numbers of {bits} bits, which is nothing that can be read"
        raise ExtractionError(msg)
    numbers = max(points * lines, total) * max(channels, 1) * max(bits // 8, 1)
    file.seek(comment + private, 1)
    if header.startswith(MAGIC[1]):
        _check_streams(file, numbers, size)
    elif file.tell() + total * max(channels, 1) * bits // 8 > size:
        msg = "the file ends before its last number (a copy that broke off?)"
        raise ExtractionError(msg)
    else:
        file.seek(total * max(channels, 1) * bits // 8, 1)
    return int(numbers)


def _check_streams(file: BinaryIO, numbers: int, size: int) -> None:
    [count] = struct.unpack("<I", _exactly(file, 4))
    if count > MOST_STREAMS:
        msg = f"its header declares {count} compressed parts"
        raise ExtractionError(msg)
    lengths = list(struct.iter_unpack("<II", _exactly(file, 8 * count)))
    if sum(unpacked for unpacked, _ in lengths) > min(2 * numbers, EAGER_LIMIT):
        msg = "its compressed parts declare more numbers than its header"
        raise ExtractionError(msg)
    if file.tell() + sum(packed for _, packed in lengths) > size:
        msg = "the file ends before its last number (a copy that broke off?)"
        raise ExtractionError(msg)
    for unpacked, packed in lengths:
        try:
            expanded = len(zlib.decompressobj().decompress(_exactly(file, packed), unpacked + 1))
        except zlib.error as fault:
            msg = f"its compressed numbers are damaged ({fault})"
            raise ExtractionError(msg) from fault
        if expanded != unpacked:
            msg = "its compressed numbers are more or fewer than it declares"
            raise ExtractionError(msg)


def _exactly(file: BinaryIO, length: int) -> bytes:
    raw = file.read(length)
    if len(raw) < length:
        msg = "the file is cut off within its header"
        raise ExtractionError(msg)
    return raw


EXTRACTOR = DigitalSurf()
