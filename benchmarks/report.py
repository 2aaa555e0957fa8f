"""The results of the rows as a table, for the screen and for RESULTS.md."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from benchmarks.measure import Account, Cost, middle
from benchmarks.peers import NOT_INSTALLED, nginx_version, node_server_version

__all__ = ["Finding", "compare", "machine", "markdown", "screen"]

_COLUMNS: Final = ("what", "peer", "theirs", "ours", "ratio", "target", "holds")
_PACKAGES: Final = (
    "tailrace",
    "fastapi",
    "starlette",
    "sse-starlette",
    "uvicorn",
    "granian",
    "uvloop",
    "httptools",
    "anyio",
    "pydantic",
    "pydantic-core",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the table.

    Args:
        what: What was measured.
        peer: The name of the other side; "" if there is none.
        theirs: The peer's result, with its unit.
        ours: Our result.
        ratio: How the two compare, in words.
        target: What our result should be; "" if there is no target.
        holds: Whether the target was met; None if there is no target.
        rounds: The single turns behind the numbers, a line for each side.
    """

    what: str
    peer: str
    theirs: str
    ours: str
    ratio: str
    target: str
    holds: bool | None
    rounds: tuple[str, ...] = ()

    def cells(self) -> tuple[str, ...]:
        holds = {True: "yes", False: "NO", None: "-"}[self.holds]
        named = (self.what, self.peer, self.theirs, self.ours, self.ratio, self.target, holds)
        return tuple(cell or "-" for cell in named)


def compare(
    what: str,
    costs: dict[str, list[Cost]],
    *,
    peer: str,
    ours: str,
    account: Account,
    at_least: float | None = None,
) -> Finding:
    """A line for two sides that did the same work.

    Args:
        what: What the work was.
        costs: The turns of each side, by its name.
        peer: The name of the other side in `costs`.
        ours: The name of our side in `costs`.
        account: What the ratio compares, time or CPU; the other is shown beside it.
        at_least: How many times cheaper our side must be; None if there is no target.
    """
    ratio = middle(costs[peer], account) / middle(costs[ours], account)
    target = "" if at_least is None else f"at least {at_least:g}x ({account})"
    return Finding(
        what=what,
        peer=peer,
        theirs=_both(costs[peer], account),
        ours=_both(costs[ours], account),
        ratio=f"{ratio:.1f}x",
        target=target,
        holds=None if at_least is None else ratio >= at_least,
        rounds=tuple(f"{name}: {_each(costs[name])}" for name in (peer, ours)),
    )


def machine() -> list[str]:
    """The machine and the versions, one line for each."""
    versions = ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)
    return [
        f"Date: {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}",
        f"CPU: {_field('/proc/cpuinfo', 'model name')}, {os.cpu_count()} cores",
        f"Memory: {int(_field('/proc/meminfo', 'MemTotal').split()[0]) / 1024**2:.1f} GiB",
        f"Kernel: {platform.system()} {platform.release()}",
        f"Python: {platform.python_implementation()} {platform.python_version()}",
        f"Packages: {versions}",
        f"nginx: {nginx_version() or NOT_INSTALLED}",
        f"@durable-streams/server: {node_server_version() or NOT_INSTALLED}",
        f"Load average before the run: {' '.join(f'{load:.2f}' for load in os.getloadavg())}",
    ]


def screen(findings: Sequence[Finding]) -> str:
    rows = [_COLUMNS, *(finding.cells() for finding in findings)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def markdown(findings: Sequence[Finding], about: Sequence[str]) -> str:
    """RESULTS.md: the table, the machine, and every single turn."""
    lines = [
        "# Benchmarks: results of one run",
        "",
        "Written by `make bench`; how it is measured stands in `benchmarks/__init__.py`. The",
        "numbers are the middle of the turns listed below the table; CPU is the server process's.",
        "",
        _markdown_row(_COLUMNS),
        _markdown_row(["---"] * len(_COLUMNS)),
        *(_markdown_row(finding.cells()) for finding in findings),
        "",
        "## Machine and versions",
        "",
        *(f"- {line}" for line in about),
        "",
        "## Every turn",
        "",
    ]
    for finding in (finding for finding in findings if finding.rounds):
        lines += [f"- {finding.what}, {finding.peer or 'ours alone'}"]
        lines += [f"  - {turn}" for turn in finding.rounds]
    return "\n".join(lines) + "\n"


def _both(costs: Sequence[Cost], account: Account) -> str:
    wall, cpu = middle(costs, "wall"), middle(costs, "cpu")
    if account == "wall":
        return f"{wall:.3f} s ({cpu:.3f} s CPU)"
    return f"{cpu:.3f} s CPU ({wall:.3f} s)"


def _each(costs: Sequence[Cost]) -> str:
    return ", ".join(f"{cost.wall:.3f} s ({cost.cpu:.3f} s CPU)" for cost in costs)


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return NOT_INSTALLED


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        if line.startswith(name):
            return line.split(":", 1)[1].strip()
    return "unknown"
