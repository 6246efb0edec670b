"""An untrusted certificate, created on the spot."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

CERTIFICATE, KEY = "certificate.pem", "key.pem"


class Authority:
    """A certificate for 127.0.0.1 that signs itself, and the two contexts it is for."""

    def __init__(self, folder: Path) -> None:
        self.file, key = folder / CERTIFICATE, folder / KEY
        key_kind = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1"  # rsa may take a second
        command = f"openssl req -x509 {key_kind} -nodes -days 2 -subj /CN=test"
        names = ["-addext", "subjectAltName=IP:127.0.0.1"]
        files = ["-keyout", str(key), "-out", str(self.file)]
        subprocess.run([*command.split(), *names, *files], check=True, capture_output=True)
        self.server = server_context(folder)
        self.client = ssl.create_default_context(cafile=str(self.file))


def server_context(folder: Path) -> ssl.SSLContext:
    """Return the server's context for the certificate that an `Authority` made there."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / CERTIFICATE, folder / KEY)
    return context
