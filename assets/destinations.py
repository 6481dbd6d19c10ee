"""One asset for each destination of the site: the copy of a session's record there."""

import inspect
from collections.abc import Collection
from typing import Any

from dagster import AssetsDefinition, MetadataValue

from assets.session_asset import Check, Done, session_asset
from assets.tables import table
from resources.destinations.base import Destination
from resources.publications import Publishing
from resources.publishing import Publisher, Result, Status
from resources.storage import InstrumentStorage
from resources.store import Store

HOLDS_RECORD = "holds_the_record"
"""Name of the check of every destination."""
AS_DEMANDED = "published_as_demanded"
STATUS_VERSION = "1"


def destination_asset(destination: Destination, assets_of: dict[str, str]) -> AssetsDefinition:
    """Make the asset of one destination.

    Parameters
    ----------
    destination
        The destination.
    assets_of
        Name of the asset of each destination of the site, by the destination's name.
    """
    name = destination.name

    def body(key: str, publishing: Publishing, storage: InstrumentStorage, store: Store, run_id: str) -> Done | None:
        publisher = publishing.publisher(name, store, storage)
        result = publisher.publish(key, run_id=run_id)
        return _report(key, publisher, result) if result else None

    body.__name__ = destination.asset_name
    body.__doc__ = inspect.getdoc(type(destination))
    return session_asset(
        group_name="destinations",
        kinds={name},
        code_version=destination.version,
        deps=["record", *(assets_of[other] for other in destination.shows_links_of if other in assets_of)],
        checks={HOLDS_RECORD: f"{destination.label}: the newest record is there, once."},
        pool=name,
        workers=destination.workers,
    )(body)


def _report(key: str, publisher: Publisher, result: Result) -> Done:
    if result.remote is None:
        return Done({"action": result.action, **_out_of_reach(result.elsewhere)}, data_version=result.action)
    entry = publisher.ledger.read(key)
    told: dict[str, Any] = {
        "action": result.action,
        "remote id": result.remote.id,
        "link": MetadataValue.url(result.remote.url),
        "times sent": result.version,
        **({"record": entry.sha256, **_out_of_reach(entry.elsewhere)} if entry else {}),
        **({"further copies removed": result.surplus} if result.surplus else {}),
    }
    held = Check(HOLDS_RECORD, passed=True, description=f"{publisher.destination.label} {result.remote.id} holds it.")
    return Done(told, checks=(held,), data_version=entry.fingerprint if entry else result.action)


def _out_of_reach(copies: Collection[str]) -> dict[str, Any]:
    """Copies that only people can remove, for the metadata."""
    return {"copies out of reach": MetadataValue.md("\n".join(f"- {copy}" for copy in copies))} if copies else {}


def status_asset(destination_assets: Collection[str]) -> AssetsDefinition:
    """Make the asset that sums up how far a session got at all destinations."""

    def session_status(
        key: str, publishing: Publishing, storage: InstrumentStorage, store: Store, run_id: str
    ) -> Done | None:
        """Whether a session is published as the site's strategy demands, and where its copies are.

        ``all``: every destination holds the newest record; ``first_success`` and ``best_effort``: at least one does.
        """
        if store.header("record", key) is None:
            return None
        status = publishing.status(key, store, storage)
        rows = [{"destination": c.label, "state": c.state, "reason": c.reason, "link": c.url} for c in status.copies]
        store.write_status(key, STATUS_VERSION, state=status.state, published=status.published, destinations=rows)
        failed_here = [f"{c.label}: {c.reason}" for c in status.copies if c.state == "FAILED" and c.run_id == run_id]
        return Done(
            {
                "state": status.state,
                "published": status.published,
                "destinations": table(rows),
                **{c.label: MetadataValue.url(c.url) for c in status.copies if c.url},
            },
            checks=(_as_demanded(status),),
            failure="" if status.published else "; ".join(failed_here),
        )

    return session_asset(
        group_name="destinations",
        kinds={"json"},
        code_version=STATUS_VERSION,
        deps=["record", *destination_assets],
        checks={AS_DEMANDED: "As many destinations hold the newest record as NX_EXPORT_STRATEGY demands."},
    )(session_status)


def _as_demanded(status: Status) -> Check:
    """Failed when a destination failed; while one merely has yet to be asked, there is nothing to mend."""
    said = "; ".join(f"{c.label}: {c.reason or c.state}" for c in status.copies) or "No destination is configured."
    return Check(AS_DEMANDED, passed=status.state != "FAILED", description=said, severe=False)
