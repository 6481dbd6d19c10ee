"""The one registry of units, and how quantities are written down."""

import math
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pint


@cache
def unit_registry() -> "pint.UnitRegistry[Any]":
    """The pint registry that every quantity of this program belongs to (made at first use: it takes 0.2 s)."""
    import pint

    registry: pint.UnitRegistry[Any] = pint.UnitRegistry(cache_folder=None)
    pint.set_application_registry(registry)  # type: ignore[no-untyped-call]
    return registry


def quantity(value: float | str, unit: str) -> "pint.Quantity[Any]":
    """A quantity of the program's registry, e.g. ``quantity(300, "kV")``.

    Raises
    ------
    ValueError
        If `value` is not a finite number.
    """
    number = float(value)
    if not math.isfinite(number):
        msg = f"{value!r} is not a finite number"
        raise ValueError(msg)
    return unit_registry().Quantity(number, unit)


SYMBOLS = {
    "1 / nanometer": "1/nm",
    "1 / second": "1/s",
    "ampere": "A",
    "byte": "B",
    "degree": "deg",
    "electron_volt": "eV",
    "kelvin": "K",
    "kiloelectron_volt": "keV",
    "kilovolt": "kV",
    "meter": "m",
    "microampere": "µA",
    "micrometer": "µm",
    "microsecond": "µs",
    "milliradian": "mrad",
    "millimeter": "mm",
    "nanoampere": "nA",
    "nanometer": "nm",
    "pascal": "Pa",
    "percent": "%",
    "picoampere": "pA",
    "second": "s",
    "steradian": "sr",
    "volt": "V",
}
"""Symbols of the commonest units, by pint's long names, so that pint need not be loaded for them (it takes 0.3 s)."""


QUDT_UNITS = {
    "1/nm": "PER-NanoM",
    "1/s": "PER-SEC",
    "A": "A",
    "K": "K",
    "Pa": "PA",
    "deg": "DEG",
    "eV": "EV",
    "keV": "KiloEV",
    "kV": "KiloV",
    "mm": "MilliM",
    "mrad": "MilliRAD",
    "nm": "NanoM",
    "pA": "PicoA",
    "percent": "PERCENT",
    "s": "SEC",
    "sr": "SR",
    "µA": "MicroA",
    "µm": "MicroM",
    "µs": "MicroSEC",
}
"""QUDT's names (http://qudt.org/vocab/unit/) of the units that named fields are kept in."""


def symbol(unit: str) -> str:
    """Short symbol of a unit for XML and people: ``kV``, ``µm``, ``deg``; empty for plain numbers.

    Parameters
    ----------
    unit
        Long name, as pint writes it.

    Raises
    ------
    Exception
        Of many unrelated classes, when pint knows no such unit.
    """
    if unit in SYMBOLS:
        return SYMBOLS[unit]
    if unit == "dimensionless":
        return ""
    return f"{unit_registry().Unit(unit):~}".replace("μ", "µ").replace(" / ", "/")


def tidy(number: float) -> float:
    """`number` without the noise that a conversion of units adds in the last digits (15 significant ones stay)."""
    rounded = float(f"{number:.15g}")
    return rounded if math.isfinite(rounded) else number
