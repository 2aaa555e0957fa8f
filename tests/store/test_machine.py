"""Every store of ours agrees with the memory store, over random histories."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from tailrace.store import MemoryStore, NewStream, Store
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


def test_of_four_numbers_three_pick_a_stream_that_exists_and_one_may_pick_any_path() -> None:
    machine = MemoryMachine()
    for there in ([], ["b"], ["a", "c", "d"]):
        for path in there:
            machine._run(machine._model.create(path, NewStream()))
        picked = [machine._path(number) for number in range(16)]
        assert picked[12:] == ["a", "b", "c", "d"]
        assert set(picked[:12]) == set(there or "abcd")
        for path in there:
            machine._run(machine._model.delete(path))
    machine.teardown()
