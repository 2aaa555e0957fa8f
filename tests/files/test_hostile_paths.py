"""Paths made to lead out: a corpus, and 10,000 that are put together at random."""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_from_bytes, unquote, urljoin, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Mount

from tailrace import Files
from tests.files.tree import HIDDEN, SECRET

ALLOWED = {200, 307, 404, 406}
"""Statuses that a GET of a path may have; 403 is not among them, for the tests may run as root."""

FORBIDDEN_CONTENT = (SECRET, HIDDEN, b"root:x:0:0", b"/bin/sh")


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


Ask = Callable[..., Answer]


@pytest.fixture(scope="module", params=["mounted", "mounted under a root path", "alone"])
def ask(request: pytest.FixtureRequest, root: Path) -> Iterator[tuple[Ask, str]]:
    """A GET of a path as on the wire, and where the directory is."""
    files = Files(root)
    if request.param == "alone":
        app: Any = files
        base, root_path = "", ""
    elif request.param == "mounted":
        app = Starlette(routes=[Mount("/files", files)])
        base, root_path = "/files", ""
    else:
        app = Starlette(routes=[Mount("/files", files)])
        base, root_path = "/proxy/files", "/proxy"
    if isinstance(app, Starlette):
        app.router.redirect_slashes = False  # the redirects that are looked at are ours
    with asyncio.Runner() as runner:

        def ask(path: str, query: str = "", accept: str = "*/*") -> Answer:
            return runner.run(call(app, base + path, query, accept, root_path))

        yield ask, base


async def call(app: Any, raw_path: str, query: str, accept: str, root_path: str) -> Answer:
    """The application called as uvicorn calls it; what it raises is raised: a 500."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": unquote(raw_path),
        "raw_path": raw_path.encode(),
        "query_string": query.encode("latin-1"),
        "root_path": root_path,
        "headers": [(b"host", b"test"), (b"accept", accept.encode())],
        "client": ("127.0.0.1", 1),
        "server": ("test", 80),
        "state": {},
        "extensions": {},
    }
    sent: list[dict[str, Any]] = []
    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if asked:
            await asyncio.Event().wait()  # the client stays
        asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start, *bodies = sent
    headers = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
    body = b"".join(message.get("body", b"") for message in bodies)
    return Answer(start["status"], headers, body)


def check(answer: Answer, base: str, path: str) -> None:
    """Nothing of outside is in the answer, it is no failure, and it sends nobody elsewhere."""
    assert answer.status in ALLOWED, (answer.status, answer.body)
    contents = [answer.body, *(value.encode("latin-1") for value in answer.headers.values())]
    if answer.headers.get("content-type") == "application/zip":
        with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
            assert archive.testzip() is None
            contents += [archive.read(name) for name in archive.namelist()]
            for name in archive.namelist():
                parts = name.removesuffix("/").split("/")
                assert not {"", ".", ".."} & set(parts), name
                assert "\\" not in name
    for content in contents:
        for forbidden in FORBIDDEN_CONTENT:
            assert forbidden not in content
    if answer.status == 307:
        check_redirect(answer.headers["location"], base, path)


def check_redirect(location: str, base: str, path: str) -> None:
    assert location.isascii()
    assert location.isprintable()
    there = urlsplit(urljoin(f"http://test{base}{path}", location))
    assert (there.scheme, there.netloc) == ("http", "test")
    assert there.path.startswith(f"{base}/")
    assert there.path.endswith("/")


DOTS = ["..", "%2e%2e", "%2E%2e", ".%2e", "%2e.", "%252e%252e", "%25252e%25252e", "%c0%ae%c0%ae"]
DOTS += ["%e0%80%ae%e0%80%ae", "%f0%80%80%ae.", "%uff0e%uff0e", "%ef%bc%8e%ef%bc%8e", "...", "...."]
DOTS += [
    "..%00",
    "..%20",
    "..;",
    "..%09",
    "..%0d%0a",
    "%2e%2e%3b",
    ".",
    "%2e",
    "..%c0%80",
    "..\xb7",
]
SEPARATORS = [
    "/",
    "//",
    "%2f",
    "%2F",
    "%252f",
    "\\",
    "%5c",
    "%255c",
    "%c0%af",
    "%e2%88%95",
    "/./",
    ";/",
]
PLACES = ["outside/secret.txt", "root-too/secret.txt", "root/hello.txt", "etc/passwd", "secret.txt"]
PLACES += ["proc/self/environ", ".env", ".git/config", "%2egit/config", "%2eenv", "dev/zero", ""]
NAMES = [
    "hello.txt",
    "docs",
    "docs/deep",
    "in",
    "in-docs",
    "out",
    "out-file",
    "out-absolute",
    "loop",
]
NAMES += ["out-passwd", "out-dots", "out-through", "out-and-in", "out-proc", "to-hidden", "around"]
NAMES += [
    "in-absolute",
    "dangling",
    "null",
    "fifo",
    "in-fifo",
    "socket",
    "bad%ff.txt",
    "%252e%252e",
]
NAMES += [
    "back%5cslash.txt",
    "nothing",
    "x" * 300,
    "C:",
    "c:%5cwindows",
    "file:",
    "http:",
    "~",
    "*",
]
NAMES += [
    "con",
    "%00",
    "a%00.txt",
    "%ff%fe",
    "%ed%a0%80",
    "evil.example",
    "@evil.example",
    "%0d%0aX:y",
]

CORPUS = [
    *(
        "/" + dots + separator + place
        for dots in DOTS
        for separator in SEPARATORS
        for place in PLACES
    ),
    *(f"/docs/{dots}/{dots}/outside/secret.txt" for dots in DOTS),
    *(f"/docs/deep{separator}{dots}" for dots in DOTS for separator in SEPARATORS),
    *("/" + name for name in NAMES),
    *(f"/{name}/" for name in NAMES),
    *(f"/{name}/secret.txt" for name in NAMES),
    *(f"/{separator}{name}" for name in NAMES for separator in SEPARATORS),
    *(
        "//etc/passwd",
        "///etc/passwd",
        "/%2fetc/passwd",
        "//evil.example/",
        "//evil.example/%2e%2e",
    ),
    *(
        "//evil.example/docs",
        "/%5cevil.example/docs",
        "/docs%3b//evil.example",
        "/docs%0d%0aX:%20y",
    ),
    *("/" + "../" * 60 + "etc/passwd", "/" + "%2e%2e/" * 60 + "etc/passwd", "/" + "a/" * 5000),
    *("/docs/" * 3000, "/" + "in-docs/../" * 500, "/" + "%c0%ae%c0%ae/" * 10 + "etc/passwd"),
]

QUERIES = [
    "",
    "zip",
    "sort=size&order=desc",
    "sort=..%2f&order=%00",
    "zip=../../outside",
    "%ff=%00&zip",
]


@pytest.mark.slow
def test_no_path_of_the_corpus_leads_out(ask: tuple[Ask, str]) -> None:
    get, base = ask
    for path in CORPUS:
        for query in ("", "zip") if path.endswith("/") else ("",):
            check(get(path, query), base, path)


parts = st.one_of(
    st.sampled_from(DOTS),
    st.sampled_from(NAMES),
    st.sampled_from(PLACES),
    st.binary(min_size=1, max_size=12).map(lambda data: quote_from_bytes(data, safe="")),
    st.text(min_size=1, max_size=12).map(lambda text: quote(text, safe="", errors="replace")),
    st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=8),
)
encodings: st.SearchStrategy[Callable[[str], str]] = st.sampled_from(
    [
        str,
        lambda part: part.replace(".", "%2e"),
        lambda part: part.replace("/", "%2f"),
        lambda part: part.replace("%", "%25"),
        lambda part: part.replace("/", "\\"),
        str.upper,
    ]
)


@st.composite
def paths(draw: st.DrawFn) -> str:
    """A path as a client could put it on the wire: no space, no question mark."""
    path = ""
    for _ in range(draw(st.integers(1, 7))):
        path += draw(st.sampled_from(SEPARATORS[:4] * 3 + SEPARATORS))
        path += draw(encodings)(draw(parts))
    return "/" + path.replace("?", "%3f").replace("#", "%23").replace(" ", "%20")


@pytest.mark.slow
@settings(
    max_examples=10_000,
    database=None,
    # `ask` serves a directory that nothing changes.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    path=paths(),
    query=st.sampled_from(QUERIES),
    accept=st.sampled_from(["*/*", "application/json", "text/html", "image/png", "\xff;q=x"]),
)
def test_no_path_that_is_made_at_random_leads_out(
    alone: Ask, path: str, query: str, accept: str
) -> None:
    check(alone(path, query, accept), "", path)


@pytest.fixture(scope="module")
def alone(root: Path) -> Iterator[Ask]:
    files = Files(root)
    with asyncio.Runner() as runner:
        yield lambda path, query="", accept="*/*": runner.run(call(files, path, query, accept, ""))


def test_the_check_sees_a_secret_in_a_body_and_in_an_archive() -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", SECRET)
    for headers, body in (
        ({}, b"..." + SECRET),
        ({"x": SECRET.decode()}, b""),
        ({"content-type": "application/zip"}, made.getvalue()),
    ):
        with pytest.raises(AssertionError):
            check(Answer(200, headers, body), "", "/")


@pytest.mark.parametrize("location", ["//evil/", "http://evil/", "/elsewhere/", "../x/", "./x"])
def test_the_check_sees_a_redirect_that_leads_elsewhere(location: str) -> None:
    with pytest.raises(AssertionError):
        check(Answer(307, {"location": location}, b""), "/files", "/docs")
