"""A stream read in this process, message by message.

However many read it: what is new at its tail is read from the store once, and cut into messages
once. Each reader decodes them for itself, for its items are its own to change.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Final, Protocol
from weakref import finalize

import anyio

from tailrace.errors import InvalidOffset, OffsetGone, RunEnded, StreamNotFound
from tailrace.live import Entry, Hub
from tailrace.store import Mark, Offset, Slice, Store, StreamInfo, Where, is_json
from tailrace.streams.item import END_BYTES, End, Message, WireMessage, end_in, wire_messages

__all__ = ["Reader", "end_of", "place_of", "read_end"]

_WIRE_MESSAGE_BYTES: Final = 250
"""Bytes of memory that a message costs beside its data, cut out and with its offset."""


def place_of(start: str) -> Where:
    """The position in a stream that a user names: "start", "now", or a message's offset.

    Raises:
        InvalidOffset: It is not one of these.
    """
    if start == "start" or start == Mark.BEGINNING.value:
        return Mark.BEGINNING
    if start == "now":
        return Mark.TAIL
    if not isinstance(start, str):
        raise InvalidOffset(repr(start))
    return Offset.parse(start)


class Sight(Protocol):
    """What a reader needs of the streams it is a part of."""

    async def hub(self) -> Hub:
        """The live streams, of the store that is open."""

    async def follow(self, path: str, offset: Offset) -> Entry:
        """As `Hub.follow`, and see to it that a run whose worker died ends."""


class Reader(AsyncIterator[Message]):
    """The messages of a stream, as they come; for one task.

    Between two messages nothing is held: it may be left at any time. `aclose()` ends it, also
    while another task waits for its next message.

    Args:
        sight: Where the stream is.
        path: Which.
        start: From where on.
        follow: Wait for more at the tail, until the stream is closed.
        attend: Entered from the first message to the last; left too if the reader is dropped.
        waits: A stream that does not exist is waited for, and read from its beginning.

    Raises:
        StreamNotFound: It does not exist, or was deleted while it was being followed.
        OffsetGone: What is next is no longer retained.
        RunEnded: It is the stream of a run that did not end well; after its last item.
    """

    def __init__(
        self,
        sight: Sight,
        path: str,
        start: Where,
        *,
        follow: bool,
        attend: Callable[[], AbstractContextManager[None]] | None = None,
        waits: bool = False,
    ) -> None:
        self._sight = sight
        self._path = path
        self._place = start
        self._follow = follow
        self._begun = False
        self._messages: deque[WireMessage] = deque()
        """What was read and not given yet."""
        self._json = True
        self._end: End | None = None
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
        """All messages that are there, at least one; none at the end."""
        if not await self._any():
            return []
        taken = [self._decoded(message) for message in self._messages]
        self._messages.clear()
        return taken

    async def _any(self) -> bool:
        """Wait for a message; False at the end."""
        if self._attend is not None:
            self._attending.enter_context(self._attend())
            finalize(self, self._attending.close)
            self._attend = None
        while not self._messages:
            if self._over:
                self._attending.close()
                self._raise_end()
                return False
            await self._fill()
        return True

    async def aclose(self) -> None:
        """End it."""
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
        """What comes next: maybe empty; None if there was no stream yet, and there is now."""
        place = self._place
        if self._begun and self._follow and isinstance(place, Offset):
            return await self._sight.follow(self._path, place)
        hub = await self._sight.hub()
        try:
            # The first read of all: only the store knows at which message an offset begins.
            return Entry(await hub.read(self._path, place), 0.0)
        except StreamNotFound:
            if not self._waits:
                raise
            await hub.wait_until_there(self._path)
            self._place = Mark.BEGINNING
            return None

    def _take(self, entry: Entry) -> None:
        part = entry.part
        self._begun, self._waits = True, False
        self._json = is_json(part.info.content_type)
        self._messages.extend(entry.shared(_wire_messages, _WIRE_MESSAGE_BYTES))
        self._place = part.end
        if part.closed:
            self._over = True
            self._end = end_of(part)
            if self._end is not None:
                self._messages.pop()  # it is told by how the iteration ends
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
    """The messages in a part of a stream; of one that is not JSON, its appends."""
    if is_json(part.info.content_type):
        return list(wire_messages(part))
    return [WireMessage(str(chunk.end), chunk.data) for chunk in part.chunks]


def end_of(part: Slice) -> End | None:
    """How a run ended, from the last part of its stream; None if the stream is not a run's."""
    if not part.closed or not part.chunks or not is_json(part.info.content_type):
        return None
    return end_in(part.chunks[-1].data)


async def read_end(store: Store, info: StreamInfo) -> End | None:
    """How a run ended, from its stream; None if the stream is open, or not a run's."""
    if not info.closed or not is_json(info.content_type):
        return None
    tail = info.tail
    place: Where = Mark.BEGINNING
    if tail.position - END_BYTES > info.first.position and info.forked_from is None:
        # Any position may be read from, and the last bytes are enough.
        place = Offset(tail.generation, tail.position - END_BYTES)
    while True:
        try:
            part = await store.read(info.path, place)
        except OffsetGone:  # more has been dropped meanwhile, by its retention
            part = await store.read(info.path, Mark.BEGINNING)
        if part.closed:
            return end_of(part)
        place = part.end
