"""Pictures of images, stacks of images and diffraction patterns."""

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from nexuslims_pipeline.previews.lettering import font
from nexuslims_pipeline.previews.sampling import READ_BYTES, Sample, sample
from nexuslims_pipeline.previews.scale_bar import draw_scale_bar, pixel_aspect
from nexuslims_pipeline.previews.tones import fitted, grey, logarithmic, mean, picture_of
from nexuslims_pipeline.signals import Axis

MOST_SAMPLES = 2048
"""Samples along an axis of an image that is then averaged down to a picture."""
_GAP = 6

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

    @property
    def is_curve(self) -> bool:
        """Whether the signal has one axis: spectra, not images."""
        return len(self.axes) - self.outer == 1

    def wanted(self, scanned: int, within: int) -> tuple[int, ...]:
        """Count samples: `scanned` along each axis of the scan, `within` along each one of the signal."""
        return tuple(scanned if axis in self.scan else within for axis in range(len(self.window)))


def draw_image(view: View, box: Box, is_diffraction: bool) -> Image.Image | None:
    """Draw one image, or the logarithm of a diffraction pattern, with its scale bar; None without numbers."""
    rows, columns = len(view.axes) - 2, len(view.axes) - 1
    part = sample(view.array, view.wanted(1, MOST_SAMPLES), window=view.window, may_crop=True)
    height, width = part.extent(rows), part.extent(columns)
    size = fitted(width, height, box, pixel_aspect(view.axes[rows], view.axes[columns]))
    picture = picture_of(part.values.reshape(part.values.shape[rows:]), size, is_diffraction)
    if picture is not None:
        draw_scale_bar(picture, view.axes[columns], width)
        if part.is_cropped:
            _draw_label(picture, f"middle {width} × {height}")
    return picture


def draw_stack(view: View, box: Box) -> Image.Image | None:
    """Draw up to nine evenly chosen images as a contact sheet, each with its number, counted from 1."""
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
    tile = ((box[0] - _GAP * (across - 1)) // across, (box[1] - _GAP * (down - 1)) // down)
    size = fitted(width, height, tile, aspect)
    pictures = [picture_of(frame, size) for frame in frames]
    mode = next((picture.mode for picture in pictures if picture), None)
    if mode is None:
        return None
    sheet = Image.new(mode, (size[0] * across + _GAP * (across - 1), size[1] * down + _GAP * (down - 1)), "white")
    for index, number in enumerate(numbers):
        picture = pictures[index] or Image.new(mode, size, "grey")
        if index == 0:
            draw_scale_bar(picture, view.axes[columns], width, text_size=14)
        _draw_label(picture, number)
        sheet.paste(picture, (index % across * (size[0] + _GAP), index // across * (size[1] + _GAP)))
    return sheet


def _best_columns(count: int, aspect: float, box: Box) -> int:
    """Find the number of columns in which `count` images of width / height `aspect` become largest."""

    def size(across: int) -> float:
        return min(box[0] / across, box[1] / ceil(count / across) * aspect)

    return max(range(1, count + 1), key=size)


def _draw_label(picture: Image.Image, text: str) -> None:
    """Write `text` into the upper left corner, white on dark."""
    draw = ImageDraw.Draw(picture)
    face = font(14)
    draw.rectangle((0, 0, round(face.getlength(text)) + 7, 17), fill="#1e1e1e")
    draw.text((4, 9), text, fill="white", font=face, anchor="lm")


def draw_patterns(view: View, box: Box) -> Image.Image | None:
    """Draw the mean of diffraction patterns and, beside it for a map, its virtual bright-field picture.

    The bright field is the mean over the box around the direct beam, which is where the mean pattern
    reaches half of its maximum. As many patterns are averaged as the budget allows, spread over the scan.
    """
    rows, columns = len(view.axes) - 2, len(view.axes) - 1
    is_map = len(view.scan) == 2
    part = sample(
        view.array,
        view.wanted(4 if is_map else 16, 512),
        window=view.window,
        summed=view.scan,
        may_crop=True,
        limit=READ_BYTES // 2,
    )
    pattern = mean(part.values, tuple(range(rows)))
    if is_map:
        box = ((box[0] - _GAP) // 2, box[1])
    height, width = part.extent(rows), part.extent(columns)
    size = fitted(width, height, box, pixel_aspect(view.axes[rows], view.axes[columns]))
    picture = grey(logarithmic(pattern), size)
    if picture is None:
        return None
    draw_scale_bar(picture, view.axes[columns], width)
    if part.is_cropped:
        _draw_label(picture, f"middle {width} × {height}")
    field = _bright_field(view, _direct_beam(pattern, part), box) if is_map else None
    return picture if field is None else _beside(picture, field)


def _direct_beam(pattern: NDArray[np.float64], part: Sample) -> tuple[range, range]:
    """Rows and columns of the detector in which the mean pattern is brighter than half of its maximum."""
    finite = pattern[np.isfinite(pattern)]
    # The few brightest pixels may be hot ones.
    maximum = np.percentile(finite, 99.9, method="nearest")
    bright = np.argwhere(pattern >= maximum / 2) if maximum > 0 else np.argwhere(np.isfinite(pattern))
    first, last = bright.min(axis=0), bright.max(axis=0)
    down, across = part.picked[-2:]
    return (
        range(down[int(first[0])], down[int(last[0])] + 1),
        range(across[int(first[1])], across[int(last[1])] + 1),
    )


def _bright_field(view: View, beam: tuple[range, range], box: Box) -> Image.Image | None:
    """Draw the intensity of the direct beam at each position of the scan."""
    rows, columns = len(view.axes) - 2, len(view.axes) - 1
    down, across = view.scan
    part = sample(
        view.array,
        view.wanted(256, 16),
        window=view.window[:rows] + beam,
        summed=(rows, columns),
        limit=READ_BYTES // 2,
    )
    field = mean(part.values, (rows, columns))
    height, width = part.extent(down), part.extent(across)
    size = fitted(width, height, box, pixel_aspect(view.axes[down], view.axes[across]))
    picture = grey(field.reshape(field.shape[down], field.shape[across]), size)
    if picture is not None:
        draw_scale_bar(picture, view.axes[across], width)
    return picture


def _beside(left: Image.Image, right: Image.Image) -> Image.Image:
    """Put two grey pictures side by side, centred on each other."""
    height = max(left.height, right.height)
    both = Image.new("L", (left.width + _GAP + right.width, height), 255)
    both.paste(left, (0, (height - left.height) // 2))
    both.paste(right, (left.width + _GAP, (height - right.height) // 2))
    return both
