"""Serve CDCS on a port of loopback. Run by its own interpreter."""

import sys

import django
from django.core.management import call_command
from django.core.servers.basehttp import WSGIRequestHandler

# Django writes head and body apart; on a kept connection the second then waits for a delayed acknowledgement.
WSGIRequestHandler.disable_nagle_algorithm = True

django.setup()
call_command("runserver", f"127.0.0.1:{sys.argv[1]}", use_reloader=False, skip_checks=True, insecure_serving=True)
