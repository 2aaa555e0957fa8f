"""uvicorn's HTTP protocol, with what files and streams need.

What is used of uvicorn's insides is said in `internals.py`. Nothing is patched and no cycle is
replaced: the application is called with a `send` of ours, which does what uvicorn cannot and hands
all else on to uvicorn's.

What a connection does next is told by a table of its states (`states`); this file carries it out.
So requests are parsed and answered one after another, an upgrade meets no open response, and what
is kept for later has a bound.
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

# asyncio reads into a new block of 256 KiB each time. glibc has the kernel map such a block and
# take it back, up to 50 µs for each request, until a mapped block has been freed that was larger:
# from then on it takes what is not larger from its heap (`mallopt(3)`, M_MMAP_THRESHOLD). Most
# applications free one when they are imported; this makes sure of it.
bytes(1024 * 1024)

_REFUSAL = b"HTTP/1.1 %s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_LONG = _REFUSAL % b"431 Request Header Fields Too Large"
_OTHER_VERSION = _REFUSAL % b"505 HTTP Version Not Supported"


_shutdowns: WeakKeyDictionary[ServerState, Shutdown] = WeakKeyDictionary()


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's httptools protocol that also offers, in `scope["extensions"]`:

    * `http.response.pathsend` and `http.response.zerocopysend`, as ASGI defines them, to one that
      asks with a `send` that leads here (see `extensions`);
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
    _state: ConnectionState = states.HEAD
    _unread = b""
    _unread_at = 0
    """What came behind a request that is being answered."""
    _asked_at = 0.0
    """When the last request was complete."""
    _lingering: Lingering | None = None
    """Runs while the state is one that lingers."""
    _peer: PeerWatch | None = None
    """Made when it is needed: it refers to us, and most connections read all the while."""
    flow: Flow

    @staticmethod
    def tells_streams() -> bool:
        """Whether `shutdown` tells the open streams, so that nobody needs to watch the server."""
        return is_known()

    @property
    def app(self) -> ASGIApp:
        """The application, with a `send` of ours around each request."""
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
            return False  # nobody waits for an answer, or the rest of a request will never come
        if self.buffer.encrypted:
            return False  # TLS has no half of a connection
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
        """Go to the state that follows, and begin and end what belongs to a state."""
        assert self.buffer is not None
        self._state = state = states.after(self._state, event)
        if state.lingers:
            self._unset_keepalive_if_required()
            self._stop_watching()
            if state is states.CLOSING and self.buffer.encrypted:
                self._close()  # TLS has no half of a connection, and the client waits for its end
                return
            if self._lingering is None:
                self._lingering = Lingering(self.loop, self.transport, self._close)
            if state is not states.LINGERING:
                self._lingering.end_our_side()
        elif self._lingering is not None:
            self._stop_lingering()

    def _end(self, event: ConnectionEvent = ConnectionEvent.LAST) -> None:
        """End the connection behind what was answered: at once, or in two steps.

        A close resets a connection on which something still comes, and a reset overtakes answers.
        So where something was not read, our side ends now, and all when the client has seen that.
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
        # Closed a second time, asyncio's TLS of Python 3.11 does not know its connection any more.
        if not self.transport.is_closing():
            self.transport.close()
        self._closes()

    def _closes(self) -> None:
        """See that a connection that is closing, whoever closed it, also ends."""
        if self.buffer is not None and self.transport.is_closing():
            end_soon(self.buffer, self.transport, self.loop)

    # The input, one request at a time

    def _take(self, data: bytes, at: int = 0) -> None:
        """Parse what came, up to the end of a request that is to be answered first.

        A client may send pieces of a byte, each a call. So others have their turn in between.
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
            if self._lingering is not None:  # else TLS gives what it still had while it closes
                self._lingering.throw_away(len(data) - at)
        else:
            self._stop_watching()

    def _feed(self, piece: bytes, *, is_last: bool) -> None:
        """Have a piece parsed."""
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
        """Keep what came for when its turn comes, and read no more if it is much."""
        self._unread, self._unread_at = data, at
        if len(data) - at > limits.MAX_PIPELINED_BYTES and not self.flow.held:
            self.flow.hold()
            self._peer_watch.paused(self._asked_at)

    def _go_on(self) -> None:
        """Parse more of what is kept: it is this connection's turn."""
        if self.buffer is None or self.transport.is_closing() or not self._unread:
            return
        if self._state is states.ANSWERING:
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
        """See whether a client that has ended its side had asked for more before."""
        if not self._has_ended or self.transport.is_closing():
            return
        if self._state is states.ANSWERING:
            self._peer_watch.ended(self._asked_at)
        elif not self._unread:  # or it waits for its turn to be parsed
            self._close()

    def _come_between(self, cycle: RequestResponseCycle) -> None:
        """Have all that a cycle closes closed here."""
        if cycle.transport is self.transport:
            cycle.transport = CycleTransport(self.transport, self._cycle_closes)  # type: ignore[assignment] # all that a cycle uses

    def _cycle_closes(self, by: CycleTransport) -> None:
        if by is not self.cycle.transport:  # type: ignore[comparison-overlap] # see `_come_between`
            return  # its response is complete, and the connection is another's by now
        if not self.cycle.response_complete:
            self._close()  # the application has failed within its response: that has no good end
        elif not self._state.is_open:
            self._end()  # it has failed behind its response
        # Or this was the last response, and our turn comes next: `on_response_complete`.

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
            self.expect_100_continue = False  # it knows no such answer (RFC 9110 10.1.1)
        if is_offer:
            self._begin()
        elif upgrades:
            super().on_headers_complete()
        else:
            self._begin()
            # The parser tells trailers as it tells fields; they are not fields of the request.
            self.headers = []

    def _begin(self) -> None:
        """Have the application called."""
        self._move(ConnectionEvent.HEAD)
        try:
            super().on_headers_complete()
        except BaseException:
            self._state = states.HEAD  # it was not: its target is not one
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
            self._head_timer = self.loop.call_later(limits.HEAD_TIMEOUT, self._end)

    def _stop_watching(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, answer: bytes) -> None:
        """Answer what cannot be taken as a request, unless one is being answered, and end."""
        if self._state.is_open:
            self._close()
            return
        # A second status line, for what came in the body of a request that was answered, would be
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
        """The connection is lost, or another protocol's."""
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
