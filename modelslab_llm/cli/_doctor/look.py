"""Look at what a server really sends, byte by byte, where the client would already have made sense
of it. The one module of the command line that names the HTTP library; it judges nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import httpx

from modelslab_llm import DefaultAsyncHttpxClient

MOST = 1024 * 1024
"""Bytes of a body that are looked at."""

VERSION = {"anthropic-version": "2023-06-01"}


FailedAt: TypeAlias = Literal["", "name", "connection", "certificate", "TLS", "silence", "HTTP"]
"""What did not work, where no answer came, or not all of it."""


@dataclass(frozen=True)
class Seen:
    """What came of one request."""

    status: int = 0
    """0 where no answer came: then `failure` says why."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
    failure: str = ""
    """Why there is no response, or why it broke off."""
    failed_at: FailedAt = ""
    seconds: float = 0.0
    """Until the head of the answer."""
    protocol: str = ""
    peer: str = ""
    tls: str = ""
    """The version of TLS and until when the certificate is valid; empty without TLS."""
    chunks: int = 0
    """In how many pieces the body arrived."""

    @property
    def json(self) -> Any:
        """The body as JSON; None if it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def kind(self) -> str:
        """The content type without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class Look:
    """Send single requests, without retries, and keep the responses. Close it."""

    def __init__(self, seconds: float) -> None:
        self._http = DefaultAsyncHttpxClient(timeout=seconds)
        self._seconds = seconds

    async def get(self, url: str, headers: Mapping[str, str]) -> Seen:
        """Send a GET."""
        return await self._ask("GET", url, headers, None)

    async def post(self, url: str, headers: Mapping[str, str], body: Mapping[str, Any]) -> Seen:
        """Send a POST with a JSON body."""
        return await self._ask("POST", url, headers, body)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _ask(
        self, method: str, url: str, headers: Mapping[str, str], body: Mapping[str, Any] | None
    ) -> Seen:
        seen = _Growing()
        try:
            await asyncio.wait_for(self._read(seen, method, url, headers, body), self._seconds)
        except (asyncio.TimeoutError, httpx.TimeoutException):
            seen.failure, seen.failed_at = f"nothing more arrived in {self._seconds:g} s", "silence"
        except (httpx.HTTPError, ssl.SSLError) as error:  # anyio passes on some of the latter
            seen.failure, seen.failed_at = _why(error)
        return seen.done()

    async def _read(
        self,
        seen: _Growing,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Mapping[str, Any] | None,
    ) -> None:
        begun = time.monotonic()
        async with self._http.stream(
            method, url, headers={**VERSION, **headers}, json=body
        ) as response:
            seen.begin(response, time.monotonic() - begun)
            async for chunk in response.aiter_bytes():
                seen.add(chunk)
                if len(seen.body) >= MOST:
                    return


class _Growing:
    """A `Seen` while it comes in."""

    def __init__(self) -> None:
        self._facts: dict[str, Any] = {}
        self.body = bytearray()
        self.failure = ""
        self.failed_at: FailedAt = ""
        self._chunks = 0

    def begin(self, response: httpx.Response, seconds: float) -> None:
        stream = response.extensions.get("network_stream")
        self._facts = {
            "status": response.status_code,
            "headers": {name.lower(): value for name, value in response.headers.items()},
            "seconds": seconds,
            "protocol": response.http_version,
            "peer": _peer(stream),
            "tls": _tls(stream),
        }

    def add(self, chunk: bytes) -> None:
        self.body += chunk
        self._chunks += 1

    def done(self) -> Seen:
        return Seen(
            **self._facts,
            body=bytes(self.body),
            failure=self.failure,
            failed_at=self.failed_at,
            chunks=self._chunks,
        )


def _why(error: Exception) -> tuple[str, FailedAt]:
    """Return the reason at the bottom of a failure: what lies above only repeats that it failed."""
    text = str(error)
    at: FailedAt = "HTTP"
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, ssl.SSLCertVerificationError):
            return behind.verify_message, "certificate"
        if isinstance(behind, ssl.SSLError):
            return behind.reason or str(behind), "TLS"
        if isinstance(behind, socket.gaierror):
            return behind.strerror or str(behind), "name"
        if isinstance(behind, OSError):
            text, at = os.strerror(behind.errno) if behind.errno else str(behind), "connection"
        behind = behind.__cause__ or behind.__context__
    return text or type(error).__name__, at


def _peer(stream: Any) -> str:
    try:
        host, port = stream.get_extra_info("server_addr")[:2]
    except (AttributeError, TypeError, ValueError, OSError):
        return ""
    return f"{host}:{port}"


def _tls(stream: Any) -> str:
    try:
        secured = stream.get_extra_info("ssl_object")
        if secured is None:
            return ""
        certificate: dict[str, Any] = secured.getpeercert() or {}
        return f"{secured.version()}, certificate valid until {certificate.get('notAfter', '?')}"
    except (AttributeError, TypeError, ValueError, OSError):
        return ""
