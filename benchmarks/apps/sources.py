"""The sources that are streamed, the same for every side.

The client imports them too, so that it knows which bytes must arrive.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from typing import Final

FILE_VARIABLE: Final = "TAILRACE_BENCH_FILE"
"""The environment variable with the path of the file to send."""

FILE_CHUNK_BYTES: Final = 1024
BIG_CHUNK_BYTES: Final = 64 * 1024
STALL_CHUNK_BYTES: Final = 4 * 1024
FIRST_BYTE_PAUSE: Final = 0.02

FIRST: Final = b"first\n"
SECOND: Final = b"second\n"
SHORT: Final = (b"one\n", b"two\n", b"three\n")
IDLE_EVENT: Final = b'data: {"hello":"world"}\n\n'


def numbers(count: int) -> Iterator[str]:
    for i in range(count):
        yield f"Number {i}\n"


async def numbers_async(count: int) -> AsyncIterator[str]:
    for i in range(count):
        yield f"Number {i}\n"


async def numbers_with_turns(count: int) -> AsyncIterator[str]:
    """An async source that lets the event loop run other tasks after each item."""
    for i in range(count):
        yield f"Number {i}\n"
        await asyncio.sleep(0)


def file_chunks() -> Iterator[bytes]:
    with open(os.environ[FILE_VARIABLE], "rb") as file:
        while chunk := file.read(FILE_CHUNK_BYTES):
            yield chunk


def big_chunks(count: int) -> Iterator[bytes]:
    """Chunks of 64 KiB that differ in their first 8 bytes, so a lost or repeated one is found."""
    rest = bytes(range(256)) * (BIG_CHUNK_BYTES // 256)
    for i in range(count):
        yield i.to_bytes(8, "big") + rest[8:]


def stall_chunks(total_bytes: int) -> Iterator[bytes]:
    chunk = b"s" * STALL_CHUNK_BYTES
    for _ in range(total_bytes // STALL_CHUNK_BYTES):
        yield chunk


async def first_then_wait() -> AsyncIterator[bytes]:
    yield FIRST
    await asyncio.sleep(FIRST_BYTE_PAUSE)
    yield SECOND


def first_then_wait_sync() -> Iterator[bytes]:
    yield FIRST
    time.sleep(FIRST_BYTE_PAUSE)
    yield SECOND


async def short() -> AsyncIterator[bytes]:
    for chunk in SHORT:
        yield chunk


def short_sync() -> Iterator[bytes]:
    yield from SHORT


async def one_then_idle() -> AsyncIterator[bytes]:
    """One event as bytes, then silence: the source of an idle subscriber."""
    yield IDLE_EVENT
    async for _ in never():
        yield b""


async def never() -> AsyncIterator[None]:
    """Ends only when it is closed or cancelled."""
    await asyncio.Event().wait()
    yield None
