"""The suites themselves take minutes: `python -m tests.peers`."""

from __future__ import annotations

import pytest

from tests.peers.__main__ import SUITES
from tests.starlette_own.differences import listed_differences


@pytest.mark.parametrize("package", SUITES)
def test_each_row_of_the_page_is_a_test_once_with_its_reason(package: str) -> None:
    rows = listed_differences(package)
    assert rows
    assert all("::test_" in test for test in rows)
