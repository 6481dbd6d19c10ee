"""From an extractor's signal to the metadata that goes into the sidecar and the record.

Each named field is checked for its dimension and written in its preferred unit. A value that fails its check, or
that does not belong to the dataset's type, becomes an extension with a warning: it never costs the file.
"""

import base64
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from nexuslims_pipeline.metadata.fields import FIELDS, Field
from nexuslims_pipeline.metadata.units import tidy, unit_registry
from nexuslims_pipeline.signals import Signal, Source

TEXT_LIMIT = 20_000
"""Characters of one text value; a longer one is cut, which a marker at its end shows."""
DEPTH_LIMIT = 40
"""Levels of a native tree; deeper ones are left out, which a marker in their place shows."""


def checked_metadata(signal: Signal, source: Source, reader: str, version: str) -> dict[str, Any]:
    """The ``nx_meta`` of one dataset; see `metadata.dataset.Dataset.nx_meta` for its form.

    Parameters
    ----------
    signal
        What the extractor found.
    source
        The file it came from.
    reader, version
        Who read it.

    Returns
    -------
    dict
        JSON values only.
    """
    warnings = dict(signal.warnings)
    fields: dict[str, Any] = {}
    extensions: dict[str, Any] = {}
    for name, value in signal.fields.items():
        field = FIELDS.get(name)
        if field is None:
            extensions[_key(name)] = plain(value)
        elif signal.dataset_type not in field.types:
            extensions[field.display_name] = plain(value)
        else:
            try:
                fields[name] = _normalised(field, value)
            except ValueError as fault:
                extensions[field.display_name] = plain(value)
                warnings[field.display_name] = str(fault)
    for name, value in plain(signal.extensions).items():
        free = name if name not in extensions else f"{name} (vendor)"
        extensions[free] = value

    acquired, origin = _creation_time(signal, source)
    meta: dict[str, Any] = {
        "DatasetType": signal.dataset_type,
        "Data Type": signal.data_type,
        "Creation Time": acquired.isoformat(),
        **fields,
        "extensions": {name: value for name, value in extensions.items() if value not in (None, "", [], {})},
        "warnings": [{"field": _shown(name), "reason": plain(reason)} for name, reason in sorted(warnings.items())],
        "Extraction Details": {"Reader": reader, "Version": version, "Creation Time From": origin},
    }
    if signal.shape:
        meta["Data Dimensions"] = str(tuple(int(n) for n in signal.shape))
    if source.instrument_id:
        meta["Instrument ID"] = source.instrument_id
    return meta


def plain(value: Any, depth: int = 0) -> Any:
    """`value` as JSON knows it: quantities as value and unit, bytes as text or base64, NaN and infinity as text."""
    if depth > DEPTH_LIMIT:
        return "… (nested too deeply)"
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return tidy(value) if math.isfinite(value) else str(value)
    if isinstance(value, str):
        whole = value.encode("utf-8", "replace").decode()  # half characters end here: neither XML nor SQL knows them
        return whole if len(whole) <= TEXT_LIMIT else whole[:TEXT_LIMIT] + " … (cut)"
    if isinstance(value, bytes | bytearray | memoryview):
        return _text_of(bytes(value))
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {_key(key): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        return [plain(item, depth + 1) for item in items]
    if hasattr(value, "magnitude") and hasattr(value, "units"):
        return {"value": plain(value.magnitude, depth + 1), "unit": str(value.units)}
    if hasattr(value, "as_dictionary"):
        return plain(value.as_dictionary(), depth + 1)
    if hasattr(value, "tolist"):
        return plain(value.tolist(), depth + 1)
    return plain(str(value), depth + 1)


def _normalised(field: Field, value: Any) -> Any:
    """`value` in the field's preferred unit, as JSON.

    Raises
    ------
    ValueError
        With the reason, when the value is none of the field's kind.
    """
    is_quantity = hasattr(value, "magnitude")
    if field.unit is None:
        if is_quantity:
            msg = f"{value} has a unit, but the field is text"
            raise ValueError(msg)
        return plain(value)
    number = _number(value.magnitude if is_quantity else value)
    if field.unit == "":
        if is_quantity and not value.dimensionless:
            msg = f"{value} has a unit, but the field is a plain number"
            raise ValueError(msg)
        return number
    if not is_quantity:
        msg = f"{value!r} has no unit"
        raise ValueError(msg)
    if not value.is_compatible_with(field.unit):
        msg = f"{value.units} is no unit of {field.display_name.lower()}"
        raise ValueError(msg)
    unit = unit_registry().Unit(field.unit)
    return {"value": tidy(float(value.m_as(unit))), "unit": str(unit)}


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        msg = f"{value!r} is not a number"
        raise ValueError(msg) from None
    if not math.isfinite(number):
        msg = f"{value!r} is not a finite number"
        raise ValueError(msg)
    return tidy(number)


def _creation_time(signal: Signal, source: Source) -> tuple[datetime, str]:
    zone = ZoneInfo(source.time_zone)
    if signal.acquired is None:
        return source.modified.astimezone(zone), "modification time"
    acquired = signal.acquired - timedelta(seconds=source.clock_offset_seconds)
    if acquired.tzinfo is None:
        return acquired.replace(tzinfo=zone), "file, in the instrument's time zone"
    return acquired.astimezone(zone) if acquired.tzinfo is UTC else acquired, "file"


def _shown(name: str) -> str:
    return FIELDS[name].display_name if name in FIELDS else _key(name)


def _key(key: Any) -> str:
    return str(plain(key))


def _text_of(raw: bytes) -> str:
    try:
        return str(plain(raw.decode("utf-8").rstrip("\0")))
    except UnicodeDecodeError:
        return str(plain(base64.b64encode(raw).decode("ascii")))
