"""Where an application is mounted, said in one way.

ASGI's `root_path` is where the application is, and `path` begins with it. So it is in Starlette,
FastAPI, BlackSheep and hypercorn's dispatcher (Quart). Litestar takes the place of mounting off
`path`, does not say it, and gives every path a slash at its end. There `raw_path`, which nobody
changes, tells what was taken off and whether the slash was sent.

Source: ASGI's HTTP scope, `path`, `raw_path` and `root_path`.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Final, TypeAlias
from urllib.parse import unquote_to_bytes

__all__ = ["mounted"]

_Scope: TypeAlias = MutableMapping[str, Any]

_LITESTAR: Final = "litestar_app"
"""In the scope of all that is mounted there."""


def mounted(scope: _Scope) -> _Scope:
    """The scope with a `path` that begins with its `root_path`, where `raw_path` tells them."""
    path: str = scope["path"]
    raw: bytes | None = scope.get("raw_path")
    if not raw or raw.decode("latin-1") == path:
        return scope
    sent = unquote_to_bytes(raw).decode("utf-8", "replace")
    if sent == path:
        return scope
    below = path if sent.endswith("/") else path.removesuffix("/")
    # Elsewhere "/" alone is what a middleware may send every path to (one page for all of a site).
    is_below = below.startswith("/") or (not below and _LITESTAR in scope)
    if not is_below or not sent.endswith(below):
        return scope
    return {**scope, "path": sent, "root_path": sent[: len(sent) - len(below)]}
