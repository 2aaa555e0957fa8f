"""Checks of a store after a crash: what it must still hold, and that it can be written again."""

from __future__ import annotations

import itertools
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from tailrace.errors import StreamClosed, StreamExists, StreamGone, StreamNotFound
from tailrace.store import Append, NewStream, Producer, Store
from tailrace.store.sqlite import verify
from tests.crash.history import History, State
from tests.crash.schedule import read_all

__all__ = ["Found", "Lost", "check_file", "check_store", "go_on"]

_T = TypeVar("_T")

_numbers = itertools.count()


Found = dict[str, int]
"""By path: how many of its steps a stream has kept."""


class Lost(Exception):
    """Something was lost, torn or made up in a crash."""


async def check_store(store: Store, history: History, place: int) -> Found:
    """Check everything that can be read from a store after a crash.

    Args:
        store: Opened again after the crash.
        history: What was done to it before.
        place: The place of the trace at which the crash came.

    Returns:
        How many steps of each stream were kept.

    Raises:
        Lost: Something was lost, torn or made up.
    """
    found = {path: await _find(store, path, history.legal(path, place)) for path in history.steps}
    check_order(history, found, place)
    await _check_names(store, history, found)
    return found


def check_order(history: History, found: Found, place: int) -> None:
    """Check the order across streams: if a step is missing, no later one may be there.

    Later means: it was started when the missing one had been acknowledged.

    Raises:
        Lost: A later step is there.
    """
    begun = [history.steps[path][number - 1].started for path, number in found.items() if number]
    missing = [step for path, number in found.items() for step in history.steps[path][number:]]
    done = [step.acked for step in missing if step.acked is not None]
    if min(done, default=place) < max(begun, default=-1):
        raise Lost("something is there that was begun after what is missing was acknowledged")


async def go_on(store: Store, history: History, found: Found) -> None:
    """Write to a store as after a restart of all its writers.

    Each writer repeats its last append and sends the next. A closed stream must stay closed. A path
    without a stream can be used again.

    Raises:
        Lost: Something was done twice, or was taken for a duplicate without having been done.
    """
    for path, number in found.items():
        state = history.state(path, number)
        if state.data is None:
            with suppress(StreamExists):  # it was deleted, but forks still read it
                await store.create(path, NewStream())
        elif state.closed:
            await _stays_closed(store, path, state)
        else:
            await _append_on(store, path, state)


def check_file(database: Path) -> None:
    """Check the database file itself, while no store has it open.

    Raises:
        Lost: The file is damaged.
    """
    if found := verify(database):
        raise Lost("; ".join(found))


async def _find(store: Store, path: str, legal: dict[int, State]) -> int:
    """The number of steps after which a stream is as it was found; one of the keys of `legal`."""
    try:
        first, data = await read_all(store, path)
    except StreamNotFound:
        for number, state in reversed(legal.items()):
            if state.data is None:
                return number
        raise Lost(f"{path} is not there; it must be, with {_sizes(legal)} bytes") from None
    info = await store.head(path)
    for number, state in reversed(legal.items()):
        if state.data is None or first + len(data) != len(state.data):
            continue
        if info.closed != state.closed:
            continue
        if data != state.data[first:]:
            raise Lost(f"{path}: the bytes from {first} on are others than those appended")
        if first and not (state.trims and (not state.keeps or len(data) >= state.keeps)):
            raise Lost(f"{path} begins at {first} of {len(state.data)}")
        if info.tail.position != len(state.data):
            raise Lost(f"{path}: its tail is {info.tail}, its bytes end at {len(state.data)}")
        return number
    raise Lost(
        f"{path} has {first} to {first + len(data)}, closed: {info.closed}; "
        f"it must end at one of {_sizes(legal)}"
    )


def _sizes(legal: dict[int, State]) -> list[tuple[int | None, bool]]:
    return [(None if s.data is None else len(s.data), s.closed) for s in legal.values()]


async def _check_names(store: Store, history: History, found: Found) -> None:
    states = {path: history.state(path, number) for path, number in found.items()}
    there = {path for path, state in states.items() if state.data is not None}
    listed = {info.path for info in await store.list()}
    if listed != there:
        raise Lost(f"it lists {sorted(listed)}; there are {sorted(there)}")
    for path in states.keys() - there:
        try:
            await store.head(path)
        except StreamGone:
            if not any(state.source for state in states.values()):
                raise Lost(f"{path} is held for forks, and there is none") from None
        except StreamNotFound:
            pass


async def _append_on(store: Store, path: str, state: State) -> None:
    """Let every producer repeat its last append, and send its next one."""
    before = await store.head(path)
    for last in state.last.values():
        again = await store.append(path, Append(data=last.data, producer=last.producer))
        if not again.duplicate:
            raise Lost(f"{path}: {last.producer} was accepted twice")
    added = b""
    following = [Producer(one.id, one.epoch, one.seq + 1) for one in state.producers]
    for producer in (*following, Producer("new", 0, 0)):
        data = b"<after %d>" % next(_numbers)
        if (await store.append(path, Append(data=data, producer=producer))).duplicate:
            raise Lost(f"{path}: {producer} was never appended and counts as a duplicate")
        added += data
    if (await store.read(path, before.tail)).data != added:
        raise Lost(f"{path}: what was appended after the crash is not what is read")


async def _stays_closed(store: Store, path: str, state: State) -> None:
    try:
        await store.append(path, Append(data=b"<too late>"))
    except StreamClosed:
        pass
    else:
        raise Lost(f"{path} was closed and takes an append")
    if state.closer is not None:
        last = state.closer
        close = Append(data=last.data, producer=last.producer, close=True)
        if not (await store.append(path, close)).duplicate:
            raise Lost(f"{path} was closed twice")
