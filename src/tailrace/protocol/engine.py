"""Does what commands ask for, on the streams of a store: a command in, an answer out."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

import anyio
from starlette.types import Receive, Scope, Send

from tailrace import limits, store
from tailrace.errors import (
    ForkRefused,
    InvalidBody,
    InvalidOffset,
    InvalidRequest,
    OffsetGone,
    StreamNotFound,
)
from tailrace.live import Hub, LiveResponse
from tailrace.protocol.authorize import Authorize, ask_scope, rights_of
from tailrace.protocol.body import Body
from tailrace.protocol.command import Command, Delete, Get, Head, Live, Post, Put
from tailrace.protocol.fields import Fields
from tailrace.protocol.live import LongPoll, SseFormat, interval_of, next_cursor
from tailrace.protocol.options import ProtocolOptions
from tailrace.protocol.path import location
from tailrace.protocol.reply import Replies, Reply
from tailrace.runtime import call_in_thread
from tailrace.store import Mark, NewStream, is_json, wire_of

__all__ = ["Engine", "OnAppend", "Request"]

OnAppend = Callable[[str], None]
"""Called in the event loop with the path of a stream that was created, appended to or closed."""

_SALT: Final = random.getrandbits(32)
"""Salt of the cursors that this process gives out (`next_cursor`)."""


class Request:
    """A request that is being answered.

    Args:
        scope, receive, send: ASGI's.
        fields: Its header fields.
        replies: Makes its answers.
    """

    __slots__ = ("body", "fields", "is_answered", "receive", "replies", "scope", "send")

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, fields: Fields, replies: Replies
    ) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.fields = fields
        self.replies = replies
        self.body = Body(receive, fields)
        self.is_answered = False
        """Whether an answer may have begun: then an error can no longer be answered."""


class Engine:
    """Does what commands ask for.

    Args:
        hub: The live streams of this process, and the store behind them.
        options: The settings.
        on_append: See `DurableStreams`.
        authorize: Asked for every path before it is touched; None: everybody may do everything,
            except to fork (`ProtocolOptions.forks`).
    """

    def __init__(
        self,
        hub: Hub,
        options: ProtocolOptions,
        on_append: OnAppend | None,
        authorize: Authorize | None,
    ) -> None:
        self._hub = hub
        self._store = hub.store
        self._options = options
        self._on_append = on_append
        self._authorize = authorize
        self._splitting = anyio.Lock()
        self._forks = authorize is not None if options.forks is None else options.forks

    async def answer(self, command: Command, request: Request) -> Reply | None:
        """Do what a command asks for.

        Returns:
            The answer; None if it was sent already, or if the client has left.

        Raises:
            TailraceError: The command is refused, or it failed.
        """
        if isinstance(command, Put) and command.new.fork is not None and not self._forks:
            raise ForkRefused(command.new.fork.source, "forks are turned off on this server", 403)
        if self._authorize is not None:
            await ask_scope(self._authorize, request.scope, rights_of(command, has_data=False))
        match command:
            case Post():
                return await self._append(command, request)
            case Get():
                return await self._read(command, request)
            case Put():
                return await self._create(command, request)
            case Head():
                return request.replies.head(await self._store.head(command.path))
            case Delete():
                await self._store.delete(command.path)
                return request.replies.deleted()

    # Writing. If a client leaves after its body has arrived, the write is done nevertheless.

    async def _append(self, command: Post, request: Request) -> Reply | None:
        body = await self._body(request)
        if body is None:
            return None
        await self._may_append(command, body, request)
        data = await self._wire(command, body)
        done = await self._store.append(
            command.path,
            store.Append(
                data=data,
                content_type=command.content_type,
                producer=command.producer,
                seq=command.seq,
                close=command.close,
            ),
        )
        # For a duplicate too: the process that had it first may have died before it called this.
        if self._on_append is not None:
            self._on_append(command.path)
        return request.replies.appended(done) if data else request.replies.closed(done)

    async def _wire(self, command: Post, body: bytes) -> bytes:
        if not body:
            if command.close:
                return body
            raise InvalidBody("the body is empty: append something, or send Stream-Closed: true")
        if command.content_type is None:
            raise InvalidRequest("Content-Type", None, "the stream's")
        if not is_json(command.content_type):
            return body
        wire = await self._messages(body)
        if not wire:
            raise InvalidBody("the array is empty: append something")
        return wire

    async def _create(self, command: Put, request: Request) -> Reply | None:
        body = await self._body(request)
        if body is None:
            return None
        await self._may_append(command, body, request)
        new = await self._filled(command.new, body) if body else command.new
        created = await self._store.create(command.path, new)
        if self._on_append is not None and created.is_new:
            self._on_append(command.path)
        url = location(request.scope, request.fields.get(b"host", b""))
        return request.replies.created(created, url)

    async def _filled(self, new: NewStream, body: bytes) -> NewStream:
        content_type = new.content_type
        if content_type is None and new.fork is not None:
            try:
                content_type = (await self._store.head(new.fork.source)).content_type
            except StreamNotFound:
                return new  # the store refuses it
        if content_type is not None and is_json(content_type):
            body = await self._messages(body)
        # With the type, so that the store refuses the fork if the source is replaced meanwhile by a
        # stream of another type.
        return replace(new, data=body, content_type=content_type)

    async def _may_append(self, command: Post | Put, body: bytes, request: Request) -> None:
        """Ask for the right that is needed only because the request has a body."""
        if self._authorize is not None and body:
            asked = rights_of(command, has_data=False)
            rights = [each for each in rights_of(command, has_data=True) if each not in asked]
            await ask_scope(self._authorize, request.scope, rights)

    async def _body(self, request: Request) -> bytes | None:
        options = self._options
        return await request.body.read(options.max_append_bytes, options.body_timeout)

    # Reading

    async def _read(self, command: Get, request: Request) -> Reply | None:
        if command.live is Live.SSE:
            return await self._sse(command, request)
        cursor = None
        if command.live is Live.LONG_POLL:
            scope, receive, send = request.scope, request.receive, request.send
            poll = LongPoll(self._hub, command, self._options, scope, receive, send)
            part = await poll.run()
            if poll.left:
                return None
            cursor = next_cursor(command.cursor, time.time(), _SALT)
            if not part.chunks:
                return request.replies.waited(part, cursor)
        else:
            part = await self._hub.read(command.path, command.where, self._options.read_bytes)
        if command.where is Mark.TAIL:
            return request.replies.tail(part, cursor)
        return request.replies.read(
            part,
            cursor=cursor,
            condition=command.if_none_match,
            where=command.where,
        )

    async def _sse(self, command: Get, request: Request) -> Reply | None:
        live = self._hub.join(command.path)  # first: it learns the tail from the read that follows
        try:
            part = await self._first(command)
            if command.resumed and part.closed and not part.chunks:
                return request.replies.finished(part)
            response = LiveResponse(
                self._hub,
                command.path,
                part,
                self._format(command),
                options=self._options.stream,
                headers=request.replies.live(),
                lifetime=self._lifetime(),
            )
            request.is_answered = True
            await response(request.scope, request.receive, request.send)
        finally:
            self._hub.leave(live)
        return None

    async def _first(self, command: Get) -> store.Slice:
        try:
            return await self._hub.read(command.path, command.where, limits.CATCH_UP_BYTES)
        except (InvalidOffset, OffsetGone) as error:
            if not command.resumed:
                raise
            # A 4xx would end an EventSource for good. Instead, the events say at which offset it
            # continues, and where the stream begins if its first bytes are gone.
            gone = isinstance(error, OffsetGone)
            where = Mark.BEGINNING if gone else command.otherwise
            return await self._hub.read(command.path, where, limits.CATCH_UP_BYTES)

    def _format(self, command: Get) -> SseFormat:
        now = time.time()
        cursor = next_cursor(command.cursor, now, _SALT)
        return SseFormat(cursor if cursor > interval_of(now) else None)

    async def _messages(self, body: bytes) -> bytes:
        """The messages in a JSON body, as wire bytes."""
        if len(body) <= limits.JSON_INLINE_BYTES:
            return wire_of(body)
        # One body at a time: threads that compute share the interpreter's lock with the event loop,
        # which waits the longer for it, the more such threads there are.
        async with self._splitting:
            return await call_in_thread(partial(wire_of, body))

    def _lifetime(self) -> float | None:
        lifetime = self._options.sse_lifetime
        if lifetime is None:
            return None
        return lifetime * (1 - limits.SSE_LIFETIME_SPREAD * random.random())
