"""The asset graph: what every asset carries, what one failing session costs in a batch, and what stays secret."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from dagster import AssetCheckKey, AssetKey, DagsterEventType, DagsterInstance, ExecuteInProcessResult
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster._serdes import serialize_value
from facility import (
    CERAMIC,
    DECLINED,
    EMPTY,
    KEYS,
    STAGES,
    WELD,
    Facility,
    built,
    built_once,
    instance,
    materialised,
    written,
)

from assets.session_asset import CHAIN
from nexuslims_pipeline.definitions import CODE_VERSIONS, build_definitions
from nexuslims_pipeline.sessions.model import SessionState

__all__ = ["built", "built_once", "instance", "written"]

ROOT = Path(__file__).parents[1]
HEAVY = {
    "PIL",
    "dask",
    "duckdb",
    "h5py",
    "hyperspy",
    "lxml",
    "matplotlib",
    "numpy",
    "pandas",
    "pint",
    "pyarrow",
    "rsciio",
    "scipy",
    "sklearn",
    "tifffile",
}
CHECKS = {
    "metadata_plausible": "file_metadata",
    "times_inside_session": "file_metadata",
    "valid_against_schema": "record",
    "every_file_accounted_for": "record",
}
"""Stage of each check."""


def failure_words(result: ExecuteInProcessResult) -> str:
    """What the failed steps of a run say."""
    failures = (event.step_failure_data for event in result.all_events if event.is_step_failure)
    return " ".join(str(failure.error) + str(failure.user_failure_data) for failure in failures)


def checks(instance: DagsterInstance, name: str) -> dict[str | None, bool]:
    """Latest outcome of an asset check, by session."""
    key = AssetCheckKey(AssetKey(CHECKS[name]), name)
    records = instance.event_log_storage.get_asset_check_execution_history(key, limit=100)
    events = (record.event.dagster_event for record in records if record.event)
    done = [event for event in events if event and event.event_type is DagsterEventType.ASSET_CHECK_EVALUATION]
    found = [event.asset_check_evaluation_data for event in reversed(done)]
    return {evaluation.partition: evaluation.passed for evaluation in found}


def materialisation(instance: DagsterInstance, stage: str, key: str) -> dict[str, object]:
    """Metadata of the latest materialisation of a stage."""
    from dagster import AssetRecordsFilter

    wanted = AssetRecordsFilter(asset_key=AssetKey(stage), asset_partitions=[key])
    (record,) = instance.fetch_materializations(wanted, limit=1).records
    assert record.asset_materialization
    return {name: entry.value for name, entry in record.asset_materialization.metadata.items()}


# The definitions


def test_definitions_load_without_any_heavy_package() -> None:
    code = f"""
import sys
import nexuslims_pipeline.definitions as module
assert module.defs.resolve_job_def("build_sessions")
print(sorted({HEAVY!r} & set(sys.modules)))
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NX_")}
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"


def test_every_asset_says_what_it_is(built_once: Facility) -> None:
    with built_once.active() as site:
        definitions = build_definitions(site)
        graph = definitions.resolve_asset_graph()
    assert {key.to_user_string() for key in graph.materializable_asset_keys} == {
        *STAGES,
        "ro_crate",
        "record_page",
        "portal_index",
        "catalog",
    }
    for key in graph.materializable_asset_keys:
        node = graph.get(key)
        assert node.description, key
        assert node.group_name != "default", key
        assert node.kinds, key
        assert node.owners, key
        assert node.code_version, key
    parents = {stage: {key.to_user_string() for key in graph.get(AssetKey(stage)).parent_keys} for stage in STAGES}
    assert parents == {
        "usage_event": set(),
        "session": {"usage_event"},
        "file_inventory": {"session"},
        "file_metadata": {"file_inventory"},
        "activities": {"file_metadata"},
        "record": {"activities", "file_metadata"},
        "session_status": {"record", "ro_crate", "record_page"},
    }
    for stage in STAGES:
        node = graph.get(AssetKey(stage))
        assert node.partitions_def
        assert node.partitions_def.name == "sessions"
        assert node.backfill_policy
        assert node.backfill_policy.max_partitions_per_run == 100
    assert {key.name for key in graph.asset_check_keys} == {*CHECKS, "holds_the_record", "published_as_demanded"}
    assert STAGES[:-1] == CHAIN
    assert set(CODE_VERSIONS) == set(CHAIN)
    assert {job.name for job in definitions.resolve_all_job_defs()} >= {"build_sessions", "harvest", "refresh_catalog"}
    assert {sensor.name for sensor in definitions.sensors or ()} == {
        "nemo_nemo",
        "files_demo_talos_tem",
        "files_demo_quanta_sem",
        "files_demo_stem_lab",
        "publish_crates",
        "publish_portal",
        "portal",
    }


def test_a_fresh_clone_can_be_looked_at_and_says_what_to_set(instance: DagsterInstance) -> None:
    result = (
        build_definitions(None)
        .resolve_job_def("build_sessions")
        .execute_in_process(instance=instance, partition_key=WELD, raise_on_error=False)
    )
    assert not result.success
    assert "NX_DATA_PATH is not set; set it in the environment or in .env" in failure_words(result)


def test_the_token_stands_nowhere(written: Facility) -> None:
    token = "0123456789abcdef-TOKEN-0123456789abcdef"
    written.set(NX_NEMO_TOKEN_1=token)
    written.build("--session", EMPTY)
    written.remove_event(107)
    with written.active() as site:
        assert site.nemo_servers["nemo"].token
        assert token not in repr(site) + str(site.model_dump())
        assert token not in serialize_value(RepositorySnap.from_def(build_definitions(site).get_repository_def()))
    written.build("--session", DECLINED)
    failed = written.build("--session", EMPTY, "--verbose")
    assert failed.states == {EMPTY: "FAILED"}
    assert token not in failed.errors
    files = [path for path in written.folder.rglob("*") if path.is_file() and path.name != "demo.env"]
    assert any(path.suffix == ".db" for path in files), "Dagster's history is somewhere else"
    assert [str(path) for path in files if token.encode() in path.read_bytes()] == []


# A batch


@pytest.fixture(scope="module")
def batch(
    built_once: Facility, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Facility, DagsterInstance, ExecuteInProcessResult]:
    """A backfill over all sessions, of which one is gone in NEMO."""
    facility = built_once.copy(tmp_path_factory.mktemp("batch"))
    facility.remove_event(106)
    instance = DagsterInstance.ephemeral()
    instance.add_dynamic_partitions("sessions", list(KEYS))
    return facility, instance, facility.materialise(instance, (KEYS[0], KEYS[-1]))


Batch = tuple[Facility, DagsterInstance, ExecuteInProcessResult]


def test_one_failing_session_costs_only_itself(batch: Batch) -> None:
    facility, instance, _ = batch
    assert materialised(instance, WELD) == set(STAGES)
    assert materialised(instance, CERAMIC) == set()
    assert {key: facility.store.state(key)[0] for key in (WELD, CERAMIC)} == {
        WELD: SessionState.BUILT,
        CERAMIC: SessionState.FAILED,
    }


def test_its_run_ends_red_and_names_it(batch: Batch) -> None:
    _, _, result = batch
    assert not result.success
    words = failure_words(result)
    assert f"1 of 4 sessions failed: {CERAMIC}" in words
    assert "Usage event 106 does not exist on NEMO server 'nemo' any more." in words
    assert [event.step_key for event in result.all_events if event.is_step_failure] == ["session_status"], (
        "an earlier step that fails would have Dagster skip those behind it for all sessions"
    )


def test_sessions_that_end_early_have_no_later_materialisations(batch: Batch) -> None:
    _, instance, _ = batch
    assert materialised(instance, DECLINED) == {"usage_event", "session"}
    assert materialised(instance, EMPTY) == {"usage_event", "session", "file_inventory"}
    assert materialisation(instance, "session", DECLINED)["state"] == "NO_CONSENT"
    assert "Disagree" in str(materialisation(instance, "session", DECLINED)["reason"])
    assert materialisation(instance, "file_inventory", EMPTY)["state"] == "NO_FILES_FOUND"


def test_checks_are_kept_per_session(batch: Batch) -> None:
    _, instance, _ = batch
    passed = dict.fromkeys((WELD, DECLINED, EMPTY), True)
    assert {name: checks(instance, name) for name in CHECKS} == dict.fromkeys(CHECKS, passed)


def test_what_is_fresh_is_not_called_out_of_step(built_once: Facility) -> None:
    """Each materialisation carries the versions of what it was made from, also when the command line built it."""
    with built_once.active() as site, DagsterInstance.get() as history:
        graph = build_definitions(site).resolve_asset_graph()
        resolver = CachingStaleStatusResolver(history, graph, LoadingContextForTest(history))
        found = {stage: resolver.get_status(AssetKey(stage), key) for key in (WELD, CERAMIC) for stage in STAGES}
    assert found == dict.fromkeys(STAGES, StaleStatus.FRESH)


def test_checks_of_the_command_line_belong_to_their_materialisation(built_once: Facility) -> None:
    with built_once.active(), DagsterInstance.get() as history:
        (info,) = (
            info
            for info in history.event_log_storage.get_asset_check_partition_info(
                [AssetCheckKey(AssetKey("record"), "valid_against_schema")]
            )
            if info.partition_key == WELD
        )
    assert info.latest_target_materialization_storage_id
    assert info.latest_target_materialization_storage_id == info.latest_materialization_storage_id


def test_the_failed_session_is_refused_further_on_and_goes_through_when_mended(
    built: Facility, instance: DagsterInstance
) -> None:
    events = built.answers("usage_events")
    built.remove_event(106)
    assert not built.materialise(instance, CERAMIC).success
    refused = built.materialise(instance, CERAMIC, "activities", "record")
    assert not refused.success
    assert "usage_event failed: Usage event 106 does not exist" in failure_words(refused)
    assert "Materialise it again from there." in failure_words(refused)
    assert materialised(instance, CERAMIC) == set()

    built.answer("usage_events", events)
    assert built.materialise(instance, CERAMIC).success
    assert built.store.failure(CERAMIC) is None
    assert built.store.state(CERAMIC)[0] is SessionState.BUILT
    assert materialised(instance, CERAMIC) == set(STAGES)


def test_early_ends_leave_the_run_green(built: Facility, instance: DagsterInstance) -> None:
    result = built.materialise(instance, (DECLINED, DECLINED))
    assert result.success
    assert not [event for event in result.all_events if event.event_type is DagsterEventType.STEP_FAILURE]
    assert built.materialise(instance, EMPTY).success


def test_a_stage_whose_predecessor_was_never_made_says_so(written: Facility, instance: DagsterInstance) -> None:
    result = written.materialise(instance, WELD, "file_inventory")
    assert not result.success
    assert f"'session' of {WELD} has not been materialised yet; do that first." in failure_words(result)


def test_a_key_that_is_not_the_sessions_own_is_refused(built: Facility, instance: DagsterInstance) -> None:
    wrong = WELD.replace("03-02", "03-03")
    instance.add_dynamic_partitions("sessions", [wrong])
    result = built.materialise(instance, wrong)
    assert not result.success
    assert f"Usage event 104 of nemo is the session {WELD}; materialise that one." in failure_words(result)


# A record that the schema does not accept


def test_an_invalid_record_is_not_kept(built: Facility, instance: DagsterInstance) -> None:
    store = built.store
    before = store.record_path(CERAMIC).read_bytes()
    datasets = store.datasets(CERAMIC)
    assert datasets
    datasets[0].nx_meta["DatasetType"] = "Hologram"
    header = store.header("file_metadata", CERAMIC)
    assert header
    store.write_datasets(CERAMIC, datasets, header["inventory"], header["code_version"])

    result = built.materialise(instance, CERAMIC, "activities", "record")
    assert not result.success
    assert checks(instance, "valid_against_schema") == {CERAMIC: False}
    (record,) = instance.event_log_storage.get_asset_check_execution_history(
        AssetCheckKey(AssetKey("record"), "valid_against_schema"), limit=1
    )
    evaluation = record.event.dagster_event.asset_check_evaluation_data
    assert evaluation.description.startswith("line ")
    assert "Hologram" in evaluation.description
    assert materialised(instance, CERAMIC) == {"activities"}
    assert store.record_path(CERAMIC).read_bytes() == before
    assert len(list(store.record_path(CERAMIC).parent.glob(f"{CERAMIC}*"))) == 1
    state, reason = store.state(CERAMIC)
    assert state is SessionState.FAILED
    assert "the record is not valid and was not kept: line " in reason


def test_the_stages_show_what_they_made(batch: Batch) -> None:
    _, instance, _ = batch
    shown = {stage: materialisation(instance, stage, WELD) for stage in STAGES}
    assert shown["file_inventory"]["included"] == 8
    assert shown["file_metadata"]["files"] == 8
    assert shown["activities"]["activities"] == 3
    assert "<svg" not in str(shown["activities"]["time line"])
    assert str(shown["activities"]["time line"]).startswith("![files in time")
    assert str(shown["file_metadata"]["previews"]).startswith("![previews](data:image/jpeg;base64,")
    assert "<Experiment" in str(shown["record"]["xml"])
