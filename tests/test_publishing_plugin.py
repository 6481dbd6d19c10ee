"""Destinations of installed packages: the example as a facility would use it, and packages that are at fault."""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from facility import CERAMIC, WELD, Facility, built, built_once
from faults import EXAMPLE
from shelf_server import ShelfServer

from nexuslims_pipeline.cli import main
from nexuslims_pipeline.definitions import build_definitions
from resources.destinations.known import OWN, Kinds, kinds

__all__ = ["built", "built_once"]

WHOLE = """
from resources.destinations.base import Destination

class Good(Destination):
    name, asset_name, label, version = "good", "good_copy", "Good copy", "1"
    @classmethod
    def configured(cls, site): return None
    def find(self, key, address): return []
    def create(self, publication): ...
    def update(self, remote, publication): ...
    def withdraw(self, remote): ...
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, installed into a folder of its own."""
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(EXAMPLE, folder / "source")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder / "site"]
    done = subprocess.run([*command, folder / "source"], capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        if os.environ.get("CI") == "true":
            raise RuntimeError(done.stderr)
        pytest.skip(f"setuptools cannot be had here: {done.stderr[-200:]}")
    return folder / "site"


@pytest.fixture
def fresh_kinds() -> Iterator[None]:
    """Kinds of destinations are looked for anew, now and afterwards."""
    kinds.cache_clear()
    sys.modules.pop("shelf_destination", None)
    yield
    kinds.cache_clear()
    sys.modules.pop("shelf_destination", None)


@pytest.fixture
def shelf(built: Facility, package: Path, fresh_kinds: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[ShelfServer]:
    """A shelf that the facility publishes to."""
    monkeypatch.syspath_prepend(package)
    with ShelfServer() as server:
        built.set(**server.variables(server.url))
        yield server


def told(facility: Facility, *arguments: str) -> str:
    out, err = io.StringIO(), io.StringIO()
    with facility.active(), redirect_stdout(out), redirect_stderr(err):
        main(list(arguments))
    return out.getvalue() + err.getvalue()


def test_the_example_is_an_asset_of_a_site_that_has_set_it_up(built: Facility, shelf: ShelfServer) -> None:
    assert [kind.name for kind in kinds().found] == [*(kind.name for kind in OWN), "shelf"]
    assert kinds().faults == ()
    with built.active() as site:
        names = {key.to_user_string() for key in build_definitions(site).resolve_asset_graph().get_all_asset_keys()}
    assert "shelf_file" in names
    built.set(NX_SHELF_URL="", NX_SHELF_TOKEN="")
    with built.active() as site:
        names = {key.to_user_string() for key in build_definitions(site).resolve_asset_graph().get_all_asset_keys()}
    assert "shelf_file" not in names


def test_the_example_receives_what_was_built_and_gives_up_what_is_withdrawn(
    built: Facility, shelf: ShelfServer
) -> None:
    sent = json.loads(told(built, "publish", "--json"))
    assert {row["key"]: row["state"] for row in sent} == {WELD: "PUBLISHED", CERAMIC: "PUBLISHED"}
    assert shelf.copies(WELD) == [built.store.record_path(WELD).read_bytes()]
    assert shelf.files.keys() == {f"{key}.{suffix}" for key in (WELD, CERAMIC) for suffix in ("xml", "html")}
    shelf.requests.clear()
    assert json.loads(told(built, "publish", "--json")) == []
    assert shelf.requests == []

    told(built, "withdraw", WELD)
    assert shelf.files.keys() == {f"{CERAMIC}.xml", f"{CERAMIC}.html"}


def test_doctor_knows_the_example_and_says_what_to_mend(built: Facility, shelf: ShelfServer) -> None:
    before = told(built, "doctor")
    assert "NX_SHELF_URL" not in before
    assert "ok     shelf" in before
    built.set(NX_SHELF_TOKEN="a wrong one")
    wrong = told(built, "doctor")
    assert "does not accept the token; make a new one and set NX_SHELF_TOKEN" in wrong
    assert "a wrong one" not in wrong
    built.set(NX_SHELF_TOKEN="")
    assert "NX_SHELF_TOKEN belong together; set both or none." in told(built, "doctor")


def test_titles_of_users_are_only_text_on_the_examples_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from publications import publication

    monkeypatch.syspath_prepend(EXAMPLE)
    from shelf_destination import page

    assert b"<script>" not in page(publication(tmp_path, title="<script>alert('x')</script>", datasets=1))


# Packages at fault


def looked_for(folder: Path, monkeypatch: pytest.MonkeyPatch, modules: dict[str, str]) -> Kinds:
    """Kinds of an installation in which each module is a package that offers its ``Good``."""
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
        about = folder / f"{name}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[nexuslims_pipeline.destinations]\n{name} = {name}:Good\n")
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(folder)
    return kinds()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import a_package_that_is_not_there", "ModuleNotFoundError: No module named 'a_package_that_is_not_there'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("def broken(:", "SyntaxError: invalid syntax"),
        ("Better = 5", "AttributeError: module 'nx_bad' has no attribute 'Good'"),
        ("Good = 5", "TypeError: it is no class derived from Destination"),
        ("class Good: name = 'good'", "TypeError: it is no class derived from Destination"),
        (WHOLE.replace("def withdraw", "def with_draw"), "TypeError: it lacks withdraw"),
        (WHOLE.replace('"good_copy"', "5"), "TypeError: its 'asset_name' is no text"),
        (WHOLE.replace("label, version", "label").replace(', "1"', ""), "TypeError: its 'version' is no text"),
        (f"{WHOLE}    shows_links_of = ('cdcs')", "TypeError: its 'shows_links_of' is no tuple (a comma too few?)"),
        (WHOLE.replace('"good_copy"', '"Good copy"'), "ValueError: its 'name' and 'asset_name' must be lower-case"),
        (WHOLE.replace('"good"', '"../good"'), "ValueError: its 'name' and 'asset_name' must be lower-case"),
        (WHOLE.replace('"good"', '"cdcs"'), "ValueError: the name 'cdcs' or 'good_copy' is taken"),
        (WHOLE.replace('"good"', '"nemo"'), "ValueError: the name 'nemo' or 'good_copy' is taken"),
        (WHOLE.replace('"good_copy"', '"ro_crate"'), "ValueError: the name 'good' or 'ro_crate' is taken"),
        (WHOLE.replace('"good_copy"', '"session_status"'), "'session_status' is taken"),
        (WHOLE.replace('"good_copy"', '"record"'), "'record' is taken"),
    ],
)
def test_a_package_at_fault_is_named_and_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_kinds: None, text: str, told: str
) -> None:
    other = WHOLE.replace('"good"', '"another"').replace('"good_copy"', '"another_copy"')
    found = looked_for(tmp_path, monkeypatch, {"nx_another": other, "nx_bad": text})
    assert [kind.name for kind in found.found] == [*(kind.name for kind in OWN), "another"]
    (fault,) = found.faults
    assert fault.startswith("destination 'nx_bad' (nx_bad:Good) cannot be used: ")
    assert told in fault


def test_a_package_that_fails_to_read_its_settings_is_told_as_a_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_kinds: None, built: Facility
) -> None:
    looked_for(tmp_path, monkeypatch, {"nx_bad": WHOLE.replace("return None", "return cls({}['url'])")})
    assert "destination 'good': nx_bad fails, KeyError: 'url'; mend or remove it." in told(built, "doctor")


def test_of_two_packages_with_one_name_the_first_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_kinds: None
) -> None:
    found = looked_for(tmp_path, monkeypatch, {"nx_b": WHOLE, "nx_a": WHOLE})
    assert [kind.__module__ for kind in found.found][len(OWN) :] == ["nx_a"]
    assert [fault[:18] for fault in found.faults] == ["destination 'nx_b'"]
