"""Reading what instruments write as text: unknown encodings, dates of many countries, XML of any making."""

import re
from datetime import datetime
from typing import Any, Final

from nexuslims_pipeline.extraction.model import ExtractionError

ELEMENTS: Final = (  # noqa: SIM905 - reads like the periodic table
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr "
    "Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta "
    "W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr"
).split()
"""Symbols in the order of atomic numbers, from 1."""
MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
LARGEST: Final = 1e15
"""No instrument means a number beyond this, whatever the unit: vendors write rows of nines for "unknown"."""
_BYTE_ORDER_MARKS: Final = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_JAPANESE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]{2}")
_MORNING = ("am", "a.m.", "午前", "上午", "오전", "vorm.")
_AFTERNOON = ("pm", "p.m.", "午後", "下午", "오후", "nachm.")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,]\d+)?)?(?![\d:])")


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


def local_time(date: str, time: str, *, like: datetime | None = None) -> datetime:
    """Naive date and time as people of many countries write them.

    Dates such as ``12/18/2017``, ``18.12.2017``, ``2017-12-18``, ``18-DEC-2017``, ``2017年12月18日``; times
    such as ``13:04``, ``01:04:14 PM``, ``午後 1:04:14``. With slashes the month comes first, with dots and
    hyphens the day, unless that is impossible.

    Parameters
    ----------
    date, time
        The two texts.
    like
        A moment that the file names elsewhere: where ``05/06`` may mean two days, the one of this moment.

    Raises
    ------
    ValueError
        With words for a warning.
    """
    try:
        hour, minute, second = _time_of_day(time)
        readings = [datetime(*day, hour, minute, second) for day in _days(date)]  # noqa: DTZ001 - no zone is known
    except ValueError:
        readings = []
    if not readings:
        msg = f"{date.strip()[:60]!r} {time.strip()[:60]!r} is no date and time"
        raise ValueError(msg)
    return next((reading for reading in readings if like and reading.date() == like.date()), readings[0])


def _days(date: str) -> list[tuple[int, int, int]]:
    """Possible (year, month, day), the likeliest first."""
    parts = re.findall(r"\d+|[^\W\d_]{3,}", date.strip().lower())
    if len(parts) != 3 and "年" in date:
        parts = re.findall(r"\d+", date)
    if len(parts) != 3:
        return []
    if parts[1][:3] in MONTHS and not parts[1].isdigit():
        orders = [(parts[2], str(MONTHS.index(parts[1][:3]) + 1), parts[0])]
    elif len(parts[0]) == 4:
        orders = [(parts[0], parts[1], parts[2])]
    else:
        month_first, day_first = (parts[2], parts[0], parts[1]), (parts[2], parts[1], parts[0])
        orders = [month_first, day_first] if "/" in date else [day_first, month_first]
    days = [(int(year), int(month), int(day)) for year, month, day in orders if year.isdigit() and len(year) == 4]
    return [day for day in days if _exists(day)]


def _exists(day: tuple[int, int, int]) -> bool:
    try:
        return 1960 <= datetime(*day).year < 2100  # noqa: DTZ001 - no zone is known
    except (ValueError, OverflowError):
        return False


def _time_of_day(time: str) -> tuple[int, int, int]:
    clock = _CLOCK.search(time)
    if clock is None:
        raise ValueError
    hour, minute, second = int(clock[1]), int(clock[2]), int(clock[3] or 0)
    lower = time.lower()
    afternoon = any(mark in lower for mark in _AFTERNOON)
    if afternoon or any(mark in lower for mark in _MORNING):
        hour = hour % 12 + 12 * afternoon if hour <= 12 else hour
    return hour, minute, min(second, 59) if second == 60 else second


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
        msg = f"its XML is damaged ({str(fault)[:120]})"
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
