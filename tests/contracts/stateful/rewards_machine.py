# SPDX-License-Identifier: Apache-2.0
"""Rewards by proven speed under random use: claims, uses and weights on top of the proofs (I-8).

At the end of each example the schedule has been halved twice, everything due is claimed by a
stranger, and everybody leaves by calls that anyone can make (I-2).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from provider_agent.protocol.terms import ZERO_ADDRESS
from tests.contracts.deploy import TPF, Contract
from tests.contracts.stateful.base import DATA, Data, hostile, name_of
from tests.contracts.stateful.chain import EXECUTED
from tests.contracts.stateful.market import DELEGATORS, OPERATORS, OWNERS, STRANGER
from tests.contracts.stateful.rewards_market import HOUR, PARAMETERS
from tests.contracts.stateful.rewards_model import Emissions
from tests.contracts.stateful.rewards_proofs import CHEATS, HONEST, PLANS, ProofMachine

WEIGHTS = ([8_000], [10_000], [], [0, 10_000], [3_333, 6_667], [5_000, 5_000], [1, 1], [9_999, 2])
# In TPF.
STAKES_AT_START = (20_000, 3_000, 2_001)
# How a provider behaves in an epoch that goes by.
HABITS = ("honest", "honest", "honest", "slow", "cheat", "silent", "absent")


class RewardsMachine(ProofMachine):
    """The base machine of the rewards."""

    HALVINGS: ClassVar[int] = 2
    distributor: ClassVar[Contract]

    def __init__(self) -> None:
        super().__init__()
        self.emissions = Emissions(
            PARAMETERS, self.addresses["emissions"], self.owner, self.benchmark
        )
        self.chain.add("distributor", self.distributor)
        self.compared_in = 0
        self.gifts = {"staking": 0, "emissions": 0, "benchmark": 0}

    def minted(self) -> int:
        return self.emissions.minted

    @initialize(use=st.booleans())
    def found(self, use: bool) -> None:
        """Stakes so unlike that the cap by stake binds some and not others."""
        for n, amount in enumerate(STAKES_AT_START):
            self.enrol(OWNERS[n], OPERATORS[n].address, amount * TPF)
        self.stake(DELEGATORS[0], OWNERS[1], 500 * TPF + 1)
        if use:
            self.introduce(self.addresses["distributor"])
            self.weigh([5_000, 5_000])

    # ------------------------------------------------------------------------ a whole epoch

    @rule(data=DATA, count=st.integers(1, 3))
    def epochs_go_by(self, data: Data, count: int) -> None:
        """Everybody after its habits, and then it is the next epoch."""
        for _ in range(count):
            habits = {p: self.pick(data, HABITS) for p in self.registered}
            void = self.pick(data, ("", "", "", "", "not opened", "not drawn"))
            self.live(habits, self.plans(data, habits), void)

    @rule(data=DATA)
    def epoch_with_failures(self, data: Data) -> None:
        """Who cannot show its samples, or does not, is reported when the epoch is over."""
        habits = {p: self.pick(data, ("honest", "cheat", "silent")) for p in self.registered}
        self.live(habits, self.plans(data, habits))
        for provider in self.with_proof(drawn=True):
            self.report(provider, self.pick(data, (STRANGER, provider, *DELEGATORS)))

    @rule(data=DATA)
    def epoch_of_leaving(self, data: Data) -> None:
        """Stake that leaves between the commit and the last sample earns nothing."""
        habits = dict.fromkeys(self.registered, "honest")
        plans = self.plans(data, habits)
        leaver = self.pick(data, DELEGATORS[:2])
        provider = self.pick(data, self.registered)

        def leave() -> None:
            held = self.staking.providers[provider].active.held
            for account in (leaver, provider):
                if held[account]:
                    self.leave(provider, account, -(-held[account] // 2))

        self.stake(leaver, provider, 700 * TPF)
        self.live(habits, plans, meanwhile=leave)

    def plans(self, data: Data, habits: dict[str, str]) -> dict[str, tuple[str, str]]:
        """What each provider does in the window: its rounds, and how it cheats."""
        return {
            provider: (self.pick(data, PLANS), self.pick(data, CHEATS))
            if habit == "cheat"
            else (self.pick(data, HONEST), "")
            for provider, habit in habits.items()
        }

    def live(
        self,
        habits: dict[str, str],
        plans: dict[str, tuple[str, str]],
        void: str = "",
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        """From the opening of an epoch to its end; `meanwhile` comes before the draw."""
        epoch, b = self.epoch, self.benchmark
        if epoch not in b.epochs:
            if self.now >= b.start(epoch) + b.p.open_period:
                epoch += 1
                self.go_to(b.start(epoch))
            if void == "not opened" or not self.open_epoch(epoch):
                self.go_to(b.start(epoch + 1))
                return
        for provider, (plan, cheat) in plans.items():
            if habits[provider] != "absent":
                operator = self.staking.providers[provider].operator
                self.commit(operator, epoch, self.claim_for(provider, epoch, plan, cheat), 2)
        meanwhile()
        if void != "not drawn":
            self.go_to(b.first_draw(epoch))
            self.draw_epoch(epoch)
            for provider, habit in habits.items():
                proof = b.proofs.get(provider)
                if not proof or proof.epoch != epoch or habit in ("absent", "silent"):
                    continue
                if habit == "slow":
                    self.show(provider, 1)
                self.show(provider, b.p.samples - proof.verified)
        self.go_to(b.start(epoch + 1))

    # ------------------------------------------------------------------------------- claims

    def claim(self, provider: str, epochs: Sequence[int]) -> bool:
        return self.act(
            "emissions.claim",
            (provider, list(epochs)),
            STRANGER,
            lambda: self.emissions.claim(self.now, provider, epochs),
        )

    def due(self) -> list[tuple[str, int]]:
        """(provider, epoch) of everything that could be claimed now."""
        return [
            (provider, epoch)
            for epoch, found in self.benchmark.epochs.items()
            if epoch < self.epoch
            for provider in found.results
            if self.emissions.due(provider, epoch)
        ]

    @precondition(lambda self: self.epoch > 0)
    @rule(data=DATA)
    def claim_some(self, data: Data) -> None:
        """Any ended epochs in any order, twice or more, void and paid ones between them."""
        provider = self.pick(data, (*OWNERS, STRANGER))
        epochs = data.draw(st.lists(st.integers(0, self.epoch - 1), max_size=8))
        self.claim(provider, epochs)

    @precondition(lambda self: self.due())
    @rule(data=DATA)
    def claim_what_is_due(self, data: Data) -> None:
        provider = self.pick(data, sorted({p for p, _ in self.due()}))
        self.claim(provider, [e for p, e in self.due() if p == provider][::-1][:64])

    @precondition(lambda self: self.due())
    @rule(backwards=st.booleans())
    def everybody_claims(self, backwards: bool) -> None:
        for provider in self.registered:
            if epochs := [e for p, e in self.due() if p == provider]:
                self.claim(provider, epochs[::-1] if backwards else epochs)

    @hostile
    @rule(data=DATA, ahead=st.integers(0, 2))
    def claim_too_early(self, data: Data, ahead: int) -> None:
        self.claim(self.pick(data, OWNERS), [*range(min(3, self.epoch)), self.epoch + ahead])

    # --------------------------------------------------------------------- uses and weights

    def share_out(self, epoch: int, shares: Sequence[tuple[str, int]]) -> bool:
        """The contract of a later use pays one or two providers of an epoch, all or none."""
        distributor = self.addresses["distributor"]

        def model() -> None:
            for n, (provider, amount) in enumerate(shares):
                assert not n or provider in self.staking.providers
                self.emissions.distribute(self.now, distributor, provider, epoch, amount)

        providers, amounts = [p for p, _ in shares], [a for _, a in shares]
        return self.act("distributor.share_out", (epoch, providers, amounts), STRANGER, model)

    @rule(data=DATA)
    def distribute(self, data: Data) -> None:
        """All of its part, a wei more, or little; ended epochs or not yet."""
        epoch = self.pick(data, (max(0, self.epoch - 1), self.epoch, 0))
        left = self.emissions.part(1, epoch) - self.emissions.distributed[1, epoch]
        amount = self.pick(data, (left, left + 1, max(left, 1) - 1, left // 3, 1, 0))
        self.share_out(epoch, [(self.pick(data, (*OWNERS, STRANGER)), max(amount, 0))])

    @precondition(lambda self: self.epoch > 0 and self.emissions.part(1, self.epoch - 1) > 2)
    @rule(data=DATA)
    def distribute_to_two(self, data: Data) -> None:
        epoch = self.epoch - 1
        left = self.emissions.part(1, epoch) - self.emissions.distributed[1, epoch]
        half = max(1, left // 2)
        if left >= 2:
            self.share_out(epoch, [(p, half) for p in self.registered[:2]])

    def weigh(self, weights: list[int]) -> None:
        self.act(
            "emissions.set_weights",
            (weights,),
            self.owner,
            lambda: self.emissions.set_weights(self.now, self.owner, weights),
        )

    def introduce(self, distributor: str) -> None:
        self.act(
            "emissions.add_use",
            (distributor,),
            self.owner,
            lambda: self.emissions.add_use(self.owner, distributor),
        )

    @rule(weights=st.sampled_from(WEIGHTS))
    def set_weights(self, weights: list[int]) -> None:
        self.weigh(weights)

    @precondition(lambda self: len(self.emissions.uses) == 1)
    @rule()
    def add_use(self) -> None:
        self.introduce(self.addresses["distributor"])

    @hostile
    @rule(data=DATA)
    def add_no_use(self, data: Data) -> None:
        """Nobody, or one that is there already."""
        self.introduce(self.pick(data, (ZERO_ADDRESS, *self.emissions.uses[1:])))

    @hostile
    @rule(data=DATA)
    def call_without_right(self, data: Data) -> None:
        """A right that the caller does not have, whatever the state."""
        anyone = self.pick(data, (STRANGER, *DELEGATORS, *OWNERS))
        owner, lacks = "ownable: caller is not the owner", "staking: caller lacks the permission"
        target, args, reason = self.pick(
            data,
            (
                ("emissions.set_weights", ([10_000],), owner),
                ("emissions.add_use", (anyone,), owner),
                ("emissions.distribute", (anyone, 0, 1), "emissions: caller is no distributor"),
                ("token.mint", (anyone, 1), "token: caller is not the minter"),
                ("token.set_minter", (anyone,), "token: caller may not name the minter"),
                ("staking.reward", (OWNERS[0], 1, 0), lacks),
                ("staking.slash", (OWNERS[0], 1), lacks),
            ),
        )
        self.refuse(target, args, anyone, reason)
        again = (self.addresses["emissions"],)
        self.refuse("token.set_minter", again, self.owner, "token: minter is set")

    @rule(contract=st.sampled_from(["staking", "emissions", "benchmark"]), amount=st.integers(1, 9))
    def donate(self, contract: str, amount: int) -> None:
        """Tokens sent past the rules change nothing (I-1)."""
        self.act("token.transfer", (self.addresses[contract], amount), STRANGER, lambda: True)
        self.gifts[contract] += amount

    # ---------------------------------------------------------------------------------- time

    @rule(seconds=st.one_of(st.integers(1, 60), st.integers(60, 7 * HOUR)))
    def wait(self, seconds: int) -> None:
        self.go_to(self.now + seconds)

    # ---------------------------------------------------------------------------- invariants

    @invariant()
    def within_the_schedule(self) -> None:
        """I-8: each epoch mints its emission at most, and all together the schedule to date."""
        e = self.emissions
        for epoch in {epoch for _, epoch in (*e.paid, *e.distributed)}:
            assert e.minted_for(epoch) <= e.emission(epoch), "I-8: an epoch's emission"
            assert epoch < self.epoch, "I-8: before the epoch has ended"
        ended = e.scheduled(self.epoch - 1) if self.epoch else 0
        assert e.minted <= ended <= PARAMETERS.cap - PARAMETERS.genesis_supply, "I-8"

    @invariant()
    def conservation(self) -> None:
        """I-1: what Staking owes is what it holds; Emissions and Benchmark hold nothing."""
        self.bonds_back_proofs()
        assert self.staking.liabilities() == self.staking.balance, "I-1: TPF"
        # A score can end by time alone.
        if not self.changed and self.epoch == self.compared_in:
            return
        self.changed, self.compared_in = False, self.epoch
        view = self.chain.view
        held = {
            name: view("token", "balanceOf", self.addresses[name])
            for name in ("staking", "emissions", "benchmark")
        }
        owed = {"staking": self.staking.balance, "emissions": 0, "benchmark": 0}
        assert held == {name: owed[name] + self.gifts[name] for name in held}, "I-1: TPF"
        minted = self.emissions.minted
        assert view("emissions", "minted") == minted, "I-8"
        assert view("token", "total_minted") == PARAMETERS.genesis_supply + minted, "I-8"
        self.check_supply()
        for provider in self.registered:
            self.compare_proof(provider)
            if self.benchmark.epochs:
                self.compare_share(provider, list(self.benchmark.epochs)[-1])

    def sweep(self) -> None:
        self.sweep_staking()
        self.sweep_benchmark()
        view, e = self.chain.view, self.emissions
        for epoch in range(self.epoch + 3):
            assert view("emissions", "emission", epoch) == e.emission(epoch)
            assert view("emissions", "scheduled", epoch) == e.scheduled(epoch)
            uses = range(len(e.uses))
            assert view("emissions", "weights_at", epoch) == tuple(e.weight(u, epoch) for u in uses)
            for use in uses:
                assert view("emissions", "part_of", use, epoch) == e.part(use, epoch)
                assert view("emissions", "distributed", use, epoch) == e.distributed[use, epoch]
            for provider in self.registered:
                assert view("emissions", "reward_of", provider, epoch) == e.reward(provider, epoch)
                paid = (provider, epoch) in e.paid
                assert view("emissions", "claimed", provider, epoch) == paid, name_of(provider)

    # ----------------------------------------------------------------------------- the end

    def everybody_leaves(self) -> None:
        """I-2: late claims in any order, exits, and nothing left but dust."""
        self.sweep()
        order = random.Random(self.steps * 1_000 + self.emissions.minted)  # repeats
        # Time enough for the halvings, whatever the example did.
        while self.epoch < self.HALVINGS * PARAMETERS.halving_epochs + 1:
            everybody = self.registered
            self.live(dict.fromkeys(everybody, "honest"), dict.fromkeys(everybody, ("p", "")))
        EXECUTED["halvings"] = max(EXECUTED["halvings"], self.epoch // PARAMETERS.halving_epochs)
        for provider in self.with_proof(drawn=True):
            self.report(provider)
        due = self.due()
        order.shuffle(due)
        for provider, epoch in due:
            self.claim(provider, [epoch])
        assert not self.due()
        self.within_the_schedule()
        if order.random() < 0.3:
            # The worst that governance can do: the exits need neither contract.
            for name in ("benchmark", "emissions"):
                self.act(
                    "staking.remove_manager",
                    (self.addresses[name],),
                    self.owner,
                    lambda name=name: self.staking.remove_manager(self.owner, self.addresses[name]),
                )
        self.all_stake_leaves()
        self.changed = True
        self.conservation()
        EXECUTED["examples"] += 1
