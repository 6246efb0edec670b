"""Open the way to a server: which proxy is in front of it, and the exchange until TLS is up. Pure.

`opening` is a generator that yields bytes to send, or None to be sent what comes; so it is the same
in sync and async, and is tested directly.
"""

from __future__ import annotations

import os
import ssl
import sys
from base64 import b64encode
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any, TypeAlias

from .._forks import no_fork
from ..errors import ConfigurationError
from . import failures
from .http1 import Headers, Http1
from .tls import Layers

Talk: TypeAlias = Generator["bytes | None", bytes, None]

PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Proxy:
    """A proxy: its address, and what it requires."""

    scheme: str
    host: str
    port: int
    auth: tuple[bytes, bytes] | None = field(default=None, repr=False)
    headers: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)
    context: ssl.SSLContext | None = field(default=None, repr=False)

    @classmethod
    def of(cls, given: Any, named: str = "proxy") -> Proxy:
        """Read what httpx takes as a proxy: a URL, or an `httpx.Proxy`; `named` is its source.

        Raises `ConfigurationError`, which does not show the URL: it may contain a login.
        """
        with no_fork():
            import httpx  # for programs with a proxy alone

        try:
            proxy = given if hasattr(given, "raw_auth") else httpx.Proxy(url=given)
        except httpx.InvalidURL:
            raise ConfigurationError(f"{named} is not a URL; {_CURE}") from None
        except (ValueError, TypeError, AttributeError):  # of httpx's, for a scheme or a type
            raise ConfigurationError(f"{named} is not the URL of a proxy; {_CURE}") from None
        url = proxy.url
        host = url.raw_host.decode("ascii")
        port = url.port or {**PORTS, "socks5": 1080, "socks5h": 1080}[url.scheme]
        if not host or port > 65535:
            raise ConfigurationError(f"{named} has no host, or an invalid port; {_CURE}")
        headers = tuple(proxy.headers.raw)
        return cls(url.scheme, host, port, proxy.raw_auth, headers, proxy.ssl_context)

    @property
    def is_socks(self) -> bool:
        """Whether it speaks SOCKS and not HTTP."""
        return self.scheme.startswith("socks")

    def own_headers(self) -> Headers:
        """Return what it is to be told with each request that it reads."""
        if self.auth is None:
            return list(self.headers)
        login = b"Basic " + b64encode(b":".join(self.auth))
        return [(b"Proxy-Authorization", login), *self.headers]


class Proxies:
    """Which proxy a request goes through: the one that was given, or those of the environment."""

    def __init__(self, given: Any, *, trust_env: bool) -> None:
        self._given = None if given is None else Proxy.of(given)
        self._by_scheme: dict[str, Proxy] = {}
        self._except_for: str | None = None
        if given is None and trust_env:
            found = _of_environment()
            for scheme in ("http", "https"):
                kind = scheme if found.get(scheme) else "all"
                if url := found.get(kind, "").strip():
                    url = url if "://" in url else f"http://{url}"
                    self._by_scheme[scheme] = Proxy.of(url, _variable(kind))
            self._except_for = found.get("no")

    def before(self, scheme: str, host: str, port: int) -> Proxy | None:
        """Return the proxy for a server, if there is one."""
        if self._given is not None:
            return self._given
        proxy = self._by_scheme.get(scheme)
        return None if proxy is None or self._is_excepted(scheme, host, port) else proxy

    def _is_excepted(self, scheme: str, host: str, port: int) -> bool:
        """Tell whether the environment excludes a server from proxies.

        `NO_PROXY` contains names, which include their subdomains, addresses and address ranges,
        each with or without a port or a scheme; `*` matches everything. Other entries match
        nothing. Without it, the system may have exceptions.
        """
        if self._except_for is None:
            from urllib.request import getproxies_environment, proxy_bypass

            return not getproxies_environment() and bool(proxy_bypass(host))
        entries = self._except_for.lower().replace(",", " ").split()
        return any(_stands_for(entry, scheme, host, port) for entry in entries)


def _of_environment() -> dict[str, str]:
    """Return the proxies that the environment, or else the system, names."""
    if sys.platform not in ("darwin", "win32") and not any(
        name.lower().endswith("_proxy") for name in os.environ
    ):
        return {}
    with no_fork():
        from urllib.request import getproxies  # loads a dozen modules

    return getproxies()


_CURE = (
    "write http://host:port, or https://, socks5:// or socks5h://;"
    " encode special characters in a login as %XX"
)


def _variable(kind: str) -> str:
    """Return the variable that names the proxy of this kind; of the two spellings the one read."""
    name = f"{kind}_proxy"
    spelt = (name, name.upper())
    return next((name for name in spelt if os.environ.get(name)), f"the system's {kind} proxy")


def _stands_for(entry: str, scheme: str, host: str, port: int) -> bool:
    """Tell whether an entry of `NO_PROXY` matches a server.

    >>> [_stands_for(e, "http", "10.1.2.3", 80) for e in ("10.0.0.0/8", "10.1.2.3:81", "3", "*")]
    [True, False, False, True]
    >>> [_stands_for(e, "http", "fe80::1", 80) for e in ("fe80::/10", "[fe80::1]:80", "fe80::")]
    [True, True, False]
    >>> [_stands_for(e, "http", "a.corp", 80) for e in ("*.corp", "corp:80", "a.corp/8", "orp")]
    [True, True, False, False]
    """
    wanted_scheme, _, name = entry.rpartition("://")
    if wanted_scheme not in ("", "all", scheme):
        return False
    name, wanted_port = _host_and_port(name)
    if wanted_port not in ("", str(port)):
        return False
    if name == "*":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        name = name.removeprefix("*").removeprefix(".")
        return bool(name) and (host == name or host.endswith(f".{name}"))
    try:
        return address in ip_network(name, strict=False)
    except ValueError:
        return False


def _host_and_port(text: str) -> tuple[str, str]:
    """Split what may be an address of IPv6, or a range of them, with brackets or without.

    >>> [_host_and_port(text) for text in ("a.b", "a.b:80", "::1", "[::1]:80", "[fe80::]/10")]
    [('a.b', ''), ('a.b', '80'), ('::1', ''), ('::1', '80'), ('fe80::/10', '')]
    """
    bare = text.replace("[", "").replace("]", "")
    host, _, port = text.rpartition(":")
    has_port = port.isdigit() and (host.endswith("]") or ":" not in host)
    return (host.replace("[", "").replace("]", ""), port) if has_port else (bare, "")


@dataclass(frozen=True, eq=False)
class Route:
    """Where a connection leads; those of one route, the same object, are as good as each other."""

    scheme: str
    host: str
    port: int
    proxy: Proxy | None = None

    @property
    def address(self) -> tuple[str, int]:
        """The host and port that the socket connects to."""
        return (self.proxy.host, self.proxy.port) if self.proxy else (self.host, self.port)

    @property
    def forwards(self) -> bool:
        """Whether the proxy reads each request, and sends it on."""
        return self.proxy is not None and self.scheme == "http" and not self.proxy.is_socks

    @property
    def origin(self) -> str:
        """The server, as the beginning of a URL."""
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{in_url(self.host)}{port}"

    @property
    def wants_context(self) -> bool:
        """Whether the certificates of the client are needed."""
        by_proxy = self.proxy is not None and self.proxy.scheme == "https"
        return self.scheme == "https" or by_proxy

    def asked(self, target: bytes, headers: Headers) -> tuple[bytes, Headers]:
        """Return the target and the headers of a request on this route."""
        if not self.forwards or self.proxy is None:
            return target, headers
        known = {name.lower() for name, _ in headers}
        more = [item for item in self.proxy.own_headers() if item[0].lower() not in known]
        return self.origin.encode() + target, more + headers


def in_url(host: str) -> str:
    """Return a host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def opening(route: Route, layers: Layers, context: Callable[[], ssl.SSLContext]) -> Talk:
    """Say what is to be said on a new socket, until requests can be sent.

    Raises `httpcore` errors and `ssl.SSLError`.
    """
    proxy = route.proxy
    if proxy is not None:
        if proxy.scheme == "https":
            yield from layers.add(_speaking_http1(proxy.context or context()), proxy.host)
        if proxy.is_socks:
            yield from _socks(route, proxy, layers)
        elif not route.forwards:
            yield from _tunnel(route, proxy, layers)
    if route.scheme == "https":
        yield from layers.add(_speaking_http1(context()), route.host)


def _speaking_http1(context: ssl.SSLContext) -> ssl.SSLContext:
    context.set_alpn_protocols(["http/1.1"])
    return context


def _tunnel(route: Route, proxy: Proxy, layers: Layers) -> Talk:
    """Have an HTTP proxy connect to the server and carry what we say, whatever it is."""
    target = f"{in_url(route.host)}:{route.port}".encode()
    http = Http1()
    told = [(b"Host", target), (b"Accept", b"*/*"), *proxy.own_headers()]
    yield layers.encode(http.ask(b"CONNECT", target, told) + http.ask_no_more())
    head = None
    while head is None:
        came = layers.decode((yield None))
        if came or layers.has_ended:
            head = http.hear(came)
    if not 200 <= head.status < 300:
        raise failures.ProxyError(f"{head.status} {head.reason.decode('ascii', 'ignore')}")
    if http.left_over:
        raise failures.ProxyError("the proxy sent unexpected data after its response")


# RFC 1928, section 6, and RFC 1929 for the login.
_SAID = {
    1: "general failure",
    2: "not allowed",
    3: "the network cannot be reached",
    4: "the host cannot be reached",
    5: "the connection was refused",
    6: "it took too long",
    7: "unknown command",
    8: "unknown kind of address",
}


def _socks(route: Route, proxy: Proxy, layers: Layers) -> Talk:
    """Have a SOCKS5 proxy connect to the server."""
    buffer = bytearray()

    def received(count: int) -> Generator[bytes | None, bytes, bytes]:
        while len(buffer) < count:
            came = layers.decode((yield None))
            if not came and layers.has_ended:
                raise failures.ProxyError("the proxy closed the connection")
            buffer.extend(came)
        taken = bytes(buffer[:count])
        del buffer[:count]
        return taken

    login = proxy.auth
    way = 0 if login is None else 2
    yield layers.encode(bytes((5, 1, way)))
    version, chosen = yield from received(2)
    if version != 5:
        raise failures.ProxyError("the proxy does not speak SOCKS5")
    if chosen != way:
        raise failures.ProxyError("the proxy does not accept this kind of authentication")
    if login is not None:
        yield layers.encode(b"\x01" + _counted(login[0]) + _counted(login[1]))
        if (yield from received(2))[1] != 0:
            raise failures.ProxyError("the proxy rejected the login")
    yield layers.encode(
        b"\x05\x01\x00" + _socks_address(route.host) + route.port.to_bytes(2, "big")
    )
    _, code, _, kind = yield from received(4)
    if code != 0:
        raise failures.ProxyError(_SAID.get(code, f"code {code}"))
    length = {1: 4, 4: 16}.get(kind) or (yield from received(1))[0]
    yield from received(length + 2)
    if buffer:
        raise failures.ProxyError("the proxy sent unexpected data after its response")


def _socks_address(host: str) -> bytes:
    try:
        address = ip_address(host)
    except ValueError:
        return b"\x03" + _counted(host.encode("ascii"))
    return bytes((1 if address.version == 4 else 4,)) + address.packed


def _counted(text: bytes) -> bytes:
    if len(text) > 255:
        raise failures.ProxyError("a hostname or a login is too long for SOCKS")
    return bytes((len(text),)) + text
