# SPDX-License-Identifier: Apache-2.0
"""A node behind its owner's own authority: trusted when named, and reported when it is not."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from teraproof.rpc.client import RpcPool
from teraproof.rpc.errors import ChainError, Transport
from tests.agent.stub_node import CHAIN, StubNode

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A node with a certificate of its own; its URL, and the certificate."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        + ["-keyout", str(key), "-out", str(certificate), "-subj", "/CN=localhost"]
        + ["-addext", names],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    stub = StubNode()
    stub._server.socket = context.wrap_socket(stub._server.socket, server_side=True)
    with stub:
        yield stub.url.replace("http:", "https:"), certificate


def test_own_authority__not_named__the_cause_and_what_to_do(node: tuple[str, Path]) -> None:
    pool = RpcPool([node[0]], CHAIN, 2.0, max_wait=0, rounds=1)
    with pytest.raises(Transport, match=r"certificate that is not trusted.*chain\.ca_file"):
        pool.call("eth_chainId")
    pool.close()


def test_own_authority__named__trusted(node: tuple[str, Path]) -> None:
    pool = RpcPool([node[0]], CHAIN, 2.0, ca_file=node[1])
    assert pool.head().number == 100
    pool.close()


def test_own_authority__in_the_environment__trusted(
    node: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(node[1]))
    pool = RpcPool([node[0]], CHAIN, 2.0)
    assert pool.head().number == 100
    pool.close()


def test_ca_file__not_there__one_line(tmp_path: Path) -> None:
    with pytest.raises(ChainError, match=r"chain\.ca_file"):
        RpcPool(["https://127.0.0.1:1"], CHAIN, ca_file=tmp_path / "none.pem")
