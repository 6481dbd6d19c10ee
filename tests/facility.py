"""A small facility to test against: the scanning microscope of the demo, built once and copied for every test."""

import ctypes
import functools
import hashlib
import io
import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest
from dagster import AssetKey, DagsterInstance, ExecuteInProcessResult
from dotenv import dotenv_values

from nexuslims_pipeline import configuration
from nexuslims_pipeline.cli import main
from nexuslims_pipeline.demo import facility as demo
from nexuslims_pipeline.demo.week import SEM, USES
from resources import storage
from resources.store import Store

WELD = "2026-03-02_Demo-Quanta-SEM_nemo-104"
"""Eight files, one of them damaged."""
DECLINED = "2026-03-03_Demo-Quanta-SEM_nemo-105"
"""No consent, though there are files."""
CERAMIC = "2026-03-04_Demo-Quanta-SEM_nemo-106"
"""Four files; its answers stand in the reservation."""
EMPTY = "2026-03-05_Demo-Quanta-SEM_nemo-107"
"""No files."""
KEYS = (WELD, DECLINED, CERAMIC, EMPTY)
STAGES = ("usage_event", "session", "file_inventory", "file_metadata", "activities", "record", "session_status")
WELD_FOLDER = "Quanta/J. Okafor/weld A"


class Build(NamedTuple):
    """What one call of ``nexuslims-pipeline build --json`` gave."""

    code: int
    outcomes: dict[str, dict[str, Any]]
    errors: str

    @property
    def states(self) -> dict[str, str]:
        return {key: outcome["state"] for key, outcome in self.outcomes.items()}

    @property
    def causes(self) -> dict[str, str]:
        """Why each session was built, of those that were."""
        return {key: outcome["cause"] for key, outcome in self.outcomes.items() if outcome["cause"]}


@dataclass(frozen=True)
class Facility:
    """One facility below one folder, as `demo.write_facility` lays it out."""

    folder: Path

    @property
    def raw(self) -> Path:
        return self.folder / "instruments"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def store(self) -> Store:
        return Store(data_path=str(self.data))

    def copy(self, folder: Path) -> "Facility":
        """The same facility with the same file times in another place."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        (folder / "demo.env").write_text(demo.settings(folder))
        return Facility(folder)

    # Settings

    def variables(self) -> dict[str, str]:
        return {name: str(value) for name, value in dotenv_values(self.folder / "demo.env").items()}

    def set(self, **variables: str) -> None:
        with (self.folder / "demo.env").open("a") as file:
            file.writelines(f"{name}='{value}'\n" for name, value in variables.items())

    @contextmanager
    def active(self) -> Iterator[configuration.Settings]:
        """This process's settings are the facility's."""
        # Building sets variables for Dagster; they must not outlive the test.
        with mock.patch.dict(os.environ), pytest.MonkeyPatch.context() as patch:
            clear_environment(patch)
            for name, value in self.variables().items():
                patch.setenv(name, value)
            patch.chdir(self.folder)
            forget_settings()
            try:
                yield configuration.settings()
            finally:
                forget_settings()

    # NEMO

    def answers(self, endpoint: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads((self.folder / "nemo" / f"{endpoint}.json").read_text())
        return rows

    def answer(self, endpoint: str, rows: list[dict[str, Any]]) -> None:
        (self.folder / "nemo" / f"{endpoint}.json").write_text(json.dumps(rows))

    def edit_event(self, event_id: int, **changes: Any) -> None:
        rows = self.answers("usage_events")
        self.answer("usage_events", [row | (changes if row["id"] == event_id else {}) for row in rows])

    def remove_event(self, event_id: int) -> None:
        self.answer("usage_events", [row for row in self.answers("usage_events") if row["id"] != event_id])

    def withdraw_consent(self, event_id: int) -> None:
        (row,) = (row for row in self.answers("usage_events") if row["id"] == event_id)
        form = json.loads(row["run_data"])
        form["data_consent"]["user_input"] = "Disagree"
        self.edit_event(event_id, run_data=json.dumps(form))

    # Files

    def add_file(self, like: str, name: str, seconds_later: float = 5) -> Path:
        """A copy of a raw file beside it, saved a little later."""
        source = self.raw / like
        target = source.with_name(name)
        shutil.copyfile(source, target)
        moment = source.stat().st_mtime + seconds_later
        os.utime(target, (moment, moment))
        return target

    # Building

    def build(self, *options: str, since: str = "2026-03-01") -> Build:
        """Call the command line in this process."""
        out, err = io.StringIO(), io.StringIO()
        span = () if "--session" in options or not since else ("--from", since)
        with self.active(), redirect_stdout(out), redirect_stderr(err):
            code = main(["build", "--json", *span, *options])
        outcomes = json.loads(out.getvalue()) if out.getvalue() else []
        return Build(code, {outcome["key"]: outcome for outcome in outcomes}, err.getvalue())

    def materialise(
        self, instance: DagsterInstance, keys: str | tuple[str, str], *stages: str
    ) -> ExecuteInProcessResult:
        """Run the job ``build_sessions`` (or some stages) for a key, or for a range of keys as a backfill does."""
        from nexuslims_pipeline.definitions import build_definitions

        tags = {}
        if isinstance(keys, tuple):
            tags = {
                "dagster/asset_partition_range_start": keys[0],
                "dagster/asset_partition_range_end": keys[1],
            }
        with self.active() as site:
            return (
                build_definitions(site)
                .resolve_job_def("build_sessions")
                .execute_in_process(
                    instance=instance,
                    partition_key=None if tags else str(keys),
                    tags=tags,
                    asset_selection=[AssetKey(stage) for stage in stages] or None,
                    run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                    raise_on_error=False,
                )
            )


@functools.cache
def _written(base: Path) -> Facility:
    facility = Facility(base / "facility written once")
    demo.write_facility(facility.folder)
    shutil.rmtree(facility.raw / "Talos")
    shutil.rmtree(facility.raw / "STEM lab")
    (facility.raw / "Talos").mkdir()
    (facility.raw / "STEM lab").mkdir()
    kept = {use.id for use in USES if use.tool == SEM}
    facility.answer("usage_events", [row for row in facility.answers("usage_events") if row["id"] in kept])
    return facility


@functools.cache
def _built(base: Path) -> Facility:
    facility = _written(base).copy(base / "facility built once")
    result = facility.build()
    assert result.code == 0, result.errors
    return facility


@pytest.fixture
def written(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Facility:
    """A facility of which nothing has been built."""
    return _written(tmp_path_factory.getbasetemp()).copy(tmp_path / "facility")


@pytest.fixture
def built(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Facility:
    """A facility whose sessions have all been built."""
    return _built(tmp_path_factory.getbasetemp()).copy(tmp_path / "facility")


@pytest.fixture(scope="module")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> Facility:
    """The same for tests that only look."""
    return _built(tmp_path_factory.getbasetemp())


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    """A Dagster instance in memory that knows the sessions' keys."""
    with DagsterInstance.ephemeral() as ephemeral:
        ephemeral.add_dynamic_partitions("sessions", list(KEYS))
        yield ephemeral


def clear_environment(patch: pytest.MonkeyPatch) -> None:
    """No setting of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("NX_") and not name.startswith("NX_TEST_")]:
        patch.delenv(name)
    patch.delenv("DAGSTER_HOME", raising=False)


def forget_settings() -> None:
    """What was read once is read again."""
    configuration.settings.cache_clear()
    storage._instruments.cache_clear()


def materialised(instance: DagsterInstance, key: str) -> set[str]:
    """Stages that Dagster counts as materialised for a key."""
    return {stage for stage in STAGES if key in instance.get_materialized_partitions(AssetKey(stage))}


def tree(folder: Path) -> dict[str, tuple[int, str]]:
    """Time and content of everything below a folder: notices any write, even one that changes nothing."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in sorted(folder.rglob("*"))
    }


@contextmanager
def opened_files(folder: Path) -> Iterator[Callable[[], list[str]]]:
    """Names of the files below `folder` that any process opens (inotify(7)); call what it gives to ask."""
    libc = ctypes.CDLL(None, use_errno=True)
    in_open, is_folder = 0x20, 0x40000000
    descriptor = libc.inotify_init1(os.O_NONBLOCK)
    assert descriptor >= 0, os.strerror(ctypes.get_errno())
    for place in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        assert libc.inotify_add_watch(descriptor, os.fsencode(place), in_open) >= 0

    def asked() -> list[str]:
        names = []
        while True:
            try:
                events = os.read(descriptor, 65536)
            except BlockingIOError:
                return names
            while events:
                _, mask, _, length = struct.unpack("iIII", events[:16])
                if not mask & is_folder:
                    names.append(os.fsdecode(events[16 : 16 + length].rstrip(b"\0")))
                events = events[16 + length :]

    try:
        yield asked
    finally:
        os.close(descriptor)


__all__ = ["built", "built_once", "instance", "written"]
