"""The memory that an idle subscriber needs in the server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from benchmarks.measure import scaled
from benchmarks.report import Finding
from benchmarks.server import Server
from benchmarks.subscribers import Subscribers

SUBSCRIBERS = 2_000
WARM_UP = 20
UNDER_BYTES = 24 * 1024


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A side: its name, and the application with the idle stream."""

    name: str
    app: str


STARLETTE: Final = Endpoint("Starlette StreamingResponse", "starlette_theirs")
FASTAPI: Final = Endpoint("FastAPI EventSourceResponse", "fastapi_theirs")
SSE_STARLETTE: Final = Endpoint("sse-starlette", "sse_starlette_theirs")
OURS: Final = Endpoint("Tailrace in Starlette", "starlette_ours")
OURS_FASTAPI: Final = Endpoint("Tailrace in FastAPI", "fastapi_ours")


def run(scale: float) -> list[Finding]:
    count = scaled(SUBSCRIBERS, scale)
    each = {
        endpoint: _bytes_each(endpoint, count)
        for endpoint in (STARLETTE, OURS, FASTAPI, OURS_FASTAPI, SSE_STARLETTE)
    }
    what = f"memory of an idle subscriber, {count:,} of them"
    raw, ours, ours_fastapi = each[STARLETTE], each[OURS], each[OURS_FASTAPI]
    return [
        Finding(
            what=f"{what}, the same generator in Starlette",
            peer=STARLETTE.name,
            theirs=_told(raw),
            ours=_told(ours),
            ratio=f"{raw / ours:.2f}x",
            target="no more than theirs, under 24 KB",
            holds=ours <= raw and ours < UNDER_BYTES,
        ),
        *(
            Finding(
                what=f"{what}, `yield` endpoint in FastAPI",
                peer=peer.name,
                theirs=_told(each[peer]),
                ours=_told(ours_fastapi),
                ratio=f"{each[peer] / ours_fastapi:.2f}x",
                target="",
                holds=None,
            )
            for peer in (FASTAPI, SSE_STARLETTE)
        ),
    ]


def _bytes_each(endpoint: Endpoint, count: int) -> float:
    """Growth of the resident memory for each subscriber; each has received its first event."""
    # A new server for each, because memory that was used before and freed would hide the growth.
    with Server(f"benchmarks.apps.{endpoint.app}:app") as server:
        with Subscribers(server.port, "/idle", WARM_UP, first_event=True):
            server.settle()
        server.settle()
        before = server.memory().now_bytes
        with Subscribers(server.port, "/idle", count, first_event=True):
            server.settle()
            return (server.memory().now_bytes - before) / count


def _told(each_bytes: float) -> str:
    return f"{each_bytes / 1024:.1f} KB"
