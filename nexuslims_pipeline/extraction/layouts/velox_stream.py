"""Spectrum streams of Thermo Velox: X-rays one after the other, as the detector counted them during the scan.

A stream is a row of u2. 65535 ends a pixel of the scan, any other number is the channel of one X-ray in that pixel.
Pixels come row by row, and after the last one the next frame begins; the last frame may be incomplete, and the mark
after the very last pixel may be missing. https://hyperspy.org/rosettasciio/user_guide/supported_formats/emd.html
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from nexuslims_pipeline.extraction.layouts.hdf5 import complete

MARK: Final = 65535
BLOCK: Final = 1 << 20
"""Numbers that are read at a time."""
MOST: Final = 8 << 20
"""Numbers of all streams that are decoded for a picture: less than a second."""


class CountedXRays:
    """Spectrum image ``(rows, columns, channels)`` of X-ray counts, decoded when it is sliced for the first time.

    Parameters
    ----------
    streams
        Of each detector an array ``(length, 1)`` of u2 that slices like NumPy; their counts are added up.
    shape
        Rows, columns and channels.
    frames
        Scans that count; those after them are left out. 0: all.

    Notes
    -----
    Of long streams only the beginnings are decoded, `MOST` numbers together: `is_whole` tells whether that is all.
    """

    def __init__(self, streams: Sequence[Any], shape: tuple[int, int, int], frames: int = 0) -> None:
        import numpy as np

        self.shape = shape
        self.chunks = (1, 1, shape[2])
        self.dtype = np.dtype("u4")
        self.ndim = 3
        self._streams = streams
        self._pixels_that_count = shape[0] * shape[1] * (frames or 1 << 40)
        self._share = MOST // max(1, len(streams))
        self._events: tuple[Any, Any] | None = None

    @property
    def is_whole(self) -> bool:
        """Whether every stream is short enough to be decoded to its end."""
        return all(stream.shape[0] <= self._share for stream in self._streams)

    def __getitem__(self, key: Any) -> Any:
        import numpy as np

        if self._events is None:
            self._events = self._decoded()
        pixels, channels = self._events
        rows, columns, energies = (
            np.arange(size)[part] for size, part in zip(self.shape, complete(key, 3), strict=True)
        )
        shape = (rows.size, columns.size, energies.size)
        counts = np.zeros(shape, self.dtype)
        place, channel_place = _places(columns, self.shape[1]), _places(energies, self.shape[2])
        for index, row in enumerate(rows.reshape(-1)):
            first, last = np.searchsorted(pixels, (row * self.shape[1], (row + 1) * self.shape[1]))
            column = place[pixels[first:last] - row * self.shape[1]]
            channel = channel_place[channels[first:last]]
            wanted = (column >= 0) & (channel >= 0)
            flat = column[wanted].astype(np.int64) * energies.size + channel[wanted]
            counts[index] = np.bincount(flat, minlength=shape[1] * shape[2]).reshape(shape[1:])
        return counts.reshape(rows.shape + columns.shape + energies.shape)

    def _decoded(self) -> tuple[Any, Any]:
        """Pixel and channel of every X-ray, in the order of pixels."""
        import numpy as np

        found = [part for stream in self._streams for part in self._xrays(stream)]
        if not found:
            return np.empty(0, np.int32), np.empty(0, np.uint16)
        pixels, channels = (np.concatenate(parts) for parts in zip(*found, strict=True))
        order = np.argsort(pixels, kind="stable")
        return pixels[order], channels[order]

    def _xrays(self, stream: Any) -> Iterator[tuple[Any, Any]]:
        import numpy as np

        passed = 0
        for start in range(0, min(stream.shape[0], self._share), BLOCK):
            block = np.asarray(stream[start : min(start + BLOCK, self._share)]).reshape(-1)
            is_mark = block == MARK
            pixel = passed + np.cumsum(is_mark)
            passed = int(pixel[-1])
            is_xray = ~is_mark & (pixel < self._pixels_that_count) & (block < self.shape[2])
            scanned = pixel[is_xray] % (self.shape[0] * self.shape[1])
            yield scanned.astype(np.int32), block[is_xray]
            if passed >= self._pixels_that_count:
                return


def _places(chosen: Any, size: int) -> Any:
    """Where each of `size` indices is found in `chosen`; -1 for those that are not in it."""
    import numpy as np

    places = np.full(size, -1, np.int32)
    places[chosen.reshape(-1)] = np.arange(chosen.size)
    return places
