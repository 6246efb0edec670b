"""Prove that a client's configuration travels to other processes, and that its key does not."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import cloudpickle
import pytest
from quoting import KEYS, forms, holds
from variants import Async, Sync

from modelslab_llm import (
    AsyncModelsLab,
    ClientSpec,
    ConfigurationError,
    DefaultAsyncHttpxClient,
    DefaultHttpxClient,
    ModelsLab,
    Observer,
    Timeout,
    endpoints,
)
from modelslab_llm._protocol.config import Options
from modelslab_llm.prices import Budget, Prices
from modelslab_llm.testing import LocalServer

KEY = "sk-0123456789-travels-nowhere"
OPTIONS: dict[str, Any] = {
    "timeout": Timeout(connect=1.0, read=20.0),
    "deadline": 90.0,
    "progress_timeout": 30.0,
    "max_retries": 5,
    "max_retry_wait": 7.0,
    "default_headers": {"x-team": "rivers"},
    "max_response_bytes": 4096,
    "observers": (),
    "budget": None,  # any other is refused: see test_budget.py
    "flow_control": False,
    "max_concurrency": 3,
    "max_queue_wait": None,
}
ASK: dict[str, Any] = {
    "model": "m",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "Hi."}],
}

kinds = pytest.mark.parametrize("kind", [ModelsLab, AsyncModelsLab])
travels = pytest.mark.parametrize(
    "sent",
    [
        lambda value: pickle.loads(pickle.dumps(value)),
        lambda value: pickle.loads(pickle.dumps(value, 2)),
        lambda value: pickle.loads(cloudpickle.dumps(value)),
        copy.deepcopy,
    ],
    ids=["pickle", "pickle-2", "cloudpickle", "deepcopy"],
)


class Counting(Observer):
    """An observer that travels."""

    def __init__(self) -> None:
        self.calls = 0

    def on_start(self, call: object) -> None:
        self.calls += 1


class Locked(Observer):
    """An observer that does not."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


def built(spec: ClientSpec, kind: type[Any], **given: Any) -> Any:
    return spec.client(**given) if kind is ModelsLab else spec.async_client(**given)


# What travels


@kinds
@travels
def test_everything_but_the_key_travels(kind: Any, sent: Callable[[Any], Any]) -> None:
    assert OPTIONS.keys() == Options.__annotations__.keys(), "a new option: does it travel?"
    endpoint = endpoints.gguf("dep_1", origin="http://h.invalid")
    client = kind(KEY, endpoint=endpoint, **OPTIONS)
    spec = client.spec()
    again = sent(spec)
    assert again == spec
    assert hash(again) == hash(spec)
    assert again.options == OPTIONS
    worker = built(again, kind, api_key=KEY)
    assert type(worker) is kind
    assert worker._config.key.reveal() == KEY
    assert {name: getattr(worker._config, name) for name in OPTIONS} == OPTIONS
    assert worker.endpoint == endpoint
    assert worker.flow == client.flow


@kinds
def test_every_endpoint_travels(kind: Any) -> None:
    for endpoint in (
        endpoints.llm_v7(default_model="m"),
        endpoints.gguf("dep_1"),
        endpoints.gateway("http://h.invalid", auth="key"),
        endpoints.llama_server("http://h.invalid"),
    ):
        spec = kind(KEY, endpoint=endpoint).spec()
        assert pickle.loads(pickle.dumps(spec)).endpoint == endpoint


@kinds
@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_the_key_is_in_no_pickle_and_no_repr_of_a_spec(kind: Any, key: str) -> None:
    headers = {"x-api-key": key, "authorization": f"Bearer {key}", "x-quotes": f"<{key}>"}
    for spec in (
        kind(key, base_url="http://h.invalid").spec(),
        kind(key, base_url="http://h.invalid", default_headers=headers).spec(),
        kind(key, base_url="http://h.invalid").with_options(default_headers=headers).spec(),
    ):
        for dump in (pickle.dumps(spec), pickle.dumps(spec, 0), cloudpickle.dumps(spec)):
            assert not any(form.encode() in dump for form in forms(key))
        assert not holds(repr(spec) + str(spec.options) + str(spec.withheld), key)


def test_a_spec_needs_no_key() -> None:
    spec = ClientSpec(base_url="http://h.invalid/v1", max_concurrency=2, timeout=5)
    assert spec == ModelsLab(KEY, base_url="http://h.invalid", max_concurrency=2, timeout=5).spec()
    assert ClientSpec() == ModelsLab(KEY).spec()
    assert ClientSpec() != spec
    assert ClientSpec() != "ClientSpec()"
    for name in ("api_key", "http_client"):
        with pytest.raises(
            TypeError, match=rf"cannot contain {name}, .* spec\.client\({name}=\.\.\.\)"
        ):
            ClientSpec(**{name: KEY})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unknown option 'proxy'"):
        ClientSpec(proxy="http://h.invalid")  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match="max_retries must be a whole number"):
        ClientSpec(max_retries=-1)


def test_a_subclass_is_built_of_a_spec() -> None:
    class Mine(ModelsLab):
        pass

    spec = Mine(KEY, base_url="http://h.invalid", **OPTIONS).spec()
    assert type(spec.client(KEY)) is ModelsLab
    assert Mine(KEY, endpoint=spec.endpoint, **spec.options).spec() == spec


def test_a_spec_reads_well_and_cannot_be_changed() -> None:
    headers = {"X-Team": "rivers", "Authorization": "Bearer of-another"}
    spec = ClientSpec(
        base_url="http://h.invalid",
        max_concurrency=2,
        default_headers=headers,
        observers=[Counting()],
    )
    assert repr(spec) == (
        "ClientSpec(base_url='http://h.invalid', default_headers: x-team, observers: Counting,"
        " max_concurrency=2, withheld: authorization)"
    )
    for name in ("endpoint", "options", "withheld", "anything"):
        with pytest.raises(AttributeError):
            setattr(spec, name, None)
    spec.options["max_concurrency"] = 9
    dict(spec.options)["default_headers"] = {}
    assert spec.options["max_concurrency"] == 2


@travels
def test_an_observer_travels_if_it_can(sent: Callable[[Any], Any]) -> None:
    counting = Counting()
    with LocalServer() as server:
        spec = ClientSpec(endpoint=server.llm_v7(), observers=[counting])
        with sent(spec).client(server.api_key) as client:
            client.messages.create(**ASK)
            (there,) = client._config.observers
    assert (type(there), there.calls, counting.calls) == (Counting, 1, 0)


# What does not


@kinds
def test_settings_that_cannot_be_sent_are_refused(kind: Any) -> None:
    http: Any = DefaultHttpxClient() if kind is ModelsLab else DefaultAsyncHttpxClient()
    client = kind(KEY, base_url="http://h.invalid", http_client=http)
    for one in (client, client.with_options(max_retries=1), copy.copy(client)):
        with pytest.raises(ConfigurationError, match="the http_client of this client cannot"):
            one.spec()
    client = kind(KEY, base_url="http://h.invalid", observers=[Locked()])
    with pytest.raises(ConfigurationError, match=r"observer Locked cannot .* '_thread.lock'"):
        client.spec()
    assert client.with_options(observers=[]).spec() == ClientSpec(base_url="http://h.invalid")
    with pytest.raises(ConfigurationError, match="observer Locked cannot"):
        ClientSpec(observers=[Locked()])
    with pytest.raises(ConfigurationError, match="the base URL contains the key"):
        kind(KEY, base_url=f"http://h.invalid/{KEY}").spec()


def test_an_http_client_of_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSLAB_API_KEY", KEY)
    with DefaultHttpxClient() as http:
        client = ClientSpec(base_url="http://h.invalid").client(http_client=http)
        assert client._http.http is http  # type: ignore[attr-defined]


@kinds
@pytest.mark.parametrize(
    "pack", [pickle.dumps, cloudpickle.dumps, copy.deepcopy], ids=lambda pack: pack.__name__
)
@pytest.mark.parametrize("key", [KEY, None])
def test_a_client_cannot_be_pickled_and_names_its_spec(kind: Any, pack: Any, key: Any) -> None:
    """With a key and without, itself or one of its parts, and in whatever it is packed."""
    endpoint = endpoints.gateway("http://h.invalid", auth="bearer" if key else None)
    client = kind(key, endpoint=endpoint)
    parts = [client, client.messages, client.models, [client], client.messages.create]
    if pack is cloudpickle.dumps:
        parts += [lambda: client, lambda: client.messages.bulk]
    for part in parts:
        with pytest.raises(TypeError, match=r"cannot be pickled .*: send client\.spec\(\)"):
            pack(part)


def test_a_shallow_copy_shares_the_connections(variant: Sync | Async, server: LocalServer) -> None:
    """Closing it leaves them open, as for `with_options`."""
    client = variant.client(api_key=server.api_key, endpoint=server.llm_v7())
    twin = copy.copy(client)
    twin.real = copy.copy(client.real)
    assert type(twin.real) is type(client.real)
    client.create(**ASK)
    twin.close()
    assert client.create(**ASK).text
    client.close()


def test_a_budget_counts_for_one_process() -> None:
    budget = Budget(tokens=5, prices=Prices({"*": {"input": 1, "output": 1}}))
    for pack in (pickle.dumps, cloudpickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="make one in each worker"):
            pack(budget)
    prices = pickle.loads(pickle.dumps(budget.prices))
    assert prices.find("m") == budget.prices.find("m")  # type: ignore[union-attr]


# In the worker


@kinds
@pytest.mark.parametrize("key", [None, "", "  "])
def test_without_a_key_the_worker_says_so(
    kind: Any, key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = ClientSpec(base_url="http://h.invalid")
    monkeypatch.delenv("MODELSLAB_API_KEY", raising=False)
    with pytest.raises(
        ConfigurationError, match=r"no API key in this process .* MODELSLAB_API_KEY"
    ):
        built(spec, kind, api_key=key)
    monkeypatch.setenv("MODELSLAB_API_KEY", KEY)
    assert built(spec, kind)._config.key.reveal() == KEY
    assert built(ClientSpec(endpoint=endpoints.llama_server("http://h.invalid")), kind)


@kinds
def test_the_worker_gives_the_headers_that_were_withheld(kind: Any) -> None:
    headers = {"X-Team": "rivers", "X-Relay-Token": "secret-of-the-relay", "Cookie": "a=b"}
    spec = kind(KEY, base_url="http://h.invalid", default_headers=headers).spec()
    assert spec.withheld == ("cookie", "x-relay-token")
    assert b"secret-of-the-relay" not in pickle.dumps(spec)
    again = pickle.loads(pickle.dumps(spec))
    with pytest.raises(
        ConfigurationError, match=r"default_headers\['cookie'\] contains a credential"
    ):
        built(again, kind, api_key=KEY)
    given = {"x-relay-token": "another", "cookie": "c=d"}
    worker = built(again, kind, api_key=KEY, default_headers=given, max_retries=0)
    assert worker._config.default_headers == {"x-team": "rivers", **given}
    assert worker._config.max_retries == 0


@kinds
def test_no_variable_of_ours_shows_the_key_of_a_worker(kind: Any) -> None:
    spec = ClientSpec(base_url="http://h.invalid")
    for make, wrong in (
        (ClientSpec, {"api_key": KEY}),
        (ClientSpec, {"timeout": -1, "default_headers": {"x-api-key": KEY}}),
        (ClientSpec, {"observers": [Locked()], "default_headers": {"x-api-key": KEY}}),
        (kind(KEY, base_url="http://h.invalid", observers=[Locked()]).spec, {}),
        (partial(built, spec, kind, api_key=KEY), {"timeout": -1}),
        (partial(built, spec, kind, api_key=KEY), {"proxy": "x"}),
        (partial(built, spec, kind, api_key=KEY), {"http_client": "x"}),
    ):
        with pytest.raises((ConfigurationError, TypeError)) as caught:
            make(**wrong)  # type: ignore[operator]
        assert KEY not in str(caught.value)
        trace = caught.value.__traceback__
        while trace is not None:
            if "/modelslab_llm/" in trace.tb_frame.f_code.co_filename:
                assert KEY not in repr(trace.tb_frame.f_locals)
            trace = trace.tb_next


WORKER = """
import os, pickle, sys
with pickle.load(sys.stdin.buffer).client() as client:
    print(client.messages.create(**%r).text, client.flow.limit)
"""


@pytest.mark.slow
def test_a_new_process_goes_by_its_own_environment(server: LocalServer) -> None:
    """It has nothing of ours but the bytes; the key comes from its environment."""
    spec = ModelsLab(KEY, endpoint=server.llm_v7(), max_concurrency=3).spec()
    ran = subprocess.run(
        [sys.executable, "-c", WORKER % ASK],
        input=pickle.dumps(spec),
        capture_output=True,
        env={"MODELSLAB_API_KEY": server.api_key or "", "PYTHONPATH": ":".join(sys.path)},
        check=True,
    )
    assert ran.stdout.decode().split() == ["You", "said:", "Hi.", "3"]
