"""The page of a session for electronic lab notebooks.

A fragment of plain HTML: headings, paragraphs, tables, lists, links and pictures without scripts, styles, classes or
ids, all of which notebooks strip. Every text from outside is escaped. The page of a large session says what it leaves
out; the record has it all.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from urllib.parse import urlsplit

from nexuslims_pipeline.activities.model import Activity
from nexuslims_pipeline.metadata.dataset import Dataset
from nexuslims_pipeline.metadata.fields import FIELDS
from nexuslims_pipeline.publication.model import Publication
from nexuslims_pipeline.records.parameters import Parameter, parameters, split
from nexuslims_pipeline.records.text import clean, token
from nexuslims_pipeline.sessions.model import Sample

MOST_DATASETS = 400
"""Datasets that are listed, of all activities together."""
MOST_ACTIVITIES = 100
MOST_LINES = 100
"""Refused files, samples, or notes that are listed."""
LONGEST_TEXT = 300
"""Characters of one text, such as a name or a value."""
LONGEST_SETUP = 1500
LONGEST_MOTIVATION = 5000

Picture = Callable[[Dataset, Path], str | None]
"""Gives the address (``src``) under which a notebook shows a dataset's preview; None when it shows none."""


def page(
    publication: Publication,
    *,
    picture: Picture | None = None,
    most_pictures: int = 24,
    most_picture_bytes: int = 2**21,
) -> str:
    """Write the page of a session; the same publication gives the same text.

    Parameters
    ----------
    publication
        The session.
    picture
        How previews are shown; without it they are not.
    most_pictures
        Previews that are shown.
    most_picture_bytes
        Size of all their files together.

    Returns
    -------
    str
        HTML without ``html`` and ``body``, of a few megabytes at most.
    """
    parts = [
        f"<h2>{_text(publication.title)}</h2>",
        _facts(publication),
        *_motivation(publication),
        *_samples(publication.session.samples),
        *_activities(publication),
        *_pictures(publication, picture, most_pictures, most_picture_bytes),
        *_refused(publication),
        *_list("Notes", [_text(warning) for warning in publication.session.warnings]),
    ]
    return "\n".join(parts) + "\n"


def moment_text(moment: datetime) -> str:
    """A time with its offset, for people: ``2026-03-02 09:01:00 -07:00``."""
    text = moment.isoformat(sep=" ", timespec="seconds")
    return f"{text[:19]} {text[19:]}"


def _text(text: str, longest: int = LONGEST_TEXT) -> str:
    """Text on one line, cut to a length, with nothing in it that HTML or XML would take for its own."""
    plain = token(text)
    return escape(plain if len(plain) <= longest else plain[: longest - 1] + "…")


def _link(url: str, label: str) -> str:
    """A link, where the address is one for people; else the label alone."""
    try:
        is_page = urlsplit(url).scheme in {"http", "https"}
    except ValueError:
        is_page = False
    return f'<a href="{escape(clean(url))}">{_text(label)}</a>' if is_page else _text(label)


def _row(cells: Iterable[str], tag: str = "td") -> str:
    return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"


def _table(header: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    return "\n".join(["<table>", _row(header, "th"), *(_row(row) for row in rows), "</table>"])


def _left_out(count: int, what: str) -> list[str]:
    return [f"<p>{count} more {what} not listed here; the record has them all.</p>"] if count > 0 else []


def _list(title: str, items: Sequence[str]) -> list[str]:
    if not items:
        return []
    shown = "\n".join(f"<li>{item}</li>" for item in items[:MOST_LINES])
    return [f"<h3>{title}</h3>", f"<ul>\n{shown}\n</ul>", *_left_out(len(items) - MOST_LINES, "entries are")]


def _facts(publication: Publication) -> str:
    session, instrument = publication.session, publication.instrument
    place = f" ({instrument.location})" if instrument.location else ""
    project = session.project
    doubts = sum(len(_warnings(dataset)) for dataset in publication.datasets)
    known = [
        ("Session", _text(publication.key)),
        ("Instrument", _text(instrument.name + place)),
        ("Start", _text(f"{moment_text(publication.start)} ({instrument.time_zone})")),
        ("End", _text(f"{moment_text(publication.end)} ({instrument.time_zone})")),
        ("User", _text(session.user.display_name) if session.user else ""),
        ("Operator", _text(session.operator.display_name) if session.operator else ""),
        ("Project", _text(" – ".join(filter(None, (project.project_id, project.name)))) if project else ""),
        ("NEMO", _link(session.link, "Usage of the instrument in NEMO") if session.link else ""),
        *((_text(link.label), _link(link.url, link.url)) for _, link in sorted(publication.links.items())),
        ("Datasets", str(len(publication.datasets))),
        ("Activities", str(len(publication.activities))),
        ("Doubtful values", str(doubts) if doubts else ""),
    ]
    rows = [f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in known if value]
    return "\n".join(["<table>", *rows, "</table>"])


def _motivation(publication: Publication) -> list[str]:
    motivation = clean(publication.session.motivation or "")
    shown = motivation if len(motivation) <= LONGEST_MOTIVATION else motivation[: LONGEST_MOTIVATION - 1] + "…"
    told = [f"<p>{_text(line, LONGEST_MOTIVATION)}</p>" for line in shown.split("\n") if line.strip()]
    return ["<h3>Motivation</h3>", *told] if told else []


def _samples(samples: Sequence[Sample]) -> list[str]:
    return _list("Samples", [_sample(sample) for sample in samples])


def _sample(sample: Sample) -> str:
    name = _text(sample.name or sample.pid or sample.id)
    pid = _link(sample.pid, sample.pid) if sample.pid and sample.name else ""
    return "; ".join(filter(None, (name, pid, _text(sample.description or ""), _text(", ".join(sample.elements)))))


def _activities(publication: Publication) -> Iterator[str]:
    by_location: dict[str, list[Dataset]] = {}
    for dataset in sorted(publication.datasets, key=lambda dataset: (dataset.location, dataset.index)):
        by_location.setdefault(dataset.location, []).append(dataset)
    room = MOST_DATASETS
    for number, activity in enumerate(publication.activities[:MOST_ACTIVITIES], 1):
        datasets = [dataset for location in activity.locations for dataset in by_location.get(location, ())]
        yield _activity_heading(publication, activity, number)
        yield from _setup(datasets)
        if listed := datasets[:room]:
            header = ("Name", "Time", "Type", "Data type", "Format", "Doubtful values")
            yield _table(header, (_dataset(publication, dataset) for dataset in listed))
        yield from _left_out(len(datasets) - len(listed), "datasets are")
        room -= len(listed)
    yield from _left_out(len(publication.activities) - MOST_ACTIVITIES, "activities are")


def _activity_heading(publication: Publication, activity: Activity, number: int) -> str:
    start, end = (moment_text(_moment(publication, ns)) for ns in (activity.start_ns, activity.end_ns))
    return f"<h3>Activity {number}: {_text(start)} to {_text(end)}</h3>"


def _moment(publication: Publication, ns: int) -> datetime:
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC).astimezone(publication.zone)


def _setup(datasets: Sequence[Dataset]) -> list[str]:
    """What all datasets of an activity share; of a single one, what is known of it."""
    of_each = [parameters(_described(dataset)) for dataset in datasets]
    setup = of_each[0] if len(of_each) == 1 else split(of_each)[0]
    if not setup:
        return []
    return [f"<p>Setup: {_text('; '.join(map(_parameter, setup)), LONGEST_SETUP)}</p>"]


def _described(dataset: Dataset) -> dict[str, object]:
    """The dataset's metadata without what only its vendor's software knows the meaning of."""
    return {key: value for key, value in dataset.nx_meta.items() if key in FIELDS or key == "warnings"}


def _parameter(parameter: Parameter) -> str:
    value = f"{parameter.text} {parameter.unit_symbol}".strip()
    return f"{parameter.name} {value}{' (doubtful)' if parameter.warning else ''}"


def _warnings(dataset: Dataset) -> Sequence[object]:
    return dataset.nx_meta.get("warnings") or ()


def _dataset(publication: Publication, dataset: Dataset) -> tuple[str, ...]:
    doubts = len(_warnings(dataset))
    return (
        _text(dataset.name),
        _text(moment_text(_saved(publication, dataset))),
        _text(str(dataset.nx_meta.get("DatasetType", ""))),
        _text(str(dataset.nx_meta.get("Data Type", ""))),
        _text(dataset.format),
        str(doubts) if doubts else "",
    )


def _saved(publication: Publication, dataset: Dataset) -> datetime:
    try:
        return datetime.fromisoformat(str(dataset.nx_meta["Creation Time"])).astimezone(publication.zone)
    except (KeyError, ValueError, OverflowError):
        return _moment(publication, dataset.modified_ns)


def _pictures(publication: Publication, picture: Picture | None, most: int, most_bytes: int) -> Iterator[str]:
    if picture is None:
        return
    previews = publication.previews()
    shown: list[str] = []
    for dataset, path in previews:
        size = path.stat().st_size
        if len(shown) >= most or size > most_bytes:
            continue
        if src := picture(dataset, path):
            most_bytes -= size
            shown.append(f'<p><img src="{escape(src)}" alt="{_text(dataset.name)}"> {_text(dataset.name)}</p>')
    if shown:
        yield "<h3>Previews</h3>"
        yield from shown
    if left_out := len(previews) - len(shown):
        yield f"<p>{left_out} previews are left out here.</p>"


def _refused(publication: Publication) -> list[str]:
    refused = sorted(publication.refused, key=lambda entry: entry.location)
    if not refused:
        return []
    rows = ((_text(entry.location), _text(entry.status), _text(entry.reason)) for entry in refused[:MOST_LINES])
    return [
        "<h3>Files of this session that are not in the record</h3>",
        _table(("Location", "Status", "Reason"), rows),
        *_left_out(len(refused) - MOST_LINES, "files are"),
    ]
