"""Reading what instruments write as text: unknown encodings, dates of many countries, XML of any making."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any, Final
from unicodedata import combining, normalize

from nexuslims_pipeline.extraction.model import ExtractionError
from nexuslims_pipeline.metadata.elements import ELEMENTS as ELEMENTS  # noqa: PLC0414 - formats know it by this module
from nexuslims_pipeline.signals import Source

LARGEST: Final = 1e15
"""No instrument means a number beyond this, whatever the unit: vendors write rows of nines for "unknown"."""
FIRST_YEAR, END_YEAR = 1960, 2100
"""No data are older than the first of these years, nor as late as the second."""
UNITS_AS_WRITTEN: Final = {
    **{unit: unit for unit in (
        "kV", "V", "mV", "eV", "keV", "A", "mA", "nA", "pA", "m", "cm", "mm", "nm", "pm", "s", "ms", "ns", "rad",
        "mrad", "deg", "K", "Pa", "mPa", "hPa", "kPa", "mbar", "bar", "torr", "Hz", "kHz", "MHz",
    )},
    "uA": "µA", "µA": "µA", "μA": "µA", "?A": "µA", "um": "µm", "µm": "µm", "μm": "µm", "?m": "µm", "Î¼m": "µm",
    "us": "µs", "µs": "µs", "μs": "µs", "urad": "µrad", "µrad": "µrad", "μrad": "µrad", "Å": "angstrom", "%": "percent",
    "°": "deg", "º": "deg", "°C": "degC", "degC": "degC", "Torr": "torr", "volt": "V", "volts": "V", "kilovolts": "kV",
    "microamps": "µA", "nanoamps": "nA", "picoamps": "pA", "microns": "µm", "micron": "µm", "millimeters": "mm",
    "degrees": "deg", "micro radians": "µrad", "electronvolts": "eV", "usec": "µs", "msec": "ms", "sec": "s",
    "secs": "s", "min": "min", "mins": "min", "hours": "hour", "unitless": "", "x": "", "kx": "k", "k x": "k", "k": "k",
}  # fmt: skip
"""Units as instruments write them, and as pint does; ``?`` is a µ that some code page lost, ``k`` a thousand."""
_BYTE_ORDER_MARKS: Final = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
_MEASURED = re.compile(r"[=\s]*([-+]?(?:\d[\d.,]*|[.,]\d+)(?:[eE][-+]?\d+)?)(.*)", re.DOTALL)
HEAD_BYTES: Final = 4096
TEXT_BYTES: Final = 64 << 10
"""How much of a text that describes an image is read; real ones have 1 to 10 kB."""
LABEL_LIMIT: Final = 4000
"""Characters after which a text of several lines is cut."""
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""Control characters but tab and line feed, and what no XML may hold."""
_JAPANESE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]{2}")
_INVISIBLE = re.compile(r"[\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
"""Marks of writing direction, which Windows puts into dates."""
MOST_OF_A_DATE: Final = 200
"""Characters; no date is longer."""
_AFTERNOON = ("pm", "午後", "下午", "오후", "nachm", "μμ")
_HALF_OF_DAY = r"[ap]\.?\s?m\.?(?![^\W\d_])|午前|午後|上午|下午|오전|오후|vorm\.|nachm\.|[πμ]\.?μ\.?"
_CLOCK_FORM = (
    rf"(?i)(?:(?P<before>{_HALF_OF_DAY})\s*)?(?<![\d:])(?P<hour>\d{{1,2}})"
    rf"(?:SEPARATOR)(?P<minute>\d{{2}})(?:(?:SEPARATOR|\s?min\s?)(?P<second>\d{{2}})(?:[.,](?P<fraction>\d+))?)?"
    rf"(?!\d|:\d)(?:\s*(?P<after>{_HALF_OF_DAY}))?"
)
_CLOCK = re.compile(_CLOCK_FORM.replace("SEPARATOR", r":|\s?h\s?"))
_LOOSE_CLOCK = re.compile(_CLOCK_FORM.replace("SEPARATOR", r"[:.]|\s?h\s?"))
"""Where no date is near, dots may stand between hours, minutes and seconds."""
_COMPACT_CLOCK = re.compile(
    r"(?:(?<=\d[Tt ])|(?<=\d{8})|^)(?P<hour>\d{2})(?P<minute>\d{2})(?P<second>\d{2})(?:[.,](?P<fraction>\d+))?(?!\d)"
)
_ZONE = re.compile(
    r"\s*(?:(?P<named>Z|UTC|GMT)(?![A-Za-z])\s*)?"
    r"(?:(?P<sign>[+\-−])(?P<hours>\d{2}|(?(named)\d|(?!)))(?::?(?P<minutes>\d{2}))?(?![\d:./-])|(?(named)|(?!)))"
)
"""``Z``, ``UTC``, ``+01:00``, ``-0530``, ``+01``, ``GMT+1``."""
_ZONE_AT_THE_END = re.compile(r"\s(?P<sign>[+\-−])(?P<hours>\d{2}):?(?P<minutes>\d{2})$")
_MONTH_STARTS = (
    ("jan", "ene", "gen"), ("feb", "fev"), ("mar", "mrz", "maa"), ("apr", "avr", "abr"), ("mai", "may", "mag", "mei"),
    ("jun", "juin", "giu"), ("jul", "juil", "lug"), ("aug", "aou", "ago"), ("sep", "set"), ("oct", "okt", "ott", "out"),
    ("nov",), ("dec", "dez", "dic"),
)  # fmt: skip
"""How months begin in English, German, French, Spanish, Italian, Portuguese and Dutch, without accents."""
_WEEKDAYS_LIKE_MONTHS = ("mard", "mart", "maan")
"""Tuesday in French, Spanish and Italian; Monday in Dutch."""


def decode(raw: bytes) -> tuple[str, str]:
    """Text of unknown encoding, without control characters, and the encoding's name.

    A byte order mark decides; else UTF-8, Shift-JIS or Windows-1252, the first that fits. Shift-JIS fits only
    if it gives two Japanese characters in a row: most Latin-1 texts are valid, senseless Shift-JIS too.
    """
    text, encoding = _decoded(raw)
    return _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n")), encoding


def _decoded(raw: bytes) -> tuple[str, str]:
    for mark, encoding in _BYTE_ORDER_MARKS:
        if raw.startswith(mark):
            return raw[len(mark) :].decode(encoding, "replace"), encoding
    for encoding in ("utf-8", "cp932", "cp1252"):
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        if encoding != "cp932" or _JAPANESE.search(text):
            return text, encoding
    return raw.decode("latin-1"), "latin-1"


def describing(source: Source, extension: str, mark: re.Pattern[str]) -> Path | None:
    """The text file that describes an image: a companion, or the file itself when it stands alone.

    Parameters
    ----------
    source
        The image, or the text.
    extension
        Of the text, in lower case and with its dot.
    mark
        What the beginning of such a text holds.
    """
    for path in (source.path, *source.companions):
        if path.suffix.lower() == extension:
            with path.open("rb") as file:
                if mark.search(decode(file.read(HEAD_BYTES))[0]):
                    return path
    return None


def read_text(path: Path) -> str:
    """The first `TEXT_BYTES` of a text file, decoded."""
    with path.open("rb") as file:
        return decode(file.read(TEXT_BYTES))[0]


def number(text: str) -> float:
    """Read the number in `text`; a comma may be its decimal mark.

    Raises
    ------
    ValueError
        With words for a warning if it is none, not finite or absurdly large.
    """
    compact = text.strip()
    if compact.count(",") == 1 and "." not in compact:
        compact = compact.replace(",", ".")
    try:
        value = float(compact)
    except ValueError:
        value = float("nan")
    if not abs(value) <= LARGEST:
        msg = f"the file says {text[:80]!r}, which is no sensible number"
        raise ValueError(msg)
    return value


def measured(text: str) -> tuple[float, str | None]:
    """Read a number and the unit that follows it: ``=  4.28 kV``, ``1.6  Mins``, ``10.00 K X``.

    Returns
    -------
    tuple
        The number and its unit as pint spells it: empty for a pure number that says so, None where nothing is written.

    Raises
    ------
    ValueError
        With words for a warning if there is no sensible number, or the unit is not known.
    """
    parts = _MEASURED.match(text)
    if parts is None:
        return number(text), None
    value, written = number(parts[1]), parts[2].strip()
    if not written:
        return value, None
    unit = UNITS_AS_WRITTEN.get(written, UNITS_AS_WRITTEN.get(written.lower()))
    if unit is None:
        msg = f"the file says {text.strip()[:80]!r}, whose unit is not known"
        raise ValueError(msg)
    return (value * 1000, "") if unit == "k" else (value, unit)


def ini_sections(text: str, name_of: Callable[[str], str] = str) -> dict[str, dict[str, str]]:
    """``[Section]`` and ``Key=value`` lines; keys before the first section belong to section "".

    A line without ``=`` continues the value above it: labels that users write may have several lines. A section
    that comes twice is numbered.

    Parameters
    ----------
    text
        Of `decode`.
    name_of
        The name under which to keep a section, called for each in their order.
    """
    sections: dict[str, dict[str, str]] = {}
    times: dict[str, int] = {}
    current: dict[str, str] = {}
    key = ""
    for line in map(str.strip, text.split("\n")):
        if line.startswith("[") and line.endswith("]"):
            name = name_of(line[1:-1].strip())
            times[name] = times.get(name, 0) + 1
            current, key = {}, ""
            sections[name if times[name] == 1 else f"{name} ({times[name]})"] = current
        elif "=" in line:
            if not sections:
                sections[""] = current
            key, _, value = map(str.strip, line.partition("="))
            current[key] = value
        elif line and key and len(current[key]) < LABEL_LIMIT:
            current[key] += "\n" + line
    return sections


def moment(text: str, *, like: datetime | None = None) -> datetime:
    """Date and time in one text, aware where it names the offset from UTC, with the fraction of the second.

    ISO 8601 (``2020-03-12T14:05:09.25+01:00``, ``20200312T140509Z``), RFC 2822, ``Mon Mar 02 10:11:12 2026`` and
    whatever `local_time` reads.

    Parameters
    ----------
    text
        As the vendor writes it.
    like
        See `local_time`.

    Raises
    ------
    ValueError
        With words for a warning.
    """
    return _likeliest(readings(text), like)


def local_time(date: str, time: str = "", *, like: datetime | None = None) -> datetime:
    """Naive date and time as people of many countries write them.

    Dates such as ``12/18/2017``, ``18.12.17``, ``2017-12-18``, ``18-DEC-2017``, ``18 décembre 2017``,
    ``2017年12月18日``; times such as ``13:04``, ``13:04:14,25``, ``01:04:14 PM``, ``午後 1:04:14``, ``13h04``. Where
    there is a choice, the month comes first with slashes and the day with hyphens, unless `like` tells.

    Parameters
    ----------
    date, time
        The two texts; `time` may be empty when `date` holds both.
    like
        A moment that is known from elsewhere, in the file or of the file: where ``05/06`` may mean two days, the
        nearest one that does not come after it.

    Raises
    ------
    ValueError
        With words for a warning.
    """
    return _likeliest(readings(date, time), like).replace(tzinfo=None)


def readings(date: str, time: str = "") -> list[datetime]:
    """All that date and time may mean, the likeliest first: two where nothing tells day from month.

    Raises
    ------
    ValueError
        With words for a warning when they mean nothing.
    """
    date, time = (_INVISIBLE.sub("", text).strip()[:MOST_OF_A_DATE] for text in (date, time))
    try:
        clock, zone, rest = _time_of_day(time, _LOOSE_CLOCK) if time else _time_of_day(date, _CLOCK)
        found = [datetime(*day, *clock, tzinfo=zone) for day in _days(date if time else rest)]
    except (ValueError, OverflowError):
        found = []
    if not found:
        msg = f"{f'{date} {time}'.strip()[:80]!r} is no date and time"
        raise ValueError(msg)
    return found


def _likeliest(found: list[datetime], like: datetime | None) -> datetime:
    if like is None or len(found) == 1:
        return found[0]
    # A day covers both the offset of a clock whose zone is not known and the minutes between two clocks.
    end = (like.astimezone(UTC) if like.tzinfo else like).replace(tzinfo=None) + timedelta(days=1)
    past = [reading for reading in found if reading.replace(tzinfo=None) <= end]
    return max(past, default=min(found))


def _days(date: str) -> list[tuple[int, int, int]]:
    """Possible (year, month, day), the likeliest first."""
    compact = re.search(r"(?<!\d)(\d{4})(\d{2})(\d{2})(?!\d)", date)
    numbers = list(compact.groups()) if compact else re.findall(r"\d+", date)
    if any(era in date for era in ("令和", "平成", "昭和")) or max(map(len, numbers), default=9) > 4:
        return []
    if len(numbers) == 2 and (month := _month_named_in(date)):
        first, second = numbers
        orders = [(second, month, first), (first, month, second)]
        orders = orders[1:] if len(first) == 4 else orders[:1] if len(second) == 4 else orders
        return [day for order in orders if (day := _day(*order))][:1]
    if len(numbers) != 3:
        return []
    first, second, third = numbers
    if len(first) == 4 or "年" in date or "년" in date:
        orders = [(first, second, third)]
    else:
        month_first, day_first, year_first = (third, first, second), (third, second, first), (first, second, third)
        if "/" in date:
            orders = [month_first, day_first]
        elif "." in date:  # nobody writes the month first with dots: only if nothing else is possible
            return [day for order in (day_first, month_first, year_first) if (day := _day(*order))][:1]
        else:
            orders = [day_first, month_first]
        if not any(_day(*order) for order in orders):
            orders = [year_first]
    days = [day for order in orders if (day := _day(*order))]
    return list(dict.fromkeys(days))


def _month_named_in(date: str) -> str:
    """Number of the month that is named in one of seven languages; the last word counts (``mar. 3 mar.``)."""
    plain = "".join(c for c in normalize("NFKD", date.lower()) if not combining(c))
    for word in reversed(re.findall(r"[^\W\d_]{3,}", plain)):
        for number_, starts in enumerate(_MONTH_STARTS, 1):
            if word.startswith(starts) and not word.startswith(_WEEKDAYS_LIKE_MONTHS):
                return str(number_)
    return ""


def _day(year: str, month: str, day: str) -> tuple[int, int, int] | None:
    """The three as numbers if there is such a day; of two-digit years 69 is the first of the last century."""
    if len(year) not in (2, 4):
        return None
    full = int(year) + (0 if len(year) == 4 else 1900 if int(year) >= 69 else 2000)
    try:
        datetime(full, int(month), int(day))  # noqa: DTZ001 - no zone is known
    except (ValueError, OverflowError):
        return None
    return (full, int(month), int(day)) if FIRST_YEAR <= full < END_YEAR else None


def _time_of_day(text: str, form: re.Pattern[str]) -> tuple[tuple[int, int, int, int], tzinfo | None, str]:
    """Hour to microsecond, the offset from UTC where the text names it, and the text that is left."""
    clock = form.search(text) or _COMPACT_CLOCK.search(text)
    if clock is None:
        raise ValueError
    hour, minute, second = int(clock["hour"]), int(clock["minute"]), int(clock["second"] or 0)
    fraction = int((clock["fraction"] or "0")[:6].ljust(6, "0"))
    groups = clock.groupdict()
    mark = re.sub(r"[\s.]", "", (groups.get("before") or groups.get("after") or "").lower())
    if mark and hour <= 12:
        hour = hour % 12 + 12 * (mark in _AFTERNOON)
    before, after = text[: clock.start()], text[clock.end() :]
    zone = _ZONE.match(after) or _ZONE_AT_THE_END.search(after)
    day_time = (hour, minute, min(second, 59) if second == 60 else second, fraction)
    if zone is None:
        return day_time, None, f"{before} {after}"
    rest = f"{before} {after[: zone.start()]} {after[zone.end() :]}"
    return day_time, _offset(zone["sign"] or "+", zone["hours"] or "0", zone["minutes"] or "0"), rest


def _offset(sign: str, hours: str, minutes: str) -> tzinfo:
    """Zone of a fixed offset from UTC; no place on Earth is more than 14 hours away from it."""
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    if offset > timedelta(hours=14) or int(minutes) > 59:
        raise ValueError
    return timezone(offset if sign == "+" else -offset) if offset else UTC


def filetime(ticks: int) -> datetime:
    """Moment, in UTC, of a Windows FILETIME: tenths of microseconds since 1601-01-01 00:00 UTC.

    https://learn.microsoft.com/en-us/windows/win32/api/minwinbase/ns-minwinbase-filetime

    Raises
    ------
    ValueError
        With words for a warning when it lies outside the years that instruments know.
    """
    return _sensible(_after(datetime(1601, 1, 1, tzinfo=UTC), ticks / 1e7, ticks), ticks)


def ole_date(days: float) -> datetime:
    """Naive moment of an OLE automation date, as in Excel: days since 1899-12-30 00:00 on the instrument's clock.

    https://learn.microsoft.com/en-us/dotnet/api/system.datetime.tooadate

    Raises
    ------
    ValueError
        As of `filetime`.
    """
    return _sensible(_after(datetime(1899, 12, 30), days * 86400, days), days)  # noqa: DTZ001 - no zone is known


def unix_time(seconds: float) -> datetime:
    """Moment, in UTC, of seconds since 1970-01-01 00:00 UTC.

    Raises
    ------
    ValueError
        As of `filetime`.
    """
    return _sensible(_after(datetime(1970, 1, 1, tzinfo=UTC), seconds, seconds), seconds)


def _after(epoch: datetime, seconds: float, count: float) -> datetime:
    try:
        return epoch + timedelta(microseconds=round(seconds * 1e6))
    except (OverflowError, ValueError):
        msg = f"the file says {count}, which is no date"
        raise ValueError(msg) from None


def _sensible(moment: datetime, count: float) -> datetime:
    if FIRST_YEAR <= moment.year < END_YEAR:
        return moment
    msg = f"the file says {count}, which would be in the year {moment.year}"
    raise ValueError(msg)


def parse_xml(raw: bytes) -> Any:
    """Root element of XML without a document type, hence without entities of its own.

    Raises
    ------
    ExtractionError
        If it has one, or is no XML.
    """
    from lxml import etree

    if b"<!doctype" in raw.replace(b"\0", b"").lower():
        msg = "its XML declares a document type, which no instrument does: it is refused unread"
        raise ExtractionError(msg)
    parser = etree.XMLParser(
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(raw, parser)
    except (etree.XMLSyntaxError, ValueError) as fault:
        told = " ".join(str(getattr(fault, "msg", fault)).split())
        msg = f"its XML is damaged ({told[:120]})"
        raise ExtractionError(msg) from fault
    information: Any = root.getroottree().docinfo
    if information.doctype:
        msg = "its XML declares a document type, which no instrument does: it is refused"
        raise ExtractionError(msg)
    return root


def xml_texts(root: Any) -> dict[str, str]:
    """Text of every element that has one, by its path of local names below the root: ``Optics/BeamCurrent``.

    Elements of one path are told apart by a number: ``Detectors/Detector[2]/Gain``.
    """
    texts: dict[str, str] = {}

    def walk(element: Any, path: str) -> None:
        seen: dict[str, int] = {}
        for child in element:
            name = str(child.tag).rpartition("}")[2]
            seen[name] = seen.get(name, 0) + 1
            place = path + name + (f"[{seen[name]}]" if seen[name] > 1 else "")
            if child.text and child.text.strip():
                texts[place] = child.text.strip()
            walk(child, place + "/")

    walk(root, "")
    return texts
