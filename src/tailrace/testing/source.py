"""What happened to a source: whether it started, what was taken, and how, when and where it closed.

The theory. Code inside a generator sees every way in which the generator can end, even if only the
garbage collector closes it. So `inside()` records it there, and `watch()` wraps a source in a
generator that uses `inside()`. Only the closing of a generator that never started cannot be seen
from inside. For that, `watch()` returns an object around its generator.

The current context cannot be asked for and compared. But `ContextVar.reset` refuses a token of
another context, even of a copy, and so tells them apart.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterable
from contextlib import AbstractContextManager, suppress
from contextvars import ContextVar, Token
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, TypeVar, overload

import anyio
import anyio.lowlevel

from tailrace.testing._eventloop import current_task, running_loop

__all__ = ["Place", "SourceProbe"]

T = TypeVar("T")

How = Literal["exhausted", "closed", "cancelled", "failed"]

_started_here: ContextVar[None] = ContextVar("tailrace.testing.started_here")


@dataclass(frozen=True, slots=True)
class Place:
    """Where code ran.

    Args:
        task: The asyncio or trio task; None in a worker thread.
        thread: Its `threading.get_ident()`.
    """

    task: object | None
    thread: int


class SourceProbe:
    """Tells a test what happened to one source.

    Around a source, sync or async, generator or any iterable:

    ```
    probe = SourceProbe()
    response = StreamingResponse(probe.watch(numbers()))
    ```

    or in a generator that the test writes:

    ```
    async def numbers():
        with probe.inside():
            yield 1
    ```

    Make one probe for each source. Its `started` and `closed` have `wait()` and `is_set()`. They
    may be set in any thread.
    """

    def __init__(self) -> None:
        self.started = Flag()
        """The first item was asked for."""
        self.closed = Flag()
        """The source has ended, in whatever way, and its own cleanup has run."""
        self.items = 0
        """Items that the source has yielded so far; only `watch()` counts them."""
        self.how: How | None = None
        """"exhausted": it yielded its last item. "closed": it was closed (GeneratorExit).
        "cancelled" or "failed": it ended with an exception, its own or from outside. None: it has
        not ended."""
        self.error: BaseException | None = None
        """The exception that ended it; None for GeneratorExit."""
        self.started_in: Place | None = None
        self.closed_in: Place | None = None
        self.same_context: bool | None = None
        """Whether it ended in the same context in which it started; None if it did not do both."""

    @property
    def same_task(self) -> bool:
        """Whether it ended in the task in which it started; False if it ran outside of tasks."""
        if self.started_in is None or self.closed_in is None or self.started_in.task is None:
            return False
        return self.started_in.task is self.closed_in.task

    def inside(self) -> AbstractContextManager[SourceProbe]:
        """A context manager to put around the whole body of a generator."""
        return _Inside(self)

    @overload
    def watch(self, source: AsyncIterable[T]) -> AsyncGenerator[T, None]: ...
    @overload
    def watch(self, source: Iterable[T]) -> Generator[T, None, None]: ...
    def watch(self, source: Any) -> Any:
        """The same source, watched: it yields the same items, and closing it closes the source.

        The result is a `collections.abc.Generator` or `AsyncGenerator`, but not of the built-in
        generator types; use `inside()` where that matters.

        Args:
            source: A sync or async iterable.
        """
        if isinstance(source, AsyncIterable):
            return _WatchedAsync(self, source)
        return _Watched(self, source)

    def _start(self) -> None:
        if self.started.is_set() or self.closed.is_set():
            raise RuntimeError(
                "this probe has made its source already: make a probe for each source"
            )
        self.started_in = _here()
        self.started.set()

    def _close(self, error: BaseException | None, same_context: bool | None) -> None:
        self.how = _how(error)
        self.error = None if self.how == "closed" else error
        self.same_context = same_context
        self.closed_in = _here()
        self.closed.set()

    def _close_unstarted(self) -> None:
        if not self.started.is_set() and not self.closed.is_set():
            self._close(GeneratorExit(), None)


class _Inside(AbstractContextManager[SourceProbe]):
    def __init__(self, probe: SourceProbe) -> None:
        self._probe = probe
        self._token: Token[None] | None = None

    def __enter__(self) -> SourceProbe:
        self._probe._start()
        self._token = _started_here.set(None)
        return self._probe

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._token is not None
        try:
            _started_here.reset(self._token)
        except ValueError:
            self._probe._close(exc, same_context=False)
        else:
            self._probe._close(exc, same_context=True)


class _Watched(Generator[T, None, None]):
    def __init__(self, probe: SourceProbe, source: Iterable[T]) -> None:
        self._probe = probe
        self._source = source
        self._steps = _steps(probe, source)

    def send(self, value: None) -> T:
        return self._steps.send(value)

    def throw(self, *exc: Any) -> T:
        return self._steps.throw(*exc)

    def close(self) -> None:
        if not self._probe.started.is_set():
            _close(self._source)
        self._probe._close_unstarted()
        self._steps.close()


class _WatchedAsync(AsyncGenerator[T, None]):
    def __init__(self, probe: SourceProbe, source: AsyncIterable[T]) -> None:
        self._probe = probe
        self._source = source
        self._steps = _async_steps(probe, source)

    def asend(self, value: None) -> Any:
        return self._steps.asend(value)

    def athrow(self, *exc: Any) -> Any:
        return self._steps.athrow(*exc)

    async def aclose(self) -> None:
        if not self._probe.started.is_set():
            await _aclose(self._source)
        self._probe._close_unstarted()
        await self._steps.aclose()


def _steps(probe: SourceProbe, source: Iterable[T]) -> Generator[T, None, None]:
    with probe.inside():
        iterator = iter(source)
        try:
            for item in iterator:
                probe.items += 1
                yield item
        finally:
            _close(iterator)


async def _async_steps(probe: SourceProbe, source: AsyncIterable[T]) -> AsyncGenerator[T, None]:
    with probe.inside():
        iterator = aiter(source)
        try:
            async for item in iterator:
                probe.items += 1
                yield item
        finally:
            await _aclose(iterator)


def _close(source: Any) -> None:
    close = getattr(source, "close", None)
    if close is not None:
        close()


async def _aclose(source: Any) -> None:
    aclose = getattr(source, "aclose", None)
    if aclose is not None:
        await aclose()


def _here() -> Place:
    return Place(current_task(), threading.get_ident())


def _how(error: BaseException | None) -> How:
    if error is None:
        return "exhausted"
    if isinstance(error, GeneratorExit):
        return "closed"
    return "cancelled" if isinstance(error, _cancelled_classes()) else "failed"


def _cancelled_classes() -> tuple[type[BaseException], ...]:
    # Not anyio's `get_cancelled_exc_class`: it needs a running loop, and a thread has none.
    if "trio" not in sys.modules:
        return (asyncio.CancelledError,)
    import trio

    return (asyncio.CancelledError, trio.Cancelled)


class Flag:
    """Something that happens once, in any thread; tasks of any event loop may wait for it.

    It has no lock, because the garbage collector may call `set()` in the middle of any code.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._waiters: deque[Callable[[], None]] = deque()

    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._is_set

    async def wait(self) -> None:
        """Wait until it has happened; if it has already, return after a checkpoint."""
        if self._is_set:
            await anyio.lowlevel.checkpoint()
            return
        happened = anyio.Event()
        loop = running_loop()
        self._waiters.append(lambda: loop.call_soon_threadsafe(happened.set))
        # A thread that set it since the first look may not have seen this waiter.
        if self._is_set:
            happened.set()
        await happened.wait()

    def set(self) -> None:
        """Say that it has happened, and wake all tasks that wait."""
        self._is_set = True
        with suppress(IndexError):
            while True:
                wake = self._waiters.popleft()
                with suppress(RuntimeError):  # the loop of a waiter that gave up may be closed
                    wake()
