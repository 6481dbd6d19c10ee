"""The portal: a page for each session and a front page that searches them, in a folder that any browser can read."""

import hashlib
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import ClassVar, Self
from urllib.parse import quote

from nexuslims_pipeline.configuration import Settings
from nexuslims_pipeline.files import is_vacant, leftovers, sync_folder, write_bytes
from nexuslims_pipeline.portal.files import site_files
from nexuslims_pipeline.portal.front import front_page
from nexuslims_pipeline.portal.index import PortalIndex, Report
from nexuslims_pipeline.portal.page import STYLESHEETS, Places, record_page
from nexuslims_pipeline.portal.summary import summary
from nexuslims_pipeline.publication.model import Publication
from resources.destinations.base import Destination, DestinationUnavailableError, Remote
from resources.destinations.pace import alone


class Portal(Destination):
    """The session's page in the portal: all that the record tells, with previews, for whoever took the data.

    Parameters
    ----------
    folder
        The portal's folder.
    folders
        Folders that pages link to, by their name in `nexuslims_pipeline.portal.page.Places`: as addresses, or as paths
        from which relative ones are made.
    facility
        Name of the facility, for the front page.
    place
        Where the folder lies, seen from the store: in another one all pages are made anew.
    """

    name: ClassVar[str] = "portal"
    asset_name: ClassVar[str] = "record_page"
    label: ClassVar[str] = "Page"
    version: ClassVar[str] = "1"
    counts: ClassVar[bool] = False

    def __init__(self, folder: Path, folders: dict[str, str | Path], facility: str, *, place: str = "") -> None:
        self.folder = folder
        self._place = place
        self._folders = folders
        self._facility = facility
        self._index = PortalIndex(folder)

    @classmethod
    def configured(cls, site: Settings) -> Self | None:
        """Make the portal, unless ``NX_PORTAL=false``."""
        if not site.portal:
            return None
        folders: dict[str, str | Path] = {
            "datasets": site.datasets_url or site.data_path / "datasets",
            "raw": site.raw_url or site.instrument_data_path,
            "records": site.records_url or site.records_folder,
            "crates": site.crates_url or site.crates_path or "",
        }
        place = os.path.relpath(site.portal_folder, site.data_path)
        return cls(site.portal_folder, folders, site.facility_name, place=place)

    def in_words(self) -> str:
        """Where the pages are, where they link to, and the stylesheet that makes them."""
        return f"{self._place} {self.places(self.folder / '0000')} {_stylesheet_digest()}"

    def places(self, page_folder: Path) -> Places:
        """Addresses of all folders, from a page in the given one."""
        found = {
            name: where if isinstance(where, str) else quote(os.path.relpath(where, page_folder))
            for name, where in self._folders.items()
        }
        return Places(**found, home="../index.html")

    def find(self, key: str, address: str) -> list[Remote]:  # noqa: ARG002
        """The page of a session, also when only a part of it, or only its entry in the index, was written."""
        there = [self._page(key).exists(), self._index.knows(key)]
        abandoned = self._abandoned(key)
        if not any(there) and not abandoned:
            return []
        return [self._remote(key).model_copy(update={"is_whole": all(there) and not abandoned})]

    def is_copy(self, remote: Remote, key: str) -> bool:
        """Never: a page goes by its name. But where a share is not mounted, nobody can say that a page is gone."""
        try:
            is_lost = is_vacant(self.folder) and remote.url == self._remote(key).url
        except OSError as fault:
            raise DestinationUnavailableError(self._mend(fault)) from fault
        if is_lost:
            msg = f"The portal at {self.folder} is empty, although pages were kept there; look whether it is mounted."
            raise DestinationUnavailableError(msg)
        return False

    def create(self, publication: Publication) -> Remote:
        """Write the page, then its entry in the index."""
        page = self._page(publication.key)
        try:
            self._remove(self._abandoned(publication.key))
            write_bytes(page, record_page(publication.xml, self.places(page.parent)))
            self._index.put(summary(publication))
        except OSError as fault:
            raise DestinationUnavailableError(self._mend(fault)) from fault
        return self._remote(publication.key)

    def update(self, remote: Remote, publication: Publication) -> Remote:  # noqa: ARG002
        """Write what differs."""
        return self.create(publication)

    def withdraw(self, remote: Remote) -> None:
        """Remove the page, its entry, and what the front page and the index tell of it."""
        page = self._page(remote.id)
        try:
            self._remove([*self._abandoned(remote.id), page])
            self._index.remove(remote.id)
            self.refresh()
            if page.parent.is_dir():
                sync_folder(page.parent)
        except OSError as fault:
            raise DestinationUnavailableError(self._mend(fault)) from fault

    def refresh(self) -> Report:
        """Make the front page and those parts of the index whose sessions changed."""
        # One at a time: of two, the one that still knows of a withdrawn session must not be the last to write.
        with alone(self.folder / ".lock"):
            self._remove(self.folder.glob(".*.tmp"))
            for name, content in site_files().items():
                write_bytes(self.folder / "site" / name, content)
            report = self._index.refresh()
            datasets = self.places(self.folder).datasets
            write_bytes(self.folder / "index.html", front_page(self._index, facility=self._facility, datasets=datasets))
            return report

    def changed_at_ns(self) -> int:
        """When a session last came, changed or went; 0 when there is none."""
        return self._index.changed_at_ns()

    def check(self) -> list[str]:
        """Whether the portal's folder can be written."""
        existing = next(folder for folder in (self.folder, *self.folder.parents) if folder.exists())
        if existing.is_dir() and os.access(existing, os.W_OK):
            return []
        return [f"Nothing can be written to {existing}; change its owner, or NX_PORTAL_PATH."]

    def _page(self, key: str) -> Path:
        return self.folder / key[:4] / f"{key}.html"

    def _abandoned(self, key: str) -> list[Path]:
        """Pages of a session that were not written to the end: nobody else writes one while this is asked."""
        return leftovers(self.folder / key[:4], f'"{key}"')

    @staticmethod
    def _remove(paths: Iterable[Path]) -> None:
        for path in paths:
            path.unlink(missing_ok=True)

    def _remote(self, key: str) -> Remote:
        return Remote(id=key, url=self._page(key).as_uri())

    def _mend(self, fault: OSError) -> str:
        return f"The portal at {self.folder} cannot be written ({fault.strerror}); free space, or change its owner."


@cache
def _stylesheet_digest() -> str:
    return hashlib.sha256((STYLESHEETS / "record.xsl").read_bytes()).hexdigest()[:16]
