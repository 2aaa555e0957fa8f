"""A response for a stream that does not exist yet: it waits for it, and then reads it."""

from __future__ import annotations

import math

import anyio
from starlette.types import Message, Receive, Scope, Send

from tailrace.connection import (
    ATTACH,
    Ending,
    Farewell,
    Leaving,
    extensions_of,
    leaving_of,
    registered,
)
from tailrace.errors import StoreUnavailable
from tailrace.live import End, Format, Hub, LiveResponse, Reason
from tailrace.pump import Head, name_of, send_whole
from tailrace.store import START, Retention, StreamInfo
from tailrace.types import StreamOptions

__all__ = ["Awaited"]


class Awaited:
    """An answer that begins before its stream does. Nothing is created for who only waits.

    Args:
        hub: Where the stream will be.
        path: Its path.
        format: What the response's bytes are made of.
        live: Answers with the stream, from its beginning, when it is there.
        options: `heartbeat` and `send_timeout`.
    """

    def __init__(
        self,
        hub: Hub,
        path: str,
        format: Format,  # noqa: A002 - the word for it
        live: LiveResponse,
        options: StreamOptions,
    ) -> None:
        self._hub = hub
        self._path = path
        self._format = format
        self._live = live
        self._options = options
        self._every = options.beat_every(format.heartbeat)
        self._waiting = anyio.CancelScope()
        self._there = False
        self._farewell: Farewell | None = None
        self._error: StoreUnavailable | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = self._live.headers_of(_to_be(self._path))
        options, head = self._options, Head(200, headers, name_of(scope))
        if scope["method"] == "HEAD":
            await send_whole(b"", options, head, scope, receive, send)
            return
        async with leaving_of(scope, receive, send) as leaving:
            await send(head.message())
            await send(_body(self._format.heartbeat if self._every < math.inf else b""))
            take_back = leaving.on_left(self._waiting.cancel)
            with registered(self), self._waiting:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._beat, send, leaving)
                    await self._wait()
                    group.cancel_scope.cancel()
            take_back()
            await self._finish(scope, receive, send)

    async def _finish(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._there:
            # The head was sent, so the connection cannot be handed over any more.
            extensions = {**extensions_of(scope)}
            extensions.pop(ATTACH, None)
            await self._live({**scope, "extensions": extensions}, receive, _without_start(send))
        elif self._farewell is not None:
            retry = self._farewell.draw_retry()
            end = End(Reason.FAREWELL, self._path, START, retry=retry)
            data = self._format.end(end)
            await send({"type": "http.response.body", "body": data, "more_body": False})
        elif self._error is not None:
            failed = End(Reason.FAILED, self._path, START, error=self._error)
            await send(_body(self._format.end(failed)))
            raise self._error

    async def _wait(self) -> None:
        try:
            await self._hub.wait_until_there(self._path)
            self._there = True
        except StoreUnavailable as error:
            self._error = error  # not through the task group, which would wrap it

    @property
    def lingers(self) -> float:
        """Seconds that it may take to end when it is told; infinite if it goes on."""
        return 0.0 if self._format.says_farewell else math.inf

    def say_farewell(self, farewell: Farewell) -> None:
        """The server stops."""
        if self._format.says_farewell:
            self._farewell = farewell
            self._waiting.cancel()

    def end(self, _ending: Ending) -> None:
        """The server's patience is over."""
        self._waiting.cancel()

    async def _beat(self, send: Send, leaving: Leaving) -> None:
        while self._every < math.inf:
            await anyio.sleep(self._every)
            with anyio.move_on_after(self._options.send_timeout) as sending:
                try:
                    await send(_body(self._format.heartbeat))
                except Exception as error:
                    if not await leaving.explains(error):
                        raise
                    self._waiting.cancel()
            leaving.look()
            if sending.cancelled_caught:
                self._waiting.cancel()


def _to_be(path: str) -> StreamInfo:
    """What a stream will be: the first append makes it one of JSON."""
    return StreamInfo(
        path=path,
        content_type="application/json",
        first=START,
        tail=START,
        closed=False,
        ttl=None,
        expires_at=None,
        retention=Retention(),
        forked_from=None,
        created_at=0,
    )


def _body(data: bytes) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": True}


def _without_start(send: Send) -> Send:
    async def send_rest(message: Message) -> None:
        if message["type"] != "http.response.start":
            await send(message)

    return send_rest
