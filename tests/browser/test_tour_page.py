"""The tour's page in a real Chromium: what a person sees while the streams arrive.

All tests look at one page, which stays open: the job of ten seconds goes on while others look.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Locator,
    Page,
    Request,
    Response,
    expect,
)

from tests.cli.running_demo import RunningDemo, running_demo

pytestmark = pytest.mark.browser

DEADLINE = 15_000
"""Milliseconds until something must be seen: the longest stream that ends takes ten seconds."""

# Notes each text that two places of the page ever showed, from before its own script runs.
WATCH = """
window.seen = {};
function watch(name, selector) {
  const element = document.querySelector(selector);
  seen[name] = [];
  // Not what is drawn again as it is.
  new MutationObserver(() => {
    if (seen[name].at(-1) !== element.textContent) seen[name].push(element.textContent);
  }).observe(element, { childList: true, characterData: true, subtree: true });
}
document.addEventListener("DOMContentLoaded", () => {
  watch("words", '[data-path="/stream"] .output');
  watch("numbers", "[data-number]");
  watch("pages", '[data-path="/report"] [data-message]');
});
"""

# The colour of one pixel of the camera's picture, as the browser decoded it.
PIXEL = """(image, [x, y]) => {
  const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight).getContext("2d");
  canvas.drawImage(image, 0, 0);
  return [...canvas.getImageData(x, y, 1, 1).data.slice(0, 3)];
}"""


@dataclass
class Tour:
    """The open page, and what went wrong on it."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def card(self, path: str) -> Locator:
        return self.page.locator(f'[data-path="{path}"]')

    def output(self, path: str) -> Locator:
        return self.card(path).locator(".output")

    def wait_for_state(self, path: str, state: str) -> None:
        expect(self.card(path).locator(".state")).to_have_text(state, timeout=DEADLINE)

    def event_number(self) -> int:
        """The id of the ticker's last event."""
        return int(self.card("/ticker").locator("[data-number]").inner_text())

    def wait_for_event(self, number: int) -> None:
        self.page.wait_for_function(
            "least => Number(document.querySelector('[data-number]').textContent) >= least",
            arg=number,
            timeout=DEADLINE,
        )

    def percent(self) -> int:
        return int(self.card("/progress").locator("[data-percent]").inner_text())

    def wait_for_percent(self, least: int) -> None:
        """Of the report."""
        self.page.wait_for_function(
            """least => Number(
              document.querySelector('[data-path="/report"] [data-percent]').textContent) >= least
            """,
            arg=least,
            timeout=DEADLINE,
        )


@pytest.fixture(scope="module")
def demo() -> Iterator[RunningDemo]:
    with running_demo() as running:
        yield running


def failure(request: Request) -> list[str]:
    """A complaint, unless the page itself let the stream go: by a button, or after "done"."""
    if request.failure == "net::ERR_ABORTED":
        return []
    return [f"{request.failure}: {request.url}"]


def refusal(answer: Response) -> list[str]:
    return [] if answer.ok else [f"not ok: {answer.url}"]


def open_tour(browser: Browser | BrowserContext, url: str) -> Tour:
    tour = Tour(browser.new_page())
    complaints = tour.complaints
    page = tour.page
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(f"thrown: {error}"))
    page.on("requestfailed", lambda request: complaints.extend(failure(request)))
    page.on("response", lambda answer: complaints.extend(refusal(answer)))
    page.add_init_script(WATCH)
    page.goto(f"{url}/", wait_until="domcontentloaded")
    return tour


@pytest.fixture(scope="module")
def tour(chromium: Browser, demo: RunningDemo) -> Tour:
    return open_tour(chromium, demo.url)


def test_each_word_of_stream_is_shown_when_it_was_said(tour: Tour) -> None:
    tour.wait_for_state("/stream", "complete")
    shown = tour.page.evaluate("seen.words.filter(Boolean)")
    assert shown == ["Hello ", "Hello from ", "Hello from FastAPI!"]


def test_numbers_are_shown_to_the_last(tour: Tour) -> None:
    tour.wait_for_state("/numbers", "complete")
    lines = tour.output("/numbers").text_content()
    assert lines == "Number 1\nNumber 2\nNumber 3\nNumber 4\nNumber 5\n"


def test_a_file_arrives_whole(tour: Tour) -> None:
    tour.wait_for_state("/file", "complete")
    expect(tour.output("/file")).to_contain_text("This is line 20000 of 20000")
    expect(tour.card("/file").locator("dl")).to_contain_text("780.0 kB")


def test_progress_moves(tour: Tour) -> None:
    tour.page.wait_for_function(
        "Number(document.querySelector('[data-percent]').textContent) > 0", timeout=DEADLINE
    )
    before = tour.percent()
    tour.page.wait_for_function(
        "before => Number(document.querySelector('[data-percent]').textContent) > before",
        arg=before,
        timeout=DEADLINE,
    )
    expect(tour.card("/progress").locator("[data-left]")).to_contain_text("s left")


def test_the_ticker_counts_up(tour: Tour) -> None:
    tour.wait_for_event(1)
    before = tour.event_number()
    tour.wait_for_event(before + 2)
    price = float(tour.card("/ticker").locator("[data-price]").inner_text())
    assert 50 < price < 200
    assert tour.card("/ticker").locator("path.line").get_attribute("d")
    tour.wait_for_state("/ticker", "streaming")


def test_the_camera_shows_its_picture(tour: Tour) -> None:
    tour.wait_for_state("/camera", "streaming")
    image = tour.card("/camera").locator("img")
    assert image.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [384, 216]
    sky = image.evaluate(PIXEL, [4, 4])
    drawn = (24, 52, 74)
    assert all(abs(seen - wanted) <= 2 for seen, wanted in zip(sky, drawn, strict=True))


def test_the_picture_moves(tour: Tour) -> None:
    tour.wait_for_state("/camera", "streaming")
    tour.page.wait_for_function(
        """async () => {
          const image = document.querySelector(".film img");
          const canvas = new OffscreenCanvas(384, 216).getContext("2d");
          canvas.drawImage(image, 0, 0);
          const now = String(canvas.getImageData(0, 0, 384, 216).data);
          window.earlier ??= now;
          return window.earlier !== now;
        }""",
        timeout=DEADLINE,
    )


def test_rows_are_shown_as_json_lines_at_first(tour: Tour) -> None:
    tour.wait_for_state("/rows", "complete")
    lines = (tour.output("/rows").text_content() or "").splitlines()
    assert lines[1] == '{"number":2,"square":4,"cube":8}'
    assert len(lines) == 8


def test_rows_are_shown_in_the_format_that_is_chosen(tour: Tour) -> None:
    tour.card("/rows").get_by_label("CSV").click()
    expect(tour.output("/rows")).to_contain_text("8,64,512")
    assert tour.output("/rows").text_content() == "number,square,cube\r\n" + "".join(
        f"{number},{number**2},{number**3}\r\n" for number in range(1, 9)
    )


def test_two_hundred_thousand_lines_are_read_to_the_last(tour: Tour) -> None:
    tour.card("/numbers").get_by_label("Lines", exact=True).select_option("200000")
    expect(tour.output("/numbers")).to_contain_text("Number 200000", timeout=DEADLINE)
    tour.wait_for_state("/numbers", "complete")


def test_a_stream_stops_and_starts_again_by_its_button(tour: Tour) -> None:
    tour.card("/camera").get_by_role("button", name="Stop /camera").click()
    tour.wait_for_state("/camera", "stopped")
    tour.card("/camera").get_by_role("button", name="Start /camera").click()
    tour.wait_for_state("/camera", "streaming")


def test_a_card_shows_the_code_of_its_endpoint(tour: Tour) -> None:
    tour.page.get_by_role("button", name="Code of /ticker").click()
    code = tour.page.get_by_role("dialog", name="GET /ticker")
    expect(code).to_contain_text("class Price(BaseModel):")
    expect(code).to_contain_text("yield Event(data=Price(")
    tour.page.keyboard.press("Escape")
    expect(code).to_be_hidden()


@pytest.mark.parametrize("width", [360, 820, 1440])
def test_nothing_is_wider_than_the_screen(tour: Tour, width: int) -> None:
    tour.page.set_viewport_size({"width": width, "height": 900})
    assert tour.page.evaluate("document.documentElement.scrollWidth") == width


def test_the_page_is_dark_where_the_reader_wants_it(tour: Tour) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    tour.page.emulate_media(color_scheme="light")
    light = tour.page.evaluate(colour)
    tour.page.emulate_media(color_scheme="dark")
    assert tour.page.evaluate(colour) != light


def test_a_report_goes_on_while_its_page_is_away(chromium: Browser, demo: RunningDemo) -> None:
    context = chromium.new_context()
    visitor = open_tour(context, demo.url)
    visitor.wait_for_percent(1)
    visitor.page.close()
    back = open_tour(context, demo.url)
    back.wait_for_percent(2)
    # The page has all that was written, with what it missed: its first event is the run's first.
    events = back.page.evaluate("seen.pages.filter((text) => text.startsWith('Page '))")
    assert events[0] == "Page 1 is written"
    assert back.complaints == []
    context.close()


def test_an_answer_is_there_when_the_page_is_opened_again(
    chromium: Browser, demo: RunningDemo
) -> None:
    context = chromium.new_context()
    visitor = open_tour(context, demo.url)
    visitor.page.get_by_label("Question").fill("Why is it called Tailrace?")
    visitor.page.get_by_role("button", name="Ask").click()
    expect(visitor.output("/chat")).to_contain_text("A tailrace is", timeout=DEADLINE)
    visitor.page.close()  # in the middle of the answer
    back = open_tour(context, demo.url)
    expect(back.output("/chat")).to_contain_text("Your code is the wheel.", timeout=DEADLINE)
    assert back.output("/chat").locator(".asked").all_inner_texts() == [
        "Why is it called Tailrace?"
    ]
    assert back.output("/chat").inner_text().count("A tailrace is") == 1
    back.wait_for_state("/chat", "complete")
    context.close()


def test_a_report_begins_anew_where_that_is_asked_for(chromium: Browser, demo: RunningDemo) -> None:
    context = chromium.new_context()
    visitor = open_tour(context, demo.url)
    visitor.wait_for_percent(2)
    visitor.page.get_by_role("button", name="Begin anew").click()
    expect(visitor.card("/report").locator("[data-message]")).to_have_text(
        re.compile(r"Page [1-4] is written"), timeout=DEADLINE
    )
    visitor.wait_for_state("/report", "streaming")
    context.close()


def test_after_a_restart_the_ticker_goes_on_and_what_was_cut_says_so(chromium: Browser) -> None:
    with running_demo() as first:
        visitor = open_tour(chromium, first.url)
        visitor.wait_for_event(2)
        visitor.wait_for_state("/camera", "streaming")
    visitor.wait_for_state("/camera", "cut")
    before = visitor.event_number()
    with running_demo(first.port):
        visitor.wait_for_event(before + 1)
    numbers = visitor.page.evaluate("seen.numbers.map(Number)")
    assert numbers == list(range(1, len(numbers) + 1))
    visitor.page.close()


def test_the_job_ends_with_its_last_event(tour: Tour) -> None:
    tour.wait_for_state("/progress", "complete")
    assert tour.percent() == 100
    expect(tour.card("/progress").locator("[data-message]")).to_have_text("It is ready")


def test_nothing_failed_on_the_page(tour: Tour) -> None:
    tour.wait_for_state("/progress", "complete")
    assert tour.complaints == []
