# SPDX-License-Identifier: Apache-2.0
"""What tenants and providers do with leases, and what the chain said.

Terms and quotes are built by the agent's own protocol package, so that these tests also show that
Leases and the agent agree on every byte.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from eth_utils.crypto import keccak

from teraproof.protocol import messages
from teraproof.protocol.lease_terms import (
    LeaseMarks,
    LeaseOrder,
    LeaseState,
    LeaseTerms,
    lease_marks_of,
    lease_state_of,
)
from teraproof.protocol.terms import ZERO_ADDRESS, ZERO_WORD
from tests.contracts.actions import Provider, domain, event, now, pass_time, plain
from tests.contracts.deploy import DAY, TPF, USD, Contract, Parameters, Suite

SPEC = keccak(text="a lease specification")
# A dollar and eight cents an hour at first, twice as much in the end.
RATE = 300
TERM = 10 * DAY

ORDER = LeaseOrder(
    spec=SPEC,
    start_rate=RATE,
    max_rate=2 * RATE,
    deposit=2 * RATE * DAY,
    collateral=100 * TPF,
    ready_within=900,
    term=TERM,
    notice=7_200,
    auction=1_000,
    min_stake=0,
    min_score=0,
    allow_root=ZERO_WORD,
    nonce=0,
)


def order(**changes: Any) -> LeaseOrder:
    """The usual order with some fields changed."""
    return replace(ORDER, **changes)


def fund(suite: Suite, account: str, amount: int) -> None:
    """Hand payment tokens out and let Leases take them."""
    suite.payment.mint(account, amount)
    suite.payment.approve(suite.leases.address, 2**256 - 1, sender=account)


def terms_of(suite: Suite) -> LeaseTerms:
    """The terms in the `Opened` event of the last call to Leases."""
    return LeaseTerms.from_abi(plain(event(suite.leases, "Opened")["terms"]))


def open_lease(
    suite: Suite,
    requester: str,
    wanted: LeaseOrder = ORDER,
    *,
    from_credit: bool = False,
    funded: bool = True,
) -> LeaseTerms:
    """Open a lease; `funded` hands the requester the deposit first."""
    if funded:
        fund(suite, requester, wanted.deposit)
    lease = suite.leases.open(wanted.abi_tuple(), from_credit, sender=requester)
    terms = terms_of(suite)
    assert terms.lease_id() == lease
    return terms


def quote_of(provider: Provider, **changes: Any) -> messages.LeaseQuote:
    """The usual quote of a provider with some fields changed."""
    usual = messages.LeaseQuote(
        operator=provider.operator.address,
        requester=ZERO_ADDRESS,
        spec=SPEC,
        rate=RATE,
        collateral=100 * TPF,
        ready_within=900,
        term=TERM,
        notice=7_200,
        expires=now() + DAY,
        nonce=0,
    )
    return replace(usual, **changes)


def hire(
    suite: Suite,
    requester: str,
    provider: Provider,
    quote: messages.LeaseQuote | None = None,
    *,
    deposit: int = RATE * DAY,
    from_credit: bool = False,
) -> LeaseTerms:
    """Hire a provider by its quote; the requester is handed the deposit first."""
    quote = quote or quote_of(provider)
    fund(suite, requester, deposit)
    signature = messages.sign(domain(suite.leases), quote, provider.operator)
    lease = suite.leases.hire(quote.abi_tuple(), signature, deposit, from_credit, sender=requester)
    terms = terms_of(suite)
    assert terms.lease_id() == lease
    return terms


def accept(
    suite: Suite, provider: Provider, terms: LeaseTerms, proof: list[bytes] | None = None
) -> int:
    """Accept a lease as the provider's operator; return the rate."""
    sender = provider.operator.address
    return int(suite.leases.accept(terms.abi_tuple(), proof or [], sender=sender))


def by_operator(suite: Suite, provider: Provider, name: str, terms: LeaseTerms) -> None:
    """Any call about a lease that its provider's operator makes: `ready`, `suspend` and so on."""
    getattr(suite.leases, name)(terms.abi_tuple(), sender=provider.operator.address)


def call(suite: Suite, name: str, terms: LeaseTerms, sender: str) -> None:
    """Any call about a lease, by anybody."""
    getattr(suite.leases, name)(terms.abi_tuple(), sender=sender)


def heartbeat(suite: Suite, provider: Provider) -> None:
    """The provider's sign of life."""
    number = suite.leases.number_of(provider.owner)
    suite.leases.heartbeat(number, sender=provider.operator.address)


def live_for(suite: Suite, provider: Provider, seconds: int, every: int | None = None) -> None:
    """Time passes in which the provider is alive, without a second that is not."""
    step = every or suite.parameters.max_gap
    until = now() + seconds
    while now() < until:
        pass_time(min(step, until - now()))
        heartbeat(suite, provider)


def assigned(
    suite: Suite, requester: str, provider: Provider, wanted: LeaseOrder = ORDER
) -> LeaseTerms:
    """A lease that is opened and accepted in the same block."""
    terms = open_lease(suite, requester, wanted)
    accept(suite, provider, terms)
    return terms


def active(
    suite: Suite, requester: str, provider: Provider, wanted: LeaseOrder = ORDER
) -> LeaseTerms:
    """A lease that is ready and confirmed in the block in which it was opened."""
    terms = assigned(suite, requester, provider, wanted)
    by_operator(suite, provider, "ready", terms)
    call(suite, "confirm", terms, requester)
    return terms


def state(leases: Contract, terms: LeaseTerms) -> LeaseState:
    """What the chain keeps of a lease."""
    return lease_state_of(int(leases.state(terms.lease_id())))


def marks(leases: Contract, terms: LeaseTerms) -> LeaseMarks:
    """Its second word."""
    return lease_marks_of(int(leases.marks(terms.lease_id())))


def net(rate: int, seconds: int, p: Parameters) -> int:
    """Rent of a number of seconds less the fee, which is rounded down."""
    rent = rate * seconds
    return rent - rent * p.fee_bps // 10_000


def dollars(amount: int) -> int:
    """Payment token units."""
    return amount * USD
