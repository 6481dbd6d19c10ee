"""Writer of EMSA/MAS spectrum files (ISO 22029).

A line is ``#KEYWORD     : value``, the keyword in 13 columns with its unit at the end (``#BEAMKV   -kV``).
After ``#SPECTRUM`` follow the counts, one to a line, and ``#ENDOFDATA``.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray


def emsa(header: Mapping[str, object], counts: NDArray[np.int64]) -> bytes:
    """Bytes of a file of type ``Y`` in one column.

    Parameters
    ----------
    header
        Keyword (with its unit, if any, after a hyphen) and value; the fixed first and last lines are added.
    counts
        Counts of each channel.
    """
    lines = {
        "FORMAT": "EMSA/MAS Spectral Data File",
        "VERSION": "1.0",
        **header,
        "NPOINTS": f"{counts.size}.",
        "NCOLUMNS": "1.",
        "DATATYPE": "Y",
        "SPECTRUM": "Spectral Data Starts Here",
    }
    text = [f"#{_columns(keyword)}: {value}" for keyword, value in lines.items()]
    text += [f"{count:.1f}," for count in counts]
    text.append(f"#{_columns('ENDOFDATA')}:")
    return ("\r\n".join(text) + "\r\n").encode("ascii")


def _columns(keyword: str) -> str:
    """Keyword and unit spread over 12 columns."""
    name, _, unit = keyword.partition("-")
    return f"{name:<9}-{unit}".ljust(12) if unit else f"{name:<12}"
