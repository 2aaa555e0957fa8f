"""One request to an application in this process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers

from tailrace.testing import Client

__all__ = ["Reply", "ask"]


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Headers
    body: bytes


async def ask(app: Any, target: str, method: str = "GET", **headers: str) -> Reply:
    """Send one request to an application. Headers are keywords, with `_` for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with Client(app) as client, client.open(method, target, headers=named) as exchange:
        start = await exchange.response()
        return Reply(start.status, start.headers, await exchange.read_all())
