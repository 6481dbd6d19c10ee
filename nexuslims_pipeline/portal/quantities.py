"""The fields and units that the front page searches numbers by, for a browser that has no pint.

Every unit is told as factor and offset to the base of its dimension: ``base = number × factor + offset``. A voltage and
the energy that it gives an electron are one dimension: both "200 kV" and "200 keV" find a session at 200 kV.
"""

from functools import cache
from typing import Any, Final, NamedTuple

from nexuslims_pipeline.metadata.fields import FIELDS, Field
from nexuslims_pipeline.metadata.units import quantity, tidy, unit_of
from nexuslims_pipeline.portal.summary import NUMBERS


class Dimension(NamedTuple):
    """Units that convert into each other."""

    name: str
    """For people: what a number of such a unit may be."""
    units: dict[str, tuple[str, ...]]
    """Units in pint's spelling, by the base that they are converted to. Bases of one dimension count as equal."""


def _prefixed(unit: str, prefixes: str) -> tuple[str, ...]:
    return tuple(prefix.strip("-") + unit for prefix in prefixes.split())


LONG_PREFIXES: Final = {
    "f": "femto", "p": "pico", "n": "nano", "µ": "micro", "m": "milli", "c": "centi", "h": "hecto", "k": "kilo",
    "M": "mega", "G": "giga",
}  # fmt: skip

DIMENSIONS: Final = (
    Dimension("voltage or energy", {"V": _prefixed("V", "k - m M"), "eV": _prefixed("eV", "k - m M")}),
    Dimension("length", {"m": (*_prefixed("m", "n µ m p - c"), "Å")}),
    Dimension("time", {"s": (*_prefixed("s", "µ m - n p"), "min", "h")}),
    Dimension("current", {"A": _prefixed("A", "p n µ - m f")}),
    Dimension("pressure", {"Pa": (*_prefixed("Pa", "- m µ k h M"), "mbar", "bar", "torr", "mtorr", "atm", "psi")}),
    Dimension("temperature", {"K": ("K", "°C", "°F")}),
    Dimension("angle", {"rad": (*_prefixed("rad", "m µ -"), "deg")}),
    Dimension("solid angle", {"sr": _prefixed("sr", "- m")}),
    Dimension("part", {"percent": ("percent",)}),
    Dimension("rate", {"1/s": ("1/s", "Hz", "kHz", "MHz", "cps", "kcps")}),
    Dimension("reciprocal length", {"1/m": ("1/nm", "1/Å", "1/µm")}),
    Dimension("magnification", {"dimensionless": ("dimensionless",)}),
    Dimension("number", {}),
)

SPELLINGS: Final = {
    "Å": ("A", "Ang", "angstrom", "angstroms"),
    "°C": ("degC", "deg C", "celsius"),
    "°F": ("degF", "deg F", "fahrenheit"),
    "deg": ("°", "degree", "degrees"),
    "dimensionless": ("×", "x"),
    "percent": ("%",),
    "µm": ("micron", "microns"),
    "s": ("sec", "seconds", "second"),
    "min": ("minute", "minutes"),
    "h": ("hr", "hour", "hours"),
    "torr": ("Torr",),
    "mtorr": ("mTorr",),
    "1/nm": ("nm-1", "nm^-1", "nm⁻¹", "/nm"),
    "1/Å": ("1/A", "Å-1", "A-1", "Å^-1", "A^-1", "Å⁻¹", "/Å"),
    "1/µm": ("µm-1", "µm^-1", "µm⁻¹", "/µm"),
    "1/s": ("/s", "s-1", "s^-1", "s⁻¹"),
}
"""What people write for a unit besides its symbol. Of equal spellings the one of the first dimension holds."""

LONG_NAMES: Final = {
    "V": "volt", "eV": "electronvolt", "m": "metre", "s": "second", "A": "ampere", "Pa": "pascal", "rad": "radian",
    "bar": "bar",
}  # fmt: skip

NAMES: Final = {
    "acceleration_voltage": ("accelerating voltage", "beam energy", "beam voltage", "HT", "HV", "EHT"),
    "pixel_width": ("pixel size", "step size"),
    "pixel_height": ("pixel size", "step size"),
    "reciprocal_pixel_width": ("pixel size",),
    "reciprocal_pixel_height": ("pixel size",),
    "working_distance": ("WD",),
    "horizontal_field_width": ("HFW", "field of view", "FOV"),
    "vertical_field_width": ("VFW", "field of view", "FOV"),
    "camera_length": ("CL",),
    "slit_width": ("slit width",),
    "chamber_pressure": ("vacuum",),
    "convergence_angle": ("semi-convergence angle",),
}
"""What people call a field besides its display name, whose words may be cut short: "mag", "dwell"."""


@cache
def quantities() -> dict[str, Any]:
    """Tables for the browser, JSON values only.

    Returns
    -------
    dict
        ``dimensions``: list of ``[name, [[symbol, factor, offset, [spellings]], ...]]``; ``fields``: list of
        ``[name, display name, number of its dimension, symbol of its unit, [other names]]``.
    """
    return {
        "dimensions": [[dimension.name, _units(dimension)] for dimension in DIMENSIONS],
        "fields": [_field(name, FIELDS[name]) for name in NUMBERS],
    }


def _units(dimension: Dimension) -> list[list[Any]]:
    return [
        [_symbol(unit), *conversion(unit, base), _spellings(unit)]
        for base, units in dimension.units.items()
        for unit in units
    ]


def conversion(unit: str, base: str) -> tuple[float, float]:
    """Factor and offset that lead from a unit to the base.

    Raises
    ------
    pint.DimensionalityError
        If the two do not convert.
    """
    many = 1e9  # so that the offset's digits do not cost the factor its own
    offset, beyond = (float(quantity(number, unit).m_as(unit_of(base))) for number in (0, many))
    return tidy((beyond - offset) / many), tidy(offset)


def _symbol(unit: str) -> str:
    return {"percent": "%", "deg": "°", "dimensionless": "×"}.get(unit, unit)


def _spellings(unit: str) -> list[str]:
    found = [unit, *SPELLINGS.get(unit, ())]
    for base, name in LONG_NAMES.items():
        prefix = unit.removesuffix(base)
        if unit.endswith(base) and (not prefix or prefix in LONG_PREFIXES):
            found += [LONG_PREFIXES.get(prefix, "") + name + plural for plural in ("", "s")]
    found += [spelling.replace("metre", "meter") for spelling in found if "metre" in spelling]
    found += [spelling.replace("µ", letter) for spelling in found if "µ" in spelling for letter in "uμ"]
    return list(dict.fromkeys(found))


def _field(name: str, field: Field) -> list[Any]:
    unit = field.unit or ("dimensionless" if name == "magnification" else "")
    return [name, field.display_name, _dimension_of(unit), _symbol(unit), list(NAMES.get(name, ()))]


def _dimension_of(unit: str) -> int:
    """Place of the unit's dimension; the last one is that of numbers without any."""
    places = (n for n, dimension in enumerate(DIMENSIONS) for units in dimension.units.values() if unit in units)
    return next(places) if unit else len(DIMENSIONS) - 1
