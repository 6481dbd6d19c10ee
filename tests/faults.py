"""Faults for whatever publishes: a proxy that fails, a disk that fails, and a death between any two steps.

A `Site` is one destination with its ledger and sessions. It can be made anew in another process, which is how a death
is tried: by ``SIGKILL``.
"""

import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self
from unittest import mock
from urllib.parse import urlsplit

import pytest
from publications import publication

from nexuslims_pipeline.configuration import Settings
from nexuslims_pipeline.publication.model import Link, Publication
from resources import publishing
from resources.destinations.base import Destination, DestinationError
from resources.destinations.known import kinds
from resources.destinations.pace import Pace
from resources.destinations.server import Server
from resources.ledger import Ledger
from resources.publishing import Publisher

EXAMPLE = Path(__file__).parents[1] / "examples" / "shelf_destination"
NOW = datetime(2026, 4, 1, tzinfo=UTC)
"""Long after all sessions."""


class Bench(Protocol):
    """A server, or a folder, as the tests see it; a context manager."""

    name: str
    """Of the destination."""

    @property
    def url(self) -> str:
        """Address of the server; empty for a folder."""

    def variables(self, url: str) -> dict[str, str]:
        """Settings of a site that publishes here, by way of `url`."""

    def copies(self, key: str) -> list[bytes]:
        """Record of every copy of a session, not found by the code that is tested."""

    def clear(self) -> None:
        """Make it as it was at the start."""


# What is published


@dataclass
class Sessions:
    """Sessions to publish, by key, each in a version; a `resources.publishing.Source`."""

    folder: Path
    versions: dict[str, int] = field(default_factory=dict)
    withdrawn: set[str] = field(default_factory=set)
    unsettled: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    """Sessions of which nothing is left to tell."""
    built: datetime = NOW - timedelta(days=1)

    def sessions(self) -> list[str]:
        return sorted(self.versions.keys() - self.withdrawn - self.lost)

    def content(self, key: str, stages: Collection[str]) -> str | None:
        return f"version {self.versions[key]}" if key in self.sessions() else None

    def built_at(self, key: str) -> datetime | None:
        return self.built if key in self.versions else None

    def is_settled(self, key: str) -> bool:
        return key not in self.unsettled

    def is_withdrawn(self, key: str) -> bool:
        return key in self.withdrawn

    def has_lost_its_record(self, key: str) -> bool:
        return key in self.lost

    def publication(self, key: str, links: Mapping[str, Link]) -> Publication | None:
        content = self.content(key, ())
        if content is None:
            return None
        return publication(self.folder, key, f"Welds, {content}.", datasets=1, links=dict(links))


@dataclass
class Site:
    """One destination with its ledger and what there is to publish."""

    name: str
    variables: dict[str, str]
    folder: Path
    sessions: Sessions

    def publisher(self) -> Publisher:
        """A publisher as a fresh process would make it."""
        kind = kind_of(self.name)
        site = _settings(tuple(sorted(self.variables.items())))
        with mock.patch.dict(os.environ, self.variables):
            destination = kind.configured(site.model_copy(update={"data_path": self.folder / "data"}))
        assert destination is not None
        return Publisher(destination, {self.name: Ledger(self.ledger)}, {self.name: kind.label}, self.sessions)

    @property
    def ledger(self) -> Path:
        return self.folder / "exports" / self.name

    def run(self, *, refused_too: bool = False) -> list[Exception]:
        """Publish all that is due, as the pipeline would; the faults that came up."""
        publisher, faults = self.publisher(), []
        for key in publisher.due(NOW, refused_too=refused_too):
            try:
                publisher.publish(key)
            except (DestinationError, OSError) as fault:
                faults.append(fault)
        return faults


@cache
def _settings(variables: tuple[tuple[str, str], ...]) -> Settings:
    """Settings of nothing but these variables."""
    places = {"NX_DATA_PATH": "/nonexistent", "NX_INSTRUMENT_DATA_PATH": str(EXAMPLE)}
    others = {name: value for name, value in os.environ.items() if not name.startswith("NX_")}
    with mock.patch.dict(os.environ, others | places | dict(variables), clear=True):
        return Settings(_env_file=None)  # type: ignore[call-arg]


def kind_of(name: str) -> type[Destination]:
    """A kind of destination; the example needs not be installed."""
    if name == "shelf":
        if str(EXAMPLE) not in sys.path:
            sys.path.append(str(EXAMPLE))
        from shelf_destination import Shelf

        return Shelf
    return next(kind for kind in kinds().found if kind.name == name)


def without_waiting(patch: pytest.MonkeyPatch) -> None:
    """Nobody waits: not before another try, not for a server's pace, not after an outage."""
    patch.setitem(Server.__init__.__kwdefaults__, "sleep", lambda _: None)  # type: ignore[index]
    patch.setattr(Pace, "wait", lambda _: None)
    patch.setattr(publishing, "PAUSE", timedelta(0))


# Death


def in_a_process(site: Site, death: "Death | None" = None, keys: Collection[str] = ()) -> Any:
    """Start a process that publishes some keys, or all that is due, until it dies.

    Returns
    -------
    multiprocessing.process.BaseProcess
        Its ``exitcode`` is ``-SIGKILL`` when it was killed.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["faults", "lxml.etree", "rocrate.rocrate"])
    process = context.Process(target=_publish, args=(site, death, tuple(keys)))
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):  # else it finds nothing to preload
        process.start()
    return process


def _publish(site: Site, death: "Death | None", keys: tuple[str, ...]) -> None:
    without_waiting(pytest.MonkeyPatch())
    publisher = site.publisher()
    if death is not None:
        fail_on_disk(death.folder, death.n, lambda: os.kill(os.getpid(), signal.SIGKILL))
    for key in keys or publisher.due(NOW):
        with suppress(DestinationError):  # found out by whoever looks at what is there afterwards
            publisher.publish(key)


@dataclass(frozen=True)
class Death:
    """Death at the N-th change below a folder."""

    folder: Path
    n: int


# The disk


@dataclass
class _Disk:
    folder: str = ""
    n: int = 0
    seen: int = 0
    fail: Callable[[], None] = lambda: None


_disk = _Disk()


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Before each change below the folder; an exception of an audit hook stops what was about to happen (PEP 578)."""
    if not _disk.folder or event not in ("open", "os.rename", "os.remove", "os.rmdir", "os.link"):
        return
    path, flags = arguments[0], arguments[2] if event == "open" else 0
    if not isinstance(path, str | bytes | os.PathLike) or not os.fsdecode(path).startswith(_disk.folder):
        return
    # A folder is opened to make a rename in it last: from then on the change is there.
    if event == "open" and not flags & (os.O_WRONLY | os.O_RDWR) and not Path(os.fsdecode(path)).is_dir():
        return
    _disk.seen += 1
    if _disk.seen == _disk.n:
        _disk.fail()


def fail_on_disk(folder: Path, n: int, fail: Callable[[], None]) -> _Disk:
    """Call `fail` before the N-th change below a folder, from now on."""
    if not hasattr(_watch, "is_on"):
        sys.addaudithook(_watch)
        _watch.is_on = True  # type: ignore[attr-defined]
    _disk.folder, _disk.n, _disk.seen, _disk.fail = str(folder), n, 0, fail
    return _disk


@contextmanager
def full_disk(folder: Path, n: int) -> Iterator[_Disk]:
    """No space at the N-th change below a folder; ``seen`` tells how many there were."""

    def fail() -> None:
        raise OSError(28, "No space left on device", str(folder))

    try:
        yield fail_on_disk(folder, n, fail)
    finally:
        _disk.folder = ""


# The network

Fault = Callable[["_Handler"], None]


class Proxy(ThreadingHTTPServer):
    """A server in front of another that passes everything on as it is, but for the N-th request.

    Parameters
    ----------
    behind
        Address of the other server.
    """

    daemon_threads = True

    def __init__(self, behind: str) -> None:
        self.behind = urlsplit(behind)
        super().__init__(("127.0.0.1", 0), _Handler)
        self._lock = threading.RLock()
        self.is_down = False
        self.fail(0, passed_on)

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None = None,
        value: BaseException | None = None, trace: TracebackType | None = None,
    ) -> None:  # fmt: skip
        self.shutdown()
        self.server_close()

    @property
    def url(self) -> str:
        return self.behind._replace(netloc=f"127.0.0.1:{self.server_port}").geturl()

    def fail(self, n: int, way: Fault) -> None:
        """Fail at the N-th request from now on, in one way."""
        self.seen, self._n, self._way = 0, n, way
        self._late: list[_Handler] = []

    def mend(self) -> bool:
        """Pass on everything from now on; whether there was an N-th request."""
        was_reached = 0 < self._n <= self.seen
        self.is_down, self._n = False, 0
        return was_reached

    def treat(self, handler: "_Handler") -> None:
        self.seen += 1
        if self.is_down:
            drop(handler)
        elif self.seen == self._n:
            self._way(handler)
        else:
            self.carry_out_late(handler)
            passed_on(handler)

    def put_off(self, handler: "_Handler") -> None:
        self._late.append(handler)

    def carry_out_late(self, again: "_Handler | None" = None) -> None:
        """Carry out what was put off: all of it, or what is now asked for again, just before."""
        with self._lock:
            due = [late for late in self._late if again is None or late.asked == again.asked]
            self._late = [late for late in self._late if late not in due]
            for late in due:
                late.forward()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed does not read its answer."""


class _Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Proxy

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if self.raw_requestline and self.parse_request():
            self.body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            assert "Transfer-Encoding" not in self.headers, "the proxy knows no chunks"
            self.server.treat(self)
        self.close_connection = True

    @property
    def asked(self) -> tuple[str, str]:
        """Method and path, without what differs from one try to the next."""
        return self.command, self.path.partition("?")[0]

    def forward(self) -> bytes:
        """What the server answers, as one text."""
        connection = HTTPConnection(self.server.behind.netloc, timeout=60)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in ("connection", "keep-alive"):
                connection.putheader(name, value)
        connection.putheader("Connection", "close")
        connection.endheaders(self.body or None)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return _head(answer, content) + content

    def send(self, answer: bytes) -> None:
        self.wfile.write(answer)

    def log_message(self, *arguments: object) -> None:
        pass


def _head(answer: HTTPResponse, content: bytes) -> bytes:
    dropped = ("connection", "transfer-encoding", "keep-alive")
    headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in dropped]
    if not any(name.lower() == "content-length" for name, _ in headers) and answer.status not in (204, 304):
        headers.append(("Content-Length", str(len(content))))
    lines = [f"HTTP/1.1 {answer.status} {answer.reason}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1")


def passed_on(request: _Handler) -> None:
    request.send(request.forward())


def drop(request: _Handler) -> None:
    """End the connection without an answer."""
    request.connection.shutdown(socket.SHUT_RDWR)


def outage(request: _Handler) -> None:
    """Not carried out, and nobody is there from now on."""
    request.server.is_down = True
    drop(request)


def answer_lost(request: _Handler) -> None:
    request.forward()
    drop(request)


def answer_lost_then_outage(request: _Handler) -> None:
    request.forward()
    outage(request)


def half_an_answer(request: _Handler) -> None:
    """The head and half of the content; of an answer without content, half of the head."""
    head, _, content = (answer := request.forward()).partition(b"\r\n\r\n")
    request.send(answer[: -len(content) // 2] if content else head[: len(head) // 2])


def out_of_service(request: _Handler) -> None:
    """Not carried out, and told so."""
    request.send(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy")


def page_with_500(request: _Handler) -> None:
    """Carried out, but what comes back is the page of some gateway."""
    request.forward()
    page = b"<!doctype html><title>Error</title><h1>Internal Server Error</h1>"
    request.send(b"HTTP/1.1 500 Oops\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s" % (len(page), page))


def carried_out_late(request: _Handler) -> None:
    """Given up by a gateway, but carried out later: at the worst moment, when it has just been asked for again."""
    request.server.put_off(request)
    request.send(b"HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlate")


def death_of(process: Callable[[], Any]) -> Fault:
    """Carried out, but who asked is killed before it hears of that."""

    def kill(request: _Handler) -> None:
        request.forward()
        process().kill()
        wait([process().sentinel])

    return kill


WAYS: dict[str, Fault] = {
    "outage": outage,
    "answer lost": answer_lost,
    "answer lost then outage": answer_lost_then_outage,
    "half an answer": half_an_answer,
    "out of service": out_of_service,
    "page with 500": page_with_500,
    "carried out late": carried_out_late,
}
