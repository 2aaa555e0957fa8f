"""Who wants to be told of which stream, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tailrace.store.base import Change, OnChange

__all__ = ["Watchers"]


class Watchers:
    """The calls to make when a stream changes, by path; of one event loop."""

    def __init__(self) -> None:
        self._calls: dict[str, dict[object, OnChange]] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[str]:
        """The paths that are watched."""
        return iter(tuple(self._calls))

    def has(self, path: str) -> bool:
        """Whether anybody watches."""
        return path in self._calls

    def add(self, path: str, call: OnChange) -> Callable[[], None]:
        """Watch; returns what ends it."""
        key = object()  # the same call may watch twice
        self._calls.setdefault(path, {})[key] = call

        def stop() -> None:
            calls = self._calls.get(path)
            if calls is not None and calls.pop(key, None) is not None and not calls:
                del self._calls[path]

        return stop

    def tell(self, change: Change) -> None:
        """Call those who watch its stream; one that stops meanwhile is not called any more."""
        calls = self._calls.get(change.path)
        for key, call in tuple((calls or {}).items()):
            if calls is not None and key in calls:
                call(change)
