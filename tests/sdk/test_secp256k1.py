# SPDX-License-Identifier: Apache-2.0
"""Signatures are the same with coincurve and without it."""

from __future__ import annotations

import random

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data
from eth_utils.crypto import keccak

from teraproof.market.signers import KeySigner
from teraproof.protocol import messages, secp256k1
from teraproof.protocol.channels import Voucher, channels_domain

DICE = random.Random(11)
ACCOUNT = Account.from_key(DICE.randbytes(32))


def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secp256k1, "curve", None)


def test_coincurve__is_there() -> None:
    """The gateway and the agent need it: with pure Python a voucher takes 20 ms."""
    assert secp256k1.curve is not None


def test_sign__same_bytes_and_signer_in_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = [DICE.randbytes(32) for _ in range(50)] + [bytes(32), b"\xff" * 32]
    quick = [secp256k1.sign(ACCOUNT, digest) for digest in digests]
    pairs = list(zip(digests, quick, strict=True))
    assert {secp256k1.signer(*pair) for pair in pairs} == {ACCOUNT.address}
    slow(monkeypatch)
    assert [secp256k1.sign(ACCOUNT, digest) for digest in digests] == quick
    assert {secp256k1.signer(*pair) for pair in pairs} == {ACCOUNT.address}


def test_signer__of_any_65_bytes__same_in_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    edges = (bytes(32), bytes(31) + b"\x01", b"\xff" * 32)
    found = [r + s + v for r in edges for s in edges for v in (b"\x1b", b"\x1c")]
    found += [DICE.randbytes(64) + bytes([27 + n % 2]) for n in range(200)]
    digest = DICE.randbytes(32)
    quick = [secp256k1.signer(digest, one) for one in found]
    assert 0 < quick.count(None) < len(quick)
    slow(monkeypatch)
    assert [secp256k1.signer(digest, one) for one in found] == quick


def test_key_signer__signs_as_eth_account_does() -> None:
    domain, message = channels_domain(31337), Voucher(DICE.randbytes(32), 7)
    typed = encode_typed_data(full_message=messages.typed_data(domain, message))
    for said in (encode_defunct(text="hello"), encode_defunct(b"x" * 300), typed):
        assert KeySigner(ACCOUNT, "me").sign_message(said) == ACCOUNT.sign_message(said)
    assert keccak(b"\x19" + typed.version + typed.header + typed.body) == messages.digest(
        domain, message
    )
