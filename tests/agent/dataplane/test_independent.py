# SPDX-License-Identifier: Apache-2.0
"""A tenant's end written from docs/data-plane.md alone, and any bytes that a stranger may send."""

from __future__ import annotations

import hashlib
import json
import ssl
import struct
import time
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from teraproof.errors import LocalError
from teraproof.protocol.dataplane import Hello, Proof, Request, What, parse_exit_code, parse_size
from tests.agent.dataplane.conftest import DOMAIN, LEASE, Rig, bare

TYPES = {
    "PlaneCertificate": [
        {"name": "operator", "type": "address"},
        {"name": "certificate", "type": "bytes32"},
        {"name": "expires", "type": "uint64"},
    ],
    "LeaseDelegate": [
        {"name": "lease", "type": "bytes32"},
        {"name": "delegate", "type": "address"},
        {"name": "expires", "type": "uint64"},
    ],
    "LeaseStream": [
        {"name": "lease", "type": "bytes32"},
        {"name": "certificate", "type": "bytes32"},
        {"name": "nonce", "type": "bytes32"},
        {"name": "request", "type": "bytes32"},
    ],
}


def signable(kind: str, message: dict[str, Any]) -> Any:
    domain = {
        "name": "Teraproof",
        "version": "1",
        "chainId": DOMAIN.chain_id,
        "verifyingContract": DOMAIN.contract,
    }
    return encode_typed_data(domain, {kind: TYPES[kind]}, message)


def send(link: ssl.SSLSocket, kind: int, data: bytes) -> None:
    link.sendall(struct.pack(">BI", kind, len(data)) + data)


def take(link: ssl.SSLSocket) -> tuple[int, bytes]:
    def exactly(size: int) -> bytes:
        found = b""
        while len(found) < size:
            piece = link.recv(size - len(found))
            assert piece, "the connection ended"
            found += piece
        return found

    kind, size = struct.unpack(">BI", exactly(5))
    return kind, exactly(size)


@pytest.mark.parametrize("delegated", [True, False])
def test_page__is_enough_to_get_a_stream(rig: Rig, delegated: bool) -> None:
    rig.start().serve()
    with bare(rig.port) as link:
        kind, data = take(link)
        assert kind == 0
        hello = json.loads(data)
        digest = hashlib.sha256(link.getpeercert(binary_form=True) or b"").digest()
        assert hello["certificate"] == "0x" + digest.hex() and hello["version"] == 1
        assert time.time() < hello["expires"] <= time.time() + 7 * 86_400 + 5
        said = {
            "operator": rig.operator.address,
            "certificate": digest,
            "expires": hello["expires"],
        }
        signature = bytes.fromhex(hello["signature"][2:])
        signer = Account.recover_message(signable("PlaneCertificate", said), signature=signature)
        assert signer == rig.operator.address == hello["operator"]

        key = Account.create() if delegated else rig.tenant
        wanted = {"lease": "0x" + LEASE.hex(), "what": "port", "service": "web", "port": 8080}
        opened = json.dumps(wanted, indent=2).encode()  # any JSON: its bytes are what counts
        stream = {
            "lease": LEASE,
            "certificate": digest,
            "nonce": bytes.fromhex(hello["nonce"][2:]),
            "request": hashlib.sha256(opened).digest(),
        }
        proof: dict[str, Any] = {"signature": sign(key, "LeaseStream", stream)}
        if delegated:
            expires = int(time.time()) + 4 * 3_600
            given_word = {"lease": LEASE, "delegate": key.address, "expires": expires}
            proof |= {
                "delegate": key.address,
                "expires": expires,
                "delegation": sign(rig.tenant, "LeaseDelegate", given_word),
            }
        send(link, 1, opened)
        send(link, 2, json.dumps(proof).encode())
        assert take(link)[0] == 3
        send(link, 5, b"hello")
        assert take(link) == (5, b"hello")
        send(link, 10, b"")
        send(link, 7, b"")
        assert take(link) == (7, b"")


def sign(account: Any, kind: str, message: dict[str, Any]) -> str:
    return "0x" + bytes(account.sign_message(signable(kind, message)).signature).hex()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner),
    max_leaves=8,
)
NAMES = sorted(
    {*Request.__dataclass_fields__, *Proof.__dataclass_fields__, *Hello.__dataclass_fields__}
    | {"version"}
)
FORMS = (
    st.sampled_from([*What, "0x" + "11" * 32, "0x" + "22" * 20, "0x" + "33" * 65, "tls"])
    | st.integers(-1, 2**64)
    | JSON
)


@given(st.binary(max_size=300) | st.dictionaries(st.sampled_from(NAMES), FORMS).map(json.dumps))
def test_any_bytes__give_a_document_or_one_kind_of_error(data: bytes | str) -> None:
    sent = data if isinstance(data, bytes) else data.encode()
    for parse in (Request.parse, Proof.parse, Hello.parse, parse_size, parse_exit_code):
        try:
            parse(sent)
        except LocalError as error:
            assert str(error).isprintable() and len(str(error)) < 500


@given(
    st.sampled_from([what for what in What if what is not What.PUBLISH]),
    st.text(max_size=63),
    st.integers(0, 1_000),
    st.integers(0, 65_535),
    st.lists(st.text(max_size=20), max_size=4).map(tuple),
    st.booleans(),
)
def test_request__is_read_as_it_was_written(
    what: What, service: str, number: int, port: int, command: tuple[str, ...], tty: bool
) -> None:
    made = Request(
        LEASE, what, service, number, port, tty, port, command, tty, number, port % 10_001
    )
    assert Request.parse(made.encoded()) == made
