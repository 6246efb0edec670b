"""What our own connections do instead of httpx: read addresses, load certificates."""

from __future__ import annotations

import ssl
import sys
from pathlib import Path

import certifi
import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modelslab_llm._http.certificates import context_of
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
