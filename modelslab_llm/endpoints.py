"""Describe servers: their address, and how they differ. Pure: no network, environment or clock.

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
"""How to request structured output: with a forced tool call, with `response_format` on the server's
chat route (llama-server, vLLM), with `output_config.format` (Anthropic, newer vLLM), or in the
prompt."""

Prefill: TypeAlias = Literal["repeats", "rest"]
"""How a server continues a request that ends in an assistant turn: `repeats` the text of that turn
at the start of its answer (llama-server), or returns the `rest` alone (older Claude models)."""

_CLAUDE_CODE_OUTPUT = 32_000
"""The default limit of Claude Code for an answer, which it subtracts from the window."""


@dataclass(frozen=True)
class Endpoint:
    """Everything a client must know about one server: all differences between servers are here.

    Build it with the functions of this module. The defaults assume nothing about a server. Set what
    you know about your own with `dataclasses.replace`.

    >>> from dataclasses import replace
    >>> mine = replace(gateway("http://127.0.0.1:8080"), name="mine", max_temperature=2.0)
    >>> mine.name, mine.base_url, mine.max_temperature
    ('mine', 'http://127.0.0.1:8080', 2.0)
    """

    name: str
    """A label, for logs and for yourself; it decides nothing."""
    base_url: str
    """The base for Messages requests, which are sent to `{base_url}/v1/messages`."""
    openai_base_url: str
    """The base URL for OpenAI clients (protocol.md §1: v7 has no `/v1` there)."""
    auth: Auth | None
    """The header for the key; `None` for a server without keys."""
    default_model: str | None = None
    """The model used when a request names none; `None` makes `model` required."""

    _: KW_ONLY
    auth_can_change: bool = True
    """Whether `auth` can be chosen; if not, no error suggests another one."""
    key_headers: frozenset[str] = frozenset({"authorization", "x-api-key"})
    """The headers in which the server may look for a key, in lower case (protocol.md §2)."""
    takes_bearer: bool = False
    """Whether the server also accepts a bearer token if `auth` is another form."""
    max_temperature: float = math.inf
    """The maximum of `temperature` and `top_p`."""
    min_top_k: int | None = None
    """The minimum of `top_k`; None for no limit."""
    min_thinking_budget: int | None = None
    """The minimum thinking budget, which must also be less than `max_tokens` (protocol.md §4). None
    if the budget is optional or unlimited."""
    counts_tokens_when_loaded: bool = True
    """Whether a response of `count_tokens` proves that the model is loaded. If it does not, a list
    of models shows that the server is there."""
    strategies: tuple[Strategy, ...] = ("tool", "response_format", "output_config", "prompt")
    """The available strategies for structured output: all except those that the server is known to
    ignore."""
    default_strategy: Strategy = "tool"
    """The strategy that is used by default."""
    thinks_before_forced_tool: bool = False
    """Whether thinking can be combined with a forced tool: Anthropic refuses both in one request
    (protocol.md §4), llama-server supports it."""
    output_tool_stands_alone: bool = False
    """Whether the output tool is sent without the other tools. llama-server treats a forced tool as
    any tool, and does not need the tools of the history (protocol.md §10)."""
    continues_prefill: Prefill | None = None
    """How the server continues a last assistant turn, which `resume` and `continue_at_max_tokens`
    require; None if it does not, or is not known to (protocol.md §3). On v7, that depends on the
    model."""

    def __post_init__(self) -> None:
        """Refuse unknown strategies."""
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
        """Return the environment for using Claude Code with this endpoint (protocol.md §12).

        The small-model variables are set too: Claude Code sends background work to another model,
        which these servers do not have.

        Args:
            api_key: The key. Optional only for an endpoint with `auth=None`.
            model: The model. Default: that of the endpoint.
            context_window: The context window in tokens, such as
                `client.models.list()[0].context_window`. Claude Code assumes a larger window for
                unknown models. A quarter of it, at most 32,000 tokens, is reserved for each answer;
                otherwise windows below 28,000 tokens are too small.

        Raises:
            ConfigurationError: A required key is missing, or the window is not a positive number.

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
        `ANTHROPIC_AUTH_TOKEN` and `ANTHROPIC_API_KEY`, whatever else carries it too.
        """
        if not api_key:
            if self.auth is not None:
                raise ConfigurationError(f"api_key: this endpoint requires a key, as {self.auth}")
            return {"ANTHROPIC_AUTH_TOKEN": "unused"}
        if not api_key.isascii() or not api_key.isprintable():  # it may be in a line of headers
            raise ConfigurationError("api_key: must be printable ASCII, in one line")
        if self.auth == "key":
            return {
                "ANTHROPIC_CUSTOM_HEADERS": f"key: {api_key}",
                "ANTHROPIC_AUTH_TOKEN": api_key,
            }
        if self.auth == "x-api-key" and not self.takes_bearer:
            return {"ANTHROPIC_API_KEY": api_key}
        return {"ANTHROPIC_AUTH_TOKEN": api_key}  # servers that accept both forms document this one


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
        auth: The header that carries the key. Default `"bearer"`; None for a server without keys.
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
    """Return your own `llama-server`.

    As with a GGUF deployment, structured output uses its chat route, where a grammar constrains the
    model to the schema. Nothing is probed.

    Args:
        base_url: URL of the server, as for `gateway`.
        auth: The header for its `--api-key`. Default None, for a server that was started without
            one.
        default_model: The model of requests that name none. A server with one model ignores the
            name; a server in router mode needs a real one.

    Raises:
        ConfigurationError: The URL is not a plain http(s) URL, or `auth` is unknown.

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

    An address of this machine with ModelsLab's paths counts as ModelsLab, so that a local server
    such as `modelslab_llm.testing` is treated like the original.

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
    if "@" in url:  # first, so that no error shows what is before it
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
