"""Reading just enough of an array for a picture, whatever its size and wherever it lies.

An array is never asked for more than a budget of bytes. What counts is not what is used but what has to be
fetched for it: a dask or HDF5 chunk is loaded whole, and one number out of a file costs a block of the
disk. The smallest piece that can be fetched is called a *grain* here, with one length per axis.
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import ceil, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nexuslims_pipeline.previews.mapped import announced, mapped_file, nearest_first

READ_BYTES = 48 << 20
"""Most that is fetched for one picture; leaves room for the copies in a worker of 100 MB."""
BLOCK_BYTES = 32 << 10
"""What one number out of a flat file costs: more than a page, less than what a server reads ahead."""
MAPPED_BLOCK_BYTES = 4 * mmap.PAGESIZE
"""The same for a mapped file, of which only pages are read: pieces begin and end within one, which costs a fourth."""
FEWEST = 64
"""Samples along an axis below which a sharp picture of the middle says more than a coarse one of all."""


class TooCoarse(Exception):  # noqa: N818 - a finding about the array, not a fault
    """The array can only be loaded in pieces that are larger than the budget."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Part of an array."""

    values: NDArray[Any]
    """As many axes as the array."""
    picked: tuple[range, ...]
    """Indices of `values` in the array, for each axis (of a summed axis: the first index of each run)."""
    indices: tuple[NDArray[np.int64], ...]
    """Index in the array of each of `values`, for each axis."""
    is_cropped: bool
    """Whether only the middle of what was asked for was read."""

    def extent(self, axis: int) -> int:
        """How many elements of the array the samples along `axis` stand for."""
        return len(self.picked[axis]) * self.picked[axis].step


def sample(
    array: Any,
    wanted: tuple[int, ...],
    *,
    window: tuple[range, ...] | None = None,
    summed: tuple[int, ...] = (),
    may_crop: bool = False,
    limit: int = READ_BYTES,
) -> Sample:
    """Read evenly spaced elements of an array for at most `limit` bytes.

    Parameters
    ----------
    array
        Anything with `shape` and `dtype` that slices like NumPy.
    wanted
        For each axis how many samples are enough. When the budget is short, axes lose samples in proportion
        to it.
    window
        For each axis the indices (step 1) to choose from; all when None.
    summed
        Axes (counted from 0) that the caller adds up. There every element that is fetched anyway is
        returned, in whole runs, even beyond `wanted`: more elements, less noise.
    may_crop
        Whether to turn to the middle when even a strided choice is dear (an image in thousands of chunks).
    limit
        Bytes to fetch.

    Returns
    -------
    Sample
        The elements and where they lie.

    Raises
    ------
    TooCoarse
        When a single chunk exceeds `limit`.
    """
    grain = _grain(array)
    if prod(grain) * array.dtype.itemsize > limit:
        raise TooCoarse
    window = asked = window or tuple(range(size) for size in array.shape)
    grains = max(1, limit // (prod(grain) * array.dtype.itemsize))
    while True:
        axes = [
            _Choice(part, size, most, axis in summed)
            for axis, (part, size, most) in enumerate(zip(window, grain, wanted, strict=True))
        ]
        _thin_out(axes, grains)
        if not may_crop or not any(axis.is_poor for axis in axes):
            break
        window = tuple(axis.middle if axis.is_poor else axis.window for axis in axes)
    picked, indices = tuple(axis.picked for axis in axes), tuple(axis.indices for axis in axes)
    return Sample(_read(array, axes), picked, indices, window != asked)


@dataclass(slots=True)
class _Choice:
    """Which elements to take along an axis: every `step`-th one, or of a summed axis runs of whole grains."""

    window: range
    grain: int
    wanted: int
    summed: bool
    step: int = 1

    def __post_init__(self) -> None:
        self.wanted = max(1, min(self.wanted, len(self.window)))
        if not self.summed:
            self.step = ceil(len(self.window) / self.wanted)

    @property
    def strided(self) -> bool:
        """Whether grains are left out, so that a larger step fetches less."""
        return self.step > self.grain

    @property
    def grains(self) -> int:
        """How many grains are fetched."""
        if self.strided:
            return len(self.picked)
        return (self.window.stop - 1) // self.grain - self.window.start // self.grain + 1

    @property
    def next_step(self) -> int:
        """The next larger step that fetches fewer grains."""
        step = max(self.step + 1, self.step * 5 // 4, self.grain + 1)
        return ceil(step / self.grain) * self.grain if self.summed else step

    def share(self, step: int) -> float:
        """Share of what is wanted of this axis that is left with `step`."""
        return min(1.0, ceil(len(self.window) / step) * (self.grain if self.summed else 1) / self.wanted)

    @property
    def picked(self) -> range:
        """First index of each sample, centred in the window, or of each run, which is a whole grain."""
        if self.summed:
            first = self.window.start // self.grain * self.grain if self.strided else self.window.start
            return range(first, self.window.stop, self.step)
        count = ceil(len(self.window) / self.step)
        first = self.window.start + (len(self.window) - 1 - (count - 1) * self.step) // 2
        return range(first, first + (count - 1) * self.step + 1, self.step)

    @property
    def runs(self) -> list[range]:
        """Indices within the window of each run of a summed axis."""
        low, high = self.window.start, self.window.stop
        return [range(max(first, low), min(first + self.grain, high)) for first in self.picked]

    @property
    def indices(self) -> NDArray[np.int64]:
        """Index of every element that is taken."""
        if self.summed and self.strided:
            return np.concatenate([np.arange(run.start, run.stop) for run in self.runs])
        return np.arange(self.picked.start, self.picked.stop, self.picked.step)

    @property
    def is_poor(self) -> bool:
        """Whether large grains leave too few samples while there is something to cut off."""
        return self.grain > 1 and not self.summed and len(self.picked) < min(self.wanted, FEWEST)

    @property
    def middle(self) -> range:
        """The inner half of the window, from the start of a grain."""
        length = max(1, len(self.window) // 2)
        start = self.window.start + (len(self.window) - length) // 2
        start = max(self.window.start, start // self.grain * self.grain)
        return range(start, start + length)

    def slices(self, contiguous: bool) -> list[tuple[slice, slice]]:
        """Tell what to ask the array for, each with what to keep of the answer."""
        picked = self.picked
        if self.summed and self.strided and self.grain > 1:
            return [(slice(run.start, run.stop), slice(None)) for run in self.runs]
        if contiguous and not self.strided:
            return [(slice(picked.start, picked.stop), slice(None, None, picked.step))]
        return [(slice(picked.start, picked.stop, picked.step), slice(None))]


def _thin_out(axes: list[_Choice], grains: int) -> None:
    """Raise the steps until at most `grains` grains are fetched, each time where most is left."""
    while prod(axis.grains for axis in axes) > grains:
        reducible = [axis for axis in axes if axis.grains > 1]
        if not reducible:
            return
        axis = max(reducible, key=lambda axis: axis.share(axis.next_step))
        axis.step = axis.next_step


def _grain(array: Any) -> tuple[int, ...]:
    """Return the lengths of the smallest piece of `array` that can be loaded."""
    chunks = getattr(array, "chunksize", None) or getattr(array, "chunks", None)
    if chunks:
        return tuple(max(1, min(int(size), length)) for size, length in zip(chunks, array.shape, strict=True))
    grain = [1] * len(array.shape)
    block = MAPPED_BLOCK_BYTES if mapped_file(array) is not None else BLOCK_BYTES
    room = block // max(1, array.dtype.itemsize)
    for axis in nearest_first(array):
        grain[axis] = max(1, min(array.shape[axis], room))
        room //= max(1, array.shape[axis])
    return tuple(grain)


def _read(array: Any, axes: list[_Choice]) -> NDArray[Any]:
    """Fetch the chosen elements in few requests."""
    with announced(array, [axis.indices for axis in axes]):
        return _fetched(array, axes)


def _fetched(array: Any, axes: list[_Choice]) -> NDArray[Any]:
    is_dask = hasattr(array, "dask")
    # HDF5 picks every n-th number of a row one by one; a whole row and NumPy's own stride are far faster.
    contiguous = not is_dask and not isinstance(array, np.ndarray)
    pieces = [axis.slices(contiguous) for axis in axes]
    answers = [array[tuple(get for get, _ in combination)] for combination in product(*pieces)]
    if is_dask:
        answers = [answer.compute(scheduler="synchronous") for answer in answers]
    kept = (
        np.asarray(answer)[tuple(keep for _, keep in combination)]
        for answer, combination in zip(answers, product(*pieces), strict=True)
    )
    return _joined(kept, [len(parts) for parts in pieces])


def _joined(blocks: Iterator[NDArray[Any]], counts: list[int]) -> NDArray[Any]:
    """Make one array of a grid of blocks that come in C order."""
    if not counts or prod(counts) == 1:
        return next(blocks)
    rest = prod(counts[1:])
    axis = -len(counts)
    return np.concatenate(
        [_joined(blocks, counts[1:]) if rest > 1 else next(blocks) for _ in range(counts[0])], axis=axis
    )
