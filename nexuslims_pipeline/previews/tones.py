"""Numbers to shades and colours: robust against hot pixels, missing values and numbers of any size."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_ENLARGED_SMOOTHLY = 4
"""Below this enlargement a picture is interpolated; from it on, pixels are shown as squares."""
_THINNEST = 24
"""Pixels: the least side of a picture, so that one row of data is seen."""

# Ten evenly spaced colours of viridis, a map that is even in lightness and safe for the colour-blind
# (S. van der Walt and N. Smith, 2015; CC0).
_VIRIDIS = (
    "440154",
    "482878",
    "3e4a89",
    "31688e",
    "26828e",
    "1f9e89",
    "35b779",
    "6dcd59",
    "b4de2c",
    "fde725",
)


def real(values: NDArray[Any]) -> NDArray[Any]:
    """Return float32 or float64 numbers (complex ones as their modulus), finite or not."""
    with np.errstate(all="ignore"):
        if values.dtype.kind == "c":
            values = np.abs(values)
        wide = values.dtype.itemsize > 4 or (values.dtype.kind in "iu" and values.dtype.itemsize > 2)
        return np.asarray(values, dtype=np.float64 if wide else np.float32)


def mean(values: NDArray[Any], axis: int | tuple[int, ...]) -> NDArray[np.float64]:
    """Average the finite values over `axis`, NaN where there is none, without a copy of `values`."""
    if values.dtype.kind in "biu":
        return np.asarray(values.mean(axis=axis, dtype=np.float64))
    values = real(values)
    finite = np.isfinite(values)
    with np.errstate(all="ignore"):
        total = np.sum(values, axis=axis, where=finite, dtype=np.float64)
        return np.asarray(total / finite.sum(axis=axis))


def _some_finite(values: NDArray[Any]) -> NDArray[Any]:
    """Return some 60 000 of the finite values, spread evenly: enough for percentiles."""
    steps = tuple(slice(None, None, max(1, size // 256)) for size in values.shape[:2])
    some: NDArray[Any] = values[steps]
    some = some[np.isfinite(some)]
    return some if some.size else values[np.isfinite(values)]


def unit_range(
    values: NDArray[Any], low_percent: float = 0.1, counted: NDArray[Any] | None = None
) -> NDArray[np.float32] | None:
    """Bring `values` to 0 to 1 between two percentiles, so that single hot pixels do not matter.

    Parameters
    ----------
    values
        Real numbers of any shape.
    low_percent
        This percentile becomes 0, and 100 minus it becomes 1.
    counted
        Values that settle the percentiles; `values` when None.

    Returns
    -------
    ndarray or None
        NaN becomes 0, all equal values become 0.5; None when no value is finite.
    """
    some = _some_finite(values if counted is None else counted)
    if not some.size:
        some = _some_finite(values)
    if not some.size:
        return None
    # "nearest" does no arithmetic, which could overflow.
    low, high = np.percentile(some, (low_percent, 100 - low_percent), method="nearest")
    if not low < high:
        some = values[np.isfinite(values)]
        low, high = some.min(), some.max()
    # Halved, the difference of two large numbers is still a number.
    span = float(high) / 2 - float(low) / 2
    if not span > 0:
        return np.full(values.shape, 0.5, np.float32)
    with np.errstate(all="ignore"):
        scaled = values * 0.5
        scaled -= float(low) / 2
        scaled /= span
        np.nan_to_num(scaled, copy=False, nan=0.0, posinf=1.0, neginf=0.0)
        return np.clip(scaled, 0, 1, out=scaled).astype(np.float32, copy=False)


def logarithmic(values: NDArray[Any]) -> NDArray[Any]:
    """Return the logarithm above the background: spots may be orders of magnitude brighter than the rest.

    ``log(1 + (v - floor) / median)``, with the floor at the first percentile (a camera's dark level) and
    the median of what is above it, so that the result does not depend on the unit of `values`.
    """
    values = real(values)
    some = _some_finite(values)
    if not some.size:
        return values
    floor = np.percentile(some, 1, method="nearest")
    with np.errstate(all="ignore"):
        positive = some[some > floor] * 0.5 - floor * 0.5
        typical = np.percentile(positive, 50, method="nearest") if positive.size else 1.0
        above = values * 0.5
        above -= floor * 0.5
        np.clip(above, 0, None, out=above)
        above /= max(float(typical), float(np.finfo(above.dtype).tiny))
        return np.asarray(np.log1p(above, out=above))


def fitted(width: float, height: float, box: tuple[int, int], aspect: float = 1.0) -> tuple[int, int]:
    """Find the size in which `width` × `height` elements fill a box of pixels.

    Parameters
    ----------
    width, height
        Elements.
    box
        Pixels, width first.
    aspect
        Height of an element divided by its width.

    Returns
    -------
    tuple of int
        Width and height in pixels: multiples of the elements when those are enlarged to squares, and never
        so thin that nothing is seen.
    """
    factor = min(box[0] / width, box[1] / (height * aspect))
    across, down = factor, factor * aspect
    if min(across, down) >= _ENLARGED_SMOOTHLY:
        across, down = int(across), int(down)
    return (
        min(box[0], max(_THINNEST, round(width * across))),
        min(box[1], max(_THINNEST, round(height * down))),
    )


def resized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Bring `picture` to another size: averaged when smaller, interpolated or in squares when larger."""
    if picture.size == size:
        return picture
    across, down = size[0] / picture.width, size[1] / picture.height
    if max(across, down) >= _ENLARGED_SMOOTHLY:
        return picture.resize(size, Image.Resampling.NEAREST)
    smaller = max(across, down) <= 1
    return picture.resize(size, Image.Resampling.HAMMING if smaller else Image.Resampling.LANCZOS, reducing_gap=2.0)


def stretched(values: NDArray[Any], size: tuple[int, int], counted: int | None = None) -> NDArray[np.float32] | None:
    """Bring a 2-D array to another size and to 0 to 1 between its 1st and 99th percentile.

    Parameters
    ----------
    values
        Numbers of shape (rows, columns).
    size
        Width and height in pixels.
    counted
        How many pixel rows from the top settle the percentiles; all when None.

    Returns
    -------
    ndarray or None
        Of shape (height, width); None without finite values.
    """
    scaled = unit_range(real(values))
    if scaled is None:
        return None
    small = np.asarray(resized(Image.fromarray(scaled), size))
    return unit_range(small, low_percent=1.0, counted=small[:counted])


def grey(values: NDArray[Any], size: tuple[int, int], counted: int | None = None) -> Image.Image | None:
    """Draw a 2-D array in grey, see `stretched`."""
    tones = stretched(values, size, counted)
    return None if tones is None else Image.fromarray((tones * 255 + 0.5).astype(np.uint8))


def coloured(values: NDArray[Any], size: tuple[int, int]) -> Image.Image | None:
    """Draw an array of shape (rows, columns, 3 or 4) in its colours; transparency becomes white."""
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        levels = (values >> (8 * (values.dtype.itemsize - 1))).astype(np.uint8)
    else:
        scaled = unit_range(real(values))
        if scaled is None:
            return None
        levels = (scaled * 255 + 0.5).astype(np.uint8)
    picture = resized(Image.fromarray(np.ascontiguousarray(levels)), size)
    if picture.mode == "RGBA":
        ground = Image.new("RGB", size, "white")
        ground.paste(picture, mask=picture.getchannel("A"))
        return ground
    return picture


def has_colours(array: Any, axes: int) -> bool:
    """Whether elements are colours: fields R, G and B, or a last dimension of 3 or 4 beyond the `axes`."""
    names = getattr(array.dtype, "names", None)
    if names:
        return set(names) in ({"R", "G", "B"}, {"R", "G", "B", "A"}) and all(
            array.dtype[name].kind in "uif" and not array.dtype[name].shape for name in names
        )
    return len(array.shape) == axes + 1 and array.shape[-1] in (3, 4)


def picture_of(
    values: NDArray[Any], size: tuple[int, int], is_diffraction: bool = False, counted: int | None = None
) -> Image.Image | None:
    """Draw one image, whatever its numbers are; `counted` as of `stretched`."""
    if values.dtype.names:
        values = np.stack([values[name] for name in "RGBA" if name in values.dtype.names], axis=-1)
    if values.ndim == 3:
        return coloured(values, size)
    if is_diffraction or values.dtype.kind == "c":
        values = logarithmic(values)
    return grey(values, size, counted)


def viridis(values: NDArray[np.float32]) -> Image.Image:
    """Colour a 2-D array of numbers from 0 to 1."""
    anchors = np.array([list(bytes.fromhex(colour)) for colour in _VIRIDIS], np.float64)
    places = np.linspace(0, len(anchors) - 1, 256)
    table = np.stack([np.interp(places, range(len(anchors)), channel) for channel in anchors.T], axis=-1)
    return Image.fromarray((table + 0.5).astype(np.uint8)[(values * 255 + 0.5).astype(np.uint8)])
