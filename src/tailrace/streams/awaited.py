"""A response for a stream that does not exist yet: it waits for it, and then reads it."""

from __future__ import annotations

import math

import anyio
from starlette.types import Message, Receive, Scope, Send

from tailrace.connection import ATTACH, extensions_of
from tailrace.errors import StoreUnavailable
from tailrace.live import End, Format, Hub, LiveResponse, Reason
from tailrace.pump import Deadlines, Due, Head, Sending, send_whole
from tailrace.runtime import Signal, current_loop
from tailrace.store import START, Retention, StreamInfo
from tailrace.types import StreamOptions

__all__ = ["Awaited"]


class Awaited:
    """A response that begins before its stream does. Waiting for a stream does not create it.

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
        self._there = False
        self._error: StoreUnavailable | None = None
        self._beat = False
        self._woken: Signal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        options, head = self._options, Head(200, self._live.headers_of(_to_be(self._path)))
        if scope["method"] == "HEAD":
            await send_whole(b"", options, head, scope, receive, send)
            return
        async with anyio.create_task_group() as group:
            loop = current_loop(group)
            self._woken = loop.signal()
            every = options.beat_every(self._format.heartbeat)
            clock = Deadlines(loop.time(), send_timeout=options.send_timeout, heartbeat=every)
            clock.begins_at_once()
            sending = Sending(self, loop, scope, receive, send, clock, counted=False)
            async with sending:
                group.start_soon(self._wait)
                sending.run_clock(self._show_alive)
                await sending.interruptible(sending.start(head.message()))
                self._beat = True
                await self._beat_until_over(sending, quiet=every == math.inf)
                await self._say_last_words(sending)
            group.cancel_scope.cancel()
        if sending.ending is not None:
            return
        if self._error is not None:
            raise self._error
        if self._there:
            # The head was sent, so the connection cannot be handed over any more.
            extensions = {**extensions_of(scope)}
            extensions.pop(ATTACH, None)
            await self._live({**scope, "extensions": extensions}, receive, _without_start(send))

    async def _beat_until_over(self, sending: Sending, *, quiet: bool) -> None:
        while not (self._there or self._error or sending.farewell or sending.ending):
            if self._beat:
                self._beat = False
                beat = b"" if quiet else self._format.heartbeat
                await sending.interruptible(sending.write(beat))
            else:
                await self._woken.wait()

    async def _say_last_words(self, sending: Sending) -> None:
        if sending.ending is not None or self._there:
            return
        if self._error is not None:
            end = End(Reason.FAILED, self._path, START, error=self._error)
        else:
            assert sending.farewell is not None
            retry = sending.farewell.draw_retry()
            end = End(Reason.FAREWELL, self._path, START, retry=retry)
        more = self._error is not None
        await sending.interruptible(sending.write(self._format.end(end), more=more))

    async def _wait(self) -> None:
        try:
            await self._hub.wait_until_there(self._path)
            self._there = True
        except StoreUnavailable as error:
            self._error = error  # not through the task group, which would wrap it
        self._woken.set()

    # Told from outside

    @property
    def lingers(self) -> float:
        """Seconds that it may take to end when it is told; infinite if it goes on."""
        return 0.0 if self._format.says_farewell else math.inf

    def told(self) -> None:
        """The client has left, or the server stops: wait no longer."""
        self._woken.set()

    def _show_alive(self, due: Due) -> None:
        if due is Due.HEARTBEAT:
            self._beat = True
            self._woken.set()


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


def _without_start(send: Send) -> Send:
    async def send_rest(message: Message) -> None:
        if message["type"] != "http.response.start":
            await send(message)

    return send_rest
