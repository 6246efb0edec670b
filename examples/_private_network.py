"""Simulate a company network on this machine for `private_gateway.py`; copy nothing from here.

It has a certificate authority, created with the command `openssl`, a gateway with a certificate
from it, and a proxy.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from modelslab_llm.testing import LocalServer


@dataclass(frozen=True)
class Network:
    """The settings of the network, and the requests that the proxy has seen."""

    api_key: str
    gateway: str
    proxy: str
    ca_file: str
    seen: list[str] = field(default_factory=list[str])
    """The first line of each request to the proxy."""


@contextmanager
def private_network() -> Generator[Network]:
    """Run the network in a thread while the block lasts."""
    with ExitStack() as stack:
        server = stack.enter_context(LocalServer())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        make_certificates(folder)
        gateway, proxy = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
        network = Network(
            str(server.api_key),
            f"https://127.0.0.1:{port_of(gateway)}/gateway",
            f"http://127.0.0.1:{port_of(proxy)}",
            str(folder / "ca.pem"),
        )
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(folder / "gateway.pem", folder / "gateway.key")
        behind = int(server.url.rpartition(":")[2])
        stop = threading.Event()

        async def serve() -> None:
            servers = [
                await asyncio.start_server(partial(carry, port=behind), sock=gateway, ssl=tls),
                await asyncio.start_server(partial(connect, seen=network.seen), sock=proxy),
            ]
            await asyncio.to_thread(stop.wait)
            for each in servers:
                each.close()

        thread = threading.Thread(target=asyncio.run, args=[serve()])
        thread.start()
        stack.callback(thread.join)
        stack.callback(stop.set)
        yield network


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


async def connect(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: list[str]
) -> None:
    """Act as a proxy: open a tunnel to the port the client asks for, on this machine only."""
    head = await reader.readuntil(b"\r\n\r\n")
    seen.append(head.split(b"\r\n")[0].decode())
    port = int(seen[-1].split()[1].rpartition(":")[2])
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    await carry(reader, writer, port)


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    """Copy bytes both ways between a client and a local port until one side ends."""
    other_reader, other_writer = await asyncio.open_connection("127.0.0.1", port)
    ways = [
        asyncio.ensure_future(pump(reader, other_writer)),
        asyncio.ensure_future(pump(other_reader, writer)),
    ]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        for end in writer, other_writer:
            end.transport.abort()


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()


def make_certificates(folder: Path) -> None:
    """Create `ca.pem`, and `gateway.pem` with `gateway.key`, signed by it, for 127.0.0.1."""
    new_key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    (folder / "gateway.ext").write_text(
        "subjectAltName=IP:127.0.0.1\n"
        "basicConstraints=CA:FALSE\n"
        "subjectKeyIdentifier=hash\n"
        "authorityKeyIdentifier=keyid\n"
    )
    for command in (
        f"req -x509 {new_key} -keyout ca.key -out ca.pem -days 2 -subj /CN=Example-CA"
        " -addext keyUsage=critical,keyCertSign",
        f"req -new {new_key} -keyout gateway.key -out gateway.csr -subj /CN=gateway",
        "x509 -req -in gateway.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2"
        " -extfile gateway.ext -out gateway.pem",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
