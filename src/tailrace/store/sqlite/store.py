"""`sqlite:///PATH`: streams in one file, for any number of processes of one machine.

```
a task ── append ──▶ queue ──▶ writer thread ── one commit ──▶ file ◀── reading threads ◀── read
  ▲                                  │
  └── one call for all ◀─────────────┴──▶ one datagram for each other process that watches
```

An append is synced to the disk before it is acknowledged and before any reader can see it. The file
must be on a disk of this machine: the write-ahead log needs memory that all processes share, and
network file systems such as NFS do not have that.
"""

from __future__ import annotations

import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import anyio
import apsw
from anyio.lowlevel import EventLoopToken, current_token

from tailrace import limits
from tailrace.errors import StoreUnavailable
from tailrace.runtime import Loop, call_in_thread, current_loop, file_threads
from tailrace.store.base import OnChange, Store, Watchers
from tailrace.store.rules import State
from tailrace.store.sqlite.batch import Operation, Task
from tailrace.store.sqlite.connection import Synchronous, failure_of, open_reader
from tailrace.store.sqlite.lifetime import LastAccess
from tailrace.store.sqlite.location import Location
from tailrace.store.sqlite.notifier import Listener, Notifier
from tailrace.store.sqlite.reading import Queries, Query, Readers
from tailrace.store.sqlite.writer import Writer
from tailrace.store.values import (
    Append,
    Appended,
    Change,
    Created,
    NewStream,
    Slice,
    StreamInfo,
    Where,
)

__all__ = ["SQLiteStore"]

T = TypeVar("T")


class SQLiteStore(Store):
    """Streams in an SQLite file.

    Args:
        path: The file; it and its directory are made if they are missing, for their owner only.
        clock: Milliseconds since the epoch.
        vfs: A file system layer (VFS) of SQLite, by name, for tests that cut the power.
        synchronous: "NORMAL" may lose acknowledged appends in a power cut; for tests that show it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        vfs: str | None = None,
        synchronous: Synchronous = "FULL",
    ) -> None:
        self._location = Location.of(path)
        self._clock = clock
        self._vfs = vfs
        self._synchronous: Synchronous = synchronous
        self._watchers = Watchers()
        self._process: int | None = None
        """The id of the process in which the store is open; None while it is closed."""
        self._token: EventLoopToken
        self._changing = anyio.Lock()
        """Held while the store opens or closes."""
        self._loop: Loop
        self._writer: Writer
        self._readers: Readers
        self._queries: Queries
        self._accesses: LastAccess
        self._notifier: Notifier
        self._listener: Listener
        self._waiting_ops = 0
        self._waiting_bytes = 0
        self._queue: deque[Operation] = deque()
        """Operations that wait for room in the writer's queue."""

    async def open(self) -> None:
        if self._process is not None and self._token != current_token():
            raise StoreUnavailable(
                self._location.file, "is open in another event loop: open one in each"
            )
        async with self._changing:
            if self._process is None:
                await self._open()
            self._require_open()

    async def _open(self) -> None:
        self._token, self._loop = current_token(), current_loop()
        file = self._location.file
        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        connect = partial(open_reader, file, vfs=self._vfs)
        accesses = self._accesses = LastAccess(self._watchers.has, self._write_accesses)
        self._notifier = Notifier(self._watchers, accesses, self._clock)
        self._queries = Queries(accesses, self._clock, self._trim, self._see)
        self._writer = Writer(
            self._location,
            name,
            accesses,
            self._clock,
            self._from_writer,
            vfs=self._vfs,
            synchronous=self._synchronous,
        )
        self._readers = Readers(
            file, connect, limits.STORE_READ_THREADS, self._writer.refuse_for_damage
        )
        opened = self._loop.signal()
        opening = Operation(Task.OPEN, wake=opened.set)
        self._writer.start(opening)
        with anyio.CancelScope(shield=True):  # bounded by `limits.STORE_LOCK_TIMEOUT`
            await opened.wait()
        if opening.error is not None:
            self._writer.join()
            raise opening.error
        self._listener = Listener(
            self._location.peers,
            name,
            connect,
            self._notifier,
            self._loop,
            self._writer.lock.tell_peers_changed,
        )
        self._process = os.getpid()

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True):
            async with self._changing:
                if self._process is not None:
                    await self._close()

    async def _close(self) -> None:
        self._require_open()
        self._process = None
        try:
            await call_in_thread(self._close_readers, threads=file_threads)
        except RuntimeError:  # the system has no thread left: wait for the reads here
            self._close_readers()
        for operation in self._queue:
            operation.error = StoreUnavailable(self._location.file, "was closed during this call")
            if operation.wake is not None:
                operation.wake()
        self._queue.clear()
        self._accesses.settle()
        self._writer.put(Operation(Task.WRITE_ACCESSES))
        stopped = self._loop.signal()
        self._writer.put(Operation(Task.STOP, wake=stopped.set))
        await stopped.wait()
        self._writer.join()

    def _close_readers(self) -> None:
        self._listener.close()
        self._readers.close()

    # Verbs

    async def create(self, path: str, new: NewStream) -> Created:
        created: Created = await self._write(Operation(new, path, len(new.data)))
        return created

    async def append(self, path: str, append: Append) -> Appended:
        appended: Appended = await self._write(Operation(append, path, len(append.data)))
        return appended

    async def read(self, path: str, start: Where, max_bytes: int = limits.READ_BYTES) -> Slice:
        return await self._ask(
            lambda connection: self._queries.read(connection, path, start, max_bytes)
        )

    async def head(self, path: str) -> StreamInfo:
        return await self._ask(lambda connection: self._queries.head(connection, path))

    async def delete(self, path: str) -> None:
        await self._write(Operation(Task.DELETE, path))

    async def list(
        self, prefix: str = "", after: str = "", limit: int = limits.LIST_STREAMS
    ) -> list[StreamInfo]:
        return await self._ask(
            lambda connection: self._queries.list(connection, prefix, after, limit)
        )

    def watch(self, path: str, on_change: OnChange) -> Callable[[], None]:
        self._require_open()
        if not self._watchers.has(path):
            self._accesses.begin(path, self._clock())
        end = self._watchers.add(path, on_change)

        def stop() -> None:
            end()
            if not self._watchers.has(path):
                self._not_watched(path)

        try:
            self._listener.start()
        except RuntimeError as error:  # the system has no thread left
            stop()
            raise failure_of(self._location.file, error) from error
        return stop

    def _not_watched(self, path: str) -> None:
        self._notifier.forget(path)
        if self._accesses.end(path, self._clock()):
            self._writer.put(Operation(Task.KEEP_ALIVE, paths=(path,)))

    async def check(self) -> None:
        await self._write(Operation(Task.PROBE))
        await self._ask(lambda connection: connection.execute("SELECT max(at) FROM probe").get)

    # Writing

    async def _write(self, operation: Operation) -> Any:
        self._require_open()
        woken = self._loop.signal()
        operation.wake = woken.set
        self._queue.append(operation)
        self._let_in()
        try:
            await woken.wait()
        except BaseException:
            operation.withdrawn = True
            if operation in self._queue:
                self._queue.remove(operation)
            raise
        if operation.error is not None:
            try:
                raise operation.error
            finally:
                operation.error = None  # or this frame and the traceback keep each other alive
        return operation.result

    def _has_room(self) -> bool:
        return (
            self._waiting_ops < limits.STORE_QUEUE_OPS
            and self._waiting_bytes < limits.STORE_QUEUE_BYTES
        )

    def _take_room(self, operation: Operation) -> None:
        operation.is_counted = True
        self._waiting_ops += 1
        self._waiting_bytes += operation.size

    def _give_room(self, operation: Operation) -> None:
        if operation.is_counted:
            operation.is_counted = False
            self._waiting_ops -= 1
            self._waiting_bytes -= operation.size

    def _let_in(self) -> None:
        """Hand waiting operations to the writer, in order, while it has room."""
        while self._queue and self._has_room():
            operation = self._queue.popleft()
            self._take_room(operation)
            self._writer.put(operation)

    def _from_writer(self, operations: Sequence[Operation], changes: Sequence[Change]) -> None:
        """Called in the writer thread when a batch is answered."""
        self._loop.call_from_thread(partial(self._answered, operations, changes))

    def _answered(self, operations: Sequence[Operation], changes: Sequence[Change]) -> None:
        if self._notifier.is_needed:
            self._notifier.tell(changes)
        for operation in operations:
            self._give_room(operation)
            if operation.wake is not None:
                operation.wake()
        self._let_in()

    def _write_accesses(self) -> None:
        self._writer.put(Operation(Task.WRITE_ACCESSES))

    def _see(self, state: State) -> None:
        self._accesses.see(state.path)
        self._notifier.see(state)

    def _trim(self, path: str) -> None:
        self._writer.put(Operation(Task.TRIM, paths=(path,)))

    # Reading

    async def _ask(self, ask: Callable[[apsw.Connection], T]) -> T:
        self._require_open()
        answered = self._loop.signal()
        query = Query(ask, partial(self._loop.call_from_thread, answered.set))
        self._readers.put(query)
        try:
            await answered.wait()
        except BaseException:
            query.withdrawn = True
            raise
        if query.error is not None:
            try:
                raise query.error
            finally:
                query.error = None
        result: T = query.result
        return result

    def _require_open(self) -> None:
        if self._process != os.getpid():
            if self._process is None:
                raise StoreUnavailable(self._location.file, "is not open: open it first")
            raise StoreUnavailable(
                self._location.file, "was opened in another process: open one in each"
            )
