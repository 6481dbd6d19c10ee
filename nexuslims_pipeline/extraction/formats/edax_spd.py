"""EDAX ``.spd`` and ``.lsd``: an EDS map or line scan of Genesis or TEAM.

Little endian, offsets in bytes (EDAX, "SpcMap-spd.file.format"):

======  ========  ==========================================================================
offset  type      meaning
======  ========  ==========================================================================
0       16 bytes  ``MAPSPECTRA_DATA``
16      i4        version; 20: number of spectra, 24: columns
28      u4        rows; 32: channels, 36: bytes of each count, 40: where the counts begin
44      u4        frames
48      120 bytes  name of the electron image
======  ========  ==========================================================================

The counts follow row by row, the channels of a position together. The calibration is in two files beside it: that of
the energies in the ``.spc`` of the same name, that of lengths in the ``.ipr`` of the electron image ("ImageIPR", 333 or
334):

======  =====  =============================================================================
offset  type   meaning
======  =====  =============================================================================
0       u2     version; 2: kind of image
52      u2     voltage in units of 100 V
54      i2     tilt and (56) take-off angle in degrees
58      u4     magnification
62      u2     working distance in mm
64      f4     width and (68) height of a pixel in µm
======  =====  =============================================================================

https://github.com/hyperspy/rosettasciio/tree/main/docs/file_specification/edax.
"""

import struct
from math import isfinite, prod
from pathlib import Path
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded, spectral_type
from nexuslims_pipeline.extraction.formats.edax_spc import EXTRACTOR as SPECTRUM
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import decode
from nexuslims_pipeline.signals import Axis, Pixels, Signal, Source

MAGIC: Final = b"MAPSPECTRA_DATA"
HEADER: Final = struct.Struct("<16x3i5I120s")
HEADER_BYTES: Final = HEADER.size
LARGEST: Final = 1 << 20
"""Rows, columns or channels of any map."""
IPR: Final = struct.Struct("<2H48x H2h I H 2f")
IPR_VERSIONS: Final = range(330, 340)


class EdaxSpd(Extractor):
    """Maps and line scans of EDAX Genesis and TEAM."""

    name: ClassVar[str] = "edax_spd"
    format_name: ClassVar[str] = "EDAX map"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".spd", ".lsd"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:  # noqa: ARG002 - the head says it all
        """Whether it begins as a map of EDAX."""
        return head.startswith(MAGIC)

    def extract(self, source: Source) -> list[Signal]:
        """Read the one map; its numbers when they are sliced.

        Raises
        ------
        ExtractionError
            If its header is cut off or makes no sense.
        """
        with source.path.open("rb") as file:
            raw = file.read(HEADER_BYTES)
        if len(raw) < HEADER_BYTES:
            msg = "it is damaged: it ends within its header (a copy that broke off?)"
            raise ExtractionError(msg)
        version, spectra, columns, rows, channels, width, start, frames, image = HEADER.unpack(raw)
        if not all(0 < size <= LARGEST for size in (columns, rows, channels)) or width not in (1, 2, 4):
            msg = "it is damaged: the size of its map makes no sense"
            raise ExtractionError(msg)
        name = decode(image.split(b"\0")[0])[0]
        facts = Facts()
        energy, spectrum = _energy_axis(source, channels, facts)
        image_settings = _image_settings(source, facts)
        y, x = _scan_axes(rows, columns, image_settings)
        axes = (x, energy) if rows == 1 else (y, x, energy)
        facts.add_axes(axes)
        facts.add("frames", frames or None)
        facts.add("Electron Image", name.replace("\\", "/").rpartition("/")[2])
        signal = Signal(
            spectral_type(axes),
            spectrum.data_type.replace("TEM", "STEM") if spectrum else "SEM_EDS",
            shape=tuple(axis.size for axis in axes),
            acquired=spectrum.acquired if spectrum else None,
            native=bounded({
                "Map": {"Version": version, "Spectra": spectra, "Columns": columns, "Rows": rows, "Channels": channels,
                        "Bytes": width, "Start": start, "Frames": frames, "Image": name},
                "Spectrum": spectrum.native if spectrum else {},
                "Image": image_settings,
            }),
        )  # fmt: skip
        signal.pixels = _pixels(source, start, width, axes, facts)
        return [facts.give_to(signal)]


def _energy_axis(source: Source, channels: int, facts: Facts) -> tuple[Axis, Signal | None]:
    """Energy axis and everything else that the spectrum beside the map tells."""
    path = _beside(source, ".spc")
    if path is None:
        facts.warnings["Channel Size"] = (
            f"The energies are not known: there is no {source.path.stem}.spc beside the map."
        )
        return Axis(channels, name="Channel"), None
    companion = Source(path, source.modified, path.stat().st_size)
    try:
        [signal] = SPECTRUM.extract(companion)
    except ExtractionError as fault:
        facts.warnings["Channel Size"] = f"The energies are not known, since {path.name} was not read: {fault}."
        return Axis(channels, name="Channel"), None
    facts.fields |= signal.fields
    facts.extensions |= {name: value for name, value in signal.extensions.items() if name != "Number of Channels"}
    known = signal.pixels.axes[-1] if signal.pixels else Axis(channels)
    return Axis(channels, known.scale, known.offset, known.units, "Energy"), signal


def _image_settings(source: Source, facts: Facts) -> dict[str, Any]:
    """Settings in the file of the electron image; empty when there is none."""
    path = _beside(source, ".ipr")
    raw = b""
    if path is not None:
        with path.open("rb") as file:
            raw = file.read(IPR.size)
    if len(raw) < IPR.size:
        return {}
    version, _, voltage, tilt, takeoff, magnification, distance, width, height = IPR.unpack(raw)
    if version not in IPR_VERSIONS:
        return {}
    if "acceleration_voltage" not in facts.fields:
        facts.add_measured("acceleration_voltage", voltage / 10, "kV")
    if "working_distance" not in facts.fields:
        facts.add_measured("working_distance", distance, "mm")
    facts.add("magnification", magnification or None)
    return {
        "Version": version, "Voltage (100 V)": voltage, "Tilt (deg)": tilt, "Take-off Angle (deg)": takeoff,
        "Magnification": magnification, "Working Distance (mm)": distance, "Pixel Width (µm)": width,
        "Pixel Height (µm)": height,
    }  # fmt: skip


def _beside(source: Source, suffix: str) -> Path | None:
    return next((path for path in source.companions if path.suffix.lower() == suffix), None)


def _scan_axes(rows: int, columns: int, settings: dict[str, Any]) -> tuple[Axis, Axis]:
    height, width = (float(settings.get(f"Pixel {side} (µm)", 0)) for side in ("Height", "Width"))
    known = all(isfinite(each) and each > 0 for each in (height, width))
    units = "µm" if known else ""
    return (
        Axis(rows, height if known else 1.0, units=units, name="y", navigation=True),
        Axis(columns, width if known else 1.0, units=units, name="x", navigation=True),
    )


def _pixels(source: Source, start: int, width: int, axes: tuple[Axis, ...], facts: Facts) -> Pixels | None:
    """The counts; whole rows (positions of a line) with a warning when they are cut off."""
    import numpy as np

    shape = tuple(axis.size for axis in axes)
    row = prod(shape[1:]) * width
    present = min(shape[0], max(0, source.size - start) // row)
    if present < shape[0]:
        facts.warnings["Pixels"] = (
            f"The file ends after {present} of {shape[0]} rows or positions (a copy that broke off?)."
        )
    if not present:
        return None
    counts = np.memmap(source.path, mode="r", dtype=f"<u{width}", offset=start, shape=(present, *shape[1:]))
    first = Axis(present, axes[0].scale, axes[0].offset, axes[0].units, axes[0].name, navigation=True)
    return Pixels(counts, (first, *axes[1:]))


EXTRACTOR = EdaxSpd()
