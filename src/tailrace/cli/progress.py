"""The progress bar of `tailrace get`, on stderr, where a person watches."""

from __future__ import annotations

import time
from pathlib import Path

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column

from tailrace.cli.words import printable

__all__ = ["BarWatcher", "QuietWatcher"]

DRAW_SECONDS = 0.05
"""Between two updates of the bar: one for each chunk would cost more than the download."""


class QuietWatcher:
    """Says nothing, and counts.

    Attributes:
        received: Bytes that came in this run.
    """

    def __init__(self) -> None:
        self.received = 0

    def begin(self, path: Path, total: int | None, have: int) -> None:
        pass

    def advance(self, count: int) -> None:
        self.received += count

    def note(self, text: str) -> None:
        pass


class BarWatcher(QuietWatcher):
    """Draws a bar on a terminal; elsewhere only the notes are written. A context manager."""

    def __init__(self) -> None:
        super().__init__()
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(ratio=1)),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            expand=True,
            disable=not console.is_terminal,
        )
        self._bar: TaskID | None = None
        self._waiting = 0
        self._drawn = 0.0

    def __enter__(self) -> BarWatcher:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, path: Path, total: int | None, have: int) -> None:
        self._waiting = 0
        if self._bar is None:
            self._bar = self._progress.add_task(printable(path.name), total=total, completed=have)
        else:
            self._progress.update(self._bar, total=total, completed=have)

    def advance(self, count: int) -> None:
        super().advance(count)
        self._waiting += count
        now = time.monotonic()
        if self._bar is not None and now >= self._drawn + DRAW_SECONDS:
            self._progress.advance(self._bar, self._waiting)
            self._waiting, self._drawn = 0, now

    def note(self, text: str) -> None:
        # Through click where there is no bar: rich would wrap and colour what a log should keep.
        if self._progress.disable:
            click.echo(f"tailrace: {printable(text)}", err=True)
        else:
            self._progress.console.print(
                f"tailrace: {printable(text)}", markup=False, highlight=False
            )
