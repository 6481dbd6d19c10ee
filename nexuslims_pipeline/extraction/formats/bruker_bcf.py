"""Bruker ``.bcf``: EDS maps of Esprit, with the electron images that were taken along.

A file system in a file (AidAim's Single File System), little endian, offsets in bytes:

======  ==========  =======================================================================================
offset  type        meaning
======  ==========  =======================================================================================
0       8 bytes     ``AAMVHFSS``
0x124   f4, u4      version (2.4, 2.6), size of a chunk
0x140   u4, u4      chunk of the file table, number of its entries
0x118   chunk n     at ``0x118 + n * size``: 32 bytes of its own, first the number (u4) of the chunk that
                    continues it, then what it holds
======  ==========  =======================================================================================

An entry of the table has 512 bytes: i4 first chunk of the list of the file's chunks (u4 each), u8 length, three times,
u4, i4 entry of the folder it lies in, from 0xE0 the name; 0xDC is not 0 for a folder. The file ``HeaderData`` in the
folder ``EDSDatabase`` is XML (see `extraction.bruker`) with images in base64, sum spectra and settings;
``SpectrumData<n>`` is a map. A file that starts with ``AACS`` is compressed: after 128 bytes, whose u4 at 4 is the
length of an unpacked block and at 12 the number of blocks, each block is its length (u4), 12 bytes, and so many bytes
of zlib.

A map has its rows (u4) and columns (u4), and from 0x1A0 for each row: u4 number of pixels with counts, and each pixel:

======  ========  =========================================================================================
offset  type      meaning
======  ========  =========================================================================================
0       u4        column
4       u2, u2    channels of the map, and those that are stored
12      u2        0: counts as channel numbers of 16 bits, 1: of 12 bits, else: runs of channels
16      u2        number of counts (0, 1) or of counts beside the runs
18      u4        bytes that follow
======  ========  =========================================================================================

Twelve bits are packed from the high end of 16-bit words. A run is u1 width in half bytes (0: no counts), u1 number of
channels, a number of so many bytes that is added to each, and the channels; after the runs u4 length of the further
counts and their channel numbers, 16 bits each.
https://hyperspy.org/rosettasciio/file_specification/bruker.html and
https://github.com/hyperspy/rosettasciio/blob/main/rsciio/bruker/_api.py.
"""

import base64
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from math import ceil, prod
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded, entry
from nexuslims_pipeline.extraction.layouts.bruker import (
    add_spectrum,
    child,
    column_of,
    counts,
    energy_axis,
    finder,
    is_xrf,
    moment_of,
    text_at,
    tree,
)
from nexuslims_pipeline.extraction.layouts.spectra import Spectra
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import ELEMENTS, number, parse_xml
from nexuslims_pipeline.signals import Axis, Pixels, Signal, Source

MAGIC: Final = b"AAMVHFSS"
START: Final = 0x118
"""Where chunk 0 begins."""
CHUNK_HEAD: Final = 32
ENTRY_BYTES: Final = 512
MOST_ENTRIES: Final = 1024
LARGEST_CHUNK: Final = 1 << 26
COMPRESSED: Final = b"AACS"
COMPRESSED_HEAD: Final = 128
LARGEST_BLOCK: Final = 64 << 20
"""Bytes of an unpacked block; real ones have 8 MB."""
HEADER_LIMIT: Final = 256 << 20
"""Bytes of the header that are read; images of 4096 × 4096 pixels take 45 MB each."""
MAP_LIMIT: Final = 64 << 20
"""Bytes of a map that are read for its preview; of a larger one the sum spectrum is drawn."""
MAP_START: Final = 0x1A0
PIXEL: Final = struct.Struct("<IHH4xH2xHI")
MOST_POSITIONS: Final = 1 << 22
"""Positions of a map that are looked for one by one."""
RUN_TYPES: Final = {1: "u1", 2: "u1", 4: "<u2", 8: "<u4"}
"""NumPy types of the numbers in a run, by its width."""
IMAGE_DATA = re.compile(rb"<Data\b[^>]*>([^<]*)</Data>")
STEM_DETECTORS: Final = frozenset({"HAADF", "ADF", "BF", "ABF", "DF"})
CUT_OFF: Final = "it is damaged: it ends within its header (a copy that broke off?)"

MAP: Final = (
    entry("acceleration_voltage", "kV", "TRTSEMData/HV", never_zero=True),
    entry("magnification", "", "TRTSEMData/Mag", never_zero=True),
    entry("stage_x", "µm", "TRTSEMStageData/X"),
    entry("stage_y", "µm", "TRTSEMStageData/Y"),
    entry("stage_z", "µm", "TRTSEMStageData/Z"),
    entry("stage_tilt", "deg", "TRTSEMStageData/Tilt"),
    entry("stage_rotation", "deg", "TRTSEMStageData/Rotation"),
    entry("Pixels per Line", "", "TRTDSPConfiguration/ImageWidth", "Scan Generator", never_zero=True),
    entry("Lines", "", "TRTDSPConfiguration/ImageHeight", "Scan Generator", never_zero=True),
    entry("Pixel Average", "", "TRTDSPConfiguration/PixelAverage", "Scan Generator", never_zero=True),
    entry("Line Average", "", "TRTDSPConfiguration/LineAverage", "Scan Generator", never_zero=True),
    entry("Pixel Time", "µs", "TRTDSPConfiguration/PixelTime", "Scan Generator", never_zero=True),
    entry("Tilt Angle", "deg", "TRTDSPConfiguration/TiltAngle", "Scan Generator"),
)
"""Values of the map as a whole, in the units of Esprit."""


class BrukerBcf(Extractor):
    """EDS maps of Bruker Esprit: their images, then the map of each run."""

    name: ClassVar[str] = "bruker_bcf"
    format_name: ClassVar[str] = "Bruker map"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".bcf"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:  # noqa: ARG002 - the head says it all
        """Whether it is such a file system; Bruker's other programs use it too, for files without a map."""
        return head.startswith(MAGIC)

    def extract(self, source: Source) -> list[Signal]:
        """Read the header; numbers of images and maps when they are sliced.

        Raises
        ------
        ExtractionError
            If it is cut off within its header, or holds no map.
        """
        with source.path.open("rb") as file:
            files = _files(file, source.size)
            if "HeaderData" not in files:
                msg = "it holds no map of Bruker Esprit (the file system has no EDSDatabase/HeaderData)"
                raise ExtractionError(msg)
            header = b"".join(_content(file, files["HeaderData"], HEADER_LIMIT))
        blobs = [match.span(1) for match in IMAGE_DATA.finditer(header)]
        database = child(parse_xml(_without(header, blobs)), "TRTSpectrumDatabase")
        if database is None:
            msg = "it is damaged: the header describes no map"
            raise ExtractionError(msg)
        scan = _Scan(database, _images_of(database, header, blobs))
        maps = [scan.map_signal(n, source, stored) for n, stored in _maps(files)]
        signals = [signal for signal in (*scan.image_signals(), *maps) if signal is not None]
        native = bounded(tree(database))
        for signal in signals:
            signal.native = native
        return signals


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a file of the file system lies."""

    chunks: tuple[int, ...]
    """Offsets of its pieces in the ``.bcf``, in their order."""
    piece: int
    """Bytes of each."""
    size: int
    """Bytes of all."""
    is_complete: bool
    """Whether all of it lies within the ``.bcf``."""


def _files(file: BinaryIO, size: int) -> dict[str, Stored]:
    """Files in the folder ``EDSDatabase``, by name.

    Raises
    ------
    ExtractionError
        If the file table is damaged.
    """
    head = file.read(START + CHUNK_HEAD + 32)
    if len(head) < START + CHUNK_HEAD + 32:
        raise ExtractionError(CUT_OFF)
    [chunk] = struct.unpack_from("<I", head, 0x128)
    table, count = struct.unpack_from("<II", head, 0x140)
    if not ENTRY_BYTES < chunk <= LARGEST_CHUNK or not 0 < count <= MOST_ENTRIES:
        msg = "it is damaged: its file table is of an absurd size"
        raise ExtractionError(msg)
    per_chunk = (chunk - CHUNK_HEAD) // ENTRY_BYTES
    pieces = _chain(file, chunk, table, ceil(count / per_chunk))
    entries = [piece[n * ENTRY_BYTES : (n + 1) * ENTRY_BYTES] for piece in pieces for n in range(per_chunk)][:count]
    if any(len(each) < ENTRY_BYTES for each in entries):
        raise ExtractionError(CUT_OFF)
    names = [each[0xE0:0x1E0].split(b"\0")[0].decode("utf-8", "replace") for each in entries]
    found: dict[str, Stored] = {}
    for name, each in zip(names, entries, strict=True):
        first, length = struct.unpack_from("<iQ", each)
        [folder] = struct.unpack_from("<i", each, 40)
        if each[0xDC] == 0 and 0 <= folder < len(names) and names[folder] == "EDSDatabase":
            found[name] = _stored(file, chunk, first, length, size)
    return found


def _chain(file: BinaryIO, chunk: int, first: int, count: int) -> Iterator[bytes]:
    """Content of `count` chunks that continue each other."""
    for _ in range(count):
        file.seek(START + first * chunk)
        raw = file.read(chunk)
        if len(raw) < CHUNK_HEAD:
            raise ExtractionError(CUT_OFF)
        [first] = struct.unpack_from("<I", raw)
        yield raw[CHUNK_HEAD:]


def _stored(file: BinaryIO, chunk: int, first: int, length: int, size: int) -> Stored:
    piece = chunk - CHUNK_HEAD
    if length > size:
        return Stored((), piece, length, is_complete=False)
    count = ceil(length / piece)
    per_chunk = piece // 4
    try:
        numbers = b"".join(
            part[: per_chunk * 4] for part in _chain(file, chunk, max(first, 0), ceil(count / per_chunk))
        )
    except ExtractionError:
        numbers = b""
    present = min(count, len(numbers) // 4)
    chunks = tuple(START + CHUNK_HEAD + n * chunk for n in struct.unpack_from(f"<{present}I", numbers))
    ends = [place + min(piece, length - n * piece) for n, place in enumerate(chunks)]
    return Stored(chunks, piece, length, present == count and max(ends, default=0) <= size)


def _pieces(file: BinaryIO, stored: Stored) -> Iterator[bytes]:
    left = stored.size
    for place in stored.chunks:
        file.seek(place)
        yield file.read(min(left, stored.piece))
        left -= stored.piece


def _content(file: BinaryIO, stored: Stored, limit: int) -> Iterator[bytes]:
    """What the file holds, unpacked, piece by piece.

    Raises
    ------
    ExtractionError
        If it is cut off, damaged or larger than `limit`.
    """
    if not stored.is_complete:
        raise ExtractionError(CUT_OFF)
    raw = b"".join(_pieces(file, stored)) if stored.size <= limit else b""
    blocks = _unpacked(raw) if raw.startswith(COMPRESSED) else iter((raw,))
    given = stored.size if stored.size > limit else 0
    for block in blocks:
        given += len(block)
        if given > limit:
            msg = f"a file in it has more than {limit >> 20} MB, more than is read"
            raise ExtractionError(msg)
        yield block


def _unpacked(raw: bytes) -> Iterator[bytes]:
    try:
        longest, _, blocks = struct.unpack_from("<III", raw, 4)
        longest = min(max(longest, 1), LARGEST_BLOCK)
        place = COMPRESSED_HEAD
        for _ in range(blocks):
            [length] = struct.unpack_from("<I", raw, place)
            place += 16
            yield zlib.decompressobj().decompress(raw[place : place + length], longest)
            place += length
    except (struct.error, zlib.error) as fault:
        msg = "it is damaged: compressed data in it cannot be unpacked"
        raise ExtractionError(msg) from fault


def _maps(files: dict[str, Stored]) -> list[tuple[int, Stored]]:
    """Number and place of each map."""
    found = ((re.fullmatch(r"SpectrumData(\d{1,3})", name), stored) for name, stored in files.items())
    return sorted(((int(match[1]), stored) for match, stored in found if match), key=lambda each: each[0])


def _without(header: bytes, blobs: list[tuple[int, int]]) -> bytes:
    """XML with the number of each blob in its place: images are decoded when somebody wants to see them."""
    parts, end = [], 0
    for n, (start, stop) in enumerate(blobs):
        parts += [header[end:start], b"%d" % n]
        end = stop
    return b"".join((*parts, header[end:]))


class _Plane:
    """An image of the header; decoded when it is first sliced."""

    def __init__(self, code: bytes, shape: tuple[int, int], width: int) -> None:
        import numpy as np

        self.shape = self.chunks = shape
        self.dtype = np.dtype(f"<u{width}")
        self.ndim = 2
        self._code = code

    def __getitem__(self, key: Any) -> Any:
        import numpy as np

        try:
            raw = base64.b64decode(self._code)
            return np.frombuffer(raw, self.dtype, prod(self.shape)).reshape(self.shape)[key]
        except ValueError as fault:
            msg = "it is damaged: an image in its header cannot be decoded"
            raise ExtractionError(msg) from fault


@dataclass(frozen=True, slots=True)
class _Image:
    """Described image of the header."""

    name: str
    plane: _Plane
    acquired: datetime | None
    is_of_map: bool


def _images_of(database: Any, header: bytes, blobs: list[tuple[int, int]]) -> list[_Image]:
    """Images that hold something: those taken with the map, then the overviews."""
    own = [each for each in database.findall("ClassInstance[@Type='TRTImageData']") if not each.get("Name")]
    overviews = database.findall(
        "ClassInstance[@Type='TRTContainerClass']/ChildClassInstances/ClassInstance[@Name='OverviewImages']"
        "/ChildClassInstances/ClassInstance[@Type='TRTImageData']"
    )
    images = []
    for data, is_of_map in [*((each, True) for each in own[-1:]), *((each, False) for each in overviews)]:
        rows, columns, width = (_whole(text_at(data, key)) for key in ("Height", "Width", "ItemSize"))
        for plane in (each for each in data if re.fullmatch(r"Plane\d+", str(each.tag))):
            code = header[slice(*blobs[_whole(text_at(plane, "Data"))])] if text_at(plane, "Data") else b""
            if width not in (1, 2, 4) or len(code) * 3 // 4 < rows * columns * width or not rows * columns:
                continue
            if text_at(plane, "Valid") == "0" or not code.strip(b"A=\r\n "):
                continue
            name = text_at(plane, "Description") or data.get("Name", "")
            images.append(_Image(name, _Plane(code, (rows, columns), width), moment_of(data, Facts()), is_of_map))
    return images


def _whole(text: str) -> int:
    """Whole number in `text`; 0 when it is none."""
    return int(text) if re.fullmatch(r"\d{1,9}", text) else 0


@dataclass(slots=True)
class _Scan:
    """What all datasets of the file have in common."""

    database: Any
    images: list[_Image]
    facts: Facts = field(default_factory=Facts)
    acquired: datetime | None = None

    def __post_init__(self) -> None:
        facts = self.facts
        find = finder(self.database)
        facts.add_entries(MAP, find)
        if not find("TRTSEMData/WD").startswith("-"):  # -1: not told by the microscope
            facts.add_entries([entry("working_distance", "mm", "TRTSEMData/WD", never_zero=True)], find)
        self.acquired = moment_of(self.database.find("Header"), facts)

    def image_signals(self) -> Iterator[Signal]:
        """The electron images."""
        column = column_of(self.facts)
        for image in self.images:
            rows, columns = image.plane.shape
            axes = self._area(rows, columns) if image.is_of_map else (Axis(rows, name="y"), Axis(columns, name="x"))
            technique = image.name if column == "STEM" and image.name in STEM_DETECTORS else "Imaging"
            facts = self._facts()
            facts.add("detector_type", image.name)
            facts.add_axes(axes)
            yield facts.give_to(
                Signal(
                    "Image",
                    f"{column}_{technique}",
                    shape=(rows, columns),
                    name=image.name,
                    acquired=image.acquired or self.acquired,
                    pixels=Pixels(image.plane, axes),
                )
            )

    def map_signal(self, n: int, source: Source, stored: Stored) -> Signal | None:
        """Map `n`; None when the header does not describe it."""
        spectrum = child(self.database.find(f"SpectrumData{n}"), "TRTSpectrum")
        size = self._size()
        if spectrum is None or size is None:
            return None
        facts = self._facts()
        voltage = facts.fields.pop("acceleration_voltage", None) if is_xrf(spectrum) else None
        add_spectrum(facts, spectrum)
        if voltage is not None:
            facts.extensions.setdefault("X-ray Tube", {}).setdefault("Voltage", voltage)
        energy = energy_axis(spectrum, facts)
        axes = (*self._area(*size, navigation=True), energy)
        facts.add_axes(axes)
        self._add_times(facts, size[1])
        self._add_elements(facts)
        signal = Signal(
            "SpectrumImage",
            "XRF" if is_xrf(spectrum) else f"{column_of(facts)}_EDS",
            shape=(*size, energy.size),
            name=self.database.get("Name", ""),
            acquired=self.acquired,
        )
        drawn, problem = _drawn(source.path, stored, signal.shape)
        if problem:
            facts.warnings["Pixels"] = problem
        signal.pixels = Pixels(counts(spectrum), (energy,)) if drawn is None else Pixels(drawn, axes)
        return facts.give_to(signal)

    def _facts(self) -> Facts:
        facts = Facts()
        facts.fields |= self.facts.fields
        facts.extensions |= self.facts.extensions
        facts.warnings |= self.facts.warnings
        return facts

    def _size(self) -> tuple[int, int] | None:
        """Rows and columns of the map, which are those of the images taken with it."""
        own = [each for each in self.database.findall("ClassInstance[@Type='TRTImageData']") if not each.get("Name")]
        rows, columns = (_whole(text_at(own[-1], key)) if own else 0 for key in ("Height", "Width"))
        return (rows, columns) if rows and columns else None

    def _area(self, rows: int, columns: int, *, navigation: bool = False) -> tuple[Axis, Axis]:
        steps = []
        for key in ("DY", "DX"):
            try:
                steps.append(number(text_at(child(self.database, "TRTSEMData"), key)))
            except ValueError:
                steps.append(0.0)
        known = min(steps) > 0
        y, x = (
            Axis(size, step if known else 1.0, units="µm" if known else "", name=name, navigation=navigation)
            for size, step, name in zip((rows, columns), steps, "yx", strict=True)
        )
        return y, x

    def _add_times(self, facts: Facts, columns: int) -> None:
        """Dwell time, frames, and the time of the whole map where the detector does not tell it.

        A pixel is averaged and a line repeated before the next begins; `LineCounter` counts how often each line came.
        """
        find = finder(self.database)
        settings = [_whole(find(f"TRTDSPConfiguration/{key}")) for key in ("PixelTime", "PixelAverage", "LineAverage")]
        lines = [_whole(word.strip()) for word in text_at(self.database, "LineCounter").split(",")]
        facts.add_measured("dwell_time", settings[0] * settings[1], "µs")
        facts.add("frames", max(lines) or None)
        if "real_time" not in facts.fields:
            facts.add_measured("real_time", sum(lines) * columns * prod(settings) / 1e6, "s")

    def _add_elements(self, facts: Facts) -> None:
        """Elements that the operator chose, each with its line (``KA``)."""
        regions = self.database.findall(".//ClassInstance[@Type='TRTSpectrumRegion']")
        chosen = [each.get("Name", "") for each in regions]
        facts.add("elements", [name for name in dict.fromkeys(chosen) if name in ELEMENTS])
        lines = [text_at(each, "Description") for each in regions if each.get("Name", "") in ELEMENTS]
        facts.add("X-ray Lines", ", ".join(dict.fromkeys(filter(None, lines))))


def _drawn(path: Path, stored: Stored, shape: tuple[int, ...]) -> tuple[Spectra | None, str]:
    """The map as an array, or why only its sum is known."""
    import numpy as np

    if not stored.is_complete:
        return None, "The file ends within the map (a copy that broke off?): the preview shows its sum spectrum."
    if stored.size > MAP_LIMIT or prod(shape[:-1]) > MOST_POSITIONS:
        return None, ""
    cube = _Cube(path, stored, shape)
    return Spectra(shape[:-1], shape[-1], np.dtype("<u4"), cube.spectra), ""


class _Cube:
    """Spectra of a map, decoded when they are asked for."""

    def __init__(self, path: Path, stored: Stored, shape: tuple[int, ...]) -> None:
        self._path, self._stored, self._shape = path, stored, shape
        self._raw = b""
        self._places: dict[int, int] = {}

    def spectra(self, positions: Any) -> Any:
        """Counts at `positions`, shape ``(n, channels)``.

        Raises
        ------
        ExtractionError
            If the map is damaged.
        """
        import numpy as np

        if not self._raw:
            with self._path.open("rb") as file:
                self._raw = b"".join(_content(file, self._stored, MAP_LIMIT))
            self._places = _places(self._raw, *self._shape[:2])
        channels = self._shape[-1]
        result = np.zeros((len(positions), channels), np.dtype("<u4"))
        for n, position in enumerate(positions.tolist()):
            if position in self._places:
                result[n] = _spectrum(self._raw, self._places[position], channels)
        return result


def _places(raw: bytes, rows: int, columns: int) -> dict[int, int]:
    """Where the pixels that have counts begin, by position.

    Raises
    ------
    ExtractionError
        If the map is of another size or ends too early.
    """
    places: dict[int, int] = {}
    place = MAP_START
    try:
        if struct.unpack_from("<II", raw) != (rows, columns):
            msg = "it is damaged: the map is of another size than its images"
            raise ExtractionError(msg)
        for row in range(rows):
            [pixels] = struct.unpack_from("<I", raw, place)
            place += 4
            for _ in range(pixels):
                column, _, _, kind, further, length = PIXEL.unpack_from(raw, place)
                if column < columns:
                    places[row * columns + column] = place
                place += PIXEL.size + length + (2 * further if kind > 1 else 0)
    except struct.error as fault:
        msg = "it is damaged: the map ends too early"
        raise ExtractionError(msg) from fault
    return places


def _spectrum(raw: bytes, place: int, channels: int) -> Any:
    """Counts of the pixel at `place`, shape ``(channels,)``."""
    import numpy as np

    _, _, _, kind, further, length = PIXEL.unpack_from(raw, place)
    place += PIXEL.size
    end = place + length
    if kind == 0:
        return _histogram(np.frombuffer(raw, "<u2", min(further, length // 2), place), channels)
    if kind == 1:
        return _histogram(_twelve_bits(raw[place:end])[:further], channels)
    spectrum = np.zeros(channels, np.int64)
    first = 0
    for values in _runs(raw[place : end - 4]):
        part = spectrum[first : first + len(values)]
        part += values[: len(part)]
        first += len(values)
    return spectrum + _histogram(np.frombuffer(raw, "<u2", further, end), channels)


def _histogram(found: Any, channels: int) -> Any:
    """How often each channel was found; those beyond the last are left out."""
    import numpy as np

    return np.bincount(found[found < channels], minlength=channels)


def _twelve_bits(packed: bytes) -> Any:
    """Numbers of twelve bits, packed from the high end of 16-bit words."""
    import numpy as np

    words = np.frombuffer(packed[: len(packed) // 2 * 2], "<u2").byteswap().tobytes()
    octets = np.frombuffer(words + bytes(-len(words) % 3), np.uint8).reshape(-1, 3).astype(np.int64)
    pairs = octets[:, 0] << 16 | octets[:, 1] << 8 | octets[:, 2]
    return np.stack((pairs >> 12, pairs & 0xFFF), axis=1).ravel()


def _runs(packed: bytes) -> Iterator[Any]:
    """Counts of consecutive channels.

    Raises
    ------
    ExtractionError
        If a run has a width that does not exist, or more numbers than there are.
    """
    import numpy as np

    place = 0
    while place + 2 <= len(packed):
        width, size = packed[place : place + 2]
        place += 2
        if width == 0:
            yield np.zeros(size, np.int64)
            continue
        length = (size * width + 1) // 2
        if width not in RUN_TYPES or place + width + length > len(packed):
            msg = "it is damaged: the counts of a pixel cannot be unpacked"
            raise ExtractionError(msg)
        least = int.from_bytes(packed[place : place + width], "little")
        values = np.frombuffer(packed, RUN_TYPES[width], length // max(1, width // 2), place + width)
        place += width + length
        yield least + (_half_bytes(values)[:size] if width == 1 else values.astype(np.int64))


def _half_bytes(values: Any) -> Any:
    import numpy as np

    return np.stack((values & 15, values >> 4), axis=1).ravel().astype(np.int64)


EXTRACTOR = BrukerBcf()
