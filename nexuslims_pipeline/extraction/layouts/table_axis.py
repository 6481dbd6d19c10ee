"""Axes whose coordinates stand one by one in a file: wavelengths, Raman shifts, positions, times."""

import math
from collections.abc import Sequence
from typing import Any, Final

from nexuslims_pipeline.extraction.facts import Facts
from nexuslims_pipeline.extraction.layouts.spectra import Spectra
from nexuslims_pipeline.signals import Axis, Pixels

STEPS_AGREE: Final = 0.01
"""Part of the range by which a position may differ from evenly spaced ones for its axis to count as even."""
CHANNELS_AGREE: Final = 0.5
"""Channels by which the coordinates of a spectrum may differ from evenly spaced ones."""


def axis_through(values: Sequence[float], name: str, units: str, facts: Facts, *, navigation: bool = False) -> Axis:
    """Evenly spaced axis from the first to the last of `values`, rising or falling.

    Parameters
    ----------
    values
        Coordinates in `units`; where one is no finite number, or first and last are the same, the axis stays
        uncalibrated.
    name, units, navigation
        As of `Axis`.
    facts
        Is told of an axis that cannot be calibrated, and of uneven steps between positions; spectra are made even by
        `even_pixels`.
    """
    size = len(values)
    if size == 0 or not all(map(math.isfinite, values)) or (size > 1 and values[0] == values[-1]):
        if size:
            facts.warnings[f"{name} Axis"] = "Its coordinates in the file are no axis, so that it is not calibrated."
        return Axis(size, name=name, navigation=navigation)
    first = float(values[0])
    step = (float(values[-1]) - first) / (size - 1) if size > 1 else 1.0
    strays = max(abs(value - first - step * n) for n, value in enumerate(values))
    if navigation and strays > STEPS_AGREE * abs(step) * size:
        facts.warnings[f"{name} Axis"] = "Its steps are uneven; the axis shows their mean."
    return Axis(size, step, first, units, name, navigation)


def even_pixels(array: Any, axes: tuple[Axis, ...], coordinates: Sequence[float]) -> Pixels:
    """Spectra to show on evenly spaced channels: gratings give uneven ones, which would shift every line.

    Parameters
    ----------
    array
        Positions …, channels.
    axes
        Of `array`, the last one of `axis_through`.
    coordinates
        Of the channels as the file has them; each even channel shows the number of the nearest one of these.
    """
    import numpy as np

    axis, values = axes[-1], np.asarray(coordinates, "f8")
    even = axis.offset + axis.scale * np.arange(axis.size)
    steps = np.diff(values) / axis.scale if axis.units else np.zeros(0)
    is_even = not len(steps) or np.abs(values - even).max() <= CHANNELS_AGREE * abs(axis.scale)
    if is_even or not np.all(steps > 0):
        return Pixels(array, axes)
    places = np.interp(even * np.sign(axis.scale), values * np.sign(axis.scale), np.arange(axis.size))
    nearest = np.rint(places).astype("i8")
    if len(axes) == 1:
        return Pixels(np.asarray(array)[nearest], axes)

    def read(positions: Any) -> Any:
        return np.asarray(array[np.unravel_index(positions, array.shape[:-1])])[:, nearest]

    return Pixels(Spectra(array.shape[:-1], axis.size, array.dtype, read), axes)
