"""EDAX ``.spc``: one energy-dispersive X-ray spectrum.

Little endian, offsets in bytes (EDAX, "SPECTRUM-V70", versions 0.61 and 0.70):

======  =====  ==========================================================
offset  type   meaning
======  =====  ==========================================================
0       f4     version of the format
16      i2     year; i1 each: day, month, minute, hour, 1/100 s, second
28      i4     where the counts begin
32      u2     number of channels
36      i2     working distance in 1/100 mm
384     i4     eV per channel
444     u4     analyser type
448     f4     first and (452) last energy, keV
456     f4     live time, s
460     f4     stage tilt and (464) take-off angle, degrees
472     f4     detector resolution at Mn Kα, eV
476     u4     detector type
508     f4     detector azimuth and (512) elevation, degrees
532     f4     beam voltage, kV
638     i2     number of identified elements; 640: their atomic numbers, u2
======  =====  ==========================================================

The counts are u4, with room for 4096 whatever the number of channels; behind 512 bytes of file names follows the time
constant of the amplifier in µs (f4). https://github.com/hyperspy/rosettasciio/tree/main/docs/file_specification/edax.
"""

import struct
from datetime import datetime
from math import isfinite
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import ELEMENTS
from nexuslims_pipeline.signals import Axis, Pixels, Signal, Source

HEADER_BYTES: Final = 736
ELEMENTS_AT: Final = 640
MOST_ELEMENTS: Final = 48
VERSIONS: Final = (0.5, 1.5)
"""Version numbers that the table above is taken to hold for."""
LAYOUT: Final = {
    "version": ("f", 0),
    "data_start": ("i", 28),
    "channels": ("H", 32),
    "working_distance": ("h", 36),
    "ev_per_channel": ("i", 384),
    "analyser_type": ("I", 444),
    "start_energy": ("f", 448),
    "end_energy": ("f", 452),
    "live_time": ("f", 456),
    "tilt": ("f", 460),
    "takeoff": ("f", 464),
    "resolution": ("f", 472),
    "detector_type": ("I", 476),
    "azimuth": ("f", 508),
    "elevation": ("f", 512),
    "beam_kv": ("f", 532),
    "element_count": ("h", 638),
}
TIME_CONSTANT: Final = 4 * 4096 + 512
"""Where the amplifier's time constant lies, from the begin of the counts."""
SHAPING_TIMES: Final = (0.05, 200.0)
"""Time constants that amplifiers have, in µs."""
TEM_DETECTORS: Final = frozenset({8, 18, 60, 61, 62})
"""Detector types for transmission microscopes: TEMECON and Apollo XLT."""
HIGHEST_SEM_KV: Final = 30.0
"""Scanning microscopes end here, transmission microscopes begin above."""


class EdaxSpc(Extractor):
    """Spectra of EDAX Genesis and TEAM."""

    name: ClassVar[str] = "edax_spc"
    format_name: ClassVar[str] = "EDAX spectrum"
    version: ClassVar[str] = "2"
    extensions: ClassVar[frozenset[str]] = frozenset({".spc"})

    def accepts(self, source: Source, head: bytes) -> bool:  # noqa: ARG002 - the head says it all
        """Whether the version and the place of the counts are EDAX's: others use the extension too."""
        if len(head) < HEADER_BYTES:
            return False
        header = _header(head)
        return bool(VERSIONS[0] < header["version"] < VERSIONS[1] and header["data_start"] >= HEADER_BYTES)

    def extract(self, source: Source) -> list[Signal]:
        """Read the one spectrum.

        Raises
        ------
        ExtractionError
            If the file has no counts.
        """
        with source.path.open("rb") as file:
            raw = file.read(HEADER_BYTES)
            if len(raw) < HEADER_BYTES:
                msg = "it is damaged: shorter than the header of an EDAX spectrum"
                raise ExtractionError(msg)
            header = _header(raw)
            file.seek(max(0, header["data_start"]) + TIME_CONSTANT)
            time_constant = file.read(4)
        channels = int(header["channels"])
        present = max(0, source.path.stat().st_size - int(header["data_start"])) // 4
        if channels == 0 or present == 0:
            msg = "it is damaged: its header is followed by no counts"
            raise ExtractionError(msg)
        facts = _facts(header, raw)
        if len(time_constant) == 4:
            [shaping_time] = struct.unpack("<f", time_constant)
            in_range = SHAPING_TIMES[0] <= shaping_time <= SHAPING_TIMES[1]
            facts.add("shaping_time", _shortest(shaping_time) if in_range else None, "µs")
        if present < channels:
            facts.warnings["Pixels"] = f"The file ends after {present} of {channels} channels (a copy that broke off?)."
        signal = Signal(
            "Spectrum",
            _technique(header),
            shape=(channels,),
            acquired=_acquired(raw, facts),
            native=bounded(header),
        )
        signal.pixels = _pixels(source, header, min(channels, present))
        return [facts.give_to(signal)]


def _header(raw: bytes) -> dict[str, Any]:
    return {key: struct.unpack_from("<" + kind, raw, offset)[0] for key, (kind, offset) in LAYOUT.items()}


def _facts(header: dict[str, Any], raw: bytes) -> Facts:
    facts = Facts()
    facts.add_measured("acceleration_voltage", _shortest(header["beam_kv"]), "kV")
    facts.add_measured("live_time", _shortest(header["live_time"]), "s")
    facts.add_measured("channel_size", header["ev_per_channel"], "eV")
    facts.add("starting_energy", _shortest(header["start_energy"]), "keV")
    facts.add_measured("Ending Energy", _shortest(header["end_energy"]), "keV")
    facts.add("azimuthal_angle", _shortest(header["azimuth"]), "deg")
    facts.add("elevation_angle", _shortest(header["elevation"]), "deg")
    facts.add_measured("takeoff_angle", _shortest(header["takeoff"]), "deg")
    facts.add("stage_tilt", _shortest(header["tilt"]), "deg")
    facts.add_measured("detector_energy_resolution", _shortest(header["resolution"]), "eV")
    facts.add_measured("working_distance", header["working_distance"] / 100, "mm")
    facts.add("Number of Channels", header["channels"])
    count = max(0, min(header["element_count"], MOST_ELEMENTS))
    numbers = struct.unpack_from(f"<{count}H", raw, ELEMENTS_AT)
    facts.add("elements", [ELEMENTS[z - 1] for z in numbers if 0 < z <= len(ELEMENTS)])
    return facts


def _shortest(value: float) -> float:
    """Undo the rounding of a decimal number to four bytes: 10.1 rather than 10.10000038."""
    return float(f"{value:.7g}")


def _technique(header: dict[str, Any]) -> str:
    if header["beam_kv"] > HIGHEST_SEM_KV or header["detector_type"] in TEM_DETECTORS:
        return "TEM_EDS"
    return "SEM_EDS"


def _acquired(raw: bytes, facts: Facts) -> datetime | None:
    year, day, month, minute, hour, hundredth, second = struct.unpack_from("<h6b", raw, 16)
    if not any((year, day, month)):
        return None
    try:
        return datetime(year, month, day, hour, minute, second, hundredth * 10_000)  # noqa: DTZ001 - the instrument's clock
    except ValueError:
        facts.warnings["Acquisition Date"] = (
            f"The file says {year}-{month}-{day} {hour}:{minute}:{second}, which is no date and time."
        )
        return None


def _pixels(source: Source, header: dict[str, Any], channels: int) -> Pixels:
    import numpy as np

    counts = np.memmap(source.path, mode="r", dtype="<u4", offset=int(header["data_start"]), shape=(channels,))
    start = _shortest(header["start_energy"])
    axis = Axis(
        channels,
        scale=header["ev_per_channel"] / 1000 or 1.0,
        offset=start if isfinite(start) else 0.0,
        units="keV" if header["ev_per_channel"] else "",
        name="Energy",
    )
    return Pixels(counts, (axis,))


EXTRACTOR = EdaxSpc()
