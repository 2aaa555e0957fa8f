"""A write from a page of another site: what two fields of a browser say."""

from __future__ import annotations

import pytest

from tailrace.semantics import foreign_origin

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
