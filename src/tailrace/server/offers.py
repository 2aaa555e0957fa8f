"""The body behind an offer of another protocol that is not taken (RFC 9110 7.8).

The parser takes such a request to be over with its head, and what follows for bytes of the other
protocol: it has not looked where the body ends. So another parser gets as much of the head as says
that, and then the body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import httptools

__all__ = ["FRAMING", "head_of_body", "parser_of_body", "why_no_end"]

FRAMING = frozenset({b"content-length", b"transfer-encoding"})
"""Header fields that say where a body ends."""


class _BodyOnly:
    def __init__(self, on_body: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        self.on_body = on_body
        self.on_message_complete = on_end


def parser_of_body(
    on_body: Callable[[bytes], None], on_end: Callable[[], None]
) -> httptools.HttpRequestParser:
    """A parser that tells of a body alone; it is given `head_of_body` first."""
    return httptools.HttpRequestParser(_BodyOnly(on_body, on_end))


def head_of_body(method: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """As much of a head as says where the body ends.

    Behind CONNECT none is a request's: what follows is for the other end of a tunnel.
    """
    fields = () if method == b"CONNECT" else headers
    framing = b"".join(b"%b: %b\r\n" % field for field in fields if field[0] in FRAMING)
    return b"POST / HTTP/1.1\r\n%b\r\n" % framing


def why_no_end(head: bytes) -> str | None:
    """Why nobody knows where the body of such a head ends; None if it is known."""
    try:
        httptools.HttpRequestParser(_Nobody()).feed_data(head)
    except httptools.HttpParserError as error:
        return str(error)
    return None


class _Nobody:
    """Is told nothing."""
