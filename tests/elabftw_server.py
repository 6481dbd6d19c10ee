"""An eLabFTW to test against: it keeps what it is sent, and behaves as the releases 5.3.6 to 6.0 do.

Each request is checked against the published description of the API; where the real server is known to differ from it
(destinations.md, B), this one does as the server does.
"""

import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from html import escape
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import pytest

SHARED = Path(os.environ.get("NX_TEST_SHARED") or Path(__file__).resolve().parents[2] / "shared")
SPECIFICATION = SHARED / "reference" / "elabftw_openapi.yaml"
WRITER, READER = "1-writersecret", "2-readersecret"
"""Keys that may write, and read only."""
SITE_URL = "https://eln.example.invalid"
"""What the server believes to be called; nobody can reach it there."""
NORMAL, ARCHIVED, DELETED = 1, 2, 3
MARKDOWN = 2
MOST_REVISIONS, LEAST_CHANGE = 10, 100
TEAM = 1
CATEGORIES = {1: "Microscopy", 2: "Synthesis"}
STATUSES = {1: "Running", 4: "Done"}


class RefusalError(Exception):
    """The server answers with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Upload:
    id: int
    real_name: str
    comment: str
    content: bytes
    state: int = NORMAL

    def shown(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "real_name": self.real_name,
            "long_name": f"ab/{self.id}",
            "comment": self.comment,
            "hash": hashlib.sha256(self.content).hexdigest(),
            "hash_algorithm": "sha256",
            "filesize": len(self.content),
            "state": self.state,
            "immutable": 0,
        }


@dataclass
class Experiment:
    id: int
    title: str
    body: str
    content_type: int
    metadata: str | None
    category: int | None
    status: int | None
    tags: list[str]
    date: str = "2030-01-01"
    state: int = NORMAL
    locked: int = 0
    editor: str | None = None
    """Who has it open for editing."""
    uploads: list[Upload] = field(default_factory=list)
    revisions: dict[int, str] = field(default_factory=dict)
    changelog: list[str] = field(default_factory=list)

    @property
    def fields(self) -> dict[str, Any]:
        decoded = json.loads(self.metadata or "{}")
        return decoded.get("extra_fields") or {} if isinstance(decoded, dict) else {}

    def row(self) -> dict[str, Any]:
        """As in a list."""
        names = ("id", "title", "body", "content_type", "metadata", "category", "status", "date", "state", "locked")
        return {name: getattr(self, name) for name in names} | {"tags": "|".join(self.tags) or None, "team": TEAM}

    def shown(self) -> dict[str, Any]:
        """As one alone."""
        editing = {"locked_by_human": self.editor, "is_stale": 0} if self.editor else None
        return self.row() | {
            "metadata_decoded": json.loads(self.metadata or "null"),
            "uploads": [u.shown() for u in self.uploads if u.state == NORMAL],
            "experiments_links": [],
            "items_links": [],
            "exclusive_edit_mode": editing,
        }


@dataclass
class Request:
    method: str
    path: str
    """Below ``/api/v2/``."""
    query: dict[str, str]
    headers: dict[str, str]
    content: bytes

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "")

    def json(self) -> dict[str, Any]:
        try:
            body = json.loads(self.content or b"{}")
        except ValueError as error:
            raise RefusalError(400, f"Error decoding json payload: {error}") from None
        assert isinstance(body, dict)
        return body

    def parts(self) -> dict[str, tuple[str | None, bytes]]:
        """File name and content of each part of a form."""
        boundary = b"--" + self.content_type.partition("boundary=")[2].encode()
        found = {}
        for part in self.content.split(boundary)[1:-1]:
            head, _, content = part[2:-2].partition(b"\r\n\r\n")
            name = re.search(rb'[ ;]name="([^"]*)"', head)
            file_name = re.search(rb'filename="([^"]*)"', head)
            assert name
            found[name[1].decode()] = (file_name[1].decode() if file_name else None, content)
        return found


class ElabftwServer:
    """The server, as a context manager.

    Parameters
    ----------
    release
        Which eLabFTW it is.
    forces_template
        Whether the team makes every experiment from a template.
    prefers_markdown
        What the key's owner writes in, unless told otherwise.
    largest_upload
        MAX_UPLOAD_SIZE, bytes.
    """

    name = "elabftw"

    def __init__(
        self,
        release: tuple[int, int, int] = (5, 3, 6),
        *,
        forces_template: bool = False,
        prefers_markdown: bool = False,
        largest_upload: int = 100 * 2**20,
    ) -> None:
        self.release = release
        self.forces_template = forces_template
        self.prefers_markdown = prefers_markdown
        self.largest_upload = largest_upload
        self.experiments: dict[int, Experiment] = {}
        self.violations: list[str] = []
        """Requests that break the specification, or that the real server would take for something else."""
        self.calls: list[str] = []
        """Method and path of each request."""
        self.lose_reply_to = ""
        """Beginning of the next call whose answer never arrives."""
        self._last_id = 100
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        if not SPECIFICATION.is_file():
            pytest.skip(f"there is no description of eLabFTW's API at {SPECIFICATION}; set NX_TEST_SHARED")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    # What tests ask

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def variables(self, url: str) -> dict[str, str]:
        """Settings that make the destination talk to this server at `url`."""
        return {"NX_ELABFTW_URL": url, "NX_ELABFTW_API_KEY": WRITER}

    def live(self, key: str) -> list[Experiment]:
        """Experiments with a session's key that are not deleted."""
        alive = (experiment for experiment in self.experiments.values() if experiment.state != DELETED)
        return [e for e in alive if e.fields.get("Session ID", {}).get("value") == key]

    def copies(self, key: str) -> list[bytes]:
        """The record XML of each live experiment of a session; empty bytes for one without."""
        return [
            b"".join(u.content for u in experiment.uploads if u.state == NORMAL and u.real_name.endswith(".xml"))
            for experiment in self.live(key)
        ]

    def clear(self) -> None:
        self.experiments.clear()
        self.violations.clear()
        self.calls.clear()

    def everything(self) -> bytes:
        """All that the server holds, also of what is deleted, save what only its administrator can prune."""
        kept = []
        for experiment in self.experiments.values():
            plain = asdict(experiment)
            plain.pop("changelog")
            plain["uploads"] = [u for u in plain["uploads"] if u["state"] != DELETED]
            kept.append(plain)
        files = [u.content for e in self.experiments.values() for u in e.uploads if u.state != DELETED]
        return json.dumps(kept, default=repr, ensure_ascii=False).encode() + b"".join(files)

    # The API

    def answer(self, request: Request) -> tuple[int, Any, dict[str, str]]:
        """Status, what is sent as JSON (or bytes, or nothing for None), and headers."""
        with self._lock:
            self.calls.append(f"{request.method} {request.path}")
            try:
                self._authorise(request)
                self._validate(request)
                for method, pattern, act in self._routes():
                    match = re.fullmatch(pattern, request.path)
                    if method == request.method and match:
                        return act(request, *map(int, match.groups()))
                raise self._violation(request, f"no such call of this server: {request.method} {request.path}")
            except RefusalError as refusal:
                told = {"code": refusal.status, "message": str(refusal), "description": "as eLabFTW has it"}
                return refusal.status, told, {}

    def _routes(self) -> Iterator[tuple[str, str, Callable[..., tuple[int, Any, dict[str, str]]]]]:
        one = r"experiments/(\d+)"
        yield "GET", "users/me", lambda _: (200, {"userid": 1, "fullname": "Publishing Service"}, {})
        yield "GET", "apikeys", self._keys
        yield "GET", rf"teams/{TEAM}/experiments_categories", lambda _: (200, _choices(CATEGORIES), {})
        yield "GET", rf"teams/{TEAM}/experiments_status", lambda _: (200, _choices(STATUSES), {})
        yield "GET", "experiments", self._search
        yield "POST", "experiments", self._create
        yield "GET", one, lambda request, number: (200, self._one(number).shown(), {})
        yield "PATCH", one, self._change
        yield "DELETE", one, self._delete
        yield "GET", rf"{one}/tags", self._tags
        yield "POST", rf"{one}/tags", self._add_tag
        yield "PATCH", rf"{one}/tags/(\d+)", self._remove_tag
        yield "POST", rf"{one}/uploads", self._add_upload
        yield "DELETE", rf"{one}/uploads/(\d+)", self._remove_upload
        yield "GET", rf"{one}/revisions", self._revisions

    def _authorise(self, request: Request) -> None:
        key = request.headers.get("authorization")
        if key not in {WRITER, READER}:
            raise RefusalError(401, "No corresponding API key found!")
        if key == READER and request.method != "GET":
            raise RefusalError(400, "You are using a read-only key to execute a write action.")

    def _validate(self, request: Request) -> None:
        from openapi_core.exceptions import OpenAPIError
        from openapi_core.testing import MockRequest

        content = request.content
        if request.method == "PATCH" and re.fullmatch(r"experiments/\d+", request.path):
            content = self._as_specified(request)
        checked = MockRequest(
            SITE_URL,
            request.method,
            f"/api/v2/{request.path}",
            args=request.query,
            headers=request.headers,
            data=content,
            content_type=request.content_type,
        )
        try:
            _specification().validate_request(checked)
        except OpenAPIError as error:
            raise self._violation(request, f"{error}: {error.__cause__}") from None

    def _as_specified(self, request: Request) -> bytes:
        """The body of a change with its metadata as an object: the specification says so, the server takes text."""
        body = request.json()
        if isinstance(body.get("metadata"), dict):
            raise self._violation(request, "metadata is an object: 'Array' is no JSON", 500)
        if "metadata" in body:
            body["metadata"] = json.loads(body["metadata"])
        return json.dumps(body).encode()

    def _violation(self, request: Request, why: str, status: int = 400) -> RefusalError:
        self.violations.append(f"{request.method} {request.path}: {why}")
        return RefusalError(status, why)

    def _keys(self, _: Request) -> tuple[int, Any, dict[str, str]]:
        keys = [
            {"id": 1, "name": "writer", "can_write": 1, "team": TEAM},
            {"id": 2, "name": "reader", "can_write": 0, "team": TEAM},
        ]
        return 200, keys, {}

    def _search(self, request: Request) -> tuple[int, Any, dict[str, str]]:
        states = {int(state) for state in request.query.get("state", "1").split(",")}
        found = [e for e in self.experiments.values() if e.state in states]
        if extended := request.query.get("extended"):
            match = re.fullmatch(r'extrafield:(s:)?"([^"]+)":"([^"]+)"', extended)
            if not match:
                raise RefusalError(400, f"Column 1: the search '{extended}' is not understood")
            pattern = re.escape(match[3]).replace("_", ".").replace("%", ".*")
            wanted = re.compile(pattern if match[1] else f".*{pattern}.*", re.IGNORECASE)
            found = [e for e in found if wanted.fullmatch(str(e.fields.get(match[2], {}).get("value", "")))]
        elif request.query.get("scope") != "3":
            found = []  # the key's owner prefers to see their own alone, and has none
        is_descending = request.query.get("sort", "desc") == "desc"
        found.sort(key=lambda experiment: experiment.id, reverse=is_descending)
        offset, limit = int(request.query.get("offset", 0)), int(request.query.get("limit", 1))
        return 200, [experiment.row() for experiment in found[offset : offset + limit]], {}

    def _create(self, request: Request) -> tuple[int, Any, dict[str, str]]:
        body = request.json()
        is_from_template = body.get("template", -1) != -1
        if self.forces_template and not is_from_template:
            raise RefusalError(400, "Experiments must use a template!")
        if is_from_template:
            body = {"title": body.get("title") if self.release >= (5, 4, 0) else "From a template"}
        content_type = MARKDOWN if self.prefers_markdown else 1
        if self.release >= (5, 4, 0):
            content_type = body.get("content_type") or content_type
        metadata = body.get("metadata")
        experiment = Experiment(
            id=self._next_id(),
            title=_title(body.get("title") or ""),
            body=purified(body.get("body") or ""),
            content_type=content_type,
            metadata=json.dumps(metadata) if metadata else None,
            category=body.get("category"),
            status=body.get("status"),
            tags=[],
        )
        self.experiments[experiment.id] = experiment
        for tag in body.get("tags") or ():
            _tag(experiment, tag)
        return _made(f"experiments/{experiment.id}")

    def _change(self, request: Request, number: int) -> tuple[int, Any, dict[str, str]]:
        experiment = self._writable(number)
        if experiment.editor:
            raise RefusalError(400, f"This entry is being edited by {experiment.editor}.")
        for target, value in request.json().items():
            if target == "tags" or (target == "metadatamerge" and self.release < (5, 6, 0)):
                raise self._violation(request, "Invalid update target.")
            match target:
                case "title":
                    experiment.title = _title(str(value))
                case "body":
                    before = experiment.body
                    experiment.body = str(value) if experiment.content_type == MARKDOWN else purified(str(value))
                    self._keep_revision(experiment, abs(len(experiment.body) - len(before)))
                case "metadata":
                    json.loads(value)
                    experiment.metadata = value
                case "date" | "category" | "status" | "rating" | "custom_id" | "content_type":
                    setattr(experiment, target, value)
                case _:
                    raise self._violation(request, "Invalid update target.")
            experiment.changelog.append(f"{target}: {'(see the revisions)' if target == 'body' else value}")
        return 200, experiment.shown(), {}

    def _keep_revision(self, experiment: Experiment, change: int) -> None:
        if experiment.body and (not experiment.revisions or change >= LEAST_CHANGE):
            experiment.revisions[self._next_id()] = experiment.body
        for old in sorted(experiment.revisions)[:-MOST_REVISIONS]:
            del experiment.revisions[old]

    def _delete(self, _: Request, number: int) -> tuple[int, Any, dict[str, str]]:
        experiment = self._writable(number)
        experiment.state = DELETED
        for upload in experiment.uploads:
            upload.state = DELETED
        return 204, None, {}

    def _tags(self, _: Request, number: int) -> tuple[int, Any, dict[str, str]]:
        experiment = self._one(number)
        return 200, [{"tag_id": _tag_id(tag), "tag": tag, "is_favorite": 0} for tag in experiment.tags], {}

    def _add_tag(self, request: Request, number: int) -> tuple[int, Any, dict[str, str]]:
        experiment = self._writable(number)
        tag = request.json()["tag"]
        _tag(experiment, tag)
        return _made(f"experiments/{number}/tags/{_tag_id(tag)}")

    def _remove_tag(self, _: Request, number: int, tag_id: int) -> tuple[int, Any, dict[str, str]]:
        experiment = self._writable(number)
        experiment.tags = [tag for tag in experiment.tags if _tag_id(tag) != tag_id]
        return 200, experiment.shown(), {}

    def _add_upload(self, request: Request, number: int) -> tuple[int, Any, dict[str, str]]:
        experiment = self._writable(number)
        parts = request.parts()
        file_name, content = parts["file"]
        if not file_name or file_name.endswith(".php"):
            raise RefusalError(400, "PHP files are forbidden!")
        if len(content) > self.largest_upload:
            raise RefusalError(413, "Request Entity Too Large")
        upload = Upload(self._next_id(), file_name, parts.get("comment", (None, b""))[1].decode(), content)
        experiment.uploads.append(upload)
        experiment.changelog.append(f'Added upload "{file_name}"')
        return _made(f"experiments/{number}/uploads/{upload.id}")

    def _remove_upload(self, _: Request, number: int, upload_id: int) -> tuple[int, Any, dict[str, str]]:
        experiment = self._writable(number)
        upload = next((u for u in experiment.uploads if u.id == upload_id), None)
        if upload is None:
            raise RefusalError(404, "Nothing to show with this id")
        if f"ab/{upload.id}" in experiment.body:
            raise RefusalError(400, "Please make sure to remove any reference to this file in the body!")
        upload.state = DELETED
        return 204, None, {}

    def _revisions(self, _: Request, number: int) -> tuple[int, Any, dict[str, str]]:
        return 200, [{"id": revision, "content_type": 1} for revision in self._one(number).revisions], {}

    def _one(self, number: int) -> Experiment:
        if number not in self.experiments:
            raise RefusalError(404, "Nothing to show with this id")
        return self.experiments[number]

    def _writable(self, number: int) -> Experiment:
        experiment = self._one(number)
        if experiment.state != NORMAL:
            raise RefusalError(422, "Only the Restore or Unarchive action is allowed on this entity.")
        if experiment.locked:
            raise RefusalError(403, "You do not have permission to access or modify this entity.")
        return experiment

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id


def _handler(server: ElabftwServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _act(self) -> None:
            parts = urlsplit(self.path)
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Request(
                self.command,
                parts.path.removeprefix("/api/v2/"),
                dict(parse_qsl(parts.query)),
                {name.lower(): value for name, value in self.headers.items()},
                content,
            )
            status, body, headers = server.answer(request)
            if server.lose_reply_to and f"{request.method} {request.path}".startswith(server.lose_reply_to):
                server.lose_reply_to = ""
                self.close_connection = True
                return
            sent = b"" if body is None else json.dumps(body).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = do_PATCH = do_DELETE = _act  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            pass

    return Handler


@cache
def _specification() -> Any:
    import yaml
    from openapi_core import OpenAPI

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    described = yaml.load(SPECIFICATION.read_text(encoding="utf-8"), Loader=loader)
    described["servers"] = [{"url": f"{SITE_URL}/api/v2"}]
    # An action, or fields: as it is written, any object is an action.
    change = described["paths"]["/experiments/{id}"]["patch"]["requestBody"]["content"]["application/json"]["schema"]
    change["anyOf"][0]["required"] = ["action"]
    return OpenAPI.from_dict(described)


def _made(path: str) -> tuple[int, None, dict[str, str]]:
    return 201, None, {"Location": f"{SITE_URL}/api/v2/{path}"}


def _choices(named: dict[int, str]) -> list[dict[str, Any]]:
    return [{"id": number, "title": title, "color": "29aeb9", "is_default": 0} for number, title in named.items()]


def _title(title: str) -> str:
    return re.sub(r"\r\n|\n|\r", " ", title.strip())[:255] or "Untitled"


def _tag(experiment: Experiment, tag: str) -> None:
    tag = tag.replace("\\", "").replace("|", " ").strip()
    if tag not in experiment.tags:
        experiment.tags.append(tag)


def _tag_id(tag: str) -> int:
    return int(hashlib.sha256(tag.encode()).hexdigest()[:6], 16)


# What eLabFTW leaves of a main text

ALLOWED = frozenset({
    "div", "br", "p", "sub", "img", "sup", "strong", "b", "em", "u", "a", "s", "span", "ul", "li", "ol", "dl", "dt",
    "dd", "blockquote", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "table", "tr", "td", "th", "code", "pre", "details",
    "summary", "caption", "figure", "figcaption",
})  # fmt: skip
ATTRIBUTES = {"a": {"href"}, "img": {"src", "width", "height"}, "td": {"colspan", "rowspan"}}
WITHOUT_END = frozenset({"br", "hr", "img"})


class _Purifier(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.kept: list[str] = []
        self.ignored = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ignored += tag in {"script", "style"}
        if tag not in ALLOWED:
            return
        kept = {name: value or "" for name, value in attrs if name in ATTRIBUTES.get(tag, ())}
        address = kept.get("src", kept.get("href", ""))
        if urlsplit(address).scheme not in {"", "http", "https", "mailto"}:
            kept = {}
        if tag == "img" and "src" not in kept:
            return
        if tag == "a" and "href" in kept:
            kept |= {"target": "_blank", "rel": "noreferrer noopener"}
        written = "".join(f' {name}="{escape(value)}"' for name, value in kept.items())
        self.kept.append(f"<{tag}{written}{' /' if tag in WITHOUT_END else ''}>")

    def handle_endtag(self, tag: str) -> None:
        self.ignored -= tag in {"script", "style"}
        if tag in ALLOWED - WITHOUT_END:
            self.kept.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        if not self.ignored:
            self.kept.append(escape(data, quote=False))


def purified(body: str) -> str:
    """A main text without comments, classes, ids, and whatever else eLabFTW strips."""
    purifier = _Purifier()
    purifier.feed(body)
    purifier.close()
    return "".join(purifier.kept)
