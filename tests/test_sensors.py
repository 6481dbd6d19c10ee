"""Sensors: everything new or changed is asked for once, and again when its run was lost; nothing else is."""

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, build_sensor_context
from dagster._core.definitions.sensor_definition import SensorExecutionData
from facility import CERAMIC, DECLINED, EMPTY, KEYS, WELD, WELD_FOLDER, Facility, built, built_once, written
from hypothesis import given
from hypothesis import strategies as st

from nexuslims_pipeline.definitions import build_definitions, resources_of
from nexuslims_pipeline.sensors import CHANGED_FILES, FROM_THE_FILES_ON, HARVESTED, NEW_SESSION
from nexuslims_pipeline.sessions.asked import AT_ONCE, FIRST_REPEAT, LONGEST_REPEAT, Memory

__all__ = ["built", "built_once", "written"]

NEMO, FILES = "nemo_nemo", "files_demo_quanta_sem"
EVER = {"NX_HARVEST_DAYS": "36500", "NX_WATCH_DAYS": "36500"}
"""The demo's week lies in the past; so these sensors look back far enough."""


@pytest.fixture
def empty_instance(tmp_path: Path) -> Iterator[DagsterInstance]:
    """A Dagster instance on disk: only such a one lets a look ask for runs of keys that it adds."""
    (tmp_path / "dagster").mkdir()
    with DagsterInstance.local_temp(str(tmp_path / "dagster")) as on_disk:
        yield on_disk


@pytest.fixture
def instance(empty_instance: DagsterInstance) -> DagsterInstance:
    """The same when it knows the sessions' keys."""
    empty_instance.add_dynamic_partitions("sessions", list(KEYS))
    return empty_instance


def tick(facility: Facility, instance: DagsterInstance, sensor: str, cursor: str | None = None) -> SensorExecutionData:
    """One look of a sensor; the keys that it adds are there afterwards."""
    with facility.active() as site:
        definitions = build_definitions(site)
        context = build_sensor_context(
            instance,
            cursor,
            instance_ref=instance.get_ref(),
            definitions=definitions,
            sensor_name=sensor,
            resources=resources_of(site),
        )
        seen = definitions.resolve_sensor_def(sensor).evaluate_tick(context)
    for request in seen.dynamic_partitions_requests or ():
        instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
    return seen


def asked(seen: SensorExecutionData) -> dict[str | None, str]:
    """Keys that a look asks runs for, with their priority."""
    return {request.partition_key: request.tags["dagster/priority"] for request in seen.run_requests or ()}


def later(cursor: str | None, pause: timedelta) -> str:
    """The cursor as if `pause` had gone by since it was written."""
    memory = Memory.read(cursor)
    for question in memory.asked.values():
        question.at -= pause
    return memory.text()


# NEMO


def test_new_sessions_are_asked_for_once(written: Facility, empty_instance: DagsterInstance) -> None:
    written.set(**EVER)
    first = tick(written, empty_instance, NEMO)
    assert asked(first) == dict.fromkeys(KEYS, NEW_SESSION)
    assert set(empty_instance.get_dynamic_partitions("sessions")) == set(KEYS)
    second = tick(written, empty_instance, NEMO, first.cursor)
    assert asked(second) == {}
    assert written.materialise(empty_instance, EMPTY).success
    third = tick(written, empty_instance, NEMO, later(second.cursor, FIRST_REPEAT))
    assert asked(third) == dict.fromkeys({*KEYS} - {EMPTY}, NEW_SESSION), "those runs were lost"
    fourth = tick(written, empty_instance, NEMO, later(third.cursor, FIRST_REPEAT))
    assert asked(fourth) == {}, "the second pause is longer"
    assert set(asked(tick(written, empty_instance, NEMO, later(fourth.cursor, FIRST_REPEAT)))) == {*KEYS} - {EMPTY}


def test_a_damaged_cursor_loses_nothing(written: Facility, empty_instance: DagsterInstance) -> None:
    written.set(**EVER)
    for cursor in ("{", "null", '{"asked": 7}', '{"high_water": "2026-03-02T10:00:00"}'):
        assert set(asked(tick(written, empty_instance, NEMO, cursor))) == set(KEYS)


def test_built_sessions_are_left_alone_until_their_answers_change(built: Facility, instance: DagsterInstance) -> None:
    built.set(**EVER)
    quiet = tick(built, instance, NEMO)
    assert asked(quiet) == {}
    built.edit_event(107, project=1)
    changed = tick(built, instance, NEMO, quiet.cursor)
    assert asked(changed) == {EMPTY: NEW_SESSION}
    assert asked(tick(built, instance, NEMO, changed.cursor)) == {}
    built.edit_event(107, operator=5)
    built.edit_event(105, operator=5)
    again = tick(built, instance, NEMO, changed.cursor)
    assert set(asked(again)) == {EMPTY, DECLINED}
    rows = built.answers("reservations")
    built.answer("reservations", [row | {"title": "moved"} for row in rows])
    assert CERAMIC in asked(tick(built, instance, NEMO, again.cursor)), "its answers stand in its reservation"


def test_keys_with_an_unfinished_run_are_not_asked_for(written: Facility, instance: DagsterInstance) -> None:
    written.set(**EVER)
    for number, tags in enumerate(
        (
            {"dagster/partition": EMPTY},
            {"dagster/asset_partition_range_start": DECLINED, "dagster/asset_partition_range_end": CERAMIC},
        )
    ):
        instance.add_run(
            DagsterRun(job_name="build_sessions", run_id=str(number), status=DagsterRunStatus.STARTED, tags=tags)
        )
    first = tick(written, instance, NEMO)
    assert asked(first) == {WELD: NEW_SESSION}
    for number in range(2):
        run = instance.get_run_by_id(str(number))
        assert run
        instance.report_run_failed(run)
    assert set(asked(tick(written, instance, NEMO, first.cursor))) == {DECLINED, CERAMIC, EMPTY}


def test_a_silent_server_is_caught_up_with(written: Facility, empty_instance: DagsterInstance) -> None:
    written.set(NX_HARVEST_DAYS="1")
    high_water = datetime(2026, 3, 1, tzinfo=UTC)
    cursor = Memory(high_water=high_water).text()
    shutil.move(written.folder / "nemo", written.folder / "away")
    silent = tick(written, empty_instance, NEMO, cursor)
    assert silent.skip_message
    assert "Nothing is lost: the next look goes back to 2026-03-01 00:00 UTC." in silent.skip_message
    assert silent.cursor in {None, cursor}
    assert not silent.run_requests
    shutil.move(written.folder / "away", written.folder / "nemo")
    back = tick(written, empty_instance, NEMO, cursor)
    assert set(asked(back)) == set(KEYS)
    memory = Memory.read(back.cursor)
    assert memory.high_water
    assert memory.high_water > high_water


def test_a_run_that_was_killed_is_asked_for_again(built: Facility, instance: DagsterInstance) -> None:
    built.set(**EVER)
    built.store.begin(CERAMIC)
    assert asked(tick(built, instance, NEMO)) == {CERAMIC: HARVESTED}
    built.store.write_failure(CERAMIC, "record", "somebody must look", "run")
    assert asked(tick(built, instance, NEMO)) == {}


# The past


def test_a_harvest_registers_what_the_sensors_then_ask_for(written: Facility, empty_instance: DagsterInstance) -> None:
    shutil.copytree(written.folder / "nemo", written.folder / "nemo2")
    annex = (written.folder / "nemo2").as_uri() + "/"
    written.set(NX_NEMO_ADDRESS_2=annex, NX_NEMO_TZ_2="America/Denver", NX_NEMO_ADDRESS_3=annex[:-2] + "gone/")
    instruments = (written.folder / "instruments.yaml").read_text()
    instruments = instruments.replace("server: nemo, tool: 1", "server: nemo2, tool: 1")
    (written.folder / "instruments.yaml").write_text(
        instruments.replace("server: nemo, tool: 3", "server: nemo3, tool: 3")
    )
    assert asked(tick(written, empty_instance, NEMO)) == {}
    with written.active() as site:
        result = (
            build_definitions(site)
            .resolve_job_def("harvest")
            .execute_in_process(
                instance=empty_instance,
                run_config={
                    "ops": {"register_uses": {"config": {"from_date": "2026-03-02", "to_date": "2026-03-06"}}},
                    "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                },
                raise_on_error=False,
            )
        )
    (failure,) = (event.step_failure_data for event in result.all_events if event.is_step_failure)
    assert "1 NEMO servers did not answer; run the harvest again for them." in str(failure.user_failure_data)
    assert "nemo3: " in str(failure.user_failure_data)
    assert set(empty_instance.get_dynamic_partitions("sessions")) == set(KEYS)
    assert asked(tick(written, empty_instance, NEMO)) == dict.fromkeys(KEYS, HARVESTED)


# Files


def test_files_that_arrive_change_or_vanish_are_looked_at_again(built: Facility, instance: DagsterInstance) -> None:
    built.set(**EVER)
    quiet = tick(built, instance, FILES)
    assert asked(quiet) == {}
    added = built.add_file(f"{WELD_FOLDER}/grains 02.tif", "late.tif")
    seen = tick(built, instance, FILES, quiet.cursor)
    assert asked(seen) == {WELD: CHANGED_FILES}
    (request,) = seen.run_requests or ()
    assert request.asset_selection == FROM_THE_FILES_ON
    assert [key.to_user_string() for key in FROM_THE_FILES_ON] == [
        "file_inventory",
        "file_metadata",
        "activities",
        "record",
    ]
    assert asked(tick(built, instance, FILES, seen.cursor)) == {}

    stages = [key.to_user_string() for key in FROM_THE_FILES_ON]
    assert built.materialise(instance, WELD, *stages).success
    assert b"late.tif" in built.store.record_path(WELD).read_bytes()
    assert asked(tick(built, instance, FILES, seen.cursor)) == {}

    os.utime(added, (added.stat().st_mtime + 1,) * 2)
    changed = tick(built, instance, FILES, seen.cursor)
    assert asked(changed) == {WELD: CHANGED_FILES}
    added.unlink()
    assert asked(tick(built, instance, FILES, changed.cursor)) == {WELD: CHANGED_FILES}


def test_files_that_the_site_wants_read_otherwise_are_read_again(built: Facility, instance: DagsterInstance) -> None:
    built.set(**EVER)
    quiet = tick(built, instance, FILES)
    built.set(NX_OMIT_PERSONAL_DATA="true")
    changed = tick(built, instance, FILES, quiet.cursor)
    assert asked(changed) == dict.fromkeys((WELD, CERAMIC), CHANGED_FILES)
    assert {request.tags["nexuslims/cause"] for request in changed.run_requests or ()} == {
        "the rules for its files changed"
    }
    assert asked(tick(built, instance, FILES, changed.cursor)) == {}


def test_files_that_settle_make_a_waiting_session_due(written: Facility, instance: DagsterInstance) -> None:
    now = datetime.now(UTC)
    written.edit_event(107, start=(now - timedelta(hours=1)).isoformat(), end=(now - timedelta(seconds=1)).isoformat())
    target = written.raw / "Quanta" / "now.tif"
    shutil.copyfile(written.raw / WELD_FOLDER / "grains 02.tif", target)
    saved = time.time() - 120
    os.utime(target, (saved, saved))
    written.set(NX_SETTLE_SECONDS="3600")
    (key,) = written.build(since="").states
    assert written.store.state(key)[0] == "WAITING_FOR_FILES"
    waiting = tick(written, instance, FILES)
    assert asked(waiting) == {}
    written.set(NX_SETTLE_SECONDS="60")
    settled = tick(written, instance, FILES, waiting.cursor)
    assert asked(settled) == {key: CHANGED_FILES}
    (request,) = settled.run_requests or ()
    assert request.tags["nexuslims/cause"] in {"now READY", "files changed"}


def test_sessions_without_consent_and_old_ones_are_not_watched(built: Facility, instance: DagsterInstance) -> None:
    built.set(**EVER)
    built.add_file("Quanta/rtanaka/do not use 1.tif", "do not use 3.tif")
    assert asked(tick(built, instance, FILES)) == {}
    built.add_file(f"{WELD_FOLDER}/grains 02.tif", "late.tif")
    built.set(NX_WATCH_DAYS="1")
    assert asked(tick(built, instance, FILES)) == {}


def test_a_share_that_is_not_mounted_asks_for_nothing(built: Facility, instance: DagsterInstance) -> None:
    built.set(**EVER)
    shutil.move(built.raw / "Quanta", built.raw / "Not mounted")
    gone = tick(built, instance, FILES)
    assert asked(gone) == {}
    shutil.move(built.raw / "Not mounted", built.raw / "Quanta")
    assert asked(tick(built, instance, FILES, gone.cursor)) == {}


# What was asked

NOW = datetime(2026, 3, 2, tzinfo=UTC)
NAMES = st.sampled_from([f"session {number}" for number in range(5)])
LOOKS = st.lists(
    st.tuples(
        st.timedeltas(timedelta(0), timedelta(days=2)),
        st.dictionaries(NAMES, st.sampled_from("ab")),
        st.sets(NAMES, max_size=2),
    ),
    max_size=12,
)


@given(LOOKS)
def test_each_change_is_asked_for_once_and_again_after_a_pause(
    looks: list[tuple[timedelta, Mapping[str, str], set[str]]],
) -> None:
    now, cursor = NOW, None
    before: dict[str, tuple[str, datetime]] = {}
    for pause, due, busy in looks:
        now += pause
        memory = Memory.read(cursor)
        chosen = memory.choose(due, busy, now)
        cursor = memory.text()
        assert chosen == [key for key in due if key in chosen], "in the order of those due, each once"
        assert not busy & set(chosen)
        before = {key: question for key, question in before.items() if key in due}
        for key, token in due.items():
            known = before.get(key)
            if known is None or known[0] != token:
                assert (key in chosen) is (key not in busy)
            elif now - known[1] < FIRST_REPEAT:
                assert key not in chosen
            elif now - known[1] >= LONGEST_REPEAT:
                assert (key in chosen) is (key not in busy)
        before |= {key: (due[key], now) for key in chosen}
        assert set(Memory.read(cursor).asked) == set(before), "the cursor holds what is open, and cannot grow"


def test_a_question_from_the_future_silences_nothing() -> None:
    memory = Memory()
    assert memory.choose({"a": "b"}, (), NOW + timedelta(days=400)) == ["a"]
    assert memory.choose({"a": "b"}, (), NOW) == ["a"]


def test_no_more_than_some_are_asked_for_at_once() -> None:
    due = {f"{number:04}": "new" for number in range(2 * AT_ONCE + 1)}
    memory = Memory()
    looks = [memory.choose(due, (), NOW) for _ in range(4)]
    assert [len(chosen) for chosen in looks] == [AT_ONCE, AT_ONCE, 1, 0]
    assert [key for chosen in looks for key in chosen] == list(due)


@given(st.lists(st.datetimes(timezones=st.just(UTC)), max_size=5))
def test_the_high_water_never_falls(ends: list[datetime]) -> None:
    memory = Memory(high_water=NOW)
    memory.raise_high_water(ends)
    assert memory.high_water == max([NOW, *ends])
    assert Memory.read(memory.text()) == memory


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_whatever_the_cursor_holds_it_is_read(cursor: str) -> None:
    assert Memory.read(cursor).choose({"a": "b"}, (), NOW) == ["a"]
