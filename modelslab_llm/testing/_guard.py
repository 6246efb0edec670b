"""Detect a request to a real service before it is sent, whichever library sends it.

Must not decide what follows: it calls the function that was installed, and the sender gets what
that raises. Loads none of the libraries it looks at; it waits for them to be loaded.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from inspect import iscoroutinefunction
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import FrameType, ModuleType

__all__ = ["Guard", "is_real"]

SERVICES = ("modelslab.com", "api.anthropic.com")  # and every host below them
CONFIGURED = ("MODELSLAB_BASE_URL", "ANTHROPIC_BASE_URL")

# Where a request is about to leave: above proxies, so that it still names the host it is for, and
# below everything that replaces a network (mock transports, pytest-httpx, respx, aioresponses).
_HTTPX = (("ConnectionPool", "handle_request"), ("AsyncConnectionPool", "handle_async_request"))
_DOORS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "httpcore": _HTTPX,
    "httpcore2": _HTTPX,  # which the anthropic SDK uses
    "modelslab_llm._http.network": (("Network", "send"), ("AsyncNetwork", "send")),
    "aiohttp": (("BaseConnector", "connect"),),
}

_PORTS = {"http": 80, "https": 443}
_LOOPBACK = re.compile(r"(.+\.)?localhost|127\.\d+\.\d+\.\d+|\[?::1\]?")

Address = tuple[str, int]


def is_real(host: str, port: int, configured: frozenset[Address] = frozenset()) -> bool:
    """Tell whether an address belongs to a real service: a known host, or a configured address.

    >>> [is_real(host, 443) for host in ("modelslab.com", "eu.ModelsLab.com.", "mymodelslab.com")]
    [True, True, False]
    >>> is_real("gpu.lan", 8080, frozenset({("gpu.lan", 8080)})), is_real("gpu.lan", 9200)
    (True, False)
    """
    host = host.lower().rstrip(".")
    known = any(host == service or host.endswith(f".{service}") for service in SERVICES)
    return known or (host, port) in configured


def configured_in(env: Mapping[str, str]) -> frozenset[Address]:
    """Return the addresses of the base URLs in an environment that are not on this machine.

    >>> sorted(configured_in({"MODELSLAB_BASE_URL": "http://GPU.lan:8080/v1"}))
    [('gpu.lan', 8080)]
    >>> configured_in({"MODELSLAB_BASE_URL": "http://127.0.0.1:8080", "ANTHROPIC_BASE_URL": "?"})
    frozenset()
    """
    return frozenset(filter(None, (_address(env.get(name, "")) for name in CONFIGURED)))


def _address(url: str) -> Address | None:
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port or _PORTS.get(parts.scheme)
    except ValueError:  # no URL: its user will report it
        return None
    return None if not host or port is None or _LOOPBACK.fullmatch(host) else (host, port)


class Guard:
    """Call `found(request, place)` for each request to a real service, before it is sent.

    `request` is its method and host, never its path, headers or body, which may hold a key;
    `place` is the line of code that asked for it, or empty. Between `install` and `remove` each
    library is watched from the moment it is loaded.
    """

    def __init__(self, found: Callable[[str, str], None]) -> None:
        self._found = found
        self._configured = configured_in(os.environ)
        self._replaced: list[tuple[type, str, object]] = []

    def install(self) -> None:
        """Watch the libraries that are loaded, and wait for the others."""
        sys.meta_path.insert(0, self)
        for name in _DOORS:
            if module := sys.modules.get(name):
                self.watch(module)

    def remove(self) -> None:
        """Leave everything as it was."""
        with suppress(ValueError):  # another list has replaced it
            sys.meta_path.remove(self)
        while self._replaced:
            owner, name, original = self._replaced.pop()
            setattr(owner, name, original)

    def watch(self, library: ModuleType) -> None:
        """Watch the entry points of one library; those that this version lacks are left out."""
        for kind, name in _DOORS[library.__name__]:
            owner = getattr(library, kind, None)
            if owner and (original := getattr(owner, name, None)):
                setattr(owner, name, _looking(original, self._look))
                self._replaced.append((owner, name, original))

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find what is to be watched as those after it would, and watch it once it is loaded."""
        if name not in _DOORS or self not in sys.meta_path:
            return None
        others = sys.meta_path[sys.meta_path.index(self) + 1 :]
        found = (finder.find_spec(name, path, target) for finder in others)
        spec = next(filter(None, found), None)
        if spec and hasattr(spec.loader, "exec_module"):
            spec.loader = _Loader(spec.loader, self.watch)  # type: ignore[assignment]
        return spec

    def _look(self, request: Any) -> None:
        url = request.url
        scheme, host = _text(url.scheme), _text(url.host)
        port = url.port or _PORTS.get(scheme, 0)
        if is_real(host, port, self._configured | configured_in(os.environ)):
            usual = port == _PORTS.get(scheme)
            address = f"{scheme}://{host}" if usual else f"{scheme}://{host}:{port}"
            self._found(f"{_text(request.method)} {address}", _place())


def _looking(send: Callable[..., Any], look: Callable[[Any], None]) -> Callable[..., Any]:
    if not iscoroutinefunction(send):

        @wraps(send)
        def looked(self: object, request: object, *args: Any, **kwargs: Any) -> Any:
            look(request)
            return send(self, request, *args, **kwargs)

        return looked

    @wraps(send)
    async def alooked(self: object, request: object, *args: Any, **kwargs: Any) -> Any:
        look(request)
        return await send(self, request, *args, **kwargs)

    return alooked


class _Loader:
    """Be the loader of a module in all things, and show what it loads; then step aside."""

    def __init__(self, loader: Any, show: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._show = show

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)  # get_data, is_package: whatever pkgutil, … ask for

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._show(module)


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _place() -> str:
    """Return the innermost line that is neither Python's, nor a library's, nor this package's.

    The stack of a thread or a task may hold no such line.
    """
    import sysconfig  # 4 ms, which only a test that fails needs

    names = ("stdlib", "platstdlib", "purelib", "platlib")
    paths = [sysconfig.get_path(name) for name in names] + [str(Path(__file__).parents[1])]
    theirs = tuple(path + os.sep for path in paths)
    for frame in _stack():
        code = frame.f_code
        if not code.co_filename.startswith((*theirs, "<")):
            return f"{code.co_filename}:{frame.f_lineno} in {code.co_name}"
    return ""


def _stack() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame:
        yield frame
        frame = frame.f_back
