"""Run tests as on another system: `python -m tests.machines windows tests/responses -x`.

If no tests are named, it runs those that must pass on every system (see `EVERYWHERE`), which takes
some minutes.
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
"""The folders of tests that must pass on every system, except for tests that are marked."""


def main(system: str, *arguments: str) -> int:
    become(system)
    import pytest

    named = arguments or [f"tests/{each}" for each in EVERYWHERE[system]]
    lacking = " and ".join(f"not {each}" for each in ("slow", "browser", *_MARKS[system]))
    # A directory is given, because pytest would need the user's name to make one.
    with tempfile.TemporaryDirectory() as directory:
        options = ["-m", lacking, "--basetemp", f"{directory}/tests", "-o", "timeout_method=thread"]
        return pytest.main([*named, *options])


_MARKS = {"windows": ("linux", "posix"), "macos": ("linux",)}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in SYSTEMS:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
