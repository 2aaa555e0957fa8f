"""The head of a request has an end, in bytes and in time; so has what else is no body."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import psutil
import pytest
from websockets.sync.client import connect

from tailrace import limits
from tests.rawhttp import Connection
from tests.server.conftest import OURS
from tests.servers import RunningServer, serve

HEAD_TIMEOUT = 0.6
"""Seconds, as tests/server/heads.py sets them for the servers' processes. It is not imported here:
it would set them for this one too."""

START = b"GET / HTTP/1.1\r\nhost: a\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
FIELD = b"x: " + b"y" * 995 + b"\r\n"


@pytest.fixture(scope="module", params=OURS)
def server(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    with serve("tests.server.heads:app", request.param) as server:
        yield server


@pytest.fixture
def connection(server: RunningServer) -> Iterator[Connection]:
    with Connection(server.host, server.port) as connection:
        yield connection


def fields_of(size: int) -> bytes:
    """Header fields that make a head of so many bytes."""
    left = size - len(START) - 2
    return FIELD * (left // 1000 - 1) + b"x: " + b"y" * (1000 + left % 1000 - 5) + b"\r\n"


def pieces(data: bytes) -> Iterator[bytes]:
    for at in range(0, len(data), 10_000):
        yield data[at : at + 10_000]


def is_cut(connection: Connection) -> bool:
    while connection.read_some():
        pass
    return connection.ended is not None


def test_a_head_of_the_most_bytes_is_taken(connection: Connection) -> None:
    head = START + fields_of(limits.MAX_HEAD_BYTES) + b"\r\n"
    assert len(head) == limits.MAX_HEAD_BYTES
    for piece in pieces(head):
        connection.sock.sendall(piece)
        time.sleep(0.001)
    assert connection.read_reply().status == 200


def test_a_head_with_one_byte_more_is_refused(connection: Connection) -> None:
    head = START + fields_of(limits.MAX_HEAD_BYTES + 1)
    for piece in pieces(head):
        connection.sock.sendall(piece)
    connection.sock.sendall(b"zz")  # the one over, of a head that is not over
    assert connection.read_reply().status == 431
    assert is_cut(connection)


def test_a_head_without_an_end_takes_no_memory(
    server: RunningServer, connection: Connection
) -> None:
    process = psutil.Process(server.pid)
    before = process.memory_info().rss
    connection.sock.sendall(START)
    sent = 0
    try:
        while sent < 50_000_000:
            connection.sock.sendall(FIELD * 100)
            sent += len(FIELD) * 100
    except OSError:
        pass
    assert sent < 50_000_000
    assert process.memory_info().rss - before < 8_000_000


@pytest.mark.parametrize("start", [b"0\r\n", b"1;", b""], ids=["trailers", "extension", "line"])
def test_what_is_no_body_has_an_end_too(
    server: RunningServer, connection: Connection, start: bytes
) -> None:
    if start:
        connection.sock.sendall(CHUNKED + start)
    try:
        for _ in range(200):
            connection.sock.sendall(
                FIELD.replace(b"\r\n", b"\r\n" if start[:1] == b"0" else b"") * 100
            )
    except OSError:
        pass
    else:
        pytest.fail("20 MB were taken")


def test_a_body_in_small_chunks_is_no_head(connection: Connection) -> None:
    connection.sock.sendall(CHUNKED)
    count = 100_000
    for piece in pieces(b"1\r\nx\r\n" * count + b"0\r\n\r\n"):
        connection.sock.sendall(piece)
    reply = connection.read_reply()
    assert json.loads(reply.body)[1] == count


def test_many_requests_in_one_piece_are_not_one_head(connection: Connection) -> None:
    for _ in range(300):
        connection.send("/", headers={"x": "y" * 1000})
    assert {connection.read_reply().status for _ in range(300)} == {200}


@pytest.mark.parametrize("said", [b"", b"G", START, START + b"x: "])
def test_who_does_not_end_his_head_is_cut_off(connection: Connection, said: bytes) -> None:
    began = time.monotonic()
    connection.sock.sendall(said)
    assert is_cut(connection)
    assert 0.5 * HEAD_TIMEOUT < time.monotonic() - began < 10


def test_one_byte_now_and_then_does_not_help(connection: Connection) -> None:
    began = time.monotonic()
    connection.sock.settimeout(0.1)
    connection.sock.sendall(START)
    while time.monotonic() - began < 10:
        try:
            connection.sock.sendall(b"x")
            if not connection.sock.recv(1):
                break
        except TimeoutError:
            continue
        except OSError:
            break
    assert time.monotonic() - began < 8


def test_the_second_request_of_a_connection_has_no_more_time(connection: Connection) -> None:
    connection.send("/")
    assert connection.read_reply().status == 200
    connection.sock.sendall(b"GET ")
    began = time.monotonic()
    assert is_cut(connection)
    assert time.monotonic() - began < 4  # uvicorn's own limit for an idle connection is 5


def test_a_body_may_take_longer_than_a_head(connection: Connection) -> None:
    connection.sock.sendall(CHUNKED)
    deadline = time.monotonic() + 2 * HEAD_TIMEOUT
    while time.monotonic() < deadline:
        connection.sock.sendall(b"1\r\nx\r\n")
        time.sleep(0.05)
    connection.sock.sendall(b"0\r\n\r\n")
    assert connection.read_reply().status == 200


@pytest.mark.parametrize("behind", [b"\r\n", START], ids=["an empty line", "half a head"])
def test_what_is_behind_a_request_does_not_limit_its_answer(
    connection: Connection, behind: bytes
) -> None:
    """Kind of fault: the time for a head runs on while the request is answered."""
    connection.sock.sendall(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n" + behind)
    assert connection.read_reply().status == 200


def test_a_connection_that_is_asked_now_and_then_is_kept(connection: Connection) -> None:
    for _ in range(4):
        connection.send("/")
        assert connection.read_reply().status == 200
        time.sleep(HEAD_TIMEOUT / 2)


def test_a_websocket_is_not_cut_off(server: RunningServer) -> None:
    with connect(f"ws://{server.host}:{server.port}/socket") as websocket:
        time.sleep(1.5 * HEAD_TIMEOUT)
        websocket.send("still here")
        assert websocket.recv(timeout=5) == "still here"
