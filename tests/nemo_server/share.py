"""The facility's share: instruments and raw files of the seeded week, and what must become of each file."""

import os
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from nemo_server import week
from nexuslims_pipeline.demo.making import Maker, cut_off
from nexuslims_pipeline.demo.sem import secondary_electron_image, xray_spectrum
from nexuslims_pipeline.demo.tem import bright_field_image

ZONE = ZoneInfo(week.TIME_ZONE)
INSTRUMENTS = {week.TITAN: "FEI-Titan", week.QUANTA: "FEI-Quanta", week.HELIOS: "FEI-Helios"}
INSTRUMENTS_YAML = "instruments:\n" + "".join(
    f"  - {{id: {name}, name: {week.TOOLS[tool]}, nemo: {{server: nemo, tool: {tool}}}, "
    f"folder: {name.removeprefix('FEI-')}, time_zone: {week.TIME_ZONE}}}\n"
    for tool, name in INSTRUMENTS.items()
)
SECRET = "undisclosed"
"""In the name and in the bytes of every file that nobody may read."""

_image = secondary_electron_image(20, 0, 0, columns=64)
_spectrum = xray_spectrum("point", 15, 20, {"Fe": 1.0})


def _secret(time: datetime, seed: int) -> bytes:
    return _image(time, seed) + SECRET.encode()


FILES: dict[int, dict[str, tuple[str, Maker]]] = {
    1: {
        "Titan/ada/particles.dm4": ("03-02 09:20:00", bright_field_image("particles", 50_000)),
        "Titan/ada/point.msa": ("03-02 09:21:00", _spectrum),
        "Titan/ada/later.msa": ("03-02 11:29:59", _spectrum),
    },
    2: {
        "Titan/ben/first.tif": ("03-02 13:10:00", _image),
        "Titan/ben/cut off.tif": ("03-02 13:11:00", cut_off(_image, 100)),
    },
    3: {f"Titan/ada/{SECRET} 3.tif": ("03-03 09:30:00", _secret)},
    4: {"Titan/ada/oxide.msa": ("03-03 11:30:00", _spectrum)},
    5: {"Helios/eight days.tif": ("03-04 10:00:00", _image)},
    6: {f"Titan/{SECRET}/6.tif": ("03-04 09:30:00", _secret)},
    7: {"Titan/ben/unticked.msa": ("03-04 11:30:00", _spectrum)},
    8: {f"Titan/ada/{SECRET} 8.tif": ("03-05 09:30:00", _secret)},
    9: {f"Titan/ada/{SECRET} 9.tif": ("03-05 11:30:00", _secret)},
    10: {f"Titan/ada/{SECRET} 10.tif": ("03-05 13:30:00", _secret)},
    11: {"Titan/ada/kept.msa": ("03-06 10:00:00", _spectrum)},
    12: {f"Titan/ben/{SECRET} 12.tif": ("03-06 11:30:00", _secret)},
    13: {"Quanta/moved.tif": ("03-02 14:30:00", _image)},
    14: {"Quanta/by staff.tif": ("03-03 10:00:00", _image)},
    15: {
        "Quanta/night/evening.tif": ("03-03 22:30:00", _image),
        "Quanta/night/morning.tif": ("03-04 03:29:00", _image),
    },
    16: {
        "Quanta/short/before.tif": ("03-08 01:59:00", _image),
        "Quanta/short/after.tif": ("03-08 03:01:00", _image),
    },
    17: {"Quanta/back/at twelve.tif": ("03-09 12:00:00", _image)},
    18: {"Quanta/back/a second past.tif": ("03-09 12:00:01", _image)},
    20: {f"Quanta/{SECRET} 20.tif": ("03-05 09:30:00", _secret)},
    21: {"Helios/alone.tif": ("03-10 10:00:00", _image)},
    22: {
        f"Helios/{SECRET} of both.tif": ("03-10 11:30:00", _secret),
        f"Helios/{SECRET} 22.tif": ("03-10 12:30:00", _secret),
    },
    23: {f"Helios/{SECRET} 23.tif": ("03-10 15:30:00", _secret)},
    24: {"Quanta/weld.tif": ("03-06 11:30:00", _image)},
    25: {"Helios/ninth day.tif": ("02-28 23:30:00", _image)},
    26: {"Quanta/bens.tif": ("03-10 09:30:00", _image)},
}
"""Files of each usage event by the place below the root, with the time of saving and the writer; none for 27."""

STATES = {number: "BUILT" if state == "READY" else state for number, (state, _, _) in week.OUTCOMES.items()}
STATES[27] = "NO_FILES_FOUND"
"""State that each finished event must come to."""


def key(number: int) -> str:
    """Session key of a usage event of the week."""
    row = next(row for row in week.EVENTS if row["id"] == number)
    return f"2026-{row['start'][:5]}_{INSTRUMENTS[row['tool']]}_nemo-{number}"


def moment(text: str) -> datetime:
    """Time of the week, ``mm-dd hh:mm:ss``, on the server's clock."""
    return datetime.strptime(f"2026-{text}", "%Y-%m-%d %H:%M:%S").replace(tzinfo=ZONE)


def write_file(root: Path, place: str, saved: datetime, maker: Maker = _image) -> Path:
    """Write a raw file as if it had been saved at that time."""
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(maker(saved, 1))
    os.utime(path, (saved.timestamp(), saved.timestamp()))
    return path


def write_share(folder: Path, address: str) -> dict[str, str]:
    """Write raw files and the list of instruments; returns the settings of a pipeline for them."""
    raw = folder / "raw"
    for files in FILES.values():
        for place, (saved, maker) in files.items():
            write_file(raw, place, moment(saved), maker)
    (folder / "instruments.yaml").write_text(INSTRUMENTS_YAML)
    return {
        "NX_INSTRUMENT_DATA_PATH": str(raw),
        "NX_DATA_PATH": str(folder / "data"),
        "NX_INSTRUMENTS_FILE": str(folder / "instruments.yaml"),
        "NX_NEMO_ADDRESS_1": address,
        "NX_NEMO_TOKEN_1": week.READER_TOKEN,
        "NX_EXTRACTION_WORKERS": "2",
        "DAGSTER_HOME": str(folder / "dagster_home"),
    }
