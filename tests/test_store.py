"""The store: whole files or none, one key per usage event, names of any kind, the same content back."""

import hashlib
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexuslims_pipeline.activities.model import Activity, Clustering
from nexuslims_pipeline.extraction.sidecar import preview_path, sidecar_path
from nexuslims_pipeline.files import NAME_BYTES, from_location, to_location, write_bytes
from nexuslims_pipeline.inventory.model import Inventory, InventoryEntry
from nexuslims_pipeline.metadata.dataset import Dataset
from nexuslims_pipeline.sessions.model import Session, SessionState
from nexuslims_pipeline.sessions.usage import UsageEvent
from resources.store import MissingStageError, Store

KEY = "2026-03-02_Titan_nemo-4711"
SUMMARY = {"files": 1, "datasets": 1, "activities": 1}

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
NUMBER = st.integers(0, 2**62)
FILE_NAMES = st.binary(min_size=1, max_size=NAME_BYTES).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in {b".", b".."}
)
LOCATIONS = st.lists(FILE_NAMES, min_size=1, max_size=3).map(
    lambda names: to_location(Path(os.fsdecode(b"/".join(names))))
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(TEXT, values, max_size=3),
    max_leaves=6,
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(data_path=str(tmp_path / "data"))


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Whole or not at all


@contextmanager
def full_disk() -> Iterator[None]:
    """No file grows beyond ten bytes."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


@contextmanager
def broken(call: str) -> Iterator[None]:
    """A call of the operating system that fails."""

    def fault(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, call, fault)
        yield


@pytest.mark.parametrize("trouble", [full_disk, lambda: broken("fsync"), lambda: broken("replace")])
@pytest.mark.parametrize("before", [None, b"old"])
def test_a_fault_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, trouble: Callable[[], AbstractContextManager[None]], before: bytes | None
) -> None:
    path = tmp_path / "folder" / "a.json"
    if before is not None:
        write_bytes(path, before)
    with trouble(), pytest.raises(OSError, match=r"too large|Input/output"):
        write_bytes(path, b"new" * 100)
    assert everything(tmp_path) == ({} if before is None else {"folder/a.json": before})
    assert write_bytes(path, b"new")
    assert everything(tmp_path) == {"folder/a.json": b"new"}


def test_writing_the_same_again_touches_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a"
    assert write_bytes(path, b"same")
    os.utime(path, ns=(1, 1))
    os.utime(tmp_path, ns=(1, 1))
    assert not write_bytes(path, b"same")
    assert path.stat().st_mtime_ns == tmp_path.stat().st_mtime_ns == 1


# Keys


def test_racing_registrations_of_one_event_agree_on_one_key(store: Store) -> None:
    for event_id in range(20):
        together = threading.Barrier(8)
        agreed: list[str] = []

        def register(number: int, event_id: int = event_id, agreed: list[str] = agreed) -> None:
            together.wait()  # noqa: B023
            agreed.append(store.register("nemo", event_id, f"2026-03-0{number + 1}_Titan_nemo-{event_id}"))

        threads = [threading.Thread(target=register, args=[number]) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(agreed) == 8
        assert set(agreed) == {store.key_of("nemo", event_id, "none")}
    assert len(everything(store.root)) == 20


def test_keys_are_found_again_by_event_instrument_and_day(store: Store) -> None:
    keys = ["2026-02-28_Titan_nemo-9", "2026-03-02_Titan_nemo-10", "2026-03-02_Titan-2_lab.nemo-10"]
    for key in keys:
        server, _, number = key.rpartition("_")[2].rpartition("-")
        assert store.register(server, int(number), key) == key
        store.write_usage_event(key, UsageEvent(server=server, event={"id": int(number)}), "1")
    assert store.registered() == [("lab.nemo", 10), ("nemo", 9), ("nemo", 10)]
    assert store.key_of("nemo", 10, "") == keys[1]
    assert store.key_of("nemo", 11, "none") == "none"
    assert store.recent_keys("Titan", date(2026, 3, 1)) == [keys[1]]
    assert store.recent_keys("Titan-2", date(2026, 1, 1)) == [keys[2]]


# Names of sidecars and previews


@given(LOCATIONS, LOCATIONS)
def test_every_file_has_a_sidecar_and_previews_of_its_own(one: str, other: str) -> None:
    folder = Path("/datasets")
    paths = [
        path
        for location in {one, other}
        for path in (
            sidecar_path(folder, location),
            preview_path(folder, location, 0, 1),
            preview_path(folder, location, 0, 2),
            preview_path(folder, location, 1, 2),
        )
    ]
    assert len(set(paths)) == len(paths)
    for location in (one, other):
        assert sidecar_path(folder, location).parent == folder / from_location(location).parent
    assert all(len(os.fsencode(path.name)) <= NAME_BYTES for path in paths)
    assert all(from_location(to_location(path.relative_to("/"))) == path.relative_to("/") for path in paths)


@pytest.mark.parametrize("name", [b"a" * 255, "µ".encode() * 127, b"\xff\xfe .dm3", b"%20 #?&\n'\".tif", b"~"])
def test_such_files_can_be_written(tmp_path: Path, name: bytes) -> None:
    (tmp_path / os.fsdecode(name)).write_bytes(b"raw")
    location = to_location(Path(os.fsdecode(b"Titan/" + name)))
    assert location.isascii()
    assert write_bytes(sidecar_path(tmp_path / "datasets", location), b"{}")
    assert write_bytes(preview_path(tmp_path / "datasets", location, 12, 99), b"PNG")


# There and back


@settings(max_examples=40, deadline=None)
@given(
    entries=st.lists(
        st.builds(
            InventoryEntry,
            location=LOCATIONS,
            status=st.sampled_from(["included", "waiting", "contested", "refused", "ignored"]),
            reason=TEXT,
            size=st.none() | NUMBER,
            modified_ns=st.none() | st.integers(-(2**62), 2**62),
            companions=st.lists(LOCATIONS, max_size=3).map(tuple),
        ),
        max_size=4,
    ).map(tuple),
    state=st.sampled_from([SessionState.READY, SessionState.WAITING_FOR_FILES, SessionState.NO_FILES_FOUND]),
    reason=TEXT,
)
def test_inventories_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, entries: tuple[InventoryEntry, ...], state: SessionState, reason: str
) -> None:
    store = Store(data_path=str(tmp_path_factory.mktemp("a=b [c]")))
    inventory = Inventory(KEY, state, reason, entries, "f" * 64)
    store.write_inventory(inventory, "7")
    version = store.data_version("file_inventory", KEY)
    assert store.inventory(KEY) == inventory
    assert (store.header("file_inventory", KEY) or {})["code_version"] == "7"
    store.write_inventory(inventory, "7")
    assert store.data_version("file_inventory", KEY) == version


@settings(max_examples=40, deadline=None)
@given(
    datasets=st.lists(
        st.builds(
            Dataset,
            location=LOCATIONS,
            modified_ns=NUMBER,
            size=NUMBER,
            index=st.integers(0, 9),
            count=st.integers(1, 9),
            name=TEXT,
            format=TEXT,
            description=TEXT,
            preview=st.none() | LOCATIONS,
            nx_meta=st.dictionaries(TEXT, JSON, max_size=3).map(
                lambda free: (
                    free | {"DatasetType": "Image", "Data Type": "TEM", "Creation Time": "2026-03-02T10:00:00Z"}
                )
            ),
        ),
        max_size=3,
    )
)
def test_datasets_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, datasets: list[Dataset]) -> None:
    store = Store(data_path=str(tmp_path_factory.mktemp("store")))
    store.write_datasets(KEY, datasets, "fingerprint", "1")
    assert store.datasets(KEY) == datasets


def test_activities_come_back_as_they_were(store: Store) -> None:
    found = (Activity(1, 2, ("/a", "/b")), Activity(10**18, 10**18 + 1, ("/c",)))
    clustering = Clustering(boundaries=(5.0,), bandwidth=3.0, candidates=(1.0, 2.0), scores=(float("-inf"), -3.5))
    store.write_datasets(KEY, [], "files", "1")
    store.write_activities(KEY, found, clustering, "rule", "1")
    assert store.activities(KEY) == found
    store.write_datasets(KEY, [], "other files", "1")
    with pytest.raises(MissingStageError, match="older than its datasets"):
        store.activities(KEY)


# Records


def test_earlier_records_are_kept_once_each(store: Store) -> None:
    folder = store.root / "records" / "2026"
    for xml in (b"<a/>", b"<a/>", b"<b/>", b"<a/>"):
        store.write_record(KEY, xml, SUMMARY, "1")
    assert everything(folder) == {f"{KEY}.xml": b"<a/>", f"{KEY}.v1.xml": b"<a/>", f"{KEY}.v2.xml": b"<b/>"}
    assert (store.header("record", KEY) or {})["sha256"] == hashlib.sha256(b"<a/>").hexdigest()


def test_a_record_that_could_not_be_replaced_is_not_lost(store: Store) -> None:
    folder = store.root / "records" / "2026"
    store.write_record(KEY, b"<a/>", SUMMARY, "1")
    with broken("replace"), pytest.raises(OSError, match="Input/output"):
        store.write_record(KEY, b"<b/>", SUMMARY, "1")
    assert (folder / f"{KEY}.xml").read_bytes() == b"<a/>"
    store.write_record(KEY, b"<b/>", SUMMARY, "1")
    assert everything(folder) == {f"{KEY}.xml": b"<b/>", f"{KEY}.v1.xml": b"<a/>"}


# What a stage needs


def test_stages_ask_for_those_before_them_by_name(store: Store) -> None:
    with pytest.raises(MissingStageError, match=f"'session' of {KEY} has not been materialised yet"):
        store.ready_session(KEY)
    moment = datetime(2026, 3, 2, tzinfo=UTC)
    session: dict[str, Any] = {
        "key": KEY,
        "instrument_id": "Titan",
        "server": "nemo",
        "usage_event_id": 4711,
        "start": moment,
        "end": moment,
    }
    store.write_session(Session(**session, state=SessionState.NO_CONSENT), "1")
    assert store.ready_session(KEY) is store.ready_inventory(KEY) is store.ready_datasets(KEY) is None
    store.write_session(Session(**session, state=SessionState.READY), "1")
    with pytest.raises(MissingStageError, match="'file_inventory'"):
        store.ready_inventory(KEY)
    inventory = Inventory(KEY, SessionState.READY, "", (), "now")
    store.write_inventory(inventory, "1")
    store.write_datasets(KEY, [], "before", "1")
    with pytest.raises(MissingStageError, match=r"'file_metadata' of .* is older than its files; materialise it first"):
        store.ready_datasets(KEY)
    store.write_datasets(KEY, [], "now", "1")
    assert store.ready_datasets(KEY) == []


@pytest.mark.parametrize("stage", ["usage_event", "file_inventory"])
@pytest.mark.parametrize("damage", [b"", b'{"ses', b"PAR1 and no more"])
def test_a_damaged_stage_counts_as_missing(store: Store, stage: str, damage: bytes) -> None:
    store.write_usage_event(KEY, UsageEvent(server="nemo", event={"id": 4711}), "1")
    store.write_inventory(Inventory(KEY, SessionState.READY, "", (), ""), "1")
    (path,) = (store.root / "stages" / stage).iterdir()
    path.write_bytes(damage)
    assert store.header(stage, KEY) is None
    assert (store.usage_event(KEY) if stage == "usage_event" else store.inventory(KEY)) is None
    assert store.state(KEY) == (None, "")


def test_a_session_is_unfinished_from_its_begin_to_its_end(store: Store) -> None:
    assert not store.is_unfinished(KEY)
    store.begin(KEY)
    assert store.is_unfinished(KEY)
    assert store.reached("unfinished") == [KEY]
    store.finish(KEY)
    store.finish(KEY)
    assert not store.is_unfinished(KEY)
