"""The streams that are open in this event loop, so that they can be told when it stops.

Who tells them: our server protocol, or an application that calls `drain()`. Under any other server
nobody does, so while streams are open the server is watched: see `watching`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Protocol

import anyio
from anyio.lowlevel import RunVar

from tailrace import limits
from tailrace.connection.farewell import Farewell, held_for, retry_range
from tailrace.connection.stats import Ending
from tailrace.connection.watching import Server, find_server
from tailrace.errors import InvalidOption
from tailrace.runtime import Loop, current_loop

__all__ = ["Drained", "drain", "drain_beside", "registered", "shutdown_event"]


class OpenStream(Protocol):
    """What draining needs of a stream."""

    @property
    def lingers(self) -> float:
        """Seconds that it may take to end when it is told; infinite if it goes on."""

    def say_farewell(self, farewell: Farewell) -> None:
        """End with the format's farewell; a format that has none goes on."""

    def end(self, ending: Ending) -> None: ...


@dataclass(frozen=True, slots=True)
class _Stop:
    """The server stops."""

    until: float
    """When, on the loop's clock, it cuts what is still open."""
    retry: tuple[float, float]


@dataclass(slots=True)
class _Open:
    loop: Loop
    streams: set[OpenStream] = field(default_factory=set)
    stopping: anyio.Event = field(default_factory=anyio.Event)
    """What sources wait for."""
    stop: _Stop | None = None
    ended: int = 0
    """Streams that have ended since draining began."""
    is_told: bool = False
    """The application has said that the server stops; it is forgotten with the last stream."""
    changed: anyio.Event | None = None
    """Set when the next one ends."""
    server: Server | None = None
    is_watched: bool = False
    """A timer runs, or there is nobody who could be watched."""


_open: RunVar[_Open] = RunVar("tailrace_open_streams")
_stopping: ContextVar[anyio.Event] = ContextVar("tailrace_stopping")


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

    A format with a farewell (SSE: an event and a `retry`, drawn so that not all come back at once)
    says it and ends now; if its source asked for a `shutdown_grace`, after that. Others may finish
    by themselves until the time is up; then they are cut, visibly. When this returns, all sources
    have been closed. Streams that begin meanwhile are treated the same.

    Cancelled, it leaves the streams that are still open as they are.

    Args:
        timeout: Seconds, 0 or more. Closing the sources of what had to be cut may take up to their
            `cleanup_timeout` longer.

    Raises:
        InvalidOption: A negative time.
    """
    if not timeout >= 0:
        raise InvalidOption("timeout", timeout, "seconds, 0 or more")
    return await drain_beside(0, timeout)


async def drain_beside(held: int, timeout: float) -> Drained:
    """`drain()` by a server that knows what else holds it.

    Args:
        held: Open responses, the streams among them, or more than those if any of them stalls.
        timeout: Seconds, 0 or more.
    """
    here = _here()
    here.ended = 0
    _tell(here, timeout, held - len(here.streams))
    try:
        with anyio.move_on_after(timeout):
            await _all_over(here)
        ended = here.ended
        cut = tuple(here.streams)
        for stream in cut:
            stream.end(Ending.SHUT_DOWN)
        await _all_over(here)
    finally:
        _go_on(here)
    return Drained(ended=ended, cut=len(cut))


def shutdown_event() -> anyio.Event:
    """An event that is set when the server stops, for a source that has last words of its own.

    Give its response `StreamOptions(shutdown_grace=...)`, or it is ended in the moment in which the
    event is set. To be called in a source, sync or async, or in the event loop. A sync source must
    not wait for the event, but may ask whether it `is_set()`.
    """
    event = _stopping.get(None)
    return _here().stopping if event is None else event


def tell_stopping() -> None:
    """Tell every open stream of this event loop that the server stops, and wait for none.

    For an application that knows it before the server shows it.
    """
    here = _here()
    here.is_told = True
    if here.stop is None:
        _tell(here, inf, 0)
    else:  # one that had a reason to go on may have none now
        for stream in tuple(here.streams):
            stream.say_farewell(_farewell(here, here.stop))


async def _all_over(here: _Open) -> None:
    while here.streams:
        here.changed = anyio.Event()
        await here.changed.wait()


@contextmanager
def registered(stream: OpenStream) -> Iterator[None]:
    """Keep a stream among the open ones."""
    here = _here()
    here.streams.add(stream)
    token = _stopping.set(here.stopping)
    try:
        if here.stop is not None:
            stream.say_farewell(_farewell(here, here.stop))
        elif not here.is_watched:
            _watch(here)
        yield
    finally:
        _stopping.reset(token)
        here.streams.discard(stream)
        here.ended += 1
        if here.changed is not None:
            here.changed.set()
        if here.is_told and not here.streams:
            _go_on(here)


def _tell(here: _Open, left: float, others: int, *, waits_in_line: bool = False) -> None:
    held = held_for(left, (stream.lingers for stream in here.streams), others)
    retry = retry_range(held, waits_in_line=waits_in_line)
    here.stop = _Stop(here.loop.time() + left, retry)
    here.stopping.set()
    for stream in tuple(here.streams):
        stream.say_farewell(_farewell(here, here.stop))


def _farewell(here: _Open, stop: _Stop) -> Farewell:
    return Farewell(max(0.0, stop.until - here.loop.time()), stop.retry)


def _go_on(here: _Open) -> None:
    here.stop, here.stopping, here.is_told = None, anyio.Event(), False


# Watching, only while streams are open. The server is looked for by the first stream of a loop. All
# others pay for a timer, if they are the first that is open, and nothing else.


def _watch(here: _Open) -> None:
    here.is_watched = True
    if here.server is None:
        here.server = find_server()
    if here.server is not None:  # or there will never be one in this loop
        _look_later(here, partial(_look_anew, here))


def _look_anew(here: _Open) -> None:
    if here.server is not None and here.server.is_stopping():
        here.server = find_server()  # this one, or one that began in this loop when it had ended
    if here.server is not None:
        _look(here, here.server)


def _look_later(here: _Open, look: Callable[[], None]) -> None:
    when = here.loop.time() + limits.SERVER_WATCH
    # In a context of its own: the timer must not keep a request's alive.
    Context().run(here.loop.call_at, when, look)


def _look(here: _Open, server: Server) -> None:
    if not here.streams:
        here.is_watched = False
        if here.stop is not None:
            _go_on(here)
        return
    if here.stop is None and server.is_stopping():
        # Or it has ended, and the streams are those of another one that began in this loop.
        here.server = server = find_server() or server
    if here.stop is None and server.is_stopping():
        known = 0 if server.open_responses is None else server.open_responses()
        others = known - len(here.streams)
        _tell(here, server.grace, others, waits_in_line=server.waits_in_line)
    _look_later(here, partial(_look, here, server))


def _here() -> _Open:
    try:
        return _open.get()
    except LookupError:
        here = _Open(current_loop())
        _open.set(here)
        return here
