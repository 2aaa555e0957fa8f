"""Durable Streams as an ASGI application that can be mounted anywhere.

Nothing of a framework is between the server and the store: an append is the hot path, and what is
done for it here costs less than a router that matches its path.

Deliberate additions to Durable Streams 1.0: retention (`Stream-Retain-Bytes`, `-Records`, `-Age` on
PUT; `Stream-First-Offset` where a stream does not begin at its first byte), `Last-Event-ID` as an
offset, problem details (RFC 9457) with a stable `code` on every refusal. What a page of another
site sends is refused, unless its origin is named.
"""

from __future__ import annotations

import anyio
from starlette.types import ASGIApp, Receive, Scope, Send

from tailrace.connection import answer_lifespan
from tailrace.errors import BodyStalled, OriginRefused, StreamNotFound, TailraceError
from tailrace.live import Hub
from tailrace.protocol.authorize import Authorize
from tailrace.protocol.command import command_of
from tailrace.protocol.engine import Engine, OnAppend, Request
from tailrace.protocol.fields import fields_of
from tailrace.protocol.options import ProtocolOptions
from tailrace.protocol.path import is_reserved, path_below, stream_path
from tailrace.protocol.reply import Replies, Reply, replies_by_origin
from tailrace.protocol.sending import send_last, send_reply
from tailrace.semantics import foreign_origin, mounted
from tailrace.store import Store

__all__ = ["DurableStreams"]


class DurableStreams:
    """Serves the streams of a store: `app.mount("/v1/stream", DurableStreams(store))`.

    A stream's name is the path below the place of mounting. A store that is not open is opened at
    the first request; closing it is its owner's. Of a lifespan it has nothing to do.

    Args:
        streams: The live streams of this process, or a store.
        options: The settings; None: the defaults.
        control: Answers what is below `__ds/`, the subscription APIs; None: they are not there.
        authorize: Asked for every path that a request touches; see `tailrace.streams.Streams`.
            None: whoever reaches it may do everything, except to fork (`ProtocolOptions.forks`).
        on_append: Told the path of each stream that this process has created or appended to, once
            that is durable; called in the event loop, must neither block nor raise.
    """

    def __init__(
        self,
        streams: Hub | Store,
        options: ProtocolOptions | None = None,
        *,
        control: ASGIApp | None = None,
        on_append: OnAppend | None = None,
        authorize: Authorize | None = None,
    ) -> None:
        options = options or ProtocolOptions()
        self._hub = Hub(streams) if isinstance(streams, Store) else streams
        self._engine = Engine(self._hub, options, on_append, authorize)
        self._stream_options = options.stream
        self._replies = replies_by_origin(options)
        self._varies = len(self._replies) > 1
        self._origins = frozenset(options.cors_origins)
        self._control = control
        self._is_open = False
        self._opening = anyio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _refuse(scope, receive, send)
            return
        scope = mounted(scope)
        below = path_below(scope)
        fields = dict(scope.get("headers") or ())
        request = Request(scope, receive, send, fields, self._replies[None])
        try:
            if b"origin" in fields or b"sec-fetch-site" in fields:  # a browser
                self._check_origin(scope)
            if self._control is not None and below is not None and is_reserved(below):
                await self._open()
                request.is_answered = True
                await self._control(scope, receive, send)
                return
            reply = await self._answer(below, request)
        except TailraceError as error:
            if request.is_answered or error.status == 500:
                raise  # the server cuts the connection; or it is a fault of ours, to be seen
            reply = request.replies.problem(error)
            if isinstance(error, BodyStalled):
                await send_last(reply, scope, request.body, send, linger=False)
                return
        finally:
            if request.body.held:
                request.body.release()
        if reply is not None:
            await send_reply(reply, request, self._stream_options)

    async def _answer(self, below: str | None, request: Request) -> Reply | None:
        scope = request.scope
        fields = request.fields
        if fields and len(fields) != len(scope["headers"]):
            request.fields = fields = fields_of(scope["headers"])
        if self._varies:
            request.replies = self._replies_for(fields.get(b"origin"))
        method: str = scope["method"]
        if method == "OPTIONS":
            return request.replies.options()
        if not below or is_reserved(below):
            raise StreamNotFound(below or scope["path"])
        path = stream_path(below, scope.get("raw_path") or b"")
        command = command_of(
            method, path, scope.get("query_string", b""), fields, scope.get("root_path", "")
        )
        if command is None:
            return request.replies.not_allowed(method)
        await self._open()
        return await self._engine.answer(command, request)

    def _check_origin(self, scope: Scope) -> None:
        origin = foreign_origin(scope["method"], scope["headers"], self._origins)
        if origin is not None:
            raise OriginRefused(origin)

    def _replies_for(self, origin: bytes | None) -> Replies:
        return self._replies.get(origin) or self._replies[None]

    async def _open(self) -> None:
        if self._is_open:
            return
        async with self._opening:
            if not self._is_open:
                await self._hub.store.open()
                self._is_open = True


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1000, "reason": ""})
    else:
        await answer_lifespan(receive, send)
