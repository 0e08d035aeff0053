# SPDX-License-Identifier: Apache-2.0
"""The deployed suite that all examples start from, and its people by role."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import boa

from provider_agent.protocol.messages import Domain, Message, sign
from tests.contracts.deploy import (
    DAY,
    LOCK,
    REWARD,
    SLASH,
    TPF,
    USD,
    Parameters,
    Suite,
    account_of,
    address_of,
    deploy_suite,
)

# Short enough that a jump across one deadline does not pass all others.
PARAMETERS = Parameters(
    unbonding=3 * DAY, max_lock=20 * DAY, commission_delay=2 * DAY, lock_margin=2 * DAY
)
UNLIMITED = 2**256 - 1

OWNERS = tuple(address_of(f"provider {n}") for n in range(4))
OPERATORS = tuple(account_of(f"operator {n}") for n in range(8))
DELEGATORS = tuple(address_of(f"delegator {n}") for n in range(3))
TENANTS = tuple(address_of(f"tenant {n}") for n in range(3))
PAYOUTS = tuple(address_of(f"payout {n}") for n in range(2))
# Owns nothing and holds no right: it pokes what anybody may poke.
STRANGER = address_of("stranger")
# A manager with every permission, and two that may be announced later.
WARDEN = address_of("warden")
CANDIDATES = (address_of("candidate 0"), address_of("candidate 1"))
KEYS = {account.address: account for account in OPERATORS}
# For notes.
NAMES = {STRANGER: "stranger", WARDEN: "warden"} | {
    address: f"{role} {n}"
    for role, group in (
        ("provider", OWNERS),
        ("operator", tuple(KEYS)),
        ("delegator", DELEGATORS),
        ("tenant", TENANTS),
        ("payout", PAYOUTS),
        ("candidate", CANDIDATES),
    )
    for n, address in enumerate(group)
}


@dataclass(frozen=True)
class Market:
    """The suite and the domains of its messages."""

    suite: Suite
    staking: Domain
    jobs: Domain
    deployed_at: int

    @property
    def holders(self) -> tuple[str, ...]:
        """Everybody that may own stake."""
        return (*OWNERS, *DELEGATORS)

    @property
    def people(self) -> tuple[str, ...]:
        """Everybody that may be owed something."""
        fixed = (STRANGER, WARDEN, *CANDIDATES, self.suite.treasury)
        return (*self.holders, *TENANTS, *PAYOUTS, *fixed)


def build_market(parameters: Parameters = PARAMETERS, *, proofs: bool = False) -> Market:
    """Deploy, and give everybody tokens and allowances.

    With `proofs` the scores come from Benchmark, and Emissions rewards them; else they are set by
    hand.
    """
    managers = {WARDEN: LOCK | SLASH | REWARD}
    suite = deploy_suite(
        parameters, with_scores=not proofs, with_benchmark=proofs, managers=managers
    )
    for account in (*OWNERS, *DELEGATORS, WARDEN, *CANDIDATES):
        suite.token.transfer(account, 5_000_000 * TPF, sender=suite.faucet)
        suite.token.approve(suite.staking.address, UNLIMITED, sender=account)
    for account in TENANTS:
        suite.payment.mint(account, 10**12 * USD)
        suite.payment.approve(suite.jobs.address, UNLIMITED, sender=account)
    # What a stranger donates.
    suite.token.transfer(STRANGER, 5_000_000 * TPF, sender=suite.faucet)
    suite.payment.mint(STRANGER, 10**12 * USD)
    chain_id = boa.env.evm.patch.chain_id
    return Market(
        suite,
        Domain(chain_id, str(suite.staking.address)),
        Domain(chain_id, str(suite.jobs.address)),
        int(boa.env.evm.patch.timestamp),
    )


@lru_cache(maxsize=4_096)
def signature(domain: Domain, message: Message, signer: str) -> bytes:
    """The signature of one of the operators; each is made once."""
    return sign(domain, message, KEYS[signer])
