"""One file to its datasets: the work that a sandboxed worker does."""

import errno
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from nexuslims_pipeline.extraction.faults import in_words
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.plugins import preview_plugins
from nexuslims_pipeline.extraction.profiles.applying import apply_profiles
from nexuslims_pipeline.extraction.registry import choose, is_for, known_extensions
from nexuslims_pipeline.extraction.site_rules import SiteRules
from nexuslims_pipeline.metadata.checked import checked_metadata, plain
from nexuslims_pipeline.metadata.linked import context
from nexuslims_pipeline.metadata.personal import part_persons, without_persons
from nexuslims_pipeline.signals import Signal, Source

TRANSIENT = frozenset(
    {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EBUSY, errno.ENOENT, errno.EHOSTDOWN}
)
"""Faults of the share rather than of the file: such a file is read again next time."""
SIGNALS_LIMIT = 1000
"""Datasets of one file that are kept; a file with more gets a warning."""
TITLE_LIMIT = 500
"""Characters of a dataset's title."""
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
AS_THEY_ARE = SiteRules()


@dataclass(slots=True)
class ReadFile:
    """What one file gave."""

    format: str
    elements: list[dict[str, Any]]
    """The sidecar: one element per dataset, with ``@context``, ``nx_meta``, ``original_metadata`` and ``personal``."""
    descriptions: list[str]
    """Title of each dataset in the file."""
    previews: list[bytes | None] = field(default_factory=list)
    """PNG of each dataset, or None."""
    error: str = ""
    """Why the file could not be read; its only dataset is `Unknown` then."""
    transient: bool = False
    """Whether reading the unchanged file again may well succeed."""


def read_file(source: Source, root: Path, *, previews: bool = True, rules: SiteRules = AS_THEY_ARE) -> ReadFile:
    """Metadata and previews of every signal of a file; never raises for what the file holds.

    Parameters
    ----------
    source
        The file and its companions.
    root
        No byte outside of this folder is read.
    previews
        Whether to draw.
    rules
        The site's profiles and wishes.
    """
    reader: Extractor | None = None
    try:
        for path in (source.path, *source.companions):
            ensure_plain_file(path, root)
        if source.size == 0:
            return unread(source, "it is empty")
        reader = choose(source)
        if reader is None:
            return unread(source, _unknown(source))
        signals = _signals(reader, source)
        if not signals:
            return unread(source, "its reader found no data in it", reader=reader)
        return _read(source, reader, signals, previews=previews, rules=rules)
    except ExtractionError as fault:
        return unread(source, str(fault), reader=reader)
    except MemoryError:
        return unread(source, "reading it takes more memory than NX_FILE_MEMORY_LIMIT allows", reader=reader)
    except OSError as fault:
        transient = fault.errno in TRANSIENT
        return unread(source, f"it cannot be read: {fault.strerror or fault}", reader=reader, transient=transient)
    except Exception as fault:  # a damaged vendor file may raise anything
        return unread(source, f"it is damaged or of an unknown variant ({in_words(fault)})", reader=reader)


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
        elements=[_element(meta, {}, AS_THEY_ARE)],
        descriptions=[""],
        previews=[None],
        error=reason,
        transient=transient,
    )


def _unknown(source: Source) -> str:
    """Why a file that no extractor accepts is a fault; empty when nobody expects that its format is known."""
    extension = source.path.suffix.lower()
    if extension not in known_extensions():
        return ""
    return f"its content is none of the formats that {extension} stands for"


def _signals(reader: Extractor, source: Source) -> list[Signal]:
    """What a reader finds, whose author may be anybody.

    Raises
    ------
    ExtractionError
        When it gives anything else than signals.
    """
    found: Any = reader.extract(source)
    if found is not None and not isinstance(found, Iterable):
        found = [found]
    signals: list[Signal] = []
    for signal in islice(found or (), SIGNALS_LIMIT + 1):
        if not isinstance(signal, Signal):
            msg = f"its reader '{reader.name}' gives a {type(signal).__name__} where a Signal should be"
            raise ExtractionError(msg)
        signals.append(signal)
    if len(signals) > SIGNALS_LIMIT:
        signals.pop()
        signals[0].warnings["DatasetType"] = f"The file has more than {SIGNALS_LIMIT} datasets; only these were read."
    return signals


def _read(source: Source, reader: Extractor, signals: list[Signal], *, previews: bool, rules: SiteRules) -> ReadFile:
    read = ReadFile(format=_format_of(source, reader), elements=[], descriptions=[])
    profiles = rules.profiles.of(source.instrument_id)
    extension = source.path.suffix.lower()
    for index, signal in enumerate(signals):
        if not is_for(reader, extension):
            name = f"Its name says {extension}" if extension else "Its name has no extension"
            signal.warnings["File Name"] = f"{name}, its content is {reader.format_name or reader.name}"
        applied = apply_profiles(profiles, signal, source, reader.name)
        read.previews.append(_preview(signal, source, index, len(signals)) if previews else None)
        details = {"Profiles": ", ".join(applied)} if applied else {}
        meta = checked_metadata(signal, source, reader.name, reader.version, details)
        read.elements.append(_element(meta, plain(signal.native), rules))
        title = str(plain(signal.name[:TITLE_LIMIT]))
        read.descriptions.append(without_persons(title) if rules.omit_personal_data else title)
    return read


def _element(meta: dict[str, Any], native: dict[str, Any], rules: SiteRules) -> dict[str, Any]:
    """One dataset of the sidecar, with or without what tells of persons."""
    whole: dict[str, Any] = {"nx_meta": meta, "original_metadata": native}
    parted, places = part_persons(whole)
    element = parted if rules.omit_personal_data else whole
    return {"@context": context(element["nx_meta"]), **element, "personal": places}


def _preview(signal: Signal, source: Source, index: int, count: int) -> bytes | None:
    from nexuslims_pipeline.previews.draw import draw_preview

    caption = source.path.name if count == 1 else f"{source.path.name} ({index + 1} of {count})"
    try:
        return _package_preview(signal, caption) or draw_preview(signal, caption)
    except Exception as fault:  # pixels may be damaged where the metadata are not
        signal.warnings["Preview"] = f"It could not be drawn: {in_words(fault)}"
        return None


def _package_preview(signal: Signal, caption: str) -> bytes | None:
    """The picture of the first preview of an installed package that accepts the dataset, if it can draw it."""
    for preview in preview_plugins().found:
        try:
            picture = preview.draw(signal, caption) if preview.accepts(signal) else None
            if picture is not None and not picture.startswith(PNG_MAGIC):
                msg = "what it drew is no PNG"
                raise ValueError(msg)  # noqa: TRY301 - one way out for all that packages do wrong
        except Exception as fault:  # somebody else's package
            signal.warnings["Preview"] = f"'{preview.name}' failed, drawn in the usual way: {in_words(fault)}"
        else:
            if picture is not None:
                return picture
    return None


def _format_of(source: Source, reader: Extractor | None) -> str:
    extension = source.path.suffix.lstrip(".").lower()
    name = reader.format_name if reader else ""
    return f"{name} ({extension})" if name and extension else name or extension
