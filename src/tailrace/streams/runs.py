"""The runs that this process owns or has joined, and the search for runs whose worker has died."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass

import anyio

from tailrace import limits
from tailrace.connection import log
from tailrace.errors import OffsetGone, StoreUnavailable, StreamExists, StreamNotFound
from tailrace.runtime import Signal, current_loop
from tailrace.source import Source
from tailrace.store import (
    Change,
    Created,
    Mark,
    NewStream,
    Offset,
    Store,
    StreamInfo,
    Where,
    is_json,
)
from tailrace.streams.claims import RUNS, WORKERS, Claim, Claims, Lease, new_worker
from tailrace.streams.item import (
    CLOSED,
    DELETED,
    END_BYTES,
    LOST,
    SHUTTING_DOWN,
    STOPPED,
    RunEnd,
    end_of,
)
from tailrace.streams.local_run import LocalRun
from tailrace.streams.subscribers import OnDisconnect, RemoteSubscribers, patience_of
from tailrace.types import StreamOptions

__all__ = ["RunRequest", "Runs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What a caller of `Streams.run` asks for.

    Args:
        path: The path of the run's stream.
        policy: What happens to the run when it has no clients.
        restart: If the run has ended, it begins anew.
        new: How the stream is created.
    """

    path: str
    policy: OnDisconnect
    restart: bool
    new: NewStream


class Runs:
    """The runs of one process.

    Args:
        store: An open store.
        group: Runs their tasks.
        lease: Seconds after which a worker that gives no sign of life counts as dead.
        options: The options of the streams.
        appended: Called with the path after each append of a run.
    """

    def __init__(
        self,
        store: Store,
        group: anyio.abc.TaskGroup,
        lease: int,
        options: StreamOptions,
        appended: Callable[[str], None],
    ) -> None:
        self._store = store
        self._group = group
        self._seconds = lease
        self._options = options
        self._appended = appended
        worker = new_worker()
        self.claims = Claims(store, worker)
        self._lease = Lease(store, worker, lease)
        self._here: dict[str, LocalRun] = {}
        self._elsewhere: dict[str, RemoteRun] = {}
        self._starting: dict[str, anyio.Lock] = {}
        self._unread: set[LocalRun] = set()
        """Runs here whose claim may have changed and was not read since."""
        self._swept = ""
        """The path of the last claim that a sweep has looked at; empty: begin with the first."""
        self._living: frozenset[str] | None = None
        """The workers that were alive at the last sweep; None before the first sweep."""
        self._closing = False

    # Starting and joining

    async def start(
        self, request: RunRequest, source: Source
    ) -> LocalRun | RemoteRun | FinishedRun:
        """Start a run, or join it if it goes on, or find that it has ended.

        If `source` is not started, it is not closed here either.

        Raises:
            StreamExists: The path is that of a stream that no run has written (409).
        """
        async with self._one_at_a_time(request.path):
            while True:
                found = await self._join(request)
                if found is not None:
                    return found
                counts = patience_of(request.policy) < math.inf
                claim = await self.claims.make(request.path, counts_clients=counts)
                if claim is not None and await self._begin(claim, request):
                    return self._launch(claim, source, request)

    async def stop(self, path: str) -> bool:
        """Stop a run, in whichever process it goes on; False if it does not go on."""
        running = self._here.get(path)
        if running is None:
            return await self.claims.ask_to_stop(path)
        running.stop(STOPPED)
        return True

    async def _join(self, request: RunRequest) -> LocalRun | RemoteRun | FinishedRun | None:
        """The run, if it goes on, or has ended and stays so; None if it is to be claimed."""
        path = request.path
        # Before the run is claimed, and before its owner is told of clients here: see `sweep`.
        await self._lease.hold()
        while True:
            running = self._here.get(path)
            if running is not None:
                if not (running.dismissed or (request.restart and running.ending)):
                    return running
                await running.done.wait()
            with _changes(self._store, path, RUNS + path) as changed:
                info = await self._head(path)
                if info is not None and info.closed and not request.restart:
                    end = await self._run_end(info)
                    if end is not None:
                        return FinishedRun(end)
                claim = await self.claims.find(path)
                if claim is None:
                    return None
                if not await self._lives(claim, starting=True):
                    await self.claims.end_as_lost(claim)
                elif info is not None and not info.closed:
                    return self._follow(claim)
                else:
                    # The run is about to begin, or its claim is about to be released.
                    with anyio.move_on_after(self._seconds):
                        await changed.wait()

    def _follow(self, claim: Claim) -> RemoteRun:
        known = self._elsewhere.get(claim.path)
        if known is not None and known.claim.generation == claim.generation:
            return known
        remote = RemoteRun(self._store, self.claims, claim, self._group)
        self._elsewhere[claim.path] = remote
        self._group.start_soon(self._follow_to_the_end, remote)
        return remote

    async def _follow_to_the_end(self, remote: RemoteRun) -> None:
        await remote.follow()
        if self._elsewhere.get(remote.claim.path) is remote:
            del self._elsewhere[remote.claim.path]

    async def _begin(self, claim: Claim, request: RunRequest) -> bool:
        """Create the stream of a run that was claimed; False if the run has ended meanwhile."""
        begun = False
        try:
            info = await self._head(claim.path)
            if info is not None:
                if not info.closed:
                    raise StreamExists(
                        claim.path, "is open, but no run writes it: use another path"
                    )
                if await self._run_end(info) is not None and not request.restart:
                    return False
                with suppress(StreamNotFound):  # it was deleted meanwhile
                    await self._store.delete(claim.path)
            made = await self._create(claim.path, request.new)
            if not made.is_new:
                raise StreamExists(claim.path, "is open, but no run writes it: use another path")
            begun = True
        finally:
            if not begun:
                with anyio.move_on_after(self._options.cleanup_timeout, shield=True):
                    await self.claims.release(claim)
        return begun

    async def _create(self, path: str, new: NewStream) -> Created:
        """Create the stream of a run. A call that is cancelled leaves no stream without a run."""
        try:
            return await self._store.create(path, new)
        except anyio.get_cancelled_exc_class():
            with anyio.move_on_after(self._options.cleanup_timeout, shield=True):
                # It may have been created all the same: only a second call can tell.
                made = await self._store.create(path, new)
                if not made.info.tail.position:
                    await self._store.delete(path)
            raise

    def _launch(self, claim: Claim, source: Source, request: RunRequest) -> LocalRun:
        running = LocalRun(
            self._store,
            claim,
            source,
            request.policy,
            self._group,
            self._options,
            self._appended,
        )
        self._here[claim.path] = running
        look = _Look(lambda: self._look_at_claim(running), self._group)
        # Not in the task: the stream may be deleted before the task begins.
        stops = (
            self._store.watch(claim.path, running.on_change),
            self._store.watch(RUNS + claim.path, look.on_change),
        )
        self._group.start_soon(self._run, running, stops)
        return running

    async def _run(self, running: LocalRun, stops: tuple[Callable[[], None], ...]) -> None:
        path = running.claim.path
        if self._closing:
            running.stop(SHUTTING_DOWN)
        try:
            await running.run(lambda: self.claims.release(running.claim))
        finally:
            for stop in stops:
                stop()
            del self._here[path]

    async def _look_at_claim(self, running: LocalRun) -> None:
        """Read what other workers have appended to the claim of a run here."""
        self._unread.add(running)
        claim = await self.claims.find(running.claim.path)
        self._unread.discard(running)
        if claim is not None and claim.generation == running.claim.generation:
            self._obey(running, claim, claim.clients)

    def _obey(self, running: LocalRun, claim: Claim, clients: frozenset[str]) -> None:
        if claim.turn > running.claim.turn:
            running.dismiss(LOST)
        if claim.stopped:
            running.stop(STOPPED)
        running.subscribers.set_elsewhere(clients - {self.claims.worker})

    # Keeping watch

    async def keep(self) -> None:
        """Renew the lease, and end the runs of workers that did not renew theirs. Never returns."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._lease.keep)
            failing = False
            while True:
                try:
                    await self.sweep()
                except StoreUnavailable as error:
                    if not failing:
                        log.error(
                            "runs whose worker has died cannot be found, trying again: %s",
                            error,
                        )
                    failing = True
                except Exception:  # noqa: BLE001 - a fault of ours must not end the runs here
                    log.exception("the search for runs whose worker has died failed, trying again")
                else:
                    failing = False
                await anyio.sleep(self._seconds)

    async def sweep(self) -> None:
        """End the runs whose worker has died.

        If a worker has died since the last sweep, this one looks at all runs. Otherwise it looks
        only at the next few, to find runs of a worker that no sweep here has seen alive. So the
        usual cost of a sweep does not grow with the number of runs.
        """
        for running in tuple(self._unread):
            await self._look_at_claim(running)
        before = await self._workers()
        known = self._living
        some = await (self._next() if known is not None and known <= before else self._all(RUNS))
        found = [await self.claims.find(info.path.removeprefix(RUNS)) for info in some]
        # Read after the claims: a worker has its lease before it makes a claim or tells of clients.
        living = await self._workers()
        for claim in found:
            if claim is not None:
                await self._judge(claim, living)
        self._living = before | living

    async def _judge(self, claim: Claim, living: frozenset[str]) -> None:
        doubtful = claim.worker not in living or claim.worker == self.claims.worker
        if doubtful and not await self._lives(claim):
            await self.claims.end_as_lost(claim)
        running = self._here.get(claim.path)
        if running is not None and running.claim.generation == claim.generation:
            self._obey(running, claim, claim.clients & living)

    async def close(self) -> None:
        """End every run here, and delete the lease."""
        self._closing = True
        with anyio.CancelScope(shield=True):
            running = tuple(self._here.values())
            for each in running:
                each.stop(SHUTTING_DOWN)
            # A source may take `cleanup_timeout` twice: to end its work, and to be closed.
            with anyio.move_on_after(3 * self._options.cleanup_timeout):
                for each in running:
                    await each.done.wait()
            for each in running:
                each.abandon()
            for remote in self._elsewhere.values():
                remote.subscribers.close()
            # A store that does not answer must not delay the shutdown: the lease expires by itself.
            with anyio.move_on_after(self._options.cleanup_timeout):
                await self._lease.end()

    async def _lives(self, claim: Claim, *, starting: bool = False) -> bool:
        """Whether the run of a claim goes on, or is being started.

        Args:
            claim: The run's claim.
            starting: The caller is starting the run here, so a start under way does not count.
        """
        if claim.worker != self.claims.worker:
            return await self.claims.is_alive(claim.worker)
        return claim.path in self._here or (claim.path in self._starting and not starting)

    async def _workers(self) -> frozenset[str]:
        """The workers whose lease has not expired."""
        return frozenset(info.path.removeprefix(WORKERS) for info in await self._all(WORKERS))

    async def _next(self) -> list[StreamInfo]:
        """The streams of the next few claims; after the last claim, the first ones again."""
        page = await self._store.list(RUNS, self._swept, limits.SWEEP_RUNS)
        self._swept = page[-1].path if len(page) == limits.SWEEP_RUNS else ""
        return page

    async def _all(self, prefix: str) -> list[StreamInfo]:
        found = page = await self._store.list(prefix)
        while len(page) == limits.LIST_STREAMS:
            page = await self._store.list(prefix, page[-1].path)
            found = found + page
        return found

    async def _head(self, path: str) -> StreamInfo | None:
        try:
            return await self._store.head(path)
        except StreamNotFound:
            return None

    async def _run_end(self, info: StreamInfo) -> RunEnd | None:
        """How a run ended; None if nothing of its stream is retained: then it may begin anew.

        Raises:
            StreamExists: The stream is closed, but no run has written it (409).
        """
        try:
            end = await _read_end(self._store, info)
            if end is not None:
                return end
            left = await self._store.read(info.path, Mark.BEGINNING)
        except StreamNotFound:  # it was deleted meanwhile
            return None
        if left.chunks or not left.end.position:
            raise StreamExists(info.path, "no run has written it")
        return None

    @asynccontextmanager
    async def _one_at_a_time(self, path: str) -> AsyncIterator[None]:
        lock = self._starting.setdefault(path, anyio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not (lock.locked() or lock.statistics().tasks_waiting):
                self._starting.pop(path, None)


class RemoteRun:
    """A run of another process: this process sees only its stream and its claim.

    Args:
        store: Where its stream is.
        claims: The claims, as this worker uses them.
        claim: The run's claim.
        group: Runs the task that tells the owner of clients here.
    """

    def __init__(
        self, store: Store, claims: Claims, claim: Claim, group: anyio.abc.TaskGroup
    ) -> None:
        self._store = store
        self.claim = claim
        self.end: RunEnd | None = None
        self.done = anyio.Event()
        self.subscribers = RemoteSubscribers(claims, claim, group)

    async def follow(self) -> None:
        """Wait until the run has ended."""
        path = self.claim.path
        while self.end is None:
            try:
                info = await self._store.head(path)
                if info.closed:
                    self.end = await _read_end(self._store, info) or CLOSED
                else:
                    await self._store.wait(path, info.tail)
            except StreamNotFound:
                self.end = DELETED
            except StoreUnavailable as error:
                log.error("run %a cannot be followed, trying again: %s", path, error)
                await anyio.sleep(1)
        self.done.set()


async def _read_end(store: Store, info: StreamInfo) -> RunEnd | None:
    """How a run ended, read from its stream; None if the stream is open, or not a run's."""
    if not info.closed or not is_json(info.content_type):
        return None
    tail = info.tail
    place: Where = Mark.BEGINNING
    if tail.position - END_BYTES > info.first.position and info.forked_from is None:
        # A read may begin at any position, and the last bytes are enough.
        place = Offset(tail.generation, tail.position - END_BYTES)
    while True:
        try:
            part = await store.read(info.path, place)
        except OffsetGone:  # retention has dropped this part meanwhile
            part = await store.read(info.path, Mark.BEGINNING)
        if part.closed:
            return end_of(part)
        place = part.end


class FinishedRun:
    """A run that had ended when it was asked for."""

    def __init__(self, end: RunEnd) -> None:
        self.end: RunEnd | None = end
        self.done = anyio.Event()
        self.done.set()


class _Look:
    """Calls a function again after changes of a stream, one call at a time.

    Args:
        look: The function. Changes during a call cause one more call.
        group: Runs the task that calls it.
    """

    def __init__(self, look: Callable[[], Awaitable[None]], group: anyio.abc.TaskGroup) -> None:
        self._look = look
        self._group = group
        self._due = False
        self._looking = False

    def on_change(self, _change: Change) -> None:
        self._due = True
        if not self._looking:
            self._looking = True
            self._group.start_soon(self._run)

    async def _run(self) -> None:
        try:
            while self._due:
                self._due = False
                await self._look()
        except StoreUnavailable as error:
            log.error("the claim of a run cannot be read: %s", error)
        finally:
            self._looking = False


@contextmanager
def _changes(store: Store, *paths: str) -> Iterator[Signal]:
    """A signal that is set when one of the streams changes within the block."""
    changed = current_loop().signal()
    stops = [store.watch(path, lambda _change: changed.set()) for path in paths]
    try:
        yield changed
    finally:
        for stop in stops:
            stop()
