"""Optical and mass spectra: real files, and small ones that the tests write."""

import os
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nexuslims_pipeline.extraction.formats import horiba, quadstar, renishaw, trivista
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.standalone import source_of
from nexuslims_pipeline.signals import Signal

CORPUS = Path(os.environ.get("NX_TEST_CORPUS", Path(__file__).parents[2] / "shared" / "corpus"))
needs_corpus = pytest.mark.skipif(not CORPUS.is_dir(), reason="needs the corpus of real files")
EXTRACTORS: tuple[Extractor, ...] = (horiba.EXTRACTOR, quadstar.EXTRACTOR, renishaw.EXTRACTOR, trivista.EXTRACTOR)


def read(extractor: Extractor, path: Path, content: bytes | None = None) -> list[Signal]:
    """Datasets of a file, written first where there is `content`."""
    if content is not None:
        path.write_bytes(content)
    source = source_of(path)
    assert extractor.accepts(source, path.read_bytes()[:4096])
    return extractor.extract(source)


def numbers(signal: Signal) -> np.ndarray:
    """All numbers of a dataset."""
    assert signal.pixels is not None
    assert tuple(signal.pixels.array.shape) == signal.shape
    return np.asarray(signal.pixels.array[...])


# Renishaw


def pset(*entries: tuple[str, int, bytes], names: dict[int, str] | None = None) -> bytes:
    """Settings of (type, number, value)."""
    named = [("k", number, struct.pack("<I", len(name)) + name.encode()) for number, name in (names or {}).items()]
    return b"".join(struct.pack("<BBH", ord(kind), 0, number) + value for kind, number, value in (*entries, *named))


def nested(content: bytes) -> bytes:
    """Value of an entry that is a set of settings itself."""
    return struct.pack("<I", len(content)) + content


def block(name: bytes, content: bytes) -> bytes:
    """A block of a .wdf."""
    return struct.pack("<4sIQ", name, 0, 16 + len(content)) + content


def wdf(
    spectra: np.ndarray,
    *,
    measurement: int = 1,
    planned: int = 0,
    start: int = 132894900914392527,
    positions: dict[int, np.ndarray] | None = None,
    grid: tuple[float, ...] = (),
    more: bytes = b"",
) -> bytes:
    """A .wdf of spectra (spectra, channels) with the Raman shifts 300, 200 … 1/cm."""
    count, channels = spectra.shape
    planned = planned or count
    version = (5, 5, 0, 1)
    header = struct.pack(
        "<Q16s12xIIIQQIIII24s4HIIQQIf48x32s160s", 0, b"", 0, 0, channels, planned, count, 1, 1, channels,
        len(positions or {}), b"WiRE", *version, 3, measurement, start, start + 10**8, 6, 1e7 / 532,
        b"a user", b"title",
    )  # fmt: skip
    shifts = np.linspace(300, 300 - 100 * (channels - 1), channels, dtype="<f4")
    lists = b"".join(
        struct.pack("<II16s", kind, 5, b"list") + np.resize(values, planned).astype("<f8").tobytes()
        for kind, values in (positions or {}).items()
    )
    taken = np.zeros((planned, channels), "<f4")
    taken[:count] = spectra
    content = struct.pack("<4sIQ", b"WDF1", 1, 512) + header.ljust(496, b"\0")
    content += block(b"DATA", taken.tobytes()) + block(b"XLST", struct.pack("<II", 1, 1) + shifts.tobytes())
    content += block(b"ORGN", struct.pack("<I", len(positions or {})) + lists)
    if grid:
        content += block(b"WMAP", struct.pack("<I4x6f3I", int(grid[0]), *grid[1:7], *map(int, grid[7:])) + bytes(4))
    return content + more


@needs_corpus
def test_wdf_spectrum() -> None:
    """Values of the vendor's settings, under the names that the file itself gives their numbers."""
    [signal] = read(renishaw.EXTRACTOR, CORPUS / "wdf" / "renishaw_test_spectrum.wdf")
    assert (signal.dataset_type, signal.data_type, signal.shape) == ("Spectrum", "Optical_Spectroscopy", (36,))
    assert signal.acquired == datetime(2022, 2, 16, 13, 1, 31, 439252, UTC)
    assert signal.fields["laser_wavelength"].m_as("nm") == pytest.approx(325, abs=0.001)
    assert signal.fields["exposure_time"].m_as("s") == 180
    assert signal.fields["frames"] == 2
    assert signal.fields["acquisition_time"].m_as("s") == pytest.approx(720.545)
    assert signal.fields["stage_x"].m_as("µm") == 25219.8
    assert signal.fields["acquisition_device"] == "Renishaw Centrus 2URV61"
    assert signal.fields["operator"] == "optik"
    assert signal.extensions["Objective"] == {"Name": "x15NUV", "Magnification": 15.0}
    assert signal.extensions["Grating"]["Groove Density"].m_as("1/mm") == 1200
    assert signal.pixels is not None
    [axis] = signal.pixels.axes
    assert (axis.name, axis.units) == ("Wavelength", "nm")
    assert axis.offset == pytest.approx(328.98077)
    assert signal.warnings == {}


@needs_corpus
def test_wdf_lines_stand_where_they_are() -> None:
    """Channels of a grating are uneven: the G line of carbon is to be at its own shift, not at that of mean steps."""
    path = CORPUS / "wdf" / "raman_example.wdf"
    [signal] = read(renishaw.EXTRACTOR, path)
    raw = path.read_bytes()
    shifts, counts = np.frombuffer(raw, "<f4", 1011, 4600 + 24), np.frombuffer(raw, "<f4", 1011, 512 + 16)
    assert signal.pixels is not None
    [axis] = signal.pixels.axes
    shown = axis.offset + axis.scale * int(numbers(signal).argmax())
    assert shown == pytest.approx(shifts[counts.argmax()], abs=2)
    assert signal.warnings == {}


@needs_corpus
def test_wdf_depth_series() -> None:
    """What was varied, among all that is listed, is the axis of the series."""
    [signal] = read(renishaw.EXTRACTOR, CORPUS / "wdf" / "renishaw_test_zscan.wdf")
    assert (signal.dataset_type, signal.shape) == ("SpectrumImage", (40, 1015))
    assert signal.pixels is not None
    depth = signal.pixels.axes[0]
    assert (depth.name, depth.units, depth.offset, depth.scale) == ("Z", "µm", -10, 0.5)
    assert numbers(signal)[1, 0] == pytest.approx(5.433984)


def grid_of(order: str) -> tuple[np.ndarray, np.ndarray]:
    """Columns and rows of 3 × 2 places in the order in which they were visited."""
    places = {
        "rows": [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1)],
        "columns": [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)],
        "zigzag": [(0, 0), (1, 0), (2, 0), (2, 1), (1, 1), (0, 1)],
    }[order]
    columns, rows = np.array(places, "f8").T
    return columns, rows


@pytest.mark.parametrize("order", ["rows", "columns", "zigzag"])
def test_wdf_maps_lie_as_their_positions_say(tmp_path: Path, order: str) -> None:
    """A spectrum stands where it was taken, whatever the order in which the stage went."""
    columns, rows = grid_of(order)
    spectra = (10 * rows + columns)[:, None] * [1, 1, 1, 1] + [0, 100, 200, 300]
    content = wdf(
        spectra,
        measurement=3,
        positions={3: 50 + 2 * columns, 4: 7 - 0.5 * rows},
        grid=(0, 50, 7, 0, 2, -0.5, 1, 3, 2, 1),
    )
    [signal] = read(renishaw.EXTRACTOR, tmp_path / "map.wdf", content)
    assert (signal.dataset_type, signal.shape) == ("SpectrumImage", (2, 3, 4))
    assert numbers(signal)[:, :, 1].tolist() == [[100, 101, 102], [110, 111, 112]]
    assert signal.fields["pixel_width"].m_as("µm") == 2
    assert signal.fields["pixel_height"].m_as("µm") == 0.5
    assert signal.pixels is not None
    assert [(axis.name, axis.scale, axis.offset) for axis in signal.pixels.axes] == [
        ("Y", -0.5, 7), ("X", 2, 50), ("Raman Shift", -100, 300)]  # fmt: skip


def test_wdf_lines_and_what_was_ended_early(tmp_path: Path) -> None:
    """A line counts its distance; of a map that was ended early the whole lines are shown, and this is told."""
    spectra = np.arange(20.0).reshape(5, 4)
    content = wdf(spectra, measurement=3, grid=(128, 0, 0, 0, 3, 4, 0, 5, 1, 1))
    [line] = read(renishaw.EXTRACTOR, tmp_path / "line.wdf", content)
    assert line.pixels is not None
    assert (line.pixels.axes[0].name, line.pixels.axes[0].scale, line.shape) == ("Distance", 5, (5, 4))
    content = wdf(spectra, measurement=3, planned=6, grid=(0, 0, 0, 0, 1, 1, 0, 2, 3, 1))
    [ended] = read(renishaw.EXTRACTOR, tmp_path / "ended.wdf", content)
    assert ended.shape == (2, 2, 4)
    assert numbers(ended).ravel().tolist() == list(range(16))
    assert "5 of 6" in ended.warnings["Spectra"]


@pytest.mark.parametrize("start", [0, 1])
def test_wdf_without_a_date(tmp_path: Path, start: int) -> None:
    """1601 is no date."""
    [signal] = read(renishaw.EXTRACTOR, tmp_path / "a.wdf", wdf(np.ones((1, 4)), start=start))
    assert signal.acquired is None
    assert ("Creation Time" in signal.warnings) == bool(start)


def test_wdf_white_light_image(tmp_path: Path) -> None:
    """The image beside the spectra has the calibration that WiRE hides in its EXIF, and the instrument's facts."""
    picture, exif, file = Image.new("RGB", (40, 20), "red"), Image.Exif(), BytesIO()
    exif.get_ifd(0x8769).update({0xA20E: 80.0, 0xA20F: 20.0, 0xA210: 5})
    picture.save(file, "JPEG", exif=exif)
    content = wdf(np.ones((1, 4)), more=block(b"WHTL", file.getvalue()))
    spectrum, image = read(renishaw.EXTRACTOR, tmp_path / "a.wdf", content)
    assert (image.dataset_type, image.data_type, image.shape) == ("Image", "Optical_Imaging", (20, 40))
    assert image.fields["pixel_width"].m_as("µm") == 2
    assert image.fields["vertical_field_width"].m_as("µm") == 20
    assert image.fields["operator"] == "a user"
    assert image.acquired == spectrum.acquired
    broken = wdf(np.ones((1, 4)), more=block(b"WHTL", file.getvalue()[:300]))
    [alone] = read(renishaw.EXTRACTOR, tmp_path / "b.wdf", broken)
    assert "White Light Image" in alone.warnings


def test_wdf_settings_that_mean_harm(tmp_path: Path) -> None:
    """Sets within sets without end, and values longer than the file, cost themselves."""
    inner = pset(("r", 1, struct.pack("<f", 2500)), ("i", 2, struct.pack("<i", 3)))
    scan = pset(("p", 9, nested(inner)), names={1: "Exposure Time", 2: "Accumulations", 9: "Scan"})
    deep = b""
    for _ in range(5000):
        deep = pset(("p", 7, nested(deep)))
    long = scan + struct.pack("<BBHI", ord("u"), 0, 3, 0xFFFFFFFF)
    for content in (scan, long, scan + deep):
        raw = b"PSET" + struct.pack("<I", len(content)) + content
        [signal] = read(renishaw.EXTRACTOR, tmp_path / "a.wdf", wdf(np.ones((1, 4)), more=block(b"WXDM", raw)))
        assert signal.fields["exposure_time"].m_as("s") == 2.5
        assert signal.fields["frames"] == 3


@pytest.mark.parametrize("tenths", range(1, 10))
def test_wdf_that_broke_off(tmp_path: Path, tenths: int) -> None:
    """Nothing is shortened in silence."""
    whole = wdf(np.ones((50, 40)), measurement=2, positions={5 | 1 << 31: np.arange(50.0)})
    path = tmp_path / "a.wdf"
    path.write_bytes(whole[: len(whole) * tenths // 10])
    [signal] = renishaw.EXTRACTOR.extract(source_of(path))
    assert signal.shape == (50, 40)
    assert "Blocks" in signal.warnings


# Horiba and TriVista


@needs_corpus
def test_labspec_map() -> None:
    """Values of the vendor's settings; the true wavelength of the laser; the first position the fastest."""
    [signal] = read(horiba.EXTRACTOR, CORPUS / "xml_jobinyvon" / "jobinyvon_test_map_x3-y2.xml")
    assert (signal.dataset_type, signal.data_type) == ("SpectrumImage", "Optical_Spectroscopy")
    assert signal.acquired == datetime(2022, 8, 19, 9, 30, 34)
    assert signal.fields["laser_wavelength"].m_as("nm") == 632.817
    assert signal.fields["exposure_time"].m_as("s") == 2
    assert signal.fields["microscope"] == "Horiba LabRAM HR Evol"
    assert signal.fields["pixel_width"].m_as("µm") == 2
    assert signal.extensions["ND Filter Transmission"].m_as("percent") == 1
    assert signal.extensions["Detector"]["Temperature"].m_as("degC") == pytest.approx(-129.09)
    values = numbers(signal)
    assert values.shape == (2, 3, 34)
    assert values[:, :, 0].tolist() == [[275.5, 295.5, 257.5], [257, 262, 254.5]]
    assert signal.warnings == {}


@needs_corpus
@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        (b"19.08.2022 09:30:34", b"99.08.2022 09:30:34", "Creation Time"),
        (b"-2 0 2 ", b"-2 2 ", "Positions"),
        (b"275.5 214.5", b"275.5 ", "Pixels"),
        (b"771.797 770.264", b"nan 770.264", "Wavelength Axis"),
    ],
)
def test_labspec_with_doubts(tmp_path: Path, old: bytes, new: bytes, field: str) -> None:
    """One wrong value is told and costs only itself."""
    whole = (CORPUS / "xml_jobinyvon" / "jobinyvon_test_map_x3-y2.xml").read_bytes()
    [signal] = read(horiba.EXTRACTOR, tmp_path / "a.xml", whole.replace(old, new))
    assert field in signal.warnings
    assert signal.fields["frames"] == 1


@needs_corpus
def test_trivista_line() -> None:
    """Settings of the inner XML; month before day; positions whose unit the file does not tell."""
    [signal] = read(trivista.EXTRACTOR, CORPUS / "tvf" / "linescan.tvf")
    assert (signal.dataset_type, signal.shape) == ("SpectrumImage", (21, 97))
    assert signal.acquired == datetime(2016, 9, 29, 12, 51, 30, 867000)
    assert signal.fields["exposure_time"].m_as("ms") == 1000
    assert signal.extensions["Spectrometer"]["Model"] == "SP-2-750i"
    assert signal.extensions["Spectrometer"]["Groove Density"].m_as("1/mm") == 750
    assert signal.extensions["Objective"] == {"Name": "100x", "Magnification": 100}
    assert "laser_wavelength" not in signal.fields, "the file says 0"
    assert numbers(signal)[0, :3].tolist() == [448, 482, 433]
    assert signal.pixels is not None
    assert [axis.units for axis in signal.pixels.axes] == ["", "nm"]


TVF = """<XmlMain Version="1.0.1" PlugInName="" FileInfoSerialized=""><Hardware/><Documents><Document
RecordTime="02/03/2020 10:00:00.5" InfoSerialized="{info}"><xDim><Calibration Unit="Nanometer" LaserWave="532.1"
ValueArray="3|500|501|502"/></xDim><Data>{frames}</Data></Document></Documents></XmlMain>"""
FRAME = '<Frame TimeStamp="{}">1;2;3</Frame>'


def test_trivista_series(tmp_path: Path) -> None:
    """Frames without positions lie along their times."""
    frames = "".join(FRAME.format(132_000_000_000_000_000 + n * 40_000_000) for n in range(4))
    [signal] = read(trivista.EXTRACTOR, tmp_path / "a.tvf", TVF.format(info="&lt;Info/&gt;", frames=frames).encode())
    assert signal.pixels is not None
    assert (signal.shape, signal.pixels.axes[0].name, signal.pixels.axes[0].scale) == ((4, 3), "Time", 4)
    assert signal.acquired == datetime(2020, 2, 3, 10, 0, 0, 500000)
    assert signal.fields["laser_wavelength"].m_as("nm") == 532.1


def test_entities_in_the_inner_xml(tmp_path: Path) -> None:
    """The settings are a second XML text, which is read no more trustingly than the first."""
    bomb = '&lt;!DOCTYPE a [&lt;!ENTITY x SYSTEM "file:///etc/hostname"&gt;]&gt;&lt;Info&gt;&amp;x;&lt;/Info&gt;'
    content = TVF.format(info=bomb.replace('"', "&quot;"), frames=FRAME.format(0)).encode()
    [signal] = read(trivista.EXTRACTOR, tmp_path / "a.tvf", content)
    assert "document type" in signal.warnings["Settings"]
    assert signal.shape == (3,)


# Quadstar


def quadstar_header(cycles: int, traces: int, stride: int) -> bytearray:
    """Header of both kinds: 12:30:40 on 2020-05-06 by a clock two hours before UTC."""
    head = bytearray(300)
    struct.pack_into("<6B86sihi", head, 8, 40, 30, 12, 6, 5, 120, b"somebody", cycles, traces, stride)
    struct.pack_into("<IH", head, 194, int(datetime(2020, 5, 6, 10, 30, 40, tzinfo=UTC).timestamp()), 0)
    return head


def sac() -> bytes:
    """Three cycles of one trace over the masses 1 and 2, with two values each; the last is beyond full scale."""
    content = quadstar_header(3, 1, 28)
    struct.pack_into("<Bii", content, 200, 17, 300, 446)
    description = struct.pack("<H13s13sx13s13s59s8xfHB", 1, b"Ion Current", b"A", b"Mass", b"amu", b"", 0.5, 2, 2)
    content += description.ljust(140, b"\0")
    for cycle in range(3):
        content += struct.pack("<IHIh4f", 10 * cycle, 5000, 4, -9, 1e-12, 2e-12, cycle * 1e-12, 1.0)
    return bytes(content)


@needs_corpus
def test_quadstar_bars() -> None:
    """Two cycles; the clock's offset from UTC, from the instant that the file has as well."""
    [signal] = read(quadstar.EXTRACTOR, CORPUS / "quadstar" / "10-50amu-2cycles.sbc")
    assert (signal.dataset_type, signal.data_type, signal.shape) == ("Spectrum", "Mass_Spectrometry", (2, 41))
    assert signal.acquired is not None
    assert signal.acquired.replace(tzinfo=None) == datetime(2026, 4, 21, 9, 11, 27)
    assert signal.acquired.utcoffset() == timedelta(hours=1)
    assert signal.pixels is not None
    assert [(axis.offset, axis.scale) for axis in signal.pixels.axes] == [(0, 8), (10, 1)]
    assert 0 < numbers(signal).max() < 1e-6, "ion currents in amperes"


def test_quadstar_traces(tmp_path: Path) -> None:
    """Masses, times, and no numbers where the amplifier was overloaded."""
    [signal] = read(quadstar.EXTRACTOR, tmp_path / "a.sac", sac())
    assert (signal.dataset_type, signal.shape, signal.name) == ("SpectrumImage", (3, 4), "Ion Current")
    assert signal.acquired is not None
    assert signal.acquired.utcoffset() == timedelta(hours=2)
    assert signal.fields["operator"] == "somebody"
    assert signal.pixels is not None
    assert [(axis.offset, axis.scale) for axis in signal.pixels.axes] == [(0, 10), (0.5, 0.5)]
    values = numbers(signal)
    assert values[2, :3].tolist() == pytest.approx([1e-12, 2e-12, 2e-12])
    assert np.isnan(values[:, 3]).all()


@pytest.mark.parametrize("length", range(310, 520, 30))
def test_quadstar_that_broke_off(tmp_path: Path, length: int) -> None:
    """A reason, whatever is missing."""
    path = tmp_path / "a.sac"
    path.write_bytes(sac()[:length])
    with pytest.raises(ExtractionError, match="too short"):
        quadstar.EXTRACTOR.extract(source_of(path))


# All of them


@pytest.mark.parametrize(
    "kind", [os.urandom, bytes, lambda n: (b"no spectrum " * n)[:n]], ids=["noise", "zeros", "text"]
)
def test_foreign_content_is_refused(tmp_path: Path, kind: Callable[[int], bytes]) -> None:
    """Whatever its extension."""
    for extractor in EXTRACTORS:
        for extension in extractor.extensions:
            path = tmp_path / f"a{extension}"
            path.write_bytes(kind(3000))
            assert not extractor.accepts(source_of(path), path.read_bytes())


@needs_corpus
def test_other_xml_is_refused() -> None:
    """HMSA, EPU and EMPAD have the same extension."""
    others = [path for path in CORPUS.glob("*/*.xml") if path.parent.name != "xml_jobinyvon"]
    assert len(others) > 2
    for path in others:
        for extractor in (horiba.EXTRACTOR, trivista.EXTRACTOR):
            assert not extractor.accepts(source_of(path), path.read_bytes()[:4096])
