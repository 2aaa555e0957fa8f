"""Whether a block of code left anything behind: threads, descriptors, tasks, generators.

What counts as left behind:

- a thread that was started in the block, or a worker of a pool that got work in the block and still
  does it; idle workers of Tailrace, anyio, trio and `concurrent.futures` do not count;
- an open descriptor (found in `/proc/self/fd`; not checked on systems without it);
- a task of the running event loop;
- a generator, sync or async, that was made in the block and is neither exhausted nor closed. One
  that was never started counts too, and so does one that only the garbage collector would close.

The garbage collector is off during the block, so that the result does not depend on when it runs.
"""

from __future__ import annotations

import gc
import inspect
import os
import sys
import threading
import time
from dataclasses import dataclass
from types import AsyncGeneratorType, FrameType, GeneratorType, TracebackType
from typing import Any, Self, TypeAlias
from weakref import WeakSet

import anyio

from tailrace.testing.clock import settle
from tailrace.testing.errors import Leaked

__all__ = ["no_leaks"]

_GRACE = 1.0
"""Real seconds within which all must have ended; on a loaded machine threads need some of it."""

_NAP = 0.002
"""Real seconds between two looks."""

_IDLE_WORKERS = {
    ("tailrace.runtime.threads", "_work"),
    ("trio._core._thread_cache", "_work"),
    ("concurrent.futures.thread", "_worker"),
}
"""Module and function of the innermost Python frame of an idle worker of a pool."""

Suspendable: TypeAlias = "GeneratorType[Any, Any, Any] | AsyncGeneratorType[Any, Any]"


class no_leaks:  # noqa: N801 - read as a statement: `with no_leaks():`
    """A block after which nothing may be left behind; see the top of this file for what counts.

    `async with` first waits until the event loop is at rest (`settle`), and also checks its tasks.
    `with` is for code without an event loop. If the block fails, nothing is checked.

    Raises:
        Leaked: Something is left a second after the block; one line for each thing.
    """

    def __enter__(self) -> Self:
        self._tasks: dict[int, anyio.TaskInfo] | None = None
        self._begin()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            end = time.monotonic() + _GRACE
            while exc is None and (leaks := self._leaks()):
                if time.monotonic() > end:
                    raise Leaked(leaks)
                time.sleep(_NAP)
        finally:
            self._finish()

    async def __aenter__(self) -> Self:
        # The objects are kept with their ids: else a later task could get the same id.
        self._tasks = {id(task.coro): task for task in anyio.get_running_tasks()}
        self._begin()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            end = time.monotonic() + _GRACE
            while exc is None:
                await settle()
                leaks = self._leaks()
                if not leaks:
                    return
                if time.monotonic() > end:
                    raise Leaked(leaks)
                time.sleep(_NAP)  # noqa: ASYNC251 - the loop is at rest; its clock may stand still
        finally:
            self._finish()

    def _begin(self) -> None:
        self._collects = gc.isenabled()
        gc.disable()
        self._threads = set(_busy_threads())
        self._descriptors = _descriptors()
        self._generators: WeakSet[Suspendable] = WeakSet(_suspended())

    def _finish(self) -> None:
        self._tasks = None
        if self._collects:
            gc.enable()

    def _leaks(self) -> list[str]:
        leaks = [_describe_thread(thread) for thread in self._new_threads()]
        for number, target in _descriptors().items():
            if self._descriptors.get(number) != target:
                leaks.append(f"descriptor {number}: {target}")
        leaks += [f"task {task.name!r}" for task in self._new_tasks()]
        for generator in _suspended():
            if generator not in self._generators:
                leaks.append(_describe_generator(generator))
        return leaks

    def _new_threads(self) -> list[threading.Thread]:
        return [thread for thread in _busy_threads() if thread not in self._threads]

    def _new_tasks(self) -> list[anyio.TaskInfo]:
        if self._tasks is None:
            return []
        return [task for task in anyio.get_running_tasks() if id(task.coro) not in self._tasks]


@dataclass(frozen=True, slots=True)
class _Position:
    module: str
    function: str
    line: int


def _position(frame: FrameType) -> _Position:
    return _Position(frame.f_globals.get("__name__", "?"), frame.f_code.co_name, frame.f_lineno)


def _busy_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if not _is_idle_worker(thread)]


def _is_idle_worker(thread: threading.Thread) -> bool:
    # On asyncio each of anyio's workers has the list of the idle ones.
    idle = getattr(thread, "idle_workers", None)
    if idle is not None and type(thread).__module__.startswith("anyio."):
        return thread in idle
    frame = sys._current_frames().get(thread.ident or 0)
    if frame is None:
        return False
    position = _position(frame)
    return (position.module, position.function) in _IDLE_WORKERS


def _describe_thread(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    where = "" if frame is None else f" in {_where(frame)}"
    return f"thread {thread.name!r}{where}"


def _describe_generator(generator: Suspendable) -> str:
    if isinstance(generator, AsyncGeneratorType):
        kind, frame = "async generator", generator.ag_frame
    else:
        kind, frame = "generator", generator.gi_frame
    where = "" if frame is None else f" in {_where(frame)}"
    return f"{kind} {generator.__qualname__!r} not closed{where}"


def _where(frame: FrameType) -> str:
    position = _position(frame)
    return f"{position.module}.{position.function}, line {position.line}"


def _suspended() -> list[Suspendable]:
    """Every generator that is neither exhausted nor closed."""
    # `type`, because `isinstance` may run code: that of a proxy, for example.
    return [
        thing
        for thing in gc.get_objects()
        if (type(thing) is GeneratorType and _is_source(thing.gi_frame))
        or (type(thing) is AsyncGeneratorType and _is_source(thing.ag_frame))
    ]


def _is_source(frame: FrameType | None) -> bool:
    """Whether a generator with this frame counts: it is open, and not part of an event loop.

    Two kinds are part of one: an `await` that is written as a generator, in a task that waits; and
    what an idle worker of anyio keeps open. If that task or thread is left behind, it is reported.
    """
    if frame is None:
        return False
    code = frame.f_code
    is_await = code.co_flags & inspect.CO_ITERABLE_COROUTINE or code.co_name == "__await__"
    return not is_await and not _position(frame).module.startswith("anyio.")


def _descriptors() -> dict[int, str]:
    """The target of each open descriptor, by its number."""
    found = {}
    try:
        numbers = os.listdir("/proc/self/fd")
    except FileNotFoundError:
        return {}
    for number in numbers:
        try:
            found[int(number)] = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            continue  # closed since: the descriptor that listed the directory
    return found
