"""A server for the clients: `tailrace serve`, or the one whose URL is TAILRACE_CONFORMANCE_URL."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator

import pytest

from tests.conformance.serving import stream_server

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def streams_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL below which the server has its streams."""
    named = os.environ.get("TAILRACE_CONFORMANCE_URL")
    if named is not None:
        yield f"{named}/v1/stream"
        return
    path = tmp_path_factory.mktemp("streams") / "streams.db"
    with stream_server(f"sqlite:///{path}") as server:
        yield f"{server.url}/v1/stream"


@pytest.fixture
def new_url(streams_url: str) -> Callable[[], str]:
    """A function that returns the URL of a stream that does not exist yet."""
    return lambda: f"{streams_url}/clients/{os.getpid()}-{next(_NUMBERS)}"
