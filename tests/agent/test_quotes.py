# SPDX-License-Identifier: Apache-2.0
"""Quotes: signed only for what can be kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from provider_agent.core.feed import EventFeed
from provider_agent.core.funds import Funds
from provider_agent.core.spent import SpentQuotes
from provider_agent.modules.jobs.backfill import Backfill
from provider_agent.modules.jobs.quotes import QuoteDesk
from provider_agent.modules.jobs.settings import JobsSettings
from provider_agent.store import IntentState
from provider_agent.tx.keys import OperatorKey
from teraproof.contracts.jobs import JobsContract
from teraproof.contracts.token import TokenContract
from teraproof.errors import Refused
from teraproof.protocol import messages
from teraproof.protocol.errors import Code
from teraproof.protocol.jobspec import JobSpec
from teraproof.protocol.terms import ZERO_ADDRESS, Order
from teraproof.rpc.pace import Pace
from teraproof.rpc.types import BlockRef
from tests.agent.duty_parts import JOBS, OPERATOR, OTHER, OWNER, START, TENANT, TPF, TUSD
from tests.agent.duty_rig import Rig

DOMAIN = messages.Domain(31337, JOBS)


def desk_of(rig: Rig) -> QuoteDesk:
    return QuoteDesk(
        book=rig.book,
        duty=rig.duty,
        promises=rig.promises,
        policy=rig.policy,
        key=OperatorKey(OPERATOR),
        turns=rig.turns,
        funds=Funds(cast(JobsContract, rig.chain), cast(TokenContract, rig.chain), lambda: rig.now),
        spent=SpentQuotes(rig.chain, OPERATOR.address),
        inputs=rig.inputs,
        domain=DOMAIN,
        good_for=rig.settings.section(JobsSettings).quote_seconds,
        halt=rig.halt,
        clock=lambda: rig.now,
    )


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    made.cycle()
    yield made
    made.duty.close()


@pytest.fixture
def desk(rig: Rig) -> QuoteDesk:
    return desk_of(rig)


def refused(desk: QuoteDesk, *arguments: Any) -> Code:
    with pytest.raises(Refused) as error:
        desk.issue(*arguments)
    return error.value.code


def test_issue__default_behavior(rig: Rig, desk: QuoteDesk) -> None:
    spec = rig.spec(timeout_seconds=3600)
    rig.upload(spec)
    needed = rig.policy.seconds_needed(spec, rig.promises.load())
    quote, signature = desk.issue(TENANT, spec)
    assert messages.recover(DOMAIN, quote, signature) == OPERATOR.address == quote.operator
    assert (quote.requester, quote.spec) == (TENANT, spec.digest())
    assert quote.price == 10**6
    assert quote.collateral == 100 * TPF  # the owner's limit an order
    assert quote.duration > 3600 + rig.settings.section(JobsSettings).margin_seconds
    assert quote.duration == needed + 600, "ten minutes for a job that has paid and runs before it"
    assert START + 60 <= quote.expires <= START + 60 + 5, "a minute after the newest block"
    kept = rig.records.quote(quote.struct_hash())
    assert kept is not None and kept.signature == signature


def test_issue__no_gas_money__no_quote(rig: Rig, desk: QuoteDesk) -> None:
    spec = rig.spec()
    rig.upload(spec)
    rig.reserve.jobs = 0
    assert refused(desk, TENANT, spec) is Code.AGENT_NOT_READY


def test_issue__nonce_carries_the_consent_in_force(rig: Rig) -> None:
    """One after the other under one consent, elsewhere under the next."""
    spec = rig.spec()
    rig.upload(spec)
    nonces = []
    for consent in (4, 4, 5, 5):
        rig.chain.consent = consent
        rig.next_block(rig.settings.section(JobsSettings).quote_seconds + 5)
        rig.restart()
        rig.cycle()
        nonces.append(desk_of(rig).issue(TENANT, spec)[0].nonce)
    assert [nonce >> 128 for nonce in nonces] == [4, 4, 5, 5]
    assert nonces[1] == nonces[0] + 1
    assert nonces[3] == nonces[2] + 1
    assert nonces[2] % 2**128 != nonces[1] % 2**128 + 1


def test_issue__inputs_missing__place_is_reserved_for_a_while(rig: Rig, desk: QuoteDesk) -> None:
    assert not desk.specs_of(TENANT)
    assert refused(desk, TENANT, rig.spec()) is Code.INPUTS_MISSING
    assert desk.specs_of(TENANT)
    assert not desk.specs_of(OTHER)
    rig.now += 901
    assert not desk.specs_of(TENANT)


def test_issue__inputs_of_another_account_do_not_count(rig: Rig, desk: QuoteDesk) -> None:
    spec = rig.spec()
    rig.upload(spec)
    assert refused(desk, OTHER, spec) is Code.INPUTS_MISSING


@pytest.mark.parametrize("taker", [ZERO_ADDRESS, OTHER])
def test_issue__a_quote_is_good_for_who_asked_alone(rig: Rig, desk: QuoteDesk, taker: str) -> None:
    """One without a requester could be used by whoever sees it first."""
    spec = rig.spec()
    rig.upload(spec)
    quote, signature = desk.issue(TENANT, spec)
    assert quote.requester == TENANT
    changed = replace(quote, requester=taker)
    assert messages.recover(DOMAIN, changed, signature) != OPERATOR.address


def test_issue__too_many_reservations(rig: Rig, desk: QuoteDesk) -> None:
    for number in range(32):
        refused(desk, f"0x{number:040x}", rig.spec())
    assert refused(desk, OTHER, rig.spec()) is Code.UPLOADERS_BUSY
    assert refused(desk, f"0x{0:040x}", rig.spec()) is Code.INPUTS_MISSING
    rig.next_block(901)
    rig.cycle()
    assert refused(desk, OTHER, rig.spec()) is Code.INPUTS_MISSING


def test_issue__asked_again__the_same_quote_while_it_lives(rig: Rig, desk: QuoteDesk) -> None:
    """An answer may get lost on its way; asking again must not take a second slot."""
    spec = rig.spec()
    rig.upload(spec)
    first = desk.issue(TENANT, spec)
    assert desk.specs_of(TENANT)
    rig.next_block(20)
    rig.cycle()
    assert desk.issue(TENANT, spec) == first
    rig.restart()
    rig.cycle()
    assert desk_of(rig).issue(TENANT, spec) == first, "also after a restart"
    assert len(rig.records.live_quotes(0)) == 1
    rig.next_block(rig.settings.section(JobsSettings).quote_seconds + 5)
    rig.cycle()
    again, _ = desk_of(rig).issue(TENANT, spec)
    assert again.nonce != first[0].nonce and again.expires > rig.now


def test_issue__hired_by_and_no_cycle_has_seen_it__another_quote(tmp_path: Path) -> None:
    """A tenant who is faster than the agent: the contract would refuse the quote that it used."""
    rig = Rig(tmp_path, agent={"slots": 4})
    rig.cycle()
    desk, spec = desk_of(rig), rig.spec()
    rig.upload(spec)
    first, _ = desk.issue(TENANT, spec)
    rig.chain.used_quotes.add(first.nonce)
    rig.chain.money = 2 * first.price - 1  # enough for one more, and not for both
    second, _ = desk.issue(TENANT, spec)
    assert second.nonce != first.nonce
    assert desk.issue(TENANT, spec)[0] == second
    assert len(rig.promises.quotes) == 2, "the place of the first is kept until a cycle has seen it"
    rig.duty.close()


def test_spent_quotes__a_stranger_costs_no_memory(rig: Rig) -> None:
    spent = SpentQuotes(rig.chain, OPERATOR.address)
    rig.chain.used_quotes |= set(range(3_000))
    assert all(spent.look(nonce) for nonce in range(3_000))
    assert sum(nonce in spent for nonce in range(3_000)) == 1_024


def test_issue__several__the_money_must_cover_all_of_them(tmp_path: Path) -> None:
    rig = Rig(tmp_path, agent={"slots": 8})
    rig.cycle()
    desk = desk_of(rig)
    specs = [rig.spec(name=f"job {number}") for number in range(3)]
    for spec in specs:
        rig.upload(spec)
    rig.chain.money = 2 * rig.policy.price(specs[0])
    desk.issue(TENANT, specs[0])
    desk.issue(TENANT, specs[1])
    with pytest.raises(Refused) as stopped:
        desk.issue(TENANT, specs[2])
    needed = 3 * rig.policy.price(specs[0])
    assert stopped.value.code is Code.FUNDS_MISSING
    assert stopped.value.details["needed"] == str(needed), "programs get units"
    assert TUSD.show(needed) in str(stopped.value), "people get tokens"
    desk.issue(TENANT, specs[0])  # is there already
    rig.next_block(rig.settings.section(JobsSettings).quote_seconds + 5)
    rig.cycle()
    desk.issue(TENANT, specs[2])
    rig.duty.close()


def accounts_with(rig: Rig, number: int) -> list[tuple[str, JobSpec]]:
    """Accounts that have sent what a quote needs."""
    made = []
    for n in range(number):
        account = f"0x{n + 1:040x}"
        spec = rig.spec(name=f"job of {n}")
        rig.upload(spec, account=account)
        made.append((account, spec))
    return made


@pytest.mark.parametrize(("slots", "most"), [(1, 1), (2, 1), (3, 1), (4, 2), (8, 4)])
def test_issue__quotes_hold_at_most_half_of_the_slots(
    tmp_path: Path, slots: int, most: int
) -> None:
    rig = Rig(tmp_path, agent={"slots": slots})
    rig.cycle()
    desk = desk_of(rig)
    asked = accounts_with(rig, most + 1)
    for account, spec in asked[:most]:
        desk.issue(account, spec)
    assert refused(desk, *asked[most]) is Code.SLOTS_TAKEN
    rig.duty.close()


@pytest.mark.parametrize("slots", [1, 4])
def test_quotes__orders_that_pay_are_taken_beside_them(tmp_path: Path, slots: int) -> None:
    """A quote costs nothing: it must not keep out whoever has paid, however long the work is."""
    rig = Rig(tmp_path, agent={"slots": slots})
    rig.cycle()
    desk = desk_of(rig)
    for account, spec in accounts_with(rig, max(1, slots // 2)):
        desk.issue(account, spec)
    spec = rig.spec(timeout_seconds=2_000)
    rig.upload(spec)
    orders = [rig.post(spec, duration=10_000, collateral=0) for _ in range(slots)]
    rig.cycle()
    assert rig.intents() == [("accept", "planned")] * slots
    for terms in orders:
        rig.assign(terms)
    rig.next_block(2)
    rig.cycle(2)
    # Those who may still hire find their slots free.
    assert len(rig.runner.started) == slots - max(1, slots // 2)
    rig.next_block(rig.settings.section(JobsSettings).quote_seconds + 5)
    rig.cycle(2)
    assert len(rig.runner.started) == slots
    rig.duty.close()


def test_quotes__order_cannot_wait__quotes_are_cancelled_and_it_is_taken(
    rig: Rig, desk: QuoteDesk
) -> None:
    (account, long), *_ = accounts_with(rig, 1)
    long = rig.spec(timeout_seconds=80_000)
    rig.upload(long, account=account)
    quote, _signature = desk.issue(account, long)
    spec = rig.spec()
    rig.upload(spec)
    terms = rig.post(spec, duration=300)
    rig.cycle()
    assert rig.blocked(terms) is Code.SLOTS_TAKEN
    ((action, _state),) = rig.intents()
    (intent,) = rig.store.intents_of(quote.struct_hash().hex())
    assert action == "cancel_quote"
    assert intent.data == rig.chain.cancel_quotes(quote.nonce >> 8, 1 << (quote.nonce & 255))
    assert refused(desk, OTHER, rig.spec(inputs=[])) is Code.SLOTS_TAKEN, "none in the meantime"
    for state in (IntentState.SIGNED, IntentState.SENT, IntentState.MINED):
        rig.store.set_intent_state(intent.id, state)
    rig.chain.used_quotes.add(quote.nonce)
    rig.next_block()
    rig.cycle()
    assert ("accept", "planned") in rig.intents()
    assert not rig.promises.used, "nobody has hired by it"
    assert not rig.promises.is_awaited, "quotes are signed again"


def test_quotes__order_cannot_wait__a_quote_that_ends_soon_is_not_cancelled(
    rig: Rig, desk: QuoteDesk
) -> None:
    (account, long), *_ = accounts_with(rig, 1)
    long = rig.spec(timeout_seconds=80_000)
    rig.upload(long, account=account)
    desk.issue(account, long)
    rig.next_block(50)
    spec = rig.spec()
    rig.upload(spec)
    rig.post(spec, duration=300)
    rig.cycle()
    assert rig.intents() == []
    rig.next_block(20)
    rig.cycle()
    assert rig.intents() == [("accept", "planned")]


def test_issue__after_hiring__next_quote_counts_the_job(rig: Rig, desk: QuoteDesk) -> None:
    spec, other = rig.spec(), rig.spec(name="another")
    rig.upload(spec)
    rig.upload(other)
    quote, _ = desk.issue(TENANT, spec)
    terms = rig.post(
        spec,
        start_price=quote.price,
        max_price=quote.price,
        nonce=int.from_bytes(quote.struct_hash(), "big"),
    )
    assert isinstance(terms.order, Order)
    rig.assign(terms)
    rig.next_block()
    rig.cycle(2)
    # Anybody can post a job with that nonce; only the chain tells that the quote is used.
    assert desk.issue(TENANT, spec)[0] == quote
    rig.chain.used_quotes.add(quote.nonce)
    rig.next_block()
    rig.cycle(2)
    assert refused(desk, TENANT, spec) is Code.SLOTS_TAKEN
    assert refused(desk, TENANT, other) is Code.SLOTS_TAKEN


def test_quotes__used_and_the_job_is_not_known__its_slot_stays_taken(
    rig: Rig, desk: QuoteDesk
) -> None:
    """Events get lost: what was hired is owed all the same."""
    spec, other = rig.spec(), rig.spec(name="another")
    rig.upload(spec)
    rig.upload(other)
    quote, _ = desk.issue(TENANT, spec)
    rig.chain.used_quotes.add(quote.nonce)
    rig.next_block(rig.settings.section(JobsSettings).quote_seconds + 5)
    rig.cycle()
    assert refused(desk, TENANT, other) is Code.SLOTS_TAKEN
    rig.next_block(quote.duration)
    rig.cycle()
    desk.issue(TENANT, other)


def test_issue__tenant_without_money(rig: Rig, desk: QuoteDesk) -> None:
    spec = rig.spec()
    rig.upload(spec)
    rig.chain.money = rig.policy.price(spec) - 1
    assert refused(desk, TENANT, spec) is Code.FUNDS_MISSING


def test_issue__slots_are_promised(rig: Rig, desk: QuoteDesk) -> None:
    spec = rig.spec()
    rig.upload(spec)
    for _ in range(2):
        rig.assign(rig.post(spec))
    rig.next_block()
    rig.cycle(2)
    assert refused(desk, TENANT, spec) is Code.SLOTS_TAKEN


def test_issue__machine_cannot_run_it(rig: Rig, desk: QuoteDesk) -> None:
    assert refused(desk, TENANT, rig.spec(runtime="rust")) is Code.RUNTIME_NOT_OFFERED
    assert not desk.specs_of(TENANT)


def test_issue__not_registered(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.chain.operator = OTHER
    assert refused(desk_of(rig), TENANT, rig.spec()) is Code.NOT_REGISTERED
    rig.cycle()
    assert refused(desk_of(rig), TENANT, rig.spec()) is Code.NOT_REGISTERED
    rig.duty.close()


def test_issue__orders_are_paused(rig: Rig, desk: QuoteDesk) -> None:
    spec = rig.spec()
    rig.upload(spec)
    rig.chain.paused_until_ = START + 1000
    rig.restart()
    rig.cycle()
    assert refused(desk_of(rig), TENANT, spec) is Code.ORDERS_PAUSED


def test_issue__little_stake_left__quoted_collateral_fits(rig: Rig) -> None:
    spec = rig.spec()
    rig.upload(spec)
    rig.chain.locked = 995 * TPF
    rig.chain.own_stake = 1000 * TPF
    rig.restart()
    rig.cycle()
    # The owner's limit in all is 500 TPF, and more than that is locked.
    quote, _ = desk_of(rig).issue(TENANT, spec)
    assert quote.collateral == 0


def test_funds__asked_once_for_an_account_and_block(rig: Rig) -> None:
    """What strangers ask for must not become requests to a node each time."""
    looks = 0

    class Counted:
        def credit_of(self, account: str, block: BlockRef) -> int:
            nonlocal looks
            looks += 1
            return 0

        def balance_of(self, account: str, block: BlockRef) -> int:
            return 5

    chain = Counted()
    now = [0.0]
    funds = Funds(cast(JobsContract, chain), cast(TokenContract, chain), lambda: now[0])
    for _ in range(100):
        assert funds.of(TENANT, rig.block) == 5
    assert looks == 1
    rig.next_block()
    assert funds.of(TENANT, rig.block) == 5
    assert looks == 1, "blocks may come faster than money moves"
    now[0] += 6
    assert funds.of(TENANT, rig.block) == 5
    assert looks == 2
    for number in range(3000):
        funds.of(f"0x{number:040x}", rig.block)
    assert len(funds._looks) <= 1024


def test_quote_used_and_job_unknown__old_events_are_read_again(
    rig: Rig, desk: QuoteDesk, caplog: pytest.LogCaptureFixture
) -> None:
    spec = rig.spec()
    rig.upload(spec)
    quote, _ = desk.issue(TENANT, spec)
    sent: list[int] = []
    now = [0.0]
    feed = cast(EventFeed, SimpleNamespace(look_back=sent.append))
    pace = cast(Pace, SimpleNamespace(seconds=12.0))
    backfill = Backfill(rig.book, rig.promises, feed, pace, 4, lambda: now[0])
    backfill.look(rig.block, OWNER)
    assert len(sent) == 1, "once at the start"
    backfill.look(rig.block, OWNER)
    assert len(sent) == 1
    rig.chain.used_quotes.add(quote.nonce)
    for _ in range(50):
        rig.next_block()
    rig.cycle()
    now[0] += 21
    backfill.look(rig.block, OWNER)
    assert len(sent) == 2 and sent[-1] <= 100, "from when the quote was signed"
    assert "its job is not known" in caplog.text
    rig.post(spec, nonce=int.from_bytes(quote.struct_hash(), "big"))
    now[0] += 21
    backfill.look(rig.block, OWNER)
    assert len(sent) == 2, "the job is known now"
