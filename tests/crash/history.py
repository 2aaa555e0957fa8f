"""The changes that were requested of a store, stream by stream, and the states that they allow.

The changes of a stream happen one after the other, even if they were requested at the same time.
After a crash, a stream must be as it was after its first n changes, for some n; and these must
include all changes that were acknowledged.
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
        data: Its bytes at first: those that it inherits, and then its own.
        closed: It was created closed.
        source: The path of the stream from which it was forked.
        keeps: Bytes that it must retain; None: all.
        trims: The stream, or its source, may lose its oldest bytes.
    """

    data: bytes = b""
    closed: bool = False
    source: str | None = None
    keeps: int | None = None
    trims: bool = False


@dataclass(frozen=True, slots=True)
class Added:
    """Data was appended, or the stream was closed, or both."""

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
        started: The place in the trace just before it was requested.
        acked: The place in the trace just after it was acknowledged; None: the caller was cancelled
            before. Both are negative for a change before the trace began.
    """

    change: Made | Added | Removed
    started: int
    acked: int | None

    def was_acked(self, place: int) -> bool:
        """Whether it was acknowledged before this place of the trace."""
        return self.acked is not None and self.acked < place


@dataclass(frozen=True, slots=True)
class State:
    """A state in which a stream may be.

    Attributes:
        data: All its bytes; None: there is no such stream.
        closed, source, keeps, trims: As in `Made`.
        last: The last append of each producer, by the producer's id.
        closer: The append of a producer that has closed the stream.
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
        """The producers of the stream, each with its last sequence."""
        return [one.producer for one in self.last.values() if one.producer is not None]

    def after(self, change: Made | Added | Removed) -> State:
        """The state after one more change."""
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
        """Add the next changes of a stream."""
        states = self._states.setdefault(path, [State()])
        self.steps.setdefault(path, []).extend(steps)
        for step in steps:
            states.append(states[-1].after(step.change))

    def pinned(self, done: Mapping[str, int]) -> History:
        """The history that was found after a crash: only so many steps of each stream, and all of
        them as acknowledged before the trace began.
        """
        pinned = History()
        for path, number in done.items():
            steps = self.steps[path][:number]
            pinned.add(path, *(replace(step, started=-2, acked=-1) for step in steps))
        return pinned

    def state(self, path: str, number: int = -1) -> State:
        """The state of a stream after so many of its steps; by default after all."""
        return self._states.get(path, [State()])[number]

    def legal(self, path: str, place: int) -> dict[int, State]:
        """The states in which a stream may be after a crash at this place of the trace.

        Returns:
            The states, by the number of steps that were done.
        """
        steps = self.steps[path]
        done = [n for n, step in enumerate(steps, 1) if step.was_acked(place)]
        begun = [n for n, step in enumerate(steps, 1) if step.started < place]
        least, most = max(done, default=0), max(begun, default=0)
        return {number: self.state(path, number) for number in range(least, most + 1)}
