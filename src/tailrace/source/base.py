"""The interfaces of a source and of what takes its items; and the iteration of one source.

Whoever iterates a source closes it. `run` puts items until there are no more. `close` is called
once after it, however `run` ended, and also if `run` was never called.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from math import inf
from typing import Any, Protocol, runtime_checkable

import anyio
import anyio.lowlevel

from tailrace.runtime import Loop
from tailrace.types import StreamOptions

__all__ = ["Iteration", "Pinnable", "Sink", "Source"]

_log = logging.getLogger("tailrace")


class Sink(Protocol):
    """Where a source puts its items: they are framed and go into a queue."""

    def put(self, item: Any) -> bool:
        """Add an item. False: the source must wait for room before the next one."""

    async def room(self) -> None:
        """Wait in a task until there is room."""

    def room_in_thread(self, seconds: float) -> bool:
        """Wait in a thread until there is room, at most so many seconds; False if there is none."""

    def in_line(self, waits: bool) -> None:
        """True: the source cannot begin, because all threads are busy. False: it has begun now.

        Called in the event loop, False only after True.
        """

    def source_waits(self) -> None:
        """The source is about to wait in its task: what was put may go out meanwhile."""

    async def changed(self) -> None:
        """Wait in a task while a thread puts items, until something has changed, or `wake`."""

    def wake(self) -> None:
        """Let a task that waits in `changed` look again; called in the loop."""

    def interrupted(self) -> None:
        """A wait of the source is cancelled, by itself or from around; called before it is told."""


class Source(Protocol):
    """Something that yields items and is iterated once."""

    threaded: bool
    """Items are put by a thread, not by the task that calls `run`."""

    @property
    def closed(self) -> bool:
        """Nothing is left that `close` would have to do."""

    async def run(self, sink: Sink, loop: Loop) -> None:
        """Put every item. It can be cancelled. The caller must call `close` after it.

        Args:
            sink: Gets the items.
            loop: The running event loop.

        Raises:
            Exception: What the source raised. If that was no `Exception` (SystemExit, for example),
                `SourceExited` is raised in its place. So any other `BaseException` does not come
                from the source: it is a cancellation, for example.
        """

    async def close(self) -> None:
        """Let the source clean up. The caller shields this and limits its time. Raises as `run`."""


@runtime_checkable
class Pinnable(Protocol):
    """A source that can run in one thread of its own (`StreamOptions.pin_thread`)."""

    def pin_thread(self) -> None:
        """Run all of the source in one thread, its cleanup too. Call this before `run`."""


class Iteration:
    """Iterates one source and closes it, in one task.

    It can be interrupted once. From the interrupt on, `run` has `cleanup_timeout` seconds to end;
    `close` has as many. After that time the cleanup is cancelled, and a warning is logged at once,
    because a source that swallows the cancellation may never return.

    Args:
        source: Iterated and closed here.
        loop: The running event loop.
        options: Only `pin_thread` and `cleanup_timeout` are used.
        name: The source's name in log lines; its `str()` is taken when a line is written.
        shielded: A cancelled scope around `run` cancels the source once, and not its cleanup.
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
        """Cancels the timer that logs a late cleanup; None: no timer was started yet."""
        self._is_late = False
        self._is_over = False

    async def run(self, sink: Sink) -> BaseException | None:
        """Put every item.

        Returns:
            What the source raised, or a cancellation that came from outside; None if the source
            ended or was interrupted.
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
        """Cancel the source: at once if it waits, otherwise at its next wait."""
        if not self._is_over:
            self._begin_cleanup()
            self._once.cancel()

    def interrupted(self) -> bool:
        """A wait of the source is cancelled. What a scope around `run` does so is done once.

        Returns:
            It is a scope around `run`. A cancellation that is the source's own, such as the end of
            a time limit inside it, is none of ours.
        """
        if not self._shielded or self._scope.shield or not _is_in_cancelled_scope():
            return False
        self._scope.shield = True
        if _is_in_cancelled_scope():  # still: it is one inside
            self._scope.shield = False
            return False
        self._begin_cleanup()
        return True

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
        # It is late even if no cancellation came out of it: the source may have swallowed that.
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
        """Start the timer of the cleanup. Returns the time by which the source must be closed."""
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


def _is_in_cancelled_scope() -> bool:
    return anyio.current_effective_deadline() == -inf


async def _meet_timeout(error: BaseException, scope: anyio.CancelScope) -> None:
    """Raise the scope's own cancellation, if the time for the cleanup is over.

    The scope stops only its own. The cancellation that was caught may be an earlier one, while the
    source has swallowed the scope's.
    """
    if isinstance(error, anyio.get_cancelled_exc_class()) and scope.cancel_called:
        await anyio.lowlevel.checkpoint_if_cancelled()
