"""What one process tells another after a commit: one datagram, in bytes.

```
magic (4)  sender (8)  counter (8)  length of the list (4)  the list, as JSON  data of its chunks
```

The counter grows by one with each datagram to the same receiver, so a receiver sees that it missed
some. A receiver rejects a datagram that makes no sense: only the owner can use the directory of the
sockets, but a parser that trusts its input is a security hole all the same.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tailrace import limits
from tailrace.store.values import Change, Chunk, Offset

__all__ = ["HEAD_BYTES", "MOST_BYTES", "Datagram", "body_of", "head_of", "parse"]

_HEAD: Final = struct.Struct("!4s8sQ")
_LENGTH: Final = struct.Struct("!I")
_MAGIC: Final = b"TRh2"

HEAD_BYTES: Final = _HEAD.size
MOST_BYTES: Final = 128 * 1024
"""The most bytes of one datagram: below what the kernel takes by default (208 KiB)."""


@dataclass(frozen=True, slots=True)
class Datagram:
    """One datagram.

    Args:
        sender: 8 random bytes of the process that sent it.
        counter: How many it has sent to this receiver.
        changes: What happened; None: too much to list, or the sender only says that datagrams were
            missed.
    """

    sender: bytes
    counter: int
    changes: tuple[Change, ...] | None


def head_of(sender: bytes, counter: int) -> bytes:
    """The part of a datagram that differs for each receiver."""
    return _HEAD.pack(_MAGIC, sender, counter)


def body_of(changes: Sequence[Change]) -> bytes:
    """The part of a datagram that is the same for all receivers; empty if it would be too long.

    Data of up to `limits.HINT_BYTES` in all is sent along; receivers read the rest from the file.
    """
    rows: list[list[Any]] = []
    data: list[bytes] = []
    room = limits.HINT_BYTES
    for change in changes:
        lengths: list[tuple[int, int]] | None = None
        if change.chunks is not None:
            size = sum(len(chunk.data) for chunk in change.chunks)
            if size <= room:
                room -= size
                lengths = [(len(chunk.data), chunk.end.generation) for chunk in change.chunks]
                data += (chunk.data for chunk in change.chunks)
        start, tail = change.start if lengths is not None else change.tail, change.tail
        numbers = (
            change.generation,
            start.generation,
            start.position,
            tail.generation,
            tail.position,
        )
        rows.append([change.path, change.closed, change.deleted, numbers, lengths])
    text = json.dumps(rows, separators=(",", ":")).encode()
    body = b"".join((_LENGTH.pack(len(text)), text, *data))
    return body if HEAD_BYTES + len(body) <= MOST_BYTES else b""


def parse(data: bytes) -> Datagram | None:
    """Parse a datagram; None if it is not one of ours, or makes no sense."""
    if len(data) < HEAD_BYTES:
        return None
    magic, sender, counter = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        return None
    body = data[HEAD_BYTES:]
    if not body:
        return Datagram(sender, counter, None)
    try:
        (length,) = _LENGTH.unpack_from(body)
        begin = _LENGTH.size + length
        rows = json.loads(body[_LENGTH.size : begin])
        return Datagram(sender, counter, _Body(body[begin:]).changes(rows))
    except (struct.error, ValueError, TypeError, RecursionError):
        return None


class _Body:
    """Reads a body: takes the data of each chunk from it, in order.

    Each method raises `ValueError` or `TypeError` for what makes no sense.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def changes(self, rows: Any) -> tuple[Change, ...]:
        found = tuple(self._change(*row) for row in _list(rows))
        if self._at != len(self._data):
            raise ValueError
        return found

    def _change(self, path: Any, closed: Any, deleted: Any, numbers: Any, lengths: Any) -> Change:
        if type(path) is not str or type(closed) is not bool or type(deleted) is not bool:
            raise ValueError
        generation, *places = (_count(number) for number in _list(numbers))
        start, tail = Offset(*places[:2]), Offset(*places[2:])
        chunks = None if lengths is None else self._chunks(_list(lengths), start, tail)
        return Change(path, generation, tail, start, chunks, closed, deleted)

    def _chunks(self, lengths: list[Any], start: Offset, tail: Offset) -> tuple[Chunk, ...]:
        found: list[Chunk] = []
        position = start.position
        for row in lengths:
            size, generation = (_count(number) for number in _list(row))
            data = self._data[self._at : self._at + size]
            if len(data) != size or not data:
                raise ValueError
            self._at += size
            position += size
            found.append(Chunk(data, Offset(generation, position)))
        if position != tail.position:
            raise ValueError
        return tuple(found)


def _list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise ValueError
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 10**16:
        raise ValueError
    return value
