"""Which rights a request needs, and what becomes of what the application's hook says."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from tailrace.errors import AccessRefused, StreamNotFound
from tailrace.protocol.authorize import Right, ask, rights_of
from tailrace.protocol.command import Command, command_of

pytestmark = pytest.mark.anyio


def command(method: str, query: bytes = b"", **fields: str) -> Command:
    named = {name.replace("_", "-").encode(): value.encode() for name, value in fields.items()}
    made = command_of(method, "a/b", query, named, "/v1")
    assert made is not None
    return made


FORKED: dict[str, Any] = {"stream_forked_from": "/v1/c%2Fd"}


@pytest.mark.parametrize(
    ("asked", "has_data", "rights"),
    [
        (command("GET"), False, ["read a/b"]),
        (command("GET", b"offset=-1&live=sse"), False, ["read a/b"]),
        (command("GET", b"offset=-1&live=long-poll"), False, ["read a/b"]),
        (command("HEAD"), False, ["read a/b"]),
        (command("DELETE"), False, ["delete a/b"]),
        (command("POST"), True, ["append a/b"]),
        (command("POST"), False, ["append a/b"]),
        (command("POST", stream_closed="true"), False, ["close a/b"]),
        (command("POST", stream_closed="true"), True, ["close a/b", "append a/b"]),
        (command("PUT"), False, ["create a/b"]),
        (command("PUT"), True, ["create a/b", "append a/b"]),
        (command("PUT", stream_closed="true"), False, ["create a/b", "close a/b"]),
        (command("PUT", **FORKED), False, ["create a/b", "fork-from c/d"]),
        (
            command("PUT", stream_closed="true", **FORKED),
            True,
            ["create a/b", "fork-from c/d", "close a/b", "append a/b"],
        ),
    ],
)
def test_a_request_needs_a_right_to_all_that_it_does(
    asked: Command, has_data: bool, rights: list[str]
) -> None:
    needed = rights_of(asked, has_data=has_data)
    assert [f"{each.action} {each.path}" for each in needed] == rights


# What the hook says ------------------------------------------------------------------------------

REQUEST = Request({"type": "http", "headers": []})
RIGHT = Right("read", "a")


def of_each_kind(answer: Any) -> Iterator[Any]:
    """Hooks that do the same, one of each kind that can be called."""

    def plain(request: Request, action: str, path: str) -> Any:
        return answer()

    async def waits(request: Request, action: str, path: str) -> Any:
        return answer()

    class Callable:
        async def __call__(self, request: Request, action: str, path: str) -> Any:
            return answer()

    yield from (plain, waits, Callable(), partial(waits), lambda *asked: waits(*asked))


def raising(error: BaseException) -> Any:
    def answer() -> None:
        raise error

    return answer


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (HTTPException(401, "who are you?"), 401, "who are you?"),
        (HTTPException(403), 403, "Forbidden"),
        (HTTPException(307, headers={"location": "/login"}), 307, "Temporary Redirect"),
        (HTTPException(404), 404, "Not Found"),
        (HTTPException(200, "no refusal"), 403, "no refusal"),
        (HTTPException(304, "no body"), 403, "no body"),
        (PermissionError("of a file, nobody's business"), 403, "this request may not do that"),
    ],
)
async def test_what_it_raises_is_the_answer(error: Exception, status: int, told: str) -> None:
    for hook in of_each_kind(raising(error)):
        with pytest.raises(AccessRefused) as refused:
            await ask(hook, REQUEST, [RIGHT])
        assert refused.value.status == status
        assert str(refused.value) == told


async def test_a_status_that_nobody_knows_is_a_refusal() -> None:
    for hook in of_each_kind(raising(HTTPException(499, "odd"))):
        with pytest.raises(AccessRefused) as refused:
            await ask(hook, REQUEST, [RIGHT])
        assert refused.value.status == 403


async def test_its_headers_go_with_it() -> None:
    error = HTTPException(401, headers={"WWW-Authenticate": "Bearer"})
    with pytest.raises(AccessRefused) as refused:
        await ask(next(of_each_kind(raising(error))), REQUEST, [RIGHT])
    assert refused.value.headers == {"WWW-Authenticate": "Bearer"}


@pytest.mark.parametrize("error", [StreamNotFound("a"), KeyError("a"), RuntimeError("broken")])
async def test_anything_else_stays_what_it_is(error: Exception) -> None:
    for hook in of_each_kind(raising(error)):
        with pytest.raises(type(error)):
            await ask(hook, REQUEST, [RIGHT])


@pytest.mark.parametrize("answer", [True, False, "yes", 0])
async def test_a_hook_that_returns_something_has_not_decided(answer: Any) -> None:
    for hook in of_each_kind(lambda: answer):
        with pytest.raises(TypeError, match="must raise"):
            await ask(hook, REQUEST, [RIGHT])


async def test_one_that_returns_allows_and_without_one_everything_is_allowed() -> None:
    for hook in of_each_kind(lambda: None):
        await ask(hook, REQUEST, [RIGHT])
    await ask(None, REQUEST, [RIGHT])


async def test_each_right_is_asked_until_one_is_refused() -> None:
    asked = []

    async def hook(request: Request, action: str, path: str) -> None:
        asked.append(path)
        if path == "b":
            raise PermissionError

    with pytest.raises(AccessRefused):
        await ask(hook, REQUEST, [Right("read", path) for path in "abc"])
    assert asked == ["a", "b"]
