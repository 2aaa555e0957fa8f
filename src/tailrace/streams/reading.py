"""A stream read in this process, message by message."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Protocol
from weakref import finalize

import anyio

from tailrace.errors import InvalidOffset, OffsetGone, RunEnded, StreamNotFound
from tailrace.runtime import current_loop
from tailrace.store import (
    Chunk,
    Mark,
    Offset,
    Slice,
    Store,
    StreamInfo,
    Where,
    is_json,
    message_ends,
)
from tailrace.streams.item import END_BYTES, End, Message, end_in, parse

__all__ = ["Reader", "end_of", "place_of", "read_end", "until_there"]


def place_of(start: str) -> Where:
    """The place in a stream that a user names: "start", "now", or a message's offset.

    Raises:
        InvalidOffset: No offset.
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

    async def store(self) -> Store:
        """The store, open."""

    async def wait(self, path: str, offset: Offset) -> None:
        """Wait until there is more, and see to it that a run whose worker died ends."""


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
        self._messages: deque[Message] = deque()
        self._end: End | None = None
        self._over = False
        self._waiting: anyio.CancelScope | None = None
        self._waits = waits
        self._attend = attend
        self._attending = ExitStack()

    async def __anext__(self) -> Message:
        if not await self._any():
            raise StopAsyncIteration
        return self._messages.popleft()

    async def take(self) -> list[Message]:
        """All that is there, and at least one; none at the end."""
        if not await self._any():
            return []
        taken = list(self._messages)
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
            store = await self._sight.store()
            try:
                part = await store.read(self._path, self._place)
            except StreamNotFound:
                if not self._waits:
                    raise
                await until_there(store, self._path)
                self._place = Mark.BEGINNING
                return
            self._waits = False
            self._messages.extend(messages_of(part))
            self._place = part.end
            if part.closed:
                self._over = True
                self._end = end_of(part)
                if self._end is not None:
                    self._messages.pop()  # it is told by how the iteration ends
            elif part.up_to_date:
                if not self._follow:
                    self._over = True
                elif not part.chunks:
                    await self._sight.wait(self._path, part.end)
        self._waiting = None

    def _raise_end(self) -> None:
        end, self._end = self._end, None
        if end is not None and end.status != "done":
            raise RunEnded(self._path, end.status, end.code, end.message)


async def until_there(store: Store, path: str) -> None:
    """Wait until a stream exists. Cancelled, nothing is lost."""
    changed = current_loop().signal()
    stop = store.watch(path, lambda _change: changed.set())
    try:
        while True:
            try:
                await store.head(path)
            except StreamNotFound:
                await changed.wait()
            else:
                return
    finally:
        stop()


def messages_of(part: Slice) -> Iterator[Message]:
    """The messages in a stretch of a stream."""
    json = is_json(part.info.content_type)
    for chunk in part.chunks:
        if json:
            yield from _json_messages(chunk)
        else:
            yield Message(str(chunk.end), chunk.data)


def end_of(part: Slice) -> End | None:
    """How the run ended whose stream's last stretch this is; None if it is no run's."""
    if not part.closed or not part.chunks or not is_json(part.info.content_type):
        return None
    return end_in(part.chunks[-1].data)


async def read_end(store: Store, info: StreamInfo) -> End | None:
    """How the run ended whose stream this is; None if it is open, or no run's."""
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
        except OffsetGone:  # its retention has let go of more meanwhile
            part = await store.read(info.path, Mark.BEGINNING)
        if part.closed:
            return end_of(part)
        place = part.end


def _json_messages(chunk: Chunk) -> Iterator[Message]:
    begin = 0
    before = chunk.end.position - len(chunk.data)
    for end in message_ends(chunk.data):
        data, event = parse(chunk.data[begin : end - 1])
        yield Message(str(Offset(chunk.end.generation, before + end)), data, event)
        begin = end
