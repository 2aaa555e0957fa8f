"""Makes a source of what an application gives; and the source of async iterables."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from types import AsyncGeneratorType
from typing import Any

from anyio.lowlevel import checkpoint
from anyio.streams.memory import MemoryObjectReceiveStream

from tailrace import limits
from tailrace.runtime import Loop, Rest, Threads, stepper
from tailrace.source.base import Sink, Source
from tailrace.source.contained import Contained
from tailrace.source.sync import SyncSource

__all__ = ["AsyncSource", "open_source"]


def open_source(content: Any, threads: Threads | None = None) -> Source:
    """Make a source of what an application gives.

    Args:
        content: An async or sync iterable; str and bytes are one item, not one for each character.
        threads: The threads for a sync iterable; None is `source_threads`, those for the
            application's code.

    Raises:
        TypeError: It is not iterable; the message names its type.
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


class AsyncSource:
    """An async iterable, iterated and closed in the task that calls `run` and `close`.

    So its context variables and cancel scopes work from the first item to its cleanup.
    """

    threaded = False

    def __init__(self, content: AsyncIterable[Any]) -> None:
        self._content = content
        self._iterator: AsyncIterator[Any] | None = None
        self.closed = False

    async def run(self, sink: Sink, loop: Loop) -> None:
        with Contained():
            self._iterator = aiter(self._content)
            take, put, clock = self._iterator.__anext__, sink.put, time.perf_counter
            # What `__anext__` of an async generator returns has `send`: it needs no `stepper`.
            direct = isinstance(self._iterator, AsyncGeneratorType)
            turn_ends = clock() + limits.TURN_BUDGET
            while True:
                try:
                    steps: Any = take() if direct else stepper(take())
                except StopAsyncIteration:  # as `async for` takes it: before there is an awaitable
                    return
                try:
                    waiting = steps.send(None)
                    if waiting is None and clock() < turn_ends:
                        waiting = steps.send(None)  # one sleep(0) for each item is skipped
                except StopIteration as stop:
                    item = stop.value
                except StopAsyncIteration:
                    self.closed = direct  # a generator that has ended is closed
                    return
                else:
                    sink.source_waits()
                    try:
                        item = await Rest(steps, waiting, sink.interrupted)
                    except StopAsyncIteration:
                        self.closed = direct
                        return
                    turn_ends = clock() + limits.TURN_BUDGET
                if not put(item):
                    await sink.room()
                    turn_ends = clock() + limits.TURN_BUDGET
                elif clock() > turn_ends:
                    sink.source_waits()
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


def _is_sent_into(content: Any) -> bool:
    """Whether this is the receiving end of a memory channel whose sending end is still open.

    If it were closed, the sender would get an error, and the sender is not part of the source. The
    code that made the channel ends both.
    """
    if isinstance(content, MemoryObjectReceiveStream):
        return content.statistics().open_send_streams > 0
    trio: Any = sys.modules.get("trio")
    if trio is not None and isinstance(content, trio.MemoryReceiveChannel):
        return bool(content.statistics().open_send_channels)
    return False


def _without_fastapi_wrapper(content: AsyncIterable[Any]) -> AsyncIterable[Any]:
    """The endpoint's own generator, taken out of the one that FastAPI has put around it.

    FastAPI wraps an async `yield` endpoint in a generator that calls `sleep(0)` after each item.
    Closing the wrapper does not close the endpoint's generator: the garbage collector would close
    it later, in another task. The wrapper was not started yet, so its arguments can be read.
    """
    code = getattr(content, "ag_code", None)
    frame = getattr(content, "ag_frame", None)
    if code is None or frame is None or code.co_name != "_async_stream_raw":
        return content
    if frame.f_globals.get("__name__") != "fastapi.routing":
        return content
    inner = frame.f_locals.get("async_gen")
    return inner if isinstance(inner, AsyncIterable) else content
