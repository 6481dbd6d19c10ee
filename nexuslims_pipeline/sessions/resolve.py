"""From a usage event to a session: whose answers count, and whether there is consent.

The answers are taken from the first of three places that holds an answer to the question for consent: the
form after the run, the form before it, and the reservation of the instrument that overlaps the session
most. Nothing below that place is looked at, so that a refusal after the run stands against an earlier
agreement.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from nexuslims_pipeline.sessions.answers import Form, read_form, samples_of, text_answer
from nexuslims_pipeline.sessions.consent import Consent, consent_in_words, consent_of
from nexuslims_pipeline.sessions.model import Claim, Person, Project, Session, SessionState, Tier
from nexuslims_pipeline.sessions.times import ServerClock
from nexuslims_pipeline.sessions.usage import Row, UsageEvent, UsageEventError, row_id

_FORMS: tuple[tuple[Tier, str], ...] = (("run_data", "after the run"), ("pre_run_data", "before the run"))


@dataclass(frozen=True, slots=True)
class _Verdict:
    """Where the answers of a usage event come from, and what they say about consent."""

    state: SessionState
    reason: str = ""
    tier: Tier | None = None
    form: Form = field(default_factory=dict)
    reservation: Row | None = None


def resolve_session(usage: UsageEvent, *, key: str, instrument_id: str, nemo_web_address: str | None) -> Session:
    """Session of a finished usage event.

    Without consent the session says who used the instrument and when, but holds none of the answers.

    Parameters
    ----------
    usage
        What NEMO knows.
    key
        Session key, fixed when the event was first seen.
    instrument_id
        Instrument that the event's tool stands for.
    nemo_web_address
        Root of NEMO's pages for people; None for a server without.

    Returns
    -------
    Session
        In state READY, NO_CONSENT or NO_RESERVATION; its times keep the offset that NEMO gave.

    Raises
    ------
    UsageEventError
        If the event is still running, or its number or times are malformed.
    """
    event = usage.event
    event_id, start, end = _finished(event, usage.clock)
    warnings: list[str] = []
    verdict = _decide(event, (start, end), usage.reservations, usage.clock, warnings)
    ready = verdict.state is SessionState.READY
    booking = verdict.reservation if ready else None
    user = _user(usage, event, booking, warnings)
    operator = _person(usage, event.get("operator"), warnings)
    form = verdict.form if ready else {}
    return Session(
        key=key,
        instrument_id=instrument_id,
        server=usage.server,
        usage_event_id=event_id,
        start=start,
        end=end,
        state=verdict.state,
        reason=verdict.reason,
        tier=verdict.tier,
        reservation_id=booking["id"] if booking else None,
        title=text_answer(form, "experiment_title", warnings),
        motivation=text_answer(form, "experiment_purpose", warnings),
        user=user,
        operator=operator if operator != user else None,
        project=_project(usage, form, (booking or {}, event), warnings) if ready else None,
        samples=samples_of(form, key, warnings),
        link=_link(nemo_web_address, event_id, booking),
        warnings=tuple(dict.fromkeys(warnings)),
    )


def claims_of(usage: UsageEvent) -> tuple[Claim, ...]:
    """Other sessions of the instrument that overlap this one, by number.

    Their consent follows the same rule. Whatever is unknown about a neighbour speaks against touching its
    files: without READY there is no consent, and a malformed time widens its window.
    """
    event_id, start, end = _finished(usage.event, usage.clock)
    bookings = (*usage.reservations, *usage.neighbour_reservations)
    claims: dict[int, Claim] = {}
    for neighbour in usage.neighbours:
        number = row_id(neighbour.get("id"))
        if number is None or number == event_id:
            continue
        try:
            begins, ends = usage.clock.window(neighbour)
        except ValueError:
            begins, ends = start, None
        verdict = _decide(neighbour, (begins, ends or max(begins, end)), bookings, usage.clock, [])
        claims[number] = Claim(
            usage_event_id=number,
            server=usage.server,
            start=begins,
            end=ends,
            consent=verdict.state is SessionState.READY,
        )
    return tuple(claims[number] for number in sorted(claims))


def _finished(event: Row, clock: ServerClock) -> tuple[int, datetime, datetime]:
    number = row_id(event.get("id"))
    if number is None:
        msg = "The usage event has no number."
        raise UsageEventError(msg)
    try:
        start, end = clock.window(event)
    except ValueError as error:
        msg = f"Usage event {number} has no usable times: {error}. Correct it in NEMO."
        raise UsageEventError(msg) from error
    if end is None:
        msg = f"Usage event {number} is still running; a session is made when it ends."
        raise UsageEventError(msg)
    return number, start, end


def _decide(
    event: Row,
    window: tuple[datetime, datetime],
    reservations: Iterable[Row],
    clock: ServerClock,
    warnings: list[str],
) -> _Verdict:
    for tier, when in _FORMS:
        form = read_form(event.get(tier))
        consent = consent_of(form)
        if consent is Consent.GIVEN:
            return _Verdict(SessionState.READY, tier=tier, form=form)
        if consent is Consent.REFUSED:
            reason = f"No consent in the form {when}: {consent_in_words(form)}."
            return _Verdict(SessionState.NO_CONSENT, reason, tier)
    reservation = _best_reservation(event, window, reservations, clock, warnings)
    if reservation is None:
        reason = "The usage event has no answer about consent, and no valid reservation overlaps it."
        return _Verdict(SessionState.NO_RESERVATION, reason)
    form = read_form(reservation.get("question_data"))
    consent = consent_of(form)
    if consent is Consent.GIVEN:
        return _Verdict(SessionState.READY, tier="reservation", form=form, reservation=reservation)
    asked = consent_in_words(form) if consent is Consent.REFUSED else "the question for consent was not answered"
    reason = f"No consent in reservation {reservation['id']}: {asked}."
    return _Verdict(SessionState.NO_CONSENT, reason, "reservation", reservation=reservation)


def _best_reservation(
    event: Row,
    window: tuple[datetime, datetime],
    reservations: Iterable[Row],
    clock: ServerClock,
    warnings: list[str],
) -> Row | None:
    """Find the valid reservation that overlaps most; on a tie the user's own, then the lower number.

    Cancelled and missed reservations are not valid, nor is one with a successor: whoever leaves early or
    moves a booking gets a new one, which holds the same answers and stands in the list by its own right.
    """
    start, end = window
    ranked: list[tuple[timedelta, bool, int, Row]] = []
    for row in reservations:
        number = row_id(row.get("id"))
        withdrawn = any(row.get(mark) not in (None, False) for mark in ("cancelled", "missed", "descendant"))
        if number is None or withdrawn or row_id(row.get("tool")) != row_id(event.get("tool")):
            continue
        try:
            begins, ends = clock.window(row)
        except ValueError as error:
            warnings.append(f"Reservation {number} has no usable times and is left out: {error}.")
            continue
        overlap = min(end, ends or end) - max(start, begins)
        if overlap > timedelta(0):
            own = row_id(row.get("user")) == row_id(event.get("user"))
            ranked.append((overlap, own, -number, row))
    return max(ranked, key=lambda entry: entry[:3])[3] if ranked else None


def _user(usage: UsageEvent, event: Row, booking: Row | None, warnings: list[str]) -> Person | None:
    """Who the session belongs to: whoever gave the answers."""
    user = _person(usage, event.get("user"), warnings)
    if booking is None:
        return user
    booked_for = _person(usage, booking.get("user"), warnings)
    if booked_for is None or booked_for == user:
        return user
    if user is not None:
        warnings.append(
            f"{user.display_name} used the instrument, but the answers come from the reservation of "
            f"{booked_for.display_name}, who is taken for the user."
        )
    return booked_for


def _person(usage: UsageEvent, value: Any, warnings: list[str]) -> Person | None:
    number = row_id(value)
    if number is None:
        return None
    for user in usage.users:
        if user.id == number:
            return user.person
    warnings.append(f"NEMO does not tell who user {number} is.")
    return None


def _project(usage: UsageEvent, form: Form, rows: Iterable[Row], warnings: list[str]) -> Project | None:
    number = next((number for row in rows if (number := row_id(row.get("project")))), None)
    known = next((project for project in usage.projects if project.id == number), None)
    answered = text_answer(form, "project_id", warnings)
    project = Project(
        project_id=answered or (known.application_identifier or None if known else None),
        name=known.name or None if known else None,
    )
    return project if project != Project() else None


def _link(web_address: str | None, event_id: int, booking: Row | None) -> str | None:
    if web_address is None:
        return None
    page = f"reservation/{booking['id']}" if booking else f"usage/{event_id}"
    return f"{web_address}event_details/{page}/"
