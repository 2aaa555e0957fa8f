"""The listing in a real Chromium: what a person sees and can do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Response, expect

from tests.servers import RunningServer, serve

pytestmark = [pytest.mark.browser, pytest.mark.slow]

LONG = "database-export-2026-11-22T120000Z-production-eu-central-1-with-a-very-long-name.csv.zst"

# WCAG's contrast of two colours as the browser computed them.
CONTRAST = """([selector, behind]) => {
  const light = colour => {
    const parts = colour.match(/[0-9.]+/g).slice(0, 3).map(Number).map(
      part => part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const of = (query, property) => light(getComputedStyle(document.querySelector(query))[property]);
  const [a, b] = [of(selector, "color"), of(behind, "backgroundColor")].sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05);
}"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    root = tmp_path_factory.mktemp("listed")
    (root / "Reports & more" / "deep").mkdir(parents=True)
    (root / "Reports & more" / "deep" / "end.txt").write_bytes(b"the end")
    for name, size, time in (
        ("chapter 2.md", 2000, 200),
        ("chapter 10.md", 1000, 300),
        (LONG, 3000, 100),
        ("<img src=x onerror=alert(1)>", 4, 400),
    ):
        (root / name).write_bytes(b"x" * size)
        os.utime(root / name, (time, time))
    env = {"TAILRACE_TEST_DIRECTORY": str(root)}
    with serve("tests.apps.directory:app", "uvicorn", env=env) as running:
        yield running


@pytest.fixture
def complaints() -> list[str]:
    return []


def refusal(reply: Response) -> list[str]:
    return [] if reply.ok else [f"not ok: {reply.url}"]


@pytest.fixture
def opened(
    chromium: Browser, served: RunningServer, complaints: list[str], request: pytest.FixtureRequest
) -> Iterator[Page]:
    """The listing, in the size and scheme that the test names; a complaint of the page fails it."""
    options = getattr(request, "param", {})
    page = chromium.new_page(**options)
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(f"thrown: {error}"))
    page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
    page.on("response", lambda reply: complaints.extend(refusal(reply)))
    page.goto(f"{served.url}/files/")
    yield page
    page.close()
    assert complaints == []


def names(page: Page) -> list[str]:
    return page.locator("tbody th").all_inner_texts()


def test_a_click_on_a_column_sorts_by_it_and_a_second_turns_it_round(opened: Page) -> None:
    def order() -> list[str]:
        return [name[:9] for name in names(opened)]

    assert order() == ["Reports &", "<img src=", "chapter 2", "chapter 1", "database-"]
    opened.get_by_role("link", name="Size").click()
    assert order() == ["Reports &", "database-", "chapter 2", "chapter 1", "<img src="]
    heading = opened.get_by_role("columnheader", name="Size")
    expect(heading).to_have_attribute("aria-sort", "descending")
    opened.get_by_role("link", name="Size").click()
    expect(heading).to_have_attribute("aria-sort", "ascending")
    assert order() == ["Reports &", "<img src=", "chapter 1", "chapter 2", "database-"]


def test_folders_are_gone_into_and_out_of(opened: Page, served: RunningServer) -> None:
    opened.get_by_role("link", name="Reports & more").click()
    expect(opened.get_by_role("heading", level=1)).to_have_text("Reports & more")
    opened.get_by_role("link", name="deep").click()
    opened.get_by_role("navigation", name="Path").get_by_role("link", name="files").click()
    assert opened.url == f"{served.url}/files/"
    opened.get_by_role("link", name="Reports & more").click()
    opened.get_by_role("link", name="Up one level").click()
    assert opened.url == f"{served.url}/files/"


def test_the_zip_is_downloaded_under_the_directorys_name(opened: Page, tmp_path: Path) -> None:
    opened.get_by_role("link", name="Reports & more").click()
    with opened.expect_download() as download:
        opened.get_by_role("link", name="Download as ZIP").click()
    assert download.value.suggested_filename == "Reports & more.zip"
    download.value.save_as(tmp_path / "made.zip")
    assert (tmp_path / "made.zip").read_bytes().startswith(b"PK")


def test_the_style_is_applied_under_its_own_policy(opened: Page) -> None:
    assert (
        opened.locator("table").evaluate("table => getComputedStyle(table).borderRadius") != "0px"
    )


@pytest.mark.parametrize(
    "opened",
    [{"color_scheme": scheme} for scheme in ("light", "dark")],
    indirect=True,
    ids=["light", "dark"],
)
@pytest.mark.parametrize(
    ("text", "behind"),
    [("tbody a", "table"), ("td.time", "table"), ("thead a", "table"), ("header p", "body")],
)
def test_text_can_be_read_in_both_schemes(opened: Page, text: str, behind: str) -> None:
    # 4.5 is what WCAG's level AA asks for.
    assert opened.evaluate(CONTRAST, [text, behind]) >= 4.5


def test_the_dark_scheme_is_dark(chromium: Browser, served: RunningServer) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        page = chromium.new_page(color_scheme=scheme)
        page.goto(f"{served.url}/files/")
        grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        page.close()
    assert grounds == ["rgb(243, 246, 247)", "rgb(12, 20, 23)"]


@pytest.mark.parametrize(
    "opened",
    [{"viewport": {"width": width, "height": 700}} for width in (320, 375, 768, 1440)],
    indirect=True,
    ids=["320", "375", "768", "1440"],
)
def test_nothing_is_cut_off_at_any_width(opened: Page) -> None:
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    cells = opened.locator("tbody td, tbody th, thead th")
    for box in cells.evaluate_all("all => all.map(one => one.getBoundingClientRect().toJSON())"):
        assert box["left"] >= 0
        assert box["right"] <= opened.evaluate("innerWidth")


def test_everything_is_reached_by_the_keyboard_in_the_order_that_is_seen(opened: Page) -> None:
    reached = []
    for _ in range(5):
        opened.keyboard.press("Tab")
        reached.append(opened.evaluate("document.activeElement.innerText").split("\n")[0])
    assert [text[:8] for text in reached] == ["Download", "Name", "Size", "Modified", "Reports "]
