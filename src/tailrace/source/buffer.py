"""Where a source and what takes its items meet: items in order, bounded in bytes.

One producer (a task, or a thread) and one consumer (a task). Each side keeps its own running count,
so neither needs a lock; `deque.append` and `popleft` are atomic. To wait, a side first says that it
waits and then looks again; the other side first does its part and then looks whether somebody
waits. Whichever comes second sees the other, so no wake-up is lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from tailrace.runtime import Loop, Signal
from tailrace.source.pieces import Span

__all__ = ["Buffer", "ByteQueue"]


class ByteQueue:
    """A bounded queue between a source and its consumer; a subclass says what is taken at a time.

    Args:
        loop: The consumer's loop.
        limit: Bytes above which the producer waits. One item may exceed it: the source made it as
            large as that.
        threaded: The producer is a thread.
    """

    __slots__ = (
        "_call_from_thread",
        "_consumer_waits",
        "_full",
        "_half",
        "_items",
        "_limit",
        "_put_bytes",
        "_ready",
        "_room",
        "_room_in_thread",
        "_room_wanted",
        "_taken_bytes",
    )

    def __init__(self, loop: Loop, limit: int, *, threaded: bool) -> None:
        self._items: deque[Any] = deque()
        self._limit = limit
        self._full = limit
        self._half = limit // 2  # there is room again: not a wake-up for each item
        self._put_bytes = 0
        self._taken_bytes = 0
        self._ready: Signal = loop.signal()
        self._room: Signal = loop.signal()
        self._room_in_thread: SimpleQueue[None] | None = SimpleQueue() if threaded else None
        self._consumer_waits = False
        self._room_wanted = False
        self._call_from_thread: Callable[[Callable[[], None]], None] = loop.call_from_thread

    @property
    def size(self) -> int:
        """Bytes that wait to be taken."""
        return self._put_bytes - self._taken_bytes

    @property
    def has_items(self) -> bool:
        """Something waits to be taken, if only an item without bytes."""
        return bool(self._items)

    # The producer's side

    def put(self, item: bytes | Span) -> bool:
        """Add an item; False when there is no room for another one like it.

        So items of one size fill a batch without passing its limit: nothing small is left over.
        """
        self._items.append(item)
        self._put_bytes += len(item)
        if self._consumer_waits:  # as in `nudge`, without a call for each item
            self._consumer_waits = False
            if self._room_in_thread is None:
                self._ready.set()
            else:
                self._call_from_thread(self._ready.set)
        return self._put_bytes - self._taken_bytes + len(item) <= self._full

    def nudge(self) -> None:
        """Let a consumer that waits look again; called by the producer."""
        if self._consumer_waits:
            self._consumer_waits = False
            if self._room_in_thread is None:
                self._ready.set()
            else:
                self._call_from_thread(self._ready.set)

    async def room(self) -> None:
        """Wait in a task until there is room."""
        while self.size > self._half:
            self._room_wanted = True
            if self.size > self._half:
                await self._room.wait()

    def room_in_thread(self, seconds: float) -> bool:
        """Wait in a thread until there is room, not longer than some seconds; False without."""
        assert self._room_in_thread is not None
        self._room_wanted = True
        while self.size > self._half:
            try:
                # A token may be left from before: it costs one more look.
                self._room_in_thread.get(timeout=seconds)
            except Empty:
                return False
        return True

    # The consumer's side

    def wake_producer(self) -> None:
        """Let a producer that waits look again."""
        self._room_wanted = False
        self._room.set()
        if self._room_in_thread is not None:
            self._room_in_thread.put(None)

    async def ready(self) -> None:
        """Wait until there is an item, or until `wake_consumer`."""
        self._consumer_waits = True
        if not self._items:
            await self._ready.wait()
        self._consumer_waits = False

    def wake_consumer(self) -> None:
        """Let the consumer look again; to be called in the loop."""
        self._ready.set()


class Buffer(ByteQueue):
    """The frames of a response: the first one goes out alone, at once, the others in batches.

    Args:
        loop, limit, threaded: As in `ByteQueue`; no batch is longer than the limit.
        spans: Frames may be spans; then none is put together with another.
    """

    __slots__ = ("_spans",)

    def __init__(self, loop: Loop, limit: int, *, threaded: bool, spans: bool = False) -> None:
        super().__init__(loop, limit, threaded=threaded)
        self._spans = spans
        if not threaded:
            self._full = self._half = 0  # until the first frame is taken there is room for no other

    def touch(self) -> bool:
        """Tell of an item without bytes: the first one starts the response all the same."""
        return True if self._put_bytes else self.put(b"")

    def take(self) -> bytes | Span:
        """The next batch: all that is there, up to the limit; b"" only if nothing is.

        A span is a batch of its own, of any size: its bytes are not here.
        """
        frames = self._items
        # A thread may add more meanwhile: that is the next batch's.
        count = min(len(frames), 1) if self._spans else len(frames)
        batch: Any = (
            frames.popleft() if count == 1 else b"".join([frames.popleft() for _ in range(count)])
        )
        size = len(batch)
        if size > self._limit and not isinstance(batch, Span):
            rest = memoryview(batch)  # so that cutting a large frame does not copy what is left
            batch = rest[: self._limit]
            frames.appendleft(rest[self._limit :])
            size = self._limit
        if not self._full:
            self._full = self._limit
            self._half = self._limit // 2
        self._taken_bytes += size
        if self._room_wanted and self.size <= self._half:
            self.wake_producer()
        return batch if isinstance(batch, Span) else bytes(batch)
