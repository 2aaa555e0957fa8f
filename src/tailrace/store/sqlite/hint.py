"""What one process tells the others after a commit: one datagram, in bytes.

```
magic (4)  sender (8)  counter (8)  length of the list (4)  the list, as JSON  data of its chunks
```

The counter grows by one with each datagram to the same receiver: so the receiver sees that it
missed some. Who listens must not believe what cannot be: the directory of the sockets is the
owner's alone, but a parser that trusts is a hole all the same.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tailrace import limits
from tailrace.store.base import Change, Chunk
from tailrace.store.offset import Offset

__all__ = ["HEAD_BYTES", "MOST_BYTES", "Hint", "News", "body_of", "head_of", "parse"]

_HEAD: Final = struct.Struct("!4s8sQ")
_LENGTH: Final = struct.Struct("!I")
_MAGIC: Final = b"TRh1"

HEAD_BYTES: Final = _HEAD.size
MOST_BYTES: Final = 128 * 1024
"""Bytes of one datagram: below what the kernel takes by default (208 KiB)."""


@dataclass(frozen=True, slots=True)
class News:
    """What happened to one stream.

    Args:
        path: The stream.
        generation: Which one of that path.
        change: What to tell those who watch it.
    """

    path: str
    generation: int
    change: Change


@dataclass(frozen=True, slots=True)
class Hint:
    """One datagram.

    Args:
        sender: 8 bytes that its process drew.
        counter: How many it has sent to this receiver.
        news: What happened; None: too much to list, or nothing is known.
    """

    sender: bytes
    counter: int
    news: tuple[News, ...] | None


def head_of(sender: bytes, counter: int) -> bytes:
    """The part of a datagram that is each receiver's own."""
    return _HEAD.pack(_MAGIC, sender, counter)


def body_of(news: Sequence[News]) -> bytes:
    """The part of a datagram that all receivers share; empty if it would be too long.

    Data goes with it as long as it is small; what is left out is read from the file.
    """
    rows: list[list[Any]] = []
    data: list[bytes] = []
    room = limits.HINT_BYTES
    for item in news:
        change = item.change
        chunks = change.chunks
        lengths: list[list[int]] | None = None
        if chunks is not None:
            size = sum(len(chunk.data) for chunk in chunks)
            if size <= room:
                room -= size
                lengths = [
                    [len(chunk.data), chunk.end.generation, chunk.end.position] for chunk in chunks
                ]
                data += (chunk.data for chunk in chunks)
        start = change.start if lengths is not None else change.tail
        rows.append(
            [
                item.path,
                item.generation,
                [start.generation, start.position],
                [change.tail.generation, change.tail.position],
                lengths,
                change.closed,
                change.deleted,
            ]
        )
    text = json.dumps(rows, separators=(",", ":")).encode()
    body = b"".join((_LENGTH.pack(len(text)), text, *data))
    return body if HEAD_BYTES + len(body) <= MOST_BYTES else b""


def parse(datagram: bytes) -> Hint | None:
    """What a datagram says; None: it is none of ours."""
    if len(datagram) < HEAD_BYTES:
        return None
    magic, sender, counter = _HEAD.unpack_from(datagram)
    if magic != _MAGIC:
        return None
    body = datagram[HEAD_BYTES:]
    if not body:
        return Hint(sender, counter, None)
    try:
        (length,) = _LENGTH.unpack_from(body)
        begin = _LENGTH.size + length
        rows = json.loads(body[_LENGTH.size : begin])
        news = _Body(body[begin:]).news(rows)
    except (struct.error, ValueError, TypeError, RecursionError):
        return None
    return Hint(sender, counter, news)


class _Body:
    """Takes the chunks' data off, in order. Each method raises `ValueError` at what cannot be."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def news(self, rows: Any) -> tuple[News, ...]:
        found = tuple(self._one(*row) for row in _list(rows))
        if self._at != len(self._data):
            raise ValueError
        return found

    def _one(
        self,
        path: Any,
        generation: Any,
        start: Any,
        tail: Any,
        lengths: Any,
        closed: Any,
        deleted: Any,
    ) -> News:
        if type(path) is not str or type(closed) is not bool or type(deleted) is not bool:
            raise ValueError
        begin, end = _offset(*_list(start)), _offset(*_list(tail))
        chunks: tuple[Chunk, ...] | None = None
        if lengths is not None:
            chunks = self._chunks(_list(lengths), begin, end)
        return News(path, _count(generation), Change(end, begin, chunks, closed, deleted))

    def _chunks(self, lengths: list[Any], begin: Offset, end: Offset) -> tuple[Chunk, ...]:
        found: list[Chunk] = []
        position = begin.position
        for row in lengths:
            size, generation, at = (_count(number) for number in _list(row))
            position += size
            data = self._data[self._at : self._at + size]
            self._at += size
            if at != position or len(data) != size or not data:
                raise ValueError
            found.append(Chunk(data, Offset(generation, position)))
        if position != end.position:
            raise ValueError
        return tuple(found)


def _offset(generation: Any, position: Any) -> Offset:
    return Offset(_count(generation), _count(position))


def _list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise ValueError
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 10**16:
        raise ValueError
    return value
