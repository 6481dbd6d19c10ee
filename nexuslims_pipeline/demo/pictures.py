"""What the demo's microscopes see: pictures computed from fixed seeds.

A specimen is a function of the place on it, so that pictures of one area at several magnifications
agree. Every picture is an array ``(rows, columns)``.
"""

from functools import cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

ELECTRON_WAVELENGTH_200KV_NM = 2.508e-3
GOLD_111_NM = 0.2355
GOLD_LATTICE_NM = 0.4078
GOLD_RINGS = {(1, 1, 1): 1.0, (2, 0, 0): 0.47, (2, 2, 0): 0.30, (3, 1, 1): 0.28, (2, 2, 2): 0.08}
"""Reflections of gold with their intensities on powder rings, relative to the strongest."""
PEROVSKITE_LATTICE_NM = 0.3905


class View(NamedTuple):
    """The part of a specimen in a picture; lengths in any one unit."""

    width: float
    """Field width."""
    columns: int
    rows: int
    x: float = 0.0
    """Centre of the field."""
    y: float = 0.0

    @property
    def pixel(self) -> float:
        """Width of a pixel."""
        return self.width / self.columns

    def grid(self) -> tuple[Array, Array]:
        """Specimen coordinates of the pixels: a row of x, a column of y."""
        x = self.x + (np.arange(self.columns) - self.columns / 2) * self.pixel
        y = self.y + (np.arange(self.rows) - self.rows / 2) * self.pixel
        return x[None, :], y[:, None]


def counted(intensity: Array, counts: float, seed: int, dark: float = 0.0) -> NDArray[np.uint16]:
    """Shot noise: `intensity` 1 is `counts` electrons, upon a dark level."""
    electrons = np.random.default_rng(seed).poisson(np.clip(intensity, 0, None) * counts + dark)
    return np.clip(electrons, 0, 65535).astype(np.uint16)


def detected(brightness: Array, seed: int, noise: float = 0.035) -> NDArray[np.uint8]:
    """Scan `brightness` 0 … 1 into 8 bits: noise, slightly uneven lines, shading towards the detector."""
    rng = np.random.default_rng(seed)
    rows, columns = brightness.shape
    lines = rng.normal(0, noise / 8, (rows, 1))
    shading = np.linspace(0.04, -0.04, columns)[None, :] + np.linspace(0.02, -0.02, rows)[:, None]
    signal = brightness + shading + lines + rng.normal(0, noise, brightness.shape) * np.sqrt(0.3 + brightness)
    return np.asarray(np.clip(signal, 0, 1) * 255, np.uint8)


class Grains(NamedTuple):
    """Polycrystal at the points of a picture."""

    owner: Array
    """Number of the grain, below `KINDS`."""
    centre_distance: Array
    boundary_distance: Array


PERIOD = 64
KINDS = PERIOD * PERIOD
"""The polycrystal repeats after 64 grains in each direction."""


def polycrystal(x: Array, y: Array, grain: float, seed: int) -> Grains:
    """Voronoi cells of points scattered about a square lattice of spacing `grain`, with wavy boundaries."""
    scatter = np.random.default_rng(seed).uniform(0.08, 0.92, (2, PERIOD, PERIOD)).astype(np.float32)
    wave = 0.10 * np.sin(2.1 * x / grain + 1.3 * y / grain) + 0.07 * np.sin(4.7 * y / grain - 3.1 * x / grain)
    u, v = (x / grain + wave).astype(np.float32), (y / grain - wave).astype(np.float32)
    column, row = np.floor(u).astype(np.int32), np.floor(v).astype(np.int32)
    u, v = u - column, v - row
    nearest = np.full(u.shape, np.inf, np.float32)
    second = nearest.copy()
    owner = np.zeros(u.shape, np.int32)
    for across in (-1, 0, 1):
        for down in (-1, 0, 1):
            cell = (row + down) % PERIOD * PERIOD + (column + across) % PERIOD
            distance = (across + scatter[0].ravel()[cell] - u) ** 2 + (down + scatter[1].ravel()[cell] - v) ** 2
            owner = np.where(distance < nearest, cell, owner)
            second = np.minimum(second, np.maximum(nearest, distance))
            nearest = np.minimum(nearest, distance)
    centre_distance = np.sqrt(nearest) * grain
    return Grains(owner, centre_distance, (np.sqrt(second) * grain - centre_distance) / 2)


def steel(view: View, grain_um: float, seed: int) -> Array:
    """Brightness of an etched ferrite–pearlite steel under secondary electrons; lengths in µm."""
    x, y = view.grid()
    grains = polycrystal(x, y, grain_um, seed)
    rng = np.random.default_rng(seed + 1)
    tone, pearlitic = rng.random(KINDS), rng.random(KINDS) < 0.27
    ferrite = 0.22 + 0.20 * tone[grains.owner]

    angle, spacing_um = rng.uniform(0, np.pi, KINDS), rng.uniform(0.35, 0.7, KINDS)
    across = x * np.cos(angle)[grains.owner] + y * np.sin(angle)[grains.owner]
    along = y * np.cos(angle)[grains.owner] - x * np.sin(angle)[grains.owner]
    bend = 0.30 * np.sin(along / 4.3 + 6 * tone[grains.owner]) + 0.07 * np.sin((along + 0.6 * across) / 0.9)
    phase = 2 * np.pi * (across + bend) / spacing_um[grains.owner]
    resolved = np.clip(1.5 - 4 * view.pixel / spacing_um, 0, 1)[grains.owner]
    pearlite = 0.56 + resolved * (0.42 * (0.5 + 0.5 * np.cos(phase)) ** 2 - 0.22)

    surface = np.where(pearlitic[grains.owner], pearlite, ferrite)
    groove_um = max(0.12, 0.8 * view.pixel)
    surface -= 0.22 * np.exp(-((grains.boundary_distance / groove_um) ** 2))
    surface += 0.08 * np.exp(-(((grains.boundary_distance - 2 * groove_um) / groove_um) ** 2))
    inclusion_um = np.where(rng.random(KINDS) < 0.06, rng.uniform(0.3, 1.0, KINDS), -1)[grains.owner]
    depth = np.clip((inclusion_um - grains.centre_distance) / 0.15, -1, 1)
    return np.asarray(np.where(depth > -1, surface * (0.5 - 0.5 * depth) + 0.25 * (1 - depth**2), surface))


def composite_ceramic(view: View, grain_um: float, seed: int) -> Array:
    """Brightness of alumina (dark) with zirconia (bright) under backscattered electrons; lengths in µm."""
    x, y = view.grid()
    grains = polycrystal(x, y, grain_um, seed)
    rng = np.random.default_rng(seed + 1)
    zirconia = rng.random(KINDS) < 0.3
    tone = np.where(zirconia, 0.74, 0.27) + rng.normal(0, 0.025, KINDS)
    surface = tone[grains.owner]
    surface -= 0.10 * np.exp(-((grains.boundary_distance / max(0.02, 0.7 * view.pixel)) ** 2))
    pore_um = np.where(rng.random(KINDS) < 0.05, rng.uniform(0.05, 0.18, KINDS), -1)[grains.owner]
    edge = np.clip((grains.centre_distance - pore_um) / 0.03, 0, 1)
    return np.asarray(0.05 + (surface - 0.05) * edge)


class Particles(NamedTuple):
    """Nanoparticles on a film, all in nm but the strength."""

    x: Array
    y: Array
    radius: Array
    elongation: Array
    angle: Array
    strength: Array
    """How strongly each one scatters, 0 … 1."""


@cache
def gold_particles(number: int = 1500, extent_nm: float = 1400) -> Particles:
    """Gold scattered over a square film of `extent_nm`: the specimen of all the particle images."""
    rng = np.random.default_rng(11)
    clusters = rng.uniform(-extent_nm / 2, extent_nm / 2, (number // 9, 2))
    centres = clusters[rng.integers(0, len(clusters), number)] + rng.normal(0, extent_nm / 56, (number, 2))
    return Particles(
        centres[:, 0],
        centres[:, 1],
        rng.lognormal(np.log(5.0), 0.28, number),
        rng.uniform(1.0, 1.25, number),
        rng.uniform(0, np.pi, number),
        rng.beta(2, 1.6, number),
    )


def projected_thickness(particles: Particles, view: View, *, weighted: bool) -> tuple[Array, Array]:
    """Thickness of the particles along the beam, in nm, and the nearness to a particle's rim (0 … 1).

    With `weighted`, each particle counts by its strength, as its orientation decides in bright field.
    """
    thickness, rim = np.zeros((2, view.rows, view.columns))
    margin = 2 * particles.radius.max()
    left, top = view.x - view.width / 2, view.y - view.pixel * view.rows / 2
    for x, y, radius, elongation, angle, strength in zip(*particles, strict=True):
        reach = 1.5 * radius + 3 * view.pixel
        column, row = int((x - left) / view.pixel), int((y - top) / view.pixel)
        half = int(reach / view.pixel) + 1
        if not (-margin < x - left < view.width + margin):
            continue
        rows = slice(max(row - half, 0), max(row + half, 0))
        columns = slice(max(column - half, 0), max(column + half, 0))
        dx = left + np.arange(view.columns)[None, columns] * view.pixel - x
        dy = top + np.arange(view.rows)[rows, None] * view.pixel - y
        major, minor = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
        facets = 1 + 0.05 * np.cos(6 * (np.arctan2(dy, dx) + angle))
        distance = np.hypot(major / elongation, minor * elongation) * facets
        height = 2 * np.sqrt(np.clip(radius**2 - distance**2, 0, None))
        thickness[rows, columns] += height * (strength if weighted else 1.0)
        rim[rows, columns] += np.exp(-(((distance - radius) / max(0.35, 0.8 * view.pixel) - 1.2) ** 2))
    return thickness, np.clip(rim, 0, 1)


def amorphous_film(view: View, defocus_nm: float, seed: int) -> Array:
    """Phase contrast of amorphous carbon at 200 kV, with Thon rings; mean 0 and deviation 1."""
    spherical_aberration_nm = 1.2e6
    noise = np.random.default_rng(seed).normal(size=(view.rows, view.columns))
    frequency = np.hypot(
        np.fft.rfftfreq(view.columns, view.pixel)[None, :], np.fft.fftfreq(view.rows, view.pixel)[:, None]
    )
    wavelength = ELECTRON_WAVELENGTH_200KV_NM
    aberration = (
        np.pi * wavelength * frequency**2 * (spherical_aberration_nm * wavelength**2 * frequency**2 / 2 - defocus_nm)
    )
    transfer = np.sin(aberration) * np.exp(-((frequency / 4.5) ** 2))
    film = np.fft.irfft2(np.fft.rfft2(noise) * transfer, noise.shape)
    return np.asarray(film / film.std())


def bright_field(particles: Particles, view: View, seed: int) -> Array:
    """Bright-field intensity of gold particles on amorphous carbon; lengths in nm."""
    thickness, rim = projected_thickness(particles, view, weighted=True)
    film = 0.035 * amorphous_film(view, 900, seed)
    return np.exp(-thickness / 7.5) * (1 + film) + 0.05 * rim


def dark_field(particles: Particles, view: View, film: float = 0.12) -> Array:
    """High-angle annular dark-field intensity of the same: bright by thickness; lengths in nm."""
    x, y = view.grid()
    thickness, _ = projected_thickness(particles, view, weighted=False)
    unevenness = 0.12 * np.sin(x / 61 + 0.4) * np.sin(y / 47 + 1.1) + 0.06 * np.sin(x / 17 - y / 23)
    return np.asarray(film * (1 + unevenness) + thickness / 16)


def gold_lattice(view: View, seed: int) -> Array:
    """High-resolution image of gold crystals near [110] on amorphous carbon; lengths in nm."""
    rng = np.random.default_rng(seed)
    x, y = view.grid()
    image = 1 + 0.055 * amorphous_film(view, 55, seed)
    places = np.array([(-0.17, -0.14), (0.26, 0.22), (0.30, -0.36)]) * rng.choice((-1, 1), 2)
    places += rng.uniform(-0.06, 0.06, (3, 2))
    for place, radius, zone_axis in zip(places, rng.uniform(3.0, 4.4, 3), (True, True, False), strict=True):
        dx, dy = x - view.x - place[0] * view.width, y - view.y - place[1] * view.width
        orientation = rng.uniform(0, np.pi)
        facets = 1 + 0.06 * np.cos(4 * (np.arctan2(dy, dx) - orientation))
        depth = np.sqrt(np.clip(1 - (np.hypot(dx, dy) * facets / radius) ** 2, 0, None))
        twin = np.where(dx * np.sin(orientation) - dy * np.cos(orientation) > 0.9, -1, 1)
        half_angle = np.radians(70.53 / 2)
        planes = [(GOLD_111_NM, orientation + half_angle * twin, 0.16)]
        if zone_axis:
            planes.append((GOLD_111_NM, orientation - half_angle * twin, 0.16))
            planes.append((GOLD_LATTICE_NM / 2, orientation + np.pi / 2, 0.07))
        for spacing, direction, strength in planes:
            phase = 2 * np.pi / spacing * (dx * np.cos(direction) + dy * np.sin(direction))
            image = image + strength * np.sqrt(depth) * np.cos(phase)
        image = image - 0.20 * depth
    return np.asarray(image)


def gold_diffraction(pixels: int, per_pixel_nm: float, seed: int, spots: int = 130) -> Array:
    """Selected-area pattern of many gold crystals with the beam stop; `per_pixel_nm` in 1/nm."""
    rng = np.random.default_rng(seed)
    axis = (np.arange(pixels) - pixels / 2) * per_pixel_nm
    kx, ky = axis[None, :], axis[:, None]
    k = np.hypot(kx, ky)
    halo = 0.055 * np.exp(-k / 2.1) + 0.016 * np.exp(-(((k - 4.8) / 1.3) ** 2)) + 0.003
    pattern = halo + 2.0 * np.exp(-((k / 0.16) ** 2)) + 0.25 * np.exp(-k / 0.35)
    for indices, strength in GOLD_RINGS.items():
        ring = float(np.sqrt(sum(index**2 for index in indices))) / GOLD_LATTICE_NM
        pattern += 0.035 * strength * np.exp(-(((k - ring) / 0.07) ** 2))
        for azimuth, brightness in zip(
            rng.uniform(0, 2 * np.pi, spots), rng.exponential(0.16 * strength, spots), strict=True
        ):
            column = round((ring * np.cos(azimuth)) / per_pixel_nm + pixels / 2)
            row = round((ring * np.sin(azimuth)) / per_pixel_nm + pixels / 2)
            near = slice(max(row - 5, 0), row + 6), slice(max(column - 5, 0), column + 6)
            distance = np.hypot(kx[:, near[1]] - ring * np.cos(azimuth), ky[near[0]] - ring * np.sin(azimuth))
            pattern[near] += brightness * np.exp(-((distance / 0.07) ** 2))
    needle = np.abs(ky - 0.12 * kx) - 0.75 - 0.03 * kx
    open_to_beam = 0.5 + 0.5 * np.tanh(np.where(kx > -0.6, needle, 9) / 0.08)
    return np.asarray(pattern * (0.02 + 0.98 * open_to_beam))


def perovskite_interface(view: View, seed: int) -> Array:
    """Atomic columns of LaMnO₃ (above) on SrTiO₃ (below) along [001] in HAADF; lengths in nm."""
    rng = np.random.default_rng(seed)
    x, y = view.grid()
    tilt = np.radians(2.0)
    jitter = rng.normal(0, 0.008, (view.rows, 1))
    u, v = (x + jitter) * np.cos(tilt) + y * np.sin(tilt), y * np.cos(tilt) - x * np.sin(tilt)
    image = np.full((view.rows, view.columns), 0.16)
    for shift, heavy, light in ((0.0, 57, 38), (0.5, 25, 22)):
        row = np.floor(v / PEROVSKITE_LATTICE_NM - shift + 0.5)
        column = np.floor(u / PEROVSKITE_LATTICE_NM - shift + 0.5)
        interdiffused = 1 / (1 + np.exp((row + 4 + 0.6 * np.sin(column * 12.9898)) / 0.35))
        atomic_number = light + (heavy - light) * interdiffused
        du = u - (column + shift) * PEROVSKITE_LATTICE_NM
        dv = v - (row + shift) * PEROVSKITE_LATTICE_NM
        image += (atomic_number / 57) ** 1.7 * np.exp(-(du**2 + dv**2) / (2 * 0.062**2))
    return image * (1 + 0.06 * np.sin(x / 4.3 + 1) + 0.05 * y / view.width)
