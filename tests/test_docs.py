"""The documentation says what the code does: tables, names, links and examples."""

import argparse
import importlib.util
import json
import re
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import duckdb
import pytest

from nexuslims_pipeline.activities.model import Activity, Clustering
from nexuslims_pipeline.cli import _parser
from nexuslims_pipeline.configuration import ELSEWHERE, RETIRED, SERVER_VARIABLES, Settings
from nexuslims_pipeline.extraction.model import Extractor
from nexuslims_pipeline.extraction.profiles.loading import load_profiles
from nexuslims_pipeline.inventory.model import FileStatus, Inventory, InventoryEntry
from nexuslims_pipeline.metadata.dataset import Dataset
from nexuslims_pipeline.metadata.linked import context
from nexuslims_pipeline.metadata.models import MODELS
from nexuslims_pipeline.metadata.personal import part_persons
from nexuslims_pipeline.sessions.model import Session, SessionState
from nexuslims_pipeline.signals import Signal, Source
from resources.catalog import VIEWS, Catalog
from resources.store import Store

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [*DOCS, *(page for page in (ROOT / "README.md", ROOT / "CHANGELOG.md") if page.exists())]
MOVING = ROOT / "docs" / "moving_from_nexuslims.md"
NOT_BUILT = "NOT_BUILT"
"""State of a session in the catalogue that has none in the store yet."""


def pages() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


# Tables


def test_tables_are_those_of_the_code() -> None:
    make = generator()
    for page in DOCS:
        assert make.filled(page.read_text()) == page.read_text(), f"{page.name}: run 'python docs/generate.py'"


def test_every_table_stands_in_a_page() -> None:
    make = generator()
    placed = [name for page in DOCS for _, name, _ in make.PLACE.findall(page.read_text())]
    assert sorted(placed) == sorted(make.TABLES)


def test_a_stale_table_is_noticed() -> None:
    make = generator()
    page = (ROOT / "docs" / "configuration.md").read_text()
    stale = page.replace("`NX_HARVEST_DAYS`", "`NX_HARVEST_WEEKS`", 1)
    assert stale != page
    assert make.filled(stale) == page


# Names


def is_variable(name: str) -> bool:
    known = {f"NX_{field.upper()}" for field in Settings.model_fields} - {"NX_NEMO_SERVERS"}
    server = rf"NX_NEMO_({'|'.join(SERVER_VARIABLES)})_([1-9]\d*|n)?"
    return name in known or name == "NX_TEST_CORPUS" or re.fullmatch(server, name) is not None


@pages()
def test_variables_exist(page: Path) -> None:
    for name in set(re.findall(r"NX_[A-Z]\w+", page.read_text())):
        gone = name in RETIRED or name.removeprefix("NX_").startswith(ELSEWHERE)
        assert is_variable(name) or (page == MOVING and gone), name


@pages()
def test_states_exist(page: Path) -> None:
    """Of words in capitals joined by an underscore, all but variables, techniques and the old system's states."""
    text = page.read_text()
    old = set(re.findall(r"^\| (`[A-Z_]+`(?:, `[A-Z_]+`)*) \|", text, re.MULTILINE)) if page == MOVING else set()
    old = {name for cell in old for name in re.findall("[A-Z_]+", cell)}
    found = set(re.findall(r"`((?!NX_|DAGSTER_|S?TEM_|SEM_)[A-Z]+_[A-Z_]+)`", text))
    assert found <= {*SessionState, NOT_BUILT} | old


def test_page_of_sessions_tells_of_every_state_and_status() -> None:
    text = (ROOT / "docs" / "sessions_and_files.md").read_text()
    rows = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    assert {*SessionState, NOT_BUILT, *FileStatus.__args__} <= rows


def commands() -> dict[str, set[str]]:
    (choices,) = (a.choices for a in _parser()._actions if isinstance(a, argparse._SubParsersAction))
    return {name: set(parser._option_string_actions) for name, parser in choices.items()}


@pages()
def test_commands_and_options_exist(page: Path) -> None:
    calls = re.findall(r"nexuslims-pipeline ([a-z-]+)((?:[^`\n|>&]|\| `--)*)", page.read_text())
    for command, rest in calls:
        assert command in commands(), command
        assert set(re.findall(r"(?<![\w-])--[a-z-]+", rest)) <= commands()[command], rest


def test_page_of_installation_tells_of_every_option() -> None:
    text = (ROOT / "docs" / "installation.md").read_text()
    for command, options in commands().items():
        (row,) = re.findall(rf"^\| `nexuslims-pipeline {command}\b.*$", text, re.MULTILINE)
        assert set(re.findall(r"--[a-z-]+", row)) == options - {"-h", "--help"}


# Links


def anchors(page: Path) -> set[str]:
    """Anchors that GitHub gives to headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pages()
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


# Examples


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """Three sessions: one with a doubtful spectrum image, one without consent, one that NEMO has lost."""
    store = Store(data_path=str(tmp_path_factory.mktemp("store")))
    built, refused, lost = (f"2026-03-02_Titan_nemo-{number}" for number in (1, 2, 3))
    for number, key in enumerate((built, refused, lost), 1):
        store.register("nemo", number, key)
    start, end = datetime(2026, 3, 2, 9, tzinfo=UTC), datetime(2026, 3, 2, 11, tzinfo=UTC)
    for number, key, state in ((1, built, SessionState.READY), (2, refused, SessionState.NO_CONSENT)):
        session = Session(
            key=key, instrument_id="Titan", server="nemo", usage_event_id=number, start=start, end=end, state=state
        )  # fmt: skip
        store.write_session(session, "1")
    store.write_failure(lost, "usage_event", "Usage event 3 does not exist any more.", "")
    entries = (
        InventoryEntry("/Titan/map.dm4", "included", "inside the session", 10, 1),
        InventoryEntry("/Titan/link.dm4", "refused", "link leads out of the instrument root"),
    )
    store.write_inventory(Inventory(built, SessionState.READY, "", entries, "f"), "1")
    meta = {
        "DatasetType": "SpectrumImage",
        "Data Type": "STEM_EELS",
        "Creation Time": "2026-03-02T10:00:00+00:00",
        "acceleration_voltage": {"value": 200.0, "unit": "kilovolt"},
        "extensions": {},
        "warnings": [{"field": "Operator", "reason": "It is often shared."}],
    }
    store.write_datasets(built, [Dataset("/Titan/map.dm4", 1, 10, 0, 1, "map.dm4", "", "", None, meta)], "f", "1")
    store.write_activities(built, [Activity(1, 1, ("/Titan/map.dm4",))], Clustering((), None), "rule", "1")
    store.write_record(built, b"<Experiment/>", {"files": 1, "datasets": 1, "activities": 1}, "1")
    Catalog(data_path=store.data_path).rebuild(store)
    with duckdb.connect(f"{store.data_path}/catalog.duckdb", read_only=True) as connection:
        yield connection


QUERIES = blocks(ROOT / "docs" / "store.md", "sql")


@pytest.mark.parametrize("query", QUERIES, ids=[f"query{number}" for number in range(len(QUERIES))])
def test_queries_have_answers(query: str, catalogue: duckdb.DuckDBPyConnection) -> None:
    assert catalogue.sql(query).fetchall()


def test_catalogue_knows_sessions_that_got_nowhere(catalogue: duckdb.DuckDBPyConnection) -> None:
    rows = catalogue.sql("SELECT usage_event, instrument, state FROM sessions ORDER BY usage_event").fetchall()
    assert rows == [(1, "Titan", "BUILT"), (2, "Titan", "NO_CONSENT"), (3, "Titan", "FAILED")]


def test_page_of_the_store_names_every_view_and_column(catalogue: duckdb.DuckDBPyConnection) -> None:
    text = (ROOT / "docs" / "store.md").read_text()
    for view in VIEWS:
        (row,) = re.findall(rf"^\| `{view}` \|[^|]*\|(.*)\|$", text, re.MULTILINE)
        assert re.findall(r"`(\w+)`", row) == catalogue.sql(f"SELECT * FROM {view}").columns


def test_views_outlive_the_files_that_they_read(tmp_path: Path) -> None:
    store, catalog = Store(data_path=str(tmp_path)), Catalog(data_path=str(tmp_path))
    key = "2026-03-02_Titan_nemo-1"
    catalog.rebuild(store)
    store.write_failure(key, "usage_event", "NEMO does not answer.", "")
    assert list(catalog.query("SELECT state FROM sessions")["state"]) == ["FAILED"]
    store.clear_failure(key)
    assert catalog.query("SELECT * FROM sessions").empty


def test_example_of_a_reader_runs(tmp_path: Path) -> None:
    example, _ = blocks(ROOT / "docs" / "extending.md", "python")
    names: dict[str, Extractor] = {}
    exec(example, names)
    file = tmp_path / "run1.cnt"
    file.write_text("CNT1 5 8 13")
    source = Source(file, datetime(2026, 3, 2, tzinfo=UTC), file.stat().st_size)
    reader = names["EXTRACTOR"]
    assert reader.accepts(source, file.read_bytes())
    assert not reader.accepts(source, struct.pack("<I", 1))
    (signal,) = reader.extract(source)
    assert signal.shape == (3,)


def test_examples_of_profiles_are_valid(tmp_path: Path) -> None:
    page = ROOT / "docs" / "extending.md"
    (rules,), (_, parser) = blocks(page, "yaml"), blocks(page, "python")
    (tmp_path / "titan.yaml").write_text(rules)
    (tmp_path / "holder.py").write_text(parser)
    found = {profile.name: profile for profile in load_profiles(tmp_path).profiles}
    assert len(found["titan"].rules) == 2
    signal = Signal("Image", "TEM_Imaging", native={"Comment": "holder:double tilt"})
    found["holder"].parsers[0](signal)
    assert signal.extensions == {"Holder": "double tilt"}


def test_example_of_a_sidecar_has_the_context_of_its_fields() -> None:
    (example,) = blocks(ROOT / "docs" / "metadata.md", "json")
    (element,) = json.loads(example)
    told = context(element["nx_meta"])
    assert element["@context"].items() <= {**told, "Creation Time": None}.items()
    assert told.keys() - element["@context"].keys() == {"Creation Time"}
    assert part_persons(element)[1] == element["personal"]
    MODELS["Spectrum"].model_validate(element["nx_meta"])
