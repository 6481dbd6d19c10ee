"""Write which metadata come out of which format, and how they compare with what is known of the files.

Run as ``python docs/coverage.py CORPUS`` after a change of the readers; ``tests/test_corpus.py`` says when the page is
out of date. The folder has one folder per format and a ``manifest.csv`` with at least the column ``path``.
"""

import csv
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))

from nexuslims_pipeline.extraction.reading import ReadFile  # noqa: E402
from nexuslims_pipeline.extraction.sandbox import Limits, sandbox  # noqa: E402
from nexuslims_pipeline.extraction.standalone import source_of  # noqa: E402
from nexuslims_pipeline.metadata.fields import FIELDS  # noqa: E402

PAGE = DOCS / "formats.md"
FACTS = DOCS.parent / "tests" / "corpus_facts.csv"
DEVIATIONS = DOCS.parent / "tests" / "corpus_deviations.csv"
COLUMNS: dict[str, tuple[str, ...]] = {
    "Voltage": ("acceleration_voltage", "landing_energy"),
    "Magnification, camera length": ("magnification", "camera_length"),
    "Calibration": (
        "pixel_width", "reciprocal_pixel_width", "angular_pixel_width", "channel_size", "horizontal_field_width",
    ),
    "WD, defocus": ("working_distance", "defocus"),
    "Current": ("beam_current", "probe_current", "emission_current"),
    "Dwell, exposure, live time": (
        "dwell_time", "exposure_time", "live_time", "real_time", "acquisition_time", "pixel_time", "frame_time",
    ),
    "Stage": ("stage_x", "stage_z", "stage_alpha", "stage_tilt"),
    "Detector, camera": ("detector_type", "acquisition_device"),
    "Microscope": ("microscope",),
    "Specimen": ("specimen", "elements"),
}  # fmt: skip
"""Columns of the table and the fields of which one suffices."""
BAR = r"\|"
"""A bar within a cell."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """What is in a corpus and what reading it gave."""

    rows: tuple[dict[str, str], ...]
    """Of the manifest."""
    files: Mapping[str, ReadFile]
    """By their paths below the corpus, each read with its companions."""
    mains: Mapping[str, tuple[str, ...]]
    """Of each file that describes or continues others: those others. Sessions have no datasets of their own for it."""

    def elements(self, path: str) -> list[dict[str, Any]]:
        """Datasets of a file, or of those that it belongs to."""
        return [element for main in self.mains.get(path, (path,)) for element in self.files[main].elements]


def read_corpus(folder: Path, workers: int = 2) -> Corpus:
    """Read every file of the manifest as those of a session are read, previews included."""
    rows = tuple(table(folder / "manifest.csv"))
    paths = [row["path"] for row in rows]
    sources = {path: replace(source_of(folder / path), time_zone="UTC") for path in paths}
    with sandbox(folder, workers, Limits(seconds=60)) as pool:
        files = dict(zip(paths, pool.read(list(sources.values())), strict=True))
    described: dict[Path, list[str]] = {companion: [] for source in sources.values() for companion in source.companions}
    for path, source in sources.items():
        for companion in source.companions:
            described[companion].append(path)
    return Corpus(rows, files, {path: tuple(described[s.path]) for path, s in sources.items() if s.path in described})


def table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def told(meta: Mapping[str, Any], field: str) -> Any:
    """Value of a named field: outside of its dataset types it is an extension under its display name."""
    value = meta.get(field, meta.get("extensions", {}).get(FIELDS[field].display_name))
    return None if isinstance(value, dict) and "value" not in value else value  # a group of values


def coverage(corpus: Corpus) -> str:
    """The table: for every format, how many of its files give which metadata."""
    formats: dict[str, list[str]] = {}
    for row in corpus.rows:
        if row["path"] not in corpus.mains:
            name = corpus.files[row["path"]].format.rpartition(" (")[0]
            formats.setdefault(name or "Other pictures and texts", []).append(row["path"])
    head = ("Format", "Files", "Dataset types", "Time", *COLUMNS)
    lines = [_line(_cells(name, formats[name], corpus)) for name in sorted(formats, key=str.casefold)]
    return "\n".join([_line(head), "|---|---:|" + "---|" * (len(head) - 2), *lines])


def _cells(name: str, paths: list[str], corpus: Corpus) -> Iterator[str]:
    metas = [[element["nx_meta"] for element in corpus.files[path].elements] for path in paths]
    extensions = sorted({Path(path).suffix.lower() for path in paths} - {""})
    yield f"{name} {' '.join(f'`{each}`' for each in extensions)}"
    yield str(len(paths))
    yield ", ".join(sorted({meta["DatasetType"] for each in metas for meta in each}))
    yield _share(metas, lambda meta: meta["Extraction Details"]["Creation Time From"].startswith("file"))
    yield from (_share(metas, _gives(fields)) for fields in COLUMNS.values())


def _gives(fields: tuple[str, ...]) -> Callable[[Mapping[str, Any]], bool]:
    return lambda meta: any(told(meta, field) is not None for field in fields)


def _share(metas: list[list[dict[str, Any]]], given: Callable[[Mapping[str, Any]], bool]) -> str:
    """``3`` for files of which one dataset at least gives it, ``all`` or nothing."""
    count = sum(any(given(meta) for meta in each) for each in metas)
    return "all" if count == len(metas) else str(count or "")


def figures(rows: Iterable[Mapping[str, str]]) -> str:
    """How many dataset types are as expected, and as they ought to be in the light of the reasons given."""
    total = len(list(rows))
    right_types = {fact["path"]: fact["dataset_type"] for fact in table(FACTS)}
    odd = [each for each in table(DEVIATIONS) if each["what"] == "type"]
    wrong = [each for each in odd if each["ours"] != right_types.get(each["path"])]
    return (
        f"- Dataset type as in the manifest: {_percent(total - len(odd), total)}.\n"
        f"- Dataset type as in the manifest or, where the file itself speaks against the manifest, as in the file: "
        f"{_percent(total - len(wrong), total)}."
    )


def _percent(part: int, total: int) -> str:
    return f"{part} of {total} ({100 * part / total:.1f} %)"


def deviations() -> str:
    """The table of all differences, with reasons."""
    head = ("File", "What", "Expected", "Read", "Why")
    rows = (
        (f"`{each['path']}`", *(each[key] for key in ("what", "expected", "ours", "reason")))
        for each in table(DEVIATIONS)
    )
    return "\n".join([_line(head), "|---|---|---|---|---|", *map(_line, rows)])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', BAR) for cell in cells)} |"


def filled(page: str, corpus: Corpus) -> str:
    """The page with its generated parts renewed."""
    parts = {"coverage": coverage(corpus), "figures": figures(corpus.rows), "deviations": deviations()}
    for name, text in parts.items():
        before, begin, rest = page.partition(f"<!-- {name}: begin -->")
        page = f"{before}{begin}\n{text}\n<!-- {name}: end -->{rest.partition(f'<!-- {name}: end -->')[2]}"
    return page


def main() -> None:
    """Write the page."""
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), read_corpus(Path(sys.argv[1]))), encoding="utf-8")


if __name__ == "__main__":
    main()
