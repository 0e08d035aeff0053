# SPDX-License-Identifier: Apache-2.0
"""The auction's clock and a job's open time stand still in a pause, whatever the guardian does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import boa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from teraproof.protocol.terms import Assignment, Judged
from tests.contracts.actions import (
    ORDER,
    Provider,
    accept,
    attest,
    event,
    go_to,
    now,
    order,
    pass_time,
    post,
)
from tests.contracts.deploy import DAY, USD, Contract, Suite

pytestmark = pytest.mark.invariant("I-12")

MARGIN = 3_600
MAX_PAUSE = 7 * DAY


@pytest.fixture
def guardian(suite: Suite) -> str:
    return suite.guardian


# ---------------------------------------------------------------- paused_seconds


def test_paused_seconds__counts_what_has_passed(jobs: Contract, guardian: str) -> None:
    assert jobs.paused_seconds() == 0
    jobs.pause(100, sender=guardian)
    seen = []
    for _ in range(4):
        seen.append(jobs.paused_seconds())
        pass_time(40)
    assert seen == [0, 40, 80, 100]
    pass_time(DAY)
    assert jobs.paused_seconds() == 100


def test_paused_seconds__lifted_early__what_was_paused(
    suite: Suite, jobs: Contract, guardian: str
) -> None:
    jobs.pause(DAY, sender=guardian)
    pass_time(100)
    jobs.unpause(sender=suite.owner)
    assert jobs.paused_seconds() == 100
    pass_time(2 * DAY)
    assert jobs.paused_seconds() == 100


def test_paused_seconds__lifted_in_its_block__none(jobs: Contract, guardian: str) -> None:
    jobs.pause(DAY, sender=guardian)
    jobs.unpause(sender=guardian)
    assert jobs.paused_seconds() == 0


def test_paused_seconds__unpause_without_a_pause__nothing_changes(
    jobs: Contract, guardian: str
) -> None:
    jobs.pause(100, sender=guardian)
    pass_time(500)
    for _ in range(2):
        jobs.unpause(sender=guardian)
        assert jobs.paused_seconds() == 100


def test_paused_seconds__adds_up(jobs: Contract, guardian: str) -> None:
    for number in range(1, 4):
        jobs.pause(MAX_PAUSE, sender=guardian)
        go_to(jobs.next_pause())
        assert jobs.paused_seconds() == number * MAX_PAUSE


def test_paused_seconds__setters_keep_it(suite: Suite, jobs: Contract, guardian: str) -> None:
    jobs.pause(100, sender=guardian)
    jobs.set_fee(1_000, sender=suite.owner)
    jobs.set_challenge_window(14 * DAY, sender=suite.owner)
    pass_time(100)
    assert jobs.paused_seconds() == 100
    assert (jobs.fee_bps(), jobs.challenge_window()) == (1_000, 14 * DAY)
    jobs.unpause(sender=guardian)
    assert (jobs.fee_bps(), jobs.challenge_window()) == (1_000, 14 * DAY)


# ------------------------------------------------------------------- the auction


def test_pause__through_most_of_an_auction__price_stands_still(
    suite: Suite, jobs: Contract, requester: str, provider: Provider, guardian: str
) -> None:
    """A guardian in league with a provider cannot sell at the maximum."""
    terms = post(suite, requester)
    jobs.pause(999, sender=guardian)
    pass_time(999)
    assert accept(suite, provider, terms) == ORDER.start_price
    assert jobs.state(terms.job_id()) == Assignment(provider.owner, now(), 999).state_word()


def test_pause__in_the_middle__the_rest_runs_after_it(
    suite: Suite, jobs: Contract, requester: str, provider: Provider, guardian: str
) -> None:
    terms = post(suite, requester)
    pass_time(250)
    jobs.pause(MAX_PAUSE, sender=guardian)
    pass_time(MAX_PAUSE + 250)
    assert accept(suite, provider, terms) == 25 * USD


def test_pause__before_the_post__does_not_count(
    suite: Suite, jobs: Contract, requester: str, provider: Provider, guardian: str
) -> None:
    jobs.pause(700, sender=guardian)
    pass_time(700)
    terms = post(suite, requester)
    assert terms.paused == 700
    pass_time(500)
    assert accept(suite, provider, terms) == 25 * USD
    assert jobs.state(terms.job_id()) == Assignment(provider.owner, now(), 0).state_word()


def test_pause__settled_at_the_price_of_the_acceptance(
    suite: Suite, jobs: Contract, requester: str, provider: Provider, guardian: str
) -> None:
    terms = post(suite, requester)
    jobs.pause(300, sender=guardian)
    pass_time(800)
    price = accept(suite, provider, terms)
    record = attest(suite, provider, terms)
    assert record.paused == event(jobs, "Attested")["paused"] == 300
    with boa.reverts("jobs: not the attested record"):
        forged = replace(record, paused=0)
        jobs.approve(terms.abi_tuple(), forged.abi_tuple(), sender=requester)
    jobs.approve(terms.abi_tuple(), record.abi_tuple(), sender=requester)
    assert event(jobs, "Settled")["paid"] == price - price * 250 // 10_000
    assert price == 25 * USD


@pytest.mark.invariant("I-5")
@pytest.mark.parametrize("end", ["expire", "refuse"])
def test_pause__other_ends_at_the_price_of_the_acceptance(
    suite: Suite, jobs: Contract, requester: str, provider: Provider, guardian: str, end: str
) -> None:
    """I-5 with a pause: both parts are the escrow."""
    terms = post(suite, requester, order(judged=Judged.REFUSABLE))
    jobs.pause(300, sender=guardian)
    pass_time(800)
    assert accept(suite, provider, terms) == 25 * USD
    if end == "expire":
        pass_time(ORDER.duration + 1)
        jobs.expire(terms.abi_tuple())
        assert event(jobs, "Expired")["refund"] == 25 * USD
        assert jobs.credit_of(requester) == ORDER.max_price
    else:
        record = attest(suite, provider, terms)
        jobs.refuse(terms.abi_tuple(), record.abi_tuple(), sender=requester)
        assert event(jobs, "Refused")["burned"] == 25 * USD


# ----------------------------------------------------------------- the open time


@pytest.mark.parametrize("late", [False, True])
def test_accept__open_time_stands_still__exact(
    suite: Suite, jobs: Contract, requester: str, provider: Provider, guardian: str, late: bool
) -> None:
    terms = post(suite, requester)
    pass_time(1_000 + MARGIN)
    jobs.pause(DAY, sender=guardian)
    go_to(terms.open_until(MARGIN, DAY) + late)
    if late:
        with boa.reverts("jobs: no longer open"):
            accept(suite, provider, terms)
    else:
        assert accept(suite, provider, terms) == ORDER.max_price


def test_cancel__open_time_stands_still__exact(
    suite: Suite, jobs: Contract, requester: str, guardian: str, stranger: str
) -> None:
    """A stranger's cancel and the last acceptance have one border, in a pause too."""
    terms = post(suite, requester)
    pass_time(1_000 + MARGIN)
    jobs.pause(DAY, sender=guardian)
    for time in (now(), now() + DAY // 2, now() + DAY):
        go_to(time)
        with boa.reverts("jobs: still open"):
            jobs.cancel(terms.abi_tuple(), sender=stranger)
    pass_time(1)
    jobs.cancel(terms.abi_tuple(), sender=stranger)
    assert jobs.credit_of(requester) == ORDER.max_price


def test_cancel__in_a_pause__the_requester_need_not_wait(
    suite: Suite, jobs: Contract, requester: str, guardian: str
) -> None:
    terms = post(suite, requester)
    jobs.pause(MAX_PAUSE, sender=guardian)
    jobs.cancel(terms.abi_tuple(), sender=requester)
    assert jobs.credit_of(requester) == ORDER.max_price


@pytest.mark.invariant("I-2")
def test_pause__whenever_it_can__longest_order_still_ends(
    suite: Suite, jobs: Contract, requester: str, provider: Provider, guardian: str, stranger: str
) -> None:
    """I-2: half of the time can be paused, so an open job ends after twice its time.

    The seconds that the state word must hold stay far below its 24 bits.
    """
    terms = post(suite, requester, order(auction=30 * DAY))
    while True:
        if now() >= jobs.next_pause():
            jobs.pause(MAX_PAUSE, sender=guardian)
        try:
            jobs.cancel(terms.abi_tuple(), sender=stranger)
            break
        except boa.BoaError:
            pass_time(MAX_PAUSE)
    assert now() - terms.posted_at <= 2 * (30 * DAY + MARGIN) + 2 * MAX_PAUSE
    assert jobs.paused_seconds() < 2**24


# ---------------------------------------------------------------- any pattern

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.integers(1, 400)),
        st.tuples(st.just("pass"), st.integers(1, 2 * MAX_PAUSE)),
        st.tuples(st.just("pause"), st.integers(1, 2_000)),
        st.tuples(st.just("pause"), st.integers(1, MAX_PAUSE)),
        st.tuples(st.just("unpause"), st.just(0)),
    ),
    max_size=12,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=STEPS, after=STEPS)
def test_any_pauses__price_follows_the_seconds_that_were_not_paused(
    suite: Suite,
    jobs: Contract,
    requester: str,
    provider: Provider,
    guardian: str,
    before: Any,
    after: Any,
) -> None:
    """The price never rises in a pause, and is that of a market without one at the same age."""
    with boa.env.anchor():
        free = age = 0

        def take(step: Any, amount: int) -> None:
            nonlocal free
            if step == "pass":
                start, until = now(), jobs.paused_until()
                pass_time(amount)
                free += amount - max(min(now(), until) - start, 0)
            elif step == "pause" and now() >= jobs.next_pause():
                jobs.pause(amount, sender=guardian)
            elif step == "unpause":
                jobs.unpause(sender=guardian)

        for step in before:
            take(*step)
        if now() < jobs.paused_until():
            jobs.unpause(sender=guardian)
        terms = post(suite, requester)
        posted, free = now(), 0
        last = terms.order.start_price
        for step, amount in after:
            paused = now() < jobs.paused_until()
            age = free
            take(step, amount)
            price = terms.price_at(now(), terms.paused_since(jobs.paused_seconds()))
            if now() >= jobs.paused_until() and free <= ORDER.auction + MARGIN:
                with boa.env.anchor():
                    assert accept(suite, provider, terms) == price
            assert price >= last
            if paused and free == age:
                assert price == last
            last = price
            assert now() - posted - terms.paused_since(jobs.paused_seconds()) == free
            assert price == terms.price_at(terms.posted_at + free)
        if now() < jobs.paused_until():
            with boa.reverts("guardian: orders are paused"):
                accept(suite, provider, terms)
            jobs.unpause(sender=guardian)
        if free > ORDER.auction + MARGIN:
            with boa.reverts("jobs: no longer open"):
                accept(suite, provider, terms)
        else:
            assert accept(suite, provider, terms) == last
            taken = Assignment(provider.owner, now(), now() - posted - free)
            assert jobs.state(terms.job_id()) == taken.state_word()
