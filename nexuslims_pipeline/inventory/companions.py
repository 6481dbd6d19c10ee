"""Which files describe which: vendor metadata that lies beside the data.

Only names are compared, in one folder and without regard to case, as Windows does on the instruments'
computers. Names may be plain or whole percent-encoded locations.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from nexuslims_pipeline.inventory.model import FoundFile

Base: TypeAlias = Literal["stem", "name", "series", "dashed"]


@dataclass(frozen=True, slots=True)
class Rule:
    """Files with one of `extensions` are described by the file named `base` + one of `companions`."""

    extensions: frozenset[str]
    base: Base
    """Of ``a_1.ser``: stem ``a_1``, name ``a_1.ser``, series ``a``, dashed ``a_1-ser``."""
    companions: tuple[str, ...]


_IMAGES = frozenset({".tif", ".tiff", ".bmp", ".jpg", ".jpeg", ".png"})

RULES = (
    Rule(frozenset({".ser"}), "series", (".emi",)),  # FEI TIA: one .emi for all series of an acquisition
    Rule(_IMAGES, "stem", (".txt", ".hdr")),  # JEOL and Hitachi SEM (.txt), Tescan (.hdr)
    Rule(_IMAGES, "dashed", (".hdr",)),  # Tescan again: a.png with a-png.hdr
    Rule(frozenset({".mib"}), "stem", (".hdr",)),  # Quantum Detectors Merlin
    Rule(frozenset({".mrc"}), "name", (".mdoc",)),  # SerialEM
    Rule(frozenset({".rpl"}), "stem", (".raw",)),  # Lispix Ripple: the .rpl is text, the .raw its pixels
    Rule(frozenset({".raw"}), "stem", (".xml",)),  # EMPAD
)
"""Extensions in lower case. No chain of rules may lead back to where it began."""

COMPANION_EXTENSIONS = frozenset(extension for rule in RULES for extension in rule.companions)
EXTENSIONS = COMPANION_EXTENSIONS.union(*(rule.extensions for rule in RULES))
"""Extensions of all files that the rules know, on either side."""

_RULES_OF = {extension: tuple(rule for rule in RULES if extension in rule.extensions) for extension in EXTENSIONS}


@dataclass(frozen=True, slots=True)
class Group:
    """A file and what describes it."""

    file: FoundFile
    companions: tuple[FoundFile, ...] = ()
    """Sorted by location; one companion may belong to several groups."""


def extension_of(name: str) -> str:
    """Extension in lower case, with its dot."""
    return _split(name)[1].lower()


def companion_names(name: str) -> tuple[str, ...]:
    """Names that companions of `name` would bear, in lower case; the folder as it stands."""
    rules = _RULES_OF.get(extension_of(name), ())
    return tuple(_key(_base(name, rule.base) + companion) for rule in rules for companion in rule.companions)


def related(inside: Collection[str], outside: Iterable[str]) -> list[str]:
    """Names of `outside` that describe one of `inside` or are described by one; all in one folder."""
    wanted = {companion for name in inside for companion in companion_names(name)}
    present = {_key(name) for name in inside if extension_of(name) in COMPANION_EXTENSIONS}
    return [name for name in outside if _key(name) in wanted or not present.isdisjoint(companion_names(name))]


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
        by_key.setdefault(_key(file.location), []).append(file)

    def companions(file: FoundFile) -> Iterator[FoundFile]:
        for key in companion_names(file.location):
            for companion in by_key.get(key, ()):
                yield companion
                yield from companions(companion)

    found = {file.location: sorted(set(companions(file)), key=lambda each: each.location) for file in files}
    described = {companion.location for each in found.values() for companion in each}
    return tuple(Group(file, tuple(found[file.location])) for file in files if file.location not in described)


def _split(name: str) -> tuple[str, str]:
    """Stem (with its folder) and extension (with its dot)."""
    folder, slash, base = name.rpartition("/")
    stem, dot, extension = base.rpartition(".")
    return (folder + slash + stem, dot + extension) if stem else (name, "")


def _key(name: str) -> str:
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.lower()


def _base(name: str, base: Base) -> str:
    stem, extension = _split(name)
    match base:
        case "stem":
            return stem
        case "name":
            return name
        case "dashed":
            return f"{stem}-{extension[1:]}"
        case "series":
            series, _, number = stem.rpartition("_")
            return series if number.isdecimal() else stem
