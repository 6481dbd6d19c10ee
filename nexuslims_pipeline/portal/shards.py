"""What a browser is told of the sessions of a month: the shards of the portal's index.

A shard is a script, since browsers do not read other files from a ``file://`` page: it calls
``nexusIndex(month, part, revision, content)`` with JSON of pure ASCII. `revision` is a digest of the month's sessions,
the same in its five shards and in the front page, which so notices when it is older than the index. Lists have one item
per session, newest first; items of one session stand at the same place in all parts.

===========  ===========================================================================================================
Part         Content, and when the page loads it
===========  ===========================================================================================================
``facets``   What is filtered and counted; all months, newest first. ``from``: start of the newest session, minutes
             since 1970. Packed: ``start``, minutes before the session before; ``length``, minutes; ``offset``, minutes
             east of Greenwich and 1440; ``datasets``. For each of `FACETS` of this part ``names``, distinct and sorted,
             and ``of``, packed: per session how many names it has, and their numbers.
``more``     The rest of `FACETS`, likewise; loaded when one of them is opened.
``rows``     What the list shows; the months in view. ``key``, ``title``, ``motivation`` (its beginning), ``samples``,
             ``project``, ``thumbnail``, ``types`` (number of datasets of each of the session's dataset types, in the
             order of ``facets``), ``activities``, ``refused``, ``warnings``.
``numbers``  By field: ``[sessions, spans]``, one item per span of values, a session repeated for its further ones. A
             span is one number or a pair. Loaded when numbers are searched for.
``words``    Text of each session, folded as in `folded`: title, then all else, one line each. Loaded when text is
             searched for.
===========  ===========================================================================================================

A packed column is a string of whole numbers, each written in digits of base 46, the lowest first: `DIGITS` has 46 signs
for a number's last digit, then 46 for all others.
"""

import hashlib
import json
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from nexuslims_pipeline.portal.summary import Span, Summary

VERSION: Final = "1"
"""Raised whenever the same summaries give other shards."""
EXCERPT_CHARACTERS: Final = 240
"""Of the motivation, in a list."""

DIGITS: Final = "".join(map(chr, range(33, 127))).replace('"', "").replace("\\", "")
BASE: Final = len(DIGITS) // 2


class Facet(NamedTuple):
    """What a session is filed under."""

    part: str
    """Of the shards: what few open stays out of the way."""
    names: Callable[[Summary], Iterable[str]]


FACETS: Final[Mapping[str, Facet]] = {
    "instrument": Facet("facets", lambda s: [s.instrument]),
    "person": Facet("facets", lambda s: s.people),
    "dataset_type": Facet("facets", lambda s: s.dataset_types),
    "data_type": Facet("facets", lambda s: s.data_types),
    "element": Facet("facets", lambda s: s.elements),
    "sample": Facet("more", lambda s: s.samples),
    "project": Facet("more", lambda s: [s.project] if s.project else []),
    "format": Facet("more", lambda s: s.formats),
    "extension": Facet("more", lambda s: s.extensions),
}
"""Besides the dates, which need no names."""


def folded(text: str) -> str:
    """Text as it is compared: without accents and in lower case; ``site/front-query.js`` folds queries alike."""
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(letter for letter in decomposed if unicodedata.category(letter) != "Mn").lower()


class Shards(NamedTuple):
    """The shards of a month."""

    revision: str
    parts: dict[str, bytes]


def month_shards(month: str, summaries: Sequence[Summary]) -> Shards:
    """Shards of a month from its sessions, in their order; the same ones give the same bytes."""
    content = {
        "facets": _times(summaries) | _filed("facets", summaries),
        "more": _filed("more", summaries),
        "rows": _rows(summaries),
        "numbers": _numbers(summaries),
        "words": [_words(summary) for summary in summaries],
    }
    texts = {part: _json(value) for part, value in content.items()}
    revision = hashlib.sha256("\n".join((VERSION, *texts.values())).encode()).hexdigest()[:12]
    head = f"{json.dumps(month)},%s,{json.dumps(revision)}"
    parts = {part: f"nexusIndex({head % json.dumps(part)},{text});\n".encode("ascii") for part, text in texts.items()}
    return Shards(revision, parts)


def _times(summaries: Sequence[Summary]) -> dict[str, Any]:
    starts = [_minutes(summary.start) for summary in summaries]
    return {
        "from": starts[0],
        "start": packed(before - start for before, start in zip([starts[0], *starts], starts, strict=False)),
        "length": packed(max(0, _minutes(s.end) - start) for s, start in zip(summaries, starts, strict=True)),
        "offset": packed(1440 + _offset(summary.start) for summary in summaries),
        "datasets": packed(summary.datasets for summary in summaries),
    }


def _minutes(moment: datetime) -> int:
    return int(moment.timestamp() // 60)


def _offset(moment: datetime) -> int:
    return int((moment.utcoffset() or timedelta()).total_seconds() // 60)


def _filed(part: str, summaries: Sequence[Summary]) -> dict[str, Any]:
    """Facets of a part: their names, and each session's as numbers of them."""
    return {
        facet: _named([tuple(names_of(summary)) for summary in summaries])
        for facet, (its_part, names_of) in FACETS.items()
        if its_part == part
    }


def _named(names: Sequence[Sequence[str]]) -> dict[str, Any]:
    distinct = sorted({name for each in names for name in each})
    number = {name: n for n, name in enumerate(distinct)}
    return {"names": distinct, "of": packed(n for each in names for n in (len(each), *(number[name] for name in each)))}


def packed(numbers: Iterable[int]) -> str:
    """Whole numbers, none negative, as a string: see the module's text."""
    signs = []
    for number in numbers:
        rest = number
        while rest >= BASE:
            signs.append(DIGITS[BASE + rest % BASE])
            rest //= BASE
        signs.append(DIGITS[rest])
    return "".join(signs)


def _rows(summaries: Sequence[Summary]) -> dict[str, Any]:
    return {
        "key": [s.key for s in summaries],
        "title": [s.title for s in summaries],
        "motivation": [_excerpt(s.motivation) for s in summaries],
        "samples": [list(s.samples) for s in summaries],
        "project": [s.project for s in summaries],
        "thumbnail": [s.thumbnail for s in summaries],
        "types": [list(s.dataset_types.values()) for s in summaries],
        "activities": [s.activities for s in summaries],
        "refused": [s.refused for s in summaries],
        "warnings": [s.warnings for s in summaries],
    }


def _excerpt(text: str) -> str:
    return text if len(text) <= EXCERPT_CHARACTERS else text[: EXCERPT_CHARACTERS - 1].rstrip() + "…"


def _numbers(summaries: Sequence[Summary]) -> dict[str, Any]:
    columns: defaultdict[str, tuple[list[int], list[Any]]] = defaultdict(lambda: ([], []))
    for place, summary in enumerate(summaries):
        for field, those in summary.numbers.items():
            column = columns[field]
            column[0].extend([place] * len(those))
            column[1].extend(map(_span, those))
    return dict(sorted(columns.items()))


def _span(span: Span) -> Any:
    low, high = (int(number) if number.is_integer() and abs(number) < 1e15 else number for number in span)
    return low if low == high else [low, high]


def _words(s: Summary) -> str:
    lines: list[Iterable[str]] = [
        [s.title],
        [*s.people, s.instrument, s.instrument_id, s.project, *s.samples, *s.elements],
        [s.motivation, *s.sample_descriptions],
        [*s.dataset_types, *s.data_types, *s.formats],
        [*s.file_names, *s.extensions, s.key],
    ]
    return folded("\n".join(" · ".join(filter(None, line)) for line in lines))


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
