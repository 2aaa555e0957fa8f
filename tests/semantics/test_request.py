"""A page of another site that writes, and an application that is mounted."""

from __future__ import annotations

from typing import Any

import pytest

from tailrace.semantics import foreign_origin, mounted

OWN = "http://localhost:8000"
FOREIGN = "https://foreign.example"


def asked(
    *, origin: str | None = None, site: str | None = None, host: str = "localhost:8000"
) -> list[tuple[bytes, bytes]]:
    given = {b"host": host, b"origin": origin, b"sec-fetch-site": site}
    return [(name, value.encode("latin-1")) for name, value in given.items() if value is not None]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "LOCK"])
@pytest.mark.parametrize(
    ("headers", "told"),
    [
        (asked(origin=FOREIGN), FOREIGN),
        (asked(origin="null"), "null"),
        (asked(origin="http://localhost:8001"), "http://localhost:8001"),
        (asked(origin="http://localhost"), "http://localhost"),
        (asked(origin="http://localhost:8000.foreign.example"), None),
        (asked(origin="null", host=""), "null"),
        (asked(origin=""), None),
        (asked(site="cross-site"), "another site"),
        (asked(site="same-site"), "another site"),
        (asked(site="SAME-SITE"), "another site"),
        (asked(site="what nobody knows yet"), "another site"),
        (asked(site="cross-site", origin=OWN), OWN),
        ([*asked(origin=FOREIGN), (b"origin", OWN.encode())], f"{OWN}, {FOREIGN}"),
        ([*asked(site="same-origin"), (b"sec-fetch-site", b"cross-site")], "another site"),
    ],
)
def test_a_page_of_another_site_may_not_write(
    method: str, headers: list[tuple[bytes, bytes]], told: str | None
) -> None:
    refused = foreign_origin(method, headers, ())
    assert refused is not None or told is None
    assert told is None or refused == told


@pytest.mark.parametrize(
    "headers",
    [
        asked(),
        asked(origin=OWN),
        asked(origin="https://localhost:8000"),  # a proxy has ended TLS
        asked(origin="HTTP://LOCALHOST:8000"),
        asked(site="same-origin"),
        asked(site="none"),
        asked(origin=FOREIGN, site="same-origin"),  # a proxy has changed the Host
        asked(origin="null", site="same-origin"),  # a form, under Referrer-Policy: no-referrer
    ],
)
def test_the_servers_own_pages_and_programs_may(headers: list[tuple[bytes, bytes]]) -> None:
    assert foreign_origin("POST", headers, ()) is None


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_who_reads_is_left_to_the_browsers_own_rules(method: str) -> None:
    assert foreign_origin(method, asked(origin=FOREIGN, site="cross-site"), ()) is None


@pytest.mark.parametrize("allowed", [("*",), (FOREIGN,), ("https://a.example", FOREIGN)])
def test_an_origin_that_is_named_may_write(allowed: tuple[str, ...]) -> None:
    for headers in (asked(origin=FOREIGN), asked(origin=FOREIGN, site="cross-site")):
        assert foreign_origin("POST", headers, allowed) is None


def test_null_may_write_only_where_it_is_named() -> None:
    assert foreign_origin("POST", asked(origin="null"), ("null",)) is None


LITESTAR: dict[str, Any] = {"litestar_app": object()}


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
