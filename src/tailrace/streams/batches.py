"""Where a run's source and its store meet: messages in order, bounded in bytes.

As `source.Buffer`, with one difference: what is taken is whole messages, for an append is atomic
and a message must not be cut in two. The one that waits first says so and then looks again; the
other first does its part and then looks whether somebody waits: so no wake-up is lost.
"""

from __future__ import annotations

from collections import deque
from queue import Empty, SimpleQueue

from tailrace.runtime import Loop, Signal

__all__ = ["Batches"]


class Batches:
    """A bounded queue of messages that is emptied in batches.

    Args:
        loop: The consumer's loop.
        limit: Bytes above which the producer waits, and in one batch; a longer message is a batch.
        threaded: The producer is a thread.
    """

    def __init__(self, loop: Loop, limit: int, *, threaded: bool) -> None:
        self._loop = loop
        self._limit = limit
        self._messages: deque[bytes] = deque()
        self._put_bytes = 0
        self._taken_bytes = 0
        self._ready: Signal = loop.signal()
        self._room: Signal = loop.signal()
        self._room_in_thread: SimpleQueue[None] | None = SimpleQueue() if threaded else None
        self._consumer_waits = False
        self._room_wanted = False

    @property
    def size(self) -> int:
        """Bytes that wait to be taken."""
        return self._put_bytes - self._taken_bytes

    # The producer's side

    def put(self, message: bytes) -> bool:
        """Add a message; False when the producer should wait for room."""
        self._messages.append(message)
        self._put_bytes += len(message)
        self.nudge()
        return self.size < self._limit

    def nudge(self) -> None:
        """Let the consumer look again, if it waits."""
        if self._consumer_waits:
            self._consumer_waits = False
            if self._room_in_thread is None:
                self._ready.set()
            else:
                self._loop.call_from_thread(self._ready.set)

    async def room(self) -> None:
        """Wait in a task until there is room."""
        while self.size >= self._limit:
            self._room_wanted = True
            if self.size >= self._limit:
                await self._room.wait()

    def room_in_thread(self, seconds: float) -> bool:
        """Wait in a thread until there is room, not longer than some seconds; False without."""
        assert self._room_in_thread is not None
        self._room_wanted = True
        while self.size >= self._limit:
            try:
                # A token may be left from before: it costs one more look.
                self._room_in_thread.get(timeout=seconds)
            except Empty:
                return False
        return True

    # The consumer's side

    def take(self) -> bytes:
        """The next batch: whole messages, up to the limit; b"" only if there are none."""
        messages = self._messages
        if not messages:
            return b""
        batch = [messages.popleft()]
        size = len(batch[0])
        while messages and size + len(messages[0]) <= self._limit:
            batch.append(messages.popleft())
            size += len(batch[-1])
        self._taken_bytes += size
        if self._room_wanted and self.size < self._limit:
            self._room_wanted = False
            self._room.set()
            if self._room_in_thread is not None:
                self._room_in_thread.put(None)
        return b"".join(batch)

    async def ready(self) -> None:
        """Wait until there is a message, or until somebody nudges."""
        self._consumer_waits = True
        if not self._messages:
            await self._ready.wait()
        self._consumer_waits = False

    def wake(self) -> None:
        """Let the consumer look again; to be called in the loop."""
        self._ready.set()
