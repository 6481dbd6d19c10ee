"""Who, why, on which samples, and whether the data may be curated."""

from dagster import MetadataValue

from assets.session_asset import Done, session_asset
from assets.tables import table
from nexuslims_pipeline.sessions.keys import instrument_of
from nexuslims_pipeline.sessions.model import Session, SessionState
from nexuslims_pipeline.sessions.resolve import resolve_session
from resources.nemo import NemoResource
from resources.store import Store

VERSION = "1"


@session_asset(group_name="sessions", kinds={"json"}, code_version=VERSION, deps=["usage_event"])
def session(key: str, nemo: NemoResource, store: Store) -> Done:
    """The session behind a usage event: times, people, project, samples and consent, from the user's answers.

    Answers given after the run come first, then those given before it, then those of the booking. Without consent,
    or without any answers, the session ends here and its files are never looked at; what an earlier consent had let the
    pipeline make of them is removed from the store.
    """
    usage = store.require_usage_event(key)
    resolved = resolve_session(
        usage,
        key=key,
        instrument_id=instrument_of(key),
        nemo_web_address=nemo.server(usage.server).web_address,
    )
    if resolved.state is not SessionState.READY:
        store.forget_all_files(key)
    store.write_session(resolved, VERSION)
    return Done(_report(resolved), goes_on=resolved.state is SessionState.READY)


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
