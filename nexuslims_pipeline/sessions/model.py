"""A session: one use of one instrument, with what its user said about it."""

from datetime import datetime
from enum import StrEnum
from typing import Literal, TypeAlias

from pydantic import AwareDatetime, BaseModel, ConfigDict

Tier: TypeAlias = Literal["run_data", "pre_run_data", "reservation"]


class SessionState(StrEnum):
    """How far a session got; all but the last are seen in the catalogue and none of them is a failure."""

    READY = "READY"
    """Consent is given: files may be looked for."""
    NO_CONSENT = "NO_CONSENT"
    """Consent is refused or nobody was asked: nothing is read, ever, until the answer changes."""
    NO_RESERVATION = "NO_RESERVATION"
    """No answers in the usage event and no reservation to take them from."""
    WAITING_FOR_FILES = "WAITING_FOR_FILES"
    """Files are still arriving, or none has come yet and the delay is not over."""
    NO_FILES_FOUND = "NO_FILES_FOUND"
    """The delay is over and no file came."""
    WITHDRAWN = "WITHDRAWN"
    """Consent was taken back, or somebody asked for it: all that was made is removed, a tombstone stays."""
    BUILT = "BUILT"
    """The record stands in the store."""
    FAILED = "FAILED"
    """A step failed; the reason is kept with the session."""


class Person(BaseModel):
    """A person as NEMO knows them."""

    model_config = ConfigDict(frozen=True)

    username: str
    first_name: str = ""
    last_name: str = ""
    email: str = ""

    @property
    def display_name(self) -> str:
        """``Ada Adeyemi (aadeyemi)``, or the user name alone."""
        name = f"{self.first_name} {self.last_name}".strip()
        return f"{name} ({self.username})" if name else self.username


class Sample(BaseModel):
    """A sample as the user described it."""

    model_config = ConfigDict(frozen=True)

    id: str
    """UUIDv5 of session and row: the same for the same session, whenever it is built."""
    name: str | None = None
    pid: str | None = None
    """Persistent identifier (handle, DOI), when the user gave one in place of a name."""
    description: str | None = None
    elements: tuple[str, ...] = ()
    """Symbols of chemical elements, each once."""


class Project(BaseModel):
    """The project that the session is booked on."""

    model_config = ConfigDict(frozen=True)

    project_id: str | None = None
    """What the user answered, else NEMO's application identifier."""
    name: str | None = None
    """Name in NEMO."""


class Session(BaseModel):
    """One use of one instrument."""

    model_config = ConfigDict(frozen=True)

    key: str
    """Partition key: ``<start date>_<instrument id>_<server>-<usage event id>``."""
    instrument_id: str
    server: str
    usage_event_id: int
    start: AwareDatetime
    end: AwareDatetime
    state: SessionState
    """READY, NO_CONSENT or NO_RESERVATION."""
    reason: str = ""
    """Why the state is not READY, in words for a facility manager."""
    tier: Tier | None = None
    """Where the answers come from."""
    reservation_id: int | None = None
    """The reservation that gave the answers (tier ``reservation`` only)."""
    title: str | None = None
    motivation: str | None = None
    user: Person | None = None
    operator: Person | None = None
    """Who ran the instrument, when it was not the user."""
    project: Project | None = None
    samples: tuple[Sample, ...] = ()
    link: str | None = None
    """Page of the usage event or reservation in NEMO, for people."""
    warnings: tuple[str, ...] = ()
    """What was left out of the answers and why."""


class Claim(BaseModel):
    """Another session on the instrument whose window overlaps: files in both windows go to one of them."""

    model_config = ConfigDict(frozen=True)

    usage_event_id: int
    server: str
    start: AwareDatetime
    end: AwareDatetime | None
    """None while the instrument is still in use."""
    consent: bool


def window_contains(start: datetime, end: datetime, moment: datetime) -> bool:
    """Whether `moment` lies in (start, end]."""
    return start < moment <= end
