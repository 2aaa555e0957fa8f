"""Tabs of one Chromium window, of which one is seen and the others are hidden, as a person's are.

Playwright keeps every page in the foreground, so this speaks the DevTools protocol itself: only
what is needed to open a tab, to show it and to ask it something.
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
"""Seconds until something must be so."""

_COMMAND = (
    "--headless=new",
    *ARGUMENTS,
    *("--remote-debugging-port=0", "--window-size=1300,1000", "about:blank"),
)


class Window:
    """A window, and its DevTools."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Call a method of the DevTools; its result."""
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
        """A new tab, which is seen; the one that was seen is hidden."""
        target = self.call("Target.createTarget", url=url)["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        return Tab(self, target, attached["sessionId"])


@dataclass(frozen=True, slots=True)
class Tab:
    """One page."""

    window: Window
    target: str
    session: str

    def show(self) -> None:
        """See this tab, and no other."""
        self.window.call("Target.activateTarget", targetId=self.target)

    def go(self, url: str) -> None:
        """Go to another page."""
        self.window.call("Page.navigate", self.session, url=url)

    def back(self) -> None:
        """Go back to the page before."""
        self.ask("history.back()")

    def ask(self, expression: str) -> Any:
        """What a JavaScript expression gives, once there is a page."""
        result = self.window.call(
            "Runtime.evaluate", self.session, expression=expression, returnByValue=True
        )
        return result["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Wait until an expression is true.

        Raises:
            TimeoutError: It was not, in time.
        """
        end = time.monotonic() + DEADLINE
        while not self.ask(expression):
            if time.monotonic() > end:
                raise TimeoutError(f"not so after {DEADLINE:g} s: {expression}")
            time.sleep(0.05)

    def picture(self, path: Path) -> None:
        """Write what is seen to a file, as PNG."""
        taken = self.window.call("Page.captureScreenshot", self.session)
        path.write_bytes(base64.b64decode(taken["data"]))


@contextlib.contextmanager
def open_window() -> Iterator[Window]:
    """A Chromium of its own, closed with the block."""
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
