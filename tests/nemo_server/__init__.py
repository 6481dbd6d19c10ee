"""A real NEMO on loopback for tests: installed once per machine, one fresh site per start."""

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from nemo_server import week

VERSION = "8.1.5"
HERE = Path(__file__).parent
CACHE = Path(os.environ.get("NX_TEST_CACHE") or Path.home() / ".cache" / "nexuslims-pipeline-tests")


class NemoNotInstalledError(Exception):
    """NEMO cannot be installed here (no package index?)."""


def install() -> Path:
    """Interpreter of a virtual environment with NEMO, made at the first call."""
    home = CACHE / f"nemo-{VERSION}"
    home.mkdir(parents=True, exist_ok=True)
    python, done = home / "bin" / "python", home / "installed"
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            for command in (
                [sys.executable, "-m", "venv", str(home)],
                [str(python), "-m", "pip", "install", "--quiet", f"NEMO=={VERSION}"],
            ):
                made = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
                if made.returncode != 0:
                    raise NemoNotInstalledError(made.stderr[-2000:])
            done.touch()
    return python


class NemoProcess:
    """A NEMO server with the seeded week; use it as a context manager.

    Parameters
    ----------
    datetime_format
        Format of the times that it sends, as some sites set it; None: ISO 8601 with an offset.
    port
        Port on 127.0.0.1; 0: any free one. It stays the same after `stop` and `start`.
    """

    token = week.READER_TOKEN
    """May view what the pipeline needs, and nothing else."""
    admin_token = week.ADMIN_TOKEN
    """May change everything."""

    def __init__(self, *, datetime_format: str | None = None, port: int = 0) -> None:
        self._python = install()
        self.port = port or _free_port()
        self.site = Path(tempfile.mkdtemp(prefix="nemo-site-"))
        self._environment = {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": str(HERE),
            "DJANGO_SETTINGS_MODULE": "site_settings",
            "NX_TEST_NEMO_SITE": str(self.site),
            "NX_TEST_NEMO_TIME_ZONE": week.TIME_ZONE,
            "NX_TEST_NEMO_DATETIME_FORMAT": datetime_format or "",
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Root of the API."""
        return f"http://127.0.0.1:{self.port}/api/"

    def __enter__(self) -> Self:
        try:
            self._fill()
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._remove()

    def start(self) -> None:
        """Start the server and wait until it answers."""
        command = [self._python, str(HERE / "serve.py"), str(self.port)]
        with (self.site / "log").open("ab") as log:
            self._process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
        until = time.monotonic() + 120
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise RuntimeError(f"NEMO does not start: {(self.site / 'log').read_text()[-2000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop the server; its data stay until the context ends."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health/", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _fill(self) -> None:
        empty = CACHE / f"nemo-{VERSION}" / "empty.sqlite3"
        database = self.site / "nemo.sqlite3"
        if not empty.exists():
            self._run("-m", "django", "migrate", "--run-syncdb", "--verbosity", "0")
            shutil.copy(database, f"{empty}.{os.getpid()}")
            Path(f"{empty}.{os.getpid()}").replace(empty)
        shutil.copy(empty, database)
        self._run(str(HERE / "seed.py"))

    def _run(self, *arguments: str) -> None:
        made = subprocess.run(
            [self._python, *arguments],
            env=self._environment, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        if made.returncode != 0:
            raise RuntimeError(f"{arguments}: {made.stderr[-2000:]}")

    def _remove(self) -> None:
        shutil.rmtree(self.site, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
