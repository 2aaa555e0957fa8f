"""What is about sockets, on real ones: bodies that are too long, stall or end early; the end."""

from __future__ import annotations

import contextlib
import itertools
import json
import select
import signal
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from tailrace import limits
from tests.protocol.served import BODY_TIMEOUT, MOST, SEND_TIMEOUT
from tests.rawhttp import Connection, Reply, request
from tests.servers import RunningServer, ServerName, serve

APP = "tests.protocol.hasty:app"
TEXT = {"content-type": "text/plain"}
CHUNKED = {**TEXT, "transfer-encoding": "chunked"}

_numbers = itertools.count()


@pytest.fixture(params=["uvicorn-tailrace", "uvicorn-h11"])
def server(
    request: pytest.FixtureRequest, shared_server: Callable[..., RunningServer]
) -> RunningServer:
    name: ServerName = request.param
    return shared_server(APP, name)


@pytest.fixture
def stream(server: RunningServer) -> str:
    """The name of a new stream of the server."""
    name = f"s{next(_numbers)}"
    made = request(server.host, server.port, f"/v1/stream/{name}", method="PUT", headers=TEXT)
    assert made.status == 201
    return name


@pytest.fixture
def connection(server: RunningServer) -> Iterator[Connection]:
    with Connection(server.host, server.port) as connection:
        yield connection


def content(server: RunningServer, stream: str) -> bytes:
    return request(server.host, server.port, f"/v1/stream/{stream}").body


def grown(server: RunningServer, stream: str) -> bytes:
    """What is in a stream once there is something in it."""
    deadline = time.monotonic() + 5
    while not (found := content(server, stream)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


def code_of(reply: Reply) -> str:
    assert reply.complete
    code: str = json.loads(reply.body)["code"]
    return code


# Too long ----------------------------------------------------------------------------------------


def test_a_body_may_have_so_many_bytes_and_not_one_more(
    connection: Connection, stream: str
) -> None:
    for size, status in ((MOST, 204), (MOST + 1, 413), (MOST, 204)):
        connection.send(f"/small/{stream}", method="POST", headers=TEXT, body=b"x" * size)
        assert connection.read_reply().status == status


def test_a_body_that_says_it_is_too_long_is_refused_before_it_is_sent(
    connection: Connection, stream: str
) -> None:
    length = {**TEXT, "content-length": str(10 * 1024 * limits.BODY_LINGER_BYTES)}
    connection.send(f"/small/{stream}", method="POST", headers=length)
    refused = connection.read_reply()
    assert (refused.status, code_of(refused)) == (413, "too_large")
    assert refused.headers["connection"] == "close"


def test_a_client_that_sends_first_and_reads_later_still_sees_why(
    connection: Connection, stream: str
) -> None:
    size = limits.BODY_LINGER_BYTES + 1
    headers = {**TEXT, "content-length": str(size)}
    connection.send(f"/small/{stream}", method="POST", headers=headers)
    for _ in range(4):
        connection.sock.sendall(b"x" * (size // 5))
    refused = connection.read_reply()
    assert (refused.status, code_of(refused)) == (413, "too_large")


def test_a_body_in_chunks_is_refused_when_it_is_too_long(
    connection: Connection, server: RunningServer, stream: str
) -> None:
    connection.send(f"/small/{stream}", method="POST", headers=CHUNKED)
    connection.sock.sendall(b"200\r\n" + b"x" * 512 + b"\r\n")
    connection.sock.sendall(b"200\r\n" + b"x" * 512 + b"\r\n")
    refused = connection.read_reply()
    assert (refused.status, code_of(refused)) == (413, "too_large")
    assert content(server, stream) == b""


def test_a_client_that_goes_on_sending_is_cut_off(connection: Connection, stream: str) -> None:
    connection.send(f"/small/{stream}", method="POST", headers=CHUNKED)
    began = time.monotonic()
    with contextlib.suppress(ConnectionError):
        while True:
            connection.sock.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            assert time.monotonic() - began < 10


def test_a_client_that_asks_first_is_told_to_go_on_or_not_to(
    connection: Connection, stream: str
) -> None:
    asking = {**TEXT, "expect": "100-continue"}
    connection.send(f"/small/{stream}", method="POST", headers={**asking, "content-length": "5"})
    assert connection.sock.recv(100).startswith(b"HTTP/1.1 100 ")
    connection.sock.sendall(b"hello")
    assert connection.read_reply().status == 204
    connection.send(
        f"/small/{stream}", method="POST", headers={**asking, "content-length": "99999999"}
    )
    assert connection.sock.recv(12) == b"HTTP/1.1 413"


# Stalls ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [b"", b"half"])
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_body_that_stops_coming_is_given_up(
    connection: Connection, server: RunningServer, stream: str, sent: bytes, method: str
) -> None:
    headers = {**TEXT, "content-length": "100"}
    began = time.monotonic()
    connection.send(f"/small/{stream}", method=method, headers=headers)
    connection.sock.sendall(sent)
    refused = connection.read_reply()
    assert BODY_TIMEOUT - 0.05 <= time.monotonic() - began < BODY_TIMEOUT + 2
    assert (refused.status, code_of(refused)) == (408, "body_stalled")
    assert connection.read_some() == b""
    assert connection.ended == "closed"
    assert content(server, stream) == b""


@pytest.mark.slow
def test_a_slow_body_is_taken_while_it_comes(
    connection: Connection, server: RunningServer, stream: str
) -> None:
    some = b"x" * int(BODY_TIMEOUT * limits.BODY_MIN_RATE)
    headers = {**TEXT, "content-length": str(4 * len(some))}
    connection.send(f"/small/{stream}", method="POST", headers=headers)
    for _ in range(4):
        time.sleep(BODY_TIMEOUT / 2)
        connection.sock.sendall(some)
    assert connection.read_reply().status == 204
    assert content(server, stream) == 4 * some


def test_a_large_answer_is_sent_as_its_client_takes_it(
    connection: Connection, server: RunningServer, stream: str
) -> None:
    whole = bytes(range(256)) * 4096 * 12
    done = request(
        server.host, server.port, f"/v1/stream/{stream}", method="POST", headers=TEXT, body=whole
    )
    assert done.status == 204
    connection.send(f"/small/{stream}")
    reply = connection.read_reply()
    assert reply.complete
    assert reply.headers["content-length"] == str(len(whole))
    assert reply.body == whole


def test_a_client_that_takes_nothing_of_a_large_answer_is_cut_off(
    server: RunningServer, stream: str
) -> None:
    request(
        server.host,
        server.port,
        f"/v1/stream/{stream}",
        method="POST",
        headers=TEXT,
        body=bytes(12 * 1024 * 1024),
    )
    with Connection(server.host, server.port, receive_buffer=4096) as connection:
        connection.send(f"/small/{stream}")
        connection.read_head()
        waiting = select.poll()
        waiting.register(connection.sock, 0)  # that the connection is over is always told
        assert waiting.poll(1000 * (SEND_TIMEOUT + 5))
        while connection.read_some():
            pass
        assert connection.ended == "reset"


# Leaving -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["close", "reset"])
def test_a_client_that_leaves_in_mid_body_appends_nothing(
    server: RunningServer, stream: str, way: str
) -> None:
    connection = Connection(server.host, server.port)
    connection.send(f"/v1/stream/{stream}", method="POST", headers=CHUNKED)
    connection.sock.sendall(b"4\r\nhalf\r\n")
    getattr(connection, way)()
    done = request(
        server.host, server.port, f"/v1/stream/{stream}", method="POST", headers=TEXT, body=b"whole"
    )
    assert done.status == 204
    assert content(server, stream) == b"whole"


def test_what_has_arrived_is_appended_though_nobody_waits_for_the_answer(
    server: RunningServer, stream: str
) -> None:
    connection = Connection(server.host, server.port)
    connection.send(f"/v1/stream/{stream}", method="POST", headers=TEXT, body=b"last words")
    connection.half_close()
    assert grown(server, stream) == b"last words"
    connection.close()


# Connections -------------------------------------------------------------------------------------


def test_appends_in_a_pipeline_are_done_in_order(
    connection: Connection, server: RunningServer, stream: str
) -> None:
    for number in range(20):
        connection.send(f"/v1/stream/{stream}", method="POST", headers=TEXT, body=b"%d," % number)
    assert [connection.read_reply().status for _ in range(20)] == [204] * 20
    assert content(server, stream) == b"".join(b"%d," % number for number in range(20))


def test_a_connection_goes_on_after_any_answer(connection: Connection, stream: str) -> None:
    for method, query, status in (
        ("HEAD", "", 200),
        ("GET", "?offset=x", 400),
        ("GET", "?offset=now&live=long-poll", 204),
        ("PATCH", "", 405),
        ("OPTIONS", "", 204),
        ("POST", "", 400),
        ("DELETE", "", 204),
        ("HEAD", "", 404),
        ("GET", "", 404),
    ):
        connection.send(f"/small/{stream}{query}", method=method)
        assert connection.read_reply().status == status


@pytest.mark.slow
@pytest.mark.parametrize("name", ["uvicorn", "uvloop-tailrace", "granian", "hypercorn-trio"])
def test_streams_are_the_same_under_every_server(
    name: ServerName, shared_server: Callable[..., RunningServer]
) -> None:
    server = shared_server(APP, name)
    path = f"/small/s{next(_numbers)}"
    with Connection(server.host, server.port) as connection:
        connection.send(path, method="PUT", headers=TEXT, body=b"one")
        made = connection.read_reply()
        assert made.status == 201
        assert made.headers["location"] == f"{server.url}{path}"
        connection.send(path, method="POST", headers=TEXT, body=b"two")
        tail = connection.read_reply().headers["stream-next-offset"]
        connection.send(path)
        assert connection.read_reply().body == b"onetwo"
        connection.send(f"{path}?offset={tail}&live=long-poll")
        assert connection.read_reply().status == 204
        connection.send(path, method="POST", headers=TEXT, body=b"x" * (MOST + 1))
        assert connection.read_reply().status == 413
    with Connection(server.host, server.port) as reader:
        reader.send(f"{path}?offset={tail}&live=sse")
        assert reader.read_head().status == 200
        assert b"upToDate" in (reader.read_chunk() or b"")
        end = {**TEXT, "stream-closed": "true"}
        request(server.host, server.port, path, method="POST", headers=end, body=b"end")
        rest = b""
        while chunk := reader.read_chunk():
            rest += chunk
        assert chunk == b"", "the answer was cut"
        assert b"event: data\ndata:end\n" in rest
        assert b"streamClosed" in rest


# The end -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_server_that_stops_answers_polls_and_readers_first() -> None:
    with serve(APP, "uvicorn-tailrace") as server:
        request(server.host, server.port, "/v1/stream/s", method="PUT", headers=TEXT)
        with (
            Connection(server.host, server.port) as poll,
            Connection(server.host, server.port) as reader,
        ):
            poll.send("/v1/stream/s?offset=now&live=long-poll")
            reader.send("/v1/stream/s?offset=now&live=sse")
            reader.read_head()
            assert b"upToDate" in (reader.read_chunk() or b"")
            began = time.monotonic()
            psutil.Process(server.pid).send_signal(signal.SIGTERM)
            assert poll.read_reply().status == 204
            rest = b""
            while chunk := reader.read_chunk():
                rest += chunk
            assert chunk == b"", "the answer was cut"
            assert rest.startswith(b"retry:")
            assert time.monotonic() - began < 2
