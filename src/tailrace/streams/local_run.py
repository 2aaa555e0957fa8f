"""A run in its own process: one task iterates the source, and another appends its items.

The first message of a batch wakes the second task, which runs when the first task next waits. While
the second task commits a batch, the source goes on and makes the next one. So messages that are
ready together are one append, and no message is delayed to make a batch larger. A run ends by
`stop`, or because its source has ended. Then the rest of what was yielded is appended together with
the end of the stream.

Both tasks are shielded from cancellation: only `stop`, `dismiss` and `abandon` end them. So
`Runs.close` stops all its runs.
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
from tailrace.runtime import Loop, current_loop
from tailrace.source import ByteQueue, Iteration, Source
from tailrace.store import Append, Change, Store
from tailrace.streams.claims import Claim
from tailrace.streams.item import (
    CANCELLED,
    CLOSED,
    DELETED,
    DONE,
    LEFT,
    LOST,
    STOPPED,
    RunEnd,
    end_in,
    message_of,
    wire_of_end,
)
from tailrace.streams.progress import EndState, Progress, Step, Thinned
from tailrace.streams.subscribers import LocalSubscribers, OnDisconnect
from tailrace.types import StreamOptions

__all__ = ["LocalRun"]

_PROGRESS_ENDS: dict[str, EndState] = {"done": "done", "failed": "failed"}


class LocalRun:
    """A run that this process owns.

    Args:
        store: Where its stream is.
        claim: This worker's claim of the run.
        source: It is closed at the end, in the task that has iterated it.
        policy: What happens to the run when it has no clients.
        group: The task group of this process's runs; its event loop is the run's.
        options: `cleanup_timeout`, `expose_errors` and `pin_thread` apply.
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
        self._store = store
        self.claim = claim
        self.source = source
        self._options = options
        self._appended = appended
        self._loop = loop
        self._batches = Batches(loop, limits.RUN_BATCH_BYTES, threaded=source.threaded)
        self._progress = _Shown(self._batches.nudge)
        self._iteration = Iteration(source, loop, options, f"run {claim.path!a}", shielded=False)
        self._stopped: RunEnd | None = None
        self.dismissed = False
        """The stream is not ours any more: nothing more can be appended, not even the end. If it is
        `LOST`, whoever took the run over appends the end and releases the claim."""
        self._finishing = False
        self._ended = False
        """The end was appended, and the stream is closed."""
        self._give_up: Callable[[], None] | None = None
        """Stops the timer that ends the stream even if the source does not end."""
        self._seq = 0
        self._shield = anyio.CancelScope(shield=True)
        self.end: RunEnd | None = None
        """How the run ended; None while it goes on."""
        self.done = anyio.Event()
        self.subscribers = LocalSubscribers(policy, loop, lambda: self.stop(LEFT))

    @property
    def ending(self) -> bool:
        """Whether the run was stopped, or its source has ended."""
        return self._finishing or self._stopped is not None

    def stop(self, end: RunEnd = STOPPED) -> None:
        """End the run: the source is interrupted and closed. Only the first `end` counts."""
        if self._stopped is None and not self._finishing:
            self._stopped = end
            self._interrupt()

    def dismiss(self, end: RunEnd) -> None:
        """Stop, and append nothing more: the stream is closed, gone, or another worker's."""
        if not (self.dismissed or self._ended):
            self.dismissed = True
            self._stopped = end
            self._interrupt()
            self._batches.wake_consumer()

    def abandon(self) -> None:
        """End the tasks at once, even if the source is not closed. If the stream has no end yet,
        another worker will find the run lost."""
        self._shield.cancel()

    def on_change(self, change: Change) -> None:
        """Stop if the stream was deleted, or closed by another; the store calls this."""
        if change.deleted:
            self.dismiss(DELETED)
        elif change.closed and not self._finishing:
            said = b"".join(chunk.data for chunk in change.chunks or ())
            self.dismiss(end_in(said) or CLOSED)

    async def run(self, release: Callable[[], Awaitable[None]]) -> None:
        """Run the source to its end.

        Args:
            release: Awaited when readers see the end of the stream, before `done` is set.
        """
        try:
            with self._shield:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._append_all)
                    if self._stopped is None:
                        sink = _Sink(self._batches, self._progress, self._loop)
                        self._ended_by(await self._iteration.run(sink))
                    self._ended_by(await self._iteration.close())
                    self._finish()
                # Until a lost run has its end, its claim stays: by it, the next worker finds it.
                if self._ended or (self.dismissed and self._stopped is not LOST):
                    await release()
        except Exception:  # noqa: BLE001 - a fault of ours: it must not end the other runs here
            log.exception("run %a was ended by a fault in Tailrace", self.claim.path)
        finally:
            self.subscribers.close()
            if self._give_up is not None:
                self._give_up()
            self.end = self._stopped or (DONE if self._ended else LOST)
            self.done.set()

    # The source

    def _ended_by(self, error: BaseException | None) -> None:
        if isinstance(error, Exception):
            self._fail(error)
        elif error is not None:
            self._stopped = self._stopped or CANCELLED

    def _interrupt(self) -> None:
        self._iteration.interrupt()
        if self._give_up is None:
            # Readers must get the end of the stream even if the source does not end.
            until = self._loop.time() + 2 * self._options.cleanup_timeout
            self._give_up = self._loop.call_at(until, self._finish)

    def _fail(self, error: Exception) -> None:
        log.error("run %a failed", self.claim.path, exc_info=error)
        if self._stopped is None:
            problem = problem_of(error, expose=self._options.expose_errors)
            self._stopped = RunEnd("failed", problem.code, problem.message)

    def _finish(self) -> None:
        self._finishing = True
        self._batches.wake_consumer()

    # The stream

    async def _append_all(self) -> None:
        try:
            await self._append_items()
        except StreamError as error:
            # No item may follow one that was refused, but the end may.
            self._fail(error)
            self._interrupt()
            await self._append(Append(data=wire_of_end(self._stopped or LOST), close=True))

    async def _append_items(self) -> None:
        """Append what the source yields, and then the end."""
        batches, progress = self._batches, self._progress
        while not self.dismissed:
            messages = [*progress.due(self._loop.time()), batches.take()]
            if self._finishing and not batches.size:
                end = self._stopped or DONE
                messages += progress.ends(_PROGRESS_ENDS.get(end.status, "cancelled"))
                *parts, last = _joined([*messages, wire_of_end(end)])
                for data in parts:
                    await self._append(Append(data=data))
                await self._append(Append(data=last, close=True))
                return
            parts = _joined(messages)
            if parts:
                for data in parts:
                    await self._append(Append(data=data))
            elif progress.kept_back:
                with anyio.move_on_after(limits.PROGRESS_INTERVAL):
                    await batches.ready()
            else:
                await batches.ready()

    async def _append(self, append: Append) -> None:
        """Append, and try again until it works: no message may be lost or change its place.

        Raises:
            StreamError: The store refuses it, and the stream is still ours.
        """
        append = replace(append, producer=self.claim.producer(self._seq))
        wait, longest = limits.STORE_RETRY
        give_up = self._loop.time() + limits.STORE_PATIENCE
        while not self.dismissed:
            try:
                await self._store.append(self.claim.path, append)
            except StoreUnavailable as error:
                if not self.ending and self._loop.time() >= give_up:
                    self._fail(error)
                    self._interrupt()
                await anyio.sleep(wait)
                wait = min(2 * wait, longest)
            except ProducerFenced:
                log.warning(
                    "run %a was taken over by another worker: "
                    "this one did not renew its lease in time",
                    self.claim.path,
                )
                self.dismiss(LOST)
            except StreamClosed:
                self.dismiss(CLOSED)
            except StreamNotFound:
                self.dismiss(DELETED)
            else:
                self._seq += 1
                self._appended(self.claim.path)
                if append.close:
                    self._ended = True
                    self.end = self._stopped or DONE
                return


class Batches(ByteQueue):
    """The messages of a run on their way to its stream.

    Only whole messages are taken: an append is atomic, and a message must not be cut in two.
    """

    __slots__ = ()

    def take(self) -> bytes:
        """The next batch: whole messages up to the limit, at least one; b"" if there is none."""
        messages = self._items
        if not messages:
            return b""
        batch = [messages.popleft()]
        size = len(batch[0])
        while messages and size + len(messages[0]) <= self._limit:
            batch.append(messages.popleft())
            size += len(batch[-1])
        self._taken_bytes += size
        if self._room_wanted and self.size <= self._half:
            self.wake_producer()
        return b"".join(batch)


class _Sink:
    """Takes the items of a source, makes messages of them, and adds them to the batches."""

    def __init__(self, batches: Batches, progress: _Shown, loop: Loop) -> None:
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
        self.room = batches.room
        self.room_in_thread = batches.room_in_thread
        self._job_over = loop.signal()
        self.changed = self._job_over.wait
        self.wake = self._job_over.set

    def in_line(self, waits: bool) -> None:
        """A run that waits for a thread just waits."""

    def source_waits(self) -> None:
        """The task that appends was woken by the first message of the batch."""

    def interrupted(self) -> None:
        """Nothing is shielded: what cancels this task is meant."""


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

    def due(self, now: float) -> list[bytes]:
        """The latest state of each progress, as messages, if steps were kept back long enough."""
        if not self.kept_back:
            self._since = None
            return []
        if self._since is None:
            self._since = now
        if now < self._since + limits.PROGRESS_INTERVAL:
            return []
        self._since = None
        self.kept_back = False  # before the steps are read: one that comes meanwhile sets it again
        return _messages(progress.latest() for progress in tuple(self._seen))

    def ends(self, state: EndState) -> list[bytes]:
        """The last step of each progress, which says how it ended, as messages."""
        return _messages(progress.finish(state) for progress in tuple(self._seen))


def _messages(steps: Iterable[Step | Thinned]) -> list[bytes]:
    return [message_of(step) for step in steps if step]


def _joined(messages: Iterable[bytes]) -> list[bytes]:
    """Messages as the data of as few appends as can have them, in order; none are empty."""
    parts: list[bytes] = []
    for message in messages:
        if parts and len(parts[-1]) + len(message) <= limits.MAX_APPEND_BYTES:
            parts[-1] += message
        elif message:
            parts.append(message)
    return parts
