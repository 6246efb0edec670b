"""Decide what is saved of an exchange, and which saved one answers a request.

Pure: exchanges to files and back, as bytes by name. Must not open a file or send anything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import NotRequired, TypedDict

from ..._http.unpack import Unpacker, UnpackingError
from ..._protocol.problems import joined, problems_in
from ..._protocol.sse import BLANK, is_stream
from .._script.difference import difference, lines_of
from .cleaner import Cleaner, compact, content_of, data_of, frames_in

__all__ = [
    "CURE",
    "RecordingError",
    "Saved",
    "Take",
    "Tape",
    "is_ours",
    "load",
    "written",
]


class RecordingError(AssertionError):
    """A recording cannot be used; the message says why, and what to do."""

    __module__ = "modelslab_llm.testing"  # where a user finds it: pytest shows the name in full


# What the files hold

Lost: TypeAlias = Literal[
    "CloseError",
    "ConnectError",
    "ConnectTimeout",
    "LocalProtocolError",
    "PoolTimeout",
    "ProxyError",
    "ReadError",
    "ReadTimeout",
    "RemoteProtocolError",
    "UnsupportedProtocol",
    "WriteError",
    "WriteTimeout",
]
"""How a connection fails: the names of httpx's exceptions."""

_closed = with_config(ConfigDict(extra="forbid"))


@_closed
class _Request(TypedDict):
    method: str
    path: str
    body: NotRequired[Any]
    text: NotRequired[str]
    base64: NotRequired[str]


@_closed
class _Response(TypedDict):
    status: Annotated[int, Field(ge=100, le=999)]
    headers: NotRequired[dict[str, str]]
    body: NotRequired[Any]
    text: NotRequired[str]
    base64: NotRequired[str]
    stream: NotRequired[str]


@_closed
class _Failure(TypedDict):
    error: Lost
    message: str


@_closed
class _Exchange(TypedDict):
    request: _Request
    response: NotRequired[_Response]
    failure: NotRequired[_Failure]
    left: NotRequired[Literal[True]]


_FILE = re.compile(r"(\d{3,})-[\w-]+\.(json|sse)", re.ASCII)


def is_ours(name: str) -> bool:
    """Tell by its name whether a file belongs to a recording.

    >>> [name for name in ("001-messages.json", "001-messages.sse", "notes.json") if is_ours(name)]
    ['001-messages.json', '001-messages.sse']
    """
    return _FILE.fullmatch(name) is not None


_KINDS = ("body", "text", "base64", "stream")


# From an exchange to files

_KEPT = re.compile(
    r"content-type|location|allow|retry-after(-ms)?|x-should-retry"
    r"|.*ratelimit.*|.*request-id|.*call-id|x-generation-id|cf-ray"
)
"""The headers of a response that a client acts upon or shows."""


@dataclass
class Take:
    """One exchange while it happens: the request, and the response so far."""

    method: str
    target: str
    asked: bytes
    group: int
    """The same for exchanges that happened at the same time; it grows."""
    status: int = 0
    """0: nothing has arrived."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    data: bytearray = field(default_factory=bytearray)
    """The body as received, compressed or not."""
    over: bool = False
    whole: bool = False
    """Whether the body came to its end."""
    failure: tuple[str, str] | None = None
    """What httpx raised in place of the rest: the name of the exception, and what it says."""


def written(takes: Iterable[Take], cleaner: Cleaner, headers: Iterable[str]) -> dict[str, bytes]:
    """Return the files of a recording by name; `headers` are kept besides the usual ones.

    They are numbered in the order of sending. Of what happened at the same time that is chance, so
    there the content decides, and two recordings of the same have the same names.
    """
    kept = {name.lower() for name in headers}
    asked = [(take, _asked(take, cleaner)) for take in takes]
    asked.sort(key=lambda pair: (pair[0].group, compact(pair[1])))
    files: dict[str, bytes] = {}
    for number, (take, request) in enumerate(asked, 1):
        place = request["path"].partition("?")[0].rpartition("/v1/")[2].strip("/")
        slug = re.sub(r"[^\w]+", "-", place, flags=re.ASCII).strip("-")[-40:] or "root"
        files |= _files(f"{number:03}-{slug}", take, request, cleaner, kept)
    return files


def _asked(take: Take, cleaner: Cleaner) -> dict[str, Any]:
    target = cleaner.target(take.target)
    return {"method": take.method, "path": target, **cleaner.content(take.asked)}


def _files(
    name: str, take: Take, request: dict[str, Any], cleaner: Cleaner, kept: set[str]
) -> dict[str, bytes]:
    exchange: dict[str, Any] = {"request": request}
    files: dict[str, bytes] = {}
    whole = take.whole
    if take.status:
        try:
            encoding = take.headers.get("content-encoding", "")
            data = b"".join(Unpacker(encoding).feed(bytes(take.data)))
        except UnpackingError as error:
            raise RecordingError(
                f"the answer to {request['method']} {request['path']} cannot be decompressed, so "
                f"it may contain a key:  {cleaner.hide(str(error))}"
            ) from None
        response: dict[str, Any] = {
            "status": take.status,
            "headers": {
                name.lower(): cleaner.hide(value)
                for name, value in take.headers.items()
                if _KEPT.fullmatch(name.lower()) or name.lower() in kept
            },
        }
        if is_stream(take.headers.get("content-type", ""), data.lstrip(BLANK)[:100]):
            response["stream"] = f"{name}.sse"
            files[f"{name}.sse"] = cleaner.stream(data)
            if cleaner.scattered(files[f"{name}.sse"]):
                raise RecordingError(
                    f"the answer to {take.method} {request['path']} contains a key that "
                    "its stream splits into pieces, so it cannot be masked: nothing was saved"
                )
            whole = whole or _OVER.search(data) is not None
        else:
            response |= cleaner.content(data)
        exchange["response"] = response
    if take.failure and not whole:
        kind, message = take.failure
        exchange["failure"] = {"error": kind, "message": cleaner.hide(message)}
    elif not whole:
        exchange["left"] = True
    text = json.dumps(exchange, indent=2, ensure_ascii=False).translate(_LINE_ENDS)
    return {**files, f"{name}.json": text.encode() + b"\n"}


_OVER = re.compile(rb'^data: ?(\[DONE\]|.*"type": ?"message_stop")', re.MULTILINE)
"""What ends a message. Who has seen it may leave, or wait a little for the end of the body."""

_LINE_ENDS = {ord(end): f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}
"""What JSON leaves as it is, and editors take for the end of a line."""


# From files to exchanges


@dataclass(frozen=True)
class Saved:
    """One exchange of a recording."""

    name: str
    """That of its file."""
    request: Mapping[str, Any]
    status: int
    """0: there was no response."""
    headers: Mapping[str, str]
    chunks: tuple[bytes, ...]
    failure: tuple[Lost, str] | None
    """What is raised after the chunks."""
    left: bool
    """Whether the application left before the rest arrived, so that it is unknown."""


def load(files: Mapping[str, bytes], cleaner: Cleaner, where: str) -> list[Saved]:
    """Read a recording; raises `RecordingError` that names the file and what is wrong in it."""
    names = sorted((name for name in files if name.endswith(".json")), key=_number)
    try:
        return [_saved(name, files, cleaner) for name in names]
    except RecordingError as error:
        raise RecordingError(f"{where}: {error}") from None


def _number(name: str) -> tuple[int, str]:
    return int(name.partition("-")[0]), name


@cache
def _exchanges() -> TypeAdapter[_Exchange]:
    return TypeAdapter(_Exchange)


def _saved(name: str, files: Mapping[str, bytes], cleaner: Cleaner) -> Saved:
    try:
        exchange = _exchanges().validate_python(json.loads(files[name].decode("utf-8-sig")))
        if faults := list(_faults(exchange, files)):
            raise RecordingError(f"{name}: {joined(faults)}")
        request: dict[str, Any] = {**exchange["request"]}
        response = exchange.get("response", _Response(status=0))
        stream = response.get("stream")
        data = data_of({**response}) if stream is None else files[stream]
        data_of(request)  # or not even base64
    except ValidationError as error:
        raise RecordingError(f"{name}: {problems_in(error)}") from None
    except UnicodeDecodeError as error:
        raise RecordingError(f"{name}: is not UTF-8: {error}") from None
    except json.JSONDecodeError as error:
        raise RecordingError(f"{name}: is not JSON: {error}") from None
    except ValueError as error:
        raise RecordingError(f"{name}: base64: {error}") from None
    if "body" in request:
        request["body"] = cleaner.redacted(request["body"])
    failure = exchange.get("failure")
    return Saved(
        name,
        request,
        response["status"],
        response.get("headers", {}),
        tuple(frames_in(data)) if stream else (data,) if data else (),
        (failure["error"], failure["message"]) if failure else None,
        "left" in exchange,
    )


def _faults(exchange: _Exchange, files: Mapping[str, bytes]) -> Iterator[str]:
    response = exchange.get("response")
    if response is None and "failure" not in exchange and "left" not in exchange:
        yield "response: is required, where there is no failure"
    for part, content in ("request", exchange["request"]), ("response", response or {}):
        if len(kinds := [kind for kind in _KINDS if kind in content]) > 1:
            yield f"{part}: has {' and '.join(kinds)}, and only one can be the body"
    if response and (stream := response.get("stream")) is not None and stream not in files:
        yield f"response.stream: there is no file {stream!r} beside it"


# From a request to the exchange that answers it


class Tape:
    """Give each request its recorded answer, equal requests in turn, and keep what went wrong.

    `where` names the recording in errors.
    """

    def __init__(self, saved: Sequence[Saved], cleaner: Cleaner, where: str) -> None:
        self._saved = saved
        self._by_request: dict[str, list[Saved]] = {}
        for each in saved:
            self._by_request.setdefault(_sorted(each.request), []).append(each)
        self.cleaner = cleaner
        self._where = where
        self._unused = [each.name for each in saved]
        self.drifts: list[RecordingError] = []
        """What was raised, oldest first: the application may not have let it through."""

    def find(self, method: str, target: str, data: bytes) -> Saved:
        """Return the next exchange with this request, or raise `RecordingError`."""
        clean = {"method": method, "path": self.cleaner.target(target)}
        clean |= self.cleaner.content(data)
        # The key of a replay is often a word that may also occur in texts.
        plain = {"method": method, "path": self.cleaner.target(target, str), **content_of(data)}
        if "body" in plain:
            plain["body"] = self.cleaner.redacted(plain["body"])
        keys = dict.fromkeys([_sorted(clean), _sorted(plain)])
        fitting = [each for key in keys for each in self._by_request.get(key, ())]
        for each in fitting:
            if each.name in self._unused:
                self._unused.remove(each.name)
                return each
        if fitting:
            names = ", ".join(each.name for each in fitting)
            raise self.drift(
                f"{method} {clean['path']} was sent more often than it was recorded ({names})"
            )
        raise self.drift(self._unlike(clean))

    def _unlike(self, asked: dict[str, Any]) -> str:
        here = f"{asked['method']} {asked['path']} was not recorded with this content"
        lines = set(lines_of(asked))

        def likeness(each: Saved) -> tuple[bool, float, bool]:
            theirs = set(lines_of(each.request))
            same_place = all(each.request[name] == asked[name] for name in ("method", "path"))
            alike = len(lines & theirs) / len(lines | theirs)
            return same_place, alike, each.name in self._unused

        nearest = max(self._saved, key=likeness)
        shown = difference(nearest.request, asked)
        moved = _moved(nearest.request["path"], asked["path"])
        return f"{here}. {moved}The nearest is {nearest.name} (- recorded, + sent):\n{shown}"

    def end_unknown(self, saved: Saved) -> RecordingError:
        """Return the error for reading on where the application once left."""
        return self.drift(
            f"{saved.name} ends here: during the recording, the application left before more "
            f"arrived"
        )

    def drift(self, what: str) -> RecordingError:
        """Keep what does not fit, and return it to be raised."""
        error = RecordingError(f"{self._where}: {what}\n{CURE}")
        self.drifts.append(error)
        return error

    def unused(self) -> RecordingError | None:
        """Return the error that names the unused exchanges, if there are any."""
        if not self._unused:
            return None
        names = ", ".join(self._unused)
        return RecordingError(f"{self._where}: recorded, but not sent: {names}\n{CURE}")


def _moved(recorded: str, asked: str) -> str:
    """Report two paths that differ only in the part before `/v1/`."""
    (was, _, rest), (now, _, same) = recorded.rpartition("/v1/"), asked.rpartition("/v1/")
    if was == now or rest != same:
        return ""
    return (
        f"It was recorded at another base URL, whose path is {was or '/'} and not {now or '/'}: "
        "replay it with the endpoint, base_url or MODELSLAB_BASE_URL it was recorded with. "
    )


def _sorted(request: Mapping[str, Any]) -> str:
    return json.dumps(request, sort_keys=True)


CURE = "To record it again, run it once with MODELSLAB_RECORD=1, or Recording(..., record=True)."
