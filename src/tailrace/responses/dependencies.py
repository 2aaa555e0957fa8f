"""FastAPI's `yield` dependencies of a request, let go before its stream begins."""

from __future__ import annotations

from contextlib import AsyncExitStack

from starlette.types import Scope

__all__ = ["release_dependencies"]


async def release_dependencies(scope: Scope) -> None:
    """Run what follows the `yield` of the request's dependencies now, in this task.

    FastAPI keeps them on an exit stack in the scope and closes it after the response; a stack that
    was closed before has nothing left to do then. Without FastAPI there is none.

    Raises:
        BaseException: What a dependency raised; nothing has been sent yet.
    """
    stack = scope.get("fastapi_inner_astack")
    if isinstance(stack, AsyncExitStack):
        await stack.aclose()
