"""Take the next item of an async iterator, and know whether that needed a wait.

A coroutine is driven by `send(None)`: it either ends (StopIteration carries its result) or hands
out something for the event loop to wait on. `async for` hides which of the two happened. Here the
first step is taken by hand, which costs less than `await` does and tells them apart: an item that
was ready needs no turn of the loop, and an item that was not is waited for by handing the loop what
the coroutine gave, in the same task.

On asyncio, `sleep(0)` hands out None. Sources do that after each item to let others run (FastAPI's
documentation advises it, and its own wrapper does it). The pump itself lets others run after some
time, so one such step for each item is taken at once, without a turn of the loop. Only one, so that
a source which polls by `while not ready: await sleep(0)` still lets the others run.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

__all__ = ["Rest", "stepper"]


class Rest:
    """The rest of an awaitable whose first step was taken by hand; await it in the same task.

    Args:
        steps: The awaitable, as `stepper` gives it.
        waiting: What its first step has handed out.
        interrupted: Called before it is told of an error from outside, such as a cancellation.
    """

    __slots__ = ("_interrupted", "_steps", "_waiting")

    def __init__(
        self, steps: Any, waiting: Any, interrupted: Callable[[], None] | None = None
    ) -> None:
        self._steps = steps
        self._waiting = waiting
        self._interrupted = interrupted

    def __await__(self) -> Generator[Any, Any, Any]:
        steps, waiting = self._steps, self._waiting
        while True:
            try:
                value = yield waiting
            except GeneratorExit:
                steps.close()
                raise
            except BaseException as error:  # noqa: BLE001 - thrown into the awaitable
                if self._interrupted is not None:
                    self._interrupted()
                take, value = steps.throw, error
            else:
                take = steps.send
            try:
                waiting = take(value)
            except StopIteration as stop:
                return stop.value
            finally:
                del value  # or this frame and the traceback of an error keep each other alive


def stepper(awaitable: Any) -> Any:
    """An object whose `send` drives an awaitable: itself, if it has `send` (coroutines do)."""
    return awaitable if hasattr(awaitable, "send") else _Steps(awaitable.__await__())


class _Steps:
    """A plain iterator from `__await__` (a future, an extension's awaitable) behind `send`."""

    __slots__ = ("_iterator",)

    def __init__(self, iterator: Any) -> None:
        self._iterator = iterator

    def send(self, value: Any) -> Any:
        # A plain iterator has no `send`; None, all that event loops send, is what `next` means.
        return next(self._iterator) if value is None else self._iterator.send(value)

    def throw(self, error: BaseException) -> Any:
        throw = getattr(self._iterator, "throw", None)
        if throw is None:
            raise error
        return throw(error)

    def close(self) -> None:
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()
