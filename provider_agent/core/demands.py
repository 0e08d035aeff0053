# SPDX-License-Identifier: Apache-2.0
"""What a run of a specification takes of this machine, and whether it may: by the settings of the
runner, for whoever runs it and for whatever reason.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from provider_agent.core.capacity import Amounts
from provider_agent.core.settings import RunnerSettings
from provider_agent.errors import RunnerError
from provider_agent.runners import disk, outputs, probe
from provider_agent.runners.base import MIB, Limits, RunRequest
from teraproof.errors import Refused
from teraproof.protocol.errors import Code
from teraproof.protocol.jobspec import PRINTED_MB, PROCESSES, JobSpec

# As many files as ext4 has room for in so much space: one for 16 KiB, and some more.
_ENTRIES, _ENTRIES_A_MB, _MOST_ENTRIES = 1_024, 64, 200_000
_TABLES = 4 * MIB  # names of the outputs
_OWN_FILES = 64  # of a run and of its result


class Demands:
    """See the module. `gpus` is how many GPUs there are, `disk_kind` what runs write to (see
    `runners.disk`).
    """

    def __init__(
        self,
        runner: RunnerSettings,
        gpus: Callable[[], int],
        disk_kind: str = disk.DIRECTORY,
    ) -> None:
        self._runner, self._gpus, self._disk_kind = runner, gpus, disk_kind

    def entries(self, spec: JobSpec) -> int:
        """How many files and directories a job may make: a disk has room for a number of them."""
        return min(_MOST_ENTRIES, _ENTRIES + _ENTRIES_A_MB * spec.resources.disk_mb)

    def limits(self, spec: JobSpec, seconds: int) -> Limits:
        """What a run of the specification may use when it has `seconds`."""
        wanted = spec.resources
        return Limits(
            timeout_seconds=seconds,
            cpus=wanted.cpus,
            memory_bytes=wanted.memory_mb * MIB,
            disk_bytes=wanted.disk_mb * MIB,
            output_bytes=(PRINTED_MB if spec.deterministic else self._runner.output_mb) * MIB,
            pids=PROCESSES if spec.deterministic else self._runner.pids,
            inodes=self.entries(spec),
        )

    def busy_seconds(self, spec: JobSpec) -> int:
        """How long a job may hold a slot: its timeout, copying and hashing around it, collecting
        whatever it has made, and trying its GPUs if it fails.
        """
        moved = 2 * spec.input_bytes() + 2 * spec.resources.disk_mb * MIB
        after = outputs.most_seconds(self.entries(spec))
        after += probe.MOST_SECONDS if spec.resources.gpus else 0
        return spec.timeout_seconds + -(-moved // (self._runner.disk_mb_per_second * MIB)) + after

    def needs(self, spec: JobSpec, collateral: int = 0) -> Amounts:
        """All that a job takes from the ledger, with so much TPF wei of collateral."""
        wanted = spec.resources
        # Each input on its own, and the directories that it may lie in.
        inputs = [size for entry in spec.inputs for size in (entry.size, 0)]
        limits = self.limits(spec, spec.timeout_seconds)
        run = disk.taken(self._disk_kind, limits, inputs)
        result, kept = self.result_bytes(spec), self.result_files(spec)
        return Amounts(
            slots=1,
            devices=wanted.gpus,
            memory=run.memory,
            cpu=1_000 * wanted.cpus,
            disk=run.disk + result + _TABLES,
            inodes=run.inodes + kept + _OWN_FILES,
            collateral=collateral,
            gas=1,
        )

    def result_bytes(self, spec: JobSpec) -> int:
        """The most that a result can have: the outputs, which may hold the inputs, and the log."""
        limits = self.limits(spec, spec.timeout_seconds)
        return spec.input_bytes() + limits.disk_bytes + limits.output_bytes

    def result_files(self, spec: JobSpec) -> int:
        """The most files that a result can have, with those under which they are collected."""
        return 2 * min(self.entries(spec), outputs.MAX_FILES)

    def refuse(self, spec: JobSpec, most_seconds: int) -> Refused | None:
        """Why this machine cannot run a specification, or not for so long; None when it can."""
        runner, wanted = self._runner, spec.resources
        if spec.runtime not in runner.runtimes:
            offered = sorted(runner.runtimes)
            return Refused(
                Code.RUNTIME_NOT_OFFERED,
                f"runtime {spec.runtime} is not offered here (offered: "
                f"{', '.join(offered) or 'none'})",
                offered=offered,
            )
        if spec.network:
            return Refused(
                Code.NETWORK_NOT_OFFERED, "jobs with network access are not offered here"
            )
        for name, asked, most in (
            ("cpus", wanted.cpus, runner.cpus),
            ("memory_mb", wanted.memory_mb, runner.memory_mb),
            ("disk_mb", wanted.disk_mb, runner.disk_mb),
            ("gpus", wanted.gpus, min(runner.gpus, self._gpus())),
            ("timeout_seconds", spec.timeout_seconds, most_seconds),
            ("input_mb", -(-spec.input_bytes() // MIB), runner.input_mb),
            ("pids", PROCESSES if spec.deterministic else 0, runner.pids),
        ):
            if asked > most:
                return Refused(
                    Code.LIMIT_EXCEEDED,
                    f"{name} {asked} is above this provider's {most}",
                    field=name,
                    limit=most,
                )
        return self._refuse_request(spec)

    def _refuse_request(self, spec: JobSpec) -> Refused | None:
        """What the runner would refuse must be refused before anything is promised."""
        try:
            RunRequest(
                run_id="trial",
                command=spec.command,
                limits=self.limits(spec, spec.timeout_seconds),
                env=dict(spec.env),
                inputs={entry.path: Path("trial") for entry in spec.inputs},
                outputs=spec.outputs,
            )
        except RunnerError as error:
            return Refused(Code.NOT_RUNNABLE, str(error))
        return None
