# SPDX-License-Identifier: Apache-2.0
"""What a market of jobs costs: every operation that a user pays for, three times over.

The first time shows what a new account pays (slots that turn from zero), the third the steady
state. A scenario has its own provider and tenant, so that no other one warms its slots.
"""

from __future__ import annotations

from dataclasses import dataclass

from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak
from web3.contract import Contract

from benchmarks.market import DOLLAR, WINDOW, Market
from benchmarks.meter import CYCLES, Meter
from benchmarks.network import DAY, DELEGATED, FOREVER, SHARES, TPF, Provider
from teraproof.protocol.messages import Attestation, Quote, sign
from teraproof.protocol.terms import ZERO_ADDRESS, ZERO_WORD, Judged, Order, Record, Terms

AUCTION = 600  # seconds
DURATION = 3_600
RESULT = keccak(text="result")
RECEIPT = keccak(text="receipt")
LIFECYCLE = ("post", "accept", "attest", "finalize", "withdraw")


def measure(market: Market, meter: Meter) -> None:
    """Run everything."""
    _registrations(market, meter)
    _lifecycle(market, meter, market.jobs, market.dollar, "")
    _lifecycle(market, meter, market.proxied_jobs, market.proxied_dollar, "_proxied_usdc")
    _credit_and_approval(market, meter)
    _failures(market, meter)
    _refusals(market, meter)
    _stake(market, meter)
    _manager(market, meter)
    _tokens(market, meter)
    _owner(market, meter)


@dataclass
class Desk:
    """One tenant and one provider at a Jobs contract."""

    market: Market
    jobs: Contract
    dollar: Contract
    name: str

    def __post_init__(self) -> None:
        self.provider = self.market.provider(self.name)
        self.tenant = self.market.tenant(f"{self.name} tenant", self.jobs, self.dollar)

    def order(self, number: int, judged: Judged = Judged.TRUSTED) -> Order:
        """An order whose price rises, with collateral and a minimum of stake."""
        return Order(
            spec=keccak(text=f"{self.name} {number}"),
            start_price=40 * DOLLAR,
            max_price=80 * DOLLAR,
            collateral=200 * TPF,
            duration=DURATION,
            auction=AUCTION,
            min_stake=5_000 * TPF,
            min_score=0,
            allow_root=ZERO_WORD,
            # 64 random bits, like the scripts send.
            nonce=int.from_bytes(keccak(text=f"nonce {self.name} {number}")[:8], "big"),
            judged=judged,
        )

    def post(self, order: Order, from_credit: bool = False) -> tuple[Terms, int]:
        """Post an order; returns its terms and the gas."""
        arguments = (order.abi_tuple(), True) if from_credit else (order.abi_tuple(),)
        gas = self.market.chain.send(self.tenant, self.jobs, "post", *arguments)
        return self.terms(order), gas

    def terms(self, order: Order) -> Terms:
        """The terms of what was posted in the last block."""
        return Terms(
            requester=self.tenant.address,
            posted_at=self.market.chain.now,
            challenge_window=WINDOW,
            fee_bps=self.jobs.functions.fee_bps().call(),
            paused=self.jobs.functions.paused_seconds().call(),
            order=order,
        )

    def accept(self, terms: Terms) -> int:
        """Accept in the middle of the auction, so that the tenant gets a difference."""
        self.market.chain.pass_time(AUCTION // 2)
        return self.market.chain.send(
            self.provider.operator, self.jobs, "accept", terms.abi_tuple()
        )

    def attest(self, terms: Terms, relayer: LocalAccount | None = None) -> tuple[Record, int]:
        """Attest as the operator, or relay its signature; returns the record and the gas."""
        chain = self.market.chain
        assigned_at = chain.now
        chain.pass_time(1_800)
        attestation = Attestation(
            terms.job_id(), terms.order.spec, RESULT, RECEIPT, assigned_at, chain.now
        )
        operator = self.provider.operator
        domain = self.market.domain(self.jobs)
        gas = chain.send(
            relayer or operator,
            self.jobs,
            "attest",
            terms.abi_tuple(),
            RESULT,
            RECEIPT,
            attestation.started,
            attestation.finished,
            sign(domain, attestation, operator) if relayer else b"",
        )
        record = Record(
            self.provider.owner.address, assigned_at, chain.now, 0, attestation.struct_hash()
        )
        return record, gas

    def hire(self, number: int) -> tuple[Terms, int]:
        """Take a signed quote; returns the terms and the gas."""
        quote = Quote(
            operator=self.provider.operator.address,
            requester=ZERO_ADDRESS,
            spec=keccak(text=f"{self.name} {number}"),
            price=60 * DOLLAR,
            collateral=200 * TPF,
            duration=DURATION,
            expires=FOREVER,
            # One after the other from a random start under the first consent, like the agent's.
            nonce=(int.from_bytes(keccak(text="quotes")[:14], "big") << 16) + number,
        )
        gas = self.market.chain.send(
            self.tenant,
            self.jobs,
            "hire",
            quote.abi_tuple(),
            sign(self.market.domain(self.jobs), quote, self.provider.operator),
        )
        return self.terms(quote.order()), gas


def _registrations(market: Market, meter: Meter) -> None:
    for number in range(CYCLES):
        _, gas = market.register(f"newcomer {number}")
        meter.note("provider_register", gas)


def _lifecycle(market: Market, meter: Meter, jobs: Contract, dollar: Contract, suffix: str) -> None:
    desk = Desk(market, jobs, dollar, f"lifecycle{suffix}")
    send = market.chain.send
    for cycle in range(CYCLES):
        terms, gas = desk.post(desk.order(cycle))
        meter.note(f"jobs_post{suffix}", gas)
        meter.note(f"jobs_accept{suffix}", desk.accept(terms))
        record, gas = desk.attest(terms)
        meter.note(f"jobs_attest{suffix}", gas)
        market.chain.pass_time(WINDOW)
        gas = send(desk.provider.operator, jobs, "finalize", terms.abi_tuple(), record.abi_tuple())
        meter.note(f"jobs_finalize{suffix}", gas)
        meter.note(f"jobs_withdraw{suffix}", send(desk.provider.payout, jobs, "withdraw()"))
    meter.sum(f"jobs_lifecycle_total{suffix}", [f"jobs_{step}{suffix}" for step in LIFECYCLE])


def _credit_and_approval(market: Market, meter: Meter) -> None:
    desk = Desk(market, market.jobs, market.dollar, "credit")
    relayer = market.chain.account("relayer")
    send = market.chain.send
    for cycle in range(CYCLES):
        meter.note("jobs_deposit", send(desk.tenant, desk.jobs, "deposit", 200 * DOLLAR))
        terms, gas = desk.post(desk.order(cycle), from_credit=True)
        meter.note("jobs_post_from_credit", gas)
        desk.accept(terms)
        record, gas = desk.attest(terms, relayer)
        meter.note("jobs_attest_relayed", gas)
        gas = send(desk.tenant, desk.jobs, "approve", terms.abi_tuple(), record.abi_tuple())
        meter.note("jobs_approve", gas)
        send(desk.provider.payout, desk.jobs, "withdraw()")


def _failures(market: Market, meter: Meter) -> None:
    desk = Desk(market, market.jobs, market.dollar, "failure")
    hunter = market.chain.account("hunter")
    send = market.chain.send
    for cycle in range(CYCLES):
        terms, _ = desk.post(desk.order(cycle))
        market.chain.pass_time(AUCTION + market.argument("Jobs", "open_margin"))
        meter.note("jobs_cancel", send(desk.tenant, desk.jobs, "cancel", terms.abi_tuple()))
        terms, gas = desk.hire(cycle)
        meter.note("jobs_hire", gas)
        market.chain.pass_time(DURATION)
        gas = send(hunter, desk.jobs, "expire", terms.abi_tuple())
        meter.note("jobs_expire_with_seizure", gas)
        # Both the tenant (collateral) and the hunter (bounty) were credited.
        meter.note("staking_withdraw", send(hunter, market.staking, "withdraw()"))


def _refusals(market: Market, meter: Meter) -> None:
    desk = Desk(market, market.jobs, market.dollar, "refusal")
    for cycle in range(CYCLES):
        terms, _ = desk.post(desk.order(cycle, Judged.REFUSABLE))
        desk.accept(terms)
        record, _ = desk.attest(terms)
        call = (terms.abi_tuple(), record.abi_tuple())
        meter.note("jobs_refuse", market.chain.send(desk.tenant, desk.jobs, "refuse", *call))


def _stake(market: Market, meter: Meter) -> None:
    pool = market.provider("stake").owner.address
    delegator = market.holder(market.chain.account("stake newcomer"), 10 * DELEGATED)
    staking, send = market.staking, market.chain.send
    for ticket in range(CYCLES):
        meter.note("staking_delegate", send(delegator, staking, "delegate", pool, DELEGATED))
        gas = send(delegator, staking, "undelegate", pool, DELEGATED * SHARES // 2)
        meter.note("staking_undelegate", gas)
        market.chain.pass_time(market.argument("Staking", "unbonding"))
        gas = send(delegator, staking, "withdraw_unbonded", pool, ticket)
        meter.note("staking_withdraw_unbonded", gas)


def _manager(market: Market, meter: Meter) -> None:
    provider: Provider = market.provider("managed")
    pool = provider.owner.address
    staking, manager, send = market.staking, market.manager, market.chain.send
    tenant, hunter = market.chain.account("victim"), market.chain.account("second hunter")

    def lock(number: int) -> tuple[bytes, int]:
        order = keccak(text=f"order {number}")
        expires_at = market.chain.now + DAY
        operator = provider.operator.address
        arguments = (operator, order, 200 * TPF, expires_at, TPF)
        return order, send(manager, staking, "lock", *arguments)

    for cycle in range(CYCLES):
        order, gas = lock(2 * cycle)
        meter.note("staking_lock", gas)
        meter.note("staking_unlock", send(manager, staking, "unlock", pool, order))
        order, _ = lock(2 * cycle + 1)
        arguments = (pool, order, tenant.address, hunter.address, 5_000, 1_000)
        meter.note("staking_seize", send(manager, staking, "seize", *arguments))
        gas = send(manager, staking, "slash", pool, ZERO_WORD, 100 * TPF)
        meter.note("staking_slash", gas)


def _tokens(market: Market, meter: Meter) -> None:
    receiver = market.chain.account("token receiver")
    for _ in range(CYCLES):
        gas = market.chain.send(
            market.deployer, market.token, "transfer", receiver.address, 10 * TPF
        )
        meter.note("token_transfer", gas)


def _owner(market: Market, meter: Meter) -> None:
    target, send = market.jobs, market.chain.send
    for cycle in range(CYCLES):
        data = target.encode_abi("set_fee", args=(200 + cycle,))
        call = (target.address, 0, data, ZERO_WORD, keccak(text=f"proposal {cycle}"))
        delay = market.argument("Timelock", "minimum_delay")
        gas = send(market.deployer, market.timelock, "schedule", *call, delay)
        meter.note("timelock_schedule", gas)
        market.chain.pass_time(delay)
        meter.note("timelock_execute", send(market.guardian, market.timelock, "execute", *call))
