"""Where one reader is in a live stream, and what it does next. Decided without waiting.

| state | the reader | it ends |
|---|---|---|
| `ABSENT` | waits for a stream that does not exist yet | when somebody creates it |
| `BEHIND` | is given what it has not got, from the log or from the last changes | at the tail |
| `AT_TAIL` | has been at the tail, and is given what comes | when too much waits for it |
| `LISTENING` | is written to by the broadcast | when it cannot take a frame |
| `LAGGING` | is too slow, so its policy (`Slow`) says what becomes of it | at its next step |

A reader that is attached to its connection goes from `AT_TAIL` to `LISTENING` as soon as nobody is
being written to. It is too slow when its connection takes no frame. One that is not attached never
listens: it is too slow when it was at the tail, and is more than `limits.ATTACH_BUFFER_BYTES` from
it now.
"""

from __future__ import annotations

import time
from enum import Enum

from tailrace import limits
from tailrace.live.format import Gap
from tailrace.live.live_stream import LiveStream
from tailrace.live.tail import Entry, TailState
from tailrace.store import Offset, Slice, StreamInfo

__all__ = ["ReadCursor", "ReaderState", "ReaderStep", "Slow"]


class Slow(Enum):
    """What becomes of a reader for which too much waits (`limits.ATTACH_BUFFER_BYTES`)."""

    RESUME = "resume"
    """It reads what it missed from the log, at its own pace."""
    LATEST = "latest"
    """It goes on with what comes next, and is told of the gap."""
    DISCONNECT = "disconnect"
    """It is cut off, and may come back."""


class ReaderState(Enum):
    """What is done for a reader; the top of this file says more."""

    ABSENT = "absent"
    BEHIND = "behind"
    AT_TAIL = "at tail"
    LISTENING = "listening"
    LAGGING = "lagging"


class ReaderStep(Enum):
    """What a reader does next, if it is not given anything."""

    WAIT = "wait"
    """It waits to be woken."""
    SLEEP = "sleep"
    """It has everything, or others are still being written to: it sleeps until the next change."""
    LISTEN = "listen"
    """It has everything: from now on the broadcast writes to it."""
    LEAVE = "leave"
    """The stream is over: the broadcast writes to it no more."""
    LOOK = "look"
    """It finds out whether the stream exists now."""
    READ = "read"
    """It reads the log for itself."""
    REFRESH = "refresh"
    """It reads the log for all."""
    BEAT = "beat"
    """It shows that the response is alive."""
    CUT_OFF = "cut off"
    """It is too slow."""
    CLOSED = "closed"
    """It has everything, and nothing more will come."""
    DELETED = "deleted"
    """The stream is gone."""


class ReadCursor:
    """One reader's position in a live stream.

    Args:
        live: The stream.
        first: What it gets first; it has got nothing of that yet. If its stream has no generation,
            it does not exist yet.
        slow: What becomes of it if it is too slow.
    """

    __slots__ = ("closing", "created_at", "live", "offset", "sent_up_to_date", "slow", "state")

    def __init__(self, live: LiveStream, first: Slice, slow: Slow) -> None:
        self.live = live
        self.slow = slow
        exists = first.info.generation
        self.state = ReaderState.BEHIND if exists else ReaderState.ABSENT
        self.created_at = first.info.created_at
        self.offset = first.start
        """Up to where it has everything; while it listens, that is the tail."""
        self.closing: Slice | None = None
        """The last part, if nothing more will come."""
        self.sent_up_to_date = False

    # What has happened to it

    def appears(self, info: StreamInfo) -> None:
        """The stream exists now."""
        self.state, self.created_at = ReaderState.BEHIND, info.created_at

    def take(self, part: Slice) -> None:
        """It has got a part."""
        self.offset = part.end
        self.closing = part if part.closed else None
        self.sent_up_to_date = part.up_to_date

    def skip(self, gap: Gap) -> None:
        """It does not get what lies between."""
        self.offset = gap.end

    def listens(self) -> None:
        """The broadcast writes to it."""
        self.state = ReaderState.LISTENING

    def lags(self, offset: Offset) -> None:
        """The broadcast has left it behind.

        Args:
            offset: Up to where it has everything.
        """
        self.state, self.offset = ReaderState.LAGGING, offset

    def leaves(self, missing: Entry | None) -> None:
        """It has left the broadcast.

        Args:
            missing: The first entry that it has not got; None if it has got everything.
        """
        live = self.live
        self.state, self.sent_up_to_date = ReaderState.AT_TAIL, True
        if missing is not None:
            self.offset = missing.part.start
        else:
            assert live.tail.offset is not None
            self.offset = live.tail.offset
            self.closing = None if live.closing is None else live.closing.part

    # What it does next

    def next(self, *, attached: bool, full: bool, beat: bool) -> Entry | Gap | ReaderStep:
        """What it is given next, or does.

        Args:
            attached: The broadcast can write to its connection.
            full: The connection takes nothing more for now.
            beat: The client has to be shown that the response is alive.
        """
        if self.state is ReaderState.LISTENING:
            return self._while_listening()
        if full:
            return ReaderStep.WAIT
        if self.state is ReaderState.ABSENT:
            return ReaderStep.BEAT if beat else ReaderStep.LOOK
        if self.state is not ReaderState.BEHIND and self._is_too_slow(attached=attached):
            self.state = ReaderState.BEHIND
            if self.slow is Slow.DISCONNECT:
                return ReaderStep.CUT_OFF
            if self.slow is Slow.LATEST and (gap := self._to_latest()) is not None:
                return gap
        return ReaderStep.BEAT if beat else self._next_part(attached=attached)

    def _while_listening(self) -> ReaderStep:
        live = self.live
        if live.tail.over:
            return ReaderStep.LEAVE if live.broadcast.settled else ReaderStep.WAIT
        return ReaderStep.REFRESH if live.tail.state is TailState.STALE else ReaderStep.WAIT

    def _is_too_slow(self, *, attached: bool) -> bool:
        if attached or self.state is ReaderState.LAGGING:
            return self.state is ReaderState.LAGGING
        tail = self.live.tail.offset
        return (
            tail is not None and tail.position - self.offset.position > limits.ATTACH_BUFFER_BYTES
        )

    def _to_latest(self) -> Gap | None:
        tail = self.live.tail.offset
        if tail is None or tail.position <= self.offset.position:
            return None
        return Gap(self.offset, tail)

    def _next_part(self, *, attached: bool) -> Entry | ReaderStep:
        live = self.live
        if self.closing is not None:
            return ReaderStep.CLOSED
        if live.tail.state is TailState.DELETED or self._is_of_another(live):
            return ReaderStep.DELETED
        tail = live.tail.offset
        if tail is None:
            return ReaderStep.READ
        entry = live.after(self.offset)
        if entry is not None:
            return entry
        if self.offset.position < tail.position:
            return ReaderStep.READ
        return self._at_tail(tail, attached=attached)

    def _at_tail(self, tail: Offset, *, attached: bool) -> Entry | ReaderStep:
        live = self.live
        if live.tail.state is TailState.STALE:
            return ReaderStep.REFRESH
        reads_ahead = self.offset != tail or live.tail.state is TailState.REFRESHING
        if not reads_ahead and not self.sent_up_to_date:
            assert live.tail.info is not None
            return Entry(Slice(live.tail.info, tail, ()), time.time())
        self.state = ReaderState.AT_TAIL
        if reads_ahead or not (attached and live.broadcast.settled):
            return ReaderStep.SLEEP
        return ReaderStep.LISTEN

    def _is_of_another(self, live: LiveStream) -> bool:
        info = live.tail.info
        return info is not None and info.created_at != self.created_at
