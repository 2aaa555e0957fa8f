"""`Streams`: the public class of the package. It documents every verb and assembles the parts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from tailrace import limits
from tailrace.errors import (
    InvalidOption,
    InvalidRequest,
    StreamGone,
    StreamNotFound,
)
from tailrace.protocol import Authorize, ProtocolOptions, stream_path
from tailrace.source import open_source
from tailrace.store import (
    INTERNAL,
    Fork,
    NewStream,
    Offset,
    Producer,
    Retention,
    Store,
    StreamInfo,
)
from tailrace.streams.answering import answer_errors
from tailrace.streams.channel import Channel
from tailrace.streams.core import JSON, Core
from tailrace.streams.local_run import LocalRun
from tailrace.streams.reading import Reader, parse_start
from tailrace.streams.run import Run
from tailrace.streams.runs import RunRequest
from tailrace.streams.serving import Serving
from tailrace.streams.subscribers import OnDisconnect, check_policy
from tailrace.streams.subscription import Subscription
from tailrace.types import StreamOptions

if TYPE_CHECKING:
    from tailrace.streams.router import APIRouter
    from tailrace.subscriptions import SubscriptionOptions

__all__ = ["Streams"]


class Streams:
    """The streams of a store: append to them, read them, serve them, run sources that write them.

    ```
    streams = Streams("sqlite:///data/streams.db")
    app = FastAPI(lifespan=streams.lifespan)
    ```

    A script needs no lifespan: the first call opens the store, and `aclose()` or the end of
    `async with streams:` closes it. Runs have background tasks, so they need the lifespan or
    `async with`.

    A path is 1 to `limits.MAX_STREAM_PATH_BYTES` bytes of UTF-8, as in a URL without the first
    slash. No segment is empty, `.` or `..`, so that every stream can be reached over HTTP. Paths
    that begin with `__ds/` are reserved.

    Args:
        url: `memory://` or `sqlite:///PATH`; or a store.
        options: For responses and runs; None: the defaults. `heartbeat`, `send_timeout`,
            `cleanup_timeout`, `expose_errors` and `pin_thread` apply.
        lease: Whole seconds after which a worker that gives no sign of life counts as dead, 1 or
            more.
        authorize: Called with a request, an action and a path, for every path that a request
            touches: over the protocol (`router`), by `subscribe` and `Run.response`, by
            subscriptions, and when a run is stopped over HTTP. It returns None to allow the action,
            or raises: an `HTTPException` is the answer, a `PermissionError` is answered with 403,
            any other exception with 500. It may be sync (it runs in a thread) or async. The
            actions: "read", "append", "create", "close", "delete", "fork-from" (the source of a
            fork), "list" (a pattern), "subscribe" (a path or a pattern), "stop" (a run). None:
            every client that reaches the streams may do everything. Calls in Python do not call it.

    Raises:
        InvalidOption: The URL is not that of a store, or a value is out of its range.
    """

    def __init__(
        self,
        url: str | Store,
        *,
        options: StreamOptions | None = None,
        lease: int = limits.LEASE,
        authorize: Authorize | None = None,
    ) -> None:
        self._core = Core(url, options, lease, authorize)

    @property
    def options(self) -> StreamOptions:
        """The options for responses and runs."""
        return self._core.options

    # Life

    @asynccontextmanager
    async def lifespan(self, app: Any = None) -> AsyncIterator[None]:
        """An ASGI lifespan: `FastAPI(lifespan=streams.lifespan)`.

        In a lifespan of your own, write `async with streams.lifespan(app)`. If an endpoint of this
        application does not catch an error of a stream, the answer has the status of that error.

        Args:
            app: The application; None: errors that its endpoints do not catch are not answered.
        """
        answer_errors(app)
        async with self:
            yield

    async def __aenter__(self) -> Self:
        await self._core.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._core.__aexit__(kind, error, trace)

    async def aclose(self) -> None:
        """Close the store, if it is open. The next call opens it again.

        Raises:
            RuntimeError: Inside `async with` or the lifespan, whose end closes the store.
        """
        if self._core.has_tasks:
            raise RuntimeError(
                "these streams are closed by the end of their block or lifespan, not by aclose()"
            )
        await self._core.handle.close()

    async def check(self) -> None:
        """Find out whether the store can read and write now.

        Raises:
            StoreUnavailable: It cannot. The error says why (503, or 507 for a full disk).
        """
        await (await self.store()).check()

    async def store(self) -> Store:
        """The store, open in this event loop."""
        return await self._core.store()

    # Writing

    async def create(
        self,
        path: str,
        *,
        content_type: str = JSON,
        ttl: int | None = None,
        retention: Retention | None = None,
    ) -> bool:
        """Create a stream.

        Args:
            path: The path of the stream.
            content_type: `application/json` for a stream of messages; any other: a stream of bytes.
            ttl: The stream expires this many seconds after its last use; None: never.
            retention: How much of it is kept; None: everything.

        Returns:
            True if the stream is new; False if it exists with the same configuration.

        Raises:
            StreamExists: The stream exists with another configuration (409).
        """
        _check_path(path)
        new = NewStream(content_type=content_type, ttl=ttl, retention=retention or Retention())
        return await self._core.create(path, new)

    async def append(self, path: str, item: Any, *, producer: Producer | None = None) -> str:
        """Add an item at the end of a stream; it is durable when this returns.

        A stream that does not exist is created as a JSON stream.

        Args:
            path: The path of the stream.
            item: For a JSON stream one message: anything that pydantic can write as JSON, or an
                `Event`. For any other stream bytes, or a str, which is encoded in UTF-8.
            producer: The writer and the number of this append. An append that is sent twice with
                the same numbers counts once. None: every call counts.

        Returns:
            The offset after the item.

        Raises:
            InvalidChunk: The stream is JSON, and the item cannot be written as JSON.
            ContentTypeMismatch: The stream is not JSON, and the item is not bytes or str (409).
            StreamGone: The stream was deleted or has expired, but forks still read its data (410).
            StreamClosed, ProducerFenced, ProducerGap, InvalidProducer, TooLarge: As `Store.append`.
        """
        _check_path(path)
        try:
            return await self._core.append(path, item, producer)
        except StreamGone:
            raise
        except StreamNotFound:
            # Created empty: a creation has no producer, so an item in it could be added twice.
            await self._core.create(path, NewStream(content_type=JSON))
            return await self._core.append(path, item, producer)

    async def close(self, path: str) -> str:
        """Close a stream: nothing more can be appended, and readers come to the end.

        Args:
            path: The path of the stream.

        Returns:
            The final offset of the stream.

        Raises:
            StreamNotFound: The stream does not exist (404).
        """
        _check_path(path)
        return await self._core.close(path)

    async def fork(
        self,
        path: str,
        source: str,
        offset: str | None = None,
        *,
        sub_offset: int = 0,
        ttl: int | None = None,
    ) -> bool:
        """Create a stream that begins with the data of another one, and then has its own.

        Args:
            path: The path of the new stream.
            source: The path of the other stream.
            offset: The offset up to which the streams are the same; None: the tail of the source.
            sub_offset: They are the same for this many messages more (bytes, if not JSON).
            ttl: As in `create`; None: as the source.

        Returns:
            True if the stream is new; False if it exists with the same configuration.

        Raises:
            ForkRefused: The source or the offset does not fit (400, 404, 409).
            InvalidOption: `offset` is "start" or "now".
            InvalidOffset: `offset` is not an offset (400).
            StreamExists: The stream exists with another configuration (409).
        """
        _check_path(path)
        _check_path(source)
        place = None if offset is None else parse_start(offset)
        if place is not None and not isinstance(place, Offset):
            raise InvalidOption("offset", offset, "an offset, or None for the tail")
        new = NewStream(ttl=ttl, fork=Fork(source, place, sub_offset))
        return await self._core.create(path, new)

    async def delete(self, path: str) -> None:
        """Delete a stream. A run that writes into it is stopped.

        Args:
            path: The path of the stream.

        Raises:
            StreamNotFound: The stream does not exist (404).
        """
        _check_path(path)
        await (await self.store()).delete(path)

    # Reading

    def read(self, path: str, start: str = "start", *, follow: bool = False) -> Reader:
        """Read the messages of a stream: `async for message in streams.read(path)`.

        Between two messages nothing is held, so the iteration may be left at any time.

        Args:
            path: The path of the stream.
            start: "start", "now", or the offset of the last message that was read.
            follow: Wait for more at the tail, until the stream is closed.

        Raises:
            InvalidOffset: `start` is not an offset (400).

        The iteration raises `StreamNotFound` if the stream does not exist, or is deleted meanwhile.
        It raises `OffsetGone` if the next message is no longer retained, and `RunEnded` after the
        last item of a run that has failed, was cancelled or was lost.
        """
        _check_path(path)
        return Reader(self._core, path, parse_start(start), follow=follow)

    def subscribe(
        self,
        path: str,
        request: Request,
        *,
        start: str = "now",
        slow: str = "resume",
        end_mark: bool = False,
    ) -> Response:
        """What an endpoint returns to serve a stream as it grows, to any number of readers.

        A JSON stream is sent as server-sent events, JSON Lines or a JSON array, as Accept asks for;
        any other stream as its bytes or as events. The response begins after `Last-Event-ID`, or
        else at the query parameter `offset`, or else at `start`. If something is no longer
        retained, events and JSON Lines tell of the gap; in other formats the answer is 410, or the
        connection is cut. If the stream does not exist, the response waits for it.

        Args:
            path: The path of the stream.
            request: The request.
            start: "now", "start", or an offset.
            slow: What happens to a client that is too slow. "resume": it gets what it missed from
                the log. "latest": what it missed is skipped, and it is told of the gap.
                "disconnect": it is cut off.
            end_mark: End JSON Lines with `{"end": {}}` when the stream is closed and all of it was
                sent. This is for clients behind a proxy that turns a cut connection into a clean
                end. (At a clean end, a run's events have one named "end", an array has its `]`.)

        Raises:
            InvalidOption: `slow` is none of the three.
        """
        _check_path(path)
        return Subscription(
            self._core, path, request, start=start, slow=slow, end_mark=end_mark, waits=True
        )

    async def head(self, path: str) -> StreamInfo:
        """Describe a stream without reading it: its type, offsets, retention, whether it is closed.

        Args:
            path: The path of the stream.

        Raises:
            StreamNotFound: The stream does not exist (404).
        """
        _check_path(path)
        return await (await self.store()).head(path)

    async def list(
        self, prefix: str = "", after: str = "", limit: int = limits.LIST_STREAMS
    ) -> list[StreamInfo]:
        """List streams in the order of their paths' bytes, page by page.

        Args:
            prefix: Only paths that begin with it.
            after: Only paths after this one: give the last path of the page before.
            limit: The most streams in a page.
        """
        return await (await self.store()).list(prefix, after, limit)

    def channel(self, path: str, *, retention: Retention) -> Channel:
        """A JSON stream of which only the last part is kept, for readers that want what is new.

        Args:
            path: The path of the stream.
            retention: How much is kept; at least one bound.

        Raises:
            InvalidOption: There is no retention, or one that keeps everything.
        """
        _check_path(path)
        return Channel(self._core, path, retention)

    # Serving

    def router(
        self,
        options: ProtocolOptions | None = None,
        *,
        subscriptions: SubscriptionOptions | None = None,
    ) -> APIRouter:
        """The Durable Streams protocol, for `app.include_router(..., prefix="/v1/stream")`.

        Every client that reaches it may read and write every stream, unless these streams have an
        `authorize`. Dependencies of `include_router` refuse clients that may do nothing at all.
        Without dependencies a request is not handled by FastAPI itself, which is faster. Unless
        `ProtocolOptions` allow it, pages of other origins may not write, and without `authorize` no
        client may fork.

        Below the router `DELETE __ds/runs/<path>`, or `POST __ds/runs/<path>/stop`, stops a run.

        Args:
            options: The protocol's settings; None: the defaults.
            subscriptions: Serve the subscription APIs (webhooks, pull-wake) too, with these
                settings. They work from the start of the lifespan to its end. None: no such APIs.

        Raises:
            RuntimeError: Subscriptions are asked for after the lifespan has begun.
        """
        from tailrace.streams.router import router_of

        return router_of(self.asgi(options, subscriptions=subscriptions))

    def asgi(
        self,
        options: ProtocolOptions | None = None,
        *,
        subscriptions: SubscriptionOptions | None = None,
    ) -> ASGIApp:
        """The application of `router`, for `app.mount("/v1/stream", streams.asgi())`.

        It works under any framework.

        Args:
            options: As in `router`.
            subscriptions: As in `router`.

        Raises:
            RuntimeError: Subscriptions are asked for after the lifespan has begun.
        """
        if subscriptions is not None:
            if self._core.has_tasks:
                raise RuntimeError(
                    "subscriptions start with the lifespan: call this before the lifespan begins"
                )
            self._core.subscribed = subscriptions
        return Serving(self._core, options)

    # Runs

    async def run(
        self,
        path: str,
        source: Any,
        *,
        on_disconnect: OnDisconnect = "cancel",
        restart: bool = False,
        ttl: int | None = None,
        retention: Retention | None = None,
    ) -> Run:
        """Let a source write into a stream, or join the run that already does so in any process.

        The source is iterated in a task of these streams, not in the request's task. What it yields
        becomes JSON messages. Messages that are ready together are one append, and the source waits
        while the store is slow. When the run ends, the stream is closed, and its last message says
        how it ended: done, failed, cancelled, or lost if its worker has died.

        If a run of this path goes on, or has ended, this source is closed without being started,
        and that run is returned: its readers get all of its items.

        Args:
            path: The path of the run's stream.
            source: Anything that yields: a generator or iterable, sync (in a thread) or async.
            on_disconnect: What happens to the run when its last client has left: "cancel",
                "continue", or `Grace(seconds)`, which continues for that time. The first client has
                at least `limits.FIRST_CLIENT` seconds to come. Clients are the responses of
                `Run.response` and the iterators of the run, in every process that has joined it.
                Other readers of the stream do not count.
            restart: A run that has ended begins anew; one that goes on is joined.
            ttl: The stream expires this many seconds after its last use; None: never.
            retention: How much of the stream is kept; None: everything.

        Raises:
            RuntimeError: The streams have no tasks: there is neither a lifespan nor `async with`.
            StreamExists: The path is that of a stream that no run has written (409).
            TypeError: The source cannot be iterated.
            InvalidOption: `on_disconnect` is not a policy.
        """
        opened = open_source(source)
        begun = False
        try:
            _check_path(path)
            check_policy(on_disconnect)
            new = NewStream(content_type=JSON, ttl=ttl, retention=retention or Retention())
            request = RunRequest(path=path, policy=on_disconnect, restart=restart, new=new)
            runs = await self._core.runs()
            work = await runs.start(request, opened)
            begun = isinstance(work, LocalRun) and work.source is opened
        finally:
            if not begun:
                with anyio.move_on_after(self.options.cleanup_timeout, shield=True):
                    await opened.close()
        return Run(self._core, path, work)

    async def stop(self, path: str) -> bool:
        """Stop a run, in whichever process it goes on, without waiting for its end.

        Args:
            path: The path of the run's stream.

        Returns:
            True if the run was still going on; False if there is no such run, or it has ended.
        """
        _check_path(path)
        return await self._core.stop(path)


def _check_path(path: str) -> None:
    """Refuse a path that a user's stream cannot have; the rule is the protocol's."""
    if not isinstance(path, str) or path.startswith(INTERNAL):
        rule = f"a str, as in a URL without the first slash, not beginning {INTERNAL}"
        raise InvalidRequest("the path", str(path), rule)
    stream_path(path)
