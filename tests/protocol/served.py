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
"""Bytes of one append below /small."""

BODY_TIMEOUT = 0.5
"""Seconds without a byte of a body below /small."""

SEND_TIMEOUT = 0.5
"""Seconds in which a client of /small must take something of a large answer."""

_hub = Hub(MemoryStore())

app = Starlette(
    routes=[
        Mount("/v1/stream", DurableStreams(_hub)),
        # The same streams, for clients that are served with less patience.
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
