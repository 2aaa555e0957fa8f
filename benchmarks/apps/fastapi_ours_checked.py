"""Tailrace's responses with `StreamRoute` in FastAPI: items are validated, as by FastAPI itself."""

from __future__ import annotations

from benchmarks.apps import api
from tailrace import EventSourceResponse, JSONLinesResponse, StreamingResponse, StreamRoute

app = api.build(
    streaming=StreamingResponse,
    events=EventSourceResponse,
    lines=JSONLinesResponse,
    route_class=StreamRoute,
)
