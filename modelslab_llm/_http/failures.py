"""The errors that our own connections raise: httpcore's, which httpx converts into its own.

httpcore is loaded with the first error: most programs never see one, and start faster without it.
Name these errors where one is raised or caught, never in a tuple that is made before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from httpcore import ConnectError as ConnectError
    from httpcore import ConnectTimeout as ConnectTimeout
    from httpcore import LocalProtocolError as LocalProtocolError
    from httpcore import NetworkError as NetworkError
    from httpcore import PoolTimeout as PoolTimeout
    from httpcore import ProtocolError as ProtocolError
    from httpcore import ProxyError as ProxyError
    from httpcore import ReadError as ReadError
    from httpcore import ReadTimeout as ReadTimeout
    from httpcore import RemoteProtocolError as RemoteProtocolError
    from httpcore import TimeoutException as TimeoutException
    from httpcore import UnsupportedProtocol as UnsupportedProtocol
    from httpcore import WriteError as WriteError
    from httpcore import WriteTimeout as WriteTimeout
else:

    def __getattr__(name: str) -> type[Exception]:
        from .._forks import no_fork

        with no_fork():
            import httpcore

        if name.startswith("_") or name not in httpcore.__all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals().setdefault(name, getattr(httpcore, name))
