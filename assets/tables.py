"""Tables in materialisation metadata."""

from collections.abc import Mapping, Sequence
from typing import Any

from dagster import MetadataValue, TableMetadataValue, TableRecord

ROWS_SHOWN = 200
"""Rows that the UI shows of a table; the whole lies in the store."""


def table(rows: Sequence[Mapping[Any, Any]]) -> TableMetadataValue | str:
    """A table of text for the UI, or the word ``none``."""
    if not rows:
        return "none"
    records = [
        TableRecord({str(name): "" if value is None else str(value) for name, value in row.items()})
        for row in rows[:ROWS_SHOWN]
    ]
    return MetadataValue.table(records)
