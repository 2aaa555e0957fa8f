"""What streaming needs of an event loop beyond what anyio offers, for asyncio and for trio.

It is a signal that can be set again and again, a call at a given time, a task that begins when it
is needed, calls from a thread (with and without an answer), and a way to cancel a task *once*. The
last one matters most. A cancelled anyio scope cancels every `await` inside it, so a source that
does `finally: await connection.close()` would have its cleanup cancelled too. asyncio's own
`Task.cancel()` is delivered once; what the source awaits in its `finally` then runs. trio has only
scopes: there a source shields its cleanup, as everything else on trio does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress
from contextvars import Context, ContextVar, copy_context
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import anyio
import anyio.lowlevel

if TYPE_CHECKING:
    import trio

__all__ = ["CancelOnce", "Loop", "Signal", "Task", "context_for_thread", "current_loop"]


T = TypeVar("T")

_known_library: ContextVar[str | None] | None = None
with suppress(ImportError):  # where anyio has no sniffio, it asks asyncio itself
    from sniffio import current_async_library_cvar as _known_library


class Signal(Protocol):
    """Wakes the one task that waits. If it was set before, the next wait returns at once."""

    def set(self) -> None: ...

    async def wait(self) -> None: ...


class CancelOnce(AbstractContextManager["CancelOnce"], Protocol):
    """A block in the current task that another task can cancel, once.

    What the block awaits after that, in its cleanup, runs. The code after the block goes on as if
    the block had ended normally: `cancelled` tells the difference.
    """

    cancelled: bool

    def cancel(self) -> None:
        """End the block: at once if its task waits, at its next wait otherwise."""


class Task(Protocol):
    """A task beside the one that has begun it."""

    def cancel(self) -> None:
        """End it at its next wait."""

    async def over(self) -> None:
        """Wait until it has ended."""


class Loop(Protocol):
    """The running event loop."""

    steps_outside_tasks: bool
    """A coroutine can be driven from a callback, as long as it does not wait."""

    def time(self) -> float:
        """Seconds, on the clock that timers use."""

    async def checkpoint(self) -> None:
        """Let the others run. anyio's own may not be called where a callback drives a coroutine."""

    def signal(self) -> Signal: ...

    def cancel_once(self) -> CancelOnce: ...

    def call_at(self, when: float, call: Callable[[], None]) -> Callable[[], None]:
        """Call at this time. Returns a function that takes the call back."""

    def start_task(self, run: Callable[[], Coroutine[Any, Any, None]]) -> Task:
        """Run a coroutine function in a task of its own, which raises nothing.

        It belongs to no task group, so it can begin at any moment. Whoever has begun it waits for
        its end.
        """

    def call_from_thread(self, call: Callable[[], None]) -> None:
        """From another thread: call soon, without waiting. Does nothing once the loop is closed."""

    def run_from_thread(self, call: Callable[[], Awaitable[T]]) -> T:
        """From another thread: run a coroutine function in the loop, and wait for its result.

        Raises:
            RuntimeError: The loop is closed.
        """

    def ask_from_thread(self, call: Callable[[], T]) -> T:
        """From another thread: call a function in the loop, and wait for its result.

        Raises:
            RuntimeError: The loop is closed.
        """


def current_loop(group: anyio.abc.TaskGroup | None = None) -> Loop:
    """The loop that runs now.

    Args:
        group: On trio, each timer is a task of this group, and ends with it; None for timers that
            may run as long as the loop.
    """
    try:
        return _AsyncioLoop(asyncio.get_running_loop())
    except RuntimeError:
        return _TrioLoop(group)


class _AsyncioLoop:
    __slots__ = ("_context", "_loop", "time")

    steps_outside_tasks = True

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._context: Context | None = None
        self.time = loop.time

    async def checkpoint(self) -> None:
        await asyncio.sleep(0)

    def signal(self) -> Signal:
        return _AsyncioSignal(self._loop)

    def cancel_once(self) -> CancelOnce:
        return _AsyncioCancelOnce()

    def call_at(self, when: float, call: Callable[[], None]) -> Callable[[], None]:
        return self._loop.call_at(when, call).cancel

    def start_task(self, run: Callable[[], Coroutine[Any, Any, None]]) -> Task:
        return _AsyncioTask(self._loop, run)

    def call_from_thread(self, call: Callable[[], None]) -> None:
        if self._context is None:
            self._context = _knowing("asyncio", Context())
        with suppress(RuntimeError):  # the loop is closed: nothing waits for the call
            self._loop.call_soon_threadsafe(call, context=self._context)

    def run_from_thread(self, call: Callable[[], Awaitable[T]]) -> T:
        async def task() -> T:
            return await call()

        if self._loop.is_closed():
            raise RuntimeError("the event loop is closed")
        context = _knowing("asyncio", copy_context())
        return context.run(asyncio.run_coroutine_threadsafe, task(), self._loop).result()

    def ask_from_thread(self, call: Callable[[], T]) -> T:
        answer: Future[T] = Future()

        def answering() -> None:
            try:
                answer.set_result(call())
            except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
                answer.set_exception(error)

        if self._loop.is_closed():
            raise RuntimeError("the event loop is closed")
        context = _knowing("asyncio", copy_context())
        self._loop.call_soon_threadsafe(answering, context=context)
        return answer.result()


def context_for_thread() -> Context:
    """A copy of the current context that knows of no event loop."""
    return _knowing(None, copy_context())


def _knowing(library: str | None, context: Context) -> Context:
    """A context that tells anyio the kind of event loop: outside of a task it cannot find out."""
    if _known_library is not None:
        context.run(_known_library.set, library)
    return context


class _AsyncioTask:
    __slots__ = ("_is_cancelled", "_over", "_scope", "_task")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, run: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        self._scope: anyio.CancelScope | None = None
        self._is_cancelled = False
        self._over = _AsyncioSignal(loop)
        self._task = loop.create_task(self._run(run))
        self._task.add_done_callback(self._done)

    async def _run(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        # Not `Task.cancel`: a task that is about to learn of an error would never learn of it. The
        # scope is made here, for anyio does not know its event loop in a timer's callback.
        with anyio.CancelScope() as self._scope:
            if self._is_cancelled:
                self._scope.cancel()
            await run()

    def cancel(self) -> None:
        self._is_cancelled = True
        if self._scope is not None:
            self._scope.cancel()

    async def over(self) -> None:
        if not self._task.done():
            await self._over.wait()

    def _done(self, _: asyncio.Task[None]) -> None:
        self._over.set()


class _AsyncioSignal:
    # asyncio.Event would do, but it keeps a queue of waiters and is cleared by hand.
    __slots__ = ("_is_set", "_loop", "_waiter")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._is_set = False
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        self._is_set = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> None:
        if not self._is_set:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._is_set = False


class _AsyncioCancelOnce:
    __slots__ = ("_later", "_task", "cancelled")

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None
        self._later: asyncio.Handle | None = None
        """Cancels a task that has cancelled itself."""
        self.cancelled = False

    def __enter__(self) -> _AsyncioCancelOnce:
        self._task = asyncio.current_task()
        return self

    def cancel(self) -> None:
        if self._task is None or self.cancelled:
            return
        self.cancelled = True
        if self._task is asyncio.current_task(self._task.get_loop()):
            # `Task.cancel` now would stay behind a block that ends without a wait: before Python
            # 3.13 it is not taken back, and cancels what the task does next.
            self._later = self._task.get_loop().call_soon(self._cancel)
        else:
            self._cancel()

    def _cancel(self) -> None:
        self._later = None
        if self._task is not None:
            self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> bool:
        task, self._task = self._task, None
        if not self.cancelled or task is None:
            return False
        if self._later is not None:
            self._later.cancel()
            return False
        # Only ours is taken back: any other cancellation (the server stops) goes on.
        others = task.uncancel()
        return isinstance(error, asyncio.CancelledError) and not others


class _TrioLoop:
    __slots__ = ("_group", "_token")

    steps_outside_tasks = False

    def __init__(self, group: anyio.abc.TaskGroup | None) -> None:
        import trio

        self._group = group
        self._token: trio.lowlevel.TrioToken = trio.lowlevel.current_trio_token()

    def time(self) -> float:
        return anyio.current_time()

    async def checkpoint(self) -> None:
        await anyio.lowlevel.checkpoint()

    def signal(self) -> Signal:
        return _TrioSignal()

    def cancel_once(self) -> CancelOnce:
        return _TrioCancelOnce()

    def call_at(self, when: float, call: Callable[[], None]) -> Callable[[], None]:
        import trio

        scope = anyio.CancelScope()

        async def wait() -> None:
            with scope:
                await anyio.sleep_until(when)
                call()

        if self._group is None:
            trio.lowlevel.spawn_system_task(wait)
        else:
            self._group.start_soon(wait)
        return scope.cancel

    def start_task(self, run: Callable[[], Coroutine[Any, Any, None]]) -> Task:
        return _TrioTask(run)

    def call_from_thread(self, call: Callable[[], None]) -> None:
        import trio

        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(call)

    def run_from_thread(self, call: Callable[[], Awaitable[T]]) -> T:
        import trio

        return trio.from_thread.run(call, trio_token=self._token)

    def ask_from_thread(self, call: Callable[[], T]) -> T:
        import trio

        return trio.from_thread.run_sync(call, trio_token=self._token)


class _TrioTask:
    __slots__ = ("_over", "_scope")

    def __init__(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        import trio

        self._scope = trio.CancelScope()
        self._over = trio.Event()
        trio.lowlevel.spawn_system_task(self._run, run, context=copy_context())

    async def _run(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            with self._scope:
                await run()
        finally:
            self._over.set()

    def cancel(self) -> None:
        self._scope.cancel()

    async def over(self) -> None:
        await self._over.wait()


class _TrioSignal:
    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = anyio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()
        self._event = anyio.Event()


class _TrioCancelOnce:
    __slots__ = ("_scope", "cancelled")

    def __init__(self) -> None:
        self._scope = anyio.CancelScope()
        self.cancelled = False

    def __enter__(self) -> _TrioCancelOnce:
        self._scope.__enter__()
        return self

    def cancel(self) -> None:
        self.cancelled = True
        self._scope.cancel()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        return bool(self._scope.__exit__(kind, error, trace))
