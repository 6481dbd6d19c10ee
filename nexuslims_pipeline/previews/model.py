"""What a preview of a facility's own is: the contract between installed packages and whoever reads files."""

from abc import ABC, abstractmethod
from typing import ClassVar

from nexuslims_pipeline.signals import Signal


class Preview(ABC):
    """Draws the preview of some kind of dataset in place of `previews.draw.draw_preview`.

    It runs in the process that reads the file, with the same limits, and may raise anything: the dataset is drawn in
    the usual way then, with a warning.
    """

    name: ClassVar[str]
    """Short name, for warnings and the log."""
    version: ClassVar[str]
    """Raised whenever the picture of some dataset changes: previews of an older version are drawn again."""

    @abstractmethod
    def accepts(self, signal: Signal) -> bool:
        """Whether to draw this dataset; a look at its type, shape and metadata, without reading pixels."""

    @abstractmethod
    def draw(self, signal: Signal, caption: str) -> bytes | None:
        """A PNG of about 500 × 500 pixels, or None to leave it to the usual drawing.

        Parameters
        ----------
        signal
            Its pixels are read only as far as they are sliced.
        caption
            Title: the file's name.
        """
