"""Which files belong to a session, and why."""

from collections import Counter

from assets.session_asset import Done, session_asset
from assets.tables import table
from nexuslims_pipeline.inventory.model import Inventory
from nexuslims_pipeline.sessions.model import SessionState
from resources.harvest import claims_on
from resources.storage import InstrumentStorage
from resources.store import Store

VERSION = "1"


@session_asset(group_name="files", kinds={"parquet"}, code_version=VERSION, deps=["session"], pool="storage")
def file_inventory(key: str, storage: InstrumentStorage, store: Store) -> Done | None:
    """Files of one session, each with the reason it belongs here, waits, is contested, refused or ignored.

    A file belongs by its modification time, on the instrument's clock. While files are still arriving the session
    waits; the instrument's sensor looks again.
    """
    session = store.ready_session(key)
    if session is None:
        return None
    found = storage.crawl(storage.instrument(session.instrument_id), [session])
    previous = store.inventory(key)
    claims = claims_on(found, session, store.require_usage_event(key), store)
    inventory = storage.attribute(found, session, claims=claims, previous=previous)
    if previous:
        store.forget_files(key, storage.taken_back(session, previous, inventory))
    store.write_inventory(inventory, VERSION)
    return Done(_report(inventory), goes_on=inventory.state is SessionState.READY)


def _report(inventory: Inventory) -> dict[str, object]:
    counts = Counter(entry.status for entry in inventory.entries)
    ordered = sorted(inventory.entries, key=lambda e: (e.status == "included", e.status == "ignored", e.location))
    return {
        "state": str(inventory.state),
        "reason": inventory.reason,
        **{status: counts[status] for status in ("included", "waiting", "contested", "refused", "ignored")},
        "megabytes": round(sum(e.size or 0 for e in inventory.with_status("included")) / 1e6, 3),
        "files": table(
            [{"file": e.location, "status": e.status, "reason": e.reason, "bytes": e.size} for e in ordered]
        ),
    }
