"""Whether anything between a response and the server may look at the body on its way.

A middleware sees a response by wrapping `send`. What goes past `send` goes past the middleware, so
that must be known to be harmless: not guessed from one message that came through unchanged, for a
middleware may rewrite only some bodies, or count them.

Therefore the way is walked: each wrapper must be a function that is known, by the code object it
runs, to hand every body on as it is, and holds the next `send` in its closure; the last one must be
the server's own, and not what is equal to it or stands for it. A wrapper that is not known ends the
walk, and the response is sent in the ordinary way. `functools.wraps` copies a function's name and
module, but not its code.

Where the server says nothing of itself, its `send` is told by the module that its code is from.
"""

from __future__ import annotations

import functools
from types import BuiltinMethodType, CodeType, FunctionType, MethodType
from typing import Any

__all__ = ["is_clear", "leads_to", "sends_in_steps"]

_IN_CLOSURE = frozenset(
    {
        ("fastapi._body_limit", "AppBodyLimitMiddleware.__call__.<locals>.send_response"),
        (
            "starlette._exception_handler",
            "wrap_app_handling_exceptions.<locals>.wrapped_app.<locals>.sender",
        ),
        (
            "litestar.middleware._internal.exceptions.middleware",
            "ExceptionHandlerMiddleware.__call__.<locals>.capture_response_started",
        ),
        ("starlette.middleware.errors", "ServerErrorMiddleware.__call__.<locals>._send"),
        (
            "starlette.middleware.opentelemetry",
            "OpenTelemetryMiddleware.__call__.<locals>.send_with_telemetry",
        ),
        ("starlette.middleware.sessions", "SessionMiddleware.__call__.<locals>.send_wrapper"),
        # It counts bodies, but takes what is written past it from the connection.
        ("tailrace.app.access", "AccessLog.__call__.<locals>.counted"),
        ("tailrace.streams.subscription", "_Array.__call__.<locals>.sending"),
    }
)
"""Functions that look at the start of a response only, and hold the next `send` as `send`."""

_IN_PARTIAL = frozenset({("starlette.middleware.cors", "CORSMiddleware.send")})
"""The same, but the next `send` is a keyword argument of a partial."""

_IN_SELF = frozenset(
    {("starlette.middleware.body_limit", "RequestBodyLimitResponder.send_with_limit")}
)
"""The same, but the next `send` is an attribute of the method's object."""

_SERVERS = frozenset(
    {
        *("daphne", "granian", "gunicorn", "hypercorn", "uvicorn"),
        *("httpx", "httpx2", "starlette.testclient", "tailrace.server", "tailrace.testing"),
    }
)
"""Modules and packages of servers, and of clients that stand for one in tests."""

_IN_STEPS = ("uvicorn.protocols.", "tailrace.server.")
"""Servers whose `send` may be driven by hand."""

_MOST_WRAPPERS = 100


def leads_to(send: Any, server_send: Any) -> bool:
    """Whether `send` is the server's own, or hands every body on to it as it is.

    Args:
        send: What a response was called with.
        server_send: The server's bound method.
    """
    last = _last(send)
    return type(last) is type(server_send) and bool(last == server_send)


def is_clear(send: Any) -> bool:
    """Whether `send` is a known server's own, or hands every body on to one as it is."""
    module = _module_behind(send).split(".")
    return any(".".join(module[:count]) in _SERVERS for count in (1, 2))


def sends_in_steps(send: Any) -> bool:
    """Whether `send` is clear, and the server's own may be driven by hand in a callback.

    uvicorn's and ours may: they wait for nothing but room for what is written, and open no scope.
    """
    return _module_behind(send).startswith(_IN_STEPS)


def _module_behind(send: Any) -> str:
    """The module that the code of the last `send` is from."""
    last = _last(send)
    while type(last) is functools.partial:
        last = last.func
    function = _function(last)
    if function is not None:
        # Not `__module__`, which `functools.wraps` copies.
        return str(function.__globals__.get("__name__", ""))
    # what is compiled has no globals
    owner = last.__self__ if type(last) in (BuiltinMethodType, MethodType) else last
    return type(owner).__module__


def _last(send: Any) -> Any:
    """The first on the way that is not known to hand every body on, or the server's own."""
    for _ in range(_MOST_WRAPPERS):
        following = _next(send)
        if following is None:
            break
        send = following
    return send


def _next(send: Any) -> Any:
    if type(send) is functools.partial:
        function = _function(send.func)
        is_known = function is not None and _name(function) in _IN_PARTIAL
        return send.keywords.get("send") if is_known else None
    function = _function(send)
    if function is None:
        return None
    code = function.__code__
    known = _kinds.get(id(code))
    if known is None:
        if len(_kinds) >= _MOST_KINDS:
            _kinds.clear()
        known = _kinds[id(code)] = (code, _kind_of(function))
    kind = known[1]
    if kind == "self":
        return getattr(send.__self__, "send", None)
    if kind == "closure":
        names = code.co_freevars
        return dict(zip(names, function.__closure__ or (), strict=False))["send"].cell_contents
    return None


_kinds: dict[int, tuple[CodeType, str]] = {}
"""Where functions of this code hold the next `send`, by the code's id; "" for what is not known.

A dictionary by the code itself would compute its hash from all its instructions each time.
"""
_MOST_KINDS = 1000


def _kind_of(function: FunctionType) -> str:
    name = _name(function)
    return "self" if name in _IN_SELF else "closure" if name in _IN_CLOSURE else ""


def _name(function: FunctionType) -> tuple[str, str]:
    return function.__globals__.get("__name__", ""), function.__code__.co_qualname


def _function(send: Any) -> FunctionType | None:
    # Not `isinstance`: the proxies with which a program is instrumented (wrapt) say that they are
    # what they stand for, and show all that it has.
    function = send.__func__ if type(send) is MethodType else send
    return function if type(function) is FunctionType else None
