"""The private names of other libraries that the package relies on are there, and do what they did.

A test that fails here is about a new version of httpx or httpcore: `_http/private.py` says what is
lost with each name, and is the only place to change.
"""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import httpcore
import httpx
import pytest
from aiohttp.client_proto import ResponseHandler
from libraries import each_library, goes_straight, module

import modelslab_llm
from modelslab_llm import DefaultAioHttpClient, DefaultAsyncHttpxClient, DefaultHttpxClient
from modelslab_llm._http import private
from modelslab_llm._http.network import AsyncNetwork, Settings
from modelslab_llm._http.transports import AsyncPooledTransport, PooledTransport

HTTP = Path(modelslab_llm.__file__).parent / "_http"


@each_library
def test_a_transport_sends_through_the_pool_it_names(library: str) -> None:
    theirs = module(library)
    for kind, method in (
        (theirs.HTTPTransport, "handle_request"),
        (theirs.AsyncHTTPTransport, "handle_async_request"),
    ):
        transport = kind(verify=False)
        assert hasattr(transport, private.POOL)
        assert hasattr(getattr(transport, private.POOL), private.BACKEND)
        assert f"self.{private.POOL}.{method}(" in inspect.getsource(getattr(kind, method))
    assert hasattr(PooledTransport(Settings()), private.POOL)
    assert hasattr(AsyncPooledTransport(AsyncNetwork(Settings())), private.POOL)


@each_library
def test_a_client_holds_its_transports_under_these_names(library: str) -> None:
    theirs = module(library)
    for kind in (theirs.Client, theirs.AsyncClient):
        http = kind(transport=theirs.MockTransport(lambda request: theirs.Response(200)))
        assert isinstance(vars(http)[private.TRANSPORT], theirs.MockTransport)
        assert vars(http)[private.MOUNTS] == {}
        assert [name for name in private.SENDING if not hasattr(kind, name)] == []


@each_library
def test_what_a_library_made_is_known_as_such(library: str) -> None:
    theirs = module(library)
    for kind in (theirs.Client, theirs.AsyncClient):
        assert all(private.is_as_made(vars(kind)[name]) for name in private.SENDING)
    assert private.is_as_made(theirs.HTTPTransport.handle_request)
    assert private.is_as_made(httpcore.ConnectionPool.handle_request)
    assert not private.is_as_made(test_what_a_library_made_is_known_as_such)


def test_our_own_clients_go_the_short_way() -> None:
    """As long as nobody stands in it; else every request is slower, and nobody would notice."""
    assert goes_straight(DefaultHttpxClient())
    assert goes_straight(DefaultAsyncHttpxClient())
    assert goes_straight(DefaultAioHttpClient())


def test_what_aiohttp_reads_with_has_a_limit_that_can_be_taken_off() -> None:
    assert isinstance(vars(ResponseHandler)[private.READ_TIMEOUT], property)
    assert vars(ResponseHandler)[private.READ_TIMEOUT].fset is not None
    assert callable(vars(ResponseHandler)[private.START_TIMEOUT])


@each_library
def test_the_pools_of_a_callers_client_are_found(library: str) -> None:
    theirs = module(library)
    mounts = {"https://": theirs.HTTPTransport(verify=False)}
    with theirs.Client(verify=False, mounts=mounts) as http:
        assert len(private.pools_of(http)) == 2
    with theirs.Client(transport=theirs.MockTransport(lambda request: None)) as mocked:
        assert private.pools_of(mocked) == []


def test_where_the_names_are_gone_it_is_slower_and_as_correct(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("TRANSPORT", "MOUNTS", "POOL", "BACKEND", "READ_TIMEOUT", "START_TIMEOUT"):
        monkeypatch.setattr(private, name, "_gone")
    with httpx.Client(verify=False) as http:
        assert private.pools_of(http) == []
    with DefaultHttpxClient() as ours:
        assert not goes_straight(ours)


def attributes(path: Path) -> dict[str, set[str]]:
    """Return the private attributes that a module uses of others than its own objects."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("self", "cls")
    }
    own |= {
        name.id
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and isinstance(name := node.target, ast.Name)
    }
    found: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        private_name = isinstance(node, ast.Attribute) and node.attr.startswith("_")
        if private_name and not node.attr.startswith("__"):  # type: ignore[union-attr]
            attribute: Any = node
            if attribute.attr not in own:
                found.setdefault(attribute.attr, set()).add(ast.unparse(attribute))
    return found


@pytest.mark.parametrize("path", sorted(HTTP.glob("*.py")), ids=lambda path: path.stem)
def test_no_private_name_of_another_library_is_used_elsewhere(path: Path) -> None:
    found = attributes(path)
    assert found == {}, f"{path.name} uses {found}: put it into private.py, with what is lost"
