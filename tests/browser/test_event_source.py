"""A browser's own EventSource on a stream: it loses nothing, whatever happens to its connection.

The page has no code to resume: Chromium comes back with `Last-Event-ID`, the server does the rest.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.cutting_proxy import CuttingProxy, cutting_proxy
from tests.crash.clients import Writer, catch_up, close, create
from tests.crash.served import Served

pytestmark = [pytest.mark.browser, pytest.mark.slow]

STREAM = "/v1/stream/x"
CUTS = 20
DEADLINE = 20_000
"""Milliseconds for whatever the page must come to: a restarted server takes two seconds."""

PAGE = """<!doctype html><title>A stream</title><script>
window.got = [];
window.opened = 0;
window.events = new EventSource("/v1/stream/x?offset=-1&live=sse");
events.addEventListener("data", (event) => got.push(event.data));
events.addEventListener("open", () => { opened++; window.before = got.length; });
</script>"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path, workers=1)
    served.start()
    try:
        yield served
    finally:
        served.stop()


@pytest.fixture
def proxy(server: Served) -> Iterator[CuttingProxy]:
    with cutting_proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def page(chromium: Browser, server: Served, proxy: CuttingProxy) -> Iterator[Page]:
    create(server.port, STREAM, "application/json")
    page = chromium.new_page()
    # A page of the streams' origin; what lies under /files/ is not (its pages are sandboxed).
    page.route("**/page.html", lambda route: route.fulfill(body=PAGE, content_type="text/html"))
    page.goto(f"http://127.0.0.1:{proxy.port}/page.html")
    yield page
    page.close()


def numbers(texts: list[str]) -> list[int]:
    """The numbers of the messages in the data of events."""
    return [message["number"] for text in texts for message in json.loads(text)]


def wait_for_more(page: Page, opened: int) -> None:
    """Wait until the connection was opened once more, and something came through it."""
    page.wait_for_function(
        "count => opened > count && got.length > before", arg=opened, timeout=DEADLINE
    )


def test_every_message_comes_once_through_cuts_and_restarts(
    page: Page, server: Served, proxy: CuttingProxy
) -> None:
    rng = random.Random(5)
    writer = Writer(server.port, STREAM, "w", is_json=True, pause=0.005)
    writer.start()
    wait_for_more(page, 0)
    for cut in range(CUTS):
        opens = page.evaluate("opened")
        proxy.cut_after(rng.randint(1, 3000), STREAM)
        wait_for_more(page, opens)
        if cut in (CUTS // 3, 2 * CUTS // 3):
            opens = page.evaluate("opened")
            server.restart(kill=cut == CUTS // 3)
            wait_for_more(page, opens)
    writer.finish()
    writer.join()
    everything = numbers([body.decode() for body in catch_up(server.port, STREAM)])
    page.wait_for_function(
        "count => got.flatMap((text) => JSON.parse(text)).length >= count",
        arg=len(everything),
        timeout=DEADLINE,
    )
    assert proxy.cuts == CUTS
    assert numbers(page.evaluate("got")) == everything == list(range(len(everything)))
    assert len(writer.acked) <= len(everything)


def test_a_browser_stops_when_the_stream_is_closed(
    page: Page, server: Served, proxy: CuttingProxy
) -> None:
    writer = Writer(server.port, STREAM, "w", is_json=True, pause=0.005)
    writer.start()
    wait_for_more(page, 0)
    writer.finish()
    writer.join()
    close(server.port, STREAM)
    page.wait_for_function("events.readyState === EventSource.CLOSED", timeout=DEADLINE)
    assert numbers(page.evaluate("got")) == list(range(len(writer.acked)))
    # The first, and the one that was told that there is nothing more.
    assert len([line for line in proxy.requests if STREAM in line]) == 2
