"""One restart with a download that holds it: every page comes back, and has every event once."""

from __future__ import annotations

import pytest

from tests.proxies.restarts import run_restarts

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_pages_come_back_after_a_restart_that_a_download_held() -> None:
    browsers = {"chromium": ["direct", "nginx"], "firefox": ["direct"]}
    reports = run_restarts(browsers, restarts=1)
    assert not reports.gone
    assert sorted(reports.numbers) == ["chromium-direct", "chromium-nginx", "firefox-direct"]
    assert all(reports.in_order(page) for page in reports.numbers)
