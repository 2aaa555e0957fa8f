"""Where the input is cut, which hosts are taken, and whose turn it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from ipaddress import IPv6Address
from typing import Any

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import limits
from tailrace.server.parsing import Boundaries, turns_of, why_no_host
from tests.rawhttp import Connection
from tests.server.conftest import OURS
from tests.servers import RunningServer, serve

# Where the input is cut: no piece goes beyond the end of a message, and all of it is fed ----------

SIZED = b"POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%b"
CHUNKED = b"POST /c HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n%b0\r\n%b\r\n"
GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"

# Bodies that look like the ends of heads, and like requests.
bodies = st.one_of(
    st.binary(max_size=30),
    st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"0", GET]), max_size=8).map(b"".join),
)
trailers = st.sampled_from([b"", b"x: y\r\n"])


def chunked(parts: list[bytes], trailer: bytes) -> bytes:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part)
    return CHUNKED % (chunks, trailer)


messages = st.one_of(
    st.just(GET),
    st.just(b"\r\n" + GET),
    bodies.map(lambda body: SIZED % (len(body), body)),
    st.builds(chunked, st.lists(bodies, max_size=4), trailers),
)


class Parsed:
    """Counts what a parser tells, and how often two messages were in one piece."""

    def __init__(self) -> None:
        self.boundaries = Boundaries()
        self.parser = httptools.HttpRequestParser(self)
        self.complete = 0
        self.in_piece = 0
        self.begun_in_piece = 0
        self.bodies: list[bytes] = []

    def feed(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            end = self.boundaries.end_of_piece(data, at)
            assert end > at
            self.in_piece = 0
            self.parser.feed_data(data[at:end])
            at = end
        assert at == len(data)

    def on_message_begin(self) -> None:
        assert not self.in_piece, "a piece went beyond the end of a message"
        self.bodies.append(b"")

    def on_header(self, name: bytes, value: bytes) -> None:
        if name == b"content-length":
            self.boundaries.sized(int(value))

    def on_body(self, body: bytes) -> None:
        self.bodies[-1] += body

    def on_message_complete(self) -> None:
        self.complete += 1
        self.in_piece += 1


def whole(data: bytes) -> list[bytes]:
    """The bodies that a parser finds that is given all at once."""
    found: list[bytes] = []

    class Plain:
        def on_message_begin(self) -> None:
            found.append(b"")

        def on_body(self, body: bytes) -> None:
            found[-1] += body

    httptools.HttpRequestParser(Plain()).feed_data(data)
    return found


@given(st.lists(messages, min_size=1, max_size=6), st.data())
def test_no_piece_goes_beyond_a_message_however_the_input_comes(
    sent: list[bytes], draw: Any
) -> None:
    """Kind of fault: requests are parsed while another is being answered."""
    data = b"".join(sent)
    parsed, at = Parsed(), 0
    while at < len(data):
        end = at + draw.draw(st.integers(1, len(data) - at))
        parsed.feed(data[at:end])
        at = end
    assert parsed.complete == len(sent)
    assert parsed.bodies == whole(data)


def test_an_ordinary_request_is_one_piece() -> None:
    assert Boundaries().end_of_piece(GET, 0) == len(GET)


def test_a_long_body_is_cut_where_it_came_in_pieces_only() -> None:
    boundaries = Boundaries()
    boundaries.sized(100_000)
    assert boundaries.end_of_piece(b"\r\n\r\n" * 10_000, 0) == 40_000
    assert boundaries.end_of_piece(b"\r\n\r\n" * 20_000, 0) == 60_000


def test_what_has_no_length_comes_in_small_pieces() -> None:
    boundaries = Boundaries()
    assert boundaries.end_of_piece(b"1\r\nx\r\n" * 10_000, 0) == limits.INPUT_PIECE_BYTES


# A request names one host, and what it names is one; or it ends before anybody reads it -----------

GOOD = [
    *(b"localhost", b"LOCALHOST:80", b"127.0.0.1:8000", b"a_b.example", b"a.example.", b"a:"),
    *(b"[::1]", b"[::1]:8000", b"[::ffff:127.0.0.1]", b"%41.example", b"", b" a\t"),
]
BAD = [
    *(b"a, b", b"a,b", b"a b", b"user@a", b"user:pw@a", b"a/b", b"http://a", b"a?b", b"a#b"),
    *(b"a:b", b"a:80:80", b":80", b"::1", b"[::1", b"[::1]x", b"[1]", b"[::1%25eth0]", b"[v1.a]"),
    *(b"a\\b", b"a%4", b"a%zz", b"\xe9", b"a\x00", b'"a"', b"<a>", b"a\n"),
    b"a" * (limits.MAX_HOST_BYTES + 1),
]


@pytest.mark.parametrize("host", GOOD)
def test_a_host_is_taken(host: bytes) -> None:
    assert why_no_host("1.1", b"/", [host]) is None


@pytest.mark.parametrize("host", BAD)
def test_what_is_no_host_is_not(host: bytes) -> None:
    assert why_no_host("1.1", b"/", [host]) == "not a valid Host"


@pytest.mark.parametrize(
    ("version", "target", "hosts", "is_good"),
    [
        ("1.1", b"/", [], False),
        ("1.0", b"/", [], True),
        ("1.0", b"/", [b"a", b"a"], False),
        ("1.1", b"/", [b"a", b"a"], False),
        ("1.1", b"/", [b"", b"a"], False),
        ("1.1", b"*", [b"a"], True),
        ("1.1", b"http://a/x", [b"A"], True),
        ("1.1", b"http://a:80?x", [b"a:80"], True),
        ("1.1", b"http://b/x", [b"a"], False),
        ("1.1", b"http://a/x", [b""], False),
        ("1.1", b"http://user@a/x", [b"a"], False),
    ],
)
def test_a_request_names_one_host(
    version: str, target: bytes, hosts: list[bytes], is_good: bool
) -> None:
    assert (why_no_host(version, target, hosts) is None) == is_good


@given(st.binary(max_size=60))
def test_what_is_taken_has_nothing_that_another_could_read_as_an_end(host: bytes) -> None:
    if why_no_host("1.1", b"/", [host]) is None:
        assert not set(host.strip(b" \t")) & set(b"@/?#, \t\r\n\\\x00")


@given(st.ip_addresses(v=6), st.integers(0, 65535))
def test_every_address_is_a_host(address: IPv6Address, port: int) -> None:
    assert why_no_host("1.1", b"/", [f"[{address}]:{port}".encode()]) is None


# Over a socket


@pytest.fixture(scope="module", params=OURS)
def server(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    with serve("tests.server.heads:app", request.param) as server:
        yield server


UPGRADE = (
    b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.mark.parametrize("more", [b"", UPGRADE], ids=["http", "websocket"])
@pytest.mark.parametrize(
    "fields", [b"", b"host: a\r\nhost: b\r\n", b"host: a, b\r\n", b"host: u@a\r\n"]
)
def test_a_request_without_one_host_is_refused_and_cut(
    server: RunningServer, fields: bytes, more: bytes
) -> None:
    with Connection(server.host, server.port) as connection:
        path = b"/socket" if more else b"/"
        connection.sock.sendall(b"GET " + path + b" HTTP/1.1\r\n" + fields + more + b"\r\n")
        assert connection.read_reply().status == 400
        while connection.read_some():
            pass
        assert connection.ended is not None


# Who has more to parse than one turn has time for lets others have theirs -------------------------


def test_the_line_leaves_the_loop_to_others() -> None:
    """Kind of fault: input in tiny pieces holds the event loop."""

    async def main() -> None:
        turns = turns_of(asyncio.get_running_loop())
        done: list[int] = []
        left = dict.fromkeys(range(40), 3)

        def work(name: int) -> None:
            time.sleep(limits.INPUT_TURN)
            done.append(name)
            left[name] -= 1
            if left[name]:
                turns.add(lambda: work(name))

        for name in left:
            turns.add(lambda name=name: work(name))  # type: ignore[misc] # bound now
        most, before = 0, 0
        while len(done) < 120:
            await asyncio.sleep(0)
            most, before = max(most, len(done) - before), len(done)
        assert most <= 4
        assert done == [*range(40)] * 3

    asyncio.run(main())
