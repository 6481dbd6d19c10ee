"""What an extractor is: the contract between the vendor formats and whoever reads files."""

from abc import ABC, abstractmethod
from typing import ClassVar

from nexuslims_pipeline.signals import Signal, Source


class Extractor(ABC):
    """A reader of one vendor format.

    A facility's own reader is a subclass like this one::

        class Counter(Extractor):
            name = "counter"
            version = "1"
            extensions = frozenset({".cnt"})

            def accepts(self, source: Source, head: bytes) -> bool:
                return head.startswith(b"CNT1")

            def extract(self, source: Source) -> list[Signal]:
                counts = source.path.read_text().split()[1:]
                return [Signal("Spectrum", "SEM_EDS", shape=(len(counts),))]

    It runs in a process that may be killed: it only reads, and it may raise anything, which costs that file only.
    """

    name: ClassVar[str]
    """Short name, kept in the sidecar; ``digital_micrograph``."""
    format_name: ClassVar[str] = ""
    """The format in words for records, e.g. ``Gatan DigitalMicrograph``; empty: the extension speaks for itself."""
    version: ClassVar[str]
    """Raised whenever the result for some file changes: files read by an older version are read again."""
    extensions: ClassVar[frozenset[str]]
    """Lower-case extensions with the dot for which `accepts` is asked; empty: asked for every file."""

    rank: ClassVar[int] = 0
    """Extractors of lower rank are asked first: vendor formats have 0, what reads a whole class of files more."""
    is_conclusive: ClassVar[bool] = False
    """Whether `accepts` knows the format by its content alone: such an extractor is asked for files of foreign
    extensions too, after those of the extension, and the dataset says that the name is wrong."""

    @abstractmethod
    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether the content is this format; `head` is the first 4096 bytes (fewer for a short file)."""

    @abstractmethod
    def extract(self, source: Source) -> list[Signal]:
        """Every signal of the file; metadata first, pixels lazily.

        Raises
        ------
        ExtractionError
            With words for a facility manager when the file is damaged in a known way.
        """


class ExtractionError(Exception):
    """A file that cannot be read, with the reason in words for its owner."""
