"""Many tasks that read one stream in Python, and the cost of a delivery to one of them.

`python -m benchmarks.readers READERS APPENDS ROUNDS FILE`: it prints a line of JSON for each round,
with the seconds of CPU for one delivery and the number of reads of the store for one append.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, Final

from tailrace import Streams

__all__ = ["READS"]

READS: Final = ("read", "head")
TEXT: Final = "x" * 80


class Readers:
    """Tasks that follow one stream, each in an `async for`."""

    def __init__(self, streams: Streams, count: int) -> None:
        self._streams = streams
        self._wanted = 0
        self._missing = 0
        self._all_have_it = asyncio.Event()
        self._count = count
        self.tasks = [asyncio.create_task(self._follow()) for _ in range(count)]

    async def _follow(self) -> None:
        async for message in self._streams.read("s", "now", follow=True):
            if message.data["n"] != self._wanted:
                raise RuntimeError("a reader did not get each message once and in order")
            self._missing -= 1
            if not self._missing:
                self._all_have_it.set()

    async def deliver(self, number: int) -> None:
        """Append an item, and wait until all readers have it."""
        self._wanted, self._missing = number, self._count
        self._all_have_it.clear()
        await self._streams.append("s", {"n": number, "text": TEXT})
        async with asyncio.timeout(30):
            await self._all_have_it.wait()


async def main(readers: int, appends: int, rounds: int, file: str) -> None:
    async with Streams(f"sqlite:///{file}") as streams:
        await streams.append("s", {"n": -1})
        asked = [0]
        store = await streams.store()
        for name in READS:
            setattr(store, name, counted(getattr(store, name), asked))
        here = Readers(streams, readers)
        await asyncio.sleep(1)  # until all of them wait at the tail
        await here.deliver(0)
        for number in range(rounds):
            before, asked[0] = time.process_time(), 0
            for n in range(appends):
                await here.deliver(number * appends + n + 1)
            cpu = (time.process_time() - before) / appends / readers
            print(json.dumps([cpu, asked[0] / appends]), flush=True)
        for task in here.tasks:
            task.cancel()
        await asyncio.gather(*here.tasks, return_exceptions=True)


def counted(call: Callable[..., Awaitable[Any]], asked: list[int]) -> Callable[..., Awaitable[Any]]:
    @wraps(call)
    def counting(*args: Any, **options: Any) -> Awaitable[Any]:
        asked[0] += 1
        return call(*args, **options)

    return counting


if __name__ == "__main__":
    counts, database = sys.argv[1:4], sys.argv[4]
    asyncio.run(main(int(counts[0]), int(counts[1]), int(counts[2]), database))
