"""The Python examples in the project's pages, and how one is loaded."""

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
        page: The page's path in the checkout.
        line: The number of the block's first line of code.
        code: The block.
    """

    page: str
    line: int
    code: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def examples_in(text: str, page: str) -> Iterator[Example]:
    """Each block that is fenced as Python, under any of its names.

    Raises:
        ValueError: A fence that is never closed.
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

    A module, since FastAPI looks up annotations in the module of the endpoint. Its lines are those
    of the page, so that a traceback points there.
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
