"""Which worker runs what: claims and leases, as streams that every process sees.

* A worker is alive while its lease exists: the stream `__ds/workers/<id>`. The lease has a `ttl`,
  and the worker renews it by appending. So only the store's clock decides whether it has expired.
* A worker claims a run by creating the stream `__ds/runs/<path>` with its id; only one worker can
  create it. Other workers append to the claim: requests to stop the run, and whether they have
  clients of it. The claim is deleted when the run has ended, so `__ds/runs/` lists the runs that
  go on.
* A worker that finds the lease of a run's owner expired takes the claim over, by an append with the
  next `Stream-Seq`; again only one worker can. It then ends the run's stream as lost, with a higher
  producer epoch. If the owner is alive after all, its next append is refused, and it stops the run.

An epoch is the time at which the claim was created (its generation, in microseconds) plus the
number of takeovers. So epochs also grow from one claim of a path to the next.
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
from tailrace.streams.item import LOST, wire_of_end

__all__ = ["RUNS", "WORKERS", "Claim", "Claims", "Lease", "new_worker"]

RUNS: Final = f"{INTERNAL}runs/"
WORKERS: Final = f"{INTERNAL}workers/"
PRODUCER: Final = "run"
_JSON: Final = "application/json"


def new_worker() -> str:
    """A new worker's id, which is unique; the process id in it is for people who read logs."""
    return f"{os.getpid()}-{secrets.token_hex(8)}"


class Lease:
    """The lease of this worker. When it expires, other workers end the runs of this one.

    Args:
        store: Where the lease is.
        worker: This worker's id.
        seconds: The lease expires this long after its last renewal.
    """

    def __init__(self, store: Store, worker: str, seconds: int) -> None:
        self._store = store
        self._path = WORKERS + worker
        self._seconds = seconds
        self._lock = anyio.Lock()
        self._held = False

    async def hold(self) -> None:
        """Create the lease, before anything is claimed. A second call does nothing."""
        async with self._lock:
            if not self._held:
                await self._create()
                self._held = True

    async def keep(self) -> None:
        """Renew the lease at each third of its length, while it is held. Never returns."""
        failing = False
        while True:
            await anyio.sleep(self._seconds / 3)
            if not self._held:
                continue
            try:
                await self._renew()
            except StoreUnavailable as error:
                # Logged once. Meanwhile our runs cannot write either: they wait for the store too.
                if not failing:
                    log.error("a worker's lease cannot be renewed: %s", error)
                failing = True
            else:
                failing = False

    async def end(self) -> None:
        """Delete the lease, when no run goes on here any more."""
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
            # Other workers may have ended our runs as lost; our appends to those are refused.
            log.warning("a worker's lease had expired: its event loop was blocked for too long")
            await self._create()

    async def _create(self) -> None:
        new = NewStream(ttl=self._seconds, retention=Retention(max_records=1), data=b".")
        await self._store.create(self._path, new)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What the claim of a run says at one moment.

    Args:
        path: The run's stream.
        worker: The worker that runs it, or the last one that took the claim over.
        counts_clients: The run ends when its last client has left.
        generation: When the claim was created, in microseconds since the Unix epoch.
        turn: How often it was taken over.
        stopped: Somebody has asked for the run to be stopped.
        clients: The workers other than the owner that have clients of the run.
    """

    path: str
    worker: str
    counts_clients: bool
    generation: int
    turn: int = 0
    stopped: bool = False
    clients: frozenset[str] = field(default_factory=frozenset)

    @property
    def epoch(self) -> int:
        """The producer epoch of the worker that holds the claim."""
        return self.generation + self.turn

    def producer(self, seq: int) -> Producer:
        """The producer of the append with number `seq` to the run's stream."""
        return Producer(PRODUCER, self.epoch, seq)


class Claims:
    """The claims in a store, and what one worker does with them.

    Args:
        store: Where the claims are.
        worker: This worker's id.
    """

    def __init__(self, store: Store, worker: str) -> None:
        self._store = store
        self.worker = worker

    async def make(self, path: str, *, counts_clients: bool) -> Claim | None:
        """Claim a run; None if it is claimed already."""
        first = {"worker": self.worker, "counts_clients": counts_clients}
        new = NewStream(content_type=_JSON, data=to_json(first) + b",")
        made = await self._store.create(RUNS + path, new)
        if not made.is_new:
            return None
        return Claim(
            path=path,
            worker=self.worker,
            counts_clients=counts_clients,
            generation=made.info.tail.generation,
        )

    async def find(self, path: str) -> Claim | None:
        """The claim of a run; None if the run does not go on."""
        messages: list[Any] = []
        place: Offset | Mark = Mark.BEGINNING
        try:
            while True:
                part = await self._store.read(RUNS + path, place)
                messages += [from_json(message) for message in split(part.data)]
                place = part.end
                if part.up_to_date:
                    break
        except StreamError:  # there is no claim, or it was deleted while it was being read
            return None
        return _claim(path, messages, place.generation)

    async def is_alive(self, worker: str) -> bool:
        """Whether a worker's lease has not expired."""
        try:
            await self._store.head(WORKERS + worker)
        except StreamNotFound:
            return False
        return True

    async def ask_to_stop(self, path: str) -> bool:
        """Ask the owner of a run to stop it; False if the run does not go on."""
        claim = await self.find(path)
        if claim is None:
            return False
        # Appended only once: a thousand requests must not make the claim long.
        return claim.stopped or await self._append(claim, {"stop": True})

    async def tell_clients(self, claim: Claim, *, present: bool) -> bool:
        """Tell the owner whether this worker has clients of a run; False if it does not go on."""
        return await self._append(claim, {"clients": self.worker, "present": present})

    async def end_as_lost(self, claim: Claim) -> bool:
        """End a run whose worker is dead. False if another worker does that, or has done it."""
        mine = replace(claim, worker=self.worker, turn=claim.turn + 1)
        seq = f"{mine.generation:016d}_{mine.turn:016d}"
        try:
            if not await self._append(mine, {"worker": self.worker, "turn": mine.turn}, seq):
                return False
        except SequenceConflict:
            return False
        end = Append(data=wire_of_end(LOST), close=True)
        # The worker may have died after the run's end, or before it had created the stream.
        with suppress(StreamClosed, StreamNotFound):
            try:
                await self._store.append(claim.path, replace(end, producer=mine.producer(0)))
            except ProducerFenced:
                # By the next claim's worker; or, if the claim is still ours, by a client that has
                # appended as the run's producer. Then nobody else would end the stream.
                now = await self.find(claim.path)
                if now is None or now.producer(0) != mine.producer(0):
                    return False
                await self._store.append(claim.path, end)
        await self.release(mine)
        return True

    async def end_if_lost(self, path: str) -> None:
        """End the run of a path if its worker is dead."""
        claim = await self.find(path)
        if claim is not None and not await self.is_alive(claim.worker):
            await self.end_as_lost(claim)

    async def release(self, claim: Claim) -> None:
        """Delete a claim whose run has ended."""
        try:
            info = await self._store.head(RUNS + claim.path)
            # A claim that another worker has made since then stays.
            if info.tail.generation == claim.generation:
                await self._store.delete(RUNS + claim.path)
        except StreamNotFound:
            return

    async def _append(self, claim: Claim, message: dict[str, Any], seq: str | None = None) -> bool:
        """Add a message to a claim; False if the claim is gone.

        If the run has ended meanwhile and the path was claimed again, the message is appended to
        the new claim. There it is ignored, because it has the old claim's generation.
        """
        data = to_json({**message, "generation": claim.generation}) + b","
        try:
            done = await self._store.append(RUNS + claim.path, Append(data=data, seq=seq))
        except StreamNotFound:
            return False
        return done.tail.generation == claim.generation


def _claim(path: str, messages: list[Any], generation: int) -> Claim:
    first = messages[0]
    worker, turn, stopped = first["worker"], 0, False
    clients: set[str] = set()
    for message in messages[1:]:
        if message["generation"] != generation:
            continue
        if "turn" in message:
            worker, turn = message["worker"], message["turn"]
        elif "stop" in message:
            stopped = True
        elif message["present"]:
            clients.add(message["clients"])
        else:
            clients.discard(message["clients"])
    return Claim(
        path=path,
        worker=worker,
        counts_clients=first["counts_clients"],
        generation=generation,
        turn=turn,
        stopped=stopped,
        clients=frozenset(clients),
    )
