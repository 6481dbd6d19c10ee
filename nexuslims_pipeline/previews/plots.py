"""Plots of spectra, line scans and spectrum images, drawn with Pillow: no plotting library is that fast."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from nexuslims_pipeline.previews.images import GAP, Box, View, below
from nexuslims_pipeline.previews.lettering import font, printable
from nexuslims_pipeline.previews.sampling import READ_BYTES, sample
from nexuslims_pipeline.previews.scale_bar import draw_scale_bar, pixel_aspect, rounded_up, unit_of
from nexuslims_pipeline.previews.tones import fitted, logarithmic, mean, real, resized, unit_range, viridis
from nexuslims_pipeline.signals import Axis

MOST_CHANNELS = 1 << 19
"""Channels of one spectrum that are looked at."""
_MAP_BYTES = READ_BYTES * 3 // 4
_STROBE_EV = 150.0
"""Half width of the zero peak that the electronics of EDS detectors add; it is no measure for a plot."""
_CURVE, _FILL, _INK = (0, 68, 136), (204, 221, 238), (40, 40, 40)
_TEXT = 15
_LARGEST, _SMALLEST = 1e290, 1e-290
"""Numbers beyond these are not plotted, or as zero: their differences and quotients may be no numbers."""
_SMOOTHING = 3
"""The curve is drawn this many times larger and then averaged, which smooths its edges."""


@dataclass(frozen=True, slots=True)
class Span:
    """What one axis of a plot shows."""

    low: float
    high: float
    label: str

    def ticks(self, most: int) -> list[float]:
        """About `most` round numbers between the ends."""
        step = rounded_up((self.high - self.low) / most)
        return [number * step for number in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


def coordinates(axis: Axis, indices: NDArray[Any], default: str = "") -> tuple[NDArray[np.float64], str]:
    """Return the coordinates of `indices` and the axis label; the indices themselves without a unit."""
    plain = indices.astype(np.float64), default or "Channel"
    unit = unit_of(axis)
    if not unit:
        return plain
    with np.errstate(all="ignore"):
        values = axis.offset + axis.scale * plain[0]
        largest, spread = np.abs(values).max(), np.ptp(values)
    # Coordinates that differ only in the last digits of a number are no use on an axis.
    if not largest < _LARGEST or (len(values) > 1 and not spread > largest * 1e-9):
        return plain
    name = _name_of(axis, unit, default)
    return values, f"{name} ({unit})" if name else unit


def _name_of(axis: Axis, unit: str, default: str) -> str:
    name = printable(axis.name, 24).strip()
    if len(name) > 1 and "undefined" not in name.lower():
        return name[0].upper() + name[1:]
    return "Energy" if unit in {"eV", "keV"} else default


def line_plot(
    x: NDArray[np.float64],
    y: NDArray[Any],
    labels: tuple[str, str],
    size: Box,
    counted: NDArray[np.bool_] | None = None,
) -> Image.Image | None:
    """Draw the curve of `y` over `x`, filled to the base line.

    Parameters
    ----------
    x, y
        One-dimensional, of the same length; `x` rising or falling. Points that are not finite are left out.
    labels
        Of the two axes.
    size
        Pixels, width first.
    counted
        Points for which there is to be room in the height; all when None.

    Returns
    -------
    PIL image or None
        None without a single finite point.
    """
    y = real(y).astype(np.float64)
    shown = np.isfinite(y) & (np.abs(y) < _LARGEST)
    x, y = x[shown], y[shown]
    if not y.size:
        return None
    counted = np.ones(len(y), bool) if counted is None or not counted[shown].any() else counted[shown]
    spans = (_span(x, labels[0]), _height(y[counted], labels[1]))
    picture, box = _axes(spans, size)
    width, height = box[2] - box[0], box[3] - box[1]
    fine = (width * _SMOOTHING, height * _SMOOTHING)
    columns = (x - spans[0].low) / (spans[0].high - spans[0].low) * (fine[0] - 1)
    y = np.clip(y, spans[1].low, spans[1].high)
    rows = (spans[1].high - y) / (spans[1].high - spans[1].low) * (fine[1] - 1)
    base = min(fine[1] - 1.0, spans[1].high / (spans[1].high - spans[1].low) * (fine[1] - 1))
    _draw_curve(picture, box, *_envelope(columns, rows, fine[0]), base)
    return picture


def _span(x: NDArray[np.float64], label: str) -> Span:
    """From the lowest to the highest coordinate."""
    low, high = float(x.min()), float(x.max())
    room = 0.0 if low < high else max(0.5, 1e-3 * abs(low))
    return Span(low - room, high + room, label)


def _height(y: NDArray[np.float64], label: str) -> Span:
    """From the base line to a little above the highest value."""
    low, high = float(y.min()), float(y.max())
    # Zero is in the plot, unless a detector's offset would squeeze the curve into a thin line far from it.
    if not 0 < high - low < 0.1 * low:
        low, high = min(0.0, low), max(0.0, high)
    if high - low < max(_SMALLEST, 1e-9 * high):
        low, high = min(0.0, low), 2 * high if high > _SMALLEST else 1.0
    margin = 0.04 * (high - low)
    return Span(low - margin if low else low, high + margin, label)


def _envelope(columns: NDArray[np.float64], rows: NDArray[np.float64], width: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Highest and lowest point of each pixel column when there are more points than twice the columns.

    So a peak of one channel among many is seen.
    """
    order = np.argsort(columns, kind="stable")
    columns, rows = columns[order], rows[order]
    if len(columns) <= 2 * width:
        return columns, rows
    pixel = columns.astype(np.int64)
    starts = np.flatnonzero(np.diff(pixel, prepend=-1))
    ends = np.stack([np.minimum.reduceat(rows, starts), np.maximum.reduceat(rows, starts)], axis=-1)
    return np.repeat(pixel[starts].astype(np.float64), 2), ends.ravel()


def _draw_curve(
    picture: Image.Image,
    box: tuple[int, int, int, int],
    columns: NDArray[Any],
    rows: NDArray[Any],
    base: float,
) -> None:
    """Draw curve and filling with smooth edges into `box` of `picture`."""
    size = (box[2] - box[0], box[3] - box[1])
    fine = (size[0] * _SMOOTHING, size[1] * _SMOOTHING)
    points = [(float(column), float(row)) for column, row in zip(columns, rows, strict=True)]
    filling, curve = Image.new("L", fine), Image.new("L", fine)
    if len(points) > 1:
        ImageDraw.Draw(filling).polygon([(points[0][0], base), *points, (points[-1][0], base)], fill=255)
        ImageDraw.Draw(curve).line(points, fill=255, width=_SMOOTHING + 2, joint="curve")
    else:
        column, row = points[0]
        ImageDraw.Draw(curve).line([(column, base), (column, row)], fill=255, width=_SMOOTHING + 2)
        ImageDraw.Draw(curve).ellipse((column - 9, row - 9, column + 9, row + 9), fill=255)
    for mask, colour in ((filling, _FILL), (curve, _CURVE)):
        picture.paste(colour, box, mask.reduce(_SMOOTHING))


def map_plot(values: NDArray[Any], spans: tuple[Span, Span], size: tuple[int, int]) -> Image.Image | None:
    """Draw a colour map of a 2-D array with axes; None without finite values.

    Parameters
    ----------
    values
        Row 0 is drawn at the top, where the second span begins.
    spans
        Of the columns and of the rows.
    size
        Pixels, width first.
    """
    scaled = unit_range(real(values), low_percent=1.0)
    if scaled is None:
        return None
    picture, box = _axes(spans, size, rising=False)
    width, height = box[2] - box[0], box[3] - box[1]
    enlarged = Image.fromarray(scaled)
    for target in ((width, enlarged.height), (width, height)):
        # Along each axis on its own: few long spectra are enlarged one way and averaged the other.
        enlarged = resized(enlarged, target)
    colours = viridis(np.clip(np.asarray(enlarged), 0, 1))
    picture.paste(colours, box)
    return picture


def _axes(
    spans: tuple[Span, Span], size: tuple[int, int], rising: bool = True
) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """Draw a white picture with frame, ticks and labels, and the box that is left for what is plotted."""
    face = font(_TEXT)
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    horizontal, vertical = spans[0].ticks(6), spans[1].ticks(max(5, size[1] // 60))
    widest = max((face.getlength(_number(tick, vertical)) for tick in vertical), default=0)
    box = (_TEXT + 8 + math.ceil(widest) + 6, _TEXT // 2 + 2, size[0] - 14, size[1] - 2 * _TEXT - 12)
    width, height = box[2] - box[0], box[3] - box[1]

    for tick in vertical:
        share = (tick - spans[1].low) / (spans[1].high - spans[1].low)
        y = box[3] - 1 - share * (height - 1) if rising else box[1] + share * (height - 1)
        draw.line((box[0] - 4, y, box[0] - 1, y), fill=_INK)
        draw.text((box[0] - 7, y), _number(tick, vertical), fill=_INK, font=face, anchor="rm")
    for tick in horizontal:
        x = box[0] + (tick - spans[0].low) / (spans[0].high - spans[0].low) * (width - 1)
        draw.line((x, box[3], x, box[3] + 4), fill=_INK)
        text = _number(tick, horizontal)
        room = face.getlength(text) / 2
        draw.text((min(x, size[0] - room - 1), box[3] + 6), text, fill=_INK, font=face, anchor="mt")
    draw.text(((box[0] + box[2]) / 2, size[1] - 3), spans[0].label, fill=_INK, font=face, anchor="mb")
    upright = Image.new("L", (height, _TEXT + 6))
    ImageDraw.Draw(upright).text((height / 2, _TEXT / 2 + 3), spans[1].label, fill=255, font=face, anchor="mm")
    picture.paste(_INK, (0, box[1]), upright.rotate(90, expand=True))
    draw.rectangle((box[0] - 1, box[1] - 1, box[2], box[3]), outline=_INK)
    return picture, box


def _number(tick: float, ticks: list[float]) -> str:
    """Write a tick as short as it can be: ``20k``, ``1.5M``, ``0.2``, ``3e-09``."""
    largest = max(map(abs, ticks))
    step = ticks[1] - ticks[0] if len(ticks) > 1 else largest
    if abs(tick) < step * 1e-6:
        return "0"
    prefixes = ((1e12, 1.0, ""), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k"))
    divisor, prefix = next(((by, name) for least, by, name in prefixes if largest >= least), (1.0, ""))
    return f"{tick / divisor:.10g}{prefix}".replace("-", "−")


def draw_spectrum(view: View, box: Box, is_eds: bool) -> Image.Image | None:
    """Draw one spectrum: the last axis at the one index that the view leaves along the others."""
    part = sample(view.array, view.wanted(1, MOST_CHANNELS), window=view.window)
    return _spectrum(view.axes[-1], part.picked[-1], part.values.reshape(-1), box, is_eds, view.quantity)


def _spectrum(
    axis: Axis, channels: range, counts: NDArray[Any], box: Box, is_eds: bool, quantity: str
) -> Image.Image | None:
    """Plot `counts` over the coordinates of `channels`."""
    x, label = coordinates(axis, np.array(channels))
    strobe = _STROBE_EV * {"eV": 1.0, "keV": 1e-3}.get(unit_of(axis), 0.0) if is_eds else 0.0
    counted = np.abs(x) >= strobe
    return line_plot(x, counts, (label, quantity), box, counted if counted.any() else None)


def draw_line_scan(view: View, box: Box) -> Image.Image | None:
    """Draw spectra along a line as a map of position (down) and channel (across), on a logarithmic scale."""
    line, channel = view.scan[0], len(view.axes) - 1
    part = sample(view.array, view.wanted(2048, 2048), window=view.window)
    values = part.values.reshape(part.values.shape[line], part.values.shape[channel])
    x, x_label = coordinates(view.axes[channel], np.array(part.picked[channel]))
    y, y_label = coordinates(view.axes[line], np.array(part.picked[line]), "Position")
    if x[0] > x[-1]:
        values = values[:, ::-1]
    if y[0] > y[-1]:
        values = values[::-1]
    return map_plot(logarithmic(values), (_span(x, x_label), _span(y, y_label)), box)


def draw_spectrum_image(view: View, box: Box, is_eds: bool) -> Image.Image | None:
    """Draw a map of the mean over all channels of a scan, above the mean spectrum."""
    down, across = view.scan
    channel = len(view.axes) - 1
    scan = sample(view.array, view.wanted(256, 64), window=view.window, summed=(channel,), limit=_MAP_BYTES)
    whole = scan.values if scan.values.shape[channel] == len(view.window[channel]) else None
    plot = draw_mean_spectrum(view, (box[0], box[1] // 2 - 4), is_eds, whole)

    field = mean(scan.values, channel)
    scaled = unit_range(field.reshape(field.shape[down], field.shape[across]), low_percent=1.0)
    if scaled is None or plot is None:
        return plot
    height, width = scan.extent(down), scan.extent(across)
    room = (box[0], box[1] - plot.height - GAP)
    size = fitted(width, height, room, pixel_aspect(view.axes[down], view.axes[across]))
    picture = viridis(np.clip(np.asarray(resized(Image.fromarray(scaled), size)), 0, 1))
    draw_scale_bar(picture, view.axes[across], width)
    return below(picture, plot)


def draw_mean_spectrum(
    view: View, box: Box, is_eds: bool, spectra: NDArray[Any] | None = None, limit: int = READ_BYTES - _MAP_BYTES
) -> Image.Image | None:
    """Draw the mean spectrum of a scan, or the spectrum where there is only one.

    Parameters
    ----------
    view, box, is_eds
        What to draw, the pixels to fill, and whether the first peak is that of an X-ray detector's electronics.
    spectra
        All channels of sampled positions, where they have been read already.
    limit
        Bytes to fetch otherwise.
    """
    channel = len(view.axes) - 1
    positions = tuple(range(channel))
    channels = view.window[channel]
    if spectra is None:
        part = sample(view.array, view.wanted(16, MOST_CHANNELS), window=view.window, summed=view.scan, limit=limit)
        channels, spectra = part.picked[channel], part.values
    label = f"Mean {view.quantity.lower()}" if view.scan and view.quantity == "Counts" else view.quantity
    return _spectrum(view.axes[-1], channels, mean(spectra, positions), box, is_eds, label)
