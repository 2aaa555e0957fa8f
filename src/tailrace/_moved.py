"""Public names that have moved: until 0.2 the old module still gives them, with a warning."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

__all__ = ["moved"]


def moved(old: str, name: str, new: str, new_name: str | None = None) -> Any:
    """The object of a name that has moved, for a module's `__getattr__`; warns the importer.

    Args:
        old: The module that had the name.
        name: The name.
        new: The module that has it now. It is imported when the old name is used, so that an old
            name needs no exception from the rules about which package imports which.
        new_name: The name in the new module; None: the same.
    """
    new_name = new_name or name
    warnings.warn(
        f"{old}.{name} has moved: import {new_name} from {new} (the old name is removed in 0.2)",
        DeprecationWarning,
        stacklevel=3,
    )
    return getattr(import_module(new), new_name)
