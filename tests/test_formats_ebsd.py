"""EBSD of all vendors and Dectris detectors: real files, golden values, variants and hostile content."""

import csv
import os
import struct
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from nexuslims_pipeline.extraction.formats import (
    bruker_ebsd,
    dectris_arina,
    edax_ang,
    edax_ebsd,
    edax_up,
    emsoft,
    kikuchipy,
    nordif,
    oxford_cpr,
    oxford_ctf,
    oxford_ebsp,
    oxford_h5oina,
)
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.metadata.checked import checked_metadata
from nexuslims_pipeline.signals import Signal, Source

CORPUS = Path(os.environ.get("NX_TEST_CORPUS", Path(__file__).parents[2] / "shared" / "corpus"))
FORMATS = ("ang", "ctf", "cpr", "h5oina", "h5_ebsd", "ebsd_binary", "ebsd_nordif", "h5_arina")
MODULES = (
    oxford_h5oina, bruker_ebsd, edax_ebsd, emsoft, kikuchipy, edax_up, oxford_ebsp, nordif, edax_ang, oxford_ctf,
    oxford_cpr, dectris_arina,
)  # fmt: skip
EXTRACTORS: tuple[Extractor, ...] = tuple(module.EXTRACTOR for module in MODULES)
SHAPES = {
    "patterns.h5oina": (3, 3, 60, 60),
    "patterns_roi.h5": (3, 2, 60, 60),
    "edax_patterns.h5": (3, 3, 60, 60),
    "simulated_ebsd.h5": (10, 10, 10),
    "edax_binary.up1": (9, 60, 60),
    "patterns.ebsp": (3, 3, 60, 60),
    "Pattern.dat": (3, 3, 60, 60),
    "au_145mm_68kx_microprobe_01_master.h5": (64, 64, 192, 192),
    "S00.ANG": (40, 35),
    "Test_US_1.ctf": (5, 40),
}
HAS_OTHER_TYPE = {
    "Setting.txt": "Misc",  # a text without patterns
    "au_145mm_68kx_microprobe_01.h5": "Image",  # the images of the scan, without patterns
}


def corpus_rows() -> list[dict[str, str]]:
    if not (CORPUS / "manifest.csv").exists():
        return []
    with (CORPUS / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["format"] in FORMATS]


ROWS = corpus_rows()
real_files = pytest.mark.skipif(not ROWS, reason="the corpus is not here")


def source_of(path: Path, *companions: Path) -> Source:
    return Source(path, datetime(2026, 1, 1, tzinfo=UTC), path.stat().st_size, companions)


def companions_of(path: Path) -> list[Path]:
    """What the inventory finds beside these files."""
    if path.name == "Pattern.dat":
        return [path.with_name("Setting.txt")]
    if path.stem.endswith("_master"):
        return sorted(each for each in path.parent.iterdir() if each != path)
    return []


def chosen(source: Source) -> list[Extractor]:
    with source.path.open("rb") as file:
        head = file.read(4096)
    return [each for each in EXTRACTORS if each.accepts(source, head)]


def read(path: Path, *companions: Path) -> list[Signal]:
    source = source_of(path, *companions)
    [extractor] = chosen(source)
    return extractor.extract(source)


def read_one(path: Path, *companions: Path) -> Signal:
    [signal] = read(path, *companions)
    return signal


def pixels(signal: Signal) -> Any:
    assert signal.pixels is not None
    return signal.pixels.array


def values(signal: Signal) -> dict[str, Any]:
    """Numbers in the units that the record has, texts as they are."""
    meta = checked_metadata(signal, Source(Path("x"), datetime(2026, 1, 1, tzinfo=UTC), 0), "reader", "1")
    found = {**meta, **meta["extensions"]}
    return {
        key: value["value"] if isinstance(value, dict) and "unit" in value else value for key, value in found.items()
    }


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


# --- real files ---


@pytest.mark.corpus
@real_files
@pytest.mark.parametrize("row", ROWS, ids=[row["path"] for row in ROWS])
def test_real_file_is_read_as_the_manifest_says(row: dict[str, str]) -> None:
    path = CORPUS / row["path"]
    signals = read(path, *companions_of(path))
    assert signals[0].dataset_type == HAS_OTHER_TYPE.get(path.name, row["expected_dataset_type"])
    assert signals[0].shape == SHAPES.get(path.name, signals[0].shape)
    for signal in signals:
        meta = checked_metadata(signal, source_of(path), "reader", "1")
        assert len(meta["warnings"]) == len(signal.warnings)  # every value passes the check of its unit
        if signal.pixels:
            assert signal.pixels.array.shape[: len(signal.pixels.axes)] == tuple(a.size for a in signal.pixels.axes)
            assert np.asarray(signal.pixels.array[..., :2]).shape[-1] == 2


@pytest.mark.corpus
@real_files
def test_one_scan_in_four_formats_gives_the_same_patterns() -> None:
    nordif_scan = pixels(read_one(CORPUS / "ebsd_nordif/Pattern.dat", CORPUS / "ebsd_nordif/Setting.txt"))
    ebsp = pixels(read_one(CORPUS / "ebsd_binary/patterns.ebsp"))
    edax = pixels(read(CORPUS / "h5_ebsd/edax_patterns.h5")[0])
    up1 = pixels(read_one(CORPUS / "ebsd_binary/edax_binary.up1"))
    for row, column in ((0, 0), (1, 2), (2, 1)):
        expected = np.asarray(nordif_scan[row, column])
        assert np.array_equal(ebsp[row, column], expected)
        assert np.array_equal(edax[row, column], expected)
        assert np.array_equal(up1[3 * row + column], expected)


@pytest.mark.corpus
@real_files
def test_h5oina_has_its_golden_values() -> None:
    found = values(read_one(CORPUS / "h5oina/patterns.h5oina"))
    assert found["acceleration_voltage"] == 20
    assert found["working_distance"] == 23.5
    assert found["Specimen Tilt"] == 70  # 1.2217305 rad in the file, as its specification says
    assert found["pixel_width"] == 1500
    assert found["horizontal_field_width"] == 4.5
    assert found["software"] == "AZtec 6.0.8014.1"
    assert found["Magnification"] == 2000


@pytest.mark.corpus
@real_files
def test_bruker_region_of_interest_is_put_in_order() -> None:
    path = CORPUS / "h5_ebsd/patterns_roi.h5"
    signal = read(path)[0]
    with h5py.File(path) as file:
        stored = file["Scan 0/EBSD/Data/RawPatterns"][()]
        column, row = (file[f"Scan 0/EBSD/SEM/{key}"][()] for key in ("IX", "IY"))
    for number in range(6):
        assert np.array_equal(pixels(signal)[row[number], column[number] - 1], stored[number])
    found = values(signal)
    assert (found["acceleration_voltage"], found["Specimen Tilt"], found["Phases"]) == (20, 70, ["Nickel"])
    assert found["Phase 1"]["a"] == {"value": 3.56, "unit": "angstrom"}


@pytest.mark.corpus
@real_files
def test_text_formats_have_their_golden_values() -> None:
    european = values(read_one(CORPUS / "ctf/Test_European_1.ctf"))
    assert european["acceleration_voltage"] == 15
    assert european["Pixel Width"] == 500
    assert european["Phase 1"]["a"]["value"] == 3.231
    assert np.array_equal(
        pixels(read_one(CORPUS / "ctf/Test_European_1.ctf"))[...], pixels(read_one(CORPUS / "ctf/Test_US_1.ctf"))[...]
    )
    project = read_one(CORPUS / "cpr/martensite.cpr")
    assert project.acquired == datetime(2014, 7, 1, 11, 29, 49)
    found = values(project)
    assert (found["stage_z"], found["stage_tilt"]) == (35.10261, 69.999993)
    assert found["Acquisition Time"] == 10372  # 2:52:52
    assert found["horizontal_field_width"] == pytest.approx(707 * 0.5)
    assert (found["Phases"], found["Phases Not Used"]) == (["Iron bcc (old)"], ["Iron fcc"])
    assert "Nyyssonen" not in (project.text or "")


@pytest.mark.corpus
@real_files
def test_electron_image_of_a_scan_has_the_facts_of_its_instrument() -> None:
    patterns, image = read(CORPUS / "h5_ebsd/edax_patterns.h5")
    for name in ("software", "working_distance"):
        assert image.fields[name] == patterns.fields[name]


@pytest.mark.parametrize(("voltage", "tilts"), [("20", [70.0, 0.0]), ("0", [None, None])])
def test_ctf_of_aztec_tells_its_detector(voltage: str, tilts: list[float | None], tmp_path: Path) -> None:
    line = f"Euler angles refer to Sample Coordinate system (CS0)!\tMag\t{voltage}\tCoverage\t100\tDevice\t0"
    line += f"\tKV\t{voltage}\tTiltAngle\t{'70.0' if voltage != '0' else '0'}\tTiltAxis\t0\tDetectorOrientationE1\t1.5"
    line += "\tDetectorOrientationE2\t99\tDetectorOrientationE3\t0\tWorkingDistance\t20.5\tInsertionDistance\t188"
    head = f"Channel Text File\nJobMode\tGrid\nXCells\t1\nYCells\t1\nXStep\t1\nYStep\t1\n{line}\nPhases\t0\n"
    columns = "Phase\tX\tY\tBands\tError\tEuler1\tEuler2\tEuler3\tMAD\tBC\tBS\n0\t0\t0\t0\t3\t0\t0\t0\t0\t7\t0\n"
    found = values(read_one(write(tmp_path / "a.ctf", (head + columns).encode())))
    assert (found["working_distance"], found["Detector Insertion Distance"]) == (20.5, 188)
    assert found["Detector Orientation"]["Euler 2"]["value"] == 99
    assert [found.get("Specimen Tilt"), found.get("Tilt Axis")] == tilts


@pytest.mark.corpus
@real_files
def test_a_header_that_belies_its_points_is_not_believed() -> None:
    signal = read_one(CORPUS / "ang/S00.ANG")
    assert values(signal)["Scan Grid"]["Step X"]["value"] == 0.4  # the header says 0.1
    assert "0.1 apart" in signal.warnings["Scan Grid"]
    hexagonal = read_one(CORPUS / "ctf/testdata_hex.ctf")
    assert values(hexagonal)["Scan Grid"]["Step Y"]["value"] == 0.866
    assert "11 columns" in hexagonal.warnings["Columns"]
    assert np.isfinite(pixels(hexagonal)[...]).all()


@pytest.mark.corpus
@real_files
@pytest.mark.parametrize(
    ("name", "word"), [("ang/MissingHeader_1.ang", "does not tell"), ("ctf/Corrupted_XCells.ctf", "XCells")]
)
def test_negative_cases_are_datasets_with_a_warning(name: str, word: str) -> None:
    signal = read_one(CORPUS / name)
    assert word in signal.warnings["Scan Grid"]


@pytest.mark.corpus
@real_files
def test_arina_master_takes_the_scan_from_its_companion_and_follows_no_link() -> None:
    path = CORPUS / "h5_arina/missing_data_part/au_145mm_68kx_microprobe_01_master.h5"
    patterns, *images = read(path, *companions_of(path))
    assert patterns.acquired == datetime(2025, 8, 6, 2, 52, 43, 741000, tzinfo=timezone(timedelta(hours=2)))
    found = values(patterns)
    assert (found["acceleration_voltage"], found["camera_length"], found["frames"]) == (300, 145, 4096)
    assert found["acquisition_device"] == "Dectris ARINA CZT"
    assert "0 of 1 are" in patterns.warnings["Pixels"]
    assert [image.data_type for image in images] == ["STEM_BF", "STEM_HAADF", "STEM_Imaging"]


# --- variants that the corpus does not have ---


def h5oina(path: Path) -> Path:
    """EBSD without patterns, EDS with spectra and maps, an electron image and a layered one."""
    with h5py.File(path, "w") as file:
        file["Manufacturer"] = "Oxford Instruments"
        file["Format Version"] = "7.0"
        file["Index"] = "1"
        for technique in ("EBSD", "EDS", "Electron Image", "Layered Image/EDS Layered Image 1"):
            header = file.create_group(f"1/{technique}/Header")
            header["X Cells"], header["Y Cells"] = np.int32([3]), np.int32([2])
            header["X Step"], header["Y Step"] = np.float32([0.1]), np.float32([0.2])
            header["Acquisition Date"] = "2023-05-06T07:08:09"
            header["Beam Voltage"] = np.float32([15])
        ebsd = file["1/EBSD"]
        ebsd["Header/Camera Exposure Time"] = np.float32([12.5])
        ebsd["Header/Camera Mode"] = "4x4"
        ebsd["Header/Number Frames Averaged"] = np.int32([2])
        ebsd["Header/Phases/1/Phase Name"] = "Iron"
        ebsd["Header/Phases/1/Lattice Dimensions"] = np.float32([[2.87, 2.87, 2.87]])
        ebsd["Header/Phases/1/Lattice Angles"] = np.float32([[np.pi / 2] * 3])
        ebsd["Header/Phases/1/Space Group"] = np.int32([229])
        ebsd["Data/Band Contrast"] = np.arange(6, dtype="u1")
        eds = file["1/EDS"]
        eds["Header/Channel Width"], eds["Header/Start Channel"] = np.float32([10]), np.float32([-200])
        eds["Header/Detector Elevation"] = np.float32([np.radians(35)])
        eds["Data/Spectrum"] = np.arange(6 * 8, dtype="i4").reshape(6, 8)
        eds["Data/Live Time"], eds["Data/Real Time"] = np.full(6, 0.1, "f4"), np.full(6, 0.125, "f4")
        eds["Data/Window Integral/Fe Ka1"] = np.arange(6, dtype="f4")
        eds["Data/Window Integral/Al Ka1"] = np.ones(6, "f4")
        file["1/Electron Image/Data/SE/Electron Image 1"] = np.arange(6, dtype="u2")
        file["1/Electron Image/Header/Dwell Time"] = np.float32([4])
        file["1/Layered Image/EDS Layered Image 1/Data/Color"] = np.zeros((6, 3), "u1")
    return path


def test_h5oina_gives_every_technique(tmp_path: Path) -> None:
    ebsd, eds, image, layered = read(h5oina(tmp_path / "all.h5oina"))
    assert [s.dataset_type for s in (ebsd, eds, image, layered)] == ["Misc", "SpectrumImage", "Image", "Image"]
    assert all(s.acquired == datetime(2023, 5, 6, 7, 8, 9) for s in (ebsd, eds, image, layered))
    assert pixels(ebsd)[...].tolist() == [[0, 1, 2], [3, 4, 5]]
    found = values(ebsd)
    assert (found["exposure_time"], found["binning"], found["Phases"]) == (0.0125, "4x4", ["Iron"])
    assert found["frames"] == 2
    assert found["Phase 1"]["alpha"]["value"] == 90
    assert (values(eds)["live_time"], values(eds)["real_time"]) == (0.6, 0.75)
    assert eds.shape == (2, 3, 8)
    assert np.asarray(pixels(eds)[1, 0:3:2, 0]).tolist() == [24, 40]
    assert (values(eds)["channel_size"], values(eds)["starting_energy"], values(eds)["elevation_angle"]) == (
        10,
        -0.2,
        35,
    )
    assert values(eds)["elements"] == ["Al", "Fe"]
    assert [(layer.name, layer.array.shape) for layer in eds.layers] == [("Al Ka1", (2, 3)), ("Fe Ka1", (2, 3))]
    assert (image.name, values(image)["detector_type"], values(image)["dwell_time"]) == ("Electron Image 1", "SE", 4)
    assert values(image)["pixel_height"] == 200
    assert pixels(layered)[...].shape == (2, 3, 3)


def test_rows_of_a_scan_are_sliced_like_an_array(tmp_path: Path) -> None:
    with h5py.File(h5oina(tmp_path / "x.h5oina"), "a") as file:
        whole = np.arange(6 * 4 * 5, dtype="u1").reshape(6, 4, 5)
        file.create_dataset("1/EBSD/Data/Processed Patterns", data=whole, chunks=(2, 4, 5), compression="lzf")
    array, whole = pixels(read(tmp_path / "x.h5oina")[0]), whole.reshape(2, 3, 4, 5)
    assert array.shape == whole.shape
    for key in (
        (),
        (1, 2),
        (0,),
        (slice(None), 1),
        (slice(0, 2), slice(1, 3), 2),
        (..., 0),
        (1, slice(0, 3, 2), ..., 3),
    ):
        assert np.array_equal(array[key], whole[key]), key


def test_kikuchipy_file_is_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "saved.h5", "w") as file:
        file["manufacturer"], file["version"] = "kikuchipy", "0.11.1"
        file["Scan 1/EBSD/Data/patterns"] = np.arange(2 * 3 * 4 * 4, dtype="u1").reshape(6, 4, 4)
        header = {
            "n_rows": 2,
            "n_columns": 3,
            "step_x": 1.5,
            "step_y": 1.5,
            "sample_tilt": 70.0,
            "binning": 8,
            "gain": -1,
        }
        for key, value in header.items():
            file[f"Scan 1/EBSD/Header/{key}"] = value
        for key, value in {
            "beam_energy": 20.0,
            "working_distance": 24.7,
            "magnification": 0,
            "microscope": "SU-6600",
        }.items():
            file[f"Scan 1/SEM/Header/{key}"] = value
        phase = "Scan 1/EBSD/CrystalMap/crystal_map/header/phases/0"
        file[f"{phase}/name"], file[f"{phase}/space_group"] = "ni", 225
    signal = read_one(tmp_path / "saved.h5")
    assert (signal.dataset_type, signal.data_type, signal.shape) == ("Diffraction", "SEM_EBSD", (2, 3, 4, 4))
    found = values(signal)
    assert (found["acceleration_voltage"], found["microscope"], found["Phases"]) == (20, "SU-6600", ["ni"])
    assert "Magnification" not in found
    assert "Camera Gain" not in found


def test_edax_hexagonal_grid_is_a_series(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "hex.oh5", "w") as file:
        file["Manufacturer"], file["Version"] = "EDAX", "OIM Analysis 8.6"
        header = "Sample/Area 1/OIM Map 1/EBSD/Header"
        for key, value in {"nRows": 2, "nColumns": 3, "Step X": 0.5, "Step Y": 0.433, "Grid Type": "HexGrid"}.items():
            file[f"{header}/{key}"] = [value]
        file[f"{header}/Operator"] = ["Someone"]
        file["Sample/Area 1/OIM Map 1/EBSD/Data/Pattern"] = np.zeros((5, 4, 4), "u2")
    signal = read_one(tmp_path / "hex.oh5")
    assert signal.shape == (5, 4, 4)
    assert "Pixels" not in signal.warnings
    assert values(signal)["operator"] == "Someone"


def test_emsoft_master_pattern_is_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "master.h5", "w") as file:
        file["EMheader/EBSDmaster/ProgramName"] = [b"EMEBSDmaster.f90"]
        file["EMData/EBSDmaster/mLPNH"] = np.zeros((1, 2, 5, 5), "f4")
        file["EMData/EBSDmaster/masterSPNH"] = np.zeros((2, 5, 5), "f4")
        file["NMLparameters/MCCLNameList/EkeV"] = [20.0]
        file["NMLparameters/MCCLNameList/sig"] = [70.0]
    signals = read(tmp_path / "master.h5")
    assert {signal.name: signal.shape for signal in signals} == {"mLPNH": (1, 2, 5, 5), "masterSPNH": (2, 5, 5)}
    assert values(signals[0])["Specimen Tilt"] == 70


def test_up2_of_version_3_has_its_grid(tmp_path: Path) -> None:
    patterns = np.arange(2 * 3 * 4 * 5, dtype="<u2").reshape(2, 3, 4, 5)
    head = struct.pack("<4IBIIB2d", 3, 5, 4, 42, 1, 3, 2, 0, 0.25, 0.5)
    signal = read_one(write(tmp_path / "a.up2", head + patterns.tobytes()))
    assert signal.shape == (2, 3, 4, 5)
    assert np.array_equal(pixels(signal)[1, 2], patterns[1, 2])
    assert (values(signal)["pixel_width"], values(signal)["pixel_height"]) == (250, 500)
    cut = read_one(write(tmp_path / "b.up2", head + patterns.tobytes()[:-3]))
    assert cut.shape == (1, 3, 4, 5)
    assert "after 5 of 6" in cut.warnings["Pixels"]
    with pytest.raises(ExtractionError, match="first pattern"):
        read(write(tmp_path / "c.up2", head))


def ebsp(order: list[int], *, stored: int = 6) -> bytes:
    """Version 2, 2 × 3 patterns of 2 × 2 pixels that are their number, lying in the file in `order`."""
    size = 16 + 4 + 18
    start = 8 + 8 * 6
    places = [0] * 6
    body = b""
    for n, number in enumerate(order[:stored]):
        places[number] = start + n * size
        body += struct.pack("<4i", 0, 2, 2, 4) + bytes([number] * 4)
        body += struct.pack("<Bd", 1, number % 3 * 0.5) + struct.pack("<Bd", 1, number // 3 * 0.5)
    return struct.pack("<q6q", -2, *places) + body


def test_ebsp_patterns_follow_the_map_and_not_the_file(tmp_path: Path) -> None:
    signal = read_one(write(tmp_path / "a.ebsp", ebsp([2, 1, 0, 5, 4, 3])))
    assert signal.shape == (2, 3, 2, 2)
    assert np.asarray(pixels(signal)[:, :, 0, 0]).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert values(signal)["pixel_width"] == 500
    part = read_one(write(tmp_path / "b.ebsp", ebsp([2, 1, 0, 5, 4, 3], stored=4)))
    assert part.shape == (4, 2, 2)
    assert values(part)["Patterns Not Stored"] == 2
    cut = read_one(write(tmp_path / "c.ebsp", ebsp([0, 1, 2, 3, 4, 5])[:-60]))
    assert "after 4 of 6" in cut.warnings["Pixels"]
    with pytest.raises(ExtractionError, match="table"):
        read(write(tmp_path / "d.ebsp", struct.pack("<q20q", -2, *[1 << 60] * 20)))


def test_nordif_patterns_alone_say_what_is_missing(tmp_path: Path) -> None:
    raw = np.arange(2 * 2 * 3 * 3, dtype="u1").tobytes()
    patterns = write(tmp_path / "Pattern.dat", raw)
    alone = read_one(patterns)
    assert alone.dataset_type == "Diffraction"
    assert "Setting.txt" in alone.warnings["Pixels"]
    setting = write(
        tmp_path / "Setting.txt",
        "[NORDIF]\t\t\n[Microscope]\t\t\nTilt angle\t70\t°\t\n[Acquisition settings]\t\t\nResolution\t3x3\tpx\n"
        "Exposure time\t3500\tµs\n[Area]\t\t\nStep size\t1.500\tµm\nNumber of samples\t2x3\t#\n".encode("latin-1"),
    )
    cut = read_one(patterns, setting)
    assert cut.shape == (1, 3, 3, 3)
    assert "after 4 of 6" in cut.warnings["Pixels"]
    assert values(cut)["exposure_time"] == 0.0035
    write(setting, setting.read_bytes().replace(b"3x3", b"999999x999999"))
    assert "do not fit" in read_one(patterns, setting).warnings["Pixels"]
    assert not chosen(source_of(write(tmp_path / "Log.dat", raw)))


def test_crc_shows_its_band_contrast(tmp_path: Path) -> None:
    header = write(
        tmp_path / "scan.cpr",
        b"[General]\nDate=31.12.2020\nTime=10:00:00\nJobMode=RegularGrid\n[Job]\nxCells=3\nyCells=2\nGridDistX=0,5\n"
        b"GridDistY=0,5\nkV=20,0\n[Fields]\nField1=3\nField2=7\nField3=99\nCount=3\n[Phases]\nCount=0\n",
    )
    record = np.dtype([("phase", "u1"), ("phi1", "<f4"), ("contrast", "u1"), ("counts", "<f4")])
    table = np.zeros(6, record)
    table["contrast"] = range(6)
    points = write(tmp_path / "scan.crc", table.tobytes())
    for main, other in ((header, points), (points, header)):
        signal = read_one(main, other)
        assert pixels(signal)[...].tolist() == [[0, 1, 2], [3, 4, 5]]
        assert values(signal)["acceleration_voltage"] == 20
        assert signal.acquired == datetime(2020, 12, 31, 10)
    write(points, table.tobytes()[:-1])
    assert "after 5 of 6" in read_one(header, points).warnings["Pixels"]
    assert not chosen(source_of(points))


def ang(rows: int, columns: int, step: float, *, more: str = "", value: str = "{n}.0") -> bytes:
    head = f"{more}# x-star 0.5\n# Phase 1\n# MaterialName  Nickel\n# Symmetry 43\n# GRID: SqrGrid\n# XSTEP: {step}\n"
    head += f"# YSTEP: {step}\n# NCOLS_ODD: {columns}\n# NCOLS_EVEN: {columns}\n# NROWS: {rows}\n#\n"
    points = ((row, column) for row in range(rows) for column in range(columns))
    lines = (
        f" 1.0 2.0 3.0 {column * step:.5f} {row * step:.5f} {value.format(n=row * columns + column)} 0.1 0 1 1.0\n"
        for row, column in points
    )
    return (head + "".join(lines)).encode()


def test_astar_positions_are_in_nanometres(tmp_path: Path) -> None:
    path = write(tmp_path / "acom.ang", ang(4, 5, 8.3, more="# File created from ACOM RES results\n"))
    signal = read_one(path)
    assert signal.data_type == "STEM_Diffraction"
    assert values(signal)["Pixel Width"] == 8.3
    assert pixels(signal)[1, 2] == 7


def test_long_table_is_shown_in_part_and_a_cut_one_says_so(tmp_path: Path) -> None:
    whole = ang(400, 500, 0.5, value="{n:>50}.000")
    signal = read_one(write(tmp_path / "long.ang", whole))
    assert len(whole) > 16 << 20
    assert signal.shape == (400, 500)
    array = pixels(signal)
    assert array.shape == (200, 250)
    assert signal.pixels is not None
    assert signal.pixels.axes[0].scale == 1.0
    assert divmod(array[100, 200], 500) in ((200, 400), (201, 400))
    assert np.isfinite(array[...]).all()
    small = ang(20, 10, 0.5)
    cut = read_one(write(tmp_path / "cut.ang", small[: len(small) * 6 // 10]))
    assert "of 200 points" in cut.warnings["Pixels"]


def test_bytes_that_are_none_of_these_are_left_to_others(tmp_path: Path) -> None:
    names = ("a.up1", "b.ebsp", "c.ang", "d.ctf", "e.cpr", "f.dat", "g.txt", "h.h5", "i.bmp", "j.h5oina")
    contents = (b"", b"\0" * 64, b"not a measurement\n" * 20, bytes(range(256)) * 4, b"\x89HDF\r\n\x1a\n")
    for name in names:
        for content in contents:
            found = chosen(source_of(write(tmp_path / name, content)))
            is_cut_off = name.endswith(".h5oina") and content.startswith(b"\x89HDF")
            assert bool(found) == is_cut_off, (name, content[:10])
    with pytest.raises(ExtractionError, match="cut off"):
        read(write(tmp_path / "j.h5oina", b"\x89HDF\r\n\x1a\n"))


# --- hostile content ---


def test_links_and_external_storage_stay_unread(tmp_path: Path) -> None:
    secret = write(tmp_path / "SECRET.txt", b"secret" * 100)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["numbers"] = np.full((6, 2, 2), 77, "u1")
    path = h5oina(tmp_path / "x.h5oina")
    with h5py.File(path, "a") as file:
        patterns = "1/EBSD/Data/Processed Patterns"
        file.create_dataset(patterns, (6, 2, 2), "u1", external=[(str(secret), 0, 24)])
        file["1/EBSD/Header/Camera Gain"] = h5py.ExternalLink("other.h5", "numbers")
        file.create_dataset("1/EBSD/Header/Hit Rate", (1,), "u1", external=[(str(secret), 0, 1)])
        file["1/EBSD/Header/ring"] = file["1/EBSD"]
    signal = read(path)[0]
    assert signal.pixels is None
    assert "another file" in signal.warnings["Pixels"]
    assert "115" not in repr(values(signal))  # b"s"
    assert "not followed" in repr(signal.native)
    assert "Camera Gain" not in signal.extensions


def arina(folder: Path, *, frames: int = 6) -> tuple[Path, list[Path]]:
    master = folder / "scan_master.h5"
    with h5py.File(master, "w") as file:
        file.create_group("entry").attrs["NX_class"] = "NXentry"
        detector = file.create_group("entry/instrument/detector")
        detector["description"], detector["count_time"] = "Dectris ARINA Si", 1e-5
        specific = detector.create_group("detectorSpecific")
        for key, value in {"ntrigger": frames, "nimages": 1, "photon_energy": 2e5}.items():
            specific[key] = value
        specific["data_collection_date"] = "2024-02-03T04:05:06+01:00"
        specific["x_pixels_in_detector"] = specific["y_pixels_in_detector"] = 4
        for n in (1, 2):
            file[f"entry/data/data_00000{n}"] = h5py.ExternalLink(f"scan_data_00000{n}.h5", "/entry/data/data")
    parts = []
    for n in (1, 2):
        parts.append(folder / f"scan_data_00000{n}.h5")
        with h5py.File(parts[-1], "w") as file:
            file["entry/data/data"] = np.full((3, 4, 4), n, "u2") + np.arange(3, dtype="u2")[:, None, None] * 10
            file["entry/data/data"].attrs["image_nr_low"] = 3 * n - 2
    return master, parts


def test_arina_data_files_are_joined_where_they_are_companions(tmp_path: Path) -> None:
    master, parts = arina(tmp_path)
    alone = read_one(master)
    assert (alone.shape, alone.pixels) == ((6, 4, 4), None)
    assert "0 of 2 are" in alone.warnings["Pixels"]
    signal = read_one(master, *reversed(parts))
    assert np.asarray(pixels(signal)[:, 0, 0]).tolist() == [1, 11, 21, 2, 12, 22]
    assert signal.warnings == {}
    assert values(signal)["acceleration_voltage"] == 200
    half = read_one(master, parts[0])
    assert half.shape == (3, 4, 4)
    assert "1 of 2 are" in half.warnings["Pixels"]
    data = read_one(parts[1])
    assert (data.dataset_type, data.shape) == ("Diffraction", (3, 4, 4))
