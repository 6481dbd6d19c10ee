"""Horiba Jobin Yvon LabSpec ``.xml``: Raman and photoluminescence spectra, lines and maps.

Elements ``LSX`` whose attribute ``ID`` tells what they are: the title, the axes (0: intensity, 1: spectrum, 2 and 3:
positions), each with name, unit and coordinates, and lists of settings, each with name and value (for lists of choices
the value is what was chosen, with the number behind it). ``LSX_Matrix`` has a row of intensities for each position, the
first axis of positions the fastest. Source: https://hyperspy.org/rosettasciio
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Entry, Facts, bounded, spectral_type
from nexuslims_pipeline.extraction.layouts.table_axis import axis_through, even_pixels
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import local_time, parse_xml
from nexuslims_pipeline.signals import Axis, Pixels, Signal, Source

FILE_LIMIT: Final = 256 << 20
TITLE, AXES_OUTER, AXES, SETTINGS = "0x6C7469D9", "0x7A74D9D6", "0x7B697861", "0x6C62D4D9"
SETUP, FILE_FACTS, DATES = "0x8716361", "0x7C73E2D2", "0x7CECDBD7"
NAME, VALUE, NUMBER = "0x6D6D616E", "0x7D6C61DB", "0x8736F70"
KIND, UNIT, COORDINATES = "0x6D707974", "0x7C696E75", "0x7D6CD4DB"
SPECTRUM, POSITIONS = "0x1", ("0x3", "0x2")
"""Axes; of the positions the slow one first."""
ROOT: Final = re.compile(rb"<LSX_Data[\s>]")
LENGTH: Final = re.compile(r"[nµμu]m")

ENTRIES: Final[tuple[tuple[str, str | None, str, str | None], ...]] = (
    ("exposure_time", "s", "Acq. time (s)", None),
    ("frames", "", "Accumulations", None),
    ("acquisition_time", "s", "Full time(s)", None),
    ("binning", None, "Binning", None),
    ("acquisition_device", None, "Detector", None),
    ("stage_x", "µm", "X (µm)", None),
    ("stage_y", "µm", "Y (µm)", None),
    ("stage_z", "µm", "Z (µm)", None),
    ("Stage", None, "StageXY", None),
    ("specimen", None, "Sample", None),
    ("operator", None, "User", None),
    ("Project", None, "Project", None),
    ("Site", None, "Site", None),
    ("Notes", None, "Remark", None),
    ("Name", None, "Objective", "Objective"),
    ("Temperature", "degC", "Detector temperature (°C)", "Detector"),
    ("Readout Mode", None, "Readout mode", "Detector"),
    ("Delay Time", "s", "Delay time (s)", "Detector"),
    ("Confocal Hole", "µm", "Hole", None),
    ("Laser Polarisation", None, "Laser. Pol.", "Polarisation"),
    ("Raman Polarisation", None, "Raman. Pol.", "Polarisation"),
    ("Laser Polarisation Angle", "deg", "Laser Pol. (°)", "Polarisation"),
    ("Raman Polarisation Angle", "deg", "Raman Pol. (°)", "Polarisation"),
    *((title, None, key, "Processing") for title, key in (
        ("Autofocus", "Autofocus"), ("SWIFT", "SWIFT"), ("Automatic Exposure", "AutoExposure"),
        ("Spike Filter", "Spike filter"), ("Noise Removal", "DeNoise"), ("ICS Correction", "ICS correction"),
        ("Dark Correction", "Dark correction"), ("Instrument Process", "Inst. Process"),
    )),
)  # fmt: skip
NUMBERS: Final[tuple[tuple[str, str, str, str | None], ...]] = (
    ("laser_wavelength", "nm", "Laser (nm)", None),
    ("Centre Wavelength", "nm", "Spectro (nm)", None),
    ("Groove Density", "1/mm", "Grating", "Grating"),
    ("Magnification", "", "Objective", "Objective"),
    ("ND Filter Transmission", "percent", "ND Filter", None),
)
"""Settings for which the number behind the choice counts: the true wavelength of a laser called ``633``."""


class Horiba(Extractor):
    """Spectra of LabSpec."""

    name: ClassVar[str] = "horiba"
    format_name: ClassVar[str] = "Horiba LabSpec"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".xml"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:  # noqa: ARG002 - the head says it all
        """Whether it is XML with LabSpec's root."""
        return ROOT.search(head[:1024]) is not None

    def extract(self, source: Source) -> list[Signal]:
        """Read the spectra.

        Raises
        ------
        ExtractionError
            If it is too large, no XML, or has no spectra.
        """
        if source.path.stat().st_size > FILE_LIMIT:
            msg = f"it is larger than {FILE_LIMIT >> 20} MB of XML, which is not read"
            raise ExtractionError(msg)
        root = parse_xml(source.path.read_bytes())
        tree, rows = root.find("LSX_Tree"), root.findall("LSX_Matrix/LSX_Row")
        if tree is None or not rows:
            msg = "it is damaged: there are no spectra in it"
            raise ExtractionError(msg)
        facts = Facts()
        axes, coordinates = _axes(_child(_child(tree, AXES_OUTER), AXES), len(rows), facts)
        settings = _child(tree, SETTINGS)
        setup, about, dates = (_settings(_child(settings, group)) for group in (SETUP, FILE_FACTS, DATES))
        _add_settings({**setup, **about}, facts)
        facts.add_axes(axes)
        signal = Signal(
            spectral_type(axes),
            "Optical_Spectroscopy",
            tuple(axis.size for axis in axes),
            about.get("Title", ("", ""))[0] or _text(tree, TITLE),
            native=bounded({"setup": setup, "file": about, "dates": dates}),
        )
        facts.give_to(signal)
        signal.acquired = _started(dates.get("Acquired") or about.get("Date"), signal)
        signal.pixels = _pixels(rows, axes, coordinates, signal)
        return [signal]


def _child(element: Any, identifier: str) -> Any:
    """First child of an identifier; None when there is none."""
    found = (child for child in (element if element is not None else ()) if child.get("ID") == identifier)
    return next(found, None)


def _text(element: Any, identifier: str) -> str:
    child = _child(element, identifier)
    return (child.text or "").strip() if child is not None else ""


def _settings(group: Any) -> dict[str, tuple[str, str]]:
    """Value and the number behind it, by name; the first that is not empty counts."""
    settings: dict[str, tuple[str, str]] = {}
    for each in group if group is not None else ():
        name, values = _text(each, NAME), (_text(each, VALUE), _text(each, NUMBER))
        if name and any(values):
            settings.setdefault(name, values)
    return settings


def _add_settings(settings: Mapping[str, tuple[str, str]], facts: Facts) -> None:
    def chosen(key: str) -> str:
        return settings.get(key, ("", ""))[0]

    def behind(key: str) -> str:
        return next((text for text in reversed(settings.get(key, ())) if text), "")

    facts.add("microscope", f"Horiba {chosen('Instrument')}" if chosen("Instrument") else "")
    facts.add_entries((_entry(*each) for each in ENTRIES), chosen)
    facts.add_entries((_entry(*each) for each in NUMBERS), behind)


def _entry(name: str, unit: str | None, place: str, group: str | None) -> Entry:
    """Entry of one place, whose name may have blanks; none of the measured values can be zero but places and angles."""
    return Entry(
        name, unit, (place,), group, never_zero=name in ("exposure_time", "acquisition_time", "laser_wavelength")
    )


def _axes(described: Any, rows: int, facts: Facts) -> tuple[tuple[Axis, ...], list[float]]:
    """Positions, if they are as many as the rows, and the spectrum; coordinates of the latter's channels."""
    positions = []
    for identifier in POSITIONS:
        each = _child(described, identifier)
        values = _floats(_text(each, COORDINATES))
        if len(values) > 1:
            name, unit = _text(each, KIND), _text(each, UNIT).replace("μ", "µ")
            positions.append(axis_through(values, name, unit, facts, navigation=True))
    count = 1
    for axis in positions:
        count *= axis.size
    if count != rows:
        facts.warnings["Positions"] = f"Its axes have {count} positions for {rows} spectra, and are left out."
        positions = [Axis(rows, name="Spectrum", navigation=True)] if rows > 1 else []
    spectrum = _child(described, SPECTRUM)
    name, unit = _spectral(_text(spectrum, UNIT))
    values = _floats(_text(spectrum, COORDINATES))
    axis = axis_through(values, name, unit, facts)
    if axis.units:
        facts.add("First Channel", axis.offset, axis.units, name)
        facts.add("Last Channel", float(f"{axis.offset + axis.scale * (axis.size - 1):.9g}"), axis.units, name)
    return (*positions, axis), values


def _spectral(unit: str) -> tuple[str, str]:
    """Name and unit of the spectral axis: ``1/cm`` is a shift, ``1/cm abs`` a wavenumber."""
    if unit.startswith("1/"):
        plain = unit.removesuffix("abs").strip()
        return ("Wavenumber" if plain != unit else "Raman Shift"), plain
    if unit.endswith("eV"):
        return "Energy", unit
    return ("Wavelength", unit.replace("μ", "µ")) if LENGTH.fullmatch(unit) else ("Channel", "")


def _floats(text: str) -> list[float]:
    """Numbers between blanks; none when one is no number."""
    try:
        return [float(word) for word in text.split()]
    except ValueError:
        return []


def _pixels(rows: list[Any], axes: tuple[Axis, ...], coordinates: list[float], signal: Signal) -> Pixels | None:
    """Intensities; None, with a warning, when a row is not as long as the axis."""
    import numpy as np

    spectra = [_floats(row.text or "") for row in rows]
    channels = axes[-1].size
    if not channels or any(len(spectrum) != channels for spectrum in spectra):
        signal.warnings["Pixels"] = "Its spectra are not as long as their axis, and are not drawn."
        return None
    return even_pixels(np.array(spectra, "f8").reshape([axis.size for axis in axes]), axes, coordinates)


def _started(written: tuple[str, str] | None, signal: Signal) -> datetime | None:
    if written is None or not written[0]:
        return None
    try:
        return local_time(written[0])
    except ValueError as fault:
        signal.warnings["Creation Time"] = f"The file says {fault}."
        return None


EXTRACTOR = Horiba()
