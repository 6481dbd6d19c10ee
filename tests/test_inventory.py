"""Crawl, companions, attribution and settling on real folders and on arbitrary windows."""

import errno
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexuslims_pipeline.files import from_location
from nexuslims_pipeline.inventory import companions
from nexuslims_pipeline.inventory import crawl as crawl_module
from nexuslims_pipeline.inventory.attribution import attribute_files, crawl_window
from nexuslims_pipeline.inventory.clock import instant
from nexuslims_pipeline.inventory.companions import group
from nexuslims_pipeline.inventory.crawl import FolderMissingError, crawl
from nexuslims_pipeline.inventory.model import Crawl, FoundFile, Inventory, Refusal
from nexuslims_pipeline.sessions.model import Claim, Session, SessionState

ZONE = timezone(timedelta(hours=-7))
START = datetime(2026, 3, 2, 9, 0, tzinfo=ZONE)
END = datetime(2026, 3, 2, 12, 0, tzinfo=ZONE)
LATER = END + timedelta(days=1)
START_NS, END_NS = instant(START), instant(END)
SECOND = 10**9
EXTENSIONS = frozenset({".dm3", ".tif", ".ser", ".mib"})
INSIDE_TIME = START + timedelta(hours=1)
BEFORE, INSIDE, AFTER = START_NS - 3600 * SECOND, START_NS + 3600 * SECOND, END_NS + 3600 * SECOND


def session(start: datetime = START, end: datetime = END, event: int = 1, server: str = "nemo") -> Session:
    return Session(
        key=f"2026-03-02_Titan_{server}-{event}",
        instrument_id="Titan",
        server=server,
        usage_event_id=event,
        start=start,
        end=end,
        state=SessionState.READY,
    )


def attribute(found: Crawl, of: Session | None = None, **options: Any) -> Inventory:
    return attribute_files(found, of or session(), **{"extensions": EXTENSIONS, "now": LATER, **options})


def made(path: Path, modified_ns: int = INSIDE, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, ns=(modified_ns, modified_ns))
    return path


def link(path: Path, target: Path | str, modified_ns: int = INSIDE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    os.utime(path, ns=(modified_ns, modified_ns), follow_symlinks=False)


def window_crawl(root: Path, folder: str = "Titan", **options: Any) -> Crawl:
    since, until = crawl_window(session())
    return crawl(root, Path(folder), since=since, until=until, **options)


def locations(found: tuple[Any, ...]) -> list[str]:
    return [each.location for each in found]


def reasons(found: Crawl) -> dict[str, str]:
    return {each.location: each.reason for each in found.refusals}


def files(*named: tuple[str, int], size: int = 1) -> Crawl:
    return Crawl(tuple(FoundFile(name, size, modified_ns) for name, modified_ns in sorted(named)), ())


def statuses(inventory: Inventory) -> dict[str, str]:
    return {entry.location: entry.status for entry in inventory.entries}


# The walk


def test_walk_lists_files_of_the_window_only(tmp_path: Path) -> None:
    for name, modified_ns in {
        "at_start.dm3": START_NS,
        "after_start.dm3": START_NS + 1,
        "deep/er/at_end.dm3": END_NS,
        "after_end.dm3": END_NS + 1,
    }.items():
        made(tmp_path / "Titan" / name, modified_ns)
    made(tmp_path / "SEM" / "foreign.tif")
    found = window_crawl(tmp_path)
    assert found == Crawl(
        (
            FoundFile("/Titan/after_start.dm3", 1, START_NS + 1),
            FoundFile("/Titan/deep/er/at_end.dm3", 1, END_NS),
        ),
        (),
    )
    assert len(crawl(tmp_path, Path("/Titan")).files) == 4
    assert window_crawl(tmp_path, threads=1) == found


@pytest.mark.parametrize(
    "name",
    [
        b"line\nbreak.dm3",
        b"[0]*?.dm3",
        b"quote\"'`$(x).dm3",
        b"\xff\xfe.dm3",
        b"%2e%2e.dm3",
        b"x" * 255,
        b" .dm3 ",
    ],
)
def test_any_name_comes_back(tmp_path: Path, name: bytes) -> None:
    path = made(tmp_path / "Titan" / os.fsdecode(name))
    (file,) = window_crawl(tmp_path).files
    assert tmp_path / from_location(file.location) == path


def test_links_to_folders_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    titan = tmp_path / "Titan"
    made(titan / "real/a.dm3")
    made(tmp_path / "archive/2026/b.dm3")
    link(titan / "again", "real")
    link(titan / "real/loop", titan)
    link(titan / "real/self", ".")
    link(titan / "archive", tmp_path / "archive")
    link(titan / "archive_year", tmp_path / "archive/2026")
    link(tmp_path / "archive/back", titan)
    found = window_crawl(tmp_path)
    assert locations(found.files) == ["/Titan/real/a.dm3", "/archive/2026/b.dm3"]
    assert found.refusals == ()


def test_no_link_leads_out_of_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    made(tmp_path / "rootless/secret.dm3")
    made(root / "Titan/a.dm3")
    link(root / "Titan/folder", tmp_path / "rootless", BEFORE)
    link(root / "Titan/file.dm3", tmp_path / "rootless/secret.dm3")
    link(root / "Titan/old_file.dm3", tmp_path / "rootless/secret.dm3", BEFORE)
    link(root / "Titan/relative", "../../rootless")
    link(root / "Titan/above", root)
    link(root / "Titan/dangling.dm3", "nowhere")
    link(root / "Titan/circle", "circle")
    found = window_crawl(root)
    assert locations(found.files) == ["/Titan/a.dm3"]
    assert reasons(found) == {
        "/Titan/above": "link to a folder that holds the instrument's own folder",
        "/Titan/circle": "link cannot be followed: it leads in a circle",
        "/Titan/dangling.dm3": "link cannot be followed: there is nothing at this place",
        "/Titan/file.dm3": "link leads out of the instrument root",
        "/Titan/folder": "link leads out of the instrument root",
        "/Titan/relative": "link leads out of the instrument root",
    }


def test_folder_swapped_for_a_link_is_not_entered(tmp_path: Path) -> None:
    """The walk saw a folder; by the time it is opened a link out of the root stands in its place."""
    made(tmp_path / "outside/secret.dm3")
    (tmp_path / "root/Titan").mkdir(parents=True)
    link(tmp_path / "root/Titan/a", tmp_path / "outside")
    with (
        pytest.raises(OSError, match=r".") as refused,
        crawl_module._opened(tmp_path / "root", ("Titan", "a")),
    ):
        pass
    assert refused.value.errno in {errno.ELOOP, errno.ENOTDIR}


def test_links_to_files(tmp_path: Path) -> None:
    made(tmp_path / "Titan/day/a.dm3")
    made(tmp_path / "SEM/b.tif")
    link(tmp_path / "Titan/same.dm3", "day/a.dm3")
    link(tmp_path / "Titan/foreign.tif", "../SEM/b.tif")
    found = window_crawl(tmp_path)
    assert locations(found.files) == ["/Titan/day/a.dm3"]
    assert reasons(found) == {"/Titan/foreign.tif": "link to a file outside the instrument's folder"}


def test_folders_of_other_instruments_are_not_entered(tmp_path: Path) -> None:
    made(tmp_path / "TEM/a.dm3")
    made(tmp_path / "TEM/Nested/b.dm3")
    made(tmp_path / "SEM/day/c.dm3")
    link(tmp_path / "TEM/sem", tmp_path / "SEM/day")
    link(tmp_path / "TEM/Nested/up", tmp_path / "TEM/a")
    others = [Path("SEM"), Path("TEM/Nested"), Path("TEM")]
    found = window_crawl(tmp_path, "TEM", other_folders=others)
    assert locations(found.files) == ["/TEM/a.dm3"]
    assert reasons(found) == {"/TEM/sem": "link into the folder of another instrument"}
    assert locations(window_crawl(tmp_path, "TEM/Nested", other_folders=others).files) == ["/TEM/Nested/b.dm3"]


def test_special_files_are_refused_unopened(tmp_path: Path) -> None:
    titan = tmp_path / "Titan"
    made(titan / "a.dm3")
    for name, modified_ns in {"pipe.dm3": INSIDE, "old_pipe.dm3": BEFORE}.items():
        os.mkfifo(titan / name)
        os.utime(titan / name, ns=(modified_ns, modified_ns))
    with socket.socket(socket.AF_UNIX) as server:
        # A short way to the place: names of sockets are limited to some hundred bytes.
        descriptor = os.open(titan, os.O_RDONLY)
        server.bind(f"/proc/self/fd/{descriptor}/socket.dm3")
        os.close(descriptor)
    os.utime(titan / "socket.dm3", ns=(INSIDE, INSIDE))
    found = window_crawl(tmp_path)
    assert locations(found.files) == ["/Titan/a.dm3"]
    assert reasons(found) == {
        "/Titan/pipe.dm3": "a named pipe, not a file",
        "/Titan/socket.dm3": "a socket, not a file",
    }


@contextmanager
def as_nobody() -> Iterator[Path]:
    """A folder that everybody may enter; inside the block even root has the rights of nobody."""
    user = os.geteuid()
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        os.seteuid(user)
        for each in folder.rglob("*"):
            if each.is_dir():
                each.chmod(0o755)
        shutil.rmtree(folder)


def drop_rights() -> None:
    if os.geteuid() == 0:
        os.seteuid(65534)


def test_unreadable_folder_costs_only_itself() -> None:
    with as_nobody() as root:
        made(root / "Titan/a.dm3")
        made(root / "Titan/private/b.dm3")
        (root / "Titan/private").chmod(0)
        drop_rights()
        found = window_crawl(root)
    assert locations(found.files) == ["/Titan/a.dm3"]
    assert found.refusals == (Refusal("/Titan/private", "folder cannot be listed: permission denied"),)
    assert statuses(attribute(found)) == {"/Titan/a.dm3": "included", "/Titan/private": "refused"}


def test_missing_folder_is_no_empty_session(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    made(tmp_path / "root/file")
    link(tmp_path / "root/exit", tmp_path)
    for folder, words in {
        "Titn": "cannot be listed: there is nothing",
        "file": "not a directory",
        "exit": "leads out",
        "..": "leads out",
    }.items():
        with pytest.raises(FolderMissingError, match=words):
            window_crawl(tmp_path / "root", folder)
    with pytest.raises(FolderMissingError, match="is the share mounted"):
        window_crawl(tmp_path / "unmounted")


def test_unreadable_instrument_folder_is_no_empty_session() -> None:
    with as_nobody() as root:
        (root / "Titan").mkdir()
        (root / "Titan").chmod(0)
        drop_rights()
        with pytest.raises(FolderMissingError, match="permission denied"):
            window_crawl(root)


def test_file_that_vanishes_during_the_walk_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path / "Titan/a.dm3")
    made(tmp_path / "Titan/gone.dm3")
    listing = os.scandir

    @contextmanager
    def then_remove(descriptor: int) -> Iterator[list[os.DirEntry[str]]]:
        with listing(descriptor) as entries:
            seen = list(entries)
        (tmp_path / "Titan/gone.dm3").unlink()
        yield seen

    monkeypatch.setattr(crawl_module.os, "scandir", then_remove)
    assert window_crawl(tmp_path) == Crawl((FoundFile("/Titan/a.dm3", 1, INSIDE),), ())


# Companions


def test_companions_lie_beside_their_file() -> None:
    names = [
        "/T/a.emi", "/T/a_1.ser", "/T/a_2.ser", "/T/b_1.ser",  # one .emi for two series; one series without
        "/T/sem.TIF", "/T/sem.Txt", "/T/SEM.hdr", "/T/t.png", "/T/t-png.hdr",
        "/T/m.mib", "/T/m.hdr", "/T/ts.mrc", "/T/ts.mrc.mdoc",
        "/T/r.rpl", "/T/r.raw", "/T/e.raw", "/T/e.xml",
        "/T/orphan.txt", "/U/sem.txt", "/T/.txt", "/T/.tif",
    ]  # fmt: skip
    groups = group([FoundFile(name, 1, 0) for name in names])
    assert {each.file.location: locations(each.companions) for each in groups} == {
        "/T/a_1.ser": ["/T/a.emi"],
        "/T/a_2.ser": ["/T/a.emi"],
        "/T/b_1.ser": [],
        "/T/sem.TIF": ["/T/SEM.hdr", "/T/sem.Txt"],
        "/T/t.png": ["/T/t-png.hdr"],
        "/T/m.mib": ["/T/m.hdr"],
        "/T/ts.mrc": ["/T/ts.mrc.mdoc"],
        "/T/r.rpl": ["/T/r.raw"],
        "/T/e.xml": ["/T/e.raw"],
        "/T/orphan.txt": [],
        "/U/sem.txt": [],
        "/T/.txt": [],
        "/T/.tif": [],
    }


@pytest.mark.parametrize(
    ("main", "beside", "alone"),
    [
        ("a_000.tvips", ["a_001.tvips", "a_002.tvips"], ["b_001.tvips", "a_01.tvips"]),
        ("a_master.h5", ["a.h5", "a_data_000001.h5", "a_data_000002.h5"], ["a_data_1.h5", "b_data_000001.h5"]),
        ("m.mrc", ["m.mdoc", "m.mrc.mdoc", "m.xml"], ["n.mrc.mdoc"]),
        ("frames.tif", ["frames.tif.mdoc"], ["frames.xml"]),
        ("FoilHole_1_Data_2_Fractions.tiff", ["FoilHole_1_Data_2.xml"], ["FoilHole_1.xml"]),
        ("GridSquare_1.jpg", ["GridSquare_1.xml"], ["GridSquare_2.xml"]),
        ("x_EER.eer", ["x.xml"], ["x_EER_1.xml"]),
        ("20241021_00405_movie.mrc", ["20241021_00405_info.txt"], ["20241021_00406_info.txt", "info.txt"]),
        ("20241021_00405_wide_movie.mrc", ["20241021_00405_wide_info.txt"], ["20241021_00405_tele_info.txt"]),
        ("acquisition_1.xml", ["scan_x256_y128.raw", "series_x10.raw"], ["scan_xa_y1.raw", "my_scan_x1_y1.raw"]),
        ("spectrum.hmsa", ["spectrum.xml"], ["other.txt"]),
        ("map.spd", ["map.ipr", "map.spc"], ["other.spc"]),
        ("job.cpr", ["job.crc"], ["other.crc"]),
        ("Pattern.dat", ["Setting.txt"], ["setting.csv"]),
        ("run_Synchronized data.csv", ["run_Metadata.log"], ["other_Metadata.log"]),
    ],
)
def test_each_vendor_has_its_own_way_to_name_companions(main: str, beside: list[str], alone: list[str]) -> None:
    names = [main, *beside, *alone, "elsewhere/" + beside[0]]
    found = {
        each.file.location: locations(each.companions) for each in group(FoundFile(f"/T/{n}", 1, 0) for n in names)
    }
    assert found == {f"/T/{main}": sorted(f"/T/{name}" for name in beside)} | {
        f"/T/{name}": [] for name in (*alone, "elsewhere/" + beside[0])
    }
    assert sorted(companions.companions_of(main, [main, *alone, *beside])) == sorted(beside)
    assert companions.related([main], [*beside, *alone]) == beside
    assert companions.related(beside[:1], [main, *alone]) == [main]


def test_a_rule_about_a_whole_folder_ends_where_it_says_nothing() -> None:
    xmls = [FoundFile(f"/T/{n}.xml", 1, 0) for n in range(200)]
    raws = [FoundFile(f"/T/scan_x{n}_y1.raw", 1, 0) for n in range(1, 201)]
    groups = group([*xmls, *raws])
    assert {len(each.companions) for each in groups if each.file in xmls} == {companions.FEW}
    assert sum(each.file in raws for each in groups) == 200 - companions.FEW


@given(
    st.lists(
        st.sampled_from(
            [
                "a",
                "a_000",
                "a_001",
                "a_master",
                "a_master_master",
                "a_data_000001",
                "20241021_1_movie",
                "20241021_1",
                "a_1",
                "scan_x1_y1",
                "pattern",
                "setting",
                "a_fractions",
            ]
        ).flatmap(lambda stem: st.sampled_from(sorted(companions.EXTENSIONS)).map(lambda end: f"/T/{stem}{end}")),
        unique=True,
    )
)
def test_every_file_is_a_dataset_or_describes_one(names: list[str]) -> None:
    """No rules, one after the other, may lead in a circle: then nobody would read its files."""
    groups = group([FoundFile(name, 1, 0) for name in names])
    assert {place for each in groups for place in (each.file.location, *locations(each.companions))} == set(names)
    assert not {each.file.location for each in groups} & {
        place for each in groups for place in locations(each.companions)
    }


def test_companions_of_other_times_come_with_the_walk(tmp_path: Path) -> None:
    made(tmp_path / "Titan/early.emi", BEFORE)
    made(tmp_path / "Titan/early_1.ser")
    made(tmp_path / "Titan/late.tif")
    made(tmp_path / "Titan/late.txt", AFTER)
    made(tmp_path / "Titan/yesterday.tif", BEFORE)
    made(tmp_path / "Titan/yesterday.txt")
    made(tmp_path / "Titan/unrelated.txt", BEFORE)
    made(tmp_path / "Titan/elsewhere/late.txt", BEFORE)
    found = window_crawl(tmp_path)
    assert locations(found.neighbours) == ["/Titan/early.emi", "/Titan/late.txt", "/Titan/yesterday.tif"]

    inventory = attribute(found, ignore_patterns=["*.emi", "*.hdr"])
    assert statuses(inventory) == {
        "/Titan/early_1.ser": "included",
        "/Titan/late.tif": "included",
        "/Titan/yesterday.txt": "ignored",
    }
    early, late, stray = inventory.entries
    assert early.companions == ("/Titan/early.emi",)
    assert late.companions == ("/Titan/late.txt",)
    assert stray.reason == "describes yesterday.tif, which is not of this session"


def test_a_part_that_comes_later_has_its_file_read_again(tmp_path: Path) -> None:
    made(tmp_path / "Titan/scan_000.tvips")
    extensions = frozenset({".tvips"})
    before = attribute(window_crawl(tmp_path), extensions=extensions)
    made(tmp_path / "Titan/scan_001.tvips", AFTER)
    after = attribute(window_crawl(tmp_path), extensions=extensions)
    assert [entry.companions for entry in (*before.entries, *after.entries)] == [(), ("/Titan/scan_001.tvips",)]
    assert before.fingerprint != after.fingerprint


# Attribution


def test_boundaries_to_the_nanosecond() -> None:
    found = files(("/a.dm3", START_NS), ("/b.dm3", START_NS + 1), ("/c.dm3", END_NS), ("/d.dm3", END_NS + 1))
    assert list(statuses(attribute(found))) == ["/b.dm3", "/c.dm3"]


@given(st.integers(-(10**6), 10**6), st.integers(-(10**4), 10**4))
def test_clock_offset_shifts_the_window(offset_us: int, step: int) -> None:
    offset = timedelta(microseconds=offset_us)
    for edge, within in ((START_NS, step > 0), (END_NS, step <= 0)):
        modified_ns = edge + step + offset_us * 1000
        since, until = crawl_window(session(), offset)
        inside = bool(attribute(files(("/a.dm3", modified_ns)), clock_offset=offset).entries)
        assert inside == within
        assert not inside or since * 1e9 < modified_ns <= until * 1e9


def test_reasons_are_words() -> None:
    named = ("/T/a.dm3", "/T/B.DM3", "/T/log.txt", "/T/Thumbs.db", "/T/README")
    found = Crawl(
        (*files(*((name, INSIDE) for name in named)).files, FoundFile("/T/empty.tif", 0, INSIDE)),
        (Refusal("/T/pipe", "a named pipe, not a file", INSIDE), Refusal("/T/old", "a socket", BEFORE)),
    )
    assert {e.location: (e.status, e.reason) for e in attribute(found, ignore_patterns=["*.DB"]).entries} == {
        "/T/a.dm3": ("included", "modified 2026-03-02 10:00:00 -07:00, inside the session"),
        "/T/B.DM3": ("included", "modified 2026-03-02 10:00:00 -07:00, inside the session"),
        "/T/log.txt": ("ignored", "no reader for .txt files"),
        "/T/Thumbs.db": ("ignored", "name matches the ignore pattern *.DB"),
        "/T/README": ("ignored", "no reader for files without an extension"),
        "/T/empty.tif": ("refused", "empty file"),
        "/T/pipe": ("refused", "a named pipe, not a file"),
    }
    inclusive = statuses(attribute(found, strategy="inclusive", ignore_patterns=["*.DB"]))
    assert inclusive["/T/log.txt"] == inclusive["/T/README"] == "included"
    assert inclusive["/T/Thumbs.db"] == "ignored"
    (entry,) = attribute(files(("/a.dm3", INSIDE)), clock_offset=timedelta(seconds=-90)).entries
    assert entry.reason == "modified 2026-03-02 10:01:30 -07:00 (clock corrected by +90 s), inside the session"


def test_contested_file_names_the_event_that_takes_it() -> None:
    claim = Claim(usage_event_id=7, server="nemo", start=START + timedelta(minutes=30), end=END, consent=True)
    own, other = attribute(files(("/a.dm3", START_NS + 1), ("/b.dm3", INSIDE)), claims=[claim]).entries
    assert (own.status, other.status) == ("included", "contested")
    assert "usage event 7 of nemo, which started later" in other.reason


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"start": START + timedelta(seconds=1), "end": END + timedelta(days=1)}, "which started later"),
        ({"start": START + timedelta(seconds=1), "end": None}, "which started later"),
        ({"end": END - timedelta(seconds=1)}, "which is shorter"),
        ({"server": "a", "usage_event_id": 9}, "comes first by server and number"),
        ({"usage_event_id": 0}, "comes first by server and number"),
        ({"start": START - timedelta(seconds=1), "end": INSIDE_TIME}, None),
        ({"end": END + timedelta(seconds=1)}, None),
        ({"usage_event_id": 2}, None),
        ({"usage_event_id": 1, "start": START + timedelta(seconds=1)}, None),
    ],
)
def test_order_of_claims(change: dict[str, Any], words: str | None) -> None:
    """The last case is the session's own event, which does not contend with itself."""
    claim = Claim(**{"usage_event_id": 7, "server": "nemo", "start": START, "end": END, "consent": True, **change})
    (entry,) = attribute(files(("/a.dm3", INSIDE)), claims=[claim]).entries
    assert entry.status == ("contested" if words else "included")
    assert words is None or words in entry.reason


def test_without_consent_nothing_is_listed() -> None:
    claim = Claim(usage_event_id=7, server="nemo", start=START, end=START + timedelta(hours=2), consent=False)
    theirs, mine = INSIDE, END_NS
    found = files(("/T/a.tif", theirs), ("/T/a.txt", mine), ("/T/b.tif", mine), ("/T/b.txt", theirs))
    found = Crawl(found.files, (Refusal("/T/pipe", "a named pipe, not a file", theirs),))
    (entry,) = attribute(found, claims=[claim]).entries
    assert (entry.location, entry.companions) == ("/T/b.tif", ())

    closed = session().model_copy(update={"state": SessionState.NO_CONSENT})
    with pytest.raises(ValueError, match="must not be looked at"):
        attribute(found, closed)


@st.composite
def events(draw: st.DrawFn) -> list[tuple[Session, bool]]:
    found = []
    for number in range(draw(st.integers(1, 5))):
        start, length = draw(st.integers(0, 20)), draw(st.integers(0, 12))
        begin = START + timedelta(seconds=start)
        server = draw(st.sampled_from(["a", "b"]))
        one = session(begin, begin + timedelta(seconds=length), number, server)
        found.append((one, draw(st.booleans()) or draw(st.booleans())))
    return found


@given(events(), st.integers(-3, 3))
def test_each_file_goes_to_one_session_or_is_left_out_for_consent(
    given_events: list[tuple[Session, bool]], offset: int
) -> None:
    times = [START_NS + half * SECOND // 2 + nudge for half in range(70) for nudge in (0, 1)]
    found = files(*((f"/{time}.dm3", time + offset * SECOND) for time in times))
    claims = [
        Claim(usage_event_id=e.usage_event_id, server=e.server, start=e.start, end=e.end, consent=consent)
        for e, consent in given_events
    ]
    listed = {
        (event.server, event.usage_event_id): statuses(
            attribute(found, event, claims=claims, clock_offset=timedelta(seconds=offset))
        )
        for event, consent in given_events
        if consent
    }
    for time in times:
        claimants = [e for e in given_events if instant(e[0].start) < time <= instant(e[0].end)]
        answers = [each[f"/{time}.dm3"] for each in listed.values() if f"/{time}.dm3" in each]
        if claimants and all(consent for _, consent in claimants):
            assert sorted(answers) == ["contested"] * (len(claimants) - 1) + ["included"]
        else:
            assert answers == []


# Settling


def test_session_waits_until_its_files_are_quiet_and_unchanged() -> None:
    now = END + timedelta(seconds=60)
    growing = files(("/a.dm3", END_NS), ("/old.dm3", INSIDE))
    first = attribute(growing, now=now)
    assert first.state is SessionState.WAITING_FOR_FILES
    assert first.reason == "still arriving: a.dm3 (modified less than 300 s ago, may still be written)"
    assert statuses(first) == {"/a.dm3": "waiting", "/old.dm3": "included"}

    now += timedelta(seconds=300)
    grown = files(("/a.dm3", END_NS), ("/old.dm3", INSIDE), size=2)
    second = attribute(grown, now=now, previous=first)
    assert set(statuses(second).values()) == {"waiting"}
    assert "changed since the look before" in second.reason
    assert "and 1 more" in second.reason

    third = attribute(grown, now=now, previous=second)
    assert third.state is SessionState.READY
    assert set(statuses(third).values()) == {"included"}

    changed_long_after = attribute(growing, now=END + timedelta(days=3), previous=third)
    assert changed_long_after.state is SessionState.READY
    assert changed_long_after.fingerprint != third.fingerprint


def test_settling_goes_by_the_instruments_clock() -> None:
    ahead = timedelta(hours=1)
    found = files(("/a.dm3", END_NS + instant(START + ahead) - START_NS))
    for age, state in ((299, SessionState.WAITING_FOR_FILES), (300, SessionState.READY)):
        now = END + timedelta(seconds=age)
        assert attribute(found, now=now, clock_offset=ahead).state is state
    early = attribute(files(("/a.dm3", INSIDE)), now=START)
    assert statuses(early) == {"/a.dm3": "waiting"}
    assert "future" in early.reason


def test_companion_still_written_holds_the_session_but_not_for_ever() -> None:
    now_ns = instant(LATER)
    for modified_ns, state in (
        (now_ns - 10 * SECOND, SessionState.WAITING_FOR_FILES),
        (now_ns + 10 * SECOND, SessionState.WAITING_FOR_FILES),
        (now_ns + 10**10 * SECOND, SessionState.READY),
    ):
        assert attribute(files(("/a.tif", INSIDE), ("/a.txt", modified_ns))).state is state


def test_empty_session_waits_for_the_delay() -> None:
    useless = files(("/a.log", INSIDE))
    delay = timedelta(days=2)
    for found in (Crawl((), ()), useless):
        at_end = attribute(found, now=END + delay)
        assert at_end.state is SessionState.WAITING_FOR_FILES
        assert "2026-03-04 12:00:00 -07:00" in at_end.reason
        after = attribute(found, now=END + delay + timedelta(microseconds=1))
        assert after.state is SessionState.NO_FILES_FOUND
    assert "1 ignored" in after.reason


def test_fingerprint_changes_with_the_files_and_not_with_time() -> None:
    def print_of(*, now: datetime = LATER, previous: Inventory | None = None, **changed: Any) -> str:
        main = FoundFile("/a.tif", changed.get("size", 5), changed.get("time", INSIDE))
        text = [FoundFile("/a.txt", changed["text"], AFTER)] if "text" in changed else []
        refusals = [Refusal("/p", "a named pipe, not a file", INSIDE)] if "pipe" in changed else []
        found = Crawl((main,), tuple(refusals), tuple(text))
        return attribute(found, now=now, previous=previous).fingerprint

    stable = print_of()
    assert stable == print_of(now=LATER + timedelta(days=900))
    variants = [{}, {"size": 6}, {"time": INSIDE + 1}, {"text": 1}, {"text": 2}, {"pipe": 1}]
    assert len({print_of(**variant) for variant in variants}) == len(variants)
    assert print_of(now=datetime(2026, 3, 2, 17, 1, tzinfo=UTC)) != stable  # waiting is another state of the file


def test_files_of_an_unreadable_folder_are_out_of_sight_not_gone() -> None:
    before = attribute(files(("/Titan/a.dm3", INSIDE), ("/Titan/sub/b.dm3", INSIDE)))
    failing = Crawl(files(("/Titan/a.dm3", INSIDE)).files, (Refusal("/Titan/sub", "stale file handle"),))

    during = attribute(failing, previous=before)
    still = attribute(failing, previous=during)
    after = attribute(files(("/Titan/a.dm3", INSIDE), ("/Titan/sub/b.dm3", INSIDE)), previous=still)
    deleted = attribute(files(("/Titan/a.dm3", INSIDE)), previous=still)

    assert during.state is SessionState.WAITING_FOR_FILES
    assert "1 file out of sight: /Titan/sub" in during.reason
    assert still == during, "a second look at the same trouble changes nothing"
    assert (after.state, after.fingerprint) == (SessionState.READY, before.fingerprint)
    assert (deleted.state, locations(deleted.entries)) == (SessionState.READY, ["/Titan/a.dm3"])
