"""Decide what of a client's configuration may leave its process: everything but its secrets.

Pure: nothing is pickled here, and no client is built.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

from typing_extensions import Self, Unpack

from ..endpoints import Endpoint
from ..errors import ConfigurationError
from .config import API_KEY, Config, Options, has_key
from .headers import is_credential


class StaysInProcess:
    """Refuse to be pickled or deep-copied, and say what travels instead."""

    __slots__ = ()

    def __reduce__(self) -> str | tuple[Any, ...]:
        # Of copy, pickle and cloudpickle, all of which end up here.
        raise TypeError(
            f"{type(self).__name__} cannot be pickled or deep-copied, because it holds the key and"
            " open connections: send client.spec() and call spec.client() or spec.async_client()"
            " in the other process; client.with_options() makes a copy in this one"
        )


class Spec:
    """What a client is set to, without its secrets. An immutable value."""

    __slots__ = ("_config", "_withheld")

    def __init__(
        self,
        *,
        endpoint: Endpoint | None = None,
        base_url: str | None = None,
        deployment_id: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        try:
            _refuse_what_stays(options)
            env = os.environ
            config = Config.without_key(endpoint, base_url, deployment_id, env=env, **options)
            self._config, self._withheld = _without_secrets(config)
        except (ConfigurationError, TypeError) as error:
            raise error.with_traceback(None) from None
        finally:
            del options  # crash reports show the variables of a frame

    @classmethod
    def of(cls, config: Config, *, has_own_http: bool) -> Self:
        """Return what of a client may travel; see `ClientSpec`."""
        if has_own_http:
            raise ConfigurationError(
                "the http_client of this client cannot be sent to another process: build the spec"
                " without it, ClientSpec(endpoint=client.endpoint, ...), and pass the worker's own"
                " to spec.client(http_client=...)"
            )
        spec = object.__new__(cls)
        spec._config, spec._withheld = _without_secrets(config)
        return spec

    @property
    def endpoint(self) -> Endpoint:
        """The server."""
        return self._config.endpoint

    @property
    def options(self) -> Options:
        """All options, as `ModelsLab(endpoint=spec.endpoint, **spec.options)` takes them."""
        config = self._config
        options: Any = {name: getattr(config, name) for name in Options.__annotations__}
        options["default_headers"] = dict(config.default_headers)
        return options  # type: ignore[no-any-return]

    @property
    def withheld(self) -> tuple[str, ...]:
        """The headers of `default_headers` that hold a credential, which the worker has to give."""
        return self._withheld

    def arguments(self, api_key: str | None, options: Options) -> dict[str, Any]:
        """Return what a client is built with in this process, beside `api_key`.

        Args:
            api_key: The key. Default: that of `MODELSLAB_API_KEY` in this process.
            options: Options that are to differ.

        Returns:
            The arguments, by name.

        Raises:
            ConfigurationError: A secret is missing that did not travel.
        """
        given = Config(self.endpoint, None).changed(**options).default_headers
        if missing := [name for name in self._withheld if name not in given]:
            raise ConfigurationError(
                f"default_headers[{missing[0]!r}] contains a credential, which a spec does not:"
                f" pass default_headers={{{missing[0]!r}: ...}} to spec.client()"
            )
        if self.endpoint.auth is not None and not has_key(api_key, os.environ):
            raise ConfigurationError(
                f"no API key in this process ({os.getpid()}), and a spec does not contain one: set"
                f" {API_KEY} in the environment of the workers, or pass api_key to spec.client()"
            )
        headers = {**self._config.default_headers, **given}
        return {"endpoint": self.endpoint, **self.options, **options, "default_headers": headers}

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.endpoint, self.options), self._withheld

    def __setstate__(self, withheld: tuple[str, ...]) -> None:
        self._withheld = withheld

    def _values(self) -> tuple[object, ...]:
        options: dict[str, Any] = {**self.options}
        headers = frozenset(options.pop("default_headers").items())
        return (self.endpoint, *options.values(), headers, self._withheld)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        if not hasattr(self, "_config"):  # crash reports also show one that could not be made
            return f"{type(self).__name__}(not built)"
        usual = Config(self.endpoint, None)
        told = [f"base_url={self.endpoint.base_url!r}"]
        for name, value in self.options.items():
            if value != getattr(usual, name):
                if name in ("default_headers", "observers"):  # which may contain secrets
                    told.append(f"{name}: {', '.join(_names_in(value))}")
                else:
                    told.append(f"{name}={value!r}")
        if self._withheld:
            told.append(f"withheld: {', '.join(self._withheld)}")
        return f"{type(self).__name__}({', '.join(told)})"


def _names_in(values: Any) -> list[str]:
    return sorted(each if isinstance(each, str) else type(each).__name__ for each in values)


def _again(kind: type[Spec], endpoint: Endpoint, options: Options) -> Spec:
    """Return the spec that was pickled, checked anew: the versions of two processes may differ."""
    return kind(endpoint=endpoint, **options)


def _refuse_what_stays(options: Options) -> None:
    for name in ("api_key", "http_client"):
        if name in options:
            raise TypeError(
                f"a spec cannot contain {name}, which cannot be sent to another process:"
                f" pass it to spec.client({name}=...) there"
            )


def _without_secrets(config: Config) -> tuple[Config, tuple[str, ...]]:
    """Return what may travel, and the names of the headers that may not."""
    hide = config.hide_key
    for url in (config.endpoint.base_url, config.endpoint.openai_base_url):
        if hide(url) != url:
            raise ConfigurationError(
                "the base URL contains the key, so it cannot be part of a spec"
            )
    if config.budget is not None:
        raise ConfigurationError(
            "a budget counts what one process spends: build the spec without it,"
            " client.with_options(budget=None).spec(), and give each worker its share,"
            " spec.client(budget=...)"
        )
    for observer in config.observers:
        _check_travels(observer)
    headers: Mapping[str, str] = config.default_headers
    withheld = sorted(
        name
        for name, value in headers.items()
        if name in config.endpoint.credentials() or is_credential(name) or hide(value) != value
    )
    kept = {name: value for name, value in headers.items() if name not in withheld}
    bare = replace(config, key=None, lines=None, brought=(), default_headers=kept)
    return bare, tuple(withheld)


def _check_travels(observer: object) -> None:
    # A deep copy asks an object what a pickle asks it, and does without the names of classes, which
    # the picklers of clusters do without as well.
    try:
        deepcopy(observer)
    except Exception as error:  # noqa: BLE001 - whatever its own methods raise
        raise ConfigurationError(
            f"the observer {type(observer).__name__} cannot be sent to another process ({error}):"
            " build the spec without it, client.with_options(observers=[]).spec(), and pass the"
            " worker's own to spec.client(observers=[...])"
        ) from None
