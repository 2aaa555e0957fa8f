"""A worker process for tests of runs: it starts a run, says so, and goes on until it is killed.

python -m tests.apps.worker URL PATH LEASE
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import anyio

from tailrace.streams import Streams


async def numbers() -> AsyncIterator[int]:
    n = 0
    while True:
        yield n
        n += 1
        await anyio.sleep(0.01)


async def main(url: str, path: str, lease: str) -> None:
    async with Streams(url, lease=int(lease)) as streams:
        run = await streams.run(path, numbers(), on_disconnect="continue")
        await anext(aiter(run))
        sys.stdout.write("running\n")
        sys.stdout.flush()
        await run.wait()


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])  # type: ignore[arg-type] # as many as it takes
