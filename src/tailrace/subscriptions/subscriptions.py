"""Subscriptions at work: wakes begin, are delivered and end, and none is lost.

Every change is a compare-and-set of a state, and the process that writes the state does what
follows from it. So only one process delivers a wake. If that process dies, the state says when
another one takes over. Each process has a timer for the next deadline of all subscriptions, and
looks at all of them when it starts. Every `sweep` seconds it looks at all of them again, to find an
append that it was not notified of: by a program that has only the store, or because the
notification was lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import anyio
from anyio.abc import TaskGroup, TaskStatus
from starlette.types import Receive, Scope, Send

from tailrace.connection import log
from tailrace.errors import StoreUnavailable
from tailrace.protocol import Authorize
from tailrace.runtime import Signal, current_loop
from tailrace.store import Store
from tailrace.subscriptions.control import Control
from tailrace.subscriptions.dispatcher import WakeDispatcher
from tailrace.subscriptions.keys import Keys
from tailrace.subscriptions.options import SubscriptionOptions
from tailrace.subscriptions.repository import DIRECTORY, SubscriptionRepository
from tailrace.subscriptions.service import SubscriptionService
from tailrace.subscriptions.state import SubscriptionState
from tailrace.subscriptions.transitions import Effect
from tailrace.subscriptions.views import Todo, Views
from tailrace.subscriptions.webhook import Resolve, Webhooks, resolve

__all__ = ["Subscriptions"]

_PAUSE_MS: Final = 5000
"""Milliseconds before a step is tried again that failed because the store could not work."""


def _now() -> int:
    return time.time_ns() // 1_000_000


class Subscriptions:
    """The subscriptions of a store, and an ASGI application that serves what is below `__ds/`.

    It delivers wakes while its `async with` block, or its `run()`, runs:

    ```
    subscriptions = Subscriptions(store)
    streams = DurableStreams(store, control=subscriptions, on_append=subscriptions.appended)
    async with subscriptions:
        ...  # serve
    ```

    Each process that serves the store has its own; together they deliver each wake once. If the
    process that delivers a wake dies, another one takes over: of a webhook when the lease ends, of
    a pull-wake after `limits.ANNOUNCE_GRACE` seconds.

    Args:
        store: Open, in this event loop.
        options: The settings; None: the defaults.
        clock: Milliseconds since the epoch.
        resolve: Finds the addresses of a webhook's host.
        authorize: Asked for each stream and pattern that a request names or is shown; None:
            everybody may do everything.
    """

    def __init__(
        self,
        store: Store,
        options: SubscriptionOptions | None = None,
        *,
        clock: Callable[[], int] = _now,
        resolve: Resolve = resolve,
        authorize: Authorize | None = None,
    ) -> None:
        self._options = options = options or SubscriptionOptions()
        self._store = store
        self._clock = clock
        self._repository = SubscriptionRepository(store)
        self._views = Views(store, self._notify, self._recall)
        self._keys = Keys(store, options.signing_key, clock)
        self._webhooks = Webhooks(options, resolve)
        self._service = SubscriptionService(
            store, self._repository, self._views, clock, self._perform
        )
        self._control = Control(
            self._service, self._keys, self._webhooks, options, clock, authorize
        )
        self._active: set[str] = set()
        self._is_behind = True
        self._sweep_at = 0
        self._dispatcher: WakeDispatcher | None = None
        self._group: TaskGroup | None = None
        self._signal: Signal | None = None
        self._block: TaskGroup | None = None

    async def __aenter__(self) -> Self:
        block = anyio.create_task_group()
        await block.__aenter__()
        try:
            await block.start(self.run)
        except BaseException:
            block.cancel_scope.cancel()
            await block.__aexit__(None, None, None)  # given the error, it would raise a group
            raise
        self._block = block
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        block, self._block = self._block, None
        assert block is not None
        block.cancel_scope.cancel()
        await block.__aexit__(None, None, None)  # as above: the block's error stays as it is

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for a path below `__ds/`, which is below the mount path."""
        await self._control.serve(scope, receive, send, is_running=self._group is not None)

    def appended(self, path: str) -> None:
        """Note that a stream was created or got an append that is durable; costs next to nothing.

        Call it in the event loop, for each stream that this process has created or appended to.

        Args:
            path: The stream.
        """
        self._views.appended(path)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Deliver wakes until it is cancelled; a task group's `start` returns once it delivers.

        If it is cancelled, webhooks that are being sent are cut off. The state of each wake is in
        the store, and the next process that runs continues from there.

        Args:
            task_status: Given by `start` of a task group.

        Raises:
            RuntimeError: It runs already.
            StoreUnavailable: The store could not work at the start.
            SubscriptionRefused: `signing_key` is set, and the package that signs is not installed.
        """
        if self._signal is not None:
            raise RuntimeError("these subscriptions run already")
        self._signal = current_loop().signal()
        stop = self._store.watch(DIRECTORY, lambda _change: self._on_change())
        try:
            await self._keys.open()
            await self._repository.tidy(self._clock())
            await self._load_all()
            self._dispatcher = WakeDispatcher(
                self._store,
                self._service,
                self._keys,
                self._webhooks,
                clock=self._clock,
                timeout=self._options.webhook_timeout,
                appended=self.appended,
            )
            async with anyio.create_task_group() as group:
                self._group = group
                task_status.started()
                await self._loop(group, self._signal)
        finally:
            stop()
            self._group = self._signal = self._dispatcher = None
            self._views.clear()
            self._is_behind = True
            with anyio.CancelScope(shield=True):
                await self._webhooks.aclose()

    async def _loop(self, group: TaskGroup, signal: Signal) -> None:
        self._sweep_at = self._clock() + round(self._options.sweep * 1000)
        while True:
            now = self._clock()
            if now >= self._sweep_at:
                self._sweep_at = now + round(self._options.sweep * 1000)
                self._is_behind = True
                for name in self._views:
                    self._views.ask(name, Todo(everything=True))
            if self._is_behind:
                await self._catch_up()
            for name in self._views.waiting(now):
                if name not in self._active:
                    self._active.add(name)
                    group.start_soon(self._advance, name)
            due = self._views.next_due()
            until = self._sweep_at if due is None else min(due, self._sweep_at)
            with anyio.move_on_after(max(until - self._clock(), 1) / 1000):
                await signal.wait()

    async def _advance(self, name: str) -> None:
        try:
            while (todo := self._views.take(name)) is not None:
                try:
                    await self._service.advance(name, todo)
                except StoreUnavailable as error:
                    log.warning("subscription %a: %s", name, error)
                    self._views.postpone(name, self._clock() + _PAUSE_MS, todo)
                    return
        finally:
            self._active.discard(name)
            self._notify()

    async def _catch_up(self) -> None:
        self._is_behind = False
        try:
            await self._load_all()
        except StoreUnavailable as error:
            log.warning("subscriptions cannot be loaded, trying again: %s", error)
            self._is_behind = True
            self._sweep_at = min(self._sweep_at, self._clock() + _PAUSE_MS)

    async def _load_all(self) -> None:
        """Read the directory and each subscription that is new in it; drop those that are gone."""
        self._is_behind = False
        nonces = await self._repository.nonces()
        for name in self._views:
            view = self._views.get(name)
            if view is not None and nonces.get(name) != view.stored.state.nonce:
                self._views.drop(name)
        for name, nonce in nonces.items():
            if self._views.get(name) is None:
                stored = await self._repository.load(name, nonce)
                if stored is not None:
                    self._views.put(stored)

    def _recall(self, name: str) -> None:
        if self._dispatcher is not None:
            self._dispatcher.recall(name)

    def _perform(self, effect: Effect, state: SubscriptionState) -> None:
        if self._group is None or self._dispatcher is None:
            return  # `run` has ended: the state says when another process does it
        if effect is Effect.DELIVER:
            self._group.start_soon(self._dispatcher.deliver, state)
        else:
            self._group.start_soon(self._dispatcher.announce, state)

    def _on_change(self) -> None:
        self._is_behind = True
        self._notify()

    def _notify(self) -> None:
        if self._signal is not None:
            self._signal.set()
