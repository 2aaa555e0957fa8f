"""Sync iterables, iterated in threads.

**Calls back into the loop.** `anyio.from_thread` works in a sync source. anyio's functions find the
loop in the thread-local data of anyio's worker threads. Our threads are not anyio's
(`runtime/threads.py` says why), so they get the same data while a source's job runs: an object with
the three methods that anyio calls. The object belongs to the source, not to the thread, so it also
knows when the source is to end. It then cancels *one* call, as one `await` of an async source is
cancelled: the call that is under way, or otherwise the next one. Calls in the source's cleanup are
made as usual. The cancelled call raises asyncio's CancelledError, on trio too, because only trio
can make its own. This is no `Exception`, so no source takes it for a failure and tries again.
"""

from __future__ import annotations

import contextvars
import time
from asyncio import CancelledError
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import anyio

from tailrace import limits
from tailrace.runtime import (
    Loop,
    PinnedThread,
    Signal,
    Threads,
    Workers,
    context_for_thread,
    current_loop,
    source_threads,
)
from tailrace.source.base import Sink
from tailrace.source.contained import Contained, contain_tasks, inside_a_source

__all__ = ["CallsBack", "SyncSource", "is_rewindable", "iterate_in_threads"]

T = TypeVar("T")

_QUICK = 0.001
"""Seconds in which the first item of a quick source is made."""

_anyio: Any = None
with suppress(ImportError):  # not public; without it, a source must give its calls a `token=`
    from anyio._core._eventloop import threadlocals as _anyio


class SyncSource:
    """A sync iterable, iterated in threads that serve nothing else.

    A thread is held only while the source produces. If the sink is full, the thread waits for
    `limits.THREAD_LINGER` seconds and is then given back. If other sources wait for a thread, it is
    given back at once, and also after each turn (`limits.TURN_BUDGET`). The whole source runs in
    one copy of the request's context: it sees the endpoint's context variables, and keeps its own
    from item to item.

    Args:
        content: What is iterated.
        threads: Where it runs; None is `source_threads`, those for the application's code.
    """

    threaded = True

    def __init__(self, content: Iterable[Any], threads: Threads | None = None) -> None:
        self._content = content
        self._threads: Workers = source_threads if threads is None else threads
        self._pinned: PinnedThread | None = None
        self._iterator: Iterator[Any] | None = None
        self._context = contextvars.Context()
        self._loop: Loop | None = None
        self._calls: CallsBack | None = None
        self._done: Signal | None = None
        self._job: Callable[[], None] | None = None
        self._begun = False
        self._is_reported = False
        self._error: BaseException | None = None
        self._exhausted = False
        self._closing = False
        self._closed = False

    @property
    def closed(self) -> bool:
        """Nothing is left that `close` would have to do."""
        return self._closed and self._job is None and self._pinned is None

    def pin_thread(self) -> None:
        """Run all of the source in one thread, its cleanup too. Call this before `run`."""
        # Other threads run our own code: it needs no thread of its own, and a slow client must not
        # hold one of them.
        if self._threads is source_threads:
            self._threads = self._pinned = PinnedThread(source_threads)

    async def run(self, sink: Sink, loop: Loop) -> None:
        self.begin(loop)
        while not self._exhausted:
            await sink.room()
            await self._in_thread(partial(self._fill, sink), sink)

    async def take(self, items: list[Any]) -> bool:
        """Add the next item to a list; False at the end. Call it after `begin`, without `run`."""
        await self._in_thread(partial(self._take, items))
        return bool(items)

    async def close(self) -> None:
        self._closing = True
        if self._job is not None and self._threads.withdraw(self._job):
            self._job = None
        if self._calls is not None:
            self._calls.interrupt()
        # The thread may be inside `next()`, which cannot be interrupted. It closes the source when
        # that returns, even if this wait is cancelled.
        await self._job_over()
        if self._iterator is None and not self._closed:
            # Never begun: nothing in it can block, so no thread is needed.
            with Contained():
                self._close()
        elif not self._closed:
            try:
                # It goes before sources that wait to begin, because an end frees what is held.
                await self._in_thread(self._close, first=True)
            except _NoThread:
                with Contained():
                    self._close()  # this may block the loop, but the source must not stay open
        if self._pinned is not None:
            self._pinned.release()
        self._raise_error()

    def begin(self, loop: Loop) -> None:
        """Take from the current task what the threads need: its context and its event loop."""
        self._context = context_for_thread()
        self._context.run(inside_a_source.set, True)
        contain_tasks()
        self._loop = loop
        self._calls = CallsBack(loop)
        self._done = loop.signal()

    async def _in_thread(
        self, work: Callable[[], None], sink: Sink | None = None, *, first: bool = False
    ) -> None:
        self._job = partial(self._run_job, work, sink)
        try:
            at_once = self._threads.submit(self._job, first=first)
        except RuntimeError as error:
            self._job = None
            raise _NoThread("the system has no thread left for a sync source") from error
        if sink is not None and not self._begun:
            self._report_wait(sink, waits=not at_once)
        while sink is not None and self._job is not None:
            await sink.changed()
        await self._job_over()
        self._raise_error()

    def _report_wait(self, sink: Sink, *, waits: bool) -> None:
        # The thread first sets `_begun` and then looks at `_is_reported`. We first set
        # `_is_reported` and then look at `_begun`. Whichever comes second sees the other.
        if waits:
            self._is_reported = True
            sink.in_line(True)
            if self._begun:
                sink.in_line(False)

    async def _job_over(self) -> None:
        # A loop, because the signal of an earlier job, whose wait was cancelled, may still be set.
        while self._job is not None:
            assert self._done is not None
            await self._done.wait()

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            try:
                with Contained():
                    raise error
            finally:
                del error  # or this frame and the traceback keep each other alive

    def _run_job(self, work: Callable[[], None], sink: Sink | None) -> None:
        assert self._loop is not None
        assert self._calls is not None
        if not self._begun:
            self._begun = True
            if self._is_reported and sink is not None:
                self._loop.call_from_thread(partial(sink.in_line, False))
        try:
            self._context.run(self._calls.run, work)
            if self._closing and not self._closed:
                self._context.run(self._calls.run, self._close)
        except CancelledError as error:
            if not self._closing:  # else it comes from `CallsBack`, which has cancelled a call
                self._error = error
        except BaseException as error:  # noqa: BLE001 - raised again in the task that waits
            self._error = error
        if self._closed and self._pinned is not None:
            self._pinned.release()
        self._loop.call_from_thread(partial(self._job_done, sink))

    def _job_done(self, sink: Sink | None) -> None:
        self._job = None
        assert self._done is not None
        self._done.set()
        if sink is not None:
            sink.wake()

    def _fill(self, sink: Sink) -> None:
        if self._closing:
            return
        # While others wait for a thread, the first turn is one item, so that each client gets
        # something soon. A later turn goes on until `turn_ends`: a quick source puts several items
        # in it, a slow one a single item.
        turn_ends = 0.0
        put, queue = sink.put, self._threads.queue
        began: float | None = None
        if self._iterator is None:
            began = time.monotonic()
            self._iterator = iter(self._content)
        else:
            turn_ends = time.monotonic() + limits.TURN_BUDGET
        for item in self._iterator:
            if self._closing:
                return
            has_room = put(item)
            if began is not None:
                # What was long in the making goes out before this thread computes the next item,
                # for which the event loop would have to wait. A quick source needs no such wait.
                has_room = has_room and time.monotonic() < began + _QUICK
                began = None
            if not has_room and not sink.room_in_thread(0 if queue else limits.THREAD_LINGER):
                return
            if queue and time.monotonic() >= turn_ends:
                return
        self._exhausted = True
        self._close()  # in the same thread; `close` then needs no other

    def _take(self, items: list[Any]) -> None:
        if self._iterator is None:
            self._iterator = iter(self._content)
        items.extend(islice(self._iterator, 1))

    def _close(self) -> None:
        self._closed = True
        if is_rewindable(self._content):
            return
        if self._calls is not None:
            self._calls.cleaning_up()
        close = getattr(self._content if self._iterator is None else self._iterator, "close", None)
        if close is not None:
            close()


class _NoThread(RuntimeError):
    pass


class CallsBack:
    """What anyio finds in a thread while a source runs there: it passes calls on to the loop.

    Args:
        loop: The event loop in which the calls are made.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._under_way: set[anyio.CancelScope] = set()
        self._interrupted = False
        """The source is to end, and no call of it was cancelled yet."""

    def run(self, work: Callable[[], None]) -> None:
        """Call a function; meanwhile anyio takes the current thread for one of its own."""
        if _anyio is None:
            work()
            return
        # anyio's own way to do this (`claim_worker_thread`) takes 11 us, as long as all the rest.
        _anyio.current_token = self
        try:
            work()
        finally:
            del _anyio.current_token

    @property
    def backend_class(self) -> CallsBack:
        """The object on which anyio calls the three methods below."""
        return self

    native_token = None

    def interrupt(self) -> None:
        """Cancel the call that is under way, or otherwise the next one. Call this in the loop."""
        self._interrupted = True
        for scope in tuple(self._under_way):
            scope.cancel()

    def cleaning_up(self) -> None:
        """Let all calls through again: the source is being closed, so it knows of its end."""
        self._interrupted = False

    # What anyio calls, in the thread

    def run_async_from_thread(
        self, func: Callable[..., Awaitable[T]], args: tuple[Any, ...], token: object = None
    ) -> T:
        async def call() -> list[T]:
            if self._interrupted:  # checked in the loop, where it is set, so there is no race
                return []
            with anyio.CancelScope() as scope:
                self._under_way.add(scope)
                try:
                    return [await func(*args)]
                finally:
                    self._under_way.discard(scope)
            return []

        if not (result := self._loop.run_from_thread(call)):
            self._interrupted = False
            raise CancelledError
        return result[0]

    def run_sync_from_thread(
        self, func: Callable[..., T], args: tuple[Any, ...], token: object = None
    ) -> T:
        return self._loop.ask_from_thread(lambda: func(*args))

    def check_cancelled(self) -> None:
        if self._interrupted:
            self._interrupted = False
            raise CancelledError


async def iterate_in_threads(
    content: Iterable[Any], *, pin_thread: bool = False
) -> AsyncIterator[Any]:
    """A sync iterable as an async one; it is iterated in the threads for sources, and closed.

    Args:
        content: Iterated once.
        pin_thread: Run all of it in one thread.
    """
    source, items = SyncSource(content), list[Any]()
    if pin_thread:
        source.pin_thread()
    source.begin(current_loop())
    try:
        while await source.take(items):
            yield items.pop()
    finally:
        await source.close()


def is_rewindable(content: Any) -> bool:
    """Whether this is an open file that can be read again: a BytesIO, an upload, a file on disk.

    Such a file is not closed. It belongs to the code that opened it, which may send it again or
    read it in a background task. A pipe or a connection can be read only once, and is closed.
    """
    seekable = None if isinstance(content, AsyncIterable) else getattr(content, "seekable", None)
    try:
        return seekable is not None and hasattr(content, "read") and bool(seekable())
    except ValueError:  # it is closed
        return False
