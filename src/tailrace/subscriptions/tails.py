"""Where streams end, for as many as a subscription has."""

from __future__ import annotations

from collections.abc import Iterable

from tailrace import limits
from tailrace.errors import StreamNotFound
from tailrace.store import Store, StreamInfo
from tailrace.subscriptions.state import Config, Tail

__all__ = ["find", "tails_of"]

_FEW = 32
"""Paths up to which each is asked for by itself; a page of the list holds a thousand."""

_WASTE = 4
"""Pages of the list that may be read for each page of paths before they are asked for one by one:
other streams lie between them."""


async def tails_of(store: Store, paths: Iterable[str]) -> dict[str, Tail]:
    """The tails of streams; those that do not exist are left out."""
    wanted = set(paths)
    tails: dict[str, Tail] = {}
    if len(wanted) > _FEW:
        wanted = await _from_list(store, wanted, tails)
    for path in wanted:
        try:
            tails[path] = _tail(await store.head(path))
        except StreamNotFound:
            continue
    return tails


async def find(store: Store, config: Config) -> dict[str, Tail]:
    """The tails of all streams that exist and that a pattern means."""
    if config.glob is None:
        return {}
    found: dict[str, Tail] = {}
    after = ""
    while page := await store.list(config.glob.prefix, after):
        found.update((info.path, _tail(info)) for info in page if config.matches(info.path))
        if len(found) > limits.MAX_SUBSCRIPTION_STREAMS:
            break  # too many already
        after = page[-1].path
    return found


async def _from_list(store: Store, wanted: set[str], tails: dict[str, Tail]) -> set[str]:
    """Fill in tails from pages of the list; returns the paths that are still to be asked for."""
    first, last = min(wanted, key=str.encode), max(wanted, key=str.encode)
    prefix = _shared(first, last)
    after = ""
    for _ in range(_WASTE * (1 + len(wanted) // limits.LIST_STREAMS)):
        page = await store.list(prefix, after)
        tails.update((info.path, _tail(info)) for info in page if info.path in wanted)
        if len(page) < limits.LIST_STREAMS or page[-1].path.encode() >= last.encode():
            return set()  # what was not in the list does not exist
        after = page[-1].path
    return {path for path in wanted if path not in tails and path.encode() > after.encode()}


def _shared(first: str, last: str) -> str:
    """What the least and the greatest of some texts begin with, and so all between."""
    count = next(
        (at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first)
    )
    return first[:count]


def _tail(info: StreamInfo) -> Tail:
    return Tail(info.tail, info.created_at)
