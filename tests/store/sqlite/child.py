"""Another process that uses the same file: `python -m tests.store.sqlite.child FILE`.

It prints `ready`, then does what each line of standard input says, and ends with standard input.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import anyio

from tailrace.errors import TailraceError
from tailrace.store import Append, Change, Mark, NewStream, Producer
from tailrace.store.sqlite import SQLiteStore


def say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)  # noqa: T201 - its parent reads it


class Child:
    def __init__(self, store: SQLiteStore) -> None:
        self.store = store

    async def append(self, path: str, text: str, times: int = 1) -> None:
        for _ in range(times):
            await self.store.append(path, Append(data=text.encode()))
        say(done=times)

    async def produce(self, path: str, name: str, count: int) -> None:
        for number in range(count):
            append = Append(data=b"%s:%d," % (name.encode(), number))
            await self.store.append(
                path, Append(data=append.data, producer=Producer(name, 0, number))
            )
            say(acked=number)

    async def create(self, path: str, ttl: int | None = None) -> None:
        await self.store.create(path, NewStream(ttl=ttl))
        say(done=1)

    async def delete(self, path: str) -> None:
        await self.store.delete(path)
        say(done=1)

    async def close(self, path: str) -> None:
        await self.store.append(path, Append(close=True))
        say(done=1)

    async def read(self, path: str) -> None:
        try:
            say(data=(await self.store.read(path, Mark.BEGINNING)).data.decode())
        except TailraceError as error:
            say(error=type(error).__name__)

    async def watch(self, path: str) -> None:
        def on_change(change: Change) -> None:
            chunks = change.chunks
            text = None if chunks is None else b"".join(chunk.data for chunk in chunks).decode()
            say(told=change.tail.position, text=text, deleted=change.deleted, closed=change.closed)

        self.store.watch(path, on_change)
        say(done=1)


async def main(file: str) -> None:
    async with SQLiteStore(file) as store:
        child = Child(store)
        say(ready=True)
        lines = anyio.wrap_file(sys.stdin)
        async for line in lines:
            name, *arguments = json.loads(line)
            await getattr(child, name)(*arguments)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
