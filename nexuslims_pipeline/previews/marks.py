"""Marks of the operator over an image: where a spectrum was taken, what was measured."""

import math
from collections.abc import Sequence
from typing import Final

from PIL import Image, ImageDraw

from nexuslims_pipeline.previews.lettering import font, printable
from nexuslims_pipeline.signals import Annotation

MOST_MARKS: Final = 60
MOST_LABELS: Final = 24
BRIGHT, DARK = (255, 221, 0), (20, 20, 20)
"""Yellow on black: seen on any grey, and by the colour-blind."""
_FINE: Final = 3
"""Marks are drawn this many times larger and then averaged, which smooths their edges."""
_LINE, _HALO = 2, 5
_TEXT: Final = 14
_ARROW: Final = 11
_FAR: Final = 3.0
"""Marks further from the picture than this many times its size are left out: drawing them takes as long as they are."""

Point = tuple[float, float]
Part = tuple[float, float, float, float]
"""First row, first column, rows and columns that a picture shows."""


def draw_marks(picture: Image.Image, marks: Sequence[Annotation], part: Part) -> Image.Image:
    """Draw marks with their labels, bright on a dark rim.

    Parameters
    ----------
    picture
        Grey or RGB; left as it is.
    marks
        In pixels of the image.
    part
        Which of these the picture shows.

    Returns
    -------
    PIL image
        A new RGB picture, or `picture` where there is nothing to draw.
    """
    placed = [(mark, points) for mark in marks[:MOST_MARKS] if (points := _placed(mark, picture.size, part))]
    if not placed:
        return picture
    marked = picture.convert("RGB")
    for colour, width in ((DARK, _HALO), (BRIGHT, _LINE)):
        mask = Image.new("L", (picture.width * _FINE, picture.height * _FINE))
        pen = ImageDraw.Draw(mask)
        for mark, points in placed:
            _draw(pen, mark, [(x * _FINE, y * _FINE) for x, y in points], width * _FINE)
        marked.paste(colour, (0, 0), mask.reduce(_FINE))
    taken: list[tuple[float, float, float, float]] = []
    labelled = [(mark, points) for mark, points in placed if mark.label.strip()]
    for mark, points in labelled[:MOST_LABELS]:
        _draw_label(marked, mark, points, taken)
    return marked


def _placed(mark: Annotation, size: tuple[int, int], part: Part) -> list[Point]:
    """Corners in pixels of the picture; none when they are missing, no numbers, or far away."""
    row, column, rows, columns = part
    wanted = 1 if mark.kind in ("point", "text") else 2
    if len(mark.corners) < wanted:
        return []
    points = [((x - column) / columns * size[0], (y - row) / rows * size[1]) for y, x in mark.corners[:wanted]]
    for x, y in points:
        if not (abs(x) <= _FAR * size[0] and abs(y) <= _FAR * size[1]):
            return []
    return points


def _draw(pen: ImageDraw.ImageDraw, mark: Annotation, points: list[Point], width: int) -> None:
    if mark.kind == "text":
        return
    if mark.kind == "point":
        (x, y), reach = points[0], 7 * _FINE
        pen.line((x - reach, y, x + reach, y), fill=255, width=width)
        pen.line((x, y - reach, x, y + reach), fill=255, width=width)
        return
    (x0, y0), (x1, y1) = points
    if mark.kind in ("line", "arrow"):
        pen.line((x0, y0, x1, y1), fill=255, width=width)
        if mark.kind == "arrow":
            _draw_head(pen, points[0], points[1], width)
        return
    box = (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
    # An outline lies within its box; half of it belongs outside.
    box = (box[0] - width / 2, box[1] - width / 2, box[2] + width / 2, box[3] + width / 2)
    (pen.ellipse if mark.kind == "ellipse" else pen.rectangle)(box, outline=255, width=width)


def _draw_head(pen: ImageDraw.ImageDraw, start: Point, end: Point, width: int) -> None:
    """Draw an arrow's head at its end."""
    angle = math.atan2(end[1] - start[1], end[0] - start[0])
    reach = _ARROW * _FINE + width / 2
    tip = (end[0] + math.cos(angle) * width / 2, end[1] + math.sin(angle) * width / 2)
    sides = [
        (end[0] - reach * math.cos(angle + turn), end[1] - reach * math.sin(angle + turn)) for turn in (-0.45, 0.45)
    ]
    pen.polygon([tip, *sides], fill=255)


def _draw_label(
    picture: Image.Image, mark: Annotation, points: list[Point], taken: list[tuple[float, float, float, float]]
) -> None:
    """Write a label beside its mark, lower where another is in its way; not at all where there is no room."""
    face = font(_TEXT)
    text = printable(" ".join(mark.label.split()), 28)
    width = face.getlength(text) + 4
    left, top = min(x for x, _ in points), min(y for _, y in points)
    if mark.kind in ("rectangle", "ellipse"):
        is_roomy = max(x for x, _ in points) - left > width + 8 and max(y for _, y in points) - top > _TEXT + 8
        x, y = (left + 5, top + 4) if is_roomy else (max(x for x, _ in points) + 6, top)
    elif mark.kind == "text":
        x, y = left, top
    elif mark.kind == "point":
        x, y = points[0][0] + 8, points[0][1] - _TEXT - 4
    else:  # behind the start of the line, out of its way
        is_rightward = points[1][0] >= points[0][0]
        x, y = points[0][0] - width - 4 if is_rightward else points[0][0] + 6, points[0][1] - _TEXT / 2 - 2
    x = min(max(x, 3.0), picture.width - width)
    y = min(max(y, 3.0), picture.height - _TEXT - 6.0)
    for _ in range(4):
        box = (x, y, x + width, y + _TEXT + 4)
        if all(box[2] <= a or c <= box[0] or box[3] <= b or d <= box[1] for a, b, c, d in taken):
            break
        y += _TEXT + 5
    else:
        return
    if x < 0 or box[3] > picture.height:
        return
    taken.append(box)
    pen = ImageDraw.Draw(picture)
    pen.text((x, y), text, fill=BRIGHT, font=face, stroke_width=2, stroke_fill=DARK)
