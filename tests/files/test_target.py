"""What a request's path names: pure."""

from __future__ import annotations

import pytest

from tailrace.files.names import Target, target_of
from tailrace.testing._asgi import Request


def target(path: str, root_path: str = "") -> Target | None:
    scope = Request(method="GET", target=path).scope({})
    return target_of({**scope, "root_path": root_path})


def names(path: str) -> tuple[str, ...] | None:
    found = target(path)
    return None if found is None else found.names


def test_a_path_is_its_names() -> None:
    assert target("/docs/guide.md") == Target(("docs", "guide.md"), False, "")


def test_a_slash_at_the_end_is_told() -> None:
    assert target("/docs/") == Target(("docs",), True, "")


def test_the_mount_is_taken_off() -> None:
    assert target("/files/docs", "/files") == Target(("docs",), False, "/files")


def test_the_mount_without_its_slash_is_the_directory_without_its_slash() -> None:
    assert target("/files", "/files") == Target((), False, "/files")


@pytest.mark.parametrize("path", ["/api/files/docs", "/files/docs"])
def test_what_a_proxy_has_taken_off_is_no_name_below_the_mount(path: str) -> None:
    scope = Request(method="GET", target=path).scope({})
    behind = {**scope, "root_path": "/api/files", "app_root_path": "/api"}
    assert target_of(behind) == Target(("docs",), False, "/api/files")


def test_a_path_that_only_begins_like_the_mount_is_not_below_it() -> None:
    assert target("/files-too/x", "/files") == Target(("files-too", "x"), False, "/files")


@pytest.mark.parametrize(
    "path",
    [
        *("/..", "/../x", "/x/..", "/x/../y", "/.", "/./x", "//x", "/x//y", "//"),
        *("/%2e%2e/x", "/%2E%2e/x", "/.%2e/x", "/%2e/x", "/..%2fx", "/%2e%2e%2fx", "/x%2f%2e%2e"),
        *("/%00", "/x%00.txt", "/x/%00/y", "x", "", "%2e%2e"),
    ],
)
def test_what_is_no_walk_down_names_nothing(path: str) -> None:
    # "" is the path of nothing but a mount, which has its own test.
    assert names(path) in (None, ()) if path == "" else names(path) is None


def test_a_path_is_decoded_once() -> None:
    assert names("/%252e%252e/x") == ("%2e%2e", "x")


def test_overlong_utf8_is_not_a_dot() -> None:
    assert names("/%c0%ae%c0%ae/x") == ("\udcc0\udcae\udcc0\udcae", "x")


def test_a_backslash_is_a_letter() -> None:
    assert names("/..%5c..%5cx") == ("..\\..\\x",)


def test_a_name_that_is_not_utf8_keeps_its_bytes() -> None:
    assert names("/bad%ff.txt") == ("bad\udcff.txt",)


def test_a_path_that_was_rewritten_wins_over_the_raw_one() -> None:
    scope = {**Request(method="GET", target="/secret").scope({}), "path": "/public"}
    assert target_of(scope) == Target(("public",), False, "")


def test_a_server_that_sends_no_raw_path_is_served() -> None:
    assert target_of({"path": "/Ü", "root_path": ""}) == Target(("Ü",), False, "")


def test_a_surrogate_that_stands_for_no_byte_names_nothing() -> None:
    assert target_of({"path": "/\ud800", "root_path": ""}) is None
