"""EMPAD detectors: an ``.xml`` with the settings, and its patterns in a ``.raw`` beside it.

The ``.raw`` has, for each pattern, 130 rows of 128 little-endian f4, of which the last two are no pixels. The ``.xml``
names it in ``raw_file``; the path in that name is never followed: only a file that lies beside, under exactly this
name or under that of the ``.xml``, is read.

==========================================================  ===============================================
element of the ``.xml``                                      meaning
==========================================================  ===============================================
``timestamp``                                                seconds since 1970-01-01 UTC, and local time
``type``                                                     ``scan`` or ``series``
``pix_x``, ``pix_y``; ``count``                              scan, or number of patterns; newer versions leave
                                                             them to the name ``scan_x<columns>_y<rows>.raw``
``exposure_time``                                            ms
``iom_measurements/source.get_voltage``                      V; ``source.get_screencurrent`` A
``iom_measurements/optics.get_cameralength``                 m
``iom_measurements/optics.get_full_scan_field_of_view``      m, rows and columns together ``[x, y]``
``iom_measurements/full_scan_field_of_view/x``               m, of the longer side, times ``scale_factor``
``iom_measurements/calibrated_diffraction_angle``            radians per pixel
==========================================================  ===============================================

``calibrated_pixelsize`` is left alone: it is the field of view over 25 000, nothing of the pattern, though
HyperSpy takes it for the size of a pixel in reciprocal space. Known from
https://hyperspy.org/rosettasciio/supported_formats/empad.html and from real files.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded, entry, on_its_clock
from nexuslims_pipeline.extraction.layouts.frames import cut_off, present_part
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import moment, number, parse_xml, unix_time, xml_texts
from nexuslims_pipeline.metadata.units import tidy
from nexuslims_pipeline.signals import Axis, Pixels, Signal, Source

SIDE: Final = 128
STORED_ROWS: Final = 130
FRAME_BYTES: Final = STORED_ROWS * SIDE * 4
LARGEST_XML: Final = 4 << 20
LARGEST_SCAN: Final = 1 << 16
MARKS: Final = (b"<raw_file", b"camserver")
SCAN_NAME: Final = re.compile(r"scan_x(\d{1,5})_y(\d{1,5})\.raw", re.IGNORECASE)
SERIES_NAME: Final = re.compile(r"series_x(\d{1,7})\.raw", re.IGNORECASE)
MEASUREMENTS: Final = "iom_measurements/"
ENTRIES: Final = (
    entry("acceleration_voltage", "V", "source.get_voltage source.voltage", never_zero=True),
    entry("camera_length", "m", "optics.get_cameralength optics.cameralength", never_zero=True),
    entry("spot_size", "", "beam.get_spotsizeindex beam.spotsizeindex", never_zero=True),
    entry("scan_rotation", "rad", "column.get_scanrotation", never_zero=True),
    entry("magnification", "", "optics.get_magnification", never_zero=True),
    entry("Screen Current", "A", "source.get_screencurrent", never_zero=True),
)
SETTINGS: Final = (
    entry("exposure_time", "ms", "exposure_time", never_zero=True),
    entry("Post-Exposure Time", "ms", "post_exposure_time", never_zero=True),
    entry("Sensor Bias", "V", "grid_measurements/bias_voltage", never_zero=True),
    entry("Scan Size", "", "scan_parameters[2]/scan_size scan_parameters/scan_size"),
)


class Empad(Extractor):
    """Scans and series of EMPAD detectors."""

    name: ClassVar[str] = "empad"
    format_name: ClassVar[str] = "EMPAD"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".xml", ".raw"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether it is EMPAD's XML, or patterns without one that are as many as their name says."""
        if head.lstrip().startswith(b"<"):
            return b"<root" in head and all(mark in _beginning(source.path, head) for mark in MARKS)
        return _scan_of(source.path.name) is not None and source.size == FRAME_BYTES * prod(
            _scan_of(source.path.name) or ()
        )

    def extract(self, source: Source) -> list[Signal]:
        """Read the one scan or series.

        Raises
        ------
        ExtractionError
            If the XML is damaged or hostile.
        """
        facts = Facts()
        facts.add("acquisition_device", "EMPAD")
        if source.path.suffix.lower() == ".raw":
            scan = _scan_of(source.path.name) or (source.size // FRAME_BYTES,)
            facts.warnings["Vendor Metadata"] = "The .xml with the settings does not lie beside it."
            return [_finished(Signal("Diffraction", "Unknown"), source.path, scan, {}, facts)]
        with source.path.open("rb") as file:
            raw = file.read(LARGEST_XML + 1)
        if len(raw) > LARGEST_XML:
            msg = "its XML is larger than any that EMPAD writes"
            raise ExtractionError(msg)
        root = parse_xml(raw)
        texts = xml_texts(root)
        found = root.find("raw_file")
        told = str(found.get("filename", "")) if found is not None else ""
        facts.add("software", f"EMPAD {texts['software_version']}" if texts.get("software_version") else None)
        facts.add_entries(ENTRIES, lambda place: texts.get(MEASUREMENTS + place, "").replace("None", ""))
        facts.add_entries(SETTINGS, lambda place: texts.get(place, ""))
        signal = Signal("Diffraction", "Unknown", name=str(root.get("name") or ""), acquired=_acquired(root, facts))
        signal.native = bounded({"raw_file": told, **texts})
        return [_finished(signal, _patterns_beside(source, told, facts), _scan(texts, told), texts, facts)]


def _beginning(path: Path, head: bytes) -> bytes:
    """The first bytes: a list of reconstructions may come before what tells the format."""
    if all(mark in head for mark in MARKS):
        return head
    with path.open("rb") as file:
        return file.read(1 << 18)


def _scan_of(name: str) -> tuple[int, ...] | None:
    """Rows and columns, or the number of patterns, as EMPAD writes them into a name."""
    if found := SCAN_NAME.fullmatch(name):
        return int(found[2]), int(found[1])
    found = SERIES_NAME.fullmatch(name)
    return (int(found[1]),) if found else None


def _scan(texts: Mapping[str, str], told: str) -> tuple[int, ...]:
    """Shape of the scan, or number of patterns; empty when nothing tells."""
    for keys in (("pix_y", "pix_x"), ("scan_parameters/series_count",), ("count",)):
        sizes = [texts.get(key, "") for key in keys]
        if all(re.fullmatch(r"[1-9]\d{0,6}", size) for size in sizes):
            return tuple(map(int, sizes))
    return _scan_of(told.rpartition("/")[2].rpartition("\\")[2]) or ()


def _patterns_beside(source: Source, told: str, facts: Facts) -> Path | None:
    """The companion that the XML names; None with a warning when it does not lie beside it."""
    raws = [path for path in source.companions if path.suffix.lower() == ".raw"]
    named = next((path for path in raws if path.name == told), None)
    renamed = next((path for path in raws if path.stem.lower() == source.path.stem.lower()), None)
    if named is None and renamed is None:
        facts.warnings["Pixels"] = f"The file with the patterns, {told[:100]!r}, does not lie beside it."
    return named or renamed


def _finished(
    signal: Signal, path: Path | None, scan: tuple[int, ...], texts: Mapping[str, str], facts: Facts
) -> Signal:
    """`signal` with its axes and, where the ``.raw`` is there, its pixels."""
    frames = path.stat().st_size // FRAME_BYTES if path else 0
    if any(size > LARGEST_SCAN for size in scan[:-1]) or not scan:
        facts.warnings["Scan"] = "The XML says nothing sensible of the scan's shape."
        scan = (frames,) if frames else ()
    if path and (words := cut_off(frames, prod(scan))):
        facts.warnings["Pixels"] = words
    shape = present_part(scan, frames) if frames else scan
    signal.data_type = "STEM_Diffraction" if len(scan) == 2 else "TEM_Diffraction"
    if len(scan) == 1:
        facts.add("frames", prod(shape))
    axes = (*_positions(shape, scan, texts, facts), *_pattern(texts, facts))
    facts.add_axes(axes)
    signal.shape = tuple(axis.size for axis in axes)
    if path and frames:
        signal.pixels = Pixels(_memory_map(path, shape), axes)
    return facts.give_to(signal)


def _positions(shape: tuple[int, ...], scan: tuple[int, ...], texts: Mapping[str, str], facts: Facts) -> list[Axis]:
    if len(shape) != 2:
        return [Axis(size, name="Pattern", navigation=True) for size in shape]
    steps = _steps(scan, texts, facts)
    return [
        Axis(size, step or 1.0, units="nm" if step else "", name=name, navigation=True)
        for size, step, name in zip(shape, steps, ("y", "x"), strict=True)
    ]


def _steps(scan: tuple[int, ...], texts: Mapping[str, str], facts: Facts) -> tuple[float, float]:
    """Nanometres from row to row and from column to column; 0 when not known."""
    rows, columns = scan
    both = re.findall(r"[-+.\deE]+", texts.get(f"{MEASUREMENTS}optics.get_full_scan_field_of_view", ""))
    longer = texts.get(f"{MEASUREMENTS}full_scan_field_of_view/x", "")
    try:
        if len(both) == 2:
            width, height = map(number, both)
        elif longer:
            factor = number(texts.get(f"{MEASUREMENTS}full_scan_field_of_view/scale_factor", "1"))
            step = number(longer) / factor / max(scan)
            width, height = step * columns, step * rows
        else:
            return 0.0, 0.0
    except (ValueError, ZeroDivisionError):
        facts.warnings["pixel_width"] = "The field of view in the XML is no number."
        return 0.0, 0.0
    return tidy(max(0.0, height) / rows * 1e9), tidy(max(0.0, width) / columns * 1e9)


def _pattern(texts: Mapping[str, str], facts: Facts) -> tuple[Axis, Axis]:
    """Rows and columns of a pattern, in mrad from its middle where they are calibrated."""
    text = texts.get(f"{MEASUREMENTS}calibrated_diffraction_angle", "")
    try:
        angle = tidy(number(text) * 1000) if text and text != "None" else 0.0
    except ValueError as fault:
        facts.warnings["angular_pixel_width"] = str(fault)
        angle = 0.0
    if angle <= 0:
        return Axis(SIDE, name="ky"), Axis(SIDE, name="kx")
    return Axis(SIDE, angle, -angle * (SIDE // 2), "mrad", "ky"), Axis(SIDE, angle, -angle * (SIDE // 2), "mrad", "kx")


def _memory_map(path: Path, scan: tuple[int, ...]) -> Any:
    import numpy as np

    record = np.dtype([("pixels", "<f4", (SIDE, SIDE)), ("rest", "<f4", (STORED_ROWS - SIDE, SIDE))])
    return np.memmap(path, record, "r", shape=scan)["pixels"]


def _acquired(root: Any, facts: Facts) -> datetime | None:
    """Local time of the XML, with the offset that its seconds since 1970 give it."""
    stamp = root.find("timestamp")
    if stamp is None:
        return None
    try:
        wall = moment(str(stamp.get("isoformat", "")))
        seconds = stamp.get("timestamp")
        instant = unix_time(number(seconds)) if seconds else None
    except ValueError as fault:
        facts.warnings["Creation Time"] = f"The XML: {fault}."
        return None
    return (on_its_clock(wall, instant) if instant and wall.tzinfo is None else None) or wall


EXTRACTOR = Empad()
