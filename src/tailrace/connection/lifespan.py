"""The lifespan of an application that has nothing to start and nothing to stop.

A server asks whom it serves; hypercorn's dispatcher (Quart) asks everything that is mounted in it.
"""

from __future__ import annotations

from starlette.types import Receive, Send

__all__ = ["answer_lifespan"]


async def answer_lifespan(receive: Receive, send: Send) -> None:
    """Say that all is done, whatever is asked, until the shutdown.

    Source: ASGI's lifespan protocol.
    """
    while True:
        asked: str = (await receive())["type"]
        await send({"type": f"{asked}.complete"})
        if asked == "lifespan.shutdown":
            return
