"""EDS: Bruker, JEOL, EDAX, Phenom, HMSA and Ripple; real files with values checked by hand, small ones for the rest."""

import base64
import bz2
import csv
import os
import struct
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nexuslims_pipeline.extraction.formats import (
    bruker_bcf,
    bruker_spx,
    edax_spc,
    edax_spd,
    emsa,
    hmsa,
    jeol_eds,
    phenom_elid,
    ripple,
)
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.metadata.checked import checked_metadata, plain
from nexuslims_pipeline.previews.draw import draw_preview
from nexuslims_pipeline.signals import Signal, Source

CORPUS = Path(os.environ.get("NX_TEST_CORPUS", Path(__file__).parents[2] / "shared" / "corpus"))
EXTRACTORS: tuple[Extractor, ...] = tuple(
    module.EXTRACTOR for module in (bruker_bcf, bruker_spx, jeol_eds, hmsa, phenom_elid, ripple, edax_spd)
)
FORMATS = ("bcf", "spx", "jeol_eds", "hmsa", "phenom_elid", "rpl")
OTHER_TYPE = {".img": "Image", ".map": "Image"}
"""Images are images, also those of a project with a map in it, whose type the manifest gives to all its files."""
OTHER_SHAPE = {"View000_0000003.pts": "256x4096"}
"""The line that was scanned, not the frame around it."""
OTHER_TIME = {
    "rawdata.ASW": "",
    "1.ASW": "",
    "View000_0000001.dln": "2022-03-04T13:17:43",
    "breccia_eds.hmsa": "2013-07-29T14:42:10",
    "breccia_eds.xml": "2013-07-29T14:42:10",
    "Elid2Version0.elid": "2019-08-07T09:37:31",
    "Elid2Version1.elid": "2019-08-07T09:37:31",
    "Elid2Version4.elid": "2019-08-07T09:37:31",
}
"""Projects bear no date, and Phenom's dates no zone; the manifest lacks what HyperSpy does not read."""

DOUBTED = {
    ".elid": ("Live Time",),
    ".rpl": ("Pixel Width", "Pixel Height", "Horizontal Field Width", "Vertical Field Width"),
}
"""Phenom's maps have more live than real time, and HyperSpy's test file has pixels of 200 m."""


def corpus_rows() -> list[dict[str, str]]:
    if not (CORPUS / "manifest.csv").exists():
        return []
    with (CORPUS / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["format"] in FORMATS]
    return [row for row in rows if not row["path"].endswith((".raw", "Nope.bcf")) and (CORPUS / row["path"]).exists()]


ROWS = corpus_rows()
IDS = [row["path"] for row in ROWS]
real_files = pytest.mark.skipif(not ROWS, reason="the corpus is not here")
BESIDE = {".hmsa": (".xml",), ".rpl": (".raw",), ".spd": (".spc", ".ipr")}


def source_of(path: Path) -> Source:
    wanted = BESIDE.get(path.suffix.lower(), ())
    companions = tuple(path.with_suffix(suffix) for suffix in wanted if path.with_suffix(suffix).exists())
    return Source(path, datetime(2026, 1, 1, tzinfo=UTC), path.stat().st_size, companions)


def read(path: Path) -> list[Signal]:
    source = source_of(path)
    with path.open("rb") as file:
        head = file.read(4096)
    [extractor] = [each for each in EXTRACTORS if each.accepts(source, head)]
    return extractor.extract(source)


def read_one(path: Path) -> Signal:
    [signal] = read(path)
    return signal


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def numbers(signal: Signal) -> dict[str, float]:
    """Quantities in SI base units, without the noise of the conversion; plain numbers as they are."""
    found = {}
    for name, value in signal.fields.items():
        if hasattr(value, "magnitude"):
            found[name] = float(f"{value.to_base_units().magnitude:.7g}")
        elif isinstance(value, int | float):
            found[name] = value
    return found


def pixels(signal: Signal) -> Any:
    assert signal.pixels is not None
    return np.asarray(signal.pixels.array[...])


# --- real files ---


@pytest.mark.corpus
@real_files
@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_real_file_is_read_as_the_manifest_says(row: dict[str, str]) -> None:
    path = CORPUS / row["path"]
    signals = read(path)
    assert OTHER_TYPE.get(path.suffix, row["expected_dataset_type"]) in {each.dataset_type for each in signals}
    shapes = "; ".join("x".join(map(str, each.shape)) for each in signals)
    if row["shapes"] and path.suffix != ".ASW":
        assert shapes.startswith(OTHER_SHAPE.get(path.name, row["shapes"].rstrip(" …")))
        assert len(signals) == int(row["n_signals"])
    acquired = signals[0].acquired
    assert (acquired.isoformat() if acquired else "") == OTHER_TIME.get(path.name, row["acquired_at"])
    for signal in signals:
        warnings = checked_metadata(signal, source_of(path), "reader", "1")["warnings"]
        found = [each for each in warnings if each["field"] not in DOUBTED.get(path.suffix, ())]
        assert len(found) == len(signal.warnings), found
        if signal.pixels is not None:
            assert signal.pixels.array.shape == signal.shape == tuple(axis.size for axis in signal.pixels.axes)
            assert np.asarray(signal.pixels.array[:2]).shape == (2, *signal.shape[1:])


@pytest.mark.corpus
@real_files
def test_bruker_map_has_its_golden_values() -> None:
    bse, secondary, cube = read(CORPUS / "bcf/P45_the_default_job.bcf")
    assert [each.data_type for each in (bse, secondary, cube)] == ["SEM_Imaging", "SEM_Imaging", "SEM_EDS"]
    assert [each.fields["detector_type"] for each in (bse, secondary, cube)] == ["BSE", "SE", "XFlash 6|10"]
    assert numbers(cube) == {
        "acceleration_voltage": 20_000, "magnification": 131.1433, "working_distance": 0.00769044,
        "stage_x": 0.0624092, "stage_y": 0.03651761, "stage_z": 0.0402347,
        "stage_tilt": pytest.approx(np.radians(0.5)), "stage_rotation": pytest.approx(np.radians(329.49719)),
        "elevation_angle": pytest.approx(np.radians(35)), "azimuthal_angle": pytest.approx(np.radians(90)),
        "pixel_width": 8.736785e-6, "pixel_height": 8.736785e-6, "horizontal_field_width": 8.736785e-4,
        "vertical_field_width": 6.552589e-4, "channel_size": pytest.approx(10.001 * 1.602176634e-19),
        "starting_energy": pytest.approx(-472.397235 * 1.602176634e-19), "dwell_time": 3.2e-5, "frames": 3,
        "real_time": 1.088,
    }  # fmt: skip
    # The zero peak comes 33332 times per second: its counts tell the time as well, but for dead time.
    counts = pixels(cube).sum(axis=(0, 1))
    assert counts[30:65].sum() / 33_332 == pytest.approx(1.088, rel=0.25)


@pytest.mark.corpus
@real_files
@pytest.mark.parametrize("name", ["16x16_12bit_packed_8bit", "over16bit", "test_TEM", "P45_job_hyperspy"])
def test_bruker_numbers_are_those_of_rosettasciio(name: str) -> None:
    from rsciio.bruker import file_reader

    path = CORPUS / f"bcf/{name}.bcf"
    for signal, other in zip(read(path), file_reader(str(path)), strict=True):
        np.testing.assert_array_equal(pixels(signal), other["data"])


@pytest.mark.corpus
@real_files
def test_bruker_elements_and_detectors_of_a_transmission_microscope() -> None:
    image, cube = read(CORPUS / "bcf/test_TEM.bcf")
    assert (image.data_type, cube.data_type) == ("STEM_HAADF", "STEM_EDS")
    assert cube.fields["elements"] == ["Ti", "O", "Pd", "Cu"]
    assert "working_distance" not in cube.fields, "-1 means that the microscope does not tell it"
    assert cube.fields["detector_type"] == "SuperX"


@pytest.mark.corpus
@real_files
def test_bruker_spectra_of_electrons_and_of_x_rays() -> None:
    nano, jetstream = (read_one(CORPUS / f"spx/bruker_{name}.spx") for name in ("nano", "m6_jetstream_file_example"))
    assert (nano.data_type, jetstream.data_type) == ("SEM_EDS", "XRF")
    assert nano.fields["specimen"] == "Chalcopyrite"
    assert nano.fields["elements"] == ["Fe", "S", "Cu"]
    assert nano.fields["live_time"].m_as("s") == 7.385
    assert nano.extensions["Mass Fractions"]["Fe"].m_as("percent") == pytest.approx(30.6682)
    # All counts but those of the zero peak (1408 per second) came from X-rays.
    assert pixels(nano).sum() / 7.385 - 1408 == pytest.approx(nano.fields["input_count_rate"].m_as("1/s"), rel=1e-3)
    assert "acceleration_voltage" not in jetstream.fields
    tube = jetstream.extensions["X-ray Tube"]
    assert (tube["Voltage"].m_as("kV"), tube["Current"].m_as("µA"), tube["Anode"]) == (50, 199, "Rh")
    assert jetstream.fields["chamber_pressure"].m_as("Pa") == pytest.approx(1e5)


@pytest.mark.corpus
@real_files
def test_jeol_events_give_the_element_map_that_jeol_made_of_them() -> None:
    folder = CORPUS / "jeol_eds/project1/Sample/00_View000"
    cube, oxygen = read_one(folder / "View000_0000006.pts"), read_one(folder / "View000_0000002.map")
    assert (oxygen.data_type, oxygen.fields["elements"]) == ("STEM_EDS", ["O"])
    first, last = map(int, oxygen.extensions["Channels"].split(" to "))
    assert cube.pixels is not None
    energy = cube.pixels.axes[-1]
    zero = round((-0.000789965 - energy.offset) / energy.scale)
    assert zero == 96
    window = cube.pixels.array[128:192, :, first + zero : last + zero + 1]
    np.testing.assert_array_equal(window.sum(axis=2, dtype=int), pixels(oxygen)[128:192])
    assert numbers(cube)["real_time"] == pytest.approx(512 * 512 * 1e-4 * 14, rel=0.01)
    assert cube.fields["horizontal_field_width"].m_as("µm") == pytest.approx(4.45)


@pytest.mark.corpus
@real_files
def test_jeol_spectrum_has_its_golden_values() -> None:
    signal = read_one(CORPUS / "jeol_eds/spot.eds")
    assert (signal.data_type, signal.name) == ("TEM_EDS", "001")
    units = {"acceleration_voltage": "kV", "beam_current": "nA", "live_time": "s", "real_time": "s",
             "dead_time": "percent", "detector_energy_resolution": "eV", "elevation_angle": "deg",
             "working_distance": "mm"}  # fmt: skip
    assert {name: signal.fields[name].m_as(unit) for name, unit in units.items()} == {
        "acceleration_voltage": 200, "beam_current": 7.475, "live_time": 30, "real_time": 30.84, "dead_time": 2,
        "detector_energy_resolution": 133, "elevation_angle": 21.5, "working_distance": 3.2,
    }  # fmt: skip
    assert signal.fields["magnification"] == 400_000
    assert signal.fields["operator"] == "JEM Administrator"
    assert signal.fields["microscope"] == "JEM-ARM200F(HRP)"
    assert signal.fields["elements"] == ["O", "Ti", "Cu", "Ce"]
    titanium = round((4.51 - signal.fields["starting_energy"].m_as("keV")) / 0.0100006)
    counts = pixels(signal)
    assert counts[300:600].argmax() + 300 == pytest.approx(titanium, abs=2)


@pytest.mark.corpus
@real_files
def test_jeol_line_and_projects() -> None:
    folder = CORPUS / "jeol_eds"
    line, profiles = (read_one(folder / f"DigiLine/View000_000000{n}") for n in ("3.pts", "1.dln"))
    assert line.pixels is not None
    assert line.shape == (256, 4096)
    assert line.extensions["Frame"] == "256 × 256 pixels"
    assert profiles.extensions["X-ray Lines"] == "C K, O K, Al K, Cu K, Rh L, Pd L"
    assert line.fields["elements"] == profiles.fields["elements"] == ["C", "O", "Al", "Cu", "Rh", "Pd"]
    assert profiles.extensions["Line Length"].m_as("nm") == pytest.approx(256 * line.pixels.axes[0].scale * 1e3)
    project = read_one(folder / "project1/rawdata.ASW")
    assert (project.dataset_type, project.data_type, project.shape) == ("SpectrumImage", "STEM_EDS", ())
    assert project.extensions["Files"][-1] == "Sample/00_View000/View000_0000006.pts"
    assert project.text is not None
    assert "View000_0000002.map   MAP,O K" in project.text


@pytest.mark.corpus
@real_files
def test_phenom_maps_and_lines_are_complete() -> None:
    for version in (0, 1, 4):
        signals = read(CORPUS / f"phenom_elid/Elid2Version{version}.elid")
        maps = [each for each in signals if each.dataset_type == "SpectrumImage"]
        # Sums as the files have them themselves, before each map and line.
        assert [int(pixels(each).sum()) for each in maps] == [32_790, 67_239, 127_284, 146_075]
        spot = signals[1]
        assert spot.name == "Image 1, Spot 1"
        assert spot.fields["elevation_angle"].m_as("deg") == pytest.approx(28.5)
        assert spot.fields["acceleration_voltage"].m_as("kV") == 15
        assert version == 0 or spot.fields["shaping_time"].m_as("µs") == pytest.approx(11.2)
        assert spot.fields["emission_current"].m_as("µA") == 40.3
        # The last map is that of its whole field, whose longer side has 40 pixels.
        image, whole = signals[-2:]
        assert whole.fields["horizontal_field_width"] == image.fields["horizontal_field_width"]
        assert maps[0].fields["elements"] == ["Al", "Cu", "O", "C", "S"]
        assert image.fields["detector_type"] == ("QBSD" if version < 4 else "bsd-all")


@pytest.mark.corpus
@real_files
def test_hmsa_has_its_golden_values() -> None:
    signal = read_one(CORPUS / "hmsa/breccia_eds.hmsa")
    assert (signal.dataset_type, signal.data_type, signal.shape) == ("Spectrum", "SEM_EDS", (4096,))
    assert signal.fields["beam_current"].m_as("nA") == 47.59
    assert signal.fields["starting_energy"].m_as("keV") == pytest.approx(-0.237098251)
    assert signal.extensions["Nominal Throughput"].m_as("1/s") == 180_000
    assert signal.fields["microscope"] == "JXA 8500F-CL"
    lone = read_one(CORPUS / "hmsa/breccia_eds.xml")
    assert (lone.fields, lone.pixels) == (signal.fields, None)
    assert "missing" in lone.warnings["Pixels"]
    raster = pixels(read_one(CORPUS / "hmsa/imageraster2dspectral.hmsa"))
    assert raster.shape == (6, 5, 7)
    np.testing.assert_array_equal(raster, np.add.outer(np.add.outer(np.arange(6), np.arange(5)), np.arange(7)))


@pytest.mark.corpus
@real_files
def test_every_real_file_may_be_cut_off_anywhere(tmp_path: Path) -> None:
    for name in ("bcf/16x16_12bit_packed_8bit.bcf", "bcf/over16bit.bcf", "spx/bruker_nano.spx", "jeol_eds/spot.eds",
                 "jeol_eds/demo.map", "jeol_eds/DigiLine/View000_0000001.dln", "jeol_eds/DigiLine/View000_0000003.pts",
                 "jeol_eds/project2/1.ASW", "phenom_elid/Elid2Version4.elid"):  # fmt: skip
        whole = (CORPUS / name).read_bytes()
        for tenths in range(1, 10):
            path = write(tmp_path, Path(name).name, whole[: len(whole) * tenths // 10])
            try:
                signals = read(path)
            except ExtractionError as fault:
                assert len(str(fault)) > 20
                continue
            is_padding = name.startswith("bcf") and tenths >= 8  # its last chunks hold nothing
            assert is_padding or any(signal.warnings for signal in signals)
            for signal in signals:
                draw_preview(signal)
                plain(signal.native)


# --- Bruker ---


def container(files: dict[str, bytes], *, chunk: int = 1024, compressed: bool = False) -> bytes:
    """A single file system; its chunks are so small that table and lists of chunks take several."""
    chunks = [bytes(chunk)]

    def chained(content: bytes, piece: int) -> int:
        first = len(chunks)
        parts = [content[n : n + piece] for n in range(0, len(content), piece)] or [b""]
        for n, part in enumerate(parts):
            following = first + n + 1 if n + 1 < len(parts) else 0
            chunks.append(struct.pack("<I28x", following) + part.ljust(chunk - 32, b"\0"))
        return first

    entries = [
        struct.pack("<iQ24xIi", -1, 0, 16, -1).ljust(0xDC, b"\0") + b"\1\0\0\0" + b"EDSDatabase".ljust(288, b"\0")
    ]
    for name, content in files.items():
        stored = packed(content) if compressed else content
        places = [chained(stored[n : n + chunk - 32], chunk - 32) for n in range(0, len(stored), chunk - 32)]
        listed = chained(struct.pack(f"<{len(places)}I", *places), (chunk - 32) // 4 * 4)
        head = struct.pack("<iQ24xIi", listed, len(stored), 0, 0)
        entries.append(head.ljust(0xDC, b"\0") + bytes(4) + name.encode().ljust(288, b"\0"))
    table = chained(b"".join(entries), (chunk - 32) // 512 * 512)
    raw = bytearray(b"AAMVHFSS".ljust(0x118, b"\0") + b"".join(chunks))
    struct.pack_into("<fI", raw, 0x124, 2.6, chunk)
    struct.pack_into("<III", raw, 0x140, table, len(entries), len(chunks))
    return bytes(raw)


def packed(content: bytes, block: int = 700) -> bytes:
    blocks = [zlib.compress(content[n : n + block]) for n in range(0, len(content), block)]
    head = struct.pack("<4sIII", b"AACS", block, 0, len(blocks)).ljust(128, b"\0")
    return head + b"".join(struct.pack("<IIII", len(each), block, 0, 0) + each for each in blocks)


def bruker_header(
    rows: int, columns: int, channels: Sequence[int], *, image: str = "", more: str = "", hv: str = "20"
) -> bytes:
    return f"""<?xml version="1.0" encoding="WINDOWS-1252"?><TRTSpectrumDatabase>
<ClassInstance Type="TRTSpectrumDatabase" Name="Map"><Header><Date>9.8.2016</Date><Time>4:8:1</Time></Header>
<ClassInstance Type="TRTSEMData"><HV>{hv}</HV><WD>8,25</WD><DX>0,5</DX><DY>0,5</DY></ClassInstance>
<ClassInstance Type="TRTImageData"><ItemSize>2</ItemSize><Width>{columns}</Width><Height>{rows}</Height>{image}
</ClassInstance>{more}<SpectrumData0><ClassInstance Type="TRTSpectrum"><TRTHeaderedClass/>
<ClassInstance Type="TRTSpectrumHeader"><ChannelCount>{len(channels)}</ChannelCount><CalibAbs>-1E-1</CalibAbs>
<CalibLin>1E-2</CalibLin></ClassInstance><Channels>{",".join(map(str, channels))}</Channels></ClassInstance>
</SpectrumData0></ClassInstance></TRTSpectrumDatabase>""".encode("cp1252")


def bruker_pixel(column: int, channels: int, kind: int, content: bytes, further: int, behind: bytes = b"") -> bytes:
    return struct.pack("<IHHIHHHI", column, channels, channels, 0, kind, 0, further, len(content)) + content + behind


@pytest.fixture(params=[False, True], ids=["plain", "compressed"])
def small_map(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Two rows of two positions, 8 channels: one of each kind of packing and one without counts."""
    words = struct.pack("<4H", 1, 1, 7, 3)
    a, b, c, d = 5, 2, 2, 6
    stream = struct.pack(">HHH", a << 4 | b >> 8, (b & 255) << 8 | c >> 4, (c & 15) << 12 | d)
    twelve = np.frombuffer(stream, ">u2").astype("<u2").tobytes()
    runs = bytes((0, 2)) + bytes((1, 3, 1, 0x21, 0x03)) + bytes((2, 2, 10, 0)) + b"\5\6" + bytes((0, 1))
    runs = runs.replace(bytes((2, 2, 10, 0)) + b"\5\6", bytes((2, 2)) + struct.pack("<H", 10) + b"\5\6")
    instructed = runs + struct.pack("<I", 4)
    cube = struct.pack("<II", 2, 2).ljust(0x1A0, b"\0")
    cube += struct.pack("<I", 2) + bruker_pixel(0, 8, 0, words, 4) + bruker_pixel(1, 8, 1, twelve, 4)
    cube += struct.pack("<I", 1) + bruker_pixel(1, 8, 2, instructed, 2, struct.pack("<2H", 0, 7))
    plane = "<Plane0><Description>SE</Description><Data>" + base64.b64encode(struct.pack("<4H", 1, 2, 3, 4)).decode()
    plane += "</Data></Plane0><Plane1><Description>Off</Description><Data>AAAAAAAAAAA=</Data></Plane1>"
    header = bruker_header(2, 2, [0, 2, 4, 2, 0, 1, 1, 2], image=plane)
    files = {"HeaderData": header, "SpectrumData0": cube}
    return write(tmp_path, "small.bcf", container(files, compressed=request.param))


def test_every_packing_of_a_bruker_map_is_undone(small_map: Path) -> None:
    image, cube = read(small_map)
    np.testing.assert_array_equal(pixels(image), [[1, 2], [3, 4]])
    expected = np.zeros((2, 2, 8))
    expected[0, 0, [1, 3, 7]] = (2, 1, 1)
    expected[0, 1, [2, 5, 6]] = (2, 1, 1)
    expected[1, 1] = (1, 0, 2, 3, 4, 15, 16, 1)
    np.testing.assert_array_equal(pixels(cube), expected)
    assert cube.acquired == datetime(2016, 8, 9, 4, 8, 1)
    assert cube.fields["working_distance"].m_as("mm") == 8.25, "decimal commas"


def test_a_bruker_file_that_lost_its_map_shows_the_sum(small_map: Path) -> None:
    whole = small_map.read_bytes()
    table = struct.unpack_from("<I", whole, 0x140)[0]
    broken = bytearray(whole)
    at = 0x118 + (table + 2) * 1024 + 32 + 4
    struct.pack_into("<Q", broken, at, 1 << 60)  # length of the map
    image, cube = read(write(small_map.parent, "lost.bcf", bytes(broken)))
    assert "cut" in cube.warnings["Pixels"] or "ends within" in cube.warnings["Pixels"]
    assert cube.shape == (2, 2, 8)
    np.testing.assert_array_equal(pixels(cube), [0, 2, 4, 2, 0, 1, 1, 2])
    assert image.pixels is not None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: raw[:400], "within its header"),
        (lambda raw: raw[:0x140] + struct.pack("<II", 3, 1 << 31) + raw[0x148:], "absurd size"),
        (lambda raw: raw[:0x128] + struct.pack("<I", 7) + raw[0x12C:], "absurd size"),
        (lambda raw: raw.replace(b"HeaderData\0", b"HeaderLost\0"), "holds no map"),
        (lambda raw: raw.replace(b"TRTSpectrumDatabase>", b"TRTSpectrumDatabast>", 1), "XML is damaged"),
        (lambda raw: raw.replace(b"<TRTSpectrumDatabase>", b"<!DOCTYPE a><TRTSpec>", 1), "document type"),
    ],
)
def test_a_damaged_bruker_file_gives_the_reason(change: Any, words: str, tmp_path: Path) -> None:
    raw = container({"HeaderData": bruker_header(2, 2, [1, 2, 3, 4]), "SpectrumData0": bytes(600)})
    with pytest.raises(ExtractionError, match=words):
        read(write(tmp_path, "damaged.bcf", change(raw)))


def test_lists_of_chunks_that_bite_their_tail_come_to_an_end(tmp_path: Path) -> None:
    raw = bytearray(container({"HeaderData": bruker_header(2, 2, [1]), "SpectrumData0": bytes(600)}))
    for place in range(0x118, len(raw), 1024):
        struct.pack_into("<I", raw, place, 0)
    struct.pack_into("<I", raw, 0x128, 1024)
    with pytest.raises(ExtractionError):
        read(write(tmp_path, "ring.bcf", bytes(raw)))


def test_x_ray_tubes_and_transmission_microscopes_are_told_by_the_header(tmp_path: Path) -> None:
    tube = (
        '<TRTHeaderedClass><ClassInstance Type="TRTXrfHeader"><Voltage>50</Voltage></ClassInstance></TRTHeaderedClass>'
    )
    for hv, change, technique in (("300", "", "STEM_EDS"), ("15", "", "SEM_EDS"), ("50", tube, "XRF")):
        header = bruker_header(2, 2, [1, 2], hv=hv).replace(b"<TRTHeaderedClass/>", change.encode() or b"<A/>")
        signal = read_one(write(tmp_path, "a.bcf", container({"HeaderData": header, "SpectrumData0": bytes(600)})))
        assert signal.data_type == technique
        assert ("acceleration_voltage" in signal.fields) == (technique != "XRF")


# --- JEOL ---


def node(name: str, kind: int = 0, value: bytes = b"", *branches: bytes) -> bytes:
    raw = name.encode() + b"\0"
    head = b"\1" + struct.pack("<I", len(raw)) + raw + struct.pack("<iI", kind, len(value)) + value
    return head + b"".join(branches) + b"\xff"


def jeol_image(rows: int, columns: int, bits: bytes, *, name: str = "JSM-IT500", created: float = 44_000.5) -> bytes:
    tree = node("Instrument", 0, b"", node("AccV", 4, struct.pack("<f", 15)), node("Mag", 3, struct.pack("<i", 1000)),
                node("ScanSize", 4, struct.pack("<f", 128)), node("Name", 12, name.encode()))  # fmt: skip
    tree += node("FileType", 12, b"JED-2200:IMG\0")
    tree += node("Image", 0, b"", node("Created", 5, struct.pack("<d", created)), node("Title", 12, b"IMG1\0"),
                 node("Size", 8, struct.pack("<2i", columns, rows)), node("Bits", 6, bits))  # fmt: skip
    head = struct.pack("<I32sIII", 52, b"JED-2200:LibJxImageForm", 64, 0, 64).ljust(76, b"\0")
    return head + tree + b"\xff"


def test_jeol_image_of_a_scanning_microscope(tmp_path: Path) -> None:
    bits = bytes(range(200)) + bytes(100)
    signal = read_one(write(tmp_path, "a.img", jeol_image(10, 30, bits)))
    assert (signal.data_type, signal.shape) == ("SEM_Imaging", (10, 30))
    assert signal.acquired == datetime(2020, 6, 18, 12)
    assert signal.fields["horizontal_field_width"].m_as("µm") == pytest.approx(128)
    assert signal.fields["vertical_field_width"].m_as("µm") == pytest.approx(128 / 3)
    assert pixels(signal)[1, 5] == 35


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (jeol_image(0, 30, b""), "size of its image"),
        (jeol_image(1 << 30, 1 << 30, b""), "size of its image"),
        (jeol_image(10, 30, bytes(300))[:90], "within its header"),
        (bytes(12) + node("FileType", 12, b"JED-2200:DigiLine\0") + b"\xff", "no line profiles"),
        (b"\x30\1\0\0PTTDFILE" + bytes(400), "size of its map|header"),
    ],
)
def test_a_damaged_jeol_file_gives_the_reason(content: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(ExtractionError, match=words):
        read(write(tmp_path, "damaged.img", content))


def test_what_jeol_says_oddly_costs_only_itself(tmp_path: Path) -> None:
    signal = read_one(write(tmp_path, "a.img", jeol_image(10, 30, bytes(299), created=1e300)))
    assert signal.acquired is None
    assert set(signal.warnings) == {"Creation Time", "Pixels"}
    deep = node("Image", 0, b"", node("Size", 8, struct.pack("<2i", 2, 2)))
    for _ in range(200):
        deep = node("A", 0, b"", deep)
    with pytest.raises(ExtractionError, match="makes no sense"):
        read(write(tmp_path, "deep.img", struct.pack("<I32sIII", 52, b"JED-2200", 64, 0, 64).ljust(76, b"\0") + deep))


# --- EDAX ---


def spc(energy_step: int = 10, kv: float = 200.0) -> bytes:
    raw = bytearray(3840 + 4 * 16)
    struct.pack_into("<f", raw, 0, 0.61)
    struct.pack_into("<iH", raw, 28, 3840, 16)
    struct.pack_into("<i", raw, 384, energy_step)
    struct.pack_into("<f", raw, 532, kv)
    return bytes(raw)


def spd(rows: int, columns: int, channels: int, counts: bytes, *, width: int = 2) -> bytes:
    head = struct.pack("<16siiiIIIII120s", b"MAPSPECTRA_DATA", 1, rows * columns, columns, rows, channels, width, 1068,
                       3, b"C:\\Users\\me\\area1.bmp")  # fmt: skip
    return head.ljust(1068, b"\0") + counts


def test_edax_map_takes_its_calibration_from_the_files_beside_it(tmp_path: Path) -> None:
    counts = np.arange(2 * 3 * 16, dtype="<u2")
    path = write(tmp_path, "map.spd", spd(2, 3, 16, counts.tobytes()))
    bare = read_one(path)
    assert (bare.dataset_type, bare.shape, "channel_size" in bare.fields) == ("SpectrumImage", (2, 3, 16), False)
    assert bare.extensions["Electron Image"] == "area1.bmp"
    damaged = write(tmp_path, "map.spc", spc()[:100])
    assert "was not read" in read_one(path).warnings["Channel Size"]
    damaged.write_bytes(spc())
    ipr = bytearray(400)
    struct.pack_into("<HH48xHhhIHff", ipr, 0, 334, 1, 2000, 0, 35, 50_000, 10, 0.25, 0.5)
    write(tmp_path, "map.ipr", bytes(ipr))
    signal = read_one(path)
    assert signal.data_type == "STEM_EDS"
    assert signal.fields["channel_size"].m_as("eV") == 10
    assert (signal.fields["pixel_width"].m_as("µm"), signal.fields["pixel_height"].m_as("µm")) == (0.25, 0.5)
    assert (signal.fields["magnification"], signal.fields["frames"]) == (50_000, 3)
    np.testing.assert_array_equal(pixels(signal), counts.reshape(2, 3, 16))


def test_edax_maps_and_lines_may_be_cut_off(tmp_path: Path) -> None:
    cut = read_one(write(tmp_path, "map.spd", spd(4, 3, 16, bytes(3 * 16 * 2 * 2 + 5))))
    assert "2 of 4 rows" in cut.warnings["Pixels"]
    assert cut.shape == (4, 3, 16)
    assert pixels(cut).shape == (2, 3, 16)
    line = read_one(write(tmp_path, "line.lsd", spd(1, 5, 16, bytes(160))))
    assert (line.dataset_type, line.shape) == ("SpectrumImage", (5, 16))
    for absurd in (spd(1 << 28, 3, 16, b""), spd(2, 3, 16, b"", width=3), spd(2, 3, 16, b"")[:100]):
        with pytest.raises(ExtractionError):
            read(write(tmp_path, "absurd.spd", absurd))


def test_edax_and_standard_spectra_use_the_named_fields(tmp_path: Path) -> None:
    text = b"#FORMAT : EMSA/MAS Spectral Data File\n#PROBECUR -nA: 2.5\n#SOLIDANGLE-sR: 0.13\n##AmpTime (usec) : 7.68\n"
    text += b"#DATATYPE : Y\n#SPECTRUM :\n1, 2\n#ENDOFDATA :\n"
    path = write(tmp_path, "a.msa", text)
    [signal] = emsa.EXTRACTOR.extract(source_of(path))
    assert signal.fields["probe_current"].m_as("nA") == 2.5
    assert signal.fields["solid_angle"].m_as("sr") == 0.13
    assert signal.fields["shaping_time"].m_as("µs") == 7.68
    raw = bytearray(spc()).ljust(3840 + 4 * 4096 + 516, b"\0")
    for stored, expected in ((12.8, 12.8), (float("nan"), None), (1e9, None)):
        struct.pack_into("<f", raw, 3840 + 4 * 4096 + 512, stored)
        [spectrum] = edax_spc.EXTRACTOR.extract(source_of(write(tmp_path, "a.spc", bytes(raw))))
        found = spectrum.fields.get("shaping_time")
        assert (found.m_as("µs") if found is not None else None) == expected


# --- Phenom ---


def elid(version: int, body: bytes) -> bytes:
    return bz2.compress(b"EID2" + struct.pack("<i", version) + body)


def elid_analysis(kind: int, counts: bytes, channels: int, version: int, rest: bytes = b"") -> bytes:
    conditions = struct.pack("<8d", 15_000, 0.5, 0, 9, 10, 2e-6, 1e-7, 126) + struct.pack("<I", 0)
    conditions += struct.pack("<5d", 0, 0.008, 25e-6, 0, 0) if version >= 1 else b""
    conditions += struct.pack("<dBB", 0, 2, 1) if version >= 3 else b""
    common = struct.pack("<I", 0) + struct.pack("<2dI", -30, 10, channels) + counts + conditions
    common += (
        struct.pack("<I2B", 2, 26, 8)
        + struct.pack("<I", 0)
        + struct.pack("<II", 0, 0)
        + struct.pack("<?iI", True, 7, 0)
    )
    common += (b"\1" if version >= 2 else b"") + (struct.pack("<I", 0) if version >= 4 else b"")
    return bytes((kind,)) + common + rest


@pytest.mark.parametrize("version", range(5))
def test_phenom_spectra_of_every_version(version: int, tmp_path: Path) -> None:
    body = struct.pack("<III", 1, 0, 2) + b"Ab" + struct.pack("<I", 1)
    body += elid_analysis(2, b"\x05\xac\x02\x80\x80\x01", 3, version, struct.pack("<2d", 0, 0))
    signal = read_one(write(tmp_path, "a.elid", elid(version, body + struct.pack("<II", 0, 0))))
    assert (signal.dataset_type, signal.name) == ("Spectrum", "Ab, Spot 7")
    np.testing.assert_array_equal(pixels(signal), [5, 300, 16_384])
    assert signal.fields["elements"] == ["Fe", "O"]
    assert signal.fields["elevation_angle"].m_as("deg") == pytest.approx(0.5 if version == 0 else 28.6478898)
    assert signal.fields.get("detector_type") == ("FastSDD C5" if version >= 3 else None)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (elid(9, bytes(8)), "version 9"),
        (elid(4, struct.pack("<I", 1 << 30)), "absurd length"),
        (elid(4, struct.pack("<II", 1, 1 << 31)), "ends too early"),
        (elid(4, struct.pack("<IIII", 1, 0, 0, 1) + elid_analysis(2, b"", 1 << 31, 4)), "ends too early"),
        (elid(4, struct.pack("<IIII", 1, 0, 0, 1) + b"\x63"), "unknown kind 99"),
        (elid(4, struct.pack("<III", 0, 0, 0)), "neither images nor analyses"),
        (bz2.compress(b"something else"), "no project"),
        (bz2.compress(bytes(100))[:20], "ends too early"),
        (b"\x1f\x8b" + bytes(50), "before 3.8"),
    ],
)
def test_a_damaged_phenom_file_gives_the_reason(content: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(ExtractionError, match=words):
        read(write(tmp_path, "damaged.elid", content))


# --- HMSA ---


def hmsa_pair(folder: Path, xml: str, numbers_: bytes, *, uid: bytes = b"\x01\x23\x45\x67\x89\xab\xcd\xef") -> Path:
    root = f'<MSAHyperDimensionalDataFile Version="1.0" UID="0123456789ABCDEF">{xml}</MSAHyperDimensionalDataFile>'
    write(folder, "a.xml", root.encode())
    return write(folder, "a.hmsa", uid + numbers_)


def hmsa_dataset(datum: str, collection: str, *, kind: str = "int16", offset: int = 8) -> str:
    return (
        f'<Set Class="x" Name="Set"><DataOffset DataType="int64">{offset}</DataOffset><DatumType>{kind}</DatumType>'
        f"<DatumDimensions>{datum}</DatumDimensions><CollectionDimensions>{collection}</CollectionDimensions></Set>"
    )


def dimension(name: str, size: int) -> str:
    return f'<Dimension DataType="uint32" Name="{name}">{size}</Dimension>'


CONDITIONS = (
    '<Conditions><Probe Class="EM"><BeamVoltage DataType="float" Unit="kV">15</BeamVoltage>'
    '<WorkingDistance DataType="float" Unit="furlong">1</WorkingDistance></Probe>'
    '<Detector Class="Spectrometer/WDS" ID="D"><SignalType>WDS</SignalType></Detector>'
    '<Acquisition Class="Raster/XY"><StepSizeX DataType="float" Unit="µm">0.5</StepSizeX>'
    '<StepSizeY DataType="float" Unit="µm">0.25</StepSizeY></Acquisition>'
    '<ElementID ID="E"><AtomicNumber DataType="uint32">26</AtomicNumber></ElementID></Conditions>'
)


@pytest.mark.parametrize(
    ("datum", "collection", "expected"),
    [
        (dimension("Channel", 4), "", ("Spectrum", "SEM_WDS", (4,))),
        (dimension("Channel", 4), dimension("X", 3), ("SpectrumImage", "SEM_WDS", (3, 4))),
        ("", dimension("X", 3) + dimension("Y", 2), ("Image", "SEM_Imaging", (2, 3))),
        (dimension("U", 4) + dimension("V", 5), dimension("X", 3) + dimension("Y", 2),
         ("Diffraction", "SEM_EBSD", (2, 3, 5, 4))),
        ("", dimension("X", 3), ("Misc", "SEM_WDS", (3,))),
    ],
)  # fmt: skip
def test_hmsa_type_follows_the_dimensions(datum: str, collection: str, expected: Any, tmp_path: Path) -> None:
    xml = f"{CONDITIONS}<Data>{hmsa_dataset(datum, collection)}</Data>"
    signal = read_one(hmsa_pair(tmp_path, xml, np.arange(120, dtype="<i2").tobytes()))
    assert (signal.dataset_type, signal.data_type, signal.shape) == expected
    np.testing.assert_array_equal(pixels(signal).ravel(), np.arange(np.prod(signal.shape)))
    assert "not known" in signal.warnings["working_distance"]
    assert signal.fields["acceleration_voltage"].m_as("kV") == 15
    if expected[0] == "Image":
        assert signal.fields["elements"] == ["Fe"]
        assert signal.fields["pixel_width"].m_as("µm") == 0.5
        assert signal.fields["pixel_height"].m_as("µm") == 0.25


def test_hmsa_numbers_of_another_file_are_not_shown(tmp_path: Path) -> None:
    xml = f"<Data>{hmsa_dataset(dimension('Channel', 4), '')}</Data>"
    other = read_one(hmsa_pair(tmp_path, xml, bytes(8), uid=bytes(8)))
    assert other.pixels is None
    assert "0000000000000000" in other.warnings["Pixels"]
    short = read_one(hmsa_pair(tmp_path, xml, bytes(7)))
    assert (short.shape, short.pixels) == ((4,), None)
    assert "7 of the 8 bytes" in short.warnings["Pixels"]
    (tmp_path / "a.xml").unlink()
    with pytest.raises(ExtractionError, match=r"a\.xml that describes it is missing"):
        read(tmp_path / "a.hmsa")


@pytest.mark.parametrize("data", ["", "<Data/>", f"<Data>{hmsa_dataset(dimension('Channel', 0), '')}</Data>"])
def test_hmsa_without_a_dataset_gives_the_reason(data: str, tmp_path: Path) -> None:
    with pytest.raises(ExtractionError, match=r"no dataset|no size"):
        read(hmsa_pair(tmp_path, data, b""))


# --- Ripple ---


def rpl(folder: Path, text: str, numbers_: bytes | None) -> Path:
    if numbers_ is not None:
        write(folder, "a.raw", numbers_)
    return write(folder, "a.rpl", text.encode())


CUBE = (
    "key\tvalue\nWIDTH\t3\nheight\t2\ndepth\t4\noffset\t2\ndata-Length\t2\ndata-type\tsigned\nbyte-order\tbig-endian\n"
)


def test_ripple_order_of_vectors_and_of_images(tmp_path: Path) -> None:
    counts = np.arange(24, dtype=">i2")
    vector = read_one(rpl(tmp_path, CUBE + "record-by\tvector\nev-per-chan\t10\n", b"\0\0" + counts.tobytes()))
    assert (vector.dataset_type, vector.data_type, vector.shape) == ("SpectrumImage", "SEM_EDS", (2, 3, 4))
    assert vector.fields["channel_size"].m_as("eV") == 10
    np.testing.assert_array_equal(pixels(vector), counts.reshape(2, 3, 4))
    stack = read_one(rpl(tmp_path, CUBE + "record-by\timage\n", b"\0\0" + counts.tobytes()))
    assert (stack.dataset_type, stack.shape) == ("Image", (4, 2, 3))
    np.testing.assert_array_equal(pixels(stack), counts.reshape(4, 2, 3))


def test_ripple_as_other_programs_write_it(tmp_path: Path) -> None:
    text = "(MLX::\n(MLX::WIDTH : 3)\n(MLX::HEIGHT : 2)\n(MLX::DEPTH : 1)\n(MLX::OFFSET : 0)\n(MLX::DATA-LENGTH : 1)\n"
    text += "(MLX::DATA-TYPE : unsigned)\n(MLX::BYTE-ORDER : dont-care)\n(MLX::RECORD-BY : dont-care) ; a comment\n"
    signal = read_one(rpl(tmp_path, text, bytes(range(6))))
    assert (signal.dataset_type, signal.shape) == ("Image", (2, 3))
    np.testing.assert_array_equal(pixels(signal), [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize(
    ("text", "numbers_", "words"),
    [
        (CUBE + "record-by\tvector\n", None, "missing"),
        (CUBE + "record-by\tvector\n", bytes(49), "47 of the 48 bytes"),
        (CUBE.replace("\t3\n", "\t2000000000\n") + "record-by\tvector\n", bytes(50), "of the 32000000000 bytes"),
        (CUBE.replace("signed", "complex") + "record-by\tvector\n", bytes(50), "not known"),
        (CUBE.replace("Length\t2", "Length\t3") + "record-by\tvector\n", bytes(50), "not known"),
    ],
)
def test_ripple_without_its_numbers_keeps_what_it_says(
    text: str, numbers_: bytes | None, words: str, tmp_path: Path
) -> None:
    signal = read_one(rpl(tmp_path, text, numbers_))
    assert words in signal.warnings["Pixels"]
    assert signal.pixels is None
    assert signal.shape[0] == 2


def test_ripple_of_absurd_size_gives_the_reason(tmp_path: Path) -> None:
    for size in ("0", "-1", "1e9", "99999999999999"):
        with pytest.raises(ExtractionError, match="no size"):
            read(rpl(tmp_path, CUBE.replace("\t3\n", f"\t{size}\n") + "record-by\tvector\n", bytes(50)))


def test_foreign_content_is_refused() -> None:
    path = Path(__file__)
    source = Source(path, datetime(2026, 1, 1, tzinfo=UTC), path.stat().st_size)
    for head in (
        b"",
        b"\0" * 4096,
        b"II*\0" + bytes(100),
        b"\x89HDF\r\n\x1a\n",
        b"<?xml version='1.0'?><Root/>",
        b"BZh9",
        b"IM\0\0",
    ):
        assert not any(extractor.accepts(source, head) for extractor in EXTRACTORS), head
