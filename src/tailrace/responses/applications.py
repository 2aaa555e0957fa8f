"""The applications that a request came through, for a setting that holds for all that is in one.

Starlette's scope names the application that answers (`app`; an outer one is written over) and the
outermost router (`router`). FastAPI's router knows its application. Of the others nothing is left
but the frames of those who called, up to a middleware that calls in a task of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Final

from starlette.applications import Starlette
from starlette.types import Scope

__all__ = ["applications_of"]

_FRAMES: Final = 256
"""How many callers are looked at; an application is about ten deep, and its middlewares."""


def applications_of(scope: Scope) -> Iterator[Any]:
    """The application that answers, then those in which it is mounted, from the inside out."""
    app, outermost = scope.get("app"), scope.get("router")
    yield app
    if outermost is None or outermost is getattr(app, "router", None):
        return
    yield from _callers(app)
    yield getattr(outermost, "dependency_overrides_provider", None)


def _callers(app: Any) -> Iterator[Starlette]:
    frame = sys._getframe(1)
    for _ in range(_FRAMES):
        if frame.f_code.co_name == "__call__":
            found = frame.f_locals.get("self")
            if isinstance(found, Starlette) and found is not app:
                yield found
        if frame.f_back is None:
            return
        frame = frame.f_back
