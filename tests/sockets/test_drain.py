"""`drain()` while clients are connected: they get a farewell, or can tell that the body was cut."""

from __future__ import annotations

import contextlib
import json

from tailrace import limits
from tailrace.testing import EventParser
from tests.sockets.live_server import LiveServer, new_key, wait_until

CLIENTS = 50


def test_each_event_client_gets_a_farewell_and_a_clean_end(live: LiveServer) -> None:
    key = new_key()
    with contextlib.ExitStack() as stack:
        connections = [
            stack.enter_context(live.connect(f"/async/events?key={key}")) for _ in range(CLIENTS)
        ]
        for connection in connections:
            connection.read_head()
            assert connection.read_chunk() == b"data: first\n\n"

        assert live.ask("/drain?timeout=10", method="POST") == {"ended": CLIENTS, "cut": 0}

        assert live.entries(key).count("closed") == CLIENTS
        retries = []
        for connection in connections:
            body = b""
            while chunk := connection.read_chunk():
                body += chunk
            assert chunk == b"", "a client that was told must see a clean end"
            (farewell,) = EventParser().feed(body)
            assert farewell.event == "farewell"
            assert json.loads(farewell.data)["error"]["code"] == "shutting_down"
            assert farewell.retry is not None
            retries.append(farewell.retry)
    shortest, longest = limits.FAREWELL_RETRY
    assert all(shortest * 1000 <= retry <= longest * 1000 for retry in retries)
    assert len(set(retries)) > CLIENTS / 2, "all of them would come back at once"
    wait_until(lambda: live.entries(key).count("returned") == CLIENTS, lambda: live.entries(key))


def test_a_sync_source_that_blocks_gets_its_farewell_when_it_returns(
    live: LiveServer,
) -> None:
    key = new_key()
    with live.connect(f"/sync/events?key={key}") as connection, live.connect() as other:
        connection.read_head()
        assert connection.read_chunk() == b"data: first\n\n"
        other.send(f"/drain?timeout=10&note={key}-drain", method="POST")
        live.wait_for(f"{key}-drain", "draining")
        live.release(key)
        assert json.loads(other.read_reply().body) == {"ended": 1, "cut": 0}
        body = b""
        while chunk := connection.read_chunk():
            body += chunk
        assert chunk == b""
        assert EventParser().feed(body)[-1].event == "farewell"
    assert live.wait_for(key, "returned") == ["started", "released", "closed", "returned"]


def test_a_raw_stream_that_does_not_end_is_cut_visibly(live: LiveServer, style: str) -> None:
    key = new_key()
    with live.connect(f"/{style}/paced?key={key}") as connection:
        connection.read_head()
        assert connection.read_chunk()
        assert live.ask("/drain?timeout=0.1", method="POST") == {"ended": 0, "cut": 1}
        while chunk := connection.read_chunk():
            pass
        assert chunk is None
    assert live.wait_for(key, "returned") == ["started", "closed", "returned"]


def test_a_raw_stream_whose_client_reads_nothing_is_cut_too(
    uvicorn: LiveServer, style: str
) -> None:
    key = new_key()
    with uvicorn.connect(f"/{style}/endless?key={key}", receive_buffer=4096) as connection:
        uvicorn.wait_until_stalled(key)
        assert uvicorn.ask("/drain?timeout=0.1", method="POST") == {"ended": 0, "cut": 1}
        assert not connection.read_reply().complete
    assert uvicorn.wait_for(key, "returned") == ["started", "closed", "returned"]


def test_streams_that_begin_after_it_are_as_before(uvicorn: LiveServer, style: str) -> None:
    uvicorn.ask("/drain?timeout=1", method="POST")
    key = new_key()
    reply = uvicorn.request(f"/{style}/lines?key={key}&count=1")
    assert (reply.body, reply.complete) == (f"{key} 0\n".encode(), True)
