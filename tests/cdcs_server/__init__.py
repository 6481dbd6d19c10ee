"""A real CDCS on loopback for tests: installed once per machine from PyPI, one fresh site per start."""

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import requests
from pydantic import SecretStr

from resources.destinations.cdcs import Cdcs, Choices

VERSION = "2.23.0"
APPS = (
    "core_main_app",
    "core_website_app",
    "core_explore_common_app",
    "core_explore_keyword_app",
    "core_dashboard_common_app",
    "core_dashboard_app",
    "core_linked_records_app",
)
"""All of one release: each pins the packages that it was tested with."""
HERE = Path(__file__).parent
CACHE = Path(os.environ.get("NX_TEST_CACHE") or Path.home() / ".cache" / "nexuslims-pipeline-tests")
HOME = CACHE / f"cdcs-{VERSION}"
PATIENCE = 60
"""Seconds within which a server starts."""


class CdcsNotInstalledError(Exception):
    """CDCS, or the PostgreSQL that was asked for, cannot be had here."""


def install() -> Path:
    """Interpreter of a virtual environment with CDCS, made at the first call."""
    HOME.mkdir(parents=True, exist_ok=True)
    python, done = HOME / "bin" / "python", HOME / "installed"
    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            packages = [f"{app}=={VERSION}" for app in APPS]
            for command in (
                [sys.executable, "-m", "venv", str(HOME)],
                [str(python), "-m", "pip", "install", "--quiet", *packages, "psycopg2-binary==2.9.*"],
            ):
                made = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
                if made.returncode != 0:
                    raise CdcsNotInstalledError(made.stderr[-2000:])
            done.touch()
    return python


class CdcsProcess:
    """A CDCS server with our template; use it as a context manager.

    Parameters
    ----------
    database
        ``sqlite`` is the faster to start; only ``postgres`` has CDCS's full-text search.
    full
        With linked records, by which the server gives each record an identifier of its own; and with the newer name
        of a record's content.
    processes
        Server processes, each with threads of its own; several only on Linux.
    """

    name = "cdcs"
    token = "c0ffee" * 6 + "cafe"
    """Of a superuser."""
    powerless_token = "decade" * 6 + "dead"
    """Of somebody who may only see what is public."""

    def __init__(
        self, *, database: Literal["sqlite", "postgres"] = "sqlite", full: bool = False, processes: int = 1
    ) -> None:
        self._python = install()
        self._processes = processes
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self.site = Path(tempfile.mkdtemp(prefix="cdcs-site-"))
        self._database = Postgres(self.site / "postgres") if database == "postgres" else None
        self._empty = HOME / f"empty{'-full' * full}.sqlite3"
        self._environment = {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": str(HERE),
            "PYTHONWARNINGS": "ignore",
            "DJANGO_SETTINGS_MODULE": "site_settings",
            "NX_TEST_CDCS_SITE": str(self.site),
            "NX_TEST_CDCS_URL": self.url,
            "NX_TEST_CDCS_DATABASE": database,
            "NX_TEST_CDCS_FULL": str(int(full)),
            "NX_TEST_CDCS_TOKEN": self.token,
            "NX_TEST_CDCS_POWERLESS_TOKEN": self.powerless_token,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            if self._database:
                self._database.start()
            self._fill()
            self.start()
            Cdcs(self.url, SecretStr(self.token), Choices()).install_template()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def start(self) -> None:
        """Start the server and wait until it answers."""
        command = [self._python, str(HERE / "serve.py"), str(self.port), str(self._processes)]
        with (self.site / "log").open("ab") as log:
            self._process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
        if not _wait(self._answers, self._process):
            raise RuntimeError(f"CDCS does not start: {(self.site / 'log').read_text()[-2000:]}")

    def stop(self) -> None:
        """Stop the server; its data stay until the context ends."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def variables(self, url: str) -> dict[str, str]:
        """What makes a site publish to this server, reached at `url`."""
        return {"NX_CDCS_URL": url, "NX_CDCS_TOKEN": self.token}

    def ask(self, method: str, path: str, **payload: Any) -> Any:
        """An answer of the server, past the code that is tested; None when it is empty."""
        answer = requests.request(
            method, self.url + path, headers={"Authorization": f"Token {self.token}"}, timeout=60, **payload
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def records(self) -> list[dict[str, Any]]:
        """Every record on the server, whoever owns it."""
        records: list[dict[str, Any]] = self.ask("GET", "rest/admin/data/")
        return records

    def copies(self, key: str) -> list[bytes]:
        """XML of every copy of a session."""
        return [content(record) for record in self.records() if record["title"] == key]

    def blobs(self) -> list[dict[str, Any]]:
        """Every file on the server."""
        blobs: list[dict[str, Any]] = self.ask("GET", "rest/admin/blob/")
        return blobs

    def clear(self) -> None:
        """Delete all records and files."""
        for record in self.records():
            self.ask("DELETE", f"rest/data/{record['id']}/")
        for blob in self.blobs():
            self.ask("DELETE", f"rest/blob/{blob['id']}/")

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.url}rest/health/", timeout=5).ok
        except requests.RequestException:
            return False

    def _fill(self) -> None:
        """Make the tables; those of SQLite are kept for the next start, which saves most of its time."""
        if self._database:
            self._seed()
            return
        database = self.site / "cdcs.sqlite3"
        if not self._empty.exists():
            self._seed()
            shutil.copy(database, f"{self._empty}.{os.getpid()}")
            Path(f"{self._empty}.{os.getpid()}").replace(self._empty)
        shutil.copy(self._empty, database)

    def _seed(self) -> None:
        made = subprocess.run(
            [self._python, str(HERE / "seed.py")],
            env=self._environment, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        if made.returncode != 0:
            raise RuntimeError(made.stderr[-2000:])

    def _remove(self) -> None:
        self.stop()
        if self._database:
            self._database.stop()
        shutil.rmtree(self.site, ignore_errors=True)


def content(record: dict[str, Any]) -> bytes:
    """XML of a record, under whichever name the server gives it."""
    text: str = record["xml_content"] if "xml_content" in record else record["content"]
    return text.encode()


class Postgres:
    """A PostgreSQL for one site, reached by a socket in its folder.

    Parameters
    ----------
    folder
        Where its data lie; made at the start.
    """

    def __init__(self, folder: Path) -> None:
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: float(p.parts[-3]))
        if not programs:
            raise CdcsNotInstalledError("there is no PostgreSQL in /usr/lib/postgresql")
        self._programs = programs[-1].parent
        self._folder = folder
        # PostgreSQL refuses to run as root.
        self._account: dict[str, Any] = {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Make the database and start its server."""
        data = self._folder / "data"
        self._folder.mkdir()
        if self._account:
            self._folder.parent.chmod(0o755)
            shutil.chown(self._folder, **self._account)
        options = ["-A", "trust", "-U", "cdcs", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"]
        self._run("initdb", "-D", str(data), *options)
        settings = ["listen_addresses=", f"unix_socket_directories={self._folder}", "fsync=off", "full_page_writes=off"]
        command = [str(self._programs / "postgres"), "-D", str(data), *(f"--{setting}" for setting in settings)]
        self._process = subprocess.Popen(command, cwd=self._folder, stderr=subprocess.DEVNULL, **self._account)
        if not _wait(self._answers, self._process):
            raise RuntimeError("PostgreSQL does not start")

    def stop(self) -> None:
        """Stop the server."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        made = subprocess.run(
            [self._programs / "pg_isready", "-q", "-h", self._folder], capture_output=True, check=False
        )
        return made.returncode == 0

    def _run(self, program: str, *arguments: str) -> None:
        made = subprocess.run(
            [self._programs / program, *arguments],
            cwd=self._folder, capture_output=True, text=True, timeout=120, check=False, **self._account,
        )  # fmt: skip
        if made.returncode != 0:
            raise RuntimeError(f"{program}: {made.stderr[-2000:]}")


def _wait(answers: Callable[[], bool], process: "subprocess.Popen[bytes]") -> bool:
    until = time.monotonic() + PATIENCE
    while not answers():
        if process.poll() is not None or time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
