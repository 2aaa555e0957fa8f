"""Run tests as on another system: `python -m tests.machines windows tests/responses -x`.

Without tests named, those run that are for each system (see `EVERYWHERE`), in some minutes.
"""

from __future__ import annotations

import sys
import tempfile

from tests.machines.lacking import SYSTEMS, become

_BOTH = (
    "framing",
    "semantics",
    "runtime",
    "source",
    "connection",
    "pump",
    "responses",
    "store",
    "live",
    "streams",
    "testing",
)
EVERYWHERE = {"windows": _BOTH, "macos": (*_BOTH, "files", "server", "cli")}
"""The folders of tests that pass on each, but for those that are marked."""


def main(system: str, *arguments: str) -> int:
    become(system)
    import pytest

    named = arguments or [f"tests/{each}" for each in EVERYWHERE[system]]
    lacking = " and ".join(f"not {each}" for each in ("slow", "browser", *_MARKS[system]))
    # Its own directory: pytest asks who the user is, to make one.
    with tempfile.TemporaryDirectory() as directory:
        options = ["-m", lacking, "--basetemp", f"{directory}/tests", "-o", "timeout_method=thread"]
        return pytest.main([*named, *options])


_MARKS = {"windows": ("linux", "posix"), "macos": ("linux",)}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in SYSTEMS:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
