"""The pytest plugin, in real runs of pytest: its fixtures, and the guard before real services.

Nothing can leave this machine, even where the guard fails: every proxy of the environment is a
port of this machine, and the one host that is asked without a proxy is `.invalid`.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

import pytest
from raw_server import MESSAGE, RawServer, reply

pytest_plugins = ["pytester"]

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
KEY = "ml-secret-0123456789"

ASKING = """
    import asyncio, threading, time
    import pytest
    from modelslab_llm import AsyncModelsLab, ModelsLab, ModelsLabError
    from modelslab_llm.testing import Failure

    ASK = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hello there"}]}
"""


@pytest.fixture(autouse=True)
def _nothing_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    for name in ("API_KEY", "AUTH_TOKEN", "BASE_URL", "CUSTOM_HEADERS"):
        monkeypatch.delenv(f"ANTHROPIC_{name}", raising=False)
    monkeypatch.setenv("MODELSLAB_API_KEY", KEY)


@pytest.fixture
def answering_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[RawServer]:
    """A stand-in for the whole world, for tests that may reach it by http://."""
    with RawServer(reply(200, MESSAGE)) as world:
        for name in PROXIES:
            monkeypatch.setenv(name, world.url)
        yield world


def run(
    pytester: pytest.Pytester, tests: str, *options: str, alone: bool = False
) -> pytest.RunResult:
    """Run a test module with the plugin loaded as an installed one is."""
    pytester.makepyfile(textwrap.dedent(ASKING) + textwrap.dedent(tests))
    # The quoted warning is pytest-asyncio's, of a setting that the run does not make.
    always = ("-W", "error", "-W", "default::pytest.PytestDeprecationWarning", "-p", "no:anyio")
    go = pytester.runpytest_subprocess if alone else pytester.runpytest_inprocess
    return go(*always, "-p", "no:asyncio", *options)


# Fixtures


def test_the_fixtures(pytester: pytest.Pytester) -> None:
    tests = """
    import unittest
    import anthropic

    def test_it_echoes(modelslab_client, modelslab_server):
        assert modelslab_client.messages.create(**ASK).text == "You said: Hello there"
        assert modelslab_client.endpoint.kind == "v7"
        (request,) = modelslab_server.requests
        assert request.headers["x-api-key"] == modelslab_server.api_key

    def test_the_environment_points_to_it(modelslab_server, monkeypatch):
        with ModelsLab() as client:
            assert client.messages.create(**ASK).text == "You said: Hello there"
        with anthropic.Anthropic() as client:
            assert client.messages.create(**ASK).content[0].text == "You said: Hello there"
            with pytest.raises(anthropic.NotFoundError) as caught:
                client.post("/v1/nothing", body={}, cast_to=object)
            assert caught.value.body["type"] == "error"
        monkeypatch.undo()
        ModelsLab().close()

    @pytest.mark.modelslab_server([Failure(401), "Paris."], api_key=None)
    def test_a_script_by_a_mark(modelslab_server, modelslab_client):
        with pytest.raises(ModelsLabError):
            modelslab_client.messages.create(**ASK)
        with ModelsLab() as client:
            assert client.messages.create(**ASK).text == "Paris."

    @pytest.mark.parametrize("text", ["one", pytest.param("two", id="2")])
    def test_parametrized(modelslab_client, modelslab_server, text):
        assert modelslab_client.messages.create(**ASK).text.endswith("there")

    class TestInAClass:
        def test_it(self, async_modelslab_client, modelslab_client):
            async def main():
                return await async_modelslab_client.messages.create(**ASK)
            assert asyncio.run(main()).text == asyncio.run(main()).text == "You said: Hello there"

    @pytest.mark.usefixtures("modelslab_server")
    class TestOfUnittest(unittest.TestCase):
        def test_it(self):
            with ModelsLab() as client:
                self.assertEqual(client.messages.create(**ASK).text, "You said: Hello there")

    def test_all_is_as_before():
        import os, threading
        assert os.environ["MODELSLAB_API_KEY"] == "ml-secret-0123456789"
        assert "MODELSLAB_BASE_URL" not in os.environ and "NO_PROXY" not in os.environ
        assert not [t for t in threading.enumerate() if "modelslab" in t.name]
    """
    run(pytester, tests, "--strict-markers").assert_outcomes(passed=8)


def test_a_script_function_that_raises_fails_the_test(pytester: pytest.Pytester) -> None:
    tests = """
    def script(request):
        assert request.body["max_tokens"] > 100, "too few tokens"
        return "unreachable"

    @pytest.mark.modelslab_server(script)
    def test_the_application_swallows_it(modelslab_client):
        try:
            modelslab_client.with_options(max_retries=0).messages.create(**ASK)
        except ModelsLabError:
            pass
    """
    result = run(pytester, tests)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E*AssertionError: too few tokens"])


ASYNC = """
    import gc, socket
    from modelslab_llm.testing import LocalServer

    def open_sockets():
        gc.collect()
        return [s for s in gc.get_objects() if isinstance(s, socket.socket)
                and s.family == socket.AF_INET and s.fileno() != -1]

    {mark}
    async def test_it(async_modelslab_client, modelslab_server):
        modelslab_server.script = ["A", "B C"]
        assert (await async_modelslab_client.messages.create(**ASK)).text == "A"
        async with async_modelslab_client.messages.stream(**ASK) as stream:
            assert [text async for text in stream.text_stream] == ["B ", "C"]
        assert open_sockets()

    {mark}
    async def test_a_stream_is_left_open(async_modelslab_client):
        stream = async_modelslab_client.messages.stream(**ASK)
        await stream.__aenter__()

    {mark}
    async def test_the_next(async_modelslab_client):
        await asyncio.sleep(0.01) if "trio" not in SLEEPS else None
        assert (await async_modelslab_client.messages.create(**ASK)).text

    def test_nothing_is_left():
        assert not open_sockets()
"""


@pytest.mark.parametrize(
    ("mark", "options", "passed"),
    [
        ("@pytest.mark.asyncio", ["-p", "asyncio", "--asyncio-mode=strict"], 4),
        ("@pytest.mark.asyncio(loop_scope='module')", ["-p", "asyncio"], 4),
        ("", ["-p", "asyncio", "--asyncio-mode=auto"], 4),
        ("@pytest.mark.anyio", ["-p", "anyio"], 7),  # on asyncio and on trio
        ("@with_asyncio_run", [], 4),
    ],
    ids=["strict", "module loop", "auto", "anyio", "no plugin"],
)
def test_the_async_client_leaves_nothing(
    pytester: pytest.Pytester, mark: str, options: list[str], passed: int
) -> None:
    helper = """
    import functools
    def with_asyncio_run(test):
        @functools.wraps(test)
        def run(*args, **kwargs):
            asyncio.run(test(*args, **kwargs))
        return run
    """
    tests = textwrap.dedent(helper) + textwrap.dedent(ASYNC.format(mark=mark))
    run(pytester, tests, *options, alone=True).assert_outcomes(passed=passed)
