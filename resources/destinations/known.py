"""Every kind of destination: the project's own, and those of installed packages."""

import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from re import fullmatch

from nexuslims_pipeline.configuration import Settings
from nexuslims_pipeline.instruments import ConfigurationError
from resources.destinations.base import Destination
from resources.destinations.cdcs import Cdcs
from resources.destinations.crates import Crates
from resources.destinations.elabftw import Elabftw
from resources.destinations.labarchives import Labarchives
from resources.destinations.portal import Portal
from resources.store import STAGES

GROUP = "nexuslims_pipeline.destinations"
"""Group of entry points, each a `Destination` class."""
OWN: tuple[type[Destination], ...] = (Cdcs, Labarchives, Elabftw, Crates, Portal)
"""In the order in which the strategy ``first_success`` tries them."""
TAKEN = frozenset({"nemo", "storage", *STAGES})
"""Names of other pools and assets."""


@dataclass(frozen=True, slots=True)
class Kinds:
    """Kinds of destinations of this installation."""

    found: tuple[type[Destination], ...]
    faults: tuple[str, ...]
    """What is wrong with those of packages that cannot be used, one text each."""


@cache
def kinds() -> Kinds:
    """The project's own kinds, then those of installed packages by name."""
    found, faults = list(OWN), []
    for point in sorted(entry_points(group=GROUP)):
        try:
            found.append(_kind(point, found))
        except (Exception, SystemExit) as fault:  # whatever somebody else's package raises
            faults.append(f"destination '{point.name}' ({point.value}) cannot be used: {type(fault).__name__}: {fault}")
    return Kinds(tuple(found), tuple(faults))


def _kind(point: EntryPoint, known: Iterable[type[Destination]]) -> type[Destination]:
    """One kind of a package.

    Raises
    ------
    TypeError, ValueError
        When it is no such class, lacks what every one has, or has a name that is taken.
    """
    kind = point.load()
    if not (isinstance(kind, type) and issubclass(kind, Destination)):
        msg = "it is no class derived from Destination"
        raise TypeError(msg)
    if inspect.isabstract(kind):
        msg = f"it lacks {', '.join(sorted(kind.__abstractmethods__))}"
        raise TypeError(msg)
    for name in ("name", "asset_name", "label", "version"):
        if not isinstance(getattr(kind, name, None), str) or not getattr(kind, name):
            msg = f"its '{name}' is no text"
            raise TypeError(msg)
    for name in ("shows_links_of", "made_of", "variables"):
        if not isinstance(getattr(kind, name), tuple):
            msg = f"its '{name}' is no tuple (a comma too few?)"
            raise TypeError(msg)
    if not (fullmatch(r"[a-z][a-z0-9_]*", kind.name) and fullmatch(r"[a-z][a-z0-9_]*", kind.asset_name)):
        msg = "its 'name' and 'asset_name' must be lower-case letters, digits and '_'"
        raise ValueError(msg)
    taken = {other.name for other in known} | {other.asset_name for other in known} | TAKEN
    if {kind.name, kind.asset_name} & taken:
        msg = f"the name '{kind.name}' or '{kind.asset_name}' is taken"
        raise ValueError(msg)
    return kind


def destinations_of(site: Settings) -> dict[str, Destination]:
    """Destinations that a site has configured, by name: first those that others link to.

    Raises
    ------
    nexuslims_pipeline.instruments.ConfigurationError
        When one is set up by halves, or the code of a package fails.
    """
    made = [destination for kind in kinds().found if (destination := _configured(kind, site)) is not None]
    ordered: dict[str, Destination] = {}
    while made:
        waiting = {destination.name for destination in made}
        # Of two that link to each other, the first goes without the link until the next look.
        ready = next((d for d in made if not waiting & set(d.shows_links_of)), made[0])
        ordered[ready.name] = ready
        made.remove(ready)
    return ordered


def _configured(kind: type[Destination], site: Settings) -> Destination | None:
    try:
        return kind.configured(site)
    except ConfigurationError:
        raise
    except Exception as fault:
        # To go on without it would leave copies there that nobody keeps in step, or withdraws.
        msg = f"destination '{kind.name}': {kind.__module__} fails, {type(fault).__name__}: {fault}; mend or remove it."
        raise ConfigurationError(msg) from fault
