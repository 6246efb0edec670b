"""Record real exchanges to a folder and replay them: a transport for sync and async.

Sends, reads and writes; what is saved and which exchange answers a request, `_tape` decides.
"""

from __future__ import annotations

import os
import tempfile
import threading
import warnings
from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, get_args

import httpx
from typing_extensions import Self, Unpack

from ..._client.takes import takes
from ..._http.foreign import system_reason
from ..._http.network import AsyncNetwork, Network, Settings
from ..._http.transports import AsyncPooledTransport, PooledTransport
from ..._http.unpack import ACCEPTED
from ..._protocol.config import API_KEY, Config
from .cleaner import Cleaner
from .tape import CURE, Lost, RecordingError, Saved, Take, Tape, is_ours, load, written

if TYPE_CHECKING:
    from ..._client.client import AsyncModelsLab, ModelsLab
    from ..._protocol.config import Options
    from ...endpoints import Endpoint

__all__ = ["Recording"]

RECORD = "MODELSLAB_RECORD"
NO_KEY = "replayed-without-a-key"


class Recording(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Replay the exchanges in a folder, or record them there first; use it in a `with` block.

    A request is answered by the recorded exchange with the same method, path and body, in any
    order; identical requests are answered in sequence. A request that was not recorded raises
    `RecordingError`, an `AssertionError`, with its difference from the nearest recorded one. The
    end of the block raises it again, in case it was swallowed, and also names unused exchanges
    (`unused="ignore"` accepts them).

    With `record=True`, or `MODELSLAB_RECORD=1` in the environment if it is None, requests are sent
    by `transport` (default: as the package's own clients send them). A block that ends without an
    error replaces the content of the folder; after an error, the folder stays unchanged. Failed
    attempts and broken connections are recorded like any other outcome.

    Each exchange is saved as a JSON file, and each stream in a separate file. Request headers are
    never saved. Of the response headers, those that clients use and those named in `headers` are
    saved. Keys, tokens and passwords are found in headers and query, and masked wherever a server
    repeats them. `redact` masks further fields, by dotted paths into the bodies of requests and
    responses and into the events of streams (`"metadata.user_id"`); masked fields are not compared.

    Raises `ValueError` for an invalid path, and for any `MODELSLAB_RECORD` except 1 and 0.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        record: bool | None = None,
        redact: Iterable[str] = (),
        headers: Iterable[str] = (),
        unused: Literal["error", "ignore"] = "error",
        transport: httpx.BaseTransport | httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.path: Path = Path(path)
        self.record: bool = _asked_to_record() if record is None else record
        """Whether requests are sent and saved."""
        self._redact = redact if isinstance(redact, str) else tuple(redact)
        Cleaner(self._redact)  # refuses an invalid path
        self._headers = tuple(headers)
        self._unused = unused
        self._wire = _Wire(transport)
        self._side: _Recorder | _Player | None = None
        self._depth = 0

    # The block

    def __enter__(self) -> Self:
        """Read the recording, or get ready to make one."""
        if not self._depth:
            if self.path.exists() and not self.path.is_dir():
                raise RecordingError(f"{self.path}: is a file, but a recording is a folder")
            cleaner = Cleaner(self._redact)
            self._side = _Recorder(cleaner) if self.record else _Player(self._read(cleaner))
        self._depth += 1  # an httpx client used in a `with` block enters its transport too
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Save the recording, or raise what did not match it."""
        self._depth -= 1
        if self._depth:
            return
        side, self._side = self._side, None
        self._wire.close()
        if isinstance(side, _Recorder):
            self._save(side, exc_value)
        elif side:
            self._check(side.tape, exc_value)

    async def __aenter__(self) -> Self:
        """Do as `with` does; an async client inside is fine in either block."""
        return self.__enter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Do as `with` does."""
        await (self._wire.aclose() if self._depth == 1 else self.aclose())
        self.__exit__(exc_type, exc_value, traceback)

    def _read(self, cleaner: Cleaner) -> Tape:
        where = str(self.path)
        files: dict[str, bytes] = {}
        if self.path.is_dir():
            files = {found.name: found.read_bytes() for found in _files_in(self.path)}
        if not files:
            raise RecordingError(f"{where}: there is no recording here.\n{CURE}")
        return Tape(load(files, cleaner, where), cleaner, where)

    def _save(self, recorder: _Recorder, error: BaseException | None) -> None:
        if error is not None:
            if add_note := getattr(error, "add_note", None):  # Python 3.11 has it
                add_note(f"{self.path}: nothing was saved, because this error ended the recording")
            return
        if not recorder.takes:
            raise RecordingError(
                f"{self.path}: no request used this recording, so there is nothing to "
                "save: pass recording.client() to your code, or a client with transport=recording"
            )
        files = written(recorder.takes, recorder.cleaner, self._headers)
        if unmet := recorder.cleaner.unmet():
            text = f"{self.path}: redact names fields that no recorded body has: {', '.join(unmet)}"
            warnings.warn(text, stacklevel=3)
        _replace(self.path, files)

    def _check(self, tape: Tape, error: BaseException | None) -> None:
        if error is not None and not isinstance(error, Exception):
            return  # an interrupt; a test that was skipped
        if tape.drifts and not any(drift in _behind(error) for drift in tape.drifts):
            more = len(tape.drifts) - 1
            raise RecordingError(f"{tape.drifts[0]}" + (f"\n(and {more} more)" if more else ""))
        if error is None and self._unused == "error" and (unused := tape.unused()):
            raise unused

    # Clients

    @takes("OptionTakes")
    def client(
        self,
        api_key: str | None = None,
        *,
        endpoint: Endpoint | None = None,
        base_url: str | None = None,
        deployment_id: str | None = None,
        **options: Unpack[Options],
    ) -> ModelsLab:
        """Return a client that uses this recording.

        In a replay, only the path of the address matters.

        Args:
            api_key: The key; a replay needs none. Default: that of the environment.
            endpoint: The server, as for `ModelsLab`.
            base_url: URL of the server, as for `ModelsLab`.
            deployment_id: A GGUF deployment, as for `ModelsLab`.
            options: Every option of `ModelsLab`.

        Returns:
            The client.
        """
        from .._serve.scripted import client_on

        key, where = self._who_and_where(api_key, endpoint, base_url, deployment_id)
        return client_on({"transport": self}, key, where, **options)

    @takes("OptionTakes")
    def async_client(
        self,
        api_key: str | None = None,
        *,
        endpoint: Endpoint | None = None,
        base_url: str | None = None,
        deployment_id: str | None = None,
        **options: Unpack[Options],
    ) -> AsyncModelsLab:
        """Return an async client that uses this recording.

        In a replay, only the path of the address matters.

        Args:
            api_key: The key; a replay needs none. Default: that of the environment.
            endpoint: The server, as for `ModelsLab`.
            base_url: URL of the server, as for `ModelsLab`.
            deployment_id: A GGUF deployment, as for `ModelsLab`.
            options: Every option of `ModelsLab`.

        Returns:
            The client.
        """
        from .._serve.scripted import async_client_on

        key, where = self._who_and_where(api_key, endpoint, base_url, deployment_id)
        return async_client_on({"transport": self}, key, where, **options)

    def _who_and_where(
        self,
        api_key: str | None,
        endpoint: Endpoint | None,
        base_url: str | None,
        deployment_id: str | None,
    ) -> tuple[str, Endpoint]:
        env = dict(os.environ)
        if not self.record and not env.get(API_KEY):
            env[API_KEY] = NO_KEY
        config = Config.build(
            api_key=api_key,
            endpoint=endpoint,
            base_url=base_url,
            deployment_id=deployment_id,
            env=env,
        )
        return config.key.reveal() if config.key else "", config.endpoint

    # The transport

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer from the recording; or send the request, and record what comes of it."""
        request.read()
        side = self._inside()
        if isinstance(side, _Player):
            return side.answer(request)
        with side.sending(request) as take:
            response = self._wire.send(request)
        return _teed(response, take)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer from the recording; or send the request, and record what comes of it."""
        await request.aread()
        side = self._inside()
        if isinstance(side, _Player):
            return side.answer(request)
        with side.sending(request) as take:
            response = await self._wire.asend(request)
        return _teed(response, take)

    def _inside(self) -> _Recorder | _Player:
        if self._side is None:
            raise RecordingError(
                f"{self.path}: not in use: `with Recording(...) as recording:` around all calls"
            )
        return self._side

    # Every client closes its transport, but others may still use this one; so a sync client's
    # connections are closed at the end of the block, and async ones when nobody uses one.

    async def aclose(self) -> None:
        """Close the async connections if none is in use."""
        if not (isinstance(self._side, _Recorder) and self._side.busy()):
            await self._wire.aclose()


def _asked_to_record() -> bool:
    said = os.environ.get(RECORD, "")
    if said not in ("", "0", "1"):
        raise ValueError(f"{RECORD} is {said!r}: set it to 1 to record, or to 0")
    return said == "1"


def _behind(error: BaseException | None) -> list[BaseException]:
    """Return an error and all those that are shown with it."""
    if error is None:
        return []
    found = [error, *_behind(error.__cause__ or error.__context__)]
    for inside in getattr(error, "exceptions", ()):
        found += _behind(inside)
    return found


# Files


def _files_in(folder: Path) -> list[Path]:
    return sorted(found for found in folder.iterdir() if is_ours(found.name))


def _replace(folder: Path, files: Mapping[str, bytes]) -> None:
    """Put these files in the place of the recording that is there.

    All are written before the first takes its place, so that no file is ever half there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".recording-") as beside:
        for name, data in files.items():
            Path(beside, name).write_bytes(data)
        for name in files:
            os.replace(Path(beside, name), folder / name)
    for found in _files_in(folder):
        if found.name not in files:
            found.unlink()


# Connections


class _Wire:
    """The connections behind a recording, opened when they are first needed."""

    def __init__(self, transport: httpx.BaseTransport | httpx.AsyncBaseTransport | None) -> None:
        self._given = transport
        self._sync: httpx.BaseTransport | None = None
        self._async: httpx.AsyncBaseTransport | None = None

    def send(self, request: httpx.Request) -> httpx.Response:
        if self._sync is None:
            if self._given is None:
                self._sync = PooledTransport(Network(_UNUSED_AGAIN))
            elif isinstance(self._given, httpx.BaseTransport):
                self._sync = self._given
            else:
                raise self._wrong("BaseTransport")
        response = self._sync.handle_request(request)
        response.request = request
        return response

    async def asend(self, request: httpx.Request) -> httpx.Response:
        if self._async is None:
            if self._given is None:
                self._async = AsyncPooledTransport(AsyncNetwork(_UNUSED_AGAIN))
            elif isinstance(self._given, httpx.AsyncBaseTransport):
                self._async = self._given
            else:
                raise self._wrong("AsyncBaseTransport")
        response = await self._async.handle_async_request(request)
        response.request = request
        return response

    def _wrong(self, wanted: str) -> TypeError:
        name = type(self._given).__name__
        return TypeError(f"Recording(transport={name}(...)): this client needs an httpx.{wanted}")

    def close(self) -> None:
        transport, self._sync = self._sync, None
        if transport is not None:
            transport.close()

    async def aclose(self) -> None:
        transport, self._async = self._async, None
        if transport is not None:
            await transport.aclose()


# No connection is used twice: one that the server closes meanwhile would be a failure, and be
# recorded, in one run and not in the next.
_UNUSED_AGAIN = Settings(limits=httpx.Limits(max_keepalive_connections=0))


# Recording


class _Recorder:
    """Keep what happens, exchange by exchange, in the order of sending."""

    def __init__(self, cleaner: Cleaner) -> None:
        self.cleaner = cleaner
        self.cleaner.add(os.environ.get(API_KEY, ""))
        self.takes: list[Take] = []
        self._lock = threading.Lock()

    def busy(self) -> bool:
        with self._lock:
            return not all(take.over for take in self.takes)

    @contextmanager
    def sending(self, request: httpx.Request) -> Generator[Take]:
        take = self._begun(request)
        try:
            yield take
        except BaseException as error:
            _end(take, error)
            raise

    def _begun(self, request: httpx.Request) -> Take:
        _ask_for_what_can_be_unpacked(request)
        target = request.url.raw_path.decode("ascii")
        with self._lock:
            self.cleaner.learn(request.headers.items(), target)
            last = self.takes[-1].group if self.takes else 0
            group = last if any(not take.over for take in self.takes) else last + 1
            take = Take(request.method, target, request.content, group)
            self.takes.append(take)
        return take


def _ask_for_what_can_be_unpacked(request: httpx.Request) -> None:
    names = [name.strip() for name in request.headers.get("accept-encoding", "").split(",")]
    kept = [name for name in names if name.partition(";")[0] in (*ACCEPTED.split(", "), "identity")]
    if kept != names:
        request.headers["accept-encoding"] = ", ".join(kept) or "identity"


def _end(take: Take, error: BaseException) -> None:
    """Note how an exchange ended, by the exception that says so; only the first one counts."""
    if take.over:
        return
    take.over = True
    take.whole = isinstance(error, (StopIteration, StopAsyncIteration))
    if isinstance(error, httpx.TransportError):
        kinds = (kind.__name__ for kind in type(error).__mro__)
        if name := next((name for name in kinds if name in get_args(Lost)), None):
            # A replayed failure has no cause behind it, in which the system's word could be found.
            unconnected = isinstance(error, httpx.ConnectError)
            take.failure = name, (unconnected and system_reason(error)) or str(error)


def _teed(response: httpx.Response, take: Take) -> httpx.Response:
    """Return a response whose body is recorded while it is read.

    A new one: of a mock's, which was read before, nobody would read the stream.
    """
    take.status, take.headers = response.status_code, dict(response.headers)
    tee = _Tee(response.stream, take)
    return httpx.Response(
        take.status, headers=response.headers, stream=tee, extensions=response.extensions
    )


class _Tee(httpx.SyncByteStream, httpx.AsyncByteStream):
    """Hand on a body, and keep a copy. No generators: one left early needs closing."""

    def __init__(self, stream: httpx.SyncByteStream | httpx.AsyncByteStream, take: Take) -> None:
        self._stream: Any = stream
        self._take = take
        self._reading: Any = None

    def __iter__(self) -> Iterator[bytes]:
        self._reading = self._reading or iter(self._stream)  # iterated again, it continues
        return self

    def __next__(self) -> bytes:
        try:
            return self._kept(next(self._reading))
        except BaseException as error:
            _end(self._take, error)
            raise

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._reading = self._reading or aiter(self._stream)
        return self

    async def __anext__(self) -> bytes:
        try:
            return self._kept(await anext(self._reading))
        except BaseException as error:
            _end(self._take, error)
            raise

    def _kept(self, chunk: bytes) -> bytes:
        if not self._take.over:
            self._take.data += chunk
        return chunk

    def close(self) -> None:
        self._take.over = True
        self._stream.close()

    async def aclose(self) -> None:
        self._take.over = True
        await self._stream.aclose()


# Replaying


class _Player:
    """Answer from a tape."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self._lock = threading.Lock()

    def answer(self, request: httpx.Request) -> httpx.Response:
        target = request.url.raw_path.decode("ascii")
        with self._lock:
            self.tape.cleaner.learn(request.headers.items(), target)
            saved = self.tape.find(request.method, target, request.content)
        body = _Played(saved, self.tape, request)
        if not saved.status:
            body.end()
        headers = httpx.Headers(dict(saved.headers), encoding="utf-8")
        return httpx.Response(saved.status, headers=headers, stream=body)


class _Played(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A recorded body, a stream event by event, which ends as it did."""

    def __init__(self, saved: Saved, tape: Tape, request: httpx.Request) -> None:
        self._saved = saved
        self._tape = tape
        self._request = request
        self._chunks = iter(saved.chunks)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        for chunk in self._chunks:
            return chunk
        self.end()
        raise StopIteration

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        for chunk in self._chunks:
            return chunk
        self.end()
        raise StopAsyncIteration

    def end(self) -> None:
        """Raise the error that came instead of the rest, if there was one."""
        if self._saved.failure:
            name, message = self._saved.failure
            kind: type[httpx.TransportError] = getattr(httpx, name)
            raise kind(message, request=self._request)
        if self._saved.left:
            raise self._tape.end_unknown(self._saved)
