"""HDF5 of unknown arrangement."""

from pathlib import Path

import h5py
import numpy as np

from nexuslims_pipeline.extraction.reading import read_file
from nexuslims_pipeline.extraction.standalone import source_of


def test_an_unknown_arrangement_is_told_in_words(tmp_path: Path) -> None:
    path = tmp_path / "own.h5"
    with h5py.File(path, "w") as file:
        file["detector/counts"] = np.arange(5000).reshape(50, 100)
        file["detector"].attrs["Operator's note"] = "third try"
        file["elsewhere"] = h5py.ExternalLink("/etc/passwd", "/")
    read = read_file(source_of(path), tmp_path)
    meta = read.elements[0]["nx_meta"]
    assert (read.error, meta["DatasetType"], meta["warnings"][0]["field"]) == ("", "Misc", "DatasetType")
    assert meta["extensions"]["Arrays"] == ["detector/counts: (50, 100), int64"]
    assert "third try" in str(read.elements[0]["original_metadata"])
    assert read.previews[0]


def test_a_copy_that_broke_off_says_so(tmp_path: Path) -> None:
    path = tmp_path / "own.h5"
    with h5py.File(path, "w") as file:
        file["a"] = np.arange(100_000)
    path.write_bytes(path.read_bytes()[:100_000])
    assert "cut off or damaged" in read_file(source_of(path), tmp_path).error
