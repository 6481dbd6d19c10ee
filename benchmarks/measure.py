"""What a command costs, with all of its descendants, and which files it touches."""

import contextlib
import ctypes
import hashlib
import os
import resource
import signal
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

PR_SET_CHILD_SUBREAPER = 36
IN_OPEN, IN_NONBLOCK, IN_ISDIR = 0x20, os.O_NONBLOCK, 0x40000000
GRACE_SECONDS = 5.0
"""How long descendants may outlive the command before they are killed."""

libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run of a command cost."""

    wall: float
    """Seconds until the command itself had ended."""
    cpu: float
    """Seconds of user and system time of the command and all its descendants."""
    peak: float
    """Largest resident set that any one of them reached, MiB."""
    output: str
    """Standard output."""


def run(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> Cost:
    """Run a command to its end.

    Orphans are adopted, so that the time and memory of helpers that outlive the command (fork servers and their
    children) are counted too. The caller's own settings (``NX_``, a ``.env`` in its folder) are kept away.

    Parameters
    ----------
    command
        Programme and arguments.
    environment
        Variables to add to those of this process without its ``NX_`` variables.

    Raises
    ------
    RuntimeError
        If the command fails; with the end of its standard error.
    """
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    others = children()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NX_")}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.perf_counter()
        child = subprocess.Popen(
            [str(part) for part in command],
            stdout=out,
            stderr=err,
            stdin=subprocess.DEVNULL,
            env=inherited | dict(environment or {}),
            cwd=tempfile.gettempdir(),
            start_new_session=True,
        )
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except KeyboardInterrupt:
            _kill_group(child.pid)
            raise
        wall = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        usages = [usage, *_reap_orphans(child.pid, others)]
        out.seek(0)
        err.seek(0)
        if child.returncode:
            end = err.read()[-3000:].decode(errors="replace")
            msg = f"{' '.join(map(str, command))[:300]} failed ({child.returncode}):\n{end}"
            raise RuntimeError(msg)
        return Cost(
            wall=wall,
            cpu=sum(u.ru_utime + u.ru_stime for u in usages),
            peak=max(u.ru_maxrss for u in usages) / 1024,
            output=out.read().decode(),
        )


def children() -> set[int]:
    """Numbers of the processes that the main thread started or adopted (``proc(5)``)."""
    return set(map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()))


def _reap_orphans(group: int, others: Collection[int]) -> list[resource.struct_rusage]:
    """Wait for all children but those that were there before."""
    killer = threading.Timer(GRACE_SECONDS, _kill_group, [group])
    killer.start()
    usages = []
    while orphans := children().difference(others):
        usages.append(os.wait4(orphans.pop(), 0)[2])
    killer.cancel()
    return usages


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


class OpenedFiles:
    """Names of the regular files below a folder that are opened within a ``with`` block, by whichever process.

    The kernel tells (``inotify(7)``), so that nothing escapes: neither C libraries nor children.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.names: list[str] = []

    def __enter__(self) -> Self:
        self._queue = libc.inotify_init1(IN_NONBLOCK)
        for path in (self._folder, *(p for p in self._folder.rglob("*") if p.is_dir())):
            if libc.inotify_add_watch(self._queue, os.fsencode(path), IN_OPEN) < 0:
                raise OSError(ctypes.get_errno(), "inotify refuses to watch", str(path))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(BlockingIOError):
            while events := os.read(self._queue, 1 << 16):
                self.names += _opened(events)
        os.close(self._queue)


def _opened(events: bytes) -> Iterable[str]:
    at = 0
    while at < len(events):
        _, mask, _, length = struct.unpack_from("iIII", events, at)
        if not mask & IN_ISDIR:
            yield os.fsdecode(events[at + 16 : at + 16 + length].rstrip(b"\0"))
        at += 16 + length


def tree(folder: Path) -> dict[str, tuple[int, str]]:
    """Modification time and SHA-256 of every file below a folder."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
