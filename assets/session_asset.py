"""What all assets of a session have in common: partitions, batches, early ends and failures.

An asset's body is written for one session. Here it is mapped over the sessions of a run:

- every session that finishes gets its own materialisation; one that fails gets none and costs only itself;
- the steps below go on with the sessions that may go on; a session that ends early (no consent, no files) simply has
  no later materialisation, and its run stays green;
- failures are kept in the store, block the later steps of that session only, and turn the run red at its end, by name.
"""

import inspect
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

from dagster import (
    AssetCheckEvaluation,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetExecutionContext,
    AssetKey,
    AssetMaterialization,
    AssetRecordsFilter,
    AssetsDefinition,
    BackfillPolicy,
    DagsterEventType,
    EventLogRecord,
    Failure,
    MetadataValue,
    Nothing,
    Output,
    RetryRequested,
    asset,
)
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_IS_USER_PROVIDED_TAG,
    DATA_VERSION_TAG,
    INPUT_DATA_VERSION_TAG_PREFIX,
    INPUT_EVENT_POINTER_TAG_PREFIX,
    NULL_EVENT_POINTER,
)

# The public API materialises every key of a batch or none. This marker, which Dagster uses for observed sources, lets a
# step hand on its output without claiming the keys that failed; tests/test_graph.py notices should it change.
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION

from assets.checks import CHECKS
from assets.partitions import SESSIONS
from resources.destinations.base import DestinationUnavailableError
from resources.nemo import NemoUnavailableError
from resources.storage import StorageUnavailableError
from resources.store import Store

CHAIN = ("usage_event", "session", "file_inventory", "file_metadata", "activities", "record")
"""The stages of a session, each needing those before it."""
SESSIONS_PER_RUN = 100
"""Sessions of one run of a backfill: one run for many costs a tenth of one run each."""
TRANSIENT = (NemoUnavailableError, StorageUnavailableError, DestinationUnavailableError)
TRANSIENT_RETRIES = 3
NO_RETRY_TAG = "nexuslims/no_retry"
"""Tag of a run that somebody waits for: what fails in it is tried again by the next."""

OF_THE_RUN = frozenset({"run_id", "instance"})
"""What a body may ask for that is no resource."""

Metadata: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Check:
    """Outcome of an asset check for one session."""

    name: str
    passed: bool
    description: str
    metadata: Metadata = field(default_factory=dict)
    severe: bool = True
    """Whether a miss is an error; otherwise it is a warning."""


@dataclass(frozen=True, slots=True)
class Done:
    """What the body of an asset says when a session's stage is written."""

    metadata: Metadata = field(default_factory=dict)
    goes_on: bool = True
    """Whether later stages are due; False for an early end."""
    checks: tuple[Check, ...] = ()
    data_version: str = ""
    """Version of what was made, when it is no stage of the store."""
    failure: str = ""
    """Why the run is to end red although the stage is kept."""


class _EarlierFailureError(Exception):
    """A stage that this one needs failed for the session."""


class StageFailedError(Exception):
    """A stage that must not be kept, with the checks that say why."""

    def __init__(self, message: str, checks: tuple[Check, ...] = ()) -> None:
        super().__init__(message)
        self.checks = checks


Body: TypeAlias = Callable[..., Done | None]


def session_asset(
    *,
    group_name: str,
    kinds: set[str],
    code_version: str,
    deps: Sequence[str] = (),
    checks: Mapping[str, str] | None = None,
    pool: str | None = None,
    workers: int = 1,
) -> Callable[[Body], AssetsDefinition]:
    """Make an asset of a function of one session.

    The function takes the session's key and, by name, the resources it needs; `run_id` and `instance` are Dagster's. It
    returns `Done`, or None when there is nothing to be done: the session ended at an earlier stage. `checks` are the
    names of its asset checks, each with what it demands; `workers` is the number of sessions worked on at a time.
    """

    def decorate(body: Body) -> AssetsDefinition:
        wanted = list(inspect.signature(body).parameters)[1:]
        resources = [name for name in wanted if name not in OF_THE_RUN]

        def compute(context: AssetExecutionContext) -> Iterator[Any]:
            of_the_run = {"run_id": context.run.run_id, "instance": context.instance}
            given = {name: of_the_run.get(name) or getattr(context.resources, name) for name in wanted}
            yield from _Batch(context, deps, code_version, checks or {}, workers).run(lambda key: body(key, **given))

        # Dagster calls some of these options new; the lock file holds the version they were tried with.
        with warnings.catch_warnings(action="ignore"):
            make = asset(  # type: ignore[call-overload]
                name=body.__name__,
                description=inspect.getdoc(body),
                deps=list(deps),
                partitions_def=SESSIONS,
                backfill_policy=BackfillPolicy.multi_run(SESSIONS_PER_RUN),
                group_name=group_name,
                kinds=kinds,
                owners=["team:facility"],
                code_version=code_version,
                check_specs=[
                    AssetCheckSpec(name, asset=body.__name__, partitions_def=SESSIONS, description=demand)
                    for name, demand in (checks or {}).items()
                ],
                required_resource_keys={"store", *resources},
                dagster_type=Nothing,
                output_required=False,
                pool=pool,
            )
            made: AssetsDefinition = make(compute)
            return made

    return decorate


class _Batch:
    """The sessions of one run, at one stage.

    The stages of `CHAIN` need one another, so that a failure keeps a session from going on until that stage is made
    again. Other assets are branches: a failure there is the branch's own.
    """

    def __init__(
        self,
        context: AssetExecutionContext,
        deps: Sequence[str],
        code_version: str,
        demands: Mapping[str, str],
        workers: int,
    ) -> None:
        self._context = context
        self._store: Store = context.resources.store
        self._stage = context.asset_key.to_user_string()
        self._in_chain = self._stage in CHAIN
        self._keys = list(context.partition_keys)
        self._deps = deps
        self._code_version = code_version
        self._demands = demands
        self._workers = workers
        self._failed: dict[str, str] = {}
        self._checked: dict[str, Sequence[Check]] = {}
        self._goes_on = not self._in_chain
        """Whether later steps of this run are to have their turn."""

    def run(self, build: Callable[[str], Done | None]) -> Iterator[Any]:
        for key, outcome in zip(self._keys, self._outcomes(build), strict=True):
            yield from self._told(key, outcome)
        made = self._latest(self._stage, self._checked)
        for key, checks in self._checked.items():
            yield from self._evaluations(self._stage, key, checks, made.get(key))
        if self._goes_on:
            yield Output(None, metadata={SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True})
        for check in self._context.selected_asset_check_keys:
            yield Output(None, output_name=f"{self._stage}_{check.name}")
        if self._failed and (not self._goes_on or _is_last(self._context)):
            raise Failure(
                f"{len(self._failed)} of {len(self._keys)} sessions failed: {', '.join(self._failed)}",
                metadata={key: MetadataValue.text(reason) for key, reason in self._failed.items()},
                allow_retries=False,
            )

    def _outcomes(self, build: Callable[[str], Done | None]) -> Iterator["Done | Exception | None"]:
        """What became of each session, in their order."""

        def attempt(key: str) -> Done | Exception | None:
            try:
                return self._attempt(key, build)
            except Exception as fault:  # one session's fault must not cost the others
                return fault

        if self._workers == 1 or len(self._keys) == 1:
            yield from map(attempt, self._keys)
            return
        with ThreadPoolExecutor(self._workers) as pool:
            yield from pool.map(attempt, self._keys)

    def _attempt(self, key: str, build: Callable[[str], Done | None]) -> Done | None:
        if earlier := self._earlier_failure(key):
            raise _EarlierFailureError(earlier)
        if self._in_chain:
            self._store.begin(key)
        return build(key)

    def _earlier_failure(self, key: str) -> str:
        """Why a session cannot be worked on: a stage that this one needs failed."""
        earlier = self._store.failure(key)
        if not earlier or (self._in_chain and not _precedes(earlier["asset"], self._stage)):
            return ""
        return f"{earlier['asset']} failed: {earlier['error']} Materialise it again from there."

    def _told(self, key: str, outcome: "Done | Exception | None") -> Iterator[Any]:
        if isinstance(outcome, _EarlierFailureError):
            self._failed[key] = str(outcome)
            return
        if isinstance(outcome, Exception):
            yield from self._fail(key, outcome)
            return
        if self._in_chain:
            self._settle(key, outcome)
        if outcome is None:
            self._context.log.info(f"{key} ended at an earlier stage.")
            return
        self._goes_on = self._goes_on or outcome.goes_on
        yield self._materialization(key, outcome)
        if outcome.checks:
            self._checked[key] = outcome.checks
        if not outcome.goes_on:
            for stage, demands in CHECKS.items():
                vacuous = [Check(name, True, "Nothing is due: the session ended early.") for name in demands]
                yield from self._evaluations(stage, key, vacuous, None)
        if outcome.failure:
            self._failed[key] = outcome.failure

    def _settle(self, key: str, done: Done | None) -> None:
        """Note that a stage of the chain is made, or that the session ended early."""
        ends = done is None or not done.goes_on
        earlier = self._store.failure(key)
        if earlier and (earlier["asset"] == self._stage or ends):
            self._store.clear_failure(key)
        if ends or self._stage == CHAIN[-1]:
            self._store.finish(key)

    def _fail(self, key: str, fault: Exception) -> Iterator[Any]:
        alone, tries = len(self._keys) == 1, self._context.retry_number
        passing = isinstance(fault, TRANSIENT)
        if alone and passing and tries < TRANSIENT_RETRIES and NO_RETRY_TAG not in self._context.run.tags:
            raise RetryRequested(TRANSIENT_RETRIES, seconds_to_wait=15 * 2**tries) from fault
        reason = str(fault) or type(fault).__name__
        self._context.log.error(f"{self._stage} failed for {key}: {reason}", exc_info=fault)
        self._failed[key] = reason
        checks: Sequence[Check] = getattr(fault, "checks", ())
        if self._in_chain:
            self._store.write_failure(key, self._stage, reason, self._context.run.run_id, passing=passing)
        else:
            checks = checks or [Check(name, False, reason) for name in self._demands]
        yield from self._evaluations(self._stage, key, checks, None)
        if alone and (self._in_chain or _is_last(self._context)):
            raise fault

    def _materialization(self, key: str, done: Done) -> AssetMaterialization:
        """The event, with the versions from which Dagster tells whether a stage is out of step with those before."""
        tags = {
            DATA_VERSION_TAG: done.data_version or self._store.data_version(self._stage, key),
            DATA_VERSION_IS_USER_PROVIDED_TAG: "true",
            CODE_VERSION_TAG: self._code_version,
        }
        for dep in self._deps:
            event = self._made_before[dep].get(key)
            tags[f"{INPUT_DATA_VERSION_TAG_PREFIX}/{dep}"] = self._version_of(dep, key, event)
            tags[f"{INPUT_EVENT_POINTER_TAG_PREFIX}/{dep}"] = str(event.storage_id) if event else NULL_EVENT_POINTER
        return AssetMaterialization(asset_key=self._stage, partition=key, metadata=dict(done.metadata), tags=tags)

    def _version_of(self, dep: str, key: str, event: EventLogRecord | None) -> str:
        if dep in CHAIN:
            return self._store.data_version(dep, key)
        made = event.asset_materialization if event else None
        return (made.tags or {}).get(DATA_VERSION_TAG, "") if made else ""

    def _evaluations(
        self, stage: str, key: str, checks: Sequence[Check], event: EventLogRecord | None
    ) -> Iterator[AssetCheckEvaluation]:
        target = (
            AssetCheckEvaluationTargetMaterializationData(
                storage_id=event.storage_id, run_id=event.run_id, timestamp=event.timestamp
            )
            if event
            else None
        )
        for check in checks:
            yield AssetCheckEvaluation(
                asset_key=AssetKey(stage),
                check_name=check.name,
                passed=check.passed,
                severity=AssetCheckSeverity.ERROR if check.severe else AssetCheckSeverity.WARN,
                description=check.description,
                metadata=dict(check.metadata),
                partition=key,
                target_materialization_data=target,
            )

    @cached_property
    def _made_before(self) -> Mapping[str, Mapping[str, EventLogRecord]]:
        """Latest materialisation of each stage that this one needs, by session."""
        return {dep: self._latest(dep, self._keys) for dep in self._deps}

    def _latest(self, stage: str, keys: Collection[str]) -> Mapping[str, EventLogRecord]:
        """Latest materialisation of a stage for each of some sessions that have one."""
        if not keys:
            return {}
        instance, asset_key = self._context.instance, AssetKey(stage)
        latest = instance.get_latest_storage_id_by_partition(
            asset_key, DagsterEventType.ASSET_MATERIALIZATION, set(keys)
        )
        if not latest:
            return {}
        wanted = AssetRecordsFilter(asset_key=asset_key, storage_ids=list(latest.values()))
        records = instance.fetch_materializations(wanted, limit=len(latest)).records
        return {record.partition_key: record for record in records if record.partition_key}


def _precedes(stage: str, other: str) -> bool:
    return stage in CHAIN and other in CHAIN and CHAIN.index(stage) < CHAIN.index(other)


def _is_last(context: AssetExecutionContext) -> bool:
    """Whether no asset of this run comes after this one."""
    selected = context.run.asset_selection or context.job_def.asset_layer.executable_asset_keys
    return not (context.job_def.asset_layer.get(context.asset_key).child_keys & set(selected))
