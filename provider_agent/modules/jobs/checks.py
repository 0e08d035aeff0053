# SPDX-License-Identifier: Apache-2.0
"""Start-up checks of jobs: what they run on, and what contains them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from ipaddress import ip_network
from pathlib import Path

from provider_agent.core.capacity import memory_there
from provider_agent.core.fleet import Fleet
from provider_agent.core.runner import make_runner
from provider_agent.core.trial import Caution, Skipped, StartCheck, Trial
from provider_agent.errors import SettingsError
from provider_agent.modules.jobs.settings import JobsSettings
from provider_agent.runners import disk
from provider_agent.runners.base import MIB
from provider_agent.runners.containment import of_this_machine
from teraproof.contracts.jobs import JobsContract
from teraproof.contracts.token import TokenContract
from teraproof.errors import LocalError, counted
from teraproof.storage.reach import Reach
from teraproof.storage.uris import parse

_LOST = "a dispute is lost without them: set another one, or take jobs.accept_judged out"


class JobChecks:
    """See the module. `place` is the address of the Jobs contract."""

    def __init__(self, trial: Trial, place: str) -> None:
        self._trial, self._place, self._settings = trial, place, trial.settings

    def all(self) -> Sequence[StartCheck]:
        """In the order in which later ones need earlier ones."""
        judged = self._settings.section(JobsSettings).accept_judged
        jurors: list[StartCheck] = [("jurors", self.jurors)] if judged else []
        gpus: list[StartCheck] = [("gpus", self.gpus)] if self._settings.runner.gpus else []
        return [
            ("market", self.market),
            ("runtimes", self.runtimes),
            ("machine", self.machine),
            ("sandbox", self.sandbox),
            *gpus,
            *jurors,
        ]

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

    def machine(self) -> str:
        """Whether this machine has what the settings promise to jobs."""
        runner, slots = self._settings.runner, self._settings.agent.slots
        cpus = len(os.sched_getaffinity(0))
        if runner.cpus > cpus:
            raise SettingsError(
                f"runner.cpus is {runner.cpus}, and this machine has {counted(cpus, 'processor')}"
            )
        there = max(0, memory_there() // MIB - runner.memory_reserve_mb)
        wanted = runner.memory_mb * slots
        if of_this_machine(runner.sandbox).disk == disk.MEMORY:
            wanted += runner.disk_mb * slots  # files of jobs are in memory here
        if wanted > there:
            raise SettingsError(
                f"{counted(slots, 'slot')} of runner.memory_mb (and disk_mb, where files are in "
                f"memory) need {wanted} MiB, and this machine has {there} MiB for jobs"
            )
        line = f"{counted(cpus, 'processor')}, {there} MiB of memory for jobs"
        place = self._settings.agent.data_dir
        if not place.is_dir():
            return line
        free = shutil.disk_usage(place).free // MIB - runner.disk_reserve_mb
        if free <= 0:
            raise SettingsError(
                f"the disk of {place} has no room for any job beyond runner.disk_reserve_mb; "
                "make room"
            )
        # No reason not to start: what runs may hold it, and a job that does not fit is not taken.
        if runner.disk_mb * slots > free:
            raise Caution(
                f"{line}; {counted(slots, 'slot')} of runner.disk_mb need "
                f"{runner.disk_mb * slots} MiB, and {free} MiB are free now"
            )
        return line

    def sandbox(self) -> str:
        """Whether a trial run is contained."""
        if not self._settings.agent.data_dir.is_dir():
            raise Skipped.without("data")
        runner = make_runner(self._settings)
        line = runner.check()
        if self._settings.runner.sandbox == "none" or not runner.containment.holds:
            raise Caution(line)
        return line

    def jurors(self) -> str:
        """Whether jurors would ask for evidence where this agent is."""
        url = self._settings.api.public_url
        networks = map(ip_network, self._settings.agent.private_networks)
        reach, place = Reach.of_strangers(networks, plain=True), parse(url)
        try:
            reach.check(place)
            known = reach.admits_elsewhere(place.host)
        except LocalError as error:
            raise Caution(f"jurors do not ask at api.public_url: {error}; {_LOST}") from None
        except ValueError:  # a name: it may lead elsewhere from here
            known = place.host != "localhost"
        if not known:
            raise Caution(f"jurors do not ask at {url}, which is not public; {_LOST}")
        return f"they find evidence at {url}"

    def gpus(self) -> str:
        """Whether a program in the sandbox can use each GPU."""
        runner, fleet = make_runner(self._settings), Fleet(0)
        failed = []
        if not fleet.usable:
            raise Skipped.without("devices")
        for device in fleet.usable:
            reason = runner.probe(device)
            if reason:
                failed.append(f"{device.name} {device.uuid}: {reason}")
        if failed:
            raise Caution(
                f"{'; '.join(failed)}; a job there fails, and then the GPU goes off the offer"
            )
        return f"{counted(len(fleet.usable), 'GPU')} can be used in the sandbox"
