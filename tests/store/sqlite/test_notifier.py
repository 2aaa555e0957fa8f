"""What is watched is compared with the file, some streams at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailrace import limits
from tailrace.store import Append, NewStream
from tailrace.store.base import Watchers
from tailrace.store.sqlite.batch import Operation, Task
from tailrace.store.sqlite.notifier import Notifier
from tailrace.store.values import Change, Chunk
from tests.store.sqlite.writing import Writing
from tests.store.work import steps

COUNT = 50


def watching(writer: Writing, count: int) -> Notifier:
    """Streams that are watched, and of which all is told."""
    watchers = Watchers()
    notifier = Notifier(watchers, writer.accesses, writer.clock)
    paths = [f"s/{number}" for number in range(count)]
    writer.commit(*(Operation(NewStream(), path) for path in paths))
    for path in paths:
        watchers.add(path, lambda _change: None)
        notifier.see(writer.cache.streams[path].state)
    return notifier


def append_to_all(writer: Writing) -> None:
    writer.commit(*(Operation(Append(data=b"x"), path) for path in writer.cache.streams))


def test_all_are_compared_over_some_calls_after_a_change_and_none_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SAFETY_STREAMS", 20)
    with Writing(tmp_path) as writer:
        notifier = watching(writer, COUNT)
        assert not notifier.compare_next(writer.connection, changed=False)
        append_to_all(writer)
        told = []
        for changed in (True, False, False, False):
            changes = notifier.compare_next(writer.connection, changed)
            notifier.tell(changes)
            told.append(len(changes))
        assert told == [20, 20, 10, 0]


def test_what_changes_while_a_round_goes_on_is_found_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SAFETY_STREAMS", 20)
    with Writing(tmp_path) as writer:
        notifier = watching(writer, COUNT)
        notifier.compare_next(writer.connection, changed=True)
        append_to_all(writer)
        told = []
        for changed in (True, True, False, False, False):
            changes = notifier.compare_next(writer.connection, changed)
            notifier.tell(changes)
            told.append(len(changes))
        assert told == [20, 10, 20, 0, 0]


def test_what_became_of_a_stream_that_had_this_path_before_is_not_told_of_the_new_one(
    tmp_path: Path,
) -> None:
    with Writing(tmp_path) as writer:
        writer.commit(Operation(NewStream(), "s"))
        before = writer.cache.streams["s"].state
        grown = writer.commit(Operation(Append(data=b"x"), "s")).changes
        deleted = writer.commit(Operation(Task.DELETE, "s")).changes
        created = writer.commit(Operation(NewStream(), "s")).changes
        watchers = Watchers()
        notifier = Notifier(watchers, writer.accesses, writer.clock)
        told: list[Change] = []
        watchers.add("s", told.append)
        notifier.see(writer.cache.streams["s"].state)  # read before it is told
        notifier.tell([*grown, *deleted, *created])
        assert not told
        assert writer.cache.streams["s"].state.generation > before.generation
        notifier.tell(writer.commit(Operation(Append(data=b"y"), "s")).changes)
        assert [change.chunks for change in told] == [(Chunk(b"y", told[0].tail),)]


def test_a_look_costs_the_same_beside_more_streams_than_it_compares(tmp_path: Path) -> None:
    counts = []
    for count in (1000, 4000):
        with Writing(tmp_path / str(count)) as writer:
            notifier = watching(writer, count)
            with steps(writer.connection) as done:
                notifier.compare_next(writer.connection, changed=True)
            counts.append(done.count)
    assert counts[0] == counts[1]
