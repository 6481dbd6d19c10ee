"""The preview of a dataset: which kind of picture, and its title."""

import zlib
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from numbers import Integral
from typing import Any

from PIL import Image, ImageDraw

from nexuslims_pipeline.previews.images import GAP, View, below, draw_image, draw_stack
from nexuslims_pipeline.previews.layers import BUDGET, draw_layers
from nexuslims_pipeline.previews.lettering import font, printable, shortened
from nexuslims_pipeline.previews.patterns import draw_patterns
from nexuslims_pipeline.previews.plots import draw_line_scan, draw_mean_spectrum, draw_spectrum, draw_spectrum_image
from nexuslims_pipeline.previews.sampling import TooCoarse
from nexuslims_pipeline.previews.tones import has_colours
from nexuslims_pipeline.signals import Axis, Pixels, Signal

TIMES = frozenset({"ps", "ns", "µs", "ms", "s", "min", "h"})
"""Units of an axis along which time passes."""
SIZE = 500
"""Longest side of a preview in pixels."""
_TITLE = 44
_BOX = (SIZE - 8, SIZE - _TITLE - 4)
_INK, _FAINT = 30, 90

_KINDS = {
    "Image": "Image", "Spectrum": "Spectrum", "SpectrumImage": "Spectrum image", "Diffraction": "Diffraction",
    "Misc": "Dataset", "Unknown": "Dataset",
}  # fmt: skip


def draw_preview(signal: Signal, caption: str = "") -> bytes | None:
    """Draw a PNG of at most 500 × 500 pixels that shows what is in a dataset.

    At most 64 MB of the array are read and at most 100 MB of memory are used, whatever its size.

    Parameters
    ----------
    signal
        Its `layers` are drawn with the mean of its spectra, or its `pixels` with its `annotations`, else its `text`.
    caption
        Title; the signal's own name when empty.

    Returns
    -------
    bytes or None
        The same bytes for the same signal. None when there is nothing to draw: no text, and no pixels, an
        empty array, elements that are no numbers, or no finite one. Data that only come in pieces beyond
        the limits give a picture that says so.

    Raises
    ------
    Exception
        Only what the array itself raises when it is sliced, such as OSError for a damaged file.
    """
    view = _view(signal.pixels) if signal.pixels is not None and _is_drawable(signal.pixels.array) else None
    panel = _maps(signal, view)
    if panel is None and view is not None:
        try:
            panel = _picture(signal, view)
        except TooCoarse:
            panel = _text("No picture: the data can only be loaded\nin pieces that are too large for a preview.")
    facts = _facts(signal, view) if panel is not None and (view is not None or signal.layers) else ""
    if panel is None and view is None:
        panel = _text(signal.text) if signal.text and signal.text.strip() else None
    return None if panel is None else _png(_titled(panel, caption or signal.name, facts))


def _is_drawable(array: Any) -> bool:
    """Whether `array` has elements that are numbers or colours."""
    shape, dtype = getattr(array, "shape", ()), getattr(array, "dtype", None)
    # A dask array of unknown length has NaN in its shape.
    if dtype is None or not shape or not all(isinstance(size, Integral) and int(size) > 0 for size in shape):
        return False
    return dtype.kind in "biufc" or (len(shape) > 1 and has_colours(array, len(shape)))


def _axes(pixels: Pixels) -> tuple[Axis, ...]:
    """One axis for each dimension (but that of colours); uncalibrated ones when the given ones do not fit."""
    shape, axes = pixels.array.shape, pixels.axes
    if len(axes) == len(shape) or (len(axes) > 1 and has_colours(pixels.array, len(axes))):
        return tuple(replace(axis, size=int(size)) for axis, size in zip(axes, shape, strict=False))
    inner = len(shape) - min(len(shape), 2)
    return tuple(Axis(int(size), navigation=index < inner) for index, size in enumerate(shape))


def _view(pixels: Pixels) -> View:
    """Tell scan and signal apart; of more than two scanned axes the last two, at the middle of the others."""
    array, axes = pixels.array, _axes(pixels)
    declared = sum(not axis.navigation for axis in axes)
    is_curve = not has_colours(array, len(axes)) and (declared == 1 or len(axes) == 1)
    outer = len(axes) - (1 if is_curve else 2)
    scan = [index for index in range(outer) if axes[index].size > 1][-2:]
    window = tuple(
        range(size) if index >= outer or index in scan else range(size // 2, size // 2 + 1)
        for index, size in enumerate(map(int, array.shape))
    )
    return View(array, axes, outer, tuple(scan), window, pixels.quantity)


def _maps(signal: Signal, view: View | None) -> Image.Image | None:
    """Draw the layers as one picture in colours, above the mean spectrum where there is one.

    None where there are none to draw, or where a single one stands beside an image.
    """
    is_image = view is not None and not view.is_curve
    if not signal.layers or (len(signal.layers) == 1 and is_image):
        return None
    box = (_BOX[0], _BOX[1] * 3 // 5) if view is not None and view.is_curve else _BOX
    panel = draw_layers(signal.layers, _layer_axes(signal), box)
    if panel is None or view is None or not view.is_curve:
        return panel
    room = (_BOX[0], _BOX[1] - panel.height - GAP)
    try:
        plot = draw_mean_spectrum(view, room, "EDS" in signal.data_type, limit=BUDGET)
    except TooCoarse:
        plot = None
    return panel if plot is None else below(panel, plot)


def _layer_axes(signal: Signal) -> tuple[Axis, Axis] | None:
    """Calibration of the layers: that of two axes of the same sizes, else the pixels' size; None when unknown."""
    shape = tuple(getattr(signal.layers[0].array, "shape", ()))
    axes = signal.pixels.axes if signal.pixels is not None else ()
    for rows, columns in pairwise(axes):
        if (rows.size, columns.size) == shape:
            return rows, columns
    sizes = [signal.fields.get(name) for name in ("pixel_height", "pixel_width")]
    if len(shape) != 2 or not all(hasattr(size, "m_as") for size in sizes):
        return None
    try:
        height, width = (float(size.m_as("nm")) for size in sizes if size is not None)
    except (ValueError, TypeError, AttributeError):
        return None
    return Axis(shape[0], height, units="nm"), Axis(shape[1], width, units="nm")


def _picture(signal: Signal, view: View) -> Image.Image | None:
    """Choose the kind of picture by the numbers of signal axes and of scanned axes."""
    is_eds = "EDS" in signal.data_type
    is_diffraction = signal.dataset_type == "Diffraction" and not has_colours(view.array, len(view.axes))
    match view.is_curve, len(view.scan):
        case True, 0:
            return draw_spectrum(view, _BOX, is_eds)
        case True, 1:
            return draw_line_scan(view, _BOX)
        case True, _:
            return draw_spectrum_image(view, _BOX, is_eds)
        case False, 0:
            return draw_image(view, _BOX, is_diffraction, _data_bar(signal, view), signal.annotations)
        case False, 2 if is_diffraction:
            is_scattered_back = "EBSD" in signal.data_type
            return draw_patterns(view, _BOX, "mean of the disc" if is_scattered_back else "virtual bright field")
    return draw_stack(view, _BOX, is_diffraction)


def _data_bar(signal: Signal, view: View) -> int:
    """Rows at the foot of an image on which the instrument wrote."""
    rows = signal.extensions.get("Data Bar Rows")
    return rows if isinstance(rows, int) and 0 < rows < view.axes[-2].size else 0


def _facts(signal: Signal, view: View | None) -> str:
    """Name kind and size in words: ``12 images, 512 × 512 px``."""
    kind = _KINDS.get(signal.dataset_type, "Dataset")
    maps = f", {len(signal.layers)} maps" if len(signal.layers) > 1 else ""
    if view is None:
        shape = getattr(signal.layers[0].array, "shape", ())
        return f"{kind}, {' × '.join(map(str, reversed(shape)))} px{maps}"
    outer = [axis.size for axis in view.axes[: view.outer] if axis.size > 1]
    if view.is_curve:
        kind = kind if len(outer) != 1 else "Time series" if view.axes[view.scan[0]].units in TIMES else "Line scan"
        size = f"{view.axes[-1].size} {'channels' if view.quantity == 'Counts' else 'values'}"
    else:
        size = f"{view.axes[-1].size} × {view.axes[-2].size} px"
    if not outer:
        return f"{kind}, {size}{maps}"
    if len(outer) == 1 and not view.is_curve and signal.dataset_type != "Diffraction":
        return f"{outer[0]} images, {size}{maps}"
    return f"{kind}, {' × '.join(map(str, reversed(outer)))} positions, {size}{maps}"


def _text(text: str) -> Image.Image:
    """Draw the first 30 lines of 60 columns in a monospaced font."""
    face, height = font(13, "DejaVuSansMono"), 15
    lines = text[:20_000].expandtabs(4).splitlines()[:30]
    picture = Image.new("L", (_BOX[0], max(1, len(lines)) * height), 255)
    draw = ImageDraw.Draw(picture)
    for index, line in enumerate(lines):
        draw.text((6, index * height + height / 2), printable(line, 60), fill=_INK, font=face, anchor="lm")
    return picture


def _titled(panel: Image.Image, title: str, facts: str) -> Image.Image:
    """Put the panel below its title, on white."""
    lines = [(title, 17, _INK), (facts, 15, _FAINT)]
    lines = [line for line in lines if line[0].strip()]
    top = {0: 4, 1: 26, 2: _TITLE}[len(lines)]
    picture = Image.new(panel.mode, (SIZE, top + panel.height + 4), "white")
    draw = ImageDraw.Draw(picture)
    for row, (text, size, shade) in enumerate(lines):
        face = font(size)
        ink = shade if picture.mode == "L" else (shade, shade, shade)
        draw.text((5, 12 + 20 * row), shortened(text, face, SIZE - 10), fill=ink, font=face, anchor="lm")
    picture.paste(panel, ((SIZE - panel.width) // 2, top))
    return picture


def _png(picture: Image.Image) -> bytes:
    file = BytesIO()
    picture.save(file, "PNG", compress_type=zlib.Z_RLE)  # half the time of the default for pictures, and no larger
    return file.getvalue()
