"""One live response under way.

The theory. The request's own task does everything that waits, and mostly it waits for one signal,
which is set by whatever gives it something to do: news, time, the client's leaving. Under a server
that hands connections over, this task is not woken for what is new: the crowd is written to, and
only who falls behind, or ends, has something to do. Under any other it is woken for each change,
and sends the frame that is the same for all.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import lru_cache

import anyio.lowlevel
from starlette.types import Receive, Scope, Send

from tailrace import limits
from tailrace.connection import Attached, Ending, Frame, counters
from tailrace.errors import StreamNotFound, TailraceError
from tailrace.live.cursor import Next, ReadCursor, Slow
from tailrace.live.format import End, Format, Gap, Reason
from tailrace.live.opening import Opening
from tailrace.live.tail import Entry, TailState
from tailrace.pump import Deadlines, Due, Sending
from tailrace.store import Offset
from tailrace.types import StreamOptions

__all__ = ["Subscriber"]

_beat = lru_cache(maxsize=64)(Frame)
"""A heartbeat, framed once."""
_ENDINGS = {Reason.FAREWELL: Ending.DRAINED, Reason.FAILED: Ending.FAILED}


class Subscriber:
    """A reader of a live stream at the other end of a connection.

    Args:
        place: Where it begins.
        format: How it gets it.
        options: `send_timeout` and `heartbeat`.
        slow: What becomes of it if it is too slow.
        lifetime: Seconds after which the response ends; None lets it last.
        scope, receive, send: ASGI's.
    """

    __slots__ = (
        *("_attached", "_beat", "_drain", "_error", "_format", "_gap", "_in_crowd", "_lagging"),
        *("_over", "_place", "_sending", "_slow", "_until", "_was_at_tail", "_woken", "tick"),
    )

    def __init__(
        self,
        place: ReadCursor,
        format: Format,  # noqa: A002 - the word for it
        options: StreamOptions,
        slow: Slow,
        lifetime: float | None,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        loop = place.live.loop
        clock = Deadlines(
            loop.time(),
            send_timeout=options.send_timeout,
            heartbeat=options.beat_every(format.heartbeat),
        )
        clock.begins_at_once()
        self._sending = Sending(self, loop, scope, receive, send, clock)
        self._place = place
        self._format = format
        self._slow = slow
        self._until = math.inf if lifetime is None else loop.time() + lifetime
        self._attached: Attached | None = None
        self._in_crowd = False
        self._was_at_tail = False
        self._lagging = False
        self._drain: Callable[[], None] | None = None
        """Takes the wait for the client back, which has enough for now."""
        self._woken = loop.signal()
        self._beat = False
        self._over: Reason | None = None
        """Why it ends in order; what ends it early is told by `Sending`."""
        self._error: TailraceError | None = None
        self._gap: Gap | None = None
        self.tick = 0

    async def run(self, opening: Opening) -> Ending:
        """Send the stream until it ends, the client leaves, or there is another reason.

        Args:
            opening: What comes first.

        Raises:
            Exception: What went wrong after the start; the server cuts the connection.
        """
        sending, live = self._sending, self._place.live
        async with sending:
            try:
                live.wheel.set(self, self.on_tick(live.loop.time()))
                await self._begin(opening)
                while self._over is None and sending.ending is None:
                    await self._step()
                sending.ending = await self._finish()
            finally:
                self._leave()
        return sending.ending

    # Told from outside

    def wake(self) -> None:
        """Something has happened."""
        self._woken.set()

    def lagging(self, offset: Offset) -> None:
        """The crowd goes on without this one."""
        self._in_crowd = False
        self._place.offset = offset
        self._lagging = True
        if self._slow is Slow.DISCONNECT:
            self._sending.end(Ending.TOO_SLOW)
        else:
            self._await_drain()

    @property
    def lingers(self) -> float:
        """Seconds that it may take to end when it is told; infinite if it goes on."""
        return 0.0 if self._format.says_farewell else math.inf

    def told(self) -> None:
        """It ends early: with the format's farewell, or without its last words."""
        if self._sending.farewell is not None:
            self._over = self._over or Reason.FAREWELL
        self.wake()

    # What is done, step by step

    async def _begin(self, opening: Opening) -> None:
        start, first = opening.take()
        now = time.time()
        data = self._format.begin(first, now) + self._format.frame(first, now)
        sending = self._sending
        self._attached = await sending.interruptible(sending.attach(start, data))
        self._place.take(first)

    async def _step(self) -> None:
        place = self._place
        if self._in_crowd:
            await self._stay_in_crowd()
        elif self._attached is not None and self._is_full(self._attached):
            await self._woken.wait()
        elif (gap := self._too_slow()) is not None:
            await self._give_gap(gap)
        elif self._beat:
            self._beat = False
            await self._put(_beat(self._format.heartbeat))
        else:
            step = place.next()
            if isinstance(step, Entry):
                await self._give(step)
            else:
                await self._do(step)

    async def _do(self, step: Next) -> None:
        live = self._place.live
        try:
            if step is Next.READ:
                await self._read()
            elif step is Next.REFRESH:
                await live.refresh()
            elif step is Next.CLOSED:
                self._over = self._over or Reason.CLOSED
            elif step is Next.DELETED:
                self._over = self._over or Reason.DELETED
            else:
                self._wait_at_tail(step)
                await self._woken.wait()
                live.rise(self)
        except StreamNotFound:
            self._over = self._over or Reason.DELETED
        except TailraceError as error:
            self._over, self._error = self._over or Reason.FAILED, error

    def _wait_at_tail(self, step: Next) -> None:
        self._was_at_tail = True
        live, attached = self._place.live, self._attached
        if step is Next.WAIT and attached is not None:
            live.broadcast.join(self, self._format, attached.write)
            self._in_crowd = True
        else:
            live.sleep(self)

    async def _stay_in_crowd(self) -> None:
        live = self._place.live
        if live.tail.over:
            if live.broadcast.settled:
                self._leave_crowd()
            else:
                await self._woken.wait()
        elif live.tail.state is TailState.STALE:
            await self._do(Next.REFRESH)
        else:
            await self._woken.wait()

    def _leave_crowd(self) -> None:
        self._in_crowd = False
        self._place.take_all(self._place.live.broadcast.leave(self, self._format))

    async def _read(self) -> None:
        found = await self._place.read()
        if isinstance(found, Gap):
            await self._give_gap(found)
        elif found is not None:
            await self._give(Entry(found, time.time()))

    async def _give(self, entry: Entry) -> None:
        frame = entry.frame(self._format)
        if frame is None or await self._put(frame):
            self._place.take(entry.part)

    async def _give_gap(self, gap: Gap) -> None:
        data = self._format.gap(gap)
        if data is None:
            self._over, self._gap = self._over or Reason.GAP, gap
        elif not data or await self._put(Frame(data)):
            self._place.skip(gap)

    async def _put(self, frame: Frame) -> bool:
        """Give it to the client; False if it did not take it."""
        attached = self._attached
        if attached is None:
            await self._sending.interruptible(self._sending.write(frame.data))
            await self._look_around()
        elif attached.write(frame):
            counters.bytes_sent += len(frame.data)
        else:
            self._await_drain()
            return False
        self._sending.clock.quiet_since = self._place.live.loop.time()
        return True

    def _is_full(self, attached: Attached) -> bool:
        if self._drain is None and attached.buffered_bytes:
            self._await_drain()
        return self._drain is not None or attached.closed

    def _await_drain(self) -> None:
        attached = self._attached
        assert attached is not None
        if not attached.closed:  # or it has left, which it is told
            self._drain = attached.on_drain(self._drained)
            self._sending.backlog = True

    def _drained(self) -> None:
        self._drain = None
        self._sending.backlog = False
        self.wake()

    def _too_slow(self) -> Gap | None:
        place = self._place
        if (
            self._attached is None
            and self._was_at_tail
            and place.behind_bytes > limits.ATTACH_BUFFER_BYTES
        ):
            self._lagging = True
        if not self._lagging:
            return None
        self._lagging = self._was_at_tail = False
        if self._slow is Slow.DISCONNECT:
            self._sending.end(Ending.TOO_SLOW)
        return place.to_latest() if self._slow is Slow.LATEST else None

    async def _look_around(self) -> None:
        """Notice, while there is always something to send, that the client has left."""
        await anyio.lowlevel.checkpoint()  # or nobody else could tell
        leaving = self._sending.leaving
        assert leaving is not None
        leaving.look()
        if leaving.left:
            self._sending.end(Ending.LEFT)

    # Time

    def on_tick(self, now: float) -> float:
        """Do what is due: cut a stalled client off, end the response, or show that it is alive."""
        sending = self._sending
        if self._in_crowd:
            clock = sending.clock
            clock.quiet_since = max(clock.quiet_since, self._place.live.changed_at)
        verdict = sending.check(now)
        if sending.ending is not None:
            return math.inf
        if now >= self._until and self._over is None:
            self._over = Reason.LIFETIME
            self.wake()
        if self._over is not None:
            return verdict.again
        if verdict.due is Due.HEARTBEAT:
            self._show_alive()
        return min(verdict.again, self._until)

    def _show_alive(self) -> None:
        if self._in_crowd:
            assert self._attached is not None
            self._attached.write(_beat(self._format.heartbeat))
        elif not self._sending.is_waited_for:
            self._beat = True
            self.wake()

    # The end

    async def _finish(self) -> Ending:
        sending = self._sending
        if self._in_crowd:
            self._leave_crowd()
        self._place.live.forget(self)
        self._release()
        if sending.ending is not None:
            return sending.ending
        assert self._over is not None
        error: Exception | None = self._error
        data = b""
        try:
            data = self._format.end(self._end_of(self._over))
        except TailraceError as raised:
            error = raised
        await sending.interruptible(sending.write(data, more=error is not None))
        if sending.ending is not None:  # cut on the way
            return sending.ending
        if error is not None:
            await sending.send_unsendable(error)
            raise error
        return _ENDINGS.get(self._over, Ending.COMPLETE)

    def _end_of(self, reason: Reason) -> End:
        place = self._place
        farewell = self._sending.farewell
        retry = 0.0 if farewell is None else farewell.draw_retry()
        return End(
            reason, place.live.path, place.offset, place.closing, self._gap, self._error, retry
        )

    def _leave(self) -> None:
        """Be forgotten by everything; never waits."""
        live = self._place.live
        live.wheel.take_back(self)
        if self._in_crowd:
            self._leave_crowd()
        live.forget(self)
        if self._drain is not None:
            self._drain()
        self._release()

    def _release(self) -> None:
        if self._attached is not None:
            self._attached.release()
            self._attached = None
            self._sending.released()
