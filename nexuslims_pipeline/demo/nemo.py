"""The demo's answers of a NEMO server, in the shapes of NEMO 8's API.

`run_data` and `pre_run_data` of a usage event are text that holds JSON, `question_data` of a reservation is
an object. An answer that was not given has no ``user_input``.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeAlias

Json: TypeAlias = dict[str, Any]

CONSENT = ["Agree", "Disagree"]


class User(NamedTuple):
    """A person with an account."""

    id: int
    username: str
    first_name: str
    last_name: str
    staff: bool = False


class Project(NamedTuple):
    """A project that people book on."""

    id: int
    name: str
    identifier: str
    members: tuple[int, ...]


class Tool(NamedTuple):
    """An instrument."""

    id: int
    name: str
    category: str
    location: str


class Sample(NamedTuple):
    """A row of the sample questions."""

    name: str
    details: str | None = None
    elements: tuple[str, ...] = ()
    is_pid: bool = False


class Answers(NamedTuple):
    """What a user answered to the questions about curation."""

    title: str
    project: str
    purpose: str | None = None
    consent: str = "Agree"
    samples: tuple[Sample, ...] = ()


class Use(NamedTuple):
    """One use of an instrument; `end` is None while it lasts."""

    id: int
    tool: int
    start: datetime
    end: datetime | None
    user: int
    project: int
    operator: int | None = None
    after: Answers | None = None
    before: Answers | None = None


class Booking(NamedTuple):
    """One reservation."""

    id: int
    tool: int
    start: datetime
    end: datetime
    user: int
    project: int
    answers: Answers | None = None
    creator: int | None = None
    cancelled_by: int | None = None


def form(answers: Answers) -> Json:
    """Questions with their answers, as NEMO keeps them."""
    questions: list[Json] = [
        {"type": "textbox", "name": "project_id", "title": "Project ID", "max-width": 400},
        {"type": "textbox", "name": "experiment_title", "title": "Title of experiment", "required": True},
        {"type": "textarea", "name": "experiment_purpose", "title": "Experiment purpose", "rows": 3},
        {
            "type": "radio",
            "name": "data_consent",
            "title": "Agree to data curation?",
            "choices": CONSENT,
            "default_choice": "Agree",
        },
        {
            "type": "group",
            "name": "sample_group",
            "title": "Sample information",
            "max_number": 5,
            "questions": [
                {"type": "textbox", "name": "sample_name", "title": "Sample name / PID", "required": True},
                {
                    "type": "radio",
                    "name": "sample_or_pid",
                    "title": "Sample or PID?",
                    "choices": ["Sample Name", "PID"],
                },
                {"type": "textarea", "name": "sample_details", "title": "Sample details"},
                {"type": "periodic_table", "name": "periodic_table", "title": "Elements"},
            ],
        },
    ]
    given = {
        "project_id": answers.project,
        "experiment_title": answers.title,
        "experiment_purpose": answers.purpose,
        "data_consent": answers.consent,
        "sample_group": {str(place): _sample(sample) for place, sample in enumerate(answers.samples)},
    }
    return {
        question["name"]: question | ({"user_input": given[question["name"]]} if given[question["name"]] else {})
        for question in questions
    }


def _sample(sample: Sample) -> Json:
    row = {
        "sample_name": sample.name,
        "sample_or_pid": "PID" if sample.is_pid else "Sample Name",
        "sample_details": sample.details,
    }
    return row | ({"periodic_table": list(sample.elements)} if sample.elements else {})


def _form_text(answers: Answers | None) -> str:
    return json.dumps(form(answers), indent="\t") if answers else ""


def usage_events(uses: Iterable[Use]) -> list[Json]:
    """Answer of ``usage_events/``, latest first."""
    rows: list[Json] = [
        {
            "id": use.id,
            "start": use.start.isoformat(),
            "end": use.end.isoformat() if use.end else None,
            "has_ended": use.id if use.end else 0,
            "note": None,
            "validated": False,
            "remote_work": False,
            "training": False,
            "pre_run_data": _form_text(use.before),
            "run_data": _form_text(use.after) if use.end else None,
            "waived": False,
            "waived_on": None,
            "user": use.user,
            "operator": use.operator or use.user,
            "project": use.project,
            "tool": use.tool,
            "staff_charge": None,
            "validated_by": None,
            "waived_by": None,
        }
        for use in uses
    ]
    return sorted(rows, key=lambda row: row["start"], reverse=True)


def reservations(bookings: Iterable[Booking]) -> list[Json]:
    """Answer of ``reservations/``, latest first."""
    rows: list[Json] = [
        {
            "id": booking.id,
            "question_data": form(booking.answers) if booking.answers else None,
            "configuration_options": [],
            "creation_time": (booking.start - timedelta(days=3)).isoformat(),
            "start": booking.start.isoformat(),
            "end": booking.end.isoformat(),
            "short_notice": False,
            "cancelled": booking.cancelled_by is not None,
            "cancellation_time": (booking.start - timedelta(days=1)).isoformat() if booking.cancelled_by else None,
            "missed": False,
            "shortened": False,
            "additional_information": None,
            "self_configuration": False,
            "title": "",
            "note": None,
            "validated": False,
            "waived": False,
            "waived_on": None,
            "user": booking.user,
            "creator": booking.creator or booking.user,
            "tool": booking.tool,
            "area": None,
            "project": booking.project,
            "cancelled_by": booking.cancelled_by,
            "descendant": None,
            "validated_by": None,
            "waived_by": None,
        }
        for booking in bookings
    ]
    return sorted(rows, key=lambda row: row["start"], reverse=True)


def users(people: Iterable[User], projects: Sequence[Project], tools: Sequence[Tool], joined: datetime) -> list[Json]:
    """Answer of ``users/``."""
    flags = (
        "is_user_office",
        "is_accounting_officer",
        "is_service_personnel",
        "is_technician",
        "is_superuser",
    )
    return [
        {
            "id": user.id,
            "user_documents": [],
            "username": user.username,
            "first_name": user.first_name,
            "last_name": user.last_name,
            "email": f"{user.username}@lab.example",
            "domain": "",
            "notes": None,
            "badge_number": str(1000 + user.id),
            "access_expiration": None,
            "is_active": True,
            "is_staff": user.staff,
            "is_facility_manager": user.staff,
            **dict.fromkeys(flags, False),
            "training_required": False,
            "date_joined": joined.isoformat(),
            "last_login": None,
            "type": None,
            "onboarding_phases": [],
            "safety_trainings": [],
            "physical_access_levels": [],
            "groups": [],
            "user_permissions": [],
            "qualifications": [tool.id for tool in tools],
            "projects": [project.id for project in projects if user.id in project.members],
            "managed_projects": [],
            "managed_accounts": [],
            "managed_users": [],
        }
        for user in people
    ]


def projects(booked: Iterable[Project]) -> list[Json]:
    """Answer of ``projects/``, by name."""
    return [
        {
            "id": project.id,
            "principal_investigators": [],
            "users": list(project.members),
            "name": project.name,
            "application_identifier": project.identifier,
            "start_date": None,
            "project_calendar_color": "#88b7cd",
            "active": True,
            "allow_consumable_withdrawals": True,
            "allow_staff_charges": True,
            "account": 1,
            "discipline": None,
            "project_types": [],
            "only_allow_tools": [],
        }
        for project in sorted(booked, key=lambda project: project.name)
    ]


def tools(instruments: Iterable[Tool], owner: User) -> list[Json]:
    """Answer of ``tools/``, by name."""
    return [
        {
            "id": tool.id,
            "name": tool.name,
            "visible": True,
            "_tool_calendar_color": "#33ad33",
            "_tool_reservation_calendar_color": "#88b7cd",
            "_category": tool.category,
            "_operational": True,
            "_problem_shutdown_enabled": True,
            "_location": tool.location,
            "_qualification_notification_email": "",
            "_reservation_horizon": 14,
            "_missed_reservation_threshold": 30,
            "_operation_mode": 0,
            "_abuse_weight": 1,
            "_primary_owner": owner.id,
            **{name: [] for name in TOOL_LISTS},
            **dict.fromkeys(TOOL_SWITCHES, False),
            **dict.fromkeys(TOOL_UNSET),
        }
        for tool in sorted(instruments, key=lambda tool: tool.name)
    ]


TOOL_LISTS = ("_backup_owners", "_superusers", "_staff", "_adjustment_request_reviewers")
TOOL_SWITCHES = ("_ask_to_leave_area_when_done_using", "_policy_off_between_times", "_policy_off_weekend")
TOOL_UNSET = (
    "parent_tool",
    "_description",
    "_serial",
    "_image",
    "_properties",
    "_phone_number",
    "_notification_email_address",
    "_core_facility",
    "_interlock",
    "_requires_area_access",
    "_requires_area_occupancy_minimum",
    "_qualification_reminder_days",
    "_qualification_expiration_days",
    "_qualification_expiration_never_used_days",
    "_grant_physical_access_level_upon_qualification",
    "_grant_badge_reader_access_upon_qualification",
    "_minimum_usage_block_time",
    "_maximum_usage_block_time",
    "_maximum_reservations_per_day",
    "_maximum_future_reservations",
    "_minimum_time_between_reservations",
    "_maximum_future_reservation_time",
    "_late_cancellation_reservation_threshold",
    "_max_delayed_logoff",
    "_policy_off_start_time",
    "_policy_off_end_time",
)
