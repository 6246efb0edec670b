"""Turn the exceptions of httpx and httpx2 into ours. Decides what failed, not what to do."""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Literal, Protocol, TypeAlias, TypeVar

from ..errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    ClientClosedError,
    StreamInterruptedError,
    UnexpectedResponseError,
)
from .libraries import errors, is_called, library_of
from .pace import Pace, Phase
from .unpack import UnpackingError

E = TypeVar("E", bound=BaseException)
During: TypeAlias = Literal["sending", "answer", "stream"]


class Carrier(Protocol):
    """What a request is carried by: a wire, or an answer that comes over it."""

    @property
    def client_closed(self) -> bool:
        """Whether the client was closed meanwhile."""
        ...


_PHASES: dict[str, tuple[Phase, str]] = {
    "ConnectTimeout": ("connect", "no connection"),
    "WriteTimeout": ("write", "the server did not read the request"),
    "ReadTimeout": ("read", "the server sent nothing"),
    "PoolTimeout": ("pool", "no connection became free"),
}


def foreign() -> tuple[type[Exception], ...]:
    """Return the errors that are not ours and say that a request failed: `except foreign():`."""
    return (*errors(), UnicodeError, OSError, UnpackingError)


@contextmanager
def foreign_is_ignored(*more: type[Exception]) -> Generator[None]:
    """Continue after a failed request. Unlike `suppress`, it asks once an error was raised which
    there are: httpcore may not be loaded before.
    """
    try:
        yield
    except (*more, *foreign()):
        pass


@contextmanager
def foreign_is_ours(pace: Pace, during: During, incoming: Carrier) -> Generator[None]:
    """Let nothing out but our own errors."""
    try:
        yield
    except foreign() as error:
        failure = failure_of(error, pace, during, incoming)
        raise failure from failure.__cause__


def failure_of(error: Exception, pace: Pace, during: During, carrier: Carrier) -> APIError:
    """Return our error for one of the HTTP library's, which stays behind as its cause."""
    if carrier.client_closed:  # whatever the connection says of it, that is why it broke
        failure: APIError = ClientClosedError("the client was closed during the call")
    else:
        failure = _translated(error, pace, during)
    failure.__cause__ = _bare(error)
    return failure


def _translated(error: Exception, pace: Pace, during: During) -> APIError:
    if is_called(error, "TimeoutException"):
        return pace.failure() or _timed_out(error, pace)
    words = str(error) or _tls_reason(error) or type(error).__name__
    if isinstance(error, UnpackingError):
        kind = StreamInterruptedError if during == "stream" else UnexpectedResponseError
        return kind(f"the response cannot be decompressed: {words}")
    if during == "stream":
        return StreamInterruptedError(f"the connection broke during the stream: {words}")
    return _no_answer(error, words, pace, during)


def _timed_out(error: Exception, pace: Pace) -> APITimeoutError:
    phase, text = _PHASES.get(type(error).__name__, ("read", "no answer"))
    seconds: float | None = getattr(pace.timeout, phase)
    limit = "in time" if seconds is None else f"within {seconds:g} s"
    timeout = APITimeoutError(f"{text} {limit} (timeout.{phase})")
    timeout.phase = phase
    return timeout


def _no_answer(error: Exception, words: str, pace: Pace, during: During) -> APIConnectionError:
    untrusted = _behind(error, ssl.SSLCertVerificationError)
    unresolved = _behind(error, socket.gaierror)
    refusal = _tls_reason(error)
    if untrusted:
        what = "the server's certificate is not trusted"
    elif unresolved:
        what = "the hostname cannot be resolved"
    elif refusal.endswith("CERTIFICATE_REQUIRED"):
        what = "the server requires a client certificate"
    elif refusal.endswith(_REFUSED):
        what = "the server refuses the TLS handshake"
    elif is_called(error, "ProxyError"):
        what = "the proxy refused the connection"
    elif is_called(error, "ConnectError", "UnsupportedProtocol"):
        what, words = "cannot connect", system_reason(error) or words
    else:
        what = f"the connection broke during the {during.replace('sending', 'request')}"
    failure = APIConnectionError(f"{what}: {words}")
    failure.permanent = untrusted is not None or is_called(error, *_NEVER)
    if untrusted and untrusted.verify_code in _NO_ISSUER:
        failure.hint = "for a private CA, set SSL_CERT_FILE, or pass verify=... to an http_client"
    elif unresolved and unresolved.errno in _NO_SUCH_HOST:
        failure.hint, failure.unknown_host = "check the host in the base URL", True
    elif refusal.endswith(_REFUSED):
        failure.permanent = True
        failure.hint = _CLIENT_CERTIFICATE if refusal.endswith(_PERHAPS_FOR_WANT_OF_ONE) else ""
    elif refusal.endswith(_NO_TLS):
        failure.hint, failure.permanent = "does the server speak http:// and not https://?", True
    elif pace.is_plain and any(sign in words for sign in _TLS_ALERT):
        failure.hint, failure.permanent = "does the server speak https:// and not http://?", True
    elif (
        pace.is_plain and not pace.has_heard and during == "sending" and is_called(error, *_NO_WORD)
    ):
        failure.hint = "no response arrived; if the server speaks TLS, use https://"
    return failure


_NEVER = ("UnsupportedProtocol", "LocalProtocolError", "InvalidURL")
_NO_WORD = ("ReadError", "RemoteProtocolError")
_NO_ISSUER = (18, 19, 20, 21)  # OpenSSL's X509_V_ERR_…: nobody known vouches for it
_NO_SUCH_HOST = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))

# The ends of OpenSSL's names of what went wrong: what comes before them varies by its version. The
# first are alerts of the server, none of which another try can change (RFC 8446, section 6.2).
_REFUSED = (
    "CERTIFICATE_REQUIRED",
    "HANDSHAKE_FAILURE",
    "BAD_CERTIFICATE",
    "UNSUPPORTED_CERTIFICATE",
    "CERTIFICATE_UNKNOWN",
    "CERTIFICATE_EXPIRED",
    "CERTIFICATE_REVOKED",
    "UNKNOWN_CA",
    "ACCESS_DENIED",
    "PROTOCOL_VERSION",
    "UNSUPPORTED_PROTOCOL",
    "INSUFFICIENT_SECURITY",
    "UNRECOGNIZED_NAME",
)
_PERHAPS_FOR_WANT_OF_ONE = ("CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE", "BAD_CERTIFICATE")
_CLIENT_CERTIFICATE = (
    "load a client certificate with context.load_cert_chain(...), and pass verify=context to"
    " an http_client"
)
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
_TLS_ALERT = ("illegal request line", r"\x15\x03")
"""What h11 and aiohttp say of a first byte that is not text, such as that of an alert."""


def _tls_reason(error: BaseException | None) -> str:
    """Return OpenSSL's name of what went wrong in TLS, such as `WRONG_VERSION_NUMBER`, or ""."""
    while error is not None:
        if isinstance(error, ssl.SSLError) and error.reason:
            return error.reason
        if quoted := re.search(_REASON, str(error)):
            return quoted[1]
        error = error.__cause__ or error.__context__
    return ""


_REASON = r"\[SSL: ([A-Z0-9_/]+)\]"


def system_reason(error: BaseException | None) -> str:
    """Return what the system says of a connection that could not be made.

    asyncio and trio, which try every address of a host, say themselves only that all failed.
    """
    while error is not None:
        if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and error.errno:
            return f"[Errno {error.errno}] {os.strerror(error.errno)}"
        inside: Sequence[BaseException] = getattr(error, "exceptions", ())
        error = inside[0] if inside else error.__cause__ or error.__context__
    return ""


def _behind(error: BaseException | None, kind: type[E]) -> E | None:
    """Return what is of this kind among an error and those that led to it."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error


def _bare(error: BaseException) -> BaseException:
    """Return the error without what its traceback and request hold: headers, and so the key."""
    seen: BaseException | None = error
    while seen is not None:
        seen.__traceback__ = None
        if is_called(seen, "RequestError"):
            hidden = library_of(seen).Request("POST", "http://hidden.invalid")
            seen.request = hidden  # type: ignore[attr-defined]
        seen = seen.__cause__ or seen.__context__
    return error
