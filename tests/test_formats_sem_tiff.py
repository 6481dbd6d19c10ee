"""SEM, FIB and ion microscopes of Zeiss, Fibics, Tescan, JEOL, Hitachi: real files, and made ones of each dialect."""

import csv
import io
import os
import struct
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nexuslims_pipeline.extraction.formats import (
    fei_tiff,
    fibics_atlas,
    hitachi,
    jeol_sem,
    phenom_tiff,
    plain_image,
    plain_text,
    tescan,
    zeiss_orion,
    zeiss_smartsem,
)
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.inventory.companions import companions_of
from nexuslims_pipeline.metadata.checked import checked_metadata
from nexuslims_pipeline.signals import Signal, Source

CORPUS = Path(os.environ.get("NX_TEST_CORPUS", Path(__file__).parents[2] / "shared" / "corpus"))
FORMATS = ("tif_zeiss", "tif_zeiss_orion", "tif_fibics_atlas", "tif_tescan")
MODULES = (
    fei_tiff,
    fibics_atlas,
    hitachi,
    jeol_sem,
    phenom_tiff,
    tescan,
    zeiss_orion,
    zeiss_smartsem,
    plain_image,
    plain_text,
)
EXTRACTORS: tuple[Extractor, ...] = tuple(module.EXTRACTOR for module in MODULES)
FROM_THE_HEADER = {
    "orion-zeiss_dataZeroed.tif": datetime(2025, 1, 1, 13, 0),
    "tescan-pfib_dataZeroed.hdr": datetime(2025, 12, 3, 17, 19, 26),
}
"""Times that the manifest lacks, or of which it has the day only."""
MODIFIED = datetime(2026, 1, 1, tzinfo=UTC)
PICTURE = np.arange(48 * 64, dtype=np.uint8).reshape(48, 64)


def corpus_rows() -> list[dict[str, str]]:
    if not (CORPUS / "manifest.csv").exists():
        return []
    with (CORPUS / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["format"] in FORMATS]


ROWS = corpus_rows()
real_files = pytest.mark.skipif(not ROWS, reason="the corpus is not here")


def source_of(path: Path, modified: datetime = MODIFIED) -> Source:
    """With the companions that the inventory would give it."""
    names = companions_of(path.name, [other.name for other in path.parent.iterdir()])
    companions = tuple(path.with_name(name) for name in sorted(names))
    return Source(path, modified, path.stat().st_size, companions)


def chosen(source: Source) -> Extractor | None:
    with source.path.open("rb") as file:
        head = file.read(4096)
    extension = source.path.suffix.lower()
    return next((x for x in EXTRACTORS if extension in x.extensions and x.accepts(source, head)), None)


def read(path: Path, reader: str, modified: datetime = MODIFIED) -> Signal:
    source = source_of(path, modified)
    extractor = chosen(source)
    assert extractor is not None
    assert extractor.name == reader
    [signal] = extractor.extract(source)
    return signal


def unitless(signal: Signal, **units: str) -> dict[str, float]:
    """The named fields in the units given."""
    return {name: pytest.approx(signal.fields[name].m_as(unit), rel=1e-12) for name, unit in units.items()}


def tiff(*tags: tuple[int, int, bytes], picture: Any = PICTURE, **options: Any) -> bytes:
    """A TIFF with tags of (code, type, content)."""
    file = io.BytesIO()
    extra = [(code, kind, len(raw), raw, True) for code, kind, raw in tags]
    tifffile.imwrite(file, picture, metadata=None, software=False, extratags=extra, **options)
    return file.getvalue()


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def picture_bytes(kind: str, rows: int = 48, columns: int = 64) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.zeros((rows, columns), np.uint8)).save(file, kind)
    return file.getvalue()


# --- real files ---


@pytest.mark.corpus
@real_files
@pytest.mark.parametrize("row", ROWS, ids=[row["path"] for row in ROWS])
def test_real_file_is_read_as_the_manifest_says(row: dict[str, str]) -> None:
    path = CORPUS / row["path"]
    source = source_of(path)
    extractor = chosen(source)
    assert extractor is not None
    assert extractor.name not in ("plain_image", "plain_text")
    [signal] = extractor.extract(source)
    assert signal.dataset_type == row["expected_dataset_type"]
    assert "x".join(map(str, signal.shape)) == row["shapes"]
    assert signal.acquired is not None
    expected = FROM_THE_HEADER.get(path.name) or datetime.fromisoformat(row["acquired_at"])
    assert signal.acquired.replace(tzinfo=None, microsecond=0) == expected
    meta = checked_metadata(signal, source, extractor.name, extractor.version)
    assert {each["field"] for each in meta["warnings"]} <= {"Pixel Dwell Time", "Probe Current", "Creation Time"}
    if signal.shape:
        assert signal.pixels is not None
        assert np.asarray(signal.pixels.array[:2]).shape == (2, signal.shape[1])
        width = signal.fields["pixel_width"].m_as("nm") * signal.shape[1]
        assert width == pytest.approx(signal.fields["horizontal_field_width"].m_as("nm"), rel=1e-3)
        assert [axis.units for axis in signal.pixels.axes] == ["nm", "nm"]
    else:
        assert signal.text


@pytest.mark.corpus
@real_files
def test_smartsem_has_its_golden_values() -> None:
    signal = read(CORPUS / "tif_zeiss/FeMoOx_AntiA_04_1k5x_CN.tif", "zeiss_smartsem")
    assert signal.data_type == "SEM_Imaging"
    assert unitless(
        signal, acceleration_voltage="kV", extraction_voltage="kV", filament_current="A", working_distance="mm",
        pixel_width="nm", aperture_diameter="µm", tilt_correction="deg", scan_rotation="deg", stage_x="mm",
        stage_y="mm", stage_z="mm", stage_rotation="deg", stage_tilt="deg", landing_energy="keV",
    ) == {
        "acceleration_voltage": 5, "extraction_voltage": 4.18, "filament_current": 2.29, "working_distance": 5.131926,
        "pixel_width": 74.43333, "aperture_diameter": 120, "tilt_correction": 36, "scan_rotation": 0,
        "stage_x": 74.8291, "stage_y": 71.5701, "stage_z": 41.835, "stage_rotation": 46.8, "stage_tilt": 54,
        "landing_energy": 5,
    }  # fmt: skip
    assert signal.fields["frame_time"].m_as("min") == pytest.approx(1.6)
    assert signal.fields["chamber_pressure"].m_as("mbar") == pytest.approx(2.16e-6), "its own gauge reads 0 Pa"
    assert signal.fields["magnification"] == 1500
    assert signal.fields["detector_type"] == "InLens"
    assert signal.fields["microscope"] == "Auriga 60"
    assert signal.fields["software"] == "SmartSEM V06.00.00.00"
    assert signal.fields["operator"] == "CHARLOTTE"
    assert signal.extensions["Serial Number"] == "Auriga 60-46-18"
    assert signal.extensions["Lines Averaged"] == 2
    assert "61.9 µs" in signal.warnings["dwell_time"], "126.86 ms per line of 1024 pixels, scanned twice"
    assert "probe_current" in signal.warnings, "no such column carries 200 nA"


@pytest.mark.corpus
@real_files
def test_smaller_picture_has_larger_pixels() -> None:
    """The file says 5.825 nm, those of a picture of 1024 columns, and a field of 5.965 µm; it has 512 columns."""
    signal = read(CORPUS / "tif_zeiss/test_tiff_Zeiss_SEM_512pix.tif", "zeiss_smartsem")
    assert signal.fields["pixel_width"].m_as("nm") == pytest.approx(2 * 5.824988)
    assert signal.fields["horizontal_field_width"].m_as("µm") == pytest.approx(5.965, abs=5e-4)
    assert signal.fields["microscope"] == "ULTRA 55"


@pytest.mark.corpus
@real_files
def test_helium_image_has_its_golden_values() -> None:
    signal = read(CORPUS / "tif_zeiss_orion/orion-zeiss_dataZeroed.tif", "zeiss_orion")
    assert signal.data_type == "HIM_Imaging"
    assert unitless(
        signal, acceleration_voltage="kV", extraction_voltage="V", beam_current="pA", working_distance="mm",
        pixel_width="nm", horizontal_field_width="µm", vertical_field_width="µm", dwell_time="µs", stage_x="mm",
        chamber_pressure="torr", aperture_diameter="µm",
    ) == {
        "acceleration_voltage": 29.997, "extraction_voltage": -36769, "beam_current": 0.938, "working_distance": 11.977,
        "pixel_width": 0.9765625, "horizontal_field_width": 1, "vertical_field_width": 1.00000364567563,
        "dwell_time": 0.5, "stage_x": 25.15723, "chamber_pressure": 4.89e-7, "aperture_diameter": 20,
    }  # fmt: skip
    assert signal.fields["magnification"] == 114_300
    assert signal.fields["spot_size"] == 6
    assert signal.extensions["Ion Gas"] == "Helium"
    assert signal.extensions["Lines Averaged"] == 64
    assert signal.extensions["Data Bar Rows"] == 1120 - 1024


@pytest.mark.corpus
@real_files
def test_slice_of_a_volume_has_its_golden_values() -> None:
    name = "tif_fibics_atlas/SESI_keyframe_00001_slice_00006_z=1.6659um.tif"
    signal = read(CORPUS / name, "fibics_atlas")
    assert signal.data_type == "SEM_Imaging"
    assert signal.acquired == datetime(2017, 4, 20, 11, 52, 36, 78000, timezone(timedelta(hours=2)))
    assert unitless(
        signal, acceleration_voltage="kV", extraction_voltage="kV", filament_current="A", dwell_time="µs",
        aperture_diameter="µm", tilt_correction="deg", working_distance="mm", stage_z="mm", stage_tilt="deg",
    ) == {
        "acceleration_voltage": 5, "extraction_voltage": 4.28, "filament_current": 2.297, "dwell_time": 1,
        "aperture_diameter": 30, "tilt_correction": -36, "working_distance": 5.04427822306752, "stage_z": 41.893665,
        "stage_tilt": 90,
    }  # fmt: skip
    assert signal.extensions["Extractor Current"].m_as("µA") == pytest.approx(248.4), "the file lost its µ"
    assert signal.extensions["Slice"]["Position"].m_as("µm") == pytest.approx(1.66589532722438)
    assert signal.extensions["Slice"]["Number"] == 6


@pytest.mark.corpus
@real_files
def test_tescan_image_has_its_golden_values_with_and_without_its_header_file(tmp_path: Path) -> None:
    real = CORPUS / "tif_tescan/tescan-pfib_dataZeroed.tif"
    alone = read(write(tmp_path, "a.tif", real.read_bytes()), "tescan")
    signal = read(real, "tescan")
    assert alone.fields == signal.fields
    assert unitless(
        signal, acceleration_voltage="kV", working_distance="mm", dwell_time="µs", emission_current="µA",
        beam_current="pA", pixel_width="nm", horizontal_field_width="µm", vertical_field_width="µm", stage_x="mm",
        chamber_pressure="mPa",
    ) == {
        "acceleration_voltage": 15, "working_distance": 5.947501, "dwell_time": 10, "emission_current": 217.6420018,
        "beam_current": 300.3, "pixel_width": 1.5625, "horizontal_field_width": 2, "vertical_field_width": 2,
        "stage_x": 4.07293, "chamber_pressure": 0.61496,
    }  # fmt: skip
    assert signal.fields["magnification"] == 160_000
    assert signal.fields["operator"] == "nxuser"
    assert signal.fields["software"].startswith("TESCAN Essence Version 1.3.7.1")
    assert signal.extensions["Header Date"] == "2025-12-03 17:19:26", "five hours off: in UTC"
    assert signal.extensions["Data Bar Rows"] == 298


@pytest.mark.corpus
@real_files
def test_text_of_jeol_alone_has_its_golden_values() -> None:
    signal = read(CORPUS / "text_generic/text_preview_jeol_ansi.txt", "jeol_sem")
    assert (signal.dataset_type, signal.acquired) == ("Misc", datetime(2023, 7, 13, 14, 38, 59))
    assert unitless(
        signal, acceleration_voltage="kV", working_distance="mm", emission_current="µA", stage_x="mm", stage_z="mm",
        chamber_pressure="Pa", pixel_width="nm",
    ) == {
        "acceleration_voltage": 1, "working_distance": 3.78, "emission_current": 44.4, "stage_x": -3.12,
        "stage_z": 4.6, "chamber_pressure": 9.634e-5, "pixel_width": 10_000 / 106,
    }  # fmt: skip
    assert signal.fields["detector_type"] == "LED"
    assert signal.fields["microscope"] == "JEOL 7800F"
    assert signal.text is not None
    assert "µm" in signal.text, "written in Windows' code page"


@pytest.mark.corpus
@real_files
@pytest.mark.parametrize("part", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("row", ROWS, ids=[row["path"] for row in ROWS])
def test_a_broken_copy_says_so(row: dict[str, str], part: float, tmp_path: Path) -> None:
    path = CORPUS / row["path"]
    if path.suffix == ".hdr":
        pytest.skip("a text remains a text")
    whole = path.read_bytes()
    source = source_of(write(tmp_path, "a.tif", whole[: int(len(whole) * part)]))
    extractor = chosen(source)
    assert extractor is not None
    try:
        [signal] = extractor.extract(source)
    except ExtractionError as fault:
        assert "damaged" in str(fault)
    else:
        assert {"Pixels", "TIFF Tags", "Vendor Metadata"} & set(signal.warnings)


# --- SmartSEM: made files ---


def smartsem(*pairs: str, numbers: str = "0", wide: bool = False) -> bytes:
    """A TIFF with the header of CODE/line pairs."""
    text = "\r\n".join([*numbers.split(), *(line for pair in pairs for line in pair.split("|"))]) + "\r\n"
    if wide:
        return tiff((34118, 2, text.encode("ascii", "replace")), (34119, 1, text.encode("utf-16-le")))
    return tiff((34118, 2, text.encode("cp1252", "replace")))


DATED = ("AP_DATE|Date :13 Jul 2021", "AP_TIME|Time :18:23:36")


def test_ion_image_has_the_values_of_the_ion_beam(tmp_path: Path) -> None:
    content = smartsem(
        "DP_FIB_IMAGING|FIB Imaging = FIB", "AP_ACTUALKV|EHT =  5.00 kV", "AP_FIB_EHT_ACTUAL|FIB EHT = 30.00 kV",
        "AP_MAG|Mag = 1.50 K X", "AP_FIB_MAGNIFICATION|FIB Mag = 1.19 K X",
        "AP_FIB_PIXEL_SIZE|FIB Pixel Size = 93.89 nm", "AP_WIDTH|Width = 76.22 µm",
        "DP_FIB_IMAGE_PROBE|FIB Image Probe = 30kV:50pA",
    )  # fmt: skip
    signal = read(write(tmp_path, "a.tif", content), "zeiss_smartsem")
    assert signal.data_type == "FIB_Imaging"
    assert signal.fields["acceleration_voltage"].m_as("kV") == 30
    assert signal.fields["magnification"] == 1190
    assert signal.fields["pixel_width"].m_as("nm") == pytest.approx(93.89 * 1024 / 64)
    assert signal.extensions["FIB Probe"] == "30kV:50pA"


@pytest.mark.parametrize(
    ("filament", "fields"),
    [
        ("Tungsten", {"emission_current", "spot_size"}),
        ("LaB6", {"emission_current", "spot_size"}),
        ("FE FEI", set()),
    ],
)
def test_emission_is_that_of_a_heated_filament(filament: str, fields: set[str], tmp_path: Path) -> None:
    content = smartsem(
        f"DP_FILAMENT_TYPE|Filament Type = {filament}",
        "AP_BEAM_CURRENT|Beam Current =   80.0 µA",
        "AP_SPOTSIZE|Spot Size = 340",
    )
    signal = read(write(tmp_path, "a.tif", content), "zeiss_smartsem")
    assert {"emission_current", "spot_size"} & set(signal.fields) == fields


@pytest.mark.parametrize(
    ("reduction", "frames"), [("Frame Avg", 51), ("Frame Int. Done", 8), ("Line Avg", None), ("Pixel Avg.", None)]
)
def test_only_the_average_that_was_taken_counts(reduction: str, frames: int | None, tmp_path: Path) -> None:
    content = smartsem(
        f"DP_NOISE_REDUCTION|Noise Reduction = {reduction}",
        "AP_FRAME_AVERAGE_COUNT|Frames to average = 51",
        "AP_FRAME_INT_COUNT|Frames to Int. = 8",
    )
    assert read(write(tmp_path, "a.tif", content), "zeiss_smartsem").fields.get("frames") == frames


@pytest.mark.parametrize(
    ("date", "time", "expected"),
    [
        ("13 Jul 2021", "8:20:42", datetime(2021, 7, 13, 8, 20, 42)),
        ("09 Dez 2019", "11:19:43", datetime(2019, 12, 9, 11, 19, 43)),
        ("3 Mrz 2019", "11:19:43", datetime(2019, 3, 3, 11, 19, 43)),
        ("5 févr. 2020", "23:59:59", datetime(2020, 2, 5, 23, 59, 59)),
        ("13 7 2021", "6:23:36 PM", datetime(2021, 7, 13, 18, 23, 36)),
        ("31 Feb 2021", "8:20:42", None),
        ("today", "noon", None),
    ],
)
def test_dates_of_many_countries(date: str, time: str, expected: datetime | None, tmp_path: Path) -> None:
    content = smartsem(f"AP_DATE|Date :{date}", f"AP_TIME|Time :{time}")
    signal = read(write(tmp_path, "a.tif", content), "zeiss_smartsem")
    assert signal.acquired == expected
    assert ("Creation Time" in signal.warnings) == (expected is None)


def test_copy_in_utf_16_keeps_what_the_code_page_lost(tmp_path: Path) -> None:
    content = smartsem("SV_SAMPLE_ID|Sample ID = 試料 4", "AP_STAGE_AT_T|Stage at T = 54.0 °", wide=True)
    signal = read(write(tmp_path, "a.tif", content), "zeiss_smartsem")
    assert signal.fields["specimen"] == "試料 4"
    assert signal.fields["stage_tilt"].m_as("deg") == 54


@pytest.mark.parametrize("text", ["nan kV", "9" * 40 + " kV", "5.00 parsec", "five"])
def test_odd_value_costs_that_value(text: str, tmp_path: Path) -> None:
    signal = read(write(tmp_path, "a.tif", smartsem(f"AP_ACTUALKV|EHT = {text}", *DATED)), "zeiss_smartsem")
    assert "acceleration_voltage" not in signal.fields
    assert "acceleration_voltage" in signal.warnings
    assert signal.acquired == datetime(2021, 7, 13, 18, 23, 36)


def test_pages_of_one_size_are_a_stack(tmp_path: Path) -> None:
    file = io.BytesIO()
    text = b"0\r\nAP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 4.00 nm\r\nAP_MAG\r\nMag = 40 K X\r\n"
    with tifffile.TiffWriter(file) as writer:
        for shade in range(3):
            tags = [(34118, 2, len(text), text, True)]
            writer.write(PICTURE + np.uint8(shade), photometric="minisblack", metadata=None, extratags=tags)
    signal = read(write(tmp_path, "a.tif", file.getvalue()), "zeiss_smartsem")
    assert signal.shape == (3, 48, 64)
    assert signal.pixels is not None
    assert [axis.navigation for axis in signal.pixels.axes] == [True, False, False]
    np.testing.assert_array_equal(signal.pixels.array[2], PICTURE + np.uint8(2))


@given(
    st.lists(st.sampled_from(["AP_WD", "AP_", "WD = 5", "=", ":", "\0", "", "SV_X", "µ", "1e999", " "])).map("\n".join)
)
def test_no_text_breaks_the_header_parser(text: str) -> None:
    shown, numbers = zeiss_smartsem.parse_header(text)
    assert all(zeiss_smartsem.CODE.fullmatch(code) for code in shown)
    assert not any(zeiss_smartsem.CODE.fullmatch(line) for line in numbers)


# --- Orion, Fibics: made files ---


def fibics(inside: str) -> bytes:
    xml = f'<?xml version="1.0" encoding="iso-8859-1"?><Fibics version="1.0">{inside}</Fibics>'
    return tiff((51023, 2, xml.encode("iso-8859-1")), (34118, 2, b"0\r\nAP_MAG\r\nMag = 1 X\r\n"))


@pytest.mark.parametrize(
    ("inside", "technique"),
    [
        ("<Image><Beam>SEM</Beam></Image>", "SEM_Imaging"),
        ("<Image><Beam>FIB</Beam></Image>", "FIB_Imaging"),
        ("<Application><Version>NPVE v4.5</Version></Application>", "HIM_Imaging"),
        ('<BeamInfo><item name="Gas">Helium</item></BeamInfo>', "HIM_Imaging"),
        ("<Image><Machine>ORION-12</Machine></Image>", "HIM_Imaging"),
    ],
)
def test_beam_of_a_fibics_image(inside: str, technique: str, tmp_path: Path) -> None:
    assert read(write(tmp_path, "a.tif", fibics(inside)), "fibics_atlas").data_type == technique


def test_values_of_an_ion_microscope_in_fibics(tmp_path: Path) -> None:
    content = fibics(
        "<Application><Version>NPVE v4.5</Version><Date>2024-05-01 10:11:12</Date></Application>"
        '<Scan><Dwell units="ns">10000</Dwell><FOV_X units="um">6.4</FOV_X><FOV_Y units="um">4.8</FOV_Y></Scan>'
        '<BeamInfo><item name="BeamI">1.3275</item></BeamInfo>'
        '<DetectorInfo><item name="Collector">=500.0 V</item></DetectorInfo>'
    )
    signal = read(write(tmp_path, "a.tif", content), "fibics_atlas")
    assert signal.fields["beam_current"].m_as("pA") == pytest.approx(1.3275)
    assert signal.fields["pixel_width"].m_as("nm") == pytest.approx(100)
    assert signal.extensions["Detector Settings"]["Collector Voltage"].m_as("V") == 500
    assert signal.acquired == datetime(2024, 5, 1, 10, 11, 12)


@pytest.mark.parametrize(
    ("tag", "root", "reader"), [(51023, "Fibics", "fibics_atlas"), (65000, "ImageTags", "zeiss_orion")]
)
@pytest.mark.parametrize("xml", ["<{0}><A>", '<!DOCTYPE {0} [<!ENTITY x SYSTEM "file:///etc/passwd">]><{0}>&x;</{0}>'])
def test_damaged_or_hostile_xml_costs_the_metadata_only(
    tag: int, root: str, reader: str, xml: str, tmp_path: Path
) -> None:
    signal = read(write(tmp_path, "a.tif", tiff((tag, 1, xml.format(root).encode()))), reader)
    assert "Vendor Metadata" in signal.warnings
    assert "root:" not in str(signal)
    assert signal.pixels is not None


def test_values_of_the_column_that_made_the_image_win(tmp_path: Path) -> None:
    xml = (
        "<ImageTags><ColumnType><Value>GFIS</Value></ColumnType>"
        "<ApertureSize><Value>20</Value><Units/></ApertureSize><StageX><Value>1</Value><Units>mm</Units></StageX>"
        "<AccelerationVoltage><Value>1</Value><Units>Volts</Units></AccelerationVoltage>"
        "<GFIS.AccelerationVoltage><Value>25</Value><Units>Kilovolts</Units></GFIS.AccelerationVoltage>"
        "<NumAverages><Value>16</Value></NumAverages><AveragingMode><Value>Frame</Value></AveragingMode></ImageTags>"
    )
    signal = read(write(tmp_path, "a.tif", tiff((65000, 1, xml.encode()))), "zeiss_orion")
    assert signal.fields["acceleration_voltage"].m_as("kV") == 25
    assert signal.fields["aperture_diameter"].m_as("µm") == 20
    assert signal.fields["stage_x"].m_as("mm") == 1
    assert signal.fields["frames"] == 16


# --- Tescan: made files ---

MAIN = "AccFrames=4\nDevice=LYRA3 GMU\nDate=2021-10-29\nTime=11:12:13\nPixelSizeX=1e-08\nPixelSizeY=1e-08\n"
SEM = "HV=10000\nWD=0.009\nDetector=SE\n"
FIB = "HV=30000\nDetector=SE\nPredictedBeamCurrent=1e-10\nStageX=0.001\n"


def blocks(*sections: tuple[int, str]) -> bytes:
    parts = [(1, "thumbnail"), *sections]
    packed = (struct.pack("<IH", len(text.encode()) + 2, kind) + text.encode() for kind, text in parts)
    return b"".join(packed) + struct.pack("<IH", 2, 0)


def header(*sections: tuple[str, str]) -> bytes:
    return "\r\n".join(f"[{name}]\r\n" + text.replace("\n", "\r\n") for name, text in sections).encode()


def test_ion_image_of_a_tescan_dual_beam(tmp_path: Path) -> None:
    content = tiff((50431, 1, blocks((2, MAIN), (3, "StageX=0.5\nStageTilt=55\n"), (5, FIB))))
    signal = read(write(tmp_path, "a.tif", content), "tescan")
    assert signal.data_type == "FIB_Imaging"
    assert signal.fields["acceleration_voltage"].m_as("kV") == 30
    assert signal.fields["beam_current"].m_as("pA") == pytest.approx(100)
    assert signal.fields["stage_x"].m_as("mm") == 1
    assert signal.fields["stage_tilt"].m_as("deg") == 55
    assert signal.fields["frames"] == 4


@pytest.mark.parametrize("name", ["a.hdr", "a-png.hdr", "A-PNG.HDR"])
def test_picture_with_a_header_beside_it(name: str, tmp_path: Path) -> None:
    write(tmp_path, name, header(("MAIN", MAIN), ("SEM", SEM)))
    signal = read(write(tmp_path, "a.png", picture_bytes("PNG")), "tescan")
    assert signal.shape == (48, 64)
    assert signal.fields["working_distance"].m_as("mm") == pytest.approx(9)
    assert signal.fields["pixel_width"].m_as("nm") == pytest.approx(10)
    assert signal.acquired == datetime(2021, 10, 29, 11, 12, 13)


def test_two_detectors_side_by_side_share_the_field(tmp_path: Path) -> None:
    main = MAIN + "ImageStripSize=8\nViewFieldsCountX=2\nViewFieldsCountY=1\n"
    signal = read(write(tmp_path, "a.tif", tiff((50431, 1, blocks((2, main), (3, SEM))))), "tescan")
    assert signal.fields["horizontal_field_width"].m_as("nm") == pytest.approx(320)
    assert signal.fields["vertical_field_width"].m_as("nm") == pytest.approx(400)
    assert signal.extensions["Data Bar Rows"] == 8


@pytest.mark.parametrize(
    ("saved", "acquired"),
    [
        ("2021:10:29 11:13:00", datetime(2021, 10, 29, 11, 12, 13)),
        ("2021:10:29 13:13:00", datetime(2021, 10, 29, 13, 13)),
    ],
)
def test_header_in_utc_gives_way_to_the_clock_of_the_instrument(saved: str, acquired: datetime, tmp_path: Path) -> None:
    content = tiff((50431, 1, blocks((2, MAIN), (3, SEM))), (306, 2, saved.encode() + b"\0"))
    assert read(write(tmp_path, "a.tif", content), "tescan").acquired == acquired


@pytest.mark.parametrize("raw", [b"\xff" * 40, b"\0" * 40, blocks((2, MAIN))[:12], blocks((9, MAIN))])
def test_damaged_blocks_leave_the_picture(raw: bytes, tmp_path: Path) -> None:
    signal = read(write(tmp_path, "a.tif", tiff((50431, 1, raw))), "tescan")
    assert "Vendor Metadata" in signal.warnings
    assert signal.shape == (48, 64)


def test_header_of_another_vendor_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path, "a.hdr", b"HDR,\t\nTime and Date Stamp: 15/04/2021 14:43:45\n")
    source = source_of(write(tmp_path, "a.png", picture_bytes("PNG")))
    assert isinstance(chosen(source), plain_image.PlainImage)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_block_reader(raw: bytes) -> None:
    try:
        sections = tescan.read_blocks(raw)
    except ExtractionError:
        return
    assert bool(sections) or not raw


# --- JEOL: made files ---

JEOL = """$CM_FORMAT JEOL-SEM
$CM_VERSION 3.0
$CM_DATE 2024/02/10
$CM_TIME 11:12:13
$CM_OPERATOR SEM user
$CM_INSTRUMENT JSM-IT700HR
$CM_ACCEL_VOLT 15.00
$CM_MAG 1000
$CM_SIGNAL SED
$CM_TITLE steel
$$SM_WD 10.0
$$SM_MICRON_BAR 16
$$SM_MICRON_MARKER 1um
$CM_FULL_SIZE 64 40
"""


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "JPEG"])
def test_picture_with_a_text_of_jeol(kind: str, tmp_path: Path) -> None:
    write(tmp_path, "a.TXT", JEOL.replace("\n", "\r\n").encode())
    signal = read(write(tmp_path, f"a.{kind.lower()}", picture_bytes(kind)), "jeol_sem")
    assert (signal.dataset_type, signal.data_type, signal.name) == ("Image", "SEM_Imaging", "steel")
    assert signal.acquired == datetime(2024, 2, 10, 11, 12, 13)
    assert signal.fields["pixel_width"].m_as("nm") == pytest.approx(1000 / 16)
    assert signal.fields["microscope"] == "JEOL JSM-IT700HR"
    assert signal.extensions["Data Bar Rows"] == 8
    assert signal.fields["vertical_field_width"].m_as("µm") == pytest.approx(40 / 16)


def test_newer_text_of_jeol(tmp_path: Path) -> None:
    text = JEOL.replace("$$SM_WD", "$SM_WD").replace("FULL_SIZE", "IMAGE_SIZE") + (
        "$CM_FIELD_OF_VIEW 6.4µm 4.0µm\n"
        "$CM_STAGE_POSITION X=37.1761, Y=44.9344, R=354.9968, Z=16.90, T=-2.50\n"
        "$FE_DETECTOR_NAME UED\n"
    )
    write(tmp_path, "a.txt", text.encode("cp1252"))
    signal = read(write(tmp_path, "a.bmp", picture_bytes("BMP")), "jeol_sem")
    assert signal.fields["pixel_width"].m_as("nm") == pytest.approx(100)
    assert unitless(signal, stage_x="mm", stage_z="mm", stage_rotation="deg", stage_tilt="deg") == {
        "stage_x": 37.1761, "stage_z": 16.9, "stage_rotation": 354.9968, "stage_tilt": -2.5,
    }  # fmt: skip
    assert signal.fields["detector_type"] == "UED"


def test_enlarged_picture_has_smaller_pixels(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", JEOL.encode())
    signal = read(write(tmp_path, "a.bmp", picture_bytes("BMP", 80, 128)), "jeol_sem")
    assert signal.fields["pixel_width"].m_as("nm") == pytest.approx(1000 / 32)


def test_stage_angles_of_unknown_order_are_no_fields(tmp_path: Path) -> None:
    text = JEOL + "$CM_STAGE_POS 2.044 0.704 10.2 11.0 0.0 0\n"
    signal = read(write(tmp_path, "a.txt", text.encode()), "jeol_sem")
    assert signal.fields["stage_z"].m_as("mm") == pytest.approx(10.2)
    assert "stage_rotation" not in signal.fields
    assert signal.extensions["Stage Angles"] == "11.0 0.0 (degrees)"


@pytest.mark.parametrize("marker", ["", "0um", "1 parsec", "um"])
@pytest.mark.parametrize("bar", ["", "0", "-5", "x"])
def test_odd_micron_bar_leaves_the_picture_without_scale(marker: str, bar: str, tmp_path: Path) -> None:
    text = JEOL.replace("BAR 16", f"BAR {bar}").replace("MARKER 1um", f"MARKER {marker}")
    write(tmp_path, "a.txt", text.encode())
    signal = read(write(tmp_path, "a.bmp", picture_bytes("BMP")), "jeol_sem")
    assert "pixel_width" not in signal.fields
    assert signal.pixels is not None


# --- Hitachi: made files ---

HITACHI = """[SemImageFile]
InstructName=SU8000
SerialNumber=SU-123
SampleName=試料1
Date={date}
Time=15:12:36
DataSize=64x40
PixelSize=9.921875
SignalName=SE(UL)
AcceleratingVoltage=10000 Volt
Magnification=10000
WorkingDistance=8200 um
EmissionCurrent=10500 nA
StagePositionX=25000000
StagePositionY=-1500000
StagePositionT=0
StagePositionR=1800
ScanSpeed=Slow3
"""


@pytest.mark.parametrize("encoding", ["utf-16", "cp932", "utf-8-sig"])
@pytest.mark.parametrize(
    ("date", "acquired"),
    [
        ("03/25/2021", datetime(2021, 3, 25, 15, 12, 36)),
        ("2021/03/25", datetime(2021, 3, 25, 15, 12, 36)),
        ("25.03.2021", datetime(2021, 3, 25, 15, 12, 36)),
    ],
)
def test_picture_with_a_text_of_hitachi(date: str, acquired: datetime, encoding: str, tmp_path: Path) -> None:
    text = HITACHI.format(date=date).replace("\n", "\r\n")
    write(tmp_path, "試料 1.txt", text.encode(encoding))
    signal = read(write(tmp_path, "試料 1.tif", picture_bytes("TIFF")), "hitachi")
    assert (signal.data_type, signal.acquired) == ("SEM_Imaging", acquired)
    assert unitless(
        signal, acceleration_voltage="kV", working_distance="mm", emission_current="µA", pixel_width="nm",
        horizontal_field_width="µm", stage_x="mm", stage_y="mm", stage_tilt="deg",
    ) == {
        "acceleration_voltage": 10, "working_distance": 8.2, "emission_current": 10.5, "pixel_width": 9.921875,
        "horizontal_field_width": 0.635, "stage_x": 25, "stage_y": -1.5, "stage_tilt": 0,
    }  # fmt: skip
    assert signal.fields["specimen"] == "試料1"
    assert signal.fields["microscope"] == "Hitachi SU8000"
    assert signal.fields["magnification"] == 10_000
    assert "stage_rotation" not in signal.fields, "1800 of what?"
    assert signal.extensions["Data Bar Rows"] == 8


def test_old_text_of_hitachi_tells_by_its_condition(tmp_path: Path) -> None:
    text = b"[SemImageFile]\nInstructName=S-4700\nDataSize=1280x960\nCondition=Vacc=10kV   Mag=x15.0k   WD=8.1mm\n"
    write(tmp_path, "a.txt", text)
    signal = read(write(tmp_path, "a.bmp", picture_bytes("BMP", 960, 1280)), "hitachi")
    assert signal.fields["acceleration_voltage"].m_as("kV") == 10
    assert signal.fields["working_distance"].m_as("mm") == pytest.approx(8.1)
    assert signal.fields["magnification"] == 15_000
    assert signal.fields["pixel_width"].m_as("nm") == pytest.approx(127e6 / 15_000 / 1280)
    assert "pixel_width" in signal.warnings


def test_text_of_hitachi_alone_is_text_with_its_facts(tmp_path: Path) -> None:
    signal = read(write(tmp_path, "a.txt", HITACHI.format(date="2021/03/25").encode("utf-16")), "hitachi")
    assert signal.dataset_type == "Misc"
    assert signal.fields["working_distance"].m_as("mm") == pytest.approx(8.2)
    assert signal.text is not None
    assert "試料1" in signal.text


@pytest.mark.parametrize(
    ("modified", "expected"),
    [
        (datetime(2021, 6, 5, 20, tzinfo=UTC), datetime(2021, 6, 5, 15, 12, 36)),
        (datetime(2021, 5, 6, 20, tzinfo=UTC), datetime(2021, 5, 6, 15, 12, 36)),
        (datetime(2023, 5, 6, 20, tzinfo=UTC), datetime(2021, 5, 6, 15, 12, 36)),
    ],
)
def test_day_or_month_is_told_by_the_day_of_the_file(modified: datetime, expected: datetime, tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", HITACHI.format(date="05/06/2021").encode())
    signal = read(path, "hitachi", modified)
    assert signal.acquired == expected
    assert ("Creation Time" in signal.warnings) == (modified.year == 2023)


# --- FEI: what only newer versions write ---


def test_xml_of_thermo_fisher_reaches_every_field(tmp_path: Path) -> None:
    xml = (
        '<?xml version="1.0"?><Metadata><Core><UserID>op</UserID></Core><Instrument>'
        "<ControlSoftwareVersion>17.21.0</ControlSoftwareVersion><InstrumentClass>Helios 5</InstrumentClass>"
        "<ComputerName>HDA-MPC</ComputerName></Instrument><Acquisition><BeamType>Ion</BeamType></Acquisition>"
        "<Optics><Apertures><Aperture><Number>1</Number><Diameter>3.2E-05</Diameter></Aperture></Apertures>"
        "<SampleTiltCorrectionOn>true</SampleTiltCorrectionOn><SamplePreTiltAngle>0.5</SamplePreTiltAngle></Optics>"
        "<BinaryResult><FilterFrameCount>8</FilterFrameCount></BinaryResult></Metadata>"
    )
    signal = read(write(tmp_path, "a.tif", tiff((34683, 2, xml.encode()))), "fei_tiff")
    assert signal.data_type == "FIB_Imaging"
    assert signal.fields["computer"] == "HDA-MPC"
    assert signal.fields["microscope"] == "Helios 5"
    assert signal.fields["software"] == "xT microscope control 17.21.0"
    assert signal.fields["frames"] == 8
    assert signal.fields["aperture_diameter"].m_as("µm") == pytest.approx(32)
    assert signal.fields["tilt_correction"].m_as("rad") == pytest.approx(0.5)


def test_landing_energy_counts_while_the_beam_is_decelerated(tmp_path: Path) -> None:
    for switch, expected in (("On", True), ("Off", False)):
        text = f"[Beam]\nBeam=EBeam\n[EBeam]\nHV=5000\n[EBeamDeceleration]\nModeOn={switch}\nLandingEnergy=1000\n"
        signal = read(write(tmp_path, "a.tif", tiff((34682, 2, text.encode()))), "fei_tiff")
        assert ("landing_energy" in signal.fields) is expected


# --- Phenom: made files ---


def test_image_of_a_desktop_microscope(tmp_path: Path) -> None:
    xml = (
        "<FeiImage><databarHeight>8</databarHeight><pixelWidth unit='um'>0.5</pixelWidth>"
        "<pixelHeight unit='um'>0.5</pixelHeight><time>2019-08-07T09:37:31</time><integrations>16</integrations>"
        "<samplePosition><x>-0.0025</x></samplePosition><acquisition><scan><dwellTime unit='ns'>200</dwellTime>"
        "<highVoltage unit='kV'>-15</highVoltage><detector>bsd-all</detector></scan></acquisition>"
        "<instrument><type>PhenomXL</type></instrument></FeiImage>"
    )
    signal = read(write(tmp_path, "a.tif", tiff((34683, 2, xml.encode()))), "phenom_tiff")
    assert signal.acquired == datetime(2019, 8, 7, 9, 37, 31)
    assert unitless(
        signal, acceleration_voltage="kV", pixel_width="nm", vertical_field_width="µm", dwell_time="ns", stage_x="mm"
    ) == {
        "acceleration_voltage": 15,
        "pixel_width": 500,
        "vertical_field_width": 20,
        "dwell_time": 200,
        "stage_x": -2.5,
    }
    assert signal.fields["microscope"] == "PhenomXL"
    assert signal.fields["frames"] == 16
    assert signal.extensions["Data Bar Rows"] == 8
