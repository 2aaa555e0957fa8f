"""The application that `tailrace serve` runs: a directory, streams, and checks for an operator.

If the store cannot be opened, files are served all the same. One task tries to open it again every
`limits.STORE_REOPEN` seconds. Requests never try it: if another process holds the file, each
attempt takes seconds, and many of them, one after another, would never end.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import anyio
from anyio.abc import TaskStatus
from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tailrace import limits
from tailrace.app.access import AccessLog
from tailrace.app.guard import HEALTH, READINESS, HostGuard
from tailrace.app.settings import ANY_HOST, Settings
from tailrace.errors import StoreUnavailable
from tailrace.files import Files, ResourcePolicy
from tailrace.protocol import ProtocolOptions, refuse, replies_by_origin
from tailrace.streams import Streams

__all__ = ["STREAMS", "Served", "StoreSupervisor", "create_app", "create_served"]

_log = logging.getLogger("tailrace")

STREAMS: Final = "/v1/stream"
"""The path of the streams; it is the one that Durable Streams clients know."""

_INDEX = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>Tailrace</title>
</head>
<body>
<main>
<h1>Tailrace</h1>
<ul>
<li><a href="files/">Files</a></li>
<li>Streams: <code>v1/stream/</code> and a name of your own</li>
<li><a href="healthz">Health</a>, <a href="readyz">readiness</a></li>
</ul>
</main>
</body>
</html>
"""

_HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": "default-src 'none'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
}

_UNSTORED = {"cache-control": "no-store"}


def create_app(settings: Settings) -> Served:
    """A new application: / (an index), /files/ (the directory), /v1/stream/, /healthz, /readyz.

    Its links and redirects are relative, so it works below any path of any host.

    Args:
        settings: What is served, and how.

    Raises:
        InvalidOption: A setting is not valid.
    """
    options = settings.protocol_options()
    streams = Streams(settings.store_url)
    served = streams.asgi(options, subscriptions=settings.subscription_options())
    supervisor = StoreSupervisor(streams, served, options)
    guard = HostGuard(settings.allowed_hosts, settings.cors_origins)
    return Served(_pages(settings, supervisor), supervisor, guard)


class Served:
    """Sends requests for streams straight to the streams: a router would cost more than an append.

    Args:
        pages: The application for all other paths, and for the lifespan.
        streams: The application for the streams.
        guard: Says which requests are served.

    Attributes:
        pages: You may add routes to it before the first request.
    """

    def __init__(self, pages: FastAPI, streams: ASGIApp, guard: HostGuard) -> None:
        self.pages = pages
        self._streams = streams
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.pages(scope, receive, send)
            return
        refusal = self._guard.refusal(scope)
        if refusal is not None:
            await refuse(refusal.reply(), scope, receive, send)
            return
        mounted = scope.get("root_path", "") + STREAMS
        if scope["path"].startswith(mounted + "/"):
            await self._streams({**scope, "root_path": mounted}, receive, send)
        else:
            await self.pages(scope, receive, send)


def _pages(settings: Settings, supervisor: StoreSupervisor) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with anyio.create_task_group() as group:
            await group.start(supervisor.run)
            yield
            supervisor.stop()

    # No documentation pages: FastAPI does not know the streams' protocol. And no redirects by the
    # framework: they contain the host that the client sent.
    app = FastAPI(title="Tailrace", openapi_url=None, redirect_slashes=False, lifespan=lifespan)
    # Sandboxed: a page in the directory must not have the same origin as the streams.
    app.mount("/files/", Files(settings.directory, sandbox=True, resource_policy=_policy(settings)))

    @app.api_route("/", methods=["GET", "HEAD"])
    async def index() -> Response:
        return HTMLResponse(_INDEX, headers=_HEADERS)

    @app.api_route("/files", methods=["GET", "HEAD"])
    async def files() -> Response:
        return RedirectResponse("files/", 308)

    @app.api_route(HEALTH, methods=["GET", "HEAD"])
    async def healthz() -> Response:
        return JSONResponse({"status": "ok"}, headers=_UNSTORED)

    @app.api_route(READINESS, methods=["GET", "HEAD"])
    async def readyz() -> Response:
        try:
            await supervisor.check()
        except StoreUnavailable as error:
            # The path of the file is only in the log: anyone may ask here.
            detail = f"the store {error.reason}"
            document = {"status": "unavailable", "code": error.code, "detail": detail}
            return JSONResponse(document, status_code=503, headers=_UNSTORED)
        return JSONResponse({"status": "ready"}, headers=_UNSTORED)

    return app


def _policy(settings: Settings) -> ResourcePolicy:
    """Whose pages may embed the files: any, if pages of any origin may use the streams."""
    return "cross-origin" if ANY_HOST in settings.cors_origins else "same-origin"


def create_served() -> ASGIApp:
    """The application with the settings from the environment, and with its access log.

    uvicorn calls this, in its own process or in each of its workers.
    """
    return AccessLog(create_app(Settings.from_environment()), prefixed=True)


class StoreSupervisor:
    """Opens the streams, again and again if that fails, and serves them while they are open.

    Args:
        streams: The streams.
        served: The application that serves them.
        options: Its settings.
    """

    def __init__(self, streams: Streams, served: ASGIApp, options: ProtocolOptions) -> None:
        self._streams = streams
        self._served = served
        self._replies = replies_by_origin(options)
        self._stop = anyio.Event()
        self._problem: StoreUnavailable | None = StoreUnavailable("streams", "are not open yet")
        """Why the streams are not open; None while they are."""
        self._is_logged = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request for streams or, if they are not open, answer at once why not."""
        if self._problem is None:
            await self._served(scope, receive, send)
            return
        origin = dict(scope["headers"]).get(b"origin")
        replies = self._replies.get(origin) or self._replies[None]
        await refuse(replies.problem(self._problem), scope, receive, send)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Keep the streams open until `stop` is called; a task group's `start` returns after the
        first attempt to open them."""
        is_started = False
        while not self._stop.is_set():
            try:
                async with self._streams:
                    self._set(None)
                    if not is_started:
                        is_started = True
                        task_status.started()
                    await self._stop.wait()
            except* StoreUnavailable as errors:
                self._set(_first(errors))
            if not is_started:
                is_started = True
                task_status.started()
            with anyio.move_on_after(limits.STORE_REOPEN):
                await self._stop.wait()

    def stop(self) -> None:
        """Have `run` close the streams and return."""
        self._stop.set()

    async def check(self) -> None:
        """Check whether the streams can be read and written now.

        Raises:
            StoreUnavailable: They cannot; its reason says why (503, or 507 for a full disk).
        """
        if self._problem is not None:
            raise self._problem.with_traceback(None)
        try:
            await self._streams.check()
        except StoreUnavailable as error:
            self._tell(error)
            raise
        self._tell(None)

    def _set(self, problem: StoreUnavailable | None) -> None:
        self._problem = problem
        self._tell(problem)

    def _tell(self, problem: StoreUnavailable | None) -> None:
        """Log a change once: a probe that asks each second must not fill the log."""
        if problem is not None and not self._is_logged:
            _log.error("streams are not served, trying again: %s", problem)
        elif problem is None and self._is_logged:
            _log.warning("streams are served again")
        self._is_logged = problem is not None


def _first(errors: BaseExceptionGroup[StoreUnavailable]) -> StoreUnavailable:
    """The first error of a group."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, StoreUnavailable)
    return error.with_traceback(None)
