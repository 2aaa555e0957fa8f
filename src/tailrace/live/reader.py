"""One reader at the other end of a connection.

The theory. The request's own task does everything that waits, and mostly it waits for one signal,
which is set by whatever gives it something to do: a change, time, the client's leaving. What it
does then is decided by its cursor. Under a server that hands connections over, this task is not
woken for what is new: the broadcast writes to the connection, and only a reader that lags, or ends,
has something to do. Under any other server it is woken for each change, and sends the frame that is
the same for all.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Final

import anyio.lowlevel
from starlette.types import Receive, Scope, Send

from tailrace import limits
from tailrace.connection import Attached, Ending, Frame, counters
from tailrace.errors import InvalidOffset, OffsetGone, StreamNotFound, TailraceError
from tailrace.live.cursor import ReadCursor, ReaderState, ReaderStep, Slow
from tailrace.live.format import End, Format, Gap, Reason
from tailrace.live.hub import Hub
from tailrace.live.live_stream import LiveStream
from tailrace.live.tail import Entry
from tailrace.pump import Deadlines, Due, Head, Sending
from tailrace.store import Mark, Offset, Slice, Where
from tailrace.types import StreamOptions

__all__ = ["LiveReader"]

_beat = lru_cache(maxsize=64)(Frame)
"""A heartbeat, framed once."""
_ENDINGS: Final = {Reason.FAREWELL: Ending.DRAINED, Reason.FAILED: Ending.FAILED}


class LiveReader:
    """A client that is sent a live stream.

    Args:
        hub: For the log.
        cursor: Where it begins.
        format: What it is sent.
        options: `send_timeout` and `heartbeat`.
        lifetime: Seconds after which the response ends; None lets it last.
        scope, receive, send: ASGI's.
    """

    __slots__ = (
        *("_attached", "_beat", "_cursor", "_drain", "_error", "_format", "_gap", "_hub"),
        *("_first_read", "_over", "_rejoined", "_sending", "_until", "_woken", "tick"),
    )

    def __init__(
        self,
        hub: Hub,
        cursor: ReadCursor,
        format: Format,  # noqa: A002 - the word for it
        options: StreamOptions,
        lifetime: float | None,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        loop = cursor.live.loop
        every = options.beat_every(format.heartbeat)
        clock = Deadlines(loop.time(), send_timeout=options.send_timeout, heartbeat=every)
        clock.begins_at_once()
        self._hub = hub
        self._cursor = cursor
        self._format = format
        self._sending = Sending(self, loop, scope, receive, send, clock)
        self._until = math.inf if lifetime is None else loop.time() + lifetime
        self._first_read: tuple[Head, Slice] | None = None
        self._attached: Attached | None = None
        self._drain: Callable[[], None] | None = None
        """Takes back the wait for a client that has enough for now."""
        self._woken = loop.signal()
        # Without its stream it has nothing else to say, and a proxy may wait for a first byte.
        self._beat = cursor.state is ReaderState.ABSENT and every < math.inf
        self._over: Reason | None = None
        """Why it ends in order; what ends it early is told by `Sending`."""
        self._error: TailraceError | None = None
        self._gap: Gap | None = None
        self._rejoined = False
        """It holds another live stream of the path than the one that it was given."""
        self.tick = 0

    def begin_with(self, head: Head, first: Slice) -> None:
        """What it sends first. It is not held for longer than that."""
        self._first_read = head, first

    async def run(self) -> Ending:
        """Send the stream until it ends, the client leaves, or there is another reason.

        Raises:
            Exception: What went wrong after the start; the server cuts the connection.
        """
        sending, live = self._sending, self._cursor.live
        async with sending:
            try:
                live.wheel.set(self, self.on_tick(live.loop.time()))
                await self._begin()
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
        """The broadcast goes on without this one; as `Listener.lagging`."""
        self._cursor.lags(offset)
        if self._cursor.slow is Slow.DISCONNECT:
            self._sending.end(Ending.TOO_SLOW)
        else:
            self._await_drain()

    @property
    def lingers(self) -> float:
        """Seconds that it may take to end when it is told; infinite if it goes on."""
        return 0.0 if self._format.says_farewell else math.inf

    def end_early(self) -> None:
        """End early: with the format's farewell, or without its last bytes."""
        if self._sending.farewell is not None:
            self._end(Reason.FAREWELL)
        self.wake()

    # What is done, step by step

    async def _begin(self) -> None:
        assert self._first_read is not None
        (head, first), self._first_read = self._first_read, None
        now = time.time()
        data = self._format.begin(first, now) + self._format.frame(first, now)
        sending = self._sending
        self._attached = await sending.interruptible(sending.attach(head.message(), data))
        self._cursor.take(first)

    async def _step(self) -> None:
        cursor, attached = self._cursor, self._attached
        listens = cursor.state is ReaderState.LISTENING
        full = attached is not None and not listens and self._is_full(attached)
        step = cursor.next(attached=attached is not None, full=full, beat=self._beat)
        if isinstance(step, Entry):
            await self._give(step)
        elif isinstance(step, Gap):
            await self._give_gap(step)
        else:
            await _DO[step](self)

    async def _wait(self) -> None:
        await self._woken.wait()

    async def _sleep(self) -> None:
        live = self._cursor.live
        live.sleep(self)
        await self._woken.wait()
        live.rise(self)

    async def _listen(self) -> None:
        assert self._attached is not None
        self._cursor.live.broadcast.join(self, self._format, self._attached.write)
        self._cursor.listens()

    async def _leave_broadcast(self) -> None:
        self._listen_no_more()

    async def _look_for_stream(self) -> None:
        live = self._cursor.live
        if live.tail.over:  # a stream that came and went meanwhile
            live = self._rejoin()
        if not live.has_asleep(self):
            live.sleep(self)  # before it looks: nothing may come between
            try:
                self._cursor.appears(await self._hub.head(live.path))
            except StreamNotFound:
                pass
            except TailraceError as error:
                self._fail(error)
                return
            else:
                live.rise(self)
                return
        await self._woken.wait()

    def _rejoin(self) -> LiveStream:
        before = self._cursor.live
        live = self._cursor.live = self._hub.join(before.path)
        if self._rejoined:
            self._hub.leave(before)
        self._rejoined = True
        return live

    async def _read(self) -> None:
        try:
            found = await self._find()
        except StreamNotFound:
            self._end(Reason.DELETED)
        except TailraceError as error:
            self._fail(error)
        else:
            if isinstance(found, Gap):
                await self._give_gap(found)
            elif found is not None:
                await self._give(Entry(found, time.time()))

    async def _refresh(self) -> None:
        try:
            await self._cursor.live.refresh()
        except TailraceError as error:
            self._fail(error)

    async def _show_beat(self) -> None:
        self._beat = False
        await self._put(_beat(self._format.heartbeat))

    async def _cut_off(self) -> None:
        self._sending.end(Ending.TOO_SLOW)

    async def _close(self) -> None:
        self._end(Reason.CLOSED)

    async def _delete(self) -> None:
        self._end(Reason.DELETED)

    # The log

    async def _find(self) -> Slice | Gap | None:
        """What follows in the log: to be given, or skipped. None if nothing is new.

        Raises:
            StreamNotFound: The stream is gone.
        """
        cursor = self._cursor
        try:
            found = await self._look(cursor.offset)
        except OffsetGone:
            return Gap(cursor.offset, (await self._look(Mark.BEGINNING)).start)
        except InvalidOffset:  # beyond the tail of another stream
            raise StreamNotFound(cursor.live.path) from None
        is_new = found.chunks or found.closed or (found.up_to_date and not cursor.sent_up_to_date)
        return found if is_new else None

    async def _look(self, where: Where) -> Slice:
        cursor = self._cursor
        found = await self._hub.read(cursor.live.path, where, limits.CATCH_UP_BYTES)
        if found.info.created_at != cursor.created_at:
            raise StreamNotFound(cursor.live.path)
        return found

    # What the client is given

    async def _give(self, entry: Entry) -> None:
        frame = entry.frame(self._format)
        if frame is None or await self._put(frame):
            self._cursor.take(entry.part)

    async def _give_gap(self, gap: Gap) -> None:
        data = self._format.gap(gap)
        if data is None:
            self._gap = gap
            self._end(Reason.GAP)
        elif not data or await self._put(Frame(data)):
            self._cursor.skip(gap)

    async def _put(self, frame: Frame) -> bool:
        """Give it to the client; False if it did not take it."""
        attached, sending = self._attached, self._sending
        if attached is None:
            await sending.interruptible(sending.write(frame.data))
            await self._look_around()
        elif attached.write(frame):
            counters.bytes_sent += len(frame.data)
        else:
            self._await_drain()
            return False
        sending.clock.quiet_since = self._cursor.live.loop.time()
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
        if self._cursor.state is ReaderState.LISTENING:
            clock = sending.clock
            clock.quiet_since = max(clock.quiet_since, self._cursor.live.changed_at)
        verdict = sending.check(now)
        if sending.ending is not None:
            return math.inf
        if now >= self._until and self._over is None:
            self._end(Reason.LIFETIME)
            self.wake()
        if self._over is not None:
            return verdict.again
        if verdict.due is Due.HEARTBEAT:
            self._show_alive()
        return min(verdict.again, self._until)

    def _show_alive(self) -> None:
        if self._cursor.state is ReaderState.LISTENING:
            assert self._attached is not None
            self._attached.write(_beat(self._format.heartbeat))
        elif not self._sending.is_waited_for:
            self._beat = True
            self.wake()

    # The end

    def _end(self, reason: Reason) -> None:
        """End in order; the first reason counts."""
        self._over = self._over or reason

    def _fail(self, error: TailraceError) -> None:
        self._error = error
        self._end(Reason.FAILED)

    async def _finish(self) -> Ending:
        sending = self._sending
        self._listen_no_more()
        self._cursor.live.forget(self)
        self._release()
        if sending.ending is not None:
            return sending.ending
        assert self._over is not None
        error: Exception | None = self._error
        data = b""
        try:
            data = self._format.end(self._last_words(self._over))
        except TailraceError as raised:
            error = raised
        await sending.interruptible(sending.write(data, more=error is not None))
        if sending.ending is not None:  # cut on the way
            return sending.ending
        if error is not None:
            await sending.send_unsendable(error)
            raise error
        return _ENDINGS.get(self._over, Ending.COMPLETE)

    def _last_words(self, reason: Reason) -> End:
        cursor, farewell = self._cursor, self._sending.farewell
        retry = 0.0 if farewell is None else farewell.draw_retry()
        return End(
            reason, cursor.live.path, cursor.offset, cursor.closing, self._gap, self._error, retry
        )

    def _leave(self) -> None:
        """Be forgotten by everything; never waits."""
        live = self._cursor.live
        live.wheel.take_back(self)
        self._listen_no_more()
        live.forget(self)
        if self._drain is not None:
            self._drain()
        self._release()
        if self._rejoined:
            self._hub.leave(live)

    def _listen_no_more(self) -> None:
        cursor = self._cursor
        if cursor.state is ReaderState.LISTENING:
            cursor.leaves(cursor.live.broadcast.leave(self, self._format))

    def _release(self) -> None:
        if self._attached is not None:
            self._attached.release()
            self._attached = None
            self._sending.released()


_DO: Final[dict[ReaderStep, Callable[[LiveReader], Awaitable[None]]]] = {
    ReaderStep.WAIT: LiveReader._wait,
    ReaderStep.SLEEP: LiveReader._sleep,
    ReaderStep.LISTEN: LiveReader._listen,
    ReaderStep.LEAVE: LiveReader._leave_broadcast,
    ReaderStep.LOOK: LiveReader._look_for_stream,
    ReaderStep.READ: LiveReader._read,
    ReaderStep.REFRESH: LiveReader._refresh,
    ReaderStep.BEAT: LiveReader._show_beat,
    ReaderStep.CUT_OFF: LiveReader._cut_off,
    ReaderStep.CLOSED: LiveReader._close,
    ReaderStep.DELETED: LiveReader._delete,
}
