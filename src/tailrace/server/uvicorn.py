"""uvicorn's HTTP protocol, extended with what files and streams need.

`internals.py` says what is used of uvicorn's internals. Nothing is patched, and no cycle is
replaced: the application is called with a `send` of ours, which does what uvicorn's cannot and
hands everything else on to uvicorn's.

A table of states (`states`) says what a connection does next, and this file does it. So requests
are parsed and answered one after another, no upgrade happens while a response is open, and the
input that is kept for later has a bound.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import httptools
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from tailrace import limits
from tailrace.connection import ATTACH, CONNECTION
from tailrace.server import states
from tailrace.server.closing import Lingering, Shutdown, end_soon
from tailrace.server.extensions import Extensions, ResponseConnection
from tailrace.server.internals import CycleResponse, CycleTransport, Flow, is_known
from tailrace.server.options import ServerOptions
from tailrace.server.parsing import (
    FRAMING,
    Boundaries,
    check_head,
    head_of_body,
    parser_of_body,
    turns_of,
)
from tailrace.server.peer import PeerWatch, ResponseProgress
from tailrace.server.response import ResponseSender
from tailrace.server.states import ConnectionEvent, ConnectionState
from tailrace.server.write_buffer import WriteBuffer

__all__ = ["HttpProtocol"]

# asyncio reads into a new block of 256 KiB each time, which glibc has the kernel map and unmap: up
# to 50 µs for each request. Once a larger mapped block was freed, glibc takes such blocks from its
# heap (`mallopt(3)`, M_MMAP_THRESHOLD). Most applications free one when they are imported; this
# line makes sure of it.
bytes(1024 * 1024)

_REFUSAL = b"HTTP/1.1 %s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_LONG = _REFUSAL % b"431 Request Header Fields Too Large"
_OTHER_VERSION = _REFUSAL % b"505 HTTP Version Not Supported"


_shutdowns: WeakKeyDictionary[ServerState, Shutdown] = WeakKeyDictionary()


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's httptools protocol that also offers, in `scope["extensions"]`:

    * `http.response.pathsend` and `http.response.zerocopysend`, as ASGI defines them, to a caller
      whose `send` leads straight here (see `extensions`);
    * `tailrace.attach` and `tailrace.connection`, as `tailrace.connection` describes them.

    At shutdown open streams are told to end, and what is open after `options.drain_timeout` is cut.
    A request's head is bounded in bytes and time (`limits.MAX_HEAD_BYTES`, `limits.HEAD_TIMEOUT`).
    With a uvicorn that was not tested, and on Windows, it logs a warning once, and does only what
    uvicorn's protocol does.
    """

    options: ClassVar[ServerOptions] = ServerOptions.from_environment()
    """The settings, read from the environment at import; a subclass may have others."""

    buffer: WriteBuffer | None = None

    _fed = 0
    """Bytes parsed since the last request, or the last bytes of a body: all that is not body."""
    _head_timer: asyncio.TimerHandle | None = None
    """Runs while the head of a request is waited for."""
    _state: ConnectionState = states.HEAD
    _unread = b""
    _unread_at = 0
    """Input that is kept to be parsed later: `_unread`, from this offset on."""
    _asked_at = 0.0
    """The loop's time when the last request was complete."""
    _lingering: Lingering | None = None
    """Set while the state is one that lingers."""
    _peer: PeerWatch | None = None
    """Made when it is needed: it refers to us, and most connections do not need it."""
    flow: Flow

    @staticmethod
    def tells_streams() -> bool:
        """Whether `shutdown` tells the open streams, so that they need not watch the server."""
        return is_known()

    @property
    def app(self) -> ASGIApp:
        """The application, with a `send` of ours around each request."""
        # A new bound method each time: a stored one would make a reference cycle.
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
                # uvicorn learns it a turn of the loop later, and would log an error till then.
                cycle.disconnected = True
            # The scope and what it offers refer to each other.
            del extensions[ATTACH], extensions[CONNECTION]

    # asyncio's protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(transport)
        self.flow = Flow(transport)
        if is_known():
            self.buffer = WriteBuffer(transport, self.loop)
            self._boundaries = Boundaries()
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
        if self.buffer is None or self._state is not states.ANSWERING:
            return False  # no answer is waited for, or the rest of a request will never come
        if self.buffer.encrypted:
            return False  # under TLS one side cannot end alone
        self._peer_watch.ended(self._asked_at)
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

    # The states of the connection

    def _move(self, event: ConnectionEvent) -> None:
        """Go to the state after an event; start or stop lingering as that state needs."""
        assert self.buffer is not None
        self._state = state = states.after(self._state, event)
        if state.lingers:
            self._unset_keepalive_if_required()
            self._stop_watching()
            if state is states.CLOSING and self.buffer.encrypted:
                self._close()  # under TLS one side cannot end alone, and the client waits for it
                return
            if self._lingering is None:
                self._lingering = Lingering(self.loop, self.transport, self._close)
            if state is not states.LINGERING:
                self._lingering.end_our_side()
        elif self._lingering is not None:
            self._stop_lingering()

    def _end(self, event: ConnectionEvent = ConnectionEvent.LAST) -> None:
        """End the connection after the answers: at once or, if input is unread, in two steps.

        A connection that is closed while input still comes is reset, and a reset overtakes answers.
        So if input is unread, only our side ends now, and the client's later (`Lingering`).
        """
        if self.transport.is_closing():
            return
        is_read = event is ConnectionEvent.LAST and not self._unread and not self.flow.read_paused
        is_all_here = self._state is states.HEAD or self._state is states.ANSWERING
        if is_all_here and (is_read or self._has_ended):
            self._close()
        else:
            self._move(event)

    def _close(self) -> None:
        """Close the connection, once what was written has left."""
        # With Python 3.11, a TLS transport that is closed twice forgets its connection.
        if not self.transport.is_closing():
            self.transport.close()
        self._closes()

    def _closes(self) -> None:
        """Make sure that a connection that is closing also ends, whoever closed it."""
        if self.buffer is not None and self.transport.is_closing():
            end_soon(self.buffer, self.transport, self.loop)

    # The input, one request at a time

    def _take(self, data: bytes, at: int = 0) -> None:
        """Parse input up to the end of a request; what follows is kept until that is answered.

        After `limits.INPUT_TURN` other connections have their turn: a client may send chunks of one
        byte, each of which is a call.
        """
        ends = 0.0
        while at < len(data) and self._state is not states.CLOSING:
            if self._state is states.ANSWERING:
                self._keep(data, at)
                break
            if not ends:
                ends = monotonic() + limits.INPUT_TURN
            elif monotonic() >= ends:
                self._unread, self._unread_at = data, at
                self.flow.hold()
                turns_of(self.loop).add(self._go_on)
                break
            end = self._boundaries.end_of_piece(data, at)
            piece = data[at:end] if end - at < len(data) else data
            self._feed(piece, is_last=end == len(data))
            if self.buffer is None or self.transport.is_closing():
                return
            at = end
        if self._state is states.HEAD:
            self._watch_head()
        elif self._state is states.CLOSING:
            if self._lingering is not None:  # without it, TLS gives what it still had, and closes
                self._lingering.throw_away(len(data) - at)
        else:
            self._stop_watching()

    def _feed(self, piece: bytes, *, is_last: bool) -> None:
        """Parse a piece; refuse it if it is not HTTP, or makes the head too long."""
        self._fed += len(piece)
        try:
            self._parse(piece, is_last=is_last)
        except httptools.HttpParserError:
            if not self.transport.is_closing() and self._state is not states.CLOSING:
                self.logger.warning("Invalid HTTP request received.")
                self.send_400_response("Invalid HTTP request received.")
        if self._fed > limits.MAX_HEAD_BYTES:
            self._refuse(_TOO_LONG)

    def _parse(self, piece: bytes, *, is_last: bool) -> None:
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            if self.transport.is_closing() or self._state is states.CLOSING:
                return  # its head was refused
            if not self._should_upgrade():
                self._ignore_upgrade()
            elif is_last:
                self.handle_websocket_upgrade()
            else:
                # A client waits for the answer to its handshake (RFC 6455 4.1).
                self.send_400_response("Bytes after a handshake.")

    def _keep(self, data: bytes, at: int = 0) -> None:
        """Keep input that cannot be parsed yet, and read no more if it is much."""
        self._unread, self._unread_at = data, at
        if len(data) - at > limits.MAX_PIPELINED_BYTES and not self.flow.held:
            self.flow.hold()
            self._peer_watch.paused(self._asked_at)

    def _go_on(self) -> None:
        """Parse more of the input that is kept: it is this connection's turn."""
        if self.buffer is None or self.transport.is_closing() or not self._unread:
            return
        if self._state is states.ANSWERING:
            return  # `on_response_complete` parses it
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
        if self._peer is not None:
            self._peer.over()
        if not self.transport.is_closing():
            if self.cycle.keep_alive:
                self._move(ConnectionEvent.ANSWERED)
            else:
                self._end()
        self.flow.let_go()
        super().on_response_complete()
        data, at, self._unread = self._unread, self._unread_at, b""
        if self.transport.is_closing():
            self._closes()
            return
        if data or self._state.lingers:
            self._unset_keepalive_if_required()
        if data:
            self._take(data, at)
        self._look_at_end()

    def _look_at_end(self) -> None:
        """Close, if the client has ended its side and has sent no request before that."""
        if not self._has_ended or self.transport.is_closing():
            return
        if self._state is states.ANSWERING:
            self._peer_watch.ended(self._asked_at)
        elif not self._unread:  # or it waits for its turn to be parsed
            self._close()

    def _come_between(self, cycle: RequestResponseCycle) -> None:
        """Give the cycle a transport whose `close` calls `_cycle_closes`."""
        if cycle.transport is self.transport:
            cycle.transport = CycleTransport(self.transport, self._cycle_closes)  # type: ignore[assignment] # all that a cycle uses

    def _cycle_closes(self, by: CycleTransport) -> None:
        if by is not self.cycle.transport:  # type: ignore[comparison-overlap] # see `_come_between`
            return  # its response is complete, and the connection serves another one by now
        if not self.cycle.response_complete:
            self._close()  # the application failed within its response, which cannot be ended well
        elif not self._state.is_open:
            self._end()  # it failed after its response
        # Otherwise it was the last response, and `on_response_complete` is called next.

    def _stop_lingering(self) -> None:
        lingering, self._lingering = self._lingering, None
        if lingering is not None:
            lingering.stop()

    @property
    def _has_ended(self) -> bool:
        """The client has ended its side."""
        return self._peer is not None and self._peer.has_ended

    @property
    def _peer_watch(self) -> PeerWatch:
        assert self.buffer is not None
        if self._peer is None:
            self._peer = PeerWatch(self.buffer, self.loop, self.transport, self._progress)
        return self._peer

    def _progress(self) -> ResponseProgress:
        """How far the open response is."""
        assert self.buffer is not None
        cycle = self.cycle
        return ResponseProgress(
            started=cycle.response_started,
            endless=cycle.chunked_encoding is not False,
            acknowledged=self.buffer.progress,
            may_probe=cycle.scope["http_version"] == "1.1",
        )

    # The parser's calls

    def on_message_begin(self) -> None:
        if self.buffer is not None and self._state.is_open:
            raise RuntimeError("a request was parsed before the one ahead of it was answered")
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self.buffer is None:
            super().on_headers_complete()
            return
        version = self.parser.get_http_version()
        if version not in ("1.0", "1.1"):
            self._refuse(_OTHER_VERSION)
            return
        upgrades = self.parser.should_upgrade()
        is_offer = upgrades and not self._should_upgrade()
        method = self.parser.get_method()
        size = check_head(method, self.url, version, self.headers, is_ignored_offer=is_offer)
        if size:
            self._boundaries.sized(size)
        if version == "1.0":
            self.expect_100_continue = False  # HTTP/1.0 has no such answer (RFC 9110 10.1.1)
        if is_offer:
            self._begin()
        elif upgrades:
            super().on_headers_complete()
        else:
            self._begin()
            # The parser reports trailers as header fields, which are not the request's.
            self.headers = []

    def _begin(self) -> None:
        """Have uvicorn call the application."""
        self._move(ConnectionEvent.HEAD)
        try:
            super().on_headers_complete()
        except BaseException:
            self._state = states.HEAD  # it was not called: the target is not valid
            raise
        self._come_between(self.cycle)

    def on_body(self, body: bytes) -> None:
        if self._state is states.CLOSING:
            return
        self._fed = 0
        if self._lingering is not None:
            self._lingering.came += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._fed = 0
        if self.buffer is None:
            super().on_message_complete()
            return
        if self.parser.should_upgrade():
            return  # the parser takes what follows for bytes of another protocol
        if self.transport.is_closing() or self._state is states.CLOSING:
            return
        self._asked_at = self.loop.time()
        super().on_message_complete()
        self._move(ConnectionEvent.REQUEST)

    # Upgrades

    def _should_upgrade(self) -> bool:
        """Whether to change to WebSocket: only for a GET without a body (RFC 6455 4.1)."""
        if self.buffer is not None:
            framed = any(name in FRAMING for name, _ in self.headers)
            what = self.parser.get_method(), self.parser.get_http_version()
            if framed or what != (b"GET", "1.1") or self._has_ended:
                return False
        return super()._should_upgrade()

    def _ignore_upgrade(self) -> None:
        """Go on with the request, and with its body, as if it offered no other protocol."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self.cycle.keep_alive = False
        head = head_of_body(method, self.headers)
        self.parser = parser_of_body(self.on_body, self.body_complete)
        self.parser.feed_data(head)

    def body_complete(self) -> None:
        """Note that a request whose upgrade was not taken is complete."""
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        if self.buffer is not None:
            self._forget()
            # Another protocol has the connection now: for all that still refer to it, it is lost.
            self.buffer.lose()
            self.buffer = None
            self.transport.set_write_buffer_limits()  # asyncio's own
        super().handle_websocket_upgrade()

    # A head is bounded in bytes and time; uvicorn has no bound. Both are checked once for each
    # piece, so they cost an ordinary request, which is one piece, next to nothing.

    def _watch_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(limits.HEAD_TIMEOUT, self._end)

    def _stop_watching(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, answer: bytes) -> None:
        """Answer input that is not a valid request, and end; in an open response, only close."""
        if self._state.is_open:
            self._close()
            return
        # If the input is in the body of a request that was answered, a second status line would be
        # taken for the next answer.
        if not self._state.lingers and not self.transport.is_closing():
            self.transport.write(answer)
        self._end(ConnectionEvent.BROKEN)

    def timeout_keep_alive_handler(self) -> None:
        if self.buffer is None:
            super().timeout_keep_alive_handler()
        else:
            self._end()

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
        """Stop what runs for the connection: it is lost, or another protocol has it."""
        self._stop_watching()
        self._stop_lingering()
        if self._peer is not None:
            self._peer.over()
            self._peer = None
        if self.cycle is not None and isinstance(self.cycle.transport, CycleTransport):
            self.cycle.transport.end()
        self._unread = b""

    # uvicorn's protocol

    def shutdown(self) -> None:
        if self.buffer is None or self._state.is_open:
            super().shutdown()
        else:
            self._end()
        if self.buffer is None:
            return
        self._closes()
        shutdown = _shutdowns.get(self.server_state)
        if shutdown is None:
            connections = self.server_state.connections
            shutdown = Shutdown(lambda: _buffers(connections), self.server_state.tasks)
            _shutdowns[self.server_state] = shutdown
        shutdown.begin(self.options.drain_within(self.config.timeout_graceful_shutdown))


def _buffers(connections: set[Any]) -> list[WriteBuffer]:
    mine = (each.buffer for each in connections if isinstance(each, HttpProtocol))
    return [buffer for buffer in mine if buffer is not None]
