# SPDX-License-Identifier: Apache-2.0
"""The suite that every example of leases starts from, on revm."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

from teraproof.protocol.messages import Domain, OperatorConsent
from tests.contracts.deploy import TPF, USD, Suite, deploy_suite, deployed_by
from tests.contracts.revm import Revm
from tests.contracts.stateful.world import (
    MANAGERS,
    OPERATORS,
    OWNERS,
    PARAMETERS,
    PAYOUTS,
    STARTED,
    STRANGER,
    TENANTS,
    UNLIMITED,
    signature,
)

FAR = 2**40
PEOPLE = (*TENANTS, *PAYOUTS, *OWNERS[:2], STRANGER)
STAKE = 20_000 * TPF


@dataclass(frozen=True)
class LeaseWorld:
    """The deployed suite with two providers, and what signs for it."""

    suite: Suite
    chain: Revm
    leases: Domain
    operators: dict[str, str]
    """Owner -> operator."""
    payouts: dict[str, str]


@cache
def lease_world() -> LeaseWorld:
    """Deployed once a process."""
    chain = Revm(STARTED)
    p = replace(PARAMETERS, challenge_window=600)
    with deployed_by(chain.deployer):
        suite = deploy_suite(p, with_scores=True, with_leases=True, managers=MANAGERS)
    for name in ("token", "payment", "staking", "jobs", "leases", "scores"):
        chain.rename(getattr(suite, name), name)
    domain = Domain(1, str(suite.staking.address))
    operators: dict[str, str] = {}
    payouts: dict[str, str] = {}
    for owner, key, payout in zip(OWNERS[:2], OPERATORS[:2], PAYOUTS, strict=True):
        signed = signature(domain, OperatorConsent(owner, key.address, 0, FAR), key.address)
        limits = (10**23, 10**24)
        suite.staking.register(key.address, payout, 0, *limits, "url", 0, FAR, signed, sender=owner)
        suite.token.transfer(owner, STAKE, sender=suite.faucet)
        suite.token.approve(suite.staking.address, UNLIMITED, sender=owner)
        suite.staking.delegate(owner, STAKE, sender=owner)
        operators[owner], payouts[owner] = key.address, payout
    for account in (*TENANTS, STRANGER):
        suite.payment.mint(account, 10**12 * USD)
        suite.payment.approve(suite.leases.address, UNLIMITED, sender=account)
    chain.sent = chain.reverted = 0
    return LeaseWorld(suite, chain, Domain(1, str(suite.leases.address)), operators, payouts)
