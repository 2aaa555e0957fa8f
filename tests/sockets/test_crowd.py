"""Clients that stop reading: each costs little memory, none holds a thread, and all are cut off."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tailrace import limits
from tests.rawhttp import Connection
from tests.servers import serve
from tests.sockets.live_server import LiveServer, new_key, wait_until

MEGABYTES = 10
STALLED = 500
CUT_OFF = 200

SERVER_BUFFER_BYTES = 128 * 1024
"""uvicorn accepts writes until its buffer has 64 KiB; the last of them may be a whole batch."""

BOOKKEEPING_BYTES = 40 * 1024
"""The Python objects of one connection: the request, three tasks and the source."""

STALLED_CLIENT_BYTES = 2 * limits.MAX_BATCH_BYTES + SERVER_BUFFER_BYTES + BOOKKEEPING_BYTES
"""Memory that a client that reads nothing may cost the server, without the kernel's buffers."""


@pytest.fixture(scope="module")
def fresh() -> Iterator[LiveServer]:
    """A new server, whose memory no other test has increased."""
    with serve("tests.apps.live:app", "uvicorn") as server:
        yield LiveServer("uvicorn", server)


@contextlib.contextmanager
def crowd(live: LiveServer, path: str, count: int) -> Iterator[list[Connection]]:
    """`count` clients that send a request and read nothing."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(live.connect(path, receive_buffer=4096)) for _ in range(count)]


def wait_until_all_stalled(live: LiveServer, count: int) -> dict[str, Any]:
    """Wait until `count` streams are open and none of them sends. Returns the server's state."""
    states: list[dict[str, Any]] = [{}, {}]

    def holds() -> bool:
        states.append(live.ask("/state"))
        return states[-1] == states[-2] == states[-3] and states[-1]["open"] == count

    wait_until(holds, lambda: states[-1])
    return states[-1]


def open_connections(live: LiveServer) -> int:
    """The number of connections that the server has. One of them may be that of `/state`."""
    connections = live.server.worker.net_connections("tcp")
    return sum(connection.status == psutil.CONN_ESTABLISHED for connection in connections)


@pytest.mark.slow
def test_clients_that_stop_reading_hold_no_thread_and_little_memory(fresh: LiveServer) -> None:
    fresh.request(f"/sync/megabytes?key={new_key()}&count={MEGABYTES}")
    before = fresh.server.worker.memory_info().rss
    key = new_key()
    with crowd(fresh, f"/sync/megabytes?key={key}&count={MEGABYTES}", STALLED):
        state = wait_until_all_stalled(fresh, STALLED)
        assert state["busy_threads"] == 0
        each = (fresh.server.worker.memory_info().rss - before) / STALLED
        print(f"each stalled client: {each / 1024:.0f} KiB")  # noqa: T201 - shown by pytest -s
        assert each < STALLED_CLIENT_BYTES

        reply = fresh.request(f"/sync/megabytes?key={new_key()}&count={MEGABYTES}")
        assert (len(reply.body), reply.complete) == (MEGABYTES * 2**20, True)
        assert "returned" not in fresh.entries(key)
    wait_until(lambda: fresh.entries(key).count("returned") == STALLED, lambda: fresh.ask("/state"))
    assert fresh.entries(key).count("closed") == STALLED


@pytest.mark.slow
def test_clients_that_stop_reading_are_cut_off(fresh: LiveServer, style: str) -> None:
    key = new_key()
    before = fresh.ask("/state")["stalled"]
    path = f"/{style}/megabytes?key={key}&count={MEGABYTES}&send_timeout=1"
    with crowd(fresh, path, CUT_OFF) as connections:
        wait_until(
            lambda: fresh.entries(key).count("returned") == CUT_OFF, lambda: fresh.ask("/state")
        )
        assert fresh.entries(key).count("closed") == CUT_OFF
        assert fresh.ask("/state")["stalled"] - before == CUT_OFF
        wait_until(lambda: open_connections(fresh) <= 1, lambda: open_connections(fresh))
        for connection in connections[::10]:
            # The bytes in the kernel's buffers may still come. Then the body ends early.
            reply = connection.read_reply()
            assert len(reply.body) < MEGABYTES * 2**20
            assert not reply.complete
            assert connection.ended is not None


def test_a_client_that_stops_reading_is_cut_off_under_each_server(
    live: LiveServer, style: str
) -> None:
    key = new_key()
    path = f"/{style}/endless?key={key}&send_timeout=0.2"
    with live.connect(path, receive_buffer=4096) as connection:
        live.wait_for(key, "closed")
        if live.name == "hypercorn-trio":
            # It shields its write from cancellation, so its task stays until the client leaves.
            connection.reset()
            live.wait_for(key, "returned")
            return
        assert live.wait_for(key, "returned") == ["started", "closed", "returned"]
        reply = connection.read_reply()
        assert not reply.complete
        assert connection.ended is not None


def test_a_client_that_reads_slowly_but_reads_is_not_cut_off(
    uvicorn: LiveServer, style: str
) -> None:
    key = new_key()
    path = f"/{style}/megabytes?key={key}&count=6&send_timeout=5"
    with uvicorn.connect(path, receive_buffer=4096) as connection:
        uvicorn.wait_until_stalled(key)
        reply = connection.read_reply()
        assert (len(reply.body), reply.complete) == (6 * 2**20, True)
