"""Who runs what: claims and leases, as streams that every process sees.

* A worker lives while its lease stream `__ds/workers/<id>` does: it has a `ttl`, and the worker
  appends to it. So the store's clock decides, and nobody compares clocks.
* A run is claimed by creating `__ds/runs/<path>` with the worker's id: creation decides a race. It
  is a small log of its own: requests to stop, and which other workers have clients of the run. It
  is deleted when the run has ended, so a list of `__ds/runs/` is a list of the runs that go on.
* Who finds the owner's lease expired takes the claim over, by an append whose `Stream-Seq` is the
  next one: again only one can. It then ends the run's stream as lost, with a higher producer epoch.
  If the owner is alive after all, its next append is refused, and it stops.

Epochs are microseconds of the claim's creation (its generation) and the number of times it was
taken over, so that they also grow from one claim of a path to the next.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

import anyio
from pydantic_core import from_json, to_json

from tailrace.connection import log
from tailrace.errors import (
    ProducerFenced,
    SequenceConflict,
    StoreUnavailable,
    StreamClosed,
    StreamError,
    StreamNotFound,
)
from tailrace.store import (
    INTERNAL,
    Append,
    Mark,
    NewStream,
    Offset,
    Producer,
    Retention,
    Store,
    split,
)
from tailrace.streams.item import End, wire_of_end

__all__ = ["LOST", "RUNS", "WORKERS", "Claim", "Claims", "Lease", "new_worker"]

RUNS: Final = f"{INTERNAL}runs/"
WORKERS: Final = f"{INTERNAL}workers/"
PRODUCER: Final = "run"
_JSON: Final = "application/json"

LOST: Final = End("lost", "worker_lost", "the worker that ran it has died")


def new_worker() -> str:
    """An id that no other worker has; the process's number is for people."""
    return f"{os.getpid()}-{secrets.token_hex(8)}"


class Lease:
    """The lease of this worker; others take its runs over when it expires.

    Args:
        store: Where it is.
        worker: Whose it is.
        seconds: After the last sign of life.
    """

    def __init__(self, store: Store, worker: str, seconds: int) -> None:
        self._store = store
        self._path = WORKERS + worker
        self._seconds = seconds
        self._lock = anyio.Lock()
        self._held = False

    async def hold(self) -> None:
        """Have it before anything is claimed. Nothing the second time."""
        async with self._lock:
            if not self._held:
                await self._create()
                self._held = True

    async def keep(self) -> None:
        """Renew it, for ever, from when it is held."""
        failing = False
        while True:
            await anyio.sleep(self._seconds / 3)
            if not self._held:
                continue
            try:
                await self._renew()
            except StoreUnavailable as error:
                # Said once: while this lasts our runs can write nothing either, and wait too.
                if not failing:
                    log.error("a worker's lease cannot be renewed: %s", error)
                failing = True
            else:
                failing = False

    async def end(self) -> None:
        """Let it go: nothing is run here any more."""
        async with self._lock:
            if self._held:
                self._held = False
                try:
                    await self._store.delete(self._path)
                except (StreamNotFound, StoreUnavailable):
                    return  # it expires by itself

    async def _renew(self) -> None:
        try:
            await self._store.append(self._path, Append(data=b"."))
        except StreamNotFound:
            # The loop was blocked for too long. Who took a run over meanwhile has fenced us there.
            log.warning("a worker's lease had expired: its event loop was held for too long")
            await self._create()

    async def _create(self) -> None:
        new = NewStream(ttl=self._seconds, retention=Retention(max_records=1), data=b".")
        await self._store.create(self._path, new)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A run that goes on, as its claim says at one moment.

    Args:
        path: The run's stream.
        worker: Who runs it, or has taken it over.
        counts_clients: It ends when its last client has left.
        generation: When the claim was created.
        turn: How often it was taken over.
        stopped: It was asked to stop.
        clients: Workers, other than the owner, that have clients of it.
        tail: Of the claim's stream when it was read.
    """

    path: str
    worker: str
    counts_clients: bool
    generation: int
    turn: int = 0
    stopped: bool = False
    clients: frozenset[str] = field(default_factory=frozenset)
    tail: Offset

    @property
    def epoch(self) -> int:
        """The producer epoch of whoever holds it now."""
        return self.generation + self.turn

    def producer(self, seq: int) -> Producer:
        """Who appends to the run's stream."""
        return Producer(PRODUCER, self.epoch, seq)


class Claims:
    """The claims in one store, as one worker makes and sees them.

    Args:
        store: Where they are.
        worker: This worker's id.
    """

    def __init__(self, store: Store, worker: str) -> None:
        self._store = store
        self.worker = worker

    async def make(self, path: str, *, counts_clients: bool) -> Claim | None:
        """Claim a run; None if it is claimed already."""
        said = {"worker": self.worker, "counts_clients": counts_clients}
        made = await self._store.create(
            RUNS + path, NewStream(content_type=_JSON, data=to_json(said) + b",")
        )
        if not made.is_new:
            return None
        tail = made.info.tail
        return Claim(
            path=path,
            worker=self.worker,
            counts_clients=counts_clients,
            generation=tail.generation,
            tail=tail,
        )

    async def find(self, path: str) -> Claim | None:
        """The claim of a run that goes on; None without one."""
        messages: list[Any] = []
        place: Offset | Mark = Mark.BEGINNING
        try:
            while True:
                part = await self._store.read(RUNS + path, place)
                messages += [from_json(message) for message in split(part.data)]
                place = part.end
                if part.up_to_date:
                    break
        except StreamError:  # deleted, also while it was being read
            return None
        return _claim(path, messages, place)

    async def is_alive(self, worker: str) -> bool:
        """Whether a worker's lease has not expired."""
        try:
            await self._store.head(WORKERS + worker)
        except StreamNotFound:
            return False
        return True

    async def ask_to_stop(self, path: str) -> bool:
        """Ask whoever runs it to stop; False if it does not go on."""
        claim = await self.find(path)
        if claim is None:
            return False
        # Once only: who asks a thousand times must not make the claim long.
        return claim.stopped or await self._say(claim, {"stop": True})

    async def tell_clients(self, claim: Claim, *, present: bool) -> bool:
        """Tell whether this worker has clients of a run; False if it does not go on."""
        return await self._say(claim, {"clients": self.worker, "present": present})

    async def end_as_lost(self, claim: Claim) -> bool:
        """End a run whose worker is dead. False if somebody else does so, or has done."""
        mine = replace(claim, worker=self.worker, turn=claim.turn + 1)
        said = {"worker": self.worker, "turn": mine.turn}
        seq = f"{mine.generation:016d}_{mine.turn:016d}"
        try:
            if not await self._say(mine, said, seq):
                return False
        except SequenceConflict:
            return False
        end = Append(data=wire_of_end(LOST), close=True, producer=mine.producer(0))
        # It may have died after its end, or before its beginning.
        with suppress(StreamClosed, StreamNotFound, ProducerFenced):
            await self._store.append(claim.path, end)
        await self.release(mine)
        return True

    async def end_if_lost(self, path: str) -> None:
        """End a run whose worker is dead; nothing for one that goes on, or for no run."""
        claim = await self.find(path)
        if claim is not None and not await self.is_alive(claim.worker):
            await self.end_as_lost(claim)

    async def release(self, claim: Claim) -> None:
        """Delete a claim whose run has ended."""
        try:
            info = await self._store.head(RUNS + claim.path)
            # One that was made since, by somebody else, stays.
            if info.tail.generation == claim.generation:
                await self._store.delete(RUNS + claim.path)
        except StreamNotFound:
            return

    async def _say(self, claim: Claim, said: dict[str, Any], seq: str | None = None) -> bool:
        """Add to a claim; False if it is gone. What comes to a later claim of the path, because
        this one has ended meanwhile, is ignored there: it names another generation.
        """
        data = to_json({**said, "generation": claim.generation}) + b","
        try:
            done = await self._store.append(RUNS + claim.path, Append(data=data, seq=seq))
        except StreamNotFound:
            return False
        return done.tail.generation == claim.generation


def _claim(path: str, messages: list[Any], tail: Offset) -> Claim:
    first = messages[0]
    worker, turn, stopped = first["worker"], 0, False
    clients: set[str] = set()
    for said in messages[1:]:
        if said["generation"] != tail.generation:
            continue
        if "turn" in said:
            worker, turn = said["worker"], said["turn"]
        elif "stop" in said:
            stopped = True
        elif said["present"]:
            clients.add(said["clients"])
        else:
            clients.discard(said["clients"])
    return Claim(
        path=path,
        worker=worker,
        counts_clients=first["counts_clients"],
        generation=tail.generation,
        turn=turn,
        stopped=stopped,
        clients=frozenset(clients),
        tail=tail,
    )
