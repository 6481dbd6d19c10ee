"""What the portal's index knows of a session: enough to find it, to count it and to list it."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from nexuslims_pipeline.files import display_name, from_location
from nexuslims_pipeline.instruments import Instrument
from nexuslims_pipeline.metadata.elements import ELEMENTS
from nexuslims_pipeline.metadata.fields import FIELDS
from nexuslims_pipeline.metadata.units import tidy
from nexuslims_pipeline.publication.model import Publication
from nexuslims_pipeline.records.text import token
from nexuslims_pipeline.sessions.keys import parse_key

VERSION: Final = "1"
"""Raised whenever the same publication gives another summary."""
NAME_CHARACTERS: Final = 200
MOTIVATION_CHARACTERS: Final = 1000
FILE_NAME_CHARACTERS: Final = 1200
"""All file names of a session together."""
MOST_SAMPLES: Final = 100
MOST_SPANS: Final = 4
"""Intervals that tell of one field's values in a session."""
DIGITS: Final = 6
"""Significant digits of a number that is searched for."""

NUMBERS: Final = tuple(name for name, field in FIELDS.items() if field.kind in {"quantity", "number", "whole number"})
"""Named fields that are searched by number."""

Span = tuple[float, float]
"""Smallest and largest of some values."""


def _checked_key(key: str) -> str:
    parse_key(key)
    return key


class Summary(BaseModel):
    """A session as the index knows it; every text is one line of bounded length."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    key: Annotated[str, AfterValidator(_checked_key)]
    title: str
    start: AwareDatetime
    """Where the instrument stands, as `end`."""
    end: AwareDatetime
    instrument_id: str
    instrument: str
    """Name for people."""
    people: tuple[str, ...] = ()
    project: str = ""
    motivation: str = ""
    samples: tuple[str, ...] = ()
    """Names; the identifier of a sample without one."""
    sample_descriptions: tuple[str, ...] = ()
    elements: tuple[str, ...] = ()
    """Symbols in the order of the periodic table."""
    dataset_types: dict[str, int] = Field(default_factory=dict)
    """Datasets of each type: ``Image``, ``Spectrum`` ..."""
    data_types: dict[str, int] = Field(default_factory=dict)
    """Datasets of each technique: ``STEM_EELS`` ..."""
    formats: dict[str, int] = Field(default_factory=dict)
    """Datasets of each vendor format."""
    extensions: dict[str, int] = Field(default_factory=dict)
    """Files of each ending, in lower case without the dot."""
    file_names: tuple[str, ...] = ()
    """As many as there is room for: of each kind of name one before any second."""
    datasets: int = 0
    activities: int = 0
    refused: int = 0
    warnings: int = 0
    """Values to doubt."""
    thumbnail: str = ""
    """Percent-encoded location of a preview below the datasets folder; empty without one."""
    numbers: dict[str, tuple[Span, ...]] = Field(default_factory=dict)
    """By the name of a field: where its values lie, in its preferred unit. Ascending, apart from each other."""


def summary(publication: Publication) -> Summary:
    """Summarise a publication; the same one gives the same summary."""
    session, datasets = publication.session, publication.datasets
    metas = [dataset.nx_meta for dataset in datasets]
    names = [display_name(from_location(location)) for location in sorted({d.location for d in datasets})]
    return Summary(
        key=publication.key,
        title=_line(publication.title),
        start=_whole_second(publication.start),
        end=_whole_second(publication.end),
        instrument_id=publication.instrument.id,
        instrument=_instrument_name(publication.instrument),
        people=tuple(_line(person.display_name) for person in publication.people),
        project=_line(" – ".join(filter(None, (session.project.project_id, session.project.name))))
        if session.project
        else "",
        motivation=_line(session.motivation or "", MOTIVATION_CHARACTERS),
        samples=_lines(sample.name or sample.pid or sample.id for sample in session.samples),
        sample_descriptions=_lines(sample.description or "" for sample in session.samples),
        elements=_elements(symbol for sample in session.samples for symbol in sample.elements),
        dataset_types=_counts(str(meta.get("DatasetType", "Unknown")) for meta in metas),
        data_types=_counts(str(meta.get("Data Type", "")) for meta in metas),
        formats=_counts(dataset.format for dataset in datasets),
        extensions=_counts(Path(name).suffix.lower().lstrip(".") for name in names),
        file_names=_some(names),
        datasets=len(datasets),
        activities=len(publication.activities),
        refused=len(publication.refused),
        warnings=publication.xml.count(b' warning="true"'),
        thumbnail=_thumbnail(publication),
        numbers=_numbers(metas),
    )


def spans(values: Iterable[float], most: int = MOST_SPANS) -> tuple[Span, ...]:
    """At most so many intervals that hold all values and as little as possible besides.

    Values in few places, such as two acceleration voltages, stay points: between them nothing is found. The
    intervals are parted where the gaps are widest, compared to the larger of the two values beside each.
    """
    points = sorted({float(f"{value:.{DIGITS}g}") for value in values})
    gaps = sorted(range(1, len(points)), key=lambda n: (-_width(points[n - 1], points[n]), n))[: most - 1]
    edges = [0, *sorted(gaps), len(points)]
    return tuple((points[a], points[b - 1]) for a, b in pairwise(edges) if a < b)


def _width(low: float, high: float) -> float:
    return (high - low) / max(abs(low), abs(high))


def _numbers(metas: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Span, ...]]:
    found = {name: spans(_values(name, metas)) for name in NUMBERS}
    return {name: those for name, those in found.items() if those}


def _values(name: str, metas: Iterable[Mapping[str, Any]]) -> Iterator[float]:
    for meta in metas:
        value = meta.get(name)
        number = value.get("value") if isinstance(value, Mapping) else value
        if isinstance(number, int | float) and not isinstance(number, bool):
            yield tidy(float(number))


def _line(text: str, longest: int = NAME_CHARACTERS) -> str:
    plain = token(text)
    return plain if len(plain) <= longest else plain[: longest - 1] + "…"


def _lines(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(filter(None, dict.fromkeys(map(_line, texts))))[:MOST_SAMPLES]


def _instrument_name(instrument: Instrument) -> str:
    return _line(instrument.name) or instrument.id


def _whole_second(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)


def _elements(symbols: Iterable[str]) -> tuple[str, ...]:
    known = set(symbols)
    return tuple(symbol for symbol in ELEMENTS if symbol in known)


def _counts(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(filter(None, map(_line, names))).items()))


def _some(names: Iterable[str]) -> tuple[str, ...]:
    """Names as far as there is room, those first that differ in more than their numbers."""
    shapes: set[str] = set()
    ranked: list[tuple[bool, int, str]] = []
    for place, name in enumerate(names):
        shape = re.sub(r"\d+", "0", name)
        ranked.append((shape in shapes, place, _line(name)))
        shapes.add(shape)
    chosen, room = [], FILE_NAME_CHARACTERS
    for _, place, name in sorted(ranked):
        if len(name) > room:
            break
        room -= len(name)
        chosen.append((place, name))
    return tuple(name for _, name in sorted(chosen))


def _thumbnail(publication: Publication) -> str:
    """The first preview of an image; without one, the first preview."""
    shown = [dataset for dataset, _ in publication.previews()]
    images = (dataset for dataset in shown if dataset.nx_meta.get("DatasetType") == "Image")
    chosen = next(images, shown[0] if shown else None)
    return chosen.preview or "" if chosen else ""
