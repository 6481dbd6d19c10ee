"""TIFF dialects, pictures and array formats: real files with values checked by hand, and made variants of each."""

import csv
import io
import os
import struct
import zipfile
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from nexuslims_pipeline.extraction.formats import (
    axiovision,
    digital_surf,
    gatan_tiff,
    hamamatsu,
    hyperspy_tiff,
    imagej_tiff,
    janelia_fibsem,
    jeol_sightx,
    numpy_array,
    olympus_sis,
    ome_tiff,
    panta_rhei,
    plain_image,
    semper,
    tvips_tiff,
)
from nexuslims_pipeline.extraction.layouts.raster import first_tags
from nexuslims_pipeline.extraction.layouts.tiff import MAKE, MODEL
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.metadata.checked import checked_metadata
from nexuslims_pipeline.previews.draw import draw_preview
from nexuslims_pipeline.signals import Signal, Source

CORPUS = Path(os.environ.get("NX_TEST_CORPUS", Path(__file__).parents[2] / "shared" / "corpus"))
FORMATS = frozenset({
    "tif_jeol_sightx", "tif_olympus_sis", "tif_tvips", "tif_hamamatsu", "img_hamamatsu", "tif_ome", "tif_imagej",
    "tif_gatan_export", "tif_axiovision", "tif_hyperspy", "image_generic", "unf", "prz", "npy", "digitalsurf",
    "fibsem_dat",
})  # fmt: skip
MODULES = (
    axiovision, digital_surf, gatan_tiff, hamamatsu, hyperspy_tiff, imagej_tiff, janelia_fibsem, jeol_sightx,
    numpy_array, olympus_sis, ome_tiff, panta_rhei, semper, tvips_tiff, plain_image,
)  # fmt: skip
EXTRACTORS: tuple[Extractor, ...] = tuple(module.EXTRACTOR for module in MODULES)
NOT_TOLD_BY_CONTENT = {
    "Background acquisition pattern.bmp": "Image",
    "au_xgrating_20cm.tif": "Image",
    "test_spectra.pro": "SpectrumImage",
}
"""What the manifest calls otherwise: two patterns by their file names only; 65 spectra along a line."""


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
    """As the registry chooses: readers of the extension first, then those that know their content."""
    source, suffix = source_of(path), path.suffix.lower()
    with path.open("rb") as file:
        head = file.read(4096)
    asked = [each for each in EXTRACTORS if suffix in each.extensions]
    asked += [each for each in EXTRACTORS if each.is_conclusive and each not in asked]
    return next((each for each in asked if each.accepts(source, head)), None)


def read(path: Path) -> list[Signal]:
    extractor = chosen(path)
    assert extractor is not None, f"nobody accepts {path.name}"
    return extractor.extract(source_of(path))


def read_one(path: Path) -> Signal:
    [signal] = read(path)
    return signal


def si(signal: Signal) -> dict[str, float]:
    """Named quantities in SI base units, without the noise of the conversion."""
    quantities = {name: value for name, value in signal.fields.items() if hasattr(value, "magnitude")}
    return {name: float(f"{value.to_base_units().magnitude:.9g}") for name, value in quantities.items()}


# --- real files ---


@pytest.mark.corpus
@real_files
@pytest.mark.parametrize("row", ROWS, ids=[row["path"] for row in ROWS])
def test_real_file_is_read_as_the_manifest_says(row: dict[str, str]) -> None:
    path = CORPUS / row["path"]
    signals = read(path)
    types = {signal.dataset_type for signal in signals}
    assert types == {NOT_TOLD_BY_CONTENT.get(path.name, row["expected_dataset_type"])}
    for signal in signals:
        assert signal.pixels is not None or signal.warnings
        if signal.pixels is not None:
            assert signal.pixels.array.shape == signal.shape == tuple(axis.size for axis in signal.pixels.axes)
            assert draw_preview(signal, path.name)
        meta = checked_metadata(signal, source_of(path), "reader", "1")
        assert len(meta["warnings"]) == len(signal.warnings), meta["warnings"]


@pytest.mark.corpus
@real_files
@pytest.mark.parametrize("row", ROWS, ids=[row["path"] for row in ROWS])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.95])
def test_a_broken_copy_says_so(row: dict[str, str], part: float, tmp_path: Path) -> None:
    content = (CORPUS / row["path"]).read_bytes()
    path = tmp_path / Path(row["path"]).name
    path.write_bytes(content[: int(len(content) * part)])
    if chosen(path) is None:
        return
    try:
        signals = read(path)
    except ExtractionError as fault:
        assert str(fault)
    else:
        assert all(signal.warnings for signal in signals)


@pytest.mark.corpus
@real_files
def test_sightx_scale_agrees_with_the_length_that_the_operator_measured() -> None:
    image = read_one(CORPUS / "tif_jeol_sightx/JEOL-SightX-TEM-mag-dummy.tif")
    line = next(mark for mark in image.annotations if mark.kind == "line")
    (y0, x0), (y1, x1) = line.corners
    length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5 * image.fields["pixel_width"].m_as("nm")
    assert length == pytest.approx(237.86, abs=0.05)
    assert "237.86nm" in [mark.label for mark in image.annotations]
    assert image.acquired is not None
    assert image.acquired.isoformat() == "2019-11-27T16:11:26.620540+09:00"
    assert (image.fields["magnification"], image.fields["spot_size"]) == (150_000, 1)
    assert si(image)["stage_x"] == -1.1963e-6

    pattern = read_one(CORPUS / "tif_jeol_sightx/JEOL-SightX-SAED-dummy.tif")
    assert (pattern.dataset_type, pattern.data_type) == ("Diffraction", "TEM_Diffraction")
    wavelength, screen_pixel = 2.5079e-12, 1 / 3642
    expected = screen_pixel / 0.4 / wavelength
    assert si(pattern)["reciprocal_pixel_width"] == pytest.approx(expected, rel=1e-4)
    assert (si(pattern)["camera_length"], si(pattern)["exposure_time"]) == (0.4, 0.25)


@pytest.mark.corpus
@real_files
def test_tvips_values_agree_with_each_other() -> None:
    signal = read_one(CORPUS / "tif_tvips/TVIPS_bin4.tif")
    total = signal.fields["magnification"]
    total *= signal.extensions["Post Magnification"] * signal.extensions["Magnification Correction"]
    camera = signal.extensions["Camera Pixel Size"].m_as("nm") * 4
    assert camera / total == pytest.approx(signal.fields["pixel_width"].m_as("nm"), rel=1e-4)
    assert signal.fields["binning"] == "4x4"
    assert signal.acquired == datetime(2017, 4, 12, 9, 1, 17)
    assert si(signal)["acceleration_voltage"] == 99_000
    assert si(signal)["stage_y"] == -9.2e-8


@pytest.mark.corpus
@real_files
def test_streak_image_is_spectra_over_time() -> None:
    signal = read_one(CORPUS / "img_hamamatsu/photon_counting.img")
    assert signal.pixels is not None
    time, wavelength = signal.pixels.axes
    assert (time.units, time.navigation, wavelength.units, wavelength.navigation) == ("ns", True, "nm", False)
    assert wavelength.offset + wavelength.scale * 671 / 2 == pytest.approx(360, abs=1), "the spectrograph's centre"
    assert time.scale * 512 == pytest.approx(4.6, abs=0.5), "a time range of 5 ns"
    assert signal.fields["frames"] * si(signal)["exposure_time"] == si(signal)["acquisition_time"] == 2000
    assert signal.extensions["Streak Camera"]["MCP Gain"] == 63


@pytest.mark.corpus
@real_files
def test_what_digital_micrograph_wrote_survives_export_and_imagej() -> None:
    exported = read_one(CORPUS / "tif_gatan_export/test_loading_image_saved_with_DM.tif")
    copied = read_one(CORPUS / "tif_imagej/test_loading_image_saved_with_imageJ_stack.tif")
    for signal in (exported, copied):
        assert signal.data_type == "TEM_Imaging"
        assert signal.acquired is not None
        assert signal.acquired.isoformat() == "2015-07-20T18:48:25+02:00"
        assert si(signal)["acceleration_voltage"] == 200_000
        assert si(signal)["exposure_time"] == 0.5
        assert si(signal)["pixel_width"] == pytest.approx(14e-6 / 83, rel=1e-3), "camera pixel over magnification"
    assert copied.pixels is not None
    assert [(axis.name, axis.scale, axis.units) for axis in copied.pixels.axes[:1]] == [("z", 2.5, "µm")]


@pytest.mark.corpus
@real_files
def test_attolight_settings_are_read_for_images_too() -> None:
    image = read_one(CORPUS / "digitalsurf/SE_Scan_64_64.sur")
    assert (image.data_type, image.fields["detector_type"]) == ("SEM_Imaging", "SE")
    assert si(image)["acceleration_voltage"] == 5998
    assert si(image)["stage_x"] == -4.600102e-3
    assert image.extensions["Spectrometer"]["Model"] == "IHR 320"
    spectra = read_one(CORPUS / "digitalsurf/test_spectral_map.sur")
    assert spectra.pixels is not None
    wavelength = spectra.pixels.axes[-1]
    assert (wavelength.units, round(wavelength.offset, 2), round(wavelength.scale, 3)) == ("nm", 333.27, 1.084)


@pytest.mark.corpus
@real_files
def test_wire_picture_has_its_field_of_view() -> None:
    signal = read_one(CORPUS / "image_generic/renishaw_wire.jpg")
    assert signal.data_type == "Optical_Imaging"
    assert si(signal)["horizontal_field_width"] == 1821.4e-6
    assert si(signal)["vertical_field_width"] == 1201.837e-6


# --- TIFF: made files ---

PLANES = np.arange(3 * 2 * 4 * 8 * 9, dtype=np.uint16).reshape(3, 2, 4, 8, 9)
"""Times, slices, channels, rows, columns."""


def test_first_tags_of_every_kind_of_tiff(tmp_path: Path) -> None:
    for byte_order in ("<", ">"):
        for is_big in (False, True):
            path = tmp_path / "a.tif"
            tifffile.imwrite(path, PLANES[0, 0, 0], byteorder=byte_order, bigtiff=is_big, software="me, myself")
            tags = first_tags(path)
            assert tags[305].rstrip(b"\0") == b"me, myself"
            assert int.from_bytes(tags[256][:2], "little" if byte_order == "<" else "big") in (9, 0)
    for junk in (b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"II+\0\x08\0\0\0" + b"\xff" * 8):
        path.write_bytes(junk)
        assert first_tags(path) == {}


@pytest.mark.parametrize("unit", ["micron", "\\u00B5m", "um", "\\u03BCm"])
def test_imagej_hyperstack_keeps_its_axes(tmp_path: Path, unit: str) -> None:
    path = tmp_path / "a.tif"
    metadata = {"axes": "TZCYX", "unit": unit, "spacing": 0.5, "finterval": 2.0}
    tifffile.imwrite(path, PLANES, imagej=True, resolution=(10, 5), metadata=metadata)
    signal = read_one(path)
    assert signal.shape == PLANES.shape
    assert signal.pixels is not None
    assert [(a.name, a.scale, a.units) for a in signal.pixels.axes] == [
        ("Time", 2.0, "s"), ("z", 0.5, "µm"), ("Channel", 1.0, ""), ("y", 0.2, "µm"), ("x", 0.1, "µm"),
    ]  # fmt: skip
    assert np.array_equal(signal.pixels.array[2, 1, 3, 4:, ::2], PLANES[2, 1, 3, 4:, ::2])
    assert np.array_equal(signal.pixels.array[1:, ..., 0], PLANES[1:, ..., 0])


def test_imagej_pixels_without_a_length_have_no_size(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PLANES[0, 0, 0], imagej=True, resolution=(10, 10), metadata={"unit": "pixel"})
    assert "pixel_width" not in read_one(path).fields


OME = """<?xml version="1.0" encoding="UTF-8"?>
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:1" Creator="Bench 3">
 <Experimenter ID="Experimenter:0" FirstName="Ada" LastName="Example"/>
 <Instrument ID="Instrument:0"><Microscope Manufacturer="Zeiss" Model="Axio" Type="Inverted"/>
  <Detector ID="Detector:0" Manufacturer="PCO" Model="edge"/>
  <Objective ID="Objective:0" Model="Plan" NominalMagnification="63" LensNA="1.4"/></Instrument>
 <Image ID="Image:0" Name="first"><AcquisitionDate>2024-05-06T07:08:09</AcquisitionDate>
  <InstrumentRef ID="Instrument:0"/><ObjectiveSettings ID="Objective:0"/>
  <Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="9" SizeY="8" SizeC="4" SizeZ="2" SizeT="3"
   PhysicalSizeX="65" PhysicalSizeXUnit="nm" PhysicalSizeY="0.13" PhysicalSizeZ="1" TimeIncrement="500"
   TimeIncrementUnit="ms">
   <Channel ID="Channel:0:0" SamplesPerPixel="1" Name="DAPI" EmissionWavelength="461"/>
   <TiffData IFD="0" PlaneCount="24"/>
   <Plane TheC="0" TheZ="0" TheT="0" ExposureTime="20" ExposureTimeUnit="ms" PositionX="3" PositionXUnit="mm"
    PositionY="5" PositionYUnit="reference frame"/>
  </Pixels></Image>
 <Image ID="Image:1" Name="second"><Pixels ID="Pixels:1" DimensionOrder="XYCZT" Type="uint8" SizeX="5" SizeY="4"
   SizeC="1" SizeZ="1" SizeT="1"><TiffData IFD="24"/></Pixels></Image>
</OME>"""


def ome_file(path: Path, xml: str) -> Path:
    with tifffile.TiffWriter(path) as tiff:
        for n, plane in enumerate(PLANES.reshape(-1, 8, 9)):
            tiff.write(plane, description=xml.encode() if n == 0 else None, metadata=None, contiguous=False)
        tiff.write(np.full((4, 5), 7, np.uint8), metadata=None)
    return path


def test_ome_images_channels_slices_and_times(tmp_path: Path) -> None:
    first, second = read(ome_file(tmp_path / "a.ome.tif", OME))
    assert (first.name, first.data_type, first.shape) == ("first", "Optical_Imaging", PLANES.shape)
    assert first.pixels is not None
    assert np.array_equal(first.pixels.array[...], PLANES)
    assert [(a.name, a.scale, a.units) for a in first.pixels.axes] == [
        ("Time", 0.5, "s"), ("z", 1.0, "µm"), ("Channel", 1.0, ""), ("y", 0.13, "µm"), ("x", 0.065, "µm"),
    ]  # fmt: skip
    assert first.acquired == datetime(2024, 5, 6, 7, 8, 9)
    assert si(first)["exposure_time"] == 0.02
    assert si(first)["stage_x"] == 3e-3
    assert "stage_y" not in first.fields, "a reference frame is no length"
    assert (first.fields["microscope"], first.fields["operator"]) == ("Zeiss Axio", "Ada Example")
    assert first.extensions["Objective"] == {"Model": "Plan", "Magnification": 63, "Numerical Aperture": 1.4}
    assert first.extensions["Channels"] == ["DAPI, emission 461 nm"]
    assert (second.name, second.shape, second.pixels is not None) == ("second", (4, 5), True)
    assert second.pixels is not None
    assert second.pixels.array[0, 0] == 7


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('<TiffData IFD="0" PlaneCount="24"/>', '<TiffData IFD="99999999" PlaneCount="99999999"/>'),
        ('SizeT="3"', 'SizeT="999999999"'),
        ("<OME ", "<!DOCTYPE OME [<!ENTITY a 'a'>]><OME "),
        ('<TiffData IFD="0" PlaneCount="24"/>', '<TiffData IFD="0"><UUID FileName="/etc/passwd">x</UUID></TiffData>'),
        ("</OME>", ""),
    ],
)
def test_absurd_ome_costs_neither_the_file_nor_time(tmp_path: Path, old: str, new: str) -> None:
    signals = read(ome_file(tmp_path / "a.tif", OME.replace(old, new, 1)))
    assert signals
    assert all(signal.pixels is not None for signal in signals)
    assert len(signals) == 1, "the first image is left out, or nothing but pixels is known"


DM_AXES = ((65003, "s", 0, "1/nm"), (65004, "s", 0, "1/nm"), (65006, "d", 1, -1.0), (65007, "d", 1, -2.0),
           (65009, "d", 1, 0.5), (65010, "d", 1, 0.25))  # fmt: skip


@pytest.mark.parametrize(("software", "reader"), [("hyperspy", "hyperspy_tiff"), ("GMS 3", "gatan_tiff")])
def test_calibration_by_digital_micrographs_tags(tmp_path: Path, software: str, reader: str) -> None:
    path = tmp_path / "a.tif"
    tags = [(code, kind, count, value, True) for code, kind, count, value in DM_AXES]
    tifffile.imwrite(path, PLANES[0, 0, 0], extratags=tags, software=software, metadata=None)
    extractor = chosen(path)
    assert extractor is not None
    assert extractor.name == reader
    signal = read_one(path)
    assert (signal.dataset_type, signal.data_type) == ("Diffraction", "TEM_Diffraction")
    assert signal.fields["reciprocal_pixel_width"].m_as("1/nm") == 0.5
    assert signal.fields["reciprocal_pixel_height"].m_as("1/nm") == 0.25
    assert signal.pixels is not None
    assert [axis.offset for axis in signal.pixels.axes] == [-2.0, -1.0]


def test_damaged_tag_tree_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tree = struct.pack(">IQI", 4, 40, 1) + b"\1\0" + struct.pack(">Q", 1 << 60)
    tags = [(code, kind, count, value, True) for code, kind, count, value in DM_AXES]
    tifffile.imwrite(path, PLANES[0, 0, 0], extratags=[*tags, (65027, "B", len(tree), tree, True)], metadata=None)
    signal = read_one(path)
    assert "Vendor Metadata" in signal.warnings
    assert signal.pixels is not None


def sis_file(path: Path, camera: bytes = b"Veleta", pixel: float = 2.5) -> Path:
    """A TIFF with the tag of Olympus SIS, whose records follow the picture."""
    tifffile.imwrite(path, PLANES[0, 0, 0], metadata=None, extratags=[(33560, "I", 1, 0, True)])
    size = path.stat().st_size
    head = struct.pack("<4s6xhhhhh6x32sH", b"SIS0", 30, 14, 9, 2, 118, b"grid 3", 1)
    record = struct.pack("<hhI", 1, 1, size + 68)
    general = struct.pack("<10xhdd8xd2x34s32s", -10, pixel, pixel, 50_000.0, camera, b"TEM")
    content = bytearray(path.read_bytes())
    place = content.index(struct.pack("<HHI", 33560, 4, 1)) + 8
    content[place : place + 4] = struct.pack("<I", size)
    path.write_bytes(bytes(content) + head + record + general)
    return path


def test_olympus_sis(tmp_path: Path) -> None:
    signal = read_one(sis_file(tmp_path / "a.tif"))
    assert (signal.data_type, signal.name) == ("TEM_Imaging", "grid 3")
    assert signal.acquired == datetime(2018, 3, 9, 14, 30)
    assert signal.fields["pixel_width"].m_as("nm") == pytest.approx(0.25)
    assert (signal.fields["magnification"], signal.fields["acquisition_device"]) == (50_000, "Veleta")
    optical = read_one(sis_file(tmp_path / "b.tif", b"UC30", 2500.0))
    assert optical.data_type == "Optical_Imaging"
    unknown = read_one(sis_file(tmp_path / "c.tif", b"UC30", float("nan")))
    assert (unknown.data_type, "pixel_width" in unknown.fields) == ("Unknown", False)


def test_every_tiff_without_a_vendor_is_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for kind in ("u1", "u2", "i4", "f4", "f8", "c8"):
        image = np.arange(72).reshape(8, 9).astype(kind)
        tifffile.imwrite(path, image, resolution=(300, 300), resolutionunit="INCH", metadata=None)
        signal = read_one(path)
        assert (signal.dataset_type, signal.data_type, signal.shape) == ("Image", "Unknown", (8, 9))
        assert "pixel_width" not in signal.fields, "dots per inch are those of paper"
        assert signal.pixels is not None
        assert np.array_equal(signal.pixels.array[...], image)
    for compression, predictor in (("zlib", None), ("zlib", 2)):
        tifffile.imwrite(path, np.ones((8, 9), "u1"), compression=compression, predictor=predictor, metadata=None)
        packed = read_one(path).pixels
        assert packed is not None
        assert np.asarray(packed.array[...]).sum() == 72


def test_photograph_has_its_camera_and_the_time_with_its_zone(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[MAKE], exif[MODEL] = "Canon", "EOS 6D"
    block = exif.get_ifd(plain_image.EXIF_BLOCK)
    block[plain_image.ORIGINAL_DATE_TAG], block[plain_image.ORIGINAL_OFFSET_TAG] = "2024:02:29 10:00:00", "+01:00"
    block[plain_image.EXPOSURE_TIME], block[plain_image.F_NUMBER] = 0.01, 2.8
    Image.new("RGB", (6, 5), "red").save(path, exif=exif)
    signal = read_one(path)
    assert signal.data_type == "Optical_Imaging"
    assert signal.acquired is not None
    assert signal.acquired.isoformat() == "2024-02-29T10:00:00+01:00"
    assert si(signal)["exposure_time"] == 0.01
    assert signal.extensions["Model"] == "EOS 6D"


def test_a_misnamed_picture_is_read(tmp_path: Path) -> None:
    path = tmp_path / "image.dat"
    tifffile.imwrite(path, PLANES[0, 0, 0], metadata=None)
    assert read_one(path).dataset_type == "Image"
    path.write_bytes(b"BM is how this note begins, and it is no picture at all.")
    assert chosen(path) is None


# --- other formats: made files ---


def itex(settings: str, tables: tuple[np.ndarray[Any, Any], ...] = ()) -> bytes:
    text = settings.encode()
    header = struct.pack("<2s6H", b"IM", len(text), 4, 3, 0, 0, 2).ljust(hamamatsu.HEADER_BYTES, b"\0")
    return header + text + np.arange(12, dtype="<u2").tobytes() + b"".join(table.tobytes() for table in tables)


def test_itex_without_calibration_and_with_tables_out_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.img"
    scaling = '[Scaling],ScalingXType=2,ScalingXUnit="nm",ScalingXScalingFile="#9000,4",ScalingYType=1,ScalingYUnit=""'
    path.write_bytes(itex(f'[Application],Date="31.12.2021",Time="23:59:58.9",Software="HPD-TA"\r\n{scaling}'))
    signal = read_one(path)
    assert "Wavelength Axis" in signal.warnings
    assert signal.acquired == datetime(2021, 12, 31, 23, 59, 58)
    assert signal.pixels is not None
    assert np.array_equal(signal.pixels.array, np.arange(12).reshape(3, 4))
    path.write_bytes(path.read_bytes()[:-10])
    assert (read_one(path).pixels, "Pixels" in read_one(path).warnings) == (None, True)


def fibsem_header(version: int, columns: int = 6, rows: int = 4) -> bytearray:
    header = bytearray(janelia_fibsem.HEADER_BYTES)
    struct.pack_into(">4sHH10s", header, 0, janelia_fibsem.MAGIC, version, 2, b"01/02/2019")
    struct.pack_into(">dBB", header, 24, 5e-7, 2, 0)
    struct.pack_into(">II", header, 100, columns, rows)
    header[151:155] = b"\1\1\0\0"
    header[180:190] = b"Drosophila"
    header[380:386], header[390:393] = b"InLens", b"ESB"
    is_old = version < 3
    values = {"Mag": 12_000, "PixelSize": 8, "WD": 5.1, "EHT": 1.2, "SEMCurr": 2e-9, "StageX": 3.5, "StageT": 54}
    for each in janelia_fibsem.VALUES:
        if each.key in values:
            place = each.old if is_old else each.new
            struct.pack_into(">d" if is_old else ">f", header, place, values[each.key])
    return header


@pytest.mark.parametrize("version", [1, 3, 9])
def test_fibsem_channels_and_header_of_every_version(tmp_path: Path, version: int) -> None:
    path = tmp_path / "slice.dat"
    pixels = np.arange(48, dtype=">i2").reshape(4, 6, 2)
    path.write_bytes(bytes(fibsem_header(version)) + pixels.tobytes())
    signal = read_one(path)
    assert signal.shape == (2, 4, 6)
    assert signal.pixels is not None
    assert np.array_equal(signal.pixels.array[1], pixels[..., 1])
    assert si(signal) == {
        "working_distance": 0.0051,
        "acceleration_voltage": 1200,
        "probe_current": 2e-9,
        "scan_rotation": 0,
        "stage_x": 0.0035,
        "stage_y": 0,
        "stage_z": 0,
        "stage_tilt": pytest.approx(0.942477796),
        "stage_rotation": 0,
        "dwell_time": 5e-7,
        "pixel_width": 8e-9,
        "pixel_height": 8e-9,
        "horizontal_field_width": 48e-9,
        "vertical_field_width": 32e-9,
    }
    assert (signal.fields["magnification"], signal.fields["detector_type"]) == (12_000, "InLens, ESB")
    assert signal.extensions["Notes"] == "Drosophila"


def test_fibsem_that_broke_off_or_declares_too_much(tmp_path: Path) -> None:
    path = tmp_path / "slice.dat"
    path.write_bytes(bytes(fibsem_header(9, 2**32 - 1, 2**32 - 1)))
    signal = read_one(path)
    assert (signal.pixels, "Pixels" in signal.warnings) == (None, True)
    assert si(signal)["acceleration_voltage"] == 1200
    path.write_bytes(bytes(fibsem_header(9))[:1000])
    with pytest.raises(ExtractionError, match="cut off"):
        read(path)


@pytest.mark.parametrize(
    ("shape", "dtype", "kind"),
    [((7,), "f4", "Spectrum"), ((6, 5), "u2", "Image"), ((3, 6, 5), "f8", "Image"), ((2, 2, 6, 5), "u1", "Unknown")],
)
def test_arrays_are_mapped(tmp_path: Path, shape: tuple[int, ...], dtype: str, kind: str) -> None:
    array = np.arange(int(np.prod(shape))).astype(dtype).reshape(shape)
    np.save(tmp_path / "a.npy", np.asfortranarray(array))
    np.savez_compressed(tmp_path / "a.npz", data=array, voltage=200.0)
    for name in ("a.npy", "a.npz"):
        signal = read_one(tmp_path / name)
        assert (signal.dataset_type, signal.shape) == (kind, shape)
        assert signal.pixels is not None
        assert np.array_equal(signal.pixels.array[...], array)
    assert signal.native == {"Values": {"voltage": 200.0}}


class Payload:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return (Path.touch, (self.path,))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    mark = tmp_path / "run"
    objects = np.array([Payload(mark)], dtype=object)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "b.npz", objects=objects)
    with (tmp_path / "c.prz").open("wb") as file:
        np.savez(file, data=np.ones((4, 4)), meta_data=objects)
    for name in ("a.npy", "b.npz"):
        with pytest.raises(ExtractionError, match="objects"):
            read(tmp_path / name)
    assert "Vendor Metadata" in read_one(tmp_path / "c.prz").warnings
    assert not mark.exists()


def test_more_than_a_zip_may_unpack_to_is_left_packed(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 15, 1 << 16)})
    for name in ("a.npz", "a.prz"):
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("data.npy", header.getvalue() + bytes(1 << 20))
    signal = read_one(tmp_path / "a.npz")
    assert (signal.pixels, "Pixels" in signal.warnings) == (None, True)
    with pytest.raises(ExtractionError, match="unpack to more"):
        read(tmp_path / "a.prz")


def test_panta_rhei_with_json(tmp_path: Path) -> None:
    calibration = {"unit": "nm", "value": 0.5, "offset": 0.0, "pixel_factor": 1.0}
    json = (
        '[{"type": "2D", "electron_gun.voltage": 60000, "condenser.convergence_semi_angle": 0.03, '
        '"acquisition.time": "2024-03-02T01:02:03", "source.type": "scan_generator", "scan_driver.dwell_time": 1e-5, '
        f'"device.calib": [{str(calibration).replace(chr(39), chr(34))}, '
        f"{str(calibration).replace(chr(39), chr(34))}]}}]"
    )
    with (tmp_path / "a.prz").open("wb") as file:
        np.savez_compressed(file, data=np.ones((4, 5), "u2"), meta_data_json=json)
    signal = read_one(tmp_path / "a.prz")
    assert (signal.dataset_type, signal.data_type) == ("Image", "STEM_Imaging")
    assert si(signal)["acceleration_voltage"] == 60_000
    assert si(signal)["convergence_angle"] == 0.03
    assert si(signal)["dwell_time"] == 1e-5
    assert si(signal)["pixel_width"] == 5e-10
    assert signal.acquired == datetime(2024, 3, 2, 1, 2, 3)


def surf_object(packed: bytes | None, unpacked: int) -> bytes:
    header = bytearray(512)
    header[:12] = b"DSCOMPRESSED"
    struct.pack_into("<hhhh", header, 12, 0, 1, 1, 2)
    struct.pack_into("<h", header, 98, 32)
    struct.pack_into("<iii", header, 108, 8, 8, 64)
    body = struct.pack("<III", 1, unpacked, len(packed or b"")) + (packed or b"")
    return bytes(header) + body


def test_digital_surf_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.sur"
    for content in (
        surf_object(zlib.compress(bytes(64 << 20)), 256),
        surf_object(zlib.compress(bytes(256)), 1 << 31),
        surf_object(b"no zlib stream", 256),
        surf_object(zlib.compress(bytes(256)), 256)[:-4],
    ):
        path.write_bytes(content)
        with pytest.raises(ExtractionError):
            read(path)


def semper_file(columns: int, rows: int) -> bytes:
    sizes = struct.pack("<6h", columns, rows, 1, 1, 2, 20_000)
    values = np.arange(12, dtype="<f4").reshape(3, 4)
    records = [sizes, *(row.tobytes() for row in values)]
    return b"".join(struct.pack("<i", len(record)) + record + struct.pack("<i", len(record)) for record in records)


def test_semper_without_label_and_with_too_few_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.unf"
    path.write_bytes(semper_file(4, 3))
    signal = read_one(path)
    assert (signal.dataset_type, signal.shape, signal.extensions) == ("Image", (3, 4), {"Picture Class": "image"})
    path.write_bytes(semper_file(4, 30))
    assert (read_one(path).pixels, "Pixels" in read_one(path).warnings) == (None, True)
    path.write_bytes(semper_file(32_000, 32_000))
    with pytest.raises(ExtractionError, match="far more"):
        read(path)
    path.write_bytes(semper_file(-4, 3))
    with pytest.raises(ExtractionError, match="no picture"):
        read(path)
