# SPDX-License-Identifier: Apache-2.0
"""Rewards as a module of the agent: see `duty` for what it does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

from provider_agent.core.module import Context, Cycle, Module
from provider_agent.core.trial import StartCheck, Trial
from provider_agent.errors import SettingsError
from provider_agent.modules.rewards.duty import CONTRACT, UNCLAIMED, RewardsDuty
from provider_agent.store import Store
from teraproof.amounts import TPF_DECIMALS, show_tpf
from teraproof.contracts.benchmark import BenchmarkContract
from teraproof.contracts.emissions import EmissionsContract


class RewardsModule(Module):
    """Claims the rewards of proofs, where `chain.emissions` is set."""

    name: ClassVar[str] = "rewards"

    def __init__(self, context: Context, benchmark: str, emissions: str) -> None:
        contract = EmissionsContract(context.pool, emissions)
        self._duty = RewardsDuty(
            store=context.store,
            benchmark=BenchmarkContract(context.pool, benchmark),
            emissions=contract,
            attempts=context.attempts(CONTRACT, contract.address, context.short_pause),
        )
        self._unclaimed = context.metrics.gauge("rewards_unclaimed_tpf", "Reward not yet claimed.")

    @classmethod
    def build(cls, context: Context) -> Self | None:
        """None without `chain.emissions`."""
        chain = context.settings.chain
        if chain.benchmark is None or chain.emissions is None:
            return None
        return cls(context, chain.benchmark, chain.emissions)

    @classmethod
    def checks(cls, trial: Trial) -> Sequence[StartCheck]:
        """Whether the contract pays for the scores that this agent earns."""
        chain = trial.settings.chain
        benchmark, emissions = chain.benchmark, chain.emissions
        if benchmark is None or emissions is None:
            return ()

        def rewards() -> str:
            found = trial.contract("chain.emissions", emissions, EmissionsContract)
            paid_for = found.benchmark("latest")
            if int(paid_for, 16) != int(benchmark, 16):
                raise SettingsError(
                    f"chain.emissions pays for the scores of {paid_for}, not for chain.benchmark"
                )
            return "claimed at the end of each epoch"

        return [("rewards", rewards)]

    @classmethod
    def status(cls, store: Store) -> Sequence[str]:
        """What can be claimed."""
        unclaimed = store.meta(UNCLAIMED)
        return () if unclaimed is None else [f"Rewards: {show_tpf(int(unclaimed))} to claim"]

    def reconcile(self, cycle: Cycle) -> None:
        """See the duty."""
        owner = None if cycle.provider is None else cycle.provider.owner
        self._duty.reconcile(cycle.block, cycle.head, owner)

    def measure(self) -> None:
        """The reward to come."""
        self._unclaimed.set(self._duty.unclaimed / 10**TPF_DECIMALS)
