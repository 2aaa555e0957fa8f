"""Bytes of a file that the server copies: the descriptor stays open as long as it is used."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anyio
import pytest

from tailrace.runtime import current_loop
from tailrace.source import Extent, Span, SpanSource, open_file, read_at
from tailrace.testing import no_leaks, settle

pytestmark = pytest.mark.anyio

CONTENT = bytes(at % 251 for at in range(1000))


class Taken:
    """A sink that always has room."""

    def __init__(self) -> None:
        self.items: list[bytes | Span] = []

    def put(self, item: Any) -> bool:
        self.items.append(item)
        return True

    async def room(self) -> None:
        raise AssertionError("there is room")

    def in_line(self, waits: bool) -> None:
        raise AssertionError("a file has no line")

    def room_in_thread(self, seconds: float) -> bool:
        raise AssertionError("no thread puts anything")

    @property
    def spans(self) -> list[Span]:
        return [item for item in self.items if isinstance(item, Span)]


def source_of(tmp_path: Path) -> SpanSource:
    path = tmp_path / "a.bin"
    path.write_bytes(CONTENT)
    pieces: list[bytes | Extent] = [b"head", Extent(0, 1000)]
    return SpanSource(open_file(str(path)), pieces, block_bytes=100, span_bytes=300)


async def test_no_more_than_two_spans_wait_and_the_last_block_is_read_when_all_are_over(
    tmp_path: Path,
) -> None:
    source, sink = source_of(tmp_path), Taken()
    async with no_leaks(), anyio.create_task_group() as group:
        group.start_soon(source.run, sink, current_loop())
        for over in range(3):
            await settle()
            assert len(sink.spans) == min(over + 2, 3)
            assert sink.items[-1] is sink.spans[-1]
            message = sink.spans[over].begin()
            assert (message["offset"], message["count"]) == (over * 300, 300)
            assert message["more_body"] is True
            assert read_at(message["file"], 300, over * 300) == CONTENT[over * 300 :][:300]
            sink.spans[over].end()
        await settle()
        assert sink.items[0] == b"head"
        assert sink.items[-1] == CONTENT[900:]
        await source.close()


async def test_closing_waits_for_a_span_that_the_server_uses(tmp_path: Path) -> None:
    source, sink = source_of(tmp_path), Taken()
    closed, interrupted = anyio.Event(), anyio.CancelScope()

    async def run() -> None:
        with interrupted:
            await source.run(sink, current_loop())
        await source.close()
        closed.set()

    async with no_leaks(), anyio.create_task_group() as group:
        group.start_soon(run)
        await settle()
        first, second = sink.spans
        descriptor = first.begin()["file"]
        interrupted.cancel()
        await settle()
        assert not closed.is_set()
        os.fstat(descriptor)
        first.end()
        with pytest.raises(OSError, match="closed"):
            second.begin()
        await closed.wait()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
