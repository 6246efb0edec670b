"""Decide what a client is set to, from arguments and environment, once and for good.

Reads the environment only when `Config.build` is called; opens nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from typing_extensions import Self, TypedDict, Unpack

from .. import endpoints
from .._hints import ONCE, did_you_mean, hint
from .._records import record
from ..endpoints import Endpoint
from ..errors import ConfigurationError, InvalidRequestError
from ..observers import Observer
from ..prices import Budget
from ..types.requests import TimeoutLike
from .flow import Flow
from .headers import checked_headers, credential, keys_in
from .line import LineRules, Lines
from .log import log_to_stderr
from .retry import Retry
from .seconds import seconds_of
from .secret import Secret, Secrets

API_KEY = "MODELSLAB_API_KEY"
BASE_URL = "MODELSLAB_BASE_URL"
DEPLOYMENT_ID = "MODELSLAB_DEPLOYMENT_ID"
LOG = "MODELSLAB_LOG"

MIB = 1024 * 1024
CONNECT = 5.0  # seconds; a server that is there answers the handshake well within


class _ByName:
    # Apart from Timeout, whose signature it would hide.
    def __new__(cls, *given: object, **waits: float | None) -> Self:
        if given or not waits.keys() <= cls.__annotations__.keys():
            raise TypeError(
                f"Timeout takes {', '.join(cls.__annotations__)} by name;"
                " for the same number everywhere use timeout=5"
            )
        return super().__new__(cls)


@dataclass(frozen=True, kw_only=True)
class Timeout(_ByName):
    """Say how long each kind of waiting may last, in seconds; None for no limit.

    `read` is the longest silence between bytes and not the length of an answer: see `deadline`.
    """

    connect: float | None = CONNECT
    """To reach the server, TLS included."""
    read: float | None = 600.0
    """Without a byte from the server. A model may think for minutes before the first."""
    write: float | None = 60.0
    """Without the server taking a byte of the request."""
    pool: float | None = 60.0
    """For a free connection, when the pool's limit is reached."""

    @classmethod
    def of(cls, value: float | TimeoutLike | None) -> Timeout:
        """Read a number as the limit of each wait but `connect`, which stays at most 5 s.

        >>> Timeout.of(20)
        Timeout(connect=5.0, read=20.0, write=20.0, pool=20.0)
        >>> Timeout.of(-1)
        Traceback (most recent call last):
        modelslab_llm.errors.ConfigurationError: timeout must be above 0 seconds, not -1
        """
        if value is None:
            return cls(connect=CONNECT, read=None, write=None, pool=None)
        if isinstance(value, (int, float)):
            seconds = seconds_of("timeout", value)
            return cls(connect=min(CONNECT, seconds), read=seconds, write=seconds, pool=seconds)
        try:
            waits = {wait.name: getattr(value, wait.name) for wait in fields(cls)}
        except AttributeError:
            raise ConfigurationError(
                f"timeout must be seconds or a Timeout, not {type(value).__name__}"
            ) from None
        for name, seconds in waits.items():
            if seconds is not None:
                waits[name] = seconds_of(f"timeout.{name}", seconds)
        return cls(**waits)


class Options(TypedDict, total=False):
    """What `with_options` may change, and the clients take beside endpoint and key."""

    timeout: float | TimeoutLike | None
    """Per-operation timeout in seconds, or a `Timeout`; None for no limit. Default: 600 to read, 60
    to write, 5 to connect."""
    deadline: float | None
    """Total time budget of a call in seconds: retries, backoff and the whole stream. Default None,
    no limit."""
    progress_timeout: float | None
    """Seconds a stream may go without content before it counts as stalled; pings and comments are
    not content. Default None, no limit."""
    max_retries: int
    """How often a failed call is retried. Default 2."""
    max_retry_wait: float
    """Longest wait in seconds that a server may ask for before a retry; if it asks for more, the
    call fails. Default 60."""
    default_headers: Mapping[str, str] | None
    """Headers of every request; they take precedence over the package's own. Default none."""
    max_response_bytes: int
    """Maximum size in bytes of one response, streamed or not, and of one event. Default 64 MiB."""
    observers: Sequence[Observer]
    """Observers that are notified of each call, attempt, retry and outcome. Default none."""
    budget: Budget | None
    """The total budget of all calls; once it is spent, the next call raises `BudgetSpentError`.
    Default None, no limit."""
    flow_control: bool
    """Whether calls queue once the server refuses some of them (429, 529). Default True."""
    max_concurrency: int | None
    """Maximum number of calls in flight, open streams included. Default None, no limit."""
    max_queue_wait: float | None
    """Seconds a call may wait in the queue; None for no limit. Default 600."""


@record
class Config:
    """Hold everything a client is set to."""

    endpoint: Endpoint
    key: Secret | None
    timeout: Timeout = Timeout()
    deadline: float | None = None
    progress_timeout: float | None = None
    max_retries: int = 2
    max_retry_wait: float = 60.0
    default_headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    max_response_bytes: int = 64 * MIB
    observers: Sequence[Observer] = ()
    budget: Budget | None = field(default=None, compare=False)
    flow_control: bool = True
    max_concurrency: int | None = None
    max_queue_wait: float | None = 600.0
    lines: Lines | None = field(default=None, repr=False, compare=False)
    """The queues of this client and its copies."""
    brought: tuple[Secret, ...] = ()
    """Keys that a single request brings in its own headers."""

    @property
    def retry(self) -> Retry:
        """When a failed call is sent again."""
        return Retry(self.max_retries, self.max_retry_wait)

    @property
    def line_rules(self) -> LineRules:
        """The limits of each call in the queue."""
        return LineRules(
            self.flow_control,
            self.max_concurrency,
            self.max_queue_wait,
            self.max_retries,
            self.max_retry_wait,
        )

    @property
    def flow(self) -> Flow:
        """How the calls flow that are made with this configuration's own key."""
        if self.lines is None:
            return Flow(None, 0, 0, 0)
        headers = self.with_credential(self.default_headers)
        return self.lines.flow(self.endpoint.base_url, headers, self.line_rules)

    @classmethod
    def build(
        cls,
        *,
        api_key: str | None = None,
        endpoint: Endpoint | None = None,
        base_url: str | None = None,
        deployment_id: str | None = None,
        env: Mapping[str, str] | None = None,
        **options: Unpack[Options],
    ) -> Self:
        """Return the configuration, arguments before environment, or say what is wrong."""
        env = os.environ if env is None else env
        if level := _unquoted(env.get(LOG, "")):
            log_to_stderr(level)
        # Options before the key: a misspelled api_key is not a missing one.
        config = cls.without_key(endpoint, base_url, deployment_id, env=env, **options)
        return replace(config, key=_key(api_key, config.endpoint, env))

    @classmethod
    def without_key(
        cls,
        endpoint: Endpoint | None = None,
        base_url: str | None = None,
        deployment_id: str | None = None,
        *,
        env: Mapping[str, str] | None = None,
        **options: Unpack[Options],
    ) -> Self:
        """Return the configuration of a client whose key is not known here."""
        found = _endpoint(endpoint, base_url, deployment_id, os.environ if env is None else env)
        return cls(found, None).changed(**options)

    def changed(self, **options: Unpack[Options]) -> Self:
        """Return a copy with these options, checked."""
        known = sorted(Options.__annotations__)
        for name in options:
            if name not in known:
                cure = hint("option", name) or (
                    did_you_mean(name, (*known, *ONCE)) + f"known are {', '.join(known)}"
                )
                raise TypeError(f"unknown option {name!r}: {cure}")
        values: dict[str, Any] = dict(options)
        if "timeout" in options:
            values["timeout"] = Timeout.of(options["timeout"])
        for name in ("deadline", "progress_timeout", "max_queue_wait"):
            if values.get(name) is not None:
                values[name] = seconds_of(name, values[name])
        if "max_retry_wait" in values:
            values["max_retry_wait"] = seconds_of("max_retry_wait", values["max_retry_wait"], 0)
        least = {"max_retries": 0, "max_response_bytes": 1, "max_concurrency": 1}
        if values.get("max_concurrency", 1) is None:
            del least["max_concurrency"]
        for name in [name for name in least if name in values]:
            if not (type(values[name]) is int and values[name] >= least[name]):
                raise ConfigurationError(
                    f"{name} must be a whole number, at least {least[name]}, not {values[name]!r}"
                )
        if not isinstance(values.get("flow_control", True), bool):
            raise ConfigurationError(
                f"flow_control must be True or False, not {values['flow_control']!r}"
            )
        if not isinstance(values.get("budget"), (Budget, type(None))):
            raise ConfigurationError(
                "budget must be a Budget from modelslab_llm.prices, not"
                f" {type(values['budget']).__name__}"
            )
        if "observers" in values:
            values["observers"] = _observers(values["observers"])
        if "default_headers" in values:
            try:
                headers = checked_headers(values["default_headers"], "default_headers")
            except InvalidRequestError as error:
                raise ConfigurationError(str(error)) from None
            values["default_headers"] = headers
        return replace(self, **values)

    def credential(self) -> dict[str, str]:
        """Return the one header that carries the key."""
        if self.key is None or self.endpoint.auth is None:
            return {}
        return credential(self.endpoint.auth, self.key.reveal())

    def with_credential(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return headers with one credential: the caller's own comes first."""
        own = headers.keys() & self.endpoint.credentials()
        return dict(headers) if own else {**headers, **self.credential()}

    @property
    def hide_key(self) -> Callable[[str], str]:
        """Return a text without the key, which servers like to quote in their errors."""
        # Not a `cached_property`, which takes a lock before Python 3.12 that a fork may copy.
        known: Callable[[str], str] | None = self.__dict__.get("hide_key")
        if known is None:
            own = [self.key] if self.key else []
            secrets = [*own, *map(Secret, keys_in(self.default_headers)), *self.brought]
            known = self.__dict__["hide_key"] = Secrets(secrets).hide
        return known

    def hiding(self, headers: Mapping[str, str]) -> Config:
        """Return a function that also masks the keys in these headers: a call may have its own."""
        strange = [key for key in keys_in(headers) if self.hide_key(key) == key]
        return replace(self, brought=tuple(map(Secret, strange))) if strange else self


def _observers(given: Any) -> tuple[Observer, ...]:
    if isinstance(given, Observer):
        raise ConfigurationError("observers must be a list: observers=[...]")
    observers: tuple[Any, ...] = tuple(given or ())
    for observer in observers:
        if not isinstance(observer, Observer):
            what = "the class itself" if isinstance(observer, type) else type(observer).__name__
            raise ConfigurationError(
                f"observers must contain instances of a subclass of Observer, not {what}"
            )
    return observers


def _endpoint(
    endpoint: Endpoint | None,
    base_url: str | None,
    deployment_id: str | None,
    env: Mapping[str, str],
) -> Endpoint:
    given = {"endpoint": endpoint, "base_url": base_url, "deployment_id": deployment_id}
    named = [name for name, value in given.items() if value is not None]
    if not named:  # the environment speaks only where no argument does
        base_url, deployment_id = (
            # What is nothing but spaces stays, to be refused.
            (_unquoted(value) or value) if (value := env.get(name)) else None
            for name in (BASE_URL, DEPLOYMENT_ID)
        )
        found = {BASE_URL: base_url, DEPLOYMENT_ID: deployment_id}
        named = [name for name, value in found.items() if value is not None]
    if len(named) > 1:
        raise ConfigurationError(
            f"{' and '.join(named)} contradict each other: each names a server; pass only one"
        )
    if endpoint is not None:
        if not isinstance(endpoint, Endpoint):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(
                "endpoint must come from modelslab_llm.endpoints; for a URL use base_url="
            )
        return endpoint
    if base_url is not None:
        return endpoints.for_url(base_url)
    if deployment_id is not None:
        return endpoints.gguf(deployment_id)
    return endpoints.llm_v7()


def has_key(api_key: str | None, env: Mapping[str, str]) -> bool:
    """Tell whether there is a key, by argument or environment; not whether it is one."""
    key = api_key if api_key is not None else env.get(API_KEY, "")
    return not isinstance(key, str) or bool(_unquoted(key))  # pyright: ignore[reportUnnecessaryIsInstance]


def _key(api_key: str | None, endpoint: Endpoint, env: Mapping[str, str]) -> Secret | None:
    source = "api_key" if api_key is not None else API_KEY
    key = api_key if api_key is not None else env.get(API_KEY, "")
    if not isinstance(key, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"api_key must be a string, not {type(key).__name__}")
    key = _unquoted(key)
    if not key:
        if endpoint.auth is None:
            return None
        raise ConfigurationError(
            f"no API key: pass api_key=... or set the environment variable {API_KEY}"
            + (
                "; for a server without keys use endpoint=endpoints.gateway(url, auth=None)"
                if endpoint.auth_can_change
                else ""
            )
        )
    if not re.fullmatch(r"[!-~]+", key):
        # Without the value: this error may end up in a log.
        raise ConfigurationError(
            f"the key in {source} contains a space, a line break or a non-ASCII character: "
            "copy only the key"
        )
    return Secret(key)


_QUOTES = "\"'"


def _unquoted(text: str) -> str:
    """Return a value without the quotes around it, which a `docker --env-file` does not take off.

    >>> _unquoted(' "abc" '), _unquoted("abc'")
    ('abc', "abc'")
    """
    text = text.strip()
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in _QUOTES
    return text[1:-1].strip() if quoted else text
