"""A whole response, for tests that do not depend on how its body is split."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp

from tailrace.testing import Client

__all__ = ["Fetched", "fetch"]


@dataclass(frozen=True, slots=True)
class Fetched:
    """The response as a client received it."""

    status: int
    headers: Headers
    body: bytes


async def fetch(app: ASGIApp, target: str = "/", *, method: str = "GET", **headers: str) -> Fetched:
    """Send one request to an application. Headers are keywords: `accept_encoding="br"`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        Client(app, raise_app_exceptions=False) as client,
        client.open(method, target, headers=named) as exchange,
    ):
        start = await exchange.response()
        body = await exchange.read_all()
        await exchange.finished()  # also wait for its background tasks
        return Fetched(start.status, start.headers, body)
