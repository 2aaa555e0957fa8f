"""The connection after a stream: keep-alive, pipelines, HTTP/1.0, clients that half-close."""

from __future__ import annotations

from tests.sockets.live_server import LiveServer, new_key


def lines(key: str) -> bytes:
    return f"{key} 0\n{key} 1\n{key} 2\n".encode()


def test_a_connection_is_used_again_after_a_stream(live: LiveServer, style: str) -> None:
    with live.connect() as connection:
        for _ in range(3):
            key = new_key()
            connection.send(f"/{style}/lines?key={key}")
            reply = connection.read_reply()
            assert (reply.body, reply.complete) == (lines(key), True)
        assert connection.ended is None


def test_pipelined_requests_are_answered_in_order(live: LiveServer, style: str) -> None:
    keys = [new_key() for _ in range(4)]
    with live.connect() as connection:
        for key in keys:
            connection.send(f"/{style}/lines?key={key}")
        for key in keys:
            reply = connection.read_reply()
            assert (reply.body, reply.complete) == (lines(key), True)


def test_a_request_that_arrives_during_a_stream_is_answered_after_it(
    live: LiveServer, style: str
) -> None:
    first, second = new_key(), new_key()
    with live.connect(f"/{style}/waits?key={first}") as connection:
        connection.read_head()
        assert connection.read_chunk() == b"first"
        connection.send(f"/{style}/lines?key={second}")
        live.release(first)
        assert connection.read_chunk() == b"second"
        assert connection.read_chunk() == b""
        connection.read_head()
        body = b""
        while chunk := connection.read_chunk():
            body += chunk
        assert (body, chunk) == (lines(second), b"")
    expected = ["started", "released", "finished", "closed", "returned"]
    assert live.wait_for(first, "returned") == expected


def test_an_http_1_0_client_gets_the_whole_body_and_the_end(live: LiveServer, style: str) -> None:
    key = new_key()
    with live.connect(f"/{style}/lines?key={key}", version="1.0") as connection:
        if live.name == "hypercorn-trio":
            # hypercorn on trio leaves the connection open after the body, with any response class.
            head = connection.read_head()
            body = b""
            while len(body) < len(lines(key)):
                body += connection.read_some()
            assert (head.status, body) == (200, lines(key))
        else:
            reply = connection.read_reply()
            assert (reply.body, reply.complete) == (lines(key), True)
    expected = ["started", "closed", "close called", "returned"]
    assert live.wait_for(key, "returned") == expected


def test_an_async_client_that_half_closes_is_gone_as_every_server_says(live: LiveServer) -> None:
    key = new_key()
    with live.connect(f"/async/waits?key={key}") as connection:
        connection.read_head()
        assert connection.read_chunk() == b"first"
        connection.half_close()
        assert live.wait_for(key, "returned") == ["started", "closed", "returned"]
        assert connection.read_chunk() is None


def test_a_half_close_ends_a_sync_source_when_it_returns(live: LiveServer) -> None:
    key = new_key()
    with live.connect(f"/sync/waits?key={key}&watch=1") as connection:
        connection.read_head()
        assert connection.read_chunk() == b"first"
        connection.half_close()
        live.wait_for(key, "client gone")
        live.release(key)
        expected = ["started", "client gone", "released", "closed", "returned"]
        assert live.wait_for(key, "returned") == expected
        assert connection.read_chunk() is None


def test_a_response_that_is_returned_twice_says_what_is_wrong(uvicorn: LiveServer) -> None:
    assert uvicorn.request("/same-object").body == b"once"
    assert uvicorn.request("/same-object").status == 500
    uvicorn.request("/quick")
    assert "SourceSpent: this response was sent before, and its source, generator" in (
        uvicorn.server.log
    )
