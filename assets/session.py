"""Who, why, on which samples, and whether the data may be curated."""

from datetime import UTC, datetime

from dagster import DagsterInstance, MetadataValue

from assets.session_asset import Done, session_asset
from assets.tables import table
from nexuslims_pipeline.sessions.keys import instrument_of
from nexuslims_pipeline.sessions.model import Session, SessionState
from nexuslims_pipeline.sessions.resolve import resolve_session
from resources.history import withdraw_here
from resources.nemo import NemoResource
from resources.publications import Publishing
from resources.store import Store, Tombstone

VERSION = "1"
WHY = {
    SessionState.NO_CONSENT: "Consent was taken back in NEMO.",
    SessionState.NO_RESERVATION: "NEMO has no answer about consent any more.",
}
"""What a tombstone says; the user's own words go with all else."""


@session_asset(group_name="sessions", kinds={"json"}, code_version=VERSION, deps=["usage_event"])
def session(
    key: str, nemo: NemoResource, publishing: Publishing, store: Store, instance: DagsterInstance, run_id: str
) -> Done:
    """The session behind a usage event: times, people, project, samples and consent, from the user's answers.

    Answers given after the run come first, then those given before it, then those of the booking. Without consent,
    or without any answers, the session ends here and its files are never looked at. When consent is taken back, all
    that was made of the session is removed, from Dagster's history too, and a tombstone stays.
    """

    def withdraw(tombstone: Tombstone) -> Done:
        stay = publishing.unreachable_copies(key, store)
        return _withdrawn(withdraw_here(store, instance, tombstone, run_id, stay))

    tombstone = store.tombstone(key)
    if tombstone and (tombstone.by_hand or store.usage_event(key) is None):
        return withdraw(tombstone)
    usage = store.require_usage_event(key)
    resolved = resolve_session(
        usage,
        key=key,
        instrument_id=instrument_of(key),
        nemo_web_address=nemo.server(usage.server).web_address,
    )
    if resolved.state is not SessionState.READY and store.has_made(key):
        since = tombstone.time if tombstone else datetime.now(UTC)
        taken_back = Tombstone(key=key, time=since, why=WHY[resolved.state], answers=usage.fingerprint)
        return withdraw(taken_back)
    if tombstone:
        store.unbury(key)
    store.write_session(resolved, VERSION)
    return Done(_report(resolved), goes_on=resolved.state is SessionState.READY)


def _withdrawn(tombstone: Tombstone) -> Done:
    told = {"state": str(SessionState.WITHDRAWN), "reason": tombstone.in_words}
    return Done(told, goes_on=False)


def _report(session: Session) -> dict[str, object]:
    samples = [
        {"name": s.name, "PID": s.pid, "description": s.description, "elements": " ".join(s.elements)}
        for s in session.samples
    ]
    return {
        "state": str(session.state),
        "reason": session.reason,
        "title": session.title or "",
        "user": session.user.display_name if session.user else "",
        "operator": session.operator.display_name if session.operator else "",
        "answers from": session.tier or "nowhere",
        "start": session.start.isoformat(),
        "end": session.end.isoformat(),
        "samples": table(samples),
        "warnings": MetadataValue.md("\n".join(f"- {w}" for w in session.warnings)),
        **({"NEMO page": MetadataValue.url(session.link)} if session.link else {}),
    }
