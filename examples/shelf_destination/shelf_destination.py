"""What a facility may add to nexuslims-pipeline without changing it: a destination of its own.

The shelf is a WebDAV folder (RFC 4918), as Apache and Nextcloud offer them. Each session has two files there: the
record, and a page with links to its other copies. The record's name is the session's key, so whatever was done before
is found again by its name, and sending a file twice does no more than sending it once.
"""

import os
from html import escape
from typing import ClassVar, Self

from pydantic import SecretStr

from nexuslims_pipeline.configuration import Settings
from nexuslims_pipeline.instruments import ConfigurationError
from nexuslims_pipeline.publication.model import Publication
from resources.destinations.base import Destination, DestinationError, Remote
from resources.destinations.server import Server
from resources.web import HeaderToken

GONE = 404


class Shelf(Destination):
    """The record of a session as a file on the facility's shelf.

    Parameters
    ----------
    url
        Folder on the WebDAV server; it must be there.
    token
        Bearer token of somebody who may write there.
    verify
        Whether to check certificates, or the file with further authorities.
    """

    name: ClassVar[str] = "shelf"
    asset_name: ClassVar[str] = "shelf_file"
    label: ClassVar[str] = "Shelf file"
    version: ClassVar[str] = "1"
    shows_links_of: ClassVar[tuple[str, ...]] = ("cdcs",)
    variables: ClassVar[tuple[str, ...]] = ("NX_SHELF_URL", "NX_SHELF_TOKEN")

    def __init__(self, url: str, token: SecretStr, *, verify: bool | str = True) -> None:
        self._url = url.rstrip("/") + "/"
        self._server = Server(
            f"the shelf at {self._url}",
            self._url,
            settings={"address": "NX_SHELF_URL", "token": "NX_SHELF_TOKEN"},
            auth=HeaderToken(token, "Bearer "),
            secrets=(token,),
            verify=verify,
        )

    @classmethod
    def configured(cls, site: Settings) -> Self | None:
        """Make the shelf of ``NX_SHELF_URL`` and ``NX_SHELF_TOKEN``; None without both."""
        url, token = (os.environ.get(name, "").strip() for name in cls.variables)
        if not (url or token):
            return None
        if not (url.startswith(("http://", "https://")) and token):
            msg = "NX_SHELF_URL (http://... or https://...) and NX_SHELF_TOKEN belong together; set both or none."
            raise ConfigurationError(msg)
        return cls(url, SecretStr(token), verify=site.verify)

    def in_words(self) -> str:
        """Which shelf: another one is filled anew."""
        return self._url

    def find(self, key: str, address: str) -> list[Remote]:  # noqa: ARG002 - one shelf holds all sessions
        """Look for the record's file."""
        answer = self._server.call("HEAD", _record(key), expect=(200, GONE))
        return [] if answer.status == GONE else [self._remote(key)]

    def create(self, publication: Publication) -> Remote:
        """Put both files: the record first, since `find` looks for it."""
        self._put(_record(publication.key), publication.xml, "application/xml")
        self._put(_page(publication.key), page(publication), "text/html; charset=utf-8")
        return self._remote(publication.key)

    def update(self, remote: Remote, publication: Publication) -> Remote:  # noqa: ARG002 - the key names the files
        """Put both files again, whatever is there."""
        return self.create(publication)

    def withdraw(self, remote: Remote) -> None:
        """Remove both files: the record last, so that `find` sees what a cut-off withdrawal leaves."""
        for name in (_page(remote.id), _record(remote.id)):
            self._server.call("DELETE", name, expect=(200, 204, GONE))

    def check(self) -> list[str]:
        """Whether the folder is there and the token is accepted."""
        try:
            self._server.call("PROPFIND", "", expect=(207,), repeat=True, headers={"Depth": "0"})
        except DestinationError as fault:
            return [str(fault)]
        return []

    def _put(self, name: str, content: bytes, kind: str) -> None:
        # Not 200: so answers a page to log in, whatever is asked.
        self._server.call("PUT", name, expect=(201, 204), data=content, headers={"Content-Type": kind})

    def _remote(self, key: str) -> Remote:
        return Remote(id=key, url=self._url + _page(key))


def page(publication: Publication) -> bytes:
    """A page with the title and the links; every text in it is somebody else's."""
    links = {"Record": _record(publication.key)} | {link.label: link.url for link in publication.links.values()}
    items = "".join(f'<li><a href="{escape(url)}">{escape(label)}</a></li>\n' for label, url in links.items())
    title = escape(publication.title)
    return f'<!doctype html>\n<html lang="en"><title>{title}</title>\n<h1>{title}</h1>\n<ul>\n{items}</ul>\n'.encode()


def _record(key: str) -> str:
    return f"{key}.xml"


def _page(key: str) -> str:
    return f"{key}.html"
