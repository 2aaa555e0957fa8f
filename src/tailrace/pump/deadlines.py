"""When something is due on a response: decided without waiting, from what was reported.

The driver says what happens (`begun`, `writing`, `written`) and asks, when the time it was told has
come, what is due now. Nothing is armed and disarmed for each write: a time that has come too early
is answered with a later one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import inf

from tailrace import limits

__all__ = ["Deadlines", "Due", "StallClock", "Verdict"]


class Due(Enum):
    """What a response's clock asks for."""

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


class StallClock:
    """How long something has waited for a client that takes nothing.

    Args:
        timeout: Seconds; None lets it wait for ever.
    """

    __slots__ = ("_began", "_moved", "_timeout", "_unsent")

    def __init__(self, timeout: float | None) -> None:
        self._timeout = inf if timeout is None else timeout
        self._began: float | None = None
        self._moved = 0.0
        self._unsent: int | None = None

    @property
    def waits(self) -> bool:
        """From now on something waits for the client."""
        return self._began is not None

    def wait(self, since: float | None) -> None:
        """Something waits for the client from this time on; None: nothing does."""
        self._began = since
        self._moved = since or 0.0
        self._unsent = None

    def is_stalled(self, now: float, unsent: int | None) -> bool:
        """Whether the client has taken nothing for too long, while something waits for it.

        Args:
            now: The loop's time.
            unsent: A number that shrinks by the bytes that the client takes, where it can be seen;
                None elsewhere. That is progress, though the write itself still waits.
        """
        if unsent is not None and (self._unsent is None or unsent < self._unsent):
            if self._unsent is not None:
                self._moved = now
            self._unsent = unsent
        return now >= self._moved + self._timeout

    def look_again(self, now: float) -> float:
        """When to look at a wait again.

        Progress is seen only by looking, so look four times in the time that the client is given.
        """
        again = self._moved + self._timeout
        if self._unsent is None or again == inf:
            return again
        return min(again, now + min(self._timeout, limits.MIN_RATE_WINDOW) / 4)


class Deadlines(StallClock):
    """The clock of one response.

    Args:
        now: The loop's time.
        send_timeout: Seconds in which a client must take something that waits for it.
        min_rate: Bytes per second that it must take of what waits for it.
        heartbeat: Seconds of silence after which there is a heartbeat; infinite for none.
        start_grace: Seconds for which the status line waits for the first item.
    """

    __slots__ = (
        "_begun",
        "_grace_ends",
        "_heartbeat",
        "_min_rate",
        "_push_at",
        "_start_grace",
        "_waited",
        "_waited_bytes",
        "_write_bytes",
        "quiet_since",
    )

    def __init__(
        self,
        now: float,
        *,
        send_timeout: float | None = None,
        min_rate: float | None = None,
        heartbeat: float = inf,
        start_grace: float = 0.0,
    ) -> None:
        super().__init__(send_timeout)
        self._heartbeat = heartbeat
        self._min_rate = min_rate
        self._start_grace = start_grace
        self.source_begins(now)
        self._begun = False
        self._write_bytes = 0
        self._waited = 0.0
        self._waited_bytes = 0
        self.quiet_since = now
        """Since when nothing was sent."""

    def source_begins(self, now: float) -> None:
        """The source waited for its turn until now: what was before does not count."""
        self._grace_ends = now + self._start_grace
        self._push_at = now + max(self._start_grace, limits.START_GRACE)

    def begun(self) -> None:
        """The status line is on its way."""
        self._begun = True

    def begins_at_once(self) -> None:
        """The status line and a body behind it go out now."""
        self._begun = True
        self._push_at = inf

    def writing(self, size: int, now: float) -> None:
        """A write has begun; one of 0 bytes is that of the head."""
        if size:
            self._push_at = inf
        self._began = self._moved = now
        self._write_bytes = size
        self._unsent = None

    def written(self, now: float) -> None:
        """The server took the write."""
        if self._began is not None:
            self._waited += now - self._began
            self._waited_bytes += self._write_bytes
        self._began = None
        self.quiet_since = now
        if self._waited >= limits.MIN_RATE_WINDOW and not self._is_too_slow(0.0):
            self._waited = 0.0
            self._waited_bytes = 0

    def pushed(self) -> None:
        """An empty body is on its way behind the head."""
        self._push_at = inf

    def needs_push(self, now: float) -> bool:
        """Whether the head has waited long enough for a body behind it."""
        return now >= self._push_at

    def check(self, now: float, unsent: int | None) -> Verdict:
        """What is due; the arguments are those of `is_stalled`."""
        if self._began is not None:
            return self._check_write(now, self._began, unsent)
        if not self._begun:
            self.quiet_since = now
            again = self._idle_again(now)
            if now >= self._grace_ends:
                return Verdict(Due.START, again)
            return Verdict(Due.NOTHING, min(self._grace_ends, again))
        if self.needs_push(now):
            self.quiet_since = now
            return Verdict(Due.PUSH, self._idle_again(now))
        # The same sum as in `again`: a difference may round to a little less, and ask for ever.
        if now >= self.quiet_since + self._heartbeat:
            self.quiet_since = now
            return Verdict(Due.HEARTBEAT, self._idle_again(now))
        return Verdict(Due.NOTHING, self._idle_again(now))

    def _check_write(self, now: float, began: float, unsent: int | None) -> Verdict:
        if self.is_stalled(now, unsent):
            return Verdict(Due.STALLED, inf)
        if self._is_too_slow(now - began):
            return Verdict(Due.TOO_SLOW, inf)
        return Verdict(Due.NOTHING, min(self.look_again(now), self._rate_again(now)))

    def _is_too_slow(self, waiting: float) -> bool:
        waited = self._waited + waiting
        if self._min_rate is None or waited < limits.MIN_RATE_WINDOW:
            return False
        return self._waited_bytes / waited < self._min_rate

    def _rate_again(self, now: float) -> float:
        return inf if self._min_rate is None else now + limits.MIN_RATE_WINDOW / 4

    def _idle_again(self, now: float) -> float:
        # A write that begins after this answer must not be looked at too late.
        beat = self.quiet_since + self._heartbeat
        push = self._push_at if now < self._push_at else inf
        return min(beat, push, now + self._timeout, self._rate_again(now))
