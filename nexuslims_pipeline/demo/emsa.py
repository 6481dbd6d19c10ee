"""Writer of EMSA/MAS spectrum files (ISO 22029).

A line is ``#KEYWORD     : value``, the keyword in 13 columns with its unit at the end (``#BEAMKV   -kV``).
After ``#SPECTRUM`` follow the counts, one to a line, and ``#ENDOFDATA``.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

REQUIRED = (
    "FORMAT",
    "VERSION",
    "TITLE",
    "DATE",
    "TIME",
    "OWNER",
    "NPOINTS",
    "NCOLUMNS",
    "XUNITS",
    "YUNITS",
    "DATATYPE",
    "XPERCHAN",
    "OFFSET",
)
"""Keywords that every file must begin with, in this order."""


def emsa(header: Mapping[str, object], counts: NDArray[np.int64]) -> bytes:
    """Bytes of a file of type ``Y`` in one column.

    Parameters
    ----------
    header
        Keyword (with its unit, if any, after a hyphen) and value; the number of points, the format and the
        last lines are added.
    counts
        Counts of each channel.
    """
    given = {
        "FORMAT": "EMSA/MAS Spectral Data File",
        "VERSION": "1.0",
        "NPOINTS": f"{counts.size}.",
        "NCOLUMNS": "1.",
        "DATATYPE": "Y",
        **header,
    }
    lines = {keyword: given[keyword] for keyword in REQUIRED} | given
    lines["SPECTRUM"] = "Spectral Data Starts Here"
    text = [f"#{_columns(keyword)}: {value}" for keyword, value in lines.items()]
    text += [f"{count:.1f}," for count in counts]
    text.append(f"#{_columns('ENDOFDATA')}:")
    return ("\r\n".join(text) + "\r\n").encode("ascii")


def _columns(keyword: str) -> str:
    """Keyword to the left and unit to the right in 12 columns."""
    name, hyphen, unit = keyword.partition("-")
    return name.ljust(12 - len(hyphen + unit)) + hyphen + unit
