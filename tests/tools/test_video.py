"""A `<video>` in a real Chromium that plays, seeks, and plays on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Request

from tests.browser.chromium import running_chromium
from tests.cli.running_serve import Running, running_serve

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PAGE = """<!doctype html>
<html lang="en">
<title>A film</title>
<video src="/files/film.webm" muted preload="metadata"></video>
</html>
"""

SEEK = """async second => {
  const film = document.querySelector("video");
  const happens = name => new Promise((done, failed) => {
    film.addEventListener(name, done, {once: true});
    film.addEventListener("error", () => failed(film.error.message), {once: true});
  });
  const seeked = happens("seeked");
  film.currentTime = second;
  await seeked;
  const reached = film.currentTime;
  const plays = happens("timeupdate");
  await film.play();
  do await happens("timeupdate"); while (film.currentTime < second + 0.3);
  film.pause();
  return {reached, played: film.currentTime, error: film.error};
}"""


@pytest.fixture
def cinema(films: Path) -> Iterator[Running]:
    with running_serve(films) as server:
        yield server


@pytest.fixture
def page() -> Iterator[Page]:
    with running_chromium() as browser:
        yield browser.new_page()


def test_a_video_plays_from_wherever_it_is_sought(cinema: Running, films: Path, page: Page) -> None:
    requests: list[Request] = []
    page.on("request", lambda request: requests.append(request))
    # A page of the server's origin; those that lie under /files/ are not (they are sandboxed).
    page.route("**/page.html", lambda route: route.fulfill(body=PAGE, content_type="text/html"))
    page.goto(f"http://127.0.0.1:{cinema.port}/page.html")
    page.wait_for_function("document.querySelector('video').readyState > 0")
    assert abs(page.evaluate("document.querySelector('video').duration") - 30) < 0.2
    for second in (25, 5, 15):
        seen = page.evaluate(SEEK, second)
        assert seen["error"] is None
        assert seen["reached"] == second
        assert second + 0.3 <= seen["played"] < second + 5
    ranges = [request.all_headers().get("range") for request in requests if "film" in request.url]
    assert None not in ranges
    starts = {int(range_.removeprefix("bytes=").partition("-")[0]) for range_ in ranges if range_}
    size = (films / "film.webm").stat().st_size
    assert 0 in starts
    assert [start for start in starts if size // 2 < start < size]
