"""MRC, the format of electron cryo-microscopy: images, stacks of them, and density maps.

A header of 1024 bytes, an extended header, the pixels; the byte order of the header is that of the pixels:

======  =====  =========================================================================================
offset  type   meaning
======  =====  =========================================================================================
0       i4     columns, rows and sections; 12: mode, the type of the pixels
28      i4     divisions of the cell along x, y and z; 40: f4 lengths of the cell, Å
64      i4     which of x, y, z the columns, rows and sections run along
88      i4     space group: 0 for images, 1 to 230 for a volume, 401 and more for stacks of volumes
92      i4     bytes of the extended header; 104: its kind, 108: year and revision of the format
128     i2     integers and (130) reals of a record of the extended header
152     i4     1146047817 for IMOD, SerialEM; 156: whether bytes have a sign
208     4s     ``MAP``, and the machine's stamp: 0x44 little, 0x11 big endian
220     i4     number of labels of 80 characters, which follow
======  =====  =========================================================================================

https://www.ccpem.ac.uk/mrc-format/mrc2014/, https://bio3d.colorado.edu/imod/doc/mrc_format.txt. Extended headers are in
`mrc_extended`. SerialEM (``.mdoc``), EPU (``.xml``) and Direct Electron (``_info.txt``) leave more beside the file.

Many programmes write space group 1 for stacks as well. Only a file whose sections have a thickness is taken for a
volume, and none whose extension or extended header says that it is a series.
"""

import math
import re
import struct
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded
from nexuslims_pipeline.extraction.formats import serialem_mdoc, thermo_epu
from nexuslims_pipeline.extraction.layouts import direct_electron
from nexuslims_pipeline.extraction.layouts.frames import Frames, cut_off, present_part
from nexuslims_pipeline.extraction.layouts.mrc_extended import Extended, read_extended
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.rosettasciio import DETECTORS
from nexuslims_pipeline.extraction.vendor_text import decode, moment
from nexuslims_pipeline.metadata.units import tidy
from nexuslims_pipeline.signals import Axis, DatasetType, Pixels, Signal, Source

HEADER_BYTES: Final = 1024
MARK_AT: Final = 208
MARK: Final = b"MAP "
STAMPS: Final = {0x44: "<", 0x41: "<", 0x11: ">"}
"""First byte of the machine's stamp and the byte order that it means."""
LAST_MODE: Final = 1000
TEM_LABELS: Final = ("SerialEM:", "EMDATABANK", "EMDB")
"""Labels of files from transmission microscopes."""
LARGEST_SIDE: Final = 1 << 20
LARGEST_EXTENDED: Final = 64 << 20
LABEL: Final = 80
LABELS_AT: Final = 224
MOST_LABELS: Final = 10
IMOD: Final = 1146047817
SIGNED_BYTES: Final = 1
SIGNED_SINCE: Final = 20140
"""Version of the format since which bytes have a sign."""
MODES: Final = {1: "i2", 2: "f4", 3: "i2", 4: "c8", 6: "u2", 12: "f2", 16: "u1", 101: "u1"}
"""NumPy's types; mode 0 has a byte, with or without a sign."""
COMPLEX_INTEGERS: Final = 3
COLOURS: Final = 16
HALF_BYTES: Final = 101
KINDS: Final = ("SERI", "AGAR", "FEI1", "FEI2", "CCP4", "MRCO", "HDF5")
STACKS: Final = frozenset({".mrcs", ".st", ".ali", ".preali"})
"""Extensions of files whose sections are images of their own."""
VOLUMES: Final = frozenset({".rec", ".map", ".ccp4"})
OLD_EXTENSIONS: Final = frozenset({".mrc", ".st", ".ali", ".rec", ".mrcs"})
"""Extensions of files that may be too old for the mark at 208."""
LABEL_DATE: Final = re.compile(r"\d{1,2}-[A-Za-z]{3}-\d{2,4}\s+\d{1,2}:\d{2}:\d{2}")


@dataclass(frozen=True, slots=True)
class Header:
    """What the first 1024 bytes say."""

    order: str
    """``<`` or ``>``."""
    shape: tuple[int, int, int]
    """Sections, rows, columns."""
    mode: int
    divisions: tuple[int, ...]
    cell: tuple[float, ...]
    axes: tuple[int, ...]
    group: int
    extended: int
    """Bytes of the extended header."""
    kind: str
    version: int
    integers: int
    reals: int
    is_signed: bool
    has_mark: bool
    labels: tuple[str, ...]
    range: tuple[float, ...] = field(default=())
    """Least, largest and mean value."""

    @property
    def pixel_bytes(self) -> float:
        """Bytes of a pixel; 0 when the mode is not known."""
        import numpy as np

        if self.mode == HALF_BYTES:
            return 0.5
        if self.mode not in MODES and self.mode != 0:
            return 0
        return np.dtype(MODES.get(self.mode, "u1")).itemsize * {COMPLEX_INTEGERS: 2, COLOURS: 3}.get(self.mode, 1)

    @property
    def section_bytes(self) -> int:
        """Bytes of a section; rows of half bytes are filled up."""
        _, rows, columns = self.shape
        return rows * math.ceil(columns * self.pixel_bytes)

    def step(self, axis: int) -> float:
        """Å between sections (0), rows (1) or columns (2); 0 when not known."""
        along = self.axes[2 - axis] - 1
        divisions, length = self.divisions[along], self.cell[along]
        return length / divisions if divisions > 0 and 0 < length < math.inf else 0.0


class Mrc(Extractor):
    """Images, stacks and density maps."""

    name: ClassVar[str] = "mrc"
    format_name: ClassVar[str] = "MRC"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = OLD_EXTENSIONS | STACKS | VOLUMES
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether it has the format's mark, or the header and the size of a file that is older than that."""
        extension = source.path.suffix.lower()
        header = _header(head)
        if header is None:
            return extension in self.extensions and (head[MARK_AT:][:4] == MARK or len(head) < HEADER_BYTES)
        whole = HEADER_BYTES + header.extended + header.shape[0] * header.section_bytes
        return header.has_mark or (extension in OLD_EXTENSIONS and header.section_bytes > 0 and whole <= source.size)

    def extract(self, source: Source) -> list[Signal]:
        """Read the one dataset.

        Raises
        ------
        ExtractionError
            If the header makes no sense.
        """
        with source.path.open("rb") as file:
            header = _header(file.read(HEADER_BYTES))
            if header is None:
                msg = "it is damaged: its header is cut off or makes no sense"
                raise ExtractionError(msg)
            raw = file.read(min(header.extended, LARGEST_EXTENDED))
        facts = Facts()
        images = header.shape[0]
        extended = read_extended(header.kind, raw, images, header.integers, header.reals, facts, header.order)
        beside = _read_beside(source, header, facts)
        if not beside.has_tilts:
            serialem_mdoc.add_tilts(facts, extended.tilts)
        facts.add("Labels", list(header.labels))
        signal = Signal(*_kind(source.path, header, extended, beside, facts), name=beside.name)
        signal.acquired = extended.acquired or beside.acquired or _labelled(header.labels)
        native = {"header": _native(header), "extended_header": extended.native, **beside.native}
        signal.native = bounded({part: values for part, values in native.items() if values})
        _give_sections(signal, source, header, _pixel_size(header, extended, beside, facts), beside, facts)
        return [facts.give_to(signal)]


@dataclass(slots=True)
class Beside:
    """What companions say."""

    native: dict[str, Any] = field(default_factory=dict)
    acquired: datetime | None = None
    kind: tuple[DatasetType, str] | None = None
    """Dataset type and technique."""
    name: str = ""
    scan: tuple[int, ...] | None = None
    """Shape of the scan that the sections are of."""
    step: tuple[float, float] | None = None
    """nm from row to row and from column to column of a scan, or of the image that was made of one."""
    has_tilts: bool = False


def _header(head: bytes) -> Header | None:
    """The header, if it is one."""
    if len(head) < HEADER_BYTES:
        return None
    mark, stamp = head[MARK_AT : MARK_AT + 4], head[MARK_AT + 4]
    has_mark = mark == MARK or (mark[:3] == MARK[:3] and stamp in STAMPS)
    for order in (STAMPS[stamp],) if has_mark and stamp in STAMPS else ("<", ">"):
        columns, rows, sections, mode, *_ = struct.unpack_from(f"{order}4i", head)
        along = struct.unpack_from(f"{order}3i", head, 64)
        extended = struct.unpack_from(f"{order}i", head, 92)[0]
        sides_fit = 0 < columns <= LARGEST_SIDE and 0 < rows <= LARGEST_SIDE and sections > 0
        axes_fit = sorted(along) == [1, 2, 3] or not any(along)
        if sides_fit and extended >= 0 and (has_mark or (axes_fit and mode in (0, *MODES))) and 0 <= mode < LAST_MODE:
            axes = along if sorted(along) == [1, 2, 3] else (1, 2, 3)
            return _filled(head, order, (sections, rows, columns), mode, axes, has_mark=has_mark)
    return None


def _filled(
    head: bytes, order: str, shape: tuple[int, int, int], mode: int, axes: tuple[int, ...], *, has_mark: bool
) -> Header:
    def numbers(code: str, place: int) -> tuple[Any, ...]:
        return struct.unpack_from(order + code, head, place)

    kind = head[104:108].decode("ascii", "replace")
    [version] = numbers("i", 108)
    stamp, flags = numbers("2i", 152)
    count = min(max(0, *numbers("i", 220)), MOST_LABELS)
    labels = (decode(head[LABELS_AT + LABEL * n :][:LABEL].split(b"\0", 1)[0])[0].strip() for n in range(count))
    return Header(
        order,
        shape,
        mode,
        divisions=numbers("3i", 28),
        cell=numbers("3f", 40),
        axes=axes,
        group=numbers("i", 88)[0],
        extended=numbers("i", 92)[0],
        kind=kind if kind in KINDS else "",
        version=version,
        integers=numbers("h", 128)[0],
        reals=numbers("h", 130)[0],
        is_signed=bool(flags & SIGNED_BYTES) if stamp == IMOD else version >= SIGNED_SINCE,
        has_mark=has_mark,
        labels=tuple(filter(None, labels)),
        range=numbers("3f", 76),
    )


def _native(header: Header) -> dict[str, Any]:
    sections, rows, columns = header.shape
    return {
        "columns": columns, "rows": rows, "sections": sections, "mode": header.mode, "divisions": header.divisions,
        "cell": header.cell, "axes": header.axes, "least_largest_mean": header.range, "space_group": header.group,
        "extended_header_bytes": header.extended, "extended_header_kind": header.kind, "version": header.version,
        "labels": header.labels,
    }  # fmt: skip


def _read_beside(source: Source, header: Header, facts: Facts) -> Beside:
    """Read what programmes left beside the file; a companion that is damaged costs no more than itself."""
    beside = Beside()
    if (path := serialem_mdoc.mdoc_of(source)) is not None:
        mdoc = serialem_mdoc.read_mdoc(path)
        beside.acquired = serialem_mdoc.add_mdoc(mdoc, facts)
        beside.has_tilts = "Tilt Series" in facts.extensions or "stage_alpha" in facts.fields
        technique = serialem_mdoc.technique_of(mdoc)
        beside.kind = ("Diffraction" if technique == "TEM_Diffraction" else "Image", technique)
        beside.native["mdoc"] = mdoc.native
    if (path := thermo_epu.epu_of(source)) is not None:
        try:
            texts = thermo_epu.read_epu(path)
        except ExtractionError as fault:
            facts.warnings["Vendor Metadata"] = f"{path.name} was not read: {fault}."
        else:
            beside.acquired = thermo_epu.add_epu(texts, facts)
            thermo_epu.scale_to(facts, texts, header.shape[-1])
            beside.kind = thermo_epu.kind_of(texts)
            beside.native["xml"] = texts
    if (path := direct_electron.info_of(source)) is not None:
        _read_info(path, source.path, header, beside, facts)
    return beside


def _read_info(path: Path, image: Path, header: Header, beside: Beside, facts: Facts) -> None:
    info = direct_electron.read_info(path)
    beside.acquired = direct_electron.add_info(info, facts)
    beside.native["info"] = info
    role, scanned = direct_electron.role_of(image), direct_electron.is_scan(info)
    if role in ("virtual", "external"):
        beside.kind = ("Image", "STEM_Imaging")
        beside.name = image.stem.split("_", 2)[-1]
    elif scanned:
        beside.kind = ("Diffraction", "STEM_Diffraction")
        beside.scan = direct_electron.scan_shape(info, header.shape[0]) if role == "movie" else None
    elif "camera_length" in facts.fields and "magnification" not in facts.fields:
        beside.kind = ("Diffraction", "TEM_Diffraction")
    else:
        beside.kind = ("Image", "TEM_Imaging")
    if beside.scan or not scanned or role in ("virtual", "external"):
        beside.step = direct_electron.pixel_size(info)


def _kind(path: Path, header: Header, extended: Extended, beside: Beside, facts: Facts) -> tuple[DatasetType, str]:
    """Dataset type and technique, by what the microscope says before what the header says."""
    if extended.is_stem:
        detectors = set(DETECTORS.findall(str(facts.fields.get("detector_type", ""))))
        return "Image", f"STEM_{detectors.pop()}" if len(detectors) == 1 else "STEM_Imaging"
    if extended.is_diffraction:
        return "Diffraction", "TEM_Diffraction"
    if _is_volume(path, header, extended, beside):
        of_microscope = extended.is_stem is False or any(words in " ".join(header.labels) for words in TEM_LABELS)
        return "Misc", "TEM_Imaging" if of_microscope else "Unknown"
    if beside.kind:
        return beside.kind
    told = extended.is_stem is False or any(words in " ".join(header.labels) for words in TEM_LABELS)
    return "Image", "TEM_Imaging" if told else "Unknown"


def _is_volume(path: Path, header: Header, extended: Extended, beside: Beside) -> bool:
    """Whether the sections make a body rather than a series."""
    extension = path.suffix.lower()
    if header.shape[0] == 1 or beside.kind or len(extended.tilts) > 1 or extension in STACKS:
        return False
    return extension in VOLUMES or (header.group > 0 and all(header.step(axis) > 0 for axis in range(3)))


def _pixel_size(header: Header, extended: Extended, beside: Beside, facts: Facts) -> tuple[float, float] | None:
    """Rows' and columns' pixel size, nm: of the microscope's record, else of the header, else of a companion."""
    if beside.step:
        return beside.step
    if extended.is_diffraction or (beside.kind and beside.kind[0] == "Diffraction"):
        return None
    if extended.pixel:
        return tidy(extended.pixel[0] * 1e9), tidy(extended.pixel[1] * 1e9)
    steps = header.step(1), header.step(2)
    if min(steps) > 0:
        if steps == (1.0, 1.0) and "pixel_width" not in facts.fields:
            facts.warnings["pixel_width"] = "The header says exactly 1 Å, as programmes also write when nobody knows."
        return tidy(float(f"{steps[0] / 10:.7g}")), tidy(float(f"{steps[1] / 10:.7g}"))
    told = [facts.fields.get(name) for name in ("pixel_height", "pixel_width")]
    return (tidy(float(told[0].m_as("nm"))), tidy(float(told[1].m_as("nm")))) if told[0] and told[1] else None


def _give_sections(
    signal: Signal,
    source: Source,
    header: Header,
    pixel: tuple[float, float] | None,
    beside: Beside,
    facts: Facts,
) -> None:
    """Shape, axes and pixels."""
    sections, rows, columns = header.shape
    start, size = HEADER_BYTES + header.extended, header.section_bytes
    present = min(sections, max(0, source.path.stat().st_size - start) // size) if size else 0
    if words := cut_off(present, sections) if size else f"Pixels of the mode {header.mode} are not known.":
        facts.warnings["Pixels"] = words
    series = beside.scan or ((sections,) if sections > 1 else ())
    series = present_part(series, present) if series and present else series
    scanned = beside.scan is not None and len(series) >= 2
    names = ("y", "x") if len(series) >= 2 else ("z" if signal.dataset_type == "Misc" else "Image",)
    steps = pixel if scanned and pixel else (0.0,) * len(names)
    if signal.dataset_type == "Misc" and header.step(0) > 0:
        steps = (tidy(float(f"{header.step(0) / 10:.7g}")),)
        facts.add("Section Distance", steps[0], "nm")
    repeats = [Axis(count, name="Repeat", navigation=True) for count in series[: len(series) - len(names)]]
    positions = [
        Axis(count, step or 1.0, units="nm" if step else "", name=name, navigation=True)
        for count, step, name in zip(series[len(repeats) :], steps, names, strict=False)
    ]
    units = "nm" if pixel and not scanned else ""
    height, width = pixel if pixel and not scanned else (1.0, 1.0)
    inner = ("ky", "kx") if signal.dataset_type == "Diffraction" else ("y", "x")
    axes = (
        *repeats,
        *positions,
        Axis(rows, height, units=units, name=inner[0]),
        Axis(columns, width, units=units, name=inner[1]),
    )
    facts.add_axes(axes)
    if len(series) == 1 and signal.dataset_type != "Misc":
        facts.add("frames", series[0])
    signal.shape = tuple(axis.size for axis in axes)
    if present:
        signal.pixels = Pixels(_array(source.path, header, start, series), axes)


def _array(path: Path, header: Header, start: int, series: tuple[int, ...]) -> Any:
    """Sections as they lie in the file; what NumPy has no type for is decoded section by section."""
    import numpy as np

    _, rows, columns = header.shape
    if header.mode in (COMPLEX_INTEGERS, HALF_BYTES):
        width = header.section_bytes // rows
        dtype = np.dtype("u1" if header.mode == HALF_BYTES else f"{header.order}i2")
        mapped = np.memmap(path, dtype, "r", start, (*(series or (1,)), rows, width // dtype.itemsize))
        stored = mapped.reshape(-1, rows, width // dtype.itemsize)
        if header.mode == HALF_BYTES:
            return Frames(series, (rows, columns), dtype, lambda number: _halves(stored[number])[:, :columns])
        return Frames(series, (rows, columns), np.dtype("c8"), lambda number: _complex(stored[number]))
    if header.mode == COLOURS:
        dtype = np.dtype([(channel, "u1") for channel in "RGB"])
    else:
        code = MODES.get(header.mode) or ("i1" if header.is_signed else "u1")
        dtype = np.dtype(header.order + code)
    return np.memmap(path, dtype, "r", start, (*series, rows, columns))


def _halves(stored: Any) -> Any:
    """Pixels of 4 bits, the lower half of a byte first."""
    import numpy as np

    return np.stack((stored & 15, stored >> 4), axis=-1).reshape(len(stored), -1)


def _complex(stored: Any) -> Any:
    parts = stored.astype("f4")
    return (parts[:, 0::2] + 1j * parts[:, 1::2]).astype("c8")


def _labelled(labels: tuple[str, ...]) -> datetime | None:
    """Time that SerialEM writes into its label; those of other programmes are of what was made of the images."""
    for label in labels:
        found = LABEL_DATE.search(label) if "SerialEM:" in label else None
        try:
            if found:
                return moment(found[0])
        except ValueError:
            continue
    return None


EXTRACTOR = Mrc()
