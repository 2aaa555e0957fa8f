"""Encodes text in the charset that the response declares."""

from __future__ import annotations

import codecs
from collections.abc import Callable

from tailrace.errors import InvalidOption

__all__ = ["Charset"]


class Charset:
    """The encoder of one response.

    All pieces of a response are encoded as one text: UTF-16 writes its byte order mark only once,
    and ISO-2022-JP returns to ASCII only at the end.

    Args:
        charset: Any name that Python has for it: "utf-8", "latin1".

    Raises:
        InvalidOption: Python does not know this charset.
    """

    __slots__ = ("_encoder", "encode", "name")

    encode: Callable[[str], bytes]
    """The bytes of the next piece of text.

    Raises:
        UnicodeEncodeError: The charset does not have one of the characters.
    """

    def __init__(self, charset: str) -> None:
        try:
            codec = codecs.lookup(charset)
            "".encode(codec.name)  # refuses codecs that are not charsets: "base64"
        except (LookupError, ValueError):
            raise InvalidOption("charset", charset, "an encoding that Python knows") from None
        self.name = codec.name
        self._encoder: codecs.IncrementalEncoder | None = None
        self.encode = str.encode  # UTF-8 has no state, and this is the fastest
        if self.name != "utf-8":
            self._encoder = codecs.getincrementalencoder(self.name)()
            self.encode = self._encoder.encode

    def finish(self) -> bytes:
        """The bytes that the charset needs after the last piece."""
        return b"" if self._encoder is None else self._encoder.encode("", final=True)

    def lossy(self, text: str) -> bytes:
        """The bytes of the next piece; a character that the charset does not have is escaped."""
        if self._encoder is None:
            return text.encode(errors="backslashreplace")
        self._encoder.errors = "backslashreplace"
        return self._encoder.encode(text)

    def lacks(self, text: str) -> str:
        """The first character of the text that the charset does not have; "" if it has all."""
        try:
            text.encode(self.name)
        except UnicodeEncodeError as error:
            return text[error.start]
        return ""
