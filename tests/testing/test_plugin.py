"""The pytest plugin, in real runs of pytest: its fixtures, and the guard before real services.

Nothing can leave this machine, even where the guard fails: every proxy of the environment is a
port of this machine, and the one host that is asked without a proxy is `.invalid`.
"""

from __future__ import annotations

import re
import sys
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
    from modelslab_llm.testing import ErrorReply

    ASK = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hello there"}]}
"""


@pytest.fixture(autouse=True)
def _nothing_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    for name in ("API_KEY", "AUTH_TOKEN", "BASE_URL", "CUSTOM_HEADERS"):
        monkeypatch.delenv(f"ANTHROPIC_{name}", raising=False)
    monkeypatch.setenv("MODELSLAB_API_KEY", KEY)
    monkeypatch.setenv("COLUMNS", "500")  # so that pytest's summary is not cut


@pytest.fixture
def answering_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[RawServer]:
    """A stand-in for the whole world, for tests that may reach it by http://."""
    with RawServer(reply(200, MESSAGE)) as world:
        for name in PROXIES:
            monkeypatch.setenv(name, world.url)
        yield world


def run(
    pytester: pytest.Pytester,
    tests: str,
    *options: str,
    alone: bool = False,
    uses: str = "",
    guarded: bool = True,
) -> pytest.RunResult:
    """Run a test module with the plugin, and of those for async with the one that it `uses`."""
    pytester.makepyfile(textwrap.dedent(ASKING) + textwrap.dedent(tests))
    always = ["-W", "error", "-o", f"modelslab_guard={guarded}"]
    for name in {"asyncio", "anyio"} - {uses}:
        always += ["-p", f"no:{name}"]
    if uses == "asyncio":  # which warns where this is not set
        always += ["-o", "asyncio_default_fixture_loop_scope=function"]
    go = pytester.runpytest_subprocess if alone else pytester.runpytest_inprocess
    return go(*always, *options)


# Fixtures


@pytest.mark.slow
def test_the_fixtures(pytester: pytest.Pytester) -> None:
    tests = """
    import unittest
    import anthropic

    def test_it_echoes(modelslab_client, modelslab_server):
        assert modelslab_client.messages.create(**ASK).text == "You said: Hello there"
        assert modelslab_client.endpoint.name == "v7"
        (request,) = modelslab_server.requests
        assert request.headers["x-api-key"] == modelslab_server.api_key

    def test_the_environment_points_to_it(modelslab_server, monkeypatch):
        with ModelsLab() as client:
            assert client.messages.create(**ASK).text == "You said: Hello there"
            with pytest.raises(ModelsLabError, match="temperature"):  # as v7 would
                client.messages.create(**ASK, temperature=1.5)
        with anthropic.Anthropic() as client:
            assert client.messages.create(**ASK).content[0].text == "You said: Hello there"
            with pytest.raises(anthropic.NotFoundError) as caught:
                client.post("/v1/nothing", body={}, cast_to=object)
            assert caught.value.body["type"] == "error"
        monkeypatch.undo()
        ModelsLab().close()

    @pytest.mark.modelslab_server(script=[ErrorReply(401), "Paris."], api_key=None)
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

    def test_of_proxies_nobody_asks_for_it(monkeypatch, request):
        import os
        monkeypatch.setenv("NO_PROXY", "corp.invalid")
        request.getfixturevalue("modelslab_server")
        assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == "corp.invalid,127.0.0.1"

    def test_all_is_as_before():
        import os, threading
        assert os.environ["MODELSLAB_API_KEY"] == "ml-secret-0123456789"
        assert "MODELSLAB_BASE_URL" not in os.environ and "NO_PROXY" not in os.environ
        assert not [t for t in threading.enumerate() if "modelslab" in t.name]
    """
    run(pytester, tests, "--strict-markers").assert_outcomes(passed=9)


def test_a_script_function_that_raises_fails_the_test(pytester: pytest.Pytester) -> None:
    tests = """
    def script(request):
        assert request.body["max_tokens"] > 100, "too few tokens"
        return "unreachable"

    @pytest.mark.modelslab_server(script=script)
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
    import anyio
    from modelslab_llm.testing import LocalServer

    def open_sockets():
        gc.collect()
        return [s for s in gc.get_objects() if type(s) is socket.socket
                and s.family == socket.AF_INET and s.fileno() != -1 and id(s) not in BEFORE]

    BEFORE = ()
    BEFORE = {{id(s) for s in open_sockets()}}

    {mark}
    async def test_it(async_modelslab_client, modelslab_server):
        modelslab_server.script = ["A", "B C"]
        assert (await async_modelslab_client.messages.create(**ASK)).text == "A"
        async with async_modelslab_client.messages.stream(**ASK) as stream:
            assert [text async for text in stream.text_stream] == ["B ", "C"]
        assert open_sockets()

    {mark}
    async def test_the_next(async_modelslab_client):
        assert (await async_modelslab_client.messages.create(**ASK)).text

    {mark}
    async def test_nothing_is_left():
        for _ in range(3):  # a loop that goes on closes them when it runs again
            await anyio.sleep(0)
        assert not open_sockets()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mark", "uses", "options", "passed"),
    [
        ("@pytest.mark.asyncio", "asyncio", ["--asyncio-mode=strict"], 3),
        ("@pytest.mark.asyncio(loop_scope='module')", "asyncio", [], 3),
        ("", "asyncio", ["--asyncio-mode=auto"], 3),
        ("@pytest.mark.anyio", "anyio", [], 6),  # on asyncio and on trio
        ("@with_asyncio_run", "", [], 3),
    ],
    ids=["strict", "module loop", "auto", "anyio", "no plugin"],
)
def test_the_async_client_leaves_nothing(
    pytester: pytest.Pytester, mark: str, uses: str, options: list[str], passed: int
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
    run(pytester, tests, *options, uses=uses).assert_outcomes(passed=passed)


RECORDED = """
    import os
    RECORDING = os.environ.get("MODELSLAB_RECORD") == "1"

    def ask(recording, text):
        with recording.client(base_url="http://modelslab.com/api/v7/llm") as client:
            said = ASK | {"messages": [{"role": "user", "content": text}]}
            return client.messages.create(**said).id
"""

KEPT = """
    @pytest.mark.parametrize("text", ["one", "two/three"])
    def test_it(modelslab_recording, text):
        assert ask(modelslab_recording, text) == "msg_1"

    def test_that_fails_is_not_recorded(modelslab_recording):
        ask(modelslab_recording, "one")
        assert not RECORDING
"""


@pytest.mark.slow
def test_a_recording_is_made_once_and_replayed(
    pytester: pytest.Pytester, answering_proxy: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSLAB_RECORD", "1")
    run(pytester, RECORDED + KEPT, alone=True).assert_outcomes(passed=2, failed=1)
    assert answering_proxy.requests == 3
    folder = pytester.path / "recordings" / "test_a_recording_is_made_once_and_replayed"
    names = [found.name for found in sorted(folder.iterdir())]
    assert names == ["test_it[one]", "test_it[two_three]-3ce11023"]
    saved = "".join(found.read_text() for found in folder.rglob("*") if found.is_file())
    assert "msg_1" in saved
    assert KEY not in saved
    monkeypatch.delenv("MODELSLAB_RECORD")
    monkeypatch.delenv("MODELSLAB_API_KEY")
    run(pytester, RECORDED + KEPT, "-k", "test_it").assert_outcomes(passed=2)
    assert answering_proxy.requests == 3


DRIFTED = """
    def swallow(recording, text):
        try:
            ask(recording, text if RECORDING else "something else")
        except Exception:
            pass

    def test_drift(modelslab_recording):
        swallow(modelslab_recording, "one")

    def test_drift_and_failure(modelslab_recording):
        swallow(modelslab_recording, "one")
        assert RECORDING, "there is more"

    def test_unused(modelslab_recording):
        if RECORDING:
            swallow(modelslab_recording, "one")

    @pytest.mark.modelslab_recording(unused="ignore")
    def test_unused_is_fine(modelslab_recording):
        if RECORDING:
            swallow(modelslab_recording, "one")

    def test_skipped(modelslab_recording):
        if not RECORDING:
            pytest.skip("not today")
        swallow(modelslab_recording, "one")

    @pytest.fixture
    def prepared(modelslab_recording):
        assert RECORDING, "it cannot be prepared"

    def test_that_never_runs(modelslab_recording, prepared):
        swallow(modelslab_recording, "one")

    def test_let_through(modelslab_recording):
        ask(modelslab_recording, "one" if RECORDING else "something else")
"""


@pytest.mark.slow
def test_drift_from_a_recording_fails_the_test(
    pytester: pytest.Pytester, answering_proxy: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSLAB_RECORD", "1")
    run(pytester, RECORDED + DRIFTED, "--strict-markers", alone=True).assert_outcomes(passed=7)
    monkeypatch.delenv("MODELSLAB_RECORD")
    result = run(pytester, RECORDED + DRIFTED)
    result.assert_outcomes(passed=1, skipped=1, failed=4, errors=1)
    result.stdout.fnmatch_lines(
        [
            "FAILED *::test_drift - *RecordingError: *",
            "FAILED *::test_drift_and_failure - *RecordingError: *",
            "FAILED *::test_unused - *RecordingError: *",
            "ERROR *::test_that_never_runs - AssertionError: it cannot be prepared*",
        ]
    )
    assert "AssertionError: there is more" in result.stdout.str()
    _, _, shown = result.stdout.str().partition("_ test_let_through _")
    shown, _, _ = shown.partition("short test summary")
    assert "in ask" in shown or "def ask" in shown  # the application's own, and nothing below it
    assert "_drive" not in shown
    assert "handle_request" not in shown


# The guard

REACHING = """
    import anthropic, anyio, httpx, trio, unittest
    from modelslab_llm import DefaultAioHttpClient, DefaultHttpxClient, endpoints

    def test_sync():
        ModelsLab().messages.create(**ASK)

    def test_a_gguf_deployment():
        ModelsLab(endpoint=endpoints.gguf("dep_1")).messages.create(**ASK)

    def test_http():
        ModelsLab(endpoint=endpoints.llm_v7(origin="http://eu.modelslab.com:81")).models.list()

    def test_a_client_of_ones_own():
        with httpx.Client() as http:
            ModelsLab(http_client=http).messages.create(**ASK)

    def test_without_a_proxy():
        with DefaultHttpxClient(trust_env=False) as http:
            ModelsLab(http_client=http, base_url="http://gpu.invalid:8080").messages.create(**ASK)

    async def ask(**settings):
        async with AsyncModelsLab(**settings) as client:
            async with client.messages.stream(**ASK) as stream:
                await stream.get_final_message()

    def test_asyncio():
        asyncio.run(ask())

    def test_trio():
        trio.run(ask)

    def test_in_a_task_group():
        async def main():
            async with anyio.create_task_group() as group:
                group.start_soon(ask)
        anyio.run(main)

    def test_aiohttp():
        async def main():
            async with DefaultAioHttpClient() as http:
                await ask(http_client=http)
        asyncio.run(main())

    def test_anthropic():
        with anthropic.Anthropic(api_key="ml-secret-0123456789") as client:
            client.messages.create(**ASK)

    def test_anthropic_in_async():
        async def main():
            async with anthropic.AsyncAnthropic(api_key="ml-secret-0123456789") as client:
                await client.messages.create(**ASK)
        asyncio.run(main())

    def test_a_thread():
        thread = threading.Thread(target=test_sync)
        thread.start()
        thread.join()

    def test_swallowed():
        for _ in range(3):
            try:
                test_sync()
            except:
                pass

    def test_gathered():
        async def main():
            await asyncio.gather(ask(), ask(), return_exceptions=True)
        asyncio.run(main())

    def test_swallowed_and_failed():
        test_swallowed()
        assert 1 == 2

    def test_swallowed_and_skipped():
        test_swallowed()
        pytest.skip("there is no network")

    @pytest.fixture
    def asked():
        test_swallowed()

    def test_swallowed_in_a_fixture(asked):
        pass

    class TestOfUnittest(unittest.TestCase):
        def test_unittest(self):
            test_sync()

        def test_swallowed_in_unittest(self):
            test_swallowed()

    @pytest.mark.xfail(strict=True)
    def test_expected_to_fail():
        test_sync()

    def test_what_is_not_real():
        with httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(204))) as http:
            http.get("https://modelslab.com")
        with pytest.raises(httpx.ConnectError), httpx.Client() as http:  # the proxy is not there
            http.get("http://gpu.invalid:9200")

    def test_mocked(httpx_mock):
        httpx_mock.add_response(json={"type": "message", "content": []})
        with ModelsLab() as client:
            assert client.messages.create(**ASK).content == []
"""


@pytest.mark.slow
def test_the_guard_fails_what_would_reach_a_service(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it is asked for, and whatever the application makes of the exception."""
    monkeypatch.setenv("MODELSLAB_BASE_URL", "http://GPU.invalid:8080/v1")
    at = {
        "test_a_gguf_deployment": "POST https://modelslab.com",
        "test_http": "GET http://eu.modelslab.com:81",
        "test_anthropic": "POST https://api.anthropic.com",
        "test_anthropic_in_async": "POST https://api.anthropic.com",
    }
    result = run(pytester, REACHING, "-rA", "--showlocals")
    result.assert_outcomes(passed=2, xfailed=1, failed=19)
    said = re.findall(r"^FAILED .*::(\w+) - Failed: (.*)$", result.stdout.str(), re.MULTILINE)
    assert len(said) == 19
    for name, line in said:
        asked = at.get(name, "POST http://gpu.invalid:8080")
        start = f"this test would have reached a real service: {asked}, asked for at "
        assert line.startswith(start), line
        assert re.search(r"\.py:\d+ in (ask|main|test_\w+)$", line), line
    shown = result.stdout.str() + result.stderr.str()
    assert KEY not in shown
    assert "ended with AssertionError: assert 1 == 2" in shown
    assert "@pytest.mark.modelslab_live" in shown


LIVE = """
    def test_it():
        client = ModelsLab(base_url="http://modelslab.com/api/v7/llm")
        with client:
            assert client.messages.create(**ASK).id == "msg_1"
"""
MARKED = "\n    pytestmark = pytest.mark.modelslab_live\n" + LIVE


@pytest.mark.modelslab_live  # as the plugin watches this very test too
def test_what_lets_a_test_through(pytester: pytest.Pytester, answering_proxy: RawServer) -> None:
    run(pytester, LIVE).assert_outcomes(failed=1)
    assert answering_proxy.requests == 0
    run(pytester, MARKED, "--strict-markers").assert_outcomes(passed=1)
    run(pytester, LIVE, guarded=False).assert_outcomes(passed=1)
    assert answering_proxy.requests == 2


@pytest.mark.modelslab_live
def test_a_project_that_does_not_ask_for_the_guard_is_left_alone(
    pytester: pytest.Pytester, answering_proxy: RawServer
) -> None:
    """Installing the package must not fail another project's tests of a live service."""
    pytester.makepyfile(textwrap.dedent(ASKING) + textwrap.dedent(LIVE))
    pytester.runpytest_inprocess("-W", "error", "-p", "no:asyncio").assert_outcomes(passed=1)
    pytester.makeini("[pytest]\nmodelslab_guard = true")
    ran = pytester.runpytest_inprocess("-W", "error", "-p", "no:asyncio", "--strict-config")
    ran.assert_outcomes(failed=1)
    assert answering_proxy.requests == 1


@pytest.mark.slow
def test_it_watches_what_a_test_loads_late_and_hides_nothing(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a separate process that has not loaded any HTTP library when the test begins."""
    pytester.makepyfile(
        """
        import sys

        def test_it():
            assert not {"httpx", "httpcore", "pydantic", "anyio", "aiohttp"} & sys.modules.keys()
            import importlib.util, pkgutil
            loader = importlib.util.find_spec("aiohttp").loader  # as of any module not loaded yet
            assert loader.is_package("aiohttp") and loader.get_source("aiohttp")
            assert pkgutil.get_data("httpcore", "py.typed") == b""
            del sys.modules["httpcore"]
            from modelslab_llm import ModelsLab
            ModelsLab().models.list()

        def test_the_loaded_modules_are_as_ever():
            import importlib.resources, inspect
            import httpcore
            import h11  # which nobody watches
            assert type(httpcore.__loader__) is type(httpcore.__spec__.loader)
            assert type(httpcore.__loader__) is type(h11.__loader__)
            assert inspect.getsource(httpcore).startswith("from ._api")
            assert importlib.resources.files(httpcore).joinpath("py.typed").is_file()
        """
    )
    options = ("-W", "error", "-p", "modelslab_llm.testing.plugin")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    result = pytester.runpytest_subprocess(*options, "-o", "modelslab_guard=true")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*would have reached a real service: GET https://modelslab.com,*"])


@pytest.mark.slow
def test_pytest_does_not_warn_where_the_package_was_loaded_before_it(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile("def test_it(modelslab_client): pass")
    # `-p` marks a module for rewriting as pytest does with all modules of an installed plugin.
    options = ["-W", "error", "-p", "no:asyncio", "-p", "modelslab_llm"]
    program = f"import modelslab_llm, pytest; pytest.main({options})"
    pytester.run(sys.executable, "-c", program).assert_outcomes(passed=1)


def test_the_hosts_of_the_environment_at_the_start_count_too(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    tests = """
    def test_it(monkeypatch):
        monkeypatch.delenv("ANTHROPIC_BASE_URL")
        ModelsLab(base_url="http://gpu.invalid:8080").models.list()
    """
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://gpu.invalid:8080")
    run(pytester, tests).assert_outcomes(failed=1)


def test_a_run_leaves_the_libraries_as_they_were(pytester: pytest.Pytester) -> None:
    import httpcore

    before = (list(sys.meta_path), httpcore.ConnectionPool.handle_request)
    run(pytester, LIVE).assert_outcomes(failed=1)
    assert before == (list(sys.meta_path), httpcore.ConnectionPool.handle_request)


@pytest.mark.slow
def test_with_xdist(pytester: pytest.Pytester, answering_proxy: RawServer) -> None:
    """The guard of real services is active in the workers too."""
    tests = f"""{LIVE}
    @pytest.mark.modelslab_live
    def test_live():
        test_it()

    def test_the_fixture(modelslab_client):
        assert modelslab_client.messages.create(**ASK).text
    """
    result = run(pytester, tests, "-n", "2", alone=True)
    result.assert_outcomes(passed=2, failed=1)
    assert answering_proxy.requests == 1
    result.stdout.fnmatch_lines(["FAILED *Failed: this test would have reached a real service*"])
