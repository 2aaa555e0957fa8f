"""A server for the clients: `tailrace serve`, or the one that TAILRACE_CONFORMANCE_URL names."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator

import pytest

from tests.conformance.serving import stream_server

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def streams_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where its streams are."""
    named = os.environ.get("TAILRACE_CONFORMANCE_URL")
    if named is not None:
        yield f"{named}/v1/stream"
        return
    path = tmp_path_factory.mktemp("streams") / "streams.db"
    with stream_server(f"sqlite:///{path}") as server:
        yield f"{server.url}/v1/stream"


@pytest.fixture
def new_url(streams_url: str) -> Callable[[], str]:
    """Gives the URL of a stream that does not exist yet."""
    return lambda: f"{streams_url}/clients/{os.getpid()}-{next(_NUMBERS)}"
