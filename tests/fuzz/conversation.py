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
    """The mark of a conversation: no other's answers may contain it."""
    return f"mk{seed & 0xFFFF:04x}{number & 0xFFFFFFFF:08x}"


class Ends(Enum):
    """Whether the answer to a request ends the connection."""

    NO = "no"
    """The request is answered, and so is the next one."""
    MAY = "may"
    """The server may refuse the request, or not answer it, if it then closes the connection."""
    MUST = "must"
    """Nothing that comes after the request may be answered."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, right or wrong, and the answers that are allowed.

    Attributes:
        kind: A name for reports.
        raw: Its bytes. For a wrong one also the bytes after it that a server could take for another
            request.
        method: Its method, on which the framing of the answer depends.
        number: Its place in the conversation, which `x-answers` repeats.
        statuses: The allowed statuses of the final answer.
        body: The body of a 2xx, or what it must match; None if it is not known.
        interim: The statuses of informational answers that may come before.
        ends: Whether the answer ends the connection.
        frames: For a handshake that is accepted: the payloads of the server's frames, in order.
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
    """Wait until so many answers are complete in all, or the connection has ended."""

    answers: int


@dataclass(frozen=True, slots=True)
class AwaitBytes:
    """Wait until so many bytes came in all, or the connection has ended, or a moment is over."""

    count: int


@dataclass(frozen=True, slots=True)
class AwaitFrames:
    """Wait until so many text frames came in all, or the connection has ended."""

    count: int


@dataclass(frozen=True, slots=True)
class Stall:
    """Read nothing for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class HalfClose:
    """End the client's side; it still reads."""


@dataclass(frozen=True, slots=True)
class Close:
    """Leave with a FIN. If there is unread data, the kernel sends an RST instead."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Leave with an RST."""


Step = Send | Pause | Await | AwaitBytes | AwaitFrames | Stall | HalfClose | Close | Reset


@dataclass(frozen=True, slots=True)
class Conversation:
    """What one connection does.

    Attributes:
        seed, number: What it was made from.
        mark: Its mark.
        requests: The requests, in the order in which they are sent.
        steps: What the client does. The `Send` steps have the bytes of the requests.
        excused_from: The first request that need not be answered although the client stays: a wrong
            request came before its answer was complete, and the server may close the connection.
        small_buffer: The client's receive buffer is very small.
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
        """Whether the client leaves before it has all answers."""
        return any(isinstance(step, Close | Reset) for step in self.steps)

    @property
    def half_closes(self) -> bool:
        """Whether the client ends its side before it has all answers."""
        return any(isinstance(step, HalfClose) for step in self.steps)

    @property
    def kinds(self) -> str:
        return ", ".join(request.kind for request in self.requests)
