"""Maps of spectra that are stored in a code of their own: read position by position when they are sliced."""

from collections.abc import Callable
from math import prod
from typing import Any, Final

BLOCK_BYTES: Final = 32 << 20
"""Spectra that are held at once while a few of their channels are taken."""


class Spectra:
    """Behaves like an array of `shape` (positions …, channels) as far as the previews need it.

    Parameters
    ----------
    positions
        Rows and columns of a map, or points of a line.
    channels
        Of each spectrum.
    dtype
        NumPy type of the counts.
    read
        Gives the spectra, ``(n, channels)``, at n positions, which are counted row by row.
    """

    def __init__(self, positions: tuple[int, ...], channels: int, dtype: Any, read: Callable[[Any], Any]) -> None:
        self.shape = (*positions, channels)
        self.dtype = dtype
        self.ndim = len(self.shape)
        self._read = read

    def __getitem__(self, key: Any) -> Any:
        import numpy as np

        parts = key if isinstance(key, tuple) else (key,)
        place = next((n for n, part in enumerate(parts) if part is Ellipsis), len(parts))
        tail = parts[place + 1 :]
        parts = (*parts[:place], *(slice(None),) * (self.ndim - place - len(tail)), *tail)
        positions = self.shape[:-1]
        chosen = np.arange(prod(positions)).reshape(positions)[parts[:-1]]
        block = max(1, BLOCK_BYTES // (self.shape[-1] * self.dtype.itemsize))
        places = chosen.ravel()
        blocks = [
            np.asarray(self._read(places[first : first + block]))[:, parts[-1]]
            for first in range(0, max(1, len(places)), block)
        ]
        spectra = np.concatenate(blocks) if len(blocks) > 1 else blocks[0]
        return spectra.reshape(chosen.shape + spectra.shape[1:])
