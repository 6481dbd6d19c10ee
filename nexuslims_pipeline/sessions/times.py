"""Times as a NEMO server writes them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

_FRACTION = re.compile(r"\.[0-9]+")


@dataclass(frozen=True, slots=True)
class ServerClock:
    """How a server writes its times.

    A time with an offset is taken as it stands. One without (a server with its own format) is on the server's
    clock; of an hour that happens twice, the first is meant unless only the second makes sense.
    """

    time_zone: str | None = None
    """IANA zone of times without an offset; None: the zone of this machine, as in NexusLIMS."""
    strptime_format: str | None = None
    """Format of a server that does not send ISO 8601."""

    def parse(self, text: object, *, fold: int = 0) -> datetime:
        """Moment that `text` names, with a fixed offset.

        Raises
        ------
        ValueError
            If it names none between 1970 and 8999.
        """
        if not isinstance(text, str) or len(text) > 100:
            msg = f"{str(text)[:100]!r} is no time"
            raise ValueError(msg)
        moment = self._read(text.strip())
        if not 1970 <= moment.year < 9000:
            msg = f"'{text}' is no time that makes sense"
            raise ValueError(msg)
        if moment.utcoffset() is None:
            moment = moment.replace(fold=fold)
            moment = moment.replace(tzinfo=ZoneInfo(self.time_zone)) if self.time_zone else moment.astimezone()
        # Python compares two times of one zone by their clock digits: wrong where the clock was put back.
        return moment.replace(tzinfo=timezone(moment.utcoffset() or timedelta(0)), fold=0)

    def is_naive(self, text: str) -> bool:
        """Whether a readable time says nothing about its zone."""
        return self._read(text.strip()).utcoffset() is None

    def _read(self, text: str) -> datetime:
        if self.strptime_format:
            for candidate in (text, _FRACTION.sub("", text)):
                try:
                    return datetime.strptime(candidate, self.strptime_format)  # noqa: DTZ007
                except ValueError:
                    continue
        return datetime.fromisoformat(text)

    def window(self, row: Mapping[str, Any]) -> tuple[datetime, datetime | None]:
        """Start and end of a usage event or reservation; the end is None while the instrument is in use.

        Raises
        ------
        ValueError
            If the times are malformed, or the end lies before the start.
        """
        start = self.parse(row.get("start"))
        if row.get("end") is None:
            return start, None
        end = self.parse(row["end"])
        if end < start:
            end = self.parse(row["end"], fold=1)
        if end < start:
            msg = f"it ends ({row['end']}) before it starts ({row['start']})"
            raise ValueError(msg)
        return start, end
