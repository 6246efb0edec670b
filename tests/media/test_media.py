"""Pictures and documents: from wherever they are to the block that is sent, or a clear error."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import struct
import subprocess
import sys
import threading
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps
from variants import Async, Sync

from modelslab_llm import InvalidRequestError, adocument, aimage, document, image
from modelslab_llm.media import MAX_IMAGE
from modelslab_llm.media._sniff import PICTURES, kind_of, size_of
from modelslab_llm.testing import LocalServer


def drawn(kind: str, size: tuple[int, int] = (3, 2), mode: str = "RGB", **how: Any) -> bytes:
    """A real picture of that format, made by Pillow."""
    buffer = io.BytesIO()
    Image.new(mode, size, "red").save(buffer, format=kind, **how)
    return buffer.getvalue()


PNG = drawn("PNG")
PDF = b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\ntrailer <</Root 1 0 R>>\n%%EOF\n"
SAMPLES = {
    "image/png": PNG,
    "image/jpeg": drawn("JPEG"),
    "image/gif": drawn("GIF"),
    "image/webp": drawn("WEBP"),
}


def bytes_in(block: Any) -> bytes:
    return base64.b64decode(block["source"]["data"], validate=True)


# --- what it is ---


@pytest.mark.parametrize("kind", PICTURES)
def test_the_media_type_is_that_of_the_content_whatever_the_name_says(
    kind: str, tmp_path: Path
) -> None:
    for name in ("photo.txt", "photo.png", "photo.jpeg", "photo"):
        path = tmp_path / name
        path.write_bytes(SAMPLES[kind])
        block = image(path)
        assert block == {
            "type": "image",
            "source": {
                "type": "base64",
                "media_type": kind,
                "data": base64.b64encode(SAMPLES[kind]).decode(),
            },
        }
        assert image(str(path)) == block


@pytest.mark.parametrize(
    ("format", "how"),
    [
        ("PNG", {}),
        ("GIF", {}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True, "quality": 95}),
        ("JPEG", {"exif": b"Exif\0\0" + bytes(40_000), "comment": b"\xff\xc0 no frame"}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": b"Exif\0\0" + bytes(100)}),
    ],
)
@pytest.mark.parametrize("size", [(1, 1), (70, 3), (300, 4097)])
def test_the_size_is_found_as_pillow_finds_it(
    format: str, how: dict[str, Any], size: tuple[int, int]
) -> None:
    data = drawn(format, size, **how)
    assert Image.open(io.BytesIO(data)).size == size
    assert size_of(data, kind_of(data)) == size


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([*SAMPLES.values(), PDF]), st.binary(max_size=40), st.data())
def test_sniffing_never_fails_and_looks_at_the_content_only(
    sample: bytes, tail: bytes, data: st.DataObject
) -> None:
    kind = kind_of(sample)
    assert kind_of(sample + tail) == kind  # what follows does not matter
    cut = sample[: data.draw(st.integers(0, len(sample)))]
    assert kind_of(cut) in (kind, "")  # what is cut is the same or unknown, never another
    if kind in PICTURES:
        assert size_of(cut, kind) in (size_of(sample, kind), None)
        size_of(sample[: len(cut)] + tail, kind)  # what is broken raises nothing


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=2000))
def test_any_bytes_give_a_block_or_a_clear_error(data: bytes) -> None:
    for make in (image, document):
        with suppress(InvalidRequestError):
            block: Any = make(data)
            assert make is document
            text = block["source"]["data"]
            assert (
                data in (text.encode(), b"\xef\xbb\xbf" + text.encode()) or bytes_in(block) == data
            )


@given(st.text(st.characters(exclude_characters="\0\ufeff", exclude_categories=["Cs"])))
def test_text_is_text_however_it_begins(text: str) -> None:
    if text.strip() and "%PDF-" not in text and kind_of(text.encode()) not in PICTURES:
        assert document(text.encode())["source"] == document(text=text)["source"]
        assert document(b"\xef\xbb\xbf" + text.encode()) == document(text=text)


# --- where it comes from ---


def test_every_kind_of_source_gives_the_same_block(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(PNG)
    expected = image(PNG)
    assert image(bytearray(PNG)) == image(memoryview(PNG)) == expected
    assert image(io.BytesIO(PNG)) == expected
    with open(path, "rb") as file:
        assert image(file) == expected
    data_url = "data:image/jpeg;base64," + base64.b64encode(PNG).decode()
    assert image(data_url) == expected  # it is a PNG, whatever it says


@pytest.mark.parametrize(
    "written",
    [
        lambda data: f"data:image/png;base64,{data}",
        lambda data: f"DATA:image/png;charset=utf-8;BASE64,{data}",
        lambda data: f" data:image/png; base64 ,{data}\n",
        lambda data: "data:image/png;base64,\n" + "\r\n".join(re.findall(".{1,76}", data)),
        lambda data: f"data:image/png;base64,{quote(data, safe='')}",
        lambda data: f"data:image/png;base64,{data.rstrip('=')}",
        lambda data: "data:image/png;base64," + quote(data.rstrip("=") + "\n"),
        lambda data: f"data:;base64,{data}",
    ],
)
@pytest.mark.parametrize("more", [0, 1, 2])  # bytes at the end, for each length of padding
def test_data_urls_are_read_as_browsers_read_them(written: Callable[[str], str], more: int) -> None:
    data = PNG + bytes(more)
    url = written(base64.b64encode(data).decode())
    assert image(url) == image(data)


def test_bytes_that_are_not_in_a_row() -> None:
    spread = bytearray(2 * len(PNG))
    spread[::2] = PNG
    assert image(memoryview(spread)[::2]) == image(PNG)


def test_a_file_is_read_from_where_it_stands_and_in_parts() -> None:
    class Pipe(io.RawIOBase):
        """Gives seven bytes at a time, as a socket may."""

        def __init__(self, data: bytes) -> None:
            self.file = io.BytesIO(data)

        def read(self, size: int = -1) -> bytes:
            return self.file.read(min(size, 7))

    assert image(Pipe(PNG)) == image(PNG)
    file = io.BytesIO(b"head" + PNG)
    file.seek(4)
    assert image(file) == image(PNG)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "CMYK", "HSV", "F", "LA", "I"])
def test_pil_images(mode: str) -> None:
    picture = Image.new(mode, (5, 4))
    block: Any = image(picture)
    assert block["source"]["media_type"] == "image/png"
    assert Image.open(io.BytesIO(bytes_in(block))).size == (5, 4)


def test_a_pil_image_that_was_opened_as_a_jpeg_stays_one_of_its_quality() -> None:
    noise = Image.effect_noise((64, 64), 90).convert("RGB")
    buffer = io.BytesIO()
    noise.save(buffer, format="JPEG", quality=95)
    opened = Image.open(io.BytesIO(buffer.getvalue()))
    block: Any = image(opened)
    assert block["source"]["media_type"] == "image/jpeg"
    sent: Any = Image.open(io.BytesIO(bytes_in(block)))
    assert sent.quantization == opened.quantization  # type: ignore[attr-defined]


def corners(data: bytes) -> list[str]:
    """The colours of a picture's corners, clockwise from the top left, as a viewer shows it."""
    shown = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    right, bottom = shown.width - 1, shown.height - 1
    found: list[str] = []
    for at in ((0, 0), (right, 0), (right, bottom), (0, bottom)):
        pixel: Any = shown.getpixel(at)
        found.append(
            "".join(letter for letter, level in zip("rgb", pixel, strict=True) if level > 127)
        )
    return found


def quarters(width: int = 96, height: int = 64) -> Image.Image:
    """Four quarters of different colours, clockwise from the top left."""
    picture = Image.new("RGB", (width, height))
    for at, colour in {(0, 0): "red", (1, 0): "lime", (1, 1): "blue", (0, 1): "yellow"}.items():
        box = (width // 2, height // 2)
        picture.paste(Image.new("RGB", box, colour), (at[0] * box[0], at[1] * box[1]))
    return picture


def photographed(format: str, orientation: int, **how: Any) -> bytes:
    """A file as a camera makes it: the pixels as the sensor lay, and how to hold it in EXIF."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    quarters().save(buffer, format=format, exif=exif, **how)
    return buffer.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "MPO"])
@pytest.mark.parametrize("change", [None, "convert", "resize", "copy"])
def test_a_pil_image_arrives_as_a_viewer_shows_its_file(
    format: str, orientation: int, change: str | None
) -> None:
    more = {"append_images": [quarters()], "save_all": True} if format == "MPO" else {}
    file = photographed(format, orientation, **more)
    opened: Any = Image.open(io.BytesIO(file))
    changes = {"convert": ("RGBA",), "resize": ((48, 32),), "copy": ()}
    picture = getattr(opened, change)(*changes[change]) if change else opened
    block: Any = image(picture)
    sent = bytes_in(block)
    assert corners(sent) == corners(file)
    # Upright by its pixels: servers that ignore EXIF see the same.
    assert Image.open(io.BytesIO(sent)).getexif().get(0x0112, 1) == 1
    jpeg = format in ("JPEG", "MPO") and change is None
    assert block["source"]["media_type"] == ("image/jpeg" if jpeg else "image/png")


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("format", ["JPEG", "MPO"])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_a_photo_stays_a_jpeg_of_its_quality(
    format: str, orientation: int, subsampling: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    noise = Image.effect_noise((600, 400), 90).convert("RGB")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    more: dict[str, Any] = {"subsampling": subsampling, "icc_profile": profile, "exif": exif}
    if format == "MPO":
        more |= {"append_images": [noise.copy()], "save_all": True}
    buffer = io.BytesIO()
    noise.save(buffer, format=format, quality=90, **more)
    opened: Any = Image.open(io.BytesIO(buffer.getvalue()))
    assert opened.format == format
    sent: Any = Image.open(io.BytesIO(bytes_in(image(opened))))
    assert sent.format == "JPEG"
    assert sent.quantization == opened.quantization
    assert [part[1:3] for part in sent.layer] == [part[1:3] for part in opened.layer]
    assert sent.info["icc_profile"] == profile
    single = len(buffer.getvalue()) / (2 if format == "MPO" else 1)
    assert len(bytes_in(image(opened))) < 1.2 * single
    assert opened.format == format  # the caller's own picture is as it was


def test_of_several_pictures_in_one_file_the_current_one_is_sent() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9), "red").save(
        buffer, format="MPO", save_all=True, append_images=[Image.new("RGB", (9, 9), "blue")]
    )
    opened: Any = Image.open(io.BytesIO(buffer.getvalue()))
    assert corners(bytes_in(image(opened))) == ["r"] * 4
    opened.seek(1)
    assert corners(bytes_in(image(opened))) == ["b"] * 4


def test_a_pil_image_whose_png_would_be_too_large_is_sent_as_a_jpeg() -> None:
    noise = Image.effect_noise((200, 200), 90).convert("RGB")
    small: Any = image(noise, max_bytes=50_000)
    assert small["source"]["media_type"] == "image/jpeg"
    assert len(small["source"]["data"]) <= 50_000
    large: Any = image(noise)
    assert large["source"]["media_type"] == "image/png"
    assert image(noise, max_bytes=None) == large
    see_through = noise.convert("RGBA")
    with pytest.raises(InvalidRequestError, match="the PIL image: is too large"):
        image(see_through, max_bytes=50_000)  # its transparency would be lost


def test_a_pil_image_with_broken_exif_is_sent_as_it_is() -> None:
    picture = quarters()
    picture.info["exif"] = b"Exif\0\0no TIFF at all"
    assert corners(bytes_in(image(picture))) == ["r", "g", "b", "rg"]


def test_pil_is_not_imported() -> None:
    code = (
        "import sys, modelslab_llm as m;"
        "m.image(bytes.fromhex(sys.argv[1])); print('PIL' in sys.modules)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, PNG.hex()], capture_output=True, text=True, check=True
    )
    assert shown.stdout == "False\n"


def test_urls_are_passed_on() -> None:
    url = "HTTPS://example.org/a%20b.png?x=1"
    assert image(url) == {"type": "image", "source": {"type": "url", "url": url}}
    assert document(url, title="T")["source"] == {"type": "url", "url": url}


def test_documents(tmp_path: Path) -> None:
    path = tmp_path / "report.txt"
    path.write_bytes(PDF)
    block = document(
        path, title="Report", context="2026", citations=True, cache_control={"type": "ephemeral"}
    )
    assert bytes_in(block) == PDF
    assert {**block, "source": block["source"]["type"]} == {
        "type": "document",
        "source": "base64",
        "title": "Report",
        "context": "2026",
        "citations": {"enabled": True},
        "cache_control": {"type": "ephemeral"},
    }
    path.write_text("Ça va. ⚓", encoding="utf-8")
    assert document(path)["source"] == {
        "type": "text",
        "media_type": "text/plain",
        "data": "Ça va. ⚓",
    }
    assert image(PNG, cache_control={"type": "ephemeral"})["cache_control"] == {"type": "ephemeral"}


def test_untrusted_text_names_no_file(tmp_path: Path) -> None:
    path = tmp_path / "secret.txt"
    path.write_text("secret", encoding="utf-8")
    assert document(text=str(path))["source"]["data"] == str(path)  # type: ignore[typeddict-item]


# --- on the wire ---


def test_blocks_are_sent_as_they_are(variant: Sync | Async, tmp_path: Path) -> None:
    path = tmp_path / "p"
    path.write_bytes(PNG)
    content = [image(path), document(text="A report."), {"type": "text", "text": "What is it?"}]
    with LocalServer("A red square.") as server:
        client = variant.client(api_key=server.api_key, endpoint=server.llm_v7())
        turn = {"role": "user", "content": content}
        client.create(model="m", max_tokens=9, messages=[turn])
        assert server.requests[0].body["messages"] == [turn]
        client.close()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_async_reads_in_another_thread(backend: str, tmp_path: Path) -> None:
    threads: list[int] = []

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            threads.append(threading.get_ident())
            return super().read(size)

    async def main() -> None:
        assert await aimage(Slow(PNG), max_side=10) == image(PNG)
        assert await adocument(Slow(PDF), title="T") == document(PDF, title="T")
        with pytest.raises(InvalidRequestError, match="directory"):
            await aimage(tmp_path)

    anyio.run(main, backend=backend)
    assert threads
    assert threading.get_ident() not in threads


# --- what is refused ---


def too_wide() -> bytes:
    """A picture whose head says more than anyone would draw."""
    header = struct.pack(">II5B", 8001, 10, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    return PNG[:8] + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + PNG[33:]


class Upload:
    """As web frameworks hand them out: reading is async."""

    name = "upload.png"

    async def read(self, size: int = -1) -> bytes:
        return PNG


class Broken:
    name = "broken.png"

    def read(self, size: int) -> bytes:
        raise OSError(5, "Input/output error")


BAD_BOTH: list[tuple[Any, str]] = [
    ("no/such/file.png", "'no/such/file.png': cannot be read: No such file or directory"),
    ("a\0b", "cannot be read: embedded null"),
    (os.path.dirname(__file__), "cannot be read: it is a directory"),
    (b"", "the bytes: is empty"),
    (io.BytesIO(), "the file: is empty"),
    (io.StringIO("text"), "returns str, not bytes: open it with 'rb'"),
    (Upload(), "upload.png: returns coroutine, not bytes"),
    (Broken(), "broken.png: cannot be read: .*Input/output error"),
    ("data:text/plain,Hello", "the data URL: is not base64"),
    ("data:image/png;base64,!!!!", "the data URL: is not base64"),
    ("https://example.org/a b.png", "contains a character that is not allowed in a URL"),
    (5, "int: pass a path, a URL, bytes, or a file opened with 'rb'"),
    (b"II*\0" + bytes(50) + b"\xff", "TIFF"),
]


@pytest.mark.parametrize("make", [image, document])
@pytest.mark.parametrize(("source", "cure"), BAD_BOTH)
def test_bad_sources(make: Any, source: Any, cure: str) -> None:
    with pytest.raises(InvalidRequestError, match=cure):
        make(source)


@pytest.mark.parametrize(
    ("data", "cure"),
    [
        (b"Dear Ada,", "is not an image: servers accept JPEG, PNG, GIF and WebP"),
        (PDF, r"is a PDF: use document\(\)"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is a SVG"),
        (drawn("BMP"), "is a BMP: servers accept"),
        (drawn("TIFF"), "is a TIFF"),
        (b"\0\0\0\x18ftypheic" + bytes(30), "is a HEIC"),
        (PNG[:20], "begins like image/png, but is broken or truncated"),
        (drawn("JPEG")[:30], "begins like image/jpeg, but is broken or truncated"),
        (too_wide(), "has 8001 x 10 pixels, the limit per side is 8000.*max_side="),
    ],
)
def test_what_is_not_a_picture_to_send(data: bytes, cure: str) -> None:
    with pytest.raises(InvalidRequestError, match=cure):
        image(data)


@pytest.mark.parametrize(
    ("how", "cure"),
    [
        ({"source": PNG}, r"is an image \(image/png\): use image\(\)"),
        ({"source": b"caf\xe9 au lait"}, "not UTF-8 at byte 3: save it as PDF or as UTF-8 text"),
        ({"source": b"a\0b"}, "contains zero bytes"),
        ({"source": b"PK\3\4 a docx \xff"}, "it is a ZIP or Office file"),
        ({"source": b" \n"}, "the bytes: contains no text"),
        ({"text": ""}, "text: contains no text"),
        ({"text": b"bytes"}, "text must be a str, not bytes"),
        ({"text": "long", "max_bytes": 3}, "too large: 4 characters; the limit is 3"),
        ({}, "pass either a source, or text="),
        ({"source": PDF, "text": "both"}, "pass either a source, or text="),
    ],
)
def test_what_is_not_a_document_to_send(how: dict[str, Any], cure: str) -> None:
    with pytest.raises(InvalidRequestError, match=cure):
        document(**how)


def test_a_pil_image_that_cannot_be_saved() -> None:
    class Odd:
        mode, format = "RGB", None
        info: ClassVar[dict[str, Any]] = {}

        def getexif(self) -> dict[int, Any]:
            return {}

        def transpose(self, method: int) -> Any:
            return self

        def save(self, *_: Any, **__: Any) -> None:
            raise OSError("cannot write mode XYZ as PNG")

        def convert(self, mode: str) -> Any:
            return self

    with pytest.raises(InvalidRequestError, match=r"the PIL image: cannot be saved: cannot write"):
        image(Odd())


def padded(size: int) -> bytes:
    return PNG + bytes(size - len(PNG))


def test_the_limit_is_that_of_the_base64() -> None:
    fits = MAX_IMAGE // 4 * 3
    block: Any = image(padded(fits))
    assert len(block["source"]["data"]) == MAX_IMAGE
    with pytest.raises(InvalidRequestError, match=r"too large.*the limit is 5,242,880 characters"):
        image(padded(fits + 1))
    assert image(padded(fits + 1), max_bytes=None)["type"] == "image"
    with pytest.raises(InvalidRequestError, match="too large"):
        document(PDF + bytes(32 * 1024 * 1024 // 4 * 3))


def test_no_more_is_read_than_to_know_that_it_is_too_large() -> None:
    class Endless:
        given = 0

        def read(self, size: int) -> bytes:
            self.given += (part := min(size, 65536))
            return PNG if self.given == part == len(PNG) else bytes(part)

    source = Endless()
    with pytest.raises(InvalidRequestError, match=r"the file: is too large: at least 3,932,161 by"):
        image(source)
    assert source.given == MAX_IMAGE // 4 * 3 + 1


def test_memory_is_the_file_its_base64_and_the_text_of_that(tmp_path: Path) -> None:
    """Traced, not timed: 1 for the file, 4/3 for the base64 and 4/3 for the string."""
    size = 3 * 1024 * 1024
    path = tmp_path / "large.png"
    path.write_bytes(padded(size))
    tracemalloc.start()
    try:
        block = image(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert json.dumps(block)
    assert peak < 5.3 * size  # reading up to the limit takes room for the limit at first
