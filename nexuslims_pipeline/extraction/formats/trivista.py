"""S&I TriVista ``.tvf``: Raman and photoluminescence spectra, series, lines and maps.

XML: ``Hardware`` lists all that is installed, ``Documents`` what was measured. A document has the wavelengths of the
channels (``xDim/Calibration``, ``97|910.3|910.4|…``), a ``Frame`` of intensities (``448;482;…``) for each spectrum, and
in its attribute ``InfoSerialized`` a second XML text with the settings: groups of items with name and value. Frames of
a map lie row by row. Source: https://hyperspy.org/rosettasciio
"""

import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded, spectral_type
from nexuslims_pipeline.extraction.layouts.table_axis import axis_through, even_pixels
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import local_time, number, parse_xml
from nexuslims_pipeline.signals import Axis, Pixels, Signal, Source

FILE_LIMIT: Final = 256 << 20
MOST_DOCUMENTS: Final = 64
GROUP_DEPTH: Final = 8
ROOT: Final = re.compile(rb"<XmlMain\s[^>]{0,400}?(PlugIn|FileInfoSerialized)")
DECLARATION: Final = re.compile(r"^\s*<\?xml[^>]*\?>")
RECORDED: Final = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})\s+(.*)")
"""Month, day and year, wherever the computer stands."""
UNITS: Final = {"Nanometer": ("Wavelength", "nm"), "Electronvolt": ("Energy", "eV"),
                "Wavenumber": ("Wavenumber", "1/cm"), "RelativeWavenumber": ("Raman Shift", "1/cm"),
                "RamanShift": ("Raman Shift", "1/cm")}  # fmt: skip
ITEMS: Final = (
    ("Experiment/Mode", "Experiment", None, None),
    ("Experiment/Stage Mode", "Stage Mode", None, None),
    ("Detector/Name", "acquisition_device", None, None),
    ("Detector/Exposure_Time_(ms)", "exposure_time", "ms", None),
    ("Detector/No_of_Accumulations", "frames", "", None),
    ("Detector/Detector_Temperature", "Temperature", "degC", "Detector"),
    ("Detector/Calc_Average", "Average of Accumulations", None, "Detector"),
    ("Detector/ADC__Rate_Resolution", "Readout Rate", None, "Detector"),
    ("Calibration/Laser_Wavelength", "laser_wavelength", "nm", None),
    ("Calibration/Center_Wavelength", "Centre Wavelength", "nm", None),
)
SPECTROMETER_ITEMS: Final = (
    ("Model", "Model", None),
    ("Focallength", "Focal Length", "mm"),
    ("Order", "Order", ""),
    ("Slit_Entrance-Front", "Front Entrance Slit", "µm"),
    ("Slit_Entrance-Side", "Side Entrance Slit", "µm"),
    ("Slit_Exit-Front", "Front Exit Slit", "µm"),
    ("Slit_Exit-Side", "Side Exit Slit", "µm"),
)
GROOVES: Final = re.compile(r"([\d.]+)\s*g/mm")
NEVER_ZERO: Final = re.compile(r".*(Wavelength|Slit|Exposure|Accumulations|Focal).*", re.IGNORECASE)
SPECTROMETERS: Final = "Spectrometers/"


class TriVista(Extractor):
    """Spectra of TriVista and VistaControl."""

    name: ClassVar[str] = "trivista"
    format_name: ClassVar[str] = "TriVista"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".tvf"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:  # noqa: ARG002 - the head says it all
        """Whether it is XML with TriVista's root."""
        return ROOT.search(head) is not None

    def extract(self, source: Source) -> list[Signal]:
        """Read every document of spectra.

        Raises
        ------
        ExtractionError
            If it is too large, no XML, or has no spectra.
        """
        if source.path.stat().st_size > FILE_LIMIT:
            msg = f"it is larger than {FILE_LIMIT >> 20} MB of XML, which is not read"
            raise ExtractionError(msg)
        root = parse_xml(source.path.read_bytes())
        documents = [each for each in root.findall("Documents/Document") if each.find("Data/Frame") is not None]
        if not documents:
            msg = "it is damaged: there are no spectra in it"
            raise ExtractionError(msg)
        signals = [_signal(document, root) for document in documents[:MOST_DOCUMENTS]]
        if len(documents) > MOST_DOCUMENTS:
            signals[0].warnings["Documents"] = f"Only {MOST_DOCUMENTS} of its {len(documents)} documents are read."
        return signals


def _signal(document: Any, root: Any) -> Signal:
    facts = Facts()
    items = _items(document.get("InfoSerialized") or "", facts)
    frames = document.findall("Data/Frame")
    spectral, coordinates = _spectral_axis(document.find("xDim/Calibration"), facts)
    axes = (*_positions(items, frames, facts), spectral)
    _add_items(items, facts)
    _add_objective(root, facts)
    facts.add_axes(axes)
    if document.find("Childs/Document") is not None:
        facts.add("Parts Joined", len(document.findall("Childs/Document")))
    signal = Signal(
        spectral_type(axes),
        "Optical_Spectroscopy",
        tuple(axis.size for axis in axes),
        native=bounded({"document": _attributes(document), "items": items, "hardware": _hardware(root)}),
    )
    signal.pixels = _pixels(frames, axes, coordinates, facts)
    signal.acquired = _recorded(document.get("RecordTime") or "", facts)
    return facts.give_to(signal)


def _attributes(element: Any) -> dict[str, str]:
    return {str(key): str(value) for key, value in element.attrib.items() if key != "InfoSerialized"}


def _hardware(root: Any) -> dict[str, Any]:
    """Attributes of the devices that are installed."""
    hardware = root.find("Hardware")
    return {
        str(group.tag): [_attributes(device) for device in group][:64]
        for group in (hardware if hardware is not None else ())
    }


def _items(text: str, facts: Facts) -> dict[str, str]:
    """Settings by ``Group/Item``; inner groups of one name are numbered."""
    items: dict[str, str] = {}

    def walk(groups: Any, path: str, depth: int) -> None:
        times: dict[str, int] = {}
        for group in groups.findall("Group"):
            name = group.findtext("Name") or ""
            times[name] = times.get(name, 0) + 1
            place = f"{path}{name}" + (f" {times[name]}" if times[name] > 1 else "") + "/"
            for item in group.findall("Items/Item"):
                items[place + (item.findtext("Name") or "")] = (item.findtext("Value") or "").strip()
            inner = group.find("Groups")
            if inner is not None and depth < GROUP_DEPTH:
                walk(inner, place, depth + 1)

    try:
        groups = parse_xml(DECLARATION.sub("", text).encode()).find("Groups")
    except ExtractionError as fault:
        facts.warnings["Settings"] = f"They cannot be read: {fault}"
        return {}
    if groups is not None:
        walk(groups, "", 0)
    return items


def _positions(items: Mapping[str, str], frames: list[Any], facts: Facts) -> tuple[Axis, ...]:
    """Axes of the stage, or of time; the file does not tell the unit of the stage's positions."""
    stage = [axis for side in "YX" if (axis := _stage_axis(items, side)) is not None]
    if len(frames) == 1:
        return ()
    if stage and math.prod(axis.size for axis in stage) == len(frames):
        for axis in stage:
            facts.add("First", axis.offset, group=f"Stage {axis.name}")
            facts.add("Step", axis.scale, group=f"Stage {axis.name}")
        return tuple(stage)
    if stage:
        facts.warnings["Positions"] = f"Its axes do not have the {len(frames)} positions of its spectra."
    times = [_float(frame.get("TimeStamp") or "") for frame in frames]
    if times[-1] > times[0] > 0:
        return (axis_through([(time - times[0]) / 1e7 for time in times], "Time", "s", facts, navigation=True),)
    return (Axis(len(frames), name="Spectrum", navigation=True),)


def _stage_axis(items: Mapping[str, str], side: str) -> Axis | None:
    first, step, points = (_float(items.get(f"{side}-Axis/{key}", "")) for key in ("From", "Step", "Points"))
    if not all(map(math.isfinite, (first, step, points))) or points < 2:
        return None
    return Axis(int(points), step, first, "", side, navigation=True)


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _floats(texts: list[str]) -> list[float]:
    return [_float(text) for text in texts]


def _spectral_axis(calibration: Any, facts: Facts) -> tuple[Axis, list[float]]:
    """Axis of the channels, and their coordinates."""
    if calibration is None:
        return Axis(0, name="Channel"), []
    name, unit = UNITS.get(calibration.get("Unit") or "", ("Channel", ""))
    count, *written = (calibration.get("ValueArray") or "").split("|")
    values = _floats(written)
    if _float(count) != len(values):
        facts.warnings[f"{name} Axis"] = f"It has {len(values)} coordinates where {count[:20]} are declared."
    axis = axis_through(values, name, unit, facts)
    if axis.units:
        facts.add("First Channel", values[0], unit, name)
        facts.add("Last Channel", values[-1], unit, name)
    laser = _float(calibration.get("LaserWave") or "")
    if laser > 0:
        facts.add("laser_wavelength", laser, "nm")
    return axis, values


def _add_items(items: Mapping[str, str], facts: Facts) -> None:
    for key, name, unit, group in ITEMS:
        _add_item(items.get(key, ""), name, unit, group, facts)
    models = [key.removesuffix("/Model") for key in items if key.startswith(SPECTROMETERS) and key.endswith("/Model")]
    for place in models:
        group = place.removeprefix(SPECTROMETERS)
        for key, name, unit in SPECTROMETER_ITEMS:
            _add_item(items.get(f"{place}/{key}", ""), name, unit, group, facts)
        if grooves := GROOVES.match(items.get(f"{place}/Groove_Density", "")):
            facts.add("Groove Density", float(grooves[1]), "1/mm", group)


def _add_item(text: str, name: str, unit: str | None, group: str | None, facts: Facts) -> None:
    try:
        is_nothing = unit is not None and bool(NEVER_ZERO.match(name.replace("_", " "))) and number(text) == 0
    except ValueError:
        is_nothing = False
    if not is_nothing:
        facts.add_written(name, text, unit, group)


def _add_objective(root: Any, facts: Facts) -> None:
    """The microscope's active objective, if it is one that was set up."""
    for microscope in root.findall("Hardware/Microscopes/Microscope"):
        objectives = microscope.findall("Objectives/Objective")
        active = _float(microscope.get("ActiveObjectiveIndex") or "")
        chosen = objectives[int(active)] if 0 <= active < len(objectives) else None
        if chosen is not None and chosen.get("IsEnabled") == "True":
            facts.add("Name", chosen.get("Name"), group="Objective")
            facts.add_written("Magnification", chosen.get("Magnification") or "", "", "Objective")
            return


def _pixels(frames: list[Any], axes: tuple[Axis, ...], coordinates: list[float], facts: Facts) -> Pixels | None:
    """Intensities; None, with a warning, when a spectrum is not as long as the axis."""
    import numpy as np

    spectra = [_floats((frame.text or "").split(";")) for frame in frames]
    if not axes[-1].size or any(len(spectrum) != axes[-1].size for spectrum in spectra):
        facts.warnings["Pixels"] = "Its spectra are not as long as their axis, and are not drawn."
        return None
    return even_pixels(np.array(spectra, "f8").reshape([axis.size for axis in axes]), axes, coordinates)


def _recorded(written: str, facts: Facts) -> datetime | None:
    parts = RECORDED.fullmatch(written.strip())
    if not written:
        return None
    try:
        if parts is None:
            return local_time(written)
        month, day, year, clock = parts.groups()
        return local_time(f"{year}-{month}-{day}", clock)
    except ValueError as fault:
        facts.warnings["Creation Time"] = f"The file says {fault}."
        return None


EXTRACTOR = TriVista()
