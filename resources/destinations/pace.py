"""A pace that all threads and processes keep together: not more than one call in so many seconds."""

import fcntl
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone(path: Path) -> Iterator[int]:
    """Hold a file that only one at a time may hold; it is let go when its holder dies.

    Yields
    ------
    int
        Descriptor of the open file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


class Pace:
    """At least so many seconds between the starts of two calls, over all who share a file.

    Whoever is next holds the file while it waits, and notes in it when it set out. So nobody waits longer than one
    interval for its own turn, whatever the file says, and a turn whose owner was killed is lost to nobody.

    Parameters
    ----------
    path
        The file; made when missing.
    seconds
        Time between two calls.
    clock, sleep
        The time, in seconds since 1970, and a way to let it pass.
    """

    def __init__(
        self,
        path: Path,
        seconds: float,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._path = path
        self._seconds = seconds
        self._clock = clock
        self._sleep = sleep

    def wait(self) -> None:
        """Come back when it is one's turn to call."""
        with alone(self._path) as file:
            if rest := pause(os.pread(file, 64, 0), self._clock(), self._seconds):
                self._sleep(rest)
            last = f"{self._clock():.6f}\n".encode()
            os.pwrite(file, last, 0)
            os.ftruncate(file, len(last))


def pause(noted: bytes, now: float, seconds: float) -> float:
    """Seconds to wait at `now`, when `noted` tells of the last call; never more than `seconds`.

    A whole interval when the note is damaged, or tells of the future: the clock was put back, or another machine's
    is ahead. Longer would help nobody, since the last call lies in the past all the same.
    """
    if not noted:
        return 0.0
    try:
        last = float(noted)
    except ValueError:
        return seconds
    if not math.isfinite(last) or last > now:
        return seconds
    return max(0.0, min(last + seconds - now, seconds))


def at_pace(exports: Path, name: str, calls_per_second: float | None) -> Callable[[], object]:
    """What to call before each request to a destination, to keep to the pace that a site has chosen for it.

    Parameters
    ----------
    exports
        Folder of the ledgers.
    name
        The destination.
    calls_per_second
        Most requests in a second, over all runs; None: no limit.
    """
    if calls_per_second is None:
        return lambda: None
    return Pace(exports / name / ".pace", 1 / calls_per_second).wait
