"""Reading vendor files in killable child processes with limits on time and memory.

The children are forked from a server that has the common readers imported already, so that a child costs
milliseconds. A child reads, and nothing else: it may not write a file, open a connection, or open a file outside of
the instrument root and Python's own folders. A file that hangs, grows or crashes its child costs that file only.
"""

import multiprocessing
import os
import resource
import signal
import site
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from pebble import ProcessExpired, ProcessPool

from nexuslims_pipeline.extraction.plugins import extractor_plugins, preview_plugins
from nexuslims_pipeline.extraction.profiles.loading import Profiles
from nexuslims_pipeline.extraction.reading import AS_THEY_ARE, ReadFile, read_file, unread
from nexuslims_pipeline.extraction.site_rules import SiteRules
from nexuslims_pipeline.signals import Source

PRELOADED = ["nexuslims_pipeline.extraction.warm"]
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
FORBIDDEN = {
    **dict.fromkeys(("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"), "use the network"),
    **dict.fromkeys(("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork"), "start a program"),
    **dict.fromkeys(("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink"), "change a folder"),
    **dict.fromkeys(("os.truncate", "os.chmod", "os.chown", "os.utime", "os.setxattr"), "change a file"),
}
"""Audit events of Python (https://docs.python.org/3/library/audit_events.html) that no reader has a use for."""
FILES_PER_CHILD = 200
"""A child is replaced after so many files, so that a leak in a reader stays small."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one file may cost."""

    seconds: float = 120.0
    mebibytes: int = 2048


class Sandbox:
    """A pool of children that read files below one root."""

    def __init__(
        self, root: Path, workers: int, limits: Limits, *, rules: SiteRules = AS_THEY_ARE, whole_folder: bool = False
    ) -> None:
        self._root = root.resolve()
        self._whole_folder = whole_folder
        self._limits = limits
        self._rules = rules
        self._ahead = 4 * workers
        context = prepare()
        self._pool = ProcessPool(
            max_workers=workers,
            max_tasks=FILES_PER_CHILD,
            context=context,
            initializer=_confine,
            initargs=(str(self._root), limits.mebibytes, rules),
        )

    def read(self, sources: Sequence[Source], *, previews: bool = True) -> Iterator[ReadFile]:
        """Read files in parallel; results come in the order of `sources`, only a few ahead of their use."""
        waiting = iter(sources)
        begun = deque((s, self._schedule(s, previews=previews)) for s in islice(waiting, self._ahead))
        while begun:
            source, future = begun.popleft()
            yield self._result(source, future, previews=previews)
            begun += ((s, self._schedule(s, previews=previews)) for s in islice(waiting, 1))

    def close(self) -> None:
        """End the children, at once."""
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join(timeout=5)

    def _result(self, source: Source, future: Any, *, previews: bool) -> ReadFile:
        """What a child read; when it hung or crashed, the file again without what is not its own.

        That is first its preview, then the profiles as well.
        """
        read = self._outcome(future)
        if isinstance(read, ReadFile):
            return read
        fault, left_out = read, ["Preview"] if previews else []
        if left_out:
            read = self._outcome(self._schedule(source, previews=False))
        if isinstance(read, str) and self._rules.profiles.of(source.instrument_id):
            left_out.append("Profiles")
            read = self._outcome(self._schedule(source, previews=False, profiles=False))
        if isinstance(read, str):
            return unread(source, read)
        doubts = read.elements[0]["nx_meta"]["warnings"]
        doubts += [{"field": name, "reason": f"Left out: {fault}"} for name in left_out if not read.error]
        return read

    def _outcome(self, future: Any) -> ReadFile | str:
        """What a child read, or why there is nothing."""
        try:
            read: ReadFile = future.result()
        except FutureTimeoutError:
            return f"reading it takes longer than {self._limits.seconds:g} s (NX_FILE_TIME_LIMIT)"
        except ProcessExpired:
            return "it crashes its reader"
        except RuntimeError:  # the pool lost its children
            return "its reader could not be started"
        except MemoryError:
            return f"reading it takes more than {self._limits.mebibytes} MiB (NX_FILE_MEMORY_LIMIT)"
        return read

    def _schedule(self, source: Source, *, previews: bool, profiles: bool = True) -> Any:
        return self._pool.schedule(
            _read_in_child,
            args=[source, self._root],
            kwargs={"previews": previews, "profiles": profiles, "whole_folder": self._whole_folder},
            timeout=self._limits.seconds,
        )


def prepare() -> ForkServerContext:
    """Start the server that children are forked from; it imports the readers while the caller does other work."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    forkserver.ensure_running()
    return context


@contextmanager
def sandbox(
    root: Path, workers: int, limits: Limits, *, rules: SiteRules = AS_THEY_ARE, whole_folder: bool = False
) -> Iterator[Sandbox]:
    """A sandbox that ends with the block.

    Its readers see the file and its companions only, or all files below `root` with `whole_folder`; what they read is
    treated by the site's `rules`.
    """
    pool = Sandbox(root, workers, limits, rules=rules, whole_folder=whole_folder)
    try:
        yield pool
    finally:
        pool.close()


_told: set[str] = set()
"""Files of this child's task; with the root itself, every file below it."""
_rules = AS_THEY_ARE
"""The site's rules, as this child was given them."""


def _read_in_child(source: Source, root: Path, *, previews: bool, profiles: bool, whole_folder: bool) -> ReadFile:
    _told.clear()
    _told.update(os.path.realpath(path) for path in (source.path, *source.companions))
    if whole_folder:
        _told.add(str(root))
    rules = _rules if profiles else replace(_rules, profiles=Profiles())
    return read_file(source, root, previews=previews, rules=rules)


def _confine(root: str, mebibytes: int, rules: SiteRules) -> None:
    """Set this child's limits, which nothing undoes: an audit hook cannot be removed.

    Profiles are made before: their files lie outside of what a child may open.
    """
    global _rules  # noqa: PLW0603 - a child has one set of rules from its beginning to its end
    for name in [name for name in os.environ if name.startswith("NX_")]:
        del os.environ[name]
    _rules = rules
    _ = rules.profiles.profiles
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    limit = _data_bytes() + mebibytes * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    sys.addaudithook(_guard(root))


def _data_bytes() -> int:
    """Size of this process's private writable memory, which RLIMIT_DATA counts (memory maps of files are free)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0


def _guard(root: str) -> Callable[[str, tuple[Any, ...]], None]:
    package = Path(__file__).parents[1]
    folders: set[str | Path] = {
        package,
        sys.prefix,
        sys.base_prefix,
        *site.getsitepackages(),
        *extractor_plugins().folders,
        *preview_plugins().folders,
        "/usr",
        "/lib",
        "/sys/devices",
    }
    readable = tuple(str(Path(folder).resolve()) + os.sep for folder in folders if Path(folder).is_dir())
    files = frozenset({"/dev/null", "/dev/urandom", "/proc/cpuinfo", "/proc/meminfo", "/etc/localtime"})

    def guard(event: str, args: tuple[Any, ...]) -> None:
        if event in FORBIDDEN:
            msg = f"a reader may not {FORBIDDEN[event]}"
            raise PermissionError(msg)
        if event == "open" and not isinstance(args[0], int):
            path = os.path.realpath(os.fsdecode(args[0]))
            allowed = path in _told or path in files or path.startswith(readable)
            if not allowed and not (root in _told and path.startswith(root + os.sep)):
                msg = f"a reader may not open {Path(path).name}, of which it was not told"
                raise PermissionError(msg)
            if args[2] & WRITING and path != os.devnull:
                msg = f"a reader may not write {path}"
                raise PermissionError(msg)

    return guard
