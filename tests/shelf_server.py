"""A WebDAV folder on loopback, as much of it as the example destination needs (RFC 4918)."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


class ShelfServer:
    """One folder; use it as a context manager. Its files may be looked at and changed at any time."""

    name = "shelf"
    token = "shelf-token-4711"

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        """Methods and file names, in the order of their arrival."""

    def __enter__(self) -> Self:
        self._server = _Server(self)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/shelf/"

    def variables(self, url: str) -> dict[str, str]:
        """Settings of a site that publishes here, by way of `url`."""
        return {"NX_SHELF_URL": url, "NX_SHELF_TOKEN": self.token}

    def copies(self, key: str) -> list[bytes]:
        """The record of a session; an empty one when there is only its page."""
        files = {name: content for name, content in list(self.files.items()) if name.partition(".")[0] == key}
        return [files.get(f"{key}.xml", b"")] if files else []

    def clear(self) -> None:
        self.files.clear()
        self.requests.clear()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, shelf: ShelfServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.shelf = shelf


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def _answer(self, status: int, content: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_PUT(self) -> None:
        shelf, body = self.server.shelf, self.rfile.read(int(self.headers.get("Content-Length", "0")))
        place, _, name = self.path.rpartition("/")
        shelf.requests.append(f"{self.command} {name}")
        if self.headers.get("Authorization") != f"Bearer {shelf.token}":
            return self._answer(401)
        if place != "/shelf":
            return self._answer(404)
        match self.command:
            case "PROPFIND" if not name:
                return self._answer(207, b'<?xml version="1.0"?><multistatus xmlns="DAV:"/>')
            case "PUT" if name:
                is_new = name not in shelf.files
                shelf.files[name] = body
                return self._answer(201 if is_new else 204)
            case "DELETE" if name in shelf.files:
                del shelf.files[name]
                return self._answer(204)
            case "GET" | "HEAD" if name in shelf.files:
                return self._answer(200, shelf.files[name])
        return self._answer(404)

    do_GET = do_HEAD = do_DELETE = do_PROPFIND = do_PUT  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        pass
