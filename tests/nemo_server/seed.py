"""Fill an empty NEMO database with the week, by NEMO's own code. Run by NEMO's own interpreter."""

import json
from datetime import datetime, timedelta
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import django

django.setup()

import week  # noqa: E402
from django.contrib.auth.models import Permission  # noqa: E402
from django.db import transaction  # noqa: E402
from django.http import QueryDict  # noqa: E402
from NEMO import models  # noqa: E402
from NEMO.widgets.dynamic_form import DynamicForm  # noqa: E402
from rest_framework.authtoken.models import Token  # noqa: E402

READABLE = ("usageevent", "reservation", "user", "project", "tool")


def moment(text):
    """Time of the week, on the server's clock."""
    if text is None:
        return None
    return datetime.strptime(f"2026-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=ZoneInfo(week.TIME_ZONE))


def stored(answers):
    """JSON text that NEMO stores when a browser posts these answers."""
    if answers is None:
        return None
    post = QueryDict(mutable=True)
    for name, value in answers["fields"].items():
        post.setlist(f"df_{name}", value if isinstance(value, list) else [value])
    return DynamicForm(json.dumps(week.FORMS[answers["form"]])).extract(SimpleNamespace(POST=post))


@transaction.atomic
def fill():
    """Write everything."""
    account = models.Account.objects.create(name="Materials")
    for number, (name, identifier) in week.PROJECTS.items():
        models.Project.objects.create(id=number, name=name, application_identifier=identifier, account=account)
    for number, (username, first, last) in week.USERS.items():
        admin = number == week.STAFF
        models.User.objects.create(
            id=number, username=username, first_name=first, last_name=last, email=f"{username}@lab.example",
            badge_number=number, training_required=False, is_staff=admin, is_superuser=admin,
        )  # fmt: skip
    for number, name in week.TOOLS.items():
        models.Tool.objects.create(
            id=number, name=name, visible=True, _category="EM", _location="B 1", _operational=True,
            _primary_owner_id=week.STAFF, _reservation_horizon=14, _missed_reservation_threshold=30,
        )  # fmt: skip
    for row in week.EVENTS:
        event = models.UsageEvent(
            id=row["id"], tool_id=row["tool"], user_id=row["user"],
            operator_id=row.get("operator", row["user"]), project_id=row["project"],
            start=moment(row["start"]), end=moment(row["end"]),
            pre_run_data=stored(row.get("pre")) or "",
            run_data=stored(row.get("run")) or (None if row["end"] is None else ""),
        )  # fmt: skip
        event.clean()
        event.save()
    for row in week.RESERVATIONS:
        models.Reservation.objects.create(
            id=row["id"], tool_id=row["tool"], user_id=row["user"], creator_id=row["user"],
            project_id=row["project"], start=moment(row["start"]), end=moment(row["end"]),
            creation_time=moment(row["start"]) - timedelta(days=2), short_notice=False,
            question_data=stored(row["answers"]), missed=row.get("missed", False),
            shortened=row.get("shortened", False), cancelled=row.get("cancelled", False),
        )  # fmt: skip
    for row in week.RESERVATIONS:
        models.Reservation.objects.filter(id=row["id"]).update(descendant_id=row.get("descendant"))
    reader = models.User.objects.get(id=week.SERVICE)
    reader.user_permissions.set(
        Permission.objects.filter(content_type__app_label="NEMO", codename__in=[f"view_{name}" for name in READABLE])
    )
    Token.objects.create(user=reader, key=week.READER_TOKEN)
    Token.objects.create(user_id=week.BEN, key=week.POWERLESS_TOKEN)
    Token.objects.create(user_id=week.STAFF, key=week.ADMIN_TOKEN)


fill()
