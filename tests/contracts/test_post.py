# SPDX-License-Identifier: Apache-2.0
"""`post` and `cancel`: escrow in, escrow back."""

from __future__ import annotations

from typing import Any

import boa
import pytest

from teraproof.protocol.terms import Status, Terms
from tests.contracts.actions import (
    ORDER,
    Provider,
    accept,
    event,
    give_usd,
    go_to,
    now,
    order,
    pass_time,
    post,
    terms_of,
)
from tests.contracts.deploy import DAY, TPF, USD, Contract, Suite, deploy_jobs

PRICE = ORDER.max_price
MAX_LOCK, LOCK_MARGIN, WINDOW, MARGIN = 60 * DAY, 7 * DAY, DAY, 3_600


def test_post__escrows_the_maximum(
    suite: Suite, jobs: Contract, payment: Contract, requester: str
) -> None:
    before = payment.balanceOf(requester)
    job = jobs.post(ORDER.abi_tuple(), sender=requester)
    posted = event(jobs, "Posted")
    terms = terms_of(suite)
    assert (posted["job"], posted["requester"]) == (job, requester)
    assert terms.job_id() == job == jobs.job_id(terms.abi_tuple())
    assert (terms.requester, terms.posted_at) == (requester, now())
    assert (terms.challenge_window, terms.fee_bps) == (WINDOW, 250)
    assert terms.order == ORDER
    assert payment.balanceOf(requester) == before - PRICE
    assert payment.balanceOf(jobs.address) == PRICE
    assert jobs.status(job) == jobs.state(job) == Status.OPEN


def test_post__from_credit(suite: Suite, jobs: Contract, payment: Contract, requester: str) -> None:
    jobs.deposit(PRICE + 1, sender=requester)
    held = payment.balanceOf(jobs.address)
    post(suite, requester, from_credit=True, funded=False)
    assert jobs.credit_of(requester) == 1
    assert payment.balanceOf(jobs.address) == held


def test_post__from_credit_exactly_all(suite: Suite, jobs: Contract, requester: str) -> None:
    jobs.deposit(PRICE, sender=requester)
    post(suite, requester, from_credit=True, funded=False)
    assert jobs.credit_of(requester) == 0
    with boa.reverts("ledger: nothing to withdraw"):
        jobs.withdraw(sender=requester)


@pytest.mark.parametrize("deposited", [0, PRICE - 1])
def test_post__credit_too_low__reverts(
    suite: Suite, jobs: Contract, requester: str, deposited: int
) -> None:
    """The sentinel in the slot never pays for anything."""
    if deposited:
        jobs.deposit(deposited, sender=requester)
    with boa.reverts("ledger: credit too low"):
        jobs.post(ORDER.abi_tuple(), True, sender=requester)


def test_post__credit_once_used_then_empty__sentinel_pays_nothing(
    jobs: Contract, requester: str
) -> None:
    jobs.deposit(PRICE, sender=requester)
    jobs.withdraw(sender=requester)
    jobs.deposit(PRICE - 1, sender=requester)
    with boa.reverts("ledger: credit too low"):
        jobs.post(ORDER.abi_tuple(), True, sender=requester)


def test_post__without_allowance__reverts(jobs: Contract, stranger: str) -> None:
    with boa.reverts("erc20: insufficient allowance"):
        jobs.post(ORDER.abi_tuple(), sender=stranger)


def changed(**changes: Any) -> tuple[Any, ...]:
    """An order as a tuple, without the agent's own checks."""
    fields = dict(zip(ORDER.__dataclass_fields__, ORDER.abi_tuple(), strict=True)) | changes
    return tuple(fields.values())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"start_price": PRICE + 1}, "jobs: start price above maximum"),
        ({"auction": 30 * DAY + 1}, "jobs: auction too long"),
        ({"min_score": 1}, "eligibility: no source of scores"),
        ({"start_price": 0, "max_price": 0}, "jobs: price out of bounds"),
        ({"max_price": 2**120}, "jobs: price out of bounds"),
        ({"collateral": 2**120}, "jobs: collateral out of bounds"),
        ({"duration": 0}, "jobs: zero duration"),
        ({"duration": MAX_LOCK - WINDOW - LOCK_MARGIN + 1}, "jobs: duration too long"),
        ({"duration": 2**64 - 1}, "jobs: duration too long"),
    ],
)
def test_post__bad_order__reverts(
    jobs: Contract, requester: str, changes: Any, reason: str
) -> None:
    with boa.reverts(reason):
        jobs.post(changed(**changes), sender=requester)


@pytest.mark.parametrize(
    "changes",
    [
        {"start_price": PRICE},
        {"start_price": 0},
        {"auction": 0},
        {"auction": 30 * DAY},
        {"start_price": 0, "max_price": 1},
        {"max_price": 2**120 - 1},
        {"collateral": 0},
        {"collateral": 2**120 - 1},
        {"duration": 1},
        {"duration": MAX_LOCK - WINDOW - LOCK_MARGIN},
        {"nonce": 2**256 - 1},
    ],
)
def test_post__at_the_bounds(suite: Suite, jobs: Contract, requester: str, changes: Any) -> None:
    terms = post(suite, requester, order(**changes))
    assert jobs.status(terms.job_id()) == Status.OPEN


def test_post__longest_duration__can_be_accepted(
    suite: Suite, jobs: Contract, requester: str, provider: Provider
) -> None:
    duration = MAX_LOCK - WINDOW - LOCK_MARGIN
    terms = post(suite, requester, order(duration=duration))
    accept(suite, provider, terms)
    lock = suite.staking.lock_of(jobs.address, provider.owner, terms.job_id())
    assert lock == (100 * TPF, now() + MAX_LOCK)


def test_post__same_order_in_the_same_block__reverts(
    suite: Suite, jobs: Contract, requester: str
) -> None:
    post(suite, requester)
    with boa.reverts("jobs: exists"):
        jobs.post(ORDER.abi_tuple(), sender=requester)


def test_post__same_block__another_nonce_or_requester(
    suite: Suite, jobs: Contract, requester: str, stranger: str
) -> None:
    first = post(suite, requester)
    second = post(suite, requester, order(nonce=1))
    third = post(suite, stranger)
    assert len({terms.job_id() for terms in (first, second, third)}) == 3


def test_post__same_order_in_a_later_block(suite: Suite, requester: str) -> None:
    first = post(suite, requester)
    pass_time(1)
    assert post(suite, requester).job_id() != first.job_id()


def test_post__again_after_a_cancel_in_the_same_block__reverts(
    suite: Suite, jobs: Contract, requester: str
) -> None:
    terms = post(suite, requester)
    jobs.cancel(terms.abi_tuple(), sender=requester)
    with boa.reverts("jobs: exists"):
        jobs.post(ORDER.abi_tuple(), sender=requester)


# ---------------------------------------------------------------------- price


def taken_after(suite: Suite, provider: Provider, terms: Terms, seconds: int) -> int:
    """The price at which a job is taken then."""
    with boa.env.anchor():
        pass_time(seconds)
        return int(accept(suite, provider, terms))


@pytest.mark.parametrize(
    ("elapsed", "price"),
    [(0, 10), (1, 10 + 30 / 1_000), (500, 25), (999, 39.97), (1_000, 40), (1_000 + MARGIN, 40)],
)
def test_price__rises_linearly(
    suite: Suite, requester: str, provider: Provider, elapsed: int, price: Any
) -> None:
    terms = post(suite, requester)
    at = terms.posted_at + elapsed
    assert taken_after(suite, provider, terms, elapsed) == round(price * USD) == terms.price_at(at)


def test_price__no_auction__maximum(suite: Suite, requester: str, provider: Provider) -> None:
    terms = post(suite, requester, order(auction=0))
    assert taken_after(suite, provider, terms, 0) == PRICE


def test_price__rounds_down(suite: Suite, requester: str, provider: Provider) -> None:
    terms = post(suite, requester, order(start_price=0, max_price=10, auction=3))
    assert [taken_after(suite, provider, terms, t) for t in range(4)] == [0, 3, 6, 10]


def test_price__widest_values(suite: Suite, requester: str, provider: Provider) -> None:
    largest = 2**120 - 1
    give_usd(suite, requester, largest)
    terms = post(suite, requester, order(start_price=0, max_price=largest, auction=30 * DAY))
    seconds = 30 * DAY - 1
    price = taken_after(suite, provider, terms, seconds)
    assert price == terms.price_at(terms.posted_at + seconds) < largest


# --------------------------------------------------------------------- cancel


def test_cancel__by_the_requester(suite: Suite, jobs: Contract, requester: str) -> None:
    terms = post(suite, requester)
    jobs.cancel(terms.abi_tuple(), sender=requester)
    assert event(jobs, "Cancelled") == {
        "job": terms.job_id(),
        "requester": requester,
        "refund": PRICE,
    }
    assert jobs.state(terms.job_id()) == Status.CANCELLED
    assert jobs.credit_of(requester) == PRICE


def test_cancel__by_anyone_once_it_cannot_be_accepted(
    suite: Suite, jobs: Contract, requester: str, stranger: str
) -> None:
    terms = post(suite, requester)
    until = terms.open_until(MARGIN)
    go_to(until)
    with boa.reverts("jobs: still open"):
        jobs.cancel(terms.abi_tuple(), sender=stranger)
    go_to(until + 1)
    jobs.cancel(terms.abi_tuple(), sender=stranger)
    assert jobs.credit_of(requester) == PRICE
    assert jobs.credit_of(stranger) == 0


def test_cancel__twice__reverts(suite: Suite, jobs: Contract, requester: str) -> None:
    terms = post(suite, requester)
    jobs.cancel(terms.abi_tuple(), sender=requester)
    with boa.reverts("jobs: not open"):
        jobs.cancel(terms.abi_tuple(), sender=requester)


def test_cancel__assigned__reverts(
    suite: Suite, jobs: Contract, requester: str, provider: Provider
) -> None:
    terms = post(suite, requester)
    accept(suite, provider, terms)
    with boa.reverts("jobs: not open"):
        jobs.cancel(terms.abi_tuple(), sender=requester)


def test_cancel__invented_terms__reverts(
    suite: Suite, jobs: Contract, requester: str, stranger: str
) -> None:
    terms = post(suite, requester)
    give_usd(suite, stranger, PRICE)
    forged = (stranger, *terms.abi_tuple()[1:])
    with boa.reverts("jobs: not open"):
        jobs.cancel(forged, sender=stranger)


def test_cancel__under_a_pause(suite: Suite, jobs: Contract, requester: str) -> None:
    terms = post(suite, requester)
    jobs.pause(DAY, sender=suite.guardian)
    jobs.cancel(terms.abi_tuple(), sender=requester)
    assert jobs.status(terms.job_id()) == Status.CANCELLED


def test_post__no_path_to_other_deployments(suite: Suite, requester: str) -> None:
    """The same order in another deployment is another job with its own state."""
    other = deploy_jobs(
        suite.payment,
        suite.staking,
        suite.owner,
        suite.parameters,
        guardian=suite.guardian,
        treasury=suite.treasury,
    )
    terms = post(suite, requester)
    assert other.status(terms.job_id()) == Status.NONE
    with boa.reverts("jobs: not open"):
        other.cancel(terms.abi_tuple(), sender=requester)


# ---------------------------------------------------------------------- states


def test_states__each_in_its_place(suite: Suite, provider: Provider, requester: str) -> None:
    jobs = suite.jobs
    open_job, taken = post(suite, requester), post(suite, requester, order(nonce=77))
    accept(suite, provider, taken)
    ids = [taken.job_id(), b"\x07" * 32, open_job.job_id(), taken.job_id()]
    words = jobs.states(ids)
    assert words == [jobs.state(job) for job in ids]
    assert [word & 255 for word in words] == [Status.ASSIGNED, 0, Status.OPEN, Status.ASSIGNED]


def test_states__none_asked_for__none(jobs: Contract) -> None:
    assert jobs.states([]) == []


def test_states__no_more_than_64(jobs: Contract) -> None:
    assert jobs.states([bytes(32)] * 64) == [0] * 64
    with boa.reverts():
        jobs.states([bytes(32)] * 65)
