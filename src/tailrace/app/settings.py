"""The settings of the application that `tailrace serve` runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tailrace.errors import InvalidOption

__all__ = ["Settings"]

_DIRECTORY = "TAILRACE_DIRECTORY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is served, and how; one frozen object, made once for each process.

    Args:
        directory: What is served under /files/; it must exist.

    Raises:
        InvalidOption: A value that cannot be.
    """

    directory: Path

    def __post_init__(self) -> None:
        if not self.directory.is_dir():
            raise InvalidOption("directory", str(self.directory), "a directory that exists")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """The settings that a parent process has left in the environment.

        uvicorn's workers are processes of their own, which import the application by its name:
        nothing else reaches them.

        Raises:
            InvalidOption: A variable is missing or cannot be; it is named.
        """
        directory = environment.get(_DIRECTORY, "")
        if not directory:
            raise InvalidOption(_DIRECTORY, directory, "the path of a directory")
        return cls(directory=Path(directory))

    def environment(self) -> dict[str, str]:
        """The variables that `from_environment` makes these settings from."""
        return {_DIRECTORY: str(self.directory.absolute())}
