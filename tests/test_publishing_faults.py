"""Every destination under faults: whatever fails, and wherever, the next run ends in exactly one copy, the newest.

A trial brings a site to where a first publication, an update or a withdrawal is due, lets the N-th step of that fail,
and runs again without faults; N grows until nothing is left to fail. Steps are requests to the server, or changes on
disk: of the ledger, and of the destination that is a folder.
"""

import hashlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from cdcs_server import CdcsNotInstalledError, CdcsProcess
from crates_folder import CratesFolder
from elabftw_server import ElabftwServer
from faults import (
    NOW,
    WAYS,
    Bench,
    Death,
    Proxy,
    Sessions,
    Site,
    death_of,
    full_disk,
    in_a_process,
    page_with_500,
    without_waiting,
)
from labarchives_server import LabarchivesServer
from publications import KEY
from shelf_server import ShelfServer

SERVERS: dict[str, Callable[[], Any]] = {
    "shelf": ShelfServer,
    "elabftw": ElabftwServer,
    "labarchives": LabarchivesServer,
    "cdcs": CdcsProcess,
}
BENCHES = SERVERS | {"crates": CratesFolder}
ENDEAVOURS = ("publication", "update", "withdrawal")
OTHER = f"{KEY}1"
"""A session whose key begins like the other's."""


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    without_waiting(monkeypatch)


def parameters(names: Iterable[str]) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.server) if name == "cdcs" else name for name in names]


@pytest.fixture(scope="module", params=parameters(BENCHES))
def bench(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Each server, and the folder, once for all tests."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(BENCHES[request.param]())
        except CdcsNotInstalledError as error:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(f"CDCS cannot be installed here: {error}")
        yield server


with_servers = pytest.mark.parametrize("bench", parameters(SERVERS), indirect=True, scope="module")


@pytest.fixture
def proxy(bench: Bench) -> Iterator[Proxy]:
    with Proxy(bench.url) as proxy:
        yield proxy


def prepared(bench: Bench, folder: Path, endeavour: str, url: str = "") -> Site:
    """A site for which the endeavour is due."""
    bench.clear()
    sessions = Sessions(folder / "sidecars", {KEY: 1})
    site = Site(bench.name, bench.variables(bench.url), folder, sessions)
    if endeavour != "publication":
        assert site.run() == []
        assert len(bench.copies(KEY)) == 1
    if endeavour == "update":
        sessions.versions[KEY] = 2
    if endeavour == "withdrawal":
        sessions.withdrawn.add(KEY)
    site.variables = bench.variables(url or bench.url)
    return site


def check(bench: Bench, site: Site, key: str = KEY) -> None:
    """There is one copy, the newest, or none when it is withdrawn; and the ledger knows."""
    publisher, copies = site.publisher(), bench.copies(key)
    assert publisher.due(NOW) == {}
    entry = publisher.ledger.read(key)
    if key in site.sessions.withdrawn:
        assert (copies, entry) == ([], None)
        assert not [path for path in site.ledger.iterdir() if path.is_file() and f'"{key}"' in path.read_text()]
        return
    assert entry is not None
    assert entry.remote is not None
    assert [f"Welds, version {site.sessions.versions[key]}." in copy.decode() for copy in copies] == [True]
    assert [copy.id for copy in publisher.destination.find(key, entry.address)] == [entry.remote.id]
    sent = site.sessions.publication(key, {})
    assert sent is not None
    assert (entry.doing, entry.failure, entry.fingerprint) == ("", None, publisher.wanted(key))
    assert entry.sha256 == hashlib.sha256(sent.xml).hexdigest()


def trials(
    bench: Bench, folder: Path, endeavour: str, attempt: Callable[[Site, int], bool], *,
    url: str = "", mended: bool = False, at_last: Callable[[], object] = lambda: None,
) -> int:  # fmt: skip
    """Let each step of an endeavour fail in turn, and mend it; how many steps there are."""
    for n in count(1):
        site = prepared(bench, folder / str(n), endeavour, url)
        is_reached = attempt(site, n)
        assert site.run(refused_too=mended) == [], f"step {n}"
        at_last()
        check(bench, site)
        if not is_reached:
            return n - 1
        assert n < 100
    raise AssertionError


@with_servers
@pytest.mark.parametrize("endeavour", ENDEAVOURS)
@pytest.mark.parametrize("way", WAYS)
def test_a_request_fails(bench: Bench, proxy: Proxy, tmp_path: Path, endeavour: str, way: str) -> None:
    def attempt(site: Site, n: int) -> bool:
        proxy.fail(n, WAYS[way])
        site.run()
        return proxy.mend()

    steps = trials(
        bench, tmp_path, endeavour, attempt,
        url=proxy.url, mended=WAYS[way] is page_with_500, at_last=proxy.carry_out_late,
    )  # fmt: skip
    assert steps >= 2


@with_servers
@pytest.mark.parametrize("endeavour", ENDEAVOURS)
def test_it_is_killed_after_a_request(bench: Bench, proxy: Proxy, tmp_path: Path, endeavour: str) -> None:
    def attempt(site: Site, n: int) -> bool:
        started: list[Any] = []
        proxy.fail(n, death_of(lambda: started[0]))
        started.append(in_a_process(site))
        started[0].join(30)
        return killed(started[0]) and proxy.mend()

    assert trials(bench, tmp_path, endeavour, attempt, url=proxy.url) >= 2


@pytest.mark.parametrize("endeavour", ENDEAVOURS)
def test_it_is_killed_at_a_change_on_disk(bench: Bench, tmp_path: Path, endeavour: str) -> None:
    for name, folder in folders(bench).items():

        def attempt(site: Site, n: int, folder: Path | None = folder) -> bool:
            process = in_a_process(site, Death(folder or site.ledger, n))
            process.join(30)
            return killed(process)

        assert trials(bench, tmp_path / name, endeavour, attempt) >= 2


@pytest.mark.parametrize("endeavour", ENDEAVOURS)
def test_the_disk_is_full(bench: Bench, tmp_path: Path, endeavour: str) -> None:
    for name, folder in folders(bench).items():

        def attempt(site: Site, n: int, folder: Path | None = folder) -> bool:
            with full_disk(folder or site.ledger, n) as disk:
                site.run()
            return disk.seen >= n

        assert trials(bench, tmp_path / name, endeavour, attempt) >= 2


def folders(bench: Bench) -> dict[str, Path | None]:
    """Folders with changes on disk; None: the ledger, wherever it is."""
    return {"ledger": None} | ({} if bench.url else {"files": bench.folder})  # type: ignore[attr-defined]


def killed(process: Any) -> bool:
    assert process.exitcode in (0, -signal.SIGKILL)
    return bool(process.exitcode)


def test_sessions_whose_keys_begin_alike_are_kept_apart(bench: Bench, tmp_path: Path) -> None:
    site = prepared(bench, tmp_path, "publication")
    site.sessions.versions |= {KEY: 1, OTHER: 7}
    assert site.run() == []
    check(bench, site, OTHER)
    site.sessions.versions[KEY] = 2
    assert site.run() == []
    check(bench, site)
    check(bench, site, OTHER)
    site.sessions.withdrawn.add(KEY)
    assert site.run() == []
    check(bench, site)
    check(bench, site, OTHER)


# Many at once


def test_threads_and_processes_that_publish_the_same_session_make_one_copy(bench: Bench, tmp_path: Path) -> None:
    site = prepared(bench, tmp_path, "publication")
    processes = [in_a_process(site, keys=[KEY]) for _ in range(2)]
    publishers = [site.publisher(), site.publisher()]
    with ThreadPoolExecutor() as threads:
        actions = [
            result.action for result in threads.map(lambda publisher: publisher.publish(KEY), publishers) if result
        ]
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert actions.count("created") <= 1
    check(bench, site)


@pytest.mark.parametrize("bench", parameters(["cdcs"]), indirect=True, scope="module")
def test_eight_runs_of_300_sessions_one_of_them_killed(bench: CdcsProcess, tmp_path: Path) -> None:
    site = prepared(bench, tmp_path, "publication")
    keys = [KEY.replace("-104", f"-{number}") for number in range(1000, 1300)]
    site.sessions.versions = dict.fromkeys(keys, 1)
    ledger = site.publisher().ledger
    # Each run has a third of the sessions, so that each session is in two runs or three.
    runs = [in_a_process(site, keys=(keys * 2)[n * 300 // 8 :][:100]) for n in range(8)]
    while len(ledger.sessions()) < 100 and any(run.is_alive() for run in runs):
        time.sleep(0.02)
    runs[3].kill()
    for run in runs:
        run.join(120)
    assert [run.exitcode for run in runs] == [-signal.SIGKILL if run is runs[3] else 0 for run in runs]

    assert site.run() == []
    assert site.publisher().due(NOW) == {}
    there = {record["title"]: str(record["id"]) for record in bench.records()}
    assert len(bench.records()) == len(there) == 300
    entries = [ledger.read(key) for key in keys]
    assert {entry.key: entry.remote.id for entry in entries if entry and entry.remote} == there
    for key in keys[::50]:
        check(bench, site, key)
