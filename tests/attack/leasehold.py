# SPDX-License-Identifier: Apache-2.0
"""A market of leases: a tenant and a provider, a bystander's lease that runs, and an outsider.

The suite is that of the stateful tests of leases. What the people own is read by the contracts'
views.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from eth_utils.crypto import keccak

from teraproof.protocol.lease_terms import LeaseOrder, LeaseTerms
from teraproof.protocol.terms import ZERO_WORD
from tests.attack.wealth import Purse, Wealth
from tests.contracts.deploy import TPF, Parameters
from tests.contracts.revm import Revm
from tests.contracts.stateful.lease_world import LeaseWorld, lease_world
from tests.contracts.stateful.lens import Lens
from tests.contracts.stateful.world import OWNERS, PAYOUTS, STRANGER, TENANTS

PROVIDER, RIVAL = OWNERS[:2]
TENANT, BYSTANDER = TENANTS
# Another face of whoever is hostile; it holds no right.
PUPPET = STRANGER
STAKERS = (PROVIDER, RIVAL)
PEOPLE = (*STAKERS, *PAYOUTS, TENANT, BYSTANDER, PUPPET)
SPEC = bytes(keccak(text="a lease specification"))
# Of the bystander's lease: units per second, and the seconds that its deposit pays for.
RATE, LONG = 7, 100_000


@dataclass(frozen=True)
class Leasehold:
    """The suite, and the bystander's running lease with each provider."""

    world: LeaseWorld
    purse: Purse
    beside: dict[str, LeaseTerms]
    """Provider -> the bystander's lease."""

    @property
    def chain(self) -> Revm:
        return self.world.chain

    @property
    def p(self) -> Parameters:
        return self.world.suite.parameters

    def send(self, target: str, args: Sequence[Any], sender: str) -> str | None:
        """A call that may be refused: why it was."""
        contract, name = target.split(".")
        return self.chain.send(contract, name, args, sender).reason

    def view(self, target: str, *args: Any) -> Any:
        contract, name = target.split(".")
        return self.chain.view(contract, name, *args)

    def wealth(self) -> Wealth:
        return self.purse.look()


def order_of(rates: tuple[int, int], seconds: int, *, nonce: int, **kinds: int) -> LeaseOrder:
    """An order without a minimum of stake, score or a list."""
    return LeaseOrder(
        SPEC,
        *rates,
        deposit=seconds * rates[1],
        min_stake=0,
        min_score=0,
        allow_root=ZERO_WORD,
        nonce=nonce,
        **kinds,
    )


@cache
def leasehold() -> Leasehold:
    """Deployed once per process, apart from the world that the stateful tests start from."""
    return build(lease_world.__wrapped__())


def build(world: LeaseWorld) -> Leasehold:
    """The bystander's lease with each provider, confirmed and paid for a long time."""
    chain, p = world.chain, world.suite.parameters
    beside = {}
    for number, owner in enumerate(STAKERS):
        order = order_of(
            (RATE, RATE),
            LONG,
            nonce=number,
            collateral=100 * TPF,
            ready_within=600,
            term=LONG,
            notice=600,
            auction=0,
        )
        terms = LeaseTerms(BYSTANDER, chain.now, p.grace, p.fee_bps, 0, order)
        operator = world.operators[owner]
        for name, args, sender in (
            ("open", (order.abi_tuple(), False), BYSTANDER),
            ("accept", (terms.abi_tuple(), []), operator),
            ("ready", (terms.abi_tuple(),), operator),
            ("confirm", (terms.abi_tuple(),), BYSTANDER),
        ):
            done = chain.send("leases", name, args, sender)
            assert done.reason is None, done.reason
        beside[owner] = terms
    lens = Lens(chain)
    purse = Purse(lens, chain.addresses, "leases", PEOPLE, STAKERS)
    return Leasehold(world, purse, beside)
