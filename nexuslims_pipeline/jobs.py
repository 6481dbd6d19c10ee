"""Jobs: build the sessions of some keys; harvest a span of NEMO's past."""

from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from dagster import (
    AssetSelection,
    Config,
    Failure,
    MetadataValue,
    OpExecutionContext,
    define_asset_job,
    in_process_executor,
    job,
    op,
)
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from pydantic import Field

from assets.partitions import SESSIONS
from assets.session_asset import CHAIN
from resources.harvest import discover
from resources.nemo import NemoError, NemoResource
from resources.storage import InstrumentStorage
from resources.store import Store

DESTINATION_TAG = "nexuslims/destination"
WORK_TAG = "nexuslims/work"
"""Tags by which ``dagster.yaml`` limits runs."""

build_sessions = define_asset_job(
    "build_sessions",
    selection=AssetSelection.assets(*CHAIN, "session_status"),
    description="From NEMO's usage event to the record, for one session or a range of them.",
    executor_def=in_process_executor,
    tags={WORK_TAG: "build"},
)


def publish_job(destination: str, asset_name: str) -> UnresolvedAssetJobDefinition:
    """Make the job that brings one destination in step, for one session or a range of them."""
    return define_asset_job(
        f"publish_{destination}",
        selection=AssetSelection.assets(asset_name, "session_status"),
        description=f"Send records to {destination}; what it holds already is not sent again.",
        executor_def=in_process_executor,
        tags={DESTINATION_TAG: destination},
    )


class Span(Config):
    """Which past to harvest."""

    from_date: str = Field(description="First day, e.g. 2024-01-01.")
    to_date: str = Field(description="Last day, e.g. 2024-12-31.")
    servers: list[str] = Field(default=[], description="Names of NEMO servers; none: all of them.")


@op(tags={"kind": "nemo"})
def register_uses(
    context: OpExecutionContext, config: Span, nemo: NemoResource, storage: InstrumentStorage, store: Store
) -> None:
    """Give every finished use of a known instrument its session key; the servers' sensors then ask for the runs.

    A server that does not answer costs only its own sessions: the others are registered before the run fails.
    """
    first, last = _day(config.from_date), _day(config.to_date)
    if last < first:
        raise Failure(f"The last day, {last}, lies before the first, {first}.", allow_retries=False)
    since, until = span_of(first, last)
    silent = []
    for name in config.servers or nemo.names():
        try:
            uses = discover(nemo.server(name), storage.instruments, store, since=since, until=until, days=(first, last))
        except NemoError as fault:
            silent.append(f"{name}: {fault}")
            continue
        context.instance.add_dynamic_partitions(SESSIONS.name or "", [use.key for use in uses])
        context.log.info(f"{name}: {len(uses)} finished uses from {config.from_date} to {config.to_date}.")
        context.add_output_metadata({name: len(uses)})
    if silent:
        msg = f"{len(silent)} NEMO servers did not answer; run the harvest again for them."
        raise Failure(msg, metadata={"servers": MetadataValue.md("\n".join(f"- {line}" for line in silent))})


@job(description="Register all uses of a span of time, for example of the years before this pipeline.")
def harvest() -> None:
    """See the op."""
    register_uses()


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Failure(f"'{text}' is no date; write it like 2024-01-01.", allow_retries=False) from None


def span_of(first: date | None, last: date | None) -> tuple[datetime | None, datetime | None]:
    """Beginning of the first day and end of the last, in the widest of all time zones so that no use is lost."""
    since = datetime.combine(first, time.min, ZoneInfo("Etc/GMT-14")) if first else None
    until = datetime.combine(last + timedelta(days=1), time.min, ZoneInfo("Etc/GMT+12")) if last else None
    return since, until
