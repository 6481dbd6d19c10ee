"""Records in a CDCS (Configurable Data Curation System), by its REST API.

A record's title is the session's key; CDCS has no other field by which one can be found at little cost, and lets any
number of records have the same title. What else tells ours from somebody else's is in the XML (`belongs_to`).

The API as in CDCS 2.23, whose description every CDCS serves at ``/api/schema/``
(https://github.com/usnistgov/core_main_app). It keeps the files of deleted and replaced records in its media folder;
only who administers the server can remove them there.
"""

import hashlib
import logging
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from nexuslims_pipeline.configuration import Settings
from nexuslims_pipeline.instruments import ConfigurationError
from nexuslims_pipeline.publication.model import Publication
from nexuslims_pipeline.records.schema import NAMESPACE, SCHEMA_FILE
from nexuslims_pipeline.records.text import clean
from nexuslims_pipeline.sessions.keys import instrument_of
from nexuslims_pipeline.sessions.model import Person
from resources.destinations.base import (
    Destination,
    DestinationRefusedError,
    DestinationUnavailableError,
    Remote,
)
from resources.destinations.pace import at_pace
from resources.destinations.server import PATIENCE, Server
from resources.web import Answer, HeaderToken, Patience

LONGEST_TITLE = 200
MOST_PAGES = 100
KEEP_SECONDS = 600.0
"""How long we rely on what a server told about its templates, workspaces and accounts."""
PASSING_REASONS = ("database is locked", "deadlock detected", "too many clients", "connection to server")
"""In the reason for a status 500: the database was busy, and the record is not to blame."""

_log = logging.getLogger(__name__)
Value = TypeVar("Value")


class Choices(NamedTuple):
    """How a site wants its records in CDCS."""

    template: str = "nexus-experiment"
    """Title of the template."""
    workspace: str | None = "Global Public Workspace"
    """Title of the workspace to put records into."""
    user_owned: bool = False
    """Whether records belong to their users."""
    blobs: bool = False
    """Whether previews go along."""


class Kept(Generic[Value]):
    """Something that the server told, asked for again once in a while."""

    def __init__(self, ask: Callable[[], Value]) -> None:
        self._ask = ask
        self._told: tuple[float, Value] | None = None
        self._lock = threading.Lock()

    def get(self) -> Value:
        """What it is."""
        with self._lock:
            if self._told is None or time.monotonic() - self._told[0] > KEEP_SECONDS:
                self._told = (time.monotonic(), self._ask())
            return self._told[1]

    def forget(self) -> None:
        """Ask anew the next time."""
        with self._lock:
            self._told = None


class Item(BaseModel):
    """Something in an answer; fields that we do not use are left aside."""

    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True)


class _Titled(Item):
    """Something that people choose by its title."""

    id: int
    title: str


class Template(_Titled):
    """A template with its versions, which CDCS calls a template version manager."""

    current: int
    versions: tuple[int, ...] = ()
    is_disabled: bool = False


class TemplateVersion(Item):
    """The schema of one version of a template."""

    id: int
    content: str


class Workspace(_Titled):
    """A workspace."""


class Account(Item):
    """An account in CDCS."""

    id: int
    username: str
    email: str | None = None


class Record(_Titled):
    """A record."""

    template: int
    user_id: str
    workspace: int | None = None
    xml: str = Field(validation_alias=AliasChoices("xml_content", "content"))


class Blob(Item):
    """A file."""

    id: int
    filename: str
    user_id: str
    workspace: int | None = None


Row = TypeVar("Row", bound=Item)
Titled = TypeVar("Titled", bound=_Titled)


class CdcsServer(Server):
    """CDCS, which answers 500 both to a record that is not valid and when it is in trouble itself."""

    def is_passing(self, answer: Answer) -> bool:
        """Whether trying again may help: not when CDCS itself says what is wrong with the record."""
        if answer.status != 500:
            return super().is_passing(answer)
        said = message(answer)
        return not said or any(reason in str(said) for reason in PASSING_REASONS)

    def reason(self, answer: Answer) -> str:
        """The server's own reason for a refusal."""
        if said := message(answer):
            return clean(str(said))
        if answer.content.lstrip()[:1] == b"<":
            return "it sends a page; is NX_CDCS_URL the root of the CDCS?"
        return super().reason(answer)

    def rows(self, kind: type[Row], path: str, **query: str) -> list[Row]:
        """All rows of a list, which it may give in pages."""
        rows: list[Row] = []
        for page in range(1, MOST_PAGES + 1):
            turned = query | ({"page": str(page)} if page > 1 else {})
            told = self.json(self.call("GET", path, params=turned))
            if not isinstance(told, Mapping):
                return self.as_rows(kind, told)
            rows += self.as_rows(kind, told.get("results"))
            if not told.get("next"):
                return rows
        raise DestinationUnavailableError(f"{self.whom} sends more than {MOST_PAGES} pages of {path}.")

    def as_rows(self, kind: type[Row], told: Any) -> list[Row]:
        """A list in an answer."""
        if not isinstance(told, list):
            raise DestinationUnavailableError(f"{self.whom} sends an answer of a foreign form where a list belongs.")
        return [self.as_row(kind, row) for row in told]

    def as_row(self, kind: type[Row], told: Any) -> Row:
        """Something in an answer."""
        try:
            return kind.model_validate(told)
        except ValidationError as error:
            places = ", ".join(".".join(map(str, e["loc"])) or "all" for e in error.errors(include_input=False)[:3])
        raise DestinationUnavailableError(f"{self.whom} sends a {kind.__name__.lower()} of a foreign form ({places}).")


class Cdcs(Destination):
    """Records in a CDCS.

    Parameters
    ----------
    url
        Root of the CDCS.
    token
        Token of an account that may write; of a superuser if records are to belong to their users.
    choices
        How the site wants its records.
    verify, patience, before
        As for `resources.destinations.server.Server`.
    """

    name: ClassVar[str] = "cdcs"
    asset_name: ClassVar[str] = "cdcs_record"
    label: ClassVar[str] = "CDCS record"
    version: ClassVar[str] = "1"

    def __init__(
        self,
        url: str,
        token: SecretStr,
        choices: Choices,
        *,
        verify: bool | str = True,
        patience: Patience = PATIENCE,
        before: Callable[[], object] = lambda: None,
    ) -> None:
        self._url = url.rstrip("/") + "/"
        self._whom = f"CDCS at {self._url}"
        self._choices = choices
        self.server = CdcsServer(
            self._whom,
            self._url,
            settings={"address": "NX_CDCS_URL", "token": "NX_CDCS_TOKEN"},
            auth=HeaderToken(token, "Token "),
            secrets=[token],
            verify=verify,
            patience=patience,
            before=before,
        )
        self._template = Kept(self._ask_template)
        self._workspace = Kept(self._ask_workspace)
        self._sets_pids = Kept(self._ask_whether_it_sets_pids)
        self._accounts = Kept(lambda: self.server.rows(Account, "rest/user/"))
        self._making_accounts = threading.Lock()
        self._content_field = "xml_content"
        self._refused_suffixes: set[str] = set()

    @classmethod
    def configured(cls, site: Settings) -> Self | None:
        """Make the destination of a site's settings; None without NX_CDCS_URL and NX_CDCS_TOKEN."""
        if site.cdcs_url is None and site.cdcs_token is None:
            return None
        if site.cdcs_url is None:
            msg = "NX_CDCS_URL is missing, but NX_CDCS_TOKEN is set; add the address of the CDCS or remove the token."
            raise ConfigurationError(msg)
        if site.cdcs_token is None:
            msg = (
                "NX_CDCS_TOKEN is missing, but NX_CDCS_URL is set; make a token for a superuser in the admin pages of "
                "CDCS under 'Tokens', or remove both."
            )
            raise ConfigurationError(msg)
        choices = Choices(
            template=site.cdcs_template,
            workspace=site.cdcs_workspace if site.cdcs_assign_to_public_workspace else None,
            user_owned=site.cdcs_user_owned_records,
            blobs=site.cdcs_blobs,
        )
        before = at_pace(site.exports_folder, cls.name, site.cdcs_calls_per_second)
        return cls(str(site.cdcs_url), site.cdcs_token, choices, verify=site.verify, before=before)

    def in_words(self) -> str:
        """Where the records are, and how."""
        return f"{self._url} {self._choices}"

    # The four questions

    def find(self, key: str, address: str) -> list[Remote]:  # noqa: ARG002
        """Every record of a session, whoever owns it, in whatever workspace and under whatever version of a template.

        Not by CDCS's query, which may ask an index that lags behind (``MONGODB_ASYNC_SAVE``).
        """
        rows = self._whole_list(Record, "data", title=key)
        found = sorted(row.id for row in rows if row.title == key and belongs_to(row.xml, key))
        return [self._remote(record) for record in found]

    def is_copy(self, remote: Remote, key: str) -> bool:
        """Whether a record with another title carries the session's key, or files are left of one that was deleted."""
        answer = self.server.call("GET", f"rest/data/{remote.id}/", expect=(200, 403, 404))
        if answer.status == 200:
            return pid_of(self.server.as_row(Record, self.server.json(answer)).xml) == key
        return bool(self._blobs(rf"^{re.escape(key)}_{re.escape(remote.id)}_"))

    def create(self, publication: Publication) -> Remote:
        """Make the record with its owner and workspace, all in one request."""
        if len(publication.key) > LONGEST_TITLE:
            msg = f"{publication.key} is too long for CDCS, whose titles have at most {LONGEST_TITLE} characters."
            raise DestinationRefusedError(msg)
        owner = self._owner(publication.session.user)
        xml = with_pid(publication.xml, None if self._sets_pids.get() else publication.key)
        record = self._post(publication.key, xml, owner)
        self._put_blobs(record, publication, owner)
        return self._remote(record.id)

    def update(self, remote: Remote, publication: Publication) -> Remote:
        """Change the record where it differs; what the server has set as its identifier stays.

        One that was deleted is made again: its files are left, or it was there a moment ago.
        """
        answer = self.server.call("GET", f"rest/data/{remote.id}/", expect=(200, 404))
        if answer.status == 404:
            return self.create(publication)
        told = self.server.json(answer)
        record = self.server.as_row(Record, told)
        xml = with_pid(publication.xml, self._pid(record, publication.key))
        if record.title != publication.key or not is_same(record.xml, xml):
            self._patch(record, publication.key, xml, "xml_content" if "xml_content" in told else "content")
        workspace = self._workspace.get()
        if workspace not in (None, record.workspace):
            self.server.call("PATCH", f"rest/data/{record.id}/assign/{workspace}")  # 404 with a slash at the end
        owner = self._owner(publication.session.user)
        if owner is not None and record.user_id != str(owner):
            self.server.call("PATCH", f"rest/data/{record.id}/change-owner/{owner}")
        self._put_blobs(record, publication, owner)
        return self._remote(record.id)

    def withdraw(self, remote: Remote) -> None:
        """Remove the record; before it its files, while it can still be found if this is cut short."""
        for blob in self._blobs(rf"_{remote.id}_[0-9a-f]{{16}}\.[a-z0-9]+$"):
            self._delete_blob(blob)
        self.server.call("DELETE", f"rest/data/{remote.id}/", expect=(204, 404))

    def _remote(self, record: int) -> Remote:
        return Remote(id=str(record), url=f"{self._url}data?id={record}")

    # Records

    def _post(self, key: str, xml: str, owner: int | None) -> Record:
        """Make a record; a second time only if the first was refused for what we took the server to have."""
        answer = self._try_post(key, xml, owner)
        if answer.status == 400 and self._were_mistaken(message(answer)):
            answer = self._try_post(key, xml, owner)
        if answer.status == 400:
            reason = self.server.hide(_in_words(message(answer)))
            raise DestinationRefusedError(f"{self._whom} refuses the record of {key}: {reason}")
        return self.server.as_row(Record, self.server.json(answer))

    def _try_post(self, key: str, xml: str, owner: int | None) -> Answer:
        body: dict[str, Any] = {"title": key, "template": self._template.get().current, self._content_field: xml}
        if (workspace := self._workspace.get()) is not None:
            body["workspace"] = workspace
        if owner is None:
            return self.server.call("POST", "rest/data/", json=body, expect=(201, 400))
        return self.server.call("POST", "rest/admin/data/", json=body | {"user_id": str(owner)}, expect=(201, 400))

    def _were_mistaken(self, fields: Any) -> bool:
        """Whether what we took the server to have explains a refusal; it is looked up anew then."""
        refused = fields.keys() if isinstance(fields, Mapping) else set()
        if "content" in refused:  # newer name of the field, ``BACKWARD_COMPATIBILITY_DATA_XML_CONTENT = False``
            self._content_field = "content"
        self._template.forget()
        self._workspace.forget()
        return bool(refused & {"content", "template", "workspace"})

    def _patch(self, record: Record, key: str, xml: str, field: str) -> None:
        try:
            self.server.call("PATCH", f"rest/data/{record.id}/", json={"title": key, field: xml})
        except DestinationRefusedError as refusal:
            if record.template == self._template.get().current:
                raise
            msg = (
                f"{refusal} Record {record.id} belongs to an earlier version of the template: move it to the current "
                "one in the admin pages of CDCS (Templates, versions, migrate), then publish it again."
            )
            raise DestinationRefusedError(msg) from None

    def _pid(self, record: Record, key: str) -> str | None:
        """Identifier that a stored record shall have: one that the server has set is cited, and stays."""
        stored = pid_of(record.xml)
        if stored not in (None, key):
            return stored
        return None if self._sets_pids.get() else key

    # Files

    def _put_blobs(self, record: Record, publication: Publication, owner: int | None) -> None:
        """Make the files of a record the previews of the publication.

        Their names begin with the session's key, and tell record and content. CDCS links one file to a record: the
        first.
        """
        if not self._choices.blobs:
            return
        wanted = {blob_name(publication.key, record.id, path): path for _, path in publication.previews()}
        there: dict[str, Blob] = {}
        for blob in self._blobs(rf"^{re.escape(publication.key)}_[0-9]+_[0-9a-f]{{16}}\."):
            if blob.filename in wanted and blob.filename not in there:
                there[blob.filename] = blob
            else:
                self._delete_blob(blob)
        blobs = [there.get(name) or self._upload(name, path) for name, path in wanted.items()]
        kept = [blob for blob in blobs if blob is not None]
        for blob in kept:
            self._hand_over(blob, owner)
        for blob in kept[:1]:
            self.server.call("POST", f"rest/blob/{blob.id}/metadata/{record.id}/", repeat=True)

    def _upload(self, name: str, path: Path) -> Blob | None:
        """Upload a file; None when CDCS takes none with such a suffix."""
        if path.suffix in self._refused_suffixes:
            return None
        answer = self.server.call("POST", "rest/blob/", files={"blob": (name, path.read_bytes())}, expect=(201, 500))
        if answer.status == 201:
            return self.server.as_row(Blob, self.server.json(answer))
        said = str(message(answer))
        if "extension" not in said:
            raise DestinationRefusedError(f"{self._whom} refuses the preview {name}: {self.server.hide(said)[:500]}")
        self._refused_suffixes.add(path.suffix)
        _log.warning(
            "%s takes no '%s' files; add it to BLOB_EXTENSIONS there to have previews.", self._whom, path.suffix
        )
        return None

    def _hand_over(self, blob: Blob, owner: int | None) -> None:
        workspace = self._workspace.get()
        if workspace not in (None, blob.workspace):
            self.server.call("PATCH", f"rest/blob/{blob.id}/assign/{workspace}")
        if owner is not None and blob.user_id != str(owner):
            self.server.call("PATCH", f"rest/blob/{blob.id}/change-owner/{owner}")

    def _blobs(self, pattern: str) -> list[Blob]:
        """Files whose name matches a regular expression, the oldest first."""
        rows = self._whole_list(Blob, "blob", filename=pattern, regex="true")
        return sorted((row for row in rows if re.search(pattern, row.filename)), key=lambda blob: blob.id)

    def _delete_blob(self, blob: Blob) -> None:
        self.server.call("DELETE", f"rest/blob/{blob.id}/", expect=(204, 404))

    # Owners

    def _owner(self, person: Person | None) -> int | None:
        """Account that a record is to belong to; None to leave it with the account of our token.

        An account is made for who has none, with a password that nobody knows: its user asks CDCS for a new one, or
        signs in another way.
        """
        if not self._choices.user_owned or person is None:
            return None
        with self._making_accounts:
            if (owner := account_of(person, self._accounts.get())) is None:
                self._accounts.forget()
                owner = account_of(person, self._accounts.get()) or self._make_account(person)
        return owner

    def _make_account(self, person: Person) -> int | None:
        password = secrets.token_urlsafe(32)
        body = {
            "username": person.username,
            "email": person.email,
            "first_name": person.first_name,
            "last_name": person.last_name,
            "password": password,
        }
        try:
            self.server.call("POST", "rest/user/", json=body, expect=(201,))
        except DestinationRefusedError as refusal:
            reason = str(refusal).replace(password, "…")
            _log.warning("The records of %s stay with the account of NX_CDCS_TOKEN: %s", person.username, reason)
            return None
        finally:
            self._accounts.forget()
        return account_of(person, self._accounts.get())

    # What the server has

    def _ask_template(self) -> Template:
        rows = self._templates()
        if (template := _chosen(rows, self._choices.template)) is not None:
            return template
        msg = (
            f"{self._whom} has no template '{self._choices.template}' (there are: {_titles(rows)}). Run "
            "'nexuslims-pipeline cdcs-template' to make it, or correct NX_CDCS_TEMPLATE."
        )
        raise DestinationRefusedError(msg)

    def _templates(self) -> list[Template]:
        rows = self.server.rows(Template, "rest/template-version-manager/global/")
        return [row for row in rows if not row.is_disabled]

    def _ask_workspace(self) -> int | None:
        if self._choices.workspace is None:
            return None
        rows = self.server.rows(Workspace, "rest/workspace/read_access/")
        if (workspace := _chosen(rows, self._choices.workspace)) is not None:
            return workspace.id
        msg = (
            f"{self._whom} has no workspace '{self._choices.workspace}' (there are: {_titles(rows)}). Make it there, "
            "or correct NX_CDCS_WORKSPACE, or set NX_CDCS_ASSIGN_TO_PUBLIC_WORKSPACE=false."
        )
        raise DestinationRefusedError(msg)

    def _ask_whether_it_sets_pids(self) -> bool:
        """Whether the server gives each record an identifier of its own; it then refuses records that bring one."""
        answer = self.server.call("GET", "pid/rest/settings/", expect=(200, 403, 404))
        told = self.server.json(answer) if answer.status == 200 else {}
        return isinstance(told, Mapping) and told.get("auto_set_pid") is True

    # By hand

    def template(self) -> Template | None:
        """The template as the server has it now; None before `install_template`."""
        return _chosen(self._templates(), self._choices.template)

    def install_template(self, *, dry_run: bool = False) -> str:
        """Make the template of our schema, or a new version of it where the schema differs.

        Older versions keep their records.

        Parameters
        ----------
        dry_run
            Only tell what would be done.

        Returns
        -------
        str
            What was done, or would be, in a sentence.
        """
        title, schema = self._choices.template, SCHEMA_FILE.read_text(encoding="utf-8")
        body = {"filename": SCHEMA_FILE.name, "content": schema}
        template = self.template()
        if template is None:
            if dry_run:
                return f"The template '{title}' would be made on {self._whom}."
            self.server.call("POST", "rest/template/global/", json=body | {"title": title}, expect=(201,))
            self._template.forget()
            return f"The template '{title}' was made on {self._whom}."
        if is_same(self._schema(template.current), schema):
            return f"The template '{title}' on {self._whom} has our schema already."
        if dry_run:
            return f"The template '{title}' on {self._whom} would get a new version with our schema."
        # One that was cut short here before left its version, but not as the current one.
        version = next((v for v in reversed(template.versions) if is_same(self._schema(v), schema)), None)
        if version is None:
            path = f"rest/template-version-manager/{template.id}/version/"
            answer = self.server.call("POST", path, json=body, expect=(201,))
            version = self.server.as_row(TemplateVersion, self.server.json(answer)).id
        self.server.call("PATCH", f"rest/template/version/{version}/current/")
        self._template.forget()
        return f"The template '{title}' on {self._whom} has a new version with our schema."

    def _schema(self, version: int) -> str:
        answer = self.server.call("GET", f"rest/template/{version}/")
        return self.server.as_row(TemplateVersion, self.server.json(answer)).content

    def check(self) -> list[str]:
        """What is wrong with the token, the template and the workspace."""
        found: list[str] = []
        for look in (self._doubt_template, self._doubt_workspace, self._doubt_token):
            try:
                found.append(look())
            except DestinationUnavailableError as fault:
                return [str(fault)]
            except DestinationRefusedError as fault:
                found.append(str(fault))
        return list(dict.fromkeys(filter(None, found)))

    def _doubt_template(self) -> str:
        if is_same(self._schema(self._ask_template().current), SCHEMA_FILE.read_text(encoding="utf-8")):
            return ""
        return (
            f"The template '{self._choices.template}' on {self._whom} does not have our schema; run "
            "'nexuslims-pipeline cdcs-template' to give it a new version."
        )

    def _doubt_workspace(self) -> str:
        self._ask_workspace()
        return ""

    def _doubt_token(self) -> str:
        self._whole_list(Record, "data", title="/")  # none has this title: whether we are told is what counts
        return ""

    def _powerless(self) -> str:
        return (
            f"{self._whom}: NX_CDCS_TOKEN is not the token of a superuser, who alone can hand records to their users "
            "and find them again; make one for a superuser, or set NX_CDCS_USER_OWNED_RECORDS=false."
        )

    # Answers

    def _whole_list(self, kind: type[Row], what: str, **query: str) -> list[Row]:
        """Everybody's rows, which only a superuser is told; for any other account its own."""
        answer = self.server.call("GET", f"rest/admin/{what}/", params=query, expect=(200, 403))
        if answer.status == 200:
            return self.server.as_rows(kind, self.server.json(answer))
        if self._choices.user_owned:
            raise DestinationRefusedError(self._powerless())
        return self.server.rows(kind, f"rest/{what}/", **query)


def _chosen(rows: Iterable[Titled], title: str) -> Titled | None:
    return next((row for row in rows if row.title == title), None)


def _titles(rows: Iterable[_Titled]) -> str:
    return ", ".join(f"'{clean(row.title)}'" for row in rows) or "none"


def message(answer: Answer) -> Any:
    """What CDCS says of an answer in words or by fields; None when it says nothing, or something else answers."""
    try:
        told = answer.json()
    except ValueError:
        return None
    return told.get("message") or told.get("detail") if isinstance(told, Mapping) else None


def _in_words(fields: Any) -> str:
    """Reasons by field, as sentences."""
    if not isinstance(fields, Mapping):
        return clean(str(fields or "it gives no reason"))[:500]
    reasons = (
        f"{field}: {' '.join(map(str, texts)) if isinstance(texts, list) else texts}" for field, texts in fields.items()
    )
    return clean("; ".join(reasons))[:500]


def account_of(person: Person, accounts: list[Account]) -> int | None:
    """Account of a person: of the same name, else the only one with the address."""
    for account in accounts:
        if account.username == person.username:
            return account.id
    email = person.email.casefold()
    same = [account.id for account in accounts if email and (account.email or "").casefold() == email]
    return same[0] if len(same) == 1 else None


def blob_name(key: str, record: int, path: Path) -> str:
    """Name of a preview in CDCS: of the same session, record and content, the same."""
    content = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return f"{key}_{record}_{content}{path.suffix}"


def _parsed(xml: str) -> Any:
    """Root element of XML from a server; None when it is none, or declares what may do harm."""
    from nexuslims_pipeline.extraction.model import ExtractionError
    from nexuslims_pipeline.extraction.vendor_text import parse_xml

    try:
        return parse_xml(xml.encode("utf-8", "replace"))
    except ExtractionError:
        return None


def pid_of(xml: str) -> str | None:
    """Identifier that a record carries."""
    root = _parsed(xml)
    return None if root is None else root.get("pid")


def belongs_to(xml: str, key: str) -> bool:
    """Whether a record that has a session's key as title is ours.

    It is when it carries the key as its identifier. Where the server sets identifiers, the instrument has to do.
    """
    root = _parsed(xml)
    if root is None or root.tag != f"{{{NAMESPACE}}}Experiment":
        return False
    pid = root.get("pid")
    if pid == key:
        return True
    instrument = root.find(f"{{{NAMESPACE}}}summary/{{{NAMESPACE}}}instrument")
    is_set_by_server = pid is None or "://" in pid
    return is_set_by_server and instrument is not None and instrument.get("pid") == instrument_of(key)


def with_pid(xml: bytes, pid: str | None) -> str:
    """A record of ours with an identifier, or without one."""
    from lxml import etree

    text = xml.decode("utf-8")
    root = _parsed(text)
    if root.get("pid") == pid:
        return text
    if pid is None:
        del root.attrib["pid"]
    else:
        root.set("pid", pid)
    return etree.tostring(root, encoding="UTF-8", xml_declaration=True).decode("utf-8") + "\n"


def is_same(one: str, other: str) -> bool:
    """Whether two texts are the same XML but for comments, indents and how it is written."""
    if one == other:
        return True
    canonical = _canonical(one)
    return canonical is not None and canonical == _canonical(other)


def _canonical(xml: str) -> bytes | None:
    from lxml import etree

    root = _parsed(xml)
    if root is None:
        return None
    for element in root.iter():
        if len(element) and not (element.text or "").strip():
            element.text = None
        if not (element.tail or "").strip():
            element.tail = None
    canonical: bytes = etree.tostring(root, method="c14n")
    return canonical
