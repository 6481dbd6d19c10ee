"""FEI Titan for TEM: its server tells DigitalMicrograph the state of the column, as lines of text in one tag."""

import re
from collections.abc import Iterator
from typing import Any, Final

from nexuslims_pipeline.extraction.facts import Facts
from nexuslims_pipeline.extraction.profiles.model import Profile, Rule
from nexuslims_pipeline.signals import Signal

NUMBER: Final = r"(-?[\d.]+)"
STATE: Final[tuple[tuple[str, str | None, str], ...]] = (
    ("microscope", None, r"^Microscope (\S+)"),
    ("operator", None, r"^User (.+)$"),
    ("Gun", None, r"^Gun (.+?) HT "),
    ("acceleration_voltage", "kV", rf"^Gun .*HT {NUMBER}"),
    ("extraction_voltage", "V", rf"Extr volt {NUMBER} V"),
    ("Gun Lens", "", rf"Gun Lens {NUMBER}"),
    ("emission_current", "µA", rf"Emission {NUMBER} ?uA"),
    ("Tecnai Mode", None, r"^Mode (.+?)(?: Defocus .*)?$"),
    ("defocus", "µm", rf"Defocus \(um\) {NUMBER}"),
    ("magnification", "", rf"Magn {NUMBER}x"),
    ("spot_size", "", rf"^Spot {NUMBER}"),
    ("C2 Lens", "percent", rf"^C2 {NUMBER}%"),
    ("C3 Lens", "percent", rf"^C3 {NUMBER}%"),
    ("Objective Lens", "percent", rf"^Obj {NUMBER}%"),
    ("Diffraction Lens", "percent", rf"^Dif {NUMBER}%"),
    ("Image Shift X", "µm", rf"^Image shift {NUMBER}/"),
    ("Image Shift Y", "µm", rf"^Image shift {NUMBER}/{NUMBER}um"),
    ("C1 Aperture", "µm", rf"^C1 Aperture: {NUMBER} um"),
    ("condenser_aperture", "µm", rf"^C2 Aperture: {NUMBER} um"),
    ("C3 Aperture", "µm", rf"^C3 Aperture: {NUMBER} um"),
    ("objective_aperture", "µm", rf"^OBJ Aperture: {NUMBER} um"),
    ("selected_area_aperture", "µm", rf"^SA Aperture: {NUMBER} um"),
    ("Filter Mode", None, r"^Mode: (.+)$"),
    ("Filter Slit", None, r"^Slit state: (.+)$"),
    ("slit_width", "eV", rf"^Slit width: {NUMBER}\[eV\]"),
    ("Filter Dispersion per Channel", "eV", rf"^Selected dispersion: {NUMBER}\[eV/Channel\]"),
    ("entrance_aperture", "mm", rf"^Selected aperture: {NUMBER} ?mm"),
    ("Prism Shift", "eV", rf"^Prism shift: {NUMBER}\[eV\]"),
    ("High Tension Offset", "eV", rf"^HT offset: {NUMBER}\[eV\]"),
    ("Drift Tube", "eV", rf"^Drift tube: {NUMBER}\[eV\]"),
    ("energy_loss", "eV", rf"^Total energy loss: {NUMBER}\[eV\]"),
)
"""Name here, unit, and where it stands; the last group of a pattern is the value."""


def column_state(signal: Signal) -> None:
    """Put the state of the column beside what the file says elsewhere, which goes before it."""
    text = next(_states(signal.native), "").replace("\u2028", "\n")
    facts = Facts()
    for name, unit, pattern in STATE:
        if found := re.search(pattern, text, re.MULTILINE):
            value: Any = found[found.lastindex or 0]
            facts.add(name, float(value) if unit == "" else value, unit or None)
    if "Retracted" in facts.extensions.get("Filter Slit", ""):
        facts.fields.pop("slit_width", None)
    signal.fields = facts.fields | signal.fields
    signal.extensions = facts.extensions | signal.extensions


def _states(tree: Any) -> Iterator[str]:
    """Texts of ``Tecnai > Microscope Info`` anywhere in the tags."""
    if isinstance(tree, dict):
        info = tree.get("Tecnai", {})
        if isinstance(info, dict) and isinstance(info.get("Microscope Info"), str):
            yield info["Microscope Info"]
        for branch in tree.values():
            yield from _states(branch)


PROFILE = Profile(
    name="FEI-Titan-TEM",
    instruments=("FEI-Titan-TEM",),
    parsers=(column_state,),
    rules=(
        Rule.model_validate(
            {
                "when": {
                    "reader": "digital_micrograph",
                    "dataset_type": "Image",
                    "values": {
                        "Tecnai Mode": "STEM nP SA Zoom Diffraction",
                        "acquisition_device": "^(?!.*DigiScan).",
                        "native/Image/Name": "^(?!.*FFT)",
                    },
                },
                "dataset_type": "Diffraction",
                "data_type": "STEM_Diffraction",
            }
        ),
        Rule.model_validate(
            {
                "when": {
                    "reader": "digital_micrograph",
                    "dataset_type": "Image",
                    "values": {
                        "Operation Mode": "DIFFRACTION",
                        "illumination_mode": "^(?!.*STEM)",
                        "native/Image/Name": "^(?!.*FFT)",
                    },
                },
                "dataset_type": "Diffraction",
                "data_type": "TEM_Diffraction",
            }
        ),
    ),
)
