"""The header fields of a response, which stay true if its body is encoded on its way.

A middleware that compresses adds `content-encoding` to the list that it was given and leaves the
rest as it is (Starlette's GZipMiddleware, brotli-asgi). Then one strong ETag would name two
sequences of bytes, a client would go on with a range of the one behind a part of the other, and a
digest would be wrong. So the list notices what is added to it: the ETag becomes weak and ranges are
not offered, as where nginx compresses, and digests are left out.

Source: RFC 9110 8.8.1 and 8.8.3.3; RFC 9530; RFC 1864.
"""

from __future__ import annotations

from typing import Final

__all__ = ["DIGESTS", "ResponseFields"]

DIGESTS: Final = frozenset({b"content-digest", b"content-md5", b"digest", b"repr-digest"})
"""Fields that hold of the bytes as they were, and of no others. Lower-case."""

_UNTRUE: Final = DIGESTS | {b"accept-ranges"}


class ResponseFields(list[tuple[bytes, bytes]]):
    """Fields, as ASGI has them; all else than `append` is that of any list."""

    __slots__ = ()

    def append(self, field: tuple[bytes, bytes]) -> None:
        name, value = field
        if name.lower() == b"content-encoding" and value.lower() != b"identity":
            self[:] = [_weakened(each) for each in self if each[0].lower() not in _UNTRUE]
        super().append(field)


def _weakened(field: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    name, value = field
    if name.lower() != b"etag" or value.startswith(b"W/"):
        return field
    return name, b"W/" + value
