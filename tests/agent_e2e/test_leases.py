# SPDX-License-Identifier: Apache-2.0
"""Leases on the real contracts: what the agent owes, and what it must never do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from provider_agent.dataplane.holders import Phase
from provider_agent.modules.leases.wishes import Wish, wish
from teraproof.errors import Refused
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_terms import LeaseStatus
from teraproof.protocol.lease_wire import LeaseOutcome
from teraproof.protocol.leasespec import Port
from tests.agent.leases.documents import service, spec
from tests.agent_e2e.chain import TPF, Deployment
from tests.agent_e2e.lease_rig import LeaseRig, rig

GAP, ABANDON, SUSPENSION, GRACE = 60, 180, 600, 30  # of the plan for a local chain
POLL = 2.0  # seconds between two cycles, as an agent has it by itself


def suspended(agent: LeaseRig) -> bool:
    return agent.status() is LeaseStatus.ACTIVE and agent.marks().suspended_at > 0


def hurried(agent: LeaseRig) -> bool:
    """Whether the agent wants to look again well before its usual pause is over."""
    again = agent.module.look_again
    return again is not None and again < POLL / 2


def refused(agent: LeaseRig, *arguments: Any, **changes: Any) -> Code:
    with pytest.raises(Refused) as caught:
        agent.quote(*arguments, **changes)
    return caught.value.code


# ------------------------------------------------------------------ from a quote to an end


def test_quote__hired_by__runs_and_is_ready(agent: LeaseRig) -> None:
    terms = agent.hire(agent.quote())
    assert agent.status() is LeaseStatus.ASSIGNED
    agent.until(lambda: agent.status() is LeaseStatus.ACTIVE, "ready lease")
    assert agent.runner.starts == [terms.lease_id().hex()]
    assert agent.sent("ready") == 1
    agent.cycle(3)
    report = agent.module._views.report(terms.lease_id())
    assert report is not None
    assert report.running and report.blocked_by is None and report.outcome is None
    assert (report.requester, report.rate) == (agent.tenant.address, terms.order.max_rate)
    assert report.ends_at == agent.state().since + 3_600
    assert [(one.service, one.status) for one in report.containers] == [("web", "running")]


def test_tenant_waits__looked_at_often__and_no_more_once_it_runs(agent: LeaseRig) -> None:
    assert not hurried(agent)
    agent.hire(agent.quote())
    agent.cycle()
    assert hurried(agent)
    agent.until(lambda: agent.status() is LeaseStatus.ACTIVE, "ready lease")
    agent.cycle(2)
    assert not hurried(agent)


def test_lease_that_cannot_be_prepared__not_looked_at_often_for_long(agent: LeaseRig) -> None:
    agent.hire(agent.quote(ready_within=900))
    agent.runner.unfit = "there is no such image"
    agent.cycle()
    assert hurried(agent)
    agent.anvil.step(120)
    agent.cycle()
    assert agent.status() is LeaseStatus.ASSIGNED
    assert not hurried(agent)


def test_tenant_closes__nothing_is_left_on_the_machine(agent: LeaseRig) -> None:
    agent.active()
    agent.call(agent.tenant, "close")
    agent.until(lambda: agent.name in agent.runner.removed, "removal")
    row = agent.row()
    assert row is not None and row.outcome is LeaseOutcome.BY_TENANT
    assert agent.locked() == 0
    agent.cycle(2)
    held = agent.context.capacity.holds()
    assert not [hold for hold in held.values() if hold.by == "leases" and hold.amounts.gas]


def test_tenant_rejects_in_the_grace__ends_without_a_call_of_ours(agent: LeaseRig) -> None:
    agent.active()
    agent.call(agent.tenant, "reject")
    agent.until(lambda: agent.name in agent.runner.removed, "removal")
    row = agent.row()
    assert row is not None and row.outcome is LeaseOutcome.REJECTED
    assert agent.sent("close") == 0


def test_end_of_the_term__closed_by_the_clock_and_paid(agent: LeaseRig) -> None:
    agent.active(term=120)
    for _ in range(5):
        agent.anvil.step(30)
        agent.cycle()
    agent.until(lambda: agent.status() is LeaseStatus.NONE, "end")
    agent.until(lambda: agent.name in agent.runner.removed, "removal")
    row = agent.row()
    assert row is not None and row.outcome is LeaseOutcome.OVER
    assert 0 < row.seconds <= 120
    credit = agent.leases.read("credit_of", agent.owner.address)
    assert 0 < credit <= agent.terms.order.max_rate * 120
    assert agent.sent("close") == 1


def test_deposit_used_up__closed(agent: LeaseRig) -> None:
    agent.hire(agent.quote(), seconds=40)
    agent.until(lambda: agent.status() is LeaseStatus.ACTIVE, "ready lease")
    agent.anvil.step(38)
    agent.until(lambda: agent.status() is LeaseStatus.NONE, "end")
    agent.cycle(2)
    row = agent.row()
    assert row is not None and row.outcome is LeaseOutcome.DRY


def test_ports__open_from_the_confirmation_to_the_end(agent: LeaseRig) -> None:
    agent.active()
    lease, holders = agent.terms.lease_id(), agent.module._plane._holders
    agent.cycle()
    (held,) = holders.holdings()
    assert (held.lease, held.requester) == (lease, agent.tenant.address)
    assert (held.phase, held.lease_id) == (Phase.GRACE, agent.name)
    agent.call(agent.tenant, "confirm")
    agent.cycle()
    (held,) = holders.holdings()
    assert held.phase is Phase.CONFIRMED
    report = agent.module._views.report(lease)
    assert report is not None
    (way,) = report.endpoints
    assert way.url == f"teraproof://127.0.0.1:{agent.module._plane.port}/web/80"
    agent.call(agent.tenant, "close")
    agent.cycle(2)
    assert not holders.holdings()
    ended = holders.find(lease)
    assert ended is not None and ended.phase is Phase.ENDED


def test_public_port__none_offered__refused_before_a_quote(agent: LeaseRig) -> None:
    with pytest.raises(Refused) as caught:
        agent.upload(spec(service(ports=(Port(80, 80, "tcp", True),))))
    assert caught.value.code is Code.NETWORK_NOT_OFFERED


def test_challenge__the_desk_knows_what_the_lease_has(agent: LeaseRig) -> None:
    agent.hire(agent.quote())
    lease = agent.terms.lease_id()
    assert agent.module._views.place(lease) is None
    agent.until(lambda: agent.status() is LeaseStatus.ACTIVE, "ready lease")
    # The chain has it; whether the agent has looked since is nothing to its tenant.
    place = agent.module._views.place(lease)
    assert place is not None
    assert (place.tenant, place.engines) == (agent.tenant.address, ("cpu",))
    assert place.lease.provider == agent.owner.address
    assert place.memory == 64 << 20
    agent.call(agent.tenant, "close")
    agent.cycle(3)
    assert agent.module._views.place(lease) is None


# ------------------------------------------------------------------ heartbeats


def test_heartbeat__one_for_any_number_of_leases(agent: LeaseRig) -> None:
    for _ in range(3):
        agent.active()
    before = agent.sent("heartbeat")
    for _ in range(12):
        agent.anvil.step(9)
        agent.cycle()
    # 120 seconds and three leases: one every 40.
    assert 2 <= agent.sent("heartbeat") - before <= 3


def test_heartbeat__no_lease_runs__none(agent: LeaseRig) -> None:
    agent.active()
    agent.call(agent.tenant, "close")
    agent.cycle(3)
    before = len(agent.intents())
    for _ in range(6):
        agent.anvil.step(60)
        agent.cycle()
    assert len(agent.intents()) == before


def test_rent__every_second_that_it_ran_is_counted(agent: LeaseRig) -> None:
    agent.active()
    since = agent.state().since
    for _ in range(30):
        agent.anvil.step(7)
        agent.cycle()
    assert agent.seconds() == agent.anvil.timestamp() - since


# ------------------------------------------------------------------ what is down


def test_container_dies__suspended_and_resumed_as_often_as_it_happens(agent: LeaseRig) -> None:
    agent.active()
    for number in range(1, 4):
        agent.runner.dead.add(agent.name)
        agent.until(lambda: suspended(agent), "suspension")
        row = agent.row()
        assert row is not None and "web 0 exited" in row.note
        agent.runner.dead.clear()
        agent.until(lambda: not suspended(agent), "resumption")
        assert agent.sent("suspend") == agent.sent("resume") == number


def test_container_dies__no_rent_until_it_runs_again(agent: LeaseRig) -> None:
    agent.active()
    agent.anvil.step(GRACE + 1)
    agent.cycle(2)
    agent.runner.dead.add(agent.name)
    agent.until(lambda: suspended(agent), "suspension")
    due = agent.seconds()
    for _ in range(5):
        agent.anvil.step(60)
        agent.cycle()
    assert agent.seconds() == due
    agent.runner.dead.clear()
    agent.until(lambda: not suspended(agent), "resumption")
    assert agent.seconds() <= due + GAP


def test_engine_away__suspended_and_nothing_is_started_twice(agent: LeaseRig) -> None:
    agent.active()
    agent.runner.away = True
    agent.until(lambda: suspended(agent), "suspension")
    agent.runner.away = False
    agent.until(lambda: not suspended(agent), "resumption")
    assert agent.runner.starts == [agent.name]
    assert agent.runner.removed == []


def test_suspended_for_long__silence_does_not_cost_the_collateral(agent: LeaseRig) -> None:
    agent.active(notice=60)
    agent.runner.dead.add(agent.name)
    agent.until(lambda: suspended(agent), "suspension")
    for _ in range(40):
        agent.anvil.step(30)
        if agent.status() is LeaseStatus.NONE:
            break
        agent.cycle()
    agent.cycle(3)
    row = agent.row()
    assert row is not None and row.outcome is LeaseOutcome.OVER
    assert agent.sent("give_notice") == 1
    assert agent.locked() == 0
    assert agent.deployment.staking.read("owner_assets", agent.owner.address) >= 10**6 * TPF - 10


# ------------------------------------------------------------------ what the owner wants


def test_owner_wants_to_leave__notice_and_then_the_end(agent: LeaseRig) -> None:
    agent.active(notice=60)
    wish(agent.folder, agent.terms.lease_id(), Wish.NOTICE)
    agent.until(lambda: agent.marks().leaves_at > 0, "notice")
    assert not suspended(agent)
    agent.anvil.step(61)
    agent.until(lambda: agent.status() is LeaseStatus.NONE, "end")
    agent.cycle(2)
    row = agent.row()
    assert row is not None and row.outcome is LeaseOutcome.OVER
    assert agent.locked() == 0
    assert list((agent.folder / "lease-wishes").iterdir()) == []


def test_owner_leaves_at_once__the_collateral_is_the_price(agent: LeaseRig) -> None:
    agent.active()
    assert agent.terms.order.collateral > 0
    wish(agent.folder, agent.terms.lease_id(), Wish.LEAVE)
    agent.until(lambda: agent.status() is LeaseStatus.NONE, "end")
    agent.cycle(2)
    row = agent.row()
    assert row is not None and row.outcome is LeaseOutcome.BY_PROVIDER


# ------------------------------------------------------------------ quotes and orders


def test_quote__asked_for_twice__the_same(agent: LeaseRig) -> None:
    one = agent.quote()
    assert agent.quote() == one
    assert agent.quote(term=7_200) != one


def test_quote_that_was_used__no_cycle_has_seen_it__another_one(agent: LeaseRig) -> None:
    """A tenant faster than the agent: five hires between two cycles, and each has its quote."""
    small = spec(service(cpu_millis=100))
    hired = [agent.hire(agent.quote(small), 600) for _ in range(5)]
    others = [agent.hire(agent.quote(small, term=3_600 + n), 600) for n in range(1, 3)]
    assert len({one.order.nonce for one in (*hired, *others)}) == 7
    for terms in (*hired, *others):
        agent.until(lambda one=terms: agent.status(one) is LeaseStatus.ACTIVE, "ready lease")
    assert not agent.module._promises.quotes()


def test_quote_that_was_used__its_lease_is_known__no_cycle_asks_for_it_again(
    agent: LeaseRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there were: else each cycle would compare every quote with every lease."""
    for _ in range(3):
        agent.active()
        agent.call(agent.tenant, "close")
    agent.active()
    agent.cycle(2)
    asked: list[str] = []
    records = agent.module._records
    monkeypatch.setattr(records, "names_spec", lambda *_: asked.append("leases"))
    agent.cycle(3)
    assert asked == []
    assert records.quotes(agent.operator.address, "used") == []
    # What it has bound is still known, over a restart, too.
    monkeypatch.undo()
    agent.restart()
    agent.cycle(3)
    nonce = agent.terms.order.nonce.to_bytes(32, "big")
    kept = agent.module._records.quote(nonce, agent.operator.address)
    assert kept is not None and kept.state not in ("live", "over")
    assert agent.runner.starts.count(agent.name) == 1 and not suspended(agent)


def test_quotes__never_for_more_than_there_is(agent: LeaseRig) -> None:
    half = spec(service(cpu_millis=1_000))
    agent.quote(half)
    agent.quote(half, term=7_200)
    assert refused(agent, half, term=4_000) is Code.CORES_TAKEN
    agent.restart()
    agent.cycle(2)
    assert refused(agent, half, term=4_000) is Code.CORES_TAKEN


def test_quote__hired_in_its_last_moment_while_the_agent_is_down__ours(agent: LeaseRig) -> None:
    signed = agent.quote()
    agent.stop()
    agent.hire(signed)
    agent.start()
    agent.until(lambda: agent.status() is LeaseStatus.ACTIVE, "ready lease")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"term": 59}, Code.DURATION_TOO_SHORT),
        ({"term": 365 * 86_400}, Code.LIMIT_EXCEEDED),
        ({"ready_within": 10}, Code.DURATION_TOO_SHORT),
        ({"notice": 3_000}, Code.LIMIT_EXCEEDED),
    ],
)
def test_quote__on_terms_that_are_not_given__says_which(
    agent: LeaseRig, changes: dict[str, int], code: Code
) -> None:
    assert refused(agent, **changes) is code


def test_quote__for_a_lease_that_wants_the_internet__refused(agent: LeaseRig) -> None:
    with pytest.raises(Refused) as caught:
        agent.upload(spec(outbound=True))
    assert caught.value.code is Code.NETWORK_NOT_OFFERED


def test_quote__image_that_cannot_be_had__refused(agent: LeaseRig) -> None:
    agent.runner.unfit = "no such image"
    assert refused(agent) is Code.IMAGE_UNFIT


def test_quote__engine_away__refused(agent: LeaseRig) -> None:
    agent.runner.away = True
    agent.cycle(2)
    assert refused(agent) is Code.CONTAINERS_AWAY


def test_quote__for_who_has_no_money__refused(agent: LeaseRig) -> None:
    agent.tenant = agent.stranger
    assert refused(agent) is Code.FUNDS_MISSING


def test_open_order__taken_once_its_rate_reaches_ours(agent: LeaseRig) -> None:
    one = agent.upload()
    asked = agent.module._policy.rate(one, 3_600)
    terms = agent.open(one, max_rate=2 * asked, deposit=2 * asked * 3_600)
    agent.cycle(3)
    assert agent.status() is LeaseStatus.OPEN
    agent.anvil.step(70)
    agent.until(lambda: agent.status() is LeaseStatus.ACTIVE, "ready lease")
    row = agent.row()
    assert row is not None and asked <= row.rate <= 2 * asked
    assert agent.runner.starts == [terms.lease_id().hex()]


def test_open_order__specification_unknown__left(agent: LeaseRig) -> None:
    agent.open(spec(name="unknown"))
    agent.anvil.step(100)
    agent.cycle(4)
    assert agent.status() is LeaseStatus.OPEN
    assert agent.intents() == []


def test_open_orders__no_more_are_taken_than_fit(agent: LeaseRig) -> None:
    one = agent.upload(spec(service(cpu_millis=1_000)))
    orders = [agent.open(one) for _ in range(4)]
    agent.anvil.step(100)
    agent.cycle(8)
    taken = [terms for terms in orders if agent.status(terms) is LeaseStatus.ACTIVE]
    assert len(taken) == 2
    assert len(agent.runner.leases.keys() & {one.lease_id().hex() for one in orders}) == 2


def test_open_order__somebody_is_quicker__nothing_is_left(
    market: Deployment, agent: LeaseRig, tmp_path: Path
) -> None:
    one = agent.upload()
    terms = agent.open(one)
    agent.anvil.step(100)
    with rig(market, tmp_path / "other") as other:
        other.cycle(2)
        other.tenant, other.terms = agent.tenant, terms
        other.upload(one)
        other.until(lambda: other.status() is LeaseStatus.ACTIVE, "ready lease")
        agent.cycle(3)
        assert agent.runner.starts == []
        assert agent.context.capacity.load().committed == 0
        row = agent.row()
        assert row is None or not row.is_ours
