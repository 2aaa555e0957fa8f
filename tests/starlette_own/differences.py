"""The deliberate differences that docs/differences.md lists."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

__all__ = ["listed_differences", "variants"]

PAGE = Path(__file__).parent.parent.parent / "docs" / "differences.md"


def listed_differences(replaced: str, page: str | None = None) -> dict[str, str]:
    """The reasons why some of Starlette's tests fail with our class, by the test's id.

    Args:
        replaced: The class; its rows are under the heading with its name.
        page: The page's text; None reads docs/differences.md.

    Raises:
        ValueError: A row without a reason, or a test listed twice.
    """
    reasons: dict[str, str] = {}
    here = False
    for line in (PAGE.read_text() if page is None else page).splitlines():
        if line.startswith("#"):
            here = f"`{replaced}`" in line
        if not here or not line.startswith("| `tests/"):
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        test, reason = cells[0].strip("`"), " ".join(cells[1:]).strip()
        if not reason or test in reasons:
            raise ValueError(f"{test} is listed twice, or without a reason")
        reasons[test] = reason
    return reasons


def variants(test: str, ran: Collection[str]) -> set[str]:
    """The tests that a row is about: the one that it names, or all parameters of that one."""
    return {test, *(other for other in ran if other.startswith(f"{test}["))} & set(ran)
