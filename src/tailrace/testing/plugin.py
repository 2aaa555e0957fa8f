"""pytest fixtures: both event loops, and a clock that the test moves.

In a project's `conftest.py`:

```
pytest_plugins = ["tailrace.testing.plugin"]
```

The only file of the kit that imports pytest.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib.util import find_spec
from typing import Any

import pytest

from tailrace.testing.clock import Clock

__all__ = ["anyio_backend", "clock"]

_BACKENDS = ["asyncio", "trio"] if find_spec("trio") else ["asyncio"]


@pytest.fixture(scope="module", params=_BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Run each test that is marked `anyio` on asyncio and, where it is installed, on trio.

    trio gets a clock that runs like a real one until the `clock` fixture stops it.
    """
    if request.param == "asyncio":
        return "asyncio", {}
    from trio.testing import MockClock

    return "trio", {"clock": MockClock(rate=1.0)}


@pytest.fixture
async def clock(anyio_backend: Any) -> AsyncIterator[Clock]:
    """A `Clock` that stops time for the whole test: only the test moves it."""
    with Clock() as clock:
        yield clock
