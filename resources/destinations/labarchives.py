"""LabArchives: a page per session in an electronic lab notebook, with the record attached.

``NexusLIMS Records`` / <instrument> / <session key>: the page is found again by its name, our entries on it by what
they say of themselves; whatever people add to the page is left alone. Users of the site's table have their sessions
in a notebook of their own, all others in that of the service account.

The API (methods, names, signature): https://mynotebook.labarchives.com/share/LabArchives%20API/NS4yfDI3LzQvVHJlZU5vZGUvMTF8MTMuMg,
as its public clients use it, e.g. https://github.com/nimh-dsst/labarchives-api. It has no call that deletes an entry
or a page. So a copy is withdrawn by replacing what it holds, and by renaming its page; LabArchives itself keeps the
earlier revisions until an administrator of the notebook removes them.
"""

import base64
import hashlib
import hmac
import logging
import re
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import quote, urlencode, urlsplit

import requests
import yaml
from pydantic import BaseModel, ConfigDict, Field, RootModel, SecretStr, ValidationError
from requests.auth import AuthBase

from nexuslims_pipeline.configuration import Settings
from nexuslims_pipeline.instruments import ConfigurationError, repeated_keys
from nexuslims_pipeline.metadata.dataset import Dataset
from nexuslims_pipeline.publication.model import Publication
from nexuslims_pipeline.publication.page import page
from nexuslims_pipeline.records.text import clean
from nexuslims_pipeline.sessions.keys import instrument_of
from resources.destinations.base import (
    Destination,
    DestinationError,
    DestinationRefusedError,
    DestinationUnavailableError,
    Remote,
)
from resources.destinations.pace import Pace, alone
from resources.destinations.server import LONGEST_REASON, Server
from resources.web import Answer

SECONDS_BETWEEN_CALLS = 1.0
"""LabArchives' terms ask for this much between two calls of a key."""
SIGNED_FOR_MS = 60_000
"""How long a signature holds."""
CLOCK_IS_OFF_MS = 5_000
"""A difference between the server's clock and ours that is worth a second try."""
AUTHENTICATION = frozenset({4504, 4506, 4507, 4514, 4520, 4533})
"""Error codes for: expired, unknown key, wrong log-in, wrong signature, session over."""
PERMISSION = frozenset({4501, 4502})
LATER = frozenset({408, 425, 429})
"""Status codes below 500 that ask for another try; LabArchives wants no 4xx repeated at once."""
ROOTS = frozenset({"tree-tools", "entries", "users", "utilities"})
"""Outermost elements of LabArchives' answers: named after the class of the call."""
SIGNATURE = re.compile(r"[A-Za-z0-9+/]{80,}={0,2}")

RECORDS_FOLDER = "NexusLIMS Records"
MARK = "Kept by nexuslims-pipeline"
"""Begins the caption of each attachment of ours."""
TEXT_MARK = f"{MARK}: changes to this entry are overwritten."
"""Stands in each text entry of ours."""
FOOTER = f"<p>{TEXT_MARK} Please write into entries of your own.</p>"
EMPTY_TEXT = f"<p>What stood here was withdrawn or replaced.</p>{FOOTER}"
EMPTY_CAPTION = f"{MARK}: withdrawn or replaced"
EMPTY_FILE = b"<withdrawn/>\n"
WITHDRAWN_PAGE = "Withdrawn session"
SURELY_ACCEPTED = 2**20
"""Bytes of a file for which LabArchives need not be asked how much it takes."""


class Row(BaseModel):
    """A user's line in the table of users."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    uid: SecretStr = Field(min_length=1)
    """What LabArchives calls the user, for calls on their behalf; learned once, with their consent."""
    notebook: str = Field(min_length=1, pattern=r"^\S+$")
    """Identifier (nbid) of the notebook for their sessions."""


class Table(RootModel[dict[str, Row]]):
    """``username: {uid: ..., notebook: ...}``, by the user names of NEMO."""

    model_config = ConfigDict(hide_input_in_errors=True)


@dataclass(frozen=True)
class Account:
    """On whose behalf LabArchives is called, and where."""

    uid: SecretStr
    notebook: str
    owner: str
    """In words, with the variable."""


@dataclass(frozen=True)
class Node:
    """A folder or page of a notebook."""

    id: str
    name: str
    is_page: bool


@dataclass(frozen=True)
class PageEntry:
    """An entry of ours on a page."""

    id: str
    is_file: bool
    content: str
    """HTML of a text, caption of a file."""
    file_name: str


class UnknownToServerError(DestinationRefusedError):
    """LabArchives refuses for another reason than who asks: mostly since there is no such thing."""


class _UnauthenticatedError(DestinationRefusedError):
    """LabArchives does not accept who asks, or the time of the signature."""


class _HideQueries(logging.Filter):
    """Keeps what follows the question mark, uid and signature, out of what urllib3 tells of its connections."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(_before_signature(arg) for arg in record.args)
        return True


def _before_signature(value: object) -> object:
    return value.partition("?")[0] if isinstance(value, str) and "sig=" in value else value


HIDE_QUERIES = _HideQueries()


class Signature(AuthBase):
    """Signs each call: HMAC-SHA-512 over key id, method and time (page "Call authentication" of the API)."""

    def __init__(self, key_id: str, password: SecretStr) -> None:
        self._key_id = key_id
        self._password = password
        self.ahead_ms = 0
        """How far the server's clock is ahead of ours."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add key id, time and signature to the address."""
        url = request.url or ""
        method = urlsplit(url).path.rpartition("/")[2]
        signed = {"akid": self._key_id}
        if method != "epoch_time":
            expires = _now_ms() + self.ahead_ms + SIGNED_FOR_MS
            secret = self._password.get_secret_value().encode()
            digest = hmac.digest(secret, f"{self._key_id}{method}{expires}".encode(), hashlib.sha512)
            signed |= {"expires": str(expires), "sig": base64.b64encode(digest).decode()}
        request.url = f"{url}{'&' if '?' in url else '?'}{urlencode(signed)}"
        return request


class Api(Server):
    """Calls of the LabArchives API, whose answers and errors are XML.

    Parameters
    ----------
    url
        Root of the API.
    key_id, password
        The institution's key.
    uids
        Uids that no message may show.
    pace
        Kept before each call.
    verify
        As for `resources.web.Web`.
    """

    def __init__(
        self,
        url: str,
        key_id: str,
        password: SecretStr,
        uids: Iterable[SecretStr],
        *,
        pace: Pace,
        verify: bool | str = True,
    ) -> None:
        self._signature = Signature(key_id, password)
        self._clock_is_asked = threading.Lock()
        secrets = [password, *uids]
        secrets += [SecretStr(quote(secret.get_secret_value(), safe="")) for secret in secrets]
        super().__init__(
            f"LabArchives at {url}",
            url,
            settings={"address": "NX_LABARCHIVES_URL"},
            auth=self._signature,
            secrets=secrets,
            verify=verify,
            before=pace.wait,
        )
        logging.getLogger("urllib3.connectionpool").addFilter(HIDE_QUERIES)

    def ask(self, method: str, path: str, account: Account, *, repeat: bool = False, **payload: Any) -> Any:
        """Call the API on behalf of an account.

        Parameters
        ----------
        method, path
            e.g. ``GET`` and ``tree_tools/insert_node``, which makes something although it is a GET.
        repeat
            Whether the call may be carried out twice.
        payload
            ``params``, ``data``, ``headers``.

        Returns
        -------
        lxml.etree._Element
            Root of the answer.

        Raises
        ------
        UnknownToServerError, DestinationRefusedError, DestinationUnavailableError
            As LabArchives says, whatever the status code.
        """
        payload["params"] = {"uid": account.uid.get_secret_value(), **payload["params"]}
        ahead_ms = self._signature.ahead_ms
        try:
            return self._ask(method, path, account.owner, repeat=repeat, **payload)
        except _UnauthenticatedError:
            # Not carried out, so that even a call that makes something may go out again.
            if not self._clock_was_off(ahead_ms):
                raise
        return self._ask(method, path, account.owner, repeat=repeat, **payload)

    def is_passing(self, answer: Answer) -> bool:
        """Whether the call may be repeated at once; an error that LabArchives names is an answer."""
        return answer.status in {502, 503, 504} and b"<error-code" not in answer.content

    def hide(self, text: str) -> str:
        """`text` without secrets and signatures."""
        return SIGNATURE.sub("…", super().hide(text))

    def _clock_was_off(self, ahead_ms: int) -> bool:
        """Whether a call signed with the given difference of the clocks was signed for another time."""
        with self._clock_is_asked:
            if self._signature.ahead_ms == ahead_ms:
                self._signature.ahead_ms = self._clocks_differ_by()
            return abs(self._signature.ahead_ms - ahead_ms) > CLOCK_IS_OFF_MS

    def _clocks_differ_by(self) -> int:
        before = _now_ms()
        try:
            root = self._ask("GET", "utilities/epoch_time", "nobody", repeat=True)
        except DestinationError:
            return self._signature.ahead_ms
        told = (text.strip() for text in root.itertext())
        server = next((int(text) for text in told if re.fullmatch("[0-9]{12,14}", text)), None)
        if server is None:
            return self._signature.ahead_ms
        return server - (before + _now_ms()) // 2

    def _ask(self, method: str, path: str, owner: str, *, repeat: bool, **payload: Any) -> Any:
        answer = self.call(method, path, expect=range(100, 600), repeat=repeat, **payload)
        root = _xml(answer.content)
        code = "" if root is None else _text(root, ".//error-code")
        if code:
            raise self._error(_number(code), path, owner, answer, root)
        if answer.status in LATER or answer.status >= 500:
            raise DestinationUnavailableError(f"{self.whom} answers {path} with status {answer.status}.")
        if answer.status == 200 and root is not None and root.tag in ROOTS:
            return root
        msg = (
            f"{self.whom} answers {path} with status {answer.status} and something else than LabArchives would (a "
            "proxy's page? another host?); if that stays so, correct NX_LABARCHIVES_URL."
        )
        raise (DestinationUnavailableError if answer.status == 200 else DestinationRefusedError)(msg)

    def _error(self, code: int, path: str, owner: str, answer: Answer, root: Any) -> DestinationError:
        said = self.hide(" ".join(_text(root, ".//error-description").split()))[:LONGEST_REASON]
        told = f"{path}, for {owner}: {said or 'it gives no reason'} (error {code})"
        if code in AUTHENTICATION:
            return _UnauthenticatedError(
                f"{self.whom} does not accept {told}. Check NX_LABARCHIVES_ACCESS_KEY_ID, "
                "NX_LABARCHIVES_ACCESS_PASSWORD and the uid."
            )
        if code in PERMISSION and answer.status != 404:
            return DestinationRefusedError(f"{self.whom} does not permit {told}. Let the notebook's owner permit it.")
        if answer.status in LATER or answer.status >= 500:
            return DestinationUnavailableError(f"{self.whom} cannot do {told}.")
        return UnknownToServerError(f"{self.whom} refuses {told}.")


class Labarchives(Destination):
    """A LabArchives of one region.

    Parameters
    ----------
    url
        Root of its API.
    key_id, password
        The institution's key.
    service
        Account for users without their own.
    users
        Accounts by the user's name in NEMO.
    folder
        Where the files lie that all workers share.
    seconds
        Time between two calls, of all workers.
    verify
        As for `Api`.
    """

    name = "labarchives"
    asset_name = "labarchives_page"
    label = "LabArchives page"
    version = "1"
    shows_links_of = ("cdcs",)
    made_of: ClassVar[tuple[str, ...]] = ("file_metadata", "activities")
    workers: ClassVar[int] = 2
    """At one call per second, more would only wait for one another."""

    def __init__(
        self,
        url: str,
        key_id: str,
        password: SecretStr,
        service: Account,
        users: Mapping[str, Account],
        *,
        folder: Path,
        seconds: float,
        verify: bool | str = True,
    ) -> None:
        self._url = url.rstrip("/")
        self._service = service
        self._users = users
        self._making_folders = folder / ".folders"
        self._largest: dict[str, int] = {}
        uids = [account.uid for account in self._accounts]
        pace = Pace(folder / ".pace", seconds)
        self._api = Api(self._url, key_id, password, uids, pace=pace, verify=verify)

    @classmethod
    def configured(cls, site: Settings) -> Self | None:
        """Make it of a site's settings; None when none of LabArchives' variables is set."""
        needed: dict[str, Any] = {
            "NX_LABARCHIVES_ACCESS_KEY_ID": site.labarchives_access_key_id,
            "NX_LABARCHIVES_ACCESS_PASSWORD": site.labarchives_access_password,
            "NX_LABARCHIVES_USER_ID": site.labarchives_user_id,
            "NX_LABARCHIVES_NOTEBOOK_ID": site.labarchives_notebook_id,
        }
        missing = [name for name, value in needed.items() if not value]
        if len(missing) == len(needed) and site.labarchives_users_file is None:
            return None
        if missing:
            msg = f"LabArchives is set up by halves: set {', '.join(missing)} too, or remove all NX_LABARCHIVES_…."
            raise ConfigurationError(msg)
        key_id, password, uid, notebook = needed.values()
        return cls(
            str(site.labarchives_url),
            key_id,
            password,
            Account(uid, notebook, "the service account (NX_LABARCHIVES_USER_ID)"),
            read_users(site.labarchives_users_file) if site.labarchives_users_file else {},
            folder=site.exports_folder / cls.name,
            seconds=SECONDS_BETWEEN_CALLS,
            verify=site.verify,
        )

    def in_words(self) -> str:
        """Where pages go; without the table, so that a new line in it does not send every session anew."""
        return f"{self._url} {self._service.notebook}"

    def address(self, publication: Publication) -> str:
        """Identifier of the notebook."""
        return self._account(publication).notebook

    def find(self, key: str, address: str) -> list[Remote]:
        """Pages of a session in a notebook; without an address, in all notebooks that we know."""
        path = (RECORDS_FOLDER, instrument_of(key))
        return [
            self._remote(account, node)
            for account in self._accounts_at(address)
            for folder in self._folders(account, path)
            for node in self._children(account, folder)
            if node.is_page and node.name.split()[:1] == [key]
        ]

    def is_copy(self, remote: Remote, key: str) -> bool:
        """Whether the entries of ours on a page that was moved or renamed tell of the session."""
        notebook, _, page_id = remote.id.partition(":")
        try:
            entries = self._entries(self._accounts_at(notebook)[0], page_id)
        except UnknownToServerError:  # people deleted the page, or another server has its number
            return False
        return any(entry.file_name == f"{key}.xml" or f">{key}<" in entry.content for entry in entries)

    def create(self, publication: Publication) -> Remote:
        """Make the page, the text and the attachment, in this order."""
        account = self._account(publication)
        folder = self._folder(account, (RECORDS_FOLDER, instrument_of(publication.key)))
        node = self._insert(account, folder, publication.key, is_folder=False)
        self._fill(account, node.id, publication, [])
        return self._remote(account, node)

    def update(self, remote: Remote, publication: Publication) -> Remote:
        """Make our entries on the page equal to the publication."""
        account = self._account(publication)
        page_id = remote.id.partition(":")[2]
        self._fill(account, page_id, publication, self._entries(account, page_id))
        return remote

    def withdraw(self, remote: Remote) -> None:
        """Empty our entries on the page, then give it a name by which it is not found any more."""
        notebook, _, page_id = remote.id.partition(":")
        account = self._accounts_at(notebook)[0]
        try:
            entries = self._entries(account, page_id)
        except UnknownToServerError:  # people deleted the page
            return
        for entry in entries:
            self._empty(account, entry)
        query = {"nbid": notebook, "tree_id": page_id, "display_text": WITHDRAWN_PAGE}
        self._api.ask("GET", "tree_tools/update_node", account, repeat=True, params=query)

    def check(self) -> list[str]:
        """Whether key, uid and notebook of the service account work."""
        try:
            self._children(self._service, "0")
        except DestinationError as fault:
            return [str(fault)]
        return []

    # Accounts

    @property
    def _accounts(self) -> list[Account]:
        return [self._service, *self._users.values()]

    def _account(self, publication: Publication) -> Account:
        user = publication.session.user
        return self._users.get(user.username, self._service) if user else self._service

    def _accounts_at(self, address: str) -> list[Account]:
        """One account for a notebook, or for each that we know."""
        by_notebook = {account.notebook: account for account in reversed(self._accounts)}
        if not address:
            return list(by_notebook.values())
        if account := by_notebook.get(address):
            return [account]
        msg = (
            f"No account is known for the LabArchives notebook {address}; put its user back into "
            "NX_LABARCHIVES_USERS_FILE until the pages in it are moved or withdrawn."
        )
        raise DestinationRefusedError(msg)

    # Folders and pages

    def _children(self, account: Account, parent: str) -> list[Node]:
        query = {"nbid": account.notebook, "parent_tree_id": parent}
        root = self._api.ask("GET", "tree_tools/get_tree_level", account, repeat=True, params=query)
        return [_node(element) for element in root.iter("level-node")]

    def _folders(self, account: Account, path: Iterable[str]) -> list[str]:
        """Every folder of a path: there may be several of one name."""
        parents = ["0"]
        for name in path:
            parents = [found for parent in parents for found in self._folders_in(account, parent, name)]
        return parents

    def _folders_in(self, account: Account, parent: str, name: str) -> list[str]:
        return [n.id for n in self._children(account, parent) if not n.is_page and n.name == name]

    def _folder(self, account: Account, path: Iterable[str]) -> str:
        """The first folder of a path, made when missing."""
        parent = "0"
        for name in path:
            found = self._folders_in(account, parent, name)
            if not found:
                with alone(self._making_folders):
                    found = self._folders_in(account, parent, name)
                    found = found or [self._insert(account, parent, name, is_folder=True).id]
            parent = found[0]
        return parent

    def _insert(self, account: Account, parent: str, name: str, *, is_folder: bool) -> Node:
        query = {
            "nbid": account.notebook,
            "parent_tree_id": parent,
            "display_text": name,
            "is_folder": str(is_folder).lower(),
        }
        root = self._api.ask("GET", "tree_tools/insert_node", account, params=query)
        made = root.find(".//node")
        return Node(_node(root if made is None else made).id, name, not is_folder)

    def _remote(self, account: Account, node: Node) -> Remote:
        return Remote(id=f"{account.notebook}:{node.id}", url=page_url(self._url, account.notebook, node.id))

    # Entries

    def _entries(self, account: Account, page_id: str) -> list[PageEntry]:
        """Our entries on a page, in its order."""
        query = {"nbid": account.notebook, "page_tree_id": page_id, "entry_data": "true"}
        root = self._api.ask("GET", "tree_tools/get_entries_for_page", account, repeat=True, params=query)
        entries = (_entry(element) for element in root.iter("entry"))
        return [entry for entry in entries if _is_ours(entry)]

    def _fill(self, account: Account, page_id: str, publication: Publication, entries: Iterable[PageEntry]) -> None:
        texts = [entry for entry in entries if not entry.is_file]
        files = [entry for entry in entries if entry.is_file]
        for surplus in [*texts[1:], *files[1:]]:
            self._empty(account, surplus)
        is_accepted = self._is_accepted(account, len(publication.xml))
        html = entry_text(publication, is_attached=is_accepted)
        if not texts:
            query = {"nbid": account.notebook, "pid": page_id, "part_type": "text entry"}
            self._api.ask("POST", "entries/add_entry", account, params=query, data={"entry_data": html})
        elif texts[0].content != html:
            self._rewrite(account, texts[0], html)
        if not is_accepted:
            for entry in files[:1]:
                self._empty(account, entry)
            return
        self._attach(account, page_id, files[:1], f"{publication.key}.xml", publication.xml)

    def _attach(self, account: Account, page_id: str, there: list[PageEntry], name: str, content: bytes) -> None:
        """Attach a file; its caption tells what it holds, so that it need not be read back."""
        caption = f"{MARK}: the record, SHA-256 {hashlib.sha256(content).hexdigest()}"
        if not there:
            query = {"nbid": account.notebook, "pid": page_id, "filename": name, "caption": caption}
            self._upload("entries/add_attachment", account, query, content)
        elif (there[0].content, there[0].file_name) != (caption, name):
            query = {"eid": there[0].id, "filename": name, "caption": caption}
            self._upload("entries/update_attachment", account, query, content, repeat=True)

    def _upload(
        self, path: str, account: Account, query: Mapping[str, str], content: bytes, *, repeat: bool = False
    ) -> None:
        query = {**query, "change_description": "Sent by nexuslims-pipeline"}
        headers = {"Content-Type": "application/octet-stream"}
        self._api.ask("POST", path, account, repeat=repeat, params=query, data=content, headers=headers)

    def _rewrite(self, account: Account, entry: PageEntry, html: str) -> None:
        query = {"eid": entry.id}
        self._api.ask("POST", "entries/update_entry", account, repeat=True, params=query, data={"entry_data": html})

    def _empty(self, account: Account, entry: PageEntry) -> None:
        if entry.is_file and entry.content != EMPTY_CAPTION:
            query = {"eid": entry.id, "filename": "withdrawn.xml", "caption": EMPTY_CAPTION}
            self._upload("entries/update_attachment", account, query, EMPTY_FILE, repeat=True)
        elif not entry.is_file and entry.content != EMPTY_TEXT:
            self._rewrite(account, entry, EMPTY_TEXT)

    def _is_accepted(self, account: Account, size: int) -> bool:
        if size <= SURELY_ACCEPTED:
            return True
        uid = account.uid.get_secret_value()
        if uid not in self._largest:
            root = self._api.ask("GET", "users/max_file_size", account, repeat=True, params={})
            self._largest[uid] = _number(_text(root, ".//max-file-size")) or sys.maxsize
        return size <= self._largest[uid]


def read_users(path: Path) -> dict[str, Account]:
    """Accounts of the table of users, by the user's name in NEMO.

    Raises
    ------
    ConfigurationError
        When it cannot be read or used. The message shows nothing of its content: that is secret.
    """
    where = f"NX_LABARCHIVES_USERS_FILE ({path})"
    try:
        text = path.read_text(encoding="utf-8")
        node, content = yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{where} cannot be read ({type(error).__name__}).") from None
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", -1) + 1
        raise ConfigurationError(f"{where}, line {line}: this is no valid YAML.") from None
    mistakes = [f"line {line}: '{key}' stands twice; keep one." for line, key in repeated_keys(node)]
    try:
        rows = Table.model_validate(content or {}).root
    except ValidationError as error:
        mistakes += [f"{' '.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors()]
    if mistakes:
        msg = f'{where}: write \'username: {{uid: "…", notebook: "…"}}\' in each line. ' + "; ".join(mistakes)
        raise ConfigurationError(msg)
    return {name: Account(row.uid, row.notebook, f"'{name}' (NX_LABARCHIVES_USERS_FILE)") for name, row in rows.items()}


def page_url(api_url: str, notebook: str, page_id: str) -> str:
    """Address of a page for people; each region of the cloud has a host of its own for them."""
    parts = urlsplit(api_url)
    cloud = re.fullmatch(r"([a-z]{2})?api\.(labarchives(?:-gov)?\.com)", parts.hostname or "")
    if cloud:
        base = f"https://{cloud[1] + '-' if cloud[1] else ''}mynotebook.{cloud[2]}"
    else:
        base = api_url.rstrip("/").removesuffix("/api")
    return f"{base}/#/{quote(notebook, safe='=')}/{quote(page_id, safe='=')}"


def entry_text(publication: Publication, *, is_attached: bool) -> str:
    """HTML of a session's text entry."""
    note = "" if is_attached else "<p>The record is too large for this notebook, and is not attached.</p>"
    return clean(page(publication, picture=_picture) + note + FOOTER)


def _picture(_: Dataset, path: Path) -> str:
    """Source of a preview that lies within the page; LabArchives has no place for pictures outside of entries."""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _now_ms() -> int:
    return round(time.time() * 1000)


# Answers


def _xml(content: bytes) -> Any:
    """Root of an answer; None when it is no XML, or has a document type, which LabArchives' answers have not."""
    from lxml import etree

    if b"<!doctype" in content.replace(b"\0", b"").lower():
        return None
    # Without a document type there are no entities that could make a small answer huge.
    parser = etree.XMLParser(resolve_entities=False, load_dtd=False, no_network=True, huge_tree=True)
    try:
        return etree.fromstring(content, parser)
    except (etree.XMLSyntaxError, ValueError):
        return None


def _text(element: Any, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _number(text: str) -> int:
    return int(text) if re.fullmatch("[0-9]{1,15}", text) else 0


def _node(element: Any) -> Node:
    node = Node(_text(element, "tree-id"), _text(element, "display-text"), _text(element, "is-page") == "true")
    if not node.id:
        msg = "LabArchives tells of a folder or page without its tree-id; what was asked may have been done."
        raise DestinationUnavailableError(msg)
    return node


def _entry(element: Any) -> PageEntry:
    is_file = _text(element, "part-type").lower() == "attachment"
    content = (is_file and _text(element, "caption")) or _text(element, "entry-data")
    return PageEntry(_text(element, "eid"), is_file, content, _text(element, "attach-file-name"))


def _is_ours(entry: PageEntry) -> bool:
    if not entry.id:
        return False
    return entry.content.startswith(MARK) if entry.is_file else TEXT_MARK in entry.content
