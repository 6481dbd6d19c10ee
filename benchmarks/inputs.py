"""The inputs that are timed; the same bytes and times on every machine.

A module of its own that runs as a command, so that the process which measures stays small: Linux counts the
memory of a parent as the peak of the child that it forks.
"""

import os
import struct
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml

from nexuslims_pipeline.files import write_bytes, write_json

SESSION_START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
SESSION_HOURS = 4
IMAGES, BURST = 20, 7
"""Images of the session, and how many are taken in a row before a pause."""
PIXELS = (1024, 2048)
"""Sides of the camera's images, binned and whole: a session of each is timed."""
INSTRUMENT, FOLDER = "Benchmark-TEM", "TEM"
TIME_ZONE = "UTC"
SER_SIDE = 1024
BIG_SER_IMAGES = 77
"""Together 323 MB: the largest series among RosettaSciIO's test files has as many."""


def file_times(count: int, burst: int = 20) -> list[int]:
    """Modification times of the files of a session, ns since 1970."""
    from benchmarks.clustering import bursts

    return [int(seconds * 1e9) for seconds in bursts(count, burst)]


def write_empty_files(folder: Path, count: int) -> None:
    """Files with these times, for NexusLIMS, which clusters files rather than times."""
    folder.mkdir(parents=True)
    for number, time_ns in enumerate(file_times(count)):
        path = folder / f"{number:06}.dm3"
        path.touch()
        os.utime(path, ns=(time_ns, time_ns))


def write_session(folder: Path, pixels: int) -> None:
    """A facility with one session of `IMAGES` dm3 images: raw files, NEMO's answers and the list of instruments."""
    from nexuslims_pipeline.demo import nemo

    start, end = SESSION_START, SESSION_START + timedelta(hours=SESSION_HOURS)
    user = nemo.User(1, "benchmark", "Bench", "Mark")
    project = nemo.Project(1, "Benchmarks", "B-1", (1,))
    tool = nemo.Tool(1, "TEM (benchmark)", "TEM", "Room 1")
    answers = nemo.Answers("Twenty images", "B-1", samples=(nemo.Sample("Au/C"),))
    served = {
        "usage_events": nemo.usage_events([nemo.Use(1, 1, start, end, 1, 1, after=answers)]),
        "reservations": [],
        "users": nemo.users([user], [project], [tool], joined=start),
        "projects": nemo.projects([project]),
        "tools": nemo.tools([tool], owner=user),
    }
    for endpoint, answer in served.items():
        write_json(folder / "nemo" / f"{endpoint}.json", answer)
    instrument = {
        "id": INSTRUMENT,
        "name": tool.name,
        "nemo": {"server": "nemo", "tool": 1},
        "folder": FOLDER,
        "time_zone": TIME_ZONE,
    }
    write_bytes(folder / "instruments.yaml", yaml.safe_dump({"instruments": [instrument]}).encode())
    for number, time_ns in enumerate(file_times(IMAGES, BURST)):
        path = folder / "instruments" / FOLDER / f"image {number:02}.dm3"
        write_bytes(path, _image(number, pixels, datetime.fromtimestamp(time_ns / 1e9, UTC)))
        os.utime(path, ns=(time_ns, time_ns))


def _image(number: int, pixels: int, taken: datetime) -> bytes:
    """One TEM image, 16 bits per pixel, with the tags that DigitalMicrograph writes for a camera."""
    from nexuslims_pipeline.demo import pictures
    from nexuslims_pipeline.demo.digital_micrograph import Calibration, digital_micrograph

    magnification = 100_000.0 + 20_000 * (number // 5)
    pixel_nm = 60_000 / magnification * 1024 / pixels
    view = pictures.View(pixel_nm * pixels, pixels, pixels)
    data = pictures.counted(pictures.bright_field(pictures.gold_particles(), view, number), 1400, number, dark=90)
    tags = {
        "Acquisition": {
            "Device": {"Name": "OneView", "Active Size (pixels)": (4096, 4096)},
            "Parameters": {"High Level": {"Binning": (4, 4), "Exposure (s)": 0.5, "Processing": "Gain Normalized"}},
        },
        "DataBar": {
            "Acquisition Date": f"{taken:%m/%d/%Y}",
            "Acquisition Time": f"{taken:%I:%M:%S %p}",
            "Device Name": "OneView",
            "Exposure Time (s)": 0.5,
        },
        "Microscope Info": {
            "Cs(mm)": 1.2,
            "Illumination Mode": "TEM",
            "Imaging Mode": "IMAGING",
            "Indicated Magnification": magnification,
            "Name": "FEI Tecnai Remote",
            "Operation Mode": "IMAGING",
            "STEM Camera Length": 0.0,
            "Stage Position": {"Stage Alpha": 0.0, "Stage X": 112.4 + number, "Stage Y": -86.1, "Stage Z": -42.7},
            "Voltage": 200_000.0,
        },
        "Session Info": {"Microscope": "TEM", "Operator": "Bench Mark", "Specimen": "Au/C"},
    }
    axes = [Calibration(pixel_nm, "nm")] * 2
    return digital_micrograph(data, axes, f"image {number:02}", tags, version=3)


def write_sessions(store_folder: Path, count: int, built: Path) -> None:
    """A store with sessions that are to be published: copies of the one of another store, each on a day of its own."""
    from nexuslims_pipeline.activities.model import Clustering
    from nexuslims_pipeline.records.build import build_record
    from resources.store import Store

    original, store = Store(data_path=str(built)), Store(data_path=str(store_folder))
    (key,) = original.reached("record")
    session, inventory = original.require_session(key), original.require_inventory(key)
    datasets, activities = original.datasets(key) or [], original.activities(key) or ()
    for number, (key, start) in enumerate(_keys(count), 1):
        end = start + timedelta(hours=SESSION_HOURS)
        copy = session.model_copy(update={"key": key, "usage_event_id": number, "start": start, "end": end})
        store.write_session(copy, "")
        store.write_inventory(replace(inventory, key=key), "")
        store.write_datasets(key, datasets, inventory.fingerprint, "")
        store.write_activities(key, activities, Clustering((), None), "", "")
        store.write_record(key, build_record(copy, INSTRUMENT, TIME_ZONE, datasets, activities, ()), {}, "")


def write_records(store_folder: Path, count: int) -> None:
    """A store with as much of many sessions as is looked at while nothing has changed."""
    from resources.store import Store

    store = Store(data_path=str(store_folder))
    for key, _ in _keys(count):
        store.write_record(key, key.encode(), {}, "")


def _keys(count: int) -> Iterable[tuple[str, datetime]]:
    """Keys of sessions, one a day, each with its start."""
    from nexuslims_pipeline.sessions.keys import session_key

    for number in range(1, count + 1):
        start = SESSION_START - timedelta(days=number)
        yield session_key(start, INSTRUMENT, "nemo", number, TIME_ZONE), start


def write_ser(path: Path, images: int) -> None:
    """A sparse TIA series of int32 images, all zeros; layout in `nexuslims_pipeline.extraction.formats.tia`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dimension = struct.pack("<IddII", images, 0.0, 1.0, 0, 6) + b"Number" + struct.pack("<I", 0)
    header = struct.pack("<4sHIIII", b"II\x97\x01", 0x210, 0x4122, 0x4152, images, images)
    table = len(header) + 8 + len(dimension)
    description = struct.pack("<ddI", 0.0, 1e-9, 0) * 2 + struct.pack("<HII", 6, SER_SIDE, SER_SIDE)
    tag = struct.pack("<HHI", 0x4152, 0, int(SESSION_START.timestamp()))
    element = len(description) + 4 * SER_SIDE**2 + len(tag)
    first = table + 8 * images
    offsets = [first + number * element for number in range(images)]
    with path.open("wb") as file:
        file.write(header + struct.pack("<II", table, 1) + dimension)
        file.write(struct.pack(f"<{images}I", *offsets))
        file.write(struct.pack(f"<{images}I", *(at + element - len(tag) for at in offsets)))
        for at in offsets:
            file.seek(at)
            file.write(description)
            file.seek(at + element - len(tag))
            file.write(tag)


def main(arguments: Iterable[str]) -> None:
    """Write one input: ``WHAT PATH NUMBER``; ``sessions`` also takes the store with the session to copy."""
    what, path, number, *source = arguments
    write: dict[str, Callable[..., None]] = {
        "files": write_empty_files,
        "session": write_session,
        "sessions": write_sessions,
        "records": write_records,
        "ser": write_ser,
    }
    write[what](Path(path), int(number), *map(Path, source))


if __name__ == "__main__":
    main(sys.argv[1:])
