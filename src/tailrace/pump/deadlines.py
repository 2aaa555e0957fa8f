"""When something is due on a stream: decided without waiting, from what was reported.

The driver says what happens (`begun`, `writing`, `written`) and asks, when the time it was told has
come, what is due now. Nothing is armed and disarmed for each write: a time that has come too early
is answered with a later one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import inf

from tailrace import limits
from tailrace.types import StreamOptions

__all__ = ["Deadlines", "Due", "Verdict"]


class Due(Enum):
    """What a stream's clock asks for."""

    NOTHING = "nothing"
    START = "start"
    """The first item is late: send the status line without it."""
    PUSH = "push"
    """The first item is late, and the status line went out alone: send an empty body behind it."""
    HEARTBEAT = "heartbeat"
    """Nothing was sent for a while: say that the stream is alive."""
    STALLED = "stalled"
    """The client took nothing for `send_timeout`: cut it off."""
    TOO_SLOW = "too_slow"
    """The client took less than `min_rate`: cut it off."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is due now, and the time to ask again (`inf`: never)."""

    due: Due
    again: float


class Deadlines:
    """The clock of one stream.

    Args:
        options: The time limits.
        heartbeat: The format has a heartbeat.
        start_grace: The format's own, where the options say none.
        now: The loop's time.
    """

    __slots__ = (
        "_begun",
        "_grace_ends",
        "_heartbeat",
        "_min_rate",
        "_push_at",
        "_quiet_since",
        "_send_timeout",
        "_start_grace",
        "_unsent",
        "_waited",
        "_waited_bytes",
        "_write_began",
        "_write_bytes",
        "_write_moved",
    )

    def __init__(
        self, options: StreamOptions, *, heartbeat: bool, start_grace: float, now: float
    ) -> None:
        self._send_timeout = inf if options.send_timeout is None else options.send_timeout
        self._heartbeat = options.heartbeat if heartbeat and options.heartbeat else inf
        self._min_rate = options.min_rate
        self._start_grace = start_grace if options.start_grace is None else options.start_grace
        self.source_begins(now)
        self._begun = False
        self._quiet_since = now
        self._write_began: float | None = None
        self._write_moved = now
        self._write_bytes = 0
        self._unsent: int | None = None
        self._waited = 0.0
        self._waited_bytes = 0

    def source_begins(self, now: float) -> None:
        """The source waited for its turn until now: what was before does not count."""
        self._grace_ends = now + self._start_grace
        self._push_at = now + max(self._start_grace, limits.START_GRACE)

    def begun(self) -> None:
        """The status line is on its way."""
        self._begun = True

    def writing(self, size: int, now: float) -> None:
        """A write has begun; one of 0 bytes is that of the head."""
        if size:
            self._push_at = inf
        self._write_began = self._write_moved = now
        self._write_bytes = size
        self._unsent = None

    def written(self, now: float) -> None:
        """The server took the write."""
        if self._write_began is not None:
            self._waited += now - self._write_began
            self._waited_bytes += self._write_bytes
        self._write_began = None
        self._quiet_since = now
        if self._waited >= limits.MIN_RATE_WINDOW and not self._is_too_slow(0.0):
            self._waited = 0.0
            self._waited_bytes = 0

    def pushed(self) -> None:
        """An empty body is on its way behind the head."""
        self._push_at = inf

    def needs_push(self, now: float) -> bool:
        """Whether the head has waited long enough for a body behind it."""
        return now >= self._push_at

    @property
    def is_writing(self) -> bool:
        """A write waits for the client."""
        return self._write_began is not None

    def check(self, now: float, unsent: int | None) -> Verdict:
        """What is due.

        Args:
            now: The loop's time.
            unsent: Bytes in the server's write buffer where it lets us see them, otherwise None.
                A buffer that shrinks is progress, though the write itself still waits.
        """
        if self._write_began is not None:
            return self._check_write(now, self._write_began, unsent)
        if not self._begun:
            self._quiet_since = now
            again = self._idle_again(now)
            if now >= self._grace_ends:
                return Verdict(Due.START, again)
            return Verdict(Due.NOTHING, min(self._grace_ends, again))
        if self.needs_push(now):
            self._quiet_since = now
            return Verdict(Due.PUSH, self._idle_again(now))
        # The same sum as in `again`: a difference may round to a little less, and ask for ever.
        if now >= self._quiet_since + self._heartbeat:
            self._quiet_since = now
            return Verdict(Due.HEARTBEAT, self._idle_again(now))
        return Verdict(Due.NOTHING, self._idle_again(now))

    def _check_write(self, now: float, began: float, unsent: int | None) -> Verdict:
        if unsent is not None and (self._unsent is None or unsent < self._unsent):
            if self._unsent is not None:
                self._write_moved = now
            self._unsent = unsent
        if now >= self._write_moved + self._send_timeout:
            return Verdict(Due.STALLED, inf)
        if self._is_too_slow(now - began):
            return Verdict(Due.TOO_SLOW, inf)
        again = self._write_moved + self._send_timeout
        if self._unsent is not None or self._min_rate is not None:
            # Progress is seen only by looking, so look four times in the time it is given.
            step = min(self._send_timeout, limits.MIN_RATE_WINDOW) / 4
            again = min(again, now + step)
        return Verdict(Due.NOTHING, again)

    def _is_too_slow(self, waiting: float) -> bool:
        waited = self._waited + waiting
        if self._min_rate is None or waited < limits.MIN_RATE_WINDOW:
            return False
        return self._waited_bytes / waited < self._min_rate

    def _idle_again(self, now: float) -> float:
        # A write that begins after this answer must not be looked at too late.
        beat = self._quiet_since + self._heartbeat
        step = limits.MIN_RATE_WINDOW / 4 if self._min_rate is not None else inf
        push = self._push_at if now < self._push_at else inf
        return min(beat, push, now + self._send_timeout, now + step)
