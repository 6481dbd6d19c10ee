"""Publishing: every destination holds each record exactly once, the newest, or not at all.

Publish = write the intent to the ledger → find → create or update → write the result. A try that is cut off anywhere
leaves an intent; the next one begins with `find` and ends in one copy. Which sessions are due is decided from the
store and the ledger alone.
"""

import hashlib
import json
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol
from urllib.parse import urlsplit

from nexuslims_pipeline.publication.model import Link, Publication
from resources.destinations.base import (
    Destination,
    DestinationBusyError,
    DestinationRefusedError,
    DestinationUnavailableError,
    Remote,
)
from resources.harvest import Due
from resources.ledger import Entry, Failure, Ledger, Outage

WAIT_FOR_LINK = timedelta(minutes=10)
"""A copy waits so long for the first copy at a destination that it links to; then it goes without."""
OUTAGE = timedelta(minutes=15)
"""So long after it could not be reached, a destination is tried with one session at a time."""
PAUSE = timedelta(seconds=14)
"""So long after it could not be reached, a destination is not tried at all: each try may take two minutes."""
SESSIONS_OF_AN_OUTAGE = 2
"""So many sessions in a row must fail: one alone may be what the destination breaks down at."""

WITHDRAWN = Due("withdrawn", "withdrawn")

_log = logging.getLogger(__name__)


class Source(Protocol):
    """What there is to publish."""

    def sessions(self) -> list[str]:
        """Sessions with a record, sorted."""

    def content(self, key: str, stages: Collection[str]) -> str | None:
        """Text that changes with the record, and with what the given stages hold; None without a record."""

    def built_at(self, key: str) -> datetime | None:
        """When the record was last written; None without a record."""

    def is_settled(self, key: str) -> bool:
        """Whether the session is not just being built, and its last build did not fail."""

    def is_withdrawn(self, key: str) -> bool:
        """Whether nothing of the session may be anywhere."""

    def has_lost_its_record(self, key: str) -> bool:
        """Whether there is no record any more since nothing is left to tell: its files are another session's."""

    def publication(self, key: str, links: Mapping[str, Link]) -> Publication | None:
        """All that is published of a session; None without a record."""


@dataclass(frozen=True, slots=True)
class Result:
    """What was done for one session at one destination."""

    action: Literal["created", "updated", "unchanged", "withdrawn"]
    remote: Remote | None
    version: int = 0
    surplus: int = 0
    """Further copies that were found and removed."""
    elsewhere: tuple[str, ...] = ()
    """Addresses of copies that stay, out of reach: the settings named another server then."""


@dataclass(frozen=True, slots=True)
class CopyStatus:
    """One session at one destination."""

    destination: str
    label: str
    counts: bool
    """Whether the site's strategy speaks of this destination."""
    state: Literal["PUBLISHED", "WAITING", "FAILED"]
    url: str = ""
    reason: str = ""
    run_id: str = ""
    """Run in which it failed."""


class Publisher:
    """Keeps one destination in step with the records.

    Parameters
    ----------
    destination
        Where to.
    ledgers
        Ledgers of all destinations, by name.
    labels
        What a copy at each destination is called, by name.
    source
        What there is to publish.
    """

    def __init__(
        self, destination: Destination, ledgers: Mapping[str, Ledger], labels: Mapping[str, str], source: Source
    ) -> None:
        self.destination = destination
        self.ledger = ledgers[destination.name]
        self._linked = {name: ledgers[name] for name in destination.shows_links_of if name in ledgers}
        self._labels = labels
        self._source = source

    def publish(self, key: str, *, run_id: str = "") -> Result | None:
        """Bring a session's copy in step: make it, change it, remove it, or see that it is there.

        Parameters
        ----------
        key
            The session.
        run_id
            Run on whose behalf this is done.

        Returns
        -------
        Result or None
            None when there is neither a record nor a copy to withdraw.

        Raises
        ------
        DestinationError
            When it could not be done; the ledger keeps the reason.
        """
        with self.ledger.alone(key):
            try:
                self._pause_in_an_outage()
                result = self._withdraw(key) if self.is_to_go(key) else self._bring_up_to_date(key)
            except Exception as fault:
                self._note(key, fault, run_id)
                raise
        if result is not None:
            self.ledger.end_outage()
        return result

    def _pause_in_an_outage(self) -> None:
        if outage := self.outage(datetime.now(UTC), PAUSE):
            raise _NotTriedError(f"Not tried, since a moment ago: {outage.reason}")

    def is_to_go(self, key: str) -> bool:
        """Whether the destination is to hold nothing of a session."""
        if self._source.is_withdrawn(key):
            return True
        return self._source.has_lost_its_record(key) and self.ledger.read(key) is not None

    def _bring_up_to_date(self, key: str) -> Result | None:
        # In this order: a record that is rebuilt meanwhile is seen as changed afterwards, never as sent.
        wanted = self.wanted(key)
        publication = self._source.publication(key, self._links(key))
        if publication is None or wanted is None:
            return None
        entry = self.ledger.read(key) or Entry(key=key)
        address = self.destination.address(publication)
        if self._holds(entry, wanted, address):
            copies = self.destination.find(key, address)
            if len(copies) == 1 and copies[0].is_whole and entry.remote and copies[0].id == entry.remote.id:
                self._clear_failure(entry)
                return Result("unchanged", entry.remote, entry.version)
        was_in_doubt = not entry.is_certain
        entry = entry.model_copy(update={"doing": "publish", "wanted": wanted, "failure": None})
        if entry.address != address and (entry.remote or was_in_doubt):
            self.ledger.write(entry)
            self._remove(self._copies(entry))
            entry = entry.model_copy(update={"remote": None})
        entry = self.ledger.write(entry.model_copy(update={"address": address}))
        copies = self._copies(entry)
        kept = _kept(copies, entry.remote)
        remote = self.destination.update(kept, publication) if kept else self.destination.create(publication)
        if was_in_doubt:
            # What was asked before, and got no answer, may have been carried out only now: a copy, or a part of it.
            copies = self.destination.find(key, address)
            remote = self.destination.update(remote, publication)
        surplus = [copy for copy in copies if copy.id != remote.id]
        self._remove(surplus)
        self.ledger.write(
            Entry(
                key=key,
                wanted=wanted,
                address=address,
                remote=remote,
                fingerprint=wanted,
                sha256=hashlib.sha256(publication.xml).hexdigest(),
                version=entry.version + 1,
                at=datetime.now(UTC),
                elsewhere=(*entry.elsewhere, *([] if kept else _elsewhere(entry.remote, remote))),
            )
        )
        return Result("updated" if kept else "created", remote, entry.version + 1, len(surplus))

    def _withdraw(self, key: str) -> Result | None:
        entry = self.ledger.read(key) or Entry(key=key)
        entry = self.ledger.write(entry.model_copy(update={"doing": "withdraw", "failure": None}))
        self._remove(self._copies(entry))
        if left := self._copies(entry):
            msg = f"{self.destination.label} {left[0].id} of {key} is still there after it was withdrawn; remove it."
            raise DestinationRefusedError(msg)
        self.ledger.remove(key)
        if entry.elsewhere:
            stay = ", ".join(entry.elsewhere)
            _log.warning("%s: %s is withdrawn, but these copies are out of reach: %s", self.destination.name, key, stay)
        return Result("withdrawn", None, elsewhere=entry.elsewhere)

    def _copies(self, entry: Entry) -> list[Remote]:
        """Copies that the destination finds, and that of the ledger if it was merely moved or renamed.

        What the ledger knows is never changed or removed by its id alone: the id may be something else's by now.
        """
        copies = self.destination.find(entry.key, entry.address)
        known = entry.remote
        if known and known.id not in {copy.id for copy in copies} and self.destination.is_copy(known, entry.key):
            copies = [*copies, known]
        return copies

    def _remove(self, copies: Iterable[Remote]) -> None:
        for copy in copies:
            _log.info("%s: removing copy %s", self.destination.name, copy.id)
            self.destination.withdraw(copy)

    def _note(self, key: str, fault: Exception, run_id: str) -> None:
        """Keep the reason of a failure with whatever the ledger says of the session."""
        trouble = self._trouble_behind(fault)
        passing = bool(trouble) or not isinstance(fault, DestinationRefusedError)
        reason = str(fault) or type(fault).__name__
        failure = Failure(reason=reason, passing=passing, at=datetime.now(UTC), run_id=run_id)
        try:
            if trouble:
                self.ledger.note_outage(key, trouble)
            if not self.is_current(key):
                entry = self.ledger.read(key) or Entry(key=key)
                self.ledger.write(entry.model_copy(update={"wanted": self.wanted(key) or "", "failure": failure}))
        except OSError as error:
            _log.warning("%s: the failure of %s cannot be kept: %s", self.destination.name, key, error)

    def _trouble_behind(self, fault: Exception) -> str:
        """What is wrong with the destination itself, not with the session; empty if nothing is."""
        if isinstance(fault, DestinationRefusedError):
            try:
                return next(iter(self.destination.check()), "")
            except Exception as further:  # whatever somebody else's package raises
                return str(further) or type(further).__name__
        if isinstance(fault, _NotTriedError | DestinationBusyError):
            return ""
        return str(fault) if isinstance(fault, DestinationUnavailableError) else ""

    def _clear_failure(self, entry: Entry) -> None:
        if entry.failure:
            self.ledger.write(entry.model_copy(update={"failure": None}))

    def doubt(self, key: str) -> None:
        """Take nothing for granted of a session's copy: the next `publish` sends the record even if it is there."""
        with self.ledger.alone(key):
            if entry := self.ledger.read(key):
                self.ledger.write(entry.model_copy(update={"fingerprint": "", "failure": None}))

    # What is due

    def wanted(self, key: str) -> str | None:
        """Fingerprint of what the copy is to hold; None without a record."""
        content = self._source.content(key, self.destination.made_of)
        if content is None:
            return None
        links = {name: link.url for name, link in self._links(key).items()}
        about = [self.destination.name, self.destination.version, self.destination.in_words(), content, links]
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()

    def _links(self, key: str) -> dict[str, Link]:
        """Copies at the destinations that this one links to, as far as they are there."""
        entries = {name: ledger.read(key) for name, ledger in self._linked.items()}
        return {name: Link(self._labels[name], e.remote.url) for name, e in entries.items() if e and e.remote}

    @staticmethod
    def _holds(entry: Entry, wanted: str, address: str) -> bool:
        return bool(entry.is_certain and entry.remote and entry.fingerprint == wanted and entry.address == address)

    def is_current(self, key: str) -> bool:
        """Whether, by the ledger, the copy holds the newest record."""
        entry = self.ledger.read(key)
        return bool(entry and entry.is_certain and entry.remote and entry.fingerprint == self.wanted(key))

    def status(self, key: str) -> CopyStatus:
        """How far a session got here, by the ledger."""
        name, label = self.destination.name, self.destination.label
        entry = self.ledger.read(key)
        url = entry.remote.url if entry and entry.remote else ""
        counts = self.destination.counts
        if self.is_current(key):
            return CopyStatus(name, label, counts, "PUBLISHED", url)
        if entry and entry.failure:
            return CopyStatus(name, label, counts, "FAILED", url, entry.failure.reason, entry.failure.run_id)
        return CopyStatus(name, label, counts, "WAITING", url, "an older record is there" if url else "not sent yet")

    def due(self, now: datetime, *, refused_too: bool = False) -> dict[str, Due]:
        """Sessions whose copy is not as it should be, each with the reason.

        Parameters
        ----------
        now
            The time.
        refused_too
            Also those that the destination refused for good: somebody has mended something.
        """
        due = {key: WITHDRAWN for key in self.ledger.sessions() if self.is_to_go(key)}
        for key in self._source.sessions():
            if key not in due and (reason := self._reason(key, now, refused_too=refused_too)):
                due[key] = Due(reason, self.wanted(key) or "")
        return due

    def _reason(self, key: str, now: datetime, *, refused_too: bool) -> str:
        wanted, entry = self.wanted(key), self.ledger.read(key)
        if wanted is None or (entry and entry.is_certain and entry.fingerprint == wanted):
            return ""
        refused = bool(entry and entry.failure and entry.wanted == wanted and not entry.failure.passing)
        if refused and not refused_too:
            return ""
        if not self._source.is_settled(key) or self._waits_for_link(key, now):
            return ""
        if entry is None:
            return "new"
        if entry.failure:
            return "refused before" if refused else "failed before"
        return "the record changed" if entry.is_certain else "was left unfinished"

    def _waits_for_link(self, key: str, now: datetime) -> bool:
        built = self._source.built_at(key) if self.destination.waits_for_links else None
        if built is None or now - built > WAIT_FOR_LINK:
            return False
        return any(ledger.read(key) is None for ledger in self._linked.values())

    def may_hold(self, key: str) -> bool:
        """Whether there is a copy, of whatever age, or may be one."""
        entry = self.ledger.read(key)
        return bool(entry and (entry.remote or not entry.is_certain))

    def failed(self, key: str) -> bool:
        """Whether the last try for a session came to nothing, and the newest record is not there."""
        return self.status(key).state == "FAILED"

    def outage(self, now: datetime, within: timedelta = OUTAGE) -> Outage | None:
        """Why the destination could not be reached a short while ago, nor since; None when it may be tried."""
        outage = self.ledger.outage()
        if outage is None or outage.sessions < SESSIONS_OF_AN_OUTAGE:
            return None
        return outage if timedelta(0) <= now - outage.at < within else None


class _NotTriedError(DestinationUnavailableError):
    """The destination was out of reach a moment ago."""


def _kept(copies: Collection[Remote], known: Remote | None) -> Remote | None:
    """Of several copies the one that the ledger knows, else the oldest."""
    by_id = {copy.id: copy for copy in copies}
    if known and known.id in by_id:
        return by_id[known.id]
    return next(iter(copies), None)


def _elsewhere(known: Remote | None, made: Remote) -> list[str]:
    """Address of the copy that the ledger knew, if it is on another server, or in another folder, than a new one."""
    if known is None:
        return []
    before, now = urlsplit(known.url), urlsplit(made.url)
    is_moved = before != now if "file" in (before.scheme, now.scheme) else before.netloc != now.netloc
    return [known.url] if is_moved else []


def due_at(
    name: str, publishers: Sequence[Publisher], strategy: str, now: datetime, *, refused_too: bool = False
) -> dict[str, Due]:
    """Sessions that are due at one of the site's destinations.

    By the strategy ``first_success`` a destination gets its first copy of a session only when all before it failed.
    """
    names = [publisher.destination.name for publisher in publishers]
    publisher, before = publishers[names.index(name)], publishers[: names.index(name)]
    due = publisher.due(now, refused_too=refused_too)
    if strategy != "first_success" or not publisher.destination.counts:
        return due
    before = [other for other in before if other.destination.counts]
    return {
        key: why
        for key, why in due.items()
        if why == WITHDRAWN or publisher.may_hold(key) or all(other.failed(key) for other in before)
    }


# What counts as published


@dataclass(frozen=True, slots=True)
class Status:
    """One session at all destinations."""

    copies: tuple[CopyStatus, ...]
    published: bool
    """Whether the site's strategy is satisfied."""

    @property
    def state(self) -> Literal["PUBLISHED", "WAITING", "FAILED", "BUILT"]:
        """In one word; BUILT when there is no destination that counts."""
        if self.published:
            return "PUBLISHED"
        counting = [copy.state for copy in self.copies if copy.counts]
        if not counting:
            return "BUILT"
        return "FAILED" if "FAILED" in counting else "WAITING"


def status_of(publishers: Iterable[Publisher], strategy: str, key: str) -> Status:
    """How far a session got at each destination, and whether that is enough."""
    copies = tuple(publisher.status(key) for publisher in publishers)
    held = [copy.state == "PUBLISHED" for copy in copies if copy.counts]
    return Status(copies, bool(held) and (all(held) if strategy == "all" else any(held)))
