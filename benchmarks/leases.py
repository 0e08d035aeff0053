# SPDX-License-Identifier: Apache-2.0
"""What leases cost: every operation, three times over, and a whole lease among fifty.

The whole lease runs until its deposit is used up: settled, closed by anyone, withdrawn. One that
its tenant closes early also has a rest to pay on both sides. The scenarios have their own provider
and tenant, so that no other one warms their slots.
"""

from __future__ import annotations

from dataclasses import dataclass

from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak

from benchmarks.chain import BLOCK_SECONDS, Chain
from benchmarks.market import DOLLAR
from benchmarks.meter import CYCLES, Meter
from benchmarks.network import DAY, FOREVER, TPF, UNLIMITED, Network
from teraproof.protocol.lease_terms import LeaseOrder, LeaseTerms
from teraproof.protocol.messages import LeaseQuote, sign
from teraproof.protocol.terms import ZERO_ADDRESS, ZERO_WORD

AUCTION = 600
TERM = 7 * DAY
# As the plan has them.
MAX_GAP, ABANDON = 300, 1_800
# Leases of one provider that share its heartbeats, and heartbeats in the life of one.
LEASES = 50
HEARTBEATS = 10
WHOLE = ("open", "accept", "ready", "heartbeat_share", "settle", "close", "withdraw")
EARLY = (*WHOLE[:5], "close_early", "withdraw")


class Rental(Network):
    """A network with leases."""

    def __init__(self, chain: Chain) -> None:
        super().__init__(chain, {"Leases": {"treasury": chain.account("treasury").address}})
        self.seal({})

    def tenant(self, role: str) -> LocalAccount:
        """An account with dollars that Leases may pull."""
        account = self.chain.account(role)
        self.chain.send(self.deployer, self.dollar, "mint", account.address, 10**6 * DOLLAR)
        self.chain.send(account, self.dollar, "approve", self.leases.address, UNLIMITED)
        return account


@dataclass
class Desk:
    """One tenant and one provider."""

    market: Rental
    name: str

    def __post_init__(self) -> None:
        self.leases = self.market.leases
        self.provider = self.market.provider(self.name)
        self.tenant = self.market.tenant(f"{self.name} tenant")
        self.operator = self.provider.operator

    def order(self, number: int) -> LeaseOrder:
        """Two dollars an hour at most; paid until the last heartbeat at the rate of half time."""
        return LeaseOrder(
            spec=keccak(text=f"{self.name} {number}"),
            start_rate=400,
            max_rate=600,
            deposit=500 * MAX_GAP * HEARTBEATS,
            collateral=50 * TPF,
            ready_within=900,
            term=TERM,
            notice=3_600,
            auction=AUCTION,
            min_stake=5_000 * TPF,
            min_score=0,
            allow_root=ZERO_WORD,
            # 64 random bits, like the tools send.
            nonce=int.from_bytes(keccak(text=f"nonce {self.name} {number}")[:8], "big"),
        )

    def open(self, number: int) -> tuple[LeaseTerms, int]:
        """Open a lease; returns its terms and the gas."""
        order = self.order(number)
        gas = self.market.chain.send(self.tenant, self.leases, "open", order.abi_tuple())
        return self.terms(order), gas

    def terms(self, order: LeaseOrder) -> LeaseTerms:
        """The terms of what was opened in the last block."""
        view = self.leases.functions
        return LeaseTerms(
            requester=self.tenant.address,
            posted_at=self.market.chain.now,
            grace=view.challenge_window().call(),
            fee_bps=view.fee_bps().call(),
            paused=view.paused_seconds().call(),
            order=order,
        )

    def accept(self, terms: LeaseTerms) -> int:
        """Accept in the middle of the auction; returns the gas."""
        self.market.chain.pass_time(AUCTION // 2 - BLOCK_SECONDS)
        return self.by_operator("accept", terms)

    def by_operator(self, name: str, terms: LeaseTerms) -> int:
        """A call about a lease by the provider's operator; returns the gas."""
        return self.market.chain.send(self.operator, self.leases, name, terms.abi_tuple())

    def by_tenant(self, name: str, terms: LeaseTerms) -> int:
        """The same by the tenant."""
        return self.market.chain.send(self.tenant, self.leases, name, terms.abi_tuple())

    def heartbeat(self) -> int:
        """The provider's sign of life; returns the gas."""
        number = self.leases.functions.number_of(self.provider.owner.address).call()
        return self.market.chain.send(self.operator, self.leases, "heartbeat", number)

    def active(self, number: int) -> LeaseTerms:
        """A lease that is ready and confirmed."""
        terms, _ = self.open(number)
        self.accept(terms)
        self.by_operator("ready", terms)
        self.by_tenant("confirm", terms)
        return terms

    def hire(self, number: int) -> tuple[LeaseTerms, int]:
        """Take a signed quote; returns the terms and the gas."""
        quote = LeaseQuote(
            operator=self.operator.address,
            requester=ZERO_ADDRESS,
            spec=keccak(text=f"{self.name} {number}"),
            rate=500,
            collateral=50 * TPF,
            ready_within=900,
            term=TERM,
            notice=3_600,
            expires=FOREVER,
            nonce=(int.from_bytes(keccak(text="lease quotes")[:14], "big") << 16) + number,
        )
        deposit = 60 * DOLLAR
        gas = self.market.chain.send(
            self.tenant,
            self.leases,
            "hire",
            quote.abi_tuple(),
            sign(self.market.domain(self.leases), quote, self.operator),
            deposit,
        )
        return self.terms(quote.order(deposit)), gas


def measure(market: Rental, meter: Meter) -> None:
    """Run everything."""
    _whole(market, meter)
    _others(market, meter)


def _whole(market: Rental, meter: Meter) -> None:
    desk, chain = Desk(market, "leases"), market.chain
    for number in range(1, LEASES):
        terms, _ = desk.open(1_000 + number)
        desk.by_operator("accept", terms)
        desk.by_operator("ready", terms)
    for cycle in range(CYCLES):
        terms, gas = desk.open(cycle)
        meter.note("leases_open", gas)
        meter.note("leases_accept", desk.accept(terms))
        meter.note("leases_ready", desk.by_operator("ready", terms))
        beats = []
        for _ in range(HEARTBEATS):
            chain.pass_time(MAX_GAP - BLOCK_SECONDS)
            beats.append(desk.heartbeat())
        meter.note("leases_heartbeat", beats[-1])
        meter.note("leases_heartbeat_share", sum(beats) // LEASES)
        meter.note("leases_settle", desk.by_operator("settle", terms))
        meter.note("leases_close", desk.by_operator("close", terms))
        meter.note("leases_withdraw", chain.send(desk.provider.payout, desk.leases, "withdraw()"))
        terms = desk.active(10 + cycle)
        chain.pass_time(MAX_GAP)
        desk.by_operator("settle", terms)
        meter.note("leases_close_early", desk.by_tenant("close", terms))
    meter.sum("leases_whole_total", [f"leases_{step}" for step in WHOLE])
    meter.sum("leases_whole_total_closed_early", [f"leases_{step}" for step in EARLY])


def _others(market: Rental, meter: Meter) -> None:
    desk, chain = Desk(market, "other leases"), market.chain
    hunter = chain.account("lease hunter")
    for cycle in range(CYCLES):
        terms, gas = desk.hire(cycle)
        meter.note("leases_hire", gas)
        desk.by_operator("ready", terms)
        meter.note("leases_confirm", desk.by_tenant("confirm", terms))
        meter.note("leases_suspend", desk.by_operator("suspend", terms))
        meter.note("leases_resume", desk.by_operator("resume", terms))
        top_up = (terms.abi_tuple(), DOLLAR)
        meter.note("leases_top_up", chain.send(desk.tenant, desk.leases, "top_up", *top_up))
        meter.note("leases_give_notice", desk.by_operator("give_notice", terms))
        chain.pass_time(ABANDON)
        gas = chain.send(hunter, desk.leases, "accuse", terms.abi_tuple())
        meter.note("leases_accuse", gas)
        chain.pass_time(MAX_GAP)
        gas = chain.send(hunter, desk.leases, "close", terms.abi_tuple())
        meter.note("leases_close_with_seizure", gas)
        terms, _ = desk.open(100 + cycle)
        desk.accept(terms)
        desk.by_operator("ready", terms)
        meter.note("leases_reject", desk.by_tenant("reject", terms))
