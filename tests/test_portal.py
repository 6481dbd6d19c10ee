"""The portal as a destination: pages and index on disk, whatever is cut off, and nothing left of what is withdrawn."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from dagster import DagsterInstance
from facility import CERAMIC, WELD, Facility, built, instance
from faults import NOW, Sessions, Site, full_disk, without_waiting
from publications import KEY

from nexuslims_pipeline.definitions import build_definitions
from resources.destinations.base import DestinationUnavailableError
from resources.destinations.portal import Portal
from resources.publishing import Publisher

__all__ = ["built", "instance"]

OTHER = "2026-03-04_Demo-Quanta-SEM_nemo-106"


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    without_waiting(monkeypatch)


def site(folder: Path) -> Site:
    sessions = Sessions(folder / "data" / "datasets", {KEY: 1, OTHER: 1})
    return Site("portal", {}, folder, sessions)


def portal_of(publisher: Publisher) -> Portal:
    assert isinstance(publisher.destination, Portal)
    return publisher.destination


def in_step(where: Site) -> dict[str, bytes]:
    """Publish all that is due, refresh, and read the whole portal."""
    where.run(refused_too=True)
    publisher = where.publisher()
    portal = portal_of(publisher)
    portal.refresh()
    assert publisher.due(NOW) == {}
    files = (path for path in portal.folder.rglob("*") if path.is_file() and not path.name.startswith(".lock"))
    return {str(path.relative_to(portal.folder)): path.read_bytes() for path in files if path.name != "shards.json"}


def updated(where: Site) -> None:
    where.sessions.versions[KEY] = 2


def withdrawn(where: Site) -> None:
    where.sessions.withdrawn.add(KEY)


def published(where: Site) -> None:
    """Nothing was there before."""


@pytest.mark.parametrize(("before", "change"), [(False, published), (True, updated), (True, withdrawn)])
def test_whatever_is_cut_off_is_made_good(tmp_path: Path, before: bool, change: Callable[[Site], None]) -> None:
    clean = site(tmp_path / "clean")
    change(clean)
    wanted = in_step(clean)

    for n in count(1):
        broken = site(tmp_path / str(n))
        if before:
            in_step(broken)
        change(broken)
        with full_disk(portal_of(broken.publisher()).folder, n) as disk:
            broken.run()
        assert in_step(broken) == wanted, n
        if disk.seen < n:
            break
    assert n > 3


def test_nothing_is_left_of_what_is_withdrawn(tmp_path: Path) -> None:
    where = site(tmp_path)
    assert any(b"Welds, version 1." in content for content in in_step(where).values())
    where.sessions.withdrawn |= {KEY, OTHER}

    left = in_step(where)

    assert not [name for name, content in left.items() if b"Welds" in content or KEY.encode() in content or KEY in name]
    assert b"No session" in left["index.html"]


def test_what_a_killed_process_left_goes_too(tmp_path: Path) -> None:
    where = site(tmp_path)
    in_step(where)
    portal = portal_of(where.publisher()).folder
    abandoned = [path.with_name(f".{n}.tmp") for n, path in enumerate(sorted(portal.rglob("*.html")))]
    for path, temporary in zip(sorted(portal.rglob("*.html")), abandoned, strict=True):
        path.rename(temporary)
    (portal / "index" / "sessions" / "2026" / f"{KEY}.json").unlink()
    assert where.publisher().destination.find(KEY, "") != [], "its page was begun"
    where.sessions.withdrawn.add(KEY)

    left = in_step(where)

    assert not [name for name, content in left.items() if KEY.encode() in content or KEY in name]
    assert OTHER in (portal / "2026" / abandoned[1].name).read_text(), "the other one may just be written"


def test_of_a_folder_that_is_not_mounted_nothing_is_said(tmp_path: Path) -> None:
    where = site(tmp_path)
    in_step(where)
    portal = portal_of(where.publisher()).folder
    portal.rename(portal.with_name("aside"))
    where.sessions.withdrawn.add(KEY)
    for is_mount_point in (False, True):
        if is_mount_point:
            portal.mkdir()
        assert [type(fault) for fault in where.run()] == [DestinationUnavailableError]
    portal.rmdir()
    portal.with_name("aside").rename(portal)
    assert not [name for name in in_step(where) if KEY in name]


def test_front_page_and_pages_are_made_of_a_facility(built: Facility, instance: DagsterInstance) -> None:
    front = built.data / "portal" / "index.html"
    pages = {path.stem for path in (built.data / "portal" / "2026").glob("*.html")}

    assert pages == {WELD, CERAMIC}
    assert b"Weld A &amp; base metal" in front.read_bytes()

    front.unlink()
    with built.active() as settings:
        result = build_definitions(settings).resolve_job_def("refresh_portal").execute_in_process(instance=instance)
    assert result.success
    assert front.exists()


def test_a_site_may_do_without(built: Facility) -> None:
    built.set(NX_PORTAL="false")
    with built.active() as settings:
        definitions = build_definitions(settings)
        keys = {key.to_user_string() for key in definitions.resolve_asset_graph().get_all_asset_keys()}
    assert not keys & {"record_page", "portal_index"}
    assert "portal" not in {sensor.name for sensor in definitions.sensors or ()}
