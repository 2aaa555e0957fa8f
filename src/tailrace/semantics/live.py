"""What keeps caches and proxies from holding a stream back, or giving it to somebody else.

A cache keeps what says nothing: Varnish for 120 s, for every client. nginx holds a response back
until a buffer is full, unless the response says that it is not to.

Source: RFC 9111 3, 5.2.2.5 (no-store); nginx, `X-Accel-Buffering`.
"""

from __future__ import annotations

from typing import Final

__all__ = ["LIVE"]

LIVE: Final = (("cache-control", "no-store"), ("x-accel-buffering", "no"))
"""Header fields of an answer that comes as it is made, unless it is told others."""
