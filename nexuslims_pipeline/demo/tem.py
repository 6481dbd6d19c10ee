"""The demo's transmission electron microscope, which saves DigitalMicrograph files."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nexuslims_pipeline.demo import pictures, spectra
from nexuslims_pipeline.demo.digital_micrograph import Calibration, digital_micrograph
from nexuslims_pipeline.demo.making import Maker
from nexuslims_pipeline.demo.pictures import View, gold_particles

VOLTAGE_V = 200_000.0
CAMERA_PIXEL_UM = 15.0
CAMERA_PIXELS = 4096
FRAME = 512
"""Rows and columns of the saved images."""
STEM_SCREEN_WIDTH_M = 0.1
"""Field width times magnification of the scanning unit."""
UNIX_EPOCH_AS_FILETIME = 116_444_736_000_000_000
"""100-nanosecond steps from 1601 to 1970."""


def bright_field_image(name: str, magnification: float, *, x: float = 0.0, y: float = 0.0) -> Maker:
    """TEM image of gold particles, the full camera binned to 512 pixels; `x` and `y` in nm."""

    def make(time: datetime, seed: int) -> bytes:
        pixel_nm = CAMERA_PIXEL_UM * 1000 * (CAMERA_PIXELS // FRAME) / magnification
        view = View(pixel_nm * FRAME, FRAME, FRAME, x, y)
        data = pictures.counted(pictures.bright_field(gold_particles(), view, seed), 1400, seed, dark=90)
        tags = _tem_tags(time, magnification, "IMAGING", exposure_s=0.5, binning=8, area=CAMERA_PIXELS, stage=(x, y))
        return digital_micrograph(data, [Calibration(pixel_nm, "nm")] * 2, name, tags, version=3)

    return make


def lattice_image(name: str, magnification: float, crystals: int) -> Maker:
    """High-resolution TEM image, the camera's central quarter binned to 512 pixels; `crystals` is a seed."""

    def make(time: datetime, seed: int) -> bytes:
        pixel_nm = CAMERA_PIXEL_UM * 1000 * 2 / magnification
        view = View(pixel_nm * FRAME, FRAME, FRAME)
        data = pictures.counted(pictures.gold_lattice(view, crystals), 650, seed, dark=90)
        tags = _tem_tags(time, magnification, "IMAGING", exposure_s=1.0, binning=2, area=2 * FRAME, stage=(31, -12))
        return digital_micrograph(data, [Calibration(pixel_nm, "nm")] * 2, name, tags, version=3)

    return make


def diffraction_pattern(name: str, camera_length_mm: float) -> Maker:
    """Selected-area diffraction of many gold particles."""

    def make(time: datetime, seed: int) -> bytes:
        binning = CAMERA_PIXELS // FRAME
        per_pixel_nm = CAMERA_PIXEL_UM * binning / 1000 / (camera_length_mm * pictures.ELECTRON_WAVELENGTH_200KV_NM)
        pattern = pictures.gold_diffraction(FRAME, per_pixel_nm, seed)
        data = pictures.counted(pattern, 24_000, seed, dark=90)
        tags = _tem_tags(
            time,
            camera_length_mm,
            "DIFFRACTION",
            exposure_s=2.0,
            binning=binning,
            area=CAMERA_PIXELS,
            stage=(120, 40),
        )
        axes = [Calibration(per_pixel_nm, "1/nm", origin=FRAME / 2)] * 2
        return digital_micrograph(data, axes, name, tags, version=3)

    return make


def dark_field_image(name: str, field_nm: float, *, x: float = 0.0, y: float = 0.0) -> Maker:
    """STEM image of gold particles; `x` and `y` in nm."""
    return _stem_image(
        name,
        field_nm,
        lambda view, _seed: pictures.dark_field(gold_particles(), view._replace(x=x, y=y)),
        counts=120,
        detector="HAADF",
    )


def atomic_columns_image(name: str, field_nm: float) -> Maker:
    """STEM image of the columns at an oxide interface."""
    return _stem_image(name, field_nm, pictures.perovskite_interface, counts=180, detector="HAADF")


def _stem_image(
    name: str, field_nm: float, picture: Callable[[View, int], NDArray[Any]], counts: float, detector: str
) -> Maker:
    def make(time: datetime, seed: int) -> bytes:
        data = pictures.counted(picture(View(field_nm, FRAME, FRAME), seed), counts, seed, dark=12)
        dwell_us = 16.0
        tags = _microscope_tags(time, _stem_state(field_nm)) | {
            "DataBar": _data_bar_tags(time, "DigiScan", dwell_us * 1e-6 * FRAME**2, detector),
            "DigiScan": {
                "Channel": 2,
                "Flyback": 400.0,
                "Image Height": FRAME,
                "Image Width": FRAME,
                "Rotation": 0.0,
                "Sample Time": dwell_us,
            },
        }
        return digital_micrograph(data, [Calibration(field_nm / FRAME, "nm")] * 2, name, tags, version=4)

    return make


def energy_loss_spectrum(name: str, first_ev: float, exposure_s: float) -> Maker:
    """EELS spectrum of 2048 channels of 0.25 eV.

    One that begins below 0 eV shows the zero-loss peak, plasmons and carbon; another shows an iron oxide.
    """

    def make(time: datetime, seed: int) -> bytes:
        dispersion_ev, channels = 0.25, 2048
        energy = first_ev + dispersion_ev * np.arange(channels)
        if first_ev < 0:
            expected = spectra.low_loss(energy, 4e6, 0.45)
            expected += np.where(energy > 0, spectra.carbon_edge(energy, 320), 0)
        else:
            expected = spectra.background(energy, 60_000, first_ev)
            expected += spectra.oxygen_edge(energy, 5200) + spectra.iron_edge(energy, 4300)
        data = np.random.default_rng(seed).poisson(expected).astype(np.float32)
        frames = 10
        tags = _energy_loss_tags(
            time,
            _stem_state(40.0),
            first_ev=first_ev,
            dispersion_ev=dispersion_ev,
            exposure_s=exposure_s,
            frames=frames,
            lasted=timedelta(seconds=frames * exposure_s),
        )
        axes = [Calibration(dispersion_ev, "eV", origin=-first_ev / dispersion_ev)]
        return digital_micrograph(data, axes, name, tags, version=3)

    return make


def spectrum_image(name: str) -> Maker:
    """EELS spectrum image, 36 × 24 points, of an iron core in its oxide shell on carbon."""

    def make(time: datetime, seed: int) -> bytes:
        columns, rows, channels, first_ev, dispersion_ev, step_nm = 36, 24, 512, 480.0, 0.75, 1.0
        x, y = View(columns * step_nm, columns, rows).grid()
        distance = np.hypot(x + 2, y - 1)
        core = np.sqrt(np.clip(7.0**2 - distance**2, 0, None)) / 7
        oxide = np.sqrt(np.clip(10.0**2 - distance**2, 0, None)) / 10 - 0.6 * core
        energy = first_ev + dispersion_ev * np.arange(channels)
        parts = (
            (0.35 + core + 0.7 * oxide, spectra.background(energy, 900, first_ev)),
            (oxide, spectra.oxygen_edge(energy, 420)),
            (1.2 * core + 0.5 * oxide, spectra.iron_edge(energy, 260)),
        )
        expected = sum(amount[None] * spectrum[:, None, None] for amount, spectrum in parts)
        data = np.random.default_rng(seed).poisson(expected).astype(np.float32)
        pixel_time_s = 0.1
        lasted = timedelta(seconds=columns * rows * pixel_time_s)
        tags = _energy_loss_tags(
            time,
            _stem_state(columns * step_nm),
            first_ev=first_ev,
            dispersion_ev=dispersion_ev,
            exposure_s=pixel_time_s,
            frames=1,
            lasted=lasted,
        )
        tags["Meta Data"]["Format"] = "Spectrum image"
        tags["SI"] = {
            "Acquisition": {
                "Date": _us_date(time),
                "Start time": _us_time(time - lasted),
                "End time": _us_time(time),
                "Number of cycles": 1,
                "Pixel time (s)": pixel_time_s,
                "SI Application Mode": {"Name": "2D Array"},
                "Spatial Sampling": {"Height (pixels)": rows, "Width (pixels)": columns},
            }
        }
        axes = [Calibration(step_nm, "nm")] * 2
        axes.append(Calibration(dispersion_ev, "eV", origin=-first_ev / dispersion_ev))
        return digital_micrograph(data, axes, name, tags, version=4)

    return make


def _tem_tags(
    time: datetime,
    magnification: float,
    imaging_mode: str,
    *,
    exposure_s: float,
    binning: int,
    area: int,
    stage: tuple[float, float],
) -> dict[str, Any]:
    """Tags of a camera image; in diffraction the magnification is the camera length in mm."""
    margin = (CAMERA_PIXELS - area) // 2
    diffracting = imaging_mode == "DIFFRACTION"
    state = {
        "Illumination Mode": "TEM",
        "Imaging Mode": imaging_mode,
        "Indicated Magnification": magnification,
        "Operation Mode": imaging_mode,
        "STEM Camera Length": magnification if diffracting else 0.0,
    }
    acquisition = {
        "Device": {
            "Active Size (pixels)": (CAMERA_PIXELS, CAMERA_PIXELS),
            "CCD": {"Pixel Size (um)": (CAMERA_PIXEL_UM, CAMERA_PIXEL_UM)},
            "Name": "OneView",
            "Source": "OneView",
        },
        "Frame": {"Sequence": {"Acquisition Start Time (epoch)": time.timestamp() * 1000}},
        "Parameters": {
            "Environment": {"Mode Name": "Imaging"},
            "High Level": {
                "Binning": (binning, binning),
                "CCD Read Area": (margin, margin, margin + area, margin + area),
                "Exposure (s)": exposure_s,
                "Processing": "Gain Normalized",
            },
            "Parameter Set Name": "Record",
        },
    }
    return _microscope_tags(time, state, stage) | {
        "Acquisition": acquisition,
        "DataBar": _data_bar_tags(time, "OneView", exposure_s, None),
    }


def _stem_state(field_nm: float) -> dict[str, Any]:
    return {
        "Field of View (µm)": field_nm / 1000,
        "Illumination Mode": "STEM NANOPROBE",
        "Imaging Mode": "DIFFRACTION",
        "Indicated Magnification": float(round(STEM_SCREEN_WIDTH_M / (field_nm * 1e-9))),
        "Operation Mode": "SCANNING",
        "STEM Camera Length": 98.0,
    }


def _energy_loss_tags(
    time: datetime,
    state: dict[str, Any],
    *,
    first_ev: float,
    dispersion_ev: float,
    exposure_s: float,
    frames: int,
    lasted: timedelta,
) -> dict[str, Any]:
    return _microscope_tags(time, state) | {
        "DataBar": _data_bar_tags(time, "OneView", exposure_s, None),
        "EELS": {
            "Acquisition": {
                "Date": _us_date(time),
                "Start time": _us_time(time - lasted),
                "End time": _us_time(time),
                "Exposure (s)": exposure_s,
                "Integration time (s)": exposure_s * frames,
                "Number of frames": frames,
            },
            "Experimental Conditions": {
                "Collection semi-angle (mrad)": 33.0,
                "Convergence semi-angle (mrad)": 10.5,
            },
        },
        "EELS Spectrometer": {
            "Aperture label": "5 mm",
            "Dispersion (eV/ch)": dispersion_ev,
            "Drift tube enabled": 1,
            "Drift tube voltage (V)": max(first_ev, 0.0),
            "Energy loss (eV)": max(first_ev, 0.0),
            "Instrument name": "GIF Continuum",
            "Slit inserted": 0,
        },
        "Meta Data": {
            "Acquisition Mode": "Parallel dispersive",
            "Experiment keywords": [{"Label": "EELS"}],
            "Format": "Spectrum",
            "Signal": "EELS",
        },
    }


def _microscope_tags(time: datetime, state: dict[str, Any], stage: tuple[float, float] = (0.0, 0.0)) -> dict[str, Any]:
    """Tags that every file of the microscope has; `stage` is the place on the specimen in nm."""
    hour = time.hour + time.minute / 60
    return {
        "GMS Version": {"Created": "3.52.3932.0", "Saved": "3.52.3932.0"},
        "Microscope Info": {
            "Cs(mm)": 1.2,
            "Emission Current (µA)": 74.0,
            "Formatted Voltage": "200kV",
            "Name": "FEI Tecnai Remote",
            "Probe Current (nA)": 0.0,
            "Stage Position": {
                "Stage Alpha": 0.0,
                "Stage Beta": 0.0,
                "Stage X": round(112.4 + stage[0] / 1000 + 3 * hour, 3),
                "Stage Y": round(-86.1 + stage[1] / 1000 - 2 * hour, 3),
                "Stage Z": -42.7,
            },
            "Voltage": VOLTAGE_V,
        }
        | state,
        "Session Info": {"Microscope": "FEI Talos F200X (demo)", "Operator": "", "Specimen": ""},
    }


def _data_bar_tags(time: datetime, device: str, exposure_s: float, signal: str | None) -> dict[str, Any]:
    tags = {
        "Acquisition Date": _us_date(time),
        "Acquisition Time": _us_time(time),
        "Acquisition Time (OS)": time.timestamp() * 1e7 + UNIX_EPOCH_AS_FILETIME,
        "Device Name": device,
        "Exposure Time (s)": exposure_s,
    }
    return tags | ({"Signal Name": signal} if signal else {})


def _us_date(time: datetime) -> str:
    return f"{time.month}/{time.day}/{time.year}"


def _us_time(time: datetime) -> str:
    return f"{time.hour % 12 or 12}:{time:%M:%S} {'AM' if time.hour < 12 else 'PM'}"
