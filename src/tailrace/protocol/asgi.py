"""Durable Streams as an ASGI application that can be mounted anywhere.

Appends are the hot path, so there is no framework between the server and the store: all that is
done here for an append costs less than a router takes to match its path.

Most answers are small: they are sent at once, as two messages, whether the client takes them or
not. A large answer would stay in the server's buffer while its client takes nothing. So the pump
sends it, as fast as the client takes it, and cuts off a client that takes nothing. If much of a
request's body may still arrive, its answer is the last one on the connection.

Deliberate additions to Durable Streams 1.0: retention (`Stream-Retain-Bytes`, `-Records`, `-Age` on
PUT; `Stream-First-Offset` where a stream does not begin at its first byte), `Last-Event-ID` as an
offset, problem details (RFC 9457) with a stable `code` on every refusal. A write from a page of
another site is refused, unless `ProtocolOptions.cors_origins` names its origin.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailrace import limits
from tailrace.connection import CONNECTION, answer_lifespan, extensions_of
from tailrace.errors import BodyStalled, OriginRefused, StreamNotFound, TailraceError
from tailrace.framing import Raw
from tailrace.live import Hub
from tailrace.protocol.authorize import Authorize
from tailrace.protocol.body import Body
from tailrace.protocol.command import command_of
from tailrace.protocol.engine import Engine, OnAppend, Request
from tailrace.protocol.fields import fields_of
from tailrace.protocol.options import ProtocolOptions
from tailrace.protocol.path import is_reserved, path_below, stream_path
from tailrace.protocol.reply import Replies, Reply, replies_by_origin
from tailrace.pump import Head, send_whole, serve
from tailrace.semantics import ResponseFields, foreign_origin, mounted
from tailrace.source import open_source
from tailrace.store import Store
from tailrace.types import StreamOptions

__all__ = ["DurableStreams", "refuse", "send_small"]


class DurableStreams:
    """Serves the streams of a store: `app.mount("/v1/stream", DurableStreams(store))`.

    A stream's name is the path below the mount path. The first request opens the store if it is not
    open; the code that made the store closes it. Lifespan events are answered and do nothing.

    Args:
        streams: The live streams of this process, or a store.
        options: The settings; None: the defaults.
        control: Answers requests to paths below `__ds/` (the subscription APIs); None: 404.
        authorize: Asked for every path that a request touches; see `tailrace.streams.Streams`.
            None: every client may do everything, except to fork (`ProtocolOptions.forks`).
        on_append: Called in the event loop with the path of each stream that this process has
            created, appended to or closed, once that is durable. Must neither block nor raise.
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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _answer_other(scope, receive, send)
            return
        scope = mounted(scope)
        below = path_below(scope)
        fields = dict(scope.get("headers") or ())
        request = Request(scope, receive, send, fields, self._replies[None])
        try:
            if b"origin" in fields or b"sec-fetch-site" in fields:  # a browser
                self._check_origin(scope)
            if self._control is not None and below is not None and is_reserved(below):
                if not self._is_open:
                    await self._open()
                request.is_answered = True
                await self._control(scope, receive, send)
                return
            reply = await self._answer(below, request)
        except TailraceError as error:
            if request.is_answered or error.status == 500:
                raise  # the server cuts the connection; or a fault of ours, which it must log
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
        if not self._is_open:
            await self._open()
        return await self._engine.answer(command, request)

    def _check_origin(self, scope: Scope) -> None:
        origin = foreign_origin(scope["method"], scope["headers"], self._origins)
        if origin is not None:
            raise OriginRefused(origin)

    def _replies_for(self, origin: bytes | None) -> Replies:
        return self._replies.get(origin) or self._replies[None]

    async def _open(self) -> None:
        """Open the store. `Store.open` allows concurrent calls, so this needs no lock."""
        await self._hub.store.open()
        self._is_open = True


async def _answer_other(scope: Scope, receive: Receive, send: Send) -> None:
    """Close a WebSocket; do nothing in a lifespan."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1000, "reason": ""})
    else:
        await answer_lifespan(receive, send)


async def send_reply(reply: Reply, request: Request, options: StreamOptions) -> None:
    """Send an answer.

    Args:
        reply: The answer.
        request: The request that it answers.
        options: Their `send_timeout` and `min_rate` hold for a large answer.
    """
    if request.body.is_much:
        await send_last(reply, request.scope, request.body, request.send, linger=True)
        return
    if request.scope["method"] == "HEAD":
        head = Head(reply.status, reply.headers)
        await send_whole(b"", options, head, request.scope, request.receive, request.send)
        return
    body = reply.body
    if len(body) > limits.MAX_BATCH_BYTES:
        await _send_large(reply, request, options)
        return
    await request.send(_start(reply))
    await request.send({"type": "http.response.body", "body": body})


async def refuse(reply: Reply, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request whose body is not read.

    Args:
        reply: A small answer.
        scope, receive, send: ASGI's.
    """
    await send_small(reply, scope, Body(receive, dict(scope["headers"])), send)


async def send_small(reply: Reply, scope: Scope, body: Body, send: Send) -> None:
    """Send a small answer.

    Args:
        reply: The answer.
        scope: ASGI's.
        body: The request's; it may be unread.
        send: ASGI's.
    """
    if body.is_much:
        await send_last(reply, scope, body, send, linger=True)
        return
    await send(_start(reply))
    await send({"type": "http.response.body", "body": _body_of(reply, scope)})


async def send_last(reply: Reply, scope: Scope, body: Body, send: Send, *, linger: bool) -> None:
    """Send the last answer of a connection.

    Args:
        reply: The answer.
        scope: ASGI's.
        body: The request's; the rest of it may still be arriving.
        send: ASGI's.
        linger: Read that rest for a while: some clients read the answer only when they have sent
            everything. `tailrace.server` does so itself.
    """
    if scope.get("http_version", "1.1").startswith("1"):
        reply.headers.append((b"connection", b"close"))
    lingers = linger and CONNECTION not in extensions_of(scope)
    await send(_start(reply))
    await send({"type": "http.response.body", "body": _body_of(reply, scope), "more_body": lingers})
    if lingers:
        await body.linger()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send_large(reply: Reply, request: Request, options: StreamOptions) -> None:
    head = Head(reply.status, reply.headers)
    source = open_source(_parts_of(reply.body))
    await serve(source, Raw(), None, options, head, request.scope, request.receive, request.send)


async def _parts_of(body: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(body), limits.MAX_BATCH_BYTES):
        yield body[at : at + limits.MAX_BATCH_BYTES]


def _start(reply: Reply) -> Message:
    fields = ResponseFields(reply.headers)
    return {"type": "http.response.start", "status": reply.status, "headers": fields}


def _body_of(reply: Reply, scope: Scope) -> bytes:
    return b"" if scope["method"] == "HEAD" else reply.body
