"""A real CDCS that both sides publish to, and what it has to do for each."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Cost, children
from tests.cdcs_server import CdcsProcess


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
    """CDCS with SQLite in one process, which must be the only child of this one."""

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
        """Seconds since its start (``proc(5)``)."""
        (process,) = children()
        user, system = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def rates(exchanges: Sequence[Exchange]) -> str:
    """Records per second, the slowest and the fastest: how steady the machine was."""
    found = sorted(exchange.records / exchange.seconds for exchange in exchanges)
    return f"{found[0]:.0f}–{found[-1]:.0f} records/s"
