"""A client that calls an ASGI application live, in the test's own event loop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Literal, Self

import anyio
import anyio.abc
from starlette.types import ASGIApp

from tailrace.testing._asgi import Lifespan, MessageOrder, Request
from tailrace.testing._wire import Wire
from tailrace.testing.exchange import Exchange, Habits

__all__ = ["WINDOW_BYTES", "Client"]

WINDOW_BYTES = 64 * 1024
"""Unread bytes that a server holds for a client before `send()` waits: 64 KiB, as uvicorn's."""


class Client:
    """Calls an application, and reads its response while the application makes it.

    The application runs in a task of its own, beside the test, on asyncio or trio. The test can
    read the first bytes before the last are made. Any number of requests run at once.

    ```
    async with Client(app) as client, client.open("GET", "/numbers") as exchange:
        assert await exchange.read_until(b"\\n") == b"Number 1\\n"
    ```

    Args:
        app: Any ASGI 3 application.
        lifespan: Run the application's startup before the block and its shutdown after it.
        raise_app_exceptions: Raise in the test what the application raised. False: if no response
            was begun, the client gets a 500, as from a server.
    """

    def __init__(
        self, app: ASGIApp, *, lifespan: bool = False, raise_app_exceptions: bool = True
    ) -> None:
        self._app = app
        self._raise = raise_app_exceptions
        self._with_lifespan = lifespan
        self._lifespan: Lifespan | None = None
        self._group: anyio.abc.TaskGroup | None = None

    async def __aenter__(self) -> Self:
        group = anyio.create_task_group()
        await group.__aenter__()
        self._group = group
        if self._with_lifespan:
            lifespan = Lifespan(self._app)
            try:
                await lifespan.start(group)
            except BaseException as error:
                await self._close(error)
                raise
            self._lifespan = lifespan
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self._lifespan is not None and exc is None:
                await self._lifespan.stop()
        except BaseException as error:
            await self._close(error)
            raise
        await self._close(exc)

    def open(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        body: bytes | Iterable[bytes] = b"",
        http_version: str = "1.1",
        spec_version: str = "2.3",
        extensions: Mapping[str, Any] | None = None,
        window_bytes: int = WINDOW_BYTES,
        after_leave: Literal["drop", "raise"] | None = None,
        rate: float | None = None,
        leave_at: int | None = None,
    ) -> Exchange:
        """A request, sent when its block is entered: `async with client.open(...) as exchange`.

        The application then starts at the event loop's next turn.

        Args:
            method: In capitals.
            target: Path and query, escaped as on the wire.
            headers: A mapping; or pairs, if a name comes twice.
            body: The request's body; each item of an iterable is one `http.request` message.
            http_version: "1.0", "1.1" or "2".
            spec_version: The version of ASGI's HTTP scope. From "2.4" on some applications behave
                differently.
            extensions: Offered in the scope; `http.response.pathsend` and
                `http.response.zerocopysend` work.
            window_bytes: While more than this many bytes are unread, `send()` waits.
            after_leave: What `send()` does once the client has left: "drop" the message, as
                uvicorn does, or "raise" `ClientGone`, an OSError. None: "raise" from
                spec_version 2.4 on, else "drop".
            rate: Bytes per second at which the client reads, by the event loop's clock; None: as
                fast as they come.
            leave_at: Bytes of the response's body after which the client leaves; 0: it has left
                before the application starts; None: it stays.

        Raises:
            RuntimeError: The client is not open.
            ValueError: `rate` or `leave_at` is out of its range.
        """
        if self._group is None:
            raise RuntimeError("this client is not open: use it in `async with Client(app) as ...`")
        request = Request(
            method=method,
            target=target,
            headers=headers,
            body=_chunks(body),
            http_version=http_version,
            spec_version=spec_version,
            extensions=extensions or {},
        )
        if after_leave is None:
            after_leave = "drop" if _version(spec_version) < (2, 4) else "raise"
        wire = Wire(
            request.body,
            MessageOrder(method, request.extensions),
            window_bytes=window_bytes,
            raise_after_leave=after_leave == "raise",
        )
        state = {} if self._lifespan is None else self._lifespan.state
        return Exchange(
            self._app,
            request.scope(state),
            wire,
            Habits(rate=rate, leave_at=leave_at),
            group=self._group,
            raise_app_exceptions=self._raise,
        )

    async def _close(self, exc: BaseException | None) -> None:
        """End the task group. No error of an application reaches it, so `exc` is raised alone."""
        group, self._group, self._lifespan = self._group, None, None
        assert group is not None
        group.cancel_scope.cancel()
        try:
            await group.__aexit__(
                type(exc) if exc else None, exc, exc.__traceback__ if exc else None
            )
        except BaseExceptionGroup as raised:
            if raised.exceptions != (exc,):
                raise


def _chunks(body: bytes | Iterable[bytes]) -> tuple[bytes, ...]:
    if isinstance(body, bytes):
        return (body,) if body else ()
    return tuple(body)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))
