"""Tailrace's responses as `response_class` of FastAPI's `yield` endpoints."""

from __future__ import annotations

from benchmarks.apps import api
from tailrace import EventSourceResponse, JSONLinesResponse, StreamingResponse

app = api.build(streaming=StreamingResponse, events=EventSourceResponse, lines=JSONLinesResponse)
