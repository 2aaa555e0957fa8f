"""The interface of a store, and what its implementations share.

A store keeps append-only logs of bytes by path. It is asked for bytes and knows nothing of HTTP.
Three things about it carry all that is built above:

* an append is atomic and durable before it is acknowledged, and before any reader can see it;
* what a change tells watchers is a hint that may be lost or come twice; `read` is the truth;
* it belongs to the event loop in which it was opened, and is closed there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from importlib import import_module
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from tailrace import limits
from tailrace.errors import InvalidOption, StreamNotFound
from tailrace.runtime import current_loop
from tailrace.store.values import (
    Append,
    Appended,
    Change,
    Created,
    NewStream,
    Offset,
    Slice,
    StreamInfo,
    Where,
)

__all__ = ["OnChange", "Store", "Watchers", "open_store"]

OnChange = Callable[[Change], None]
"""Called in the event loop of the store; must neither block nor raise."""


class Store(ABC):
    """Append-only logs by path.

    Paths are the caller's: 1 to `limits.MAX_STREAM_PATH_BYTES` bytes of UTF-8 without NUL; the
    store compares them byte by byte. Those that begin with `__ds/` are ours and are listed only by
    that prefix.

    Every verb may raise `StoreUnavailable` (or one of its kinds) if the store itself cannot work,
    and `StreamNotFound` (never created, deleted, expired) or `StreamGone` (deleted or expired,
    while a fork of it is there) where it needs the stream. Cancelled, a verb that writes is done or
    not done, never half.
    """

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    @abstractmethod
    async def open(self) -> None:
        """Make it ready, in this event loop.

        Nothing if it is open. Tasks that call it at the same moment open it once, so a caller needs
        no lock.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Finish what is under way and close everything. Nothing the second time."""

    @abstractmethod
    async def create(self, path: str, new: NewStream) -> Created:
        """Create a stream, or find that it exists with the same configuration.

        Args:
            path: The stream.
            new: Its configuration and first bytes.

        Raises:
            StreamExists: It exists with another configuration, or is soft-deleted (409).
            ForkRefused: The fork's source, offset or content type does not fit (400, 404 or 409).
            TooLarge: `data` over `limits.MAX_APPEND_BYTES` (413).

        Source: Durable Streams 5.1, 4.2.
        """

    @abstractmethod
    async def append(self, path: str, append: Append) -> Appended:
        """Append to a stream, close it, or both in one; durable when this returns.

        Args:
            path: The stream.
            append: What is added, and by whom.

        Raises:
            StreamClosed: Closed before (409).
            ContentTypeMismatch: Another content type than the stream's (409).
            ProducerFenced: A higher epoch of the producer was seen (403).
            ProducerGap: A sequence was left out (409).
            InvalidProducer: A new epoch that does not begin at 0 (400).
            SequenceConflict: `seq` is not greater than the last one (409).
            TooLarge: `data` over `limits.MAX_APPEND_BYTES` (413).

        Source: Durable Streams 5.2, 5.2.1, 5.3.
        """

    @abstractmethod
    async def read(self, path: str, start: Where, max_bytes: int = limits.READ_BYTES) -> Slice:
        """Read from a place on; counts as a use of the stream for its `ttl`.

        It ends with the first append that reaches a whole multiple of `max_bytes` (counted in
        positions of the stream, not from `start`), or at the tail. An append is never cut, so it
        may be longer than `max_bytes`.

        It begins between two messages (of JSON, or else appends): from an offset within one, with
        the whole of it. One byte beyond the tail is read as the tail is.

        Args:
            path: The stream.
            start: An offset, or a mark.
            max_bytes: At least 1.

        Raises:
            OffsetGone: Before what is retained, or of another stream that had this path (410).
            InvalidOffset: Further beyond the tail (400).
        """

    @abstractmethod
    async def head(self, path: str) -> StreamInfo:
        """What is known of a stream; does not count as a use of it.

        Args:
            path: The stream.
        """

    @abstractmethod
    async def delete(self, path: str) -> None:
        """Delete a stream. While forks read it, its path answers `StreamGone` and its data stays;
        so it is with one that expires.

        Args:
            path: The stream.

        Source: Durable Streams 5.4.
        """

    @abstractmethod
    async def list(
        self, prefix: str = "", after: str = "", limit: int = limits.LIST_STREAMS
    ) -> list[StreamInfo]:
        """Streams by path in the order of its bytes, without those that are deleted or expired.

        Args:
            prefix: Of the paths.
            after: Only paths greater than this one: the last of the page before.
            limit: How many at most.
        """

    @abstractmethod
    def watch(self, path: str, on_change: OnChange) -> Callable[[], None]:
        """Be told of changes of a stream, whether it exists or not, in any process.

        Called once for each change or for several together, soon after they are durable. A stream
        that is watched is in use: it does not expire by its `ttl`.

        Args:
            path: The stream.
            on_change: Called in the event loop of the store; it must not raise.

        Returns:
            What ends it.
        """

    @abstractmethod
    async def check(self) -> None:
        """Find out whether the store can read and write now.

        Raises:
            StoreUnavailable: It cannot; says why.
        """

    async def wait(self, path: str, offset: Offset) -> None:
        """Return when a stream has more than `offset`, or is closed or gone: then read it.

        May return early. Cancelled, nothing is lost.

        Args:
            path: The stream.
            offset: What has been read.
        """
        changed = current_loop().signal()
        stop = self.watch(path, lambda _change: changed.set())
        try:
            try:
                info = await self.head(path)
            except StreamNotFound:
                return
            if info.tail.position <= offset.position and not info.closed:
                await changed.wait()
        finally:
            stop()


class Watchers:
    """The calls to make when a stream changes, by path; of one event loop."""

    def __init__(self) -> None:
        self._calls: dict[str, dict[object, OnChange]] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[str]:
        """The paths that are watched."""
        return iter(tuple(self._calls))

    def has(self, path: str) -> bool:
        """Whether the path is watched."""
        return path in self._calls

    def add(self, path: str, call: OnChange) -> Callable[[], None]:
        """Watch; returns what ends it."""
        key = object()  # the same call may watch twice
        self._calls.setdefault(path, {})[key] = call

        def stop() -> None:
            calls = self._calls.get(path)
            if calls is not None and calls.pop(key, None) is not None and not calls:
                del self._calls[path]

        return stop

    def tell(self, change: Change) -> None:
        """Call each that watches the stream; one that stops meanwhile is not called any more."""
        calls = self._calls.get(change.path)
        for key, call in tuple((calls or {}).items()):
            if calls is not None and key in calls:
                call(change)


_STORES: Final = {
    "memory": "tailrace.store.memory:MemoryStore",
    "sqlite": "tailrace.store.sqlite:SQLiteStore",
}


def open_store(url: str) -> Store:
    """The store that a URL names, not opened yet; its driver is imported only now.

    Args:
        url: `memory://`, `sqlite:///relative/path` or `sqlite:////absolute/path`.

    Raises:
        InvalidOption: It is not the URL of a store that is known.
    """
    parts = urlsplit(url)
    known = _STORES.get(parts.scheme)
    if known is None:
        raise InvalidOption("store", url, "memory:// or sqlite:///PATH")
    module, _, name = known.partition(":")
    make: Callable[..., Store] = getattr(import_module(module), name)
    if parts.scheme == "memory":
        if url.removeprefix("memory:").strip("/"):
            raise InvalidOption("store", url, "memory:// alone")
        return make()
    path = url.removeprefix("sqlite://")
    # SQLite's own ":memory:" would be taken for the name of a file.
    if not path.startswith("/") or path == "/" or path.startswith("/:"):
        raise InvalidOption("store", url, "sqlite:///PATH, with a file's path after the slash")
    return make(path[1:])
