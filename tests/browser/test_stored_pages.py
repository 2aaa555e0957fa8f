"""What somebody has stored is a page of no origin: in a browser it reads and writes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Request

from tests.crash.clients import create
from tests.crash.served import Served

pytestmark = [pytest.mark.browser, pytest.mark.slow]

STREAM = "/v1/stream/notes"

ATTACK = """<!doctype html><title>Stored</title>
<svg xmlns="http://www.w3.org/2000/svg" onload="document.title = 'ran'"></svg>
<script>document.title = "ran"; fetch("/v1/stream/notes", {method: "DELETE"});</script>"""

ASK = """async (method) => {
  try {
    const answer = await fetch("/v1/stream/notes", {method, body: method === "GET" ? null : "x"});
    return answer.type === "opaque" ? 0 : answer.status;
  } catch (error) {
    return 0;
  }
}"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path, workers=1)
    for name in ("page.html", "picture.svg"):
        (served.files / name).write_text(ATTACK)
    served.start()
    try:
        yield served
    finally:
        served.stop()


def test_a_page_that_was_stored_runs_nothing_and_reaches_no_stream(
    chromium: Browser, server: Served
) -> None:
    create(server.port, STREAM, "text/plain")
    create(server.port, "/v1/stream/page", "text/html")
    browsed = chromium.new_page()
    root = f"http://127.0.0.1:{server.port}"
    own = "<!doctype html><title>A page of the streams' origin</title>"
    browsed.route("**/own", lambda route: route.fulfill(body=own, content_type="text/html"))
    browsed.goto(f"{root}/own")
    browsed.evaluate(
        """body => fetch("/v1/stream/page", {method: "POST", body, headers: {"content-type":
        "text/html"}})""",
        ATTACK,
    )
    assert browsed.evaluate(ASK, "GET") == 200  # the server's own page may
    asked: list[str] = []

    def note(request: Request) -> None:
        asked.append(f"{request.method} {request.url.removeprefix(root)}")

    browsed.on("request", note)
    for path in ("/files/page.html", "/v1/stream/page?offset=-1"):
        asked.clear()
        browsed.goto(root + path)
        assert browsed.title() == "Stored"
        assert browsed.evaluate("self.origin") == "null"
        # Even if a script ran there (this one is the test's, past the page's own policy).
        for method in ("GET", "POST", "DELETE"):
            assert browsed.evaluate(ASK, method) == 0
        assert f"GET {path}" in asked
    browsed.goto(f"{root}/own")
    assert browsed.evaluate(ASK, "GET") == 200  # nobody has deleted it
    browsed.close()
