# SPDX-License-Identifier: Apache-2.0
"""What must hold before a machine may sit in juries."""

from __future__ import annotations

from collections.abc import Sequence

from provider_agent.core.trial import Caution, StartCheck, Trial
from provider_agent.errors import SettingsError
from provider_agent.modules.disputes.settings import DisputesSettings
from teraproof.amounts import show_tpf
from teraproof.contracts.disputes import DisputesContract
from teraproof.contracts.jobs import JobsContract
from teraproof.errors import counted
from teraproof.protocol.capability import CPU, Capability, bounds
from teraproof.protocol.terms import ZERO_ADDRESS


class DisputesChecks:
    """See the module."""

    def __init__(self, trial: Trial) -> None:
        self._trial, self._settings = trial, trial.settings

    def all(self) -> Sequence[StartCheck]:
        """The checks by their names."""
        return [("juror", self.juror)]

    def juror(self) -> str:
        """There is a court, and this machine runs what it enlists for, up to the bounds."""
        place = self._settings.chain.jobs
        assert place is not None  # there is no such check without it
        jobs = self._trial.contract("chain.jobs", place, JobsContract)
        court = jobs.court("latest")
        if court == ZERO_ADDRESS:
            raise SettingsError("disputes.seats is set, and Jobs has no court; remove it")
        runner = self._settings.runner
        wanted = {
            Capability.parse(text): seats
            for text, seats in self._settings.section(DisputesSettings).seats.items()
            if seats
        }
        for one in wanted:
            if one.runtime not in runner.runtimes:
                raise SettingsError(
                    f"disputes.seats has {one}, and runner.runtimes has no {one.runtime}"
                )
        seat = DisputesContract(self._trial.reachable(), court).seat("latest")
        most = bounds(0 if all(one.hardware == CPU for one in wanted) else runner.gpus)
        short = [
            f"{name} {there} of {least}"
            for name, there, least in (
                ("cpus", runner.cpus, most.cpus),
                ("memory_mb", runner.memory_mb, most.memory_mb),
                ("disk_mb", runner.disk_mb, most.disk_mb),
                ("input_mb", runner.input_mb, most.input_mb),
            )
            if there < least
        ]
        total = sum(wanted.values())
        line = f"{counted(total, 'seat')}, {show_tpf(total * seat)} of stake"
        if short:
            raise Caution(
                f"{line}; a juror may be asked for more than [runner] gives "
                f"({', '.join(short)}): where it is, this one says WITHHELD and is paid nothing"
            )
        return line
