"""Say where a server is and how it wants to be asked. Pure: no network, no environment, no clock.

Four builders cover the servers this package is for; each returns a frozen `Endpoint`:

>>> llm_v7().base_url
'https://modelslab.com/api/v7/llm'
>>> gguf("dep_123").base_url
'https://modelslab.com/api/gguf/dep_123'
>>> gateway("https://relay.example/anthropic/v1").base_url
'https://relay.example/anthropic'
"""

from __future__ import annotations

import math
import re
from dataclasses import KW_ONLY, dataclass
from typing import Literal, TypeAlias, get_args
from urllib.parse import urlsplit

from typing_extensions import TypedDict

from .errors import ConfigurationError

__all__ = [
    "Auth",
    "Endpoint",
    "Prefill",
    "Strategy",
    "for_url",
    "gateway",
    "gguf",
    "llama_server",
    "llm_v7",
]

ORIGIN = "https://modelslab.com"

Auth: TypeAlias = Literal["x-api-key", "bearer", "key"]
"""The one header that carries the key: `x-api-key: K`, `Authorization: Bearer K` or `key: K`."""


Strategy: TypeAlias = Literal["tool", "response_format", "output_config", "prompt"]
"""How an output is asked for: as the call of a tool that the model must make, by `response_format`
on the server's chat route (llama-server, vLLM), by `output_config.format` (Anthropic, newer vLLM),
or in words."""

Prefill: TypeAlias = Literal["repeats", "rest"]
"""How a server continues a request that ends in an assistant turn: `repeats` the text of that turn
at the start of its answer (llama-server), or returns the `rest` alone (older Claude models)."""

_CLAUDE_CODE_OUTPUT = 32_000
"""The tokens that Claude Code asks for, and takes off the window, if nothing says otherwise."""


@dataclass(frozen=True)
class Endpoint:
    """Hold what a client must know about one server: all that differs between servers is here.

    Build it with the functions of this module. The facts are those of a server that nobody knows
    unless a builder says otherwise; `dataclasses.replace` says otherwise for a server of your own.

    >>> from dataclasses import replace
    >>> mine = replace(gateway("http://127.0.0.1:8080"), name="mine", max_temperature=2.0)
    >>> mine.name, mine.base_url, mine.max_temperature
    ('mine', 'http://127.0.0.1:8080', 2.0)
    """

    name: str
    """What to call it. A label for logs and for yourself; nothing is decided by it."""
    base_url: str
    """The base for Messages requests, which are sent to `{base_url}/v1/messages`."""
    openai_base_url: str
    """The base to give to an OpenAI client (protocol.md §1: v7 has no `/v1` there)."""
    auth: Auth | None
    """Where the key goes; `None` for a server that asks for no key."""
    default_model: str | None = None
    """The model used when a request names none; `None` makes `model` required."""

    _: KW_ONLY
    auth_can_change: bool = True
    """Whether `auth` was a choice: if not, no error advises to choose another one."""
    key_headers: frozenset[str] = frozenset({"authorization", "x-api-key"})
    """The headers in which the server may look for a key, in lower case (protocol.md §2)."""
    takes_bearer: bool = False
    """Whether the key may come as a bearer token too, where `auth` is another form."""
    max_temperature: float = math.inf
    """The most that `temperature` and `top_p` may be."""
    min_top_k: int | None = None
    """The least that `top_k` may be; None for no limit."""
    min_thinking_budget: int | None = None
    """The least tokens to think with, which must then be fewer than `max_tokens` (protocol.md §4).
    None where a budget may be left out, or be anything."""
    counts_tokens_when_loaded: bool = True
    """Whether an answer of `count_tokens` proves that the model is loaded. Where it does not, a
    list of models has to tell that the server is there."""
    strategies: tuple[Strategy, ...] = ("tool", "response_format", "output_config", "prompt")
    """The ways to ask for an output that can be chosen: all but those known to be ignored here."""
    default_strategy: Strategy = "tool"
    """The one that is used if none is chosen."""
    thinks_before_forced_tool: bool = False
    """Whether the model may think and still be made to call a tool: Anthropic refuses both in one
    request (protocol.md §4), llama-server does both."""
    output_tool_stands_alone: bool = False
    """Whether the tool for the output is sent without the others. llama-server takes a forced call
    for a call of any tool, and needs no tool of the history (protocol.md §10)."""
    continues_prefill: Prefill | None = None
    """How it continues an answer that a request ends in, which `resume` and
    `continue_at_max_tokens` need; None if it does not, or is not known to (protocol.md §3). On v7
    that depends on the model."""

    def __post_init__(self) -> None:
        """Refuse ways to ask for an output that there are not."""
        ways = get_args(Strategy)
        for strategy in (*self.strategies, self.default_strategy):
            if strategy not in ways:
                raise ConfigurationError(
                    f"strategies of an endpoint must be among {', '.join(map(repr, ways))}, "
                    f"not {strategy!r}"
                )

    def credentials(self) -> frozenset[str]:
        """Return the headers in which this server may look for a key, in lower case."""
        return self.key_headers | {"key"} if self.auth == "key" else self.key_headers

    def claude_code_env(
        self,
        api_key: str | None = None,
        model: str | None = None,
        *,
        context_window: int | None = None,
    ) -> dict[str, str]:
        """Return the environment that points Claude Code at this endpoint (protocol.md §12).

        The small-model variables are set too: Claude Code sends background work to a model of
        its own choice, which these servers do not have.

        Args:
            api_key: The key; only an endpoint with `auth=None` can do without.
            model: The model; the endpoint's default if not given.
            context_window: The tokens that a conversation may have, such as
                `client.models.list()[0].context_window`. Claude Code takes an unknown model for one
                with a larger window than these have. A quarter of it, at most 32,000 tokens, is
                kept for each answer; without that, windows below 28,000 tokens are too small.

        Raises:
            ConfigurationError: Without a key where one is needed, or for a window of no size.

        >>> env = gguf("dep_123").claude_code_env("KEY")
        >>> env["ANTHROPIC_BASE_URL"], env["ANTHROPIC_AUTH_TOKEN"], env["ANTHROPIC_MODEL"]
        ('https://modelslab.com/api/gguf/dep_123', 'KEY', 'local')
        >>> env = llama_server("http://127.0.0.1:8080").claude_code_env(context_window=16384)
        >>> env["ANTHROPIC_AUTH_TOKEN"], env["CLAUDE_CODE_MAX_CONTEXT_TOKENS"]
        ('unused', '16384')
        """
        env = {"ANTHROPIC_BASE_URL": self.base_url, **self._claude_code_key(api_key)}
        if context_window is not None:
            if type(context_window) is not int or context_window < 1:
                raise ConfigurationError(
                    f"context_window must be a number of tokens, not {context_window!r}"
                )
            answer = min(_CLAUDE_CODE_OUTPUT, context_window // 4)
            env["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] = str(context_window)
            env["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] = str(answer)
        model = model or self.default_model
        if model:
            env["ANTHROPIC_MODEL"] = model
            for alias in ("OPUS", "SONNET", "HAIKU"):
                env[f"ANTHROPIC_DEFAULT_{alias}_MODEL"] = model
        return env

    def _claude_code_key(self, api_key: str | None) -> dict[str, str]:
        """Return the variables that carry the key. Claude Code does not start without one of
        `ANTHROPIC_AUTH_TOKEN` and `ANTHROPIC_API_KEY`, whatever else carries it too."""
        if not api_key:
            if self.auth is not None:
                raise ConfigurationError(f"api_key: this endpoint requires a key, as {self.auth}")
            return {"ANTHROPIC_AUTH_TOKEN": "unused"}
        if not api_key.isascii() or not api_key.isprintable():  # it may stand in a line of headers
            raise ConfigurationError("api_key: must be printable ASCII, in one line")
        if self.auth == "key":
            return {
                "ANTHROPIC_CUSTOM_HEADERS": f"key: {api_key}",
                "ANTHROPIC_AUTH_TOKEN": api_key,
            }
        if self.auth == "x-api-key" and not self.takes_bearer:
            return {"ANTHROPIC_API_KEY": api_key}
        return {"ANTHROPIC_AUTH_TOKEN": api_key}  # who takes both forms documents this one


class _Facts(TypedDict):
    auth_can_change: bool
    key_headers: frozenset[str]
    takes_bearer: bool
    max_temperature: float
    min_top_k: int


_OF_MODELSLAB: _Facts = {
    "auth_can_change": False,
    "key_headers": frozenset({"authorization", "x-api-key", "key"}),
    "takes_bearer": True,
    "max_temperature": 1,
    "min_top_k": 1,
}


class _LlamaFacts(TypedDict):
    strategies: tuple[Strategy, ...]
    default_strategy: Strategy
    thinks_before_forced_tool: bool
    output_tool_stands_alone: bool
    continues_prefill: Prefill


_OF_LLAMA_SERVER: _LlamaFacts = {
    # Its Messages route ignores output_config; only its chat route holds a model to a schema.
    "strategies": ("response_format", "tool", "prompt"),
    "default_strategy": "response_format",
    "thinks_before_forced_tool": True,
    "output_tool_stands_alone": True,
    "continues_prefill": "repeats",
}


def llm_v7(*, origin: str = ORIGIN, default_model: str | None = None) -> Endpoint:
    """Return the shared ModelsLab v7 LLM API: 200+ models, named in each request.

    Args:
        origin: Replaces `https://modelslab.com`: a staging host, a local server.
        default_model: The model of requests that name none. Default None: each must name one.

    Returns:
        The endpoint.

    Raises:
        ConfigurationError: The origin is not a plain http(s) URL.

    >>> v7 = llm_v7()
    >>> v7.auth, v7.openai_base_url
    ('x-api-key', 'https://modelslab.com/api/v7/llm')
    >>> llm_v7(origin="http://127.0.0.1:9000/").base_url
    'http://127.0.0.1:9000/api/v7/llm'
    """
    url = f"{_plain_url(origin, 'origin')}/api/v7/llm"
    return Endpoint(
        "v7",
        url,
        url,
        "x-api-key",
        default_model,
        **_OF_MODELSLAB,
        strategies=("tool", "output_config", "prompt"),  # no response_format is documented
        min_thinking_budget=1024,
        counts_tokens_when_loaded=False,
    )


def gguf(
    deployment_id: str, *, origin: str = ORIGIN, default_model: str | None = "local"
) -> Endpoint:
    """Return one GGUF deployment: a gateway in front of your own `llama-server`.

    Args:
        deployment_id: The ID of the deployment.
        origin: Replaces `https://modelslab.com`: a staging host, a local server.
        default_model: The model of requests that name none. Default `"local"`, as a deployment
            serves a single model; None makes `model` required.

    Returns:
        The endpoint.

    Raises:
        ConfigurationError: The ID could leave its place in the path, or the origin is not a plain
            http(s) URL.

    >>> gguf("dep_123").openai_base_url
    'https://modelslab.com/api/gguf/dep_123/v1'
    >>> gguf("dep/../x")
    Traceback (most recent call last):
    modelslab_llm.errors.ConfigurationError: deployment_id 'dep/../x' is not a deployment id: \
only letters, digits and . _ ~ - are allowed
    """
    if not isinstance(deployment_id, str) or not re.fullmatch(  # pyright: ignore[reportUnnecessaryIsInstance]
        r"(?!\.+$)[A-Za-z0-9._~-]+", deployment_id
    ):
        what = "is empty" if deployment_id == "" else f"{deployment_id!r} is not a deployment id"
        raise ConfigurationError(
            f"deployment_id {what}: only letters, digits and . _ ~ - are allowed"
        )
    url = f"{_plain_url(origin, 'origin')}/api/gguf/{deployment_id}"
    return Endpoint(
        "gguf",
        url,
        f"{url}/v1",
        "x-api-key",
        default_model,
        **_OF_MODELSLAB,
        **_OF_LLAMA_SERVER,
    )


def gateway(
    base_url: str, auth: Auth | None = "bearer", *, default_model: str | None = None
) -> Endpoint:
    """Return any other server that speaks the Messages format: a relay, LiteLLM, vLLM.

    Every usual spelling of the base means the same server, and a path prefix is kept.

    Args:
        base_url: URL of the server, with or without `/v1`.
        auth: The header that carries the key. Default `"bearer"`; None for a server that asks for
            none.
        default_model: The model of requests that name none. Default None: each must name one.

    Returns:
        The endpoint.

    Raises:
        ConfigurationError: The URL is not a plain http(s) URL, or `auth` is unknown.

    >>> spellings = ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/",
    ...              "http://h:1/v1/messages"]
    >>> {gateway(spelling).base_url for spelling in spellings}
    {'http://h:1'}
    >>> gateway("https://relay.example/anthropic", auth="x-api-key").openai_base_url
    'https://relay.example/anthropic/v1'
    >>> gateway("relay.example")
    Traceback (most recent call last):
    modelslab_llm.errors.ConfigurationError: base_url 'relay.example' does not start with \
http:// or https://
    """
    if auth not in ("x-api-key", "bearer", "key", None):
        raise ConfigurationError(
            f"auth {auth!r} is unknown: use 'x-api-key', 'bearer', 'key' or None"
        )
    url = _base_of(base_url)
    return Endpoint("gateway", url, f"{url}/v1", auth, default_model)


def llama_server(
    base_url: str,
    auth: Literal["bearer", "x-api-key"] | None = None,
    *,
    default_model: str | None = "local",
) -> Endpoint:
    """Return a `llama-server` of your own.

    It is asked for structured output on its chat route, where a grammar holds the model to the
    schema, as a GGUF deployment is; nothing is probed.

    Args:
        base_url: Where it listens, spelled as for `gateway`.
        auth: Where its `--api-key` goes; `None`, the default, if it was started without one.
        default_model: The model of requests that name none. A server with one model ignores the
            name; one in router mode needs a real one.

    Raises:
        ConfigurationError: For what is not a plain http(s) URL, or another `auth`.

    >>> mine = llama_server("http://127.0.0.1:8080/v1")
    >>> mine.openai_base_url, mine.default_strategy
    ('http://127.0.0.1:8080/v1', 'response_format')
    """
    if auth not in ("bearer", "x-api-key", None):
        raise ConfigurationError(f"auth {auth!r} is unknown: use 'bearer', 'x-api-key' or None")
    url = _base_of(base_url)
    return Endpoint("llama-server", url, f"{url}/v1", auth, default_model, **_OF_LLAMA_SERVER)


def for_url(base_url: str) -> Endpoint:
    """Return the endpoint behind a base URL: ModelsLab's own by their address, else a gateway.

    A host that is this machine itself counts as ModelsLab where it has ModelsLab's paths: a
    stand-in such as `modelslab_llm.testing` is asked as the original is.

    Args:
        base_url: URL of the server, with or without `/v1`.

    Returns:
        The endpoint.

    Raises:
        ConfigurationError: The URL is not a plain http(s) URL.

    >>> for_url("https://modelslab.com/api/v7/llm/v1").name
    'v7'
    >>> for_url("https://modelslab.com/api/gguf/dep_123").default_model
    'local'
    >>> for_url("http://127.0.0.1:8080/api/v7/llm").name
    'v7'
    >>> for_url("http://127.0.0.1:8080").name, for_url("https://relay.example/api/v7/llm").name
    ('gateway', 'gateway')
    """
    found = gateway(base_url)
    parts = urlsplit(found.base_url)
    origin = f"{parts.scheme}://{parts.netloc}"
    if origin == ORIGIN or parts.hostname in _THIS_MACHINE:
        if parts.path == "/api/v7/llm":
            return llm_v7(origin=origin)
        if parts.path.startswith("/api/gguf/"):
            return gguf(parts.path.removeprefix("/api/gguf/"), origin=origin)
    return found


_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")


def _base_of(base_url: str) -> str:
    url = _plain_url(base_url, "base_url")
    for ending in ("/v1/messages", "/v1"):
        url = url.removesuffix(ending)
    return url


def _plain_url(url: str, name: str) -> str:
    """Return `url` without its trailing slash, or refuse it: what follows is only ever a path.

    >>> for bad in ["http://u:secret@h", "http://h?q", "http://h/a/../b", "http://h/%2e%2e/b"]:
    ...     try:
    ...         _plain_url(bad, "base_url")
    ...     except ConfigurationError as error:
    ...         print(error)
    base_url contains an '@', as after a password: pass the key as api_key, or in default_headers
    base_url contains a '?' or '#', which may hide a key: pass the address without them
    base_url 'http://h/a/../b' leaves its path
    base_url 'http://h/%2e%2e/b' leaves its path
    """
    if not isinstance(url, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"{name} must be a string, not {type(url).__name__}")
    if "@" in url:  # first, so that no error shows what stands before it
        raise ConfigurationError(
            f"{name} contains an '@', as after a password: pass the key as api_key, "
            "or in default_headers"
        )
    if not url.lower().startswith(("http://", "https://")):
        raise ConfigurationError(f"{name} {url!r} does not start with http:// or https://")
    if not re.fullmatch(r"[!-\[\]-~]+", url):  # printable ASCII without the backslash
        raise ConfigurationError(
            f"{name} {url!r} contains a space, a backslash or a non-ASCII character"
        )
    if "?" in url or "#" in url:
        raise ConfigurationError(
            f"{name} contains a '?' or '#', which may hide a key: pass the address without them"
        )
    if re.search(r"/(\.|%2e){1,2}(/|$)|%2f|%5c", url, re.IGNORECASE):
        raise ConfigurationError(f"{name} {url!r} leaves its path")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigurationError(f"{name} {url!r} is not a URL: {error}") from None
    if not parts.hostname or port == 0:
        raise ConfigurationError(f"{name} {url!r} has no host")
    label = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
    if ":" not in parts.hostname and not re.fullmatch(rf"({label}\.)*{label}\.?", parts.hostname):
        raise ConfigurationError(f"{name} {url!r} has an invalid host")
    return url.rstrip("/")
