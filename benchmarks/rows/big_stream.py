"""A stream that is much larger than what the server may keep of it in memory."""

from __future__ import annotations

import hashlib

from benchmarks.apps import sources
from benchmarks.chunked import Dechunker
from benchmarks.client import discard
from benchmarks.measure import scaled
from benchmarks.report import Finding
from benchmarks.server import Server

GIB = 5
CHUNKS = GIB * 1024**3 // sources.BIG_CHUNK_BYTES
GROWTH_UNDER_BYTES = 16 * 1024 * 1024

PEER = "Starlette StreamingResponse"


def run(scale: float) -> list[Finding]:
    count = scaled(CHUNKS, scale)
    total = count * sources.BIG_CHUNK_BYTES
    path = f"/big?count={count}"
    # One transfer of each is measured. Ours is transferred a second time, to check its digest.
    with Server("benchmarks.apps.starlette_theirs:app") as theirs:
        their_growth, their_seconds = _grow(theirs, path)
    with Server("benchmarks.apps.starlette_ours:app") as ours:
        growth, seconds = _grow(ours, path)
        before = ours.memory().peak_bytes
        _verify(ours, path, count)
        growth += ours.memory().peak_bytes - before
    what = f"a stream of {total / 1024**3:.2f} GiB, sync generator of 64 KiB chunks"
    return [
        Finding(
            what=f"{what}: growth of the server's peak memory",
            peer=PEER,
            theirs=f"{their_growth / 1024**2:.1f} MB",
            ours=f"{growth / 1024**2:.1f} MB",
            ratio="",
            target="under 16 MB",
            holds=growth < GROWTH_UNDER_BYTES,
        ),
        Finding(
            what=f"{what}: throughput",
            peer=PEER,
            theirs=f"{total / their_seconds / 1e6:,.0f} MB/s",
            ours=f"{total / seconds / 1e6:,.0f} MB/s",
            ratio=f"{their_seconds / seconds:.1f}x",
            target="",
            holds=None,
        ),
    ]


def _grow(server: Server, path: str) -> tuple[int, float]:
    """The bytes by which one transfer raised the server's peak memory, and its seconds."""
    discard(server.port, "/numbers?count=100")
    before = server.memory().peak_bytes
    seconds = discard(server.port, path)
    return server.memory().peak_bytes - before, seconds


def _verify(server: Server, path: str, count: int) -> None:
    digest, expected = hashlib.sha256(), hashlib.sha256()
    parser = Dechunker(digest.update)
    discard(server.port, path, parser)
    parser.finish()
    for chunk in sources.big_chunks(count):
        expected.update(chunk)
    if digest.digest() != expected.digest():
        raise RuntimeError(f"{path} is not byte-equal to what the generator gave")
