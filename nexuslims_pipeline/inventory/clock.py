"""Exact times: file systems count nanoseconds, `datetime` counts microseconds, floats count neither."""

from datetime import UTC, datetime, timedelta, tzinfo

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def nanoseconds(duration: timedelta) -> int:
    """Length of `duration`."""
    return duration // timedelta(microseconds=1) * 1000


def instant(moment: datetime) -> int:
    """Nanoseconds from 1970 to `moment`."""
    return nanoseconds(moment - _EPOCH)


def moment(instant_ns: int, zone: tzinfo | None = UTC) -> datetime:
    """Time that lies `instant_ns` after 1970, cut to microseconds."""
    return (_EPOCH + timedelta(microseconds=instant_ns // 1000)).astimezone(zone)


def stamp(when: datetime) -> str:
    """Time for people: ``2026-03-02 10:11:12 -07:00``."""
    text = when.isoformat(sep=" ", timespec="seconds")
    return f"{text[:19]} {text[19:]}"
