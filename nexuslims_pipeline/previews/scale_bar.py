"""Scale bars: a rounded length with its unit, drawn into the corner of a picture."""

import math
import re

from PIL import Image, ImageDraw

from nexuslims_pipeline.previews.lettering import font, printable
from nexuslims_pipeline.signals import Axis

_METRES = {
    "m": 1.0, "cm": 1e-2, "mm": 1e-3, "µm": 1e-6, "um": 1e-6, "micron": 1e-6, "microns": 1e-6, "nm": 1e-9,
    "Å": 1e-10, "A": 1e-10, "angstrom": 1e-10, "pm": 1e-12,
}  # fmt: skip
_LONGEST = 1.0
"""Metres; a longer bar comes from a file whose unit is wrong."""
_UNCALIBRATED = frozenset({"", "px", "pix", "pixel", "pixels", "<undefined>", "none", "channel", "channels"})
_RECIPROCAL = re.compile(r"1 ?/ ?(\w+)|(\w+) ?(?:\^?[({]?-1[)}]?|⁻¹)")


def unit_of(axis: Axis) -> str:
    """Return the unit as it is drawn (``µm``, ``nm⁻¹``); empty when the axis is not calibrated."""
    unit = printable(axis.units, 16).strip(" $").replace("μ", "µ").replace("\N{ANGSTROM SIGN}", "Å")
    if unit.lower() in _UNCALIBRATED or not _is_calibration(axis):
        return ""
    reciprocal = _RECIPROCAL.fullmatch(unit)
    if reciprocal:
        unit = f"{reciprocal[1] or reciprocal[2]}⁻¹"
    return unit.replace("um", "µm") if unit in {"um", "um⁻¹"} else unit


def _is_calibration(axis: Axis) -> bool:
    return math.isfinite(axis.scale) and abs(axis.scale) > 1e-300 and math.isfinite(axis.offset)


def rounded_down(value: float) -> float:
    """Return the largest of 1, 2 and 5 times a power of ten not above `value` (which is positive)."""
    power = math.floor(math.log10(value))
    # A quotient just below a step because of rounding still counts as the step.
    step = max((step for step in (1, 2, 5) if step <= value / 10.0**power * (1 + 1e-9)), default=1)
    return float(f"{step}e{power}")


def rounded_up(value: float) -> float:
    """Return the smallest of 1, 2 and 5 times a power of ten not below `value` (which is positive)."""
    power = math.floor(math.log10(value))
    step = min((step for step in (1, 2, 5) if step >= value / 10.0**power * (1 - 1e-9)), default=10)
    return float(f"{step}e{power}")


def bar_label(length: float, unit: str) -> str:
    """Write length and unit, lengths with the prefix in which people say them: ``500 nm``, ``2 µm``."""
    if unit in _METRES:
        metres = length * _METRES[unit]
        units = (("m", 1.0), ("mm", 1e-3), ("µm", 1e-6), ("nm", 1e-10), ("pm", 0.0))
        unit = next(name for name, least in units if metres >= least * (1 - 1e-9))
        length = metres / _METRES[unit]
    return f"{length:.6g} {unit}"


def pixel_aspect(rows: Axis, columns: Axis) -> float:
    """Height of a pixel divided by its width; 1 when not known or not credible."""
    unit = unit_of(rows)
    if not unit or not unit_of(columns):
        return 1.0
    height, width = abs(rows.scale), abs(columns.scale)
    if unit != unit_of(columns):
        if unit not in _METRES or unit_of(columns) not in _METRES:
            return 1.0
        height, width = height * _METRES[unit], width * _METRES[unit_of(columns)]
    if not 0 < width < math.inf:
        return 1.0
    aspect = height / width
    return aspect if 1 / 8 <= aspect <= 8 else 1.0


def draw_scale_bar(
    picture: Image.Image, axis: Axis, elements: float, text_size: int = 17, height: int | None = None
) -> None:
    """Draw a white bar on a dark box into the lower left corner of a grey or RGB `picture`.

    Parameters
    ----------
    picture
        Changed in place; left alone when `axis` has no unit or there is no room.
    axis
        The horizontal axis.
    elements
        How many elements of `axis` the width of the picture shows.
    text_size
        Height of the letters in pixels.
    height
        Pixel rows from the top to which the bar is kept; those of the picture when None.
    """
    unit = unit_of(axis)
    across = abs(axis.scale) * elements
    if not unit or not 1e-290 < across < 1e290:
        return
    length = rounded_down(across * 0.35)
    if length * _METRES.get(unit, 0.0) > _LONGEST:
        return
    label = bar_label(length, unit)
    face = font(text_size)
    bar = round(picture.width * length / across)
    pad, thickness = text_size // 3, max(3, text_size // 4)
    width = max(bar, round(face.getlength(label))) + 2 * pad
    tall = text_size + thickness + 3 * pad
    bottom = picture.height if height is None else height
    if width + pad > picture.width or tall + pad > bottom:
        return
    left, top = pad, bottom - pad - tall
    dark, white = ((30, 30, 30), (255, 255, 255)) if picture.mode == "RGB" else (30, 255)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((left, top, left + width - 1, top + tall - 1), fill=dark)
    draw.text((left + width / 2, top + pad + text_size / 2), label, fill=white, font=face, anchor="mm")
    start, base = left + (width - bar) // 2, top + tall - pad - thickness
    draw.rectangle((start, base, start + bar - 1, base + thickness - 1), fill=white)
