"""The readers at the tail who are written to: one frame for each format, one write for each reader.

A thousand writes take some milliseconds. What else the event loop has to do is not to wait for all
of them, so the crowd is served in turns. Changes that come meanwhile are put together and written
as one: the more there is to do, the less each change costs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from tailrace import limits
from tailrace.connection import Frame, counters
from tailrace.live.format import Format, Piece
from tailrace.live.recent import Entry
from tailrace.runtime import Loop
from tailrace.store import Offset, Slice

__all__ = ["Crowd", "Pushed", "Write"]

_LOOK_AFTER = 64
"""Writes after which the clock is looked at: 0.4 ms or so."""

Write = Callable[[Frame], bool]


class Pushed(Protocol):
    """A reader that is written to."""

    def wake(self) -> None:
        """Something has happened: come and look."""

    def fell_behind(self, offset: Offset) -> None:
        """It could not take a frame, and is in the crowd no more.

        Args:
            offset: Up to where it has everything.
        """


class Crowd:
    """Those who are written to.

    Args:
        loop: The event loop.
        on_settled: Called when all have been served, after a time in which they had not.
    """

    __slots__ = (
        *("_entry", "_format", "_formats", "_frame", "_loop", "_on_settled", "_queue", "_rows"),
        "_todo",
    )

    def __init__(self, loop: Loop, on_settled: Callable[[], None]) -> None:
        self._loop = loop
        self._on_settled = on_settled
        self._rows: dict[Format, dict[Pushed, Write]] = {}
        self._queue: deque[Entry] | None = None
        """Changes that nobody has got yet."""
        self._entry: Entry | None = None
        """The change that is being written."""
        self._formats: list[Format] = []
        """Those of its formats that are not begun."""
        self._format: Format | None = None
        """The one that is being written."""
        self._frame: Frame | None = None
        self._todo: dict[Pushed, Write] = {}
        """Who has not got the frame yet."""

    def __bool__(self) -> bool:
        return bool(self._rows)

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))

    @property
    def settled(self) -> bool:
        """Everybody has got everything; only then can somebody join."""
        return self._entry is None

    def anyone(self) -> Pushed | None:
        """One of those who are here."""
        for row in self._rows.values():
            return next(iter(row))
        return None

    def wake(self) -> None:
        """Let everybody come and look; they stay here until they leave."""
        for reader in [reader for row in self._rows.values() for reader in row]:
            reader.wake()

    def disperse(self, tail: Offset) -> None:
        """Let each reader go on alone."""
        for format, row in tuple(self._rows.items()):  # noqa: A001 - the word for it
            for reader in tuple(row):
                missing = self.leave(reader, format)
                reader.fell_behind(tail if missing is None else missing.piece.start)

    def join(self, reader: Pushed, format: Format, write: Write) -> None:  # noqa: A002
        """Write to a reader that has everything up to the tail."""
        assert self.settled
        self._rows.setdefault(format, {})[reader] = write

    def leave(self, reader: Pushed, format: Format) -> Entry | None:  # noqa: A002
        """Write to a reader no more.

        Returns:
            The first change that it has not got; None if it has all.
        """
        self._remove(reader, format)
        if self._entry is not None and (
            format in self._formats or self._todo.pop(reader, None) is not None
        ):
            return self._entry
        return self._queue[0] if self._queue else None

    def serve(self, entry: Entry) -> None:
        """Write a change to all, after the ones before it."""
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
        """Find somebody to write to; False if everybody has everything."""
        while not self._todo:
            if self._formats:
                self._begin_row(self._formats.pop())
            elif self._queue:
                self._entry = _merged(self._queue)
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
        except Exception:  # noqa: BLE001 - each of them meets it again in a task of its own
            self._frame = None
            for reader in tuple(row):
                self._drop(reader)
        else:
            if self._frame is not None:
                self._todo = row.copy()

    def _serve_some(self, frame: Frame, most: int) -> int:
        todo, served = self._todo, 0
        behind: list[Pushed] = []
        for _ in range(min(most, len(todo))):
            reader, write = todo.popitem()
            if write(frame):
                served += 1
            else:
                behind.append(reader)
        for reader in behind:
            self._drop(reader)
        return served

    def _drop(self, reader: Pushed) -> None:
        assert self._entry is not None
        assert self._format is not None
        self._remove(reader, self._format)
        reader.fell_behind(self._entry.piece.start)

    def _remove(self, reader: Pushed, format: Format) -> None:  # noqa: A002
        row = self._rows.get(format)
        if row is not None:
            row.pop(reader, None)
            if not row:
                del self._rows[format]


def _merged(queue: deque[Entry]) -> Entry:
    if len(queue) == 1:
        return queue[0]
    pieces = [entry.piece for entry in queue]
    chunks = tuple(chunk for piece in pieces for chunk in piece.chunks)
    last = pieces[-1]
    return Entry(Piece(Slice(last.info, pieces[0].start, chunks), last.now))
