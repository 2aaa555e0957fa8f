"""`sqlite:///PATH`: streams in one file, for any number of processes of one machine."""

from tailrace.store.sqlite.schema import verify
from tailrace.store.sqlite.store import SQLiteStore

__all__ = ["SQLiteStore", "verify"]
