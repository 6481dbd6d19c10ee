"""What the demo's spectrometers see: energy-loss and X-ray spectra as expected counts."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

XRAY_LINES_EV: dict[str, tuple[tuple[float, float], ...]] = {
    "C": ((277, 1.0),),
    "O": ((525, 1.0),),
    "Al": ((1487, 1.0),),
    "Si": ((1740, 1.0),),
    "Mn": ((637, 0.3), (5899, 1.0), (6490, 0.135)),
    "Fe": ((705, 0.35), (6404, 1.0), (7058, 0.135)),
    "Zr": ((2042, 1.0), (2124, 0.55), (2219, 0.16), (2303, 0.05)),
}
"""Lines of each element: energy in eV (J. A. Bearden, Rev. Mod. Phys. 39, 78, 1967), relative intensity."""
PEAK_WIDTH_AT_MN_KA_EV = 129.0


def xray_spectrum(energy_ev: Array, beam_ev: float, amounts: Mapping[str, float], counts: float) -> Array:
    """X-ray spectrum of a silicon drift detector, as expected counts.

    Parameters
    ----------
    energy_ev
        Energies of the channels.
    beam_ev
        Energy of the beam.
    amounts
        Element and the height of its strongest line, relative to the bremsstrahlung's maximum.
    counts
        Height of the bremsstrahlung's maximum.
    """
    energy = np.clip(energy_ev, 20, None)
    window = np.exp(-((330 / energy) ** 2.2))
    bremsstrahlung = np.clip(beam_ev - energy, 0, None) / energy * window
    spectrum = bremsstrahlung / bremsstrahlung.max()
    for element, amount in amounts.items():
        for line, strength in XRAY_LINES_EV[element]:
            width = np.sqrt(PEAK_WIDTH_AT_MN_KA_EV**2 + 2.5 * (line - 5899)) / 2.355
            spectrum = spectrum + amount * strength * np.exp(-(((energy_ev - line) / width) ** 2) / 2)
    noise_peak = 3 * np.exp(-((energy_ev / 35) ** 2) / 2)
    return np.asarray(counts * (spectrum + noise_peak))


def edge(energy_ev: Array, onset: float, height: float, peaks: tuple[tuple[float, float, float], ...] = ()) -> Array:
    """Core-loss edge: a rounded step that falls off, and near-edge `peaks` (energy, height, width in eV)."""
    above = np.clip(energy_ev, onset, None) / onset
    shape = height * above**-3.2 / (1 + np.exp(-(energy_ev - onset - 4) / 1.6))
    for position, strength, width in peaks:
        shape = shape + height * strength * np.exp(-(((energy_ev - position) / width) ** 2))
    return np.asarray(shape)


def carbon_edge(energy_ev: Array, height: float) -> Array:
    """Carbon K of an amorphous film: π* at 285 eV, σ* about 292 eV."""
    return edge(energy_ev, 288.0, height, ((285.2, 0.55, 1.1), (293.5, 0.35, 6.0)))


def oxygen_edge(energy_ev: Array, height: float) -> Array:
    """Oxygen K of an iron oxide: pre-peak at 530 eV, main peak at 540 eV."""
    return edge(energy_ev, 536.0, height, ((530.2, 0.45, 1.3), (540.5, 0.65, 4.0), (563.0, 0.18, 8.0)))


def iron_edge(energy_ev: Array, height: float) -> Array:
    """Iron L₂,₃ with its white lines at 709 and 722 eV."""
    return edge(energy_ev, 712.0, height, ((709.3, 2.4, 1.7), (722.4, 0.85, 2.0)))


def background(energy_ev: Array, height: float, at_ev: float, exponent: float = 3.0) -> Array:
    """Power law that is `height` at `at_ev`."""
    return np.asarray(height * (np.clip(energy_ev, 1, None) / at_ev) ** -exponent)


def low_loss(energy_ev: Array, counts: float, thickness: float) -> Array:
    """Zero-loss peak of height `counts` and carbon's plasmons; `thickness` in mean free paths."""
    zero_loss = counts * np.exp(-((energy_ev / 0.55) ** 2)) + 0.004 * counts / (1 + (energy_ev / 0.9) ** 2)
    loss = np.clip(energy_ev, 0, None)
    plasmon = loss * 16.0 / ((loss**2 - 24.0**2) ** 2 + (loss * 16.0) ** 2)
    double = loss * 30.0 / ((loss**2 - 48.0**2) ** 2 + (loss * 30.0) ** 2)
    pi_plasmon = 0.10 * np.exp(-(((energy_ev - 6.0) / 1.6) ** 2))
    single = plasmon / plasmon.max() + pi_plasmon
    scattered = thickness * single + thickness**2 / 2 * double / double.max()
    return np.asarray(zero_loss + 0.055 * counts * scattered)
