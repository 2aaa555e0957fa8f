"""What the parser of HTTP does not do: whose turn it is, where to cut, which hosts and bodies.

**Cutting.** A parser takes all that it is given: in one piece of 64 KiB may be three thousand
requests, which would all be kept until their turn comes, and an upgrade that takes the connection
from under a response that is still being sent. So the parser gets pieces, none of which goes beyond
the end of a message; what is behind is kept as bytes until the response is complete.

A head ends with a blank line, and so does a body in chunks, behind its last chunk or its trailers.
A blank line elsewhere in a body does no harm: it makes one piece more. (The parser refuses a line
that ends with a LF alone, so there is no other way to write one.)

**Hosts.** A proxy, an application and its guard may each read another of two hosts. Then what one
of them allowed is done under a name that another would refuse. So a request that names two, or
something that is not a host, is refused before the application sees it.

**Bodies behind an offer.** The parser takes a request that offers another protocol to be over with
its head, and what follows for bytes of that protocol: it has not looked where the body ends. If the
offer is not taken (RFC 9110 7.8), a second parser gets as much of the head as tells the end of the
body, and then the body.

**Turns.** The event loop calls all connections that are ready, one after another. With forty that
parse for a millisecond each, everybody else waits for forty. So those that have more to parse wait
in one queue, of which as many go on in each turn of the loop as fit into one or two milliseconds.

Source: RFC 9112 2.1, 6.3, 7.1 (messages), 3.2 (Host, 400); RFC 3986 3.2.2 (host), 3.2.3 (port).
Stricter than these: no comma in a Host, by which proxies join two fields to one (RFC 9110 5.3), and
no address of a future version of IP. A target with an authority must agree with Host, where RFC
9112 3.2.2 would take the target's: applications read Host."""

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
    """Where the next piece of the input ends."""

    __slots__ = ("_before", "_left")

    def __init__(self) -> None:
        self._left = 0
        """Bytes of a body with a length that are still to come."""
        self._before = b""
        """What may be the beginning of a blank line, from the piece before."""

    def sized(self, size: int) -> None:
        """A body of so many bytes follows."""
        self._left = size

    def end_of_piece(self, data: bytes, at: int) -> int:
        """Where the piece ends that begins at `at`, which the parser gets next.

        Args:
            data: What came.
            at: Less than its length.
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
    """Why a request is refused for the host that it names; None if it is not.

    Args:
        version: Of HTTP: "1.1".
        target: The request's target, as it was sent.
        hosts: The values of all its Host fields.
    """
    if len(hosts) != 1:
        if hosts:
            return "more than one Host"
        return None if version < "1.1" else "no Host"
    host = hosts[0].strip(b" \t")
    # Before the cache, which keeps what it was asked for.
    if len(host) > limits.MAX_HOST_BYTES or not _is_host(host):
        return "not a valid Host"
    if target[:1] != b"/":
        absolute = _ABSOLUTE.match(target)
        if absolute is not None and absolute[1].lower() != host.lower():
            return "a Host that is not the target's"
    return None


@lru_cache(maxsize=256)
def _is_host(host: bytes) -> bool:
    # Empty is what a client sends whose URL has no host.
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


# Bodies behind an offer ---------------------------------------------------------------------------

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
    """The part of a head that says where the body ends.

    A CONNECT has no body: what follows is for the other end of a tunnel.
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
    """The bytes of the body that a head announces; 0 where it gives no length.

    Args:
        method: As the parser gives it.
        target: As it was sent.
        version: Of HTTP: "1.0" or "1.1".
        headers: With names in lower case.
        is_ignored_offer: It offers another protocol, which is not taken.

    Raises:
        ValueError: This is not HTTP; says why.
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
        reason = "HTTP/1.0 has no chunks"  # RFC 9112 6.1: whoever sent it reads it otherwise
    # The parser looks at codings only when it has told us of the head, and the application would be
    # called by then; behind an offer it looks at nothing.
    if reason is None and (is_coded or is_ignored_offer):
        reason = _why_no_end(head_of_body(method, headers))
    if reason is not None:
        raise ValueError(reason)
    return size


class _Nobody:
    """Is told nothing."""


def _why_no_end(head: bytes) -> str | None:
    """Why nobody knows where the body of such a head ends; None if it is known."""
    try:
        httptools.HttpRequestParser(_Nobody()).feed_data(head)
    except httptools.HttpParserError as error:
        return str(error)
    return None


# Turns --------------------------------------------------------------------------------------------


class Turns:
    """The queue of one event loop.

    Args:
        loop: The event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._call_soon = loop.call_soon
        self._waiting: deque[Callable[[], None]] = deque()

    def add(self, go_on: Callable[[], None]) -> None:
        """Call when its turn has come; it adds itself again if it has more to do."""
        self._waiting.append(go_on)
        if len(self._waiting) == 1:
            self._call_soon(self._run)

    def _run(self) -> None:
        ends = monotonic() + 2 * limits.INPUT_TURN
        # Those that add themselves while this runs have their turn in a later one.
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
