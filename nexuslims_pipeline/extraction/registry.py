"""Which extractor reads which file.

Chosen by extension first, then by content: an extractor is asked only for its own extensions, in the order of
`FORMATS`, and the first that accepts the file's first bytes reads it. Whatever no extractor accepts is `Unknown`.
"""

from functools import cache
from importlib import import_module

from nexuslims_pipeline.extraction.model import Extractor
from nexuslims_pipeline.signals import Source

FORMATS = (
    "digital_micrograph",
    "tia",
    "fei_tiff",
    "edax_spc",
    "emsa",
    "hyperspy_reader",
    "plain_image",
    "plain_text",
)
"""Modules of `extraction.formats`, the most particular first."""
DOCUMENTS = frozenset({"plain_text"})
"""Readers of files that describe an experiment rather than hold its data: notes, logs."""
HEAD_BYTES = 4096


@cache
def extractors() -> tuple[Extractor, ...]:
    """Every extractor, in the order in which they are asked."""
    return tuple(import_module(f"nexuslims_pipeline.extraction.formats.{name}").EXTRACTOR for name in FORMATS)


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
    """
    with source.path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    extension = source.path.suffix.lower()
    for extractor in extractors():
        if (not extractor.extensions or extension in extractor.extensions) and extractor.accepts(source, head):
            return extractor
    return None


def readers_version(extension: str | None = None) -> str:
    """Versions of the extractors in one text: changes when some file might be read differently.

    With an `extension`, only of those that are asked for such files.
    """
    asked = (e for e in extractors() if extension is None or not e.extensions or extension in e.extensions)
    return ",".join(f"{extractor.name}={extractor.version}" for extractor in asked)
