"""What a source raises ends that source, whatever its class, and nothing beside it.

A source is the application's code and that of its libraries, and one of them calls `sys.exit()`.
asyncio lets SystemExit and KeyboardInterrupt of any task end the whole loop, and event loops and
middlewares take GeneratorExit and cancellations for their own. So whatever a source raises that is
no `Exception` becomes one, `SourceExited`, where its code is called: nobody above need know.

Three things come out of a source and are not of it. They go on as they are:

* a cancellation that somebody asked for: of the task, or of a scope around it;
* GeneratorExit where Python closes the coroutine, because its loop is gone;
* the end of the process: what a signal's handler raises, in whatever the main thread does then.

Tasks that the source begins are contained too (`children`).
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from math import inf
from types import TracebackType

import anyio

from tailrace.errors import SourceExited
from tailrace.source.children import contain_children, inside_a_source
from tailrace.source.signals import is_of_a_signal

__all__ = ["Contained"]


class Contained(AbstractContextManager[None]):
    """A block in which a source runs: whatever the source raises leaves it as an `Exception`."""

    __slots__ = ("_task", "_was_inside")

    def __enter__(self) -> None:
        self._task = _current_task()
        self._was_inside = inside_a_source.get()
        inside_a_source.set(True)
        contain_children()

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
    """Somebody has asked for the end of this task, or of a scope that it is in."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    if task is not None and task.cancelling():
        return True
    return anyio.current_effective_deadline() == -inf
