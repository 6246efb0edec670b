"""What our own connections do without httpx, in processes that have not loaded it."""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import certifi
import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from matrix.faults import ROWS, Fault, Raises
from matrix.stage import KEY, staged
from patience import patient
from raw_server import ASK

from modelslab_llm._http.certificates import context_of
from modelslab_llm._http.libraries import errors, is_client
from modelslab_llm._http.own_wire import parsed

HOSTS = st.one_of(
    st.from_regex(r"[a-z0-9_-]{1,6}(\.[a-z0-9_-]{1,6}){0,2}", fullmatch=True),
    st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){3}", fullmatch=True),
    st.sampled_from(["[::1]", "Ab.example", "m\u00fcnchen.de", "a..b", "x--y", "127.1", "0x7f"]),
)
PORTS = st.one_of(st.just(""), st.integers(0, 70_000).map(lambda port: f":{port}"), st.just(":080"))
PATHS = st.lists(st.sampled_from(["v1", "a.b", "..", ".", "", "~x", "%41", "a b", "\u00e9", "m@1"]))


@pytest.mark.slow
@given(st.sampled_from(["http", "https"]), HOSTS, PORTS, PATHS, st.sampled_from(["", "?a=1", "#x"]))
@example("https", "modelslab.com", ":443", ["api", "v7", "llm"], "")
@example("http", "127.0.0.1", ":8080", ["v1", "messages"], "")
def test_an_address_is_read_as_httpx_reads_it(
    scheme: str, host: str, port: str, path: list[str], rest: str
) -> None:
    url = f"{scheme}://{host}{port}/{'/'.join(path)}{rest}"
    try:
        read = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        with pytest.raises(type(error)):
            parsed(url)
        return
    netloc = read.netloc.decode("ascii")
    expected = read.scheme, read.raw_host.decode("ascii"), read.port, netloc, read.raw_path
    assert parsed(url) == expected


@pytest.mark.parametrize("variable", [None, "SSL_CERT_FILE", "SSL_CERT_DIR"])
@pytest.mark.parametrize("trust_env", [True, False])
def test_the_certificates_are_those_of_httpx(
    variable: str | None, trust_env: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"):
        monkeypatch.delenv(name, raising=False)
    one = Path(certifi.where()).read_text(encoding="utf-8").split("-----END CERTIFICATE-----")[0]
    file = tmp_path / "5ad8a5d6.0"
    file.write_text(f"{one}-----END CERTIFICATE-----\n", encoding="utf-8")
    if variable is not None:
        monkeypatch.setenv(variable, str(file if variable == "SSL_CERT_FILE" else tmp_path))
    ours = context_of(True, None, trust_env=trust_env)
    theirs = httpx.create_ssl_context(trust_env=trust_env)
    assert facts(ours) == facts(theirs)


def facts(context: ssl.SSLContext) -> tuple[object, ...]:
    return (
        context.verify_mode,
        context.check_hostname,
        context.options,
        context.minimum_version,
        sys.version_info < (3, 13) or context.verify_flags,
        context.cert_store_stats(),
        sorted(map(str, context.get_ca_certs())),
    )


def is_plain(fault: Fault) -> bool:
    """Tell whether another process can make the call of a row from what JSON can say."""
    with contextlib.suppress(TypeError, ValueError):
        json.dumps([dict(fault.settings), dict(fault.asked)], allow_nan=False)
        is_simple = fault.stage in ("server", "nobody", "two servers") and not fault.before
        return (
            is_simple and fault.verb in ("create", "stream") and not (fault.closed or fault.asked)
        )
    return False


def ends(rows: Iterable[str]) -> list[str]:
    """Return the first and the last row of each family, which differ the most."""
    families: dict[str, list[str]] = {}
    for row in rows:
        families.setdefault(row.partition("/")[0], []).append(row)
    return [row for family in families.values() for row in dict.fromkeys((family[0], family[-1]))]


PLAIN = ends(name for name, fault in ROWS.items() if is_plain(fault))


@pytest.fixture(scope="module")
def bare_caller() -> Iterator[Callable[[dict[str, Any]], dict[str, Any]]]:
    program = Path(__file__).parents[1] / "support" / "bare_caller.py"
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        told, heard = process.stdin, process.stdout

        def call(asked: dict[str, Any]) -> dict[str, Any]:
            print(json.dumps(asked), file=told, flush=True)
            found: dict[str, Any] = json.loads(heard.readline())
            return found

        yield call
        told.close()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize(
    ("row", "is_async"), [(row, bool(at % 2)) for at, row in enumerate(PLAIN)], ids=PLAIN
)
@patient
def test_a_fault_in_a_program_without_httpx(
    bare_caller: Callable[[dict[str, Any]], dict[str, Any]], row: str, is_async: bool, unit: float
) -> None:
    """Each row in sync or asyncio: what is an error may not depend on what was loaded before it."""
    fault = ROWS[row]
    with staged(fault) as scene:
        limits = {name: value * unit for name, value in fault.limits.items()}
        settings = {"max_retries": 0, **fault.settings, **limits}
        settings |= {"api_key": KEY, "base_url": scene.url}
        found = bare_caller(
            {"asked": ASK, "settings": settings, "verb": fault.verb, "is_async": is_async}
        )
    if isinstance(fault.expected, Raises):
        assert found["error"] == fault.expected.error.__name__, found
        assert fault.expected.words in found["words"]
        assert KEY not in found["words"]
        if fault.expected.partial is not None:
            assert found["text"] is not None
    else:
        assert found["error"] is None, found


@pytest.mark.parametrize("library", ["httpx", "httpcore", "httpx2", "httpcore2"])
def test_a_library_that_another_thread_is_loading(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, ModuleType(library))
    assert all(issubclass(kind, Exception) for kind in errors())
    assert not is_client(object(), "Client")
