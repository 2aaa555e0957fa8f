"""Every store of ours does what a store does."""

from __future__ import annotations

from pathlib import Path

from tailrace.store import MemoryStore, Store
from tailrace.store.sqlite import SQLiteStore
from tests.store.contract import StoreClock, StoreContract


class TestMemory(StoreContract):
    durable = False

    def make(self, folder: Path, clock: StoreClock) -> Store:
        return MemoryStore(clock=clock)


class TestSQLite(StoreContract):
    def make(self, folder: Path, clock: StoreClock) -> Store:
        return SQLiteStore(folder / "streams.db", clock=clock)
