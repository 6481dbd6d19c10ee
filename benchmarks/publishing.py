"""A real CDCS that both sides publish to, and what it has to do for each."""

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from benchmarks.measure import Cost, children
from tests.cdcs_server import CdcsNotInstalledError, CdcsProcess

GONE = (FileNotFoundError, ProcessLookupError)
"""What the kernel says of a process that has just ended, before its files are opened or after."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a command and the server did together."""

    cost: Cost
    requests: int
    server_cpu: float
    """Seconds of user and system time."""
    records: int
    """On the server afterwards."""

    @property
    def seconds(self) -> float:
        """Time without start and imports, as the command itself measured it."""
        return float(json.loads(self.cost.output.splitlines()[-1])["seconds"])


class CountingCdcs(CdcsProcess):
    """CDCS whose processes, with those of its database, must be the only children of this one."""

    def __init__(self, database: Literal["sqlite", "postgres"] = "sqlite", processes: int = 1) -> None:
        super().__init__(database=database, processes=processes)
        number = f"{processes} processes" if processes > 1 else "one process"
        self.in_words = f"{number}, {'SQLite' if database == 'sqlite' else 'PostgreSQL'}"

    @classmethod
    def as_at_a_site(cls) -> Self:
        """With PostgreSQL if that is installed, and as many processes as Gunicorn advises for this machine.

        https://docs.gunicorn.org/en/stable/design.html#how-many-workers
        """
        processes = 2 * len(os.sched_getaffinity(0)) + 1
        try:
            return cls("postgres", processes)
        except CdcsNotInstalledError:
            return cls("sqlite", processes)

    def watch(self, command: Callable[[], Cost]) -> Exchange:
        """Run a command that may use the server."""
        requests, cpu = self._requests(), self._cpu()
        cost = command()
        return Exchange(cost, self._requests() - requests, self._cpu() - cpu, len(self.records()))

    def _requests(self) -> int:
        """Requests since its start, by its own log."""
        return (self.site / "log").read_text(encoding="utf-8", errors="replace").count(' HTTP/1.1" ')

    @staticmethod
    def _cpu() -> float:
        """Seconds since its start, those of processes that have ended included (``proc(5)``)."""
        ticks = 0
        for process in _descendants(children()):
            with contextlib.suppress(*GONE):  # then its parent has its time
                stat = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
                ticks += sum(map(int, stat[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")


def _descendants(processes: Iterable[int]) -> Iterator[int]:
    """Processes with their children's children, each after its own."""
    for process in processes:
        with contextlib.suppress(*GONE):
            listed = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii")
            yield from _descendants(map(int, listed.split()))
        yield process


def rates(exchanges: Sequence[Exchange]) -> str:
    """Records per second, the slowest and the fastest: how steady the machine was."""
    found = sorted(exchange.records / exchange.seconds for exchange in exchanges)
    return f"{found[0]:.0f}–{found[-1]:.0f} records/s"
