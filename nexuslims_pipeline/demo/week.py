"""A week in March 2026 at the demo facility: who used which instrument, and which files they left behind.

It has a session of every kind: answered after the run, before it, or only in the reservation; agreed and
declined; over midnight and run by staff; without files; on a clock that is wrong; still going on. One file
was copied only in part, and one belongs to no session.
"""

from datetime import datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from nexuslims_pipeline.demo.making import Maker, cut_off, text
from nexuslims_pipeline.demo.nemo import Answers, Booking, Project, Sample, Tool, Use, User
from nexuslims_pipeline.demo.sem import backscattered_electron_image, secondary_electron_image, xray_spectrum
from nexuslims_pipeline.demo.stem_lab import hyperspy_image, hyperspy_line_scan, screenshot
from nexuslims_pipeline.demo.tem import (
    atomic_columns_image,
    bright_field_image,
    dark_field_image,
    diffraction_pattern,
    energy_loss_spectrum,
    lattice_image,
    spectrum_image,
)

TIME_ZONE = "America/Denver"
TEM, SEM, STEM_LAB = 1, 2, 3
"""Numbers of the tools in NEMO."""


class Instrument(NamedTuple):
    """An instrument as ``instruments.yaml`` describes it."""

    id: str
    folder: str
    tool: Tool
    clock_offset: timedelta = timedelta(0)
    """Instrument's clock minus true time."""


class Burst(NamedTuple):
    """Files saved in one go."""

    folder: str
    """Below the root of instrument data."""
    start: datetime
    """True time of the first file."""
    every_s: int
    files: dict[str, Maker]
    """In the order of saving, by name."""


def at(moment: str) -> datetime:
    """Time of that week in the facility's zone, e.g. ``Mon 09:05`` or ``Thu 00:36:15``."""
    day, clock = moment.split()
    hour, minute, second = map(int, f"{clock}:00".split(":")[:3])
    date = 2 + ("Mon", "Tue", "Wed", "Thu", "Fri").index(day)
    return datetime(2026, 3, date, hour, minute, second, tzinfo=ZoneInfo(TIME_ZONE))


INSTRUMENTS = (
    Instrument("Demo-Talos-TEM", "Talos", Tool(TEM, "Talos F200X (demo)", "Electron microscopy/TEM", "Room 101")),
    Instrument("Demo-Quanta-SEM", "Quanta", Tool(SEM, "Quanta 450 FEG (demo)", "Electron microscopy/SEM", "Room 102")),
    Instrument(
        "Demo-STEM-Lab",
        "STEM lab",
        Tool(STEM_LAB, "STEM laboratory (demo)", "Electron microscopy/STEM", "Room 203"),
        timedelta(seconds=120),
    ),
)


SERVICE = User(1, "svc_lims", "Record", "Service")
MARA = User(2, "mlindqvist", "Mara", "Lindqvist")
JONAS = User(3, "jokafor", "Jonas", "Okafor")
REI = User(4, "rtanaka", "Rei", "Tanaka")
STAFF = User(5, "shaines", "Sofía", "Haines", staff=True)
USERS = (SERVICE, MARA, JONAS, REI, STAFF)
CATALYSTS = Project(1, "Gold catalysts", "AU-2026-03", (MARA.id, JONAS.id, STAFF.id))
WELDS = Project(2, "Steel & welds", "ST-04", (JONAS.id, REI.id, STAFF.id))
PROJECTS = (CATALYSTS, WELDS)

GOLD = Sample("Au/C batch 7", "drop-cast on an amorphous carbon film", ("Au", "C"))
OXIDE = Sample("Fe@FeOx 12", None, ("Fe", "O", "C"))

USES = (
    Use(
        101,
        TEM,
        at("Mon 09:05"),
        at("Mon 12:20"),
        MARA.id,
        CATALYSTS.id,
        after=Answers(
            "Gold nanoparticles on carbon: size and lattice",
            CATALYSTS.identifier,
            "Size distribution before the reaction, and whether the particles are twinned.",
            samples=(GOLD, Sample("hdl:20.500.99999/au-reference-3", elements=("Au",), is_pid=True)),
        ),
    ),
    Use(
        102,
        TEM,
        at("Tue 13:30"),
        at("Tue 16:45"),
        JONAS.id,
        CATALYSTS.id,
        before=Answers(
            "Oxidation of iron particles by EELS",
            CATALYSTS.identifier,
            "O K and Fe L2,3 edges across the shell.",
            samples=(OXIDE,),
        ),
    ),
    Use(
        103,
        TEM,
        at("Wed 22:00"),
        at("Thu 01:30"),
        REI.id,
        CATALYSTS.id,
        operator=STAFF.id,
        after=Answers(
            "LaMnO3 on SrTiO3: sharpness of the interface",
            CATALYSTS.identifier,
            samples=(Sample("LMO-STO lamella 2", "FIB lamella, [001]", ("La", "Mn", "Sr", "Ti", "O")),),
        ),
    ),
    Use(
        104,
        SEM,
        at("Mon 10:00"),
        at("Mon 12:10"),
        JONAS.id,
        WELDS.id,
        after=Answers(
            "Weld A & base metal: grains < 15 µm",
            WELDS.identifier,
            "Grain size and share of pearlite beside the fusion line.",
            samples=(Sample("Weld A", "etched in nital <3 %>, polished & cleaned", ("Fe", "C", "Mn", "Si")),),
        ),
    ),
    Use(
        105,
        SEM,
        at("Tue 09:00"),
        at("Tue 10:30"),
        REI.id,
        WELDS.id,
        after=Answers("Confidential", WELDS.identifier, consent="Disagree"),
    ),
    Use(106, SEM, at("Wed 13:05"), at("Wed 14:50"), REI.id, WELDS.id),
    Use(
        107,
        SEM,
        at("Thu 09:00"),
        at("Thu 10:00"),
        JONAS.id,
        WELDS.id,
        after=Answers("Second look at weld A", WELDS.identifier),
    ),
    Use(
        108,
        STEM_LAB,
        at("Thu 14:00"),
        at("Thu 15:30"),
        MARA.id,
        CATALYSTS.id,
        after=Answers("Gold on carbon after the reaction", CATALYSTS.identifier, samples=(GOLD, OXIDE)),
    ),
    Use(
        109,
        TEM,
        at("Fri 09:00"),
        None,
        JONAS.id,
        CATALYSTS.id,
        before=Answers("Iron particles, second batch", CATALYSTS.identifier, samples=(OXIDE,)),
    ),
)
CERAMIC_ANSWERS = Answers(
    "Zirconia-toughened alumina: phases",
    WELDS.identifier,
    "Zirconia grains at the surface after sintering.",
    samples=(Sample("ZTA pellet 4", "polished, uncoated", ("Al", "Zr", "O")),),
)
BOOKINGS = (
    Booking(201, TEM, at("Mon 09:00"), at("Mon 12:30"), MARA.id, CATALYSTS.id),
    Booking(202, SEM, at("Wed 13:00"), at("Wed 15:00"), REI.id, WELDS.id, CERAMIC_ANSWERS),
    Booking(
        203,
        SEM,
        at("Wed 12:30"),
        at("Wed 15:30"),
        JONAS.id,
        WELDS.id,
        Answers("Cancelled booking", WELDS.identifier),
        cancelled_by=STAFF.id,
    ),
    Booking(204, TEM, at("Wed 22:00"), at("Thu 02:00"), REI.id, CATALYSTS.id, creator=STAFF.id),
)

STEEL_ELEMENTS = {"Fe": 9.0, "Mn": 0.35, "Si": 0.4, "C": 0.9, "O": 0.3}
CERAMIC_ELEMENTS = {"Al": 16.0, "O": 9.0, "Zr": 4.5, "C": 0.8}
MONDAY_TEM = "Talos/mlindqvist/2026-03-02 Au on C"
MONDAY_SEM = "Quanta/J. Okafor/weld A"
CLUSTER = {"x": 100.0, "y": 10.0}
"""Place of some close gold particles, in nm."""
BURSTS: tuple[Burst, ...] = (
    Burst(
        MONDAY_TEM,
        at("Mon 09:31:10"),
        95,
        {
            "01 survey.dm3": bright_field_image("01 survey", 110_000),
            "02 survey 220kx.dm3": bright_field_image("02 survey 220kx", 220_000, x=80, y=0),
            "03 cluster 450kx.dm3": bright_field_image("03 cluster 450kx", 450_000, **CLUSTER),
        },
    ),
    Burst(
        MONDAY_TEM,
        at("Mon 10:12:04"),
        140,
        {f"HRTEM {n:02}.dm3": lattice_image(f"HRTEM {n:02}", 800_000, crystals=n) for n in range(1, 5)},
    ),
    Burst(
        MONDAY_TEM,
        at("Mon 11:24:40"),
        210,
        {
            "SAED 01 CL800.dm3": diffraction_pattern("SAED 01 CL800", 800.0),
            "SAED 02 CL1000.dm3": diffraction_pattern("SAED 02 CL1000", 1000.0),
        },
    ),
    Burst(
        "Talos/jokafor/EELS",
        at("Tue 13:58:00"),
        180,
        {
            "HAADF overview.dm4": dark_field_image("HAADF overview", 300.0),
            "HAADF 60 nm.dm4": dark_field_image("HAADF 60 nm", 60.0, **CLUSTER),
        },
    ),
    Burst(
        "Talos/jokafor/EELS",
        at("Tue 14:41:05"),
        240,
        {
            "low loss.dm3": energy_loss_spectrum("low loss", -20.0, 0.1),
            "O K, Fe L core.dm3": energy_loss_spectrum("O K, Fe L core", 450.0, 1.0),
            "O K, Fe L shell.dm3": energy_loss_spectrum("O K, Fe L shell", 450.0, 2.0),
        },
    ),
    Burst(
        "Talos/jokafor/EELS",
        at("Tue 15:57:20"),
        200,
        {
            "SI 36x24.dm4": spectrum_image("SI 36x24"),
            "HAADF after SI.dm4": dark_field_image("HAADF after SI", 60.0, x=102, y=11),
        },
    ),
    Burst(
        "Talos/rtanaka/LMO-STO",
        at("Wed 22:48:30"),
        260,
        {f"interface {n}.dm4": atomic_columns_image(f"interface {n}", 12.8) for n in (1, 2)},
    ),
    Burst(
        "Talos/rtanaka/LMO-STO",
        at("Thu 00:36:15"),
        170,
        {f"interface {n}, détail.dm4": atomic_columns_image(f"interface {n}, détail", 6.4) for n in (3, 4)},
    ),
    Burst(
        MONDAY_SEM,
        at("Mon 10:21:00"),
        75,
        {
            "overview 250 µm.tif": secondary_electron_image(250, 0, 0, columns=1024),
            "grains 01.tif": secondary_electron_image(80, 10, 5),
            "grains 02.tif": secondary_electron_image(80, 95, -40),
        },
    ),
    Burst(
        MONDAY_SEM,
        at("Mon 10:58:20"),
        90,
        {
            "pearlite 01.tif": secondary_electron_image(20, 12, 8, columns=1024),
            "pearlite 02.tif": secondary_electron_image(20, 28, 15),
            "pearlite 03.tif": cut_off(secondary_electron_image(20, 60, 30)),
        },
    ),
    Burst(
        MONDAY_SEM,
        at("Mon 11:36:00"),
        180,
        {
            "EDS ferrite.msa": xray_spectrum("Weld A ferrite", 15.0, 60.0, STEEL_ELEMENTS),
            "EDS inclusion.msa": xray_spectrum("Weld A inclusion", 15.0, 60.0, STEEL_ELEMENTS | {"Mn": 4.0}),
        },
    ),
    Burst(
        "Quanta/rtanaka",
        at("Tue 09:20:00"),
        300,
        {f"do not use {n}.tif": secondary_electron_image(60, 300 * n, 0) for n in (1, 2)},
    ),
    Burst(
        "Quanta/public",
        at("Tue 19:42:30"),
        0,
        {"untitled.tif": secondary_electron_image(120, -400, 90)},
    ),
    Burst(
        "Quanta/rtanaka/ZTA",
        at("Wed 13:22:00"),
        60,
        {
            "BSE 20 µm.tif": backscattered_electron_image(20, 0, 0),
            "BSE 8 µm.tif": backscattered_electron_image(8, 3, 2),
        },
    ),
    Burst(
        "Quanta/rtanaka/ZTA",
        at("Wed 14:05:00"),
        240,
        {
            "ZTA area.msa": xray_spectrum("ZTA area", 10.0, 45.0, CERAMIC_ELEMENTS),
            "ZTA bright grain.msa": xray_spectrum("ZTA bright grain", 10.0, 45.0, CERAMIC_ELEMENTS | {"Zr": 17.0}),
        },
    ),
    Burst(
        "STEM lab/2026-03-05 mara",
        at("Thu 14:18:00"),
        110,
        {
            "HAADF 200 nm.hspy": hyperspy_image("HAADF 200 nm", 200.0, x=90, y=10),
            "HAADF 50 nm.hspy": hyperspy_image("HAADF 50 nm", 50.0, **CLUSTER),
            "screenshot 50 nm.png": screenshot(50.0, **CLUSTER),
        },
    ),
    Burst(
        "STEM lab/2026-03-05 mara",
        at("Thu 15:21:00"),
        250,
        {
            "EELS line scan.hspy": hyperspy_line_scan("EELS line scan", 30.0),
            "screenshot 120 nm.png": screenshot(120.0, **CLUSTER),
            "notes.txt": text(
                "Au/C batch 7 after 20 h at 250 °C\n"
                "- same 50 nm field as on Monday's survey, contamination after the scan\n"
                "- line scan over Fe@FeOx 12: shell about 3 nm\n"
            ),
        },
    ),
    Burst(
        "Talos/jokafor/batch 2",
        at("Fri 09:24:00"),
        0,
        {"survey.dm3": bright_field_image("survey", 110_000, x=-250, y=210)},
    ),
)
