"""The writer thread: it commits all waiting operations as one, and tells of the changes.

It does not wait to make a batch larger: while one batch is synced, the next one gathers in the
queue. So all operations that came during one commit share the cost of the next.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from queue import Empty, SimpleQueue
from typing import Final

import apsw

from tailrace import limits
from tailrace.errors import StoreCorrupt, StoreLocked, StoreUnavailable
from tailrace.store.private import kept_private
from tailrace.store.sqlite import schema
from tailrace.store.sqlite.batch import Batch, Operation, Task
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
from tailrace.store.sqlite.lifetime import LastAccess
from tailrace.store.sqlite.location import Location, held_open
from tailrace.store.sqlite.lock import WriteLock
from tailrace.store.sqlite.maintenance import Maintenance
from tailrace.store.sqlite.peers import Peers
from tailrace.store.sqlite.rows import Cache
from tailrace.store.sqlite.transaction import Stale, make_inbox
from tailrace.store.values import Change

__all__ = ["Done", "Writer"]

_log = logging.getLogger("tailrace")

Done = Callable[[Sequence[Operation], Sequence[Change]], None]
"""Called in the writer thread with a batch that has been answered, and with its changes."""


class Writer:
    """One process's writer.

    Args:
        location: The file.
        name: The name of this process's socket, to which the writer sends nothing.
        accesses: When streams were last accessed.
        clock: Milliseconds since the epoch.
        done: Called after each batch.
        vfs: A file system layer (VFS) of SQLite, by name; None is the system's.
        synchronous: How durable a commit is.
    """

    def __init__(
        self,
        location: Location,
        name: str,
        accesses: LastAccess,
        clock: Callable[[], int],
        done: Done,
        *,
        vfs: str | None,
        synchronous: Synchronous,
    ) -> None:
        self._location = location
        self._name = name
        self._accesses = accesses
        self._clock = clock
        self._done = done
        self._vfs = vfs
        self._synchronous: Synchronous = synchronous
        self._queue: SimpleQueue[Operation] = SimpleQueue()
        self._held: Operation | None = None
        """Taken from the queue, and waiting for the lock; while it waits it can be refused."""
        self._held_lock = threading.Lock()
        self._is_given_up = False
        self._file: _File
        self.lock: WriteLock
        """Set once the file is open."""
        self._thread = threading.Thread(target=self._work, name="tailrace-store-write", daemon=True)

    def start(self, opening: Operation) -> None:
        """Start the thread, which opens the file and then answers `opening`.

        Raises:
            StoreUnavailable: The system gives no thread.
        """
        self._held = opening
        try:
            self._thread.start()
        except RuntimeError as error:
            raise failure_of(self._location.file, error) from error

    def put(self, operation: Operation) -> None:
        """Queue an operation; they are done in order."""
        self._queue.put(operation)

    def join(self) -> None:
        """Wait until the thread has ended, unless it still waits for another process's lock."""
        if not self._is_given_up:
            self._thread.join()

    def refuse_for_damage(self, error: BaseException) -> None:
        """Acknowledge nothing more; called by a reading thread that has found the file damaged."""
        if self._file.damage is None:
            self._file.damage = error
            # Wakes the writer: other processes are told now, not with the next append.
            self._queue.put(Operation(Task.WRITE_ACCESSES))

    # The thread

    def _work(self) -> None:
        error: BaseException | None = None
        stop: Operation | None = None
        try:
            stop = self._live()
        except DRIVER_ERRORS as cause:
            error = failure_of(self._location.file, cause)
            error.__cause__ = cause
        except BaseException as failure:  # noqa: BLE001 - no task may wait for a dead thread
            error = failure
        held = self._take_held()
        if held is not None and held.do is Task.OPEN:
            held.error = error
            self._done((held,), ())
        elif stop is not None:
            self._done((stop,), ())
        elif error is not None:
            self._refuse_until_the_end(error, held)

    def _refuse_until_the_end(self, error: BaseException, held: Operation | None) -> None:
        """After the thread's work has failed: refuse all operations until `Task.STOP` comes."""
        _log.error("the writer of a store has failed", exc_info=error)
        reason = f"failed, and does not try again: {error!r}; restart this process"
        refused = StoreUnavailable(self._location.file, reason)
        operation = held or self._queue.get()
        while operation.do is not Task.STOP:
            _fail((operation,), refused, error)
            self._done((operation,), ())
            operation = self._queue.get()
        self._done((operation,), ())

    def _live(self) -> Operation | None:
        """Open the file, work, close it; returns the `Task.STOP` that ended it, if one did."""
        location = self._location
        schema.check_driver(location.file)
        location.prepare()
        lock = WriteLock(location.lock, self._refuse_all)
        with closing(lock), ExitStack() as opened:
            with lock:
                if self._is_given_up:
                    return None
                opened.enter_context(held_open(location.file, schema.look_at))
                # The file first: from here on no other part of this process may open it.
                opened.enter_context(kept_private((location.file,)))
                inode = location.inode()
                assert inode is not None  # `prepare` has made it
                self._refuse_damaged(lock, inode)
                connection = self._connect()
                opened.enter_context(kept_private(location.paths()))
            file = self._file = _File(location, inode, lock, connection)
            opened.callback(file.close)
            return self._serve(file)

    def _refuse_damaged(self, lock: WriteLock, inode: tuple[int, int]) -> None:
        """Refuse a file that was found damaged, unless it has been repaired or replaced since."""
        if not lock.damaged:
            return
        if lock.damaged == inode[1]:
            problems = schema.verify(self._location.file, vfs=self._vfs)
            if problems:
                raise StoreCorrupt(
                    self._location.file,
                    f"is damaged ({problems[0]}): restore a copy of its file, or move it away",
                )
        lock.tell_damaged(0)

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

    def _serve(self, file: _File) -> Operation | None:
        """Answer the opening, then work until the end; returns what `_live` returns."""
        file.begin(self._accesses, self._clock)
        self.lock = file.lock
        opening = self._take_held()
        if opening is None:
            return None
        self._done((opening,), ())
        peers = Peers(self._location.peers, self._name, file.lock)
        with closing(peers):
            while not self._is_given_up:
                stop = self._turn(file, peers)
                if stop is not None:
                    return stop
            return None

    def _turn(self, file: _File, peers: Peers) -> Operation | None:
        """Wait for something to do, and do it; returns `Task.STOP` if it came."""
        maintenance = file.maintenance
        first = self._held = self._wait(_sooner(maintenance.next_in(), peers.next_in()))
        requests = maintenance.requests()
        changes: Sequence[Change] = ()
        stop: Operation | None = None
        if first is not None or requests:
            with file.lock:
                batch, stop = self._gather(self._take_held(), requests)
                if batch:
                    changes = file.commit(batch)
                if stop is not None and file.broken is None:
                    maintenance.finish()
            if batch:
                self._done(batch, changes)
        if changes and peers.look():
            peers.tell(changes)
        peers.retry()
        if stop is None and file.broken is None:
            error = maintenance.run(idle=self._queue.empty())
            if error is not None:
                file.judge(error)
        return stop

    def _wait(self, seconds: float | None) -> Operation | None:
        try:
            return self._queue.get_nowait() if seconds == 0 else self._queue.get(timeout=seconds)
        except Empty:
            return None

    def _take_held(self) -> Operation | None:
        with self._held_lock:
            held, self._held = self._held, None
            return held

    def _gather(
        self, first: Operation | None, requests: list[Operation]
    ) -> tuple[list[Operation], Operation | None]:
        """The operations of the next commit, and the `Task.STOP` behind them, if it came."""
        batch = requests
        size = 0
        operation = first
        while operation is not None:
            if operation.do is Task.STOP:
                return batch, operation
            batch.append(operation)
            size += operation.size
            if len(batch) >= limits.STORE_BATCH_OPS or size >= limits.STORE_BATCH_BYTES:
                break
            try:
                operation = self._queue.get_nowait()
            except Empty:
                break
        return batch, None

    def _refuse_all(self) -> None:
        """Refuse all that waits: another process has been holding the lock for too long."""
        held = self._take_held()
        refused = [] if held is None else [held]
        while True:
            try:
                refused.append(self._queue.get_nowait())
            except Empty:
                break
        if not refused:
            return
        if any(operation.do in (Task.OPEN, Task.STOP) for operation in refused):
            # The thread ends when it gets the lock; no task waits for that.
            self._is_given_up = True
        reason = "is locked by another process: stop the process that has its -lock file open"
        _fail(refused, StoreLocked(self._location.file, reason))
        self._done(refused, ())


_ATTEMPTS: Final = 3


class _File:
    """The open file: commits batches to it, until an error forbids all further writes.

    Args:
        location: Where it is.
        inode: Its device and inode when it was opened.
        lock: Its lock.
        connection: The one that writes.
    """

    def __init__(
        self,
        location: Location,
        inode: tuple[int, int],
        lock: WriteLock,
        connection: apsw.Connection,
    ) -> None:
        self._location = location
        self._inode = inode
        self.lock = lock
        self._connection = connection
        self._accesses: LastAccess
        self._clock: Callable[[], int]
        self.maintenance: Maintenance
        self.cache = Cache()
        self.broken: str | None = None
        """Why nothing may be written any more; None while writing works."""
        self.damage: BaseException | None = None
        """The error that shows damage; a reading thread may set it, too."""

    def begin(self, accesses: LastAccess, clock: Callable[[], int]) -> None:
        """Set what `commit` and the maintenance need."""
        self._accesses = accesses
        self._clock = clock
        self.maintenance = Maintenance(
            self._connection, self.lock, accesses, clock, self._take_over
        )

    def close(self) -> None:
        """Close the file."""
        with self.lock:
            if self.broken is not None:
                # The file stays as it is, to be examined: the log is not copied into it.
                self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            close(self._connection)

    def commit(self, operations: list[Operation]) -> Sequence[Change]:
        """Commit a batch, under the lock; then each operation has a result or an error."""
        self._heed_damage()
        if self.broken is not None:
            self.maintenance.pause()
            kind = StoreCorrupt if self.lock.damaged else StoreUnavailable
            return _fail(operations, kind(self._location.file, self.broken))
        try:
            batch = self._run(operations)
        except StoreUnavailable as error:
            return _fail(operations, error)
        except DRIVER_ERRORS as error:
            if not isinstance(error, apsw.ConstraintError):
                self.maintenance.pause()  # or it would make operations that fail again at once
                return _fail(operations, self.judge(error), error)
            return self._isolate(operations, error)
        except Exception as error:  # noqa: BLE001 - given to the call that caused it
            # One of them cannot be written at all (a text that is not Unicode, say).
            return self._isolate(operations, error)
        self.maintenance.note(batch)
        return batch.changes

    def _run(self, operations: list[Operation]) -> Batch:
        self._check_path()
        for _ in range(_ATTEMPTS):
            self._take_over()
            if self.cache.version is None:
                self.cache.version = int(self._connection.pragma("data_version"))
            batch = Batch(self._connection, self.cache, self._accesses, self._clock())
            try:
                batch.run(operations)
                return batch
            except Stale:
                self.cache.clear()
                batch.roll_back()
            except BaseException:
                self.cache.clear()
                batch.roll_back()
                raise
        raise StoreLocked(
            self._location.file,
            "is written to by a program that does not take its lock: stop that program",
        )

    def _isolate(self, operations: list[Operation], error: Exception) -> Sequence[Change]:
        """Commit each operation alone, so that only the one that cannot be written fails."""
        if len(operations) == 1:
            operations[0].error = error
            return ()
        changes: list[Change] = []
        for operation in operations:
            changes += self.commit([operation])
        return changes

    def _take_over(self) -> None:
        if self.lock.take_over():
            self.cache.clear()

    def _check_path(self) -> None:
        """Refuse to write to a file that is not at its path any more.

        SQLite goes on writing to a file that was deleted, and a process that opens the path makes
        another: all that is acknowledged from then on would be lost. The check costs 2 µs a commit.
        """
        if self.lock.is_deleted or self._location.inode() != self._inode:
            raise self._break(
                "was deleted or replaced while this process used it: restart this process"
            )

    def _heed_damage(self) -> None:
        """Write nothing more if this process or another has found the file damaged."""
        damage = self.damage
        if self.broken is not None or (damage is None and not self.lock.damaged):
            return
        if damage is not None and is_damage(damage):
            self.lock.tell_damaged(self._inode[1])
        reason = f": {damage}" if damage is not None else ", as another process found"
        self._break(f"is damaged{reason}; restore a copy of its file, and restart this process")

    def judge(self, error: BaseException) -> StoreUnavailable:
        """Our error for one of the driver; after damage or a failed sync, write nothing more."""
        number = self._connection.system_errno if isinstance(error, apsw.Error) else 0
        if is_damage(error):
            self.damage = error
            self._heed_damage()
        elif is_fatal(error, number):
            # A second sync would report as written what the system dropped after the first failed.
            self._break(f"failed to write, and does not try again: {error}; restart this process")
        return failure_of(self._location.file, error, number)

    def _break(self, reason: str) -> StoreUnavailable:
        """Write nothing from now on, and log why."""
        self.broken = reason
        _log.error("the store %a %s", self._location.file, reason)
        return StoreUnavailable(self._location.file, reason)


def _fail(
    operations: Sequence[Operation],
    error: StoreUnavailable,
    cause: BaseException | None = None,
) -> Sequence[Change]:
    """Give each operation this error; returns no changes."""
    for operation in operations:
        # An exception for each: a raised one collects the frames that it passes through.
        operation.error = type(error)(error.store, error.reason)
        operation.error.__cause__ = cause
    return ()


def _sooner(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
