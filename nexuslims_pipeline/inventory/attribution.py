"""Which files belong to a session, and why."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias

from nexuslims_pipeline.files import display_name, from_location
from nexuslims_pipeline.inventory.clock import instant, moment, nanoseconds, stamp
from nexuslims_pipeline.inventory.companions import Group, extension_of, group
from nexuslims_pipeline.inventory.model import (
    Crawl,
    FileStatus,
    FoundFile,
    Inventory,
    InventoryEntry,
    Refusal,
)
from nexuslims_pipeline.inventory.settling import Settling, out_of_sight, session_state
from nexuslims_pipeline.sessions.model import Claim, Session, SessionState

Strategy: TypeAlias = Literal["exclusive", "inclusive"]

SETTLE_SECONDS = 300.0
"""How long a file must not have been modified before it is read."""

FILE_DELAY = timedelta(days=2)
"""How long after its end a session without files is waited for."""


def crawl_window(session: Session, clock_offset: timedelta = timedelta(0)) -> tuple[float, float]:
    """Bounds for `crawl` that hold every file of `session`.

    Parameters
    ----------
    session
        The session.
    clock_offset
        Instrument's clock minus true time.

    Returns
    -------
    since, until
        Whole seconds since 1970 on the instrument's clock, rounded outward: `attribute_files` is exact.
    """
    since = instant(session.start) + nanoseconds(clock_offset)
    until = instant(session.end) + nanoseconds(clock_offset)
    return float(since // 10**9), float(-(-until // 10**9))


def attribute_files(
    crawl: Crawl,
    session: Session,
    *,
    extensions: frozenset[str],
    now: datetime,
    claims: Sequence[Claim] = (),
    clock_offset: timedelta = timedelta(0),
    strategy: Strategy = "exclusive",
    ignore_patterns: Sequence[str] = (),
    settle_seconds: float = SETTLE_SECONDS,
    file_delay: timedelta = FILE_DELAY,
    previous: Inventory | None = None,
) -> Inventory:
    """Say of each file in a session's window whether it belongs to the session.

    A file's time is its modification time less `clock_offset`; the file lies in the window when that is in
    (start, end], to the nanosecond. Of several sessions in whose windows it lies, it belongs to the one that
    started last, then to the shorter, then to the one with the smaller server name and event number. When one
    of them has no consent, the file is left out altogether. A companion goes with the file that it describes,
    whatever its own time.

    Parameters
    ----------
    crawl
        A walk over at least `crawl_window(session, clock_offset)`.
    session
        A session whose state is READY.
    extensions
        Extensions that have a reader, lower case with the dot; strategy ``exclusive`` includes no others.
    now
        True time of the look.
    claims
        The other sessions on the instrument whose windows overlap; one that still runs reaches up to `now`.
    clock_offset
        Instrument's clock minus true time.
    strategy
        ``exclusive``: only files that have a reader; ``inclusive``: all files.
    ignore_patterns
        Shell patterns of file names to leave aside, without regard to case. They do not touch companions.
    settle_seconds
        How long a file must not have been modified.
    file_delay
        How long after the session's end files are expected. As long, a file that differs from `previous`
        waits until two looks agree.
    previous
        The inventory of the look before.

    Returns
    -------
    Inventory
        WAITING_FOR_FILES while a file is not settled, while none was found and the delay is not over, or
        while a folder that held files of `previous` cannot be read: its entries are those of `previous` then.

    Raises
    ------
    ValueError
        When the session is not READY: without consent no file may even be listed.
    """
    if session.state is not SessionState.READY:
        raise ValueError(f"files of {session.key} must not be looked at: {session.reason or session.state}")
    now_ns = instant(now) + nanoseconds(clock_offset)
    compare = previous is not None and now <= session.end + file_delay
    attribution = _Attribution(
        own=_Window.of(session, now, clock_offset),
        rivals=tuple(_Window.of(claim, now, clock_offset) for claim in claims if not _same_event(claim, session)),
        clock_offset=clock_offset,
        zone=session.start.tzinfo,
        extensions=extensions if strategy == "exclusive" else None,
        ignore_patterns=tuple(ignore_patterns),
        settling=Settling(
            now_ns=now_ns,
            quiet_ns=round(settle_seconds * 1e9),
            previous={entry.location: entry for entry in previous.entries} if previous and compare else {},
        ),
    )
    entries = attribution.entries(crawl)
    if previous and (hidden := out_of_sight(previous, entries, crawl.refusals)):
        kept = previous.entries
        return Inventory(session.key, SessionState.WAITING_FOR_FILES, hidden, kept, _fingerprint(entries, crawl))
    state, reason = session_state(session, entries, now, file_delay)
    return Inventory(session.key, state, reason, entries, _fingerprint(entries, crawl))


@dataclass(frozen=True, slots=True)
class _Window:
    """A session's window on the instrument's clock, nanoseconds since 1970."""

    start_ns: int
    end_ns: int
    server: str
    usage_event_id: int
    consent: bool

    @classmethod
    def of(cls, event: Session | Claim, now: datetime, clock_offset: timedelta) -> "_Window":
        """Window of a usage event; `now` ends one that is still running."""
        offset = nanoseconds(clock_offset)
        return cls(
            start_ns=instant(event.start) + offset,
            end_ns=instant(event.end or now) + offset,
            server=event.server,
            usage_event_id=event.usage_event_id,
            consent=event.consent if isinstance(event, Claim) else True,
        )

    def __contains__(self, modified_ns: int) -> bool:
        return self.start_ns < modified_ns <= self.end_ns

    @property
    def rank(self) -> tuple[int, int, str, int]:
        """The least takes the files: latest start, then shortest, then by name and number."""
        return -self.start_ns, self.end_ns - self.start_ns, self.server, self.usage_event_id


@dataclass(frozen=True, slots=True)
class _Attribution:
    """The rules for one session."""

    own: _Window
    rivals: tuple[_Window, ...]
    clock_offset: timedelta
    zone: tzinfo | None
    extensions: frozenset[str] | None
    """None when every file is wanted."""
    ignore_patterns: tuple[str, ...]
    settling: Settling

    def entries(self, crawl: Crawl) -> tuple[InventoryEntry, ...]:
        """Everything in the session's window, sorted by location."""
        groups = group(self._nearby(crawl))
        mine = [each for each in groups if each.file.modified_ns in self.own and self._permitted(each.file)]
        entries = [self._judge(each) for each in mine]
        listed = {location for entry in entries for location in (entry.location, *entry.companions)}
        entries += (entry for entry in self._strays(groups) if entry.location not in listed)
        entries += (
            InventoryEntry(refusal.location, "refused", refusal.reason, modified_ns=refusal.modified_ns)
            for refusal in crawl.refusals
            if refusal.modified_ns is None or (refusal.modified_ns in self.own and self._permitted(refusal))
        )
        return tuple(sorted(entries, key=lambda entry: entry.location))

    def _nearby(self, crawl: Crawl) -> Iterator[FoundFile]:
        """Files of the folders in which something lies in the window: companions never leave their folder."""
        folders = {_folder(file) for file in crawl.files if file.modified_ns in self.own}
        return (file for file in (*crawl.files, *crawl.neighbours) if _folder(file) in folders)

    def _permitted(self, found: FoundFile | Refusal) -> bool:
        """Whether no session without consent may claim it."""
        time = found.modified_ns
        return time is None or all(rival.consent for rival in self.rivals if time in rival)

    def _judge(self, found: Group) -> InventoryEntry:
        companions = tuple(each for each in found.companions if self._permitted(each))
        status, reason = self._verdict(Group(found.file, companions))
        return InventoryEntry(
            found.file.location,
            status,
            reason,
            found.file.size,
            found.file.modified_ns,
            tuple(each.location for each in companions),
        )

    def _verdict(self, found: Group) -> tuple[FileStatus, str]:
        file = found.file
        if (winner := self._winner(file.modified_ns)) != self.own:
            return "contested", f"{self._modified(file)}, {self._defeat(winner)}"
        if reason := self._reason_to_ignore(file):
            return "ignored", reason
        if reason := self.settling.reason_to_wait(found):
            return "waiting", reason
        if file.size == 0:
            return "refused", "empty file"
        return "included", f"{self._modified(file)}, inside the session"

    def _winner(self, modified_ns: int) -> _Window:
        claimants = (rival for rival in self.rivals if modified_ns in rival)
        return min((self.own, *claimants), key=lambda window: window.rank)

    def _defeat(self, winner: _Window) -> str:
        if winner.start_ns > self.own.start_ns:
            why = "which started later"
        elif winner.rank[1] < self.own.rank[1]:
            why = "which is shorter"
        else:
            why = "which has the same times and comes first by server and number"
        return f"also inside usage event {winner.usage_event_id} of {winner.server}, {why}"

    def _reason_to_ignore(self, file: FoundFile) -> str | None:
        path = from_location(file.location)
        for pattern in self.ignore_patterns:
            if fnmatchcase(path.name.lower(), pattern.lower()):
                return f"name matches the ignore pattern {pattern}"
        if self.extensions is not None and extension_of(path.name) not in self.extensions:
            extension = extension_of(display_name(path))
            return f"no reader for {extension} files" if extension else "no reader for files without an extension"
        return None

    def _strays(self, groups: Iterable[Group]) -> Iterator[InventoryEntry]:
        """Companions in the window whose files are not: what they describe is not this session's."""
        strays: dict[str, tuple[FoundFile, list[FoundFile]]] = {}
        for each in groups:
            for companion in each.companions:
                strays.setdefault(companion.location, (companion, []))[1].append(each.file)
        for location, (companion, described) in strays.items():
            if companion.modified_ns in self.own and all(map(self._permitted, (companion, *described))):
                reason = f"describes {_name(described[0])}, which is not of this session"
                yield InventoryEntry(location, "ignored", reason, companion.size, companion.modified_ns)

    def _modified(self, file: FoundFile) -> str:
        true_time = moment(file.modified_ns - nanoseconds(self.clock_offset), self.zone)
        seconds = -self.clock_offset.total_seconds()
        return f"modified {stamp(true_time)}" + (f" (clock corrected by {seconds:+g} s)" if seconds else "")


def _same_event(claim: Claim, session: Session) -> bool:
    return (claim.server, claim.usage_event_id) == (session.server, session.usage_event_id)


def _folder(file: FoundFile) -> str:
    return file.location.rpartition("/")[0]


def _name(file: FoundFile) -> str:
    return display_name(from_location(file.location))


def _fingerprint(entries: Iterable[InventoryEntry], crawl: Crawl) -> str:
    described = {location for entry in entries for location in entry.companions}
    state = {
        file.location: (file.location, file.size, file.modified_ns)
        for file in (*crawl.files, *crawl.neighbours)
        if file.location in described
    }
    rows = [
        (
            entry.location,
            entry.size,
            entry.modified_ns,
            entry.status,
            [state[location] for location in entry.companions],
        )
        for entry in entries
    ]
    return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode("ascii")).hexdigest()
