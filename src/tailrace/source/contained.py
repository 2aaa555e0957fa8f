"""What a source raises ends that source, whatever its class, and nothing beside it.

A source is the application's code and that of its libraries, and one of them calls `sys.exit()`.
asyncio lets SystemExit and KeyboardInterrupt of any task end the whole loop, and event loops and
middlewares take GeneratorExit and cancellations for their own. So whatever a source raises that is
no `Exception` becomes one, `SourceExited`, where its code is called. No caller need know of it.

Three things are raised inside a source and do not come from it. They go on as they are:

* a cancellation that was asked for: of the task, or of a scope around it;
* GeneratorExit where Python closes the coroutine, because its loop is gone;
* the end of the process: what a signal's handler raises, in whatever the main thread does then.

**Tasks that a source begins.** asyncio hands SystemExit and KeyboardInterrupt to its loop as soon
as a task raises them, before anybody waits for that task, so a `sys.exit()` in a tool that a source
runs in `asyncio.TaskGroup` would end the process. A task that is begun inside a source raises
`SourceExited` in their place: whoever waits for the task gets it as any other error. What a source
has handed to the loop as a callback (`call_soon`) is not a task and is not contained.
"""

from __future__ import annotations

import asyncio
import dis
import signal
import threading
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import AbstractContextManager
from contextvars import ContextVar
from functools import partial
from math import inf
from types import CodeType, TracebackType
from typing import Any, Final

import anyio

from tailrace.errors import SourceExited

__all__ = ["Contained", "contain_tasks", "inside_a_source"]

inside_a_source: Final = ContextVar("inside_a_source", default=False)
"""Tasks take it over from the code that begins them, and so does all that those begin."""


class Contained(AbstractContextManager[None]):
    """A block in which a source runs: whatever the source raises leaves it as an `Exception`."""

    __slots__ = ("_task", "_was_inside")

    def __enter__(self) -> None:
        self._task = _current_task()
        self._was_inside = inside_a_source.get()
        inside_a_source.set(True)
        contain_tasks()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        inside_a_source.set(self._was_inside)
        if error is None or isinstance(error, Exception):
            return
        outside: BaseException | None = None
        if isinstance(error, BaseExceptionGroup):
            outside, rest = error.split(lambda each: self._is_from_outside(each))
            if rest is None or isinstance(rest, Exception):
                return
            error = error if outside is None else rest
        elif self._is_from_outside(error):
            return
        try:
            exited = SourceExited(repr(error))
            if outside is None:
                raise exited from error
            exited.__cause__ = error
            raise BaseExceptionGroup("a source exited as it was cancelled", (outside, exited))
        finally:
            del error, exited, outside  # or this frame and the traceback keep each other alive

    def _is_from_outside(self, error: BaseException) -> bool:
        if isinstance(error, GeneratorExit):
            return _current_task() != self._task
        if isinstance(error, anyio.get_cancelled_exc_class()):
            return _is_cancelled()
        return not isinstance(error, Exception) and is_of_a_signal(error)


def _current_task() -> object:
    """The task that runs now; None outside of tasks."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        pass
    try:
        return anyio.get_current_task().id
    except RuntimeError:
        return None


def _is_cancelled() -> bool:
    """This task was cancelled, or a scope that it is in."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    if task is not None and task.cancelling():
        return True
    return anyio.current_effective_deadline() == -inf


# The tasks that a source begins


def contain_tasks() -> None:
    """Let the running loop look at each task that is begun; trio needs no such thing."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    factory = loop.get_task_factory()
    make_eager = _maker_of(factory)
    if isinstance(factory, _TaskFactory) or isinstance(make_eager, _EagerMaker):
        return
    if make_eager is None:
        loop.set_task_factory(_TaskFactory(factory))
    else:
        loop.set_task_factory(_create_eager(_EagerMaker(make_eager)))


_eager: Final[Any] = getattr(asyncio, "eager_task_factory", None)  # from Python 3.12 on
_create_eager: Final[Any] = getattr(asyncio, "create_eager_task_factory", None)


def _maker_of(factory: Any) -> Any:
    """The function with which an eager factory makes its tasks; None if the factory is not eager.

    anyio looks in the same way for what it must not let begin at once, so an eager factory is
    replaced by one that is seen to be eager.
    """
    if _eager is None or getattr(factory, "__code__", None) is not _eager.__code__:
        return None
    return factory.__closure__[0].cell_contents


class _EagerMaker:
    """Makes the tasks of an eager factory, as `_TaskFactory` those of others."""

    __slots__ = ("_before",)

    def __init__(self, before: Any) -> None:
        self._before = before

    def __call__(self, coro: Any, **options: Any) -> Any:
        return self._before(_contained(coro), **options)


class _TaskFactory:
    """Makes tasks as the loop did before, of contained coroutines where a source begins them."""

    __slots__ = ("_before",)

    def __init__(self, before: Any) -> None:
        self._before = before

    def __call__(
        self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any
    ) -> asyncio.Future[Any]:
        coro = _contained(coro)
        if self._before is None:
            return asyncio.Task(coro, loop=loop, **options)
        made: asyncio.Future[Any] = self._before(loop, coro, **options)
        return made


def _contained(coro: Any) -> Any:
    return _Child(coro) if inside_a_source.get() and asyncio.iscoroutine(coro) else coro


class _Child(Coroutine[Any, Any, Any]):
    """The coroutine of a task.

    Not an `async def` around it: if the task were cancelled before it begins, the coroutine inside
    would be one that was never awaited.
    """

    __slots__ = ("_coro",)

    def __init__(self, coro: Coroutine[Any, Any, Any]) -> None:
        self._coro = coro

    def send(self, value: Any) -> Any:
        return _step(self._coro.send, value)

    def throw(self, *error: Any) -> Any:
        return _step(self._coro.throw, *error)

    def close(self) -> None:
        self._coro.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coro.__await__()

    def __getattr__(self, name: str) -> Any:
        # `Task.get_stack()` and debuggers ask for `cr_frame` and the like.
        return getattr(self._coro, name)


def _step(step: Callable[..., Any], *value: Any) -> Any:
    try:
        return step(*value)
    except (SystemExit, KeyboardInterrupt) as error:
        if is_of_a_signal(error):
            raise
        raise SourceExited(repr(error)) from error


# What a signal's handler raises is told from what code raises

_RAISE: Final = dis.opmap["RAISE_VARARGS"]


def is_of_a_signal(error: BaseException) -> bool:
    """It was raised by the handler of a signal.

    A handler is called on top of whatever the main thread does, so the traceback goes through it.
    Python's own handler of Ctrl-C leaves no such trace; but it strikes between two instructions,
    and what code raises comes from the one that raises.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    codes = {code for handler in _handlers() if (code := _code_of(handler)) is not None}
    last = None
    for last in _entries(error):
        if last.tb_frame.f_code in codes:
            return True
    if last is None or not isinstance(error, KeyboardInterrupt):
        return False
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return False
    return last.tb_frame.f_code.co_code[last.tb_lasti] != _RAISE


def _entries(error: BaseException) -> Iterator[TracebackType]:
    entry = error.__traceback__
    while entry is not None:
        yield entry
        entry = entry.tb_next


def _handlers() -> Iterator[Callable[..., Any]]:
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        if callable(handler):
            yield handler


def _code_of(handler: Callable[..., Any]) -> CodeType | None:
    while isinstance(handler, partial):
        handler = handler.func
    function = getattr(handler, "__func__", handler)
    if not hasattr(function, "__code__"):
        function = type(handler).__call__
    return getattr(function, "__code__", None)
