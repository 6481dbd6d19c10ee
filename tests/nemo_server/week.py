"""Days of a small facility, with every shape of usage event and reservation, and what must come of each.

Times are the server's, America/New_York; the clock is put forward on Sunday, 2026-03-08.
"""

from typing import Any

TIME_ZONE = "America/New_York"
TITAN, QUANTA, HELIOS = 1, 2, 3
RETIRED = 99
"""Number of a tool that is still bound to an instrument but does not exist any more."""
SERVICE, ADA, BEN, STAFF = 1, 2, 3, 4
READER_TOKEN, ADMIN_TOKEN, POWERLESS_TOKEN = "5" * 40, "a" * 40, "b" * 40

TOOLS = {TITAN: "Titan TEM", QUANTA: "Quanta SEM", HELIOS: "Helios FIB"}
USERS = {
    SERVICE: ("pipeline", "", ""),
    ADA: ("alovelace", "Ada", "Lovelace"),
    BEN: ("bfranklin", "Ben", "Franklin"),
    STAFF: ("mstaff", "Mary", "Staff"),
}
PROJECTS = {1: ("Oxide films", "OX-17"), 2: ("Steel & welds", "ST-04")}

CONSENT = {
    "type": "radio",
    "name": "data_consent",
    "title": "May the data be curated?",
    "choices": ["Agree", "Disagree"],
    "default_choice": "Agree",
}
GENERAL = [
    {"type": "textbox", "name": "project_id", "title": "Project"},
    {"type": "textbox", "name": "experiment_title", "title": "Title"},
    {"type": "textarea", "name": "experiment_purpose", "title": "Purpose", "rows": 3},
]
SAMPLE = [
    {"type": "textbox", "name": "sample_name", "title": "Name or PID"},
    {"type": "radio", "name": "sample_or_pid", "title": "Which?", "choices": ["Sample Name", "PID"]},
    {"type": "textarea", "name": "sample_details", "title": "Details"},
    {"type": "checkbox", "name": "periodic_table", "title": "Elements", "choices": ["Al", "Fe", "O"]},
]
GROUP = {"type": "group", "name": "sample_group", "title": "Samples", "max_number": 12, "questions": SAMPLE}
FORMS = {
    "today": [*GENERAL, CONSENT, GROUP],
    "without consent": [*GENERAL, GROUP],
    "old": [*GENERAL, CONSENT, *SAMPLE[:3]],
}


def answers(title: str, consent: str | None = "Agree", form: str = "today", **posted: Any) -> dict[str, Any]:
    """Fields that a browser posts, and the form that it shows."""
    fields = {"experiment_title": title, "project_id": "", "experiment_purpose": "", **posted}
    if consent is not None:
        fields["data_consent"] = consent
    return {"form": form, "fields": fields}


TWO_SAMPLES = {
    "experiment_purpose": "Compare two heats",
    "project_id": "MD-2026-1",
    "sample_name": "coupon <7> & co",
    "sample_or_pid": "Sample Name",
    "sample_details": "etched\nthen polished",
    "periodic_table": ["Fe", "O"],
    "sample_name_1": "hdl:20.500/abc-17",
    "sample_or_pid_1": "PID",
}

EVENTS: list[dict[str, Any]] = []
RESERVATIONS: list[dict[str, Any]] = []
OUTCOMES: dict[int, tuple[str, str | None, int | None]] = {}
"""State, tier and reservation that each finished event must come to."""


def event(number: int, tool: int, start: str, end: str | None, user: int, outcome: Any, **more: Any) -> None:
    """Add a usage event (times ``mm-dd hh:mm``)."""
    EVENTS.append({"id": number, "tool": tool, "start": start, "end": end, "user": user, "project": 1, **more})
    if outcome is not None:
        OUTCOMES[number] = outcome


def reservation(number: int, tool: int, start: str, end: str, user: int, **more: Any) -> None:
    """Add a reservation."""
    RESERVATIONS.append({"id": number, "tool": tool, "start": start, "end": end, "user": user, "project": 2, **more})


RUN, PRE, NO = ("READY", "run_data", None), ("READY", "pre_run_data", None), ("NO_RESERVATION", None, None)

event(1, TITAN, "03-02 09:00", "03-02 11:30", ADA, RUN, run=answers("After the run", **TWO_SAMPLES))
reservation(1, TITAN, "03-02 09:00", "03-02 12:00", ADA, answers=answers("Not this one"))
event(2, TITAN, "03-02 13:00", "03-02 16:00", BEN, PRE, pre=answers("Before the run"))
event(3, TITAN, "03-03 09:00", "03-03 10:00", ADA, ("NO_CONSENT", "run_data", None),
      pre=answers("Agreed first"), run=answers("Then refused", "Disagree"))  # fmt: skip
event(4, TITAN, "03-03 11:00", "03-03 12:00", ADA, ("READY", "reservation", 2))
reservation(2, TITAN, "03-03 11:00", "03-03 12:00", ADA, answers=answers("From the booking"))
event(5, HELIOS, "03-04 09:00", "03-04 12:00", ADA, ("READY", "reservation", 3))
reservation(3, HELIOS, "02-27 00:00", "03-07 00:00", ADA, answers=answers("Booked for eight days"))
event(6, TITAN, "03-04 09:00", "03-04 10:00", BEN, ("NO_CONSENT", "pre_run_data", None),
      pre=answers("Refused before", "Disagree"), run=answers("Not asked", None, "without consent"))  # fmt: skip
event(7, TITAN, "03-04 11:00", "03-04 12:00", BEN, ("READY", "reservation", 4),
      run=answers("Radio left unticked", None))  # fmt: skip
reservation(4, TITAN, "03-04 11:00", "03-04 12:00", BEN, answers=answers("Consent is here"))
event(8, TITAN, "03-05 09:00", "03-05 10:00", ADA, NO)
event(9, TITAN, "03-05 11:00", "03-05 12:00", ADA, NO)
reservation(5, TITAN, "03-05 11:00", "03-05 12:00", ADA, answers=answers("Cancelled"), cancelled=True)
event(10, TITAN, "03-05 13:00", "03-05 14:00", ADA, NO)
reservation(6, TITAN, "03-05 13:00", "03-05 14:00", BEN, answers=answers("Missed"), missed=True)
event(11, TITAN, "03-06 09:00", "03-06 10:30", ADA, ("READY", "reservation", 8))
reservation(7, TITAN, "03-06 09:00", "03-06 13:00", ADA, answers=answers("Whole"), shortened=True, descendant=8)
reservation(8, TITAN, "03-06 09:00", "03-06 10:30", ADA, answers=answers("What was kept of it"))
event(12, TITAN, "03-06 11:00", "03-06 12:30", BEN, NO)
event(13, QUANTA, "03-02 14:00", "03-02 16:00", ADA, ("READY", "reservation", 10))
reservation(9, QUANTA, "03-02 13:00", "03-02 17:00", ADA, answers=answers("Moved"), cancelled=True, descendant=10)
reservation(10, QUANTA, "03-02 14:00", "03-02 15:00", ADA, answers=answers("Where it was moved to"))
event(14, QUANTA, "03-03 09:00", "03-03 11:00", ADA, RUN, operator=STAFF, run=answers("Run by staff"))
event(15, QUANTA, "03-03 22:00", "03-04 03:30", ADA, RUN, run=answers("Over midnight"))
event(16, QUANTA, "03-07 22:00", "03-08 05:00", ADA, RUN, run=answers("The short night"))
event(17, QUANTA, "03-09 09:00", "03-09 12:00", ADA, RUN, run=answers("Back"))
event(18, QUANTA, "03-09 12:00", "03-09 14:00", BEN, RUN, run=answers("to back"))
event(19, QUANTA, "03-11 09:00", None, ADA, None, pre=answers("Still running"))
event(20, QUANTA, "03-05 09:00", "03-05 10:00", ADA, ("NO_CONSENT", "reservation", None))
reservation(11, QUANTA, "03-05 09:00", "03-05 10:00", ADA, answers=answers("Refused", "Disagree"))
event(21, HELIOS, "03-10 09:00", "03-10 12:00", ADA, RUN, run=answers("Overlaps the next"))
event(22, HELIOS, "03-10 11:00", "03-10 13:00", BEN, ("NO_CONSENT", "run_data", None),
      run=answers("Overlaps the one before", "Disagree"))  # fmt: skip
event(23, HELIOS, "03-10 15:00", "03-10 16:00", ADA, ("NO_CONSENT", "reservation", None))
reservation(12, HELIOS, "03-10 15:00", "03-10 16:00", ADA, answers=None)
event(24, QUANTA, "03-06 11:00", "03-06 12:00", BEN, RUN,
      run=answers("Old form", form="old", sample_name="weld A", sample_details="as received"))  # fmt: skip
event(25, HELIOS, "02-20 08:00", "03-01 12:00", ADA, RUN, run=answers("Nine days"))
event(26, QUANTA, "03-10 09:00", "03-10 10:00", ADA, ("READY", "reservation", 13))
reservation(13, QUANTA, "03-10 09:00", "03-10 10:00", BEN, answers=answers("Ben's booking, Ada's run"))
event(27, QUANTA, "03-10 13:00", "03-10 16:00", ADA, ("READY", "reservation", 15))
reservation(14, QUANTA, "03-10 12:00", "03-10 14:00", ADA, answers=answers("One hour"))
reservation(15, QUANTA, "03-10 14:00", "03-10 17:00", ADA, answers=answers("Two hours"))
