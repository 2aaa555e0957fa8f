"""Records work on the SQLite store, and checks what is left of it after power cuts."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tailrace import limits
from tailrace.errors import StoreUnavailable, StreamError
from tailrace.store.sqlite import SQLiteStore, connection
from tailrace.store.sqlite.connection import Synchronous
from tests.crash.checks import Found, Lost, check_file, check_store, go_on
from tests.crash.history import History
from tests.crash.power import PowerCut, power_cuts
from tests.crash.recorder import recording
from tests.crash.schedule import Player
from tests.crash.trace import Record

__all__ = ["Recorded", "check_cut", "checkpoint_often", "random_work", "record"]

DATABASE = "streams.db"
STREAMS = 5
PHASES = 5

Work = Callable[[Player], Awaitable[int]]
"""Works on a store. Returns the first place of the trace at which a power cut tests this work."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The work on a store, and what the store did to its files.

    Attributes:
        initial: The files that existed before.
        records: The trace of the files.
        history: What was requested of the store.
        since: The first place of the trace at which a power cut tests the work.
    """

    initial: Mapping[str, bytes]
    records: Sequence[Record]
    history: History
    since: int = 0

    def cuts(self, count: int, rng: random.Random) -> Iterator[PowerCut]:
        """Cut the power at `count` random places, in their order."""
        return power_cuts(self.initial, self.records, count, rng, self.since)


async def record(
    folder: Path,
    work: Work,
    rng: random.Random,
    *,
    synchronous: Synchronous = "FULL",
    history: History | None = None,
    stores: int = 1,
) -> Recorded:
    """Do work on a store in a folder, and record it.

    Args:
        folder: Empty, or with the files of a store.
        work: What is done.
        rng: Draws what is left to chance.
        synchronous: SQLite's setting.
        history: What was done to those files before.
        stores: How many stores write to the file at the same time.
    """
    with recording(folder) as recorder:

        def opened() -> SQLiteStore:
            return SQLiteStore(str(folder / DATABASE), vfs=recorder.name, synchronous=synchronous)

        player = Player(opened, recorder.trace.mark, rng, history or History(), stores)
        await player.start()
        try:
            since = await work(player)
        finally:
            await player.stop()
        return Recorded(recorder.initial, recorder.trace.records, player.history, since)


def random_work(rng: random.Random, phases: int = PHASES) -> Work:
    """Random work on several streams, with a checkpoint or a restart now and then."""

    async def work(player: Player) -> int:
        for _ in range(phases):
            await player.play(STREAMS)
            if rng.random() < 0.4:
                await player.restart()
        return 0

    return work


def checkpoint_often(monkeypatch: pytest.MonkeyPatch, *, truncate: bool = False) -> None:
    """Make the store copy its log into the database every few commits, so that cuts hit this, too.

    Args:
        truncate: Also truncate the log whenever no append waits.
    """
    monkeypatch.setattr(limits, "STORE_WAL_BYTES", 60_000)
    monkeypatch.setattr(connection, "_LOOK_BYTES", 20_000)
    if truncate:
        monkeypatch.setattr(connection, "_IDLE", 0.0)


async def check_cut(cut: PowerCut, history: History, folder: Path) -> Found:
    """Open the store again after a power cut, and check that nothing was lost.

    Args:
        cut: The power cut.
        history: What was requested of the store before.
        folder: A folder that does not exist yet; afterwards it has the files of the store.

    Returns:
        How many steps of each stream were kept.

    Raises:
        Lost: Something was lost, doubled, torn or made up.
    """
    cut.restore(folder)
    try:
        async with SQLiteStore(str(folder / DATABASE)) as store:
            found = await check_store(store, history, cut.place)
            await go_on(store, history, found)
        check_file(folder / DATABASE)
    except (Lost, StoreUnavailable, StreamError) as error:
        raise Lost(f"{cut}: {error}") from error
    return found
