"""Finds the Python examples in README.md and docs/, and loads one as a module."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

__all__ = ["ROOT", "Example", "examples_in", "load", "pages"]

ROOT = Path(__file__).parent.parent

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)")


@dataclass(frozen=True, slots=True)
class Example:
    """One block of Python in a page.

    Attributes:
        page: The page's path, from the root of the checkout.
        line: The line of the page in which the code starts, from 1.
        code: The code, without the indentation of the block.
    """

    page: str
    line: int
    code: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def examples_in(text: str, page: str) -> Iterator[Example]:
    """Each block of Python in a page: its fence says `python`, `python3` or `py`.

    Args:
        text: The page's text.
        page: Its path.

    Raises:
        ValueError: A block is never closed.
    """
    opened: re.Match[str] | None = None
    start, code = 0, list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        if opened is None:
            if (opened := FENCE.match(line)) is not None:
                start, code = number, []
        elif line.strip() == "```":
            if opened["language"] in ("python", "python3", "py"):
                indent = len(opened["indent"])
                yield Example(page, start + 1, "\n".join(text[indent:] for text in code) + "\n")
            opened = None
        else:
            code.append(line)
    if opened is not None:
        raise ValueError(f"{page}:{start}: this block is never closed")


def load(example: Example, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Run an example as a module of its own, with `folder` as the current directory.

    It is a module because FastAPI looks up annotations in the endpoint's module. Its lines have the
    same numbers as in the page, so that a traceback shows where the error is.
    """
    name = f"example_{re.sub(r'[^a-z]+', '_', example.page.lower())}_{example.line}"
    path = folder / f"{name}.py"
    path.write_text("\n" * (example.line - 1) + example.code)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.chdir(folder)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module
