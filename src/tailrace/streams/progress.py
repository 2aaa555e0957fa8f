"""`Progress`: how far a piece of work is, as events at a rate that a person can read.

It has a clock, but no timer. A step that comes too soon after the last event is *thinned*: it is
falsy. A run keeps a thinned step back and shows the latest state a moment later, even if the source
waits or ends in between. A plain `EventSourceResponse` writes a thinned step as an empty comment,
which clients ignore; for other plain responses write `if step := progress.step(): yield step`.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from tailrace import limits
from tailrace.errors import InvalidOption
from tailrace.framing import Event

__all__ = ["PartState", "Progress", "ProgressState", "Step", "Thinned"]

EndState: TypeAlias = Literal["done", "failed", "cancelled"]
State: TypeAlias = Literal["running", "done", "failed", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartState:
    """How far one part of a piece of work is.

    Args:
        name: The name that `part` was given.
        done: Steps done.
        total: Steps in all; None: not known.
        unit: What a step is; None: not given.
        percent: 0 to 100; None without a total.
        message: The last message; None: there was none.
        state: "running", "done", "failed" or "cancelled".
    """

    name: str
    done: float
    total: float | None
    unit: str | None
    percent: float | None
    message: str | None
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressState:
    """How far a piece of work is, at one moment.

    Args:
        done: Steps done; a part that has ended counts as its weight.
        total: Steps in all; None: not known.
        unit: What a step is; None: not given.
        percent: 0 to 100, with the share that open parts have done; None without a total.
        rate: Steps a second, averaged over the last seconds; None in the first moment.
        left: Seconds until the end at that rate; None: not known, or the work has ended.
        elapsed: Seconds since the beginning.
        message: The last message; None: there was none.
        state: "running", "done", "failed" or "cancelled".
        parts: The parts that are open, the outermost first.
    """

    done: float
    total: float | None
    unit: str | None
    percent: float | None
    rate: float | None
    left: float | None
    elapsed: float
    message: str | None
    state: State
    parts: tuple[PartState, ...] = ()


class Step(Event):
    """A step to send: an event named "progress" whose data is a `ProgressState`."""

    __slots__ = ("progress",)

    progress: Progress

    def __init__(self, progress: Progress, state: ProgressState) -> None:
        super().__init__(state, event="progress")
        object.__setattr__(self, "progress", progress)


class Thinned(Event):
    """A step that came too soon to be sent; falsy."""

    __slots__ = ("progress",)

    progress: Progress

    def __init__(self, progress: Progress) -> None:
        super().__init__(comment="")
        object.__setattr__(self, "progress", progress)

    def __bool__(self) -> bool:
        return False


_counting = threading.Lock()
"""Threads may share a piece of work. One lock for all is enough: it is held for one addition."""


class _Node:
    """Counts steps; the common base of a progress and its parts."""

    def __init__(self, total: float | None, unit: str | None) -> None:
        self._total = _checked_total(total)
        self._unit = unit
        self._done: float = 0
        self._message: str | None = None
        self._state: State = "running"
        self._part: ProgressPart | None = None

    @property
    def done(self) -> float:
        """Steps done."""
        return self._done

    @property
    def total(self) -> float | None:
        """Steps in all; None: not known. It may be set later, when it becomes known."""
        return self._total

    @total.setter
    def total(self, total: float | None) -> None:
        self._total = _checked_total(total)

    @contextmanager
    def part(
        self, name: str, total: float | None = None, *, unit: str | None = None, weight: float = 1
    ) -> Iterator[ProgressPart]:
        """A part of the work with steps of its own, as a `with` block.

        At the end of the block, `weight` steps of the work around the part count as done. If the
        block raises, they do not count, and the part has failed.

        Args:
            name: The part's name, for people.
            total: Steps of the part in all; None: not known.
            unit: What a step of the part is.
            weight: The number of steps of the work around it that the part stands for, 0 or more.

        Raises:
            InvalidOption: `total` or `weight` is out of its range.
            RuntimeError: Another part of the same level is open.
        """
        if not (_is_number(weight) and weight >= 0):
            raise InvalidOption("weight", weight, "a number of steps, 0 or more")
        if self._part is not None:
            raise RuntimeError(f"the part {self._part.name!r} is still open: end its block first")
        part = self._part = ProgressPart(self._root, name, total, unit, weight)
        try:
            yield part
        except BaseException:
            part._state = "failed"
            raise
        else:
            part._state = "done"
            self._advance(weight)
        finally:
            self._part = None
            part._part = None

    @property
    def _root(self) -> Progress:
        raise NotImplementedError

    def _advance(self, steps: float) -> None:
        with _counting:
            self._done += steps

    def _take(self, n: float, message: str | None) -> None:
        if not _is_number(n):
            raise InvalidOption("n", n, "a number of steps")
        with _counting:
            self._done = max(0, self._done + n)
        if message is not None:
            self._message = message

    def _reached(self) -> float:
        """Steps done, with the share that an open part has done."""
        part = self._part
        return self._done if part is None else self._done + part.weight * part._fraction()

    def _fraction(self) -> float:
        if self._total is None:
            return 0.0
        return min(1.0, self._reached() / self._total) if self._total else 1.0

    def _percent(self) -> float | None:
        return None if self._total is None else round(100 * self._fraction(), 1)


class ProgressPart(_Node):
    """A part of a `Progress`; made by `part()`."""

    def __init__(
        self, root: Progress, name: str, total: float | None, unit: str | None, weight: float
    ) -> None:
        super().__init__(total, unit)
        self._progress = root
        self.name = name
        self.weight = weight

    def step(self, n: float = 1, message: str | None = None) -> Step | Thinned:
        """As `Progress.step`, of this part."""
        self._take(n, message)
        return self._progress._stepped(last=False)

    @property
    def _root(self) -> Progress:
        return self._progress

    def _state_now(self) -> PartState:
        return PartState(
            name=self.name,
            done=self._done,
            total=self._total,
            unit=self._unit,
            percent=self._percent(),
            message=self._message,
            state=self._state,
        )


class Progress(_Node):
    """Tells how far a piece of work is: yield its steps.

    ```
    progress = Progress(total=len(rows), unit="rows")
    for row in rows:
        yield progress.step(message=row.title)
    ```

    A run sends at most `1 / limits.PROGRESS_INTERVAL` events a second. It always sends a last one,
    which says how the run ended: "done", "failed" or "cancelled".

    Args:
        total: Steps in all, 0 or more; None: not known.
        unit: What a step is, for people: "rows".
        clock: A clock in seconds that never goes back.

    Raises:
        InvalidOption: A value out of its range.
    """

    def __init__(
        self,
        total: float | None = None,
        *,
        unit: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(total, unit)
        self._clock = clock
        self._began = clock()
        self._sent_at = -math.inf
        self._unsent = False
        self._rate = _Rate(self._began)
        self._thinned = Thinned(self)

    def step(self, n: float = 1, message: str | None = None) -> Step | Thinned:
        """Count steps that were done, and make the event to yield.

        Args:
            n: The number of steps; 0 to change only the message.
            message: What is being done, for people; None keeps the last message.

        Returns:
            An event. It is falsy if it comes too soon after the last one, or after the end.

        Raises:
            InvalidOption: `n` is not a finite number.
        """
        before = self._done
        self._take(n, message)
        # Only the step that reaches the total is sent at once: after it, steps are thinned again.
        return self._stepped(last=self._total is not None and before < self._total <= self._done)

    def finish(self, state: EndState = "done", message: str | None = None) -> Step | Thinned:
        """Say that the work has ended, and make the event to yield. A run does this by itself.

        Args:
            state: How it ended: "done", "failed" or "cancelled".
            message: The result, for people; None keeps the last message.

        Returns:
            An event. It is falsy if the end was returned before.
        """
        if self._state == "running":
            self._state = state
            self._unsent = True
            if message is not None:
                self._message = message
        return self.latest()

    @property
    def state(self) -> ProgressState:
        """How far the work is now."""
        now = self._clock()
        reached = self._reached()
        rate = self._rate.at(now, reached)
        running = self._state == "running"
        return ProgressState(
            done=self._done,
            total=self._total,
            unit=self._unit,
            percent=self._percent(),
            rate=None if rate is None else _rounded(rate),
            left=self._left(reached, rate) if running else None,
            elapsed=round(now - self._began, 3),
            message=self._message,
            state=self._state,
            parts=tuple(part._state_now() for part in self._open_parts()),
        )

    def latest(self) -> Step | Thinned:
        """An event to send now for the steps that came too soon; falsy if there were none."""
        if not self._unsent:
            return self._thinned
        self._unsent = False
        self._sent_at = self._clock()
        return Step(self, self.state)

    @property
    def _root(self) -> Progress:
        return self

    def _stepped(self, *, last: bool) -> Step | Thinned:
        if self._state != "running":
            return self._thinned
        now = self._clock()
        self._rate.count(now, self._reached())
        self._unsent = True
        if last or now >= self._sent_at + limits.PROGRESS_INTERVAL:
            return self.latest()
        return self._thinned

    def _left(self, reached: float, rate: float | None) -> float | None:
        if self._total is None or rate is None or rate <= 0:
            return None
        return round(max(0.0, self._total - reached) / rate, 1)

    def _open_parts(self) -> Iterator[ProgressPart]:
        part = self._part
        while part is not None:
            yield part
            part = part._part


_SAMPLE: Final = 0.05
"""The least seconds of a sample of the rate: a single step says little."""


class _Rate:
    """Steps a second: an average over the last seconds in which newer samples weigh more.

    At first the weights of the samples add up to less than one. The average is divided by their
    sum, so that the first estimates are plain means.
    """

    def __init__(self, now: float) -> None:
        self._at = now
        self._reached = 0.0
        self._average = 0.0
        self._weight = 0.0

    def count(self, now: float, reached: float) -> None:
        if now - self._at >= _SAMPLE:
            self._average, self._weight = self._with(now, reached)
            self._at, self._reached = now, reached

    def at(self, now: float, reached: float) -> float | None:
        average, weight = self._average, self._weight
        if now - self._at >= _SAMPLE:
            average, weight = self._with(now, reached)
        return average / weight if weight else None

    def _with(self, now: float, reached: float) -> tuple[float, float]:
        seconds = now - self._at
        keep = math.exp(-seconds / limits.PROGRESS_WINDOW)
        here = (reached - self._reached) / seconds
        return (
            keep * self._average + (1 - keep) * here,
            keep * self._weight + (1 - keep),
        )


def _rounded(rate: float) -> float:
    return float(f"{rate:.3g}")


def _checked_total(total: Any) -> float | None:
    if total is not None and not (_is_number(total) and total >= 0):
        raise InvalidOption("total", total, "a number of steps, 0 or more, or None")
    return total  # type: ignore[no-any-return] # a number, or None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
