"""The pump: the one loop that carries items from a source to a client.

Two tasks for each stream, of which one does something at a time:

* the request's own task iterates the source (a sync source: waits for its thread) and closes it;
* *delivery* takes what the source has put and sends it. It is woken by the first frame of a batch,
  and runs when the request's task next waits. That is how what is ready goes out together at the
  moment the source waits, without a timer.

What ends it from outside, and when something is due, is the business of `Sending`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any

import anyio
import anyio.lowlevel
from starlette.types import Receive, Scope, Send

from tailrace import limits
from tailrace.connection import Ending, log
from tailrace.errors import InvalidChunk, InvalidItem, Problem, SourceBusy, problem_of
from tailrace.framing import Codec, Framing
from tailrace.pump.deadlines import Deadlines
from tailrace.pump.delivery import Delivery, FinalBytes
from tailrace.pump.sending import SILENT, Head, Sending
from tailrace.runtime import current_loop
from tailrace.source import Buffer, Iteration, Source
from tailrace.types import StreamOptions

__all__ = ["Stream", "serve"]

_SHUTTING_DOWN = Problem("shutting_down", "the server is shutting down")


async def serve(
    source: Source,
    framing: Framing,
    make_codec: Callable[[], Codec] | None,
    options: StreamOptions,
    head: Head,
    scope: Scope,
    receive: Receive | None,
    send: Send,
) -> Ending:
    """Send a source as one response, whole or truthfully cut.

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
    async with anyio.create_task_group() as group:
        stream = Stream(source, framing, make_codec, options, head, scope, receive, send, group)
        await stream.run()
        group.cancel_scope.cancel()
    ending = stream.sending.ending
    assert ending is not None
    if ending is Ending.CANCELLED:
        await anyio.lowlevel.checkpoint_if_cancelled()
    if (error := stream.take_error()) is not None:
        try:
            raise error
        finally:
            del error  # or this frame and the traceback keep each other, and the source, alive
    return ending


class _Sink:
    """Where the source puts its items: framed, into the buffer."""

    __slots__ = ("in_line", "put", "room", "room_in_thread")

    def __init__(self, framing: Framing, buffer: Buffer, in_line: Callable[[bool], None]) -> None:
        # Called for each item: what it needs is in the closure, not looked up.
        frame_of, add, touch = framing.frame, buffer.put, buffer.touch
        number = 0

        def put(item: Any) -> bool:
            nonlocal number
            number += 1
            try:
                frame = frame_of(item)
            except (InvalidChunk, InvalidItem) as error:
                error.count(number)
                raise
            return add(frame) if frame else touch()

        self.put = put
        self.in_line = in_line
        self.room = buffer.room
        self.room_in_thread = buffer.room_in_thread


class Stream:
    """One response being sent; `serve` says what the arguments are."""

    __slots__ = (
        *("__weakref__", "_buffer", "_cancel_delivery", "_cancel_grace", "_cancel_refusal"),
        *("_delivered", "_delivery", "_error", "_framing", "_group", "_iteration", "_loop"),
        *("_options", "sending"),
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
        group: anyio.abc.TaskGroup,
    ) -> None:
        loop = current_loop(group)
        self._loop = loop
        self._group = group
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
        self._buffer = Buffer(
            loop, options.max_batch_bytes, threaded=source.threaded, spans=source.spans
        )
        self._delivery = Delivery(self.sending, head, self._buffer, framing, make_codec, loop.time)
        self._delivered = loop.signal()
        self._cancel_delivery = anyio.CancelScope()
        self.sending.interrupt = self._cancel_delivery.cancel
        # Shielded: a scope that is cancelled around us reaches `_deliver`, which ends the source
        # through the same door as everything else.
        self._iteration = Iteration(source, loop, options, self.sending, shielded=True)
        self._cancel_refusal: Callable[[], None] | None = None
        """Takes back the refusal of a source that waits for a thread; None: it does not."""
        self._cancel_grace: Callable[[], None] | None = None
        self._error: BaseException | None = None

    # The way of the data

    async def run(self) -> None:
        """Iterate, close, deliver the rest. Errors are kept for `take_error`."""
        sending, iteration = self.sending, self._iteration
        async with sending:
            self._group.start_soon(self._deliver)
            try:
                if sending.ending is None:
                    sink = _Sink(self._framing, self._buffer, self._in_line)
                    self._keep(await iteration.run(sink))
                if sending.ending is None:
                    sending.ending = Ending.DRAINED if sending.farewell else Ending.COMPLETE
                self._keep(await iteration.close())
                with anyio.CancelScope(shield=True):
                    await self._deliver_rest()
            finally:
                for cancel in (self._cancel_grace, self._cancel_refusal):
                    if cancel is not None:
                        cancel()

    def take_error(self) -> BaseException | None:
        """What `run` kept; once."""
        error, self._error = self._error, None
        return error

    # Told from outside

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

    # The tasks

    def _in_line(self, waits: bool) -> None:
        """The source waits for a thread. Its status does so, too: it may have to be 503.

        What waits behind the first bytes just waits: a later extent of a file, say.
        """
        if waits and not (self._delivery.started or self._buffer.has_items):
            until = self._loop.time() + limits.SYNC_SOURCE_WAIT
            self._cancel_refusal = self._loop.call_at(until, self._refuse)
            self.sending.stop_clock()
        elif self._cancel_refusal is not None:
            self._cancel_refusal()
            self._cancel_refusal = None
            self.sending.clock.source_begins(self._loop.time())
            self.sending.run_clock(self._delivery.send)

    def _refuse(self) -> None:
        if self.sending.ending is None:
            self._error = SourceBusy(limits.SYNC_SOURCE_WAIT)
            self.sending.end(Ending.REFUSED)

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

    async def _deliver_rest(self) -> None:
        ending = self.sending.ending
        if ending in SILENT:
            self._cancel_delivery.cancel()
        elif ending is Ending.FAILED and not (self._delivery.started or self._buffer.has_items):
            self._delivery.withhold()  # nothing was sent: an ordinary error response can be
            self._cancel_delivery.cancel()
        else:
            self._delivery.finish(self._tail())
        await self._delivered.wait()
        self._delivery.over()

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

    async def _deliver(self) -> None:
        try:
            with self._cancel_delivery:
                # Not before the source runs: only then is it known whether it has to wait for a
                # thread, or has failed at once.
                if not self._cancel_delivery.cancel_called:
                    if self._cancel_refusal is None:
                        self.sending.run_clock(self._delivery.send)
                    await self._delivery.run()
        except anyio.get_cancelled_exc_class():
            self.sending.end(Ending.CANCELLED)
            raise
        except Exception as error:  # noqa: BLE001 - what the server says of the response: raised later
            if await self.sending.explains(error):
                self.sending.end(Ending.LEFT)
            else:
                self._error = self._error or error
                self.sending.end(Ending.FAILED)
        finally:
            self._delivered.set()
