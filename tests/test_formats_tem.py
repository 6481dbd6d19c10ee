"""DigitalMicrograph, TIA and HyperSpy's readers: real files, golden values and hostile variants."""

import csv
import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nexuslims_pipeline.demo.digital_micrograph import Calibration, digital_micrograph
from nexuslims_pipeline.extraction.facts import Facts, bounded, on_its_clock, spatial_axes
from nexuslims_pipeline.extraction.formats import digital_micrograph as dm
from nexuslims_pipeline.extraction.formats import hyperspy_file, tia
from nexuslims_pipeline.extraction.layouts import tecnai
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.signals import Annotation, Axis, Signal, Source

CORPUS = Path(os.environ.get("NX_TEST_CORPUS", Path(__file__).parents[2] / "shared" / "corpus"))
MODIFIED = datetime(2026, 1, 1, tzinfo=UTC)
OTHER_TYPE = {
    "dm3/08_carbon.dm3": "Spectrum",
    "dm3/multi_signal.dm3": "Image",
}
"""Where the manifest is wrong: an EELS spectrum of one row (tagged so, axis in eV); a HAADF image with its profile."""
OF_THE_SURVEY = "tia/16x16-"
"""The manifest has the time of the survey image in these ``.emi`` files; the spectra came up to 30 s later."""


def corpus_rows(*formats: str) -> list[dict[str, str]]:
    manifest = CORPUS / "manifest.csv"
    if not manifest.is_file():
        return []
    with manifest.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["format"] in formats]


SAME_NUMBERS = [row for row in corpus_rows("dm3", "dm4", "tia") if row["path"] != "dm3/Titan_FFT.dm3"]
"""RosettaSciIO completes the stored half of a transform without turning it round; see the test after."""


def corpus_file(name: str) -> Path:
    path = CORPUS / name
    if not path.is_file():
        pytest.skip("the corpus is not here")
    return path


def source(path: Path, *companions: Path, modified: datetime = MODIFIED) -> Source:
    return Source(path, modified, path.lstat().st_size, companions)


def with_companion(path: Path) -> Source:
    emi = path.with_name(re.sub(r"_\d+$", "", path.stem) + ".emi")
    return source(path, emi) if path.suffix == ".ser" and emi.exists() else source(path)


def read(path: Path) -> list[Signal]:
    extractor: Extractor = dm.EXTRACTOR if path.suffix in (".dm3", ".dm4") else tia.EXTRACTOR
    return extractor.extract(with_companion(path))


def sizes(text: str) -> list[int]:
    return sorted(int(size) for size in text.split("x"))


def local(text: str) -> datetime:
    """Time of the manifest, which has the short dates of Nion Swift as they are."""
    month, _, rest = text.partition("/")
    return datetime(2000 + int(rest[-2:]), int(month), int(rest[:2])) if rest else datetime.fromisoformat(text)


def value(signal: Signal, name: str) -> str:
    found = signal.fields.get(name, signal.extensions.get(name))
    return f"{found:~g}".replace("μ", "µ") if hasattr(found, "magnitude") else str(found)


@pytest.mark.corpus
@pytest.mark.parametrize("row", corpus_rows("dm3", "dm4", "tia"), ids=lambda row: row["path"])
def test_every_file_of_the_corpus(row: dict[str, str]) -> None:
    signals = read(CORPUS / row["path"])
    assert len(signals) == int(row["n_signals"])
    assert [sorted(signal.shape) for signal in signals] == [sizes(text) for text in row["shapes"].split(";")]
    assert signals[0].dataset_type == OTHER_TYPE.get(row["path"], row["expected_dataset_type"])
    if row["acquired_at"]:
        assert signals[0].acquired is not None
        lag = signals[0].acquired.replace(tzinfo=None) - local(row["acquired_at"])
        whole_day = "/" in row["acquired_at"]
        survey = row["path"].startswith(OF_THE_SURVEY) or "line_scan" in row["path"]
        assert timedelta(0) <= lag <= timedelta(days=whole_day, seconds=30 * survey)
    for signal in signals:
        assert signal.pixels is not None
        assert signal.pixels.array.shape == signal.shape == tuple(axis.size for axis in signal.pixels.axes)
        assert not any(axis.navigation for axis in signal.pixels.axes[-signal.pixels.signal_dimension :])
        json.dumps(signal.native, allow_nan=True)


@pytest.mark.corpus
@pytest.mark.parametrize("row", SAME_NUMBERS, ids=lambda row: row["path"])
def test_the_numbers_are_those_that_hyperspy_reads(row: dict[str, str]) -> None:
    from rsciio import digitalmicrograph as their_dm
    from rsciio import tia as their_tia

    path = CORPUS / row["path"]
    theirs = (their_dm if path.suffix.startswith(".dm") else their_tia).file_reader(str(path))
    for ours, their in zip(read(path), theirs, strict=True):
        assert ours.pixels is not None
        array = np.asarray(ours.pixels.array[...])
        expected = np.asarray(their["data"])
        if array.shape != expected.shape:
            expected = np.moveaxis(expected, 0, -1)
        np.testing.assert_array_equal(array, expected)


@pytest.mark.corpus
def test_a_transform_is_completed_to_that_of_a_real_image() -> None:
    (signal,) = read(corpus_file("dm3/Titan_FFT.dm3"))
    assert signal.pixels is not None
    image = np.fft.ifft2(np.fft.ifftshift(np.asarray(signal.pixels.array)))
    assert np.abs(image.imag).max() < 1e-6 * np.abs(image.real).max()


GOLDEN = {
    "dm3/Titan_EELS_proc_thickness_dataZeroed.dm3": {
        "acceleration_voltage": "300000 V",
        "magnification": "57000.0",
        "acquisition_device": "US1000FT 1",
        "stage_x": "-37.5375 µm",
        "stage_z": "-142.219 µm",
        "stage_alpha": "1.82317 deg",
        "camera_length": "60 mm",
        "collection_angle": "13.889 mrad",
        "convergence_angle": "13 mrad",
        "exposure_time": "0.05 s",
        "channel_size": "0.1 eV",
        "Cs": "1 mm",
        "binning": "1 × 128",
        "frames": "5",
        "entrance_aperture": "2.5 mm",
        "energy_loss": "0 eV",
        "slit_width": "None",
        "projection_mode": "DIFFRACTION",
        "software": "Gatan Microscopy Suite 2.32.888.0",
    },
    "dm4/Titan_EDS_SI_dataZeroed.dm4": {
        "acceleration_voltage": "300000 V",
        "magnification": "910000.0",
        "horizontal_field_width": "None",
        "Field of View": "0.144402 µm",
        "detector_type": "GIF CCD",
        "azimuthal_angle": "45 deg",
        "elevation_angle": "40 deg",
        "pixel_time": "1 s",
        "scan_mode": "LineScan",
        "stage_alpha": "15.209 deg",
        "stage_z": "0.92268 µm",
    },
    "dm4/test-MonarcCL_mono-image.dm4": {
        "acceleration_voltage": "3000 V",
        "magnification": "2500.0",
        "dwell_time": "10 µs",
        "stage_rotation": "341 deg",
        "working_distance": "11767 µm",
        "pixel_width": "18325.3 nm",
    },
    "dm3/Fei HAADF-DE_location.dm3": {
        "acceleration_voltage": "200000 V",
        "magnification": "1300000.0",
        "horizontal_field_width": "0.0880972 µm",
        "microscope": "FEI Titan",
        "Microscope Interface": "FEI Tecnai Remote",
        "detector_type": "HAADF",
        "flyback_time": "400 µs",
        "dwell_time": "1.4 µs",
        "frames": "None",
    },
    "dm3/multi_signal.dm3": {"frames": "4", "detector_type": "HAADF", "dwell_time": "32.4 µs"},
    "dm3/08_carbon.dm3": {
        "microscope": "TitanCubed 300 kV D3128 UltraTwin",
        "Microscope Name": "NCEM TEAM 0.5",
        "extraction_voltage": "4000 V",
        "emission_current": "222 µA",
        "spot_size": "4",
        "defocus": "0.183 µm",
        "condenser_aperture": "150 µm",
        "Objective Aperture": "retracted",
        "entrance_aperture": "2.5 mm",
        "energy_loss": "260 eV",
        "slit_width": "None",
        "stage_x": "None",
        "C2 Lens": "31.814 %",
        "Tecnai Mode": "TEM uP SA Zoom Image",
    },
    "dm3/test_STEM_image.dm3": {
        "pixel_width": "0.248538 nm",
        "pixel_height": "0.248538 nm",
        "horizontal_field_width": "0.0169006 µm",
        "vertical_field_width": "0.0169006 µm",
        "Field of View": "0.509006 µm",
    },
    "dm3/Titan_EELS_proc_1_dataZeroed.dm3": {
        "horizontal_field_width": "5.69888 µm",
        "Field of View": "None",
    },
    "dm4/EELS_SI.dm4": {
        "pixel_width": "1.99207 nm",
        "pixel_height": "1.99207 nm",
        "horizontal_field_width": "0.00398415 µm",
        "vertical_field_width": "0.00398415 µm",
        "Field of View": "0.557917 µm",
    },
    "dm4/test-MonarcCL_spectrum-SI.dm4": {
        "pixel_width": "15.0586 nm",
        "pixel_height": "15.0586 nm",
        "horizontal_field_width": "0.0451758 µm",
        "vertical_field_width": "0.0451758 µm",
    },
    "tia/Titan_TEM_5_eds_spectrum_dataZeroed_1.ser": {
        "acceleration_voltage": "300 kV",
        "magnification": "185000",
        "emission_current": "145 µA",
        "stage_x": "-259.807 µm",
        "stage_z": "7.06 µm",
        "acquisition_time": "25 s",
        "shaping_time": "51.2 µs",
        "Nominal Channel Size": "10 eV",
        "condenser_aperture": "150 µm",
        "Objective Aperture": "retracted",
        "defocus": "-0.283 µm",
        "extraction_voltage": "4400 V",
        "spot_size": "2",
        "microscope": "Titan 300 kV ABCD1 SuperTwin",
        "illumination_mode": "TEM uP",
        "projection_mode": "SA Zoom Image",
        "energy_loss": "None",
        "Manufacturer": "EDAX",
    },
    "tia/64x64_diffraction_acquire_1.ser": {
        "acceleration_voltage": "200 kV",
        "camera_length": "0.49 m",
        "exposure_time": "0.0625 s",
        "acquisition_device": "WA-Orius",
        "binning": "4 × 4",
        "magnification": "None",
        "defocus": "None",
        "Diffraction Focus": "-3.218",
    },
    "tia/Titan_STEM_1_stem_image_dataZeroed_1.ser": {
        "acceleration_voltage": "300 kV",
        "dwell_time": "3.2e-05 s",
        "frame_time": "40.0137 s",
        "pixel_width": "0.631784 nm",
    },
}


@pytest.mark.corpus
@pytest.mark.parametrize("name", GOLDEN)
def test_golden_values(name: str) -> None:
    signal = read(corpus_file(name))[0]
    assert {key: value(signal, key) for key in GOLDEN[name]} == GOLDEN[name]


@pytest.mark.corpus
@pytest.mark.parametrize(
    ("name", "data_types"),
    [
        ("dm3/Titan_EELS_proc_1_dataZeroed.dm3", ["STEM_EELS"] * 4),
        ("dm3/multi_signal.dm3", ["STEM_HAADF", "STEM_Imaging"]),
        ("dm3/Titan_FFT.dm3", ["STEM_Imaging"]),
        ("dm3/test-EDS_spectrum.dm3", ["STEM_EDS"]),
        ("dm3/test_diffraction_pattern_tags_removed.dm3", ["TEM_Diffraction"]),
        ("dm3/test-12.dm3", ["Unknown"]),
        ("dm4/test-MonarcCL_spectrum-SI.dm4", ["SEM_CL"]),
        ("tia/16x16_STEM_BF_DF_acquire_2.ser", ["STEM_Imaging"]),
        ("tia/16x16-spectrum_image-5x5x1024_1.ser", ["STEM_EELS"]),
        ("tia/Titan_TEM_4_eds_line_scan_2_dataZeroed_1.ser", ["STEM_EDS"]),
        ("tia/X - Au NP EELS_2.ser", ["EELS"]),
    ],
)
def test_techniques(name: str, data_types: list[str]) -> None:
    assert [signal.data_type for signal in read(corpus_file(name))] == data_types


@pytest.mark.corpus
def test_later_images_of_a_file_inherit_the_instrument() -> None:
    first, *others = read(corpus_file("dm3/Titan_EELS_proc_1_dataZeroed.dm3"))
    for other in others:
        assert other.dataset_type == "Spectrum"
        assert other.fields["acceleration_voltage"] == first.fields["acceleration_voltage"]
        assert other.extensions["Instrument Values From"] == "another image of this file"


@pytest.mark.corpus
def test_the_instant_in_the_file_gives_the_zone_of_its_clock() -> None:
    zones = {
        name: read(corpus_file(name))[0].acquired
        for name in (
            "dm3/Fei HAADF-MX_location.dm3",
            "dm3/test_diffraction_pattern_tags_removed.dm3",
            "tia/64x64_TEM_images_acquire_1.ser",
        )
    }
    assert [str(moment) for moment in zones.values()] == [
        "2016-08-27 20:55:59+01:00",
        "2014-07-09 18:56:37+02:00",
        "2016-02-21 17:50:18+01:00",
    ]


def made(tmp_path: Path, tags: dict[str, Any], data: Any = None, *axes: Calibration) -> Path:
    data = np.arange(12, dtype="uint16").reshape(3, 4) if data is None else data
    path = tmp_path / "made.dm4"
    axes = axes or (Calibration(1.0, "nm"),) * data.ndim
    path.write_bytes(digital_micrograph(data, axes, "made", tags, version=4))
    return path


@pytest.mark.parametrize(
    ("day", "clock", "more", "expected"),
    [
        ("05/06/2024", "17:04:19", {}, "2024-06-05 17:04:19"),
        ("5/6/2024", "5:04:19 PM", {}, "2024-05-06 17:04:19"),
        ("05/06/2024", "05:04:19 p. m.", {}, "2024-06-05 17:04:19"),
        ("25/06/2024", "5:04 PM", {}, "2024-06-25 17:04:00"),
        ("5.6.2024", "17:04:19", {}, "2024-06-05 17:04:19"),
        ("2024/06/05", "午後 5:04:19", {}, "2024-06-05 17:04:19"),
        ("01/02/24", "18:53:22", {}, "2024-01-02 18:53:22"),
        ("5/6/2024", "17:04:19", {"Note": "begun 5/28/2024"}, "2024-05-06 17:04:19"),
        ("5/6/2024", "5:04:19 PM", {"Note": "begun 28/05/2024"}, "2024-06-05 17:04:19"),
        ("31/31/2024", "17:04:19", {}, "None"),
        ("5/6/2024", "29:04:19", {}, "None"),
    ],
)
def test_dates_of_many_countries(tmp_path: Path, day: str, clock: str, more: Any, expected: str) -> None:
    tags = {"DataBar": {"Acquisition Date": day, "Acquisition Time": clock, **more}}
    assert str(dm.EXTRACTOR.extract(source(made(tmp_path, tags)))[0].acquired) == expected


def test_the_day_of_writing_tells_day_from_month(tmp_path: Path) -> None:
    path = made(tmp_path, {"DataBar": {"Acquisition Date": "5/6/2024", "Acquisition Time": "5:04:19 PM"}})
    (signal,) = dm.EXTRACTOR.extract(source(path, modified=datetime(2024, 6, 5, 22, tzinfo=UTC)))
    assert str(signal.acquired) == "2024-06-05 17:04:19"
    assert not signal.warnings


@given(
    wall=st.datetimes(datetime(2000, 1, 1), datetime(2040, 1, 1)),
    quarters=st.integers(-56, 56),
    lag=st.integers(-30, 30),
)
def test_a_clock_and_an_instant_give_the_offset(wall: datetime, quarters: int, lag: int) -> None:
    offset = timedelta(minutes=15 * quarters)
    instant = (wall - offset + timedelta(seconds=lag)).replace(tzinfo=UTC)
    found = on_its_clock(wall, instant)
    assert found is not None
    assert found.replace(tzinfo=None) == wall
    assert found.utcoffset() == offset


def test_types_of_made_files(tmp_path: Path) -> None:
    stem = {"Microscope Info": {"Illumination Mode": "STEM NANOPROBE", "Imaging Mode": "DIFFRACTION"}}
    tem = {
        "Microscope Info": {"Illumination Mode": "TEM", "Imaging Mode": "DIFFRACTION", "Indicated Magnification": 300.0}
    }
    nm, ev, inverse = Calibration(1.0, "nm"), Calibration(0.5, "eV"), Calibration(0.1, "1/nm")
    image, cube = np.zeros((3, 4), "uint16"), np.zeros((5, 3, 4), "float32")

    def read_made(tags: dict[str, Any], data: Any, *axes: Calibration) -> Signal:
        return dm.EXTRACTOR.extract(source(made(tmp_path, tags, data, *axes)))[0]

    pattern = read_made(tem, image, nm, nm)
    assert (pattern.dataset_type, pattern.data_type) == ("Diffraction", "TEM_Diffraction")
    assert value(pattern, "camera_length") == "300 mm"
    assert read_made(stem, image, nm, nm).dataset_type == "Image"
    assert read_made(stem, image, inverse, inverse).data_type == "STEM_Diffraction"
    assert read_made({}, cube, nm, nm, ev).shape == (3, 4, 5)
    eels_map = read_made({**stem, "Meta Data": {"Format": "Image", "Signal": "EELS"}}, image, nm, nm)
    assert (eels_map.dataset_type, eels_map.data_type) == ("Image", "STEM_EELS")
    stack = read_made(stem, cube, nm, nm, Calibration(1.0, "s"))
    assert (stack.dataset_type, stack.shape) == ("Image", (5, 3, 4))


def test_field_of_view_is_the_field_width_only_of_uncalibrated_images(tmp_path: Path) -> None:
    tags = {"Microscope Info": {"Field of View (µm)": 1.5}}
    image = np.zeros((3, 4), "uint16")

    def lengths(*axes: Calibration) -> list[str]:
        (signal,) = dm.EXTRACTOR.extract(source(made(tmp_path, tags, image, *axes)))
        return [value(signal, name) for name in ("horizontal_field_width", "vertical_field_width", "Field of View")]

    assert lengths(Calibration(2.0, "nm"), Calibration(5.0, "nm")) == ["0.008 µm", "0.015 µm", "1.5 µm"]
    assert lengths(Calibration(1.0, ""), Calibration(1.0, "")) == ["1.5 µm", "None", "None"]


NM_ROWS, NM_COLUMNS = Axis(3, 2.0, units="nm", name="y"), Axis(4, 5.0, units="nm", name="x")
SCAN = (replace(NM_ROWS, navigation=True), replace(NM_COLUMNS, navigation=True))


@pytest.mark.parametrize(
    ("axes", "spatial"),
    [
        ((NM_ROWS, NM_COLUMNS), (NM_ROWS, NM_COLUMNS)),
        ((SCAN[0], NM_ROWS, NM_COLUMNS), (NM_ROWS, NM_COLUMNS)),
        ((SCAN[0], NM_ROWS, Axis(4, units="eV")), (NM_ROWS,)),
        ((*SCAN, Axis(9, units="nm", name="z")), SCAN),
        ((*SCAN, Axis(9, units="1/nm"), Axis(9, units="1/nm")), SCAN),
        ((*SCAN, Axis(9, units="ns"), Axis(9, units="nm", name="Wavelength")), SCAN),
        ((SCAN[0], Axis(9, units="nm")), SCAN[:1]),
        ((Axis(9, units="nm"),), ()),
    ],
)
def test_lengths_on_the_specimen(axes: tuple[Axis, ...], spatial: tuple[Axis, ...]) -> None:
    assert spatial_axes(axes) == spatial
    facts = Facts()
    facts.add_axes(axes)
    assert ("pixel_width" in facts.fields) == (len(spatial) == 2)


def test_a_scan_of_patterns_is_turned_to_have_the_patterns_last() -> None:
    units = {"0": ("nm", 4), "1": ("nm", 3), "2": ("1/nm", 5), "3": ("1/nm", 6)}
    dimensions = {n: {"Origin": 0.0, "Scale": 1.0, "Units": unit} for n, (unit, _) in units.items()}
    sizes_by_place = {n: size for n, (_, size) in units.items()}
    image = dm.TaggedImage({"ImageData": {"Dimensions": sizes_by_place, "Calibrations": {"Dimension": dimensions}}}, {})
    assert (image.dataset_type, image.shape, image.order) == ("Diffraction", (3, 4, 6, 5), (2, 3, 0, 1))


def test_values_that_are_no_numbers_cost_only_themselves(tmp_path: Path) -> None:
    info = {"Voltage": float("nan"), "Illumination Mode": "TEM", "Stage Position": {"Stage X": float("inf")}}
    (signal,) = dm.EXTRACTOR.extract(source(made(tmp_path, {"Microscope Info": info})))
    assert {"acceleration_voltage", "stage_x"} <= set(signal.warnings)
    assert not {"acceleration_voltage", "stage_x"} & set(signal.fields)


@settings(max_examples=300, deadline=None)
@example(cut=1.0, flips=[(0.6873263477405099, 1)])
@given(
    cut=st.floats(0, 1), flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=3)
)
def test_damaged_digital_micrograph_files_are_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, cut: float, flips: list[tuple[float, int]]
) -> None:
    path = tmp_path_factory.mktemp("damaged", numbered=True) / "damaged.dm3"
    damaged(WHOLE_DM3, path, cut, flips)
    refused_or_read(dm.EXTRACTOR, path)


def damaged(whole: bytes, path: Path, cut: float, flips: list[tuple[float, int]]) -> None:
    content = bytearray(whole[: len(whole) if cut > 0.5 else int(len(whole) * cut * 2)])
    for place, byte in flips:
        if content:
            content[int(place * len(content))] = byte
    path.write_bytes(content)


def refused_or_read(extractor: Extractor, path: Path, *companions: Path) -> None:
    try:
        signals = extractor.extract(source(path, *companions))
    except ExtractionError as fault:
        assert str(fault)
    else:
        assert all(signal.pixels is None or signal.pixels.array[..., :1].size for signal in signals)


WHOLE_DM3 = digital_micrograph(
    np.arange(6, dtype="uint16").reshape(2, 3),
    (Calibration(1.0, "nm"),) * 2,
    "whole",
    {
        "DataBar": {"Acquisition Date": "5/6/2024", "Acquisition Time": "5:04 PM"},
        "Microscope Info": {"Voltage": 2e5, "Illumination Mode": "STEM"},
    },
    version=3,
)


def marks(*annotations: dict[str, Any]) -> tuple[Annotation, ...]:
    display = {"AnnotationType": 20, "ImageSource": 1, "AnnotationGroupList": dict(enumerate(annotations))}
    root = {
        "DocumentObjectList": {"0": {"AnnotationType": 20, "ImageSource": 0}, "1": display},
        "ImageSourceList": {"0": {"ImageRef": 0}, "1": {"ImageRef": 2}},
    }
    found = dm._annotations(root)
    assert set(found) <= {0, 2}
    return found[2]


def mark(kind: int, rectangle: Any = (1.0, 2.0, 3.0, 4.0), **more: Any) -> dict[str, Any]:
    return {"AnnotationType": kind, "Rectangle": rectangle, "IsVisible": True, **more}


def test_marks_of_the_operator() -> None:
    ends = ((1.0, 2.0), (3.0, 4.0))
    assert marks(mark(2), mark(3), mark(5, Label="a"), mark(6), mark(13, Text="grain"), mark(23, Label="ROI")) == (
        Annotation("line", ends),
        Annotation("arrow", ends),
        Annotation("rectangle", ends, "a"),
        Annotation("ellipse", ends),
        Annotation("text", ends[:1], "grain"),
        Annotation("rectangle", ends, "ROI"),
    )
    assert marks(mark(4), mark(27, Label="Beam")) == (
        Annotation("arrow", ends),
        Annotation("arrow", ends[::-1]),
        Annotation("point", ends[:1], "Beam"),
    )


def test_marks_that_are_none_are_left_out() -> None:
    odd = (
        mark(31),
        mark(20),
        mark(5) | {"IsVisible": False},
        mark(5, (0.0, 0.0, 0.0, 0.0)),
        mark(5, (0.0, float("nan"), 1.0, 1.0)),
        mark(5, "text"),
        mark(5, (1.0, 2.0)),
        mark(13, Text=" "),
        mark(99),
        {},
    )
    assert marks(*odd) == ()
    assert len(marks(*[mark(2)] * 5000)) == dm.MOST_MARKS


@pytest.mark.corpus
def test_the_place_of_the_beam_is_marked_and_the_scale_bar_is_not() -> None:
    (signal,) = read(corpus_file("dm3/Fei HAADF-UK_location.dm3"))
    assert signal.annotations == (Annotation("point", ((2.0, 8.0),), "Beam"),)


TECNAI = "\u2028".join([
    "Microscope Tecnai 200 kV D1 TWIN", "User JOE", "Gun LaB6 HT 200 Extr volt 4100 V Gun Lens 3 Emission 4.5uA",
    "Mode TEM nP SA Zoom Diffraction Camera length 0.49 m", "Spot 3", "C2 49.1%", "Image shift -0.250/1.500um",
    "Stage 1.000 um, -2.000 um, 3.000 um, 4.50 deg, -5.00 deg", "C2 Aperture: 70 um", "SA Aperture: 40 um",
    "Filter related settings:", "Mode: EFTEM", "Slit state: Inserted", "Slit width: 20.00[eV]",
    "Selected aperture: 3mm", "Total energy loss: 0.00[eV]",
])  # fmt: skip


def test_the_state_of_an_fei_column_in_lines_of_text(tmp_path: Path) -> None:
    tags = {"Microscope Info": {"Illumination Mode": "TEM", "Voltage": 2e5}, "Tecnai": {"Microscope Info": TECNAI}}
    (signal,) = dm.EXTRACTOR.extract(source(made(tmp_path, tags)))
    expected = {
        "microscope": "Tecnai 200 kV D1 TWIN",
        "operator": "JOE",
        "acceleration_voltage": "200000 V",
        "emission_current": "4.5 µA",
        "camera_length": "0.49 m",
        "spot_size": "3",
        "C2 Lens": "49.1 %",
        "Image Shift X": "-0.25 µm",
        "Image Shift Y": "1.5 µm",
        "stage_y": "-2 µm",
        "stage_z": "3 µm",
        "stage_beta": "-5 deg",
        "condenser_aperture": "70 µm",
        "selected_area_aperture": "40 µm",
        "slit_width": "20 eV",
        "entrance_aperture": "3 mm",
        "energy_loss": "0 eV",
    }
    assert (signal.dataset_type, signal.data_type) == ("Diffraction", "TEM_Diffraction")
    assert {name: value(signal, name) for name in expected} == expected


@pytest.mark.parametrize(
    "text", ["", "Microscope", "\u2028" * 500, "Stage " + "9" * 5000 + " um\u2028Spot x", "Gun " * 9999]
)
def test_odd_states_of_a_column_do_no_harm(text: str) -> None:
    facts = Facts()
    tecnai.add_column(facts, tecnai.labels_of(text), is_filtered=True)
    assert not facts.fields


def test_power_spectra_are_images(tmp_path: Path) -> None:
    inverse = Calibration(0.1, "1/nm")
    image = np.zeros((3, 4), "float32")
    steps = {"Processing": {"0": {"Operation": "PowerSpectrum"}}, "Microscope Info": {"Illumination Mode": "TEM"}}
    (spectrum,) = dm.EXTRACTOR.extract(source(made(tmp_path, steps, image, inverse, inverse)))
    (pattern,) = dm.EXTRACTOR.extract(source(made(tmp_path, {}, image, inverse, inverse)))
    assert (spectrum.dataset_type, pattern.dataset_type) == ("Image", "Diffraction")


@pytest.mark.parametrize(
    ("name", "head", "accepted"),
    [
        ("a.dat", WHOLE_DM3[:4096], True),
        ("a.dm3", WHOLE_DM3[:7], True),
        ("a.dm4", b"\0\0\0\5" + bytes(100), True),
        ("a.dm3", b"II*\0" + bytes(100), False),
        ("a.dat", bytes(100), False),
        ("a.ser", tia.MAGIC + bytes(10), True),
        ("a.dat", tia.MAGIC + bytes(10), True),
        ("a.ser", b"PK" + bytes(10), False),
    ],
)
def test_content_tells_the_format(name: str, head: bytes, accepted: bool) -> None:
    extractors = [dm.EXTRACTOR, tia.EXTRACTOR]
    assert any(each.accepts(Source(Path("/") / name, MODIFIED, 1), head) for each in extractors) == accepted


def series(
    elements: int, shape: tuple[int, ...], *, number_type: int = 2, step: float = 1e-9, planned: int = 0, dims: Any = ()
) -> bytes:
    """The part of a ``.ser`` file before its numbers' end, with every element's place; the numbers are left out."""
    planned = planned or elements
    width = {2: 2, 6: 4, 7: 4}[number_type]
    head = struct.pack(
        "<HHHIIII", 0x4949, 0x197, 0x220, 0x4122 if len(shape) == 2 else 0x4120, 0x4152, planned, elements
    )
    dimensions = b"".join(
        struct.pack("<IddII", size, 0.0, 1e-9, 0, 8) + b"Position" + struct.pack("<I", 6) + b"meters" for size in dims
    )
    table = 22 + 12 + len(dimensions)
    head += struct.pack("<QI", table, len(dims)) + dimensions
    calibration = struct.pack("<ddI", 0.0, step, 0)
    element = calibration * len(shape) + struct.pack("<H", number_type) + struct.pack(f"<{len(shape)}I", *shape[::-1])
    size = len(element) + int(np.prod(shape)) * width + 8
    first = table + 16 * planned
    places = [first + n * size for n in range(elements)] + [0] * (planned - elements)
    ends = [place + size - 8 if place else 0 for place in places]
    return head + struct.pack(f"<{2 * planned}Q", *places, *ends) + element


def write_series(path: Path, head: bytes, total: int) -> Path:
    """A sparse file of `total` bytes that begins with `head`."""
    with path.open("wb") as file:
        file.write(head)
        file.truncate(total)
    return path


def test_a_series_of_300_megabytes_stays_in_its_file(tmp_path: Path) -> None:
    element = 50 + 2 * 2048 * 2048 + 8
    path = write_series(tmp_path / "large_1.ser", series(38, (2048, 2048)), 4096 + 38 * element)
    script = (
        "import sys, resource, datetime; from pathlib import Path\n"
        "from nexuslims_pipeline.signals import Source\n"
        "from nexuslims_pipeline.extraction.formats.tia import EXTRACTOR\n"
        "import numpy, pint, lxml.etree\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "source = Source(Path(sys.argv[1]), datetime.datetime.now(datetime.UTC), 1)\n"
        "(signal,) = EXTRACTOR.extract(source)\n"
        "assert signal.shape == (38, 2048, 2048), signal.shape\n"
        "signal.pixels.array[20].sum()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
    )
    assert path.stat().st_size > 300e6
    assert int(run.stdout) * 1024 < 100e6


def test_a_map_that_was_stopped_has_its_finished_rows(tmp_path: Path) -> None:
    head = series(7, (16,), number_type=6, step=10.0, planned=12, dims=(3, 4))
    (signal,) = tia.EXTRACTOR.extract(source(write_series(tmp_path / "map_1.ser", head, 4000)))
    assert (signal.dataset_type, signal.shape) == ("SpectrumImage", (2, 3, 16))
    assert signal.warnings["Data Dimensions"].startswith("1 element")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda content: b"", "empty"),
        (lambda content: content[:20], "cut off"),
        (lambda content: content[:-10], "cut off"),
        (lambda content: b"LUCAM" + content[5:], "does not begin"),
        (lambda content: content[:18] + bytes(4) + content[22:], "no data"),
        (lambda content: content[:22] + b"\xff" * 8 + content[30:], "cut off"),
    ],
)
def test_damaged_series_are_refused_in_words(tmp_path: Path, damage: Callable[[bytes], bytes], words: str) -> None:
    head = series(2, (4, 4))
    whole = head + bytes(2 * (50 + 32 + 8) - 50)
    path = tmp_path / "damaged_1.ser"
    path.write_bytes(whole)
    assert tia.EXTRACTOR.extract(source(path))[0].shape == (2, 4, 4)
    path.write_bytes(damage(whole))
    with pytest.raises(ExtractionError, match=words):
        tia.EXTRACTOR.extract(source(path))


@settings(max_examples=200, deadline=None)
@given(
    cut=st.floats(0, 1), flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=3)
)
def test_damaged_series_are_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, cut: float, flips: list[tuple[float, int]]
) -> None:
    path = tmp_path_factory.mktemp("damaged", numbered=True) / "damaged_1.ser"
    damaged(series(2, (4, 4), dims=(2,)) + bytes(2 * (50 + 32 + 8) - 50), path, cut, flips)
    refused_or_read(tia.EXTRACTOR, path)


DESCRIPTION = (
    b"<ObjectInfo><AcquireDate>Mon Feb 22 18:57:51 2016</AcquireDate><ExperimentalDescription><Root>"
    b"<Data><Label>High tension</Label><Value>200</Value><Unit>kV</Unit></Data>"
    b"<Data><Label>Mode</Label><Value> TEM uP SA Zoom Image</Value><Unit></Unit></Data>"
    b"</Root></ExperimentalDescription><AcquireInfo><DwellTimePath>0.5</DwellTimePath></AcquireInfo></ObjectInfo>"
)


@pytest.mark.parametrize(
    ("emi", "voltage", "warning"),
    [
        (DESCRIPTION, "200 kV", None),
        (None, "None", "missing"),
        (b"", "None", "no description"),
        (DESCRIPTION[:200], "None", "cut off"),
        (DESCRIPTION.replace(b"</AcquireInfo>", b""), "None", "damaged"),
        (DESCRIPTION.replace(b"18:57:51", b"&secret;"), "None", "damaged"),
    ],
)
def test_a_series_survives_its_companion(tmp_path: Path, emi: bytes | None, voltage: str, warning: str | None) -> None:
    path = tmp_path / "pair_1.ser"
    path.write_bytes(series(1, (4, 4)) + bytes(40))
    companion = tmp_path / "pair.emi"
    if emi is not None:
        companion.write_bytes(b"JI" + emi)
    (signal,) = tia.EXTRACTOR.extract(source(path, *([companion] if emi is not None else [])))
    assert (signal.dataset_type, signal.shape, value(signal, "acceleration_voltage")) == ("Image", (4, 4), voltage)
    assert (warning or "") in signal.warnings.get("Companion", "")
    assert ("Companion" in signal.warnings) == (warning is not None)


def test_an_emi_file_has_its_own_series_and_no_links(tmp_path: Path) -> None:
    for name in ("a_1.ser", "a_10.ser", "ab_1.ser", "a_b.ser", "other_2.ser"):
        (tmp_path / name).write_bytes(series(1, (4, 4)) + bytes(40))
    (tmp_path / "a_2.ser").symlink_to(tmp_path / "other_2.ser")
    (tmp_path / "a_3.ser").write_bytes(b"cut")
    emi = tmp_path / "a.emi"
    emi.write_bytes(DESCRIPTION)
    signals = tia.EXTRACTOR.extract(source(emi))
    assert len(signals) == 2
    assert "cut off" in signals[0].warnings["a_3.ser"]


def refused(path: Path, words: str) -> None:
    assert hyperspy_file.EXTRACTOR.accepts(source(path), path.read_bytes()[:4096])
    with pytest.raises(ExtractionError, match=words):
        hyperspy_file.EXTRACTOR.extract(source(path))


def hspy(path: Path, **arguments: Any) -> h5py.File:
    """An open file of HyperSpy with one image; `arguments` go to its dataset."""
    file = h5py.File(path, "w")
    file.attrs.update({"file_format": "HyperSpy", "file_format_version": "3.3"})
    group = file.create_group("Experiments/made")
    group.create_dataset("data", **({"data": np.arange(12.0).reshape(3, 4)} | arguments))
    for n, size in enumerate((3, 4)):
        group.create_group(f"axis-{n}").attrs.update(
            {"name": "yx"[n], "scale": 2.0, "offset": 0.0, "size": size, "units": "nm", "navigate": False}
        )
    group.create_group("metadata/Signal").attrs["signal_type"] = ""
    general = group.create_group("metadata/General").attrs
    general.update({"title": "made", "date": "2024-05-06", "time": "17:04:19", "time_zone": "Europe/Zurich"})
    group.create_group("metadata/Acquisition_instrument/TEM").attrs.update({"beam_energy": 200.0, "magnification": 5e4})
    group.create_group("original_metadata")
    return file


def test_a_hyperspy_file_with_a_glob_for_a_name(tmp_path: Path) -> None:
    path = tmp_path / "a[0]*?.hspy"
    hspy(path).close()
    hspy(tmp_path / "a0bc.hspy").close()
    (signal,) = hyperspy_file.EXTRACTOR.extract(source(path))
    assert (signal.dataset_type, signal.data_type, signal.shape) == ("Image", "TEM_Imaging", (3, 4))
    assert (value(signal, "acceleration_voltage"), value(signal, "pixel_width")) == ("200 kV", "2 nm")
    assert str(signal.acquired) == "2024-05-06 17:04:19+02:00"
    assert signal.pixels is not None
    assert np.asarray(signal.pixels.array[1, 2]) == 6.0


def test_hdf5_that_leads_out_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_bytes(bytes(96))
    external = [(str(tmp_path / "secret.txt"), 0, 96)]
    hspy(tmp_path / "storage.hspy", data=None, shape=(3, 4), dtype="f8", external=external).close()
    refused(tmp_path / "storage.hspy", "/Experiments/made/data keeps its numbers in another file")
    with hspy(tmp_path / "link.hspy") as file:
        file["Experiments/made/more"] = h5py.ExternalLink("other.h5", "/")
    (signal,) = hyperspy_file.EXTRACTOR.extract(source(tmp_path / "link.hspy"))
    assert signal.shape == (3, 4)
    with hspy(tmp_path / "virtual.hspy") as file:
        layout = h5py.VirtualLayout((3, 4), "f8")
        layout[:] = h5py.VirtualSource("other.h5", "data", (3, 4))
        del file["Experiments/made/data"]
        file.create_virtual_dataset("Experiments/made/data", layout)
    refused(tmp_path / "virtual.hspy", "put together from other files")
    with hspy(tmp_path / "deep.hspy") as file:
        file.create_group("/".join("d" * 200))
    assert hyperspy_file.EXTRACTOR.extract(source(tmp_path / "deep.hspy"))
    (tmp_path / "cut.hspy").write_bytes((tmp_path / "link.hspy").read_bytes()[:3000])
    refused(tmp_path / "cut.hspy", "cut off or damaged")


def test_rings_and_soft_links_in_hdf5_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "ring.hspy"
    with hspy(path) as file:
        file["Experiments/made/ring"] = file["Experiments"]
        file["soft"] = h5py.SoftLink("/nowhere")
    assert hyperspy_file.EXTRACTOR.extract(source(path))


trees: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(trees)
def test_native_trees_become_json(tree: Any) -> None:
    json.dumps(bounded(tree))


def test_native_trees_are_bounded() -> None:
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"deeper": deep}
    huge = {
        "deep": deep,
        "numbers": np.zeros(10**6),
        "texts": ["x" * 10**4] * 10**4,
        "many": dict.fromkeys(range(10**6), 1),
    }
    assert len(json.dumps(bounded(huge))) < 3e6
