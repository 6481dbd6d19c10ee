"""Where the sidecar and the previews of a raw file lie: a mirror of the raw tree below the store's ``datasets``."""

import hashlib
import os
import re
from pathlib import Path

from nexuslims_pipeline.files import NAME_BYTES, from_location


def sidecar_path(folder: Path, location: str) -> Path:
    """``<folder>/<path below the instrument root>/<file>.json``."""
    return _beside(folder, location, ".json")


def preview_path(folder: Path, location: str, index: int, count: int) -> Path:
    """``<file>.thumb.png``, or ``<file>_signal<index>.thumb.png`` for a file with several signals."""
    return _beside(folder, location, ".thumb.png" if count == 1 else f"_signal{index}.thumb.png")


def made_from(folder: Path, location: str) -> list[Path]:
    """Every sidecar and preview there is of a raw file, also when a signal between two others has no preview.

    The sidecar comes last: what is removed in this order and cut off is found again.
    """
    sidecar = sidecar_path(folder, location)
    beside = {path.name for path in sidecar.parent.iterdir()} if sidecar.parent.is_dir() else set()
    numbers = (re.search(r"_signal([0-9]{1,9})\.thumb\.png$", name) for name in beside)
    signals = {int(number[1]) for number in numbers if number}
    previews = [preview_path(folder, location, 0, 1), *(preview_path(folder, location, n, 2) for n in signals)]
    return [path for path in (*previews, sidecar) if path.name in beside and path.is_file()]


def _beside(folder: Path, location: str, ending: str) -> Path:
    path = from_location(location)
    name = os.fsencode(path.name)
    longest = NAME_BYTES - len(ending)
    if len(name) > longest:
        digest = hashlib.sha256(name).hexdigest()[:16].encode()
        name = name[: longest - len(digest) - 1] + b"~" + digest
    return folder / path.parent / os.fsdecode(name + ending.encode())
