"""Axes whose coordinates stand one by one in a file: wavelengths, Raman shifts, positions, times."""

import math
from collections.abc import Sequence
from typing import Final

from nexuslims_pipeline.extraction.facts import Facts
from nexuslims_pipeline.signals import Axis

STEPS_AGREE: Final = 0.01
"""Part of the range by which a coordinate may differ from evenly spaced ones for the axis to count as even."""


def axis_through(
    values: Sequence[float], name: str, units: str, facts: Facts, *, navigation: bool = False, warns: bool = True
) -> Axis:
    """Evenly spaced axis from the first to the last of `values`, rising or falling.

    Parameters
    ----------
    values
        Coordinates in `units`; where one is no finite number, or first and last are the same, the axis stays
        uncalibrated.
    name, units, navigation
        As of `Axis`.
    facts
        Is told of an axis that cannot be calibrated, and of uneven steps.
    warns
        Whether uneven steps are worth telling.
    """
    size = len(values)
    if size == 0 or not all(map(math.isfinite, values)) or (size > 1 and values[0] == values[-1]):
        if size:
            facts.warnings[f"{name} Axis"] = "Its coordinates in the file are no axis, so that it is not calibrated."
        return Axis(size, name=name, navigation=navigation)
    first = float(values[0])
    step = (float(values[-1]) - first) / (size - 1) if size > 1 else 1.0
    strays = max(abs(value - first - step * n) for n, value in enumerate(values))
    if warns and strays > STEPS_AGREE * abs(step) * size:
        facts.warnings[f"{name} Axis"] = "Its steps are uneven; the axis shows their mean."
    return Axis(size, step, first, units, name, navigation)
