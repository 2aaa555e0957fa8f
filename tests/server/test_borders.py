"""Where the input is cut: no piece goes beyond the end of a message, and all of it is fed."""

from __future__ import annotations

from typing import Any

import httptools
from hypothesis import given
from hypothesis import strategies as st

from tailrace import limits
from tailrace.server.borders import Borders

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
        self.borders = Borders()
        self.parser = httptools.HttpRequestParser(self)
        self.complete = 0
        self.in_piece = 0
        self.begun_in_piece = 0
        self.bodies: list[bytes] = []

    def feed(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            end = self.borders.end_of_piece(data, at)
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
            self.borders.sized(int(value))

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
    assert Borders().end_of_piece(GET, 0) == len(GET)


def test_a_long_body_is_cut_where_it_came_in_pieces_only() -> None:
    borders = Borders()
    borders.sized(100_000)
    assert borders.end_of_piece(b"\r\n\r\n" * 10_000, 0) == 40_000
    assert borders.end_of_piece(b"\r\n\r\n" * 20_000, 0) == 60_000


def test_what_has_no_length_comes_in_small_pieces() -> None:
    borders = Borders()
    assert borders.end_of_piece(b"1\r\nx\r\n" * 10_000, 0) == limits.INPUT_PIECE_BYTES
