"""The names and arguments of sse-starlette 3.7, on top of Tailrace.

Put `tailrace.compat.` before each `sse_starlette` and remove the package: the same arguments are
accepted, and the same bytes are sent. docs/migrating.md says what is better, and what to change
when you have the time; docs/differences.md lists which of sse-starlette's own tests fail.
"""

from __future__ import annotations

from tailrace.compat.sse_starlette.event import JSONServerSentEvent, ServerSentEvent
from tailrace.compat.sse_starlette.sse import EventSourceResponse

__all__ = ["EventSourceResponse", "JSONServerSentEvent", "ServerSentEvent"]
