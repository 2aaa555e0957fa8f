"""One JSON array, written item by item."""

from __future__ import annotations

from typing import Any

from tailrace.framing._json import json_of
from tailrace.framing.base import Carries, Framing

__all__ = ["JSONArray"]


class JSONArray(Framing):
    """The items as the elements of one array; an empty source gives `[]`.

    A source that failed leaves the array unclosed, on purpose: no parser takes it for whole.

    Source: RFC 8259 section 5.
    """

    name = "jsonarray"
    media_type = "application/json"
    carries = Carries.JSON

    def __init__(self) -> None:
        self._before = b"["

    def frame(self, item: Any) -> bytes:
        return self.frame_json(json_of(item, "jsonarray"))

    def frame_json(self, text: bytes) -> bytes:
        framed = self._before + text
        # Only now: an item that was refused has written nothing, so the next is still the first.
        self._before = b","
        return framed

    def closing(self) -> bytes:
        return b"[]" if self._before == b"[" else b"]"
