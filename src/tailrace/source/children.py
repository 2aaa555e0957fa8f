"""Tasks that a source begins: SystemExit in one of them ends that task, not the server.

asyncio hands SystemExit and KeyboardInterrupt to its loop as soon as a task raises them, before
anybody waits for that task, so a `sys.exit()` in a tool that a source runs in `asyncio.TaskGroup`
would end the process. A task that is begun inside a source raises `SourceExited` in their place:
whoever waits for the task gets it as any other error. What a source has handed to the loop as a
callback (`call_soon`) is no task and is not contained.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextvars import ContextVar
from typing import Any, Final

from tailrace.errors import SourceExited
from tailrace.source.signals import is_of_a_signal

__all__ = ["contain_children", "inside_a_source"]

inside_a_source: Final = ContextVar("inside_a_source", default=False)
"""Tasks take it over from the code that begins them, and so does all that those begin."""


def contain_children() -> None:
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
    """What makes the tasks of an eager factory; None for another one.

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
    """The coroutine of a task. It is no `async def` around it, because a task that is cancelled
    before it begins would leave the coroutine inside as never awaited."""

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
