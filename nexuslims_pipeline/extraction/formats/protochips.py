"""Protochips ``.csv``: logs of Clarity, the program of heating, biasing and gas cell holders.

The first line names the columns: ``Time``, ``Notes``, then what was measured, each name ending with its quantity. The
first entries carry the header as notes, ``Key = value``: date, time, the unit of each quantity, the user. More such
notes (chip, calibration, kind of experiment) and free ones stand where they were made.
Source: https://hyperspy.org/rosettasciio and files of Clarity.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import PureWindowsPath
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded
from nexuslims_pipeline.extraction.layouts.holder_log import (
    LONGEST_LINE,
    MOST_COLUMNS,
    LogTable,
    log_signal,
    read_table,
)
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import decode, local_time
from nexuslims_pipeline.signals import Signal, Source

MARKS: Final = (b"Date (yyyy.mm.dd) =", b"Time units =", b"Temperature units =")
TIME, NOTES = "Time", "Notes"
SECONDS: Final = {"milliseconds": 1e-3, "seconds": 1.0, "minutes": 60.0, "hours": 3600.0}
UNITS: Final = {
    "degrees c": "degC", "degrees f": "degF", "kelvin": "K", "degrees k": "K", "torr": "torr", "millitorr": "mtorr",
    "pascal": "Pa", "pascals": "Pa", "mbar": "mbar", "millibar": "mbar", "bar": "bar", "amps": "A", "milliamps": "mA",
    "microamps": "µA", "nanoamps": "nA", "volts": "V", "millivolts": "mV", "ohms": "ohm", "kiloohms": "kohm",
    "watts": "W", "milliwatts": "mW",
}  # fmt: skip
DATE, CLOCK, USER = "Date (yyyy.mm.dd)", "Time (hh:mm:ss.ms)", "User agreeing to terms"
UNIT_OF: Final = " units"
CALIBRATION: Final = "Calibration file"


class Protochips(Extractor):
    """Logs of Protochips' holders."""

    name: ClassVar[str] = "protochips"
    format_name: ClassVar[str] = "Protochips log"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".csv"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:  # noqa: ARG002 - the head says it all
        """Whether it has the two first columns, and Clarity's header among the notes."""
        names = _names(head.partition(b"\n")[0])
        return names[:2] == [TIME, NOTES] and len(names) > 2 and any(mark in head for mark in MARKS)

    def extract(self, source: Source) -> list[Signal]:
        """Read the log.

        Raises
        ------
        ExtractionError
            If it has no entries.
        """
        facts = Facts()
        with source.path.open("rb") as file:
            names = _names(file.readline(LONGEST_LINE))
            if len(set(names)) < len(names) or len(names) > MOST_COLUMNS:
                msg = "it is damaged: two of its columns have the same name, or there are too many"
                raise ExtractionError(msg)
            table = read_table(file, names, ",", notes=NOTES)
        if not table.rows:
            msg = "the log has no entries"
            raise ExtractionError(msg)
        settings = _settings(table)
        seconds = table.column(TIME) * _time_scale(settings, facts)
        units = {name: _unit(name, settings, facts) for name in names[2:]}
        _add_settings(settings, facts)
        _add_notes(table, seconds, facts)
        signal = log_signal(table, seconds, units, facts)
        signal.acquired = _started(settings, signal)
        signal.native = bounded({"columns": names, "notes": {f"{row}": text for row, text in table.notes}})
        return [signal]


def _names(line: bytes) -> list[str]:
    return [name.strip() for name in decode(line)[0].strip().split(",")]


def _settings(table: LogTable) -> dict[str, str]:
    """Notes of the form ``Key = value``; the first of each key counts."""
    settings: dict[str, str] = {}
    for _, note in table.notes:
        key, sign, value = note.partition(" = ")
        if sign:
            settings.setdefault(key.strip(), value.strip())
    return settings


def _time_scale(settings: Mapping[str, str], facts: Facts) -> float:
    written = settings.get(TIME + UNIT_OF, "")
    if written.lower() not in SECONDS:
        facts.warnings["Duration"] = f"The file says {written[:40]!r} for the unit of its times: milliseconds?"
    return SECONDS.get(written.lower(), SECONDS["milliseconds"])


def _unit(name: str, settings: Mapping[str, str], facts: Facts) -> str:
    """Unit of the quantity that the last word of a column's name tells; empty when the file tells none."""
    written = settings.get(name.rpartition(" ")[2] + UNIT_OF, "")
    unit = UNITS.get(written.lower(), "")
    if written and not unit:
        facts.warnings[name] = f"The file says {written[:40]!r}, which is no known unit."
    return unit


def _add_settings(settings: Mapping[str, str], facts: Facts) -> None:
    for key, value in settings.items():
        if key == USER:
            facts.add("operator", value)
        elif key == CALIBRATION:
            facts.add("Calibration File", PureWindowsPath(value).name)
        elif key not in (DATE, CLOCK) and not key.endswith(UNIT_OF):
            facts.add(key.title(), value)


def _add_notes(table: LogTable, seconds: Any, facts: Facts) -> None:
    """Free notes of the operator, each with its time."""
    notes = [f"{seconds[row]:.1f} s: {text}" for row, text in table.notes if " = " not in text]
    facts.add("Notes", notes)


def _started(settings: Mapping[str, str], signal: Signal) -> datetime | None:
    date = settings.get(DATE, "")
    if not date:
        return None
    try:
        return local_time(date, settings.get(CLOCK, ""))
    except ValueError as fault:
        signal.warnings["Creation Time"] = f"The file says {fault}."
        return None


EXTRACTOR = Protochips()
