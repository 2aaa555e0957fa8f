"""A process that appends to a store until it is killed.

    python -m tests.crash.worker URL '{"producer": [path, next sequence], ...}'

All its producers append at once, so that what is killed is mostly a commit of many. It prints a
line for each acknowledgement: the producer, its sequence, the position after it.
"""

from __future__ import annotations

import itertools
import json
import os
import sys

import anyio

from tailrace.store import Append, Producer, Store, open_store

__all__ = ["message"]


def message(name: str, seq: int) -> bytes:
    """What a producer appends with a sequence."""
    return f"{name} {seq} {'x' * (seq * 7919 % 300)}\n".encode()


async def append_on(store: Store, name: str, path: str, seq: int) -> None:
    for number in itertools.count(seq):
        producer = Producer(name, 0, number)
        done = await store.append(path, Append(data=message(name, number), producer=producer))
        end = "" if done.duplicate else done.tail.position
        # One write of less than a page of the pipe: a kill does not tear it.
        os.write(1, f"{name} {number} {end}\n".encode())


async def main(url: str, producers: dict[str, tuple[str, int]]) -> None:
    async with open_store(url) as store, anyio.create_task_group() as group:
        for name, (path, seq) in producers.items():
            group.start_soon(append_on, store, name, path, seq)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], json.loads(sys.argv[2]))
