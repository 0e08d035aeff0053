# SPDX-License-Identifier: Apache-2.0
"""Disputes over jobs up to their rulings, by honest and hostile tenants and jurors (I-10, I-14)."""

from __future__ import annotations

from dataclasses import replace

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from teraproof.protocol.dispute import Case, Statement
from teraproof.protocol.terms import ZERO_ADDRESS, Order, Record, Status
from tests.contracts import headers
from tests.contracts.court import expected_places
from tests.contracts.revm import SPACING
from tests.contracts.stateful.deal import REFUSABLE, Job
from tests.contracts.stateful.driver import action
from tests.contracts.stateful.juror_actions import JurorActions
from tests.contracts.stateful.machine import Rule, Why
from tests.contracts.stateful.trial import (
    CAPABILITY,
    COMMITTING,
    DRAWING,
    FAILED,
    REVEALING,
    RIGHT,
    RULED,
    SIZES,
    WITHHELD,
    WRONG,
    Jury,
    Trial,
    Vote,
    claim_of,
    fee_of,
    longest,
    result_of,
    seal_of,
)
from tests.contracts.stateful.world import (
    STRANGER,
    TENANTS,
)


class JuryActions(JurorActions):
    """From the dispute to the appeal."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.trials: dict[bytes, Trial] = {}

    # -------------------------------------------------------------------------------- tools

    def judging(self, why: Why, order: Order, provider: str) -> int:
        if order.judged <= REFUSABLE:
            return 0
        why.need(order.judged > 2**128, "unknown way to judge")
        seats = 0
        if order.judged.to_bytes(32, "big") == CAPABILITY:
            own = self.seats.get(provider)
            seats = self.seats_now() - (own.seats if own else 0)
        asked = self.p.panel_min + order.max_price // self.p.price_per_seat
        why.need(seats >= asked, "too few jurors")
        why.need(order.duration <= self.p.max_duration, "job too long")
        dear = 2 * self.p.big_fine * fee_of(order.max_price, order.duration) > self.p.seat
        why.need(not dear, "job too dear")
        return longest(order.duration)

    def trial_of(self, job: Job) -> Trial:
        return self.trials[job.id]

    def disputed(self, *phases: int) -> list[Job]:
        """Jobs with an open dispute, also of convicted providers; of these phases alone if some
        are named.
        """
        found = [job for job in self.jobs if job.id in self.trials]
        return [j for j in found if not phases or self.trial_of(j).phase(self.now) in phases]

    def moments(self) -> set[int]:
        times = super().moments()
        for job in self.disputed():
            until = self.trial_of(job).standing(self.now)[2]
            times |= {until, until + 1} if until else set()
        return times

    def busy_until(self) -> int:
        """What a dispute waits for as well: a jury, votes, or the next call of a party."""
        waits = [self.trial_of(job).standing(self.now)[2] for job in self.disputed()]
        return min([super().busy_until(), *(until for until in waits if until)])

    def seen(self, job: Job) -> None:
        """The chain tells the dispute as the model does."""
        trial = self.trial_of(job)
        told = tuple(self.view("disputes", "standing_of", trial.case.abi_tuple()))
        assert told == trial.standing(self.now), f"I-10: a dispute stands |{told}"

    def check(self) -> None:
        super().check()
        for job in self.disputed():
            self.seen(job)

    def lied(self, job: Job) -> bool:
        """What was attested is not what the job gives."""
        return self.trial_of(job).case.result != result_of(self.truth(job))

    # ---------------------------------------------------------------------------- a dispute

    def judged(self) -> list[Job]:
        return [j for j in self.with_status(Status.ATTESTED) if j.order.judged > REFUSABLE]

    @action(6, lambda self: self.judged())
    def dispute(self) -> None:
        """A lie or the truth; in time or late; by the tenant or another."""
        attested = self.with_status(Status.ATTESTED)
        job = self.pick(self.judged() if self.chance(0.95) else attested)
        self.maybe_go(0.1, job.window_end + self.pick((0, 1)))
        sender = job.terms.requester if self.chance(0.93) else self.pick((STRANGER, *TENANTS))
        assert job.statement and job.record
        statement, record = job.statement, job.record
        if self.chance(0.04):
            statement = replace(statement, finished=statement.finished + 1)
        self.bring(job, sender, statement, record if self.chance(0.95) else self.wrong_record(job))

    def bring(self, job: Job, sender: str, statement: Statement, record: Record) -> bool:
        case = Case(
            job.id,
            record.provider,
            sender,
            self.operator_of(job.provider),
            ZERO_ADDRESS,
            job.order.judged.to_bytes(32, "big"),
            statement.result,
            job.price,
            job.order.duration,
        )
        trial = Trial(case, statement)
        why, rule = Why(), Rule(self.books)
        why.need(sender == job.terms.requester, "not the requester")
        why.need(job.order.judged > REFUSABLE, "order is not judged")
        over = record.attested_at + job.terms.challenge_window < self.now
        why.need(not over, "challenge window is over")
        why.need(record == job.record, "not the attested record")
        why.need(statement == job.statement, "not what was attested")
        self.paying_bond(why, rule, sender, trial.bond)
        papers = (job.terms.abi_tuple(), record.abi_tuple(), statement.abi_tuple())
        args = (*papers, bytes(32), self.credit)
        done = self.act("jobs.dispute", args, sender, why, rule)
        if done:
            self.become(job, Status.DISPUTED)
            self.trials[job.id] = trial
            self.name_jury(trial, 0)
        return done

    def paying_bond(self, why: Why, rule: Rule, account: str, bond: int) -> None:
        self.credit = self.books["owed", account] >= bond
        self.paying(why, rule, account, bond, self.credit)
        if not why.reasons:
            self.escrows += bond

    def name_jury(self, trial: Trial, number: int) -> None:
        target = self.chain.number + self.p.draw_delay
        trial.juries.append(Jury(number, self.now, self.period, target))

    # ------------------------------------------------------------------------------- juries

    @action(10, lambda self: self.disputed(DRAWING))
    def draw_jury(self) -> None:
        job = self.pick(self.disputed(DRAWING))
        trial = self.trial_of(job)
        self.maybe_go(0.06, trial.jury.ends_at(0) + self.pick((0, 1)))
        self.draw_for(job)

    def draw_for(self, job: Job) -> bool:
        trial = self.trial_of(job)
        jury = trial.jury
        word = self.word("jury")
        header = headers.build(jury.target, self.now, word)
        self.chain.remember(jury.target, headers.hash_of(header))
        self.chain.set_block(self.now, max(self.chain.number, jury.target + SPACING))
        shown = header if self.chance(0.95) else headers.build(jury.target, self.now + 1, word)
        why = Why()
        why.need(not jury.drawn_at, "already drawn")
        why.need(self.now <= jury.asked_at + self.p.draw_time, "not the time")
        why.need(shown == header, "not of that block")
        done = self.act("disputes.draw", (trial.case.abi_tuple(), shown), STRANGER, why)
        if done:
            jury.drawn_at = self.now
            jury.places = self.who_sits(trial, word)
            for place, seat in enumerate(jury.places):
                told = self.view("disputes", "place_of", job.id, jury.number, place)
                assert told == seat[0] | seat[1] << 27, "I-14: another jury than the block says"
            self.tally.notes["juries that were not filled"] += not jury.places
        return done

    def who_sits(self, trial: Trial, word: bytes) -> list[tuple[int, int]]:
        """I-14: the named block, the seats before the request, and nothing else."""
        jury, case = trial.jury, trial.case
        seed = keccak(
            encode(
                ["bytes", "bytes32", "bytes32", "uint256"], [b"jury", word, case.job, jury.number]
            )
        )
        parties = {case.provider, case.requester, case.operator}
        sat = {leaf for earlier in trial.juries[:-1] for leaf, _ in earlier.places}
        barred = set()
        for seat in self.seats.values():
            if parties & {*seat.keys} or jury.period > seat.last:
                barred.add(seat.leaf)
        seats = self.seats_before(jury.period)
        places = expected_places(seats, barred, seed, SIZES[jury.number], sat)
        owners = {seat.leaf: seat.owner for seat in self.seats.values()}
        assert not {owners[leaf] for leaf, _ in places} & parties, "I-14: a party sits"
        return places

    def juror_in(self, trial: Trial, place: int) -> str:
        leaf = trial.jury.places[place][0]
        return next(seat.owner for seat in self.seats.values() if seat.leaf == leaf)

    @action(22, lambda self: self.disputed(COMMITTING))
    def commit_a_vote(self) -> None:
        """The truth, a lie, what cannot be opened, or in another's name."""
        job = self.pick(self.disputed(COMMITTING))
        trial = self.trial_of(job)
        jury = trial.jury
        self.maybe_go(0.04, jury.commits_until(trial.case.duration) + self.pick((0, 1)))
        waiting = [n for n in range(len(jury.places)) if n not in jury.committed]
        place = self.pick(waiting if waiting and self.chance(0.95) else [*jury.committed, 30])
        self.commit_as(job, place, honest=self.chance(0.7))

    def vote_of(self, job: Job, honest: bool) -> Vote:
        """An honest juror runs the job; another says anything."""
        trial, number = self.trial_of(job), self.trial_of(job).jury.number
        salt, lied = self.word("salt"), self.lied(job)
        if honest:
            kind = WRONG if lied else RIGHT
            return Vote(kind, seal_of(self.truth(job), number), salt, True)
        kind = self.pick((RIGHT, WRONG, WRONG, WITHHELD, WITHHELD))
        # Friends of a liar get its manifest. Others vote RIGHT without it, and cannot open that.
        shown = seal_of(self.manifests.get(trial.case.result, b""), number)
        if kind == WRONG:
            shown = self.pick((seal_of(b"garbage", number), self.word("seal")))
        elif kind == WITHHELD:
            shown = bytes(32) if self.chance(0.9) else self.word("seal")
        elif self.chance(0.15):
            shown = self.word("seal")
        return Vote(kind if self.chance(0.97) else 4, shown, salt, False)

    def commit_as(self, job: Job, place: int, *, honest: bool) -> bool:
        trial = self.trial_of(job)
        jury, why = trial.jury, Why()
        why.need(jury.can_commit(self.now, trial.case.duration), "not the time")
        why.need(place < len(jury.places), "no such place")
        why.need(place not in jury.committed, "has committed")
        sender, juror, vote = STRANGER, STRANGER, self.vote_of(job, honest)
        if place < len(jury.places):
            juror = self.juror_in(trial, place)
            sender = self.operator_of(juror) if self.chance(0.96) else juror
            why.need(sender == self.operator_of(juror), "not the juror's operator")
        fields = (job.id, jury.number, juror, vote.kind, vote.seal, vote.salt)
        types = ["bytes32", "uint256", "address", "uint256", "bytes32", "bytes32"]
        args = (trial.case.abi_tuple(), place, keccak(encode(types, fields)))
        done = self.act("disputes.commit", args, sender, why)
        if done:
            jury.committed[place] = vote
            if len(jury.committed) == len(jury.places):
                jury.sealed_at = self.now
        return done

    @action(26, lambda self: self.disputed(REVEALING))
    def reveal_a_vote(self) -> None:
        """By anyone; another vote than the sealed one, or a seal that proves nothing."""
        job = self.pick(self.disputed(REVEALING))
        trial = self.trial_of(job)
        jury = trial.jury
        self.maybe_go(0.04, jury.reveals_until(trial.case.duration) + self.pick((0, 1)))
        waiting = [n for n in jury.committed if n not in jury.revealed]
        place = self.pick(waiting if waiting and self.chance(0.95) else [*jury.committed, 30])
        vote = jury.committed.get(place) or Vote(RIGHT, bytes(32), bytes(32), False)
        if self.chance(0.04):
            vote = replace(vote, kind=vote.kind % 3 + 1)
        self.reveal_as(job, place, vote)

    def reveal_as(self, job: Job, place: int, vote: Vote) -> bool:
        trial = self.trial_of(job)
        jury, why = trial.jury, Why()
        why.need(jury.can_reveal(self.now, trial.case.duration), "not the time")
        waits = place in jury.committed and place not in jury.revealed
        why.need(waits, "nothing to reveal")
        why.need(jury.committed.get(place) == vote, "not what was committed")
        if vote.kind == WITHHELD:
            why.need(vote.seal == bytes(32), "seal of nothing")
        else:
            why.need(vote.kind in (RIGHT, WRONG), "unknown vote")
            shows = claim_of(vote, jury.number) == trial.case.result
            why.need(vote.kind == WRONG or shows, "not the result's seal")
        args = (trial.case.abi_tuple(), place, vote.kind, vote.seal, vote.salt)
        done = self.act("disputes.reveal", args, STRANGER, why)
        if done:
            jury.revealed[place] = vote
            if len(jury.revealed) == len(jury.committed):
                jury.revealed_at = self.now
        return done

    @action(4, lambda self: self.disputed(FAILED))
    def redraw(self) -> None:
        job = self.pick(self.disputed(FAILED))
        trial = self.trial_of(job)
        until = trial.standing(self.now)[2]
        self.maybe_go(0.15, until - self.p.redraw_time // 2 + self.pick((0, 1)))
        sender = self.pick((trial.case.requester, trial.case.requester, STRANGER))
        why = Why()
        why.need(trial.phase(self.now) == FAILED, "not the time")
        mine = sender == trial.case.requester
        why.need(mine or 2 * (until - self.now) < self.p.redraw_time, "the requester's turn")
        if self.act("disputes.redraw", (trial.case.abi_tuple(),), sender, why):
            self.name_jury(trial, 1)

    @action(5, lambda self: self.disputed(RULED))
    def appeal(self) -> None:
        job = self.pick(self.disputed(RULED))
        trial = self.trial_of(job)
        self.maybe_go(0.08, trial.standing(self.now)[2] + self.pick((0, 1)))
        loser = trial.loser(trial.ruling()[0])
        others = (trial.case.provider, trial.case.requester, STRANGER)
        sender = loser if self.chance(0.85) else self.pick(others)
        why, rule = Why(), Rule(self.books)
        why.need(trial.phase(self.now) == RULED, "not the time")
        operator = self.operator_of(trial.case.provider)
        losers = (loser, operator) if loser == trial.case.provider else (loser,)
        why.need(sender in losers, "not the loser")
        self.paying_bond(why, rule, sender, trial.appeal_bond)
        args = (trial.case.abi_tuple(), self.credit)
        if self.act("jobs.appeal", args, sender, why, rule):
            trial.appellant = sender
            self.name_jury(trial, 2)
