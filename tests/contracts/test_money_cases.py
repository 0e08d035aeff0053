# SPDX-License-Identifier: Apache-2.0
"""The ways in which money was taken from others on the first edition, tried on this one.

Each test is one fault of an audit and its kind: what it took then stands in its docstring. The
stories run on revm; after every call the books of everybody are held against the rules (I-12).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from teraproof.protocol.messages import Quote, quote_nonce
from teraproof.protocol.terms import ZERO_ADDRESS, ZERO_WORD, Order, Status
from tests.contracts.deploy import TPF, USD
from tests.contracts.stateful.deal import REFUSABLE, SPEC, TRUSTED
from tests.contracts.stateful.machine import FAR, Hold, Manager, Why
from tests.contracts.stateful.story import LIMIT, Story, tell
from tests.contracts.stateful.world import (
    BURNED,
    DELEGATORS,
    KEYS,
    OPERATORS,
    PAYOUTS,
    STRANGER,
    TENANTS,
    signature,
)

FEW = 10
"""Wei that rounding may move in a story."""
ORDER = Order(SPEC, 10 * USD, 40 * USD, 100 * TPF, 7_200, 1_000, 0, 0, ZERO_WORD, 1, TRUSTED)


@pytest.fixture
def story() -> Iterator[Story]:
    told = tell()
    yield told
    told.end()


def hired(story: Story, provider: str, collateral: int, duration: int, price: int = 5) -> None:
    """A job by quote, for the first tenant; it is the last of `story.jobs`."""
    operator = story.operator_of(provider)
    nonce = quote_nonce(story.next_consent[operator] - 1, story.number())
    quote = Quote(operator, ZERO_ADDRESS, SPEC, price, collateral, duration, FAR, nonce)
    assert story.engage(TENANTS[0], quote, operator)


@pytest.mark.invariant("I-12", "I-13")
def test_f1__a_pool_with_dear_shares_still_pays_its_delegators(story: Story) -> None:
    """462,000 of 462,000 TPF of three epochs went to the owner's payout address."""
    evil, rival = story.provider(0, 1_000), story.provider(1, 30_000)
    story.prove({evil: "p", rival: "pppp"})
    story.free_bond(evil, evil)
    story.leave_pool(evil, evil, story.held_shares(evil, evil) - 10**9)
    story.leave_all(evil, evil)
    story.ladder(evil, DELEGATORS[2], 2_000)
    story.stake(evil, evil, 1_001 * TPF)
    for delegator in DELEGATORS:
        story.stake(delegator, evil, 250_000 * TPF)
    before = [story.books["stake", evil, delegator] for delegator in DELEGATORS]
    paid, had = 0, story.worth(evil) + story.worth(PAYOUTS[0])
    to_payout = story.books["credit", PAYOUTS[0]]
    for _ in range(3):
        story.prove({evil: "pppp", rival: "p"})
        paid += story.reward_due(evil)
        assert story.claim_for(evil)
    gains = [story.books["stake", evil, d] - b for d, b in zip(DELEGATORS, before, strict=True)]
    part = paid * 250_000 // 751_001
    taken = story.worth(evil) + story.worth(PAYOUTS[0]) - had
    story.measure(paid, taken - (paid - 3 * part), 3 * part - sum(gains))
    assert paid > 1_000 * TPF
    assert all(abs(gain - part) <= part // 10**6 + FEW for gain in gains)
    assert story.books["credit", PAYOUTS[0]] - to_payout <= paid // 10**6


@pytest.mark.invariant("I-12", "I-13")
def test_f1__rewards_of_a_pool_with_next_to_no_shares(story: Story) -> None:
    """The same without a ladder: a reward on 10**9 shares, then taken out again."""
    evil, rival = story.provider(0, 1_000), story.provider(1, 30_000)
    for _ in range(3):
        story.prove({evil: "p", rival: "p"})
        story.free_bond(evil, evil)
        held = story.held_shares(evil, evil)
        story.leave_pool(evil, evil, held - min(held - 1, 10**9))
        story.stake(evil, evil, 1_000 * TPF)
        assert story.books.price(evil) <= 1
    story.stake(DELEGATORS[0], evil, 100_000 * TPF)
    story.prove({evil: "ppp", rival: "p"})
    due, before = story.reward_due(evil), story.books["stake", evil, DELEGATORS[0]]
    own, mine = story.books["stake", evil, evil], story.worth(evil) + story.worth(PAYOUTS[0])
    assert story.claim_for(evil)
    gain = story.books["stake", evil, DELEGATORS[0]] - before
    part = due * before // (before + own)
    taken = story.worth(evil) + story.worth(PAYOUTS[0]) - mine
    story.measure(due, taken - (due - part), part - gain)
    assert gain >= due * 98 // 100
    assert abs(gain - part) <= part // 10**6 + FEW


@pytest.mark.invariant("I-13")
@pytest.mark.parametrize("amount", [10**6, 5_000_000 * TPF])
@pytest.mark.parametrize("claimed", [False, True])
def test_f3__stake_that_comes_before_the_claim_gets_nothing(
    story: Story, amount: int, claimed: bool
) -> None:
    """A sniper got 135,882 of 154,000 TPF, an honest delegator 2,174 in place of 110,880."""
    owner, rival = story.provider(0, 20_000, 1_000), story.provider(1, 80_000)
    sniper, honest = DELEGATORS[1], DELEGATORS[0]
    story.stake(honest, owner, 80_000 * TPF)
    e = story.prove({owner: "pp", rival: "pp"})
    assert e.ends_at == story.now
    due, before = story.reward_due(owner), story.worth(sniper)
    had = story.books["stake", owner, honest]
    if claimed:
        assert story.claim_for(owner)
    assert story.stake(sniper, owner, amount)
    if story.unsettled(owner):
        assert story.claim_for(owner)
    if story.books["entry", owner, sniper]:
        assert story.activate_entry(owner, sniper)
    story.leave_all(owner, sniper)
    part = due * 9 // 10 * 80_000 // 100_000
    got = story.books["stake", owner, honest] - had
    story.measure(due, story.worth(sniper) - before, part - got)
    assert story.worth(sniper) <= before + FEW
    assert abs(got - part) <= part // 10**6 + FEW


@pytest.mark.invariant("I-13")
def test_q2__an_operator_that_claims_late_gains_nothing(story: Story) -> None:
    """With 10 M TPF brought before 10 withheld claims it got 1,524,753 of 1,540,000."""
    owner, rival = story.provider(0, 1_000), story.provider(1, 80_000)
    story.stake(DELEGATORS[0], owner, 100_000 * TPF)
    had, due = story.books["stake", owner, DELEGATORS[0]], 0
    mine = story.worth(owner) + story.worth(PAYOUTS[0])
    for _ in range(4):
        story.prove({owner: "pp", rival: "pp"})
        due += story.reward_due(owner)
        # Nobody claims; the next commit does.
    story.stake(owner, owner, 4_000_000 * TPF)
    if story.unsettled(owner):
        assert story.claim_for(owner)
    gain = story.books["stake", owner, DELEGATORS[0]] - had
    part = due * 100 // 101
    taken = story.worth(owner) + story.worth(PAYOUTS[0]) - mine
    story.measure(due, taken - (due - part), part - gain)
    assert gain >= part - due // 10**6


@pytest.mark.invariant("I-13")
def test_p3__nobody_inherits_the_reward_of_an_owner_that_left(story: Story) -> None:
    """1e6 wei bought 138,600 TPF of an owner who had retired after its proof."""
    owner, rival = story.provider(0, 20_000), story.provider(1, 80_000)
    e = story.begin({owner: "pp", rival: "pp"})
    story.go_to(e.window_end)
    story.close()
    story.draw()
    assert story.show(owner, 2)
    assert story.free_bond(owner, owner)
    story.leave_all(owner, owner)
    sniper = DELEGATORS[0]
    before = story.worth(sniper)
    assert story.stake(sniper, owner, 10**6)
    story.go_to(e.ends_at)
    minted, due = story.books["supply",], int(story.part(0, e))
    assert story.claim_for(owner)
    if story.books["entry", owner, sniper]:
        assert story.activate_entry(owner, sniper)
    # The owner gave it up when it left: nobody's due.
    story.measure(due, story.worth(sniper) - before, 0)
    assert story.worth(sniper) <= before + FEW
    assert story.books["supply",] == minted, "what nobody earned is not minted"


@pytest.mark.invariant("I-13")
def test_p3__an_owner_that_leaves_after_the_epoch_takes_its_reward_along(story: Story) -> None:
    owner, rival = story.provider(0, 20_000), story.provider(1, 80_000)
    story.prove({owner: "pp", rival: "pp"})
    due, before = story.reward_due(owner), story.worth(owner)
    assert due > 0 and story.free_bond(owner, owner)
    story.leave_all(owner, owner)
    assert abs(story.worth(owner) - before - due) <= due // 10**6 + FEW


@pytest.mark.invariant("I-12")
def test_f4__much_stake_behind_one_round_takes_nothing_from_others(story: Story) -> None:
    """A whale with one round left the honest 12,198 of 308,000 TPF; 88 % was never minted."""
    honest, other = story.provider(0, 30_000), story.provider(1, 30_000)
    whale = story.provider(2, 1_000)
    e = story.prove({honest: "pppp", other: "pppp"})
    alone = story.reward_due(honest) / float(story.part(0, e))
    story.claim_for(honest)
    story.claim_for(other)
    story.stake(whale, whale, 4_000_000 * TPF)
    e = story.prove({honest: "pppp", other: "pppp", whale: "p"})
    share = story.reward_due(honest) / float(story.part(0, e))
    whole, taken = int(story.part(0, e)), story.reward_due(whale)
    lost = whole * 8 // 9 - story.reward_due(honest) - story.reward_due(other)
    story.measure(whole, taken - whole // 9, lost)
    assert abs(share - alone * 8 / 9) < 0.001
    assert story.reward_due(whale) / float(story.part(0, e)) < 0.12


@pytest.mark.invariant("I-4", "I-13")
def test_f5__nobody_pays_for_a_fault_before_its_time(story: Story) -> None:
    """A delegator that came after the fault lost 990 of the 1,000 TPF bond."""
    owner = story.provider(0, 1_000)
    story.prove({owner: "m"})
    late = DELEGATORS[0]
    before, mine = story.worth(late), story.worth(owner)
    assert story.stake(late, owner, 99_000 * TPF)
    assert story.report(owner)
    bond = story.p.bond
    story.measure(bond, bond - (mine - story.worth(owner)), before - story.worth(late))
    assert story.worth(late) == before
    assert story.books["stake", owner, owner] == 0


@pytest.mark.invariant("I-2", "I-13")
def test_p12__a_fault_that_nobody_reports_ends(story: Story) -> None:
    """Entries do not wait without end, and the score of before has not grown."""
    owner = story.provider(0, 2_000)
    e = story.prove({owner: "m"})
    assert story.stake(DELEGATORS[0], owner, 10 * TPF)
    story.go_to(e.fault_end - 1)
    assert not story.activate_entry(owner, DELEGATORS[0])
    story.go_to(e.fault_end)
    assert story.activate_entry(owner, DELEGATORS[0])
    assert not story.view("benchmark", "score", owner)


@pytest.mark.invariant("I-3", "I-12")
def test_f6__seizing_from_oneself_costs_and_touches_nobody_else(story: Story) -> None:
    """UNBONDING could be skipped for 10 %: it is not free, and delegators pay nothing."""
    owner = story.provider(0, 10_000)
    story.stake(DELEGATORS[0], owner, 5_000 * TPF)
    hired(story, owner, 10_000 * TPF, 1)
    story.go_to(story.now + 2)
    kept, before = story.books["stake", owner, DELEGATORS[0]], story.worth(owner)
    assert story.expire_job(story.jobs[-1], owner)
    assert story.books["stake", owner, DELEGATORS[0]] >= kept
    lost = before - story.worth(owner)
    victims = story.books["credit", TENANTS[0]]
    others = kept - story.books["stake", owner, DELEGATORS[0]]
    story.measure(10_000 * TPF, victims - lost, max(others, 0))
    assert lost == 10_000 * TPF, "the owner gets nothing back, not even the bounty"
    assert victims == 10_000 * TPF * story.p.victim_bps // 10_000


@pytest.mark.invariant("I-12")
@pytest.mark.parametrize("insider", ["owner", "operator", "payout"])
def test_p14__the_provider_earns_no_bounty_on_itself(story: Story, insider: str) -> None:
    """`expire` by the provider gave 10 % of the collateral back."""
    owner = story.provider(0, 1_000)
    hired(story, owner, 1_000 * TPF, 60)
    story.go_to(story.now + 61)
    who = {"owner": owner, "operator": story.operator_of(owner), "payout": PAYOUTS[0]}[insider]
    assert story.expire_job(story.jobs[-1], who)
    story.measure(1_000 * TPF, story.view("staking", "credit_of", who), 0)
    assert story.view("staking", "credit_of", who) == 0


@pytest.mark.invariant("I-13")
def test_q4__a_score_does_not_outlive_its_stake(story: Story) -> None:
    """A provider without stake accepted orders that ask for a score."""
    owner, rival = story.provider(0, 5_000), story.provider(1, 5_000)
    story.prove({owner: "ppp", rival: "p"})
    score = story.view("benchmark", "score", owner)
    assert score > 0 and story.free_bond(owner, owner)
    story.leave_all(owner, owner)
    left = story.view("benchmark", "score", owner)
    story.measure(score, left, 0, "score")
    assert left == 0
    assert story.open_job(TENANTS[0], replace(ORDER, collateral=0, min_score=score), ())
    assert not story.take_job(story.jobs[-1], story.operator_of(owner))


def test_p11__a_finished_job_holds_no_score(story: Story) -> None:
    """A job of one unit kept the whole score for a day after its result."""
    owner = story.provider(0, 5_000)
    story.prove({owner: "ppp"})
    score = story.view("benchmark", "score", owner)
    order = replace(ORDER, collateral=0, auction=0, min_score=score)
    for nonce in (1, 2):
        assert story.open_job(TENANTS[0], replace(order, nonce=nonce), ())
    first, second = story.jobs
    assert story.take_job(first, story.operator_of(owner))
    assert not story.take_job(second, story.operator_of(owner))
    story.attest()
    assert first.status is Status.ATTESTED
    held = story.view("jobs", "reserved_score", owner)
    story.measure(score, held, held, "score")
    assert story.take_job(second, story.operator_of(owner))


def test_p7__a_key_that_was_let_go_stays_let_go(story: Story) -> None:
    """An old consent bound the key again, and its old quotes with it."""
    owner = story.provider(0, 1_000)
    old, new = story.operator_of(owner), OPERATORS[4].address
    nonce = quote_nonce(0, 7)
    quote = Quote(old, ZERO_ADDRESS, SPEC, 5 * USD, 0, 60, FAR, nonce)
    consent = story.consent(owner, old, 0, FAR, old)
    signed = story.consent(owner, new, 0, FAR, new)
    assert story.act("staking.set_operator", (new, 0, FAR, signed), owner, Why())
    story.providers[owner].operator = new
    story.bound(owner, new, 0)
    replayed = story.raw("staking.set_operator", (old, 0, FAR, consent), owner)
    assert replayed == "staking: wrong consent nonce"
    again = story.consent(owner, old, 1, FAR, old)
    assert story.act("staking.set_operator", (old, 1, FAR, again), owner, Why())
    story.providers[owner].operator = old
    story.bound(owner, old, 1)
    args = (quote.abi_tuple(), signature(story.world.jobs, quote, old), False)
    assert old in KEYS
    refusal = story.raw("jobs.hire", args, TENANTS[0])
    passed = (replayed is None) + (refusal is None)
    story.measure(2, passed, passed, "calls")
    assert "earlier consent" in str(refusal)


@pytest.mark.invariant("I-13")
def test_p10__a_raise_after_the_proof_does_not_reach_its_reward(story: Story) -> None:
    """An epoch proven at 0 % paid 153,984 of 154,000 TPF to the payout address."""
    owner, rival = story.provider(0, 1_000), story.provider(1, 51_000)
    story.stake(DELEGATORS[0], owner, 50_000 * TPF)
    story.prove({owner: "pp", rival: "pp"})
    due, had = story.reward_due(owner), story.books["stake", owner, DELEGATORS[0]]
    mine = story.worth(owner) + story.worth(PAYOUTS[0])
    for bps in (9_999, 10_000):
        assert story.act("staking.set_commission", (bps,), owner, Why())
        story.providers[owner].raised, story.providers[owner].raised_from = (
            bps,
            story.now + story.p.commission_delay,
        )
        story.go_to(story.now + 2 * story.p.commission_delay)
    before = story.books["credit", PAYOUTS[0]]
    assert isinstance(story.held(owner), Hold)
    assert story.claim_for(owner)
    part, got = due * 50 // 51, story.books["stake", owner, DELEGATORS[0]] - had
    taken = story.worth(owner) + story.worth(PAYOUTS[0]) - mine
    story.measure(due, taken - (due - part), part - got)
    assert due and story.books["credit", PAYOUTS[0]] - before <= due // 10**6


@pytest.mark.invariant("I-4")
def test_q7__a_fault_survives_the_removal_of_benchmark(story: Story) -> None:
    """The timelock removed Benchmark before the report, and nothing was slashed."""
    owner = story.provider(0, 5_000)
    story.prove({owner: "m"})
    benchmark = story.benchmark_address
    assert story.act("staking.remove_manager", (benchmark,), story.timelock, Why())
    known = story.managers[benchmark]
    story.managers[benchmark] = Manager(known.permissions, known.active_from, story.now)
    assert story.report(owner)
    left = story.books["stake", owner, owner]
    story.measure(story.p.bond, left - (5_000 * TPF - story.p.bond), 0)
    assert left == 4_000 * TPF


@pytest.mark.invariant("I-5", "I-12")
def test_f2__garbage_gains_nothing_where_the_tenant_may_refuse(story: Story) -> None:
    """A stake of nothing attested 0x00.. and was paid; where one may refuse, both lose."""
    owner = story.provider(0, 1_000)
    order = replace(ORDER, auction=0, start_price=40 * USD, judged=REFUSABLE)
    assert story.open_job(TENANTS[0], order, ())
    job = story.jobs[-1]
    assert story.take_job(job, story.operator_of(owner))
    story.attest()
    tenant, stake = story.books["owed", TENANTS[0]], story.books["stake", owner, owner]
    story.refuse()
    gained, lost = story.books["owed", PAYOUTS[0]], tenant + job.price
    story.measure(job.price, gained, lost - story.books["owed", TENANTS[0]], "USD")
    assert job.status is Status.REFUSED
    assert story.books["owed", TENANTS[0]] == tenant
    assert story.books["owed", BURNED] == 40 * USD
    assert story.books["stake", owner, owner] == stake - order.collateral
    assert not story.books["owed", PAYOUTS[0]]


@pytest.mark.invariant("I-12")
def test_pause__the_price_stands_still(story: Story) -> None:
    """A pause of 999 s in an auction of 1,000 s sold at 39.97 of 10..40."""
    owner = story.provider(0, 1_000)
    assert story.open_job(TENANTS[0], ORDER, ())
    job = story.jobs[-1]
    guardian = story.world.suite.guardian
    assert story.act("jobs.pause", (999,), guardian, Why())
    story.paused_until = story.now + 999
    story.pauses.append([story.now, story.paused_until])
    story.go_to(story.paused_until)
    assert story.take_job(job, story.operator_of(owner))
    over = job.price - ORDER.start_price
    story.measure(ORDER.max_price - ORDER.start_price, over, over, "USD")
    assert over == 0


@pytest.mark.invariant("I-3")
def test_q5__min_stake_is_a_filter(story: Story) -> None:
    """A minimum of 100,000 TPF held for one block; what stands behind a job is its collateral."""
    owner, friend = story.provider(0, 100), DELEGATORS[0]
    order = replace(ORDER, auction=0, start_price=40 * USD, min_stake=100_000 * TPF)
    assert story.open_job(TENANTS[0], order, ())
    job, operator = story.jobs[-1], story.operator_of(owner)
    assert not story.take_job(job, operator)
    assert story.stake(friend, owner, 100_000 * TPF)
    assert story.take_job(job, operator)
    story.leave_all(owner, friend)
    locked = story.books["locked", owner]
    story.measure(order.collateral, order.collateral - locked, order.collateral - locked)
    assert story.books["active", owner] < order.min_stake
    assert locked == order.collateral
    refusal = story.raw("staking.undelegate", (owner, story.held_shares(owner, owner)), owner)
    assert refusal is not None and "locked" in refusal
    story.go_to(job.deadline + 1)
    assert story.expire_job(job, STRANGER)
    assert story.books["stake", owner, owner] <= FEW


@pytest.mark.invariant("I-7")
def test_q6__a_batch_whose_first_opening_somebody_sent_goes_on_with_the_rest(story: Story) -> None:
    """The batch reverted; the proof is whole all the same, for one call more."""
    owner = story.provider(0, 5_000)
    e = story.begin({owner: "pp"})
    story.go_to(e.window_end)
    story.close()
    story.draw()
    proof = story.proofs[owner]
    asked = story.samples(owner, proof)
    batch = [story.opening(Why(), owner, proof, sample) for sample in asked]
    # A stranger sends the first of the batch before it.
    assert story.show(owner, 1)
    assert "number of openings" in str(story.raw("benchmark.open_samples", (owner, batch), owner))
    assert story.show(owner, len(batch) - 1)
    score, *_ = story.view("benchmark", "share_of", owner, e.number)
    whole = story.results[owner][0]
    story.measure(whole, 0, whole - score, "score")
    assert score == whole > 0


def test_p13__a_quote_for_anyone_is_taken_once_by_the_first(story: Story) -> None:
    """A quote without a requester is for whoever is first; agents sign none."""
    owner = story.provider(0, 1_000)
    operator = story.operator_of(owner)
    nonce = quote_nonce(story.next_consent[operator] - 1, 7)
    quote = Quote(operator, ZERO_ADDRESS, SPEC, 5, 10 * TPF, 60, FAR, nonce)
    args = (quote.abi_tuple(), signature(story.world.jobs, quote, operator), False)
    assert story.engage(TENANTS[0], quote, operator)
    again = story.raw("jobs.hire", args, TENANTS[1])
    story.measure(2, int(again is None), 0, "calls")
    assert story.jobs[-1].terms.requester == TENANTS[0]
    assert again is not None and "used" in again
    named = replace(quote, requester=TENANTS[0], nonce=nonce + 1)
    args = (named.abi_tuple(), signature(story.world.jobs, named, operator), False)
    assert "another requester" in str(story.raw("jobs.hire", args, TENANTS[1]))
    assert story.raw("jobs.hire", args, TENANTS[0]) is None


def test_stories__leave_no_trace(story: Story) -> None:
    """Everybody of a story can leave, too (I-2)."""
    owner = story.provider(0, 10_000, 500)
    story.stake(DELEGATORS[0], owner, LIMIT)
    story.prove({owner: "pppp"})
    hired(story, owner, 10 * TPF, 60)
    assert story.stake(STRANGER, owner, 5)
    story.leave()
