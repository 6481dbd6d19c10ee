"""The one registry of units, and how quantities are written down."""

import math
import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pint

UNIT_CHARACTERS: Final = 80
ENDLESS: Final = re.compile(r"\d\s*(?:\*\*|\^)|(?:\*\*|\^)\s*\(|\)\s*(?:\*\*|\^)|\d[\d_]{3}|[⁰¹²³⁴-⁹]{3}")
"""Powers of powers and huge exponents, which pint would work out for ever: ``10**10**10``."""


class UnknownUnitError(ValueError):
    """Text that is no unit."""


@cache
def unit_registry() -> "pint.UnitRegistry[Any]":
    """The pint registry that every quantity of this program belongs to (made at first use: it takes 0.2 s)."""
    import pint

    registry: pint.UnitRegistry[Any] = pint.UnitRegistry(cache_folder=None)
    pint.set_application_registry(registry)  # type: ignore[no-untyped-call]
    return registry


@lru_cache(maxsize=1024)
def unit_of(text: str) -> "pint.Unit":
    """A unit by its name or symbol as pint spells them; such text may come from a file.

    Raises
    ------
    UnknownUnitError
        If it is none.
    """
    msg = f"{text[:UNIT_CHARACTERS]!r} is no unit"
    if len(text) > UNIT_CHARACTERS or ENDLESS.search(text):
        raise UnknownUnitError(msg)
    try:
        return unit_registry().Unit(text)
    except Exception as fault:  # pint answers text that is no unit with errors of many unrelated classes
        raise UnknownUnitError(msg) from fault


def quantity(value: float | str, unit: str) -> "pint.Quantity[Any]":
    """A quantity of the program's registry, e.g. ``quantity(300, "kV")``.

    Raises
    ------
    ValueError
        If `value` is not a finite number.
    UnknownUnitError
        If there is no such unit.
    """
    number = float(value)
    if not math.isfinite(number):
        msg = f"{value!r} is not a finite number"
        raise ValueError(msg)
    return unit_registry().Quantity(number, unit_of(unit))


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
    UnknownUnitError
        When pint knows no such unit.
    """
    if unit in SYMBOLS:
        return SYMBOLS[unit]
    if unit == "dimensionless":
        return ""
    return f"{unit_of(unit):~P}".replace("μ", "µ")


def tidy(number: float) -> float:
    """`number` without the noise that a conversion of units adds in the last digits (15 significant ones stay)."""
    rounded = float(f"{number:.15g}")
    return rounded if math.isfinite(rounded) else number


def python_number(value: Any) -> Any:
    """A scalar of NumPy as Python's own, one of single precision without the digits that it never had: 3.3.

    Anything else stays as it is.
    """
    if type(value).__module__ != "numpy" or value.ndim > 0:
        return value
    return float(str(value)) if value.dtype.kind == "f" and value.dtype.itemsize != 8 else value.item()
