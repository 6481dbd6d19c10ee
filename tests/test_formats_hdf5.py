"""Velox, Berkeley EMD, Prismatic, py4DSTEM, Tofwerk and Delmic: real files, variants and hostile HDF5."""

import csv
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from nexuslims_pipeline.extraction.formats import delmic, ncem_emd, prismatic, py4dstem, tofwerk, velox_emd
from nexuslims_pipeline.extraction.layouts.emd import unit_of
from nexuslims_pipeline.extraction.layouts.velox_stream import CountedXRays
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.previews.draw import draw_preview
from nexuslims_pipeline.signals import Signal, Source

CORPUS = Path(os.environ.get("NX_TEST_CORPUS", Path(__file__).parents[2] / "shared" / "corpus"))
EXTRACTORS: tuple[Extractor, ...] = tuple(
    module.EXTRACTOR for module in (delmic, ncem_emd, prismatic, py4dstem, tofwerk, velox_emd)
)
FORMATS = ("emd_velox", "emd_ncem", "emd_prismatic", "h5_py4dstem", "h5_tofwerk", "h5_delmic")
BY_CONTENT = {
    "1532 Camera Ceta.emd": "Image",
    "example_bytes_string_metadata.emd": "Spectrum",
    "example_object_dtype_data.emd": "Misc",
}
"""Files that the corpus calls something else: an image at 120 kX in imaging mode, a row of numbers, texts."""


def corpus_rows() -> list[dict[str, str]]:
    if not (CORPUS / "manifest.csv").exists():
        return []
    with (CORPUS / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["format"] in FORMATS]


ROWS = corpus_rows()
real_files = pytest.mark.skipif(not ROWS, reason="the corpus is not here")


def source_of(path: Path) -> Source:
    return Source(path, datetime(2026, 1, 1, tzinfo=UTC), path.stat().st_size)


def choosers(path: Path) -> list[Extractor]:
    with path.open("rb") as file:
        head = file.read(4096)
    return [extractor for extractor in EXTRACTORS if extractor.accepts(source_of(path), head)]


def read(path: Path) -> list[Signal]:
    [extractor] = choosers(path)
    return extractor.extract(source_of(path))


def read_one(path: Path) -> Signal:
    [signal] = read(path)
    return signal


def real(name: str) -> list[Signal]:
    return read(CORPUS / name)


def value(signal: Signal, name: str, unit: str) -> float:
    return float(signal.fields[name].m_as(unit))


def velox_metadata(**changes: Any) -> np.ndarray[Any, Any]:
    """One column of Velox's metadata, with the keys that its files have."""
    tree: dict[str, Any] = {
        "Instrument": {"InstrumentClass": "Titan", "InstrumentModel": "Themis", "ComputerName": "PC"},
        "Acquisition": {"AcquisitionStartDatetime": {"DateTime": "1600000000"}},
        "Optics": {
            "AccelerationVoltage": "300000",
            "OperatingMode": "2",
            "ProjectorMode": "1",
            "CameraLength": "0.1",
            "BeamConvergence": "0.025",
        },
        "Stage": {"AlphaTilt": "0.1"},
        "Scan": {
            "ScanSize": {"width": "64", "height": "64"},
            "ScanArea": {"left": "0", "top": "0.5", "right": "0.0625", "bottom": "0.546875"},
            "DwellTime": "1e-05",
        },
        "Detectors": {
            "Detector-0": {"DetectorName": "HAADF", "DetectorType": "ScanningDetector"},
            "Detector-1": {
                "DetectorName": "BM-Ceta",
                "DetectorType": "ImagingDetector",
                "ExposureTime": "0.5",
                "Binning": {"width": "2", "height": "2"},
            },
            "Detector-2": {
                "DetectorName": "SuperXG21",
                "DetectorType": "AnalyticalDetector",
                "Dispersion": "10",
                "OffsetEnergy": "-250",
                "ElevationAngle": "0.31415927",
            },
        },
        "BinaryResult": {
            "Detector": "HAADF",
            "DetectorIndex": "0",
            "PixelSize": {"width": "2e-09", "height": "2e-09"},
            "PixelUnitX": "m",
            "PixelUnitY": "m",
        },
    }
    return as_column({**tree, **changes})


def as_column(tree: Any) -> np.ndarray[Any, Any]:
    raw = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
    column = np.zeros((60_000, 1), "u1")
    column[: len(raw), 0] = np.frombuffer(raw, "u1")
    return column


def put_json(file: Any, place: str, tree: Any) -> None:
    dataset = file.create_dataset(place, (1,), dtype=h5py.string_dtype())
    dataset[0] = json.dumps(tree)


def velox(path: Path, data: dict[str, dict[str, Any]]) -> Path:
    """A Velox file with datasets by their place below ``Data``: ``{"Image/a": {"Data": …, "Metadata": …}}``."""
    with h5py.File(path, "w") as file:
        put_json(file, "Version", {"format": "Velox", "version": "11"})
        for place, members in data.items():
            group = file.create_group(f"Data/{place}")
            for name, member in members.items():
                if isinstance(member, dict):
                    put_json(group, name, member)
                else:
                    group[name] = member
    return path


@real_files
@pytest.mark.parametrize("row", ROWS, ids=lambda row: Path(row["path"]).name)
def test_every_real_file_is_read_by_one_reader_as_what_it_is(row: dict[str, str]) -> None:
    signals = read(CORPUS / row["path"])
    expected = BY_CONTENT.get(Path(row["path"]).name, row["expected_dataset_type"])
    assert expected in {signal.dataset_type for signal in signals}
    assert len(signals) >= int(row["n_signals"])
    if row["format"] == "emd_velox":
        assert len(signals) == int(row["n_signals"])
        shapes = ["x".join(map(str, signal.shape)) for signal in signals]
        assert row["shapes"].rstrip(" …") == "; ".join(shapes[:6])
        assert f"{signals[0].acquired:%Y-%m-%dT%H:%M:%S}" == row["acquired_at"][:19]
    for signal in signals:
        assert draw_preview(signal) is not None or signal.pixels is None


@real_files
def test_velox_spectrum_image_of_four_detectors() -> None:
    *_, haadf, spectra = real("emd_velox/Test SI 16x16 215 kx.emd")
    assert spectra.data_type == "STEM_EDS"
    assert value(spectra, "acceleration_voltage", "kV") == 300
    assert value(spectra, "convergence_angle", "mrad") == pytest.approx(25.010652711)
    assert value(spectra, "elevation_angle", "deg") == pytest.approx(18)
    assert value(spectra, "channel_size", "eV") == 10
    assert value(spectra, "starting_energy", "keV") == -0.25
    assert value(spectra, "condenser_aperture", "µm") == pytest.approx(70)
    assert value(spectra, "stage_z", "µm") == pytest.approx(-143.65038)
    assert spectra.fields["elements"] == ["C", "O", "Ca", "Cu"]
    assert spectra.fields["microscope"] == "Titan Themis"
    assert spectra.fields["detector_type"] == "SuperXG2"
    assert spectra.fields["magnification"] == 225_000
    assert "operator" not in spectra.fields
    assert value(haadf, "inner_collection_angle", "mrad") == pytest.approx(50.0558, abs=1e-4)
    assert [layer.name for layer in spectra.layers] == ["C", "O", "Ca", "Cu"]


@real_files
def test_velox_adds_up_the_streams_to_the_spectra_that_it_stored_itself() -> None:
    path = CORPUS / "emd_velox/Test SI 16x16 215 kx.emd"
    spectra = read(path)[-1]
    assert spectra.pixels is not None
    with h5py.File(path, locking=False) as file:
        rendered = sum(group["Data"][:, 0].astype(int) for group in file["Data/Spectrum"].values())
    counts = spectra.pixels.array[...]
    assert counts.sum() == 42_097
    assert np.array_equal(counts.sum((0, 1)), rendered)
    assert np.array_equal(spectra.pixels.array[3:9:2, 1, ::7], counts[3:9:2, 1, ::7])
    assert spectra.pixels.array[2, 3, 5] == counts[2, 3, 5]


@real_files
def test_velox_camera_tells_imaging_from_diffraction() -> None:
    [image], [pattern] = real("emd_velox/1532 Camera Ceta.emd"), real("emd_velox/Camera Ceta Diffraction Micro.emd")
    assert (image.dataset_type, image.data_type) == ("Image", "TEM_Imaging")
    assert image.fields["magnification"] == 119_714.156
    assert image.acquired == datetime(2017, 11, 30, 15, 32, 22, 914275, tzinfo=UTC)
    assert "camera_length" not in image.fields
    assert (pattern.dataset_type, pattern.data_type) == ("Diffraction", "TEM_Diffraction")
    assert value(pattern, "camera_length", "mm") == 378
    assert value(pattern, "reciprocal_pixel_width", "1/nm") == pytest.approx(0.1144296802)
    assert pattern.fields["acquisition_device"] == "BM-Ceta"
    assert pattern.fields["binning"] == "8x8"


@real_files
def test_velox_names_images_by_the_operation_that_made_them() -> None:
    signals = real("emd_velox/fei_example_dpc_titles.emd")
    names = ["B-D", "DPC", "iDPC", "DF4-C", "DF4-B", "DF4-A", "A-C", "DF4-D", "Filtered iDPC"]
    assert [signal.name for signal in signals] == names
    assert [signal.data_type for signal in signals[1:4]] == ["STEM_Imaging", "STEM_Imaging", "STEM_DF"]
    assert signals[1].pixels is not None
    assert signals[1].pixels.array[0, 1] == pytest.approx(-1459.9154 - 1487.9266j)


@real_files
def test_velox_stack_has_a_time_axis() -> None:
    [stack] = real("emd_velox/fei_example_tem_stack.emd")
    assert stack.pixels is not None
    time = stack.pixels.axes[0]
    assert (time.size, time.scale, time.units, time.navigation) == (2, 0.8, "s", True)
    assert stack.pixels.array[1].shape == (3, 3)


def test_velox_part_of_the_scan_is_the_size_of_the_spectrum_image(tmp_path: Path) -> None:
    stream = np.array([[5, 65535] * 12 + [7, 7, 65535]], "u2").T
    path = velox(
        tmp_path / "a.emd",
        {
            "Image/survey": {"Data": np.ones((32, 32, 1), "u2"), "Metadata": velox_metadata()},
            "SpectrumStream/s": {
                "Data": stream,
                "Metadata": velox_metadata(BinaryResult={"Detector": "SuperXG21", "DetectorIndex": "2"}),
                "AcquisitionSettings": {"bincount": "16"},
            },
            "SpectrumImage/i": {"Metadata": velox_metadata(), "SpectrumImageSettings": {"endFramePosition": "1"}},
        },
    )
    spectra = read(path)[-1]
    assert spectra.shape == (3, 4, 16)
    assert spectra.pixels is not None
    counts = spectra.pixels.array[...]
    assert counts[..., 5].sum() == 12
    assert counts[..., 7].sum() == 0, "the second frame is not counted in"
    assert value(spectra, "pixel_time", "µs") == 10


def test_velox_eels_map_has_columns_first_in_the_file(tmp_path: Path) -> None:
    cube = np.arange(5 * 8 * 3, dtype="f4").reshape(5, 8, 3)
    axis = as_column({"Data": {"offset": "480", "dispersion": "0.25"}})
    members = {"Data": cube, "Metadata": velox_metadata(), "AcquisitionMetadata": axis}
    line = {"Data": np.ones((7, 8), "f4"), "Metadata": velox_metadata()}
    path = velox(tmp_path / "a.emd", {"EelsSpectrumImage/a": members, "EelsSpectrumImage/b": line})
    eels, scan = read(path)
    assert (eels.dataset_type, eels.data_type, eels.shape) == ("SpectrumImage", "STEM_EELS", (3, 5, 8))
    assert eels.pixels is not None
    assert eels.pixels.array[2, 4, 1] == cube[4, 1, 2]
    assert np.array_equal(eels.pixels.array[1:, ::2, :], cube.transpose(2, 0, 1)[1:, ::2, :])
    assert (eels.pixels.axes[2].offset, eels.pixels.axes[2].scale, eels.pixels.axes[2].units) == (480, 0.25, "eV")
    assert (scan.dataset_type, scan.shape) == ("SpectrumImage", (7, 8))


def test_velox_fourier_transform_is_an_image(tmp_path: Path) -> None:
    result = {"Detector": "BM-Ceta", "PixelSize": {"width": "1e8", "height": "1e8"}, "PixelUnitX": "1/m"}
    optics = {"OperatingMode": "1", "ProjectorMode": "2"}
    metadata = velox_metadata(BinaryResult=result, Optics=optics)
    half = np.zeros((8, 5, 1), [("realFloatHalfEven", "<f4"), ("imagFloatHalfEven", "<f4")])
    signal = read_one(velox(tmp_path / "a.emd", {"Image/a": {"Data": half, "Metadata": metadata}}))
    assert (signal.dataset_type, signal.data_type) == ("Image", "TEM_Imaging")
    assert signal.pixels is not None
    assert signal.pixels.array.dtype.kind == "c"


def test_velox_without_a_stream_says_so(tmp_path: Path) -> None:
    members = {"Data": np.zeros((99, 1), "u1"), "Metadata": velox_metadata()}
    signal = read_one(velox(tmp_path / "a.emd", {"SpectrumImage/a": members}))
    assert signal.dataset_type == "SpectrumImage"
    assert signal.pixels is None
    assert "not drawn" in signal.warnings["Pixels"]


def test_velox_damaged_metadata_cost_nothing_else(tmp_path: Path) -> None:
    nested = as_column(b'{"a":' * 10_000)
    good = {"Data": np.ones((4, 4, 1)), "Metadata": velox_metadata()}
    path = velox(
        tmp_path / "a.emd",
        {"Image/a": {"Data": np.ones((4, 4, 1)), "Metadata": nested}, "Image/b": good, "Line/c": good},
    )
    damaged, whole = read(path)
    assert value(damaged, "acceleration_voltage", "kV") == value(whole, "acceleration_voltage", "kV") == 300
    assert "Those of another dataset" in damaged.warnings["Vendor Metadata"]
    assert "Data/Line" in damaged.warnings["Datasets"]


def test_velox_lends_the_metadata_of_images_first(tmp_path: Path) -> None:
    other = {"Data": np.ones((8, 1)), "Metadata": velox_metadata(Instrument={"ComputerName": "another"})}
    path = velox(
        tmp_path / "a.emd",
        {
            "Spectrum/a": other,
            "EelsSpectrumImage/b": {**other, "Data": np.ones((2, 8, 2))},
            "Image/c": {"Data": np.ones((4, 4, 1)), "Metadata": velox_metadata()},
            "Image/d": {"Data": np.ones((4, 4, 1))},
        },
    )
    lent = next(signal for signal in read(path) if "Vendor Metadata" in signal.warnings)
    assert lent.fields["computer"] == "PC"


def test_velox_absurd_numbers_are_doubted(tmp_path: Path) -> None:
    optics = {"AccelerationVoltage": "9" * 30, "OperatingMode": "2", "BeamConvergence": "-0.028", "CameraLength": "0"}
    members = {"Data": np.ones((4, 4, 1)), "Metadata": velox_metadata(Optics=optics, Acquisition={})}
    signal = read_one(velox(tmp_path / "a.emd", {"Image/a": members}))
    assert "acceleration_voltage" in signal.warnings
    assert "acceleration_voltage" not in signal.fields
    assert "camera_length" not in signal.fields
    assert value(signal, "convergence_angle", "mrad") == pytest.approx(28)
    assert signal.acquired is None


def test_numbers_in_other_files_are_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["x"] = np.full((4, 4, 1), 77.0)
    path = velox(tmp_path / "a.emd", {f"Image/{name}": {"Metadata": velox_metadata()} for name in "abc"})
    with h5py.File(path, "a") as file:
        file["Data/Image/a/Data"] = h5py.ExternalLink(str(secret), "/x")
        file["Data/Image/b"].create_dataset("Data", (4, 4, 1), "f8", external=[(str(secret), 0, 128)])
        layout = h5py.VirtualLayout((4, 4, 1), "f8")
        layout[:] = h5py.VirtualSource(str(secret), "x", (4, 4, 1))
        file["Data/Image/c"].create_virtual_dataset("Data", layout)
    signals = read(path)
    assert [signal.pixels for signal in signals] == [None, None, None]
    assert all(signal.warnings["Pixels"] for signal in signals)
    assert all(value(signal, "acceleration_voltage", "kV") == 300 for signal in signals)


def test_declared_sizes_are_not_taken_for_memory(tmp_path: Path) -> None:
    path = velox(
        tmp_path / "a.emd",
        {
            "Image/a": {"Metadata": velox_metadata()},
            "SpectrumStream/s": {
                "Metadata": velox_metadata(
                    Scan={
                        "ScanSize": {"width": "1e12", "height": "1e12"},
                        "ScanArea": {"left": "0", "top": "0", "right": "1", "bottom": "1"},
                    }
                ),
                "AcquisitionSettings": {"bincount": "60000"},
            },
        },
    )
    with h5py.File(path, "a") as file:
        big: dict[str, Any] = {"compression": "gzip"}
        file["Data/Image/a"].create_dataset("Data", (65_536, 65_536, 900), "f4", chunks=(16_384, 65_536, 1), **big)
        file["Data/SpectrumStream/s"].create_dataset("Data", (1 << 31, 1), "u2", chunks=(1 << 16, 1), **big)
    image, spectra = read(path)
    assert draw_preview(image) is not None
    assert draw_preview(spectra) is not None
    assert "Preview" in spectra.warnings


def test_a_long_stream_is_decoded_in_part() -> None:
    row = np.tile(np.array([[3, 65535]], "u2"), (1, 6_000_000)).reshape(-1, 1)
    stream = CountedXRays([row, row], (100, 100, 8))
    assert not stream.is_whole
    assert stream[..., 3].sum() == 2 * (4 << 20) // 2


@real_files
def test_ncem_acquisition() -> None:
    [image] = real("emd_ncem/Acquisition_18.emd")
    assert (image.dataset_type, image.data_type) == ("Image", "STEM_Imaging")
    assert value(image, "acceleration_voltage", "kV") == 200
    assert value(image, "camera_length", "mm") == 85
    assert value(image, "convergence_angle", "mrad") == pytest.approx(24.979373)
    assert value(image, "defocus", "nm") == pytest.approx(6761.511926)
    assert value(image, "dwell_time", "µs") == pytest.approx(1)
    assert value(image, "pixel_width", "nm") == pytest.approx(0.01224653)
    assert image.fields["magnification"] == 5_100_000
    assert image.fields["microscope"] == "TEAM 0.5"
    assert image.acquired == datetime(2019, 10, 4, 19, 25, 41, 484000, tzinfo=UTC)
    assert image.pixels is not None
    assert [axis.name for axis in image.pixels.axes] == ["Y", "X"]


def emd_group(group: Any, data: Any, axes: list[tuple[str, str, float]], first: int = 1) -> None:
    group.attrs["emd_group_type"] = 1 if first else "array"
    if data is not None:
        group["data"] = data
    for number, (name, units, step) in enumerate(axes):
        dim = group.create_dataset(f"dim{number + first}", data=np.array([0.0, step]))
        dim.attrs.update({"name": name, "units": units})


@pytest.mark.parametrize(
    ("axes", "shape", "kind", "seen"),
    [
        ([("x", "[n_m]", 2.0), ("y", "[n_m]", 3.0)], (4, 5), "Image", (5, 4)),
        ([("y", "[n_m]", 2.0), ("x", "[n_m]", 3.0)], (4, 5), "Image", (4, 5)),
        ([("y", "[n_m]", 1), ("x", "[n_m]", 1), ("energy", "[e_V]", 0.5)], (4, 5, 9), "SpectrumImage", (4, 5, 9)),
        ([("energy", "eV", 0.5), ("x", "nm", 1), ("y", "nm", 1)], (9, 4, 5), "SpectrumImage", (5, 4, 9)),
        (
            [("y", "nm", 1), ("x", "nm", 1), ("ky", "A^-1", 1), ("kx", "A^-1", 1)],
            (2, 3, 4, 5),
            "Diffraction",
            (2, 3, 4, 5),
        ),
        ([("", "[]", 1.0)], (9,), "Spectrum", (9,)),
    ],
)
def test_ncem_axes_decide(
    tmp_path: Path, axes: list[tuple[str, str, float]], shape: tuple[int, ...], kind: str, seen: tuple[int, ...]
) -> None:
    path = tmp_path / "a.h5"
    data = np.random.default_rng(1).random(shape)
    with h5py.File(path, "w") as file:
        file.attrs["version_major"] = "0"
        emd_group(file.create_group("data/x"), data, axes)
        file.create_group("microscope").attrs["voltage"] = "80kV"
    signal = read_one(path)
    assert (signal.dataset_type, signal.shape) == (kind, seen)
    assert value(signal, "acceleration_voltage", "kV") == 80
    assert signal.pixels is not None
    assert signal.pixels.array.shape == seen
    assert signal.pixels.array[...].sum() == pytest.approx(data.sum())


@pytest.mark.parametrize(("angle", "length"), [(0.025, 0.085), (25, 85)])
def test_ncem_numbers_without_units_are_what_a_microscope_can_have(angle: float, length: float, tmp_path: Path) -> None:
    path = tmp_path / "a.emd"
    with h5py.File(path, "w") as file:
        file.attrs["version_major"] = "0"
        emd_group(file.create_group("data/x"), np.ones((3, 3)), [("x", "[n_m]", 0.1), ("y", "[n_m]", 0.1)])
        file.create_group("user").attrs["name"] = "somebody"
    assert read_one(path).data_type == "Unknown"
    with h5py.File(path, "a") as file:
        file.create_group("microscope").attrs.update({"convergence angle": angle, "camera length": length})
    signal = read_one(path)
    assert signal.data_type == "TEM_Imaging"
    assert value(signal, "convergence_angle", "mrad") == pytest.approx(25)
    assert value(signal, "camera_length", "mm") == pytest.approx(85)


def test_ncem_rings_and_soft_links_end(tmp_path: Path) -> None:
    path = tmp_path / "a.emd"
    with h5py.File(path, "w") as file:
        file.attrs["version_major"] = 0
        group = file.create_group("a")
        group["again"], group["root"] = group, file["/"]
        emd_group(group.create_group("looped"), h5py.SoftLink("/a/looped/data"), [])
        emd_group(group.create_group("good"), np.ones((3, 3)), [])
    signals = {signal.name: signal for signal in read(path)}
    assert set(signals) == {"good", "looped"}
    assert "Pixels" in signals["looped"].warnings


@pytest.mark.parametrize(
    ("written", "meant"),
    [("[n_m]", "nm"), ("[n_m^-1]", "1/nm"), ("A^-1", "1/Å"), ("A", "Å"), ("[]", ""), ("pixels", ""), ("mrad", "mrad"),
     ("test_units", "test_units"), (None, "")],
)  # fmt: skip
def test_emd_units(written: str | None, meant: str) -> None:
    assert unit_of(written) == meant


@real_files
def test_prismatic_lengths_are_in_angstrom() -> None:
    [patterns], [bins] = real("emd_prismatic/Si100_4D.emd"), real("emd_prismatic/Si100_3D.emd")
    assert value(patterns, "acceleration_voltage", "kV") == 100
    assert value(patterns, "convergence_angle", "mrad") == 30
    assert value(patterns, "pixel_width", "nm") == pytest.approx(0.05)
    assert value(patterns, "reciprocal_pixel_width", "1/nm") == pytest.approx(1.841621, abs=1e-5)
    assert "Axis Units" in patterns.warnings
    assert patterns.pixels is not None
    assert patterns.pixels.axes[0].units == "Å"
    assert patterns.pixels.array[1, 2, 3].shape == (8, 8)
    assert bins.pixels is not None
    angle = bins.pixels.axes[0]
    assert (angle.scale, angle.offset, angle.units) == (1.0, 0.5, "mrad")


def test_py4dstem_scan_and_mean_pattern(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    axes = [("Rx", "nm", 2.0), ("Ry", "nm", 2.0), ("Qx", "A^-1", 0.02), ("Qy", "A^-1", 0.02)]
    with h5py.File(path, "w") as file:
        file.attrs.update({"emd_group_type": "file", "version_major": 1, "version_minor": 0})
        root = file.create_group("datacube_root")
        root.attrs["emd_group_type"] = "root"
        cube = root.create_group("datacube")
        cube.attrs["python_class"] = "DataCube"
        emd_group(cube, np.ones((3, 4, 8, 8), "u2"), axes, first=0)
        mean = cube.create_group("dp_mean")
        mean.attrs.update({"emd_group_type": "array", "python_class": "VirtualDiffraction"})
        mean["data"] = np.ones((8, 8))
        cube.create_group("braggvectors").attrs["emd_group_type"] = "pointlistarray"
        root["metadatabundle/microscope/beam_energy"] = 300_000
        root["metadatabundle/calibration/convergence_semiangle_mrad"] = 1.5
    scan, pattern = read(path)
    assert (scan.dataset_type, scan.data_type, scan.shape) == ("Diffraction", "STEM_Diffraction", (3, 4, 8, 8))
    assert value(scan, "reciprocal_pixel_width", "1/nm") == pytest.approx(0.2)
    assert value(scan, "pixel_width", "nm") == 2
    assert scan.extensions["Tables of Peaks"] == ["braggvectors"]
    assert (pattern.dataset_type, pattern.shape) == ("Diffraction", (8, 8))
    assert value(pattern, "acceleration_voltage", "kV") == 300
    assert value(pattern, "convergence_angle", "mrad") == 1.5


def test_py4dstem_before_version_1_takes_pixel_sizes_from_the_calibration(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        cube = file.create_group("4DSTEM_experiment/data/datacubes/cube")
        cube["data"] = np.ones((3, 4, 8, 8), "u1")
        cube["metadatabundle/calibration/R_pixel_size"] = 5.0
        cube["metadatabundle/calibration/R_pixel_units"] = "nm"
    scan = read_one(path)
    assert (scan.dataset_type, scan.shape) == ("Diffraction", (3, 4, 8, 8))
    assert value(scan, "pixel_width", "nm") == 5


@real_files
def test_tofwerk_real_file() -> None:
    spectra, images = real("h5_tofwerk/pfib-tofwerk opened.h5")
    assert (spectra.dataset_type, spectra.data_type, spectra.shape) == (
        "SpectrumImage",
        "PFIB_TOFSIMS",
        (10, 64, 64, 259),
    )
    assert spectra.acquired is not None
    assert spectra.acquired.isoformat() == "2025-12-03T11:31:45-05:00"
    assert value(spectra, "acceleration_voltage", "kV") == 30
    assert value(spectra, "horizontal_field_width", "µm") == pytest.approx(10)
    assert value(spectra, "pixel_width", "nm") == pytest.approx(156.25)
    assert value(spectra, "chamber_pressure", "Pa") == pytest.approx(1.7048e-4, rel=1e-4)
    assert "beam_current" not in spectra.fields, "the file says 0"
    assert spectra.extensions["Mass Range Maximum"].magnitude == 177.354
    assert spectra.extensions["File Variant"] == "pre-processed"
    assert spectra.layers[0].name == "m/z 2"
    assert spectra.layers[0].array[...].sum() == pytest.approx(81_964)
    assert (images.dataset_type, images.data_type, images.shape) == ("Image", "FIB_Imaging", (7, 128, 128))
    assert value(images, "pixel_width", "nm") == pytest.approx(78.125)


def tofwerk_file(path: Path, *, log: bool) -> Path:
    masses = np.concatenate([np.zeros(5), (np.arange(400) / 40.0) ** 2]).astype("f4")
    with h5py.File(path, "w") as file:
        file.attrs.update({"TofDAQ Version": 1.99, "NbrWrites": 2, "NbrSegments": 3, "NbrSamples": 405})
        file.attrs["HDF5 File Creation Time"] = b"03.12.2025 11:31:45"
        counts = np.zeros(405)
        counts[0], counts[np.argmin(abs(masses - 27))] = 1e6, 50
        file["FullSpectra/SumSpectrum"], file["FullSpectra/MassAxis"] = counts, masses
        file.create_dataset("FullSpectra/EventList", (2, 3, 4), h5py.vlen_dtype("u2"))
        file.create_group("FIBParams").attrs.update({"Voltage": [20_000.0], "Current": [1e-10], "ViewField": [0.02]})
        file.create_group("TimingData").attrs["LocalTimeOffsetToUTC"] = [-5.0]
        if log:
            record = np.zeros(1, [("timestamp", "<u8"), ("timestring", "S26")])
            record["timestamp"] = 134_092_531_052_290_000
            file["AcquisitionLog/Log"] = record
    return path


@pytest.mark.parametrize(("log", "seconds"), [(False, 45.0), (True, 45.229)])
def test_tofwerk_raw_file_by_any_of_its_clocks(tmp_path: Path, log: bool, seconds: float) -> None:
    spectra = read_one(tofwerk_file(tmp_path / "a.h5", log=log))
    assert spectra.shape == (2, 3, 4, 405)
    assert spectra.extensions["File Variant"] == "raw"
    assert spectra.acquired is not None
    assert (spectra.acquired - datetime(2025, 12, 3, 16, 31, tzinfo=UTC)).total_seconds() == seconds
    assert "Creation Time" not in spectra.warnings
    assert value(spectra, "beam_current", "pA") == pytest.approx(100)
    assert value(spectra, "pixel_width", "µm") == pytest.approx(5)
    assert spectra.pixels is not None
    drawn, [axis] = spectra.pixels.array[:], spectra.pixels.axes
    assert drawn.sum() == 50, "what comes before the start of the clock has no mass"
    assert axis.offset + axis.scale * int(drawn.argmax()) == pytest.approx(27, abs=0.3)


@real_files
def test_delmic_angle_resolved_exposures_make_one_dataset() -> None:
    patterns, _, survey = real("h5_delmic/sparc-angle-resolved.h5")
    assert (patterns.data_type, patterns.shape) == ("SEM_CL", (3, 2, 256, 256))
    assert patterns.acquired == datetime(2024, 8, 29, 9, 59, 53, 667029, tzinfo=UTC)
    assert value(patterns, "exposure_time", "s") == pytest.approx(1.85232127)
    assert value(patterns, "pixel_width", "nm") == pytest.approx(963.8629)
    assert patterns.fields["acquisition_device"].startswith("Andor Clara")
    assert patterns.fields["software"] == "Odemis 3.5.2"
    assert patterns.extensions["Wavelength Band"] == "530 – 570 nm"
    assert patterns.pixels is not None
    with h5py.File(CORPUS / "h5_delmic/sparc-angle-resolved.h5", locking=False) as file:
        third = file["Acquisition4/ImageData/Image"][0, 0, 0]
    assert np.array_equal(patterns.pixels.array[1, 0], third)
    assert (survey.dataset_type, survey.data_type, survey.shape) == ("Image", "SEM_Imaging", (512, 512))
    assert value(survey, "horizontal_field_width", "µm") == pytest.approx(14)
    assert value(survey, "dwell_time", "µs") == pytest.approx(10)


@real_files
def test_delmic_beam_and_streak_camera() -> None:
    light, electrons, _ = real("h5_delmic/sparc-intensity.h5")
    assert value(light, "acceleration_voltage", "kV") == 10
    assert value(light, "probe_current", "pA") == pytest.approx(1300)
    assert "emission_current" not in light.fields, "1.3 nA is the current of the beam"
    assert (light.fields["detector_type"], electrons.fields["detector_type"]) == ("CL", "SE")
    streak = real("h5_delmic/sparc-streak-camera-spot.h5")[0]
    assert (streak.dataset_type, streak.shape) == ("SpectrumImage", (256, 256))
    assert streak.pixels is not None
    time, wavelength = streak.pixels.axes
    assert time.offset + time.scale * 255 == pytest.approx(5), "ns"
    assert (wavelength.units, round(wavelength.offset, 2)) == ("nm", 515.18)
    assert streak.fields["microscope"] == "Delmic SPARCv2 Streakcam"


def delmic_file(path: Path, shape: tuple[int, ...], **scales: Any) -> Path:
    with h5py.File(path, "w") as file:
        group = file.create_group("Acquisition0")
        group["PhysicalData/ChannelDescription"] = [b"Spectrum"]
        group["ImageData/TOffset"] = 1e300
        data = np.arange(np.prod(shape), dtype="u4").reshape(shape)
        image = group.create_dataset("ImageData/Image", data=data)
        image.attrs["DIMENSION_LABELS"] = list("CTZYX")
        for name, scale in scales.items():
            group[f"ImageData/{name}"] = scale
    return path


def test_delmic_spectra_have_their_wavelengths_last(tmp_path: Path) -> None:
    wavelengths = np.linspace(400e-9, 500e-9, 6)
    path = delmic_file(tmp_path / "a.h5", (6, 1, 1, 3, 4), DimensionScaleC=wavelengths, DimensionScaleX=1e-7)
    signal = read_one(path)
    assert (signal.dataset_type, signal.data_type, signal.shape) == ("SpectrumImage", "SEM_CL", (3, 4, 6))
    assert signal.pixels is not None
    assert signal.pixels.array[2, 1, 5] == 5 * 12 + 2 * 4 + 1
    assert signal.pixels.axes[2].scale == pytest.approx(20)
    assert signal.acquired is None
    assert "Creation Time" in signal.warnings
    spot = read_one(delmic_file(tmp_path / "b.h5", (6, 1, 1, 1, 1), DimensionScaleC=wavelengths))
    assert (spot.dataset_type, spot.shape) == ("Spectrum", (6,))


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_a_broken_copy_is_refused_with_the_reason(tmp_path: Path, share: float) -> None:
    members = {"Data": np.ones((64, 64, 1)), "Metadata": velox_metadata()}
    whole = velox(tmp_path / "whole.emd", {"Image/a": members}).read_bytes()
    path = tmp_path / "part.emd"
    path.write_bytes(whole[: int(len(whole) * share)])
    assert velox_emd.EXTRACTOR in choosers(path)
    with pytest.raises(ExtractionError, match="cut off or damaged"):
        velox_emd.EXTRACTOR.extract(source_of(path))
    raw = tofwerk_file(tmp_path / "tof.h5", log=True).read_bytes()
    cut = tmp_path / "cut.h5"
    cut.write_bytes(raw[: int(len(raw) * share)])
    assert choosers(cut) == [tofwerk.EXTRACTOR]


def test_flipped_bytes_end_in_words_or_data(tmp_path: Path) -> None:
    raw = bytearray(tofwerk_file(tmp_path / "whole.h5", log=True).read_bytes())
    rng = np.random.default_rng(7)
    for _ in range(40):
        damaged = raw.copy()
        for place in rng.integers(8, len(raw), 20):
            damaged[place] = int(rng.integers(256))
        path = tmp_path / "damaged.h5"
        path.write_bytes(damaged)
        for extractor in choosers(path):
            try:
                assert extractor.extract(source_of(path))
            except ExtractionError as fault:
                assert str(fault)


@pytest.mark.parametrize(
    "content", [b"", b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" + bytes(5000), b"II*\0" + bytes(500)]
)
def test_what_is_no_such_file_is_left_to_others(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(content)
    assert choosers(path) == []
