"""Writing to the store so that a crash leaves either the old file or the new one, never half of one."""

import json
import os
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes

NAME_BYTES = 255
"""Longest file name, in bytes, on the file systems a store lies on (ext4, XFS, NFS, SMB)."""


def write_bytes(path: Path, content: bytes) -> bool:
    """Replace `path` by `content`, atomically and only if that changes it.

    Parameters
    ----------
    path
        The file; its folder is made when missing.
    content
        All of the new content.

    Returns
    -------
    bool
        Whether anything was written.
    """
    try:
        if path.read_bytes() == content:
            return False
    except (FileNotFoundError, IsADirectoryError):
        pass
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return True


def create(path: Path, content: bytes) -> bool:
    """Write a new file, whole, unless there is one already: of several that race, one wins.

    Returns
    -------
    bool
        Whether this call made the file.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    write_bytes(temporary, content)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:  # a share without hard links
        return _create_in_place(path, content)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


def _create_in_place(path: Path, content: bytes) -> bool:
    try:
        with path.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        return False
    return True


def is_vacant(folder: Path) -> bool:
    """Whether a folder is not there or holds nothing, as where a share is not mounted."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except FileNotFoundError:
        return True


def leftovers(folder: Path, *marks: str, within: int = -1) -> list[Path]:
    """Files that `write_bytes` began in a folder and that contain one of some texts: left from processes that died.

    Or just being written: whoever asks has to know that nobody writes such content now. `within` is the number of bytes
    to look into; by default all.
    """
    found = []
    for path in sorted(folder.glob(".*.tmp")):
        try:
            with path.open("rb") as file:
                content = file.read(within)
        except FileNotFoundError:  # somebody else's, and whole by now
            continue
        if any(mark.encode() in content for mark in marks):
            found.append(path)
    return found


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut (where the file system knows how)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def json_bytes(value: Any) -> bytes:
    """JSON text of `value`: sorted keys, two blanks of indent, pure ASCII, the same bytes for the same value.

    Raises
    ------
    ValueError
        For NaN and infinity, which JSON does not know.
    """
    return (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode("ascii")


def write_json(path: Path, value: Any) -> bool:
    """Write `value` as JSON with `write_bytes`."""
    return write_bytes(path, json_bytes(value))


def to_location(relative: Path) -> str:
    """Percent-encoded name of a file below a root, e.g. ``/Titan/a%20b.dm3``: the identity of a file everywhere.

    Any file name that Linux allows, also one that is not UTF-8, survives the way there and back.
    """
    return "/" + quote(os.fsencode(relative), safe="/")


def from_location(location: str) -> Path:
    """Path below the root that `to_location` named."""
    return Path(os.fsdecode(unquote_to_bytes(location.lstrip("/"))))


def display_name(relative: Path) -> str:
    """File name for people and XML: bytes that are not UTF-8 become the replacement character."""
    return os.fsencode(relative.name).decode("utf-8", "replace")
