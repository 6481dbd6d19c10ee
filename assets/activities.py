"""Acquisition activities: the session's files in the bursts they were taken in."""

from datetime import datetime

from assets.pictures import time_line
from assets.session_asset import Done, session_asset
from assets.tables import table
from nexuslims_pipeline.activities.clustering import cluster, split
from resources.activities import ClusteringRule
from resources.storage import InstrumentStorage
from resources.store import Store

VERSION = "1"


@session_asset(group_name="records", kinds={"scikitlearn"}, code_version=VERSION, deps=["file_metadata"])
def activities(key: str, clustering_rule: ClusteringRule, storage: InstrumentStorage, store: Store) -> Done | None:
    """Files taken in one go, found as the bursts between minima of the density of the files' times."""
    datasets = store.ready_datasets(key)
    if datasets is None:
        return None
    times = {dataset.location: dataset.modified_ns for dataset in datasets}
    clustering = cluster(
        [ns / 1e9 for ns in times.values()],
        sensitivity=clustering_rule.sensitivity,
        minimum_gap=clustering_rule.minimum_gap_seconds,
    )
    found = split(list(times.items()), clustering)
    store.write_activities(key, found, clustering, clustering_rule.in_words(), VERSION)
    zone = storage.instrument(store.require_session(key).instrument_id).zone
    rows = [
        {
            "activity": number,
            "from": datetime.fromtimestamp(a.start_ns / 1e9, zone).isoformat(timespec="seconds"),
            "to": datetime.fromtimestamp(a.end_ns / 1e9, zone).isoformat(timespec="seconds"),
            "files": len(a.locations),
        }
        for number, a in enumerate(found)
    ]
    return Done(
        {
            "activities": len(found),
            "bandwidth in seconds": clustering.bandwidth or 0.0,
            "time line": time_line(list(times.values()), found, clustering, zone),
            "table of activities": table(rows),
        },
    )
