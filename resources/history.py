"""What Dagster keeps of a session, and how it is made to forget one.

Titles, names, file names, pictures and records stand in materialisations, checks, messages and captured output. Dagster
can delete whole runs; of a run of many sessions, the events of one are taken out of its tables here. SQLite leaves what
was deleted in its file, so that the file is written anew; PostgreSQL does so by itself (``VACUUM``).
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import sqlalchemy
from dagster import DagsterEventType, DagsterInstance, DagsterRunStatus, EventLogRecord, RunsFilter
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    AssetEventTagsTable,
    AssetKeyTable,
    SqlEventLogStorageTable,
)

# Dagster OSS has no public way to forget one partition (`wipe_asset_partitions` is not implemented in it). These tables
# are its stored format, which it changes by migrations only; tests/test_withdrawal.py notices should they differ.
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.tags import PARTITION_NAME_TAG
from dagster._serdes import deserialize_value, serialize_value
from sqlalchemy.engine import Connection

from resources.store import Store, Tombstone

EVENTS = SqlEventLogStorageTable.c
AT_WORK = {DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING}
"""A run that waits for its turn finds the tombstone."""
MEND = "the sensor and each build try again, 'nexuslims-pipeline withdraw {key}' does so at once"


def withdraw_here(
    store: Store,
    instance: DagsterInstance,
    tombstone: Tombstone,
    run_id: str = "",
    unreachable_copies: Iterable[str] = (),
) -> Tombstone:
    """Remove a session from the store and from Dagster's history.

    Parameters
    ----------
    store, instance
        From where.
    tombstone
        What is to stay.
    run_id
        Run that is doing this: it stays, since it tells of the withdrawal only.
    unreachable_copies
        Copies that only people can remove, each in a sentence.

    Returns
    -------
    Tombstone
        The same; with what could not be removed, if anything.
    """
    store.bury(tombstone)
    remains = " ".join([*forget_session(instance, tombstone.key, run_id), *unreachable_copies])
    told = tombstone.model_copy(update={"remains": remains})
    store.note(told)
    return told


def forget_session(instance: DagsterInstance, key: str, run_id: str = "") -> list[str]:
    """Remove what Dagster keeps of a session; its key stays in the list of partitions. Safe to repeat.

    Parameters
    ----------
    instance
        Where the history is kept.
    key
        The session.
    run_id
        A run to leave alone: the one that asks.

    Returns
    -------
    list of str
        What could not be removed and what to do, one sentence each.
    """
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        return [f"Dagster's history still tells of {key}: delete its runs in Dagster's pages."]
    try:
        return _History(instance, storage, key, run_id).forget()
    except Exception as fault:  # whatever Dagster's storage raises must not keep the session where it is
        # SQLAlchemy's own text would show the rows it is about.
        reason = getattr(fault, "orig", None) or getattr(fault, "strerror", None) or type(fault).__name__
        return [f"Dagster's history still tells of {key} ({reason}): {MEND.format(key=key)}."]


class _History:
    """What Dagster keeps of one session.

    Each run's own events and output go first and what finds the run again goes last: it may be cut off anywhere.
    """

    def __init__(self, instance: DagsterInstance, storage: SqlEventLogStorage, key: str, spared: str) -> None:
        self._instance = instance
        self._storage = storage
        self._key = key
        self._spared = spared
        self._troubles: list[str] = []

    def forget(self) -> list[str]:
        """Remove it; returns what could not be removed."""
        shared = []
        for run_id in sorted(self._runs() - {self._spared}):
            run = self._instance.get_run_by_id(run_id)
            if run and run.status in AT_WORK:
                self._troubles.append(f"Run {run_id} is still at work on it: when it has ended, {self._mend}.")
            if run and run.is_finished and run.tags.get(PARTITION_NAME_TAG) == self._key:
                self._delete(run_id)
            else:
                shared.append(run_id)
                self._take_out_of(run_id)
        with self._storage.index_connection() as connection:
            self._take_out(connection, shared)
            self._take_out_checks(connection)
            self._take_out_latest(connection)
        for asset in self._instance.all_asset_keys():
            self._storage.wipe_asset_cached_status(asset)
        self._write_anew("")
        return self._troubles

    @property
    def _mend(self) -> str:
        return MEND.format(key=self._key)

    # Runs

    def _runs(self) -> set[str]:
        """Runs of this session, and runs of many that have an event of it: each has one from its very beginning."""
        own = self._instance.get_runs(RunsFilter(tags={PARTITION_NAME_TAG: self._key}))
        assets = [asset.to_string() for asset in self._instance.all_asset_keys()]
        events = sqlalchemy.select(EVENTS.run_id).where(EVENTS.asset_key.in_(assets), EVENTS.partition == self._key)
        with self._storage.index_connection() as connection:
            return {run.run_id for run in own} | {row.run_id for row in connection.execute(events.distinct())}

    def _delete(self, run_id: str) -> None:
        self._storage.delete_events(run_id)
        self._write_anew(run_id)
        self._instance.compute_log_manager.delete_logs(prefix=[run_id])
        self._instance.delete_run(run_id)

    def _take_out_of(self, run_id: str) -> None:
        """Take the session out of a run of many; what they printed cannot be told apart and goes."""
        with self._storage.run_connection(run_id) as connection:
            self._take_out(connection, [run_id])
        self._write_anew(run_id)
        self._instance.compute_log_manager.delete_logs(prefix=[run_id, "compute_logs"])

    # Tables

    def _take_out(self, connection: Connection, run_ids: Sequence[str]) -> None:
        mentioned = sqlalchemy.select(EVENTS.id, EVENTS.event).where(
            EVENTS.run_id.in_(run_ids), EVENTS.event.contains(self._key, autoescape=True)
        )
        for number, event in connection.execute(mentioned).all():
            kept = _without(event, self._key)
            if not kept:
                connection.execute(SqlEventLogStorageTable.delete().where(EVENTS.id == number))
                connection.execute(AssetEventTagsTable.delete().where(AssetEventTagsTable.c.event_id == number))
            elif kept != event:
                connection.execute(SqlEventLogStorageTable.update().where(EVENTS.id == number).values(event=kept))

    def _take_out_checks(self, connection: Connection) -> None:
        columns = AssetCheckExecutionsTable.c
        connection.execute(
            AssetCheckExecutionsTable.delete().where(columns.partition == self._key, columns.run_id != self._spared)
        )

    def _take_out_latest(self, connection: Connection) -> None:
        """Put the latest materialisation that is left in place of the session's, which Dagster keeps apart."""
        columns = AssetKeyTable.c
        mentioned = sqlalchemy.select(columns.asset_key).where(
            columns.last_materialization.contains(self._key, autoescape=True)
        )
        for asset in connection.execute(mentioned).scalars().all():
            left = sqlalchemy.select(EVENTS.id, EVENTS.event).where(
                EVENTS.asset_key == asset, EVENTS.dagster_event_type == DagsterEventType.ASSET_MATERIALIZATION.value
            )
            latest = connection.execute(left.order_by(EVENTS.id.desc()).limit(1)).first()
            record = EventLogRecord(latest.id, deserialize_value(latest.event, EventLogEntry)) if latest else None
            connection.execute(
                AssetKeyTable.update()
                .where(columns.asset_key == asset)
                .values(last_materialization=serialize_value(record) if record else None)
            )

    def _write_anew(self, run_id: str) -> None:
        """Have SQLite write a run's events, or those of all runs, without what was deleted from them."""
        if not self._storage.is_persistent:
            return
        storage = self._storage
        with storage.run_connection(run_id) if run_id else storage.index_connection() as connection:
            if connection.dialect.name != "sqlite":
                return
            connection.execute(sqlalchemy.text("VACUUM"))
            in_use = connection.execute(sqlalchemy.text("PRAGMA wal_checkpoint(TRUNCATE)")).scalar()
        if in_use:
            self._troubles.append(f"Dagster's database was in use and keeps deleted text: {self._mend}.")


def _without(event: str, key: str) -> str:
    """An event without what it tells of a session; empty when it tells of nothing else."""
    content = json.loads(event)
    about = content["dagster_event"]
    if not about or key in _partitions(about["event_specific_data"]):
        return ""
    return json.dumps(_without_entries(content, key))


def _partitions(data: Any) -> Iterator[str]:
    """Session of a materialisation, planned or made, or of a check."""
    if isinstance(data, dict):
        yield data.get("partition") or ""
        yield from _partitions(data.get("materialization"))


def _without_entries(value: Any, key: str) -> Any:
    """The same without metadata of that name: a run's failure names each session with the reason."""
    match value:
        case dict():
            return {name: _without_entries(inner, key) for name, inner in value.items()}
        case list():
            kept = (inner for inner in value if not (isinstance(inner, dict) and inner.get("label") == key))
            return [_without_entries(inner, key) for inner in kept]
        case _:
            return value
