"""The index that the front page searches, on disk: built bit by bit, read by a browser without any server.

Below the portal's folder:

=====================================  =================================================================================
``index/sessions/<yyyy>/<key>.json``   The truth: one `Summary` per session. Each has one writer, so that none waits.
``index/<yyyy-mm>.<part>.js``          A shard: part of what is known of the sessions whose keys begin in a month; see
                                       `portal.shards`.
``index/shards.json``                  What the shards were made from: decides which are to be made again.
=====================================  =================================================================================

A month is the unit of change: a session that comes, changes or goes has its month's shards written again, no other.
"""

import fcntl
import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from nexuslims_pipeline.files import json_bytes, leftovers, write_bytes
from nexuslims_pipeline.portal.shards import VERSION, month_shards
from nexuslims_pipeline.portal.summary import Summary


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
        for abandoned in leftovers(path.parent, f'"{key}"'):
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
