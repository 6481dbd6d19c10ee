"""The destination of files: for each session an RO-Crate (``.eln``) and its citation for DataCite, in a folder.

Both lie at ``<folder>/<year>/<session key>``, so that a copy is found by its name alone.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Self

from nexuslims_pipeline.configuration import Settings
from nexuslims_pipeline.files import is_vacant, json_bytes, leftovers, sync_folder, write_bytes
from nexuslims_pipeline.instruments import ConfigurationError
from nexuslims_pipeline.publication.crate import crate_bytes
from nexuslims_pipeline.publication.datacite import datacite
from nexuslims_pipeline.publication.model import Publication
from nexuslims_pipeline.sessions.keys import parse_key
from resources.destinations.base import (
    Destination,
    DestinationRefusedError,
    DestinationUnavailableError,
    Remote,
)

CRATE, CITATION = ".eln", ".datacite.json"
BEGINNING = 4096
"""Bytes of a file in which its session's key stands."""


class Crates(Destination):
    """Crates in a folder.

    Parameters
    ----------
    folder
        Root of all crates.
    facility
        Name of the facility, as publisher.
    doi_prefix
        Prefix of the identifiers.
    place
        Where the folder lies, seen from the store: in another one all crates are made anew.
    """

    name: ClassVar[str] = "crates"
    asset_name: ClassVar[str] = "ro_crate"
    label: ClassVar[str] = "RO-Crate"
    version: ClassVar[str] = "1"
    shows_links_of: ClassVar[tuple[str, ...]] = ("cdcs",)
    made_of: ClassVar[tuple[str, ...]] = ("file_inventory", "file_metadata", "activities")
    workers: ClassVar[int] = 2
    """Few, because each holds a whole crate in memory."""

    def __init__(self, folder: Path, facility: str, doi_prefix: str, *, place: str = "") -> None:
        self._folder = folder
        self._place = place
        self._facility = facility
        self._doi_prefix = doi_prefix

    @classmethod
    def configured(cls, site: Settings) -> Self | None:
        """Make it when NX_CRATES_PATH is set."""
        if site.crates_path is None:
            return None
        if not re.fullmatch(r"10\.[0-9]{4,9}", site.crates_doi_prefix):
            msg = f"NX_CRATES_DOI_PREFIX: '{site.crates_doi_prefix}' is no DOI prefix; it looks like 10.5072."
            raise ConfigurationError(msg)
        place = os.path.relpath(site.crates_path, site.data_path)
        return cls(site.crates_path, site.facility_name, site.crates_doi_prefix, place=place)

    def in_words(self) -> str:
        """Folder, publisher and prefix."""
        return f"{self._place}, {self._facility}, {self._doi_prefix}"

    def find(self, key: str, address: str) -> list[Remote]:  # noqa: ARG002
        """The crate of a session, also when one of its files is missing or was not written to the end."""
        with self._told():
            there = [path.exists() for path in self._paths(key)]
            leftovers = self._leftovers(key)
        if not any(there) and not leftovers:
            return []
        return [self._remote(key).model_copy(update={"is_whole": all(there) and not leftovers})]

    def is_copy(self, remote: Remote, key: str) -> bool:
        """Never: a crate goes by its name. But where a share is not mounted, nobody can say that a crate is gone."""
        with self._told():
            is_lost = is_vacant(self._folder) and remote.url == self._remote(key).url
        if is_lost:
            msg = (
                f"NX_CRATES_PATH: {self._folder} is empty, although crates were kept there; look whether it is mounted."
            )
            raise DestinationUnavailableError(msg)
        return False

    def create(self, publication: Publication) -> Remote:
        """Write the two files, each whole or not at all."""
        return self._write(publication)

    def update(self, remote: Remote, publication: Publication) -> Remote:  # noqa: ARG002
        """Write those of the two files that differ."""
        return self._write(publication)

    def withdraw(self, remote: Remote) -> None:
        """Remove both files, and what a write that was cut short left behind."""
        with self._told():
            for path in (*self._leftovers(remote.id), *self._paths(remote.id)):
                path.unlink(missing_ok=True)
            if (year := self._paths(remote.id)[0].parent).is_dir():
                sync_folder(year)

    def check(self) -> list[str]:
        """Whether the folder can be written."""
        there = next(path for path in (self._folder, *self._folder.parents) if path.exists())
        if not there.is_dir():
            return [f"NX_CRATES_PATH: {there} is no folder; choose another one."]
        if not os.access(there, os.W_OK | os.X_OK):
            return [f"NX_CRATES_PATH: {there} cannot be written; give the pipeline's account the right to."]
        return []

    def _paths(self, key: str) -> tuple[Path, Path]:
        folder = self._folder / f"{parse_key(key).start_date.year:04}"
        return folder / f"{key}{CRATE}", folder / f"{key}{CITATION}"

    def _remote(self, key: str) -> Remote:
        return Remote(id=key, url=self._paths(key)[0].as_uri())

    def _write(self, publication: Publication) -> Remote:
        crate, citation = self._paths(publication.key)
        with self._told():
            for path in self._leftovers(publication.key):
                path.unlink(missing_ok=True)
            write_bytes(citation, json_bytes(datacite(publication, self._facility, self._doi_prefix)))
            write_bytes(crate, crate_bytes(publication, self._facility, self._doi_prefix))
        return self._remote(publication.key)

    def _leftovers(self, key: str) -> list[Path]:
        """A session's temporary files; nobody writes them now, as a session is published by one run at a time."""
        return leftovers(self._paths(key)[0].parent, f"{key}/", f'"{key}"', within=BEGINNING)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (PermissionError, NotADirectoryError, IsADirectoryError) as fault:
            msg = f"Crates cannot be kept in NX_CRATES_PATH: {fault}; correct the path or the rights of its folder."
            raise DestinationRefusedError(msg) from fault
        except OSError as fault:
            msg = f"The folder NX_CRATES_PATH does not work for now: {fault}; look whether it is mounted and has room."
            raise DestinationUnavailableError(msg) from fault
