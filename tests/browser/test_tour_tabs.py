"""The tour in several tabs of one window: a browser opens six connections for all of them.

The tabs of all tests stay open: those that are hidden hold nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import psutil
import pytest

from tests.browser.tabs import DEADLINE, Tab, Window, open_window
from tests.cli.running_demo import RunningDemo, running_demo

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def demo() -> Iterator[RunningDemo]:
    with running_demo() as demo:
        yield demo


@pytest.fixture(scope="module")
def window() -> Iterator[Window]:
    with open_window() as window:
        yield window


STATE = "document.querySelector('[data-path=\"%s\"] .state')?.dataset.state"


def wait_for_streams(tab: Tab) -> None:
    """The two that have no end are arriving."""
    for path in ("/ticker", "/camera"):
        tab.wait_for(f"{STATE % path} === 'streaming'")


def number_of(tab: Tab) -> int:
    return int(tab.ask("document.querySelector('[data-number]').textContent"))


def connections(demo: RunningDemo) -> list[object]:
    """What is open to the server."""
    held = psutil.Process(demo.process.pid).net_connections("tcp")
    return [each for each in held if each.status == psutil.CONN_ESTABLISHED]


def test_each_of_four_tabs_streams_while_it_is_seen(demo: RunningDemo, window: Window) -> None:
    tabs = []
    for _ in range(4):
        tab = window.open(demo.url)
        wait_for_streams(tab)
        tabs.append(tab)
    before = number_of(tabs[0])
    tabs[0].show()
    wait_for_streams(tabs[0])
    # Its price goes on where it was, and so does its line.
    tabs[0].wait_for(f"document.querySelector('[data-number]').textContent > {before}")
    assert number_of(tabs[0]) <= before + 10


def test_a_page_that_nobody_sees_holds_no_stream(demo: RunningDemo, window: Window) -> None:
    tab = window.open(demo.url)
    wait_for_streams(tab)
    assert connections(demo)
    window.open("about:blank")
    end = time.monotonic() + DEADLINE  # the server closes what has been silent for five seconds
    while connections(demo):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_tab_that_is_opened_behind_begins_when_it_is_seen(
    demo: RunningDemo, window: Window
) -> None:
    tab = window.open("about:blank")
    window.open("about:blank")
    tab.go(demo.url)
    tab.wait_for("document.readyState === 'complete' && location.protocol === 'http:'")
    assert tab.ask("document.visibilityState") == "hidden"
    assert tab.ask("document.querySelectorAll('[data-state=ready]').length") == 9
    tab.show()
    wait_for_streams(tab)


def test_the_way_back_to_the_page_takes_it_up_again(demo: RunningDemo, window: Window) -> None:
    tab = window.open(demo.url)
    wait_for_streams(tab)
    tab.ask("window.kept = true")
    tab.go(f"{demo.url}/tour.py")
    tab.wait_for("location.pathname === '/tour.py' && document.readyState === 'complete'")
    tab.back()
    tab.wait_for("location.pathname === '/'")
    wait_for_streams(tab)


def test_a_stream_that_waits_for_a_connection_says_so(demo: RunningDemo, window: Window) -> None:
    tab = window.open(demo.url)
    wait_for_streams(tab)
    tab.wait_for(f"{STATE % '/stream'} === 'complete'")
    assert tab.ask("document.getElementById('crowded').hidden")
    # As other windows that are seen beside this one would hold them.
    tab.ask(
        "window.others = Array.from({length: 6}, (_, n) => new EventSource('/ticker?n=' + n)); 0"
    )
    tab.ask("document.querySelector('[data-path=\"/stream\"] .bottom button').click()")
    tab.wait_for("!document.getElementById('crowded').hidden")
    tab.ask("others.forEach((each) => each.close())")
    tab.wait_for("document.getElementById('crowded').hidden")
    tab.wait_for(f"{STATE % '/stream'} === 'complete'")
