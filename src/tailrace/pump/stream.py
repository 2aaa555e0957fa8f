"""The pump: the one loop that carries items from a source to a client.

The theory. The request's own task does everything until something has to wait. It iterates the
source, and sends what is ready when there is a first item or enough for a batch, and when the
source is about to wait. A write that needs no wait is made on the spot, by one step of `send`. For
one that has to wait a task is begun, *delivery beside the source*: it waits for the client while
the source goes on, and sends what is put meanwhile.

So what is ready goes out together at the moment the source waits, without a timer. A response whose
source never waits is sent by one task with no other object than it needs: nobody listens for the
client's leaving, no timer runs, and nothing is registered, before there is a wait (`_begin`).

A step of `send` is taken where nothing but the server sees it, and the server is known to bear it
(`sends_in_steps`). Elsewhere delivery beside the source sends everything but the end.

What ends it from outside, and when something is due, is the business of `Sending`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from math import inf
from typing import Any

import anyio
import anyio.lowlevel
from starlette.types import Receive, Scope, Send

from tailrace import limits
from tailrace.connection import Ending, log, sends_in_steps
from tailrace.errors import InvalidChunk, InvalidEvent, InvalidItem, Problem, SourceBusy, problem_of
from tailrace.framing import Codec, Framing
from tailrace.pump.deadlines import Deadlines, Due
from tailrace.pump.delivery import Delivery, FinalBytes
from tailrace.pump.sending import SILENT, Head, Sending
from tailrace.runtime import Rest, Task, current_loop
from tailrace.source import Buffer, Iteration, Source
from tailrace.types import StreamOptions

__all__ = ["Stream", "serve"]

_SHUTTING_DOWN = Problem("shutting_down", "the server is shutting down")


def serve(
    source: Source,
    framing: Framing,
    make_codec: Callable[[], Codec] | None,
    options: StreamOptions,
    head: Head,
    scope: Scope,
    receive: Receive | None,
    send: Send,
) -> Coroutine[Any, Any, Ending]:
    """Send a source as one response, whole or truthfully cut; to be awaited.

    Args:
        source: What yields; it has been closed when this returns or raises, in this task.
        framing: Items to bytes; for this response alone.
        make_codec: Makes the compressor, or None.
        options: The settings.
        head: Status and headers.
        scope: ASGI's.
        receive: ASGI's, which tells that the client leaves; None if nothing tells it.
        send: ASGI's.

    Returns:
        How it ended.

    Raises:
        BaseException: What the source raised. If nothing was sent before, an ordinary error
            response still can be; otherwise the error's tail was sent, and raising makes the server
            cut the connection without a clean end.
    """
    # No coroutine of its own: what is awaited is held for as long as a client idles.
    return Stream(source, framing, make_codec, options, head, scope, receive, send).run()


class Stream:
    """One response being sent; `serve` says what the arguments are."""

    __slots__ = (
        *("__weakref__", "_beside", "_buffer", "_cancel_grace", "_cancel_refusal", "_delivery"),
        *("_error", "_framing", "_hands_back", "_has_clock", "_is_cut", "_iteration", "_loop"),
        *("_may_step", "_options", "_woken"),
        *("put", "room_in_thread", "sending"),
    )

    def __init__(
        self,
        source: Source,
        framing: Framing,
        make_codec: Callable[[], Codec] | None,
        options: StreamOptions,
        head: Head,
        scope: Scope,
        receive: Receive | None,
        send: Send,
    ) -> None:
        loop = current_loop()
        self._loop = loop
        self._framing = framing
        self._options = options
        grace = options.start_grace
        clock = Deadlines(
            loop.time(),
            send_timeout=options.send_timeout,
            min_rate=options.min_rate,
            heartbeat=options.beat_every(framing.heartbeat),
            start_grace=framing.start_grace if grace is None else grace,
        )
        self.sending = Sending(self, loop, scope, receive, send, clock)
        self.sending.interrupt = self._cut
        buffer = Buffer(loop, options.max_batch_bytes, threaded=source.threaded)
        self._buffer = buffer
        self._delivery = Delivery(self.sending, head, buffer, framing, make_codec, loop.time)
        self._beside: Task | None = None
        """Delivery beside a source that waits."""
        self._hands_back = False
        """It ends when all is sent that is there."""
        self._is_cut = False
        """Nothing more is sent."""
        self._has_clock = False
        """What is due is looked at; not before the source runs."""
        self._may_step = loop.steps_outside_tasks and sends_in_steps(send)
        self._woken = loop.signal() if source.threaded else None
        """Wakes the request's task from the wait for a thread; None: no thread runs the source."""
        self._iteration = Iteration(source, loop, options, self.sending, shielded=True)
        self._cancel_refusal: Callable[[], None] | None = None
        """Takes back the refusal of a source that waits for a thread; None: it does not."""
        self._cancel_grace: Callable[[], None] | None = None
        self._error: BaseException | None = None
        self.put = _framed(framing, buffer)
        self.room_in_thread = buffer.room_in_thread

    async def run(self) -> Ending:
        """Iterate, close, send the rest; as `serve`."""
        sending, iteration = self.sending, self._iteration
        raised: BaseException | None = None
        try:
            if self._woken is not None:
                self._listen()  # before it waits for a thread
            if sending.ending is None:
                self._keep(await iteration.run(self))
            if sending.ending is None:
                sending.ending = Ending.DRAINED if sending.farewell else Ending.COMPLETE
            self._keep(await iteration.close())
            await self._finish()
        except BaseException as error:
            raised = error
            raise
        finally:
            for cancel in (self._cancel_grace, self._cancel_refusal):
                if cancel is not None:
                    cancel()
            await sending.over(raised)
            del raised  # or this frame and the traceback keep each other alive
        assert sending.ending is not None
        if sending.ending is Ending.CANCELLED:
            await anyio.lowlevel.checkpoint_if_cancelled()
        if (kept := self._error) is not None:
            self._error = None
            try:
                raise kept
            finally:
                del kept  # or this frame and the traceback keep each other, and the source, alive
        return sending.ending

    # What the source is given: a `Sink`

    async def room(self) -> None:
        """The source has put enough: send it, and wait until it may go on."""
        self._send_ready()
        await self._buffer.room()

    def in_line(self, waits: bool) -> None:
        """The source waits for a thread. Its status does so, too: it may have to be 503.

        What waits behind the first bytes just waits: a later extent of a file, say.
        """
        if waits and not (self._delivery.started or self._buffer.has_items):
            until = self._loop.time() + limits.SYNC_SOURCE_WAIT
            self._cancel_refusal = self._loop.call_at(until, self._refuse)
        elif self._cancel_refusal is not None:
            self._cancel_refusal()
            self._cancel_refusal = None
            self.sending.clock.source_begins(self._loop.time())
            self._begin()

    def source_waits(self) -> None:
        """Send what is ready, without holding the source up."""
        self._begin()
        self._send_ready()

    async def changed(self) -> None:
        """Send what the thread has put; wait until it puts something."""
        if self._cancel_refusal is None:
            self._begin()
            if self._beside is None and not self._may_step:
                self._start_beside(None)
        if self._beside is None:
            await self._buffer.ready()
            self._send_ready()
        elif self._woken is not None:
            await self._woken.wait()

    def wake(self) -> None:
        self._buffer.wake_consumer()
        if self._woken is not None:
            self._woken.set()

    def interrupted(self) -> None:
        if self._iteration.interrupted() and self.sending.ending is None:
            # The source may swallow it: what it has not yielded then is still missing.
            self.sending.ending = Ending.CANCELLED
            self._cut()

    # Sending

    def _begin(self) -> None:
        """Something has to wait: notice what ends the response, and what is due."""
        if not self._has_clock:
            self._listen()
            self._has_clock = True
            self.sending.run_clock(self._send_due)

    def _listen(self) -> None:
        if not self.sending.listens:
            self.sending.begin()

    async def _awaited(self, writes: Coroutine[Any, Any, None]) -> None:
        if self._has_clock:
            await writes
            return
        try:
            waiting = writes.send(None)
        except StopIteration:
            return
        self._begin()
        await Rest(writes, waiting)

    def _send_due(self, due: Due) -> None:
        """What the clock asks for."""
        self._delivery.ask(due)
        self._send_ready()

    def _send_ready(self) -> None:
        """Send what is ready, without waiting for the client."""
        delivery = self._delivery
        if not delivery.has_work or delivery.busy or self._is_cut:
            return  # whoever sends finds it
        if self._beside is not None:
            self._buffer.wake_consumer()
        elif self._may_step:
            writes = delivery.send_ready()
            try:
                waiting = writes.send(None)
            except StopIteration:
                if delivery.has_work:  # so much of it that the others get their turn first
                    self._start_beside(None)
            except Exception as error:  # noqa: BLE001 - looked at in a task: that may have to wait
                self._start_beside(_raised(error))
            else:
                self._start_beside(Rest(writes, waiting))
        else:
            self._start_beside(None)

    def _start_beside(self, rest: Awaitable[None] | None) -> None:
        self._buffer.wake_consumer()  # it takes over from a task that waits for what a thread puts
        self._beside = self._loop.start_task(partial(self._deliver, rest))
        self._begin()  # it may end at once what was begun

    async def _deliver(self, rest: Awaitable[None] | None) -> None:
        """Delivery beside a source that waits."""
        buffer, delivery = self._buffer, self._delivery
        try:
            if rest is not None:
                await rest
            while True:
                await delivery.send_ready()
                if delivery.has_work:  # the others get their turn, and so does who cancels
                    await anyio.lowlevel.checkpoint()
                elif self._hands_back:
                    return
                else:
                    await buffer.ready()
        except anyio.get_cancelled_exc_class():
            self.sending.end(Ending.CANCELLED)
            raise
        except BaseException as error:  # noqa: BLE001 - what the server says: raised later
            self._is_cut = True  # at once: nothing may follow a message that is missing
            await self._fail(error)

    async def _end_beside(self) -> None:
        """Wait until delivery beside the source has sent what is there, and has ended."""
        if self._beside is None:
            return
        self._hands_back = True
        self._buffer.wake_consumer()
        await self._beside.over()
        self._beside, self._hands_back = None, False

    def _cut(self) -> None:
        """Send nothing more, and not the rest of what is on its way."""
        self._is_cut = True
        if self._beside is not None:
            self._beside.cancel()

    # How it ends

    @property
    def lingers(self) -> float:
        """Seconds that it may take to end when it is told; infinite if it goes on."""
        return inf if self._framing.farewell(0.0) is None else self._options.shutdown_grace

    def end_early(self) -> None:
        """End after the grace of the source, or at once: interrupt the source and close it."""
        farewell = self.sending.farewell
        if self.sending.ending is not None:
            self._iteration.interrupt()
        elif farewell is not None:
            grace = min(self.lingers, farewell.left)
            if grace > 0:
                until = self._loop.time() + grace
                end = partial(self.sending.end, Ending.DRAINED)
                self._cancel_grace = self._loop.call_at(until, end)
            else:
                self.sending.end(Ending.DRAINED)

    def _refuse(self) -> None:
        if self.sending.ending is None:
            self._error = SourceBusy(limits.SYNC_SOURCE_WAIT)
            self.sending.end(Ending.REFUSED)

    async def _fail(self, error: BaseException) -> None:
        """A message was not taken."""
        if isinstance(error, Exception) and await self.sending.explains(error):
            self.sending.end(Ending.LEFT)
        else:
            self._error = self._error or error
            self.sending.end(Ending.FAILED)

    def _keep(self, error: BaseException | None) -> None:
        """Keep what the source has raised, to raise it when all is sent."""
        sending = self.sending
        if error is None:
            return
        if isinstance(error, anyio.get_cancelled_exc_class()):
            sending.end(Ending.CANCELLED)
            self._error = self._error or error
        elif sending.ending is None or sending.ending is Ending.COMPLETE:
            sending.ending = Ending.FAILED
            self._error = error
        else:
            # The client has left, or worse: only the log can be told.
            log.error("%s: closing the source failed", sending, exc_info=error)

    async def _finish(self) -> None:
        """Send what is still there and the tail, unless nobody is there to take it."""
        sending, delivery = self.sending, self._delivery
        if self._beside is not None:
            if sending.ending in SILENT:
                self._beside.cancel()
            try:
                await self._end_beside()
            except anyio.get_cancelled_exc_class() as error:
                self._keep(error)
                self._beside.cancel()
                with anyio.CancelScope(shield=True):
                    await self._beside.over()
        if self._is_cut or sending.ending in SILENT:
            return
        if sending.ending is Ending.FAILED and not (delivery.started or self._buffer.has_items):
            return  # nothing was sent: an ordinary error response can be
        await sending.interruptible(self._awaited(delivery.finish(self._tail())))

    def _tail(self) -> FinalBytes:
        if self.sending.ending is Ending.COMPLETE:
            return FinalBytes(self._framing.closing())
        if self.sending.ending is Ending.DRAINED:
            assert self.sending.farewell is not None
            return FinalBytes(self._framing.farewell(self.sending.farewell.draw_retry()) or b"")
        problem = _SHUTTING_DOWN
        if self._error is not None:
            problem = problem_of(self._error, expose=self._options.expose_errors)
        error = self._error or RuntimeError(problem.message)
        return FinalBytes(self._framing.failure(problem), error)


def _framed(framing: Framing, buffer: Buffer) -> Callable[[Any], bool]:
    """Put an item into a buffer, framed."""
    # Called for each item: what it needs is in the closure, not looked up.
    frame_of, add, touch = framing.frame, buffer.put, buffer.touch
    number = 0

    def put(item: Any) -> bool:
        nonlocal number
        number += 1
        try:
            frame = frame_of(item)
        except (InvalidChunk, InvalidEvent, InvalidItem) as error:
            error.count(number)
            raise
        return add(frame) if frame else touch()

    return put


async def _raised(error: Exception) -> None:
    raise error
