# SPDX-License-Identifier: Apache-2.0
"""`accept` and `hire`: the rate of the moment, the collateral, who may."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import boa
import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from teraproof.protocol import messages
from teraproof.protocol.lease_terms import LeaseState, LeaseStatus, LeaseTerms
from tests.contracts.actions import Provider, consent, domain, event, go_to, now, pass_time
from tests.contracts.deploy import DAY, TPF, Contract, Suite, account_of, address_of
from tests.contracts.lease_actions import (
    ORDER,
    RATE,
    TERM,
    accept,
    assigned,
    by_operator,
    fund,
    hire,
    open_lease,
    order,
    quote_of,
    state,
)


def test_accept__assigns_and_locks(
    suite: Suite, leases: Contract, opened: LeaseTerms, provider: Provider
) -> None:
    pass_time(500)
    assert accept(suite, provider, opened) == 450
    lease = opened.lease_id()
    assert event(leases, "Accepted") == {
        "lease": lease,
        "provider": provider.owner,
        "operator": provider.operator.address,
        "rate": 450,
    }
    assert state(leases, opened) == LeaseState(
        LeaseStatus.ASSIGNED, False, False, 1, 500, now(), ORDER.deposit, 0, 0
    )
    assert leases.number_of(provider.owner) == 1
    expires_at = now() + 900 + TERM + 7 * DAY
    assert suite.staking.lock_of(leases.address, provider.owner, lease) == (100 * TPF, expires_at)


def test_accept__providers_are_numbered_once(
    suite: Suite, leases: Contract, tenant: str, make_provider: Callable[..., Provider]
) -> None:
    first, second = make_provider("first"), make_provider("second")
    for n, provider in enumerate((first, second, first)):
        assigned(suite, tenant, provider, order(nonce=n))
    assert [leases.number_of(p.owner) for p in (first, second)] == [1, 2]


def test_accept__as_many_providers_as_their_number_has_bits_for(
    suite: Suite, leases: Contract, tenant: str, make_provider: Callable[..., Provider]
) -> None:
    first, second = make_provider("first"), make_provider("second")
    slots = leases.compiler_data.storage_layout["storage_layout"]["liveness"]
    boa.env.set_storage(leases.address, slots["_count"]["slot"], 2**32 - 2)
    last = assigned(suite, tenant, first)
    assert leases.number_of(first.owner) == state(leases, last).number == 2**32 - 1
    by_operator(suite, first, "ready", last)
    another = open_lease(suite, tenant, order(nonce=1))
    with boa.reverts():
        accept(suite, second, another)
    # Those that have a number go on.
    accept(suite, first, another)


def test_accept__until_the_open_time_is_over__exact(
    suite: Suite, leases: Contract, opened: LeaseTerms, provider: Provider
) -> None:
    go_to(opened.open_until(3_600))
    with boa.env.anchor():
        assert accept(suite, provider, opened) == 2 * RATE
    pass_time(1)
    with boa.reverts("leases: no longer open"):
        accept(suite, provider, opened)


def test_accept__a_pause_stops_the_clock(
    suite: Suite, leases: Contract, opened: LeaseTerms, provider: Provider
) -> None:
    pass_time(100)
    leases.pause(5_000, sender=suite.guardian)
    with boa.reverts("guardian: orders are paused"):
        accept(suite, provider, opened)
    pass_time(5_000 + 400)
    assert accept(suite, provider, opened) == 450


def test_accept__only_an_open_lease(
    suite: Suite, leases: Contract, taken: LeaseTerms, provider: Provider
) -> None:
    with boa.reverts("leases: not open"):
        accept(suite, provider, taken)


def test_accept__only_operators(suite: Suite, leases: Contract, opened: LeaseTerms) -> None:
    with boa.reverts("staking: unknown operator"):
        leases.accept(opened.abi_tuple(), sender=address_of("stranger"))


def test_accept__stake_and_collateral(suite: Suite, tenant: str, provider: Provider) -> None:
    with boa.reverts("staking: stake too low"):
        assigned(suite, tenant, provider, order(min_stake=1_000 * TPF + 1))
    with boa.reverts("staking: above the owner's limit per order"):
        assigned(suite, tenant, provider, order(collateral=500 * TPF + 1, nonce=1))
    assigned(suite, tenant, provider, order(min_stake=1_000 * TPF, nonce=2))


def test_accept__allow_list(
    suite: Suite, tenant: str, make_provider: Callable[..., Provider]
) -> None:
    one, two, three = (make_provider(name) for name in ("one", "two", "three"))
    leaf = {p.owner: bytes(keccak(keccak(encode(["address"], [p.owner])))) for p in (one, two)}
    root = bytes(keccak(b"".join(sorted(leaf.values()))))
    terms = open_lease(suite, tenant, order(allow_root=root))
    with boa.reverts("eligibility: provider not allowed"):
        accept(suite, three, terms, [leaf[one.owner]])
    with boa.reverts("eligibility: provider not allowed"):
        accept(suite, one, terms)
    accept(suite, one, terms, [leaf[two.owner]])


# ---------------------------------------------------------------------------------- hire


def test_hire__opens_and_assigns_at_the_quoted_rate(
    suite: Suite, leases: Contract, tenant: str, provider: Provider
) -> None:
    quote = quote_of(provider)
    terms = hire(suite, tenant, provider, quote, deposit=RATE * DAY)
    assert terms.order == quote.order(RATE * DAY)
    kept = state(leases, terms)
    assert (kept.status, kept.elapsed, kept.since) == (LeaseStatus.ASSIGNED, 0, now())
    assert kept.deposited == RATE * DAY == suite.payment.balanceOf(leases.address)
    assert leases.quote_used(provider.operator.address, quote.nonce)
    lock = suite.staking.lock_of(leases.address, provider.owner, terms.lease_id())
    assert lock == (100 * TPF, now() + 900 + TERM + 7 * DAY)


def test_hire__the_digest_is_that_of_the_written_type(provider: Provider) -> None:
    quote = quote_of(provider, ready_within=1, term=2, notice=3, expires=4, nonce=5)
    kinds = [
        "address",
        "address",
        "bytes32",
        "uint256",
        "uint256",
        "uint64",
        "uint64",
        "uint64",
        "uint64",
        "uint256",
    ]
    text = (
        "LeaseQuote(address operator,address requester,bytes32 spec,uint256 rate,"
        "uint256 collateral,uint64 readyWithin,uint64 term,uint64 notice,"
        "uint64 expires,uint256 nonce)"
    )
    packed = encode(["bytes32", *kinds], [keccak(text=text), *quote.abi_tuple()])
    assert quote.struct_hash() == keccak(packed)


def test_hire__from_credit(suite: Suite, leases: Contract, tenant: str, provider: Provider) -> None:
    fund(suite, tenant, RATE * DAY)
    leases.deposit(RATE * DAY, sender=tenant)
    hire(suite, tenant, provider, deposit=RATE * DAY, from_credit=True)
    assert leases.credit_of(tenant) == 0


def test_hire__a_quote_works_once(suite: Suite, tenant: str, provider: Provider) -> None:
    hire(suite, tenant, provider)
    with boa.reverts("quotes: used or cancelled"):
        hire(suite, tenant, provider)


def test_hire__cancelled(suite: Suite, leases: Contract, tenant: str, provider: Provider) -> None:
    leases.cancel_quotes(0, 1, sender=provider.operator.address)
    with boa.reverts("quotes: used or cancelled"):
        hire(suite, tenant, provider)
    hire(suite, tenant, provider, quote_of(provider, nonce=1))


def test_hire__expires__exact(suite: Suite, tenant: str, provider: Provider) -> None:
    quote = quote_of(provider, expires=now() + 10)
    pass_time(11)
    with boa.reverts("quotes: expired"):
        hire(suite, tenant, provider, quote)
    hire(suite, tenant, provider, quote_of(provider, expires=now()))


def test_hire__for_one_requester(suite: Suite, tenant: str, provider: Provider) -> None:
    quote = quote_of(provider, requester=address_of("another"))
    with boa.reverts("quotes: for another requester"):
        hire(suite, tenant, provider, quote)
    hire(suite, tenant, provider, replace(quote, requester=tenant))


@pytest.mark.parametrize(
    "changes",
    [
        {"rate": RATE - 1},
        {"collateral": 0},
        {"ready_within": 901},
        {"term": TERM + 1},
        {"notice": 0},
        {"expires": 2**40},
        {"nonce": 1},
        {"spec": bytes(32)},
    ],
)
def test_hire__not_a_word_of_a_quote_can_be_changed(
    suite: Suite, leases: Contract, tenant: str, provider: Provider, changes: dict[str, Any]
) -> None:
    quote = quote_of(provider)
    signature = messages.sign(domain(leases), quote, provider.operator)
    fund(suite, tenant, RATE * DAY)
    with boa.reverts("quotes: not the operator's"):
        leases.hire(replace(quote, **changes).abi_tuple(), signature, RATE * DAY, sender=tenant)


def test_hire__a_quote_for_jobs_is_none(
    suite: Suite, leases: Contract, tenant: str, provider: Provider
) -> None:
    quote = quote_of(provider)
    signature = messages.sign(domain(suite.jobs), quote, provider.operator)
    fund(suite, tenant, RATE * DAY)
    with boa.reverts("quotes: not the operator's"):
        leases.hire(quote.abi_tuple(), signature, RATE * DAY, sender=tenant)


def test_hire__an_earlier_consent(suite: Suite, tenant: str, provider: Provider) -> None:
    old = quote_of(provider)
    other = account_of("another operator")
    for key in (other, provider.operator):
        suite.staking.set_operator(
            key.address, *consent(suite.staking, provider.owner, key), sender=provider.owner
        )
    with boa.reverts("leases: quote of an earlier consent"):
        hire(suite, tenant, provider, old)
    hire(suite, tenant, provider, quote_of(provider, nonce=messages.quote_nonce(1, 0)))


def test_hire__the_rules_of_an_order_hold(
    suite: Suite, leases: Contract, tenant: str, provider: Provider
) -> None:
    with boa.reverts("leases: deposit too low"):
        hire(suite, tenant, provider, deposit=RATE * 601 - 1)
    with boa.reverts("leases: more than the term costs"):
        hire(suite, tenant, provider, deposit=RATE * TERM + 1)
    quote = quote_of(provider, rate=0)
    signature = messages.sign(domain(leases), quote, provider.operator)
    with boa.reverts("leases: rate out of bounds"):
        leases.hire(quote.abi_tuple(), signature, 0, sender=tenant)


@pytest.mark.parametrize(
    ("changes", "deposit"),
    [
        ({"rate": 2**80}, RATE * DAY),
        ({"collateral": 2**88}, RATE * DAY),
        ({"ready_within": 2**32}, RATE * DAY),
        ({"term": 2**32 + TERM}, RATE * DAY),
        ({"notice": 2**32}, RATE * DAY),
        ({}, 2**96 + RATE * DAY),
    ],
)
def test_hire__nothing_is_cut_off(
    suite: Suite,
    leases: Contract,
    tenant: str,
    provider: Provider,
    changes: dict[str, Any],
    deposit: int,
) -> None:
    """What does not fit into the words of an order is refused, not taken for something smaller."""
    quote = quote_of(provider, **changes)
    signature = messages.sign(domain(leases), quote, provider.operator)
    fund(suite, tenant, deposit)
    with boa.reverts("leases: quote out of bounds"):
        leases.hire(quote.abi_tuple(), signature, deposit, sender=tenant)


def test_hire__at_the_greatest_rate_and_deposit(
    suite: Suite, tenant: str, provider: Provider
) -> None:
    """What fills its bits of an order is still itself."""
    terms = hire(suite, tenant, provider, quote_of(provider, rate=2**80 - 1), deposit=2**96 - 1)
    assert (terms.order.start_rate, terms.order.max_rate) == (2**80 - 1, 2**80 - 1)
    assert state(suite.leases, terms).deposited == terms.order.deposit == 2**96 - 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"collateral": 2**88 - 1}, "staking: above the owner's limit per order"),
        ({"ready_within": 2**32 - 1}, "leases: term too long"),
        ({"term": 2**32 - 1}, "leases: term too long"),
        ({"notice": 2**32 - 1}, "leases: notice above the term"),
    ],
)
def test_hire__what_an_order_has_room_for_is_refused_for_what_it_asks(
    suite: Suite, tenant: str, provider: Provider, changes: dict[str, Any], reason: str
) -> None:
    with boa.reverts(reason):
        hire(suite, tenant, provider, quote_of(provider, **changes))


def test_hire__in_a_pause(suite: Suite, leases: Contract, tenant: str, provider: Provider) -> None:
    leases.pause(DAY, sender=suite.guardian)
    with boa.reverts("guardian: orders are paused"):
        hire(suite, tenant, provider)
