"""Session keys: one readable name per use of an instrument, fixed when NEMO first tells of it."""

import re
from datetime import date, datetime, tzinfo
from typing import NamedTuple
from zoneinfo import ZoneInfo

_KEY = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})_(?P<instrument>[A-Za-z0-9.-]+)_(?P<server>[A-Za-z0-9.]+)-(?P<event>[0-9]{1,18})"
)


class SessionKey(NamedTuple):
    """What a session key says."""

    start_date: date
    """Date on which the session began, where the instrument stands."""
    instrument_id: str
    server: str
    event_id: int


def session_key(start: datetime, instrument_id: str, server: str, event_id: int, time_zone: str | tzinfo) -> str:
    """Key of a session: ``<start date>_<instrument id>_<server>-<usage event id>``.

    Parameters
    ----------
    start
        Start of the usage event, with its offset.
    instrument_id
        Letters, digits, ``.`` and ``-``.
    server
        Name of the NEMO server: letters, digits and ``.``.
    event_id
        Number of the usage event on that server.
    time_zone
        Zone of the instrument (IANA name or zone), which decides the date.

    Raises
    ------
    ValueError
        If `start` has no offset, or a part has characters that do not fit into a key.
    """
    if start.utcoffset() is None:
        msg = "a session key needs a start with a time zone"
        raise ValueError(msg)
    zone = ZoneInfo(time_zone) if isinstance(time_zone, str) else time_zone
    key = f"{start.astimezone(zone).date().isoformat()}_{instrument_id}_{server}-{event_id}"
    parse_key(key)
    return key


def parse_key(key: str) -> SessionKey:
    """Parts of a session key.

    Raises
    ------
    ValueError
        If `key` is none.
    """
    match = _KEY.fullmatch(key)
    if match is None:
        msg = f"'{key}' is no session key; it looks like 2026-03-02_FEI-Titan-STEM_nemo-4711"
        raise ValueError(msg)
    return SessionKey(date.fromisoformat(match["date"]), match["instrument"], match["server"], int(match["event"]))


def instrument_of(key: str) -> str:
    """Instrument of a session key."""
    return parse_key(key).instrument_id


def event_of(key: str) -> tuple[str, int]:
    """Server and usage event of a session key: what finds the session again whatever is edited in NEMO."""
    parts = parse_key(key)
    return parts.server, parts.event_id
