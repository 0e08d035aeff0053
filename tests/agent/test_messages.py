# SPDX-License-Identifier: Apache-2.0
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils.crypto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

from teraproof.errors import LocalError
from teraproof.protocol.messages import (
    Attestation,
    Ballot,
    Domain,
    OperatorConsent,
    Quote,
    digest,
    quote_nonce,
    recover,
    recover_signer,
    sign,
    typed_data,
)
from teraproof.protocol.terms import ZERO_ADDRESS, ZERO_WORD, Judged

KEY = Account.from_key(b"\x11" * 32)
OTHER = Account.from_key(b"\x22" * 32)
ORDER_OF_CURVE = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

u64 = st.integers(0, 2**64 - 1)
u256 = st.integers(0, 2**256 - 1)
words = st.binary(min_size=32, max_size=32)
addresses = st.binary(min_size=20, max_size=20).map(lambda b: "0x" + b.hex())
quotes = st.builds(Quote, addresses, addresses, words, u256, u256, u64, u64, u256, u256)
attestations = st.builds(Attestation, words, words, words, words, u64, u64)
consents = st.builds(OperatorConsent, addresses, addresses, u256, u64)
ballots = st.builds(Ballot, words, u256)
domains = st.builds(Domain, u256, addresses)

# The types as the design fixes them, written out here a second time on purpose.
TYPES: dict[str, list[tuple[str, str]]] = {
    "Quote": [
        ("address", "operator"),
        ("address", "requester"),
        ("bytes32", "spec"),
        ("uint256", "price"),
        ("uint256", "collateral"),
        ("uint64", "duration"),
        ("uint64", "expires"),
        ("uint256", "nonce"),
        ("uint256", "judged"),
    ],
    "Attestation": [
        ("bytes32", "job"),
        ("bytes32", "spec"),
        ("bytes32", "result"),
        ("bytes32", "receipt"),
        ("uint64", "started"),
        ("uint64", "finished"),
    ],
    "OperatorConsent": [
        ("address", "owner"),
        ("address", "operator"),
        ("uint256", "nonce"),
        ("uint64", "expires"),
    ],
    "Ballot": [("bytes32", "job"), ("uint256", "round")],
}


def independent(domain: Domain, message: Any) -> Any:
    return encode_typed_data(
        domain_data={
            "name": "Teraproof",
            "version": "1",
            "chainId": domain.chain_id,
            "verifyingContract": domain.contract,
        },
        message_types={
            message.TYPE: [{"name": n, "type": t} for t, n in TYPES[message.TYPE]],
        },
        message_data={n: getattr(message, n) for _, n in TYPES[message.TYPE]},
    )


@settings(max_examples=50)
@given(domains, st.one_of(quotes, attestations, consents, ballots))
def test_digest__any_message__equals_eth_account(domain: Domain, message: Any) -> None:
    theirs = independent(domain, message)
    assert domain.separator() == theirs.header
    assert message.struct_hash() == theirs.body
    assert digest(domain, message) == keccak(b"\x19\x01" + theirs.header + theirs.body)


@settings(max_examples=20)
@given(domains, st.one_of(quotes, attestations, consents, ballots))
def test_sign__any_message__recovers_and_equals_wallet(domain: Domain, message: Any) -> None:
    signature = sign(domain, message, KEY)
    assert len(signature) == 65
    assert recover(domain, message, signature) == KEY.address
    document = encode_typed_data(full_message=typed_data(domain, message))
    assert KEY.sign_message(document).signature == signature


DOMAIN = Domain(31_337, OTHER.address)
QUOTE = Quote(KEY.address, ZERO_ADDRESS, b"\x01" * 32, 5_000_000, 10**18, 3_600, 1_900_000_000, 4)


def test_recover__other_chain_or_contract__is_somebody_else() -> None:
    signature = sign(DOMAIN, QUOTE, KEY)
    assert recover(Domain(1, OTHER.address), QUOTE, signature) != KEY.address
    assert recover(Domain(31_337, KEY.address), QUOTE, signature) != KEY.address


def test_recover__malleable_signature__refused() -> None:
    signature = sign(DOMAIN, QUOTE, KEY)
    s = ORDER_OF_CURVE - int.from_bytes(signature[32:64], "big")
    twin = signature[:32] + s.to_bytes(32, "big") + bytes([55 - signature[64]])
    with pytest.raises(LocalError, match="upper half"):
        recover(DOMAIN, QUOTE, twin)


@pytest.mark.parametrize(
    ("signature", "line"),
    [
        (b"", "expected 65 bytes"),
        (bytes(66), "expected 65 bytes"),
        (bytes(65), "v is 0"),
        (bytes(64) + b"\x1b", "no key signs"),
        (b"\xff" * 32 + bytes(31) + b"\x01\x1b", "no key signs"),
    ],
)
def test_recover__malformed__one_line(signature: bytes, line: str) -> None:
    with pytest.raises(LocalError, match=line):
        recover(DOMAIN, QUOTE, signature)


@settings(max_examples=100)
@given(words, st.binary(min_size=65, max_size=65), st.sampled_from([27, 28]))
def test_recover_signer__noise__address_or_agent_error(signed: bytes, noise: bytes, v: int) -> None:
    try:
        found = recover_signer(signed, noise[:32] + b"\x00" + noise[33:64] + bytes([v]))
    except LocalError:
        return
    assert len(found) == 42


def test_quote__order__is_what_hire_makes_of_it() -> None:
    order = QUOTE.order()
    assert order.abi_tuple() == (
        QUOTE.spec,
        5_000_000,
        5_000_000,
        10**18,
        3_600,
        0,
        0,
        0,
        ZERO_WORD,
        int.from_bytes(QUOTE.struct_hash(), "big"),
        Judged.TRUSTED,
    )


def test_quote_nonce__consent_above_number() -> None:
    assert quote_nonce(3, 5) == 3 * 2**128 + 5
    assert quote_nonce(2**128 - 1, 2**128 - 1) == 2**256 - 1
    for consent, number in ((-1, 0), (2**128, 0), (0, -1), (0, 2**128)):
        with pytest.raises(LocalError, match=r"quote\.nonce: the .* does not fit in 128 bits"):
            quote_nonce(consent, number)


def test_message__bad_member__names_it() -> None:
    with pytest.raises(LocalError, match=r"quote\.operator: .* is not an address"):
        Quote("0x1", ZERO_ADDRESS, b"\x01" * 32, 1, 1, 1, 1, 1)
    with pytest.raises(LocalError, match=r"attestation\.result: expected 32 bytes"):
        Attestation(b"\x01" * 32, b"\x01" * 32, b"", b"\x01" * 32, 1, 1)
    with pytest.raises(LocalError, match=r"operatorconsent\.expires: .* uint64"):
        OperatorConsent(KEY.address, OTHER.address, 0, 2**64)
