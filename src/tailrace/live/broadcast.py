"""One change to many readers: one frame for each format, one write for each reader.

A thousand writes take some milliseconds. The event loop has other things to do as well, so the
readers are served in turns. Changes that come meanwhile are put together and written as one: the
more there is to do, the less each change costs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from tailrace import limits
from tailrace.connection import Frame, counters
from tailrace.live.format import Format
from tailrace.live.tail import Entry, merged
from tailrace.runtime import Loop
from tailrace.store import Offset

__all__ = ["Broadcast", "Listener", "Write"]

_LOOK_AFTER = 64
"""Writes after which the clock is looked at: about 0.4 ms."""

Write = Callable[[Frame], bool]


class Listener(Protocol):
    """A reader at the tail that takes frames as they come."""

    def wake(self) -> None:
        """Something has happened: come and look."""

    def lagging(self, offset: Offset) -> None:
        """It could not take a frame, and is written to no more.

        Args:
            offset: Up to where it has everything.
        """


class Broadcast:
    """Writes each change to all listeners.

    Args:
        loop: The event loop.
        on_settled: Called when all listeners have everything, after a time in which they had not.
    """

    __slots__ = (
        *("_entry", "_format", "_formats", "_frame", "_loop", "_on_settled", "_queue", "_rows"),
        "_todo",
    )

    def __init__(self, loop: Loop, on_settled: Callable[[], None]) -> None:
        self._loop = loop
        self._on_settled = on_settled
        self._rows: dict[Format, dict[Listener, Write]] = {}
        self._queue: deque[Entry] | None = None
        """Changes of which nothing has been written yet."""
        self._entry: Entry | None = None
        """The change that is being written."""
        self._formats: list[Format] = []
        """The formats in which it has to be written yet."""
        self._format: Format | None = None
        """The one in which it is being written."""
        self._frame: Frame | None = None
        self._todo: dict[Listener, Write] = {}
        """The listeners that have not got the frame yet."""

    def __bool__(self) -> bool:
        return bool(self._rows)

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))

    @property
    def settled(self) -> bool:
        """All listeners have everything; only then can a reader join."""
        return self._entry is None

    def anyone(self) -> Listener | None:
        """One of the listeners."""
        for row in self._rows.values():
            return next(iter(row))
        return None

    def wake(self) -> None:
        """Let all listeners come and look; they are written to until they leave."""
        for reader in [reader for row in self._rows.values() for reader in row]:
            reader.wake()

    def disperse(self, tail: Offset) -> None:
        """Write to nobody any more: each reader goes on alone."""
        for format, row in tuple(self._rows.items()):  # noqa: A001 - the word for it
            for reader in tuple(row):
                missing = self.leave(reader, format)
                reader.lagging(tail if missing is None else missing.part.start)

    def join(self, reader: Listener, format: Format, write: Write) -> None:  # noqa: A002
        """Write to a reader that has everything up to the tail."""
        assert self.settled
        self._rows.setdefault(format, {})[reader] = write

    def leave(self, reader: Listener, format: Format) -> Entry | None:  # noqa: A002
        """Write to a reader no more.

        Returns:
            The first change that it has not got; None if it has everything.
        """
        self._remove(reader, format)
        if self._entry is not None and (
            format in self._formats or self._todo.pop(reader, None) is not None
        ):
            return self._entry
        return self._queue[0] if self._queue else None

    def serve(self, entry: Entry) -> None:
        """Write a change to all listeners, after the changes before it."""
        if not self._rows:
            return
        if self._queue is None:
            self._queue = deque()
        self._queue.append(entry)
        if self._entry is None:
            self._go_on()

    def _go_on(self) -> None:
        began_at = None if len(self) < _LOOK_AFTER else self._loop.time()
        while self._next_row():
            frame = self._frame
            assert frame is not None
            served = self._serve_some(frame, _LOOK_AFTER)
            counters.bytes_sent += served * len(frame.data)
            if began_at is not None and self._loop.time() - began_at > limits.TURN_BUDGET:
                self._loop.call_from_thread(self._go_on)
                return
        self._on_settled()

    def _next_row(self) -> bool:
        """Find listeners to write to; False if all have everything."""
        while not self._todo:
            if self._formats:
                self._begin_row(self._formats.pop())
            elif self._queue:
                self._entry = merged(self._queue)
                self._queue.clear()
                self._formats = list(self._rows)
            else:
                self._entry = self._format = self._frame = self._queue = None
                return False
        return True

    def _begin_row(self, format: Format) -> None:  # noqa: A002
        self._format = format
        row = self._rows.get(format)
        if row is None:
            return
        assert self._entry is not None
        try:
            self._frame = self._entry.frame(format)
        except Exception:  # noqa: BLE001 - each reader meets it again in its own task
            self._frame = None
            for reader in tuple(row):
                self._drop(reader)
        else:
            if self._frame is not None:
                self._todo = row.copy()

    def _serve_some(self, frame: Frame, most: int) -> int:
        todo, served = self._todo, 0
        behind: list[Listener] = []
        for _ in range(min(most, len(todo))):
            reader, write = todo.popitem()
            if write(frame):
                served += 1
            else:
                behind.append(reader)
        for reader in behind:
            self._drop(reader)
        return served

    def _drop(self, reader: Listener) -> None:
        assert self._entry is not None
        assert self._format is not None
        self._remove(reader, self._format)
        reader.lagging(self._entry.part.start)

    def _remove(self, reader: Listener, format: Format) -> None:  # noqa: A002
        row = self._rows.get(format)
        if row is not None:
            row.pop(reader, None)
            if not row:
                del self._rows[format]
