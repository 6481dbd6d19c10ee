"""What all assets of a session have in common: partitions, batches, early ends and failures.

An asset's body is written for one session. Here it is mapped over the sessions of a run:

- every session that finishes gets its own materialisation; one that fails gets none and costs only itself;
- the steps below go on with the sessions that may go on; a session that ends early (no consent, no files) simply has
  no later materialisation, and its run stays green;
- failures are kept in the store, block the later steps of that session only, and turn the run red at its end, by name.
"""

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from dagster import (
    AssetCheckEvaluation,
    AssetCheckSpec,
    AssetExecutionContext,
    AssetKey,
    AssetMaterialization,
    AssetsDefinition,
    BackfillPolicy,
    Failure,
    MetadataValue,
    Nothing,
    Output,
    RetryRequested,
    asset,
)

# The public API materialises every key of a batch or none. This marker, which Dagster uses for observed sources, lets a
# step hand on its output without claiming the keys that failed; tests/test_graph.py notices should it change.
from dagster._core.execution.plan.execute_step import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION
from dagster._core.definitions.data_version import CODE_VERSION_TAG, DATA_VERSION_TAG

from assets.partitions import SESSIONS
from resources.nemo import NemoUnavailableError
from resources.store import Store

CHAIN = ("usage_event", "session", "file_inventory", "file_metadata", "activities", "record")
"""The stages of a session, each needing those before it."""
SESSIONS_PER_RUN = 100
"""Sessions of one run of a backfill: one run for many costs a tenth of one run each."""
TRANSIENT_RETRIES = 3

Metadata: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Done:
    """What the body of an asset says when a session's stage is written."""

    data_version: str
    """Hash of what was written."""
    metadata: Metadata = field(default_factory=dict)
    goes_on: bool = True
    """Whether later stages are due; False for an early end."""
    checks: tuple[AssetCheckEvaluation, ...] = ()


class StageFailedError(Exception):
    """A stage that must not be kept, with the checks that say why."""

    def __init__(self, message: str, checks: tuple[AssetCheckEvaluation, ...] = ()) -> None:
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
) -> Callable[[Body], AssetsDefinition]:
    """Make an asset of a function of one session.

    The function takes the session's key and, by name, the resources it needs. It returns `Done`, or None when the
    session ended at an earlier stage. `checks` are the names of its asset checks, each with what it demands.
    """

    def decorate(body: Body) -> AssetsDefinition:
        resources = list(inspect.signature(body).parameters)[1:]

        def compute(context: AssetExecutionContext) -> Iterator[Any]:
            given = {name: getattr(context.resources, name) for name in resources}
            yield from _map(context, body, given, code_version)

        # Dagster calls some of these options new; the lock file holds the version they were tried with.
        with warnings.catch_warnings(action="ignore"):
            make = asset(
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
            return make(compute)

    return decorate


def _map(
    context: AssetExecutionContext, body: Body, resources: Mapping[str, Any], code_version: str
) -> Iterator[Any]:
    store: Store = context.resources.store
    stage = context.asset_key.to_user_string()
    keys = list(context.partition_keys)
    failed: dict[str, str] = {}
    goes_on = False
    for key in keys:
        if (earlier := store.failure(key)) and _precedes(earlier["asset"], stage):
            failed[key] = f"{earlier['asset']} failed: {earlier['error']} Materialise it again from there."
            continue
        try:
            done = body(key, **resources)
        except NemoUnavailableError as fault:
            if len(keys) == 1 and context.retry_number < TRANSIENT_RETRIES:
                raise RetryRequested(TRANSIENT_RETRIES, seconds_to_wait=15 * 2**context.retry_number) from fault
            failed[key] = _fail(context, store, key, stage, fault)
        except Exception as fault:  # one session's fault must not cost the others
            failed[key] = _fail(context, store, key, stage, fault)
            yield from getattr(fault, "checks", ())
            if len(keys) == 1:
                raise
        else:
            if earlier:
                store.clear_failure(key)
            if done is None:
                context.log.info(f"{key} ended at an earlier stage.")
                continue
            goes_on = goes_on or done.goes_on
            yield _materialization(context.asset_key, key, done, code_version)
            yield from done.checks
    if goes_on:
        yield Output(None, metadata={SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True})
    for check in context.selected_asset_check_keys:
        yield Output(None, output_name=f"{stage}_{check.name}")
    if failed and (not goes_on or _is_last(context)):
        raise Failure(
            f"{len(failed)} of {len(keys)} sessions failed: {', '.join(failed)}",
            metadata={key: MetadataValue.text(reason) for key, reason in failed.items()},
            allow_retries=False,
        )


def check_result(
    stage: str, name: str, key: str, *, passed: bool, description: str, metadata: Metadata | None = None
) -> AssetCheckEvaluation:
    """Outcome of an asset check for one session."""
    return AssetCheckEvaluation(
        asset_key=AssetKey(stage),
        check_name=name,
        passed=passed,
        description=description,
        metadata=dict(metadata or {}),
        partition=key,
    )


def _materialization(asset_key: AssetKey, key: str, done: Done, code_version: str) -> AssetMaterialization:
    return AssetMaterialization(
        asset_key=asset_key,
        partition=key,
        metadata=dict(done.metadata),
        tags={DATA_VERSION_TAG: done.data_version, CODE_VERSION_TAG: code_version},
    )


def _fail(context: AssetExecutionContext, store: Store, key: str, stage: str, fault: Exception) -> str:
    reason = f"{fault}" or type(fault).__name__
    context.log.exception(f"{stage} failed for {key}: {reason}")
    store.write_failure(key, stage, reason, context.run_id)
    return reason


def _precedes(stage: str, other: str) -> bool:
    return stage in CHAIN and other in CHAIN and CHAIN.index(stage) < CHAIN.index(other)


def _is_last(context: AssetExecutionContext) -> bool:
    """Whether no asset of this run comes after this one."""
    selected = context.run.asset_selection or context.job_def.asset_layer.executable_asset_keys
    return not (context.job_def.asset_layer.get(context.asset_key).child_keys & set(selected))
