"""eLabFTW: one experiment per session, by its API v2 (https://doc.elabftw.net/api/v2/), releases 5.3 to 6.0.

People work in their notebook. Of an experiment only these are ours: its title until somebody changes it, the part of
its main text between two lines that say so, extra fields, tags and attachments of our making, and the date. What we
made is remembered in its metadata, under `MEMORY`, with the experiment's own number: a duplicate that somebody made of
it has another number and is left alone.

A withdrawn experiment is emptied, then deleted. eLabFTW deletes softly, and what its API cannot remove stays until its
administrator prunes: the emptied experiment with what people wrote, the files of deleted attachments, the log of
changes with the titles and extra fields that were written, and experiments that somebody had deleted before.
"""

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import AliasChoices, BaseModel, Field, SecretStr, ValidationError, field_validator

from nexuslims_pipeline.configuration import Settings
from nexuslims_pipeline.instruments import ConfigurationError
from nexuslims_pipeline.publication.model import Publication
from nexuslims_pipeline.publication.page import page
from nexuslims_pipeline.records.text import token
from resources.destinations.base import (
    Destination,
    DestinationBusyError,
    DestinationError,
    DestinationRefusedError,
    DestinationUnavailableError,
    Remote,
)
from resources.destinations.pace import at_pace
from resources.destinations.server import Server
from resources.web import Answer, HeaderToken

SESSION_ID = "Session ID"
"""Extra field with the session's key, by which the experiment is found."""
MEMORY = "nexuslims_pipeline"
"""Entry of the metadata with what we made of the experiment."""
ABOUT_SESSION, ABOUT_RELATED = "Session Information", "Related Records"
"""Groups of extra fields."""
BEGIN = "<p><em>From here on nexuslims-pipeline keeps the text up to date; write above this line.</em></p>"
END = "<p><em>Up to here nexuslims-pipeline keeps the text up to date; write below this line.</em></p>"
"""The page lies between these. eLabFTW strips comments, ids and classes but keeps these; the page has no ``em``."""
RECORD_NAME = "nexus-experiment.xml"
CRATE_NAME = "session.eln"
COMMENT = "Kept up to date by nexuslims-pipeline"
"""Comment that tells our attachments from those of people."""
HTML = 1
"""Content type of the main text."""
NORMAL, ARCHIVED, DELETED = 1, 2, 3
"""States of experiments and attachments."""
LONGEST_TITLE = 255
"""Characters of a title that eLabFTW keeps."""
PAGE_SIZE = 50
MOST_PAGES = 20
REVISIONS_A_ROUND, MOST_ROUNDS = 10, 3
"""eLabFTW keeps the last 10 revisions of a text unless it is set up otherwise."""
WITHDRAWN = "Withdrawn session"
FILLER = "<p>" + "withdrawn " * 500 + "</p>"
"""So much that eLabFTW takes the text for changed and keeps a revision of it."""

_log = logging.getLogger(__name__)
Shape = TypeVar("Shape", bound=BaseModel)


class Elabftw(Destination):
    """One eLabFTW.

    Parameters
    ----------
    base
        Address of the site, without a slash at the end.
    api_key
        Key that may write; experiments belong to its user and team.
    category, status
        Numbers of the category and status that new experiments get; later they are people's.
    facility, doi_prefix
        For the attached crate.
    verify, before
        As for `resources.destinations.server.Server`.
    """

    name = "elabftw"
    asset_name = "elabftw_experiment"
    label = "eLabFTW experiment"
    version = "1"
    shows_links_of: ClassVar[tuple[str, ...]] = ("cdcs",)
    made_of: ClassVar[tuple[str, ...]] = ("file_inventory", "file_metadata", "activities")

    def __init__(
        self,
        base: str,
        api_key: SecretStr,
        *,
        category: int | None = None,
        status: int | None = None,
        facility: str = "",
        doi_prefix: str = "",
        verify: bool | str = True,
        before: Callable[[], object] = lambda: None,
    ) -> None:
        self._base = base
        self._key = api_key
        self._chosen = {"category": category, "status": status}
        self._crate = (facility, doi_prefix)
        self._api = _Api(
            f"eLabFTW at {base}",
            f"{base}/api/v2/",
            settings={"address": "NX_ELABFTW_URL", "token": "NX_ELABFTW_API_KEY"},
            auth=HeaderToken(api_key),
            secrets=[api_key],
            verify=verify,
            before=before,
        )

    @classmethod
    def configured(cls, site: Settings) -> Self | None:
        """Make it of ``NX_ELABFTW_URL`` and ``NX_ELABFTW_API_KEY``."""
        url, key = site.elabftw_url, site.elabftw_api_key
        if url is None and key is None:
            return None
        if url is None:
            msg = "NX_ELABFTW_URL is missing, but NX_ELABFTW_API_KEY is set; add the address or remove the key."
            raise ConfigurationError(msg)
        if key is None or not key.get_secret_value().strip():
            msg = (
                "NX_ELABFTW_API_KEY is missing, but NX_ELABFTW_URL is set; make a key that may write in eLabFTW "
                "(settings, 'API keys'), or remove the address."
            )
            raise ConfigurationError(msg)
        return cls(
            str(url).rstrip("/").removesuffix("/api/v2"),
            SecretStr(key.get_secret_value().strip()),
            category=site.elabftw_experiment_category,
            status=site.elabftw_experiment_status,
            facility=site.facility_name,
            doi_prefix=site.crates_doi_prefix,
            verify=site.verify,
            before=at_pace(site.exports_folder, cls.name, site.elabftw_calls_per_second),
        )

    def in_words(self) -> str:
        """Where to, and what the crate says of the facility."""
        return "; ".join((self._base, *self._crate))

    def find(self, key: str, address: str) -> list[Remote]:  # noqa: ARG002
        """Experiments with the session's key that we made, also archived ones; not what people duplicated."""
        # The server compares without regard to case, and '_' may stand for any character.
        ours = {e.id for e in self._search(key) if e.session_id == key and e.memory.experiment in {None, e.id}}
        return [self._remote(number) for number in sorted(ours)]

    def is_copy(self, remote: Remote, key: str) -> bool:
        """Whether an experiment of ours that lost its extra field tells of the session, or is one that we emptied."""
        held = self._read(remote)
        if held is None or not held.is_ours:
            return False
        return held.session_id == key or (not held.session_id and (f">{key}<" in held.body or held.is_emptied))

    def create(self, publication: Publication) -> Remote:
        """Make the experiment; the first request makes it whole but for its date and attachments."""
        held = _Experiment(
            id=0,
            title=_title(publication),
            body=_with_part("", publication),
            tags="|".join(_tags(publication)),
            content_type=0,  # before 5.4 the user's choice, whatever is asked for
        )
        held.metadata = _metadata(publication, held)
        answer = self._api.call(
            "POST",
            "experiments",
            expect=(201,),
            json={
                "title": held.title,
                "body": held.body,
                "metadata": held.metadata,
                "tags": _tags(publication),
                "content_type": HTML,
                **{name: number for name, number in self._chosen.items() if number is not None},
            },
        )
        held.id = _last_number(answer)
        return self._bring_in_step(held, publication)

    def update(self, remote: Remote, publication: Publication) -> Remote:
        """Write what is ours anew and leave what is people's."""
        held = self._read(remote)
        if held is None:
            msg = (
                f"eLabFTW experiment {remote.id} of {publication.key} was deleted a moment ago; it is made anew later."
            )
            raise DestinationBusyError(msg)
        self._see_that_it_may_change(held)
        return self._bring_in_step(held, publication)

    def withdraw(self, remote: Remote) -> None:
        """Empty the experiment, then delete it; what people wrote goes to eLabFTW's trash with it.

        The session's key goes last: an experiment that has one more thing of the session is still found.
        """
        held = self._read(remote)
        if held is None or not held.is_ours:
            return
        self._see_that_it_may_change(held)
        revisions = self._revisions(held)
        emptied = f"{_without_part(held.body)}{BEGIN}<p>{WITHDRAWN}.</p>{END}"
        self._change(held, title=WITHDRAWN, body=emptied, metadata=_forgotten(held, but=[SESSION_ID]))
        for upload in held.uploads:
            if upload.is_ours:
                self._remove_upload(held, upload)
        self._displace(revisions, held, emptied)
        self._change(held, metadata=_forgotten(held, but=[]))
        self._api.call("DELETE", _path(held), expect=(200, 204, 404))

    def check(self) -> list[str]:
        """Ask whether the key is good, may write, and whether category and status are there."""
        try:
            self._api.call("GET", "users/me")
            keys = self._list("apikeys", _ApiKey)
            wrong = self._wrong_with_key(keys)
            team = next((key.team for key in self._own(keys)), None)
            return wrong + [line for what in ("category", "status") for line in self._wrong_choice(what, team)]
        except DestinationError as fault:
            return [str(fault)]

    # What there is

    def _remote(self, number: int) -> Remote:
        return Remote(id=str(number), url=f"{self._base}/experiments.php?mode=view&id={number}")

    def _search(self, key: str) -> Iterator["_Experiment"]:
        """Experiments that eLabFTW finds by a session's key, page by page; without it, `limit` is the user's choice."""
        query = f"extrafield:s:{json.dumps(SESSION_ID)}:{json.dumps(key)}"
        for number in range(MOST_PAGES):
            found = self._list(
                "experiments",
                _Experiment,
                extended=query,
                state=f"{NORMAL},{ARCHIVED}",
                order="id",
                sort="asc",
                limit=PAGE_SIZE,
                offset=number * PAGE_SIZE,
            )
            yield from found
            if len(found) < PAGE_SIZE:
                return

    def _read(self, remote: Remote) -> "_Experiment | None":
        """Return the experiment; None when it is deleted."""
        answer = self._api.call("GET", f"experiments/{remote.id}", expect=(200, 404))
        if answer.status == 404:
            return None
        held = self._shaped(_Experiment, self._api.json(answer))
        return held if held.state != DELETED else None

    def _see_that_it_may_change(self, held: "_Experiment") -> None:
        where = self._remote(held.id).url
        if held.state == ARCHIVED:
            msg = f"The experiment is archived in eLabFTW; unarchive it or delete it there: {where}"
            raise DestinationRefusedError(msg)
        if held.locked:
            raise DestinationRefusedError(f"The experiment is locked in eLabFTW; unlock it there: {where}")
        if held.is_being_edited:
            msg = f"Somebody is editing the experiment in eLabFTW; what they write is not to be lost: {where}"
            raise DestinationBusyError(msg)

    def _list(self, path: str, shape: type[Shape], **params: str | int) -> list[Shape]:
        answer = self._api.json(self._api.call("GET", path, params=params))
        if not isinstance(answer, list):
            raise self._misshapen()
        return [self._shaped(shape, row) for row in answer]

    def _shaped(self, shape: type[Shape], answer: Any) -> Shape:
        try:
            return shape.model_validate(answer)
        except ValidationError:
            fault = self._misshapen()
        raise fault

    def _misshapen(self) -> DestinationUnavailableError:
        msg = (
            f"eLabFTW at {self._base} answers in another form than eLabFTW does; look whether NX_ELABFTW_URL is right."
        )
        return DestinationUnavailableError(msg)

    # What is to be

    def _bring_in_step(self, held: "_Experiment", publication: Publication) -> Remote:
        from nexuslims_pipeline.publication.crate import crate_bytes

        self._set_tags(held, _tags(publication))
        if changes := _changes(held, publication):
            held = self._change(held, **changes)
        if held.session_id != publication.key:
            msg = (
                f"eLabFTW does not keep the extra fields of experiment {held.id}, so that it is not found again; does "
                "the team make every experiment from a template? Allow experiments without one, and delete it."
            )
            raise DestinationRefusedError(msg)
        self._attach(held, RECORD_NAME, publication.xml, "application/xml")
        self._attach(held, CRATE_NAME, crate_bytes(publication, *self._crate), "application/zip")
        return self._remote(held.id)

    def _change(self, held: "_Experiment", **changes: Any) -> "_Experiment":
        """Change an experiment; return what it is then."""
        if "metadata" in changes:
            # A text, other than when it is created: of an object, eLabFTW would keep the word 'Array'.
            changes["metadata"] = json.dumps(changes["metadata"], sort_keys=True)
        return self._shaped(_Experiment, self._api.json(self._api.call("PATCH", _path(held), json=changes)))

    def _set_tags(self, held: "_Experiment", wanted: list[str]) -> None:
        """Add our tags that are missing and take away those that we set before; a change does not take tags."""
        there = {tag.casefold() for tag in held.tag_list}
        for tag in wanted:
            if tag.casefold() not in there:
                self._api.call("POST", f"{_path(held)}/tags", expect=(201,), json={"tag": tag})
        stale = {tag.casefold() for tag in held.memory.tags} & there - {tag.casefold() for tag in wanted}
        for tag_there in self._list(f"{_path(held)}/tags", _Tag) if stale else ():
            if tag_there.tag.casefold() in stale:
                self._api.call("PATCH", f"{_path(held)}/tags/{tag_there.number}", json={"action": "unreference"})

    def _attach(self, held: "_Experiment", name: str, content: bytes, media_type: str) -> None:
        """Attach a file unless it is there, then remove what we attached under its name before."""
        digest = hashlib.sha256(content).hexdigest()
        ours = [upload for upload in held.uploads if upload.is_ours and upload.real_name == name]
        same = next((upload for upload in ours if upload.hash == digest), None)
        if same is None:
            answer = self._api.call(
                "POST",
                f"{_path(held)}/uploads",
                expect=(201, 413),
                files={"file": (name, content, media_type)},
                data={"comment": COMMENT},
            )
            if answer.status == 413:
                msg = (
                    f"{name} of experiment {held.id} ({len(content) / 2**20:.0f} MiB) is larger than the eLabFTW "
                    "server takes; raise its MAX_UPLOAD_SIZE."
                )
                raise DestinationRefusedError(msg)
        for upload in ours:
            if upload is not same:
                self._remove_upload(held, upload)

    def _remove_upload(self, held: "_Experiment", upload: "_Upload") -> None:
        self._api.call("DELETE", f"{_path(held)}/uploads/{upload.id}", expect=(200, 204, 404))

    def _displace(self, revisions: set[int], held: "_Experiment", body: str) -> None:
        """Have eLabFTW drop revisions that hold our page: none can be removed, but it keeps only the last few."""
        for _ in range(MOST_ROUNDS):
            if not revisions:
                return
            for turn in range(REVISIONS_A_ROUND):
                self._change(held, body=body if turn % 2 else body + FILLER)
            revisions &= self._revisions(held)
        if revisions:
            _log.warning(
                "eLabFTW keeps %d revisions of the text of experiment %d, which is withdrawn; its administrator can "
                "remove them.",
                len(revisions),
                held.id,
            )

    def _revisions(self, held: "_Experiment") -> set[int]:
        return {revision.id for revision in self._list(f"{_path(held)}/revisions", _Numbered)}

    # What is wrong

    def _own(self, keys: list["_ApiKey"]) -> list["_ApiKey"]:
        """The key that we use, of all keys of its user, as far as that can be told: ``<number>-<secret>``."""
        number = self._key.get_secret_value().partition("-")[0]
        return [key for key in keys if str(key.id) == number] or (keys if len(keys) == 1 else [])

    def _wrong_with_key(self, keys: list["_ApiKey"]) -> list[str]:
        may_only_read = any(not key.can_write for key in self._own(keys))
        return [f"The key in NX_ELABFTW_API_KEY may only read; {MEND_OF_KEY}"] if may_only_read else []

    def _wrong_choice(self, what: str, team: int | None) -> Iterator[str]:
        number = self._chosen[what]
        if number is None or team is None:
            return
        kind = {"category": "experiments_categories", "status": "experiments_status"}[what]
        known = {row.id: row.title for row in self._list(f"teams/{team}/{kind}", _Choice)}
        if number not in known:
            names = ", ".join(f"{n} ({title})" for n, title in sorted(known.items())) or "none"
            yield (
                f"NX_ELABFTW_EXPERIMENT_{what.upper()} is {number}, which the key's team does not have; "
                f"choose one of: {names}."
            )


MEND_OF_KEY = "make one that may write in eLabFTW (settings, 'API keys') and set NX_ELABFTW_API_KEY."


class _Api(Server):
    """The API, with eLabFTW's own words for its refusals."""

    def reason(self, answer: Answer) -> str:
        try:
            told = answer.json()
        except ValueError:
            told = None
        if not isinstance(told, dict):
            return super().reason(answer)
        said = " ".join(str(told[part]) for part in ("message", "description") if told.get(part))
        return f"{said} The mend: {MEND_OF_KEY}" if "read-only key" in said else said


# What eLabFTW answers


class _Numbered(BaseModel):
    id: int


class _Choice(_Numbered):
    title: str = ""


class _ApiKey(_Numbered):
    can_write: int = 1
    team: int | None = None


class _Tag(BaseModel):
    tag: str
    number: int = Field(validation_alias=AliasChoices("tag_id", "id"))
    """The specification says ``id``, the server ``tag_id``."""


class _Upload(_Numbered):
    real_name: str = ""
    comment: str | None = None
    hash: str | None = None
    """SHA-256; none for files above 50 MB."""
    state: int = NORMAL

    @property
    def is_ours(self) -> bool:
        return self.state == NORMAL and self.comment == COMMENT and self.real_name in {RECORD_NAME, CRATE_NAME}


class _Memory(BaseModel):
    """What we made of an experiment."""

    experiment: int | None = None
    """Its number; none before its creation is finished."""
    title: str = ""
    tags: list[str] = []
    extra_fields: list[str] = []


class _EditMode(BaseModel):
    is_stale: int = 0


class _Experiment(_Numbered):
    title: str = ""
    body: str = ""
    date: str = ""
    content_type: int = HTML
    metadata: dict[str, Any] = Field(default_factory=dict)
    tags: str = ""
    uploads: list[_Upload] = []
    locked: int = 0
    state: int = NORMAL
    exclusive_edit_mode: _EditMode | None = None

    @field_validator("title", "body", "date", "tags", mode="before")
    @classmethod
    def _nothing_is_empty(cls, value: Any) -> Any:
        return "" if value is None else value

    @field_validator("uploads", "locked", "content_type", "state", mode="before")
    @classmethod
    def _nothing_is_usual(cls, value: Any, info: Any) -> Any:
        return cls.model_fields[info.field_name].get_default() if value is None else value

    @field_validator("metadata", mode="before")
    @classmethod
    def _metadata_is_text(cls, value: Any) -> Any:
        try:
            value = json.loads(value) if isinstance(value, str) and value else value
        except RecursionError:
            value = None
        return value if isinstance(value, dict) else {}

    @field_validator("exclusive_edit_mode", mode="before")
    @classmethod
    def _nobody_is_nothing(cls, value: Any) -> Any:
        return value or None

    @property
    def tag_list(self) -> list[str]:
        return self.tags.split("|")

    @property
    def extra_fields(self) -> dict[str, Any]:
        fields = self.metadata.get("extra_fields")
        return fields if isinstance(fields, dict) else {}

    @property
    def session_id(self) -> str:
        field = self.extra_fields.get(SESSION_ID)
        return str(field.get("value", "")) if isinstance(field, dict) else ""

    @property
    def memory(self) -> _Memory:
        try:
            return _Memory.model_validate(self.metadata.get(MEMORY, {}))
        except ValidationError:
            return _Memory()

    @property
    def is_ours(self) -> bool:
        """Whether we made it, by any sign that people have left: a restored server gives old numbers to others."""
        return bool(
            self.session_id
            or self.memory.experiment == self.id
            or BEGIN in self.body
            or any(upload.is_ours for upload in self.uploads)
        )

    @property
    def is_emptied(self) -> bool:
        """Whether it is withdrawn but for its deletion."""
        return self.title == WITHDRAWN and self.memory.experiment == self.id

    @property
    def is_being_edited(self) -> bool:
        return self.exclusive_edit_mode is not None and not self.exclusive_edit_mode.is_stale


def _path(held: _Experiment) -> str:
    return f"experiments/{held.id}"


def _last_number(answer: Answer) -> int:
    """Number of what was made; of its address only that counts, the rest is what the server believes to be called."""
    match = re.search(r"/([0-9]{1,18})/?$", urlsplit(answer.headers.get("Location", "")).path)
    if match is None:
        msg = "eLabFTW made an experiment without telling its number; it is looked for later."
        raise DestinationUnavailableError(msg)
    return int(match[1])


# What an experiment is made of


def _title(publication: Publication) -> str:
    return publication.title[:LONGEST_TITLE].strip()


def _tags(publication: Publication) -> list[str]:
    """Tags of the facility alone: eLabFTW keeps a team's tags even when nothing has them any more."""
    name = token(publication.instrument.name.replace("|", " ").replace("\\", ""))
    return ["NexusLIMS", name] if name else ["NexusLIMS"]


def _changes(held: _Experiment, publication: Publication) -> dict[str, Any]:
    """What is to be changed; in this order, since eLabFTW writes one after the other, and the memory last."""
    is_finished = held.memory.experiment is not None
    wanted: dict[str, Any] = {
        "content_type": held.content_type if is_finished else HTML,
        "title": _title(publication) if held.title == held.memory.title else held.title,
        "body": _with_part(held.body, publication),
        "date": publication.start.date().isoformat(),
        "metadata": _metadata(publication, held),
    }
    return {name: value for name, value in wanted.items() if value != getattr(held, name)}


def _with_part(body: str, publication: Publication) -> str:
    """A main text with our page in its place, or at the end where somebody has removed the lines around it."""
    before, after = _around_part(body)
    return before + f"{BEGIN}\n{page(publication)}{END}" + after


def _without_part(body: str) -> str:
    return "".join(_around_part(body))


def _around_part(body: str) -> tuple[str, str]:
    start = body.rfind(BEGIN)
    end = body.find(END, start)
    return (body[:start], body[end + len(END) :]) if 0 <= start < end else (body, "")


def _metadata(publication: Publication, held: _Experiment) -> dict[str, Any]:
    """The metadata with our extra fields; those of people stay, and whatever else it holds."""
    settings = held.metadata.get("elabftw")
    settings = settings if isinstance(settings, dict) else {}
    groups = _groups(settings.get("extra_fields_groups"))
    ours = _extra_fields(publication, {group["name"]: group["id"] for group in groups})
    theirs = {name: field for name, field in held.extra_fields.items() if name not in held.memory.extra_fields}
    memory = _Memory(
        experiment=held.id or None,
        title=_title(publication),
        tags=_tags(publication),
        extra_fields=list(ours),
    )
    return {
        **held.metadata,
        "elabftw": {"display_main_text": True, **settings, "extra_fields_groups": groups},
        "extra_fields": {**theirs, **ours},
        MEMORY: memory.model_dump(exclude_none=True),
    }


def _groups(held: Any) -> list[dict[str, Any]]:
    """Groups of extra fields: those that are there, and ours."""
    groups = [
        group
        for group in (held if isinstance(held, list) else [])
        if isinstance(group, dict) and isinstance(group.get("id"), int) and isinstance(group.get("name"), str)
    ]
    for name in (ABOUT_SESSION, ABOUT_RELATED):
        if name not in {group["name"] for group in groups}:
            groups.append({"id": max((group["id"] for group in groups), default=0) + 1, "name": name})
    return groups


def _extra_fields(publication: Publication, groups: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    session = publication.session
    project = session.project
    known = [
        (SESSION_ID, "text", publication.key, ABOUT_SESSION),
        ("Instrument", "text", publication.instrument.name, ABOUT_SESSION),
        ("Start Time", "datetime-local", f"{publication.start:%Y-%m-%dT%H:%M}", ABOUT_SESSION),
        ("End Time", "datetime-local", f"{publication.end:%Y-%m-%dT%H:%M}", ABOUT_SESSION),
        ("Time Zone", "text", publication.instrument.time_zone, ABOUT_SESSION),
        ("User", "text", session.user.display_name if session.user else "", ABOUT_SESSION),
        ("Operator", "text", session.operator.display_name if session.operator else "", ABOUT_SESSION),
        (
            "Project",
            "text",
            " – ".join(filter(None, (project.project_id, project.name))) if project else "",
            ABOUT_SESSION,
        ),
        ("Samples", "text", ", ".join(s.name or s.pid or s.id for s in session.samples), ABOUT_SESSION),
        ("Datasets", "number", str(len(publication.datasets)), ABOUT_SESSION),
        ("Activities", "number", str(len(publication.activities)), ABOUT_SESSION),
        ("NEMO", "url", session.link or "", ABOUT_RELATED),
        *((link.label, "url", link.url, ABOUT_RELATED) for _, link in sorted(publication.links.items())),
    ]
    return {
        name: {"type": kind, "value": token(value), "position": n, "group_id": groups[group], "readonly": True}
        for n, (name, kind, value, group) in enumerate(known, 1)
        if token(value)
    }


def _forgotten(held: _Experiment, but: list[str]) -> dict[str, Any]:
    """The metadata without our extra fields, save some; the number stays, by which the experiment is known as ours."""
    gone = {*held.memory.extra_fields, SESSION_ID} - set(but)
    fields = {name: field for name, field in held.extra_fields.items() if name not in gone}
    memory = _Memory(experiment=held.id, title=WITHDRAWN, extra_fields=but)
    return {**held.metadata, "extra_fields": fields, MEMORY: memory.model_dump(exclude_defaults=True)}
