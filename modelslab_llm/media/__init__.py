"""Build content blocks from images and documents.

    message = client.messages.create(
        max_tokens=100,
        messages=[{"role": "user", "content": [
            image("photo.jpg"), {"type": "text", "text": "What is on it?"},
        ]}],
    )

The media type is detected from the bytes, not from a name, and what servers would refuse is refused
here. Reads files and file objects; fetches and sends nothing.
"""

from __future__ import annotations

import base64
import os
import struct
from binascii import b2a_base64
from collections.abc import Callable, Mapping
from functools import partial
from io import BytesIO
from typing import Any, Protocol, TypeAlias, TypeVar, Union

from typing_extensions import TypeIs

from ..errors import InvalidRequestError
from ..types.requests import CacheControlParam, DocumentBlockParam, ImageBlockParam
from ._sniff import PDF, PICTURES, TEXT, data_url, kind_of, size_of

__all__ = ["DocumentSource", "ImageSource", "adocument", "aimage", "document", "image"]

T = TypeVar("T")

MIB = 1024 * 1024
MAX_IMAGE = 5 * MIB  # characters of base64, and the sides in pixels (protocol.md §3)
MAX_SIDE = 8000
MAX_DOCUMENT = 32 * MIB  # that of a whole request, so nothing larger can pass


class _Readable(Protocol):
    """A file opened in binary mode, or any other object to read bytes from."""

    def read(self, size: int, /) -> bytes: ...


class _Picture(Protocol):
    """What is needed of a `PIL.Image.Image`, which this package never imports."""

    @property
    def format(self) -> str | None: ...

    @property
    def mode(self) -> str: ...

    @property
    def info(self) -> Mapping[Any, Any]: ...

    def getexif(self) -> Mapping[int, Any]: ...

    # Of any options: spelled out as a method, mypy would not take Pillow's own for it.
    @property
    def save(self) -> Callable[..., None]: ...

    def convert(self, mode: str, /) -> Any: ...

    def transpose(self, method: Any, /) -> Any: ...


ImageSource: TypeAlias = Union[
    str, "os.PathLike[str]", bytes, bytearray, memoryview, _Readable, _Picture
]
"""A path, a URL (`http:`, `https:` or `data:`), the bytes, an open file, or a PIL image."""
DocumentSource: TypeAlias = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview, _Readable]
"""A path, a URL (`http:`, `https:` or `data:`), the bytes, or an open file."""


def image(
    source: ImageSource,
    *,
    max_bytes: int | None = MAX_IMAGE,
    max_side: int | None = MAX_SIDE,
    cache_control: CacheControlParam | None = None,
) -> ImageBlockParam:
    """Return the content block for an image, for vision models: JPEG, PNG, GIF or WebP.

    Files and bytes are sent unchanged, as base64; not every server applies their EXIF orientation.
    A PIL image is rotated as its EXIF orientation says. It is sent as a JPEG of the same quality if
    it was opened as one (if there are several images in one file, the current one). Otherwise it is
    sent as a PNG, or as a JPEG if the PNG would be too large and has no transparency.

    Args:
        source: A path, the bytes, an open file, a PIL image, or a URL. A URL of `http:` or `https:`
            is fetched by the server; Ollama and new-api do not (protocol.md §4).
        max_bytes: Maximum number of characters of base64; None for no limit. Default 5 MiB.
        max_side: Maximum number of pixels per side; None for no limit. Default 8000.
        cache_control: Cache the prompt up to this block; Anthropic only. Default None.

    Returns:
        The content block, for a turn of the user.

    Raises:
        InvalidRequestError: The source is not such an image, is too large, or cannot be read.
    """
    block: ImageBlockParam
    if url := _url(source):
        block = {"type": "image", "source": {"type": "url", "url": url}}
    else:
        data, name = _read(source, max_bytes)
        kind = kind_of(data)
        if kind not in PICTURES:
            raise InvalidRequestError(f"{name}: {_no_picture(kind)}")
        _check_sides(data, kind, max_side, name)
        block = {
            "type": "image",
            "source": {"type": "base64", "media_type": kind, "data": _base64(data)},
        }
    if cache_control is not None:
        block["cache_control"] = cache_control
    return block


def document(
    source: DocumentSource | None = None,
    *,
    text: str | None = None,
    title: str | None = None,
    context: str | None = None,
    citations: bool | None = None,
    max_bytes: int | None = MAX_DOCUMENT,
    cache_control: CacheControlParam | None = None,
) -> DocumentBlockParam:
    """Return the content block for a document: a PDF, or plain text in UTF-8.

    llama-server and Ollama silently drop documents (protocol.md §4): send them text blocks instead.

    Args:
        source: A path, the bytes, an open file, or a URL, which the server fetches. A string is
            always a path or a URL, never the text itself, so that untrusted text cannot name a
            file. Default None.
        text: The text of the document, instead of a `source`. Default None.
        title: Title that the model sees. Default None.
        context: Further information about the document for the model. Default None.
        citations: Whether the model may cite the document. Default None: that of the server.
        max_bytes: Maximum number of characters to send; None for no limit. Default 32 MiB.
        cache_control: Cache the prompt up to this block; Anthropic only. Default None.

    Returns:
        The content block, for a turn of the user.

    Raises:
        InvalidRequestError: The source is neither PDF nor text, is too large, or cannot be read; or
            both a source and a text are given, or neither.
    """
    if (source is None) == (text is None):
        raise InvalidRequestError("document: pass either a source, or text=...")
    block: DocumentBlockParam
    if url := _url(source):
        block = {"type": "document", "source": {"type": "url", "url": url}}
    else:
        block = {"type": "document", "source": _document_source(source, text, max_bytes)}
    if title is not None:
        block["title"] = title
    if context is not None:
        block["context"] = context
    if citations is not None:
        block["citations"] = {"enabled": citations}
    if cache_control is not None:
        block["cache_control"] = cache_control
    return block


async def aimage(
    source: ImageSource,
    *,
    max_bytes: int | None = MAX_IMAGE,
    max_side: int | None = MAX_SIDE,
    cache_control: CacheControlParam | None = None,
) -> ImageBlockParam:
    """Return the content block for an image, for vision models: JPEG, PNG, GIF or WebP.

    Files and bytes are sent unchanged, as base64; not every server applies their EXIF orientation.
    A PIL image is rotated as its EXIF orientation says. It is sent as a JPEG of the same quality if
    it was opened as one (if there are several images in one file, the current one). Otherwise it is
    sent as a PNG, or as a JPEG if the PNG would be too large and has no transparency.

    The source is read and encoded in a thread, so that it does not block the event loop.

    Args:
        source: A path, the bytes, an open file, a PIL image, or a URL. A URL of `http:` or `https:`
            is fetched by the server; Ollama and new-api do not (protocol.md §4).
        max_bytes: Maximum number of characters of base64; None for no limit. Default 5 MiB.
        max_side: Maximum number of pixels per side; None for no limit. Default 8000.
        cache_control: Cache the prompt up to this block; Anthropic only. Default None.

    Returns:
        The content block, for a turn of the user.

    Raises:
        InvalidRequestError: The source is not such an image, is too large, or cannot be read.
    """
    make = partial(
        image, source, max_bytes=max_bytes, max_side=max_side, cache_control=cache_control
    )
    return await _in_thread(make)


async def adocument(
    source: DocumentSource | None = None,
    *,
    text: str | None = None,
    title: str | None = None,
    context: str | None = None,
    citations: bool | None = None,
    max_bytes: int | None = MAX_DOCUMENT,
    cache_control: CacheControlParam | None = None,
) -> DocumentBlockParam:
    """Return the content block for a document: a PDF, or plain text in UTF-8.

    llama-server and Ollama silently drop documents (protocol.md §4): send them text blocks instead.

    The source is read and encoded in a thread, so that it does not block the event loop.

    Args:
        source: A path, the bytes, an open file, or a URL, which the server fetches. A string is
            always a path or a URL, never the text itself, so that untrusted text cannot name a
            file. Default None.
        text: The text of the document, instead of a `source`. Default None.
        title: Title that the model sees. Default None.
        context: Further information about the document for the model. Default None.
        citations: Whether the model may cite the document. Default None: that of the server.
        max_bytes: Maximum number of characters to send; None for no limit. Default 32 MiB.
        cache_control: Cache the prompt up to this block; Anthropic only. Default None.

    Returns:
        The content block, for a turn of the user.

    Raises:
        InvalidRequestError: The source is neither PDF nor text, is too large, or cannot be read; or
            both a source and a text are given, or neither.
    """
    make = partial(
        document,
        source,
        text=text,
        title=title,
        context=context,
        citations=citations,
        max_bytes=max_bytes,
        cache_control=cache_control,
    )
    return await _in_thread(make)


async def _in_thread(make: Callable[[], T]) -> T:
    import anyio.to_thread  # where httpx is, so is anyio

    return await anyio.to_thread.run_sync(make)


def _document_source(source: Any, text: str | None, most: int | None) -> Any:
    if text is None:
        data, name = _read(source, most)
        kind = kind_of(data)
        if kind == PDF:
            return {"type": "base64", "media_type": PDF, "data": _base64(data)}
        text = _decoded(data, kind, name)
    else:
        name = "text"
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidRequestError(f"document: text must be a str, not {type(text).__name__}")
        if most is not None and len(text) > most:
            raise InvalidRequestError(f"document: {_too_large(f'{len(text):,} characters', most)}")
    if not text.strip():
        raise InvalidRequestError(f"{name}: contains no text")
    return {"type": "text", "media_type": TEXT, "data": text}


def _decoded(data: memoryview, kind: str, name: str) -> str:
    if kind in PICTURES:
        raise InvalidRequestError(f"{name}: is an image ({kind}): use image()")
    try:
        text = str(data, "utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"is a {kind}" if kind else f"is not UTF-8 at byte {error.start}"
        raise InvalidRequestError(
            f"{name}: is neither a PDF nor text, it {what}: save it as PDF or as UTF-8 text"
        ) from None
    if "\0" in text:
        raise InvalidRequestError(f"{name}: is neither a PDF nor text, it contains zero bytes")
    return text


def _url(source: object) -> str | None:
    """Return the URL that the server is to fetch, if the source is one."""
    if not isinstance(source, str) or not source.lower().startswith(("http://", "https://")):
        return None
    if not source.isprintable() or " " in source:
        raise InvalidRequestError(
            f"{source!r:.100}: contains a character that is not allowed in a URL"
        )
    return source


def _read(source: ImageSource, most: int | None) -> tuple[memoryview, str]:
    """Return the bytes of a source, and what to call it in an error. No more is read than needed
    to know that it is too large: `most` counts characters of base64, four for each three bytes.
    """
    limit = None if most is None else most // 4 * 3
    if isinstance(source, str) and source.lstrip()[:5].lower() == "data:":
        found: bytes | bytearray | memoryview = _of_data_url(source)
        name = "the data URL"
    elif isinstance(source, (str, os.PathLike)):
        found, name = _of_file(source, limit)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        found, name = source, "the bytes"
    elif _is_picture(source):
        found, name = _of_picture(source, limit), "the PIL image"
    elif _is_readable(source):
        name = str(getattr(source, "name", "the file"))
        found = _of_reader(source.read, limit, name)
    else:
        raise InvalidRequestError(
            f"{type(source).__name__}: pass a path, a URL, bytes, or a file opened with 'rb'"
        )
    view = memoryview(found)
    data = view.cast("B") if view.c_contiguous else memoryview(view.tobytes())
    if not data:
        raise InvalidRequestError(f"{name}: is empty")
    if most is not None and limit is not None and len(data) > limit:
        size = "at least " * (len(data) == limit + 1) + f"{len(data):,} bytes"
        raise InvalidRequestError(f"{name}: {_too_large(size, most)}")
    return data, name


def _is_picture(source: object) -> TypeIs[_Picture]:
    return hasattr(source, "save") and hasattr(source, "mode")


def _is_readable(source: object) -> TypeIs[_Readable]:
    return hasattr(source, "read")


def _of_file(path: str | os.PathLike[str], limit: int | None) -> tuple[bytes, str]:
    name = f"{os.fsdecode(path)!r:.100}"
    try:
        if os.path.isdir(path):  # else the error depends on the platform
            raise IsADirectoryError(0, "it is a directory; name a file in it")
        file = open(path, "rb")  # noqa: SIM115 - it is closed below, and what reading raises is kept apart
    except (OSError, ValueError) as error:  # the latter: a name with a zero byte
        raise InvalidRequestError(
            f"{name}: cannot be read: {getattr(error, 'strerror', error)}; a string is a path "
            "or a URL; for text use document(text=...)"
        ) from error
    with file:
        return _of_reader(file.read, limit, name), name


def _of_reader(read: Callable[[int], Any], limit: int | None, name: str) -> bytes:
    """Read from the current position, up to one byte more than may be sent: pipes return it in
    parts.
    """
    parts: list[bytes] = []
    left = -1 if limit is None else limit + 1
    while left:
        try:
            part = read(left)
        except (OSError, ValueError) as error:
            raise InvalidRequestError(f"{name}: cannot be read: {error}") from error
        if not isinstance(part, bytes):
            if hasattr(part, "close"):  # a coroutine, which would warn that it was never awaited
                part.close()
            raise InvalidRequestError(
                f"{name}: returns {type(part).__name__}, not bytes: open it with 'rb', "
                "or read it and pass the bytes"
            )
        if not part:
            break
        parts.append(part)
        left = -1 if left < 0 else left - len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _of_data_url(url: str) -> bytes:
    try:
        if found := data_url(url):
            return base64.b64decode(found[1], validate=True)
    except ValueError:
        pass
    raise InvalidRequestError("the data URL: is not base64, as in data:image/png;base64,...")


def _of_picture(picture: _Picture, limit: int | None) -> bytes:
    """Return the file that a PIL image is sent as, upright whether or not a server reads EXIF."""
    try:
        turn = _upright(picture)
        if picture.format in _JPEG:
            return _as_jpeg(picture, turn)
        drawn = picture if turn is None else picture.transpose(turn)
        drawn = drawn if drawn.mode in _IN_PNG else drawn.convert("RGB")
        data = _saved(drawn, format="PNG")
        if limit is not None and len(data) > limit and drawn.mode in _OPAQUE:
            data = _saved(drawn, format="JPEG", quality=90)
        return data
    except (OSError, ValueError) as error:
        raise InvalidRequestError(f"the PIL image: cannot be saved: {error}") from error


def _upright(picture: _Picture) -> int | None:
    """Return what undoes the picture's orientation; None where it has none, or none to be read."""
    try:
        return _UPRIGHT.get(picture.getexif().get(_ORIENTATION, 1))
    except (AttributeError, KeyError, SyntaxError, struct.error):  # what Pillow raises for bad EXIF
        return None


def _as_jpeg(picture: _Picture, turn: int | None) -> bytes:
    """Save in the quality in which the image was opened, with its color profile."""
    how: dict[str, Any] = {"format": "JPEG", "icc_profile": picture.info.get("icc_profile")}
    if picture.format == "JPEG" and turn is None:
        return _saved(picture, quality="keep", **how)
    # Pillow keeps the quality of an untouched JPEG alone: here its parts are handed over.
    layers: Any = getattr(picture, "layer", ())
    halved = len(layers) == 3 and tuple(layers[0][1:3]) == (2, 2)
    how |= {"qtables": getattr(picture, "quantization", None), "subsampling": 2 if halved else 0}
    return _saved(picture if turn is None else picture.transpose(turn), **how)


def _saved(picture: _Picture, **how: Any) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, **how)
    return buffer.getvalue()


_JPEG = frozenset({"JPEG", "MPO"})  # the latter: several pictures in one file, as phones take them
_IN_PNG = frozenset({"1", "L", "LA", "I;16", "P", "RGB", "RGBA"})
_OPAQUE = frozenset({"L", "RGB"})
_ORIENTATION = 0x0112  # the EXIF tag, from 1 to 8
_UPRIGHT = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
"""Which `PIL.Image.Transpose`, by its number, undoes an orientation."""


def _check_sides(data: memoryview, kind: str, most: int | None, name: str) -> None:
    size = size_of(data, kind)
    if size is None or 0 in size:
        raise InvalidRequestError(f"{name}: begins like {kind}, but is broken or truncated")
    if most is not None and max(size) > most:
        width, height = size
        raise InvalidRequestError(
            f"{name}: has {width} x {height} pixels, the limit per side is {most}: make it "
            f"smaller, "
            "or raise the limit with max_side=..."
        )


def _no_picture(kind: str) -> str:
    if kind == PDF:
        return "is a PDF: use document()"
    what = f"is a {kind}" if kind else "is not an image"
    return f"{what}: servers accept JPEG, PNG, GIF and WebP"


def _too_large(size: str, most: int) -> str:
    return (
        f"is too large: {size}; the limit is {most:,} characters "
        "(base64: 4 per 3 bytes); raise it with max_bytes=..."
    )


def _base64(data: memoryview) -> str:
    """Encode at once, without the copy that the module `base64` makes of anything but `bytes`."""
    return b2a_base64(data, newline=False).decode("ascii")
