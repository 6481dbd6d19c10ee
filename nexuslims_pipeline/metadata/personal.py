r"""Which values tell of a person: who worked, under which account, on whose computer.

Three things give a value away: its name (``UserName``, ``Operator``), a name written beside it within a longer text
(``<UserID>jdoe</UserID>``), or its form (an e-mail address, ``C:\Users\jdoe\…``). Names that mean other things as
well are personal only where they stand alone, and not within a calibration, a filter or the like: ``User Text``,
``Use Beam`` and the author of a calibration are science. What a specimen is called is never personal.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from nexuslims_pipeline.metadata.fields import FIELDS

CERTAIN: Final = frozenset(
    tuple(name.split())
    for name in (
        "user name", "username", "user id", "userid", "user login", "user account", "user profile", "user mail",
        "user email", "user full name", "windows user", "os user", "current user", "logged in user", "login",
        "login name", "account name", "operator name", "operator id", "owner name", "author name", "analyst name",
        "customer name", "contact name", "contact person", "person name", "first name", "last name", "user family name",
        "given name", "surname", "experimenter", "microscopist", "e mail", "email", "mail address", "phone",
        "telephone", "phone number", "measured by", "recorded by", "saved by", "edited by", "modified by",
        "created by", "acquired by", "performed by",
        "computer name", "computername", "host computer", "host name", "hostname", "machine name", "machinename",
        "pc name",
        "workstation", "workstation name", "workstation id", "ip address", "mac address", "benutzer",
        "benutzername", "bediener", "utilisateur", "usuario",
    )
)  # fmt: skip
"""Words at the end of a name, or of the name of its group and its own, that leave no doubt."""
ALONE: Final = frozenset(
    {"user", "operator", "owner", "author", "authors", "analyst", "artist", "computer", "investigator"}
)
"""Names that are personal when there is nothing more to them."""
PREFIXES: Final = frozenset({"ap", "sv", "cm", "sm", "xp", "exif", "dc"})
"""What vendors put before their names: ``AP_OPERATOR``, ``$CM_OPERATOR``."""
THINGS: Final = frozenset({
    "calibration", "calibrations", "condition", "database", "expression", "filter", "library", "macro", "math",
    "method", "phase", "plugin", "process", "processing", "reference", "rule", "script", "standard", "standards",
    "structure", "template",
})  # fmt: skip
"""Groups in which an author, owner or operator is that of a thing, or a sign of arithmetic."""
LABELS: Final = ("Label", "Name", "Key", "label", "name", "key", "@name", "@key")
VALUES: Final = ("Value", "value", "Data", "data", "#text", "@value")
"""Keys of trees that hold names and values side by side."""
HIDDEN: Final = "…"
NAME_CHARACTERS: Final = 4
"""Shortest name that is looked for elsewhere in the file: in paths, behind ``User``, alone in the vendor's tree."""
_WORD_ENDS = re.compile(r"(?<=[^\W\d_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][^\W\d_A-Z])|[\W\d_]+")
_NOBODY = r"(?:Public|All Users|Default(?: User)?)[\\/]"
MARKS: Final = re.compile(r"[\\/@]")
"""What every path and address has: few texts do."""
_FORMS = (
    re.compile(
        r"(?i)(?P<kept>\b[A-Z]:[\\/]+(?:Users|Documents and Settings|Dokumente und Einstellungen|Benutzer)[\\/]+)"
        rf"(?!{_NOBODY})(?P<person>[^\\/:*?\"<>|\r\n{HIDDEN}]+)"
    ),
    re.compile(rf"(?P<kept>(?:^|(?<=[\s\"'=:;]))/(?:home|Users)/)(?P<person>[^/\s{HIDDEN}]+)"),
    re.compile(r"(?P<kept>)(?P<person>\b[A-Za-z][\w.+-]{0,63}@[A-Za-z][\w-]{0,62}(?:\.[A-Za-z][\w-]{1,62}){1,4})"),
)
_NAMED = (
    re.compile(rf"(?P<kept><(?:\w+:)?(?P<name>\w+)(?: [^<>]*)?>)(?P<person>[^<>{HIDDEN}]+)(?=</)"),
    re.compile(
        rf"(?m)(?P<kept>^[ \t#$\[]*(?P<name>[A-Za-z][\w ]{{2,30}}?)[ \t]*[=:][ \t]*)(?P<person>[^\s{HIDDEN}].*)$"
    ),
)


def is_personal(name: str, groups: Sequence[str] = ()) -> bool:
    """Whether values of this name tell of a person.

    Parameters
    ----------
    name
        As the vendor writes it; one that is a path (``Header/Author``) names its groups itself.
    groups
        Names of the groups that hold it, the outermost first.
    """
    *path, name = name.split("/")
    groups = (*groups, *path)
    own = _words(name)
    while len(own) > 1 and own[0] in PREFIXES:
        own = own[1:]
    held = (*(_words(groups[-1]) if groups else ()), *own)
    if any(held[-length:] in CERTAIN for length in range(1, min(len(held), 4) + 1)) and own:
        return True
    around = {word for group in groups for word in _words(group)}
    return len(own) == 1 and own[0] in ALONE and THINGS.isdisjoint(around)


@lru_cache(maxsize=4096)
def _words(name: str) -> tuple[str, ...]:
    return tuple(word.lower() for word in _WORD_ENDS.split(name) if word)


def without_persons(text: str) -> str:
    """`text` with what tells of a person within it replaced by an ellipsis."""
    if MARKS.search(text):
        for form in _FORMS:
            text = form.sub(rf"\g<kept>{HIDDEN}", text)
    if "\n" in text or "<" in text:
        for form in _NAMED:
            text = form.sub(lambda found: found["kept"] + HIDDEN if is_personal(found["name"]) else found[0], text)
    return text


def part_persons(element: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A sidecar's element without personal data, and where they stood.

    Parameters
    ----------
    element
        With ``nx_meta`` and ``original_metadata``; JSON values.

    Returns
    -------
    element : dict
        The same without the values that tell of persons; texts that mention them have an ellipsis instead.
    places : list of str
        JSON pointers (RFC 6901) to them in the given element.
    """
    search = _Search()
    meta = element["nx_meta"]
    kept: dict[str, Any] = {}
    for name, value in meta.items():
        place = f"/nx_meta/{name}"
        if name in FIELDS and FIELDS[name].is_personal:
            search.found(place, value)
        else:
            kept[name] = search.parted(value, (), place) if name == "extensions" else search.masked(value, place)
    native = search.parted(element["original_metadata"], (), "/original_metadata")
    parted = {"nx_meta": kept, "original_metadata": native}
    if search.persons:
        names = "|".join(map(re.escape, sorted(search.persons)))
        within = re.compile(rf"(?i)(?<=[\\/])(?:{names})(?=[\\/])|(?<=\bUser )(?:{names})(?!\w)|(?<== )(?:{names})$")
        alone = re.compile(rf"(?:{names})")
        parted = {
            "nx_meta": search.masked(kept, "/nx_meta", lambda text: within.sub(HIDDEN, text)),
            "original_metadata": search.masked(
                native,
                "/original_metadata",
                lambda text: HIDDEN if alone.fullmatch(text) else within.sub(HIDDEN, text),
            ),
        }
    return {**element, **parted}, sorted(search.places)


class _Search:
    """What was found in one dataset so far."""

    def __init__(self) -> None:
        self.places: set[str] = set()
        """JSON pointers."""
        self.persons: set[str] = set()
        """Names that stood there, as far as they are long enough to be known again."""

    def found(self, place: str, value: Any) -> None:
        self.places.add(place)
        name = str(value).rpartition("=")[2].strip()
        if len(name) >= NAME_CHARACTERS:
            self.persons.add(name)

    def parted(self, tree: Any, groups: tuple[str, ...], place: str) -> Any:
        """A tree without its personal values."""
        if isinstance(tree, list):
            return [self.parted(item, groups, f"{place}/{index}") for index, item in enumerate(tree)]
        if not isinstance(tree, Mapping):
            return self.masked(tree, place)
        kept: dict[str, Any] = {}
        hidden = set(_labelled(tree, groups))
        for name, value in tree.items():
            here = f"{place}/{_escaped(name)}"
            if name in hidden or (_is_told(value) and is_personal(name, groups)):
                self.found(here, value)
            else:
                kept[name] = self.parted(value, (*groups, name), here)
        return kept

    def masked(self, tree: Any, place: str, mask: Callable[[str], str] = without_persons) -> Any:
        """A tree whose texts no longer mention persons."""
        if isinstance(tree, str):
            text = mask(tree)
            if text != tree:
                self.places.add(place)
            return text
        if isinstance(tree, list):
            return [self.masked(item, f"{place}/{index}", mask) for index, item in enumerate(tree)]
        if isinstance(tree, Mapping):
            return {name: self.masked(item, f"{place}/{_escaped(name)}", mask) for name, item in tree.items()}
        return tree


def _labelled(tree: Mapping[str, Any], groups: Sequence[str]) -> Iterator[str]:
    """Keys of values whose name is written beside them: ``{"Label": "User", "Value": "jdoe"}``."""
    names = [tree[key] for key in LABELS if isinstance(tree.get(key), str)]
    if any(is_personal(name, groups) for name in names):
        yield from (key for key in VALUES if _is_told(tree.get(key)))


def _is_told(value: Any) -> bool:
    """Whether it is text or a number that says anything (``-`` and blanks name nobody), or a list of texts."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, str) for item in value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return False
    return any(character.isalnum() for character in str(value))


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
