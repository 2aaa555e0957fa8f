"""Answers on their way out.

Most are small and go out at once, as two messages that nobody waits for. A large one would lie in
the server's buffer for as long as its client likes to leave it there: it goes through the pump,
which sends it as the client takes it, and cuts off one that takes nothing. An answer to a request
whose body is still coming is the last one on its connection.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.types import Message, Receive, Scope, Send

from tailrace import limits
from tailrace.connection import CONNECTION, extensions_of
from tailrace.framing import Raw
from tailrace.protocol.body import Body
from tailrace.protocol.engine import Request
from tailrace.protocol.reply import Reply
from tailrace.pump import Head, send_whole, serve
from tailrace.semantics import ResponseFields
from tailrace.source import open_source
from tailrace.types import StreamOptions

__all__ = ["refuse", "send_last", "send_reply"]


async def send_reply(reply: Reply, request: Request, options: StreamOptions) -> None:
    """Send an answer.

    Args:
        reply: The answer.
        request: What it answers.
        options: Of which `send_timeout` and `min_rate` hold for a large one.
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
    """Answer a request of which nothing was read, and nothing will be.

    Args:
        reply: A small answer.
        scope: ASGI's.
        receive: ASGI's.
        send: ASGI's.
    """
    body = Body(receive, dict(scope["headers"]))
    if body.is_much:
        await send_last(reply, scope, body, send, linger=True)
        return
    await send(_start(reply))
    await send({"type": "http.response.body", "body": _body_of(reply, scope)})


async def send_last(reply: Reply, scope: Scope, body: Body, send: Send, *, linger: bool) -> None:
    """Send an answer on a connection that ends with it.

    Args:
        reply: The answer.
        scope: ASGI's.
        body: Of the request; the rest of it is still coming.
        send: ASGI's.
        linger: Let the client send for a while, so that it comes to read.
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
    source = open_source(_pieces(reply.body))
    await serve(source, Raw(), None, options, head, request.scope, request.receive, request.send)


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(body), limits.MAX_BATCH_BYTES):
        yield body[at : at + limits.MAX_BATCH_BYTES]


def _start(reply: Reply) -> Message:
    fields = ResponseFields(reply.headers)
    return {"type": "http.response.start", "status": reply.status, "headers": fields}


def _body_of(reply: Reply, scope: Scope) -> bytes:
    return b"" if scope["method"] == "HEAD" else reply.body
