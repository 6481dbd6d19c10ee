"""Semper ``.unf``: pictures of the image processing language Semper (versions 6 and 7), "unformatted".

Records as Fortran writes them, little endian, each between two copies of its length (i4): the sizes, the title (if
flagged), the label (if flagged), then row after row. RosettaSciIO (https://hyperspy.org/rosettasciio) reads them;
here their sizes are compared with the file's before.

======  =====  =========================================================================
offset  type   meaning
======  =====  =========================================================================
0       i4     bytes of the first record
4       3 i2   columns, rows, layers
10      i2     class of picture
12      i2     form of the numbers: 0 byte, 1 i2, 2 f4, 3 c8, 4 i4
14      i2     version × 10 000 + 1000 if there is a label + characters of the title
======  =====  =========================================================================

The label begins with ``Semper`` as six i2; its offsets 12, 16 and 20 have the sizes again as two bytes each (i2,
the high one first), 112 their third bytes.
"""

import struct
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.model import ExtractionError
from nexuslims_pipeline.extraction.rosettasciio import RosettaSciIOExtractor
from nexuslims_pipeline.extraction.vendor_text import END_YEAR, FIRST_YEAR
from nexuslims_pipeline.signals import Axis, DatasetType, Signal, Source

MARK: Final = struct.pack("<6h", *b"Semper")
LABEL_BYTES: Final = 512
HEAD_BYTES: Final = 4096
MARKER_BYTES: Final = 4
"""Bytes of the length that stands before and after each record."""
MOST_MISSING: Final = 1000
"""Times that a file may be shorter than it declares to be opened for what its label says."""
SIZES: Final = struct.Struct("<i6h")
RECORD_BYTES: Final = (12, 14)
NUMBER_BYTES: Final = {0: 1, 1: 2, 2: 4, 3: 8, 4: 4}
CLASSES: Final = {
    1: "image", 2: "macro", 3: "Fourier transform", 4: "spectrum", 5: "correlation function", 6: "undefined",
    7: "Walsh transform", 8: "position list", 9: "histogram", 10: "display look-up table",
}  # fmt: skip
NOT_NUMBERS_OF_A_PICTURE: Final = frozenset({2, 8, 9, 10})


class Semper(RosettaSciIOExtractor):
    """Pictures of Semper."""

    name: ClassVar[str] = "semper"
    format_name: ClassVar[str] = "Semper"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".unf"})
    is_conclusive: ClassVar[bool] = True
    reader: ClassVar[str] = "semper"
    is_lazy: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:  # noqa: ARG002 - the head says it all
        """Whether the first record is closed by its length, and has a known class and form."""
        if len(head) < SIZES.size:
            return False
        length, *_, picture_class, form, _ = SIZES.unpack_from(head)
        closed = head[4 + length : 8 + length] == head[:4] if length in RECORD_BYTES else False
        return closed and picture_class in CLASSES and form in NUMBER_BYTES

    def check(self, source: Source) -> int:
        """Refuse sizes that are none; the library allocates what the file declares."""
        numbers, _ = _declared(source)
        if numbers > source.path.stat().st_size * MOST_MISSING:
            msg = f"it declares {numbers} bytes of numbers, far more than the file has"
            raise ExtractionError(msg)
        return numbers

    def dataset_type(self, axes: tuple[Axis, ...], metadata: Mapping[str, Any], kind: str) -> DatasetType:
        """One row of numbers is a spectrum, anything else a picture."""
        inner = [axis for axis in axes if not axis.navigation]
        if len(inner) > 1 and inner[0].size == 1 and len(axes) == len(inner):
            return "Spectrum"
        return "Image" if len(inner) == 2 else super().dataset_type(axes, metadata, kind)

    def refine(self, signal: Signal, dictionary: Mapping[str, Any], source: Source) -> Signal:
        """Add what kind of picture it is, doubt impossible dates, and leave out pixels that are not all there."""
        original = dictionary.get("original_metadata") or {}
        picture_class = original.get("ICLASS")
        if picture_class in CLASSES and picture_class != 6:
            signal.extensions["Picture Class"] = CLASSES[picture_class]
        if picture_class in NOT_NUMBERS_OF_A_PICTURE:
            signal.dataset_type = "Misc"
        if isinstance(signal.acquired, datetime) and not FIRST_YEAR <= signal.acquired.year < END_YEAR:
            signal.warnings["Creation Time"] = f"The file says {signal.acquired}."
            signal.acquired = None
        if _declared(source)[1] > source.path.stat().st_size:
            signal.pixels = None
            signal.warnings["Pixels"] = "The file ends before its last row (a copy that broke off?)."
        return signal


def _declared(source: Source) -> tuple[int, int]:
    """Bytes of the numbers alone, and of the whole file, as its first records declare.

    Raises
    ------
    ExtractionError
        If they are cut off or declare no picture.
    """
    with source.path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    length, columns, rows, layers, _, form, flag = SIZES.unpack_from(head)
    has_label, title = divmod(flag % 10_000, 1000)
    start = 2 * MARKER_BYTES + length
    start += 2 * MARKER_BYTES + title if title else 0
    if has_label:
        label = head[start + MARKER_BYTES :][:LABEL_BYTES]
        start += 2 * MARKER_BYTES + LABEL_BYTES
        if len(label) < LABEL_BYTES:
            msg = "the file is cut off within its label"
            raise ExtractionError(msg)
        if label.startswith(MARK):
            lower, upper = struct.iter_unpack("<2h", label[12:24]), struct.unpack_from("<3h", label, 112)
            columns, rows, layers = (
                65536 * third + 256 * second + first for (second, first), third in zip(lower, upper, strict=True)
            )
    if min(columns, rows, layers) < 1:
        msg = f"it declares {columns} × {rows} × {layers} numbers, which is no picture"
        raise ExtractionError(msg)
    row = columns * NUMBER_BYTES[form]
    return rows * layers * row, start + rows * layers * (row + 2 * MARKER_BYTES)


EXTRACTOR = Semper()
