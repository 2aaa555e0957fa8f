"""Tailrace's StreamingResponse in a Starlette application."""

from __future__ import annotations

from benchmarks.apps import plain
from tailrace import StreamingResponse

app = plain.build(StreamingResponse)
