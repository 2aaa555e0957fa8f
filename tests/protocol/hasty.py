"""The streams of `served`, in a process that reads a refused body only for a second."""

from __future__ import annotations

from tailrace import limits
from tests.protocol.served import app

__all__ = ["app"]

vars(limits)["LINGER"] = 1.0  # for the whole process, so no test may import this
