"""uvicorn's HTTP protocol, with what files and streams need. The one file that knows uvicorn.

What is used of it: that the protocol calls `self.app(scope, receive, send)` with bound methods of
its request-response cycle; the cycle's attributes that are named in `_CYCLE`; that the cycle waits
for `flow.drain()` before it writes. Nothing is patched and no cycle is replaced: the application is
called with a `send` of ours, which does what uvicorn cannot and hands all else on to uvicorn's.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from tailrace import limits
from tailrace.pump import ATTACH, CONNECTION
from tailrace.server.connection import ResponseConnection
from tailrace.server.exchange import PATHSEND, ZEROCOPYSEND, Exchange
from tailrace.server.hosts import why_no_host
from tailrace.server.options import ServerOptions
from tailrace.server.outlet import Outlet
from tailrace.server.shutdown import Shutdown

__all__ = ["HttpProtocol", "why_unknown"]

_log = logging.getLogger("tailrace")

OLDEST = (0, 40)
NEWEST = (0, 54)
"""The minor versions between which this file is tested, both included."""

_CYCLE = frozenset(
    {
        *("chunked_encoding", "disconnected", "expected_content_length", "flow"),
        *("response_complete", "response_started", "scope"),
    }
)
_PROTOCOL = frozenset(
    {"app", "connections", "cycle", "loop", "scope", "server_state", "tasks", "transport"}
)
_TOO_LONG = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


def why_unknown(version: str = uvicorn.__version__) -> str | None:
    """Why this uvicorn is not one that is known here; None if it is."""
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


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's httptools protocol that also offers, in `scope["extensions"]`:

    * `http.response.pathsend` and `http.response.zerocopysend`, as ASGI defines them;
    * `tailrace.attach` and `tailrace.connection`, as `tailrace.pump` describes them.

    At shutdown it tells the open streams, and cuts what has not ended within
    `options.drain_timeout`. A request's head has an end, in bytes and in time. Under a uvicorn that
    it does not know it says so once, and is the plain protocol.
    """

    options: ClassVar[ServerOptions] = ServerOptions.from_environment()
    """The settings, from the environment; a subclass may have others."""

    outlet: Outlet | None = None

    _fed = 0
    """Bytes that came since a request was complete, or since the last of its body."""
    _head_timer: asyncio.TimerHandle | None = None
    """Runs while a head is waited for."""

    @property
    def app(self) -> ASGIApp:
        # Made anew each time: kept, it would be a reference cycle for each connection.
        return self._serve if self.outlet is not None else self._app

    @app.setter
    def app(self, app: ASGIApp) -> None:
        self._app = app

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> Any:
        assert self.outlet is not None
        response = _UvicornResponse(receive.__self__)  # type: ignore[attr-defined] # bound to it
        exchange = Exchange(response, self.outlet, self.loop, self.options, scope)
        connection = ResponseConnection(self.outlet, exchange.send)
        extensions = scope["extensions"] = {
            **(scope.get("extensions") or {}),
            PATHSEND: {},
            ZEROCOPYSEND: {},
            ATTACH: exchange,
            CONNECTION: connection,
        }
        try:
            return await self._app(scope, receive, exchange.send)
        finally:
            connection.end()
            # The scope and what it offers refer to each other.
            del extensions[ATTACH], extensions[CONNECTION]

    # asyncio's protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(transport)
        if _is_known():
            self.outlet = Outlet(transport, self.loop)
            self._watch_head()

    # uvicorn has no bound for a head, and waits for it for ever. Both are looked at once for each
    # piece that comes, so that an ordinary request, which is one, pays next to nothing.

    def data_received(self, data: bytes) -> None:
        self._fed += len(data)
        super().data_received(data)
        if self.outlet is None:
            return
        if self._fed > limits.MAX_HEAD_BYTES:
            self._refuse_head()
        elif self._is_in_head():
            self._watch_head()
        elif self._head_timer is not None:
            self._stop_watching()

    def on_headers_complete(self) -> None:
        hosts = [value for name, value in self.headers if name == b"host"]
        reason = why_no_host(self.parser.get_http_version(), self.url, hosts)
        if reason is not None:
            raise ValueError(reason)  # to the parser: this is no HTTP, and answered as such
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._fed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._fed = 0
        super().on_message_complete()

    def _is_in_head(self) -> bool:
        """Part of a head is here, and nobody waits for the answer to the request before."""
        cycle = self.cycle
        return cycle is None or (cycle.response_complete and cycle.scope is not self.scope)

    def _watch_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(limits.HEAD_TIMEOUT, self.transport.close)

    def _stop_watching(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse_head(self) -> None:
        """A head, trailers or the extension of a chunk without an end."""
        if self._is_in_head() and not self.transport.is_closing():
            self.transport.write(_TOO_LONG)
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        super().connection_lost(exc)
        if self.outlet is not None:
            self.outlet.lose()
            shutdown = _shutdowns.get(self.server_state)
            if shutdown is not None:
                shutdown.connection_lost()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.outlet is not None:
            self.outlet.pause()

    def resume_writing(self) -> None:
        if self.outlet is None or self.outlet.resume():
            super().resume_writing()

    # uvicorn's protocol

    def handle_websocket_upgrade(self) -> None:
        if self.outlet is not None:
            self.transport.set_write_buffer_limits()  # asyncio's own: it is another's now
            self.outlet = None
            self._stop_watching()
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        cycle = self.cycle
        if cycle is None or not cycle.response_started or cycle.response_complete:
            super().send_400_response(msg)
        else:
            # What cannot be parsed came behind a request that is still being answered: a second
            # status line would become part of that answer's body.
            self.transport.close()

    def shutdown(self) -> None:
        super().shutdown()
        if self.outlet is None:
            return
        shutdown = _shutdowns.get(self.server_state)
        if shutdown is None:
            connections = self.server_state.connections
            shutdown = Shutdown(lambda: _outlets(connections), self.server_state.tasks)
            _shutdowns[self.server_state] = shutdown
        shutdown.begin(self._budget())

    def _budget(self) -> float:
        own, given = self.options.drain_timeout, self.config.timeout_graceful_shutdown
        # When uvicorn's time is up it cancels every task, and streams could not end politely.
        return own if given is None else min(own, max(0.0, given - 0.2))


def _outlets(connections: set[Any]) -> list[Outlet]:
    mine = (each.outlet for each in connections if isinstance(each, HttpProtocol))
    return [outlet for outlet in mine if outlet is not None]


class _UvicornResponse:
    """What `tailrace.server.response.Response` says, of uvicorn's cycle."""

    __slots__ = ("_cycle", "forward")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self.forward: Callable[[Any], Awaitable[None]] = cycle.send

    @property
    def started(self) -> bool:
        return self._cycle.response_started

    @property
    def complete(self) -> bool:
        return self._cycle.response_complete

    @property
    def gone(self) -> bool:
        return self._cycle.disconnected

    @property
    def is_head(self) -> bool:
        return self._cycle.scope["method"] == "HEAD"

    @property
    def room(self) -> int | None:
        return None if self._cycle.chunked_encoding else self._cycle.expected_content_length

    def use(self, count: int) -> None:
        if not self._cycle.chunked_encoding:
            self._cycle.expected_content_length -= count

    async def drained(self) -> bool:
        flow = self._cycle.flow
        if flow.write_paused and not self._cycle.disconnected:
            await flow.drain()
        return not self._cycle.disconnected
