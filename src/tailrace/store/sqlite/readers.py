"""The threads that read a file, each with a connection of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import apsw

from tailrace.store.sqlite.connection import DRIVER_ERRORS, close, failure_of, is_damage, is_fatal

__all__ = ["Question", "Readers"]


class Question:
    """Something to be read: the event loop asks, a reading thread answers.

    Args:
        ask: Called with a connection, in a reading thread.
        tell: Called in that thread when `result` or `error` is there.
    """

    __slots__ = ("ask", "error", "result", "tell", "withdrawn")

    def __init__(self, ask: Callable[[apsw.Connection], Any], tell: Callable[[], None]) -> None:
        self.ask = ask
        self.tell = tell
        self.result: Any = None
        self.error: BaseException | None = None
        self.withdrawn = False
        """Who asked is gone."""


class Readers:
    """A few threads, started when there is something to read and none is free.

    Args:
        store: The file, for messages.
        connect: Opens a connection.
        most: Threads at the same time.
        on_damage: Told, in a reading thread, of what shows that the file is damaged.
    """

    def __init__(
        self,
        store: str,
        connect: Callable[[], apsw.Connection],
        most: int,
        on_damage: Callable[[BaseException], None],
    ) -> None:
        self._store = store
        self._connect = connect
        self._most = most
        self._on_damage = on_damage
        self._questions: SimpleQueue[Question | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._free = 0
        """Threads that wait, less the questions that are meant for them; may be negative."""

    def put(self, question: Question) -> None:
        """Have a question answered; they are taken in order."""
        with self._lock:
            self._free -= 1
            if self._free < 0 and len(self._threads) < self._most:
                thread = threading.Thread(
                    target=self._work,
                    name=f"tailrace-store-read-{len(self._threads) + 1}",
                    daemon=True,
                )
                self._threads.append(thread)
                thread.start()
        self._questions.put(question)

    def close(self) -> None:
        """Answer what was asked, and end the threads; waits for them."""
        for _ in self._threads:
            self._questions.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        connection: apsw.Connection | None = None
        self._is_free()
        try:
            while True:
                question = self._questions.get()
                if question is None:
                    return
                if not question.withdrawn:
                    connection = self._answer(question, connection)
                # Before it is told: who asks again at once finds this thread free.
                self._is_free()
                question.tell()
                del question  # an idle thread must not keep what was read alive
        finally:
            if connection is not None:
                close(connection)

    def _is_free(self) -> None:
        with self._lock:
            self._free += 1

    def _answer(
        self, question: Question, connection: apsw.Connection | None
    ) -> apsw.Connection | None:
        try:
            connection = connection or self._connect()
            question.result = question.ask(connection)
        except DRIVER_ERRORS as error:
            number = connection.system_errno if connection is not None else 0
            if is_damage(error) or is_fatal(error, number):
                self._on_damage(error)
            question.error = failure_of(self._store, error, number)
            question.error.__cause__ = error
        except BaseException as error:  # noqa: BLE001 - raised again in the task that asks
            question.error = error
        return connection
