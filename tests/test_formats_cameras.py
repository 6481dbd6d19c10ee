"""Electron cameras and the MRC family: real files with values checked by hand, small ones for variants and damage."""

import os
import shutil
import struct
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from nexuslims_pipeline.extraction.facts import Facts
from nexuslims_pipeline.extraction.formats import (
    blockfile,
    empad,
    merlin,
    mrc,
    serialem_mdoc,
    thermo_epu,
    topspin,
    tvips,
)
from nexuslims_pipeline.extraction.layouts import mrc_extended
from nexuslims_pipeline.extraction.layouts.frames import Frames, cut_off, present_part
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.registry import choose
from nexuslims_pipeline.extraction.standalone import source_of
from nexuslims_pipeline.metadata.checked import checked_metadata
from nexuslims_pipeline.metadata.fields import FIELDS
from nexuslims_pipeline.previews.draw import draw_preview
from nexuslims_pipeline.signals import Signal

CORPUS = Path(os.environ.get("NX_TEST_CORPUS", Path(__file__).parents[2] / "shared" / "corpus"))
EXTRACTORS: tuple[Extractor, ...] = tuple(
    module.EXTRACTOR for module in (blockfile, empad, merlin, mrc, serialem_mdoc, thermo_epu, topspin, tvips)
)
MERLIN = "mib/003_merlin_test_roi_sig256x64_nav4x2_hot_pixel_52x_39y"
EPU = "xml_epu/FoilHole_31933450_Data_31923934_31923936_20240901_060117.xml"


def real(name: str) -> Path:
    path = CORPUS / name
    if not path.exists():
        pytest.skip("this file of the corpus is not here")
    return path


def read(path: Path) -> list[Signal]:
    """Signals of a file, read by whoever the registry chooses, who must be one of the readers of this page."""
    source = source_of(path)
    reader = choose(source)
    assert reader in EXTRACTORS
    assert reader is not None
    return reader.extract(source)


def one(path: Path) -> Signal:
    (signal,) = read(path)
    return signal


def in_units(signal: Signal, *names: str) -> dict[str, Any]:
    """Fields in their preferred units."""
    values = {name: signal.fields[name] for name in names}
    return {
        name: pytest.approx(float(value.m_as(FIELDS[name].unit))) if hasattr(value, "m_as") else value
        for name, value in values.items()
    }


def meta(path: Path, signal: Signal) -> dict[str, Any]:
    return checked_metadata(signal, source_of(path), "test", "1")


# Frames


def test_frames_slice_like_an_array() -> None:
    array = np.arange(3 * 4 * 5 * 6).reshape(3, 4, 5, 6)
    frames = Frames((3, 4), (5, 6), array.dtype, lambda number: array.reshape(12, 5, 6)[number])
    for key in (..., 1, (2, 3), (slice(None), 0), (slice(0, 3, 2), slice(1, 4), 2), (..., 5), (0, ..., slice(2))):
        assert np.array_equal(frames[key], array[key])
    assert frames[0:0].shape == (0, 4, 5, 6)
    assert Frames((), (5, 6), array.dtype, lambda _: array[0, 0])[...].shape == (5, 6)


def test_a_scan_that_broke_off_keeps_its_whole_rows() -> None:
    assert [present_part((4, 8), frames) for frames in (32, 31, 17, 7)] == [(4, 8), (3, 8), (2, 8), (7,)]
    assert present_part((2, 3, 4), 15) == (1, 3, 4)
    assert cut_off(12, 12) == ""
    assert cut_off(0, 3) == "The file ends within the first of 3 frames (a copy that broke off?)."


# Merlin


def test_merlin_scan() -> None:
    signal = one(real(MERLIN + ".mib"))
    assert (signal.dataset_type, signal.data_type, signal.shape) == ("Diffraction", "STEM_Diffraction", (2, 4, 64, 256))
    assert signal.acquired == datetime(2024, 7, 2, 11, 49, 15, 390226, UTC)
    assert signal.acquired.utcoffset() == timedelta(hours=2)
    assert signal.fields["detector_type"] == "Medipix 3RX"
    assert signal.fields["exposure_time"].m_as("ms") == pytest.approx(1)
    assert signal.extensions["Sensor Bias"].m_as("V") == 120
    assert signal.extensions["Thresholds"]["Threshold 0"].m_as("keV") == 12
    assert signal.pixels is not None
    hot = np.argwhere(np.asarray(signal.pixels.array[0, 0]) == np.asarray(signal.pixels.array[0, 0]).max())
    assert [39, 52] in [[63 - row, column] for row, column in hot.tolist()]  # rows are counted from below in its name


def frame(rows: int, columns: int, kind: str, pixels: bytes, n: int = 1, depth: int = 12, **more: Any) -> bytes:
    """A Merlin frame, with the time in ms in `at`."""
    at, chips = datetime(2024, 7, 2, 13, 49, 15) + timedelta(milliseconds=more.get("at", n)), more.get("chips", "1x1")
    fields = ["MQ1", f"{n:06}", "00768", "01", f"{columns:04}", f"{rows:04}", kind, f"   {chips}", "01"]
    fields += [at.strftime("%Y-%m-%d %H:%M:%S.%f"), "0.001000", "0", "0", "2", *["1.0E+1"] * 8, "3RX", *["000"] * 27]
    fields += ["MQ1A", (at - timedelta(hours=2)).isoformat() + "Z", "1000000ns", str(depth), ""]
    return ",".join(fields).encode().ljust(768, b"\0") + pixels


def packed(image: np.ndarray[Any, Any], depth: int) -> bytes:
    """Pixels of a chip as it sends them: words of 64 bits with the last pixel first."""
    if depth == 1:
        return np.packbits(image.astype("u1"), bitorder="little").reshape(-1, 8)[:, ::-1].tobytes()
    if depth == 6:
        return image.astype("u1").reshape(-1, 8)[:, ::-1].tobytes()
    if depth == 24:
        return packed(image >> 12, 12) + packed(image & 0xFFF, 12)
    return image.astype(">u2").reshape(-1, 4)[:, ::-1].tobytes()


@pytest.mark.parametrize("depth", [1, 6, 12, 24])
def test_raw_merlin_frames_are_decoded(tmp_path: Path, depth: int) -> None:
    image = np.random.default_rng(depth).integers(0, 2**depth, (256, 256))
    path = tmp_path / "raw.mib"
    columns = 512 if depth == 24 else 256
    path.write_bytes(b"".join(frame(256, columns, "R64", packed(image, depth), n, depth) for n in (1, 2)))
    signal = one(path)
    assert signal.shape == (2, 256, 256)
    assert signal.pixels is not None
    assert np.array_equal(signal.pixels.array[1], image[::-1])


def test_raw_frames_of_four_chips_are_put_together(tmp_path: Path) -> None:
    image = np.random.default_rng(1).integers(0, 4096, (512, 512))
    lower = image[256:]
    chips = [lower[::-1, 256:][:, ::-1], lower[::-1, :256][:, ::-1], image[:256, 256:], image[:256, :256]]
    path = tmp_path / "quad.mib"
    path.write_bytes(frame(256, 1024, "R64", packed(np.hstack(chips), 12), chips="2x2"))
    signal = one(path)
    assert signal.pixels is not None
    assert np.array_equal(signal.pixels.array[...], image[::-1])


def test_rows_of_a_merlin_scan_are_told_by_pauses(tmp_path: Path) -> None:
    path = tmp_path / "scan.mib"
    path.write_bytes(b"".join(frame(2, 2, "U16", bytes(8), n, at=n + 20 * (n // 5)) for n in range(15)))
    assert one(path).shape == (3, 5, 2, 2)
    path.write_bytes(b"".join(frame(2, 2, "U16", bytes(8), n) for n in range(15)))
    assert one(path).shape == (15, 2, 2)


def test_merlin_scan_that_broke_off(tmp_path: Path) -> None:
    path, original = tmp_path / "scan.mib", real(MERLIN + ".mib")
    shutil.copy(original.with_suffix(".hdr"), path.with_suffix(".hdr"))
    path.write_bytes(original.read_bytes()[: 6 * (384 + 2 * 64 * 256) + 100])
    signal = one(path)
    assert signal.shape == (1, 4, 64, 256)
    assert signal.warnings["Pixels"] == "The file ends after 6 of 8 frames (a copy that broke off?)."


@pytest.mark.parametrize("swap", [(b"0256", b"9999"), (b"U16", b"U17"), (b"00384", b"99999"), (b"0064", b"0000")])
def test_damaged_merlin_headers(tmp_path: Path, swap: tuple[bytes, bytes]) -> None:
    path = tmp_path / "bad.mib"
    path.write_bytes(real(MERLIN + ".mib").read_bytes()[:5000].replace(*swap, 1))
    try:
        assert "Pixels" in one(path).warnings
    except ExtractionError as fault:
        assert str(fault).startswith("it is damaged")


# TVIPS


def tvips_frame(n: int, mode: int = 2, rotator: int = 0, x: float = 1e-3) -> bytes:
    stage = (x, -2e-4, 0.0, 12.5, 0.0)
    return struct.pack("<4IfII5fIff", n, 1_700_000_000, 10 * n, 0, 0.0, 1, mode, *stage, rotator, 0, 0) + bytes(
        [n] * 12
    )


def tvips_header(magnification: int, tension: int = 200, pixel: int = 15_600) -> bytes:
    numbers = (256, 2, 3, 2, 16, 0, 0, 2, 2, pixel, tension, magnification, 60)
    return struct.pack("<13I", *numbers) + (b"TVIPS " * 34)


def test_tvips_stream_goes_on_in_further_files(tmp_path: Path) -> None:
    (tmp_path / "s_000.tvips").write_bytes(tvips_header(500) + b"".join(tvips_frame(n, rotator=n) for n in (1, 2)))
    (tmp_path / "s_001.tvips").write_bytes(tvips_frame(3, rotator=3))
    (tmp_path / "s_003.tvips").write_bytes(tvips_frame(9))
    signal = one(tmp_path / "s_000.tvips")
    assert (signal.data_type, signal.shape) == ("STEM_Diffraction", (3, 2, 3))
    assert signal.acquired == datetime(2023, 11, 14, 22, 13, 20, 10_000, UTC)
    assert signal.warnings["Frames"] == "The file number 2 of the stream is missing: it ends there."
    assert signal.pixels is not None
    assert np.asarray(signal.pixels.array[:, 0, 0]).tolist() == [0x0101, 0x0202, 0x0303]
    assert signal.pixels.axes[0].scale == pytest.approx(0.01)
    assert signal.pixels.axes[1].scale == pytest.approx(15.6e-6 * 2 / 0.5 * 1e3)
    values = meta(tmp_path / "s_000.tvips", signal)
    assert values["acceleration_voltage"]["value"] == 200
    assert values["stage_x"] == {"value": 1000, "unit": "micrometer"}
    assert values["stage_alpha"]["value"] == 12.5


def test_tvips_images_and_values_to_doubt(tmp_path: Path) -> None:
    path = tmp_path / "i_000.tvips"
    path.write_bytes(tvips_header(100_000, 300_000) + tvips_frame(1, mode=1, x=77.0) + b"cut")
    signal = one(path)
    assert (signal.dataset_type, signal.data_type) == ("Image", "TEM_Imaging")
    assert in_units(signal, "acceleration_voltage", "magnification", "pixel_width") == {
        "acceleration_voltage": 300,
        "magnification": 100_000,
        "pixel_width": 0.312,
    }
    assert "stage_x" in signal.warnings
    assert "broke off" in signal.warnings["Pixels"]
    (tmp_path / "lost_001.tvips").write_bytes(tvips_frame(1))
    with pytest.raises(ExtractionError, match="_000 in its name"):
        read(tmp_path / "lost_001.tvips")


# NanoMEGAS


def test_blockfile(tmp_path: Path) -> None:
    original = real("blo/test1.blo")
    signal = one(original)
    assert (signal.data_type, signal.shape) == ("STEM_Diffraction", (3, 2, 144, 144))
    assert signal.acquired == datetime(2015, 12, 1, 15, 40, 59, 812000)
    assert in_units(signal, "acceleration_voltage", "camera_length", "pixel_width", "scan_rotation") == {
        "acceleration_voltage": 200,
        "camera_length": 200,
        "pixel_width": 12.8,
        "scan_rotation": 25,
    }
    assert signal.fields["angular_pixel_width"].m_as("mrad") == pytest.approx(10 / 62.26 / 200 * 1000)
    path = tmp_path / "cut.blo"
    path.write_bytes(original.read_bytes()[:-30_000])
    assert one(path).shape == (2, 2, 144, 144)
    path.write_bytes(original.read_bytes()[:3000])
    cut = one(path)
    assert (cut.pixels, cut.fields["acceleration_voltage"].m_as("kV")) == (None, 200)
    assert "the first of 6 frames" in cut.warnings["Pixels"]


def test_topspin() -> None:
    image, scan = read(real("app5/topspin_test_A.app5"))
    assert (image.data_type, image.shape, image.name) == ("STEM_Imaging", (8, 56), "Virtual STEM Image")
    assert (scan.data_type, scan.shape) == ("STEM_Diffraction", (2, 5, 14, 12))
    assert image.acquired == scan.acquired == datetime(2025, 5, 12, 12, 33, 37)
    assert in_units(scan, "acceleration_voltage", "camera_length", "pixel_height", "angular_pixel_width") == {
        "acceleration_voltage": 200,
        "camera_length": 2800,
        "pixel_height": 2,
        "angular_pixel_width": 0.0213275792205814,
    }
    assert scan.extensions["Precession Angle"].m_as("deg") == pytest.approx(0.5)
    assert scan.fields["operator"] == "Edwin Supple"
    assert "25000" in scan.warnings["Pixels"]
    assert scan.pixels is not None
    with h5py.File(real("app5/topspin_test_A.app5")) as file:
        expected = file["a0dba950-15bf-4a74-a81c-9cea8560c2c8/7/Data"][()]
    assert np.array_equal(scan.pixels.array[1, 2], expected)
    assert len(read(real("app5/topspin_test_C.app5"))) == 3


def test_patterns_in_another_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.app5"
    shutil.copy(real("app5/topspin_test_A.app5"), path)
    path.chmod(0o600)
    with h5py.File(path, "a") as file:
        group = file["a0dba950-15bf-4a74-a81c-9cea8560c2c8/3"]
        del group["Data"]
        group["Data"] = h5py.ExternalLink("/etc/passwd", "/x")
    _, scan = read(path)
    assert scan.pixels is not None
    with pytest.raises(ExtractionError, match="pattern 3 is missing"):
        scan.pixels.array[0, 3]


# EMPAD


def test_empad() -> None:
    signal = one(real("empad/map4x4.xml"))
    assert (signal.data_type, signal.shape) == ("STEM_Diffraction", (4, 4, 128, 128))
    assert signal.acquired == datetime(2019, 6, 6, 11, 30, 0, 164675, UTC)
    assert in_units(signal, "acceleration_voltage", "camera_length", "exposure_time", "pixel_width") == {
        "acceleration_voltage": 300,
        "camera_length": 722.5,
        "exposure_time": 0.001,
        "pixel_width": 4566.3426505682195 / 4,
    }
    assert signal.fields["angular_pixel_width"].m_as("mrad") == pytest.approx(0.42906574394463665)
    lonely = one(real("empad/stack_images.xml"))
    assert (lonely.shape, lonely.pixels) == ((10, 128, 128), None)
    assert "'series_x10.raw'" in lonely.warnings["Pixels"]


def write_empad(folder: Path, named: str, size: str = "<pix_x>3</pix_x><pix_y>2</pix_y>", extra: str = "") -> Path:
    measured = f"<iom_measurements><source.get_voltage>80000.0</source.get_voltage>{extra}</iom_measurements>"
    camera = "<camserver_parameters><camserver_poweron>True</camserver_poweron></camserver_parameters>"
    path = folder / "acquisition_1.xml"
    path.write_text(f'<root name="a"><raw_file filename="{named}"/>{size}{camera}{measured}</root>')
    return path


@pytest.mark.parametrize("named", ["../secret.raw", "/etc/passwd", "..\\secret.raw", "sub/scan_x3_y2.raw", "secret"])
def test_empad_never_follows_a_path(tmp_path: Path, named: str) -> None:
    folder = tmp_path / "a"
    (folder / "sub").mkdir(parents=True)
    for place in (tmp_path / "secret.raw", folder / "sub" / "scan_x3_y2.raw", folder / "scan_x9_y9.raw"):
        place.write_bytes(bytes(6 * 130 * 128 * 4))
    signal = one(write_empad(folder, named))
    assert (signal.shape, signal.pixels) == ((2, 3, 128, 128), None)
    assert "does not lie beside it" in signal.warnings["Pixels"]


def test_newer_empad_tells_the_scan_by_the_name(tmp_path: Path) -> None:
    scale = "<full_scan_field_of_view><x>7.2e-07</x><scale_factor>0.72</scale_factor></full_scan_field_of_view>"
    path = write_empad(tmp_path, "scan_x4_y2.raw", "", scale)
    patterns = np.zeros((8, 130, 128), "<f4")
    patterns[:, :128] = np.arange(8)[:, None, None]
    (tmp_path / "scan_x4_y2.raw").write_bytes(patterns.tobytes()[:-100])
    signal = one(path)
    assert signal.shape == (1, 4, 128, 128)
    assert "7 of 8" in signal.warnings["Pixels"]
    assert signal.fields["pixel_width"].m_as("nm") == pytest.approx(250)
    assert signal.pixels is not None
    assert np.asarray(signal.pixels.array[0, :, 5, 5]).tolist() == [0, 1, 2, 3]


def test_empad_patterns_without_their_xml(tmp_path: Path) -> None:
    path = tmp_path / "scan_x3_y1.raw"
    path.write_bytes(bytes(3 * 130 * 128 * 4))
    signal = one(path)
    assert signal.shape == (1, 3, 128, 128)
    assert "Vendor Metadata" in signal.warnings
    path.write_bytes(bytes(100))
    assert not empad.EXTRACTOR.accepts(source_of(path), bytes(100))


# MRC


def mrc_file(shape: tuple[int, int, int], mode: int, pixels: bytes, order: str = "<", **more: Any) -> bytes:
    """An MRC file of (sections, rows, columns)."""
    sections, rows, columns = shape
    extended = more.get("extended", b"")
    cell = more.get("cell", (10.0 * columns, 20.0 * rows, 0.0))
    head = bytearray(1024)
    struct.pack_into(f"{order}10i3f3f3i", head, 0, columns, rows, sections, mode, 0, 0, 0, columns, rows, sections,
                     *cell, 90, 90, 90, 1, 2, 3)  # fmt: skip
    struct.pack_into(f"{order}2i", head, 88, more.get("group", 0), len(extended))
    head[104:108] = more.get("kind", b"\0\0\0\0")
    struct.pack_into(f"{order}i", head, 108, more.get("version", 20140))
    struct.pack_into(f"{order}2h", head, 128, *more.get("record", (0, 0)))
    head[208:216] = more.get("mark", b"MAP " + (b"DD\0\0" if order == "<" else b"\x11\x11\0\0"))
    labels = more.get("labels", ())
    struct.pack_into(f"{order}i", head, 220, len(labels))
    for n, label in enumerate(labels):
        head[224 + 80 * n : 304 + 80 * n] = label.encode().ljust(80)
    return bytes(head) + extended + pixels


def test_velox_image_with_the_microscope_s_record() -> None:
    signal = one(real("mrc/HAADFscan.mrc"))
    assert (signal.dataset_type, signal.data_type, signal.shape) == ("Image", "STEM_HAADF", (16, 16))
    assert signal.acquired == datetime(2022, 12, 5, 12, 13, 7)
    assert in_units(
        signal, "acceleration_voltage", "camera_length", "convergence_angle", "dwell_time", "stage_x", "pixel_width"
    ) == {
        "acceleration_voltage": 300,
        "camera_length": 91.1,
        "convergence_angle": 14.327324427576586,
        "dwell_time": 10_000,
        "stage_x": 23.85629999999997,
        "pixel_width": 5.679131290012676,
    }
    assert signal.fields["software"] == "Velox 3.7.0.872-b0a7ba"
    assert "acquisition_device" not in signal.fields  # the camera would have been BM-Ceta


def test_density_map_is_no_stack_of_images() -> None:
    signal = one(real("mrc/EMD-3197.map"))
    assert (signal.dataset_type, signal.shape) == ("Misc", (20, 20, 20))
    assert signal.pixels is not None
    assert [(axis.scale, axis.units) for axis in signal.pixels.axes] == [(1.14, "nm")] * 3
    assert draw_preview(signal, "map") is not None


def test_direct_electron_acquisition(tmp_path: Path) -> None:
    for original in real("mrc/DE_00405").iterdir():
        shutil.copy(original, tmp_path)
    found = {path.name.split("_", 2)[2]: one(path) for path in sorted(tmp_path.glob("*.mrc"))}
    assert {name: (signal.dataset_type, signal.data_type, signal.shape) for name, signal in found.items()} == {
        "0_Virt 0_sum.mrc": ("Image", "STEM_Imaging", (4, 8)),
        "ext1_Ext 1.mrc": ("Image", "STEM_Imaging", (4, 8)),
        "final.mrc": ("Diffraction", "STEM_Diffraction", (4, 8)),
        "movie.mrc": ("Diffraction", "STEM_Diffraction", (4, 8, 4, 8)),
    }
    assert {signal.acquired for signal in found.values()} == {datetime.fromtimestamp(1729539410, UTC)}
    movie = found["movie.mrc"]
    assert in_units(movie, "pixel_width", "pixel_height", "dwell_time", "frame_time") == {
        "pixel_width": 0.1,
        "pixel_height": 0.2,
        "dwell_time": 1464.212499,
        "frame_time": 0.0014285,
    }
    assert "Typed in by hand" in movie.warnings["acceleration_voltage"]
    (tmp_path / "20241021_00405_info.txt").unlink()
    alone = one(tmp_path / "20241021_00405_movie.mrc")
    assert (alone.dataset_type, alone.shape) == ("Image", (32, 4, 8))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("mode", "code"), [(0, "i1"), (1, "i2"), (2, "f4"), (4, "c8"), (6, "u2"), (12, "f2")])
def test_modes_of_mrc(tmp_path: Path, order: str, mode: int, code: str) -> None:
    path = tmp_path / "m.mrc"
    array = np.arange(-6, 18).reshape(2, 3, 4).astype(order + code)
    path.write_bytes(mrc_file(array.shape, mode, array.tobytes(), order))
    signal = one(path)
    assert signal.pixels is not None
    assert np.array_equal(np.asarray(signal.pixels.array), array)
    assert in_units(signal, "pixel_width", "pixel_height") == {"pixel_width": 1, "pixel_height": 2}


def test_modes_that_numpy_has_no_type_for(tmp_path: Path) -> None:
    path = tmp_path / "m.mrc"
    path.write_bytes(mrc_file((2, 2, 3), 101, bytes([0x21, 0x03, 0x54, 0x06] * 2)))
    half = one(path).pixels
    assert half is not None
    assert np.asarray(half.array[1]).tolist() == [[1, 2, 3], [4, 5, 6]]
    path.write_bytes(mrc_file((1, 1, 2), 3, np.array([1, -2, 3, 4], "<i2").tobytes()))
    pairs = one(path).pixels
    assert pairs is not None
    assert np.asarray(pairs.array[...]).tolist() == [[1 - 2j, 3 + 4j]]
    path.write_bytes(mrc_file((1, 1, 2), 16, bytes(range(6))))
    colours = one(path).pixels
    assert colours is not None
    assert colours.array[0, 1].tolist() == (3, 4, 5)
    path.write_bytes(mrc_file((1, 1, 2), 7, bytes(8)))
    assert one(path).warnings["Pixels"] == "Pixels of the mode 7 are not known."


def test_what_makes_a_volume(tmp_path: Path) -> None:
    body, flat = {"cell": (30.0, 20.0, 40.0)}, {"cell": (30.0, 20.0, 0.0)}
    tilts = {"kind": b"SERI", "record": (2, 1), "extended": struct.pack("<4h", 0, 300, 600, 900)}
    for name, more, expected in [
        ("a.mrc", body | {"group": 1}, "Misc"),
        ("a.mrc", flat | {"group": 1}, "Image"),
        ("a.mrc", body | {"group": 0}, "Image"),
        ("a.mrcs", body | {"group": 1}, "Image"),
        ("a.rec", body | {"group": 0}, "Misc"),
        ("a.mrc", body | tilts | {"group": 1}, "Image"),
    ]:  # fmt: skip
        path = tmp_path / name
        path.write_bytes(mrc_file((4, 2, 3), 1, bytes(48), **more))
        assert one(path).dataset_type == expected, (name, more)


def test_old_files_without_the_mark_and_foreign_ones(tmp_path: Path) -> None:
    path = tmp_path / "old.mrc"
    path.write_bytes(mrc_file((1, 2, 2), 1, bytes(8), mark=bytes(8), version=0))
    assert one(path).shape == (2, 2)
    foreign = tmp_path / "foreign.dat"
    foreign.write_bytes(path.read_bytes())
    assert not mrc.EXTRACTOR.accepts(source_of(foreign), foreign.read_bytes())
    misnamed = tmp_path / "misnamed.dat"
    misnamed.write_bytes(mrc_file((1, 2, 2), 1, bytes(8)))
    assert one(misnamed).shape == (2, 2)


@pytest.mark.parametrize("shape", [(2**31 - 1, 2**20, 2**20), (1, 2**20, 2**20), (100_000, 4096, 4096)])
def test_absurd_and_sparse_mrc(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    path = tmp_path / "absurd.mrc"
    path.write_bytes(mrc_file(shape, 1, bytes(1000)))
    signal = one(path)
    assert signal.pixels is None
    assert "broke off" in signal.warnings["Pixels"]
    with path.open("r+b") as file:
        file.truncate(1024 + 2 * 4096 * 4096 * 30_000)
    assert draw_preview(one(path), "sparse") is not None or shape[1] > 4096
    path.write_bytes(mrc_file((1, 0, 5), 1, b""))
    with pytest.raises(ExtractionError, match="makes no sense"):
        read(path)


def test_a_cut_stack_says_so(tmp_path: Path) -> None:
    path = tmp_path / "cut.mrc"
    path.write_bytes(mrc_file((5, 2, 2), 1, bytes(8 * 3 + 5)))
    signal = one(path)
    assert signal.shape == (3, 2, 2)
    assert signal.warnings["Pixels"] == "The file ends after 3 of 5 frames (a copy that broke off?)."


def test_one_angstrom_is_doubted(tmp_path: Path) -> None:
    path = tmp_path / "m.mrc"
    path.write_bytes(mrc_file((1, 2, 3), 1, bytes(12), cell=(3.0, 2.0, 1.0)))
    assert "exactly 1 Å" in one(path).warnings["pixel_width"]


def fei_record(**values: Any) -> bytes:
    """A record of the second version with the given members filled."""
    raw = b""
    for block in mrc_extended.BLOCKS:
        members = [member.split(":") for member in block.split()]
        raw += struct.pack("<I", sum(1 << bit for bit, (name, _) in enumerate(members) if name in values))
        for name, code in members:
            raw += struct.pack(f"<{code}", values.get(name, b"" if code.endswith("s") else 0))
    return struct.pack("<2i", len(raw) + 8, 2) + raw


def test_tilt_series_of_a_thermo_fisher_camera(tmp_path: Path) -> None:
    common = {
        "ht": 200e3, "dose": 2e20, "pixel_x": 2e-10, "pixel_y": 2e-10, "instrument_mode": 1, "projection_mode": 2,
        "microscope": b"TALOS", "camera": b"BM-Ceta", "magnification": 57e3, "timestamp": 45536.5,
        "acquired": 1725184800_000_000, "binning_width": 2, "binning_height": 2, "stem_detector": b"HAADF",
        "slit_inserted": True, "slit_width": 20.0, "defocus": -3e-6,
    }  # fmt: skip
    records = b"".join(fei_record(**common, alpha=angle) for angle in (-3.0, 0.0, 3.0))
    path = tmp_path / "tilts.mrc"
    path.write_bytes(mrc_file((3, 2, 2), 1, bytes(24), kind=b"FEI2", extended=records, group=1))
    signal = one(path)
    assert (signal.dataset_type, signal.data_type, signal.shape) == ("Image", "TEM_Imaging", (3, 2, 2))
    assert signal.acquired == datetime(2024, 9, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert in_units(signal, "acceleration_voltage", "defocus", "pixel_width", "slit_width") == {
        "acceleration_voltage": 200,
        "defocus": -3000,
        "pixel_width": 0.2,
        "slit_width": 20,
    }
    assert signal.fields["binning"] == "2 × 2"
    assert signal.extensions["Electron Dose"].m_as("1/Å**2") == pytest.approx(2)
    assert signal.extensions["Tilt Series"]["First Tilt"].m_as("deg") == -3
    assert "detector_type" not in signal.fields
    path.write_bytes(
        mrc_file((1, 2, 2), 1, bytes(8), kind=b"FEI1", extended=fei_record(instrument_mode=1, projection_mode=1))
    )
    pattern = one(path)
    assert (pattern.dataset_type, "pixel_width" in pattern.fields) == ("Diffraction", False)


def test_records_of_agard_and_serial_em() -> None:
    facts = Facts()
    reals = (-60.0, 0.0, 1e-5, 2e-5, 0.0, 0, 0, -2e-6, 1.5, 100.0, 85.0, 4e-10, 50e3, 300e3, 2, -3e-6)
    raw = struct.pack("<32f", *reals, *[0] * 16) + struct.pack("<32f", -57.0, *reals[1:], *[0] * 16)
    found = mrc_extended.read_extended("", raw, 2, 0, 32, facts)
    assert (found.tilts, found.pixel) == ([-60.0, -57.0], (4e-10, 4e-10))
    assert facts.fields["acceleration_voltage"].m_as("kV") == 300
    assert facts.fields["defocus"].m_as("µm") == pytest.approx(-2)
    facts = Facts()
    raw = b"".join(struct.pack("<8h", angle, 25, -50, 530, 300, 7, 256 * 2 + 0, 0) for angle in (-6000, -5700))
    found = mrc_extended.read_extended("SERI", raw, 2, 12, 1 | 4 | 8 | 32, facts)
    assert found.tilts[0] == -60.0
    assert facts.fields["magnification"] == 53_000
    assert facts.fields["stage_x"].m_as("µm") == 1


# SerialEM and EPU


def test_serial_em_series() -> None:
    signal = one(real("mdoc/TS_41.mrc.mdoc"))
    assert (signal.dataset_type, signal.data_type, signal.pixels) == ("Misc", "TEM_Imaging", None)
    assert signal.acquired == datetime(2023, 5, 3, 13, 28, 10)  # the first of the series, which is sorted by tilt
    assert in_units(signal, "acceleration_voltage", "defocus", "exposure_time", "stage_y", "slit_width") == {
        "acceleration_voltage": 300,
        "defocus": 5774.43,
        "exposure_time": 2.6,
        "stage_y": -299.41,
        "slit_width": 20,
    }
    assert signal.fields["pixel_width"].m_as("Å") == pytest.approx(2.66)
    assert signal.extensions["Tilt Series"]["Images"] == 40
    assert signal.extensions["Tilt Series"]["First Tilt"].m_as("deg") == -66.9998
    assert signal.extensions["Electron Dose"].m_as("1/Å**2") == 3.08367
    older = one(real("mdoc/tilt_series.mdoc"))
    assert (older.acquired, older.fields["microscope"]) == (datetime(2015, 11, 30, 15, 21, 38), "EMBL Krios")
    movie = one(real("mdoc/frame_set_multiple.mdoc"))
    assert (movie.fields["frames"], movie.fields["stage_alpha"].m_as("deg")) == (243, 32.986)


MDOC = """PixelSpacing = 5
Voltage = 200

[T = SerialEM: Digitized on Lab Talos                       30-Feb-24  10:00:00    ]

[ZValue = 0]
TiltAngle = -2
Magnification = 33000
Defocus = nan
ExposureTime = oops
DateTime = 01-Mar-24  10:00:00

[ZValue = 1]
TiltAngle = 1
DateTime = 01-Mar-24  09:59:00
"""


def test_serial_em_beside_images(tmp_path: Path) -> None:
    stack = tmp_path / "ts.st"
    stack.write_bytes(mrc_file((2, 2, 2), 1, bytes(16), cell=(10.0, 10.0, 2.0)))
    (tmp_path / "ts.st.mdoc").write_text(MDOC)
    signal = one(stack)
    assert (signal.data_type, signal.acquired) == ("TEM_Imaging", datetime(2024, 3, 1, 9, 59))
    assert in_units(signal, "acceleration_voltage", "magnification", "pixel_width") == {
        "acceleration_voltage": 200,
        "magnification": 33_000,
        "pixel_width": 0.5,
    }
    assert "defocus" not in signal.fields
    assert "oops" in signal.warnings["exposure_time"]
    Image.fromarray(np.zeros((4, 6), "u2")).save(tmp_path / "frames.tif")
    (tmp_path / "frames.tif.mdoc").write_text(MDOC + "NumSubF")
    picture = one(tmp_path / "frames.tif")
    assert (picture.dataset_type, picture.shape) == ("Image", (4, 6))
    assert picture.pixels is not None
    assert picture.pixels.axes[1].scale == pytest.approx(0.5)
    assert "ends within a line" in picture.warnings["Vendor Metadata"]


def test_epu(tmp_path: Path) -> None:
    original = real(EPU)
    signal = one(original)
    assert (signal.dataset_type, signal.data_type) == ("Misc", "TEM_Imaging")
    assert signal.acquired is not None
    assert signal.acquired.isoformat() == "2024-09-01T06:01:19.003929+02:00"
    assert in_units(signal, "acceleration_voltage", "stage_x", "stage_alpha", "condenser_aperture", "beam_current") == {
        "acceleration_voltage": 300,
        "stage_x": -537.1471,
        "stage_alpha": -0.00973391,
        "condenser_aperture": 20,
        "beam_current": 5270,
    }
    assert "objective_aperture" not in signal.fields  # its name is None
    assert signal.fields["acquisition_device"] == "Falcon 4i"
    # Dose on the camera's pixel and on the specimen must agree by the size of the pixel.
    dose = signal.extensions["Electron Dose"].m_as("1/Å**2") * signal.fields["pixel_width"].m_as("Å") ** 2
    assert dose == pytest.approx(signal.extensions["Dose per Camera Pixel"], rel=1e-3)

    stem = original.stem
    shutil.copy(original, tmp_path)
    Image.fromarray(np.zeros((256, 256), "u1")).save(tmp_path / f"{stem}.jpg")
    (tmp_path / f"{stem}_Fractions.mrc").write_bytes(mrc_file((3, 2, 2), 1, bytes(24), cell=(0, 0, 0)))
    picture, movie = one(tmp_path / f"{stem}.jpg"), one(tmp_path / f"{stem}_Fractions.mrc")
    assert (picture.dataset_type, picture.shape, picture.acquired) == ("Image", (256, 256), signal.acquired)
    assert picture.fields["pixel_width"].m_as("nm") == pytest.approx(0.041501527908716085 * 4096 / 256)
    assert (movie.data_type, movie.shape, movie.acquired) == ("TEM_Imaging", (3, 2, 2), signal.acquired)


def test_damaged_companions_cost_no_more_than_themselves(tmp_path: Path) -> None:
    (tmp_path / "m.mrc").write_bytes(mrc_file((1, 2, 2), 1, bytes(8)))
    (tmp_path / "m.xml").write_text("<MicroscopeImage><a>")
    assert "m.xml was not read" in one(tmp_path / "m.mrc").warnings["Vendor Metadata"]
    (tmp_path / "e.xml").write_text('<!DOCTYPE x [<!ENTITY a "b">]><MicroscopeImage>&a;</MicroscopeImage>')
    with pytest.raises(ExtractionError, match="document type"):
        read(tmp_path / "e.xml")


# All of them


@pytest.mark.parametrize(
    "name",
    [
        MERLIN + ".mib", "tvips/test_tvips_2233_000.tvips", "blo/test1.blo", "app5/topspin_test_A.app5",
        "empad/map4x4.xml", "mrc/HAADFscan.mrc", "mrc/EMD-3197.map", "mdoc/frame_set_multiple.mdoc", EPU,
    ],
)  # fmt: skip
def test_damage_gives_a_reason(tmp_path: Path, name: str) -> None:
    """Cut anywhere, and with random bytes in the header: a result or an `ExtractionError`, and a preview or none."""
    original = real(name)
    raw, path = original.read_bytes(), tmp_path / original.name
    for companion in source_of(original).companions:
        shutil.copy(companion, tmp_path)
    cut = [raw[: len(raw) * percent // 100] for percent in (1, 20, 50, 83, 99)]
    random = np.random.default_rng(len(raw))
    changed = []
    for count in (1, 10, 100):
        damaged = bytearray(raw)
        for place in random.integers(0, min(len(raw), 1500), count):
            damaged[place] = random.integers(0, 256)
        changed.append(bytes(damaged))
    for variant in (*cut, *changed):
        path.write_bytes(variant)
        source = source_of(path)
        reader = next((reader for reader in EXTRACTORS if reader.accepts(source, variant[:4096])), None)
        try:
            signals = reader.extract(source) if reader else []
        except ExtractionError as fault:
            assert str(fault)
            continue
        for signal in signals:
            assert meta(path, signal)["DatasetType"] == signal.dataset_type
            assert signal.warnings or variant in changed
