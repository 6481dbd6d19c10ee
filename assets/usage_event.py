"""What NEMO knows of a session, as NEMO says it."""

from dagster import MetadataValue

from assets.session_asset import Done, StageFailedError, session_asset
from nexuslims_pipeline.sessions.keys import parse_key, session_key
from nexuslims_pipeline.sessions.model import SessionState
from resources.nemo import NemoResource
from resources.storage import InstrumentStorage
from resources.store import Store

VERSION = "1"


@session_asset(group_name="sessions", kinds={"json"}, code_version=VERSION, pool="nemo")
def usage_event(key: str, nemo: NemoResource, storage: InstrumentStorage, store: Store) -> Done:
    """One use of one instrument as NEMO reports it now: the event, its bookings, and who took part.

    Kept verbatim but for personal details that no record needs. Materialise it again to take over what was edited in
    NEMO. Of a session that was withdrawn by hand nothing is asked or kept.
    """
    if (tombstone := store.tombstone(key)) and tombstone.by_hand:
        return Done({"state": str(SessionState.WITHDRAWN)})
    _, instrument_id, server_name, event_id = parse_key(key)
    instrument = storage.instrument(instrument_id)
    server = nemo.server(server_name)
    usage = server.collect(event_id)
    start, _ = usage.clock.window(usage.event)
    fresh = session_key(start, instrument.id, server_name, event_id, instrument.zone)
    if (own := store.register(server_name, event_id, fresh)) != key:
        raise StageFailedError(f"Usage event {event_id} of {server_name} is the session {own}; materialise that one.")
    store.write_usage_event(key, usage, VERSION)
    return Done(
        {
            **_link(server.web_address, event_id),
            "start": str(usage.event.get("start")),
            "end": str(usage.event.get("end")),
            "bookings that overlap": len(usage.reservations),
            "other uses that overlap": len(usage.neighbours),
        },
    )


def _link(web_address: str | None, event_id: int) -> dict[str, MetadataValue[str]]:
    return {"NEMO event": MetadataValue.url(f"{web_address}event_details/usage/{event_id}/")} if web_address else {}
