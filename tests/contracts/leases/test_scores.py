# SPDX-License-Identifier: Apache-2.0
"""A proven score is sold once: leases and jobs together reserve no more of it than there is."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import boa
import pytest

from teraproof.protocol.lease_terms import LeaseTerms
from teraproof.protocol.terms import Terms
from tests.contracts import actions, lease_actions
from tests.contracts.actions import Provider, attest, event, pass_time
from tests.contracts.deploy import (
    LOCK,
    ZERO_ADDRESS,
    Contract,
    Parameters,
    Suite,
    address_of,
    deploy_leases,
    deploy_suite,
)
from tests.contracts.lease_actions import by_operator, call, live_for

TOO_LOW = "eligibility: score too low"


class Scene:
    """One provider with a score of 100, and tenants of both kinds."""

    def __init__(self, suite: Suite, provider: Provider) -> None:
        self.suite, self.provider = suite, provider
        self.tenant, self.numbers = address_of("tenant"), count()
        self.prove(100)

    def prove(self, score: int) -> None:
        self.suite.scores.set_score(self.provider.owner, score)

    def lease(self, score: int) -> LeaseTerms:
        wanted = lease_actions.order(min_score=score, nonce=next(self.numbers), collateral=0)
        return lease_actions.assigned(self.suite, self.tenant, self.provider, wanted)

    def job(self, score: int) -> Terms:
        wanted = actions.order(min_score=score, nonce=next(self.numbers), collateral=0)
        return actions.assigned(self.suite, self.tenant, self.provider, wanted)

    @property
    def reserved(self) -> tuple[int, int]:
        """By leases, by jobs."""
        return tuple(  # type: ignore[return-value]
            int(contract.reserved_score(self.provider.owner))
            for contract in (self.suite.leases, self.suite.jobs)
        )


@pytest.fixture
def scene(suite: Suite, provider: Provider) -> Scene:
    return Scene(suite, provider)


def test_score__what_a_lease_reserves_no_job_gets(scene: Scene) -> None:
    scene.lease(60)
    assert scene.suite.leases.score(scene.provider.owner) == 40
    with boa.reverts(TOO_LOW):
        scene.job(41)
    scene.job(40)
    assert scene.reserved == (60, 40)


def test_score__what_a_job_reserves_no_lease_gets(scene: Scene) -> None:
    scene.job(60)
    with boa.reverts(TOO_LOW):
        scene.lease(41)
    scene.lease(40)
    assert scene.reserved == (40, 60)


def test_score__in_turns_never_more_than_there_is(scene: Scene) -> None:
    for n in range(5):
        scene.lease(10)
        scene.job(10)
        assert sum(scene.reserved) == 20 * (n + 1)
    for sell in (scene.lease, scene.job):
        with boa.reverts(TOO_LOW):
            sell(1)
        sell(0)


def test_score__a_lease_alone_has_all_of_it(scene: Scene) -> None:
    with boa.reverts(TOO_LOW):
        scene.lease(101)
    scene.lease(100)


def test_score__an_attestation_frees_it_for_leases(scene: Scene) -> None:
    job = scene.job(100)
    attest(scene.suite, scene.provider, job)
    scene.lease(100)
    assert scene.reserved == (100, 0)


@pytest.mark.parametrize("way", ["close", "reject", "leave", "expire", "over"])
def test_score__every_end_of_a_lease_frees_it(scene: Scene, way: str, p: Parameters) -> None:
    suite, provider = scene.suite, scene.provider
    lease = scene.lease(100)
    if way == "expire":
        pass_time(lease.order.ready_within + 1)
    else:
        by_operator(suite, provider, "ready", lease)
    if way == "over":
        pass_time(lease.order.term + 1)
    name = "close" if way == "over" else way
    call(suite, name, lease, provider.operator.address if way == "leave" else scene.tenant)
    assert scene.reserved == (0, 0)
    scene.job(100)


def test_score__that_falls_leaves_nothing_to_sell_and_ends_nothing(scene: Scene) -> None:
    lease = scene.lease(60)
    by_operator(scene.suite, scene.provider, "ready", lease)
    scene.prove(50)
    assert scene.suite.leases.score(scene.provider.owner) == 0
    for sell in (scene.lease, scene.job):
        with boa.reverts(TOO_LOW):
            sell(1)
    live_for(scene.suite, scene.provider, 700)
    call(scene.suite, "settle", lease, scene.tenant)


def test_score__that_falls_below_what_jobs_hold__a_lease_that_asks_for_none_is_taken(
    scene: Scene,
) -> None:
    scene.job(60)
    scene.prove(50)
    scene.lease(0)
    with boa.reverts(TOO_LOW):
        scene.lease(1)


def test_score__the_smallest_is_reserved_too(scene: Scene) -> None:
    scene.lease(1)
    assert scene.reserved == (1, 0)


def test_score__a_quote_asks_for_none(scene: Scene) -> None:
    """Who hires by name has chosen already, as in Jobs."""
    scene.prove(0)
    lease_actions.hire(scene.suite, scene.tenant, scene.provider)
    assert scene.reserved == (0, 0)


# -------------------------------------------------------------------------------- set-up


@pytest.fixture
def unwired(suite: Suite, p: Parameters) -> Contract:
    """Leases that know no Jobs yet, deployed by the first account."""
    return bare(suite, p, scores=suite.scores.address)


def bare(suite: Suite, p: Parameters, scores: str = ZERO_ADDRESS) -> Contract:
    return deploy_leases(
        suite.payment,
        suite.staking,
        suite.owner,
        p,
        scores=scores,
        guardian=suite.guardian,
        treasury=suite.treasury,
    )


def test_setup__without_jobs_no_lease_asks_for_a_score(
    suite: Suite, unwired: Contract, tenant: str
) -> None:
    suite.payment.mint(tenant, 10**15)
    suite.payment.approve(unwired.address, 10**15, sender=tenant)
    with boa.reverts("eligibility: no source of scores"):
        unwired.open(lease_actions.order(min_score=1).abi_tuple(), sender=tenant)
    unwired.open(lease_actions.ORDER.abi_tuple(), sender=tenant)


def test_setup__without_a_source_no_lease_asks_for_a_score(
    suite: Suite, p: Parameters, tenant: str
) -> None:
    blind = bare(suite, p)
    blind.setup_jobs(suite.jobs.address)
    assert blind.score(tenant) == 0
    with boa.reverts("eligibility: no source of scores"):
        blind.open(lease_actions.order(min_score=1).abi_tuple(), sender=tenant)


def test_setup__by_the_deployer_once(
    suite: Suite, unwired: Contract, owner: str, stranger: str
) -> None:
    for account in (stranger, owner):
        with boa.reverts("leases: not the deployer"):
            unwired.setup_jobs(suite.jobs.address, sender=account)
    unwired.setup_jobs(suite.jobs.address)
    assert event(unwired, "JobsNamed") == {"jobs": suite.jobs.address}
    assert unwired.jobs() == suite.jobs.address
    with boa.reverts("leases: not the deployer"):
        unwired.setup_jobs(suite.jobs.address)


def test_setup__leases_that_staking_does_not_know_take_none(
    suite: Suite, unwired: Contract, tenant: str, provider: Provider
) -> None:
    suite.payment.mint(tenant, 10**15)
    suite.payment.approve(unwired.address, 10**15, sender=tenant)
    unwired.open(lease_actions.ORDER.abi_tuple(), sender=tenant)
    terms = LeaseTerms.from_abi(actions.plain(event(unwired, "Opened")["terms"]))
    with boa.reverts("staking: caller lacks the permission"):
        unwired.accept(terms.abi_tuple(), sender=provider.operator.address)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"max_gap": 0}, "liveness: max gap out of bounds"),
        ({"max_gap": 86_401, "abandon": 86_401}, "liveness: max gap out of bounds"),
        ({"abandon": 299}, "leases: abandon out of bounds"),
        ({"abandon": 7 * 86_400 + 1}, "leases: abandon out of bounds"),
        ({"max_suspension": 0}, "leases: max suspension out of bounds"),
        ({"max_suspension": 7 * 86_400 + 1}, "leases: max suspension out of bounds"),
        ({"open_margin": 0}, "leases: open margin out of bounds"),
        ({"open_margin": 30 * 86_400 + 1}, "leases: open margin out of bounds"),
        ({"lock_margin": 0}, "collateral: zero lock margin"),
        ({"grace": 9}, "config: challenge window out of bounds"),
    ],
)
def test_init__bounds(suite: Suite, p: Parameters, changes: dict[str, int], reason: str) -> None:
    with boa.reverts(reason):
        bare(suite, replace(p, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"max_gap": 1, "abandon": 1},
        {"max_gap": 86_400, "abandon": 86_400},
        {"abandon": 7 * 86_400},
        {"max_suspension": 1},
        {"max_suspension": 7 * 86_400},
        {"open_margin": 1},
        {"open_margin": 30 * 86_400},
    ],
)
def test_init__at_each_bound(suite: Suite, p: Parameters, changes: dict[str, int]) -> None:
    bare(suite, replace(p, **changes))


def test_init__an_owner_there_must_be(suite: Suite, p: Parameters) -> None:
    with boa.reverts("leases: zero owner"):
        deploy_leases(
            suite.payment,
            suite.staking,
            ZERO_ADDRESS,
            p,
            guardian=suite.guardian,
            treasury=suite.treasury,
        )


def test_suite__leases_stand_between_jobs_and_the_scores(suite: Suite) -> None:
    assert suite.jobs.SCORES() == suite.leases.address
    assert suite.leases.SCORES() == suite.scores.address
    assert suite.managers[str(suite.leases.address)] == LOCK


def test_suite__with_the_real_source() -> None:
    made = deploy_suite(with_benchmark=True, with_leases=True)
    assert made.leases.SCORES() == made.benchmark.address
    assert made.jobs.SCORES() == made.leases.address
