"""`tailrace serve` under attack, over its socket."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.cli.running_serve import Running, running_serve
from tests.cli.streaming import (
    HOST,
    STREAMS,
    append,
    connect,
    create,
    entry_of,
    ready,
    send,
    until_said,
)
from tests.rawhttp import Connection
from tests.tools.tool import until

LIVE = "?offset=-1&live=sse"
QUIET = ("--log-level", "warning")
"""Nobody reads the access log here, and a server waits for who reads it."""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("attacked")


@pytest.fixture(scope="module")
def server(directory: Path) -> Iterator[Running]:
    with running_serve(directory, *QUIET) as running:
        yield running
        assert "Traceback" not in running.log
        assert running.process.poll() is None


# Paths and tokens ---------------------------------------------------------------------------------


def test_every_byte_in_a_path_is_a_name_or_is_refused(server: Running) -> None:
    for byte in range(256):
        path = f"odd/%{byte:02x}"
        reply = create(server, path, b"%d" % byte)
        legal = 0x20 <= byte < 0x7F and byte not in b"./"
        assert reply.status == (201 if legal else 400), path
        if legal:
            assert send(server, "GET", path).body == b"%d" % byte
            assert reply.headers["location"].isascii()
    raw = b"PUT /v1/stream/\xff\xfe HTTP/1.1\r\nhost: localhost\r\n\r\n"
    with Connection(HOST, server.port) as connection:
        connection.sock.sendall(raw)
        assert connection.read_reply().status == 400


@pytest.mark.parametrize(
    "offset",
    [
        *("9" * 16 + "_" + "9" * 16, "9" * 400, "-2", "%00", "0_0", "now%20", "NOW", "-1%0a"),
        *("0000000000000000_9999999999999999", "1e9", "0x10", "%f0%9f%92%a9", "','", ""),
        "9999999999999999_0000000000000000",
    ],
)
def test_an_offset_that_was_never_given_is_refused(server: Running, offset: str) -> None:
    create(server, "placed", b"hello")
    for live in ("", "&live=sse", "&live=long-poll"):
        reply = send(server, "GET", f"placed?offset={offset}{live}")
        assert reply.status in (400, 410), reply
        assert reply.headers["content-type"] == "application/problem+json"


def test_what_was_put_into_a_stream_is_no_page_of_ours(server: Running) -> None:
    script = b"<script>fetch('/v1/stream/secret')</script>"
    for number, content_type in enumerate(("text/html", "image/svg+xml", "text/xml", "x/y")):
        path = f"page{number}"
        create(server, path, script, content_type=content_type)
        for query in ("", "?offset=-1&live=long-poll"):
            reply = send(server, "GET", path + query)
            assert reply.headers["content-security-policy"] == "sandbox"
            assert reply.headers["x-content-type-options"] == "nosniff"
    refused = send(server, "GET", "%3Cscript%3E?offset=%3Cscript%3E")
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "host", ["localhost\x0bx", "localhost/evil", "localhost,evil", "a@localhost"]
)
def test_no_host_gets_into_a_location(server: Running, host: str) -> None:
    reply = send(server, "PUT", "placed-by", host=host)
    assert reply.status in (400, 421)


# Requests that lie --------------------------------------------------------------------------------

SMUGGLED = b"DELETE /v1/stream/victim HTTP/1.1\r\nhost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    "head",
    [
        b"content-length: 5\r\ncontent-length: 6",
        b"content-length: 5, 5",
        b"content-length: -1",
        b"content-length: +5",
        b"content-length: 0x5",
        b"content-length: 99999999999999999999999999",
        b"content-length: 5\r\ntransfer-encoding: chunked",
        b"transfer-encoding: chunked\r\ncontent-length: 5",
        b"transfer-encoding: chunked, identity",
        b"transfer-encoding: xchunked",
        b"transfer-encoding : chunked",
        b"transfer-encoding:\x0bchunked",
        b"content-length: 5\r\n x: y",
    ],
)
def test_a_body_of_two_lengths_smuggles_nothing(server: Running, head: bytes) -> None:
    create(server, "victim", b"alive")
    create(server, "door")
    start = b"POST /v1/stream/door HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/plain\r\n"
    with Connection(HOST, server.port) as connection:
        connection.sock.sendall(start + head + b"\r\n\r\n0\r\n\r\n" + SMUGGLED)
        connection.half_close()
        while connection.read_some():
            pass
    assert send(server, "GET", "victim").body == b"alive"


def test_a_body_that_ends_early_appends_nothing(server: Running) -> None:
    create(server, "partly", b"whole")
    fields = {"content-type": "text/plain", "content-length": "100"}
    for leave in (Connection.half_close, Connection.close, Connection.reset):
        with Connection(HOST, server.port) as connection:
            connection.send(STREAMS + "partly", method="POST", headers=fields)
            connection.sock.sendall(b"half of it")
            leave(connection)
    with Connection(HOST, server.port) as connection:
        chunked = {"content-type": "text/plain", "transfer-encoding": "chunked"}
        connection.send(STREAMS + "partly", method="POST", headers=chunked)
        connection.sock.sendall(b"5\r\nhel")
        connection.half_close()
        while connection.read_some():
            pass
    assert ready(server)[0] == 200
    assert send(server, "GET", "partly").body == b"whole"


def test_a_body_without_an_end_is_refused_at_the_limit(server: Running) -> None:
    create(server, "endless")
    fields = {"content-type": "text/plain", "transfer-encoding": "chunked"}
    before = psutil.Process(server.process.pid).memory_info().rss
    with Connection(HOST, server.port) as connection:
        connection.send(STREAMS + "endless", method="POST", headers=fields)
        for _ in range(200):  # of a MiB; what is over is read for a while, and thrown away
            connection.sock.sendall(b"100000\r\n" + b"x" * (1 << 20) + b"\r\n")
        assert connection.read_reply().status == 413
        assert connection.read_some() == b""
    after = psutil.Process(server.process.pid).memory_info().rss
    assert after - before < 80 << 20
    assert send(server, "GET", "endless").body == b""


def test_an_append_that_says_it_is_too_large_is_refused_unread(server: Running) -> None:
    create(server, "large")
    fields = {"content-type": "text/plain", "content-length": str(10**15)}
    with Connection(HOST, server.port) as connection:
        connection.send(STREAMS + "large", method="POST", headers=fields)
        assert connection.read_reply().status == 413


@pytest.mark.parametrize("encoding", ["gzip, chunked", "gzip,chunked", "chunked, chunked"])
def test_a_body_in_an_encoding_of_its_own_is_refused(server: Running, encoding: str) -> None:
    """Readers would get compressed bytes, and not learn it."""
    create(server, "encoded")
    with Connection(HOST, server.port) as connection:
        fields = {"content-type": "text/plain", "transfer-encoding": encoding}
        connection.send(STREAMS + "encoded", method="POST", headers=fields)
        connection.sock.sendall(b"5\r\nhello\r\n0\r\n\r\n")
        assert connection.read_reply().status == 400
    assert send(server, "GET", "encoded").body == b""


def test_headers_without_an_end_are_refused(server: Running) -> None:
    with Connection(HOST, server.port) as connection:
        connection.sock.sendall(b"GET /v1/stream/a HTTP/1.1\r\nhost: localhost\r\nx: ")
        sent = 0
        try:
            while sent < 100:
                connection.sock.sendall(b"y" * 100_000)
                sent += 1
        except OSError:
            pass
        assert sent < 100
    assert ready(server)[0] == 200


# Streams without number ---------------------------------------------------------------------------


def test_forks_of_forks_have_an_end(server: Running) -> None:
    create(server, "fork/0", b"root")
    for depth in range(1, 200):
        reply = create(server, f"fork/{depth}", stream_forked_from=f"fork/{depth - 1}")
        if reply.status != 201:
            break
    assert reply.status == 400
    assert 60 <= depth <= 70
    assert send(server, "GET", f"fork/{depth - 1}").body == b"root"


def test_a_client_that_never_reads_events_is_dropped_and_holds_nobody(tmp_path: Path) -> None:
    with running_serve(
        tmp_path, *QUIET[:1], "info", env={"TAILRACE_SEND_TIMEOUT": "0.5"}
    ) as server:
        create(server, "loud")
        with ExitStack() as stack:
            stalled = stack.enter_context(connect(server, "loud" + LIVE, receive_buffer=4096))
            stalled.read_head()
            good = stack.enter_context(connect(server, "loud" + LIVE))
            good.read_head()
            until_said(good, b"upToDate")
            block = b"x" * 500_000
            slowest = 0.0
            for number in range(30):
                began = time.monotonic()
                append(server, "loud", block)
                append(server, "loud", b"end %d." % number)
                until_said(good, b"end %d." % number)
                slowest = max(slowest, time.monotonic() - began)
            entries = iter(lambda: entry_of(server, "loud"), None)
            entry = next(each for each in entries if each["method"] == "GET")
            assert entry["outcome"] == "stalled"
            append(server, "loud", b"still here")
            until_said(good, b"still here")
            assert slowest < 5


# What is left -------------------------------------------------------------------------------------


def held(server: Running) -> tuple[int, int]:
    process = psutil.Process(server.process.pid)
    return process.num_fds(), process.num_threads()


@pytest.mark.slow
def test_who_comes_and_goes_leaves_nothing(server: Running) -> None:
    create(server, "busy", b"x")

    def round_of(number: int) -> None:
        for query in (LIVE, "?offset=now&live=long-poll", LIVE.replace("-1", "now")):
            connection = connect(server, "busy" + query)
            if number % 2:
                connection.read_some() if "sse" in query else None
            connection.reset() if number % 3 else connection.close()

    def many(count: int) -> None:
        def rounds() -> None:
            for number in range(count):
                round_of(number)

        threads = [threading.Thread(target=rounds) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    many(25)
    before = until(lambda: held(server), lambda now: now[0] < 60)
    many(100)
    after = until(lambda: held(server), lambda now: now[0] <= before[0])
    assert after[0] <= before[0]
    assert after[1] <= before[1] + 1
    append(server, "busy", b"y")
    assert send(server, "GET", "busy").body == b"xy"


@pytest.mark.slow
def test_streams_that_are_made_and_deleted_leave_nothing(server: Running, directory: Path) -> None:
    with Connection(HOST, server.port) as connection:
        for number in range(1000):
            for method in ("PUT", "DELETE"):
                fields = {"content-type": "text/plain"} if method == "PUT" else {}
                connection.send(f"{STREAMS}churn/{number}", method=method, headers=fields)
                assert connection.read_reply().status in (201, 204)

    def left() -> int:
        database = sqlite3.connect(directory / ".tailrace" / "streams.db")
        query = "SELECT count(*) FROM stream WHERE path LIKE 'churn/%' OR path IS NULL"
        (count,) = database.execute(query).fetchone()
        database.close()
        return int(count)

    assert until(left, lambda count: count == 0) == 0


@pytest.mark.slow
def test_half_a_body_does_not_hold_the_end(tmp_path: Path) -> None:
    with running_serve(tmp_path, *QUIET, "--drain-timeout", "0.5") as server:
        create(server, "half")
        with ExitStack() as stack:
            for _ in range(20):
                connection = stack.enter_context(Connection(HOST, server.port))
                fields = {"content-type": "text/plain", "content-length": "100"}
                connection.send(STREAMS + "half", method="POST", headers=fields)
                connection.sock.sendall(b"half")
                other = stack.enter_context(Connection(HOST, server.port))
                other.sock.sendall(b"GET /v1/stream/half HTTP/1.1\r\nhos")
            assert ready(server)[0] == 200
            began = time.monotonic()
            server.process.terminate()
            assert server.process.wait(10) == 0
            assert time.monotonic() - began < 8
