"""Where a source and the connection meet: frames in order, bounded in bytes.

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

from tailrace.runtime.loop import Loop, Signal
from tailrace.source.span import Span

__all__ = ["Buffer"]


class Buffer:
    """A bounded queue of frames that is emptied in batches.

    Args:
        loop: The consumer's loop.
        limit: Bytes above which the producer waits, and in one batch. One frame may exceed it: the
            source made it as large as that.
        threaded: The producer is a thread.
        spans: Frames may be spans; then none is put together with another.
    """

    __slots__ = (
        "_call_from_thread",
        "_consumer_waits",
        "_frames",
        "_full",
        "_half",
        "_limit",
        "_put_bytes",
        "_ready",
        "_room",
        "_room_in_thread",
        "_room_wanted",
        "_spans",
        "_taken_bytes",
    )

    def __init__(self, loop: Loop, limit: int, *, threaded: bool, spans: bool = False) -> None:
        self._frames: deque[bytes | memoryview | Span] = deque()
        self._limit = limit
        self._spans = spans
        # Until the first frame is taken there is room for no other: it goes out alone, at once.
        self._full = 0
        self._half = 0
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
    def has_frames(self) -> bool:
        """Something waits to be taken, if only a frame without bytes."""
        return bool(self._frames)

    # The producer's side

    def put(self, frame: bytes | Span) -> bool:
        """Add a frame; False when the buffer has no room for another one like it.

        So frames of one size fill a batch without passing its limit: nothing small is left over.
        """
        self._frames.append(frame)
        self._put_bytes += len(frame)
        if self._consumer_waits:
            self._consumer_waits = False
            if self._room_in_thread is None:
                self._ready.set()
            else:
                self._call_from_thread(self._ready.set)
        return self._put_bytes - self._taken_bytes + len(frame) <= self._full

    def touch(self) -> bool:
        """Tell of an item without bytes: the first one starts the response all the same."""
        return True if self._put_bytes else self.put(b"")

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

    def take(self) -> bytes | Span:
        """The next batch: all that is there, up to the limit; b"" only if nothing is.

        A span is a batch of its own, of any size: its bytes are not here.
        """
        frames: deque[Any] = self._frames
        # A thread may add more meanwhile: that is the next batch's.
        count = min(len(frames), 1) if self._spans else len(frames)
        batch: Any = (
            frames.popleft() if count == 1 else b"".join([frames.popleft() for _ in range(count)])
        )
        self._taken_bytes += len(batch)
        if len(batch) > self._limit and not isinstance(batch, Span):
            rest = memoryview(batch)  # so that cutting a large frame does not copy what is left
            batch = rest[: self._limit]
            frames.appendleft(rest[self._limit :])
            self._taken_bytes -= len(rest) - self._limit
        if not self._full:
            self._full = self._limit
            self._half = self._limit // 2  # there is room again: not a wake-up for each frame
        if self._room_wanted and self.size <= self._half:
            self.wake_producer()
        return batch if isinstance(batch, Span) else bytes(batch)

    def wake_producer(self) -> None:
        """Let a producer that waits look again."""
        self._room_wanted = False
        self._room.set()
        if self._room_in_thread is not None:
            self._room_in_thread.put(None)

    async def ready(self) -> None:
        """Wait until there is a frame, or until `wake_consumer`."""
        self._consumer_waits = True
        if not self._frames:
            await self._ready.wait()
        self._consumer_waits = False

    def wake_consumer(self) -> None:
        """Let the consumer look again; to be called in the loop."""
        self._ready.set()
