"""Sessions to publish, made without a facility."""

import struct
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from nexuslims_pipeline.activities.model import Activity
from nexuslims_pipeline.extraction.sidecar import preview_path, sidecar_path
from nexuslims_pipeline.files import from_location, json_bytes, to_location, write_bytes
from nexuslims_pipeline.instruments import Instrument, NemoTool
from nexuslims_pipeline.inventory.model import InventoryEntry
from nexuslims_pipeline.metadata.dataset import Dataset
from nexuslims_pipeline.publication.model import Link, Origin, Publication
from nexuslims_pipeline.records.build import build_record
from nexuslims_pipeline.sessions.keys import parse_key
from nexuslims_pipeline.sessions.model import Person, Project, Sample, Session, SessionState

KEY = "2026-03-02_Demo-Quanta-SEM_nemo-104"
INSTRUMENT = Instrument(
    id="Demo-Quanta-SEM",
    name="Quanta SEM – Größe µm",
    nemo=NemoTool(server="nemo", tool=2),
    folder="Quanta",
    time_zone="America/Denver",
    location="Building 7",
)
ADA = Person(username="ada", first_name="Ada", last_name="Adeyemi", email="ada@example.org")
SAMPLE = Sample(id="5b1f0a52-5c7e-5c1e-9d5e-0d3f5a8c1111", name="weld A", description="etched", elements=("Fe", "Cr"))


def publication(
    folder: Path,
    key: str = KEY,
    title: str | None = "Grain boundaries",
    *,
    datasets: int = 3,
    names: list[str] | None = None,
    links: dict[str, Link] | None = None,
    refused: tuple[InventoryEntry, ...] = (),
    previews: bool = True,
    **session: Any,
) -> Publication:
    """A session of one file per dataset, two activities, with sidecars and previews below `folder`.

    `session` are fields of the session to be other than usual; None removes a user.
    """
    parts = parse_key(key)
    start = datetime.combine(parts.start_date, datetime.min.time(), UTC) + timedelta(hours=16)
    fields: dict[str, Any] = {
        "key": key,
        "instrument_id": parts.instrument_id,
        "server": parts.server,
        "usage_event_id": parts.event_id,
        "start": start,
        "end": start + timedelta(hours=2),
        "state": SessionState.READY,
        "tier": "run_data",
        "title": title,
        "motivation": "To see where the weld cracks.",
        "user": ADA,
        "project": Project(project_id="MD-2026-1", name="Oxide films"),
        "samples": (SAMPLE,),
        "link": f"https://nemo.example.org/event_details/usage/{parts.event_id}/",
    }
    made = Session.model_validate(fields | session)
    names = names or [f"image {n}.tif" for n in range(datasets)]
    found = [_dataset(folder, name, made.start + timedelta(minutes=1 + n), previews) for n, name in enumerate(names)]
    locations = [dataset.location for dataset in found]
    activities = tuple(_activity(found, part) for part in (locations[: len(found) // 2], locations[len(found) // 2 :]))
    activities = tuple(activity for activity in activities if activity.locations)
    files = tuple(
        InventoryEntry(d.location, "included", "saved within the session", d.size, d.modified_ns) for d in found
    )
    instrument = INSTRUMENT.model_copy(update={"id": parts.instrument_id})
    xml = build_record(made, instrument.name, instrument.time_zone, found, activities, refused)
    origin = Origin(
        usage_fingerprint="0" * 64,
        code_versions={"record": "2", "session": "1"},
        readers=dict.fromkeys(locations, "fei_tiff=1"),
        clustering_rule="sensitivity 1, minimum gap 0 s",
        boundaries=(activities[0].end_ns / 1e9,) if len(activities) > 1 else (),
        site_rules="",
    )
    return Publication(
        key, xml, made, instrument, tuple(found), activities, (*files, *refused), folder, origin, links or {}
    )


def _dataset(folder: Path, name: str, moment: datetime, previews: bool) -> Dataset:
    location = to_location(Path("Quanta") / name)
    meta = {
        "DatasetType": "Image",
        "Data Type": "SEM_Imaging",
        "Creation Time": moment.isoformat(),
        "Data Dimensions": "(4, 4)",
        "acceleration_voltage": {"value": 10.0, "unit": "kilovolt"},
        "extensions": {},
        "warnings": [{"field": "Acceleration Voltage", "reason": "not plausible"}] if name.endswith("1.tif") else [],
        "Extraction Details": {"Module": "fei_tiff"},
    }
    write_bytes(sidecar_path(folder, location), json_bytes([{"nx_meta": meta}]))
    preview = None
    if previews:
        path = preview_path(folder, location, 0, 1)
        write_bytes(path, _png(name))
        preview = to_location(path.relative_to(folder))
    modified = int(moment.timestamp() * 1e9)
    shown = from_location(location).name
    return Dataset(location, modified, 1234, 0, 1, shown, "FEI/Thermo TIFF", "", preview, meta)


def _activity(datasets: list[Dataset], locations: list[str]) -> Activity:
    times = [d.modified_ns for d in datasets if d.location in locations] or [0]
    return Activity(min(times), max(times), tuple(locations))


def _png(name: str) -> bytes:
    """A picture of one pixel, with the name in it so that no two are alike."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    text = b"Title\0" + name.encode("latin-1", "replace")
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"tEXt", text)
        + chunk(b"IDAT", zlib.compress(b"\0\x80"))
        + chunk(b"IEND", b"")
    )
