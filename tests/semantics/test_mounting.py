"""Where an application is, whatever a framework says of it."""

from __future__ import annotations

from typing import Any

import pytest

from tailrace.semantics import mounted

LITESTAR = {"litestar_app": object()}


def scope(path: str, raw: bytes | None, root: str = "", **more: Any) -> dict[str, Any]:
    return {"path": path, "raw_path": raw, "root_path": root, **more}


@pytest.mark.parametrize(
    ("given", "path", "root"),
    [
        # Litestar: the place is taken off, and there is always a slash.
        (scope("/a.txt/", b"/files/a.txt", **LITESTAR), "/files/a.txt", "/files"),
        (scope("/dir/", b"/files/dir/", **LITESTAR), "/files/dir/", "/files"),
        (scope("/", b"/files", **LITESTAR), "/files", "/files"),
        (scope("/", b"/files/", **LITESTAR), "/files/", "/files"),
        (scope("/a/", b"/api/files/a", "/api", **LITESTAR), "/api/files/a", "/api/files"),
        (scope("/ä b/", b"/files/%C3%A4%20b", **LITESTAR), "/files/ä b", "/files"),
        # One that is taken off by hand, as in Django's asgi.py.
        (scope("/a.txt", b"/files/a.txt"), "/files/a.txt", "/files"),
    ],
)
def test_what_was_taken_off_the_path_is_put_back(
    given: dict[str, Any], path: str, root: str
) -> None:
    assert mounted(given) == {**given, "path": path, "root_path": root}


@pytest.mark.parametrize(
    "given",
    [
        scope("/files/a", b"/files/a", "/files"),
        scope("/files/ä b/", b"/files/%C3%A4%20b/", "/files"),
        scope("/files/\ufffd", b"/files/%ff", "/files"),
        scope("/files/a", None, "/files"),
        scope("/files/a", b"", "/files"),
        scope("/proxy/a", b"/a", "/proxy"),  # a server that adds its root to the path alone
        scope("/other", b"/files/a"),  # a middleware has rewritten it
        scope("/", b"/any/page"),  # the same, for a site of one page
        scope("s", b"/files"),
    ],
)
def test_what_is_said_by_the_convention_or_rewritten_is_left(given: dict[str, Any]) -> None:
    assert mounted(given) is given


def test_a_path_that_litestar_has_tidied_is_no_more_than_it_says() -> None:
    given = scope("/a/b/", b"/files/a//b", **LITESTAR)
    assert mounted(given) is given
