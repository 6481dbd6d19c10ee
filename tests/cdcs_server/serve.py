"""Serve CDCS on a port of loopback: ``serve.py PORT PROCESSES``. Run by its own interpreter."""

import ctypes
import os
import signal
import sys

import django
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler, get_internal_wsgi_application
from django.db import connections

PR_SET_PDEATHSIG = 1

# Django writes head and body apart; on a kept connection the second then waits for a delayed acknowledgement.
WSGIRequestHandler.disable_nagle_algorithm = True

port, processes = map(int, sys.argv[1:])
django.setup()
server = ThreadedWSGIServer(("127.0.0.1", port), WSGIRequestHandler)
server.set_app(StaticFilesHandler(get_internal_wsgi_application()))
connections.close_all()
for _ in range(processes - 1):  # all take connections from the one socket
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        break
server.serve_forever()
