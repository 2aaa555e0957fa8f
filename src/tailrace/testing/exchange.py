"""One request, its response, and a client that reads the response as the test says."""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

import anyio
import anyio.abc
import anyio.lowlevel
from starlette.types import ASGIApp, Scope

from tailrace.testing._asgi import ResponseStart
from tailrace.testing._wire import Outcome, Sent, Wire
from tailrace.testing.clock import settle
from tailrace.testing.errors import BodyEnded, ClientGone, ProtocolViolation, Truncated
from tailrace.testing.sse import EventParser, ReceivedEvent

__all__ = ["Exchange", "Habits"]

T = TypeVar("T")

_SIPS_PER_SECOND = 10
"""Reads per second of a client that has a `rate`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How a client reads.

    Args:
        rate: Bytes per second at which it takes the body, more than 0; None: as fast as it comes.
        leave_at: Bytes of the body after which it leaves, 0 or more; None: it stays.

    Raises:
        ValueError: A value is out of its range.
    """

    rate: float | None = None
    leave_at: int | None = None

    def __post_init__(self) -> None:
        if self.rate is not None and not 0 < self.rate < math.inf:
            raise ValueError(f"rate={self.rate!r} is out of range: give bytes per second, over 0")
        if self.leave_at is not None and self.leave_at < 0:
            raise ValueError(f"leave_at={self.leave_at!r} is out of range: give bytes, 0 or more")


class Exchange:
    """A request that an application is answering now; made by `Client.open`.

    ```
    async with client.open("GET", "/numbers") as exchange:
        start = await exchange.response()
        first = await exchange.read()
    ```

    The client takes bytes only while one of the reading methods runs. If a test calls none, its
    client stalls. Only one task at a time may read.

    At the end of the block the client leaves. If the application still waits when everything has
    come to rest (`settle`), it is cancelled, as by a server that stops. Then what the application
    raised is raised here, unless the test has seen it (from `response()`, as the cause of a
    `Truncated`, or in the outcome of `finished()`), the block itself failed, or it comes from a
    `ClientGone`.
    """

    def __init__(
        self,
        app: ASGIApp,
        scope: Scope,
        wire: Wire,
        habits: Habits,
        *,
        group: anyio.abc.TaskGroup,
        raise_app_exceptions: bool,
    ) -> None:
        self._app = app
        self._scope = scope
        self._group = group
        self._wire = wire
        self._habits = habits
        self._raise = raise_app_exceptions
        self._cancel = anyio.CancelScope()
        self._seen = False
        self._taken = 0
        self._read = bytearray()
        self._parser = EventParser()
        self._events: deque[ReceivedEvent] = deque()
        if habits.leave_at == 0:
            wire.leave()

    # What a test can see -------------------------------------------------------------------------

    @property
    def sends(self) -> list[Sent]:
        """Every message that the server took from the application, and when."""
        return self._wire.sends

    @property
    def blocked(self) -> bool:
        """Whether the application waits in `send()` because the window is full."""
        return self._wire.waiting_sends > 0

    @property
    def left(self) -> bool:
        """Whether the client has left."""
        return self._wire.left

    @property
    def dropped(self) -> int:
        """How many messages were dropped because the client had left."""
        return self._wire.dropped

    @property
    def comments(self) -> list[str]:
        """The SSE comments (heartbeats) that `event()` and `events()` have skipped."""
        return self._parser.comments

    async def response(self) -> ResponseStart:
        """Wait for the status line and the headers.

        Raises:
            Exception: What the application raised, if it failed before it began its response.
            Truncated: It returned without a response, or the client left before there was one.
        """
        wire = self._wire
        await wire.until(lambda: wire.start is not None or wire.left or wire.outcome is not None)
        if wire.start is not None:
            return wire.start
        if wire.outcome is not None and wire.outcome.error is not None:
            self._seen = True
            raise wire.outcome.error
        who = "the client left" if wire.left else "the application returned"
        raise Truncated(f"{who} before the response had begun")

    async def finished(self) -> Outcome:
        """Wait until the application's call has ended, and return how it ended.

        The response may be complete long before: background tasks run in the call too.
        """
        wire = self._wire
        await wire.until(lambda: wire.outcome is not None)
        assert wire.outcome is not None
        self._seen = True
        return wire.outcome

    # Reading -------------------------------------------------------------------------------------

    async def read(self, max_bytes: int | None = None) -> bytes:
        """The bytes of the body that have arrived; if there are none, it waits for the next.

        Args:
            max_bytes: At most this many, 1 or more; None: all that have arrived.

        Returns:
            At least one byte; or b"" at the clean end, and after the client has left.

        Raises:
            Truncated: The application ended without completing its response.
            ValueError: `max_bytes` is less than 1.
        """
        if max_bytes is not None and max_bytes < 1:
            raise ValueError(f"max_bytes={max_bytes!r} is out of range: give 1 or more, or None")
        if self._read:
            return self._give(len(self._read) if max_bytes is None else max_bytes)
        return await self._pull(max_bytes)

    async def read_exactly(self, n: int) -> bytes:
        """The next `n` bytes.

        Raises:
            BodyEnded: The body has fewer; they are the error's `partial`.
            Truncated: The body was cut before.
        """
        while len(self._read) < n:
            await self._read_more(f"{n} bytes", n - len(self._read))
        return self._give(n)

    async def read_until(self, separator: bytes) -> bytes:
        """The bytes up to the next `separator`, which is included.

        Raises:
            BodyEnded: The body ended before it; what came is the error's `partial`.
            Truncated: The body was cut before.
        """
        while (found := self._read.find(separator)) < 0:
            await self._read_more(f"up to {separator!r}")
        return self._give(found + len(separator))

    async def read_all(self) -> bytes:
        """The rest of the body; if the client leaves before its end, what it got.

        Raises:
            Truncated: The body was cut; what came is the error's `partial`.
        """
        while chunk := await self._pull_keeping():
            self._read += chunk
        return self._give(len(self._read))

    def lines(self) -> AsyncIterator[bytes]:
        """The body line by line, without the line feeds; the last line may have none.

        The iteration raises `Truncated` as `read` does.
        """
        return _Iteration(self._line)

    async def event(self) -> ReceivedEvent | None:
        """The next server-sent event; None at the end of the body.

        Raises:
            Truncated: As `read`.
        """
        while not self._events:
            chunk = await self.read()
            if not chunk:
                return None
            self._events.extend(self._parser.feed(chunk))
        return self._events.popleft()

    def events(self, *, leave_after: int | None = None) -> AsyncIterator[ReceivedEvent]:
        """The server-sent events, as they come. The iteration raises `Truncated` as `read` does.

        Args:
            leave_after: The client leaves when it has taken this many; None: it stays.
        """
        left = math.inf if leave_after is None else leave_after

        async def step() -> ReceivedEvent | None:
            nonlocal left
            if left < 1:
                return None
            event = await self.event()
            left -= 1
            if event is not None and left < 1:
                await self.leave()
            return event

        return _Iteration(step)

    # Going away ----------------------------------------------------------------------------------

    async def leave(self) -> None:
        """Close the connection now: `receive()` gives `http.disconnect`, unread bytes are lost.

        A `send()` that was waiting for the window goes on. The application is not cancelled: it has
        to notice this itself. `finished()` waits until its call has ended.
        """
        self._wire.leave()
        await anyio.lowlevel.checkpoint()

    async def half_close(self) -> None:
        """Shut the sending side: the application gets `http.disconnect`, the client reads on.

        A TCP client may do so after its request. Servers treat it differently; for uvicorn the
        client has left.
        """
        self._wire.half_close()
        await anyio.lowlevel.checkpoint()

    # The exchange itself -------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._group.start_soon(self._run)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._wire.leave()
        try:
            await self._finished_or_at_rest()
        finally:
            self._cancel.cancel()
            with anyio.CancelScope(shield=True):
                await self._wire.until(lambda: self._wire.outcome is not None)
        if exc is None and self._raise:
            self._raise_unseen()

    async def _run(self) -> None:
        error: Exception | None = None
        try:
            with self._cancel:
                call: Callable[..., Awaitable[object]] = self._app
                result = await call(self._scope, self._wire.receive, self._wire.send)
                if result is not None:
                    raise ProtocolViolation(f"the application returned {result!r}: return None")
        except Exception as raised:  # noqa: BLE001 - the test gets whatever it raises
            error = raised
        finally:
            self._wire.finish(error, answer_errors=not self._raise)

    async def _finished_or_at_rest(self) -> None:
        async with anyio.create_task_group() as group:

            async def rest() -> None:
                await settle()
                group.cancel_scope.cancel()

            group.start_soon(rest)
            await self._wire.until(lambda: self._wire.outcome is not None)
            group.cancel_scope.cancel()

    def _raise_unseen(self) -> None:
        outcome = self._wire.outcome
        assert outcome is not None
        if outcome.error is not None and not self._seen and not _tells_leaving(outcome.error):
            raise outcome.error

    async def _pull(self, max_bytes: int | None = None) -> bytes:
        """Take bytes from the window, as the client's habits say."""
        wire = self._wire
        await wire.until(lambda: bool(wire.unread) or wire.nothing_follows())
        size = min(self._most(max_bytes), len(wire.unread))
        if self._habits.rate is not None:
            # The bytes are on their way for this long, and fill the window until they arrive.
            await anyio.sleep(size / self._habits.rate)
        chunk = wire.take(size)
        if not chunk:
            self._check_clean_end()
        self._taken += len(chunk)
        if self._taken == self._habits.leave_at:
            await self.leave()
        return chunk

    def _most(self, max_bytes: int | None) -> int:
        limits = [sys.maxsize if max_bytes is None else max_bytes]
        if self._habits.rate is not None:
            limits.append(max(1, int(self._habits.rate / _SIPS_PER_SECOND)))
        if self._habits.leave_at is not None:
            limits.append(self._habits.leave_at - self._taken)
        return min(limits)

    def _check_clean_end(self) -> None:
        wire = self._wire
        if wire.ended or wire.left:
            return
        assert wire.outcome is not None
        self._seen = True
        raise Truncated(
            f"the application ended without completing its response, after {self._taken} bytes",
        ) from wire.outcome.error

    async def _pull_keeping(self, max_bytes: int | None = None) -> bytes:
        """As `_pull`, but a `Truncated` has the bytes that this read got before, as `partial`."""
        try:
            return await self._pull(max_bytes)
        except Truncated as cut:
            cut.partial = self._give(len(self._read))
            raise

    async def _read_more(self, wanted: str, max_bytes: int | None = None) -> None:
        chunk = await self._pull_keeping(max_bytes)
        if not chunk:
            partial = self._give(len(self._read))
            raise BodyEnded(f"wanted {wanted}; the body ended after {len(partial)} bytes", partial)
        self._read += chunk

    async def _line(self) -> bytes | None:
        try:
            line = await self.read_until(b"\n")
        except Truncated:
            raise
        except BodyEnded as end:
            return end.partial or None
        return line[:-1]

    def _give(self, n: int) -> bytes:
        given = bytes(self._read[:n])
        del self._read[:n]
        return given


class _Iteration(AsyncIterator[T], Generic[T]):
    """Iterates over what a function returns, until it returns None.

    Not a generator: a test that breaks out of its loop would leave a generator suspended.
    """

    def __init__(self, step: Callable[[], Awaitable[T | None]]) -> None:
        self._step = step

    async def __anext__(self) -> T:
        item = await self._step()
        if item is None:
            raise StopAsyncIteration
        return item


def _tells_leaving(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ClientGone):
            return True
        error = error.__cause__ or error.__context__
    return False
