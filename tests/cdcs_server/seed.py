"""Make the tables, a superuser and somebody without rights, each with a token. Run by CDCS's own interpreter."""

import os

import django
from django.core.management import call_command

django.setup()
call_command("migrate", verbosity=0)

from django.contrib.auth.models import User  # noqa: E402 - only after the set-up
from rest_framework.authtoken.models import Token  # noqa: E402

for name, staff, token in (
    ("curator", True, os.environ["NX_TEST_CDCS_TOKEN"]),
    ("visitor", False, os.environ["NX_TEST_CDCS_POWERLESS_TOKEN"]),
):
    user = User.objects.create(
        username=name, email=f"{name}@lab.example", is_staff=staff, is_superuser=staff, is_active=True
    )
    Token.objects.create(user=user, key=token)
