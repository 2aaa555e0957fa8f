"""The items of the rows with events: prices, all at once or when they are published."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

from pydantic import BaseModel


class Price(BaseModel):
    """One event's data."""

    n: int
    symbol: str
    price: float
    volume: int
    note: str


def prices(count: int) -> Iterator[Price]:
    for fields in plain_prices(count):
        yield Price(**fields)


def plain_prices(count: int) -> Iterator[dict[str, Any]]:
    for n in range(count):
        yield {
            "n": n,
            "symbol": "TLRC",
            "price": 100.25 + n % 7,
            "volume": 1000 + n % 13,
            "note": "as it happens",
        }


class Ticker:
    """A broadcast: every subscriber gets every price that is published after it subscribed."""

    def __init__(self) -> None:
        self._published: list[Price] = []
        self._next = asyncio.Event()

    def publish(self) -> None:
        n = len(self._published)
        price = Price(n=n, symbol="TLRC", price=101.5, volume=1000, note="as it happens")
        self._published.append(price)
        self._next.set()
        self._next = asyncio.Event()

    async def subscribe(self) -> AsyncIterator[Price]:
        seen = len(self._published)
        while True:
            while seen < len(self._published):
                yield self._published[seen]
                seen += 1
            await self._next.wait()
