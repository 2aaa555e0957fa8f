"""The start and the stop of an application, by ASGI's lifespan protocol."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.abc
from starlette.types import ASGIApp

from tailrace.testing.errors import ProtocolViolation

__all__ = ["Lifespan"]

_ANSWERS = ("lifespan.startup.complete", "lifespan.startup.failed")
_FAREWELLS = ("lifespan.shutdown.complete", "lifespan.shutdown.failed")


class Lifespan:
    """One run of an application from its startup to its shutdown.

    Source: ASGI 3.0, lifespan protocol 2.0.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._error: Exception | None = None
        self._sent: dict[str, str] = {}
        self._begun = False
        self._stopping = anyio.Event()
        self._changed = anyio.Event()
        self._over = False

    async def start(self, group: anyio.abc.TaskGroup) -> None:
        """Start the application.

        Raises:
            RuntimeError: it said that its startup failed.
            Exception: what it raised instead.
        """
        group.start_soon(self._run)
        await self._until(_ANSWERS)
        self._check("startup")

    async def stop(self) -> None:
        """Stop the application; raises as `start` does."""
        self._stopping.set()
        await self._until(_FAREWELLS)
        self._check("shutdown")

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}}
        try:
            await self._app({**scope, "state": self.state}, self._receive, self._send)
        except Exception as error:  # noqa: BLE001 - raised where the test waits for it
            self._error = error
        finally:
            self._over = True
            self._tell()

    async def _receive(self) -> dict[str, Any]:
        if not self._begun:
            self._begun = True
            return {"type": "lifespan.startup"}
        await self._stopping.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Any) -> None:
        kind = message["type"]
        if kind not in _ANSWERS + _FAREWELLS or kind in self._sent:
            raise ProtocolViolation(f"unexpected lifespan message {kind!r}")
        self._sent[kind] = message.get("message", "")
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def _until(self, kinds: tuple[str, ...]) -> None:
        while not (self._over or self._sent.keys() & set(kinds)):
            await self._changed.wait()

    def _check(self, phase: str) -> None:
        failed = f"lifespan.{phase}.failed"
        if self._error is not None:
            raise self._error
        if failed in self._sent:
            raise RuntimeError(f"the application's {phase} failed: {self._sent[failed]}")
        if f"lifespan.{phase}.complete" not in self._sent:
            raise RuntimeError(f"the application returned before its {phase} was complete")
