"""HDF5 files of an arrangement that no other reader knows: what is in them, in words.

The names and small values of a file, and the shapes of its arrays, are worth keeping even where nobody can tell what
they mean.
"""

from typing import ClassVar, Final

from nexuslims_pipeline.extraction.facts import bounded
from nexuslims_pipeline.extraction.layouts.hdf5 import is_hdf5, open_hdf5, tree_of
from nexuslims_pipeline.extraction.model import Extractor
from nexuslims_pipeline.signals import Signal, Source

LISTED: Final = 200
"""Arrays that are listed."""


class PlainHdf5Extractor(Extractor):
    """HDF5 of unknown meaning."""

    name: ClassVar[str] = "plain_hdf5"
    format_name: ClassVar[str] = "HDF5"
    version: ClassVar[str] = "1"
    rank: ClassVar[int] = 25
    is_conclusive: ClassVar[bool] = True
    extensions: ClassVar[frozenset[str]] = frozenset({".h5", ".hdf5", ".hdf", ".he5"})

    def accepts(self, source: Source, head: bytes) -> bool:  # noqa: ARG002
        """Whether the first bytes are those of HDF5."""
        return is_hdf5(head)

    def extract(self, source: Source) -> list[Signal]:
        """One dataset of type Misc that lists the arrays of the file."""
        with open_hdf5(source.path) as file:
            tree = tree_of(file)
            arrays = {path: f"{dataset.shape}, {dataset.dtype}"[:200] for path, dataset in tree.datasets.items()}
        lines = [f"{path}: {words}" for path, words in list(arrays.items())[:LISTED]]
        signal = Signal("Misc", "Unknown", native=bounded(tree.values), text="\n".join(lines) or "No arrays.")
        signal.extensions["Arrays"] = lines
        at_root = ", ".join(sorted({path.partition("/")[0] for path in arrays})[:6])
        signal.warnings["DatasetType"] = f"No reader knows this arrangement of an HDF5 file (at its root: {at_root})."
        return [signal]


EXTRACTOR = PlainHdf5Extractor()
