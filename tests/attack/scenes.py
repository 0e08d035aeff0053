# SPDX-License-Identifier: Apache-2.0
"""The court's moments: who is hostile, what the hostile gain, and what the honest were promised.

A gain is what the hostile have more than if they had done their part: work that was saved counts,
and a run of the job. It is a fault if more than half of the last jury was honest and there; before
another jury it is luck, which the named block decides, and must not pay on average.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.courts.rules import WORLD
from tests.attack import promises
from tests.attack.court_moves import CourtMove
from tests.attack.courthouse import JUROR, PROVIDER, PUPPET, TENANT, Courthouse, courthouse
from tests.attack.judged import ROUNDING, Judged
from tests.attack.play import BrokenPromise, Play
from tests.attack.wealth import WORTH, Wealth

# Parties that are hostile, with some of the jurors.
COURTS: dict[str, tuple[str, ...]] = {
    "lie": (PROVIDER,),
    "quarrel": (TENANT,),
    "puppets": (PROVIDER, TENANT),
    "jury": (),
}


class Court:
    """A moment at which a judged job is about to be posted."""

    def __init__(self, name: str, room: Courthouse | None = None) -> None:
        self.name = name
        self.room = room or courthouse()
        self.parties = COURTS[name]
        self.before = self.room.wealth()

    def play(self, moves: Sequence[CourtMove]) -> tuple[Play, Wealth]:
        """A job to its end, undone."""
        chain = self.room.chain
        kept = chain.snapshot()
        play = Play(self.room, frozenset(self.parties))
        try:
            for move in moves:
                move(play)
            play.run()
            after = self.room.wealth()
            promises.check(play, self.before, after)
        finally:
            chain.revert(kept)
        return play, after

    def judge(self, moves: Sequence[CourtMove]) -> Judged:
        """Whether a strategy gains, or breaks a promise."""
        sent = self.room.chain.sent
        try:
            play, after = self.play(moves)
            had, work = self.more(play, after), self.work(play)
            due, part = self.by_its_part(moves, play)
        except BrokenPromise as broken:
            return Judged(0, self.room.chain.sent - sent, str(broken))
        calls = self.room.chain.sent - sent
        gain = had - work - (due - part)
        # What a friend is paid for a just vote, and saves by none, are questions of averages.
        work -= self.worth(play, WORLD.run if play.ran else 0)
        exact = had - self.just_pay(play) - work - (due - part) if self.parties else had - due
        is_luck, is_gain = not promises.is_safe(play), exact > ROUNDING * calls
        is_open = is_gain and not is_luck and not self.parties and promises.was_dragged_on(play)
        fault = f"gains {exact} wei" if is_gain and not (is_luck or is_open) else ""
        return Judged(exact, calls, fault, gain / (play.price * WORTH), is_open, is_luck)

    def more(self, play: Play, after: Wealth) -> int:
        """What the hostile have more than before, TPF wei."""
        mine = (*self.parties, PUPPET, *(JUROR[n] for n in play.friends))
        return after.of(*mine) - self.before.of(*mine)

    def work(self, play: Play) -> int:
        """What the hostile have spent on work, TPF wei: the job, and one run of it by jurors."""
        worked = WORLD.saved if play.worked and PROVIDER in self.parties else 0
        return self.worth(play, worked + (WORLD.run if play.ran else 0))

    def just_pay(self, play: Play) -> int:
        """What friends are paid for votes that say what their run has shown."""
        paid = 0
        for jury in play.juries:
            just = play.by_a_run(jury.number)
            for place, vote in jury.votes.items():
                is_just = (vote.kind, vote.seal) == just and vote.opens and not vote.is_honest
                if is_just and vote.kind == play.ruling:
                    paid += jury.places[place][1] * play.fee
        return paid * WORTH

    def worth(self, play: Play, prices: float) -> int:
        return round(prices * 1_000) * play.price * WORTH // 1_000

    def by_its_part(self, moves: Sequence[CourtMove], play: Play) -> tuple[int, int]:
        """What the hostile would have more, and spend on work, if each had done its part."""
        if self.name == "lie":
            paid = play.price - play.price * play.p.fee_bps // 10_000
            return paid * WORTH, self.worth(play, WORLD.saved)
        if self.name == "quarrel":
            return -play.price * WORTH, 0
        if self.name == "puppets":
            return 0, 0
        honest, after = self.play([move for move in moves if move.kind != "vote"])
        return self.more(honest, after), self.work(honest)
