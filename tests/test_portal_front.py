"""The portal's front page in a real browser, from its file: what is found, shown, told, and never run."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from browser import Opened, Watched, chromium, grave_faults, opened
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.sync_api import Page, expect

from benchmarks.portal import summaries, write_portal
from nexuslims_pipeline.metadata.fields import FIELDS
from nexuslims_pipeline.metadata.units import quantity, unit_of
from nexuslims_pipeline.portal.index import PortalIndex
from nexuslims_pipeline.portal.quantities import DIMENSIONS, quantities
from nexuslims_pipeline.portal.shards import folded
from nexuslims_pipeline.portal.summary import NUMBERS as NAMES_OF_NUMBERS
from nexuslims_pipeline.portal.summary import Summary

__all__ = ["chromium", "opened"]

HOSTILE = '<img src=x onerror="window.hacked=1"></script><script>window.hacked=1</script>&lt;b&gt; __proto__ "\'`${1}'


def session(event: int, title: str, start: str, **fields: Any) -> Summary:
    begins = datetime.fromisoformat(start)
    usual: dict[str, Any] = {
        "key": f"{start[:10]}_{fields.get('instrument_id', 'Titan')}_nemo-{event}",
        "title": title,
        "start": begins,
        "end": begins + timedelta(hours=2),
        "instrument_id": "Titan",
        "instrument": "Titan STEM",
        "people": ("Ada Adeyemi (ada)",),
        "dataset_types": {"Image": 2},
        "data_types": {"STEM_Imaging": 2},
        "formats": {"Velox EMD": 2},
        "extensions": {"emd": 1},
        "datasets": 2,
        "activities": 1,
    }
    return Summary.model_validate(usual | fields)


SEM = {
    "instrument_id": "Quanta",
    "instrument": "Quanta SEM",
    "data_types": {"SEM_Imaging": 9},
    "extensions": {"tif": 9},
}
GRAINS = session(
    1, "Grain boundaries of steel", "2026-03-14T23:30:00-07:00",
    samples=("weld A",), elements=("Cr", "Fe"), motivation="To see where it cracks.",
    file_names=("haadf 60.emd",), project="MD-1 – Oxides", refused=1, warnings=3,
    numbers={"acceleration_voltage": [(80, 80), (300, 300)], "pixel_width": [(0.05, 0.2)], "dwell_time": [(10, 10)],
             "magnification": [(100_000, 2_000_000)], "temperature": [(93.15, 93.15)]},
)  # fmt: skip
FILMS = session(
    2, "Ferrite films", "2026-02-03T09:00:00-07:00",
    people=("Bob Müller (bob)", "Ada Adeyemi (ada)"), elements=("O",), motivation="Grain size, too.",
    dataset_types={"Image": 1, "Spectrum": 4}, datasets=5,
    numbers={"acceleration_voltage": [(200, 200)], "pixel_width": [(1, 1)], "exposure_time": [(0.5, 0.5)]},
)  # fmt: skip
CRACKS = session(
    3, "Überblick: cracks", "2025-12-31T08:00:00-07:00", **SEM,
    people=("Bob Müller (bob)",), samples=("weld A", "weld B"), elements=("Fe",), datasets=9,
    dataset_types={"Image": 9}, formats={"FEI/Thermo TIFF": 9},
    numbers={"acceleration_voltage": [(15, 15)], "magnification": [(500, 8000)], "pixel_width": [(12, 250)],
             "chamber_pressure": [(0.005, 0.005)], "landing_energy": [(5, 5)]},
)  # fmt: skip
PLAIN = session(4, "Zeolite", "2024-05-02T08:00:00-06:00", **SEM, datasets=0)
SMALL = (GRAINS, FILMS, CRACKS, PLAIN)


def portal(folder: Path, made: Any, **options: Any) -> str:
    index = PortalIndex(folder)
    with mock.patch("os.fsync"):
        for each in made:
            index.put(each)
        index.refresh()
        write_portal(folder, **options)
    return (folder / "index.html").as_uri()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    return portal(tmp_path_factory.mktemp("small"), SMALL, facility="Test facility")


@pytest.fixture
def page(opened: Opened, small: str) -> Iterator[Page]:
    """The small portal, in which nothing goes wrong."""
    page, watched = opened(small)
    ready(page)
    yield page
    assert watched.errors == []


def ready(page: Page) -> None:
    page.wait_for_selector("#hits[aria-busy=false]:not(:has([aria-busy=true]))", state="attached")


def search(page: Page, text: str) -> list[str]:
    """Titles that a search finds."""
    page.fill("#query", text)
    ready(page)
    return titles(page)


def titles(page: Page) -> list[str]:
    return page.locator("#hits h3").all_text_contents()


def counts(page: Page, facet: str) -> dict[str, int]:
    """Names of a facet with their counts, in the order in which they are shown."""
    labels = page.locator(f"#facet-{facet} li label")
    return {
        str(each.locator(".name").text_content()): int(str(each.locator(".number").text_content()).replace(",", ""))
        for each in labels.all()
    }


def choose(page: Page, facet: str, name: str) -> None:
    page.locator(f"#facet-{facet} label", has=page.get_by_text(name, exact=True)).locator("input").click()
    ready(page)


def chips(page: Page) -> list[str]:
    return page.locator("#chips .chip span").all_text_contents()


def found(*made: Summary) -> list[str]:
    return [each.title for each in made]


TEXTS = {
    "grain": (GRAINS, FILMS),
    "GRAIN boundaries": (GRAINS,),
    '"boundaries of steel"': (GRAINS,),
    '"steel boundaries"': (),
    "muller": (FILMS, CRACKS),
    "MÜLLER weld": (CRACKS,),
    "uberblick": (CRACKS,),
    "quanta": (CRACKS, PLAIN),
    "weld": (GRAINS, CRACKS),
    "fe": (GRAINS, CRACKS),  # the element, not ferrite
    "Fe Cr": (GRAINS,),
    "haadf": (GRAINS,),
    "tif": (CRACKS, PLAIN),
    "velox": (GRAINS, FILMS, PLAIN),
    "oxides": (GRAINS,),
    "nemo-3": (CRACKS,),
    "sem_imaging": (CRACKS, PLAIN),
    "zebra": (),
    " , ": SMALL,
}
NUMBERS = {
    "80 to 200 kV": (GRAINS, FILMS),
    "80-200 kV": (GRAINS, FILMS),
    "between 100 and 250 keV": (FILMS,),  # 80 and 300, with nothing between them
    "300 kV": (GRAINS,),
    "acceleration voltage < 16000 V": (CRACKS,),
    "5 kV": (CRACKS,),  # an energy of 5 keV
    "landing energy 15 kV": (),
    "pixel < 1 nm": (GRAINS,),
    "pixel size ≤ 1 nm": (GRAINS, FILMS),
    "pixel < 1100 pm": (GRAINS, FILMS),
    "pixel > 0.1 µm": (CRACKS,),
    "pixel 0.5 Å": (GRAINS,),
    "magnification > 50k": (GRAINS,),
    "mag at most 1,000": (CRACKS,),
    "1Mx": (GRAINS,),
    "dwell 10 us": (GRAINS,),
    "dwell 0.01 ms": (GRAINS,),
    "temperature < -150 °C": (GRAINS,),
    "vacuum 5e-5 mbar": (CRACKS,),
    "exposure 500 ms": (FILMS,),
    "grain 80-300 kV pixel < 5 nm": (GRAINS, FILMS),
    "pixel < 1": SMALL,  # of which unit? nobody knows yet
}
DATES = {
    "2026": (GRAINS, FILMS),
    "2026-03": (GRAINS,),
    "march 2026": (GRAINS,),
    "2026-03-15": (GRAINS,),  # began the evening before
    "14.03.2026": (GRAINS,),
    "2026-03-16": (),
    "2025-12-31..2026-02-03": (FILMS, CRACKS),
    "since 2026": (GRAINS, FILMS),
    "before 2025": (PLAIN,),
    "after 2024-05-02": (GRAINS, FILMS, CRACKS),
    "2024-2025": (CRACKS, PLAIN),
    "last month": (FILMS,),  # before that of the newest session
    "this year": (GRAINS, FILMS),
    "last year": (CRACKS,),
    "last 2 days": (GRAINS,),
    "yesterday": (),
    '"2026"': (GRAINS, FILMS),  # in their keys
}


@pytest.mark.parametrize("expected", [TEXTS, NUMBERS, DATES], ids=["text", "numbers", "dates"])
def test_a_search_finds(page: Page, expected: dict[str, tuple[Summary, ...]]) -> None:
    assert {text: search(page, text) for text in expected} == {text: found(*made) for text, made in expected.items()}


def test_what_was_understood_is_shown_and_can_be_taken_back(page: Page) -> None:
    assert search(page, "grain pixel < 1 nm 80-200 kV march 2026") == found(GRAINS)
    assert chips(page) == [
        "Pixel Width or Pixel Height < 1\u00a0nm",
        "Any voltage or energy 80–200\u00a0kV",
        "2026-03-01 – 2026-03-31",
    ]

    page.get_by_role("button", name="Remove Any voltage").click()

    expect(page.locator("#query")).to_have_value("grain pixel < 1 nm march 2026")
    expect(page.locator("#query")).to_be_focused()
    search(page, "frames < 1 pixel < 1")
    assert chips(page) == ["Frames < 1", "pixel < 1: of which unit?"]
    search(page, "300 kV")
    expect(page.locator(".measured")).to_have_text("Acceleration Voltage 300 kV")


def test_every_unit_of_every_field_is_read_as_pint_reads_it(page: Page) -> None:
    """Each spelling of each unit that a field may have, all in one batch."""
    asked, expected = [], []
    tables = quantities()
    for (name, display, number, _, _), field in zip(
        tables["fields"], map(FIELDS.__getitem__, NAMES_OF_NUMBERS), strict=True
    ):
        dimension, (_, told) = DIMENSIONS[number], tables["dimensions"][number]
        bases = {unit: base for base, units in dimension.units.items() for unit in units}
        for unit, (_, _, _, spellings) in zip(bases, told, strict=True):
            value = 3.75 if unit not in {"°C", "°F"} else -12.5
            same = next(base for base, units in dimension.units.items() if (field.unit or "dimensionless") in units)
            base = quantity(value, unit).m_as(unit_of(bases[unit]))  # a volt counts as an electronvolt
            wanted = quantity(base, same).m_as(unit_of(field.unit or "dimensionless"))
            for spelling in spellings:
                asked.append(f"{display} > {value} {spelling}")
                expected.append((name, wanted))
    read = page.evaluate(
        """(asked) => {
            const vocabulary = new NexusQuery.Vocabulary(JSON.parse(document.getElementById("start").textContent));
            return asked.map((text) => NexusQuery.parse(text, vocabulary, 0));
        }""",
        asked,
    )

    assert len(asked) > 1000
    for text, items, (name, wanted) in zip(asked, read, expected, strict=True):
        assert [item["kind"] for item in items] == ["number"], text
        (low,) = [field["low"] for field in items[0]["fields"] if field["name"] == name]
        assert low == pytest.approx(float(wanted), rel=1e-9), text


PIECES = """80 to 200 kV < > ≤ - .. nm 1e-4 1,5 2026 2026-03-01 march last month since pixel mag dwell " 50k ° 1/nm − x
    × µ é between and temperature °C in frames '"""
pieces = st.sampled_from(PIECES.split()) | st.text(max_size=8)


@given(st.lists(st.lists(pieces, max_size=8).map(" ".join), min_size=1, max_size=60))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_a_search(page: Page, texts: list[str]) -> None:
    """Items lie one after the other within the text, and intervals are intervals."""
    read = page.evaluate(
        """(texts) => {
            const vocabulary = new NexusQuery.Vocabulary(JSON.parse(document.getElementById("start").textContent));
            return texts.map((text) => [text.length, NexusQuery.parse(text, vocabulary, 20000)]);
        }""",
        texts,
    )
    for length, items in read:
        ends = [place for item in items for place in (item["from"], item["to"])]
        assert ends == sorted(ends)
        assert all(0 <= end <= length for end in ends)
        for item in items:
            assert item.get("first", 0) <= item.get("end", 1)
            assert all(field["low"] <= field["high"] for field in item.get("fields", []))


def test_facets_count_combine_and_follow_the_search(page: Page) -> None:
    assert counts(page, "instrument") == {"Quanta SEM": 2, "Titan STEM": 2}
    assert counts(page, "person") == {"Ada Adeyemi (ada)": 3, "Bob Müller (bob)": 2}
    assert counts(page, "date") == {"2026": 2, "2025": 1, "2024": 1}

    choose(page, "person", "Bob Müller (bob)")
    assert titles(page) == found(FILMS, CRACKS)
    assert counts(page, "person") == {"Bob Müller (bob)": 2, "Ada Adeyemi (ada)": 3}
    assert counts(page, "instrument") == {"Quanta SEM": 1, "Titan STEM": 1}
    choose(page, "instrument", "Titan STEM")
    assert titles(page) == found(FILMS)
    choose(page, "instrument", "Quanta SEM")
    assert titles(page) == found(FILMS, CRACKS)
    assert search(page, "300 kV") == []
    assert search(page, "200 kV") == found(FILMS)
    assert counts(page, "element") == {"O": 1}
    assert chips(page)[1:] == ["Person: Bob Müller (bob)", "Instrument: Titan STEM or Quanta SEM"]

    page.locator("#facet-extension summary").click()
    expect(page.locator("#facet-extension li")).to_have_count(1)
    assert counts(page, "extension") == {"emd": 1}


def test_a_year_opens_its_months(page: Page) -> None:
    choose(page, "date", "2026")
    assert counts(page, "date") == {"2026": 2, "March": 1, "February": 1, "2025": 1, "2024": 1}
    choose(page, "date", "March")
    assert titles(page) == found(GRAINS)


def test_instruments_show_their_activity_and_filter(page: Page) -> None:
    button = page.get_by_role("button", name="Titan STEM: 2 sessions")
    assert str(button.locator("path").get_attribute("d")).count("M") == 2

    button.click()

    assert titles(page) == found(GRAINS, FILMS)
    expect(button).to_have_attribute("aria-pressed", "true")
    expect(button).to_be_focused()


def test_results_are_sorted(page: Page) -> None:
    orders = {
        "newest": SMALL,
        "oldest": SMALL[::-1],
        "title": (FILMS, GRAINS, CRACKS, PLAIN),
        "datasets": (CRACKS, FILMS, GRAINS, PLAIN),
    }
    for order, expected in orders.items():
        page.select_option("#sort", order)
        ready(page)
        assert titles(page) == found(*expected)
    page.select_option("#sort", "relevance")
    assert search(page, "cracks") == found(CRACKS, GRAINS)  # in the title before in the motivation


def test_the_address_tells_the_search(page: Page, opened: Opened) -> None:
    search(page, "weld < 400 kV")
    choose(page, "person", "Bob Müller (bob)")
    page.select_option("#sort", "oldest")
    ready(page)

    other, _ = opened(page.url)
    ready(other)

    assert titles(other) == titles(page) == found(CRACKS)
    expect(other.locator("#query")).to_have_value("weld < 400 kV")
    expect(other.locator("#sort")).to_have_value("oldest")
    page.go_back()
    page.go_back()
    expect(page.locator("#hits h3")).to_have_text(found(GRAINS, CRACKS))
    page.go_back()
    expect(page.locator("#query")).to_have_value("")
    page.go_forward()
    expect(page.locator("#query")).to_have_value("weld < 400 kV")


def test_an_address_that_makes_no_sense_shows_everything(opened: Opened, small: str) -> None:
    page, watched = opened(f"{small}#sort=evil&page=-7&person=nobody&x=%E0%A4%A&__proto__=1")
    ready(page)

    assert titles(page) == []
    page.get_by_role("button", name="Without Person: nobody").click()
    assert titles(page) == found(*SMALL)
    assert watched.errors == []


def test_the_keyboard_reaches_everything(page: Page) -> None:
    page.keyboard.press("Tab")
    expect(page.locator("#skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#results")).to_be_focused()
    page.keyboard.press("/")
    page.keyboard.type("weld/")
    expect(page.locator("#query")).to_have_value("weld/")
    page.keyboard.press("Backspace")
    ready(page)
    for key, title in (("ArrowDown", GRAINS), ("ArrowDown", CRACKS), ("ArrowDown", CRACKS), ("ArrowUp", GRAINS)):
        page.keyboard.press(key)
        expect(page.locator("#hits a:focus")).to_have_text(title.title)
    expect(page.locator("#hits a:focus")).to_have_attribute("href", f"./2026/{GRAINS.key}.html")
    page.keyboard.press("ArrowUp")
    expect(page.locator("#query")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Escape")
    expect(page.locator("#query")).to_be_focused()
    expect(page.get_by_role("status")).to_have_text("2 of 4 sessions")


def test_the_keyboard_keeps_its_place_in_the_filters(page: Page) -> None:
    box = page.locator("#facet-instrument label", has_text="Titan").locator("input")
    box.focus()
    page.keyboard.press("Space")
    ready(page)

    expect(page.locator("#facet-instrument label", has_text="Titan").locator("input")).to_be_focused()
    assert titles(page) == found(GRAINS, FILMS)


def test_no_result_says_what_would_give_some(page: Page) -> None:
    assert search(page, "weld 200 kV") == []

    expect(page.locator("#nothing h3")).to_have_text("No session meets all of this")
    assert page.locator("#nothing li").all_text_contents() == [
        "Without Any voltage or energy 200\u00a0kV 2 sessions",
        "Without “weld” 1 session",
        "Begin anew 4 sessions",
    ]
    page.get_by_role("button", name="Without Any voltage").click()
    assert titles(page) == found(GRAINS, CRACKS)


def test_hints_of_a_search_with_a_date_count_all_months(page: Page) -> None:
    assert search(page, "weld 2024") == []

    expect(page.locator("#nothing li").first).to_have_text("Without 2024-01-01 – 2024-12-31 2 sessions")


def test_an_empty_portal_says_so(opened: Opened, tmp_path: Path) -> None:
    page, watched = opened(portal(tmp_path, []))
    ready(page)

    expect(page.locator("#nothing")).to_contain_text("No session is in this portal yet")
    assert watched.errors == []
    assert grave_faults(page) == []


@pytest.mark.parametrize("how", ["file", "http"])
def test_hostile_texts_are_texts(opened: Opened, tmp_path: Path, how: str) -> None:
    names = {HOSTILE: 1, "__proto__": 2, "constructor": 3}
    texts: dict[str, Any] = {
        **dict.fromkeys(("people", "samples", "sample_descriptions", "file_names"), (HOSTILE,)),
        **dict.fromkeys(("motivation", "project", "instrument"), HOSTILE),
        **dict.fromkeys(("dataset_types", "data_types", "formats", "extensions"), names),
    }
    made = [
        session(1, HOSTILE, "2026-03-14T10:00:00+00:00", **texts, thumbnail='/x" onerror="window.hacked=1'),
        session(2, "x" * 200, "2026-03-13T10:00:00+00:00"),
        session(3, "\u202eevil\u0007 \u2028 \U0001f52c", "2026-03-12T10:00:00+00:00"),
    ]
    portal(tmp_path / "portal", made, facility=HOSTILE)
    with served(tmp_path) if how == "http" else nullcontext(f"{tmp_path.as_uri()}/") as address:
        page, watched = opened(f"{address}portal/index.html#q=window.hacked&instrument=%3Cscript%3E")
        ready(page)
        page.get_by_role("button", name="Begin anew").click()
        for facet in ("sample", "project", "format", "extension"):
            page.locator(f"#facet-{facet} summary").click()
        expect(page.locator("#facet-extension li")).to_have_count(4)
        assert titles(page) == found(*made)
        assert search(page, '"<img src"') == [HOSTILE]
        assert page.evaluate("window.hacked") is None
        assert page.locator("#portal script, #hits img[onerror]").count() == 0
        assert [asked for asked in watched.addresses if not asked.startswith((address, "data:"))] == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert [error for error in watched.errors if "ERR_FILE_NOT_FOUND" not in error and "404" not in error] == []


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A web server of a folder."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def test_the_page_itself_lets_no_script_in(opened: Opened, small: str) -> None:
    """Even where something were let through, the page's policy would not run it."""
    page, _ = opened(small)
    ran = page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.hacked = 1";
            document.body.append(script);
            return window.hacked === 1;
        }"""
    )
    assert not ran


def test_a_shard_that_cannot_be_read_is_told_and_tried_again(opened: Opened, tmp_path: Path) -> None:
    address = portal(tmp_path, SMALL)
    path = tmp_path / "index" / "2025-12.facets.js"
    content = path.read_bytes()
    for damaged in (None, content[:-40]):
        if damaged is None:
            path.unlink()
        else:
            path.write_bytes(damaged)
        page, _ = opened(address)
        ready(page)
        expect(page.get_by_role("alert")).to_contain_text("1 session of 2025-12 may be missing here")
        assert titles(page) == found(GRAINS, FILMS, PLAIN)
        path.write_bytes(content)
        page.get_by_role("button", name="Try again").click()
        expect(page.locator("#hits h3")).to_have_count(4)
        expect(page.get_by_role("alert")).to_be_empty()


def test_a_page_that_is_older_than_the_index_says_so(opened: Opened, tmp_path: Path) -> None:
    address = portal(tmp_path, SMALL)
    page, _ = opened(address)
    ready(page)
    index = PortalIndex(tmp_path)
    index.put(CRACKS.model_copy(update={"title": "changed"}))
    index.refresh()

    assert search(page, "weld") == found(GRAINS)

    write_portal(tmp_path)
    page.get_by_role("button", name="Load it again").click()
    expect(page.locator("#hits h3")).to_have_text(["Grain boundaries of steel", "changed"])


def test_without_javascript_the_newest_are_listed(opened: Opened, tmp_path: Path) -> None:
    page, _ = opened(
        portal(tmp_path, [*SMALL, session(9, HOSTILE, "2023-01-01T10:00:00+00:00")]), java_script_enabled=False
    )

    expect(page.locator(".plain p")).to_contain_text("Searching needs JavaScript. These are all 5 sessions")
    links = page.locator(".plain a")
    assert links.all_text_contents() == [*found(*SMALL), HOSTILE]
    assert links.first.get_attribute("href") == f"./2026/{GRAINS.key}.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1600])
def test_nothing_bars_anyone(opened: Opened, small: str, scheme: str, width: int) -> None:
    page, watched = opened(small, color_scheme=scheme, viewport={"width": width, "height": 900})
    ready(page)
    if width == 360:
        page.get_by_role("button", name="Filters").click()
    page.locator("#help summary").click()

    for text in ("", "weld pixel < 300 nm pixel < 1", "zebra"):
        search(page, text)
        assert watched.errors == []
        assert grave_faults(page) == []
        watched.errors.clear()  # axe asks for the style sheets, which the page's policy does not allow
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_dark_is_dark(opened: Opened, small: str) -> None:
    shades = {}
    for scheme in ("light", "dark"):
        page, _ = opened(small, color_scheme=scheme)
        colour = page.evaluate("getComputedStyle(document.querySelector('.search')).backgroundColor")
        shades[scheme] = sum(map(int, colour.strip("rgb()").split(",")[:3]))
    assert shades["dark"] < 150 < 600 < shades["light"]


def test_print_shows_the_results_and_what_was_searched(page: Page) -> None:
    search(page, "weld < 400 kV")
    page.emulate_media(media="print")

    expect(page.locator("#hits h3").first).to_be_visible()
    expect(page.locator(".chip span")).to_be_visible()
    for hidden in ("#query", "aside", "#activity", "#pager", ".chip button"):
        expect(page.locator(hidden)).to_be_hidden()


# Many sessions

MANY = 5000


@pytest.fixture(scope="module")
def many() -> list[Summary]:
    return [each.model_copy(update={"thumbnail": ""}) for each in summaries(MANY)]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, many: list[Summary]) -> str:
    return portal(tmp_path_factory.mktemp("large"), many)


@pytest.fixture
def large_page(opened: Opened, large: str) -> Iterator[tuple[Page, Watched]]:
    page, watched = opened(large)
    ready(page)
    yield page, watched
    assert watched.errors == []


def test_only_what_is_needed_is_loaded(large_page: tuple[Page, Watched], many: list[Summary]) -> None:
    page, watched = large_page
    months = {each.key[:7] for each in many}

    def loaded(part: str) -> int:
        return sum(f".{part}.js" in address for address in watched.addresses)

    assert {part: loaded(part) for part in ("facets", "rows", "words", "numbers", "more")} == {
        "facets": len(months), "rows": 1, "words": 0, "numbers": 0, "more": 0
    }  # fmt: skip
    search(page, "200 kV 2026-06-15")
    assert loaded("numbers") == 1
    search(page, "200 kV")
    assert (loaded("numbers"), loaded("words")) == (len(months), len(months))


def test_searches_of_many_sessions_agree_with_python(large_page: tuple[Page, Watched], many: list[Summary]) -> None:
    page, _ = large_page

    def meets(each: Summary, field: str, low: float, high: float) -> bool:
        return any(least <= high and most >= low for least, most in each.numbers.get(field, ()))

    def mentions(each: Summary, word: str) -> bool:
        texts = (each.title, *each.people, *each.samples, *each.sample_descriptions, each.motivation, *each.file_names)
        return word in folded(" ".join(texts))

    expected = {
        "oxide": [each for each in many if mentions(each, "oxide")],
        "muller cathode": [each for each in many if mentions(each, "muller") and mentions(each, "cathode")],
        "acceleration voltage 80 to 200 kV": [each for each in many if meets(each, "acceleration_voltage", 80, 200)],
        "camera 230 mm": [each for each in many if meets(each, "camera_length", 229.5, 230.5)],
        "working distance > 11.5 mm": [each for each in many if meets(each, "working_distance", 11.500001, 99)],
        "may 2026": [
            each for each in many if each.start.strftime("%Y-%m") == "2026-05" or f"{each.end:%Y-%m}" == "2026-05"
        ],
    }
    for text, those in expected.items():
        assert search(page, text)[:3] == found(*those)[:3]
        assert page.locator("#count").text_content() == f"{len(those):,} of {MANY:,} sessions"
        instruments = Counter(each.instrument for each in those)
        assert counts(page, "instrument") == dict(sorted(instruments.items(), key=lambda pair: (-pair[1], pair[0])))
        assert sum(
            int(str(n).replace(",", "")) for n in page.locator(".instrument .number").all_text_contents()
        ) == len(those)


def test_pages_lead_through_all_results(large_page: tuple[Page, Watched], many: list[Summary]) -> None:
    page, _ = large_page
    expect(page.locator("#place")).to_have_text("Page 1 of 100")
    seen = titles(page)
    for _ in range(12):
        page.get_by_role("button", name="Next").click()
        expect(page.locator("#hits li[aria-busy]")).to_have_count(0)
        seen += titles(page)

    assert seen == found(*many)[: len(seen)]
    assert "page=13" in page.url
    page.go_back()
    expect(page.locator("#place")).to_have_text("Page 12 of 100")
    page.locator("#facet-instrument input[type=checkbox]").first.click()
    expect(page.locator("#place")).to_contain_text("Page 1 of")


def test_a_long_facet_can_be_searched(large_page: tuple[Page, Watched], many: list[Summary]) -> None:
    page, _ = large_page
    people = Counter(name for each in many for name in each.people)
    assert counts(page, "person") == dict(sorted(people.items(), key=lambda pair: (-pair[1], pair[0]))[:8])

    page.get_by_role("button", name=f"All {len(people)}").click()
    page.keyboard.type("muller")

    shown = counts(page, "person")
    assert shown == {name: n for name, n in people.items() if "Müller" in name}
    expect(page.locator("#look-person")).to_be_focused()


def test_the_page_holds_its_data_as_data(small: str) -> None:
    """The front page is one file; what it starts from can be read without a browser."""
    text = Path(small.removeprefix("file://")).read_text(encoding="utf-8")
    start = json.loads(text.partition('type="application/json">')[2].partition("</script>")[0])

    assert [name for name, _, _ in start["months"]] == ["2026-03", "2026-02", "2025-12", "2024-05"]
    assert "http:" not in text
    assert "https:" not in text
