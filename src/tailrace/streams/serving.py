"""The Durable Streams protocol on an application's streams, and stopping runs over HTTP.

`DELETE __ds/runs/<path>` stops a run, in whichever process it goes on. `POST __ds/runs/<path>/stop`
is the same for clients that have no DELETE. (Clients reach no stream below `__ds/`.)
"""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from tailrace.errors import StreamNotFound, SubscriptionRefused, TailraceError
from tailrace.protocol import (
    DurableStreams,
    ProtocolOptions,
    Replies,
    Reply,
    Right,
    ask_scope,
    path_below,
    refuse,
    replies_by_origin,
    stream_path,
)
from tailrace.streams.claims import RUNS
from tailrace.streams.core import Core
from tailrace.streams.store_handle import OpenStore

__all__ = ["Serving"]

_STOP: Final = "/stop"


class Serving:
    """An ASGI application that serves the protocol, and opens the store when it is needed.

    Args:
        core: The core of the streams.
        options: The protocol's settings; None: the defaults.
    """

    def __init__(self, core: Core, options: ProtocolOptions | None = None) -> None:
        self._core = core
        self._options = options or ProtocolOptions()
        self._replies = replies_by_origin(self._options)
        self._made: tuple[OpenStore, DurableStreams] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            opened = await self._core.open()
        except TailraceError as error:
            if scope["type"] != "http":
                raise
            await refuse(self._replies_to(scope).problem(error), scope, receive, send)
            return
        if self._made is None or self._made[0] is not opened:
            self._made = (opened, self._make(opened))
        await self._made[1](scope, receive, send)

    def _make(self, opened: OpenStore) -> DurableStreams:
        others = opened.subscriptions

        async def control(scope: Scope, receive: Receive, send: Send) -> None:
            below = path_below(scope) or ""
            if below.startswith(RUNS):
                reply = await self._control_run(below.removeprefix(RUNS), scope)
                await refuse(reply, scope, receive, send)
            elif others is not None:
                await others(scope, receive, send)
            else:
                reply = self._replies_to(scope).problem(self._nothing_at(below))
                await refuse(reply, scope, receive, send)

        appended = None if others is None else others.appended
        app: ASGIApp = control
        return DurableStreams(
            opened.hub,
            self._options,
            control=app,
            on_append=appended,
            authorize=self._core.authorize,
        )

    async def _control_run(self, rest: str, scope: Scope) -> Reply:
        replies = self._replies_to(scope)
        method = scope["method"]
        if method == "OPTIONS":
            return replies.options()
        if method == "POST" and rest.endswith(_STOP):
            rest = rest.removesuffix(_STOP)
        elif method != "DELETE":
            return replies.not_allowed(method, "runs", b"DELETE, POST, OPTIONS")
        try:
            path = stream_path(rest, scope.get("raw_path") or b"")
            await ask_scope(self._core.authorize, scope, (Right("stop", path),))
            if not await self._core.stop(path):
                raise StreamNotFound(path)
        except TailraceError as error:
            return replies.problem(error)
        return replies.deleted()

    def _replies_to(self, scope: Scope) -> Replies:
        origin = dict(scope["headers"]).get(b"origin")
        return self._replies.get(origin) or self._replies[None]

    def _nothing_at(self, below: str) -> TailraceError:
        """The error of a request below `__ds/` that nothing answers."""
        if self._core.subscribed is None:
            return StreamNotFound(below)
        what = "subscriptions need a lifespan: give the application `lifespan=streams.lifespan`"
        return SubscriptionRefused("SUBSCRIPTIONS_NOT_RUNNING", 503, what)
