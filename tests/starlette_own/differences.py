"""The deliberate differences that docs/differences.md lists."""

from __future__ import annotations

from pathlib import Path

__all__ = ["listed_differences"]

PAGE = Path(__file__).parent.parent.parent / "docs" / "differences.md"


def listed_differences(page: str | None = None) -> dict[str, str]:
    """Why each of Starlette's tests fails with ours: test id to reason.

    Args:
        page: The page's text; the project's own without it.

    Raises:
        ValueError: A row without a reason, or a test listed twice.
    """
    reasons: dict[str, str] = {}
    for line in (PAGE.read_text() if page is None else page).splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("| `tests/"):
            continue
        test, reason = cells[0].strip("`"), " ".join(cells[1:]).strip()
        if not reason or test in reasons:
            raise ValueError(f"{test} is listed twice, or without a reason")
        reasons[test] = reason
    return reasons
