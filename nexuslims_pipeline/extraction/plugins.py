"""Readers and previews of installed packages, found by their entry points.

One that cannot be used costs itself only: it is left out, the log and ``nexuslims-pipeline doctor`` say why.
"""

import inspect
import logging
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from nexuslims_pipeline.extraction.model import Extractor
from nexuslims_pipeline.previews.model import Preview

EXTRACTORS = "nexuslims_pipeline.extractors"
"""Group of entry points, each an `Extractor` class."""
PREVIEWS = "nexuslims_pipeline.previews"
"""Group of entry points, each a `Preview` class."""
log = logging.getLogger(__name__)
Plugin = TypeVar("Plugin", Extractor, Preview)


@dataclass(frozen=True, slots=True)
class Plugins(Generic[Plugin]):
    """What the packages of this installation add."""

    found: tuple[Plugin, ...]
    versions: tuple[str, ...]
    """``name=version`` of each, with the version of its package."""
    faults: tuple[str, ...]
    """What is wrong with those that cannot be used, one text each."""

    @property
    def folders(self) -> frozenset[Path]:
        """Folders of their modules, from which they may import more while they read."""
        return frozenset(Path(inspect.getfile(type(plugin))).parent for plugin in self.found)


@cache
def extractor_plugins() -> Plugins[Extractor]:
    """Readers of installed packages."""
    return _load(EXTRACTORS, Extractor)  # type: ignore[type-abstract]


@cache
def preview_plugins() -> Plugins[Preview]:
    """Previews of installed packages."""
    return _load(PREVIEWS, Preview)  # type: ignore[type-abstract]


def _load(group: str, base: type[Plugin]) -> Plugins[Plugin]:
    found: list[Plugin] = []
    versions, faults = [], []
    for point in sorted(entry_points(group=group)):
        try:
            plugin = _made(point, base)
            if plugin.name in (other.name for other in found):
                msg = f"another one is called '{plugin.name}' too"
                raise ValueError(msg)  # noqa: TRY301 - one way out for all that packages do wrong
        except (Exception, SystemExit) as fault:  # whatever somebody else's package raises
            kind = base.__name__.lower()
            faults.append(f"{kind} '{point.name}' ({point.value}) cannot be used: {type(fault).__name__}: {fault}")
            log.warning(faults[-1])
        else:
            found.append(plugin)
            package = f"+{point.dist.name} {point.dist.version}" if point.dist else ""
            versions.append(f"{plugin.name}={plugin.version}{package}")
    return Plugins(tuple(found), tuple(versions), tuple(faults))


def _made(point: EntryPoint, base: type[Plugin]) -> Plugin:
    """One plugin.

    Raises
    ------
    TypeError
        When it is no class of the right kind, or lacks what every one has.
    """
    kind: Any = point.load()
    if not (isinstance(kind, type) and issubclass(kind, base)):
        msg = f"it is no class derived from {base.__name__}"
        raise TypeError(msg)
    plugin: Plugin = kind()
    for name in ("name", "version"):
        if not isinstance(getattr(plugin, name, None), str) or not getattr(plugin, name):
            msg = f"its '{name}' is no text"
            raise TypeError(msg)
    if isinstance(plugin, Extractor):
        extensions = getattr(plugin, "extensions", None)
        if not isinstance(extensions, frozenset | set) or any(e and e != f".{e.lower()[1:]}" for e in extensions):
            msg = "its 'extensions' are no set of lower-case extensions such as '.cnt'"
            raise TypeError(msg)
        if not isinstance(plugin.rank, int) or not isinstance(plugin.format_name, str):
            msg = "its 'rank' is no whole number, or its 'format_name' no text"
            raise TypeError(msg)
    return plugin
