"""What is timed of NexusLIMS; run by the Python that has it installed, answers in JSON on standard output.

NexusLIMS is called as its own ``build-records`` and ``extract`` call it. No NEMO server takes part: the one call that
would ask it (`record_builder.get_reservation_event`) is answered with a ready-made reservation. Records are exported in
`export` only, to a real CDCS. What these servers would take otherwise is not counted against it.
"""
# mypy: disable-error-code="import-not-found"

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import datetime
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any

ROUNDS = 5


def version() -> str:
    """The installed version."""
    from importlib.metadata import version

    return version("nexusLIMS")


def prepare(instrument: str, folder: str, time_zone: str) -> None:
    """Make the database with its one instrument; not timed."""
    from nexusLIMS.db.engine import get_engine
    from nexusLIMS.db.models import Instrument
    from sqlmodel import Session, SQLModel

    SQLModel.metadata.create_all(get_engine())
    with Session(get_engine()) as database:
        database.add(
            Instrument(
                instrument_pid=instrument,
                api_url="http://localhost/api/tools/?id=1",
                calendar_url="http://localhost/calendar/",
                location="Room 1",
                display_name="TEM (benchmark)",
                property_tag="1",
                filestore_path=folder,
                timezone_str=time_zone,
            )
        )
        database.commit()


def cluster(folder: str, limit: float, rounds: int) -> dict[str, Any]:
    """Cluster the files of a folder; given up as soon as one round takes `limit` seconds."""
    from nexusLIMS.schemas.activity import cluster_filelist_mtimes

    def give_up(*_: object) -> None:
        print(json.dumps({"seconds": limit, "gave_up": True}), flush=True)
        os._exit(0)

    def attempt() -> list[float]:
        signal.setitimer(signal.ITIMER_REAL, limit)
        return list(cluster_filelist_mtimes(files))

    signal.signal(signal.SIGALRM, give_up)
    files = sorted(Path(folder).iterdir())
    seconds, boundaries = _median(attempt, rounds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    return {"seconds": seconds, "activities": len(boundaries) + 1}


def headers(files: list[str]) -> dict[str, Any]:
    """Extract the metadata of each file; milliseconds, or None where only the file's name and size are known to it."""
    import hyperspy.api  # noqa: F401 - what the readers would import at their first file
    from nexusLIMS.extractors import get_registry
    from nexusLIMS.extractors.base import ExtractionContext

    def milliseconds(file: str) -> float | None:
        context = ExtractionContext(file_path=Path(file), instrument=None)
        extractor = get_registry().get_extractor(context)
        if extractor.name == "basic_file_info_extractor":
            return None
        try:
            extractor.extract(context)
        except Exception:
            return None
        return 1000 * _median(lambda: extractor.extract(context))[0]

    return {file: milliseconds(file) for file in files}


def previews(files: list[str]) -> dict[str, Any]:
    """Metadata and preview of each file; milliseconds, or None where it fails or makes no preview."""
    import hyperspy.api  # noqa: F401 - what the readers would import at their first file
    from nexusLIMS.extractors import parse_metadata

    def milliseconds(file: str) -> float | None:
        try:
            metadata, drawn = parse_metadata(Path(file))
        except Exception:
            return None
        if not metadata or not any(drawn):
            return None
        return 1000 * _median(lambda: parse_metadata(Path(file)), 3)[0]

    return {file: milliseconds(file) for file in files}


def session(instrument: str, start: str, end: str, record: str) -> dict[str, Any]:
    """Build, validate and write the record of one session: find files, cluster, metadata, previews, XML."""
    from nexusLIMS.builder import record_builder
    from nexusLIMS.db.session_handler import Session
    from nexusLIMS.harvesters.reservation_event import ReservationEvent
    from nexusLIMS.instruments import _ensure_instrument_db_loaded, instrument_db

    _ensure_instrument_db_loaded()
    span = (datetime.fromisoformat(start), datetime.fromisoformat(end))
    use = Session("http://localhost/api/usage_events/?id=1", instrument_db[instrument], span, "benchmark")
    record_builder.get_reservation_event = lambda use: ReservationEvent(
        experiment_title="Twenty images",
        instrument=use.instrument,
        username="benchmark",
        start_time=use.dt_from,
        end_time=use.dt_to,
        sample_name=["Au/C"],
        project_id=["B-1"],
        internal_id="1",
    )
    built = record_builder.build_record(use)
    valid = record_builder.validate_record(BytesIO(built.xml_text.encode()))
    Path(record).write_text(built.xml_text, encoding="utf-8")
    return {
        "valid": valid,
        "datasets": built.xml_text.count("<dataset "),
        "previews": built.xml_text.count("<preview>"),
        "activities": built.xml_text.count("<acquisitionActivity "),
    }


def extract(file: str) -> dict[str, Any]:
    """Metadata and preview of one file."""
    from nexusLIMS.extractors import parse_metadata

    metadata, previews = parse_metadata(Path(file))
    return {"datasets": len(metadata), "previews": sum(p is not None for p in previews)}


def export(records: list[str], instrument: str, start: str, end: str) -> dict[str, Any]:
    """Export records, one after the other, as ``build-records`` does after it has built them all."""
    from nexusLIMS.db.session_handler import Session
    from nexusLIMS.exporters import export_records, was_successfully_exported
    from nexusLIMS.exporters.registry import get_registry
    from nexusLIMS.instruments import _ensure_instrument_db_loaded, instrument_db

    _ensure_instrument_db_loaded()
    get_registry().discover_plugins()
    files = [Path(record) for record in records]
    span = (datetime.fromisoformat(start), datetime.fromisoformat(end))
    sessions = [Session(file.stem, instrument_db[instrument], span, "benchmark") for file in files]
    started = time.perf_counter()
    results = export_records(files, sessions)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "exported": sum(was_successfully_exported(file, results) for file in files)}


def _median(action: Callable[[], Any], rounds: int = ROUNDS) -> tuple[float, Any]:
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        answer = action()
        seconds.append(time.perf_counter() - started)
    return median(seconds), answer


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](**json.loads(sys.argv[2]))))
