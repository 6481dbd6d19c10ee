"""The contract of a destination.

A destination holds at most one copy of each session and answers four questions: find, create, update, withdraw. It
keeps no state of its own; `resources.publishing` writes the ledger around each answer, so that a lost reply, a kill
between any two steps, or a repeated run ends in exactly one copy.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict

from nexuslims_pipeline.configuration import Settings
from nexuslims_pipeline.publication.model import Publication


class DestinationError(Exception):
    """A destination did not do what it was asked; the message is for a facility manager."""


class DestinationUnavailableError(DestinationError):
    """The destination is out of reach for now, or its answer was lost: trying again later may help."""


class DestinationBusyError(DestinationUnavailableError):
    """One copy cannot be changed for now; the destination itself is within reach, so that no other has to wait."""


class DestinationRefusedError(DestinationError):
    """The destination refuses: somebody has to mend something first. The message gives the server's reason."""


class Remote(BaseModel):
    """A copy of a session at a destination."""

    model_config = ConfigDict(frozen=True)

    id: str
    """What the destination calls it."""
    url: str
    """Page of it for people; for files, their address on disk."""
    is_whole: bool = True
    """False for a copy that visibly lacks something: it is mended even if the session did not change."""


class Destination(ABC):
    """One place that records are published to.

    Subclasses are found by their entry point in the group ``nexuslims_pipeline.destinations``. One object serves all
    threads of a process; several processes may each have one.

    What every method may raise: `DestinationUnavailableError` when trying again may help, `DestinationBusyError` when
    that is so for one session only, `DestinationRefusedError` when it cannot. A request that makes something is never
    repeated within a method when its outcome is unknown: raise `DestinationUnavailableError`, and the next try begins
    with `find`.
    """

    name: ClassVar[str]
    """Short, lower-case: names the ledger's folder, the pool and the job, e.g. ``cdcs``."""
    asset_name: ClassVar[str]
    """Name of the asset, e.g. ``cdcs_record``."""
    label: ClassVar[str]
    """What a copy is called in links of other destinations, e.g. ``CDCS record``."""
    version: ClassVar[str]
    """Changes when the same session would be sent in another form: all copies are brought up to date then."""
    shows_links_of: ClassVar[tuple[str, ...]] = ()
    """Names of the destinations whose copies this one links to. A link that is not there yet is added later."""
    made_of: ClassVar[tuple[str, ...]] = ()
    """Stages whose content matters beyond the record, e.g. ``file_inventory``."""
    variables: ClassVar[tuple[str, ...]] = ()
    """Environment variables of its own that ``doctor`` shall know, e.g. ``NX_SHELF_PATH``."""
    counts: ClassVar[bool] = True
    """Whether it is one of those that ``NX_EXPORT_STRATEGY`` speaks of."""
    waits_for_links: ClassVar[bool] = True
    """Whether a first copy waits a few minutes for the copies that it links to."""
    workers: ClassVar[int] = 4
    """Sessions sent at a time, within one run."""

    @classmethod
    @abstractmethod
    def configured(cls, site: Settings) -> Self | None:
        """Make the destination of a site's settings; None when the site does not have one.

        Asks no server.

        Raises
        ------
        nexuslims_pipeline.instruments.ConfigurationError
            When it is set up by halves; the message names the variable and the mend.
        """

    def in_words(self) -> str:
        """All settings, without secrets, that decide what is sent; when they change, every copy is sent anew."""
        return ""

    def address(self, publication: Publication) -> str:  # noqa: ARG002
        """Where in the destination a session's copy belongs (such as a notebook), when that depends on the session.

        Kept in the ledger, and handed to `find` when the session itself may be gone. No secrets.
        """
        return ""

    @abstractmethod
    def find(self, key: str, address: str) -> list[Remote]:
        """Every copy of a session at an address, the oldest first; also one whose creation was cut short."""

    def is_copy(self, remote: Remote, key: str) -> bool:  # noqa: ARG002
        """Whether what `find` does not show, but the ledger knows, is a session's copy all the same.

        So it is when somebody renamed or moved it. It is not when it is gone, or when its id is something else's by
        now: the settings name another server, or the server was set back to an older state. What this says is the
        session's gets changed and removed. By default nothing is.
        """
        return False

    @abstractmethod
    def create(self, publication: Publication) -> Remote:
        """Make the copy.

        From the first request that leaves something behind, `find` must see it; if the rest fails, `update` mends it.
        """

    @abstractmethod
    def update(self, remote: Remote, publication: Publication) -> Remote:
        """Make a copy equal to the publication, whatever it holds; under the same id."""

    @abstractmethod
    def withdraw(self, remote: Remote) -> None:
        """Remove a copy with all that belongs to it; one that is gone already is no error."""

    def check(self) -> list[str]:
        """What is wrong with the destination, in sentences that say the mend; changes nothing there."""
        return []
