"""Which extractor reads which file.

Chosen by extension first, then by content: of the extractors for a file's extension, the first (by rank and name) that
accepts its first bytes reads it. When none does, those are asked that know their format by content alone. Whatever no
extractor accepts is `Unknown`.

Every module of `extraction.formats` has one; a facility's own come from installed packages (`extraction.plugins`) and
are asked before ours of the same rank.
"""

import pkgutil
from functools import cache
from importlib import import_module

from nexuslims_pipeline.extraction import formats
from nexuslims_pipeline.extraction.faults import in_words
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.plugins import extractor_plugins
from nexuslims_pipeline.signals import Source

DOCUMENTS = frozenset({"plain_text"})
"""Readers of files that describe an experiment rather than hold its data: notes, logs."""
HEAD_BYTES = 4096


@cache
def extractors() -> tuple[Extractor, ...]:
    """Every extractor, in the order in which they are asked."""
    names = sorted(module.name for module in pkgutil.iter_modules(formats.__path__))
    ours: list[Extractor] = [import_module(f"{formats.__name__}.{name}").EXTRACTOR for name in names]
    return tuple(sorted([*extractor_plugins().found, *ours], key=lambda extractor: extractor.rank))


@cache
def known_extensions() -> frozenset[str]:
    """Lower-case extensions, with the dot, of files that hold data which some extractor understands.

    Those that notes and logs have as well (``.txt``, ``.csv``) are not among them.
    """
    data = frozenset().union(*(e.extensions for e in extractors() if e.name not in DOCUMENTS))
    return data.difference(*(e.extensions for e in extractors() if e.name in DOCUMENTS))


def choose(source: Source) -> Extractor | None:
    """The extractor that reads `source`, or None.

    Raises
    ------
    OSError
        When the file cannot be opened.
    ExtractionError
        When nobody accepts it, and a reader for its extension failed to look at it.
    """
    with source.path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    extension = source.path.suffix.lower()
    asked = [e for e in extractors() if is_for(e, extension)]
    asked += [e for e in extractors() if e.is_conclusive and e not in asked]
    failed: list[str] = []
    chosen = next((extractor for extractor in asked if _accepts(extractor, source, head, failed)), None)
    if chosen is None and failed and extension in known_extensions():
        msg = f"its content is none of the formats that {extension} stands for, as far as known: {'; '.join(failed)}"
        raise ExtractionError(msg)
    return chosen


def is_for(extractor: Extractor, extension: str) -> bool:
    """Whether an extractor is asked for files of an extension first."""
    return not extractor.extensions or extension in extractor.extensions


def _accepts(extractor: Extractor, source: Source, head: bytes, failed: list[str]) -> bool:
    """Whether it accepts a file; one that fails over it is told in `failed`, and does not keep the next from it."""
    try:
        return extractor.accepts(source, head)
    except MemoryError:
        raise
    except OSError as fault:
        if fault.errno is not None:  # the share's fault; libraries raise others over what is in a file
            raise
        return False
    except Exception as fault:  # a foreign file may confuse a package's reader in any way
        failed.append(f"'{extractor.name}' failed to look at it: {in_words(fault)}")
        return False


def readers_version(extension: str | None = None) -> str:
    """Versions of the extractors in one text: changes when some file might be read differently.

    With an `extension`, only of those that are asked for such files first; one misnamed file is not worth reading
    all others again.
    """
    asked = [e for e in extractors() if extension is None or is_for(e, extension)]
    packages = {version.partition("+")[0]: version for version in extractor_plugins().versions}
    versions = (f"{extractor.name}={extractor.version}" for extractor in asked)
    return ",".join(packages.get(version, version) for version in versions)
