"""A process that appends to a store until it is killed.

    python -m tests.crash.worker URL '{"producer": [path, next sequence], ...}'

All its producers append at the same time, so a kill mostly hits a commit of several appends. It
prints a line for each acknowledgement: the producer, its sequence, the position after the append.
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
    """The data of a producer's append with this sequence."""
    return f"{name} {seq} {'x' * (seq * 7919 % 300)}\n".encode()


async def append_on(store: Store, name: str, path: str, seq: int) -> None:
    for number in itertools.count(seq):
        producer = Producer(name, 0, number)
        done = await store.append(path, Append(data=message(name, number), producer=producer))
        end = "" if done.duplicate else done.tail.position
        # One write, shorter than a page of the pipe, so that a kill does not tear it.
        os.write(1, f"{name} {number} {end}\n".encode())


async def main(url: str, producers: dict[str, tuple[str, int]]) -> None:
    async with open_store(url) as store, anyio.create_task_group() as group:
        for name, (path, seq) in producers.items():
            group.start_soon(append_on, store, name, path, seq)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], json.loads(sys.argv[2]))
