"""The demo's scanning electron microscope, which saves FEI TIFF files and EMSA spectra."""

from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nexuslims_pipeline.demo import pictures, spectra
from nexuslims_pipeline.demo.emsa import emsa
from nexuslims_pipeline.demo.fei_tiff import Sections, data_bar, fei_tiff
from nexuslims_pipeline.demo.making import Maker
from nexuslims_pipeline.demo.pictures import View

STEEL, CERAMIC = 7, 23
"""Seeds of the specimens."""
DISPLAY_WIDTH_M = 0.128
"""Field width times magnification on the screen."""
BAR_PER_ROW = 59 / 884
MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]


class Conditions(NamedTuple):
    """How a picture is taken."""

    voltage_v: int
    working_distance_m: float
    detector: str
    signal: str
    grid_v: int
    dwell_s: float = 1e-5


SECONDARY = Conditions(15_000, 0.0101, "ETD", "SE", 250)
BACKSCATTERED = Conditions(10_000, 0.0072, "CBS", "BSE", 0)


def secondary_electron_image(field_um: float, x: float, y: float, *, columns: int = 512) -> Maker:
    """Steel under secondary electrons at 15 kV; `x` and `y` in µm."""

    def make(time: datetime, seed: int) -> bytes:
        view = View(field_um, columns, columns * 442 // 512, x, y)
        return _image(time, view, pictures.steel(view, 12.0, STEEL), SECONDARY, seed)

    return make


def backscattered_electron_image(field_um: float, x: float, y: float) -> Maker:
    """Alumina with zirconia under backscattered electrons at 10 kV; `x` and `y` in µm."""

    def make(time: datetime, seed: int) -> bytes:
        view = View(field_um, 512, 442, x, y)
        return _image(time, view, pictures.composite_ceramic(view, 0.9, CERAMIC), BACKSCATTERED, seed)

    return make


def _image(time: datetime, view: View, brightness: NDArray[Any], conditions: Conditions, seed: int) -> bytes:
    picture = pictures.detected(brightness, seed)
    magnification = DISPLAY_WIDTH_M / (view.width * 1e-6)
    captions = [
        ("HV", f"{conditions.voltage_v / 1000:.2f} kV"),
        ("mag", f"{magnification:,.0f} x".replace(",", " ")),
        ("det", conditions.detector),
        ("WD", f"{conditions.working_distance_m * 1000:.1f} mm"),
        ("HFW", f"{view.width:g} um"),
    ]
    bar = data_bar(view.columns, round(view.rows * BAR_PER_ROW), captions, view.width)
    return fei_tiff(np.vstack([picture, bar]), _sections(time, view, conditions, bar.shape[0]))


def _sections(time: datetime, view: View, conditions: Conditions, bar_rows: int) -> Sections:
    voltage_v, working_distance_m, detector, signal, grid_v, dwell_s = conditions
    pixel_m = view.pixel * 1e-6
    line_s = dwell_s * view.columns * 1.15
    pixels = {
        "PixelWidth": f"{pixel_m:.6g}",
        "PixelHeight": f"{pixel_m:.6g}",
        "HorFieldsize": f"{pixel_m * view.columns:.6g}",
        "VerFieldsize": f"{pixel_m * view.rows:.6g}",
    }
    frame_time = {"FrameTime": f"{line_s * view.rows:.6g}"}
    stage = {
        "StageX": f"{0.009654 + view.x * 1e-6:.6g}",
        "StageY": f"{-0.004101 + view.y * 1e-6:.6g}",
        "StageZ": f"{working_distance_m:.6g}",
        "StageR": "0.785398",
    }
    return {
        "User": {
            "Date": f"{time:%m/%d/%Y}",
            "Time": f"{time.hour % 12 or 12:02}:{time:%M:%S} {'AM' if time.hour < 12 else 'PM'}",
            "User": "supervisor",
            "UserText": "",
            "UserTextUnicode": "",
        },
        "System": SYSTEM,
        "Beam": {"HV": voltage_v, "Spot": "3.5", "ScanRotation": 0, "Beam": "EBeam", "Scan": "EScan"},
        "EBeam": {
            "HV": voltage_v,
            "HFW": pixels["HorFieldsize"],
            "VFW": pixels["VerFieldsize"],
            "WD": f"{working_distance_m:.6g}",
            **stage,
            **BEAM,
        },
        "GIS": {"Number": 0},
        "Scan": {
            "InternalScan": "true",
            "Dwelltime": f"{dwell_s:g}",
            **pixels,
            "Average": 0,
            "Integrate": 1,
            **frame_time,
        },
        "EScan": {
            "Scan": "PIA 2.0",
            "InternalScan": "true",
            "Dwell": f"{dwell_s:g}",
            **pixels,
            **frame_time,
            "LineTime": f"{line_s:.6g}",
            "Mainslock": "On",
            "LineIntegration": 1,
            "ScanInterlacing": 1,
        },
        "Stage": {
            **stage,
            "StageT": 0,
            "StageTb": 0,
            "SpecTilt": 0,
            "WorkingDistance": f"{working_distance_m:.6g}",
        },
        "Image": {
            "DigitalContrast": 1,
            "DigitalBrightness": 0,
            "DigitalGamma": 1,
            "Average": 0,
            "Integrate": 1,
            "ResolutionX": view.columns,
            "ResolutionY": view.rows,
            "DriftCorrected": "Off",
            "ZoomFactor": "1.0",
            "MagCanvasRealWidth": f"{DISPLAY_WIDTH_M:.5f}",
            "MagnificationMode": 3,
            "PostProcessing": "None",
        },
        "Vacuum": {"ChPressure": "0.000584097", "Gas": "", "UserMode": "High vacuum", "Humidity": ""},
        "Specimen": {"Temperature": ""},
        "Detectors": {"Number": 1, "Name": detector, "Mode": signal},
        detector: {
            "Contrast": "47.9156",
            "Brightness": "37.027",
            "Mix": 100,
            "Signal": signal,
            "Grid": grid_v,
            "ContrastDB": "10.226",
            "BrightnessDB": "-3.11366",
            "MinimumDwellTime": "1e-007",
        },
        "Accessories": {"Number": 0},
        "PrivateFei": {
            "BitShift": 0,
            "DataBarSelected": "HV mag det WD HFW MicronBar",
            "TimeOfCreation": f"{time:%d.%m.%Y %H:%M:%S}",
            "DatabarHeight": bar_rows,
        },
    }


SYSTEM = {
    "Type": "SEM",
    "Dnumber": "D0000",
    "Software": "6.3.4.3233",
    "BuildNr": 3233,
    "Source": "FEG",
    "Column": "FEG",
    "FinalLens": "S45",
    "Chamber": "XL30SB",
    "Stage": "50 x 50",
    "Pump": "TMP",
    "ESEM": "yes",
    "Aperture": "manual",
    "Scan": "PIA 2.0",
    "Acq": "PIA 2.0",
    "EucWD": 0.01,
    "SystemType": "Quanta FEG",
    "DisplayWidth": "0.320",
    "DisplayHeight": "0.240",
}
BEAM = {
    "Source": "FEG",
    "ColumnType": "FEG",
    "BeamCurrent": "",
    "TiltCorrectionIsOn": "no",
    "DynamicFocusIsOn": "no",
    "ScanRotation": 0,
    "ImageMode": "Normal",
    "StageTa": 0,
    "StageTb": 0,
    "StigmatorX": "0.00165327",
    "StigmatorY": "-0.000537185",
    "BeamShiftX": 0,
    "BeamShiftY": 0,
    "EucWD": 0.01,
    "EmissionCurrent": "0.000156",
    "TiltCorrectionAngle": 0,
    "PreTilt": 0,
    "BeamMode": "N-Beam",
}


def xray_spectrum(title: str, beam_kv: float, live_s: float, amounts: dict[str, float]) -> Maker:
    """EDS spectrum of 2048 channels of 10 eV; elements with heights as `spectra.xray_spectrum` takes them."""

    def make(time: datetime, seed: int) -> bytes:
        channel_ev, first_ev, dead = 10.0, -200.0, 0.23
        energy = first_ev + channel_ev * np.arange(2048)
        expected = spectra.xray_spectrum(energy, beam_kv * 1000, amounts, 3.2 * live_s)
        header = {
            "TITLE": title,
            "DATE": f"{time.day:02}-{MONTHS[time.month - 1]}-{time.year}",
            "TIME": f"{time:%H:%M}",
            "OWNER": "Demo facility",
            "XUNITS": "eV",
            "YUNITS": "counts",
            "XPERCHAN": channel_ev,
            "OFFSET": first_ev,
            "CHOFFSET": -first_ev / channel_ev,
            "SIGNALTYPE": "EDS",
            "XLABEL": "X-RAY Energy",
            "YLABEL": "X-RAY Intensity",
            "BEAMKV-kV": beam_kv,
            "LIVETIME-s": live_s,
            "REALTIME-s": round(live_s / (1 - dead), 2),
            "ELEVANGLE-dg": 35.0,
            "AZIMANGLE-dg": 45.0,
            "EDSDET": "SDDUTW",
        }
        return emsa(header, np.random.default_rng(seed).poisson(expected))

    return make
