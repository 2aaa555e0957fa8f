"""What was asked of a store, in the order in which each stream took it, and what must follow.

Each stream's changes happened one after the other, whatever was asked at once: after a crash a
stream must be as it was after the first so many of them, with at least all that was acknowledged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tailrace.store import Producer

__all__ = ["Added", "History", "Made", "Removed", "State", "Step"]


@dataclass(frozen=True, slots=True)
class Made:
    """A stream was created.

    Attributes:
        data: All that can be read of it at once: what it inherits, then its own.
        source: The path it was forked from.
        keeps: Bytes that it must retain; None: all.
        trims: It, or what it was forked from, may lose its oldest bytes.
    """

    data: bytes = b""
    closed: bool = False
    source: str | None = None
    keeps: int | None = None
    trims: bool = False


@dataclass(frozen=True, slots=True)
class Added:
    """Something was appended, or the stream was closed, or both."""

    data: bytes
    producer: Producer | None = None
    close: bool = False


@dataclass(frozen=True, slots=True)
class Removed:
    """The stream was deleted."""


@dataclass(frozen=True, slots=True)
class Step:
    """One change of a stream.

    Attributes:
        started: The place in the trace before it was asked for.
        acked: The place in the trace after it was acknowledged; None: whoever asked has left.
            Both are negative for what was there before the trace began.
    """

    change: Made | Added | Removed
    started: int
    acked: int | None

    def was_acked(self, place: int) -> bool:
        """Whether it was acknowledged before this place of the trace."""
        return self.acked is not None and self.acked < place


@dataclass(frozen=True, slots=True)
class State:
    """What a stream must be like.

    Attributes:
        data: None: there is no such stream.
        last: What each producer appended last, by its id.
        closer: The producer with whose append the stream was closed.
    """

    data: bytes | None = None
    closed: bool = False
    source: str | None = None
    keeps: int | None = None
    trims: bool = False
    last: Mapping[str, Added] = field(default_factory=dict)
    closer: Added | None = None

    @property
    def producers(self) -> list[Producer]:
        """With the sequences that they used last."""
        return [one.producer for one in self.last.values() if one.producer is not None]

    def after(self, change: Made | Added | Removed) -> State:
        """What it must be like one change later."""
        match change:
            case Removed():
                return State()
            case Made():
                return State(change.data, change.closed, change.source, change.keeps, change.trims)
            case Added(data, producer, close):
                assert self.data is not None
                return replace(
                    self,
                    data=self.data + data,
                    closed=close,
                    last={**self.last, producer.id: change} if producer else self.last,
                    closer=change if close and producer else None,
                )


class History:
    """What was done to each stream, by path."""

    def __init__(self) -> None:
        self.steps: dict[str, list[Step]] = {}
        self._states: dict[str, list[State]] = {}

    def add(self, path: str, *steps: Step) -> None:
        """What was done to a stream next."""
        states = self._states.setdefault(path, [State()])
        self.steps.setdefault(path, []).extend(steps)
        for step in steps:
            states.append(states[-1].after(step.change))

    def pinned(self, done: Mapping[str, int]) -> History:
        """Only so many steps of each stream, for certain: what was found after a crash."""
        pinned = History()
        for path, number in done.items():
            steps = self.steps[path][:number]
            pinned.add(path, *(replace(step, started=-2, acked=-1) for step in steps))
        return pinned

    def state(self, path: str, number: int = -1) -> State:
        """What a stream is like after so many steps; after all of them, unless told otherwise."""
        return self._states.get(path, [State()])[number]

    def legal(self, path: str, place: int) -> dict[int, State]:
        """What a stream may be like if everything ended at this place of the trace.

        Returns:
            States by the number of steps that were done.
        """
        steps = self.steps[path]
        done = [n for n, step in enumerate(steps, 1) if step.was_acked(place)]
        begun = [n for n, step in enumerate(steps, 1) if step.started < place]
        least, most = max(done, default=0), max(begun, default=0)
        return {number: self.state(path, number) for number in range(least, most + 1)}
