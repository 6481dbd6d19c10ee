"""Kinds of values that a named field may have: each checks a vendor's value and gives it the one form it is kept in."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from nexuslims_pipeline.metadata.elements import ELEMENTS
from nexuslims_pipeline.metadata.units import python_number, quantity, tidy, unit_of, unit_registry

SHOWN = 80
"""Characters of a refused value that its warning repeats."""


class Quantity(BaseModel):
    """A number with its unit."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True, allow_inf_nan=False)

    value: float
    unit: str
    """Long name, as pint writes it: ``kilovolt``."""


@dataclass(frozen=True, slots=True)
class In:
    """Makes a quantity of any unit of the right dimension one in the preferred unit."""

    unit: str
    """In pint's spelling: ``kV``."""

    def __call__(self, value: Any) -> Quantity:
        """Convert `value`: a `pint.Quantity`, a `Quantity`, or a mapping of ``value`` and ``unit``.

        Raises
        ------
        ValueError
            With words for a warning.
        """
        given = _quantity_of(value)
        unit, name = _preferred(self.unit)
        if _dimension(given.units) != _dimension(unit):
            msg = f"{given.units} is no unit of it, as {self.unit} is"
            raise ValueError(msg)
        return Quantity(value=tidy(finite(given.m_as(unit))), unit=name)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Convert before pydantic looks at the value."""
        return core_schema.no_info_before_validator_function(self, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Schema of what is kept: the unit is always this one."""
        return {
            "type": "object",
            "properties": {
                "value": {"type": "number"},
                "unit": {"const": _preferred(self.unit)[1]},
            },
            "required": ["value", "unit"],
            "additionalProperties": False,
        }


@cache
def _preferred(unit: str) -> tuple[Any, str]:
    """A unit as pint has it, and its long name."""
    found = unit_of(unit)
    return found, str(found)


@lru_cache(maxsize=1024)
def _dimension(unit: Any) -> tuple[Any, str]:
    """Dimension of a unit, and its power of the radian: pint takes angles for plain numbers."""
    _, root = unit_registry().get_root_units(unit)
    angle = re.search(r"radian(?: \*\* \d+)?", str(root))
    return unit.dimensionality, angle[0] if angle else ""


def _quantity_of(value: Any) -> Any:
    if hasattr(value, "magnitude") and hasattr(value, "units"):
        number = finite(value.magnitude)
        return value if isinstance(value.magnitude, float | int) else unit_registry().Quantity(number, value.units)
    if isinstance(value, Quantity):
        value = value.model_dump()
    if isinstance(value, Mapping) and value.keys() == {"value", "unit"}:
        return quantity(finite(value["value"]), str(value["unit"]))
    msg = f"{_shown(value)} has no unit"
    raise ValueError(msg)


def finite(value: Any) -> float:
    """`value` as a number.

    Raises
    ------
    ValueError
        If it is none, or not finite; a truth value is none.
    """
    try:
        number = math.nan if isinstance(value, bool) else float(python_number(value))
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        msg = f"{_shown(value)} is not a finite number"
        raise ValueError(msg)
    return number


def _plain_number(value: Any) -> float:
    if hasattr(value, "magnitude"):
        if _dimension(value.units) != _dimension(unit_of("")):
            msg = f"{_shown(value)} has a unit, but the field is a plain number"
            raise ValueError(msg)
        value = value.m_as("")
    return tidy(finite(value))


def _whole_number(value: Any) -> int:
    number = _plain_number(value)
    if not number.is_integer():
        msg = f"{_shown(value)} is no whole number"
        raise ValueError(msg)
    return int(number)


def _one_text(value: Any) -> str:
    """Text; numbers are written out, lists of such joined by commas."""
    if isinstance(value, list | tuple):
        return ", ".join(map(_one_text, value))
    if hasattr(value, "magnitude"):
        msg = f"{_shown(value)} has a unit, but the field is text"
        raise ValueError(msg)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        msg = f"{_shown(value)} is no text"
        raise ValueError(msg)  # noqa: TRY004 - pydantic takes no other
    return value if isinstance(value, str) else f"{value:g}"


def _symbols(value: Any) -> list[str] | None:
    """Chemical symbols in the order given, each once; text may list them with commas, semicolons or blanks."""
    given = re.split(r"[\s,;]+", value.strip()) if isinstance(value, str) else value
    if not isinstance(given, list | tuple):
        msg = f"{_shown(value)} is no list of elements"
        raise ValueError(msg)  # noqa: TRY004 - pydantic takes no other
    symbols = list(dict.fromkeys(filter(None, (str(item).strip() for item in given))))
    if foreign := [symbol for symbol in symbols if symbol not in ELEMENTS]:
        msg = f"{_shown(', '.join(foreign))} is no chemical symbol"
        raise ValueError(msg)
    return symbols or None


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str | bool | None) else str(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} …"


Kilovolts = Annotated[Quantity | None, In("kV")]
Kiloelectronvolts = Annotated[Quantity | None, In("keV")]
Electronvolts = Annotated[Quantity | None, In("eV")]
Amperes = Annotated[Quantity | None, In("A")]
Microamperes = Annotated[Quantity | None, In("µA")]
Picoamperes = Annotated[Quantity | None, In("pA")]
Degrees = Annotated[Quantity | None, In("deg")]
Milliradians = Annotated[Quantity | None, In("mrad")]
Steradians = Annotated[Quantity | None, In("sr")]
Millimetres = Annotated[Quantity | None, In("mm")]
Micrometres = Annotated[Quantity | None, In("µm")]
Nanometres = Annotated[Quantity | None, In("nm")]
PerNanometre = Annotated[Quantity | None, In("1/nm")]
Seconds = Annotated[Quantity | None, In("s")]
Microseconds = Annotated[Quantity | None, In("µs")]
PerSecond = Annotated[Quantity | None, In("1/s")]
Percent = Annotated[Quantity | None, In("percent")]
Pascals = Annotated[Quantity | None, In("Pa")]
Kelvins = Annotated[Quantity | None, In("K")]
Number = Annotated[float | None, BeforeValidator(_plain_number)]
Count = Annotated[int | None, BeforeValidator(_whole_number)]
Text = Annotated[str | None, BeforeValidator(_one_text)]
Elements = Annotated[list[str] | None, BeforeValidator(_symbols)]
