"""Extended headers of MRC files: what microscopes and cameras write between the header and the pixels.

``FEI1``, ``FEI2``
    A record for each image, of the members below, packed, little endian; a bit of the mask before each block of 32
    members tells which are filled. Thermo Fisher: "MRC2014 file image format"; the members' order is also in
    https://github.com/ccpem/mrcfile (``dtypes.py``). SI units but degrees for tilts; the angle of convergence is in
    radians (a file of a Spectra has 0.0143, its usual 14.3 mrad).
``AGAR``, and FEI before 2014
    For each image `integers` u4 and `reals` f4: tilts (degrees), stage (m), image shift (m), defocus (m), exposure
    time (s), mean, tilt axis (degrees), pixel size (m), magnification, voltage (V), binning, applied defocus (m).
``SERI``
    For each image `integers` bytes of i2, which kinds of them the bits of `reals` tell. SerialEM:
    https://bio3d.colorado.edu/imod/doc/mrc_format.txt
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeAlias

from nexuslims_pipeline.extraction.facts import Facts, on_its_clock
from nexuslims_pipeline.extraction.vendor_text import decode, ole_date, unix_time
from nexuslims_pipeline.metadata.units import tidy

Record: TypeAlias = dict[str, Any]

BLOCKS: Final = (
    (
        "timestamp:d microscope:16s d_number:16s application:16s version:16s ht:d dose:d alpha:d beta:d stage_x:d "
        "stage_y:d stage_z:d tilt_axis:d dual_axis_rotation:d pixel_x:d pixel_y:d unused_0:d unused_1:d unused_2:d "
        "unused_3:d unused_4:d unused_5:d defocus:d stem_defocus:d applied_defocus:d instrument_mode:i "
        "projection_mode:i objective_lens_mode:16s high_magnification_mode:16s probe_mode:i eftem:? magnification:d"
    ),
    (
        "camera_length:d spot_index:i illuminated_area:d intensity:d convergence_angle:d illumination_mode:16s "
        "wide_convergence_range:? slit_inserted:? slit_width:d voltage_offset:d drift_tube_voltage:d energy_shift:d "
        "shift_offset_x:d shift_offset_y:d shift_x:d shift_y:d integration_time:d binning_width:i binning_height:i "
        "camera:16s readout_left:i readout_top:i readout_right:i readout_bottom:i ceta_noise_reduction:? "
        "ceta_frames_summed:i electron_counting:? align_frames:? reserved_0:i reserved_1:i reserved_2:i reserved_3:i"
    ),
    (
        "reserved_4:i reserved_5:i reserved_6:i reserved_7:i reserved_8:i reserved_9:i phase_plate:? "
        "stem_detector:16s gain:d offset:d reserved_10:i reserved_11:i reserved_12:i reserved_13:i reserved_14:i "
        "dwell_time:d frame_time:d scan_left:i scan_top:i scan_right:i scan_bottom:i full_scan_width:d "
        "full_scan_height:d element:16s energy_low:d energy_high:d method:i is_dose_fraction:? fraction:i "
        "start_frame:i end_frame:i input_stack:80s"
    ),
    (
        "alpha_min:d alpha_max:d scan_rotation:d pattern_rotation:d image_rotation:d scan_mode:i acquired:q "
        "detector_name:16s start_tilt:d end_tilt:d tilt_per_image:d tilt_speed:d beam_centre_x:i beam_centre_y:i "
        "flash_time:q phase_plate_position:i objective_aperture:16s"
    ),
)
"""Members of the FEI record, in blocks of 32 that follow a mask each, with their types."""
VALUES: Final[dict[str, tuple[str, str | None]]] = {
    "microscope": ("microscope", None),
    "d_number": ("Instrument Number", None),
    "ht": ("acceleration_voltage", "V"),
    "stage_x": ("stage_x", "m"),
    "stage_y": ("stage_y", "m"),
    "stage_z": ("stage_z", "m"),
    "beta": ("stage_beta", "deg"),
    "tilt_axis": ("Tilt Axis Angle", "deg"),
    "applied_defocus": ("Applied Defocus", "m"),
    "objective_lens_mode": ("Objective Lens Mode", None),
    "eftem": ("EFTEM", None),
    "spot_index": ("spot_size", None),
    "illumination_mode": ("illumination_mode", None),
    "integration_time": ("exposure_time", "s"),
    "electron_counting": ("Electron Counting", None),
    "phase_plate": ("Phase Plate", None),
    "stem_detector": ("detector_type", None),
    "input_stack": ("Input File", None),
    "fraction": ("Fraction", None),
}
MEASURED: Final[dict[str, tuple[str, str]]] = {
    "camera_length": ("camera_length", "m"),
    "convergence_angle": ("convergence_angle", "rad"),
    "illuminated_area": ("Illuminated Diameter", "m"),
    "dwell_time": ("dwell_time", "s"),
    "frame_time": ("frame_time", "s"),
    "full_scan_width": ("Full Scan Width", "m"),
    "full_scan_height": ("Full Scan Height", "m"),
    "energy_shift": ("energy_loss", "eV"),
    "start_tilt": ("Start Tilt", "deg"),
    "end_tilt": ("End Tilt", "deg"),
    "tilt_speed": ("Tilt Speed", "deg/s"),
}
"""Values that are unknown, or mean nothing, where the file says 0."""
AGARD: Final = (
    "alpha", "beta", "stage_x", "stage_y", "stage_z", "shift_x", "shift_y", "defocus", "exposure_time", "mean",
    "tilt_axis", "pixel", "magnification", "ht", "binning", "applied_defocus",
)  # fmt: skip
AGARD_VALUES: Final[dict[str, tuple[str, str | None]]] = {
    "beta": ("stage_beta", "deg"),
    "exposure_time": ("exposure_time", "s"),
    "tilt_axis": ("Tilt Axis Angle", "deg"),
    "magnification": ("magnification", None),
    "binning": ("binning", None),
}
FARTHEST: Final = 0.01
"""Metres that a stage moves, or a lens is out of focus, at most: more is in a unit that the file does not tell."""
MOST_DEFOCUS: Final = 1e-3
"""Metres; low magnifications of a TEM come near."""
KILOVOLTS: Final = 2000
"""A smaller voltage is in kV."""
SERIAL_EM: Final = {1: 1, 2: 3, 4: 2, 8: 1, 16: 1, 32: 2, 64: 1, 128: 2, 256: 1, 512: 2, 1024: 1}
"""Bits of SerialEM's kinds of values in the order in which they are stored, and the i2 that each takes."""
MOST_IMAGES: Final = 10_000
STEM: Final = 2
DIFFRACTION: Final = 1
MODES: Final = {1: "TEM", 2: "STEM"}
PROJECTIONS: Final = {1: "Diffraction", 2: "Imaging"}
PROBES: Final = {1: "NanoProbe", 2: "MicroProbe"}
PER_SQUARE_ANGSTROM: Final = 1e-20


@dataclass(slots=True)
class Extended:
    """What the extended header says."""

    native: dict[str, Any] = field(default_factory=dict)
    acquired: datetime | None = None
    tilts: list[float] = field(default_factory=list)
    """Degrees, for each image."""
    pixel: tuple[float, float] | None = None
    """Metres of a pixel along the rows and columns of an image; None when not known, or of a pattern."""
    is_stem: bool | None = None
    is_diffraction: bool = False


def read_extended(
    kind: str, raw: bytes, images: int, integers: int, reals: int, facts: Facts, order: str = "<"
) -> Extended:
    """Read the extended header and add what it says to `facts`.

    Parameters
    ----------
    kind
        ``FEI1``, ``AGAR`` …; empty in files from before 2014.
    raw
        The extended header as far as it was read.
    images
        Images in the file.
    integers, reals
        The header's numbers of integers and reals of a record, where it has them.
    order
        Byte order of the file as `struct` has it; the records of Thermo Fisher are always little endian.
    """
    images = min(images, MOST_IMAGES)
    if kind in ("FEI1", "FEI2"):
        return _fei(list(_fei_records(raw, images)), facts)
    if kind == "SERI" or (not kind and integers > 0 and integers == 2 * _shorts(reals)):
        return _serial_em(raw, images, integers, reals, facts, order)
    if (kind in ("AGAR", "") and reals >= len(AGARD) - 3) and reals <= 64 and 0 <= integers <= 64:
        return _agard(raw, images, integers, reals, facts, order)
    return Extended()


def _fei_records(raw: bytes, images: int) -> Iterator[Record]:
    """Filled members of each image's record."""
    start = 0
    for _ in range(images):
        if len(raw) < start + 12:
            return
        size, version = struct.unpack_from("<2i", raw, start)
        if not 12 <= size <= len(raw) - start:
            return
        yield {"metadata_version": version} | _members(raw[start + 8 : start + size])
        start += size


def _members(raw: bytes) -> Record:
    """Filled members of one record, as far as it goes."""
    members: Record = {}
    place = 0
    for block in BLOCKS:
        if len(raw) < place + 4:
            break
        [mask] = struct.unpack_from("<I", raw, place)
        place += 4
        for bit, member in enumerate(block.split()):
            name, code = member.split(":")
            size = struct.calcsize(f"<{code}")
            if len(raw) < place + size:
                return members
            [value] = struct.unpack_from(f"<{code}", raw, place)
            place += size
            if mask >> bit & 1 and not name.startswith(("unused", "reserved")):
                members[name] = decode(value.split(b"\0", 1)[0])[0].strip() if isinstance(value, bytes) else value
    return members


def _fei(records: list[Record], facts: Facts) -> Extended:
    if not records:
        facts.warnings["Vendor Metadata"] = "The extended header is cut off or damaged."
        return Extended()
    first = records[0]
    is_stem = first.get("instrument_mode") == STEM
    extended = Extended(native=first, is_stem=is_stem)
    extended.is_diffraction = not is_stem and first.get("projection_mode") == DIFFRACTION
    extended.tilts = [record["alpha"] for record in records if "alpha" in record]
    values = dict(first)
    if is_stem:  # the camera is that which would be used otherwise
        values = {key: value for key, value in values.items() if key not in ("camera", "integration_time")}
    else:
        values = {key: value for key, value in values.items() if not key.startswith(("stem_", "scan_", "full_scan"))}
    _add(VALUES, values, facts)
    for key, (name, unit) in MEASURED.items():
        if key in values:
            facts.add_measured(name, values[key], unit)
    _add_fei_rest(values, facts, is_stem=is_stem)
    if not extended.is_diffraction and first.get("pixel_x", 0) > 0 and first.get("pixel_y", 0) > 0:
        extended.pixel = first["pixel_y"], first["pixel_x"]
    extended.acquired = _fei_time(first, facts)
    return extended


def _add_fei_rest(values: Mapping[str, Any], facts: Facts, *, is_stem: bool) -> None:
    """Values that need more than a name and a unit."""
    facts.add("software", f"{values.get('application', '')} {values.get('version', '')}".strip())
    facts.add("magnification", values.get("magnification") or None)
    defocus = values.get("stem_defocus" if is_stem else "defocus")
    if defocus is not None and abs(defocus) > MOST_DEFOCUS:
        facts.warnings["defocus"] = f"The extended header says {defocus:g} m, which no image is out of focus by."
    else:
        facts.add("defocus", defocus, "m")
    facts.add("projection_mode", PROJECTIONS.get(values.get("projection_mode", 0)))
    facts.add("Column Mode", MODES.get(values.get("instrument_mode", 0)))
    facts.add("Probe Mode", PROBES.get(values.get("probe_mode", 0)))
    if "dose" in values:
        facts.add_measured("Electron Dose", tidy(values["dose"] * PER_SQUARE_ANGSTROM), "1/Å**2")
    if values.get("slit_inserted"):
        facts.add("slit_width", values.get("slit_width"), "eV")
    if not is_stem:
        facts.add("acquisition_device", values.get("detector_name") or values.get("camera"))
        width, height = values.get("binning_width", 0), values.get("binning_height", 0)
        facts.add("binning", f"{width} × {height}" if width and height else None)


def _fei_time(record: Mapping[str, Any], facts: Facts) -> datetime | None:
    """Moment of the image on the clock of the computer, with its offset from UTC where both are told."""
    found: list[datetime] = []
    sources: tuple[tuple[str, Callable[[float], datetime], float], ...] = (
        ("timestamp", ole_date, 1.0),
        ("acquired", unix_time, 1e-6),
    )
    for key, convert, factor in sources:
        if record.get(key):
            try:
                found.append(convert(record[key] * factor))
            except ValueError as fault:
                facts.warnings["Creation Time"] = f"The extended header: {fault}."
    if len(found) == 2:
        return on_its_clock(*found) or found[1]
    return found[0] if found else None


def _agard(raw: bytes, images: int, integers: int, reals: int, facts: Facts, order: str) -> Extended:
    size = 4 * (integers + reals)
    count = min(images, len(raw) // size)
    records = [
        dict(zip(AGARD, struct.unpack_from(f"{order}{reals}f", raw, n * size + 4 * integers), strict=False))
        for n in range(count)
    ]
    if not records or not any(records[0].values()):
        return Extended()
    first = {name: tidy(float(f"{value:.7g}")) for name, value in records[0].items()}
    extended = Extended(native=first, tilts=[tidy(float(f"{record['alpha']:.7g}")) for record in records])
    _add(AGARD_VALUES, {name: value for name, value in first.items() if value}, facts)
    facts.add_measured("acceleration_voltage", first.get("ht", 0), "kV" if first.get("ht", 0) < KILOVOLTS else "V")
    for name in ("stage_x", "stage_y", "stage_z", "defocus"):
        if abs(first[name]) <= FARTHEST:
            facts.add(name, first[name], "m")
    if 0 < first["pixel"] < FARTHEST:
        extended.pixel = first["pixel"], first["pixel"]
    return extended


def _shorts(flags: int) -> int:
    """The i2 of an image's record in SerialEM's header."""
    return sum(count for bit, count in SERIAL_EM.items() if flags & bit)


def _serial_em(raw: bytes, images: int, size: int, flags: int, facts: Facts, order: str) -> Extended:
    extended = Extended()
    if size <= 0 or size != 2 * _shorts(flags):
        return extended
    records = []
    for n in range(min(images, len(raw) // size)):
        values = struct.unpack_from(f"{order}{size // 2}h", raw, n * size)
        record, place = {}, 0
        for bit, count in SERIAL_EM.items():
            if flags & bit:
                record[bit] = values[place : place + count]
                place += count
        records.append(record)
    if not records:
        return extended
    first = records[0]
    extended.tilts = [record[1][0] / 100 for record in records if 1 in record]
    if 4 in first:
        facts.add("stage_x", first[4][0] / 25, "µm")
        facts.add("stage_y", first[4][1] / 25, "µm")
    if first.get(8, (0,))[0] > 0:
        facts.add("magnification", first[8][0] * 100)
    if 32 in first and (dose := _serial_em_float(*first[32])) > 0:
        facts.add("Electron Dose", dose, "1/Å**2")
    extended.native = {"flags": flags, "tilts": extended.tilts[:64]}
    return extended


def _serial_em_float(first: int, second: int) -> float:
    """Number that SerialEM keeps in two i2."""
    sign = -1 if first < 0 else 1
    exponent = (-1 if second < 0 else 1) * (abs(second) // 256)
    return tidy(sign * (abs(first) * 256 + abs(second) % 256) * 2.0**exponent)


def _add(table: Mapping[str, tuple[str, str | None]], values: Mapping[str, Any], facts: Facts) -> None:
    for key, (name, unit) in table.items():
        facts.add(name, values.get(key), unit)
