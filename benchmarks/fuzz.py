"""``python -m benchmarks.fuzz``: damaged copies of real files, each read in the sandbox.

Every case is a file of the corpus with one kind of damage, beside its undamaged companions. A reader passes when the
case ends in datasets or in a reason, without being killed for time or memory and without crashing its child.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nexuslims_pipeline.extraction.reading import ReadFile
from nexuslims_pipeline.extraction.sandbox import Limits, sandbox
from nexuslims_pipeline.extraction.standalone import source_of

LARGEST = 4 << 20
"""Bytes of the largest file that is damaged: writing the copies is not what is tried."""
LIMITS = Limits(seconds=30, mebibytes=1024)
BATCH = 64
"""Copies that lie on the disk at a time."""


def cut(data: bytes, chance: random.Random) -> bytes:
    """Broken off at any byte."""
    return data[: chance.randrange(len(data))]


def flip(data: bytes, chance: random.Random) -> bytes:
    """A few bits flipped, most of them near the beginning, where headers lie."""
    damaged = bytearray(data)
    for _ in range(chance.choice((1, 4, 32))):
        reach = len(data) if chance.random() < 0.3 else min(len(data), 4096)
        damaged[chance.randrange(reach)] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def overwrite(data: bytes, chance: random.Random) -> bytes:
    """A stretch replaced by zeros, by ones or by noise."""
    start = chance.randrange(len(data))
    length = min(len(data) - start, chance.choice((4, 64, 4096)))
    filling = chance.choice((bytes(length), b"\xff" * length, chance.randbytes(length)))
    return data[:start] + filling + data[start + length :]


def shift(data: bytes, chance: random.Random) -> bytes:
    """A stretch left out, or one put in twice."""
    start = chance.randrange(len(data))
    length = chance.choice((1, 3, 512))
    keep = start + length if chance.random() < 0.5 else max(0, start - length)
    return data[:start] + data[keep:]


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "cut": cut,
    "bits": flip,
    "stretch": overwrite,
    "shift": shift,
}


@dataclass(frozen=True, slots=True)
class Case:
    """One damaged copy and what became of it."""

    file: str
    """Path below the corpus."""
    damage: str
    number: int
    read: ReadFile

    @property
    def outcome(self) -> str:
        """``read``, ``read with doubts``, ``refused``, or what the sandbox had to do: ``killed``, ``crashed``."""
        for words, outcome in (("takes longer", "killed"), ("takes more", "out of memory"), ("crashes", "crashed")):
            if words in self.read.error:
                return outcome
        if self.read.error:
            return "refused"
        return "read with doubts" if any(e["nx_meta"]["warnings"] for e in self.read.elements) else "read"


def cases(corpus: Path, count: int, seed: int, workers: int = 2) -> Iterator[Case]:
    """Read `count` damaged copies, as many of each file as of any other; the same ones for the same seed."""
    files = sorted(path for path in corpus.rglob("*") if path.is_file() and 0 < path.stat().st_size <= LARGEST)
    files = [path for path in files if path.parent != corpus]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch, sandbox(Path(scratch), workers, LIMITS) as pool:
        for first in range(0, count, BATCH):
            numbers = range(first, min(first + BATCH, count))
            plans = [(files[number % len(files)], number) for number in numbers]
            copies = [_damaged(file, number, seed, Path(scratch)) for file, number in plans]
            damages = [damage for damage, _ in copies]
            read = pool.read([source_of(path) for _, path in copies])
            for (file, number), damage, result in zip(plans, damages, read, strict=True):
                yield Case(str(file.relative_to(corpus)), damage, number, result)
            for _, path in copies:
                shutil.rmtree(path.parent)


def _damaged(file: Path, number: int, seed: int, scratch: Path) -> tuple[str, Path]:
    """Write a damaged copy of `file`, with its companions, into a folder of its own."""
    chance = random.Random(f"{seed}-{number}")
    damage = chance.choice(list(DAMAGES))
    folder = scratch / f"{number:06d}"
    folder.mkdir()
    for companion in source_of(file).companions:
        shutil.copyfile(companion, folder / companion.name)
    copy = folder / file.name
    copy.write_bytes(DAMAGES[damage](file.read_bytes(), chance))
    return damage, copy


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the outcomes by format; 1 if the sandbox had to end a reader."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    corpus = os.environ.get("NX_TEST_CORPUS")
    parser.add_argument("--corpus", type=Path, default=Path(corpus) if corpus else None, required=not corpus)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    outcomes: dict[str, Counter[str]] = {}
    ended = 0
    for case in cases(options.corpus.absolute(), options.cases, options.seed):
        outcomes.setdefault(case.file.partition("/")[0], Counter())[case.outcome] += 1
        if case.outcome in ("killed", "crashed", "out of memory"):
            ended += 1
            print(f"{case.outcome}: {case.file}, {case.damage}, case {case.number}", file=sys.stderr, flush=True)
    names = sorted({name for counter in outcomes.values() for name in counter})
    print(f"| Format | {' | '.join(names)} |\n|---|{'---:|' * len(names)}")
    for name, counter in [*sorted(outcomes.items()), ("all", sum(outcomes.values(), Counter()))]:
        print(f"| {name} | {' | '.join(str(counter[outcome] or '') for outcome in names)} |")
    print(f"\n{options.cases} cases in {time.perf_counter() - started:.0f} s, {ended} ended by the sandbox")
    return int(ended > 0)


if __name__ == "__main__":
    sys.exit(main())
