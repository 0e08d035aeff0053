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
from tests.contracts.deploy import TPF, USD, Parameters
from tests.contracts.revm import Revm
from tests.contracts.stateful.lease_world import LeaseWorld, lease_world
from tests.contracts.stateful.lens import Lens, first_words, words
from tests.contracts.stateful.world import OWNERS, PAYOUTS, STRANGER, TENANTS

PROVIDER, RIVAL = OWNERS[:2]
TENANT, BYSTANDER = TENANTS
# Another face of whoever is hostile; it holds no right.
PUPPET = STRANGER
STAKERS = (PROVIDER, RIVAL)
PEOPLE = (*STAKERS, *PAYOUTS, TENANT, BYSTANDER, PUPPET)
SPEC = bytes(keccak(text="a lease specification"))
# TPF wei that a unit of the payment token counts for.
WORTH = TPF // USD
# Of the bystander's lease: units per second, and the seconds that its deposit pays for.
RATE, LONG = 7, 100_000


@dataclass(frozen=True)
class Wealth:
    """What everybody owns, and what the contracts hold for them."""

    usd: dict[str, int]
    tpf: dict[str, int]
    fees: int
    held: int
    """Payment token of Leases."""
    owed: int
    """Credits of Leases."""
    staking: int
    """TPF of Staking."""
    pools: int
    """What Staking owes."""
    supply: int


@dataclass(frozen=True)
class Leasehold:
    """The suite, and the bystander's running lease with each provider."""

    world: LeaseWorld
    lens: Lens
    records: bytes
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
        answer = self.lens.look(self.records)
        first = first_words(answer)
        usd, tpf, owed, pools = {}, {}, 0, 0
        for n, who in enumerate(PEOPLE):
            usd[who] = first[4 * n] + first[4 * n + 1]
            tpf[who] = first[4 * n + 2] + first[4 * n + 3]
            owed += first[4 * n + 1]
            pools += first[4 * n + 3]
        at = 4 * len(PEOPLE)
        for n, who in enumerate(STAKERS, at):
            active, _, _, _, unbonding = words(answer, n, 5)
            tpf[who] += active + unbonding
            pools += active + unbonding
        fees, held, staking, supply = first[at + len(STAKERS) :]
        return Wealth(usd, tpf, fees, held, owed, staking, pools, supply)


def records(lens: Lens, addresses: dict[str, str]) -> bytes:
    """The views behind `Leasehold.wealth`."""
    found = []
    for who in PEOPLE:
        found += [
            lens.record("payment", "balanceOf", who),
            lens.record("leases", "credit_of", who),
            lens.record("token", "balanceOf", who),
            lens.record("staking", "credit_of", who),
        ]
    found += [lens.record("staking", "pool", who) for who in STAKERS]
    found += [
        lens.record("leases", "accrued_fees"),
        lens.record("payment", "balanceOf", addresses["leases"]),
        lens.record("token", "balanceOf", addresses["staking"]),
        lens.record("token", "totalSupply"),
    ]
    return b"".join(found)


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
    return Leasehold(world, lens, records(lens, chain.addresses), beside)
