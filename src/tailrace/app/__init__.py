"""FastAPI applications that are ready to run; for now the tour."""

from __future__ import annotations

from tailrace.app.tour import create_tour

__all__ = ["create_tour"]
