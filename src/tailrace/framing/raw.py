"""The format of plain streams: text and bytes as they are."""

from __future__ import annotations

from typing import Any

from tailrace.errors import InvalidChunk, InvalidOption
from tailrace.framing.base import Carries, Framing
from tailrace.framing.charset import Charset

__all__ = ["Raw"]

_WANTED = "str, bytes, bytearray or memoryview"


class Raw(Framing):
    """The items, one after the other, with nothing between them.

    Items: str, bytes, bytearray, memoryview.

    Args:
        charset: How str items are encoded: any name that Python has for it. If Python does not know
            the charset, bytes are still sent, and str items are refused.
        end_mark: What follows the last item, if the source ended without an error; None is nothing.

    Raises:
        InvalidOption: `end_mark` is neither str nor bytes, or the charset cannot carry it.
    """

    name = "raw"
    carries = Carries.CHUNKS

    def __init__(self, charset: str = "utf-8", end_mark: str | bytes | None = None) -> None:
        self._label = charset
        try:
            self._charset: Charset | None = Charset(charset)
            self._encode = self._charset.encode
        except InvalidOption:
            self._charset, self._encode = None, self._refuse
        self._end_mark = b"" if end_mark is None else self._checked(end_mark)

    def frame(self, item: Any) -> bytes:
        kind = type(item)
        # The exact types first: this runs for every line of a file, and `isinstance` costs more.
        if kind is bytes:
            return item  # type: ignore[no-any-return]  # mypy does not conclude this from `kind`
        try:
            if kind is str:
                return self._encode(item)
            return self._other(item)
        except UnicodeEncodeError as exc:
            wanted = f"text that {exc.encoding} can carry ({exc.reason} at {exc.start})"
            raise InvalidChunk(item, self.name, wanted) from exc

    def closing(self) -> bytes:
        mark = self._end_mark
        text = self._encode(mark) if isinstance(mark, str) else mark
        return text + (b"" if self._charset is None else self._charset.finish())

    def _other(self, item: Any) -> bytes:
        if isinstance(item, memoryview):
            return item.tobytes()  # of any shape, format and stride, in logical order
        if isinstance(item, str):
            return self._encode(item)
        if isinstance(item, (bytes, bytearray)):
            return bytes(item)  # a copy: a source may fill the same bytearray again
        raise InvalidChunk(item, self.name, _WANTED)

    def _refuse(self, text: str) -> bytes:
        raise InvalidChunk(text, self.name, f"bytes: Python knows no charset {self._label!r}")

    def _checked(self, end_mark: str | bytes) -> str | bytes:
        if not isinstance(end_mark, (str, bytes)):
            raise InvalidOption("end_mark", end_mark, "str or bytes")
        if isinstance(end_mark, str) and (self._charset is None or self._charset.lacks(end_mark)):
            raise InvalidOption("end_mark", end_mark, f"text that {self._label} can carry")
        return end_mark
