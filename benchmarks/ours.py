"""What is timed within one process of this pipeline; answers in JSON on standard output."""

import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.inputs import file_times

ROUNDS = 5


def cluster(count: int) -> dict[str, Any]:
    """Cluster the times of a session of `count` files; the first call, which imports, is not timed."""
    from nexuslims_pipeline.activities.clustering import cluster

    times = [time_ns / 1e9 for time_ns in file_times(count)]
    found = cluster(times)
    return {"seconds": _median(lambda: cluster(times)), "activities": len(found.boundaries) + 1}


def headers(files: list[str]) -> dict[str, Any]:
    """Extract the metadata of each file; milliseconds, or None where it cannot be read."""
    from nexuslims_pipeline.extraction.registry import choose
    from nexuslims_pipeline.extraction.standalone import source_of

    def milliseconds(file: str) -> float | None:
        source = source_of(Path(file))
        reader = choose(source)
        if reader is None:
            return None
        try:
            reader.extract(source)
        except Exception:  # as the pipeline: whatever a vendor file makes its reader raise
            return None
        return 1000 * _median(lambda: reader.extract(source))

    return {file: milliseconds(file) for file in files}


def previews(files: list[str]) -> dict[str, Any]:
    """Read each file with its previews; milliseconds, or None where it cannot be read or has nothing to draw."""
    from nexuslims_pipeline.extraction.reading import read_file
    from nexuslims_pipeline.extraction.standalone import source_of

    def milliseconds(file: str) -> float | None:
        source = source_of(Path(file))
        read = read_file(source, source.path.parent)
        if read.error or not any(read.previews):
            return None
        return 1000 * _median(lambda: read_file(source, source.path.parent))

    return {file: milliseconds(file) for file in files}


def throughput(files: list[str]) -> float:
    """Read files one after the other in one child of the sandbox; seconds."""
    from nexuslims_pipeline.extraction.sandbox import Limits, sandbox
    from nexuslims_pipeline.extraction.standalone import source_of

    sources = [source_of(Path(file)) for file in files]
    with sandbox(Path(os.path.commonpath(files)), 1, Limits()) as pool:
        list(pool.read(sources[:1]))
        started = time.perf_counter()
        for _ in pool.read(sources):
            pass
    return time.perf_counter() - started


def publish(workers: int) -> dict[str, Any]:
    """Publish all sessions of the store to CDCS."""
    import lxml.etree  # noqa: F401 - with pyarrow, what the first session would import
    import pyarrow.parquet  # noqa: F401

    publisher, keys = _publisher()
    started = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(publisher.publish, keys))
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "actions": sorted({result.action for result in results if result})}


def pretend_published(_: None) -> int:
    """Fill the ledger of CDCS as if all sessions were there."""
    from resources.destinations.base import Remote
    from resources.ledger import Entry

    publisher, keys = _publisher()
    for number, key in enumerate(keys):
        wanted = publisher.wanted(key) or ""
        remote = Remote(id=str(number), url=f"https://cdcs.example.org/data?id={number}")
        publisher.ledger.write(Entry(key=key, wanted=wanted, fingerprint=wanted, remote=remote, version=1))
    return len(keys)


def due(_: None) -> dict[str, Any]:
    """Look for sessions that are due at CDCS: once anew, then again as the daemon's process does."""
    publisher, keys = _publisher()
    found: list[str] = []

    def look() -> None:
        found.extend(publisher.due(datetime.now(UTC)))

    started = time.perf_counter()
    look()
    first = time.perf_counter() - started
    return {"first": first, "again": _median(look), "sessions": len(keys), "due": len(found)}


def _publisher() -> tuple[Any, list[str]]:
    """The publisher of CDCS, and the sessions with a record."""
    from nexuslims_pipeline.configuration import settings
    from nexuslims_pipeline.definitions import resources_of

    doors: dict[str, Any] = resources_of(settings())
    store = doors["store"]
    return doors["publishing"].publisher("cdcs", store, doors["storage"]), store.reached("record")


def _median(action: Callable[[], object]) -> float:
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - started)
    return median(seconds)


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](json.loads(sys.argv[2]))))
