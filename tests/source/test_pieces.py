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
from tests.source.gathered import Gathered

pytestmark = pytest.mark.anyio

CONTENT = bytes(at % 251 for at in range(1000))


class Taken(Gathered):
    """A sink that sends a span when it is asked for room.

    Args:
        stalls: The client takes nothing.
    """

    def __init__(self, *, stalls: bool = False) -> None:
        super().__init__()
        self._stalls = stalls

    def put(self, item: Any) -> bool:
        if isinstance(item, Span):
            item = item.message()
            assert item["count"] == 300
            assert item["more_body"] is True
            at = item["offset"]
            assert read_at(item["file"], 300, at) == CONTENT[at : at + 300]
        super().put(item)
        return not isinstance(item, dict)

    async def room(self) -> None:
        assert isinstance(self.items[-1], dict)
        if self._stalls:
            await anyio.sleep_forever()


def source_of(tmp_path: Path) -> SpanSource:
    path = tmp_path / "a.bin"
    path.write_bytes(CONTENT)
    pieces: list[bytes | Extent] = [b"head", Extent(0, 1000)]
    return SpanSource(open_file(str(path)), pieces, block_bytes=100, span_bytes=300)


async def test_each_span_is_sent_before_the_source_goes_on_and_the_last_block_is_read(
    tmp_path: Path,
) -> None:
    source, sink = source_of(tmp_path), Taken()
    async with no_leaks():
        await source.run(sink, current_loop())
        await source.close()
    sent = [item["offset"] if isinstance(item, dict) else item for item in sink.items]
    assert sent == [b"head", 0, 300, 600, CONTENT[900:]]


async def test_one_that_is_interrupted_while_a_span_is_sent_closes_the_file_behind_it(
    tmp_path: Path,
) -> None:
    source, sink = source_of(tmp_path), Taken(stalls=True)
    interrupted = anyio.CancelScope()

    async def run() -> None:
        with interrupted:
            await source.run(sink, current_loop())

    async with no_leaks(), anyio.create_task_group() as group:
        group.start_soon(run)
        await settle()
        (message,) = sink.items[1:]
        os.fstat(message["file"])
        interrupted.cancel()
        await settle()
        os.fstat(message["file"])
        await source.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(message["file"])
