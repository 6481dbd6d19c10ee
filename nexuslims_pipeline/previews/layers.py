"""Maps of one area in colours as one picture, with a legend of their names."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from nexuslims_pipeline.previews.images import Box
from nexuslims_pipeline.previews.lettering import font, printable
from nexuslims_pipeline.previews.sampling import READ_BYTES, TooCoarse, sample
from nexuslims_pipeline.previews.scale_bar import draw_scale_bar, pixel_aspect
from nexuslims_pipeline.previews.tones import fitted, real, stretched
from nexuslims_pipeline.signals import Axis, Layer

COLOURS: Final = ((86, 180, 233), (213, 94, 0), (240, 228, 66), (204, 121, 167), (0, 158, 115), (200, 200, 200))
"""Colours that the colour-blind tell apart (M. Okabe and K. Ito, 2008), those furthest from each other first."""
BUDGET: Final = READ_BYTES // 2
"""Bytes to fetch for all maps together; the other half is for the spectrum beside them."""
MOST_NAMED: Final = 6
_SAMPLES: Final = 1024
_TEXT: Final = 15
_INK, _FAINT = (30, 30, 30), (90, 90, 90)


@dataclass(frozen=True, slots=True)
class _Map:
    name: str
    values: NDArray[Any]


def draw_layers(layers: Sequence[Layer], axes: tuple[Axis, Axis] | None, box: Box) -> Image.Image | None:
    """Draw up to six maps in one picture, each in a colour of its own between its darkest and brightest values.

    Parameters
    ----------
    layers
        The most telling first, which settles the size. One of another size, or that cannot be read, is left out,
        which the legend says.
    axes
        Calibration of rows and columns; None when it is not known.
    box
        Pixels to fill, legend included.

    Returns
    -------
    PIL image or None
        RGB; None when no map can be drawn.
    """
    maps, omitted = _read(layers)
    if not maps:
        return None
    rows, columns = axes or (Axis(1), Axis(1))
    height, width = next(layer.array.shape for layer in layers if layer.name == maps[0].name)
    legend = _legend([each.name for each in maps], omitted, box[0])
    size = fitted(width, height, (box[0], max(24, box[1] - legend.height - 4)), pixel_aspect(rows, columns))
    # Light of several colours adds up, and never beyond white.
    dark = np.ones((size[1], size[0], 3), np.float32)
    for each, colour in zip(maps, COLOURS, strict=False):
        tones = _tones(each.values, size)
        dark *= 1 - tones[..., None] * (np.array(colour, np.float32) / max(colour))
    picture = Image.fromarray(((1 - dark) * 255 + 0.5).astype(np.uint8))
    if axes:
        draw_scale_bar(picture, columns, width)
    both = Image.new("RGB", (box[0], picture.height + 4 + legend.height), "white")
    both.paste(picture, ((box[0] - picture.width) // 2, 0))
    both.paste(legend, (0, picture.height + 4))
    return both


def _read(layers: Sequence[Layer]) -> tuple[list[_Map], dict[str, str]]:
    """Samples of the maps that can be shown together, and why the others are not."""
    maps: list[_Map] = []
    omitted: dict[str, str] = {}
    shape: tuple[int, ...] = ()
    limit = BUDGET // max(1, min(len(layers), len(COLOURS)))
    for layer in layers:
        own = tuple(getattr(layer.array, "shape", ()))
        if len(own) != 2 or not all(own) or (shape and own != shape):
            omitted[layer.name] = "of another size"
            continue
        if len(maps) == len(COLOURS):
            omitted[layer.name] = "no colour left"
            continue
        try:
            values = real(sample(layer.array, (_SAMPLES, _SAMPLES), limit=limit).values)
        except MemoryError:
            raise
        except TooCoarse:
            omitted[layer.name] = "too large"
        except Exception:  # what a damaged file raises costs this map only
            omitted[layer.name] = "cannot be read"
        else:
            shape = own
            maps.append(_Map(layer.name, values))
    return maps, omitted


def _tones(values: NDArray[Any], size: tuple[int, int]) -> NDArray[np.float32]:
    """Brightness of one map; a map of one value everywhere is dark."""
    tones = stretched(values, size)
    if tones is None or not np.ptp(tones):
        return np.zeros((size[1], size[0]), np.float32)
    return tones


def _legend(names: list[str], omitted: dict[str, str], width: int) -> Image.Image:
    """Squares of the colours with the names, in as many lines as they need; below, what is not shown."""
    face = font(_TEXT)
    places: list[tuple[int, int, str, tuple[int, int, int]]] = []
    x, line = 4, 0
    for shown, colour in zip(names, COLOURS, strict=False):
        text = printable(shown, 24)
        need = 22 + round(face.getlength(text)) + 14
        if x + need > width and x > 4:
            x, line = 4, line + 1
        brightened = tuple(round(255 * part / max(colour)) for part in colour)
        places.append((x, line, text, (brightened[0], brightened[1], brightened[2])))
        x += need
    missing = ", ".join(f"{printable(each, 16)} ({why})" for each, why in list(omitted.items())[:MOST_NAMED])
    more = len(omitted) - MOST_NAMED
    words = f"Not shown: {missing}{f' and {more} more' if more > 0 else ''}" if omitted else ""
    while face.getlength(words) > width - 8:
        words = words[:-2].rstrip(" …") + "…"
    legend = Image.new("RGB", (width, 20 * (line + 1 + bool(words))), "white")
    pen = ImageDraw.Draw(legend)
    for x, row, text, colour in places:
        pen.rectangle((x, 20 * row + 3, x + 14, 20 * row + 16), fill=colour, outline=_FAINT)
        pen.text((x + 20, 20 * row + 10), text, fill=_INK, font=face, anchor="lm")
    if words:
        pen.text((4, 20 * (line + 1) + 10), words, fill=_FAINT, font=face, anchor="lm")
    return legend
