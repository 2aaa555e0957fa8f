"""Fixtures for the tests over real sockets."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.servers import RunningServer, ServerName
from tests.sockets.live_server import LiveServer


@pytest.fixture
def live(shared_server: Callable[..., RunningServer], server_name: ServerName) -> LiveServer:
    """Each server in turn, with the application `tests.apps.live`."""
    return LiveServer(server_name, shared_server("tests.apps.live:app", server_name))


@pytest.fixture
def uvicorn(shared_server: Callable[..., RunningServer]) -> LiveServer:
    """Only uvicorn, for tests that do not depend on the server."""
    return LiveServer("uvicorn", shared_server("tests.apps.live:app", "uvicorn"))


@pytest.fixture(params=["sync", "async"])
def style(request: pytest.FixtureRequest) -> str:
    """The kind of source: a generator, then an async generator."""
    kind: str = request.param
    return kind
