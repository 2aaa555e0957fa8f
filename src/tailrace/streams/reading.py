"""A stream read in Python, message by message.

What is new at the tail of a stream is read from the store once and cut into messages once, for all
readers in this process. Each reader decodes the messages for itself, because it may change its
items.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Final
from weakref import finalize

import anyio

from tailrace.errors import InvalidOffset, RunEnded, StreamNotFound
from tailrace.live import Entry
from tailrace.runtime import current_loop
from tailrace.store import Mark, Offset, Slice, Where, is_json
from tailrace.streams.core import Core
from tailrace.streams.item import Message, RunEnd, WireMessage, end_of, wire_messages

__all__ = ["Reader", "parse_start"]

_WIRE_MESSAGE_BYTES: Final = 250
"""Bytes of memory that a `WireMessage` costs beside its data."""


def parse_start(start: str) -> Where:
    """The position that a user names: "start" or "-1", "now", or a message's offset.

    Raises:
        InvalidOffset: `start` is not one of these (400).
    """
    if start == "start" or start == Mark.BEGINNING.value:
        return Mark.BEGINNING
    if start == "now":
        return Mark.TAIL
    if not isinstance(start, str):
        raise InvalidOffset(repr(start))
    return Offset.parse(start)


class Reader(AsyncIterator[Message]):
    """Iterates over the messages of a stream as they come; for one task.

    Between two messages nothing is held, so the iteration may be left at any time. `aclose()` ends
    it, even while another task waits for the next message.

    Args:
        core: The core of the streams.
        path: The path of the stream.
        start: Where to begin.
        follow: Wait for more at the tail, until the stream is closed.
        attend: Entered before the first message; left after the last one, by `aclose()`, or when
            the reader is dropped.
        waits: If the stream does not exist, wait for it, and read it from its beginning.

    Raises:
        StreamNotFound: The stream does not exist, or was deleted meanwhile.
        OffsetGone: The next message is no longer retained.
        RunEnded: After the last item of a run that has failed, was cancelled or was lost.
    """

    def __init__(
        self,
        core: Core,
        path: str,
        start: Where,
        *,
        follow: bool,
        attend: Callable[[], AbstractContextManager[None]] | None = None,
        waits: bool = False,
    ) -> None:
        self._core = core
        self._path = path
        self._position = start
        self._follow = follow
        self._begun = False
        self._messages: deque[WireMessage] = deque()
        """Messages that were read from the stream and not returned yet."""
        self._json = True
        self._end: RunEnd | None = None
        self._over = False
        self._waiting: anyio.CancelScope | None = None
        self._waits = waits
        self._attend = attend
        self._attending = ExitStack()

    async def __anext__(self) -> Message:
        if not await self._any():
            raise StopAsyncIteration
        return self._decoded(self._messages.popleft())

    async def take(self) -> list[Message]:
        """Wait for a message, and return all that are ready; an empty list at the end."""
        if not await self._any():
            return []
        taken = [self._decoded(message) for message in self._messages]
        self._messages.clear()
        return taken

    async def _any(self) -> bool:
        """Wait for a message; False at the end."""
        if self._attend is not None:
            self._attending.enter_context(self._attend())
            self._attend = None
            # A reader may be dropped in any thread: by a SyncStreams, or by the garbage collector.
            dropped = finalize(self, current_loop().call_from_thread, self._attending.close)
            dropped.atexit = False  # at exit there is no event loop
            self._attending.callback(dropped.detach)
        while not self._messages:
            if self._over:
                self._attending.close()
                self._raise_end()
                return False
            await self._fill()
        return True

    async def aclose(self) -> None:
        """End the iteration; a call that waits for a message returns as at the end."""
        self._over = True
        self._end = None
        self._messages.clear()
        self._attending.close()
        if self._waiting is not None:
            self._waiting.cancel()

    async def _fill(self) -> None:
        with anyio.CancelScope() as self._waiting:
            entry = await self._next()
            if entry is not None:
                self._take(entry)
        self._waiting = None

    async def _next(self) -> Entry | None:
        """What comes next; it may be empty. None when a stream that was waited for now exists."""
        position = self._position
        if self._begun and self._follow and isinstance(position, Offset):
            return await self._core.follow(self._path, position)
        hub = await self._core.hub()
        try:
            # The first offset may be within a message; only the store can find where that begins.
            return Entry(await hub.read(self._path, position), 0.0)
        except StreamNotFound:
            if not self._waits:
                raise
            await hub.wait_until_there(self._path)
            self._position = Mark.BEGINNING
            return None

    def _take(self, entry: Entry) -> None:
        part = entry.part
        self._begun, self._waits = True, False
        self._json = is_json(part.info.content_type)
        self._messages.extend(entry.shared(_wire_messages, _WIRE_MESSAGE_BYTES))
        self._position = part.end
        if part.closed:
            self._over = True
            self._end = end_of(part)
            if self._end is not None:
                self._messages.pop()  # not an item: it says how the run ended
        elif part.up_to_date and not self._follow:
            self._over = True

    def _decoded(self, message: WireMessage) -> Message:
        if self._json:
            return message.decoded()
        return Message(message.offset, message.data)

    def _raise_end(self) -> None:
        end, self._end = self._end, None
        if end is not None and end.status != "done":
            raise RunEnded(self._path, end.status, end.code, end.message)


def _wire_messages(part: Slice) -> list[WireMessage]:
    """The messages in a part of a stream; if the stream is not JSON, its appends."""
    if is_json(part.info.content_type):
        return list(wire_messages(part))
    return [WireMessage(str(chunk.end), chunk.data) for chunk in part.chunks]
