"""The server protocol: `uvicorn app:app --http tailrace.server:HttpProtocol`."""

from __future__ import annotations

from tailrace.server.options import ServerOptions
from tailrace.server.uvicorn import HttpProtocol

__all__ = ["HttpProtocol", "ServerOptions"]
