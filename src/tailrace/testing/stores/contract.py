"""The contract of a store, as one pytest class."""

from __future__ import annotations

import pytest

from tailrace.testing.stores._append import AppendContract
from tailrace.testing.stores._cancel import CancelContract
from tailrace.testing.stores._create import CreateContract
from tailrace.testing.stores._delete import DeleteContract
from tailrace.testing.stores._expiry import ExpiryContract
from tailrace.testing.stores._fork import ForkContract
from tailrace.testing.stores._limits import LimitsContract
from tailrace.testing.stores._list import ListContract
from tailrace.testing.stores._producer import ProducerContract
from tailrace.testing.stores._read import ReadContract
from tailrace.testing.stores._reopen import OpenContract, ReopenContract
from tailrace.testing.stores._retention import RetentionContract
from tailrace.testing.stores._watch import WatchContract

__all__ = ["StoreContract"]


@pytest.mark.anyio
class StoreContract(
    OpenContract,
    ReopenContract,
    CreateContract,
    AppendContract,
    ProducerContract,
    ReadContract,
    ForkContract,
    DeleteContract,
    ListContract,
    WatchContract,
    ExpiryContract,
    RetentionContract,
    LimitsContract,
    CancelContract,
):
    """What every store does, as tests: subclass it, and say how yours is made.

    ```
    class TestMine(StoreContract):
        def make(self, folder, clock):
            return MyStore(folder / "streams.db", clock=clock)
    ```

    Each test gets a store of its own, on asyncio and on trio, with a clock that only the test
    moves. A store that does not outlive its process says so by `durable = False`, and has no tests
    that reopen it.
    """
