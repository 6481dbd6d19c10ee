"""What Bruker's Esprit writes as XML, in spectra (``.spx``) and in the headers of maps (``.bcf``).

Everything is a ``<ClassInstance Type="TRT…" Name="…">``, some within ``<TRTHeaderedClass>``. Of these classes:

========================  =============================================================================
class                     values
========================  =============================================================================
TRTSpectrumHardwareHeader  real and live time in ms, dead time in percent; ``Amplification`` is the energy
                          range in eV, ``ShapingTime`` the maximum throughput in counts per second
TRTDetectorHeader         type, thickness in mm, dead layer in µm, window
TRTESMAHeader             beam energy in keV, angles in degrees, working distance in mm
TRTXrfHeader              X-ray tube: kV, µA; spot in µm, pressure in mbar
TRTSpectrumHeader         date, time, calibration in keV
TRTSpectrumRegion         an element (its ``Name``) with the line that stands for it
========================  =============================================================================

Dates are ``9.8.2016`` and ``14:48:9``; with some Windows settings numbers have decimal commas. That ``ShapingTime``
is a throughput follows from its values, which are those that Esprit offers (20, 60, 130, 275 kcps). Layout from
https://hyperspy.org/rosettasciio/file_specification/bruker.html.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final

from nexuslims_pipeline.extraction.facts import Facts, entry
from nexuslims_pipeline.extraction.model import ExtractionError
from nexuslims_pipeline.extraction.vendor_text import ELEMENTS, local_time, number
from nexuslims_pipeline.signals import Axis

MOST_CHANNELS: Final = 1 << 17
HIGHEST_SEM_KV: Final = 30.0
"""Scanning microscopes end here, transmission microscopes begin above."""
TREE_DEPTH: Final = 30
LEFT_OUT: Final = frozenset({"Channels", "Data", "Palette", "ResponseFunction"})
"""Elements of the XML that are numbers by the thousand."""

SPECTRUM: Final = (
    entry("acceleration_voltage", "kV", "TRTESMAHeader/PrimaryEnergy", never_zero=True),
    entry("magnification", "", "TRTESMAHeader/Magnification", never_zero=True),
    entry("working_distance", "mm", "TRTESMAHeader/WorkingDistance", never_zero=True),
    entry("real_time", "ms", "TRTSpectrumHardwareHeader/RealTime", never_zero=True),
    entry("live_time", "ms", "TRTSpectrumHardwareHeader/LifeTime", never_zero=True),
    entry("dead_time", "percent", "TRTSpectrumHardwareHeader/DeadTime"),
    entry("input_count_rate", "1/s", "TRTSpectrumHardwareHeader/PulseDensity", never_zero=True),
    entry("elevation_angle", "deg", "TRTESMAHeader/ElevationAngle TRTXrfHeader/DetectionAngle"),
    entry("azimuthal_angle", "deg", "TRTESMAHeader/AzimutAngle TRTXrfHeader/DetAzimutAngle"),
    entry("solid_angle", "sr", "TRTXrfHeader/SolidAngleDetection", never_zero=True),
    entry("detector_type", None, "TRTDetectorHeader/Type"),
    entry("Technology", None, "TRTDetectorHeader/Technology", "EDS Detector"),
    entry("Serial Number", None, "TRTDetectorHeader/Serial", "EDS Detector"),
    entry("Window", None, "TRTDetectorHeader/WindowType", "EDS Detector"),
    entry("Thickness", "mm", "TRTDetectorHeader/DetectorThickness", "EDS Detector", never_zero=True),
    entry("Dead Layer Thickness", "µm", "TRTDetectorHeader/SiDeadLayerThickness", "EDS Detector", never_zero=True),
    entry("Detector Angle", "deg", "TRTESMAHeader/DetectorAngle", "EDS Detector"),
    entry("Temperature", "degC", "TRTSpectrumHardwareHeader/DetectorTemperature", "EDS Detector"),
    entry("Energy Range", "eV", "TRTSpectrumHardwareHeader/Amplification", "EDS Detector", never_zero=True),
    entry("Maximum Throughput", "1/s", "TRTSpectrumHardwareHeader/ShapingTime", "EDS Detector", never_zero=True),
    entry("Zero Peak Frequency", "Hz", "TRTSpectrumHardwareHeader/ZeroPeakFrequency", "EDS Detector", never_zero=True),
    entry("Voltage", "kV", "TRTXrfHeader/Voltage", "X-ray Tube", never_zero=True),
    entry("Current", "µA", "TRTXrfHeader/Current", "X-ray Tube", never_zero=True),
    entry("Type", None, "TRTXrfHeader/TubeType", "X-ray Tube"),
    entry("Optic", None, "TRTXrfHeader/Optic", "X-ray Tube"),
    entry("Spot Diameter", "µm", "TRTXrfHeader/SpotSize", "X-ray Tube", never_zero=True),
    entry("Filter", None, "TRTXrfHeader/ExcitationFilter/FilterId", "X-ray Tube"),
    entry("Excitation Angle", "deg", "TRTXrfHeader/ExcitationAngle", "X-ray Tube"),
    entry("chamber_pressure", "mbar", "TRTXrfHeader/ChamberPressure", never_zero=True),
    entry("Atmosphere", None, "TRTXrfHeader/Atmosphere"),
)
"""Places are a class and the way below it."""


def child(element: Any, kind: str) -> Any | None:
    """First ``ClassInstance`` of type `kind` in `element` or in its ``TRTHeaderedClass``."""
    if element is None:
        return None
    path = f"ClassInstance[@Type='{kind}']"
    found = element.find(path)
    return element.find(f"TRTHeaderedClass/{path}") if found is None else found


def finder(element: Any) -> Callable[[str], str]:
    """Text at ``TRTClass/Value`` in `element`; empty when there is none."""

    def find(place: str) -> str:
        kind, _, rest = place.partition("/")
        holder = child(element, kind)
        return "" if holder is None else text_at(holder, rest)

    return find


def text_at(element: Any, path: str) -> str:
    """Stripped text of the element at `path`; empty when there is none."""
    return str(element.findtext(path) or "").strip() if element is not None else ""


def add_spectrum(facts: Facts, spectrum: Any) -> None:
    """Everything about detector, times and source of a ``TRTSpectrum``."""
    facts.add_entries(SPECTRUM, finder(spectrum))
    anode = symbols([text_at(child(spectrum, "TRTXrfHeader"), "Anode")])
    facts.add("Anode", anode[0] if anode else None, group="X-ray Tube")


def symbols(numbers: Iterable[str]) -> list[str]:
    """Chemical symbols of atomic numbers; what is none is left out."""
    atomic = (int(text) for text in numbers if re.fullmatch(r"\d{1,3}", text))
    return list(dict.fromkeys(ELEMENTS[z - 1] for z in atomic if 0 < z <= len(ELEMENTS)))


def is_xrf(spectrum: Any) -> bool:
    """Whether X-rays excited it rather than electrons."""
    return child(spectrum, "TRTXrfHeader") is not None


def column_of(facts: Facts) -> str:
    """``SEM`` or ``STEM``, by the voltage: the files do not tell."""
    voltage = facts.fields.get("acceleration_voltage")
    return "STEM" if voltage is not None and voltage.m_as("kV") > HIGHEST_SEM_KV else "SEM"


def energy_axis(spectrum: Any, facts: Facts) -> Axis:
    """Energy axis of a ``TRTSpectrum`` in keV; without a unit when its calibration makes no sense.

    Raises
    ------
    ExtractionError
        If its number of channels is absurd.
    """
    header = child(spectrum, "TRTSpectrumHeader")
    given = text_at(spectrum, "Channels").count(",") + 1 if text_at(spectrum, "Channels") else 0
    declared = text_at(header, "ChannelCount")
    size = given or (int(declared) if re.fullmatch(r"\d{1,6}", declared) else 0)
    if not 0 < size <= MOST_CHANNELS:
        msg = "it is damaged: its spectrum has no channels"
        raise ExtractionError(msg)
    if declared.isdecimal() and int(declared) != size:
        facts.warnings["Pixels"] = f"The header says {declared} channels, the spectrum has {size}."
    try:
        scale, offset = number(text_at(header, "CalibLin")), number(text_at(header, "CalibAbs"))
    except ValueError as fault:
        facts.warnings["Channel Size"] = str(fault)
        return Axis(size, name="Channel")
    return Axis(size, scale, offset, "keV", "Energy") if scale > 0 else Axis(size, name="Channel")


def counts(spectrum: Any) -> Any:
    """Counts of a ``TRTSpectrum``, shape ``(channels,)``.

    Raises
    ------
    ExtractionError
        If they are no numbers.
    """
    import numpy as np

    try:
        return np.array([int(word) for word in text_at(spectrum, "Channels").split(",")], dtype=np.int64)
    except (ValueError, OverflowError) as fault:
        msg = "it is damaged: the channels of its spectrum are no numbers"
        raise ExtractionError(msg) from fault


def moment_of(element: Any, facts: Facts) -> datetime | None:
    """``Date`` and ``Time`` of an element on the instrument's clock; None with a warning when they are none."""
    date, time = text_at(element, "Date"), text_at(element, "Time")
    if not date:
        return None
    try:
        return local_time(date, ":".join(part.zfill(2) for part in time.split(":")) if time else "")
    except ValueError as fault:
        facts.warnings["Creation Time"] = f"The file says {fault}."
        return None


def tree(element: Any, depth: int = 0) -> Any:
    """Native tree of an element: classes by type and name, values by tag."""
    if not len(element):
        return dict(element.attrib) or (element.text or "").strip()
    values: dict[str, Any] = {}
    times: Counter[str] = Counter()
    for each in element if depth < TREE_DEPTH else ():
        if each.tag in LEFT_OUT:
            continue
        name = f"{each.get('Type', each.tag)} {each.get('Name', '')}".strip()
        times[name] += 1
        values[name if times[name] == 1 else f"{name} [{times[name]}]"] = tree(each, depth + 1)
    return values
