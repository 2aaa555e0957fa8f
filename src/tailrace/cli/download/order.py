"""What to download, and how: the settings of `tailrace get`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tailrace import limits
from tailrace.cli.download.retry import RetryPolicy

__all__ = ["Order"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to download, and how.

    Args:
        url: An absolute http or https URL.
        directory: Where a file goes that the server or the URL names.
        target: The file, where the user names it.
        headers: To send with each request, to the URL's own origin only.
        jobs: Connections, 1 to `limits.MAX_JOBS`.
        timeout: Seconds without a byte.
        resume: Take up what an earlier run has left.
        force: Replace a file that is there.
        retry: When to give up.
    """

    url: str
    directory: Path = Path()
    target: Path | None = None
    headers: tuple[tuple[str, str], ...] = ()
    jobs: int = 1
    timeout: float = limits.GET_TIMEOUT
    resume: bool = True
    force: bool = False
    retry: RetryPolicy = field(default_factory=RetryPolicy)
