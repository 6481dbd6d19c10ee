"""The store: whole files or none, one key per usage event, names of any kind, the same content back."""

import hashlib
import os
import threading
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexuslims_pipeline.activities.model import Activity, Clustering
from nexuslims_pipeline.extraction.sidecar import preview_path, sidecar_path
from nexuslims_pipeline.files import NAME_BYTES, from_location, json_bytes, to_location, write_bytes
from nexuslims_pipeline.inventory.model import Inventory, InventoryEntry
from nexuslims_pipeline.metadata.dataset import Dataset
from nexuslims_pipeline.sessions.model import SessionState
from resources.store import MissingStageError, Store

KEY = "2026-03-02_Titan_nemo-4711"

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
NUMBER = st.integers(0, 2**62)
FILE_NAMES = st.binary(min_size=1, max_size=NAME_BYTES).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in {b".", b".."}
)
LOCATIONS = st.lists(FILE_NAMES, min_size=1, max_size=3).map(lambda names: to_location(Path(os.fsdecode(b"/".join(names)))))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(TEXT, values, max_size=3),
    max_leaves=6,
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(data_path=str(tmp_path))


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Whole or not at all


@pytest.mark.parametrize("call", ["fsync", "replace", "write"])
@pytest.mark.parametrize("before", [None, b"old"])
def test_a_fault_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, before: bytes | None
) -> None:
    path = tmp_path / "folder" / "a.json"
    if before is not None:
        write_bytes(path, before)

    def fault(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if call == "write":
            limit_writes(patch)
        else:
            patch.setattr(os, call, fault)
        with pytest.raises(OSError, match="No space left|File too large"):
            write_bytes(path, b"new" * 100)
    assert everything(tmp_path) == ({} if before is None else {"folder/a.json": before})
    assert write_bytes(path, b"new")
    assert everything(tmp_path) == {"folder/a.json": b"new"}


def limit_writes(patch: pytest.MonkeyPatch) -> None:
    """No file may grow beyond ten bytes: a disk that is full in the middle of a write."""
    import resource
    import signal

    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, old[1]))

    def undo() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)

    # monkeypatch undoes attributes only: let it undo this one by setting a descriptor of ours
    patch._setattr.append((_Undo(undo), "now", True))  # type: ignore[arg-type]


class _Undo:
    def __init__(self, undo: Callable[[], None]) -> None:
        object.__setattr__(self, "undo", undo)

    def __setattr__(self, name: str, value: object) -> None:
        self.undo()  # type: ignore[attr-defined]
