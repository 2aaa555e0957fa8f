"""Subscribers whose connections are attached: one message is framed once and written to each."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tailrace.pump import Attached, Frame, attach_offer

_START: Final = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")],
}

_subscribers: set[Attached] = set()
_published = 0


class Subscription(Response):
    """Holds its connection among the subscribers until the client leaves."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        offer = attach_offer(scope)
        assert offer is not None, "start it with --http tailrace.server:HttpProtocol"
        attached = await offer.attach(send, dict(_START), b": hello\n\n")
        assert attached is not None, "a middleware is in between"
        _subscribers.add(attached)
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            _subscribers.discard(attached)
            attached.release()


async def subscribe(request: Request) -> Response:
    return Subscription()


async def publish(request: Request) -> Response:
    """Write the request's body to all subscribers, as an event with an id."""
    global _published
    _published += 1
    frame = Frame(b"id: %d\ndata: %b\n\n" % (_published, await request.body()))
    for subscriber in tuple(_subscribers):
        if not subscriber.write(frame):
            subscriber.release()
            _subscribers.discard(subscriber)
    await asyncio.sleep(0)
    return Response(status_code=204)


app = Starlette(
    routes=[Route("/subscribe", subscribe), Route("/publish", publish, methods=["POST"])]
)
