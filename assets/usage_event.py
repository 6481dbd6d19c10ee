"""What NEMO knows of a session, as NEMO says it."""

from dagster import MetadataValue

from assets.session_asset import Done, session_asset
from nexuslims_pipeline.sessions.keys import event_of
from resources.nemo import NemoResource
from resources.store import Store

VERSION = "1"


@session_asset(group_name="sessions", kinds={"json"}, code_version=VERSION, pool="nemo")
def usage_event(key: str, nemo: NemoResource, store: Store) -> Done:
    """One use of one instrument as NEMO reports it now: the event, its bookings, and who took part.

    Kept verbatim but for personal details that no record needs. Materialise it again to take over what was edited in
    NEMO.
    """
    server_name, event_id = event_of(key)
    server = nemo.server(server_name)
    usage = server.collect(event_id)
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
