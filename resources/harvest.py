"""What is due: uses of instruments that NEMO reports anew or changed, sessions whose files changed.

Decided from the store alone, so that the sensors, the harvest job and the command line come to the same answer and a
lost cursor loses no session.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import chain

from nexuslims_pipeline.instruments import ConfigurationError, Instruments
from nexuslims_pipeline.inventory.model import Crawl, Inventory
from nexuslims_pipeline.sessions.keys import event_of, parse_key, session_key
from nexuslims_pipeline.sessions.model import Claim, Session, SessionState
from nexuslims_pipeline.sessions.resolve import claims_of
from nexuslims_pipeline.sessions.usage import Row, UsageEvent, fingerprint
from resources.nemo import NemoServer
from resources.storage import InstrumentStorage, StorageUnavailableError
from resources.store import LONGEST_USE, Store


@dataclass(frozen=True, slots=True)
class Due:
    """A session that should be built again."""

    reason: str
    token: str
    """Changes with what it should be built from."""


@dataclass(frozen=True, slots=True)
class Use:
    """A finished use of a known instrument as a server lists it."""

    key: str
    fingerprint: str
    end: datetime


def discover(
    server: NemoServer,
    instruments: Instruments,
    store: Store,
    *,
    since: datetime | None,
    until: datetime | None,
    days: tuple[date, date] = (date.min, date.max),
    register: bool = True,
) -> list[Use]:
    """Finished uses of the server's instruments in a span of time, each with its key, oldest first.

    Parameters
    ----------
    server, instruments, store
        Whom to ask, whose uses count, and where keys are kept.
    since, until
        Uses that touch this span.
    days
        First and last day on which they may have begun, by their keys.
    register
        Give a use that is seen for the first time its key for good; if false, nothing is written.

    Raises
    ------
    NemoError
        When the server does not answer as it should.
    """
    by_tool = instruments.on_server(server.name)
    now = datetime.now(UTC)
    finished: list[tuple[datetime, str, datetime, Row]] = []
    for event in server.usage_events(since=since, until=until, tools=by_tool.keys()):
        start, end = server.clock.window(event)
        if end is None or end > now:
            continue
        instrument = by_tool[event["tool"]]
        key = session_key(start, instrument.id, server.name, event["id"], instrument.zone)
        key = store.key_of(server.name, event["id"], key)
        if days[0] <= parse_key(key).start_date <= days[1]:
            finished.append((start, key, end, event))
    finished.sort(key=lambda use: use[:2])
    around = server.surroundings([event for *_, event in finished])
    uses = []
    for (_, key, end, event), rows in zip(finished, around, strict=True):
        known = store.register(server.name, event["id"], key) if register else key
        uses.append(Use(known, fingerprint(event, chain.from_iterable(rows)), end))
    return uses


def answers_due(uses: Iterable[Use], store: Store) -> dict[str, Due]:
    """Keys of uses that were never built, or whose answers in NEMO changed since, each with the reason.

    A session that was withdrawn by hand stays so whatever NEMO says.
    """
    due = {}
    for use in uses:
        tombstone, header = store.tombstone(use.key), store.header("usage_event", use.key)
        if tombstone and tombstone.by_hand:
            continue
        if not tombstone and header is None:
            due[use.key] = Due("new in NEMO", use.fingerprint)
        elif use.fingerprint != (tombstone.answers if tombstone else (header or {})["fingerprint"]):
            due[use.key] = Due("changed in NEMO", use.fingerprint)
    return due


def left_over(store: Store, server: str) -> list[str]:
    """Keys that were registered but never reached their first stage, or whose run was killed on its way.

    A session whose step failed is among them when something was only out of reach for a while; else somebody has to
    mend something first. So is one that was withdrawn, but of which something remains.
    """
    built = {event_of(key) for key in store.reached()}
    missing = [event_id for name, event_id in store.registered() if name == server and (name, event_id) not in built]
    keys = {store.key_of(server, event_id, "") for event_id in missing}
    keys |= {key for key in store.reached("unfinished") if event_of(key)[0] == server and not store.failure(key)}
    failed = ((key, store.failure(key)) for key in store.reached("failures") if event_of(key)[0] == server)
    keys |= {key for key, failure in failed if failure and failure.get("passing")}
    buried = ((key, store.tombstone(key)) for key in store.tombstones() if event_of(key)[0] == server)
    keys |= {key for key, tombstone in buried if tombstone and tombstone.remains}
    return sorted(filter(None, keys))


def files_due(
    sessions: Iterable[Session],
    storage: InstrumentStorage,
    store: Store,
    *,
    report: Callable[[str], object],
    now: datetime | None = None,
) -> dict[str, Due]:
    """Keys of sessions whose files arrived, settled, changed or vanished since they were last examined.

    Those are due as well whose files are to be read otherwise than they were, as when a profile changed. Each
    instrument's folder is walked once for all its sessions. One that is not there costs its instrument only: its
    sessions keep what they have, and `report` is told.
    """
    by_instrument: Mapping[str, list[Session]] = defaultdict(list)
    for session in sessions:
        by_instrument[session.instrument_id].append(session)
    due = {}
    for instrument_id, group in by_instrument.items():
        try:
            found = storage.crawl(storage.instrument(instrument_id), group)
            rules = storage.rules().in_words(instrument_id)
        except (StorageUnavailableError, ConfigurationError) as fault:
            report(f"{instrument_id}: {fault}")
            continue
        for session in group:
            known = store.inventory(session.key)
            usage = store.require_usage_event(session.key)
            current = storage.attribute(
                found, session, claims=claims_on(found, session, usage, store), previous=known, now=now
            )
            if reason := _difference(known, current):
                due[session.key] = Due(reason, f"{current.state} {current.fingerprint}")
            elif was_read_otherwise(store, session.key, rules):
                due[session.key] = Due("the rules for its files changed", f"{rules} {current.fingerprint}")
    return due


def was_read_otherwise(store: Store, key: str, rules: str) -> bool:
    """Whether the datasets of a session were made by other rules than the given ones."""
    header = store.header("file_metadata", key)
    return header is not None and header.get("rules", "") != rules


def claims_on(found: Crawl, session: Session, usage: UsageEvent, store: Store) -> tuple[Claim, ...]:
    """Other uses of the instrument that may own one of the files found, as NEMO and the store know them.

    NEMO told of those that overlap the session. A companion may be older or younger than that: the store knows the
    sessions of its time. One that was withdrawn counts as one without consent.
    """
    claims = {
        (claim.server, claim.usage_event_id): claim.model_copy(
            update={"consent": claim.consent and not store.is_withdrawn(claim.server, claim.usage_event_id)}
        )
        for claim in claims_of(usage)
    }
    times = [datetime.fromtimestamp(file.modified_ns / 1e9, UTC) for file in found.neighbours]
    if not times:
        return tuple(claims.values())
    for key in store.recent_keys(session.instrument_id, min(times).date() - LONGEST_USE):
        other = store.session(key)
        if other and other.key != session.key and any(other.start < moment <= other.end for moment in times):
            consent = other.state is SessionState.READY
            claim = Claim(
                usage_event_id=other.usage_event_id,
                server=other.server,
                start=other.start,
                end=other.end,
                consent=consent,
            )
            claims.setdefault((other.server, other.usage_event_id), claim)
    return tuple(claims.values())


def watched(store: Store, instrument_id: str, days: float, now: datetime) -> list[Session]:
    """Sessions of an instrument that ended at most `days` ago and may have files."""
    oldest = (now - timedelta(days=days)).date() - LONGEST_USE
    sessions = (store.session(key) for key in store.recent_keys(instrument_id, oldest))
    return [
        s for s in sessions if s is not None and s.state is SessionState.READY and s.end >= now - timedelta(days=days)
    ]


def _difference(known: Inventory | None, current: Inventory) -> str:
    if known is None:
        return "files were never looked for"
    if known.fingerprint != current.fingerprint:
        return "files changed"
    return f"now {current.state}" if known.state != current.state else ""
