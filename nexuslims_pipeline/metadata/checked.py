"""From an extractor's signal to the metadata that goes into the sidecar and the record.

Each named field is checked by the model of the dataset's type and written in its preferred unit. A value that fails its
check, or that does not belong to the type, becomes an extension with a warning: it never costs the file.
"""

import base64
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any, Final
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from nexuslims_pipeline.metadata.fields import FIELDS
from nexuslims_pipeline.metadata.models import MODELS
from nexuslims_pipeline.metadata.plausibility import Circumstances, doubts
from nexuslims_pipeline.metadata.units import python_number, tidy
from nexuslims_pipeline.signals import Signal, Source

VERSION: Final = "3"
"""Raised whenever the same signal gives other metadata: every file is read again."""
TEXT_LIMIT: Final = 20_000
"""Characters of one text value; a longer one is cut, which a marker at its end shows."""
LIST_LIMIT: Final = 10_000
"""Items of one list; a longer one is cut, which a marker at its end shows."""
FIRST_YEAR: Final = 1900
"""What is older is a placeholder: computers count from 1601 and from the year 1."""
DEPTH_LIMIT: Final = 40
"""Levels of a native tree; deeper ones are left out, which a marker in their place shows."""


def checked_metadata(
    signal: Signal, source: Source, reader: str, version: str, details: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The ``nx_meta`` of one dataset; see `metadata.dataset.Dataset.nx_meta` for its form.

    Parameters
    ----------
    signal
        What the extractor found.
    source
        The file it came from.
    reader, version
        Who read it.
    details
        More to tell of how it was read.

    Returns
    -------
    dict
        JSON values only, as `metadata.models` allows them.
    """
    warnings = {_shown(name): plain(reason) for name, reason in signal.warnings.items()}
    dataset_type = signal.dataset_type
    if dataset_type not in MODELS:
        warnings["DatasetType"] = f"its reader calls it {str(dataset_type)[:80]!r}, which is no type of dataset"
        dataset_type = "Unknown"
    fields, extensions = {}, {}
    for name, value in signal.fields.items():
        if name in MODELS[dataset_type].model_fields and name in FIELDS:
            fields[name] = plain(value) if isinstance(value, str) else python_number(value)
        else:
            extensions[_shown(name)] = plain(value)

    created, origin = _creation_time(signal, source, warnings)
    frame = {
        "DatasetType": dataset_type,
        "Data Type": str(plain(signal.data_type)) or "Unknown",
        "Creation Time": created.isoformat(),
        "Extraction Details": {"Reader": reader, "Version": version, "Creation Time From": origin, **(details or {})},
    }
    if signal.shape:
        frame["Data Dimensions"] = str(tuple(int(n) for n in signal.shape))
    if source.instrument_id:
        frame["Instrument ID"] = source.instrument_id

    meta, refused = _validated(frame, fields)
    for name, reason in refused.items():
        extensions[_shown(name)] = plain(fields[name])
        warnings[_shown(name)] = reason
    for name, value in plain(signal.extensions).items():
        extensions[name if name not in extensions else f"{name} (vendor)"] = value
    meta["extensions"] = {name: value for name, value in extensions.items() if value not in (None, "", [], {})}
    warnings = {**doubts(meta, Circumstances(source.modified, source.voltage_kv)), **warnings}
    meta["warnings"] = [{"field": name, "reason": reason} for name, reason in sorted(warnings.items())]
    return meta


def checked_value(name: str, value: Any) -> Any:
    """A value of a named field as it would be kept.

    Raises
    ------
    ValueError
        With the reason why it would not.
    """
    frame: dict[str, Any] = {"DatasetType": min(FIELDS[name].types), "Data Type": "Unknown", "Extraction Details": {}}
    meta, refused = _validated({**frame, "Creation Time": datetime.now(UTC).isoformat()}, {name: value})
    if refused:
        raise ValueError(refused[name])
    return meta[name]


def _validated(frame: Mapping[str, Any], fields: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Metadata of the fields that pass, and the reasons of those that do not, by name."""
    model = MODELS[frame["DatasetType"]]
    refused: dict[str, str] = {}
    try:
        checked = model.model_validate({**frame, **fields})
    except ValidationError as faults:
        refused = {str(fault["loc"][0]): fault["msg"].removeprefix("Value error, ") for fault in faults.errors()}
        checked = model.model_validate({**frame, **{n: v for n, v in fields.items() if n not in refused}})
    return checked.model_dump(by_alias=True, exclude_none=True), refused


def plain(value: Any, depth: int = 0) -> Any:
    """`value` as JSON knows it: quantities as value and unit, bytes as text or base64, NaN and infinity as text."""
    if depth > DEPTH_LIMIT:
        return "… (nested too deeply)"
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**64 else f"{Decimal(value):.15g}"
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
    if hasattr(value, "magnitude") and hasattr(value, "units"):
        return {"value": plain(value.magnitude, depth + 1), "unit": str(value.units)}
    if isinstance(value, list | tuple | set | frozenset) or (hasattr(value, "tolist") and value.ndim > 0):
        items = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        kept = [plain(item, depth + 1) for item in islice(items, LIST_LIMIT)]
        return kept if len(items) <= LIST_LIMIT else [*kept, f"… ({len(items)} in all)"]
    if hasattr(value, "as_dictionary"):
        return plain(value.as_dictionary(), depth + 1)
    number = python_number(value)
    return plain(str(value) if number is value else number, depth + 1)


def _creation_time(signal: Signal, source: Source, warnings: dict[str, str]) -> tuple[datetime, str]:
    """When the data were taken, on a clock that goes right, and where that is known from; doubts go to `warnings`."""
    zone = ZoneInfo(source.time_zone)
    modified = source.modified.astimezone(zone), "modification time"
    if signal.acquired is None:
        return modified
    try:
        if signal.acquired.year >= FIRST_YEAR:
            return _acquired(signal.acquired, source, zone, warnings)
    except OverflowError:
        pass
    warnings["Creation Time"] = f"the file says {signal.acquired}, which is a placeholder"
    return modified


def _acquired(acquired: datetime, source: Source, zone: ZoneInfo, warnings: dict[str, str]) -> tuple[datetime, str]:
    """The acquisition time of the file with its zone, corrected by the clock's offset.

    A time without a zone is what the instrument's clock showed. In the hour that the end of summer time repeats, the
    reading is taken that lies closer before the file's last change.
    """
    offset = timedelta(seconds=source.clock_offset_seconds)
    if acquired.tzinfo is not None:
        acquired = acquired - offset
        return acquired.astimezone(zone) if acquired.tzinfo is UTC else acquired, "file"
    first, second = (acquired.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    chosen = first.astimezone(UTC)
    if first.utcoffset() != second.utcoffset():
        if chosen.astimezone(zone).replace(tzinfo=None) != acquired:
            warnings.setdefault("Creation Time", f"summer time left {acquired.time()} out on that day")
        else:
            late = second.astimezone(UTC)
            chosen = late if late - offset <= source.modified else chosen
            warnings.setdefault("Creation Time", f"{acquired.time()} came twice on that day, when summer time ended")
    return (chosen - offset).astimezone(zone), "file, in the instrument's time zone"


def _shown(name: str) -> str:
    return FIELDS[name].display_name if name in FIELDS else _key(name)


def _key(key: Any) -> str:
    return str(plain(key))


def _text_of(raw: bytes) -> str:
    try:
        return str(plain(raw.decode("utf-8").rstrip("\0")))
    except UnicodeDecodeError:
        return str(plain(base64.b64encode(raw).decode("ascii")))
