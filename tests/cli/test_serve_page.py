"""docs/serve.md tells of every option, variable and code that there is."""

from __future__ import annotations

import re

import click
import pytest

from tailrace import errors
from tailrace.app import Settings
from tailrace.cli.serve import serve
from tests.examples import ROOT

PAGE = (ROOT / "docs" / "serve.md").read_text()
OPTIONS = [each for each in serve.params if isinstance(each, click.Option)]


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_an_option_is_told_with_its_default(option: click.Option) -> None:
    row = re.search(rf"^\|.*`{re.escape(option.opts[0])}`.*\|$", PAGE, re.MULTILINE)
    assert row is not None
    if isinstance(option.default, (int, float)) and not option.is_flag:
        assert f"| {option.default:g} |" in row[0]


def test_every_option_that_is_told_exists() -> None:
    table = PAGE[PAGE.index("| option |") : PAGE.index("| exit code |")]
    told = set(re.findall(r"^\| .*?\|", table, re.MULTILINE))
    names = {name for row in told for name in re.findall(r"`(--[a-z-]+)`", row)}
    assert names == {option.opts[0] for option in OPTIONS}


def test_every_variable_is_told() -> None:
    for name in Settings(directory=ROOT).environment():
        assert f"`{name}`" in PAGE, name


def test_every_code_of_a_store_is_told() -> None:
    store = errors.StoreUnavailable
    for code in (store.code, *(kind.code for kind in store.__subclasses__())):
        assert f"| `{code}` |" in PAGE, code
