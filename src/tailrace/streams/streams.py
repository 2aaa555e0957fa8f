"""`Streams`: what an application has of a store of streams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import anyio
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from tailrace import limits
from tailrace.errors import (
    ContentTypeMismatch,
    InvalidChunk,
    InvalidOption,
    InvalidRequest,
    StreamGone,
    StreamNotFound,
)
from tailrace.live import Entry, Hub
from tailrace.protocol import Authorize, ProtocolOptions, stream_path
from tailrace.source import open_source
from tailrace.store import (
    INTERNAL,
    Append,
    Fork,
    NewStream,
    Offset,
    Producer,
    Retention,
    Store,
    StreamInfo,
    is_json,
)
from tailrace.streams.answering import answer_errors
from tailrace.streams.channel import Channel
from tailrace.streams.claim import Claims
from tailrace.streams.clients import OnDisconnect, check_policy
from tailrace.streams.item import message_of
from tailrace.streams.lease import new_worker
from tailrace.streams.opening import Opening
from tailrace.streams.reading import Reader, place_of
from tailrace.streams.run import Run
from tailrace.streams.running import Running
from tailrace.streams.runs import Order, Runs
from tailrace.streams.serving import Serving
from tailrace.streams.subscription import Subscription, slow_of
from tailrace.subscriptions import SubscriptionOptions, Subscriptions
from tailrace.types import StreamOptions

if TYPE_CHECKING:
    from tailrace.streams.router import APIRouter

__all__ = ["Streams"]

_JSON: Final = "application/json"


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
        if type(lease) is not int or lease < 1:
            raise InvalidOption("lease", lease, "whole seconds, 1 or more")
        self._opening = Opening(url)
        self._lease = lease
        self._worker = new_worker()
        self._entered = False
        self._group: anyio.abc.TaskGroup | None = None
        self._subscribed: SubscriptionOptions | None = None
        self._authorize = authorize
        self.options = options or StreamOptions()

    # Life

    @asynccontextmanager
    async def lifespan(self, app: Any = None) -> AsyncIterator[None]:
        """An ASGI lifespan: `FastAPI(lifespan=streams.lifespan)`.

        In a lifespan of your own it is `async with streams.lifespan(app)`. An application that is
        given answers with the status of a stream's error that an endpoint lets pass.
        """
        answer_errors(app)
        async with self:
            yield

    async def __aenter__(self) -> Self:
        if self._entered:
            raise RuntimeError("these streams are open already: one lifespan is enough")
        self._entered = True  # before anything is awaited: two may come at once
        try:
            opened = await self._opening.open()
        except BaseException:
            self._entered = False
            raise
        group = anyio.create_task_group()
        await group.__aenter__()
        self._group = group
        self._opening.held = True
        opened.runs = Runs(opened.store, group, self._lease, self.options, opened.appended)
        group.start_soon(opened.runs.keep)
        try:
            if self._subscribed is not None:
                subscriptions = Subscriptions(
                    opened.store, self._subscribed, authorize=self._authorize
                )
                await group.start(subscriptions.run)
                opened.subscriptions = subscriptions
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        group, opened = self._group, self._opening.now
        assert group is not None
        assert opened is not None
        assert opened.runs is not None
        try:
            await opened.runs.close()
        finally:
            opened.runs = opened.subscriptions = None
            group.cancel_scope.cancel()
            try:
                await group.__aexit__(None, None, None)  # with the error it would wrap it
            finally:
                self._group = None
                self._entered = self._opening.held = False
                with anyio.CancelScope(shield=True):
                    await self._opening.close()

    async def aclose(self) -> None:
        """Close the store. Nothing if it is not open; the next call opens it again.

        Raises:
            RuntimeError: Inside `async with` or a lifespan, whose end closes it.
        """
        if self._group is not None:
            raise RuntimeError("these streams are closed at the end of their block or lifespan")
        await self._opening.close()

    async def check(self) -> None:
        """Find out whether the store can read and write now.

        Raises:
            StoreUnavailable: It cannot; says why (503, or 507 for a full disk).
        """
        await (await self.store()).check()

    async def store(self) -> Store:
        """The store, open in this event loop."""
        return (await self._opening.open()).store

    # Writing

    async def create(
        self,
        path: str,
        *,
        content_type: str = _JSON,
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
        return await self._create(path, new)

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
            return await self._append(path, item, producer)
        except StreamGone:
            raise
        except StreamNotFound:
            # Empty: an append with the creation could not be told from one that is sent twice.
            await self._create(path, NewStream(content_type=_JSON))
            return await self._append(path, item, producer)

    async def close(self, path: str) -> str:
        """Close a stream: nothing more can be appended, and readers come to its end.

        Returns:
            Its final offset.

        Raises:
            StreamNotFound: It does not exist (404).
        """
        _check_path(path)
        opened = await self._opening.open()
        done = await opened.store.append(path, Append(close=True))
        opened.appended(path)
        return str(done.tail)

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
            StreamExists: It exists with another configuration (409).
        """
        _check_path(path)
        _check_path(source)
        place = None if offset is None else place_of(offset)
        if place is not None and not isinstance(place, Offset):
            raise InvalidOption("offset", offset, "an offset, or None for the tail")
        new = NewStream(ttl=ttl, fork=Fork(source, place, sub_offset))
        return await self._create(path, new)

    async def delete(self, path: str) -> None:
        """Delete a stream. A run that writes it is stopped.

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
        return Reader(self, path, place_of(start), follow=follow)

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
        return self._subscription(
            path, request, start=start, slow=slow, end_mark=end_mark, waits=True
        )

    async def head(self, path: str) -> StreamInfo:
        """What is known of a stream without reading it.

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
        return Channel(self, path, retention)

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
        """As `router`, for `app.mount("/v1/stream", streams.asgi())`, under any framework."""
        if subscriptions is not None:
            if self._group is not None:
                raise RuntimeError("subscriptions begin with the lifespan: ask for them before it")
            self._subscribed = subscriptions
        return Serving(self, options)

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
            new = NewStream(content_type=_JSON, ttl=ttl, retention=retention or Retention())
            order = Order(path=path, policy=on_disconnect, restart=restart, new=new)
            runs = await self._runs("run")
            work = await runs.start(order, opened)
            begun = isinstance(work, Running) and work.source is opened
        finally:
            if not begun:
                with anyio.move_on_after(self.options.cleanup_timeout, shield=True):
                    await opened.close()
        return Run(self, path, work)

    async def stop(self, path: str) -> bool:
        """Stop a run, in whichever process it goes on, and do not wait until it has.

        Returns:
            True if it goes on; False if there is no such run, or it has ended.
        """
        _check_path(path)
        opened = await self._opening.open()
        if opened.runs is not None:
            return await opened.runs.stop(path)
        return await Claims(opened.store, self._worker).ask_to_stop(path)

    # For the other files

    async def _follow(self, path: str, offset: Offset) -> Entry:
        """As `Hub.follow`. If a run's worker has died meanwhile, its stream is closed."""
        opened = await self._opening.open()
        if opened.runs is not None:
            return await opened.hub.follow(path, offset)  # they are looked after
        claims = Claims(opened.store, self._worker)
        while True:
            with anyio.move_on_after(self._lease):
                return await opened.hub.follow(path, offset)
            await claims.end_if_lost(path)

    async def _create(self, path: str, new: NewStream) -> bool:
        opened = await self._opening.open()
        made = await opened.store.create(path, new)
        opened.appended(path)
        return made.is_new

    async def _append(self, path: str, item: Any, producer: Producer | None = None) -> str:
        """As `append`, to a stream that exists."""
        opened = await self._opening.open()
        store = opened.store
        try:
            message = message_of(item)
            if not message:  # an event that only comments
                return str((await store.head(path)).tail)
            append = Append(data=message, content_type=_JSON, producer=producer)
            done = await store.append(path, append)
        except (ContentTypeMismatch, InvalidChunk):
            # The rare case is tried second: nothing was written.
            data = _bytes_of(item)
            kind = None if data is None else await self._kind_of_bytes(path)
            if data is None or kind is None:
                raise
            append = Append(data=data, content_type=kind, producer=producer)
            done = await store.append(path, append)
        opened.appended(path)
        return str(done.tail)

    async def _kind_of_bytes(self, path: str) -> str | None:
        """The content type of a stream that is not JSON; None of one that is, or is not there."""
        try:
            kind = (await (await self.store()).head(path)).content_type
        except StreamNotFound:
            return None
        return None if is_json(kind) else kind

    def _subscription(
        self,
        path: str,
        request: Request,
        *,
        start: str,
        slow: str,
        end_mark: bool,
        attend: Callable[[], AbstractContextManager[None]] = nullcontext,
        waits: bool = False,
    ) -> Response:
        return Subscription(
            self,
            path,
            request,
            start=start,
            slow=slow_of(slow),
            attend=attend,
            waits=waits,
            end_mark=end_mark,
        )

    async def _hub(self) -> Hub:
        return (await self._opening.open()).hub

    async def _runs(self, what: str) -> Runs:
        opened = None if self._group is None else await self._opening.open()
        if opened is None or opened.runs is None:
            raise RuntimeError(
                f"{what}() needs tasks that go on in the background: give the application "
                "`lifespan=streams.lifespan`, or use the streams in `async with streams:`"
            )
        return opened.runs


def _bytes_of(item: Any) -> bytes | None:
    """What of an item goes into a stream that is not JSON; None if nothing does."""
    if isinstance(item, str):
        return item.encode("utf-8", "replace")  # half a character is no text
    return bytes(item) if isinstance(item, (bytes, bytearray, memoryview)) else None


def _check_path(path: str) -> None:
    """Refuse a path that no stream of a user's can have; the rule is the protocol's."""
    if not isinstance(path, str) or path.startswith(INTERNAL):
        rule = f"a str, as in a URL without the first slash, not beginning {INTERNAL}"
        raise InvalidRequest("the path", str(path), rule)
    stream_path(path)
