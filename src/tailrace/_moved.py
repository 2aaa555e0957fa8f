"""Public names that have moved: until 0.2 their old place gives them too, with a warning."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

__all__ = ["moved"]


def moved(old: str, name: str, new: str, new_name: str | None = None) -> Any:
    """What a module's `__getattr__` gives for a name that has moved; it warns its caller.

    Args:
        old: The module that is asked.
        name: The name that is asked for.
        new: The module that has it now. It is imported here by its name, so that no rule about who
            imports whom is broken for the sake of an old name.
        new_name: Its name there; None: the same.
    """
    new_name = new_name or name
    warnings.warn(
        f"{old}.{name} has moved: import {new_name} from {new} (the old name is removed in 0.2)",
        DeprecationWarning,
        stacklevel=3,
    )
    return getattr(import_module(new), new_name)
