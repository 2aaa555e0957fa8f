"""A part of what docs/production.md says of proxies: `python -m tests.proxies table`."""

from __future__ import annotations

import pytest

from tests.proxies.running import proxy
from tests.proxies.table import FORMS, Row, measure, seconds_of_lines
from tests.servers import serve

SOON = 1.5
"""Seconds; what is not live is not there before the stream's end."""


@pytest.fixture(scope="module")
def rows() -> dict[str, Row]:
    setups = ("nginx-plain", "nginx", "haproxy", "apache")
    return {row.setup: row for row in measure("uvicorn-h11", setups, is_short=True)}


def test_events_are_live_behind_each_of_them(rows: dict[str, Row]) -> None:
    for row in rows.values():
        assert row.live["events"] is not None


def test_a_cut_arrives_with_the_lines_that_the_page_names(rows: dict[str, Row]) -> None:
    assert rows["nginx-plain"].cut == dict.fromkeys(FORMS, False)  # it speaks HTTP/1.0
    for setup in ("nginx", "haproxy", "apache"):
        assert rows[setup].cut == dict.fromkeys(FORMS, True)


def test_who_leaves_is_noticed_at_once_or_at_a_write(rows: dict[str, Row]) -> None:
    for setup in ("nginx-plain", "nginx", "haproxy"):
        silent = rows[setup].leaving["silent"]
        assert silent is not None
        assert silent < SOON
    assert rows["apache"].leaving["ticks"] is not None


def test_an_etag_that_a_client_got_is_one_that_the_server_knows(rows: dict[str, Row]) -> None:
    assert [row.revalidated for row in rows.values()] == [304] * len(rows)


def test_the_text_of_a_run_is_not_held_back_by_nginx_as_it_is() -> None:
    with (
        serve("tests.apps.behind:app", "uvicorn-h11") as server,
        proxy("nginx-plain", server.port) as port,
    ):
        seconds = seconds_of_lines("nginx-plain", port, "/run/text", {"accept": "text/plain"})
    assert seconds is not None
    assert seconds[0] < SOON
