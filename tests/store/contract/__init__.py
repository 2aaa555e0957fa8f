"""The tests that every store must pass, and a comparison of a store with the memory store."""

from __future__ import annotations

import pytest

from tests.store.contract._append import AppendContract
from tests.store.contract._cancel import CancelContract
from tests.store.contract._create import CreateContract
from tests.store.contract._delete import DeleteContract
from tests.store.contract._expiry import ExpiryContract
from tests.store.contract._fork import ForkContract
from tests.store.contract._limits import LimitsContract
from tests.store.contract._list import ListContract
from tests.store.contract._producer import ProducerContract
from tests.store.contract._read import ReadContract
from tests.store.contract._reopen import OpenContract, ReopenContract
from tests.store.contract._retention import RetentionContract
from tests.store.contract._suite import StoreClock
from tests.store.contract._watch import WatchContract
from tests.store.contract.machine import StoreMachine

__all__ = ["StoreClock", "StoreContract", "StoreMachine"]


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
    """What every store must do, as tests: subclass it, and say how your store is made.

    ```
    class TestMine(StoreContract):
        def make(self, folder, clock):
            return MyStore(folder / "streams.db", clock=clock)
    ```

    Each test runs on asyncio and on trio, with a store of its own and a clock that only the test
    moves. For a store that does not outlive its process set `durable = False`: the tests that
    reopen a store are then left out.
    """
