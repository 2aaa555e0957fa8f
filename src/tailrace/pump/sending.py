"""One response on its way to its client, whatever makes its bytes.

A stream of the pump, a reader of a live stream, an answer that waits and one that is whole send
through a `Sending`. Every message goes through it, so it knows how long each has waited for the
client, and the clock (`Deadlines`) says when that is too long. It cuts such a client off, notices
one that has left, is among those that are told when the server stops, and counts how it ended.

What needs a wait begins with one. Made, a `Sending` is a few attributes; `begin` makes it listen
and be registered; `run_clock` begins the one timer. A response that never waits needs neither.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Any, Final, TypeVar

from starlette.types import Message, Receive, Scope, Send

from tailrace.connection import (
    CONNECTION,
    Attached,
    Connection,
    Ending,
    Leaving,
    OpenResponse,
    Responder,
    ServerConnection,
    attach_offer,
    counters,
    extensions_of,
    has_left,
    log,
)
from tailrace.pump.deadlines import Deadlines, Due, Verdict
from tailrace.runtime import Loop, current_loop
from tailrace.semantics import ResponseFields
from tailrace.source import Extent
from tailrace.types import StreamOptions

__all__ = ["Head", "Sending", "name_of", "nothing_due", "send_whole"]

T = TypeVar("T")

_CUT_OFF: Final = {Due.STALLED: Ending.STALLED, Due.TOO_SLOW: Ending.TOO_SLOW}
_BY_US: Final = frozenset(_CUT_OFF.values())
SILENT: Final = _BY_US | {Ending.LEFT, Ending.CANCELLED, Ending.REFUSED}
"""Endings after which nothing more is sent: there is no client, or it gets another response."""
_UNFINISHED: Final = SILENT | {Ending.FAILED}
_IN_ORDER: Final = frozenset({Ending.COMPLETE, Ending.DRAINED})


@dataclass(frozen=True, slots=True)
class Head:
    """The start of a response, decided before the first item is there.

    Args:
        status: The HTTP status.
        headers: Raw headers.
    """

    status: int
    headers: list[tuple[bytes, bytes]]

    def message(self) -> Message:
        fields = ResponseFields(self.headers)
        return {"type": "http.response.start", "status": self.status, "headers": fields}


def name_of(scope: Scope) -> str:
    """What log lines call a response; printable, whatever the client sent."""
    return f"{scope.get('method', 'GET')} {ascii(scope.get('path', ''))[1:-1]}"


class _Descriptor(int):
    """A descriptor's number that is a file object too: ASGI says "file descriptor object", and
    servers differ in which of the two they take that for.
    """

    def fileno(self) -> int:
        return int(self)


class Unsendable:
    """A body that raises an error in the code that looks at it.

    Starlette's BaseHTTPMiddleware learns too late that the application behind it has failed: by
    then it has ended the response in order. But it looks whether a body is empty before it passes
    it on, and so raises the source's own error while the response is still open.
    """

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __bool__(self) -> bool:
        raise self._error

    def __len__(self) -> int:
        raise self._error


class Sending(OpenResponse):
    """A request's `send`, and all that ends it early.

    Args:
        responder: What makes the response; None if nothing of it goes on after an early ending.
        loop: The event loop.
        scope, receive, send: ASGI's; `receive` is None where the client's leaving is not told.
        clock: Its time limits.
        counted: It is counted; not so one that another response takes over.
    """

    __slots__ = (
        *("_alarm", "_connection", "_counted", "_due", "_look", "_loop", "_offered", "_time"),
        *("backlog", "clock", "finished", "interrupt"),
    )

    def __init__(
        self,
        responder: Responder | None,
        loop: Loop,
        scope: Scope,
        receive: Receive | None,
        send: Send,
        clock: Deadlines,
        *,
        counted: bool = True,
    ) -> None:
        super().__init__(responder, scope, receive, send)
        self.clock = clock
        self.interrupt: Callable[[], None] = _nothing
        """Ends what is being sent."""
        self.backlog = False
        """What was written to an attached connection waits for the client."""
        self.finished = False
        """The last message was taken."""
        self._loop = loop
        self._time = loop.time
        self._counted = counted
        self._look: Callable[[], None] = _nothing
        self._connection: Connection | None = None
        self._offered: ServerConnection | None = None
        """The server's own, where the response is attached to it."""
        self._due: Callable[[Due], None] = nothing_due
        self._alarm: Callable[[], None] | None = None
        """Takes the timer back."""

    def __str__(self) -> str:
        """What log lines call the response."""
        return name_of(self._scope)

    @property
    def connection(self) -> Connection:
        """What this response knows of its connection."""
        if self._connection is None:
            self._connection = Connection(self._scope, self._receive, self._send)
        return self._connection

    @property
    def is_waited_for(self) -> bool:
        """Something waits for the client."""
        return self.clock.waits or self.backlog

    # The messages

    async def start(self, head: Message) -> None:
        """Send the status line and the header fields."""
        self.clock.begun()
        self.clock.writing(0, self._time())
        await self._send(head)
        self.clock.written(self._time())

    async def push(self) -> None:
        """Send an empty body: some servers and middlewares keep the head back until one comes."""
        self.clock.pushed()
        self.clock.writing(0, self._time())
        await self._send(body_of(b"", more=True))
        self.clock.written(self._time())

    async def write(self, data: bytes, *, more: bool = True) -> None:
        """Send a part of the body."""
        clock, time, size = self.clock, self._time, len(data)
        clock.writing(size, time())
        if not more and self.leaving is not None:
            self.leaving.ends()
        await self._send({"type": "http.response.body", "body": data, "more_body": more})
        clock.written(time())
        counters.bytes_sent += size
        self._look()

    async def write_span(self, descriptor: int, extent: Extent) -> None:
        """Have the server send a part of a file; more of the body always follows.

        Args:
            descriptor: Of the file; open until this returns or raises.
            extent: Which bytes.
        """
        self.clock.writing(extent.size, self._time())
        await self._send(
            {
                "type": "http.response.zerocopysend",
                "file": _Descriptor(descriptor),
                "offset": extent.start,
                "count": extent.size,
                "more_body": True,
            }
        )
        self.clock.written(self._time())
        counters.bytes_sent += extent.size
        self._look()

    async def attach(self, head: Message, first: bytes) -> Attached | None:
        """Send the start and the first bytes.

        Returns:
            The connection, if the server hands it over.
        """
        offer = attach_offer(self._scope)
        if offer is None or not first:
            await self._send(head)
            await self.write(first)
            return None
        self.clock.writing(len(first), self._time())
        attached = await offer.attach(self._send, head, first)
        self.clock.written(self._time())
        counters.bytes_sent += len(first)
        if attached is not None:
            self._offered = extensions_of(self._scope).get(CONNECTION)
        return attached

    def released(self) -> None:
        """The connection was given back to the server."""
        self._offered, self.backlog = None, False
        self.clock.wait(None)

    async def send_unsendable(self, error: BaseException) -> None:
        """Keep a middleware that would end the response in order from doing so."""
        if self.connection.ends_in_order:
            # Raised here it met something else on its way; the response's own raise must do then.
            with suppress(Exception):
                await self._send(body_of(Unsendable(error), more=True))

    async def interruptible(self, writing: Awaitable[T]) -> T | None:
        """Wait for messages in the request's own task, so that `end` can interrupt it.

        Returns:
            What is given for them; None if the client has left, or `end` has interrupted them.
        """
        try:
            with self._loop.cancel_once() as once:
                self.interrupt = once.cancel
                return await writing
        except Exception as error:
            if not await self.explains(error):
                raise
            self.end(Ending.LEFT)
        finally:
            self.interrupt = _nothing
        return None

    async def explains(self, error: Exception) -> bool:
        """Whether a message has failed because the client has left."""
        if self.leaving is None:
            return await has_left(error, self._scope, self._receive, self._send)
        return await self.leaving.explains(error)

    # How it ends

    def end(self, ending: Ending) -> None:
        """End it early. The first reason counts; what ends in order can still be cut."""
        is_cut = ending in _BY_US or (ending is Ending.SHUT_DOWN and self.is_waited_for)
        if ending in _BY_US:
            log.info("%s: client cut off: %s", self, ending.value)
        if is_cut:
            self.connection.abort(ending.value)
        if is_cut or ending in SILENT:
            self.interrupt()
        if (is_cut or ending in _UNFINISHED) and self.ending in _IN_ORDER and not self.finished:
            self.ending = ending
        super().end(ending)

    # Time

    def check(self, now: float) -> Verdict:
        """What is due; a client that takes nothing is cut off."""
        clock, offered = self.clock, self._offered
        if offered is None:
            verdict = clock.check(now, self.connection.unsent if clock.waits else None)
        else:
            clock.wait(offered.stalled_since)
            verdict = clock.check(now, 0)
        if verdict.due in _CUT_OFF:
            self.end(_CUT_OFF[verdict.due])
        return verdict

    def run_clock(self, due: Callable[[Due], None]) -> None:
        """Begin the timer.

        Args:
            due: Told of what is to be sent.
        """
        self._due = due
        self.look_at_clock()

    def look_at_clock(self) -> None:
        """Have done what is due now, and look again when the next is."""
        self.stop_clock()
        verdict = self.check(self._time())
        if verdict.due is not Due.NOTHING:
            self._due(verdict.due)
        if verdict.again < inf:
            self._alarm = self._loop.call_at(verdict.again, self.look_at_clock)

    def stop_clock(self) -> None:
        """Take the timer back."""
        if self._alarm is not None:
            self._alarm()
            self._alarm = None

    # From the first wait to the end

    def _begin(self, leaving: Leaving) -> None:
        if self._counted:
            counters.open += 1
        self._look = leaving.look
        super()._begin(leaving)

    def _end(self, error: BaseException | None) -> None:
        self.stop_clock()
        self._due, self.interrupt = nothing_due, _nothing
        if self._counted:
            is_unfinished = error is not None and self.ending in _IN_ORDER and not self.finished
            if self.ending is None or is_unfinished:
                self.ending = Ending.FAILED if isinstance(error, Exception) else Ending.CANCELLED
            counters.open -= self.listens
            counters.ended[self.ending] += 1
        super()._end(error)


async def send_whole(
    body: bytes,
    options: StreamOptions,
    head: Head,
    scope: Scope,
    receive: Receive | None,
    send: Send,
) -> Ending:
    """Send a response with its whole body, which is there before its first byte.

    It needs no source and no buffer, and is not registered. Still a client that takes nothing is
    cut off, one that leaves is no error, and both are counted.

    Args:
        body: May be empty.
        options: Of which `send_timeout` counts.
        head: Status and headers.
        scope, receive, send: ASGI's; the connection is found by them.

    Returns:
        How it ended. A response without a body is not counted.
    """
    loop = current_loop()
    clock = Deadlines(loop.time(), send_timeout=options.send_timeout)
    sending = Sending(None, loop, scope, receive, send, clock)
    ending = Ending.CANCELLED
    try:
        await sending.interruptible(_send_whole(sending, head, body))
        ending = sending.ending or Ending.COMPLETE
    except Exception:
        ending = Ending.FAILED
        raise
    finally:
        sending.stop_clock()
        if body:
            counters.ended[ending] += 1
    return ending


async def _send_whole(sending: Sending, head: Head, body: bytes) -> None:
    sending.clock.begins_at_once()
    sending.run_clock(nothing_due)
    await sending.start(head.message())
    await sending.write(body, more=False)


def body_of(data: Any, *, more: bool) -> Message:
    """A part of a response's body."""
    return {"type": "http.response.body", "body": data, "more_body": more}


def _nothing() -> None:
    pass


def nothing_due(_: Due) -> None:
    """Nothing is sent by the clock: it only cuts off."""
