"""Text and bytes as they are."""

from __future__ import annotations

import codecs
from typing import Any

from tailrace.errors import InvalidChunk, InvalidOption
from tailrace.framing.base import Carries, Framing

__all__ = ["Raw"]

_WANTED = "str, bytes, bytearray or memoryview"


class Raw(Framing):
    """What a plain stream sends: the items, one behind the other.

    Args:
        charset: How str items are encoded, by Python's name of it.

    Raises:
        InvalidOption: Python knows no such charset.
    """

    name = "raw"
    carries = Carries.CHUNKS

    def __init__(self, charset: str = "utf-8") -> None:
        try:
            # Python's own spelling ("utf-8", not "UTF8") is what `str.encode` has a short way for.
            self._charset = codecs.lookup(charset).name
        except LookupError:
            raise InvalidOption("charset", charset, "an encoding that Python knows") from None

    def frame(self, item: Any) -> bytes:
        kind = type(item)
        # The exact types first: this runs for every line of a file, and `isinstance` costs more.
        if kind is bytes:
            return item  # type: ignore[no-any-return]  # `kind` says it, mypy cannot follow
        try:
            if kind is str:
                return item.encode(self._charset)  # type: ignore[no-any-return]  # as above
            return self._other(item)
        except UnicodeEncodeError as exc:
            wanted = f"text that {self._charset} can carry ({exc.reason} at {exc.start})"
            raise InvalidChunk(item, self.name, wanted) from exc

    def _other(self, item: Any) -> bytes:
        if isinstance(item, memoryview):
            return item.tobytes()  # of any shape, format and stride, in logical order
        if isinstance(item, str):
            return str.encode(item, self._charset)
        if isinstance(item, (bytes, bytearray)):
            return bytes(item)  # a copy: a source may fill the same bytearray again
        raise InvalidChunk(item, self.name, _WANTED)
