"""The whole pipeline before a real NEMO: from usage events by http to records, by command line, sensors and jobs."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import requests
from dagster import DagsterInstance, DagsterRunStatus, SensorDefinition, SkipReason, build_sensor_context
from facility import clear_environment, forget_settings, opened_files, tree
from lxml import etree
from nemo_server import NemoProcess, share, week
from nemo_server.proxy import Fault, Handler, Proxy, half_an_answer, hang, status

from assets import session_asset
from nexuslims_pipeline.cli import main
from nexuslims_pipeline.configuration import settings
from nexuslims_pipeline.definitions import build_definitions, resources_of
from nexuslims_pipeline.records.schema import NAMESPACE, validate
from nexuslims_pipeline.sensors import nemo_sensor, storage_sensor
from resources import nemo as nemo_door
from resources.nemo import HttpNemo
from resources.store import Store
from resources.web import PATIENT, Patience

pytestmark = pytest.mark.server

COMMAND = Path(sys.executable).with_name("nexuslims-pipeline")
HASTY = Patience(connect=5, read=0.3, total=0.5, pauses=(1,))
"""For a server that hangs; a real one may well take longer."""
WEEK = ("--from", "2026-02-01", "--to", "2026-03-15")
HELIOS = [share.key(number) for number in (25, 5, 21, 22, 23)]
"""The sessions of one instrument; the last two are without consent."""


@dataclass
class Site:
    """One installation of the pipeline, below one folder."""

    folder: Path
    variables: dict[str, str]
    said: list[str] = field(default_factory=list)
    """What every call of the command line wrote."""
    patience: Patience = PATIENT

    @property
    def raw(self) -> Path:
        return self.folder / "raw"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def store(self) -> Store:
        return Store(data_path=str(self.data))

    def build(self, *options: str) -> tuple[int, dict[str, dict[str, Any]]]:
        """Call the command in a process of its own; gives its exit code and its outcomes by key."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("NX_", "DAGSTER"))}
        done = subprocess.run(
            [COMMAND, "build", "--json", *options],
            cwd=self.folder, env=inherited | self.variables, capture_output=True, text=True, timeout=250, check=False,
        )  # fmt: skip
        self.said += [done.stdout, done.stderr]
        return done.returncode, {outcome["key"]: outcome for outcome in json.loads(done.stdout)}

    @contextmanager
    def active(self) -> Iterator[None]:
        """This process is the site's; it pauses for no server between two tries."""

        def hurried(*arguments: Any, **options: Any) -> HttpNemo:
            return HttpNemo(*arguments, **options | {"patience": self.patience, "sleep": lambda _: None})

        with pytest.MonkeyPatch.context() as patch:
            clear_environment(patch)
            for name, value in self.variables.items():
                patch.setenv(name, value)
            patch.chdir(self.folder)
            patch.setattr(nemo_door, "HttpNemo", hurried)
            patch.setattr(session_asset, "TRANSIENT_RETRIES", 0)
            forget_settings()
            try:
                yield
            finally:
                forget_settings()

    def everything_written(self) -> bytes:
        """Names and contents of all that the pipeline ever wrote or said."""
        paths = [path for path in self.folder.rglob("*") if not path.is_relative_to(self.raw)]
        return b"\n".join(
            [*(str(path).encode() for path in paths), *(path.read_bytes() for path in paths if path.is_file())]
            + [text.encode() for text in self.said]
        )


def site_below(folder: Path, address: str, *, only: int | None = None) -> Site:
    site = Site(folder, share.write_share(folder, address))
    if only is not None:
        lines = share.INSTRUMENTS_YAML.splitlines(keepends=True)
        (folder / "instruments.yaml").write_text(lines[0] + lines[only])
    return site


class Record:
    """A record as a reader of the XML sees it."""

    def __init__(self, site: Site, number: int) -> None:
        self.xml = site.store.record_path(share.key(number)).read_bytes()
        self._root = etree.fromstring(self.xml)

    def texts(self, path: str) -> list[str]:
        steps = "/".join(f"n:{step}" for step in path.split("/"))
        return [element.text or "" for element in self._root.iterfind(f".//{steps}", {"n": NAMESPACE})]

    def text(self, path: str) -> str:
        (text,) = self.texts(path)
        return text


@pytest.fixture(scope="module")
def built_week(nemo: NemoProcess, tmp_path_factory: pytest.TempPathFactory) -> "BuiltWeek":
    site = site_below(tmp_path_factory.mktemp("week"), nemo.url)
    raw = tree(site.raw)
    with opened_files(site.raw) as opened:
        code, outcomes = site.build(*WEEK)
        return BuiltWeek(site, code, outcomes, set(opened()), raw)


@dataclass(frozen=True)
class BuiltWeek:
    site: Site
    code: int
    outcomes: dict[str, dict[str, Any]]
    opened: set[str]
    raw: dict[str, tuple[int, str]]
    """The raw tree before the build."""


class TestWeek:
    def test_every_session_comes_to_its_state(self, built_week: BuiltWeek) -> None:
        assert {key: outcome["state"] for key, outcome in built_week.outcomes.items()} == {
            share.key(number): state for number, state in share.STATES.items()
        }
        assert built_week.code == 0
        assert all(o["reason"] for o in built_week.outcomes.values() if o["state"] != "BUILT")

    @pytest.mark.parametrize("number", [n for n, state in share.STATES.items() if state == "BUILT"])
    def test_record_is_valid_and_holds_the_files_of_its_session(self, built_week: BuiltWeek, number: int) -> None:
        record = Record(built_week.site, number)
        times = [datetime.fromisoformat(record.text(f"summary/reservation{side}")) for side in ("Start", "End")]
        row = next(row for row in week.EVENTS if row["id"] == number)

        assert validate(record.xml) == []
        assert {unquote(place).removeprefix("/") for place in record.texts("dataset/location")} == set(
            share.FILES[number]
        )
        assert times == [share.moment(f"{row[side]}:00") for side in ("start", "end")]
        assert record.text("summary/experimenter").startswith(
            "Ben" if row["user"] == week.BEN or number == 26 else "Ada"
        )

    def test_records_say_what_the_users_answered(self, built_week: BuiltWeek) -> None:
        first, booked, staffed = (Record(built_week.site, number) for number in (1, 4, 14))

        assert first.text("title") == "After the run"
        assert first.text("summary/motivation") == "Compare two heats"
        assert first.texts("sample/name") == ["coupon <7> & co"]
        assert first.texts("sample/description") == ["etched", "then polished"]
        assert (first.text("project/name"), first.text("project/project_id")) == ("Oxide films", "MD-2026-1")
        assert first.texts("summary/collaborator") == []
        assert (booked.text("title"), booked.text("id")) == ("From the booking", "2")
        assert staffed.text("summary/collaborator") == "Mary Staff (mstaff)"

    def test_times_keep_their_offset_over_midnight_and_the_change_of_the_clock(self, built_week: BuiltWeek) -> None:
        midnight, change = Record(built_week.site, 15), Record(built_week.site, 16)

        assert midnight.text("summary/reservationEnd") == "2026-03-04T03:30:00-05:00"
        assert change.text("summary/reservationStart") == "2026-03-07T22:00:00-05:00"
        assert change.text("summary/reservationEnd") == "2026-03-08T05:00:00-04:00"
        assert change.texts("acquisitionActivity/startTime")[0] == "2026-03-08T01:59:00-05:00"

    def test_file_that_cannot_be_read_is_in_the_record_with_its_name(self, built_week: BuiltWeek) -> None:
        (damaged,) = (d for d in built_week.site.store.datasets(share.key(2)) or [] if "cut" in d.location)

        assert damaged.nx_meta["DatasetType"] == "Unknown"
        assert "cut off.tif" in Record(built_week.site, 2).texts("dataset/name")

    def test_nothing_of_a_session_without_consent_is_opened_or_told(self, built_week: BuiltWeek) -> None:
        permitted = {Path(place).name for files in share.FILES.values() for place in files if share.SECRET not in place}

        assert built_week.opened == permitted
        assert share.SECRET.encode() not in built_week.site.everything_written()

    def test_token_is_written_nowhere(self, built_week: BuiltWeek) -> None:
        assert week.READER_TOKEN.encode() not in built_week.site.everything_written()

    def test_second_build_writes_nothing_and_opens_no_raw_file(self, built_week: BuiltWeek) -> None:
        site = built_week.site
        before = tree(site.folder)

        with opened_files(site.raw) as opened:
            code, outcomes = site.build(*WEEK)
            assert opened() == []

        assert tree(site.folder) == before
        assert tree(site.raw) == built_week.raw
        assert (code, outcomes) == (0, {key: o | {"cause": "", "copies": []} for key, o in built_week.outcomes.items()})


class Admin:
    """Somebody who edits in NEMO."""

    def __init__(self, server: NemoProcess) -> None:
        self._url = server.url
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Token {server.admin_token}"

    def answer(self, event_id: int, question: str, text: str) -> None:
        form = json.loads(self._session.get(f"{self._url}usage_events/{event_id}/", timeout=30).json()["run_data"])
        form[question]["user_input"] = text
        self.edit("usage_events", event_id, run_data=json.dumps(form))

    def edit(self, endpoint: str, number: int, **changes: Any) -> None:
        self._session.patch(f"{self._url}{endpoint}/{number}/", json=changes, timeout=30).raise_for_status()

    def delete(self, event_id: int) -> None:
        self._session.delete(f"{self._url}usage_events/{event_id}/", timeout=30).raise_for_status()


def build_here(site: Site, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, list[dict[str, Any]], str]:
    capsys.readouterr()
    with site.active():
        code = main(["build", "--json", *options])
    out, err = capsys.readouterr()
    site.said += [out, err]
    return code, json.loads(out), err


def states(outcomes: list[dict[str, Any]]) -> dict[str, str]:
    return {outcome["key"]: outcome["state"] for outcome in outcomes}


def test_what_is_edited_in_nemo_is_taken_over(
    own_nemo: NemoProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = site_below(tmp_path, own_nemo.url, only=week.TITAN)
    span = ("--from", "2026-03-02", "--to", "2026-03-03")
    keys = {number: share.key(number) for number in (1, 2, 3, 4)}
    _, first, _ = build_here(site, capsys, *span)
    assert states(first) == {k: share.STATES[n] for n, k in keys.items()}
    old_record = Record(site, 4).xml

    admin = Admin(own_nemo)
    admin.answer(1, "data_consent", "Disagree")
    admin.edit("usage_events", 2, end="2026-03-02T13:10:30-05:00")
    admin.answer(3, "data_consent", "Agree")
    admin.edit("reservations", 2, title="moved by staff", project=1)
    code, second, _ = build_here(site, capsys, *span)

    assert code == 0
    assert {outcome["cause"] for outcome in second} == {"changed in NEMO"}
    assert list(states(second).values()) == ["WITHDRAWN", "BUILT", "BUILT", "BUILT"]
    assert [path.name for path in site.data.rglob("*") if "point.msa" in path.name] == [], "consent is withdrawn"
    assert not site.store.record_path(keys[1]).exists()
    assert Record(site, 2).texts("dataset/name") == ["first.tif"]
    assert Record(site, 2).text("summary/reservationEnd") == "2026-03-02T13:10:30-05:00"
    assert Record(site, 3).text("title") == "Then refused"
    assert Record(site, 4).text("project/name") == "Oxide films"
    assert site.store.record_path(keys[4]).with_suffix(".v1.xml").read_bytes() == old_record

    admin.delete(4)
    admin.edit("usage_events", 2, start="2026-03-01T23:00:00-05:00")
    code, third, _ = build_here(site, capsys, *span)
    assert code == 0
    changed = {outcome["key"] for outcome in third if outcome["cause"]}
    assert changed == {keys[1], keys[2]}, "the use that now overlaps another decides about its files too"
    assert Record(site, 2).text("summary/reservationStart") == "2026-03-01T23:00:00-05:00"
    assert len(list((site.data / "records").rglob("*nemo-2.xml"))) == 1

    code, (asked,), _ = build_here(site, capsys, "--session", keys[4])
    assert (code, asked["state"]) == (1, "FAILED")
    assert "does not exist on NEMO server 'nemo' any more" in asked["reason"]
    assert Record(site, 4).xml


OUTAGES = [hang, status(500), status(503, Retry_After="1"), half_an_answer]
REQUESTS_OF_A_LIST = 6
"""What listing the uses takes: tools, running and finished uses; what overlaps those, likewise; bookings."""


def disturb(site: Site, proxy: Proxy, *faults: Fault) -> None:
    """Let the server fail from now on; after a list of uses, if the first of two faults is to answer."""
    *before, fault = faults
    proxy.faults = before * REQUESTS_OF_A_LIST + [fault] * 100
    site.patience = HASTY if fault is hang else PATIENT


def calm(site: Site, proxy: Proxy) -> None:
    """Let the server answer again."""
    proxy.faults, site.patience = [], PATIENT


@pytest.fixture
def helios(nemo: NemoProcess, tmp_path: Path) -> Iterator[tuple[Site, Proxy]]:
    """A site with one instrument, whose way to NEMO can be disturbed."""
    with Proxy(nemo.port) as proxy:
        yield site_below(tmp_path, proxy.url, only=week.HELIOS), proxy
        proxy.shutdown()


def test_build_names_the_server_that_is_away_and_catches_up(
    helios: tuple[Site, Proxy], nemo: NemoProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    site, proxy = helios
    one_session = ("--from", "2026-02-20", "--to", "2026-02-20")

    for fault in OUTAGES:
        disturb(site, proxy, fault)
        code, outcomes, told = build_here(site, capsys, *one_session)
        assert (code, outcomes) == (1, [])
        assert "NEMO server 'nemo'" in told
        assert "see whether NEMO runs and the address is right" in told
    address, site.variables["NX_NEMO_ADDRESS_1"] = proxy.url, "http://127.0.0.1:9/api/"
    code, outcomes, told = build_here(site, capsys, *one_session)
    assert (code, outcomes) == (1, [])
    assert "NEMO server 'nemo' (http://127.0.0.1:9/api/) does not answer: no connection" in told
    site.variables["NX_NEMO_ADDRESS_1"] = address

    # Away again in the middle: the use is listed, but cannot be collected.
    disturb(site, proxy, Handler.forward, status(500))
    code, (outcome,), told = build_here(site, capsys, *one_session)
    assert (code, outcome["state"]) == (1, "FAILED")
    assert "status 500" in outcome["reason"]

    calm(site, proxy)
    code, (outcome,), told = build_here(site, capsys, *one_session)
    assert (code, outcome["state"], outcome["cause"], told) == (0, "BUILT", "new in NEMO", "")
    code, (outcome,), _ = build_here(site, capsys, *one_session)
    assert (code, outcome["cause"]) == (0, "")
    assert site.store.reached("session_key") == ["nemo-25"]
    assert week.READER_TOKEN.encode() not in site.everything_written()


class Daemon:
    """What Dagster's daemon does for the sensors, tick by tick."""

    def __init__(self, instance: DagsterInstance) -> None:
        self.instance = instance
        self._cursors: dict[str, str | None] = {}

    def tick(self, sensor: SensorDefinition) -> tuple[list[Any], str]:
        """Requests for runs and the reason when there are none."""
        with build_sensor_context(
            self.instance, cursor=self._cursors.get(sensor.name), resources=resources_of(settings())
        ) as context:
            told = sensor(context)
        if isinstance(told, SkipReason):
            return [], str(told.skip_message)
        assert bool(told.run_requests) is not bool(told.skip_reason)
        self._cursors[sensor.name] = told.cursor
        for request in told.dynamic_partitions_requests or []:
            self.instance.add_dynamic_partitions("sessions", list(request.partition_keys))
        return list(told.run_requests or []), str(told.skip_reason or "")

    def run(self, request: Any) -> None:
        result = (
            build_definitions(settings())
            .resolve_job_def("build_sessions")
            .execute_in_process(
                instance=self.instance,
                partition_key=request.partition_key,
                asset_selection=request.asset_selection,
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            )
        )
        assert result.success

    def harvest(self, first: str, last: str) -> str:
        """Why the job failed; empty if it did not."""
        result = (
            build_definitions(settings())
            .resolve_job_def("harvest")
            .execute_in_process(
                instance=self.instance,
                run_config={
                    "ops": {"register_uses": {"config": {"from_date": first, "to_date": last}}},
                    "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                },
                raise_on_error=False,
            )
        )
        failed = [event.step_failure_data for event in result.all_events if event.is_step_failure]
        return failed[0].error_display_string if failed else ""


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with DagsterInstance.ephemeral() as instance:
        yield Daemon(instance)


def keys_of(requested: list[Any]) -> list[str]:
    return [request.partition_key for request in requested]


def test_sensors_catch_up_with_nemo_and_with_the_files(helios: tuple[Site, Proxy], daemon: Daemon) -> None:
    site, proxy = helios
    site.variables |= {"NX_HARVEST_DAYS": "36500", "NX_WATCH_DAYS": "36500"}
    with site.active():
        nemo, files = nemo_sensor("nemo", settings()), storage_sensor("FEI-Helios", settings())

        for fault in OUTAGES:
            disturb(site, proxy, fault)
            requested, told = daemon.tick(nemo)
            assert requested == []
            assert "NEMO server 'nemo'" in told
            assert "Nothing is lost" in told
        calm(site, proxy)
        requested, _ = daemon.tick(nemo)
        assert sorted(keys_of(requested)) == sorted(HELIOS)
        assert daemon.tick(nemo)[0] == [], "asked for twice"
        for request in requested:
            daemon.run(request)
        states = {key: str(site.store.state(key)[0]) for key in HELIOS}
        assert states == dict(zip(HELIOS, ["BUILT"] * 3 + ["NO_CONSENT"] * 2, strict=True))
        assert daemon.tick(nemo)[0] == daemon.tick(files)[0] == []

        late = share.write_file(site.raw, "Helios/late.tif", share.moment("03-04 11:00:00"))
        share.write_file(site.raw, "Helios/of nobody.tif", share.moment("03-10 15:45:00"))
        (request,), _ = daemon.tick(files)
        assert request.partition_key == share.key(5)
        daemon.run(request)
        assert Record(site, 5).texts("dataset/name") == ["eight days.tif", "late.tif"]
        late.unlink()
        (request,), _ = daemon.tick(files)
        daemon.run(request)
        assert Record(site, 5).texts("dataset/name") == ["eight days.tif"]
        assert daemon.tick(files)[0] == []

    runs = daemon.instance.get_runs()
    assert [run.status for run in runs] == [DagsterRunStatus.SUCCESS] * (len(HELIOS) + 2)
    assert week.READER_TOKEN not in repr(daemon.instance.all_logs(runs[0].run_id))


def test_sensor_looks_back_to_where_a_long_silence_began(helios: tuple[Site, Proxy], daemon: Daemon) -> None:
    """The span that is always read again is a day; the uses of the silence are months old."""
    site, proxy = helios
    site.variables["NX_HARVEST_DAYS"] = "1"
    with site.active():
        nemo = nemo_sensor("nemo", settings())
        daemon._cursors[nemo.name] = json.dumps({"high_water": "2026-03-05T00:00:00Z"})
        disturb(site, proxy, status(503))
        daemon.tick(nemo)
        calm(site, proxy)

        assert sorted(keys_of(daemon.tick(nemo)[0])) == sorted(share.key(number) for number in (21, 22, 23))


def test_harvest_of_the_past_is_built_by_the_sensor(helios: tuple[Site, Proxy], daemon: Daemon) -> None:
    site, proxy = helios
    site.variables["NX_HARVEST_DAYS"] = "1"
    with site.active():
        nemo = nemo_sensor("nemo", settings())
        assert daemon.tick(nemo)[0] == []
        assert "write it like 2024-01-01" in daemon.harvest("March", "2026-03-05")
        assert "lies before the first" in daemon.harvest("2026-03-05", "2026-02-01")
        proxy.faults = [status(500)] * 3
        assert "did not answer; run the harvest again" in daemon.harvest("2026-02-01", "2026-03-05")
        assert daemon.harvest("2026-02-01", "2026-03-05") == ""

        requested, _ = daemon.tick(nemo)
        assert sorted(keys_of(requested)) == sorted([share.key(25), share.key(5)])
        assert {request.tags["dagster/priority"] for request in requested} == {"0"}
        assert set(keys_of(requested)) == set(daemon.instance.get_dynamic_partitions("sessions"))
