"""Files that mean harm, and files that came to harm: each costs itself, and nothing from elsewhere gets into it."""

import csv
import json
import os
import shutil
import socket
import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import h5py
import hostile_files as hostile
import numpy as np
import pytest
from facility import WELD, WELD_FOLDER, Facility, built, opened_files
from hostile_files import SECRET, Writer

from benchmarks import fuzz
from nexuslims_pipeline.extraction.faults import in_words
from nexuslims_pipeline.extraction.reading import ReadFile
from nexuslims_pipeline.extraction.registry import choose, is_for, known_extensions
from nexuslims_pipeline.extraction.sandbox import Limits, sandbox
from nexuslims_pipeline.extraction.standalone import source_of
from nexuslims_pipeline.files import from_location
from nexuslims_pipeline.inventory.companions import COMPANION_EXTENSIONS
from nexuslims_pipeline.records.schema import validate
from nexuslims_pipeline.signals import Source

__all__ = ["built"]

CORPUS = Path(os.environ.get("NX_TEST_CORPUS", Path(__file__).parents[2] / "shared" / "corpus"))
needs_corpus = pytest.mark.skipif(not CORPUS.is_dir(), reason="needs the corpus of real files")
LIMITS = Limits(seconds=20, mebibytes=700)
ENDED = ("takes longer", "takes more memory", "crashes", "could not be started")
"""Words of the sandbox when it had to end a reader: no reader may need that."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Root of the instruments' data; beside it lie a `secret` and a `pipe` that nobody writes to."""
    (tmp_path / "secret").write_text(SECRET * 50)
    os.mkfifo(tmp_path / "pipe")
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def read(root: Path, sources: list[Path | Source], limits: Limits = LIMITS) -> list[ReadFile]:
    """Read files as a session's are read."""
    with sandbox(root, 2, limits) as pool:
        return list(pool.read([each if isinstance(each, Source) else source_of(each) for each in sources]))


def meta_of(found: ReadFile) -> dict[str, Any]:
    """Metadata of the file's first dataset."""
    meta: dict[str, Any] = found.elements[0]["nx_meta"]
    return meta


def assert_harmless(path: Path, found: ReadFile) -> None:
    """The file has an end of its own making, of a size that a sidecar may have, and nothing of the secret."""
    assert not any(words in found.error for words in ENDED), (path.name, found.error)
    told = json.dumps([found.elements, found.descriptions, found.error])
    assert SECRET not in told, path.name
    assert str(list(SECRET.encode()))[1:-1] not in told, path.name
    assert "Traceback" not in told, path.name
    assert len(told) < 3_000_000, path.name
    assert all(len(preview) < 3_000_000 for preview in found.previews if preview), path.name


def assert_marked(path: Path, found: ReadFile) -> None:
    """What should be known by its extension is not lost in silence."""
    meta = meta_of(found)
    is_known = path.suffix.lower() in known_extensions()
    assert found.error or meta["warnings"] or meta["DatasetType"] != "Unknown" or not is_known, path.name


def test_xml_brings_in_nothing(root: Path) -> None:
    paths = list(hostile.xml_files(root))
    for path, found in zip(paths, read(root, [*paths]), strict=True):
        assert_harmless(path, found)
        if path.name.startswith(("laughs", "foreign", "parameter")):
            assert len(json.dumps(found.elements)) < 100_000, path.name


@pytest.mark.parametrize(
    "writers",
    [hostile.LONG_TEXTS, hostile.HDF5_FILES, hostile.ARCHIVES, hostile.SIZES, hostile.ELSEWHERE],
    ids=["long texts", "HDF5", "archives", "sizes", "elsewhere"],
)
def test_harmful_files_end_in_a_row_of_their_own(root: Path, writers: dict[str, Writer]) -> None:
    paths = [write(root) for write in writers.values()]
    assert len(set(paths)) == len(writers)
    fine = hostile.content("fine.txt", "A note.")(root)
    found = read(root, [*paths, fine])
    for path, result in zip(paths, found, strict=False):
        assert_harmless(path, result)
        assert_marked(path, result)
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


def test_names_of_any_kind(root: Path) -> None:
    paths = [root / name for name in NAMES] + [Path(os.fsdecode(os.fsencode(root) + b"/\xff\xfe.msa"))]
    for path in paths:
        path.write_text(hostile.EMSA.format(""))
    for path, found in zip(paths, read(root, [*paths]), strict=True):
        assert not found.error, (path.name, found.error)
        assert meta_of(found)["DatasetType"] == "Spectrum"
        assert found.previews[0]
        json.dumps(found.elements).encode()


def no_files(root: Path) -> list[Path]:
    """What has a data file's name and is none; the socket is that of a server that has gone."""
    os.mkfifo(root / "pipe.dm3")
    (root / "zero.dm3").symlink_to("/dev/zero")
    (root / "out.msa").symlink_to(root.parent / "secret")
    (root / "nowhere.tif").symlink_to(root / "nothing")
    (root / "ring.tif").symlink_to(root / "ring.tif")
    (root / "folder.dm3").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(root / "socket.tif"))
    return sorted(root.iterdir())


def test_what_is_no_file_is_named_as_such(root: Path) -> None:
    paths = no_files(root)
    assert len(paths) == 7
    modified = source_of(root.parent / "secret").modified
    for path, found in zip(paths, read(root, [Source(path, modified, 1000) for path in paths]), strict=True):
        assert_harmless(path, found)
        assert found.error, path.name


@pytest.mark.corpus
@needs_corpus
def test_companions_that_are_no_files_are_not_followed(root: Path) -> None:
    """Each real file with companions, once with links to the secret in their places, once with pipes."""
    sources: list[Path | Source] = []
    for number, original in enumerate(path for path in small_files() if source_of(path).companions):
        for kind in ("link", "pipe"):
            folder = root / f"{number} {kind}"
            folder.mkdir()
            copy = Path(shutil.copy(original, folder))
            companions = [folder / companion.name for companion in source_of(original).companions]
            for companion in companions:
                os.mkfifo(companion) if kind == "pipe" else companion.symlink_to(root.parent / "secret")
            whole = source_of(copy)
            sources.append(Source(copy, whole.modified, whole.size, companions=tuple(companions)))
    assert len(sources) > 20
    for source, found in zip(sources, read(root, sources), strict=True):
        assert isinstance(source, Source)
        assert_harmless(source.path, found)
        assert "link" in found.error or "regular" in found.error, (source.path.name, found.error)


def test_content_that_is_none_of_its_extension(root: Path) -> None:
    """Noise under every known extension is unread with a reason."""
    contents = {"noise": os.urandom(3000), "zeros": bytes(3000), "letters": b"This is no microscopy file. " * 100}
    extensions = sorted(known_extensions())
    paths = [root / f"{kind}{extension}" for extension in extensions for kind in contents]
    for path in paths:
        path.write_bytes(contents[path.stem])
    for path, found in zip(paths, read(root, [*paths]), strict=True):
        assert_harmless(path, found)
        meta = found.elements[0]["nx_meta"]
        assert meta["DatasetType"] in ("Unknown", "Misc") or meta["warnings"], (path.name, meta)
        assert found.error or meta["warnings"] or meta["DatasetType"] == "Misc", f"{path.name} passes in silence"


@cache
def small_files() -> tuple[Path, ...]:
    """Files of the corpus that some reader reads, up to 4 MB each."""
    if not CORPUS.is_dir():
        return ()
    with (CORPUS / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["expected_dataset_type"] != "Unknown"]
    return tuple(path for row in rows if (path := CORPUS / row["path"]).stat().st_size < 4 << 20)


@cache
def one_of_each_format() -> tuple[Path, ...]:
    """The first file of each folder and extension."""
    chosen: dict[tuple[str, str], Path] = {}
    for path in small_files():
        chosen.setdefault((path.relative_to(CORPUS).parts[0], path.suffix), path)
    return tuple(chosen.values())


def copy_with_companions(original: Path, folder: Path, data: bytes, name: str = "") -> Path:
    """`data` in place of a file's own, beside its companions."""
    folder.mkdir()
    for companion in source_of(original).companions:
        shutil.copyfile(companion, folder / companion.name)
    path = folder / (name or original.name)
    path.write_bytes(data)
    return path


@pytest.mark.corpus
@needs_corpus
def test_real_content_under_a_foreign_name_is_known_by_its_content(tmp_path: Path) -> None:
    originals = []
    for number, original in enumerate(one_of_each_format()):
        reader = choose(source_of(original))
        ending = (".dm3", ".bin")[number % 2]
        is_alone = original.suffix not in COMPANION_EXTENSIONS and not source_of(original).companions
        if reader and reader.is_conclusive and is_alone and not is_for(reader, ending):
            originals.append((original, ending))
    assert len(originals) > 25
    paths = [
        copy_with_companions(original, tmp_path / str(number), original.read_bytes(), f"copy{ending}")
        for number, (original, ending) in enumerate(originals)
    ]
    own = [original for original, _ in originals]
    expected = {path: meta_of(found) for path, found in zip(own, read(CORPUS, [*own]), strict=True)}
    for (original, ending), found in zip(originals, read(tmp_path, [*paths]), strict=True):
        assert not found.error, (original.name, found.error)
        assert meta_of(found)["DatasetType"] == expected[original]["DatasetType"], original.name
        assert f"Its name says {ending}" in json.dumps(meta_of(found)["warnings"]), original.name


@pytest.mark.corpus
@needs_corpus
def test_copies_that_broke_off_at_every_tenth(tmp_path: Path) -> None:
    """One file of each format and extension, cut at every tenth, its companions whole."""
    paths = []
    for number, original in enumerate(one_of_each_format()):
        whole = original.read_bytes()
        for tenth in range(10):
            paths.append(
                copy_with_companions(original, tmp_path / f"{number}-{tenth}", whole[: len(whole) * tenth // 10])
            )
    assert len(paths) > 500
    for path, found in zip(paths, read(tmp_path, [*paths]), strict=True):
        assert_harmless(path, found)
        assert_marked(path, found)


@pytest.mark.corpus
@needs_corpus
def test_odd_dates_cost_no_more_than_the_date(tmp_path: Path) -> None:
    """The 31st of February and leap seconds in a file of each format that has its dates in letters."""
    odd = [
        (path, data) for path in one_of_each_format() if (data := hostile.odd_dates(raw := path.read_bytes())) != raw
    ]
    assert len(odd) > 20
    own = read(CORPUS, [path for path, _ in odd])
    paths = [copy_with_companions(path, tmp_path / str(number), data) for number, (path, data) in enumerate(odd)]
    for path, whole, found in zip(paths, own, read(tmp_path, [*paths]), strict=True):
        assert_harmless(path, found)
        kinds = [[element["nx_meta"]["DatasetType"] for element in each.elements] for each in (whole, found)]
        assert kinds[0] == kinds[1] or "packed" in found.error, (path.name, found.error)


@pytest.mark.corpus
@needs_corpus
@pytest.mark.parametrize("word", [b"nan", b"inf", b"-9", b"1e400", b"9e9", b"?"])
def test_odd_numbers_are_left_out_or_doubted(tmp_path: Path, word: bytes) -> None:
    """One number for all that stand after a name; no sidecar has one that JSON has not."""
    odd = [
        (path, data)
        for path in one_of_each_format()
        if (data := hostile.odd_numbers(raw := path.read_bytes(), word)) != raw
    ]
    assert len(odd) > 30
    paths = [copy_with_companions(path, tmp_path / str(number), data) for number, (path, data) in enumerate(odd)]
    for path, found in zip(paths, read(tmp_path, [*paths]), strict=True):
        assert_harmless(path, found)
        json.dumps([element["nx_meta"] for element in found.elements], allow_nan=False)


@pytest.mark.corpus
@needs_corpus
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig", "cp037"])
def test_text_in_another_encoding(tmp_path: Path, encoding: str) -> None:
    """Files of text alone, written again in encodings that their programs do not use."""
    texts = []
    for path in one_of_each_format():
        try:
            texts.append((path, path.read_text("ascii").encode(encoding)))
        except UnicodeDecodeError:
            continue
    assert len(texts) > 15
    paths = [copy_with_companions(path, tmp_path / str(number), data) for number, (path, data) in enumerate(texts)]
    for path, found in zip(paths, read(tmp_path, [*paths]), strict=True):
        assert_harmless(path, found)
        assert_marked(path, found)


NAMES_OF_PEOPLE = {
    "utf-8": "Müller 田中",
    "latin-1": "Müller",
    "shift-jis": "田中太郎",
    "gbk": "王小明",
    "utf-16": "Grüße",
}


@pytest.mark.parametrize("encoding", NAMES_OF_PEOPLE)
def test_letters_of_all_countries_cost_nothing_else(root: Path, encoding: str) -> None:
    """A vendor's header whose names are in the code page of the instrument's computer; NUL and control characters."""
    name = NAMES_OF_PEOPLE[encoding]
    tagged = hostile.FEI.replace("UserText=a", f"UserText={name}\x07\x1b[31m\0\r\nUser={name}")
    spectrum = hostile.EMSA.replace("#OWNER       : o", f"#OWNER       : {name}").format(f"##NOTE : \x01{name}\n")
    data = tagged.encode(encoding)
    paths = [
        hostile.tiff_with("header.tif", 34682, data)(root),
        hostile.content("spectrum.msa", spectrum.encode(encoding))(root),
    ]
    picture, line = read(root, [*paths])
    assert meta_of(picture)["DatasetType"] == "Image"
    if encoding != "utf-16":
        assert meta_of(picture)["acceleration_voltage"]["value"] == 5, meta_of(picture)
    assert meta_of(line)["DatasetType"] == "Spectrum", line.error
    for found in (picture, line):
        told = json.dumps(found.elements[0]["nx_meta"], ensure_ascii=False)
        assert not any(ord(letter) < 32 for letter in json.loads(json.dumps(told))), told


def spoil(path: Path, how: str, outside: Path) -> None:
    """Make a real HDF5 file lead elsewhere, or lie about the size of its numbers."""
    with h5py.File(path, "r+") as file:
        found: list[Any] = []
        file.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
        dataset = max(found, key=lambda item: (item.nbytes, item.name))
        parent, name, attributes = dataset.parent, dataset.name, dict(dataset.attrs)
        shape, dtype = dataset.shape, dataset.dtype
        del file[name]
        match how:
            case "external storage":
                size = int(np.prod(shape)) * dtype.itemsize
                file.create_dataset(name, shape, dtype, external=[(str(outside / "secret"), 0, size)])
            case "external link":
                file[name] = h5py.ExternalLink(str(outside / "pipe"), "/data")
            case "virtual":
                layout = h5py.VirtualLayout(shape, dtype)
                layout[...] = h5py.VirtualSource(str(outside / "secret"), "x", shape, dtype)
                file.create_virtual_dataset(name, layout)
            case "huge":
                wide = (1 << 14,) * max(len(shape), 1)
                file.create_dataset(name, wide[:3] + shape[3:], dtype, chunks=(64,) * len(wide[:3]) + shape[3:])
            case "loop":
                file[name] = h5py.SoftLink(parent.name)
            case "text":
                file[name] = "no numbers"
        if how in ("external storage", "virtual", "huge"):
            file[name].attrs.update(attributes)
        for item in (file, parent):
            for key in item.attrs:
                item.attrs[key] = item.attrs[key] if how != "text" else np.array([[b"\xff\0", b"nan"]])


@pytest.mark.corpus
@needs_corpus
@pytest.mark.parametrize("how", ["external storage", "external link", "virtual", "huge", "loop", "text"])
def test_real_hdf5_that_leads_elsewhere(root: Path, how: str) -> None:
    """The largest dataset of one HDF5 file of each format, replaced by something worse."""
    paths = []
    for number, original in enumerate(path for path in one_of_each_format() if h5py.is_hdf5(path)):
        path = copy_with_companions(original, root / str(number), original.read_bytes())
        spoil(path, how, root.parent)
        paths.append(path)
    assert len(paths) >= 12
    for path, found in zip(paths, read(root, [*paths]), strict=True):
        assert_harmless(path, found)
        assert_marked(path, found)


@pytest.mark.parametrize(
    ("damaged", "words"),
    [
        (lambda: np.frombuffer(b"1234", "f8"), "ends earlier"),
        (lambda: np.frombuffer(bytes(8), "f8", 9), "ends earlier"),
        (lambda: struct.unpack("<I", b""), "ends earlier"),
        (lambda: np.zeros(3).reshape(2, 2), "it has 3 numbers, but is laid out as (2,2)"),
        (lambda: np.zeros((2, 2)).__setitem__(0, np.zeros(3)), "it has (3,) numbers in place of (2,)"),
        (lambda: float("1.2.3"), "'1.2.3' stands where a number should be"),
        (b"\xff".decode, "no text where text should be"),
        (lambda: zlib.decompress(b"x"), "packed data are damaged"),
        (lambda: ElementTree.fromstring("<a"), "its XML is damaged"),
        (lambda: np.dtype("u3"), "makes no sense"),
        (lambda: {}["Rows"], "missing or not what it should be: 'Rows'"),
    ],
)
def test_faults_of_libraries_are_told_in_words(damaged: Callable[[], Any], words: str) -> None:
    with pytest.raises(Exception) as fault:
        damaged()
    told = in_words(fault.value)
    assert words in told
    assert "Error" not in told


@pytest.mark.corpus
@needs_corpus
def test_damaged_files_are_read_or_refused() -> None:
    """A sample of what ``python -m benchmarks.fuzz`` tries."""
    for case in fuzz.cases(CORPUS, 200, seed=7):
        assert case.outcome not in ("killed", "crashed", "out of memory"), (case.file, case.damage, case.number)
        assert case.read.elements


IN_A_SESSION = {
    "XML": hostile.content("laughs.spx", hostile.XML_BODIES["laughs"].replace("{root}", "TRTSpectrum")),
    "pickle": hostile.object_array("object.npy"),
    "external storage": hostile.HDF5_FILES["external storage"],
    "external link": hostile.HDF5_FILES["external link, .emd to pipe"],
    "zip bomb": hostile.ARCHIVES["zip bomb, .npz"],
    "deflate bomb": hostile.deflate_bomb,
    "TIFF": hostile.SIZES["TIFF of 2 147 483 647²"],
    "ring": hostile.page_ring,
    "SER": hostile.SIZES["absurd SER"],
    "Ripple": hostile.SIZES["negative Ripple"],
    "noise": hostile.content("noise [1]\n.dm3", bytes(range(256)) * 10),
    "cut off": hostile.content("cut.dm4", b"\0\0\0\4\0\0"),
}


def test_a_session_among_harmful_files_is_complete(built: Facility) -> None:
    """Good files are in the record as before, each bad one beside them with a reason, and none is opened again."""
    folder = built.raw / WELD_FOLDER
    before = set(folder.iterdir())
    moment = max(path.stat().st_mtime for path in before) - 1
    good = {dataset.location for dataset in built.store.datasets(WELD) or () if not dataset.nx_meta["warnings"]}
    assert len(good) >= 2
    (built.folder / "secret").write_text(SECRET)
    paths = [write(folder) for write in IN_A_SESSION.values()]
    for path in set(folder.iterdir()) - before:
        os.utime(path, (moment, moment))
    told = built.build("--session", WELD)
    assert told.states == {WELD: "BUILT"}, told
    datasets = {dataset.location: dataset for dataset in built.store.datasets(WELD) or ()}
    for location in good:
        assert not datasets[location].nx_meta["warnings"]
    names = {from_location(location).name: dataset for location, dataset in datasets.items()}
    for path in paths:
        assert names[path.name].nx_meta["warnings"], path.name
    record = built.store.record_path(WELD).read_bytes()
    assert not validate(record)
    assert SECRET.encode() not in record
    with opened_files(built.raw) as opened:
        assert built.build("--session", WELD).states == {WELD: "BUILT"}
        assert not {path.name for path in paths} & set(opened())
