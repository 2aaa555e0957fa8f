"""Test your own streams: a live client, a clock that the test moves, and checks for leaks.

It works on asyncio and trio, through anyio, with any ASGI application. docs/testing.md shows it at
work; `tailrace.testing.plugin` has the pytest fixtures.
"""

from __future__ import annotations

from tailrace.testing._asgi import ResponseStart
from tailrace.testing._wire import Outcome, Sent
from tailrace.testing.client import WINDOW_BYTES, Client
from tailrace.testing.clock import Clock, settle, wait_until
from tailrace.testing.errors import BodyEnded, ClientGone, Leaked, ProtocolViolation, Truncated
from tailrace.testing.exchange import Exchange
from tailrace.testing.leaks import no_leaks
from tailrace.testing.source import Place, SourceProbe
from tailrace.testing.sse import EventParser, ReceivedEvent

__all__ = [
    "WINDOW_BYTES",
    "BodyEnded",
    "Client",
    "ClientGone",
    "Clock",
    "EventParser",
    "Exchange",
    "Leaked",
    "Outcome",
    "Place",
    "ProtocolViolation",
    "ReceivedEvent",
    "ResponseStart",
    "Sent",
    "SourceProbe",
    "Truncated",
    "no_leaks",
    "settle",
    "wait_until",
]
