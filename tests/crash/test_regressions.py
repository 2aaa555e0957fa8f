"""What other stores have lost in a power cut, each as a case of its own; and a few of ours."""

from __future__ import annotations

import random

import anyio
import pytest

from tailrace.store import START, Append, Fork, NewStream, Producer
from tests.crash.history import Made
from tests.crash.power import memory_folder
from tests.crash.recorded import Work, check_cut, checkpoint_often, random_work, record
from tests.crash.schedule import Player

CUTS = 60
LARGE = 50_000
"""Bytes of an append that takes a dozen pages."""

pytestmark = pytest.mark.slow


def cut_during(work: Work, seed: int = 1) -> list[dict[str, int]]:
    """Record the work and cut the power at places that it has named.

    Returns:
        What was found each time: how many of its steps each stream has taken.
    """

    async def cut() -> list[dict[str, int]]:
        rng = random.Random(seed)
        with memory_folder() as folder:
            (folder / "live").mkdir()
            recorded = await record(folder / "live", work, rng)
            return [
                await check_cut(cut, recorded.history, folder / str(number))
                for number, cut in enumerate(recorded.cuts(CUTS, rng))
            ]

    return anyio.run(cut)


def some(name: str, seq: int, size: int = 100, *, close: bool = False) -> Append:
    """An append of a producer."""
    return Append(
        data=f"<{name} {seq}>".encode() + b"." * size, producer=Producer(name, 0, seq), close=close
    )


def test_a_file_that_was_being_made_is_made_anew() -> None:
    async def work(player: Player) -> int:
        return 0

    assert cut_during(work) == [{}] * CUTS


def test_an_acknowledged_deletion_stays() -> None:
    async def work(player: Player) -> int:
        await player.create("s", NewStream(), Made())
        await player.append("s", some("ada", 0, LARGE))
        await player.delete("s")
        since = player.mark()
        await player.create("other", NewStream(), Made())
        return since

    assert {found["s"] for found in cut_during(work)} == {3}


def test_a_deleted_stream_that_is_made_again_has_nothing_of_the_old_one() -> None:
    async def work(player: Player) -> int:
        await player.create("s", NewStream(), Made())
        await player.append("s", some("ada", 0), some("bob", 0, LARGE))
        await player.delete("s")
        await player.create("s", NewStream(), Made())
        since = player.mark()
        await player.append("s", some("ada", 0, LARGE))
        return since

    assert {found["s"] for found in cut_during(work)} == {5, 6}


def test_a_quiet_stream_keeps_its_tail_when_another_is_torn() -> None:
    async def work(player: Player) -> int:
        for path in ("quiet", "busy"):
            await player.create(path, NewStream(), Made())
        await player.append("quiet", some("ada", 0))
        since = player.mark()
        for seq in range(5):
            await player.append("busy", some("bob", seq, LARGE))
        return since

    found = cut_during(work)
    assert {each["quiet"] for each in found} == {2}
    assert {each["busy"] for each in found} >= {1, 3, 5}


def test_a_closed_stream_stays_closed() -> None:
    async def work(player: Player) -> int:
        for path in ("s", "empty"):
            await player.create(path, NewStream(), Made())
        await player.append("empty", Append(close=True))
        await player.append("s", some("ada", 0))
        await player.append("s", some("ada", 1, LARGE, close=True))
        since = player.mark()
        await player.create("other", NewStream(), Made())
        return since

    assert {(found["s"], found["empty"]) for found in cut_during(work)} == {(3, 2)}


def test_an_append_whose_writer_left_is_there_whole_or_not_at_all() -> None:
    async def work(player: Player) -> int:
        await player.create("s", NewStream(), Made())
        since = player.mark()
        for number in range(6):
            appends = [
                Append(data=some(name, number, LARGE).data, producer=player.producer("s", name))
                for name in ("ada", "bob", "cy")
            ]
            await player.append("s", *appends, cancelled=2)
        return since

    assert len({found["s"] for found in cut_during(work)}) > 6


def test_a_fork_reads_what_was_deleted_under_it() -> None:
    async def work(player: Player) -> int:
        await player.create("s", NewStream(data=b"<one>"), Made(b"<one>"))
        await player.append("s", some("ada", 0, LARGE))
        tail = player.history.state("s").data or b""
        await player.create("fork", NewStream(fork=Fork("s")), Made(tail, source="s"))
        await player.create("early", NewStream(fork=Fork("s", START)), Made(source="s"))
        await player.delete("s")
        since = player.mark()
        await player.append("fork", some("bob", 0, LARGE))
        await player.delete("early")
        await player.append("fork", some("bob", 1, LARGE, close=True))
        return since

    found = cut_during(work)
    assert {each["s"] for each in found} == {3}
    assert {each["fork"] for each in found} == {1, 2, 3}


@pytest.mark.parametrize("seed", range(6))
def test_a_power_cut_in_the_recovery_from_a_power_cut_loses_nothing(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint_often(monkeypatch)
    anyio.run(cut_twice, seed)


async def cut_twice(seed: int) -> None:
    """Cut the power in random work; then in the recovery and in the work after it."""
    rng = random.Random(seed)
    with memory_folder() as folder:
        (folder / "live").mkdir()
        first = await record(folder / "live", random_work(rng, 3), rng)
        for number, cut in enumerate(first.cuts(3, rng)):
            # What the checks find is not written to: the second life begins with the very image.
            probe, again = folder / f"{number}", folder / f"{number}-again"
            found = await check_cut(cut, first.history, probe)
            cut.restore(again)
            second = await record(
                again, random_work(rng, 2), rng, history=first.history.pinned(found)
            )
            for more, next_cut in enumerate(second.cuts(12, rng)):
                await check_cut(next_cut, second.history, folder / f"{number}-{more}")
