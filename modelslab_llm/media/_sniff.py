"""Tell what bytes are by the bytes themselves, and how large a picture is. Pure.

A file's name is not asked: it may say what it likes, and a server answers a wrong media type with
an error that does not name the file.
"""

from __future__ import annotations

import re
import struct
from urllib.parse import unquote

PICTURES = ("image/jpeg", "image/png", "image/gif", "image/webp")
"""What servers take as pictures (protocol.md §4)."""

PDF = "application/pdf"
TEXT = "text/plain"


def kind_of(data: bytes | memoryview) -> str:
    r"""Return the media type of a picture or a PDF, by how it begins; else a name for it, or `""`.

    A name has no slash, and is that of a format servers do not take.

    >>> kind_of(b"\x89PNG\r\n\x1a\n" + bytes(16))
    'image/png'
    >>> kind_of(b"BM" + bytes(64))
    'BMP'
    >>> kind_of(b"Dear Ada,")
    ''
    """
    head = bytes(data[:1024])
    for kind, begins, at in _MARKS:
        if head.startswith(begins, at) and (kind != "image/webp" or head.startswith(b"RIFF")):
            return kind
    if b"%PDF-" in head:  # readers allow for some bytes before it
        return PDF
    return "SVG" if b"<svg" in head else ""


_MARKS = (
    ("image/png", b"\x89PNG\r\n\x1a\n", 0),
    ("image/jpeg", b"\xff\xd8\xff", 0),
    ("image/gif", b"GIF87a", 0),
    ("image/gif", b"GIF89a", 0),
    ("image/webp", b"WEBP", 8),
    ("HEIC", b"ftyphei", 4),
    ("HEIC", b"ftypmif1", 4),
    ("AVIF", b"ftypavi", 4),
    ("TIFF", b"II*\x00", 0),
    ("TIFF", b"MM\x00*", 0),
    ("BMP", b"BM", 0),
    ("ICO", b"\x00\x00\x01\x00", 0),
    ("ZIP or Office file", b"PK\x03\x04", 0),
)


def data_url(url: str) -> tuple[str, str] | None:
    r"""Return the media type and the base64 of a data URL; None for one that is not base64.

    It is read as browsers read it: line breaks and spaces do not count, `%2B` is `+`, and the
    padding may be missing. What comes back is plain base64, as servers want it.

    >>> data_url("data:image/PNG;name=a.png;base64,iVBORw0=")
    ('image/png', 'iVBORw0=')
    >>> data_url("data:image/png;base64,iVBO\n Rw0%3D")
    ('image/png', 'iVBORw0=')
    >>> data_url("data:image/png;base64,iVBORw0")
    ('image/png', 'iVBORw0=')
    >>> data_url("data:text/plain,hello")
    """
    head, _, data = url.partition(",")
    found = _DATA_URL.fullmatch(head.strip())
    if not found:
        return None
    if "%" in data:
        data = unquote(data)
    data = "".join(data.split()).rstrip("=")
    return found[1].strip().lower(), data + "=" * (-len(data) % 4)


_DATA_URL = re.compile(r"data:([^;]*)(;[^,]*)?;\s*base64\s*", re.IGNORECASE)


def size_of(data: bytes | memoryview, kind: str) -> tuple[int, int] | None:
    """Return a picture's width and height in pixels; None where its head does not say."""
    find = {
        "image/png": _png_size,
        "image/gif": _gif_size,
        "image/webp": _webp_size,
        "image/jpeg": _jpeg_size,
    }[kind]
    try:
        return find(data)
    except (struct.error, IndexError):  # it ends before it says
        return None


def _png_size(data: bytes | memoryview) -> tuple[int, int]:
    return struct.unpack_from(">II", data, 16)


def _gif_size(data: bytes | memoryview) -> tuple[int, int]:
    return struct.unpack_from("<HH", data, 6)


def _webp_size(data: bytes | memoryview) -> tuple[int, int] | None:
    """Read the first chunk, of which there are three kinds: extended, lossless, lossy."""
    match bytes(data[12:16]):
        case b"VP8X":
            width, height = (int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
            return (width + 1, height + 1) if len(data) >= 30 else None
        case b"VP8L":
            (bits,) = struct.unpack_from("<I", data, 21)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", data, 26)
            return width & 0x3FFF, height & 0x3FFF
        case _:
            return None


def _jpeg_size(data: bytes | memoryview) -> tuple[int, int] | None:
    """Go from segment to segment, each with its length, to the one that begins a frame."""
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # filling
            at += 1
        elif marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        elif 0xD0 <= marker <= 0xD8 or marker == 0x01:  # these stand alone
            at += 2
        else:
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None


_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
