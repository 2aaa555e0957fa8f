"""Is it a store? The contract that every store passes, and a comparison with the memory store.

`StoreContract` needs pytest, `StoreMachine` (from `tests.store.contract.machine`) hypothesis
too; neither is imported by `tailrace.testing` itself.
"""

from __future__ import annotations

from pkgutil import iter_modules

import pytest

# Before they are imported, so that their asserts tell what was compared.
pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in iter_modules(__path__)))

from tests.store.contract.clock import StoreClock  # noqa: E402
from tests.store.contract.contract import StoreContract  # noqa: E402

__all__ = ["StoreClock", "StoreContract"]
