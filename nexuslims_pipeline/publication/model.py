"""One session as a destination receives it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from zoneinfo import ZoneInfo

from nexuslims_pipeline.activities.model import Activity
from nexuslims_pipeline.extraction.sidecar import sidecar_path
from nexuslims_pipeline.files import from_location
from nexuslims_pipeline.instruments import Instrument
from nexuslims_pipeline.inventory.model import InventoryEntry
from nexuslims_pipeline.metadata.dataset import Dataset
from nexuslims_pipeline.records.build import record_title
from nexuslims_pipeline.sessions.model import Person, Session


@dataclass(frozen=True)
class Link:
    """A copy of the session at another destination."""

    label: str
    """What it is, for people, e.g. ``CDCS record``."""
    url: str


@dataclass(frozen=True)
class Origin:
    """What a record was made of and by which rules, for its provenance."""

    usage_fingerprint: str
    """SHA-256 of NEMO's answers."""
    code_versions: Mapping[str, str]
    """Version of the code of each stage, by stage."""
    readers: Mapping[str, str]
    """Versions of the readers, by the location of the file they read."""
    clustering_rule: str
    """The site's choice of how finely sessions are parted."""
    boundaries: tuple[float, ...]
    """Times that part the activities, seconds since 1970."""
    site_rules: str
    """The site's profiles and wishes for the instrument's files."""


@dataclass(frozen=True)
class Publication:
    """A session with its record, all of it at hand: no server is asked for more."""

    key: str
    """The session's key; every destination finds its copy again by it."""
    xml: bytes
    """The record."""
    session: Session
    instrument: Instrument
    datasets: tuple[Dataset, ...]
    activities: tuple[Activity, ...]
    files: tuple[InventoryEntry, ...]
    """All entries of the session's inventory."""
    datasets_folder: Path
    """Folder of sidecars and previews."""
    origin: Origin
    links: Mapping[str, Link] = field(default_factory=dict)
    """Copies at those other destinations whose links this one shows, as far as they are there."""

    @cached_property
    def title(self) -> str:
        """Title of the record."""
        return record_title(self.session, self.instrument.name, self.zone)

    @property
    def zone(self) -> ZoneInfo:
        """Zone of the instrument, for all times that people read."""
        return ZoneInfo(self.instrument.time_zone)

    @property
    def start(self) -> datetime:
        """Start of the session, where the instrument stands."""
        return self.session.start.astimezone(self.zone)

    @property
    def end(self) -> datetime:
        """End of the session, where the instrument stands."""
        return self.session.end.astimezone(self.zone)

    @property
    def people(self) -> tuple[Person, ...]:
        """User and, when it was somebody else, operator."""
        people = {person.username: person for person in (self.session.user, self.session.operator) if person}
        return tuple(people.values())

    @property
    def refused(self) -> tuple[InventoryEntry, ...]:
        """Files that are not in the record, with their reasons."""
        return tuple(entry for entry in self.files if entry.status in ("refused", "contested"))

    def previews(self) -> list[tuple[Dataset, Path]]:
        """Datasets in the order of the activities, each with its preview; only those whose preview is there."""
        order = {location: n for n, a in enumerate(self.activities) for location in a.locations}
        found = []
        for dataset in sorted(self.datasets, key=lambda d: (order.get(d.location, -1), d.location, d.index)):
            path = self.datasets_folder / from_location(dataset.preview) if dataset.preview else None
            if path is not None and path.is_file():
                found.append((dataset, path))
        return found

    def sidecars(self) -> dict[str, Path]:
        """Sidecars that are there, by the location of their raw file."""
        paths = {d.location: sidecar_path(self.datasets_folder, d.location) for d in self.datasets}
        return {location: path for location, path in sorted(paths.items()) if path.is_file()}
