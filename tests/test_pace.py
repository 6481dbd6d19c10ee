"""The pace of calls that all workers share."""

import multiprocessing
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.destinations.pace import Pace, alone, pause

SPAWN = multiprocessing.get_context("spawn")
APART = 0.05


class Watch:
    """A clock that moves only when somebody sleeps."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def starts_in(path: Path, calls: int) -> list[float]:
    """Starts that two threads of one process noted in the file."""
    with ThreadPoolExecutor(2) as pool:
        return [start for starts in pool.map(starts_of, [path] * 2, [calls] * 2) for start in starts]


def starts_of(path: Path, calls: int) -> list[float]:
    told: list[float] = []

    def clock() -> float:
        told.append(time.time())
        return told[-1]

    pace = Pace(path, APART, clock=clock)
    for _ in range(calls):
        pace.wait()
    return told[1::2]  # asked before the pause, and after it for the note


def hold_for_ever(path: Path, ready: Path) -> None:
    with alone(path):
        ready.touch()
        time.sleep(600)


class TestPause:
    @given(last=st.floats(0, 4e9), now=st.floats(0, 4e9), seconds=st.floats(0, 60))  # up to the year 2096
    def test_two_calls_are_apart_and_nobody_waits_longer_than_one_interval(
        self, last: float, now: float, seconds: float
    ) -> None:
        rest = pause(f"{last!r}\n".encode(), now, seconds)

        assert 0 <= rest <= seconds
        assert now + rest >= min(last, now) + seconds - 1e-6

    @given(st.binary(min_size=1, max_size=64))
    def test_a_damaged_file_costs_one_interval_at_most(self, noted: bytes) -> None:
        assert 0 <= pause(noted, 1.8e9, 1.0) <= 1.0

    @pytest.mark.parametrize("noted", [b"nan", b"inf", b"\0\0\0", b"yesterday", b"4000000000.0"])
    def test_what_cannot_be_true_costs_one_interval(self, noted: bytes) -> None:
        assert pause(noted, 1.8e9, 1.0) == 1.0


class TestPace:
    def test_first_call_at_once_then_one_interval_each(self, tmp_path: Path) -> None:
        watch = Watch()
        pace = Pace(tmp_path / "deep" / ".pace", 1.0, clock=watch.time, sleep=watch.sleep)

        starts = []
        for passed in (0.0, 0.25, 5.0, 0.0):
            watch.now += passed
            pace.wait()
            starts.append(watch.now - 1_800_000_000.0)

        assert starts == pytest.approx([0.0, 1.0, 6.0, 7.0], abs=1e-5)

    def test_clock_put_back_a_year_costs_one_interval(self, tmp_path: Path) -> None:
        watch = Watch()
        pace = Pace(tmp_path / ".pace", 1.0, clock=watch.time, sleep=watch.sleep)
        pace.wait()

        watch.now -= 365 * 86400
        before = watch.now
        pace.wait()
        pace.wait()

        assert watch.now - before == pytest.approx(2.0, abs=1e-5)

    def test_a_long_text_in_the_file_is_replaced_whole(self, tmp_path: Path) -> None:
        path, watch = tmp_path / ".pace", Watch()
        path.write_bytes(b"x" * 1000)

        Pace(path, 1.0, clock=watch.time, sleep=watch.sleep).wait()

        assert float(path.read_text()) == watch.now

    def test_processes_and_threads_share_it(self, tmp_path: Path) -> None:
        with SPAWN.Pool(3) as pool:
            starts = sorted(chain.from_iterable(pool.starmap(starts_in, [(tmp_path / ".pace", 2)] * 3)))

        assert len(starts) == 12
        assert all(later - earlier >= APART - 0.001 for earlier, later in pairwise(starts))

    def test_killed_holder_stops_nobody(self, tmp_path: Path) -> None:
        path, ready = tmp_path / ".pace", tmp_path / "ready"
        holder = SPAWN.Process(target=hold_for_ever, args=(path, ready))
        holder.start()
        try:
            while not ready.exists():
                time.sleep(0.01)
            with ThreadPoolExecutor(1) as pool:
                waiting = pool.submit(Pace(path, APART).wait)
                os.kill(holder.pid or 0, signal.SIGKILL)
                waiting.result(timeout=60)
        finally:
            holder.kill()
            holder.join()
