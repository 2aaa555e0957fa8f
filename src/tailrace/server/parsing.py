"""What the HTTP parser does not do: cut the input, check hosts, find bodies, take turns.

**Cutting.** A parser parses all that it is given. 64 KiB may hold three thousand requests, which
would all be kept until their turn comes; or an upgrade, which would take the connection from a
response that is still being sent. So the parser gets pieces, none of which goes beyond the end of a
message. What follows is kept as bytes until the response is complete.

A head ends with a blank line, and so does a body in chunks, after its last chunk or its trailers. A
blank line elsewhere in a body does no harm: it makes one more piece. (The parser refuses a line
that ends with LF alone, so a blank line is always CR LF CR LF.)

**Hosts.** If a request names two hosts, a proxy may read one of them and the application the other:
the proxy allows one host, and the application serves another, which the proxy would refuse. So a
request that names two hosts, or something that is not a host, is refused before the application
sees it.

**Bodies after an offer.** If a request offers another protocol, the parser ends it after the head,
and takes what follows for bytes of that protocol: it does not look where the body ends. If the
offer is not taken (RFC 9110 7.8), a second parser gets the header fields that say where the body
ends, and then the body.

**Turns.** The event loop calls all connections that are ready, one after another. If forty of them
parse for a millisecond each, everything else waits 40 ms. So connections that have more to parse
wait in one queue; in each turn of the loop, the first ones go on for about two milliseconds.

Source: RFC 9112 2.1, 6.3, 7.1 (messages), 3.2 (Host, 400); RFC 3986 3.2.2 (host), 3.2.3 (port).
Stricter than these: a Host has no comma, with which proxies join two fields into one (RFC 9110
5.3), and no address of a future version of IP. If the target names an authority, Host must be the
same. RFC 9112 3.2.2 would take the target's, but applications read Host."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from time import monotonic
from weakref import WeakKeyDictionary

import httptools

from tailrace import limits

__all__ = [
    "FRAMING",
    "Boundaries",
    "Turns",
    "check_head",
    "head_of_body",
    "parser_of_body",
    "turns_of",
    "why_no_host",
]

# Cutting ------------------------------------------------------------------------------------------

_BLANK_LINE = b"\r\n\r\n"


class Boundaries:
    """Cuts the input into pieces, none of which goes beyond the end of a message."""

    __slots__ = ("_before", "_left")

    def __init__(self) -> None:
        self._left = 0
        """Bytes that are still to come of a body with a Content-Length."""
        self._before = b""
        """The end of the piece before, up to three bytes: a blank line may begin there."""

    def sized(self, size: int) -> None:
        """Note that a body of `size` bytes follows."""
        self._left = size

    def end_of_piece(self, data: bytes, at: int) -> int:
        """Where the next piece for the parser ends; it has at least one byte.

        Args:
            data: The input.
            at: Where the piece begins, less than the length of `data`.
        """
        if self._left:
            end = min(len(data), at + self._left)
            self._left -= end - at
            return end
        if self._before:
            joined = self._before + data[at : at + 3]
            found = joined.find(_BLANK_LINE)
            if found >= 0:
                end = at + found + 4 - len(self._before)
                self._before = b""
                return end
        most = min(len(data), at + limits.INPUT_PIECE_BYTES)
        found = data.find(_BLANK_LINE, at, most)
        if found >= 0:
            self._before = b""
            return found + 4
        self._before = (self._before + data[max(at, most - 3) : most])[-3:]
        return most


# Hosts --------------------------------------------------------------------------------------------

_NAME = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+(?::[0-9]*)?")
_IPV6 = re.compile(rb"\[([0-9A-Fa-f:.]+)\](?::[0-9]*)?")
_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")


def why_no_host(version: str, target: bytes, hosts: Sequence[bytes]) -> str | None:
    """Why a request must be refused for its Host; None if it need not be.

    Args:
        version: The version of HTTP: "1.0" or "1.1".
        target: The request's target, as it was sent.
        hosts: The values of all its Host fields.
    """
    if len(hosts) != 1:
        if hosts:
            return "more than one Host"
        return None if version < "1.1" else "no Host"
    host = hosts[0].strip(b" \t")
    # Checked before `_is_host` is called: its cache keeps each host.
    if len(host) > limits.MAX_HOST_BYTES or not _is_host(host):
        return "not a valid Host"
    if target[:1] != b"/":
        absolute = _ABSOLUTE.match(target)
        if absolute is not None and absolute[1].lower() != host.lower():
            return "a Host that is not the target's"
    return None


@lru_cache(maxsize=256)
def _is_host(host: bytes) -> bool:
    # A client whose URL has no host sends an empty Host.
    if not host or _NAME.fullmatch(host):
        return True
    literal = _IPV6.fullmatch(host)
    if literal is None:
        return False
    try:
        ipaddress.IPv6Address(literal[1].decode())
    except ValueError:
        return False
    return True


# Bodies after an offer ----------------------------------------------------------------------------

FRAMING = frozenset({b"content-length", b"transfer-encoding"})
"""Header fields that say where a body ends."""


class _BodyOnly:
    def __init__(self, on_body: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        self.on_body = on_body
        self.on_message_complete = on_end


def parser_of_body(
    on_body: Callable[[bytes], None], on_end: Callable[[], None]
) -> httptools.HttpRequestParser:
    """A parser that reports only a body; feed it `head_of_body` first."""
    return httptools.HttpRequestParser(_BodyOnly(on_body, on_end))


def head_of_body(method: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A short head with the fields that say where the body ends, for `parser_of_body`.

    A CONNECT has no body: what follows its head is for the other end of a tunnel.
    """
    fields = () if method == b"CONNECT" else headers
    framing = b"".join(b"%b: %b\r\n" % field for field in fields if field[0] in FRAMING)
    return b"POST / HTTP/1.1\r\n%b\r\n" % framing


# Heads --------------------------------------------------------------------------------------------


def check_head(
    method: bytes,
    target: bytes,
    version: str,
    headers: Sequence[tuple[bytes, bytes]],
    *,
    is_ignored_offer: bool,
) -> int:
    """Check the head of a request, and give its Content-Length; 0 if it has none.

    Args:
        method: As the parser gives it.
        target: As it was sent.
        version: The version of HTTP: "1.0" or "1.1".
        headers: Names in lower case, and values.
        is_ignored_offer: The request offers another protocol, and the offer is not taken.

    Raises:
        ValueError: The request must be refused; the message says why (400).
    """
    size, is_coded, hosts = 0, False, []
    for name, value in headers:
        if name == b"host":
            hosts.append(value)
        elif name == b"transfer-encoding":
            is_coded = True
        elif name == b"content-length":
            size = int(value)  # the parser has checked it
    reason = why_no_host(version, target, hosts)
    if reason is None and version == "1.0" and is_coded:
        reason = "HTTP/1.0 has no chunks"  # RFC 9112 6.1: where its body ends cannot be trusted
    # The parser checks codings only after it has reported the head, and so after the application
    # is called; after an offer it never does.
    if reason is None and (is_coded or is_ignored_offer):
        reason = _why_no_end(head_of_body(method, headers))
    if reason is not None:
        raise ValueError(reason)
    return size


class _Nobody:
    """A protocol for a parser, without callbacks."""


def _why_no_end(head: bytes) -> str | None:
    """Why the end of the body after this head cannot be known; None if it can."""
    try:
        httptools.HttpRequestParser(_Nobody()).feed_data(head)
    except httptools.HttpParserError as error:
        return str(error)
    return None


# Turns --------------------------------------------------------------------------------------------


class Turns:
    """The queue of connections that have more to parse, in one event loop.

    Args:
        loop: The event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._call_soon = loop.call_soon
        self._waiting: deque[Callable[[], None]] = deque()

    def add(self, go_on: Callable[[], None]) -> None:
        """Call `go_on` when its turn comes; it adds itself again if it has more to do."""
        self._waiting.append(go_on)
        if len(self._waiting) == 1:
            self._call_soon(self._run)

    def _run(self) -> None:
        ends = monotonic() + 2 * limits.INPUT_TURN
        # A connection that adds itself while this runs goes on in a later turn.
        for _ in range(len(self._waiting)):
            go_on = self._waiting[0]
            try:
                go_on()
            finally:
                self._waiting.popleft()
            if monotonic() >= ends:
                break
        if self._waiting:
            self._call_soon(self._run)


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = WeakKeyDictionary()


def turns_of(loop: asyncio.AbstractEventLoop) -> Turns:
    """The queue of an event loop."""
    turns = _turns.get(loop)
    if turns is None:
        turns = _turns[loop] = Turns(loop)
    return turns
