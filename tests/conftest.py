"""Fixtures that several tests share."""

import os
from collections.abc import Iterator

import pytest
from nemo_server import NemoNotInstalledError, NemoProcess


@pytest.fixture(scope="session")
def nemo() -> Iterator[NemoProcess]:
    """A real NEMO with the seeded week, for tests that change nothing in it."""
    with _started(NemoProcess) as server:
        yield server


@pytest.fixture
def own_nemo() -> Iterator[NemoProcess]:
    """A real NEMO with the seeded week that the test may change, stop and start."""
    with _started(NemoProcess) as server:
        yield server


def _started(make: type[NemoProcess]) -> NemoProcess:
    try:
        return make()
    except NemoNotInstalledError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"NEMO cannot be installed here: {error}")
