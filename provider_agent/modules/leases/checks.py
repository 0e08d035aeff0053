# SPDX-License-Identifier: Apache-2.0
"""Start-up checks of leases: what is for rent, and what contains it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from provider_agent.core.fleet import Fleet
from provider_agent.core.trial import Caution, StartCheck, Trial
from provider_agent.errors import SettingsError
from provider_agent.modules.leases.engine import (
    is_fleet,
    make_fleet_runner,
    make_lease_runner,
)
from provider_agent.modules.leases.settings import LeasesSettings
from provider_agent.modules.leases.stock import describe
from teraproof.contracts.leases import LeasesContract
from teraproof.contracts.staking import StakingContract
from teraproof.errors import counted
from teraproof.protocol.terms import address

_HOUR = 3_600


class LeaseChecks:
    """See the module. `place` is the address of the Leases contract."""

    def __init__(self, trial: Trial, place: str) -> None:
        self._trial, self._place = trial, place
        self._wanted = trial.settings.section(LeasesSettings)

    def all(self) -> Sequence[StartCheck]:
        """The checks by their names."""
        return [
            ("leases", self.contract),
            ("rent", self.rent),
            ("engine", self.engine),
        ]

    def contract(self) -> str:
        """The contract is there, belongs to Staking, and bears the promises."""
        leases = self._trial.contract("chain.leases", self._place, LeasesContract)
        staking = self._trial.settings.chain.staking
        if leases.staking("latest") != address("chain.staking", staking):
            raise SettingsError("chain.leases and chain.staking are not of one deployment")
        longest = StakingContract(leases.rpc, staking).max_lock("latest")
        longest -= leases.lock_margin("latest") + self._wanted.ready_seconds
        patience = leases.max_suspension("latest")
        line = f"at {self._place}, terms of up to {min(longest, self._wanted.max_seconds)} s"
        if self._wanted.min_seconds > longest:
            raise SettingsError(
                f"leases.min_seconds is {self._wanted.min_seconds}, and no collateral can be "
                f"locked beyond {longest} s"
            )
        if self._wanted.notice_seconds > patience:
            raise Caution(
                f"{line}; leases.notice_seconds is above {patience}: a lease that cannot be kept "
                "running may cost its collateral before a notice ends"
            )
        return line

    def rent(self) -> str:
        """Something is for rent."""
        if is_fleet(self._trial.settings):
            return self._outbound("what the machines of the fleet have: see engine")
        devices = Fleet(0).usable
        sorts = [describe(one, self._wanted) for one in devices]
        priced = [sort for sort in sorts if sort is not None]
        missing = sorted(
            set(self._wanted.gpu_prices) - {sort.model for sort in priced if sort.model}
        )
        line = f"{counted(len(priced), 'GPU')} of {len(devices)}"
        if missing:
            raise Caution(f"{line}; no GPU here is called {missing[0]}: see leases.gpu_names")
        return self._outbound(line)

    def _outbound(self, line: str) -> str:
        if not self._wanted.outbound:
            raise Caution(f"{line}; leases.outbound is off, and most tenants ask for it")
        return line

    def engine(self) -> str:
        """What contains leases, found by doing it."""
        settings, operator = self._trial.settings, self._trial.operator()
        if not is_fleet(settings):
            return make_lease_runner(settings, operator).check()
        with closing(make_fleet_runner(settings, operator)) as runner:
            line = runner.check()
            machines = runner.machines()
            rooms = [
                f"{one.name} {one.there.cpu / 1000:g} cores, {one.there.memory >> 20} MiB, "
                f"{one.there.disk >> 20} MiB of disk, {counted(len(one.there.devices), 'GPU')}"
                for one in machines
            ]
            line = f"{line}; {'; '.join(rooms)}"
            empty = [one.name for one in machines if not one.there.disk]
            if empty:
                raise Caution(
                    f"{line}; {empty[0]} has no disk for leases: start Ray there with "
                    "--resources '{\"teraproof_disk\": MIB}'"
                )
            if runner.faults:
                raise Caution(f"{line}; not reached: {'; '.join(runner.faults)}")
            return line
