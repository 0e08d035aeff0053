# SPDX-License-Identifier: Apache-2.0
"""The test dollar: mint, permit, and EIP-3009 with both forms of a signature."""

from __future__ import annotations

from typing import Any

import boa
import pytest
from eth_abi.abi import encode
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak

from tests.contracts.actions import event, go_to, now, permit
from tests.contracts.deploy import USD, ZERO_ADDRESS, Contract, account_of, address_of, deployer_of

HOLDER = account_of("token holder")
RECEIVER = address_of("token receiver")
NONCE = keccak(text="nonce")
FAR = 2**256 - 1
MEMBERS = [
    ("from", "address"),
    ("to", "address"),
    ("value", "uint256"),
    ("validAfter", "uint256"),
    ("validBefore", "uint256"),
    ("nonce", "bytes32"),
]
TRANSFER, RECEIVE, CANCEL = (
    "TransferWithAuthorization",
    "ReceiveWithAuthorization",
    "CancelAuthorization",
)
WITH_BYTES = {
    TRANSFER: (
        "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)",
        ["address", "address", "uint256", "uint256", "uint256", "bytes32", "bytes"],
    ),
    RECEIVE: (
        "receiveWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)",
        ["address", "address", "uint256", "uint256", "uint256", "bytes32", "bytes"],
    ),
    CANCEL: ("cancelAuthorization(address,bytes32,bytes)", ["address", "bytes32", "bytes"]),
}


@pytest.fixture
def dollar() -> Contract:
    token = deployer_of("testnet/PaymentToken").deploy()
    token.mint(HOLDER.address, 100 * USD)
    return token


def authorization(**changes: Any) -> dict[str, Any]:
    """The usual authorization with some members changed."""
    usual = {
        "from": HOLDER.address,
        "to": RECEIVER,
        "value": 30 * USD,
        "validAfter": 0,
        "validBefore": FAR,
        "nonce": NONCE,
    }
    return usual | changes


def sign(token: Contract, kind: str, message: dict[str, Any], signer: LocalAccount = HOLDER) -> Any:
    """An EIP-712 signature over the token's own domain."""
    (_, name, version, chain_id, address, *_rest) = token.eip712Domain()
    members = MEMBERS if kind != CANCEL else [("authorizer", "address"), ("nonce", "bytes32")]
    return signer.sign_typed_data(
        {"name": name, "version": version, "chainId": chain_id, "verifyingContract": str(address)},
        {kind: [{"name": member, "type": of} for member, of in members]},
        message,
    )


def call(
    token: Contract, kind: str, message: dict[str, Any], signed: Any, sender: str, form: str
) -> Any:
    """Send an authorization in one of the two forms; the reason when it is refused."""
    values = list(message.values())
    if form == "bytes":
        signature, kinds = WITH_BYTES[kind]
        data = keccak(text=signature)[:4] + encode(kinds, [*values, bytes(signed.signature)])
        result = boa.env.execute_code(to_address=token.address, sender=sender, data=data)
        if result.is_error:
            return reason_of(result.output)
        token._computation = result
        return None
    method = {
        TRANSFER: token.transferWithAuthorization,
        RECEIVE: token.receiveWithAuthorization,
        CANCEL: token.cancelAuthorization,
    }[kind]
    try:
        r, s = (part.to_bytes(32, "big") for part in (signed.r, signed.s))
        method(*values, signed.v, r, s, sender=sender)
    except boa.BoaError as error:
        return error.stack_trace.last_frame.pretty_vm_reason
    return None


def reason_of(output: bytes) -> str:
    """The words of an `Error(string)`."""
    length = int.from_bytes(output[36:68], "big")
    return output[68 : 68 + length].decode()


both_forms = pytest.mark.parametrize("form", ["parts", "bytes"])
both_kinds = pytest.mark.parametrize("kind", [TRANSFER, RECEIVE])


# ------------------------------------------------------------------ what it is


def test_type_hashes__those_of_the_standard(dollar: Contract) -> None:
    """The constants that the ERC prints."""
    assert dollar.TRANSFER_WITH_AUTHORIZATION_TYPEHASH().hex() == (
        "7c7c6cdb67a18743f49ec6fa9b35f50d52ed05cbed4cc592e13b44501c1a2267"
    )
    assert dollar.RECEIVE_WITH_AUTHORIZATION_TYPEHASH().hex() == (
        "d099cc98ef71107a616c4f0f941f04c322d8e254fe26b3c6668db87aae413de8"
    )
    assert dollar.CANCEL_AUTHORIZATION_TYPEHASH().hex() == (
        "158b0a9edf7a828aad02f63cd515c68ef2f50ba807396f6d12842833a1597429"
    )


def test_mint__by_anyone(dollar: Contract, stranger: str) -> None:
    dollar.mint(stranger, 5, sender=stranger)
    assert dollar.balanceOf(stranger) == 5
    assert (dollar.name(), dollar.symbol(), dollar.decimals()) == ("Test Dollar", "tUSD", 6)


def test_permit__sets_the_allowance(dollar: Contract, stranger: str) -> None:
    dollar.permit(
        HOLDER.address, stranger, 7, FAR, *permit(dollar, HOLDER, stranger, 7, FAR), sender=stranger
    )
    assert dollar.allowance(HOLDER.address, stranger) == 7


# ---------------------------------------------------------------- authorizations


@both_forms
@both_kinds
def test_authorization__moves_tokens_once(dollar: Contract, kind: Any, form: Any) -> None:
    message = authorization()
    signed = sign(dollar, kind, message)
    assert not dollar.authorizationState(HOLDER.address, NONCE)
    assert call(dollar, kind, message, signed, RECEIVER, form) is None
    assert event(dollar, "AuthorizationUsed") == {"authorizer": HOLDER.address, "nonce": NONCE}
    assert event(dollar, "Transfer") == {
        "sender": HOLDER.address,
        "receiver": RECEIVER,
        "value": 30 * USD,
    }
    assert dollar.balanceOf(RECEIVER) == 30 * USD
    assert dollar.authorizationState(HOLDER.address, NONCE)
    for again in ("parts", "bytes"):
        assert call(dollar, kind, message, signed, RECEIVER, again) == (
            "payment token: authorization is used or canceled"
        )


@both_forms
def test_transfer__sent_by_anyone__receive__by_the_receiver_only(
    dollar: Contract, stranger: str, form: Any
) -> None:
    message = authorization()
    assert call(dollar, RECEIVE, message, sign(dollar, RECEIVE, message), stranger, form) == (
        "payment token: caller is not the receiver"
    )
    assert call(dollar, TRANSFER, message, sign(dollar, TRANSFER, message), stranger, form) is None


@both_forms
@both_kinds
def test_authorization__of_the_other_kind__refused(dollar: Contract, kind: Any, form: Any) -> None:
    other = TRANSFER if kind == RECEIVE else RECEIVE
    message = authorization()
    assert call(dollar, kind, message, sign(dollar, other, message), RECEIVER, form) == (
        "payment token: invalid signature"
    )


@both_forms
@both_kinds
@pytest.mark.parametrize(
    "change",
    [
        {"from": address_of("stranger")},
        {"to": address_of("stranger")},
        {"value": 31 * USD},
        {"validAfter": 1},
        {"validBefore": FAR - 1},
        {"nonce": bytes(32)},
    ],
)
def test_authorization__changed__refused(
    dollar: Contract, kind: Any, form: Any, change: Any
) -> None:
    signed = sign(dollar, kind, authorization())
    changed = authorization(**change)
    sender = changed["to"]
    assert call(dollar, kind, changed, signed, sender, form) == "payment token: invalid signature"


@both_forms
@both_kinds
def test_authorization__times__exact(dollar: Contract, kind: Any, form: Any) -> None:
    """After the one and before the other, as the ERC says."""
    start, end = now() + 100, now() + 200
    message = authorization(validAfter=start, validBefore=end)
    signed = sign(dollar, kind, message)
    go_to(start)
    early = call(dollar, kind, message, signed, RECEIVER, form)
    assert early == "payment token: authorization is not yet valid"
    go_to(end)
    late = call(dollar, kind, message, signed, RECEIVER, form)
    assert late == "payment token: authorization is expired"
    go_to(end - 1)
    assert call(dollar, kind, message, signed, RECEIVER, form) is None


@both_forms
@both_kinds
def test_authorization__more_than_there_is__nonce_stays(
    dollar: Contract, kind: Any, form: Any
) -> None:
    message = authorization(value=100 * USD + 1)
    signed = sign(dollar, kind, message)
    assert call(dollar, kind, message, signed, RECEIVER, form) is not None
    assert not dollar.authorizationState(HOLDER.address, NONCE)


@both_forms
def test_authorization__of_another_token__refused(dollar: Contract, form: Any) -> None:
    other = deployer_of("testnet/PaymentToken").deploy()
    message = authorization()
    assert call(dollar, TRANSFER, message, sign(other, TRANSFER, message), RECEIVER, form) == (
        "payment token: invalid signature"
    )


def test_authorization__nobody_speaks_for_the_zero_address(dollar: Contract, stranger: str) -> None:
    """A signature that recovers to nobody is not that of nobody."""
    message = list(authorization(**{"from": ZERO_ADDRESS, "value": 0}).values())
    with boa.reverts("ecdsa: invalid signature"):
        dollar.transferWithAuthorization(*message, 27, bytes(32), bytes(32), sender=stranger)
    signature, kinds = WITH_BYTES[CANCEL]
    data = keccak(text=signature)[:4] + encode(kinds, [ZERO_ADDRESS, NONCE, b""]) + bytes(96)
    result = boa.env.execute_code(to_address=dollar.address, sender=stranger, data=data)
    assert reason_of(result.output) == "payment token: invalid signature"


@both_forms
def test_cancel__makes_it_unusable(dollar: Contract, stranger: str, form: Any) -> None:
    message = {"authorizer": HOLDER.address, "nonce": NONCE}
    signed = sign(dollar, CANCEL, message)
    assert call(dollar, CANCEL, message, signed, stranger, form) is None
    assert event(dollar, "AuthorizationCanceled") == message
    assert dollar.authorizationState(HOLDER.address, NONCE)
    payment = authorization()
    for kind in (TRANSFER, RECEIVE):
        assert call(dollar, kind, payment, sign(dollar, kind, payment), RECEIVER, form) == (
            "payment token: authorization is used or canceled"
        )
    assert call(dollar, CANCEL, message, signed, stranger, form) == (
        "payment token: authorization is used or canceled"
    )


@both_forms
def test_cancel__by_another__refused(dollar: Contract, stranger: str, form: Any) -> None:
    message = {"authorizer": HOLDER.address, "nonce": NONCE}
    signed = sign(dollar, CANCEL, message, account_of("stranger"))
    assert call(dollar, CANCEL, message, signed, stranger, form) == (
        "payment token: invalid signature"
    )
    assert not dollar.authorizationState(HOLDER.address, NONCE)


# ------------------------------------------------------------- the default function


@pytest.mark.parametrize("length", [0, 64, 66])
def test_bytes__wrong_length__refused(dollar: Contract, length: int) -> None:
    signature, kinds = WITH_BYTES[TRANSFER]
    values = [*authorization().values(), bytes(length)]
    data = keccak(text=signature)[:4] + encode(kinds, values)
    result = boa.env.execute_code(to_address=dollar.address, sender=RECEIVER, data=data)
    assert result.is_error
    assert not dollar.authorizationState(HOLDER.address, NONCE)


@pytest.mark.parametrize("data", [b"", b"\x01\x02\x03", b"\x01\x02\x03\x04" + bytes(352)])
def test_default__anything_else__refused(dollar: Contract, stranger: str, data: Any) -> None:
    result = boa.env.execute_code(to_address=dollar.address, sender=stranger, data=data)
    assert result.is_error


def test_default__ether__refused(dollar: Contract, stranger: str) -> None:
    boa.env.set_balance(stranger, 10)
    result = boa.env.execute_code(
        to_address=dollar.address, sender=stranger, data=bytes(356), value=1
    )
    assert result.is_error
