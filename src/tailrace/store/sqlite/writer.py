"""The thread that writes: takes all that waits, commits it as one, and tells.

No time is waited to make a batch larger: while one is being synced, the next one gathers by
itself. One commit's price is then shared by all who came during the one before.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from queue import Empty, SimpleQueue
from typing import Final

import apsw

from tailrace import limits
from tailrace.errors import StoreCorrupt, StoreLocked, StoreUnavailable
from tailrace.store.private import kept_private
from tailrace.store.sqlite import schema
from tailrace.store.sqlite.batch import Batch
from tailrace.store.sqlite.cache import Cache
from tailrace.store.sqlite.connection import (
    DRIVER_ERRORS,
    Synchronous,
    close,
    failure_of,
    is_damage,
    is_fatal,
    open_writer,
    use_log,
)
from tailrace.store.sqlite.ledger import Stale, make_inbox
from tailrace.store.sqlite.location import Location, held
from tailrace.store.sqlite.lock import WriteLock
from tailrace.store.sqlite.operation import Operation, Stop, Touch
from tailrace.store.sqlite.peers import Peers
from tailrace.store.sqlite.upkeep import Upkeep
from tailrace.store.sqlite.uses import Uses
from tailrace.store.sqlite.verify import verify
from tailrace.store.values import Change

__all__ = ["Done", "Writer"]

_log = logging.getLogger("tailrace")

_ATTEMPTS: Final = 3

Done = Callable[[Sequence[Operation], Sequence[Change]], None]
"""Called in the writer thread with a batch that is answered, and with what it changed."""


class Writer:
    """One process's writer.

    Args:
        location: The file.
        name: That of our socket, to which nothing is sent.
        uses: When streams were used.
        clock: Milliseconds since the epoch.
        done: Told of each batch.
        vfs: A file system layer of SQLite by name.
        synchronous: How durable a commit is.
    """

    def __init__(
        self,
        location: Location,
        name: str,
        uses: Uses,
        clock: Callable[[], int],
        done: Done,
        *,
        vfs: str | None,
        synchronous: Synchronous,
    ) -> None:
        self._location = location
        self._name = name
        self._uses = uses
        self._clock = clock
        self._done = done
        self._vfs = vfs
        self._synchronous: Synchronous = synchronous
        self._queue: SimpleQueue[Operation] = SimpleQueue()
        self._cache = Cache()
        self._broken: str | None = None
        """Why nothing can be written any more."""
        self._damage: BaseException | None = None
        """What a reader here has found."""
        self._inode: tuple[int, int] | None = None
        """Which file it is, as long as nobody moves it."""
        self._opening: Operation | None = None
        self._held: Operation | None = None
        self._held_lock = threading.Lock()
        self._is_given_up = False
        self.lock: WriteLock
        """There once it is open."""
        self._thread = threading.Thread(target=self._work, name="tailrace-store-write", daemon=True)

    def start(self, opening: Operation) -> None:
        """Open the file, in the thread; `opening` is answered when that is done."""
        self._opening = opening
        self._thread.start()

    def put(self, operation: Operation) -> None:
        """Have something done; what is put first is done first."""
        self._queue.put(operation)

    def join(self) -> None:
        """Wait for the end of the thread, once `Stop` is answered."""
        if not self._is_given_up:
            self._thread.join()

    def refuse_for_damage(self, error: BaseException) -> None:
        """Acknowledge nothing more: a reader, in its thread, has found the file damaged."""
        if self._damage is None:
            self._damage = error
            self._queue.put(Touch())  # others are told now, not with the next append

    # The thread

    def _work(self) -> None:
        error: BaseException | None = None
        stop: Operation | None = None
        try:
            stop = self._live()
        except DRIVER_ERRORS as cause:
            error = failure_of(self._location.file, cause)
            error.__cause__ = cause
        except StoreUnavailable as refused:
            error = refused
        except BaseException as bug:  # noqa: BLE001 - nobody may wait for a thread that is dead
            error = bug
        opening = self._take_opening()
        if opening is not None:
            opening.error = error
            self._done((opening,), ())
        elif stop is not None:
            self._done((stop,), ())
        elif error is not None:
            self._refuse_until_the_end(error)

    def _refuse_until_the_end(self, error: BaseException) -> None:
        """The thread's work has failed as a whole: answer all that comes, until `Stop`."""
        _log.error("the writer of a store has failed", exc_info=error)
        reason = f"failed, and does not try again: {error!r}; restart this process"
        while True:
            operation = self._queue.get()
            self._fail([operation], StoreUnavailable(self._location.file, reason), error)
            if isinstance(operation, Stop):
                operation.error = None
            self._done((operation,), ())
            if isinstance(operation, Stop):
                return

    def _live(self) -> Operation | None:
        """Open, work, close; returns the `Stop` that ended it."""
        schema.check_driver(self._location.file)
        self._location.prepare()
        lock = WriteLock(self._location.lock, self._refuse_all)
        try:
            with ExitStack() as opened:
                with lock:
                    if self._is_given_up:
                        return None
                    opened.enter_context(held(self._location.file, schema.look_at))
                    # The file first, for nobody may open it in passing from here on.
                    opened.enter_context(kept_private((self._location.file,)))
                    self._inode = self._location.inode()
                    self._look_at_damage(lock)
                    connection = self._connect()
                    opened.enter_context(kept_private(self._location.paths()))
                try:
                    return self._serve(lock, connection)
                finally:
                    with lock:
                        if self._broken is not None:
                            # What is left is for whoever looks into it: nothing is copied into it.
                            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
                        close(connection)
        finally:
            lock.close()

    def _connect(self) -> apsw.Connection:
        file = self._location.file
        connection = open_writer(file, vfs=self._vfs, synchronous=self._synchronous)
        try:
            schema.prepare(connection, file)
            use_log(connection)
            make_inbox(connection)
        except BaseException:
            close(connection)
            raise
        return connection

    def _serve(self, lock: WriteLock, connection: apsw.Connection) -> Operation | None:
        """Work until the end; returns the `Stop`."""
        upkeep = Upkeep(connection, lock, self._uses, self._clock, partial(self._take_over, lock))
        self.lock = lock
        opening = self._take_opening()
        if opening is None:
            return None
        self._done((opening,), ())
        peers = Peers(self._location.peers, self._name, lock)
        try:
            while not self._is_given_up:
                stop = self._turn(lock, connection, upkeep, peers)
                if stop is not None:
                    return stop
            return None
        finally:
            peers.close()

    def _turn(
        self, lock: WriteLock, connection: apsw.Connection, upkeep: Upkeep, peers: Peers
    ) -> Operation | None:
        """Wait for something to do, and do it."""
        first = self._wait(_sooner(upkeep.next_in(), peers.next_in()))
        requests = upkeep.requests()
        changes: Sequence[Change] = ()
        stop: Operation | None = None
        if first is not None or requests:
            self._held = first  # until the lock is there it can be refused
            with lock:
                batch, stop = self._gather(self._take_held(), requests)
                if batch:
                    changes = self._commit(lock, connection, upkeep, batch)
                if stop is not None and self._broken is None:
                    upkeep.finish()
            if batch:
                self._done(batch, changes)
        if changes and peers.look():
            peers.tell(changes)
        peers.retry()
        error = None
        if stop is None and self._broken is None:
            error = upkeep.run(idle=self._queue.empty())
        if error is not None:
            self._judge(connection, error)
        return stop

    def _wait(self, seconds: float | None) -> Operation | None:
        try:
            return self._queue.get_nowait() if seconds == 0 else self._queue.get(timeout=seconds)
        except Empty:
            return None

    def _look_at_place(self, lock: WriteLock) -> None:
        """Refuse to write where nobody will look for it.

        SQLite goes on writing to a file that was deleted, and who opens the path makes another:
        all that is acknowledged from then on would be lost. To ask costs 2 µs for each commit.
        """
        if lock.is_deleted or self._location.inode() != self._inode:
            raise self._break("was deleted or replaced under this process: restart it")

    def _look_at_damage(self, lock: WriteLock) -> None:
        """Refuse to open a file that was found damaged, unless it is whole now, or another."""
        assert self._inode is not None
        if not lock.damaged:
            return
        if lock.damaged == self._inode[1]:
            problems = verify(self._location.file, vfs=self._vfs)
            if problems:
                raise StoreCorrupt(
                    self._location.file,
                    f"is damaged ({problems[0]}): put back a copy of its file, or move it away",
                )
        lock.tell_damaged(0)

    def _heed_damage(self, lock: WriteLock) -> None:
        """Write nothing more, if a reader here or anybody elsewhere has found damage."""
        assert self._inode is not None
        if self._broken is not None or (self._damage is None and not lock.damaged):
            return
        if self._damage is not None and is_damage(self._damage):
            lock.tell_damaged(self._inode[1])
        reason = f": {self._damage}" if self._damage is not None else ", as another process found"
        self._break(f"is damaged{reason}; put back a copy of its file, and restart this process")

    def _break(self, reason: str) -> StoreUnavailable:
        """Write nothing more; told once."""
        self._broken = reason
        _log.error("the store %a %s", self._location.file, reason)
        return StoreUnavailable(self._location.file, reason)

    def _take_over(self, lock: WriteLock) -> None:
        if lock.take_over():
            self._cache.clear()

    def _take_opening(self) -> Operation | None:
        with self._held_lock:
            opening, self._opening = self._opening, None
            return opening

    def _take_held(self) -> Operation | None:
        with self._held_lock:
            held, self._held = self._held, None
            return held

    def _gather(
        self, first: Operation | None, requests: list[Operation]
    ) -> tuple[list[Operation], Operation | None]:
        """All that waits, up to what one commit may have; and the `Stop` behind it."""
        batch = requests
        size = 0
        operation = first
        while operation is not None:
            if isinstance(operation, Stop):
                return batch, operation
            if not operation.withdrawn:
                batch.append(operation)
                size += operation.size
            if len(batch) >= limits.STORE_BATCH_OPS or size >= limits.STORE_BATCH_BYTES:
                break
            try:
                operation = self._queue.get_nowait()
            except Empty:
                break
        return batch, None

    def _commit(
        self,
        lock: WriteLock,
        connection: apsw.Connection,
        upkeep: Upkeep,
        operations: list[Operation],
    ) -> Sequence[Change]:
        """Do a batch; each of its operations has a result or an error after it."""
        self._heed_damage(lock)
        if self._broken is not None:
            upkeep.pause()
            return self._fail(operations, self._refusal(lock))
        try:
            batch = self._run(lock, connection, operations)
        except StoreUnavailable as error:
            return self._fail(operations, error)
        except DRIVER_ERRORS as error:
            if not isinstance(error, apsw.ConstraintError):
                upkeep.pause()  # or its requests would be made again at once, and fail again
                return self._fail(operations, self._judge(connection, error), error)
            return self._isolate(lock, connection, upkeep, operations, error)
        except Exception as error:  # noqa: BLE001 - given to the one who caused it
            # One of them cannot be written at all (a text that is no Unicode, say).
            return self._isolate(lock, connection, upkeep, operations, error)
        upkeep.note(batch)
        return batch.changes

    def _run(
        self, lock: WriteLock, connection: apsw.Connection, operations: list[Operation]
    ) -> Batch:
        self._look_at_place(lock)
        for _ in range(_ATTEMPTS):
            self._take_over(lock)
            if self._cache.version is None:
                self._cache.version = int(connection.pragma("data_version"))
            batch = Batch(connection, self._cache, self._uses, self._clock())
            try:
                batch.run(operations)
                return batch
            except Stale:
                self._cache.clear()
                batch.roll_back()
            except BaseException:
                self._cache.clear()
                batch.roll_back()
                raise
        raise StoreLocked(
            self._location.file, "is written to by a program that does not take its lock"
        )

    def _isolate(
        self,
        lock: WriteLock,
        connection: apsw.Connection,
        upkeep: Upkeep,
        operations: list[Operation],
        error: Exception,
    ) -> Sequence[Change]:
        """Do each alone, so that only the one that cannot be written fails."""
        if len(operations) == 1:
            operations[0].error = error
            return ()
        changes: list[Change] = []
        for operation in operations:
            changes += self._commit(lock, connection, upkeep, [operation])
        return changes

    def _judge(self, connection: apsw.Connection, error: BaseException) -> StoreUnavailable:
        number = connection.system_errno if isinstance(error, apsw.Error) else 0
        if is_damage(error):
            self._damage = error
            self._heed_damage(self.lock)
        elif is_fatal(error, number):
            # What the system dropped after a failed sync, a second one would report as written.
            self._break(f"failed to write, and does not try again: {error}; restart this process")
        return failure_of(self._location.file, error, number)

    def _refusal(self, lock: WriteLock) -> StoreUnavailable:
        kind = StoreCorrupt if lock.damaged else StoreUnavailable
        assert self._broken is not None
        return kind(self._location.file, self._broken)

    def _fail(
        self,
        operations: Sequence[Operation],
        error: StoreUnavailable,
        cause: BaseException | None = None,
    ) -> Sequence[Change]:
        for operation in operations:
            # Each its own: a raised exception collects the frames it goes through.
            operation.error = type(error)(error.store, error.reason)
            operation.error.__cause__ = cause
        return ()

    def _refuse_all(self) -> None:
        """Somebody else has been holding the lock for too long: let nobody wait on."""
        opening = self._take_opening()
        held = self._take_held()
        refused = [operation for operation in (opening, held) if operation is not None]
        while True:
            try:
                refused.append(self._queue.get_nowait())
            except Empty:
                break
        if not refused:
            return
        if opening is not None or any(isinstance(operation, Stop) for operation in refused):
            # The thread ends when it gets the lock; nobody waits for that.
            self._is_given_up = True
        reason = "is held by another process: see who has its -lock file open"
        self._fail(refused, StoreLocked(self._location.file, reason))
        self._done(refused, ())


def _sooner(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
