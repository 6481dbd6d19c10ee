"""Reading here and there in a mapped file.

By itself the system reads up to megabytes around each place that is touched, many times what was asked for. Here it is
told beforehand which places these are, so that it reads them, and at once, and nothing else.
"""

import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_PIECES = 20_000
"""Pieces that are announced; there are fewer within the budget of a picture."""


def mapped_file(array: Any) -> mmap.mmap | None:
    """The mapped file that an array shows, None for one in memory and for what is no NumPy array."""
    while isinstance(array, np.ndarray):
        array = array.base
    return array if isinstance(array, mmap.mmap) and hasattr(array, "madvise") else None


def nearest_first(array: Any) -> list[int]:
    """Axes of an array, that along which neighbours lie closest to each other first."""
    order = list(range(len(array.shape)))
    if isinstance(array, np.ndarray):
        strides = array.strides
        order.sort(key=lambda axis: (-abs(strides[axis]), axis))
    return order[::-1]


@contextmanager
def announced(array: Any, indices: Sequence[NDArray[np.int64]]) -> Iterator[None]:
    """While it lasts, only the elements at the crossings of `indices` are read from a mapped file, page by page.

    Parameters
    ----------
    array
        Anything; left alone when it is no array on a mapped file.
    indices
        For each axis, rising.
    """
    file = mapped_file(array)
    if file is None or not array.size:
        yield
        return
    file.madvise(mmap.MADV_RANDOM)
    try:
        for start, length in _pieces(array, file, indices):
            file.madvise(mmap.MADV_WILLNEED, start, length)
        yield
    finally:
        file.madvise(mmap.MADV_NORMAL)


def _pieces(array: NDArray[Any], file: mmap.mmap, indices: Sequence[NDArray[np.int64]]) -> Iterator[tuple[int, int]]:
    """Start and length of what is read without gaps larger than a page, from the start of a page on."""
    length = array.dtype.itemsize
    starts = np.array([array.ctypes.data - np.frombuffer(file, np.uint8).ctypes.data])
    is_whole = True
    for axis in nearest_first(array):
        offsets = indices[axis] * array.strides[axis]
        gaps = np.abs(np.diff(offsets)) - length
        if is_whole and not (gaps.size and gaps.max() > mmap.PAGESIZE):
            length += int(np.ptp(offsets))
            starts += offsets.min()
        else:
            is_whole = False
            starts = np.add.outer(offsets, starts).ravel()
        if starts.size > MOST_PIECES:
            return
    for start in starts.tolist():
        first = start - start % mmap.PAGESIZE
        yield first, min(start + length, len(file)) - first
