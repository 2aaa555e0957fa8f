"""An open descriptor that stays what it is while a thread uses it.

A disk that hangs holds its thread for as long as it likes, and the task that asked may be gone by
then. If the task had closed the descriptor, its number would soon mean another file, and the thread
would read that one. So the last user closes it.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

__all__ = ["Descriptor"]


class Descriptor:
    """An open file or directory; closed at the latest when nothing refers to it any more.

    That matters when a thread opens it for a task that is cancelled meanwhile: nobody gets it.

    Args:
        number: An open descriptor.
        name: What messages call it.
        borrowed: It belongs to the caller, which may close it as soon as this one is closed. A
            thread that uses it gets a duplicate.

    Attributes:
        stat: What `fstat` said when it was opened.
    """

    __slots__ = ("_is_owned", "_lock", "_number", "_users", "is_closed", "name", "stat")

    def __init__(self, number: int, name: str = "", *, borrowed: bool = False) -> None:
        self._number = number
        self._is_owned = not borrowed
        self._lock = threading.Lock()
        self._users = 0
        self.is_closed = False
        self.name = name
        self.stat = os.fstat(number)

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.stat.st_mode)

    @property
    def size(self) -> int | None:
        """Bytes of a regular file when it was opened; None for what has no size to trust."""
        return self.stat.st_size if stat.S_ISREG(self.stat.st_mode) else None

    def fileno(self) -> int:
        """The number, for a call in the thread that also closes it.

        Raises:
            ValueError: It is closed.
        """
        if self.is_closed:
            raise ValueError("this file is closed")
        return self._number

    @contextmanager
    def use(self) -> Iterator[int]:
        """The number, for a thread: it stays open to the end of the block.

        Raises:
            ValueError: It is closed.
        """
        with self._lock:
            number = self.fileno()
            if not self._is_owned:
                number = self._number = os.dup(number)
                self._is_owned = True
            self._users += 1
        try:
            yield number
        finally:
            with self._lock:
                self._users -= 1
                is_last = self.is_closed and not self._users
            if is_last:
                os.close(number)

    def detach(self) -> int:
        """Give the number to the caller, which has to close it; no thread may be using it."""
        number = self.fileno()
        self.is_closed = True
        return number

    def close(self) -> None:
        """Refuse new uses, and close it when the last use ends. A second time does nothing."""
        with self._lock:
            is_last = self._is_owned and not self.is_closed and not self._users
            self.is_closed = True
        if is_last:
            os.close(self._number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()
