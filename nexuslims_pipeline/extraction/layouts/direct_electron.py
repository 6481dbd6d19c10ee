"""Settings of Direct Electron's cameras: ``<date>_<number>_info.txt`` of DE-Server, beside the files of an acquisition.

Lines ``Key = value``, with the unit in the key; -1 stands for what is not known. The files of an acquisition are told
by what follows date and number: ``_movie`` are the camera's frames, ``_final`` is their sum,
``_<n>_<name>_<calculation>`` an image by a virtual detector, ``_ext<n>_<name>`` one by a detector of the microscope.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, TypeAlias

from nexuslims_pipeline.extraction.facts import Facts, entry, on_its_clock
from nexuslims_pipeline.extraction.vendor_text import moment, number, read_text, unix_time
from nexuslims_pipeline.signals import Source

Role: TypeAlias = Literal["movie", "sum", "virtual", "external"]

INFO: Final = "_info.txt"
UNKNOWN: Final = "-1"
ROLES: Final[tuple[tuple[re.Pattern[str], Role], ...]] = (
    (re.compile(r"_movie$", re.IGNORECASE), "movie"),
    (re.compile(r"_final$", re.IGNORECASE), "sum"),
    (re.compile(r"_ext\d+(?:_[^_]*)?$", re.IGNORECASE), "external"),
    (re.compile(r"_(?:virt)?\d+_[^_]+_.+$", re.IGNORECASE), "virtual"),
)
DISCONNECTED: Final = "Disconnected"
"""What "Instrument Metadata" says when the values of the microscope were typed in by hand."""
INSTRUMENT: Final = (
    entry("acceleration_voltage", "V", "Instrument_Accelerating_Voltage_(V)", never_zero=True),
    entry("camera_length", "cm", "Instrument_Project_Camera_Length_(centimeters)", never_zero=True),
    entry("magnification", "", "Instrument_Project_Magnification", never_zero=True),
)
CAMERA: Final = (
    entry("acquisition_device", None, "Camera_Model Camera_Name"),
    entry("exposure_time", "s", "Exposure_Time_(seconds)", never_zero=True),
    entry("frame_time", "ns", "Frame_Time_(nanoseconds)", never_zero=True),
    entry("computer", None, "Computer_Name"),
    entry("Camera Serial Number", None, "Camera_SN"),
    entry("Frame Exposure Time", "ns", "Frame_Exposure_Time_(nanoseconds)", never_zero=True),
    entry("Camera Frame Rate", "Hz", "Frames_Per_Second", never_zero=True),
    entry("Exposure Mode", None, "Exposure_Mode"),
    entry("Shutter", None, "Readout_-_Shutter"),
    entry("Image Processing", None, "Image_Processing_-_Mode"),
    entry("Motion Correction", None, "Image_Processing_-_Motion_Correction"),
    entry("Flat Field", None, "Image_Processing_-_Flatfield_Correction"),
    entry("Dose Rate per Camera Pixel", "1/s", "Exposure_Rate_(e-/pix/s)", never_zero=True),
    entry("Counts per Electron", "", "ADUs_Per_Electron", never_zero=True),
    entry("Sensor Pixel Pitch", "µm", "Sensor_Pixel_Pitch_(micrometers)", never_zero=True),
    entry("Detector Temperature", "degC", "Temperature_-_Detector_(Celsius)"),
)
SCAN: Final = (
    entry("dwell_time", "µs", "Scan_-_Dwell_Time_(microseconds)", never_zero=True),
    entry("scan_rotation", "deg", "Scan_-_Rotation"),
    entry("scan_mode", None, "Scan_-_Type"),
    entry("Scan Time", "s", "Scan_-_Time_(seconds)", never_zero=True),
    entry("Scan Controller", None, "Scan_-_Controller"),
    entry("Scan Repeats", "", "Scan_-_Repeats"),
    entry("Camera Frames per Point", "", "Scan_-_Camera_Frames_Per_Point"),
)


def info_of(source: Source) -> Path | None:
    """The companion with the settings."""
    return next((path for path in source.companions if path.name.lower().endswith(INFO)), None)


def read_info(path: Path) -> dict[str, str]:
    """Keys and values; what is not known is left out."""
    pairs = (line.partition("=") for line in read_text(path).split("\n"))
    values = {key.strip(): value.strip() for key, equals, value in pairs if equals}
    return {key: value for key, value in values.items() if value not in ("", UNKNOWN)}


def role_of(path: Path) -> Role | None:
    """What a file of the acquisition is, by its name."""
    return next((role for form, role in ROLES if form.search(path.stem)), None)


def is_scan(info: Mapping[str, str]) -> bool:
    """Whether the beam was scanned, so that the camera took patterns."""
    return info.get("Scan - Enable") == "Enable"


def scan_shape(info: Mapping[str, str], frames: int) -> tuple[int, ...] | None:
    """Repeats (if any), rows and columns of the scan that `frames` are of; None when they are none."""
    area = "ROI Size" if info.get("Scan - ROI Enable") == "Enable" else "Size"
    sizes = [info.get(f"Scan - {area} {axis}", "") for axis in "YX"]
    if not (is_scan(info) and info.get("Scan - Type", "Raster") == "Raster" and all(map(str.isdecimal, sizes))):
        return None
    rows, columns = map(int, sizes)
    repeats, rest = divmod(frames, rows * columns) if rows * columns > 1 else (0, 1)
    if rest or not repeats:
        return None
    return (rows, columns) if repeats == 1 else (repeats, rows, columns)


def add_info(info: Mapping[str, str], facts: Facts) -> datetime | None:
    """Add what the settings say to `facts`; the time of the acquisition."""

    def find(place: str) -> str:
        return info.get(place.replace("_", " "), "")

    facts.add_entries(INSTRUMENT + CAMERA, find)
    if is_scan(info):
        facts.add_entries(SCAN, find)
    if DISCONNECTED in info.get("Instrument Metadata", ""):
        for known in INSTRUMENT:
            if known.name in facts.fields:
                facts.warnings[known.name] = "Typed in by hand: the camera was not connected to the microscope."
    facts.add("software", f"DE-Server {info.get('Server Software Version', '')}".strip())
    binning = [find(f"Binning_{axis}") for axis in "XY"]
    facts.add("binning", " × ".join(binning) if all(binning) else None)
    try:
        seconds = info.get("Timestamp (seconds since Epoch)")
        instant = unix_time(number(seconds)) if seconds else None
        wall = moment(info["Local time"]) if "Local time" in info else None
    except ValueError as fault:
        facts.warnings["Creation Time"] = f"The settings: {fault}."
        return None
    return (on_its_clock(wall, instant) if wall and instant else None) or instant or wall


def pixel_size(info: Mapping[str, str]) -> tuple[float, float] | None:
    """Rows' and columns' step on the specimen, nm."""
    try:
        steps = [number(info.get(f"Specimen Pixel Size {axis} (nanometers)", "")) for axis in "YX"]
    except ValueError:
        return None
    return (steps[0], steps[1]) if min(steps) > 0 else None
