"""NexusLIMS in its own environment."""

import json
import os
import subprocess
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.measure import Cost, run

VERSION = "2.8.0"
SCRIPT = Path(__file__).with_name("theirs.py")


class NexusLims:
    """NexusLIMS, asked through `theirs.py`; installed from PyPI at the first question unless a Python is given."""

    def __init__(self, python: Path | None) -> None:
        self._given = python

    @cached_property
    def python(self) -> Path:
        """Interpreter that has NexusLIMS."""
        if self._given:
            return self._given.absolute()
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = cache / "nexuslims-pipeline-benchmarks" / f"nexuslims-{VERSION}"
        python, finished = folder / "bin" / "python", folder / "installed"
        if not finished.exists():
            print(f"Installing NexusLIMS {VERSION} in {folder} …", file=sys.stderr)
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", f"nexuslims=={VERSION}"], check=True)
            finished.touch()
        return python

    @cached_property
    def version(self) -> str:
        """The version that is compared with."""
        answer, _ = self.ask("version", {})
        return str(answer)

    def ask(self, what: str, environment: dict[str, str], **request: Any) -> tuple[Any, Cost]:
        """Call a function of `theirs.py` in a process of its own."""
        cost = run([self.python, SCRIPT, what, json.dumps(request)], environment)
        return json.loads(cost.output.splitlines()[-1]), cost

    @staticmethod
    def environment(instruments: Path, data: Path) -> dict[str, str]:
        """Its settings; folders and the database must exist, the servers are never asked."""
        data.mkdir(parents=True, exist_ok=True)
        database = data.with_suffix(".db")
        database.touch()
        return {
            "NX_INSTRUMENT_DATA_PATH": str(instruments),
            "NX_DATA_PATH": str(data),
            "NX_DB_PATH": str(database),
            "NX_CDCS_URL": "http://localhost/",
            "NX_CDCS_TOKEN": "none",
        }
