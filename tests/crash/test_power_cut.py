"""The power is cut at a thousand random moments: nothing acknowledged is lost, nothing is torn."""

from __future__ import annotations

import random
from pathlib import Path

import anyio
import pytest

from tests.crash.checks import Lost
from tests.crash.disk import Disk
from tests.crash.power import memory_folder
from tests.crash.recorded import (
    DATABASE,
    Recorded,
    check_cut,
    checkpoint_often,
    random_work,
    record,
)

TRACES = 20
CUTS = 50
"""For each trace."""


async def losses_after(recorded: Recorded, cuts: int, rng: random.Random, folder: Path) -> int:
    """After how many of the power cuts something acknowledged was lost, or worse."""
    lost = 0
    for number, cut in enumerate(recorded.cuts(cuts, rng)):
        try:
            await check_cut(cut, recorded.history, folder / str(number))
        except Lost:
            lost += 1
    return lost


async def cut_random_work(seed: int, stores: int) -> None:
    rng = random.Random(seed)
    with memory_folder() as folder:
        (folder / "live").mkdir()
        recorded = await record(folder / "live", random_work(rng), rng, stores=stores)
        for number, cut in enumerate(recorded.cuts(CUTS, rng)):
            await check_cut(cut, recorded.history, folder / str(number))


def test_what_was_recorded_of_a_store_makes_its_very_files(tmp_path: Path) -> None:
    rng = random.Random(2)
    recorded = anyio.run(record, tmp_path, random_work(rng), rng)
    disk = Disk(recorded.initial)
    for each in recorded.records:
        disk.follow(each)
    assert disk.now() == {DATABASE: (tmp_path / DATABASE).read_bytes()}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(TRACES))
def test_nothing_acknowledged_is_lost_in_a_power_cut(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint_often(monkeypatch, truncate=seed % 2 == 1)
    anyio.run(cut_random_work, seed, 1 + seed // 2 % 2)


def test_acknowledged_appends_are_lost_when_commits_are_not_synced() -> None:
    async def cut_unsynced_work() -> int:
        rng = random.Random(1)
        with memory_folder() as folder:
            (folder / "live").mkdir()
            recorded = await record(folder / "live", random_work(rng), rng, synchronous="NORMAL")
            return await losses_after(recorded, CUTS, rng, folder)

    assert anyio.run(cut_unsynced_work) > CUTS // 5
