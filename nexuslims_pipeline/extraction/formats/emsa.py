"""EMSA/MAS spectra (ISO 22029:2022): text that any spectrometer can export.

A header line is ``#KEYWORD`` + unit in 13 columns, a colon and the value: ``#BEAMKV   -kV: 120.0``; lines
with ``##`` are the vendor's own. Between ``#SPECTRUM`` and ``#ENDOFDATA`` stand the values: with
``#DATATYPE : XY`` pairs of energy and counts, with ``Y`` counts only. Egerton, Fiori, Hunt, Isaacson,
Kirkland & Zaluzec, EMSA Bulletin 21 (1991) 35.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import ELEMENTS, decode, local_time, number
from nexuslims_pipeline.signals import Axis, Pixels, Signal, Source

FILE_LIMIT: Final = 8 << 20
"""Bytes of the largest file that is read; a spectrum of 4096 channels has 0.1 MB."""
LONGEST_TEXT: Final = 4000
"""Characters after which repeated lines of one keyword are left out."""
KEYWORDS: Final = {
    "BEAMKV": ("acceleration_voltage", "kV"),
    "EMISSION": ("emission_current", "µA"),
    "PROBECUR": ("probe_current", "nA"),
    "BEAMDIAM": ("Beam Diameter", "nm"),
    "CONVANGLE": ("convergence_angle", "mrad"),
    "COLLANGLE": ("collection_angle", "mrad"),
    "INTEGTIME": ("exposure_time", "ms"),
    "DWELLTIME": ("Dwell Time per Channel", "ms"),
    "LIVETIME": ("live_time", "s"),
    "REALTIME": ("real_time", "s"),
    "ELEVANGLE": ("elevation_angle", "deg"),
    "AZIMANGLE": ("azimuthal_angle", "deg"),
    "SOLIDANGL": ("solid_angle", "sr"),
    "SOLIDANGLE": ("solid_angle", "sr"),
    "FWHMMNKA": ("detector_energy_resolution", "eV"),
    "XTILTSTGE": ("stage_tilt", "deg"),
    "YTILTSTGE": ("stage_beta", "deg"),
    "XPOSITION": ("stage_x", "mm"),
    "YPOSITION": ("stage_y", "mm"),
    "ZPOSITION": ("stage_z", "mm"),
    "THICKNESS": ("Specimen Thickness", "nm"),
    "TBEWIND": ("Beryllium Window Thickness", "cm"),
    "TAUWIND": ("Gold Window Thickness", "cm"),
    "TALWIND": ("Aluminium Window Thickness", "cm"),
    "TPYWIND": ("Pyrolene Window Thickness", "cm"),
    "TBNWIND": ("Boron Nitride Window Thickness", "cm"),
    "TDIWIND": ("Diamond Window Thickness", "cm"),
    "THCWIND": ("Hydrocarbon Window Thickness", "cm"),
    "TDEADLYR": ("Dead Layer Thickness", "cm"),
    "TACTLYR": ("Active Layer Thickness", "cm"),
    "TACTYLR": ("Active Layer Thickness", "cm"),  # as EDAX spells it
}
"""Standard keywords with the unit that holds when the file writes none."""
NEVER_ZERO: Final = frozenset(
    {
        "BEAMKV",
        "EMISSION",
        "PROBECUR",
        "LIVETIME",
        "REALTIME",
        "CONVANGLE",
        "COLLANGLE",
        "FWHMMNKA",
        "BEAMDIAM",
        "THICKNESS",
        "SOLIDANGL",
        "SOLIDANGLE",
    }
)
"""Keywords that exporters fill with 0 when they do not know."""
TEXTS: Final = {
    "OWNER": "Owner",
    "COMMENT": "Comment",
    "EDSDET": "EDS Detector",
    "ELSDET": "EELS Detector",
    "OPERMODE": "Operation Mode",
    "XLABEL": "X Label",
    "YLABEL": "Y Label",
    "YUNITS": "Y Units",
}
VENDOR_NUMBERS: Final = {
    "AmpTime (usec)": ("shaping_time", "µs"),
    "RESO (MnKa)": ("detector_energy_resolution", "eV"),
    "Tilt Angle": ("stage_tilt", "deg"),
    "TakeOff Angle": ("takeoff_angle", "deg"),
}
"""Keywords of EDAX TEAM."""
VENDOR_TEXTS: Final = {
    "EDAX Detector": "acquisition_device",
    "SPECIMEN": "specimen",
    "FILENAME": "Original File",
    "Analyzer Type": "Analyser",
}
VENDOR_ELEMENTS: Final = ("Elements", "OXINSTELEMS")
"""Lists of atomic numbers: EDAX, Oxford."""
UNITS: Final = {
    "kv": "kV", "ev": "eV", "kev": "keV", "ua": "µA", "µa": "µA", "na": "nA", "pa": "pA", "nm": "nm",
    "um": "µm", "µm": "µm", "mm": "mm", "cm": "cm", "mr": "mrad", "mrad": "mrad", "ms": "ms", "s": "s",
    "us": "µs", "dg": "deg", "deg": "deg", "sr": "sr",
}  # fmt: skip
OPERATION_MODES: Final = {
    "IM": "Imaging",
    "DIF": "Diffraction",
    "SCI": "Scanning Imaging",
    "SCD": "Scanning Diffraction",
}
"""Beginnings of the codes of ``#OPERMODE``, whose rest writers spell as they like: ``DIFR``, ``DIFFR`` …."""
STAGE: Final = ("stage_x", "stage_y", "stage_z")
SIGNALS: Final = {
    "EDS": "EDS", "WDS": "WDS", "ELS": "EELS", "EELS": "EELS", "AES": "AES", "PES": "PES", "XRF": "XRF",
    "CLS": "CL", "GAM": "Gamma",
}  # fmt: skip
"""Codes of ``#SIGNALTYPE`` and the name of the technique."""
HIGHEST_SEM_KV: Final = 30.0
LINE = re.compile(r"#(#?)\s*([^:]*?)\s*:\s*(.*)")
KEYWORD = re.compile(r"([A-Z0-9]+)\s*-?\s*([A-Za-zµ]*)")
ENERGY = re.compile(r"\b(k?)ev\b", re.IGNORECASE)


class Emsa(Extractor):
    """Spectra in the exchange format of EMSA and MAS, whoever wrote them."""

    name: ClassVar[str] = "emsa"
    format_name: ClassVar[str] = "EMSA/MAS spectrum"
    version: ClassVar[str] = "2"
    extensions: ClassVar[frozenset[str]] = frozenset({".msa", ".emsa", ".ems", ".txt"})

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether it begins as the standard says; an empty file counts if only its name says so."""
        text, _ = decode(head)
        if not text.strip():
            return source.path.suffix.lower() in {".msa", ".emsa", ".ems"}
        return re.match(r"\s*#FORMAT\s*:.*EMSA", text, re.IGNORECASE) is not None

    def extract(self, source: Source) -> list[Signal]:
        """Read the one spectrum.

        Raises
        ------
        ExtractionError
            If the file is empty, too large or has no values.
        """
        if source.path.stat().st_size > FILE_LIMIT:
            msg = f"it is larger than any spectrum ({FILE_LIMIT >> 20} MB)"
            raise ExtractionError(msg)
        text, _ = decode(source.path.read_bytes())
        if not text.strip():
            msg = "it is empty"
            raise ExtractionError(msg)
        spectrum = parse_emsa(text.split("\n"))
        if not spectrum.values:
            msg = "it is damaged: a spectrum without values (a copy that broke off?)"
            raise ExtractionError(msg)
        facts = _facts(spectrum)
        signal = Signal(
            "Spectrum",
            _technique(spectrum, facts),
            shape=(len(spectrum.values),),
            name=spectrum.header.get("TITLE", ""),
            acquired=_acquired(spectrum, facts),
            native=bounded({**spectrum.header, **({"Vendor": spectrum.vendor} if spectrum.vendor else {})}),
        )
        signal.pixels = _pixels(spectrum)
        return [facts.give_to(signal)]


@dataclass(slots=True)
class Spectrum:
    """A parsed file."""

    header: dict[str, str] = field(default_factory=dict)
    """Keyword without its unit → value; titles and comments of several lines are joined."""
    units: dict[str, str] = field(default_factory=dict)
    """Keyword → unit as the file spells it, where it has one."""
    vendor: dict[str, str] = field(default_factory=dict)
    values: list[float] = field(default_factory=list)
    """Counts; NaN where the file has no number."""
    energies: list[float] = field(default_factory=list)
    """First value of each pair of type XY."""
    unreadable: int = 0
    complete: bool = False
    """Whether the end mark was found."""


def parse_emsa(lines: Iterable[str]) -> Spectrum:
    """Split an EMSA/MAS file into its parts, unchecked."""
    spectrum = Spectrum()
    in_data = pairs = False
    for line in map(str.strip, lines):
        if line.startswith("#"):
            keyword = _read_header(line, spectrum)
            in_data = in_data or keyword == "SPECTRUM"
            pairs = spectrum.header.get("DATATYPE", "").upper().startswith("XY")
            if keyword == "ENDOFDATA":
                spectrum.complete = True
                break
        elif in_data and line:
            _read_values(line, spectrum, pairs=pairs)
    return spectrum


def _read_header(line: str, spectrum: Spectrum) -> str:
    match = LINE.match(line) or LINE.match(line + ":")
    if match is None:
        return ""
    own, name, value = match.groups()
    if own:
        told = spectrum.vendor.get(name, "")
        if len(told) < LONGEST_TEXT:
            spectrum.vendor[name] = f"{told}; {value}" if name in spectrum.vendor else value
        return ""
    parts = KEYWORD.match(name.upper())
    if parts is None:
        return ""
    keyword = parts[1]
    if unit := name[parts.start(2) :].strip():
        spectrum.units[keyword] = unit
    told = spectrum.header.get(keyword, "")
    if keyword in {"TITLE", "COMMENT"} and 0 < len(told) < LONGEST_TEXT:
        value = f"{told} {value}"
    if keyword != "SPECTRUM":
        spectrum.header[keyword] = value
    return keyword


def _read_values(line: str, spectrum: Spectrum, *, pairs: bool) -> None:
    numbers = []
    for word in line.replace(",", " ").split():
        try:
            numbers.append(number(word))
        except ValueError:
            numbers.append(float("nan"))
            spectrum.unreadable += 1
    if pairs:
        spectrum.energies += numbers[0::2]
        spectrum.values += numbers[1::2]
    else:
        spectrum.values += numbers


def _facts(spectrum: Spectrum) -> Facts:
    facts = Facts()
    for keyword, (name, standard) in KEYWORDS.items():
        if text := spectrum.header.get(keyword, ""):
            _add(
                facts,
                name,
                text,
                UNITS.get(spectrum.units.get(keyword, "").lower(), standard),
                keyword in NEVER_ZERO,
            )
    for keyword, (name, unit) in VENDOR_NUMBERS.items():
        if name not in facts.fields and spectrum.vendor.get(keyword):
            _add(facts, name, spectrum.vendor[keyword], unit, never_zero=False)
    for keyword, name in TEXTS.items():
        facts.add(name, spectrum.header.get(keyword))
    for keyword, name in VENDOR_TEXTS.items():
        facts.add(name, spectrum.vendor.get(keyword))
    _add_magnification(spectrum, facts)
    _add_calibration(spectrum, facts)
    elements = next((spectrum.vendor[key] for key in VENDOR_ELEMENTS if spectrum.vendor.get(key)), "")
    atomic = [int(z) for z in re.findall(r"\d{1,3}", elements)]
    facts.add("elements", [ELEMENTS[z - 1] for z in atomic if 0 < z <= len(ELEMENTS)])
    facts.add("Operation Mode", _mode(spectrum) or None)
    if not any(facts.fields[name].magnitude for name in STAGE if name in facts.fields):
        for name in STAGE:  # all of them 0: exporters that do not know the stage write it so
            facts.fields.pop(name, None)
    if problems := _problems(spectrum):
        facts.warnings["Pixels"] = " ".join(problems)
    return facts


def _mode(spectrum: Spectrum) -> str:
    """Operation mode in words; empty when the file has none that is known."""
    code = spectrum.header.get("OPERMODE", "").strip().upper()
    return next((words for start, words in OPERATION_MODES.items() if code.startswith(start)), "")


def _add(facts: Facts, name: str, text: str, unit: str, never_zero: bool) -> None:
    try:
        value = number(text.replace(" ", "") if re.search(r"\d\s+E", text) else text.split(maxsplit=1)[0])
    except ValueError as fault:
        facts.warnings[name] = str(fault)
        return
    if value == 0 and never_zero:
        facts.warnings[name] = "The file says 0: it was not recorded."
        return
    facts.add(name, value, unit)


def _add_magnification(spectrum: Spectrum, facts: Facts) -> None:
    """``#MAGCAM``: the camera length in millimetres in diffraction, else the magnification."""
    text = spectrum.header.get("MAGCAM", "")
    if not text:
        return
    if _mode(spectrum).endswith("Diffraction"):
        _add(facts, "camera_length", text, "mm", never_zero=True)
        return
    try:
        facts.add("magnification", number(text) or None)
    except ValueError as fault:
        facts.warnings["magnification"] = str(fault)


def _add_calibration(spectrum: Spectrum, facts: Facts) -> None:
    """Energy axis, if it is one."""
    step, start, unit = _axis(spectrum)
    if unit in {"eV", "keV"}:
        facts.add_measured("channel_size", step, unit)
        facts.add("starting_energy", start, unit)


def _axis(spectrum: Spectrum) -> tuple[float, float, str]:
    """Step and start of the x axis with its unit; from the pairs where the header has no step."""
    text = spectrum.header.get("XUNITS", "")
    energy = ENERGY.search(text)
    unit = f"{energy[1].lower()}eV" if energy else text
    step, start = (_number_or_zero(spectrum.header.get(key, "")) for key in ("XPERCHAN", "OFFSET"))
    energies = spectrum.energies
    if step == 0 and len(energies) > 1 and energies[0] < energies[-1]:
        step, start = (energies[-1] - energies[0]) / (len(energies) - 1), energies[0]
    return step, start, unit


def _number_or_zero(text: str) -> float:
    try:
        return number(text)
    except ValueError:
        return 0.0


def _problems(spectrum: Spectrum) -> list[str]:
    found, declared = len(spectrum.values), _number_or_zero(spectrum.header.get("NPOINTS", ""))
    problems = []
    if not spectrum.complete:
        problems.append("The file has no end mark (a copy that broke off?).")
    if declared and declared != found:
        problems.append(f"The header says {declared:g} values, the file has {found}.")
    if spectrum.unreadable:
        problems.append(f"{spectrum.unreadable} values are no numbers.")
    return problems


def _technique(spectrum: Spectrum, facts: Facts) -> str:
    """Instrument and signal; scanning microscopes end at 30 kV."""
    signal = SIGNALS.get(spectrum.header.get("SIGNALTYPE", "").strip().upper(), "")
    hint = f"{spectrum.header.get('XLABEL', '')} {spectrum.header.get('XUNITS', '')}".lower()
    if not signal and ("ELSDET" in spectrum.header or "loss" in hint):
        signal = "EELS"
    if not signal and ("EDSDET" in spectrum.header or "x-ray" in hint):
        signal = "EDS"
    if signal not in {"EDS", "WDS", "EELS"}:
        return signal or "Unknown"
    voltage = facts.fields.get("acceleration_voltage")
    if signal == "EELS" or (voltage is not None and voltage.m_as("kV") > HIGHEST_SEM_KV):
        return f"STEM_{signal}" if _mode(spectrum).startswith("Scanning") else f"TEM_{signal}"
    return f"SEM_{signal}" if voltage is not None else signal


def _acquired(spectrum: Spectrum, facts: Facts) -> datetime | None:
    date, time = (spectrum.header.get(key, "") for key in ("DATE", "TIME"))
    if not date:
        return None
    try:
        return local_time(date, time)
    except ValueError as fault:
        facts.add("Acquisition Date", f"{date} {time}")
        facts.warnings["Acquisition Date"] = f"The file says {fault}."
        return None


def _pixels(spectrum: Spectrum) -> Pixels:
    import numpy as np

    step, start, unit = _axis(spectrum)
    values: Any = np.array(spectrum.values, dtype=np.float64)
    label = re.sub(r"\s*\(.*\)$", "", spectrum.header.get("XLABEL", ""))
    axis = Axis(len(spectrum.values), step or 1.0, start, unit, label or "Energy")
    return Pixels(values, (axis,))


EXTRACTOR = Emsa()
