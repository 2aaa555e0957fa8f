"""From a URL to a store; a driver is imported only when it is asked for."""

from __future__ import annotations

from importlib import import_module
from urllib.parse import urlsplit

from tailrace.errors import InvalidOption
from tailrace.store.base import Store

__all__ = ["open_store"]

_STORES = {
    "memory": "tailrace.store.memory:MemoryStore",
    "sqlite": "tailrace.store.sqlite:SQLiteStore",
}


def open_store(url: str) -> Store:
    """The store that a URL names, not opened yet.

    Args:
        url: `memory://`, `sqlite:///relative/path` or `sqlite:////absolute/path`.

    Raises:
        InvalidOption: No URL of a store, or of one that is not known.
    """
    parts = urlsplit(url)
    known = _STORES.get(parts.scheme)
    if known is None:
        raise InvalidOption("store", url, "memory:// or sqlite:///PATH")
    module, _, name = known.partition(":")
    make = getattr(import_module(module), name)
    store: Store
    if parts.scheme == "memory":
        if url.removeprefix("memory:").strip("/"):
            raise InvalidOption("store", url, "memory:// alone")
        store = make()
    else:
        path = url.removeprefix("sqlite://")
        # SQLite's own ":memory:" would be taken for the name of a file.
        if not path.startswith("/") or path == "/" or path.startswith("/:"):
            raise InvalidOption("store", url, "sqlite:///PATH, with a file's path after the slash")
        store = make(path[1:])
    return store
