"""What the store offers to the destinations, and the site's destinations themselves."""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from dagster import ConfigurableResource
from pydantic import PrivateAttr

from nexuslims_pipeline.configuration import settings
from nexuslims_pipeline.instruments import ConfigurationError
from nexuslims_pipeline.metadata.dataset import Dataset
from nexuslims_pipeline.publication.model import Link, Origin, Publication
from nexuslims_pipeline.sessions.model import SessionState
from resources.destinations.base import Destination
from resources.destinations.known import destinations_of
from resources.destinations.portal import Portal
from resources.harvest import Due
from resources.ledger import Ledger
from resources.publishing import Publisher, Status, due_at, status_of
from resources.storage import InstrumentStorage
from resources.store import STAGES, MissingStageError, Store

ENDED_EARLY = frozenset(
    {
        SessionState.NO_CONSENT,
        SessionState.NO_RESERVATION,
        SessionState.WAITING_FOR_FILES,
        SessionState.NO_FILES_FOUND,
    }
)


class StoredSessions:
    """Sessions of the store, as `resources.publishing.Source` wants them."""

    def __init__(self, store: Store, storage: InstrumentStorage) -> None:
        self._store = store
        self._storage = storage

    def sessions(self) -> list[str]:
        """Sessions with a record, sorted."""
        return self._store.reached("record")

    def content(self, key: str, stages: Collection[str]) -> str | None:
        """Digest of the record, then of each of the stages; None without a record."""
        record = _seen(self._store.stage_path("record", key), _sha256_in)
        if record is None:
            return None
        return " ".join([record, *(_seen(self._store.stage_path(stage, key), _sha256_of) or "-" for stage in stages)])

    def built_at(self, key: str) -> datetime | None:
        """When the record was last written."""
        try:
            return datetime.fromtimestamp(self._store.record_path(key).stat().st_mtime, UTC)
        except FileNotFoundError:
            return None

    def is_settled(self, key: str) -> bool:
        """Whether the session's last build came to its end and to a record."""
        return self._store.state(key)[0] is SessionState.BUILT

    def is_withdrawn(self, key: str) -> bool:
        """Whether there is a tombstone."""
        return self._store.tombstone(key) is not None

    def has_lost_its_record(self, key: str) -> bool:
        """Whether the session was built, but ended early: what was shown of it is another's, whose consent is gone."""
        return not self._store.stage_path("record", key).exists() and self._store.state(key)[0] in ENDED_EARLY

    def publication(self, key: str, links: Mapping[str, Link]) -> Publication | None:
        """All that is published of a session; None without a record.

        Raises
        ------
        MissingStageError
            When the session is just being built anew.
        """
        store = self._store
        session = store.session(key)
        path = store.record_path(key)
        if session is None or session.state is not SessionState.READY or not path.exists():
            return None
        datasets, activities, inventory = store.datasets(key), store.activities(key), store.inventory(key)
        if datasets is None or activities is None or inventory is None:
            msg = f"{key} is being built anew; it is published when that is done."
            raise MissingStageError(msg)
        return Publication(
            key=key,
            xml=path.read_bytes(),
            session=session,
            instrument=self._storage.instrument(session.instrument_id),
            datasets=tuple(datasets),
            activities=activities,
            files=inventory.entries,
            datasets_folder=store.datasets_folder,
            origin=self._origin(key, datasets),
            links=links,
        )

    def _origin(self, key: str, datasets: Collection[Dataset]) -> Origin:
        headers = {stage: self._store.header(stage, key) or {} for stage in STAGES}
        return Origin(
            usage_fingerprint=str(headers["usage_event"].get("fingerprint", "")),
            code_versions={stage: str(h["code_version"]) for stage, h in headers.items() if "code_version" in h},
            readers={dataset.location: _reader(dataset) for dataset in datasets},
            clustering_rule=str(headers["activities"].get("rule", "")),
            boundaries=tuple(headers["activities"].get("boundaries", ())),
            site_rules=str(headers["file_metadata"].get("rules", "")),
        )


def _reader(dataset: Dataset) -> str:
    details = dataset.nx_meta.get("Extraction Details", {})
    return f"{details.get('Reader', 'unknown')}={details.get('Version', '?')}"


def _seen(path: Path, read: Callable[[Path], str | None]) -> str | None:
    """What `read` makes of a file, made again when the file changes; None when it is not there."""
    try:
        about = path.stat()
        return _made(read, path, about.st_mtime_ns, about.st_size, about.st_ino)
    except FileNotFoundError:
        return None


@lru_cache(maxsize=200_000)
def _made(read: Callable[[Path], str | None], path: Path, *signature: int) -> str | None:  # noqa: ARG001 - cache's key
    return read(path)


def _sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sha256_in(path: Path) -> str | None:
    """SHA-256 of the record that a stage file tells of; None when it is damaged: other sessions go on."""
    try:
        return str(json.loads(path.read_bytes())["sha256"])
    except (ValueError, KeyError, TypeError):
        return None


def _stays(entry: Path) -> str:
    known = _ledger(entry.parent).read(entry.stem)
    copy = f"the copy {known.remote.url}" if known and known.remote else "whatever copy there is"
    return (
        f"{entry.parent.name}: {copy} stays: the settings have no such destination any more. Set it up again and "
        f"withdraw once more, or remove the copy there by hand and then {entry}."
    )


@cache
def _ledger(folder: Path) -> Ledger:
    """The ledger of a folder; one object for all, which reads each entry once."""
    return Ledger(folder)


class Publishing(ConfigurableResource[Any]):
    """The site's destinations; their tokens stay in the settings, where no page shows them."""

    strategy: str = "all"
    """How many destinations must hold a record: one of `resources.publishing.Strategy`."""
    _opened: dict[str, Destination] | None = PrivateAttr(default=None)

    def destinations(self) -> dict[str, Destination]:
        """Destinations by name: first those that others link to."""
        if self._opened is None:
            self._opened = destinations_of(settings())
        return self._opened

    def portal(self) -> Portal:
        """The site's portal.

        Raises
        ------
        ConfigurationError
            When the site has none.
        """
        portal = self.destinations().get(Portal.name)
        if not isinstance(portal, Portal):
            msg = "This site has no portal; set NX_PORTAL=true."
            raise ConfigurationError(msg)
        return portal

    def publishers(self, store: Store, storage: InstrumentStorage) -> list[Publisher]:
        """One publisher for each destination."""
        destinations = self.destinations()
        ledgers = {name: _ledger(store.exports_folder / name) for name in destinations}
        labels = {name: destination.label for name, destination in destinations.items()}
        source = StoredSessions(store, storage)
        return [Publisher(destination, ledgers, labels, source) for destination in destinations.values()]

    def publisher(self, name: str, store: Store, storage: InstrumentStorage) -> Publisher:
        """The publisher of one destination."""
        return next(p for p in self.publishers(store, storage) if p.destination.name == name)

    def unreachable_copies(self, key: str, store: Store) -> list[str]:
        """Copies at destinations that the settings do not name any more, each in a sentence that says the mend."""
        entries = sorted(store.exports_folder.glob(f"*/{key}.json"))
        return [_stays(path) for path in entries if path.parent.name not in self.destinations()]

    def status(self, key: str, store: Store, storage: InstrumentStorage) -> Status:
        """How far a session got at all destinations."""
        return status_of(self.publishers(store, storage), self.strategy, key)

    def due(
        self, name: str, store: Store, storage: InstrumentStorage, now: datetime, *, refused_too: bool = False
    ) -> dict[str, Due]:
        """Sessions that are due at one destination, each with the reason."""
        return due_at(name, self.publishers(store, storage), self.strategy, now, refused_too=refused_too)
