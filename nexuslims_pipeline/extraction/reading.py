"""One file to its datasets: the work that a sandboxed worker does."""

import errno
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.registry import choose
from nexuslims_pipeline.metadata.checked import checked_metadata, plain
from nexuslims_pipeline.signals import Signal, Source

TRANSIENT = frozenset(
    {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EBUSY, errno.ENOENT, errno.EHOSTDOWN}
)
"""Faults of the share rather than of the file: such a file is read again next time."""


TITLE_LIMIT = 500
"""Characters of a dataset's title."""


@dataclass(slots=True)
class ReadFile:
    """What one file gave."""

    format: str
    elements: list[dict[str, Any]]
    """The sidecar: one element per dataset, ``{"nx_meta": …, "original_metadata": …}``."""
    descriptions: list[str]
    """Title of each dataset in the file."""
    previews: list[bytes | None] = field(default_factory=list)
    """PNG of each dataset, or None."""
    error: str = ""
    """Why the file could not be read; its only dataset is `Unknown` then."""
    transient: bool = False
    """Whether reading the unchanged file again may well succeed."""


def read_file(source: Source, root: Path, *, previews: bool = True) -> ReadFile:
    """Metadata and previews of every signal of a file; never raises for what the file holds.

    Parameters
    ----------
    source
        The file and its companions.
    root
        No byte outside of this folder is read.
    previews
        Whether to draw.
    """
    reader: Extractor | None = None
    try:
        for path in (source.path, *source.companions):
            ensure_plain_file(path, root)
        if source.size == 0:
            return unread(source, "it is empty")
        reader = choose(source)
        if reader is None:
            return unread(source, "")
        signals = reader.extract(source)
        if not signals:
            return unread(source, "its reader found no data in it", reader=reader)
        return _read(source, reader, signals, previews=previews)
    except ExtractionError as fault:
        return unread(source, str(fault), reader=reader)
    except MemoryError:
        return unread(source, "reading it takes more memory than NX_FILE_MEMORY_LIMIT allows", reader=reader)
    except OSError as fault:
        transient = fault.errno in TRANSIENT
        return unread(source, f"it cannot be read: {fault.strerror or fault}", reader=reader, transient=transient)
    except Exception as fault:  # a damaged vendor file may raise anything
        return unread(source, f"it is damaged or of an unknown variant ({_words(fault)})", reader=reader)


def ensure_plain_file(path: Path, root: Path) -> None:
    """Refuse whatever is no regular file below `root`, without opening it.

    Raises
    ------
    ExtractionError
        With the reason.
    """
    real = path.resolve()
    if not real.is_relative_to(root.resolve()):
        msg = f"{path.name} is a link that leads out of the instrument root"
        raise ExtractionError(msg)
    if not stat.S_ISREG(os.lstat(real).st_mode):
        msg = f"{path.name} is no regular file (a pipe, device, socket or folder)"
        raise ExtractionError(msg)


def unread(source: Source, reason: str, *, reader: Extractor | None = None, transient: bool = False) -> ReadFile:
    """The one `Unknown` dataset of a file that nobody could read; an empty `reason`: a format that nobody knows."""
    from nexuslims_pipeline.metadata.units import quantity

    reason = reason.replace(f"{source.path.parent}{os.sep}", "")  # where a share is mounted is nobody's business
    signal = Signal("Unknown", "Unknown", extensions={"File Size": quantity(source.size, "byte")})
    if reason:
        signal.warnings["DatasetType"] = f"The file was not read: {reason}"
    meta = checked_metadata(signal, source, reader.name if reader else "none", reader.version if reader else "")
    return ReadFile(
        format=_format_of(source, reader),
        elements=[{"nx_meta": meta, "original_metadata": {}}],
        descriptions=[""],
        previews=[None],
        error=reason,
        transient=transient,
    )


def _read(source: Source, reader: Extractor, signals: list[Signal], *, previews: bool) -> ReadFile:
    read = ReadFile(format=_format_of(source, reader), elements=[], descriptions=[])
    for index, signal in enumerate(signals):
        read.previews.append(_preview(signal, source, index, len(signals)) if previews else None)
        meta = checked_metadata(signal, source, reader.name, reader.version)
        read.elements.append({"nx_meta": meta, "original_metadata": plain(signal.native)})
        read.descriptions.append(str(plain(signal.name[:TITLE_LIMIT])))
    return read


def _preview(signal: Signal, source: Source, index: int, count: int) -> bytes | None:
    from nexuslims_pipeline.previews.draw import draw_preview

    caption = source.path.name if count == 1 else f"{source.path.name} ({index + 1} of {count})"
    try:
        return draw_preview(signal, caption)
    except Exception as fault:  # pixels may be damaged where the metadata are not
        signal.warnings["Preview"] = f"It could not be drawn: {_words(fault)}"
        return None


def _format_of(source: Source, reader: Extractor | None) -> str:
    extension = source.path.suffix.lstrip(".").lower()
    name = reader.format_name if reader else ""
    return f"{name} ({extension})" if name and extension else name or extension


def _words(fault: Exception) -> str:
    return f"{type(fault).__name__}: {fault}"[:300]
