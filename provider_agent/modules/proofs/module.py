# SPDX-License-Identifier: Apache-2.0
"""Proofs as a module of the agent: see `duty` for what it does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

from provider_agent.core.capacity import Amounts, Hold, Kind
from provider_agent.core.feed import Followed, Source
from provider_agent.core.module import Context, Cycle, Module
from provider_agent.core.settings import Section
from provider_agent.core.trial import StartCheck, Trial
from provider_agent.modules.proofs.checks import ProofChecks
from provider_agent.modules.proofs.duty import CONTRACT, REPORT, BenchmarkDuty
from provider_agent.modules.proofs.epochs import ProofReport
from provider_agent.modules.proofs.metrics import ProofMetrics
from provider_agent.modules.proofs.prover import Prover
from provider_agent.modules.proofs.settings import BenchmarkSettings
from provider_agent.modules.proofs.tables import TABLES
from provider_agent.store import Store
from provider_agent.store.tables import Tables
from teraproof.amounts import show_rate
from teraproof.contracts.base import Event
from teraproof.contracts.benchmark import BenchmarkContract, Committed


class ProofsModule(Module):
    """Proves this machine's speed, where `chain.benchmark` is set and `benchmark.enabled`."""

    name: ClassVar[str] = "proofs"
    tables: ClassVar[Tables] = TABLES
    section: ClassVar[str] = "benchmark"
    settings: ClassVar[type[Section]] = BenchmarkSettings

    def __init__(self, context: Context, place: str) -> None:
        settings = context.settings
        self._contract = contract = BenchmarkContract(context.pool, place)
        self._capacity = context.capacity
        self._metrics = ProofMetrics(context.metrics)
        prover = Prover(settings.agent.lock_dir)
        if not settings.section(BenchmarkSettings).with_jobs:
            context.capacity.lend(prover.give_way)
        self._duty = BenchmarkDuty(
            settings=settings.section(BenchmarkSettings),
            chain_id=settings.chain.chain_id,
            pace=context.pace,
            store=context.store,
            contract=contract,
            attempts=context.attempts(CONTRACT, contract.address, context.short_pause),
            prover=prover,
            folders=settings.agent.data_dir / "proofs",
            busy=lambda: context.activity.of_others(self.name),
            settles=settings.chain.emissions is None,
            on_outcome=self._metrics.ended,
        )

    @classmethod
    def build(cls, context: Context) -> Self | None:
        """None where nothing is proven."""
        place = context.settings.chain.benchmark
        if place is None or not context.settings.section(BenchmarkSettings).enabled:
            return None
        return cls(context, place)

    @classmethod
    def checks(cls, trial: Trial) -> Sequence[StartCheck]:
        """The contract, the device, the bond."""
        place = trial.settings.chain.benchmark
        if place is None or not trial.settings.section(BenchmarkSettings).enabled:
            return ()
        return ProofChecks(trial, place).all()

    @classmethod
    def status(cls, store: Store) -> Sequence[str]:
        """The proof of the newest epoch."""
        kept = store.meta(REPORT)
        if kept is None:
            return ()
        report = ProofReport.from_text(kept)
        epoch = "" if report.epoch is None else f"epoch {report.epoch}, {report.stage}: "
        return [
            f"Proof: {epoch}{report.note} ({report.device})",
            f"Rounds: {report.rounds} done, {report.committed_rounds} committed, "
            f"{report.verified} of {report.samples} samples verified",
            f"Score: {show_rate(report.score)} backed by stake, of "
            f"{show_rate(report.proven)} proven",
        ]

    def close(self) -> None:
        """End the worker."""
        self._duty.close()

    def contracts(self) -> Sequence[Source]:
        """Remember the providers that commit."""
        return [Followed(self._contract, (Committed,))]

    def consume(self, events: Sequence[Event], again: Sequence[bytes]) -> None:
        """See the duty."""
        self._duty.consume(events)

    @property
    def look_again(self) -> float | None:
        """Soon, while each block counts."""
        return self._duty.look_again

    def reconcile(self, cycle: Cycle) -> None:
        """See the duty."""
        self._duty.reconcile(cycle.block, cycle.head, cycle.provider)
        bond = Amounts(collateral=self._duty.bond_to_come)
        self._capacity.put((self.name, "bond"), Hold(Kind.OWED, bond, by=self.name))

    def measure(self) -> None:
        """The proof in this epoch."""
        self._metrics.set(self._duty.report)

    def offer(self) -> dict[str, Any]:
        """What is proven."""
        return {"proof": self._duty.report.to_json()}
