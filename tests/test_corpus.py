"""Every file of the corpus, read as a session's are, against its manifest and against facts found by hand.

``corpus_facts.csv`` was written from the files' own headers (tags, attributes, XML and text as they stand, and other
people's readers), never from this program's output. What differs stands in ``corpus_deviations.csv`` with its reason,
and has to differ in just that way: a difference that is gone fails as one that is new does.
"""

import csv
import importlib.util
import os
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from math import isclose, prod
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from nexuslims_pipeline.metadata.units import quantity

CORPUS = Path(os.environ.get("NX_TEST_CORPUS", Path(__file__).parents[2] / "shared" / "corpus"))
HERE = Path(__file__).parent
TOLERANCE = 0.005
TIMES = (
    "%Y-%m-%d %H:%M:%S", "%d.%m.%Y %H:%M:%S", "%d-%b-%y %H:%M:%S", "%Y-%m-%d", "%d.%m.%Y", "%d-%m-%Y", "%d-%b-%Y",
    "%m/%d/%y",
)  # fmt: skip
"""How the manifest writes what has no ISO form; the last ones are dates."""
HARM = re.compile(r"crashes|takes (longer|more)|could not be started|may not open|of which it was not told")
"""Words of the sandbox about a reader that hung, died, ate its memory or went where it may not go."""
CALIBRATION = ("pixel_width", "reciprocal_pixel_width", "channel_size")


def rows_of(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


MANIFEST = rows_of(CORPUS / "manifest.csv")
FACTS = {row["path"]: row for row in rows_of(HERE / "corpus_facts.csv")}
DEVIATIONS = rows_of(HERE / "corpus_deviations.csv")

pytestmark = [pytest.mark.corpus, pytest.mark.skipif(not MANIFEST, reason="the corpus is not here")]


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("coverage_page", HERE.parent / "docs" / "coverage.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["coverage_page"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def corpus(pages: ModuleType) -> Any:
    return pages.read_corpus(CORPUS)


# What a file gave, in the manifest's terms


def shape_of(element: dict[str, Any]) -> tuple[int, ...]:
    return tuple(int(size) for size in re.findall(r"\d+", element["nx_meta"].get("Data Dimensions", "")))


def principal_type(elements: list[dict[str, Any]], expected: str) -> str:
    """Type of the signal that a file is about: of the first or of the largest, whichever is as expected."""
    largest = max(elements, key=lambda element: prod(shape_of(element) or (0,)))
    types = [element["nx_meta"]["DatasetType"] for element in (largest, elements[0])]
    return expected if expected in types else types[0]


def shapes_of(texts: Iterable[str]) -> str:
    """Shapes without regard to the order of their axes, in which HyperSpy differs from NumPy for some formats."""
    return "; ".join(sorted("x".join(sorted(text.split("x"), key=int)) for text in texts if text))


def time_of(text: str) -> datetime | None:
    """Moment or local time of the manifest; midnight for a date; None for what is no time."""
    if re.fullmatch(r"\d{10}", text):
        return datetime.fromtimestamp(int(text), UTC)
    if text.isdecimal():  # TVIPS: year, month and day in one number
        return datetime(int(text) >> 16, int(text) >> 8 & 0xFF, int(text) & 0xFF)
    text = re.sub(r"(\.\d{6})\d+", r"\1", text.replace(" UTC", "+00:00")).replace(" +", "+").replace(" -", "-")
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        spaced = re.sub(r"\s+", " ", text.replace("T", " "))
        for form in TIMES:
            try:
                return datetime.strptime(spaced, form)  # noqa: DTZ007 - the manifest's local times have none
            except ValueError:
                continue
    return None


def same_time(text: str, meta: dict[str, Any]) -> bool:
    expected, ours = time_of(text), datetime.fromisoformat(meta["Creation Time"])
    if expected is None:
        return True
    if not meta["Extraction Details"]["Creation Time From"].startswith("file"):
        return False
    if ":" not in text and not re.fullmatch(r"\d{10}", text):
        return ours.date() == expected.date()
    gap = ours - expected if expected.tzinfo else ours.replace(tzinfo=None) - expected
    return abs(gap.total_seconds()) < 1


# Differences: what is expected and what was read, of each thing in which they differ

Differences = dict[str, tuple[str, str]]


def of_the_manifest(row: dict[str, str], elements: list[dict[str, Any]]) -> Differences:
    found: Differences = {}
    expected = row["expected_dataset_type"]
    if (ours := principal_type(elements, expected)) != expected:
        found["type"] = (expected, ours)
    texts = [text.strip() for text in row["shapes"].strip(" …").split(";")]
    if row["n_signals"] not in ("0", str(len(elements))):
        found["signals"] = (row["n_signals"], str(len(elements)))
    elif row["n_signals"] != "0":
        theirs = shapes_of(texts)
        ours = shapes_of("x".join(map(str, shape_of(element))) for element in elements[: len(texts)])
        if ours != theirs:
            found["shapes"] = (theirs, ours)
    meta = elements[0]["nx_meta"]
    if not same_time(row["acquired_at"], meta):
        from_file = meta["Extraction Details"]["Creation Time From"].startswith("file")
        found["time"] = (row["acquired_at"], meta["Creation Time"] if from_file else "")
    return found


def of_the_facts(fact: dict[str, str], elements: list[dict[str, Any]], pages: ModuleType) -> Differences:
    found: Differences = {}
    metas = [element["nx_meta"] for element in elements]

    def compare(what: str, expected: str, fields: tuple[str, ...]) -> None:
        values = [value for meta in metas for field in fields if (value := pages.told(meta, field)) is not None]
        if expected and not any(agrees(value, expected) for value in values):
            found[what] = (expected, "; ".join(sorted(set(map(words, values)))))

    compare("voltage", f"{fact['voltage_kV']} kV" if fact["voltage_kV"] else "", ("acceleration_voltage",))
    compare("magnification", fact["magnification"], ("magnification",))
    compare("calibration", fact["pixel_width"], CALIBRATION)
    compare("detector", fact["detector"], ("detector_type", "acquisition_device"))
    return found


def agrees(value: Any, expected: str) -> bool:
    """Whether a value of the sidecar is what the fact says: numbers within 0.5 %, a text in its words."""
    if isinstance(value, dict):
        ours = quantity(value["value"], value["unit"])
        theirs = quantity(*expected.split(" ", 1))
        return ours.check(theirs.dimensionality) and isclose(ours.m_as(theirs.units), theirs.m, rel_tol=TOLERANCE)
    if isinstance(value, int | float):
        return isclose(value, float(expected), rel_tol=TOLERANCE)
    return expected.casefold() in str(value).casefold()


def words(value: Any) -> str:
    return f"{value['value']:.6g} {value['unit']}" if isinstance(value, dict) else str(value)


def of_the_reading(row: dict[str, str], file: Any) -> Differences:
    found: Differences = {}
    if file.error and row["expected_dataset_type"] != "Unknown":
        found["reading"] = ("", file.error)
    blind = [
        str(index)
        for index, (element, preview) in enumerate(zip(file.elements, file.previews, strict=True))
        if shape_of(element) and preview is None
    ]
    if blind:
        found["preview"] = ("", f"none of dataset {', '.join(blind)}")
    return found


def differences(row: dict[str, str], corpus: Any, pages: ModuleType) -> Differences:
    """Everything about one file; a companion is judged by the files that it belongs to, the type of a sidecar by it."""
    path = row["path"]
    is_sidecar = row["expected_dataset_type"] == "Misc"
    found = of_the_manifest(row, corpus.files[path].elements if is_sidecar else corpus.elements(path))
    if path in FACTS:
        found |= of_the_facts(FACTS[path], corpus.elements(path), pages)
    if path not in corpus.mains:
        found |= of_the_reading(row, corpus.files[path])
    return found


# Tests


@pytest.mark.parametrize("row", MANIFEST, ids=lambda row: row["path"])
def test_a_file_gives_what_is_known_of_it(row: dict[str, str], corpus: Any, pages: ModuleType) -> None:
    listed = {each["what"]: (each["expected"], each["ours"]) for each in DEVIATIONS if each["path"] == row["path"]}
    assert differences(row, corpus, pages) == listed


@pytest.mark.parametrize("row", MANIFEST, ids=lambda row: row["path"])
def test_no_file_harms_its_reader(row: dict[str, str], corpus: Any) -> None:
    file = corpus.files[row["path"]]
    assert not file.transient
    assert not re.search(
        r"crashes|takes (longer|more)|could not be started|may not|of which it was not told", file.error
    )


@pytest.mark.parametrize("row", [row for row in MANIFEST if row["path"].endswith(".emi")], ids=lambda row: row["path"])
def test_a_description_whose_series_are_elsewhere_tells_of_the_microscope(
    row: dict[str, str], corpus: Any, pages: ModuleType
) -> None:
    file = corpus.files[row["path"]]
    assert not file.error
    assert not {"voltage", "magnification", "detector"} & of_the_facts(FACTS[row["path"]], file.elements, pages).keys()
    assert same_time(row["acquired_at"], file.elements[0]["nx_meta"])


def test_nineteen_of_twenty_dataset_types_are_right() -> None:
    """Right is what the manifest says, or what a fact says against it with a reason."""
    odd = {each["path"]: each["ours"] for each in DEVIATIONS if each["what"] == "type"}
    wrong = [path for path, ours in odd.items() if ours != FACTS.get(path, {}).get("dataset_type")]
    assert len(MANIFEST) - len(wrong) >= 0.95 * len(MANIFEST)


def test_facts_and_deviations_are_of_files_that_are_there_and_say_why() -> None:
    paths = {row["path"] for row in MANIFEST}
    assert set(FACTS) <= paths
    assert {each["path"] for each in DEVIATIONS} <= paths
    assert not [each["path"] for each in DEVIATIONS if len(each["reason"].split()) < 5]
    odd = {each["path"] for each in DEVIATIONS if each["what"] == "type"}
    assert {path for path, fact in FACTS.items() if fact["dataset_type"]} <= odd


def test_the_page_of_formats_is_up_to_date(corpus: Any, pages: ModuleType) -> None:
    page = pages.PAGE.read_text(encoding="utf-8")
    assert pages.filled(page, corpus) == page, f"run 'python docs/coverage.py {CORPUS}'"
