"""A server in front of NEMO that can fail in every way."""

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests

Fault = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """One request: the next fault, or what NEMO answers."""

    server: "Proxy"

    def do_GET(self) -> None:
        self.server.seen.append(self.headers.get("Authorization"))
        if self.server.faults:
            self.server.faults.pop(0)(self)
        else:
            self.forward()

    def forward(self, **query: str) -> None:
        answer = requests.get(
            f"http://127.0.0.1:{self.server.behind}{self.path}",
            params=query,
            headers={"Authorization": self.headers.get("Authorization", "")},
            timeout=30,
        )
        self.answer(answer.status_code, answer.content)

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


class Proxy(ThreadingHTTPServer):
    """A server in front of NEMO that can fail in every way."""

    daemon_threads = True

    def __init__(self, behind: int, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.behind = behind
        self.faults: list[Fault] = []
        self.seen: list[str | None] = []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/api/"


def status(code: int, **headers: str) -> Fault:
    return lambda handler: handler.answer(code, b"out of order", **headers)


def hang(handler: Handler) -> None:
    time.sleep(1.0)


def half_an_answer(handler: Handler) -> None:
    handler.answer(200, b'[{"id": 1, "start": "2026-03')


def half_the_bytes(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"[{")


def drip(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(30):
        handler.wfile.write(b" ")
        time.sleep(0.05)


def drip_in_the_head(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    for _ in range(30):
        handler.wfile.write(b"a")
        time.sleep(0.05)


def page_of_a_foreign_shape(handler: Handler) -> None:
    handler.answer(200, b'{"detail": "maintenance"}')
