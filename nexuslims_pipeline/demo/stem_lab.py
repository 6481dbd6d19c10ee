"""The demo's laboratory microscope, whose users save HyperSpy files, plain pictures and notes."""

import io
import math
from datetime import datetime
from typing import Any

import numpy as np

from nexuslims_pipeline.demo import pictures, spectra
from nexuslims_pipeline.demo.hyperspy_file import hyperspy_file
from nexuslims_pipeline.demo.making import Maker
from nexuslims_pipeline.demo.pictures import View, gold_particles
from nexuslims_pipeline.signals import Axis

SCREEN_WIDTH_M = 0.1
"""Field width times magnification."""


def hyperspy_image(title: str, field_nm: float, *, x: float, y: float) -> Maker:
    """HAADF image of gold particles as somebody saved it from HyperSpy."""

    def make(time: datetime, seed: int) -> bytes:
        pixels = 256
        view = View(field_nm, pixels, pixels, x, y)
        data = pictures.counted(pictures.dark_field(gold_particles(), view), 150, seed, dark=12)
        axes = [Axis(pixels, field_nm / pixels, 0.0, "nm", name) for name in ("y", "x")]
        return hyperspy_file(data, axes, title, _hyperspy_metadata(time, title, "", field_nm))

    return make


def hyperspy_line_scan(title: str, length_nm: float) -> Maker:
    """EELS line scan across an iron core in its oxide shell."""

    def make(time: datetime, seed: int) -> bytes:
        points, channels, first_ev, dispersion_ev = 60, 512, 480.0, 0.75
        x = np.linspace(-length_nm / 2, length_nm / 2, points)[:, None]
        core = np.sqrt(np.clip(7.0**2 - x**2, 0, None)) / 7
        oxide = np.sqrt(np.clip(10.0**2 - x**2, 0, None)) / 10 - 0.6 * core
        energy = first_ev + dispersion_ev * np.arange(channels)[None, :]
        expected = (0.35 + core + 0.7 * oxide) * spectra.background(energy, 2500, first_ev)
        expected += oxide * spectra.oxygen_edge(energy, 1200) + (1.2 * core + 0.5 * oxide) * spectra.iron_edge(
            energy, 700
        )
        data = np.random.default_rng(seed).poisson(expected).astype(np.float32)
        axes = [
            Axis(points, length_nm / (points - 1), 0.0, "nm", "x", navigation=True),
            Axis(channels, dispersion_ev, first_ev, "eV", "Energy loss"),
        ]
        metadata = _hyperspy_metadata(time, title, "EELS", length_nm)
        metadata["Acquisition_instrument"]["TEM"]["Detector"] = {
            "EELS": {"collection_angle": 36.0, "spectrometer": "Enfinium", "dwell_time": 0.2}
        }
        return hyperspy_file(data, axes, title, metadata)

    return make


def screenshot(field_nm: float, *, x: float, y: float) -> Maker:
    """Plain PNG of the HAADF image with its scale bar burnt in, without metadata."""

    def make(_time: datetime, seed: int) -> bytes:
        from PIL import Image, ImageDraw, ImageFont

        pixels = 400
        view = View(field_nm, pixels, pixels, x, y)
        counts = pictures.counted(pictures.dark_field(gold_particles(), view), 150, seed, dark=12)
        grey = np.clip(counts / np.percentile(counts, 99.5), 0, 1) * 255
        image = Image.fromarray(grey.astype(np.uint8))
        draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=16)
        bar_nm = 10 ** math.floor(math.log10(field_nm / 2))
        draw.rectangle((16, 376, 16 + bar_nm / view.pixel, 382), 255)
        draw.text((16, 352), f"{bar_nm:g} nm", 255, font)
        file = io.BytesIO()
        image.save(file, "PNG", optimize=False)
        return file.getvalue()

    return make


def _hyperspy_metadata(time: datetime, title: str, signal_type: str, field_nm: float) -> dict[str, Any]:
    return {
        "Acquisition_instrument": {
            "TEM": {
                "acquisition_mode": "STEM",
                "beam_energy": 100.0,
                "camera_length": 150.0,
                "convergence_angle": 27.0,
                "magnification": float(round(SCREEN_WIDTH_M / (field_nm * 1e-9))),
                "microscope": "STEM lab (demo)",
            }
        },
        "General": {"date": f"{time:%Y-%m-%d}", "time": f"{time:%H:%M:%S}", "title": title},
        "Signal": {"signal_type": signal_type},
    }
