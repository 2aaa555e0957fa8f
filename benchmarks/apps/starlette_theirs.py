"""Starlette's own StreamingResponse."""

from __future__ import annotations

from starlette.responses import StreamingResponse

from benchmarks.apps import plain

app = plain.build(StreamingResponse)
