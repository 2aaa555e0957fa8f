"""The responses that are open in this event loop, and what ends them early.

Our server protocol tells them when it stops, and so does an application that calls `drain()`. No
other server tells of it, so while responses are open the server is watched (`watching`).

**When a client that is told to come back is answered again.** One that comes back while the old
server still drains is refused, or gets a proxy's 502. Then a browser's `EventSource` never tries
again: Chromium after any status but 200, Firefox after a refused connection as well. So the
farewell looks past what may still hold the old server (`held_for`, `retry_range`; both pure).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import Context, ContextVar, Token
from dataclasses import dataclass, field
from functools import partial
from math import inf
from random import uniform
from types import TracebackType
from typing import Protocol, Self

import anyio
from anyio.lowlevel import RunVar
from starlette.types import Receive, Scope, Send

from tailrace import limits
from tailrace.connection.leaving import Leaving, leaving_of
from tailrace.connection.stats import Ending
from tailrace.connection.watching import Server, find_server
from tailrace.errors import InvalidOption
from tailrace.runtime import Loop, current_loop

__all__ = [
    "Drained",
    "Farewell",
    "OpenResponse",
    "Responder",
    "drain",
    "drain_beside",
    "held_for",
    "retry_range",
    "shutdown_event",
    "tell_stopping",
]


@dataclass(frozen=True, slots=True)
class Farewell:
    """What an open stream is told when the server stops.

    Args:
        left: Seconds until what is still open is cut.
        retry: Seconds, `(least, most)`, after which its client may come back.
    """

    left: float
    retry: tuple[float, float] = limits.FAREWELL_RETRY

    def draw_retry(self) -> float:
        """Seconds for one client: drawn, so that not all come back in the same instant."""
        return uniform(*self.retry)


def held_for(left: float, lingering: Iterable[float], others: int) -> float:
    """Seconds that a server which stops may still be held.

    Args:
        left: Seconds until it cuts what is open; infinite if it never does.
        lingering: Seconds that each open stream may take to end; infinite for one that is not told.
        others: Open responses that are not among these.
    """
    if left == inf:
        left = limits.LONGEST_STOP
    return left if others > 0 else min(left, max(lingering, default=0.0))


def retry_range(held: float, *, waits_in_line: bool) -> tuple[float, float]:
    """Between which seconds a client may come back.

    Args:
        held: Seconds until the server has ended.
        waits_in_line: The listening socket outlives the server, and its successor answers.
    """
    if waits_in_line:
        return limits.FAREWELL_RETRY_IN_LINE
    least, most = limits.FAREWELL_RETRY
    return held + least, held + most


class Responder(Protocol):
    """What makes a response."""

    @property
    def lingers(self) -> float:
        """Seconds that it may take to end when the server stops; infinite if it goes on."""

    def end_early(self) -> None:
        """End: the open response has a `farewell` or an early `ending` now."""


class OpenResponse:
    """A response that may last, and what ends it early: the client leaves, or the server stops.

    Begun, it listens for both. Nothing of that is there before.

    Args:
        responder: Told of it.
        scope, receive, send: ASGI's; `receive` is None where the client's leaving is not told.
    """

    __slots__ = (
        *("_receive", "_responder", "_scope", "_send", "_take_back", "_token"),
        *("ending", "farewell", "leaving"),
    )

    def __init__(
        self, responder: Responder | None, scope: Scope, receive: Receive | None, send: Send
    ) -> None:
        self._responder = responder
        self._scope = scope
        self._receive = receive
        self._send = send
        self._take_back: Callable[[], None] | None = None
        self._token: Token[anyio.Event] | None = None
        self.leaving: Leaving | None = None
        """Of the request; None before the response has begun to listen."""
        self.farewell: Farewell | None = None
        """The server stops, and the response says so."""
        self.ending: Ending | None = None
        """How it ends; None while it goes on."""

    @property
    def lingers(self) -> float:
        """Seconds that it may take to end when the server stops; infinite if it goes on."""
        return inf if self._responder is None else self._responder.lingers

    def say_farewell(self, farewell: Farewell) -> None:
        """End with the format's farewell; a format that has none goes on."""
        if self.farewell is None and self.ending is None and self.lingers < inf:
            self.farewell = farewell
            self._tell()

    def end(self, ending: Ending) -> None:
        """End it early. The first reason counts."""
        if self.ending is None:
            self.ending = ending
            self._tell()

    def _client_left(self) -> None:
        self.end(Ending.LEFT)

    def _tell(self) -> None:
        if self._responder is not None:
            self._responder.end_early()

    async def __aenter__(self) -> Self:
        self.begin()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.over(error)

    def begin(self) -> None:
        """Listen; called in the request's own task, where something may have to wait."""
        leaving = self.leaving = leaving_of(self._scope, self._receive, self._send)
        leaving.begin()
        self._begin(leaving)

    async def over(self, error: BaseException | None) -> None:
        """It has ended: listen no more. In the request's own task, also without `begin`.

        Args:
            error: What was raised; None if it was not.
        """
        self._end(error)
        if self.leaving is not None:
            await self.leaving.end()

    @property
    def listens(self) -> bool:
        """It listens for what may end it early."""
        return self._take_back is not None

    def _begin(self, leaving: Leaving) -> None:
        here = _here()
        here.responses.add(self)
        self._token = _stopping.set(here.stopping)
        self._take_back = leaving.on_left(self._client_left)
        if here.stop is not None:
            self.say_farewell(_farewell(here, here.stop))
        elif not here.is_watched:
            _watch(here)

    def _end(self, error: BaseException | None) -> None:
        self._responder = None  # or they keep each other alive
        if self._take_back is None:
            return
        assert self._token is not None
        self._take_back()
        self._take_back = None
        _stopping.reset(self._token)
        here = _here()
        here.responses.discard(self)
        here.ended += 1
        if here.changed is not None:
            here.changed.set()
        if here.is_announced and not here.responses:
            _go_on(here)


@dataclass(frozen=True, slots=True)
class _Stop:
    """The server stops."""

    until: float
    """When, on the loop's clock, it cuts what is still open."""
    retry: tuple[float, float]


@dataclass(slots=True)
class _Open:
    loop: Loop
    responses: set[OpenResponse] = field(default_factory=set)
    stopping: anyio.Event = field(default_factory=anyio.Event)
    """What sources wait for."""
    stop: _Stop | None = None
    ended: int = 0
    """Streams that have ended since draining began."""
    is_announced: bool = False
    """The application has said that the server stops; it is forgotten with the last stream."""
    changed: anyio.Event | None = None
    """Set when the next one ends."""
    server: Server | None = None
    is_watched: bool = False
    """A timer runs, or there is no server that could be watched."""


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
    """Send a farewell on every open stream of this event loop, then cut what is still open.

    A stream whose format has a farewell (SSE: an event with a random `retry`, so that not all
    clients come back at once) sends it and ends, at once or after its `shutdown_grace`. Other
    streams may finish by themselves until the time is up; then their connections are cut. When this
    returns, all sources have been closed. Streams that begin meanwhile are treated the same.

    If this is cancelled, the streams that are still open go on.

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
    """`drain()`, called by a server, which knows how many other responses are open.

    Args:
        held: All open responses, the streams among them; more than those if one of them stalls.
        timeout: Seconds, 0 or more.
    """
    here = _here()
    here.ended = 0
    _tell(here, timeout, held - len(here.responses))
    try:
        with anyio.move_on_after(timeout):
            await _all_over(here)
        ended = here.ended
        cut = tuple(here.responses)
        for response in cut:
            response.end(Ending.SHUT_DOWN)
        await _all_over(here)
    finally:
        _go_on(here)
    return Drained(ended=ended, cut=len(cut))


def shutdown_event() -> anyio.Event:
    """An event that is set when the server stops, for a source that ends in its own way.

    Give the response `StreamOptions(shutdown_grace=...)`: without it the source is ended as soon as
    the event is set. Call this in a source, sync or async, or in the event loop. A sync source must
    not wait for the event, but may ask whether it `is_set()`.
    """
    event = _stopping.get(None)
    return _here().stopping if event is None else event


def tell_stopping() -> None:
    """Tell every open stream of this event loop that the server stops, and wait for none.

    For an application that knows it before the server shows it.
    """
    here = _here()
    here.is_announced = True
    if here.stop is None:
        _tell(here, inf, 0)
    else:  # one that had a reason to go on may have none now
        for response in tuple(here.responses):
            response.say_farewell(_farewell(here, here.stop))


async def _all_over(here: _Open) -> None:
    while here.responses:
        here.changed = anyio.Event()
        await here.changed.wait()


def _tell(here: _Open, left: float, others: int, *, waits_in_line: bool = False) -> None:
    held = held_for(left, (response.lingers for response in here.responses), others)
    retry = retry_range(held, waits_in_line=waits_in_line)
    here.stop = _Stop(here.loop.time() + left, retry)
    here.stopping.set()
    for response in tuple(here.responses):
        response.say_farewell(_farewell(here, here.stop))


def _farewell(here: _Open, stop: _Stop) -> Farewell:
    return Farewell(max(0.0, stop.until - here.loop.time()), stop.retry)


def _go_on(here: _Open) -> None:
    here.stop, here.stopping, here.is_announced = None, anyio.Event(), False


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
    if not here.responses:
        here.is_watched = False
        if here.stop is not None:
            _go_on(here)
        return
    if here.stop is None and server.is_stopping():
        # Or it has ended, and the streams are those of another one that began in this loop.
        here.server = server = find_server() or server
    if here.stop is None and server.is_stopping():
        known = 0 if server.open_responses is None else server.open_responses()
        others = known - len(here.responses)
        _tell(here, server.grace, others, waits_in_line=server.waits_in_line)
    _look_later(here, partial(_look, here, server))


def _here() -> _Open:
    try:
        return _open.get()
    except LookupError:
        here = _Open(current_loop())
        _open.set(here)
        return here
