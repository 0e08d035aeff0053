# SPDX-License-Identifier: Apache-2.0
"""The terms of a lease, as Leases.vy hashes them, and the word that it keeps.

A lease's id is the keccak-256 of its ABI-encoded terms. They travel in every call about it, so the
contract packs them: eight words. Here every field stands by itself, and has the bits that the
contract gives it. Addresses are EIP-55 strings, digests are 32 bytes, times are
unix seconds, rates are units of the payment token a second, stakes and collateral are TPF wei.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from teraproof.errors import LocalError
from teraproof.protocol.terms import address, uint, word

_Layout = tuple[tuple[str, int], ...]

_STATUS_MASK = 2**4 - 1
_CONFIRMED = 2**4
_MARKED = 2**5


class LeaseStatus(IntEnum):
    """Where a lease stands; the lowest four bits of its state word."""

    NONE = 0
    """There is no such lease, or it has ended: then its event says how."""
    OPEN = 1
    ASSIGNED = 2
    ACTIVE = 3


class Ending(IntEnum):
    """Why a lease was closed; `reason` of the event `Closed`."""

    NOT_READY = 1
    """Not ready in time: the collateral was seized."""
    REJECTED = 2
    """By the tenant in the grace: no rent."""
    BY_TENANT = 3
    BY_PROVIDER = 4
    """At once, without the notice: the collateral was seized."""
    ABANDONED = 5
    """Silent or suspended for too long: the collateral was seized."""
    OVER = 6
    """The term or the notice has ended."""
    DRY = 7
    """The deposit was used up."""


@dataclass(frozen=True)
class LeaseOrder:
    """What the tenant chooses (`Order` of Leases.vy)."""

    spec: bytes
    """sha256 of the canonical lease specification."""
    start_rate: int
    max_rate: int
    deposit: int
    """Escrowed when the lease is opened; payment token units."""
    collateral: int
    """TPF wei that the provider locks."""
    ready_within: int
    """Seconds from the assignment to `ready`."""
    term: int
    """Seconds from `ready` to the end."""
    notice: int
    """Seconds from a provider's notice to the end."""
    auction: int
    """Seconds in which the rate rises from start to maximum."""
    min_stake: int
    min_score: int
    allow_root: bytes
    """Merkle root of the providers allowed; zero means anyone."""
    nonce: int

    ABI = "(bytes32,uint256,uint256,uint256,bytes32,uint256)"
    #: The packed words, low bits first: name, bits.
    MONEY = (("start_rate", 80), ("max_rate", 80), ("deposit", 96))
    TIMES = (("auction", 32), ("ready_within", 32), ("term", 32), ("notice", 32))
    BACKING = (("collateral", 88), ("min_stake", 88), ("min_score", 80))

    def __post_init__(self) -> None:
        word("order.spec", self.spec)
        word("order.allow_root", self.allow_root)
        uint("order.nonce", self.nonce, 256)
        for layout in (self.MONEY, self.TIMES, self.BACKING):
            for name, bits in layout:
                _fits(f"order.{name}", getattr(self, name), bits)
        if not 0 < self.start_rate <= self.max_rate:
            raise LocalError("order.start_rate: give a rate above zero, not above order.max_rate")

    def abi_tuple(self) -> tuple[Any, ...]:
        """The six words in the contract's order, for an ABI encoder."""
        return (
            self.spec,
            _pack(self, self.MONEY),
            _pack(self, self.TIMES),
            _pack(self, self.BACKING),
            self.allow_root,
            self.nonce,
        )

    @classmethod
    def from_abi(cls, values: Sequence[Any]) -> LeaseOrder:
        """The inverse of `abi_tuple`, from what an ABI decoder returned."""
        if len(values) != 6:
            raise LocalError(f"order: expected 6 values, got {len(values)}")
        spec, money, times, backing, allow_root, nonce = values
        return cls(
            spec=spec,
            allow_root=allow_root,
            nonce=nonce,
            **_unpack(money, cls.MONEY),
            **_unpack(times, cls.TIMES),
            **_unpack(backing, cls.BACKING),
        )


@dataclass(frozen=True)
class LeaseTerms:
    """A lease's full terms (`Terms` of Leases.vy); they travel in calldata and in `Opened`."""

    requester: str
    posted_at: int
    grace: int
    """Seconds from `ready` in which the tenant can reject it, and no rent is due."""
    fee_bps: int
    paused: int
    """Seconds for which new deals had been paused in total when the lease was opened."""
    order: LeaseOrder

    ABI = f"(address,uint256,{LeaseOrder.ABI})"
    #: Low bits first: name, bits.
    MADE = (("posted_at", 40), ("paused", 40), ("grace", 32), ("fee_bps", 16))

    def __post_init__(self) -> None:
        object.__setattr__(self, "requester", address("terms.requester", self.requester))
        for name, bits in self.MADE:
            _fits(f"terms.{name}", getattr(self, name), bits)

    def abi_tuple(self) -> tuple[Any, ...]:
        """The three values in the contract's order, the order nested as a tuple."""
        return self.requester, _pack(self, self.MADE), self.order.abi_tuple()

    @classmethod
    def from_abi(cls, values: Sequence[Any]) -> LeaseTerms:
        """The inverse of `abi_tuple`, from what an ABI decoder returned."""
        if len(values) != 3:
            raise LocalError(f"terms: expected 3 values, got {len(values)}")
        requester, made, order = values
        return cls(requester=requester, order=LeaseOrder.from_abi(order), **_unpack(made, cls.MADE))

    def lease_id(self) -> bytes:
        """The 32 bytes that name this lease on chain."""
        return bytes(keccak(encode([self.ABI], [self.abi_tuple()])))

    def rate_after(self, elapsed: int) -> int:
        """The rate after that many seconds of the auction, rounded down like the contract does.

        Seconds in which new deals were paused do not count.
        """
        order = self.order
        if elapsed < 0:
            raise LocalError("terms: asked for a rate before the lease was opened")
        if elapsed >= order.auction:
            return order.max_rate
        return order.start_rate + (order.max_rate - order.start_rate) * elapsed // order.auction

    def open_until(self, margin: int, paused: int = 0) -> int:
        """The last second in which `accept` is possible; `margin` is Leases' OPEN_MARGIN.

        `paused` are the seconds since the opening in which new deals were paused.
        """
        return self.posted_at + self.order.auction + margin + paused

    def most(self) -> int:
        """The most that the lease can ever cost without a top-up, in payment token units."""
        return min(self.order.deposit, self.order.max_rate * self.order.term)


@dataclass(frozen=True)
class LeaseState:
    """What the state word of a lease says."""

    status: LeaseStatus
    confirmed: bool
    marked: bool
    """Whether `marks` says more of it: a notice, a suspension, an accusation."""
    number: int
    """Of the provider; 0 while nobody has taken it."""
    elapsed: int
    """Seconds of the auction when it was taken; they give the rate."""
    since: int
    """Assigned at; from `ready` on ready at."""
    deposited: int
    """Payment token units in total, top-ups included."""
    base: int
    """Live seconds of the provider that do not count; while suspended, the seconds earned."""
    paid: int
    """Seconds paid so far."""


@dataclass(frozen=True)
class LeaseMarks:
    """What the second word of a lease says; unix seconds, 0 for what has not happened."""

    leaves_at: int
    suspended_at: int
    accused_at: int


def lease_status_of(state: int) -> LeaseStatus:
    """The status in a state word. LocalError when it is one that this version does not know."""
    value = uint("state", state, 256) & _STATUS_MASK
    try:
        return LeaseStatus(value)
    except ValueError:
        raise LocalError(f"state: unknown lease status {value}; update the agent") from None


def lease_state_of(state: int) -> LeaseState:
    """Everything in a state word. LocalError for a status that this version does not know."""
    return LeaseState(
        status=lease_status_of(state),
        confirmed=bool(state & _CONFIRMED),
        marked=bool(state & _MARKED),
        number=_bits(state, 8, 32),
        elapsed=_bits(state, 40, 24),
        since=_bits(state, 64, 36),
        deposited=_bits(state, 100, 96),
        base=_bits(state, 196, 32),
        paid=_bits(state, 228, 28),
    )


def lease_marks_of(marks: int) -> LeaseMarks:
    """Everything in a second word."""
    value = uint("marks", marks, 256)
    return LeaseMarks(_bits(value, 0, 40), _bits(value, 40, 40), _bits(value, 80, 40))


def _bits(value: int, at: int, count: int) -> int:
    return (value >> at) % (1 << count)


def _fits(name: str, value: int, bits: int) -> None:
    uint(name, value, 256)
    if value >> bits:
        raise LocalError(f"{name}: {value} does not fit in {bits} bits")


def _pack(fields: object, layout: _Layout) -> int:
    packed, at = 0, 0
    for name, bits in layout:
        packed |= int(getattr(fields, name)) << at
        at += bits
    return packed


def _unpack(packed: int, layout: _Layout) -> dict[str, int]:
    found, at = {}, 0
    for name, bits in layout:
        found[name] = _bits(packed, at, bits)
        at += bits
    return found
