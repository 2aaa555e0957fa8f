from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from types import ModuleType

import pytest

import tailrace

PACKAGES = ["errors", "framing", "limits", "pump", "responses", "semantics", "source", "types"]


def documented() -> str:
    """Every page that a user reads."""
    root = Path(__file__).parent.parent
    pages = [root / "README.md", *sorted((root / "docs").glob("**/*.md"))]
    return "\n".join(page.read_text() for page in pages if page.exists())


def public(module: ModuleType) -> set[str]:
    """What a module lets be seen: neither underscored nor a module that it imported from."""
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, ModuleType) and name != "annotations"
    }


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
    # A dataclass without one is given its signature.
    assert not first.startswith(f"{name}(")
    assert re.fullmatch(r"[A-Z\"`].{10,}[.:]", first), first
    assert inspect.getdoc(thing) == inspect.cleandoc(text)


@pytest.mark.parametrize("name", tailrace.__all__)
def test_each_name_is_in_the_documentation(name: str) -> None:
    assert re.search(rf"\b{name}\b", documented())


def test_nothing_else_is_public() -> None:
    assert public(tailrace) == set(tailrace.__all__)


def test_a_star_import_gives_just_the_names() -> None:
    space: dict[str, object] = {}
    exec("from tailrace import *", space)
    assert set(space) - {"__builtins__"} == set(tailrace.__all__)


def test_the_version_is_one() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", tailrace.__version__)


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(tailrace.__file__).parent / "py.typed").exists()


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
