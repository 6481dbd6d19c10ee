"""``python -m benchmarks.run``: time this pipeline and NexusLIMS, and print a table."""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.cases import CASES, Bench, Row
from benchmarks.peer import NexusLims


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks that are asked for; 1 if one of them could not be run."""
    options = _parser().parse_args(arguments)
    corpus = options.corpus.absolute() if options.corpus else None
    nexuslims = NexusLims(options.nexuslims)
    rows: list[Row] = []
    failed = False
    for name in options.only or CASES:
        print(f"{name} …", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="nexuslims-benchmark-") as scratch:
            try:
                rows += CASES[name](Bench(Path(scratch), nexuslims, corpus))
            except (OSError, RuntimeError, subprocess.SubprocessError) as fault:
                print(f"{name}: {fault}", file=sys.stderr)
                failed = True
    cores = f"{len(os.sched_getaffinity(0))} cores, load average {os.getloadavg()[1]:.1f}"
    machine = f"{_processor()}, {cores}, Python {platform.python_version()}"
    peer = f"NexusLIMS {nexuslims.version}" if any(row.theirs for row in rows) else "NexusLIMS"
    print(f"{machine}\n\n{markdown(rows, peer)}")
    if options.json:
        report = {"machine": machine, "peer": peer, "rows": [asdict(r) | {"ratio": r.ratio} for r in rows]}
        options.json.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return int(failed)


def markdown(rows: Sequence[Row], peer: str) -> str:
    """Table of the rows."""
    lines = [
        f"| What | Unit | This pipeline | {peer} | Ratio | Aim | |",
        "|---|---|---:|---:|---:|---|---|",
    ]
    for row in rows:
        more = "> " if row.gave_up else ""
        theirs, ratio = (
            f"{more}{_number(figure)}{sign}" if figure is not None else "–"
            for figure, sign in ((row.theirs, ""), (row.ratio, "×"))
        )
        cells = (row.what, row.unit, _number(row.ours), theirs, ratio, row.aim, row.note)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _number(value: float) -> str:
    """Two or three significant digits without an exponent."""
    if value and abs(value) < 0.01:
        return f"{value:.2g}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _processor() -> str:
    described = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    return next((value.strip() for key, value in described.items() if key.startswith("model name")), platform.machine())


def _parser() -> argparse.ArgumentParser:
    corpus = os.environ.get("NX_TEST_CORPUS")
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=CASES, metavar="NAME", help=f"of {', '.join(CASES)}")
    parser.add_argument(
        "--nexuslims", type=Path, metavar="PYTHON", help="a Python with NexusLIMS; default: one is made"
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures here too")
    parser.add_argument(
        "--corpus", type=Path, metavar="DIR", default=Path(corpus) if corpus else None, help="for 'headers'"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
