"""Arrows point only downward: assets use resources, resources use the science, and the science stands alone."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "nexuslims_pipeline"
BINDING = {"building", "cli", "definitions", "doctor", "jobs", "publishing", "sensors", "withdrawing"}
"""Modules that bind everything together: the only ones of the package that know assets and resources."""


def modules(folder: Path) -> list[Path]:
    found = sorted(folder.rglob("*.py"))
    assert found
    return found


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            within = path.relative_to(ROOT).parts[: -node.level] if node.level else ()
            yield ".".join((*within, node.module or "")).rstrip(".")


def roots(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(path)}


def test_the_contracts_hold() -> None:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_science_knows_neither_dagster_nor_the_network_nor_the_floors_above() -> None:
    forbidden = {"assets", "dagster", "requests", "resources"}
    guilty = {
        str(path.relative_to(ROOT)): names
        for path in modules(PACKAGE)
        if path.parent != PACKAGE or path.stem not in BINDING
        if (names := roots(path) & forbidden)
    }
    assert guilty == {}


def test_resources_know_no_assets_and_nothing_that_binds() -> None:
    binding = {f"nexuslims_pipeline.{name}" for name in BINDING}
    for path in modules(ROOT / "resources"):
        assert "assets" not in roots(path), path
        assert not binding & set(imported(path)), path
    for path in modules(ROOT / "assets"):
        assert not binding & set(imported(path)), path


@pytest.mark.parametrize("folder", ["assets", "resources", "nexuslims_pipeline"])
def test_no_module_is_called_utils(folder: str) -> None:
    assert not [path for path in modules(ROOT / folder) if path.stem in {"utils", "util", "helpers", "common", "misc"}]
