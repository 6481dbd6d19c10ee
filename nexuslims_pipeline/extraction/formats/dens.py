"""DENSsolutions DigiHeater ``.dens``: logs of heating holders.

Text with tabs: a line of date (day/month/'year) and program, one of the calibration of the heater's resistance, one of
the sampling time, one of the names of the columns, then an entry a line. An entry ends with the kind of regulation,
whose column has no name. Source: https://hyperspy.org/rosettasciio
"""

import re
from datetime import datetime
from typing import ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded
from nexuslims_pipeline.extraction.layouts.holder_log import LONGEST_LINE, log_signal, read_table, unwrapped
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import decode, local_time
from nexuslims_pipeline.signals import Signal, Source

FIRST_LINE: Final = re.compile(
    rb"\s*(\d{1,2})/(\d{1,2})/'(\d{2}) (\d{1,2}:\d{2})\t(Digiheater [^\r\n\t]{1,40})[^\n]*\n"
)
TIME, MEASURED = "time", "Tmeas[C]"
COLUMNS: Final = {
    "Tset[C]": ("Set Temperature", "degC"),
    MEASURED: ("Measured Temperature", "degC"),
    "Rheat[ohm]": ("Heater Resistance", "ohm"),
    "Vheat[V]": ("Heater Voltage", "V"),
    "Iheat[mA]": ("Heater Current", "mA"),
    "Pheat [mW]": ("Heater Power", "mW"),
}
CALIBRATION: Final = {"R0": "ohm", "a": "", "b": "", "c": ""}
SAMPLING: Final = re.compile(r"Tsample\s*=\s*([\d.]+)\s*\[(\w+)\]")


class Dens(Extractor):
    """Logs of DENSsolutions' DigiHeater."""

    name: ClassVar[str] = "dens"
    format_name: ClassVar[str] = "DENSsolutions DigiHeater log"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".dens"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:  # noqa: ARG002 - the head says it all
        """Whether its first line is that of DigiHeater."""
        return FIRST_LINE.match(head) is not None

    def extract(self, source: Source) -> list[Signal]:
        """Read the log.

        Raises
        ------
        ExtractionError
            If it has other columns than DigiHeater's, or no entries.
        """
        facts = Facts()
        with source.path.open("rb") as file:
            first = FIRST_LINE.match(file.read(LONGEST_LINE))
            if first is None:
                msg = "its first line is not that of a DigiHeater log"
                raise ExtractionError(msg)
            day, month, year, clock, program = (decode(part)[0] for part in first.groups())
            file.seek(first.end())
            calibration, sampling, written = (decode(file.readline(LONGEST_LINE))[0].rstrip("\n") for _ in range(3))
            columns = written.rstrip().split("\t")
            if TIME not in columns or MEASURED not in columns:
                msg = "the names of its columns are not those of a DigiHeater log"
                raise ExtractionError(msg)
            names = [COLUMNS.get(name, (name, ""))[0] for name in columns]
            table = read_table(file, names, "\t", clock=TIME, spare=1)
        if not table.rows:
            msg = "its entries do not fit the names of its columns" if table.odd_lines else "the log has no entries"
            raise ExtractionError(msg)
        facts.add("software", program)
        _add_header(calibration, sampling, facts)
        units = {name: unit for name, unit in COLUMNS.values() if name in names}
        signal = log_signal(table, unwrapped(table.column(TIME)), units, facts)
        signal.acquired = _started(f"20{year}-{month}-{day}", clock, signal)
        signal.native = bounded(
            {"program": program, "calibration": calibration, "sampling": sampling, "columns": columns}
        )
        return [signal]


def _add_header(calibration: str, sampling: str, facts: Facts) -> None:
    for part in calibration.split("\t"):
        key, _, value = map(str.strip, part.partition("="))
        if key in CALIBRATION:
            facts.add_written(key, value, CALIBRATION[key], "Heater Calibration")
    if interval := SAMPLING.search(sampling):
        facts.add_written("Sampling Interval", f"{interval[1]} {interval[2]}", "ms")


def _started(date: str, clock: str, signal: Signal) -> datetime | None:
    try:
        return local_time(date, clock)
    except ValueError as fault:
        signal.warnings["Creation Time"] = f"The file says {fault}."
        return None


EXTRACTOR = Dens()
