"""What waits for the writer thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tailrace.store.values import Append, NewStream

__all__ = [
    "AppendTo",
    "Chore",
    "Create",
    "Delete",
    "Expire",
    "Keep",
    "Operation",
    "Probe",
    "Stop",
    "Touch",
    "Trim",
]


class Operation:
    """One request: the event loop makes it, the writer thread answers, the loop is told.

    Args:
        path: The stream.
        size: Bytes of data in it.
        wake: Called in the event loop when `result` or `error` is there; None: nobody waits.
    """

    __slots__ = ("error", "is_counted", "path", "result", "size", "wake", "withdrawn")

    def __init__(self, path: str, size: int, wake: Callable[[], None] | None) -> None:
        self.path = path
        self.size = size
        self.wake = wake
        self.result: Any = None
        self.error: BaseException | None = None
        self.is_counted = False
        """It takes room in the queue."""
        self.withdrawn = False
        """Who asked is gone; it is left out if it has not been taken yet."""


class AppendTo(Operation):
    """An append; the result is an `Appended`."""

    __slots__ = ("append",)

    def __init__(self, path: str, append: Append, wake: Callable[[], None] | None) -> None:
        super().__init__(path, len(append.data), wake)
        self.append = append


class Create(Operation):
    """A creation; the result is a `Created`."""

    __slots__ = ("new",)

    def __init__(self, path: str, new: NewStream, wake: Callable[[], None] | None) -> None:
        super().__init__(path, len(new.data), wake)
        self.new = new


class Delete(Operation):
    """A deletion; no result."""

    __slots__ = ()

    def __init__(self, path: str, wake: Callable[[], None] | None) -> None:
        super().__init__(path, 0, wake)


class Probe(Operation):
    """A health check: something is written, durably."""

    __slots__ = ()

    def __init__(self, wake: Callable[[], None] | None) -> None:
        super().__init__("", 0, wake)


class Touch(Operation):
    """Streams that expire were used: have it written down. Nobody waits for it."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("", 0, None)


class Chore(Operation):
    """Something to be done with some streams. Nobody waits for it.

    Args:
        paths: The streams.
    """

    __slots__ = ("paths",)

    def __init__(self, paths: Sequence[str]) -> None:
        super().__init__("", 0, None)
        self.paths = paths


class Expire(Chore):
    """Delete those of some streams that have expired."""

    __slots__ = ()


class Keep(Chore):
    """Streams are watched, which is a use of them."""

    __slots__ = ()


class Trim(Chore):
    """Streams may have more than they are to keep: look."""

    __slots__ = ()


class Stop(Operation):
    """The store is closed: do what came before, then end."""

    __slots__ = ()

    def __init__(self, wake: Callable[[], None] | None) -> None:
        super().__init__("", 0, wake)
