"""Datasets of many files: from the cache where nothing changed, from the sandbox otherwise.

The sidecar of a file is its cache entry. It names what it was made from (the file's and its companions' sizes and
times, the readers' versions, the site's rules); as long as that holds, the raw file is not opened.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from nexuslims_pipeline.extraction.reading import AS_THEY_ARE, ReadFile, unread
from nexuslims_pipeline.extraction.registry import readers_version
from nexuslims_pipeline.extraction.sandbox import Sandbox
from nexuslims_pipeline.extraction.sidecar import preview_path, sidecar_path
from nexuslims_pipeline.extraction.site_rules import SiteRules
from nexuslims_pipeline.files import display_name, from_location, json_bytes, to_location, write_bytes
from nexuslims_pipeline.instruments import Instrument
from nexuslims_pipeline.inventory.model import InventoryEntry
from nexuslims_pipeline.metadata.checked import VERSION
from nexuslims_pipeline.metadata.dataset import Dataset
from nexuslims_pipeline.signals import Source


@dataclass(frozen=True, slots=True)
class FileDatasets:
    """What became of one file."""

    location: str
    datasets: tuple[Dataset, ...]
    error: str
    """Why the file could not be read; empty when it could."""
    cached: bool
    """Whether the raw file was left unopened."""
    transient: str = ""
    """Why the file should be read again although it has not changed since; empty when there is no need."""


@dataclass(frozen=True, slots=True)
class Library:
    """Where raw files are read from and where their sidecars and previews go."""

    root: Path
    """Root of instrument data."""
    folder: Path
    """``datasets`` folder of the store, a mirror of the raw tree."""
    limits: str = ""
    """What one file may cost: a file that could not be read is tried again when this changes."""
    rules: SiteRules = AS_THEY_ARE
    """How the site wants its files read."""


def extract_files(
    entries: Sequence[InventoryEntry],
    instrument: Instrument,
    library: Library,
    open_sandbox: Callable[[], AbstractContextManager[Sandbox]],
) -> Iterator[FileDatasets]:
    """Datasets of the given files, in their order.

    Parameters
    ----------
    entries
        Files to read, with their sizes, times and companions.
    instrument
        Whose clock the files' times are on.
    library
        Where to read and write.
    open_sandbox
        Makes the pool of children; called only when some file must be read.
    """
    cached = {entry.location: _from_cache(entry, instrument, library) for entry in entries}
    missing = [entry for entry in entries if cached[entry.location] is None]
    if not missing:
        yield from (found for found in cached.values() if found is not None)
        return
    before = {entry.location: identity(entry, instrument, library) for entry in missing}
    same = {entry.location: entry for entry in missing if _is_as_listed(entry, library.root)}
    with open_sandbox() as pool:
        fresh = iter(pool.read([_source(entry, instrument, library.root) for entry in same.values()]))
        for entry in entries:
            if (known := cached[entry.location]) is not None:
                yield known
            elif entry.location in same:
                yield _keep(entry, next(fresh), before[entry.location], instrument, library)
            else:
                yield _changed(entry, instrument, library)


def identity(entry: InventoryEntry, instrument: Instrument, library: Library) -> dict[str, Any]:
    """What a sidecar is made from: it is good as long as this stays the same."""
    clock = [instrument.time_zone, instrument.clock_offset_seconds]
    return {
        "location": entry.location,
        "size": entry.size,
        "modified_ns": entry.modified_ns,
        "companions": {location: _size_and_time(library.root, location) for location in entry.companions},
        "readers": readers_version(from_location(entry.location).suffix.lower()),
        "metadata": VERSION,
        "rules": library.rules.in_words(instrument.id),
        "instrument": [instrument.id, *clock, *(instrument.voltage_kv or ())],
    }


def _size_and_time(root: Path, location: str) -> list[int] | None:
    """Size in bytes and modification time in nanoseconds of a file; None when it is gone or out of reach."""
    try:
        status = os.lstat(root / from_location(location))
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


def _source(entry: InventoryEntry, instrument: Instrument, root: Path) -> Source:
    modified = datetime.fromtimestamp((entry.modified_ns or 0) // 1000 / 1e6, UTC)
    return Source(
        path=root / from_location(entry.location),
        modified=modified - timedelta(seconds=instrument.clock_offset_seconds),
        size=entry.size or 0,
        companions=tuple(root / from_location(location) for location in entry.companions),
        time_zone=instrument.time_zone,
        clock_offset_seconds=instrument.clock_offset_seconds,
        instrument_id=instrument.id,
        voltage_kv=instrument.voltage_kv,
    )


def _from_cache(entry: InventoryEntry, instrument: Instrument, library: Library) -> FileDatasets | None:
    try:
        elements = json.loads(sidecar_path(library.folder, entry.location).read_bytes())
        made_from = elements[0]["source"]
        if made_from["identity"] != identity(entry, instrument, library):
            return None
        if made_from["error"] and made_from["limits"] != library.limits:
            return None
        if any(
            element["preview"] and not (library.folder / from_location(element["preview"])).exists()
            for element in elements
        ):
            return None
        return _datasets(entry, elements, instrument, cached=True)
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _keep(
    entry: InventoryEntry, read: ReadFile, before: dict[str, Any], instrument: Instrument, library: Library
) -> FileDatasets:
    """Write the previews, then the sidecar that vouches for them; none for a file that changed meanwhile."""
    made_from = {"identity": before, "format": read.format, "error": read.error, "limits": library.limits}
    if not _is_as_listed(entry, library.root) or identity(entry, instrument, library) != before:
        return _changed(entry, instrument, library)
    count = len(read.elements)
    elements = []
    for index, (element, description, picture) in enumerate(
        zip(read.elements, read.descriptions, read.previews, strict=True)
    ):
        preview = None
        if picture is not None:
            path = preview_path(library.folder, entry.location, index, count)
            write_bytes(path, picture)
            preview = to_location(path.relative_to(library.folder))
        elements.append(element | {"source": made_from, "description": description, "preview": preview})
    if not read.transient:
        try:
            write_bytes(sidecar_path(library.folder, entry.location), json_bytes(elements))
        except IsADirectoryError:  # a raw folder bears the sidecar's name: the file is read again next time
            reason = "It could not be written: a folder of raw files has its name"
            elements[0]["nx_meta"]["warnings"].append({"field": "Sidecar", "reason": reason})
    found = _datasets(entry, elements, instrument, cached=False)
    return replace(found, transient=read.error) if read.transient else found


def _changed(entry: InventoryEntry, instrument: Instrument, library: Library) -> FileDatasets:
    """A file that is not the one that was listed: it may belong to somebody else by now."""
    reason = "it changed or vanished after it was listed"
    read = unread(_source(entry, instrument, library.root), reason)
    made_from = {"format": read.format, "error": reason}
    elements = [element | {"source": made_from, "description": "", "preview": None} for element in read.elements]
    return replace(_datasets(entry, elements, instrument, cached=False), transient=reason)


def _is_as_listed(entry: InventoryEntry, root: Path) -> bool:
    return _size_and_time(root, entry.location) == [entry.size, entry.modified_ns]


def _datasets(
    entry: InventoryEntry, elements: list[dict[str, Any]], instrument: Instrument, *, cached: bool
) -> FileDatasets:
    name = display_name(from_location(entry.location))
    count = len(elements)
    offset_ns = round(instrument.clock_offset_seconds * 1e9)
    datasets = tuple(
        Dataset(
            location=entry.location,
            modified_ns=(entry.modified_ns or 0) - offset_ns,
            size=entry.size or 0,
            index=index,
            count=count,
            name=name if count == 1 else f"{name} ({index + 1} of {count})",
            format=element["source"]["format"],
            description=element["description"],
            preview=element["preview"],
            nx_meta=element["nx_meta"],
        )
        for index, element in enumerate(elements)
    )
    return FileDatasets(entry.location, datasets, elements[0]["source"]["error"], cached)
