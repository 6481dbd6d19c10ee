"""The ledger: what was written is read, what is damaged is not trusted, and only one at a time deals with a session."""

import multiprocessing
import os
import threading
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from publications import KEY

from resources.destinations.base import Remote
from resources.ledger import Entry, Failure, Ledger

moments = st.datetimes(timezones=st.just(UTC))
failures = st.builds(Failure, reason=st.text(), passing=st.booleans(), at=moments, run_id=st.text())
remotes = st.builds(Remote, id=st.text(), url=st.text())
entries = st.builds(
    Entry,
    key=st.just(KEY),
    doing=st.sampled_from(["", "publish", "withdraw"]),
    wanted=st.text(),
    address=st.text(),
    remote=st.none() | remotes,
    fingerprint=st.text(),
    version=st.integers(0, 2**40),
    at=st.none() | moments,
    failure=st.none() | failures,
)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "exports" / "cdcs")


@settings(deadline=None)
@given(st.lists(entries, min_size=1, max_size=4))
def test_whatever_was_written_last_is_read(tmp_path_factory: pytest.TempPathFactory, written: list[Entry]) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    ledger = Ledger(folder)
    for entry in written:
        ledger.write(entry)
        assert ledger.read(KEY) == Ledger(folder).read(KEY) == entry


def test_another_process_s_entry_is_seen(ledger: Ledger, tmp_path: Path) -> None:
    ledger.write(Entry(key=KEY, version=1))
    assert ledger.read(KEY) == Entry(key=KEY, version=1)
    other = Ledger(tmp_path / "exports" / "cdcs")
    other.write(Entry(key=KEY, version=2))
    assert ledger.read(KEY) == Entry(key=KEY, version=2)
    other.remove(KEY)
    assert ledger.read(KEY) is None


def test_sessions_are_those_with_an_entry(ledger: Ledger) -> None:
    assert ledger.sessions() == []
    ledger.note_outage(KEY, "no connection")
    with ledger.alone(KEY):
        ledger.write(Entry(key=f"{KEY}1"))
        ledger.write(Entry(key=KEY))
    assert ledger.sessions() == [KEY, f"{KEY}1"]
    ledger.remove(KEY)
    ledger.remove(KEY)
    assert ledger.sessions() == [f"{KEY}1"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"key": 5}', b"\xff\xfe", b'{"key": "k", "doing": "dance"}'])
def test_a_damaged_entry_counts_as_none(ledger: Ledger, tmp_path: Path, content: bytes) -> None:
    ledger.write(Entry(key=KEY))
    (tmp_path / "exports" / "cdcs" / f"{KEY}.json").write_bytes(content)
    (tmp_path / "exports" / "cdcs" / ".outage").write_bytes(content)
    assert ledger.read(KEY) is None
    assert ledger.outage() is None
    assert ledger.sessions() == [KEY], "what it may have published is withdrawn all the same"


def test_an_outage_is_known_until_it_is_over(ledger: Ledger) -> None:
    ledger.note_outage(KEY, "no connection")
    outage = ledger.outage()
    assert outage
    assert (outage.reason, outage.sessions) == ("no connection", 1)
    ledger.end_outage()
    ledger.end_outage()
    assert ledger.outage() is None


def test_an_outage_counts_the_sessions_that_failed_in_a_row_and_names_none(ledger: Ledger, tmp_path: Path) -> None:
    counted = []
    for key in (KEY, KEY, f"{KEY}1", f"{KEY}1", KEY):
        ledger.note_outage(key, "no connection")
        outage = ledger.outage()
        counted.append(outage.sessions if outage else 0)
    assert counted == [1, 1, 2, 2, 3]
    assert KEY not in (tmp_path / "exports" / "cdcs" / ".outage").read_text()


def test_what_a_killed_process_left_of_a_session_goes_with_its_entry(ledger: Ledger, tmp_path: Path) -> None:
    folder = tmp_path / "exports" / "cdcs"
    ledger.write(Entry(key=KEY))
    leftover, others = folder / ".1.tmp", folder / ".2.tmp"
    leftover.write_bytes((folder / f"{KEY}.json").read_bytes())
    others.write_text(f'{{"key": "{KEY}1"')
    ledger.remove(KEY)
    assert [path for path in (leftover, others) if path.exists()] == [others]


# Alone


def test_only_one_thread_is_busy_with_a_session(tmp_path: Path) -> None:
    counted = []

    def count() -> None:
        with Ledger(tmp_path).alone(KEY):
            seen = len(counted)
            threading.Event().wait(0.002)
            counted.append(seen)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted == list(range(8))


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    is_held = context.Event()
    process = context.Process(target=_hold_for_ever, args=(tmp_path, is_held))
    process.start()
    assert is_held.wait(60)
    entered = threading.Event()
    waiting = threading.Thread(target=_enter, args=(tmp_path, entered), daemon=True)
    waiting.start()
    assert not entered.wait(0.2), "another process has it"
    process.kill()
    assert entered.wait(30)
    process.join()
    waiting.join()


def _enter(folder: Path, entered: threading.Event) -> None:
    with Ledger(folder).alone(KEY):
        entered.set()


def _hold_for_ever(folder: Path, is_held: Any) -> None:
    with Ledger(folder).alone(KEY):
        is_held.set()
        while os.getppid():
            threading.Event().wait(1)
