# SPDX-License-Identifier: Apache-2.0
"""A small market with honest people in it, at moments at which a thief might strike.

A strategy is a few calls of the attackers from such a moment on; then the honest do what they
would have done anyway. It gains if the attackers have more than with no calls at all and the
honest have less: by the smaller of the two.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.contracts.deploy import TPF
from tests.contracts.stateful.lens import first_words
from tests.contracts.stateful.story import Story, tell
from tests.contracts.stateful.world import DELEGATORS, OWNERS, STRANGER

EVIL, HONEST, TWIN = OWNERS
# The attackers' other identities: a delegator, and a provider of their own.
ATTACKERS = (EVIL, TWIN, DELEGATORS[2], STRANGER)
INNOCENT = (HONEST, DELEGATORS[0], DELEGATORS[1])
STAKES = (1, 10**6, 10**12, 10**18, 10**21, 10**23, 10**24)
# A call, as the chain takes it.
Call = tuple[str, str, tuple[Any, ...], str]


@dataclass
class Moment:
    """A state of the market from which strategies are tried."""

    name: str
    story: Story
    ends_at: int
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

    def wealth(self) -> tuple[int, int]:
        """Of the innocent, and of everybody else."""
        *mine, supply = first_words(self.story.reader.lens.look(self._records))
        return sum(mine), supply - sum(mine)

    def outcome(self, moves: list[Callable[[Moment], None]]) -> tuple[int, int, int]:
        """Wealth of both sides after a strategy, and the calls that it took; all is undone."""
        chain = self.story.chain
        kept, sent = chain.snapshot(), chain.sent
        for move in moves:
            move(self)
        chain.now = max(chain.now, self.ends_at)
        for provider in OWNERS:
            chain.send("emissions", "claim", (provider,), STRANGER)
        honest, rest = self.wealth()
        calls = chain.sent - sent
        chain.revert(kept)
        return honest, rest, calls

    def gain(self, moves: list[Callable[[Moment], None]]) -> tuple[int, int]:
        """What a strategy takes from the innocent, TPF wei, and its calls."""
        honest, rest, calls = self.outcome(moves)
        return min(rest - self.attackers, self.honest - honest), calls


def moments() -> Iterator[Moment]:
    """Between the last commit of an epoch and its claim, and between epochs."""
    for name in ("drawn", "scored", "ended", "claimed"):
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
        if name != "drawn":
            for provider in OWNERS:
                assert story.show(provider, story.p.samples)
        if name in ("ended", "claimed"):
            story.go_to(e.ends_at)
        if name == "claimed":
            for provider in OWNERS:
                assert story.claim_for(provider)
        yield Moment(name, story, e.ends_at)
        story.end()


def strategy(source: random.Random) -> list[Callable[[Moment], None]]:
    """One to eight moves."""
    return [random_move(source) for _ in range(source.choice((1, 2, 2, 3, 3, 4, 6, 8)))]


def random_move(source: random.Random) -> Callable[[Moment], None]:
    """Something that an attacker can do."""
    who = source.choice(ATTACKERS)
    pool = source.choice((EVIL, EVIL, HONEST, TWIN))
    kind = source.randrange(13)
    amount = source.choice(STAKES) * source.randrange(1, 10)
    part = source.choice((1, 2, 3, 10, 10**6, 10**18))
    delay = source.choice((1, 60, 1_200, 3_600, 86_400, 200_000))
    bps = source.choice((0, 1, 5_000, 9_999, 10_000))

    def send(moment: Moment, *call: Any) -> None:
        moment.story.chain.send(*call)

    def enter(moment: Moment) -> None:
        send(moment, "staking", "delegate", (pool, amount), who)

    def leave(moment: Moment) -> None:
        held = moment.story.chain.view("staking", "shares_of", pool, who)
        send(moment, "staking", "undelegate", (pool, held // part or held), who)

    def leave_but_little(moment: Moment) -> None:
        held = moment.story.chain.view("staking", "shares_of", pool, who)
        send(moment, "staking", "undelegate", (pool, held - min(held, 10 * part)), who)

    def climb(moment: Moment) -> None:
        story = moment.story
        for _ in range(25):
            active, _, shares, *_ = story.chain.view("staking", "pool", pool)
            dear = -(-2 * (active + 1) // (shares + 1_000)) - 1
            send(moment, "staking", "delegate", (pool, max(dear, 1)), who)
        leave(moment)

    def claim(moment: Moment) -> None:
        send(moment, "emissions", "claim", (pool,), who)

    def activate(moment: Moment) -> None:
        send(moment, "staking", "activate", (pool, who), who)

    def take_back(moment: Moment) -> None:
        send(moment, "staking", "take_back", (pool,), who)

    def commission(moment: Moment) -> None:
        send(moment, "staking", "set_commission", (bps,), source_owner)

    def release(moment: Moment) -> None:
        send(moment, "benchmark", "release_bond", (source_owner,), source_owner)

    def wait(moment: Moment) -> None:
        moment.story.chain.now += delay

    def cash(moment: Moment) -> None:
        send(moment, "staking", "withdraw_unbonded", (pool, 0), who)

    def lose_to_oneself(moment: Moment) -> None:
        seize_oneself(moment, source_owner, who, amount)

    def donate(moment: Moment) -> None:
        send(moment, "token", "transfer", (moment.story.addresses["staking"], amount), who)

    source_owner = source.choice((EVIL, TWIN))
    moves = (
        enter,
        leave,
        leave_but_little,
        climb,
        claim,
        activate,
        take_back,
        commission,
        release,
        wait,
        cash,
        lose_to_oneself,
        donate,
    )
    return moves[kind]


def seize_oneself(moment: Moment, owner: str, tenant: str, amount: int) -> None:
    """Hire oneself and let it expire: the collateral goes to another of one's accounts."""
    from provider_agent.protocol.messages import Quote, quote_nonce
    from provider_agent.protocol.terms import ZERO_ADDRESS
    from tests.contracts.stateful.deal import SPEC
    from tests.contracts.stateful.machine import FAR
    from tests.contracts.stateful.world import signature

    story, chain = moment.story, moment.story.chain
    operator = story.operator_of(owner)
    nonce = quote_nonce(story.next_consent[operator] - 1, 1)
    quote = Quote(operator, ZERO_ADDRESS, SPEC, 1, amount, 1, FAR, nonce)
    signed = signature(story.world.jobs, quote, operator)
    chain.send("payment", "mint", (tenant, 1), tenant)
    chain.send("payment", "approve", (story.addresses["jobs"], 1), tenant)
    chain.send("jobs", "hire", (quote.abi_tuple(), signed, False), tenant)
    posted = [event for name, event in chain.happened() if name == "Posted"]
    if posted:
        chain.now += 2
        chain.send("jobs", "expire", (posted[0]["terms"],), tenant)
