"""Use this package and the `anthropic` SDK as their users do: the same request, the same settings.

What only one of them has (a deadline, a limit of progress, a resume) only that one is given.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from raw_server import ASK

from .faults import Fault, Verb
from .stage import KEY
from .verdict import Seen

CLOSED_AFTER = 0.3
"""Seconds after which another thread closes the client, in the rows where one does."""


class Ours:
    """`modelslab_llm.ModelsLab`."""

    def __init__(self, fault: Fault, url: str, settings: Mapping[str, Any]) -> None:
        from modelslab_llm import ModelsLab, ModelsLabError, endpoints

        deployed = fault.stage == "deployment"
        place = endpoints.gguf("dep_1", origin=url) if deployed else endpoints.gateway(url)
        place = replace(place, continues_prefill=fault.prefill)
        self.tree = ModelsLabError
        self.client = ModelsLab(KEY, endpoint=place, **settings)
        self.closed = fault.closed
        self.asked = {**ASK, **fault.asked}

    def create(self) -> Any:
        return self.client.messages.create(**self.asked)

    def ask(self, verb: Verb) -> Seen:
        from modelslab_llm import APIError

        if self.closed:
            threading.Timer(CLOSED_AFTER, self.client.close).start()
        try:
            if verb == "ready":
                self.client.wait_until_ready(20)
                return Seen()
            if verb == "create":
                return Seen(self.create())
            with self.client.messages.stream(**self.asked) as stream:
                return Seen(stream.get_final_message())
        except APIError as error:
            return Seen(error=error, partial=error.partial_message, partial_at="error")
        except Exception as error:  # noqa: BLE001 - to be judged
            return Seen(error=error)


class Anthropic:
    """`anthropic.Anthropic`."""

    def __init__(self, fault: Fault, url: str, settings: Mapping[str, Any]) -> None:
        from anthropic import Anthropic, AnthropicError

        base = f"{url}/api/gguf/dep_1" if fault.stage == "deployment" else url
        known = {name: settings[name] for name in ("max_retries", "timeout") if name in settings}
        self.tree = AnthropicError
        self.client = Anthropic(api_key=KEY, base_url=base, **known)
        self.closed = fault.closed

    def create(self) -> Any:
        return self.client.messages.create(**ASK)

    def ask(self, verb: Verb) -> Seen:
        stream: Any = None
        if self.closed:
            threading.Timer(CLOSED_AFTER, self.client.close).start()
        try:
            if verb == "create":
                return Seen(self.create())
            with self.client.messages.stream(**ASK) as stream:
                return Seen(stream.get_final_message())
        except Exception as error:  # noqa: BLE001 - to be judged
            return Seen(error=error, partial=_snapshot(stream), partial_at="stream")


def _snapshot(stream: Any) -> Any:
    try:
        return stream.current_message_snapshot
    except Exception:  # noqa: BLE001 - there is none
        return None


USERS: dict[str, type[Ours] | type[Anthropic]] = {"ours": Ours, "anthropic": Anthropic}
