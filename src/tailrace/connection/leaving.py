"""Whether a request's client has left: one object for each request, for all that depends on it.

ASGI tells of it by a message of `receive`. But those messages belong to the application until it
has had the end of the request's body, and `receive` may be called by one task at a time: some
servers say that the client has left once a call was cancelled (granian, gunicorn's ASGI worker).
So there are three ways, and the first that can be gone is:

* *Offered*: our server protocol says when a connection is lost. No message, no task.
* *Observed*: uvicorn's object behind `receive` or `send` has an event, which it sets when the
  client leaves, and for each message. While a response goes on, the event's `set` looks whether it
  has left as well. To wait for the event would not do: it stays set while a message waits for the
  application, which may never take it.
* *Asked*: one task calls `receive`, never twice at a time, and is cancelled when the request ends.
  It begins when no part of the body can be meant for the application: there is none, or
  Starlette's `Request` of this call has read it. Where that cannot be known it never begins, and
  the leaving shows when something is sent, or not at all.

A request without a body still has one empty message. Where `receive` is asked it is taken here, for
behind it the leaving is told; the `Request` remembers the empty body, so the application can read
it still.

A middleware may give the body again, as often as it is asked. A message of the body behind
its end is the sign of that, and nothing is asked any more.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Protocol, cast

import anyio
import anyio.lowlevel
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from tailrace.connection.connection import CONNECTION, ServerConnection, behind, extensions_of
from tailrace.connection.stats import log
from tailrace.runtime import Task, current_loop

__all__ = ["Leaving", "has_left", "leaving_of"]

_KEY = "tailrace.leaving"
"""Where the scope holds it, for the next response that asks."""

_EMPTY_PARTS = 8
"""Messages in which an empty body may come. httpx's transport needs two of them."""

_TURNS = 4
"""Turns of the event loop in which the task that listens begins, asks and is told. trio runs the
tasks of a turn in any order."""

_FRAMES = 64
"""How many callers are looked at for the `Request`; twenty middlewares deep is far."""


def leaving_of(scope: Scope, receive: Receive | None, send: Send) -> Leaving:
    """The object that tells when the client of a request leaves.

    Each response begins it before it asks, and ends it; the first one makes it listen.

    Called in the request's own task, where the frames of the application lie below.

    Args:
        scope, send: ASGI's.
        receive: ASGI's; None where the client's leaving is not told.
    """
    known: Leaving | None = scope.get(_KEY)
    if known is not None and known.receive == receive:
        return known
    offered: ServerConnection | None = extensions_of(scope).get(CONNECTION)
    if receive is None:
        return Leaving(scope, receive)
    if offered is not None:
        return _Offered(scope, receive, offered)
    for each in chain(behind(receive), behind(send, "send")):
        cycle = getattr(each, "__self__", None)
        if all(hasattr(cycle, name) for name in _Cycle.__annotations__):
            return _Observed(scope, receive, cast(_Cycle, cycle))
    return _Asked(scope, receive)


async def has_left(error: Exception, scope: Scope, receive: Receive | None, send: Send) -> bool:
    """Whether a `send` has failed because the client has left, where nothing has listened."""
    if isinstance(error, OSError):
        return True
    async with leaving_of(scope, receive, send) as leaving:
        return await leaving.explains(error)


class Leaving:
    """Whether the client of a request has left. This class never learns of it; the others do.

    Args:
        scope: Of the request.
        receive: What the request was called with.
    """

    __slots__ = ("_calls", "_entered", "_left", "_scope", "receive")

    def __init__(self, scope: Scope, receive: Receive | None) -> None:
        self._scope = scope
        self._calls: list[Callable[[], None]] = []
        self._entered = 0
        self._left = False
        self.receive = receive

    @property
    def left(self) -> bool:
        """It has left, as far as is known."""
        return self._left

    def on_left(self, call: Callable[[], None]) -> Callable[[], None]:
        """Call once when it leaves; now or soon if it has. Returns what takes the call back."""
        if self._left:
            call()
            return _nothing
        self._calls.append(call)
        return partial(self._take_back, call)

    def _take_back(self, call: Callable[[], None]) -> None:
        with suppress(ValueError):
            self._calls.remove(call)

    def look(self) -> None:
        """Notice a leaving that nothing tells of. Called after a write, in the request's task."""

    def ends(self) -> None:
        """The last message of the response is on its way."""

    async def explains(self, error: Exception) -> bool:
        """Whether a `send` has failed because the client has left.

        An OSError says so (ASGI 2.4). Servers and middlewares raise other errors too: the task that
        listens may be about to learn of the leaving, so it gets some turns of the loop first.
        """
        for _ in range(_TURNS):
            if isinstance(error, OSError) or self._left_by_itself:
                return True
            await anyio.lowlevel.cancel_shielded_checkpoint()
        return self._left_by_itself

    @property
    def _left_by_itself(self) -> bool:
        return self.left

    async def __aenter__(self) -> Leaving:
        self.begin()
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.end()

    def begin(self) -> None:
        """Listen from now on. Each `begin` has its `end`; in the request's task."""
        self._entered += 1
        if self._entered == 1:
            self._scope[_KEY] = self
            self._open()

    async def end(self) -> None:
        """Listen no more, if nobody else does."""
        self._entered -= 1
        if not self._entered:
            del self._scope[_KEY]
            await self._close()

    def _open(self) -> None:
        pass

    async def _close(self) -> None:
        pass

    def _tell(self) -> None:
        self._left = True
        calls, self._calls = self._calls, []
        for call in calls:
            call()


class _Offered(Leaving):
    """Told by our server protocol."""

    __slots__ = ("_connection",)

    def __init__(self, scope: Scope, receive: Receive, connection: ServerConnection) -> None:
        super().__init__(scope, receive)
        self._connection = connection

    @property
    def left(self) -> bool:
        return self._connection.lost

    @property
    def _left_by_itself(self) -> bool:
        # A transfer that fails drops the client, and raises what is wrong with the file.
        return self.left and not self._connection.aborted

    def on_left(self, call: Callable[[], None]) -> Callable[[], None]:
        return self._connection.on_lost(call)


class _Cycle(Protocol):
    """What uvicorn's protocols (httptools, h11, zttp for HTTP/1.1 and 2) keep of a request."""

    disconnected: bool
    response_complete: bool
    message_event: asyncio.Event
    transport: asyncio.WriteTransport


class _Observed(Leaving):
    """Seen in uvicorn's object for the request."""

    __slots__ = ("_cycle", "_set")

    def __init__(self, scope: Scope, receive: Receive, cycle: _Cycle) -> None:
        super().__init__(scope, receive)
        self._cycle = cycle
        self._set: Callable[[], None] = _nothing
        """What sets the event, or who else looks on."""

    @property
    def left(self) -> bool:
        # The transport too: of pipelined requests, uvicorn tells only the last. But behind the
        # last message uvicorn itself may close it.
        cycle = self._cycle
        return cycle.disconnected or (not cycle.response_complete and cycle.transport.is_closing())

    def on_left(self, call: Callable[[], None]) -> Callable[[], None]:
        self._left = self._left or self.left
        return super().on_left(call)

    def look(self) -> None:
        if not self._left and self.left:
            self._tell()

    def _open(self) -> None:
        event = self._cycle.message_event
        self._set = event.set
        with suppress(AttributeError):  # one that takes no attribute: then only `look` tells
            event.set = self._on_set  # type: ignore[method-assign] # looks on
        self.look()

    async def _close(self) -> None:
        event = self._cycle.message_event
        if event.set == self._on_set:
            del event.set  # the one of the instance
            if getattr(self._set, "__self__", None) is not event:
                event.set = self._set  # type: ignore[method-assign] # who else looks on
            self._set = _nothing  # otherwise who looks on behind this one still calls it
        if self.left and not self._cycle.disconnected:
            # uvicorn is told in the next turn; until then it logs a response that ends as an error.
            await anyio.lowlevel.cancel_shielded_checkpoint()

    def _on_set(self) -> None:
        self._set()
        self.look()


class _Asked(Leaving):
    """Told by `receive`, which one task asks."""

    __slots__ = ("_asking", "_ends", "_is_empty", "_unread")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        super().__init__(scope, receive)
        self._asking: Task | None = None
        self._ends = False
        self._is_empty = not _has_body(scope)
        self._unread = _request_of(scope, receive)

    def look(self) -> None:
        if self._entered and self._asking is None and self._may_ask():
            self._asking = current_loop().start_task(self._ask)

    def ends(self) -> None:
        self._ends = True

    def _open(self) -> None:
        self.look()

    async def _close(self) -> None:
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.cancel()
            with anyio.CancelScope(shield=True):
                await asking.over()

    def _may_ask(self) -> bool:
        request = self._unread
        if self._is_empty:
            if request is not None and not _is_read(request):
                request._body = b""
            self._unread = None
            return True
        return request is not None and _is_read(request)

    async def _ask(self) -> None:
        assert self.receive is not None
        self._unread = None
        parts = _EMPTY_PARTS if self._is_empty else 0
        try:
            while (message := await self.receive())["type"] == "http.request":
                if not parts:
                    return  # the body again
                parts = parts - 1 if message.get("more_body", False) else 0
        except Exception:  # noqa: BLE001 - of a server or middleware; the response goes on
            log.warning(
                "receive failed: it will not be noticed if this client leaves", exc_info=True
            )
            return
        if self._ends:
            # It says so of a whole response as well, while a middleware may still be at work.
            self._left = True
        else:
            self._tell()


def _has_body(scope: Scope) -> bool:
    """Whether a request may have a body. Source: RFC 9112 6.3; RFC 9113 8.1.1."""
    fields = dict(scope.get("headers") or ())
    length = fields.get(b"content-length")
    if length is not None or b"transfer-encoding" in fields:
        return length != b"0"
    # HTTP/2 needs neither of them for a body.
    is_http1 = str(scope.get("http_version", "1.1")).startswith("1")
    return not is_http1 and scope.get("method") not in ("GET", "HEAD")


def _request_of(scope: Scope, receive: Receive) -> Request | None:
    """Starlette's `Request` of this call, which knows whether the body was read.

    Only the frames of the callers lead to it: the functions of Starlette, FastAPI and their users
    hold it as `request`.
    """
    frame = sys._getframe(2)
    for _ in range(_FRAMES):
        code = frame.f_code
        if "request" in code.co_freevars or "request" in code.co_cellvars + code.co_varnames:
            found = frame.f_locals.get("request")
            if isinstance(found, Request) and (found.receive == receive or found.scope is scope):
                return found
        if frame.f_back is None:
            break
        frame = frame.f_back
    return None


def _is_read(request: Request) -> bool:
    return request._stream_consumed or hasattr(request, "_body")


def _nothing() -> None:
    pass
