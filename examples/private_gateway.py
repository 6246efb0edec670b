"""A gateway with a certificate from your company's own authority, behind a proxy.

python examples/private_gateway.py                     # no key: a simulated network, with TLS
MODELSLAB_API_KEY=… python examples/private_gateway.py --gateway https://llm.corp.example \\
    --ca /etc/ssl/corp.pem --proxy http://user:password@proxy.corp.example:3128

If `SSL_CERT_FILE` and `HTTPS_PROXY` are set, a plain `ModelsLab()` does the same.
"""

from __future__ import annotations

import argparse
import os
import shutil
import ssl

from _private_network import private_network

from modelslab_llm import APIConnectionError, DefaultHttpxClient, ModelsLab, endpoints

MODEL = os.environ.get("MODELSLAB_MODEL", "local-large")


def main() -> None:
    if os.environ.get("MODELSLAB_API_KEY"):
        parser = argparse.ArgumentParser()
        parser.add_argument("--gateway", required=True, help="its base URL")
        parser.add_argument("--ca", required=True, help="the authority's certificates, a PEM file")
        parser.add_argument("--proxy", help="its URL")
        given = parser.parse_args()
        ask(os.environ["MODELSLAB_API_KEY"], given.gateway, given.ca, given.proxy)
        return
    if shutil.which("openssl") is None:
        print("Nothing to show: openssl, which creates the certificates, is not installed.")
        return
    print("No MODELSLAB_API_KEY: a gateway, its certificate authority and a proxy run here.")
    with private_network() as network:
        ask(network.api_key, network.gateway, network.ca_file, network.proxy)
        print(f"Everything that the proxy saw: {network.seen}")
        ask_without_the_authority(network.api_key, network.gateway)


def ask(api_key: str, gateway: str, ca_file: str, proxy: str | None) -> None:
    # Trusts only this authority. To trust the public ones too, use `ssl.create_default_context()`
    # and then `.load_verify_locations(ca_file)`.
    trust = ssl.create_default_context(cafile=ca_file)
    # If the gateway requires a client certificate: trust.load_cert_chain("me.pem", "me.key")
    with (
        DefaultHttpxClient(verify=trust, proxy=proxy) as http,
        ModelsLab(api_key, endpoint=endpoints.gateway(gateway), http_client=http) as client,
    ):
        message = client.messages.create(
            model=MODEL,
            max_tokens=100,
            messages=[{"role": "user", "content": "Hello from inside!"}],
        )
        print(message.text)


def ask_without_the_authority(api_key: str, gateway: str) -> None:
    with ModelsLab(api_key, endpoint=endpoints.gateway(gateway)) as client:
        try:
            client.models.list()
        except APIConnectionError as error:  # at once: a retry would not change the certificate
            print(f"Refused: {error}")


if __name__ == "__main__":
    main()
