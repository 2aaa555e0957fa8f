"""Every Python example of the README and of docs/ runs, and the routes of its app answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import anyio
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from tailrace.testing import Client
from tests.examples import ROOT, Example, examples_in, load, pages

EXAMPLES = [
    example
    for page in pages()
    for example in examples_in(page.read_text(), str(page.relative_to(ROOT)))
]

FIRST_BYTES_DEADLINE = 10.0
"""Seconds in which a route of an example must send its first bytes."""

FILES = {
    "film.mp4": bytes(range(256)) * 4096,
    "export.txt": b"a line\n" * 1000,
    "public/hello.txt": b"hello",
}
"""Files that an example finds in its current directory."""


@pytest.fixture
def anyio_backend() -> str:
    # Not trio: an example may import asyncio.
    return "asyncio"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def get_paths(app: FastAPI) -> Iterator[str]:
    """The path of each GET route without parameters in its path."""
    # Not `app.routes` alone: there a router that was included is a single entry.
    for route in iter_route_contexts(app.routes):
        path = getattr(route, "path", None)
        if path and "{" not in path and "GET" in (getattr(route, "methods", None) or ()):
            yield path


async def check_answers(app: FastAPI) -> list[str]:
    """Check that each GET route of an application sends its first bytes. Returns their paths."""
    asked = []
    async with Client(app, lifespan=True) as client:
        for path in get_paths(app):
            with anyio.fail_after(FIRST_BYTES_DEADLINE):
                async with client.open("GET", path) as exchange:
                    assert (await exchange.response()).status == 200, path
                    assert await exchange.read(), f"{path} sent nothing"
            asked.append(path)
    return asked


def test_the_readme_has_examples() -> None:
    assert [example for example in EXAMPLES if example.page == "README.md"]


@pytest.mark.anyio
@pytest.mark.parametrize("example", EXAMPLES, ids=str)
async def test_an_example_runs_and_its_routes_answer(
    example: Example, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not example.code.lstrip().startswith("# not run"), "every example is run"
    module = load(example, folder, monkeypatch)
    app = getattr(module, "app", None)
    if app is not None:
        await check_answers(app)


def test_blocks_of_python_are_found_with_their_lines() -> None:
    page = dedent("""\
        # Title
        ```python
        one = 1

        two = 2
        ```
        ```sh
        make
        ```
        - in a list:
          ```py
          three = 3
          ```
        """)
    assert list(examples_in(page, "a.md")) == [
        Example("a.md", 3, "one = 1\n\ntwo = 2\n"),
        Example("a.md", 12, "three = 3\n"),
    ]


def test_a_block_that_is_never_closed_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"a\.md:2: this block is never closed"):
        list(examples_in("text\n```python\none = 1\n", "a.md"))


def test_an_example_that_fails_fails_with_the_line_of_its_page(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ZeroDivisionError) as failure:
        load(Example("a.md", 7, "x = 1\ny = x / 0\n"), folder, monkeypatch)
    assert failure.traceback[-1].lineno + 1 == 8


ENDLESS = """
import asyncio
from fastapi import APIRouter, FastAPI, HTTPException
from tailrace import StreamingResponse

app = FastAPI()
router = APIRouter()

async def ticks():
    while True:
        yield "tick"
        await asyncio.sleep(3600)

@app.get("/ticks")
def endless():
    return StreamingResponse(ticks())

@router.get("/included", response_class=StreamingResponse)
def included():
    return StreamingResponse(["one"])

app.include_router(router, prefix="/router")

@app.get("/ticks/{name}")
def named(name: str):
    raise HTTPException(500)

@app.post("/ticks")
def posted():
    raise HTTPException(500)
"""


@pytest.mark.anyio
async def test_each_get_route_without_parameters_is_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = load(Example("endless.md", 1, ENDLESS), folder, monkeypatch)
    asked = await check_answers(module.app)
    assert {"/ticks", "/router/included"} <= set(asked)
    assert "/ticks/{name}" not in asked


@pytest.mark.anyio
async def test_a_route_that_fails_fails_the_example(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = ENDLESS + '\n@app.get("/broken")\ndef broken():\n    raise HTTPException(503)\n'
    module = load(Example("broken.md", 1, broken), folder, monkeypatch)
    with pytest.raises(AssertionError, match="/broken"):
        await check_answers(module.app)
