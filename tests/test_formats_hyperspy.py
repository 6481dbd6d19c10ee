"""HyperSpy's own files and NeXus: real files, encodings of Python's types, links and hostile stores."""

import csv
import json
import os
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from nexuslims_pipeline.extraction.formats import hyperspy_file, nexus
from nexuslims_pipeline.extraction.model import ExtractionError
from nexuslims_pipeline.metadata.checked import checked_metadata
from nexuslims_pipeline.signals import Signal, Source

CORPUS = Path(os.environ.get("NX_TEST_CORPUS", Path(__file__).parents[2] / "shared" / "corpus"))
FORMATS = ("hspy", "hspy_hdf5", "zspy", "nxs")
EXTRACTORS = (hyperspy_file.EXTRACTOR, nexus.EXTRACTOR)
ACQUIRED = {
    "EDS_SEM_TM002.hspy": "2011-01-10T11:18:00",
    "bare_core.hspy": "2014-10-14T00:00:00",
}
"""Where the manifest has the day only."""


def corpus_rows() -> list[dict[str, str]]:
    if not (CORPUS / "manifest.csv").exists():
        return []
    with (CORPUS / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["format"] in FORMATS]


ROWS = corpus_rows()
real_files = pytest.mark.skipif(not ROWS, reason="the corpus is not here")


def source_of(path: Path) -> Source:
    return Source(path, datetime(2026, 1, 1, tzinfo=UTC), path.stat().st_size)


def read(path: Path) -> list[Signal]:
    with path.open("rb") as file:
        head = file.read(4096)
    [extractor] = [each for each in EXTRACTORS if each.accepts(source_of(path), head)]
    return extractor.extract(source_of(path))


def read_one(path: Path) -> Signal:
    [signal] = read(path)
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


# --- real files ---


@pytest.mark.corpus
@real_files
@pytest.mark.parametrize("row", ROWS, ids=[row["path"] for row in ROWS])
def test_real_file_is_read_as_the_manifest_says(row: dict[str, str]) -> None:
    path = CORPUS / row["path"]
    signal = read(path)[0]
    assert signal.dataset_type == row["expected_dataset_type"]
    assert "x".join(map(str, signal.shape)) == row["shapes"].split(";")[0]
    assert (signal.acquired.isoformat() if signal.acquired else "") == ACQUIRED.get(path.name, row["acquired_at"])
    if "FileIO" in row["acquired_at_source"]:
        assert "HyperSpy" in signal.warnings["Creation Time"]
    meta = checked_metadata(signal, source_of(path), "reader", "1")
    assert len(meta["warnings"]) == len(signal.warnings)
    assert np.asarray(pixels(signal)[..., :2]).shape == (*signal.shape[:-1], min(2, signal.shape[-1]))


@pytest.mark.corpus
@real_files
def test_vendor_values_keep_their_units() -> None:
    spectra = read_one(CORPUS / "hspy/CuZn_EELS_mapping_tutorial.hspy")
    assert spectra.fields["entrance_aperture"].m_as("mm") == 5
    found = values(read_one(CORPUS / "hspy/nanoparticles.hspy"))
    assert found["Data Type"] == "SEM_CL"
    assert (found["acceleration_voltage"], found["exposure_time"], found["pixel_width"]) == (
        6.003,
        0.05,
        pytest.approx(61.272047575),
    )
    assert found["chamber_pressure"] == pytest.approx(1.48e-5, rel=1e-3)  # 1.11e-7 torr
    emsa = values(read_one(CORPUS / "hspy_hdf5/example1_v1.2.hdf5"))
    assert (emsa["beam_current"], emsa["convergence_angle"], emsa["Creation Time"]) == (
        12345,
        1.5,
        "1991-10-01T12:00:00+00:00",
    )


@pytest.mark.corpus
@real_files
def test_numbers_are_those_that_h5py_reads() -> None:
    path = CORPUS / "hspy/4d_stem.hspy"
    with h5py.File(path) as file:
        expected = file["Experiments/__unnamed__/data"][3:5, 7]
    assert np.array_equal(pixels(read_one(path))[3:5, 7], expected)


@pytest.mark.corpus
@real_files
def test_zarr_chunks_are_put_together() -> None:
    array = pixels(read_one(CORPUS / "zspy/signal1d_10x10-ZipStore.zspy"))
    assert np.array_equal(array[...], np.arange(100).reshape(10, 10))
    assert array[3, 4] == 34
    assert array[2:9:3, -1].tolist() == [29, 59, 89]


# --- variants ---


def hspy(path: Path, *, version: str = "3.3") -> h5py.Group:
    """A file of one signal with its data still to come; open until it is collected."""
    file = h5py.File(path, "w")
    file.attrs["file_format"], file.attrs["file_format_version"] = "HyperSpy", version
    return file.create_group("Experiments/one")


def test_types_of_python_are_told_from_names(tmp_path: Path) -> None:
    group = hspy(tmp_path / "a.hspy")
    group["data"] = np.arange(8.0)
    axis = group.create_group("axis-0")
    axis.attrs["units"], axis.attrs["name"], axis.attrs["navigate"] = "eV", "Energy", False
    axis["axis"] = np.array([1.0, 2, 4, 8, 16, 32, 64, 128])
    general = group.create_group("metadata/General")
    general.attrs["_datetime_date"], general.attrs["_datetime_time"] = (
        "datetime.date(2020, 2, 3)",
        "datetime.time(4, 5)",
    )
    general.attrs["title"], general.attrs["authors"] = "one", "_None_"
    sample = group.create_group("metadata/Sample")
    sample["_list_elements"] = [b"Fe", b"O"]
    sample.attrs["_list_empty_xray_lines"] = "_None_"
    group.create_group("metadata/Signal").attrs["signal_type"] = "EELS"
    for n, name in enumerate("ab"):
        group.create_group(f"original_metadata/_list_2_parts/{n}").attrs["name"] = name
    group.file.close()
    signal = read_one(tmp_path / "a.hspy")
    assert signal.acquired == datetime(2020, 2, 3, 4, 5)
    assert (signal.dataset_type, signal.name, signal.fields["elements"]) == ("Spectrum", "one", ["Fe", "O"])
    assert "operator" not in signal.fields
    assert signal.native["original_metadata"]["parts"] == [{"name": "a"}, {"name": "b"}]
    assert signal.native["metadata"]["Sample"]["xray_lines"] == []


def test_first_versions_have_their_names_of_today(tmp_path: Path) -> None:
    group = hspy(tmp_path / "old.hdf5", version="1.0")
    group["data"] = np.zeros((4, 6), "f4")
    for n, (size, units) in enumerate(((4, "nm"), (6, "keV"))):
        group.create_group(f"axis-{n}").attrs.update({"units": units, "scale": 0.5, "offset": 0.0, "size": size})
    old = group.create_group("mapped_parameters")
    old.attrs.update({"name": "line", "signal": "EDS_SEM", "record_by": "spectrum"})
    old.create_group("SEM").attrs.update({"beam_energy": 15.0, "tilt_stage": 7.0})
    old.create_group("SEM/EDS").attrs["live_time"] = 3.0
    group.create_group("original_parameters")
    group.file.close()
    signal = read_one(tmp_path / "old.hdf5")
    assert (signal.dataset_type, signal.data_type, signal.name) == ("SpectrumImage", "SEM_EDS", "line")
    found = values(signal)
    assert (found["acceleration_voltage"], found["stage_tilt"], found["live_time"]) == (15, 7, 3)


def test_ragged_data_are_described_and_not_shown(tmp_path: Path) -> None:
    group = hspy(tmp_path / "ragged.hspy")
    data = group.create_dataset("data", (3,), h5py.vlen_dtype(np.dtype("f8")))
    data[1] = np.arange(4.0)
    group.create_dataset("_ragged_shapes_data", (3,), h5py.vlen_dtype(np.dtype("i8")))
    group.create_group("axis-0").attrs.update({"size": 3, "navigate": True})
    group.file.close()
    signal = read_one(tmp_path / "ragged.hspy")
    assert (signal.shape, signal.pixels) == ((3,), None)
    assert "ragged" in signal.warnings["Pixels"]


def test_patterns_saved_by_kikuchipy_are_told(tmp_path: Path) -> None:
    group = hspy(tmp_path / "ebsd.hspy")
    group["data"] = np.zeros((2, 3, 4, 4), "u1")
    for n in range(4):
        group.create_group(f"axis-{n}").attrs.update({"units": "um", "scale": 1.5, "navigate": n < 2})
    group.create_group("metadata/Signal").attrs["signal_type"] = "EBSD"
    group.file.close()
    signal = read_one(tmp_path / "ebsd.hspy")
    assert (signal.dataset_type, signal.data_type) == ("Diffraction", "SEM_EBSD")


def test_nexus_follows_links_in_the_file_only(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["numbers"] = np.full((2, 3), 77)
    path = tmp_path / "scan.nxs"
    with h5py.File(path, "w") as file:
        file.attrs["default"] = "entry"
        entry = file.create_group("entry")
        entry.attrs["NX_class"], entry.attrs["default"] = "NXentry", "plot"
        entry["start_time"] = "2022-03-04T05:06:07+01:00"
        source = entry.create_group("instrument/source")
        source.attrs["NX_class"] = "NXsource"
        source["voltage"] = 200.0
        source["voltage"].attrs["units"] = "kV"
        entry["instrument/detector/data"] = np.arange(2 * 3 * 5).reshape(2, 3, 5)
        for name in ("away", "plot", "strange"):
            entry.create_group(name).attrs.update({"NX_class": "NXdata", "signal": "data"})
        entry["plot/data"] = h5py.SoftLink("/entry/instrument/detector/data")
        entry["plot"].attrs.update({"axes": ["y", "x", "energy"], "interpretation": "spectrum"})
        entry["plot/x"], entry["plot/energy"] = [0.0, 0.5, 1.0], [0.1, 0.2, 0.3, 0.4, 0.5]
        entry["plot/x"].attrs["units"], entry["plot/energy"].attrs["units"] = "microns", "keV"
        entry["away/data"] = h5py.ExternalLink("other.h5", "/numbers")
        layout = h5py.VirtualLayout((2, 3), "i8")
        layout[:] = h5py.VirtualSource("other.h5", "numbers", (2, 3))
        entry["strange"].create_virtual_dataset("data", layout)
    plot, away, strange = read(path)
    assert (plot.name, plot.dataset_type, plot.shape) == ("plot", "SpectrumImage", (2, 3, 5))
    assert plot.acquired is not None
    assert plot.acquired.isoformat() == "2022-03-04T05:06:07+01:00"
    assert values(plot)["acceleration_voltage"] == 200
    assert values(plot)["channel_size"] == 100
    assert pixels(plot)[1, 2].tolist() == [25, 26, 27, 28, 29]
    assert (away.pixels, away.shape) == (None, ())
    assert "not followed" in away.warnings["Pixels"]
    assert (strange.pixels, strange.shape) == (None, (2, 3))
    assert "other files" in strange.warnings["Pixels"]


def test_nexus_images_and_patterns_are_told_by_their_axes(tmp_path: Path) -> None:
    path = tmp_path / "em.nxs"
    with h5py.File(path, "w") as file:
        file.create_group("entry").attrs["NX_class"] = "NXentry"
        for name, units in (("image", "nm"), ("pattern", "1/nm"), ("unknown", "")):
            plot = file.create_group(f"entry/{name}")
            plot.attrs.update({"NX_class": "NXdata", "signal": "data", "axes": ["y", "x"]})
            plot["data"] = np.zeros((4, 5))
            plot["y"], plot["x"] = np.arange(4) * 2.0, np.arange(5) * 2.0
            for axis in "xy":
                plot[axis].attrs["units"] = units
    assert {s.name: s.dataset_type for s in read(path)} == {
        "image": "Image",
        "pattern": "Diffraction",
        "unknown": "Misc",
    }


# --- hostile content ---


def test_external_storage_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "SECRET.txt"
    secret.write_bytes(b"secret" * 10)
    group = hspy(tmp_path / "a.hspy")
    group.create_dataset("data", (60,), "u1", external=[(str(secret), 0, 60)])
    group.create_dataset("metadata/words", (10,), "u1", external=[(str(secret), 0, 10)])
    group.file.close()
    with pytest.raises(ExtractionError, match="another file"):
        read(tmp_path / "a.hspy")


def zspy(path: Path, array: dict[str, Any], chunk: bytes = b"", **more: bytes) -> Path:
    described = {
        "zarr_format": 2,
        "shape": [4],
        "chunks": [4],
        "dtype": "<i8",
        "compressor": None,
        "filters": None,
        "order": "C",
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Experiments/.zgroup", "{}")
        archive.writestr("Experiments/one/data/.zarray", json.dumps(described | array))
        archive.writestr("Experiments/one/data/0", chunk)
        archive.writestr("Experiments/one/metadata/General/.zattrs", json.dumps({"title": "one"}))
        for name, content in more.items():
            archive.writestr(f"Experiments/one/{name}/.zattrs", content)
    return path


@pytest.mark.parametrize(
    ("array", "word"),
    [
        ({"dtype": "|O", "filters": [{"id": "pickle"}]}, "filtered"),
        ({"compressor": {"id": "pickle"}}, "packed by 'pickle'"),
        ({"dtype": "|O"}, "in place of numbers"),
        ({"chunks": [1 << 40], "shape": [1 << 40]}, "too large"),
        ({"chunks": [1], "shape": [1 << 45]}, "more chunks"),
        ({"shape": [-4]}, "no sense"),
        ({"chunks": [0]}, "no sense"),
    ],
)
def test_store_that_is_no_array_of_numbers_is_described_only(tmp_path: Path, array: dict[str, Any], word: str) -> None:
    signal = read_one(zspy(tmp_path / "a.zspy", array))
    assert signal.pixels is None
    assert word in signal.warnings["Pixels"]
    assert signal.name == "one"


def test_bombs_in_a_store_are_not_unpacked(tmp_path: Path) -> None:
    bomb = read_one(zspy(tmp_path / "a.zspy", {}, b"\0" * (50 << 20)))
    with pytest.raises(ExtractionError, match="larger than its array"):
        pixels(bomb)[...]
    with pytest.raises(ExtractionError, match="in place of 32"):
        pixels(read_one(zspy(tmp_path / "b.zspy", {}, b"\0" * 31)))[...]
    with pytest.raises(ExtractionError, match="larger than any"):
        read(zspy(tmp_path / "c.zspy", {}, extra=b'{"a": "' + b"x" * (5 << 20) + b'"}'))
    odd = read_one(zspy(tmp_path / "d.zspy", {}, np.arange(4).tobytes(), odd=b"no JSON", deep=b"[" * 100_000))
    assert pixels(odd)[...].tolist() == [0, 1, 2, 3]
    assert "2 parts" in odd.warnings["Metadata"]


def test_third_version_of_zarr_is_read(tmp_path: Path) -> None:
    described = {
        "zarr_format": 3, "node_type": "array", "shape": [2, 3], "data_type": "uint16", "fill_value": 7,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 2]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "codecs": [{"name": "bytes", "configuration": {"endian": "big"}}],
    }  # fmt: skip
    with zipfile.ZipFile(tmp_path / "a.zspy", "w") as archive:
        archive.writestr("a.zspy/Experiments/zarr.json", '{"zarr_format": 3, "node_type": "group"}')
        archive.writestr("a.zspy/Experiments/one/data/zarr.json", json.dumps(described))
        archive.writestr("a.zspy/Experiments/one/data/c/0/0", np.arange(4, dtype=">u2").tobytes())
        axis = {"node_type": "group", "attributes": {"name": "x", "units": "nm", "scale": 2.0, "navigate": False}}
        archive.writestr("a.zspy/Experiments/one/axis-1/zarr.json", json.dumps(axis))
    signal = read_one(tmp_path / "a.zspy")
    assert pixels(signal)[...].tolist() == [[0, 1, 7], [2, 3, 7]]
    assert signal.pixels is not None
    assert (signal.pixels.axes[1].units, signal.pixels.axes[1].scale) == ("nm", 2.0)


@pytest.mark.parametrize("name", ["a.hspy", "a.nxs", "a.zspy"])
def test_file_that_was_cut_off_says_so(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "a.zspy":
        zspy(path, {}, b"\0" * 32)
    else:
        group = hspy(path)
        group["data"] = np.arange(10_000)
        group.file.close()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ExtractionError, match="cut off"):
        read(path)
