"""A run in its own process: one task iterates the source, and another appends its items.

The first message of a batch wakes the second task, which runs when the first task next waits. While
it commits, the source goes on and makes the next batch. So what is ready together is one append,
and nothing is delayed to make a batch larger. A run ends by `stop`, or because its source has
ended. Then the rest of what was yielded is appended together with the end of the stream.

Both tasks are shielded: only `stop` and `dismiss` end them, so `Runs.close` stops all its runs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Any

import anyio
import anyio.lowlevel

from tailrace import limits
from tailrace.connection import log
from tailrace.errors import (
    ProducerFenced,
    StoreUnavailable,
    StreamClosed,
    StreamError,
    StreamNotFound,
    TooLarge,
    problem_of,
)
from tailrace.runtime import current_loop
from tailrace.source import Pinnable, Source
from tailrace.store import Append, Change, Store
from tailrace.streams.batches import Batches
from tailrace.streams.claims import LOST, Claim
from tailrace.streams.item import DONE, End, end_in, message_of, wire_of_end
from tailrace.streams.progress import EndState, Progress, Step, Thinned
from tailrace.streams.subscribers import LocalSubscribers, OnDisconnect
from tailrace.types import StreamOptions

__all__ = ["SHUTTING_DOWN", "STOPPED", "LocalRun"]

LEFT = End("cancelled", "cancelled", "its last client has left")
STOPPED = End("cancelled", "cancelled", "it was stopped")
SHUTTING_DOWN = End("cancelled", "cancelled", "the worker that ran it was stopped")
DELETED = End("cancelled", "cancelled", "its stream was deleted")
CLOSED = End("cancelled", "cancelled", "its stream was closed by somebody else")
CANCELLED = End("cancelled", "cancelled", "its task was cancelled")

_PROGRESS_ENDS: dict[str, EndState] = {"done": "done", "failed": "failed"}


class LocalRun:
    """A run that this process owns.

    Args:
        store: Where its stream is.
        claim: This worker's claim of the run.
        source: It is closed at the end, in the task that has iterated it.
        policy: What becomes of the run without clients.
        group: Of the runs of this process; it gives the run its event loop.
        options: `cleanup_timeout`, `expose_errors` and `pin_thread` are obeyed.
        appended: Called with the path after each append.
    """

    def __init__(
        self,
        store: Store,
        claim: Claim,
        source: Source,
        policy: OnDisconnect,
        group: anyio.abc.TaskGroup,
        options: StreamOptions,
        appended: Callable[[str], None],
    ) -> None:
        loop = current_loop(group)
        if options.pin_thread and isinstance(source, Pinnable):
            source.pin_thread()
        self._store = store
        self.claim = claim
        self.source = source
        self._options = options
        self._appended = appended
        self._loop = loop
        self._batches = Batches(loop, limits.RUN_BATCH_BYTES, threaded=source.threaded)
        self._progress = _Shown(self._batches.nudge)
        self._cancel_once = loop.cancel_once()
        self._iterating = anyio.CancelScope()
        self._stopped: End | None = None
        self._dismissed = False
        """The stream is not ours any more: nothing can be appended, not even the end."""
        self._finishing = False
        self._is_late = False
        self._ended = False
        """The stream has its end."""
        self._give_up: Callable[[], None] | None = None
        """Stops the timer that ends the stream even if the source is not closed."""
        self._seq = 0
        self._shield = anyio.CancelScope(shield=True)
        self.end: End | None = None
        """How the run ended; None while it goes on."""
        self.done = anyio.Event()
        self.subscribers = LocalSubscribers(policy, loop, lambda: self.stop(LEFT))

    @property
    def dismissed(self) -> bool:
        """The stream is another worker's now, or gone."""
        return self._dismissed

    @property
    def ending(self) -> bool:
        """The run was stopped, or its source has ended."""
        return self._finishing or self._stopped is not None

    def stop(self, end: End = STOPPED) -> None:
        """End the run: the source is interrupted and closed. The first reason counts."""
        if self._stopped is None and not self._finishing:
            self._stopped = end
            self._interrupt()

    def dismiss(self, end: End) -> None:
        """The stream is another worker's now, or gone: stop, and append nothing more."""
        if not (self._dismissed or self._ended):
            self._dismissed = True
            self._stopped = end
            self._interrupt()
            self._batches.wake()

    def abandon(self) -> None:
        """End the tasks at once, even if the source is not closed. If the stream has no end yet,
        another worker will find the run lost."""
        self._shield.cancel()

    def hear(self, change: Change) -> None:
        """The store has told of a change of the stream."""
        if change.deleted:
            self.dismiss(DELETED)
        elif change.closed and not self._finishing:
            said = b"".join(chunk.data for chunk in change.chunks or ())
            self.dismiss(end_in(said) or CLOSED)

    async def run(self, release: Callable[[], Awaitable[None]]) -> None:
        """Run the source to its end.

        Args:
            release: Awaited when the stream has its end, before anybody here is told of the end.
        """
        try:
            with self._shield:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._append_all)
                    await self._iterate()
                    await self._close_source()
                    self._finish()
                if self._ended or self._dismissed:
                    await release()
        except Exception:  # noqa: BLE001 - a fault of ours: it must not end the other runs here
            log.exception("run %a broke", self.claim.path)
        finally:
            self.subscribers.close()
            if self._give_up is not None:
                self._give_up()
            self.end = self._stopped or (DONE if self._ended else LOST)
            self.done.set()

    # The source

    async def _iterate(self) -> None:
        if self._stopped is not None:
            return
        with self._iterating:
            try:
                with self._cancel_once:
                    await self.source.run(_Sink(self._batches, self._progress), self._loop)
            except anyio.get_cancelled_exc_class():
                if self._iterating.cancel_called:
                    # The time for cleaning up is over. Raise the scope's own cancellation: the
                    # source may have swallowed that one, and this may be an earlier one.
                    await anyio.lowlevel.checkpoint_if_cancelled()
                self._stopped = self._stopped or CANCELLED
            except Exception as error:  # noqa: BLE001 - it is how the run ended
                self._fail(error)

    async def _close_source(self) -> None:
        with anyio.move_on_after(self._options.cleanup_timeout, shield=True) as closing:
            try:
                await self.source.close()
            except Exception as error:  # noqa: BLE001 - it is how the run ended, or it is logged
                self._fail(error)
        # Was it called, not: was it caught. A source may have swallowed the cancellation.
        if closing.cancel_called or self._iterating.cancel_called:
            self._tell_late()

    def _tell_late(self) -> None:
        if self._is_late:
            return
        self._is_late = True
        log.warning(
            "run %a: the source was not closed within cleanup_timeout=%s s",
            self.claim.path,
            self._options.cleanup_timeout,
        )

    def _give_source_up(self) -> None:
        self._tell_late()
        self._finish()

    def _interrupt(self) -> None:
        now, patience = self._loop.time(), self._options.cleanup_timeout
        self._iterating.deadline = now + patience
        self._cancel_once.cancel()
        if self._give_up is None:
            # A source that does not end must not keep readers from the end of the stream.
            self._give_up = self._loop.call_at(now + 2 * patience, self._give_source_up)

    def _fail(self, error: Exception) -> None:
        log.error("run %a failed", self.claim.path, exc_info=error)
        if self._stopped is None:
            problem = problem_of(error, expose=self._options.expose_errors)
            self._stopped = End("failed", problem.code, problem.message)

    def _finish(self) -> None:
        self._finishing = True
        self._batches.wake()

    # The stream

    async def _append_all(self) -> None:
        batches, progress = self._batches, self._progress
        while not self._dismissed:
            data = progress.due(self._loop.time()) + batches.take()
            if self._finishing and not batches.size:
                end = self._stopped or DONE
                data += progress.ends(_PROGRESS_ENDS.get(end.status, "cancelled"))
                await self._append(Append(data=data + wire_of_end(end), close=True))
                return
            if data:
                await self._append(Append(data=data))
            elif progress.kept_back:
                with anyio.move_on_after(limits.PROGRESS_INTERVAL):
                    await batches.ready()
            else:
                await batches.ready()

    async def _append(self, append: Append) -> None:
        """Append, and try again until it works: messages must neither be lost nor change places."""
        append = replace(append, producer=self.claim.producer(self._seq))
        wait, longest = limits.STORE_RETRY
        give_up = self._loop.time() + limits.STORE_PATIENCE
        while not self._dismissed:
            try:
                await self._store.append(self.claim.path, append)
            except StoreUnavailable as error:
                if self._stopped is None and self._loop.time() >= give_up:
                    self._fail(error)
                    self._interrupt()
                await anyio.sleep(wait)
                wait = min(2 * wait, longest)
            except StreamError as error:
                self._refused(error)
            else:
                self._seq += 1
                self._appended(self.claim.path)
                if append.close:
                    self._ended = True
                    self.end = self._stopped or DONE
                return

    def _refused(self, error: StreamError) -> None:
        if isinstance(error, ProducerFenced):
            log.warning("run %a was taken over: this worker had seemed dead", self.claim.path)
            self.dismiss(LOST)
        elif isinstance(error, StreamClosed):
            self.dismiss(CLOSED)
        elif isinstance(error, StreamNotFound):
            self.dismiss(DELETED)
        else:
            self._fail(error)
            self.dismiss(self._stopped or LOST)


class _Sink:
    """What a source puts its items into: makes messages of them, and adds them to the batches."""

    def __init__(self, batches: Batches, progress: _Shown) -> None:
        # Called for each item: a closure saves looking up attributes.
        add = batches.put

        def put(item: Any) -> bool:
            if isinstance(item, (Step, Thinned)) and not progress.shows(item):
                return True
            message = message_of(item)
            if len(message) > limits.MAX_APPEND_BYTES:
                raise TooLarge(limits.MAX_APPEND_BYTES)
            return add(message) if message else True

        self.put = put
        self.in_line: Callable[[bool], None] = lambda _waits: None  # waiting for a thread
        self.room = batches.room
        self.room_in_thread = batches.room_in_thread


class _Shown:
    """The progress that a run shows: a thinned step is kept back and shown a moment later."""

    def __init__(self, nudge: Callable[[], None]) -> None:
        self._nudge = nudge
        self._seen: dict[Progress, None] = {}
        self._since: float | None = None
        self.kept_back = False

    def shows(self, item: Step | Thinned) -> bool:
        """Whether to append a step now. Called where the source runs: in a thread or a task."""
        self._seen[item.progress] = None
        if item:
            return True
        if not self.kept_back:
            self.kept_back = True
            self._nudge()
        return False

    def due(self, now: float) -> bytes:
        """The steps that were kept back for long enough, as messages."""
        if not self.kept_back:
            self._since = None
            return b""
        if self._since is None:
            self._since = now
        if now < self._since + limits.PROGRESS_INTERVAL:
            return b""
        self._since = None
        self.kept_back = False  # before the steps are read: one that comes meanwhile sets it again
        return _messages(progress.latest() for progress in tuple(self._seen))

    def ends(self, state: EndState) -> bytes:
        """The last step of each progress, which says how it ended, as messages."""
        return _messages(progress.finish(state) for progress in tuple(self._seen))


def _messages(steps: Iterable[Step | Thinned]) -> bytes:
    return b"".join(message_of(step) for step in steps if step)
