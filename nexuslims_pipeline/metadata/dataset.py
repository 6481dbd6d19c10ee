"""A dataset as the later stages see it: where it lies and its checked metadata."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Dataset:
    """One signal of one file, after extraction."""

    location: str
    """Percent-encoded path of the raw file below the instrument root."""
    modified_ns: int
    """Modification time of the raw file, corrected for the instrument's clock, nanoseconds since 1970."""
    size: int
    index: int
    """Which signal of the file, from 0."""
    count: int
    """How many signals the file has."""
    name: str
    """``file.dm3``, or ``file.dm3 (2 of 3)``."""
    format: str
    """Vendor format in words, e.g. ``DigitalMicrograph DM3``; empty when unknown."""
    description: str
    """The signal's own title in the file; may be empty."""
    preview: str | None
    """Percent-encoded path of the preview below the store's ``datasets`` folder."""
    nx_meta: dict[str, Any]
    """The checked metadata in the sidecar's form; see `metadata.checked`.

    Always there: ``DatasetType``, ``Data Type``, ``Creation Time`` (ISO 8601 with offset), ``extensions`` (dict),
    ``warnings`` (list of ``{"field": display name, "reason": text}``), ``Extraction Details`` (dict of text).
    There when known: ``Data Dimensions`` (text such as ``(1024, 1024)``, NumPy order), ``Instrument ID``, and any name
    of `metadata.fields.FIELDS`. A quantity is ``{"value": number, "unit": long pint name such as "kilovolt"}``; other
    values are text, numbers, booleans, lists, or (in extensions) dicts of those.
    """
