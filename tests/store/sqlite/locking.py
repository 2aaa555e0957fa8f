"""Somebody else who has the lock of a store's file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tailrace.store.sqlite.lock import open_lock_file

__all__ = ["held"]


@contextmanager
def held(file: Path) -> Iterator[None]:
    """The lock is taken for the length of the block."""
    lock = open_lock_file(f"{file}-lock")
    try:
        assert lock.acquire(wait=True)
        try:
            yield
        finally:
            lock.release()
    finally:
        lock.close()
