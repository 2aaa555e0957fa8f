"""The tail of a live stream: what is known of it, and the last changes. Pure.

What a store tells of a change is a hint: it may be lost, come twice, or come without its bytes. A
change that joins on to the tail as it is known, and brings its bytes, is taken as it is. After any
other the log has to be read: once, by one of the readers, for all of them.

| state | what is known | a change |
|---|---|---|
| `UNKNOWN` | nobody has read as far as the tail since the stream is watched | is kept |
| `CURRENT` | everything | is taken, or makes it `STALE` |
| `STALE` | there is more in the log, or may be: somebody has to read it | the same |
| `REFRESHING` | somebody reads it | is kept until the read is over |
| `CLOSED`, `DELETED` | nothing more will come | |

Each hint has a number. A read settles the hints that came before it began, if it has come to the
tail; with a hint that came later, the tail is stale still.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum
from typing import Any, Final, TypeVar

from tailrace import limits
from tailrace.connection import Frame
from tailrace.live.format import Format
from tailrace.store import Change, Chunk, Offset, Slice, StreamInfo

__all__ = ["Act", "Entry", "Tail", "TailCache", "TailState", "after", "merged"]

T = TypeVar("T")

_ENTRY_BYTES: Final = 1024
"""Bytes that an entry costs beside its data: its objects."""


class TailState(Enum):
    """What is known of the tail; the top of this file says more."""

    UNKNOWN = "unknown"
    CURRENT = "current"
    STALE = "stale"
    REFRESHING = "refreshing"
    CLOSED = "closed"
    DELETED = "deleted"


_OVER: Final = (TailState.CLOSED, TailState.DELETED)
_KEEPS: Final = (TailState.UNKNOWN, TailState.REFRESHING)


class Act(Enum):
    """What has to be done now; a `Slice` in its place is handed on to the readers."""

    READ = "read"
    """One of the readers has to read the log, for all."""
    LOOK = "look"
    """Readers that sleep have to look for themselves."""
    END = "end"
    """The readers come to their end."""


class Tail:
    """What is known of one stream's tail."""

    __slots__ = ("_kept", "_settled", "hints", "info", "offset", "state")

    def __init__(self) -> None:
        self.state = TailState.UNKNOWN
        self.info: StreamInfo | None = None
        """The stream, as it was found last."""
        self.offset: Offset | None = None
        """Up to where everything is known; None while the tail is unknown."""
        self.hints = 0
        """How often there was a reason to read the log."""
        self._settled = 0
        """How many of these a read has settled."""
        self._kept: list[Change] = []

    @property
    def over(self) -> bool:
        """Nothing more will come."""
        return self.state in _OVER

    # What happens

    def changed(self, change: Change) -> Slice | Act | None:
        """The store has told of a change."""
        state, tail, info = self.state, self.offset, self.info
        if state in _OVER:
            return None
        if change.deleted:
            return self.deleted()
        if state in _KEEPS:
            return self._keep(change)
        assert tail is not None
        assert info is not None
        chunks = change.chunks
        if change.tail == tail:
            if not change.closed:
                return None  # it was told twice
            chunks = ()
        elif change.tail < tail and change.tail.generation == tail.generation:
            return None  # it was read before it was told
        elif change.start != tail or chunks is None:
            return self.hinted()
        info = replace(info, tail=change.tail, closed=change.closed)
        return self._extend(Slice(info, tail, chunks))

    def hinted(self) -> Act | None:
        """There is more in the log, or may be."""
        if self.state in _OVER:
            return None
        self.hints += 1
        if self.state is TailState.REFRESHING:
            return None
        if self.state is TailState.CURRENT:
            self.state = TailState.STALE
        return Act.READ

    def learned(self, found: Slice, hints: int) -> list[Slice | Act]:
        """Somebody has read the log.

        Args:
            found: What was read. The read began when the stream was watched already.
            hints: How many there were when the read began.
        """
        if self.state in _OVER:
            return []
        if self.info is not None and self.info.created_at != found.info.created_at:
            return [self.deleted()]  # another stream has its path now
        if self.state is TailState.UNKNOWN:
            return self._begin(found, hints)
        acts = self._compare(found)
        self._settle(found, hints)
        return acts

    def refreshing(self) -> None:
        """A reader begins to read the log, for all."""
        assert self.state is TailState.STALE
        self.state = TailState.REFRESHING

    def refreshed(self) -> list[Slice | Act]:
        """It has ended, whatever came of it."""
        return self._take_kept() if self.state is TailState.REFRESHING else []

    def lost(self) -> Offset:
        """What follows the tail is no longer retained. Returns where the tail was."""
        tail, self.offset = self.offset, None
        assert tail is not None
        self.state = TailState.UNKNOWN
        return tail

    def deleted(self) -> Act:
        """The stream is gone."""
        self.state = TailState.DELETED
        self._kept.clear()
        return Act.END

    # How it is decided

    def _begin(self, found: Slice, hints: int) -> list[Slice | Act]:
        self.info = found.info
        if not found.up_to_date:
            return []
        self.offset = found.end
        if found.closed:
            return [self._extend(Slice(found.info, found.end, ()))]
        self._settle(found, hints)
        return self._take_kept()

    def _compare(self, found: Slice) -> list[Slice | Act]:
        tail = self.offset
        assert tail is not None
        acts: list[Slice | Act] = []
        if found.end.position > tail.position:
            if found.start.position <= tail.position:
                acts.append(self._extend(Slice(found.info, tail, after(found.chunks, tail))))
            if (not found.up_to_date or self.offset != found.end) and (act := self.hinted()):
                acts.append(act)
        elif found.closed:
            acts.append(self._extend(Slice(found.info, tail, ())))
        return acts

    def _settle(self, found: Slice, hints: int) -> None:
        if found.up_to_date and found.end == self.offset:
            self._settled = max(self._settled, hints)
            if self.state is TailState.STALE and self._settled == self.hints:
                self.state = TailState.CURRENT

    def _extend(self, new: Slice) -> Slice:
        """The tail is where this slice ends."""
        self.info, self.offset = new.info, new.end
        if new.closed:
            self.state = TailState.CLOSED
            self._kept.clear()
        return new

    def _keep(self, change: Change) -> Act | None:
        kept = self._kept
        kept.append(change)
        held = sum(len(chunk.data) for each in kept for chunk in each.chunks or ())
        if len(kept) > limits.EARLY_CHANGES or held > limits.RECENT_BYTES:
            kept.clear()
            self.hints += 1
        return Act.LOOK if self.state is TailState.UNKNOWN else None

    def _take_kept(self) -> list[Slice | Act]:
        """The tail is known: what does that make of the changes that were kept?"""
        self.state = TailState.CURRENT if self._settled == self.hints else TailState.STALE
        kept, self._kept = self._kept, []
        acts = [act for change in kept if (act := self.changed(change)) is not None]
        if self.state is TailState.STALE and Act.READ not in acts:
            acts.append(Act.READ)
        return acts


class Entry:
    """One change or one part of the log, framed once for each format that was asked for.

    Args:
        part: What was appended or read.
        now: Seconds since the epoch at which it was.
    """

    __slots__ = ("_made", "now", "part", "size")

    def __init__(self, part: Slice, now: float) -> None:
        self.part = part
        self.now = now
        self.size = _ENTRY_BYTES + sum(len(chunk.data) for chunk in part.chunks)
        """Bytes that it holds, about."""
        self._made: dict[Any, Any] | None = None

    def frame(self, format: Format) -> Frame | None:  # noqa: A002 - the word for it
        """Its bytes; None if the format has none for it."""
        made = self._made
        if made is None:
            made = self._made = {}
        elif format in made:
            frame: Frame | None = made[format]
            return frame
        data = format.frame(self.part, self.now)
        frame = made[format] = Frame(data) if data else None
        if frame is not None:
            self.size += frame.size + len(data)
        return frame

    def shared(self, make: Callable[[Slice], Sequence[T]], each_bytes: int) -> Sequence[T]:
        """What a function makes of it, made once for all who ask.

        Args:
            make: The function; it is the key as well.
            each_bytes: What each of its results holds, about, beside a share of the data.
        """
        made = self._made
        if made is None:
            made = self._made = {}
        items: Sequence[T] | None = made.get(make)
        if items is None:
            items = made[make] = make(self.part)
            self.size += each_bytes * len(items) + len(self.part.data)
        return items


class TailCache:
    """Changes that follow each other without a gap, the last ones of a stream; bounded in bytes.

    What it holds is counted when the next change comes: until then formats are asked for.
    """

    __slots__ = ("_entries", "_sizes", "size")

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque()
        self._sizes: deque[int] = deque()
        self.size = 0
        """Bytes that are held, about, but for those of the newest."""

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry) -> None:
        """Add the change that follows the last one, and drop the oldest."""
        entries, sizes = self._entries, self._sizes
        if entries:
            sizes.append(entries[-1].size)
            self.size += sizes[-1]
        entries.append(entry)
        while sizes and self.size + entry.size > limits.RECENT_BYTES:
            entries.popleft()
            self.size -= sizes.popleft()

    def at(self, offset: Offset) -> Entry | None:
        """What follows an offset; an entry of its own for one that is within a change."""
        found = None
        for entry in reversed(self._entries):  # a reader that asks is hardly ever far behind
            start = entry.part.start
            if start == offset:
                found = entry
            elif start.position < offset.position:
                end = entry.part.end
                # One of another generation is of a stream that had this path before.
                is_within = offset.generation == end.generation and offset.position < end.position
                if is_within and found is None:
                    return _rest(entry, offset)
                break
        return found


def merged(queue: Sequence[Entry]) -> Entry:
    """Entries that follow each other, as one."""
    if len(queue) == 1:
        return queue[0]
    chunks = tuple(chunk for entry in queue for chunk in entry.part.chunks)
    last = queue[-1]
    return Entry(Slice(last.part.info, queue[0].part.start, chunks), last.now)


def after(chunks: Sequence[Chunk], offset: Offset) -> tuple[Chunk, ...]:
    """What of some chunks follows an offset."""
    rest = []
    for chunk in chunks:
        left = chunk.end.position - offset.position
        if left >= len(chunk.data):
            rest.append(chunk)
        elif left > 0:
            rest.append(Chunk(chunk.data[-left:], chunk.end))
    return tuple(rest)


def _rest(entry: Entry, offset: Offset) -> Entry:
    part = entry.part
    return Entry(Slice(part.info, offset, after(part.chunks, offset)), entry.now)
