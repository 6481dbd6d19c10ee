"""Whether checked metadata can be true: limits of physics and of the instrument, and values that contradict each other.

A miss is a doubt, never a loss: the value stays where it is. The limits are wide, since vendors define magnification
and field of view in many ways: what they catch is a wrong unit, a placeholder, a stopped clock.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from nexuslims_pipeline.instruments import HIGHEST_KV
from nexuslims_pipeline.metadata.fields import FIELDS

LIMITS: Final[Mapping[str, tuple[float, float]]] = {
    "acceleration_voltage": (0.01, HIGHEST_KV),
    "landing_energy": (0.0, HIGHEST_KV),
    "emission_current": (0.0, 1e6),
    "beam_current": (0.0, 1e9),
    "probe_current": (0.0, 1e9),
    "convergence_angle": (0.0, 1600.0),
    "collection_angle": (0.0, 1600.0),
    "camera_length": (0.0, 1e6),
    "magnification": (0.0, 1e9),
    "working_distance": (-100.0, 1000.0),
    "dwell_time": (0.0, 1e9),
    "exposure_time": (0.0, 1e6),
    "frame_time": (0.0, 1e6),
    "frames": (0.0, 1e9),
    "horizontal_field_width": (0.0, 1e6),
    "vertical_field_width": (0.0, 1e6),
    "pixel_width": (0.0, 1e7),
    "pixel_height": (0.0, 1e7),
    "live_time": (0.0, 1e7),
    "real_time": (0.0, 1e7),
    "dead_time": (0.0, 100.0),
    "stage_x": (-1e6, 1e6),
    "stage_y": (-1e6, 1e6),
    "stage_z": (-1e3, 1e3),
    "stage_tilt": (-180.0, 180.0),
    "stage_alpha": (-180.0, 180.0),
    "stage_beta": (-180.0, 180.0),
    "chamber_pressure": (0.0, 1e6),
    "temperature": (0.0, 5000.0),
}
"""Least and most of a field in its preferred unit that any microscope reaches (stages: a metre)."""
VOLTAGE_SLACK: Final = 0.02
"""Part of its nominal voltage by which an instrument's may differ."""
FIELD_SLACK: Final = 0.05
"""Part by which pixels times pixel size may differ from the field of view."""
DATA_BAR_PART: Final = 0.25
"""Part of the rows that a data bar may take below the picture."""
DISPLAY_METRES: Final = (5e-4, 10.0)
"""Magnification times field width: the width of the vendor's display, from a sensor's 5 mm to a screen's 0.6 m, with a
factor of ten for vendors' ways."""
WHOLE_IMAGE_PIXELS: Final = 256
"""Narrower images may be cut out of larger ones, whose magnification they bear."""
TIME_SLACK: Final = 1.01
FIRST_YEAR: Final = 1980
"""No digital microscope is older; clocks without a battery start in 1970 or 1980."""
CLOCK_SLACK: Final = timedelta(days=1)
"""A file may be older than its acquisition by this much: time zones, and clocks of two machines."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is known of a dataset from elsewhere."""

    modified: datetime
    """When its file was last written, aware."""
    voltage_kv: tuple[float, float] | None = None
    """Least and most acceleration voltage of the instrument, kV."""


def doubts(nx_meta: Mapping[str, Any], known: Circumstances) -> dict[str, str]:
    """Fields that cannot be true, or not with the others, by display name and with the reason.

    Parameters
    ----------
    nx_meta
        Checked metadata: values are in their preferred units.
    known
        What is known of the dataset from elsewhere.
    """
    values = {name: _number(nx_meta[name]) for name in FIELDS if name in nx_meta}
    found: dict[str, str] = {}
    for check in (_beyond_limits(values), _voltage(values, known), _times(values), _fields_of_view(values, nx_meta)):
        for name, reason in check:
            found.setdefault(FIELDS[name].display_name, reason)
    if reason := _creation_time(nx_meta, known):
        found["Creation Time"] = reason
    return found


def _number(value: Any) -> float | None:
    number = value.get("value") if isinstance(value, Mapping) else value
    return float(number) if isinstance(number, int | float) and not isinstance(number, bool) else None


def _beyond_limits(values: Mapping[str, float | None]) -> Iterator[tuple[str, str]]:
    for name, (least, most) in LIMITS.items():
        value = values.get(name)
        if value is not None and not least <= value <= most:
            unit = f" {FIELDS[name].unit}" if FIELDS[name].unit else ""
            yield name, f"{value:g}{unit} is not between {least:g} and {most:g}{unit}"


def _voltage(values: Mapping[str, float | None], known: Circumstances) -> Iterator[tuple[str, str]]:
    value = values.get("acceleration_voltage")
    if value is None or known.voltage_kv is None:
        return
    least, most = known.voltage_kv
    if not least * (1 - VOLTAGE_SLACK) <= value <= most * (1 + VOLTAGE_SLACK):
        yield "acceleration_voltage", f"{value:g} kV, but the instrument has {least:g} to {most:g} kV"


def _times(values: Mapping[str, float | None]) -> Iterator[tuple[str, str]]:
    live, real = values.get("live_time"), values.get("real_time")
    if live is not None and real is not None and 0 < real * TIME_SLACK < live:
        yield "live_time", f"{live:g} s is longer than the real time of {real:g} s"


def _fields_of_view(values: Mapping[str, float | None], nx_meta: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    rows, columns = _picture(nx_meta)
    width = values.get("horizontal_field_width")
    for side, extent, pixels, slack in (
        ("width", "horizontal", columns, FIELD_SLACK),
        ("height", "vertical", rows, FIELD_SLACK + DATA_BAR_PART),
    ):
        pixel, field = values.get(f"pixel_{side}"), values.get(f"{extent}_field_width")
        if pixel and field and pixels:
            covered = pixels * pixel / 1e3
            if not 1 - FIELD_SLACK <= covered / field <= 1 + slack:
                reason = f"{pixels} pixels of {pixel:g} nm make {covered:.4g} µm, but the field is {field:.4g} µm"
                yield f"{extent}_field_width", reason
        if pixel and not field and side == "width" and columns:
            width = columns * pixel / 1e3
    magnification = values.get("magnification")
    if magnification and width and columns >= WHOLE_IMAGE_PIXELS and nx_meta.get("DatasetType") == "Image":
        display = magnification * width / 1e6
        if not DISPLAY_METRES[0] <= display <= DISPLAY_METRES[1]:
            reason = f"{magnification:g} times the field of {width:.4g} µm makes a picture {display:.3g} m wide"
            yield "magnification", reason


def _picture(nx_meta: Mapping[str, Any]) -> tuple[int, int]:
    """Rows and columns of the image or scan; zeros when the shape does not tell which they are."""
    shape = [int(size) for size in re.findall(r"\d+", str(nx_meta.get("Data Dimensions", "")))]
    match nx_meta.get("DatasetType"), shape:
        case "Image", [*_, rows, columns, 3 | 4] if rows > 4:
            return rows, columns
        case "Image", [*_, rows, columns]:
            return rows, columns
        case "SpectrumImage", [rows, columns, _]:
            return rows, columns
        case "Diffraction", [rows, columns, _, _]:
            return rows, columns
    return 0, 0


def _creation_time(nx_meta: Mapping[str, Any], known: Circumstances) -> str:
    details = nx_meta.get("Extraction Details", {})
    if not str(details.get("Creation Time From", "")).startswith("file"):
        return ""
    created = datetime.fromisoformat(nx_meta["Creation Time"])
    if created.year < FIRST_YEAR:
        return f"{created.date()} is older than digital microscopes: the clock had stopped"
    if created > known.modified + CLOCK_SLACK:
        written = known.modified.astimezone(created.tzinfo or UTC)
        return f"it lies after {written.isoformat(timespec='seconds')}, when the file was last written"
    return ""
