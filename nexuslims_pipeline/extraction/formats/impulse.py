"""DENSsolutions Impulse ``.csv``: logs of heating, biasing, gas and liquid holders.

The first line names the columns, among them ``Experiment time`` (seconds) and ``TimeStamp``; some names end with their
unit in brackets. ``<experiment>_Metadata.log`` beside ``<experiment>_Synchronized data.csv`` has lines of a key and a
value, and at its end ``Live notes``, one a line. Source: https://hyperspy.org/rosettasciio
"""

import re
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded
from nexuslims_pipeline.extraction.layouts.holder_log import (
    LONGEST_LINE,
    MOST_COLUMNS,
    MOST_NOTES,
    LogTable,
    log_signal,
    read_table,
)
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import UNITS_AS_WRITTEN, decode, local_time, moment, read_text
from nexuslims_pipeline.signals import Signal, Source

TIME, STAMP = "Experiment time", "TimeStamp"
NAMED_UNIT: Final = re.compile(r"(.+?)\s*[(\[]([^()\[\]]{1,12})[)\]]")
COMPANION: Final = "_metadata.log"
NOTES: Final = "Live notes"
SETTINGS: Final = {
    "Sample": ("specimen", None),
    "Description": ("Description", None),
    "System version": ("System Version", None),
    "Calibration value": ("Calibration Value", ""),
    "Max temperature": ("Maximum Temperature", "degC"),
    "Room temperature": ("Room Temperature", "degC"),
}
GAS: Final = re.compile(r"(Gas\s?\d|MassSpec channel \d)")


class Impulse(Extractor):
    """Logs of DENSsolutions' Impulse."""

    name: ClassVar[str] = "impulse"
    format_name: ClassVar[str] = "DENSsolutions Impulse log"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".csv"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:  # noqa: ARG002 - the head says it all
        """Whether its first line names Impulse's two columns of time and another."""
        names = _names(head.partition(b"\n")[0])
        return TIME in names and STAMP in names and len(names) > 2

    def extract(self, source: Source) -> list[Signal]:
        """Read the log.

        Raises
        ------
        ExtractionError
            If it has no entries.
        """
        facts = Facts()
        with source.path.open("rb") as file:
            written = _names(file.readline(LONGEST_LINE))
            columns = {name: _named(name) for name in written}
            if len(columns) < len(written) or len(written) > MOST_COLUMNS:
                msg = "it is damaged: two of its columns have the same name, or there are too many"
                raise ExtractionError(msg)
            table = read_table(file, [columns[name][0] for name in written], ",")
        if not table.rows:
            msg = "the log has no entries"
            raise ExtractionError(msg)
        companion = next((path for path in source.companions if path.name.lower().endswith(COMPANION)), None)
        settings, notes = _metadata(companion) if companion else ({}, [])
        _add_settings(settings, notes, facts)
        _add_texts(table, facts)
        units = {name: unit for name, unit in columns.values() if name not in (TIME, STAMP)}
        signal = log_signal(table, table.column(TIME), units, facts)
        signal.acquired = _started(settings, table, source, signal)
        signal.native = bounded({"columns": written, "metadata": settings, "notes": notes})
        return [signal]


def _names(line: bytes) -> list[str]:
    return [name.strip().strip('"') for name in decode(line)[0].strip().split(",")]


def _named(written: str) -> tuple[str, str]:
    """Name of a column without its unit, and the unit: that in brackets, or percent where the name says ``%``."""
    parts = NAMED_UNIT.fullmatch(written)
    unit = UNITS_AS_WRITTEN.get(parts[2], UNITS_AS_WRITTEN.get(parts[2].lower(), "")) if parts else ""
    if parts and unit:
        return parts[1], unit
    return written.lstrip("% "), "percent" if written.startswith("%") else ""


def _metadata(path: Path) -> tuple[dict[str, str], list[str]]:
    """Settings by their keys, and the live notes."""
    settings: dict[str, str] = {}
    notes: list[str] | None = None
    for line in read_text(path).split("\n"):
        key, _, value = map(str.strip, line.partition(","))
        if notes is not None:
            notes.append(line.strip())
        elif key == NOTES:
            notes = [value]
        elif key:
            settings.setdefault(key, value)
    return settings, [note for note in notes or [] if note][:MOST_NOTES]


def _add_settings(settings: dict[str, str], notes: list[str], facts: Facts) -> None:
    for key, (name, unit) in SETTINGS.items():
        facts.add_written(name, settings.get(key, ""), unit)
    for key, value in settings.items():
        if GAS.fullmatch(key):
            facts.add(key, value, group="Gases")
    facts.add("Notes", notes)


def _add_texts(table: LogTable, facts: Facts) -> None:
    """First and last state of valves and the like, which are no numbers."""
    for index, (first, last) in table.texts.items():
        name = table.names[index]
        if name not in (TIME, STAMP):
            facts.add("First State", first, group=name)
            facts.add("Last State", last, group=name)


def _started(settings: dict[str, str], table: LogTable, source: Source, signal: Signal) -> datetime | None:
    """Time of the experiment's metadata, or else the first stamp if it has a date."""
    date, clock = settings.get("Experiment date", ""), settings.get("Experiment time", "")
    stamp = table.texts.get(table.names.index(STAMP), ("", ""))[0]
    try:
        if date:
            return local_time(date, clock, like=source.modified)
        return moment(stamp, like=source.modified)
    except ValueError as fault:
        if date:
            signal.warnings["Creation Time"] = f"The file says {fault}."
        return None


EXTRACTOR = Impulse()
