"""The streams that are open in this event loop, so that they can be told when it stops."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import anyio
from anyio.lowlevel import RunVar

from tailrace import limits
from tailrace.errors import InvalidOption
from tailrace.pump.stats import Ending

__all__ = ["Drained", "drain", "registered"]


class OpenStream(Protocol):
    """What draining needs of a stream."""

    def say_farewell(self) -> None: ...

    def end(self, ending: Ending) -> None: ...


@dataclass(slots=True)
class _Open:
    streams: set[OpenStream] = field(default_factory=set)
    draining: bool = False
    ended: int = 0
    """Streams that have ended since draining began."""
    changed: anyio.Event | None = None
    """Set when the next one ends."""


_open: RunVar[_Open] = RunVar("tailrace_open_streams")


@dataclass(frozen=True, slots=True)
class Drained:
    """What `drain()` did.

    Args:
        ended: Streams that ended in time: with a farewell, or by themselves.
        cut: Streams that were cut off when the time was up.
    """

    ended: int
    cut: int


async def drain(timeout: float = limits.DRAIN_TIMEOUT) -> Drained:
    """End every open stream of this event loop, politely first.

    A format with a farewell (SSE: an event and a `retry`, drawn between
    `limits.FAREWELL_RETRY` seconds so that not all come back at once) says it and ends now. Others
    may finish by themselves until the time is up; then they are cut, visibly. When this returns,
    all sources have been closed. Streams that begin meanwhile are treated the same.

    Cancelled, it leaves the streams that are still open as they are.

    Args:
        timeout: Seconds, 0 or more. Closing the sources of what had to be cut may take up to their
            `cleanup_timeout` longer.

    Raises:
        InvalidOption: A negative time.
    """
    if not timeout >= 0:
        raise InvalidOption("timeout", timeout, "seconds, 0 or more")
    here = _here()
    here.draining, here.ended = True, 0
    try:
        for stream in tuple(here.streams):
            stream.say_farewell()
        with anyio.move_on_after(timeout):
            await _all_over(here)
        ended = here.ended
        cut = tuple(here.streams)
        for stream in cut:
            stream.end(Ending.SHUT_DOWN)
        await _all_over(here)
    finally:
        here.draining = False
    return Drained(ended=ended, cut=len(cut))


async def _all_over(here: _Open) -> None:
    while here.streams:
        here.changed = anyio.Event()
        await here.changed.wait()


@contextmanager
def registered(stream: OpenStream) -> Iterator[None]:
    """Keep a stream among the open ones."""
    here = _here()
    here.streams.add(stream)
    try:
        if here.draining:
            stream.say_farewell()
        yield
    finally:
        here.streams.discard(stream)
        here.ended += 1
        if here.changed is not None:
            here.changed.set()


def _here() -> _Open:
    try:
        return _open.get()
    except LookupError:
        here = _Open()
        _open.set(here)
        return here
