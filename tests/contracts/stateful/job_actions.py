# SPDX-License-Identifier: Apache-2.0
"""Jobs over the real Benchmark: orders, auctions, quotes (I-10, I-11)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from eth_utils.crypto import keccak

from teraproof.protocol.messages import Quote
from teraproof.protocol.terms import ZERO_ADDRESS, ZERO_WORD, Order, Status, Terms
from tests.contracts.deploy import DAY, USD
from tests.contracts.stateful.deal import (
    EDGES,
    MAX_AUCTION,
    REFUSABLE,
    SPEC,
    TRUSTED,
    Job,
    leaf,
)
from tests.contracts.stateful.driver import action
from tests.contracts.stateful.machine import FAR, Rule, Why
from tests.contracts.stateful.manager_actions import ManagerActions
from tests.contracts.stateful.registry_actions import somebody
from tests.contracts.stateful.trial import CAPABILITY
from tests.contracts.stateful.world import (
    KEYS,
    OWNERS,
    TENANTS,
    signature,
)


class JobActions(ManagerActions):
    """Tenants, operators, the guardian and everybody's exits."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.jobs: list[Job] = []
        self.used_quotes: set[tuple[str, int]] = set()
        self.manifests: dict[bytes, bytes] = {}
        """By the digest that was attested."""
        self.fee, self.window = self.p.fee_bps, self.p.challenge_window
        self.paused_until = self.next_pause = 0
        self.pauses: list[list[int]] = []
        """From and until, the present one last."""

    # -------------------------------------------------------------------------------- tools

    def with_status(self, *statuses: Status) -> list[Job]:
        return [job for job in self.jobs if job.status in statuses]

    def paused_in_all(self, time: int) -> int:
        return sum(max(0, min(until, time) - since) for since, until in self.pauses)

    def reserved(self, provider: str) -> int:
        return sum(
            job.order.min_score
            for job in self.with_status(Status.ASSIGNED)
            if job.provider == provider
        )

    def score_of(self, provider: str) -> int:
        raise NotImplementedError

    def price_now(self, job: Job) -> int:
        """The clock of the auction stands still in a pause."""
        order = job.order
        passed = self.now - job.terms.posted_at
        passed -= self.paused_in_all(self.now) - job.terms.paused
        if passed >= order.auction:
            return order.max_price
        return order.start_price + (order.max_price - order.start_price) * passed // order.auction

    def open_until(self, job: Job) -> int:
        still = self.paused_in_all(self.now) - job.terms.paused
        return job.terms.posted_at + job.order.auction + self.p.open_margin + still

    def become(self, job: Job, status: Status) -> None:
        """I-10: along a drawn edge, or not at all."""
        assert (job.status, status) in EDGES, f"I-10: {job.status.name} -> {status.name}"
        job.status = status
        seen = self.view("jobs", "status", job.id)
        assert seen == status, f"I-10: the chain says {seen}, not {status.name}"

    def moments(self) -> set[int]:
        times = super().moments() | {self.paused_until, self.next_pause}
        for job in self.jobs:
            if job.status is Status.OPEN:
                times |= {job.terms.posted_at + job.order.auction, self.open_until(job)}
            elif job.status is Status.ASSIGNED:
                times.add(job.deadline)
            elif job.status is Status.ATTESTED:
                times.add(job.window_end)
        return times

    # ------------------------------------------------------------------------------- orders

    def draw_order(self) -> tuple[Order, tuple[str, ...]]:
        """An order, and who may take it (empty: anyone)."""
        max_price = self.pick((self.choices.log(1, 100), self.choices.log(10**4, 10**10)))
        allowed = (OWNERS[0], OWNERS[1]) if self.chance(0.15) else ()
        root = keccak(b"".join(sorted(map(leaf, allowed)))) if allowed else ZERO_WORD
        scores = [self.score_of(p) for p in self.providers]
        score = max(scores, default=0)
        order = Order(
            spec=SPEC,
            start_price=self.choices.between(0, max_price),
            max_price=max_price,
            collateral=self.pick((0, self.choices.log(1, 10**4), self.choices.log(10**15, 10**21))),
            duration=self.choices.between(1, self.pick((60, 3_600, 3 * DAY))),
            auction=self.pick((0, 0, 1, 3_600, 6 * 3_600, MAX_AUCTION)),
            min_stake=self.pick((0, 0, 0, 0, 10**21, 10**25)),
            min_score=self.pick((0, 0, 0, score // 3, score, score + 1)),
            allow_root=root,
            nonce=self.number(),
            judged=self.pick((TRUSTED, TRUSTED, REFUSABLE)),
        )
        return self.for_a_court(order) if self.chance(0.55) else order, allowed

    def for_a_court(self, order: Order) -> Order:
        """The same with jurors, mostly at a price that they are enough for."""
        price = self.pick((order.max_price, *([self.choices.log(10**4, 12 * USD)] * 5)))
        return replace(
            order,
            judged=int.from_bytes(CAPABILITY, "big"),
            duration=self.pick((order.duration, *([self.choices.between(600, 6 * 3_600)] * 9))),
            max_price=price,
            start_price=min(order.start_price, price),
            min_stake=0,
            min_score=0,
        )

    def ordering(self, why: Why, order: Order, provider: str = ZERO_ADDRESS) -> None:
        """What posted and hired jobs have in common; whoever is hired takes it."""
        why.need(self.now >= self.paused_until, "orders are paused")
        why.need(0 < order.max_price < 2**120, "price out of bounds")
        why.need(order.collateral < 2**120, "collateral out of bounds")
        why.need(order.duration > 0, "zero duration")
        life = self.life_of(why, order, self.window, provider)
        why.need(life <= self.p.max_lock, "duration too long")

    def judging(self, why: Why, order: Order, provider: str) -> int:
        """What a judged order asks for; the seconds that a dispute over it can take."""
        raise NotImplementedError

    def life_of(self, why: Why, order: Order, window: int, provider: str) -> int:
        """Seconds from the acceptance by a provider to the end of the lock."""
        return order.duration + window + self.p.lock_margin + self.judging(why, order, provider)

    def paying(self, why: Why, rule: Rule, tenant: str, price: int, credit: bool) -> None:
        source = ("owed" if credit else "usd", tenant)
        why.need(self.books[source] >= price, "credit too low" if credit else "balance")
        rule.add(source, -price)
        if not credit:
            rule.add(("jobs",), price)

    def terms_for(self, tenant: str, order: Order) -> Terms:
        paused = self.paused_in_all(self.now)
        return Terms(tenant, self.now, self.window, self.fee, paused, order)

    @action(7)
    def post(self) -> None:
        order, allowed = self.draw_order()
        tenant = self.pick(TENANTS)
        self.open_job(tenant, order, allowed)

    @action(0.6)
    def post_at_the_bounds(self) -> None:
        order = replace(self.draw_order()[0], allow_root=ZERO_WORD, min_score=0)
        longest = self.p.max_lock - self.window - self.p.lock_margin
        change = self.pick(
            (
                {"max_price": 0, "start_price": 0},
                {"max_price": 2**120, "start_price": 0},
                {"collateral": 2**120 - 1},
                {"collateral": 2**120},
                {"duration": 0},
                {"duration": longest},
                {"duration": longest + 1},
                {"auction": MAX_AUCTION},
                {"auction": MAX_AUCTION + 1},
                {"judged": 2},
                {"judged": 2**128},
                {"judged": 2**128 + 1},
                {"judged": int.from_bytes(CAPABILITY, "big"), "max_price": 10**6 * USD},
                {"judged": int.from_bytes(CAPABILITY, "big"), "duration": longest},
            )
        )
        self.open_job(self.pick(TENANTS), replace(order, **change), ())

    def open_job(self, tenant: str, order: Order, allowed: tuple[str, ...]) -> bool:
        credit = self.books["owed", tenant] + 1 >= order.max_price
        why, rule = Why(), Rule(self.books)
        self.ordering(why, order)
        why.need(order.auction <= MAX_AUCTION, "auction too long")
        self.paying(why, rule, tenant, order.max_price, credit)
        job = Job(self.terms_for(tenant, order), allowed)
        if not why.reasons:
            self.escrows += order.max_price
        done = self.act("jobs.post", (order.abi_tuple(), credit), tenant, why, rule)
        if done:
            assert self.value == job.id, "the id is the digest of the terms"
            self.jobs.append(job)
            self.become(job, Status.OPEN)
        return done

    @action(6, somebody)
    def hire(self) -> None:
        provider = self.pick(self.registered)
        operator = self.operator_of(provider)
        consent = self.next_consent[operator] - 1
        consent = consent if self.chance(0.93) else consent + self.pick((-1, 1))
        known = [nonce for who, nonce in self.used_quotes if who == operator]
        nonce = max(consent, 0) << 128 | self.number()
        spare = self.books["stake", provider, provider] - self.locked(provider)
        quote = Quote(
            operator,
            self.pick((ZERO_ADDRESS, ZERO_ADDRESS, *TENANTS)),
            SPEC,
            self.choices.log(1, 10**9),
            self.pick((0, self.choices.log(1, 10**20), max(spare, 0) // 4)),
            self.choices.between(1, self.pick((60, 3_600, 6 * 3_600, 3 * DAY))),
            self.pick((FAR, FAR, FAR, self.now, self.now - 1)),
            self.pick(known) if known and self.chance(0.05) else nonce,
            self.pick((TRUSTED, TRUSTED, REFUSABLE, 7, *([int.from_bytes(CAPABILITY, "big")] * 3))),
        )
        signer = operator if self.chance(0.97) else self.pick([*KEYS])
        self.engage(self.pick(TENANTS), quote, signer)

    def engage(self, tenant: str, quote: Quote, signer: str) -> bool:
        order = Order(
            quote.spec,
            quote.price,
            quote.price,
            quote.collateral,
            quote.duration,
            0,
            0,
            0,
            ZERO_WORD,
            int.from_bytes(quote.struct_hash(), "big"),
            quote.judged,
        )
        credit = self.books["owed", tenant] + 1 >= quote.price
        why, rule = Why(), Rule(self.books)
        owner = self.provider_of(quote.operator)
        self.ordering(why, order, owner)
        why.need(self.now <= quote.expires, "expired")
        why.need(quote.requester in (ZERO_ADDRESS, tenant), "another requester")
        why.need(signer == quote.operator, "not the operator's")
        nonce = (quote.operator, quote.nonce)
        why.need(nonce not in self.used_quotes, "used")
        bound = self.next_consent[quote.operator] - 1
        why.need(quote.nonce >> 128 == bound, "earlier consent")
        self.paying(why, rule, tenant, quote.price, credit)
        job = Job(self.terms_for(tenant, order))
        expires_at = self.now + self.life_of(Why(), order, self.window, owner)
        lock = (job.id, order.collateral, expires_at)
        provider = self.locking(why, self.jobs_address, quote.operator, *lock, 0)
        if not why.reasons:
            self.lock_made(rule, self.jobs_address, provider, *lock)
            self.escrows += quote.price
        signed = signature(self.world.jobs, quote, signer)
        done = self.act("jobs.hire", (quote.abi_tuple(), signed, credit), tenant, why, rule)
        if done:
            assert self.value == job.id
            self.used_quotes.add(nonce)
            job.provider, job.assigned_at, job.price = provider, self.now, quote.price
            self.jobs.append(job)
            self.become(job, Status.ASSIGNED)
        return done

    @action(0.5, somebody)
    def cancel_quotes(self) -> None:
        operator = self.pick([*KEYS])
        nonce = (max(self.next_consent[operator], 1) - 1) << 128 | (self.fresh + 1)
        word, bit = nonce >> 8, nonce & 255
        mask = self.pick((1 << bit, 1, 2**255))
        if self.act("jobs.cancel_quotes", (word, mask), operator, Why()):
            bits = [n for n in range(256) if mask >> n & 1]
            self.used_quotes |= {(operator, word << 8 | n) for n in bits}

    @action(12, lambda self: self.providers and self.with_status(Status.OPEN))
    def accept(self) -> None:
        job = self.pick(self.with_status(Status.OPEN))
        able = [p for p in self.providers if not self.taking(job, self.operator_of(p))[0].reasons]
        provider = self.pick(able if able and self.chance(0.8) else self.registered)
        self.take_job(job, self.operator_of(provider))

    def taking(self, job: Job, operator: str) -> tuple[Why, str, tuple[Any, ...]]:
        """What accepting asks for, the provider, and its lock."""
        why, order = Why(), job.order
        why.need(self.now >= self.paused_until, "orders are paused")
        why.need(job.status is Status.OPEN, "not open")
        why.need(self.now <= self.open_until(job), "no longer open")
        owner = self.provider_of(operator)
        life = self.life_of(why, order, job.terms.challenge_window, owner)
        lock = (job.id, order.collateral, self.now + life)
        provider = self.locking(why, self.jobs_address, operator, *lock, order.min_stake)
        why.need(not job.allowed or provider in job.allowed, "not allowed")
        if order.min_score:
            score = self.score_of(provider)
            why.need(score >= self.reserved(provider) + order.min_score, "score too low")
        return why, provider, lock

    def take_job(self, job: Job, operator: str) -> bool:
        why, provider, lock = self.taking(job, operator)
        proof = [leaf(other) for other in job.allowed if other != provider]
        rule, price = Rule(self.books), self.price_now(job)
        if not why.reasons:
            self.lock_made(rule, self.jobs_address, provider, *lock)
            self.escrows -= job.order.max_price - price
            rule.add(("owed", job.terms.requester), job.order.max_price - price)
        done = self.act("jobs.accept", (job.terms.abi_tuple(), proof), operator, why, rule)
        if done:
            assert self.value == price, "the price of this moment"
            job.provider, job.assigned_at, job.price = provider, self.now, price
            job.paused = self.paused_in_all(self.now) - job.terms.paused
            self.become(job, Status.ASSIGNED)
        return done
