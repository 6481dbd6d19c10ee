"""TVIPS ``.tvips``: a stream of camera frames, in one file or continued in others.

``name_000.tvips`` begins with the header; ``name_001.tvips`` and so on go on with further frames. Little endian:

======  =====  ===============================================================================
offset  type   meaning
======  =====  ===============================================================================
0       u4     bytes of this header, 256; 4: version, 1 or 2
8       u4     columns, (12) rows, (16) bits of a pixel
28      u4     binning along the rows, (32) columns
36      u4     pixel of the camera, nm, binning not included
40      u4     high tension, kV or V; 44: total magnification, or camera length in mm
48      u4     bytes of the header of each frame (version 1: 12)
52             a text, ``TVIPS TVIPS …``
======  =====  ===============================================================================

Each frame begins with its number, its time (u4 seconds since 1970-01-01 UTC) and the milliseconds; in version 2 also
16: f4 current, 20: u4 magnification, 24: u4 mode (1 image, 2 diffraction), 28: f4 stage x, y, z and both tilts, 48: u4
index of the scan's rotator, 52: f4 temperature, 56: f4 objective.

Frames are given as they were recorded: a scan has others before, between and after its own, which only the rotator's
indices of all frames could tell apart. Units are those of EM-MENU (see `tvips_tiff`). Known from
https://hyperspy.org/rosettasciio/supported_formats/tvips.html.
"""

import re
import struct
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded
from nexuslims_pipeline.extraction.layouts.frames import Frames
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import unix_time
from nexuslims_pipeline.metadata.units import tidy
from nexuslims_pipeline.signals import Axis, Pixels, Signal, Source

HEADER: Final = struct.Struct("<13I")
KEYS: Final = (
    "size", "version", "columns", "rows", "bits", "offset_x", "offset_y", "binning_x", "binning_y", "camera_pixel",
    "high_tension", "magnification", "frame_header",
)  # fmt: skip
MARK: Final = b"TVIPS"
FRAME: Final = struct.Struct("<4IfII5fIff")
FRAME_KEYS: Final = (
    "number", "seconds", "milliseconds", "lut", "current", "magnification", "mode", "stage_x", "stage_y", "stage_z",
    "stage_alpha", "stage_beta", "rotator", "temperature", "objective",
)  # fmt: skip
OLD_FRAME: Final = struct.Struct("<3I")
IMAGING: Final = 1
NAME: Final = re.compile(r"(?P<stem>.+)_(?P<number>\d{3})\.tvips", re.IGNORECASE)
LARGEST_SIDE: Final = 1 << 15
LARGEST_FRAME_HEADER: Final = 1 << 16
SMALLEST_PIXEL: Final = 1000
"""No camera has pixels below 1 µm: a smaller number stands for what is not known."""
HIGHEST_KILOVOLTS: Final = 2000
FARTHEST: Final = 0.01
"""Metres that a stage moves at most."""
STAGE: Final = (("stage_x", "m"), ("stage_y", "m"), ("stage_z", "m"), ("stage_alpha", "deg"), ("stage_beta", "deg"))


class Tvips(Extractor):
    """Series of images and of diffraction patterns."""

    name: ClassVar[str] = "tvips"
    format_name: ClassVar[str] = "TVIPS camera stream"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".tvips"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether it begins with a stream's header, or is named as a part of a stream."""
        return (source.path.suffix.lower() == ".tvips" or MARK in head[52:256]) and (
            _is_header(head) or _is_continuation(source.path)
        )

    def extract(self, source: Source) -> list[Signal]:
        """Read the stream as one dataset.

        Raises
        ------
        ExtractionError
            If the file is a part whose beginning is missing, or ends within its first frame.
        """
        with source.path.open("rb") as file:
            head = file.read(HEADER.size)
            if not _is_header(head):
                msg = "it continues a stream whose first file, with _000 in its name, does not lie beside it"
                raise ExtractionError(msg)
            header = dict(zip(KEYS, HEADER.unpack(head), strict=True))
            file.seek(header["size"])
            first = _frame(file.read(FRAME.size), header)
        facts = Facts()
        parts, step = _parts(source, header, facts)
        frames = sum(count for _, _, count in parts)
        if frames == 0:
            msg = "it is damaged: the file ends within its first frame"
            raise ExtractionError(msg)
        last = _last(parts, header, step)
        is_image = first.get("mode") == IMAGING
        _add_header(header, facts, is_image=is_image)
        _add_frames(first, last, frames, facts)
        scanned = not is_image and last.get("rotator", 0) > first.get("rotator", 0)
        if scanned:
            facts.add("Scan Positions", last["rotator"])
        technique = "TEM_Imaging" if is_image else "STEM_Diffraction" if scanned else "TEM_Diffraction"
        signal = Signal("Image" if is_image else "Diffraction", technique, acquired=_acquired(first, facts))
        signal.native = bounded({"header": header, "first_frame": first, "last_frame": last})
        axes = _axes(header, frames, _interval(first, last, frames), is_image=is_image)
        facts.add_axes(axes)
        signal.shape = tuple(axis.size for axis in axes)
        signal.pixels = Pixels(_array(parts, header, step), axes)
        return [facts.give_to(signal)]


def _is_header(head: bytes) -> bool:
    if len(head) < HEADER.size:
        return False
    header = dict(zip(KEYS, HEADER.unpack_from(head), strict=True))
    smallest = FRAME.size if header["version"] == 2 else 0
    return (
        header["version"] in (1, 2)
        and HEADER.size <= header["size"] <= 4096
        and header["bits"] in (8, 16, 32)
        and 0 < header["columns"] <= LARGEST_SIDE
        and 0 < header["rows"] <= LARGEST_SIDE
        and smallest <= header["frame_header"] <= LARGEST_FRAME_HEADER
    )


def _is_continuation(path: Path) -> bool:
    found = NAME.fullmatch(path.name)
    return found is not None and int(found["number"]) > 0


def _frame(raw: bytes, header: Mapping[str, int]) -> dict[str, Any]:
    """Header of a frame; of version 1 only number and time."""
    layout = FRAME if header["version"] == 2 else OLD_FRAME
    if len(raw) < layout.size:
        return {}
    return dict(zip(FRAME_KEYS, layout.unpack_from(raw), strict=False))


def _parts(source: Source, header: Mapping[str, int], facts: Facts) -> tuple[list[tuple[Path, int, int]], int]:
    """Files of the stream with the place of their first frame and their frames; bytes from frame to frame."""
    before = header["frame_header"] if header["version"] == 2 else OLD_FRAME.size
    step = before + header["rows"] * header["columns"] * header["bits"] // 8
    found = NAME.fullmatch(source.path.name)
    stem = found["stem"].lower() if found else ""
    numbered = {
        int(match["number"]): path
        for path in source.companions
        if (match := NAME.fullmatch(path.name)) and match["stem"].lower() == stem
    }
    parts = [(source.path, header["size"])]
    while len(parts) in numbered:
        parts.append((numbered[len(parts)], 0))
    if len(parts) <= max(numbered, default=0):
        facts.warnings["Frames"] = f"The file number {len(parts)} of the stream is missing: it ends there."
    counted = []
    for path, offset in parts:
        frames, rest = divmod(max(0, path.stat().st_size - offset), step)
        if rest:
            facts.warnings["Pixels"] = f"{path.name} ends within its frame {frames + 1} (a copy that broke off?)."
        counted.append((path, offset, frames))
    return counted, step


def _last(parts: Sequence[tuple[Path, int, int]], header: Mapping[str, int], step: int) -> dict[str, Any]:
    path, offset, frames = next(part for part in reversed(parts) if part[2])
    with path.open("rb") as file:
        file.seek(offset + (frames - 1) * step)
        return _frame(file.read(FRAME.size), header)


def _add_header(header: Mapping[str, int], facts: Facts, *, is_image: bool) -> None:
    tension = header["high_tension"]
    facts.add_measured("acceleration_voltage", tension, "kV" if tension < HIGHEST_KILOVOLTS else "V")
    facts.add("acquisition_device", "TVIPS camera")
    facts.add("binning", f"{header['binning_x']} × {header['binning_y']}" if header["binning_x"] else None)
    if header["camera_pixel"] >= SMALLEST_PIXEL:
        facts.add("Camera Pixel Size", header["camera_pixel"] / 1000, "µm")
    if is_image:
        facts.add("magnification", header["magnification"] or None)
    else:
        facts.add_measured("camera_length", header["magnification"], "mm")


def _add_frames(first: Mapping[str, Any], last: Mapping[str, Any], frames: int, facts: Facts) -> None:
    """What the first frame says of the microscope, and how fast frames followed."""
    facts.add("frames", frames)
    facts.add_measured("frame_time", _interval(first, last, frames), "s")
    if not any(first.get(name) for name, _ in STAGE):
        return
    for name, unit in STAGE:
        value = first.get(name, 0.0)
        if unit == "m" and abs(value) > FARTHEST:
            facts.warnings[name] = f"The first frame says {value:g}, which are no metres."
        else:
            facts.add(name, tidy(float(f"{value:.7g}")), unit)


def _interval(first: Mapping[str, Any], last: Mapping[str, Any], frames: int) -> float:
    """Mean seconds from frame to frame; 0 when that is not known."""
    if frames < 2 or not first or not last:
        return 0.0
    seconds = last["seconds"] - first["seconds"] + (last["milliseconds"] - first["milliseconds"]) / 1000
    return tidy(max(0.0, seconds) / (frames - 1))


def _axes(header: Mapping[str, int], frames: int, interval: float, *, is_image: bool) -> tuple[Axis, ...]:
    """Time, rows and columns: pixels of the camera over the magnification, or over the camera length."""
    series = Axis(frames, interval or 1.0, units="s" if interval else "", name="Time", navigation=True)
    pixel, total = header["camera_pixel"], header["magnification"]
    known = pixel >= SMALLEST_PIXEL and total > 0
    units = ("nm" if is_image else "mrad") if known else ""
    scales = [
        tidy(pixel * max(1, header[key]) / total / (1 if is_image else 1000)) if known else 1.0
        for key in ("binning_y", "binning_x")
    ]
    names = ("y", "x") if is_image else ("ky", "kx")
    sizes = (header["rows"], header["columns"])
    pattern = (
        Axis(size, scale, units=units, name=name) for size, scale, name in zip(sizes, scales, names, strict=True)
    )
    return (series, *pattern)


def _array(parts: Sequence[tuple[Path, int, int]], header: Mapping[str, int], step: int) -> Frames:
    """Frames of all files, each mapped when one of its frames is read."""
    import numpy as np

    frame = header["rows"], header["columns"]
    dtype = np.dtype(f"<u{header['bits'] // 8}")
    before = step - frame[0] * frame[1] * dtype.itemsize
    ends = list(accumulate(count for _, _, count in parts))

    def read(number: int) -> Any:
        part = bisect_right(ends, number)
        path, offset, count = parts[part]
        place = offset + (number - ends[part] + count) * step + before
        return np.memmap(path, dtype, "r", offset=place, shape=frame)

    return Frames((ends[-1],), frame, dtype, read)


def _acquired(first: Mapping[str, Any], facts: Facts) -> datetime | None:
    if not first.get("seconds"):
        return None
    try:
        return unix_time(first["seconds"]) + timedelta(milliseconds=min(first["milliseconds"], 999))
    except ValueError as fault:
        facts.warnings["Creation Time"] = f"The first frame: {fault}."
        return None


EXTRACTOR = Tvips()
