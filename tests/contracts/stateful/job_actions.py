# SPDX-License-Identifier: Apache-2.0
"""Jobs over the real Benchmark: auctions, quotes, attestations, every exit (I-5, I-10)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from eth_utils.crypto import keccak

from teraproof.protocol.messages import Attestation, Quote
from teraproof.protocol.terms import ZERO_ADDRESS, ZERO_WORD, Order, Record, Status, Terms
from tests.contracts.deploy import DAY
from tests.contracts.stateful.deal import (
    DETERMINISTIC,
    EDGES,
    MAX_AUCTION,
    REFUSABLE,
    SPEC,
    TRUSTED,
    Job,
    leaf,
)
from tests.contracts.stateful.driver import action
from tests.contracts.stateful.machine import BPS, FAR, Rule, Why
from tests.contracts.stateful.manager_actions import ManagerActions
from tests.contracts.stateful.registry_actions import somebody
from tests.contracts.stateful.world import (
    BURNED,
    KEYS,
    OWNERS,
    PEOPLE,
    STRANGER,
    TENANTS,
    signature,
)


class JobActions(ManagerActions):
    """Tenants, operators, the guardian and everybody's exits."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.jobs: list[Job] = []
        self.used_quotes: set[tuple[str, int]] = set()
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
        return order, allowed

    def ordering(self, why: Why, order: Order) -> None:
        """What posted and hired jobs have in common."""
        why.need(self.now >= self.paused_until, "orders are paused")
        why.need(0 < order.max_price < 2**120, "price out of bounds")
        why.need(order.collateral < 2**120, "collateral out of bounds")
        why.need(order.duration > 0, "zero duration")
        life = order.duration + self.window + self.p.lock_margin
        why.need(life <= self.p.max_lock, "duration too long")

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
                {"judged": DETERMINISTIC},
                {"judged": 2**128 + 1},
            )
        )
        self.open_job(self.pick(TENANTS), replace(order, **change), ())

    def open_job(self, tenant: str, order: Order, allowed: tuple[str, ...]) -> bool:
        credit = self.books["owed", tenant] + 1 >= order.max_price
        why, rule = Why(), Rule(self.books)
        self.ordering(why, order)
        why.need(order.auction <= MAX_AUCTION, "auction too long")
        why.need(order.judged <= REFUSABLE or order.judged > 2**128, "unknown way to judge")
        why.need(order.judged <= 2**128, "no court")
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
            self.choices.between(1, self.pick((60, 3_600, 3 * DAY))),
            self.pick((FAR, FAR, FAR, self.now, self.now - 1)),
            self.pick(known) if known and self.chance(0.05) else nonce,
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
            TRUSTED,
        )
        credit = self.books["owed", tenant] + 1 >= quote.price
        why, rule = Why(), Rule(self.books)
        self.ordering(why, order)
        why.need(self.now <= quote.expires, "expired")
        why.need(quote.requester in (ZERO_ADDRESS, tenant), "another requester")
        why.need(signer == quote.operator, "not the operator's")
        nonce = (quote.operator, quote.nonce)
        why.need(nonce not in self.used_quotes, "used")
        bound = self.next_consent[quote.operator] - 1
        why.need(quote.nonce >> 128 == bound, "earlier consent")
        self.paying(why, rule, tenant, quote.price, credit)
        job = Job(self.terms_for(tenant, order))
        expires_at = self.now + order.duration + self.window + self.p.lock_margin
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
        life = order.duration + job.terms.challenge_window + self.p.lock_margin
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

    # ----------------------------------------------------------------------------- results

    @action(10, lambda self: self.with_status(Status.ASSIGNED))
    def attest(self) -> None:
        """By anyone with the operator's signature, or the operator without; or too late."""
        running = self.with_status(Status.ASSIGNED)
        alive = [job for job in running if job.deadline >= self.now]
        job = self.pick(alive if alive and self.chance(0.85) else running)
        self.maybe_go(0.1, job.deadline + self.pick((0, 0, 1)))
        operator = self.operator_of(job.provider)
        signer = operator if self.chance(0.95) else self.pick([*KEYS])
        n = self.number()
        message = Attestation(
            job.id,
            job.order.spec,
            keccak(text=f"result {n}"),
            keccak(text=f"receipt {n}"),
            job.assigned_at,
            self.now,
        )
        signed, sender = signature(self.world.jobs, message, signer), STRANGER
        if self.chance(0.3):
            signed, sender = b"", signer
        why = Why()
        why.need(self.now <= job.deadline, "deadline passed")
        why.need(signer == operator, "not the operator's attestation")
        args = (
            job.terms.abi_tuple(),
            message.result,
            message.receipt,
            message.started,
            message.finished,
            signed,
        )
        if self.act("jobs.attest", args, sender, why):
            digest = message.struct_hash()
            job.record = Record(job.provider, job.assigned_at, self.now, job.paused, digest)
            self.become(job, Status.ATTESTED)

    def wrong_record(self, job: Job) -> Record:
        assert job.record
        record = job.record
        changed: tuple[dict[str, Any], ...] = (
            {"attested_at": record.attested_at - 1},
            {"provider": OWNERS[0] if record.provider != OWNERS[0] else OWNERS[1]},
            {"paused": record.paused + 1},
            {"assigned_at": record.assigned_at - 1},
        )
        return replace(record, **self.pick(changed))

    def settling_job(self, why: Why, rule: Rule, job: Job, record: Record) -> None:
        """The price to the payout address, less the fee; the collateral goes free (I-5)."""
        why.need(job.status is Status.ATTESTED, "not attested")
        why.need(record == job.record, "not the attested record")
        if why.reasons:
            return
        fee = job.price * job.terms.fee_bps // BPS
        rule.add(("fees",), fee)
        rule.add(("owed", self.providers[job.provider].payout), job.price - fee)
        self.lock_ended(rule, self.jobs_address, job.provider, job.id)
        self.escrows -= job.price

    @action(4, lambda self: self.with_status(Status.ATTESTED))
    def approve(self) -> None:
        job = self.pick(self.with_status(Status.ATTESTED))
        sender = job.terms.requester if self.chance(0.85) else self.pick((STRANGER, *TENANTS))
        record = self.the_record(job)
        why, rule = Why(), Rule(self.books)
        why.need(sender == job.terms.requester, "not the requester")
        self.settling_job(why, rule, job, record)
        args = (job.terms.abi_tuple(), record.abi_tuple())
        if self.act("jobs.approve", args, sender, why, rule):
            self.become(job, Status.SETTLED)

    def the_record(self, job: Job) -> Record:
        assert job.record
        return job.record if self.chance(0.9) else self.wrong_record(job)

    @action(4, lambda self: self.with_status(Status.ATTESTED))
    def finalize(self) -> None:
        job = self.pick(self.with_status(Status.ATTESTED))
        self.maybe_go(0.5, job.window_end + self.pick((1, 1, 1, 0)))
        self.finish(job, self.the_record(job))

    def finish(self, job: Job, record: Record) -> bool:
        why, rule = Why(), Rule(self.books)
        over = record.attested_at + job.terms.challenge_window < self.now
        why.need(over, "challenge window is open")
        self.settling_job(why, rule, job, record)
        args = (job.terms.abi_tuple(), record.abi_tuple())
        done = self.act("jobs.finalize", args, STRANGER, why, rule)
        if done:
            self.become(job, Status.SETTLED)
        return done

    def refusable(self) -> list[Job]:
        return [j for j in self.with_status(Status.ATTESTED) if j.order.judged == REFUSABLE]

    @action(1.5, lambda self: self.refusable())
    def refuse(self) -> None:
        """Price and collateral burn: nobody gains."""
        trusted = self.with_status(Status.ATTESTED)
        job = self.pick(self.refusable() if self.chance(0.9) else trusted)
        self.maybe_go(0.15, job.window_end + self.pick((0, 1)))
        sender = job.terms.requester if self.chance(0.9) else self.pick((STRANGER, *TENANTS))
        record = self.the_record(job)
        why, rule = Why(), Rule(self.books)
        why.need(sender == job.terms.requester, "not the requester")
        why.need(job.order.judged == REFUSABLE, "without refusal")
        over = record.attested_at + job.terms.challenge_window < self.now
        why.need(not over, "challenge window is over")
        why.need(record == job.record, "not the attested record")
        if not why.reasons:
            rule.add(("owed", BURNED), job.price)
            self.escrows -= job.price
            args = (job.provider, job.id, sender, sender, 0, 0)
            self.seizing(rule, self.jobs_address, *args)
        calldata = (job.terms.abi_tuple(), record.abi_tuple())
        if self.act("jobs.refuse", calldata, sender, why, rule):
            self.become(job, Status.REFUSED)

    @action(3, lambda self: self.with_status(Status.ASSIGNED))
    def expire(self) -> None:
        job = self.pick(self.with_status(Status.ASSIGNED))
        self.maybe_go(0.3, job.deadline + self.pick((1, 1, 1, 0)))
        insiders = (job.provider, self.providers[job.provider].payout)
        hunter = self.pick((STRANGER, STRANGER, job.terms.requester, *insiders))
        self.expire_job(job, hunter if hunter in PEOPLE else STRANGER)

    def expire_job(self, job: Job, hunter: str) -> bool:
        why, rule = Why(), Rule(self.books)
        why.need(self.now > job.deadline, "deadline not passed")
        if not why.reasons:
            tenant = job.terms.requester
            rule.add(("owed", tenant), job.price)
            self.escrows -= job.price
            split = (self.p.victim_bps, self.p.bounty_bps)
            self.seizing(rule, self.jobs_address, job.provider, job.id, tenant, hunter, *split)
        done = self.act("jobs.expire", (job.terms.abi_tuple(),), hunter, why, rule)
        if done:
            self.become(job, Status.EXPIRED)
        return done

    @action(1.5, lambda self: self.with_status(Status.OPEN))
    def cancel(self) -> None:
        job = self.pick(self.with_status(Status.OPEN))
        self.maybe_go(0.2, self.open_until(job) + self.pick((0, 1, 1)))
        self.cancel_job(job, self.pick((job.terms.requester, STRANGER)))

    def cancel_job(self, job: Job, sender: str) -> bool:
        why, rule = Why(), Rule(self.books)
        late = self.now > self.open_until(job)
        why.need(sender == job.terms.requester or late, "still open")
        rule.add(("owed", job.terms.requester), job.order.max_price)
        if not why.reasons:
            self.escrows -= job.order.max_price
        done = self.act("jobs.cancel", (job.terms.abi_tuple(),), sender, why, rule)
        if done:
            self.become(job, Status.CANCELLED)
        return done

    @action(0.8, lambda self: self.jobs)
    def disturb(self) -> None:
        """Any call to a job in a state without that edge (I-10)."""
        job = self.pick(self.jobs)
        record = job.record or Record(OWNERS[0], self.now, self.now, 0, ZERO_WORD)
        over = (job.terms.abi_tuple(), record.abi_tuple())
        why = Why()
        states = {
            "expire": ((job.terms.abi_tuple(),), Status.ASSIGNED, "not assigned"),
            "cancel": ((job.terms.abi_tuple(),), Status.OPEN, "not open"),
            "approve": (over, Status.ATTESTED, "not attested"),
            "finalize": (over, Status.ATTESTED, "not attested"),
            "accept": ((job.terms.abi_tuple(), []), Status.OPEN, "not open"),
        }
        name = self.pick([*states])
        args, status, reason = states[name]
        if job.status is status:
            return
        for other in (reason, "orders are paused", "challenge window is open", "deadline"):
            why.need(False, other)
        sender = job.terms.requester if name == "approve" else STRANGER
        self.act(f"jobs.{name}", args, sender, why, hostile=True)
