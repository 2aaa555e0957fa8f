"""WebSocket frames: makes those of a client, and reads those of a server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from enum import IntEnum

__all__ = ["Opcode", "masked", "messages"]


class Opcode(IntEnum):
    TEXT = 1
    CLOSE = 8
    PING = 9
    PONG = 10


def masked(opcode: Opcode, payload: bytes, mask: bytes = b"") -> bytes:
    """One masked frame, as a client sends it; its payload has up to 64 KiB."""
    mask = mask or os.urandom(4)
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    data = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes([0x80 | opcode]) + length + mask + data


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The opcode and payload of each complete frame of a server.

    Raises:
        ValueError: These are not frames of a server without extensions.
    """
    while len(data) >= 2:
        first, size = data[0], data[1]
        if first & 0x70 or size & 0x80 or first & 0x0F not in (*Opcode, 0, 2):
            raise ValueError(f"not a frame of a server: {data[:40]!r}")
        at = 2
        if size > 125:
            wide = 2 if size == 126 else 8
            size = int.from_bytes(data[2 : 2 + wide], "big")
            at += wide
        if len(data) < at + size:
            return
        yield first & 0x0F, data[at : at + size]
        data = data[at + size :]
