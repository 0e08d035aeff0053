# SPDX-License-Identifier: Apache-2.0
"""The EIP-712 messages that leave the chain and come back to it.

A message is a frozen dataclass that knows its type string and its struct hash. `digest`, `sign`
and `recover` work for all of them: the domain decides which contract and chain it is for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from functools import lru_cache
from keyword import iskeyword
from typing import Any, ClassVar, Protocol

from eth_abi.abi import encode
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak

from teraproof.errors import LocalError
from teraproof.protocol import secp256k1
from teraproof.protocol.lease_terms import LeaseOrder
from teraproof.protocol.terms import ZERO_WORD, Judged, Order, address, uint, word

NAME = "Teraproof"
VERSION = "1"

_DOMAIN_FIELDS = (
    ("name", "string"),
    ("version", "string"),
    ("chainId", "uint256"),
    ("verifyingContract", "address"),
)
# Half of the order of secp256k1: a signature with a larger s has a twin and is refused, here as
# in the contracts.
_MAX_S = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0

Fields = tuple[tuple[str, str], ...]


@lru_cache(maxsize=64)
def _type_hash(name: str, members: Fields) -> bytes:
    return bytes(keccak(text=f"{name}({','.join(f'{t} {n}' for n, t in members)})"))


@dataclass(frozen=True)
class Domain:
    """Where a signature counts: one contract on one chain.

    `name` and `version` are those of the standard that the message belongs to.
    """

    chain_id: int
    contract: str
    name: str = NAME
    version: str = VERSION

    def __post_init__(self) -> None:
        uint("domain.chain_id", self.chain_id, 256)
        object.__setattr__(self, "contract", address("domain.contract", self.contract))

    def separator(self) -> bytes:
        """The EIP-712 domain separator, 32 bytes."""
        return _separator(self)


@lru_cache(maxsize=64)  # a server recovers thousands of signatures under one domain
def _separator(domain: Domain) -> bytes:
    return bytes(
        keccak(
            encode(
                ["bytes32", "bytes32", "bytes32", "uint256", "address"],
                [
                    _type_hash("EIP712Domain", _DOMAIN_FIELDS),
                    keccak(text=domain.name),
                    keccak(text=domain.version),
                    domain.chain_id,
                    domain.contract,
                ],
            )
        )
    )


class Hashed(Protocol):
    """What `digest`, `sign` and `recover` need of a message."""

    def struct_hash(self) -> bytes:
        """The EIP-712 `hashStruct`, 32 bytes."""
        ...


class Message(Hashed, Protocol):
    """What `typed_data` needs besides: members of plain types."""

    TYPE: ClassVar[str]
    FIELDS: ClassVar[Fields]

    def values(self) -> dict[str, Any]:
        """The members by name, in the order of the type."""
        ...


class Struct:
    """Checks and hashes a dataclass whose fields are those of its EIP-712 type, in order."""

    TYPE: ClassVar[str]
    FIELDS: ClassVar[Fields]

    def __post_init__(self) -> None:
        for member, kind in self.FIELDS:
            name = _attribute(member)
            label = f"{self.TYPE.lower()}.{name}"
            value = getattr(self, name)
            if kind == "address":
                object.__setattr__(self, name, address(label, value))
            elif kind == "bytes32":
                word(label, value)
            else:
                uint(label, value, int(kind.removeprefix("uint")))

    def values(self) -> dict[str, Any]:
        """The members by name, in the order of the type."""
        return {member: getattr(self, _attribute(member)) for member, _ in self.FIELDS}

    def struct_hash(self) -> bytes:
        """The EIP-712 `hashStruct`, 32 bytes."""
        words = [_type_hash(self.TYPE, self.FIELDS)]
        for (_, kind), value in zip(self.FIELDS, self.values().values(), strict=True):
            words.append(_word(kind, value))
        return bytes(keccak(b"".join(words)))


def _word(kind: str, value: Any) -> bytes:
    """The 32 bytes of a member that was checked: a server hashes thousands of messages."""
    if kind == "bytes32":
        return bytes(value)
    if kind == "address":
        return bytes(12) + bytes.fromhex(value[2:])
    return int(value).to_bytes(32, "big")


@lru_cache(maxsize=256)
def _attribute(member: str) -> str:
    """The attribute that holds a member of a type: `readyWithin` is `ready_within`.

    A word of the language gets an underscore behind it: `from` is `from_`.
    """
    name = re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", member)
    return f"{name}_" if iskeyword(name) else name


def quote_nonce(consent: int, number: int) -> int:
    """The nonce of quote `number` (128 bits, in any order, each once) under a consent.

    Its upper half is the nonce of the operator's consent in force: once the key is bound again,
    what it signed before can no longer be used.
    """
    for name, value in (("consent", consent), ("number", number)):
        if not 0 <= value < 2**128:
            raise LocalError(f"quote.nonce: the {name} {value} does not fit in 128 bits")
    return consent << 128 | number


@dataclass(frozen=True)
class Quote(Struct):
    """A provider's binding price for one specification, used once with `Jobs.hire`.

    `requester` zero means anyone. `price` is the total in payment token units, `collateral` is TPF
    wei, `duration` is seconds from assignment to deadline. `nonce` is `quote_nonce(...)`.
    """

    TYPE: ClassVar[str] = "Quote"
    FIELDS: ClassVar[Fields] = (
        ("operator", "address"),
        ("requester", "address"),
        ("spec", "bytes32"),
        ("price", "uint256"),
        ("collateral", "uint256"),
        ("duration", "uint64"),
        ("expires", "uint64"),
        ("nonce", "uint256"),
        ("judged", "uint256"),
    )

    operator: str
    requester: str
    spec: bytes
    price: int
    collateral: int
    duration: int
    expires: int
    nonce: int
    judged: int = Judged.TRUSTED
    """Like that of an order."""

    def abi_tuple(self) -> tuple[Any, ...]:
        """The nine values in the contract's order, for an ABI encoder."""
        return tuple(self.values().values())

    def order(self) -> Order:
        """The order that `hire` makes of this quote."""
        return Order(
            spec=self.spec,
            start_price=self.price,
            max_price=self.price,
            collateral=self.collateral,
            duration=self.duration,
            auction=0,
            min_stake=0,
            min_score=0,
            allow_root=ZERO_WORD,
            nonce=int.from_bytes(self.struct_hash(), "big"),
            judged=self.judged,
        )


@dataclass(frozen=True)
class LeaseQuote(Struct):
    """A provider's binding rate for one lease specification, used once with `Leases.hire`.

    `requester` zero means anyone. `rate` is payment token units a second, `collateral` is TPF wei.
    `ready_within` is seconds from the assignment, `term` from `ready`, `notice` from the
    provider's notice to the end. `nonce` is `quote_nonce(...)`.
    """

    TYPE: ClassVar[str] = "LeaseQuote"
    FIELDS: ClassVar[Fields] = (
        ("operator", "address"),
        ("requester", "address"),
        ("spec", "bytes32"),
        ("rate", "uint256"),
        ("collateral", "uint256"),
        ("readyWithin", "uint64"),
        ("term", "uint64"),
        ("notice", "uint64"),
        ("expires", "uint64"),
        ("nonce", "uint256"),
    )

    operator: str
    requester: str
    spec: bytes
    rate: int
    collateral: int
    ready_within: int
    term: int
    notice: int
    expires: int
    nonce: int

    def abi_tuple(self) -> tuple[Any, ...]:
        """The ten values in the contract's order, for an ABI encoder."""
        return tuple(self.values().values())

    def order(self, deposit: int) -> LeaseOrder:
        """The order that `hire` makes of this quote with a deposit."""
        return LeaseOrder(
            spec=self.spec,
            start_rate=self.rate,
            max_rate=self.rate,
            deposit=deposit,
            collateral=self.collateral,
            ready_within=self.ready_within,
            term=self.term,
            notice=self.notice,
            auction=0,
            min_stake=0,
            min_score=0,
            allow_root=ZERO_WORD,
            nonce=int.from_bytes(self.struct_hash(), "big"),
        )


@dataclass(frozen=True)
class Attestation(Struct):
    """The operator's word that a job gave `result`, metered by `receipt` (both sha256 digests)."""

    TYPE: ClassVar[str] = "Attestation"
    FIELDS: ClassVar[Fields] = (
        ("job", "bytes32"),
        ("spec", "bytes32"),
        ("result", "bytes32"),
        ("receipt", "bytes32"),
        ("started", "uint64"),
        ("finished", "uint64"),
    )

    job: bytes
    spec: bytes
    result: bytes
    receipt: bytes
    started: int
    finished: int


@dataclass(frozen=True)
class OperatorConsent(Struct):
    """The operator key's agreement to work for `owner`; for Staking.

    `nonce` is what `Staking.consent_nonce(operator)` says, so that each consent is used once; it
    is accepted until `expires`.
    """

    TYPE: ClassVar[str] = "OperatorConsent"
    FIELDS: ClassVar[Fields] = (
        ("owner", "address"),
        ("operator", "address"),
        ("nonce", "uint256"),
        ("expires", "uint64"),
    )

    owner: str
    operator: str
    nonce: int
    expires: int


@dataclass(frozen=True)
class Ballot(Struct):
    """What a juror's operator signs to make its salt for a round of a dispute; for Disputes.

    The signature is the secret. It is never shown, and nobody checks it.
    """

    TYPE: ClassVar[str] = "Ballot"
    FIELDS: ClassVar[Fields] = (("job", "bytes32"), ("round", "uint256"))

    job: bytes
    round: int


def check_members(*messages: type[Any]) -> None:
    """Refuses to go on where a field is missing in FIELDS: it would not be signed."""
    for message in messages:
        if [f.name for f in fields(message)] != [_attribute(name) for name, _ in message.FIELDS]:
            raise AssertionError(f"{message.TYPE}: dataclass and EIP-712 members differ")


check_members(Quote, LeaseQuote, Attestation, OperatorConsent, Ballot)


def digest(domain: Domain, message: Hashed) -> bytes:
    """The 32 bytes that are signed."""
    return bytes(keccak(b"\x19\x01" + domain.separator() + message.struct_hash()))


def typed_data(domain: Domain, message: Message) -> dict[str, Any]:
    """The same as an EIP-712 document, for wallets that sign nothing else."""
    return {
        "types": {
            "EIP712Domain": [{"name": n, "type": t} for n, t in _DOMAIN_FIELDS],
            message.TYPE: [{"name": n, "type": t} for n, t in message.FIELDS],
        },
        "primaryType": message.TYPE,
        "domain": {
            "name": domain.name,
            "version": domain.version,
            "chainId": domain.chain_id,
            "verifyingContract": domain.contract,
        },
        "message": message.values(),
    }


def sign(domain: Domain, message: Hashed, account: LocalAccount) -> bytes:
    """The 65 bytes r, s, v (27 or 28) of `account` over the message."""
    return secp256k1.sign(account, digest(domain, message))


def recover(domain: Domain, message: Hashed, signature: bytes) -> str:
    """The address that signed the message. LocalError when the signature is malformed."""
    return recover_signer(digest(domain, message), signature)


def recover_signer(signed: bytes, signature: bytes) -> str:
    """The address whose key made `signature` over the 32 bytes `signed`.

    LocalError on a wrong length, a v other than 27 or 28, a malleable s, or a point off the curve.
    """
    if len(signature) != 65:
        raise LocalError(f"signature: expected 65 bytes, got {len(signature)}")
    if signature[64] not in (27, 28):
        raise LocalError(f"signature: v is {signature[64]}, expected 27 or 28")
    if int.from_bytes(signature[32:64], "big") > _MAX_S:
        raise LocalError("signature: s is in the upper half; sign again with a current wallet")
    found = secp256k1.signer(word("digest", signed), signature)
    if found is None:
        raise LocalError("signature: no key signs like this; sign again")
    return found
