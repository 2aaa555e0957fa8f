"""Every store of ours agrees with the memory store, over random histories."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from tailrace.store import MemoryStore, Store
from tailrace.store.sqlite import SQLiteStore
from tests.store.contract import StoreClock, StoreMachine

FEW = settings(max_examples=30, stateful_step_count=40)


class SQLiteMachine(StoreMachine):
    def make(self, folder: Path, clock: StoreClock) -> Store:
        return SQLiteStore(folder / "streams.db", clock=clock)


class MemoryMachine(StoreMachine):
    """It is compared with itself: nothing in it depends on anything but the history."""

    durable = False

    def make(self, folder: Path, clock: StoreClock) -> Store:
        return MemoryStore(clock)


TestSQLiteMachine = pytest.mark.slow(SQLiteMachine.TestCase)
TestMemoryMachine = MemoryMachine.TestCase
TestSQLiteMachine.settings = FEW
TestMemoryMachine.settings = FEW
