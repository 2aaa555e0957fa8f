"""A client that leaves: its source is closed, in its own task and context, before the call returns.

It is so under every server, because each tells the application when a client is gone.
"""

from __future__ import annotations

from typing import Literal

import pytest

from tests.rawhttp import Connection
from tests.sockets.live_server import LiveServer, new_key

How = Literal["reset", "close"]

CLOSED_WHEN_IT_RETURNS = ["started", "client gone", "released", "closed", "returned"]
"""The notes of a sync source that blocked: its item is taken, but it is not asked for another one,
which would note "finished"."""


@pytest.fixture(params=["reset", "close"])
def how(request: pytest.FixtureRequest) -> How:
    """How the client leaves: with an RST, as when a program dies; with a FIN, as a closed page."""
    way: How = request.param
    return way


def leave(connection: Connection, how: How) -> None:
    if how == "reset":
        connection.reset()
    else:
        connection.close()


def test_while_an_async_source_waits(live: LiveServer, how: How) -> None:
    key = new_key()
    with live.connect(f"/async/waits?key={key}") as connection:
        connection.read_head()
        assert connection.read_chunk() == b"first"
        leave(connection, how)
    assert live.wait_for(key, "returned") == ["started", "closed", "returned"]


def test_while_a_sync_source_blocks_it_is_closed_when_that_returns(
    live: LiveServer, how: How
) -> None:
    key = new_key()
    with live.connect(f"/sync/waits?key={key}&watch=1") as connection:
        connection.read_head()
        assert connection.read_chunk() == b"first"
        leave(connection, how)
    live.wait_for(key, "client gone")
    live.release(key)
    assert live.wait_for(key, "returned") == CLOSED_WHEN_IT_RETURNS


def test_while_a_send_is_blocked(live: LiveServer, style: str, how: How) -> None:
    key = new_key()
    with live.connect(f"/{style}/endless?key={key}", receive_buffer=4096) as connection:
        live.wait_until_stalled(key)
        leave(connection, how)
    assert live.wait_for(key, "returned") == ["started", "closed", "returned"]


def test_before_the_first_byte_of_an_async_source(live: LiveServer, how: How) -> None:
    key = new_key()
    with live.connect(f"/async/late?key={key}") as connection:
        live.wait_for(key, "started")
        leave(connection, how)
    assert live.wait_for(key, "returned") == ["started", "closed", "returned"]


def test_before_the_first_byte_of_a_sync_source(live: LiveServer, how: How) -> None:
    key = new_key()
    with live.connect(f"/sync/late?key={key}&watch=1") as connection:
        live.wait_for(key, "started")
        leave(connection, how)
    live.wait_for(key, "client gone")
    live.release(key)
    assert live.wait_for(key, "returned") == CLOSED_WHEN_IT_RETURNS


def test_between_two_chunks(live: LiveServer, style: str, how: How) -> None:
    key = new_key()
    with live.connect(f"/{style}/paced?key={key}") as connection:
        connection.read_head()
        for _ in range(3):
            assert connection.read_chunk()
        leave(connection, how)
    assert live.wait_for(key, "returned") == ["started", "closed", "returned"]


def test_a_client_that_leaves_is_not_an_error_in_the_log(uvicorn: LiveServer, style: str) -> None:
    before = uvicorn.server.log.count("Traceback")
    key = new_key()
    with uvicorn.connect(f"/{style}/paced?key={key}") as connection:
        connection.read_head()
        connection.reset()
    uvicorn.wait_for(key, "returned")
    uvicorn.request("/quick")
    assert uvicorn.server.log.count("Traceback") == before
