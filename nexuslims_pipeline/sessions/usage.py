"""What NEMO knows about one use of an instrument: all that is needed to make a session, and no more."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from nexuslims_pipeline.sessions.answers import read_form
from nexuslims_pipeline.sessions.consent import QUESTION
from nexuslims_pipeline.sessions.model import Person
from nexuslims_pipeline.sessions.times import ServerClock

Row: TypeAlias = dict[str, Any]
"""One object of NEMO's API, as the server gave it."""

LARGEST_ID = 10**18
"""No row of a database has a larger number."""
DEEPEST = 50
"""Levels of nesting that are kept of an answer; real ones have five."""


class UsageEventError(ValueError):
    """A usage event that cannot be made a session, with the reason in words for a facility manager."""


class _Trimmed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)

    id: int

    @field_validator("*", mode="before")
    @classmethod
    def _empty_for_null(cls, value: Any) -> Any:
        return "" if value is None else value


class NemoUser(_Trimmed):
    """A user; NEMO's other fields (badge, qualifications ...) are nobody's business here."""

    username: str = ""
    first_name: str = ""
    last_name: str = ""
    email: str = ""

    @property
    def person(self) -> Person:
        """The same without the number."""
        return Person(**self.model_dump(exclude={"id"}))


class NemoProject(_Trimmed):
    """A project."""

    name: str = ""
    application_identifier: str = ""


class UsageEvent(BaseModel):
    """Content of the stage ``usage_event``."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    server: str
    time_zone: str | None = None
    """Zone of times without an offset (`ServerClock`)."""
    strptime_format: str | None = None
    """Format of times that are not ISO 8601 (`ServerClock`)."""
    event: Row
    """The usage event as NEMO gave it."""
    reservations: tuple[Row, ...] = ()
    """Reservations of the tool that overlap the event, as NEMO gave them: withdrawn ones too."""
    neighbours: tuple[Row, ...] = ()
    """Other usage events of the tool that overlap it, as NEMO gave them."""
    neighbour_reservations: tuple[Row, ...] = ()
    """Further reservations of the tool, which overlap a neighbour only."""
    users: tuple[NemoUser, ...] = ()
    projects: tuple[NemoProject, ...] = ()

    @property
    def clock(self) -> ServerClock:
        """How the times are written."""
        return ServerClock(self.time_zone, self.strptime_format)

    @property
    def fingerprint(self) -> str:
        """`fingerprint` of the event with what overlaps it."""
        return fingerprint(self.event, [*self.reservations, *self.neighbours, *self.neighbour_reservations])


def fingerprint(event: Mapping[str, Any], surroundings: Iterable[Mapping[str, Any]]) -> str:
    """SHA-256 (hex) that changes whenever NEMO changes the event or what overlaps it.

    NEMO has no "modified since", so that a poll compares these.

    Parameters
    ----------
    event
        The usage event.
    surroundings
        Reservations that overlap it, other usage events that do, and the reservations of those, whose consent decides
        about files of both. Their order does not count.
    """
    content = sorted(json.dumps(row, sort_keys=True) for row in surroundings)
    text = json.dumps([json.dumps(event, sort_keys=True), content])
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def consent_only(row: Row) -> Row:
    """A usage event or reservation of somebody else: all that is kept of its answers is the one about consent."""
    kept = dict(row)
    for form in ("run_data", "pre_run_data", "question_data"):
        answers = read_form(kept.get(form))
        if form in kept:
            kept[form] = {QUESTION: answers[QUESTION]} if QUESTION in answers else None
    return kept


def row_id(value: object) -> int | None:
    """Return `value` if it is the number of a row, else None."""
    return value if type(value) is int and 0 < value < LARGEST_ID else None


_Model = TypeVar("_Model", bound=_Trimmed)


def trimmed(rows: Iterable[Mapping[str, Any]], model: type[_Model]) -> tuple[_Model, ...]:
    """Keep the fields of `model` of each row, sorted by number; what does not fit is left out."""
    found: dict[int, _Model] = {}
    for row in rows:
        try:
            entry = model.model_validate(row)
        except ValidationError:
            continue
        found[entry.id] = entry
    return tuple(found[number] for number in sorted(found))


def storable(value: Any, depth: int = 0) -> Any:
    """Make a JSON value fit to be stored and hashed: no half characters, no NaN, no endless nesting."""
    match value:
        case str():
            return value.encode("utf-8", "replace").decode()
        case float() if not math.isfinite(value):
            return None
        case dict() | list() if depth >= DEEPEST:
            return None
        case dict():
            return {storable(k): storable(v, depth + 1) for k, v in value.items()}
        case list():
            return [storable(v, depth + 1) for v in value]
        case _:
            return value
