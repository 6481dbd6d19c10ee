"""Sensors: one per NEMO server, one per instrument. They ask for runs; `resources.harvest` decides what is due."""

import re
from datetime import UTC, datetime, timedelta

from dagster import (
    AssetKey,
    DagsterInstance,
    DagsterRunStatus,
    DefaultSensorStatus,
    RunRequest,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from assets.partitions import SESSIONS
from assets.session_asset import CHAIN, NO_RETRY_TAG
from nexuslims_pipeline.configuration import Settings
from nexuslims_pipeline.jobs import DESTINATION_TAG, build_sessions
from nexuslims_pipeline.sessions.asked import AT_ONCE, Memory
from resources.harvest import answers_due, discover, files_due, left_over, watched
from resources.nemo import NemoError, NemoResource
from resources.publications import Publishing
from resources.storage import InstrumentStorage
from resources.store import Store
from resources.web import BRIEF

NEW_SESSION, PUBLISHED, CHANGED_FILES, HARVESTED = "10", "7", "5", "0"
"""Priorities of runs: today's sessions overtake their publication, changed files and a harvest of the past."""
LONGEST_SILENCE = timedelta(hours=1)
"""A destination that was out of reach is tried again at least so often."""
UNFINISHED = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]
FROM_THE_FILES_ON = [AssetKey(stage) for stage in CHAIN[CHAIN.index("file_inventory") :]]


def nemo_sensor(server_name: str, settings: Settings) -> SensorDefinition:
    """Make the sensor that looks for finished uses on one NEMO server, new ones and edited ones."""

    @sensor(
        name=f"nemo_{_identifier(server_name)}",
        job=build_sessions,
        minimum_interval_seconds=settings.nemo_poll_seconds,
        default_status=DefaultSensorStatus.RUNNING,
        description=f"Asks '{server_name}' for finished uses; reads the last {settings.harvest_days:g} days again.",
    )
    def look(
        context: SensorEvaluationContext, nemo: NemoResource, storage: InstrumentStorage, store: Store
    ) -> SensorResult | SkipReason:
        now = datetime.now(UTC)
        memory = Memory.read(context.cursor)
        since = min(now - timedelta(days=settings.harvest_days), memory.high_water or now)
        try:
            uses = discover(nemo.server(server_name, BRIEF), storage.instruments, store, since=since, until=now)
        except NemoError as fault:
            return SkipReason(f"{fault} Nothing is lost: the next look goes back to {since:%Y-%m-%d %H:%M} UTC.")
        due = {key: (NEW_SESSION, found.token) for key, found in answers_due(uses, store).items()}
        due |= {key: (HARVESTED, "harvest") for key in left_over(store, server_name) if key not in due}
        memory.raise_high_water(use.end for use in uses)
        asked = memory.choose({key: token for key, (_, token) in due.items()}, busy(context.instance), now)
        return _result(
            context,
            memory,
            [
                RunRequest(partition_key=key, tags={"dagster/priority": due[key][0], "nexuslims/cause": "NEMO"})
                for key in asked
            ],
            f"{len(uses)} finished uses; {len(due)} due, none to ask for now.",
        )

    return look


def storage_sensor(instrument_id: str, settings: Settings) -> SensorDefinition:
    """Make the sensor that looks for files of recent sessions that arrived, settled, changed or vanished."""

    @sensor(
        name=f"files_{_identifier(instrument_id)}",
        job=build_sessions,
        minimum_interval_seconds=settings.storage_poll_seconds,
        default_status=DefaultSensorStatus.RUNNING,
        description=f"Watches the files of sessions that ended in the last {settings.watch_days:g} days.",
    )
    def look(context: SensorEvaluationContext, storage: InstrumentStorage, store: Store) -> SensorResult:
        now = datetime.now(UTC)
        memory = Memory.read(context.cursor)
        sessions = watched(store, instrument_id, settings.watch_days, now)
        due = files_due(sessions, storage, store, report=context.log.warning, now=now)
        asked = memory.choose({key: found.token for key, found in due.items()}, busy(context.instance), now)
        return _result(
            context,
            memory,
            [
                RunRequest(
                    partition_key=key,
                    asset_selection=FROM_THE_FILES_ON,
                    tags={"dagster/priority": CHANGED_FILES, "nexuslims/cause": due[key].reason},
                )
                for key in asked
            ],
            f"{len(sessions)} sessions; {len(due)} due, none to ask for now.",
        )

    return look


def publish_sensor(destination: str, job: UnresolvedAssetJobDefinition, settings: Settings) -> SensorDefinition:
    """Make the sensor that looks for records which a destination does not hold yet, or should hold no more."""

    @sensor(
        name=f"publish_{destination}",
        job=job,
        minimum_interval_seconds=settings.publish_poll_seconds,
        default_status=DefaultSensorStatus.RUNNING,
        description=f"Brings {destination} in step with the records.",
    )
    def look(
        context: SensorEvaluationContext, publishing: Publishing, storage: InstrumentStorage, store: Store
    ) -> SensorResult:
        now = datetime.now(UTC)
        memory = Memory.read(context.cursor)
        due = publishing.due(destination, store, storage, now)
        outage = publishing.publisher(destination, store, storage).outage(now)
        asked = memory.choose(
            {key: found.token for key, found in due.items()},
            busy(context.instance, job.name),
            now,
            most=1 if outage else AT_ONCE,
            longest=LONGEST_SILENCE,
        )
        return _result(
            context,
            memory,
            [
                RunRequest(
                    partition_key=key,
                    tags={
                        "dagster/priority": PUBLISHED,
                        "nexuslims/cause": due[key].reason,
                        NO_RETRY_TAG: "the sensor asks again",
                    },
                )
                for key in asked
            ],
            f"{len(due)} sessions are due, none to ask for now.",
        )

    return look


def portal_sensor(job: UnresolvedAssetJobDefinition, settings: Settings) -> SensorDefinition:
    """Make the sensor that has the front page of the portal refreshed when a session's page came, changed or went."""

    @sensor(
        name="portal",
        job=job,
        minimum_interval_seconds=settings.publish_poll_seconds,
        default_status=DefaultSensorStatus.RUNNING,
        description="Has the portal's front page tell of new and changed sessions.",
    )
    def look(context: SensorEvaluationContext, publishing: Publishing) -> SensorResult:
        changed = str(publishing.portal().changed_at_ns())
        if changed in {"0", context.cursor}:
            return SensorResult(skip_reason="No session's page changed.")
        return SensorResult(run_requests=[RunRequest(run_key=f"portal {changed}")], cursor=changed)

    return look


def _result(
    context: SensorEvaluationContext, memory: Memory, requests: list[RunRequest], otherwise: str
) -> SensorResult:
    """What a look asks for, with keys that Dagster does not know yet; `otherwise` is said when it asks for nothing."""
    keys = [request.partition_key for request in requests if request.partition_key]
    return SensorResult(
        run_requests=requests,
        dynamic_partitions_requests=[SESSIONS.build_add_request(_new(context.instance, keys))],
        skip_reason=None if requests else otherwise,
        cursor=memory.text(),
    )


def busy(instance: DagsterInstance, job_name: str = "") -> set[str]:
    """Keys with an unfinished run, of one session or of a range of them.

    What is being published at a destination keeps nobody else waiting: runs of such a job count only for the job
    itself.
    """
    found: set[str] = set()
    for run in instance.get_runs(RunsFilter(statuses=UNFINISHED)):
        if DESTINATION_TAG in run.tags and run.job_name != job_name:
            continue
        if key := run.tags.get("dagster/partition"):
            found.add(key)
        elif first := run.tags.get("dagster/asset_partition_range_start"):
            keys = list(instance.get_dynamic_partitions(SESSIONS.name or ""))
            last = run.tags.get("dagster/asset_partition_range_end", first)
            if first in keys and last in keys:
                found.update(keys[keys.index(first) : keys.index(last) + 1])
    return found


def _new(instance: DagsterInstance, keys: list[str]) -> list[str]:
    known = set(instance.get_dynamic_partitions(SESSIONS.name or ""))
    return [key for key in keys if key not in known]


def _identifier(name: str) -> str:
    return re.sub(r"\W", "_", name).lower()
