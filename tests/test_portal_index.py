"""What the portal knows of a session, and its index on disk: only what changed is written, a crash costs nothing."""

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from faults import fail_on_disk
from hypothesis import given
from hypothesis import strategies as st
from publications import KEY, publication

from benchmarks.portal import summaries
from nexuslims_pipeline.inventory.model import InventoryEntry
from nexuslims_pipeline.metadata.fields import FIELDS
from nexuslims_pipeline.metadata.units import quantity, unit_of
from nexuslims_pipeline.portal.front import front_page
from nexuslims_pipeline.portal.index import PortalIndex
from nexuslims_pipeline.portal.quantities import DIMENSIONS, NAMES, conversion, quantities
from nexuslims_pipeline.portal.shards import BASE, DIGITS, FACETS, folded, month_shards, packed
from nexuslims_pipeline.portal.summary import FILE_NAME_CHARACTERS, MOST_SPANS, NUMBERS, Summary, spans, summary
from nexuslims_pipeline.sessions.model import Person, Project, Sample

BOB = Person(username="bob", first_name="Bob", last_name="Müller")


@pytest.fixture(autouse=True)
def quick_disk() -> Iterator[None]:
    """No power cut is tried: a change is there as soon as it is made."""
    with mock.patch("os.fsync"):
        yield


def unpacked(text: str) -> list[int]:
    """Numbers of a packed column, by the words of the module that packs them."""
    numbers, number, worth = [], 0, 1
    for digit in map(DIGITS.index, text):
        number += digit % BASE * worth
        worth *= BASE
        if digit < BASE:
            numbers.append(number)
            number, worth = 0, 1
    return numbers


def shard(portal: Path, month: str, part: str) -> Any:
    """Content of a shard as a browser would see it."""
    text = (portal / "index" / f"{month}.{part}.js").read_text(encoding="ascii")
    found = re.fullmatch(r'nexusIndex\("([\d-]+)","(\w+)","(\w+)",(.*)\);\n', text, re.DOTALL)
    assert found is not None
    assert found.group(1, 2) == (month, part)
    return json.loads(found[4])


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Modification time and content of every file."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


def shards(portal: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (portal / "index").glob("*.js")}


def filled(portal: Path, many: int = 30) -> PortalIndex:
    """An index of sessions over some months."""
    index = PortalIndex(portal)
    for each in spread(many):
        index.put(each)
    index.refresh()
    return index


def spread(many: int) -> list[Summary]:
    """Sessions ten days apart, so that they lie in several months."""
    moved = []
    for n, each in enumerate(summaries(many)):
        start = each.start - timedelta(days=10 * n)
        key = f"{start:%Y-%m-%d}{each.key[10:]}"
        moved.append(each.model_copy(update={"key": key, "start": start, "end": start + timedelta(hours=1)}))
    return moved


def test_a_summary_tells_what_sessions_are_looked_for_by(tmp_path: Path) -> None:
    told = summary(
        publication(
            tmp_path,
            names=["image 1.tif", "image 2.TIF", "spectrum.msa"],
            operator=BOB,
            refused=(InventoryEntry("/Quanta/bad.dm3", "refused", "damaged"),),
            samples=(
                Sample(id="1", name="weld A", description="etched\nin nital", elements=("Fe", "C")),
                Sample(id="2", pid="hdl:1/2"),
            ),
        )
    )

    assert told.key == KEY
    assert (told.title, told.motivation) == ("Grain boundaries", "To see where the weld cracks.")
    assert told.people == ("Ada Adeyemi (ada)", "Bob Müller (bob)")
    assert (told.instrument_id, told.instrument) == ("Demo-Quanta-SEM", "Quanta SEM – Größe µm")
    assert told.project == "MD-2026-1 – Oxide films"
    assert (told.samples, told.sample_descriptions) == (("weld A", "hdl:1/2"), ("etched in nital",))
    assert told.elements == ("C", "Fe")
    assert told.start.isoformat() == "2026-03-02T09:00:00-07:00"
    assert told.dataset_types == {"Image": 3}
    assert told.extensions == {"msa": 1, "tif": 2}
    assert (told.datasets, told.activities, told.refused, told.warnings) == (3, 2, 1, 1)
    assert told.thumbnail == "/Quanta/image%201.tif.thumb.png"
    assert told.numbers == {"acceleration_voltage": ((10.0, 10.0),)}
    assert Summary.model_validate_json(told.model_dump_json()) == told


def test_a_summary_is_small_however_large_the_session(tmp_path: Path) -> None:
    large = publication(
        tmp_path,
        title="long " * 10_000,
        motivation="why " * 100_000,
        datasets=2000,
        previews=False,
        samples=tuple(Sample(id=str(n), name=f"sample {n} " * 200) for n in range(500)),
        project=Project(name="x" * 10_000),
    )

    told = summary(large)

    assert sum(map(len, told.file_names)) <= FILE_NAME_CHARACTERS
    assert len(told.model_dump_json()) < 30_000
    assert told.datasets == 2000


def test_file_names_that_differ_in_more_than_a_number_go_first(tmp_path: Path) -> None:
    names = [f"a fairly long name of an image {n:04}.tif" for n in range(100)] + ["overview.tif", "z spectrum.msa"]

    assert {"overview.tif", "z spectrum.msa"} <= set(summary(publication(tmp_path, names=names)).file_names)


numbers = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(st.lists(numbers))
def test_spans_hold_all_values_and_little_else(values: list[float]) -> None:
    found = spans(values)

    assert len(found) <= MOST_SPANS
    assert all(low <= high for low, high in found)
    assert all(one[1] < other[0] for one, other in pairwise(found))
    kept = {float(f"{value:.6g}") for value in values}
    assert all(any(low <= value <= high for low, high in found) for value in kept)
    assert {end for span in found for end in span} <= kept
    if len(kept) <= MOST_SPANS:
        assert found == tuple((value, value) for value in sorted(kept))


def test_spans_part_where_the_gaps_are_widest() -> None:
    assert spans([1, 1.1, 80, 200, 200.1, 50_000]) == ((1, 1.1), (80, 80), (200, 200.1), (50_000, 50_000))


def test_every_named_number_can_be_asked_for_in_units_of_its_dimension() -> None:
    tables = quantities()

    dimensions = [{symbol for symbol, *_ in units} for _, units in tables["dimensions"]]
    assert [name for name, *_ in tables["fields"]] == list(NUMBERS)
    assert all(not unit or unit in dimensions[number] for _, _, number, unit, _ in tables["fields"])
    assert NAMES.keys() <= FIELDS.keys()
    for dimension in DIMENSIONS:
        for base, units in dimension.units.items():
            for unit in units:
                factor, offset = conversion(unit, base)
                expected = float(quantity(7.25, unit).m_as(unit_of(base)))
                assert 7.25 * factor + offset == pytest.approx(expected, rel=1e-12)


@given(st.lists(st.integers(0, 2**40)))
def test_packed_numbers_come_out_again(values: list[int]) -> None:
    text = packed(values)

    assert unpacked(text) == values
    assert json.dumps(text) == f'"{text}"'


def test_shards_tell_everything_of_each_session(tmp_path: Path) -> None:
    made = list(summaries(40))
    index = PortalIndex(tmp_path)
    for each in made:
        index.put(each)
    index.refresh()

    by_key = {each.key: each for each in made}
    seen = []
    for month in index.months():
        facets, more, rows, columns, words = (
            shard(tmp_path, month.name, part) for part in ("facets", "more", "rows", "numbers", "words")
        )
        here = [by_key[key] for key in rows["key"]]
        seen += rows["key"]
        assert len(here) == len(words) == month.sessions
        assert here == sorted(here, key=lambda each: -each.start.timestamp())
        starts = [facets["from"]]
        for gap in unpacked(facets["start"])[1:]:
            starts.append(starts[-1] - gap)
        assert starts == [each.start.timestamp() // 60 for each in here]
        assert unpacked(facets["offset"]) == [1440 - 7 * 60] * len(here)
        for name, (part, names_of) in FACETS.items():
            filed = {"facets": facets, "more": more}[part][name]
            found, counts = unpacked(filed["of"]), []
            while found:
                many, *found = found
                counts.append([filed["names"][number] for number in found[:many]])
                found = found[many:]
            assert counts == [list(names_of(each)) for each in here]
        for field, (places, those) in columns.items():
            told: dict[int, list[tuple[float, float]]] = {}
            for place, span in zip(places, those, strict=True):
                told.setdefault(place, []).append(tuple(span) if isinstance(span, list) else (span, span))
            assert told == {n: list(each.numbers[field]) for n, each in enumerate(here) if field in each.numbers}
        for each, text in zip(here, words, strict=True):
            assert text.startswith(folded(each.title) + "\n")
            for part in (*each.people, each.instrument_id, *each.samples, *each.file_names, each.motivation):
                assert folded(part) in text
    assert sorted(seen) == sorted(by_key)


def test_only_shards_of_months_that_changed_are_written(tmp_path: Path) -> None:
    index = filled(tmp_path)
    before = tree(tmp_path)
    changed = spread(30)[7]
    month = changed.key[:7]

    assert index.refresh().rewritten == ()
    assert tree(tmp_path) == before
    assert not index.put(changed)
    assert index.put(changed.model_copy(update={"title": "another title"}))
    report = index.refresh()

    assert (report.rewritten, report.removed, report.sessions) == ((month,), (), 30)
    after = tree(tmp_path)
    touched = {name for name in after if after[name] != before.get(name)}
    assert touched == {
        *(f"index/{month}.{part}.js" for part in ("facets", "more", "rows", "numbers", "words")),
        f"index/sessions/{changed.key[:4]}/{changed.key}.json",
        "index/shards.json",
    }
    assert "another title" in shard(tmp_path, month, "rows")["title"]


def test_the_same_sessions_give_the_same_bytes_in_whatever_order(tmp_path: Path) -> None:
    one = filled(tmp_path / "one")
    other = PortalIndex(tmp_path / "other")
    for each in reversed(spread(30)):
        other.put(each)
        if each.start.month % 2:
            other.refresh()
    other.refresh()

    assert shards(tmp_path / "one") == shards(tmp_path / "other")
    assert one.months() == other.months()
    assert front_page(one) == front_page(other)


def test_nothing_of_a_removed_session_stays(tmp_path: Path) -> None:
    index = filled(tmp_path)
    secret = spread(30)[3].model_copy(
        update={
            "title": "Geheimnis",
            "people": ("Tarnkappe (tk)",),
            "samples": ("Nibelungen",),
            "file_names": ("Hort.tif",),
        }
    )
    alone = secret.model_copy(update={"key": f"1999-01-01{secret.key[10:]}", "start": secret.start.replace(year=1999)})
    for each in (secret, alone):
        index.put(each)
    index.refresh()
    (tmp_path / "index/sessions/1999/.0123456789abcdef.tmp").write_bytes(alone.model_dump_json().encode()[:300])
    words = [b"geheimnis", b"tarnkappe", b"nibelungen", b"hort.tif", secret.key.encode().lower(), b"1999-01"]
    assert all(any(word in content.lower() for _, content in tree(tmp_path).values()) for word in words)

    assert index.remove(secret.key)
    assert index.remove(alone.key)
    assert not index.remove(alone.key)
    report = index.refresh()

    assert (report.rewritten, report.removed, report.sessions) == ((secret.key[:7],), ("1999-01",), 29)
    for name, (_, content) in tree(tmp_path).items():
        assert not any(word in content.lower() or word.decode() in name.lower() for word in words), name


def test_a_file_that_is_no_summary_is_told_and_healed(tmp_path: Path) -> None:
    index = filled(tmp_path)
    each = spread(30)[5]
    path = tmp_path / "index" / "sessions" / each.key[:4] / f"{each.key}.json"
    path.write_bytes(path.read_bytes()[:100])

    assert index.refresh().unreadable == index.refresh().unreadable == (path,)
    assert index.refresh().sessions == 29
    index.put(each)
    report = index.refresh()

    assert (report.sessions, report.unreadable) == (30, ())
    filled(tmp_path / "clean")
    assert shards(tmp_path) == shards(tmp_path / "clean")


@pytest.mark.parametrize("damage", ["shard", "state", "version"])
def test_what_is_lost_of_the_index_is_made_again(tmp_path: Path, damage: str) -> None:
    index = filled(tmp_path)
    good, state = shards(tmp_path), tmp_path / "index" / "shards.json"
    next((tmp_path / "index").glob("*.words.js")).unlink()
    if damage == "state":
        state.write_bytes(b"{")
    elif damage == "version":
        state.write_bytes(state.read_bytes().replace(b'"version": "', b'"version": "0.'))

    index.refresh()

    assert shards(tmp_path) == good


def killed(folder: Path, n: int, act: Callable[[], object]) -> bool:
    """Do something in a child that dies before its N-th change below a folder; whether it died."""
    child = os.fork()
    if child == 0:
        fail_on_disk(folder, n, lambda: os.kill(os.getpid(), signal.SIGKILL))
        act()
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_a_death_at_any_point_is_healed_by_the_next_run(tmp_path: Path) -> None:
    made = spread(6)
    gone, changed = made[1], made[3].model_copy(update={"title": "changed"})

    def act(portal: Path) -> None:
        index = PortalIndex(portal)
        index.put(changed)
        index.remove(gone.key)
        index.refresh()

    filled(tmp_path / "clean", 6)
    act(tmp_path / "clean")
    expected = shards(tmp_path / "clean")
    deaths = 0
    for n in range(1, 1000):
        portal = tmp_path / str(n)
        filled(portal, 6)
        if not killed(portal, n, lambda portal=portal: act(portal)):
            break
        deaths += 1
        act(portal)
        assert shards(portal) == expected, n
        assert PortalIndex(portal).refresh().rewritten == (), n
        assert not any(gone.key.encode() in content for _, content in tree(portal).values()), n
        assert not list((portal / "index").glob(".*.tmp")), n
    assert deaths > 20


def test_a_session_stays_in_the_month_of_its_key(tmp_path: Path) -> None:
    """An edit in NEMO may move the start; the page's address, too, is of the key."""
    index = filled(tmp_path)
    each = spread(30)[0]
    index.put(each.model_copy(update={"start": each.start - timedelta(days=400), "end": each.end}))

    assert index.refresh().rewritten == (each.key[:7],)


@pytest.mark.parametrize("key", ["../../etc/passwd", "2026-03-02", "2026-03-02_a/b_nemo-1", ""])
def test_a_key_that_is_none_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="session key"):
        Summary.model_validate({**next(summaries(1)).model_dump(), "key": key})


def test_times_before_1970_and_of_far_zones_are_kept() -> None:
    each = next(summaries(1, newest=date(1965, 1, 5)))
    east = each.model_copy(update={"start": each.start.astimezone(UTC), "end": each.start - timedelta(hours=1)})

    content = json.loads(month_shards("1965-01", [each, east]).parts["facets"].split(b",", 3)[3][:-3])

    assert content["from"] == each.start.timestamp() // 60
    assert unpacked(content["length"])[1] == 0
