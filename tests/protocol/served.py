"""Streams for tests that need a real socket."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import Mount

from tailrace.live import Hub
from tailrace.protocol import DurableStreams, ProtocolOptions
from tailrace.store import MemoryStore
from tailrace.types import StreamOptions

__all__ = ["BODY_TIMEOUT", "MOST", "SEND_TIMEOUT", "app"]

MOST = 1000
"""The largest append below /small, in bytes."""

BODY_TIMEOUT = 0.5
"""Seconds that a request's body below /small may pause."""

SEND_TIMEOUT = 0.5
"""Seconds in which a client of /small must take some bytes of a large answer."""

_hub = Hub(MemoryStore())

app = Starlette(
    routes=[
        Mount("/v1/stream", DurableStreams(_hub)),
        # The same streams, with lower limits and shorter timeouts.
        Mount(
            "/small",
            DurableStreams(
                _hub,
                ProtocolOptions(
                    max_append_bytes=MOST,
                    body_timeout=BODY_TIMEOUT,
                    long_poll_timeout=0.3,
                    stream=StreamOptions(send_timeout=SEND_TIMEOUT),
                ),
            ),
        ),
    ]
)
