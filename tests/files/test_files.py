"""`Files` as an application: what is sent for what is asked."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse
from starlette.exceptions import HTTPException
from starlette.routing import Mount, Router

from tailrace import Files
from tailrace.errors import InvalidOption
from tailrace.testing import Client
from tests.files.asking import ask
from tests.files.tree import SECRET

pytestmark = pytest.mark.anyio


def mounted(root: Path, **options: Any) -> FastAPI:
    app = FastAPI()
    app.mount("/files", Files(root, **options))
    return app


# Files -------------------------------------------------------------------------------------------


async def test_a_file_is_sent_with_its_type_and_its_length(root: Path) -> None:
    reply = await ask(mounted(root), "/files/hello.txt")
    assert (reply.status, reply.body) == (200, b"hello")
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert reply.headers["content-length"] == "5"
    assert reply.headers["x-content-type-options"] == "nosniff"


async def test_head_sends_the_headers_of_get_and_no_body(root: Path) -> None:
    got = await ask(mounted(root), "/files/hello.txt")
    head = await ask(mounted(root), "/files/hello.txt", "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers == got.headers


async def test_a_part_of_a_file_is_sent(root: Path) -> None:
    reply = await ask(mounted(root), "/files/hello.txt", range="bytes=1-3")
    assert (reply.status, reply.body) == (206, b"ell")
    assert reply.headers["content-range"] == "bytes 1-3/5"


async def test_what_the_client_has_already_is_not_sent_again(root: Path) -> None:
    app = mounted(root, cache_control="max-age=60")
    etag = (await ask(app, "/files/hello.txt")).headers["etag"]
    reply = await ask(app, "/files/hello.txt", if_none_match=etag)
    assert (reply.status, reply.body) == (304, b"")
    assert reply.headers["cache-control"] == "max-age=60"


@pytest.mark.parametrize(
    "path",
    ["bad%ff.txt", "%252e%252e", "back%5cslash.txt", "a%20b&c%23d%3fe.txt", "%3Cb>bold<b>.txt"],
)
async def test_a_strange_name_is_served(root: Path, path: str) -> None:
    reply = await ask(mounted(root), f"/files/{path}")
    assert (reply.status, reply.body) == (200, b"a name")


async def test_an_empty_file_is_served(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    reply = await ask(mounted(tmp_path), "/files/empty")
    assert (reply.status, reply.body, reply.headers["content-length"]) == (200, b"", "0")


async def test_a_file_of_many_blocks_is_sent_whole(tmp_path: Path) -> None:
    content = os.urandom(1_000_000)
    (tmp_path / "big").write_bytes(content)
    assert (await ask(mounted(tmp_path), "/files/big")).body == content


async def test_a_media_type_can_be_given(root: Path) -> None:
    app = mounted(root, media_types={".md": "text/plain", "": "text/plain; charset=utf-8"})
    assert (await ask(app, "/files/docs/guide.md")).headers["content-type"].startswith("text/plain")
    assert (await ask(app, "/files/in")).headers["content-type"] == "text/plain; charset=utf-8"


async def test_a_compressed_sibling_is_sent_where_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_bytes(b"p {}")
    (tmp_path / "a.css.br").write_bytes(b"compressed")
    for precompressed, body in ((True, b"compressed"), (False, b"p {}")):
        app = mounted(tmp_path, precompressed=precompressed)
        reply = await ask(app, "/files/a.css", accept_encoding="br")
        assert (reply.body, reply.headers["content-type"]) == (body, "text/css; charset=utf-8")


async def test_a_sibling_that_leads_out_is_passed_over(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.txt").write_bytes(SECRET)
    (root / "a.css").write_bytes(b"p {}")
    (root / "a.css.br").symlink_to("../secret.txt")
    reply = await ask(mounted(root, precompressed=True), "/files/a.css", accept_encoding="br")
    assert (reply.status, reply.body) == (200, b"p {}")


async def test_the_file_that_was_looked_at_is_the_one_that_is_sent(tmp_path: Path) -> None:
    """It is replaced while its response waits to be sent; the new one is whole too, no mix."""
    (tmp_path / "a.txt").write_bytes(b"before")
    files = Files(tmp_path)

    async def replaced(scope: Any, receive: Any, send: Any) -> None:
        response = await files._respond({**scope, "path": "/a.txt", "raw_path": b"/a.txt"})
        (tmp_path / "new").write_bytes(b"after")
        (tmp_path / "new").rename(tmp_path / "a.txt")
        await response(scope, receive, send)

    reply = await ask(replaced, "/a.txt")
    assert reply.status == 200
    assert reply.body in (b"before", b"after")
    assert reply.headers["content-length"] == str(len(reply.body))


async def test_no_server_is_told_a_path_that_it_would_open_itself(root: Path) -> None:
    extensions: dict[str, Any] = {"http.response.pathsend": {}}
    async with Client(Files(root)) as client:
        async with client.open("GET", "/hello.txt", extensions=extensions) as exchange:
            assert await exchange.read_all() == b"hello"
            types = {sent.message["type"] for sent in exchange.sends}
    assert types == {"http.response.start", "http.response.body"}


# Directories -------------------------------------------------------------------------------------


async def test_an_index_stands_for_its_directory(root: Path) -> None:
    reply = await ask(mounted(root), "/files/site/")
    assert (reply.status, reply.body) == (200, b"<p>index</p>")
    assert reply.headers["content-type"] == "text/html; charset=utf-8"


async def test_an_index_can_have_another_name_or_none(root: Path) -> None:
    reply = await ask(mounted(root, index="guide.md"), "/files/docs/")
    assert reply.body == b"# Guide\n"
    assert b"style.css" in (await ask(mounted(root, index=None), "/files/site/")).body


async def test_an_index_that_leads_out_is_not_found(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.txt").write_bytes(SECRET)
    (root / "index.html").symlink_to("../secret.txt")
    assert (await ask(mounted(root), "/files/")).status == 404


async def test_without_listings_a_directory_is_not_found_but_its_index_is(root: Path) -> None:
    app = mounted(root, listing=False)
    for path in ("/files/", "/files/docs/", "/files/docs", "/files/?zip", "/files/docs/?zip"):
        assert (await ask(app, path)).status == 404, path
    assert (await ask(app, "/files/site/")).status == 200
    assert (await ask(app, "/files/hello.txt")).status == 200


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/files/docs", "./docs/"),
        ("/files/docs/deep", "./deep/"),
        ("/files/site", "./site/"),
        ("/files/docs?zip", "./docs/?zip"),
        ("/files/docs?a=%0d%0aX:y&b=//evil", "./docs/?a=%0d%0aX:y&b=//evil"),
    ],
)
async def test_a_directory_without_its_slash_is_redirected(
    root: Path, path: str, location: str
) -> None:
    reply = await ask(mounted(root), path)
    assert (reply.status, reply.headers["location"]) == (307, location)


async def test_a_redirect_cannot_name_a_host_or_a_scheme(tmp_path: Path) -> None:
    for name in ("http:", "a:b", "evil.example", "\\\\evil"):
        (tmp_path / name).mkdir()
    app = Files(tmp_path)
    for path in ("/http:", "/a:b", "/evil.example", "/%5c%5cevil"):
        location = (await ask(app, path)).headers["location"]
        assert location.startswith("./")
        assert ":" not in location
        assert "\\" not in location
    assert (await ask(app, "//evil.example")).status == 404


async def test_a_redirect_cannot_hold_a_second_header(root: Path) -> None:
    async def bold(scope: Any, receive: Any, send: Any) -> None:
        await Files(root)({**scope, "query_string": b"a\r\nX: y\xff"}, receive, send)

    reply = await ask(bold, "/docs")
    assert reply.headers["location"].isprintable()
    assert reply.headers["location"].startswith("./docs/?a%0D%0AX:")
    assert "x" not in reply.headers


async def test_mounted_without_its_slash_the_directory_redirects_too(root: Path) -> None:
    router = Router([Mount("/files", Files(root))], redirect_slashes=False)

    async def at_the_mount(scope: Any, receive: Any, send: Any) -> None:
        await Files(root)({**scope, "root_path": "/files"}, receive, send)

    reply = await ask(at_the_mount, "/files")
    assert (reply.status, reply.headers["location"]) == (307, "./files/")
    assert (await ask(router, "/files/")).status == 200


async def test_a_file_is_no_directory(root: Path) -> None:
    for path in ("/files/hello.txt/", "/files/hello.txt/more", "/files/in/"):
        assert (await ask(mounted(root), path)).status == 404, path


# Refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"])
async def test_another_method_is_not_allowed(root: Path, method: str) -> None:
    reply = await ask(mounted(root), "/files/hello.txt", method)
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", [".env", ".git/", ".git/config", ".git"])
async def test_a_hidden_file_is_not_found_unless_that_is_asked_for(root: Path, path: str) -> None:
    assert (await ask(mounted(root), f"/files/{path}")).status == 404
    assert (await ask(mounted(root, hidden=True), f"/files/{path}")).status in (200, 307)


async def test_a_link_with_a_plain_name_to_a_hidden_file_is_followed(root: Path) -> None:
    # Kubernetes mounts its volumes so: `file` is a link to `..data/file`.
    assert (await ask(mounted(root), "/files/to-hidden")).body == b"meant to be seen"


async def test_dots_stay_dots_also_where_hidden_files_are_served(root: Path) -> None:
    app = mounted(root, hidden=True)
    for path in ("/files/..", "/files/../outside/secret.txt", "/files/.", "/files/%2e%2e/"):
        assert (await ask(app, path)).status == 404, path


async def test_links_can_be_followed_never_or_by_name(root: Path) -> None:
    never = mounted(root, follow_links="never")
    assert (await ask(never, "/files/in")).status == 404
    assert (await ask(never, "/files/in-docs/guide.md")).status == 404
    named = mounted(root, follow_links=["out", "/null/"])
    assert (await ask(named, "/files/out/secret.txt")).body == SECRET
    assert (await ask(named, "/files/in")).status == 200
    assert (await ask(named, "/files/out-file")).status == 404
    assert (await ask(named, "/files/null")).status == 404


@pytest.mark.parametrize("path", ["fifo", "in-fifo", "socket", "null"])
async def test_what_is_no_plain_file_is_not_found(root: Path, path: str) -> None:
    with anyio.fail_after(5):
        assert (await ask(mounted(root), f"/files/{path}")).status == 404


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything, so root stands aside for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def unreadable() -> Iterator[Path]:
    """A directory with a file that nobody but root may read."""
    with TemporaryDirectory() as folder:  # not pytest's own, which nobody else may enter
        path = Path(folder)
        path.chmod(0o755)
        (path / "a.txt").write_bytes(b"a")
        (path / "a.txt").chmod(0)
        yield path


async def test_what_may_not_be_read_is_forbidden(unreadable: Path) -> None:
    app = mounted(unreadable)
    with as_nobody():
        assert (await ask(app, "/files/a.txt")).status == 403


@pytest.mark.parametrize(
    ("number", "status"),
    [(errno.EACCES, 403), (errno.EMFILE, 503), (errno.ESTALE, 404), (errno.EILSEQ, 404)],
)
async def test_what_the_file_system_says_becomes_a_status(
    root: Path, monkeypatch: pytest.MonkeyPatch, number: int, status: int
) -> None:
    def refuse(*args: Any, **options: Any) -> int:
        raise OSError(number, os.strerror(number))

    app = mounted(root)
    monkeypatch.setattr("tailrace.files.beneath.os.open", refuse)
    assert (await ask(app, "/files/hello.txt")).status == status


async def test_the_applications_own_handlers_say_how_a_refusal_looks(root: Path) -> None:
    app = mounted(root)

    @app.exception_handler(HTTPException)
    async def own(request: Request, error: Exception) -> PlainTextResponse:
        assert isinstance(error, HTTPException)
        return PlainTextResponse("our own page", error.status_code)

    reply = await ask(app, "/files/nothing")
    assert (reply.status, reply.body) == (404, b"our own page")


async def test_alone_it_answers_a_refusal_itself(root: Path) -> None:
    reply = await ask(Files(root), "/nothing")
    assert (reply.status, reply.body) == (404, b"Not Found")
    assert (await ask(Files(root), "/", "POST")).headers["allow"] == "GET, HEAD"


async def test_a_websocket_is_closed(root: Path) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await Files(root)({"type": "websocket", "path": "/", "headers": []}, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


# The loop and the descriptors --------------------------------------------------------------------


async def test_the_loop_goes_on_while_the_disk_hangs(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging, released = threading.Event(), threading.Event()
    real = os.open

    def hang(*args: Any, **options: Any) -> int:
        hanging.set()
        assert released.wait(10)
        return real(*args, **options)

    monkeypatch.setattr("tailrace.files.beneath.os.open", hang)
    async with Client(Files(root)) as client, client.open("GET", "/hello.txt") as exchange:
        while not hanging.is_set():
            await anyio.sleep(0)  # the loop turns: that is what is tested
        released.set()
        assert await exchange.read_all() == b"hello"


@pytest.mark.linux
async def test_no_descriptor_is_left(root: Path) -> None:
    app = mounted(root)
    await ask(app, "/files/")
    before = len(os.listdir("/proc/self/fd"))
    for path in ("hello.txt", "", "?zip", "docs", "out", "nothing", "fifo", "site/", "in-docs/up"):
        await ask(app, f"/files/{path}")
        await ask(app, f"/files/{path}", "HEAD")
        await ask(app, f"/files/{path}", accept="application/json", if_none_match="*")
        await ask(app, f"/files/{path}", accept="image/png", range="bytes=9999-")
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.linux
@pytest.mark.parametrize("path", ["/big", "/?zip"])
async def test_a_client_that_leaves_leaves_no_descriptor(tmp_path: Path, path: str) -> None:
    (tmp_path / "big").write_bytes(os.urandom(3_000_000))
    before = len(os.listdir("/proc/self/fd"))
    async with Client(Files(tmp_path)) as client:
        async with client.open("GET", path, leave_at=100_000) as exchange:
            await exchange.read_all()
            await exchange.finished()
    assert len(os.listdir("/proc/self/fd")) == before


# Settings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("index", "a/b"),
        ("index", ".."),
        ("index", ""),
        ("follow_links", "current"),
        ("follow_links", ["../up"]),
        ("follow_links", [""]),
        ("cache_control", "no-cache\r\nX: y"),
        *((flag, "no") for flag in ("listing", "hidden", "zip", "precompressed", "sandbox")),
        ("media_types", {"log": "text/plain"}),
        ("media_types", {".LOG": "text/plain"}),
        ("media_types", {".log": "text"}),
        ("media_types", {".log": "text/plain\r\nX: y"}),
    ],
)
async def test_a_setting_that_cannot_be_is_told_at_once(
    root: Path, option: str, value: Any
) -> None:
    with pytest.raises(InvalidOption) as told:
        Files(root, **{option: value})
    assert told.value.name == option


async def test_a_directory_that_is_not_there_is_told_at_once(root: Path) -> None:
    for path in (root / "nothing", root / "hello.txt"):
        with pytest.raises(InvalidOption, match="directory"):
            Files(path)


async def test_a_relative_directory_stays_the_same_one(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    files = Files("docs")
    monkeypatch.chdir(tmp_path)
    assert (await ask(files, "/guide.md")).body == b"# Guide\n"
