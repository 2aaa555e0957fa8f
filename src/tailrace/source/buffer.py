"""The queue between a source and what takes its items: items in order, bounded in bytes.

There is one producer (a task, or a thread) and one consumer (a task). Each side counts its own
bytes, so neither needs a lock; `deque.append` and `popleft` are atomic. No wake-up is lost: a side
that has to wait first sets a flag, and then looks at the queue once more. The other side first
changes the queue, and then looks at the flag. Whichever of them comes second sees what the other
has done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from tailrace.runtime import Loop, Signal

__all__ = ["Buffer", "ByteQueue"]


class ByteQueue:
    """A bounded queue between a source and its consumer; a subclass defines how items are taken.

    Args:
        loop: The consumer's loop.
        limit: Bytes above which the producer waits. A single item may be larger: it is in memory
            already.
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
        self._items: Any = deque()
        self._limit = limit
        self._full = limit
        self._half = limit // 2  # the producer wakes up only here, not for each item
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
        """Bytes in the queue."""
        return self._put_bytes - self._taken_bytes

    @property
    def has_items(self) -> bool:
        """Something is in the queue; it may be an item without bytes."""
        return bool(self._items)

    # The producer's side

    def put(self, item: bytes) -> bool:
        """Add an item. False: another item of this size would pass the limit, so wait for room.

        So items of one size fill a batch up to its limit, and no small rest is left for the next.
        """
        self._items.append(item)
        self._put_bytes += len(item)
        if self._consumer_waits:  # the code of `nudge`, without a call for each item
            self._consumer_waits = False
            if self._room_in_thread is None:
                self._ready.set()
            else:
                self._call_from_thread(self._ready.set)
        return self._put_bytes - self._taken_bytes + len(item) <= self._full

    def nudge(self) -> None:
        """Wake the consumer, if it waits, so that it looks again. The producer calls this."""
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
        """Wait in a thread until there is room, at most so many seconds; False if there is none."""
        assert self._room_in_thread is not None
        self._room_wanted = True
        while self.size > self._half:
            try:
                # A token may be left from an earlier wake-up: then the loop looks once more.
                self._room_in_thread.get(timeout=seconds)
            except Empty:
                return False
        return True

    # The consumer's side

    def wake_producer(self) -> None:
        """Wake the producer, if it waits, so that it looks again. The consumer calls this."""
        self._room_wanted = False
        self._room.set()
        if self._room_in_thread is not None:
            self._room_in_thread.put(None)

    async def ready(self) -> None:
        """Wait until there is an item, or until `nudge` or `wake_consumer` is called."""
        self._consumer_waits = True
        if not self._items:
            await self._ready.wait()
        self._consumer_waits = False

    def wake_consumer(self) -> None:
        """Wake the consumer, so that it looks again. Call this in the event loop."""
        self._ready.set()


class Buffer(ByteQueue):
    """The frames of a response: the first one is taken alone, at once, the others in batches.

    Args:
        loop, limit, threaded: As in `ByteQueue`; no batch of bytes is longer than the limit.
    """

    __slots__ = ()

    def __init__(self, loop: Loop, limit: int, *, threaded: bool) -> None:
        super().__init__(loop, limit, threaded=threaded)
        self._half = 0
        if not threaded:
            self._full = 0  # no room for a second frame until the first is taken
            self._items = []  # a tenth of an empty deque, and nobody adds while it is emptied

    def touch(self) -> bool:
        """Note an item without bytes. Before the first bytes, it starts the response."""
        return True if self._put_bytes else self.put(b"")

    def take(self) -> bytes:
        """The next batch: all bytes that are there, up to the limit; b"" if there are none."""
        frames = self._items
        batch: Any
        if len(frames) == 1:
            batch = frames.pop()
        elif isinstance(frames, list):
            batch = b"".join(frames)
            frames.clear()
        else:
            # A thread may add frames meanwhile: they belong to the next batch.
            batch = b"".join([frames.popleft() for _ in range(len(frames))])
        size = len(batch)
        if size > self._limit:
            rest = memoryview(batch)  # so that cutting a large frame does not copy its rest
            batch = rest[: self._limit]
            frames.insert(0, rest[self._limit :])
            size = self._limit
        if not self._half:
            self._full = self._limit
            self._half = self._limit // 2
        self._taken_bytes += size
        if self._room_wanted and self.size <= self._half:
            self.wake_producer()
        return bytes(batch)
