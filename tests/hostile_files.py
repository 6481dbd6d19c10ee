"""Files that mean harm, written into a folder ``root`` beside which lies a file ``secret`` that is none of theirs."""

import io
import json
import os
import pickle
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile

Writer = Callable[[Path], Path]
SECRET = "xyzzy-secret-of-another-group"


def content(name: str, data: bytes | str) -> Writer:
    """A file of just that."""

    def write(root: Path) -> Path:
        path = root / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    return write


@cache
def zeros_packed(size: int) -> bytes:
    """So many zeros as zlib packs them; the same packed MB many times over, as packing them all takes long."""
    packer = zlib.compressobj(9)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    adler = (size % 65521) << 16 | 1
    return block[:2] + block[2:] * (size >> 20) + packer.flush()[:-4] + struct.pack(">I", adler)


# TIFF

TiffTag = tuple[int, int, int, bytes]
"""Code, type, count, value."""


def tiff(tags: list[TiffTag]) -> bytes:
    """A little TIFF of 2 × 2 pixels with the given tags besides its own, or in their place."""
    long, short = struct.Struct("<I"), struct.Struct("<HH")
    own: list[TiffTag] = [
        (256, 4, 1, long.pack(2)),
        (257, 4, 1, long.pack(2)),
        (258, 3, 1, short.pack(8, 0)),
        (259, 3, 1, short.pack(1, 0)),
        (262, 3, 1, short.pack(1, 0)),
        (273, 4, 1, long.pack(8)),
        (277, 3, 1, short.pack(1, 0)),
        (278, 4, 1, long.pack(2)),
        (279, 4, 1, long.pack(4)),
    ]
    replaced = {tag[0] for tag in tags}
    entries = sorted([entry for entry in own if entry[0] not in replaced] + tags)
    place = 12 + 2 + 12 * len(entries) + 4
    values = b""
    directory = struct.pack("<H", len(entries))
    for code, kind, count, value in entries:
        if len(value) <= 4:
            directory += struct.pack("<HHI", code, kind, count) + value.ljust(4, b"\0")
        else:
            directory += struct.pack("<HHII", code, kind, count, place + len(values))
            values += value
    return b"II*\0" + struct.pack("<I", 12) + b"\1\2\3\4" + directory + bytes(4) + values


def tiff_with(name: str, tag: int, value: bytes) -> Writer:
    """A TIFF with one vendor's text in it."""
    return content(name, tiff([(tag, 2, len(value), value)]))


def deflate_bomb(root: Path) -> Path:
    path = root / "deflate.tif"
    strip = zeros_packed(64 << 20)
    with tifffile.TiffWriter(path) as writer:
        writer.write(
            iter([strip] * 14), shape=(30000, 30000), dtype="u1", compression="zlib", rowsperstrip=2184, metadata=None
        )
    return path


def page_ring(root: Path) -> Path:
    """The next page is the first one, for ever."""
    whole = bytearray(tiff([]))
    whole[-4:] = struct.pack("<I", 12)
    return content("ring.tif", bytes(whole))(root)


def many_pages(root: Path) -> Path:
    """Half a million pages without anything in them."""
    pages = b"".join(struct.pack("<HI", 0, 14 + 6 * number) for number in range(500_000))
    return content("pages.tif", b"II*\0" + struct.pack("<I", 8) + pages + bytes(6))(root)


ABSURD_SIZE = [(256, 4, 1, struct.pack("<I", 2**31 - 1)), (257, 4, 1, struct.pack("<I", 2**31 - 1))]
PAST_THE_END = [(34682, 2, 2**31, struct.pack("<I", 100)), (34118, 2, 2**32 - 1, struct.pack("<I", 8))]
BIG_TIFF = b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2**63) + bytes(200)

# Pictures


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG whose pixels are missing; further chunks by kind and content."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    whole = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(bytes(6))), (b"IEND", b"")):
        whole += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return whole


BOMB = zeros_packed(64 << 20)
PNG_TEXTS = png(
    2, 2, *[(b"zTXt", b"Comment\0\0" + BOMB)] * 20, (b"iCCP", b"p\0\0" + BOMB), (b"iTXt", b"K\0\1\0\0\0" + BOMB)
)
JPEG_SIZE = (
    b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0\xff\xc0\0\x0b\x08\xff\xff\xff\xff\1\1\x11\0\xff\xda\0\x08\1\1\0\0\x3f\0"
    + bytes(500)
)
GIF_SIZE = b"GIF89a\xff\xff\xff\xff\xf7\0\0" + bytes(768) + b",\0\0\0\0\xff\xff\xff\xff\0\x08\1\0\0;"
BMP_SIZE = b"BM" + struct.pack("<IHHIIiiHHIIiiII", 200, 0, 0, 54, 40, 2**31 - 1, -(2**31), 1, 24, 0, 0, 0, 0, 0, 0)

# XML

DTD = '<?xml version="1.0"?>\n<!DOCTYPE r [{}]>\n'
LAUGHS = DTD.format(
    '<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {c} "{f"&{p};" * 20}">' for p, c in zip("abcdefgh", "bcdefghi", strict=True))
)
XINCLUDE = 'xmlns:xi="http://www.w3.org/2001/XInclude"'
XML_BODIES = {
    "laughs": LAUGHS + "<{root}><User>&i;</User></{root}>",
    "foreign": DTD.format('<!ENTITY x SYSTEM "file://{secret}">') + "<{root}><User>&x;</User></{root}>",
    "parameter": DTD.format('<!ENTITY % p SYSTEM "file://{secret}"> %p;') + "<{root}/>",
    "included": f'<{{root}} {XINCLUDE}><xi:include href="{{secret}}" parse="text"/></{{root}}>',
    "stylesheet": '<?xml-stylesheet href="{secret}"?><{root}><a href="{secret}"/></{root}>',
    "elements": "<{root}>" + "<a>1</a>" * 200_000 + "</{root}>",
    "attributes": "<{root} " + " ".join(f'a{number}="1"' for number in range(20_000)) + "/>",
    "depth": "<{root}>" + "<a>" * 100_000 + "</a>" * 100_000 + "</{root}>",
    "text": "<{root}><User>" + "x" * 20_000_000 + "</User></{root}>",
}
XML_FILES = {
    ".spx": "TRTSpectrum",
    ".emi": "ObjectInfo",
    ".xml": "MicroscopeImage",
    ".empad.xml": "root",
    ".labspec.xml": "LSX_Data",
    ".tvf": "XmlMain",
    ".hmsa": "MSAHyperDimensionalDataFile",
    ".elid": "FeiImage",
}
"""Root elements by the ending of the file they are in."""
XML_TAGS = {34683: "Metadata", 51023: "Fibics", 65000: "ImageTags", 34682: "Root", 65027: "x", 270: "OME"}
"""Root elements by the TIFF tag they are in."""


def xml_files(root: Path) -> Iterator[Path]:
    """Every body as a file of every vendor, and in the tags of TIFFs."""
    for kind, body in XML_BODIES.items():
        for ending, element in XML_FILES.items():
            text = body.replace("{root}", element).replace("{secret}", str(root.parent / "secret"))
            if ending == ".emi":
                text = "JL\x02\0" + " " * 60 + text
            yield content(f"{kind}{ending}", text)(root)
        if kind == "text":
            continue
        for code, element in XML_TAGS.items():
            text = body.replace("{root}", element).replace("{secret}", str(root.parent / "secret"))
            yield tiff_with(f"{kind} {code}.tif", code, text.encode())(root)


# Text

FEI = (
    "[User]\r\nUserText=a\r\n[Beam]\r\nHV=5000\r\n[Scan]\r\nPixelWidth=1e-9\r\nPixelHeight=1e-9\r\n"
    "[Image]\r\nResolutionX=2\r\n"
)
EMSA = (
    "#FORMAT      : EMSA/MAS Spectral Data File\n#VERSION     : 1.0\n#TITLE       : t\n#DATE        : 01-OCT-1991\n"
    "#TIME        : 12:00\n#OWNER       : o\n#NPOINTS     : 3.\n#NCOLUMNS    : 1.\n#XUNITS      : eV\n"
    "#YUNITS      : counts\n#DATATYPE    : Y\n#XPERCHAN    : 10\n#OFFSET      : 0\n{}#SPECTRUM    :\n1\n2\n3\n"
    "#ENDOFDATA   :\n"
)
LONG_LINE = "x" * (16 << 20)


def repeated(line: str, count: int) -> str:
    """A line many times, with its number in place of ``{}``."""
    return "".join(line.format(number) for number in range(count))


LONG_TEXTS: dict[str, Writer] = {
    "FEI, 400 000 lines": tiff_with("fei.tif", 34682, (FEI + "[A]\r\n" + repeated("K{}=1\r\n", 400_000)).encode()),
    "FEI, 100 000 sections": tiff_with("sections.tif", 34682, (FEI + repeated("[A{}]\r\nB=1\r\n", 100_000)).encode()),
    "FEI, a long line": tiff_with("line.tif", 34682, (FEI + f"A={LONG_LINE}\r\n").encode()),
    "Zeiss, 300 000 lines": tiff_with("zeiss.tif", 34118, b"\0\r\n" * 30 + b"AP_WD\r\nWD = 5.0 mm\r\n" * 150_000),
    "EMSA, 300 000 lines": content("lines.msa", EMSA.format("##K : 1\n" * 300_000)),
    "EMSA, a long line": content("line.msa", EMSA.format(f"##K : {LONG_LINE}\n")),
    "mdoc": content("sections.mdoc", "PixelSpacing = 1\n" + repeated("[ZValue = {}]\nTiltAngle = 1\n", 100_000)),
    "Tescan": content("tescan.hdr", "[MAIN]\nDevice=TESCAN\n" + repeated("[S{}]\nA=1\n", 100_000)),
    "Hitachi": content("hitachi.txt", "[SemImageFile]\n" + "A=1\n" * 300_000),
    "JEOL": content("jeol.txt", "$SEM_DATA_VERSION 1\n" + "$CM_MAG 100\n" * 300_000),
    "ctf": content("long.ctf", "Channel Text File\n" + "A\t1\n" * 300_000),
    "ang": content("long.ang", "# TEM_PIXperUM 1\n" + "# A 1\n" * 300_000),
    "cpr": content("long.cpr", "[General]\nVersion=5.0\n" + repeated("[Phase{}]\nA=1\n", 100_000)),
    "csv": content("wide.csv", ",".join("abcdefgh" * 20_000) + "\n" + "1," * 200_000 + "\n"),
    "note": content("note.txt", LONG_LINE),
    "Ripple": content("long.rpl", "key\tvalue\n" + "a\t1\n" * 300_000),
    "JSON": content("deep.json", "[" * 500_000),
}


# HDF5


def hdf5(name: str, fill: Callable[[Any, Path], None], **options: Any) -> Writer:
    """An HDF5 file that a function fills; it gets the folder of the secret as well."""

    def write(root: Path) -> Path:
        path = root / name
        with h5py.File(path, "w", **options) as file:
            fill(file, root.parent)
        return path

    return write


GROUPS = ("entry", "Acquisition0", "Experiments", "Data", "data", "1", "Scan 1", "FullSpectra", "4DSTEM_simulation")
"""Where readers of HDF5 look first."""


def _linked(target: str) -> Callable[[Any, Path], None]:
    def fill(file: Any, outside: Path) -> None:
        for name in GROUPS:
            file[name] = h5py.ExternalLink(str(outside / target), "/")

    return fill


def _hyperspy(file: Any) -> Any:
    file.attrs["file_format"], file.attrs["file_format_version"] = "HyperSpy", "3.3"
    group = file.create_group("Experiments/x")
    for name in ("metadata", "original_metadata", "learning_results"):
        group.create_group(name)
    return group


def _external(file: Any, outside: Path) -> None:
    _hyperspy(file).create_dataset("data", (100,), "u1", external=[(str(outside / "secret"), 0, 100)])


def _virtual(file: Any, outside: Path) -> None:
    with h5py.File(outside / "other.h5", "w") as other:
        other["bytes"] = np.frombuffer(SECRET.encode(), "u1")
    layout = h5py.VirtualLayout((len(SECRET),), "u1")
    layout[:] = h5py.VirtualSource(str(outside / "other.h5"), "bytes", (len(SECRET),), "u1")
    _hyperspy(file).create_virtual_dataset("data", layout)


def _soft_loops(file: Any, _: Path) -> None:
    for name, following in zip(GROUPS, GROUPS[1:] + GROUPS[:1], strict=True):
        file[name] = h5py.SoftLink(f"/{following}")
    file["self"] = h5py.SoftLink("/self")


def _depth(file: Any, _: Path) -> None:
    group = file.create_group("Acquisition0")
    for _number in range(1500):
        group = group.create_group("g")


def _ring(file: Any, _: Path) -> None:
    file.attrs["version_major"] = 0
    for number in range(300):
        group = file.create_group(f"data/{number}")
        group["up"] = file["data"]
        group.attrs["emd_group_type"] = 1


def _attributes(file: Any, _: Path) -> None:
    group = _hyperspy(file)
    group["data"] = np.zeros((2, 2))
    for number in range(10_000):
        group["metadata"].attrs[f"a{number}"] = number


def _attribute(file: Any, _: Path) -> None:
    group = _hyperspy(file)
    group["data"] = np.zeros((2, 2))
    group["metadata"].attrs["title"] = "x" * (32 << 20)
    file.attrs["numbers"] = np.zeros(4 << 20)


def _packed(file: Any, _: Path) -> None:
    """54 GB in a few kB."""
    file.attrs["version_major"], file.attrs["version_minor"] = 0, 2
    group = file.create_group("data/bomb")
    group.attrs["emd_group_type"] = 1
    shape = (400, 4096, 4096)
    group.create_dataset("data", shape=shape, dtype="f8", chunks=(1, *shape[1:]), compression="gzip")
    for number in range(3):
        group["data"].id.write_direct_chunk((number, 0, 0), zeros_packed(128 << 20))
    for axis, size in enumerate(shape, 1):
        group.create_dataset(f"dim{axis}", data=np.arange(size))


def _one_chunk(file: Any, _: Path) -> None:
    """One chunk of 3 GB, which cannot be unpacked in parts."""
    group = _hyperspy(file)
    group.create_dataset("data", shape=(20_000, 20_000), dtype="f8", chunks=(20_000, 20_000), compression="gzip")
    group["data"].id.write_direct_chunk((0, 0), zeros_packed(3200 << 20))


def _strings(file: Any, _: Path) -> None:
    group = _hyperspy(file)
    group.create_dataset("data", (1 << 40,), h5py.string_dtype(), chunks=(1 << 20,))
    group["metadata"].attrs["title"] = np.array(["a\x07b", "\x1b[31m"], dtype=h5py.string_dtype())


HDF5_FILES: dict[str, Writer] = {
    **{
        f"external link, {ending} to {target}": hdf5(f"link to {target}{ending}", _linked(target))
        for ending in (".h5", ".emd", ".nxs", ".hspy", ".h5oina", ".app5")
        for target in ("secret", "pipe")
    },
    **{
        f"{fill.__name__.strip('_')}, {ending}": hdf5(f"{fill.__name__}{ending}", fill)
        for fill in (_soft_loops, _depth, _ring, _packed)
        for ending in (".h5", ".emd", ".nxs", ".hspy")
    },
    "external storage": hdf5("external.hspy", _external),
    "virtual dataset": hdf5("virtual.hspy", _virtual),
    "10 000 attributes": hdf5("attributes.hspy", _attributes, libver="latest"),
    "attribute of 32 MB": hdf5("attribute.hspy", _attribute, libver="latest"),
    "a chunk of 3 GB": hdf5("chunk.hspy", _one_chunk),
    "a tebi of strings": hdf5("strings.hspy", _strings),
}

# Archives


class Payload:
    """What an unpickler would run."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self._mark}'",)


def object_array(name: str) -> Writer:
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


def zarr(name: str, described: dict[str, Any], chunk: Callable[[Path], bytes], attributes: str = "") -> Writer:
    """A HyperSpy file in a zip archive, whose numbers and a note are stored as `described`."""
    array = {
        "zarr_format": 2,
        "shape": [1],
        "chunks": [1],
        "dtype": "|O",
        "compressor": None,
        "fill_value": None,
        "order": "C",
        "filters": None,
        **described,
    }

    def write(root: Path) -> Path:
        path = root / name
        with zipfile.ZipFile(path, "w") as archive:
            for group in ("", "Experiments/", "Experiments/x/", "Experiments/x/metadata/"):
                archive.writestr(f"{group}.zgroup", '{"zarr_format": 2}')
            archive.writestr(".zattrs", attributes or '{"file_format": "ZSpy", "file_format_version": "3.3"}')
            for member in ("data", "metadata/note"):
                archive.writestr(f"Experiments/x/{member}/.zarray", json.dumps(array))
                archive.writestr(f"Experiments/x/{member}/0", chunk(root))
        return path

    return write


def _pickled(root: Path) -> bytes:
    return pickle.dumps(Payload(root.parent / "executed"))


BLOSC_HEADER = struct.pack("<BBBBIII", 2, 1, 1, 8, 2**31 - 16, 2**31 - 16, 32) + bytes(16)
ZSTD_HEADER = b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", 2**31 - 1) + bytes(16)


def archive_of(name: str, write_members: Callable[[zipfile.ZipFile], None]) -> Writer:
    """An archive that is packed once for all its names."""

    def write(root: Path) -> Path:
        packed = root.parent / f"{write_members.__name__}.zip"
        if not packed.exists():
            with zipfile.ZipFile(packed, "w", compresslevel=1) as archive:
                write_members(archive)
        return Path(shutil.copyfile(packed, root / name))

    return write


def _zeros(archive: zipfile.ZipFile) -> None:
    """64 MB of zeros under each of the names that readers look for."""
    for member in (".zattrs", "data.npy", "meta_data.npy", "Experiments/x/data/0"):
        archive.writestr(member, bytes(64 << 20), zipfile.ZIP_DEFLATED)


def _names(archive: zipfile.ZipFile) -> None:
    """Many members, and some whose names lead elsewhere."""
    for member in ("../../secret", "/etc/passwd", "C:\\x", "a\0b", "data.npy"):
        archive.writestr(zipfile.ZipInfo(member), b"\x93NUMPY")
    for number in range(66_000):
        archive.writestr(zipfile.ZipInfo(f"{number}.npy"), b"")


ARCHIVES: dict[str, Writer] = {
    "object npy": object_array("object.npy"),
    "object npz": object_array("object.npz"),
    "object prz": object_array("object.prz"),
    "pickle codec": zarr("pickle.zspy", {"filters": [{"id": "pickle", "protocol": 4}]}, _pickled),
    "pickle as compressor": zarr("compressor.zspy", {"compressor": {"id": "pickle"}}, _pickled),
    "unknown codec": zarr("codec.zspy", {"compressor": {"id": "os.system"}, "dtype": "<f8"}, lambda _: b"id"),
    "blosc bomb": zarr(
        "blosc.zspy",
        {"shape": [2**28], "chunks": [2**28], "dtype": "<f8", "compressor": {"id": "blosc"}},
        lambda _: BLOSC_HEADER,
    ),
    "zstd bomb": zarr(
        "zstd.zspy",
        {"shape": [2**28], "chunks": [2**28], "dtype": "<f8", "compressor": {"id": "zstd"}},
        lambda _: ZSTD_HEADER,
    ),
    "zlib bomb": zarr(
        "zlib.zspy", {"shape": [2**34], "chunks": [2**34], "dtype": "|u1", "compressor": {"id": "zlib"}}, lambda _: BOMB
    ),
    "absurd chunks": zarr("chunks.zspy", {"shape": [2**40] * 3, "chunks": [1] * 3, "dtype": "<f8"}, lambda _: b""),
    "negative shape": zarr("negative.zspy", {"shape": [-5], "chunks": [0], "dtype": "<f8"}, lambda _: b""),
    "deep JSON": zarr("deep.zspy", {}, lambda _: b"", "[" * 300_000),
    **{f"zip bomb, {ending}": archive_of(f"bomb{ending}", _zeros) for ending in (".zspy", ".prz", ".npz", ".elid")},
    **{f"names in a zip, {ending}": archive_of(f"names{ending}", _names) for ending in (".zspy", ".npz", ".elid")},
}

# Sizes


def sparse(name: str, head: bytes, size: int) -> Writer:
    """A file that is as long as it says and takes no room."""

    def write(root: Path) -> Path:
        path = content(name, head)(root)
        os.truncate(path, size)
        return path

    return write


def npy_head(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


RIPPLE = (
    "key\tvalue\nwidth\t{0}\nheight\t{0}\ndepth\t{1}\ndata-length\t{2}\ndata-type\t{3}\nbyte-order\t{4}\n"
    "record-by\t{5}\noffset\t0\n"
)


def ripple(name: str, text: str, raw_bytes: int) -> Writer:
    def write(root: Path) -> Path:
        path = content(name, text)(root)
        path.with_suffix(".raw").touch()
        os.truncate(path.with_suffix(".raw"), raw_bytes)
        return path

    return write


SERIES = struct.pack("<HHHIIIII", 0x4949, 0x197, 0x220, 0x4122, 0x4152, 2**31 - 1, 2**31 - 1, 30)
"""Header of a ``.ser`` file of TIA."""
SIZES: dict[str, Writer] = {
    "sparse MRC": sparse("sparse.mrc", struct.pack("<4i", 100_000, 100_000, 50, 1).ljust(1024, b"\0"), 1 << 40),
    "sparse npy": sparse("sparse.npy", npy_head((1000, 10_000, 10_000)), 8 * 10**11 + 128),
    "sparse TVIPS": sparse(
        "sparse.tvips", struct.pack("<9I", 256, 2, 4096, 4096, 16, 0, 0, 1, 12).ljust(256, b"\0"), 1 << 40
    ),
    "sparse Ripple": ripple(
        "sparse.rpl", RIPPLE.format(16_384, 1024, 2, "unsigned", "little-endian", "vector"), 1 << 39
    ),
    "sparse zeros": sparse("zeros.tif", b"", 1 << 40),
    "sparse text": sparse("zeros.txt", b"", 1 << 40),
    "sparse HDF5": sparse("sparse.emd", b"\x89HDF\r\n\x1a\n", 1 << 40),
    "sparse DM": sparse("sparse.dm4", struct.pack(">IQIHQ", 4, 1 << 40, 1, 256, 1 << 32), 1 << 40),
    "sparse EMSA": sparse("sparse.msa", EMSA.format("").encode(), 1 << 36),
    "absurd npy": content("absurd.npy", npy_head((2**31, 2**31, 2**31)) + bytes(100)),
    "absurd MRC": content("absurd.mrc", struct.pack("<4i", 2**31 - 1, 2**31 - 1, 2**31 - 1, 2).ljust(1024, b"\0")),
    "negative MRC": content("negative.mrc", struct.pack("<4i", -5, -5, -5, 2).ljust(2048, b"\0")),
    "absurd blo": content("absurd.blo", b"IMGBLO\0\0" + b"\xff" * 5000),
    "absurd TVIPS": content("absurd.tvips", struct.pack("<II", 256, 2) + b"\x7f" * 5000),
    "absurd mib": content("absurd.mib", b"MQ1,999999999,00768,01,99999999,99999999,U16,".ljust(4000, b"9")),
    "absurd unf": content("absurd.unf", struct.pack("<6i", 24, 2**30, 2**30, 2**30, 2, 0) + b"\x7f" * 500),
    "absurd SER": content("absurd.ser", SERIES + b"\x7f" * 500),
    "absurd Ripple": ripple("absurd.rpl", RIPPLE.format(999_999_999, 4096, 8, "float", "little-endian", "vector"), 100),
    "negative Ripple": ripple("negative.rpl", RIPPLE.format(-3, -4, 8, "float", "little-endian", "vector"), 100),
    "TIFF of 2 147 483 647²": content("size.tif", tiff(ABSURD_SIZE)),
    "TIFF tags past the end": content("tags.tif", tiff(PAST_THE_END)),
    "BigTIFF of 2⁶³ tags": content("big.tif", BIG_TIFF),
    "TIFF of a ring of pages": page_ring,
    "TIFF of 500 000 pages": many_pages,
    "deflate bomb": deflate_bomb,
    "PNG of 2 147 483 647²": content("size.png", png(2**31 - 1, 2**31 - 1)),
    "PNG text bombs": content("texts.png", PNG_TEXTS),
    "GIF of 65535²": content("size.gif", GIF_SIZE),
    "JPEG of 65535²": content("size.jpg", JPEG_SIZE),
    "BMP of negative size": content("size.bmp", BMP_SIZE + bytes(200)),
}

# What leads elsewhere


def ripple_elsewhere(root: Path) -> Path:
    path = content("elsewhere.rpl", RIPPLE.format(10, 1, 1, "unsigned", "dont-care", "image"))(root)
    path.with_suffix(".raw").symlink_to(root.parent / "secret")
    return path


EMPAD = (
    '<root><raw_file filename="{}"/><pix_x>1</pix_x><scan_parameters mode="acquire"><scan_resolution_x>1'
    "</scan_resolution_x><scan_resolution_y>1</scan_resolution_y></scan_parameters></root>"
)
OME = (
    b'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="I:0"><Pixels ID="P:0" Type="uint8" '
    b'DimensionOrder="XYZCT" SizeX="2" SizeY="2" SizeZ="9" SizeC="1" SizeT="1"><TiffData IFD="0" FirstZ="3">'
    b'<UUID FileName="../secret">urn:uuid:1</UUID></TiffData></Pixels></Image></OME>'
)
ELSEWHERE: dict[str, Writer] = {
    "Ripple": ripple_elsewhere,
    "EMPAD": content("up.xml", EMPAD.format("../secret")),
    "EMPAD, pipe": content("pipe.xml", EMPAD.format("../pipe")),
    "mdoc": content("up.mrc.mdoc", "ImageFile = ../secret\n[ZValue = 0]\nSubFramePath = ../secret\n"),
    "Channel 5": content(
        "up.cpr", "[General]\nVersion=5.0\nFileName=../secret\nxCells=2\nyCells=2\n[Fields]\nCount=0\n"
    ),
    "TIA": content("up.emi", b"JL\x02\0" + bytes(60) + b"<ObjectInfo><File>../secret</File></ObjectInfo>"),
    "JEOL project": content("up.asw", b"PD\x01\0" + bytes(60) + b"../secret\0" * 40),
    "OME, other file": tiff_with("ome.tif", 270, OME),
}

# Odd values in real files

_NUMBER = rb"(?<![\w.])[-+]?\d[\d.]*(?:[eE][-+]?\d+)?(?![\w.:/-])"
_AFTER_A_NAME = re.compile(rb"(?<=[=:>\t])([ \t\"]*)(" + _NUMBER + rb")")
_DATES = re.compile(rb"\b(\d{4})([-/])(\d{2})([-/])(\d{2})\b|\b(\d{1,2})([./-])(\d{1,2})([./-])(\d{4})\b")
_CLOCK = re.compile(rb"\b\d{2}:\d{2}:\d{2}\b")


def odd_numbers(data: bytes, word: bytes) -> bytes:
    """Every number that stands after a name replaced by `word`, as far as it has room: all offsets stay."""

    def replaced(found: re.Match[bytes]) -> bytes:
        fits = len(found[2]) >= len(word)
        return found[1] + (word.ljust(len(found[2])) if fits else found[2])

    return _AFTER_A_NAME.sub(replaced, data)


def odd_dates(data: bytes) -> bytes:
    """Every day the 31st of February, every clock at a leap second."""

    def replaced(found: re.Match[bytes]) -> bytes:
        if found[1]:
            return b"".join((found[1], found[2], b"02", found[4], b"31"))
        return found[0] if len(found[0]) < 10 else b"".join((b"31", found[7], b"02", found[9], found[10]))

    return _CLOCK.sub(b"23:59:60", _DATES.sub(replaced, data))
