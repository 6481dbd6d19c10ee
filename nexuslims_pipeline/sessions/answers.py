"""What users answered to the facility's questions.

NEMO stores the answers of a form as one JSON object: each question's name leads to the whole definition of
the question plus ``user_input``, which is missing when nothing was answered. ``run_data`` and
``pre_run_data`` of a usage event are text holding that object, ``question_data`` of a reservation is the
object itself; either is read here, and so is a plain value in place of the definition. The answers of a
group are rows under "0", "1" ..., in any order.
"""

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from nexuslims_pipeline.sessions.model import Sample

Form: TypeAlias = Mapping[str, Any]
"""Questions by name, with their answers."""

LONGEST = 10_000
"""Characters that are kept of an answer."""
MOST_SAMPLES = 1000
"""Rows that are read of a group; a real form has a handful."""
SAMPLES = uuid.uuid5(uuid.NAMESPACE_DNS, "samples.nexuslims-pipeline")
"""Namespace of the samples' identifiers."""
_SYMBOLS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr "
    "Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu "
    "Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr "
    "Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og"
)
ELEMENTS = frozenset(_SYMBOLS.split())
"""Symbols of the chemical elements."""

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ROW = re.compile("[0-9]{1,6}")


def read_form(data: object) -> Form:
    """Questions and answers in `data`, which may be an object or its JSON text; empty when it is neither."""
    if isinstance(data, str):
        try:
            data = json.loads(data)
        except (ValueError, RecursionError):
            return {}
    return data if isinstance(data, Mapping) else {}


def answer(form: Form, name: str) -> Any:
    """Return the answer to the question `name`; None when it is missing, null, empty or blank."""
    value = form.get(name)
    if isinstance(value, Mapping):
        value = value.get("user_input")
    if isinstance(value, str) and not value.strip():
        return None
    return None if value in ("", [], {}) else value


def text_answer(form: Form, name: str, warnings: list[str]) -> str | None:
    """Answer to the question `name` as text that any XML can hold.

    Parameters
    ----------
    form
        The questions.
    name
        Name of the question.
    warnings
        Gets a line when the answer is not text, or was shortened or cleaned.
    """
    value = answer(form, name)
    if value is None:
        return None
    try:
        text = str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
    except ValueError:  # an integer of thousands of digits
        text = None
    if text is None:
        warnings.append(f"The answer to '{name}' is not text and is left out.")
        return None
    if len(text) > LONGEST:
        warnings.append(f"The answer to '{name}' is cut at {LONGEST} of its {len(text)} characters.")
        text = text[:LONGEST]
    cleaned = _NOT_IN_XML.sub("\ufffd", text)
    if cleaned != text:
        warnings.append(f"The answer to '{name}' has control characters, which are replaced.")
    return cleaned.strip() or None


def samples_of(form: Form, key: str, warnings: list[str]) -> tuple[Sample, ...]:
    """Read the samples: the rows of ``sample_group`` in order, else the old single question ``sample_name``.

    Parameters
    ----------
    form
        The questions.
    key
        Session key, from which the samples' identifiers are made.
    warnings
        Gets a line for everything that was left out.
    """
    rows = list(_sample_rows(form, warnings)) or [("0", form)]
    samples = [_sample(row, f"{key}/{index}", warnings) for index, row in rows]
    return tuple(sample for sample in samples if sample is not None)


def _sample_rows(form: Form, warnings: list[str]) -> Iterator[tuple[str, Form]]:
    group = form.get("sample_group")
    rows = group.get("user_input", group) if isinstance(group, Mapping) else group
    if isinstance(rows, list):
        rows = {str(index): row for index, row in enumerate(rows[: MOST_SAMPLES + 1])}
    if not isinstance(rows, Mapping):
        if rows not in (None, ""):
            warnings.append("The answer to 'sample_group' has no rows and is left out.")
        return
    numbers = sorted((k for k in rows if isinstance(k, str) and _ROW.fullmatch(k)), key=lambda k: (int(k), k))
    if len(numbers) > MOST_SAMPLES:
        warnings.append(f"Only the first {MOST_SAMPLES} samples are kept.")
    for number in numbers[:MOST_SAMPLES]:
        if isinstance(rows[number], Mapping):
            yield number, rows[number]
        else:
            warnings.append(f"Row {number} of 'sample_group' is not a sample and is left out.")


def _sample(row: Form, seed: str, warnings: list[str]) -> Sample | None:
    name = text_answer(row, "sample_name", warnings)
    kind = answer(row, "sample_or_pid")
    is_pid = isinstance(kind, str) and kind.strip().casefold() == "pid"
    description = text_answer(row, "sample_details", warnings)
    elements = _elements(answer(row, "periodic_table"), warnings)
    if not (name or description or elements):
        return None
    return Sample(
        id=str(uuid.uuid5(SAMPLES, seed)),
        name=None if is_pid else name,
        pid=name if is_pid else None,
        description=description,
        elements=elements,
    )


def _elements(value: Any, warnings: list[str]) -> tuple[str, ...]:
    if value is None:
        return ()
    symbols = re.split(r"[\s,;]+", value[:LONGEST].strip()) if isinstance(value, str) else value
    if not isinstance(symbols, list):
        warnings.append("The answer to 'periodic_table' is not a list of elements and is left out.")
        return ()
    found: dict[str, None] = {}
    rejected: list[str] = []
    for symbol in symbols[:LONGEST]:
        clean = symbol.strip() if isinstance(symbol, str) else symbol
        if isinstance(clean, str) and clean in ELEMENTS and clean not in found:
            found[clean] = None
        else:
            rejected.append(shown(symbol, 20))
    if rejected:
        more = f" and {len(rejected) - 10} more" if len(rejected) > 10 else ""
        warnings.append(f"Unknown or repeated elements are left out: {', '.join(rejected[:10])}{more}.")
    return tuple(found)


def shown(value: object, longest: int = 60) -> str:
    """`value` in quotes for a message: short and printable."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = type(value).__name__
    text = _NOT_IN_XML.sub("\ufffd", text)
    return text if len(text) <= longest else f"{text[:longest]}…"
