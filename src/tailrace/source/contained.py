"""What a source raises ends that source, whatever its class, and nothing beside it.

A source is the application's code and that of its libraries, and one of them calls `sys.exit()`.
asyncio lets SystemExit and KeyboardInterrupt of any task end the whole loop, and event loops and
middlewares take GeneratorExit and cancellations for their own. So whatever a source raises that is
no `Exception` becomes one, `SourceExited`, where its code is called: nobody above need know.

Three things come out of a source and are not of it. They go on as they are:

* a cancellation that somebody asked for: of the task, or of a scope around it;
* GeneratorExit where Python closes the coroutine, because its loop is gone;
* the end of the process: what a signal's handler raises, in whatever the main thread does then.

What cannot be contained: SystemExit and KeyboardInterrupt in a task that the source has begun
(`asyncio.TaskGroup`). asyncio hands these two to its loop as soon as the task raises them,
before anybody waits for the task, and the server ends, as it does under any application.
"""

from __future__ import annotations

import asyncio
import dis
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from math import inf
from types import CodeType, TracebackType
from typing import Any, Final

import anyio

from tailrace.errors import SourceExited

__all__ = ["Contained"]

_RAISE: Final = dis.opmap["RAISE_VARARGS"]


class Contained(AbstractContextManager[None]):
    """A block in which a source runs: whatever the source raises leaves it as an `Exception`."""

    __slots__ = ("_task",)

    def __enter__(self) -> None:
        self._task = _current_task()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
        return not isinstance(error, Exception) and _is_of_a_signal(error)


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
    """Somebody has asked for the end of this task, or of a scope that it is in."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    if task is not None and task.cancelling():
        return True
    return anyio.current_effective_deadline() == -inf


def _is_of_a_signal(error: BaseException) -> bool:
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
