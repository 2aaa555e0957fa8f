"""The package `tailrace`: its names, that each is loaded at its first use, and names that moved."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pickle
import pkgutil
import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FunctionType
from typing import Any

import fastapi
import pytest

import tailrace
from tailrace import subscriptions

PACKAGES = ["errors", "framing", "limits", "pump", "responses", "semantics", "source", "types"]

MOVED = [
    *(("tailrace", name, "tailrace.errors") for name in sorted(tailrace._MOVED)),
    *(
        ("tailrace.pump", name, "tailrace.connection")
        for name in ("CONNECTION", "Frame", "attach_offer")
    ),
    *(
        ("tailrace.protocol.subscriptions", name, "tailrace.subscriptions")
        for name in ("SubscriptionOptions", "Subscriptions")
    ),
]
"""Old module, name, new module."""


def documented() -> str:
    """The text of every page that a user reads."""
    root = Path(__file__).parent.parent
    pages = [root / "README.md", *sorted((root / "docs").glob("**/*.md"))]
    return "\n".join(page.read_text() for page in pages if page.exists())


def run(code: str, *options: str) -> str:
    """What a new interpreter prints that runs the code."""
    done = subprocess.run(
        [sys.executable, *options, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# The names ----------------------------------------------------------------------------------------


def test_the_names_are_sorted_and_each_is_there_once() -> None:
    assert tailrace.__all__ == sorted(set(tailrace.__all__))


@pytest.mark.parametrize("name", tailrace.__all__)
def test_each_name_can_be_imported(name: str) -> None:
    assert getattr(tailrace, name) is not None


@pytest.mark.parametrize("name", tailrace.__all__)
def test_each_name_has_a_docstring_of_its_own(name: str) -> None:
    thing = getattr(tailrace, name)
    text = thing.__doc__ or ""
    first = text.strip().partition("\n")[0]
    # A dataclass without a docstring has its signature as its `__doc__`.
    assert not first.startswith(f"{name}(")
    assert re.fullmatch(r"[A-Z\"`].{10,}[.:]", first), first
    assert inspect.getdoc(thing) == inspect.cleandoc(text)


@pytest.mark.parametrize("name", tailrace.__all__)
def test_each_name_is_in_the_documentation(name: str) -> None:
    assert re.search(rf"\b{name}\b", documented())


def test_nothing_else_is_shown() -> None:
    shown = {name for name in dir(tailrace) if not name.startswith("_")}
    assert shown == {*tailrace.__all__, "errors", "limits"}


def test_a_star_import_gives_just_the_names() -> None:
    space: dict[str, object] = {}
    exec("from tailrace import *", space)
    assert set(space) - {"__builtins__"} == set(tailrace.__all__)


def test_the_version_is_one() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", tailrace.__version__)


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(tailrace.__file__).parent / "py.typed").exists()


# Each is loaded when it is asked for --------------------------------------------------------------


def test_type_checkers_are_told_of_the_same_names() -> None:
    tree = ast.parse(Path(tailrace.__file__).read_text())
    (block,) = (
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    told = {
        alias.name: str(node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module != "tailrace"
        for alias in node.names
    }
    assert sorted(told) == sorted(tailrace._HOMES) == tailrace.__all__
    for name, home in tailrace._HOMES.items():
        assert f"{told[name]}.".startswith(f"tailrace.{home}.")


def test_an_import_loads_nothing() -> None:
    loaded = run(
        "import sys, tailrace; print(*(name for name in sys.modules if 'tailrace' in name))"
    )
    assert loaded.split() == ["tailrace._moved", "tailrace"]


NOT_FOR_A_RESPONSE = {
    *("tailrace.files", "tailrace.live", "tailrace.protocol", "tailrace.server", "tailrace.store"),
    *("tailrace.streams", "tailrace.subscriptions", "tailrace.testing"),
    *("apsw", "backports.zstd", "brotli", "click", "compression.zstd", "cryptography", "httptools"),
    *("httpx", "uvicorn", "zipfile"),
}
NOT_FOR_STREAMS = {
    *("tailrace.files", "tailrace.server", "tailrace.store.sqlite", "tailrace.subscriptions"),
    *("tailrace.testing",),
    *("apsw", "backports.zstd", "brotli", "click", "compression.zstd", "cryptography", "httptools"),
    *("httpx", "uvicorn", "zipfile"),
}


@pytest.mark.parametrize(
    ("names", "unneeded", "most"),
    [
        ("CSVResponse, Event, EventSourceResponse, FileResponse", NOT_FOR_A_RESPONSE, 80),
        ("StreamingResponse, StreamRoute, StreamOptions, drain", NOT_FOR_A_RESPONSE, 80),
        ("StreamNotFound, TailraceError, Part, RangeSource", NOT_FOR_A_RESPONSE, 40),
        ("Streams, SyncStreams, Progress, Grace", NOT_FOR_STREAMS, 140),
    ],
)
@pytest.mark.slow
def test_a_name_loads_what_it_needs(names: str, unneeded: set[str], most: int) -> None:
    loaded = run(
        "import fastapi, sys; before = set(sys.modules)\n"
        f"from tailrace import {names}\n"
        "print(*(set(sys.modules) - before))"
    ).split()
    assert unneeded.isdisjoint(loaded)
    assert sum(name.startswith("tailrace") for name in loaded) <= most


def test_a_name_is_looked_for_once() -> None:
    assert (
        run(
            "import tailrace\nbefore = vars(tailrace).get('drain')\n"
            "tailrace.drain\nprint(before, vars(tailrace)['drain'] is tailrace.drain)"
        )
        == "None True"
    )


def test_modules_come_with_the_front_door() -> None:
    code = "import tailrace; print(tailrace.errors.StreamClosed.status, tailrace.limits.LEASE)"
    assert run(code) == "409 6"


@pytest.mark.slow
def test_many_threads_get_the_same() -> None:
    importlib.reload(tailrace)
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda _: tailrace.StreamingResponse, range(64)))
    assert len(set(got)) == 1
    code = (
        "from concurrent.futures import ThreadPoolExecutor\nimport tailrace\n"
        "def ask(number): return getattr(tailrace, tailrace.__all__[number % 30]) is not None\n"
        "with ThreadPoolExecutor(16) as pool: print(all(pool.map(ask, range(300))))"
    )
    assert run(code) == "True"


@pytest.mark.parametrize("name", ["StreamingRespons", "Error", "__wrapped__", "pump2"])
def test_a_name_that_is_not_there_is_an_ordinary_error(name: str) -> None:
    with pytest.raises(AttributeError, match=f"module 'tailrace' has no attribute '{name}'"):
        getattr(tailrace, name)
    with pytest.raises(ImportError, match=f"cannot import name '{name}' from 'tailrace'"):
        exec(f"from tailrace import {name}")


def test_a_name_that_is_spelt_wrongly_is_told_the_right_one() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import tailrace; tailrace.StreamingRespons"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Did you mean: 'StreamingResponse'?" in done.stderr


def test_tools_that_look_into_modules_find_the_names() -> None:
    members = dict(inspect.getmembers(tailrace))
    assert set(tailrace.__all__) <= set(members)
    assert doctest.testmod(tailrace).failed == 0
    assert importlib.reload(tailrace) is tailrace
    event = tailrace.Event("x", id="1")
    assert pickle.loads(pickle.dumps(event)) == event
    assert pickle.loads(pickle.dumps(tailrace.StreamOptions)) is tailrace.StreamOptions


# What has moved -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("old", "name", "new"), MOVED)
def test_a_name_that_has_moved_says_where_it_is(old: str, name: str, new: str) -> None:
    with pytest.warns(DeprecationWarning, match=rf"{old}\.{name} .* from {new} ") as caught:
        found = getattr(importlib.import_module(old), name)
    assert found is getattr(importlib.import_module(new), name)
    assert caught[0].filename == __file__


def test_a_part_of_a_progress_says_its_new_name() -> None:
    streams = importlib.import_module("tailrace.streams")
    with pytest.warns(DeprecationWarning, match=r"import ProgressPart from tailrace\.streams "):
        assert streams.Part is streams.ProgressPart


def test_the_warning_is_at_the_line_of_the_import() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", "from tailrace import StreamClosed"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "<string>:1: DeprecationWarning: tailrace.StreamClosed has moved" in done.stderr


@pytest.mark.parametrize("module", ["tailrace.pump", "tailrace.protocol.subscriptions"])
def test_an_old_place_has_nothing_else(module: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'absent'"):
        getattr(importlib.import_module(module), "absent")  # noqa: B009 - mypy knows it is not there


# What signatures name -----------------------------------------------------------------------------


MADE_INSIDE = {"Channel.__init__", "Run.__init__"}
"""Only `Streams` makes these, so a user never calls them."""


def public_objects() -> set[int]:
    """The `id` of each object that a user can import from a public module."""
    found = {id(getattr(tailrace, name)) for name in tailrace.__all__}
    for module in pkgutil.iter_modules(tailrace.__path__, "tailrace."):
        if not module.name.rpartition(".")[2].startswith("_"):
            package = importlib.import_module(module.name)
            found |= {id(getattr(package, name)) for name in getattr(package, "__all__", ())}
    return found


def callables(name: str) -> Iterator[tuple[str, FunctionType]]:
    """A public function; or the public methods and properties of a class, with their names."""
    thing = getattr(tailrace, name)
    if isinstance(thing, FunctionType):
        yield name, thing
        return
    for attribute, member in inspect.getmembers(thing):
        function = member.fget if isinstance(member, property) else inspect.unwrap(member)
        shown = not attribute.startswith("_") or attribute in ("__init__", "__aiter__", "__iter__")
        if not isinstance(function, FunctionType) or f"{name}.{attribute}" in MADE_INSIDE:
            continue
        if shown and function.__module__.startswith("tailrace."):
            yield f"{name}.{attribute}", function


def classes_in(hint: Any) -> Iterator[type]:
    origin = typing.get_origin(hint) or hint
    if isinstance(origin, type) and origin.__module__.startswith("tailrace."):
        yield origin
    for part in typing.get_args(hint):
        yield from classes_in(part)
    if isinstance(hint, list):  # the arguments of a Callable
        for part in hint:
            yield from classes_in(part)


@pytest.mark.parametrize("name", tailrace.__all__)
def test_what_a_signature_names_can_be_imported(name: str) -> None:
    public = public_objects()
    # Names that a file imports only for its annotations.
    for_types = {**vars(tailrace), "APIRouter": fastapi.APIRouter, **vars(subscriptions)}
    for where, function in callables(name):
        hints = typing.get_type_hints(function, localns=for_types)
        for hint in hints.values():
            for kind in classes_in(hint):
                assert id(kind) in public, f"{where} names {kind.__module__}.{kind.__qualname__}"


# The packages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_has_sorted_names_that_are_there(package: str) -> None:
    module = importlib.import_module(f"tailrace.{package}")
    if not hasattr(module, "__all__"):
        assert package == "limits"  # constants, read as `limits.NAME`
        return
    assert list(module.__all__) == sorted_as_ruff(module.__all__)
    for name in module.__all__:
        assert hasattr(module, name)


def sorted_as_ruff(names: list[str]) -> list[str]:
    """Constants, then classes, then the rest; the front door has no constants."""
    return sorted(names, key=lambda name: (not name.isupper(), not name[:1].isupper(), name))


def modules() -> list[str]:
    root = Path(tailrace.__file__).parent
    found = [module.name for module in pkgutil.walk_packages([str(root)], "tailrace.")]
    return sorted(name for name in found if not name.endswith("__main__"))


@pytest.mark.parametrize("name", modules())
def test_every_file_says_what_it_holds(name: str) -> None:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text())
    assert (ast.get_docstring(tree) or "").strip()
