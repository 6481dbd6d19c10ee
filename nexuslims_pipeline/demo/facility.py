"""Writing the demo facility to a folder."""

import os
import zlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import yaml

from nexuslims_pipeline.demo import nemo
from nexuslims_pipeline.demo.making import Maker
from nexuslims_pipeline.demo.week import (
    BOOKINGS,
    BURSTS,
    INSTRUMENTS,
    PROJECTS,
    STAFF,
    TIME_ZONE,
    USERS,
    USES,
    at,
)
from nexuslims_pipeline.files import write_bytes, write_json


class SavedFile(NamedTuple):
    """A file on the instruments' share."""

    path: str
    """Below the root of instrument data."""
    saved: datetime
    """Time of saving on the instrument's clock, in the facility's zone."""
    maker: Maker

    def content(self) -> bytes:
        """Bytes of the file; its name decides the noise in it."""
        return self.maker(self.saved, zlib.crc32(self.path.encode()))


def write_facility(folder: Path) -> None:
    """Write the facility below `folder`: raw files, NEMO's answers, the list of instruments and the settings.

    The same files with the same bytes and modification times every time, but for the absolute paths in
    ``demo.env``. Files that are already right are left alone; no file is ever removed.

    Raises
    ------
    ValueError
        If the path of `folder` has characters that settings files cannot quote.
    OSError
        If the folder cannot be written.
    """
    folder = folder.absolute()
    write_bytes(folder / "demo.env", settings(folder).encode())
    write_bytes(folder / "instruments.yaml", instruments_yaml().encode())
    tools = [instrument.tool for instrument in INSTRUMENTS]
    answers = {
        "usage_events": nemo.usage_events(USES),
        "reservations": nemo.reservations(BOOKINGS),
        "users": nemo.users(USERS, PROJECTS, tools, joined=at("Mon 08:00") - timedelta(days=400)),
        "projects": nemo.projects(PROJECTS),
        "tools": nemo.tools(tools, owner=STAFF),
    }
    for endpoint, answer in answers.items():
        write_json(folder / "nemo" / f"{endpoint}.json", answer)
    for file in saved_files():
        path = folder / "instruments" / file.path
        write_bytes(path, file.content())
        saved_ns = int(file.saved.timestamp()) * 10**9
        os.utime(path, ns=(saved_ns, saved_ns))


def settings(folder: Path) -> str:
    """Text of ``demo.env``, for a POSIX shell and for readers of dotenv files alike."""
    variables = {
        "NX_INSTRUMENT_DATA_PATH": str(folder / "instruments"),
        "NX_DATA_PATH": str(folder / "data"),
        "NX_INSTRUMENTS_FILE": str(folder / "instruments.yaml"),
        "NX_NEMO_ADDRESS_1": (folder / "nemo").as_uri() + "/",
        "NX_NEMO_TZ_1": TIME_ZONE,
        "NX_CRATES_PATH": str(folder / "crates"),
        "NX_FACILITY_NAME": "Demo facility",
        "DAGSTER_HOME": str(folder / "dagster_home"),
    }
    if any(character in str(folder) for character in "'\\\n\r") or "${" in str(folder):
        msg = f"the demo cannot live in {str(folder)!r}: choose a path without quotes, backslashes and ${{"
        raise ValueError(msg)
    return "".join(f"{name}='{value}'\n" for name, value in variables.items())


def instruments_yaml() -> str:
    """Text of ``instruments.yaml``."""
    entries = [
        {
            "id": instrument.id,
            "name": instrument.tool.name,
            "nemo": {"server": "nemo", "tool": instrument.tool.id},
            "folder": instrument.folder,
            "time_zone": TIME_ZONE,
            "location": instrument.tool.location,
            "clock_offset_seconds": int(instrument.clock_offset.total_seconds()),
        }
        for instrument in INSTRUMENTS
    ]
    return yaml.safe_dump({"instruments": entries}, sort_keys=False, default_flow_style=None, width=110)


def saved_files() -> Iterator[SavedFile]:
    """Every file on the instruments' share."""
    clock_offsets = {instrument.folder: instrument.clock_offset for instrument in INSTRUMENTS}
    for folder, start, every_s, files in BURSTS:
        clock_offset = clock_offsets[folder.partition("/")[0]]
        for place, (name, maker) in enumerate(files.items()):
            saved = start + timedelta(seconds=place * every_s) + clock_offset
            yield SavedFile(f"{folder}/{name}", saved, maker)
