"""The parts of the store's writer, run in the thread of a test, so that its work can be counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from tailrace.store.sqlite import schema
from tailrace.store.sqlite.batch import Batch, Operation
from tailrace.store.sqlite.connection import open_writer, use_log
from tailrace.store.sqlite.lifetime import LastAccess
from tailrace.store.sqlite.lock import WriteLock
from tailrace.store.sqlite.maintenance import Maintenance
from tailrace.store.sqlite.rows import Cache
from tailrace.store.sqlite.transaction import make_inbox
from tests.store.contract import StoreClock

__all__ = ["Writing"]


class Writing:
    """Commits operations, together with the maintenance that is due.

    Args:
        folder: The folder of its file; it is created if it does not exist.
        is_watched: Tells whether a path is watched.
    """

    def __init__(
        self, folder: Path, is_watched: Callable[[str], bool] = lambda _path: False
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.file = folder / "streams.db"
        self.file.touch()
        self.connection = open_writer(str(self.file), vfs=None, synchronous="NORMAL")
        schema.prepare(self.connection, str(self.file))
        use_log(self.connection)
        make_inbox(self.connection)
        self.clock = StoreClock()
        self.accesses = LastAccess(is_watched, lambda: None)
        self.cache = Cache()
        self.lock = WriteLock(f"{self.file}-lock", lambda: None)
        self.maintenance = Maintenance(
            self.connection, self.lock, self.accesses, self.clock, self._take_over
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.lock.close()
        self.connection.close()

    def _take_over(self) -> None:
        """Does nothing, because no other process writes to the file."""

    def commit(self, *operations: Operation) -> Batch:
        """Commit operations, and the maintenance that is due. Raises the error of an operation."""
        self.cache.version = int(self.connection.pragma("data_version"))
        batch = Batch(self.connection, self.cache, self.accesses, self.clock())
        batch.run([*operations, *self.maintenance.requests()])
        self.maintenance.note(batch)
        self.maintenance.next_in()
        for operation in operations:
            if operation.error is not None:
                raise operation.error
        return batch
