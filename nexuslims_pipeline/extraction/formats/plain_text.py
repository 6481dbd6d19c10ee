"""Text files of any kind: notes, logs, tables, settings."""

import re
from typing import ClassVar, Final

from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import decode
from nexuslims_pipeline.signals import Signal, Source

SHOWN_BYTES: Final = 64 << 10
"""How much of a file is kept to be shown."""
COUNTED_BYTES: Final = 16 << 20
"""Largest file whose lines are counted."""
UTF16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")
BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
"""Bytes that no text of one byte per character holds; escape (1b) begins JIS and terminal colours."""


class PlainText(Extractor):
    """Whatever is text and no format of its own."""

    name: ClassVar[str] = "plain_text"
    version: ClassVar[str] = "1"
    rank: ClassVar[int] = 30
    extensions: ClassVar[frozenset[str]] = frozenset(
        {
            "",
            ".txt",
            ".log",
            ".csv",
            ".tsv",
            ".md",
            ".rst",
            ".ini",
            ".cfg",
            ".xml",
            ".json",
            ".yaml",
            ".yml",
            ".hdr",
        }
    )

    def accepts(self, source: Source, head: bytes) -> bool:  # noqa: ARG002 - the head says it all
        """Whether the beginning is text."""
        return head.startswith(UTF16_MARKS) or BINARY.search(head) is None

    def extract(self, source: Source) -> list[Signal]:
        """One signal of text.

        Raises
        ------
        ExtractionError
            If it turns out to be binary after all.
        """
        with source.path.open("rb") as file:
            raw = file.read(SHOWN_BYTES)
            if not self.accepts(source, raw):
                msg = "it begins as text but is none"
                raise ExtractionError(msg)
            complete = source.path.stat().st_size <= SHOWN_BYTES
            text, encoding = decode(raw if complete else _whole_characters(raw))
            extensions: dict[str, object] = {"Encoding": encoding}
            if source.path.stat().st_size <= COUNTED_BYTES:
                extensions["Lines"] = _lines(text) if complete else _count(raw + file.read(COUNTED_BYTES), encoding)
        signal = Signal("Misc", "Text", extensions=extensions, text=text)
        if not complete:
            signal.warnings["Preview"] = f"It shows the first {SHOWN_BYTES >> 10} kB of the text."
        return [signal]


def _whole_characters(raw: bytes) -> bytes:
    """`raw` up to its last line end, so that no character is cut in two."""
    end = raw.rfind(b"\n")
    if end < 0:
        return raw
    return raw[: end + 1 + (raw.startswith(b"\xff\xfe"))]


def _count(raw: bytes, encoding: str) -> int:
    """Lines of undecoded text."""
    return _lines(raw.decode(encoding, "replace").replace("\r\n", "\n").replace("\r", "\n"))


def _lines(text: str) -> int:
    return text.count("\n") + (text != "" and not text.endswith("\n"))


EXTRACTOR = PlainText()
