"""FEI TIFF, EDAX, EMSA/MAS, plain pictures and plain text: real files, golden values and hostile variants."""

import csv
import os
import struct
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexuslims_pipeline.demo.emsa import emsa
from nexuslims_pipeline.demo.fei_tiff import FEI_TAG, fei_tiff
from nexuslims_pipeline.extraction.formats import axiovision, edax_spc, imagej_tiff, ome_tiff, plain_image, plain_text
from nexuslims_pipeline.extraction.formats import emsa as msa
from nexuslims_pipeline.extraction.formats import fei_tiff as fei
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import decode, local_time, number, parse_xml
from nexuslims_pipeline.metadata.checked import checked_metadata
from nexuslims_pipeline.signals import Signal, Source

CORPUS = Path(os.environ.get("NX_TEST_CORPUS", Path(__file__).parents[2] / "shared" / "corpus"))
FORMATS = (
    "tif_fei",
    "spc",
    "msa",
    "image_generic",
    "text_generic",
    "tif_imagej",
    "tif_ome",
    "tif_axiovision",
)
EXTRACTORS: tuple[Extractor, ...] = tuple(
    module.EXTRACTOR for module in (fei, edax_spc, msa, axiovision, imagej_tiff, ome_tiff, plain_image, plain_text)
)
ACQUIRED_TOO = {
    "leo_edax_test.spc": "2022-08-29T10:14:08",
    "test_loading_image_saved_with_imageJ_stack.tif": "2015-07-20T18:48:25+02:00",
    "test_loading_image_saved_with_imageJ_no_scale.tif": "2015-07-20T18:48:25+02:00",
}
"""HyperSpy drops the date of EDAX files, which the .msa of the same spectrum confirms, and that of DigitalMicrograph
in copies by ImageJ."""
NOT_TOLD_BY_CONTENT = {"Background acquisition pattern.bmp": "Image"}
"""A diffraction pattern by its file name only: the content is a grey BMP like any other."""


def corpus_rows() -> list[dict[str, str]]:
    if not (CORPUS / "manifest.csv").exists():
        return []
    with (CORPUS / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["format"] in FORMATS]


ROWS = corpus_rows()
real_files = pytest.mark.skipif(not ROWS, reason="the corpus is not here")


def source_of(path: Path) -> Source:
    return Source(path, datetime(2026, 1, 1, tzinfo=UTC), path.stat().st_size)


def chosen(path: Path) -> Extractor | None:
    source = source_of(path)
    with path.open("rb") as file:
        head = file.read(4096)
    return next((x for x in EXTRACTORS if path.suffix.lower() in x.extensions and x.accepts(source, head)), None)


def read(path: Path) -> list[Signal]:
    extractor = chosen(path)
    assert extractor is not None, f"nobody accepts {path.name}"
    return extractor.extract(source_of(path))


def read_one(path: Path) -> Signal:
    [signal] = read(path)
    return signal


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def si(quantity: Any) -> float:
    """A quantity in SI base units, without the noise of the conversion."""
    return float(f"{quantity.to_base_units().magnitude:.9g}")


# --- real files ---


@pytest.mark.corpus
@real_files
@pytest.mark.parametrize("row", ROWS, ids=[row["path"] for row in ROWS])
def test_real_file_is_read_as_the_manifest_says(row: dict[str, str]) -> None:
    path = CORPUS / row["path"]
    if row["expected_dataset_type"] == "Unknown":
        with pytest.raises(ExtractionError, match="without an image"):
            read(path)
        return
    signal = read_one(path)
    assert signal.dataset_type == NOT_TOLD_BY_CONTENT.get(path.name, row["expected_dataset_type"])
    assert "x".join(map(str, signal.shape)) == row["shapes"]
    expected = ACQUIRED_TOO.get(path.name, row["acquired_at"])
    assert (signal.acquired.isoformat() if signal.acquired else "") == expected
    if signal.shape:
        assert signal.pixels is not None
        assert signal.pixels.array.shape == signal.shape
        assert tuple(axis.size for axis in signal.pixels.axes) == signal.shape
        assert np.asarray(signal.pixels.array[..., :2]).shape == (*signal.shape[:-1], 2)
    else:
        assert signal.text


@pytest.mark.corpus
@real_files
@pytest.mark.parametrize("row", ROWS, ids=[row["path"] for row in ROWS])
def test_every_value_passes_the_check_of_its_unit(row: dict[str, str]) -> None:
    path = CORPUS / row["path"]
    if row["expected_dataset_type"] == "Unknown":
        pytest.skip("no image in it")
    signal = read_one(path)
    meta = checked_metadata(signal, source_of(path), "reader", "1")
    assert len(meta["warnings"]) == len(signal.warnings)


@pytest.mark.corpus
@real_files
def test_quanta_image_has_its_golden_values() -> None:
    signal = read_one(CORPUS / "tif_fei/quanta_image.tif")
    assert (signal.dataset_type, signal.data_type) == ("Image", "SEM_Imaging")
    numbers = {name: si(value) for name, value in signal.fields.items() if hasattr(value, "magnitude")}
    assert numbers == {
        "acceleration_voltage": 30_000,
        "working_distance": 0.011051,
        "emission_current": 0.000156,
        "dwell_time": 3e-5,
        "frame_time": 29.5667,
        "horizontal_field_width": 0.000452548,
        "vertical_field_width": 0.000390676,
        "pixel_width": 4.41942e-7,
        "pixel_height": 4.41942e-7,
        "scan_rotation": 0,
        "stage_x": 0.009654,
        "stage_y": 0.0146008,
        "stage_z": 0.011,
        "stage_rotation": 0.0010584,
        "stage_tilt": 0.0121551,
        "stage_beta": 0,
        "chamber_pressure": 79.8238,
    }
    assert signal.fields["detector_type"] == "LFD"
    assert signal.fields["operator"] == "user_"
    assert "operator" in signal.warnings
    assert signal.extensions["User Text"] == "label"
    assert signal.extensions["Detector Signal"] == "SE"
    assert signal.fields["frames"] == 5
    assert signal.extensions["Frame Processing"] == "integrated"
    assert signal.fields["spot_size"] == 3
    assert signal.fields["microscope"] == "Quanta FEG"
    assert signal.fields["software"] == "xT microscope control 4.1.9.2120"
    assert "tilt_correction" not in signal.fields, "it is off"
    assert signal.extensions["Internal Scan"] is True
    assert signal.extensions["Drift Correction"] is False
    assert signal.extensions["Data Bar Rows"] == 943 - 884
    assert signal.native["EBeam"]["EucWD"] == "0.01"


@pytest.mark.corpus
@real_files
@pytest.mark.parametrize(
    ("name", "magnification"),
    [
        ("quanta-fei_2_dataZeroed.tif", 75_000),
        ("FEI-Helios-Ebeam-8bits.tif", 120),
        ("quanta_image.tif", 282.8),
    ],
)
def test_magnification_is_the_round_number_of_the_data_bar(name: str, magnification: float) -> None:
    assert read_one(CORPUS / "tif_fei" / name).fields["magnification"] == magnification


@pytest.mark.corpus
@real_files
def test_pressure_is_in_pascal_in_high_vacuum_too() -> None:
    signal = read_one(CORPUS / "tif_fei/FEI-Helios-Ebeam-8bits.tif")
    assert signal.extensions["Vacuum Mode"] == "High vacuum"
    assert signal.fields["chamber_pressure"].m_as("Pa") == 0.000584097
    assert signal.fields["beam_current"].m_as("pA") == pytest.approx(6.25)


@pytest.mark.corpus
@real_files
def test_one_bad_number_costs_that_number() -> None:
    good = read_one(CORPUS / "tif_fei/FEI-Helios-navcam-with-no-IRBeam.tif")
    bad = read_one(CORPUS / "tif_fei/FEI-Helios-navcam-with-no-IRBeam-bad-floats.tif")
    assert set(bad.warnings) == {"acceleration_voltage", "working_distance", "operator"}
    assert "notafloat" in bad.warnings["working_distance"]
    assert set(good.fields) - set(bad.fields) == {"working_distance"}
    assert good.data_type == bad.data_type == "Optical_Imaging"
    assert bad.native["MultiGISUnit1.MultiGISGas2"] == {
        "GasName": "Pt",
        "DutyCycle": "100",
        "GasState": "Off",
    }


@pytest.mark.corpus
@real_files
def test_tecnai_diffraction_has_its_golden_values() -> None:
    signal = read_one(CORPUS / "tif_fei/titan_tem_saed_image_dataZeroed.tif")
    assert (signal.dataset_type, signal.data_type) == ("Diffraction", "TEM_Diffraction")
    numbers = {name: si(value) for name, value in signal.fields.items() if hasattr(value, "magnitude")}
    assert numbers == {
        "acceleration_voltage": si_of(200, "kV"),
        "extraction_voltage": 4500,
        "emission_current": 41e-6,
        "camera_length": 0.55,
        "stage_x": 633.553e-6,
        "stage_y": 875.343e-6,
        "stage_z": 37.466e-6,
        "stage_alpha": si_of(-2.35, "deg"),
        "stage_beta": 0,
    }
    assert signal.extensions["Diffraction lens"].m_as("percent") == 35.776
    assert signal.fields["spot_size"] == 2
    assert signal.fields["microscope"] == "Tecnai 200 kV D2211 XTwin"
    assert signal.fields["illumination_mode"] == "TEM uP"
    assert signal.fields["projection_mode"] == "SA Zoom Diffraction"


def si_of(value: float, unit: str) -> float:
    from nexuslims_pipeline.metadata.units import quantity

    return si(quantity(value, unit))


@pytest.mark.corpus
@real_files
def test_edax_spectrum_has_its_golden_values_and_those_of_rosettasciio() -> None:
    from rsciio.edax import file_reader

    path = CORPUS / "spc/leo_edax_test.spc"
    signal = read_one(path)
    assert signal.data_type == "SEM_EDS"
    magnitudes = {name: value.magnitude for name, value in signal.fields.items() if hasattr(value, "magnitude")}
    assert magnitudes == {
        "acceleration_voltage": 10,
        "live_time": 30,
        "channel_size": 5,
        "starting_energy": 0,
        "azimuthal_angle": 0,
        "elevation_angle": 35,
        "takeoff_angle": 35.51,
        "stage_tilt": -1,
        "detector_energy_resolution": 125.1621,
        "working_distance": 9.75,
        "shaping_time": 7.68,
    }
    assert sorted(signal.fields["elements"]) == ["Co", "O", "S"]
    assert signal.extensions["Ending Energy"].m_as("keV") == 20.475
    [other] = file_reader(path)
    assert signal.pixels is not None
    np.testing.assert_array_equal(signal.pixels.array, other["data"])
    assert signal.pixels.axes[0].scale == pytest.approx(other["axes"][0]["scale"])


@pytest.mark.corpus
@real_files
def test_msa_export_agrees_with_its_spc() -> None:
    spc, exported = read_one(CORPUS / "spc/leo_edax_test.spc"), read_one(CORPUS / "msa/leo_edax_test.msa")
    for name in (
        "acceleration_voltage",
        "live_time",
        "channel_size",
        "elevation_angle",
        "azimuthal_angle",
        "stage_tilt",
    ):
        assert exported.fields[name] == spc.fields[name]
    assert exported.fields["elements"] == spc.fields["elements"]
    assert exported.fields["takeoff_angle"].m_as("deg") == 35.5
    assert exported.fields["detector_energy_resolution"].m_as("eV") == 125.2
    assert exported.fields["shaping_time"].m_as("µs") == spc.fields["shaping_time"].m_as("µs") == 7.68
    assert exported.extensions["Active Layer Thickness"].m_as("cm") == 0.1
    assert "real_time" not in exported.fields
    assert "0" in exported.warnings["real_time"]
    assert spc.pixels is not None
    assert exported.pixels is not None
    np.testing.assert_array_equal(exported.pixels.array, spc.pixels.array)


@pytest.mark.corpus
@real_files
def test_eels_of_the_standard_has_the_units_of_the_standard() -> None:
    plain = read_one(CORPUS / "msa/ISO_22029_2022_compliance_title_multiple_line.msa")
    spelt = read_one(CORPUS / "msa/example1.msa")
    assert plain.data_type == spelt.data_type == "TEM_EELS"
    assert plain.fields == spelt.fields
    assert plain.name == "NIO EELS OK SHELL - Second line of the title - Third line of the title"
    assert plain.fields["probe_current"].m_as("nA") == 12.345
    assert plain.fields["collection_angle"].m_as("mrad") == 3.4
    assert plain.fields["magnification"] == 100
    assert plain.extensions["Operation Mode"] == "Imaging"
    assert not plain.warnings
    assert "20 values" in spelt.warnings["Pixels"]


@pytest.mark.corpus
@real_files
def test_pixel_size_is_believed_of_imagej_but_not_of_a_screen_resolution() -> None:
    stack = read_one(CORPUS / "tif_imagej/test_loading_image_saved_with_imageJ_stack.tif")
    assert stack.fields["pixel_width"].m_as("µm") == pytest.approx(1 / 5.928571)
    assert stack.pixels is not None
    assert [axis.navigation for axis in stack.pixels.axes] == [True, False, False]
    photo = read_one(CORPUS / "tif_axiovision/optical_Zeiss_AxioVision_RGB.tif")
    assert photo.extensions["Colour"] == "RGB"
    assert photo.native["TIFF"]["Model"] == "AxioCamERc5s"
    assert "pixel_width" not in photo.fields


@pytest.mark.corpus
@real_files
@pytest.mark.parametrize("row", ROWS, ids=[row["path"] for row in ROWS])
def test_a_broken_copy_says_so(row: dict[str, str], tmp_path: Path) -> None:
    original = CORPUS / row["path"]
    content = original.read_bytes()
    for part in (0.1, 0.5, 0.95):
        path = write(tmp_path, original.name, content[: int(len(content) * part)])
        if row["format"] == "text_generic":
            assert read_one(path).text
            continue
        if chosen(path) is None:
            continue
        try:
            signal = read_one(path)
        except ExtractionError as fault:
            assert "damaged" in str(fault)
        else:
            assert {"Pixels", "TIFF Tags"} & set(signal.warnings)


# --- FEI: made files ---

SECTIONS: dict[str, dict[str, object]] = {
    "User": {"Date": "03/02/2026", "Time": "10:11:12 AM", "User": "amina", "UserText": "steel"},
    "Beam": {"HV": 20000, "Beam": "EBeam", "Scan": "EScan"},
    "EBeam": {"HV": 20000, "HFW": 0.000128, "WD": 0.0098},
    "EScan": {"Dwell": 3e-6, "PixelWidth": 2e-6, "PixelHeight": 1e-6, "HorFieldsize": 0.000128},
    "Image": {"ResolutionY": 48, "MagCanvasRealWidth": 0.128},
    "Detectors": {"Number": 1, "Name": "ETD", "Mode": "SE"},
}
PICTURE = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)


def changed(section: str, **keys: object) -> dict[str, dict[str, object]]:
    return {**SECTIONS, section: {**SECTIONS.get(section, {}), **keys}}


def fei_signal(folder: Path, sections: dict[str, dict[str, object]]) -> Signal:
    return read_one(write(folder, "a.tif", fei_tiff(PICTURE, sections)))


def tiff_with(extra: bytes | str, tag: int = FEI_TAG) -> bytes:
    import io

    import tifffile

    raw = extra.encode() if isinstance(extra, str) else extra
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        PICTURE,
        photometric="minisblack",
        metadata=None,
        software=False,
        extratags=[(tag, 7, len(raw), raw, True)],
    )
    return file.getvalue()


def test_files_of_the_demo_are_read(tmp_path: Path) -> None:
    signal = fei_signal(tmp_path, SECTIONS)
    assert signal.acquired == datetime(2026, 3, 2, 10, 11, 12)
    assert signal.fields["pixel_width"].m_as("µm") == pytest.approx(2)
    assert signal.fields["pixel_height"].m_as("µm") == pytest.approx(1)
    assert signal.fields["magnification"] == 1000
    assert signal.extensions["Data Bar Rows"] == 16
    assert signal.pixels is not None
    assert [axis.scale for axis in signal.pixels.axes] == [1000, 2000]
    np.testing.assert_array_equal(signal.pixels.array[:], PICTURE)

    counts = np.arange(100, dtype=np.int64)
    header: dict[str, object] = {
        "TITLE": "steel",
        "DATE": "02-MAR-2026",
        "TIME": "10:11",
        "OWNER": "amina",
        "XUNITS": "eV",
        "YUNITS": "counts",
        "XPERCHAN": 10,
        "OFFSET": 0,
        "SIGNALTYPE": "EDS",
        "BEAMKV-kV": 200,
        "LIVETIME-s": 30,
    }
    spectrum = read_one(write(tmp_path, "a.msa", emsa(header, counts)))
    assert spectrum.data_type == "TEM_EDS"
    assert spectrum.fields["live_time"].m_as("s") == 30
    assert not spectrum.warnings
    assert spectrum.pixels is not None
    np.testing.assert_array_equal(spectrum.pixels.array, counts)


def test_ion_image_of_a_dual_beam(tmp_path: Path) -> None:
    sections = {
        **SECTIONS,
        "Beam": {"Beam": "IBeam", "Scan": "IScan"},
        "IBeam": {"HV": 30000, "BeamCurrent": 2.1e-9},
    }
    signal = fei_signal(tmp_path, sections)
    assert signal.data_type == "FIB_Imaging"
    assert signal.fields["beam_current"].m_as("nA") == pytest.approx(2.1)


@pytest.mark.parametrize("text", ["nan", "inf", "1e400", "9" * 40, "-" * 9, "0x10", "1 2"])
def test_odd_number_costs_that_number(text: str, tmp_path: Path) -> None:
    signal = fei_signal(tmp_path, changed("EBeam", HV=text))
    assert "acceleration_voltage" not in signal.fields
    assert "acceleration_voltage" in signal.warnings
    assert signal.fields["working_distance"].m_as("mm") == pytest.approx(9.8)


def test_empty_number_is_no_fault(tmp_path: Path) -> None:
    sections = {**changed("EBeam", EmissionCurrent=""), "User": {"Date": "03/22/2025", "Time": "10:11", "User": "a"}}
    assert set(fei_signal(tmp_path, sections).warnings) == {"operator"}


@pytest.mark.parametrize(
    ("date", "time", "expected"),
    [
        ("12/18/2017", "01:04:14 PM", datetime(2017, 12, 18, 13, 4, 14)),
        ("18/12/2017", "13:04:14", datetime(2017, 12, 18, 13, 4, 14)),
        ("18.12.2017", "13:04:14", datetime(2017, 12, 18, 13, 4, 14)),
        ("2017/12/18", "午後 1:04:14", datetime(2017, 12, 18, 13, 4, 14)),
        ("2017年12月18日", "午前 0:04:14", datetime(2017, 12, 18, 0, 4, 14)),
        ("06-08-2021", "12:00:00 AM", datetime(2021, 8, 6)),
        ("06/08/2021", "12:00:00 PM", datetime(2021, 6, 8, 12)),
        ("29-Aug-2022", "10:14", datetime(2022, 8, 29, 10, 14)),
        ("31.12.2016", "23:59:60", datetime(2016, 12, 31, 23, 59, 59)),
    ],
)
def test_dates_of_many_countries(date: str, time: str, expected: datetime) -> None:
    assert local_time(date, time) == expected


@pytest.mark.parametrize(
    ("date", "time"),
    [
        ("02/30/2020", "10:00:00"),
        ("00/00/0000", "00:00:00"),
        ("soon", "10:00"),
        ("12/18/2017", "25:00"),
        ("1" * 5000, "1"),
    ],
)
def test_odd_date_costs_only_the_date(date: str, time: str, tmp_path: Path) -> None:
    signal = fei_signal(tmp_path, changed("User", Date=date, Time=time))
    assert signal.acquired is None
    assert "Creation Time" in signal.warnings
    assert signal.fields["operator"] == "amina"
    assert signal.pixels is not None


def test_second_date_decides_what_the_slashes_mean(tmp_path: Path) -> None:
    sections = {
        **changed("User", Date="06/08/2021", Time="10:00:00"),
        "PrivateFei": {"TimeOfCreation": "06.08.2021 10:00:01"},
    }
    assert fei_signal(tmp_path, sections).acquired == datetime(2021, 8, 6, 10)
    sections["User"] = {"Date": "02/30/2020", "Time": "10:00:00"}
    assert fei_signal(tmp_path, sections).acquired == datetime(2021, 8, 6, 10, 0, 1)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_user_text_in_any_script(encoding: str, tmp_path: Path) -> None:
    coded = "試料 1".encode(encoding).hex().upper()
    signal = fei_signal(tmp_path, changed("User", UserText="?? 1", UserTextUnicode=coded))
    assert signal.extensions["User Text"] == "試料 1"


def test_control_characters_and_shift_jis_lose_nothing(tmp_path: Path) -> None:
    text = "[User]\nUser=op\0er\x01ator\nUserText=試料の名前\n[Beam]\nBeam=EBeam\n[EBeam]\nHV=5000\n"
    signal = read_one(write(tmp_path, "a.tif", tiff_with(text.encode("cp932"))))
    assert signal.fields["operator"] == "operator"
    assert signal.extensions["User Text"] == "試料の名前"
    assert signal.fields["acceleration_voltage"].m_as("kV") == 5


def test_latin_1_is_not_taken_for_japanese() -> None:
    assert decode("Pérez, 5 µm, Müller".encode("cp1252")) == ("Pérez, 5 µm, Müller", "cp1252")


@pytest.mark.parametrize(
    "trailer",
    [
        "[User]\r\nUser=op\r\n[Beam]\r\nHV=5000\r\n",
        "<Root><Data><Label>User</Label><Value>op</Value></Data></Root>",
    ],
)
def test_text_after_the_image_is_found(trailer: str, tmp_path: Path) -> None:
    path = write(tmp_path, "a.tif", tiff_with("", tag=65000) + trailer.encode() + b"\0\0")
    assert isinstance(chosen(path), fei.FeiTiff)
    assert read_one(path).fields["operator"] == "op"


def test_newer_xml_fills_what_the_sections_lack(tmp_path: Path) -> None:
    xml = (
        "<?xml version='1.0'?><Metadata xmlns='http://schemas.fei.com/Metadata'><Core><UserID>op</UserID></Core>"
        "<Acquisition><AcquisitionDatetime>2024-05-01T12:56:16</AcquisitionDatetime></Acquisition>"
        "<Optics><AccelerationVoltage>5000</AccelerationVoltage><BeamCurrent>1e-10</BeamCurrent></Optics></Metadata>"
    )
    signal = read_one(write(tmp_path, "a.tif", tiff_with(xml, tag=fei.XML_TAG)))
    assert signal.acquired == datetime(2024, 5, 1, 12, 56, 16)
    assert signal.fields["acceleration_voltage"].m_as("kV") == 5
    assert signal.fields["beam_current"].m_as("pA") == pytest.approx(100)
    appended = read_one(write(tmp_path, "b.tif", tiff_with("[User]\nUser=me\n[Beam]\nHV=3\n" + xml)))
    assert appended.fields["operator"] == "me"
    assert appended.fields["acceleration_voltage"].m_as("V") == 3
    assert appended.fields["beam_current"].m_as("pA") == pytest.approx(100)


BOMB = (
    "<!DOCTYPE r [<!ENTITY a 'aaaaaaaaaa'>"
    + "".join(
        f"<!ENTITY {b} '&{a};&{a};&{a};&{a};&{a};&{a};&{a};&{a};&{a};&{a};'>"
        for a, b in zip("abcdefghi", "bcdefghij", strict=True)
    )
    + "]><Root><Data><Label>User</Label><Value>&j;</Value></Data></Root>"
)
FOREIGN = "<!DOCTYPE r [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><Root><Data><Label>User</Label><Value>&x;</Value></Data></Root>"


@pytest.mark.parametrize("xml", [BOMB, FOREIGN, FOREIGN.replace("<!DOCTYPE", "<!doctype")])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_xml_with_a_document_type_is_refused(xml: str, encoding: str, tmp_path: Path) -> None:
    with pytest.raises(ExtractionError):
        parse_xml(xml.encode(encoding))
    alone = read_one(write(tmp_path, "a.tif", tiff_with(xml)))
    assert "Vendor Metadata" in alone.warnings
    assert not alone.fields
    beside = fei_signal_with_xml(tmp_path, xml.encode(encoding))
    assert "root:" not in str(beside)
    assert "Vendor Metadata" in beside.warnings
    assert beside.fields["operator"] == "me"


def fei_signal_with_xml(folder: Path, xml: bytes) -> Signal:
    import io

    import tifffile

    file = io.BytesIO()
    sections = b"[User]\nUser=me\n[Beam]\nHV=3\n"
    tags = [(FEI_TAG, 7, len(sections), sections, True), (fei.XML_TAG, 7, len(xml), xml, True)]
    tifffile.imwrite(file, PICTURE, photometric="minisblack", metadata=None, extratags=tags)
    return read_one(write(folder, "x.tif", file.getvalue()))


@given(
    st.binary(max_size=400)
    | st.lists(st.sampled_from([b"[", b"]", b"=", b"\n", b"a", b"\0", b"\xff\xfe", b"[MultiGISGas1]\n"])).map(b"".join)
)
def test_no_bytes_break_the_section_parser(raw: bytes) -> None:
    sections = fei.parse_sections(raw)
    assert all(isinstance(value, str) for keys in sections.values() for value in keys.values())


@given(
    st.dictionaries(st.from_regex(r"[A-Z][a-z]{1,8}", fullmatch=True), st.from_regex(r"[!-<>-~]{0,20}", fullmatch=True))
)
def test_section_parser_reads_what_the_writer_wrote(keys: dict[str, str]) -> None:
    from nexuslims_pipeline.demo.fei_tiff import sections_text

    assert fei.parse_sections(sections_text({"A": keys, "B": keys}).encode()) == {"A": keys, "B": keys}


def test_repeated_sections_and_long_labels_are_kept_apart() -> None:
    gases = "[MultiGISUnit1]\n[MultiGISGas1]\nG=Pt\n[MultiGISUnit2]\n[MultiGISGas1]\nG=W\n"
    sections = fei.parse_sections(f"[A]\nx=1\n[A]\nx=2\n{gases}[U]\nt=a\nb\n".encode())
    assert sections["A"] == {"x": "1"}
    assert sections["A (2)"] == {"x": "2"}
    assert sections["MultiGISUnit1.MultiGISGas1"] == {"G": "Pt"}
    assert sections["MultiGISUnit2.MultiGISGas1"] == {"G": "W"}
    assert sections["U"] == {"t": "a\nb"}


@pytest.mark.parametrize(
    "raw", [b"[a]\n" * 250_000, b"[a]\nk=v\n" + b"x\n" * 500_000, b"=\n" * 500_000, b"[" * 1_000_000]
)
def test_a_megabyte_of_nonsense_takes_no_quadratic_time(raw: bytes) -> None:
    assert fei.parse_sections(raw) is not None


# --- TIFF and pictures: hostile ---


def ifd(*entries: tuple[int, int, int, int], following: int = 0) -> bytes:
    """Little-endian TIFF with one directory at byte 8; entries are (tag, type, count, value)."""
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + struct.pack("<I", following)


def image_tags(width: int, height: int, compression: int, size: int, offset: int) -> list[tuple[int, int, int, int]]:
    return [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, compression), (262, 3, 1, 1),
        (273, 4, 1, offset), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, size),
    ]  # fmt: skip


@pytest.mark.parametrize("compression", [1, 8])
def test_tiff_that_declares_terabytes_is_not_allocated(compression: int, tmp_path: Path) -> None:
    tags = image_tags(2_000_000, 2_000_000, compression, 100, 200)
    signal = read_one(write(tmp_path, "a.tif", ifd(*tags).ljust(400, b"\0")))
    assert signal.shape == (2_000_000, 2_000_000)
    assert signal.pixels is None
    assert "Pixels" in signal.warnings


def test_deflate_bomb_in_a_small_image_stays_small(tmp_path: Path) -> None:
    import tracemalloc

    bomb = zlib.compress(bytes(200 << 20), 9)
    tags = image_tags(64, 64, 8, len(bomb), 200)
    path = write(tmp_path, "a.tif", ifd(*tags).ljust(200, b"\0") + bomb)
    signal = read_one(path)
    tracemalloc.start()
    try:
        assert signal.pixels is not None
        assert signal.pixels.array[:].shape == (64, 64)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_compressed_image_is_read_when_it_is_sliced(tmp_path: Path) -> None:
    coded = zlib.compress(PICTURE.tobytes())
    tags = image_tags(64, 64, 8, len(coded), 200)
    signal = read_one(write(tmp_path, "a.tif", ifd(*tags).ljust(200, b"\0") + coded))
    assert signal.pixels is not None
    np.testing.assert_array_equal(signal.pixels.array[10:12], PICTURE[10:12])


@pytest.mark.parametrize(
    "content",
    [
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
        b"MM\0*\0\0\0\x08\xff\xff",
        ifd((256, 4, 1, 10)),
        ifd((256, 99, 1, 10), (257, 4, 0xFFFFFFFF, 8)),
        ifd(*image_tags(0, 0, 1, 0, 0)),
        b"\x89PNG\r\n\x1a\n",
        b"\x89PNG\r\n\x1a\n" + b"\0" * 100,
        b"\xff\xd8\xff\xe0",
        b"GIF89a",
        b"BM" + b"\xff" * 60,
    ],
)
def test_damaged_header_is_reported(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(ExtractionError):
        read(write(tmp_path, "a.tif", content))


def test_circle_of_pages_ends(tmp_path: Path) -> None:
    tags = image_tags(8, 8, 1, 64, 200)
    signal = read_one(write(tmp_path, "a.tif", ifd(*tags, following=8).ljust(300, b"\0")))
    assert signal.shape[-2:] == (8, 8)


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    data = (b"IDAT", zlib.compress(bytes((width + 1) * height) if width * height < 10_000 else b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in (header, *chunks, data, (b"IEND", b""))
    )


def test_png_that_declares_too_much_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExtractionError, match="declares"):
        read(write(tmp_path, "a.png", png(100_000, 100_000)))
    with pytest.raises(ExtractionError, match="declares"):
        read(write(tmp_path, "b.png", png(13_000, 13_000)))


def test_texts_in_a_picture_are_kept_within_bounds(tmp_path: Path) -> None:
    chunks = [(b"tEXt", b"operator\0me"), (b"tEXt", b"Comment\0" + b"x" * 90_000)]
    signal = read_one(write(tmp_path, "a.png", png(8, 8, *chunks)))
    assert "operator" not in signal.fields
    assert signal.extensions["Embedded Text"]["operator"] == "me"
    assert len(signal.extensions["Embedded Text"]["Comment"]) == plain_image.TEXT_LIMIT


def test_exif_date_is_the_time_of_the_photo(tmp_path: Path) -> None:
    from PIL import Image

    image = Image.new("RGB", (20, 10), (200, 10, 10))
    exif = image.getexif()
    exif[306] = "2024:02:30 10:00:00"
    exif.get_ifd(plain_image.EXIF_BLOCK)[plain_image.ORIGINAL_DATE_TAG] = "2024:02:29 10:00:00"
    exif[305] = "camera 1"
    path = tmp_path / "a.jpg"
    image.save(path, exif=exif)
    signal = read_one(path)
    assert signal.acquired == datetime(2024, 2, 29, 10)
    assert signal.shape == (10, 20)
    assert signal.fields["software"] == "camera 1"
    assert signal.pixels is not None
    assert abs(int(signal.pixels.array[0, 0]["R"]) - 200) < 10


def test_ome_unit_is_read_and_no_other_file_opened(tmp_path: Path) -> None:
    import tifffile

    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image><Pixels '
        'PhysicalSizeX="5" PhysicalSizeXUnit="nm" PhysicalSizeY="6" PhysicalSizeYUnit="nm"><TiffData>'
        '<UUID FileName="/etc/passwd">x</UUID></TiffData></Pixels></Image></OME>'
    )
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PICTURE, description=xml, metadata=None)
    signal = read_one(path)
    assert signal.fields["pixel_height"].m_as("nm") == 6
    tifffile.imwrite(path, PICTURE, description=xml.replace("?>", "?><!DOCTYPE OME []>"), metadata=None)
    assert "Vendor Metadata" in read_one(path).warnings


def test_large_imagej_stack_behind_one_page(tmp_path: Path) -> None:
    import tifffile

    stack = np.arange(3 * 64 * 64, dtype=np.uint8).reshape(3, 64, 64)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack, imagej=True)
    signal = read_one(path)
    assert signal.pixels is not None
    np.testing.assert_array_equal(signal.pixels.array[1], stack[1])


def test_images_of_other_sizes_are_not_left_out_in_silence(tmp_path: Path) -> None:
    import tifffile

    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for size in (64, 64, 32):
            writer.write(PICTURE[:size, :size], metadata=None, contiguous=False)
    signal = read_one(path)
    assert signal.shape == (2, 64, 64)
    assert "1 further" in signal.warnings["Pixels"]


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_stack_is_read_image_by_image(compression: str | None, tmp_path: Path) -> None:
    import tifffile

    stack = np.arange(3 * 8 * 9, dtype=np.uint16).reshape(3, 8, 9)
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for number_, image in enumerate(stack):
            writer.write(
                image,
                metadata=None,
                contiguous=False,
                compression=compression,
                description="x" * number_ * 50,
            )
    signal = read_one(path)
    assert signal.pixels is not None
    array = signal.pixels.array
    for key in (
        1,
        -1,
        slice(None),
        slice(0, 3, 2),
        (1, 2),
        (slice(1), slice(2, 4)),
        (..., 3),
        (0, ..., slice(2)),
    ):
        np.testing.assert_array_equal(array[key], stack[key])


# --- spectra: hostile ---


def test_empty_spectrum_is_an_error(tmp_path: Path) -> None:
    for content in (
        b"",
        b"\r\n  \r\n",
        b"#FORMAT      : EMSA/MAS Spectral Data File\r\n#SPECTRUM:\r\n#ENDOFDATA:\r\n",
    ):
        with pytest.raises(ExtractionError):
            read(write(tmp_path, "a.msa", content))


def test_one_bad_count_costs_that_count(tmp_path: Path) -> None:
    header = "#FORMAT: EMSA/MAS\n#NPOINTS: 3\n#DATATYPE: XY\n#BEAMKV: x\n#DATE: 31-FEB-2020\n"
    text = f"{header}#SPECTRUM:\n1,5\n2,?\n3,7\n#ENDOFDATA:\n"
    signal = read_one(write(tmp_path, "a.txt", text.encode()))
    assert signal.shape == (3,)
    assert set(signal.warnings) == {"Pixels", "acceleration_voltage", "Acquisition Date"}
    assert signal.pixels is not None
    assert list(np.isnan(signal.pixels.array)) == [False, True, False]
    assert signal.pixels.axes[0].scale == 1
    assert signal.acquired is None


@pytest.mark.parametrize(
    ("lines", "technique"),
    [
        ("#SIGNALTYPE: EDS\n#BEAMKV: 20", "SEM_EDS"),
        ("#SIGNALTYPE: EDS\n#BEAMKV: 300\n#OPERMODE: SCIM", "STEM_EDS"),
        ("#SIGNALTYPE: EDS", "EDS"),
        ("#SIGNALTYPE: ELS\n#OPERMODE: SCDF", "STEM_EELS"),
        ("#SIGNALTYPE: ELS\n#OPERMODE: SCDIF", "STEM_EELS"),
        ("#XLABEL: Energy Loss", "TEM_EELS"),
        ("#SIGNALTYPE: CLS", "CL"),
        ("#OWNER: nobody", "Unknown"),
    ],
)
def test_technique_of_a_spectrum(lines: str, technique: str, tmp_path: Path) -> None:
    text = f"#FORMAT: EMSA/MAS\n#DATATYPE: Y\n{lines}\n#SPECTRUM:\n1\n2\n#ENDOFDATA:\n"
    assert read_one(write(tmp_path, "a.msa", text.encode())).data_type == technique


@pytest.mark.parametrize("mode", ["DIFR", "DIFFR", "SCDIF"])
def test_magcam_is_a_length_in_diffraction(mode: str, tmp_path: Path) -> None:
    text = f"#FORMAT: EMSA/MAS\n#MAGCAM: 300\n#OPERMODE: {mode}\n#SPECTRUM:\n1\n#ENDOFDATA:\n"
    signal = read_one(write(tmp_path, "a.msa", text.encode()))
    assert signal.fields["camera_length"].m_as("mm") == 300
    assert "magnification" not in signal.fields


@pytest.mark.parametrize(("x", "stage"), [("0.0", None), ("1.5", 1.5)])
def test_stage_of_zeros_is_no_position(x: str, stage: float | None, tmp_path: Path) -> None:
    lines = f"#XPOSITION -mm: {x}\n#YPOSITION -mm: 0.0\n#ZPOSITION -mm: 0.0\n#SOLIDANGL-sR: 0.13\n"
    signal = read_one(write(tmp_path, "a.msa", f"#FORMAT: EMSA/MAS\n{lines}#SPECTRUM:\n1\n#ENDOFDATA:\n".encode()))
    told = signal.fields.get("stage_x")
    assert (told.m_as("mm") if told is not None else None) == stage
    assert ("stage_z" in signal.fields) == (stage is not None)
    assert signal.fields["solid_angle"].m_as("sr") == 0.13


@given(
    st.lists(
        st.sampled_from(
            ["#", "##", "A", ":", " ", "-", "1", ",", "\n", "SPECTRUM", "#TITLE: x\n", "#BEAMKV: ", "\0", "é"]
        )
    )
)
def test_no_text_breaks_the_emsa_parser(parts: list[str]) -> None:
    spectrum = msa.parse_emsa("".join(parts).split("\n"))
    assert all(isinstance(value, float) for value in spectrum.values)


@pytest.mark.corpus
@real_files
def test_edax_header_full_of_nonsense(tmp_path: Path) -> None:
    content = bytearray((CORPUS / "spc/leo_edax_test.spc").read_bytes())
    content[16:24] = b"\xff" * 8
    content[384:736] = b"\xff" * 352
    signal = read_one(write(tmp_path, "a.spc", bytes(content)))
    assert signal.acquired is None
    assert {"acceleration_voltage", "live_time", "Acquisition Date"} <= set(signal.warnings)
    content[28:32] = struct.pack("<i", 2**31 - 1)
    with pytest.raises(ExtractionError, match="no counts"):
        read(write(tmp_path, "a.spc", bytes(content)))


def test_other_spc_formats_are_left_alone(tmp_path: Path) -> None:
    assert chosen(write(tmp_path, "galactic.spc", b"\0K\0\0" + bytes(2000))) is None


# --- text ---


@pytest.mark.parametrize(
    ("raw", "text", "encoding"),
    [
        ("größe\n".encode(), "größe\n", "utf-8"),
        ("größe\n".encode("cp1252"), "größe\n", "cp1252"),
        ("測定条件\r\n".encode("cp932"), "測定条件\n", "cp932"),
        (b"\xff\xfe" + "検出器\r\n".encode("utf-16-le"), "検出器\n", "utf-16-le"),
        (b"\xef\xbb\xbfabc", "abc", "utf-8"),
        (b"", "", "utf-8"),
    ],
)
def test_text_of_any_encoding(raw: bytes, text: str, encoding: str, tmp_path: Path) -> None:
    signal = read_one(write(tmp_path, "a.txt", raw))
    assert (signal.dataset_type, signal.data_type, signal.text) == ("Misc", "Text", text)
    assert signal.extensions == {"Encoding": encoding, "Lines": int(bool(text))}


def test_long_text_is_shown_in_part(tmp_path: Path) -> None:
    signal = read_one(write(tmp_path, "a.log", "µ line\r\n".encode() * 50_000))
    assert signal.text is not None
    assert len(signal.text) <= plain_text.SHOWN_BYTES
    assert set(signal.text.split("\n")) == {"µ line", ""}
    assert signal.extensions["Lines"] == 50_000
    assert "Preview" in signal.warnings


def test_binary_content_is_no_text(tmp_path: Path) -> None:
    assert chosen(write(tmp_path, "a.txt", b"abc\0def")) is None
    with pytest.raises(ExtractionError):
        read(write(tmp_path, "b.txt", b"a" * 5000 + b"\0"))


@given(st.floats(allow_nan=False, allow_infinity=False, max_value=1e15, min_value=-1e15))
def test_numbers_survive_either_decimal_mark(value: float) -> None:
    assert number(repr(value)) == value
    assert number(repr(value).replace(".", ",")) == value
