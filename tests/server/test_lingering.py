"""What still comes behind an answer is read for a while: the rest of a request's body."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Iterator

import psutil
import pytest

from tailrace import limits
from tailrace.server.closing import Lingering
from tailrace.testing import Clock
from tests.rawhttp import Connection
from tests.server.conftest import OURS
from tests.server.test_shutdown import ended
from tests.servers import RunningServer, ServerName, serve
from tests.tools.tool import until

HEAD_TIMEOUT, LINGER, SILENCE = 0.6, 0.8, 0.3
"""Seconds, as tests/server/heads.py sets them for the servers' processes."""
LEAST = limits.LINGER_SILENCE * limits.BODY_MIN_RATE


@pytest.fixture(scope="module", params=OURS)
def server(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    with serve("tests.server.heads:app", request.param) as server:
        yield server
        assert server.log.count("Traceback") == server.log.count("RuntimeError: on purpose")


@pytest.fixture
def connection(server: RunningServer) -> Iterator[Connection]:
    with Connection(server.host, server.port) as connection:
        yield connection


def begin(connection: Connection, path: str, size: int) -> None:
    """Send a head, and get the answer to it."""
    connection.send(path, method="POST", headers={"content-length": str(size)})
    assert connection.read_reply().status == 413


def send_first(connection: Connection, path: str, version: str = "1.1") -> None:
    """Send more than anybody keeps, before anything is read."""
    size = 8 * 1024 * 1024
    head = f"POST {path} HTTP/{version}\r\nhost: a\r\ncontent-length: {size}\r\n\r\n"
    connection.sock.sendall(head.encode() + b"x" * size)


def is_over(connection: Connection) -> bool:
    while connection.read_some():
        pass
    return connection.ended == "closed"


def seconds_of_sending(connection: Connection, piece: bytes) -> float:
    """For how long a piece now and then is taken."""
    began = time.monotonic()
    with contextlib.suppress(ConnectionError):
        while time.monotonic() - began < 10 * LINGER:
            connection.sock.sendall(piece)
            time.sleep(SILENCE / 8)
    return time.monotonic() - began


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize(("path", "status"), [("/last", 413), ("/fails", 500), ("/silent", 500)])
def test_a_client_that_sends_first_and_reads_later_gets_the_answer(
    connection: Connection, version: str, path: str, status: int
) -> None:
    send_first(connection, path, version)
    assert connection.read_head().status == status
    assert is_over(connection)


@pytest.mark.parametrize("name", OURS)
def test_who_comes_when_the_server_is_full_gets_the_answer_too(name: ServerName) -> None:
    with (
        serve("tests.server.heads:app", name, limit_concurrency=1) as server,
        Connection(server.host, server.port) as connection,
    ):
        send_first(connection, "/")
        assert connection.read_head().status == 503
        assert is_over(connection)


def test_who_is_told_that_the_connection_ends_sees_its_end_at_once(connection: Connection) -> None:
    begin(connection, "/last", 1000)
    began = time.monotonic()
    assert is_over(connection)
    assert time.monotonic() - began < SILENCE


def test_what_comes_behind_the_body_is_thrown_away_for_a_while(connection: Connection) -> None:
    begin(connection, "/last", 1000)
    connection.sock.sendall(b"x" * 1000)
    assert seconds_of_sending(connection, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n") > LINGER / 2
    assert is_over(connection)


BEHIND = {
    "requests": b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" * 20_000,
    "an upload": b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 600000\r\n\r\n" + b"x" * 600_000,
    "what is no request": b"\0" * 600_000,
}
LAST = {
    "that says so": b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    "of HTTP/1.0": b"GET / HTTP/1.0\r\nhost: a\r\n\r\n",
    "that is none": b"GET\0 / HTTP/1.1\r\nhost: a\r\n\r\n",
    "that is too long": b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"x" * 100_000 + b"\r\n\r\n",
    "of another version": b"GET / HTTP/2.0\r\nhost: a\r\n\r\n",
}


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("last", LAST)
def test_what_was_sent_behind_the_last_request_resets_no_answer(
    connection: Connection, last: str, behind: str
) -> None:
    """Kind of fault: a close with input that is not read is a reset, which overtakes answers."""
    first = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
    connection.sock.sendall(first + LAST[last] + BEHIND[behind])
    time.sleep(SILENCE / 2)
    assert connection.read_reply().status == 200
    assert connection.read_head().status in (200, 400, 431, 505)
    assert is_over(connection)


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("state", ["lingering", "ending", "closing"])
def test_a_server_that_stops_resets_no_answer(name: ServerName, state: str) -> None:
    """Kind of fault: the stop closes connections on which a body is still coming."""
    path, size = {
        "lingering": ("/kept", 10**9),
        "ending": ("/last", 10**9),
        "closing": ("/last", 3),
    }[state]
    with (
        serve("tests.server.heads:app", name) as server,
        Connection(server.host, server.port) as idle,
        Connection(server.host, server.port) as connection,
    ):
        idle.send("/")
        assert idle.read_reply().status == 200
        connection.send(path, method="POST", headers={"content-length": str(size)})
        connection.sock.sendall(b"x" * 1000)
        connection.sock.recv(1, socket.MSG_PEEK)  # it is answered
        psutil.Process(server.pid).send_signal(signal.SIGTERM)
        assert idle.read_some() == b""  # it stops
        for _ in range(10):
            connection.sock.sendall(b"x" * 100_000)
        assert connection.read_reply().status == 413
        assert is_over(connection)
        connection.sock.close()
        assert ended(server.pid, 5) < 5


def test_a_body_without_an_end_is_not_read_for_ever(connection: Connection) -> None:
    begin(connection, "/last", 10**9)
    assert SILENCE < seconds_of_sending(connection, b"x" * 1000) < 10 * LINGER


def test_a_connection_that_is_kept_is_read_for_as_long_as_something_comes(
    connection: Connection,
) -> None:
    """Kind of fault: the time that a head may take cut off an upload that was answered early."""
    pieces, pause = 40, 1.5 * HEAD_TIMEOUT / 40
    begin(connection, "/kept", 1000 * pieces)
    for _ in range(pieces):
        connection.sock.sendall(b"x" * 1000)
        time.sleep(pause)
    connection.send("/")
    assert connection.read_reply().status == 200


@pytest.mark.parametrize("trickle", [b"", b"x"])
def test_but_not_if_nearly_nothing_comes(connection: Connection, trickle: bytes) -> None:
    begin(connection, "/kept", 10**9)
    connection.sock.settimeout(SILENCE / 4)
    began = time.monotonic()
    some = b"more"
    while some:
        assert time.monotonic() - began < 10 * SILENCE
        connection.sock.sendall(trickle)
        try:
            some = connection.sock.recv(100)
        except TimeoutError:
            continue
        except OSError:
            break


def test_what_is_wrong_in_the_rest_is_no_second_answer(connection: Connection) -> None:
    connection.send("/kept", method="POST", headers={"transfer-encoding": "chunked"})
    assert connection.read_reply().status == 413
    connection.sock.sendall(b"no chunk\r\n")
    assert connection.read_some() == b""


@pytest.mark.parametrize("part", [b"", b"x"])
def test_who_asked_whether_to_send_a_body_and_was_not_told_is_not_kept(
    connection: Connection, part: bytes
) -> None:
    """Kind of fault: the next request was taken for the body that the client did not send."""
    fields = {"expect": "100-continue", "content-length": "1000"}
    connection.send("/kept", method="POST", headers=fields)
    connection.sock.sendall(part)
    reply = connection.read_reply()
    assert (reply.status, reply.headers["connection"]) == (413, "close")
    assert is_over(connection)


def test_who_asked_and_was_told_is_kept(connection: Connection) -> None:
    fields = {"expect": "100-continue", "content-length": "3"}
    connection.send("/", method="POST", headers=fields)
    assert connection.read_some().startswith(b"HTTP/1.1 100 ")
    connection.sock.sendall(b"abc")
    assert "connection" not in connection.read_reply().headers
    connection.send("/")
    assert connection.read_reply().status == 200


@pytest.mark.parametrize("first", [0, 2, 3])
def test_an_application_that_fails_behind_its_answer_leaves_the_next_one_alone(
    connection: Connection, first: int
) -> None:
    connection.send("/late", method="POST", headers={"content-length": "3"})
    connection.sock.sendall(b"abc"[:first])
    assert connection.read_reply().body == b"done"
    connection.sock.sendall(b"abc"[first:])
    connection.send("/behind")
    assert connection.read_reply().body == b"behind"
    connection.send("/")
    assert connection.read_reply().status == 200


@pytest.mark.parametrize(
    ("path", "first"), [("/kept", 2), ("/kept", 3), ("/last", 2), ("/last", 3)]
)
def test_a_connection_that_is_over_is_forgotten_at_once(
    server: RunningServer, connection: Connection, path: str, first: int
) -> None:
    """Kind of fault: what refers to each other stays until the collector comes by."""

    def remembered() -> int:
        connection.send("/remembered")
        return int(connection.read_reply().body)

    before = remembered()
    for _ in range(5):
        with Connection(server.host, server.port) as other:
            other.send(path, method="POST", headers={"content-length": "3"})
            other.sock.sendall(b"abc"[:first])
            assert other.read_reply().status == 413
    assert until(remembered, lambda seen: seen <= before) <= before


# When enough was waited for, on a clock that the test moves ---------------------------------------


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    ("is_last", "came", "seconds"),
    [
        (False, 0, limits.LINGER_SILENCE),
        (False, LEAST - 1, limits.LINGER_SILENCE),
        (False, LEAST, None),
        (True, LEAST - 1, limits.LINGER_SILENCE),
        (True, LEAST, limits.LINGER),
    ],
)
@pytest.mark.anyio
async def test_how_long_it_is_read(
    clock: Clock, is_last: bool, came: int, seconds: float | None
) -> None:
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    with theirs:
        transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, ours)
        rest = Lingering(loop, transport, transport.close)
        if is_last:
            rest.end_our_side()
        while not transport.is_closing() and clock.time < 10 * limits.LINGER:
            rest.came += int(came)
            await clock.advance(limits.LINGER_SILENCE)
        rest.stop()
        assert transport.is_closing() == (seconds is not None)
        assert seconds is None or clock.time == pytest.approx(seconds)
        transport.abort()
