"""Series of equal images, as cameras write them: read frame by frame, and never beyond what the file holds."""

from collections.abc import Callable
from math import prod
from typing import Any

from nexuslims_pipeline.extraction.layouts.hdf5 import complete


class Frames:
    """Images that are read one by one when they are sliced: of several files, or stored in a code of their own.

    Behaves like an array of `shape` (navigation axes, rows, columns) as far as the previews need it.
    """

    def __init__(self, scan: tuple[int, ...], frame: tuple[int, int], dtype: Any, read: Callable[[int], Any]) -> None:
        self.shape = (*scan, *frame)
        self.chunks = (*(1 for _ in scan), *frame)
        self.dtype = dtype
        self.ndim = len(self.shape)
        self._scan = scan
        self._read = read

    def __getitem__(self, key: Any) -> Any:
        import numpy as np

        parts = complete(key, self.ndim)
        scan, inner = parts[: len(self._scan)], parts[len(self._scan) :]
        numbers = np.zeros((), np.int64)
        for size, part in zip(self._scan, scan, strict=True):
            numbers = np.add.outer(numbers * size, np.arange(size)[part])
        frames = [np.asarray(self._read(int(number)))[inner] for number in numbers.ravel()]
        if numbers.ndim == 0:
            return frames[0]
        inside = frames[0].shape if frames else np.empty(self.shape[-2:], np.bool_)[inner].shape
        return np.array(frames, self.dtype).reshape(numbers.shape + inside)


def present_part(scan: tuple[int, ...], frames: int) -> tuple[int, ...]:
    """`scan` as far as `frames` of its frames fill it: whole rows where there is one, else a series.

    Returns
    -------
    tuple of int
        `scan` itself when there are frames for all of it.
    """
    if frames >= prod(scan):
        return scan
    rows = frames // prod(scan[1:])
    return (rows, *scan[1:]) if rows and len(scan) > 1 else (frames,)


def cut_off(frames: int, expected: int) -> str:
    """Words for a warning when a file holds fewer frames than it declares; empty when it holds all."""
    if frames >= expected:
        return ""
    if frames == 0:
        which = "its first frame" if expected == 1 else f"the first of {expected} frames"
        return f"The file ends within {which} (a copy that broke off?)."
    return f"The file ends after {frames} of {expected} frames (a copy that broke off?)."
