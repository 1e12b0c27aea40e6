"""Command lines and what they need: one server, runs without training, images."""

import pytest
from commands import Server
from networks import run2d, run3d  # noqa: F401


@pytest.fixture(scope="session")
def command(tmp_path_factory):
    """``command(binary, *arguments)`` and ``command.start``, the slow real thing."""
    server = Server(tmp_path_factory.mktemp("cache"))
    yield server
    server.close()
