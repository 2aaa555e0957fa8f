"""Holds the lock of a store's file, as another process would."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tailrace.store.sqlite.lock import open_lock_file

__all__ = ["held"]


@contextmanager
def held(file: Path) -> Iterator[None]:
    """Hold the lock while the block runs."""
    lock = open_lock_file(f"{file}-lock")
    try:
        assert lock.acquire(wait=True)
        try:
            yield
        finally:
            lock.release()
    finally:
        lock.close()
