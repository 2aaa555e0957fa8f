"""What one connection does: its requests, and the steps in which it sends and leaves."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

__all__ = [
    "MARK",
    "Await",
    "AwaitBytes",
    "AwaitFrames",
    "Close",
    "Conversation",
    "Ends",
    "HalfClose",
    "Pause",
    "Request",
    "Reset",
    "Send",
    "Stall",
    "Step",
    "mark_of",
]

MARK = re.compile(rb"mk[0-9a-f]{12}")


def mark_of(seed: int, number: int) -> str:
    """What only this conversation's answers may hold."""
    return f"mk{seed & 0xFFFF:04x}{number & 0xFFFFFFFF:08x}"


class Ends(Enum):
    """What becomes of the connection with the answer to a request."""

    NO = "no"
    """It is answered, and the next one too."""
    MAY = "may"
    """The server may refuse it, or not answer it, if it then closes the connection."""
    MUST = "must"
    """Nothing that comes behind it may be answered."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, right or wrong, and the answers that are right.

    Attributes:
        kind: A name for reports.
        raw: Its bytes; of a wrong one also those behind it that might be taken for another.
        method: What an answer's framing depends on.
        number: Its place in the conversation, which `x-answers` repeats.
        statuses: Of the final answer.
        body: What the body of a 2xx has to be or to match; None where nothing is known of it.
        interim: Informational answers that may come before.
        frames: Of a handshake that is taken: what the server's frames hold, in order.
    """

    kind: str
    raw: bytes
    method: str
    number: int
    statuses: frozenset[int]
    body: bytes | re.Pattern[bytes] | None = None
    ends: Ends = Ends.NO
    interim: frozenset[int] = frozenset()
    frames: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Send:
    data: bytes


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


@dataclass(frozen=True, slots=True)
class Await:
    """Wait for so many final answers in all, or for the end of the connection."""

    answers: int


@dataclass(frozen=True, slots=True)
class AwaitBytes:
    """Wait for so many bytes in all, or for the end of the connection, or a moment."""

    count: int


@dataclass(frozen=True, slots=True)
class AwaitFrames:
    """Wait for so many text frames in all, or for the end of the connection."""

    count: int


@dataclass(frozen=True, slots=True)
class Stall:
    """Read nothing for a while."""

    seconds: float


@dataclass(frozen=True, slots=True)
class HalfClose:
    """Send nothing more, and still read."""


@dataclass(frozen=True, slots=True)
class Close:
    """Leave, with a FIN or with what the kernel makes of unread data."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Leave, with an RST."""


Step = Send | Pause | Await | AwaitBytes | AwaitFrames | Stall | HalfClose | Close | Reset


@dataclass(frozen=True, slots=True)
class Conversation:
    """What one connection does.

    Attributes:
        requests: In the order in which they are sent; the bytes of the `Send` steps are theirs.
        excused_from: The first request that need not be answered though the client stays: a wrong
            one came while it was open, for which the server may give the connection up.
        small_buffer: The client's receive buffer is as small as can be.
    """

    seed: int
    number: int
    mark: str
    requests: tuple[Request, ...]
    steps: tuple[Step, ...]
    excused_from: int | None = None
    small_buffer: bool = False

    @property
    def leaves(self) -> bool:
        """Whether the client goes before it has its answers."""
        return any(isinstance(step, Close | Reset) for step in self.steps)

    @property
    def half_closes(self) -> bool:
        """Whether the client ends its side before it has its answers."""
        return any(isinstance(step, HalfClose) for step in self.steps)

    @property
    def kinds(self) -> str:
        return ", ".join(request.kind for request in self.requests)
