"""The states of a connection, which decide what is done with its input. Pure.

One request of a connection is parsed and answered at a time. So the state of a connection is that
of its last request:

| state | the request | its response | the input |
|---|---|---|---|
| HEAD | none, or a part of its head | none | is parsed; the head has a bound |
| BODY | its body is coming | open | is parsed, up to the end of the body |
| ANSWERING | it is complete | open | is kept as it is, and not parsed |
| LINGERING | its body is coming | complete | is parsed, up to the end of the body |
| ENDING | its body is coming | complete, and the last | the same; our side has ended |
| CLOSING | does not matter | complete, and the last | is thrown away; our side has ended |

A connection whose transport is closing has no state: it does nothing any more.

Why only our side has ended in two of the states: a connection that is closed while input is unread
is reset, and a reset overtakes the answers that are on their way. A client that sends first and
reads later would get an error instead of them (RFC 9112 9.6). Under TLS one side cannot end alone:
there CLOSING closes the connection at once, and TLS reads what still comes while it closes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

__all__ = [
    "ANSWERING",
    "BODY",
    "CLOSING",
    "ENDING",
    "HEAD",
    "LINGERING",
    "ConnectionEvent",
    "ConnectionState",
    "after",
]


class ConnectionEvent(Enum):
    """What happens to a connection."""

    HEAD = "a request's head is complete"
    REQUEST = "all of a request is here"
    ANSWERED = "a response is complete, and the connection is kept"
    LAST = "the connection ends with the response that is complete"
    BROKEN = "what came is not HTTP"

    __hash__ = object.__hash__  # looked up three times for each request: Enum's own is slow


@dataclass(frozen=True, slots=True, eq=False)  # so it is compared, and looked up, by identity
class ConnectionState:
    """One row of the table.

    Args:
        name: The name in error messages.
        is_open: A response is open.
        lingers: No response is open, and input is still read after the one that is complete.
    """

    name: str
    is_open: bool = False
    lingers: bool = False


HEAD: Final = ConnectionState("head")
BODY: Final = ConnectionState("body", is_open=True)
ANSWERING: Final = ConnectionState("answering", is_open=True)
LINGERING: Final = ConnectionState("lingering", lingers=True)
ENDING: Final = ConnectionState("ending", lingers=True)
CLOSING: Final = ConnectionState("closing", lingers=True)

_AFTER: Final[dict[ConnectionEvent, dict[ConnectionState, ConnectionState]]] = {
    ConnectionEvent.HEAD: {HEAD: BODY},
    ConnectionEvent.REQUEST: {BODY: ANSWERING, LINGERING: HEAD, ENDING: CLOSING},
    ConnectionEvent.ANSWERED: {BODY: LINGERING, ANSWERING: HEAD},
    ConnectionEvent.LAST: {
        HEAD: CLOSING,
        BODY: ENDING,
        ANSWERING: CLOSING,
        LINGERING: ENDING,
        ENDING: ENDING,
        CLOSING: CLOSING,
    },
    # Not BODY and ANSWERING: while a response is open, the connection is cut instead.
    ConnectionEvent.BROKEN: {HEAD: CLOSING, LINGERING: CLOSING, ENDING: CLOSING, CLOSING: CLOSING},
}


def after(state: ConnectionState, event: ConnectionEvent) -> ConnectionState:
    """The state after an event.

    Raises:
        RuntimeError: The event cannot happen in this state.
    """
    following = _AFTER[event].get(state)
    if following is None:
        raise RuntimeError(f"{event.value}, but the connection's state was {state.name!r}")
    return following
