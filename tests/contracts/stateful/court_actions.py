# SPDX-License-Identifier: Apache-2.0
"""How disputes end, and convictions without a jury: who is paid, who is fined (I-1, I-5, I-12)."""

from __future__ import annotations

from dataclasses import replace

from eth_utils.crypto import keccak

from benchmarks.courts.rules import Ruling
from teraproof.protocol.dispute import Statement
from teraproof.protocol.messages import Attestation
from teraproof.protocol.terms import Record, Status
from tests.contracts.stateful.deal import Job
from tests.contracts.stateful.driver import action
from tests.contracts.stateful.jury_actions import JuryActions
from tests.contracts.stateful.machine import BPS, Lock, Rule, Why
from tests.contracts.stateful.trial import CAPABILITY, FINAL, RULED, SIZES, Trial
from tests.contracts.stateful.wealth import Books
from tests.contracts.stateful.world import KEYS, OWNERS, PEOPLE, STRANGER, signature


class CourtActions(JuryActions):
    """Rulings carried out."""

    # -------------------------------------------------------------------------------- ends

    @action(6, lambda self: self.disputed(RULED, FINAL))
    def conclude(self) -> None:
        job = self.pick(self.disputed(FINAL) or self.disputed(RULED))
        trial = self.trial_of(job)
        until = trial.standing(self.now)[2]
        if until:
            self.maybe_go(0.5, until + self.pick((0, 1, 1)))
        insiders = (job.provider, self.providers[job.provider].payout)
        hunter = self.pick((STRANGER, STRANGER, job.terms.requester, *insiders))
        self.conclude_job(job, hunter if hunter in PEOPLE else STRANGER)

    def conclude_job(self, job: Job, hunter: str) -> bool:
        trial, why, rule = self.trial_of(job), Why(), Rule(self.books)
        assert job.record
        why.need(trial.phase(self.now) == FINAL, "not final")
        before = self.books
        if not why.reasons:
            self.court_pays(trial, rule)
            if job.status is Status.REFUNDED:
                pass  # by a conviction: the bonds are all that is left
            elif trial.is_for_requester(trial.ruling()[0]):
                # Nobody earns a bounty by a verdict, whoever carries it out.
                self.refunding(rule, job, job.provider)
            else:
                self.paying_provider(rule, job)
        args = (job.terms.abi_tuple(), job.record.abi_tuple(), trial.case.abi_tuple())
        done = self.act("jobs.conclude", args, hunter, why, rule)
        if done:
            won = trial.is_for_requester(trial.ruling()[0])
            if job.status is Status.DISPUTED:
                self.become(job, Status.REFUNDED if won else Status.SETTLED)
                self.kept_its_word(job, trial, before)
            self.seats_after_fines(trial)
            del self.trials[job.id]
            self.tally.notes[f"disputes: {trial.ruling()[0].name}"] += 1
        return done

    def refunding(self, rule: Rule, job: Job, hunter: str) -> None:
        """The price back, and the tenant's part of the collateral."""
        tenant = job.terms.requester
        rule.add(("owed", tenant), job.price)
        self.escrows -= job.price
        split = (self.p.victim_bps, self.p.bounty_bps)
        self.seizing(rule, self.jobs_address, job.provider, job.id, tenant, hunter, *split)

    def court_pays(self, trial: Trial, rule: Rule) -> None:
        """Votes that earned it, from the loser first, but half each where an appeal has turned
        WITHHELD; the rest of each bond to its payer.
        """
        case = trial.case
        won = trial.is_for_requester(trial.ruling()[0])
        bonds = {case.requester: trial.bond, case.provider: 0}
        if trial.appellant:
            appellant = case.requester if trial.appellant == case.requester else case.provider
            bonds[appellant] += trial.appeal_bond
        self.escrows -= sum(bonds.values())
        loser, winner = (case.provider, case.requester)[:: 1 if won else -1]
        from_loser = min(trial.losers_part(), bonds[loser])
        bonds[loser] -= from_loser
        bonds[winner] -= trial.paid() - from_loser
        for jury in trial.juries:
            for place, (leaf, _) in enumerate(jury.places):
                juror = self.owner_of(leaf)
                rule.add(("owed", self.providers[juror].payout), trial.earns(jury, place))
                fine = trial.fine(jury, place)
                if fine:
                    self.fining(rule, juror, fine)
        assert min(bonds.values()) >= 0, "E1: the bonds do not cover the votes"
        rule.add(("owed", case.requester), bonds[case.requester])
        rule.add(("owed", self.providers[case.provider].payout), bonds[case.provider])

    def owner_of(self, leaf: int) -> str:
        return next(seat.owner for seat in self.seats.values() if seat.leaf == leaf)

    def fining(self, rule: Rule, juror: str, fine: int) -> None:
        """Burned, from what is locked, as long as it is locked; nobody gets it (I-12)."""
        key = (self.court, juror, CAPABILITY)
        lock = self.locks.get(key)
        if lock is None or self.now > lock.expires_at:
            return
        part = min(fine, lock.amount)
        taken = min(part, rule.at(("stake", juror, juror)))
        self.locks[key] = Lock(lock.amount - part, lock.expires_at, lock.made_at)
        rule.add(("locked", juror), -part)
        for place in ("stake", juror, juror), ("active", juror):
            rule.add(place, -taken)
        rule.add(("staking",), -taken)
        rule.add(("supply",), -taken)
        state = self.providers[juror]
        state.in_all -= min(state.in_all, taken)
        state.rounded += 1
        self.seized[juror] += taken
        self.rounding(juror)
        self.tally.notes["fines"] += 1

    def paying_provider(self, rule: Rule, job: Job) -> None:
        fee = job.price * job.terms.fee_bps // BPS
        rule.add(("fees",), fee)
        rule.add(("owed", self.providers[job.provider].payout), job.price - fee)
        self.lock_ended(rule, self.jobs_address, job.provider, job.id)
        self.escrows -= job.price

    def seats_after_fines(self, trial: Trial) -> None:
        """A seat goes when less than half of it is behind it: at once, by the fine itself."""
        for jury in trial.juries:
            for place, (leaf, _) in enumerate(jury.places):
                if not trial.fine(jury, place):
                    continue
                seat = self.seats[self.owner_of(leaf)]
                backed = self.backing(seat.owner) // (self.p.seat // 2)
                if backed < seat.seats:
                    self.change_seats(seat, backed)
                    self.tally.notes["seats lost by fines"] += 1

    def kept_its_word(self, job: Job, trial: Trial, before: Books) -> None:
        """The promise: an honest majority of the deciding jury, and the honest party loses nothing.

        Neither of them is out of pocket, silence has cost stake, and no juror got more than a fee.
        """
        case, jury = trial.case, trial.juries[-1]
        if jury.number == 2 and jury.found()[0] in (Ruling.NO_QUORUM, Ruling.UNDECIDED):
            jury = trial.juries[-2]
        honest = sum(jury.places[n][1] for n, vote in jury.revealed.items() if vote.honest)
        if 2 * honest <= SIZES[jury.number]:
            return
        self.tally.notes["disputes: by an honest majority"] += 1
        got = {
            account: self.books["owed", account] - before["owed", account]
            for account in (case.requester, self.providers[case.provider].payout)
        }
        if self.lied(job):
            paid = trial.bond + (trial.appeal_bond if trial.appellant == case.requester else 0)
            whole = case.price + paid
            assert got[case.requester] >= whole - self.missing(trial), "a tenant lost by a lie"
            assert (self.jobs_address, case.provider, job.id) not in self.locks, "a liar kept it"
            return
        paid = trial.appeal_bond if trial.appellant not in ("", case.requester) else 0
        fee = case.price * job.terms.fee_bps // BPS
        whole = case.price - fee + paid
        payout = self.providers[case.provider].payout
        assert got[payout] >= whole - self.missing(trial), "an honest provider lost by a dispute"

    def missing(self, trial: Trial) -> int:
        """What jurors were paid beyond the loser's part and bonds: the winner's, never more."""
        won = trial.is_for_requester(trial.ruling()[0])
        lost = 0 if won else trial.bond
        if trial.appellant and (trial.appellant == trial.case.requester) != won:
            lost += trial.appeal_bond
        return trial.paid() - min(trial.losers_part(), lost)

    # ------------------------------------------------------------------- without any jury

    def signed_for(self) -> list[Job]:
        return self.with_status(Status.ASSIGNED, Status.ATTESTED, Status.DISPUTED)

    @action(1.2, lambda self: self.signed_for())
    def convict(self) -> None:
        """Two results, or another specification; and what shows no fault."""
        job = self.pick([*self.signed_for(), *self.disputed()])
        n = self.number()
        # Also keys that were let go meanwhile, or named too late.
        operator = self.pick((self.operator_of(job.provider), *self.could_attest(job)))
        signer = operator if self.chance(0.9) else self.pick([*KEYS])
        one = Statement(job.order.spec, keccak(text=f"one {n}"), bytes(32), 1, 2)
        other = replace(one, result=keccak(text=f"other {n}")) if self.chance(0.8) else one
        recorded = job.statement if job.statement and self.chance(0.5) else None
        if self.chance(0.3):
            one = replace(one, spec=keccak(text="another specification"))
        self.convict_by(job, one, signer, recorded or other, "" if recorded else operator)

    def could_attest(self, job: Job) -> list[str]:
        """The provider's keys from the assignment to the attestation."""
        until = job.record.attested_at if job.record else self.now
        return self.keys_of(job.provider, job.assigned_at, until)

    def convict_by(
        self, job: Job, one: Statement, signer: str, other: Statement, other_signer: str
    ) -> bool:
        def sign(said: Statement, by: str) -> bytes:
            return signature(self.world.jobs, Attestation(job.id, *said.abi_tuple()), by)

        why, rule = Why(), Rule(self.books)
        why.need(job in self.signed_for(), "not attested")
        why.need(signer in self.could_attest(job), "not the operator's attestation")
        if one.spec == job.order.spec:
            is_known = other == job.statement and not other_signer
            why.need(is_known or other_signer == signer, "not the operator's attestation")
            why.need(one.result != other.result, "no fault")
        hunter = self.pick((STRANGER, STRANGER, job.terms.requester, job.provider))
        if not why.reasons:
            # Of a job in dispute nobody gets the bounty: who is about to lose gains nothing by it.
            self.refunding(rule, job, job.provider if job.id in self.trials else hunter)
        record = job.record or Record(OWNERS[0], self.now, self.now, 0, bytes(32))
        signed = sign(other, other_signer) if other_signer else b""
        args = (
            job.terms.abi_tuple(), record.abi_tuple(),
            one.abi_tuple(), sign(one, signer), other.abi_tuple(), signed,
        )  # fmt: skip
        done = self.act("jobs.convict", args, hunter, why, rule)
        if done:
            self.tally.notes["convictions in a dispute"] += job.id in self.trials
            self.become(job, Status.REFUNDED)
        return done
