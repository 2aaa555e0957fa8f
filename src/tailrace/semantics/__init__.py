"""What HTTP's headers mean. Pure: text in, a decision out."""

from __future__ import annotations

from tailrace.semantics.accept import choose_encoding, choose_media_type

__all__ = ["choose_encoding", "choose_media_type"]
