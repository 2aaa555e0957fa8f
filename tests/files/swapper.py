"""Swaps what is at a path between two things, again and again and as fast as it can.

It is a process of its own. The swap must come between the check of a path and its opening; a thread
of the test's process would be stopped just there, because the test then has the interpreter lock.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path

__all__ = ["Swapper"]


class Swapper(AbstractContextManager["Swapper"]):
    """Swaps while its block runs.

    Args:
        place: The path that is swapped.
        other: The path of what takes its place in turn.
    """

    def __init__(self, place: Path, other: Path) -> None:
        self._command = [sys.executable, __file__, str(place), str(other)]

    def __enter__(self) -> Swapper:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"swapping\n"
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()


def swap_for_ever(place: str, other: str) -> None:
    # A directory cannot be replaced by one rename, so four are needed, and for a moment the path
    # does not exist. Everything else is replaced without such a gap.
    step = move_about if os.path.isdir(place) and not os.path.islink(place) else replace
    for turn in count():
        step(place, other)
        if turn == 0:
            sys.stdout.write("swapping\n")
            sys.stdout.flush()


def move_about(place: str, other: str) -> None:
    held = place + ".held"
    os.rename(place, held)
    os.rename(other, place)
    os.rename(place, other)
    os.rename(held, place)


def replace(place: str, other: str) -> None:
    # Hard links: if the source is a symbolic link, the link itself gets a second name.
    held, fresh = place + ".held", place + ".fresh"
    if not os.path.lexists(held):
        os.link(place, held, follow_symlinks=False)
    for source in (other, held):
        os.link(source, fresh, follow_symlinks=False)
        os.replace(fresh, place)


if __name__ == "__main__":
    swap_for_ever(*sys.argv[1:])
