"""Whatever a source raises, of any class, ends that source and nothing else.

A source is code of the application and of its libraries, and any of it may call `sys.exit()`.
asyncio lets SystemExit and KeyboardInterrupt of any task end the whole loop, and event loops and
middlewares treat a GeneratorExit or a cancellation as their own. So if a source raises something
that is not an `Exception`, it is turned into one, `SourceExited`, where the source's code is
called. No caller has to know of this.

Three things may be raised inside a source without coming from it. They are not changed:

* a cancellation of the task or of a scope around it;
* GeneratorExit when Python closes the coroutine because its loop is gone;
* what the handler of a signal raises to end the process: it is raised in the main thread, in
  whatever code runs there at that moment.

**Tasks that a source begins.** asyncio hands SystemExit and KeyboardInterrupt to its loop as soon
as a task raises them, before anybody waits for that task. So a `sys.exit()` in a task that a source
runs in `asyncio.TaskGroup` would end the process. A task that is begun inside a source raises
`SourceExited` instead, and whoever waits for the task gets it like any other error. A callback that
a source gives to the loop (`call_soon`) is not a task, and its errors are not changed.
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
"""A task inherits it from the code that begins it, and so do the tasks that this task begins."""


class Contained(AbstractContextManager[None]):
    """A block that calls a source's code: whatever the source raises leaves it as an `Exception`.

    Raises:
        SourceExited: The source raised something that is not an `Exception`.
        BaseExceptionGroup: It did so in a group, beside something that came from outside.
    """

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
    """Whether this task or a scope around it was cancelled."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    if task is not None and task.cancelling():
        return True
    return anyio.current_effective_deadline() == -inf


# The tasks that a source begins


def contain_tasks() -> None:
    """Replace the task factory of asyncio's loop by one that contains the tasks of sources.

    It does nothing on trio, which raises what a task raises only where its nursery is awaited.
    """
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

    anyio recognises eager factories in this way too: it must not let its own tasks begin at once.
    So an eager factory is replaced by one that anyio still recognises as eager.
    """
    if _eager is None or getattr(factory, "__code__", None) is not _eager.__code__:
        return None
    return factory.__closure__[0].cell_contents


class _EagerMaker:
    """Makes the tasks of an eager factory; as `_TaskFactory`, which is for all other factories."""

    __slots__ = ("_before",)

    def __init__(self, before: Any) -> None:
        self._before = before

    def __call__(self, coro: Any, **options: Any) -> Any:
        return self._before(_contained(coro), **options)


class _TaskFactory:
    """Makes tasks as the loop did before, but those that a source begins are contained."""

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
    """The coroutine of a task that a source begins; its SystemExit becomes `SourceExited`.

    It is not an `async def` around the coroutine: if the task were cancelled before it begins,
    Python would warn that the inner coroutine was never awaited.
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


# Errors that the handler of a signal raises

_RAISE: Final = dis.opmap["RAISE_VARARGS"]


def is_of_a_signal(error: BaseException) -> bool:
    """Whether the handler of a signal raised it.

    A handler is called in the main thread, on top of whatever runs there, so it is in the
    traceback. Python's own handler of Ctrl-C is not, because it is written in C. But its
    KeyboardInterrupt may appear at any instruction, and one that code raises appears at the
    instruction that raises (`RAISE_VARARGS`).
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
