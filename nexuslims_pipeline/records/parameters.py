"""Metadata of datasets as the flat, named parameters of a record, and which of them an activity shares."""

import math
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Any

from nexuslims_pipeline.metadata.fields import FIELDS
from nexuslims_pipeline.metadata.units import UnknownUnitError, quantity, symbol, tidy, unit_of
from nexuslims_pipeline.records.text import token

SEPARATOR = " – "
"""Between the names of a nested value."""
UNWRITTEN = frozenset({"DatasetType", "warnings", "extensions"})
"""Entries that are no parameters: the record has a place of its own for each."""
DIGITS = 10
"""Significant digits of fractions; the sidecar has all."""
PER_FILE = frozenset({"Creation Time"})
"""Facts about one file that stay with its dataset even where all are equal."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One ``param`` or ``meta`` of a record."""

    name: str
    """Name for people, unique in its dataset."""
    text: str
    unit: str = ""
    """Long pint name, e.g. ``kilovolt``; empty for plain numbers and text."""
    warning: bool = False
    """Whether the value is to be doubted."""

    @property
    def unit_symbol(self) -> str:
        """Unit as the record writes it, e.g. ``kV``."""
        return unit_symbol(self.unit) if self.unit else ""


@lru_cache(maxsize=1024)
def unit_symbol(unit: str) -> str:
    """Short symbol of a unit given by its long pint name; a name that pint does not know stays as it is."""
    try:
        return symbol(unit)
    except UnknownUnitError:
        return token(unit)


def number_text(number: float) -> str:
    """Shortest text of a number: ``300``, ``0.25``, ``1.5e-09``.

    Fractions have 10 significant digits, more than anything that microscopes measure. Whole numbers below 1e16 have all
    of theirs and no decimal point; exponents appear below 1e-4 and from 1e16 on.
    """
    if isinstance(number, int):
        return str(number)
    tidied = tidy(number)
    if not tidied.is_integer():
        tidied = float(f"{number:.{DIGITS}g}")
    return str(int(tidied)) if tidied.is_integer() and abs(tidied) < 1e16 else repr(tidied)


def parameters(nx_meta: Mapping[str, Any]) -> list[Parameter]:
    """Every value of a dataset's metadata as a parameter.

    Fields carry their display name, nested values the names of their path joined by an en dash, lists their
    items joined by commas. Where two names are equal, the extension gets ``(vendor)`` behind its name.

    Parameters
    ----------
    nx_meta
        Checked metadata in the sidecar's form (`metadata.dataset.Dataset.nx_meta`).

    Returns
    -------
    list of Parameter
        Sorted by name without regard to case, ties by code point.
    """
    doubted = {_display_name(warning["field"]) for warning in nx_meta.get("warnings", ())}
    own = {key: value for key, value in nx_meta.items() if key not in UNWRITTEN}
    found: dict[str, Parameter] = {}
    for tree in (own, nx_meta.get("extensions", {})):
        for path, value, warning in _leaves(tree, doubted):
            name = _free_name(token(path), found)
            found[name] = _parameter(name, value, warning)
    return sorted(found.values(), key=lambda parameter: (parameter.name.casefold(), parameter.name))


def split(datasets: Sequence[Sequence[Parameter]]) -> tuple[list[Parameter], list[list[Parameter]]]:
    """Separate what all datasets of an activity share from what is each one's own.

    Parameters
    ----------
    datasets
        Parameters of each dataset.

    Returns
    -------
    setup
        Parameters that every dataset has with an equal value and the same doubt, as the first dataset writes
        them; quantities are compared by value, so that 1 kV equals 1000 V. Empty for fewer than two datasets.
    own
        The other parameters of each dataset, in the order given.
    """
    if len(datasets) < 2:
        return [], [list(dataset) for dataset in datasets]
    first, *others = datasets
    shared = {parameter.name: parameter for parameter in first if parameter.name not in PER_FILE}
    for other in others:
        by_name = {parameter.name: parameter for parameter in other}
        shared = {name: p for name, p in shared.items() if name in by_name and _equal(p, by_name[name])}
    return list(shared.values()), [[p for p in dataset if p.name not in shared] for dataset in datasets]


def _display_name(key: str) -> str:
    field = FIELDS.get(key)
    return field.display_name if field else key


def _free_name(name: str, taken: Container[str]) -> str:
    name = name or "(unnamed)"
    if name not in taken:
        return name
    if (vendor := f"{name} (vendor)") not in taken:
        return vendor
    return next(free for n in count(2) if (free := f"{name} (vendor {n})") not in taken)


def _is_quantity(value: Any) -> bool:
    """Whether it is a value with a unit: a number, several, or what stands in place of one (``nan``)."""
    return (
        isinstance(value, dict)
        and value.keys() == {"value", "unit"}
        and isinstance(value["unit"], str)
        and not isinstance(value["value"], dict | bool | None)
    )


def _is_tree(value: Any) -> bool:
    return isinstance(value, dict) and not _is_quantity(value)


def _leaves(
    tree: Mapping[str, Any], doubted: Container[str], parent: str = "", warning: bool = False
) -> Iterator[tuple[str, Any, bool]]:
    """Walk the values below `tree` in the order of their keys: path, value, and whether it is doubted.

    Trees in a list are numbered from 1. A doubted tree casts doubt on all that is in it.
    """
    for key, value in sorted(tree.items()):
        path = parent + SEPARATOR + key if parent else _display_name(key)
        doubt = warning or path in doubted
        if _is_tree(value):
            yield from _leaves(value, doubted, path, doubt)
        elif isinstance(value, list | tuple) and any(map(_is_tree, value)):
            numbered = {str(number): item for number, item in enumerate(value, 1)}
            yield from _leaves(numbered, doubted, path, doubt)
        elif value is not None:
            yield path, value, doubt


def _parameter(name: str, value: Any, warning: bool) -> Parameter:
    if _is_quantity(value):
        unit = value["unit"] if value["unit"] != "dimensionless" else ""
        return Parameter(name, token(_text(value["value"])), unit, warning)
    return Parameter(name, token(_text(value)), "", warning)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number_text(value)
    if isinstance(value, list | tuple):
        return ", ".join(f"({_text(item)})" if isinstance(item, list | tuple) else _text(item) for item in value)
    if _is_quantity(value):
        return f"{_text(value['value'])} {unit_symbol(value['unit'])}"
    return str(value)


def _equal(one: Parameter, other: Parameter) -> bool:
    if one.warning != other.warning:
        return False
    if one.unit == other.unit:
        return one.text == other.text
    return bool(one.unit and other.unit) and _equal_quantities(one, other)


def _equal_quantities(one: Parameter, other: Parameter) -> bool:
    try:
        converted = quantity(one.text, one.unit).m_as(unit_of(other.unit))
        return math.isclose(converted, float(other.text), rel_tol=1e-9)
    except Exception:  # texts, unknown units and unlike dimensions are no equality, whatever pint raises for them
        return False
