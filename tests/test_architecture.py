"""The rules for imports that import-linter cannot express, and a check that it finds the others.

Also: ARCHITECTURE.md names only files that exist.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "tailrace"

PACKAGES = [
    *("app", "cli", "connection", "files", "framing", "live", "protocol", "pump"),
    *("responses", "runtime", "semantics", "server", "source", "store", "streams"),
    *("subscriptions", "testing"),
]
MODULES = ["errors", "limits", "types"]

# importer, imported: each pair breaks one contract of pyproject.toml
OFFENCES = [
    ("errors", "limits"),
    ("limits", "framing"),
    ("framing", "source"),
    ("semantics", "framing"),
    ("source", "store"),
    ("live", "protocol"),
    ("protocol", "streams"),
    ("protocol", "subscriptions"),
    ("subscriptions", "streams"),
    ("connection", "source"),
    ("connection", "pump"),
    ("runtime", "source"),
    ("runtime", "framing"),
    ("streams", "app"),
    ("store", "pump"),
    ("pump", "responses"),
    ("responses", "streams"),
    ("streams", "server"),
    ("files", "server"),
    ("protocol", "server"),
    ("server", "app"),
    ("app", "testing"),
    ("testing", "app"),
    ("testing", "cli"),
    ("framing", "anyio"),
    ("framing", "asyncio"),
    ("framing", "fastapi"),
    ("framing", "socket"),
    ("framing", "starlette"),
    ("semantics", "anyio"),
    ("semantics", "trio"),
    ("responses", "fastapi"),
    ("cli", "fastapi"),
    ("responses", "uvicorn"),
    ("app", "uvicorn"),
    ("cli", "testing"),
    ("responses", "testing"),
]
ALLOWED = [
    ("cli", "app"),
    ("cli", "uvicorn"),
    ("server", "uvicorn"),
    ("app", "fastapi"),
    ("limits", "types"),
    ("types", "limits"),
    ("pump", "source"),
    ("files", "responses"),
    ("app", "files"),
    ("testing", "responses"),
]


@pytest.fixture(scope="module")
def verdict(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The output of import-linter for a package of the same structure that breaks every rule."""
    root = tmp_path_factory.mktemp("offenders")
    (root / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    package = root / "tailrace"
    for name in PACKAGES:
        (package / name).mkdir(parents=True)
        (package / name / "__init__.py").touch()
    for name in ["__init__", *MODULES]:
        (package / f"{name}.py").touch()
    for importer, imported in OFFENCES + ALLOWED:
        with importing_file(package, importer, imported).open("a") as file:
            file.write(f"import {full_name(imported)}\n")
    for name in ("declared", "route"):
        (package / "responses" / f"{name}.py").write_text("import fastapi\n")
    run = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 1, run.stdout + run.stderr
    return run.stdout


def importing_file(package: Path, importer: str, imported: str) -> Path:
    if importer in MODULES:
        return package / f"{importer}.py"
    return package / importer / f"to_{imported}.py"


def full_name(module: str) -> str:
    return f"tailrace.{module}" if module in PACKAGES + MODULES else module


def edge(importer: str, imported: str) -> str:
    end = "" if importer in MODULES else f".to_{imported}"
    return f"tailrace.{importer}{end} -> {full_name(imported)} "


@pytest.mark.parametrize(("importer", "imported"), OFFENCES)
def test_an_import_against_the_design_breaks_a_contract(
    verdict: str, importer: str, imported: str
) -> None:
    assert edge(importer, imported) in verdict


@pytest.mark.parametrize(("importer", "imported"), [*ALLOWED, ("responses.route", "fastapi")])
def test_an_import_along_the_design_breaks_none(verdict: str, importer: str, imported: str) -> None:
    assert edge(importer, imported) not in verdict
    assert "tailrace.responses.route ->" not in verdict
    assert "tailrace.responses.declared ->" not in verdict


def front_door_imports(code: str, package: str) -> Iterator[str]:
    """Each import in `code`, a module of `package`, that binds the package `tailrace` itself."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                # `import tailrace.limits` binds the name `tailrace` too.
                if alias.name == "tailrace" or (
                    alias.name.startswith("tailrace.") and alias.asname is None
                ):
                    yield f"line {node.lineno}: import {alias.name}"
        elif isinstance(node, ast.ImportFrom) and origin(node, package) == "tailrace":
            for alias in node.names:
                if not is_submodule(alias.name):
                    yield f"line {node.lineno}: from tailrace import {alias.name}"


def origin(node: ast.ImportFrom, package: str) -> str:
    """The absolute name of what a `from` imports from, for a module of `package`."""
    if node.level == 0:
        return node.module or ""
    parents = package.split(".")
    above = parents[: len(parents) - node.level + 1]
    return ".".join([*above, *([node.module] if node.module else [])])


def is_submodule(name: str) -> bool:
    return (SOURCE / f"{name}.py").exists() or (SOURCE / name / "__init__.py").exists()


EXAMPLES = [SOURCE / "app" / "tour.py"]
"""Packages that are shipped but written as a user's code: they import from `tailrace` itself."""


def test_nobody_inside_imports_the_front_door() -> None:
    found = [
        f"{path.relative_to(ROOT)} {offence}"
        for path in sorted(SOURCE.rglob("*.py"))
        if path not in (SOURCE / "__init__.py", *EXAMPLES)
        for offence in front_door_imports(path.read_text(), package_of(path))
    ]
    assert found == []


def package_of(path: Path) -> str:
    return ".".join(path.parent.relative_to(SOURCE.parent).parts)


@pytest.mark.parametrize(
    ("code", "package"),
    [
        ("import tailrace", "tailrace.pump"),
        ("import tailrace as front", "tailrace.pump"),
        ("import tailrace.limits", "tailrace.pump"),
        ("from tailrace import StreamingResponse", "tailrace.pump"),
        ("from tailrace import *", "tailrace.pump"),
        ("from tailrace import limits, StreamingResponse", "tailrace.pump"),
        ("from .. import StreamingResponse", "tailrace.pump"),
        ("from . import StreamingResponse", "tailrace"),
        ("def late():\n    from tailrace import StreamingResponse", "tailrace.pump"),
    ],
)
def test_the_check_of_the_front_door_sees_an_offence(code: str, package: str) -> None:
    assert list(front_door_imports(code, package))


@pytest.mark.parametrize(
    ("code", "package"),
    [
        ("from tailrace import limits", "tailrace.pump"),
        ("from tailrace.errors import TailraceError", "tailrace.pump"),
        ("import tailrace.limits as limits", "tailrace.pump"),
        ("from .. import limits", "tailrace.pump"),
        ("from . import batch", "tailrace.pump"),
        ("import tailraces", "tailrace.pump"),
    ],
)
def test_the_check_of_the_front_door_lets_a_submodule_pass(code: str, package: str) -> None:
    assert not list(front_door_imports(code, package))


def imports_of_source() -> dict[str, set[str]]:
    """Each module of the package, and the modules of the package that it imports. Imports within
    functions and for types count, too."""
    files = {module_of(path): path for path in SOURCE.rglob("*.py")}
    return {
        name: set(imported(path.read_text(), package_of(path), files.keys()))
        for name, path in files.items()
    }


def module_of(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(code: str, package: str, known: Collection[str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(code)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = origin(node, package)
            of_above = [f"{above}.{alias.name}" for alias in node.names]
            names = [name if name in known else above for name in of_above]
        yield from (name for name in names if name in known)


def circles(graph: Mapping[str, Collection[str]]) -> list[list[str]]:
    """The groups of modules that import each other in a circle, by Tarjan's algorithm for strongly
    connected components. A module that imports itself is a group of one."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        number[name] = lowest[name] = len(number)
        path.append(name)
        for other in graph[name]:
            if other not in number:
                visit(other)
                lowest[name] = min(lowest[name], lowest[other])
            elif other in path:
                lowest[name] = min(lowest[name], number[other])
        if lowest[name] == number[name]:
            begin = path.index(name)
            component = sorted(path[begin:])
            del path[begin:]
            if len(component) > 1 or name in graph[name]:
                found.append(component)

    for name in sorted(graph):
        if name not in number:
            visit(name)
    return sorted(found)


def test_no_file_imports_itself_over_others() -> None:
    graph = imports_of_source()
    assert graph["tailrace.streams.streams"] >= {"tailrace.streams.core", "tailrace.limits"}
    assert circles(graph) == []


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        ({"a": ["b", "c"], "b": ["c"], "c": []}, []),
        ({"a": ["a"]}, [["a"]]),
        ({"a": ["b"], "b": ["a", "c"], "c": ["d"], "d": ["c"]}, [["a", "b"], ["c", "d"]]),
        ({"a": ["b"], "b": ["c"], "c": ["a", "d"], "d": []}, [["a", "b", "c"]]),
    ],
)
def test_a_circle_is_found(graph: dict[str, list[str]], expected: list[list[str]]) -> None:
    assert circles(graph) == expected


def test_an_import_is_seen_wherever_it_stands() -> None:
    code = """
import tailrace.limits
from tailrace.store import Store, rules
if TYPE_CHECKING:
    from . import core
def late():
    from tailrace.streams.run import Run
    import json
"""
    known = {
        *("tailrace.limits", "tailrace.store", "tailrace.store.rules", "tailrace.streams"),
        *("tailrace.streams.core", "tailrace.streams.run"),
    }
    assert set(imported(code, "tailrace.streams", known)) == known - {"tailrace.streams"}


def absent_files(text: str) -> list[str]:
    """The Python files that a text names and that exist neither in the package nor below the root.

    A name need not have backticks: the page also has lists of files without them.
    """
    named = sorted(set(re.findall(r"[\w./]+\.py\b", text)))
    return [name for name in named if not any((at / name).is_file() for at in (SOURCE, ROOT))]


def test_the_page_of_the_architecture_names_files_that_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    assert text.count(".py") > 100
    assert absent_files(text) == []


@pytest.mark.parametrize(
    ("text", "absent"),
    [
        ("`limits.py`, `pump/stream.py` and `tests/test_architecture.py`", []),
        ("source/iterate.py    runs the generator", []),
        ("`stream.py`", ["stream.py"]),
        ("an old one (`pump/pump.py`), then `types.py`", ["pump/pump.py"]),
        ("    responses/busy.py  answers 503", ["responses/busy.py"]),
    ],
)
def test_a_file_that_does_not_exist_is_found(text: str, absent: list[str]) -> None:
    assert absent_files(text) == absent
