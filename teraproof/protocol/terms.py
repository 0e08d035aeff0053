# SPDX-License-Identifier: Apache-2.0
"""The terms of a job, as Jobs.vy hashes and stores them.

A job's id is the keccak-256 of its ABI-encoded terms, so every field here is in the order and
the width of the contract's structs. Addresses are EIP-55 strings, digests are 32 bytes, times are
unix seconds, prices are units of the payment token, stakes and collateral are TPF wei.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any

from eth_abi.abi import encode
from eth_utils.address import is_address, to_checksum_address
from eth_utils.crypto import keccak

from teraproof.errors import LocalError
from teraproof.protocol.errors import Code

ZERO_ADDRESS = "0x" + "00" * 20
ZERO_WORD = bytes(32)

_STATUS_MASK = 0xFF
_TIME_MASK = 2**40 - 1
_PAUSED_MASK = 2**24 - 1


class Status(IntEnum):
    """Where a job stands; the low byte of its state word."""

    NONE = 0
    OPEN = 1
    ASSIGNED = 2
    ATTESTED = 3
    SETTLED = 4
    CANCELLED = 5
    EXPIRED = 6
    REFUSED = 7
    DISPUTED = 8
    REFUNDED = 9


class Judged(IntEnum):
    """How the result of an order is judged. Above 2**128 a court decides: `Order.capability`."""

    TRUSTED = 0
    """By nobody: whoever attests is paid."""
    REFUSABLE = 1
    """The tenant may burn its price and the collateral within the challenge window."""


#: An order that is judged by more than this names the capability whose jurors decide.
LEAST_CAPABILITY = 2**128


def address(name: str, value: object) -> str:
    """Return `value` as an EIP-55 address. LocalError names `name` when it is none.

    Mixed case must carry a correct checksum: a wrong one is a typing error, not another spelling.
    """
    if not isinstance(value, str) or not value.startswith("0x") or not is_address(value):
        raise LocalError(
            f"{name}: {value!r} is not an address; give 0x and 40 hex digits", Code.INPUT_INVALID
        )
    spelled = checksummed(value)
    if value != spelled and value[2:] not in (value[2:].lower(), value[2:].upper()):
        raise LocalError(
            f"{name}: {value} has a wrong checksum; copy the address again", Code.INPUT_INVALID
        )
    return spelled


@lru_cache(maxsize=4096)  # a hash in Python; a cycle that reads many logs spent a tenth on them
def checksummed(value: str) -> str:
    """An address that is one, with the checksum of EIP-55 in it."""
    return str(to_checksum_address(value))


def word(name: str, value: object) -> bytes:
    """Return `value` as 32 bytes. LocalError names `name` when it has another length."""
    if not isinstance(value, bytes) or len(value) != 32:
        raise LocalError(f"{name}: expected 32 bytes")
    return bytes(value)


def uint(name: str, value: object, bits: int) -> int:
    """Return `value` as an unsigned integer of `bits`. LocalError names `name`."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << bits:
        raise LocalError(f"{name}: {value!r} is not a uint{bits}")
    return int(value)


@dataclass(frozen=True)
class Order:
    """What the tenant chooses (`Order` of Jobs.vy)."""

    spec: bytes
    """sha256 of the canonical job specification."""
    start_price: int
    max_price: int
    """Escrowed when the job is posted."""
    collateral: int
    """TPF wei that the provider locks."""
    duration: int
    """Seconds from the assignment to the deadline."""
    auction: int
    """Seconds in which the price rises from start to maximum."""
    min_stake: int
    min_score: int
    allow_root: bytes
    """Merkle root of the providers allowed; zero means anyone."""
    nonce: int
    judged: int = Judged.TRUSTED
    """A value of `Judged`; a number that this version does not know is kept as it is."""

    ABI = "(bytes32,uint256,uint256,uint256,uint64,uint64,uint256,uint256,bytes32,uint256,uint256)"
    _WORDS = ("start_price", "max_price", "collateral", "min_stake", "min_score", "nonce", "judged")

    def __post_init__(self) -> None:
        word("order.spec", self.spec)
        word("order.allow_root", self.allow_root)
        for name in self._WORDS:
            uint(f"order.{name}", getattr(self, name), 256)
        for name in ("duration", "auction"):
            uint(f"order.{name}", getattr(self, name), 64)
        if self.start_price > self.max_price:
            raise LocalError("order.start_price: above order.max_price; lower it")

    @property
    def capability(self) -> int | None:
        """The capability whose jurors decide on the result (`protocol.capability`); None for an
        order that no court decides.
        """
        return self.judged if self.judged > LEAST_CAPABILITY else None

    def abi_tuple(self) -> tuple[Any, ...]:
        """The eleven values in the contract's order, for an ABI encoder."""
        return astuple(self)

    @classmethod
    def from_abi(cls, values: Sequence[Any]) -> Order:
        """The inverse of `abi_tuple`, from what an ABI decoder returned."""
        if len(values) != 11:
            raise LocalError(f"order: expected 11 values, got {len(values)}")
        return cls(*values)


@dataclass(frozen=True)
class Terms:
    """A job's full terms (`Terms` of Jobs.vy); they travel in calldata and in `Posted`."""

    requester: str
    posted_at: int
    challenge_window: int
    fee_bps: int
    paused: int
    """Seconds for which orders had been paused in total when the job was posted."""
    order: Order

    ABI = f"(address,uint64,uint64,uint256,uint64,{Order.ABI})"

    def __post_init__(self) -> None:
        object.__setattr__(self, "requester", address("terms.requester", self.requester))
        uint("terms.posted_at", self.posted_at, 64)
        uint("terms.challenge_window", self.challenge_window, 64)
        uint("terms.fee_bps", self.fee_bps, 256)
        uint("terms.paused", self.paused, 64)

    def abi_tuple(self) -> tuple[Any, ...]:
        """The six values in the contract's order, the order nested as a tuple."""
        return (
            self.requester,
            self.posted_at,
            self.challenge_window,
            self.fee_bps,
            self.paused,
            self.order.abi_tuple(),
        )

    @classmethod
    def from_abi(cls, values: Sequence[Any]) -> Terms:
        """The inverse of `abi_tuple`, from what an ABI decoder returned."""
        if len(values) != 6:
            raise LocalError(f"terms: expected 6 values, got {len(values)}")
        requester, posted_at, challenge_window, fee_bps, paused, order = values
        return cls(requester, posted_at, challenge_window, fee_bps, paused, Order.from_abi(order))

    def job_id(self) -> bytes:
        """The 32 bytes that name this job on chain."""
        return bytes(keccak(encode([self.ABI], [self.abi_tuple()])))

    def paused_since(self, total: int) -> int:
        """Seconds paused since the post, when Jobs counts `total` seconds together.

        A total of before the post, from a node that lags behind, counts as none.
        """
        return max(total - self.paused, 0)

    def price_at(self, t: int, paused: int = 0) -> int:
        """The price offered at time `t`, rounded down like the contract does.

        `paused` are the seconds between the post and `t` in which orders were paused: the price
        stands still in them. `t` before `posted_at` is refused: no block can have that time.
        """
        elapsed = t - self.posted_at - paused
        if elapsed < 0:
            raise LocalError("terms: asked for a price before the job was posted")
        order = self.order
        if elapsed >= order.auction:
            return order.max_price
        return order.start_price + (order.max_price - order.start_price) * elapsed // order.auction

    def deadline(self, assigned_at: int) -> int:
        """The last second in which `attest` is accepted."""
        return assigned_at + self.order.duration

    def open_until(self, margin: int, paused: int = 0) -> int:
        """The last second in which `accept` is possible; `margin` is Jobs' OPEN_MARGIN.

        `paused` are the seconds since the post in which orders were paused.
        """
        return self.posted_at + self.order.auction + margin + paused

    def finalizable_after(self, attested_at: int) -> int:
        """The last second of the challenge window; `finalize` works from the next one.

        `refuse` of a refusable order works until then.
        """
        return attested_at + self.challenge_window


@dataclass(frozen=True)
class Record:
    """What the state word of an attested job is the digest of (`Record` of Jobs.vy)."""

    provider: str
    assigned_at: int
    attested_at: int
    paused: int
    """Seconds paused between the post and the assignment."""
    attestation: bytes
    """EIP-712 struct hash of the Attestation."""

    ABI = "(address,uint64,uint64,uint64,bytes32)"

    def __post_init__(self) -> None:
        object.__setattr__(self, "provider", address("record.provider", self.provider))
        uint("record.assigned_at", self.assigned_at, 64)
        uint("record.attested_at", self.attested_at, 64)
        uint("record.paused", self.paused, 64)
        word("record.attestation", self.attestation)

    def abi_tuple(self) -> tuple[Any, ...]:
        """The five values in the contract's order."""
        return (
            self.provider,
            self.assigned_at,
            self.attested_at,
            self.paused,
            self.attestation,
        )

    @classmethod
    def from_abi(cls, values: Sequence[Any]) -> Record:
        """The inverse of `abi_tuple`, from what an ABI decoder returned."""
        if len(values) != 5:
            raise LocalError(f"record: expected 5 values, got {len(values)}")
        return cls(*values)

    def state_word(self) -> int:
        """The word that Jobs stores while the job is ATTESTED with this record."""
        digest = int.from_bytes(keccak(encode([self.ABI], [self.abi_tuple()])), "big")
        return (digest & ~_STATUS_MASK) | Status.ATTESTED


@dataclass(frozen=True)
class Assignment:
    """Who works on a job and since when, as read from an ASSIGNED state word."""

    provider: str
    assigned_at: int
    paused: int = 0
    """Seconds paused between the post and the assignment."""

    def state_word(self) -> int:
        """The word that Jobs stores while the job is ASSIGNED like this."""
        return (
            int(self.provider, 16) << 96
            | self.paused << 48
            | self.assigned_at << 8
            | Status.ASSIGNED
        )


def status_of(state: int) -> Status:
    """The status in a state word. LocalError when it is one that this version does not know."""
    value = uint("state", state, 256) & _STATUS_MASK
    try:
        return Status(value)
    except ValueError:
        raise LocalError(f"state: unknown job status {value}; update the agent") from None


def assignment_of(state: int) -> Assignment | None:
    """Who an ASSIGNED state word names, or None in any other status."""
    if status_of(state) is not Status.ASSIGNED:
        return None
    provider = to_checksum_address((state >> 96).to_bytes(20, "big"))
    return Assignment(str(provider), (state >> 8) & _TIME_MASK, (state >> 48) & _PAUSED_MASK)
