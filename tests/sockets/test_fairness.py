"""Sources that never wait, and sync sources that block, do not stop other requests."""

from __future__ import annotations

import contextlib

import pytest

from tests.sockets.live_server import LiveServer, new_key, wait_until

BLOCKED = 300


@pytest.mark.parametrize("kind", ["small", "endless", "empty"])
def test_the_worker_answers_while_an_endless_source_runs_and_after_its_client_left(
    live: LiveServer, style: str, kind: str
) -> None:
    key = new_key()
    with live.connect(f"/{style}/{kind}?key={key}") as connection:
        assert connection.read_head().status == 200
        assert live.request("/quick").body == b'"quick"'
        connection.reset()
    assert live.request("/quick").body == b'"quick"'
    assert live.wait_for(key, "returned") == ["started", "closed", "returned"]


@pytest.mark.slow
def test_sync_sources_that_block_hold_up_no_endpoint(uvicorn: LiveServer) -> None:
    key = new_key()
    with contextlib.ExitStack() as stack:
        connections = [
            stack.enter_context(uvicorn.connect(f"/sync/waits?key={key}")) for _ in range(BLOCKED)
        ]
        for connection in connections:
            connection.read_head()
            assert connection.read_chunk() == b"first"
        assert uvicorn.ask("/state")["busy_threads"] == BLOCKED

        assert uvicorn.request("/quick").body == b'"quick"'
        assert "released" not in uvicorn.entries(key)

        uvicorn.release(key)
        for connection in connections:
            assert connection.read_chunk() == b"second"
            assert connection.read_chunk() == b""
    wait_until(
        lambda: uvicorn.entries(key).count("returned") == BLOCKED, lambda: uvicorn.entries(key)
    )
    assert uvicorn.entries(key).count("closed") == BLOCKED
