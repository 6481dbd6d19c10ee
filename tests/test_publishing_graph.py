"""Destinations in Dagster: what is in the graph, which runs end how, what the sensors and the command line ask for."""

import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from dagster import AssetKey, DagsterInstance, ExecuteInProcessResult, build_sensor_context
from dagster._core.definitions.sensor_definition import SensorExecutionData
from facility import CERAMIC, DECLINED, EMPTY, KEYS, WELD, Facility, built, instance, materialised, written

from nexuslims_pipeline.cli import main
from nexuslims_pipeline.definitions import build_definitions, resources_of
from resources.ledger import Ledger

__all__ = ["built", "instance", "written"]


def command(facility: Facility, *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a command at a facility."""
    out, err = io.StringIO(), io.StringIO()
    with facility.active(), redirect_stdout(out), redirect_stderr(err):
        code = main(list(arguments))
    return code, out.getvalue(), err.getvalue()


def crates(facility: Facility) -> set[str]:
    return {path.stem for path in (facility.folder / "crates").rglob("*.eln")}


def ledger(facility: Facility) -> Ledger:
    return Ledger(facility.data / "exports" / "crates")


def publish(
    facility: Facility, instance: DagsterInstance, keys: str | tuple[str, str], destination: str = "crates"
) -> ExecuteInProcessResult:
    """Run the job of a destination, for a key or a range of keys as a backfill does."""
    tags = {}
    if isinstance(keys, tuple):
        tags = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[1]}
    with facility.active() as site:
        return (
            build_definitions(site)
            .resolve_job_def(f"publish_{destination}")
            .execute_in_process(
                instance=instance,
                partition_key=None if tags else str(keys),
                tags=tags | {"nexuslims/no_retry": "a test"},
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                raise_on_error=False,
            )
        )


def told(instance: DagsterInstance, asset: str, key: str) -> dict[str, Any]:
    """Metadata of the latest materialisation."""
    from dagster import AssetRecordsFilter

    wanted = AssetRecordsFilter(asset_key=AssetKey(asset), asset_partitions=[key])
    (record,) = instance.fetch_materializations(wanted, limit=1).records
    assert record.asset_materialization
    return {name: entry.value for name, entry in record.asset_materialization.metadata.items()}


def block(facility: Facility) -> Path:
    """Put a file where the folder of crates should be: nothing can be written there."""
    folder = facility.folder / "blocked"
    folder.write_text("no folder")
    facility.set(NX_CRATES_PATH=str(folder))
    return folder


def test_only_configured_destinations_are_in_the_graph(written: Facility) -> None:
    with written.active() as site:
        keys = {key.to_user_string() for key in build_definitions(site).resolve_asset_graph().get_all_asset_keys()}
    assert keys >= {"ro_crate", "record_page", "portal_index"}
    assert not keys & {"cdcs_record", "elabftw_experiment", "labarchives_page"}

    written.set(NX_PORTAL="false", NX_CRATES_PATH="", NX_CDCS_URL="https://cdcs.example.org/", NX_CDCS_TOKEN="t")
    written.set(NX_ELABFTW_URL="https://elab.example.org", NX_ELABFTW_API_KEY="3-abc")
    with written.active() as site:
        graph = build_definitions(site).resolve_asset_graph()
        parents = {key.to_user_string() for key in graph.get(AssetKey("elabftw_experiment")).parent_keys}
        summed_up = {key.to_user_string() for key in graph.get(AssetKey("session_status")).parent_keys}
    assert parents == {"record", "cdcs_record"}
    assert summed_up == {"record", "cdcs_record", "elabftw_experiment"}


class TestRuns:
    def test_a_range_is_sent_once_and_an_unchanged_record_is_not_sent_again(
        self, built: Facility, instance: DagsterInstance
    ) -> None:
        for path in (built.folder / "crates").rglob("*.eln"):
            path.unlink()

        first = publish(built, instance, (KEYS[0], KEYS[-1]))
        times = {path: path.stat().st_mtime_ns for path in (built.folder / "crates").rglob("*.eln")}
        second = publish(built, instance, (KEYS[0], KEYS[-1]))

        assert first.success
        assert second.success
        assert crates(built) == {WELD, CERAMIC}
        assert {path: path.stat().st_mtime_ns for path in times} == times
        assert told(instance, "ro_crate", WELD)["action"] == "unchanged"
        assert told(instance, "session_status", WELD)["published"] is True
        assert "ro_crate" not in {s for key in (DECLINED, EMPTY) for s in materialised(instance, key)}

    def test_a_rebuilt_record_replaces_the_copy(self, built: Facility, instance: DagsterInstance) -> None:
        built.edit_event(104, run_data=_retitled(built, 104, "A better title"))
        built.build("--no-publish")

        publish(built, instance, WELD)

        (eln,) = (built.folder / "crates").rglob(f"{WELD}.eln")
        with zipfile.ZipFile(eln) as crate:
            xml = next(crate.read(name) for name in crate.namelist() if name.endswith(".xml"))
        assert xml == built.store.record_path(WELD).read_bytes()
        assert b"A better title" in xml
        assert told(instance, "ro_crate", WELD)["action"] == "updated"

    def test_what_fails_turns_its_run_red_and_is_told(self, built: Facility, instance: DagsterInstance) -> None:
        block(built)
        result = publish(built, instance, (KEYS[0], KEYS[-1]))

        assert not result.success
        assert {key for key in KEYS if "ro_crate" in materialised(instance, key)} == set()
        assert told(instance, "session_status", WELD)["state"] == "FAILED"
        assert built.store.failure(WELD) is None, "the record itself is not to blame"
        entry = ledger(built).read(WELD)
        assert entry
        assert entry.failure

    def test_one_that_succeeds_is_enough_for_best_effort(self, built: Facility, instance: DagsterInstance) -> None:
        built.set(NX_CDCS_URL="http://127.0.0.1:9/", NX_CDCS_TOKEN="t", NX_EXPORT_STRATEGY="best_effort")

        result = publish(built, instance, WELD, "cdcs")

        assert result.success
        status = told(instance, "session_status", WELD)
        assert (status["state"], status["published"]) == ("PUBLISHED", True)
        assert "cdcs_record" not in materialised(instance, WELD)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[DagsterInstance]:
    """A Dagster instance on disk, as sensors need it."""
    with DagsterInstance.local_temp(str(tmp_path)) as on_disk:
        on_disk.add_dynamic_partitions("sessions", list(KEYS))
        yield on_disk


class TestSensor:
    def look(self, facility: Facility, instance: DagsterInstance, cursor: str | None = None) -> SensorExecutionData:
        with facility.active() as site:
            definitions = build_definitions(site)
            context = build_sensor_context(
                instance,
                cursor,
                instance_ref=instance.get_ref(),
                definitions=definitions,
                sensor_name="publish_crates",
                resources=resources_of(site),
            )
            return definitions.resolve_sensor_def("publish_crates").evaluate_tick(context)

    def test_it_asks_for_what_is_not_there_yet_and_once(self, built: Facility, kept: DagsterInstance) -> None:
        assert self.look(built, kept).run_requests == []
        for key in (WELD, CERAMIC):
            ledger(built).remove(key)

        first = self.look(built, kept)
        second = self.look(built, kept, first.cursor)

        assert {request.partition_key for request in first.run_requests or []} == {WELD, CERAMIC}
        assert not second.run_requests

    def test_a_damaged_file_costs_its_session_only(self, built: Facility, kept: DagsterInstance) -> None:
        for key in (WELD, CERAMIC):
            ledger(built).remove(key)
        built.store.stage_path("record", WELD).write_bytes(b"")

        asked = self.look(built, kept).run_requests or []

        assert [request.partition_key for request in asked] == [CERAMIC]

    def test_in_an_outage_one_session_tries(self, built: Facility, kept: DagsterInstance) -> None:
        block(built)
        publish(built, kept, (KEYS[0], KEYS[-1]))

        asked = self.look(built, kept).run_requests or []

        assert len(asked) == 1


class TestCommand:
    def test_build_publishes_and_tells(self, written: Facility) -> None:
        code, out, err = command(written, "build", "--from", "2026-03-01", "--json")

        rows = {row["key"]: row for row in json.loads(out)}
        assert code == 0, err
        assert {copy["destination"]: copy["state"] for copy in rows[WELD]["copies"]} == {
            "crates": "PUBLISHED",
            "portal": "PUBLISHED",
        }
        assert all(copy["url"].startswith("file://") for copy in rows[WELD]["copies"])
        assert rows[EMPTY]["copies"] == []
        assert crates(written) == {WELD, CERAMIC}

    def test_a_copy_that_vanished_is_made_again_when_asked_for(self, built: Facility) -> None:
        (eln,) = (built.folder / "crates").rglob(f"{WELD}.eln")
        eln.unlink()

        unasked = command(built, "publish", "--json")
        asked = command(built, "publish", "--session", WELD, "--destination", "crates", "--json")

        assert json.loads(unasked[1]) == []
        assert [(row["key"], row["state"]) for row in json.loads(asked[1])] == [(WELD, "PUBLISHED")]
        assert eln.exists()

    def test_again_sends_everything(self, built: Facility) -> None:
        before = {key: entry.version for key in (WELD, CERAMIC) if (entry := ledger(built).read(key))}

        code, _, _ = command(built, "publish", "--again")

        after = {key: entry.version for key in (WELD, CERAMIC) if (entry := ledger(built).read(key))}
        assert code == 0
        assert after == {key: version + 1 for key, version in before.items()}

    def test_what_is_refused_ends_with_a_code_and_the_reason(self, built: Facility) -> None:
        block(built)

        code, out, _ = command(built, "publish", "--session", WELD, "--destination", "crates")

        assert code == 1
        assert "FAILED" in out

    def test_a_copy_that_could_not_be_withdrawn_is_no_success(self, built: Facility) -> None:
        (built.folder / "crates").rename(built.folder / "aside")
        (built.folder / "crates").write_text("no folder")
        assert command(built, "withdraw", WELD)[0] == 1

        code, out, _ = command(built, "publish", "--destination", "crates", "--json")

        assert (code, [row["state"] for row in json.loads(out)]) == (1, ["FAILED"])
        assert "NX_CRATES_PATH" in json.loads(out)[0]["reason"]

        (built.folder / "crates").unlink()
        (built.folder / "aside").rename(built.folder / "crates")
        code, out, _ = command(built, "publish", "--destination", "crates", "--json")
        assert (code, [row["state"] for row in json.loads(out)]) == (0, ["WITHDRAWN"])
        assert crates(built) == {CERAMIC}

    def test_in_an_outage_the_rest_is_not_tried(self, built: Facility) -> None:
        """Run after run would try, while the other destinations wait."""
        block(built)
        more = [built.store.record_path(CERAMIC).stem.replace("-106", f"-{n}") for n in (206, 306)]
        for key in more:
            for path in built.data.rglob(f"{CERAMIC}.*"):
                if "exports" not in path.parts:
                    path.with_name(path.name.replace(CERAMIC, key)).write_bytes(path.read_bytes())

        code, out, _ = command(built, "publish", "--destination", "crates", "--json")

        states = {
            row["key"]: (row["state"], row["reason"].startswith("Not tried: NX_CRATES_PATH")) for row in json.loads(out)
        }
        assert code == 1
        assert states == {WELD: ("FAILED", False), CERAMIC: ("FAILED", False)} | dict.fromkeys(more, ("WAITING", True))

    def test_another_folder_is_filled_and_what_stays_in_the_first_is_named(self, built: Facility) -> None:
        known = ledger(built).read(WELD)
        built.set(NX_CRATES_PATH=str(built.folder / "elsewhere"))

        command(built, "publish")

        assert {path.stem for path in (built.folder / "elsewhere").rglob("*.eln")} == {WELD, CERAMIC}
        assert command(built, "publish", "--json")[1].strip() == "[]"
        code, out, _ = command(built, "withdraw", WELD)
        assert known
        assert known.remote
        assert (code, f"crates: {known.remote.url} stays" in out) == (1, True)
        assert command(built, "withdraw", WELD)[0] == 0

    def test_an_unknown_destination_is_named_with_those_there_are(self, built: Facility) -> None:
        code, _, err = command(built, "publish", "--destination", "cdsc")

        assert code == 2
        assert "There is no destination 'cdsc'; configured are: crates, portal." in err

    def test_dry_run_sends_nothing(self, built: Facility) -> None:
        ledger(built).remove(WELD)

        _, out, _ = command(built, "publish", "--dry-run", "--json")

        assert [(row["key"], row["cause"]) for row in json.loads(out)] == [(WELD, "new")]
        assert ledger(built).read(WELD) is None


def _retitled(facility: Facility, event_id: int, title: str) -> str:
    (row,) = (row for row in facility.answers("usage_events") if row["id"] == event_id)
    form = json.loads(row["run_data"])
    form["experiment_title"]["user_input"] = title
    return json.dumps(form)
