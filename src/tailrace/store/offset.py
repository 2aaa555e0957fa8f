"""A position in a stream, as a token that clients keep and give back.

A token is a generation and a byte position, each of 16 digits: tokens of one stream sort as its
bytes do. The generation is the microsecond in which the stream (or the fork that owns the byte)
was created, so a token is never good for other bytes than those it was given for: of a stream that
was deleted and created again, an old token is refused instead of pointing somewhere into new data.
The position before all bytes is the same for every stream.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from tailrace.errors import InvalidOffset

__all__ = ["START", "Mark", "Offset", "Where"]

_TOKEN: Final = re.compile(r"([0-9]{16})_([0-9]{16})", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Offset:
    """A position in a stream.

    Args:
        generation: Microseconds since the epoch at which the owner of the byte before was created;
            0 before all bytes.
        position: Bytes before it.
    """

    generation: int
    position: int

    def __str__(self) -> str:
        return f"{self.generation:016d}_{self.position:016d}"

    @classmethod
    def parse(cls, token: str) -> Offset:
        """The offset that a token stands for.

        Raises:
            InvalidOffset: It was never given out by a server of ours.

        Source: Durable Streams 8.
        """
        match = _TOKEN.fullmatch(token)
        if match is None:
            raise InvalidOffset(token)
        return cls(int(match[1]), int(match[2]))


START: Final = Offset(0, 0)
"""Before all bytes of any stream."""


class Mark(Enum):
    """A place in a stream that has a name instead of a position."""

    BEGINNING = "-1"
    """The earliest byte that is retained."""
    TAIL = "now"
    """After the last byte."""


Where = Offset | Mark
"""A place in a stream from which it is read."""
