"""Vendors' texts: dates of many countries, counts since many epochs, unknown encodings, text fit for XML."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from lxml import etree

from nexuslims_pipeline.extraction.vendor_text import (
    decode,
    filetime,
    local_time,
    moment,
    number,
    ole_date,
    readings,
    unix_time,
)

MONTHS = {
    "English": "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec",
    "English, whole": "January February March April May June July August September October November December",
    "German": "Jan. Feb. Mrz. Apr. Mai Jun. Jul. Aug. Sep. Okt. Nov. Dez.",
    "German, whole": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    "French": "janv. févr. mars avr. mai juin juil. août sept. oct. nov. déc.",
    "French, whole": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "Spanish": "ene. feb. mar. abr. may. jun. jul. ago. sept. oct. nov. dic.",
    "Spanish, whole": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "Italian": "gen feb mar apr mag giu lug ago set ott nov dic",
    "Italian, whole": "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
    "Portuguese": "jan fev mar abr mai jun jul ago set out nov dez",
    "Dutch": "januari februari maart april mei juni juli augustus september oktober november december",
}
WEEKDAYS = {
    "English": "Mon Tue Wed Thu Fri Sat Sun",
    "German, whole": "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag",
    "French": "lun. mar. mer. jeu. ven. sam. dim.",
    "French, whole": "lundi mardi mercredi jeudi vendredi samedi dimanche",
    "Spanish, whole": "lunes martes miércoles jueves viernes sábado domingo",
    "Italian": "lun mar mer gio ven sab dom",
    "Italian, whole": "lunedì martedì mercoledì giovedì venerdì sabato domenica",
    "Dutch": "maandag dinsdag woensdag donderdag vrijdag zaterdag zondag",
}
PATTERNS = {
    "German": "{d.day}.{d.month}.{d.year} {d:%H:%M:%S}",
    "German, two digits": "{d:%d.%m.%y, %H:%M:%S} Uhr",
    "US": "{d.month}/{d.day}/{d.year} {hour}:{d:%M:%S} {half}",
    "US, narrow blank": "{d:%m/%d/%Y}, {hour}:{d:%M:%S}\u202f{half}",
    "UK": "{d:%d/%m/%Y %H:%M:%S}",
    "French": "{d:%d/%m/%Y} à {d:%Hh%M:%S}",
    "Dutch": "{d:%d-%m-%Y %H:%M:%S}",
    "Windows' marks": "\u200e{d.day}/\u200e{d.month}/\u200e{d.year} \u200f\u200e{d:%H:%M:%S}",
    "ISO": "{d:%Y-%m-%dT%H:%M:%S}",
    "ISO, basic": "{d:%Y%m%dT%H%M%S}",
    "one number": "{d:%Y%m%d%H%M%S}",
    "slashes": "{d:%Y/%m/%d %H:%M:%S}",
    "EXIF": "{d:%Y:%m:%d %H:%M:%S}",
    "C": "{weekday} {month} {d.day:2} {d:%H:%M:%S} {d.year}",
    "Unix": "{weekday} {month} {d.day:2} {d:%H:%M:%S} CET {d.year}",
    "Oracle": "{d:%d}-{month}-{d:%y %H:%M:%S}",
    "in words": "{weekday} {d.day}. {month} {d.year} {d:%H:%M:%S}",
    "Spanish, in words": "{weekday}, {d.day} de {month} de {d.year}, {hour}:{d:%M:%S} {half_with_stops}",
    "US, in words": "{month} {d.day}, {d.year} {hour}:{d:%M:%S} {half}",
    "Japanese": "{d.year}年{d.month}月{d.day}日 {half_in_japanese}{hour}:{d:%M:%S}",
    "Korean": "{d.year}년 {d.month}월 {d.day}일 {half_in_korean} {hour}:{d:%M:%S}",
}
moments = st.datetimes(datetime(1970, 1, 2), datetime(2068, 12, 31)).map(lambda each: each.replace(microsecond=0))


def written(pattern: str, when: datetime, language: str) -> str:
    weekdays = WEEKDAYS.get(language, WEEKDAYS["English"]).split()
    afternoon = when.hour >= 12
    return PATTERNS[pattern].format(
        d=when,
        hour=when.hour % 12 or 12,
        half="PM" if afternoon else "AM",
        half_with_stops="p. m." if afternoon else "a. m.",
        half_in_japanese="午後" if afternoon else "午前",
        half_in_korean="오후" if afternoon else "오전",
        weekday=weekdays[when.weekday()],
        month=MONTHS[language].split()[when.month - 1],
    )


@given(when=moments, pattern=st.sampled_from(sorted(PATTERNS)), language=st.sampled_from(sorted(MONTHS)))
def test_any_moment_in_any_country_is_read_again(when: datetime, pattern: str, language: str) -> None:
    text = written(pattern, when, language)
    assert when in readings(text)
    assert local_time(text, like=when + timedelta(hours=3)) == when
    assert moment(text, like=when.replace(tzinfo=UTC)) == when


offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
ZONED = ("{d:%Y-%m-%dT%H:%M:%S.%f%z}", "{iso}", "{d:%a, %d %b %Y %H:%M:%S.%f %z}", "{d:%a %b %d %H:%M:%S.%f %Y %z}")


@given(when=st.datetimes(datetime(1970, 1, 2), datetime(2099, 12, 30)), zone=offsets, pattern=st.sampled_from(ZONED))
def test_fractions_and_offsets_are_kept(when: datetime, zone: timezone, pattern: str) -> None:
    aware = when.replace(tzinfo=zone)
    found = moment(pattern.format(d=aware, iso=aware.isoformat()))
    assert (found, found.utcoffset()) == (aware, aware.utcoffset())
    assert local_time(aware.isoformat()) == when


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2020-03-12T14:05:09.123456789Z", "2020-03-12T14:05:09.123456+00:00"),
        ("2020-03-12 14:05:09,5 UTC", "2020-03-12T14:05:09.500000+00:00"),
        ("2020-03-12 14:05:09 GMT+1", "2020-03-12T14:05:09+01:00"),
        ("2020-03-12T14:05:09-05", "2020-03-12T14:05:09-05:00"),
        ("02-Mar-26 10:11", "2026-03-02T10:11:00"),
        ("mar. 3 mar. 2026 14h05", "2026-03-03T14:05:00"),
        ("am 12. März 2020 um 12:05 Uhr", "2020-03-12T12:05:00"),
        ("12/31/1969 12:00:00 AM", "1969-12-31T00:00:00"),
        ("3/4/2020 23:59:60", "2020-03-04T23:59:59"),
    ],
)
def test_moments(text: str, expected: str) -> None:
    assert moment(text).isoformat() == expected


@pytest.mark.parametrize(
    ("text", "like", "expected"),
    [
        ("05/06/2024 10:00", None, "05-06"),
        ("05-06-2024 10:00", None, "06-05"),
        ("05/06/2024 10:00", datetime(2024, 6, 5, 12), "06-05"),
        ("05/06/2024 10:00", datetime(2024, 5, 20), "05-06"),
        ("05/06/2024 10:00", datetime(2024, 6, 5, 1, tzinfo=UTC), "06-05"),
        ("05/06/2024 10:00", datetime(2024, 12, 1), "06-05"),
        ("05/06/2024 10:00", datetime(2020, 1, 1), "05-06"),
        ("5.6.2024 10:00", datetime(2024, 5, 6, 12), "06-05"),
        ("25/06/2024 10:00", None, "06-25"),
    ],
)
def test_another_moment_tells_day_from_month(text: str, like: datetime | None, expected: str) -> None:
    assert f"{local_time(text, like=like):%m-%d}" == expected


@pytest.mark.parametrize(
    ("date", "time"),
    [
        ("", ""),
        ("12.03.2020", ""),
        ("30.02.2020", "10:00"),
        ("31/31/2020", "10:00"),
        ("12/03/2020", "25:00"),
        ("12/03/2020", "10:61"),
        ("12/03/2563", "10:00"),
        ("令和2年3月4日", "10:00"),
        ("32-Mar-2020", "10:00"),
        ("2020-03-12T10:00:00+23:00", ""),
        ("\0\0", "\0"),
        ("9" * 100_000, "9" * 100_000),
    ],
)
def test_impossible_dates_are_refused_in_words(date: str, time: str) -> None:
    with pytest.raises(ValueError, match="is no date and time"):
        local_time(date, time)


@given(st.text(max_size=60), st.text(max_size=30))
def test_any_text_is_a_date_or_refused(date: str, time: str) -> None:
    try:
        found = readings(date, time)
    except ValueError as fault:
        assert "is no date and time" in str(fault)
    else:
        assert all(1960 <= each.year < 2100 for each in found)


@given(moments)
def test_counts_since_the_epochs_of_many_systems(when: datetime) -> None:
    instant = when.replace(tzinfo=UTC)
    assert filetime(round((instant - datetime(1601, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1)) * 10) == instant
    assert unix_time(instant.timestamp()) == instant
    assert abs(ole_date((when - datetime(1899, 12, 30)) / timedelta(days=1)) - when) < timedelta(milliseconds=1)


def test_documented_counts() -> None:
    assert filetime(116444736000000000) == datetime(1970, 1, 1, tzinfo=UTC)
    assert ole_date(36526.25) == datetime(2000, 1, 1, 6)


@pytest.mark.parametrize("read", [filetime, ole_date, unix_time])
@pytest.mark.parametrize("count", [-(10**30), float("nan"), float("inf"), 10**25])
def test_counts_that_are_no_date_are_refused_in_words(read, count) -> None:
    with pytest.raises(ValueError, match="the file says"):
        read(count)


LETTERS = st.characters(min_codepoint=0x20, max_codepoint=0x7E)
ACCENTED = st.text(LETTERS, min_size=1, max_size=6).flatmap(
    lambda word: st.sampled_from("äöüÄÖÜßéèêàçñåøµ°±²").map(lambda letter: word + letter)
)
WESTERN = st.lists(ACCENTED, min_size=1, max_size=5).map(" ".join)
JAPANESE = st.text("試料観察倍率電圧あいうえおアイウエオ走査", min_size=2, max_size=9).flatmap(
    lambda word: st.text(LETTERS, max_size=9).map(lambda plain: f"{plain} {word}")
)
ANY = st.text(st.characters(exclude_categories=("Cc", "Cs", "Cn"), include_characters="\t\n"))


@given(ANY)
def test_unicode_survives(text: str) -> None:
    assume(not text.startswith("\ufeff"))
    raw = text.encode()
    if raw[:2] != b"\xff\xfe":
        assert decode(raw)[0] == text
    assert decode(text.encode("utf-8-sig"))[0] == text
    for order in ("le", "be"):
        assert decode(("\ufeff" + text).encode(f"utf-16-{order}"))[0] == text


@given(WESTERN)
def test_western_text_of_one_byte_survives(text: str) -> None:
    assert decode(text.encode("latin-1")) == (text, "cp1252")


@given(JAPANESE)
def test_japanese_text_of_two_bytes_survives(text: str) -> None:
    assert decode(text.encode("cp932")) == (text, "cp932")


@given(st.binary(max_size=200) | st.text().map(lambda text: text.encode("utf-16", "surrogatepass")))
def test_any_bytes_become_text_that_fits_into_xml(raw: bytes) -> None:
    text, _ = decode(raw)
    assert not any(ord(char) < 32 and char not in "\t\n" for char in text)
    element = etree.Element("value")
    element.text = text
    assert etree.fromstring(etree.tostring(element)).text == (text or None)


@given(st.floats(-1e14, 1e14))
def test_numbers_with_either_decimal_mark(value: float) -> None:
    assert number(repr(value)) == number(repr(value).replace(".", ",")) == value
