"""The ledger of a destination: what is known of each session's copy there, and what is being done about it.

One file per session, ``exports/<destination>/<key>.json``. Before the first request that may change something, the
intent is written; after the last one, the result. Whatever lies between is in doubt, and the next try finds out.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from nexuslims_pipeline.files import json_bytes, leftovers, sync_folder, write_bytes
from resources.destinations.base import Remote

STRIPES = 256
"""Lock files of a destination; two sessions rarely share one, and then merely wait for one another."""


class Failure(BaseModel):
    """Why the last try came to nothing."""

    model_config = ConfigDict(frozen=True)

    reason: str
    passing: bool
    """Whether trying again may help without anything being changed in the session."""
    at: AwareDatetime
    run_id: str = ""


class Outage(BaseModel):
    """Why the destination could not be reached, of late."""

    model_config = ConfigDict(frozen=True)

    reason: str
    at: AwareDatetime
    session: str
    """Digest of the key of the session that failed last: the key itself may have to go."""
    sessions: int = 1
    """How many sessions in a row; one alone may be to blame itself."""


class Entry(BaseModel):
    """What is known of one session at one destination."""

    model_config = ConfigDict(frozen=True)

    key: str
    doing: Literal["", "publish", "withdraw"] = ""
    """The intent, until its outcome is known."""
    wanted: str = ""
    """Fingerprint of what the last try was to send."""
    address: str = ""
    """Where in the destination the copy belongs."""
    remote: Remote | None = None
    """The copy, once its creation is certain."""
    fingerprint: str = ""
    """What the copy holds."""
    sha256: str = ""
    """Of the record that the copy holds."""
    version: int = 0
    """How often the copy was made or changed."""
    at: AwareDatetime | None = None
    """When it last was."""
    failure: Failure | None = None
    elsewhere: tuple[str, ...] = ()
    """Addresses of further copies, out of reach: made when the settings named another server or folder."""

    @property
    def is_certain(self) -> bool:
        """Whether the last thing begun also ended."""
        return not self.doing


class Ledger:
    """Entries of one destination.

    Parameters
    ----------
    folder
        ``exports/<destination>`` in the store.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, tuple[tuple[int, int, int], Entry]] = {}

    def read(self, key: str) -> Entry | None:
        """Entry of a session; None when there is none, or it is damaged: the destination is asked then."""
        path = self._path(key)
        try:
            about = path.stat()
            signature = (about.st_mtime_ns, about.st_size, about.st_ino)
            known = self._known.get(key)
            if known and known[0] == signature:
                return known[1]
            entry = Entry.model_validate_json(path.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        self._known[key] = (signature, entry)
        return entry

    def write(self, entry: Entry) -> Entry:
        """Keep an entry."""
        write_bytes(self._path(entry.key), json_bytes(entry.model_dump(mode="json")))
        self._known.pop(entry.key, None)
        return entry

    def remove(self, key: str) -> None:
        """Forget a session: its copy is gone."""
        path = self._path(key)
        for temporary in leftovers(self._folder, f'"{key}"'):
            temporary.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        self._known.pop(key, None)
        if path.parent.is_dir():
            sync_folder(path.parent)

    def sessions(self) -> list[str]:
        """Sessions with an entry, sorted."""
        if not self._folder.is_dir():
            return []
        names = (entry.name for entry in os.scandir(self._folder))
        return sorted(name.removesuffix(".json") for name in names if name.endswith(".json") and name[0] != ".")

    def outage(self) -> Outage | None:
        """What keeps sessions from the destination, unless it was reached since."""
        try:
            return Outage.model_validate_json(self._outage_path.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def note_outage(self, key: str, reason: str) -> None:
        """Keep that the destination could not be reached for a session."""
        session = _digest(key)
        with self._lock("outage"):
            before = self.outage()
            others = before.sessions - (before.session == session) if before else 0
            outage = Outage(reason=reason, at=datetime.now(UTC), session=session, sessions=others + 1)
            write_bytes(self._outage_path, json_bytes(outage.model_dump(mode="json")))

    def end_outage(self) -> None:
        """Keep that the destination was reached."""
        if self._outage_path.exists():
            self._outage_path.unlink(missing_ok=True)

    @contextmanager
    def alone(self, key: str) -> Iterator[None]:
        """Wait until nobody else is busy with a session at this destination; a lock ends with its process."""
        with self._lock(f"{int(_digest(key), 16) % STRIPES:02x}"):
            yield

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        path = self._folder / ".locks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @property
    def _outage_path(self) -> Path:
        return self._folder / ".outage"

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
