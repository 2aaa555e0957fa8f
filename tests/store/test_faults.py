"""A store with a fault is found out: by the contract, and by the comparison."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tailrace.store import Store
from tests.examples import ROOT
from tests.store import faults
from tests.store.contract import StoreClock, StoreMachine
from tests.store.faults import Keeper, Kept

SEARCH = settings(
    max_examples=300,
    stateful_step_count=40,
    derandomize=True,
    database=None,
    # The first history that shows the fault will do; the shortest would take longer.
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)

BY_COMPARISON = (
    faults.AcceptsFormerOffsets,
    faults.CutsForksLate,
    faults.DoesNotCountReads,
    faults.ForgetsProducers,
    faults.ForgetsTheSequence,
    faults.KeepsTooLittle,
)
BY_CONTRACT = {
    faults.AcceptsFormerOffsets: "ReadContract",
    faults.CountsFromTheStart: "ReadContract",
    faults.CutsForksLate: "ForkContract",
    faults.DeletesWhatForksRead: "DeleteContract",
    faults.DoesNotCountReads: "ExpiryContract",
    faults.ForgetsProducers: "ReopenContract",
    faults.ForgetsTheSequence: "ReopenContract",
    faults.GivesTheSameTokensAgain: "ReopenContract",
    faults.KeepsTooLittle: "RetentionContract",
    faults.ListsByCodeUnit: "ListContract",
    faults.LosesWhatIsTold: "WatchContract",
    Kept: "StoreContract",
}
"""The part of the contract that finds it; all of it finds nothing in one without a fault."""


def machine_of(kind: type[Kept]) -> type[StoreMachine]:
    class Machine(StoreMachine):
        def make(self, folder: Path, clock: StoreClock) -> Store:
            if not hasattr(self, "keeper"):
                self.keeper = Keeper(kind)
            return self.keeper.make(folder, clock)

    return Machine


@pytest.mark.slow
@pytest.mark.parametrize("kind", BY_COMPARISON)
def test_the_comparison_finds_a_fault(kind: type[Kept]) -> None:
    with pytest.raises((AssertionError, KeyError, BaseExceptionGroup)):
        run_state_machine_as_test(machine_of(kind), settings=SEARCH)


@pytest.mark.slow
def test_the_comparison_finds_nothing_where_nothing_is_wrong() -> None:
    few = settings(SEARCH, max_examples=25)
    run_state_machine_as_test(machine_of(Kept), settings=few)


CONTRACTS = """
import pytest

from tests.store import contract
from tests.store.contract import _suite
from tests.store.faults import Keeper
from tests.store.test_faults import BY_CONTRACT

pytest_plugins = ["tailrace.testing.plugin"]
_suite.PATIENCE = 0.2  # what is not told is waited for

for kind, part in BY_CONTRACT.items():
    keeper = Keeper(kind)
    make = lambda self, folder, clock, keeper=keeper: keeper.make(folder, clock)
    test = type(f"Test{kind.__name__}", (getattr(contract, part),), {"make": make})
    globals()[test.__name__] = pytest.mark.anyio(test)
"""


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The tests of the contract that each of the stores failed, as `Kind::name`."""
    folder = tmp_path_factory.mktemp("faulty")
    (folder / "test_faulty.py").write_text(CONTRACTS)
    options = [
        "-q",
        "--tb=no",
        "-rf",
        "-p",
        "no:cacheprovider",
        "-k",
        "asyncio",
        "--rootdir",
        folder,
    ]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *map(str, options), folder / "test_faulty.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert run.returncode == 1, run.stdout + run.stderr
    assert "error" not in run.stdout.splitlines()[-1], run.stdout
    lines = [line for line in run.stdout.splitlines() if line.startswith("FAILED ")]
    return {line.split("::Test", 1)[1].split("[")[0] for line in lines}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in BY_CONTRACT if kind is not Kept])
def test_the_contract_finds_a_fault(failures: set[str], kind: type[Kept]) -> None:
    found = {name for name in failures if name.startswith(f"{kind.__name__}::")}
    assert found
    assert len(found) <= 12, "each fault is one thing, and the tests say which"


@pytest.mark.slow
def test_the_contract_finds_nothing_where_nothing_is_wrong(failures: set[str]) -> None:
    assert not {name for name in failures if name.startswith("Kept::")}
