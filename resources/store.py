"""The store: everything that the pipeline writes, below one folder.

One file per asset and session, written whole; see ``docs/store.md`` for the layout. Every answer comes from those
files, so that assets, sensors and the command line see the same state.
"""

import glob
import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from dagster import ConfigurableResource
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from nexuslims_pipeline.activities.model import Activity, Clustering
from nexuslims_pipeline.extraction.sidecar import made_from
from nexuslims_pipeline.files import create, from_location, json_bytes, write_bytes
from nexuslims_pipeline.instruments import ConfigurationError
from nexuslims_pipeline.inventory.model import Inventory, InventoryEntry
from nexuslims_pipeline.metadata.dataset import Dataset
from nexuslims_pipeline.sessions.keys import event_of, parse_key
from nexuslims_pipeline.sessions.model import Session, SessionState
from nexuslims_pipeline.sessions.usage import UsageEvent

HEADER = b"nexuslims"
TABLES = frozenset({"file_inventory", "file_metadata"})
"""Stages that are kept as Parquet; the others are JSON."""
LONGEST_USE = timedelta(days=31)
"""Sessions that began further apart share no file."""
ABANDONED_AFTER = timedelta(minutes=10)
"""A temporary file this old is left from a process that was killed."""
STAGES = ("usage_event", "session", "file_inventory", "file_metadata", "activities", "record", "session_status")
Stage = TypeVar("Stage")


class Tombstone(BaseModel):
    """What stays of a session that was withdrawn."""

    model_config = ConfigDict(frozen=True)

    key: str
    time: AwareDatetime
    why: str
    by_hand: bool = False
    """Whether somebody asked for it: then it stays withdrawn whatever NEMO says."""
    answers: str = ""
    """SHA-256 of NEMO's answers at that time: when they change, the session is looked at again."""
    remains: str = ""
    """What could not be removed, and what to do."""

    @property
    def in_words(self) -> str:
        """Why, and what could not be removed."""
        return " ".join(filter(None, [self.why, self.remains]))


class WithdrawnError(Exception):
    """A session that was withdrawn while it was being built."""


class MissingStageError(Exception):
    """A stage that another one needs is not there or out of date."""


class Store(ConfigurableResource[Any]):
    """Files below ``NX_DATA_PATH``."""

    data_path: str
    records_path: str = ""

    @property
    def root(self) -> Path:
        """The store's folder."""
        if not self.data_path:
            msg = "NX_DATA_PATH is not set; set it in the environment or in .env (to try the demo, run 'make demo')."
            raise ConfigurationError(msg)
        return Path(self.data_path)

    @property
    def datasets_folder(self) -> Path:
        """Sidecars and previews, a mirror of the raw tree."""
        return self.root / "datasets"

    @property
    def records_folder(self) -> Path:
        """Records, by year."""
        return Path(self.records_path) if self.records_path else self.root / "records"

    @property
    def exports_folder(self) -> Path:
        """Ledgers, one folder for each destination."""
        return self.root / "exports"

    # Keys

    def register(self, server: str, event_id: int, key: str) -> str:
        """Key of a usage event, fixed when the event is first seen; `key` only if there is none yet."""
        if known := self.key_of(server, event_id, ""):
            return known
        path = self._key_path(server, event_id)
        if not create(path, json_bytes({"key": key})):
            return str(json.loads(path.read_bytes())["key"])
        return key

    def key_of(self, server: str, event_id: int, default: str) -> str:
        """Key of a usage event that was seen before, else `default`."""
        known = _read_json(self._key_path(server, event_id))
        return str(known["key"]) if known else self._buried_key(server, event_id) or default

    def _key_path(self, server: str, event_id: int) -> Path:
        return self.root / "stages" / "session_key" / f"{server}-{event_id}.json"

    def registered(self) -> list[tuple[str, int]]:
        """Server and number of every usage event that was ever seen, sorted."""
        names = (name.rsplit("-", 1) for name in self.reached("session_key"))
        return sorted((server, int(event_id)) for server, event_id in names)

    def reached(self, stage: str = "usage_event") -> list[str]:
        """Keys that have reached `stage`, sorted."""
        folder = self.root / "stages" / stage
        if not folder.is_dir():
            return []
        return sorted(e.name.rsplit(".", 1)[0] for e in os.scandir(folder) if not e.name.startswith("."))

    def recent_keys(self, instrument_id: str, since: date, until: date = date.max) -> list[str]:
        """Keys of one instrument's sessions that started on the days from `since` to `until`."""
        middle, first, last = f"_{instrument_id}_", since.isoformat(), until.isoformat()
        return [key for key in self.reached() if middle in key and first <= key[:10] <= last]

    # Stages

    def usage_event(self, key: str) -> UsageEvent | None:
        """Verbatim answer of NEMO about a session."""
        content = self._stage("usage_event", key)
        return UsageEvent.model_validate(content["usage_event"]) if content else None

    def write_usage_event(self, key: str, usage: UsageEvent, code_version: str) -> None:
        """Keep what NEMO said."""
        self._write_stage(
            "usage_event", key, code_version, fingerprint=usage.fingerprint, usage_event=usage.model_dump(mode="json")
        )

    def session(self, key: str) -> Session | None:
        """Resolved session."""
        content = self._stage("session", key)
        return Session.model_validate(content["session"]) if content else None

    def write_session(self, session: Session, code_version: str) -> None:
        """Keep a session."""
        self._write_stage("session", session.key, code_version, session=session.model_dump(mode="json"))

    def inventory(self, key: str) -> Inventory | None:
        """Files of a session."""
        table = self._table("file_inventory", key)
        if table is None:
            return None
        header = json.loads(table.schema.metadata[HEADER])
        entries = tuple(
            InventoryEntry(
                location=row["location"],
                status=row["status"],
                reason=row["reason"],
                size=row["size"],
                modified_ns=row["modified_ns"],
                companions=tuple(row["companions"]),
            )
            for row in table.to_pylist()
        )
        return Inventory(key, SessionState(header["state"]), header["reason"], entries, header["fingerprint"])

    def write_inventory(self, inventory: Inventory, code_version: str) -> None:
        """Keep the files of a session."""
        import pyarrow as pa

        columns = [
            ("session_key", pa.string()),
            ("location", pa.string()),
            ("status", pa.string()),
            ("reason", pa.string()),
            ("size", pa.int64()),
            ("modified_ns", pa.int64()),
            ("companions", pa.list_(pa.string())),
        ]
        rows = [asdict(entry) | {"session_key": inventory.key} for entry in inventory.entries]
        header = {
            "state": inventory.state,
            "reason": inventory.reason,
            "fingerprint": inventory.fingerprint,
            "left": self._left_by(inventory),
        }
        self._write_table("file_inventory", inventory.key, code_version, columns, rows, header)

    def _left_by(self, inventory: Inventory) -> list[str]:
        """Files of earlier inventories that are not in this one, but of which something is still in the store."""
        gone = self._locations(inventory.key) - {entry.location for entry in inventory.entries}
        return sorted(location for location in gone if made_from(self.datasets_folder, location))

    def _locations(self, key: str) -> set[str]:
        """Every file of a session of which something was made."""
        inventory, header = self.inventory(key), self.header("file_inventory", key)
        listed = {entry.location for entry in inventory.entries} if inventory else set()
        return listed | set(header.get("left", ()) if header else ())

    def datasets(self, key: str) -> list[Dataset] | None:
        """Datasets of a session."""
        table = self._table("file_metadata", key)
        if table is None:
            return None
        names = Dataset.__dataclass_fields__
        return [
            Dataset(**{n: json.loads(row[n]) if n == "nx_meta" else row[n] for n in names}) for row in table.to_pylist()
        ]

    def write_datasets(
        self, key: str, datasets: Sequence[Dataset], inventory: str, code_version: str, rules: str = ""
    ) -> None:
        """Keep the datasets of a session, made from the inventory with the given fingerprint by the site's rules."""
        import pyarrow as pa

        text, number = pa.string(), pa.int64()
        columns = [
            ("session_key", text),
            ("location", text),
            ("modified_ns", number),
            ("size", number),
            ("index", number),
            ("count", number),
            ("name", text),
            ("format", text),
            ("description", text),
            ("preview", text),
            ("dataset_type", text),
            ("data_type", text),
            ("creation_time", text),
            ("nx_meta", text),
        ]
        rows = [
            asdict(dataset)
            | {
                "session_key": key,
                "dataset_type": dataset.nx_meta["DatasetType"],
                "data_type": dataset.nx_meta["Data Type"],
                "creation_time": dataset.nx_meta["Creation Time"],
                "nx_meta": json.dumps(dataset.nx_meta, sort_keys=True),
            }
            for dataset in datasets
        ]
        header = {"inventory": inventory, "rules": rules}
        try:
            self._write_table("file_metadata", key, code_version, columns, rows, header)
        except WithdrawnError:
            self._remove_made_from(key, {dataset.location for dataset in datasets})
            raise

    def activities(self, key: str) -> tuple[Activity, ...] | None:
        """Activities of a session; an error when they are older than its datasets."""
        content = self._stage("activities", key)
        if content is None:
            return None
        if content["file_metadata"] != self.data_version("file_metadata", key):
            raise MissingStageError(f"'activities' of {key} are older than its datasets; materialise them first.")
        return tuple(Activity(a["start_ns"], a["end_ns"], tuple(a["locations"])) for a in content["activities"])

    def write_activities(
        self, key: str, activities: Sequence[Activity], clustering: Clustering, rule: str, code_version: str
    ) -> None:
        """Keep the activities of a session and the numbers that explain the split."""
        self._write_stage(
            "activities",
            key,
            code_version,
            rule=rule,
            file_metadata=self.data_version("file_metadata", key),
            activities=[asdict(activity) for activity in activities],
            boundaries=list(clustering.boundaries),
            bandwidth_seconds=clustering.bandwidth,
            candidates_seconds=list(clustering.candidates),
            scores=[score if abs(score) != float("inf") else None for score in clustering.scores],
        )

    def record_path(self, key: str) -> Path:
        """Where the record of a session lies, whether it is there or not."""
        return self.records_folder / key[:4] / f"{key}.xml"

    def write_record(self, key: str, xml: bytes, summary: Mapping[str, Any], code_version: str) -> None:
        """Keep a record; an earlier one that differs is kept beside it as ``.v<n>.xml``."""
        path = self.record_path(key)
        if path.exists() and path.read_bytes() != xml:
            self._keep_version(path)
        write_bytes(path, xml)
        try:
            self._write_stage("record", key, code_version, sha256=hashlib.sha256(xml).hexdigest(), **summary)
        except WithdrawnError:
            self._remove_records(key)
            raise

    def write_status(self, key: str, code_version: str, **status: Any) -> None:
        """Keep how far a session got at the destinations."""
        self._write_stage("session_status", key, code_version, **status)

    @staticmethod
    def _keep_version(path: Path) -> None:
        number = 1
        while (version := path.with_name(f"{path.stem}.v{number}.xml")).exists():
            if version.read_bytes() == path.read_bytes():
                return
            number += 1
        create(version, path.read_bytes())

    def forget_files(self, key: str, locations: Sequence[str]) -> None:
        """Remove what was made from some of a session's files, and its records that name them."""
        for location in locations:
            for path in made_from(self.datasets_folder, location):
                path.unlink(missing_ok=True)
        names = [location.encode() for location in locations]
        for path in self._records(key):
            content = path.read_bytes()
            if any(name in content for name in names):
                path.unlink()
        if locations:
            for stage in ("record", "activities", "file_metadata"):
                self.stage_path(stage, key).unlink(missing_ok=True)

    def _records(self, key: str) -> list[Path]:
        """The record of a session and its earlier versions, as far as they are there."""
        record = self.record_path(key)
        return [path for path in (record, *record.parent.glob(f"{glob.escape(record.stem)}.v*.xml")) if path.exists()]

    # Withdrawal

    def tombstone(self, key: str) -> Tombstone | None:
        """What stays of a session that was withdrawn; None when it was not. A damaged one counts as made by hand."""
        path = self._tombstone_path(key)
        try:
            return Tombstone.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            why = f"The tombstone is damaged; run 'nexuslims-pipeline withdraw {key}' or 'restore {key}'."
            return Tombstone(key=key, time=datetime.fromtimestamp(path.stat().st_mtime, UTC), why=why, by_hand=True)

    def tombstones(self) -> list[str]:
        """Keys of the sessions that were withdrawn, sorted."""
        folder = self.root / "tombstones"
        if not folder.is_dir():
            return []
        return sorted(e.name.removesuffix(".json") for e in os.scandir(folder) if not e.name.startswith("."))

    def is_withdrawn(self, server: str, event_id: int) -> bool:
        """Whether the session of a usage event was withdrawn."""
        return bool(self._buried_key(server, event_id))

    def has_made(self, key: str) -> bool:
        """Whether anything was ever made of a session, here or at a destination."""
        session = self.session(key)
        return bool(
            (session and session.state is SessionState.READY)
            or self.tombstone(key)
            or self.stage_path("file_inventory", key).exists()
            or self._records(key)
            or any(self.exports_folder.glob(f"*/{key}.json"))
        )

    def bury(self, tombstone: Tombstone) -> None:
        """Remove all that there is of a session but its ledgers; a tombstone stays.

        Safe to repeat. The tombstone comes first: from then on nothing of the session is written or published. The list
        of its files goes last. Until `finish` is called, the session counts as unfinished and is buried again.
        """
        key = tombstone.key
        self.begin(key)
        self.note(tombstone)
        self._remove_records(key)
        self._remove_made_from(key, self._locations(key))
        for stage in (*(stage for stage in STAGES if stage != "file_inventory"), "failures", "file_inventory"):
            path = self.stage_path(stage, key)
            path.unlink(missing_ok=True)
            _remove_abandoned(path.parent)
        self._key_path(*event_of(key)).unlink(missing_ok=True)

    def note(self, tombstone: Tombstone) -> None:
        """Write a tombstone."""
        write_bytes(self._tombstone_path(tombstone.key), json_bytes(tombstone.model_dump(mode="json")))

    def unbury(self, key: str) -> None:
        """Remove the tombstone: the session may be built again, under the same key."""
        path = self._tombstone_path(key)
        if path.exists():
            create(self._key_path(*event_of(key)), json_bytes({"key": key}))
            path.unlink(missing_ok=True)

    def _remove_records(self, key: str) -> None:
        for path in self._records(key):
            path.unlink(missing_ok=True)
        _remove_abandoned(self.record_path(key).parent)

    def _remove_made_from(self, key: str, locations: Iterable[str]) -> None:
        """Remove what was made from a session's files, but not from those that another session holds."""
        if not (mine := set(locations) - self._held_by_others(key)):
            return
        for location in mine:
            for path in made_from(self.datasets_folder, location):
                path.unlink(missing_ok=True)
        for folder in {(self.datasets_folder / from_location(location)).parent for location in mine}:
            _remove_abandoned(folder)
            _remove_empty(folder, self.datasets_folder)

    def _held_by_others(self, key: str) -> set[str]:
        """Files that other sessions of the instrument include."""
        began, instrument_id, *_ = parse_key(key)
        near = self.recent_keys(instrument_id, began - LONGEST_USE, began + LONGEST_USE)
        inventories = (self.inventory(other) for other in near if other != key)
        return {entry.location for inventory in inventories if inventory for entry in inventory.with_status("included")}

    def _tombstone_path(self, key: str) -> Path:
        return self.root / "tombstones" / f"{key}.json"

    def _buried_key(self, server: str, event_id: int) -> str:
        """Key of a usage event whose session was withdrawn; empty if there is none."""
        found = (self.root / "tombstones").glob(f"*_{server}-{event_id}.json")
        return next((path.stem for path in found), "")

    def _undo_if_withdrawn(self, stage: str, key: str) -> None:
        """Remove a stage again that was written while the session was being withdrawn.

        Looked at after writing: whatever was there before the tombstone, `bury` removes.

        Raises
        ------
        WithdrawnError
            When it was. What NEMO says is kept nevertheless for as long as it takes to see whether consent is back.
        """
        tombstone = self.tombstone(key)
        if tombstone and (tombstone.by_hand or stage != "usage_event"):
            self.stage_path(stage, key).unlink(missing_ok=True)
            raise WithdrawnError(f"{key} was withdrawn while it was being built; nothing is kept of it.")

    # What a stage needs of those before it

    def require_usage_event(self, key: str) -> UsageEvent:
        """What NEMO said; an error when nothing is kept."""
        return _required(self.usage_event(key), key, "usage_event")

    def require_session(self, key: str) -> Session:
        """The session; an error when it was never resolved."""
        return _required(self.session(key), key, "session")

    def require_inventory(self, key: str) -> Inventory:
        """The files; an error when nobody has looked for them."""
        return _required(self.inventory(key), key, "file_inventory")

    def ready_session(self, key: str) -> Session | None:
        """The session when its files may be looked for, else None."""
        if self.tombstone(key):
            return None
        session = self.require_session(key)
        return session if session.state is SessionState.READY else None

    def ready_inventory(self, key: str) -> Inventory | None:
        """The files when they are complete, else None."""
        if self.ready_session(key) is None:
            return None
        inventory = self.require_inventory(key)
        return inventory if inventory.state is SessionState.READY else None

    def ready_datasets(self, key: str) -> list[Dataset] | None:
        """The datasets when the session got that far, else None; an error when they are older than the files."""
        inventory = self.ready_inventory(key)
        if inventory is None:
            return None
        header = _required(self.header("file_metadata", key), key, "file_metadata")
        if header["inventory"] != inventory.fingerprint:
            raise MissingStageError(f"'file_metadata' of {key} is older than its files; materialise it first.")
        return self.datasets(key)

    # Freshness and failures

    def header(self, stage: str, key: str) -> dict[str, Any] | None:
        """What a stage says of itself (``code_version`` and more); None when it was never reached."""
        if stage in TABLES:
            import pyarrow as pa
            import pyarrow.parquet as pq

            try:
                return dict(json.loads(pq.read_schema(self._path(stage, key, "parquet")).metadata[HEADER]))
            except (FileNotFoundError, pa.ArrowInvalid):
                return None
        return self._stage(stage, key)

    def data_version(self, stage: str, key: str) -> str:
        """SHA-256 of what a stage holds; of a session that was withdrawn, that of its tombstone."""
        path, tombstone = self.stage_path(stage, key), self._tombstone_path(key)
        content = (tombstone if tombstone.exists() and not path.exists() else path).read_bytes()
        return hashlib.sha256(content).hexdigest()

    def failure(self, key: str) -> dict[str, Any] | None:
        """The failure that keeps a session from going on: ``asset``, ``error``, ``run_id``."""
        return _read_json(self._path("failures", key, "json"))

    def write_failure(self, key: str, asset: str, error: str, run_id: str, *, passing: bool = False) -> None:
        """Remember that a step failed for a session; `passing`: because something was out of reach for a while.

        Not of one that was withdrawn meanwhile: it counts as unfinished, and is buried again.
        """
        path = self._path("failures", key, "json")
        about = {"key": key, "asset": asset, "error": error, "run_id": run_id, "passing": passing}
        write_bytes(path, json_bytes(about))
        if self.tombstone(key):
            path.unlink(missing_ok=True)

    def clear_failure(self, key: str) -> None:
        """Forget a failure: the step is being done anew."""
        self._path("failures", key, "json").unlink(missing_ok=True)

    def begin(self, key: str) -> None:
        """Remember that a session is being built: if the run is killed, what is kept of it may not fit together."""
        write_bytes(self._path("unfinished", key, "json"), json_bytes({"key": key}))

    def finish(self, key: str) -> None:
        """Forget that a session was being built: it came to its end."""
        self._path("unfinished", key, "json").unlink(missing_ok=True)

    def is_unfinished(self, key: str) -> bool:
        """Whether a session is being built, or a run broke off before its end."""
        return self._path("unfinished", key, "json").exists()

    def state(self, key: str) -> tuple[SessionState | None, str]:
        """How far a session got, with the reason; None when nothing is known of it or it was left unfinished."""
        tombstone = self.tombstone(key)
        if tombstone and not self.is_unfinished(key):
            return SessionState.WITHDRAWN, tombstone.in_words
        if failure := self.failure(key):
            return SessionState.FAILED, f"{failure['asset']}: {failure['error']}"
        session = self.session(key)
        if session is None or self.is_unfinished(key):
            return None, ""
        if session.state is not SessionState.READY:
            return session.state, session.reason
        inventory = self.header("file_inventory", key)
        if inventory is None:
            return None, ""
        if inventory["state"] != SessionState.READY:
            return SessionState(inventory["state"]), inventory["reason"]
        return (SessionState.BUILT, "") if self.header("record", key) else (None, "")

    # Files

    def stage_path(self, stage: str, key: str) -> Path:
        """Where a stage of a session lies, whether it is there or not."""
        return self._path(stage, key, "parquet" if stage in TABLES else "json")

    def _path(self, stage: str, key: str, suffix: str) -> Path:
        return self.root / "stages" / stage / f"{key}.{suffix}"

    def _stage(self, stage: str, key: str) -> dict[str, Any] | None:
        return _read_json(self._path(stage, key, "json"))

    def _write_stage(self, stage: str, key: str, code_version: str, **content: Any) -> None:
        raw = json_bytes({"session_key": key, "code_version": code_version, **content})
        write_bytes(self._path(stage, key, "json"), raw)
        self._undo_if_withdrawn(stage, key)

    def _table(self, stage: str, key: str) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return pq.ParquetFile(self._path(stage, key, "parquet")).read(use_threads=False)
        except (FileNotFoundError, pa.ArrowInvalid):
            return None

    def _write_table(
        self,
        stage: str,
        key: str,
        code_version: str,
        columns: Iterable[tuple[str, Any]],
        rows: Sequence[Mapping[str, Any]],
        header: Mapping[str, Any],
    ) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        about = json_bytes({"code_version": code_version, **header})
        table = pa.Table.from_pylist(rows, schema=pa.schema(list(columns), metadata={HEADER: about}))
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        write_bytes(self._path(stage, key, "parquet"), sink.getvalue().to_pybytes())
        self._undo_if_withdrawn(stage, key)


def _required(stage: Stage | None, key: str, name: str) -> Stage:
    if stage is None:
        raise MissingStageError(f"'{name}' of {key} has not been materialised yet; do that first.")
    return stage


def _read_json(path: Path) -> dict[str, Any] | None:
    """Content of a file; None when it is missing or damaged: it is made again."""
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return content


def _remove_abandoned(folder: Path) -> None:
    """Remove temporary files of processes that were killed: nobody knows any more whose they were."""
    oldest = time.time() - ABANDONED_AFTER.total_seconds()
    for path in folder.glob(".*.tmp"):
        try:
            if path.stat().st_mtime < oldest:
                path.unlink()
        except FileNotFoundError:
            continue


def _remove_empty(folder: Path, top: Path) -> None:
    """Remove a folder and those above it, below `top`, that hold nothing any more: their names may tell of users."""
    while folder != top:
        try:
            folder.rmdir()
        except OSError:
            if folder.exists():
                return
        folder = folder.parent
