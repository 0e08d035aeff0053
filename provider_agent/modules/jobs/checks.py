# SPDX-License-Identifier: Apache-2.0
"""Start-up checks of jobs: what they run on, and what contains them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from provider_agent.core.trial import Caution, StartCheck, Trial
from provider_agent.errors import RunnerError, SettingsError
from provider_agent.modules.jobs.containment import make_runner
from teraproof.contracts.jobs import JobsContract
from teraproof.contracts.token import TokenContract


class JobChecks:
    """See the module. `place` is the address of the Jobs contract."""

    def __init__(self, trial: Trial, place: str) -> None:
        self._trial, self._place, self._settings = trial, place, trial.settings

    def all(self) -> Sequence[StartCheck]:
        """In the order in which later ones need earlier ones."""
        return [("market", self.market), ("runtimes", self.runtimes), ("sandbox", self.sandbox)]

    def market(self) -> str:
        """Whether the contract is there, and what it pays in."""
        jobs = self._trial.contract("chain.jobs", self._place, JobsContract)
        found, wanted = jobs.staking("latest"), self._settings.chain.staking
        if int(found, 16) != int(wanted, 16):
            raise SettingsError(f"chain.jobs works with staking {found}, not with chain.staking")
        token = TokenContract(self._trial.reachable(), jobs.payment_token("latest"))
        return f"jobs are paid in {token.symbol('latest')} ({token.address})"

    def runtimes(self) -> str:
        """Whether what is offered is there."""
        runtimes = self._settings.runner.runtimes
        if not runtimes:
            raise Caution("none offered: set runner.runtimes, or no job can be taken")
        for name, directory in runtimes.items():
            if not (Path(directory) / "bin" / "python").exists():
                raise SettingsError(
                    f"{name}: {directory} is not a Python environment (it has no bin/python)"
                )
        return ", ".join(sorted(runtimes))

    def sandbox(self) -> str:
        """Whether a trial run is contained."""
        if not self._settings.agent.data_dir.is_dir():
            raise RunnerError("needs the data directory")
        runner = make_runner(self._settings)
        line = runner.check()
        if self._settings.runner.sandbox == "none" or not runner.containment.holds:
            raise Caution(line)
        return line
