"""Pictures of images and of stacks of images."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from nexuslims_pipeline.previews.lettering import font, shortened
from nexuslims_pipeline.previews.marks import draw_marks
from nexuslims_pipeline.previews.sampling import sample
from nexuslims_pipeline.previews.scale_bar import draw_scale_bar, pixel_aspect
from nexuslims_pipeline.previews.tones import fitted, picture_of
from nexuslims_pipeline.signals import Annotation, Axis

MOST_SAMPLES = 2048
"""Samples along an axis of an image that is then averaged down to a picture."""
GAP = 6

Box = tuple[int, int]
"""Width and height in pixels that a picture may fill."""


@dataclass(frozen=True, slots=True)
class View:
    """The part of an array that is shown."""

    array: Any
    """Of shape (scan ..., channels) or (scan ..., rows, columns), in colour with 3 or 4 values in the end."""
    axes: tuple[Axis, ...]
    """One for each dimension but the last one of colours."""
    outer: int
    """How many axes come before those of the signal."""
    scan: tuple[int, ...]
    """Which of these are shown and have more than one index: at most two."""
    window: tuple[range, ...]
    """Indices for each dimension; one index for each axis that is neither scanned nor signal."""
    quantity: str = "Counts"
    """What the numbers are."""

    @property
    def is_curve(self) -> bool:
        """Whether the signal has one axis: spectra, not images."""
        return len(self.axes) - self.outer == 1

    def wanted(self, scanned: int, within: int) -> tuple[int, ...]:
        """Count samples: `scanned` along each axis of the scan, `within` along each one of the signal."""
        return tuple(scanned if axis in self.scan else within for axis in range(len(self.window)))


def draw_image(
    view: View, box: Box, is_diffraction: bool, data_bar: int = 0, marks: Sequence[Annotation] = ()
) -> Image.Image | None:
    """Draw one image, or the logarithm of a diffraction pattern, with its scale bar; None without numbers.

    Parameters
    ----------
    view, box
        What to draw, and the pixels to fill.
    is_diffraction
        Whether it is a pattern.
    data_bar
        Rows at the foot that the instrument wrote upon: they are no measure for the contrast, and kept clear.
    marks
        To draw over it.
    """
    rows, columns = len(view.axes) - 2, len(view.axes) - 1
    part = sample(view.array, view.wanted(1, MOST_SAMPLES), window=view.window, may_crop=True)
    height, width = part.extent(rows), part.extent(columns)
    size = fitted(width, height, box, pixel_aspect(view.axes[rows], view.axes[columns]))
    first = part.picked[rows].start
    clear = round(size[1] * min(1.0, max(0.0, (view.axes[rows].size - data_bar - first) / height)))
    picture = picture_of(part.values.reshape(part.values.shape[rows:]), size, is_diffraction, clear)
    if picture is None:
        return None
    picture = draw_marks(picture, marks, (first, part.picked[columns].start, height, width))
    draw_scale_bar(picture, view.axes[columns], width, height=clear)
    if part.is_cropped:
        draw_label(picture, f"middle {width} × {height}")
    return picture


def draw_stack(view: View, box: Box, is_diffraction: bool = False) -> Image.Image | None:
    """Draw up to nine evenly chosen images or patterns as a contact sheet, each with its number, counted from 1."""
    rows, columns = len(view.axes) - 2, len(view.axes) - 1
    part = sample(view.array, view.wanted(9 if len(view.scan) == 1 else 3, 512), window=view.window)
    frames = part.values.reshape(-1, *part.values.shape[rows:])
    counts = [len(part.picked[axis]) for axis in view.scan]
    numbers = [
        ", ".join(str(part.picked[axis][place] + 1) for axis, place in zip(view.scan, places, strict=True))
        for places in np.ndindex(*counts)
    ]
    height, width = part.extent(rows), part.extent(columns)
    aspect = pixel_aspect(view.axes[rows], view.axes[columns])
    across = _best_columns(len(frames), width / (height * aspect), box)
    down = ceil(len(frames) / across)
    tile = ((box[0] - GAP * (across - 1)) // across, (box[1] - GAP * (down - 1)) // down)
    size = fitted(width, height, tile, aspect)
    pictures = [picture_of(frame, size, is_diffraction) for frame in frames]
    mode = next((picture.mode for picture in pictures if picture), None)
    if mode is None:
        return None
    sheet = Image.new(mode, (size[0] * across + GAP * (across - 1), size[1] * down + GAP * (down - 1)), "white")
    for index, number in enumerate(numbers):
        picture = pictures[index] or Image.new(mode, size, "grey")
        if index == 0:
            draw_scale_bar(picture, view.axes[columns], width, text_size=14)
        draw_label(picture, number)
        sheet.paste(picture, (index % across * (size[0] + GAP), index // across * (size[1] + GAP)))
    return sheet


def _best_columns(count: int, aspect: float, box: Box) -> int:
    """Find the number of columns in which `count` images of width / height `aspect` become largest."""

    def size(across: int) -> float:
        return min(box[0] / across, box[1] / ceil(count / across) * aspect)

    return max(range(1, count + 1), key=size)


def draw_label(picture: Image.Image, text: str) -> None:
    """Write `text` into the upper left corner, white on dark."""
    draw = ImageDraw.Draw(picture)
    face = font(14)
    text = shortened(text, face, picture.width - 8)
    draw.rectangle((0, 0, round(face.getlength(text)) + 7, 17), fill="#1e1e1e")
    draw.text((4, 9), text, fill="white", font=face, anchor="lm")


def beside(left: Image.Image, right: Image.Image) -> Image.Image:
    """Put two pictures side by side, centred on each other."""
    mode = left.mode if left.mode == right.mode else "RGB"
    height = max(left.height, right.height)
    both = Image.new(mode, (left.width + GAP + right.width, height), "white")
    both.paste(left.convert(mode), (0, (height - left.height) // 2))
    both.paste(right.convert(mode), (left.width + GAP, (height - right.height) // 2))
    return both


def below(upper: Image.Image, lower: Image.Image) -> Image.Image:
    """Put one picture below another, centred on each other."""
    mode = upper.mode if upper.mode == lower.mode else "RGB"
    width = max(upper.width, lower.width)
    both = Image.new(mode, (width, upper.height + GAP + lower.height), "white")
    both.paste(upper.convert(mode), ((width - upper.width) // 2, 0))
    both.paste(lower.convert(mode), ((width - lower.width) // 2, upper.height + GAP))
    return both
