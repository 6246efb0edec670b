"""A client that the caller brings, of httpx or of httpx2: all of it works, and nothing differs.

What is sent, what comes back and what fails must not depend on whose client carries it.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from http2_server import Http2Server
from libraries import client_of, each_library, module
from raw_server import (
    ASK,
    BEGUN,
    CLOSE,
    MESSAGE,
    REPLY,
    RESET,
    SILENCE,
    SSE,
    STREAM,
    RawServer,
    Script,
    failure,
    free_port,
    reply,
)
from variants import Async, Sync

from modelslab_llm import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AsyncModelsLab,
    ConfigurationError,
    DefaultAsyncHttpxClient,
    DefaultHttpxClient,
    ModelsLab,
    RateLimitError,
    StreamInterruptedError,
    Timeout,
    UnexpectedResponseError,
)

pytestmark = pytest.mark.slow

KEY = "key-that-nobody-may-see"


def ask(client: Any, verb: str) -> str:
    if verb == "create":
        return str(client.create(**ASK).text)
    with client.stream(**ASK) as streamed:
        return str(streamed.text())


each_verb = pytest.mark.parametrize("verb", ["create", "stream"])


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if not shutil.which("openssl"):
        pytest.skip("no openssl command to make a certificate with")
    return Authority(tmp_path_factory.mktemp("authority"))


# What is sent


def sent(variant: Sync | Async, verb: str, **options: Any) -> dict[str, str]:
    """Return the headers that a call brings to the server."""
    with RawServer(STREAM if verb == "stream" else REPLY) as server:
        with closing(variant.client(base_url=server.url, api_key=KEY, **options)) as client:
            assert ask(client, verb) == "Tamar"
        lines = server.heads()[0].decode().split("\r\n")
    names = [line.partition(":")[0].lower() for line in lines[1:]]
    assert len(names) == len(set(names))
    headers = dict(zip(names, (line.partition(": ")[2] for line in lines[1:]), strict=True))
    del headers["host"]  # another port each time
    return {"": lines[0], **headers}


@each_verb
@each_library
def test_the_same_headers_are_sent_whoever_sends_them(
    variant: Sync | Async, library: str, verb: str
) -> None:
    with client_of(library, variant) as http:
        theirs = sent(variant, verb, http_client=http)
    ours = sent(variant, verb)
    assert theirs == ours
    assert ours["accept-encoding"] == ("gzip, deflate" if verb == "create" else "identity")
    assert ours["connection"] == "keep-alive"


@each_verb
def test_a_header_or_a_hook_on_our_own_client_changes_nothing_else(
    variant: Sync | Async, verb: str
) -> None:
    ours = sent(variant, verb)
    kind = DefaultHttpxClient if isinstance(variant, Sync) else DefaultAsyncHttpxClient

    def hook(request: object) -> None: ...

    async def ahook(request: object) -> None: ...

    hooks: dict[str, Any] = {"request": [hook if isinstance(variant, Sync) else ahook]}
    for settings in ({"headers": {"x-team": "rivers"}}, {"event_hooks": hooks}):
        http: Any = kind(**settings)
        changed = sent(variant, verb, http_client=http)
        assert {name: value for name, value in changed.items() if name != "x-team"} == ours
        if isinstance(variant, Sync):
            http.close()
        else:
            variant.portal.call(http.aclose)


@each_library
def test_what_the_client_adds_is_sent(variant: Sync | Async, library: str) -> None:
    seen: list[str] = []

    def hook(request: Any) -> None:
        seen.append(type(request).__module__)

    async def ahook(request: Any) -> None:
        seen.append(type(request).__module__)

    settings: dict[str, Any] = {
        "headers": {"x-team": "rivers"},
        "cookies": {"c": "1"},
        "params": {"team": "rivers"},
        "event_hooks": {"request": [hook if isinstance(variant, Sync) else ahook]},
    }
    with client_of(library, variant, **settings) as http:
        headers = sent(variant, "create", http_client=http)
    assert (headers["x-team"], headers["cookie"]) == ("rivers", "c=1")
    assert headers[""] == "POST /v1/messages?team=rivers HTTP/1.1"
    assert seen == [library]


# What comes back


@each_verb
@each_library
def test_a_transport_of_the_caller(variant: Sync | Async, library: str, verb: str) -> None:
    theirs = module(library)

    def handler(request: Any) -> Any:
        body = [b'data: {"type":"content_block_delta","index":0,"delta":']
        body += [b'{"type":"text_delta","text":"Tamar"}}\n\ndata: {"type":"message_stop"}\n\n']
        if verb == "stream":
            return theirs.Response(200, headers=SSE, content=b"".join(body))
        return theirs.Response(200, json=MESSAGE)

    with client_of(library, variant, transport=theirs.MockTransport(handler)) as http:
        client = variant.client(base_url="http://nowhere.invalid", api_key=KEY, http_client=http)
        assert ask(client, verb) == "Tamar"


@each_library
def test_an_answer_is_decompressed_within_its_bounds(variant: Sync | Async, library: str) -> None:
    import zlib

    pack = zlib.compressobj(9, wbits=31)
    bomb = pack.compress(b" " * 20_000_000) + pack.flush()
    headers = {"content-encoding": "gzip"}
    with RawServer(reply(200, bomb, headers)) as server, client_of(library, variant) as http:
        client = variant.client(
            base_url=server.url, api_key=KEY, http_client=http, max_response_bytes=1_000_000
        )
        with pytest.raises(UnexpectedResponseError, match="max_response_bytes"):
            client.create(**ASK)


@each_library
def test_a_corrupt_body_that_is_too_large_leaves_nothing_behind(
    variant: Sync | Async, library: str
) -> None:
    """What is read after the end is the bytes, not what they stand for: else the look that ends
    the library's generators stops at the corruption, and the garbage collector finds them.
    """
    import gc
    import zlib

    pack = zlib.compressobj()
    corrupt = pack.compress(bytes(200_000)) + pack.flush(zlib.Z_SYNC_FLUSH) + b"\xff" * 1000
    headers = {"content-encoding": "deflate", "content-length": "100000"}
    begun = [reply(200, corrupt, headers), SILENCE]
    with RawServer(begun) as server, client_of(library, variant) as http:
        client = variant.client(
            base_url=server.url, api_key=KEY, http_client=http, max_response_bytes=100_000
        )
        with pytest.raises(UnexpectedResponseError, match="max_response_bytes"):
            client.create(**ASK)
        gc.collect()


@each_library
def test_its_connections_are_used_again_and_it_stays_open(
    variant: Sync | Async, library: str
) -> None:
    with RawServer(REPLY, STREAM, REPLY) as server, client_of(library, variant) as http:
        for verb in ("create", "stream", "create"):
            client = variant.client(base_url=server.url, api_key=KEY, http_client=http)
            assert ask(client, verb) == "Tamar"
            client.close()
        assert not http.is_closed
        assert len(server.connections) == 1


@each_library
def test_leaving_a_stream_tells_the_server(variant: Sync | Async, library: str) -> None:
    with RawServer([BEGUN, SILENCE]) as server, client_of(library, variant) as http:
        client = variant.client(base_url=server.url, api_key=KEY, http_client=http)
        with client.stream(**ASK) as streamed:
            assert next(streamed.texts()) == "Tamar"
        assert server.connections[0].left.wait(5)


@each_library
def test_http2(variant: Sync | Async, library: str, authority: Authority) -> None:
    """Ours do not speak it; a client of the caller may, and what stands below must not care."""
    settings: dict[str, Any] = {"http2": True, "verify": authority.client}
    with Http2Server(authority) as server, client_of(library, variant, **settings) as http:
        client = variant.client(base_url=server.url, api_key=KEY, http_client=http)
        for verb in ("create", "stream") * 2:
            assert ask(client, verb) == "Tamar"
        # httpcore's sync HTTP/2 gives two threads one stream now and then, before it is taken.
        with ThreadPoolExecutor(1 if variant.name == "sync" else 8) as threads:
            assert set(threads.map(lambda _: ask(client, "create"), range(24))) == {"Tamar"}
        assert server.versions == {"h2"}


@each_library
def test_a_socket_in_the_file_system(library: str, tmp_path: Path) -> None:
    theirs = module(library)
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor(1) as threads:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(65536)
                sock.sendall(REPLY)

        served = threads.submit(serve)
        transport = theirs.HTTPTransport(uds=path)
        with theirs.Client(transport=transport) as http:
            with ModelsLab(KEY, base_url="http://h.invalid", http_client=http) as client:
                assert client.messages.create(**ASK).text == "Tamar"
        served.result(10)


@each_library
def test_an_address_and_options_for_its_sockets(library: str) -> None:
    theirs = module(library)
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    transport = theirs.HTTPTransport(local_address="127.0.0.1", socket_options=options)
    with RawServer(REPLY) as server, theirs.Client(transport=transport) as http:
        with ModelsLab(KEY, base_url=server.url, http_client=http) as client:
            assert client.messages.create(**ASK).text == "Tamar"
        response = http.get(server.url)
        sock = response.extensions["network_stream"].get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert response.extensions["network_stream"].get_extra_info("server_addr")[1] == server.port


# What fails


FAILURES: dict[str, tuple[Script, str, type[APIError], str]] = {
    "closed": (CLOSE, "create", APIConnectionError, ""),
    "reset": (RESET, "create", APIConnectionError, ""),
    "no HTTP": ([b"\x00\x01 nonsense\r\n\r\n", CLOSE], "create", APIConnectionError, ""),
    "silence": (SILENCE, "create", APITimeoutError, "read"),
    "half a stream": ([BEGUN, CLOSE], "stream", StreamInterruptedError, ""),
    "a silent stream": ([BEGUN, SILENCE], "stream", APITimeoutError, "read"),
    "a limit": (failure(429), "create", RateLimitError, ""),
}


@each_library
@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_ours(variant: Sync | Async, library: str, name: str) -> None:
    script, verb, kind, phase = FAILURES[name]
    with RawServer(script) as server, client_of(library, variant) as http:
        client = variant.client(
            base_url=server.url,
            api_key=KEY,
            http_client=http,
            max_retries=0,
            timeout=Timeout(read=0.2),
        )
        with pytest.raises(APIError) as caught:
            ask(client, verb)
    assert type(caught.value) is kind
    assert getattr(caught.value, "phase", "") == phase
    assert caught.value.attempts == 1
    if verb == "stream":
        assert caught.value.partial_message is not None
        assert caught.value.partial_message.text == "Tamar"
    hidden: BaseException | None = caught.value.__cause__
    while hidden is not None:  # nothing behind it leads to the key
        assert hidden.__traceback__ is None
        if hasattr(hidden, "request"):
            assert KEY not in str(hidden.request.headers.raw)
        hidden = hidden.__cause__ or hidden.__context__


@each_library
def test_nobody_is_there(variant: Sync | Async, library: str) -> None:
    with client_of(library, variant) as http:
        client = variant.client(
            base_url=f"http://127.0.0.1:{free_port()}", api_key=KEY, http_client=http, max_retries=0
        )
        with pytest.raises(APIConnectionError, match="cannot connect: "):
            client.create(**ASK)


@each_library
def test_a_full_pool(variant: Sync | Async, library: str) -> None:
    limits = module(library).Limits(max_connections=1)
    with RawServer([BEGUN, SILENCE]) as server:
        with client_of(library, variant, limits=limits) as http:
            client = variant.client(
                base_url=server.url,
                api_key=KEY,
                http_client=http,
                max_retries=0,
                timeout=Timeout(pool=0.1),
            )
            with client.stream(**ASK), pytest.raises(APITimeoutError) as caught:
                client.create(**ASK)
    assert caught.value.phase == "pool"


@each_library
def test_a_closed_client_says_so(variant: Sync | Async, library: str) -> None:
    with RawServer(REPLY) as server:
        with client_of(library, variant) as http:
            client = variant.client(base_url=server.url, api_key=KEY, http_client=http)
        with pytest.raises(ConfigurationError, match="closed"):
            client.create(**ASK)


@each_library
def test_a_deadline_holds(variant: Sync | Async, library: str) -> None:
    with RawServer([BEGUN, SILENCE]) as server, client_of(library, variant) as http:
        client = variant.client(
            base_url=server.url, api_key=KEY, http_client=http, max_retries=0, deadline=0.2
        )
        with pytest.raises(APITimeoutError) as caught:
            ask(client, "create")
    assert caught.value.phase == "deadline"


# What is taken


@each_library
def test_timeouts_of_either_library_are_taken(library: str) -> None:
    timeout: Any = module(library).Timeout(5.0, read=60.0)
    with ModelsLab("k" * 9, timeout=timeout) as client:
        assert client._config.timeout == Timeout(connect=5, read=60, write=5, pool=5)


@each_library
def test_a_client_of_the_wrong_variant_is_refused(library: str) -> None:
    theirs = module(library)
    words = r"httpx\.AsyncClient or an httpx2\.AsyncClient"
    with theirs.Client() as http, pytest.raises(ConfigurationError, match=words):
        AsyncModelsLab("k" * 9, http_client=http)
    with pytest.raises(ConfigurationError, match=r"httpx\.Client or an httpx2\.Client"):
        ModelsLab("k" * 9, http_client=theirs.AsyncClient())


@pytest.mark.parametrize("wrong", [object(), "http://127.0.0.1", ModelsLab])
def test_anything_else_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="http_client must be"):
        ModelsLab("k" * 9, http_client=wrong)
    with pytest.raises(ConfigurationError, match="http_client must be"):
        AsyncModelsLab("k" * 9, http_client=wrong)


# Which libraries are loaded

ALIAS = """
import sys
from modelslab_llm.testing import LocalServer
server = LocalServer("one two")
"""

USE = """
import anyio
ask = dict(model="m", max_tokens=9, messages=[{"role": "user", "content": "Hi"}])

async def main(backend):
    async with server.async_client() as client:
        assert (await client.messages.create(**ask)).text == "one two"
        async with client.messages.stream(**ask) as stream:
            assert await stream.get_final_text() == "one two"

with server:
    with server.client() as client:
        assert client.messages.create(**ask).text == "one two"
        with client.messages.stream(**ask) as stream:
            assert stream.get_final_text() == "one two"
    for backend in ("asyncio", "trio"):
        anyio.run(main, backend, backend=backend)
    for kind in (httpx.Client, httpx2.Client):
        with kind() as http:
            client = modelslab_llm.ModelsLab(
                server.api_key, endpoint=server.llm_v7(), http_client=http
            )
            assert client.messages.create(**ask).text == "one two"
with modelslab_llm.ModelsLab("k", base_url="http://127.0.0.1:1", max_retries=0) as client:
    try:
        client.messages.create(**ask)
    except modelslab_llm.APIConnectionError as error:
        print(error.message)
"""


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


needs_httpx2 = pytest.mark.skipif(
    tuple(map(int, version("httpx2").split(".")[:2])) < (2, 10),
    reason="httpx2 has alias_httpx() from 2.10 on, which needs Python 3.11",
)


@pytest.mark.slow
@needs_httpx2
@pytest.mark.parametrize(
    "first",
    [
        "import httpx2; httpx2.alias_httpx(); import modelslab_llm, httpx",
        "import modelslab_llm, httpx2; httpx2.alias_httpx(); import httpx",
    ],
    ids=["before", "after"],
)
def test_httpx2_may_replace_httpx(first: str) -> None:
    """Also after `import modelslab_llm`, which loads httpx only where it needs it."""
    said = run(f"{first}\nassert httpx is httpx2\n{ALIAS}{USE}")
    assert said.startswith("cannot connect: [Errno")


@pytest.mark.slow
@needs_httpx2
def test_httpx2_may_still_stand_in_after_a_call() -> None:
    """Our own connections do not need httpx until the program loads it."""
    with RawServer(REPLY, REPLY) as server:
        said = run(
            "import sys, httpx2, modelslab_llm\n"
            f"client = modelslab_llm.ModelsLab('k' * 9, base_url={server.url!r})\n"
            "ask = dict(model='m', max_tokens=9, messages=[{'role': 'user', 'content': 'Hi'}])\n"
            "with client:\n"
            "    print(client.messages.create(**ask).text)\n"
            "    assert 'httpx' not in sys.modules\n"
            "    httpx2.alias_httpx()\n"
            "    assert sys.modules['httpx'] is httpx2\n"
            "    print(client.messages.create(**ask).text)\n"
        )
    assert said == "Tamar\nTamar\n"


def test_httpx2_is_not_loaded_unless_the_caller_brings_it() -> None:
    said = run(
        "import sys, modelslab_llm, httpx\n"
        "with httpx.Client() as http:\n"
        "    modelslab_llm.ModelsLab('k', http_client=http)\n"
        "with modelslab_llm.ModelsLab('k', base_url='http://127.0.0.1:1', max_retries=0) as c:\n"
        "    try: c.messages.create(model='m', max_tokens=1, messages='x')\n"
        "    except modelslab_llm.ModelsLabError: pass\n"
        "    try: c.models.list()\n"
        "    except modelslab_llm.APIConnectionError: pass\n"
        "print(sorted(n for n in sys.modules if n.startswith(('httpx2', 'httpcore2'))))"
    )
    assert said == "[]\n"
