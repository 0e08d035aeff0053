# SPDX-License-Identifier: Apache-2.0
"""The machine told what to do: stories with fixed people, every step held against the books."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from tests.contracts.deploy import TPF
from tests.contracts.stateful.driver import Choices
from tests.contracts.stateful.epoch import Epoch
from tests.contracts.stateful.machine import FAR, Provider, Rule, Why
from tests.contracts.stateful.market import Market
from tests.contracts.stateful.world import OPERATORS, OWNERS, PAYOUTS, world

T = TypeVar("T")
LIMIT = 10**24


class Steady(Choices):
    """No chance: the first option, the likely way."""

    def __init__(self) -> None:
        super().__init__(0)

    def pick(self, options: Sequence[T]) -> T:
        return options[0]

    def chance(self, probability: float) -> bool:
        return probability >= 0.5

    def between(self, low: int, high: int) -> int:
        del high
        return low

    def log(self, low: int, high: int) -> int:
        del high
        return low


@dataclass(frozen=True)
class Measured:
    """What a fault moved in a story, against what the rules promise to either side."""

    at_risk: int
    gain: int
    """Of the account that tried it, beyond its due; less than 0 if it paid for the try."""
    loss: int
    """Of all others together, below their due."""
    unit: str


class Story(Market):
    """A market without anybody in it yet."""

    PROVIDERS_AT_START = 0
    WITH_COURT = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.choices = Steady()
        self.measured: Measured | None = None

    def measure(self, at_risk: int, gain: int, loss: int, unit: str = "TPF") -> None:
        """Say what the fault of the story moved; `make attack` prints it."""
        self.measured = Measured(at_risk, gain, loss, unit)

    def provider(self, number: int, stake: int, commission: int = 0) -> str:
        """A provider with a payout address of its own and stake in TPF."""
        owner, operator = OWNERS[number], OPERATORS[number].address
        payout, nonce = PAYOUTS[number % 2], self.next_consent[operator]
        signed = self.consent(owner, operator, nonce, FAR, operator)
        args = (operator, payout, commission, LIMIT, LIMIT, "url", nonce, FAR, signed)
        assert self.act("staking.register", args, owner, Why())
        self.providers[owner] = Provider(operator, payout, commission, commission, 0, LIMIT, LIMIT)
        self.bound(owner, operator, nonce)
        if stake:
            assert self.stake(owner, owner, stake * TPF)
        return owner

    def begin(self, plans: dict[str, str]) -> Epoch:
        """Open a window and commit to these rounds each (`p` proven, `m` made up)."""
        self.open_window()
        e = self.epochs[-1]
        for provider, plan in plans.items():
            challenge = self.challenge(provider, e)
            assert self.commit_rounds(self.operator_of(provider), challenge, plan)
        return e

    def prove(self, plans: dict[str, str]) -> Epoch:
        """A whole epoch, up to the moment at which it ends."""
        e = self.begin(plans)
        self.go_to(e.window_end)
        self.close()
        self.draw()
        for provider, plan in plans.items():
            if "m" not in plan:
                assert self.show(provider, self.p.samples)
        self.go_to(e.ends_at)
        return e

    def reward_due(self, provider: str) -> int:
        proof = self.proofs[provider]
        due: int = self.view("emissions", "reward_of", provider, proof.epoch.number)
        return due

    def held_shares(self, provider: str, account: str) -> int:
        shares: int = self.view("staking", "shares_of", provider, account)
        return shares

    def leave_all(self, provider: str, account: str) -> None:
        assert self.leave_pool(provider, account, self.held_shares(provider, account))

    def ladder(self, provider: str, account: str, calls: int) -> int:
        """Deposits of the most that buys one share less, then out again; the calls made."""
        made = 0
        while made < calls:
            for _ in range(25):
                assert self.stake(account, provider, 2 * self.books.price(provider))
            self.leave_all(provider, account)
            made += 26
        return made

    def raw(self, target: str, args: tuple[object, ...], sender: str) -> str | None:
        """Why the chain refuses a call, without the machine's books; it is undone."""
        contract, function = target.split(".")
        kept = self.chain.snapshot()
        reason = self.chain.send(contract, function, args, sender).reason
        self.chain.revert(kept)
        return reason

    def nothing(self) -> Rule:
        return Rule(self.books)


def tell() -> Story:
    return Story(world())
