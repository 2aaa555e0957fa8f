"""What yields, and who closes it: sync and async iterables behind one interface.

Whoever iterates closes. `run` takes items until there are no more; `close` is called once after it,
however it ended, also if it never began.
"""

from __future__ import annotations

import contextvars
import sys
import time
from asyncio import CancelledError
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from types import AsyncGeneratorType
from typing import Any, Protocol, runtime_checkable

from anyio.lowlevel import checkpoint
from anyio.streams.memory import MemoryObjectReceiveStream

from tailrace import limits
from tailrace.runtime.loop import Loop, Signal, context_for_thread, current_loop
from tailrace.runtime.threads import PinnedThread, Threads, Workers, source_threads
from tailrace.runtime.turn import Rest, stepper
from tailrace.source.calls_back import CallsBack
from tailrace.source.children import contain_children, inside_a_source
from tailrace.source.contained import Contained

__all__ = [
    "AsyncSource",
    "Pinnable",
    "Sink",
    "Source",
    "SyncSource",
    "is_rewindable",
    "iterate_in_threads",
    "open_source",
]


class Sink(Protocol):
    """Where a source puts its items; `source.Buffer` with a framing in front."""

    def put(self, item: Any) -> bool:
        """Take an item; False when the source should wait for room."""

    async def room(self) -> None:
        """Wait in a task until there is room."""

    def room_in_thread(self, seconds: float) -> bool:
        """Wait in a thread until there is room, for a time; False without."""

    def in_line(self, waits: bool) -> None:
        """The source cannot begin: all threads are busy. False: it has begun now."""


class Source(Protocol):
    """Anything that yields, iterated once."""

    threaded: bool
    """Items are put by a thread, not by the task that runs."""

    spans: bool
    """Items may be spans, which are sent by themselves."""

    async def run(self, sink: Sink, loop: Loop) -> None:
        """Put every item. An interrupt ends it; `close` must follow.

        Raises:
            Exception: The source's; what it raises beside those is `SourceExited`, so anything else
                comes from outside.
        """

    async def close(self) -> None:
        """Let the source run its cleanup; the caller shields and bounds this. Raises as `run`."""


@runtime_checkable
class Pinnable(Protocol):
    """A source that may run in a thread (`StreamOptions.pin_thread`)."""

    def pin_thread(self) -> None:
        """Run all of it in one thread, its cleanup too; to be called before `run`."""


def open_source(content: Any, threads: Threads | None = None) -> Source:
    """The source behind what an application gave.

    Args:
        content: An async or sync iterable; str and bytes are one item, not one for each character.
        threads: Where a sync one runs; None: in those for the application's code.

    Raises:
        TypeError: It is neither; the message names its type.
    """
    if isinstance(content, AsyncIterable):
        return AsyncSource(_without_fastapi_wrapper(content))
    if isinstance(content, (str, bytes, bytearray, memoryview)):
        return SyncSource((content,), threads)
    # Old sequences have no `__iter__`, only `__getitem__`; `iter()` takes them.
    if isinstance(content, Iterable) or hasattr(type(content), "__getitem__"):
        return SyncSource(content, threads)
    raise TypeError(
        f"a stream needs an iterable or an async iterable, not {type(content).__qualname__}: "
        "give it a generator, or a list of chunks"
    )


def is_rewindable(content: Any) -> bool:
    """Whether this is an open file that can be read again: a BytesIO, an upload, a file on disk.

    It is its owner's, who has opened it and may send it again, or read it in a background task. A
    pipe or a connection that is read as a file is spent when it was read, and is closed.
    """
    seekable = None if isinstance(content, AsyncIterable) else getattr(content, "seekable", None)
    try:
        return seekable is not None and hasattr(content, "read") and bool(seekable())
    except ValueError:  # it is closed
        return False


def _is_sent_into(content: Any) -> bool:
    """Whether this is a channel in memory into which somebody may still send.

    To close it would be an error in the sender, which is no part of the source: it belongs to who
    has made both ends, and ends the sender.
    """
    if isinstance(content, MemoryObjectReceiveStream):
        return content.statistics().open_send_streams > 0
    trio: Any = sys.modules.get("trio")
    if trio is not None and isinstance(content, trio.MemoryReceiveChannel):
        return bool(content.statistics().open_send_channels)
    return False


async def iterate_in_threads(content: Iterable[Any]) -> AsyncIterator[Any]:
    """A sync iterable as an async one, iterated in the threads for sources, and closed."""
    source, items = SyncSource(content), list[Any]()
    source.begin(current_loop())
    try:
        while await source.take(items):
            yield items.pop()
    finally:
        await source.close()


class AsyncSource:
    """An async iterable, iterated in the task that calls `run`: its context variables and cancel
    scopes stay whole, and its cleanup runs where the rest of it ran.
    """

    threaded = False
    spans = False

    def __init__(self, content: AsyncIterable[Any]) -> None:
        self._content = content
        self._iterator: AsyncIterator[Any] | None = None

    async def run(self, sink: Sink, loop: Loop) -> None:
        with Contained():
            await self._take_all(sink)

    async def _take_all(self, sink: Sink) -> None:
        self._iterator = aiter(self._content)
        take, put, clock = self._iterator.__anext__, sink.put, time.perf_counter
        # What an async generator's `__anext__` gives can be driven as it is.
        direct = isinstance(self._iterator, AsyncGeneratorType)
        turn_ends = clock() + limits.TURN_BUDGET
        while True:
            steps: Any = take() if direct else stepper(take())
            try:
                waiting = steps.send(None)
                if waiting is None and clock() < turn_ends:
                    waiting = steps.send(None)  # one sleep(0) for each item is taken at once
            except StopIteration as stop:
                item = stop.value
            except StopAsyncIteration:
                return
            else:
                try:
                    item = await Rest(steps, waiting)
                except StopAsyncIteration:
                    return
                turn_ends = clock() + limits.TURN_BUDGET
            if not put(item):
                await sink.room()
                turn_ends = clock() + limits.TURN_BUDGET
            elif clock() > turn_ends:
                await checkpoint()
                turn_ends = clock() + limits.TURN_BUDGET

    async def close(self) -> None:
        if _is_sent_into(self._content):
            return
        aclose = getattr(
            self._content if self._iterator is None else self._iterator, "aclose", None
        )
        if aclose is not None:
            with Contained():
                await aclose()


class SyncSource:
    """A sync iterable, iterated in threads that serve nothing else.

    A thread is held only while the source produces: when the sink is full it lingers a moment and
    is given back, and when others wait for one, after each turn. All of it runs in one copy of the
    request's context, so context variables are those of the endpoint and survive between items.

    Args:
        content: What is iterated.
        threads: Where; None: in those for the application's code.
    """

    threaded = True
    spans = False

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
        self._told_of_line = False
        self._error: BaseException | None = None
        self._exhausted = False
        self._closing = False
        self._closed = False

    def pin_thread(self) -> None:
        """Run all of it in one thread, its cleanup too; to be called before `run`."""
        if self._threads is source_threads:  # what is ours needs none, and holds none for a client
            self._threads = self._pinned = PinnedThread(source_threads)

    async def run(self, sink: Sink, loop: Loop) -> None:
        self.begin(loop)
        while not self._exhausted:
            await sink.room()
            await self._in_thread(partial(self._fill, sink), sink)

    async def take(self, items: list[Any]) -> bool:
        """In place of `run`, after `begin`: put the next item in a list; False at the end."""
        await self._in_thread(partial(self._take, items))
        return bool(items)

    async def close(self) -> None:
        self._closing = True
        if self._job is not None and self._threads.withdraw(self._job):
            self._job = None
        if self._calls is not None:
            self._calls.interrupt()
        # The thread may be inside `next()`, which nothing else can interrupt: it closes the source
        # itself as soon as that returns, even if nobody waits here any more.
        await self._job_over()
        if self._iterator is None and not self._closed:
            # Never begun: there is nothing that blocks, and no thread is needed.
            with Contained():
                self._close()
        elif not self._closed:
            try:
                # What ends frees something: it goes before what begins.
                await self._in_thread(self._close, first=True)
            except _NoThread:
                with Contained():
                    self._close()  # it may hold the loop up; it must not stay open
        if self._pinned is not None:
            self._pinned.release()
        self._raise_error()

    def begin(self, loop: Loop) -> None:
        """What a thread needs of the task that runs now."""
        self._context = context_for_thread()
        self._context.run(inside_a_source.set, True)
        contain_children()
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
            self._tell_of_line(sink, waits=not at_once)
        await self._job_over()
        self._raise_error()

    def _tell_of_line(self, sink: Sink, *, waits: bool) -> None:
        # The thread first says that it has begun and then looks whether we have told; we do it the
        # other way round: whichever comes second sees the other.
        if waits:
            self._told_of_line = True
            sink.in_line(True)
            if self._begun:
                sink.in_line(False)

    async def _job_over(self) -> None:
        while self._job is not None:  # a signal may be left from a job whose wait was interrupted
            assert self._done is not None
            await self._done.wait()

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            with Contained():
                raise error

    def _run_job(self, work: Callable[[], None], sink: Sink | None) -> None:
        assert self._loop is not None
        assert self._calls is not None
        if not self._begun:
            self._begun = True
            if self._told_of_line and sink is not None:
                self._loop.call_from_thread(partial(sink.in_line, False))
        try:
            self._context.run(self._calls.run, work)
            if self._closing and not self._closed:
                self._context.run(self._calls.run, self._close)
        except CancelledError as error:
            if not self._closing:  # else it is how a call back into the loop was interrupted
                self._error = error
        except BaseException as error:  # noqa: BLE001 - raised again in the task that waits
            self._error = error
        if self._closed and self._pinned is not None:
            self._pinned.release()
        self._loop.call_from_thread(self._job_done)

    def _job_done(self) -> None:
        self._job = None
        assert self._done is not None
        self._done.set()

    def _fill(self, sink: Sink) -> None:
        if self._closing:
            return
        # The first turn is one item, if others wait: each client gets something soon. After it,
        # what is quick may take a few; whatever waits for long is over after one.
        turn_ends = 0.0
        if self._iterator is None:
            self._iterator = iter(self._content)
        else:
            turn_ends = time.monotonic() + limits.TURN_BUDGET
        put, line = sink.put, self._threads.line
        for item in self._iterator:
            if self._closing:
                return
            if not put(item) and not sink.room_in_thread(0 if line else limits.THREAD_LINGER):
                return
            if line and time.monotonic() >= turn_ends:
                return
        self._exhausted = True
        self._close()  # here, where it ran; `close` then needs no thread for it

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


def _without_fastapi_wrapper(content: AsyncIterable[Any]) -> AsyncIterable[Any]:
    """The endpoint's own generator, where FastAPI has put one of its own around it.

    FastAPI gives an async `yield` endpoint to its response class inside a generator that sleeps 0
    after each item. Closing that one does not close the endpoint's, which would then be closed by
    the garbage collector, in another task. It has not been started yet when it comes here.
    """
    code = getattr(content, "ag_code", None)
    frame = getattr(content, "ag_frame", None)
    if code is None or frame is None or code.co_name != "_async_stream_raw":
        return content
    if frame.f_globals.get("__name__") != "fastapi.routing":
        return content
    inner = frame.f_locals.get("async_gen")
    return inner if isinstance(inner, AsyncIterable) else content
