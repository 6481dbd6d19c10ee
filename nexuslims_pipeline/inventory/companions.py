"""Which files describe or continue which: vendor metadata and further parts that lie beside the data.

Only names are compared, in one folder and without regard to case, as Windows does on the instruments'
computers. Names may be plain or whole percent-encoded locations.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias

from nexuslims_pipeline.inventory.model import FoundFile

Base: TypeAlias = Literal[
    "stem", "name", "series", "dashed", "prefix", "first", "master", "exposure", "acquisition", "folder"
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rule:
    """Files with one of `extensions` are described by the files named `base` + one of `companions`."""

    extensions: frozenset[str]
    """Extensions, or whole names of files that always bear the same one."""
    base: Base
    """Of ``a_1.ser``: stem ``a_1``, name ``a_1.ser``, series ``a``, dashed ``a_1-ser``; of ``a_b.csv``: prefix ``a``.

    The others are stems without the ending that marks the main file: first ``a`` of ``a_000.tvips``, master ``a`` of
    ``a_master.h5``, exposure ``a`` of ``a_fractions.tiff``, ``a_EER.eer`` or ``a.mrc``, acquisition ``20241021_00405``
    of ``20241021_00405_movie.mrc``. Pictures have an exposure only under the names that EPU gives. Of a folder there is
    nothing: `companions` are whole names.
    """
    companions: tuple[str, ...]
    """Endings; ``######`` stands for that many digits, a single ``#`` for a number."""


_IMAGES = frozenset({".tif", ".tiff", ".bmp", ".jpg", ".jpeg", ".png"})
_MRC = frozenset({".mrc", ".mrcs", ".st"})
_FRAMES = frozenset({".tif", ".tiff", ".eer"})
_EXPOSURES = frozenset({".mrc", ".tif", ".tiff", ".jpg", ".jpeg", ".eer"})

RULES = (
    Rule(frozenset({".ser"}), "series", (".emi",)),  # FEI TIA: one .emi for all series of an acquisition
    Rule(_IMAGES, "stem", (".txt", ".hdr")),  # JEOL and Hitachi SEM (.txt), Tescan (.hdr)
    Rule(_IMAGES, "dashed", (".hdr",)),  # Tescan again: a.png with a-png.hdr
    Rule(_EXPOSURES, "exposure", (".xml",)),  # Thermo Fisher EPU
    Rule(_MRC | _FRAMES, "name", (".mdoc",)),  # SerialEM
    Rule(_MRC | _FRAMES, "stem", (".mdoc",)),
    Rule(frozenset({".mrc"}), "acquisition", ("_info.txt",)),  # Direct Electron
    Rule(frozenset({".mib"}), "stem", (".hdr",)),  # Quantum Detectors Merlin
    Rule(frozenset({".tvips"}), "first", ("_###.tvips",)),  # TVIPS: _001 and so on continue _000
    Rule(frozenset({".h5"}), "master", ("_data_######.h5", ".h5")),  # Dectris
    Rule(frozenset({".xml"}), "folder", ("scan_x#_y#.raw", "series_x#.raw")),  # EMPAD: the .xml names one of them
    Rule(frozenset({".xml"}), "stem", (".raw",)),  # EMPAD with its files renamed
    Rule(frozenset({".rpl"}), "stem", (".raw",)),  # Lispix Ripple: the .rpl is text, the .raw its pixels
    Rule(frozenset({".hmsa"}), "stem", (".xml",)),  # MAS hyper-dimensional data: pixels and their description
    Rule(frozenset({".spd"}), "stem", (".spc", ".ipr")),  # EDAX map with its sum spectrum and image
    Rule(frozenset({".cpr"}), "stem", (".crc",)),  # Oxford Channel 5
    Rule(frozenset({".csv"}), "prefix", ("_metadata.log",)),  # DENSsolutions Impulse
    Rule(frozenset({"pattern.dat"}), "folder", ("setting.txt",)),  # NORDIF
)
"""In lower case. No chain of rules may lead back to where it began."""

FEW = 16
"""Files that a rule about a whole folder may put to one file: with more of them, lying in one folder says nothing."""
_SELECTORS = frozenset(extension for rule in RULES for extension in rule.extensions)
_ENDINGS = tuple(dict.fromkeys(ending for rule in RULES for ending in rule.companions))
_MOVIE = re.compile(r"_(?:fractions|eer)$")
_EPU_NAMES = ("foilhole_", "gridsquare_", "atlas_", "tile_")
"""Pictures of other names may lie beside an .xml that is data of its own."""
_PICTURES = frozenset({".tif", ".tiff", ".jpg", ".jpeg"})
_ACQUISITION = re.compile(r"\d{8}_\d+(?=_)")


def extension_of(name: str) -> str:
    """Extension in lower case, with its dot."""
    return _split(name)[1].lower()


def _split(name: str) -> tuple[str, str]:
    """Stem (with its folder) and extension (with its dot)."""
    folder, slash, base = name.rpartition("/")
    stem, dot, extension = base.rpartition(".")
    return (folder + slash + stem, dot + extension) if stem else (name, "")


COMPANION_EXTENSIONS = frozenset(extension_of("a" + ending) for ending in _ENDINGS)
EXTENSIONS = COMPANION_EXTENSIONS.union(extension_of("a" + selector) for selector in _SELECTORS)
"""Extensions of all files that the rules know, on either side."""

_RULES_OF = {selector: tuple(rule for rule in RULES if selector in rule.extensions) for selector in _SELECTORS}
_NUMBERED = {
    extension: tuple(ending for ending in _ENDINGS if "#" in ending and extension_of("a" + ending) == extension)
    for extension in COMPANION_EXTENSIONS
}
"""Endings with digits in them, by extension."""


@dataclass(frozen=True, slots=True)
class Group:
    """A file and what describes it."""

    file: FoundFile
    companions: tuple[FoundFile, ...] = ()
    """Sorted by location; one companion may belong to several groups."""


def companions_of(name: str, others: Iterable[str]) -> list[str]:
    """Names of `others` that describe `name` directly; all in one folder."""
    wanted = set(_wanted(name))
    return [other for other in others if _key(other) != _key(name) and not wanted.isdisjoint(_keys(other))]


def related(inside: Collection[str], outside: Iterable[str]) -> list[str]:
    """Names of `outside` that describe one of `inside` or are described by one; all in one folder."""
    wanted = {key for name in inside for key in _wanted(name)}
    present = {key for name in inside if extension_of(name) in COMPANION_EXTENSIONS for key in _keys(name)}
    return [name for name in outside if not wanted.isdisjoint(_keys(name)) or not present.isdisjoint(_wanted(name))]


def group(files: Iterable[FoundFile]) -> tuple[Group, ...]:
    """Put companions to the files that they describe.

    Parameters
    ----------
    files
        Files of any number of folders; each location once.

    Returns
    -------
    tuple of Group
        Sorted by location. Each file is the file of one group or a companion in at least one: a companion
        that has nothing to describe is a file like any other.
    """
    files = sorted(files, key=lambda file: file.location)
    by_key: dict[str, list[FoundFile]] = {}
    for file in files:
        for key in _keys(file.location):
            by_key.setdefault(key, []).append(file)

    def companions(file: FoundFile) -> Iterator[FoundFile]:
        for key in _wanted(file.location):
            beside = by_key.get(key, ())
            for companion in beside[:FEW] if _is_of_folder(key) else beside:
                if companion is not file:
                    yield companion
                    yield from companions(companion)

    found = {file.location: sorted(set(companions(file)), key=lambda each: each.location) for file in files}
    described = {companion.location for each in found.values() for companion in each}
    return tuple(Group(file, tuple(found[file.location])) for file in files if file.location not in described)


def _key(name: str) -> str:
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.lower()


def _keys(name: str) -> Iterator[str]:
    """What rules may call a file: its name in lower case, and that with ``#`` for its numbers."""
    key = _key(name)
    yield key
    for ending in _NUMBERED.get(extension_of(name), ()):
        if found := _pattern(ending).search(key):
            yield key[: found.start()] + ending


@cache
def _pattern(ending: str) -> re.Pattern[str]:
    """Names that end like `ending`, or that are like it where it is a whole name."""

    def digits(run: re.Match[str]) -> str:
        count = len(run[0])
        return r"\d+" if count == 1 else rf"\d{{{count}}}"

    start = "" if ending[0] in "._" else "(?:(?<=/)|^)"
    return re.compile(start + re.sub("#+", digits, ending.replace(".", r"\.")) + "$", re.ASCII)


def _wanted(name: str) -> Iterator[str]:
    """Keys of a file's companions."""
    key = _key(name)
    rules = _RULES_OF.get(extension_of(name), ()) + _RULES_OF.get(key.rpartition("/")[2], ())
    for rule in rules:
        for base in _bases(key, rule.base):
            for companion in rule.companions:
                yield base + companion


def _is_of_folder(key: str) -> bool:
    return key.rpartition("/")[2] in _OF_FOLDERS


_OF_FOLDERS = frozenset(ending for rule in RULES if rule.base == "folder" for ending in rule.companions)


def _bases(name: str, base: Base) -> Iterator[str]:
    """What `Rule.base` of a name in lower case is; nothing when the name has not that form."""
    stem, extension = _split(name)
    match base:
        case "stem":
            yield stem
        case "name":
            yield name
        case "dashed":
            yield f"{stem}-{extension[1:]}"
        case "series":
            series, _, number = stem.rpartition("_")
            yield series if number.isdecimal() else stem
        case "prefix":
            prefix, line, _ = stem.rpartition("_")
            if line:
                yield prefix
        case "first" | "master":
            mark = {"first": "_000", "master": "_master"}[base]
            if stem.endswith(mark):
                yield stem.removesuffix(mark)
        case "exposure":
            yield from _exposures(stem, extension)
        case "acquisition":
            yield from _acquisitions(stem)
        case "folder":
            folder, slash, _ = name.rpartition("/")
            yield folder + slash


def _exposures(stem: str, extension: str) -> Iterator[str]:
    """The exposure that an image or a movie is of."""
    exposure = _MOVIE.sub("", stem)
    if exposure != stem or extension not in _PICTURES or stem.rpartition("/")[2].startswith(_EPU_NAMES):
        yield exposure


def _acquisitions(stem: str) -> Iterator[str]:
    """Date and number at the beginning of a name, alone and with the operator's suffix."""
    folder, slash, name = stem.rpartition("/")
    if found := _ACQUISITION.match(name):
        yield folder + slash + found[0]
        suffixed = name.rpartition("_")[0]
        if len(suffixed) > found.end():
            yield folder + slash + suffixed
