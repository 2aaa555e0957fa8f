"""FastAPI's own SSE and JSON Lines, and Starlette's StreamingResponse in FastAPI."""

from __future__ import annotations

from fastapi.sse import EventSourceResponse
from starlette.responses import StreamingResponse

from benchmarks.apps import api

app = api.build(streaming=StreamingResponse, events=EventSourceResponse, lines=None)
