"""Write which metadata come out of which format, from a folder of real files.

Run as ``python docs/coverage.py CORPUS`` after a change of the readers. The folder has one folder per format and a
``manifest.csv`` with at least the columns ``path`` and ``format``. A test says when the table is out of date.
"""

import csv
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))

from nexuslims_pipeline.extraction.reading import ReadFile  # noqa: E402
from nexuslims_pipeline.extraction.sandbox import Limits, sandbox  # noqa: E402
from nexuslims_pipeline.extraction.standalone import source_of  # noqa: E402

PAGE = DOCS / "formats.md"
BEGIN, END = "<!-- coverage: begin -->", "<!-- coverage: end -->"
COLUMNS: dict[str, tuple[str, ...]] = {
    "Voltage": ("acceleration_voltage", "landing_energy"),
    "Magnification or camera length": ("magnification", "camera_length"),
    "Calibration": (
        "pixel_width", "reciprocal_pixel_width", "angular_pixel_width", "channel_size", "horizontal_field_width",
    ),
    "Working distance or defocus": ("working_distance", "defocus"),
    "Current": ("beam_current", "probe_current", "emission_current"),
    "Dwell, exposure or live time": (
        "dwell_time", "exposure_time", "live_time", "real_time", "acquisition_time", "pixel_time", "frame_time",
    ),
    "Stage": ("stage_x", "stage_z", "stage_alpha", "stage_tilt"),
    "Detector or camera": ("detector_type", "acquisition_device"),
    "Microscope": ("microscope",),
    "Specimen": ("specimen", "elements"),
}  # fmt: skip
"""Columns of the table and the fields of which one suffices."""


def read_corpus(corpus: Path, paths: Iterable[str], workers: int = 2) -> dict[str, ReadFile]:
    """Read files of a corpus as a session's are read, previews included; by their paths below it."""
    paths = list(paths)
    with sandbox(corpus, workers, Limits(seconds=60)) as pool:
        return dict(zip(paths, pool.read([source_of(corpus / path) for path in paths]), strict=True))


def coverage(formats: Mapping[str, list[ReadFile]]) -> str:
    """The table: for every format, how many of its files give which metadata."""
    head = ("Format", "Files", "Reader", "Dataset types", "Time", *COLUMNS)
    lines = [f"| {' | '.join(head)} |", "|---|---:|---|---|" + "---|" * (len(head) - 4)]
    for name, files in sorted(formats.items()):
        metas = [[element["nx_meta"] for element in file.elements] for file in files]
        readers = sorted({meta["Extraction Details"]["Reader"] for each in metas for meta in each})
        types = sorted({meta["DatasetType"] for each in metas for meta in each})
        cells = [name, str(len(files)), ", ".join(readers), ", ".join(types)]
        cells.append(_share(metas, lambda meta: meta["Extraction Details"]["Creation Time From"].startswith("file")))
        cells += [_share(metas, _gives(fields)) for fields in COLUMNS.values()]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _gives(fields: tuple[str, ...]) -> Callable[[Mapping[str, Any]], bool]:
    return lambda meta: any(field in meta for field in fields)


def _share(metas: list[list[dict[str, Any]]], told: Callable[[Mapping[str, Any]], bool]) -> str:
    """``3`` for files of which one dataset at least is told, ``all`` or nothing."""
    count = sum(any(told(meta) for meta in each) for each in metas)
    return "all" if count == len(metas) else str(count or "")


def manifest(corpus: Path) -> list[dict[str, str]]:
    """Rows of the corpus's manifest."""
    with (corpus / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def with_table(page: str, table: str) -> str:
    """The page with the table between its two marks."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}"


def by_format(rows: Iterable[Mapping[str, str]], files: Mapping[str, ReadFile]) -> dict[str, list[ReadFile]]:
    """Files of each format."""
    found: dict[str, list[ReadFile]] = {}
    for row in rows:
        found.setdefault(row["format"], []).append(files[row["path"]])
    return found


def main() -> None:
    """Write the table."""
    corpus = Path(sys.argv[1])
    rows = manifest(corpus)
    table = coverage(by_format(rows, read_corpus(corpus, (row["path"] for row in rows))))
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), table), encoding="utf-8")


if __name__ == "__main__":
    main()
