"""How text becomes bytes: in the charset that the response declares."""

from __future__ import annotations

import codecs
from collections.abc import Callable

from tailrace.errors import InvalidOption

__all__ = ["Charset"]


class Charset:
    """The encoder of one response.

    A response is one text, though it comes in pieces: UTF-16 has one byte order mark, and
    ISO-2022-JP returns to ASCII at the end, not after each piece.

    Args:
        charset: By any name that Python has for it: "utf-8", "latin1".

    Raises:
        InvalidOption: Python knows no such charset.
    """

    __slots__ = ("_encoder", "encode", "name")

    encode: Callable[[str], bytes]
    """The bytes of the next text.

    Raises:
        UnicodeEncodeError: The charset does not have one of its characters.
    """

    def __init__(self, charset: str) -> None:
        try:
            codec = codecs.lookup(charset)
            "".encode(codec.name)  # refuses what is a codec and no charset: "base64"
        except (LookupError, ValueError):
            raise InvalidOption("charset", charset, "an encoding that Python knows") from None
        self.name = codec.name
        self._encoder: codecs.IncrementalEncoder | None = None
        self.encode = str.encode  # the short way, in UTF-8
        if self.name != "utf-8":
            self._encoder = codecs.getincrementalencoder(self.name)()
            self.encode = self._encoder.encode

    def finish(self) -> bytes:
        """The bytes that the charset needs at the end of a text."""
        return b"" if self._encoder is None else self._encoder.encode("", final=True)

    def lossy(self, text: str) -> bytes:
        """The bytes of the next text; characters that the charset does not have are escaped."""
        if self._encoder is None:
            return text.encode(errors="backslashreplace")
        self._encoder.errors = "backslashreplace"
        return self._encoder.encode(text)

    def lacks(self, text: str) -> str:
        """The first character of a text that the charset does not have; "" if it has all."""
        try:
            text.encode(self.name)
        except UnicodeEncodeError as error:
            return text[error.start]
        return ""
