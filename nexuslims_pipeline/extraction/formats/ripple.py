"""Lispix Ripple: a text ``.rpl`` that describes the numbers in the ``.raw`` of the same name.

Lines of a keyword, a tabulator (some programs: blanks, or ``(MLX::KEYWORD : value)``) and a value; a semicolon begins a
comment. Keywords in any case:

===========  =======================================================================================
keyword      meaning
===========  =======================================================================================
width        columns; height: rows; depth: images or channels
offset       bytes before the numbers
data-length  bytes of each: 1, 2, 4 or 8
data-type    signed, unsigned or float
byte-order   little-endian, big-endian or dont-care
record-by    vector: the spectrum of one position after the other (rows, columns, depth); image: one
             image after the other (depth, rows, columns); dont-care: one image
ev-per-chan  eV per channel; detector-peak-width-ev: resolution at Mn Kα in eV
===========  =======================================================================================

HyperSpy adds ``width-scale``, ``-origin``, ``-units`` and ``-name`` of each axis, ``title``, ``date``, ``time``,
``signal`` and settings of the microscope. https://www.nist.gov/services-resources/software/lispix and
https://hyperspy.org/rosettasciio/user_guide/supported_formats/ripple.html.
"""

import re
from datetime import datetime
from math import prod
from pathlib import Path
from typing import ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded, entry, spectral_type
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import decode, moment, number
from nexuslims_pipeline.signals import Axis, DatasetType, Pixels, Signal, Source

TEXT_LIMIT: Final = 256 << 10
"""Bytes of the description that are read; real ones have 0.5 kB."""
LONGEST_AXIS: Final = 1 << 31
KINDS: Final = {"signed": "i", "unsigned": "u", "float": "f"}
ORDERS: Final = {"little-endian": "<", "big-endian": ">", "dont-care": "<"}
LINE = re.compile(r"\(?\s*(?:MLX::)?([A-Za-z][A-Za-z0-9-]*)(?:\s*:\s+|\s+)([^;]*)", re.IGNORECASE)
SIZES: Final = ("width", "height", "depth")
ENTRIES: Final = (
    entry("acceleration_voltage", "kV", "beam-energy", never_zero=True),
    entry("convergence_angle", "mrad", "convergence-angle", never_zero=True),
    entry("collection_angle", "mrad", "collection-angle", never_zero=True),
    entry("elevation_angle", "deg", "elevation-angle"),
    entry("azimuthal_angle", "deg", "azimuth-angle"),
    entry("live_time", "s", "live-time", never_zero=True),
    entry("detector_energy_resolution", "eV", "detector-peak-width-ev energy-resolution", never_zero=True),
    entry("stage_tilt", "deg", "tilt-stage"),
)
TECHNIQUES: Final = {"EELS": "EELS", "EDS": "EDS", "WDS": "WDS", "CL": "CL"}
HIGHEST_SEM_KV: Final = 30.0


class Ripple(Extractor):
    """Data cubes of Lispix and of the many programs that export them."""

    name: ClassVar[str] = "ripple"
    format_name: ClassVar[str] = "Ripple"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".rpl"})

    def accepts(self, source: Source, head: bytes) -> bool:  # noqa: ARG002 - the head says it all
        """Whether its first lines have the keywords that every such file has."""
        known = parse_rpl(decode(head)[0])
        return (
            b"\0" not in head[:1]
            and {"width", "height"} <= known.keys()
            and bool({"data-type", "record-by"} & known.keys())
        )

    def extract(self, source: Source) -> list[Signal]:
        """Read the description; the numbers when they are sliced.

        Raises
        ------
        ExtractionError
            If the description makes no sense.
        """
        with source.path.open("rb") as file:
            text, _ = decode(file.read(TEXT_LIMIT))
        values = parse_rpl(text)
        axes, facts = _axes(values), Facts()
        facts.add_entries(ENTRIES, lambda place: values.get(place, ""))
        facts.add_axes(axes)
        signal = Signal(
            _dataset_type(axes),
            _technique(values, axes, facts),
            shape=tuple(axis.size for axis in axes),
            name=values.get("title", ""),
            acquired=_acquired(values, facts, source),
            native=bounded(values),
        )
        raw = next((each for each in source.companions if each.suffix.lower() == ".raw"), None)
        if raw is None:
            facts.warnings["Pixels"] = f"Its numbers are missing: there is no {source.path.stem}.raw beside it."
        else:
            signal.pixels = _pixels(raw, values, axes, facts)
        return [facts.give_to(signal)]


def parse_rpl(text: str) -> dict[str, str]:
    """Values by keyword in lower case."""
    found = (LINE.match(line.strip()) for line in text.split("\n"))
    values = ((match[1].lower(), match[2].strip().rstrip(")").strip()) for match in found if match)
    return {key: value for key, value in values if key != "key"}


def _axes(values: dict[str, str]) -> tuple[Axis, ...]:
    """Axes in the order of the numbers; those of one element are left out unless nothing else is there.

    Raises
    ------
    ExtractionError
        If a size is no sensible number.
    """
    record = values.get("record-by", "dont-care").lower()
    is_cube = record in ("vector", "image") and _size(values, "depth") > 1
    order = {"vector": ("height", "width", "depth"), "image": ("depth", "height", "width")}.get(record, ())
    keys = order if is_cube else ("height", "width")
    navigation = {"vector": {"height", "width"}, "image": {"depth"}}.get(record, set()) if is_cube else set()
    axes = [_axis(values, key, navigation=key in navigation) for key in keys]
    kept = [axis for axis in axes if axis.size > 1]
    return tuple(kept or axes[-1:])


def _size(values: dict[str, str], key: str) -> int:
    text = values.get(key, "1" if key == "depth" else "")
    if not re.fullmatch(r"\d{1,10}", text) or not 0 < int(text) < LONGEST_AXIS:
        msg = f"its {key} is {text[:40]!r}, which is no size"
        raise ExtractionError(msg)
    return int(text)


def _axis(values: dict[str, str], key: str, *, navigation: bool) -> Axis:
    scale, units = _number(values, f"{key}-scale"), values.get(f"{key}-units", "")
    if key == "depth" and not scale and values.get("record-by", "").lower() == "vector":
        scale = _number(values, "ev-per-chan")
        units = "eV" if scale else units
    name = values.get(f"{key}-name", "")
    names = {"width": "x", "height": "y", "depth": "Energy" if units in ("eV", "keV") else "Depth"}
    return Axis(
        _size(values, key),
        scale or 1.0,
        _number(values, f"{key}-origin"),
        "" if units.startswith("<") else units,
        names[key] if not name or name.isdecimal() or name == key else name,
        navigation,
    )


def _number(values: dict[str, str], key: str) -> float:
    try:
        return number(values.get(key, ""))
    except ValueError:
        return 0.0


def _dataset_type(axes: tuple[Axis, ...]) -> DatasetType:
    """By the axes: positions and spectra, or images."""
    inner = [axis for axis in axes if not axis.navigation]
    if len(inner) == 1:
        return spectral_type(axes)
    navigation = [axis for axis in axes if axis.navigation]
    has_energies = any(axis.units in ("eV", "keV") for axis in navigation)
    return "SpectrumImage" if has_energies else "Image"


def _technique(values: dict[str, str], axes: tuple[Axis, ...], facts: Facts) -> str:
    """Technique by HyperSpy's name of the signal (``EDS_SEM``), by the voltage and by the scan."""
    signal = values.get("signal", "").upper()
    name = next((words for start, words in TECHNIQUES.items() if signal.startswith(start)), "")
    if (
        not name
        and (values.get("ev-per-chan") or values.get("detector-peak-width-ev"))
        and _number(values, "ev-per-chan")
    ):
        name = "EDS"
    if not name:
        return "Unknown"
    voltage = facts.fields.get("acceleration_voltage")
    is_tem = name == "EELS" or "TEM" in signal or (voltage is not None and voltage.m_as("kV") > HIGHEST_SEM_KV)
    column = ("STEM" if _dataset_type(axes) == "SpectrumImage" else "TEM") if is_tem else "SEM"
    return f"{column}_{name}"


def _acquired(values: dict[str, str], facts: Facts, source: Source) -> datetime | None:
    text = f"{values.get('date', '')} {values.get('time', '')}".strip()
    if not values.get("date"):
        return None
    try:
        return moment(text, like=source.modified)
    except ValueError as fault:
        facts.warnings["Creation Time"] = f"The file says {fault}."
        return None


def _pixels(raw: Path, values: dict[str, str], axes: tuple[Axis, ...], facts: Facts) -> Pixels | None:
    """The numbers, as far as the file has them; None with a warning when that is no whole row."""
    import numpy as np

    kind, length = KINDS.get(values.get("data-type", "").lower(), ""), values.get("data-length", "")
    order = ORDERS.get(values.get("byte-order", "dont-care").lower(), "")
    if not kind or not order or length not in ("1", "2", "4", "8") or (kind == "f" and length in "12"):
        facts.warnings["Pixels"] = (
            f"Numbers of {length or '?'} bytes of the type {values.get('data-type')!r} are not known."
        )
        return None
    dtype = np.dtype(f"{order}{kind}{length}")
    offset = int(_number(values, "offset"))
    shape = tuple(axis.size for axis in axes)
    present = max(0, raw.stat().st_size - offset)
    needed = prod(shape) * dtype.itemsize
    if offset < 0 or present < needed:
        facts.warnings["Pixels"] = (
            f"{raw.name} has {present} of the {needed} bytes that are described (a copy that broke off?)."
        )
        return None
    return Pixels(np.memmap(raw, mode="r", dtype=dtype, offset=offset, shape=shape), axes)


EXTRACTOR = Ripple()
