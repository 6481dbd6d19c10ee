"""Streak camera images of Hamamatsu's HPD-TA: ``.img`` (ITEX) and TIFF.

Both hold the same text of settings, ``[Section],Key="value",Key=value``; in a TIFF it is the image description,
with ``Copyright Hamamatsu`` as the artist (tag 315). An ``.img`` is little endian:

======  =====  ===========================================================
offset  type   meaning
======  =====  ===========================================================
0       2 B    ``IM``
2       u2     bytes of the text
4       u2     columns; 6: rows
12      u2     0: u1, 2: u2, 3: u4
64             text, then the rows of the image
======  =====  ===========================================================

Columns are wavelengths, rows are times. ``Scaling`` says where a float table of them lies in either kind of file,
as ``#offset,count`` (ScalingType 2); without one (type 1: ``Focus mode``, ``Other``) the axis is not calibrated.
Source: Hamamatsu, "HPD-TA User Manual", appendix "Image file format", as in https://hyperspy.org/rosettasciio.
"""

import math
import re
import struct
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Final, TypeAlias

from nexuslims_pipeline.extraction.facts import Facts, bounded, spectral_type
from nexuslims_pipeline.extraction.layouts.raster import (
    TIFF_MAGIC,
    first_tags,
    open_tiff,
    tag_text,
    tiff_raster,
    unread_tags,
)
from nexuslims_pipeline.extraction.layouts.tiff import ARTIST, DATE_TIME, DESCRIPTION, date_of
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import decode, moment, number
from nexuslims_pipeline.signals import Axis, Pixels, Signal, Source

Sections: TypeAlias = dict[str, dict[str, str]]

HEADER_BYTES: Final = 64
PIXEL_TYPES: Final = {0: "u1", 2: "<u2", 3: "<u4"}
MARK: Final = b"[Application]"
SECTION: Final = re.compile(r"\[([A-Za-z0-9 ]{1,40})\],?")
SETTING: Final = re.compile(r'([^=,"\r\n]{1,80})=(?:"([^"]*)"|([^,\r\n]*))')
TABLE: Final = re.compile(r"#(\d{1,12}),(\d{1,6})$")
QUANTITY: Final = re.compile(r"([-+\d.,eE]+)\s*([A-Za-zµμ]+)$")
TIME_UNITS: Final = {"ns": "ns", "us": "µs", "µs": "µs", "μs": "µs", "ms": "ms", "s": "s", "ps": "ps", "fs": "fs"}
SWITCHES: Final = {"0": False, "-1": True, "1": True}
STEPS_AGREE: Final = 0.01
"""Share by which steps of a table may differ for the axis to count as even."""

SETTINGS: Final = (
    ("Camera", "CameraName", "acquisition_device", ""),
    ("Camera", "SerialNumber", "Camera Serial Number", ""),
    ("Camera", "BinningKeyVal", "binning", ""),
    ("Camera", "TriggerModeKeyVal", "Trigger Mode", ""),
    ("Streak camera", "DeviceName", "detector_type", ""),
    ("Streak camera", "PluginName", "Sweep Unit", "Streak Camera"),
    ("Streak camera", "Mode", "Mode", "Streak Camera"),
    ("Streak camera", "Gate Mode", "Gate Mode", "Streak Camera"),
    ("Streak camera", "MCP Gain", "MCP Gain", "Streak Camera"),
    ("Streak camera", "Shutter", "Shutter", "Streak Camera"),
    ("Streak camera", "Time Range", "Time Range", "Streak Camera"),
    ("Streak camera", "Gate Time", "Gate Time", "Streak Camera"),
    ("Streak camera", "Trig. Mode", "Trigger Mode", "Streak Camera"),
    ("Spectrograph", "DeviceName", "Device", "Spectrograph"),
    ("Spectrograph", "Grating", "Grating", "Spectrograph"),
    ("Spectrograph", "Blaze", "Blaze", "Spectrograph"),
    ("Spectrograph", "Ruling", "Ruling", "Spectrograph"),
    ("Spectrograph", "Turret", "Turret", "Spectrograph"),
    ("Delay box", "DeviceName", "Device", "Delay Generator"),
    ("Delay box", "Trig. Mode", "Trigger Mode", "Delay Generator"),
    ("Delay box", "Repetition Rate", "Repetition Rate", "Delay Generator"),
    ("Delay box", "Delay Time", "Delay Time", "Delay Generator"),
    ("Comment", "UserComment", "Comment", ""),
)
"""Section, key, name, group. A device that is not in use has no values."""
CORRECTIONS: Final = {
    "CurveCorr": "Curvature Correction",
    "DefectCorrection": "Defect Correction",
    "BacksubCorr": "Background Subtraction",
    "ShadingCorr": "Shading Correction",
}
ACQUISITION_MODES: Final = {"1": "live", "2": "acquire", "3": "photon counting", "4": "analogue integration"}


class Hamamatsu(Extractor):
    """Streak images: spectra over time."""

    name: ClassVar[str] = "hamamatsu"
    format_name: ClassVar[str] = "Hamamatsu HPD-TA"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".img", ".tif", ".tiff"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether it has HPD-TA's text of settings, where either kind of file has it."""
        if head.startswith(TIFF_MAGIC):
            tags = first_tags(source.path)
            return tags.get(DESCRIPTION, b"").startswith(MARK) and b"Hamamatsu" in tags.get(ARTIST, b"")
        return head.startswith(b"IM") and head.startswith(MARK, HEADER_BYTES)

    def extract(self, source: Source) -> list[Signal]:
        """Read the one image."""
        with source.path.open("rb") as file:
            is_tiff = file.read(4).startswith(TIFF_MAGIC)
        return [_of_tiff(source) if is_tiff else _of_itex(source)]


def _of_tiff(source: Source) -> Signal:
    facts = Facts()
    with open_tiff(source.path) as tiff:
        if lost := unread_tags(tiff):
            facts.warnings["TIFF Tags"] = lost
        raster = tiff_raster(tiff, source.path)
        text, written = tag_text(tiff, DESCRIPTION), tag_text(tiff, DATE_TIME)
    if raster.problem:
        facts.warnings["Pixels"] = raster.problem
    return _signal(source, parse_settings(text), raster.array, raster.shape[-2:], facts, date_of(written, facts))


def _of_itex(source: Source) -> Signal:
    import numpy as np

    facts = Facts()
    with source.path.open("rb") as file:
        header = file.read(HEADER_BYTES)
        if len(header) < HEADER_BYTES:
            msg = "the file is cut off within its header"
            raise ExtractionError(msg)
        length, columns, rows, kind = struct.unpack_from("<HHH4xH", header, 2)
        text, _ = decode(file.read(length))
    if kind not in PIXEL_TYPES or not rows or not columns:
        msg = f"its header declares {columns} × {rows} pixels of type {kind}, which is no image"
        raise ExtractionError(msg)
    dtype, start = np.dtype(PIXEL_TYPES[kind]), HEADER_BYTES + length
    array = None
    if start + rows * columns * dtype.itemsize <= source.path.stat().st_size:
        array = np.memmap(source.path, mode="r", dtype=dtype, offset=start, shape=(rows, columns))
    else:
        facts.warnings["Pixels"] = "The file ends before its last pixel (a copy that broke off?)."
    return _signal(source, parse_settings(text), array, (rows, columns), facts, None)


def parse_settings(text: str) -> Sections:
    """Settings by section and key, all as text."""
    parts = SECTION.split(text)
    return {
        name: {key.strip(): quoted or plain for key, quoted, plain in SETTING.findall(body)}
        for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def _signal(
    source: Source,
    sections: Sections,
    array: Any,
    shape: tuple[int, ...],
    facts: Facts,
    written: datetime | None,
) -> Signal:
    """Signal of a streak image; `written` is the TIFF's own time, for lack of which that of the settings serves."""
    axes = (
        _axis(source, sections, "Y", shape[0], facts, navigation=True),
        _axis(source, sections, "X", shape[1], facts, navigation=False),
    )
    _add_settings(sections, facts)
    signal = Signal(spectral_type(axes), "Optical_Spectroscopy", (shape[0], shape[1]), native=bounded(sections))
    signal.acquired = written or _acquired(sections, source, facts)
    signal.pixels = Pixels(array, axes) if array is not None and array.shape == signal.shape else None
    return facts.give_to(signal)


def _axis(source: Source, sections: Sections, side: str, size: int, facts: Facts, *, navigation: bool) -> Axis:
    """Wavelength (X) or time (Y), calibrated by its table in the file."""
    scaling = sections.get("Scaling", {})
    known_name, bare_name = ("Wavelength", "Column") if side == "X" else ("Time", "Row")
    bare = Axis(size, name=bare_name, navigation=navigation)
    place = TABLE.match(scaling.get(f"Scaling{side}ScalingFile", ""))
    unit = scaling.get(f"Scaling{side}Unit", "")
    if scaling.get(f"Scaling{side}Type") != "2" or place is None or not unit:
        return bare
    table = _table(source, int(place[1]), size) if int(place[2]) >= size else ()
    if len(table) < 2:
        facts.warnings[f"{known_name} Axis"] = "Its table lies outside of the file, so that it is not calibrated."
        return bare
    step = (table[-1] - table[0]) / (size - 1)
    even = [table[0] + step * n for n in range(size)]
    if max(abs(a - b) for a, b in zip(table, even, strict=True)) > STEPS_AGREE * abs(step) * size:
        facts.warnings[f"{known_name} Axis"] = "Its steps are uneven; the axis shows their mean."
    return Axis(size, step, table[0], TIME_UNITS.get(unit, unit), known_name, navigation)


def _table(source: Source, offset: int, count: int) -> tuple[float, ...]:
    """The floats of an axis; empty when they are not there or are no axis."""
    with source.path.open("rb") as file:
        file.seek(offset)
        raw = file.read(4 * count)
    values = struct.unpack(f"<{count}f", raw) if len(raw) == 4 * count else ()
    return values if values and all(map(math.isfinite, values)) and values[0] != values[-1] else ()


def _add_settings(sections: Sections, facts: Facts) -> None:
    application = sections.get("Application", {})
    facts.add("software", f"{application.get('Software', '')} {application.get('SoftwareVersion', '')}")
    for section, key, name, group in SETTINGS:
        settings = sections.get(section, {})
        if settings.get("UseDevice") != "0":
            _add_setting(name, settings.get(key, ""), facts, group or None)
    spectrograph = sections.get("Spectrograph", {})
    if spectrograph.get("UseDevice") != "0" and spectrograph.get("Wavelength"):
        _add_setting("Central Wavelength", f"{spectrograph['Wavelength']} nm", facts, "Spectrograph")
    acquisition = sections.get("Acquisition", {})
    for key, name in CORRECTIONS.items():
        facts.add(name, SWITCHES.get(acquisition.get(key, "")), group="Corrections")
    facts.add("Acquisition Mode", ACQUISITION_MODES.get(acquisition.get("AcqMode", "")))
    _add_exposure(acquisition, facts)


def _add_setting(name: str, text: str, facts: Facts, group: str | None = None) -> None:
    """A number with its unit where it has one, a plain number, or the text as it is."""
    found = QUANTITY.match(text)
    unit = found[2].replace("μ", "µ") if found else ""
    try:
        if found and (unit in TIME_UNITS or unit in ("nm", "Hz", "kHz", "MHz")):
            facts.add(name, number(found[1]), TIME_UNITS.get(unit, unit), group)
        elif name in ("MCP Gain", "Ruling", "Blaze"):
            facts.add(name, number(text) or None if text else None, group=group)
        else:
            facts.add(name, text, group=group)
    except ValueError:
        facts.add(name, text, group=group)


def _add_exposure(acquisition: Mapping[str, str], facts: Facts) -> None:
    found = QUANTITY.match(acquisition.get("ExposureTime", ""))
    try:
        frames = int(number(acquisition.get("NrExposure", "")))
    except ValueError:
        frames = 0
    facts.add("frames", frames if frames > 0 else None)
    if found is None or found[2] not in TIME_UNITS:
        return
    try:
        exposure = number(found[1])
    except ValueError as fault:
        facts.warnings["exposure_time"] = str(fault)
        return
    facts.add("exposure_time", exposure, TIME_UNITS[found[2]])
    if frames > 0:
        facts.add("acquisition_time", exposure * frames, TIME_UNITS[found[2]])


def _acquired(sections: Sections, source: Source, facts: Facts) -> datetime | None:
    application = sections.get("Application", {})
    date, time = application.get("Date", ""), application.get("Time", "")
    if not date:
        return None
    try:
        return moment(f"{date} {time}", like=source.modified).replace(microsecond=0)
    except ValueError as fault:
        facts.warnings["Creation Time"] = f"The file says {fault}."
        return None


EXTRACTOR = Hamamatsu()
