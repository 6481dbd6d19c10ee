"""What a library's exception over a damaged file means, in words for the file's owner.

Libraries speak to programmers: ``IndexError: list index out of range`` is a header that promises more than the file
has. What no rule here knows keeps the exception's own words, which help whoever mends the reader.
"""

import re
import struct
import zipfile
import zlib
from typing import Final

from nexuslims_pipeline.extraction.model import ExtractionError

LONGEST: Final = 300
ENDS_EARLY: Final = "it ends earlier than its header says (a copy that broke off?)"
NONSENSE: Final = "a number that its layout depends on makes no sense"
TEXT_EXPECTED: Final = "it has bytes that are no text where text should be"

MEANINGS: Final[tuple[tuple[re.Pattern[str], str], ...]] = tuple(
    (re.compile(pattern), meaning)
    for pattern, meaning in (
        (r"truncated file: eof = (\d+),.*?stored_eof = (\d+)", r"it ends at byte \1 of \2 (a copy that broke off?)"),
        (r"(?i)filter returned failure|required filter|can't decompress", "its packed numbers cannot be unpacked"),
        (r"buffer is smaller|smaller than requested|requires a buffer|greater than file size", ENDS_EARLY),
        (r"cannot mmap an empty file|not a multiple of the data-type size|multiple of element size", ENDS_EARLY),
        (r"Error -\d+ while decompressing data: (.*)", r"its packed data are damaged (\1)"),
        (r"cannot reshape array of size (\d+) into shape (\(.*?\))", r"it has \1 numbers, but is laid out as \2"),
        (r"could not broadcast .{1,40} from shape (\(.*?\)) into shape (\(.*?\))", r"it has \1 numbers in place of \2"),
        (r"object '([^']+)' doesn't exist", r"its part '\1' is missing"),
        (r"^['\"]?(?:Unable to|Can't|Link iteration|Object visitation)[^(]*\((.*)\)['\"]?$", r"\1"),
        (r"Line #\d+ \(got (\d+) columns? instead of (\d+)\)", r"a line of its table has \1 columns instead of \2"),
        (r"could not convert string to float: (.{1,80})", r"\1 stands where a number should be"),
        (r"invalid literal for int\(\) with base \d+: (.{1,80})", r"\1 stands where a number should be"),
        (r"(?i)negative dimensions|maximum supported dimension|array is too big|must be non-negative", NONSENSE),
        (r"data type .{1,80} not understood", NONSENSE),
        (r"(?:not well-formed|mismatched tag|unclosed|no element|undefined).*", r"its XML is damaged (\g<0>)"),
    )
)  # fmt: skip
"""Meanings by the words of the message, the first that fits."""


def in_words(fault: BaseException) -> str:
    """One line of at most `LONGEST` characters for somebody who has the file, not the source code."""
    told = " ".join(str(fault).split())
    if isinstance(fault, ExtractionError):
        return told[:LONGEST]
    return (_by_message(told) or _by_kind(fault, told) or f"{type(fault).__name__}: {told}")[:LONGEST]


def _by_message(told: str) -> str:
    for pattern, meaning in MEANINGS:
        if found := pattern.search(told):
            return found.expand(meaning)
    return ""


def _by_kind(fault: BaseException, told: str) -> str:
    match fault:
        case UnicodeDecodeError():
            return TEXT_EXPECTED
        case zipfile.BadZipFile() | zlib.error():
            return f"its packed data are damaged ({told})"
        case struct.error() | EOFError() | IndexError():
            return ENDS_EARLY
        case KeyError():
            return f"a part of it is missing or not what it should be: {told}"
        case ZeroDivisionError() | OverflowError():
            return NONSENSE
        case RecursionError():
            return "it is nested too deeply"
        case AssertionError():
            return told or "its structure is not what it should be"
        case _:
            return ""
