"""Finding profiles: those that come with the program, those of installed packages, and the site's own.

A site's profiles are files in one folder (``NX_LOCAL_PROFILES_PATH``): ``*.yaml`` with the entries of `model.Profile`,
and ``*.py`` that set ``PROFILE`` to one. Python profiles are run as they are, here and in the processes that read
files: they are as trusted as the program itself. A name that begins with ``_`` or ``.`` is left alone.
"""

import hashlib
import pkgutil
import sys
import traceback
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ValidationError

from nexuslims_pipeline.extraction.profiles import bundled
from nexuslims_pipeline.extraction.profiles.model import Profile
from nexuslims_pipeline.instruments import ConfigurationError, lines_of, repeated_keys

ENTRY_POINTS = "nexuslims_pipeline.profiles"
"""Group of entry points, each a `Profile`."""


@dataclass(frozen=True, slots=True)
class ProfileSource:
    """Where a profile comes from and what it is made of; the processes that read files get this."""

    kind: Literal["bundled", "package", "yaml", "python"]
    place: str
    """Module, entry point or path."""
    content: str
    """Text of the file; for a package, its name and version."""


@dataclass(frozen=True, slots=True)
class Profiles:
    """All profiles, in the order in which they are applied."""

    sources: tuple[ProfileSource, ...] = ()

    @property
    def profiles(self) -> tuple[Profile, ...]:
        """Each profile; a later one takes the place of an earlier one of its name."""
        return tuple(profile for profile, _ in self._by_name().values())

    def of(self, instrument_id: str | None) -> tuple[Profile, ...]:
        """Profiles for an instrument's files."""
        return tuple(profile for profile in self.profiles if profile.is_for(instrument_id))

    def digest(self, instrument_id: str | None) -> str:
        """Short text that changes whenever a profile for the instrument does; empty when there is none."""
        told = [source.content for profile, source in self._by_name().values() if profile.is_for(instrument_id)]
        return hashlib.sha256("\0".join(told).encode()).hexdigest()[:16] if told else ""

    def _by_name(self) -> dict[str, tuple[Profile, ProfileSource]]:
        found: dict[str, tuple[Profile, ProfileSource]] = {}
        for source in self.sources:
            profile = profile_of(source)
            found[profile.name] = (profile, source)
        return found


def load_profiles(folder: Path | None) -> Profiles:
    """Every profile there is.

    A package's profile that cannot be used costs itself only: `package_faults` tells of it.

    Raises
    ------
    ConfigurationError
        With every mistake in the site's own files, each with file and line.
    """
    own, mistakes = site_profiles(folder)
    if mistakes:
        raise ConfigurationError("\n".join(mistakes))
    return Profiles((*_bundled(), *_packages()[0], *own))


def package_faults() -> tuple[str, ...]:
    """What is wrong with the profiles of installed packages, one text each."""
    return _packages()[1]


def site_profiles(folder: Path | None) -> tuple[list[ProfileSource], list[str]]:
    """The site's own profiles, and what is wrong with the others."""
    sources: list[ProfileSource] = []
    mistakes: list[str] = []
    for path in sorted(folder.iterdir()) if folder else []:
        kind: Literal["yaml", "python"] | None
        kind = {".yaml": "yaml", ".yml": "yaml", ".py": "python"}.get(path.suffix.lower())  # type: ignore[assignment]
        if kind is None or path.name.startswith(("_", ".")) or not path.is_file():
            continue
        try:
            source = ProfileSource(kind, str(path), path.read_text(encoding="utf-8"))
            profile_of(source)
        except ConfigurationError as fault:
            mistakes += str(fault).splitlines()
        except (OSError, UnicodeDecodeError) as fault:
            mistakes.append(f"{path} cannot be read: {fault}")
        else:
            sources.append(source)
    return sources, mistakes


@lru_cache(maxsize=256)
def profile_of(source: ProfileSource) -> Profile:
    """The profile itself.

    Raises
    ------
    ConfigurationError
        With every mistake in it, each with its line.
    """
    match source.kind:
        case "bundled":
            profile = import_module(source.place).PROFILE
        case "package":
            profile = _entry_point(source.place).load()
        case "yaml":
            profile = _from_yaml(Path(source.place), source.content)
        case "python":
            profile = _from_python(Path(source.place), source.content)
    if not isinstance(profile, Profile):
        msg = f"{source.place}: 'PROFILE' is a {type(profile).__name__}; make it a Profile."
        raise ConfigurationError(msg)
    return profile


@lru_cache(maxsize=1)
def _bundled() -> tuple[ProfileSource, ...]:
    modules = (import_module(f"{bundled.__name__}.{m.name}") for m in pkgutil.iter_modules(bundled.__path__))
    return tuple(
        ProfileSource("bundled", module.__name__, Path(str(module.__file__)).read_text(encoding="utf-8"))
        for module in sorted(modules, key=lambda module: module.__name__)
    )


@lru_cache(maxsize=1)
def _packages() -> tuple[tuple[ProfileSource, ...], tuple[str, ...]]:
    sources, faults = [], []
    for point in sorted(entry_points(group=ENTRY_POINTS)):
        version = f"{point.dist.name} {point.dist.version}" if point.dist else ""
        source = ProfileSource("package", f"{point.name} = {point.value}", version)
        try:
            profile_of(source)
        except (Exception, SystemExit) as fault:  # whatever somebody else's package raises
            faults.append(f"profile '{point.name}' ({point.value}) cannot be used: {type(fault).__name__}: {fault}")
        else:
            sources.append(source)
    return tuple(sources), tuple(faults)


def _entry_point(place: str) -> EntryPoint:
    name, _, value = place.partition(" = ")
    return EntryPoint(name, value, ENTRY_POINTS)


def _from_yaml(path: Path, text: str) -> Profile:
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.YAMLError as fault:
        msg = f"{path} is not valid YAML: {' '.join(str(fault).split())}"
        raise ConfigurationError(msg) from fault
    if not isinstance(content, dict):
        msg = f"{path}: begin with 'instruments:' and list their ids."
        raise ConfigurationError(msg)
    mistakes = [
        f"{path}, line {line}: '{key}' stands twice in one entry; keep one." for line, key in repeated_keys(node)
    ]
    if "parsers" in content:
        line = lines_of(node)["parsers",]
        mistakes.append(f"{path}, line {line}: 'parsers' are functions; write a Python profile for them.")
    try:
        profile = Profile.model_validate({"name": path.stem, **content})
    except ValidationError as faults:
        mistakes += _mistakes(path, lines_of(node), faults)
    if mistakes:
        raise ConfigurationError("\n".join(mistakes))
    return profile


def _mistakes(path: Path, lines: dict[tuple[Any, ...], int], faults: ValidationError) -> Iterator[str]:
    for fault in faults.errors():
        where = fault["loc"]
        line = next((lines[where[:n]] for n in range(len(where), 0, -1) if where[:n] in lines), 1)
        field = ".".join(map(str, where))
        reason = {
            "missing": f"'{field}' is missing; add it",
            "extra_forbidden": f"'{field}' is not a known entry",
        }.get(fault["type"], f"'{field}': {fault['msg'].removeprefix('Value error, ')}")
        yield f"{path}, line {line}: {reason}{'' if reason.endswith('?') else '.'}"


def _from_python(path: Path, text: str) -> Profile:
    module = types.ModuleType(f"nexuslims_site_profile_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    try:
        exec(compile(text, str(path), "exec"), module.__dict__)  # noqa: S102 - the site's own, trusted code
    except (Exception, SystemExit) as fault:
        line = _line_of(fault, str(path))
        told = " ".join(str(fault).split())
        msg = f"{path}, line {line}: {type(fault).__name__}: {told}"
        raise ConfigurationError(msg) from fault
    if not hasattr(module, "PROFILE"):
        msg = f"{path}, line 1: it sets no 'PROFILE'; end it with PROFILE = Profile(…)."
        raise ConfigurationError(msg)
    profile: Profile = module.PROFILE
    return profile


def _line_of(fault: BaseException, path: str) -> int:
    if isinstance(fault, SyntaxError) and fault.filename == path:
        return fault.lineno or 1
    return next((f.lineno or 1 for f in reversed(traceback.extract_tb(fault.__traceback__)) if f.filename == path), 1)


def unknown_instruments(sources: Iterable[ProfileSource], known: Iterable[str]) -> list[str]:
    """Instruments that the site's own profiles name and `instruments.yaml` does not have, one text each."""
    known = {*known, "*"}
    return [
        f"{source.place} is for '{instrument}', which is no instrument; correct its id."
        for source in sources
        for instrument in profile_of(source).instruments
        if instrument not in known
    ]


def unknown_readers(sources: Iterable[ProfileSource], known: Iterable[str]) -> list[str]:
    """Readers in the conditions of the site's own profiles that nobody has, one text each: such rules never hold."""
    known = set(known)
    return [
        f"{source.place}, rule {number} is for the reader '{reader}', which is none; correct its name."
        for source in sources
        for number, rule in enumerate(profile_of(source).rules, 1)
        for reader in rule.when.reader
        if reader not in known
    ]
