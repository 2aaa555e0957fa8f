"""Fixtures with running servers; the conftest at the root loads them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.servers import SERVERS, RunningServer, ServerName, serve

__all__ = ["server_name", "shared_server"]


@pytest.fixture(params=SERVERS)
def server_name(request: pytest.FixtureRequest) -> ServerName:
    """Each server in turn, for a test that must pass under all of them."""
    name: ServerName = request.param
    return name


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Callable[..., RunningServer]]:
    """`serve` as a function, for tests that do not change the server's state.

    A start takes a second, so all tests that ask for the same application, server and options share
    one server. All servers end with the session.
    """
    with contextlib.ExitStack() as stack:
        running: dict[tuple[object, ...], RunningServer] = {}

        def start(
            app: str, server: ServerName = "uvicorn", **options: str | float | bool
        ) -> RunningServer:
            key = (app, server, *sorted(options.items()))
            if key not in running:
                running[key] = stack.enter_context(serve(app, server, env=None, **options))
            return running[key]

        yield start
