"""Scans of diffraction patterns: their mean, and the picture that a bright-field detector would have made."""

from dataclasses import dataclass
from math import pi, sqrt

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nexuslims_pipeline.previews.images import GAP, Box, View, below, beside, draw_label
from nexuslims_pipeline.previews.marks import draw_marks
from nexuslims_pipeline.previews.sampling import READ_BYTES, Sample, sample
from nexuslims_pipeline.previews.scale_bar import draw_scale_bar, pixel_aspect
from nexuslims_pipeline.previews.tones import fitted, grey, logarithmic, mean
from nexuslims_pipeline.signals import Annotation

LARGEST_DISC = 1 / 4
"""Radius in terms of the detector's smaller side; a pattern without a bright centre has a disc of this size."""
_SAMPLES = 512


@dataclass(frozen=True, slots=True)
class Disc:
    """A round detector in pixels of the camera."""

    row: float
    column: float
    radius: float

    def holds(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which crossings of `rows` and `columns` lie in it; the nearest one at least."""
        distances = (rows[:, None] - self.row) ** 2 + (columns - self.column) ** 2
        return np.asarray(distances <= max(self.radius**2, float(distances.min())))

    def window(self, height: int, width: int) -> tuple[range, range]:
        """Rows and columns that it covers."""
        first = (max(0, int(self.row - self.radius)), max(0, int(self.column - self.radius)))
        last = (min(height - 1, int(self.row + self.radius)), min(width - 1, int(self.column + self.radius)))
        return range(first[0], last[0] + 1), range(first[1], last[1] + 1)


def draw_patterns(view: View, box: Box, name_of_map: str = "virtual bright field") -> Image.Image | None:
    """Draw the mean of the patterns of a map with the central disc, and the map of what falls into the disc.

    Of each about `READ_BYTES` / 2 are fetched: as many patterns as that allows, spread over the scan, then the
    pixels of the disc at as many positions. So the time is bounded by the bytes.
    """
    rows, columns = len(view.axes) - 2, len(view.axes) - 1
    part = sample(
        view.array,
        view.wanted(4, _SAMPLES),
        window=view.window,
        summed=view.scan,
        may_crop=True,
        limit=READ_BYTES // 2,
    )
    pattern = mean(part.values, tuple(range(rows)))
    if not np.isfinite(pattern).any():
        return None
    disc = central_disc(pattern, part)
    field, field_axes = _bright_field(view, disc)
    boxes = _arranged(view, part, field_axes, box)
    height, width = part.extent(rows), part.extent(columns)
    size = fitted(width, height, boxes[0], pixel_aspect(view.axes[rows], view.axes[columns]))
    picture = grey(logarithmic(pattern), size)
    if picture is None:
        return None
    corners = (
        (disc.row - disc.radius, disc.column - disc.radius),
        (disc.row + disc.radius + 1, disc.column + disc.radius + 1),
    )
    first = (part.picked[rows].start, part.picked[columns].start)
    picture = draw_marks(picture, [Annotation("ellipse", corners)], (*first, height, width))
    draw_scale_bar(picture, view.axes[columns], width)
    draw_label(picture, f"middle {width} × {height}" if part.is_cropped else "mean pattern")
    plan = _field_picture(view, field, field_axes, boxes[1], name_of_map)
    if plan is None:
        return picture
    return beside(picture, plan) if boxes[0][0] < box[0] else below(picture, plan)


def central_disc(pattern: NDArray[np.float64], part: Sample) -> Disc:
    """The direct beam: centre of mass and size of what is brighter than half of the mean pattern's maximum.

    Parameters
    ----------
    pattern
        Mean of the sampled patterns.
    part
        Where its pixels lie on the detector.
    """
    rows, columns = part.indices[-2:]
    finite = np.where(np.isfinite(pattern), pattern, 0.0)
    # The few brightest pixels may be hot ones.
    maximum = np.percentile(finite, 99.9, method="nearest")
    weights = np.where(finite >= maximum / 2, np.minimum(finite, maximum), 0.0)
    total = float(weights.sum())
    side = min(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    if not 0 < total < np.inf:
        return Disc(float(rows.mean()), float(columns.mean()), side * LARGEST_DISC)
    row = float((weights.sum(axis=1) * rows).sum() / total)
    column = float((weights.sum(axis=0) * columns).sum() / total)
    pixel = part.picked[-2].step * part.picked[-1].step
    radius = sqrt(np.count_nonzero(weights) * pixel / pi)
    return Disc(row, column, min(radius, side * LARGEST_DISC))


def _bright_field(view: View, disc: Disc) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Mean intensity in the disc at each sampled position, and how many rows and columns of the scan it shows."""
    rows, columns = len(view.axes) - 2, len(view.axes) - 1
    down, across = view.scan
    window = disc.window(view.axes[rows].size, view.axes[columns].size)
    part = sample(
        view.array,
        view.wanted(256, 16),
        window=view.window[:rows] + window,
        summed=(rows, columns),
        limit=READ_BYTES // 2,
    )
    positions = part.values.reshape(part.values.shape[down], part.values.shape[across], *part.values.shape[rows:])
    field = mean(positions[..., disc.holds(part.indices[rows], part.indices[columns])], 2)
    return field, (part.extent(down), part.extent(across))


def _arranged(view: View, part: Sample, field_axes: tuple[float, float], box: Box) -> tuple[Box, Box]:
    """Boxes for pattern and map: side by side or one below the other, whichever makes the smaller one larger."""
    rows, columns = len(view.axes) - 2, len(view.axes) - 1
    down, across = view.scan
    half = ((box[0] - GAP) // 2, box[1]), (box[0], (box[1] - GAP) // 2)

    def smaller(room: Box) -> int:
        pattern = fitted(
            part.extent(columns), part.extent(rows), room, pixel_aspect(view.axes[rows], view.axes[columns])
        )
        field = fitted(field_axes[1], field_axes[0], room, pixel_aspect(view.axes[down], view.axes[across]))
        return min(pattern[0] * pattern[1], field[0] * field[1])

    room = max(half, key=smaller)
    return room, room


def _field_picture(
    view: View, field: NDArray[np.float64], extent: tuple[float, float], box: Box, name: str
) -> Image.Image | None:
    down, across = view.scan
    size = fitted(extent[1], extent[0], box, pixel_aspect(view.axes[down], view.axes[across]))
    picture = grey(field, size)
    if picture is not None:
        draw_scale_bar(picture, view.axes[across], extent[1])
        draw_label(picture, name)
    return picture
