"""Withdrawal: nothing of the session stays in the store, in Dagster's history or at a destination but the tombstone."""

import json
import os
import shutil
import sqlite3
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest
from cdcs_server import CdcsNotInstalledError, CdcsProcess
from dagster import AssetKey, AssetRecordsFilter, DagsterInstance, DagsterRunStatus
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from facility import CERAMIC, DECLINED, EMPTY, KEYS, WELD, WELD_FOLDER, Facility, built, built_once, instance
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError
from test_publishing_graph import command
from test_shared_window import OTHER, overlap

from nexuslims_pipeline.inventory.model import Inventory, InventoryEntry
from nexuslims_pipeline.sessions.model import SessionState
from nexuslims_pipeline.sessions.usage import UsageEvent
from resources.harvest import answers_due, discover, left_over
from resources.history import forget_session
from resources.nemo import open_server
from resources.store import STAGES, Store, Tombstone, WithdrawnError

__all__ = ["built", "built_once", "instance"]

TOMB = f"tombstones/{WELD}.json"
WHY = "asked for by the user"
MIRELA = {
    "id": 977,
    "username": "mquast",
    "first_name": "Mirela",
    "last_name": "Quastenberg",
    "email": "mq@lab.example",
}
"""A user of the weld session only."""


class Killed(BaseException):
    """Instead of what the process would have done next."""


# A session with a past


@pytest.fixture(scope="module", autouse=True)
def thrifty_sqlite() -> Iterator[None]:
    """SQLite that overwrites nothing when it deletes, as it is on most systems; on some it does."""

    def save_work(connection: Any, _: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA secure_delete = OFF")

    event.listen(Engine, "connect", save_work)
    yield
    event.remove(Engine, "connect", save_work)


@pytest.fixture(scope="module")
def past(built_once: Facility, tmp_path_factory: pytest.TempPathFactory) -> Facility:
    """The weld was built alone and with others, failed once, lost a file, has an earlier record and is published.

    Dagster's history lies in the store, as it does by default.
    """
    facility = built_once.copy(tmp_path_factory.mktemp("past"))
    shutil.move(facility.folder / "dagster_home", facility.data / "dagster_home")
    at_home(facility)
    facility.answer("users", [*facility.answers("users"), MIRELA])
    facility.edit_event(104, user=MIRELA["id"])
    range_of_all = (KEYS[0], KEYS[-1])
    with dagster(facility) as history:
        history.add_dynamic_partitions("sessions", list(KEYS))
        assert facility.materialise(history, range_of_all).success
        with in_the_way(facility.data / "datasets" / WELD_FOLDER):
            assert not facility.materialise(history, range_of_all).success
            assert not facility.materialise(history, WELD).success
        (facility.raw / WELD_FOLDER / "grains 02.tif").unlink()
        assert facility.materialise(history, WELD).success
    assert facility.build().outcomes[WELD]["files"] == 7
    assert facility.store.record_path(WELD).with_name(f"{WELD}.v1.xml").exists()
    return facility


@pytest.fixture
def weld(past: Facility, tmp_path: Path) -> Facility:
    """A copy of that."""
    facility = past.copy(tmp_path / "facility")
    at_home(facility)
    return facility


def at_home(facility: Facility) -> None:
    facility.set(DAGSTER_HOME=str(facility.data / "dagster_home"))


@contextmanager
def dagster(facility: Facility) -> Iterator[DagsterInstance]:
    with DagsterInstance.from_config(str(facility.data / "dagster_home")) as history:
        yield history


@contextmanager
def in_the_way(folder: Path) -> Iterator[None]:
    """A file in place of a folder of the store: writing fails, with the folder's name in the reason."""
    aside = folder.with_name("aside")
    folder.rename(aside)
    folder.write_bytes(b"")
    try:
        yield
    finally:
        folder.unlink()
        aside.rename(folder)


# Looking for what is left


def words_of(facility: Facility) -> list[str]:
    """What tells of the weld and of no other session."""
    session = facility.store.session(WELD)
    assert session
    assert session.user
    assert session.user.last_name == "Quastenberg"
    said = [session.title, session.motivation, "Mirela", "Quastenberg", "mquast", "mq@lab.example"]
    said += [text for sample in session.samples for text in (sample.name, sample.description)]
    files = [path.name for path in (facility.raw / WELD_FOLDER).iterdir()]
    return [*filter(None, said), *files, "grains 02.tif", WELD_FOLDER]


def places(facility: Facility, words: list[str]) -> set[str]:
    """Files of the store and of the crates with one of the words in their name or content, however it is written."""
    needles = {
        needle
        for word in words
        for text in (word, quote(word), json.dumps(word)[1:-1])
        for needle in (text.encode(), text.encode("utf-16-le"))
    }
    found = set()
    for top in (facility.data, facility.folder / "crates"):
        for path in top.rglob("*"):
            place = str(path.relative_to(top))
            if any(needle in content for content in (os.fsencode(place), *contents(path)) for needle in needles):
                found.add(place)
    return found


def contents(path: Path) -> Iterator[bytes]:
    """A file's bytes, and what they are when unpacked."""
    if not path.is_file():
        return
    yield path.read_bytes()
    if path.suffix == ".parquet":
        yield json.dumps(pq.read_table(path).to_pylist(), ensure_ascii=False).encode()
    elif path.suffix == ".eln":
        with zipfile.ZipFile(path) as crate:
            yield from (name.encode() for name in crate.namelist())
            yield from (crate.read(name) for name in crate.namelist())


def kept(facility: Facility) -> dict[str, bytes]:
    """The store but for Dagster's history, the views, and what the portal tells of all sessions together."""
    shared = {"dagster_home", "catalog.duckdb", "index.html", "shards.json"}
    return {
        str(path.relative_to(facility.data)): path.read_bytes()
        for path in facility.data.rglob("*")
        if path.is_file() and not shared & set(path.parts) and path.parent.name != "index"
    }


def materialisations(facility: Facility, key: str) -> dict[str, list[dict[str, Any]]]:
    """Metadata of everything that Dagster's history tells of a session."""
    found = {}
    with dagster(facility) as history:
        for asset in (*STAGES, "ro_crate", "record_page"):
            wanted = AssetRecordsFilter(asset_key=AssetKey(asset), asset_partitions=[key])
            records = history.fetch_materializations(wanted, limit=100).records
            told = [record.asset_materialization for record in records if record.asset_materialization]
            found[asset] = [{name: repr(entry) for name, entry in each.metadata.items()} for each in told]
    return {asset: told for asset, told in found.items() if told}


def consent_is_taken_back(facility: Facility) -> None:
    facility.withdraw_consent(104)
    assert facility.build().states[WELD] == "WITHDRAWN"


def somebody_withdraws_it(facility: Facility) -> None:
    code, out, errors = command(facility, "withdraw", WELD, "--why", WHY)
    assert (code, errors) == (0, ""), out


WAYS = [consent_is_taken_back, somebody_withdraws_it]


@pytest.mark.parametrize("withdraw", WAYS)
def test_no_byte_stays_but_the_tombstone(weld: Facility, withdraw: Callable[[Facility], None]) -> None:
    words, before, others = words_of(weld), kept(weld), materialisations(weld, CERAMIC)
    full = places(weld, words)
    for place in ("stages/usage_event", "stages/file_metadata", "records/", "datasets/", "dagster_home/", "2026"):
        assert any(found.startswith(place) for found in full), f"the search finds nothing in {place}"

    withdraw(weld)

    assert places(weld, words) == set()
    assert {p for p in places(weld, [WELD]) if not p.startswith("dagster_home/history/")} == {TOMB}
    about_it = {name for name in before if WELD in name or "weld" in name or "nemo-104" in name}
    after = kept(weld)
    assert {name for name in after if name not in before and "/.nothing/" not in name} == {TOMB}
    assert {name: after.get(name) for name in before if name not in about_it} == {
        name: content for name, content in before.items() if name not in about_it
    }
    assert materialisations(weld, CERAMIC) == others
    assert sum(map(len, others.values())) > 7, "it was built in batches with the weld"
    assert set(materialisations(weld, WELD)) <= {"usage_event", "session", "ro_crate", "record_page"}
    with dagster(weld) as history:
        assert history.get_materialized_partitions(AssetKey("record")) == {CERAMIC}
        (latest,) = history.get_asset_records([AssetKey("record")])
        last = latest.asset_entry.last_materialization
        assert last
        assert last.asset_materialization
        assert last.asset_materialization.partition == CERAMIC
        assert WELD in history.get_dynamic_partitions("sessions"), "the key may be known: it stands on the tombstone"

    assert weld.build().causes == {}
    assert command(weld, "publish", "--again")[0] == 0
    assert places(weld, words) == set()


def test_tombstone_and_materialisation_tell_the_state_and_the_reason_only(weld: Facility) -> None:
    consent_is_taken_back(weld)
    reason = weld.store.state(WELD)[1]
    assert reason == "Consent was taken back in NEMO."
    tombstone = json.loads((weld.data / TOMB).read_text())
    assert set(tombstone) == {"key", "time", "why", "by_hand", "answers", "remains"}
    assert (tombstone["why"], tombstone["by_hand"], tombstone["remains"]) == (reason, False, "")
    told = materialisations(weld, WELD)
    assert [set(each) for each in told["session"]] == [{"state", "reason"}]
    assert weld.store.state(WELD) == (SessionState.WITHDRAWN, reason)
    assert weld.build().outcomes[WELD]["reason"] == reason


def test_session_that_never_had_consent_is_not_buried(built: Facility) -> None:
    assert built.store.state(DECLINED)[0] is SessionState.NO_CONSENT
    built.edit_event(105, end="2026-03-03T11:59:00-07:00")
    assert built.build().states[DECLINED] == "NO_CONSENT"
    assert built.store.tombstones() == []


# And back


def test_consent_given_again_brings_the_same_record_back(weld: Facility) -> None:
    before = weld.store.record_path(WELD).read_bytes()
    answers = weld.answers("usage_events")
    consent_is_taken_back(weld)
    weld.answer("usage_events", answers)

    again = weld.build()

    assert (again.states[WELD], again.causes) == ("BUILT", {WELD: "changed in NEMO"})
    assert weld.store.record_path(WELD).read_bytes() == before
    assert weld.store.tombstones() == []
    assert len(list((weld.folder / "crates").rglob(f"{WELD}.eln"))) == 1
    assert weld.build().causes == {}


def test_withdrawn_by_hand_stays_so_until_it_is_restored(weld: Facility) -> None:
    before = weld.store.record_path(WELD).read_bytes()
    answers = weld.answers("usage_events")
    somebody_withdraws_it(weld)
    weld.edit_event(104, operator=None)
    assert due(weld) == ({}, [])
    (weld.folder / "nemo" / "usage_events.json").rename(weld.folder / "hidden")
    asked = weld.build("--session", WELD)
    assert (asked.states, asked.errors) == ({WELD: "WITHDRAWN"}, ""), "NEMO is not even asked"
    (weld.folder / "hidden").rename(weld.folder / "nemo" / "usage_events.json")
    weld.answer("usage_events", answers)
    assert [p for p in kept(weld) if WELD in p] == [TOMB]

    assert command(weld, "restore", WELD)[0] == 0
    assert due(weld)[1] == [WELD]
    assert weld.build().states[WELD] == "BUILT"
    assert weld.store.record_path(WELD).read_bytes() == before

    code, _, errors = command(weld, "restore", WELD)
    assert (code, errors.strip()) == (2, f"{WELD} was not withdrawn by hand; there is no tombstone of it.")


def due(facility: Facility) -> tuple[dict[str, str], list[str]]:
    """What the sensors would ask for."""
    with facility.active() as site:
        server = open_server(site.nemo_servers["nemo"])
        uses = discover(server, site.instruments, facility.store, since=None, until=None)
        return {key: why.reason for key, why in answers_due(uses, facility.store).items()}, left_over(
            facility.store, "nemo"
        )


def test_buried_session_is_looked_at_again_once_per_edit_in_nemo(weld: Facility) -> None:
    consent_is_taken_back(weld)
    time = json.loads((weld.data / TOMB).read_text())["time"]
    assert due(weld) == ({}, [])
    weld.edit_event(104, operator=None)
    assert due(weld) == ({WELD: "changed in NEMO"}, [])
    assert weld.build().states[WELD] == "WITHDRAWN"
    assert due(weld) == ({}, [])
    assert json.loads((weld.data / TOMB).read_text())["time"] == time, "it has been withdrawn since then"


def test_session_that_nobody_built_can_be_withdrawn_and_one_that_nobody_saw_cannot(weld: Facility) -> None:
    for stage in STAGES:
        weld.store.stage_path(stage, EMPTY).unlink(missing_ok=True)
    assert command(weld, "withdraw", EMPTY)[0] == 0
    assert weld.build().states[EMPTY] == "WITHDRAWN"

    unseen = "2026-03-05_Demo-Quanta-SEM_nemo-999"
    code, _, errors = command(weld, "withdraw", unseen)
    assert (code, errors.strip()) == (2, f"There is no session '{unseen}': it was never harvested from NEMO.")
    code, _, errors = command(weld, "withdraw", "2026-03-06_Demo-Quanta-SEM_nemo-104")
    assert (code, f"has the key '{WELD}'" in errors) == (2, True)


@pytest.mark.parametrize("damage", [b"", b'{"key"'])
def test_damaged_tombstone_brings_nothing_back(built: Facility, damage: bytes) -> None:
    somebody_withdraws_it(built)
    (built.data / TOMB).write_bytes(damage)
    assert due(built) == ({}, [])
    assert built.build().states[WELD] == "WITHDRAWN"
    assert built.store.key_of("nemo", 104, "") == WELD


# Destinations


def test_destination_that_cannot_be_reached_is_tried_again(weld: Facility) -> None:
    crates = weld.folder / "crates"
    crates.rename(weld.folder / "aside")
    crates.write_text("no folder")

    code, out, _ = command(weld, "withdraw", WELD)
    assert (code, "crates: not withdrawn yet:" in out) == (1, True), out
    assert weld.store.state(WELD)[0] is SessionState.WITHDRAWN

    crates.unlink()
    (weld.folder / "aside").rename(crates)
    (weld.data / "exports" / "crates" / ".outage").unlink(missing_ok=True)
    weld.build()
    assert {path.stem for path in crates.rglob("*.eln")} == {CERAMIC}
    assert [p for p in kept(weld) if WELD in p] == [TOMB]


def test_copy_at_a_destination_that_is_no_longer_set_up_is_told_with_its_address(weld: Facility) -> None:
    entry = weld.data / "exports" / "crates" / f"{WELD}.json"
    url = json.loads(entry.read_text())["remote"]["url"]
    weld.set(NX_CRATES_PATH="")
    code, out, _ = command(weld, "withdraw", WELD)
    (line,) = (line for line in out.splitlines() if line.startswith("crates:"))
    assert code == 1
    assert url in line
    assert str(entry) in line


def test_consent_taken_back_tells_of_a_copy_at_a_destination_that_is_no_longer_set_up(weld: Facility) -> None:
    entry = weld.data / "exports" / "crates" / f"{WELD}.json"
    crates = weld.variables()["NX_CRATES_PATH"]
    weld.set(NX_CRATES_PATH="")
    consent_is_taken_back(weld)
    assert f"remove the copy there by hand and then {entry}" in weld.store.state(WELD)[1]

    weld.set(NX_CRATES_PATH=crates)
    assert weld.build().causes == {WELD: "something remains of it"}

    assert not entry.exists()
    assert "crates" not in weld.store.state(WELD)[1]
    assert weld.build().causes == {}


# Files of several sessions


def test_file_of_two_sessions_goes_with_the_one_that_may_be_shown_no_more(built: Facility) -> None:
    """Withdrawn by hand counts like no consent: the file is left out of the other session as well, at its next look."""
    overlap(built, "Agree")
    assert built.build().outcomes[OTHER]["files"] == 2
    shared = built.data / "datasets" / WELD_FOLDER / "EDS ferrite.msa.json"

    somebody_withdraws_it(built)
    assert shared.exists(), "it is the other's until that is built again"
    again = built.build()

    assert again.causes == {OTHER: "files changed"}
    assert again.states[OTHER] == "NO_FILES_FOUND"
    assert not shared.exists()


def inventory(key: str, *names: str) -> Inventory:
    entries = tuple(InventoryEntry(f"/Titan/{name}", "included", "", 1, 1) for name in names)
    return Inventory(key, SessionState.READY, "", entries, "")


def test_what_was_made_of_files_that_left_the_session_goes_too(tmp_path: Path) -> None:
    store, one, other = Store(data_path=str(tmp_path)), "2026-03-02_Titan_nemo-1", "2026-03-02_Titan_nemo-2"
    folder = store.datasets_folder / "Titan"
    folder.mkdir(parents=True)
    for name in ("a.json", "a_signal0.thumb.png", "a_signal2.thumb.png", "b.json", "b.thumb.png", "c.json", "d.json"):
        (folder / name).touch()
    for key in (one, other):
        store.write_usage_event(key, UsageEvent(server="nemo", event={"id": 1}), "1")
    store.write_inventory(inventory(one, "a", "b", "c"), "1")
    store.write_inventory(inventory(one, "c"), "1")
    store.write_inventory(inventory(one, "c", "e"), "1")
    store.write_inventory(inventory(other, "c"), "1")

    store.bury(Tombstone(key=one, time=datetime.now(UTC), why=WHY))

    assert {path.name for path in folder.iterdir()} == {"c.json", "d.json"}, "one is the other's, one is nobody's"


def test_what_a_killed_process_left_half_written_goes_too(built: Facility) -> None:
    folders = [built.data / "datasets" / WELD_FOLDER, built.data / "records" / "2026", built.data / "stages" / "record"]
    old, new = ([folder / f".{n}.tmp" for folder in folders] for n in ("0123456789abcdef", "fedcba9876543210"))
    for path in (*old, *new):
        path.write_bytes(b"half of a file")
    for path in old:
        os.utime(path, (0, 0))
    somebody_withdraws_it(built)
    assert [path.exists() for path in (*old, *new)] == [False] * 3 + [True] * 3, "a new one is being written"


# Cut off anywhere


OPERATIONS = ("unlink", "rmdir", "replace", "link")


@contextmanager
def killed_at(number: int, places: list[tuple[Any, str]]) -> Iterator[list[int]]:
    """The process ends instead of the given call of any of some functions; counts the calls."""
    calls = [0]

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            calls[0] += 1
            if calls[0] == number:
                raise Killed
            return function(*arguments, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in places:
            patch.setattr(owner, name, counted(getattr(owner, name)))
        yield calls


def test_burial_that_is_cut_off_anywhere_is_carried_on(past: Facility, tmp_path: Path) -> None:
    tombstone = Tombstone(key=WELD, time=datetime.now(UTC), why=WHY)
    calls = [(os, name) for name in OPERATIONS]

    def bury(number: int) -> tuple[Facility, int]:
        facility = Facility(tmp_path / str(number))
        shutil.copytree(past.data, facility.data, ignore=shutil.ignore_patterns("dagster_home"))
        with killed_at(number, calls) as made:
            try:
                facility.store.bury(tombstone)
            except Killed:
                assert facility.store.state(WELD)[0] is not SessionState.WITHDRAWN
                if facility.store.is_unfinished(WELD):
                    assert WELD in left_over(facility.store, "nemo")
        return facility, made[0]

    whole, operations = bury(0)
    assert operations > 30
    whole.store.finish(WELD)
    for number in range(1, operations + 1):
        facility, _ = bury(number)
        facility.store.bury(tombstone)
        facility.store.finish(WELD)
        assert tree_of(facility) == tree_of(whole), f"killed at operation {number}"
        shutil.rmtree(facility.folder)


def tree_of(facility: Facility) -> set[str]:
    return {str(path.relative_to(facility.data)) for path in facility.data.rglob("*")}


def test_history_that_is_cut_off_anywhere_is_carried_on(past: Facility, tmp_path: Path) -> None:
    words = words_of(past)

    def forget(number: int) -> tuple[Facility, int]:
        facility = Facility(tmp_path / str(number))
        shutil.copytree(past.data / "dagster_home", facility.data / "dagster_home")
        connections = [(SqliteEventLogStorage, "run_connection"), (SqliteEventLogStorage, "index_connection")]
        with dagster(facility) as history, killed_at(number, connections) as made, suppress(Killed):
            forget_session(history, WELD)
        return facility, made[0]

    _, connections = forget(0)
    assert connections > 15
    for number in range(1, connections + 1, 4):
        facility, _ = forget(number)
        with dagster(facility) as history:
            assert forget_session(history, WELD) == []
        assert places(facility, words) == set(), f"killed at connection {number}"
        shutil.rmtree(facility.folder)


def test_whoever_is_still_building_it_keeps_nothing(built: Facility) -> None:
    """Another process is between two stages when the session is withdrawn."""
    store = built.store
    session, files, datasets = store.session(WELD), store.inventory(WELD), store.datasets(WELD)
    usage = store.usage_event(WELD)
    made = {path: path.read_bytes() for path in (built.data / "datasets" / WELD_FOLDER).iterdir()}
    assert session
    assert files
    assert datasets
    assert usage
    somebody_withdraws_it(built)
    before = kept(built)
    for path, content in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for write in (
        lambda: store.write_datasets(WELD, datasets, files.fingerprint, "1"),
        lambda: store.write_record(WELD, b"<Experiment/>", {}, "1"),
        lambda: store.write_inventory(files, "1"),
        lambda: store.write_session(session, "1"),
        lambda: store.write_usage_event(WELD, usage, "1"),
    ):
        with pytest.raises(WithdrawnError, match=f"{WELD} was withdrawn while it was being built"):
            write()
        store.write_failure(WELD, "record", "grains 02.tif: why it failed", "4711")
    assert kept(built) == before


# Dagster's history


def test_run_that_is_still_at_work_is_named(weld: Facility) -> None:
    with dagster(weld) as history:
        run = history.get_runs(limit=1)[0]
        alone = run._replace(run_id="4" * 36, tags={"dagster/partition": WELD})
        history.add_run(alone.with_status(DagsterRunStatus.STARTED))
    code, out, _ = command(weld, "withdraw", WELD)
    told = f"Run {'4' * 36} is still at work on it: when it has ended, the sensor and each build try again"
    assert (code, told in out) == (1, True), out
    assert told in weld.build().outcomes[WELD]["reason"]
    assert due(weld) == ({}, [WELD]), "the sensor tries again"

    with dagster(weld) as history:
        history.delete_run("4" * 36)
    assert weld.build().outcomes[WELD]["reason"] == "asked for by the facility"
    assert due(weld) == ({}, [])


def test_database_that_cannot_be_cleaned_is_told_and_keeps_nothing_else(weld: Facility) -> None:
    words = words_of(weld)
    index = weld.data / "dagster_home" / "history" / "runs" / "index.db"
    index.chmod(0o400)
    locked = sqlite3.OperationalError("attempt to write a readonly database")
    with mock.patch.object(SqliteEventLogStorage, "index_connection", side_effect=_as_sqlalchemy(locked)):
        code, out, _ = command(weld, "withdraw", WELD)
    assert (code, "Dagster's history still tells of" in out) == (1, True)
    assert "attempt to write a readonly database" in out
    assert not any(word in out for word in words)
    assert {place.split("/")[0] for place in places(weld, words)} == {"dagster_home"}

    somebody_withdraws_it(weld)
    assert places(weld, words) == set()


def _as_sqlalchemy(fault: Exception) -> Exception:
    return OperationalError("UPDATE event_logs SET event=?", ("what must not be shown",), fault)


def test_instance_in_memory_forgets_as_well(built: Facility, instance: DagsterInstance) -> None:
    built.materialise(instance, (KEYS[0], KEYS[-1]))
    built.materialise(instance, WELD)

    assert forget_session(instance, WELD) == []

    for asset in STAGES:
        assert WELD not in instance.get_materialized_partitions(AssetKey(asset))
    assert CERAMIC in instance.get_materialized_partitions(AssetKey("record"))
    (run,) = instance.get_runs()
    assert not [entry for entry in instance.all_logs(run.run_id) if "pearlite" in repr(entry)]


# The catalogue


def test_catalogue_tells_of_withdrawn_sessions_and_of_copies(weld: Facility) -> None:
    from resources.catalog import Catalog

    catalog = Catalog(data_path=str(weld.data))
    catalog.rebuild(weld.store)
    copies = "SELECT destination, session_key, state, version, failure FROM copies ORDER BY ALL"
    states = "SELECT state, reason, published FROM sessions WHERE session_key = '{}'"
    held = [[name, key, "PUBLISHED"] for name in ("crates", "portal") for key in (WELD, CERAMIC)]
    assert [row[:3] for row in catalog.query(copies).to_numpy().tolist()] == held
    assert catalog.query(states.format(WELD)).to_numpy().tolist() == [["BUILT", "7 files, all settled", True]]

    weld.store.bury(Tombstone(key=WELD, time=datetime.now(UTC), why=WHY, remains="Some."))
    assert catalog.query(states.format(WELD)).to_numpy().tolist() == [["NOT_BUILT", None, False]]
    weld.store.finish(WELD)
    assert catalog.query(states.format(WELD)).to_numpy().tolist() == [["WITHDRAWN", f"{WHY} Some.", False]]
    assert set(catalog.query(f"SELECT state FROM copies WHERE session_key = '{WELD}'")["state"]) == {"WITHDRAWING"}

    somebody_withdraws_it(weld)
    assert catalog.query(copies)["session_key"].tolist() == [CERAMIC, CERAMIC]


# A real CDCS


@pytest.mark.server
def test_cdcs_has_neither_the_record_nor_its_text(weld: Facility) -> None:
    words = words_of(weld)
    try:
        running = CdcsProcess()
    except CdcsNotInstalledError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"CDCS cannot be installed here: {error}")
    with running as cdcs:
        weld.set(**cdcs.variables(cdcs.url), NX_CDCS_BLOBS="true")
        weld.build()
        assert len(cdcs.copies(WELD)) == len(cdcs.copies(CERAMIC)) == 1
        assert [word for word in (WELD, "Quastenberg", "EDS%20ferrite.msa") if word not in everything_on(cdcs)] == []
        assert cdcs.blobs()

        consent_is_taken_back(weld)

        assert cdcs.copies(WELD) == []
        assert len(cdcs.copies(CERAMIC)) == 1
        assert [word for word in (WELD, *words) if word in everything_on(cdcs)] == []
        assert places(weld, words) == set()


def everything_on(cdcs: CdcsProcess) -> str:
    return json.dumps([cdcs.records(), cdcs.blobs()], ensure_ascii=False)
