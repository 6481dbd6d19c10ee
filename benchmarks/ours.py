"""What is timed within one process of this pipeline; answers in JSON on standard output."""

import json
import os
import sys
import time
from collections.abc import Callable
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


def _median(action: Callable[[], object]) -> float:
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - started)
    return median(seconds)


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](json.loads(sys.argv[2]))))
