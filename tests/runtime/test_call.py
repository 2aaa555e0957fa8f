"""One call in a thread."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import anyio
import pytest

from tailrace.runtime import call_in_thread
from tailrace.source import OpenFile, open_file
from tailrace.testing import no_leaks, wait_until

pytestmark = pytest.mark.anyio


def nothing(_: object) -> None:
    """There is nothing to close."""


async def test_a_call_gives_what_its_function_gives() -> None:
    async with no_leaks():
        name = await call_in_thread(lambda: threading.current_thread().name, nothing)
    assert name.startswith("tailrace-short")


async def test_a_call_raises_what_its_function_raises() -> None:
    async with no_leaks():
        with pytest.raises(ZeroDivisionError):
            await call_in_thread(lambda: 1 / 0, nothing)


async def test_a_cancelled_call_is_not_waited_for_and_its_result_is_discarded(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a"
    path.touch()
    begun, go_on = threading.Event(), threading.Event()
    discarded: list[OpenFile] = []

    def slow_open() -> OpenFile:
        begun.set()
        go_on.wait()
        return open_file(str(path))

    def discard(file: OpenFile) -> None:
        file.close()
        discarded.append(file)

    async with no_leaks():
        async with anyio.create_task_group() as group:
            group.start_soon(call_in_thread, slow_open, discard)
            await wait_until(begun.is_set)
            group.cancel_scope.cancel()
        assert not discarded
        go_on.set()
        while not discarded:
            await anyio.sleep(0)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(discarded[0].descriptor)
