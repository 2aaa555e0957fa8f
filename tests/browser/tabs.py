"""Tabs of one Chromium window: one is visible and the others are hidden, as when a person uses it.

Playwright keeps every page in the foreground. So this speaks the DevTools protocol itself, but only
what is needed to open a tab, to show it and to evaluate JavaScript in it.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.browser.chromium import ARGUMENTS, path_of_chromium
from tests.servers import stop

__all__ = ["DEADLINE", "Tab", "Window", "open_window"]

DEADLINE = 20.0
"""Seconds to wait for a condition."""

_COMMAND = (
    "--headless=new",
    *ARGUMENTS,
    *("--remote-debugging-port=0", "--window-size=1300,1000", "about:blank"),
)


class Window:
    """A window, and the connection to its DevTools."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Call a method of the DevTools. Returns its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        self._connection.send(json.dumps(message | ({"sessionId": session} if session else {})))
        while True:
            answer = json.loads(self._connection.recv(timeout=DEADLINE))
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer)
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, url: str) -> Tab:
        """Open a new tab, which is then visible; the one that was visible is hidden."""
        target = self.call("Target.createTarget", url=url)["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        return Tab(self, target, attached["sessionId"])


@dataclass(frozen=True, slots=True)
class Tab:
    """One tab and its page."""

    window: Window
    target: str
    session: str

    def show(self) -> None:
        """Make this tab visible, and hide the others."""
        self.window.call("Target.activateTarget", targetId=self.target)

    def go(self, url: str) -> None:
        """Load another page in this tab."""
        self.window.call("Page.navigate", self.session, url=url)

    def back(self) -> None:
        """Go back in the tab's history to the page before."""
        self.ask("history.back()")

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page; None if it has none, as on an error."""
        result = self.window.call(
            "Runtime.evaluate", self.session, expression=expression, returnByValue=True
        )
        return result["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Wait until a JavaScript expression is true.

        Raises:
            TimeoutError: It was not true in time.
        """
        end = time.monotonic() + DEADLINE
        while not self.ask(expression):
            if time.monotonic() > end:
                raise TimeoutError(f"not so after {DEADLINE:g} s: {expression}")
            time.sleep(0.05)

    def picture(self, path: Path) -> None:
        """Write a screenshot to a file, as PNG."""
        taken = self.window.call("Page.captureScreenshot", self.session)
        path.write_bytes(base64.b64decode(taken["data"]))


@contextlib.contextmanager
def open_window() -> Iterator[Window]:
    """A window of a new Chromium, which is closed at the end of the block."""
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        subprocess.Popen(
            [path_of_chromium(), f"--user-data-dir={profile}", *_COMMAND],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        try:
            assert process.stderr is not None
            found = next(filter(None, (re.search(r"ws://\S+", line) for line in process.stderr)))
            with connect(found[0], max_size=None) as connection:
                yield Window(connection)
        finally:
            stop(process)
