# SPDX-License-Identifier: Apache-2.0
"""Every door takes every encoding of a signature, and hands on the contracts' own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_account import Account
from eth_account.messages import encode_defunct
from hypothesis import given, settings
from hypothesis import strategies as st

from provider_agent.http.limits import ApiLimits
from teraproof.errors import LocalError
from teraproof.protocol import jobspec, messages, signatures, siwe
from teraproof.protocol.errors import Code
from tests.agent.api_rig import (
    CHAIN_ID,
    JOBS,
    OPERATOR,
    STRANGER,
    TENANT,
    WALLET,
    FixedPrice,
    Rig,
    code_of,
    http,
    make_spec,
    serve,
)
from tests.support.codes import fails_as
from tests.support.signatures import N, encodings, others

WRAPPED = bytes.fromhex("6492" * 16)
FACTORY = "0x" + "fa" * 20


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with serve(Rig(tmp_path_factory.mktemp("api"), ApiLimits(auth_burst=500))) as rig:
        yield rig


@pytest.fixture
def rig(running: Rig) -> Rig:
    running.wallet_signer, running.desk = None, FixedPrice()
    return running


def sign_in(rig: Rig, form: Any, account: str = TENANT.address, key: Any = TENANT) -> Any:
    """Sign in with `form(signature)` as the signature."""
    nonce = http.post(rig.url + "/v1/auth/nonce").json()["nonce"]
    text = siwe.new_message(rig.url, account, CHAIN_ID, nonce, int(time.time())).text()
    made = bytes(key.sign_message(encode_defunct(text=text)).signature)
    return http.post(rig.url + "/v1/auth/login", json={"message": text, "signature": form(made)})


def wrap(inner: bytes) -> str:
    """What a wallet signs whose contract is not deployed yet (ERC-6492)."""
    return (encode(["address", "bytes", "bytes"], [FACTORY, b"make", inner]) + WRAPPED).hex()


@settings(max_examples=6)
@given(st.integers(1, N - 1), st.binary(min_size=32, max_size=32))
def test_normalised__every_encoding__one_form_and_its_signer(key: int, digest: bytes) -> None:
    account = Account.from_key(key.to_bytes(32, "big"))
    signature = bytes(account.unsafe_sign_hash(digest).signature)
    for form in encodings(signature):
        assert signatures.normalised(signatures.read(form)) == signature
    assert messages.recover_signer(digest, signature) == account.address
    for form in others(signature):
        with pytest.raises(LocalError):
            messages.recover_signer(digest, signatures.normalised(signatures.read(form)))


@given(st.binary(max_size=80))
def test_normalised__any_bytes__65_of_them_or_refused(data: bytes) -> None:
    try:
        found = signatures.normalised(data)
    except LocalError:
        assert len(data) not in (64, 65)
    else:
        assert len(found) == 65 and found[:32] == data[:32]
        assert signatures.normalised(found) == found


def test_sign_in__every_encoding__taken_of_the_right_key_alone(rig: Rig) -> None:
    for number in range(15):
        assert sign_in(rig, lambda made, n=number: encodings(made)[n]).status_code == 200
    for number in range(0, 15, 5):
        answer = sign_in(rig, lambda made, n=number: encodings(made)[n], key=STRANGER)
        assert code_of(answer) is Code.SIGNATURE_INVALID


def test_sign_in__any_other_form__refused(rig: Rig) -> None:
    for number in range(10):
        answer = sign_in(rig, lambda made, n=number: others(made)[n])
        assert code_of(answer) in (Code.SIGNATURE_INVALID, Code.FIELD_INVALID)


def test_sign_in__contract_wallet__its_own_bytes_unchanged(rig: Rig) -> None:
    rig.wallet_signer = OPERATOR.address
    assert sign_in(rig, lambda made: made.hex(), WALLET, OPERATOR).status_code == 200
    # This wallet takes a v of 27 or 28 alone: what it gets is what was sent.
    low = sign_in(rig, lambda made: (made[:64] + bytes([made[64] - 27])).hex(), WALLET, OPERATOR)
    assert code_of(low) is Code.SIGNATURE_INVALID
    assert code_of(sign_in(rig, lambda made: made.hex(), WALLET)) is Code.SIGNATURE_INVALID


def test_sign_in__counterfactual_form_of_a_deployed_wallet__its_part_is_asked(rig: Rig) -> None:
    rig.wallet_signer = OPERATOR.address
    assert sign_in(rig, wrap, WALLET, OPERATOR).status_code == 200
    assert code_of(sign_in(rig, wrap, WALLET, STRANGER)) is Code.SIGNATURE_INVALID


def test_sign_in__wallet_not_deployed__told_what_to_do(rig: Rig) -> None:
    answer = sign_in(rig, wrap, WALLET, OPERATOR)
    assert code_of(answer) is Code.WALLET_UNDEPLOYED
    # A key's account cannot be signed for in this way either.
    assert code_of(sign_in(rig, wrap)) is Code.WALLET_UNDEPLOYED


def test_sign_in__counterfactual_form_that_is_none__refused(rig: Rig) -> None:
    for data in (b"", b"\xff" * 96, encode(["address"], [FACTORY]), bytes(3_000)):
        answer = sign_in(rig, lambda made, d=data: (d + WRAPPED).hex())
        assert code_of(answer) is Code.SIGNATURE_INVALID


class OtherForm(FixedPrice):
    """An agent that writes its signatures as `form` does."""

    def __init__(self, form: Callable[[bytes], str]) -> None:
        self.form = form

    def issue(
        self, requester: str, spec: jobspec.JobSpec, judged: int = 0
    ) -> tuple[messages.Quote, bytes]:
        quote, signature = super().issue(requester, spec, judged)
        return quote, bytes.fromhex(self.form(signature).lower().removeprefix("0x"))


def form_of(forms: Callable[[bytes], list[str]], number: int, made: bytes) -> str:
    return forms(made)[number]


def test_quote__however_the_agent_writes_it__as_the_contract_takes_it(rig: Rig) -> None:
    spec = make_spec({})
    with rig.client() as client:
        client.upload_spec(spec)
        for number in range(0, 15, 5):
            rig.desk = OtherForm(partial(form_of, encodings, number))
            quote, signature = client.quote(spec, JOBS)
            assert signature == messages.sign(JOBS, quote, OPERATOR)
        for number in range(5):
            rig.desk = OtherForm(partial(form_of, others, number))
            with fails_as(Code.QUOTE_INVALID):
                client.quote(spec, JOBS)
