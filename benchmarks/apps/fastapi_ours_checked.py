"""Tailrace in FastAPI with its route class: items are validated, as FastAPI's own streams do."""

from __future__ import annotations

from benchmarks.apps import api
from tailrace import EventSourceResponse, JSONLinesResponse, StreamingResponse, StreamRoute

app = api.build(
    streaming=StreamingResponse,
    events=EventSourceResponse,
    lines=JSONLinesResponse,
    route_class=StreamRoute,
)
