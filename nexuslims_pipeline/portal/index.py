"""The index that the front page searches, on disk: built bit by bit, read by a browser without any server.

Below the portal's folder:

======================================  ===========================================================================================================
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

A month is the unit of change: a session that comes, changes or goes has its month's shards written again, no other.
"""

import fcntl
import hashlib
import json
import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from nexuslims_pipeline.files import json_bytes, write_bytes
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


@dataclass(frozen=True, slots=True)
class Report:
    """What a refresh did."""

    sessions: int
    """In the index now."""
    rewritten: tuple[str, ...]
    """Months whose shards were made again, sorted."""
    removed: tuple[str, ...]
    """Months that hold no session any more, sorted."""
    unreadable: tuple[Path, ...]
    """Files that are no summary (of this version): their sessions are missing until they are put again."""


class Month(NamedTuple):
    """A month as the front page is told of it."""

    name: str
    """``2026-03``."""
    revision: str
    sessions: int


class _Source(NamedTuple):
    """A session's file as it was found."""

    path: Path
    signature: tuple[str, int, int, int]


class PortalIndex:
    """The index below a portal's folder.

    Sessions may be put and removed by many processes at once. What they did is seen by readers after a refresh; a
    refresh that was cut off is made good by the next one.
    """

    def __init__(self, portal: Path) -> None:
        self._folder = portal / "index"
        self._sessions = self._folder / "sessions"

    def put(self, summary: Summary) -> bool:
        """Keep what is known of a session; returns whether that is new."""
        return write_bytes(self._path(summary.key), summary.model_dump_json().encode())

    def remove(self, key: str) -> bool:
        """Forget a session; returns whether it was known. What a writer that was killed left of it goes too."""
        path = self._path(key)
        for abandoned in path.parent.glob(".*.tmp"):
            if _mentions(abandoned, key):
                abandoned.unlink(missing_ok=True)
        known = path.exists()
        path.unlink(missing_ok=True)
        return known

    def knows(self, key: str) -> bool:
        """Whether a session was put."""
        return self._path(key).exists()

    def changed_at_ns(self) -> int:
        """When a session last came, changed or went, nanoseconds since 1970; 0 when there never was one."""
        years = self._sessions.glob("[0-9][0-9][0-9][0-9]")
        return max((year.stat().st_mtime_ns for year in years), default=0)

    def keys(self) -> list[str]:
        """Sessions that are known, sorted."""
        return sorted(source.path.stem for sources in self._found().values() for source in sources)

    def months(self) -> list[Month]:
        """Months as of the last refresh, newest first."""
        known = self._known()
        return [Month(name, known[name]["revision"], known[name]["sessions"]) for name in sorted(known, reverse=True)]

    def newest(self, most: int) -> list[Summary]:
        """The newest sessions as of now, newest first."""
        found = self._found()
        newest: list[Summary] = []
        for month in sorted(found, reverse=True):
            if len(newest) >= most:
                break
            newest += _read(found[month])[0]
        return newest[:most]

    def refresh(self) -> Report:
        """Make again what is not of today: shards of months in which a session came, changed or went.

        Raises
        ------
        OSError
            When the folder cannot be read or written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._alone():
            for abandoned in self._folder.glob(".*.tmp"):
                abandoned.unlink(missing_ok=True)
            return self._refresh()

    def _refresh(self) -> Report:
        found, known = self._found(), self._known()
        rewritten, unreadable = [], []
        now: dict[str, dict[str, Any]] = {}
        for month, sources in sorted(found.items()):
            digest = _digest(sources)
            if known.get(month, {}).get("sources") == digest and self._is_whole(month, known[month]["bytes"]):
                now[month] = known[month]
                continue
            summaries, faulty = _read(sources)
            unreadable += faulty
            if summaries:
                now[month], is_new = self._write(month, summaries)
                now[month]["sources"] = "" if faulty else digest
                rewritten += [month] if is_new else []
        removed = self._remove_all_but(now)
        write_bytes(self._state_path, json_bytes({"version": VERSION, "months": now}))
        return Report(
            sessions=sum(month["sessions"] for month in now.values()),
            rewritten=tuple(rewritten),
            removed=tuple(sorted(removed)),
            unreadable=tuple(unreadable),
        )

    def _path(self, key: str) -> Path:
        return self._sessions / key[:4] / f"{key}.json"

    @property
    def _state_path(self) -> Path:
        return self._folder / "shards.json"

    def _known(self) -> dict[str, dict[str, Any]]:
        """What the shards were made from; nothing if they are of another version."""
        try:
            state = json.loads(self._state_path.read_bytes())
            return dict(state["months"]) if state["version"] == VERSION else {}
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return {}

    def _found(self) -> dict[str, list[_Source]]:
        """Files of the sessions, by month, each month's sorted by name."""
        found: defaultdict[str, list[_Source]] = defaultdict(list)
        for year in sorted(self._sessions.glob("[0-9][0-9][0-9][0-9]")):
            with os.scandir(year) as entries:
                for entry in entries:
                    if entry.name.endswith(".json"):
                        found[entry.name[:7]] += _sources(entry)
        return {month: sorted(sources) for month, sources in found.items() if sources}

    def _is_whole(self, month: str, sizes: Mapping[str, int]) -> bool:
        """Whether the shards of a month are all there."""
        try:
            return all(self._shard_path(month, part).stat().st_size == size for part, size in sizes.items())
        except FileNotFoundError:
            return False

    def _shard_path(self, month: str, part: str) -> Path:
        return self._folder / f"{month}.{part}.js"

    def _write(self, month: str, summaries: Sequence[Summary]) -> tuple[dict[str, Any], bool]:
        """Write the shards of a month; returns what they are, and whether they changed."""
        shards = month_shards(month, summaries)
        changes = [write_bytes(self._shard_path(month, part), content) for part, content in shards.parts.items()]
        sizes = {part: len(content) for part, content in shards.parts.items()}
        return {"revision": shards.revision, "sessions": len(summaries), "bytes": sizes}, any(changes)

    def _remove_all_but(self, months: Iterable[str]) -> set[str]:
        """Remove the shards of all other months."""
        kept, removed = set(months), set()
        for path in self._folder.glob("*.js"):
            if (month := path.name[:7]) not in kept:
                path.unlink(missing_ok=True)
                removed.add(month)
        return removed

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait for another refresh to end; a lock ends with its process."""
        with (self._folder / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def folded(text: str) -> str:
    """Text as it is compared: without accents and in lower case; ``site/front-search.js`` folds queries alike."""
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


def _sources(entry: "os.DirEntry[str]") -> list[_Source]:
    """A session's file; none if it went at this moment."""
    try:
        about = entry.stat()
    except FileNotFoundError:
        return []
    return [_Source(Path(entry.path), (entry.name, about.st_size, about.st_mtime_ns, about.st_ino))]


def _digest(sources: Iterable[_Source]) -> str:
    return hashlib.sha256(repr([source.signature for source in sources]).encode()).hexdigest()


def _read(sources: Iterable[_Source]) -> tuple[list[Summary], list[Path]]:
    """Summaries of a month, newest first, and the files that hold none."""
    summaries, unreadable = [], []
    for path, _ in sources:
        summary: Summary | None
        try:
            summary = Summary.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            continue
        except ValidationError:
            summary = None
        if summary is None or summary.key != path.stem:
            unreadable.append(path)
        else:
            summaries.append(summary)
    return sorted(summaries, key=lambda summary: (-summary.start.timestamp(), summary.key)), unreadable


def _mentions(path: Path, key: str) -> bool:
    try:
        return key.encode() in path.read_bytes()
    except FileNotFoundError:
        return False
