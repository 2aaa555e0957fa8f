"""The interface of a store, and what its implementations share.

A store keeps append-only logs of bytes, each under a path. It knows nothing of HTTP. All code that
uses a store relies on three rules:

* an append is atomic; it is durable before it is acknowledged, and before any reader can see it;
* a `Change` that a watcher receives is a hint: it may be lost or come twice, and only `read` is
  certain;
* a store belongs to the event loop in which it was opened, and is closed in that loop.
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
"""What a store calls, in its event loop, when a stream changes; must neither block nor raise."""


class Store(ABC):
    """Append-only logs of bytes, each under a path.

    A path is 1 to `limits.MAX_STREAM_PATH_BYTES` bytes of UTF-8 without NUL. The caller ensures
    that; the store only compares paths, byte by byte. Tailrace itself uses the paths that begin
    with `__ds/`; `list` shows them only if its `prefix` begins so.

    Every method may raise `StoreUnavailable` (or a subclass) if the store itself cannot work. A
    method that needs the stream raises `StreamNotFound` (404) if it was never created, was deleted
    or has expired, and `StreamGone` (410) if it was deleted or has expired and a fork of it still
    exists. A method that writes and is cancelled has written all or nothing.
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
        """Make the store ready, in this event loop.

        Does nothing if the store is open. If several tasks call it at the same moment, it opens
        once, so a caller needs no lock.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Finish what is under way and close everything; a second call does nothing."""

    @abstractmethod
    async def create(self, path: str, new: NewStream) -> Created:
        """Create a stream, or find that it exists with the same configuration.

        Args:
            path: The stream.
            new: Its configuration and first bytes.

        Returns:
            The stream, and whether it is new.

        Raises:
            StreamExists: It exists with another configuration, or it was deleted or has expired
                and forks still read it (409).
            ForkRefused: The fork's source, offset or content type does not fit (400, 404 or 409).
            TooLarge: `data` over `limits.MAX_APPEND_BYTES` (413).

        Source: Durable Streams 5.1, 4.2.
        """

    @abstractmethod
    async def append(self, path: str, append: Append) -> Appended:
        """Append to a stream, close it, or both at once; durable when this returns.

        Args:
            path: The stream.
            append: The bytes, the producer that sends them, and whether to close.

        Returns:
            The new tail, and whether the append was a duplicate.

        Raises:
            StreamClosed: The stream is closed already (409).
            ContentTypeMismatch: The content type is not the stream's (409).
            ProducerFenced: A higher epoch of the producer was seen (403).
            ProducerGap: The producer left out a sequence (409).
            InvalidProducer: A new epoch does not begin at sequence 0 (400).
            SequenceConflict: `seq` is not greater than the last one (409).
            TooLarge: `data` over `limits.MAX_APPEND_BYTES` (413).

        Source: Durable Streams 5.2, 5.2.1, 5.3.
        """

    @abstractmethod
    async def read(self, path: str, start: Where, max_bytes: int = limits.READ_BYTES) -> Slice:
        """Read from `start` on; counts as a use of the stream for its `ttl`.

        The slice begins between two messages (JSON values in a JSON stream, appends in any other).
        If `start` lies within a message, the slice begins with the whole of that message. One byte
        beyond the tail reads as the tail does.

        The slice ends with the first append that reaches the next whole multiple of `max_bytes`
        (counted in positions of the stream, not from `start`), or at the tail. An append is never
        cut at the end, so a slice may be longer than `max_bytes`.

        Args:
            path: The stream.
            start: An offset, or a mark.
            max_bytes: At least 1.

        Raises:
            OffsetGone: `start` is before what is retained, or is an offset of an earlier stream,
                such as one that had this path before (410).
            InvalidOffset: `start` is two bytes or more beyond the tail, or was never given out
                (400).
        """

    @abstractmethod
    async def head(self, path: str) -> StreamInfo:
        """Describe a stream without reading it; does not count as a use for its `ttl`.

        Args:
            path: The stream.
        """

    @abstractmethod
    async def delete(self, path: str) -> None:
        """Delete a stream.

        If it has forks, its data stays until the last fork is gone; until then its path answers
        `StreamGone`. The same holds for a stream that expires.

        Args:
            path: The stream.

        Source: Durable Streams 5.4.
        """

    @abstractmethod
    async def list(
        self, prefix: str = "", after: str = "", limit: int = limits.LIST_STREAMS
    ) -> list[StreamInfo]:
        """List streams by path, in the order of the path's bytes.

        Deleted and expired streams are left out.

        Args:
            prefix: Only paths that begin with it.
            after: Only paths greater than it: give the last path of the page before.
            limit: Streams in the list, at most.
        """

    @abstractmethod
    def watch(self, path: str, on_change: OnChange) -> Callable[[], None]:
        """Call `on_change` when a stream changes, in this process or in another.

        There is one call for each change, or one for several changes together, soon after they are
        durable. The stream need not exist yet. While it is watched, it does not expire by its
        `ttl`.

        Args:
            path: The stream.
            on_change: Called in the event loop of the store; must neither block nor raise.

        Returns:
            A function that stops the watching.

        Raises:
            StoreUnavailable: The store is not open, or the system has no thread left for it (503).
        """

    @abstractmethod
    async def check(self) -> None:
        """Find out whether the store can read and write now.

        Raises:
            StoreUnavailable: It cannot; the message says why (503, or 507 if the disk is full).
        """

    async def wait(self, path: str, offset: Offset) -> None:
        """Return when a stream has bytes after `offset`, is closed, or does not exist.

        It may return early: read the stream to find out. If it is cancelled, nothing is lost.

        Args:
            path: The stream.
            offset: Where the caller has read to.
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
    """The `on_change` functions of one event loop, by the path that they watch."""

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
        """Watch a path; returns a function that stops the watching."""
        key = object()  # the same function may watch twice
        self._calls.setdefault(path, {})[key] = call

        def stop() -> None:
            calls = self._calls.get(path)
            if calls is not None and calls.pop(key, None) is not None and not calls:
                del self._calls[path]

        return stop

    def tell(self, change: Change) -> None:
        """Call each watcher of the stream, except those that another call stops meanwhile."""
        calls = self._calls.get(change.path)
        for key, call in tuple((calls or {}).items()):
            if calls is not None and key in calls:
                call(change)


_STORES: Final = {
    "memory": "tailrace.store.memory:MemoryStore",
    "sqlite": "tailrace.store.sqlite:SQLiteStore",
}


def open_store(url: str) -> Store:
    """Make the store that a URL names, not opened yet; imports its driver.

    Args:
        url: `memory://`, `sqlite:///relative/path` or `sqlite:////absolute/path`.

    Raises:
        InvalidOption: `url` has none of these forms.
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
    # ":memory:" is refused, as it would become a file of that name.
    if not path.startswith("/") or path == "/" or path.startswith("/:"):
        raise InvalidOption("store", url, "sqlite:///PATH, with a file's path after the slash")
    return make(path[1:])
