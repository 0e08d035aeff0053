# SPDX-License-Identifier: Apache-2.0
"""The leases' part of `make attack` finds faults that are planted in Leases, and nothing else.

Also: what some strategies cost, to the unit.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from teraproof.protocol.lease_terms import Ending
from tests.attack import lease_scenes
from tests.attack.lease_moves import CASE, LeaseMove, breaks, dies
from tests.attack.lease_play import TICK, Act
from tests.attack.lease_scenes import BPS, LEASES, Tenement, net
from tests.attack.leasehold import PROVIDER, PUPPET, TENANT, build, leasehold
from tests.attack.search import work
from tests.attack.wealth import played
from tests.contracts.deploy import TPF
from tests.contracts.plant import EVERY, SEED, check_found, plant
from tests.contracts.stateful.lease_world import lease_world
from tests.contracts.stateful.world import OPERATORS, PAYOUTS
from tests.support import budget

OPERATOR = OPERATORS[0].address

# The moment; file, line, what is planted in its place, what the search says of it.
PLANTED = {
    "the end pays what was settled once more": (
        "outsider",
        "deals/tenancy.vy",
        "        rent - fee - self._net(terms.made, now.rate * now.lease.paid)\n",
        "        rent - fee\n",
        "Leases holds",
    ),
    "silence is paid": (
        "lessor",
        "deals/liveness.vy",
        "        return pulse.acc + min(time - pulse.last, MAX_GAP)\n",
        "        return pulse.acc + (time - pulse.last)\n",
        "a tenant pays",
    ),
    "a suspension is paid": (
        "lessor",
        "deals/tenure.vy",
        "        liveness._live(now.pulse, block.timestamp) - now.lease.base\n",
        "        liveness._live(now.pulse, now.marks.suspended_at) - now.lease.base\n",
        "a tenant pays",
    ),
    "a provider can be accused after a missed heartbeat": (
        "lessee",
        "deals/tenancy.vy",
        "    return time > now.pulse.last + ABANDON or (\n",
        "    return time > now.pulse.last + liveness.MAX_GAP or (\n",
        "an honest provider loses",
    ),
    "a lease can be rejected after the grace": (
        "lessee",
        "deals/tenure.vy",
        '    assert now.in_grace, "leases: grace is over"\n',
        "    now.seconds = 0\n",
        r"\d+ units are paid|\d+ seconds for nothing",
    ),
    "anybody suspends": (
        "outsider",
        "deals/tenure.vy",
        "    liveness._check_operator(now.pulse.provider)\n"
        '    assert now.marks.suspended_at == 0, "leases: suspended already"\n',
        '    assert now.marks.suspended_at == 0, "leases: suspended already"\n',
        r"\d+ units are paid|leases.\w+ is refused",
    ),
    "anybody ends a lease that runs": (
        "outsider",
        "deals/tenure.vy",
        '        assert msg.sender == terms.requester, "leases: still running"\n',
        "",
        "an outsider ends",
    ),
    "nothing is seized of a provider that was not ready": (
        "lessor",
        "deals/tenancy.vy",
        "    if reason in [NOT_READY, BY_PROVIDER, ABANDONED]:\n",
        "    if reason in [BY_PROVIDER, ABANDONED]:\n",
        "a tenant gets 0 wei",
    ),
}


@pytest.mark.parametrize("name", budget.every(EVERY, [*PLANTED]))
def test_search__finds_what_is_planted(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment, file, line, fault, says = PLANTED[name]
    plant("Leases", file, line, fault, tmp_path, monkeypatch)
    made = build(lease_world.__wrapped__())
    monkeypatch.setattr(lease_scenes, "leasehold", lambda: made)
    check_found(moment, says)


@pytest.mark.parametrize("name", LEASES)
def test_search__finds_nothing_else(name: str) -> None:
    share = work(name, range(50), SEED)
    assert (share.tries, share.found) == (50, "")
    assert share.best == 0, "no strategy pays"


@pytest.mark.parametrize("name", LEASES)
def test_lease__is_as_before_after_a_strategy(name: str) -> None:
    at = Tenement(name)
    before = at.room.wealth(), at.room.chain.now
    at.judge([does("leases.settle", 5 * TICK, PUPPET)])
    assert (at.room.wealth(), at.room.chain.now) == before


def does(target: str, at: int, sender: str, amount: int = 0) -> LeaseMove:
    return LeaseMove("act", Act(at, target, sender, amount))


def test_every_case__can_be_ordered() -> None:
    at = Tenement("outsider")
    for first in range(30):
        for second in (0, 1, 5, 12, 29):
            case = [
                LeaseMove(kind.__name__, Act(0, "", PUPPET), first, second, first % 2 == 0)
                for kind in CASE
                if kind not in (breaks, dies)
            ]
            assert at.judge(case).fault == "", case


def test_nothing__is_tried__all_is_paid_to_the_second() -> None:
    play, usd, tpf = played(Tenement("outsider"))
    rent = play.terms.order.deposit
    assert play.ending is not None and play.ending["reason"] == Ending.DRY
    assert usd[TENANT] == -rent and usd[PAYOUTS[0]] == net(rent, play.terms)
    assert not any(tpf.values()) and usd[PUPPET] == 0


def test_leaving__costs_the_collateral__and_the_tenant_has_its_part() -> None:
    play, usd, tpf = played(Tenement("lessor"), does("leases.leave", 5 * TICK + 7, OPERATOR))
    served = 3 * TICK + 7
    assert play.ending is not None and play.ending["reason"] == Ending.BY_PROVIDER
    assert usd[TENANT] == -served * play.price
    assert tpf[PROVIDER] == -play.collateral * TPF
    assert tpf[TENANT] == play.collateral * TPF * play.p.victim_bps // BPS


def test_vanishing__pays_no_second_beyond_the_last_gap__and_costs_the_collateral() -> None:
    gone = LeaseMove("vanishes", Act(0, "", PUPPET), first=5, flag=True)
    play, usd, tpf = played(Tenement("lessor"), gone)
    assert play.ending is not None and play.ending["reason"] == Ending.ABANDONED
    # Ready at 2, last heard of at 4, and that is good for one tick more.
    assert usd[TENANT] == -3 * TICK * play.price
    assert tpf[PROVIDER] == -play.collateral * TPF


def test_rejecting__in_the_last_second_of_the_grace_is_free__in_the_next_it_is_refused() -> None:
    ready, grace = 2 * TICK, leasehold().p.challenge_window
    slow = LeaseMove("ends", Act(0, "", PUPPET), first=0, second=5, flag=False)
    play, usd, _ = played(Tenement("lessee"), slow, does("leases.reject", ready + grace, TENANT))
    assert play.ending is not None and play.ending["reason"] == Ending.REJECTED
    assert usd[TENANT] == 0 and play.served == grace
    play, usd, _ = played(
        Tenement("lessee"), slow, does("leases.reject", ready + grace + 1, TENANT)
    )
    assert play.ending is not None and play.ending["reason"] == Ending.DRY
    assert usd[TENANT] == -play.terms.order.deposit
