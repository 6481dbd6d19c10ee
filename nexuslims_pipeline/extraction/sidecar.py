"""Where the sidecar and the previews of a raw file lie: a mirror of the raw tree below the store's ``datasets``."""

import hashlib
import os
from pathlib import Path

from nexuslims_pipeline.files import NAME_BYTES, from_location


def sidecar_path(folder: Path, location: str) -> Path:
    """``<folder>/<path below the instrument root>/<file>.json``."""
    return _beside(folder, location, ".json")


def preview_path(folder: Path, location: str, index: int, count: int) -> Path:
    """``<file>.thumb.png``, or ``<file>_signal<index>.thumb.png`` for a file with several signals."""
    return _beside(folder, location, ".thumb.png" if count == 1 else f"_signal{index}.thumb.png")


def made_from(folder: Path, location: str) -> list[Path]:
    """Every sidecar and preview there is of a raw file."""
    sidecar = sidecar_path(folder, location)
    previews = [preview_path(folder, location, 0, 1)]
    while (preview := preview_path(folder, location, len(previews) - 1, 2)).exists():
        previews.append(preview)
    return [path for path in (sidecar, *previews) if path.exists()]


def _beside(folder: Path, location: str, ending: str) -> Path:
    path = from_location(location)
    name = os.fsencode(path.name)
    longest = NAME_BYTES - len(ending)
    if len(name) > longest:
        digest = hashlib.sha256(name).hexdigest()[:16].encode()
        name = name[: longest - len(digest) - 1] + b"~" + digest
    return folder / path.parent / os.fsdecode(name + ending.encode())
