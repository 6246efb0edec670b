"""Decide which server a command asks, with which key and which model. Sends nothing.

Options come before a profile named by option or environment, that before the other variables of the
environment, those before the default profile, and that before the shared ModelsLab API. A key goes
only where it belongs: the kept key of a profile to the endpoint of that profile.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, get_args
from urllib.parse import urlsplit

from ._status import Fault

if TYPE_CHECKING:
    from modelslab_llm import AsyncModelsLab, Endpoint
    from modelslab_llm.endpoints import Auth

    from ._profiles import Profile

# `endpoints` says the same in its types; help does without loading it.
AUTHS = ("x-api-key", "bearer", "key", "none")
STRATEGIES = ("tool", "response_format", "output_config", "prompt")


@dataclass(frozen=True)
class Where:
    """What the options say about the server, as they were given."""

    profile: str | None = None
    v7: bool = False
    gguf: str | None = None
    base_url: str | None = None
    llama_server: str | None = None
    auth: str | None = None
    api_key_file: str | None = None
    timeout: float | None = None
    retries: int = 2


@dataclass(frozen=True)
class Target:
    """A server, the key for it, and the model that its user prefers."""

    endpoint: Endpoint
    key: str | None = field(repr=False)
    key_source: str
    """Where the key was found, in words: `MODELSLAB_API_KEY`."""
    model: str | None = None
    timeout: float | None = None
    retries: int = 2
    with_v1: bool = False
    """Whether the URL was given with the /v1 that the client adds by itself."""

    def client(self) -> AsyncModelsLab:
        """Return a client of the server. Close it."""
        from modelslab_llm import AsyncModelsLab, Timeout

        return AsyncModelsLab(
            self.key or "",  # None would have the client look in the environment
            endpoint=self.endpoint,
            timeout=Timeout() if self.timeout is None else self.timeout,
            max_retries=self.retries,
        )


def target_of(
    where: Where,
    model: str | None = None,
    env: Mapping[str, str] = os.environ,
    *,
    needs_key: bool = True,
) -> Target:
    """Return the server that the options and the environment mean. Raises `Fault`.

    It may ask for the key at the terminal, if no other place has it. Of models, that of a profile
    comes before MODELSLAB_MODEL: the name means something at its own server only.
    """
    endpoint, profile = _endpoint(where, env)
    if where.auth is not None:
        endpoint = replace(endpoint, auth=_auth(where.auth))
    elif where.api_key_file is not None and endpoint.auth is None:
        endpoint = replace(endpoint, auth="bearer")  # a key that was given is to be sent
    key, source = _key(where, endpoint, profile, env)
    if key is None and where.auth is None and _is_here(endpoint.base_url):
        endpoint = replace(endpoint, auth=None)  # your own server, such as llama-server
    if key is None and endpoint.auth is not None and needs_key:
        key, source = _asked_for(endpoint), "the prompt"
    preferred = model or (profile.model if profile else None) or env.get("MODELSLAB_MODEL")
    preferred = preferred or endpoint.default_model
    with_v1 = "/v1" in (where.base_url or where.llama_server or "")
    return Target(endpoint, key, source, preferred, where.timeout, where.retries, with_v1)


def _auth(name: str) -> Auth | None:
    from modelslab_llm.endpoints import Auth

    known: tuple[Auth, ...] = get_args(Auth)
    return next((auth for auth in known if auth == name), None)  # which `none` is too


def _endpoint(where: Where, env: Mapping[str, str]) -> tuple[Endpoint, Profile | None]:
    if (named := _named(where)) is not None:
        return named, None
    if name := where.profile or env.get("MODELSLAB_PROFILE"):
        return _of_profile(name)
    base_url, deployment = env.get("MODELSLAB_BASE_URL"), env.get("MODELSLAB_DEPLOYMENT_ID")
    if base_url and deployment:
        raise Fault(
            "MODELSLAB_BASE_URL and MODELSLAB_DEPLOYMENT_ID each name a server; unset one of them"
        )
    if base_url or deployment:
        return endpoint_of(deployment, base_url), None
    from ._profiles import load

    default = load().default
    return _of_profile(default) if default else (endpoint_of(), None)


def _named(where: Where) -> Endpoint | None:
    """Return the server that an option names, if one does."""
    names = {
        "--profile": where.profile is not None,
        "--v7": where.v7,
        "--gguf": where.gguf is not None,
        "--base-url": where.base_url is not None,
        "--llama-server": where.llama_server is not None,
    }
    given = [name for name, is_given in names.items() if is_given]
    if len(given) > 1:
        raise Fault(f"{' and '.join(given)} each name a server; pass only one")
    if not given or where.profile is not None:
        return None
    return endpoint_of(where.gguf, where.base_url, where.llama_server)


def endpoint_of(
    gguf: str | None = None, base_url: str | None = None, llama_server: str | None = None
) -> Endpoint:
    """Return the server of a deployment id or a URL, else the shared ModelsLab API."""
    from modelslab_llm import endpoints

    if gguf is not None:
        return endpoints.gguf(gguf)
    if llama_server is not None:
        return endpoints.llama_server(llama_server, default_model=None)
    return endpoints.llm_v7() if base_url is None else endpoints.for_url(base_url)


def _of_profile(name: str) -> tuple[Endpoint, Profile]:
    from ._profiles import load

    profile = load().named(name)
    endpoint = endpoint_of(profile.gguf, profile.base_url, profile.llama_server)
    if profile.auth is not None:
        if profile.auth not in AUTHS:
            raise Fault(
                f"the profile {name!r}: auth = {profile.auth!r} is unknown; "
                f"known are {', '.join(AUTHS)}"
            )
        endpoint = replace(endpoint, auth=_auth(profile.auth))
    return endpoint, profile


def _key(
    where: Where, endpoint: Endpoint, profile: Profile | None, env: Mapping[str, str]
) -> tuple[str | None, str]:
    from . import _keys

    if where.api_key_file is not None:
        return _keys.from_file(where.api_key_file), "--api-key-file"
    if endpoint.auth is None:
        return None, "none needed"
    if profile is not None and profile.key is not None:
        place = "the key store" if profile.key == "keyring" else "the key file"
        return _keys.kept(profile.name, profile.key), f"profile {profile.name}, {place}"
    if key := env.get("MODELSLAB_API_KEY", "").strip():
        return _keys.checked(key, "MODELSLAB_API_KEY"), "MODELSLAB_API_KEY"
    return None, "none"


def _asked_for(endpoint: Endpoint) -> str:
    from ._keys import can_prompt, prompted

    if not can_prompt():
        raise Fault(
            f"no API key for {endpoint.base_url}: set MODELSLAB_API_KEY, pass --api-key-file, or "
            "run: modelslab profile add NAME; for a server without keys: --auth none"
        )
    return prompted(f"API key for {endpoint.base_url}: ")


def _is_here(base_url: str) -> bool:
    """Tell whether a server is on this machine."""
    return urlsplit(base_url).hostname in ("127.0.0.1", "localhost", "::1")
