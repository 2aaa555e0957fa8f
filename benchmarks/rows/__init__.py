"""The rows by name. Each module has `run(scale)`, which measures and returns the findings."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Final

from benchmarks.report import Finding

__all__ = ["ROWS", "load", "run"]

ROWS: Final = {
    "numbers": "200,000 lines from a sync generator",
    "file": "a 512 MB file through a sync generator of 1,024-byte chunks",
    "async": "200,000 small chunks from an async generator",
    "events": "20,000 events from a `yield` endpoint, and live events to 200 subscribers",
    "jsonlines": "20,000 JSON lines from a `yield` endpoint",
    "first": "the first byte, beside a bare ASGI application",
    "short": "a response of three chunks, and a file of 4 KiB",
    "idle": "the memory of 2,000 idle subscribers",
    "stalled": "one reader beside 500 clients that stopped reading",
    "big": "a stream of 5 GB: memory and throughput",
    "wholefile": "a 512 MB file from the page cache, beside nginx with sendfile",
    "attached": "a message to 1,000 SSE readers of a stream, beside nginx with Nchan",
    "pythonreaders": "an append to a stream that 500 tasks follow in Python",
    "idlestreams": "the memory of 5,000 idle readers of 5,000 streams, and an append to one",
    "stalledreaders": "a message to 900 readers beside 100 that stopped reading",
    "slow": "one fast client beside 1,000 at 10 KB/s",
    "cold": "an endpoint beside the download of a 2 GB file that is not in the page cache",
    "appends": "durable appends by 100 writers, beside the reference server of Durable Streams",
    "acrossworkers": "an append through one worker, and readers on the three others",
    "catchup": "reading streams from their beginning, beside the same",
    "growing": "appends, deletions and runs beside 1, 4 and 16 times as much that is only there",
}

_MODULES: Final = {
    "acrossworkers": "across_workers",
    "appends": "appends",
    "async": "async_chunks",
    "attached": "attached",
    "big": "big_stream",
    "catchup": "catch_up",
    "cold": "cold_file",
    "events": "events",
    "file": "file",
    "first": "first_byte",
    "growing": "growing",
    "idle": "idle_memory",
    "idlestreams": "idle_streams",
    "jsonlines": "json_lines",
    "numbers": "numbers",
    "pythonreaders": "python_readers",
    "short": "short_responses",
    "slow": "slow_clients",
    "stalled": "stalled_clients",
    "stalledreaders": "stalled_readers",
    "wholefile": "whole_file",
}


def run(name: str, scale: float) -> list[Finding]:
    """Measure one row.

    Args:
        name: A key of `ROWS`.
        scale: 1 for the full sizes, less for smaller ones.
    """
    return load(name)(scale)


def load(name: str) -> Callable[[float], list[Finding]]:
    """The `run` of a row's module; `name` is a key of `ROWS`."""
    script: Callable[[float], list[Finding]] = import_module(
        f"benchmarks.rows.{_MODULES[name]}"
    ).run
    return script
