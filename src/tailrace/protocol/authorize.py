"""Access: one hook of the application, asked for every path that a request touches.

A dependency or a middleware sees the path of a request's URL. A request can touch more: a fork
reads the stream that a header names, a subscription follows the streams that its body names. So the
hook is given each path that will be read or written, decoded, as the store is given it. Which
rights a request needs depends on its command (method, headers and body), not on its route.

The hook is asked before any stream is looked up, so a refusal does not tell whether one exists.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Literal

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Scope

from tailrace.errors import AccessRefused
from tailrace.protocol.command import Command, Delete, Get, Head, Post, Put

__all__ = ["Action", "Authorize", "Right", "ask", "ask_scope", "rights_of"]

Action = Literal[
    "read", "append", "create", "close", "delete", "fork-from", "list", "subscribe", "stop"
]
"""What a request does to a path; docs/authorization.md says when each one is asked for."""

Authorize = Callable[[Request, Action, str], Awaitable[None] | None]
"""The hook: called with a request, an action and a path. It returns None to allow the action, and
raises to refuse it."""

_LEAST_STATUS: Final = 300


@dataclass(frozen=True, slots=True)
class Right:
    """What a request needs to be allowed.

    Args:
        action: What the request does.
        path: The stream. For "list", and for the "subscribe" that comes with it, a pattern.
    """

    action: Action
    path: str


def rights_of(command: Command, *, has_data: bool) -> tuple[Right, ...]:
    """The rights that a command of the protocol needs.

    Args:
        command: What is asked for.
        has_data: Whether the request's body has something to append.
    """
    path = command.path
    match command:
        case Get() | Head():
            return (Right("read", path),)
        case Delete():
            return (Right("delete", path),)
        case Post(close=closes):
            rights = [Right("close", path)] if closes else []
        case Put(new=new):
            rights, closes = [Right("create", path)], new.closed
            if new.fork is not None:
                rights.append(Right("fork-from", new.fork.source))
            if closes:
                rights.append(Right("close", path))
    if has_data or (isinstance(command, Post) and not closes):
        rights.append(Right("append", path))
    return tuple(rights)


async def ask_scope(authorize: Authorize | None, scope: Scope, rights: Iterable[Right]) -> None:
    """As `ask`, with only the scope of a request: the hook cannot read the body."""
    if authorize is not None:
        await ask(authorize, Request(scope), rights)


async def ask(authorize: Authorize | None, request: Request, rights: Iterable[Right]) -> None:
    """Ask the hook for each right that a request needs; return if it allows all of them.

    A hook that is not a coroutine function runs in a thread, as FastAPI's dependencies do.

    Args:
        authorize: The application's hook; None: everybody may do everything.
        request: The request.
        rights: What it needs.

    Raises:
        AccessRefused: The hook raised a `PermissionError` (403), or an `HTTPException` (its status;
            403 if that status refuses nothing: below 300, 304, or unknown).
        TypeError: The hook returned something: `return path == mine` refuses nothing.

    Any other exception of the hook is raised as it is: a `TailraceError` is answered with its own
    status, anything else is a fault of the application.
    """
    if authorize is None:
        return
    for right in rights:
        try:
            answer = await _call(authorize, request, right)
        except HTTPException as error:
            status = error.status_code if _is_refusal(error.status_code) else HTTPStatus.FORBIDDEN
            detail = error.detail if isinstance(error.detail, str) else ""
            raise AccessRefused(int(status), detail, dict(error.headers or {})) from error
        except PermissionError as error:
            raise AccessRefused() from error
        if answer is not None:
            raise TypeError(
                f"authorize returned {type(answer).__name__}: it must raise to refuse, and return "
                "None to allow"
            )


async def _call(authorize: Authorize, request: Request, right: Right) -> Any:
    if _is_async(authorize):
        return await authorize(request, right.action, right.path)  # type: ignore[misc] # by its kind

    def call() -> list[Any]:  # a list: trio lets no thread return a coroutine
        return [authorize(request, right.action, right.path)]

    (answer,) = await run_in_threadpool(call)
    return await answer if inspect.isawaitable(answer) else answer


def _is_async(authorize: Authorize) -> bool:
    call = getattr(authorize, "__call__", None)  # noqa: B004 - an object with an `async __call__`
    return inspect.iscoroutinefunction(authorize) or inspect.iscoroutinefunction(call)


def _is_refusal(status: int) -> bool:
    known = {each.value for each in HTTPStatus}
    return status in known and status >= _LEAST_STATUS and status != HTTPStatus.NOT_MODIFIED
