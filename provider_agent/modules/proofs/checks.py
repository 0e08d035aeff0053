# SPDX-License-Identifier: Apache-2.0
"""Start-up checks of the proofs: the contract, the device, the bond."""

from __future__ import annotations

from collections.abc import Sequence

from provider_agent import devices
from provider_agent.core.trial import Caution, Skipped, StartCheck, Trial
from provider_agent.errors import SettingsError
from provider_agent.modules.proofs.epochs import EpochView, unfit
from provider_agent.modules.proofs.prover import measure
from provider_agent.modules.proofs.settings import BenchmarkSettings
from teraproof.amounts import show_rate, show_tpf
from teraproof.contracts.benchmark import BenchmarkContract
from teraproof.contracts.staking import StakingContract
from teraproof.epochs import rules_of
from teraproof.errors import counted
from teraproof.pog.schedule import Rules


class ProofChecks:
    """See the module. `place` is the address of the Benchmark contract."""

    def __init__(self, trial: Trial, place: str) -> None:
        self._trial, self._place, self._settings = trial, place, trial.settings
        self._rules: Rules | None = None  # once the contract has answered

    def all(self) -> Sequence[StartCheck]:
        """In the order in which later ones need earlier ones."""
        return [("benchmark", self.benchmark), ("prover", self.prover), ("bond", self.bond)]

    def benchmark(self) -> str:
        """Whether the contract is there, and what it asks for."""
        benchmark = self._contract()
        staking = StakingContract(self._trial.reachable(), self._settings.chain.staking).address
        if benchmark.staking("latest") != staking:
            raise SettingsError(
                f"chain.benchmark works with staking {benchmark.staking('latest')}, not with "
                "chain.staking"
            )
        self._rules = rules = rules_of(benchmark, "latest")
        shape = rules.shape
        return (
            f"{shape.n} x {shape.depth} x {shape.n}, window {rules.window} s with a chance of "
            f"{rules.chance_ppm / 10**4:g} % every {rules.slot} s, {rules.spacing} s apart at "
            f"least, {counted(rules.samples, 'sample')}"
        )

    def prover(self) -> str:
        """Whether the device computes, and how fast."""
        settings, rules = self._settings.section(BenchmarkSettings), self._rules
        device, rate = measure(settings.device, self._settings.agent.lock_dir)
        gpus = any(found.kind == "cuda" for found in devices.inventory())
        if gpus and not settings.device.removeprefix("torch:").startswith("cuda"):
            raise Caution(f'{device}; there is a GPU: set benchmark.device = "cuda"')
        if rate is None:
            raise Caution(device)
        line = f"{device}, about {show_rate(round(rate))}"
        if rules is None:
            return line
        rounds = int(rate * rules.window / rules.shape.operations)
        line = f"{line}: {counted(rounds, 'round')} in a window"
        if rounds < settings.min_rounds:
            raise Caution(f"{line}; fewer than benchmark.min_rounds, so nothing is committed")
        return line

    def bond(self) -> str:
        """Whether the stake bears the bond of a proof."""
        self._trial.operator()
        if self._rules is None:
            raise Skipped.without("benchmark")
        head = self._trial.reachable().head()
        provider = self._trial.provider(head)
        tpf = f"{show_tpf(self._rules.bond)} a proof"
        facts = EpochView(self._contract()).facts(head, head, provider.owner)
        reason = unfit(facts, self._rules, provider)
        if reason:
            raise Caution(f"{tpf}: {reason}")
        return f"{tpf}, locked or free"

    def _contract(self) -> BenchmarkContract:
        return self._trial.contract("chain.benchmark", self._place, BenchmarkContract)
