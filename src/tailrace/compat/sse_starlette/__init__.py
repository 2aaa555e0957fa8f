"""sse-starlette's names and arguments (of its version 3.7), over Tailrace.

Put `tailrace.compat.` before each `sse_starlette`, and remove the package: what it takes is taken,
and what it sends is sent, to the byte. docs/migrating.md says what is better, and what to change
when you have the time; docs/differences.md lists where its own tests fail.
"""

from __future__ import annotations

from tailrace.compat.sse_starlette.event import JSONServerSentEvent, ServerSentEvent
from tailrace.compat.sse_starlette.sse import EventSourceResponse

__all__ = ["EventSourceResponse", "JSONServerSentEvent", "ServerSentEvent"]
