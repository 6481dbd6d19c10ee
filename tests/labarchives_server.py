"""A stand-in for LabArchives over HTTP, with its signatures, its errors and its memory.

Names of methods, parameters and elements as the public clients of LabArchives know them. Nothing can be deleted;
every text and file keeps its earlier revisions.
"""

import base64
import hashlib
import hmac
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import parse_qsl, urlsplit
from xml.sax.saxutils import escape

KEY_ID = "an institution"
PASSWORD = "s3cret of the/institution+="
SERVICE_UID = "285489257Ho's+/7="
ADA_UID = "28adaUID+/x&9="
SERVICE_NOTEBOOK = "MTAwLjF8c2VydmljZQ=="
ADA_NOTEBOOK = "MTAwLjJ8YWRh/+Yg=="
LATENCY_MS = 120_000


@dataclass
class Node:
    notebook: str
    parent: str
    name: str
    is_page: bool


@dataclass
class Entry:
    page: str
    part_type: str
    revisions: list[bytes]
    caption: str = ""
    file_name: str = ""

    @property
    def content(self) -> bytes:
        return self.revisions[-1]


class RefusedError(Exception):
    def __init__(self, code: int, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.code, self.status = code, status


@dataclass
class LabarchivesServer:
    """Use it as a context manager; what it holds may be looked at and changed at any time."""

    name: ClassVar[str] = "labarchives"

    notebooks: dict[str, set[str]] = field(
        default_factory=lambda: {SERVICE_UID: {SERVICE_NOTEBOOK}, ADA_UID: {ADA_NOTEBOOK}}
    )
    """Notebooks that each uid may use."""
    nodes: dict[str, Node] = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    ahead: float = 0.0
    """How far its clock is ahead of ours, seconds."""
    largest: int = 2**28
    error_status: int | None = None
    """Status code of errors, when it is not the proper one."""
    lost: list[str] = field(default_factory=list)
    """Methods whose next answer gets lost, after the call was carried out."""
    instead: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    """What is answered to a method, once, without carrying it out."""
    tidies: bool = False
    """Whether texts are stored otherwise than they were sent."""

    def __enter__(self) -> Self:
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.stand_in = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/api"

    def variables(self, url: str) -> dict[str, str]:
        """Settings of a site that publishes here, by way of `url`."""
        return {
            "NX_LABARCHIVES_URL": url,
            "NX_LABARCHIVES_ACCESS_KEY_ID": KEY_ID,
            "NX_LABARCHIVES_ACCESS_PASSWORD": PASSWORD,
            "NX_LABARCHIVES_USER_ID": SERVICE_UID,
            "NX_LABARCHIVES_NOTEBOOK_ID": SERVICE_NOTEBOOK,
        }

    # What it holds

    def pages(self, key: str) -> dict[str, Node]:
        """Pages of a session, by their tree-id."""
        return {i: n for i, n in self.nodes.items() if n.is_page and n.name.split()[0] == key}

    def on(self, page: str, part_type: str = "") -> list[Entry]:
        """Entries of a page."""
        return [e for e in self.entries.values() if e.page == page and e.part_type.startswith(part_type)]

    def copies(self, key: str) -> list[bytes]:
        """Record of each page of a session; empty when it has none, and several when it has several."""
        found = []
        for page in self.pages(key):
            records = [e.content for e in self.on(page, "Attachment") if e.file_name == f"{key}.xml"]
            found += records or [b""]
        return found

    def everything(self) -> bytes:
        """All that people and programs are shown; without the earlier revisions, which LabArchives never gives up."""
        names = [f"{n.name}".encode() for n in self.nodes.values()]
        texts = [f"{e.caption} {e.file_name} ".encode() + e.content for e in self.entries.values()]
        return b"\n".join(names + texts)

    def clear(self) -> None:
        with self._lock:
            for held in (self.nodes, self.entries, self.calls, self.starts, self.lost, self.instead):
                held.clear()

    # What it answers

    def answer(self, verb: str, target: str, body: bytes, is_form: bool) -> tuple[int, bytes] | None:
        """Status and content; None when the answer gets lost."""
        path, query = urlsplit(target).path, dict(parse_qsl(urlsplit(target).query, keep_blank_values=True))
        if not path.startswith("/api/"):
            return 404, b"<!DOCTYPE html><title>The page you were looking for doesn't exist</title>"
        call = path.removeprefix("/api/")
        form = dict(parse_qsl(body.decode(), keep_blank_values=True)) if is_form else {}
        with self._lock:
            self.starts.append(time.monotonic())
            self.calls.append(call)
            if call in self.instead:
                return self.instead.pop(call)
            try:
                status, content = 200, self._carry_out(verb, call, query, body, form)
            except RefusedError as refusal:
                status = self.error_status or refusal.status
                content = (
                    f"<error><error-code>{refusal.code}</error-code>"
                    f"<error-description>{escape(str(refusal))}</error-description></error>"
                ).encode()
            if call in self.lost:
                self.lost.remove(call)
                return None
            return status, content

    def now_ms(self) -> float:
        return (time.time() + self.ahead) * 1000

    def _carry_out(self, verb: str, call: str, query: Mapping[str, str], body: bytes, form: Mapping[str, str]) -> bytes:
        kind, _, method = call.partition("/")
        if call == "utilities/epoch_time":
            return f"<utilities><epoch-time>{self.now_ms():.0f}</epoch-time></utilities>".encode()
        handler = getattr(self, f"_{verb.lower()}_{method}", None)
        if kind not in {"users", "tree_tools", "entries"} or handler is None:
            raise RefusedError(4500, f"unknown method {call}", 404)
        self._check_signature(method, query)
        if method != "user_access_info" and query.get("uid") not in self.notebooks:
            raise RefusedError(4533, f"session timed out for uid {query.get('uid')}", 401)
        for eid in {"eid"} & query.keys():
            if query[eid] not in self.entries:
                raise RefusedError(4513, "no such entry", 404)
        try:
            answer: bytes | str = handler(query, form.get("entry_data", "").encode() if form else body)
        except KeyError as missing:
            raise RefusedError(4500, f"mandatory parameter {missing} is missing") from None
        return answer if isinstance(answer, bytes) else answer.encode()

    def _check_signature(self, method: str, query: Mapping[str, str]) -> None:
        if query.get("akid") != KEY_ID:
            raise RefusedError(4506, "The access key id (akid) is not valid", 401)
        expires = query.get("expires", "")
        digest = hmac.digest(PASSWORD.encode(), f"{KEY_ID}{method}{expires}".encode(), hashlib.sha512)
        if query.get("sig") != base64.b64encode(digest).decode():
            raise RefusedError(4520, f"The supplied signature {query.get('sig')} was invalid", 401)
        if abs(int(expires) - self.now_ms()) > LATENCY_MS:
            raise RefusedError(4504, "The expires parameter is no longer valid, it's too old", 401)

    def _allow(self, query: Mapping[str, str], notebook: str) -> None:
        if notebook not in self.notebooks[query["uid"]]:
            raise RefusedError(4501, "you have no rights in this notebook", 403)

    def _node(self, query: Mapping[str, str], name: str) -> Node:
        node = self.nodes.get(query[name])
        if node is None or node.notebook != query["nbid"]:
            raise RefusedError(4512, "no such folder or page", 404)
        return node

    def _id(self, kind: str) -> str:
        number = len(self.nodes) + len(self.entries) + 1
        return base64.b64encode(f"{number}.{kind}?>".encode()).decode()

    def _get_user_access_info(self, query: Mapping[str, str], _: bytes) -> str:
        if query["password"] != "one hour":
            raise RefusedError(4514, "login or password incorrect", 404)
        about = f"<id>{SERVICE_NOTEBOOK}</id><name>Lab</name><is-default type='boolean'>true</is-default>"
        notebooks = f"<notebooks type='array'><notebook>{about}</notebook></notebooks>"
        return f"<users><id>{escape(SERVICE_UID)}</id>{notebooks}</users>"

    def _get_max_file_size(self, _: Mapping[str, str], __: bytes) -> str:
        return f"<users><max-file-size type='integer'>{self.largest}</max-file-size></users>"

    def _get_get_tree_level(self, query: Mapping[str, str], _: bytes) -> str:
        self._allow(query, query["nbid"])
        if query["parent_tree_id"] != "0":
            self._node(query, "parent_tree_id")
        rows = "".join(
            f"<level-node><is-page type='boolean'>{str(n.is_page).lower()}</is-page><tree-id>{i}</tree-id>"
            f"<display-text>{escape(n.name)}</display-text></level-node>"
            for i, n in self.nodes.items()
            if (n.notebook, n.parent) == (query["nbid"], query["parent_tree_id"])
        )
        return f"<tree-tools><level-nodes type='array'>{rows}</level-nodes></tree-tools>"

    def _get_insert_node(self, query: Mapping[str, str], _: bytes) -> str:
        self._allow(query, query["nbid"])
        if query["parent_tree_id"] != "0":
            self._node(query, "parent_tree_id")
        made = self._id("node")
        is_page = {"true": False, "false": True}[query["is_folder"]]
        self.nodes[made] = Node(query["nbid"], query["parent_tree_id"], query["display_text"], is_page)
        return f"<tree-tools><node><tree-id>{made}</tree-id></node></tree-tools>"

    def _get_update_node(self, query: Mapping[str, str], _: bytes) -> str:
        self._allow(query, query["nbid"])
        self._node(query, "tree_id").name = query["display_text"]
        return f"<tree-tools><node><tree-id>{query['tree_id']}</tree-id></node></tree-tools>"

    def _get_get_entries_for_page(self, query: Mapping[str, str], _: bytes) -> str:
        self._allow(query, query["nbid"])
        self._node(query, "page_tree_id")
        rows = "".join(_entry(i, e) for i, e in self.entries.items() if e.page == query["page_tree_id"])
        return f"<entries>{rows}</entries>"

    def _post_add_entry(self, query: Mapping[str, str], text: bytes) -> str:
        self._allow(query, query["nbid"])
        self._node(query, "pid")
        return self._add(Entry(query["pid"], query["part_type"], [self._tidied(text)]))

    def _post_update_entry(self, query: Mapping[str, str], text: bytes) -> str:
        entry = self._changed(query)
        entry.revisions.append(self._tidied(text))
        return f"<entries>{_entry(query['eid'], entry)}</entries>"

    def _post_add_attachment(self, query: Mapping[str, str], content: bytes) -> str:
        self._allow(query, query["nbid"])
        self._node(query, "pid")
        self._check_size(content)
        query["change_description"]
        return self._add(Entry(query["pid"], "Attachment", [content], query["caption"], query["filename"]))

    def _post_update_attachment(self, query: Mapping[str, str], content: bytes) -> str:
        entry = self._changed(query)
        self._check_size(content)
        query["change_description"]
        entry.revisions.append(content)
        entry.caption, entry.file_name = query["caption"], query["filename"]
        return f"<entries>{_entry(query['eid'], entry)}</entries>"

    def _get_entry_attachment(self, query: Mapping[str, str], _: bytes) -> bytes:
        return self._changed(query).content

    def _add(self, entry: Entry) -> str:
        made = self._id("entry")
        self.entries[made] = entry
        return f"<entries>{_entry(made, entry)}</entries>"

    def _changed(self, query: Mapping[str, str]) -> Entry:
        entry = self.entries[query["eid"]]
        self._allow(query, self.nodes[entry.page].notebook)
        return entry

    def _check_size(self, content: bytes) -> None:
        if len(content) > self.largest:
            raise RefusedError(4529, "the file is too large")

    def _tidied(self, text: bytes) -> bytes:
        return b"<div>" + text.replace(b"\n", b"") + b"</div>" if self.tidies else text


def _entry(eid: str, entry: Entry) -> str:
    is_file = entry.part_type == "Attachment"
    data = entry.caption if is_file else entry.content.decode()
    return (
        f"<entry><eid>{eid}</eid><part-type>{entry.part_type}</part-type>"
        f"<version type='integer'>{len(entry.revisions)}</version>"
        f"<attach-file-name>{escape(entry.file_name)}</attach-file-name><caption>{escape(entry.caption)}</caption>"
        f"<entry-data>{escape(data)}</entry-data></entry>"
    )


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer(b"", is_form=False)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(body, is_form=self.headers["Content-Type"] == "application/x-www-form-urlencoded")

    def _answer(self, body: bytes, *, is_form: bool) -> None:
        server: Any = self.server
        answer = server.stand_in.answer(self.command, self.path, body, is_form)
        if answer is None:
            return
        status, content = answer
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass
