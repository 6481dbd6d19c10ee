"""Text from outside in the form that XML 1.0 can hold."""

import re

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Complement of ``Char`` in XML 1.0, §2.2 (https://www.w3.org/TR/xml/#charsets)."""
_SPACE = re.compile("[ \t\r\n]+")


def clean(text: str) -> str:
    """Replace every character that XML forbids by U+FFFD, and every line end by a line feed."""
    return _FORBIDDEN.sub("\ufffd", text).replace("\r\n", "\n").replace("\r", "\n")


def token(text: str) -> str:
    """Clean `text`, with runs of white space as one blank and none at the ends, as ``xs:token`` is read."""
    return _SPACE.sub(" ", _FORBIDDEN.sub("\ufffd", text)).strip(" ")
