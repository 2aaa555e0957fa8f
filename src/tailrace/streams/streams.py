"""`Streams`: what an application has of a store of streams."""

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
from tailrace.streams.reading import Reader, place_of
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
    """Streams in a store: append, read, subscribe, and runs that write into them.

    ```
    streams = Streams("sqlite:///data/streams.db")
    app = FastAPI(lifespan=streams.lifespan)
    ```

    A script needs no lifespan: the store is opened by the first call, and closed by `aclose()` or
    at the end of `async with streams:`. Runs need one of the two, for they have tasks.

    Paths are 1 to `limits.MAX_STREAM_PATH_BYTES` bytes of UTF-8, as in a URL without the first
    slash: no segment is empty, `.` or `..`, so that each is reached over HTTP, too. Those that
    begin with `__ds/` are ours.

    Args:
        url: `memory://`, `sqlite:///PATH`; or a store.
        options: Of responses and runs; None takes the defaults. `heartbeat`, `send_timeout`,
            `cleanup_timeout` and `expose_errors` are obeyed.
        lease: Whole seconds after which a worker that gives no sign of life counts as dead, 1 or
            more.
        authorize: Called with a request, an action and a path, for every path that a request
            touches: over the protocol (`router`), by `subscribe`, `Run.response`, subscriptions
            and the stopping of runs. It returns None, or raises: an `HTTPException` is the answer,
            a `PermissionError` 403, anything else a fault (500). Sync (in a thread) or async. The
            actions: "read", "append", "create", "close", "delete", "fork-from" (a fork's source),
            "list" (a pattern), "subscribe" (a path or a pattern), "stop" (a run). None: whoever
            reaches them may do everything. Calls of these streams in Python are not asked for.

    Raises:
        InvalidOption: No URL of a store, or a value out of its range.
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
        """Of responses and runs."""
        return self._core.options

    # Life

    @asynccontextmanager
    async def lifespan(self, app: Any = None) -> AsyncIterator[None]:
        """An ASGI lifespan: `FastAPI(lifespan=streams.lifespan)`.

        In a lifespan of your own it is `async with streams.lifespan(app)`. An application that is
        given answers with the status of a stream's error that an endpoint lets pass.

        Args:
            app: The application whose lifespan it is; None: errors are left to it.
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
        """Close the store. Nothing if it is not open; the next call opens it again.

        Raises:
            RuntimeError: Inside `async with` or a lifespan, whose end closes it.
        """
        if self._core.has_tasks:
            raise RuntimeError("these streams are closed at the end of their block or lifespan")
        await self._core.handle.close()

    async def check(self) -> None:
        """Find out whether the store can read and write now.

        Raises:
            StoreUnavailable: It cannot; says why (503, or 507 for a full disk).
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
            path: Its name.
            content_type: `application/json`: of messages; any other: of bytes.
            ttl: Seconds after its last use at which it expires; None: never.
            retention: How much of it is kept; None: all.

        Returns:
            True if it did not exist; False if it does, with the same configuration.

        Raises:
            StreamExists: It exists with another configuration (409).
        """
        _check_path(path)
        new = NewStream(content_type=content_type, ttl=ttl, retention=retention or Retention())
        return await self._core.create(path, new)

    async def append(self, path: str, item: Any, *, producer: Producer | None = None) -> str:
        """Add an item at the end of a stream; durable when this returns.

        A stream that does not exist is created, of JSON.

        Args:
            path: The stream.
            item: Of a JSON stream one message: anything that pydantic can write as JSON, or an
                `Event`. Of any other the bytes, or a str in UTF-8.
            producer: Who appends, and the number of this append, so that one that is sent twice
                counts once.

        Returns:
            The offset after it.

        Raises:
            InvalidChunk: No JSON can be made of it, and the stream is JSON.
            ContentTypeMismatch: It is no bytes, and the stream not JSON (409).
            StreamClosed, ProducerFenced, ProducerGap, InvalidProducer, TooLarge: As `Store.append`.
        """
        _check_path(path)
        try:
            return await self._core.append(path, item, producer)
        except StreamGone:
            raise
        except StreamNotFound:
            # Empty: an append with the creation could not be told from one that is sent twice.
            await self._core.create(path, NewStream(content_type=JSON))
            return await self._core.append(path, item, producer)

    async def close(self, path: str) -> str:
        """Close a stream: nothing more can be appended, and readers come to its end.

        Args:
            path: The stream.

        Returns:
            Its final offset.

        Raises:
            StreamNotFound: It does not exist (404).
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
        """Create a stream that begins as another one does, and then goes its own way.

        Args:
            path: The new one.
            source: The other.
            offset: Up to where they are the same; None: the other's tail.
            sub_offset: Messages (bytes, of a stream that is not JSON) beyond it.
            ttl: As in `create`; None: the other's.

        Returns:
            True if it did not exist.

        Raises:
            ForkRefused: The source or the offset does not fit (400, 404, 409).
            InvalidOption: `offset` is not one: "start", "now".
            StreamExists: It exists with another configuration (409).
        """
        _check_path(path)
        _check_path(source)
        place = None if offset is None else place_of(offset)
        if place is not None and not isinstance(place, Offset):
            raise InvalidOption("offset", offset, "an offset, or None for the tail")
        new = NewStream(ttl=ttl, fork=Fork(source, place, sub_offset))
        return await self._core.create(path, new)

    async def delete(self, path: str) -> None:
        """Delete a stream. A run that writes it is stopped.

        Args:
            path: The stream.

        Raises:
            StreamNotFound: It does not exist (404).
        """
        _check_path(path)
        await (await self.store()).delete(path)

    # Reading

    def read(self, path: str, start: str = "start", *, follow: bool = False) -> Reader:
        """The messages of a stream: `async for message in streams.read(path)`.

        Between two messages nothing is held, so it may be left at any time.

        Args:
            path: The stream.
            start: "start", "now", or the offset of the last message that was read.
            follow: At the tail wait for more, until the stream is closed.

        Raises:
            InvalidOffset: No offset (400).

        While it is read: `StreamNotFound`, also when it is deleted meanwhile; `OffsetGone`, if what
        is next is no longer retained; `RunEnded` after the last item of a run that did not end
        well.
        """
        _check_path(path)
        return Reader(self._core, path, place_of(start), follow=follow)

    def subscribe(
        self,
        path: str,
        request: Request,
        *,
        start: str = "now",
        slow: str = "resume",
        end_mark: bool = False,
    ) -> Response:
        """What an endpoint returns: a stream, as it grows, to any number of readers.

        As server-sent events, JSON Lines or a JSON array, as Accept asks for; of a stream that is
        not JSON as its bytes, or as events if they are text. It begins behind `Last-Event-ID`, or
        else at the parameter `?offset=`, or else at `start`. What is no longer retained is a gap
        that is told. A stream that does not exist is waited for.

        Args:
            path: The stream.
            request: The request.
            start: "now", "start", or an offset.
            slow: What becomes of a client that is too slow: "resume" reads what it missed from the
                log; "latest" leaves it out, and tells of the gap; "disconnect" cuts it off.
            end_mark: End JSON Lines with `{"end": {}}` when the stream is closed and all of it was
                sent, for a client behind a proxy that makes a clean end of a cut. (A run's events
                have an event named "end", and an array its `]`, in any case.)

        Raises:
            InvalidOption: No such policy.
        """
        _check_path(path)
        return Subscription(
            self._core, path, request, start=start, slow=slow, end_mark=end_mark, waits=True
        )

    async def head(self, path: str) -> StreamInfo:
        """What is known of a stream without reading it.

        Args:
            path: The stream.

        Raises:
            StreamNotFound: It does not exist (404).
        """
        _check_path(path)
        return await (await self.store()).head(path)

    async def list(
        self, prefix: str = "", after: str = "", limit: int = limits.LIST_STREAMS
    ) -> list[StreamInfo]:
        """Streams in the order of their paths' bytes.

        Args:
            prefix: Of their paths.
            after: Only paths greater than this one: the last of the page before.
            limit: At most so many.
        """
        return await (await self.store()).list(prefix, after, limit)

    def channel(self, path: str, *, retention: Retention) -> Channel:
        """A stream of which only the last part is kept, for whoever is there now.

        Args:
            path: Its name.
            retention: How much is kept; at least one bound.
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

        Whoever reaches it may read and write every stream, unless these streams have an
        `authorize`; dependencies of `include_router` keep out who may do nothing at all. Without
        any, a request takes no detour through FastAPI's machinery. Pages of other origins may not
        write, and nobody may fork where there is no `authorize`: see `ProtocolOptions`.

        Runs are stopped by `DELETE __ds/runs/<path>` below it, or `POST __ds/runs/<path>/stop`.

        Args:
            options: The protocol's settings; None: the defaults.
            subscriptions: Serve the subscription APIs (webhooks, pull-wake) too, with these
                settings; they work while the lifespan does. None: they are not there.
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
                raise RuntimeError("subscriptions begin with the lifespan: ask for them before it")
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
        """Let a source write into a stream, or join the run that does so, here or anywhere.

        The source is iterated in a task of these streams, not in the request's. What it yields
        becomes JSON messages; what is ready together is one append, and it is held back while the
        store is slow. When it ends, the stream is closed, and its last message says how: done,
        failed, cancelled, or lost if its worker has died.

        If the path's run goes on, or has ended, the source is closed without being started, and the
        run is that one: its readers get all of it.

        Args:
            path: The stream.
            source: Anything that yields: a generator, an iterable, sync (in a thread) or async.
            on_disconnect: When its last client has left: "cancel" it, "continue", or
                `Grace(seconds)`. One that no client comes to within `limits.FIRST_CLIENT` seconds
                counts as left. Clients are those of `run.response` and who iterate it, in every
                process that has joined; who reads the stream in another way is not counted.
            restart: A run that has ended begins anew; one that goes on is joined.
            ttl: Seconds after its last use at which its stream expires; None: never.
            retention: How much of it is kept; None: all.

        Raises:
            RuntimeError: These streams have no lifespan.
            StreamExists: The path is that of a stream that no run has written (409).
            TypeError: The source cannot be iterated.
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
        """Stop a run, in whichever process it goes on, and do not wait until it has.

        Args:
            path: The stream that it writes.

        Returns:
            True if it goes on; False if there is no such run, or it has ended.
        """
        _check_path(path)
        return await self._core.stop(path)


def _check_path(path: str) -> None:
    """Refuse a path that no stream of a user's can have; the rule is the protocol's."""
    if not isinstance(path, str) or path.startswith(INTERNAL):
        rule = f"a str, as in a URL without the first slash, not beginning {INTERNAL}"
        raise InvalidRequest("the path", str(path), rule)
    stream_path(path)
