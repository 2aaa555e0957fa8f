"""What the parts of `Streams` share: the store, the tasks that work on it, and the verbs.

`Streams` is the public class above this: it documents every verb and assembles the parts. A run, a
channel, a response and the protocol each get the core, and do not know `Streams`.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import anyio

from tailrace import limits
from tailrace.errors import ContentTypeMismatch, InvalidChunk, InvalidOption, StreamNotFound
from tailrace.live import Entry, Hub
from tailrace.protocol import Authorize
from tailrace.store import Append, NewStream, Offset, Producer, Store, is_json
from tailrace.streams.claims import Claims, new_worker
from tailrace.streams.item import message_of
from tailrace.streams.runs import Runs
from tailrace.streams.store_handle import OpenStore, StoreHandle
from tailrace.types import StreamOptions

if TYPE_CHECKING:
    from tailrace.subscriptions import SubscriptionOptions

__all__ = ["JSON", "Core"]

JSON: Final = "application/json"


class Core:
    """A store that is opened when it is needed, and background tasks that work on it.

    It has tasks inside `async with core:`. Then runs can begin, and subscriptions are delivered.

    Args:
        url: The store's URL, or the store itself.
        options: For responses and runs.
        lease: Whole seconds after which a worker that gives no sign of life counts as dead.
        authorize: Called for every path that a request touches; None: everything is allowed.

    Raises:
        InvalidOption: The URL is not that of a store, or the lease is out of its range.
    """

    def __init__(
        self,
        url: str | Store,
        options: StreamOptions | None = None,
        lease: int = limits.LEASE,
        authorize: Authorize | None = None,
    ) -> None:
        if type(lease) is not int or lease < 1:
            raise InvalidOption("lease", lease, "whole seconds, 1 or more")
        self.options = options or StreamOptions()
        self.authorize = authorize
        self.handle = StoreHandle(url)
        self.subscribed: SubscriptionOptions | None = None
        """Settings of the subscriptions, which start with the tasks; None: no subscriptions."""
        self._lease = lease
        self._worker = new_worker()
        self._entered = False
        self._group: anyio.abc.TaskGroup | None = None

    @property
    def has_tasks(self) -> bool:
        """Whether it is inside its `async with`."""
        return self._group is not None

    async def __aenter__(self) -> Self:
        if self._entered:
            raise RuntimeError(
                "these streams are open already: use one lifespan or `async with` block"
            )
        self._entered = True  # before the first await: two tasks may enter at once
        try:
            opened = await self.handle.open()
        except BaseException:
            self._entered = False
            raise
        group = anyio.create_task_group()
        await group.__aenter__()
        self._group = group
        self.handle.held = True
        opened.runs = Runs(opened.store, group, self._lease, self.options, opened.appended)
        group.start_soon(opened.runs.keep)
        try:
            if self.subscribed is not None:
                from tailrace.subscriptions import Subscriptions  # few use them

                subscriptions = Subscriptions(
                    opened.store, self.subscribed, authorize=self.authorize
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
        group, opened = self._group, self.handle.now
        assert group is not None
        assert opened is not None
        assert opened.runs is not None
        try:
            await opened.runs.close()
        finally:
            opened.runs = opened.subscriptions = None
            group.cancel_scope.cancel()
            try:
                await group.__aexit__(None, None, None)  # given the error, it would raise a group
            finally:
                self._group = None
                self._entered = self.handle.held = False
                with anyio.CancelScope(shield=True):
                    await self.handle.close()

    async def open(self) -> OpenStore:
        """The store, open in this event loop, and what belongs to it."""
        return await self.handle.open()

    async def store(self) -> Store:
        """The store, open in this event loop."""
        return (await self.handle.open()).store

    async def hub(self) -> Hub:
        """The live streams of the store."""
        return (await self.handle.open()).hub

    async def runs(self) -> Runs:
        """The runs of this process.

        Raises:
            RuntimeError: The core has no tasks.
        """
        opened = None if self._group is None else await self.handle.open()
        if opened is None or opened.runs is None:
            raise RuntimeError(
                "run() needs tasks that go on in the background: give the application "
                "`lifespan=streams.lifespan`, or use the streams in `async with streams:`"
            )
        return opened.runs

    # Verbs

    async def create(self, path: str, new: NewStream) -> bool:
        """Create a stream; False if it exists with the same configuration.

        Raises:
            StreamExists: It exists with another configuration (409).
        """
        opened = await self.handle.open()
        made = await opened.store.create(path, new)
        opened.appended(path)
        return made.is_new

    async def append(self, path: str, item: Any, producer: Producer | None = None) -> str:
        """Add an item to a stream that exists, and return the offset after it.

        Raises:
            StreamNotFound: It does not exist (404).
            StreamError: As `Streams.append`.
        """
        opened = await self.handle.open()
        store = opened.store
        try:
            message = message_of(item)
            if not message:  # an event with only a comment
                return str((await store.head(path)).tail)
            append = Append(data=message, content_type=JSON, producer=producer)
            done = await store.append(path, append)
        except (ContentTypeMismatch, InvalidChunk):
            # Streams of bytes are rarer, so they are tried second. Nothing was written so far.
            data = _bytes_of(item)
            kind = None if data is None else await self._kind_of_bytes(path)
            if data is None or kind is None:
                raise
            append = Append(data=data, content_type=kind, producer=producer)
            done = await store.append(path, append)
        opened.appended(path)
        return str(done.tail)

    async def close(self, path: str) -> str:
        """Close a stream, and return its final offset.

        Raises:
            StreamNotFound: It does not exist (404).
        """
        opened = await self.handle.open()
        done = await opened.store.append(path, Append(close=True))
        opened.appended(path)
        return str(done.tail)

    async def stop(self, path: str) -> bool:
        """Stop a run, in whichever process it goes on; False if no run of this path goes on."""
        opened = await self.handle.open()
        if opened.runs is not None:
            return await opened.runs.stop(path)
        return await Claims(opened.store, self._worker).ask_to_stop(path)

    async def follow(self, path: str, offset: Offset) -> Entry:
        """As `Hub.follow`. The stream of a run is closed if the run's worker dies meanwhile."""
        opened = await self.handle.open()
        if opened.runs is not None:
            return await opened.hub.follow(path, offset)  # a task looks for dead workers
        claims = Claims(opened.store, self._worker)
        while True:
            with anyio.move_on_after(self._lease):
                return await opened.hub.follow(path, offset)
            await claims.end_if_lost(path)

    async def _kind_of_bytes(self, path: str) -> str | None:
        """The content type of a stream; None if it is JSON, or if the stream does not exist."""
        try:
            kind = (await (await self.store()).head(path)).content_type
        except StreamNotFound:
            return None
        return None if is_json(kind) else kind


def _bytes_of(item: Any) -> bytes | None:
    """An item's bytes for a stream that is not JSON; None if it is neither text nor bytes."""
    if isinstance(item, str):
        return item.encode("utf-8", "replace")  # a lone surrogate cannot be encoded
    return bytes(item) if isinstance(item, (bytes, bytearray, memoryview)) else None
