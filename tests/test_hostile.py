"""Files that mean harm, and files that came to harm: each costs itself, and nothing from elsewhere gets into it."""

import csv
import json
import os
import pickle
import shutil
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile

from benchmarks import fuzz
from nexuslims_pipeline.extraction.reading import ReadFile
from nexuslims_pipeline.extraction.registry import known_extensions
from nexuslims_pipeline.extraction.sandbox import Limits, sandbox
from nexuslims_pipeline.extraction.standalone import source_of

CORPUS = Path(os.environ.get("NX_TEST_CORPUS", Path(__file__).parents[2] / "shared" / "corpus"))
needs_corpus = pytest.mark.skipif(not CORPUS.is_dir(), reason="needs the corpus of real files")
LIMITS = Limits(seconds=20, mebibytes=700)
SECRET = "xyzzy-secret-of-another-group"
ENDED = ("takes longer", "takes more memory", "crashes")
"""Words of the sandbox when it had to end a reader: no reader may need that."""

DTD = '<?xml version="1.0"?>\n<!DOCTYPE r [{}]>\n'
LAUGHS = DTD.format(
    '<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {c} "{f"&{p};" * 20}">' for p, c in zip("abcdefgh", "bcdefghi", strict=True))
)
XML_BODIES = {
    "laughs": LAUGHS + "<{root}><User>&i;</User></{root}>",
    "foreign": DTD.format('<!ENTITY x SYSTEM "file://{secret}">') + "<{root}><User>&x;</User></{root}>",
    "parameter": DTD.format('<!ENTITY % p SYSTEM "file://{secret}"> %p;') + "<{root}/>",
    "included": '<{root} xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include href="{secret}" parse="text"/></{root}>',
}
XML_FILES = {
    ".spx": "TRTSpectrum", ".emi": "ObjectInfo", ".xml": "MicroscopeImage", ".hmsa.xml": "MSAHyperDimensionalDataFile",
    ".raw.xml": "root", ".job.xml": "LSX_Data",
}  # fmt: skip
XML_TAGS = {34683: "Metadata", 51023: "Fibics", 65000: "ImageTags", 34682: "Root", 65027: "x"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Root of the instruments' data; `secret` lies beside it."""
    (tmp_path / "secret").write_text(SECRET * 50)
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def read(root: Path, paths: list[Path]) -> list[ReadFile]:
    """Read files as a session's are read."""
    with sandbox(root, 2, LIMITS) as pool:
        return list(pool.read([source_of(path) for path in paths]))


def assert_harmless(path: Path, found: ReadFile) -> None:
    """The file has an end of its own making, and nothing of the secret."""
    assert not any(words in found.error for words in ENDED), (path.name, found.error)
    told = json.dumps([found.elements, found.descriptions, found.error])
    assert SECRET not in told, path.name
    assert "Traceback" not in told


def tiff(path: Path, tags: list[tuple[int, int, int, bytes]]) -> None:
    """A little TIFF of 2 × 2 pixels with the given further tags (code, type, count, value)."""
    entries = [
        (256, 4, 1, struct.pack("<I", 2)), (257, 4, 1, struct.pack("<I", 2)), (258, 3, 1, struct.pack("<HH", 8, 0)),
        (259, 3, 1, struct.pack("<HH", 1, 0)), (262, 3, 1, struct.pack("<HH", 1, 0)), (273, 4, 1, struct.pack("<I", 8)),
        (277, 3, 1, struct.pack("<HH", 1, 0)), (278, 4, 1, struct.pack("<I", 2)), (279, 4, 1, struct.pack("<I", 4)),
    ]  # fmt: skip
    replaced = {tag[0] for tag in tags}
    entries = sorted([entry for entry in entries if entry[0] not in replaced] + tags)
    place = 12 + 2 + 12 * len(entries) + 4
    values = b""
    directory = struct.pack("<H", len(entries))
    for code, kind, count, value in entries:
        if len(value) <= 4:
            directory += struct.pack("<HHI", code, kind, count) + value.ljust(4, b"\0")
        else:
            directory += struct.pack("<HHII", code, kind, count, place + len(values))
            values += value
    path.write_bytes(b"II*\0" + struct.pack("<I", 12) + b"\1\2\3\4" + directory + bytes(4) + values)


def xml_files(root: Path) -> Iterator[Path]:
    """XML with entities, as a file and in the tags of TIFFs."""
    secret = root.parent / "secret"
    for kind, body in XML_BODIES.items():
        for ending, element in XML_FILES.items():
            path = root / f"{kind}{ending}"
            path.write_text(body.format(root=element, secret=secret))
            yield path
        for code, element in XML_TAGS.items():
            path = root / f"{kind} {code}.tif"
            value = body.format(root=element, secret=secret).encode()
            tiff(path, [(code, 2, len(value), value)])
            yield path


def test_xml_brings_in_nothing(root: Path) -> None:
    paths = list(xml_files(root))
    for path, found in zip(paths, read(root, paths), strict=True):
        assert_harmless(path, found)
        assert len(json.dumps(found.elements)) < 200_000, path.name


def deflate_bomb(root: Path) -> Path:
    path = root / "deflate.tif"
    strip = zlib.compress(bytes(64 << 20), 9)
    with tifffile.TiffWriter(path) as writer:
        writer.write(
            iter([strip] * 14), shape=(30000, 30000), dtype="u1", compression="zlib", rowsperstrip=2184, metadata=None
        )
    return path


def huge_tiff(root: Path) -> Path:
    path = root / "huge.tif"
    tiff(path, [(256, 4, 1, struct.pack("<I", 2**31 - 1)), (257, 4, 1, struct.pack("<I", 2**31 - 1))])
    return path


def tag_past_the_end(root: Path) -> Path:
    path = root / "tags.tif"
    tiff(path, [(34682, 2, 2**31, struct.pack("<I", 100)), (34118, 2, 2**32 - 1, struct.pack("<I", 8))])
    return path


def gzip_bomb(name: str) -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        path = root / name
        with h5py.File(path, "w") as file:
            file.attrs["version_major"], file.attrs["version_minor"] = 0, 2
            group = file.create_group("data/bomb")
            group.attrs["emd_group_type"] = 1
            group.create_dataset(
                "data", shape=(400, 3000, 4000), dtype="f8", chunks=(1, 3000, 4000), compression="gzip"
            )
            group["data"][0] = 0
            for axis, size in enumerate((400, 3000, 4000), 1):
                group.create_dataset(f"dim{axis}", data=np.arange(size))
        return path

    return write


def external_storage(root: Path) -> Path:
    path = root / "external.hspy"
    with h5py.File(path, "w") as file:
        file.attrs["file_format"], file.attrs["file_format_version"] = "HyperSpy", "3.3"
        group = file.create_group("Experiments/x")
        group.create_dataset("data", (100,), "u1", external=[(str(root.parent / "secret"), 0, 100)])
        for name in ("metadata", "original_metadata", "learning_results"):
            group.create_group(name)
    return path


def external_link(ending: str, target: str) -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        path = root / f"link to {target}{ending}"
        with h5py.File(path, "w") as file:
            for name in ("entry", "Acquisition0", "Experiments", "Data", "data", "1", "Scan 1", "FullSpectra"):
                file[name] = h5py.ExternalLink(str(root.parent / target), "/")
        return path

    return write


def deep_hdf5(root: Path) -> Path:
    path = root / "deep.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("Acquisition0")
        for _ in range(1500):
            group = group.create_group("g")
    return path


def many_groups(root: Path) -> Path:
    path = root / "ring.emd"
    with h5py.File(path, "w") as file:
        file.attrs["version_major"] = 0
        for number in range(300):
            group = file.create_group(f"data/{number}")
            group["up"] = file["data"]
            group.attrs["emd_group_type"] = 1
    return path


def sparse_mrc(root: Path) -> Path:
    path = root / "sparse.mrc"
    path.write_bytes(struct.pack("<4i", 100_000, 100_000, 50, 1).ljust(1024, b"\0"))
    os.truncate(path, 1 << 40)
    return path


def absurd(ending: str, head: bytes) -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        path = root / f"absurd{ending}"
        path.write_bytes(head)
        return path

    return write


def absurd_ripple(root: Path) -> Path:
    lines = "key\tvalue\nwidth\t999999999\nheight\t999999999\ndepth\t4096\ndata-length\t8\ndata-type\tfloat\n"
    path = root / "absurd.rpl"
    path.write_text(lines + "byte-order\tlittle-endian\nrecord-by\tvector\noffset\t0\n")
    path.with_suffix(".raw").write_bytes(bytes(100))
    return path


def ripple_elsewhere(root: Path) -> Path:
    path = root / "elsewhere.rpl"
    lines = "width\t10\nheight\t10\ndepth\t1\ndata-length\t1\ndata-type\tunsigned\nrecord-by\timage\noffset\t0\n"
    path.write_text("key\tvalue\n" + lines + "byte-order\tdont-care\n")
    path.with_suffix(".raw").symlink_to(root.parent / "secret")
    return path


def empad_elsewhere(root: Path) -> Path:
    path = root / "traversal.xml"
    path.write_text(
        '<root><raw_file filename="../secret"/><pix_x>1</pix_x><scan_parameters mode="acquire">'
        "<scan_resolution_x>1</scan_resolution_x><scan_resolution_y>1</scan_resolution_y></scan_parameters></root>"
    )
    return path


class Payload:
    """What an unpickler would run."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self._mark}",)


def object_array(name: str) -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        path = root / name
        array = np.array([Payload(root.parent / "executed")], dtype=object)
        if path.suffix == ".npy":
            np.save(path, array, allow_pickle=True)
        else:
            with path.open("wb") as file:
                np.savez(file, data=np.zeros((2, 2)), meta_data=array)
        return path

    return write


def pickle_codec(root: Path) -> Path:
    path = root / "codec.zspy"
    chunk = pickle.dumps(Payload(root.parent / "executed"))
    array = {
        "zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|O", "compressor": None, "fill_value": None,
        "order": "C", "filters": [{"id": "pickle", "protocol": 4}],
    }  # fmt: skip
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("", "Experiments/", "Experiments/x/", "Experiments/x/metadata/"):
            archive.writestr(f"{name}.zgroup", '{"zarr_format": 2}')
        archive.writestr(".zattrs", '{"file_format": "ZSpy", "file_format_version": "3.3"}')
        for name in ("data", "metadata/note"):
            archive.writestr(f"Experiments/x/{name}/.zarray", json.dumps(array))
            archive.writestr(f"Experiments/x/{name}/0", chunk)
    return path


def zip_bomb(name: str) -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        path = root / name
        zeros = bytes(256 << 20)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for member in (".zattrs", "data.npy", "meta_data.npy", "Experiments/x/data/0"):
                archive.writestr(member, zeros)
        return path

    return write


HARMFUL = {
    "deflate bomb": deflate_bomb,
    "huge TIFF": huge_tiff,
    "tag past the end": tag_past_the_end,
    "gzip bomb, emd": gzip_bomb("gzip.emd"),
    "gzip bomb, h5": gzip_bomb("gzip.h5"),
    "external storage": external_storage,
    **{
        f"external link, {ending} to {target}": external_link(ending, target)
        for ending in (".h5", ".emd", ".nxs", ".hspy", ".h5oina")
        for target in ("secret", "pipe")
    },
    "deep HDF5": deep_hdf5,
    "ring in HDF5": many_groups,
    "sparse MRC": sparse_mrc,
    "absurd MRC": absurd(".mrc", struct.pack("<4i", 2**31 - 1, 2**31 - 1, 2**31 - 1, 2).ljust(1024, b"\0")),
    "absurd blo": absurd(".blo", b"IMGBLO\0\0" + b"\xff" * 5000),
    "absurd tvips": absurd(".tvips", struct.pack("<II", 256, 2) + b"\x7f" * 5000),
    "absurd mib": absurd(".mib", b"MQ1,999999999,00768,01,99999999,99999999,U16,".ljust(4000, b"9")),
    "absurd unf": absurd(".unf", struct.pack("<6i", 24, 2**30, 2**30, 2**30, 2, 0) + b"\x7f" * 500),
    "absurd ripple": absurd_ripple,
    "ripple elsewhere": ripple_elsewhere,
    "EMPAD elsewhere": empad_elsewhere,
    "object npy": object_array("object.npy"),
    "object npz": object_array("object.npz"),
    "object prz": object_array("object.prz"),
    "pickle codec": pickle_codec,
    "zip bomb, zspy": zip_bomb("bomb.zspy"),
    "zip bomb, prz": zip_bomb("bomb.prz"),
    "zip bomb, npz": zip_bomb("bomb.npz"),
    "zip bomb, elid": zip_bomb("bomb.elid"),
}


def test_harmful_files_end_in_a_row_of_their_own(root: Path) -> None:
    os.mkfifo(root.parent / "pipe")
    paths = [write(root) for write in HARMFUL.values()]
    fine = root / "fine.txt"
    fine.write_text("A note.")
    found = read(root, [*paths, fine])
    for name, path, result in zip(HARMFUL, paths, found, strict=False):
        assert_harmless(path, result)
        meta = result.elements[0]["nx_meta"]
        assert meta["DatasetType"] != "Unknown" or result.error, f"{name}: unread without a reason"
        assert not any(preview and len(preview) > 2_000_000 for preview in result.previews)
    assert found[-1].error == ""
    assert not (root.parent / "executed").exists()


NAMES = [
    "new\nline.msa",
    "[0].msa",
    "*.msa",
    "a'b\"c.msa",
    "<b>&amp;.msa",
    "ü漢字.msa",
    "-rf.msa",
    "a" * 251 + ".msa",
    " .msa",
]
SPECTRUM = (
    "#FORMAT : EMSA/MAS Spectral Data File\n#VERSION : 1.0\n#TITLE : t\n#DATE : 01-OCT-1991\n#TIME : 12:00\n#OWNER : o\n"
    "#NPOINTS : 3\n#NCOLUMNS : 1\n#XUNITS : eV\n#YUNITS : counts\n#DATATYPE : Y\n#XPERCHAN : 10\n#OFFSET : 0\n"
    "#SPECTRUM :\n1\n2\n3\n#ENDOFDATA :\n"
)


def test_names_of_any_kind(root: Path) -> None:
    paths = [root / name for name in NAMES] + [Path(os.fsdecode(os.fsencode(root) + b"/\xff\xfe.msa"))]
    for path in paths:
        path.write_text(SPECTRUM)
    for path, found in zip(paths, read(root, paths), strict=True):
        assert not found.error, (path.name, found.error)
        assert found.elements[0]["nx_meta"]["DatasetType"] == "Spectrum"
        assert found.previews[0]
        json.dumps(found.elements).encode()


def test_what_is_no_file_is_named_as_such(root: Path) -> None:
    from nexuslims_pipeline.signals import Source

    os.mkfifo(root / "pipe.dm3")
    (root / "zero.dm3").symlink_to("/dev/zero")
    (root / "out.msa").symlink_to(root.parent / "secret")
    (root / "folder.dm3").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "socket.tif"))
        template = source_of(root.parent / "secret")
        paths = [root / name for name in ("pipe.dm3", "zero.dm3", "out.msa", "folder.dm3", "socket.tif")]
        sources = [Source(path, template.modified, 1000) for path in paths]
        with sandbox(root, 1, LIMITS) as pool:
            for path, found in zip(paths, pool.read(sources), strict=True):
                assert_harmless(path, found)
                assert found.error, path.name


def test_content_that_is_none_of_its_extension(root: Path) -> None:
    """Noise under every known extension is unread with a reason."""
    contents = {"noise": os.urandom(3000), "zeros": bytes(3000), "letters": b"This is no microscopy file. " * 100}
    extensions = sorted(known_extensions())
    paths = [root / f"{kind}{extension}" for extension in extensions for kind in contents]
    for path in paths:
        path.write_bytes(contents[path.stem])
    for path, found in zip(paths, read(root, paths), strict=True):
        assert_harmless(path, found)
        meta = found.elements[0]["nx_meta"]
        assert meta["DatasetType"] in ("Unknown", "Misc") or meta["warnings"], (path.name, meta)
        assert found.error or meta["warnings"] or meta["DatasetType"] == "Misc", f"{path.name} passes in silence"


def one_of_each_format() -> list[Path]:
    if not CORPUS.is_dir():
        return []
    chosen: dict[str, Path] = {}
    with (CORPUS / "manifest.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            path = CORPUS / row["path"]
            if row["expected_dataset_type"] != "Unknown" and path.stat().st_size < 4 << 20:
                chosen.setdefault(f"{row['format']}{path.suffix}", path)
    return list(chosen.values())


@pytest.mark.corpus
@needs_corpus
def test_copies_that_broke_off_at_every_tenth(tmp_path: Path) -> None:
    """One file of each format and extension, cut at every tenth, its companions whole."""
    paths = []
    for number, original in enumerate(one_of_each_format()):
        whole = original.read_bytes()
        for tenth in range(10):
            folder = tmp_path / f"{number}-{tenth}"
            folder.mkdir()
            for companion in source_of(original).companions:
                shutil.copyfile(companion, folder / companion.name)
            path = folder / original.name
            path.write_bytes(whole[: len(whole) * tenth // 10])
            paths.append(path)
    assert len(paths) > 500
    for path, found in zip(paths, read(tmp_path, paths), strict=True):
        assert_harmless(path, found)
        assert found.elements


@pytest.mark.corpus
@needs_corpus
def test_damaged_files_are_read_or_refused() -> None:
    """A sample of what ``python -m benchmarks.fuzz`` tries."""
    for case in fuzz.cases(CORPUS, 300, seed=7):
        assert case.outcome not in ("killed", "crashed", "out of memory"), (case.file, case.damage, case.number)
        assert case.read.elements
