"""uvicorn's HTTP protocol, with what files and streams need. It and `cycle` know uvicorn.

What is used of it: that the protocol calls `self.app(scope, receive, send)` with bound methods of
its request-response cycle; the cycle's attributes that are named in `_CYCLE`; that the cycle waits
for `flow.drain()` before it writes. Nothing is patched and no cycle is replaced: the application is
called with a `send` of ours, which does what uvicorn cannot and hands all else on to uvicorn's.

What came of a connection is in one of these states, by what its last request is doing:

| state | its request | its response | what comes next |
|---|---|---|---|
| head | none, or all of it is here | complete | is parsed; a head has an end |
| body | its body is coming | open | is parsed, as far as the body goes |
| lingering | its body is coming | complete | is parsed, as far as the body goes, for a while |
| answering | all of it is here | open | is kept as it is, and not parsed |
| closing | all of it is here | complete, and the last | is thrown away, for a while |

So requests are parsed and answered one after another (`borders`), an upgrade meets no open
response, and what is kept for later has a bound.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from functools import cache
from time import monotonic
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import httptools
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from tailrace import limits
from tailrace.connection import ATTACH, CONNECTION
from tailrace.server.borders import Borders
from tailrace.server.connection import ResponseConnection
from tailrace.server.cycle import CycleResponse, CycleTransport
from tailrace.server.encrypted import end_soon
from tailrace.server.extensions import Extensions
from tailrace.server.hosts import why_no_host
from tailrace.server.lingering import Lingering
from tailrace.server.offers import FRAMING, head_of_body, parser_of_body, why_no_end
from tailrace.server.options import ServerOptions
from tailrace.server.peer import PeerWatch
from tailrace.server.sender import ResponseSender
from tailrace.server.shutdown import Shutdown
from tailrace.server.turns import turns_of
from tailrace.server.write_buffer import WriteBuffer

__all__ = ["HttpProtocol", "why_unknown"]

_log = logging.getLogger("tailrace")

OLDEST = (0, 40)
NEWEST = (0, 54)
"""The minor versions between which this file is tested, both included."""

_CYCLE = frozenset(
    {
        *("chunked_encoding", "disconnected", "expected_content_length", "flow", "keep_alive"),
        *("more_body", "response_complete", "response_started", "scope", "transport"),
        "waiting_for_100_continue",
    }
)
_PROTOCOL = frozenset(
    {"app", "connections", "cycle", "loop", "scope", "server_state", "tasks", "transport"}
)
_REFUSAL = b"HTTP/1.1 %s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_LONG = _REFUSAL % b"431 Request Header Fields Too Large"
_OTHER_VERSION = _REFUSAL % b"505 HTTP Version Not Supported"


def why_unknown(version: str = uvicorn.__version__) -> str | None:
    """Why this is not a uvicorn and a system that are known here; None if they are."""
    if not hasattr(os, "sendfile"):
        return "it runs on Windows"
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is None or not OLDEST <= (int(numbers[1]), int(numbers[2])) <= NEWEST:
        oldest, newest = (".".join(map(str, end)) for end in (OLDEST, NEWEST))
        return f"it is {version}, tested are {oldest} to {newest}"
    made = (
        (HttpToolsProtocol, _PROTOCOL),
        (RequestResponseCycle, _CYCLE),
        (FlowControl, frozenset({"write_paused"})),
    )
    for kind, names in made:
        missing = names - set(kind.__init__.__code__.co_names)
        if missing:
            return f"its {kind.__name__} has no {', '.join(sorted(missing))}"
    return None


@cache
def _is_known() -> bool:
    reason = why_unknown()
    if reason is not None:
        _log.warning(
            "this uvicorn is not known to tailrace.server (%s): it works as plain uvicorn does, "
            "without zero copy, attached streams and drain at shutdown",
            reason,
        )
    return reason is None


_shutdowns: WeakKeyDictionary[ServerState, Shutdown] = WeakKeyDictionary()


class _Flow(FlowControl):
    """uvicorn's flow control, which an application's `receive` cannot resume while it is held."""

    held = False
    asked = False
    """uvicorn wants nothing to be read: the body of a request is much already."""

    def hold(self) -> None:
        self.held = True
        super().pause_reading()

    def let_go(self) -> None:
        self.held = False

    def pause_reading(self) -> None:
        self.asked = True
        super().pause_reading()

    def resume_reading(self) -> None:
        self.asked = False
        self.resume_unless_asked()

    def resume_unless_asked(self) -> None:
        if not (self.held or self.asked):
            super().resume_reading()


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's httptools protocol that also offers, in `scope["extensions"]`:

    * `http.response.pathsend` and `http.response.zerocopysend`, as ASGI defines them, to who asks
      with a `send` that leads here (see `extensions`);
    * `tailrace.attach` and `tailrace.connection`, as `tailrace.pump` describes them.

    At shutdown it tells the open streams, and cuts what has not ended within
    `options.drain_timeout`. A request's head has an end, in bytes and in time. Under a uvicorn that
    it does not know, and on Windows, it says so once, and is the plain protocol.
    """

    options: ClassVar[ServerOptions] = ServerOptions.from_environment()
    """The settings, from the environment; a subclass may have others."""

    buffer: WriteBuffer | None = None

    _fed = 0
    """Bytes that came since a request was complete, or since the last of its body."""
    _head_timer: asyncio.TimerHandle | None = None
    """Runs while a head is waited for."""
    _in_message = False
    """A request has begun, and not all of it is here."""
    _unread = b""
    _unread_at = 0
    """What came behind a request that is being answered."""
    _asked_at = 0.0
    """When the last request was complete."""
    _is_last = False
    """The connection ends with the response that was just completed."""
    _lingering: Lingering | None = None
    """Runs while something is read behind a complete response."""
    _between: CycleTransport | None = None
    """What the last request's cycle has for our transport."""
    _peer: PeerWatch | None = None
    """Made when it is needed: it refers to us, and most connections read all the while."""
    flow: _Flow

    @staticmethod
    def tells_streams() -> bool:
        """Whether `shutdown` tells the open streams, so that nobody needs to watch the server."""
        return _is_known()

    @property
    def app(self) -> ASGIApp:
        # Made anew each time: kept, it would be a reference cycle for each connection.
        return self._serve if self.buffer is not None else self._app

    @app.setter
    def app(self, app: ASGIApp) -> None:
        self._app = app

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> Any:
        assert self.buffer is not None
        cycle: RequestResponseCycle = receive.__self__  # type: ignore[attr-defined] # bound to it
        self._come_between(cycle)
        response = CycleResponse(cycle)
        sender = ResponseSender(response, self.buffer, self.loop, self.options, scope)
        connection = ResponseConnection(self.buffer, sender.send)
        extensions = scope["extensions"] = Extensions(
            {**(scope.get("extensions") or {}), ATTACH: sender, CONNECTION: connection}
        )
        try:
            return await self._app(scope, receive, sender.send)
        finally:
            connection.end()
            if self.transport.is_closing():
                # Known to uvicorn a turn of the loop later, and told as a fault of the application.
                cycle.disconnected = True
            # The scope and what it offers refer to each other.
            del extensions[ATTACH], extensions[CONNECTION]

    # asyncio's protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(transport)
        self.flow = _Flow(transport)
        if _is_known():
            self.buffer = WriteBuffer(transport, self.loop)
            self._borders = Borders()
            self._watch_head()

    def data_received(self, data: bytes) -> None:
        if self.buffer is None:
            super().data_received(data)
            return
        self._unset_keepalive_if_required()
        if self._unread:
            self._keep(self._unread[self._unread_at :] + data)
        else:
            self._take(data)

    def eof_received(self) -> bool:  # type: ignore[override] # uvicorn's gives None: close
        if self.buffer is None or not self._is_open or self._in_message:
            return False  # nobody waits for an answer, or the rest of a request will never come
        if self.buffer.encrypted:
            return False  # TLS has no half of a connection
        self._watched.ended(self._asked_at)
        return not self.transport.is_closing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.buffer is not None:
            self.buffer.lose()
            self._forget()
        super().connection_lost(exc)
        if self.buffer is not None:
            shutdown = _shutdowns.get(self.server_state)
            if shutdown is not None:
                shutdown.connection_lost()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.buffer is not None:
            self.buffer.pause()

    def resume_writing(self) -> None:
        if self.buffer is None or self.buffer.resume():
            super().resume_writing()

    # The input, one request at a time

    @property
    def _is_open(self) -> bool:
        """A request is here, in part at least, and its response is not complete."""
        return self.cycle is not None and not self.cycle.response_complete

    def _take(self, data: bytes, at: int = 0) -> None:
        """Parse what came, up to the end of a request that is to be answered first.

        A client may send pieces of a byte, each a call. So others have their turn in between.
        """
        ends = 0.0
        while at < len(data) and not self._is_closing:
            if self._is_open and not self._in_message:
                self._keep(data, at)
                break
            if not ends:
                ends = monotonic() + limits.INPUT_TURN
            elif monotonic() >= ends:
                self._unread, self._unread_at = data, at
                self.flow.hold()
                turns_of(self.loop).add(self._go_on)
                break
            end = self._borders.end_of_piece(data, at)
            piece = data[at:end] if end - at < len(data) else data
            self._feed(piece, is_last=end == len(data))
            if self.buffer is None or self.transport.is_closing():
                return
            at = end
        if self._lingering is not None and self._is_closing:
            self._lingering.throw_away(len(data) - at)
        elif self._is_open or self._lingering is not None:
            self._stop_watching()
        else:
            self._watch_head()

    @property
    def _is_closing(self) -> bool:
        """The last response is complete, and so is its request."""
        return self._lingering is not None and not self._in_message

    def _feed(self, piece: bytes, *, is_last: bool) -> None:
        """Have a piece parsed."""
        self._fed += len(piece)
        try:
            self._parse(piece, is_last=is_last)
        except httptools.HttpParserError:
            if not (self.transport.is_closing() or self._is_closing):
                self.logger.warning("Invalid HTTP request received.")
                self.send_400_response("Invalid HTTP request received.")
        if self._fed > limits.MAX_HEAD_BYTES:
            self._refuse(_TOO_LONG)

    def _parse(self, piece: bytes, *, is_last: bool) -> None:
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            if not self._should_upgrade():
                self._ignore_upgrade()
            elif is_last:
                self.handle_websocket_upgrade()
            else:
                # A client waits for the answer to its handshake (RFC 6455 4.1).
                self.send_400_response("Bytes behind a handshake.")

    def _keep(self, data: bytes, at: int = 0) -> None:
        """Keep what came for when its turn comes, and read no more if it is much."""
        self._unread, self._unread_at = data, at
        if len(data) - at > limits.MAX_PIPELINED_BYTES and not self.flow.held:
            self.flow.hold()
            self._watched.paused(self._asked_at)

    def _go_on(self) -> None:
        """Parse more of what is kept: it is this connection's turn."""
        if self.buffer is None or self.transport.is_closing() or not self._unread:
            return
        if self._is_open and not self._in_message:
            return  # `on_response_complete` takes it up
        data, at, self._unread = self._unread, self._unread_at, b""
        self._take(data, at)
        if not self._unread:
            self.flow.let_go()
        if self.buffer is not None:
            self._look_at_end()
            self.flow.resume_unless_asked()

    def on_response_complete(self) -> None:
        if self.buffer is None:
            super().on_response_complete()
            return
        peer = self._peer
        if peer is not None:
            peer.over()
        has_more = self.flow.held or self.flow.asked
        self.flow.let_go()
        super().on_response_complete()
        data, at, self._unread = self._unread, self._unread_at, b""
        is_last, self._is_last = self._is_last, False
        if self.transport.is_closing():
            self._closes()
            return
        if self._in_message:
            self._linger(is_last)
        elif is_last and (data or has_more):
            self._end()
        elif is_last:
            self._close()
            return
        if data:
            self._unset_keepalive_if_required()
            self._take(data, at)
        self._look_at_end()

    def _look_at_end(self) -> None:
        """See whether a client that has ended its side had asked for more before."""
        if not self._has_ended or self.transport.is_closing():
            return
        if self._is_open and not self._in_message:
            self._watched.ended(self._asked_at)
        elif not self._unread:  # or it waits for its turn to be parsed
            self._close()

    def _come_between(self, cycle: RequestResponseCycle) -> None:
        """Have all that a cycle closes closed here."""
        if cycle.transport is self.transport:
            self._between = CycleTransport(self.transport, self._cycle_closes)
            cycle.transport = self._between  # type: ignore[assignment] # all that a cycle uses

    def _cycle_closes(self, by: CycleTransport) -> None:
        if by is not self._between:
            return  # its response is complete, and the connection is another's by now
        if self._lingering is not None:
            self._lingering.close()
        elif self.cycle.response_complete and not self.cycle.keep_alive:
            self._is_last = True  # our turn comes next: `on_response_complete`
        else:
            self._close()  # the application has failed

    def _end(self) -> None:
        """Close behind an answer: our side now, and all when the client has seen that.

        A close resets a connection on which something still comes, and a reset overtakes answers.
        """
        assert self.buffer is not None
        self._in_message = False
        if self._lingering is not None:
            self._lingering.close()
        elif self._has_ended or self.buffer.encrypted:
            self._close()
        elif not self.transport.is_closing():
            self._stop_watching()
            self._linger(is_last=True)

    def _linger(self, is_last: bool) -> None:
        self._unset_keepalive_if_required()
        self._lingering = Lingering(self.loop, self.transport, self._close, is_last=is_last)

    def _stop_lingering(self) -> None:
        lingering, self._lingering = self._lingering, None
        if lingering is not None:
            lingering.stop()

    @property
    def _has_ended(self) -> bool:
        """The client has ended its side."""
        return self._peer is not None and self._peer.has_ended

    @property
    def _watched(self) -> PeerWatch:
        assert self.buffer is not None
        if self._peer is None:
            self._peer = PeerWatch(self.buffer, self.loop, self.transport, self._response_state)
        return self._peer

    def _response_state(self) -> tuple[bool, bool, bool]:
        cycle = self.cycle
        endless = cycle.chunked_encoding is not False
        return cycle.response_started, endless, cycle.scope["http_version"] == "1.1"

    # The parser's calls

    def on_message_begin(self) -> None:
        if self.buffer is not None:
            if self._is_open:
                raise RuntimeError("a request was parsed before the one ahead of it was answered")
            self._in_message = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self.buffer is None:
            super().on_headers_complete()
            return
        version = self.parser.get_http_version()
        if version not in ("1.0", "1.1"):
            self._refuse(_OTHER_VERSION)
            return
        self._check_head(version)
        if version == "1.0":
            self.expect_100_continue = False  # it knows no such answer (RFC 9110 10.1.1)
        super().on_headers_complete()
        if self.cycle is not None:
            self._come_between(self.cycle)
        if not self.parser.should_upgrade():
            # Trailers, which the parser tells as it tells fields, are none of the request's.
            self.headers = []

    def _check_head(self, version: str) -> None:
        hosts = []
        is_coded = False
        for name, value in self.headers:
            if name == b"host":
                hosts.append(value)
            elif name == b"transfer-encoding":
                is_coded = True
            elif name == b"content-length":
                self._borders.sized(int(value))  # the parser has checked it
        reason = why_no_host(version, self.url, hosts) or self._why_no_end(version, is_coded)
        if reason is not None:
            raise ValueError(reason)  # to the parser: this is no HTTP, and answered as such

    def _why_no_end(self, version: str, is_coded: bool) -> str | None:
        """Why nobody knows where the request's body ends; None if it is known."""
        if version == "1.0" and is_coded:
            return "HTTP/1.0 has no chunks"  # RFC 9112 6.1: whoever sent it reads it otherwise
        # The parser looks at codings only when it has told us of the head, and the application
        # would be called by then; behind an offer it looks at nothing.
        if is_coded or (self.parser.should_upgrade() and not self._should_upgrade()):
            return why_no_end(head_of_body(self.parser.get_method(), self.headers))
        return None

    def on_body(self, body: bytes) -> None:
        if self._is_closing:
            return
        self._fed = 0
        if self._lingering is not None:
            self._lingering.came += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.buffer is not None:
            if self.parser.should_upgrade() and not self._should_upgrade():
                return  # the parser takes what follows for bytes of another protocol
            if self.transport.is_closing() or self._is_closing:
                return
            self._in_message = False
            self._asked_at = self.loop.time()
        self._fed = 0
        super().on_message_complete()
        if self._lingering is not None and not self._lingering.is_last:
            self._stop_lingering()

    # Upgrades

    def _should_upgrade(self) -> bool:
        """A handshake for a WebSocket is a GET without a body (RFC 6455 4.1); all else is not."""
        if self.buffer is not None:
            framed = any(name in FRAMING for name, _ in self.headers)
            what = self.parser.get_method(), self.parser.get_http_version()
            if framed or what != (b"GET", "1.1") or self._has_ended:
                return False
        return super()._should_upgrade()

    def _ignore_upgrade(self) -> None:
        """Answer the request as one that offers nothing, body and all."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self.cycle.keep_alive = False
        head = head_of_body(method, self.headers)
        self.parser = parser_of_body(self.on_body, self.body_complete)
        self.parser.feed_data(head)

    def body_complete(self) -> None:
        """A request whose upgrade was not taken is all here."""
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        if self.buffer is not None:
            self._forget()
            # It is another protocol's now: gone for everyone who may still hold it.
            self.buffer.lose()
            self.buffer = None
            self.transport.set_write_buffer_limits()  # asyncio's own
        super().handle_websocket_upgrade()

    # A head has an end. uvicorn has no bound for one, and waits for it for ever. Both are looked at
    # once for each piece, so that an ordinary request, which is one, pays next to nothing.

    def _watch_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(limits.HEAD_TIMEOUT, self._close)

    def _stop_watching(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, answer: bytes) -> None:
        """Answer what is no request that can be taken, unless one is being answered, and close."""
        if self._is_open:
            self._close()
        elif not self.transport.is_closing():
            # A second status line, for what came in the body of a request that was answered, would
            # be taken for the next answer.
            if self._lingering is None:
                self.transport.write(answer)
            self._end()

    def _close(self) -> None:
        # Closed a second time, asyncio's TLS of Python 3.11 does not know its connection any more.
        if not self.transport.is_closing():
            self.transport.close()
        self._closes()

    def _closes(self) -> None:
        if self.buffer is not None and self.transport.is_closing():
            end_soon(self.buffer, self.transport, self.loop)

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._closes()

    def send_400_response(self, msg: str) -> None:
        if self.buffer is None:
            super().send_400_response(msg)
            return
        text = msg.encode("ascii")
        fields = [
            *self.server_state.default_headers,
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(text)),
            (b"connection", b"close"),
        ]
        head = b"".join(b"%b: %b\r\n" % field for field in fields)
        self._refuse(b"HTTP/1.1 400 Bad Request\r\n%b\r\n%b" % (head, text))

    def _forget(self) -> None:
        """The connection is lost, or another protocol's."""
        self._stop_watching()
        self._stop_lingering()
        if self._peer is not None:
            self._peer.over()
            self._peer = None
        if self._between is not None:
            self._between.end()
            self._between = None
        self._unread = b""

    # uvicorn's protocol

    def shutdown(self) -> None:
        if self.buffer is None or not self.transport.is_closing():
            super().shutdown()
        if self.buffer is None:
            return
        self._closes()
        shutdown = _shutdowns.get(self.server_state)
        if shutdown is None:
            connections = self.server_state.connections
            shutdown = Shutdown(lambda: _buffers(connections), self.server_state.tasks)
            _shutdowns[self.server_state] = shutdown
        shutdown.begin(self._budget())

    def _budget(self) -> float:
        own, given = self.options.drain_timeout, self.config.timeout_graceful_shutdown
        # When uvicorn's time is up it cancels every task, and streams could not end politely.
        return own if given is None else min(own, max(0.0, given - 0.2))


def _buffers(connections: set[Any]) -> list[WriteBuffer]:
    mine = (each.buffer for each in connections if isinstance(each, HttpProtocol))
    return [buffer for buffer in mine if buffer is not None]
