"""The state of an FEI column (Tecnai, Talos, Titan) as its own server tells it to other programs.

TIA keeps it as labels with values and units, DigitalMicrograph as lines of text in its tag ``Tecnai > Microscope
Info``. Neither is documented; names and units were taken from files of eight columns and agree with what else those
files say (pixel sizes, DigitalMicrograph's own tags).
"""

import re
from collections.abc import Iterable
from typing import Any, Final

from nexuslims_pipeline.extraction.facts import METRES, Facts
from nexuslims_pipeline.extraction.vendor_text import measured
from nexuslims_pipeline.metadata.fields import FIELDS

LABELS: Final = {
    "Microscope": "microscope",
    "User": "operator",
    "Gun type": "Gun",
    "High tension": "acceleration_voltage",
    "Extraction voltage": "extraction_voltage",
    "Emission": "emission_current",
    "Mode": "Tecnai Mode",
    "Defocus": "defocus",
    "Magnification": "magnification",
    "Camera length": "camera_length",
    "Spot size": "spot_size",
    "Stage X": "stage_x",
    "Stage Y": "stage_y",
    "Stage Z": "stage_z",
    "Stage A": "stage_alpha",
    "Stage B": "stage_beta",
    "Stem rotation": "scan_rotation",
    "Stem rotation correction": "STEM Rotation Correction",
    "C2 Aperture": "condenser_aperture",
    "OBJ Aperture": "objective_aperture",
    "SA Aperture": "selected_area_aperture",
    "Exposure time": "exposure_time",
    "Filter slit state": "Filter Slit",
    "Filter slit width": "slit_width",
    "Filter selected dispersion": "Filter Dispersion per Channel",
    "Filter selected aperture": "entrance_aperture",
    "Filter prism shift": "Prism Shift",
    "Filter ht offset": "High Tension Offset",
    "Filter drift tube": "Drift Tube",
    "Filter total energy loss": "energy_loss",
}
"""Names by label; of other labels every word gets a capital."""
_NUMBER: Final = r"(-?\d+(?:\.\d+)?)"
_LINES: Final = tuple((label, unit, re.compile(pattern)) for label, unit, pattern in (
    ("Microscope", None, r"Microscope (.+)"),
    ("User", None, r"User (.+)"),
    ("Gun type", None, r"Gun (.+?) HT "),
    ("High tension", "kV", rf"Gun .*HT {_NUMBER}"),
    ("Extraction voltage", "V", rf"Gun .*Extr volt {_NUMBER} V"),
    ("Gun lens", "", rf"Gun .*Gun Lens {_NUMBER}"),
    ("Emission", "uA", rf"Gun .*Emission {_NUMBER} ?uA"),
    ("Mode", None, r"Mode (.+?)(?: Defocus.*| Magn.*| Camera.*)?$"),
    ("Defocus", "um", rf"Mode .*Defocus \(um\) {_NUMBER}"),
    ("Magnification", "x", rf"Mode .*Magn {_NUMBER} ?x"),
    ("Camera length", "m", rf"Mode .*Camera length:? {_NUMBER} ?m\b"),
    ("Camera length", "mm", rf"Mode .*Camera length:? {_NUMBER} ?mm\b"),
    ("Spot size", "", rf"Spot {_NUMBER}"),
    ("C1 lens", "%", rf"C1 {_NUMBER} ?%"),
    ("C2 lens", "%", rf"C2 {_NUMBER} ?%"),
    ("C3 lens", "%", rf"C3 {_NUMBER} ?%"),
    ("Objective lens", "%", rf"Obj {_NUMBER} ?%"),
    ("Diffraction lens", "%", rf"Dif {_NUMBER} ?%"),
    ("Image shift X", "um", rf"Image shift {_NUMBER}/.+um"),
    ("Image shift Y", "um", rf"Image shift [-.\d]+/{_NUMBER} ?um"),
    ("Stage X", "um", rf"Stage {_NUMBER} um"),
    ("Stage Y", "um", rf"Stage [-.\d]+ um, {_NUMBER} um"),
    ("Stage Z", "um", rf"Stage [-.\d]+ um, [-.\d]+ um, {_NUMBER} um"),
    ("Stage A", "deg", rf"Stage .+ um, {_NUMBER} deg"),
    ("Stage B", "deg", rf"Stage .+ deg, {_NUMBER} deg"),
    ("C1 Aperture", None, r"C1 Aperture: (.+)"),
    ("C2 Aperture", None, r"C2 Aperture: (.+)"),
    ("C3 Aperture", None, r"C3 Aperture: (.+)"),
    ("OBJ Aperture", None, r"OBJ Aperture: (.+)"),
    ("SA Aperture", None, r"SA Aperture: (.+)"),
    ("Filter mode", None, r"Mode: (.+)"),
    ("Filter slit state", None, r"Slit state: (.+)"),
    ("Filter slit width", "eV", rf"Slit width: {_NUMBER} ?\[eV\]"),
    ("Filter selected dispersion", "eV/Channel", rf"Selected dispersion: {_NUMBER} ?\[eV/Channel\]"),
    ("Filter selected aperture", None, r"Selected aperture: (.+)"),
    ("Filter prism shift", "eV", rf"Prism shift: {_NUMBER} ?\[eV\]"),
    ("Filter ht offset", "eV", rf"HT offset: {_NUMBER} ?\[eV\]"),
    ("Filter drift tube", "eV", rf"Drift tube: {_NUMBER} ?\[eV\]"),
    ("Filter total energy loss", "eV", rf"Total energy loss: {_NUMBER} ?\[eV\]"),
))  # fmt: skip
"""Labels of what stands in lines of text."""
_STAGE: Final = frozenset({"Stage X", "Stage Y", "Stage Z", "Stage A", "Stage B"})
_PLAIN: Final = frozenset({"magnification", "spot_size"})
_MODE: Final = re.compile(r"(S?TEM(?:\s+\w+P)?)\s*(.*)")


def labels_of(text: str) -> list[tuple[str, str, str]]:
    """Label, value and unit of everything in the text of DigitalMicrograph's tag; lines end with U+2028."""
    lines = re.split(r"[\u2028\r\n]+", text)
    found = []
    for label, unit, pattern in _LINES:
        match = next(filter(None, map(pattern.match, lines)), None)
        if match:
            found.append((label, match[1].strip(), unit or ""))
    if not any(float(value) for label, value, _ in found if label in _STAGE):  # a stage that FEI does not control
        found = [entry for entry in found if entry[0] not in _STAGE]
    return found


def mode_of(description: Iterable[tuple[str, str, str]]) -> str:
    """Mode of the column: ``TEM uP SA Zoom Image``; empty where it is not told."""
    return next((value for label, value, _ in description if label == "Mode"), "")


def add_column(facts: Facts, description: Iterable[tuple[str, str, str]], *, is_filtered: bool) -> None:
    """Add the state of the column.

    Parameters
    ----------
    facts
        Added to.
    description
        Label, value and unit; unit may be empty.
    is_filtered
        Whether the data are spectra of energy losses: else the filter's energy is that of an idle instrument unless
        its slit is in.
    """
    entries = {label: (value.strip(), unit.strip()) for label, value, unit in description if value.strip()}
    slit = entries.get("Filter slit state", ("", ""))[0].lower()
    has_slit = bool(slit) and "retracted" not in slit
    for label, (value, unit) in entries.items():
        name = LABELS.get(label) or " ".join(word[:1].upper() + word[1:] for word in label.split())
        if name == "slit_width" and not has_slit:
            continue
        if name == "energy_loss" and not (is_filtered or has_slit):
            name = "Total Energy Loss"
        _add(facts, name, value, unit)
    if "microscope" in facts.fields:
        facts.fields["microscope"] = facts.fields["microscope"].removeprefix("Microscope ")
    if parts := _MODE.fullmatch(mode_of((label, *rest) for label, rest in entries.items())):
        facts.add("illumination_mode", parts[1])
        facts.add("projection_mode", parts[2])


def _add(facts: Facts, name: str, value: str, unit: str) -> None:
    if name == "defocus" and not unit:
        name = "Diffraction Focus"  # a number without unit in diffraction, where there is no image to focus
    if "aperture" in name.lower():
        add_length(facts, name, f"{value} {unit}")
    elif unit.lower() == "x" or name in _PLAIN:
        facts.add_written(name, value, "")
    elif unit == "eV/Channel":
        facts.add_written(name, value, "eV")
    elif unit:
        facts.add_written(name, f"{value} {unit}", "")
    else:
        facts.add_written(name, value, "" if re.fullmatch(_NUMBER, value) else None)


def add_length(facts: Facts, name: str, value: Any) -> None:
    """Add a diameter that has its unit; a position's number or ``retracted`` is kept as it is written."""
    try:
        number, unit = measured(str(value))
    except ValueError:
        unit = None
    if unit and unit in METRES:
        facts.add(name, number, unit)
    else:
        facts.add(FIELDS[name].display_name if name in FIELDS else name, value)
