"""Turn files and standard input into the content of a request. Sends nothing.

Images and PDFs become blocks. All other files must be text, and are sent as text, because some
servers silently drop document blocks (docs/protocol.md, section 4).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from io import BytesIO
from typing import TYPE_CHECKING

from modelslab_llm import document, image
from modelslab_llm.errors import InvalidRequestError

from ._status import Fault

if TYPE_CHECKING:
    from modelslab_llm import ContentBlockParam

MAX_BYTES = 24 * 1024 * 1024
"""The maximum size of a file: as base64 it fills the 32 MiB of a whole request."""

_IMAGES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF")


def content_of(
    prompt: str, files: Iterable[str], *, piped: bool = True
) -> str | list[ContentBlockParam]:
    """Return the content of the user's turn: blocks first, then all text, the prompt last.

    Args:
        prompt: The question; empty where the files or standard input are the question.
        files: Paths; `-` is standard input.
        piped: Whether to read what is piped in though no `-` says so. Default True.
    """
    names = list(files)
    blocks: list[ContentBlockParam] = []
    texts: list[str] = []
    if piped and "-" not in names and not sys.stdin.isatty():
        add_part(_standard_input(), "", blocks, texts)
    for name in names:
        data = _standard_input() if name == "-" else _bytes_of(name)
        if not data:
            raise Fault(f"{_called(name)}: is empty")
        add_part(data, name, blocks, texts)
    text = "\n\n".join([*texts, prompt] if prompt else texts)
    if not blocks:
        return text
    return [*blocks, {"type": "text", "text": text}] if text else blocks


def add_part(data: bytes, name: str, blocks: list[ContentBlockParam], texts: list[str]) -> None:
    """Add the content of a file to the blocks or to the texts. Raises `Fault`."""
    if not data.strip():
        return
    file = BytesIO(data)
    file.name = _called(name)
    try:
        if data.startswith(_IMAGES):
            blocks.append(image(file))
            return
        block = document(file)
    except InvalidRequestError as error:
        raise Fault(str(error)) from error
    if block["source"]["type"] == "text":
        texts.append(_labelled(name, block["source"]["data"]))
    else:
        blocks.append(block)


def _labelled(name: str, text: str) -> str:
    """Return the text of a file between marks that name it; what is piped in needs none."""
    if name in ("", "-"):
        return text.strip("\r\n")
    ending = "" if text.endswith("\n") else "\n"
    return f'<file name="{os.path.basename(name)}">\n{text}{ending}</file>'


def _called(name: str) -> str:
    return name if name not in ("", "-") else "standard input"


def _standard_input() -> bytes:
    return _limited(sys.stdin.buffer.read(MAX_BYTES + 1), "standard input")


def _bytes_of(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return _limited(file.read(MAX_BYTES + 1), path)
    except (OSError, ValueError) as error:  # the latter: a name with a zero byte
        raise Fault(f"{path}: cannot be read: {getattr(error, 'strerror', error)}") from error


def _limited(data: bytes, name: str) -> bytes:
    if len(data) > MAX_BYTES:
        raise Fault(
            f"{name}: is larger than {MAX_BYTES // 1024**2} MiB, the limit of one "
            "request; use a part of it"
        )
    return data
