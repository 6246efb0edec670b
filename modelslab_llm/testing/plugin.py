"""Give pytest a scripted server and its clients, and on request fail tests that would go online.

pytest loads this module in every project that has the package installed, so it must not load the
client, cost a test that does not use it anything, or change what other tests may do: the guard
works only in a project that asks for it. `-p no:modelslab` turns all of it off.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeAlias
from zlib import crc32

import pytest

from ._guard import Guard

if TYPE_CHECKING:
    from .. import AsyncModelsLab, ModelsLab
    from ._record.recording import Recording
    from ._serve.server import LocalServer

__all__ = [
    "async_modelslab_client",
    "modelslab_client",
    "modelslab_recording",
    "modelslab_server",
]

LIVE = "modelslab_live"
GUARD = "modelslab_guard"


# Fixtures


@pytest.fixture
def modelslab_server(request: pytest.FixtureRequest) -> Iterator[LocalServer]:
    """A running `LocalServer`, to which the environment points; it echoes until it has a script.

    Set `modelslab_server.script` in the test, or mark the test with what `LocalServer` takes:
    `@pytest.mark.modelslab_server(script="Paris.", pause=0.01)`. Until the test ends `ModelsLab()`
    and `anthropic.Anthropic()` find the server and its key in the environment. What a script
    function raises fails the test.
    """
    from ._serve.server import LocalServer

    server = LocalServer(**_marked(request, "modelslab_server"))
    with server, pytest.MonkeyPatch.context() as patch:
        _point_environment(patch, server)

        def verdict(error: BaseException | None) -> None:
            if errors := server.script_errors:
                raise errors[0]

        _verdicts(request).append(verdict)
        yield server


@pytest.fixture
def modelslab_client(modelslab_server: LocalServer) -> Iterator[ModelsLab]:
    """A `ModelsLab` at the `modelslab_server`; closed when the test ends."""
    with modelslab_server.client() as client:
        yield client


@pytest.fixture
def async_modelslab_client(modelslab_server: LocalServer) -> Iterator[AsyncModelsLab]:
    """An `AsyncModelsLab` at the `modelslab_server`; its connections are closed for you.

    The fixture itself is not async: it works with pytest-asyncio, with anyio's plugin and with
    `asyncio.run` or `trio.run` in the test, on whatever event loops the test uses the client.
    """
    client = modelslab_server.async_client()
    yield client
    client._http.close_from_outside()  # pyright: ignore[reportPrivateUsage]


@pytest.fixture
def modelslab_recording(request: pytest.FixtureRequest) -> Iterator[Recording]:
    """A `Recording` in `recordings/MODULE/TEST` beside the module of the test.

    It replays; with `MODELSLAB_RECORD=1` it records, the test may reach real services, and only a
    test that passes is saved. A marker passes options to `Recording`:
    `@pytest.mark.modelslab_recording(redact=["metadata.user_id"])`. A request that was not
    recorded, or an unused exchange, fails the test.
    """
    from ._record.recording import Recording
    from ._record.tape import RecordingError

    options = _marked(request, "modelslab_recording")
    folder = request.path.parent / "recordings" / request.path.stem
    name = _file_name(request.node.nodeid.partition("::")[2])
    recording = Recording(folder / name, **options)
    if recording.record:
        request.node.add_marker(LIVE)
    block = ExitStack()
    block.enter_context(recording)

    def verdict(error: BaseException | None) -> None:
        if isinstance(error, RecordingError):
            _cut_short(error)
        block.__exit__(type(error) if error else None, error, None)

    _verdicts(request).append(verdict)
    yield recording
    verdict(GeneratorExit())  # ends it silently if the test never began


def _cut_short(error: BaseException) -> None:
    """End a traceback where the application made the call: the rest does not explain the error."""
    last, step = None, error.__traceback__
    while step is not None:
        if step.tb_frame.f_globals.get("__name__", "").split(".")[0] not in _INSIDE:
            last = step
        step = step.tb_next
    if last is not None:
        last.tb_next = None


_INSIDE = ("modelslab_llm", "httpx")


def _marked(request: pytest.FixtureRequest, name: str) -> dict[str, Any]:
    item: pytest.Item = request.node
    mark = item.get_closest_marker(name)
    if mark and mark.args:
        raise pytest.UsageError(
            f"@pytest.mark.{name}(...) takes keyword arguments only: script=..., ..."
        )
    return dict(mark.kwargs) if mark else {}


def _file_name(test: str) -> str:
    """Return a name for a folder that every system takes, and no other test has.

    >>> _file_name("TestWeather::test_it[Paris]")
    'TestWeather.test_it[Paris]'
    >>> _file_name("test_it[a/b]"), _file_name("test_it[a:b]")
    ('test_it[a_b]-72e9065a', 'test_it[a_b]-680467c1')
    """
    plain = test.replace("::", ".")
    safe = re.sub(r"[^\w.,+=@()\[\]-]", "_", plain, flags=re.ASCII)[:100]
    return safe if safe == plain else f"{safe}-{crc32(test.encode()):08x}"


Verdict: TypeAlias = Callable[[BaseException | None], None]
"""Called when a test has ended, by an error or not; it raises what is to fail the test."""

_VERDICTS = pytest.StashKey[list[Verdict]]()


def _verdicts(request: pytest.FixtureRequest) -> list[Verdict]:
    item: pytest.Item = request.node
    return item.stash.setdefault(_VERDICTS, [])


def _point_environment(patch: pytest.MonkeyPatch, server: LocalServer) -> None:
    key = server.api_key or "any"  # the clients want one, even if the server does not
    values = {
        "MODELSLAB_BASE_URL": server.llm_v7().base_url,
        "MODELSLAB_API_KEY": key,
        "MODELSLAB_DEPLOYMENT_ID": None,  # would contradict the base URL
        "ANTHROPIC_BASE_URL": server.gateway().base_url,
        "ANTHROPIC_API_KEY": key,
        "ANTHROPIC_AUTH_TOKEN": None,
        "ANTHROPIC_CUSTOM_HEADERS": None,
    }
    # A proxy of the environment would be asked for this server too.
    direct = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    values["no_proxy"] = values["NO_PROXY"] = f"{direct},127.0.0.1" if direct else "127.0.0.1"
    for name, value in values.items():
        if value is None:
            patch.delenv(name, raising=False)
        else:
            patch.setenv(name, value)


# The guard


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of the ini file that turns the guard on."""
    text = "fail tests that would reach a real service of ModelsLab or Anthropic"
    parser.addini(GUARD, text, type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and begin to watch where the project asks for it."""
    for line in (
        f"{LIVE}: this test may reach real services of ModelsLab and Anthropic",
        "modelslab_server(script=..., **options): what the fixture's LocalServer is made with",
        "modelslab_recording(redact=..., **options): what the fixture's Recording is made with",
    ):
        config.addinivalue_line("markers", line)
    if config.getini(GUARD):
        config.pluginmanager.register(_Watch(), "modelslab-watch")


class _Watch:
    """Fail the test that runs when a request to a real service is about to leave.

    The request is stopped by pytest's own exception, which `except Exception` lets through. Should
    a thread, a task or an `except BaseException` keep it from the test, the report fails all the
    same. Between tests, as in hooks of other plugins, nothing is watched.
    """

    def __init__(self) -> None:
        self._item: pytest.Item | None = None
        self._refusals: dict[BaseException, str] = {}
        self._guard = Guard(self._refuse)
        self._guard.install()

    def pytest_unconfigure(self) -> None:
        self._guard.remove()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self._item = item

    pytest_runtest_call = pytest_runtest_teardown = pytest_runtest_setup

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, call: pytest.CallInfo[None]) -> None:
        self._item = None
        if call.when == "setup" and call.excinfo is None:
            return  # what a fixture asked for fails the test, which runs now, and not the fixture
        refusals, self._refusals = self._refusals, {}
        if refusals and not (call.excinfo and call.excinfo.value in refusals):
            text = _said(refusals.values(), call.excinfo)
            call.excinfo = _as_raised(pytest.fail.Exception(text, pytrace=False))

    def _refuse(self, request: str, place: str) -> None:
        if self._item and not self._item.get_closest_marker(LIVE):
            asked = f"{request}, asked for at {place}" if place else request
            refusal = pytest.fail.Exception(_said([asked]), pytrace=False)
            self._refusals[refusal] = asked
            raise refusal


def _said(asked: Iterable[str], ended: pytest.ExceptionInfo[BaseException] | None = None) -> str:
    lines = ["this test would have reached a real service: " + "; ".join(dict.fromkeys(asked))]
    if ended:
        (end, *_) = ended.exconly().splitlines()
        lines.append(f"(The request was blocked; the test continued, and ended with {end})")
    return "\n".join([*lines, _CURE])


def _as_raised(error: BaseException) -> pytest.ExceptionInfo[BaseException]:
    try:
        raise error
    except BaseException:  # noqa: BLE001 - it is the one raised above
        return pytest.ExceptionInfo.from_current()


_CURE = f"""\
To test against a scripted server, use the fixture modelslab_server: clients without an endpoint,
base_url or deployment_id of their own find it by the environment, others need
endpoint=modelslab_server.llm_v7() and api_key=modelslab_server.api_key.
If the test is meant to reach the service, mark it @pytest.mark.{LIVE}. (The guard is on because
of {GUARD} in pytest's ini file.)"""


# What a fixture has to say of its test


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Fail a test of which a fixture finds that it went wrong, whether or not the test saw it.

    Said at the end of a fixture it would be an error beside a test that passed.
    """
    if call.when == "teardown" and _VERDICTS in item.stash:
        del item.stash[_VERDICTS]  # the item may be run again
    if call.when != "call":
        return
    for verdict in item.stash.get(_VERDICTS, list[Verdict]()):
        error = call.excinfo.value if call.excinfo else None
        try:
            verdict(error)
        except BaseException as found:  # noqa: BLE001 - any, as of a script function
            found.__context__ = error if error is not found else None
            call.excinfo = pytest.ExceptionInfo.from_current()
