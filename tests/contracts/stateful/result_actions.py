# SPDX-License-Identifier: Apache-2.0
"""What becomes of jobs: attestations and every exit without a court (I-5, I-10)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from eth_utils.crypto import keccak

from teraproof.protocol.dispute import Statement
from teraproof.protocol.messages import Attestation
from teraproof.protocol.terms import ZERO_WORD, Record, Status
from tests.contracts.stateful.deal import (
    REFUSABLE,
    Job,
)
from tests.contracts.stateful.driver import action
from tests.contracts.stateful.job_actions import JobActions
from tests.contracts.stateful.machine import BPS, Rule, Why
from tests.contracts.stateful.trial import result_of
from tests.contracts.stateful.world import (
    BURNED,
    KEYS,
    OWNERS,
    PEOPLE,
    STRANGER,
    TENANTS,
    signature,
)


class ResultActions(JobActions):
    """Results, pay, and what comes in its place."""

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
            self.a_result(job),
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
            job.statement = Statement(
                message.spec, message.result, message.receipt, message.started, message.finished
            )
            self.become(job, Status.ATTESTED)

    def truth(self, job: Job) -> bytes:
        """The manifest of what everybody gets that runs the job."""
        return b"truth of " + job.id

    def a_result(self, job: Job) -> bytes:
        """What a provider says: the truth, or a manifest of its own."""
        manifest = self.truth(job) if self.chance(0.5) else self.word("lie")
        result = result_of(manifest)
        self.manifests[result] = manifest
        return result

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
