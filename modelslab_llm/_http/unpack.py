"""Decompress an answer piece by piece: a bomb of any ratio fills no more than one piece.

Pure: bytes to bytes. The reader decides how much of the answer it takes.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterator

from ..types._base import tolerated

PIECE = 64 * 1024
"""The maximum size of one piece. A byte of gzip may expand to a thousand."""

ACCEPTED = "gzip, deflate"
"""What to ask a server for: the encodings that can be unpacked within a limit."""

_GZIP = zlib.MAX_WBITS | 16  # what zlib calls the format
_PACKED = {"gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress"}


class UnpackingError(Exception):
    """The bytes are not what their content-encoding says, or that is none of `ACCEPTED`."""


class Unpacker:
    """Unpack one body that was sent with this `content-encoding`.

    Names that are no encoding, which some servers send (`utf-8`), change nothing. One encoding
    inside another is refused: a byte of gzip in gzip may expand to a million.
    """

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        names = (name.strip() for name in encoding.lower().split(","))
        self._packed = [name for name in names if name in _PACKED]
        self._format_before = 0
        self._is_over = False
        self._begin = b""
        self._stream = zlib.decompressobj()
        self._is_inside = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the decompressed form of the next bytes, in pieces of at most `PIECE` bytes.

        A body may be many compressed members one after the other: some servers end one with each
        event, so that it can be read immediately.
        """
        if not self._packed:
            yield data
            return
        data, self._begin = self._begin + data, b""
        while data and not self._is_over:
            if not self._is_inside:
                if len(data) < 2:
                    self._begin = data
                    return
                self._enter(data)
                continue
            try:
                piece = self._stream.decompress(data, PIECE)
            except zlib.error as error:
                raise UnpackingError(str(error)) from None
            data = self._stream.unconsumed_tail
            if self._stream.eof:
                data, self._is_inside = self._stream.unused_data, False
            if piece:
                yield piece

    def _enter(self, begin: bytes) -> None:
        """Begin a member, unless what follows the last one is none: padding, or another's bytes."""
        if self._format_before and not self._is_member(begin):
            tolerated("bytes after the end of a compressed body")
            self._is_over = True
            return
        self._format_before = self._format(begin)
        self._stream, self._is_inside = zlib.decompressobj(self._format_before), True

    def _is_member(self, begin: bytes) -> bool:
        if self._format_before == _GZIP:
            return begin.startswith(b"\x1f\x8b")
        return self._format_before == self._format(begin) and begin[:2] != b"\0\0"

    def _format(self, begin: bytes) -> int:
        """Return what zlib calls the format: its `wbits`."""
        if self._packed in (["gzip"], ["x-gzip"]):
            return _GZIP
        if self._packed != ["deflate"]:
            raise UnpackingError(f"content-encoding {self._encoding[:100]!r} was not requested")
        # RFC 1950 §2.2 gives it a header, which some servers leave out.
        headed = begin[0] & 15 == 8 and int.from_bytes(begin[:2], "big") % 31 == 0
        return zlib.MAX_WBITS if headed else -zlib.MAX_WBITS


def unpacked(source: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """Yield the decompressed chunks of a body."""
    unpacker = Unpacker(encoding)
    for chunk in source:
        yield from unpacker.feed(chunk)


class aunpacked(AsyncIterator[bytes]):  # it is beside `unpacked`
    """`unpacked` for async. No generator: one that is left early needs closing, this does not."""

    def __init__(self, source: AsyncIterator[bytes], encoding: str) -> None:
        self._source = source
        self._unpacker = Unpacker(encoding)
        self._pieces: Iterator[bytes] = iter(())

    async def __anext__(self) -> bytes:
        while True:
            for piece in self._pieces:
                return piece
            self._pieces = self._unpacker.feed(await self._source.__anext__())
