from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tailrace import limits

assert limits.__file__
BODY = ast.parse(Path(limits.__file__).read_text()).body


def constants() -> dict[str, str | None]:
    """Each constant, and the docstring below it."""
    found: dict[str, str | None] = {}
    for statement, following in zip(BODY, [*BODY[1:], ast.Pass()], strict=True):
        if isinstance(statement, (ast.Assign, ast.AnnAssign)):
            targets = (
                [statement.target] if isinstance(statement, ast.AnnAssign) else statement.targets
            )
            for target in targets:
                assert isinstance(target, ast.Name)
                found[target.id] = text_of(following)
    return found


def text_of(statement: ast.stmt) -> str | None:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return str(statement.value.value)
    return None


CONSTANTS = constants()


def test_every_limit_is_seen_by_these_tests() -> None:
    assert set(CONSTANTS) == {name for name in vars(limits) if name.isupper()}
    assert len(CONSTANTS) >= 10


@pytest.mark.parametrize("name", CONSTANTS)
def test_every_limit_says_what_it_is(name: str) -> None:
    text = CONSTANTS[name]
    assert text is not None
    assert text.splitlines()[0].endswith((".", ":", ",")) or len(text.splitlines()) > 1


@pytest.mark.parametrize("name", CONSTANTS)
def test_every_limit_has_a_unit_in_its_name_or_its_text(name: str) -> None:
    units = (
        *("second", "byte", "thread", "connection", "request", "link", "entries", "ranges"),
        *(
            "streams",
            "forks",
            "segments",
            "changes",
            "deliveries",
            "javascript counts",
            "part by which",
        ),
    )
    text = f"{name} {CONSTANTS[name]}".lower()
    assert any(unit in text for unit in units)


@pytest.mark.parametrize("name", CONSTANTS)
def test_every_limit_is_final(name: str) -> None:
    declared = {
        statement.target.id: ast.unparse(statement.annotation)
        for statement in BODY
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    }
    assert declared.get(name, "").startswith("Final")


@pytest.mark.parametrize("name", CONSTANTS)
def test_every_limit_is_more_than_nothing(name: str) -> None:
    value = getattr(limits, name)
    for each in value if isinstance(value, tuple) else (value,):
        assert each > 0


def test_sizes_and_ranges_are_in_order() -> None:
    assert limits.MIN_BATCH_BYTES <= limits.MAX_BATCH_BYTES <= limits.LARGEST_BATCH_BYTES
    assert limits.FAREWELL_RETRY[0] < limits.FAREWELL_RETRY[1]
    assert limits.START_GRACE < limits.SEND_TIMEOUT
