"""Every destination under faults: whatever fails, and wherever, the next run ends in exactly one copy, the newest.

A trial brings a site to where a first publication, an update or a withdrawal is due, lets the N-th step of that fail,
and runs again without faults; N grows until nothing is left to fail. Steps are requests to the server, or changes on
disk: of the ledger, and of the destination that is a folder.
"""

import hashlib
import importlib
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest
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
from publications import KEY

BENCHES = {
    "shelf": ("shelf_server", "ShelfServer"),
    "crates": ("crates_folder", "CratesFolder"),
    "elabftw": ("elabftw_server", "ElabftwServer"),
    "labarchives": ("labarchives_server", "LabarchivesServer"),
    "cdcs": ("cdcs_server", "CdcsProcess"),
}
ENDEAVOURS = ("publication", "update", "withdrawal")
OTHER = f"{KEY}1"
"""A session whose key begins like the other's."""


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    without_waiting(monkeypatch)


@pytest.fixture(
    scope="module", params=[pytest.param(n, marks=pytest.mark.server) if n == "cdcs" else n for n in BENCHES]
)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Each server and folder, once for all tests."""
    module, name = BENCHES[request.param]
    with ExitStack() as stack:
        try:
            server = stack.enter_context(getattr(importlib.import_module(module), name)())
        except Exception as error:
            if os.environ.get("CI") == "true" or not type(error).__name__.endswith("NotInstalledError"):
                raise
            pytest.skip(f"{name} cannot be installed here: {error}")
        yield server


@pytest.fixture
def proxy(bench: Bench) -> Iterator[Proxy]:
    if not bench.url:
        pytest.skip("it has no server")
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


@pytest.mark.parametrize("endeavour", ENDEAVOURS)
@pytest.mark.parametrize("way", WAYS)
def test_a_request_fails(bench: Bench, proxy: Proxy, tmp_path: Path, endeavour: str, way: str) -> None:
    if bench.name == "cdcs" and way not in ("answer lost then outage", "half an answer", "carried out late"):
        pytest.skip("a real server is slow; the other ways are tried with the stand-ins")

    def attempt(site: Site, n: int) -> bool:
        proxy.fail(n, WAYS[way])
        site.run()
        return proxy.mend()

    steps = trials(
        bench, tmp_path, endeavour, attempt,
        url=proxy.url, mended=WAYS[way] is page_with_500, at_last=proxy.carry_out_late,
    )  # fmt: skip
    assert steps >= 2


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
