"""`sqlite:///PATH`: streams in one file, for any number of processes of one machine."""

from tailrace.store.sqlite.store import SQLiteStore
from tailrace.store.sqlite.verify import verify

__all__ = ["SQLiteStore", "verify"]
