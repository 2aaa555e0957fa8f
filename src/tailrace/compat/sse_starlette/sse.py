"""sse-starlette's `EventSourceResponse`, on top of `tailrace.EventSourceResponse`.

Where it differs from sse-starlette's on purpose (docs/differences.md lists the tests):

* `send_timeout=None`, the default, takes the timeout of the application's options, or 30 seconds:
  without one, a client that stops reading would hold the response for ever.
* A ping is sent after `ping` seconds of silence, not every `ping` seconds.
* A stream that fails ends with an `error` event, one that the server's stop ends with a farewell.
* No `Connection` header is sent: it is up to the server, and HTTP/2 forbids it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
from starlette.background import BackgroundTask
from starlette.types import Message, Receive, Scope, Send

from tailrace import responses
from tailrace.compat.sse_starlette.event import ServerSentEvent, check_separator, ensure_bytes
from tailrace.compat.sse_starlette.status import AppStatus, told_of_exit
from tailrace.connection import Ending, shutdown_event, tell_stopping
from tailrace.errors import Problem
from tailrace.framing import Framing, ServerSentEvents, is_event
from tailrace.responses import options_of_app
from tailrace.runtime import CancelOnce, Loop, current_loop
from tailrace.source import Pinnable, Sink, Source
from tailrace.types import StreamOptions

__all__ = [
    "AppStatus",
    "EventSourceResponse",
    "SendTimeoutError",
    "ServerSentEvent",
    "ensure_bytes",
]

_NO_LIMIT = 1e9
"""Seconds, 30 years, for no limit: `StreamOptions` must have one."""
_AT_ONCE = 0.001
"""Seconds, for a limit of 0: in `StreamOptions` it must be more than 0."""

_TURNS = 3

_Task = Callable[[], Awaitable[None]]


class SendTimeoutError(TimeoutError):
    """A client took nothing for `send_timeout` seconds, and was cut off."""


class EventSourceResponse(responses.EventSourceResponse):
    """Send events, with the arguments and the bytes of sse-starlette.

    Args:
        content: A sync or async iterable. A dict has the arguments of a `ServerSentEvent`, an event
            or bytes are sent as they are, and of anything else the `str()` is sent as an event.
        status_code, headers, media_type, background: As in `StreamingResponse`.
        ping: Seconds of silence after which a comment is sent; 0 sends none, None is 15.
        sep: What ends a line: CRLF, CR or LF; None is CRLF.
        ping_message_factory: Gives what is sent instead of that comment.
        data_sender_callable: Runs while the stream is sent, and is cancelled at its end. If it
            fails, the stream fails with its error.
        send_timeout: Seconds without progress on a write before the client is cut off; None takes
            the application's option.
        client_close_handler_callable: Called after the client has left and the content was closed.
        shutdown_event: Set by the response when the server stops.
        shutdown_grace_period: Seconds that the content then has to end by itself.
        cleanup_timeout: Seconds that closing the content may take; None: no limit.

    Raises:
        ValueError: `sep` is not CRLF, CR or LF, or a time is out of its range.
        TypeError: `ping` is not a number.
    """

    DEFAULT_PING_INTERVAL = 15
    DEFAULT_SEPARATOR = "\r\n"
    DEFAULT_CLEANUP_TIMEOUT = 30.0

    def __init__(
        self,
        content: Any,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str = "text/event-stream",
        background: BackgroundTask | None = None,
        ping: float | None = None,
        sep: str | None = None,
        ping_message_factory: Callable[[], ServerSentEvent] | None = None,
        data_sender_callable: _Task | None = None,
        send_timeout: float | None = None,
        client_close_handler_callable: Callable[[Message], Awaitable[None]] | None = None,
        shutdown_event: anyio.Event | None = None,
        shutdown_grace_period: float = 0,
        cleanup_timeout: float | None = DEFAULT_CLEANUP_TIMEOUT,
    ) -> None:
        self.sep = check_separator(sep, self.DEFAULT_SEPARATOR)
        self.ping_interval = self.DEFAULT_PING_INTERVAL if ping is None else ping
        self.ping_message_factory = ping_message_factory
        self.data_sender_callable = data_sender_callable
        self.send_timeout = send_timeout
        self.client_close_handler_callable = client_close_handler_callable
        if shutdown_grace_period < 0:
            raise ValueError("shutdown_grace_period must be >= 0")
        if cleanup_timeout is not None and cleanup_timeout < 0:
            raise ValueError("cleanup_timeout must be >= 0")
        self._shutdown_event = shutdown_event
        self._shutdown_grace_period = shutdown_grace_period
        self._cleanup_timeout = _NO_LIMIT if cleanup_timeout is None else cleanup_timeout
        self.active = True
        super().__init__(content, status_code, headers, media_type, background)
        self.headers["x-accel-buffering"] = "no"
        self._merged(StreamOptions())  # so that an invalid time fails here, not when it is sent

    @property
    def ping_interval(self) -> float:
        """Seconds of silence after which a ping is sent; 0 sends none."""
        return self._ping_interval

    @ping_interval.setter
    def ping_interval(self, value: float) -> None:
        if not isinstance(value, (int, float)):
            raise TypeError("ping interval must be int or float")
        if value < 0:
            raise ValueError("ping interval must be >= 0 (0 disables ping)")
        self._ping_interval = value

    def enable_compression(self, force: bool = False) -> None:
        """Not supported: set `StreamOptions(compress=True)` for the application instead.

        Args:
            force: As in sse-starlette; it has no effect.

        Raises:
            NotImplementedError: Always, as in sse-starlette.
        """
        raise NotImplementedError("Compression is not supported for SSE streams.")

    def make_framing(self) -> Framing:
        return _Events(self.sep, self._ping)

    def _ping(self) -> Any:
        if self.ping_message_factory is not None:
            return self.ping_message_factory()
        return ServerSentEvent(comment=f"ping - {datetime.now(UTC)}", sep=self.sep)

    def _merged(self, options: StreamOptions) -> StreamOptions:
        """The application's options, in which the arguments replace some."""
        timeout = options.send_timeout if self.send_timeout is None else self.send_timeout
        return replace(
            options,
            send_timeout=timeout,
            heartbeat=self._ping_interval or None,
            cleanup_timeout=max(self._cleanup_timeout, _AT_ONCE),
            shutdown_grace=self._shutdown_grace_period,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.options = self._merged(options_of_app(scope))
        if scope.get("method", "").upper() == "HEAD":
            scope = {**scope, "method": "HEAD"}
        await super().__call__(scope, receive, send)

    async def _stream(
        self, source: Source, scope: Scope, receive: Receive | None, send: Send
    ) -> Ending:
        if scope.get("method") == "HEAD":
            ending = await super()._stream(source, scope, receive, send)
        else:
            ending = await self._stream_with_tasks(source, scope, receive, send)
        self.active = False
        if ending is Ending.LEFT and self.client_close_handler_callable is not None:
            await self.client_close_handler_callable({"type": "http.disconnect"})
        if ending is Ending.STALLED and self.send_timeout is not None:
            raise SendTimeoutError
        return ending

    async def _stream_with_tasks(
        self, source: Source, scope: Scope, receive: Receive | None, send: Send
    ) -> Ending:
        """Stream, while `data_sender_callable` runs and `should_exit` is watched."""
        ending = Ending.CANCELLED
        kept: list[Exception] = []
        with told_of_exit(partial(current_loop().call_from_thread, self._exit)):
            if AppStatus.should_exit:
                self._exit()
            async with anyio.create_task_group() as group:
                group.start_soon(self._wait_for_shutdown)
                if self.data_sender_callable is not None:
                    source = _Fed(source, self.data_sender_callable)
                    group.start_soon(source.feed)
                try:
                    ending = await super()._stream(source, scope, receive, send)
                except Exception as error:  # noqa: BLE001 - raised below: a group would wrap it
                    kept.append(error)
                group.cancel_scope.cancel()
        if kept:
            raise kept.pop()
        return ending

    def _exit(self) -> None:
        """Tell the open streams to stop: the application says that the server does."""
        tell_stopping()
        if self._shutdown_event is not None:
            self._shutdown_event.set()

    async def _wait_for_shutdown(self) -> None:
        await shutdown_event().wait()
        if self._shutdown_event is not None and AppStatus.drains():
            self._shutdown_event.set()


class _Fed:
    """A source that gets its items from a task that runs beside it.

    If the task fails, the source fails with its error. The task is ended before the source is
    closed: otherwise it would send into a closed channel whenever a client leaves, and fail.
    """

    def __init__(self, source: Source, task: _Task) -> None:
        self.threaded = source.threaded
        self._source = source
        self._task = task
        self._feeding = anyio.CancelScope()
        self._over = anyio.Event()
        self._error: Exception | None = None
        self._cancel_once: CancelOnce | None = None
        self.closed = False

    async def feed(self) -> None:
        try:
            with self._feeding:
                await self._task()
        except Exception as error:  # noqa: BLE001 - raised by `run`
            self._error = error
            await anyio.lowlevel.checkpoint()  # first let the source take what the task just sent
            if self._cancel_once is not None:
                self._cancel_once.cancel()
        finally:
            self._over.set()

    async def run(self, sink: Sink, loop: Loop) -> None:
        self._cancel_once = loop.cancel_once()
        try:
            with self._cancel_once:
                if self._error is None:
                    await self._source.run(sink, loop)
                # A task that fails may first close its channel, which ends the source; its error
                # follows a turn of the loop later.
                for _ in range(_TURNS):
                    await anyio.lowlevel.checkpoint()
        finally:
            self._cancel_once = None
        if self._error is not None:
            raise self._error

    def pin_thread(self) -> None:
        if isinstance(self._source, Pinnable):
            self._source.pin_thread()

    async def close(self) -> None:
        self._feeding.cancel()
        try:
            await self._over.wait()
        finally:  # also if this is cancelled while the task refuses to end
            await self._source.close()


class _Events(ServerSentEvents):
    """The framing of items as sse-starlette does it.

    Args:
        sep: What ends a line.
        make_ping: Gives the item that is sent after a silence.
    """

    dicts_are_events = True

    def __init__(self, sep: str, make_ping: Callable[[], Any]) -> None:
        super().__init__()
        self._sep = sep
        self._make_ping = make_ping

    def frame(self, item: Any) -> bytes:
        if is_event(type(item)) and not hasattr(item, "encode"):  # ours, or FastAPI's
            return super().frame(item)
        encode = item.encode if is_event(type(item)) else partial(ensure_bytes, item, self._sep)
        return bytes(encode())

    def frame_json(self, text: bytes) -> bytes:
        return self._with_sep(super().frame_json(text))

    def beat(self) -> bytes:
        return ensure_bytes(self._make_ping(), self._sep)

    def failure(self, problem: Problem) -> bytes:
        return self._with_sep(super().failure(problem))

    def farewell(self, retry: float) -> bytes | None:  # type: ignore[override] # as of any format
        return self._with_sep(super().farewell(retry)) if AppStatus.drains() else None

    def _with_sep(self, frame: bytes) -> bytes:
        return frame.replace(b"\n", self._sep.encode())
