"""What a crawl finds and what becomes of each file."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from nexuslims_pipeline.sessions.model import SessionState

FileStatus: TypeAlias = Literal["included", "waiting", "contested", "refused", "ignored"]


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A regular file below the instrument's folder."""

    location: str
    """Percent-encoded path below the instrument root (`files.to_location`)."""
    size: int
    modified_ns: int
    """Modification time as the file system has it, nanoseconds since 1970, before any clock correction."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A folder or file that the crawl would not or could not enter, with its reason."""

    location: str
    reason: str
    modified_ns: int | None = None
    """Modification time of the entry itself, when it could be asked."""


@dataclass(frozen=True, slots=True)
class Crawl:
    """Result of one walk."""

    files: tuple[FoundFile, ...]
    """Sorted by location."""
    refusals: tuple[Refusal, ...]
    """Sorted by location."""
    neighbours: tuple[FoundFile, ...] = ()
    """Files of other times that describe one of `files` or are described by one; sorted by location."""


@dataclass(frozen=True, slots=True)
class InventoryEntry:
    """One file (or refused folder) of a session's window and what becomes of it."""

    location: str
    status: FileStatus
    reason: str
    """Why it belongs, waits, is contested, refused or ignored."""
    size: int | None = None
    modified_ns: int | None = None
    companions: tuple[str, ...] = ()
    """Locations of the files that describe it."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """The files of one session."""

    key: str
    state: SessionState
    """READY, WAITING_FOR_FILES or NO_FILES_FOUND."""
    reason: str
    entries: tuple[InventoryEntry, ...]
    """Sorted by location."""
    fingerprint: str
    """SHA-256 over each entry's location, size, time, status, companions: changes when a rebuild is due."""

    def with_status(self, *statuses: FileStatus) -> tuple[InventoryEntry, ...]:
        """Entries of the given statuses."""
        return tuple(entry for entry in self.entries if entry.status in statuses)
