"""The validator of RO-Crates, in an environment of its own (its dependencies and ours exclude each other).

Called by the interpreter of that environment, this file is what runs there.
"""

import fcntl
import importlib.resources
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

VERSION = "0.13.0"
PACKAGES = (f"roc-validator=={VERSION}", "prov==3.2.3")
CACHE = Path(os.environ.get("NX_TEST_CACHE") or Path.home() / ".cache" / "nexuslims-pipeline-tests")


class ValidatorNotInstalledError(Exception):
    """The validator cannot be installed here (no package index?)."""


def install() -> Path:
    """Interpreter of a virtual environment with the validator, made at the first call."""
    home = CACHE / f"roc-validator-{VERSION}"
    home.mkdir(parents=True, exist_ok=True)
    python, done = home / "bin" / "python", home / "installed"
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            for command in (
                [sys.executable, "-m", "venv", str(home)],
                [str(python), "-m", "pip", "install", "--quiet", *PACKAGES],
            ):
                made = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
                if made.returncode != 0:
                    raise ValidatorNotInstalledError(made.stderr[-2000:])
            done.touch()
    return python


def findings(elns: Mapping[str, bytes], folder: Path, severity: str = "REQUIRED") -> dict[str, list[str]]:
    """What the validator finds wrong with crates, by their names, up to a severity: REQUIRED or RECOMMENDED.

    Without the network: the validator gets the JSON-LD context of RO-Crate 1.3 from `rocrate`. It has all terms of
    that of 1.2, and those that our crates use mean the same in both.
    """
    roots = {}
    for number, (name, eln) in enumerate(elns.items()):
        with zipfile.ZipFile(io.BytesIO(eln)) as archive:
            archive.extractall(folder / str(number))
            (root,) = {member.partition("/")[0] for member in archive.namelist()}
        roots[name] = str(folder / str(number) / root)
    context = importlib.resources.files("rocrate") / "data" / "ro-crate.jsonld"
    found: dict[str, list[str]] = json.loads(_run(severity, str(context), given=json.dumps(roots).encode()))
    return found


def provenance_counts(document: bytes) -> dict[str, int]:
    """How many records of each kind the package ``prov`` reads out of a PROV-JSON document."""
    counts: dict[str, int] = json.loads(_run("PROV", given=document))
    return counts


def _run(*arguments: str, given: bytes = b"") -> bytes:
    command = [str(install()), __file__, *arguments]
    made = subprocess.run(command, input=given, capture_output=True, timeout=300, check=False)
    if made.returncode != 0:
        raise RuntimeError(made.stderr.decode()[-4000:])
    return made.stdout


def _validate(severity: str, context: bytes) -> dict[str, list[str]]:
    """Run in the validator's own environment."""
    import email.message
    import urllib.response

    import rdflib.parser
    import requests
    from rocrate_validator import services
    from rocrate_validator.models import Severity
    from rocrate_validator.utils.http import HttpRequester

    def by_requests(self, url, **options):
        answer = requests.Response()
        answer.status_code, answer.url, answer._content = 200, url, context
        answer.headers["Content-Type"] = "application/ld+json"
        return answer

    def by_urllib(request):
        headers = email.message.Message()
        headers["Content-Type"] = "application/ld+json"
        return urllib.response.addinfourl(io.BytesIO(context), headers, request.full_url, 200)

    HttpRequester.get, rdflib.parser._urlopen = by_requests, by_urllib
    found = {}
    for name, root in json.load(sys.stdin).items():
        settings = services.ValidationSettings(
            rocrate_uri=root, profile_identifier="ro-crate-1.2", requirement_severity=getattr(Severity, severity)
        )
        issues = services.validate(settings).get_issues(getattr(Severity, severity))
        found[name] = sorted({f"{issue.severity.name} {issue.check.identifier} {issue.message}" for issue in issues})
    return found


def _read_provenance() -> dict[str, int]:
    """Run in the validator's own environment."""
    from collections import Counter

    from prov.model import ProvDocument

    document = ProvDocument.deserialize(content=sys.stdin.read(), format="json")
    return dict(Counter(str(record.get_type()) for record in document.get_records()))


if __name__ == "__main__":
    if sys.argv[1] == "PROV":
        print(json.dumps(_read_provenance()))
    else:
        print(json.dumps(_validate(sys.argv[1], Path(sys.argv[2]).read_bytes())))
