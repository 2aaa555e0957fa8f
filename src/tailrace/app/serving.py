"""The application that `tailrace serve` runs: a directory, and what an operator needs."""

from __future__ import annotations

from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.types import ASGIApp

from tailrace.app.access import AccessLog
from tailrace.app.settings import Settings
from tailrace.files import Files

__all__ = ["create_app", "create_served"]

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
<li><a href="healthz">Health</a></li>
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


def create_app(settings: Settings) -> FastAPI:
    """A new application: / (an index), /files/ (the directory), /healthz.

    Links and redirects are relative, so that it works at any place of any host.

    Args:
        settings: What is served.
    """
    # No pages of documentation: there is no interface to be documented yet. And no redirects by
    # the framework: they hold the host that the client sent.
    app = FastAPI(title="Tailrace", openapi_url=None, redirect_slashes=False)
    app.mount("/files/", Files(settings.directory))

    @app.api_route("/", methods=["GET", "HEAD"])
    async def index() -> Response:
        return HTMLResponse(_INDEX, headers=_HEADERS)

    @app.api_route("/files", methods=["GET", "HEAD"])
    async def files() -> Response:
        return RedirectResponse("files/", 308)

    @app.api_route("/healthz", methods=["GET", "HEAD"])
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    return app


def create_served() -> ASGIApp:
    """The application by the settings in the environment, with its access log.

    What uvicorn calls, in this process or in each of its workers.
    """
    return AccessLog(create_app(Settings.from_environment()))
