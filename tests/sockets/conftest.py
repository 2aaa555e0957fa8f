"""Fixtures of the tests over real sockets."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.servers import RunningServer, ServerName
from tests.sockets.live_server import LiveServer


@pytest.fixture
def live(shared_server: Callable[..., RunningServer], server_name: ServerName) -> LiveServer:
    """Each server in turn with the application of these tests."""
    return LiveServer(server_name, shared_server("tests.apps.live:app", server_name))


@pytest.fixture
def uvicorn(shared_server: Callable[..., RunningServer]) -> LiveServer:
    """uvicorn alone, for what does not depend on the server."""
    return LiveServer("uvicorn", shared_server("tests.apps.live:app", "uvicorn"))


@pytest.fixture(params=["sync", "async"])
def style(request: pytest.FixtureRequest) -> str:
    """Sources that are generators and sources that are async generators."""
    kind: str = request.param
    return kind
