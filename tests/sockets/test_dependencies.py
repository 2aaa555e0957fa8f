"""Streams that give their database session back to the pool, and streams that keep it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apps.database import FILE_VARIABLE, POOL_SIZE
from tests.rawhttp import Connection
from tests.servers import serve
from tests.sockets.live_server import LiveServer, new_key, wait_until

STREAMS = 20


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    path: Path = tmp_path_factory.mktemp("database") / "pool.db"
    with serve("tests.apps.database:app", env={FILE_VARIABLE: str(path)}) as server:
        yield LiveServer("uvicorn", server)


@contextlib.contextmanager
def streams(database: LiveServer, path: str) -> Iterator[list[Connection]]:
    """Streams that are open while the block runs, and have ended after it."""
    key = new_key()
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(database.connect(f"{path}key={key}")) for _ in range(STREAMS)]
        database.release(key)
    wait_until(lambda: database.ask("/checked-out") == 0, lambda: "a session was never given back")


def test_streams_that_let_go_of_their_session_leave_the_pool_to_others(
    database: LiveServer,
) -> None:
    with streams(database, "/stream?release=1&") as connections:
        for connection in connections:
            assert connection.read_head().status == 200
            assert connection.read_chunk() == b"42"
        assert database.ask("/checked-out") == 0
        assert database.ask("/row") == 42


def test_yield_endpoints_let_go_of_it_by_the_options_of_the_application(
    database: LiveServer,
) -> None:
    with streams(database, "/yielding?") as connections:
        for connection in connections:
            assert connection.read_head().status == 200
            assert connection.read_chunk() == b"data: event\n\n"
        assert database.ask("/checked-out") == 0
        assert database.ask("/row") == 42


@pytest.mark.slow
def test_streams_that_hold_their_session_exhaust_the_pool(database: LiveServer) -> None:
    with streams(database, "/stream?release=0&") as connections:
        statuses = sorted(connection.read_head().status for connection in connections)
        assert statuses == [200] * POOL_SIZE + [500] * (STREAMS - POOL_SIZE)
        assert database.ask("/checked-out") == POOL_SIZE
        assert database.request("/row").status == 500
