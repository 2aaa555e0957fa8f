"""The reference that `make reference` writes, and the docstrings from which it is made."""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import re
import runpy
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest

from tailrace import errors

SCRIPT = Path(__file__).parent.parent / "scripts" / "make_reference.py"
PAGES: dict[str, tuple[str, ...]] = runpy.run_path(str(SCRIPT))["PAGES"]


def shown(module: str) -> list[str]:
    """The names that a module's page must show."""
    found = importlib.import_module(module)
    return list(PAGES[module] or getattr(found, "__all__", None) or constants(found))


def constants(module: ModuleType) -> list[str]:
    return [name for name in vars(module) if name.isupper()]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder)], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    return folder


@pytest.mark.parametrize("module", PAGES)
def test_each_public_name_is_in_the_reference(module: str, reference: Path) -> None:
    page = (reference / f"{module.replace('.', '/')}.html").read_text()
    assert shown(module)
    assert [name for name in shown(module) if f'id="{name}"' not in page] == []


def test_the_reference_is_of_every_module_that_the_front_door_names() -> None:
    told = importlib.import_module("tailrace").__doc__ or ""
    named = set(re.findall(r"`(tailrace\.\w+)`", told))
    assert named
    assert named <= set(PAGES)


# The docstrings -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Documented:
    """A public function or class: its docstring, and what the docstring must name."""

    where: str
    doc: str
    function: FunctionType

    def section(self, name: str) -> set[str]:
        """The names with which the entries of a section of the docstring begin."""
        found = re.search(rf"^{name}:\n((?:    .*\n|\n)+)", f"{self.doc}\n", re.MULTILINE)
        entries = re.findall(r"^    ([*\w., ]+?):(?: |$)", found[1] if found else "", re.MULTILINE)
        return {name.strip("* ") for entry in entries for name in entry.split(",")}

    @property
    def parameters(self) -> set[str]:
        return {
            parameter.name
            for parameter in inspect.signature(self.function).parameters.values()
            if parameter.name not in ("self", "cls")
            and not parameter.name.startswith("_")
            and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        }

    @property
    def raised(self) -> set[str]:
        """The classes that the function raises in its own body."""
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(self.function))).body
        return {
            node.exc.func.id
            for node in ast.walk(body)
            if isinstance(node, ast.Raise)
            and isinstance(node.exc, ast.Call)
            and isinstance(node.exc.func, ast.Name)
        }


def documented() -> Iterator[Documented]:
    seen: set[int] = set()
    for module in PAGES:
        for name in shown(module):
            thing = getattr(importlib.import_module(module), name)
            if id(thing) not in seen:
                seen.add(id(thing))
                yield from documented_in(f"{module}.{name}", thing)


def documented_in(where: str, thing: Any) -> Iterator[Documented]:
    if isinstance(thing, FunctionType):
        yield Documented(where, inspect.getdoc(thing) or "", thing)
    if not isinstance(thing, type):
        return
    made = vars(thing).get("__init__")
    if isinstance(made, FunctionType) and where not in MADE_INSIDE and is_ours(made):
        yield Documented(where, inspect.getdoc(thing) or "", made)
    for name, member in vars(thing).items():
        if not name.startswith("_") and not overrides_another_package(thing, name):
            function: Any = member.fget if isinstance(member, property) else member
            function = inspect.unwrap(getattr(function, "__func__", function))
            if isinstance(function, FunctionType):
                doc = inspect.getdoc(getattr(thing, name)) or ""
                yield Documented(f"{where}.{name}", doc, function)


def is_ours(function: FunctionType) -> bool:
    """Whether the function is in our source. Those that `dataclass` and `Protocol` make are not."""
    return function.__code__.co_filename.startswith(str(SCRIPT.parent.parent))


def overrides_another_package(thing: type, name: str) -> bool:
    """Whether a method overrides one of another package, which documents it."""
    return any(
        name in vars(base)
        for base in thing.__mro__
        if not base.__module__.startswith("tailrace") and base is not object
    )


MADE_INSIDE = {
    *("tailrace.Channel", "tailrace.Run", "tailrace.streams.SyncReader"),
    *("tailrace.streams.SyncRun", "tailrace.streams.Reader", "tailrace.streams.ProgressPart"),
    *("tailrace.streams.Step", "tailrace.streams.Thinned", "tailrace.testing.Exchange"),
    "tailrace.connection.Attached",
}
"""Classes whose objects a user gets, but does not make."""

DOCUMENTED = list(documented())


@pytest.mark.parametrize("each", DOCUMENTED, ids=lambda each: each.where)
def test_a_docstring_tells_each_argument(each: Documented) -> None:
    assert each.doc
    if (twin := re.match(r"As `(\w+\.\w+)`", each.doc)) is not None:
        assert twin[1] in {other.where.removeprefix("tailrace.") for other in DOCUMENTED}
        return
    in_words = set(re.findall(r"`(\w+)`", each.doc))
    assert each.parameters - each.section("Args") - in_words == set()


@pytest.mark.parametrize("each", DOCUMENTED, ids=lambda each: each.where)
def test_a_docstring_tells_what_is_raised(each: Documented) -> None:
    told = each.section("Raises")
    assert each.raised - told == set()
    module = vars(importlib.import_module(each.function.__module__))
    for name in told:
        assert hasattr(errors, name) or hasattr(builtins, name) or name in module, name
