"""What yields, what takes its items, and who closes it.

Whoever iterates closes. `run` takes items until there are no more; `close` is called once after it,
however it ended, also if it never began.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import anyio
import anyio.lowlevel

from tailrace.runtime import Loop
from tailrace.types import StreamOptions

__all__ = ["Iteration", "Pinnable", "Sink", "Source"]

_log = logging.getLogger("tailrace")


class Sink(Protocol):
    """Where a source puts its items: a queue, with what frames an item in front of it."""

    def put(self, item: Any) -> bool:
        """Take an item; False when the source should wait for room."""

    async def room(self) -> None:
        """Wait in a task until there is room."""

    def room_in_thread(self, seconds: float) -> bool:
        """Wait in a thread until there is room, but not for ever; False if there is none."""

    def in_line(self, waits: bool) -> None:
        """True: the source cannot begin, because all threads are busy. False: it has begun now."""

    def source_waits(self) -> None:
        """The source is about to wait in its task: what was put may go out meanwhile."""

    async def changed(self) -> None:
        """Wait in a task while a thread puts items, until something has changed, or `wake`."""

    def wake(self) -> None:
        """Let a task that waits in `changed` look again; called in the loop."""

    def interrupted(self) -> None:
        """The task in which the source waits is cancelled; called before the source is told."""


class Source(Protocol):
    """Anything that yields, iterated once."""

    threaded: bool
    """Items are put by a thread, not by the task that runs."""

    spans: bool
    """Items may be spans, which are sent by themselves."""

    @property
    def closed(self) -> bool:
        """Nothing is left that `close` would have to do."""

    async def run(self, sink: Sink, loop: Loop) -> None:
        """Put every item. An interrupt ends it; `close` must follow.

        Raises:
            Exception: What the source raises; where that is not an `Exception`, it is raised as
                `SourceExited`. So anything else comes from outside.
        """

    async def close(self) -> None:
        """Let the source clean up. The caller shields this and limits its time. Raises as `run`."""


@runtime_checkable
class Pinnable(Protocol):
    """A source that may run in a thread (`StreamOptions.pin_thread`)."""

    def pin_thread(self) -> None:
        """Run all of it in one thread, its cleanup too; to be called before `run`."""


class Iteration:
    """A source from its first item to its end, iterated and closed in one task.

    It can be interrupted, once. From then on, and from its own end on, its cleanup has
    `cleanup_timeout`. If it is not closed by then, it is given up, and the log tells of it at once:
    a source that swallows its cancellation may never return.

    Args:
        source: Iterated and closed here.
        loop: The event loop.
        options: Of which `pin_thread` and `cleanup_timeout` count.
        name: What log lines call it, when they are written.
        shielded: A scope that is cancelled around the iteration reaches it once, as an interrupt
            does; the source's cleanup is shielded from it.
    """

    __slots__ = (
        *("_cancel_late", "_is_late", "_is_over", "_loop", "_name", "_once", "_scope", "_shielded"),
        *("_source", "_timeout"),
    )

    def __init__(
        self, source: Source, loop: Loop, options: StreamOptions, name: object, *, shielded: bool
    ) -> None:
        if options.pin_thread and isinstance(source, Pinnable):
            source.pin_thread()
        self._source = source
        self._loop = loop
        self._timeout = options.cleanup_timeout
        self._name = name
        self._once = loop.cancel_once()
        self._shielded = shielded
        self._scope = anyio.CancelScope()
        self._cancel_late: Callable[[], None] | None = None
        """Takes back what tells of a source that is not closed in time; None: there is none yet."""
        self._is_late = False
        self._is_over = False

    async def run(self, sink: Sink) -> BaseException | None:
        """Put every item.

        Returns:
            What the source has raised, or a cancellation that nobody here has asked for.
        """
        with self._scope:
            try:
                with self._once:
                    await self._source.run(sink, self._loop)
            except BaseException as error:  # noqa: BLE001 - given to the caller
                await _meet_timeout(error, self._scope)
                return error
        return None

    def interrupt(self) -> None:
        """End it: at once if it waits, at its next wait otherwise."""
        if not self._is_over:
            self._begin_cleanup()
            self._once.cancel()

    def interrupted(self) -> None:
        """As `Sink.interrupted`: what a cancelled scope does at each wait is done once here."""
        if self._shielded and not self._scope.shield:
            self._begin_cleanup()

    async def close(self) -> BaseException | None:
        """Close the source. Returns as `run` does."""
        if self._source.closed and self._cancel_late is None:
            self._is_over = True
            return None
        raised = None
        with anyio.CancelScope(shield=True) as closing:
            closing.deadline = self._limit_cleanup()
            try:
                await self._source.close()
            except BaseException as error:  # noqa: BLE001 - given to the caller
                await _meet_timeout(error, closing)
                raised = error
        # Not whether it came back by that cancellation: the source may have swallowed it.
        if closing.cancel_called or self._scope.cancel_called:
            self._tell_late()
        self._forget_late()
        self._is_over = True
        try:
            return raised
        finally:
            del raised  # or this frame and the traceback keep each other alive

    def _begin_cleanup(self) -> None:
        self._scope.shield = self._shielded
        self._scope.deadline = self._limit_cleanup()

    def _limit_cleanup(self) -> float:
        """When the source must be closed."""
        self._forget_late()
        deadline = self._loop.time() + self._timeout
        self._cancel_late = self._loop.call_at(deadline, self._tell_late)
        return deadline

    def _forget_late(self) -> None:
        if self._cancel_late is not None:
            self._cancel_late()

    def _tell_late(self) -> None:
        if not self._is_late:
            self._is_late = True
            _log.warning(
                "%s: the source was not closed within cleanup_timeout=%s s",
                self._name,
                self._timeout,
            )


async def _meet_timeout(error: BaseException, scope: anyio.CancelScope) -> None:
    """Where the time for cleaning up is over, raise what the scope knows as its own.

    The cancellation that was caught may be an earlier one, and the scope's was swallowed by the
    source.
    """
    if isinstance(error, anyio.get_cancelled_exc_class()) and scope.cancel_called:
        await anyio.lowlevel.checkpoint_if_cancelled()
