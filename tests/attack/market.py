# SPDX-License-Identifier: Apache-2.0
"""A small market with honest people in it, at moments at which a thief might strike.

A strategy is a few calls of the attackers from such a moment on; then everybody does what was
planned anyway. It gains if the attackers have more than with no calls at all and the honest have
less: by the smaller of the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.attack.judged import ROUNDING, Judged
from tests.contracts.deploy import TPF
from tests.contracts.stateful.lens import first_words
from tests.contracts.stateful.machine import Why
from tests.contracts.stateful.story import Story, tell
from tests.contracts.stateful.world import DELEGATORS, OWNERS, STRANGER

EVIL, HONEST, TWIN = OWNERS
# The attackers' other identities: a delegator, a provider of their own, an outsider.
ATTACKERS = (EVIL, TWIN, DELEGATORS[2], STRANGER)
INNOCENT = (HONEST, DELEGATORS[0], DELEGATORS[1])
# After the draw, after the openings, after the epoch, after the claims.
MOMENTS = ("drawn", "scored", "ended", "claimed")


@dataclass
class Moment:
    """A state of the market from which strategies are tried."""

    name: str
    story: Story
    ends_at: int
    openings: dict[str, list[list[bytes]]]
    """What each provider will show before the epoch ends."""
    honest: int = 0
    """What the innocent have in the end when nothing is tried, TPF wei."""
    attackers: int = 0
    _records: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        record = self.story.reader.lens.record
        parts = []
        for account in INNOCENT:
            parts += [
                record("token", "balanceOf", account),
                record("staking", "credit_of", account),
            ]
            for provider in OWNERS:
                parts.append(record("staking", "assets_of", provider, account))
                parts.append(record("staking", "entry_of", provider, account))
        payout = self.story.providers[HONEST].payout
        parts += [record("staking", "credit_of", payout), record("token", "totalSupply")]
        self._records = b"".join(parts)
        self.honest, self.attackers, _ = self.outcome([])

    def send(self, contract: str, name: str, args: tuple[Any, ...], sender: str) -> None:
        """A call that may be refused."""
        self.story.chain.send(contract, name, args, sender)

    def show(self, provider: str) -> None:
        if openings := self.openings.get(provider):
            self.send("benchmark", "open_samples", (provider, openings), STRANGER)

    def wait(self, seconds: int) -> None:
        """Time passes; every proof is shown before the epoch ends.

        Those of the attackers, too: who lets a proof of its own fail takes nothing that it had not
        earned, though its delegators get nothing then (docs/attacks.md).
        """
        if self.story.now + seconds >= self.ends_at:
            for provider in OWNERS:
                self.show(provider)
        self.story.chain.now += seconds

    def wealth(self) -> tuple[int, int]:
        """Of the innocent, and of everybody else."""
        *mine, supply = first_words(self.story.reader.lens.look(self._records))
        return sum(mine), supply - sum(mine)

    def outcome(self, moves: Sequence[Callable[[Moment], None]]) -> tuple[int, int, int]:
        """Wealth of both sides after a strategy, and the calls that it took; all is undone."""
        chain = self.story.chain
        kept, sent = chain.snapshot(), chain.sent
        for move in moves:
            move(self)
        for provider in OWNERS:
            self.show(provider)
        chain.now = max(chain.now, self.ends_at)
        for provider in OWNERS:
            self.send("emissions", "claim", (provider,), STRANGER)
        honest, rest = self.wealth()
        calls = chain.sent - sent
        chain.revert(kept)
        return honest, rest, calls

    def gain(self, moves: Sequence[Callable[[Moment], None]]) -> tuple[int, int]:
        """What a strategy takes from the innocent, TPF wei, and its calls."""
        honest, rest, calls = self.outcome(moves)
        return min(rest - self.attackers, self.honest - honest), calls

    def judge(self, moves: Sequence[Callable[[Moment], None]]) -> Judged:
        """Whether a strategy takes more than rounding."""
        gain, calls = self.gain(moves)
        return Judged(gain, calls, f"gains {gain} wei" if gain > ROUNDING * calls else "")


@contextmanager
def moment(name: str) -> Iterator[Moment]:
    """The market at a moment; afterwards nothing of it is left."""
    story = tell()
    for number, stake in ((0, 5_000), (1, 20_000), (2, 3_000)):
        story.provider(number, stake, 1_000 if number else 0)
    for account, pool, stake in (
        (DELEGATORS[0], EVIL, 40_000),
        (DELEGATORS[0], HONEST, 10_000),
        (DELEGATORS[1], HONEST, 30_000),
    ):
        assert story.stake(account, pool, stake * TPF)
    e = story.begin({EVIL: "pppp", HONEST: "ppp", TWIN: "p"})
    story.go_to(e.window_end)
    story.close()
    story.draw()
    openings = {}
    if name == "drawn":
        openings = {provider: openings_of(story, provider) for provider in OWNERS}
    else:
        for provider in OWNERS:
            assert story.show(provider, story.p.samples)
    if name in ("ended", "claimed"):
        story.go_to(e.ends_at)
    if name == "claimed":
        for provider in OWNERS:
            assert story.claim_for(provider)
    try:
        yield Moment(name, story, e.ends_at, openings)
    finally:
        story.end()


def openings_of(story: Story, provider: str) -> list[list[bytes]]:
    """All that a provider's proof has to show."""
    proof = story.proofs[provider]
    why = Why()
    found = [story.opening(why, provider, proof, s) for s in story.samples(provider, proof)]
    assert not why.reasons
    return found
