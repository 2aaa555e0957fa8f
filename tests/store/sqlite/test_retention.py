"""What a stream lets go of costs what goes, and is not more than a commit's worth at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailrace import limits
from tailrace.store import Append, Mark, NewStream, Retention
from tailrace.store.sqlite import SQLiteStore, verify
from tailrace.store.sqlite.operation import AppendTo, Create, Trim
from tailrace.testing import wait_until
from tests.store.contract import StoreClock
from tests.store.sqlite.writing import Writing
from tests.store.work import lines, steps

KEEPS = {
    "records": lambda count: Retention(max_records=count),
    "bytes": lambda count: Retention(max_bytes=2 * count),
    "age": lambda count: Retention(max_age=count),
}


def filled(folder: Path, keep: Retention, count: int) -> Writing:
    """A stream with so many records of two bytes, one each second."""
    writer = Writing(folder)
    writer.commit(Create("a", NewStream(retention=keep), None))
    state = writer.cache.records["a"].state
    begun = writer.clock() - 1000 * count
    writer.connection.executemany(
        "INSERT INTO chunk(sid, tail, at, data) VALUES(?, ?, ?, x'0000')",
        ((state.generation, 2 * n, begun + 1000 * n) for n in range(1, count + 1)),
    )
    writer.connection.execute(
        "UPDATE stream SET tail = ?, records = ? WHERE id = ?",
        (2 * count, count, state.generation),
    )
    writer.cache.clear()
    return writer


def append(writer: Writing, count: int = 1) -> list[str]:
    """Append, and say of which streams more is to go."""
    appends = [AppendTo("a", Append(data=b"xx"), None) for _ in range(count)]
    return writer.commit(*appends).untrimmed


def records(writer: Writing) -> int:
    return writer.cache.records["a"].state.records


@pytest.mark.parametrize("kind", KEEPS)
def test_a_trim_costs_the_same_of_a_thousand_records_and_of_sixteen_thousand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(limits, "STORE_TRIM_ROWS", 100)
    counts = []
    for count in (1000, 16_000):
        with filled(tmp_path / str(count), KEEPS[kind](count), count * 5 // 4) as writer:
            append(writer, 1)  # what is known of it is read
            writer.clock.advance(2)
            with steps(writer.connection) as done:
                append(writer, 2)
            assert records(writer) == count * 5 // 4 + 3 - 100
            counts.append(done.count)
    assert counts[1] <= counts[0] * 1.1


@pytest.mark.parametrize("kind", KEEPS)
def test_an_append_that_trims_nothing_looks_at_no_record(tmp_path: Path, kind: str) -> None:
    counts = []
    for count in (1000, 16_000):
        with filled(tmp_path / str(count), KEEPS[kind](count), count) as writer:
            append(writer)
            with steps(writer.connection) as done:
                counts.append((lines(lambda: append(writer)), done.count))
    assert counts[1][0] <= counts[0][0] * 1.1
    assert counts[1][1] == counts[0][1]


@pytest.mark.parametrize("kind", KEEPS)
def test_what_is_over_goes_over_several_commits_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(limits, "STORE_TRIM_ROWS", 50)
    with filled(tmp_path, KEEPS[kind](100), 400) as writer:
        assert append(writer) == ["a"]
        left = [records(writer)]
        while writer.commit().untrimmed:
            left.append(records(writer))
        assert left == [351, 301, 251, 201, 151]
        assert 100 <= records(writer) <= 125


def test_one_commit_lets_no_more_go_of_many_streams_than_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Writing(tmp_path) as writer:
        paths = [f"s/{number}" for number in range(6)]
        new = NewStream(retention=Retention(max_age=100))
        writer.commit(*(Create(path, new, None) for path in paths))
        writer.commit(*(AppendTo(path, Append(data=b"x"), None) for path in paths * 5))
        monkeypatch.setattr(limits, "STORE_TRIM_ROWS", 60)
        writer.clock.advance(126)
        # Each has five records, and costs as much as twenty more would.
        assert writer.commit(Trim(paths)).untrimmed == paths[3:]
        assert writer.commit().untrimmed == []
        assert [writer.cache.records[path].state.records for path in paths] == [0] * 6
    assert verify(writer.file) == []


def test_an_append_that_is_longer_than_what_is_kept_is_not_tried_again_and_again(
    tmp_path: Path,
) -> None:
    with filled(tmp_path, Retention(max_bytes=10), 2) as writer:
        long = AppendTo("a", Append(data=b"x" * 100), None)
        assert writer.commit(long).untrimmed == []
        assert records(writer) == 1
        assert writer.commit(Trim(["a"])).untrimmed == []


@pytest.mark.anyio
async def test_who_reads_meanwhile_sees_what_is_kept_go_forward_only(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STORE_TRIM_ROWS", 7)
    clock = StoreClock()
    async with SQLiteStore(file, clock=clock) as store:
        await store.create("a", NewStream(retention=Retention(max_age=100)))
        for _ in range(100):
            await store.append("a", Append(data=b"x"))
        clock.advance(126)
        firsts = [0]
        while firsts[-1] < 100:
            firsts.append((await store.read("a", Mark.BEGINNING)).start.position)
            assert firsts[-1] >= firsts[-2]
        await wait_until(lambda: store._writer._cache.records["a"].state.low == 100)
    assert verify(file) == []
