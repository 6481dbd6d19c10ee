"""Phenom ``.elid``: projects of Element Identification on Thermo Fisher's desktop microscopes.

One bzip2 stream, little endian, without offsets: everything has to be read in its order. Numbers of spectra are written
in seven bits per byte, the lowest first, with the high bit set in all bytes but the last ("varints").

===============  ====================================================================================
part             content
===============  ====================================================================================
project          ``EID2``, i4 version (0 to 4), u4 number of images, images; from version 1 analyses of
                 no image, and those made of others
image            u4 length of a TIFF, the TIFF, u4 length and title, u4 number of analyses, analyses
analysis         u1 kind, the common part, what the kind has
common part      TIFF, f8 start and f8 step of the energy in eV, u4 n, n varints, conditions, elements
                 included and excluded (u4 n, n atomic numbers u1), u4 n fit bins i4, u4 n oxides 3 × u1,
                 u1 automatic, i4 number of the analysis, u4 n families 2 × u1, from version 2 u1 drift
                 correction, from version 4 ignored elements
conditions       f8 each: V, elevation and azimuth of the detector in radians, live and real time in s,
                 slow and fast peaking time in s, resolution in eV; text: instrument; from version 1 f8 each: optical
                 and true working distance in m, detector area in m², distance in m, tilt in radians; from
                 version 3 f8 carbon correction, u1 detector, u1 kind of spectrum
spot (2)         f8 x, y as parts of the field, from its middle
line (3)         f8 x, y, x, y; u4 points, u4 channels, f8 start and step, conditions, u1 and u1 whether
                 each point has its real and live time, varints, f8 those times, u1
map (4)          f8 left, top, right, bottom; u4 n, n f8; u4 columns, rows, channels, then as a line
difference (5)   u4, u4: which; region (6): f8 left, top, right, bottom; imported (1): nothing
made of (7)      text, u4 n, n times u4 which and f8 weight
===============  ====================================================================================

In version 0 the elevation is in degrees. The TIFF has the XML ``<FeiImage>`` in tag 34683, with units as attributes.
https://github.com/hyperspy/rosettasciio/blob/main/rsciio/phenom/_api.py.
"""

import bz2
import contextlib
import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded, entry
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import ELEMENTS, UNITS_AS_WRITTEN, decode, moment, parse_xml, xml_texts
from nexuslims_pipeline.signals import Axis, Pixels, Signal, Source

BZIP2: Final = b"BZh"
GZIP: Final = b"\x1f\x8b"
BLOCK_MARK: Final = b"\x31\x41\x59\x26\x53\x59"
MAGIC: Final = b"EID2"
NEWEST: Final = 4
UNPACKED_LIMIT: Final = 256 << 20
"""Bytes that are unpacked; those of a map of 256 × 256 spectra are half of it."""
FILE_LIMIT: Final = 256 << 20
DRAWN_COUNTS: Final = 1 << 24
"""Numbers of a map that are decoded for a preview: of a larger one the sum spectrum is drawn."""
MOST: Final = 100_000
"""Images, analyses, elements ... of one list."""
MOST_PIXELS: Final = 1 << 26
XML_TAG: Final = 34683
AT_ONCE: Final = 1 << 20
DETECTORS: Final = {1: "FastSDD C2", 2: "FastSDD C5", 3: "FastSDD WLS"}
KINDS: Final = {1: "Imported", 2: "Spot", 3: "Line", 4: "Map", 5: "Difference", 6: "Region", 7: "Sum"}
CONDITIONS: Final = (
    "Voltage", "Elevation", "Azimuth", "Live Time", "Real Time", "Slow Peaking Time", "Fast Peaking Time", "Resolution",
)  # fmt: skip
LATER_CONDITIONS: Final = (
    "Optical Working Distance", "Working Distance", "Detector Area", "Detector Distance", "Tilt",
)  # fmt: skip
HIGH_BIT: Final = 128
LONGEST_VARINT: Final = 5
GREY_MODES: Final = {"L": "u1", "I;16": "<u2", "I": "<i4", "F": "<f4"}
"""Pillow's modes of one channel and their NumPy types."""
CUT_OFF: Final = "it is damaged: it ends too early (a copy that broke off?)"
INSTRUMENT: Final = (
    entry("acceleration_voltage", "kV", "acquisition/scan/highVoltage", never_zero=True),
    entry("emission_current", "µA", "acquisition/scan/emissionCurrent", never_zero=True),
    entry("spot_size", "", "acquisition/scan/spotSize", never_zero=True),
    entry("working_distance", "mm", "workingDistance", never_zero=True),
    entry("stage_x", "m", "samplePosition/x"),
    entry("stage_y", "m", "samplePosition/y"),
    entry("microscope", None, "instrument/type"),
    entry("software", None, "instrument/softwareVersion"),
    entry("operator", None, "currentUser"),
    entry("Edition", None, "instrument/edition"),
    entry("Serial Number", None, "instrument/uniqueID"),
    entry("Filament Power", "W", "acquisition/scan/filamentPower", never_zero=True),
    entry("Source Time", "h", "acquisition/scan/sourceTime", never_zero=True),
)
"""Values of an image that hold for its analyses, too."""
SCAN: Final = (
    entry("dwell_time", "ns", "acquisition/scan/dwellTime", never_zero=True),
    entry("detector_type", None, "acquisition/scan/detector"),
    entry("frames", "", "integrations", never_zero=True),
    entry("Spot Preset", None, "acquisition/scan/spotPresetName"),
    entry("Contrast", "", "appliedContrast", "Image"),
    entry("Brightness", "", "appliedBrightness", "Image"),
    entry("Gamma", "", "appliedGamma", "Image"),
)
PIXEL: Final = (
    entry("pixel_height", "nm", "pixelHeight", never_zero=True),
    entry("pixel_width", "nm", "pixelWidth", never_zero=True),
)


class PhenomElid(Extractor):
    """Projects of Phenom's Element Identification: images, each followed by the spectra and maps of its analyses."""

    name: ClassVar[str] = "phenom_elid"
    format_name: ClassVar[str] = "Phenom Element Identification"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".elid"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether it is a bzip2 stream of that kind; by its name if it is a damaged one, or of older programs."""
        if source.path.suffix.lower() in self.extensions:
            return head.startswith((GZIP, BZIP2))
        return head.startswith(BZIP2) and head[4:10] == BLOCK_MARK and _first_bytes(source.path) == MAGIC

    def extract(self, source: Source) -> list[Signal]:
        """Read all that the stream holds, up to where it may be cut off.

        Raises
        ------
        ExtractionError
            If nothing of it can be read.
        """
        raw = _unpacked(source.path)
        if not raw.startswith(MAGIC):
            msg = "it is no project of Element Identification 3.8 or later" if raw else CUT_OFF
            raise ExtractionError(msg)
        project = _Project(raw)
        try:
            for signal in project.signals():
                project.found.append(signal)
        except ExtractionError as fault:
            if not project.found:
                raise
            for signal in project.found:
                signal.warnings["File"] = f"What follows in the file was not read: {fault}."
        if not project.found:
            msg = "it holds neither images nor analyses"
            raise ExtractionError(msg)
        return project.found


def _first_bytes(path: Path) -> bytes:
    """First bytes of the unpacked stream; empty when its first block (of up to 0.9 MB) is not whole."""
    with path.open("rb") as file, contextlib.suppress(OSError):
        return bz2.BZ2Decompressor().decompress(file.read(AT_ONCE), len(MAGIC))
    return b""


def _unpacked(path: Path) -> bytes:
    """The stream as far as it can be unpacked.

    Raises
    ------
    ExtractionError
        If it is larger than any project, or of the time before 3.8.
    """
    if path.stat().st_size > FILE_LIMIT:
        msg = f"it is larger than {FILE_LIMIT >> 20} MB, more than is unpacked"
        raise ExtractionError(msg)
    unpacker, size = bz2.BZ2Decompressor(), 0
    parts: list[bytes] = []
    with path.open("rb") as file, contextlib.suppress(OSError):
        while not unpacker.eof and size <= UNPACKED_LIMIT:
            packed = file.read(AT_ONCE) if unpacker.needs_input else b""
            if packed.startswith(GZIP) and not parts:
                msg = "it was written by Element Identification before 3.8, which a newer one can convert"
                raise ExtractionError(msg)
            if not packed and unpacker.needs_input:
                break
            parts.append(unpacker.decompress(packed, 8 * AT_ONCE))
            size += len(parts[-1])
    if size > UNPACKED_LIMIT:
        msg = f"it unpacks to more than {UNPACKED_LIMIT >> 20} MB, more than is read"
        raise ExtractionError(msg)
    return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Counts:
    """Varints that are not decoded yet."""

    place: int
    end: int
    number: int


@dataclass(slots=True)
class Image:
    """An image with its settings."""

    tiff: bytes = b""
    title: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    """Of the XML in the TIFF, by path; units under ``path@unit``."""
    shape: tuple[int, int] = (0, 0)

    def text(self, place: str) -> str:
        """Value with its unit, as `Facts.add_written` takes it; the sign of the high voltage is dropped."""
        text, unit = self.settings.get(place, ""), self.settings.get(f"{place}@unit", "")
        text = text.lstrip("-") if place.endswith("highVoltage") else text
        return f"{text} {unit}" if text and unit in UNITS_AS_WRITTEN else text

    def pixel(self) -> tuple[float, float]:
        """Height and width of a pixel in metres; 0 when unknown."""
        facts = Facts()
        facts.add_entries(PIXEL, self.text)
        sizes = [facts.fields.get(each.name) for each in PIXEL]
        height, width = (0.0 if size is None else float(size.m_as("m")) for size in sizes)
        return height, width

    def mixed(self) -> list[str]:
        """Detectors whose signals make up the image: ``QBSD``, ``SED``."""
        parts = (re.fullmatch(r"acquisition/scan/detectors/(\w{1,20})/mixFactor", place) for place in self.settings)
        return [part[1] for part in parts if part and self.settings[part[0]].strip("+-0.,")]

    def field_width(self) -> float:
        """Length that positions of analyses are parts of, in metres: the longer side of the image."""
        height, width = self.pixel()
        return max(height * self.shape[0], width * self.shape[1])


class _Project:
    """The stream, read from its beginning to its end."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._place = len(MAGIC)
        [self._version] = self._take("i")
        self.found: list[Signal] = []
        if not 0 <= self._version <= NEWEST:
            msg = f"it is of version {self._version}, which is not known"
            raise ExtractionError(msg)

    def signals(self) -> Iterator[Signal]:
        """Datasets in the order of the file."""
        for _ in range(self._count()):
            tiff = self._bytes()
            image = _image(tiff, self._text())
            analyses = self._count()
            if image.shape != (0, 0):
                yield _image_signal(image)
            for _ in range(analyses):
                yield self._analysis(image)
        for _ in range(2 if self._version >= 1 else 0):
            for _ in range(self._count()):
                yield self._analysis(Image())

    def _take(self, form: str) -> tuple[Any, ...]:
        size = struct.calcsize("<" + form)
        if self._place + size > len(self._raw):
            raise ExtractionError(CUT_OFF)
        self._place += size
        return struct.unpack_from("<" + form, self._raw, self._place - size)

    def _count(self) -> int:
        [count] = self._take("I")
        if count > MOST:
            msg = "it is damaged: a list in it is of an absurd length"
            raise ExtractionError(msg)
        return int(count)

    def _bytes(self) -> bytes:
        [size] = self._take("I")
        return bytes(self._take(f"{size}s")[0]) if size <= len(self._raw) - self._place else self._fail()

    def _fail(self) -> bytes:
        raise ExtractionError(CUT_OFF)

    def _text(self) -> str:
        return decode(self._bytes())[0]

    def _symbols(self) -> list[str]:
        return [ELEMENTS[z - 1] for z in self._bytes() if 0 < z <= len(ELEMENTS)]

    def _varints(self, number_: int) -> Counts:
        """Step over `number_` varints."""
        import numpy as np

        start, left = self._place, number_
        while left:
            ends = np.frombuffer(self._raw[self._place : self._place + AT_ONCE], np.uint8) < HIGH_BIT
            found = int(np.count_nonzero(ends))
            if found >= left:
                self._place += int(np.flatnonzero(ends)[left - 1]) + 1
                break
            if not len(ends):
                raise ExtractionError(CUT_OFF)
            self._place += len(ends)
            left -= found
        return Counts(start, self._place, number_)

    def _conditions(self) -> dict[str, Any]:
        values: dict[str, Any] = dict(zip(CONDITIONS, self._take("8d"), strict=True))
        if self._version == 0:
            values["Elevation"] = math.radians(values["Elevation"])
        values["Instrument"] = self._text()
        if self._version >= 1:
            values |= zip(LATER_CONDITIONS, self._take("5d"), strict=True)
        if self._version >= 3:
            correction, detector, kind = self._take("d2B")
            values |= {"Carbon Correction": correction, "Detector": DETECTORS.get(detector, "")}
            values["Spectrum Correction"] = {1: "linearised", 2: "raw"}.get(kind, "")
        return values

    def _analysis(self, image: Image) -> Signal:
        """One analysis of an image."""
        [kind] = self._take("B")
        if kind not in KINDS:
            msg = f"it is damaged, or has an analysis of the unknown kind {kind}"
            raise ExtractionError(msg)
        self._bytes()
        start, step, channels = self._take("2dI")
        total = self._varints(channels)
        conditions = self._conditions()
        included, excluded = self._symbols(), self._symbols()
        self._take(f"{self._count()}i")
        oxides = self._take(f"{3 * self._count()}B")
        automatic, order = self._take("?i")
        self._take(f"{2 * self._count()}B")
        [drift] = self._take("B") if self._version >= 2 else (0,)
        ignored = self._symbols() if self._version >= 4 else []
        facts = Facts()
        facts.add_entries(INSTRUMENT, image.text)
        facts.add("elements", included)
        facts.add("Excluded Elements", ", ".join(excluded))
        facts.add("Ignored Elements", ", ".join(ignored))
        facts.add("Oxides", ", ".join(_oxides(oxides)))
        facts.add("Automatic Identification", automatic)
        facts.add("Drift Correction", {1: "on", 2: "off"}.get(drift))
        energy = _energy_axis(start, step, channels)
        positions, counts, further = self._of_kind(kind, image, facts)
        native = {"Conditions": conditions, **further}
        _add_conditions(facts, conditions)
        axes = (*positions, energy)
        if not (positions and counts and counts.number <= DRAWN_COUNTS):
            drawn = Pixels(_decoded(self._raw, total, (channels,)), (energy,)) if channels else None
        else:
            drawn = Pixels(_Lazy(self._raw, counts, tuple(axis.size for axis in axes)), axes)
        facts.add_axes(axes)
        signal = Signal(
            "SpectrumImage" if positions else "Spectrum",
            "SEM_EDS",
            shape=tuple(axis.size for axis in axes),
            name=", ".join(filter(None, (image.title, f"{KINDS[kind]} {order}"))),
            acquired=_acquired(image, facts),
            native=bounded({"Analysis": native, "Image": image.settings}),
            pixels=drawn,
        )
        return facts.give_to(signal)

    def _of_kind(self, kind: int, image: Image, facts: Facts) -> tuple[tuple[Axis, ...], Counts | None, dict[str, Any]]:
        """Axes of the positions, their counts, and what else the kind of analysis has."""
        match KINDS[kind]:
            case "Spot":
                return (), None, {"Position": self._take("2d")}
            case "Line":
                return self._line(image)
            case "Map":
                return self._map(image)
            case "Difference":
                return (), None, {"Of": self._take("2I")}
            case "Region":
                return (), None, {"Region": self._take("4d")}
            case "Sum":
                facts.add("Description", self._text())
                return (), None, {"Of": [self._take("Id") for _ in range(self._count())]}
        return (), None, {}

    def _line(self, image: Image) -> tuple[tuple[Axis, ...], Counts, dict[str, Any]]:
        x1, y1, x2, y2, size, channels = self._take("4d2I")
        further = {"Line": (x1, y1, x2, y2)} | self._times_and_counts(size, channels)
        self._take("?")
        length = math.hypot(x2 - x1, y2 - y1) * image.field_width()
        axis = _position_axis(size, length, "Position")
        return (axis,), further.pop("Counts"), further

    def _map(self, image: Image) -> tuple[tuple[Axis, ...], Counts, dict[str, Any]]:
        left, top, right, bottom = self._take("4d")
        self._take(f"{self._count()}d")
        columns, rows, channels = self._take("3I")
        further = {"Region": (left, top, right, bottom)} | self._times_and_counts(rows * columns, channels)
        width = image.field_width()
        y = _position_axis(rows, abs(bottom - top) * width, "y")
        x = _position_axis(columns, abs(right - left) * width, "x")
        return (y, x), further.pop("Counts"), further

    def _times_and_counts(self, positions: int, channels: int) -> dict[str, Any]:
        if positions * channels > len(self._raw):
            raise ExtractionError(CUT_OFF)
        self._take("2d")
        conditions = self._conditions()
        varies = self._take("2?")
        counts = self._varints(positions * channels)
        times = [self._take(f"{positions if each else 1}d") for each in varies]
        return {"Conditions of Positions": conditions, "Counts": counts, "Times of Positions": times}


def _image(tiff: bytes, title: str) -> Image:
    """Settings and size of an embedded image; those of a damaged one stay empty."""
    image = Image(tiff, title)
    if not tiff:
        return image
    with contextlib.suppress(ExtractionError):
        with _open(tiff) as picture:
            columns, rows = picture.size
            xml = picture.tag_v2.get(XML_TAG, "")
        image.shape = (rows, columns)
        root = parse_xml(xml.strip("\0 \r\n").encode() if isinstance(xml, str) else bytes(xml).strip(b"\0 \r\n"))
        image.settings = xml_texts(root)
        for element in root.iter():
            if unit := element.get("unit"):
                way = [str(each.tag) for each in (element, *element.iterancestors())][:-1]
                image.settings[f"{'/'.join(reversed(way))}@unit"] = unit
    return image


@contextlib.contextmanager
def _open(tiff: bytes) -> Iterator[Any]:
    """Open an embedded TIFF with Pillow.

    Raises
    ------
    ExtractionError
        If it is none, or has too many pixels.
    """
    import warnings

    from PIL import Image as Pillow

    try:
        with warnings.catch_warnings(action="ignore"), Pillow.open(BytesIO(tiff), formats=("TIFF",)) as picture:
            if math.prod(picture.size) > MOST_PIXELS:
                msg = "an image in it has more pixels than are decoded"
                raise ExtractionError(msg)
            yield picture
    except (OSError, SyntaxError, ValueError, EOFError, KeyError, TypeError, Pillow.DecompressionBombError) as fault:
        msg = f"an image in it is damaged ({str(fault)[:120]})"
        raise ExtractionError(msg) from fault


class _Picture:
    """Pixels of an embedded TIFF, decoded when they are sliced; colours as grey."""

    def __init__(self, tiff: bytes, shape: tuple[int, int], dtype: Any) -> None:
        self.shape = self.chunks = shape
        self.dtype = dtype
        self.ndim = 2
        self._tiff = tiff

    def __getitem__(self, key: Any) -> Any:
        import numpy as np

        with _open(self._tiff) as picture:
            grey = picture if picture.mode in GREY_MODES else picture.convert("L")
            return np.asarray(grey)[key]


def _image_signal(image: Image) -> Signal:
    import numpy as np

    facts = Facts()
    facts.add_entries((*INSTRUMENT, *SCAN), image.text)
    if "detector_type" not in facts.fields:
        facts.add("detector_type", "+".join(image.mixed()))
    height, width = image.pixel()
    axes = (_length_axis(image.shape[0], height, "y"), _length_axis(image.shape[1], width, "x"))
    facts.add_axes(axes)
    with _open(image.tiff) as picture:
        dtype = np.dtype(GREY_MODES.get(picture.mode, "u1"))
    signal = Signal(
        "Image",
        "SEM_Imaging",
        shape=image.shape,
        name=image.title,
        acquired=_acquired(image, facts),
        native=bounded(image.settings),
        pixels=Pixels(_Picture(image.tiff, image.shape, dtype), axes),
    )
    return facts.give_to(signal)


def _length_axis(size: int, step: float, name: str, *, navigation: bool = False) -> Axis:
    """Axis with a step in metres, of unknown length where it is 0."""
    return Axis(size, step * 1e6 or 1.0, units="µm" if step else "", name=name, navigation=navigation)


def _position_axis(size: int, length: float, name: str) -> Axis:
    return _length_axis(size, length / size if size else 0.0, name, navigation=True)


def _energy_axis(start: float, step: float, channels: int) -> Axis:
    if not (math.isfinite(start) and math.isfinite(step) and step > 0):
        return Axis(channels, name="Channel")
    return Axis(channels, step / 1e3, start / 1e3, "keV", "Energy")


def _add_conditions(facts: Facts, conditions: dict[str, Any]) -> None:
    """Detector and times; angles are in radians, everything is in SI units."""
    facts.add_measured("acceleration_voltage", conditions["Voltage"], "V")
    facts.add("elevation_angle", _degrees(conditions["Elevation"]), "deg")
    facts.add("azimuthal_angle", _degrees(conditions["Azimuth"]), "deg")
    facts.add_measured("live_time", conditions["Live Time"], "s")
    facts.add_measured("real_time", conditions["Real Time"], "s")
    facts.add_measured("shaping_time", conditions["Slow Peaking Time"], "s")
    facts.add_measured("detector_energy_resolution", conditions["Resolution"], "eV")
    facts.add("detector_type", conditions.get("Detector"))
    facts.add("Spectrum Correction", conditions.get("Spectrum Correction"))
    facts.add("Serial Number", conditions["Instrument"])
    facts.add_measured("working_distance", conditions.get("Working Distance", 0), "m")
    facts.add_measured("Fast Peaking Time", conditions["Fast Peaking Time"], "s", "EDS Detector")
    facts.add_measured("Active Area", conditions.get("Detector Area", 0), "m^2", "EDS Detector")
    facts.add_measured("Distance", conditions.get("Detector Distance", 0), "m", "EDS Detector")
    facts.add("stage_tilt", _degrees(conditions.get("Tilt")), "deg")


def _degrees(radians: float | None) -> float | None:
    return None if radians is None else float(f"{math.degrees(radians):.9g}")


def _oxides(numbers: tuple[int, ...]) -> Iterator[str]:
    """``Al2O3`` of 13, 2, 3."""
    for z, metal, oxygen in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True):
        if 0 < z <= len(ELEMENTS):
            yield f"{ELEMENTS[z - 1]}{metal if metal > 1 else ''}O{oxygen if oxygen > 1 else ''}"


def _acquired(image: Image, facts: Facts) -> datetime | None:
    """When the image was taken; analyses bear no time of their own."""
    text = image.settings.get("time", "")
    if not text:
        return None
    try:
        return moment(text)
    except ValueError as fault:
        facts.warnings["Creation Time"] = f"The file says {fault}."
        return None


class _Lazy:
    """Spectra of a map or line, decoded when they are first sliced."""

    def __init__(self, raw: bytes, counts: Counts, shape: tuple[int, ...]) -> None:
        import numpy as np

        self.shape = shape
        self.dtype = np.dtype("<u4")
        self.ndim = len(shape)
        self._raw, self._counts = raw, counts
        self._array: Any = None

    def __getitem__(self, key: Any) -> Any:
        if self._array is None:
            self._array = _decoded(self._raw, self._counts, self.shape)
        return self._array[key]


def _decoded(raw: bytes, counts: Counts, shape: tuple[int, ...]) -> Any:
    """Varints as numbers of 32 bits.

    Raises
    ------
    ExtractionError
        If one is larger.
    """
    import numpy as np

    octets = np.frombuffer(raw, np.uint8, counts.end - counts.place, counts.place)
    ends = np.flatnonzero(octets < HIGH_BIT)
    starts = np.concatenate((np.zeros(1, ends.dtype), ends[:-1] + 1))
    longest = int((ends - starts).max(initial=0)) + 1
    if longest > LONGEST_VARINT:
        msg = "it is damaged: a count in it is absurdly large"
        raise ExtractionError(msg)
    values = np.zeros(len(ends), np.uint32)
    for n in range(longest):
        has_more = starts + n <= ends
        values[has_more] |= (octets[starts[has_more] + n] & (HIGH_BIT - 1)).astype(np.uint32) << np.uint32(7 * n)
    return values.reshape(shape)


EXTRACTOR = PhenomElid()
